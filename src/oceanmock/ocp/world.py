"""OCP's tasks in a sandbox: view, list and operate.

``Tasks`` is the state that a sandbox folds; the functions ``operate``, ``operate_subtask``, ``start`` and ``note_read``
execute commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

from oceanmock.clock import Clock
from oceanmock.engine.log import Operate, Start
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.world import FakeData, FakeUser, TaskItem, World
from oceanmock.errors import AuthorError, IdTaken, NoSuchSubtask
from oceanmock.ocp import machine
from oceanmock.ocp import scenario as files
from oceanmock.ocp import states as ocp_states
from oceanmock.ocp.api import API, Operation
from oceanmock.ocp.scenario import Named, Scenario, Switches


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
    creator: Named | FakeUser
    executor: str
    model: files.Task
    subtasks: tuple[SubtaskData, ...]
    created: int

    @property
    def key(self) -> int:
        """Return its id."""
        return self.id


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task and its state at ``now``; the state's instants count from ``task.created``."""

    task: TaskData
    state: ocp_states.TaskState
    now: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Template:
    """A task of a scenario, in which only ids are missing; ``names`` are its subtasks'.

    ``starts_on`` is the request that starts it, as often as one comes; None if none does.
    """

    number: int
    model: files.Task
    starts_on: Any
    script: ocp_states.TaskScript
    rules: ocp_states.Rules
    fake_data: FakeData
    names: tuple[str, ...]
    name: str
    creator: Named | FakeUser


class Tasks(World[int, TaskData, TaskView, Template]):
    """The tasks of a sandbox by their ids, and the templates of those to come."""

    api = API.name
    view_type = TaskView
    machine: ClassVar = machine
    switches = Switches()

    def __init__(self, clock: Clock, scenarios: Sequence[Scenario], **options: Any) -> None:
        super().__init__(clock, scenarios, **options)
        self._places: dict[int, tuple[int, int]] = {}
        self._in_order: list[int] | None = None

    # --- reading ---

    def all(self) -> list[TaskView]:
        """Return all tasks, by ascending id, at one instant."""
        if self._in_order is None:
            self._in_order = sorted(self._data)
        now = self.clock.now()
        return [self.view(task_id, now) for task_id in self._in_order]

    def view_subtask(self, task_id: int, subtask_id: int) -> tuple[TaskView, int]:
        """Return the task a subtask belongs to, now, and the subtask's position in it.

        Raises NoSuchSubtask; and, where pairs are checked, NoSuchTask, and NoSuchSubtask when the subtask is another
        task's.
        """
        checked = self.switches.subtask_pairing == "checked"
        if checked:
            self.data_of(task_id)
        owner, position = self._places.get(subtask_id, (None, 0))
        if owner is None or (checked and owner != task_id):
            raise NoSuchSubtask(subtask_id)
        return self.view(owner), position

    def items(self) -> Iterator[TaskItem]:
        """Return every task, without its subtasks."""
        return map(_item, self.all())

    def key_of(self, id: str) -> int:
        """Return the key of an id: its number. Raises ValueError."""
        return int(id)

    def item(self, id: str) -> TaskItem:
        """Return the task of an id with its subtasks. Raises NoSuchTask."""
        view = self.view(int(id))
        parts = tuple(
            TaskItem(str(subtask.id), subtask.id, subtask.name, state.status, state.operation)
            for subtask, state in zip(view.task.subtasks, view.state.subtasks, strict=True)
        )
        return replace(_item(view), started=view.task.created, parts=parts)

    # --- changing ---

    def populate(self, scenarios: Sequence[Scenario], *, start: int) -> None:
        """Add the tasks and templates of scenarios that begin at ``start``.

        Raises AuthorError when the id of a task or subtask is taken.
        """
        if not scenarios:
            return
        taken = {*self._data, *self._places, *ids_of(scenarios)}
        for scenario in scenarios:
            self._populate(scenario, FakeData(f"{self._seed}/{scenario.name}", taken), start)

    def start(self, template: int, at: int) -> TaskView:
        """Start a task of the template at a position, and return it."""
        source = self.templates[template]
        return self.view(self._begin(source, at, 0, owner=source.name), at)

    def create(self, scenario: Scenario, at: int) -> str:
        """Start the task of a scenario and return its id. Raises IdTaken; then nothing has changed."""
        taken, ids = {*self._data, *self._places}, ids_of([scenario])
        if taken & ids:
            raise IdTaken(
                f"there is a task or subtask {min(taken & ids)} already. Leave the id out, or give it another one."
            )
        before = set(self._data)
        self._populate(scenario, FakeData(f"{self._seed}/{len(before)}", taken | ids), at)
        created = (task for id, task in self._data.items() if id not in before)
        return str(min(created, key=lambda task: task.created).id)

    def _populate(self, scenario: Scenario, fake_data: FakeData, start: int) -> None:
        rules = files.rules_of(scenario.tick, self.switches)
        for model in sorted(scenario.tasks, key=lambda model: model.starts_on is not None):
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
                continue
            count, every = (model.repeat.count, model.repeat.every) if model.repeat else (1, 0)
            for number in range(count):
                self._begin(template, start - model.age + number * every, number, owner=scenario.name)

    def _begin(self, template: Template, created: int, number: int, *, owner: str) -> int:
        """Add the ``number``th task of a template (from 0) with its history, and return its id.

        Raises AuthorError when an id is taken; then nothing has changed.
        """
        model, script, fake_data = template.model, template.script, template.fake_data
        ids = [subtask.id or fake_data.id() for subtask in model.subtasks]
        task_id = model.id + number if model.id else fake_data.id()
        if task_id in self._data:
            raise AuthorError(
                f"scenario {owner!r} has a task {task_id}, and so has another one. "
                "Serve them apart, or give one of the tasks another id."
            )
        executor = model.executor or fake_data.host
        downstreams = machine.downstreams_of(script)
        subtasks = []
        for place, (id, subtask) in enumerate(zip(ids, model.subtasks, strict=True)):
            if id in self._places:
                raise AuthorError(
                    f"scenario {owner!r} has a subtask {id}, and so has another one. "
                    "Serve them apart, or give one of the subtasks another id."
                )
            data = SubtaskData(
                id=id,
                name=template.names[place],
                description=template.names[place] if subtask.description is None else subtask.description,
                executor=subtask.executor or executor,
                series_id=place if subtask.series_id is None else subtask.series_id,
                model=subtask,
                upstreams=tuple([ids[up] for up in script.subtasks[place].needs]),
                downstreams=tuple([ids[down] for down in downstreams[place]]),
            )
            subtasks.append(data)
        task = TaskData(
            id=task_id,
            name=template.name.replace("{n}", str(number + 1)),
            creator=template.creator,
            executor=executor,
            model=model,
            subtasks=tuple(subtasks),
            created=created,
        )
        for place, id in enumerate(ids):
            self._places[id] = (task_id, place)
        rules = replace(template.rules, phase=(self._first_tick - created) % template.rules.tick)
        self._add(task_id, task, machine.start(script, rules))
        self._in_order = None
        return task_id


new_world: Final = Tasks


def steps_of(scenario: Scenario) -> int:
    """Return how many subtasks a scenario has, with all that repeats."""
    return sum(len(task.subtasks) * (task.repeat.count if task.repeat else 1) for task in scenario.tasks)


def ids_of(scenarios: Iterable[Scenario]) -> set[int]:
    """Return every id that scenarios give to tasks and subtasks."""
    ids: set[Any] = set()
    for scenario in scenarios:
        for task in scenario.tasks:
            if task.id is not None:
                ids.update(range(task.id, task.id + (task.repeat.count if task.repeat else 1)))
            ids.update([subtask.id for subtask in task.subtasks])
    return ids - {None}


def _item(view: TaskView) -> TaskItem:
    task, state = view.task, view.state
    return TaskItem(str(task.id), task.id, task.name, state.status, state.operation)


# --- commands -------------------------------------------------------------------------------------


def operate(sandbox: Sandbox, task_id: int, operation: Operation) -> TaskView:
    """Retry or roll back a task, and return it as it is right then.

    Raises NoSuchTask, IllegalOperation or RollbackProhibited; then nothing has changed.
    """
    sandbox.world(Tasks).data_of(task_id)
    view: TaskView = sandbox.execute(Operate(Tasks.api, task_id, operation))
    return view


def operate_subtask(sandbox: Sandbox, task_id: int, subtask_id: int, operation: Operation) -> tuple[TaskView, int]:
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
    sandbox.note_read(sandbox.world(Tasks).due(sandbox.clock.now(), (view.task for view in views)))
