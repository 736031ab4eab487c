"""Keep sandboxes in this process's memory."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable
from operator import itemgetter
from typing import Final

from oceanmock.engine.log import LogEntry, MoveClock, SandboxSpec
from oceanmock.engine.records import OperationRecord, Records
from oceanmock.engine.store.base import Changes, FaultAttempt
from oceanmock.journal import Journal

MAX_CALLERS: Final = 1000
"""How many callers' last attempts are kept."""


class MemoryCounters:
    """Fault counters; atomic because the caller holds a lock or runs on one event loop."""

    __slots__ = ("_attempts", "_injections", "_requests")

    def __init__(self) -> None:
        self._requests: defaultdict[int, int] = defaultdict(int)
        self._injections: defaultdict[int, int] = defaultdict(int)
        self._attempts: dict[str, FaultAttempt] = {}

    def count_request(self, fault: int) -> int:
        self._requests[fault] += 1
        return self._requests[fault]

    def count_injection(self, fault: int) -> None:
        self._injections[fault] += 1

    def counts(self, fault: int) -> tuple[int, int]:
        return self._requests.get(fault, 0), self._injections.get(fault, 0)

    def take_attempt(self, caller: str) -> FaultAttempt | None:
        return self._attempts.pop(caller, None)

    def keep_attempt(self, caller: str, attempt: FaultAttempt) -> None:
        if len(self._attempts) >= MAX_CALLERS:
            del self._attempts[next(iter(self._attempts))]
        self._attempts[caller] = attempt


class _Stored:
    """One sandbox."""

    __slots__ = ("base", "counters", "entries", "journal", "records", "spec", "version")

    def __init__(self, spec: SandboxSpec, version: int) -> None:
        self.spec: Final = spec
        self.base: Final = version
        self.version = version
        self.entries: list[tuple[int, LogEntry]] = []
        self.journal: Final = Journal()
        self.counters: MemoryCounters | None = None
        self.records: Records[Hashable] | None = None


class MemoryStore:
    """A ``Store`` in memory."""

    def __init__(self) -> None:
        self._sandboxes: dict[str, _Stored] = {}
        self._last_version = 0  # of all sandboxes, so that one made again is newer

    def put(self, spec: SandboxSpec) -> int:
        self._last_version += 1
        self._sandboxes[spec.name] = _Stored(spec, self._last_version)
        return self._last_version

    def delete(self, name: str) -> None:
        del self._sandboxes[name]

    def read(self, name: str, *, since: int) -> Changes:
        stored = self._sandboxes[name]
        if since >= stored.version:
            return Changes(stored.version)
        start = bisect_right(stored.entries, since, key=itemgetter(0))
        entries = [entry for _, entry in stored.entries[start:]]
        return Changes(stored.version, entries, stored.spec if since < stored.base else None)

    def append(self, name: str, entry: LogEntry, *, expected_version: int) -> int | None:
        stored = self._sandboxes[name]
        if stored.version != expected_version:
            return None
        self._last_version = stored.version = self._last_version + 1
        entries, is_move = stored.entries, isinstance(entry.command, MoveClock)
        if is_move and entries and isinstance(entries[-1][1].command, MoveClock):
            entries.pop()
        entries.append((stored.version, entry))
        return stored.version

    def journal(self, name: str) -> Journal:
        return self._sandboxes[name].journal

    def counters(self, name: str) -> MemoryCounters:
        stored = self._sandboxes[name]
        if stored.counters is None:
            stored.counters = MemoryCounters()
        return stored.counters

    def record(self, name: str, key: Hashable, record: OperationRecord) -> None:
        stored = self._sandboxes[name]
        if stored.records is None:
            stored.records = Records[Hashable]()
        stored.records.keep(key, record)

    def records(self, name: str, key: Hashable) -> tuple[OperationRecord, ...]:
        records = self._sandboxes[name].records
        return () if records is None else records.of(key)
