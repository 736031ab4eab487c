"""Further broken servers: what only somebody sees who operates, and looks what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from mutants.bending import Answer, Mutant, bent, on, patched, replacing, replacing_in
from oceanmock.clock import SECOND
from oceanmock.engine.machine import Parts, Upcoming
from oceanmock.errors import CallerError
from oceanmock.obshell import handlers as obshell_room
from oceanmock.obshell import machine as obshell
from oceanmock.obshell.errors import ObshellError
from oceanmock.obshell.world import Dags
from oceanmock.ocp import handlers as ocp_room
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import world as ocp_world
from oceanmock.ocp.states import TaskScript, TaskState
from oceanmock.ocp.world import Tasks

# --- OCP ------------------------------------------------------------------------------------------


@on("retryTask", "retrySubtask", "rollbackTask", status=400)
def _conflict(answer: Answer) -> None:
    answer.status = answer.said["status"] = 409


@on("rollbackTask", status=400)
def _no_reason(answer: Answer) -> None:
    answer.said["error"]["code"] = 20003


_ATTEMPT: Final = ocp._attempt_of


def _skip_runs(plan: Any, subtask: Any) -> Any:
    """A skip that is called one, and runs what it should skip."""
    return plan.attempts[0] if subtask.operation == "SKIP" else _ATTEMPT(plan, subtask)


def _long_skip(plan: Any, subtask: Any) -> Any:
    attempt = _ATTEMPT(plan, subtask)
    return replace(attempt, takes=60 * SECOND) if subtask.operation == "SKIP" else attempt


_TICK: Final = ocp._task_tick


def _without_finish_time(task: Any) -> None:
    before = task.status
    _TICK(task)
    if task.status != before:
        task.finish_time = None


def _with_first_finish_time(task: Any) -> None:
    first = task.finish_time
    _TICK(task)
    if first is not None:
        task.finish_time = first


_VERDICT: Final = ocp._verdict


def _without_verdict(task: Any) -> Any:
    verdict = _VERDICT(task)
    return None if verdict == "SUCCESSFUL" else verdict


class _WithoutOrder(ocp._Simulation):
    """Subtasks that wait for nothing."""

    def __init__(self, script: TaskScript, state: TaskState) -> None:
        independent = tuple(replace(subtask, needs=()) for subtask in script.subtasks)
        super().__init__(replace(script, subtasks=independent), state)


_CHANGE: Final = ocp_room.ServiceFactory.change


def _answers_with_what_was(room: Any, call: Any, *, route: Any) -> Any:
    """The task as it was before its retry."""
    if route.id != "retryTask":
        return _CHANGE(room, call, route=route)
    before = call.sandbox.world(Tasks).view(call.parameters["taskInstanceId"])
    ocp_world.operate(call.sandbox, before.data.id, "RETRY")
    return room._respond(call, ocp_room._task_json(before, "full"))


def _answers_with_old_subtask(room: Any, call: Any, *, route: Any) -> Any:
    """The subtask as it was before its retry."""
    if route.id != "retrySubtask":
        return _CHANGE(room, call, route=route)
    view, place = call.sandbox.world(Tasks).view_subtask(*ocp_room._pair(call))
    ocp_world.operate_subtask(call.sandbox, *ocp_room._pair(call), "RETRY")
    subtask, state = view.data.subtasks[place], view.state.subtasks[place]
    return room._respond(call, ocp_room._subtask(view.data, subtask, state))


_OPERATE: Final = Tasks.operate


def _refusals_cost_a_run(tasks: Any, key: int, operation: Any, position: int | None, at: int) -> Any:
    """What is refused is counted all the same."""
    try:
        return _OPERATE(tasks, key, operation, position, at)
    except CallerError:
        view = tasks.view(key)
        life = tasks.history_of(key)
        counted = Parts(each._replace(run_time=each.run_time + 1) for each in view.state.subtasks)
        state = replace(view.state, subtasks=counted)
        states = tuple(state if each is view.state else each for each in life.states)
        tasks._histories[view.data.id] = replace(life, past=(), upcoming=Upcoming(states))
        raise


def _rollback_counts(plan: Any, rules: Any, state: Any, position: int) -> Any:
    after = ocp._roll_back(plan, rules, state, position)
    counted = Parts(each._replace(run_time=each.run_time + 1) for each in after.subtasks)
    return replace(after, subtasks=counted)


_REFUSAL: Final = ocp._refusal


def _refuses_skip(operation: Any, state: Any, rules: Any, subtask: int | None) -> Any:
    if operation == "SKIP" and subtask is not None:
        return state.subtasks[subtask].status
    return _REFUSAL(operation, state, rules, subtask)


def _ocp(name: str, says: str, rule: str, *broken: Any) -> Mutant:
    return Mutant(name, "ocp", says, frozenset({rule}), patched(*broken))


OCP: Final = (
    Mutant("refusal-is-409", "ocp", "what is illegal is 409", frozenset({"error.status"}), bent("ocp", _conflict)),
    Mutant(
        "prohibited-has-no-code",
        "ocp",
        "a forbidden rollback has the code of an illegal one",
        frozenset({"error.code"}),
        bent("ocp", _no_reason),
    ),
    _ocp("skip-runs", "a skip runs what it skips", "call.skip-runs", replacing(ocp, "_attempt_of", _skip_runs)),
    _ocp("skip-takes-a-minute", "a skip takes its time", "call.skip-runs", replacing(ocp, "_attempt_of", _long_skip)),
    _ocp(
        "no-finish-time", "a task has no finishTime", "time.finish", replacing(ocp, "_task_tick", _without_finish_time)
    ),
    _ocp(
        "first-finish-time",
        "a task keeps its first finishTime",
        "time.not-renewed",
        replacing(ocp, "_task_tick", _with_first_finish_time),
    ),
    _ocp("no-verdict", "a task never succeeds", "parent.stuck", replacing(ocp, "_verdict", _without_verdict)),
    _ocp("no-order", "subtasks wait for nothing", "order.forward", replacing(ocp, "_Simulation", _WithoutOrder)),
    _ocp(
        "old-task",
        "a retry is answered with the task as it was",
        "call.no-effect",
        replacing(ocp_room.ServiceFactory, "change", _answers_with_what_was),
    ),
    _ocp(
        "old-subtask",
        "a retry is answered with the subtask as it was",
        "call.no-effect",
        replacing(ocp_room.ServiceFactory, "change", _answers_with_old_subtask),
    ),
    _ocp(
        "refusals-count",
        "a refused operation counts runs",
        "count.unasked",
        replacing(Tasks, "operate", _refusals_cost_a_run),
    ),
    _ocp(
        "rollback-counts",
        "a rollback counts runTime",
        "count.unasked",
        replacing_in(ocp._TASK_OPERATIONS, {"ROLLBACK": _rollback_counts}),
    ),
    _ocp("no-skip", "nothing can be skipped", "call.legal-refused", replacing(ocp, "_refusal", _refuses_skip)),
)

# --- obshell --------------------------------------------------------------------------------------

_MOVE: Final = obshell._move_on


def _without_end_time(plan: Any, dag: Any, node: Any, instant: int) -> Any:
    after = _MOVE(plan, dag, node, instant)
    return after if after.state == "RUNNING" else replace(after, end_time=None)


def _cancel_fails_nothing(node: Any, instant: int) -> Any:
    """The node goes on as if it had not been cancelled."""
    return replace(node, operator="RUN")


_PASS: Final = obshell._pass_node


def _passes_any_node(plan: Any, dag: Any, position: int, instant: int) -> Any:
    everything = frozenset({"cancel", "continue", "pass", "retry", "rollback"})
    nodes = tuple(replace(node, can=everything) for node in plan.nodes)
    return _PASS(replace(plan, nodes=nodes), dag, position, instant)


_HANDLE: Final = obshell_room.ServiceFactory.operate_dag


def _takes_any_operator(room: Any, call: Any) -> Any:
    """An operator that it does not know is answered as if it had been done."""
    try:
        return _HANDLE(room, call)
    except ObshellError as refusal:
        if refusal.err_code == "Task.Dag.Operator.NotSupport":
            return room._succeed(call)
        raise


_OPERATE_DAG: Final = Dags.operate


def _refusals_restart(dags: Any, key: Any, operator: Any, node: int | None, at: int) -> Any:
    """What is refused moves the stage all the same."""
    try:
        return _OPERATE_DAG(dags, key, operator, node, at)
    except CallerError:
        life, now = dags._histories[key], dags.clock.now() - dags._data[key].created
        shown = obshell.view_at(life, now)
        stage = shown.stage % len(shown.nodes) + 1
        states = tuple(replace(each, stage=stage) if each is shown else each for each in life.states)
        dags._histories[key] = replace(life, past=(), upcoming=Upcoming(states))
        raise


_RETRY: Final = obshell._retry


def _retries_its_first_node(plan: Any, dag: Any, instant: int) -> Any:
    after = _RETRY(plan, dag, instant)
    first = replace(after.nodes[0], state="PENDING", operator="RETRY")
    return replace(after, nodes=Parts((first, *tuple(dag.nodes)[1:])), stage=1)


def _obshell(name: str, says: str, rule: str, *broken: Any) -> Mutant:
    return Mutant(name, "obshell", says, frozenset({rule}), patched(*broken))


OBSHELL: Final = (
    _obshell(
        "no-end-time",
        "a dag has no end_time",
        "time.start-after-finish",
        replacing(obshell, "_move_on", _without_end_time),
    ),
    _obshell(
        "cancel-goes-on",
        "what is cancelled goes on",
        "transition.illegal",
        replacing(obshell, "_cancelled", _cancel_fails_nothing),
    ),
    _obshell(
        "any-node-passes",
        "a node is passed whether it can or not",
        "call.flag-ignored",
        replacing(obshell, "_pass_node", _passes_any_node),
    ),
    _obshell(
        "any-operator-at-all",
        "an operator that there is not is accepted",
        "call.unknown-accepted",
        replacing(obshell_room.ServiceFactory, "operate_dag", _takes_any_operator),
    ),
    _obshell(
        "refusals-move",
        "a refused operator moves the stage",
        "terminal.moved",
        replacing(Dags, "operate", _refusals_restart),
    ),
    _obshell(
        "retry-from-the-start",
        "a retry begins with the first node",
        "terminal.moved",
        replacing_in(obshell._OPERATORS, {"RETRY": _retries_its_first_node}),
    ),
)
