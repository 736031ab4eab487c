"""Mask credentials in headers, queries and bodies; the only place that knows what is secret.

A text without secrets is returned as it is, at the cost of one search.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import orjson

from oceanmock.journal.entries import Headers, parse_body

MASK: Final = "***"

_SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie"}
    | {"x-api-key", "x-auth-token", "x-oceanmock-token"}
)
_SCHEMES: Final = frozenset({"basic", "bearer", "digest", "ocp-access-key-hmacsha1"})
_WORDS: Final = ("passw", "pwd", "secret", "token", "credential")
_WORD_BYTES: Final = tuple(word.encode() for word in _WORDS)
_WORD: Final = re.compile("|".join(_WORDS), re.IGNORECASE)
_ANY_WORD: Final = "|".join(_WORDS).encode()
_MEMBER: Final = re.compile(
    rb'("(?=[^"]*(?:%b))[^"]*+"\s*+:\s*+)("(?:[^"\\]++|\\.)*+"?|[\[{].*|[^\s,\]}]++)' % _ANY_WORD,
    re.IGNORECASE | re.DOTALL,
)
_PAIR: Final = re.compile(
    rb"((?<![\w.-])(?=[\w.-]*(?:%b))[\w.-]++=)[^&\s]++" % _ANY_WORD, re.IGNORECASE
)


def mask_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return the headers without credentials; the scheme of credentials stays."""
    return tuple([(n, _masked_value(v)) if _is_secret(n) else (n, v) for n, v in headers])


@lru_cache(maxsize=128)
def _is_secret(header: str) -> bool:
    name = header.lower()
    return name in _SECRET_HEADERS or name.startswith("x-ocs-")


def _masked_value(value: str) -> str:
    scheme, space, _ = value.partition(" ")
    return f"{scheme} {MASK}" if space and scheme.lower() in _SCHEMES else MASK


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
    return bytes(memoryview(orjson.dumps(value))) if _mask_members(value) else body


def _may_have_secret(text: bytes) -> bool:
    lower = text.lower()
    return any([word in lower for word in _WORD_BYTES])  # noqa: C419 (a generator takes longer)


def _mask_members(value: Any) -> bool:
    """Mask, in place, the values of keys that name a secret; return whether there are any."""
    pending, result = [value], False
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            secrets = [key for key in item if _WORD.search(key) and _is_value(item[key])]
            item.update(dict.fromkeys(secrets, MASK))
            pending.extend(item.values())
            result = result or bool(secrets)
    return result


def _is_value(value: Any) -> bool:
    """Return whether a value can be a secret: that one is missing, or set, is none."""
    return not (value is None or value == "" or isinstance(value, bool))
