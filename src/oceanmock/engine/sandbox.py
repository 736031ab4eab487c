"""A sandbox: its specification and log, and the state that they lead to.

``execute`` evaluates a command against the current state, appends it to the log, and returns its result; everything
else reads. The state is folded once and kept: a command applies to it by itself, and only a failed load folds the whole
log again. One clock drives every API.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from math import inf
from random import Random
from typing import Any, Final, TypeVar

from oceanmock.clock import LATEST, Clock, machine_now
from oceanmock.engine import log as commands
from oceanmock.engine.faults import Faults, InjectedFault
from oceanmock.engine.log import Command, LogEntry, Operate, OperationRecord, SandboxSpec
from oceanmock.engine.store import MemoryStore, SandboxFull, Store, StoreUnavailable
from oceanmock.engine.world import FakeData, World
from oceanmock.errors import CallerError, InputError, OceanmockError
from oceanmock.scenario import MAX_STUBS, BaseScenario
from oceanmock.scenario.faults import Fault
from oceanmock.scenario.stubs import StartsOn, Stub, StubRequest
from oceanmock.text import nanoseconds_of, plural

RENEWALS: Final = 8  # how often a replica renews a lease in the store, in its span
W = TypeVar("W", bound=World[Any, Any, Any])


@dataclass(frozen=True, slots=True)
class FoundStub:
    """A stub that responds to a request.

    ``views`` has the task or dag, or None, of the condition of each stub that was tried; the last is this stub's.
    """

    number: int
    name: str
    stub: Stub
    request: StubRequest
    views: tuple[Any, ...]


class Sandbox:
    """One sandbox of a store, with some APIs (``oceanmock.api.Api``).

    ``started`` is the instant at which its clock began; ``server`` and ``pid`` are the host and the process id that the
    APIs' responses show. ``generation`` counts the specifications that it has had; ``base`` is the first version of the
    last one in the store, or of the sandbox that this one is to replace.
    """

    def __init__(
        self,
        spec: SandboxSpec,
        apis: Sequence[Any],
        *,
        store: Store | None = None,
        wall: Callable[[], int] = machine_now,
        is_stored: bool = True,
    ) -> None:
        """Create the sandbox in the store. Raises InputError if its scenarios cannot be served together."""
        self.name: Final = spec.name
        self.apis: Final = apis
        self.store: Final[Store] = MemoryStore() if store is None else store
        self.wall: Final = wall
        self.generation = self.base = 0
        self._version = -1
        self.spec = spec
        self._leased_until = wall() + (spec.ttl or 0)
        self._fold(spec)
        if is_stored:
            self.put()

    @classmethod
    def restored(cls, name: str, apis: Sequence[Any], *, store: Store, wall: Callable[[], int]) -> Sandbox:
        """Return a sandbox as its store has it. Raises SandboxDeleted."""
        spec = store.read(name, since=-1).spec
        assert spec is not None
        sandbox = cls(spec, apis, store=store, wall=wall, is_stored=False)
        sandbox.refresh(since=-1)
        return sandbox

    def put(self, **conditions: Any) -> bool:
        """Create the sandbox in the store on the conditions of ``Store.put``; return whether they hold."""
        version = self.store.put(self.spec, **conditions)
        if version is not None:
            self._version = self.base = version
            self.journal = self.store.journal(self.name, version)
            self._traces = Random(self.spec.seed)  # noqa: S311 (no secret)
        return version is not None

    def world(self, kind: type[W]) -> W:
        """Return the state of one API, by its class."""
        return self.worlds[kind.api]  # type: ignore[return-value]

    def operations_of(self, api: str, key: Hashable) -> tuple[OperationRecord, ...]:
        """Return the last operations requested of a task or dag, refused or not, in order."""
        return self.store.records(self.name, (api, key))

    @property
    def is_untouched(self) -> bool:
        """Return whether it has accepted no command and received no request."""
        return not self._accepted.total() and not self.journal.last

    def lease_left(self) -> int | None:
        """Return the span after which it is removed if no request comes, to any replica; None without a lease."""
        return None if self.spec.ttl is None else self._leased_until - self.wall()

    def renew(self) -> None:
        """Renew the lease; a replica renews it for longer, so that it need not at every request."""
        left, ttl = self.lease_left(), self.spec.ttl
        if left is not None and ttl is not None and left < ttl:
            span = ttl + (ttl // RENEWALS if self.store.replica else 0)
            self.store.renew(self.name, span)
            self._leased_until = self.wall() + span

    def next_due(self) -> int | None:
        """Return the next instant at which a task or dag changes without a request, or None."""
        now = self.clock.now()
        dues = (due for world in self.worlds.values() for due in world.due(now))
        return min((due for due in dues if due <= LATEST), default=None)

    def draw_trace_id(self) -> str:
        """Return the next trace id, of 16 hexadecimal digits, which follow from the seed where it was created."""
        return f"{self._traces.getrandbits(64):016x}"

    def stub_paths(self, api: str) -> list[str]:
        """Return the methods and paths of the stubs of an API, without refusals."""
        stubs = (stub for owner, _, stub, starts_on in self._stubs if owner == api and starts_on is None)
        return [f"{stub.method} {stub.path}" for stub in stubs]

    def find_stub(self, request: Any, starts_on: StartsOn | None = None) -> FoundStub | str:
        """Return the first stub that responds to a request, else why none does; "" where none has its path.

        With ``starts_on``, of the template that the request would start, only its refusals are looked at.
        """
        if not self._stubs:
            return ""
        received, reasons, views = StubRequest.of(request), list[str](), list[Any]()
        for number, (api, name, stub, refuses) in enumerate(self._stubs):
            if api != request.service.name or refuses is not starts_on or not stub.fits(received.method, received.path):
                continue
            views.append(self._view_of(number))
            why = stub.matches.difference(received) or self._why_unused(number, views[-1])
            if not why:
                return FoundStub(number, name, stub, received, tuple(views))
            reasons.append(f"stub {name!r} {why}")
        return f"{received.method} {received.path} has no response: {'; '.join(reasons)}." if reasons else ""

    def stubs_about(self, api: str, key: Hashable) -> list[str]:
        """Return a sentence about each stub whose condition is on a task or dag."""
        sentences = []
        for number, (owner, name, stub, _) in enumerate(self._stubs):
            view = self._view_of(number) if owner == api else None
            if view is not None and view.data.key == key:
                why = self._why_unused(number, view) or "responds"
                sentences.append(f"stub {name!r} of {stub.method} {stub.path} {why}")
        return sentences

    def _view_of(self, number: int) -> Any:
        """Return the task or dag that the condition of a stub is on; None without one."""
        api, _, stub, _ = self._stubs[number]
        of = None if stub.when is None else stub.when.of
        return None if of is None else self.worlds[api].newest(of)

    def _why_unused(self, number: int, view: Any) -> str:
        """Return why a stub responds to no request now, or ""."""
        stub = self._stubs[number][2]
        if stub.times is not None and self.store.count(self.name, ("stub", number), by=0) >= stub.times:
            return f"has answered {plural(stub.times, 'request')}"
        return "" if stub.when is None else str(stub.when.difference(view, self.started, self.clock.now()))

    def execute(self, command: Command | Callable[[], Command]) -> Any:
        """Apply a command, log it, and return its result; a function returns the command for the current state.

        Raises SandboxFull, SandboxDeleted, and the errors by which the API refuses it; then nothing has changed.
        """
        while True:
            self.refresh(claims=True)
            try:
                entry, result = self._evaluate(command() if callable(command) else command)
            except Exception:
                self.store.release(self.name)
                raise
            try:
                version = self.store.append(self.name, entry, expected_version=self._version)
            except StoreUnavailable:
                self._version = -1  # the command was applied here, and perhaps in the store
                with suppress(StoreUnavailable):
                    self.refresh()
                raise
            if version is not None:
                self._version = version
                if isinstance(entry.command, Operate):
                    self._record(entry.at, entry.command)
                return result
            self.refresh(since=-1)  # another process was faster: evaluate the command again after its own

    def _evaluate(self, command: Command) -> tuple[LogEntry, Any]:
        """Apply a command, and return the entry to append and the result. Raises the errors of ``execute``."""
        for kinds, limit, what in commands.MAX_ACCEPTED:
            if isinstance(command, kinds) and sum(self._accepted[kind] for kind in kinds) >= limit:
                raise SandboxFull(f"sandbox {self.name!r} has accepted {limit:,} {what}. Reset it, or use another one.")
        wall = self.wall()
        entry = LogEntry(self.clock.at(wall), wall, command)
        try:
            return entry, self._apply(entry)
        except OceanmockError as error:
            self._accepted[type(command)] -= 1
            if isinstance(command, commands.Load) or (
                isinstance(command, commands.Create) and isinstance(error, InputError)
            ):
                self.refresh(since=-1)  # some of it may have been added
            elif isinstance(command, Operate) and isinstance(error, CallerError):
                self._record(entry.at, command, str(error))
            raise

    def refresh(self, *, since: int | None = None, claims: bool = False) -> None:
        """Apply what other processes have appended to the log; -1 applies all of it anew. Raises SandboxDeleted."""
        changes = self.store.read(self.name, since=self._version if since is None else since, claims=claims)
        if changes.spec is not None:
            self._fold(changes.spec)
            if changes.base != self.base:
                self.base = changes.base
                self._traces = Random(f"{changes.spec.seed}/{self.store.replica}/{self.base}")  # noqa: S311 (no secret)
            assert changes.journal is not None
            self.journal = changes.journal
        if changes.lease_left is not None:
            self._leased_until = self.wall() + changes.lease_left
        for entry in changes.entries:
            self._apply(entry)
        self._version = changes.version

    def _record(self, at: int, command: Operate, refused: str = "") -> None:
        record = OperationRecord(at, command.operation, command.part, refused)
        self.store.record(self.name, (command.api, command.key), record)

    def advance(self, by: int) -> None:
        """Move the clock on by a span."""
        self.execute(lambda: commands.MoveClock(min(self.clock.now() + by, LATEST)))

    def note_read(self, kind: type[World[Any, Any, Any]], keys: Iterable[Any] | None = None) -> None:
        """Move a clock under ``polls`` to the next change of the tasks or dags that were read, by default of any."""
        if self.clock.progression == "polls":
            first = min(self.world(kind).due(self.clock.now(), keys), default=None)
            if first is not None:
                self.execute(commands.MoveClock(first))

    def take_stub(self, found: FoundStub) -> bool:
        """Count a response of a stub; return False if other requests have got its last one."""
        return self.store.count(self.name, ("stub", found.number)) <= (found.stub.times or inf)

    def delay_stub(self, found: FoundStub, fault: InjectedFault | None) -> InjectedFault | None:
        """Note that a stub's response reads the tasks or dags of conditions; return the fault with both delays."""
        keys = {view.data.key for view in found.views if view is not None}
        self.note_read(type(self.worlds[self._stubs[found.number][0]]), keys)
        delay = found.stub.delay
        if not delay:
            return fault
        fault = fault or InjectedFault(Fault.model_construct(delay=delay), "", 0, 0)
        return replace(fault, delay=fault.delay + delay)

    def _fold(self, spec: SandboxSpec) -> None:
        """Set the state that a specification begins with."""
        self.generation += 1
        self.server = FakeData(f"{spec.seed}").host
        self.pid = Random(f"{spec.seed}/pid").randrange(1000, 32768)  # noqa: S311 (no secret)
        self._accepted = Counter[type]()
        self.spec, self.accounts, start = spec, spec.accounts, spec.starts_at
        self.scenarios = scenarios = spec.scenarios
        if start is None and len(scenarios) == 1 and scenarios[0].starts_at is not None:
            start = nanoseconds_of(scenarios[0].starts_at)
        self.started = spec.created if start is None else start
        self.clock = Clock(
            spec.agreed_progression, starts_at=self.started, speed=spec.speed, wall=self.wall, created=spec.created
        )
        self._check_stubs(scenarios)
        worlds: dict[str, World[Any, Any, Any]] = {}
        for api in self.apis:
            options = {"seed": spec.seed, "switches": spec.switches.get(api.name, {}), "ports": spec.ports}
            own = _scenarios_of(api.name, scenarios)
            worlds[api.name] = api.module("world").new_world(self.clock, own, **options)
        self.worlds = worlds  # complete, as the faults below: the event loop may respond while a thread folds again
        # Each with its API and its name; a refusal also with the start that it refuses.
        self._stubs = list[tuple[str, str, Stub, StartsOn | None]]()
        faults = Faults(self.name, self.store, seed=spec.seed)
        self._add(scenarios, self.started, faults=faults)
        self.faults = faults

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
                return self.faults.add(command.fault)
            case commands.RemoveFault() | commands.ClearFaults():
                names = [command.name] if isinstance(command, commands.RemoveFault) else [*self.faults.by_name]
                return sum(map(self.faults.remove, names))
            case commands.Load(scenarios):
                self._check_stubs((*self.scenarios, *scenarios))
                for name, world in self.worlds.items():
                    world.check(_scenarios_of(name, scenarios), sandbox=self.name)
                self._add(scenarios, entry.at, faults=self.faults)
                self.scenarios = (*self.scenarios, *scenarios)
        return None

    def _check_stubs(self, scenarios: Sequence[BaseScenario]) -> None:
        """Raise InputError if there are more stubs, or more tasks or dags that start on a request, than allowed."""
        for api in self.apis:
            scripts = chain.from_iterable([getattr(scenario, api.scripts_key, ()) for scenario in scenarios])
            if len([script for script in scripts if getattr(script, "starts_on", None)]) > MAX_STUBS:
                raise InputError(f"more than {MAX_STUBS} {api.scripts_key} start on a request. Serve them apart.")
        if sum(len(scenario.stubs) for scenario in scenarios) > MAX_STUBS:
            raise InputError(f"a sandbox has at most {MAX_STUBS} stubs. Serve them apart.")

    def _add(self, scenarios: Sequence[BaseScenario], start: int, *, faults: Faults) -> None:
        """Add the faults, stubs and refusals of scenarios, and their tasks or dags, which begin at ``start``."""
        keys = {api.name: api.scripts_key for api in self.apis}
        for scenario in scenarios:
            for fault in scenario.faults:
                faults.add(fault)
            for number, stub in enumerate(scenario.stubs, start=1):
                self._stubs.append((scenario.api, stub.name or f"stub {number}", stub, None))
            for script in getattr(scenario, keys[scenario.api]):
                starts_on = getattr(script, "starts_on", None)
                for number, stub in enumerate(starts_on.refusals if starts_on else (), start=1):
                    name = f"refusal {number} of {script.name or stub.path}"
                    self._stubs.append((scenario.api, name, stub, starts_on))
        for name, world in self.worlds.items():
            world.populate(_scenarios_of(name, scenarios), start=start)


def _scenarios_of(api: str, scenarios: Sequence[BaseScenario]) -> list[BaseScenario]:
    return [scenario for scenario in scenarios if scenario.api == api]
