"""The mock, held to its own contracts: the scenarios are served, and a run goes over them.

Each API has its own: one sandbox with all scenarios that can be served at once, beside a world
that comes with oceanmock (``worlds/``), in which every status can be met; for obshell also a world
of a cluster, since no agent can give every answer. A further sandbox is made anew for each walk of
the lifecycle machine, and one for each scenario's own story. All are served on a real port, ask for
credentials, and hold their clocks still, so that the same seed asks the same. What a scenario does
wrong on purpose (its faults) is left out.

The one rule: whatever is served, every answer the contract names has to be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from oceanmock.apis import api_named, make_sandbox
from oceanmock.checks import Phase
from oceanmock.clock import SECOND
from oceanmock.conformance.baseline import Baseline
from oceanmock.conformance.coverage_gate import Kind
from oceanmock.conformance.model import Api, Event, Listener, Options, Result
from oceanmock.conformance.run import Environment, Run, judged, merged
from oceanmock.conformance.target import Target
from oceanmock.conformance.walker import walk_scenario
from oceanmock.credentials import Basic, Sealed
from oceanmock.engine.log import SandboxSpec
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.sandboxes import Sandboxes
from oceanmock.http.app import App
from oceanmock.http.server import AsgiApp, Server
from oceanmock.library import library_names, load_scenario
from oceanmock.obshell import scenario as obshell
from oceanmock.obshell.world import STORES, Dags, id_of
from oceanmock.ocp import scenario as ocp
from oceanmock.ocp.world import Tasks
from oceanmock.scenario.fields import BaseScenario

WORLDS: Final = Path(__file__).parent / "worlds"
COPIES: Final = 2
"""So many dags of each kind, so that there is another one to operate on."""
MOST_TASKS: Final = 60
"""A scenario with more is served apart: each read of a list would be of all of them."""
FEW: Final = 20
"""So many tasks of a scenario that is served apart are operated on."""
USER: Final = Basic("manager", "manager")
VIEWER: Final = Basic("viewer", "viewer")
Wrap = Callable[[AsgiApp], AsgiApp]
"""What stands around the app that is served: nothing, or what breaks it on purpose."""


def _as_it_is(app: AsgiApp) -> AsgiApp:
    return app


def _told_nobody(_: Event) -> None:
    """Listens, and does nothing."""


def conform_mock(
    api: Api,
    names: Sequence[str],
    options: Options,
    *,
    listen: Listener = _told_nobody,
    baseline: Baseline | None = None,
    wrap: Wrap = _as_it_is,
) -> Result:
    """What a run over scenarios comes to: of these names or files, or all that come with oceanmock.

    Of those named, the ones of the other API are left out. Raises AuthorError for what is no
    scenario. A KeyboardInterrupt ends it early.
    """
    scenarios = [each for each in load_scenarios(names) if each.api == api]
    with _Stage(api, scenarios, options, listen=listen, wrap=wrap) as stage:
        results = list(stage.runs())
    result = merged(results)
    what = ", ".join(names) if names else f"all {len(scenarios)} scenarios"
    result.target = f"the mock: {what}"
    result.command = _command(api, names, options)
    return judged(result, baseline=baseline, kinds=stage.kinds)


def load_scenarios(names: Sequence[str] = ()) -> list[BaseScenario]:
    """The scenarios of names and paths, or the whole library, each without its faults."""
    loaded = map(load_scenario, names or library_names())
    return [each.model_copy(update={"faults": ()}) for each in loaded]


def _command(api: Api, names: Sequence[str], options: Options) -> str:
    """What repeats the run."""
    said = f"oceanmock conform --mock {' '.join(names)}".rstrip()
    return f"{said} --api {api} --seed {options.seed} --max-examples {options.max_examples}"


# --- what is served -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class World:
    """Scenarios that are served in one sandbox; ``kind`` says what their agent is."""

    name: str
    scenarios: tuple[BaseScenario, ...]
    kind: Kind = "agent"

    @property
    def spec(self) -> SandboxSpec:
        """Return the specification of its sandbox, in which time stands."""
        return SandboxSpec(self.scenarios, progression="manual")


def worlds_of(api: Api, scenarios: Sequence[BaseScenario]) -> tuple[list[World], list[World]]:
    """The worlds in which every status can be met, and one for each scenario served apart."""
    together = _those_that_agree([each for each in scenarios if _size_of(each) <= MOST_TASKS])
    apart = [World(each.name, (each,)) for each in scenarios if each not in together]
    first = World("world", (_calibration(api, together), *together))
    others = [World("cluster", (_calibration("obshell-cluster"),), "cluster")]
    return [first, *(others if api == "obshell" else [])], apart


def _those_that_agree(scenarios: Sequence[BaseScenario]) -> list[BaseScenario]:
    """Those with the settings that most of them have; of equals, those of the first."""
    settings = [_settings_of(each) for each in scenarios]
    most = max(settings, key=settings.count, default=None)
    return [each for each, said in zip(scenarios, settings, strict=True) if said == most]


def _settings_of(scenario: BaseScenario) -> tuple[object, ...]:
    agent = scenario.agent if isinstance(scenario, obshell.Scenario) else None
    return scenario.switches, agent


def _size_of(scenario: BaseScenario) -> int:
    if isinstance(scenario, ocp.Scenario):
        return sum(task.repeat.count if task.repeat else 1 for task in scenario.tasks)
    return len(scenario.scripts)


def _calibration(name: str, beside: Sequence[BaseScenario] = ()) -> BaseScenario:
    """A world that comes with oceanmock, as it fits beside some scenarios."""
    world = load_scenario(WORLDS / f"{name}.yaml")
    if not isinstance(world, obshell.Scenario):
        return world
    several = {each.agent for each in beside if isinstance(each, obshell.Scenario)}
    agent = several.pop() if several else obshell.Agent()
    own = {"agent": world.agent if agent == obshell.Agent() else agent}
    return world.model_copy(update={"dags": world.dags * COPIES, **own})


# --- what is done with it -------------------------------------------------------------------------


class _Stage:
    """A server with the sandboxes of one API's runs, as a context manager."""

    def __init__(
        self,
        api: Api,
        scenarios: Sequence[BaseScenario],
        options: Options,
        *,
        listen: Listener,
        wrap: Wrap,
    ) -> None:
        self.api: Final = api
        self.scenarios: Final = scenarios
        self.options: Final = replace(options, write=True, rate=0.0)
        self.worlds, self.apart = worlds_of(api, scenarios)
        self.kinds: Final = [each.kind for each in self.worlds]
        self.sandboxes: Final = Sandboxes(make_sandbox())
        self._server = Server(wrap(App(self.sandboxes)))
        self._listen = listen

    def __enter__(self) -> _Stage:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def runs(self) -> Iterator[Result]:
        """The result of each run, until one is interrupted."""
        for run in self._planned():
            run.client.may_change_everything()
            run.go()
            yield run.result()
            if run.interrupted:
                return

    def _planned(self) -> Iterator[Run]:
        phases = self.options.phases
        for world in self.worlds:
            yield self._run(world, phases - {"machine"})
        for world in self.apart:
            yield self._run(world, phases & {"probes"}, most=FEW)
        if "machine" in phases:
            yield self._walks()
        for scenario in self.scenarios:
            yield self._story(scenario)

    def _run(self, world: World, phases: frozenset[Phase], *, most: int = MOST_TASKS**2) -> Run:
        """Some phases over one world, of which so many tasks may be operated on."""
        sandbox = self.sandboxes.create(world.name, world.spec)
        return self._on(sandbox, world, phases=phases, tasks=_some(list(_ids_in(sandbox)), most))

    def _walks(self) -> Run:
        """The lifecycle machine, in its own world, which is made anew before each walk."""
        scenario = walk_scenario(self.api)
        world = World("machine", (scenario,))
        sandbox = self.sandboxes.create(world.name, world.spec)
        return self._on(
            sandbox,
            world,
            phases=frozenset({"machine"}),
            tasks=tuple(api_named(self.api).walk.ids_in(scenario)),
            is_made_anew=True,
        )

    def _story(self, scenario: BaseScenario) -> Run:
        """A scenario's own story, in a sandbox of its own."""
        world = World(f"story.{scenario.name}", (scenario,))
        sandbox = self.sandboxes.create(world.name, world.spec)
        return self._on(sandbox, world, told=(scenario,))

    def _on(
        self,
        sandbox: Sandbox,
        world: World,
        *,
        phases: frozenset[Phase] = frozenset(),
        tasks: tuple[str, ...] = (),
        told: tuple[BaseScenario, ...] = (),
        is_made_anew: bool = False,
    ) -> Run:
        """A run over a sandbox in which a world is served."""
        name = sandbox.name
        environment = Environment(
            wait=lambda seconds: self._advance(name, seconds),
            is_ours=True,
            reset=partial(self._reset, name) if is_made_anew else None,
            knowledge=_knowledge_of(self.api, sandbox, world),
        )
        options = replace(self.options, phases=phases, tasks=tasks)
        target = self._target(sandbox)
        return Run(target, options, listen=self._listen, environment=environment, told=told)

    def _advance(self, name: str, seconds: float) -> None:
        """Lets time pass in a sandbox, even when it was made anew meanwhile."""
        self.sandboxes.get(name).clock.advance(round(seconds * SECOND))

    def _reset(self, name: str) -> None:
        self.sandboxes.reset(name)

    def _target(self, sandbox: Sandbox) -> Target:
        url = f"{self._server.url}/sandboxes/{sandbox.name}"
        if self.api == "ocp":
            return Target(url, "ocp", auth=USER, read_only_auth=VIEWER)
        agent = sandbox.world(Dags).agent
        return Target(
            url,
            "obshell",
            auth=Sealed(agent.root_password or "", agent.agent_password),
            version=sandbox.world(Dags).switches.obshell_version,
            own_address=(agent.ip, agent.port),
            identity=agent.identity,
        )


def _knowledge_of(api: Api, sandbox: Sandbox, world: World) -> Any:
    """Return what is known of a sandbox beyond its responses."""
    version = sandbox.world(Dags).switches.obshell_version
    return api_named(api).walk.mock_knowledge(world.scenarios, version)


def _some(ids: Sequence[str], most: int) -> tuple[str, ...]:
    """At most so many, evenly from first to last."""
    return tuple(ids[:: max(1, -(-len(ids) // most))])


def _ids_in(sandbox: Sandbox) -> Iterator[str]:
    """The ids of all tasks and dags."""
    for view in sandbox.world(Tasks).all():
        yield str(view.task.id)
    for store in STORES:
        for dag_view in sandbox.world(Dags).all(store):
            yield id_of(dag_view.dag, dag_view.dag.number)
