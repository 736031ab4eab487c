"""Who passes an agent and who does not: every recorded request, and what the code says besides.

Each exchange of auth.json and password.json that is about encryption or authentication is built
again by obshell_client and must be refused, or pass, as it was. NOT_REBUILT names the others.
Below, without a request: what clients seal is opened, and what is sealed wrongly raises the one
refusal and nothing else.
"""

from __future__ import annotations

import base64
import importlib
import json
import warnings
from collections import namedtuple
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from Crypto.Cipher import AES, PKCS1_v1_5
from Crypto.PublicKey import RSA
from Crypto.Util.asn1 import DerSequence
from Crypto.Util.Padding import unpad
from hypothesis import given
from hypothesis import strategies as st

import obshell_client as client
from oceanmock.errors import EnvironmentProblem
from oceanmock.obshell.agent import Agent
from oceanmock.obshell.api import Identity
from oceanmock.obshell.auth import (
    OLD_RSA_BITS,
    RSA_BITS,
    Header,
    HeaderName,
    check_access,
    find_header,
    make_private_key,
    open_body,
    open_header,
    read_key,
    seal_body,
    seal_header,
)
from oceanmock.obshell.errors import ObshellError

DATA = Path(__file__).parent / "data" / "obshell"
KEY = read_key(make_private_key())
KEYS = client.AES_KEY + client.AES_IV
RETRY = b'{"operator": "RETRY"}'
NOISE = bytes(range(1, 129))
NOW_S = 1795376453
TARGET = "/api/v1/task/dag/unfinish"

OB: HeaderName = "X-OCS-Header"
AGENT: HeaderName = "X-OCS-Agent-Header"

Build = Callable[[str], client.Sent]
Verdict = tuple[int, int | None, str, str, bool]


def exchanges_of(file: str) -> dict[str, Any]:
    exchanges = json.loads((DATA / file).read_text(encoding="utf-8"))["exchanges"]
    return {each["label"]: each for each in exchanges}


IN_AUTH = exchanges_of("auth.json")
IN_PASSWORD = exchanges_of("password.json")


def judged(agent: Agent, sent: client.Sent, target: str, *, now_s: int = NOW_S) -> Verdict | None:
    """What the agent says to a request, and whether before it had a trace id; None if it passes."""
    chosen = find_header([(name.encode(), text.encode()) for name, text in sent.headers.items()])
    try:
        offered = open_header(KEY, chosen[1], chosen[0]) if chosen else None
        open_body(sent.body, offered.keys if offered else b"") if offered else b""
    except ObshellError as refusal:
        return said_by(refusal)
    is_obproxy_task = target.rpartition("/")[2].startswith(("4", "5"))
    refused = refusal_of(agent, offered, target=target, now_s=now_s, is_obproxy_task=is_obproxy_task)
    return said_by(refused) if refused else None


def refusal_of(agent: Agent, offered: Header | None, **options: Any) -> ObshellError | None:
    try:
        check_access(agent, offered, **options)
    except ObshellError as refusal:
        return refusal
    return None


def said_by(refusal: ObshellError) -> Verdict:
    is_early = refusal.stage != "handler"
    return refusal.status, refusal.code, refusal.err_code or "", refusal.message, is_early


def recorded(exchange: dict[str, Any]) -> Verdict | None:
    """What the server said about a request's security; None when the request got past it."""
    body = exchange["response"]["body"]
    error = body.get("error", {"errCode": "Task.", "message": ""})
    is_early = body["traceId"] == ""
    assert is_early == ("charset" in exchange["response"]["headers"]["content-type"])
    said = (body["status"], error.get("code"), error["errCode"], error["message"], is_early)
    return None if error["errCode"].startswith(("Task.", "Common.Bind")) else said


# --- auth.json: an agent SINGLE without a password ------------------------------------------------


def raw(value: str) -> Build:
    """A header that is sent as it is."""
    return lambda target: client.Sent({"X-OCS-Header": value})


def text(plain: bytes) -> Build:
    """A sealed text that need not be JSON."""
    return lambda target: client.Sent({"X-OCS-Header": client.sealed(KEY.public_key, plain)})


def header(name: str = "X-OCS-Header", *, body: bytes = b"", **changed: Any) -> Build:
    """A sealed header that is right but for what is changed, and a body as it is sent."""

    def build(target: str) -> client.Sent:
        said = {"auth": "", "ts": "9999999999", "uri": target, "keys": KEYS} | changed
        return client.Sent({name: client.sealed_header(KEY.public_key, **said)}, body)

    return build


def capitalised(target: str) -> client.Sent:
    said = {"Auth": "", "Ts": "9999999999", "Uri": target, "Keys": None}
    return client.Sent({"X-OCS-Header": client.sealed_header(KEY.public_key, **said)})


SEALED_RETRY = client.sealed_body(RETRY)

REBUILT: dict[str, Build] = {
    "no header": lambda target: client.Sent(),
    "empty header": raw(""),
    "not base64": raw("!not base64!"),
    "base64 of noise": raw(client.base64_text(NOISE)),
    "base64 too short": raw(client.base64_text(b"short")),
    "sealed, not json": text(b"hello"),
    "sealed, json array": text(b"[]"),
    "sealed, empty object": text(b"{}"),
    "sealed, ts number": header(ts=1),
    "sealed, keys not base64": header(keys="!"),
    "v1 header": lambda target: client.Sent({"X-OCS-Auth": client.sealed(KEY.public_key, b"{}")}),
    "uri of another path": header(uri="/api/v1/task/dag/unfinish"),
    "uri without the query": header(uri="/api/v1/task/dag/22130706433028869"),
    "any password": header(auth="any"),
    "expired ts": header(ts="1"),
    "ts not a number": header(ts="abc"),
    "go-style keys": capitalised,
    "agent header": header("X-OCS-Agent-Header"),
    "plain json body with header": header(body=RETRY),
    "body key too short": header(body=SEALED_RETRY, keys=b"12345"),
    "iv too short": header(body=SEALED_RETRY, keys=KEYS[:20]),
    "no keys": header(body=SEALED_RETRY, keys=None),
    "ciphertext cut": header(body=client.base64_text(client.ciphertext(RETRY)[:-1]).encode()),
    "wrong aes key": header(body=SEALED_RETRY, keys=bytes(16) + client.AES_IV),
    "body without header": lambda target: client.Sent({}, RETRY),
    "no body": header(),
    "trace id echoed": header(),
    "chinese": header(),
    "chinese bad id": header(),
}
"""Every exchange of auth.json. What a recording calls noise, any or another is chosen here."""


def test_every_exchange_of_auth_json_is_built_again() -> None:
    assert list(REBUILT) == list(IN_AUTH)


@pytest.mark.parametrize("label", REBUILT)
def test_a_request_is_refused_or_passes_as_it_was_recorded(label: str) -> None:
    target = IN_AUTH[label]["request"]["target"]

    assert judged(Agent(identity="SINGLE", root_password=None), REBUILT[label](target), target) == recorded(
        IN_AUTH[label]
    )


# --- password.json: ten credentials, two headers, four worlds -------------------------------------

BOTH = Agent(identity="MASTER", root_password="ob-secret", agent_password="agent-secret")

WORLDS = {
    "single": (Agent(identity="SINGLE", root_password="ob-secret"), "ob-secret"),
    "master": (Agent(identity="MASTER", root_password="ob-secret"), "ob-secret"),
    "both passwords": (BOTH, "ob-secret"),
    "agent password": (BOTH, "agent-secret"),
}
"""What the agent is, and the password that its client takes for the right one, in both headers."""

CASES: dict[str, dict[str, Any]] = {
    "right password": {},
    "wrong password": {"auth": "wrong"},
    "empty password": {"auth": ""},
    "expired": {"ts": "1"},
    "expires now": {},
    "far future": {"ts": "9999999999"},
    "ts text": {"ts": "abc"},
    "ts empty": {"ts": ""},
    "wrong password and expired": {"auth": "wrong", "ts": "1"},
    "wrong uri and wrong password": {"auth": "wrong", "uri": "/x"},
}

NOT_REBUILT = {
    "info": "asks for no credentials",
    "info with agent password": "asks for no credentials",
    "join": "brings the agent from one world to the next",
    "join life": "waits for the agent to become MASTER",
    "set agent password": "a route of its own, which set the password and then panicked",
}

LABELS = [
    (f"{world} {header}{case}", world, name, case)
    for world in WORLDS
    for case in CASES
    for header, name in (("", OB), ("agent header, ", AGENT))
]


def second_of(exchange: dict[str, Any]) -> int:
    """The second in which an exchange was answered."""
    stamp = exchange["response"]["body"]["timestamp"]
    return int(datetime.fromisoformat(f"{stamp[:19]}+00:00").timestamp())


def credentials(world: str, case: str) -> dict[str, Any]:
    """What the client said, sealed for both headers; "expires now" was fixed when it was asked."""
    how = IN_PASSWORD[f"{world} {case}"]["request"]["how"]
    right = {"auth": WORLDS[world][1], "ts": how.get("ts", "9999999999"), "uri": TARGET}
    return right | {"keys": KEYS} | CASES[case]


def sealed_for(*names: HeaderName, said: dict[str, Any]) -> client.Sent:
    return client.Sent({name: client.sealed_header(KEY.public_key, **said) for name in names})


def test_every_exchange_of_password_json_is_built_again_or_named() -> None:
    others = [f"{world} {kind}" for world in WORLDS for kind in ("both headers", "replayed twice")]
    built = {label for label, *_ in LABELS} | set(others) | {"obproxy dag"}

    assert built | set(NOT_REBUILT) == set(IN_PASSWORD)


@pytest.mark.parametrize(("label", "world", "name", "case"), LABELS)
def test_credentials_pass_or_are_refused_as_they_were_recorded(
    label: str, world: str, name: HeaderName, case: str
) -> None:
    sent = sealed_for(name, said=credentials(world, case))

    verdict = judged(WORLDS[world][0], sent, TARGET, now_s=second_of(IN_PASSWORD[label]))

    assert verdict == recorded(IN_PASSWORD[label])


@pytest.mark.parametrize("world", WORLDS)
def test_of_two_headers_the_agents_decides(world: str) -> None:
    right = sealed_for(OB, said=credentials(world, "right password"))
    wrong = sealed_for(AGENT, said=credentials(world, "wrong password"))

    verdict = judged(WORLDS[world][0], client.Sent(right.headers | wrong.headers), TARGET)

    assert verdict == recorded(IN_PASSWORD[f"{world} both headers"])


@pytest.mark.parametrize("world", WORLDS)
def test_a_header_may_be_used_again(world: str) -> None:
    sent = sealed_for(OB, said=credentials(world, "right password"))

    verdicts = {judged(WORLDS[world][0], sent, TARGET) for _ in range(2)}

    assert verdicts == {recorded(IN_PASSWORD[f"{world} replayed twice"])}


def test_an_obproxy_dag_is_open_to_the_agents_password() -> None:
    exchange = IN_PASSWORD["obproxy dag"]
    target = exchange["request"]["target"]

    said = credentials("agent password", "right password") | {"uri": target}

    assert judged(BOTH, sealed_for(AGENT, said=said), target) is recorded(exchange) is None


def test_an_obproxy_task_of_a_lone_agent_is_refused_as_it_was_recorded() -> None:
    refused = [
        exchange
        for exchange in exchanges_of("lone.json").values()
        if "WithAgentPassword" in json.dumps(exchange["response"]["body"])
    ]

    verdicts = [
        judged(
            Agent(identity="SINGLE", root_password=None), header()(each["request"]["target"]), each["request"]["target"]
        )
        for each in refused
    ]

    assert len(refused) > 4
    assert verdicts == [recorded(each) for each in refused]


# --- what only the code says (not verified) -------------------------------------------------------

RIGHT_ROOT = Header("ob-secret", "9999999999", TARGET)
RIGHT_AGENT = Header("agent-secret", "9999999999", TARGET, is_for_agent=True)
FORWARDED = Header("ob-secret", "9999999999", TARGET, forward_type=2)
IN_SESSION = Header(uri=TARGET, session_id="s", ts="9999999999")
EMPTY = Header(uri=TARGET)
EMPTY_AGENT = Header(uri=TARGET, is_for_agent=True)


def agent(identity: Identity, *, root: bool = True, own: bool = True) -> Agent:
    passwords = ("ob-secret" if root else None, "agent-secret" if own else None)
    return Agent(identity=identity, root_password=passwords[0], agent_password=passwords[1])


@pytest.mark.parametrize(
    ("identity", "root", "own", "offered", "tail"),
    [
        ("SINGLE", True, True, RIGHT_ROOT, "WithAgentPassword"),
        ("SINGLE", True, True, RIGHT_AGENT, None),
        ("SINGLE", True, True, EMPTY_AGENT, "IncorrectAgentPassword"),
        ("FOLLOWER", True, False, RIGHT_ROOT, None),
        ("FOLLOWER", True, False, EMPTY, "IncorrectOceanbasePassword"),
        ("FOLLOWER", True, False, RIGHT_AGENT, "Request.Forward.Header.NotExist"),
        ("FOLLOWER", True, False, FORWARDED, "IncorrectToken"),
        ("MASTER", True, False, FORWARDED, "IncorrectToken"),
        ("MASTER", False, False, EMPTY, None),
        ("MASTER", False, False, RIGHT_ROOT, "IncorrectOceanbasePassword"),
        ("MASTER", False, False, RIGHT_AGENT, None),
        ("MASTER", False, True, RIGHT_ROOT, "WithAgentPassword"),
        ("CLUSTER AGENT", True, True, RIGHT_ROOT, None),
        ("CLUSTER AGENT", True, True, RIGHT_AGENT, None),
        ("CLUSTER AGENT", True, True, FORWARDED, None),
        ("MASTER", True, True, IN_SESSION, "IncorrectOceanbasePassword"),
        ("TAKE OVER MASTER", True, False, RIGHT_ROOT, None),
        ("SCALING OUT", True, False, EMPTY, "IncorrectOceanbasePassword"),
    ],
)
def test_an_agent_asks_for_what_its_identity_says(
    identity: Identity, root: bool, own: bool, offered: Header, tail: str | None
) -> None:
    refusal = refusal_of(agent(identity, root=root, own=own), offered, target=TARGET, now_s=NOW_S)

    assert (refusal and str(refusal.err_code).removeprefix("Security.Authentication.")) == tail


def test_an_obproxy_task_needs_an_agent_that_has_a_password() -> None:
    refusal = refusal_of(
        Agent(identity="SINGLE", root_password=None), RIGHT_AGENT, target=TARGET, now_s=NOW_S, is_obproxy_task=True
    )

    assert refusal is not None
    assert refusal.message == "Unauthorized: Agent password is not initialized"


def test_a_ts_beyond_what_go_counts_to_is_out_of_range() -> None:
    offered = Header("ob-secret", "9223372036854775808", TARGET)

    refusal = refusal_of(BOTH, offered, target=TARGET, now_s=NOW_S)

    assert refusal is not None
    assert refusal.message == (
        "Unauthorized: Invalid timestamp: 9223372036854775808, err: "
        'strconv.ParseInt: parsing "9223372036854775808": value out of range'
    )


@given(st.text(), st.text(), st.text() | st.just(TARGET), st.booleans())
def test_nothing_but_the_password_passes(auth: str, ts: str, uri: str, is_agents: bool) -> None:
    offered = Header(auth + "x", ts, uri, is_for_agent=is_agents)

    assert refusal_of(BOTH, offered, target=TARGET, now_s=NOW_S) is not None


# --- what is sealed, and what is sealed wrongly ---------------------------------------------------


OTHER_KEY = read_key(make_private_key())
BLOCK_BYTES = RSA_BITS // 8
DECRYPTION_ERROR = "Decrypt http header failed: crypto/rsa: decryption error"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def header_refusal(value: str) -> ObshellError:
    with pytest.raises(ObshellError) as refused:
        open_header(KEY, value)
    return refused.value


def body_refusal(body: bytes, keys: bytes = KEYS) -> ObshellError:
    with pytest.raises(ObshellError) as refused:
        open_body(body, keys)
    return refused.value


def sealed_request(body: dict[str, Any]) -> SimpleNamespace:
    """A request that the vendor's own, unmodified Python SDK sealed with the password ``pw``."""
    with warnings.catch_warnings(action="ignore"):  # its source has invalid escape sequences
        password = importlib.import_module("obshell.auth.password")
    method = password.PasswordAuthMethodV2("pw", None, 60)
    method.pk, method.check_identity = KEY.public_key, True
    request = SimpleNamespace(
        url="http://127.0.0.1:2886/api/v1/task/dag/22130706433028869?show_details=true",
        server="127.0.0.1:2886",
        protocol_options=None,
        task_type="ob",
        original_data=None,
        data=body,
        headers={},
    )
    method.auth(request)
    return request


# --- what is opened -------------------------------------------------------------------------------


def test_what_the_vendors_sdk_seals_is_opened() -> None:
    request = sealed_request({"operator": "RETRY"})

    header = open_header(KEY, request.headers["X-OCS-Header"])
    body = open_body(request.data.encode(), header.keys)

    assert header.auth == "pw"
    assert header.ts.isdecimal()
    assert header.uri == "/api/v1/task/dag/22130706433028869?show_details=true"
    assert header.keys == request.aes_keys
    assert json.loads(body) == {"operator": "RETRY"}


def test_a_header_of_the_go_sdk_without_a_body_is_opened() -> None:
    value = client.sealed_header(KEY.public_key, Auth="pw", Ts="1", Uri="/x", Keys=None)

    assert open_header(KEY, value) == Header(auth="pw", ts="1", uri="/x", keys=b"")


def test_a_header_in_blocks_as_long_as_the_modulus_allows_is_opened() -> None:
    """The server's own senders cut after 117 bytes, not after 53 (rsa.go:30-53)."""
    said = json.dumps({"Auth": "p" * 300, "Uri": "/x"}).encode()

    value = client.sealed(KEY.public_key, said, chunk_size=BLOCK_BYTES - 11)

    assert open_header(KEY, value) == Header(auth="p" * 300, uri="/x")


def test_every_field_of_a_header_is_read_and_an_unknown_one_is_not() -> None:
    value = client.sealed_header(
        KEY.public_key,
        session_id="s",
        Token="t",
        ssotoken="o",
        Sha256="h",
        ForwardType=2,
        ForwardAgent={"ip": "127.0.0.1", "port": 2887},
        keys=b"k",
        more=[1, {"a": None}],
    )

    assert open_header(KEY, value) == Header(session_id="s", forward_type=2, keys=b"k")


def test_the_last_of_a_field_said_twice_is_read() -> None:
    value = client.sealed(KEY.public_key, b'{"uri": "/a", "URI": "/b"}')

    assert open_header(KEY, value).uri == "/b"


def test_a_header_that_is_null_says_nothing() -> None:
    assert open_header(KEY, client.sealed(KEY.public_key, b"null")) == Header()


@given(texts, texts, texts, st.binary(max_size=40))
def test_any_header_comes_back_as_it_was_sealed(auth: str, ts: str, uri: str, keys: bytes) -> None:
    value = client.sealed_header(KEY.public_key, auth=auth, ts=ts, uri=uri, keys=keys)

    assert open_header(KEY, value) == Header(auth=auth, ts=ts, uri=uri, keys=keys)


@given(st.binary(min_size=0, max_size=200), st.binary(min_size=32, max_size=32))
def test_any_body_comes_back_as_it_was_sealed(body: bytes, keys: bytes) -> None:
    sent = client.sealed_body(body, key=keys[:16], iv=keys[16:])

    assert open_body(sent, keys) == body


def test_no_body_is_none_whatever_the_keys_are() -> None:
    assert open_body(b"", b"") == b""


def test_a_body_is_read_up_to_the_fault_in_its_base64() -> None:
    assert open_body(client.sealed_body(b"{}") + b"!", KEYS) == b"{}"


def test_padding_is_cut_off_by_its_last_byte_alone() -> None:
    sent = base64.b64encode(client.encrypted(b"{}" + b"x" * 29 + b"\x1e"))

    assert open_body(sent, KEYS) == b"{}"


# --- what the mock's own client seals -------------------------------------------------------------


@cache
def private_key(bits: int) -> RSA.RsaKey:
    return RSA.generate(bits)


def opened(private: RSA.RsaKey, header: str) -> Any:
    """Return the content of a security header, opened with pycryptodome."""
    size, sealed = private.size_in_bytes(), base64.b64decode(header)
    blocks = [sealed[at : at + size] for at in range(0, len(sealed), size)]
    cipher = PKCS1_v1_5.new(private)
    return json.loads(b"".join(cipher.decrypt(block, b"") for block in blocks))


@pytest.mark.parametrize("bits", [1024, 2048])
@pytest.mark.parametrize("length", [0, 1, 52, 53, 117, 118, 1000])
def test_a_sealed_header_holds_what_was_sealed(bits: int, length: int) -> None:
    private = private_key(bits)
    public_key = base64.b64encode(DerSequence([private.n, private.e]).encode()).decode()

    header = seal_header(public_key, {"auth": "p" * length, "keys": b"\0\xff"})

    assert opened(private, header) == {"auth": "p" * length, "keys": "AP8="}


@pytest.mark.parametrize("body", [b"a", b"x" * 15, b"x" * 16, "ü密".encode()])
def test_a_sealed_body_holds_the_body(body: bytes) -> None:
    sealed = base64.b64decode(seal_body(body, KEYS))

    assert unpad(AES.new(client.AES_KEY, AES.MODE_CBC, client.AES_IV).decrypt(sealed), 16) == body


def test_no_body_stays_no_body() -> None:
    assert seal_body(b"", KEYS) == b""


@pytest.mark.parametrize("text", ["", "???", "bm9pc2U=", "ü"])
def test_a_text_that_is_no_key_is_reported(text: str) -> None:
    with pytest.raises(EnvironmentProblem, match="is no public key of an obshell"):
        seal_header(text, {})


# --- what is refused ------------------------------------------------------------------------------


def test_a_header_sealed_with_another_key_is_no_header() -> None:
    sealed = [client.sealed_header(OTHER_KEY.public_key, uri="/x" * length) for length in range(40)]

    refusals = {(r.stage, r.message) for r in map(header_refusal, sealed)}

    assert refusals == {("header", DECRYPTION_ERROR)}


@pytest.mark.parametrize("damaged", range(5))
def test_one_damaged_block_spoils_the_header(damaged: int) -> None:
    """Noise inside a string is still JSON if it is short, or has no quote and no control byte."""
    sealed = base64.b64decode(client.sealed_header(KEY.public_key, auth="a" * 200, uri="/x"))
    place = damaged * BLOCK_BYTES + 100

    said = {
        header_refusal(client.base64_text(sealed[:place] + bytes([byte]) + sealed[place + 1 :])).message
        for byte in set(range(0, 100, 3)) - {sealed[place]}
    }

    assert said == {DECRYPTION_ERROR}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "unexpected end of JSON input"),
        (b'{"ts":', "unexpected end of JSON input"),
        (b'{"ts"', "unexpected end of JSON input"),
        (b'{"ts', "unexpected end of JSON input"),
        (b"{'ts'", "invalid character '\\'' looking for beginning of object key string"),
        (b'{"ts" "1"}', "invalid character '\"' after object key"),
        (b'{"ts":"1" 2}', "invalid character '2' after object key:value pair"),
        (b'{"keys":[1 2]}', "invalid character '2' after array element"),
        (b"{} \xc3\xa9", "invalid character '\xc3' after top-level value"),
        (b'{"ts":"\n"}', "invalid character '\\n' in string literal"),
        (b'{"ts":"\\q"}', "invalid character 'q' in string escape code"),
        (b'{"ts":"\\u12g4"}', "invalid character 'g' in \\u hexadecimal character escape"),
        (b'{"ts":nil}', "invalid character 'i' in literal null (expecting 'u')"),
        (b'{"ts":-}', "invalid character '}' in numeric literal"),
        (b'{"ts":1.}', "invalid character '}' after decimal point in numeric literal"),
        (b'{"ts":1e+}', "invalid character '}' in exponent of numeric literal"),
        (b'{"ts":NaN}', "invalid character 'N' looking for beginning of value"),
        (b'{"ts":1.5.2}', "invalid character '.' after object key:value pair"),
        (b'{"ts":"\\', "invalid character ' ' in string escape code"),
        (b'{"ts":tru "id"}', "invalid character ' ' in literal true (expecting 'e')"),
        (b"7", "json: cannot unmarshal number into Go value of type secure.HttpHeader"),
        (b'"7"', "json: cannot unmarshal string into Go value of type secure.HttpHeader"),
        (b'{"AUTH":true}', "json: cannot unmarshal bool into Go struct field HttpHeader.Auth of type string"),
        (
            b'{"session_id":{}, "ts":1}',
            "json: cannot unmarshal object into Go struct field HttpHeader.session_id of type string",
        ),
        (b'{"keys":1}', "json: cannot unmarshal number into Go struct field HttpHeader.Keys of type []uint8"),
        (
            b'{"ForwardType":1.5}',
            "json: cannot unmarshal number 1.5 into Go struct field HttpHeader.ForwardType of type int",
        ),
        (b'{"keys":"QQ"}', "illegal base64 data at input byte 0"),
        (b'{"keys":"QQ=!"}', "illegal base64 data at input byte 2"),
        (b'{"keys":"QQ==QQ=="}', "illegal base64 data at input byte 4"),
    ],
)
def test_a_header_that_go_would_not_read_is_refused_in_its_words(said: bytes, why: str) -> None:
    refusal = header_refusal(client.sealed(KEY.public_key, said))

    assert refusal.message == f"Decrypt http header failed: {why}"
    assert (refusal.stage, refusal.status, refusal.code) == ("header", 401, 1)


@pytest.mark.parametrize("said", [b"[" * 20_000, b'{"a":' * 5_000])
def test_a_header_nested_deeper_than_anybody_would_is_refused(said: bytes) -> None:
    refusal = header_refusal(client.sealed(KEY.public_key, said, chunk_size=BLOCK_BYTES - 11))

    assert refusal.err_code == "Security.Authentication.Header.DecryptFailed"


OLD_KEY = read_key(make_private_key(OLD_RSA_BITS))


def test_a_header_for_a_key_of_512_bits_has_blocks_of_64_bytes() -> None:
    fields: dict[str, Any] = {"auth": "pw", "ts": "1", "uri": "/x?y=" + "z" * 100, "keys": KEYS}

    values = client.sealed_header(OLD_KEY.public_key, **fields), seal_header(OLD_KEY.public_key, fields)

    length = len(json.dumps(fields, default=client.base64_text))
    assert [len(base64.b64decode(value)) for value in values] == [64 * -(-length // 53)] * 2
    assert {open_header(OLD_KEY, value) for value in values} == {Header(**fields)}


@pytest.mark.parametrize("blocks", [1, 32])
@pytest.mark.parametrize("spoiled", ["noise", "another key"])
def test_a_wrong_block_for_a_key_of_512_bits_is_refused(blocks: int, spoiled: str) -> None:
    block = base64.b64decode(client.sealed(OLD_KEY.public_key, b"{" + b" " * 30))
    other = base64.b64decode(client.sealed(KEY.public_key, b"}"))
    last = {"noise": NOISE[:64], "another key": other[:64]}[spoiled]

    with pytest.raises(ObshellError) as refused:
        open_header(OLD_KEY, client.base64_text(block * (blocks - 1) + last))

    assert refused.value.message == DECRYPTION_ERROR


@pytest.mark.parametrize(("blocks", "is_read"), [(32, True), (33, False)])
def test_a_header_for_a_key_of_512_bits_has_at_most_32_blocks(blocks: int, is_read: bool) -> None:
    value = client.sealed(OLD_KEY.public_key, b'{"uri":"/x"}' + b" " * (53 * blocks - 12))

    with nullcontext() if is_read else pytest.raises(ObshellError, match="more than 32 RSA blocks"):
        assert open_header(OLD_KEY, value).uri == "/x"


ONE_LETTER = base64.b64decode(client.sealed(KEY.public_key, b"x"))
CountedKey = namedtuple("CountedKey", "decrypt, key_size")


@pytest.mark.parametrize(
    ("blocks", "message", "most"),
    [
        (ONE_LETTER * 4000, "it has more than 32 RSA blocks, which is oceanmock's limit", 0),
        (ONE_LETTER * 33, "it has more than 32 RSA blocks, which is oceanmock's limit", 0),
        (ONE_LETTER * 32, "invalid character 'x' looking for beginning of value", 64),
        (bytes(32 * BLOCK_BYTES), "crypto/rsa: decryption error", 64),
        (ONE_LETTER * 31 + b"\0" + b"\1" * (BLOCK_BYTES - 1), "crypto/rsa: decryption error", 64),
    ],
)
def test_a_header_costs_at_most_two_private_key_operations_for_each_of_32_blocks(
    blocks: bytes, message: str, most: int
) -> None:
    operations = list[bytes]()

    def counted(key: Any) -> Any:
        def decrypt(block: bytes, padding: Any) -> bytes:
            operations.append(block)
            return bytes(key.decrypt(block, padding))

        return CountedKey(decrypt, RSA_BITS)

    key = replace(KEY, private=counted(KEY.private), equivalent=counted(KEY.equivalent))
    with pytest.raises(ObshellError) as refused:
        open_header(key, base64.b64encode(blocks).decode())

    assert refused.value.message == f"Decrypt http header failed: {message}"
    assert len(operations) <= most


@given(st.text(max_size=60) | st.text("AQ=/+\r\n", max_size=400))
def test_any_text_but_a_sealed_one_is_refused(value: str) -> None:
    assert header_refusal(value).err_code == "Security.Authentication.Header.DecryptFailed"


@given(st.binary(max_size=120))
def test_any_sealed_text_is_read_or_refused(said: bytes) -> None:
    assert outcome_of_header(said) in ("read", "header")


@given(st.binary(max_size=64) | st.binary(max_size=64).map(base64.b64encode), st.binary(max_size=40))
def test_any_body_is_read_or_refused(body: bytes, keys: bytes) -> None:
    assert outcome_of_body(body, keys) in ("read", "body", "panic")


def test_a_wrong_key_that_leaves_a_last_byte_too_large_is_a_panic() -> None:
    refusal = body_refusal(client.sealed_body(b"{}"), bytes(16) + client.AES_IV)

    assert (refusal.stage, refusal.status, refusal.code) == ("panic", 500, None)


def outcome_of_header(said: bytes) -> str:
    try:
        open_header(KEY, client.sealed(KEY.public_key, said))
    except ObshellError as refusal:
        return refusal.stage
    return "read"


def outcome_of_body(body: bytes, keys: bytes) -> str:
    try:
        open_body(body, keys)
    except ObshellError as refusal:
        return refusal.stage
    return "read"
