"""The journal: every exchange of a sandbox, bounded, without secrets; asked, counted, verified.

Recording costs a few microseconds, as every request pays for it: headers, query and request are
masked and bodies are cut there; what may be long, the response, is searched for secrets only when
it is read. An entry's JSON is parsed when somebody asks for it. Memory is flat: the oldest entry
goes when there are too many, or too many bytes.

A verification that does not hold says what was expected beside the nearest thing that came, line
by line, in the form of WireMock's near misses. Pure: it knows no ASGI, and of the APIs no more than
what their contracts call the operations. Times are nanoseconds.
"""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import islice
from threading import Lock
from typing import Any, Final

import orjson

from oceanmock.errors import AuthorError
from oceanmock.openapi import load_spec, operations_of, spec_path
from oceanmock.text import did_you_mean, escape_unprintable, format_instant, shorten, suggest

Headers = tuple[tuple[str, str], ...]

MOST: Final = 1000
MOST_BYTES: Final = 16 * 2**20
MOST_BODY: Final = 64 * 2**10
ENTRY_BYTES: Final = 1000
"""What an entry takes beside its texts: the object, its numbers, its ids."""
TEXT_BYTES: Final = 85
"""What each of a header's two texts takes beside its characters."""
MASK: Final = "***"


# --- an entry -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One exchange. ``number`` counts from 1 in its sandbox and is never used again."""

    number: int
    at: int
    """The instant by the sandbox's clock; ``wall`` is the machine's."""
    wall: int
    took: int
    """How long it took, by the machine's clock."""
    api: str
    operation: str
    """The operationId; empty where no operation was meant."""
    method: str
    path: str
    query: str
    ids: Mapping[str, str]
    """The path's variables, by the names of the contract."""
    caller: str
    """Who asked: a user, an access key, root, agent; empty when nobody knows."""
    request_headers: Headers
    request_body: bytes
    """The body as the API understood it: decrypted."""
    status: int | None
    """None: the connection was cut, and nothing was answered."""
    response_headers: Headers
    response_body: bytes
    refusal: str
    """Why it was refused, in one sentence for a developer."""
    fault: str
    """The name of the fault that struck."""

    def to_json(self) -> dict[str, Any]:
        """The entry as JSON has it: times in RFC 3339, bodies with what kind of value they are.

        A body is its JSON ("json"), else its text ("text"), else Base64 ("base64"); None ("none").
        """
        request_kind, request_body = _body_value(self.request_body)
        response_kind, response_body = _body_value(self.response_body)
        return {
            "number": self.number,
            "at": _micros(self.at),
            "wall": _micros(self.wall),
            "took_ms": self.took / 1e6,
            "api": self.api,
            "operation": self.operation,
            "method": _clean(self.method),
            "path": _clean(self.path),
            "query": _clean(self.query),
            "ids": {name: _clean(value) for name, value in self.ids.items()},
            "caller": _clean(self.caller),
            "request_headers": [[_clean(text) for text in each] for each in self.request_headers],
            "request_body": request_body,
            "request_body_kind": request_kind,
            "status": self.status,
            "response_headers": [[_clean(text) for text in each] for each in self.response_headers],
            "response_body": response_body,
            "response_body_kind": response_kind,
            "refusal": _clean(self.refusal),
            "fault": _clean(self.fault),
        }

    def __str__(self) -> str:
        target = f"{self.path}?{self.query}" if self.query else self.path
        by = f" by {self.caller}" if self.caller else ""
        answered = "cut off" if self.status is None else f"answered {self.status}"
        fault = f", struck by {self.fault}" if self.fault else ""
        return _printable(f"{self.method} {target}{by}, {answered}{fault}")


def _micros(instant: int) -> str:
    return format_instant(instant, digits=6, padded=True)


def _clean(text: str) -> str:
    """The text without what UTF-8 cannot write: half a surrogate pair."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _body_value(body: bytes) -> tuple[str, Any]:
    if not body:
        return "none", None
    try:
        return "json", _parsed(body)
    except ValueError:
        pass
    try:
        return "text", body.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(body).decode()


def _parsed(body: bytes) -> Any:
    """The JSON in a body. Raises ValueError for none, and for one too deep to be written again."""
    value = orjson.loads(body)
    try:
        orjson.dumps(value)
    except TypeError as problem:
        raise ValueError(str(problem)) from None
    return value


# --- what is not kept -----------------------------------------------------------------------------

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


def masked_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """The headers without credentials; of those the scheme stays."""
    return tuple([(n, _masked_value(v)) if _is_secret(n) else (n, v) for n, v in headers])


@lru_cache(maxsize=128)
def _is_secret(header: str) -> bool:
    name = header.lower()
    return name in _SECRET_HEADERS or name.startswith("x-ocs-")


def _masked_value(value: str) -> str:
    """A mask; the scheme of credentials stays."""
    scheme, space, _ = value.partition(" ")
    return f"{scheme} {MASK}" if space and scheme.lower() in _SCHEMES else MASK


def masked_query(query: str) -> str:
    """The query without the values of what is called a password; itself when there is none."""
    said = query.encode("utf-8", "surrogatepass")
    if not _may_hold_secret(said):
        return query
    return _PAIR.sub(rb"\1***", said).decode("utf-8", "surrogatepass")


def masked_body(body: bytes) -> bytes:
    """The body without the values of what is called a password; itself when there is none."""
    if not _may_hold_secret(body):
        return body
    try:
        value = _parsed(body)
    except ValueError:
        return _PAIR.sub(rb"\1***", _MEMBER.sub(rb'\1"***"', body))
    return bytes(memoryview(orjson.dumps(value))) if _mask_members(value) else body


def _may_hold_secret(text: bytes) -> bool:
    lower = text.lower()
    return any([word in lower for word in _WORD_BYTES])  # noqa: C419 (a generator takes longer)


def _mask_members(value: Any) -> bool:
    """Masks, in place, what stands under a secret's key; whether there was anything."""
    waiting, found = [value], False
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting.extend(each)
        elif isinstance(each, dict):
            secrets = [key for key in each if _WORD.search(key) and _is_told(each[key])]
            each.update(dict.fromkeys(secrets, MASK))
            waiting.extend(each.values())
            found = found or bool(secrets)
    return found


def _is_told(value: Any) -> bool:
    """Whether it says anything: that a password is missing, or set, is no secret."""
    return not (value is None or value == "" or isinstance(value, bool))


def _kept(body: bytes, most: int) -> bytes:
    """At most so many bytes of a body, no character halved, and how many more there were.

    A whole body is copied: behind those that orjson has written lies more than they need.
    """
    if len(body) <= most:
        return bytes(memoryview(body))
    end = most
    while end > most - 3 and end > 0 and body[end] & 0xC0 == 0x80:
        end -= 1
    return body[:end] + b"... (%d more bytes)" % (len(body) - end)


# --- a query --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """What entries are wanted: those that have every value given here; None asks for nothing."""

    api: str | None = None
    operation: str | None = None
    method: str | None = None
    path: str | None = None
    """A pattern in which ``*`` is any text, slashes too."""
    status: int | str | None = None
    """A status such as 200, or a class of them such as 4xx."""
    caller: str | None = None
    fault: str | None = None
    task: int | str | None = None
    subtask: int | str | None = None
    dag: int | str | None = None
    """obshell's generic id, or the bare number at its end; so are those of nodes and sub tasks."""
    node: int | str | None = None
    sub_task: int | str | None = None
    body: Any = None
    """JSON that the request's body has: of an object these members, of a list all the items."""

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Query:
        """The query that a mapping says. Raises AuthorError with all that is wrong with it."""
        wrong = [text for key in said for text in _mistakes_of(key, said)]
        if wrong:
            raise AuthorError("\n".join(wrong))
        return cls(**said)

    def matches(self, entry: Entry) -> bool:
        """Whether the entry has all that is asked for."""
        return all(line.holds for line in _compared(self, entry))

    def __str__(self) -> str:
        said = {name: getattr(self, name) for name in [*_GOT, "body"] if name != "operation"}
        parts = [
            f"{name} {_json_text(value) if name == 'body' else value}"
            for name, value in said.items()
            if value is not None
        ]
        what = "a request" if self.operation is None else self.operation or "no operation"
        return _printable(f"{what} with {', '.join(parts)}" if parts else what)


_KEYS: Final = tuple(field.name for field in fields(Query))
_IDS: Final = ("task", "subtask", "dag", "node", "sub_task")
_STATUS: Final = re.compile(r"[1-5](?:[0-9]{2}|xx)", re.IGNORECASE)
_APIS: Final = ("ocp", "obshell")


def _mistakes_of(key: str, said: Mapping[str, Any]) -> Iterator[str]:
    value = said[key]
    if key not in _KEYS:
        yield f"`{key}` is no key of a query of the journal\n  {suggest(key, _KEYS)}"
    elif value is None or key == "body":
        return
    elif key == "status":
        if isinstance(value, bool) or not _STATUS.fullmatch(str(value)):
            yield f"`status` is {value!r}, which is no status such as 200, and no class such as 4xx"
    elif key in _IDS:
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield f"`{key}` is {value!r}, which is no id"
    elif not isinstance(value, str):
        yield f"`{key}` is {value!r}, which is no text"
    elif key == "api" and value not in _APIS:
        yield f"`api` is {value!r}, which oceanmock does not know\n  {suggest(value, _APIS)}"
    elif key == "operation" and value:
        yield from _unknown_operation(value, said.get("api"))


def _unknown_operation(value: str, api: object) -> Iterator[str]:
    apis = [api] if isinstance(api, str) and api in _APIS else _APIS
    known = [name for each in apis for name in _kinds_by_operation(each)]
    if value not in known:
        whom = "neither API knows" if apis is _APIS else f"{api} does not know"
        yield f"`operation` is {value!r}, which {whom}\n  {suggest(value, known)}"


_KIND: Final = re.compile(r"/(dag|node|sub_task)/\{id\}")


@lru_cache(maxsize=len(_APIS))
def _kinds_by_operation(api: str) -> dict[str, str]:
    """What the ``id`` of each operation's path is the id of; empty for one that has none."""
    kinds: dict[str, str] = {}
    for operation in operations_of(load_spec(spec_path(api))):
        found = _KIND.search(operation.path)
        kinds[operation.id] = found[1] if found else ""
    return kinds


# --- a query beside an entry ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    """One thing that was asked for, and what the entry has in its place."""

    name: str
    wanted: str
    got: str
    holds: bool

    @property
    def distance(self) -> float:
        """0 for what holds; a wrong operation is further away than all else."""
        if self.holds:
            return 0
        weight = 3 if self.name == "operation" else 1
        return weight * (1 - _likeness(self.wanted[:200], self.got[:200]) / 2)


@lru_cache(maxsize=1024)
def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def _compared(query: Query, entry: Entry) -> Iterator[_Line]:
    """Each thing that is asked for, beside what the entry has; the body, which is dear, last."""
    for name, got_of in _GOT.items():
        wanted = getattr(query, name)
        if wanted is not None:
            text, got = str(wanted), got_of(entry)
            yield _Line(name, text, got, _SAME.get(name, str.__eq__)(text, got))
    if query.body is not None:
        yield from _compared_bodies(query.body, entry.request_body)


def _id_of(kind: str) -> Callable[[Entry], str]:
    def got(entry: Entry) -> str:
        of_this_kind = "id" in entry.ids and _kinds_by_operation("obshell").get(entry.operation)
        return entry.ids["id"] if of_this_kind == kind else ""

    return got


_GOT: Final[Mapping[str, Callable[[Entry], str]]] = {
    "api": lambda entry: entry.api,
    "operation": lambda entry: entry.operation,
    "method": lambda entry: entry.method,
    "path": lambda entry: entry.path,
    "task": lambda entry: entry.ids.get("taskInstanceId", ""),
    "subtask": lambda entry: entry.ids.get("subtaskInstanceId", ""),
    "dag": _id_of("dag"),
    "node": _id_of("node"),
    "sub_task": _id_of("sub_task"),
    "status": lambda entry: "" if entry.status is None else str(entry.status),
    "caller": lambda entry: entry.caller,
    "fault": lambda entry: entry.fault,
}
_NUMBER_AT: Final = {"1": 1, "2": 16, "3": 45, "4": 16, "5": 45}
"""Where a generic id's number begins, by its first character (obshell task_dto.go:280-382)."""


def is_called(id: str, wanted: str) -> bool:
    """Whether an id of a path is the one wanted: the whole of it, or the number at its end."""
    return id != "" and wanted in (id, id[_NUMBER_AT.get(id[0], len(id)) :])


def _same_status(wanted: str, got: str) -> bool:
    return got == wanted or (wanted[1:].lower() == "xx" and got[:1] == wanted[0])


_SAME: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "method": lambda wanted, got: wanted.upper() == got.upper(),
    "path": lambda wanted, got: fnmatchcase(got, wanted),
    "status": _same_status,
    "dag": lambda wanted, got: is_called(got, wanted),
    "node": lambda wanted, got: is_called(got, wanted),
    "sub_task": lambda wanted, got: is_called(got, wanted),
}


_ABSENT: Final = object()


def _compared_bodies(wanted: Any, body: bytes) -> Iterator[_Line]:
    kind, got = _body_value(body)
    if kind in ("text", "base64"):
        yield _Line("body", "JSON", f"not JSON: {got}", holds=False)
    yield from _compared_values("body", wanted, got if kind == "json" else _ABSENT)


def _compared_values(name: str, wanted: Any, got: Any) -> Iterator[_Line]:
    """A line for each value that is asked for, by the dotted way to it."""
    there = {} if got is _ABSENT else got
    if isinstance(wanted, dict) and wanted and isinstance(there, dict):
        for key, value in wanted.items():
            yield from _compared_values(f"{name}.{key}", value, there.get(key, _ABSENT))
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got) > 0:
        for position, (each, other) in enumerate(zip(wanted, got, strict=True)):
            yield from _compared_values(f"{name}.{position}", each, other)
    else:
        shown = "" if got is _ABSENT else _json_text(got)
        yield _Line(name, _json_text(wanted), shown, _same_value(wanted, got))


def _same_value(wanted: Any, got: Any) -> bool:
    """JSON's equality, in which true is not 1; every object has all that {} asks for."""
    if wanted == {}:
        return isinstance(got, dict)
    return isinstance(wanted, bool) is isinstance(got, bool) and bool(wanted == got)


def _json_text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # whoever wrote the query gave what JSON has no word for
        return repr(value)


# --- the near miss --------------------------------------------------------------------------------

_WIDEST: Final = 58
_LONGEST: Final = 400
_LISTED: Final = 20


def _near_miss(query: Query, entries: Sequence[Entry]) -> list[str]:
    """What was expected beside the entry that comes nearest; of equals, the latest."""
    by_distance = {
        (sum(line.distance for line in _compared(query, entry)), -entry.number): entry
        for entry in entries
    }
    entry = by_distance[min(by_distance)]
    refused = [f"It was refused: {_printable(entry.refusal)}"] if entry.refusal else []
    return [
        *_table(list(_compared(query, entry)), f"Nearest: entry {entry.number}"),
        f"Entry {entry.number}, at {_micros(entry.at)}: {entry}.",
        *refused,
        *_hint(query),
    ]


def _hint(query: Query) -> Iterator[str]:
    """The operation that was meant, perhaps, by one that no contract has."""
    known = [name for api in _APIS for name in _kinds_by_operation(api)]
    if query.operation and query.operation not in known:
        near = did_you_mean(query.operation, known)
        yield f"Neither API knows an operation {query.operation!r}. {near}".rstrip()


def _table(lines: Sequence[_Line], heading: str) -> list[str]:
    left = [_cell(line.name, line.wanted) for line in lines]
    right = [_cell(line.name, line.got) for line in lines]
    width = max(len(text) for cell in [*left, ["| Expected"]] for text in cell)
    other = max(len(text) for cell in [*right, [heading]] for text in cell)
    rule = "-" * (width + other + 5)
    gap = " " * width + " |"
    rows = [
        f"{one:<{width}} | {two:<{other}}{mark}".rstrip()
        for line, wanted, got in zip(lines, left, right, strict=True)
        for one, two, mark in _row(line, wanted, got)
    ]
    head = f"{'| Expected':<{width}} | {heading:<{other}} |"
    return [rule, head, rule, gap, *rows, gap, rule]


def _row(line: _Line, wanted: Sequence[str], got: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """The lines of two cells side by side; the first has the mark where they differ."""
    for at in range(max(len(wanted), len(got))):
        mark = "" if line.holds or at else f"  <<<<< {_printable(line.name)} does not match"
        yield "".join(wanted[at : at + 1]), "".join(got[at : at + 1]), mark


def _cell(name: str, value: str) -> list[str]:
    text = _printable(f"{name}: {value or '(none)'}")
    return [text[at : at + _WIDEST] for at in range(0, len(text), _WIDEST)]


def _printable(text: str) -> str:
    """The text on one line, not too long, with what moves a terminal's cursor spelled out."""
    return escape_unprintable(shorten(text, _LONGEST))


def _listed(entries: Sequence[Entry]) -> list[str]:
    earlier = len(entries) - _LISTED
    more = [f"  … and {earlier} before them"] if earlier > 0 else []
    return more + [
        f"  entry {entry.number}, at {_micros(entry.at)}: {entry}" for entry in entries[-_LISTED:]
    ]


# --- a verification -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether what was expected was asked so often; ``found`` are the entries that match."""

    holds: bool
    found: tuple[Entry, ...]
    message: str


@dataclass(frozen=True, slots=True)
class _Expected:
    """How many entries are expected, from ``least`` to ``most``."""

    least: int
    most: int | None

    @classmethod
    def of(cls, times: int | None, at_least: int | None, at_most: int | None) -> _Expected:
        """Nothing said means at least once. Raises AuthorError for what no number satisfies."""
        if times is not None and (at_least is not None or at_most is not None):
            raise AuthorError("`times` says it all: leave out `at_least` and `at_most`.")
        if times is None and at_most is None:
            at_least = 1 if at_least is None else at_least
        least = times if times is not None else at_least or 0
        most = times if times is not None else at_most
        if least < 0 or (most is not None and most < least):
            raise AuthorError(f"nothing can come at least {least} and at most {most} times.")
        return cls(least, most)

    def allows(self, count: int) -> bool:
        return self.least <= count and (self.most is None or count <= self.most)

    def __str__(self) -> str:
        if self.most is None:
            return f"at least {_times(self.least)}" if self.least else "any number of times"
        if self.least == self.most:
            return _times(self.least)
        if not self.least:
            return f"at most {_times(self.most)}"
        return f"{self.least} to {self.most} times"


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")


# --- the journal ----------------------------------------------------------------------------------


class Journal:
    """The exchanges of one sandbox, oldest first; threads may record and read at once.

    ``dropped`` counts the entries that made room for later ones, since it was last cleared.
    """

    def __init__(
        self, *, most: int = MOST, most_bytes: int = MOST_BYTES, most_body: int = MOST_BODY
    ) -> None:
        """Keeps the last entry whatever its size, of the others as many as the bounds allow."""
        self.dropped = 0
        self._most = most
        self._most_bytes = most_bytes
        self._most_body = most_body
        self._number = 0
        self._bytes = 0
        self._entries: deque[Entry] = deque()
        self._sizes: deque[int] = deque()
        self._lock = Lock()

    def record(  # noqa: PLR0913 (an entry's fields)
        self,
        *,
        at: int,
        wall: int,
        took: int,
        api: str,
        operation: str,
        method: str,
        path: str,
        query: str,
        ids: Mapping[str, str],
        caller: str,
        request_headers: Iterable[tuple[str, str]],
        request_body: bytes,
        status: int | None,
        response_headers: Iterable[tuple[str, str]],
        response_body: bytes,
        refusal: str = "",
        fault: str = "",
    ) -> Entry:
        """Writes an exchange down, and gives it its number.

        Of the entry returned, the response's body is not masked; of the entries read, it is.
        """
        asked = masked_headers(request_headers)
        answered = masked_headers(response_headers)
        if query:
            query = masked_query(query)
        if request_body:
            request_body = masked_body(_kept(request_body, self._most_body))
        response_body = _kept(response_body, self._most_body)
        size = ENTRY_BYTES + len(request_body) + len(response_body)
        size += _size_of_texts(path, query, refusal, asked, answered)
        with self._lock:
            self._number += 1
            entry = Entry(
                self._number,
                at,
                wall,
                took,
                api,
                operation,
                method,
                path,
                query,
                dict(ids),
                caller,
                asked,
                request_body,
                status,
                answered,
                response_body,
                refusal,
                fault,
            )
            self._keep(entry, size)
        return entry

    def _keep(self, entry: Entry, size: int) -> None:
        self._entries.append(entry)
        self._sizes.append(size)
        self._bytes += size
        while (self._bytes > self._most_bytes or len(self._sizes) > self._most) and (
            len(self._sizes) > 1
        ):
            self._entries.popleft()
            self._bytes -= self._sizes.popleft()
            self.dropped += 1

    def entries(
        self, query: Query | None = None, *, after: int = 0, limit: int | None = None
    ) -> list[Entry]:
        """The entries with a number above ``after`` that match, oldest first; ``limit`` of them."""
        found = self._matching(query, after)
        return [_without_secrets(entry) for entry in islice(found, limit)]

    @property
    def last(self) -> int:
        """The number of the newest entry there has been; 0 before the first."""
        return self._number

    def count(self, query: Query | None = None) -> int:
        """How many entries match."""
        if query is None:
            return len(self._entries)
        return sum(1 for _ in self._matching(query, 0))

    def clear(self) -> None:
        """Forgets every entry; the numbers go on from where they are."""
        with self._lock:
            self._entries.clear()
            self._sizes.clear()
            self._bytes = self.dropped = 0

    def verify(
        self,
        query: Query,
        *,
        times: int | None = None,
        at_least: int | None = None,
        at_most: int | None = None,
    ) -> Verdict:
        """Whether so many entries match; without a number, at least one.

        Raises AuthorError for numbers that contradict each other.
        """
        expected = _Expected.of(times, at_least, at_most)
        entries = list(self._matching(None, 0))
        found = tuple(_without_secrets(entry) for entry in entries if query.matches(entry))
        lines = [f"{query}: expected {expected}, found {_times(len(found))}."]
        if self.dropped:
            lines.append(f"Older entries that were dropped, and are not counted: {self.dropped}.")
        holds = expected.allows(len(found))
        if not holds:
            lines += self._explained(query, entries, found, too_few=len(found) < expected.least)
        return Verdict(holds, found, "\n".join(lines))

    def _explained(
        self, query: Query, entries: Sequence[Entry], found: Sequence[Entry], *, too_few: bool
    ) -> Iterator[str]:
        """What came instead: the entries that match, and the nearest that does not."""
        if not self._number:
            yield "Nothing has been asked of this sandbox."
        elif not entries:
            yield "Nothing has been asked since the journal was cleared."
        if found:
            yield from ("", "Found:", *_listed(found))
        numbers = {entry.number for entry in found}
        others = [entry for entry in entries if entry.number not in numbers]
        if others and too_few:
            yield from ("", *_near_miss(query, others))

    def _matching(self, query: Query | None, after: int) -> Iterator[Entry]:
        with self._lock:
            kept = list(self._entries)
        skipped = max(0, after + 1 - kept[0].number) if kept else 0
        for entry in islice(kept, skipped, None):
            if query is None or query.matches(entry):
                yield entry


def _size_of_texts(path: str, query: str, refusal: str, *headers: Headers) -> int:
    """About what the texts of an entry take in memory."""
    size = len(path) + len(query) + len(refusal)
    for each in headers:
        for name, value in each:
            size += len(name) + len(value) + 2 * TEXT_BYTES
    return size


def _without_secrets(entry: Entry) -> Entry:
    body = masked_body(entry.response_body)
    return entry if body is entry.response_body else replace(entry, response_body=body)
