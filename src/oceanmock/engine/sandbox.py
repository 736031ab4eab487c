"""A sandbox: its specification and log, and the state that they lead to; the sandboxes of a server.

``execute`` evaluates a command against the current state, appends it to the log, and returns its result; everything
else reads. The state is folded once and kept: a command applies to it by itself, and only a failed load folds the whole
log again. One clock drives every API.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, repeat
from random import Random
from typing import Any, Final, TypeVar

from oceanmock.clock import Clock, machine_now
from oceanmock.engine import log as commands
from oceanmock.engine.fake_data import FakeData
from oceanmock.engine.faults import FaultRequest, Faults, FaultStatistics, InjectedFault
from oceanmock.engine.log import Command, LogEntry, Operate, OperationRecord, SandboxSpec
from oceanmock.engine.store import (
    MAX_NAME_LENGTH,
    MemoryStore,
    NoSuchSandbox,
    SandboxFull,
    Store,
    StoreUnavailable,
    quoted_name,
)
from oceanmock.engine.world import World
from oceanmock.errors import AuthorError, CallerError, OceanmockError
from oceanmock.scenario.faults import Fault
from oceanmock.scenario.fields import MAX_STUBS, BaseScenario
from oceanmock.scenario.stubs import Stub, StubRequest
from oceanmock.text import nanoseconds_of, plural

DEFAULT_SANDBOX: Final = "default"
MAX_SANDBOXES: Final = 10_000
MAX_OWN_PORTS: Final = 500
"""The most further ports of a server; each is an open file, of which a process often has 1,024."""
SANDBOX_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 1}}}")
"""The names that can stand in paths and headers as they are."""

W = TypeVar("W", bound=World[Any, Any, Any, Any])


@dataclass(frozen=True, slots=True)
class FoundStub:
    """A stub that responds to a request, by its number in the sandbox.

    ``views`` are the tasks or dags, or None, that its condition and those of the stubs before it are on.
    """

    number: int
    name: str
    stub: Stub
    request: StubRequest
    views: tuple[Any, ...]


class Sandbox:
    """One sandbox of a store.

    ``apis`` are the records of its APIs (``oceanmock.api.Api``). ``started`` is the instant at which its clock began.
    ``server`` and ``pid`` are the host and process id that the APIs' responses show. ``generation`` counts the
    specifications that it has had.
    """

    def __init__(
        self,
        spec: SandboxSpec,
        apis: Sequence[Any],
        *,
        store: Store | None = None,
        log: Iterable[LogEntry] = (),
        wall: Callable[[], int] = machine_now,
        is_stored: bool = True,
    ) -> None:
        """Create the sandbox in the store, with the commands of a log replayed.

        Raises AuthorError if its scenarios cannot be served together; then nothing is stored.
        """
        self.name: Final = spec.name
        self.apis: Final = apis
        self.store: Final[Store] = MemoryStore() if store is None else store
        self.wall: Final = wall
        self.server: Final = FakeData(f"{spec.seed}").host
        self.pid: Final = Random(f"{spec.seed}/pid").randrange(1000, 32768)  # noqa: S311 (no secret)
        self._traces = Random(spec.seed)  # noqa: S311 (the same seed, the same trace ids)
        self.generation = 0
        self._version = -1
        self._fold(spec)
        if is_stored:
            self.put()
        for entry in log:
            self._append(entry)
            self._apply(entry)

    def put(self) -> None:
        """Create the sandbox in the store, where one was built without that."""
        self._version = self.store.put(self.spec)
        self.journal = self.store.journal(self.name)

    # --- reading ---

    def world(self, kind: type[W]) -> W:
        """Return the state of one API, by its class."""
        world: Any = self.worlds[kind.api]
        return world  # type: ignore[no-any-return]

    def operations_of(self, api: str, key: Hashable) -> tuple[OperationRecord, ...]:
        """Return the last operations requested of a task or dag, refused or not, in order."""
        return self.store.records(self.name, (api, key))

    @property
    def is_untouched(self) -> bool:
        """Return whether it has accepted no command and received no request."""
        return not self._accepted.total() and not self.journal.last

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

    @property
    def fault_count(self) -> int:
        """Return the number of its faults."""
        return len(self._faults.by_name)

    def inject_fault(self, request: FaultRequest) -> InjectedFault | None:
        """Return the fault to inject into a request, if any, and count the request."""
        return self._faults.inject(request) if self.fault_count else None

    def stub_paths(self, api: str) -> list[str]:
        """Return the methods and paths of the stubs of an API."""
        return [f"{stub.method} {stub.path}" for owner, _, stub in self._stubs if owner == api]

    def find_stub(self, request: Any) -> FoundStub | str:
        """Return the first stub that responds to a request, else why none does; "" where none has its path."""
        if not self._stubs:
            return ""
        asked, reasons, views = StubRequest.of(request), list[str](), list[Any]()
        for number, (api, name, stub) in enumerate(self._stubs):
            if api != request.service.name or not stub.fits(asked.method, asked.path):
                continue
            views.append(self._view_of(number))
            why = stub.matches.difference(asked) or self._why_silent(number, views[-1])
            if not why:
                return FoundStub(number, name, stub, asked, tuple(views))
            reasons.append(f"stub {name!r} {why}")
        return f"{asked.method} {asked.path} has no response: {'; '.join(reasons)}." if reasons else ""

    def stubs_about(self, api: str, key: Hashable) -> list[str]:
        """Return a sentence about each stub whose condition is on a task or dag."""
        sentences = []
        for number, (owner, name, stub) in enumerate(self._stubs):
            view = self._view_of(number) if owner == api else None
            if view is not None and getattr(view, stub.when.api.root.name).key == key:
                why = self._why_silent(number, view) or "responds"
                sentences.append(f"stub {name!r} of {stub.method} {stub.path} {why}")
        return sentences

    def _view_of(self, number: int) -> Any:
        """Return the task or dag that the condition of a stub is on; None without one."""
        api, _, stub = self._stubs[number]
        of = None if stub.when is None else stub.when.of
        return None if of is None else self.worlds[api].newest(of)

    def _why_silent(self, number: int, view: Any) -> str:
        """Return why a stub responds to no request now, or ""."""
        stub = self._stubs[number][2]
        if stub.times is not None and self.store.count(self.name, ("stub", number), by=0) >= stub.times:
            return f"has answered {plural(stub.times, 'request')}"
        return "" if stub.when is None else str(stub.when.difference(view, self.started, self.clock.now()))

    # --- changing ---

    def execute(self, command: Command) -> Any:
        """Apply a command, log it, and return its result.

        Raises what the API's rules refuse it with, SandboxFull and SandboxDeleted; then nothing has changed.
        """
        while True:
            self.refresh()
            self._check_limits(command)
            wall = self.wall()
            entry = LogEntry(self.clock.at(wall), wall, command)
            try:
                result = self._apply(entry)
            except OceanmockError as error:
                self._accepted[type(command)] -= 1
                if isinstance(command, commands.Load) or (
                    isinstance(command, commands.Create) and isinstance(error, AuthorError)
                ):
                    self.refresh(since=-1)  # some of it may have been added
                elif isinstance(command, Operate) and isinstance(error, CallerError):
                    self._record(entry.at, command, str(error))
                raise
            try:
                is_appended = self._append(entry)
            except StoreUnavailable:
                self.refresh(since=-1)
                raise
            if is_appended:
                if isinstance(command, Operate):
                    self._record(entry.at, command)
                return result
            self.refresh(since=-1)  # another process was faster: evaluate against its command, too

    def _check_limits(self, command: Command) -> None:
        """Raise SandboxFull after as many commands as a sandbox accepts, apart from those that only move its clock."""
        for kinds, limit, what in commands.MAX_ACCEPTED:
            if isinstance(command, kinds) and sum(self._accepted[kind] for kind in kinds) >= limit:
                raise SandboxFull(f"sandbox {self.name!r} has accepted {limit:,} {what}. Reset it, or use another one.")

    def refresh(self, *, since: int | None = None) -> None:
        """Apply what other processes have appended to the log; -1 folds all of it again. Raises SandboxDeleted."""
        changes = self.store.read(self.name, since=self._version if since is None else since)
        if changes.spec is not None:
            self._fold(changes.spec)
            self.journal = self.store.journal(self.name)
        for entry in changes.entries:
            self._apply(entry)
        self._version = changes.version

    def _append(self, entry: LogEntry) -> bool:
        version = self.store.append(self.name, entry, expected_version=self._version)
        self._version = version or self._version
        return version is not None

    def _record(self, at: int, command: Operate, refused: str = "") -> None:
        record = OperationRecord(at, command.operation, command.part, refused)
        self.store.record(self.name, (command.api, command.key), record)

    def advance(self, by: int) -> None:
        """Move the clock on by ``by`` nanoseconds."""
        self.execute(commands.MoveClock(self.clock.now() + by))

    def note_read(self, kind: type[World[Any, Any, Any, Any]], keys: Iterable[Any] | None = None) -> None:
        """Move a clock under ``polls`` to the first instant at which one of some tasks or dags, or any, changes.

        To be called after a read has been answered.
        """
        if self.clock.progression == "polls":
            first = min(self.world(kind).due(self.clock.now(), keys), default=None)
            if first is not None:
                self.execute(commands.MoveClock(first))

    def take_stub(self, found: FoundStub, fault: InjectedFault | None) -> InjectedFault | None:
        """Count a response of a stub, which reads what it depends on; return the fault with the delay of both."""
        api, _, stub = self._stubs[found.number]
        self.store.count(self.name, ("stub", found.number))
        root = next(entry.root.name for entry in self.apis if entry.name == api)
        keys = {getattr(view, root).key for view in found.views if view is not None}
        self.note_read(type(self.worlds[api]), keys)
        if not stub.delay:
            return fault
        fault = fault or InjectedFault(Fault.model_construct(delay=stub.delay), "", 0, 0)
        return replace(fault, delay=fault.delay + stub.delay)

    def _fold(self, spec: SandboxSpec) -> None:
        """Begin with the state of a specification."""
        self.generation += 1
        self._accepted = Counter[type]()
        self.spec, self.accounts, start = spec, spec.accounts, spec.starts_at
        self.scenarios = scenarios = spec.scenarios
        if start is None and len(scenarios) == 1 and scenarios[0].starts_at is not None:
            start = nanoseconds_of(scenarios[0].starts_at)
        self.started = spec.created if start is None else start
        self.clock = Clock(
            spec.agreed_progression, starts_at=self.started, speed=spec.speed, wall=self.wall, created=spec.created
        )
        by_api = _by_api(scenarios)
        self._check_stubs(scenarios)
        self.worlds: dict[str, World[Any, Any, Any, Any]] = {}
        for api in self.apis:
            switches = spec.switches.get(api.name, {})
            new_world = api.module("world").new_world
            self.worlds[api.name] = new_world(self.clock, by_api[api.name], seed=spec.seed, switches=switches)
        self._stubs = list[tuple[str, str, Stub]]()
        self._add_stubs(scenarios)
        faults = (fault for scenario in scenarios for fault in scenario.faults)
        self._faults = Faults(faults, self.name, self.store, seed=spec.seed)
        for name, world in self.worlds.items():
            world.populate(by_api[name], start=self.started)

    def _apply(self, entry: LogEntry) -> Any:
        command = entry.command
        self._accepted[type(command)] += 1
        match command:
            case Operate():
                return self.worlds[command.api].operate(command.key, command.operation, command.part, entry.at)
            case commands.Start():
                return self.worlds[command.api].start(command.template, entry.at, dict(command.values))
            case commands.Create():
                return self.worlds[command.api].create(command.scenario, entry.at)
            case commands.MoveClock():
                self.clock.move_to(command.to, wall=entry.wall)
            case commands.SetClock():
                self.clock.set(progression=command.progression, speed=command.speed, wall=entry.wall)
                if self.clock.progression == "immediate":
                    ends = (end for world in self.worlds.values() for end in world.ends())
                    self.clock.move_to(max(ends, default=0), wall=entry.wall)
            case commands.AddFault():
                return self._faults.add(command.fault)
            case commands.RemoveFault():
                return self._faults.remove(command.name)
            case commands.ClearFaults():
                self._faults.by_name.clear()
            case commands.Load():
                self._load(command.scenarios, entry.at)
        return None

    def _load(self, scenarios: Sequence[BaseScenario], at: int) -> None:
        by_api = _by_api(scenarios)
        self._check_stubs((*self.scenarios, *scenarios))
        for name, world in self.worlds.items():
            world.check(by_api[name], sandbox=self.name)
        for fault in (fault for scenario in scenarios for fault in scenario.faults):
            self._faults.add(fault)
        self._add_stubs(scenarios)
        for name, world in self.worlds.items():
            world.populate(by_api[name], start=at)
        self.scenarios = (*self.scenarios, *scenarios)

    def _check_stubs(self, scenarios: Sequence[BaseScenario]) -> None:
        """Raise AuthorError if more tasks or dags start on a request than a sandbox may have."""
        for api in self.apis:
            scripts = chain.from_iterable(getattr(scenario, api.scripts_key, ()) for scenario in scenarios)
            if sum(getattr(script, "starts_on", None) is not None for script in scripts) > MAX_STUBS:
                raise AuthorError(f"more than {MAX_STUBS} {api.scripts_key} start on a request. Serve them apart.")
        if sum(len(scenario.stubs) for scenario in scenarios) > MAX_STUBS:
            raise AuthorError(f"a sandbox has at most {MAX_STUBS} stubs. Serve them apart.")

    def _add_stubs(self, scenarios: Sequence[BaseScenario]) -> None:
        """Add the stubs of scenarios behind the others."""
        for scenario in scenarios:
            names = (stub.name or f"stub {number}" for number, stub in enumerate(scenario.stubs, start=1))
            self._stubs += zip(repeat(scenario.api), names, scenario.stubs)


def _by_api(scenarios: Sequence[BaseScenario]) -> defaultdict[str, list[BaseScenario]]:
    by_api = defaultdict[str, list[BaseScenario]](list)
    for scenario in scenarios:
        by_api[scenario.api].append(scenario)
    return by_api


class SandboxTaken(CallerError):
    """There is a sandbox of this name already."""


class TooManySandboxes(CallerError):
    """There are as many sandboxes as allowed."""


class Sandboxes:
    """The sandboxes of one server, by their names; ``ports`` maps further ports to them.

    They share a store and nothing else. ``default`` always exists: it is the sandbox of a request that names none.
    Creating one costs no more than its scenarios' histories, so that each test can have its own. Their number is
    bounded; a sandbox stays until it is deleted.
    """

    def __init__(self, default: Sandbox, *, limit: int = MAX_SANDBOXES) -> None:
        self.limit: Final = limit
        self.ports: dict[int, str] = {}
        self._store: Final = default.store
        self._by_name = {DEFAULT_SANDBOX: default}
        self._numbers = count(1)
        for name in self._store.names():
            if name != DEFAULT_SANDBOX:
                self._restore(name)

    @property
    def default(self) -> Sandbox:
        """Return the one that is always there."""
        return self._by_name[DEFAULT_SANDBOX]

    def __iter__(self) -> Iterator[Sandbox]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, sandbox: Sandbox) -> bool:
        return self._by_name.get(sandbox.name) is sandbox

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
        return self.add(self.build(name, spec))

    def _restore(self, name: str) -> None:
        """Add a sandbox that the store has already."""
        spec = self._store.read(name, since=-1).spec
        assert spec is not None
        self._by_name[name] = self._build(spec)
        self._by_name[name].refresh(since=-1)

    def add(self, sandbox: Sandbox) -> Sandbox:
        """Add a sandbox that was built. Raises SandboxTaken, TooManySandboxes."""
        self._check(sandbox.name)
        sandbox.put()
        self._by_name[sandbox.name] = sandbox
        return sandbox

    def build(self, name: str | None, spec: SandboxSpec) -> Sandbox:
        """Return the sandbox that ``create`` adds, which changes nothing: any thread may build one."""
        if name is None:
            name = next(n for n in map("sandbox-{}".format, self._numbers) if n not in self._by_name)
        if not SANDBOX_NAME.fullmatch(name):
            raise AuthorError(
                f"{quoted_name(name)} is no name for a sandbox: letters, digits, dots, dashes and "
                f"underscores, at most {MAX_NAME_LENGTH}, a letter or digit first."
            )
        self._check(name)
        return self._build(replace(spec, name=name))

    def _check(self, name: str) -> None:
        if len(self) >= self.limit:
            raise TooManySandboxes(f"there are {self.limit:,} sandboxes already. Delete those that are done with.")
        if name in self._by_name:
            raise SandboxTaken(f"there is a sandbox {name!r} already. Delete it, or choose another name.")

    def reset(self, name: str) -> Sandbox:
        """Create a sandbox again by its specification. Raises NoSuchSandbox."""
        return self.put(self.rebuild(name))

    def load(self, name: str, scenarios: Sequence[BaseScenario]) -> Sandbox:
        """Add scenarios to a sandbox: to the specification, if it has had no command and no request; else now.

        Raises NoSuchSandbox, and AuthorError if they do not fit what is there; then nothing has changed.
        """
        sandbox = self.get(name)
        if not sandbox.is_untouched:
            sandbox.execute(commands.Load(tuple(scenarios)))
            return sandbox
        return self.put(self.rebuild(name, (*sandbox.spec.scenarios, *scenarios)))

    def delete(self, name: str) -> list[int]:
        """Delete a sandbox and return its own ports. Raises NoSuchSandbox. ``default`` is reset instead."""
        if name == DEFAULT_SANDBOX:
            self.reset(name)
            return []
        self.get(name)
        self._store.delete(name)
        del self._by_name[name]
        freed = [port for port, owner in self.ports.items() if owner == name]
        for port in freed:
            del self.ports[port]
        return freed

    def rebuild(self, name: str, scenarios: Sequence[BaseScenario] | None = None) -> Sandbox:
        """Return a sandbox of the same specification, or with other scenarios; like ``build`` it changes nothing.

        Raises NoSuchSandbox, and AuthorError for scenarios that do not fit together.
        """
        spec = self.get(name).spec
        scenarios = spec.scenarios if scenarios is None else tuple(scenarios)
        return self._build(replace(spec, scenarios=scenarios, created=self.default.wall()))

    def put(self, sandbox: Sandbox) -> Sandbox:
        """Put a sandbox in the place of the one of its name. Raises NoSuchSandbox."""
        self.get(sandbox.name)
        sandbox.put()
        self._by_name[sandbox.name] = sandbox
        return sandbox

    def _build(self, spec: SandboxSpec) -> Sandbox:
        default = self.default
        return Sandbox(spec, default.apis, store=self._store, wall=default.wall, is_stored=False)
