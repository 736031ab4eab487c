"""OCP's tasks in a sandbox: view, list and operate.

A task joins what a scenario says of it (who and what it is) with what the machine says of its life,
and reads the sandbox's clock for both. Every call is done before it returns and awaits nothing, so
on one event loop each is atomic. The rule: reads change nothing but, under `polls`, the clock, and
that only once the answer has been given (``shown``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from oceanmock.clock import Clock
from oceanmock.engine.fake_data import FakeData
from oceanmock.engine.records import OperationRecord, Records
from oceanmock.errors import AuthorError, CallerError, NoSuchSubtask, NoSuchTask
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import scenario as files
from oceanmock.ocp.scenario import Cluster, Named, Scenario, Switches, Tenant


@dataclass(frozen=True, slots=True)
class Subtask:
    """What stays the same about a subtask all its life. Upstreams and downstreams are ids."""

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
    """What stays the same about a task all its life. ``born``: nanoseconds since the epoch."""

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
    """A task and what it shows at one instant; the state's instants count from ``task.born``."""

    task: Task
    state: ocp.TaskState


@dataclass(frozen=True, slots=True)
class Template:
    """A task that a request starts, as often as one comes; nothing but ids is missing in it."""

    starts_on: files.OcpStartsOn
    model: files.Task
    plan: ocp.TaskScript
    rules: ocp.Rules
    filler: FakeData
    first_tick: int


class Tasks:
    """The tasks that live by one clock, by their ids; and the templates of those to come."""

    def __init__(self, clock: Clock, switches: Switches) -> None:
        self.clock: Final = clock
        self.switches: Final = switches
        self._tasks: dict[int, Task] = {}
        self._lives: dict[int, ocp.History] = {}
        self._places: dict[int, tuple[int, int]] = {}
        self._records: Final = Records[int]()
        self._in_order: list[int] | None = None
        self.templates: Final[list[Template]] = []

    def view(self, task_id: int) -> TaskView:
        """The task now. Raises NoSuchTask."""
        return self._view(task_id, self.clock.now())

    def all(self) -> list[TaskView]:
        """All tasks, by ascending id, at one instant."""
        if self._in_order is None:
            self._in_order = sorted(self._tasks)
        now = self.clock.now()
        return [self._view(task_id, now) for task_id in self._in_order]

    def view_subtask(self, task_id: int, subtask_id: int) -> tuple[TaskView, int]:
        """The task a subtask belongs to, now, and the subtask's position in it.

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

    def life_of(self, task_id: int) -> ocp.History:
        """The task's life as it goes if nobody interferes. Raises NoSuchTask."""
        if task_id not in self._lives:
            raise NoSuchTask(task_id)
        return self._lives[task_id]

    def operations_of(self, task_id: int) -> tuple[OperationRecord, ...]:
        """What was asked of the task and its subtasks, refused or not, the oldest first.

        Only the last ones are kept (``records.MOST``). Raises NoSuchTask.
        """
        if task_id not in self._tasks:
            raise NoSuchTask(task_id)
        return self._records.of(task_id)

    def operate(self, task_id: int, operation: ocp.Operation) -> TaskView:
        """Retries or rolls back a task; what it shows right then.

        Raises NoSuchTask, IllegalOperation or RollbackProhibited, and then nothing has changed.
        """
        return self._operate(self.view(task_id), operation)

    def operate_subtask(
        self, task_id: int, subtask_id: int, operation: ocp.Operation
    ) -> tuple[TaskView, int]:
        """Retries, skips or cancels a subtask; its task right then, and its position in it.

        Raises as ``view_subtask``, and IllegalOperation, and then nothing has changed.
        """
        view, position = self.view_subtask(task_id, subtask_id)
        return self._operate(view, operation, position), position

    def shown(self, views: Iterable[TaskView]) -> None:
        """To be told what a read has shown, once it is answered."""
        if self.clock.progression == "polls":
            now = self.clock.now()
            self.clock.read(due for view in views for due in self._due(view.task, now))

    def add(
        self, scenario: Scenario, filler: FakeData, *, start: int, first_tick: int | None = None
    ) -> None:
        """The tasks of a scenario that begins at ``start``, as does the clock of its sandbox.

        Where that has begun before, ``first_tick`` is one of its schedulers' ticks. Raises
        AuthorError when another scenario's task or subtask has the id of one of them.
        """
        tick = start if first_tick is None else first_tick
        born = list(_populate(scenario, self.switches, filler, start, tick))
        for task, life in born:
            self._add(task, life, scenario.name)
        for task, life in born:
            self.clock.settle(task.born + life.states[-1].at)
        self.templates.extend(_templates(scenario, self.switches, filler, tick))

    def remember(self) -> Callable[[], None]:
        """What forgets every task and template that is added from now on."""
        tasks, lives, places = dict(self._tasks), dict(self._lives), dict(self._places)
        templates = list(self.templates)

        def forget() -> None:
            self._tasks, self._lives, self._places, self._in_order = tasks, lives, places, None
            self.templates[:] = templates

        return forget

    def start(self, template: Template) -> TaskView:
        """One more task of a template, born now; what it shows at birth."""
        now = self.clock.now()
        phase = (template.first_tick - now) % template.rules.tick
        life = ocp.start(template.plan, replace(template.rules, phase=phase))
        task = _task(template.model, template.plan, template.filler, number=0, born=now)
        self._add(task, life, task.name)
        self.clock.settle(now + life.states[-1].at)
        return TaskView(task, life.states[0])

    def all_due(self, now: int) -> Iterator[int]:
        """For each of them the next instant after ``now`` at which it changes, if there is one."""
        for task in self._tasks.values():
            yield from self._due(task, now)

    def _due(self, task: Task, now: int) -> Iterator[int]:
        due = ocp.next_due(self._lives[task.id], now - task.born)
        if due is not None:
            yield task.born + due

    def _view(self, task_id: int, now: int) -> TaskView:
        task = self._tasks.get(task_id)
        if task is None:
            raise NoSuchTask(task_id)
        return TaskView(task, ocp.view_at(self._lives[task_id], now - task.born))

    def _operate(
        self, view: TaskView, operation: ocp.Operation, position: int | None = None
    ) -> TaskView:
        task, now = view.task, self.clock.now()
        try:
            life = ocp.operate(self._lives[task.id], operation, now - task.born, subtask=position)
        except CallerError as refusal:
            self._records.keep(task.id, OperationRecord(now, operation, position, str(refusal)))
            raise
        self._records.keep(task.id, OperationRecord(now, operation, position))
        self._lives[task.id] = life
        after = TaskView(task, ocp.view_at(life, now - task.born))
        self.clock.settle(task.born + life.states[-1].at)
        return after

    def _add(self, task: Task, life: ocp.History, owner: str) -> None:
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
        self._lives[task.id] = life
        self._in_order = None


# --- from a scenario to tasks ---------------------------------------------------------------------


def ids_of(scenario: Scenario) -> Iterator[int]:
    """Every id a scenario gives to a task or a subtask."""
    for task in scenario.tasks:
        if task.id is not None:
            yield from range(task.id, task.id + (task.repeat.count if task.repeat else 1))
        yield from (subtask.id for subtask in task.subtasks if subtask.id is not None)


def _populate(
    scenario: Scenario, switches: Switches, filler: FakeData, start: int, first_tick: int
) -> Iterator[tuple[Task, ocp.History]]:
    """Each task of a scenario with its life; a repeated one as often as it says."""
    rules = files.rules_of(scenario.tick, switches)
    for written in scenario.tasks:
        if written.starts_on is not None:
            continue
        plan = files.script_of(written)
        model = _filled(written, filler)
        for number in range(model.repeat.count if model.repeat else 1):
            born = start - model.age + (number * model.repeat.every if model.repeat else 0)
            task = _task(model, plan, filler, number=number, born=born)
            yield task, ocp.start(plan, replace(rules, phase=(first_tick - born) % rules.tick))


def _templates(
    scenario: Scenario, switches: Switches, filler: FakeData, start: int
) -> Iterator[Template]:
    """Each task of a scenario that a request starts."""
    rules = files.rules_of(scenario.tick, switches)
    for written in scenario.tasks:
        if written.starts_on is not None:
            model, plan = _filled(written, filler), files.script_of(written)
            yield Template(written.starts_on, model, plan, rules, filler, start)


def _filled(model: files.Task, filler: FakeData) -> files.Task:
    """The task with names, creator and addresses for all that has none."""
    executor = model.executor or filler.host
    subtasks = tuple(
        subtask.model_copy(
            update={
                "name": subtask.name or filler.phrase(),
                "executor": subtask.executor or executor,
            }
        )
        for subtask in model.subtasks
    )
    return model.model_copy(
        update={
            "name": model.name or filler.phrase(),
            "creator": model.creator or filler.creator(),
            "executor": executor,
            "subtasks": subtasks,
        }
    )


def _task(
    model: files.Task, plan: ocp.TaskScript, filler: FakeData, *, number: int, born: int
) -> Task:
    """The ``number``th task (from 0) of a template in which nothing but ids is missing."""
    ids = [subtask.id or filler.id() for subtask in model.subtasks]
    downstreams = ocp.downstreams_of(plan)
    return Task(
        id=model.id + number if model.id else filler.id(),
        name=str(model.name).replace("{n}", str(number + 1)),
        type=model.type,
        task_definition_id=model.task_definition_id,
        creator=model.creator or filler.creator(),
        cluster=model.cluster,
        tenant=model.tenant,
        host_id=model.host_id,
        executor=str(model.executor),
        subtasks=tuple(
            _subtask(
                subtask,
                ids[place],
                place,
                upstreams=tuple(ids[up] for up in plan.subtasks[place].needs),
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
