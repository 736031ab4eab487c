"""One exchange of a sandbox, as the journal keeps it and as JSON shows it, without credentials.

What is secret is stated here alone. A text without secrets is returned as it is, at the cost of one search.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from oceanmock.text import escape_unprintable, format_instant, shorten

RawHeaders = Sequence[tuple[bytes, bytes]]
TextHeaders = tuple[tuple[str, str], ...]

MAX_TEXT_LENGTH: Final = 400
"""The number of characters of one text that a message shows."""
MASK: Final = "***"
SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token", "x-oceanmock-token"}
)
SECRET_WORDS: Final = (b"passw", b"pwd", b"secret", b"token", b"credential")
_ANY_WORD: Final = b"|".join(SECRET_WORDS)
_SECRET_KEY: Final = re.compile(_ANY_WORD.decode(), re.IGNORECASE)
_MEMBER: Final = re.compile(
    rb'("(?=[^"]*(?:%b))[^"]*+"\s*+:\s*+)("(?:[^"\\]++|\\.)*+"?|[\[{].*|[^\s,\]}]++)' % _ANY_WORD,
    re.IGNORECASE | re.DOTALL,
)
_PAIR: Final = re.compile(rb"((?<![\w.-])(?=[\w.-]*(?:%b))[\w.-]++=)[^&\s]++" % _ANY_WORD, re.IGNORECASE)


@dataclass(slots=True)  # frozen, each would take four times as long to make
class Entry:
    """One exchange, never changed. ``number`` counts from 1 in its sandbox and is never used again.

    ``at`` is the instant of the sandbox's clock, ``wall`` that of the machine's, and ``took`` a span of the machine's,
    all in nanoseconds. ``operation`` is the operationId, empty where the request matches none. ``ids`` are the path's
    variables, by the contract's names. ``caller`` is the authenticated user, access key, root or agent.
    ``request_body`` is decrypted. ``status`` is None where the connection was cut before a response. ``refusal`` says
    in one sentence why the request was refused, and ``fault`` names the fault that was injected.
    """

    number: int
    at: int
    wall: int
    took: int
    api: str
    operation: str
    method: str
    path: str
    query: str
    ids: Mapping[str, str]
    caller: str
    request_body: bytes
    status: int | None
    response_body: bytes
    refusal: str = ""
    fault: str = ""
    request_headers: TextHeaders = ()
    response_headers: TextHeaders = ()

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON: times in RFC 3339, each body with its kind.

        A body is its JSON ("json"), else its text ("text"), else Base64 ("base64"); None ("none").
        """
        request_kind, request_body = body_value(self.request_body)
        response_kind, response_body = body_value(self.response_body)
        return {
            "number": self.number,
            "at": microseconds_text(self.at),
            "wall": microseconds_text(self.wall),
            "took_ms": self.took / 1e6,
            "api": self.api,
            "operation": self.operation,
            "method": _clean(self.method),
            "path": _clean(self.path),
            "query": _clean(self.query),
            "ids": {name: _clean(value) for name, value in self.ids.items()},
            "caller": _clean(self.caller),
            "request_headers": [[_clean(k), _clean(v)] for k, v in self.request_headers],
            "request_body": request_body,
            "request_body_kind": request_kind,
            "status": self.status,
            "response_headers": [[_clean(k), _clean(v)] for k, v in self.response_headers],
            "response_body": response_body,
            "response_body_kind": response_kind,
            "refusal": _clean(self.refusal),
            "fault": _clean(self.fault),
        }

    def __str__(self) -> str:
        target = f"{self.path}?{self.query}" if self.query else self.path
        by = f" by {self.caller}" if self.caller else ""
        answered = "cut off" if self.status is None else f"answered {self.status}"
        fault = f", fault injected: {self.fault}" if self.fault else ""
        return printable(f"{self.method} {target}{by}, {answered}{fault}")


def microseconds_text(instant: int) -> str:
    """Return an instant with six digits of fraction."""
    return format_instant(instant, digits=6, padded=True)


def printable(text: str) -> str:
    """Return a text on one line, shortened, with unprintable characters spelled out."""
    return escape_unprintable(shorten(text, MAX_TEXT_LENGTH))


def _clean(text: str) -> str:
    """Return a text without what UTF-8 cannot encode: half a surrogate pair."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def body_value(body: bytes) -> tuple[str, Any]:
    """Return the kind of a body, and the value that JSON shows."""
    if not body:
        return "none", None
    try:
        return "json", parse_body(body)
    except ValueError:
        pass
    try:
        return "text", body.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(body).decode()


def parse_body(body: bytes) -> Any:
    """Return a body's JSON. Raises ValueError for none, and for one too deep to serialize."""
    value = orjson.loads(body)
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise ValueError(str(error)) from None
    return value


def decode_headers(headers: RawHeaders) -> TextHeaders:
    """Return the headers as text."""
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


def mask_headers(headers: TextHeaders) -> TextHeaders:
    """Return the headers without credentials; the scheme of credentials stays."""
    masked = []
    for name, value in headers:
        if _is_secret(name):
            scheme, space, _ = value.partition(" ")
            has_scheme = space and scheme.lower() in ("basic", "bearer", "digest", "ocp-access-key-hmacsha1")
            masked.append((name, f"{scheme} {MASK}" if has_scheme else MASK))
        else:
            masked.append((name, value))
    return tuple(masked)


@lru_cache(maxsize=128)
def _is_secret(header: str) -> bool:
    name = header.lower()
    return name in SECRET_HEADERS or name.startswith("x-ocs-")


def mask_query(query: str) -> str:
    """Return the query without the values of keys that name a secret."""
    data = query.encode("utf-8", "surrogatepass")
    if not _may_have_secret(data):
        return query
    return _PAIR.sub(rb"\1***", data).decode("utf-8", "surrogatepass")


def mask_body(body: bytes) -> bytes:
    """Return the body without the values of keys that name a secret; itself if it has none."""
    if not _may_have_secret(body):
        return body
    try:
        value = parse_body(body)
    except ValueError:
        return _PAIR.sub(rb"\1***", _MEMBER.sub(rb'\1"***"', body))
    pending, is_masked = [value], False
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            for key, member in item.items():
                if _SECRET_KEY.search(key) and member not in (None, "") and not isinstance(member, bool):
                    item[key], is_masked = MASK, True  # that a secret is missing, or set, is none
            pending.extend(item.values())
    return bytes(memoryview(orjson.dumps(value))) if is_masked else body


def _may_have_secret(text: bytes) -> bool:
    lower = text.lower()
    return any([word in lower for word in SECRET_WORDS])  # noqa: C419 (a generator takes longer)
