"""Define what a store of sandboxes does.

A store keeps for each sandbox its specification, its log, its journal and the counters of its
faults. The state that a log leads to is not stored: each process folds it, and reads only what it
has not folded yet. Several processes may share a store: an append names the version it was
evaluated against, and fails if another command has taken that version. The loser reads the newer
entries and evaluates its command again, so that the API's own rules accept or refuse it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from oceanmock.engine.log import LogEntry, SandboxSpec
from oceanmock.engine.records import OperationRecord
from oceanmock.journal import Journal


@dataclass(frozen=True, slots=True)
class Changes:
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


class FaultCounters(Protocol):
    """The counters of a sandbox's faults, by the faults' ids, and the callers' last attempts.

    Increments are atomic: two requests never get the same number.
    """

    def count_request(self, fault: int) -> int:
        """Count a request that matches a fault, and return its number, from 1."""

    def count_injection(self, fault: int) -> None:
        """Count a request that a fault was injected into."""

    def counts(self, fault: int) -> tuple[int, int]:
        """Return how many requests a fault has matched and how many it was injected into."""

    def take_attempt(self, caller: str) -> FaultAttempt | None:
        """Remove and return a caller's last attempt."""

    def keep_attempt(self, caller: str, attempt: FaultAttempt) -> None:
        """Keep a caller's last attempt; at most ``MAX_CALLERS`` are kept."""


class Store(Protocol):
    """Sandboxes by their names. A sandbox's versions only grow, also when it is put again."""

    def put(self, spec: SandboxSpec) -> int:
        """Create or replace a sandbox, with an empty log, journal and counters.

        Return its version.
        """

    def delete(self, name: str) -> None:
        """Delete a sandbox with all that belongs to it."""

    def read(self, name: str, *, since: int) -> Changes:
        """Return what has changed since a version."""

    def append(self, name: str, entry: LogEntry, *, expected_version: int) -> int | None:
        """Append an entry and return the new version; None if the version is another one.

        A store may replace a ``MoveClock`` by the next one, where nothing lies between them.
        """

    def journal(self, name: str) -> Journal:
        """Return a sandbox's journal, which is trimmed to its last entries."""

    def counters(self, name: str) -> FaultCounters:
        """Return the counters of a sandbox's faults."""

    def record(self, name: str, key: Hashable, record: OperationRecord) -> None:
        """Record an operation of a task, refused or not; only the last ones are kept."""

    def records(self, name: str, key: Hashable) -> tuple[OperationRecord, ...]:
        """Return the operations recorded of a task, the oldest first."""
