"""obshell's dags in a sandbox: view, list and operate.

Dags, nodes and sub tasks are found by number, each kind counted apart, and apart again in the two
stores there are: the agent's own database, and OceanBase for the dags of a cluster. As with OCP's
tasks every call is atomic, and reads change nothing but, under `polls`, the clock.

A number that a scenario leaves out: a dag gets the smallest that none has, a node its dag's number
times 100 plus its place, a sub task its node's in the same way; so they stay the same whatever else
is served. (obshell counts them up; there one text names a dag, a node and a sub task.) A dag that a
request starts counts up as obshell's do: its number is one more than the largest there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any, ClassVar, Final, Literal, NoReturn, get_args

from oceanmock.clock import Clock
from oceanmock.engine.fake_data import FakeData
from oceanmock.engine.log import Create, Operate, Start
from oceanmock.engine.sandbox import Sandbox, TaskItem, agreed_setting, with_overrides
from oceanmock.errors import AuthorError, IdTaken, NoSuchTask, UnderMaintenance, WrongIdentity
from oceanmock.obshell import machine as obshell
from oceanmock.obshell import scenario as files
from oceanmock.obshell import states as obshell_states
from oceanmock.obshell.api import API, ClientOperator
from oceanmock.obshell.fields import MAX_PER_OWNER, Identity
from oceanmock.obshell.ids import GenericId, Kind, local_id
from oceanmock.obshell.scenario import Scenario, Switches

Store = Literal["agent", "cluster"]
STORES: Final[tuple[Store, ...]] = get_args(Store)
Key = tuple[Store, int]
"""A number, and in which store."""

MAINTENANCE_TYPES: Final = {"none": 1, "global": 2, "tenant": 3, "obproxy": 4}
"""(ob/agent/engine/task/maintenance_type.go:42-48.)"""


@dataclass(frozen=True, slots=True)
class SubTask:
    """The constant data of a sub task; ``agent`` is the one that runs it."""

    number: int
    name: str
    agent: files.Address
    additional_data: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Node:
    """The constant data of a node."""

    number: int
    name: str
    sub_tasks: tuple[SubTask, ...]


@dataclass(frozen=True, slots=True)
class Dag:
    """The constant data of a dag. ``born`` is its start, in nanoseconds since the epoch.

    ``owner`` is the agent that keeps it, or the one asked where OceanBase does.
    """

    number: int
    store: Store
    owner: files.Address
    name: str
    maintenance_type: int
    maintenance_key: str
    nodes: tuple[Node, ...]
    born: int

    @property
    def is_maintenance(self) -> bool:
        """Return whether it holds the maintenance lock until it is finished."""
        return self.maintenance_type != MAINTENANCE_TYPES["none"]

    @property
    def is_obproxy(self) -> bool:
        """Return whether it is one of obproxy's, whose ids begin with 4 or 5."""
        return self.maintenance_type == MAINTENANCE_TYPES["obproxy"]


@dataclass(frozen=True, slots=True)
class DagView:
    """A dag and its state at ``now``; the state's instants count from ``dag.born``."""

    dag: Dag
    state: obshell_states.DagState
    now: int


@dataclass(frozen=True, slots=True)
class Template:
    """A dag that a request starts, as often as one comes; ticks are ``tick`` apart."""

    number: int
    starts_on: files.ObshellStartsOn
    model: files.Dag
    tick: int
    first_tick: int
    seed: str


class Dags:
    """The dags of a sandbox, on one agent, and the templates of those to come.

    ``initial_agent`` is the agent before any dag that changes it has succeeded.
    """

    api: ClassVar[str] = API.name

    def __init__(
        self, clock: Clock, scenarios: Sequence[Scenario], *, seed: int, switches: Mapping[str, Any]
    ) -> None:
        """Raise AuthorError if the scenarios differ in a switch or in their agent.

        ``switches`` outrank theirs.
        """
        agreed = agreed_setting(scenarios, "switches", Switches(), lambda entry: entry.switches)
        agent = agreed_setting(scenarios, "agents", files.Agent(), lambda entry: entry.agent)
        self.clock: Final = clock
        self.switches: Final = with_overrides(agreed, switches)
        self.initial_agent: Final = agent
        self.own: Final = files.Address(ip=agent.ip, port=agent.port)
        self.templates: Final[list[Template]] = []
        self._seed: Final = seed
        self._first_tick: Final = clock.origin
        self._dags: dict[Key, Dag] = {}
        self._histories: dict[Key, obshell.History] = {}
        self._nodes: dict[Key, tuple[Key, int]] = {}
        self._sub_tasks: dict[Key, tuple[Key, int, int]] = {}
        self._models: dict[Key, files.Dag] = {}
        self._makers: dict[Key, Identity] = {}

    # --- reading ---

    @property
    def agent(self) -> files.Agent:
        """Return the agent, as the dags that have succeeded on it have made it."""
        made = [
            (view.dag.born + view.state.at, identity)
            for key, identity in self._makers.items()
            if files.has_succeeded((view := self.view(key)).state)
        ]
        if not made:
            return self.initial_agent
        return self.initial_agent.model_copy(update={"identity": max(made)[1]})

    def __len__(self) -> int:
        return len(self._dags)

    def view(self, key: Key) -> DagView:
        """Return the dag now. Raises NoSuchTask."""
        return self._view(key, self.clock.now())

    def view_node(self, key: Key) -> tuple[DagView, int]:
        """Return the dag a node belongs to, now, and its position. Raises NoSuchTask."""
        owner, position = self._nodes.get(key) or _unknown(key)
        return self.view(owner), position

    def view_sub_task(self, key: Key) -> tuple[DagView, int, int]:
        """Return the dag a sub task belongs to, now, its node's position and its own in the node.

        Raises NoSuchTask.
        """
        owner, node, position = self._sub_tasks.get(key) or _unknown(key)
        return self.view(owner), node, position

    def all(self, store: Store) -> list[DagView]:
        """Return all dags of a store, by ascending number, at one instant."""
        now = self.clock.now()
        return [self._view(key, now) for key in sorted(self._dags) if key[0] == store]

    def last_maintenance(self, store: Store) -> DagView | None:
        """Return the newest dag that took the maintenance lock, finished or not.

        (ob/agent/service/task/dag.go:143-161.)
        """
        locked = [key for key, dag in self._dags.items() if key[0] == store and dag.is_maintenance]
        return self.view(max(locked)) if locked else None

    def history_of(self, key: Key) -> obshell.History:
        """Return the dag's history, as it goes without further requests. Raises NoSuchTask."""
        return self._histories.get(key) or _unknown(key)

    def due(self, now: int) -> Iterator[int]:
        """Return the next instant after ``now`` at which each dag changes."""
        return self.due_of(self._dags.values(), now)

    def due_of(self, dags: Iterable[Dag], now: int) -> Iterator[int]:
        """Return the next instant after ``now`` at which each of these changes."""
        for dag in dags:
            due = obshell.next_due(self._histories[dag.store, dag.number], now - dag.born)
            if due is not None:
                yield dag.born + due

    def ends(self) -> Iterator[int]:
        """Return the last instant at which each dag changes."""
        for key, history in self._histories.items():
            yield self._dags[key].born + history.last.at

    def items(self) -> Iterator[TaskItem]:
        """Return every dag, the agent's first, without its nodes."""
        for store in STORES:
            for view in self.all(store):
                yield _item(view.dag, view.dag, view.state)

    def item(self, id: str) -> TaskItem:
        """Return the dag of a generic id, or else of a number, with its nodes and sub tasks.

        Raises NoSuchTask.
        """
        view = self.find(id)
        dag, state = view.dag, view.state
        nodes = tuple(
            replace(
                _item(dag, node, node_state),
                parts=tuple(map(partial(_item, dag), node.sub_tasks, node_state.sub_tasks)),
            )
            for node, node_state in zip(dag.nodes, state.nodes, strict=True)
        )
        return replace(_item(dag, dag, state), started=dag.born, stage=state.stage, parts=nodes)

    def find(self, id: str) -> DagView:
        """Return the dag of a generic id, or else the first of a number. Raises NoSuchTask."""
        views = [view for store in STORES for view in self.all(store)]
        by_id = (view for view in views if id_of(view.dag, view.dag.number) == id)
        by_number = (view for view in views if str(view.dag.number) == id)
        return next(by_id, None) or next(by_number, None) or _unknown(("agent", 0))

    def settings(self) -> dict[str, Any]:
        """Return the keys by which a scenario file fits this sandbox: its agent."""
        return {"agent": self.agent.model_dump(mode="json", exclude_defaults=True)}

    def details(self) -> dict[str, Any]:
        """Return the agent as it is at first, with its passwords."""
        keys = {"ip", "port", "root_password", "agent_password"}
        return {"agent": self.initial_agent.model_dump(include=keys)}

    # --- changing ---

    def check(self, scenarios: Sequence[Scenario], *, sandbox: str) -> None:
        """Raise AuthorError if a scenario sets other switches or is of another agent."""
        for scenario in scenarios:
            if scenario.switches not in (self.switches, Switches()):
                raise AuthorError(
                    f"scenario {scenario.name!r} sets other switches than sandbox {sandbox!r} has, "
                    "which is in use. Load it into a fresh one."
                )
            if scenario.agent not in (self.initial_agent, files.Agent()):
                raise AuthorError(
                    f"scenario {scenario.name!r} is of another agent than sandbox {sandbox!r}, "
                    "which is in use. Load it into a fresh one."
                )

    def populate(self, scenarios: Sequence[Scenario], *, start: int) -> None:
        """Add the dags and templates of scenarios that begin at ``start``.

        Those with a number of their own come first, so that the others get numbers that stay free.
        Raises AuthorError when the number of a dag or of a part is taken.
        """
        source = [(dag, entry) for entry in scenarios for dag in entry.dags if not dag.starts_on]
        for dag, entry in sorted(source, key=lambda pair: pair[0].id is None):
            self._add(
                dag,
                born=start - dag.age,
                tick=entry.tick,
                first_tick=self._first_tick + entry.phase,
                fake_data=FakeData(f"{self._seed}/{entry.name}/{dag.name}"),
            )
        for entry in scenarios:
            for place, dag in enumerate(entry.dags):
                if dag.starts_on is not None:
                    seed = f"{self._seed}/{entry.name}/{place}"
                    named = dag.model_copy(update={"name": dag.name or FakeData(seed).phrase()})
                    first_tick = self._first_tick + entry.phase
                    number = len(self.templates)
                    self.templates.append(
                        Template(number, dag.starts_on, named, entry.tick, first_tick, seed)
                    )

    def apply(self, command: Operate | Start | Create, *, at: int) -> Any:
        """Apply a command at an instant and return its result; if it raises, nothing changed.

        The result of ``Operate`` and ``Start`` is the dag's view, that of ``Create`` the dag's id.
        Raises IllegalOperator, WrongIdentity, UnderMaintenance or IdTaken.
        """
        match command:
            case Operate(key=key, operation=operator, part=node):
                return self._operate(self._dags[key], operator, node, at)  # type: ignore[index]
            case Start(template=number):
                return self._start(self.templates[number], at)
            case Create(scenario=Scenario() as scenario):
                return self._create(scenario, at)
            case _:
                raise TypeError(f"not a command of {self.api}: {command}")

    def _operate(self, dag: Dag, operator: Any, node: int | None, at: int) -> DagView:
        key, instant = (dag.store, dag.number), at - dag.born
        history = obshell.operate(self._histories[key], operator, instant, node=node)
        self._histories[key] = history
        view = DagView(dag, obshell.view_at(history, instant), at)
        self.clock.settle(dag.born + history.last.at)
        return view

    def _start(self, template: Template, at: int) -> DagView:
        model = template.model
        self._check_identity(template.starts_on)
        self._check_locks(model)
        dag = self._add(
            model.model_copy(update={"id": model.id or self._next_number(model.scope)}),
            born=at,
            tick=template.tick,
            first_tick=template.first_tick,
            fake_data=FakeData(template.seed),
        )
        return DagView(dag, self._histories[dag.store, dag.number].first, at)

    def _create(self, scenario: Scenario, at: int) -> str:
        (model,) = scenario.dags
        number = sum(store == model.scope for store, _ in self._dags)
        try:
            dag = self._add(
                model,
                born=at - model.age,
                tick=scenario.tick,
                first_tick=self._first_tick + scenario.phase,
                fake_data=FakeData(f"{self._seed}/{model.scope}/{number}"),
            )
        except AuthorError as error:
            raise IdTaken(str(error)) from None
        return id_of(dag, dag.number)

    def _add(
        self, model: files.Dag, *, born: int, tick: int, first_tick: int, fake_data: FakeData
    ) -> Dag:
        """Add a dag; one of the scheduler's ticks, which are ``tick`` apart, is at ``first_tick``.

        Raises AuthorError when it has the number of another one; then nothing has changed.
        """
        dag = self._dag(model, born, fake_data)
        key = (dag.store, dag.number)
        self._claim(key, dag)
        rules = files.rules_of(tick, first_tick - born, self.switches, age=0)
        history = obshell.start(files.script_of(model), rules)
        self._dags[key], self._histories[key], self._models[key] = dag, history, model
        if model.makes is not None:
            self._makers[key] = model.makes.identity
        self.clock.settle(born + history.last.at)
        return dag

    def _next_number(self, wanted: Store) -> int:
        """One more than the largest, and than any whose nodes and sub tasks would be in the way."""
        below = MAX_PER_OWNER + 1
        numbers = [number for store, number in self._dags if store == wanted]
        numbers += [number // below for store, number in self._nodes if store == wanted]
        numbers += [number // below**2 for store, number in self._sub_tasks if store == wanted]
        return max(numbers, default=0) + 1

    def _check_identity(self, starts_on: files.ObshellStartsOn) -> None:
        identity = self.agent.identity
        if starts_on.identity and identity not in starts_on.identity:
            raise WrongIdentity(identity, starts_on.identity)

    def _check_locks(self, wanted: files.Dag) -> None:
        for key, current in self._models.items():
            if files.excludes(current, wanted) and not self.view(key).state.is_finished:
                dag = self._dags[key]
                raise UnderMaintenance(dag.name, tenant=dag.maintenance_key or None)

    def _claim(self, key: Key, dag: Dag) -> None:
        """Takes the numbers of a dag and its parts."""
        store = dag.store
        nodes = {(store, node.number): (key, place) for place, node in enumerate(dag.nodes)}
        sub_tasks = {
            (store, sub_task.number): (key, place, position)
            for place, node in enumerate(dag.nodes)
            for position, sub_task in enumerate(node.sub_tasks)
        }
        for kind, taken, wanted in (
            ("dag", self._dags.keys(), {key}),
            ("node", self._nodes.keys(), nodes.keys()),
            ("sub task", self._sub_tasks.keys(), sub_tasks.keys()),
        ):
            if twice := taken & wanted:
                raise AuthorError(
                    f"dag {dag.name!r} has a {kind} {min(twice)[1]}, and so has another dag. "
                    f"Serve them apart, or give the {kind} another id."
                )
        self._nodes.update(nodes)
        self._sub_tasks.update(sub_tasks)

    def _dag(self, model: files.Dag, born: int, fake_data: FakeData) -> Dag:
        store = model.scope
        number = model.id or next(n for n in count(1) if (store, n) not in self._dags)
        lock = model.maintenance
        return Dag(
            number=number,
            store=store,
            owner=self.own,
            name=model.name or fake_data.phrase(),
            maintenance_type=MAINTENANCE_TYPES[lock if isinstance(lock, str) else "tenant"],
            maintenance_key="" if isinstance(lock, str) else lock.tenant,
            nodes=tuple(
                self._node(node, files.number_below(number, place), fake_data)
                for place, node in enumerate(model.nodes)
            ),
            born=born,
        )

    def _node(self, model: files.Node, number: int, fake_data: FakeData) -> Node:
        number = model.id or number
        name = model.name or fake_data.phrase()
        return Node(
            number,
            name,
            tuple(
                SubTask(
                    entry.id or files.number_below(number, place),
                    entry.name or name,
                    entry.agent or self.own,
                    entry.additional_data,
                )
                for place, entry in enumerate(model.sub_tasks)
            ),
        )

    def _view(self, key: Key, now: int) -> DagView:
        dag = self._dags.get(key) or _unknown(key)
        return DagView(dag, obshell.view_at(self._histories[key], now - dag.born), now)


def new_world(
    clock: Clock, scenarios: Sequence[Scenario], *, seed: int, switches: Mapping[str, Any]
) -> Dags:
    """Return the empty state of a sandbox with these scenarios. Raises AuthorError."""
    return Dags(clock, scenarios, seed=seed, switches=switches)


def steps_of(scenario: Scenario) -> int:
    """Return how many sub tasks a scenario has."""
    return sum(len(node.sub_tasks) for dag in scenario.dags for node in dag.nodes)


# --- commands -------------------------------------------------------------------------------------


def operate(sandbox: Sandbox, key: Key, operator: ClientOperator) -> DagView:
    """Roll back, retry, cancel or pass a dag, and return it as it is right then.

    Raises NoSuchTask or IllegalOperator; then nothing has changed.
    """
    sandbox.world(Dags).view(key)
    view: DagView = sandbox.execute(Operate(Dags.api, key, operator))
    return view


def operate_node(sandbox: Sandbox, key: Key, operator: ClientOperator) -> DagView:
    """Pass a node, and return its dag as it is right then. Raises as ``operate``."""
    view, position = sandbox.world(Dags).view_node(key)
    dag = view.dag
    after: DagView = sandbox.execute(Operate(Dags.api, (dag.store, dag.number), operator, position))
    return after


def start(sandbox: Sandbox, template: Template) -> DagView:
    """Start a dag of a template now, and return it.

    Raises WrongIdentity or UnderMaintenance; then nothing has changed.
    """
    view: DagView = sandbox.execute(Start(Dags.api, template.number))
    return view


def note_read(sandbox: Sandbox, views: Iterable[DagView]) -> None:
    """Move a clock under ``polls`` on, after a response has shown these dags."""
    due = sandbox.world(Dags).due_of((view.dag for view in views), sandbox.clock.now())
    sandbox.note_read(due)


def _item(dag: Dag, part: Dag | Node | SubTask, state: Any) -> TaskItem:
    return TaskItem(id_of(dag, part.number), part.number, part.name, state.state, state.operator)


def id_of(dag: Dag, number: int) -> str:
    """Return the generic id of a dag, or of a node or sub task of it, with this number."""
    if dag.store == "cluster":
        return str(GenericId("cluster", number))
    kind: Kind = "obproxy" if dag.is_obproxy else "local"
    return local_id(number, ip=dag.owner.ip, port=dag.owner.port, kind=kind)


def _unknown(key: Key) -> NoReturn:
    raise NoSuchTask(key[1])
