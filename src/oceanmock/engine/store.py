"""Keep sandboxes in memory: each one's specification, log, journal and counters of faults.

The state that a log leads to is not stored: a sandbox folds it, and reads only what it has not
folded yet. Another store with these methods could be shared by several processes: an append names
the version it was evaluated against, and fails if another command has taken that version. The loser
reads the newer entries and evaluates its command again, so that the API's own rules accept or
refuse it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Final

from oceanmock.engine.log import LogEntry, MoveClock, SandboxSpec
from oceanmock.errors import CallerError
from oceanmock.journal import Journal
from oceanmock.text import did_you_mean, shorten

MAX_CALLERS: Final = 1000
"""How many callers' last attempts are kept."""
MAX_RECORDS: Final = 1000
"""How many operations are kept of a task or dag."""
MAX_NAME_LENGTH: Final = 100
MAX_COMPARED_NAMES: Final = 1000
"""How many names of sandboxes are compared for a suggestion."""


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """One requested operation of a task or dag; ``at`` in nanoseconds since the epoch.

    ``position`` is that of the subtask or node, None for the whole task or dag; ``refused`` is the
    reason, or "" where it was accepted. A history has nothing of a refused one.
    """

    at: int
    operation: str
    position: int | None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class LogChanges:
    """The part of a sandbox that a reader of an older version has not seen.

    ``spec`` is set where the sandbox was put since; ``entries`` then are the whole log.
    """

    version: int
    entries: Sequence[LogEntry] = ()
    spec: SandboxSpec | None = None


@dataclass(frozen=True, slots=True)
class FaultAttempt:
    """A caller's last request that a fault was injected into.

    ``request`` is a digest of the request; ``numbers`` holds the number that each fault, by its id,
    gave it.
    """

    request: str
    numbers: Mapping[int, int]


class FaultCounters:
    """The counters of a sandbox's faults, by the faults' ids, and the callers' last attempts.

    Two requests never get the same number: the caller holds a lock, or runs on one event loop.
    """

    __slots__ = ("_attempts", "_injections", "_requests")

    def __init__(self) -> None:
        self._requests: defaultdict[int, int] = defaultdict(int)
        self._injections: defaultdict[int, int] = defaultdict(int)
        self._attempts: dict[str, FaultAttempt] = {}

    def count_request(self, fault: int) -> int:
        """Count a request that matches a fault, and return its number, from 1."""
        self._requests[fault] += 1
        return self._requests[fault]

    def count_injection(self, fault: int) -> None:
        """Count a request that a fault was injected into."""
        self._injections[fault] += 1

    def counts(self, fault: int) -> tuple[int, int]:
        """Return how many requests a fault has matched and how many it was injected into."""
        return self._requests.get(fault, 0), self._injections.get(fault, 0)

    def take_attempt(self, caller: str) -> FaultAttempt | None:
        """Remove and return a caller's last attempt."""
        return self._attempts.pop(caller, None)

    def keep_attempt(self, caller: str, attempt: FaultAttempt) -> None:
        """Keep a caller's last attempt; at most ``MAX_CALLERS`` are kept."""
        if len(self._attempts) >= MAX_CALLERS:
            del self._attempts[next(iter(self._attempts))]
        self._attempts[caller] = attempt


class NoSuchSandbox(CallerError):
    """No sandbox has this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        hint = did_you_mean(name[:MAX_NAME_LENGTH], list(islice(known, MAX_COMPARED_NAMES)))
        super().__init__(f"there is no sandbox {quoted_name(name)}. {hint}".rstrip())


def quoted_name(name: str) -> str:
    """Return a name in quotes, cut where it is long; it may be anything that was sent."""
    return repr(shorten(name, MAX_NAME_LENGTH))


class _Stored:
    """One sandbox; ``base`` is its first version."""

    __slots__ = ("base", "counters", "entries", "journal", "records", "spec", "version")

    def __init__(self, spec: SandboxSpec, version: int) -> None:
        self.spec: Final = spec
        self.base: Final = version
        self.version = version
        self.entries: list[tuple[int, LogEntry]] = []
        self.journal: Final = Journal()
        self.counters: Final = FaultCounters()
        self.records: Final[dict[Hashable, deque[OperationRecord]]] = {}


class SandboxDeleted(NoSuchSandbox):
    """A sandbox was deleted while a request to it arrived."""


class _StoredByName(dict[str, _Stored]):
    def __missing__(self, name: str) -> _Stored:
        raise SandboxDeleted(name, self)


class MemoryStore:
    """Sandboxes by their names. A sandbox's versions only grow, also when it is put again.

    What reads or changes one raises SandboxDeleted for one that was deleted.
    """

    def __init__(self) -> None:
        self._sandboxes = _StoredByName()
        self._last_version = 0  # of all sandboxes, so that one made again is newer

    def put(self, spec: SandboxSpec) -> int:
        """Create or replace a sandbox, with nothing but its specification; return its version."""
        self._last_version += 1
        self._sandboxes[spec.name] = _Stored(spec, self._last_version)
        return self._last_version

    def delete(self, name: str) -> None:
        """Delete a sandbox with all that belongs to it."""
        del self._sandboxes[name]

    def read(self, name: str, *, since: int) -> LogChanges:
        """Return what has changed since a version."""
        stored = self._sandboxes[name]
        if since >= stored.version:
            return LogChanges(stored.version)
        start = bisect_right(stored.entries, since, key=itemgetter(0))
        entries = [entry for _, entry in stored.entries[start:]]
        return LogChanges(stored.version, entries, stored.spec if since < stored.base else None)

    def append(self, name: str, entry: LogEntry, *, expected_version: int) -> int | None:
        """Append an entry and return the new version; None if the version is another one.

        A ``MoveClock`` is replaced by the next one, where nothing lies between them.
        """
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
        """Return a sandbox's journal, which is trimmed to its last entries."""
        return self._sandboxes[name].journal

    def counters(self, name: str) -> FaultCounters:
        """Return the counters of a sandbox's faults."""
        return self._sandboxes[name].counters

    def record(self, name: str, key: Hashable, record: OperationRecord) -> None:
        """Record an operation of a task, refused or not; only the last ones are kept."""
        records = self._sandboxes[name].records
        records.setdefault(key, deque(maxlen=MAX_RECORDS)).append(record)

    def records(self, name: str, key: Hashable) -> tuple[OperationRecord, ...]:
        """Return the operations recorded of a task, the oldest first."""
        return tuple(self._sandboxes[name].records.get(key, ()))
