"""The journal: every exchange of a sandbox, bounded and without secrets.

Recording costs a few microseconds, since every request pays for it: headers, query and request are
masked and bodies are cut then; the response, which may be long, is masked when it is read, and an
entry's JSON is parsed only then. Memory is bounded: the oldest entry is dropped when there are too
many, or too many bytes. Nothing here depends on ASGI or on one API.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from threading import Lock
from typing import Any, Final

from oceanmock.journal.entries import Entry, mask_body, mask_headers, mask_query
from oceanmock.journal.query import CallCount, Query, Verdict, verify_entries

MAX_JOURNAL_ENTRIES: Final = 1000
MAX_JOURNAL_BYTES: Final = 16 * 2**20
MAX_JOURNAL_BODY: Final = 64 * 2**10
ENTRY_BYTES: Final = 1000
"""What an entry takes beside its texts: the object, its numbers, its ids."""
TEXT_BYTES: Final = 85
"""What each of a header's two texts takes beside its characters."""


class Journal:
    """The exchanges of one sandbox, oldest first; threads may record and read at once.

    ``dropped`` counts the entries that were dropped since it was last cleared.
    """

    def __init__(
        self,
        *,
        max_entries: int = MAX_JOURNAL_ENTRIES,
        max_bytes: int = MAX_JOURNAL_BYTES,
        max_body: int = MAX_JOURNAL_BODY,
    ) -> None:
        """Keep the last entry whatever its size, and of the others as many as the limits allow."""
        self.dropped = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_body = max_body
        self._number = 0
        self._bytes = 0
        self._entries: deque[Entry] = deque()
        self._sizes: deque[int] = deque()
        self._lock = Lock()

    def record(
        self,
        *,
        path: str,
        query: str,
        request_headers: Iterable[tuple[str, str]],
        request_body: bytes,
        response_headers: Iterable[tuple[str, str]],
        response_body: bytes,
        refusal: str = "",
        fault: str = "",
        **fields: Any,
    ) -> Entry:
        """Record an exchange under the next number; ``fields`` are the others of ``Entry``.

        The returned entry has the response's body unmasked; entries that are read have it masked.
        """
        masked = mask_headers(request_headers), mask_headers(response_headers)
        if query:
            query = mask_query(query)
        if request_body:
            request_body = mask_body(_cut(request_body, self._max_body))
        response_body = _cut(response_body, self._max_body)
        size = ENTRY_BYTES + len(path) + len(query) + len(refusal)
        size += len(request_body) + len(response_body)
        for pairs in masked:
            for name, value in pairs:
                size += len(name) + len(value) + 2 * TEXT_BYTES
        with self._lock:
            self._number += 1
            entry = Entry(
                number=self._number,
                path=path,
                query=query,
                request_headers=masked[0],
                request_body=request_body,
                response_headers=masked[1],
                response_body=response_body,
                refusal=refusal,
                fault=fault,
                **fields,
            )
            self._entries.append(entry)
            self._sizes.append(size)
            self._bytes += size
            while len(self._sizes) > 1 and (self._bytes > self._max_bytes or len(self._sizes) > self._max_entries):
                self._entries.popleft()
                self._bytes -= self._sizes.popleft()
                self.dropped += 1
        return entry

    def entries(self, query: Query | None = None, *, after: int = 0, limit: int | None = None) -> list[Entry]:
        """Return at most ``limit`` matching entries with a number above ``after``, oldest first."""
        return [_masked(entry) for entry in islice(self._matching(query, after), limit)]

    @property
    def last(self) -> int:
        """The number of the newest entry there has been; 0 before the first."""
        return self._number

    def count(self, query: Query | None = None) -> int:
        """Return how many entries match."""
        if query is None:
            return len(self._entries)
        return sum(1 for _ in self._matching(query, 0))

    def clear(self) -> None:
        """Delete every entry; the numbers go on."""
        with self._lock:
            self._entries.clear()
            self._sizes.clear()
            self._bytes = self.dropped = 0

    def verify(
        self, query: Query, *, times: int | None = None, at_least: int | None = None, at_most: int | None = None
    ) -> Verdict:
        """Verify that so many entries match; without a number, at least one.

        Raises AuthorError for numbers that contradict each other.
        """
        expected = CallCount.of(times, at_least, at_most)
        entries = list(self._matching(None, 0))
        verdict = verify_entries(entries, query, expected=expected, dropped=self.dropped, recorded=self._number)
        return replace(verdict, found=tuple(map(_masked, verdict.found)))

    def _matching(self, query: Query | None, after: int) -> Iterator[Entry]:
        with self._lock:
            entries = list(self._entries)
        skipped = max(0, after + 1 - entries[0].number) if entries else 0
        for entry in islice(entries, skipped, None):
            if query is None or query.matches(entry):
                yield entry


def _cut(body: bytes, limit: int) -> bytes:
    """Return at most so many bytes of a body, in whole characters, and how many more it has.

    A whole body is copied: behind those that orjson has written is more memory than they need.
    """
    if len(body) <= limit:
        return bytes(memoryview(body))
    end = limit
    while end > limit - 3 and end > 0 and body[end] & 0xC0 == 0x80:
        end -= 1
    return body[:end] + b"... (%d more bytes)" % (len(body) - end)


def _masked(entry: Entry) -> Entry:
    body = mask_body(entry.response_body)
    return entry if body is entry.response_body else replace(entry, response_body=body)
