"""A recorded request to obshell, built again: its headers and its body.

obshell_client seals them with a server's public key. What a recording's ``how`` calls noise, any or
another is chosen here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import obshell_client as client

OB: Final = "X-OCS-Header"
AGENT: Final = "X-OCS-Agent-Header"
NEVER: Final = "9999999999"
KEYS: Final = client.AES_KEY + client.AES_IV
RETRY: Final = b'{"operator": "RETRY"}'
SEALED_RETRY: Final = client.sealed_body(RETRY)

Build = Callable[[str, str], client.Sent]
"""From a public key and a target to what is sent."""


def request_of(file: str, label: str, request: Mapping[str, Any], *, public_key: str, now_s: int) -> client.Sent:
    """What was sent with one recorded request, ``now_s`` seconds after the epoch."""
    if file == "auth.json":
        return AUTH[label](public_key, request["target"])
    if request.get("how", {}).get("auth") == "none":
        return client.Sent()
    if file == "password.json":
        return _with_password(label, request, public_key, now_s)
    return _sealed(public_key, {OB: {"uri": request["target"]}}, body_of(request))


def body_of(request: Mapping[str, Any]) -> bytes:
    """The body as it was before it was encrypted: a text as it is, anything else as JSON."""
    body = request.get("body")
    if body is None:
        return b""
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def _sealed(public_key: str, said: Mapping[str, Mapping[str, Any]], body: bytes) -> client.Sent:
    headers = {
        name: client.sealed_header(public_key, **{"auth": "", "ts": NEVER, "keys": KEYS} | dict(each))
        for name, each in said.items()
    }
    return client.Sent(headers, client.sealed_body(body) if body else b"")


# --- password.json: ten credentials, two headers, four worlds -------------------------------------

CASES: Final[Mapping[str, dict[str, str]]] = {
    "wrong password": {"auth": "wrong"},
    "empty password": {"auth": ""},
    "expired": {"ts": "1"},
    "ts text": {"ts": "abc"},
    "ts empty": {"ts": ""},
    "wrong password and expired": {"auth": "wrong", "ts": "1"},
    "wrong uri and wrong password": {"auth": "wrong", "uri": "/x"},
}
"""What is not right; "right password" and "far future" are."""
BOTH_HEADERS: Final = "right X-OCS-Header, wrong X-OCS-Agent-Header"


def _with_password(label: str, request: Mapping[str, Any], public_key: str, now_s: int) -> client.Sent:
    how = request.get("how", {})
    case = how.get("case", "")
    is_agents = label.startswith(("agent password", "obproxy"))
    right = {"uri": request["target"], "auth": "agent-secret" if is_agents else "ob-secret"}
    changed = dict(CASES.get(case, {}))
    if case == "expires now":
        changed["ts"] = how.get("ts", str(now_s))
    said = {how.get("header", OB): right | changed}
    if case == BOTH_HEADERS:
        said = {OB: right, AGENT: right | CASES["wrong password"]}
    return _sealed(public_key, said, body_of(request))


# --- auth.json: every way to send a header or a body wrongly --------------------------------------


def _raw(value: str) -> Build:
    return lambda key, target: client.Sent({OB: value})


def _text(plain: bytes) -> Build:
    return lambda key, target: client.Sent({OB: client.sealed(key, plain)})


def _header(name: str = OB, *, body: bytes = b"", also: Any = (), **changed: Any) -> Build:
    """A header that is right but for what is changed, further headers, and a body as it is sent."""

    def build(key: str, target: str) -> client.Sent:
        said = {"auth": "", "ts": NEVER, "uri": target, "keys": KEYS} | changed
        return client.Sent({name: client.sealed_header(key, **said), **dict(also)}, body)

    return build


def _capitalised(key: str, target: str) -> client.Sent:
    said = {"Auth": "", "Ts": NEVER, "Uri": target, "Keys": None}
    return client.Sent({OB: client.sealed_header(key, **said)})


AUTH: Final[Mapping[str, Build]] = {
    "no header": lambda key, target: client.Sent(),
    "empty header": _raw(""),
    "not base64": _raw("!not base64!"),
    "base64 of noise": _raw(client.base64_text(bytes(range(1, 129)))),
    "base64 too short": _raw(client.base64_text(b"short")),
    "sealed, not json": _text(b"hello"),
    "sealed, json array": _text(b"[]"),
    "sealed, empty object": _text(b"{}"),
    "sealed, ts number": _header(ts=1),
    "sealed, keys not base64": _header(keys="!"),
    "v1 header": lambda key, target: client.Sent({"X-OCS-Auth": client.sealed(key, b"{}")}),
    "uri of another path": _header(uri="/api/v1/task/dag/unfinish"),
    "uri without the query": _header(uri="/api/v1/task/dag/22130706433028869"),
    "any password": _header(auth="any"),
    "expired ts": _header(ts="1"),
    "ts not a number": _header(ts="abc"),
    "go-style keys": _capitalised,
    "agent header": _header(AGENT),
    "plain json body with header": _header(body=RETRY),
    "body key too short": _header(body=SEALED_RETRY, keys=b"12345"),
    "iv too short": _header(body=SEALED_RETRY, keys=KEYS[:20]),
    "no keys": _header(body=SEALED_RETRY, keys=None),
    "ciphertext cut": _header(body=client.base64_text(client.ciphertext(RETRY)[:-1]).encode()),
    "wrong aes key": _header(body=SEALED_RETRY, keys=bytes(16) + client.AES_IV),
    "body without header": lambda key, target: client.Sent({}, RETRY),
    "no body": _header(),
    "trace id echoed": _header(also={"X-OBSHELL-Trace-ID": "my-trace"}),
    "chinese": _header(also={"Accept-Language": "zh-CN"}),
    "chinese bad id": _header(also={"Accept-Language": "zh"}),
}
"""Every exchange of auth.json, by its label."""
