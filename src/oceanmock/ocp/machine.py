"""The life of an OCP task: a pure machine over integer time.

A task is a DAG of subtasks. Its *plan* says what each attempt of each subtask does and how long it
takes; its *life* is every state it will pass through from here, each with the instant it begins,
worked out when it is born and again at every operation. Looking at an instant is a look-up, so a
late reader sees each step at the instant it was due, and reading changes nothing.

Instants are nanoseconds since the task's birth. Two schedulers move a task on, once a period each:
at the task scheduler's tick subtasks become READY and the task gets its verdict; at the subtask
scheduler's, half a period later, READY subtasks start and CANCELING ones are interrupted. A run
ends in its own time, between ticks. (The half period is not verified: it is what best fits the
documents' own sample, where a subtask starts 0.6 to 1.2 s after its upstream ended.)

Facts come from oceanbase/ocp-express at eb6f2117, the open-source sibling of OCP
(task/task-service/src/main/java/com/oceanbase/ocp/task/engine); each rule names its class. What no
public text decides is a field of ``Rules``, or says "not verified". The one rule: this file reads
no clock and does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

from oceanmock.engine import history as timeline
from oceanmock.errors import IllegalOperation, RollbackProhibited

TaskStatus = Literal["RUNNING", "FAILED", "SUCCESSFUL", "ABORTED"]
TaskOperation = Literal["EXECUTE", "RETRY", "ROLLBACK"]
SubtaskStatus = Literal["PENDING", "READY", "RUNNING", "CANCELING", "FAILED", "SUCCESSFUL"]
SubtaskOperation = Literal["EXECUTE", "RETRY", "ROLLBACK", "SKIP", "ROLLBACK_SKIP", "CANCEL"]
Outcome = Literal["SUCCESSFUL", "FAILED"]
Operation = Literal["RETRY", "ROLLBACK", "SKIP", "CANCEL"]
"""What a client can ask for: RETRY and ROLLBACK of a task; RETRY, SKIP and CANCEL of a subtask."""

SECOND: Final = 1_000_000_000
NO_OP_TAKES: Final = 10_000_000
"""How long a skip, or the interruption of a cancelled run, takes. Not verified: it only has to be
short, and long enough to be seen."""
WATCHDOG: Final = 10 * SECOND
"""A run of a subtask whose ``timeout`` is 0 ends after this (ReadySubtaskWorker:132-165)."""


_Positions = tuple[tuple[int, ...], ...]


# --- what a task is going to do -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a subtask: how long it takes (``None``: for ever), how it ends, what it logs."""

    takes: int | None
    ends: Outcome = "SUCCESSFUL"
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SubtaskScript:
    """What each run of a subtask does. The last attempt's outcome repeats.

    ``needs`` holds the positions of its upstreams in the task; ``timeout`` is in seconds.
    """

    attempts: tuple[Attempt, ...]
    rollbacks: tuple[Attempt, ...] = (Attempt(takes=SECOND),)
    needs: tuple[int, ...] = ()
    timeout: int = 3600
    prohibits_rollback: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """How the server that runs the task behaves; the defaults are ocp-express'.

    ``tick`` is the schedulers' period and ``phase`` the instant of the first task tick.
    ``retry_after_failed_rollback``: OCP 4.2.2's user guide offers it, ocp-express refuses
    (TaskInstanceManagerImpl:99-101). ``subtask_retry_counts``: whether retrying one subtask adds
    to its runTime; the database's comment says so (common_tables.yaml:56), the code does not.
    """

    tick: int = SECOND
    phase: int = 0
    retry_after_failed_rollback: bool = False
    subtask_retry_counts: bool = False


@dataclass(frozen=True, slots=True)
class TaskScript:
    """A task's subtasks, in the order the API lists them, and its limits.

    At most ``concurrency`` subtasks are READY or RUNNING at once (AbstractTaskWorker:59-87).
    ``abandoned_after``: this long after the task has FAILED somebody abandons it and it is ABORTED
    for good; an opt-in, because no public text shows that state in the API.
    """

    subtasks: tuple[SubtaskScript, ...]
    concurrency: int = 10
    prohibits_rollback: bool = False
    abandoned_after: int | None = None


# --- what a task looks like -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a subtask, as its log tells it; ``ended`` is None while it runs.

    ``ends`` is the status it ended in; None while it runs, and where a rollback cut it short.
    ``takes`` is how long the script meant it to take, the pace of its log lines; 0 for one that
    hangs, whose lines all come first.
    """

    operation: SubtaskOperation
    started: int
    takes: int
    log: tuple[str, ...] = ()
    ended: int | None = None
    ends: SubtaskStatus | None = None


@dataclass(frozen=True, slots=True)
class SubtaskState:
    """What a subtask shows at an instant. ``due`` and ``will_end`` belong to the run under way."""

    status: SubtaskStatus = "PENDING"
    operation: SubtaskOperation = "EXECUTE"
    run_time: int = 1
    start_time: int | None = None
    finish_time: int | None = None
    runs: tuple[Run, ...] = ()
    due: int | None = None
    will_end: Outcome = "SUCCESSFUL"


@dataclass(frozen=True, slots=True)
class TaskState:
    """What a task shows from instant ``at`` until the next state's."""

    at: int
    status: TaskStatus
    operation: TaskOperation
    start_time: int
    finish_time: int | None
    prohibit_rollback: bool
    subtasks: tuple[SubtaskState, ...]


@dataclass(frozen=True, slots=True)
class History:
    """A task from here on: its plan, and every state it will pass through, in order."""

    plan: TaskScript
    rules: Rules
    states: tuple[TaskState, ...]


# --- reading a life -------------------------------------------------------------------------------


def start(plan: TaskScript, rules: Rules = Rules()) -> History:
    """The life of a task born at instant 0: RUNNING at once, its roots READY, the rest PENDING.

    No more roots than may be under way at once (ReadyTaskWorker:176-219).
    """
    return _begin(plan, rules)


def view_at(life: History, instant: int) -> TaskState:
    """What the task shows at ``instant``; before its birth, what it shows at birth."""
    return timeline.state_at(life.states, instant)


def next_due(life: History, instant: int) -> int | None:
    """The first instant after ``instant`` at which something changes, or None."""
    return timeline.next_change(life.states, instant)


def log_lines_at(run: Run, instant: int) -> tuple[str, ...]:
    """The lines a run has logged by ``instant``, which fall evenly over the time it should take."""
    by = instant if run.ended is None else min(instant, run.ended)
    lines = timeline.lines_logged(run.log, started=run.started, takes=run.takes, by=by)
    return tuple(line for _, line in lines)


# --- operations -----------------------------------------------------------------------------------


def allowed_operations(
    state: TaskState, rules: Rules = Rules(), *, subtask: int | None = None
) -> tuple[Operation, ...]:
    """The operations that the task, or one of its subtasks, would accept in this state."""
    table = _TASK_OPERATIONS if subtask is None else _SUBTASK_OPERATIONS
    return tuple(
        operation
        for operation, (refusal, _) in table.items()
        if refusal(state, rules, subtask or 0) is None
        and not (operation == "ROLLBACK" and state.prohibit_rollback)
    )


def operate(
    life: History, operation: Operation, instant: int, *, subtask: int | None = None
) -> History:
    """The life that follows when an operation reaches the task, or one subtask, at ``instant``.

    ``subtask`` is a position in the task; without one the whole task is meant. What was before
    ``instant`` stays; what was to come is worked out anew.

    Raises IllegalOperation when the state does not allow it, RollbackProhibited when the task
    forbids rollback; ``life`` is then still true.
    """
    state = view_at(life, instant)
    table = _TASK_OPERATIONS if subtask is None else _SUBTASK_OPERATIONS
    if operation not in table:
        raise ValueError(f"{operation} is not an operation of {_kind(subtask)}: {', '.join(table)}")
    refusal, apply = table[operation]
    blamed = refusal(state, life.rules, subtask or 0)
    if blamed is not None:
        allowed = allowed_operations(state, life.rules, subtask=subtask)
        raise IllegalOperation(operation, state=blamed, allowed=allowed)
    if operation == "ROLLBACK" and state.prohibit_rollback:
        raise RollbackProhibited("the task, or a subtask that has run, forbids rollback")
    after = apply(life.plan, life.rules, replace(state, at=instant), subtask or 0)
    past = tuple(timeline.until(life.states, instant))
    return replace(life, states=past + tuple(_unfold(life.plan, life.rules, after)))


def _kind(subtask: int | None) -> str:
    return "a task" if subtask is None else "a subtask"


def _refuse_task_retry(state: TaskState, rules: Rules, _: int) -> str | None:
    """TaskInstanceManagerImpl:96-101: only FAILED, and not out of a rollback."""
    if state.status != "FAILED":
        return state.status
    if state.operation == "ROLLBACK" and not rules.retry_after_failed_rollback:
        return "ROLLBACK"
    return None


def _retry_task(plan: TaskScript, rules: Rules, state: TaskState, _: int) -> TaskState:
    """Every FAILED subtask is READY to run once more; the old finish times still show."""
    subtasks = tuple(
        replace(each, status="READY", operation="RETRY", run_time=each.run_time + 1)
        if each.status == "FAILED"
        else each
        for each in state.subtasks
    )
    return _with_subtasks(plan, state, subtasks, status="RUNNING", operation="RETRY")


def _refuse_rollback(state: TaskState, _rules: Rules, _: int) -> str | None:
    """TaskInstanceManagerImpl:59-68: only FAILED; whether it is forbidden is asked afterwards."""
    return None if state.status == "FAILED" else state.status


def _roll_back(plan: TaskScript, rules: Rules, state: TaskState, _: int) -> TaskState:
    """All that is not PENDING is to be undone, from the far end of the DAG backwards.

    READY at once is what has nothing left to undo after it, even where it still runs, under a
    FAILED task (TaskInstanceManagerImpl:70-88); that its run is then cut short is not verified.
    """
    downstreams = downstreams_of(plan)
    subtasks = tuple(
        _undone_next(each, _all_are(state, downstreams[position], "PENDING"), state.at)
        for position, each in enumerate(state.subtasks)
    )
    return _with_subtasks(plan, state, subtasks, status="RUNNING", operation="ROLLBACK")


def _undone_next(subtask: SubtaskState, is_last: bool, instant: int) -> SubtaskState:
    if subtask.status == "PENDING":
        return subtask
    marked = replace(subtask, operation="ROLLBACK")
    if not is_last:
        return marked
    runs = subtask.runs
    if runs and runs[-1].ended is None:
        runs = (*runs[:-1], replace(runs[-1], ended=instant))
    return replace(marked, status="READY", runs=runs, due=None)


def _refuse_subtask_retry(state: TaskState, _rules: Rules, position: int) -> str | None:
    """SubtaskInstanceManagerImpl:43-46: only FAILED, and not in its rollback run."""
    subtask = state.subtasks[position]
    if state.status == "ABORTED":
        return state.status
    if subtask.status != "FAILED":
        return subtask.status
    return "ROLLBACK" if subtask.operation == "ROLLBACK" else None


def _retry_subtask(plan: TaskScript, rules: Rules, state: TaskState, position: int) -> TaskState:
    """The subtask is READY, the task RUNNING again under the operation it had."""
    counted = 1 if rules.subtask_retry_counts else 0
    subtask = state.subtasks[position]
    again = replace(subtask, status="READY", operation="RETRY", run_time=subtask.run_time + counted)
    return _with_subtask(plan, state, position, again)


def _refuse_skip(state: TaskState, _rules: Rules, position: int) -> str | None:
    """SubtaskInstanceManagerImpl:59: only FAILED."""
    if state.status == "ABORTED":
        return state.status
    status = state.subtasks[position].status
    return None if status == "FAILED" else status


def _skip(plan: TaskScript, rules: Rules, state: TaskState, position: int) -> TaskState:
    """The subtask is READY for a run that does nothing; in a rollback that undoes nothing."""
    operation: SubtaskOperation = "ROLLBACK_SKIP" if state.operation == "ROLLBACK" else "SKIP"
    skipped = replace(state.subtasks[position], status="READY", operation=operation)
    return _with_subtask(plan, state, position, skipped)


def _refuse_cancel(state: TaskState, _rules: Rules, position: int) -> str | None:
    """SubtaskInstanceManagerImpl:77: only RUNNING."""
    if state.status == "ABORTED":
        return state.status
    status = state.subtasks[position].status
    return None if status == "RUNNING" else status


def _cancel(plan: TaskScript, rules: Rules, state: TaskState, position: int) -> TaskState:
    """The subtask is CANCELING until the subtask scheduler interrupts it; its end no longer comes.

    (That the run can't end by itself in between is not verified.)
    """
    cancelled = replace(state.subtasks[position], status="CANCELING", due=None)
    return _with_subtasks(plan, state, _put(state.subtasks, position, cancelled))


_Refusal = Callable[[TaskState, Rules, int], str | None]
_Effect = Callable[[TaskScript, Rules, TaskState, int], TaskState]

_TASK_OPERATIONS: Final[dict[Operation, tuple[_Refusal, _Effect]]] = {
    "RETRY": (_refuse_task_retry, _retry_task),
    "ROLLBACK": (_refuse_rollback, _roll_back),
}
_SUBTASK_OPERATIONS: Final[dict[Operation, tuple[_Refusal, _Effect]]] = {
    "RETRY": (_refuse_subtask_retry, _retry_subtask),
    "SKIP": (_refuse_skip, _skip),
    "CANCEL": (_refuse_cancel, _cancel),
}


# --- what time does -------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _begin(plan: TaskScript, rules: Rules) -> History:
    roots = [place for place, subtask in enumerate(plan.subtasks) if not subtask.needs]
    first = roots[: plan.concurrency]
    subtasks = tuple(
        SubtaskState(status="READY" if place in first else "PENDING")
        for place in range(len(plan.subtasks))
    )
    born = TaskState(
        at=0,
        status="RUNNING",
        operation="EXECUTE",
        start_time=0,
        finish_time=None,
        prohibit_rollback=plan.prohibits_rollback,
        subtasks=subtasks,
    )
    return History(plan, rules, tuple(_unfold(plan, rules, born)))


def _unfold(plan: TaskScript, rules: Rules, state: TaskState) -> Iterator[TaskState]:
    """Every state from this one on, one per instant, until nothing is due any more."""
    downstreams = downstreams_of(plan)
    while (instant := _next_instant(plan, rules, state, downstreams)) is not None:
        if instant > state.at:
            yield state
        state = _pass_instant(plan, rules, state, downstreams, instant)
    yield state


def _next_instant(
    plan: TaskScript, rules: Rules, state: TaskState, downstreams: _Positions
) -> int | None:
    """When something happens next if nobody interferes; empty ticks are not visited."""
    due = [each.due for each in state.subtasks if each.due is not None]
    if _task_tick(plan, state, downstreams, state.at) is not state:
        due.append(timeline.next_tick(state.at, rules.tick, rules.phase))
    if any(each.status in ("READY", "CANCELING") for each in state.subtasks):
        due.append(timeline.next_tick(state.at, rules.tick, rules.phase + rules.tick // 2))
    if (abandoned := _abandoned_at(plan, state)) is not None:
        due.append(abandoned)
    return min(due, default=None)


def _pass_instant(
    plan: TaskScript, rules: Rules, state: TaskState, downstreams: _Positions, instant: int
) -> TaskState:
    """All that happens at one instant: runs end, then each scheduler whose tick it is."""
    state = _end_runs(plan, replace(state, at=instant), instant)
    if (instant - rules.phase) % rules.tick == 0:
        state = _task_tick(plan, state, downstreams, instant)
    if (instant - rules.phase - rules.tick // 2) % rules.tick == 0:
        state = _subtask_tick(plan, state, instant)
    if _abandoned_at(plan, state) == instant:
        state = replace(state, status="ABORTED")
    return state


def _end_runs(plan: TaskScript, state: TaskState, instant: int) -> TaskState:
    """Runs that are due end; a rollback run that succeeds leaves its subtask PENDING."""
    subtasks = tuple(
        _end_run(each, instant) if each.due == instant else each for each in state.subtasks
    )
    return _with_subtasks(plan, state, subtasks)


def _end_run(subtask: SubtaskState, instant: int) -> SubtaskState:
    run = subtask.runs[-1]
    undone = run.operation in ("ROLLBACK", "ROLLBACK_SKIP") and subtask.will_end == "SUCCESSFUL"
    status: SubtaskStatus = "PENDING" if undone else subtask.will_end
    ended = replace(run, ended=instant, ends=status)
    runs = (*subtask.runs[:-1], ended)
    return replace(subtask, status=status, finish_time=instant, runs=runs, due=None)


def _task_tick(
    plan: TaskScript, state: TaskState, downstreams: _Positions, instant: int
) -> TaskState:
    """The task scheduler: a verdict, or else what may run next becomes READY.

    The same object when there is nothing to do. (RunningTaskWorker:86-119,143-176.)
    """
    if state.status != "RUNNING":
        return state
    statuses = [each.status for each in state.subtasks]
    if "FAILED" in statuses:
        if "RUNNING" in statuses:
            return state
        return replace(state, status="FAILED", finish_time=instant)
    goal: SubtaskStatus = "PENDING" if state.operation == "ROLLBACK" else "SUCCESSFUL"
    if all(status == goal for status in statuses):
        return replace(state, status="SUCCESSFUL", finish_time=instant)
    return _promote(plan, state, downstreams, statuses)


def _promote(
    plan: TaskScript, state: TaskState, downstreams: _Positions, statuses: list[SubtaskStatus]
) -> TaskState:
    """Subtasks whose turn it is become READY, in their listed order, up to the limit.

    Forward: PENDING ones whose upstreams are all SUCCESSFUL. In a rollback: SUCCESSFUL ones whose
    downstreams are all PENDING. (AbstractTaskWorker:59-115. The sibling leaves the operation as it
    was, which differs only after a cancelled rollback run is retried: it would then repeat that
    subtask for ever. That OCP does so too is not verified.)
    """
    room = plan.concurrency - statuses.count("READY") - statuses.count("RUNNING")
    rolling_back = state.operation == "ROLLBACK"
    waiting: SubtaskStatus = "SUCCESSFUL" if rolling_back else "PENDING"
    passed: SubtaskStatus = "PENDING" if rolling_back else "SUCCESSFUL"
    operation: SubtaskOperation = "ROLLBACK" if rolling_back else "EXECUTE"
    turn = [
        position
        for position, status in enumerate(statuses)
        if status == waiting
        and _all_are(
            state,
            downstreams[position] if rolling_back else plan.subtasks[position].needs,
            passed,
        )
    ][: max(room, 0)]
    if not turn:
        return state
    subtasks = list(state.subtasks)
    for position in turn:
        subtasks[position] = replace(subtasks[position], status="READY", operation=operation)
    return _with_subtasks(plan, state, tuple(subtasks))


def _subtask_tick(plan: TaskScript, state: TaskState, instant: int) -> TaskState:
    """The subtask scheduler: READY subtasks start, CANCELING ones are interrupted."""
    subtasks = tuple(
        _start_run(plan.subtasks[position], each, instant)
        if each.status == "READY"
        else _interrupt(each, instant)
        if each.status == "CANCELING"
        else each
        for position, each in enumerate(state.subtasks)
    )
    return _with_subtasks(plan, state, subtasks)


def _start_run(plan: SubtaskScript, subtask: SubtaskState, instant: int) -> SubtaskState:
    """RUNNING: the first start time ever stays, the finish time goes (SubtaskAccessor:54-61)."""
    attempt = _attempt_of(plan, subtask)
    limit = plan.timeout * SECOND or WATCHDOG
    in_time = attempt.takes is not None and attempt.takes <= limit
    takes = attempt.takes if attempt.takes is not None and in_time else limit
    pace = attempt.takes or 0
    started = Run(subtask.operation, started=instant, takes=pace, log=attempt.log)
    return replace(
        subtask,
        status="RUNNING",
        start_time=instant if subtask.start_time is None else subtask.start_time,
        finish_time=None,
        runs=(*subtask.runs, started),
        due=instant + takes,
        will_end=attempt.ends if in_time else "FAILED",
    )


def _attempt_of(plan: SubtaskScript, subtask: SubtaskState) -> Attempt:
    """What the run about to start does: its script's next attempt, the last one repeating."""
    if subtask.operation in ("SKIP", "ROLLBACK_SKIP"):
        return _NO_OP
    backwards = subtask.operation == "ROLLBACK"
    kin = ("ROLLBACK",) if backwards else ("EXECUTE", "RETRY")
    script = plan.rollbacks if backwards else plan.attempts
    before = sum(run.operation in kin for run in subtask.runs)
    return script[min(before, len(script) - 1)]


_NO_OP: Final = Attempt(takes=NO_OP_TAKES)


def _interrupt(subtask: SubtaskState, instant: int) -> SubtaskState:
    """RUNNING under CANCEL for the moment it takes to stop (CancelingSubtaskWorker:58-82)."""
    return replace(
        subtask,
        status="RUNNING",
        operation="CANCEL",
        due=instant + NO_OP_TAKES,
        will_end="FAILED",
    )


def _abandoned_at(plan: TaskScript, state: TaskState) -> int | None:
    if plan.abandoned_after is None or state.status != "FAILED" or state.finish_time is None:
        return None
    return state.finish_time + plan.abandoned_after


# --- small things ---------------------------------------------------------------------------------


def downstreams_of(plan: TaskScript) -> _Positions:
    """For each subtask, the positions of those that need it."""
    found: list[list[int]] = [[] for _ in plan.subtasks]
    for position, subtask in enumerate(plan.subtasks):
        for upstream in subtask.needs:
            found[upstream].append(position)
    return tuple(map(tuple, found))


def _all_are(state: TaskState, positions: tuple[int, ...], status: SubtaskStatus) -> bool:
    return all(state.subtasks[position].status == status for position in positions)


def _put(
    subtasks: tuple[SubtaskState, ...], position: int, subtask: SubtaskState
) -> tuple[SubtaskState, ...]:
    return (*subtasks[:position], subtask, *subtasks[position + 1 :])


def _with_subtask(
    plan: TaskScript, state: TaskState, position: int, subtask: SubtaskState
) -> TaskState:
    """The task RUNNING again, one subtask changed."""
    return _with_subtasks(plan, state, _put(state.subtasks, position, subtask), status="RUNNING")


def _with_subtasks(
    plan: TaskScript,
    state: TaskState,
    subtasks: tuple[SubtaskState, ...],
    *,
    status: TaskStatus | None = None,
    operation: TaskOperation | None = None,
) -> TaskState:
    """The task with these subtasks, and what follows from them (TaskInstanceManagerImpl:160-174).

    A subtask that forbids rollback counts once it has started: neither PENDING nor READY.
    """
    prohibited = plan.prohibits_rollback or any(
        script.prohibits_rollback and each.status not in ("PENDING", "READY")
        for script, each in zip(plan.subtasks, subtasks, strict=True)
    )
    return replace(
        state,
        status=status or state.status,
        operation=operation or state.operation,
        subtasks=subtasks,
        prohibit_rollback=prohibited,
    )
