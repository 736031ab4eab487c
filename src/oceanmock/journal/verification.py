"""Verify how many requests match, and show the nearest one where too few do.

A near miss is a table of what was expected beside the entry, in the form of WireMock's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from oceanmock.errors import AuthorError
from oceanmock.journal.entries import Entry, microseconds_text, printable
from oceanmock.journal.query import ComparedItem, Query, compare

CELL_WIDTH: Final = 58
MAX_LISTED_ENTRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the expected number of entries matches; ``found`` are the entries that do."""

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


# --- the near miss --------------------------------------------------------------------------------


def _near_miss(query: Query, entries: Sequence[Entry]) -> Iterator[str]:
    """Yield the query beside the nearest entry; of equally near ones, beside the latest."""
    by_distance = {
        (sum(item.distance for item in compare(query, entry)), -entry.number): entry
        for entry in entries
    }
    entry = by_distance[min(by_distance)]
    yield from _table(list(compare(query, entry)), f"Nearest: entry {entry.number}")
    yield f"Entry {entry.number}, at {microseconds_text(entry.at)}: {entry}."
    if entry.refusal:
        yield f"It was refused: {printable(entry.refusal)}"


def _table(items: Sequence[ComparedItem], heading: str) -> list[str]:
    left = [_cell(item.name, item.expected) for item in items]
    right = [_cell(item.name, item.actual) for item in items]
    width = max(len(text) for cell in [*left, ["| Expected"]] for text in cell)
    other = max(len(text) for cell in [*right, [heading]] for text in cell)
    rule = "-" * (width + other + 5)
    gap = " " * width + " |"
    rows = [
        f"{one:<{width}} | {two:<{other}}{mark}".rstrip()
        for item, expected, actual in zip(items, left, right, strict=True)
        for one, two, mark in _row(item, expected, actual)
    ]
    head = f"{'| Expected':<{width}} | {heading:<{other}} |"
    return [rule, head, rule, gap, *rows, gap, rule]


def _row(
    item: ComparedItem, expected: Sequence[str], actual: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield the lines of two cells side by side; the first line marks a difference."""
    for line in range(max(len(expected), len(actual))):
        mark = "" if item.holds or line else f"  <<<<< {printable(item.name)} does not match"
        yield "".join(expected[line : line + 1]), "".join(actual[line : line + 1]), mark


def _cell(name: str, value: str) -> list[str]:
    text = printable(f"{name}: {value or '(none)'}")
    return [text[start : start + CELL_WIDTH] for start in range(0, len(text), CELL_WIDTH)]
