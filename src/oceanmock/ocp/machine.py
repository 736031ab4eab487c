"""The state machine of an OCP task: pure, over integer time.

A task is a DAG of subtasks. Its *script* says what each attempt of each subtask does and how long it takes; its
*history* is every state it passes through, each with its instant and the changes that led to it. It is computed at the
start and again at every operation, so reading changes nothing.

Instants are nanoseconds since the task's start. Two schedulers move a task on, once a period each: at the task
scheduler's tick subtasks become READY and the task gets its verdict; at the subtask scheduler's, half a period later,
READY subtasks start and CANCELING ones are interrupted. A run ends in its own time, between ticks. (The half period is
not verified: it is what best fits the documents' own sample, where a subtask starts 0.6 to 1.2 s after its upstream
ended.)

Facts come from oceanbase/ocp-express at eb6f2117, the open-source sibling of OCP
(task/task-service/src/main/java/com/oceanbase/ocp/task/engine); each rule names its class. What no public text decides
is a field of ``Rules``, or is marked "not verified". What may follow what is the table of ``transitions``. This module
reads no clock and does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from operator import attrgetter
from typing import Final

from oceanmock.clock import SECOND
from oceanmock.engine import machine as engine
from oceanmock.engine.machine import put
from oceanmock.errors import IllegalOperation, RollbackProhibited
from oceanmock.ocp.api import Operation, SubtaskOperation, SubtaskStatus, TaskOperation, TaskStatus
from oceanmock.ocp.states import (
    MACHINES,
    NO_OP_TAKES,
    RETRY_AFTER_ROLLBACK,
    Rules,
    Run,
    RunScript,
    SubtaskScript,
    SubtaskState,
    TaskScript,
    TaskState,
    watchdog,
)

History = engine.History[TaskScript, Rules, TaskState]
view_at = engine.view_at
next_due = engine.next_due
_Positions = tuple[tuple[int, ...], ...]
_status = attrgetter("status")


@lru_cache(maxsize=1024)
def start(script: TaskScript, rules: Rules = Rules()) -> History:
    """Return the history of a task that starts at instant 0.

    It is RUNNING at once, its roots READY, no more than a concurrency that was set, the rest PENDING
    (ReadyTaskWorker:176-191).
    """
    roots = [place for place, subtask in enumerate(script.subtasks) if not subtask.needs]
    first = roots[: script.concurrency]
    state = TaskState(
        at=0,
        status="RUNNING",
        operation="EXECUTE",
        start_time=0,
        finish_time=None,
        prohibit_rollback=script.prohibits_rollback,
        subtasks=tuple(
            SubtaskState(status="READY" if place in first else "PENDING") for place in range(len(script.subtasks))
        ),
    )
    return engine.History(script, rules, tuple(_unfold(script, rules, engine.started(state))))


def log_lines_at(run: Run, instant: int) -> tuple[str, ...]:
    """Return the lines a run has logged by ``instant``, evenly over the time it should take."""
    return tuple([line for _, line in engine.lines_logged(run, instant)])


def allowed_operations(
    state: TaskState, rules: Rules = Rules(), *, subtask: int | None = None
) -> tuple[Operation, ...]:
    """Return the operations that the task, or one of its subtasks, would accept in this state."""
    return tuple(
        operation
        for operation in (_TASK_OPERATIONS if subtask is None else _SUBTASK_OPERATIONS)
        if _refusal(operation, state, rules, subtask) is None
        and not (operation == "ROLLBACK" and state.prohibit_rollback)
    )


def operate(history: History, operation: Operation, instant: int, subtask: int | None = None) -> History:
    """Return the history that follows an operation on the task, or one subtask, at ``instant``.

    ``subtask`` is a position in the task. Raises IllegalOperation when the state does not allow it, RollbackProhibited
    when the task forbids rollback; ``history`` is then still valid.
    """
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
    target = () if subtask is None else (subtask,)
    after = engine.changed(state, after, f"{kind}.{operation}", target=target)
    return history.continued(instant, _unfold(script, rules, after))


def _refusal(operation: Operation, state: TaskState, rules: Rules, subtask: int | None) -> str | None:
    """Return the state that forbids the operation, or None: the table has no transition from it.

    (TaskInstanceManagerImpl:59-101, SubtaskInstanceManagerImpl:43-77.)
    """
    if state.status == "ABORTED":
        return state.status
    it, kind = (state, "task") if subtask is None else (state.subtasks[subtask], "subtask")
    switch = _ACCEPTED_MOVES.get((f"{kind}.{operation}", (it.status, it.operation)))
    if switch == "" or (switch == RETRY_AFTER_ROLLBACK and rules.retry_after_failed_rollback):
        return None
    is_undone = it.status == "FAILED" and it.operation == "ROLLBACK"
    return it.operation if is_undone and operation == "RETRY" else it.status


_ACCEPTED_MOVES: Final = {
    (move.trigger, move.before): move.only
    for kind, machine in MACHINES.items()
    for move in machine.transitions
    if move.trigger.startswith(f"{kind}.")
}
"""By operation and label that accepts it, the switch that this needs, or ""."""


def _retry_task(script: TaskScript, rules: Rules, state: TaskState, _: int) -> TaskState:
    """Make every FAILED subtask READY to run once more; the old finish times still show."""
    subtasks = tuple(
        replace(item, status="READY", operation="RETRY", run_time=item.run_time + 1)
        if item.status == "FAILED"
        else item
        for item in state.subtasks
    )
    return _with_subtasks(script, state, subtasks, status="RUNNING", operation="RETRY")


def _roll_back(script: TaskScript, rules: Rules, state: TaskState, _: int) -> TaskState:
    """Mark all that is not PENDING to be undone, from the far end of the DAG backwards.

    READY at once is what has nothing left to undo after it, even where it still runs, under a FAILED task
    (TaskInstanceManagerImpl:70-88); that its run is then cut short is not verified.
    """
    downstreams, subtasks = downstreams_of(script), list(state.subtasks)
    for place, item in enumerate(state.subtasks):
        if item.status == "PENDING":
            continue
        if not _all_are(state, downstreams[place], "PENDING"):
            subtasks[place] = replace(item, operation="ROLLBACK")
            continue
        subtasks[place] = _ready(item, "ROLLBACK", state.at)
    return _with_subtasks(script, state, tuple(subtasks), status="RUNNING", operation="ROLLBACK")


def _ready(subtask: SubtaskState, operation: SubtaskOperation, instant: int) -> SubtaskState:
    """Return a subtask READY for another run; one that is under way is cut short."""
    runs = tuple([replace(run, ended=instant) if run.ended is None else run for run in subtask.runs])
    return replace(subtask, status="READY", operation=operation, runs=runs, due=None)


def _retry_subtask(script: TaskScript, rules: Rules, state: TaskState, position: int) -> TaskState:
    """Make the subtask READY, the task RUNNING again under the operation it had."""
    item = state.subtasks[position]
    run_time = item.run_time + rules.subtask_retry_counts
    again = replace(item, status="READY", operation="RETRY", run_time=run_time)
    return _with_subtasks(script, state, put(state.subtasks, position, again), status="RUNNING")


def _skip(script: TaskScript, rules: Rules, state: TaskState, position: int) -> TaskState:
    """Make the subtask READY for a run that does nothing; in a rollback, that undoes nothing."""
    operation: SubtaskOperation = "ROLLBACK_SKIP" if state.operation == "ROLLBACK" else "SKIP"
    skipped = replace(state.subtasks[position], status="READY", operation=operation)
    return _with_subtasks(script, state, put(state.subtasks, position, skipped), status="RUNNING")


def _cancel(script: TaskScript, rules: Rules, state: TaskState, position: int) -> TaskState:
    """Make the subtask CANCELING until the subtask scheduler interrupts it.

    (That the run can't end by itself in between is not verified.)
    """
    cancelled = replace(state.subtasks[position], status="CANCELING", due=None)
    return _with_subtasks(script, state, put(state.subtasks, position, cancelled))


_Effect = Callable[[TaskScript, Rules, TaskState, int], TaskState]

_TASK_OPERATIONS: Final[dict[Operation, _Effect]] = {"RETRY": _retry_task, "ROLLBACK": _roll_back}
_SUBTASK_OPERATIONS: Final[dict[Operation, _Effect]] = {"RETRY": _retry_subtask, "SKIP": _skip, "CANCEL": _cancel}


def _unfold(script: TaskScript, rules: Rules, state: TaskState) -> Iterator[TaskState]:
    """Yield every state from this one on, one per instant, until nothing is due any more.

    At an instant runs end, then each scheduler acts whose tick it is. Ticks at which nothing happens are not visited.
    """
    downstreams, phase, late = downstreams_of(script), rules.phase, rules.phase + rules.tick // 2
    while True:
        statuses = list(map(_status, state.subtasks))
        due = [item.due for item in state.subtasks if item.due is not None]
        if _task_tick(script, state, downstreams, state.at) is not state:
            due.append(engine.next_tick(state.at, rules.tick, phase))
        if "READY" in statuses or "CANCELING" in statuses:
            due.append(engine.next_tick(state.at, rules.tick, late))
        abandoned = None
        if script.abandoned_after is not None and state.status == "FAILED" and state.finish_time is not None:
            abandoned = state.finish_time + script.abandoned_after
            due.append(abandoned)
        if not due:
            break
        instant = min(due)
        if instant > state.at:
            yield state
            state = replace(state, at=instant, changes=())
        for place, item in enumerate(state.subtasks):
            if item.due == instant:
                ended = put(state.subtasks, place, _end_run(item, instant))
                state = engine.changed(state, _with_subtasks(script, state, ended), item.ending)
        if (instant - phase) % rules.tick == 0:
            state = engine.changed(state, _task_tick(script, state, downstreams, instant), "task tick")
        if (instant - late) % rules.tick == 0:
            state = engine.changed(state, _subtask_tick(script, state, instant, rules.tick), "subtask tick")
        if instant == abandoned:
            state = engine.changed(state, replace(state, status="ABORTED"), "abandoned")
    yield state


def _end_run(subtask: SubtaskState, instant: int) -> SubtaskState:
    """End the run that is due; a rollback run that succeeds leaves its subtask PENDING."""
    run = subtask.last_run
    assert run is not None
    undone = run.operation.startswith("ROLLBACK") and subtask.will_end == "SUCCESSFUL"
    status: SubtaskStatus = "PENDING" if undone else subtask.will_end
    ended = replace(run, ended=instant, ends=status, ended_by=subtask.ending)
    return replace(subtask, status=status, finish_time=instant, runs=(*subtask.runs[:-1], ended), due=None)


def _task_tick(script: TaskScript, state: TaskState, downstreams: _Positions, instant: int) -> TaskState:
    """Return the state after the task scheduler: with a verdict (RunningTaskWorker:86-119,143-176), or with READY
    what may run next (AbstractTaskWorker:59-115); the same object when there is nothing to do.

    In their listed order, up to the limit, PENDING subtasks become READY whose upstreams are all SUCCESSFUL; in a
    rollback SUCCESSFUL and CANCELING ones whose downstreams are all PENDING: a cancel that has not reached the subtask
    scheduler is lost. (The sibling leaves the operation as it was, which differs only after a cancelled rollback run is
    retried: it would then repeat that subtask for ever. That OCP does so too is not verified.)
    """
    if state.status != "RUNNING":
        return state
    statuses = list(map(_status, state.subtasks))
    if "FAILED" in statuses:
        return state if "RUNNING" in statuses else replace(state, status="FAILED", finish_time=instant)
    rolling_back = state.operation == "ROLLBACK"
    waiting = ("SUCCESSFUL", "CANCELING") if rolling_back else ("PENDING",)
    passed: SubtaskStatus = "PENDING" if rolling_back else "SUCCESSFUL"
    operation: SubtaskOperation = "ROLLBACK" if rolling_back else "EXECUTE"
    if statuses.count(passed) == len(statuses):
        return replace(state, status="SUCCESSFUL", finish_time=instant)
    turn = [
        place
        for place, status in enumerate(statuses)
        if status in waiting
        and _all_are(state, downstreams[place] if rolling_back else script.subtasks[place].needs, passed)
    ]
    free = script.limit - statuses.count("READY") - statuses.count("RUNNING")
    if not turn or free <= 0:
        return state
    subtasks = list(state.subtasks)
    for place in turn[:free]:
        subtasks[place] = _ready(subtasks[place], operation, instant)
    return _with_subtasks(script, state, tuple(subtasks))


def _subtask_tick(script: TaskScript, state: TaskState, instant: int, tick: int) -> TaskState:
    """Return the state after the subtask scheduler: READY subtasks start, CANCELING ones are interrupted.

    An interrupted run is RUNNING under CANCEL for a moment (CancelingSubtaskWorker:58-82).
    """
    subtasks = list(state.subtasks)
    for place, item in enumerate(state.subtasks):
        if item.status == "READY":
            subtasks[place] = _start_run(script.subtasks[place], item, instant, tick)
        elif item.status == "CANCELING":
            interrupted = replace(item, status="RUNNING", operation="CANCEL", will_end="FAILED", ending="interrupt")
            subtasks[place] = replace(interrupted, due=instant + NO_OP_TAKES)
    return _with_subtasks(script, state, tuple(subtasks))


def _start_run(script: SubtaskScript, subtask: SubtaskState, instant: int, tick: int) -> SubtaskState:
    """Start a run: the first start time stays, the finish time goes (SubtaskAccessor:54-61)."""
    attempt = _attempt_of(script, subtask)
    limit = script.timeout * SECOND or watchdog(tick)
    in_time = attempt.takes is not None and attempt.takes <= limit
    takes = attempt.takes if attempt.takes is not None and in_time else limit
    attempts = subtask.attempts + (subtask.operation in ("EXECUTE", "RETRY"))
    rollbacks = subtask.rollbacks + (subtask.operation == "ROLLBACK")
    number = {"ROLLBACK": rollbacks, "EXECUTE": attempts, "RETRY": attempts}
    run = Run(
        subtask.operation,
        started=instant,
        takes=attempt.takes or 0,
        log=attempt.log,
        number=number.get(subtask.operation, 0),
    )
    return replace(
        subtask,
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


def _attempt_of(script: SubtaskScript, subtask: SubtaskState) -> RunScript:
    """Return what the run about to start does: the next attempt, the last one repeating."""
    if subtask.operation.endswith("SKIP"):
        return RunScript(takes=NO_OP_TAKES)
    if subtask.operation == "ROLLBACK":
        return script.rollbacks[min(subtask.rollbacks, len(script.rollbacks) - 1)]
    return script.attempts[min(subtask.attempts, len(script.attempts) - 1)]


def downstreams_of(script: TaskScript) -> _Positions:
    """Return, for each subtask, the positions of those that need it."""
    downstreams: list[list[int]] = [[] for _ in script.subtasks]
    for position, subtask in enumerate(script.subtasks):
        for upstream in subtask.needs:
            downstreams[upstream].append(position)
    return tuple(map(tuple, downstreams))


def _all_are(state: TaskState, positions: tuple[int, ...], status: SubtaskStatus) -> bool:
    return {state.subtasks[position].status for position in positions} <= {status}


def _with_subtasks(
    script: TaskScript,
    state: TaskState,
    subtasks: tuple[SubtaskState, ...],
    *,
    status: TaskStatus | None = None,
    operation: TaskOperation | None = None,
) -> TaskState:
    """Return the task with these subtasks, and what follows (TaskInstanceManagerImpl:160-174).

    A subtask that forbids rollback counts once it has started: neither PENDING nor READY.
    """
    prohibits_rollback = script.prohibits_rollback
    for item, subtask in zip(script.subtasks, subtasks, strict=True):
        if item.prohibits_rollback and subtask.status not in ("PENDING", "READY"):
            prohibits_rollback = True
    return replace(
        state,
        status=status or state.status,
        operation=operation or state.operation,
        subtasks=subtasks,
        prohibit_rollback=prohibits_rollback,
    )
