"""The life of an obshell dag: a pure machine over integer time.

A dag is a row of nodes, run strictly one at a time; a node has one sub task per agent. Every
decision is made on the scheduler's tick, once a second; only a sub task's own run takes its own
time in between. One stage costs two ticks: on one the node starts and its sub tasks with it, on the
first one after they all ended the node ends and the stage moves, and the next node starts one tick
later. The *plan* says what each run of each sub task does; the *life* is every state the dag passes
through from here, worked out when it is born and again at every operator.

Facts: github.com/oceanbase/obshell at 61ee147 (ob/agent/engine/scheduler, ob/agent/service/task),
and recordings of a running obshell 4.5.0.0 (tests/data/obshell), which outrank it. States and
operators are the API's own words. Instants are nanoseconds since the dag's birth; None stands for
the Unix epoch, to which the server resets times (service/task/dag.go:29). The one rule: this file
reads no clock and does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Final, Literal

from oceanmock.engine import history as timeline
from oceanmock.errors import IllegalOperator

State = Literal["PENDING", "READY", "RUNNING", "FAILED", "SUCCEED"]
Operator = Literal["RUN", "RETRY", "ROLLBACK", "CANCEL", "PASS"]
Outcome = Literal["SUCCEED", "FAILED"]
Flag = Literal["cancel", "continue", "pass", "retry", "rollback"]

SECOND: Final = 1_000_000_000
LAG: Final = 200_000
"""How long after the tick that decides it the next thing is written down: dag, then node, then sub
task. The recordings show 0.2 to 3 ms; only the order matters."""
CANCELLED: Final = "sub task cancelled"
TIMED_OUT: Final = "sub task timeout"


# --- what a dag is going to do --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a sub task: how long it takes (None: for ever), how it ends, what it logs.

    ``log`` falls evenly over its time; ``last_words``, if any, are its last line, logged at its end
    unless a timeout or a cancel ends it: a failed run's "ERROR: [code]: message".
    """

    takes: int | None
    ends: Outcome = "SUCCEED"
    log: tuple[str, ...] = ()
    last_words: str | None = None


@dataclass(frozen=True, slots=True)
class SubTaskScript:
    """What each forward run and each rollback run does; the last of each repeats."""

    attempts: tuple[Attempt, ...]
    rollbacks: tuple[Attempt, ...] = (Attempt(takes=1_000_000),)


@dataclass(frozen=True, slots=True)
class NodeScript:
    """A stage: its sub tasks, one per agent, and what may be done to it.

    The server keeps the flags per sub task and asks for all of them (engine/task/node.go:105-148);
    here they are the node's. `continue` only matters to a restarted agent, which no scenario has.
    """

    sub_tasks: tuple[SubTaskScript, ...]
    can: frozenset[Flag] = frozenset()
    timeout: int = 3600 * SECOND


@dataclass(frozen=True, slots=True)
class DagScript:
    """A dag's nodes, in the order of their stages.

    A maintenance dag that failed stays unfinished (service/task/dag.go:565-585).
    """

    nodes: tuple[NodeScript, ...]
    is_maintenance: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """The scheduler's tick: its period, and the instant of the first one (at or before birth).

    ``cancels_at_stage`` is what the server does not do: let CANCEL mark the node that runs even
    while a rollback runs, so that the rollback can be taken up again.
    """

    tick: int = SECOND
    phase: int = 0
    cancels_at_stage: bool = False


# --- what a dag looks like ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a sub task; ``ended`` is None while it lasts, ``last_words`` come at its end.

    ``takes`` is how long its script meant it to take, the pace of its log lines; one that hangs
    writes them right after one another.
    """

    operator: Operator
    started: int
    takes: int
    log: tuple[str, ...] = ()
    ended: int | None = None
    last_words: str | None = None


@dataclass(frozen=True, slots=True)
class SubTaskState:
    """What a sub task shows. ``due`` and ``will_end`` belong to the run under way."""

    state: State
    operator: Operator
    start_time: int | None
    end_time: int | None
    execute_times: int = 0
    runs: tuple[Run, ...] = ()
    due: int | None = None
    will_end: Outcome = "SUCCEED"


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a node shows."""

    state: State
    operator: Operator
    start_time: int | None
    end_time: int | None
    sub_tasks: tuple[SubTaskState, ...]


@dataclass(frozen=True, slots=True)
class DagState:
    """What a dag shows from instant ``at`` on. ``stage`` counts from 1."""

    at: int
    state: State
    operator: Operator
    stage: int
    start_time: int | None
    end_time: int | None
    is_finished: bool
    nodes: tuple[NodeState, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a sub task's log: which of its runs wrote it, when, and what."""

    execute_times: int
    at: int
    text: str


@dataclass(frozen=True, slots=True)
class History:
    """A dag from here on: its plan, and every state it passes through, in order."""

    plan: DagScript
    rules: Rules
    states: tuple[DagState, ...]


# --- reading a life -------------------------------------------------------------------------------


def start(plan: DagScript, rules: Rules = Rules()) -> History:
    """The life of a dag born at instant 0: READY, its nodes and sub tasks PENDING.

    Start and end times are those of its creation (service/task/dag.go:269-280).
    """
    return _begin(plan, rules)


def view_at(life: History, instant: int) -> DagState:
    """What the dag shows at ``instant``; before its birth, what it shows at birth."""
    return timeline.state_at(life.states, instant)


def next_due(life: History, instant: int) -> int | None:
    """The first instant after ``instant`` at which something changes, or None."""
    return timeline.next_change(life.states, instant)


def task_logs_at(sub_task: SubTaskState, instant: int) -> tuple[str, ...] | None:
    """The lines of all its runs so far; None for one that is neither running nor ended.

    (executor/task/sub_task.go:115-121, service/task/sub_task_log.go:86-93.)
    """
    if sub_task.state not in ("RUNNING", "FAILED", "SUCCEED"):
        return None
    return tuple(line.text for line in lines_of(sub_task, instant))


def lines_of(sub_task: SubTaskState, instant: int) -> Iterator[Line]:
    """Every line of all its runs so far, with the run it belongs to (from 1) and its instant."""
    for number, run in enumerate(sub_task.runs, start=1):
        by = instant if run.ended is None else min(instant, run.ended)
        for at, text in timeline.lines_logged(run.log, started=run.started, takes=run.takes, by=by):
            yield Line(number, at, text)
        if run.last_words is not None and run.ended is not None:
            yield Line(number, run.ended, run.last_words)


# --- operators ------------------------------------------------------------------------------------


def operate(life: History, operator: Operator, instant: int, *, node: int | None = None) -> History:
    """The life that follows when an operator reaches the dag, or one node, at ``instant``.

    ``node`` is a position. What was before ``instant`` stays; what was to come is worked out anew.
    Raises IllegalOperator when the dag's state or a flag does not allow it, and then ``life`` is
    still true; ValueError for an operator that there is no such route for.
    """
    routes = tuple(_OPERATORS) if node is None else ("PASS",)
    if operator not in routes:
        kind = "dag" if node is None else "node"
        raise ValueError(f"{operator} is not an operator of a {kind}: {', '.join(routes)}")
    before = view_at(life, instant)
    state = replace(before, at=instant)
    if node is not None:
        after = _pass_node(life.plan, state, node, instant)
    elif operator == "CANCEL" and life.rules.cancels_at_stage:
        after = _cancel_at_stage(life.plan, state)
    else:
        after = _OPERATORS[operator](life.plan, state, instant)
    past = tuple(timeline.until(life.states, instant))
    return replace(life, states=past + tuple(_unfold(life.plan, life.rules, after)))


def _roll_back(plan: DagScript, dag: DagState, instant: int) -> DagState:
    """READY/ROLLBACK; what has run is PENDING/ROLLBACK, from node 1 to the failed one.

    (service/task/dag.go:336-377,422-454.)
    """
    if dag.state != "FAILED":
        raise IllegalOperator("Dag.Operator.RollbackNotFailedDag")
    marked: list[int] = []
    for position, node in enumerate(dag.nodes):
        if node.state == "PENDING" and node.operator != "ROLLBACK":
            break
        if "rollback" not in plan.nodes[position].can:
            raise IllegalOperator("Dag.Operator.RollbackNotAllowed", node=position)
        marked.append(position)
        if node.state == "FAILED":
            break
    if not marked:
        raise IllegalOperator("NoNodeFailed")
    nodes = tuple(
        _reset(node, "ROLLBACK") if position in marked else node
        for position, node in enumerate(dag.nodes)
    )
    return _restarted(dag, "ROLLBACK", nodes)


def _retry(plan: DagScript, dag: DagState, instant: int) -> DagState:
    """READY/RUN, never RETRY; the node at the stage is PENDING/RETRY (dag.go:456-481)."""
    if dag.state != "FAILED":
        raise IllegalOperator("Dag.Operator.RetryNotFailedDag")
    position = dag.stage - 1
    if "retry" not in plan.nodes[position].can:
        raise IllegalOperator("Dag.Operator.RetryNotAllowed", node=position)
    return _restarted(dag, "RUN", _put(dag.nodes, position, _reset(dag.nodes[position], "RETRY")))


def _cancel(plan: DagScript, dag: DagState, instant: int) -> DagState:
    """READY/CANCEL; the first unfinished node *in stage order* is PENDING/CANCEL.

    While a rollback runs that is node 1, not the node that runs (dag.go:352-377): from then on the
    stage counts up again, and the rollback can never be taken up. Where all are finished it is the
    last one, SUCCEED or not.
    """
    if dag.state in ("FAILED", "SUCCEED"):
        raise IllegalOperator("Dag.Operator.CancelFinishedDag")
    position = 0
    for position, node in enumerate(dag.nodes):
        _check_cancel(plan, position)
        if node.state not in ("FAILED", "SUCCEED"):
            break
    return _cancelled_at(dag, position)


def _cancel_at_stage(plan: DagScript, dag: DagState) -> DagState:
    """READY/CANCEL; the node at the stage is PENDING/CANCEL, whichever way the stages count."""
    if dag.state in ("FAILED", "SUCCEED"):
        raise IllegalOperator("Dag.Operator.CancelFinishedDag")
    for position in range(dag.stage):
        _check_cancel(plan, position)
    return _cancelled_at(dag, dag.stage - 1)


def _check_cancel(plan: DagScript, position: int) -> None:
    if "cancel" not in plan.nodes[position].can:
        raise IllegalOperator("Dag.Operator.CancelNotAllowed", node=position)


def _cancelled_at(dag: DagState, position: int) -> DagState:
    cancelled = _reset(dag.nodes[position], "CANCEL")
    return _restarted(dag, "CANCEL", _put(dag.nodes, position, cancelled))


def _pass_dag(plan: DagScript, dag: DagState, instant: int) -> DagState:
    """SUCCEED/PASS at once: the dag, the failed node and all after it (dag.go:499-532)."""
    if dag.state != "FAILED":
        raise IllegalOperator("Dag.Operator.PassNotFailedDag")
    for position, node in enumerate(dag.nodes):
        if node.state != "SUCCEED" and "pass" not in plan.nodes[position].can:
            raise IllegalOperator("Dag.Operator.PassNotAllowed", node=position)
    failed = [node.state for node in dag.nodes].index("FAILED")
    end = _after_starts(instant, dag.nodes[failed])
    nodes = tuple(
        _passed(node, end) if position >= failed else node
        for position, node in enumerate(dag.nodes)
    )
    return replace(
        dag, state="SUCCEED", operator="PASS", end_time=end, is_finished=True, nodes=nodes
    )


def _pass_node(plan: DagScript, dag: DagState, position: int, instant: int) -> DagState:
    """The failed node is SUCCEED/PASS at once, and the dag READY/RUN (node.go:116-166)."""
    if dag.state != "FAILED":
        raise IllegalOperator("Node.Operator.PassNotFailedDag")
    node = dag.nodes[position]
    if node.state != "FAILED":
        raise IllegalOperator("Node.Operator.PassNotFailedNode", node=position)
    if "pass" not in plan.nodes[position].can:
        raise IllegalOperator("Node.Operator.PassNotAllowed", node=position)
    passed = _passed(node, _after_starts(instant, node))
    return _restarted(dag, "RUN", _put(dag.nodes, position, passed))


_OPERATORS: Final[dict[Operator, Callable[[DagScript, DagState, int], DagState]]] = {
    "ROLLBACK": _roll_back,
    "RETRY": _retry,
    "CANCEL": _cancel,
    "PASS": _pass_dag,
}


def _restarted(dag: DagState, operator: Operator, nodes: tuple[NodeState, ...]) -> DagState:
    return replace(
        dag,
        state="READY",
        operator=operator,
        start_time=None,
        end_time=None,
        is_finished=False,
        nodes=nodes,
    )


def _reset(node: NodeState, operator: Operator) -> NodeState:
    return replace(node, state="PENDING", operator=operator, start_time=None, end_time=None)


def _after_starts(instant: int, node: NodeState) -> int:
    """The instant, or what is written down just after it when a tick has just started the node."""
    starts = [node.start_time, *(each.start_time for each in node.sub_tasks)]
    return max([instant, *(start for start in starts if start is not None)])


def _passed(node: NodeState, instant: int) -> NodeState:
    sub_tasks = tuple(
        each
        if each.state == "SUCCEED"
        else replace(each, state="SUCCEED", operator="PASS", end_time=instant, due=None)
        for each in node.sub_tasks
    )
    return replace(node, state="SUCCEED", operator="PASS", end_time=instant, sub_tasks=sub_tasks)


# --- what time does -------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _begin(plan: DagScript, rules: Rules) -> History:
    written = count(LAG, LAG)  # each with a creation time of its own
    nodes = tuple(_created(node, written) for node in plan.nodes)
    born = DagState(0, "READY", "RUN", 1, 0, 0, is_finished=False, nodes=nodes)
    return History(plan, rules, tuple(_unfold(plan, rules, born)))


def _created(plan: NodeScript, written: Iterator[int]) -> NodeState:
    at = next(written)
    sub_tasks = tuple(
        SubTaskState("PENDING", "RUN", moment, moment)
        for _, moment in zip(plan.sub_tasks, written, strict=False)
    )
    return NodeState("PENDING", "RUN", at, at, sub_tasks)


def _unfold(plan: DagScript, rules: Rules, dag: DagState) -> Iterator[DagState]:
    """Every state from this one on, until nothing is due any more."""
    while (instant := _next_instant(plan, rules, dag)) is not None:
        if instant > dag.at:
            yield dag
        dag = _end_runs(replace(dag, at=instant), instant)
        if (instant - rules.phase) % rules.tick == 0:
            dag = _tick(plan, dag, instant)
    yield dag


def _next_instant(plan: DagScript, rules: Rules, dag: DagState) -> int | None:
    """When something happens next if nobody interferes; ticks that only wait are not visited."""
    due = [each.due for node in dag.nodes for each in node.sub_tasks if each.due is not None]
    tick = timeline.next_tick(dag.at, rules.tick, rules.phase)
    if _tick(plan, dag, tick) is not dag:
        due.append(tick)
    return min(due, default=None)


def _end_runs(dag: DagState, instant: int) -> DagState:
    nodes = tuple(
        node
        if all(each.due != instant for each in node.sub_tasks)
        else replace(
            node,
            sub_tasks=tuple(
                _end_run(each, instant) if each.due == instant else each for each in node.sub_tasks
            ),
        )
        for node in dag.nodes
    )
    return replace(dag, nodes=nodes)


def _end_run(
    sub_task: SubTaskState, instant: int, *, last_words: str | None = None
) -> SubTaskState:
    ended = replace(sub_task.runs[-1], ended=instant)
    if last_words is not None:
        ended = replace(ended, last_words=last_words)
    return replace(
        sub_task,
        state="FAILED" if last_words is not None else sub_task.will_end,
        end_time=instant,
        runs=(*sub_task.runs[:-1], ended),
        due=None,
    )


def _tick(plan: DagScript, dag: DagState, instant: int) -> DagState:
    """What the scheduler does to a dag on one tick; the same object when it does nothing.

    (engine/scheduler/dag_handler.go:24-74.)
    """
    if dag.state in ("FAILED", "SUCCEED"):
        return dag
    starts_now = dag.state == "READY"
    if starts_now:
        dag = replace(dag, state="RUNNING", start_time=instant)
    position = dag.stage - 1
    node = _drive(plan.nodes[position], dag.nodes[position], instant)
    if node is not dag.nodes[position]:
        dag = replace(dag, nodes=_put(dag.nodes, position, node))
    # The server's guarded update misses a dag that this same tick has started.
    return dag if starts_now else _move_on(plan, dag, node, instant)


def _drive(plan: NodeScript, node: NodeState, instant: int) -> NodeState:
    """The node at the stage: starts it, and lets its own operator decide over its sub tasks."""
    if node.state in ("FAILED", "SUCCEED"):
        return node
    if node.state == "PENDING":
        start = instant + LAG
        node = replace(node, state="RUNNING", start_time=start, end_time=start)
    if node.operator == "CANCEL":
        return _cancelled(node, instant)
    decide = _DECISIONS[node.operator]
    verdicts = [decide(each, node) for each in node.sub_tasks]
    sub_tasks = tuple(
        _start_run(script, each, verdict, plan.timeout, instant + 2 * LAG)
        if verdict in ("RUN", "ROLLBACK")
        else each
        for script, each, verdict in zip(plan.sub_tasks, node.sub_tasks, verdicts, strict=True)
    )
    if any(verdict in ("RUN", "ROLLBACK") for verdict in verdicts):
        return replace(node, sub_tasks=sub_tasks)
    if "wait" in verdicts:
        return node
    ends: Outcome = "FAILED" if "failed" in verdicts else "SUCCEED"
    end = instant if node.start_time is None else max(instant, node.start_time)
    return replace(node, state=ends, end_time=end)


def _cancelled(node: NodeState, instant: int) -> NodeState:
    """FAILED at once, whatever its sub tasks; those that ran are FAILED with a line to say so."""
    sub_tasks = tuple(
        _end_run(each, instant + 2 * LAG, last_words=CANCELLED) if each.state == "RUNNING" else each
        for each in node.sub_tasks
    )
    return replace(node, state="FAILED", end_time=instant + 3 * LAG, sub_tasks=sub_tasks)


def _move_on(plan: DagScript, dag: DagState, node: NodeState, instant: int) -> DagState:
    """The dag fails with its node, or its stage moves: down while it rolls back, else up."""
    end = max(instant, node.end_time or instant) + LAG  # written down after its node's
    if node.state == "FAILED":
        return replace(dag, state="FAILED", end_time=end, is_finished=not plan.is_maintenance)
    if node.state != "SUCCEED":
        return dag
    stage = dag.stage + (-1 if dag.operator == "ROLLBACK" else 1)
    if 1 <= stage <= len(plan.nodes):
        return replace(dag, stage=stage)
    return replace(dag, state="SUCCEED", end_time=end, is_finished=True)


_Verdict = Literal["RUN", "ROLLBACK", "wait", "done", "failed"]


def _decide_run(sub_task: SubTaskState, node: NodeState) -> _Verdict:
    if sub_task.state == "PENDING":
        return "RUN"
    return _OUTCOMES[sub_task.state]


def _decide_rollback(sub_task: SubTaskState, node: NodeState) -> _Verdict:
    if sub_task.state == "PENDING" and sub_task.operator == "RUN":
        return "done"  # it never ran
    if sub_task.state != "RUNNING" and not _ran_since(node, sub_task, "ROLLBACK"):
        return "ROLLBACK"
    return _OUTCOMES[sub_task.state]


def _decide_retry(sub_task: SubTaskState, node: NodeState) -> _Verdict:
    if sub_task.state == "PENDING":
        return "RUN"
    if sub_task.state == "FAILED" and not _started_since(node, sub_task):
        return "ROLLBACK"
    if sub_task.state == "SUCCEED" and _ran_since(node, sub_task, "ROLLBACK"):
        return "RUN"
    return _OUTCOMES[sub_task.state]


_OUTCOMES: Final[dict[State, _Verdict]] = {
    "READY": "wait",
    "RUNNING": "wait",
    "FAILED": "failed",
    "SUCCEED": "done",
}
_DECISIONS: Final[dict[Operator, Callable[[SubTaskState, NodeState], _Verdict]]] = {
    "RUN": _decide_run,
    "ROLLBACK": _decide_rollback,
    "RETRY": _decide_retry,
}
"""What each operator of a node makes of a sub task (scheduler/task_handler.go:74-235)."""


def _started_since(node: NodeState, sub_task: SubTaskState) -> bool:
    if sub_task.start_time is None or node.start_time is None:
        return False
    return sub_task.start_time > node.start_time


def _ran_since(node: NodeState, sub_task: SubTaskState, operator: Operator) -> bool:
    return sub_task.operator == operator and _started_since(node, sub_task)


def _start_run(
    plan: SubTaskScript, sub_task: SubTaskState, operator: _Verdict, timeout: int, instant: int
) -> SubTaskState:
    """RUNNING, counted; its end time stays that of before (executor/executor.go)."""
    backwards = operator == "ROLLBACK"
    script = plan.rollbacks if backwards else plan.attempts
    kind: Operator = "ROLLBACK" if backwards else "RUN"
    before = sum(run.operator == kind for run in sub_task.runs)
    attempt = script[min(before, len(script) - 1)]
    in_time = attempt.takes is not None and attempt.takes <= timeout
    takes = attempt.takes if attempt.takes is not None and in_time else timeout
    pace = LAG * len(attempt.log) if attempt.takes is None else attempt.takes
    last_words = attempt.last_words if in_time else TIMED_OUT
    run = Run(kind, instant, pace, attempt.log, last_words=last_words)
    return replace(
        sub_task,
        state="RUNNING",
        operator=kind,
        execute_times=sub_task.execute_times + 1,
        start_time=instant,
        runs=(*sub_task.runs, run),
        due=instant + takes,
        will_end=attempt.ends if in_time else "FAILED",
    )


def _put(nodes: tuple[NodeState, ...], position: int, node: NodeState) -> tuple[NodeState, ...]:
    return (*nodes[:position], node, *nodes[position + 1 :])
