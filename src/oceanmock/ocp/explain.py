"""OCP's sentences: why a task is in its state, by its subtasks' runs, the ticks, the operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from oceanmock.engine.machine import Change, Part
from oceanmock.engine.sandbox import Sandbox
from oceanmock.ocp import machine
from oceanmock.ocp.api import API, SubtaskStatus
from oceanmock.ocp.machine import History
from oceanmock.ocp.states import SubtaskState, TaskState
from oceanmock.ocp.world import TaskData, Tasks
from oceanmock.report.explain import (
    MAX_EXPLAINED,
    Event,
    Explainer,
    Explanation,
    Offer,
    ends_with,
    last_of,
    last_operation,
)
from oceanmock.text import first_few, one_line, round_duration

_EFFECTS: Final = {
    "task.RETRY": "every FAILED subtask is READY again",
    "task.ROLLBACK": "all that has run is to be undone, from the far end backwards",
    "subtask.RETRY": "it is READY again, and the task RUNNING",
    "subtask.SKIP": "it is READY for a run that does nothing",
    "subtask.CANCEL": "its run is CANCELING until the subtask scheduler's tick interrupts it",
}


def explain(sandbox: Sandbox, id: int | str) -> Explanation:
    """Return why a task is in its state. Raises NoSuchTask."""
    tasks, task_id = sandbox.world(Tasks), int(id)
    explainer = TaskExplainer(tasks.view(task_id).task, tasks.history_of(task_id))
    return explainer.explain(sandbox.operations_of(Tasks.api, task_id), clock=sandbox.clock)


class TaskExplainer(Explainer[TaskState]):
    """The sentences about one task; a part is a subtask."""

    kinds = tuple(kind.name for kind in API.kinds)

    def __init__(self, task: TaskData, history: History) -> None:
        super().__init__(history, started_at=task.created)
        self._task = task
        self._script = history.script
        self._downstreams = machine.downstreams_of(history.script)

    def number(self, part: Part) -> int:
        """Return the id of the task or a subtask."""
        return self._task.subtasks[part[0]].id if part else self._task.id

    def name(self, part: Part = ()) -> str:
        """Return `subtask 71 “Install”`."""
        it, kind = (self._task.subtasks[part[0]], "subtask") if part else (self._task, "task")
        return f"{kind} {it.id} “{one_line(it.name)}”"

    def offers(self, state: TaskState, instant: int) -> Iterator[Offer]:
        """Yield what the machine would accept now."""
        rules = self.history.rules
        for operation in machine.allowed_operations(state, rules):
            yield Offer(operation, self.name())
        for place in range(len(state.subtasks)):
            for operation in machine.allowed_operations(state, rules, subtask=place):
                yield Offer(operation, self.name((place,)))

    # --- changes ---

    def why(self, before: TaskState, after: TaskState, change: Change) -> str:
        """Return the sentence for a change, by its cause."""
        if change.target is not None:
            return self._operation(before, after, change, change.target)
        if change.part:
            return self._subtask_move(after, change, change.part[0])
        if change.cause == "start":
            return "it starts RUNNING, and what needs nothing else READY"
        return self._verdict(after)

    def _subtask_move(self, after: TaskState, change: Change, place: int) -> str:
        if change.cause == "start":
            is_ready = change.after[0] == "READY"
            return f"{self.name(change.part)} is READY from the start" if is_ready else ""
        if change.cause == "task tick":
            return self._turn(after, place)
        if change.cause == "subtask tick":
            tick = "the subtask scheduler's tick"
            if change.after[1] == "CANCEL":
                return f"{tick} interrupts {self.name(change.part)}"
            return f"{tick} starts {self._run(after.subtasks[place], place)}"
        return self._end(after.subtasks[place], place)

    def _operation(self, before: TaskState, after: TaskState, change: Change, target: Part) -> str:
        operation = change.cause.partition(".")[2]
        arrives = f"{operation} of {self.name(target)} arrives"
        if change.part == target:
            return f"{arrives}: {_EFFECTS[change.cause]}"
        is_cut = change.part and (
            _is_open(before.subtasks[change.part[0]])
            and not _is_open(after.subtasks[change.part[0]])
        )
        return f"{arrives}, and cuts its run short" if is_cut else arrives

    def _verdict(self, state: TaskState) -> str:
        if state.status == "ABORTED":
            span = round_duration(self._script.abandoned_after or 0)
            return f"no operation has come for the FAILED task for {span}: it is abandoned"
        tick = "the task scheduler's tick finds"
        if state.status == "FAILED":
            failed = self._those(_with(state, "FAILED"))
            return f"{tick} {failed} FAILED and none RUNNING: so is the task"
        if state.operation == "ROLLBACK":
            return f"{tick} every subtask PENDING, so all is undone: the task is SUCCESSFUL"
        return f"{tick} every subtask SUCCESSFUL: so is the task"

    def _turn(self, after: TaskState, place: int) -> str:
        """Return why a subtask is READY."""
        ready = f"the task scheduler's tick makes {self.name((place,))} READY"
        if after.operation == "ROLLBACK":
            undone = self._downstreams[place]
            why = f", as is all that needs it: {self._those(undone)}" if undone else ""
            return f"{ready} to be undone{why}"
        needs = self._script.subtasks[place].needs
        if not needs:
            return f"{ready}: fewer than {self._script.concurrency} are under way again"
        return f"{ready}: all it needs is SUCCESSFUL, {self._those(needs)}"

    def _run(self, subtask: SubtaskState, place: int) -> str:
        """Return `attempt 2 of …`, `rollback run 1 of …` or `the skip of …` for the last run."""
        run = subtask.runs[-1]
        called = f"{'rollback run' if run.operation == 'ROLLBACK' else 'attempt'} {run.number}"
        return f"{called if run.number else 'the skip'} of {self.name((place,))}"

    def _end(self, subtask: SubtaskState, place: int) -> str:
        """Return how the last run ended, and the last line that it logged where it failed."""
        run, of = subtask.runs[-1], self._run(subtask, place)
        ended = run.started if run.ended is None else run.ended
        took, log = round_duration(ended - run.started), machine.log_lines_at(run, ended)
        if run.ended_by == "interrupt":
            return f"{of}, interrupted, ends FAILED after {took}{ends_with(log)}"
        if run.ends == "FAILED":
            limit = ""
            if run.ended_by == "timeout":
                has_timeout = self._script.subtasks[place].timeout
                limit = ", its timeout" if has_timeout else ", as a run without a timeout does"
            return f"{of} ends FAILED after {took}{limit}{ends_with(log)}"
        if run.ends == "PENDING":
            return f"{of} ends: it is undone, and PENDING again"
        return f"{of} ends {run.ends} after {took}"

    # --- now ---

    def leading(self, state: TaskState, events: Sequence[Event]) -> Iterator[Event]:
        """Yield the last operation, the verdict, and the events of the subtasks that matter."""
        yield from last_operation(events)
        yield from last_of(events, (), number=2 if state.status == "ABORTED" else 1)
        if state.status in ("FAILED", "ABORTED"):
            for place in _with(state, "FAILED"):
                yield from last_of(events, (place,))
        if state.status == "RUNNING":
            for place in _with(state, "READY", "RUNNING", "CANCELING", "FAILED"):
                yield from last_of(events, (place,))
        if state.status != "ABORTED":
            yield from [item for item in events if item.part and not item.is_refusal][-1:]

    def holding(self, state: TaskState, instant: int) -> Iterator[str]:
        """Yield what is awaited, and which subtasks wait for which."""
        if state.status == "RUNNING":
            yield from self._awaited(state)
            yield from self._logs(state, instant)
        if state.status == "FAILED" or (state.status == "RUNNING" and not _with(state, "FAILED")):
            yield from self._waits(state)
        if state.status == "FAILED" and state.prohibit_rollback:
            yield "ROLLBACK is refused: the task, or a subtask that has run, forbids it"
        if state.status == "ABORTED":
            yield "an ABORTED task is over for good"

    def _awaited(self, state: TaskState) -> Iterator[str]:
        """Yield what the verdict waits for, when no more subtasks are to be started."""
        running = _with(state, "RUNNING")
        if _with(state, "FAILED") and running:
            yield f"the task is not FAILED while a subtask is RUNNING: {self._those(running)}"
        elif _with(state, "FAILED") or len(_with(state, _passed(state))) == len(state.subtasks):
            yield "the task scheduler's next tick gives the verdict"

    def _logs(self, state: TaskState, instant: int) -> Iterator[str]:
        for place in _with(state, "RUNNING")[:MAX_EXPLAINED]:
            if lines := machine.log_lines_at(state.subtasks[place].runs[-1], instant):
                yield f"the log of {self.name((place,))} so far ends “{one_line(lines[-1])}”"

    def _waits(self, state: TaskState) -> Iterator[str]:
        """Yield what each subtask waits for; those behind one that waits itself are counted."""
        waiting = _with(state, "SUCCESSFUL" if state.operation == "ROLLBACK" else "PENDING")
        blocking = {place: self._blocking(state, place) for place in waiting}
        first = [place for place in waiting if not {*blocking[place]} & {*waiting}]
        yield from (self._wait(state, place, blocking[place]) for place in first[:MAX_EXPLAINED])
        if rest := len(waiting) - len(first[:MAX_EXPLAINED]):
            yield f"{rest} more {'waits for its' if rest == 1 else 'wait for their'} turn"

    def _blocking(self, state: TaskState, place: int) -> list[int]:
        """Return the subtasks that another one waits for, forwards or to be undone."""
        rolling_back = state.operation == "ROLLBACK"
        needs = self._downstreams[place] if rolling_back else self._script.subtasks[place].needs
        return [item for item in needs if state.subtasks[item].status != _passed(state)]

    def _wait(self, state: TaskState, place: int, blocking: list[int]) -> str:
        rolling_back = state.operation == "ROLLBACK"
        waits = f"{self.name((place,))} {'is still to be undone' if rolling_back else 'is PENDING'}"
        if blocking:
            others = [f"{self.name((it,))} ({state.subtasks[it].status})" for it in blocking]
            return f"{waits}: it {'waits for' if rolling_back else 'needs'} {first_few(others)}"
        most = self._script.concurrency
        if state.status != "RUNNING":
            return waits
        if len(_with(state, "READY", "RUNNING")) >= most:
            return f"{waits}: no more than {most} may be under way at once"
        return f"{waits} until the task scheduler's next tick"

    def _those(self, places: Iterable[int]) -> str:
        return self.names((place,) for place in places)


def _is_open(subtask: SubtaskState) -> bool:
    return bool(subtask.runs) and subtask.runs[-1].ended is None


def _with(state: TaskState, *statuses: SubtaskStatus) -> list[int]:
    """Return the positions of the subtasks in one of these statuses."""
    return [place for place, item in enumerate(state.subtasks) if item.status in statuses]


def _passed(state: TaskState) -> SubtaskStatus:
    """Return the status for which those that need a subtask wait."""
    return "PENDING" if state.operation == "ROLLBACK" else "SUCCESSFUL"
