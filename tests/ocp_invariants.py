"""What the facts say an OCP task may and must do, written without looking at the machine.

Three kinds of thing: tables copied from the facts (which status may follow which, and why; which
operation is allowed when, and what it changes), small functions that compute from a plan and a
state what must be shown, and invariants: each takes one step of a life (or one state) and yields a
sentence per breach, so a failing property says what broke. Facts come from oceanbase/ocp-express at
eb6f2117 (task/task-service/src/main/java/com/oceanbase/ocp/task), the classes named at each rule.
The one rule: nothing here calls the machine; it only reads the dataclasses it hands out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

from oceanmock.clock import SECOND
from oceanmock.engine.machine import Parts
from oceanmock.ocp.api import Operation
from oceanmock.ocp.states import NO_OP_TAKES, Rules, Run, RunScript, SubtaskScript, SubtaskState, TaskScript, TaskState

Answer = Literal["ACCEPTED", "ILLEGAL", "PROHIBITED"]


@dataclass(frozen=True, slots=True)
class Act:
    """An operation on the whole task (``subtask`` is None) or on the subtask at a position."""

    operation: Operation
    subtask: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Two consecutive states and what lies between: an accepted operation, or (None) time."""

    plan: TaskScript
    rules: Rules
    before: TaskState
    after: TaskState
    instant: int
    act: Act | None = None

    def pairs(self) -> Iterator[tuple[int, SubtaskState, SubtaskState]]:
        """Each subtask's position, with what it showed before and after."""
        both = zip(self.before.subtasks, self.after.subtasks, strict=True)
        return ((position, old, new) for position, (old, new) in enumerate(both))


StepInvariant = Callable[[Step], Iterator[str]]
StateInvariant = Callable[[TaskScript, TaskState], Iterator[str]]


# --- tables ---------------------------------------------------------------------------------------

TIME_EDGES: Final = frozenset(
    {
        ("PENDING", "READY"),  # AbstractTaskWorker:59-87
        ("SUCCESSFUL", "READY"),  # its turn in a rollback, AbstractTaskWorker:89-115
        ("READY", "RUNNING"),  # SubtaskAccessor:54-61
        ("RUNNING", "SUCCESSFUL"),  # SubtaskAccessor:68-83
        ("RUNNING", "FAILED"),
        ("RUNNING", "PENDING"),  # the end of a rollback
        ("CANCELING", "READY"),  # in a rollback, AbstractTaskWorker:102-112
        ("CANCELING", "RUNNING"),  # the thread is being interrupted, CancelingSubtaskWorker:58-82
    }
)
OPERATION_EDGES: Final[dict[Act, frozenset[tuple[str, str]]]] = {
    Act("RETRY"): frozenset({("FAILED", "READY")}),
    Act("ROLLBACK"): frozenset({(old, "READY") for old in ("FAILED", "SUCCESSFUL", "RUNNING", "CANCELING")}),
    Act("RETRY", 0): frozenset({("FAILED", "READY")}),
    Act("SKIP", 0): frozenset({("FAILED", "READY")}),
    Act("CANCEL", 0): frozenset({("RUNNING", "CANCELING")}),
}
"""By operation; position 0 stands for any subtask."""

TASK_TIME_EDGES: Final = frozenset({("RUNNING", "SUCCESSFUL"), ("RUNNING", "FAILED"), ("FAILED", "ABORTED")})
TASK_OPERATION_EDGES: Final = frozenset({("FAILED", "RUNNING")})

TASK_OPERATIONS: Final[tuple[Operation, ...]] = ("RETRY", "ROLLBACK")
SUBTASK_OPERATIONS: Final[tuple[Operation, ...]] = ("RETRY", "SKIP", "CANCEL")

FORWARD: Final = frozenset({"EXECUTE", "RETRY"})
BACKWARD: Final = frozenset({"ROLLBACK", "ROLLBACK_SKIP"})


# --- what must be shown ---------------------------------------------------------------------------


def upstreams(plan: TaskScript, position: int) -> tuple[int, ...]:
    """The positions that must be SUCCESSFUL before this one may become READY."""
    return plan.subtasks[position].needs


def downstreams(plan: TaskScript, position: int) -> tuple[int, ...]:
    """The positions that must be PENDING before this one may be rolled back."""
    return tuple(i for i, subtask in enumerate(plan.subtasks) if position in subtask.needs)


def statuses(state: TaskState) -> Counter[str]:
    """How many subtasks show each status."""
    return Counter(subtask.status for subtask in state.subtasks)


def run_limit(plan: SubtaskScript, rules: Rules = Rules()) -> int:
    """The longest a run may last; timeout 0 leaves only the watchdog.

    It looks once a tick, from the tick at which the run started, for one that lasts 11 s or more.
    """
    ticks = (11 * SECOND + rules.tick - 1) // rules.tick
    return plan.timeout * SECOND or ticks * rules.tick


def rollback_is_prohibited(plan: TaskScript, state: TaskState) -> bool:
    """The template says so, or a subtask that has begun does (TaskInstanceManagerImpl:160-174)."""
    begun = (
        subtask.prohibits_rollback
        for subtask, shown in zip(plan.subtasks, state.subtasks, strict=True)
        if shown.status not in {"PENDING", "READY"}
    )
    return plan.prohibits_rollback or any(begun)


def every_act(plan: TaskScript) -> tuple[Act, ...]:
    """Every operation the API has a route for, on the task and on each subtask."""
    on_task = (Act(operation) for operation in TASK_OPERATIONS)
    on_subtasks = (
        Act(operation, position) for position in range(len(plan.subtasks)) for operation in SUBTASK_OPERATIONS
    )
    return (*on_task, *on_subtasks)


def answer_to(act: Act, plan: TaskScript, rules: Rules, state: TaskState) -> Answer:
    """Whether the state allows it (TaskInstanceManagerImpl:59-117, SubtaskInstanceManagerImpl).

    An abandoned task takes no further operation (4.2.2's user guide).
    """
    if state.status == "ABORTED":
        return "ILLEGAL"
    if act.subtask is None:
        return _answer_for_task(act.operation, plan, rules, state)
    return _answer_for_subtask(act.operation, state.subtasks[act.subtask])


def _answer_for_task(operation: Operation, plan: TaskScript, rules: Rules, state: TaskState) -> Answer:
    if state.status != "FAILED":
        return "ILLEGAL"
    if operation == "ROLLBACK":
        return "PROHIBITED" if rollback_is_prohibited(plan, state) else "ACCEPTED"
    can_retry = state.operation != "ROLLBACK" or rules.retry_after_failed_rollback
    return "ACCEPTED" if can_retry else "ILLEGAL"


def _answer_for_subtask(operation: Operation, subtask: SubtaskState) -> Answer:
    is_allowed = {
        "RETRY": subtask.status == "FAILED" and subtask.operation != "ROLLBACK",
        "SKIP": subtask.status == "FAILED",
        "CANCEL": subtask.status == "RUNNING",
    }[operation]
    return "ACCEPTED" if is_allowed else "ILLEGAL"


def after_operation(act: Act, plan: TaskScript, rules: Rules, state: TaskState) -> TaskState:
    """What the response to an accepted operation shows, from the state just before it."""
    if act.subtask is None:
        result = (_after_task_retry if act.operation == "RETRY" else _after_rollback)(plan, state)
    else:
        result = _after_subtask_operation(act.operation, act.subtask, rules, state)
    return replace(result, prohibit_rollback=rollback_is_prohibited(plan, result))


def _after_task_retry(_plan: TaskScript, state: TaskState) -> TaskState:
    retried = (
        subtask._replace(status="READY", operation="RETRY", run_time=subtask.run_time + 1)
        if subtask.status == "FAILED"
        else subtask
        for subtask in state.subtasks
    )
    return replace(state, status="RUNNING", operation="RETRY", subtasks=Parts(retried))


def _after_rollback(plan: TaskScript, state: TaskState) -> TaskState:
    def turned(position: int, subtask: SubtaskState) -> SubtaskState:
        if subtask.status == "PENDING":
            return subtask
        below = [state.subtasks[i].status for i in downstreams(plan, position)]
        is_next = all(status == "PENDING" for status in below)
        return subtask._replace(operation="ROLLBACK", status="READY" if is_next else subtask.status)

    subtasks = Parts(turned(i, subtask) for i, subtask in enumerate(state.subtasks))
    return replace(state, status="RUNNING", operation="ROLLBACK", subtasks=subtasks)


def _after_subtask_operation(operation: Operation, position: int, rules: Rules, state: TaskState) -> TaskState:
    old = state.subtasks[position]
    new = old
    if operation == "RETRY":
        run_time = old.run_time + rules.subtask_retry_counts
        new = old._replace(status="READY", operation="RETRY", run_time=run_time)
    if operation == "SKIP":
        is_rollback = state.operation == "ROLLBACK"
        new = old._replace(status="READY", operation="ROLLBACK_SKIP" if is_rollback else "SKIP")
    if operation == "CANCEL":
        new = old._replace(status="CANCELING")
    subtasks = Parts(new if place == position else item for place, item in enumerate(state.subtasks))
    status = state.status if operation == "CANCEL" else "RUNNING"
    return replace(state, status=status, subtasks=subtasks)


def shown(state: TaskState) -> TaskState:
    """Only what a client can see: not since when, not the logs, not what is still to come."""
    subtasks = (subtask._replace(runs=(), due=None, will_end="SUCCESSFUL") for subtask in state.subtasks)
    return replace(state, at=0, subtasks=Parts(subtasks))


def content(state: TaskState) -> TaskState:
    """Everything in a state but the instant since when."""
    return replace(state, at=0)


def is_task_tick(rules: Rules, instant: int) -> bool:
    """Whether the task scheduler looks at its tasks now."""
    return instant >= rules.phase and (instant - rules.phase) % rules.tick == 0


def is_subtask_tick(rules: Rules, instant: int) -> bool:
    """Whether the subtask scheduler does: half a period later."""
    return (instant - rules.phase - rules.tick // 2) % rules.tick == 0


def verdict_on(state: TaskState) -> str:
    """The status a RUNNING task takes at the task scheduler's tick (RunningTaskWorker:105-176).

    Neither CANCELING nor READY counts as running.
    """
    count, total = statuses(state), len(state.subtasks)
    finished = "PENDING" if state.operation == "ROLLBACK" else "SUCCESSFUL"
    if count["FAILED"] and not count["RUNNING"]:
        return "FAILED"
    return "SUCCESSFUL" if count[finished] == total else "RUNNING"


def at_birth(plan: TaskScript) -> TaskState:
    """A submitted task: RUNNING at once, as many roots READY as may be (ReadyTaskWorker:176-219).

    ``initSubtaskState`` there counts to the concurrency, if one was set, and takes the subtasks as they come.
    """
    roots = [i for i, subtask in enumerate(plan.subtasks) if not subtask.needs]
    ready = set(roots[: plan.concurrency])
    return TaskState(
        at=0,
        status="RUNNING",
        operation="EXECUTE",
        start_time=0,
        finish_time=None,
        prohibit_rollback=plan.prohibits_rollback,
        subtasks=Parts(SubtaskState(status="READY" if i in ready else "PENDING") for i in range(len(plan.subtasks))),
    )


def runs_until_success(plan: SubtaskScript) -> int:
    """How many runs a subtask needs whose attempts are made one after another.

    A run that takes exactly its limit is in time; no text says so.
    """
    limit = run_limit(plan)
    fits = [
        attempt.ends == "SUCCESSFUL" and attempt.takes is not None and attempt.takes <= limit
        for attempt in plan.attempts
    ]
    return fits.index(True) + 1


def passed_through(old: SubtaskState, new: SubtaskState) -> list[tuple[str, str]]:
    """The edges between two states; a run that began or ended in between puts its own in.

    Needed because several edges can share an instant: a run that takes nothing, or one that ends
    at the very tick that sends the subtask on.
    """
    path: list[str] = [old.status]
    if len(new.runs) > len(old.runs):
        path.append("RUNNING")
    ended = [run.ends for run in ended_runs(old, new) if run.ends is not None]
    path = [*path, *ended, new.status]
    return [(a, b) for a, b in pairwise(path) if a != b]


def ended_runs(old: SubtaskState, new: SubtaskState) -> list[Run]:
    """The runs that ended between two states."""
    return [run for run in new.runs[len(old.runs) - _is_open(old) :] if run.ended is not None]


def _is_open(subtask: SubtaskState) -> bool:
    return bool(subtask.runs) and subtask.runs[-1].ended is None


# --- invariants of a step: statuses ---------------------------------------------------------------


def subtask_edges_are_legal(step: Step) -> Iterator[str]:
    """Every edge a subtask takes is in the table, under the event that may cause it."""
    for position, old, new in step.pairs():
        if step.act is None:
            edges, legal = passed_through(old, new), TIME_EDGES
        else:
            edges = [(old.status, new.status)] if old.status != new.status else []
            legal = OPERATION_EDGES[Act(step.act.operation, None if step.act.subtask is None else 0)]
        illegal = set(edges) - legal
        yield from (f"subtask {position} went {a}->{b} by {step.act}" for a, b in illegal)


def task_edges_are_legal(step: Step) -> Iterator[str]:
    """Every change of the task's status is in the table, under the event that may cause it."""
    edge = (step.before.status, step.after.status)
    legal = TASK_TIME_EDGES if step.act is None else TASK_OPERATION_EDGES
    if edge[0] != edge[1] and edge not in legal:
        yield f"the task went {edge[0]}->{edge[1]} by {step.act}"


def an_operation_touches_only_its_subtask(step: Step) -> Iterator[str]:
    """An operation on one subtask leaves the others as they were."""
    for position, old, new in step.pairs():
        if step.act is not None and step.act.subtask not in {None, position} and old != new:
            yield f"{step.act} changed subtask {position}"


def an_operation_shows_what_the_table_says(step: Step) -> Iterator[str]:
    """The whole state after an operation is the table's."""
    if step.act is not None:
        expected = after_operation(step.act, step.plan, step.rules, step.before)
        if shown(step.after) != shown(expected):
            yield f"after {step.act}: {shown(step.after)}, not {shown(expected)}"


def a_final_status_stays(step: Step) -> Iterator[str]:
    """SUCCESSFUL and ABORTED tasks keep everything; FAILED ones their status, but for operations.

    A FAILED task may still have runs under way (a subtask retried beside a failed one), so only
    its own fields are frozen; time may make it ABORTED.
    """
    old, new = step.before, step.after
    if old.status == "SUCCESSFUL":
        yield f"a SUCCESSFUL task changed at {step.instant}"
    if old.status == "ABORTED" and (old.status, old.operation) != (new.status, new.operation):
        yield f"an ABORTED task changed at {step.instant}"
    if old.status == "FAILED" and step.act is None:
        if new.status not in {"FAILED", "ABORTED"}:
            yield f"a FAILED task became {new.status} at {step.instant} without an operation"
        if old.operation != new.operation:
            yield f"a FAILED task's operation became {new.operation} without an operation"


def abandoned_after_as_planned(step: Step) -> Iterator[str]:
    """A task left FAILED is ABORTED exactly that long after its verdict, if the plan says so."""
    verdict, patience = step.before.finish_time, step.plan.abandoned_after
    due = None if verdict is None or patience is None else verdict + patience
    is_aborted = step.before.status != step.after.status == "ABORTED"
    if is_aborted and due != step.instant:
        yield f"ABORTED at {step.instant}, due at {due}"
    # an operation at the very instant is too late: it finds the task ABORTED
    is_late = due is not None and due <= step.instant
    if step.before.status == "FAILED" and is_late and not is_aborted:
        yield f"still {step.after.status} at {step.instant}, to be ABORTED at {due}"


def the_verdict_is_the_childrens(step: Step) -> Iterator[str]:
    """Only the task scheduler's tick ends a task, and it says what the children show."""
    if step.act is not None or step.before.status != "RUNNING":
        return
    children = replace(step.after, status="RUNNING")
    if step.after.status != "RUNNING":
        if not is_task_tick(step.rules, step.instant):
            yield f"a verdict at {step.instant}, which is no task tick"
        if step.after.finish_time != step.instant:
            yield f"a verdict at {step.instant} with finishTime {step.after.finish_time}"
    if is_task_tick(step.rules, step.instant) and step.after.status != verdict_on(children):
        yield f"verdict {step.after.status} at {step.instant}, not {verdict_on(children)}"


# --- invariants of a step: order and schedule -----------------------------------------------------


def made_ready(step: Step) -> list[int]:
    """The positions the step made READY."""
    return [
        position for position, old, new in step.pairs() if any(edge[1] == "READY" for edge in passed_through(old, new))
    ]


def readied_only_when_its_turn_has_come(step: Step) -> Iterator[str]:
    """Forward: all upstreams SUCCESSFUL and nothing FAILED. Rolling back: all downstreams PENDING.

    Operations do not ask about the others' failures (the point of a retry is that one has failed),
    but the order of the DAG binds them too.
    """
    state = step.after
    for position in made_ready(step):
        above = {state.subtasks[i].status for i in upstreams(step.plan, position)}
        below = {state.subtasks[i].status for i in downstreams(step.plan, position)}
        if state.subtasks[position].operation in BACKWARD:
            if below - {"PENDING"}:
                yield f"subtask {position} rolls back above {below}"
        elif above - {"SUCCESSFUL"}:
            yield f"subtask {position} became READY below {above}"
        elif step.act is None and statuses(state)["FAILED"]:
            yield f"subtask {position} became READY while another is FAILED"


def scheduled_in_the_tasks_own_direction(step: Step) -> Iterator[str]:
    """The scheduler takes a subtask backward in a RUNNING/ROLLBACK task, else forward."""
    for position in made_ready(step) if step.act is None else []:
        if step.after.status != "RUNNING":
            yield f"subtask {position} became READY in a {step.after.status} task"
        is_back = step.after.subtasks[position].operation == "ROLLBACK"
        if is_back != (step.after.operation == "ROLLBACK"):
            operation = step.after.subtasks[position].operation
            yield f"subtask {position} became READY/{operation} in a {step.after.operation}"
        if not is_task_tick(step.rules, step.instant):
            yield f"subtask {position} became READY at {step.instant}, no task tick"


def scheduled_within_the_limit(step: Step) -> Iterator[str]:
    """What the scheduler makes READY keeps READY + RUNNING within ``concurrency``.

    An operation may exceed it: retry and rollback make every subtask they find READY at once, and
    ask nobody; the scheduler then adds none until there is room.
    """
    count = statuses(step.after)
    if step.act is None and made_ready(step):
        active = count["READY"] + count["RUNNING"]
        if active > (step.plan.concurrency or 10):
            yield f"{active} READY or RUNNING, at most {step.plan.concurrency or 10} allowed"


def started_by_the_subtask_scheduler(step: Step) -> Iterator[str]:
    """Its tick, and only that, starts READY subtasks and interrupts CANCELING ones: all of them."""
    for position, old, new in step.pairs() if step.act is None else []:
        has_begun = old.status in {"READY", "CANCELING"} and new.status not in {old.status, "READY"}
        if has_begun and not is_subtask_tick(step.rules, step.instant):
            yield f"subtask {position} left {old.status} at {step.instant}, no subtask tick"


def nothing_is_left_waiting(step: Step, since: Step | None) -> Iterator[str]:
    """No state outlives a tick at which it should have changed.

    ``step`` ends the state that ``since`` led to (None: the state at birth). A tick at the very
    instant of an operation has passed before it.
    """
    state, first = step.before, step.before.at
    if since is None or since.act is not None:
        first += 1
    if _has_tick_between(step.rules, first, step.instant, late=0):
        yield from _left_unready(step.plan, state)
        if state.status == "RUNNING" != verdict_on(state):
            yield f"the task was left RUNNING from {state.at}, its verdict is {verdict_on(state)}"
    if _has_tick_between(step.rules, first, step.instant, late=step.rules.tick // 2):
        for position, subtask in enumerate(state.subtasks):
            if subtask.status in {"READY", "CANCELING"}:
                yield f"subtask {position} was left {subtask.status} from {state.at}"


def _has_tick_between(rules: Rules, first: int, end: int, *, late: int) -> bool:
    origin = rules.phase + late
    start = max(first, origin)
    return start + (origin - start) % rules.tick < end


def _left_unready(plan: TaskScript, state: TaskState) -> Iterator[str]:
    """Subtasks whose turn has come and for whom there is room (AbstractTaskWorker:59-115)."""
    count = statuses(state)
    has_room = count["READY"] + count["RUNNING"] < (plan.concurrency or 10)
    if state.status != "RUNNING" or count["FAILED"] or not has_room:
        return
    is_rollback = state.operation == "ROLLBACK"
    waiting, wanted = ({"SUCCESSFUL", "CANCELING"}, "PENDING") if is_rollback else ({"PENDING"}, "SUCCESSFUL")
    for position, subtask in enumerate(state.subtasks):
        before = (downstreams if is_rollback else upstreams)(plan, position)
        has_turn = all(state.subtasks[i].status == wanted for i in before)
        if subtask.status in waiting and has_turn:
            yield f"subtask {position} was left {subtask.status} from {state.at}"


# --- invariants of a step: counters, times, runs --------------------------------------------------


def run_time_counts_retries(step: Step) -> Iterator[str]:
    """+1 by a task's retry for its FAILED subtasks; by a subtask's own only under the switch."""
    for position, old, new in step.pairs():
        counts = {Act("RETRY"): old.status == "FAILED", Act("RETRY", position): step.rules.subtask_retry_counts}
        is_counted = step.act is not None and counts.get(step.act, False)
        if new.run_time != old.run_time + is_counted:
            yield f"subtask {position}: runTime {old.run_time}->{new.run_time} by {step.act}"


def times_are_kept(step: Step) -> Iterator[str]:
    """The first startTime is for ever; finishTime changes only by a start (gone) or an end (now).

    So a subtask that waits to be retried still shows when it last ended (SubtaskAccessor:54-83).
    """
    for position, old, new in step.pairs():
        edges = set(passed_through(old, new)) if step.act is None else set()
        has_started = ("READY", "RUNNING") in edges
        has_ended = any(a == "RUNNING" for a, _ in edges)
        start = step.instant if has_started and old.start_time is None else old.start_time
        if new.start_time != start:
            yield f"subtask {position}: startTime {old.start_time}->{new.start_time}"
        finish = None if has_started else old.finish_time
        finish = step.instant if has_ended else finish
        if new.finish_time != finish:
            yield f"subtask {position}: finishTime {new.finish_time}, not {finish}"


def task_times_are_kept(step: Step) -> Iterator[str]:
    """startTime is the birth; only a verdict changes finishTime, so a retried task keeps its old.

    What an abandoned task shows as finishTime no text says.
    """
    has_verdict = (step.before.status, step.after.status) in TASK_TIME_EDGES
    if step.after.start_time != 0:
        yield f"the task's startTime became {step.after.start_time}"
    if not has_verdict and step.after.finish_time != step.before.finish_time:
        yield f"the task's finishTime became {step.after.finish_time} by {step.act}"


def operations_are_kept(step: Step) -> Iterator[str]:
    """Time changes a subtask's operation at two places only.

    Its turn in a plan (READY: the task's direction) and the interruption of a cancelled run.
    """
    for position, old, new in step.pairs() if step.act is None else []:
        edges = passed_through(old, new)
        expected = "CANCEL" if ("CANCELING", "RUNNING") in edges else old.operation
        if new.operation != expected and position not in made_ready(step):
            yield f"subtask {position}: operation {old.operation}->{new.operation}"


def runs_only_grow_by_starting(step: Step) -> Iterator[str]:
    """A start adds one run, an end closes it, and a run that has ended stays as it is."""
    for position, old, new in step.pairs():
        edges = passed_through(old, new)
        started = step.act is None and ("READY", "RUNNING") in edges
        closed = [run for run in old.runs if run.ended is not None]
        if list(new.runs[: len(closed)]) != closed:
            yield f"subtask {position}: a run that had ended changed"
        if len(new.runs) != len(old.runs) + started:
            yield f"subtask {position}: {len(old.runs)}->{len(new.runs)} runs by {step.act}"
        if started and new.runs[-1].started != step.instant:
            yield f"subtask {position}: started at {step.instant}, run says {new.runs[-1].started}"


# --- invariants of a state ------------------------------------------------------------------------


def the_parent_agrees_with_its_children(plan: TaskScript, state: TaskState) -> Iterator[str]:
    """SUCCESSFUL: all done (all undone after a rollback). FAILED or ABORTED: a child is FAILED."""
    del plan
    count, total = statuses(state), len(state.subtasks)
    if state.status == "SUCCESSFUL":
        finished = "PENDING" if state.operation == "ROLLBACK" else "SUCCESSFUL"
        if count[finished] != total:
            yield f"SUCCESSFUL/{state.operation} over {dict(count)}"
    if state.status in {"FAILED", "ABORTED"} and not count["FAILED"]:
        yield f"{state.status} over {dict(count)}"


def nothing_has_begun_before_its_upstreams(plan: TaskScript, state: TaskState) -> Iterator[str]:
    """Whoever is not PENDING stands on upstreams that are all SUCCESSFUL, in both directions."""
    for position, subtask in enumerate(state.subtasks):
        above = {state.subtasks[i].status for i in upstreams(plan, position)}
        if subtask.status != "PENDING" and above - {"SUCCESSFUL"}:
            yield f"subtask {position} is {subtask.status} below {above}"


def rollback_is_prohibited_as_computed(plan: TaskScript, state: TaskState) -> Iterator[str]:
    """prohibitRollback is the formula's."""
    if state.prohibit_rollback != rollback_is_prohibited(plan, state):
        yield f"prohibitRollback {state.prohibit_rollback}"


def times_fit_the_status(plan: TaskScript, state: TaskState) -> Iterator[str]:
    """Running: started, not finished. Ended: both, in order. Never finished without a start."""
    del plan
    for position, subtask in enumerate(state.subtasks):
        start, finish = subtask.start_time, subtask.finish_time
        if subtask.status in {"RUNNING", "CANCELING"} and (start is None or finish is not None):
            yield f"subtask {position} {subtask.status} with times {start}, {finish}"
        if subtask.status in {"SUCCESSFUL", "FAILED"} and (start is None or finish is None):
            yield f"subtask {position} {subtask.status} with times {start}, {finish}"
        if finish is not None and (start is None or finish < start):
            yield f"subtask {position} finished at {finish}, started at {start}"
    if state.finish_time is not None and state.finish_time < state.start_time:
        yield f"the task finished at {state.finish_time}, started at {state.start_time}"
    if state.status != "RUNNING" and state.finish_time is None:
        yield f"the task is {state.status} without finishTime"


def an_open_run_is_a_running_subtask(plan: TaskScript, state: TaskState) -> Iterator[str]:
    """The last run is open exactly while the subtask runs; ``due`` then says when it will end."""
    del plan
    for position, subtask in enumerate(state.subtasks):
        is_running = subtask.status in {"RUNNING", "CANCELING"}
        if _is_open(subtask) != is_running or any(run.ended is None for run in subtask.runs[:-1]):
            yield f"subtask {position} {subtask.status} with runs {subtask.runs}"
        if subtask.due is not None and not is_running:
            yield f"subtask {position} {subtask.status} is due at {subtask.due}"


def no_run_outlives_its_limit(step: Step) -> Iterator[str]:
    """A run ends by its timeout; a cancelled one may wait for a tick and its interruption more."""
    for position, old, new in step.pairs():
        for run in ended_runs(old, new):
            is_cancelled = old.status == "CANCELING" or "CANCEL" in {old.operation, new.operation}
            grace = step.rules.tick + NO_OP_TAKES if is_cancelled else 0
            limit = run_limit(step.plan.subtasks[position], step.rules) + grace
            if step.instant - run.started > limit:
                yield f"subtask {position} ran {step.instant - run.started}, limit {limit}"


def runs_follow_their_script(step: Step) -> Iterator[str]:
    """A run that nobody disturbs takes as long as its attempt says and ends as it says.

    Its n-th forward run is a subtask's n-th attempt, its n-th rollback run its n-th rollback; a
    state foretells the end of the run under way.
    """
    for position, old, new in step.pairs() if step.act is None else []:
        for run in ended_runs(old, new):
            is_cancelled = new.operation == "CANCEL"
            expected: set[tuple[str | None, int]]
            expected = {("FAILED", step.instant)} if is_cancelled else ends_of(step, position, run)
            if (old.status, new.status) == ("CANCELING", "READY"):
                expected = {(None, step.instant)}
            if (run.ends, run.ended) not in expected:
                yield f"subtask {position}: {run}, not {expected}"
            if old.status == "RUNNING" and old.due != step.instant:
                yield f"subtask {position} ended at {step.instant}, was due at {old.due}"
            if old.status == "RUNNING" and (old.will_end == "FAILED") != (run.ends == "FAILED"):
                yield f"subtask {position} was to end {old.will_end}, ended {run.ends}"


def ends_of(step: Step, position: int, run: Run) -> set[tuple[str | None, int]]:
    """How and when a run of the subtask may end.

    Two answers only where it takes exactly as long as it may: no text says which comes first.
    """
    plan = step.plan.subtasks[position]
    script, limit = _script_of(plan, step.after.subtasks[position], run), run_limit(plan, step.rules)
    good = "PENDING" if run.operation in BACKWARD else "SUCCESSFUL"
    in_time = good if script.ends == "SUCCESSFUL" else "FAILED"
    cut: tuple[str | None, int] = ("FAILED", run.started + limit)
    if script.takes is None or script.takes > limit:
        return {cut}
    return {(in_time, run.started + script.takes)} | ({cut} if script.takes == limit else set())


def _script_of(plan: SubtaskScript, subtask: SubtaskState, run: Run) -> RunScript:
    if run.operation in {"SKIP", "ROLLBACK_SKIP"}:
        return RunScript(takes=NO_OP_TAKES)
    is_rollback = run.operation == "ROLLBACK"
    script = plan.rollbacks if is_rollback else plan.attempts
    kinds = {"ROLLBACK"} if is_rollback else FORWARD
    earlier = subtask.runs[: subtask.runs.index(run)]
    place = sum(each.operation in kinds for each in earlier)
    return script[min(place, len(script) - 1)]
