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

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Literal, NoReturn

from oceanmock.clock import SECOND, Clock
from oceanmock.engine.fake_data import FakeData
from oceanmock.engine.records import OperationRecord, Records
from oceanmock.errors import AuthorError, CallerError, NoSuchTask, UnderMaintenance, WrongIdentity
from oceanmock.obshell import machine as obshell
from oceanmock.obshell import scenario as files

Store = Literal["agent", "cluster"]
Key = tuple[Store, int]
"""A number, and in which store."""

MAINTENANCE_TYPES: Final = {"none": 1, "global": 2, "tenant": 3, "obproxy": 4}
"""(ob/agent/engine/task/maintenance_type.go:42-48.)"""


@dataclass(frozen=True, slots=True)
class SubTask:
    """What stays the same about a sub task all its life; ``agent`` is the one that runs it."""

    number: int
    name: str
    agent: files.Address
    additional_data: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Node:
    """What stays the same about a node all its life."""

    number: int
    name: str
    sub_tasks: tuple[SubTask, ...]


@dataclass(frozen=True, slots=True)
class Dag:
    """What stays the same about a dag all its life. ``born``: nanoseconds since the epoch.

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
        """Whether it holds the maintenance lock until it is finished."""
        return self.maintenance_type != MAINTENANCE_TYPES["none"]

    @property
    def is_obproxy(self) -> bool:
        """Whether it is one of obproxy's, whose ids begin with 4 or 5."""
        return self.maintenance_type == MAINTENANCE_TYPES["obproxy"]


@dataclass(frozen=True, slots=True)
class DagView:
    """A dag and what it shows at ``now``; the state's instants count from ``dag.born``."""

    dag: Dag
    state: obshell.DagState
    now: int


@dataclass(frozen=True, slots=True)
class Template:
    """A dag that a request starts, as often as one comes; ticks lie ``tick`` apart."""

    starts_on: files.ObshellStartsOn
    model: files.Dag
    tick: int
    first_tick: int
    seed: str


class Dags:
    """The dags that live by one clock, on one agent; and the templates of those to come.

    ``began_as`` is the agent before anything that makes it another one has succeeded.
    """

    def __init__(self, clock: Clock, agent: files.Agent, switches: files.Switches) -> None:
        self.clock: Final = clock
        self.began_as: Final = agent
        self.own: Final = files.Address(ip=agent.ip, port=agent.port)
        self.switches: Final = switches
        self._dags: dict[Key, Dag] = {}
        self._lives: dict[Key, obshell.History] = {}
        self._nodes: dict[Key, tuple[Key, int]] = {}
        self._sub_tasks: dict[Key, tuple[Key, int, int]] = {}
        self._models: dict[Key, files.Dag] = {}
        self._makers: dict[Key, files.Identity] = {}
        self.templates: Final[list[Template]] = []
        self._records: Final = Records[Key]()

    # --- reading ---

    @property
    def agent(self) -> files.Agent:
        """The agent, as what has succeeded on it has made it."""
        made = [
            (view.dag.born + view.state.at, identity)
            for key, identity in self._makers.items()
            if files.has_succeeded((view := self.view(key)).state)
        ]
        if not made:
            return self.began_as
        return self.began_as.model_copy(update={"identity": max(made)[1]})

    def view(self, key: Key) -> DagView:
        """The dag now. Raises NoSuchTask."""
        return self._view(key, self.clock.now())

    def view_node(self, key: Key) -> tuple[DagView, int]:
        """The dag a node belongs to, now, and the node's position in it. Raises NoSuchTask."""
        owner, position = self._nodes.get(key) or _unknown(key)
        return self.view(owner), position

    def view_sub_task(self, key: Key) -> tuple[DagView, int, int]:
        """The dag a sub task belongs to, now, its node's position and its own in the node.

        Raises NoSuchTask.
        """
        owner, node, position = self._sub_tasks.get(key) or _unknown(key)
        return self.view(owner), node, position

    def all(self, store: Store) -> list[DagView]:
        """All dags of a store, by ascending number, at one instant."""
        now = self.clock.now()
        return [self._view(key, now) for key in sorted(self._dags) if key[0] == store]

    def last_maintenance(self, store: Store) -> DagView | None:
        """The newest dag that took the maintenance lock, finished or not.

        (ob/agent/service/task/dag.go:143-161.)
        """
        locked = [key for key, dag in self._dags.items() if key[0] == store and dag.is_maintenance]
        return self.view(max(locked)) if locked else None

    def shown(self, views: Iterable[DagView]) -> None:
        """To be told what a read has shown, once it is answered."""
        if self.clock.progression == "polls":
            now = self.clock.now()
            self.clock.read(due for view in views for due in self._due(view.dag, now))

    def life_of(self, key: Key) -> obshell.History:
        """The dag's life as it goes if nobody interferes. Raises NoSuchTask."""
        return self._lives.get(key) or _unknown(key)

    def operations_of(self, key: Key) -> tuple[OperationRecord, ...]:
        """What was asked of the dag and its nodes, refused or not, the oldest first.

        Only the last ones are kept (``records.MOST``). Raises NoSuchTask.
        """
        return self._records.of(key) if key in self._dags else _unknown(key)

    # --- operating ---

    def operate(self, key: Key, operator: obshell.Operator) -> DagView:
        """Rolls back, retries, cancels or passes a dag; what it shows right then.

        Raises NoSuchTask or IllegalOperator, and then nothing has changed.
        """
        return self._operate(self.view(key).dag, operator, node=None)

    def operate_node(self, key: Key, operator: obshell.Operator) -> DagView:
        """Passes a node; what its dag shows right then. Raises as ``operate``."""
        view, position = self.view_node(key)
        return self._operate(view.dag, operator, node=position)

    # --- being born ---

    def add(
        self,
        model: files.Dag,
        *,
        born: int | None = None,
        tick: int = SECOND,
        first_tick: int | None = None,
        filler: FakeData | None = None,
    ) -> DagView:
        """A dag, born now or at ``born``; what it shows now.

        The scheduler's ticks lie ``tick`` apart, one of them at ``first_tick``, or at its birth.
        Raises AuthorError when it has the number of another one, and then nothing has changed.
        """
        born = self.clock.now() if born is None else born
        dag = self._dag(model, born, filler or FakeData("dag"))
        key = (dag.store, dag.number)
        self._claim(key, dag)
        first = born if first_tick is None else first_tick
        rules = files.rules_of(tick, first - born, self.switches, age=0)
        life = obshell.start(files.script_of(model), rules)
        self._dags[key], self._lives[key], self._models[key] = dag, life, model
        if model.makes is not None:
            self._makers[key] = model.makes.identity
        view = self.view(key)
        self.clock.settle(born + life.states[-1].at)
        return view

    def remember(self) -> Callable[[], None]:
        """What forgets every dag and template that is added from now on."""
        dags, lives, models = dict(self._dags), dict(self._lives), dict(self._models)
        nodes, sub_tasks, makers = dict(self._nodes), dict(self._sub_tasks), dict(self._makers)
        templates = list(self.templates)

        def forget() -> None:
            self._dags, self._lives, self._models = dags, lives, models
            self._nodes, self._sub_tasks, self._makers = nodes, sub_tasks, makers
            self.templates[:] = templates

        return forget

    def hold(
        self, model: files.Dag, *, tick: int = SECOND, first_tick: int, seed: str = "dag"
    ) -> None:
        """Keeps a dag with ``starts_on`` as a template, whose names the seed fills each time."""
        if model.starts_on is not None:
            named = model.model_copy(update={"name": model.name or FakeData(seed).phrase()})
            self.templates.append(Template(model.starts_on, named, tick, first_tick, seed))

    def start(self, template: Template) -> DagView:
        """One more dag of a template, born now; what it shows at birth.

        Raises WrongIdentity or UnderMaintenance, and then nothing has changed.
        """
        model, now = template.model, self.clock.now()
        self._check_identity(template.starts_on)
        self._check_locks(model)
        model = model.model_copy(update={"id": model.id or self._next_number(model.scope)})
        view = self.add(
            model,
            born=now,
            tick=template.tick,
            first_tick=template.first_tick,
            filler=FakeData(template.seed),
        )
        return DagView(view.dag, self._lives[model.scope, view.dag.number].states[0], now)

    def _next_number(self, wanted: Store) -> int:
        """One more than the largest, and than any whose nodes and sub tasks would be in the way."""
        below = files.PER_OWNER + 1
        numbers = [number for store, number in self._dags if store == wanted]
        numbers += [number // below for store, number in self._nodes if store == wanted]
        numbers += [number // below**2 for store, number in self._sub_tasks if store == wanted]
        return max(numbers, default=0) + 1

    def _check_identity(self, starts_on: files.ObshellStartsOn) -> None:
        identity = self.agent.identity
        if starts_on.identity and identity not in starts_on.identity:
            raise WrongIdentity(identity, starts_on.identity)

    def _check_locks(self, wanted: files.Dag) -> None:
        for key, held in self._models.items():
            if files.excludes(held, wanted) and not self.view(key).state.is_finished:
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

    def _dag(self, model: files.Dag, born: int, filler: FakeData) -> Dag:
        store = model.scope
        number = model.id or next(n for n in count(1) if (store, n) not in self._dags)
        lock = model.maintenance
        return Dag(
            number=number,
            store=store,
            owner=self.own,
            name=model.name or filler.phrase(),
            maintenance_type=MAINTENANCE_TYPES[lock if isinstance(lock, str) else "tenant"],
            maintenance_key="" if isinstance(lock, str) else lock.tenant,
            nodes=tuple(
                self._node(node, files.number_below(number, place), filler)
                for place, node in enumerate(model.nodes)
            ),
            born=born,
        )

    def _node(self, model: files.Node, number: int, filler: FakeData) -> Node:
        number = model.id or number
        name = model.name or filler.phrase()
        return Node(
            number,
            name,
            tuple(
                SubTask(
                    each.id or files.number_below(number, place),
                    each.name or name,
                    each.agent or self.own,
                    each.additional_data,
                )
                for place, each in enumerate(model.sub_tasks)
            ),
        )

    def all_due(self, now: int) -> Iterator[int]:
        """For each of them the next instant after ``now`` at which it changes, if there is one."""
        for dag in self._dags.values():
            yield from self._due(dag, now)

    def _due(self, dag: Dag, now: int) -> Iterator[int]:
        due = obshell.next_due(self._lives[dag.store, dag.number], now - dag.born)
        if due is not None:
            yield dag.born + due

    def _view(self, key: Key, now: int) -> DagView:
        dag = self._dags.get(key) or _unknown(key)
        return DagView(dag, obshell.view_at(self._lives[key], now - dag.born), now)

    def _operate(self, dag: Dag, operator: obshell.Operator, *, node: int | None) -> DagView:
        key, now = (dag.store, dag.number), self.clock.now()
        try:
            life = obshell.operate(self._lives[key], operator, now - dag.born, node=node)
        except CallerError as refusal:
            self._records.keep(key, OperationRecord(now, operator, node, str(refusal)))
            raise
        self._records.keep(key, OperationRecord(now, operator, node))
        self._lives[key] = life
        after = DagView(dag, obshell.view_at(life, now - dag.born), now)
        self.clock.settle(dag.born + life.states[-1].at)
        return after


def _unknown(key: Key) -> NoReturn:
    raise NoSuchTask(key[1])
