"""A sandbox: tasks, dags, a clock and switches of its own.

One clock drives both APIs. What a scenario leaves out is filled by faker from the sandbox's seed:
the same seed gives the same names, ids and addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from random import Random
from typing import Any, Final, TypeVar, get_args

from oceanmock.clock import Clock, Progression
from oceanmock.engine.accounts import Accounts
from oceanmock.engine.fake_data import FakeData
from oceanmock.engine.faults import Faults
from oceanmock.errors import AuthorError
from oceanmock.journal import Journal
from oceanmock.obshell import scenario as obshell
from oceanmock.obshell.world import Dags, Store
from oceanmock.ocp import scenario as ocp
from oceanmock.ocp.world import Tasks, ids_of
from oceanmock.scenario.faults import Fault
from oceanmock.scenario.fields import BaseScenario
from oceanmock.text import nanoseconds_of

STORES: Final[tuple[Store, ...]] = get_args(Store)

W = TypeVar("W")
Setting = TypeVar("Setting", bound=Hashable)
Recipe = Callable[[Sequence[BaseScenario]], "Sandbox"]
"""Makes a sandbox anew, with more scenarios than those it was made with, if there are any."""


class Sandbox:
    """Tasks of OCP and dags of obshell that live by one clock; what was said, what goes wrong.

    Made by ``of_scenarios``. ``name`` is what requests call it, ``started`` the instant its clock
    began at; ``server`` and ``pid`` are what OCP and obshell tell of their own process;
    ``scenarios`` are those that it was made with, or that were loaded since.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        name: str = "default",
        seed: int = 0,
        accounts: Accounts | None = None,
        switches: ocp.Switches | None = None,
        agent: obshell.Agent | None = None,
        obshell_switches: obshell.Switches | None = None,
        faults: Iterable[Fault] = (),
    ) -> None:
        self.name: Final = name
        self.clock: Final = clock
        self.seed: Final = seed
        self.accounts = accounts or Accounts()
        self.started: Final = clock.now()
        self.server: Final = FakeData(f"{seed}").host
        self.pid: Final = Random(f"{seed}/pid").randrange(1000, 32768)  # noqa: S311 (reproducible)
        self._tasks: Final = Tasks(clock, switches or ocp.Switches())
        self._dags: Final = Dags(
            clock, agent or obshell.Agent(), obshell_switches or obshell.Switches()
        )
        self._worlds: Final[dict[type, Any]] = {Tasks: self._tasks, Dags: self._dags}
        self.journal: Final = Journal()
        self.faults: Final = Faults(faults, seed=seed)
        self._traces = Random(seed)  # noqa: S311 (the same seed, the same trace ids)
        self.scenarios: tuple[BaseScenario, ...] = ()
        self._recipe: Recipe = lambda more: Sandbox(clock, name=name, seed=seed)._with(more)
        self._made = self._traits()

    @classmethod
    def of_scenarios(
        cls,
        scenarios: Sequence[BaseScenario],
        *,
        name: str = "default",
        progression: Progression | None = None,
        speed: float = 1.0,
        seed: int = 0,
        starts_at: int | None = None,
        accounts: Accounts | None = None,
        switches: ocp.Switches | None = None,
        obshell_switches: obshell.Switches | None = None,
    ) -> Sandbox:
        """A sandbox in which all tasks and dags of these scenarios live.

        What is given here outranks what the files say; where files disagree on the progression,
        `time` is taken, and a file's own start counts only when it is alone. Raises AuthorError
        when they disagree on a switch or on the agent, or when two of them use the same id.
        """
        start = starts_at if starts_at is not None else _starts_at(scenarios)
        chosen = progression or progression_of(scenarios)
        agreed = switches_of(scenarios)
        of_ocp, of_obshell = _of_each(scenarios)
        sandbox = cls(
            Clock(chosen, starts_at=start, speed=speed),
            name=name,
            seed=seed,
            accounts=accounts,
            switches=switches or agreed[0],
            agent=_agreed(of_obshell, "agents", obshell.Agent(), lambda each: each.agent),
            obshell_switches=obshell_switches or agreed[1],
            faults=[fault for each in scenarios for fault in each.faults],
        )
        sandbox.scenarios = tuple(scenarios)
        begin = sandbox.started if start is None else start
        sandbox._populate(of_ocp, of_obshell, start=begin, ticks=begin)
        sandbox._made = sandbox._traits()
        sandbox.remake_by(
            lambda more: cls.of_scenarios(
                [*scenarios, *more],
                name=name,
                progression=progression,
                speed=speed,
                seed=seed,
                starts_at=starts_at,
                accounts=accounts,
                switches=switches,
                obshell_switches=obshell_switches,
            )
        )
        return sandbox

    def world(self, kind: type[W]) -> W:
        """Return the state of one API here, by its class."""
        world: W = self._worlds[kind]
        return world

    def remake_by(self, recipe: Recipe) -> None:
        """From now on it is made anew by this, which is given the scenarios to be added to it."""
        self._recipe = recipe

    def anew(self, more: Sequence[BaseScenario] = ()) -> Sandbox:
        """The same sandbox as it was when it was made; with more scenarios, if there are any.

        Raises AuthorError where those do not go with the ones it was made with.
        """
        return self._recipe(more)

    @property
    def is_untouched(self) -> bool:
        """Whether nothing has been asked of it, added to it or changed since it was made."""
        return self._traits() == self._made

    def load(self, scenarios: Sequence[BaseScenario]) -> None:
        """Lets scenarios live here from now on: their tasks are born, their faults stand.

        Their own start and progression count for nothing. Raises AuthorError when they set other
        switches than it has, come from another agent, or use an id or name that is taken; then
        nothing has changed.
        """
        of_ocp, of_obshell = _of_each(scenarios)
        self._check_switches(of_ocp, self._tasks.switches)
        self._check_switches(of_obshell, self._dags.switches)
        self._check_agent(of_obshell)
        faults = [fault for each in scenarios for fault in each.faults]
        self._check_faults(faults)
        undo = self._tasks.remember(), self._dags.remember()
        try:
            self._populate(of_ocp, of_obshell, start=self.clock.now(), ticks=self.started)
        except AuthorError:
            for forget in undo:
                forget()
            raise
        for fault in faults:
            self.faults.add(fault)
        self.scenarios += tuple(scenarios)

    def _with(self, scenarios: Sequence[BaseScenario]) -> Sandbox:
        """Itself, as if it had been made with these scenarios, too."""
        recipe = self._recipe
        self.load(scenarios)
        self._recipe = lambda more: recipe([*scenarios, *more])
        self._made = self._traits()
        return self

    def draw_trace_id(self) -> str:
        """16 hexadecimal digits; the same seed, the same row of them."""
        return f"{self._traces.getrandbits(64):016x}"

    def next_due(self) -> int | None:
        """The next instant at which a task or dag changes, if nobody interferes; or None."""
        return min(self._all_due(), default=None)

    def set_clock(
        self, *, progression: Progression | None = None, speed: float | None = None
    ) -> None:
        """Changes how time passes, without a jump; under `immediate` all that is due happens."""
        self.clock.set(progression=progression, speed=speed)
        for task in (view.task for view in self._tasks.all()):
            self.clock.settle(task.born + self._tasks.life_of(task.id).states[-1].at)
        for dag in (view.dag for store in STORES for view in self._dags.all(store)):
            life = self._dags.life_of((dag.store, dag.number))
            self.clock.settle(dag.born + life.states[-1].at)

    def _all_due(self) -> Iterator[int]:
        now = self.clock.now()
        yield from self._tasks.all_due(now)
        yield from self._dags.all_due(now)

    def _traits(self) -> tuple[Hashable, ...]:
        """What would be otherwise if anything had happened here."""
        return (
            self.journal.last,
            len(self._tasks.all()),
            sum(len(self._dags.all(store)) for store in STORES),
            tuple(tally.name for tally in self.faults.all()),
            self.clock.progression,
            self.clock.speed,
            self.clock.origin,
            len(self.scenarios),
        )

    def _check_switches(self, scenarios: Sequence[Written], ours: Setting) -> None:
        for each in scenarios:
            if each.switches not in (ours, type(each.switches)()):
                raise AuthorError(
                    f"scenario {each.name!r} sets other switches than sandbox {self.name!r} has, "
                    "which is in use. Load it into a fresh one."
                )

    def _check_agent(self, scenarios: Sequence[obshell.Scenario]) -> None:
        for each in scenarios:
            if each.agent not in (self._dags.began_as, obshell.Agent()):
                raise AuthorError(
                    f"scenario {each.name!r} is of another agent than sandbox {self.name!r}, "
                    "which is in use. Load it into a fresh one."
                )

    def _check_faults(self, faults: Iterable[Fault]) -> None:
        names = [tally.name for tally in self.faults.all()]
        for fault in faults:
            if fault.name in names:
                raise AuthorError(
                    f"there is a fault {fault.name!r} already. Give this one another name."
                )
            names += [fault.name] if fault.name else []

    def _populate(
        self,
        of_ocp: Sequence[ocp.Scenario],
        of_obshell: Sequence[obshell.Scenario],
        *,
        start: int,
        ticks: int,
    ) -> None:
        """Bears the tasks and dags of scenarios that begin at ``start``; at ``ticks`` is a tick."""
        tasks = [view.task for view in self._tasks.all()]
        taken = {task.id for task in tasks} | {each.id for task in tasks for each in task.subtasks}
        taken |= {id for scenario in of_ocp for id in ids_of(scenario)}
        for scenario in of_ocp:
            filler = FakeData(f"{self.seed}/{scenario.name}", taken)
            self._tasks.add(scenario, filler, start=start, first_tick=ticks)
        written = [(dag, each) for each in of_obshell for dag in each.dags if not dag.starts_on]
        # Those with a number of their own first, so that what has none gets one that stays free.
        for dag, each in sorted(written, key=lambda found: found[0].id is None):
            self._dags.add(
                dag,
                born=start - dag.age,
                tick=each.tick,
                first_tick=ticks + each.phase,
                filler=FakeData(f"{self.seed}/{each.name}/{dag.name}"),
            )
        for each in of_obshell:
            for place, dag in enumerate(each.dags):
                seed = f"{self.seed}/{each.name}/{place}"
                self._dags.hold(dag, tick=each.tick, first_tick=ticks + each.phase, seed=seed)


def progression_of(
    scenarios: Sequence[BaseScenario], *, otherwise: Progression = "time"
) -> Progression:
    """The progression that all scenarios want; `time` where they disagree.

    ``otherwise`` is what those want that say nothing.
    """
    wanted = {
        each.progression if "progression" in each.model_fields_set else otherwise
        for each in scenarios
    }
    return min(wanted, default=otherwise) if len(wanted) < 2 else "time"


def switches_of(scenarios: Sequence[BaseScenario]) -> tuple[ocp.Switches, obshell.Switches]:
    """The switches the scenarios agree on, of each API: those that set none take the others'.

    Raises AuthorError when they disagree.
    """
    of_ocp, of_obshell = _of_each(scenarios)
    return (
        _agreed(of_ocp, "switches", ocp.Switches(), lambda each: each.switches),
        _agreed(of_obshell, "switches", obshell.Switches(), lambda each: each.switches),
    )


Written = TypeVar("Written", ocp.Scenario, obshell.Scenario)


def _agreed(
    scenarios: Sequence[Written], what: str, default: Setting, of: Callable[[Written], Setting]
) -> Setting:
    """The one setting of those that set any. Raises AuthorError when they set different ones."""
    given = {each.name: of(each) for each in scenarios if of(each) != default}
    if len(set(given.values())) > 1:
        raise AuthorError(f"scenarios {', '.join(given)} set different {what}. Serve them apart.")
    return next(iter(given.values()), default)


def _of_each(
    scenarios: Sequence[BaseScenario],
) -> tuple[list[ocp.Scenario], list[obshell.Scenario]]:
    """The scenarios of OCP, and those of obshell."""
    return (
        [each for each in scenarios if isinstance(each, ocp.Scenario)],
        [each for each in scenarios if isinstance(each, obshell.Scenario)],
    )


def _starts_at(scenarios: Sequence[BaseScenario]) -> int | None:
    start = scenarios[0].starts_at if len(scenarios) == 1 else None
    return None if start is None else nanoseconds_of(start)
