"""Select entries of the journal, and verify how many there are.

A query is compared with an entry item by item. Where too few match, the nearest entry is shown
beside what was expected, in the form of WireMock's near misses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import zip_longest
from re import IGNORECASE
from re import compile as regex
from typing import Any, Final, Self

import orjson

from oceanmock.errors import AuthorError
from oceanmock.journal.entries import Entry, body_value, microseconds_text, printable
from oceanmock.text import suggest

Routes = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Each API's operations, and of each the path parameter of every kind: task, dag, node, …"""
CELL_WIDTH: Final = 58
MAX_LISTED_ENTRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Query:
    """The values that matching entries have; None matches any.

    ``path`` is a pattern in which ``*`` is any text, slashes too. ``status`` is a status such as
    200, or a class such as 4xx. ``dag``, ``node`` and ``sub_task`` are obshell's generic ids, or
    the bare number at their end. ``body`` is JSON that the request's body has: of an object these
    members, of a list all the items. ``routes`` tell which parameter has the id of a kind.
    """

    api: str | None = None
    operation: str | None = None
    method: str | None = None
    path: str | None = None
    status: int | str | None = None
    caller: str | None = None
    fault: str | None = None
    task: int | str | None = None
    subtask: int | str | None = None
    dag: int | str | None = None
    node: int | str | None = None
    sub_task: int | str | None = None
    body: Any = None
    routes: Routes = field(default_factory=dict, repr=False, compare=False, kw_only=True)

    @classmethod
    def of(cls, data: Mapping[str, Any], routes: Routes) -> Query:
        """Return the query of a mapping. Raises AuthorError with everything wrong in it."""
        problems = [text for key in data for text in _problems(key, data, routes)]
        if problems:
            raise AuthorError("\n".join(problems))
        return cls(**data, routes=routes)

    def matches(self, entry: Entry) -> bool:
        """Return whether the entry has all the values."""
        return all(item.holds for item in compare(self, entry))

    def __str__(self) -> str:
        values = {name: getattr(self, name) for name in [*_ACTUAL, "body"] if name != "operation"}
        parts = [
            f"{name} {_json_text(value) if name == 'body' else value}"
            for name, value in values.items()
            if value is not None
        ]
        subject = "a request" if self.operation is None else self.operation or "no operation"
        return printable(f"{subject} with {', '.join(parts)}" if parts else subject)


QUERY_KEYS: Final = tuple(key.name for key in fields(Query) if key.name != "routes")
_ID_KEYS: Final = ("task", "subtask", "dag", "node", "sub_task")
_STATUS: Final = regex(r"[1-5](?:[0-9]{2}|xx)", IGNORECASE)


def _problems(key: str, data: Mapping[str, Any], routes: Routes) -> Iterator[str]:
    value = data[key]
    if key not in QUERY_KEYS:
        yield f"`{key}` is no key of a query of the journal\n  {suggest(key, QUERY_KEYS)}"
    elif value is None or key == "body":
        return
    elif key == "status":
        if isinstance(value, bool) or not _STATUS.fullmatch(str(value)):
            yield f"`status` is {value!r}, which is no status such as 200, and no class such as 4xx"
    elif key in _ID_KEYS:
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield f"`{key}` is {value!r}, which is no id"
    elif not isinstance(value, str):
        yield f"`{key}` is {value!r}, which is no text"
    elif key == "api" and value not in routes:
        yield f"`api` is {value!r}, which oceanmock does not know\n  {suggest(value, list(routes))}"
    elif key == "operation" and value:
        api = data.get("api")
        yield from _operation_problems(value, api if api in routes else None, routes=routes)


def _operation_problems(operation: str, api: str | None, *, routes: Routes) -> Iterator[str]:
    existing = [name for element in ([api] if api else routes) for name in routes[element]]
    if operation not in existing:
        subject = f"{api} does not know" if api else "neither API knows"
        yield f"`operation` is {operation!r}, which {subject}\n  {suggest(operation, existing)}"


# --- a query and an entry -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ComparedItem:
    """One expected value, and the entry's in its place."""

    name: str
    expected: str
    actual: str
    holds: bool

    @property
    def distance(self) -> float:
        """Return how far the entry is from the query: 0 if it matches."""
        if self.holds:
            return 0
        weight = 3 if self.name == "operation" else 1
        return weight * (1 - _similarity(self.expected[:200], self.actual[:200]) / 2)


@lru_cache(maxsize=1024)
def _similarity(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def compare(query: Query, entry: Entry) -> Iterator[ComparedItem]:
    """Yield each expected value beside the entry's; the body last, since it costs most."""
    for name, actual_of in _ACTUAL.items():
        value = getattr(query, name)
        if value is not None:
            expected, actual = str(value), actual_of(entry, query.routes)
            is_same = _IS_SAME.get(name, str.__eq__)
            yield ComparedItem(name, expected, actual, is_same(expected, actual))
    if query.body is not None:
        yield from _compare_bodies(query.body, entry.request_body)


def _id_of(kind: str) -> Callable[[Entry, Routes], str]:
    def actual(entry: Entry, routes: Routes) -> str:
        parameters = routes.get(entry.api, {}).get(entry.operation, {})
        return entry.ids.get(parameters.get(kind, ""), "")

    return actual


_ACTUAL: Final[Mapping[str, Callable[[Entry, Routes], str]]] = {
    "api": lambda entry, _: entry.api,
    "operation": lambda entry, _: entry.operation,
    "method": lambda entry, _: entry.method,
    "path": lambda entry, _: entry.path,
    **{kind: _id_of(kind) for kind in _ID_KEYS},
    "status": lambda entry, _: "" if entry.status is None else str(entry.status),
    "caller": lambda entry, _: entry.caller,
    "fault": lambda entry, _: entry.fault,
}
_NUMBER_START: Final = {"1": 1, "2": 16, "3": 45, "4": 16, "5": 45}
"""Where a generic id's number begins, by its first character (obshell task_dto.go:280-382)."""


def is_id(id: str, expected: str) -> bool:
    """Return whether an id of a path is the expected one: as a whole, or the number at its end."""
    return id != "" and expected in (id, id[_NUMBER_START.get(id[0], len(id)) :])


def _is_status(expected: str, actual: str) -> bool:
    return actual == expected or (expected[1:].lower() == "xx" and actual[:1] == expected[0])


_IS_SAME: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "method": lambda expected, actual: expected.upper() == actual.upper(),
    "path": lambda expected, actual: fnmatchcase(actual, expected),
    "status": _is_status,
    **dict.fromkeys(("dag", "node", "sub_task"), lambda expected, actual: is_id(actual, expected)),
}


NO_VALUE: Final = object()
"""The value of a member that the body does not have."""


def _compare_bodies(expected: Any, body: bytes) -> Iterator[ComparedItem]:
    kind, actual = body_value(body)
    if kind in ("text", "base64"):
        yield ComparedItem("body", "JSON", f"not JSON: {actual}", holds=False)
    yield from _compare_values("body", expected, actual if kind == "json" else NO_VALUE)


def _compare_values(name: str, expected: Any, actual: Any) -> Iterator[ComparedItem]:
    """Yield an item for each expected value, named by its dotted path; {} matches any object."""
    members = {} if actual is NO_VALUE else actual
    is_list = isinstance(expected, list) and isinstance(actual, list)
    if isinstance(expected, dict) and expected and isinstance(members, dict):
        for key, value in expected.items():
            yield from _compare_values(f"{name}.{key}", value, members.get(key, NO_VALUE))
    elif is_list and 0 < len(expected) == len(actual):
        for index, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from _compare_values(f"{name}.{index}", one, other)
    else:
        text = "" if actual is NO_VALUE else _json_text(actual)
        if expected == {}:
            is_same = isinstance(actual, dict)
        else:  # in JSON, true is not 1
            is_same = isinstance(expected, bool) is isinstance(actual, bool) and expected == actual
        yield ComparedItem(name, _json_text(expected), text, bool(is_same))


def _json_text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a query in Python may have what JSON has not
        return repr(value)


# --- verification --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a verification; ``found`` are the matching entries."""

    holds: bool
    found: tuple[Entry, ...]
    message: str


@dataclass(frozen=True, slots=True)
class CallCount:
    """An expected number of entries, from ``least`` to ``most``; None is no limit."""

    least: int
    most: int | None

    @classmethod
    def of(cls, times: int | None, at_least: int | None, at_most: int | None) -> Self:
        """Return the number; without limits, at least one. Raises AuthorError for no number."""
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
        """Return whether a number of entries is within the limits."""
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


def verify_entries(
    entries: Sequence[Entry], query: Query, *, expected: CallCount, dropped: int, recorded: int
) -> Verdict:
    """Return whether the expected number of entries matches, and why not.

    ``dropped`` older entries are not there any more, of ``recorded`` in all.
    """
    found = tuple(entry for entry in entries if query.matches(entry))
    lines = [f"{query}: expected {expected}, found {_times(len(found))}."]
    if dropped:
        lines.append(f"Older entries that were dropped, and are not counted: {dropped}.")
    if expected.allows(len(found)):
        return Verdict(True, found, "\n".join(lines))
    if not recorded:
        lines.append("Nothing has been asked of this sandbox.")
    elif not entries:
        lines.append("Nothing has been asked since the journal was cleared.")
    if found:
        lines += ["", "Found:", *_list(found)]
    numbers = {entry.number for entry in found}
    others = [entry for entry in entries if entry.number not in numbers]
    if others and len(found) < expected.least:
        lines += ["", *_near_miss(query, others)]
    return Verdict(False, found, "\n".join(lines))


def _list(entries: Sequence[Entry]) -> Iterator[str]:
    earlier = len(entries) - MAX_LISTED_ENTRIES
    if earlier > 0:
        yield f"  … and {earlier} before them"
    for entry in entries[-MAX_LISTED_ENTRIES:]:
        yield f"  entry {entry.number}, at {microseconds_text(entry.at)}: {entry}"


def _near_miss(query: Query, entries: Sequence[Entry]) -> Iterator[str]:
    """Yield the query beside the nearest entry; of equally near ones, beside the latest."""
    by_distance = {(sum(item.distance for item in compare(query, entry)), -entry.number): entry for entry in entries}
    entry = by_distance[min(by_distance)]
    yield from _table(list(compare(query, entry)), f"Nearest: entry {entry.number}")
    yield f"Entry {entry.number}, at {microseconds_text(entry.at)}: {entry}."
    if entry.refusal:
        yield f"It was refused: {printable(entry.refusal)}"


def _table(items: Sequence[ComparedItem], heading: str) -> list[str]:
    rows: list[tuple[str, str, str]] = []
    for item in items:
        mark = [] if item.holds else [f"  <<<<< {printable(item.name)} does not match"]
        cells = _cell(item.name, item.expected), _cell(item.name, item.actual)
        rows += zip_longest(*cells, mark, fillvalue="")
    width = max(len("| Expected"), *(len(expected) for expected, _, _ in rows))
    other = max(len(heading), *(len(actual) for _, actual, _ in rows))
    rule = "-" * (width + other + 5)
    gap = " " * width + " |"
    lines = [f"{one:<{width}} | {two:<{other}}{mark}".rstrip() for one, two, mark in rows]
    return [rule, f"{'| Expected':<{width}} | {heading:<{other}} |", rule, gap, *lines, gap, rule]


def _cell(name: str, value: str) -> list[str]:
    text = printable(f"{name}: {value or '(none)'}")
    return [text[start : start + CELL_WIDTH] for start in range(0, len(text), CELL_WIDTH)]
