"""obshell's agents and their dags in a sandbox: view, list and operate.

Dags, nodes and sub tasks have numbers, unique for each kind in each store: the database of each agent, and OceanBase
for the dags of the cluster.

Numbers that a scenario leaves out do not depend on what else is served: a dag gets the smallest free one, a node its
dag's number times 100 plus its position from 1, a sub task that of its node in the same way. (obshell counts each kind
up, so one id may name a dag, a node and a sub task.) A dag that a request starts and its parts are counted up as in
obshell: each gets one more than the largest number of its kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count, zip_longest
from operator import itemgetter
from typing import Any, ClassVar, Final

from oceanmock.clock import Clock
from oceanmock.engine.log import Operate, Start
from oceanmock.engine.machine import next_due
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.world import FakeData, TaskItem, View, World, agreed_setting
from oceanmock.errors import IdTaken, InputError, NoSuchTask
from oceanmock.obshell import machine
from oceanmock.obshell import scenario as files
from oceanmock.obshell.agent import Address, Agent, Makes, ObshellStartsOn, Switches, TenantLock
from oceanmock.obshell.api import API, ClientOperator, GenericId, Identity, authority, parse_generic_id
from oceanmock.obshell.errors import ObshellError, error_of, wrong_identity
from oceanmock.obshell.scenario import Scenario, excludes
from oceanmock.obshell.states import DagState
from oceanmock.scenario.stubs import StubRequest

Store = str  # the database of an agent, or OceanBase
AGENT: Final[Store] = "agent"
CLUSTER: Final[Store] = "cluster"
DagKey = tuple[Store, int]

MAINTENANCE_TYPES: Final = {"none": 1, "global": 2, "tenant": 3, "obproxy": 4}
"""(ob/agent/engine/task/maintenance_type.go:42-48.)"""


@dataclass(frozen=True, slots=True)
class SubTaskData:
    """The constant data of a sub task; ``agent`` is the one that runs it."""

    number: int
    name: str
    agent: Address
    additional_data: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class NodeData:
    number: int
    name: str
    sub_tasks: tuple[SubTaskData, ...]


@dataclass(frozen=True, slots=True)
class DagData:
    """The constant data of a dag; ``owner`` is the agent that started it, and stores it unless OceanBase does."""

    number: int
    owner: Agent
    name: str
    model: files.Dag
    nodes: tuple[NodeData, ...]
    created: int  # in nanoseconds since the epoch
    store: Store = AGENT

    @property
    def key(self) -> DagKey:
        return self.store, self.number

    @property
    def maintenance(self) -> tuple[int, str]:
        """Return the number of its lock, and the tenant that it locks."""
        lock = self.model.maintenance
        if isinstance(lock, TenantLock):
            return MAINTENANCE_TYPES["tenant"], lock.tenant
        return MAINTENANCE_TYPES[lock], ""


DagView = View[DagData, DagState]


@dataclass(frozen=True, slots=True)
class Template:
    """A dag of a scenario that each matching request starts."""

    number: int
    starts_on: ObshellStartsOn
    model: files.Dag
    scenario: Scenario
    seed: str
    name: str

    @property
    def identities(self) -> tuple[Identity, ...]:
        """Return the identities that an agent must have to start it; empty for any."""
        return self.starts_on.identity or (("CLUSTER AGENT",) if self.model.scope == "cluster" else ())


class Dags(World[DagKey, DagData, DagState]):
    """The dags of a sandbox on one agent or several, and the templates of dags that requests start.

    ``initial_agents`` are the agents before a dag has changed them, with the ``ports`` that the server has opened in
    place of the scenario's.
    """

    api = API.name
    machine: ClassVar = machine
    switches = Switches()

    def __init__(
        self, clock: Clock, scenarios: Sequence[Scenario], *, ports: Sequence[int] = (), **options: Any
    ) -> None:
        """Raise InputError also if the scenarios differ in their agents."""
        super().__init__(clock, scenarios, **options)
        self._members: Final[tuple[Agent, ...]] = agreed_setting(scenarios, "agents", (Agent(),), "members")
        stated: tuple[Agent, ...] = agreed_setting(scenarios, "agents", (), "agents")
        self.listens_on = tuple(agent.port for agent in stated)
        opened = zip_longest(self._members, ports[: len(stated)])
        self.initial_agents: Final = tuple(it.model_copy(update={"port": port or it.port}) for it, port in opened)
        self.stores: Final = (AGENT, *(f"{AGENT} {n}" for n in range(2, len(self.initial_agents) + 1)), CLUSTER)
        self._makers: list[tuple[DagData, Makes, set[int]]] = []  # with the positions of the changed agents
        # By kind, store and number of a dag, node or sub task: its dag, and its position there.
        self._places: dict[tuple[str, Store, int], tuple[DagKey, tuple[int, ...]]] = {}
        self._unfinished: set[DagKey] = set()  # may include dags that have finished since the last read
        self._last_maintenance: dict[Store, DagKey] = {}
        self._highest = Counter[tuple[str, Store]]()  # the largest number of each kind
        self._lowest_free: dict[Store, int] = {}
        self._last_holder: dict[tuple[Store, tuple[int, str]], DagKey] = {}  # by lock
        self._released: set[DagKey] = set()  # the dags whose lock another one's PASS has released

    @property
    def agents(self) -> list[Agent]:
        return [self.agent_at(place) for place in range(len(self.initial_agents))]

    def agent_at(self, place: int) -> Agent:
        """Return the agent at a position, with the changes by dags that have succeeded."""
        agent, changes = self.initial_agents[place], self._changes(place)
        return agent.model_copy(update=changes) if changes else agent

    def version_at(self, place: int) -> str:
        return str(self._changes(place).get("obshell_version", self.switches.obshell_version))

    def _changes(self, place: int) -> dict[str, Any]:
        """Return the changes of an agent by the dags that have succeeded; the last one counts."""
        if not self._makers:  # this shortens every GET
            return {}
        now = self.clock.now()
        changes = [
            (dag.created + state.at, makes)
            for dag, makes, places in self._makers
            if place in places
            and machine.has_succeeded(state := machine.view_at(self.history_of(dag.key), now - dag.created))
        ]
        return dict(chain.from_iterable(makes.changes.items() for _, makes in sorted(changes, key=itemgetter(0))))

    def place_at(self, port: int, ip: str | None = None) -> int | None:
        """Return the position of the agent that listens at a port, if there is one."""
        matching = (place for place, it in enumerate(self.initial_agents) if (it.port, ip or it.ip) == (port, it.ip))
        return next(matching, None)

    def cluster_of(self, place: int) -> list[int]:
        """Return the positions of the agents in the cluster of an agent: all that are not SINGLE, or only its own."""
        places = [n for n, agent in enumerate(self.agents) if agent.identity != "SINGLE"]
        return places if place in places else [place]

    def locate(self, id: GenericId) -> DagKey:
        """Return the store and the number of an id. Raises NoSuchTask if its agent is unknown."""
        place = -1 if id.ip is None else self.place_at(id.port, str(id.ip))  # -1: the last store is the cluster's
        if place is None:
            raise NoSuchTask(id.number)
        return self.stores[place], id.number

    def view_part(self, kind: str, key: DagKey) -> tuple[DagView, tuple[int, ...]]:
        """Return the dag of a dag, node or sub task, now, and the position of that part. Raises NoSuchTask."""
        if (kind, *key) not in self._places:
            raise NoSuchTask(key[1])
        owner, places = self._places[kind, *key]
        return self.view(owner), places

    def view_named(self, ids: Mapping[str, str]) -> DagView:
        ((kind, text),) = ids.items()
        view, places = self.view_part(kind, self.locate(parse_generic_id(text)))
        state: Any = view.state.nodes[places[0]] if places else view.state
        return replace(view, state=state.sub_tasks[places[1]] if places[1:] else state)

    def all(self, store: Store) -> list[DagView]:
        """Return all dags of a store, by ascending number, at one instant."""
        now = self.clock.now()
        return [self.view(key, now) for key in sorted(self._data) if key[0] == store]

    def line_ids(self, store: Store, number: int) -> list[int]:
        """Return the ids of the lines that a sub task has logged so far; ids count the lines of the whole store."""
        lines = sorted(
            (view.data.created + at, sub_task.number)
            for view in self.all(store)
            for node, node_state in zip(view.data.nodes, view.state.nodes, strict=True)
            for sub_task, sub_state in zip(node.sub_tasks, node_state.sub_tasks, strict=True)
            for _, at, _ in machine.lines_of(sub_state, view.now - view.data.created)
        )
        return [id for id, (_, owner) in enumerate(lines, start=1) if owner == number]

    def unfinished(self, *stores: Store) -> list[DagView]:
        """Return the unfinished dags of stores at one instant, store by store, by ascending number."""
        now, views = self.clock.now(), list[DagView]()
        for key in sorted(key for key in self._unfinished if key[0] in stores):
            view = self.view(key, now)
            if not view.state.is_finished:
                views.append(view)
            elif next_due(self._histories[key], now - view.data.created) is None:
                self._unfinished.remove(key)
        return views

    def last_maintenance(self, store: Store) -> DagView | None:
        """Return the newest dag that took the maintenance lock, finished or not (service/task/dag.go:143-161)."""
        newest = self._last_maintenance.get(store)
        return None if newest is None else self.view(newest)

    def items(self) -> Iterator[TaskItem]:
        for store in self.stores:
            for view in self.all(store):
                yield _item(view.data, view.data, view.state)

    def item(self, id: str) -> TaskItem:
        view = self.view(self.key_of(id))
        dag, state, nodes = view.data, view.state, list[TaskItem]()
        for node, node_state in zip(dag.nodes, state.nodes, strict=True):
            parts = map(partial(_item, dag), node.sub_tasks, node_state.sub_tasks)
            nodes.append(replace(_item(dag, node, node_state), parts=tuple(parts)))
        return replace(_item(dag, dag, state), started=dag.created, stage=state.stage, parts=tuple(nodes))

    def key_of(self, id: str) -> DagKey:
        """Return the key of a dag by its generic id, or else the first one by its number. Raises NoSuchTask."""
        keys: list[DagKey] = sorted(self._data)
        by_id = (key for key in keys if id_of(self._data[key], key[1]) == id)
        by_number = (key for key in keys if str(key[1]) == id)
        if (key := next(by_id, None) or next(by_number, None)) is None:
            raise NoSuchTask(0)
        return key

    def settings(self) -> dict[str, Any]:
        agents = [agent.model_dump(mode="json", exclude_defaults=True) for agent in self.agents]
        return {"agents": agents} if self.listens_on else {"agent": agents[0]}

    def details(self) -> dict[str, Any]:
        """Return the agents with their passwords."""
        keys = {"ip", "port", "identity", "root_password", "agent_password"}
        agents = [agent.model_dump(include=keys) for agent in self.agents]
        return {"agent": agents[0], **({"agents": agents} if self.listens_on else {})}

    def check(self, scenarios: Sequence[Scenario], *, sandbox: str) -> None:
        super().check(scenarios, sandbox=sandbox)
        for scenario in scenarios:
            if scenario.members not in (self._members, (Agent(),)):
                raise InputError(
                    f"scenario {scenario.name!r} is of another agent than sandbox {sandbox!r}, "
                    "which is in use. Load it into a fresh one."
                )

    def populate(self, scenarios: Sequence[Scenario], *, start: int) -> None:
        source = [(dag, entry) for entry in scenarios for dag in entry.dags if not dag.starts_on]
        # Dags with a stated number come first, so that the others get free ones.
        for dag, entry in sorted(source, key=lambda pair: pair[0].id is None):
            fake_data = FakeData(f"{self._seed}/{entry.name}/{dag.name}")
            self._begin(dag, entry, entry.place_of(dag), start - dag.age, fake_data, counts=False)
        for entry in scenarios:
            for place, dag in enumerate(entry.dags):
                if dag.starts_on is not None:
                    seed, number = f"{self._seed}/{entry.name}/{place}", len(self.templates)
                    name = dag.name or FakeData(seed).phrase()
                    self.templates.append(Template(number, dag.starts_on, dag, entry, seed, name))

    def start(self, template: int, at: int, values: Mapping[str, Any]) -> DagView:
        """Start a dag of the template; raises ObshellError, and then changes nothing."""
        source, place = self.templates[template], values.get("agent", 0)
        agent, model = self.agent_at(place), source.model
        if source.identities and agent.identity not in source.identities:
            raise wrong_identity(agent, *source.identities)
        if isinstance(model.maintenance, TenantLock):
            lock = TenantLock(tenant=values.get("tenant", model.maintenance.tenant))
            model = model.model_copy(update={"maintenance": lock})
        store, name = _store_of(model, place), values.get("name", source.name)
        self._check_lock(model, store, agent, outer=f"Create task '{name}' failed: ")
        number = model.id or self._highest["dag", store] + 1
        model = model.model_copy(update={"id": number})
        dag = self._begin(model, source.scenario, place, at, FakeData(source.seed), counts=True, name=name)
        self._starts[template] += 1
        return self.view(dag.key, at)

    def _check_operation(self, data: DagData, state: DagState, operation: Any, part: int | None) -> None:
        """Take the lock again that a failed dag has released; PASS releases the other holder's. Raises ObshellError."""
        script, model = self._histories[data.key].script, data.model
        has_lock = self._has_lock(data.key, state)
        if operation == "PASS" and part is None and model.maintenance != "none" and not has_lock:
            for view in self._holders(model, data.store):
                if view.data.maintenance != data.maintenance:
                    raise self._cluster_is_locked(outer="")
                self._released.add(view.data.key)
        node = machine.node_of_lock(state, operation, part)
        if model.maintenance == "none" or node is None or not script.nodes[node].failure_exit:
            return
        self._check_lock(model, data.store, data.owner)
        holder = self._last_holder.get(lock := (data.store, data.maintenance), data.key)
        # Another dag has maintained the tenant since (status_maintainer.go).
        if model.scope == "cluster" and model.maintenance != "global" and holder != data.key:
            last, id = (id_of(dag, dag.number) for dag in (self._data[holder], data))
            raise error_of("Task.Expired", tenant=data.maintenance[1], last=last, id=id, name=data.name)
        self._last_holder[lock] = data.key
        self._released.discard(data.key)

    def _check_lock(self, model: files.Dag, store: Store, own: Address, *, outer: str = "") -> None:
        """Raise ObshellError, beginning with ``outer``, if a dag's lock excludes that of ``model`` of agent ``own``."""
        for view in self._holders(model, store):
            _, tenant = view.data.maintenance
            if model.scope == "agent":
                raise error_of("Agent.UnderMaintenance", outer=outer, agent=authority(own))
            if tenant and isinstance(model.maintenance, TenantLock):
                raise error_of("OB.Tenant.UnderMaintenance", outer=outer, tenant=tenant)
            raise self._cluster_is_locked(outer=outer)

    def _cluster_is_locked(self, *, outer: str) -> ObshellError:
        """Return the error, which names the last maintenance dag, with the lock or not (status_maintainer.go:61)."""
        dag = self._data[self._last_maintenance[CLUSTER]].name
        return error_of("OB.Cluster.UnderMaintenanceWithDag", outer=outer, dag=dag)

    def _holders(self, model: files.Dag, store: Store) -> Iterator[DagView]:
        for view in self.unfinished(store):
            if self._has_lock(view.data.key, view.state) and excludes(view.data.model, model):
                yield view

    def _has_lock(self, key: DagKey, state: DagState) -> bool:
        return key not in self._released and machine.holds_lock(self._histories[key].script, state)

    def is_maintained(self, place: int) -> bool:
        """Return whether a dag has the global lock of the store of an agent (status_maintainer.go, IsRunning)."""
        views = self.unfinished(self.stores[place])
        return any(it.data.model.maintenance == "global" and self._has_lock(it.data.key, it.state) for it in views)

    def create(self, scenario: Scenario, at: int) -> str:
        """Start the dag of a scenario and return its id. Raises IdTaken; then nothing has changed."""
        (model,) = scenario.dags
        place = scenario.place_of(model)
        own = _store_of(model, place)
        number = sum(store == own for store, _ in self._data)
        fake_data = FakeData(f"{self._seed}/{own}/{number}")
        try:
            dag = self._begin(model, scenario, place, at - model.age, fake_data, counts=True)
        except InputError as error:
            raise IdTaken(str(error)) from None
        return id_of(dag, dag.number)

    def _begin(
        self,
        model: files.Dag,
        scenario: Scenario,
        place: int,
        created: int,
        fake_data: FakeData,
        *,
        counts: bool,
        name: str = "",
    ) -> DagData:
        """Add a dag of a scenario; the numbers of its parts count up, or follow from its own.

        Raises InputError if a number is taken; then nothing has changed.
        """
        own, store = self.initial_agents[place], _store_of(model, place)
        number = model.id or next(n for n in count(self._lowest_free.get(store, 1)) if (store, n) not in self._data)
        key, name = (store, number), name or model.name or fake_data.phrase()
        next_node, next_sub_task = (count(self._highest[kind, store] + 1) for kind in ("node", "sub_task"))
        nodes, places = list[NodeData](), {("dag", *key): (key, tuple[int, ...]())}
        for at, node in enumerate(model.nodes):
            node_number = node.id or (next(next_node) if counts else files.number_below(number, at))
            node_name = node.name or fake_data.phrase()
            places["node", store, node_number] = (key, (at,))
            sub_tasks = list[SubTaskData]()
            for position, entry in enumerate(node.sub_tasks):
                below = next(next_sub_task) if counts else files.number_below(node_number, position)
                sub_task_number = entry.id or below
                places["sub_task", store, sub_task_number] = (key, (at, position))
                agent = self.initial_agents[entry.agent - 1] if isinstance(entry.agent, int) else entry.agent or own
                sub_tasks.append(SubTaskData(sub_task_number, entry.name or node_name, agent, entry.additional_data))
            nodes.append(NodeData(node_number, node_name, tuple(sub_tasks)))
        if twice := places.keys() & self._places.keys():
            kind, _, taken = min(twice)  # a dag before its nodes, these before their sub tasks
            what = kind.replace("_", " ")
            raise InputError(
                f"dag {name!r} has a {what} {taken}, and so has another dag. "
                f"Serve them apart, or give the {what} another id."
            )
        self._places |= places
        dag = DagData(number, own, name, model, tuple(nodes), created, store)
        rules = files.rules_of(scenario.tick, self._first_tick + scenario.phase_of(place) - created, self.switches)
        self._add(key, dag, machine.start(files.script_of(model), rules))
        for kind, _, number_of_part in places:
            self._highest[kind, store] = max(self._highest[kind, store], number_of_part)
        if model.id is None:
            self._lowest_free[store] = number
        if model.maintenance != "none":
            self._last_maintenance[store] = max(self._last_maintenance.get(store, key), key)
            self._last_holder[store, dag.maintenance] = key
        if model.makes is not None:
            self._makers.append((dag, model.makes, model.makes.places(place)))
        return dag

    def _add(self, key: DagKey, data: DagData, history: machine.History) -> None:
        self._unfinished.add(key)
        super()._add(key, data, history)


new_world: Final = Dags


def steps_of(scenario: Scenario) -> int:
    return sum(len(task.runs) for dag in scenario.dags for node in dag.nodes for task in node.sub_tasks)


def _store_of(model: files.Dag, place: int) -> Store:
    return CLUSTER if model.scope == "cluster" else f"{AGENT} {place + 1}" if place else AGENT


def id_of(dag: DagData, number: int) -> str:
    """Return the generic id of a dag, or of a node or sub task of it, with this number."""
    return files.id_of(dag.model, number, ip=dag.owner.ip, port=dag.owner.port)


def _item(dag: DagData, part: DagData | NodeData | SubTaskData, state: Any) -> TaskItem:
    return TaskItem(id_of(dag, part.number), part.number, part.name, state.state, state.operator)


def operate(sandbox: Sandbox, key: DagKey, operator: ClientOperator, node: int | None = None) -> DagView:
    """Operate a dag, or the node at a position. Raises NoSuchTask, IllegalOperator or ObshellError."""
    sandbox.world(Dags).data_of(key)  # raises NoSuchTask before anything is noted
    view: DagView = sandbox.execute(Operate(Dags.api, key, operator, node))
    return view


def start(sandbox: Sandbox, template: Template, request: StubRequest, *, place: int = 0) -> DagView:
    """Start a dag of a template for a request to the agent at a position. Raises as ``Dags.start``."""
    path, lock = template.starts_on.path, template.model.maintenance
    values: list[tuple[str, Any]] = [("name", request.fill(template.name, path))]
    if isinstance(lock, TenantLock):
        values.append(("tenant", request.fill(lock.tenant, path)))
    if place:
        values.append(("agent", place))
    view: DagView = sandbox.execute(Start(Dags.api, template.number, tuple(values)))
    return view
