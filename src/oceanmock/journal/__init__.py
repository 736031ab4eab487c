"""The journal: every exchange of a sandbox, bounded and without secrets, and the verification of queries.

Recording has to be fast: it masks only the query and the request's body, and cuts bodies. The rest is masked and
parsed when an entry is read. A journal with too many entries or bytes drops the oldest; when all journals of a store
have too many bytes, the largest drops half of its entries. A verification that fails shows the nearest entry, as
WireMock does with near misses. Nothing here depends on ASGI or on one API.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from operator import attrgetter
from threading import Lock
from typing import Any, Final

from oceanmock.errors import InputError
from oceanmock.journal.entries import (
    ENTRY_BYTES,
    MAX_JOURNAL_TEXT,
    Entry,
    Query,
    cut,
    cut_headers,
    cut_text,
    entry_bytes,
    microseconds_text,
    printable,
    shown_value,
)
from oceanmock.masking import mask_body, mask_query

MAX_JOURNAL_ENTRIES: Final = 1000
MAX_JOURNAL_BYTES: Final = 16 * 2**20
MAX_STORE_BYTES: Final = 256 * 2**20  # of all journals of a store
MAX_PAGE_BYTES: Final = 2**19  # of the entries of a page, which become JSON in 20 ms
MAX_COMPARED_ENTRIES: Final = 50  # the last ones, among which the nearest is found
CELL_WIDTH: Final = 58
MAX_LISTED_ENTRIES: Final = 20


@dataclass(slots=True, eq=False)
class JournalSpace:
    """The memory that the journals of one store share, and the lock for every change of them."""

    max_bytes: int = MAX_STORE_BYTES
    bytes: int = 0
    lock: Lock = field(default_factory=Lock)
    journals: set[Journal] = field(default_factory=set)


class Journal:
    """The exchanges of one sandbox, oldest first; threads may record and read at the same time.

    ``last`` is the greatest number that an entry has had, or 0; ``dropped`` counts entries dropped since a clear.
    """

    def __init__(
        self,
        *,
        max_entries: int = MAX_JOURNAL_ENTRIES,
        max_bytes: int = MAX_JOURNAL_BYTES,
        max_text: int = MAX_JOURNAL_TEXT,
        space: JournalSpace | None = None,
    ) -> None:
        """Keep as many entries as the limits allow, and always the last one."""
        self.last = self.dropped = self.bytes = 0
        self._max_entries, self._max_bytes, self._max_text = max_entries, max_bytes, max_text
        self._entries: deque[Entry] = deque()
        self._sizes: deque[int] = deque()
        self._space = JournalSpace() if space is None else space
        self._space.journals.add(self)

    def record(self, entry: Entry) -> None:
        """Mask and cut the texts of an exchange, number it, and keep it."""
        limit = self._max_text
        if entry.query:
            entry.query = mask_query(cut_text(entry.query, limit))
        if entry.request_body:
            entry.request_body = mask_body(cut(entry.request_body, limit))
        entry.response_body = cut(entry.response_body, limit)
        size = entry_bytes(entry)
        if size > limit:
            entry.path, entry.refusal = cut_text(entry.path, limit), cut_text(entry.refusal, limit)
            entry.ids = {name: cut_text(value, limit) for name, value in entry.ids.items()}
            entry.request_headers = cut_headers(entry.request_headers, limit)
            entry.response_headers = cut_headers(entry.response_headers, limit)
            size = entry_bytes(entry)
        self._keep(entry, size)

    def _keep(self, entry: Entry, size: int) -> None:
        """Keep an entry, and number it; a shared journal keeps it in its store."""
        space = self._space
        with space.lock:
            self.last += 1
            entry.number = self.last
            self._entries.append(entry)
            self._sizes.append(size)
            self.bytes += size
            space.bytes += size
            while len(self._sizes) > 1 and (self.bytes > self._max_bytes or len(self._sizes) > self._max_entries):
                self._drop()
            while space.bytes > space.max_bytes:  # the largest journal loses its older half
                largest = max(space.journals, key=attrgetter("bytes"))
                for _ in range((len(largest._sizes) + 1) // 2):
                    largest._drop()

    def _drop(self) -> None:
        self._entries.popleft()
        size = self._sizes.popleft()
        self.bytes -= size
        self._space.bytes -= size
        self.dropped += 1

    def entries(self, query: Query | None = None, *, after: int = 0) -> list[Entry]:
        """Return the matching entries with a number above ``after``, oldest first."""
        return [entry.masked() for entry in self._since(after) if query is None or query.matches(entry)]

    def page(self, query: Query, *, after: int, limit: int) -> tuple[list[Entry], bool]:
        """Return at most ``limit`` such entries, of at most ``MAX_PAGE_BYTES``, and whether there are more."""
        page, size = list[Entry](), 0
        for entry in filter(query.matches, self._since(after)):
            size += entry_bytes(entry) - ENTRY_BYTES
            if page and (size > MAX_PAGE_BYTES or len(page) == limit):
                return page, True
            page.append(entry.masked())
        return page, False

    def count(self) -> int:
        """Return how many entries there are."""
        return len(self._entries)

    def ids(self) -> set[str]:
        """Return the ids in the paths of all requests."""
        return {id for entry in self._since(0) for id in entry.ids.values()}

    def clear(self) -> int:
        """Delete every entry and return their number; further entries are numbered from there on."""
        with self._space.lock:
            count = len(self._entries)
            self._space.bytes -= self.bytes
            self._entries.clear()
            self._sizes.clear()
            self.bytes = self.dropped = 0
        return count

    def close(self) -> None:
        """Delete every entry, and leave the store's memory to the other journals."""
        self.clear()
        self._space.journals.discard(self)
        self._space = JournalSpace()  # for a response that is still being sent

    def verify(
        self, query: Query, *, times: int | None = None, at_least: int | None = None, at_most: int | None = None
    ) -> dict[str, Any]:
        """Return the verdict on the number of matching entries as JSON; by default there must be at least one.

        Raises InputError for numbers that contradict each other.
        """
        if times is not None:
            if at_least is not None or at_most is not None:
                raise InputError("`times` says it all: leave out `at_least` and `at_most`.")
            at_least = at_most = times
        least = int(at_most is None) if at_least is None else at_least
        if least < 0 or (at_most is not None and at_most < least):
            raise InputError(f"nothing can come at least {least} and at most {at_most} times.")
        matching, others = list[Entry](), list[Entry]()
        for entry in self._since(0):
            (matching if query.matches(entry) else others).append(entry)
        text = f"{query}: expected {_range_text(least, at_most)}, found {_times(len(matching))}."
        holds = least <= len(matching) and (at_most is None or len(matching) <= at_most)
        return self._verdict([text], matching, query if len(matching) < least else None, others, holds=holds)

    def verify_order(self, queries: Sequence[Query]) -> dict[str, Any]:
        """Return the verdict on whether entries match the queries one after the other, as JSON."""
        matching, others = list[Entry](), list[Entry]()
        for entry in self._since(0):
            others.append(entry)
            if len(matching) < len(queries) and queries[len(matching)].matches(entry):
                matching.append(entry)
                others.clear()
        count = len(matching)
        lines = [f"{', then '.join(map(str, queries))}: found {count} of {len(queries)} in this order."]
        missed = queries[count] if count < len(queries) else None
        if missed is not None:
            after = f" after entry {matching[-1].number}" if matching else ""
            lines.append(f"Missing{after}: {missed}.")
        return self._verdict(lines, matching, missed, others, holds=missed is None)

    def _verdict(
        self, lines: list[str], matching: Sequence[Entry], missed: Query | None, others: Sequence[Entry], *, holds: bool
    ) -> dict[str, Any]:
        """Return a verdict; a negative one shows the matching entries, and the entry nearest to the missed query."""
        if self.dropped:
            lines.append(f"Older entries that were dropped, and are not counted: {self.dropped}.")
        if not holds:
            if not self.last:
                lines.append("Nothing has been asked of this sandbox.")
            elif not (matching or others):
                lines.append("Nothing has been asked since the journal was cleared.")
            if matching:
                lines += ["", "Found:"]
                if len(matching) > MAX_LISTED_ENTRIES:
                    lines.append(f"  … and {len(matching) - MAX_LISTED_ENTRIES} before them")
                lines += [f"  entry {_line(entry.masked())}" for entry in matching[-MAX_LISTED_ENTRIES:]]
            if others and missed is not None:
                lines += ["", *_near_miss(missed, others[-MAX_COMPARED_ENTRIES:])]
        numbers = [entry.number for entry in matching]
        return {"holds": holds, "found": len(numbers), "entries": numbers, "message": "\n".join(lines)}

    def _since(self, after: int) -> Iterator[Entry]:
        """Return the entries numbered above ``after``; a shared journal reads them from its store."""
        with self._space.lock:
            entries = list(self._entries)
        skipped = max(0, after + 1 - entries[0].number) if entries else 0
        return islice(entries, skipped, None)


def _range_text(least: int, most: int | None) -> str:
    if most is None:
        return f"at least {_times(least)}" if least else "any number of times"
    if least == most:
        return _times(least)
    return f"{least} to {most} times" if least else f"at most {_times(most)}"


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def _line(entry: Entry) -> str:
    return f"{entry.number}, at {microseconds_text(entry.at)}: {entry}"


def _near_miss(query: Query, entries: Sequence[Entry]) -> Iterator[str]:
    """Yield the lines of a table of the query and the nearest entry, the latest of equally near ones."""
    distances = [(sum(item.distance for item in query.compare(entry)), -entry.number) for entry in entries]
    entry = entries[distances.index(min(distances))].masked()
    rows = list[tuple[str, str, str]]()
    for item in query.compare(entry):
        mark = [] if item.holds else [f"  <<<<< {printable(item.name)} does not match"]
        rows += zip_longest(_cell(item.name, item.expected), _cell(item.name, item.actual), mark, fillvalue="")
    heading = f"Nearest: entry {entry.number}"
    width = max(len("| Expected"), *(len(expected) for expected, _, _ in rows))
    other = max(len(heading), *(len(actual) for _, actual, _ in rows))
    rule, gap = "-" * (width + other + 5), " " * width + " |"
    yield from (rule, f"{'| Expected':<{width}} | {heading:<{other}} |", rule, gap)
    for expected, actual, suffix in rows:
        yield f"{expected:<{width}} | {actual:<{other}}{suffix}".rstrip()
    yield from (gap, rule, f"Entry {_line(entry)}.")
    if entry.refusal:
        yield f"It was refused: {printable(entry.refusal)}"


def _cell(name: str, value: str) -> list[str]:
    text = printable(f"{name}: {shown_value(name, value) or '(none)'}")
    return [text[start : start + CELL_WIDTH] for start in range(0, len(text), CELL_WIDTH)]
