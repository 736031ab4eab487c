"""OCP's tasks in a sandbox: view, list and operate.

A task joins what its scenario states (names, ids, users) with the history that its machine computes
on the clock of its sandbox. ``Tasks`` is the state that a sandbox folds; the functions
``operate``, ``operate_subtask``, ``start`` and ``note_read`` execute commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from oceanmock.clock import Clock
from oceanmock.engine.fake_data import FakeData
from oceanmock.engine.log import Create, Operate, Start
from oceanmock.engine.sandbox import Sandbox, TaskItem, agreed_setting, with_overrides
from oceanmock.errors import AuthorError, IdTaken, NoSuchSubtask, NoSuchTask
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import scenario as files
from oceanmock.ocp import states as ocp_states
from oceanmock.ocp.api import API, Operation
from oceanmock.ocp.scenario import Cluster, Named, Scenario, Switches, Tenant


@dataclass(frozen=True, slots=True)
class Subtask:
    """The constant data of a subtask. Upstreams and downstreams are ids."""

    id: int
    series_id: int
    name: str
    description: str
    timeout: int
    node_type: str
    parallel_idx: int
    executor: str
    prohibits_rollback: bool
    class_name: str | None
    upstreams: tuple[int, ...]
    downstreams: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """The constant data of a task. ``born`` is its start, in nanoseconds since the epoch."""

    id: int
    name: str
    type: str
    task_definition_id: int
    creator: Named
    cluster: Cluster | None
    tenant: Tenant | None
    host_id: int | None
    executor: str
    subtasks: tuple[Subtask, ...]
    born: int


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task and its state at one instant; the state's instants count from ``task.born``."""

    task: Task
    state: ocp_states.TaskState


@dataclass(frozen=True, slots=True)
class Template:
    """A task that a request starts, as often as one comes. Only ids are missing in it."""

    number: int
    starts_on: files.OcpStartsOn
    model: files.Task
    script: ocp_states.TaskScript
    rules: ocp_states.Rules
    fake_data: FakeData


class Tasks:
    """The tasks of a sandbox by their ids, and the templates of those to come."""

    api: ClassVar[str] = API.name

    def __init__(
        self, clock: Clock, scenarios: Sequence[Scenario], *, seed: int, switches: Mapping[str, Any]
    ) -> None:
        """Raise AuthorError if the scenarios differ in a switch. ``switches`` outrank theirs."""
        agreed = agreed_setting(scenarios, "switches", Switches(), lambda each: each.switches)
        self.clock: Final = clock
        self.switches: Final = with_overrides(agreed, switches)
        self.templates: Final[list[Template]] = []
        self._seed: Final = seed
        self._first_tick: Final = clock.origin
        self._tasks: dict[int, Task] = {}
        self._histories: dict[int, ocp.History] = {}
        self._places: dict[int, tuple[int, int]] = {}
        self._in_order: list[int] | None = None

    # --- reading ---

    def __len__(self) -> int:
        return len(self._tasks)

    def view(self, task_id: int) -> TaskView:
        """Return the task now. Raises NoSuchTask."""
        return self._view(task_id, self.clock.now())

    def all(self) -> list[TaskView]:
        """Return all tasks, by ascending id, at one instant."""
        if self._in_order is None:
            self._in_order = sorted(self._tasks)
        now = self.clock.now()
        return [self._view(task_id, now) for task_id in self._in_order]

    def view_subtask(self, task_id: int, subtask_id: int) -> tuple[TaskView, int]:
        """Return the task a subtask belongs to, now, and the subtask's position in it.

        Raises NoSuchSubtask; and, where pairs are checked, NoSuchTask, and NoSuchSubtask when the
        subtask is another task's.
        """
        checked = self.switches.subtask_pairing == "checked"
        if checked and task_id not in self._tasks:
            raise NoSuchTask(task_id)
        owner, position = self._places.get(subtask_id, (None, 0))
        if owner is None or (checked and owner != task_id):
            raise NoSuchSubtask(subtask_id)
        return self.view(owner), position

    def history_of(self, task_id: int) -> ocp.History:
        """Return the task's history, as it goes without further requests. Raises NoSuchTask."""
        if task_id not in self._histories:
            raise NoSuchTask(task_id)
        return self._histories[task_id]

    def due(self, now: int) -> Iterator[int]:
        """Return the next instant after ``now`` at which each task changes."""
        return self.due_of(self._tasks.values(), now)

    def due_of(self, tasks: Iterable[Task], now: int) -> Iterator[int]:
        """Return the next instant after ``now`` at which each of these changes."""
        for task in tasks:
            due = ocp.next_due(self._histories[task.id], now - task.born)
            if due is not None:
                yield task.born + due

    def ends(self) -> Iterator[int]:
        """Return the last instant at which each task changes."""
        for id, history in self._histories.items():
            yield self._tasks[id].born + history.last.at

    def items(self) -> Iterator[TaskItem]:
        """Return every task, without its subtasks."""
        return map(_item, self.all())

    def item(self, id: str) -> TaskItem:
        """Return the task of an id with its subtasks. Raises NoSuchTask."""
        view = self.view(int(id))
        parts = tuple(
            TaskItem(str(subtask.id), subtask.id, subtask.name, state.status, state.operation)
            for subtask, state in zip(view.task.subtasks, view.state.subtasks, strict=True)
        )
        return replace(_item(view), started=view.task.born, parts=parts)

    def settings(self) -> dict[str, Any]:
        """Return the keys by which a scenario file fits this sandbox: none."""
        return {}

    def details(self) -> dict[str, Any]:
        """Return nothing further."""
        return {}

    # --- changing ---

    def check(self, scenarios: Sequence[Scenario], *, sandbox: str) -> None:
        """Raise AuthorError if a scenario sets other switches."""
        for scenario in scenarios:
            if scenario.switches not in (self.switches, Switches()):
                raise AuthorError(
                    f"scenario {scenario.name!r} sets other switches than sandbox {sandbox!r} has, "
                    "which is in use. Load it into a fresh one."
                )

    def populate(self, scenarios: Sequence[Scenario], *, start: int) -> None:
        """Add the tasks and templates of scenarios that begin at ``start``.

        Raises AuthorError when the id of a task or subtask is taken.
        """
        if not scenarios:
            return
        taken = self._ids()
        taken.update(id for scenario in scenarios for id in ids_of(scenario))
        for scenario in scenarios:
            self._populate(scenario, FakeData(f"{self._seed}/{scenario.name}", taken), start)

    def apply(self, command: Operate | Start | Create, *, at: int) -> Any:
        """Apply a command at an instant and return its result; if it raises, nothing changed.

        The result of ``Operate`` and ``Start`` is the task's view, that of ``Create`` the id of the
        first task. Raises IllegalOperation, RollbackProhibited or IdTaken.
        """
        match command:
            case Operate(key=task_id, operation=operation, part=part):
                return self._operate(self._tasks[task_id], operation, part, at)  # type: ignore[index]
            case Start(template=number):
                return self._start(self.templates[number], at)
            case Create(scenario=Scenario() as scenario):
                return self._create(scenario, at)
            case _:
                raise TypeError(f"not a command of {self.api}: {command}")

    def _operate(self, task: Task, operation: Any, position: int | None, at: int) -> TaskView:
        instant = at - task.born
        history = ocp.operate(self._histories[task.id], operation, instant, subtask=position)
        self._histories[task.id] = history
        view = TaskView(task, ocp.view_at(history, instant))
        self.clock.settle(task.born + history.last.at)
        return view

    def _start(self, template: Template, at: int) -> TaskView:
        phase = (self._first_tick - at) % template.rules.tick
        history = ocp.start(template.script, replace(template.rules, phase=phase))
        task = _task(template.model, template.script, template.fake_data, number=0, born=at)
        self._add(task, history, task.name)
        self.clock.settle(at + history.last.at)
        return TaskView(task, history.first)

    def _create(self, scenario: Scenario, at: int) -> str:
        taken, ids = self._ids(), set(ids_of(scenario))
        if taken & ids:
            raise IdTaken(
                f"there is a task or subtask {min(taken & ids)} already. "
                "Leave the id out, or give it another one."
            )
        before = set(self._tasks)
        self._populate(scenario, FakeData(f"{self._seed}/{len(before)}", taken | ids), at)
        created = (task for id, task in self._tasks.items() if id not in before)
        return str(min(created, key=lambda task: task.born).id)

    def _populate(self, scenario: Scenario, fake_data: FakeData, start: int) -> None:
        rules = files.rules_of(scenario.tick, self.switches)
        ends = []
        for source in scenario.tasks:
            if source.starts_on is not None:
                continue
            script, model = files.script_of(source), _filled(source, fake_data)
            for number in range(model.repeat.count if model.repeat else 1):
                born = start - model.age + (number * model.repeat.every if model.repeat else 0)
                task = _task(model, script, fake_data, number=number, born=born)
                phase = (self._first_tick - born) % rules.tick
                history = ocp.start(script, replace(rules, phase=phase))
                self._add(task, history, scenario.name)
                ends.append(born + history.last.at)
        for end in ends:
            self.clock.settle(end)
        for source in scenario.tasks:
            if source.starts_on is not None:
                model, script = _filled(source, fake_data), files.script_of(source)
                template = Template(
                    len(self.templates), source.starts_on, model, script, rules, fake_data
                )
                self.templates.append(template)

    def _ids(self) -> set[int]:
        """Return the ids of all tasks and subtasks."""
        return {*self._tasks, *self._places}

    def _view(self, task_id: int, now: int) -> TaskView:
        task = self._tasks.get(task_id)
        if task is None:
            raise NoSuchTask(task_id)
        return TaskView(task, ocp.view_at(self._histories[task_id], now - task.born))

    def _add(self, task: Task, history: ocp.History, owner: str) -> None:
        if task.id in self._tasks:
            raise AuthorError(
                f"scenario {owner!r} has a task {task.id}, and so has another one. "
                "Serve them apart, or give one of the tasks another id."
            )
        for position, subtask in enumerate(task.subtasks):
            if subtask.id in self._places:
                raise AuthorError(
                    f"scenario {owner!r} has a subtask {subtask.id}, and so has another "
                    "one. Serve them apart, or give one of the subtasks another id."
                )
            self._places[subtask.id] = (task.id, position)
        self._tasks[task.id] = task
        self._histories[task.id] = history
        self._in_order = None


def new_world(
    clock: Clock, scenarios: Sequence[Scenario], *, seed: int, switches: Mapping[str, Any]
) -> Tasks:
    """Return the empty state of a sandbox with these scenarios. Raises AuthorError."""
    return Tasks(clock, scenarios, seed=seed, switches=switches)


def steps_of(scenario: Scenario) -> int:
    """Return how many subtasks a scenario has, with all that repeats."""
    return sum(
        len(task.subtasks) * (task.repeat.count if task.repeat else 1) for task in scenario.tasks
    )


# --- commands -------------------------------------------------------------------------------------


def operate(sandbox: Sandbox, task_id: int, operation: Operation) -> TaskView:
    """Retry or roll back a task, and return it as it is right then.

    Raises NoSuchTask, IllegalOperation or RollbackProhibited; then nothing has changed.
    """
    sandbox.world(Tasks).view(task_id)
    view: TaskView = sandbox.execute(Operate(Tasks.api, task_id, operation))
    return view


def operate_subtask(
    sandbox: Sandbox, task_id: int, subtask_id: int, operation: Operation
) -> tuple[TaskView, int]:
    """Retry, skip or cancel a subtask; return its task right then, and its position in it.

    Raises as ``Tasks.view_subtask``, and IllegalOperation; then nothing has changed.
    """
    view, position = sandbox.world(Tasks).view_subtask(task_id, subtask_id)
    after: TaskView = sandbox.execute(Operate(Tasks.api, view.task.id, operation, position))
    return after, position


def start(sandbox: Sandbox, template: Template) -> TaskView:
    """Start a task of a template now, and return it."""
    view: TaskView = sandbox.execute(Start(Tasks.api, template.number))
    return view


def note_read(sandbox: Sandbox, views: Iterable[TaskView]) -> None:
    """Move a clock under ``polls`` on, after a response has shown these tasks."""
    due = sandbox.world(Tasks).due_of((view.task for view in views), sandbox.clock.now())
    sandbox.note_read(due)


def _item(view: TaskView) -> TaskItem:
    task, state = view.task, view.state
    return TaskItem(str(task.id), task.id, task.name, state.status, state.operation)


# --- from a scenario to tasks ---------------------------------------------------------------------


def ids_of(scenario: Scenario) -> Iterator[int]:
    """Every id a scenario gives to a task or a subtask."""
    for task in scenario.tasks:
        if task.id is not None:
            yield from range(task.id, task.id + (task.repeat.count if task.repeat else 1))
        yield from (subtask.id for subtask in task.subtasks if subtask.id is not None)


def _filled(model: files.Task, fake_data: FakeData) -> files.Task:
    """The task with names, creator and addresses for all that has none."""
    executor = model.executor or fake_data.host
    subtasks = tuple(
        subtask.model_copy(
            update={
                "name": subtask.name or fake_data.phrase(),
                "executor": subtask.executor or executor,
            }
        )
        for subtask in model.subtasks
    )
    return model.model_copy(
        update={
            "name": model.name or fake_data.phrase(),
            "creator": model.creator or _creator(fake_data),
            "executor": executor,
            "subtasks": subtasks,
        }
    )


def _creator(fake_data: FakeData) -> Named:
    id, name = fake_data.user()
    return Named(id=id, name=name)


def _task(
    model: files.Task, script: ocp_states.TaskScript, fake_data: FakeData, *, number: int, born: int
) -> Task:
    """The ``number``th task (from 0) of a template in which nothing but ids is missing."""
    ids = [subtask.id or fake_data.id() for subtask in model.subtasks]
    downstreams = ocp.downstreams_of(script)
    return Task(
        id=model.id + number if model.id else fake_data.id(),
        name=str(model.name).replace("{n}", str(number + 1)),
        type=model.type,
        task_definition_id=model.task_definition_id,
        creator=model.creator or _creator(fake_data),
        cluster=model.cluster,
        tenant=model.tenant,
        host_id=model.host_id,
        executor=str(model.executor),
        subtasks=tuple(
            _subtask(
                subtask,
                ids[place],
                place,
                upstreams=tuple(ids[up] for up in script.subtasks[place].needs),
                downstreams=tuple(ids[down] for down in downstreams[place]),
            )
            for place, subtask in enumerate(model.subtasks)
        ),
        born=born,
    )


def _subtask(
    model: files.Subtask,
    id: int,
    place: int,
    *,
    upstreams: tuple[int, ...],
    downstreams: tuple[int, ...],
) -> Subtask:
    name = str(model.name)
    return Subtask(
        id=id,
        series_id=place if model.series_id is None else model.series_id,
        name=name,
        description=name if model.description is None else model.description,
        timeout=model.timeout,
        node_type="JAVA_TASK",
        parallel_idx=model.parallel_idx,
        executor=str(model.executor),
        prohibits_rollback=model.prohibit_rollback,
        class_name=model.class_name,
        upstreams=upstreams,
        downstreams=downstreams,
    )
