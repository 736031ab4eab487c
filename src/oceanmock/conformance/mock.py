"""Check the mock against its own contracts: serve scenarios, and run against them.

Each API has one sandbox with all scenarios that can be served together, and with a scenario of oceanmock's own
(``worlds/``) in which every status occurs; obshell also has one of a cluster, since no single agent can return every
response. A further sandbox is reset for each walk, and each story has its own. All are served on a real port, require
credentials, have no faults, and have manual clocks, so that the same seed makes the same requests.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from oceanmock.apis import api_named, make_sandbox
from oceanmock.checks import Phase
from oceanmock.clock import SECOND
from oceanmock.conformance import PHASES, ApiName, Listener, Options, Result
from oceanmock.conformance.checks import missing
from oceanmock.conformance.run import Runner
from oceanmock.credentials import Basic, Sealed
from oceanmock.engine.log import SandboxSpec
from oceanmock.engine.sandboxes import Sandboxes
from oceanmock.http import AsgiApp
from oceanmock.http.app import App
from oceanmock.http.server import Server
from oceanmock.library import library_names, load_scenario
from oceanmock.observations import Target, TargetKind
from oceanmock.obshell import scenario as obshell
from oceanmock.obshell.world import Dags
from oceanmock.scenario import BaseScenario

WORLDS: Final = Path(__file__).parent / "worlds"
COPIES: Final = 2  # the copies of each dag, so that one is left after an operation on the other
MAX_TASKS_TOGETHER: Final = 60
"""A scenario with more tasks is served alone, or every list would contain them."""
MAX_TASKS_APART: Final = 20  # the most tasks of a scenario served alone that are operated on
Wrap = Callable[[AsgiApp], AsgiApp]


def conform_mock(
    api: ApiName,
    names: Sequence[str],
    options: Options,
    *,
    listen: Listener = lambda _: None,
    wrap: Wrap = lambda app: app,
) -> Result:
    """Return the result of a run over the named scenarios of an API, or over those of the library.

    Raises InputError for an unknown name. A KeyboardInterrupt ends the run early.
    """
    scenarios = [item for item in load_scenarios(names) if item.api == api]
    worlds, apart = worlds_of(api, scenarios)
    parts = [*worlds, *apart]
    if "machine" in options.phases:
        parts.append(MockWorld("machine", (walk_scenario(api),), phases=frozenset({"machine"})))
    of_one_server = [item for item in scenarios if len(getattr(item, "members", "1")) == 1]  # a target has one URL
    parts += [MockWorld(f"story.{item.name}", (item,), phases=frozenset({"story"})) for item in of_one_server]
    what = ", ".join(names) if names else f"all {len(scenarios)} scenarios"
    result = Result(f"the mock: {what}", api, seed=options.seed, writes=True)
    sandboxes = Sandboxes(make_sandbox())
    with Server(wrap(App(sandboxes))) as server:
        for world in parts:
            _runner(world, options, result, server=server, sandboxes=sandboxes, listen=listen).go()
            if result.interrupted:
                break
    result.missing = missing(result, [world.kind for world in worlds])
    return result


def load_scenarios(names: Sequence[str] = ()) -> list[BaseScenario]:
    """Return the scenarios of names and paths, or the library, without faults."""
    loaded = map(load_scenario, names or library_names())
    return [item.model_copy(update={"faults": ()}) for item in loaded]


@dataclass(frozen=True, slots=True)
class MockWorld:
    """Scenarios that are served in one sandbox, and the phases that run there.

    ``kind`` is the kind of their agent. At most ``max_tasks`` are operated on. With the phase machine the sandbox is
    reset for each walk; with the phase story the scenarios' stories are replayed.
    """

    name: str
    scenarios: tuple[BaseScenario, ...]
    kind: TargetKind = "agent"
    phases: frozenset[Phase] = frozenset(PHASES) - {"machine"}
    max_tasks: int = sys.maxsize


def worlds_of(api: ApiName, scenarios: Sequence[BaseScenario]) -> tuple[list[MockWorld], list[MockWorld]]:
    """Return the worlds in which every status occurs, and one for each scenario that is served alone.

    The scenarios with the most frequent settings are served together; of equally frequent ones the first.
    """
    small = []
    for item in scenarios:
        repeats = [getattr(script, "repeat", None) for script in getattr(item, api_named(api).scripts_key)]
        if sum(repeat.count if repeat else 1 for repeat in repeats) <= MAX_TASKS_TOGETHER:
            small.append(item)
    settings = [(item.switches, getattr(item, "members", None)) for item in small]
    most = max(settings, key=settings.count, default=None)
    together = [item for item, own in zip(small, settings, strict=True) if own == most]
    alone = [item for item in scenarios if item not in together]
    probed = frozenset[Phase]({"probes"})
    apart = [MockWorld(item.name, (item,), phases=probed, max_tasks=MAX_TASKS_APART) for item in alone]
    worlds = [MockWorld("world", (_calibration(api, together), *together))]
    if (WORLDS / f"{api}-cluster.yaml").exists():
        worlds.append(MockWorld("cluster", (_calibration(f"{api}-cluster"),), "cluster"))
    return worlds, apart


def _calibration(name: str, beside: Sequence[BaseScenario] = ()) -> BaseScenario:
    """Return a scenario from ``worlds/`` with the agent of the scenarios that are served beside it."""
    world = load_scenario(WORLDS / f"{name}.yaml")
    if not isinstance(world, obshell.Scenario):
        return world
    agents = [it for it in beside if isinstance(it, obshell.Scenario) and it.stands_alone]
    own = {"agent": agents[0].agent, "agents": agents[0].agents} if agents else {}
    return world.model_copy(update={"dags": world.dags * COPIES, **own})


def _runner(
    world: MockWorld, options: Options, result: Result, *, server: Server, sandboxes: Sandboxes, listen: Listener
) -> Runner:
    """Return a run over a new sandbox with a manual clock."""
    first, *_ = scenarios = world.scenarios
    name, api, is_reset = world.name, api_named(first.api), "machine" in world.phases
    sandbox = sandboxes.create(name, SandboxSpec(scenarios, progression="manual"))
    dags = sandbox.world(Dags)

    def wait(seconds: float) -> None:
        sandboxes.get(name).clock.advance(round(seconds * SECOND))  # it may have been reset

    ids = [item.id for item in sandbox.worlds[first.api].items()]
    step = -(-len(ids) // world.max_tasks)  # rounded up, to take ids evenly from first to last
    agent, version = dags.agents[0], dags.switches.obshell_version
    own: dict[str, Any] = {"auth": Basic("manager", "manager"), "read_only_auth": Basic("viewer", "viewer")}
    if isinstance(first, obshell.Scenario):
        auth = Sealed(agent.root_password or "", agent.agent_password)
        own = {"auth": auth, "version": version, "own_address": (agent.ip, agent.port), "identity": agent.identity}
    target = Target(
        f"{server.url}/sandboxes/{name}",
        result.api,
        **own,
        is_ours=True,
        wait=wait,
        reset=partial(sandboxes.reset, name) if is_reset else None,
        knowledge=api.conformance.knowledge(version, scenarios),
        opted_in=api.conformance.opted_in(scenarios),
    )
    result.version = result.version or target.version
    tasks, phases = tuple(ids[:: max(1, step)]), options.phases & world.phases
    stories = scenarios if "story" in world.phases else ()
    own_options = replace(options, write=True, rate=0.0, phases=phases, tasks=tasks, stories=stories)
    return Runner(target, own_options, result, listen=listen)


def walk_scenario(api: ApiName) -> BaseScenario:
    """Return the scenario for walks; together its tasks or dags reach every state."""
    return load_scenario(WORLDS / f"{api}-walk.yaml")
