"""Why an OCP task is in its state: its subtasks' runs, the schedulers' ticks, the operations.

What the machine does on its own is told from the difference between two states; the rules that are
named are those of ``lifecycle/ocp.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from oceanmock.clock import Clock
from oceanmock.engine import history as timeline
from oceanmock.engine.records import OperationRecord
from oceanmock.engine.sandbox import Sandbox
from oceanmock.ocp import machine as ocp
from oceanmock.ocp.machine import History, Run, SubtaskState, SubtaskStatus, TaskState
from oceanmock.ocp.world import Task, Tasks
from oceanmock.report.explanation import (
    MOST,
    ClockFace,
    Event,
    Explanation,
    Next,
    Offer,
    Part,
    Step,
    ends_with,
    last_of,
    last_request,
    next_text,
    reasons_of,
    steps_of,
)
from oceanmock.text import first_few, one_line, round_duration

_UNDO: Final = ("ROLLBACK", "ROLLBACK_SKIP")
_SKIPS: Final = ("SKIP", "ROLLBACK_SKIP")


@dataclass(frozen=True, slots=True)
class _Scene:
    """A task, and the life it is told from."""

    task: Task
    life: History

    def at(self, instant: int) -> int:
        """An instant of the life, since the epoch."""
        return self.task.born + instant

    def who(self, part: Part = ()) -> str:
        """What sentences call the task, or a subtask."""
        it, kind = (self.task.subtasks[part[0]], "subtask") if part else (self.task, "task")
        return f"{kind} {it.id} “{one_line(it.name)}”"

    def event(
        self, state: TaskState, part: Part, before: str | None, after: str, why: str
    ) -> Event:
        """A change of the task or a subtask, at the instant at which ``state`` begins."""
        number = self.task.subtasks[part[0]].id if part else self.task.id
        return Event(self.at(state.at), part, number, self.who(part), before, after, why)

    def those(self, positions: Iterable[int]) -> str:
        """What sentences call several subtasks."""
        return first_few([self.who((each,)) for each in positions])

    def with_status(self, state: TaskState, positions: Iterable[int]) -> str:
        """Several subtasks, each with its status."""
        return first_few(
            [f"{self.who((each,))} ({state.subtasks[each].status})" for each in positions]
        )


def explain(sandbox: Sandbox, id: int | str) -> Explanation:
    """Return why a task is in its state. Raises NoSuchTask."""
    tasks, task_id = sandbox.world(Tasks), int(id)
    return explain_history(
        tasks.view(task_id).task,
        tasks.life_of(task_id),
        sandbox.operations_of(Tasks.api, task_id),
        clock=sandbox.clock,
    )


def explain_history(
    task: Task, life: History, operated: Sequence[OperationRecord], *, clock: Clock
) -> Explanation:
    """Why the task is in the state it shows now."""
    face, scene = ClockFace.of(clock), _Scene(task, life)
    instant = face.now - task.born
    past = timeline.until(life.states, instant) or life.states[:1]
    state = past[-1]
    events = [
        event for step in steps_of(past, operated, born=task.born) for event in _events(scene, step)
    ]
    return Explanation(
        who=scene.who(),
        state=state.status,
        operation=state.operation,
        born=task.born,
        since=scene.at(_since(past)),
        because=reasons_of(events, _leading(state, events), _holding(scene, state, instant)),
        events=tuple(events),
        next=_next(scene, state, ocp.next_due(life, instant)),
        accepts=tuple(_offers(scene, state)),
        clock=face,
    )


def _since(past: Sequence[TaskState]) -> int:
    """When the task began to show what its last state shows."""
    began = past[-1]
    for state in reversed(past):
        if _words(state) != _words(began):
            break
        began = state
    return began.at


def _words(it: TaskState | SubtaskState) -> str:
    return f"{it.status}/{it.operation}"


def _offers(scene: _Scene, state: TaskState) -> Iterator[Offer]:
    """What the machine would accept now."""
    rules = scene.life.rules
    for operation in ocp.allowed_operations(state, rules):
        yield Offer(operation, scene.who())
    for place in range(len(state.subtasks)):
        for operation in ocp.allowed_operations(state, rules, subtask=place):
            yield Offer(operation, scene.who((place,)))


def _next(scene: _Scene, state: TaskState, due: int | None) -> Next | None:
    if due is None:
        return None
    step = Step(state, ocp.view_at(scene.life, due))
    return Next(scene.at(due), next_text(_events(scene, step)))


# --- what happened --------------------------------------------------------------------------------


def _events(scene: _Scene, step: Step[TaskState]) -> Iterator[Event]:
    """What changes in a step, in the order in which the machine does it."""
    before, after, by = step.before, step.after, step.by
    if by is not None and by.refused:
        part: Part = () if by.position is None else (by.position,)
        words = _words(after.subtasks[part[0]] if part else after)
        why = f"{by.operation} of {scene.who(part)} is refused: {by.refused}"
        yield replace(scene.event(after, part, words, words, why), at=by.at, by=by)
    elif before is None:
        yield from _birth(scene, after)
    elif step.by_request:
        yield from _operation(scene, before, after, by)
    else:
        ranked = [*_task_changes(scene, before, after)]
        for place, subtask in enumerate(after.subtasks):
            if subtask is not before.subtasks[place]:
                ranked += _subtask_changes(scene, place, before, after)
        yield from (event for _, event in sorted(ranked, key=lambda each: each[0]))


def _birth(scene: _Scene, state: TaskState) -> Iterator[Event]:
    """A task and its roots."""
    why = "it is born RUNNING, and what needs nothing else READY"
    yield scene.event(state, (), None, _words(state), why)
    for place in _with(state, "READY"):
        words, why = _words(state.subtasks[place]), f"{scene.who((place,))} is READY from birth"
        yield scene.event(state, (place,), None, words, why)


_EFFECTS: Final = {
    ("RETRY", False): "every FAILED subtask is READY again",
    ("ROLLBACK", False): "all that has run is to be undone, from the far end backwards",
    ("RETRY", True): "it is READY again, and the task RUNNING",
    ("SKIP", True): "it is READY for a run that does nothing",
    ("CANCEL", True): "its run is CANCELING until the subtask scheduler's tick interrupts it",
}
"""What each operation does to the task, or to a subtask (True)."""


def _operation(
    scene: _Scene, before: TaskState, after: TaskState, by: OperationRecord | None
) -> Iterator[Event]:
    """The one it was meant for, then all else that it changed."""
    target: Part = () if by is None or by.position is None else (by.position,)
    arrives = f"{by.operation} of {scene.who(target)} arrives" if by else "an operation arrives"
    effect = _EFFECTS.get((by.operation, bool(target))) if by else "its record is lost"
    parts: list[Part] = [(), *((place,) for place in range(len(after.subtasks)))]
    for part in sorted(parts, key=lambda each: each != target):
        old, new = _it(before, part), _it(after, part)
        if part == target or old != new:
            why = f"{arrives}: {effect}" if part == target else f"{arrives}{_cut_short(old, new)}"
            event = scene.event(after, part, _words(old), _words(new), why)
            yield replace(event, by=by) if part == target else event


def _it(state: TaskState, part: Part) -> TaskState | SubtaskState:
    return state.subtasks[part[0]] if part else state


def _cut_short(old: TaskState | SubtaskState, new: TaskState | SubtaskState) -> str:
    """Said of a subtask whose run the operation ended."""
    if isinstance(old, TaskState) or isinstance(new, TaskState) or not old.runs:
        return ""
    return ", and cuts its run short" if _is_open(old) and not _is_open(new) else ""


def _is_open(subtask: SubtaskState) -> bool:
    return bool(subtask.runs) and subtask.runs[-1].ended is None


def _task_changes(
    scene: _Scene, before: TaskState, after: TaskState
) -> Iterator[tuple[int, Event]]:
    if _words(before) != _words(after):
        rank = 4 if after.status == "ABORTED" else 1
        words = _words(before), _words(after)
        yield rank, scene.event(after, (), *words, _verdict(scene, after))


def _verdict(scene: _Scene, state: TaskState) -> str:
    """Why the task ends as it does."""
    tick = "the task scheduler's tick finds"
    if state.status == "FAILED":
        failed = scene.those(_with(state, "FAILED"))
        return f"{tick} {failed} FAILED and none RUNNING: so is the task"
    if state.status == "ABORTED":
        span = scene.life.plan.abandoned_after or 0
        return f"nobody has taken up the FAILED task for {round_duration(span)}: it is abandoned"
    if state.operation == "ROLLBACK":
        return f"{tick} every subtask PENDING, so all is undone: the task is SUCCESSFUL"
    return f"{tick} every subtask SUCCESSFUL: so is the task"


def _subtask_changes(
    scene: _Scene, place: int, before: TaskState, after: TaskState
) -> Iterator[tuple[int, Event]]:
    """Runs that end or start, and what else becomes of a subtask, each with its rank in a tick."""
    old, new = before.subtasks[place], after.subtasks[place]
    words, part, who = _words(old), (place,), scene.who((place,))
    for number in range(max(len(old.runs) - 1, 0), len(new.runs)):
        run = new.runs[number]
        if number >= len(old.runs):
            now = f"RUNNING/{run.operation}"
            why = f"the subtask scheduler's tick starts {_called(new, number)} of {who}"
            yield 3, scene.event(after, part, words, now, why)
            words = now
        if run.ended is not None and (number >= len(old.runs) or old.runs[number].ended is None):
            now = _ended_words(new, number)
            rank = 0 if number < len(old.runs) else 4
            yield rank, scene.event(after, part, words, now, _ending(scene, place, new, number))
            words = now
    if words != _words(new):
        rank, why = _turn(scene, place, before, after)
        yield rank, scene.event(after, part, words, _words(new), why)


def _ended_words(subtask: SubtaskState, number: int) -> str:
    run = subtask.runs[number]
    is_last = number == len(subtask.runs) - 1
    is_over = is_last and subtask.status not in ("READY", "RUNNING", "CANCELING")
    return _words(subtask) if is_over else f"{run.ends or 'FAILED'}/{run.operation}"


def _called(subtask: SubtaskState, number: int) -> str:
    """`attempt 2`, `rollback run 1` or `the skip`: each kind of run counts by itself."""
    operation = subtask.runs[number].operation
    if operation in _SKIPS:
        return "the skip"
    kin = ("ROLLBACK",) if operation == "ROLLBACK" else ("EXECUTE", "RETRY")
    count = sum(run.operation in kin for run in subtask.runs[: number + 1])
    return f"{'rollback run' if operation == 'ROLLBACK' else 'attempt'} {count}"


def _ending(scene: _Scene, place: int, subtask: SubtaskState, number: int) -> str:
    """How a run ends: by itself, by its timeout or interrupted; and the last line it logs."""
    run, who = subtask.runs[number], scene.who((place,))
    run_of = f"{_called(subtask, number)} of {who}"
    took = (run.ended or run.started) - run.started
    if subtask.operation == "CANCEL" and number == len(subtask.runs) - 1:
        return f"{run_of}, interrupted, ends FAILED after {round_duration(took)}{_log_end(run)}"
    if run.ends == "FAILED":
        limit = _limit(scene, place, run)
        return f"{run_of} ends FAILED after {round_duration(took)}{limit}{_log_end(run)}"
    if run.operation in _UNDO:
        return f"{run_of} ends: it is undone, and PENDING again"
    return f"{run_of} ends {run.ends} after {round_duration(took)}"


def _limit(scene: _Scene, place: int, run: Run) -> str:
    """Said of a run that its timeout has ended."""
    timeout = scene.life.plan.subtasks[place].timeout
    limit = timeout * ocp.SECOND or ocp.WATCHDOG
    took = (run.ended or run.started) - run.started
    if took != limit or 0 < run.takes <= limit:
        return ""
    return ", its timeout" if timeout else ", as a run without a timeout does"


def _log_end(run: Run) -> str:
    return ends_with(ocp.log_lines_at(run, run.ended or run.started))


def _turn(scene: _Scene, place: int, before: TaskState, after: TaskState) -> tuple[int, str]:
    """Why a subtask has its turn, or is interrupted."""
    who, plan = scene.who((place,)), scene.life.plan
    if after.subtasks[place].status == "RUNNING":
        return 3, f"the subtask scheduler's tick interrupts {who}"
    ready = f"the task scheduler's tick makes {who} READY"
    if after.operation == "ROLLBACK":
        undone = ocp.downstreams_of(plan)[place]
        why = f", as is all that needs it: {scene.those(undone)}" if undone else ""
        return 2, f"{ready} to be undone{why}"
    needs = plan.subtasks[place].needs
    if not needs:
        return 2, f"{ready}: fewer than {plan.concurrency} are under way again"
    return 2, f"{ready}: all it needs is SUCCESSFUL, {scene.those(needs)}"


# --- why it is so now -----------------------------------------------------------------------------


def _leading(state: TaskState, events: Sequence[Event]) -> Iterator[Event]:
    """The events that led here: the last operation, the subtasks that matter, the verdict."""
    yield from last_request(events)
    yield from last_of(events, (), number=2 if state.status == "ABORTED" else 1)
    yield from _failures(state, events)
    if state.status == "RUNNING":
        for place in _with(state, "READY", "RUNNING", "CANCELING", "FAILED"):
            yield from last_of(events, (place,))
    if state.status != "ABORTED":
        yield from [each for each in events if each.part and not (each.by and each.by.refused)][-1:]


def _failures(state: TaskState, events: Sequence[Event]) -> Iterator[Event]:
    if state.status in ("FAILED", "ABORTED"):
        for place in _with(state, "FAILED"):
            yield from last_of(events, (place,))


def _holding(scene: _Scene, state: TaskState, instant: int) -> Iterator[str]:
    """What holds now: what is awaited, and who waits for whom."""
    if state.status == "RUNNING":
        yield from _awaited(scene, state)
        yield from _logs_so_far(scene, state, instant)
    if state.status == "FAILED" or (state.status == "RUNNING" and not _with(state, "FAILED")):
        yield from _waits(scene, state)
    if state.status == "FAILED" and state.prohibit_rollback:
        yield "ROLLBACK is refused: the task, or a subtask that has run, forbids it"
    if state.status == "ABORTED":
        yield "an ABORTED task is over for good"


def _with(state: TaskState, *statuses: SubtaskStatus) -> list[int]:
    """The subtasks in one of these."""
    return [place for place, each in enumerate(state.subtasks) if each.status in statuses]


def _awaited(scene: _Scene, state: TaskState) -> Iterator[str]:
    """What the verdict of a RUNNING task waits for, when no more subtasks are to be started."""
    running, goal = _with(state, "RUNNING"), _passed(state)
    if _with(state, "FAILED") and running:
        yield f"the task is not FAILED while a subtask is RUNNING: {scene.those(running)}"
    elif _with(state, "FAILED") or len(_with(state, goal)) == len(state.subtasks):
        yield "the task scheduler's next tick gives the verdict"


def _logs_so_far(scene: _Scene, state: TaskState, instant: int) -> Iterator[str]:
    for place in _with(state, "RUNNING")[:MOST]:
        lines = ocp.log_lines_at(state.subtasks[place].runs[-1], instant)
        if lines:
            yield f"the log of {scene.who((place,))} so far ends “{one_line(lines[-1])}”"


def _passed(state: TaskState) -> SubtaskStatus:
    """What a subtask is when those that wait for it need wait no more."""
    return "PENDING" if state.operation == "ROLLBACK" else "SUCCESSFUL"


def _waits(scene: _Scene, state: TaskState) -> Iterator[str]:
    """Who waits for whom; those that wait for one that waits itself are only counted."""
    waiting = _with(state, "SUCCESSFUL" if state.operation == "ROLLBACK" else "PENDING")
    blocking = {place: _blocking(scene, state, place) for place in waiting}
    first = [place for place in waiting if not {*blocking[place]} & {*waiting}]
    yield from (_wait(scene, state, place, blocking[place]) for place in first[:MOST])
    if rest := len(waiting) - len(first[:MOST]):
        yield f"{rest} more {'waits for its' if rest == 1 else 'wait for their'} turn"


def _blocking(scene: _Scene, state: TaskState, place: int) -> list[int]:
    """The subtasks that another one waits for, forwards or to be undone."""
    plan = scene.life.plan
    rolling_back = state.operation == "ROLLBACK"
    needs = ocp.downstreams_of(plan)[place] if rolling_back else plan.subtasks[place].needs
    return [each for each in needs if state.subtasks[each].status != _passed(state)]


def _wait(scene: _Scene, state: TaskState, place: int, blocking: list[int]) -> str:
    """Why the turn of a subtask has not come."""
    rolling_back = state.operation == "ROLLBACK"
    waits = f"{scene.who((place,))} {'is still to be undone' if rolling_back else 'is PENDING'}"
    if blocking:
        others = scene.with_status(state, blocking)
        return f"{waits}: it {'waits for' if rolling_back else 'needs'} {others}"
    most = scene.life.plan.concurrency
    if state.status != "RUNNING":
        return waits
    if len(_with(state, "READY", "RUNNING")) >= most:
        return f"{waits}: no more than {most} may be under way at once"
    return f"{waits} until the task scheduler's next tick"
