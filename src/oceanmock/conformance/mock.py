"""Check the mock against its own contracts: serve the scenarios, and run over them.

Each API has one sandbox with all scenarios that can be served together, beside a world that comes
with oceanmock (``worlds/``) in which every status occurs; obshell also has the world of a cluster,
since no single agent can give every response. A further sandbox is reset for each walk, and each
scenario's story has its own. All are served on a real port, require credentials, and have manual
clocks, so that the same seed makes the same requests. The scenarios' faults are left out. Every
response of the contract is required, whatever is served.
"""

from __future__ import annotations

import sys
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
from oceanmock.conformance.model import Api, Listener, Options, Result
from oceanmock.conformance.run import Environment, Run, ignore, judged, merged
from oceanmock.conformance.target import Target
from oceanmock.conformance.walker import walk_scenario
from oceanmock.credentials import Basic, Sealed
from oceanmock.engine.log import SandboxSpec
from oceanmock.engine.sandbox import Sandbox, Sandboxes
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
"""The copies of each dag, so that there is another one to operate on."""
MAX_TASKS_TOGETHER: Final = 60
"""A scenario with more tasks is served alone: every read of a list would contain all of them."""
MAX_TASKS_APART: Final = 20
"""The tasks of a scenario served alone that are operated on."""
USER: Final = Basic("manager", "manager")
VIEWER: Final = Basic("viewer", "viewer")
Wrap = Callable[[AsgiApp], AsgiApp]
"""A wrapper of the served app, such as one that breaks it on purpose."""


def _unwrapped(app: AsgiApp) -> AsgiApp:
    return app


def conform_mock(
    api: Api,
    names: Sequence[str],
    options: Options,
    *,
    listen: Listener = ignore,
    baseline: Baseline | None = None,
    wrap: Wrap = _unwrapped,
) -> Result:
    """Return the result of a run over named scenarios, or over the library.

    Scenarios of another API are left out. Raises AuthorError for a name without a scenario. A
    KeyboardInterrupt ends the run early.
    """
    scenarios = [item for item in load_scenarios(names) if item.api == api]
    with _MockRuns(api, scenarios, options, listen=listen, wrap=wrap) as runs:
        results = list(runs.results())
    result = merged(results)
    what = ", ".join(names) if names else f"all {len(scenarios)} scenarios"
    result.target = f"the mock: {what}"
    result.command = _command(api, names, options)
    return judged(result, baseline=baseline, kinds=runs.kinds)


def load_scenarios(names: Sequence[str] = ()) -> list[BaseScenario]:
    """Return the scenarios of names and paths, or the library, without faults."""
    loaded = map(load_scenario, names or library_names())
    return [item.model_copy(update={"faults": ()}) for item in loaded]


def _command(api: Api, names: Sequence[str], options: Options) -> str:
    command = f"oceanmock conform --mock {' '.join(names)}".rstrip()
    return f"{command} --api {api} --seed {options.seed} --max-examples {options.max_examples}"


# --- worlds ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class World:
    """Scenarios that are served in one sandbox; ``kind`` is the kind of their agent."""

    name: str
    scenarios: tuple[BaseScenario, ...]
    kind: Kind = "agent"

    @property
    def spec(self) -> SandboxSpec:
        """Return the specification of its sandbox, in which time stands."""
        return SandboxSpec(self.scenarios, progression="manual")


def worlds_of(api: Api, scenarios: Sequence[BaseScenario]) -> tuple[list[World], list[World]]:
    """Return the worlds in which every status occurs, and one per scenario served alone."""
    together = _compatible([item for item in scenarios if _size_of(item) <= MAX_TASKS_TOGETHER])
    apart = [World(item.name, (item,)) for item in scenarios if item not in together]
    first = World("world", (_calibration(api, together), *together))
    others = [World("cluster", (_calibration("obshell-cluster"),), "cluster")]
    return [first, *(others if api == "obshell" else [])], apart


def _compatible(scenarios: Sequence[BaseScenario]) -> list[BaseScenario]:
    """Return the scenarios with the most frequent settings; of equals, the first one's."""
    settings = [_settings_of(item) for item in scenarios]
    most = max(settings, key=settings.count, default=None)
    return [item for item, own in zip(scenarios, settings, strict=True) if own == most]


def _settings_of(scenario: BaseScenario) -> tuple[object, ...]:
    agent = scenario.agent if isinstance(scenario, obshell.Scenario) else None
    return scenario.switches, agent


def _size_of(scenario: BaseScenario) -> int:
    if isinstance(scenario, ocp.Scenario):
        return sum(task.repeat.count if task.repeat else 1 for task in scenario.tasks)
    return len(getattr(scenario, api_named(scenario.api).scripts_key))


def _calibration(name: str, beside: Sequence[BaseScenario] = ()) -> BaseScenario:
    """Return a world that comes with oceanmock, adapted to the scenarios beside it."""
    world = load_scenario(WORLDS / f"{name}.yaml")
    if not isinstance(world, obshell.Scenario):
        return world
    agents = {item.agent for item in beside if isinstance(item, obshell.Scenario)}
    agent = agents.pop() if agents else obshell.Agent()
    own = {"agent": world.agent if agent == obshell.Agent() else agent}
    return world.model_copy(update={"dags": world.dags * COPIES, **own})


# --- runs -----------------------------------------------------------------------------------------


class _MockRuns:
    """The runs of one API, and the server with their sandboxes, as a context manager."""

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
        self.kinds: Final = [item.kind for item in self.worlds]
        self.sandboxes: Final = Sandboxes(make_sandbox())
        self._server = Server(wrap(App(self.sandboxes)))
        self._listen = listen

    def __enter__(self) -> _MockRuns:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def results(self) -> Iterator[Result]:
        """Yield the result of each run, until one is interrupted."""
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
            yield self._run(world, phases & {"probes"}, limit=MAX_TASKS_APART)
        if "machine" in phases:
            yield self._walks()
        for scenario in self.scenarios:
            yield self._story(scenario)

    def _run(self, world: World, phases: frozenset[Phase], *, limit: int = sys.maxsize) -> Run:
        """Return a run of some phases over one world, with a limit of tasks to operate on."""
        sandbox = self.sandboxes.create(world.name, world.spec)
        return self._on(sandbox, world, phases=phases, tasks=_spread(list(_ids_in(sandbox)), limit))

    def _walks(self) -> Run:
        """Return the walks in their own world, which is reset before each of them."""
        scenario = walk_scenario(self.api)
        world = World("machine", (scenario,))
        sandbox = self.sandboxes.create(world.name, world.spec)
        return self._on(
            sandbox,
            world,
            phases=frozenset({"machine"}),
            tasks=tuple(api_named(self.api).conformance.ids_in(scenario)),
            is_reset=True,
        )

    def _story(self, scenario: BaseScenario) -> Run:
        """Return the replay of a scenario's story, in a sandbox of its own."""
        world = World(f"story.{scenario.name}", (scenario,))
        sandbox = self.sandboxes.create(world.name, world.spec)
        return self._on(sandbox, world, stories=(scenario,))

    def _on(
        self,
        sandbox: Sandbox,
        world: World,
        *,
        phases: frozenset[Phase] = frozenset(),
        tasks: tuple[str, ...] = (),
        stories: tuple[BaseScenario, ...] = (),
        is_reset: bool = False,
    ) -> Run:
        """Return a run over the sandbox of a world."""
        name = sandbox.name
        environment = Environment(
            wait=lambda seconds: self._advance(name, seconds),
            is_ours=True,
            reset=partial(self._reset, name) if is_reset else None,
            knowledge=_knowledge_of(self.api, sandbox, world),
        )
        options = replace(self.options, phases=phases, tasks=tasks)
        target = self._target(sandbox)
        return Run(target, options, listen=self._listen, environment=environment, stories=stories)

    def _advance(self, name: str, seconds: float) -> None:
        """Let time pass in a sandbox, even if it was reset meanwhile."""
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
    return api_named(api).conformance.knowledge(version, world.scenarios)


def _spread(ids: Sequence[str], limit: int) -> tuple[str, ...]:
    """Return at most ``limit`` ids, evenly from first to last."""
    return tuple(ids[:: max(1, -(-len(ids) // limit))])


def _ids_in(sandbox: Sandbox) -> Iterator[str]:
    """Yield the ids of all tasks and dags."""
    for view in sandbox.world(Tasks).all():
        yield str(view.task.id)
    for store in STORES:
        for dag_view in sandbox.world(Dags).all(store):
            yield id_of(dag_view.dag, dag_view.dag.number)
