"""What the facts say an obshell dag may and must do, written without looking at the machine.

Three kinds of thing: who may operate when (``answer_to``) and what that shows (``after_operator``),
what a tick decides (``decision``), and invariants: each takes one step of a life (or one state) and
yields a sentence per breach, so a failing property says what broke. Facts come from
github.com/oceanbase/obshell (ob/agent/service/task, ob/agent/engine/scheduler) and from recordings
of a running obshell 4.5.0.0. The one rule: nothing here calls the machine but to read a log; it
only reads the dataclasses the machine hands out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from oceanmock.engine.machine import Parts
from oceanmock.obshell.api import Operator, State
from oceanmock.obshell.machine import task_logs_at
from oceanmock.obshell.states import (
    TIMED_OUT,
    DagScript,
    DagState,
    NodeScript,
    NodeState,
    Rules,
    Run,
    RunScript,
    SubTaskScript,
    SubTaskState,
)

MILLISECOND = 1_000_000
PROMPTLY = 10 * MILLISECOND
"""What belongs to a tick is written down within this long of it (seen: 0.2 to 3 ms)."""

FINAL: Final = frozenset({"FAILED", "SUCCEED"})


@dataclass(frozen=True, slots=True)
class Act:
    """An operator on the whole dag (``node`` is None) or on the node at a position."""

    operator: Operator
    node: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The tail of the errCode, and the position of the node that is to blame."""

    reason: str
    node: int | None = None


Answer = Refusal | None


@dataclass(frozen=True, slots=True)
class Step:
    """Two consecutive states and what lies between: an accepted operator, or (None) time.

    ``since`` is the instant of the step before.
    """

    plan: DagScript
    rules: Rules
    before: DagState
    after: DagState
    since: int
    instant: int
    act: Act | None = None

    @property
    def is_tick(self) -> bool:
        """Whether the scheduler looks at its dags in this step."""
        return self.act is None and (self.instant - self.rules.phase) % self.rules.tick == 0

    @property
    def place(self) -> int:
        """The position of the node at the stage, before the step."""
        return self.before.stage - 1

    @property
    def driven(self) -> tuple[NodeScript, NodeState, NodeState]:
        """The node at the stage: its plan, and what it showed before and after."""
        here = self.place
        return self.plan.nodes[here], self.before.nodes[here], self.after.nodes[here]

    def pairs(self) -> Iterator[tuple[str, NodeScript, SubTaskScript, SubTaskState, SubTaskState]]:
        """Each sub task: its name, plans, and what it showed before and after."""
        for number, plan in enumerate(self.plan.nodes):
            old, new = self.before.nodes[number], self.after.nodes[number]
            for place, script in enumerate(plan.sub_tasks):
                name = f"sub task {number + 1}.{place + 1}"
                yield name, plan, script, old.sub_tasks[place], new.sub_tasks[place]


StepInvariant = Callable[[Step], Iterator[str]]
StateInvariant = Callable[[DagScript, DagState], Iterator[str]]


# --- tables ---------------------------------------------------------------------------------------

DAG_TIME_EDGES: Final = frozenset({("READY", "RUNNING"), ("RUNNING", "SUCCEED"), ("RUNNING", "FAILED")})
DAG_OPERATOR_EDGES: Final[dict[Act, frozenset[tuple[str, str]]]] = {
    Act("RETRY"): frozenset({("FAILED", "READY")}),
    Act("ROLLBACK"): frozenset({("FAILED", "READY")}),
    Act("CANCEL"): frozenset({("READY", "READY"), ("RUNNING", "READY")}),
    Act("PASS"): frozenset({("FAILED", "SUCCEED")}),
    Act("PASS", 0): frozenset({("FAILED", "READY")}),
}
"""By operator; position 0 stands for any node."""

NODE_TIME_EDGES: Final = frozenset(
    {
        ("PENDING", "RUNNING"),
        ("RUNNING", "SUCCEED"),
        ("RUNNING", "FAILED"),
        ("PENDING", "FAILED"),  # a cancelled node is over in the tick it starts in
        ("PENDING", "SUCCEED"),  # so is one rolled back that had never run
    }
)
NODE_OPERATOR_EDGES: Final[dict[Act, frozenset[tuple[str, str]]]] = {
    Act("RETRY"): frozenset({("FAILED", "PENDING")}),
    Act("ROLLBACK"): frozenset({("FAILED", "PENDING"), ("SUCCEED", "PENDING")}),
    Act("CANCEL"): frozenset({("RUNNING", "PENDING"), ("FAILED", "PENDING"), ("SUCCEED", "PENDING")}),
    Act("PASS"): frozenset({("FAILED", "SUCCEED"), ("PENDING", "SUCCEED")}),
    Act("PASS", 0): frozenset({("FAILED", "SUCCEED")}),
}

SUB_TASK_TIME_EDGES: Final = frozenset(
    {
        ("PENDING", "RUNNING"),
        ("RUNNING", "SUCCEED"),
        ("RUNNING", "FAILED"),
        ("FAILED", "RUNNING"),  # its rollback run
        ("SUCCEED", "RUNNING"),  # its rollback run; or forward, after one in a retry
    }
)
SUB_TASK_PASS_EDGES: Final = frozenset({("FAILED", "SUCCEED"), ("PENDING", "SUCCEED")})


# --- operators: who may, and what that shows ------------------------------------------------------


def every_act(plan: DagScript) -> tuple[Act, ...]:
    """Every operator the API has a route for, on the dag and on each node."""
    operators: tuple[Operator, ...] = ("RETRY", "ROLLBACK", "CANCEL", "PASS")
    on_dag = (Act(operator) for operator in operators)
    return (*on_dag, *(Act("PASS", position) for position in range(len(plan.nodes))))


def answer_to(act: Act, plan: DagScript, state: DagState) -> Answer:
    """None where the operator is allowed (service/task/dag.go:283-420, node.go:116-166)."""
    if act.node is not None:
        return _answer_of_node(act.node, plan, state)
    word, flag, concerned = {
        "RETRY": ("Retry", "retry", [state.stage - 1]),
        "ROLLBACK": ("Rollback", "rollback", rolled_back(state)),
        "CANCEL": ("Cancel", "cancel", list(range(first_unfinished(state) + 1))),
        "PASS": ("Pass", "pass", [i for i, n in enumerate(state.nodes) if n.state != "SUCCEED"]),
    }[act.operator]
    if act.operator == "CANCEL" and state.state in FINAL:
        return Refusal("Dag.Operator.CancelFinishedDag")
    if act.operator != "CANCEL" and state.state != "FAILED":
        return Refusal(f"Dag.Operator.{word}NotFailedDag")
    for position in concerned:
        if flag not in plan.nodes[position].can:
            return Refusal(f"Dag.Operator.{word}NotAllowed", position)
    return None if concerned else Refusal("NoNodeFailed")


def _answer_of_node(position: int, plan: DagScript, state: DagState) -> Answer:
    if state.state != "FAILED":
        return Refusal("Node.Operator.PassNotFailedDag")
    if state.nodes[position].state != "FAILED":
        return Refusal("Node.Operator.PassNotFailedNode", position)
    if "pass" not in plan.nodes[position].can:
        return Refusal("Node.Operator.PassNotAllowed", position)
    return None


def rolled_back(state: DagState) -> list[int]:
    """The nodes a ROLLBACK would mark: up to the failed one, or to one it may not go past."""
    marked: list[int] = []
    for position, node in enumerate(state.nodes):
        if (node.state, node.operator == "ROLLBACK") == ("PENDING", False):
            return marked
        marked.append(position)
        if node.state == "FAILED":
            return marked
    return marked


def first_unfinished(state: DagState) -> int:
    """The node a CANCEL marks: the last one where all are finished (dag.go:352-377)."""
    open_ones = [i for i, node in enumerate(state.nodes) if node.state not in FINAL]
    return (open_ones or [len(state.nodes) - 1])[0]


def after_operator(act: Act, state: DagState, instant: int) -> DagState:
    """What a GET shows right after an accepted operator, from the state just before it."""
    if act.operator == "PASS":
        return _after_pass(act, state, instant)
    marked: dict[Operator, list[int]] = {
        "RETRY": [state.stage - 1],
        "ROLLBACK": rolled_back(state),
        "CANCEL": [first_unfinished(state)],
    }
    operator = act.operator
    nodes = Parts(
        replace(node, state="PENDING", operator=operator, start_time=None, end_time=None)
        if position in marked[operator]
        else node
        for position, node in enumerate(state.nodes)
    )
    shows: Operator = "RUN" if operator == "RETRY" else operator
    return _made_ready(replace(state, operator=shows, nodes=nodes))


def _made_ready(state: DagState) -> DagState:
    return replace(state, state="READY", start_time=None, end_time=None, is_finished=False)


def _after_pass(act: Act, state: DagState, instant: int) -> DagState:
    failed = [position for position, node in enumerate(state.nodes) if node.state == "FAILED"]
    passed = [act.node] if act.node is not None else list(range(failed[0], len(state.nodes)))
    first = state.nodes[passed[0]]
    starts = [first.start_time, *(item.start_time for item in first.sub_tasks)]
    end = max([instant, *(start for start in starts if start is not None)])  # no end before a start
    nodes = Parts(_passed(node, end) if position in passed else node for position, node in enumerate(state.nodes))
    if act.node is not None:
        return _made_ready(replace(state, operator="RUN", nodes=nodes))
    ended = replace(state, state="SUCCEED", operator="PASS", end_time=end, is_finished=True)
    return replace(ended, nodes=nodes)


def _passed(node: NodeState, instant: int) -> NodeState:
    sub_tasks = tuple(
        each if each.state == "SUCCEED" else replace(each, state="SUCCEED", operator="PASS", end_time=instant)
        for each in node.sub_tasks
    )
    return replace(node, state="SUCCEED", operator="PASS", end_time=instant, sub_tasks=sub_tasks)


# --- what a tick decides --------------------------------------------------------------------------


def at_tick(step: Step) -> list[SubTaskState]:
    """The driven node's sub tasks as the tick finds them: what ended at this instant has ended."""
    plan, old, new = step.driven
    return [
        _settled(plan, script, before, after)
        for script, before, after in zip(plan.sub_tasks, old.sub_tasks, new.sub_tasks, strict=True)
    ]


def _settled(plan: NodeScript, script: SubTaskScript, before: SubTaskState, after: SubTaskState) -> SubTaskState:
    run = after.runs[len(before.runs) - 1] if before.state == "RUNNING" else None
    if run is None or run.ended is None or is_cancelled(run):
        return before
    _, ends, _ = outcome(plan, script, after.runs, after.runs.index(run))
    return replace(before, state=ends, runs=(*before.runs[:-1], run))


def decision(sub_task: SubTaskState, node: NodeState) -> Operator | None:
    """The run that a tick gives to a sub task of a node at the stage, by the node's operator."""
    since = [] if node.state == "PENDING" else _runs_since(sub_task, node)
    if node.state in FINAL or sub_task.state == "RUNNING":
        return None
    if node.operator in {"RUN", "RETRY"} and sub_task.state == "PENDING":
        return "RUN"
    if node.operator == "ROLLBACK":
        never_ran = (sub_task.state, sub_task.operator) == ("PENDING", "RUN")
        return None if never_ran or "ROLLBACK" in since else "ROLLBACK"
    if node.operator == "RETRY" and sub_task.state == "FAILED" and not since:
        return "ROLLBACK"
    if node.operator == "RETRY" and sub_task.state == "SUCCEED" and since[-1:] == ["ROLLBACK"]:
        return "RUN"
    return None


def _runs_since(sub_task: SubTaskState, node: NodeState) -> list[Operator]:
    start = node.start_time or 0
    return [run.operator for run in sub_task.runs if run.started >= start]


def verdict(step: Step) -> State:
    """What the driven node shows after the tick."""
    _, node, _ = step.driven
    found = at_tick(step)
    if node.state in FINAL:
        return node.state
    if node.operator == "CANCEL":
        return "FAILED"
    if any(each.state == "RUNNING" or decision(each, node) for each in found):
        return "RUNNING"
    return "FAILED" if any(each.state == "FAILED" for each in found) else "SUCCEED"


def is_cancelled(run: Run) -> bool:
    """Whether a CANCEL ended it."""
    return run.last_words == "sub task cancelled" and run.ended is not None


def outcome(plan: NodeScript, script: SubTaskScript, runs: Sequence[Run], place: int) -> tuple[int, State, str | None]:
    """How long an undisturbed run lasts, how it ends, and what the server then adds to its log."""
    attempt = attempt_of(script, runs, place)
    if attempt.takes is None or attempt.takes > plan.timeout:
        return plan.timeout, "FAILED", TIMED_OUT
    return attempt.takes, attempt.ends, None


def attempt_of(script: SubTaskScript, runs: Sequence[Run], place: int) -> RunScript:
    """The n-th forward run is the n-th attempt, the n-th rollback run the n-th rollback."""
    kind = runs[place].operator
    attempts = script.rollbacks if kind == "ROLLBACK" else script.attempts
    earlier = sum(run.operator == kind for run in runs[:place])
    return attempts[min(earlier, len(attempts) - 1)]


# --- invariants of a step: edges ------------------------------------------------------------------


def _route(act: Act) -> Act:
    return Act(act.operator, None if act.node is None else 0)


def dag_edges_are_legal(step: Step) -> Iterator[str]:
    """Every change of the dag's state is in the table, under the event that may cause it."""
    edge = (step.before.state, step.after.state)
    if step.act is not None and edge not in DAG_OPERATOR_EDGES[_route(step.act)]:
        yield f"the dag went {edge[0]}->{edge[1]} by {step.act}"
    if step.act is None and edge[0] != edge[1] and edge not in DAG_TIME_EDGES:
        yield f"the dag went {edge[0]}->{edge[1]} by itself"


def node_edges_are_legal(step: Step) -> Iterator[str]:
    """So is every change of a node's."""
    legal = NODE_TIME_EDGES if step.act is None else NODE_OPERATOR_EDGES[_route(step.act)]
    for number, (old, new) in enumerate(zip(step.before.nodes, step.after.nodes, strict=True)):
        if old.state != new.state and (old.state, new.state) not in legal:
            yield f"node {number + 1} went {old.state}->{new.state} by {step.act}"


def sub_task_edges_are_legal(step: Step) -> Iterator[str]:
    """So is every change of a sub task's; only PASS changes one at once."""
    is_pass = step.act is not None and step.act.operator == "PASS"
    for name, _, _, old, new in step.pairs():
        path: list[str] = [old.state]
        if step.act is None and len(new.runs) > len(old.runs):
            path.append("RUNNING")
        edges = {(a, b) for a, b in zip(path, [*path[1:], new.state], strict=True) if a != b}
        if old.state == "RUNNING" and len(new.runs) > len(old.runs):
            continue  # it ended and ran again in one instant; the runs are checked elsewhere
        legal = SUB_TASK_TIME_EDGES if step.act is None else SUB_TASK_PASS_EDGES
        if edges and (edges - legal or (step.act is not None and not is_pass)):
            yield f"{name} went {edges} by {step.act}"


def an_operator_shows_what_the_table_says(step: Step) -> Iterator[str]:
    """The whole state after an operator is the table's."""
    if step.act is not None:
        expected = after_operator(step.act, step.before, step.instant)
        if replace(step.after, at=0) != replace(expected, at=0):
            yield f"after {step.act}: {step.after}, not {expected}"


def a_final_state_stays(step: Step) -> Iterator[str]:
    """A FAILED or SUCCEED dag changes in nothing by itself."""
    if step.act is None and step.before.state in FINAL:
        yield f"a dag in {step.before.state} changed at {step.instant}"


# --- invariants of a step: the scheduler ----------------------------------------------------------


def only_the_node_at_the_stage_is_driven(step: Step) -> Iterator[str]:
    """Time changes no other node; between ticks it only ends runs."""
    if step.act is not None:
        return
    for number, (old, new) in enumerate(zip(step.before.nodes, step.after.nodes, strict=True)):
        is_kept = old == (new if number != step.place else replace(new, sub_tasks=old.sub_tasks))
        if not is_kept and not (step.is_tick and number == step.place):
            yield f"node {number + 1} changed at {step.instant}, at stage {step.before.stage}"
    if not step.is_tick and replace(step.after, at=0, nodes=Parts()) != replace(step.before, at=0, nodes=Parts()):
        yield f"the dag changed at {step.instant}, between ticks"


def runs_start_as_the_nodes_operator_decides(step: Step) -> Iterator[str]:
    """At a tick each sub task of the node at the stage gets the run that is due to it, or none."""
    _, old, new = step.driven
    found = at_tick(step)
    is_driving = step.is_tick and step.before.state not in FINAL
    for place, (before, after) in enumerate(zip(old.sub_tasks, new.sub_tasks, strict=True)):
        due = decision(found[place], old) if is_driving else None
        started = [run.operator for run in after.runs[len(before.runs) :]]
        if started != ([due] if due else []):
            yield f"sub task {place + 1} at {step.instant} began {started}, due was {due}"


def the_node_gets_the_verdict_of_its_sub_tasks(step: Step) -> Iterator[str]:
    """FAILED if one failed, once none runs; a cancelled one FAILED at once."""
    if step.is_tick and step.before.state not in FINAL:
        shown = step.driven[2].state
        if shown != verdict(step):
            yield f"node {step.before.stage} {shown} at {step.instant}, not {verdict(step)}"


def a_dag_only_starts_in_the_tick_that_starts_it(step: Step) -> Iterator[str]:
    """READY becomes RUNNING at the next tick; stage and end follow one tick later."""
    if step.is_tick and step.before.state == "READY":
        kept = replace(step.before, at=step.after.at, state="RUNNING", nodes=step.after.nodes)
        if replace(step.after, start_time=None) != replace(kept, start_time=None):
            yield f"starting changed more than the state: {step.after}"
        if not _is_prompt(step, step.after.start_time):
            yield f"started at {step.instant} with start_time {step.after.start_time}"


def the_dag_follows_its_node(step: Step) -> Iterator[str]:
    """FAILED with it; after SUCCEED one stage on, back in a rollback; or SUCCEED past the last."""
    if not step.is_tick or step.before.state != "RUNNING":
        return
    node, stage, state = verdict(step), step.before.stage, "RUNNING"
    if node == "SUCCEED":
        stage += -1 if step.before.operator == "ROLLBACK" else 1
        if not 1 <= stage <= len(step.plan.nodes):
            stage, state = step.before.stage, "SUCCEED"
    if node == "FAILED":
        state = "FAILED"
    if (step.after.state, step.after.stage) != (state, stage):
        yield f"{step.after.state} at stage {step.after.stage}, not {state} at stage {stage}"
    if step.after.operator != step.before.operator:
        yield f"the operator became {step.after.operator}"


def no_tick_is_idle(step: Step) -> Iterator[str]:
    """Nobody waits longer than to the next tick, but for runs that last."""
    if step.act is None and not is_waiting_for_runs(step.before):
        ticks = (step.instant - step.rules.phase) // step.rules.tick
        passed = ticks - (step.since - step.rules.phase) // step.rules.tick
        if passed > 1:
            yield f"{passed} ticks passed before {step.instant} with work to do"


def is_waiting_for_runs(state: DagState) -> bool:
    """Whether the scheduler has nothing to do for now."""
    node = state.nodes[state.stage - 1]
    is_busy = any(each.state == "RUNNING" for each in node.sub_tasks)
    has_more = any(decision(each, node) for each in node.sub_tasks)
    waits = (state.state, node.state) == ("RUNNING", "RUNNING") and is_busy and not has_more
    return waits or state.state in FINAL


# --- invariants of a step: counters, times, runs --------------------------------------------------


def runs_are_kept_and_counted(step: Step) -> Iterator[str]:
    """execute_times counts the runs; a run that has ended never changes again."""
    for name, _, _, old, new in step.pairs():
        if new.execute_times != len(new.runs):
            yield f"{name} x{new.execute_times} after {len(new.runs)} runs"
        ended = [run for run in old.runs if run.ended is not None]
        if list(new.runs[: len(ended)]) != ended or len(new.runs) - len(old.runs) not in {0, 1}:
            yield f"{name} had runs {old.runs}, has {new.runs}"


def runs_follow_their_script(step: Step) -> Iterator[str]:
    """A run ends when and as its attempt says, by its timeout; or by a CANCEL, at a tick."""
    for name, plan, script, old, new in step.pairs():
        if not old.runs or old.runs[-1].ended is not None:
            continue
        place = len(old.runs) - 1
        run = new.runs[place]
        takes, ends, words = outcome(plan, script, new.runs, place)
        if is_cancelled(run):
            is_meant = step.is_tick and step.driven[1].operator == "CANCEL"
            if not is_meant or not _is_prompt(step, run.ended) or new.state != "FAILED":
                yield f"{name} was cancelled at {step.instant}: {run}"
            continue
        if (run.ended is not None) != (step.instant >= run.started + takes):
            yield f"{name}: {run} at {step.instant}, takes {takes}"
        if run.ended is not None and (run.ended != run.started + takes or run.last_words != words):
            yield f"{name}: {run}, takes {takes}, last words {words}"
        if run.ended is not None and len(new.runs) == len(old.runs) and new.state != ends:
            yield f"{name} is {new.state} after {run}, not {ends}"


def operators_are_those_of_the_last_run(step: Step) -> Iterator[str]:
    """A sub task shows the operator of its last run; a CANCEL leaves it; PASS covers it."""
    for name, _, _, _, new in step.pairs():
        last: Operator = new.runs[-1].operator if new.runs else "RUN"
        if new.operator not in {last, "PASS"}:
            yield f"{name} shows {new.operator} after runs {new.runs}"


def times_are_written_when_things_happen(step: Step) -> Iterator[str]:
    """A start or an end is that of the tick (a run's end its own); no other time changes."""
    if step.act is not None:
        return
    if step.after.start_time != step.before.start_time and step.before.state != "READY":
        yield f"the dag's start_time changed at {step.instant}"
    has_ended = step.after.state in FINAL and step.before.state not in FINAL
    if has_ended != (step.after.end_time != step.before.end_time):
        yield f"the dag's end_time became {step.after.end_time} in {step.after.state}"
    if has_ended and not _is_prompt(step, step.after.end_time):
        yield f"the dag ended at {step.instant} with end_time {step.after.end_time}"
    yield from _times_of_node(step)
    for name, _, _, old, new in step.pairs():
        if len(new.runs) > len(old.runs):
            node_start = step.driven[2].start_time
            if not _is_prompt(step, new.start_time) or (node_start or 0) > (new.start_time or 0):
                yield f"{name} began at {new.start_time}, its node at {node_start}"
            if new.start_time != new.runs[-1].started:
                yield f"{name} shows start {new.start_time} in {new.runs[-1]}"
        elif new.start_time != old.start_time:
            yield f"{name} began at {new.start_time} without a run"
        was_open = [run.ended for run in new.runs[: len(old.runs)]][-1:]
        has_ended = old.state == "RUNNING" and was_open != [None]
        if [new.end_time] != (was_open if has_ended else [old.end_time]):
            yield f"{name} shows end {new.end_time}, before {old.end_time}, runs {new.runs}"


def _times_of_node(step: Step) -> Iterator[str]:
    _, old, new = step.driven
    has_begun = old.state == "PENDING" and new.state != "PENDING"
    has_ended = old.state not in FINAL and new.state in FINAL
    if has_begun and not (_is_prompt(step, new.start_time) and (new.end_time or 0) > 0):
        yield f"the node began at {step.instant} with start {new.start_time}"
    if has_begun and not has_ended and new.end_time != new.start_time:
        yield f"the node began with start {new.start_time}, end {new.end_time}"
    if has_ended and not _is_prompt(step, new.end_time):
        yield f"the node ended at {step.instant} with end {new.end_time}"
    if not has_begun and new.start_time != old.start_time:
        yield f"the node's start changed at {step.instant}"
    if not has_begun and not has_ended and new.end_time != old.end_time:
        yield f"the node's end changed at {step.instant}"


def _is_prompt(step: Step, at: int | None) -> bool:
    return at is not None and 0 <= at - step.instant <= PROMPTLY


# --- invariants of a state ------------------------------------------------------------------------


def the_stage_is_a_stage(plan: DagScript, state: DagState) -> Iterator[str]:
    """1 to max_stage."""
    if not 1 <= state.stage <= len(plan.nodes):
        yield f"stage {state.stage} of {len(plan.nodes)}"


def one_node_runs_at_a_time(plan: DagScript, state: DagState) -> Iterator[str]:
    """Sub tasks run only in the node at the stage, and none in a dag that has ended."""
    del plan
    for number, node in enumerate(state.nodes, 1):
        is_busy = any(each.state == "RUNNING" for each in node.sub_tasks)
        if (is_busy or node.state == "RUNNING") and number != state.stage:
            yield f"node {number} is {node.state} at stage {state.stage}"
        if is_busy and (state.state in FINAL or node.state in FINAL):
            yield f"a sub task runs in {node.state} node {number} of a {state.state} dag"


def the_parent_agrees_with_its_children(plan: DagScript, state: DagState) -> Iterator[str]:
    """FAILED: so is the node at the stage, and no other. SUCCEED: so is the node it ended at."""
    failed = [number for number, node in enumerate(state.nodes, 1) if node.state == "FAILED"]
    if failed not in ([], [state.stage]) or (state.state == "FAILED" and not failed):
        yield f"{state.state} at stage {state.stage} with nodes {failed} FAILED"
    here = state.nodes[state.stage - 1]
    if state.state == "SUCCEED":
        last = {"ROLLBACK": 1, "PASS": state.stage}.get(state.operator, len(plan.nodes))
        if here.state != "SUCCEED" or state.stage != last:
            yield f"SUCCEED/{state.operator} at stage {state.stage} over {here.state}"
    if (state.state, state.operator) == ("SUCCEED", "ROLLBACK"):
        words = {f"{node.state}/{node.operator}" for node in state.nodes}
        if words - {"SUCCEED/ROLLBACK", "PENDING/RUN", "PENDING/CANCEL"}:
            yield f"rolled back with nodes {words}"
    for number, node in enumerate(state.nodes, 1):
        children = {each.state for each in node.sub_tasks}
        if node.state == "FAILED" and node.operator != "CANCEL" and "FAILED" not in children:
            yield f"node {number} is FAILED over {children}"
        if node.state == "SUCCEED" and "FAILED" in children:
            yield f"node {number} is SUCCEED over {children}"
        if node.state == "SUCCEED" and node.operator != "ROLLBACK" and children != {"SUCCEED"}:
            yield f"node {number} is SUCCEED/{node.operator} over {children}"


def finished_means_ended_and_not_under_maintenance(plan: DagScript, state: DagState) -> Iterator[str]:
    """SUCCEED always; FAILED unless it is a maintenance dag."""
    is_over = state.state == "SUCCEED" or (state.state == "FAILED" and not plan.is_maintenance)
    if state.is_finished != is_over:
        yield f"{state.state} with is_finished {state.is_finished}"


def times_fit_the_state(plan: DagScript, state: DagState) -> Iterator[str]:
    """READY again: both epoch. RUNNING: started. Ended: start, then end, the dag's after all."""
    del plan
    if state.state == "READY" and {state.start_time, state.end_time} not in ({0}, {None}):
        yield f"READY with times {state.start_time}, {state.end_time}"
    if state.state == "RUNNING" and (state.start_time is None or state.end_time not in {0, None}):
        yield f"RUNNING with times {state.start_time}, {state.end_time}"
    here = state.nodes[state.stage - 1]
    if state.state in FINAL and (here.end_time or 0) > (state.end_time or 0):
        yield f"{state.state} at {state.end_time}, its node at {here.end_time}"
    for number, node in enumerate(state.nodes, 1):
        is_reset = node.state == "PENDING" and node.operator != "RUN"
        if is_reset != (node.end_time is None):
            yield f"node {number} {node.state}/{node.operator} with end {node.end_time}"
        things: list[NodeState | SubTaskState] = [node, *node.sub_tasks]
        for thing in (each for each in things if each.state in FINAL):
            if thing.end_time is None or (thing.start_time or 0) > thing.end_time:
                yield f"in node {number}: {thing.start_time} to {thing.end_time}"
    if state.state in FINAL and (state.start_time or 0) > (state.end_time or 0):
        yield f"{state.state} from {state.start_time} to {state.end_time}"


def logs_tell_all_runs(plan: DagScript, state: DagState) -> Iterator[str]:
    """None for one that never ran; else the lines of its runs in order, whole where it ended."""
    for number, node in enumerate(state.nodes):
        for place, each in enumerate(node.sub_tasks):
            script = plan.nodes[number].sub_tasks[place]
            shown = task_logs_at(each, state.at + PROMPTLY)
            if each.state == "PENDING" and shown is not None:
                yield f"a log of a sub task that never ran: {shown}"
            if not each.runs or each.state == "RUNNING":
                continue
            whole: list[str] = []
            for index, run in enumerate(each.runs):
                lines = list(attempt_of(script, each.runs, index).log)
                if is_cancelled(run):
                    lines = [line for line in lines if line in (shown or ())]
                whole += [*map(str, lines), *([run.last_words] if run.last_words else [])]
            if shown is None or list(shown) != whole:
                yield f"sub task {number + 1}.{place + 1} shows {shown}, not {whole}"
