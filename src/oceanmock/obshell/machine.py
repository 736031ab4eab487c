"""The state machine of an obshell dag: pure, over integer time.

A dag is a sequence of nodes, which run one at a time; a node has one sub task per agent. The scheduler decides at its
ticks, once a second; only the runs of sub tasks end in between. One stage takes two ticks: at the first the node and
its sub tasks start; at the first after all of these have ended, the node ends and the stage moves. The next node starts
one tick later. The cause of a change is ``start``, ``tick``, ``run ended``, ``stage`` or an operator.

Facts: github.com/oceanbase/obshell at 61ee147 (ob/agent/engine/scheduler, ob/agent/service/task), and recordings of a
running obshell 4.5.0.0 (tests/data/obshell), which outrank it. The transitions are listed in ``states``. Instants are
nanoseconds since the dag's start; None stands for the Unix epoch, to which the server resets times
(service/task/dag.go:29).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Final, Literal

from oceanmock.engine import machine as engine
from oceanmock.engine.machine import Change, Parts
from oceanmock.errors import IllegalOperator
from oceanmock.obshell import states
from oceanmock.obshell.api import API, Operator, State
from oceanmock.obshell.states import LAG, DagScript, DagState, NodeState, Rules, SubTaskState

History = engine.History[DagScript, Rules, DagState]
view_at = engine.view_at
next_due = engine.next_due
TERMINAL_STATES: Final = API.root.terminal_states


@lru_cache(maxsize=256)
def start(script: DagScript, rules: Rules = Rules()) -> History:
    """Return the history of a dag created at 0: it is READY, its parts are PENDING (service/task/dag.go:269-280)."""
    at, nodes = 0, list[NodeState]()
    for node in script.nodes:  # the server creates a node and its sub tasks one after another
        at += LAG
        times = range(at + LAG, at + LAG * len(node.sub_tasks) + 1, LAG)
        sub_tasks = [SubTaskState("PENDING", "RUN", moment, moment) for moment in times]
        nodes.append(NodeState("PENDING", "RUN", at, at, tuple(sub_tasks)))
        at += LAG * len(node.sub_tasks)
    dag = DagState("READY", "RUN", 0, 0, at=0, stage=1, is_finished=False, nodes=Parts(nodes))
    history = engine.History(script, rules, engine.Upcoming(_unfold(script, rules, engine.started(dag))))
    return engine.with_others(history, script.others, -1, _continued)


def task_logs_at(sub_task: SubTaskState, instant: int) -> tuple[str, ...] | None:
    """Return the lines of all its runs so far; None before the first (service/task/sub_task_log.go:86-93)."""
    if sub_task.state not in ("RUNNING", "FAILED", "SUCCEED"):  # (executor/task/sub_task.go:115-121)
        return None
    return tuple([text for _, _, text in lines_of(sub_task, instant)])


def lines_of(sub_task: SubTaskState, instant: int) -> Iterator[tuple[int, int, str]]:
    """Yield each line that is logged by an instant: the number of its run (from 1), its instant and its text."""
    for number, run in enumerate(sub_task.runs, start=sub_task.execute_times - len(sub_task.runs) + 1):
        for at, text in engine.lines_logged(run, instant):
            yield number, at, text
        if run.last_words is not None and run.ended is not None:
            yield number, run.ended, run.last_words


def operate(history: History, operator: Operator, instant: int, node: int | None = None) -> History:
    """Return the history after an operator on the dag or the node at a position. Raises IllegalOperator, ValueError."""
    kind, routes = ("dag", tuple(_OPERATORS)) if node is None else ("node", ("PASS",))
    if operator not in routes:
        raise ValueError(f"{operator} is not an operation of a {kind}: {', '.join(routes)}")
    return engine.with_others(_continued(history, operator, instant, node), history.script.others, instant, _continued)


def _continued(history: History, operator: Operator, instant: int, node: int | None) -> History:
    before = view_at(history, instant)
    cause, target = (f"dag.{operator}", ()) if node is None else (f"node.{operator}", (node,))
    after = _operated(history, operator, replace(before, at=instant), node)
    after = engine.changed(before, after, cause, target=target)
    return history.continued(instant, _unfold(history.script, history.rules, after))


def allows(history: History, operator: Operator, instant: int, *, node: int | None = None) -> bool:
    try:
        _operated(history, operator, replace(view_at(history, instant), at=instant), node)
    except IllegalOperator:
        return False
    return True


def has_succeeded(state: DagState) -> bool:
    return state.state == "SUCCEED" and state.operator != "ROLLBACK"


def holds_lock(script: DagScript, dag: DagState) -> bool:
    """Return whether a maintenance dag still has its lock (service/task/dag.go:565-601)."""
    gives_back = dag.state == "FAILED" and script.nodes[dag.stage - 1].failure_exit
    return script.is_maintenance and not dag.is_finished and not gives_back


def node_of_lock(dag: DagState, operator: Operator, node: int | None) -> int | None:
    """Return the node that decides if an operator needs the lock (service/task/dag.go:422-481, node.go:136-144)."""
    if node is not None or operator not in ("RETRY", "ROLLBACK"):
        return node
    failed = (place for place, item in enumerate(dag.nodes) if item.state == "FAILED")
    return dag.stage - 1 if operator == "RETRY" else next(failed, None)


def _operated(history: History, operator: Operator, dag: DagState, node: int | None) -> DagState:
    if node is not None:
        return _pass_node(history.script, dag, node, dag.at)
    if operator == "CANCEL" and history.rules.cancels_at_stage:
        return _cancel(history.script, dag, dag.at, at_stage=True)
    return _OPERATORS[operator](history.script, dag, dag.at)


def _roll_back(script: DagScript, dag: DagState, instant: int) -> DagState:
    """Make node 1 to the failed one PENDING/ROLLBACK (service/task/dag.go:336-377,422-454)."""
    if dag.state != "FAILED":
        raise IllegalOperator("Dag.Operator.RollbackNotFailedDag")
    nodes = list(dag.nodes)
    for position, node in enumerate(dag.nodes):
        if node.state == "PENDING" and node.operator != "ROLLBACK":
            break
        if "rollback" not in script.nodes[position].can:
            raise IllegalOperator("Dag.Operator.RollbackNotAllowed", node=position)
        nodes[position] = _reset(node, "ROLLBACK")
        if node.state == "FAILED":
            break
    if nodes[0] is dag.nodes[0]:
        raise IllegalOperator("NoNodeFailed")
    return _restarted(dag, "ROLLBACK", Parts(nodes))


def _retry(script: DagScript, dag: DagState, instant: int) -> DagState:
    """Make the node at the stage PENDING/RETRY, and the dag READY/RUN (dag.go:456-481)."""
    if dag.state != "FAILED":
        raise IllegalOperator("Dag.Operator.RetryNotFailedDag")
    position = dag.stage - 1
    if "retry" not in script.nodes[position].can:
        raise IllegalOperator("Dag.Operator.RetryNotAllowed", node=position)
    return _restarted(dag, "RUN", dag.nodes.replaced({position: _reset(dag.nodes[position], "RETRY")}))


def _cancel(script: DagScript, dag: DagState, instant: int, *, at_stage: bool = False) -> DagState:
    """Make the first unfinished node *in stage order* PENDING/CANCEL, or with ``at_stage`` the one at the stage.

    During a rollback the first is node 1, not the node that runs (dag.go:352-377): from then on the stage counts up
    again, and the rollback can never be resumed. If all nodes are finished, the last one is marked, in any state.
    """
    if dag.state in TERMINAL_STATES:
        raise IllegalOperator("Dag.Operator.CancelFinishedDag")
    places = range(len(dag.nodes))
    unfinished = (place for place in places if dag.nodes[place].state not in TERMINAL_STATES)
    position = dag.stage - 1 if at_stage else next(unfinished, places[-1])
    for place in places[: position + 1]:
        if "cancel" not in script.nodes[place].can:
            raise IllegalOperator("Dag.Operator.CancelNotAllowed", node=place)
    cancelled = _reset(dag.nodes[position], "CANCEL")
    return _restarted(dag, "CANCEL", dag.nodes.replaced({position: cancelled}))


def _pass_dag(script: DagScript, dag: DagState, instant: int) -> DagState:
    """Make the dag, the failed node and all after it SUCCEED/PASS (dag.go:499-532)."""
    if dag.state != "FAILED":
        raise IllegalOperator("Dag.Operator.PassNotFailedDag")
    for position, node in enumerate(dag.nodes):
        if node.state != "SUCCEED" and "pass" not in script.nodes[position].can:
            raise IllegalOperator("Dag.Operator.PassNotAllowed", node=position)
    failed = [node.state for node in dag.nodes].index("FAILED")
    end = _after_starts(instant, dag.nodes[failed])
    nodes = Parts(_passed(node, end) if position >= failed else node for position, node in enumerate(dag.nodes))
    return replace(dag, state="SUCCEED", operator="PASS", end_time=end, is_finished=True, nodes=nodes)


def _pass_node(script: DagScript, dag: DagState, position: int, instant: int) -> DagState:
    """Make the failed node SUCCEED/PASS at once, and the dag READY/RUN (node.go:116-166)."""
    if dag.state != "FAILED":
        raise IllegalOperator("Node.Operator.PassNotFailedDag")
    node = dag.nodes[position]
    if node.state != "FAILED":
        raise IllegalOperator("Node.Operator.PassNotFailedNode", node=position)
    if "pass" not in script.nodes[position].can:
        raise IllegalOperator("Node.Operator.PassNotAllowed", node=position)
    passed = _passed(node, _after_starts(instant, node))
    return _restarted(dag, "RUN", dag.nodes.replaced({position: passed}))


_OPERATORS: Final[dict[Operator, Callable[[DagScript, DagState, int], DagState]]] = {
    "ROLLBACK": _roll_back,
    "RETRY": _retry,
    "CANCEL": _cancel,
    "PASS": _pass_dag,
}


def _restarted(dag: DagState, operator: Operator, nodes: Parts[NodeState]) -> DagState:
    return replace(
        dag, state="READY", operator=operator, start_time=None, end_time=None, is_finished=False, nodes=nodes
    )


def _reset(node: NodeState, operator: Operator) -> NodeState:
    return replace(node, state="PENDING", operator=operator, start_time=None, end_time=None)


def _after_starts(instant: int, node: NodeState) -> int:
    """Return the instant, or a later start that a tick has just written."""
    starts = [node.start_time, *(item.start_time for item in node.sub_tasks)]
    return max([instant, *(start for start in starts if start is not None)])


def _passed(node: NodeState, instant: int) -> NodeState:
    sub_tasks = tuple(
        item if item.state == "SUCCEED" else replace(item, state="SUCCEED", operator="PASS", end_time=instant, due=None)
        for item in node.sub_tasks
    )
    return replace(node, state="SUCCEED", operator="PASS", end_time=instant, sub_tasks=sub_tasks)


def _unfold(script: DagScript, rules: Rules, dag: DagState) -> Iterator[DagState]:
    """Yield this state and all that follow it, until nothing is due any more; ticks without effect are skipped."""
    busy: Iterable[int] = range(len(dag.nodes))
    while True:
        nodes = {place: dag.nodes[place] for place in {*busy, dag.stage - 1}}
        ends = {at: [it.due for it in node.sub_tasks if it.due is not None] for at, node in nodes.items()}
        busy = [place for place in ends if ends[place]]
        due = [min(ends[place]) for place in busy]
        tick = engine.next_tick(dag.at, rules.tick, rules.phase)
        if all(end > tick for end in due):
            waiting = replace(dag, at=tick, changes=())
            after = _tick(script, waiting, tick)
            if after is not waiting:
                yield dag
                dag = after
                continue
        if not due:
            break
        instant = min(due)
        if instant > dag.at:
            yield dag
            dag = replace(dag, at=instant, changes=())
        ended = dict[int, NodeState]()
        for place in [place for place in busy if instant in ends[place]]:
            sub_tasks = [_end_run(it, instant) if it.due == instant else it for it in dag.nodes[place].sub_tasks]
            ended[place] = replace(dag.nodes[place], sub_tasks=tuple(sub_tasks))
        dag = engine.changed(dag, replace(dag, nodes=dag.nodes.replaced(ended)), "run ended")
        if (instant - rules.phase) % rules.tick == 0:
            dag = _tick(script, dag, instant)
    yield dag


def _end_run(sub_task: SubTaskState, instant: int, *, last_words: str | None = None) -> SubTaskState:
    run = sub_task.last_run
    assert run is not None
    state = "FAILED" if last_words is not None else sub_task.will_end
    ended = replace(run, ended=instant, last_words=last_words or run.last_words)
    return replace(sub_task, state=state, end_time=instant, runs=(*sub_task.runs[:-1], ended), due=None)


def _tick(script: DagScript, dag: DagState, instant: int) -> DagState:
    """Return the dag after a tick, the same object if nothing changes (engine/scheduler/dag_handler.go:24-74)."""
    if dag.state in TERMINAL_STATES:
        return dag
    starts_now = dag.state == "READY"
    if starts_now:
        dag = engine.changed(dag, replace(dag, state="RUNNING", start_time=instant), "tick")
    position = dag.stage - 1
    before = dag.nodes[position]
    node = _drive(script.nodes[position], before, instant)
    if node is not before and node.state == "FAILED":  # the changes of its sub tasks come first
        nodes = dag.nodes.replaced({position: replace(before, sub_tasks=node.sub_tasks)})
        dag = engine.changed(dag, replace(dag, nodes=nodes), "tick")
    if node is not before:
        dag = engine.changed(dag, replace(dag, nodes=dag.nodes.replaced({position: node})), "tick")
    # The server's conditional update does not match a dag that this same tick has started.
    if starts_now:
        return dag
    after = _move_on(script, dag, node, instant)
    if after.stage != dag.stage:
        moved = Change(instant, (), dag.label, after.label, "stage")
        return replace(after, changes=(*dag.changes, moved))
    return dag if after is dag else engine.changed(dag, after, "tick")


def _drive(script: states.NodeScript, node: NodeState, instant: int) -> NodeState:
    """Start the node at the stage, or do what its operator requires of its sub tasks."""
    if node.state in TERMINAL_STATES:
        return node
    if node.state == "PENDING":
        start = instant + LAG
        node = replace(node, state="RUNNING", start_time=start, end_time=start)
    if node.operator == "CANCEL":
        return _cancelled(node, instant)
    verdicts, sub_tasks = [_decide(item, node) for item in node.sub_tasks], list(node.sub_tasks)
    for place, verdict in enumerate(verdicts):
        if verdict in ("RUN", "ROLLBACK"):
            runs = script.sub_tasks[place]
            sub_tasks[place] = _start_run(runs, sub_tasks[place], verdict, script.timeout, instant + 2 * LAG)
    if "RUN" in verdicts or "ROLLBACK" in verdicts:
        return replace(node, sub_tasks=tuple(sub_tasks))
    if "wait" in verdicts:
        return node
    ends: states.Outcome = "FAILED" if "failed" in verdicts else "SUCCEED"
    starts_now = node.start_time is not None and node.start_time > instant
    return replace(node, state=ends, end_time=instant + 2 * LAG if starts_now else instant)


def _cancelled(node: NodeState, instant: int) -> NodeState:
    """Make the node and its RUNNING sub tasks FAILED; these log a last line."""
    sub_tasks = tuple(
        _end_run(item, instant + 2 * LAG, last_words=states.CANCELLED) if item.state == "RUNNING" else item
        for item in node.sub_tasks
    )
    return replace(node, state="FAILED", end_time=instant + 3 * LAG, sub_tasks=sub_tasks)


def _move_on(script: DagScript, dag: DagState, node: NodeState, instant: int) -> DagState:
    """Fail the dag with its node, or move its stage: down in a rollback, else up."""
    end = max(instant, node.end_time or instant) + LAG  # written down after its node's
    if node.state == "FAILED":
        return replace(dag, state="FAILED", end_time=end, is_finished=not script.is_maintenance)
    if node.state != "SUCCEED":
        return dag
    stage = dag.stage + (-1 if dag.operator == "ROLLBACK" else 1)
    if 1 <= stage <= len(script.nodes):
        return replace(dag, stage=stage)
    return replace(dag, state="SUCCEED", end_time=end, is_finished=True)


_Verdict = Literal["RUN", "ROLLBACK", "wait", "done", "failed"]


def _decide(sub_task: SubTaskState, node: NodeState) -> _Verdict:
    """Return what the operator of the node requires of a sub task (scheduler/task_handler.go:74-235)."""
    started, since = sub_task.start_time, node.start_time
    has_started = started is not None and since is not None and started > since
    was_undone = has_started and sub_task.operator == "ROLLBACK"
    match node.operator, sub_task.state:
        case "ROLLBACK", "PENDING" if sub_task.operator == "RUN":
            return "done"  # it never ran
        case "ROLLBACK", state if state != "RUNNING" and not was_undone:
            return "ROLLBACK"
        case "RETRY", "FAILED" if not has_started:
            return "ROLLBACK"
        case "RETRY", "SUCCEED" if was_undone:
            return "RUN"
    verdicts: dict[State, _Verdict] = {"PENDING": "RUN", "FAILED": "failed", "SUCCEED": "done"}
    return verdicts.get(sub_task.state, "wait")


def _start_run(
    script: states.SubTaskScript, sub_task: SubTaskState, operator: _Verdict, timeout: int, instant: int
) -> SubTaskState:
    """Start a run; the end time of the last one stays (executor/executor.go)."""
    backwards = operator == "ROLLBACK"
    runs = script.rollbacks if backwards else script.attempts
    kind: Operator = "ROLLBACK" if backwards else "RUN"
    rollbacks = sub_task.rollbacks + backwards
    number = rollbacks if backwards else sub_task.execute_times + 1 - rollbacks
    attempt = runs[min(number, len(runs)) - 1]
    in_time = attempt.takes is not None and attempt.takes <= timeout
    takes = attempt.takes if attempt.takes is not None and in_time else timeout
    pace = LAG * len(attempt.log) if attempt.takes is None else attempt.takes
    last_words = attempt.last_words if in_time else states.TIMED_OUT
    run = states.Run(kind, instant, pace, attempt.log, last_words=last_words, number=number)
    return replace(
        sub_task,
        state="RUNNING",
        operator=kind,
        execute_times=sub_task.execute_times + 1,
        start_time=instant,
        runs=(*sub_task.runs, run)[-engine.MAX_OPERATIONS :],
        due=instant + takes,
        will_end=attempt.ends if in_time else "FAILED",
        rollbacks=rollbacks,
    )
