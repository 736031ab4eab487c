"""Keep sandboxes: each one's specification, log, journal, records and counters of faults. This store is in memory.

The state that a log leads to is not stored: a sandbox computes it from the log, of which it reads only new entries.
Several processes can share a store with these methods. An append states the version that the command was evaluated
against, and fails if another command was appended since. The process then reads the newer entries and evaluates its
command again, so that the API's own rules accept or refuse it. Counting is atomic: no two requests get the same number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from struct import Struct
from typing import TYPE_CHECKING, Final, TypeAlias

from oceanmock.engine.log import Command, LogEntry, MoveClock, Operate, OperationRecord, SandboxSpec
from oceanmock.engine.machine import MAX_OPERATIONS
from oceanmock.errors import CallerError, OceanmockError
from oceanmock.journal import Journal, JournalSpace
from oceanmock.text import did_you_mean, shorten

if TYPE_CHECKING:
    from oceanmock.engine.redis_store import RedisStore

MAX_CALLERS: Final = 1000  # how many callers' last requests with a fault are kept
MAX_NAME_LENGTH: Final = 100
MAX_COMPARED_NAMES: Final = 1000  # for a suggestion

Attempt = tuple[str, Mapping[int, int]]
"""A request that a fault was injected into: its digest, and the number that each fault gave it."""


@dataclass(frozen=True, slots=True)
class LogChanges:
    """The changes of a sandbox; if it was put since, ``spec`` is set, and ``entries`` are the whole log."""

    version: int
    entries: Sequence[LogEntry] = ()
    spec: SandboxSpec | None = None
    base: int = 0  # the version at which it was put
    lease_left: int | None = None  # set where the store keeps a lease
    journal: Journal | None = None  # set where ``spec`` is


def quoted_name(name: str) -> str:
    """Return a name in quotes, shortened, since a client may send any text."""
    return repr(shorten(name, MAX_NAME_LENGTH))


class NoSuchSandbox(CallerError):
    """No sandbox has this name."""

    def __init__(self, name: str, existing: Iterable[str]) -> None:
        hint = did_you_mean(name[:MAX_NAME_LENGTH], list(islice(existing, MAX_COMPARED_NAMES)))
        super().__init__(f"there is no sandbox {quoted_name(name)}. {hint}".rstrip())


class SandboxDeleted(NoSuchSandbox):
    """A sandbox was deleted while a request to it arrived."""


class SandboxTaken(CallerError):
    """There is a sandbox of this name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a sandbox {name!r} already. Delete it, or choose another name.")


class TooManySandboxes(CallerError):
    """There are as many sandboxes as allowed."""


class SandboxFull(CallerError):
    """The sandbox accepts no more commands of this kind until it is reset."""


class StoreUnavailable(OceanmockError):
    """The store cannot be read or written now; nothing has changed."""


_HEAD: Final = Struct("=qqq")  # an entry's version, ``at`` and ``wall``


@dataclass(slots=True)
class _Log:
    """The entries of a log, which are never dropped: 24 bytes each. Equal operations share one object."""

    heads: bytearray = field(default_factory=bytearray)
    commands: list[Command] = field(default_factory=list)
    operations: dict[Operate, Operate] = field(default_factory=dict)

    def append(self, version: int, entry: LogEntry) -> None:
        command = entry.command
        if isinstance(command, Operate):
            command = self.operations.setdefault(command, command)
        elif isinstance(command, MoveClock) and self.ends_with_move:
            del self.heads[-_HEAD.size :], self.commands[-1]
        self.heads += _HEAD.pack(version, entry.at, entry.wall)
        self.commands.append(command)

    @property
    def ends_with_move(self) -> bool:
        """Return whether the last entry moves the clock; the next one that does replaces it."""
        return bool(self.commands) and isinstance(self.commands[-1], MoveClock)

    def since(self, version: int) -> list[LogEntry]:
        places, size = range(len(self.commands)), _HEAD.size
        start = bisect_right(places, version, key=lambda place: _HEAD.unpack_from(self.heads, place * size)[0])
        newer = zip(_HEAD.iter_unpack(self.heads[start * size :]), self.commands[start:], strict=True)
        return [LogEntry(at, wall, command) for (_, at, wall), command in newer]


@dataclass(slots=True)
class StoredSandbox:
    """One sandbox; ``base`` is its first version."""

    spec: SandboxSpec
    base: int
    version: int
    journal: Journal
    log: _Log = field(default_factory=_Log)
    counters: Counter[Hashable] = field(default_factory=Counter)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    records: dict[Hashable, deque[OperationRecord]] = field(default_factory=dict)


class _StoredByName(dict[str, StoredSandbox]):
    def __missing__(self, name: str) -> StoredSandbox:
        raise SandboxDeleted(name, self)


class MemoryStore:
    """The store of one process, whose requests run on one event loop; ``RedisStore`` has the same methods.

    Versions only grow, also when a sandbox is put again. Each method on a sandbox raises SandboxDeleted if it was
    deleted. ``replica`` names this process among those that share the store; it is "" for the only one.
    """

    replica = ""

    def __init__(self) -> None:
        self._sandboxes = _StoredByName()
        self._kept: dict[str, bytes] = {}
        self._last_version = 0  # of all sandboxes, so that one made again is newer
        self._journal_space: Final = JournalSpace()

    def put(self, spec: SandboxSpec, *, replaces: int | None = None, if_untouched: bool = False) -> int | None:
        """Create or replace a sandbox by its specification alone; return its version, or None if it may not be put.

        It may if ``replaces`` is the first version of the stored one, 0 for none, or None for any, and, with
        ``if_untouched``, if the stored one has had no command and no request.
        """
        if not self.may_put(spec.name, replaces, if_untouched=if_untouched):
            return None
        self._last_version += 1
        if (replaced := self._sandboxes.get(spec.name)) is not None:
            replaced.journal.close()
        journal = Journal(space=self._journal_space)
        self._sandboxes[spec.name] = StoredSandbox(spec, self._last_version, self._last_version, journal)
        return self._last_version

    def may_put(self, name: str, replaces: int | None, *, if_untouched: bool) -> bool:
        """Return whether the conditions of ``put`` hold."""
        stored = self._sandboxes.get(name)
        if if_untouched and (stored is None or stored.version != stored.base or stored.journal.last):
            return False
        return replaces is None or replaces == (0 if stored is None else stored.base)

    def names(self) -> list[str]:
        """Return the names of the sandboxes, in the order of their creation."""
        return list(self._sandboxes)

    def delete(self, name: str) -> None:
        """Delete a sandbox with all that belongs to it."""
        self._sandboxes[name].journal.close()
        del self._sandboxes[name]

    def renew(self, name: str, span: int) -> None:
        """Delete a leased sandbox after a span; only a store that replicas share does."""

    def close(self) -> None:
        """Close files and connections."""

    def ping(self) -> None:
        """Raise StoreUnavailable if the store cannot be read and written."""

    def metrics(self) -> dict[str, float]:
        """Return the values of metrics by their names."""
        return {"sandboxes": len(self._sandboxes), "journal_bytes": self._journal_space.bytes}

    def replica_details(self) -> dict[str, str]:
        """Return a replica's name, and how much its clock may differ from the store's; {} for the only process."""
        return {}

    def release(self, name: str) -> None:
        """Give up the claim that ``read`` took."""

    def read(self, name: str, *, since: int, claims: bool = False) -> LogChanges:
        """Return the changes since a version.

        With ``claims`` this replica claims the next append: others that claim it wait, up to a second, for the append
        or for ``release``. That costs them less than to evaluate a command again on the whole log.
        """
        stored = self._sandboxes[name]
        if since >= stored.version:
            return LogChanges(stored.version, base=stored.base)
        spec = stored.spec if since < stored.base else None
        return LogChanges(stored.version, stored.log.since(since), spec, stored.base, journal=stored.journal)

    def append(self, name: str, entry: LogEntry, *, expected_version: int) -> int | None:
        """Append an entry and return the new version; None if the version is another one.

        A ``MoveClock`` replaces one that is the last entry.
        """
        stored = self._sandboxes[name]
        if stored.version != expected_version:
            return None
        self._last_version = stored.version = self._last_version + 1
        stored.log.append(stored.version, entry)
        return stored.version

    def journal(self, name: str, base: int) -> Journal:
        """Return the journal of a sandbox that was put at a version."""
        return self._sandboxes[name].journal

    def keep(self, name: str, make: Callable[[], bytes], *, anew: bool = False) -> bytes:
        """Return a value that all sandboxes and replicas share; ``make`` makes it if it is missing, or ``anew``."""
        if anew or name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def count(self, name: str, counter: Hashable, *, by: int = 1) -> int:
        """Add to a counter of a sandbox, and return its value; ``by`` 0 reads it."""
        counters = self._sandboxes[name].counters
        if by:
            counters[counter] += by
        return counters[counter]

    def swap_attempt(self, name: str, caller: str, attempt: Attempt | None = None) -> Attempt:
        """Return a caller's last attempt, ("", {}) if there is none, and replace it, or remove it (None)."""
        attempts = self._sandboxes[name].attempts
        last = attempts.pop(caller, ("", {}))
        if attempt is not None:
            if len(attempts) >= MAX_CALLERS:
                del attempts[next(iter(attempts))]
            attempts[caller] = attempt
        return last

    def record(self, name: str, key: Hashable, record: OperationRecord) -> None:
        """Record an operation of a task, accepted or refused; the last ``MAX_OPERATIONS`` are kept."""
        self._sandboxes[name].records.setdefault(key, deque(maxlen=MAX_OPERATIONS)).append(record)

    def records(self, name: str, key: Hashable) -> tuple[OperationRecord, ...]:
        """Return the operations recorded of a task, the oldest first."""
        return tuple(self._sandboxes[name].records.get(key, ()))


Store: TypeAlias = "MemoryStore | RedisStore"
