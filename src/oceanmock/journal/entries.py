"""One exchange of a sandbox, as the journal keeps it and as JSON shows it, and the queries that it is compared with."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from oceanmock.errors import InputError
from oceanmock.masking import MASK, is_secret, mask_body, mask_headers, mask_text
from oceanmock.text import escape_unprintable, exchange_text, format_instant, parse_instant, shorten, suggest

RawHeaders = Sequence[tuple[bytes, bytes]]
Pairs = Sequence[tuple[str, str]]

BODILESS: Final = (204, 304)  # the statuses of responses without a body and its length
MAX_TEXT_LENGTH: Final = 400  # of a text in a message
ENTRY_BYTES: Final = 1000  # of memory for an entry beside its texts: the object, its numbers, its ids
HEADER_BYTES: Final = 130  # of memory for a header beside its characters
MAX_ALIGNED: Final = 100  # characters of two texts together; in longer ones, the order of characters is ignored
MAX_JOURNAL_TEXT: Final = 64 * 2**10  # of a body, and of every other text of an entry
MAX_QUERY_VALUES: Final = 200
MAX_QUERY_TEXT: Final = 1000

Routes = Mapping[str, Mapping[str, Mapping[str, str]]]
"""By API and operation, the names of the path parameters with the ids of a task, dag, node, …"""


@dataclass(slots=True)  # not frozen: that would take four times as long
class Entry:
    """One exchange, which does not change once it is recorded.

    ``number`` counts from 1 in its sandbox and is never reused. ``at`` is an instant of the sandbox's clock, ``wall``
    one of the machine's, ``took`` a real time span, all in nanoseconds. ``operation`` is the operationId, or "".
    ``ids`` are the path parameters by their names in the contract. ``caller`` is the authenticated user, access key,
    root or agent. ``request_body`` is decrypted. ``status`` is None where the connection was cut before a response.
    ``refusal`` is one sentence on why the request was refused. ``fault`` and ``stub`` are names.
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
    stub: str = ""
    request_headers: RawHeaders = ()
    response_headers: RawHeaders = ()

    def masked(self) -> Entry:
        """Return a recorded entry without credentials."""
        return replace(
            self,
            path=mask_text(self.path),
            ids={name: mask_text(id) for name, id in self.ids.items()},
            refusal=mask_text(self.refusal),
            request_headers=encode_headers(masked_headers(self.request_headers)),
            response_headers=encode_headers(masked_headers(self.response_headers)),
            response_body=mask_body(self.response_body),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON: times in RFC 3339, bodies with their kinds "json", "text", "base64" or "none"."""
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
            "request_headers": decode_headers(self.request_headers),
            "request_body": request_body,
            "request_body_kind": request_kind,
            "status": self.status,
            "response_headers": decode_headers(self.response_headers),
            "response_body": response_body,
            "response_body_kind": response_kind,
            "refusal": _clean(self.refusal),
            "fault": _clean(self.fault),
            "stub": _clean(self.stub),
        }

    def __str__(self) -> str:
        return printable(exchange_text(self))


def microseconds_text(instant: int) -> str:
    """Return an instant with six digits of fraction."""
    return format_instant(instant, digits=6, padded=True)


def printable(text: str) -> str:
    """Return a text on one line, shortened, with unprintable characters escaped."""
    return escape_unprintable(shorten(text, MAX_TEXT_LENGTH))


def _clean(text: str) -> str:
    """Return a text in which half surrogate pairs, which UTF-8 cannot encode, are escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def body_value(body: bytes) -> tuple[str, Any]:
    """Return the kind of a body, and its value in JSON."""
    if not body:
        return "none", None
    with contextlib.suppress(ValueError, TypeError):
        value = orjson.loads(body)
        orjson.dumps(value)  # raises TypeError for one too deep
        return "json", value
    try:
        return "text", body.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(body).decode()


def value_count(data: Any) -> int:
    """Return the number of keys and values in JSON."""
    count, waiting = 0, [data]
    while waiting:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict):
            count += len(value)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return count


def has_values(actual: Any, expected: Any) -> bool:
    """Return whether JSON has the members of an expected object, or all items of an expected list. 1 is not true."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            key in actual and has_values(actual[key], value) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return isinstance(actual, list) and len(expected) == len(actual) and all(map(has_values, actual, expected))
    return isinstance(expected, bool) is isinstance(actual, bool) and bool(expected == actual)


def decode_headers(headers: RawHeaders) -> list[tuple[str, str]]:
    """Return the headers as text."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def encode_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return the headers as bytes in Latin-1; other characters in values are escaped."""
    return [(name.encode("latin-1"), value.encode("latin-1", "backslashreplace")) for name, value in headers]


def masked_headers(headers: RawHeaders) -> Iterable[tuple[str, str]]:
    """Return the headers as text without secrets."""
    return mask_headers(decode_headers(headers))


def cut(body: bytes, limit: int) -> bytes:
    """Return the first bytes of a body, in whole characters, and the number of further ones.

    A body within the limit is copied, since orjson allocates more memory than its bytes need.
    """
    if len(body) <= limit:
        return bytes(memoryview(body))
    end = limit
    while end > limit - 3 and end > 0 and body[end] & 0xC0 == 0x80:
        end -= 1
    return body[:end] + b"... (%d more bytes)" % (len(body) - end)


def cut_text(text: str, limit: int) -> str:
    """Return the first characters of a text, and the number of further ones."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text) - limit} more characters)"


def cut_headers(headers: RawHeaders, limit: int) -> tuple[tuple[bytes, bytes], ...]:
    """Return headers whose names and values are cut as ``cut`` does."""
    return tuple((cut(name, limit), cut(value, limit)) for name, value in headers)


def entry_bytes(entry: Entry) -> int:
    """Return an estimate of the memory that an entry takes."""
    texts = (entry.path, entry.query, entry.refusal, entry.request_body, entry.response_body, *entry.ids.values())
    headers = (*entry.request_headers, *entry.response_headers)
    return ENTRY_BYTES + sum(map(len, texts)) + sum([len(name) + len(value) + HEADER_BYTES for name, value in headers])


@dataclass(frozen=True, slots=True)
class ComparedItem:
    """One expected value of a query, and the entry's value."""

    name: str
    expected: str
    actual: str
    holds: bool

    @property
    def distance(self) -> float:
        """Return how different the values are: 0 if they match."""
        if self.holds:
            return 0
        weight = 3 if self.name == "operation" else 1
        return weight * (1 - _similarity(self.expected[:200], self.actual[:200]) / 2)


@lru_cache(maxsize=1024)
def _similarity(one: str, other: str) -> float:
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.ratio() if len(one) + len(other) < MAX_ALIGNED else matcher.quick_ratio()


_NUMBER_START: Final = {"1": 1, "2": 16, "3": 45, "4": 16, "5": 45}
"""Where a generic id's number begins, by its first character (obshell task_dto.go:280-382)."""


def is_id(id: str, expected: str) -> bool:
    """Return whether an id in a path is the expected one, or ends in it as its number."""
    return id != "" and expected in (id, id[_NUMBER_START.get(id[0], len(id)) :])


NO_VALUE: Final = object()  # the value of a member that the body does not have


def compare_values(name: str, expected: Any, actual: Any) -> Iterator[ComparedItem]:
    """Yield an item for each expected value in JSON, named by its dotted path; {} matches any object."""
    members = {} if actual is NO_VALUE else actual
    if isinstance(expected, dict) and expected and isinstance(members, dict):
        for key, value in expected.items():
            yield from compare_values(f"{name}.{key}", value, members.get(key, NO_VALUE))
    elif isinstance(expected, list) and isinstance(actual, list) and 0 < len(expected) == len(actual):
        for index, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from compare_values(f"{name}.{index}", one, other)
    else:
        text = "" if actual is NO_VALUE else json_text(actual)
        yield ComparedItem(name, json_text(expected), text, has_values(actual, expected))


def json_text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a query in Python may have other values than JSON
        return repr(value)


def fits(text: str, pattern: str) -> bool:
    """Return whether a text matches a pattern, in which only ``*`` is special."""
    return fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))


def compare_pairs(key: str, expected: Pairs, actual: Iterable[tuple[str, str]]) -> Iterator[ComparedItem]:
    """Yield an item for each expected parameter or header; one of its values has to match."""
    pairs = [(name.lower() if key == "header" else name, value) for name, value in actual]
    for name, pattern in expected:
        values = [value for other, value in pairs if other == name]
        holds = any(fits(value, pattern) for value in values)
        yield ComparedItem(f"{key}.{name}", pattern, ", ".join(values), holds)


def read_query(value: str | Mapping[str, Any]) -> Pairs:
    """Return the parameters of a query string, or of a mapping."""
    pairs = parse_qsl(value, keep_blank_values=True) if isinstance(value, str) else value.items()
    return [(name, str(text)) for name, text in pairs]


def read_header(value: str | Mapping[str, Any]) -> Pairs:
    """Return the headers of a text, one a line, or of a mapping, with lower-case names."""
    pairs = (line.partition(":")[::2] for line in value.splitlines()) if isinstance(value, str) else value.items()
    return [(name.strip().lower(), str(text).strip()) for name, text in pairs]


_ID_KEYS: Final = ("task", "subtask", "dag", "node", "sub_task")
_COMPARED_KEYS: Final = ("api", "operation", "method", "path", *_ID_KEYS, "status", "caller", "fault", "stub")
_TIME_KEYS: Final = ("since", "until")
_PAIR_KEYS: Final = ("query", "header")


@dataclass(frozen=True, slots=True)
class Query:
    """The values that matching entries have, by the keys of the admin API's contract (openapi/admin.yaml, Query).

    ``path`` is a pattern in which ``*`` is any text, slashes too. ``status`` is a status such as 200, or a class such
    as 4xx. ``query`` and ``header`` map the names of parameters and headers to patterns; secrets are masked before they
    are compared. ``since`` and ``until``, which is excluded, are instants of the sandbox's clock. ``dag``, ``node`` and
    ``sub_task`` are obshell's generic ids, or the number at their end. ``body`` is compared by ``has_values``.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    routes: Routes = field(default_factory=dict)

    @classmethod
    def of(cls, data: Mapping[str, Any], routes: Routes) -> Query:
        """Return the query in a valid mapping; values of None are ignored. Raises InputError."""
        problems = [text for key in data for text in _problems(key, data, routes)]
        if problems:
            raise InputError("\n".join(problems))
        values = {key: value for key, value in data.items() if value is not None}
        return cls(values | {key: read(values[key]) for key, read in _READERS.items() if key in values}, routes)

    def matches(self, entry: Entry) -> bool:
        """Return whether an entry has all values of the query."""
        return all(item.holds for item in self.compare(entry))

    def compare(self, entry: Entry) -> Iterator[ComparedItem]:
        """Yield each expected value with the entry's; those of the body last."""
        values = self.values
        for name in _COMPARED_KEYS:
            if name in values:
                if name in _ID_KEYS:
                    parameters = self.routes.get(entry.api, {}).get(entry.operation, {})
                    actual = entry.ids.get(parameters.get(name, ""), "")
                else:
                    actual = "" if (item := getattr(entry, name)) is None else str(item)
                expected, is_same = str(values[name]), _IS_SAME.get(name, str.__eq__)
                yield ComparedItem(name, expected, actual, is_same(expected, actual))
        for key in _TIME_KEYS:
            if key in values:
                holds = entry.at >= values[key] if key == "since" else entry.at < values[key]
                yield ComparedItem(key, microseconds_text(values[key]), microseconds_text(entry.at), holds)
        if "query" in values:
            yield from compare_pairs("query", values["query"], parse_qsl(entry.query, keep_blank_values=True))
        if "header" in values:
            yield from compare_pairs("header", values["header"], masked_headers(entry.request_headers))
        if "body" in values:
            kind, body = body_value(entry.request_body)
            if kind in ("text", "base64"):
                yield ComparedItem("body", "JSON", f"not JSON: {body}", holds=False)
            yield from compare_values("body", values["body"], body if kind == "json" else NO_VALUE)

    def __str__(self) -> str:
        values = self.values
        parts = [f"{name} {values[name]}" for name in _COMPARED_KEYS if name in values and name != "operation"]
        parts += [f"{name} {microseconds_text(values[name])}" for name in _TIME_KEYS if name in values]
        for key in _PAIR_KEYS:
            parts += [f"{key} {name}: {shown_value(name, text)}" for name, text in values.get(key, ())]
        if "body" in values:
            parts.append(f"body {mask_text(json_text(values['body']))}")
        subject = values.get("operation", "a request") or "no operation"
        return printable(f"{subject} with {', '.join(parts)}" if parts else subject)


_IS_SAME: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "method": lambda expected, actual: expected.upper() == actual.upper(),
    "path": lambda expected, actual: fits(actual, expected),
    "status": lambda expected, actual: expected.lower() in (actual, f"{actual[:1]}xx"),
    **dict.fromkeys(_ID_KEYS[2:], lambda expected, actual: is_id(actual, expected)),
}
_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(_TIME_KEYS, parse_instant),
    "query": read_query,
    "header": read_header,
}


def _problems(key: str, data: Mapping[str, Any], routes: Routes) -> Iterator[str]:
    """Yield what is wrong with a value that is valid by the contract of the admin API."""
    value = data[key]
    if key == "body":
        if value_count(value) > MAX_QUERY_VALUES or len(json_text(value)) > MAX_JOURNAL_TEXT:
            limits = f"{MAX_QUERY_VALUES} keys and values in {MAX_JOURNAL_TEXT // 2**10} KiB"
            yield f"`body` has more than can be compared: {limits}"
    elif key in _PAIR_KEYS:
        try:
            pairs = _READERS[key](value)
        except ValueError:
            pairs = []
        texts = [text for pair in pairs for text in pair]
        if not pairs or "" in dict(pairs):
            form = "`a=1&b=*`" if key == "query" else "`Name: value`, one a line"
            yield f"`{key}` is {shorten(repr(value), 200)}: give names and values as {form}, or as an object"
        elif len(texts) > MAX_QUERY_VALUES or max(map(len, texts)) > MAX_QUERY_TEXT:
            yield f"`{key}` has more than {MAX_QUERY_VALUES} texts, or one longer than {MAX_QUERY_TEXT:,} characters"
    elif isinstance(value, str) and len(value) > MAX_QUERY_TEXT:
        yield f"`{key}` is longer than {MAX_QUERY_TEXT:,} characters"
    elif key in _TIME_KEYS:
        try:
            parse_instant(value)
        except ValueError as error:
            yield f"`{key}`: {error}"
    elif key == "operation" and value:
        api = data.get("api")
        existing = [id for name, ids in routes.items() if name == api or api not in routes for id in ids]
        if value not in existing:
            subject = f"{api} does not have" if api in routes else "neither API has"
            yield f"`operation` is {value!r}, which {subject}\n  {suggest(value, existing)}"


def shown_value(name: str, value: str) -> str:
    """Return a value for a message, masked if it is a secret."""
    return f'"{MASK}"' if is_secret(name, value) else mask_text(value)
