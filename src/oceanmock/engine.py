"""A sandbox: tasks, a clock and switches of its own; view, list and operate.

It joins what a scenario says of a task (who and what it is) with what the machine says of its life,
and reads its own clock for both. What a scenario leaves out is filled here, by faker, from the
sandbox's seed: the same seed gives the same names, ids and addresses. Every call is done before it
returns and awaits nothing, so on one event loop each is atomic. The rule: reads change nothing but,
under `polls`, the clock, and that only once the answer has been given (``shown``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Final

from oceanmock import scenario as files
from oceanmock.clock import Clock, Progression
from oceanmock.errors import AuthorError, NoSuchSubtask, NoSuchTask
from oceanmock.lifecycle import ocp
from oceanmock.scenario import Cluster, Named, Scenario, Switches, Tenant

if TYPE_CHECKING:
    from faker import Faker

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_FREE_ID: Final = 1_000_000
"""Ids that a scenario leaves out are drawn from here on, below 2^31."""


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


class Sandbox:
    """Tasks that live by one clock. Made by ``of_scenarios``."""

    def __init__(self, clock: Clock, switches: Switches, *, seed: int = 0, server: str) -> None:
        self.clock: Final = clock
        self.switches: Final = switches
        self.seed: Final = seed
        self.server: Final = server
        self._tasks: dict[int, Task] = {}
        self._lives: dict[int, ocp.Life] = {}
        self._places: dict[int, tuple[int, int]] = {}
        self._in_order: list[int] | None = None

    @classmethod
    def of_scenarios(
        cls,
        scenarios: Sequence[Scenario],
        *,
        progression: Progression | None = None,
        speed: float = 1.0,
        seed: int = 0,
        starts_at: int | None = None,
        switches: Switches | None = None,
    ) -> Sandbox:
        """A sandbox in which all tasks of these scenarios live.

        What is given here outranks what the files say; where files disagree on the progression,
        `time` is taken, and a file's own start counts only when it is alone. Raises AuthorError
        when they disagree on a switch, or when two of them use the same id.
        """
        switches = switches_of(scenarios) if switches is None else switches
        start = starts_at if starts_at is not None else _starts_at(scenarios)
        wanted = {scenario.progression for scenario in scenarios}
        chosen = progression or (wanted.pop() if len(wanted) == 1 else "time")
        clock = Clock(chosen, starts_at=start, speed=speed)
        taken = {id for scenario in scenarios for id in _ids_of(scenario)}
        sandbox = cls(clock, switches, seed=seed, server=_Filler(f"{seed}", taken).host)
        start = clock.now() if start is None else start
        for scenario in scenarios:
            filler = _Filler(f"{seed}/{scenario.name}", taken)
            for task, life in _populate(scenario, switches, filler, start):
                sandbox._add(task, life, scenario)
        sandbox._settle(sandbox._tasks)
        return sandbox

    def view_task(self, task_id: int) -> TaskView:
        """The task now. Raises NoSuchTask."""
        return self._view(task_id, self.clock.now())

    def list_tasks(self) -> list[TaskView]:
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
        return self.view_task(owner), position

    def operate_task(self, task_id: int, operation: ocp.Operation) -> TaskView:
        """Retries or rolls back a task; what it shows right then.

        Raises NoSuchTask, IllegalOperation or RollbackProhibited, and then nothing has changed.
        """
        return self._operate(self.view_task(task_id), operation)

    def operate_subtask(
        self, task_id: int, subtask_id: int, operation: ocp.Operation
    ) -> tuple[TaskView, int]:
        """Retries, skips or cancels a subtask; its task right then, and its position in it.

        Raises as ``view_subtask``, and IllegalOperation, and then nothing has changed.
        """
        view, position = self.view_subtask(task_id, subtask_id)
        return self._operate(view, operation, position), position

    def shown(self, views: Iterable[TaskView]) -> None:
        """To be told what a read has shown, once it is answered.

        Under `polls` the clock moves on to the next event among the tasks shown, so that who polls
        sees every state; under the other progressions nothing happens.
        """
        if self.clock.progression != "polls":
            return
        now = self.clock.now()
        due = [at for view in views if (at := self._next_due(view.task, now)) is not None]
        if due:
            self.clock.move_to(min(due))

    def _next_due(self, task: Task, now: int) -> int | None:
        due = ocp.next_due(self._lives[task.id], now - task.born)
        return None if due is None else task.born + due

    def _view(self, task_id: int, now: int) -> TaskView:
        task = self._tasks.get(task_id)
        if task is None:
            raise NoSuchTask(task_id)
        return TaskView(task, ocp.view_at(self._lives[task_id], now - task.born))

    def _operate(
        self, view: TaskView, operation: ocp.Operation, position: int | None = None
    ) -> TaskView:
        task, now = view.task, self.clock.now()
        life = ocp.operate(self._lives[task.id], operation, now - task.born, subtask=position)
        self._lives[task.id] = life
        after = TaskView(task, ocp.view_at(life, now - task.born))
        self._settle([task.id])
        return after

    def _settle(self, task_ids: Iterable[int]) -> None:
        """Under `immediate`: lets everything that is due to these tasks happen."""
        if self.clock.progression != "immediate":
            return
        for task_id in task_ids:
            self.clock.move_to(self._tasks[task_id].born + self._lives[task_id].states[-1].at)

    def _add(self, task: Task, life: ocp.Life, scenario: Scenario) -> None:
        if task.id in self._tasks:
            raise AuthorError(
                f"scenario {scenario.name!r} has a task {task.id}, and so has another one. "
                "Serve them apart, or give one of the tasks another id."
            )
        for position, subtask in enumerate(task.subtasks):
            if subtask.id in self._places:
                raise AuthorError(
                    f"scenario {scenario.name!r} has a subtask {subtask.id}, and so has another "
                    "one. Serve them apart, or give one of the subtasks another id."
                )
            self._places[subtask.id] = (task.id, position)
        self._tasks[task.id] = task
        self._lives[task.id] = life
        self._in_order = None


def switches_of(scenarios: Sequence[Scenario]) -> Switches:
    """The switches the scenarios agree on: those that set none take the others'."""
    given = {each.name: each.switches for each in scenarios if each.switches != Switches()}
    if len(set(given.values())) > 1:
        raise AuthorError(f"scenarios {', '.join(given)} set different switches. Serve them apart.")
    return next(iter(given.values()), Switches())


def _starts_at(scenarios: Sequence[Scenario]) -> int | None:
    start = scenarios[0].starts_at if len(scenarios) == 1 else None
    return None if start is None else (start - _EPOCH) // timedelta(microseconds=1) * 1_000


# --- from a scenario to tasks ---------------------------------------------------------------------


class _Filler:
    """What one scenario leaves out, from a seed. Faker is loaded only when a name is missing."""

    def __init__(self, seed: str, taken: set[int]) -> None:
        self._seed = seed
        self._random = Random(seed)  # noqa: S311 (reproducible, not secret)
        self._taken = taken
        self.host = f"192.0.2.{self._random.randint(1, 254)}"  # free for documents: RFC 5737

    @cached_property
    def _faker(self) -> Faker:
        from faker import Faker  # noqa: PLC0415 (a tenth of a second, and rarely needed)

        faker = Faker("en_US")
        faker.seed_instance(self._seed)
        return faker

    def phrase(self) -> str:
        """A name for a task or a subtask that has none."""
        return str(self._faker.bs()).capitalize()

    def creator(self) -> Named:
        """A user."""
        return Named(id=self._faker.random_int(100, 999), name=self._faker.user_name())

    def id(self) -> int:
        """An id nobody has."""
        while (drawn := self._random.randrange(FIRST_FREE_ID, 2**31)) in self._taken:
            pass
        self._taken.add(drawn)
        return drawn


def _ids_of(scenario: Scenario) -> Iterator[int]:
    for task in scenario.tasks:
        if task.id is not None:
            yield from range(task.id, task.id + (task.repeat.count if task.repeat else 1))
        yield from (subtask.id for subtask in task.subtasks if subtask.id is not None)


def _populate(
    scenario: Scenario, switches: Switches, filler: _Filler, start: int
) -> Iterator[tuple[Task, ocp.Life]]:
    """Each task of a scenario with its life; a repeated one as often as it says."""
    rules = files.rules_of(scenario.tick, switches)
    for written in scenario.tasks:
        plan = files.plan_of(written)
        model = _filled(written, filler)
        for number in range(model.repeat.count if model.repeat else 1):
            born = start - model.age + (number * model.repeat.every if model.repeat else 0)
            task = _task(model, plan, filler, number=number, born=born)
            yield task, ocp.begin(plan, replace(rules, phase=(start - born) % rules.tick))


def _filled(model: files.Task, filler: _Filler) -> files.Task:
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
    model: files.Task, plan: ocp.TaskPlan, filler: _Filler, *, number: int, born: int
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
