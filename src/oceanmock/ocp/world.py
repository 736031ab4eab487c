"""OCP's tasks in a sandbox: view, list and operate.

``Tasks`` is what the commands of a sandbox lead to; ``operate``, ``operate_subtask`` and ``start`` execute commands.
"""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from heapq import heappop, heappush, merge
from itertools import accumulate
from operator import attrgetter
from typing import Any, ClassVar, Final

from oceanmock.api import Fragment
from oceanmock.clock import SECOND, Clock
from oceanmock.engine import world as base
from oceanmock.engine.listing import BY_FINISH, BY_ID, Index, Query, Sort, by_start, page_of, select
from oceanmock.engine.log import Operate, Start
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import IdTaken, InputError, NoSuchSubtask
from oceanmock.ocp import machine
from oceanmock.ocp import scenario as files
from oceanmock.ocp import states as ocp_states
from oceanmock.ocp.api import API, Operation, read_long
from oceanmock.ocp.scenario import Named, Scenario, Switches
from oceanmock.scenario import MAX_ID
from oceanmock.scenario.stubs import StubRequest

MAX_STALE: Final = 500
"""How many tasks are indexed only when a list is first read; more are indexed when the scenario is loaded."""


@dataclass(frozen=True, slots=True)
class SubtaskData:
    """The constant data of a subtask. Upstreams and downstreams are ids."""

    id: int
    name: str
    description: str
    executor: str
    series_id: int
    model: files.Subtask
    upstreams: tuple[int, ...]
    downstreams: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TaskData:
    """The constant data of a task, created at an instant in nanoseconds since the epoch."""

    id: int
    name: str
    creator: Named | base.FakeUser
    executor: str
    model: files.Task
    subtasks: tuple[SubtaskData, ...]
    created: int

    @property
    def key(self) -> int:
        return self.id


TaskView = base.View[TaskData, ocp_states.TaskState]


@dataclass(frozen=True, slots=True)
class Template:
    """A task of a scenario without ids, and the request that starts it, if any; ``names`` are those of the subtasks."""

    number: int
    model: files.Task
    starts_on: Any
    script: ocp_states.TaskScript
    rules: ocp_states.Rules
    fake_data: base.FakeData
    names: tuple[str, ...]
    name: str
    creator: Named | base.FakeUser


class Tasks(base.World[int, TaskData, ocp_states.TaskState]):
    """The tasks of a sandbox by their ids, and the templates of tasks that requests start."""

    api = API.name
    machine: ClassVar = machine
    switches = Switches()

    def __init__(self, clock: Clock, scenarios: Sequence[Scenario], **options: Any) -> None:
        super().__init__(clock, scenarios, **options)
        self._places: dict[int, tuple[int, int]] = {}
        self._taken, self._task_ids = base.TakenIds(), base.TakenIds()
        self.encoded = dict[int, tuple[ocp_states.TaskState, Fragment]]()  # the handlers' cache, by id
        self._index, self._stale, self._dues = Index(), set[int](), list[tuple[int, int]]()

    def all(self) -> list[TaskView]:
        """Return all tasks, by ascending id, at one instant. This builds each."""
        now = self.clock.now()
        groups = [id for group in self._groups for id in group.ids]
        return [self.view(id, now) for id in sorted({*self._data, *groups})]

    def page(self, query: Query, now: int, *, skip: int, size: int) -> tuple[int, list[int]]:
        """Return how many tasks match at an instant, and the ids of ``size`` of them after the first ``skip``."""
        self._refresh(now)
        sequences = [self._index.entries(query), *select(self._groups, query, now)]
        return sum(map(len, sequences)), page_of(sequences, skip, size, descending=query.descending)

    def _refresh(self, now: int) -> None:
        """Update the index to an instant: the tasks that were added or operated, and those that have changed."""
        while self._dues and self._dues[0][0] <= now:
            self._stale.add(heappop(self._dues)[1])
        rows = dict[int, base.Row]()
        for id in self._stale:
            task, state = self._data[id], self.view(id, now).state
            finished = -1 if state.finish_time is None else task.created + state.finish_time
            rows[id] = base.Row(id, task.name, task.created + state.start_time, finished, state, task)
            for due in self.due(now, [id]):
                heappush(self._dues, (due, id))
        self._index.update(rows, self._stale & self._changed)
        self._stale.clear()

    def view_subtask(self, task_id: int, subtask_id: int) -> tuple[TaskView, int]:
        """Return the task of a subtask, now, and its position there. Raises NoSuchSubtask, or NoSuchTask if checked."""
        is_checked = self.switches.subtask_pairing == "checked"
        if is_checked:
            self.data_of(task_id)
        place = self._places.get(subtask_id)
        for group in self._groups if place is None else ():
            if subtask_id in group.part_ids:
                number, position = divmod(subtask_id - group.part_ids.start, len(group.template.model.subtasks))
                place = group.ids[number], position
        if place is None or (is_checked and place[0] != task_id):
            raise NoSuchSubtask(subtask_id)
        return self.view(place[0]), place[1]

    def view_named(self, ids: Mapping[str, str]) -> TaskView:
        if "subtask" not in ids:
            return self.view(read_long(ids["task"]))
        view, position = self.view_subtask(read_long(ids["task"]), read_long(ids["subtask"]))
        state: Any = view.state.subtasks[position]
        return replace(view, state=state)

    def items(self) -> Iterator[base.TaskItem]:
        """Yield every task without its subtasks; the tasks of a group are not built."""
        now = self.clock.now()
        self._refresh(now)
        indexed = sorted(self._index.rows.values(), key=attrgetter("id"))
        for row in merge(indexed, *(group.rows(now) for group in self._groups), key=attrgetter("id")):
            yield _item(row, row.state)

    def key_of(self, id: str) -> int:
        """Return the number of an id. Raises ValueError."""
        return int(id)

    def item(self, id: str) -> base.TaskItem:
        view = self.view(int(id))
        parts = tuple(map(_item, view.data.subtasks, view.state.subtasks))
        return replace(_item(view.data, view.state), started=view.data.created, parts=parts)

    def populate(self, scenarios: Sequence[Scenario], *, start: int) -> None:
        for ids in ids_of(scenarios):
            self._taken.add(ids)
        for scenario in scenarios:
            self._populate(scenario, base.FakeData(f"{self._seed}/{scenario.name}", self._taken), start)

    def start(self, template: int, at: int, values: Mapping[str, Any]) -> TaskView:
        """Start a task of the template at a position; ``values`` are its name, and ids by ``ID_SEGMENTS``."""
        source = self.templates[template]
        model, update = source.model, {"host_id": values.get("host_id", source.model.host_id)}
        for name, target in (("cluster", model.cluster), ("tenant", model.tenant)):
            if target is not None and name in values:
                update[name] = target.model_copy(update={"id": values[name]})
        source = replace(source, name=values.get("name", source.name), model=model.model_copy(update=update))
        key = self._begin(source, at, owner=source.name)
        self._starts[template] += 1
        return self.view(key, at)

    def create(self, scenario: Scenario, at: int) -> str:
        ids = list(ids_of([scenario]))
        taken = [id for id in map(self._taken.first_in, ids) if id is not None]
        if taken:
            raise IdTaken(f"there is a task or subtask {min(taken)} already. Leave the id out, or give it another one.")
        number = len(self)
        for taken_ids in ids:
            self._taken.add(taken_ids)
        fake_data = base.FakeData(f"{self._seed}/{number}", self._taken)
        return str(self._populate(scenario, fake_data, at, are_newest=True))

    def _populate(self, scenario: Scenario, fake_data: base.FakeData, start: int, *, are_newest: bool = False) -> int:
        """Add the tasks and templates of a scenario, and return the id of the first task."""
        rules, ids = files.rules_of(scenario.tick, self.switches), list[int]()
        models = scenario.tasks if are_newest else _with_ids(scenario.tasks, fake_data)
        for model in sorted(models, key=lambda model: model.starts_on is not None):
            names = [subtask.name or fake_data.phrase() for subtask in model.subtasks]
            name = model.name or fake_data.phrase()
            template = Template(
                number=len(self.templates),
                model=model,
                starts_on=model.starts_on,
                script=files.script_of(model),
                rules=rules,
                fake_data=fake_data,
                names=tuple(names),
                name=name,
                creator=model.creator or fake_data.user(),
            )
            if model.starts_on is not None:
                self.templates.append(template)
            elif model.repeat is not None:
                ids.append(self._begin_group(template, start - model.age, owner=scenario.name))
            else:
                ids.append(self._begin(template, start - model.age, owner=scenario.name))
        fake_data.draw_users()
        if len(self._stale) > MAX_STALE:
            self._refresh(start)
        return ids[0] if ids else 0

    def _begin_group(self, template: Template, created: int, *, owner: str) -> int:
        model, fake_data, tick = template.model, template.fake_data, template.rules.tick
        count, every = (model.repeat.count, model.repeat.every) if model.repeat else (1, 0)
        part_ids = fake_data.ids(count * len(model.subtasks))
        ids = range(model.id, model.id + count) if model.id else self._newest_ids(fake_data, count)
        self._take_task_ids(ids, owner)
        # From the first subtask tick on, a task changes independently of the instant at which it was created.
        history = machine.start(template.script, replace(template.rules, phase=-(tick // 2) % tick))
        phase = self._first_tick + tick // 2
        data, _ = self._make(template, ids.start, part_ids[: len(model.subtasks)], number=0, created=created)
        group = base.Group(template, data, template.name, ids, part_ids, created, every, tick, phase, history)
        insort(self._groups, group, key=base.FIRST_ID)
        if self.clock.progression == "immediate" and (end := group.end()) is not None:
            self.clock.move_to(end)
        return ids.start

    def _take_task_ids(self, ids: range, owner: str) -> None:
        """Raise InputError when a task has one of the ids."""
        taken = self._task_ids.first_in(ids)
        if taken is not None:
            raise _id_taken("task", taken, owner)
        self._task_ids.add(ids)

    def _build(self, group: base.Group, number: int) -> tuple[TaskData, machine.History]:
        width = len(group.template.model.subtasks)
        ids = group.part_ids[number * width : (number + 1) * width]
        return self._make(group.template, group.ids[number], ids, number=number, created=group.start_of(number))

    def _newest_ids(self, fake_data: base.FakeData, count: int) -> range:
        """Take ids above those of all tasks, if there are such, as a server counts its ids up, and return them."""
        first = self._task_ids.last + 1
        if self._taken.first_in(range(first, first + count)) is not None:
            first = self._taken.last + 1
        if not base.FIRST_FREE_ID < first <= MAX_ID - count + 1:
            return fake_data.ids(count)
        ids = range(first, first + count)
        self._taken.add(ids)
        return ids

    def _begin(self, template: Template, created: int, *, owner: str) -> int:
        """Add the task of a template with its history, and return its id. Raises InputError when an id is taken."""
        fake_data = template.fake_data
        ids = [subtask.id or fake_data.ids(1).start for subtask in template.model.subtasks]
        task_id = template.model.id or self._newest_ids(fake_data, 1).start
        self._take_task_ids(range(task_id, task_id + 1), owner)
        for place, id in enumerate(ids):
            if id in self._places:
                raise _id_taken("subtask", id, owner)
            self._places[id] = (task_id, place)
        self._add(task_id, *self._make(template, task_id, ids, number=0, created=created))
        return task_id

    def _add(self, key: int, data: TaskData, history: machine.History) -> None:
        self._stale.add(key)
        super()._add(key, data, history)

    def _make(
        self, template: Template, id: int, ids: Sequence[int], *, number: int, created: int
    ) -> tuple[TaskData, machine.History]:
        """Return the data and the history of a template's task; ``ids`` are its subtasks'."""
        model, script = template.model, template.script
        executor = model.executor or template.fake_data.host
        subtasks = [
            SubtaskData(
                id=ids[place],
                name=template.names[place],
                description=template.names[place] if subtask.description is None else subtask.description,
                executor=subtask.executor or executor,
                series_id=place if subtask.series_id is None else subtask.series_id,
                model=subtask,
                upstreams=tuple([ids[up] for up in script.subtasks[place].needs]),
                downstreams=tuple([ids[down] for down in script.downstreams[place]]),
            )
            for place, subtask in enumerate(model.subtasks)
        ]
        name = template.name if model.starts_on else template.name.replace(base.PLACEHOLDER, str(number + 1))
        task = TaskData(id, name, template.creator, executor, model, tuple(subtasks), created)
        rules = replace(template.rules, phase=(self._first_tick - created) % template.rules.tick)
        return task, machine.start(script, rules)


def _with_ids(models: Sequence[files.Task], fake_data: base.FakeData) -> list[files.Task]:
    """Return tasks of a file with ids for those that lack one, which count up from the oldest task."""
    places = [place for place, model in enumerate(models) if model.id is None and model.starts_on is None]
    places.sort(key=lambda place: -models[place].age)
    counts = [repeat.count if (repeat := models[place].repeat) else 1 for place in places]
    result, firsts = list(models), accumulate(counts, initial=fake_data.ids(sum(counts)).start if counts else 0)
    for place, first in zip(places, firsts, strict=False):
        result[place] = models[place].model_copy(update={"id": first})
    return result


def _id_taken(kind: str, id: int, owner: str) -> InputError:
    return InputError(
        f"scenario {owner!r} has a {kind} {id}, and so has another one. "
        f"Serve them apart, or give one of the {kind}s another id."
    )


new_world: Final = Tasks


def steps_of(scenario: Scenario) -> int:
    """Return how many attempts the subtasks of a scenario have; a repeated task, built on demand, counts once."""
    return sum(len(subtask.attempts) for task in scenario.tasks for subtask in task.subtasks)


def ids_of(scenarios: Iterable[Scenario]) -> Iterator[range]:
    """Yield the ids that scenarios give to tasks and subtasks."""
    for scenario in scenarios:
        for task in scenario.tasks:
            counts = [(task.id, task.repeat.count if task.repeat else 1), *((part.id, 1) for part in task.subtasks)]
            yield from (range(id, id + count) for id, count in counts if id is not None)


TASK_FILTERS: Final[Mapping[str, Callable[[TaskData, Any], bool]]] = {
    # SYS_ONECE is the reference's misspelling, which clients have copied.
    "type": lambda task, value: task.model.type == ("SYS_ONCE" if value == "SYS_ONECE" else value),
    **dict.fromkeys(
        ("clusterName", "cluterName"),
        # That case is ignored is not verified.
        lambda task, part: task.model.cluster is not None and part.casefold() in task.model.cluster.name.casefold(),
    ),
    "clusterId": lambda task, value: task.model.cluster is not None and task.model.cluster.id == value,
    "tenantName": lambda task, value: task.model.tenant is not None and task.model.tenant.name == value,
    "tenantId": lambda task, value: task.model.tenant is not None and task.model.tenant.id == value,
    "hostId": lambda task, value: task.model.host_id == value,
}
"""By query parameter, the tasks that match its value."""

SORTS: Final[Mapping[str, Sort]] = {
    "id": BY_ID,
    "name": Sort(attrgetter("name"), by="name"),
    "taskDefinitionId": Sort(attrgetter("data.model.task_definition_id")),
    "type": Sort(attrgetter("data.model.type")),
    "creator": Sort(attrgetter("data.creator.name")),
    "executor": Sort(attrgetter("data.executor")),
    "operation": Sort(attrgetter("state.operation"), by="state"),
    "prohibitRollback": Sort(attrgetter("state.prohibit_rollback"), by="state"),
    "createTime": by_start(SECOND),
    "startTime": by_start(),
    **dict.fromkeys(("status", "state"), Sort(attrgetter("state.status"), by="state")),
    **dict.fromkeys(("finishTime", "endTime"), BY_FINISH),
}
"""The properties that a list can be sorted by, also by the names of the entity (TaskInstanceOverview.java)."""


def query_of(params: Mapping[str, Any]) -> Query:
    """Return the filters and the order of a request's query; statuses match in any case (TaskState.fromValue)."""
    key, _, direction = params.get("sort", "id,desc").partition(",")
    return Query(
        tests=tuple([(test, params[name]) for name, test in TASK_FILTERS.items() if name in params]),
        statuses=frozenset(text.upper() for text in params["status"]) if "status" in params else None,
        part=params.get("name", ""),
        sort=SORTS[key],
        descending=direction.lower() == "desc",
    )


def _item(part: TaskData | SubtaskData | base.Row, state: Any) -> base.TaskItem:
    return base.TaskItem(str(part.id), part.id, part.name, state.status, state.operation)


def operate(sandbox: Sandbox, task_id: int, operation: Operation) -> TaskView:
    """Retry or roll back a task, and return it. Raises NoSuchTask, IllegalOperation or RollbackProhibited."""
    sandbox.world(Tasks).data_of(task_id)
    view: TaskView = sandbox.execute(Operate(Tasks.api, task_id, operation))
    return view


def operate_subtask(sandbox: Sandbox, task_id: int, subtask_id: int, operation: Operation) -> tuple[TaskView, int]:
    """Retry, skip or cancel a subtask; return its task and its position. Raises NoSuchSubtask, IllegalOperation."""
    view, position = sandbox.world(Tasks).view_subtask(task_id, subtask_id)
    after: TaskView = sandbox.execute(Operate(Tasks.api, view.data.id, operation, position))
    return after, position


ID_SEGMENTS: Final = {"cluster": "ob/clusters", "tenant": "tenants", "host_id": "hosts"}
"""The path segments that precede the ids of a task's cluster, tenant and host."""


def start(sandbox: Sandbox, template: Template, request: StubRequest) -> TaskView:
    """Start a task of a template; the request may state its name and the ids of its cluster, tenant and host."""
    path = template.starts_on.path
    values: list[tuple[str, Any]] = [("name", request.fill(template.name.replace(base.PLACEHOLDER, "1"), path))]
    for key, segment in ID_SEGMENTS.items():
        match = re.search(rf"/{segment}/\{{(\w+)\}}", path)
        with suppress(ValueError):
            id = read_long(request.values(path)["path"][match[1]] if match else "")
            values += [(key, id)] if 0 < id <= MAX_ID else []
    view: TaskView = sandbox.execute(Start(Tasks.api, template.number, tuple(values)))
    return view
