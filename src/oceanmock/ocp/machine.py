"""The state machine of an OCP task: pure, over integer time.

A task is a DAG of subtasks. Its *script* says what each attempt of each subtask does and how long it takes. Its
*history* is the sequence of its states, computed at the start and again after every operation.

Instants are nanoseconds since the task's start. Two schedulers act once per period. At the tick of the task scheduler
subtasks become READY, and the task succeeds or fails. At the tick of the subtask scheduler, half a period later, READY
subtasks start and CANCELING ones are interrupted. Runs end between ticks. (The half period is not verified: it fits the
documents' sample best, where a subtask starts 0.6 to 1.2 s after its upstream ended.)

Facts come from oceanbase/ocp-express at eb6f2117, the open-source sibling of OCP
(task/task-service/src/main/java/com/oceanbase/ocp/task/engine); each rule names its class. A question that no public
text answers is a field of ``Rules``, or the answer is marked "not verified".
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import Final

from oceanmock.clock import SECOND
from oceanmock.engine import machine as engine
from oceanmock.engine.machine import Change, Parts
from oceanmock.errors import IllegalOperation, RollbackProhibited
from oceanmock.ocp import states
from oceanmock.ocp.api import Operation, SubtaskOperation, SubtaskStatus, TaskStatus
from oceanmock.ocp.states import Rules, SubtaskScript, SubtaskState, TaskScript, TaskState

History = engine.History[TaskScript, Rules, TaskState]
view_at = engine.view_at
next_due = engine.next_due
_status = attrgetter("status")


@lru_cache(maxsize=1024)
def start(script: TaskScript, rules: Rules = Rules()) -> History:
    """Return the history of a task from 0: RUNNING, its roots READY, the rest PENDING (ReadyTaskWorker:176-191)."""
    subtasks = [SubtaskState()] * len(script.subtasks)
    roots = [place for place, subtask in enumerate(script.subtasks) if not subtask.needs]
    for place in roots[: script.concurrency]:  # all of them, without a limit
        subtasks[place] = SubtaskState("READY")
    state = TaskState(0, "RUNNING", "EXECUTE", 0, None, script.prohibits_rollback, Parts(subtasks))
    history = engine.History(script, rules, engine.Upcoming(_unfold(script, rules, engine.started(state))))
    return engine.with_others(history, script.others, -1, _continued)


def log_lines_at(run: states.Run, instant: int) -> tuple[str, ...]:
    """Return the lines a run has logged by ``instant``."""
    return tuple([line for _, line in engine.lines_logged(run, instant)])


def allowed_operations(
    state: TaskState, rules: Rules = Rules(), *, subtask: int | None = None
) -> tuple[Operation, ...]:
    """Return the operations that the task, or the subtask at a position, would accept in this state."""
    return tuple(
        operation
        for operation in (_TASK_OPERATIONS if subtask is None else _SUBTASK_OPERATIONS)
        if _refusal(operation, state, rules, subtask) is None
        and not (operation == "ROLLBACK" and state.prohibit_rollback)
    )


def operate(history: History, operation: Operation, instant: int, subtask: int | None = None) -> History:
    """Return the history after an operation on the task or a subtask. Raises IllegalOperation, RollbackProhibited."""
    after = _continued(history, operation, instant, subtask)
    return engine.with_others(after, history.script.others, instant, _continued)


def _continued(history: History, operation: Operation, instant: int, subtask: int | None) -> History:
    script, rules, state = history.script, history.rules, view_at(history, instant)
    kind = "task" if subtask is None else "subtask"
    effects = _TASK_OPERATIONS if subtask is None else _SUBTASK_OPERATIONS
    if operation not in effects:
        raise ValueError(f"{operation} is not an operation of a {kind}: {', '.join(effects)}")
    refusal = _refusal(operation, state, rules, subtask)
    if refusal is not None:
        allowed = allowed_operations(state, rules, subtask=subtask)
        raise IllegalOperation(operation, state=refusal, allowed=allowed)
    if operation == "ROLLBACK" and state.prohibit_rollback:
        raise RollbackProhibited("the task, or a subtask that has run, forbids rollback")
    after = effects[operation](script, rules, replace(state, at=instant), subtask or 0)
    after = engine.changed(state, after, f"{kind}.{operation}", target=() if subtask is None else (subtask,))
    return history.continued(instant, _unfold(script, rules, after))


def _refusal(operation: Operation, state: TaskState, rules: Rules, subtask: int | None) -> str | None:
    """Return the state that forbids it, or None (TaskInstanceManagerImpl:59-101, SubtaskInstanceManagerImpl:43-77)."""
    if state.status == "ABORTED":
        return state.status
    item, machine = (state, states.TASK) if subtask is None else (state.subtasks[subtask], states.SUBTASK)
    trigger, switched = f"{machine.kind}.{operation}", rules.retry_after_failed_rollback
    if item.label in engine.takers(machine, trigger, switched=switched):
        return None
    return item.operation if item.label == ("FAILED", "ROLLBACK") and operation == "RETRY" else item.status


def _retry_task(script: TaskScript, rules: Rules, state: TaskState, _: int) -> TaskState:
    """Make every FAILED subtask READY to run again; its old finish time stays visible."""
    again = {
        place: item._replace(status="READY", operation="RETRY", run_time=item.run_time + 1)
        for place, item in enumerate(state.subtasks)
        if item.status == "FAILED"
    }
    return replace(state, status="RUNNING", operation="RETRY", subtasks=state.subtasks.replaced(again))


def _roll_back(script: TaskScript, rules: Rules, state: TaskState, _: int) -> TaskState:
    """Mark every subtask that is not PENDING for rollback, which goes from the end of the DAG to its start.

    A subtask whose downstreams are all PENDING is READY at once, even while it runs under a FAILED task
    (TaskInstanceManagerImpl:70-88); that its run is then cut short is not verified.
    """
    subtasks = list(state.subtasks)
    for place, item in enumerate(state.subtasks):
        if item.status == "PENDING":
            continue
        is_first = all(state.subtasks[other].status == "PENDING" for other in script.downstreams[place])
        subtasks[place] = _ready(item, "ROLLBACK", state.at) if is_first else item._replace(operation="ROLLBACK")
    return replace(state, status="RUNNING", operation="ROLLBACK", subtasks=Parts(subtasks))


def _ready(subtask: SubtaskState, operation: SubtaskOperation, instant: int) -> SubtaskState:
    """Return a subtask that is READY for another run; a run under way is cut short."""
    runs, run = subtask.runs, subtask.last_run
    if run is not None and run.ended is None:
        runs = (*runs[:-1], run._replace(ended=instant))
    return subtask._replace(status="READY", operation=operation, runs=runs, due=None)


def _retry_subtask(script: TaskScript, rules: Rules, state: TaskState, position: int) -> TaskState:
    """Make the subtask READY, and the task RUNNING again with the same operation."""
    item = state.subtasks[position]
    run_time = item.run_time + rules.subtask_retry_counts
    again = item._replace(status="READY", operation="RETRY", run_time=run_time)
    return replace(state, status="RUNNING", subtasks=state.subtasks.replaced({position: again}))


def _skip(script: TaskScript, rules: Rules, state: TaskState, position: int) -> TaskState:
    """Make the subtask READY for a run that does nothing, or in a rollback undoes nothing."""
    operation: SubtaskOperation = "ROLLBACK_SKIP" if state.operation == "ROLLBACK" else "SKIP"
    skipped = state.subtasks[position]._replace(status="READY", operation=operation)
    return replace(state, status="RUNNING", subtasks=state.subtasks.replaced({position: skipped}))


def _cancel(script: TaskScript, rules: Rules, state: TaskState, position: int) -> TaskState:
    """Make the subtask CANCELING until it is interrupted. That its run cannot end before that is not verified."""
    cancelled = state.subtasks[position]._replace(status="CANCELING", due=None)
    return replace(state, subtasks=state.subtasks.replaced({position: cancelled}))


_Effect = Callable[[TaskScript, Rules, TaskState, int], TaskState]

_TASK_OPERATIONS: Final[dict[Operation, _Effect]] = {"RETRY": _retry_task, "ROLLBACK": _roll_back}
_SUBTASK_OPERATIONS: Final[dict[Operation, _Effect]] = {"RETRY": _retry_subtask, "SKIP": _skip, "CANCEL": _cancel}


def _unfold(script: TaskScript, rules: Rules, state: TaskState) -> Iterator[TaskState]:
    """Yield this state and all that follow, one per instant; runs end first, then the schedulers act at their ticks."""
    task, tick, half = _Simulation(script, state), rules.tick, rules.tick // 2
    offset = (task.at - rules.phase) % tick
    while True:
        end = task.next_end
        due = [] if end is None else [end]
        if _verdict(task) is not None or _free_places(task) > 0:
            due.append(task.at - offset + tick)
        if task.queue:
            due.append(task.at - offset + half + (tick if offset >= half else 0))
        abandoned = None
        if script.abandoned_after is not None and task.status == "FAILED" and task.finish_time is not None:
            abandoned = task.finish_time + script.abandoned_after
            due.append(abandoned)
        if not due:
            break
        instant = min(due)
        if instant > task.at:
            yield task.state()
            task.at, task.changes = instant, []
        while end == instant:
            place = task.ends[0][1]
            item = task.subtasks[place]
            task.move(place, _end_run(item, instant), item.ending)
            end = task.next_end
        offset = (instant - rules.phase) % tick
        if offset == 0:
            _task_tick(task)
        if offset == half:
            _subtask_tick(task, tick)
        if instant == abandoned:
            task.decide("ABORTED", "abandoned")
    yield task.state()


class _Simulation:
    """The simulation of a task from a state on; the cost of a move does not grow with the number of subtasks."""

    def __init__(self, script: TaskScript, state: TaskState) -> None:
        self.script, self._first, self._parts = script, state, state.subtasks
        self.at, self.status, self.finish_time = state.at, state.status, state.finish_time
        self.changes = list(state.changes)
        self.subtasks, self._replaced = list(state.subtasks), dict[int, SubtaskState]()
        self.rolling_back = state.operation == "ROLLBACK"
        self.passed: SubtaskStatus = "PENDING" if self.rolling_back else "SUCCESSFUL"
        self._waiting = ("SUCCESSFUL", "CANCELING") if self.rolling_back else ("PENDING",)
        before, self._after = tuple([subtask.needs for subtask in script.subtasks]), script.downstreams
        if self.rolling_back:
            before, self._after = self._after, before
        self._blocking = [sum(self.subtasks[it].status != self.passed for it in places) for places in before]
        self.counts: dict[SubtaskStatus, int] = defaultdict(int, Counter(map(_status, self.subtasks)))
        self._prohibiting = sum(map(_prohibits_rollback, script.subtasks, self.subtasks))
        self.retries = [(place, item.retries) for place, item in enumerate(script.subtasks) if item.retries]
        # Subtasks that the task scheduler may make READY, those for the subtask scheduler, and a heap of ends of runs.
        self.turn = {place for place in range(len(self.subtasks)) if self._has_turn(place)}
        self.queue = {place for place, item in enumerate(self.subtasks) if _is_queued(script.subtasks[place], item)}
        self.ends = [(item.due, place) for place, item in enumerate(self.subtasks) if item.due is not None]
        heapify(self.ends)

    def state(self) -> TaskState:
        self._parts, self._replaced = self._parts.replaced(self._replaced), {}
        return TaskState(
            self.at,
            self.status,
            self._first.operation,
            self._first.start_time,
            self.finish_time,
            self.script.prohibits_rollback or self._prohibiting > 0,
            self._parts,
            tuple(self.changes),
        )

    @property
    def next_end(self) -> int | None:
        """Return the instant at which the next run ends, or None."""
        while self.ends and self.subtasks[self.ends[0][1]].due != self.ends[0][0]:
            heappop(self.ends)
        return self.ends[0][0] if self.ends else None

    def decide(self, status: TaskStatus, cause: states.Cause) -> None:
        operation = self._first.operation
        self.changes.append(Change(self.at, (), (self.status, operation), (status, operation), cause))
        self.status = status

    def move(self, place: int, item: SubtaskState, cause: states.Cause) -> None:
        script, before = self.script.subtasks[place], self.subtasks[place]
        status, previous = item.status, before.status
        self.subtasks[place] = self._replaced[place] = item
        self.changes.append(Change(self.at, (place,), (previous, before.operation), (status, item.operation), cause))
        self.counts[previous] -= 1
        self.counts[status] += 1
        if script.prohibits_rollback:
            self._prohibiting += _prohibits_rollback(script, item) - _prohibits_rollback(script, before)
        if item.due is not None:
            heappush(self.ends, (item.due, place))
        _update(self.queue, place, belongs=_is_queued(script, item))
        _update(self.turn, place, belongs=self._has_turn(place))
        passes = (status == self.passed) - (previous == self.passed)
        for other in self._after[place] if passes else ():
            self._blocking[other] -= passes
            _update(self.turn, other, belongs=self._has_turn(other))

    def _has_turn(self, place: int) -> bool:
        return not self._blocking[place] and self.subtasks[place].status in self._waiting


def _update(places: set[int], place: int, *, belongs: bool) -> None:
    if belongs:
        places.add(place)
    else:
        places.discard(place)


def _end_run(subtask: SubtaskState, instant: int) -> SubtaskState:
    """End the run that is due; a rollback run that succeeds leaves its subtask PENDING."""
    run = subtask.last_run
    assert run is not None
    undone = run.operation.startswith("ROLLBACK") and subtask.will_end == "SUCCESSFUL"
    status: SubtaskStatus = "PENDING" if undone else subtask.will_end
    ended = run._replace(ended=instant, ends=status, ended_by=subtask.ending)
    return subtask._replace(status=status, finish_time=instant, runs=(*subtask.runs[:-1], ended), due=None)


def _is_queued(script: SubtaskScript, item: SubtaskState) -> bool:
    runs_again = script.retries >= item.run_time and item.status == "FAILED" and item.operation in ("EXECUTE", "RETRY")
    return item.status in ("READY", "CANCELING") or runs_again


def _verdict(task: _Simulation) -> TaskStatus | None:
    """Return the status in which the task ends at the next tick, if it does (RunningTaskWorker:86-119,143-176).

    The task stays RUNNING while every FAILED subtask has more than one of its ``retries`` left, even if none comes
    because it was cancelled or is rolled back. With one left, the scheduler that acts first decides.
    """
    if task.status == "RUNNING" and task.counts["FAILED"]:
        retried = ((task.subtasks[place], count) for place, count in task.retries)
        waiting = sum(item.status == "FAILED" and item.run_time < count for item, count in retried)
        return "FAILED" if waiting < task.counts["FAILED"] and not task.counts["RUNNING"] else None
    has_passed = task.status == "RUNNING" and task.counts[task.passed] == len(task.subtasks)
    return "SUCCESSFUL" if has_passed else None


def _free_places(task: _Simulation) -> int:
    """Return how many subtasks become READY at the next tick of the task scheduler (AbstractTaskWorker:59-115)."""
    if task.status != "RUNNING" or not task.turn or task.counts["FAILED"]:
        return 0
    free = task.script.limit - task.counts["READY"] - task.counts["RUNNING"]
    return max(min(free, len(task.turn)), 0)


def _task_tick(task: _Simulation) -> None:
    """Let the task scheduler act: it ends the task, or makes subtasks READY.

    Up to the limit, in the listed order, PENDING subtasks become READY if their upstreams are all SUCCESSFUL. In a
    rollback, SUCCESSFUL and CANCELING subtasks do if their downstreams are all PENDING: a cancel that has not reached
    the subtask scheduler is lost. (ocp-express does not change the operation here. That differs only when a cancelled
    rollback run is retried: ocp-express would repeat that subtask for ever. That OCP does so too is not verified.)
    """
    if (verdict := _verdict(task)) is not None:
        task.decide(verdict, "task tick")
        task.finish_time = task.at
        return
    operation: SubtaskOperation = "ROLLBACK" if task.rolling_back else "EXECUTE"
    for place in sorted(task.turn)[: _free_places(task)]:
        task.move(place, _ready(task.subtasks[place], operation, task.at), "task tick")


def _subtask_tick(task: _Simulation, tick: int) -> None:
    """Let the subtask scheduler act: READY subtasks start, CANCELING ones are interrupted, FAILED ones run again.

    An interrupted run is RUNNING under CANCEL for a moment (CancelingSubtaskWorker:58-82). A retry by the server itself
    increments runTime, in any state of the task (FailedSubtaskWorker:59-88).
    """
    for place in sorted(task.queue):
        item = task.subtasks[place]
        if item.status == "READY":
            after = _start_run(task.script.subtasks[place], item, task.at, tick)
        elif item.status == "FAILED":
            count = item.run_time + 1
            after = item._replace(status="READY", operation="RETRY", run_time=count, finish_time=None)
        else:
            due = task.at + states.NO_OP_TAKES
            after = item._replace(status="RUNNING", operation="CANCEL", due=due, will_end="FAILED", ending="interrupt")
        task.move(place, after, "subtask tick")


def _start_run(script: SubtaskScript, subtask: SubtaskState, instant: int, tick: int) -> SubtaskState:
    """Start a run; the first start time stays, and the finish time is cleared (SubtaskAccessor:54-61)."""
    attempt, limit = _attempt_of(script, subtask), script.timeout * SECOND or states.watchdog(tick)
    takes = limit if attempt.takes is None else min(attempt.takes, limit)
    in_time = takes == attempt.takes
    is_attempt, is_rollback = subtask.operation in ("EXECUTE", "RETRY"), subtask.operation == "ROLLBACK"
    attempts, rollbacks = subtask.attempts + is_attempt, subtask.rollbacks + is_rollback
    number = attempts if is_attempt else rollbacks if is_rollback else 0
    run = states.Run(subtask.operation, instant, attempt.takes or 0, attempt.log, number=number)
    return subtask._replace(
        status="RUNNING",
        start_time=instant if subtask.start_time is None else subtask.start_time,
        finish_time=None,
        runs=(*subtask.runs, run)[-engine.MAX_OPERATIONS :],
        due=instant + takes,
        will_end=attempt.ends if in_time else "FAILED",
        ending="run ended" if in_time else "timeout",
        attempts=attempts,
        rollbacks=rollbacks,
    )


def _attempt_of(script: SubtaskScript, subtask: SubtaskState) -> states.RunScript:
    """Return the script of the run that starts: of the next attempt, or again of the last one."""
    if subtask.operation.endswith("SKIP"):
        return states.RunScript(takes=states.NO_OP_TAKES)
    if subtask.operation == "ROLLBACK":
        return script.rollbacks[min(subtask.rollbacks, len(script.rollbacks) - 1)]
    return script.attempts[min(subtask.attempts, len(script.attempts) - 1)]


def _prohibits_rollback(script: SubtaskScript, subtask: SubtaskState) -> bool:
    """Return whether the subtask forbids rollback and has started (TaskInstanceManagerImpl:160-174)."""
    return script.prohibits_rollback and subtask.status not in ("PENDING", "READY")
