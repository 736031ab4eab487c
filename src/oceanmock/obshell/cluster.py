"""The agents of a sandbox: one, or those of a cluster; their identities, and what a scenario may state of them.

Which agent keeps a dag, and which responds to a request, is decided elsewhere (``world``, ``handlers``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from oceanmock.clock import Clock
from oceanmock.engine.world import Key, V, World, agreed_setting
from oceanmock.errors import Issue, Loc
from oceanmock.obshell import machine
from oceanmock.obshell.agent import Agent, Makes
from oceanmock.text import plural

if TYPE_CHECKING:
    from oceanmock.obshell.scenario import Scenario


class ClusterWorld(World[Key, V]):
    """A world of one agent, or of several.

    ``initial_agents`` are the agents before any dag that changes them has succeeded, with ``ports`` in place of the
    scenario's where the server has opened some.
    """

    def __init__(
        self, clock: Clock, scenarios: Sequence[Scenario], *, ports: Sequence[int] = (), **options: Any
    ) -> None:
        """Raise InputError also if the scenarios differ in their agents."""
        super().__init__(clock, scenarios, **options)
        self._members: Final[tuple[Agent, ...]] = agreed_setting(scenarios, "agents", (Agent(),), "members")
        stated: tuple[Agent, ...] = agreed_setting(scenarios, "agents", (), "agents")
        self.listens_on = tuple(agent.port for agent in stated)
        opened = zip(self._members, [*ports[: len(stated)], *(0 for _ in self._members)], strict=False)
        self.initial_agents: Final[tuple[Agent, ...]] = tuple(
            agent.model_copy(update={"port": port or agent.port}) for agent, port in opened
        )
        self._makers: list[tuple[Any, Makes, set[int]]] = []  # the data of dags, and whom they change

    @property
    def agent(self) -> Agent:
        """Return the first agent."""
        return self.agent_at(0)

    @property
    def agents(self) -> list[Agent]:
        """Return every agent."""
        return [self.agent_at(place) for place in range(len(self.initial_agents))]

    def agent_at(self, place: int) -> Agent:
        """Return the agent at a position, as the dags that have succeeded have made it."""
        agent: Agent = self.initial_agents[place]
        changes = self._changes(place)
        return agent.model_copy(update=changes) if changes else agent

    def version_at(self, place: int) -> str:
        """Return the version of the agent at a position."""
        version: str = self._changes(place).get("obshell_version", self.switches.obshell_version)
        return version

    def _changes(self, place: int) -> dict[str, Any]:
        """Return what the dags that have succeeded have made of an agent, in their order."""
        if not self._makers:  # as in each GET
            return {}
        now = self.clock.now()
        made = [
            (dag.created + state.at, makes)
            for dag, makes, places in self._makers
            if place in places
            and machine.has_succeeded(state := machine.view_at(self.history_of(dag.key), now - dag.created))
        ]
        return dict(chain.from_iterable(makes.changes.items() for _, makes in sorted(made, key=itemgetter(0))))

    def place_at(self, port: int, ip: str | None = None) -> int | None:
        """Return the position of the agent that listens at a port, if there is one."""
        matching = (place for place, it in enumerate(self.initial_agents) if (it.port, ip or it.ip) == (port, it.ip))
        return next(matching, None)

    def cluster_of(self, place: int) -> list[int]:
        """Return the positions of an agent and of those that are in its cluster: all that are not SINGLE."""
        places = [n for n, agent in enumerate(self.agents) if agent.identity != "SINGLE"]
        return places if place in places else [place]

    def master_of(self, place: int) -> int | None:
        """Return the position of a cluster's master, if it has one."""
        masters = (n for n in self.cluster_of(place) if self.agent_at(n).identity == "MASTER")
        return next(masters, None)


def check_agents(scenario: Scenario) -> Iterator[Issue]:
    """Yield two agents at one port, agents beside an agent, and numbers that no agent has."""
    if scenario.agents and "agent" in scenario.model_fields_set:
        yield Issue(("agent",), "contradiction", "the file has `agents` too", "Put it into `agents`, or remove it.")
    ports = [agent.port for agent in scenario.agents]
    for place, port in enumerate(ports):
        if port and port in ports[:place]:
            what = f"port {port} is that of another agent"
            yield Issue(("agents", place, "port"), "taken-port", what, "Leave it out for any free one.")
    numbers = list[tuple[Loc, object]]()
    for number, dag in enumerate(scenario.dags):
        loc: Loc = ("dags", number)
        makes = dag.makes.agents if dag.makes else ()
        numbers += [((*loc, "agent"), dag.agent)]
        numbers += [((*loc, "makes", "agents", place), value) for place, value in enumerate(makes)]
        for at, node in enumerate(dag.nodes):
            parts = enumerate(node.sub_tasks)
            numbers += [((*loc, "nodes", at, "sub_tasks", nth, "agent"), part.agent) for nth, part in parts]
    for where, value in numbers:
        if isinstance(value, int) and value > len(scenario.members):
            what = f"there is no agent {value}: the file has {plural(len(scenario.members), 'agent')}"
            yield Issue(where, "unknown-agent", what, "Add it to `agents`, which count from 1.")
