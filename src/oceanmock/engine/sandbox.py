"""A sandbox: its specification and log, and the state that they lead to; the sandboxes of a server.

``execute`` evaluates a command against the current state, appends it to the log, and returns its result; everything
else reads. The state is folded once and kept: a command applies to it by itself, and only a failed load folds the whole
log again. One clock drives every API.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, islice
from random import Random
from typing import Any, Final, Protocol, TypeVar

from oceanmock.clock import Clock, Progression, wall_now
from oceanmock.engine.faults import FaultRequest, Faults, FaultStatistics, InjectedFault
from oceanmock.engine.log import (
    AddFault,
    ClearFaults,
    Command,
    Create,
    Load,
    LogEntry,
    MoveClock,
    Operate,
    OperationRecord,
    RemoveFault,
    SandboxSpec,
    SetClock,
    Start,
)
from oceanmock.engine.world import FakeData, World
from oceanmock.errors import AuthorError, CallerError, OceanmockError
from oceanmock.journal import Journal
from oceanmock.scenario.fields import BaseScenario
from oceanmock.text import did_you_mean, nanoseconds_of, shorten

DEFAULT_SANDBOX: Final = "default"
MAX_SANDBOXES: Final = 10_000
MAX_RECORDS: Final = 1000
"""How many operations are kept of a task or dag."""
MAX_NAME_LENGTH: Final = 100
MAX_COMPARED_NAMES: Final = 1000
"""How many names of sandboxes are compared for a suggestion."""
SANDBOX_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 1}}}")
"""The names that can stand in paths and headers as they are."""

W = TypeVar("W", bound=World[Any, Any, Any, Any])


class SandboxApi(Protocol):
    """The part of an API's record that a sandbox uses."""

    @property
    def name(self) -> str:
        """Return its name in scenario files."""

    def new_world(
        self, clock: Clock, scenarios: Sequence[Any], *, seed: int, switches: Mapping[str, Any]
    ) -> World[Any, Any, Any, Any]:
        """Return the empty state of a sandbox with these scenarios. Raises AuthorError."""


class Sandbox:
    """One sandbox of a server.

    ``started`` is the instant at which its clock began. ``server`` and ``pid`` are the host and process id that the
    APIs' responses show. What changes one raises SandboxDeleted once ``is_deleted`` is set.
    """

    def __init__(
        self,
        spec: SandboxSpec,
        apis: Sequence[SandboxApi],
        *,
        log: Iterable[LogEntry] = (),
        wall: Callable[[], int] = wall_now,
    ) -> None:
        """Create the sandbox, with the commands of a log replayed.

        Raises AuthorError if its scenarios cannot be served together.
        """
        self.spec: Final = spec
        self.name: Final = spec.name
        self.accounts = spec.accounts
        self.apis: Final = apis
        self.wall: Final = wall
        self.journal: Final = Journal()
        self.is_deleted = False
        self.server: Final = FakeData(f"{spec.seed}").host
        self.pid: Final = Random(f"{spec.seed}/pid").randrange(1000, 32768)  # noqa: S311 (no secret)
        self._traces = Random(spec.seed)  # noqa: S311 (the same seed, the same trace ids)
        self._faults = Faults(seed=spec.seed)
        self._records: dict[Hashable, deque[OperationRecord]] = {}
        self.log: Final = list(log)
        self._fold()

    # --- reading ---

    def world(self, kind: type[W]) -> W:
        """Return the state of one API, by its class."""
        world: Any = self.worlds[kind.api]
        return world  # type: ignore[no-any-return]

    def operations_of(self, api: str, key: Hashable) -> tuple[OperationRecord, ...]:
        """Return the last operations requested of a task or dag, refused or not, in order."""
        return tuple(self._records.get((api, key), ()))

    def next_due(self) -> int | None:
        """Return the next instant at which a task or dag changes without a request, or None."""
        now = self.clock.now()
        return min((due for world in self.worlds.values() for due in world.due(now)), default=None)

    def draw_trace_id(self) -> str:
        """Return the next trace id, of 16 hexadecimal digits; they follow from the seed."""
        return f"{self._traces.getrandbits(64):016x}"

    def faults(self) -> tuple[FaultStatistics, ...]:
        """Return the faults in their order, with their counters."""
        return self._faults.statistics()

    def inject_fault(self, request: FaultRequest) -> InjectedFault | None:
        """Return the fault to inject into a request, if any, and count the request."""
        return self._faults.inject(request) if self._faults.by_name else None

    # --- changing ---

    def execute(self, command: Command) -> Any:
        """Apply a command, log it, and return its result.

        Raises what the API's rules refuse it with; then nothing has changed. A ``MoveClock`` replaces the one before.
        """
        if self.is_deleted:
            raise SandboxDeleted(self.name, ())
        wall = self.wall()
        entry = LogEntry(self.clock.at(wall), wall, command)
        try:
            result = self._apply(entry)
        except OceanmockError as error:
            if isinstance(command, Load):
                self._fold()  # some of the scenarios may have been added
            elif isinstance(command, Operate) and isinstance(error, CallerError):
                self._record(entry.at, command, str(error))
            raise
        if isinstance(command, Operate):
            self._record(entry.at, command)
        elif self.log and isinstance(command, MoveClock) and isinstance(self.log[-1].command, MoveClock):
            self.log.pop()
        self.log.append(entry)
        return result

    def _record(self, at: int, command: Operate, refused: str = "") -> None:
        records = self._records.setdefault((command.api, command.key), deque(maxlen=MAX_RECORDS))
        records.append(OperationRecord(at, command.operation, command.part, refused))

    def advance(self, by: int) -> None:
        """Move the clock on by ``by`` nanoseconds."""
        self.execute(MoveClock(self.clock.now() + by))

    def note_read(self, dues: Iterable[int]) -> None:
        """Move a clock under ``polls`` to the first of the instants at which what was read changes.

        To be called after a read has been answered.
        """
        if self.clock.progression == "polls" and (first := min(dues, default=None)) is not None:
            self.execute(MoveClock(first))

    def _fold(self) -> None:
        """Set the state to that which the specification and the log lead to."""
        spec, start = self.spec, self.spec.starts_at
        self.scenarios = scenarios = spec.scenarios
        if start is None and len(scenarios) == 1 and scenarios[0].starts_at is not None:
            start = nanoseconds_of(scenarios[0].starts_at)
        self.started = spec.created if start is None else start
        self.clock = Clock(
            spec.progression or progression_of(scenarios, spec.default_progression),
            starts_at=self.started,
            speed=spec.speed,
            wall=self.wall,
            created=spec.created,
        )
        by_api = _by_api(scenarios)
        self.worlds: dict[str, World[Any, Any, Any, Any]] = {}
        for api in self.apis:
            switches = spec.switches.get(api.name, {})
            self.worlds[api.name] = api.new_world(self.clock, by_api[api.name], seed=spec.seed, switches=switches)
        self._faults.restart(fault for scenario in scenarios for fault in scenario.faults)
        for name, world in self.worlds.items():
            world.populate(by_api[name], start=self.started)
        for entry in self.log:
            self._apply(entry)

    def _apply(self, entry: LogEntry) -> Any:
        command = entry.command
        match command:
            case Operate():
                return self.worlds[command.api].operate(command.key, command.operation, command.part, entry.at)
            case Start():
                return self.worlds[command.api].start(command.template, entry.at)
            case Create():
                return self.worlds[command.api].create(command.scenario, entry.at)
            case MoveClock():
                self.clock.move_to(command.to, wall=entry.wall)
            case SetClock():
                self.clock.set(progression=command.progression, speed=command.speed, wall=entry.wall)
                for world in self.worlds.values():
                    for end in world.ends():
                        self.clock.settle(end)
            case AddFault():
                return self._faults.add(command.fault)
            case RemoveFault():
                return self._faults.remove(command.name)
            case ClearFaults():
                self._faults.by_name.clear()
            case Load():
                self._load(command.scenarios, entry.at)
        return None

    def _load(self, scenarios: Sequence[BaseScenario], at: int) -> None:
        by_api = _by_api(scenarios)
        for name, world in self.worlds.items():
            world.check(by_api[name], sandbox=self.name)
        for fault in (fault for scenario in scenarios for fault in scenario.faults):
            self._faults.add(fault)
        for name, world in self.worlds.items():
            world.populate(by_api[name], start=at)
        self.scenarios = (*self.scenarios, *scenarios)


def _by_api(scenarios: Sequence[BaseScenario]) -> defaultdict[str, list[BaseScenario]]:
    by_api = defaultdict[str, list[BaseScenario]](list)
    for scenario in scenarios:
        by_api[scenario.api].append(scenario)
    return by_api


def progression_of(scenarios: Sequence[BaseScenario], default: Progression = "time") -> Progression:
    """Return the progression that all scenarios state; `time` if they differ.

    ``default`` counts for those that state none.
    """
    progressions = {
        scenario.progression if "progression" in scenario.model_fields_set else default for scenario in scenarios
    }
    return min(progressions, default=default) if len(progressions) < 2 else "time"


def quoted_name(name: str) -> str:
    """Return a name in quotes, cut where it is long; it may be anything that was sent."""
    return repr(shorten(name, MAX_NAME_LENGTH))


class NoSuchSandbox(CallerError):
    """No sandbox has this name."""

    def __init__(self, name: str, existing: Iterable[str]) -> None:
        hint = did_you_mean(name[:MAX_NAME_LENGTH], list(islice(existing, MAX_COMPARED_NAMES)))
        super().__init__(f"there is no sandbox {quoted_name(name)}. {hint}".rstrip())


class SandboxDeleted(NoSuchSandbox):
    """A sandbox was deleted while a request to it arrived."""


class TwoSandboxes(CallerError):
    """A request names two sandboxes, and can mean only one."""

    def __init__(self, one: str, other: str, *_: str) -> None:
        super().__init__(
            f"the request names two sandboxes, {quoted_name(one)} and {quoted_name(other)}. "
            "Its port, its header and its path must mean the same one."
        )


class SandboxTaken(CallerError):
    """There is a sandbox of this name already."""


class TooManySandboxes(CallerError):
    """There are as many sandboxes as allowed."""


class Sandboxes:
    """The sandboxes of one server, by their names; ``ports`` maps further ports to them.

    ``default`` always exists: it is the sandbox of a request that names none. Creating one costs no more than its
    scenarios' histories, so that each test can have its own. Their number is bounded; a sandbox stays until it is
    deleted.
    """

    def __init__(self, default: Sandbox, *, limit: int = MAX_SANDBOXES) -> None:
        self.limit: Final = limit
        self.ports: dict[int, str] = {}
        self._by_name = {DEFAULT_SANDBOX: default}
        self._numbers = count(1)

    @property
    def default(self) -> Sandbox:
        """Return the one that is always there."""
        return self._by_name[DEFAULT_SANDBOX]

    def __iter__(self) -> Iterator[Sandbox]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Sandbox:
        """Return the sandbox of a name. Raises NoSuchSandbox."""
        sandbox = self._by_name.get(name)
        if sandbox is None:
            raise NoSuchSandbox(name, self._by_name)
        return sandbox

    def create(self, name: str | None, spec: SandboxSpec) -> Sandbox:
        """Create a sandbox of a name, by default the next free one.

        Raises AuthorError for an invalid name or specification, SandboxTaken, TooManySandboxes; then nothing has
        changed.
        """
        if len(self) >= self.limit:
            raise TooManySandboxes(f"there are {self.limit:,} sandboxes already. Delete those that are done with.")
        if name is None:
            name = next(n for n in map("sandbox-{}".format, self._numbers) if n not in self._by_name)
        if not SANDBOX_NAME.fullmatch(name):
            raise AuthorError(
                f"{quoted_name(name)} is no name for a sandbox: letters, digits, dots, dashes and "
                f"underscores, at most {MAX_NAME_LENGTH}, a letter or digit first."
            )
        if name in self._by_name:
            raise SandboxTaken(f"there is a sandbox {name!r} already. Delete it, or choose another name.")
        return self._put(replace(spec, name=name))

    def reset(self, name: str) -> Sandbox:
        """Create a sandbox again by its specification. Raises NoSuchSandbox."""
        sandbox = self.get(name)
        return self._put(replace(sandbox.spec, created=sandbox.wall()))

    def load(self, name: str, scenarios: Sequence[BaseScenario]) -> Sandbox:
        """Add scenarios to a sandbox: to the specification, if it has had no command and no request; else now.

        Raises NoSuchSandbox, and AuthorError if they do not fit what is there; then nothing has changed.
        """
        sandbox = self.get(name)
        if sandbox.log or sandbox.journal.last:
            sandbox.execute(Load(tuple(scenarios)))
            return sandbox
        every = (*sandbox.spec.scenarios, *scenarios)
        return self._put(replace(sandbox.spec, scenarios=every, created=sandbox.wall()))

    def delete(self, name: str) -> list[int]:
        """Delete a sandbox and return its own ports. Raises NoSuchSandbox.

        ``default`` is reset instead.
        """
        if name == DEFAULT_SANDBOX:
            self.reset(name)
            return []
        self.get(name).is_deleted = True
        del self._by_name[name]
        freed = [port for port, owner in self.ports.items() if owner == name]
        for port in freed:
            del self.ports[port]
        return freed

    def _put(self, spec: SandboxSpec) -> Sandbox:
        sandbox = self._by_name[spec.name] = Sandbox(spec, self.default.apis, wall=self.default.wall)
        return sandbox
