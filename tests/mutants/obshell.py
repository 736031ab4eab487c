"""obshell, broken in one way each. ``rules`` are those of which one has to name it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from mutants.bending import Answer, Mutant, bent, on, patched, replacing, replacing_in
from oceanmock.clock import SECOND
from oceanmock.errors import IllegalOperator
from oceanmock.obshell import bodies as writer
from oceanmock.obshell import handlers as room
from oceanmock.obshell import machine
from oceanmock.obshell.states import DagState, NodeState, SubTaskState

Json = dict[str, Any]
DETAILS: Final = ("getDagDetail", "getAgentLastMaintenanceDag", "getObLastMaintenanceDag")


# --- answers that are bent ------------------------------------------------------------------------


@on(*DETAILS, status=200)
def _without_stage(answer: Answer) -> None:
    del answer.said["data"]["stage"]


@on(*DETAILS, "getNodeDetail", "getSubTaskDetail", status=200)
def _successful(answer: Answer) -> None:
    answer.said["data"]["state"] = answer.said["data"]["state"].replace("SUCCEED", "SUCCESSFUL")


@on(*DETAILS, status=200)
def _ids_as_text(answer: Answer) -> None:
    answer.said["data"]["dag_id"] = str(answer.said["data"]["dag_id"])


@on()
def _code_in_place_of_err_code(answer: Answer) -> None:
    if "error" in answer.said and "errCode" in answer.said["error"]:
        answer.said["error"]["errCode"] = 1002


@on("dagHandler", status=200)
def _accepted(answer: Answer) -> None:
    answer.status = answer.said["status"] = 202


@on()
def _as_text(answer: Answer) -> None:
    answer.content_type = "text/plain"


@on()
def _never_successful(answer: Answer) -> None:
    answer.said["successful"] = False


@on("getDagDetail", status=200)
def _succeeded_over_what_runs(answer: Answer) -> None:
    dag = answer.said["data"]
    if any(node["state"] == "RUNNING" for node in dag["nodes"] or ()):
        dag["state"] = "SUCCEED"


@on("getDagDetail", status=200)
def _a_stage_too_many(answer: Answer) -> None:
    answer.said["data"]["stage"] += 1


@on("getAllAgentDags", "getUnfinishedDags", "getAgentUnfinishDags", status=200)
def _running_in_lists(answer: Answer) -> None:
    for dag in answer.said["data"]["contents"] or ():
        dag["state"] = "RUNNING"


@on("dagHandler", status=400)
def _one_err_code_for_all(answer: Answer) -> None:
    answer.said["error"]["errCode"] = "Common.IllegalArgument"


@on("getDagDetail", status=404)
def _unknown_is_a_crash(answer: Answer) -> None:
    answer.status = answer.said["status"] = 500


@on("getNodeDetail", status=200)
def _nodes_of_another(answer: Answer) -> None:
    answer.said["data"]["id"] = f"{answer.said['data']['id']}1"


# --- rooms that do something else -----------------------------------------------------------------


def _nobody_is_asked(self: Any, call: Any) -> frozenset[str]:
    return frozenset()


def _first_run_only(state: SubTaskState, instant: int) -> tuple[str, ...] | None:
    return machine.task_logs_at(replace(state, runs=state.runs[:1]), instant)


# --- machines that go otherwise -------------------------------------------------------------------

_OPERATORS: Final = dict(machine._OPERATORS)


def _whatever_its_state(operator: Any) -> Any:
    """An operator that takes a dag for FAILED, or RUNNING, as it likes it."""

    def operate(plan: Any, dag: DagState, instant: int) -> DagState:
        try:
            return _OPERATORS[operator](plan, dag, instant)
        except IllegalOperator:
            return machine._restarted(dag, "RUN", dag.nodes)

    return operate


def _whatever_its_flags(operator: Any) -> Any:
    """An operator that asks no node whether it may."""

    def operate(plan: Any, dag: DagState, instant: int) -> DagState:
        everything = frozenset(("cancel", "continue", "pass", "retry", "rollback"))
        nodes = tuple(replace(node, can=everything) for node in plan.nodes)
        return _OPERATORS[operator](replace(plan, nodes=nodes), dag, instant)

    return operate


def _retry_that_stays_failed(plan: Any, dag: DagState, instant: int) -> DagState:
    return replace(_OPERATORS["RETRY"](plan, dag, instant), state="FAILED")


def _cancel_that_does_nothing(plan: Any, dag: DagState, instant: int) -> DagState:
    _OPERATORS["CANCEL"](plan, dag, instant)
    return dag


def _pass_that_waits(plan: Any, dag: DagState, instant: int) -> DagState:
    return replace(_OPERATORS["PASS"](plan, dag, instant), state="RUNNING", operator="RUN")


_START: Final = machine._start_run


def _not_counted(plan: Any, sub_task: SubTaskState, operator: Any, timeout: int, instant: int) -> SubTaskState:
    started = _START(plan, sub_task, operator, timeout, instant)
    return replace(started, execute_times=max(sub_task.execute_times, 1))


_MOVE: Final = machine._move_on


def _always_up(plan: Any, dag: DagState, node: NodeState, instant: int) -> DagState:
    """A rollback that goes up: first what failed, and then the rest from the first node on."""
    if dag.operator != "ROLLBACK" or node.state != "SUCCEED":
        return _MOVE(plan, dag, node, instant)
    for stage, each in enumerate(dag.nodes, start=1):
        if (each.state, each.operator) == ("PENDING", "ROLLBACK") and stage != dag.stage:
            return replace(dag, stage=stage)
    return _MOVE(plan, replace(dag, stage=1), node, instant)


def _first_node_first(plan: Any, dag: DagState, instant: int) -> DagState:
    """A rollback that begins with the first node."""
    return replace(_OPERATORS["ROLLBACK"](plan, dag, instant), stage=1)


_UNFOLD: Final = machine._unfold


def _a_relapse(plan: Any, rules: Any, dag: DagState) -> Iterator[DagState]:
    """What has succeeded fails five seconds later."""
    *before, last = _UNFOLD(plan, rules, dag)
    yield from before
    yield last
    if last.state == "SUCCEED" and last.operator == "RUN":
        yield replace(last, at=last.at + 5 * SECOND, state="FAILED")


def _row(operator: str, effect: Any) -> Any:
    return replacing_in(machine._OPERATORS, {operator: effect})


def _mutant(name: str, says: str, broken: Any, *rules: str) -> Mutant:
    return Mutant(name, "obshell", says, frozenset(rules), broken)


_ALL: Final = ("RETRY", "ROLLBACK", "CANCEL", "PASS")

MUTANTS: Final = (
    _mutant("missing-field", "a dag has no stage", bent("obshell", _without_stage), "schema.required"),
    _mutant("other-enum", "a state is SUCCESSFUL", bent("obshell", _successful), "schema.enum"),
    _mutant("id-as-text", "dag_id is a text", bent("obshell", _ids_as_text), "schema.type"),
    _mutant("err-code-as-number", "errCode is a number", bent("obshell", _code_in_place_of_err_code), "schema.type"),
    _mutant("accepted", "an operator is answered 202", bent("obshell", _accepted), "status.undocumented"),
    _mutant("text", "answers are text/plain", bent("obshell", _as_text), "content-type"),
    _mutant("never-successful", "no answer is successful", bent("obshell", _never_successful), "envelope.successful"),
    _mutant(
        "parent-out-of-step",
        "SUCCEED over a RUNNING node",
        bent("obshell", _succeeded_over_what_runs),
        "parent.out-of-step",
    ),
    _mutant("stage-too-many", "the stage is one too high", bent("obshell", _a_stage_too_many), "parent.stage"),
    _mutant(
        "list-differs",
        "lists say RUNNING of everything",
        bent("obshell", _running_in_lists),
        "list.differs-from-detail",
    ),
    _mutant(
        "one-err-code-for-all",
        "an illegal operator has no errCode of its own",
        bent("obshell", _one_err_code_for_all),
        "error.code",
    ),
    _mutant("crash", "an unknown id is 500", bent("obshell", _unknown_is_a_crash), "hostile.500"),
    _mutant("another-id", "a node has another id than was asked for", bent("obshell", _nodes_of_another), "id.differs"),
    _mutant(
        "no-auth",
        "nobody is asked who he is",
        patched(replacing(room.ServiceFactory, "verify", _nobody_is_asked)),
        "auth.missing-accepted",
    ),
    _mutant(
        "stale-log",
        "a log never leaves its first run",
        patched(replacing(writer, "task_logs_at", _first_run_only)),
        "log.stale",
    ),
    _mutant(
        "any-operator",
        "an operator is accepted in any state",
        patched(*[_row(each, _whatever_its_state(each)) for each in _ALL]),
        "call.illegal-accepted",
    ),
    _mutant(
        "flags-ignored",
        "no node is asked whether it may",
        patched(*[_row(each, _whatever_its_flags(each)) for each in _ALL]),
        "call.flag-ignored",
    ),
    _mutant(
        "retry-stays-failed",
        "a dag stays FAILED when it is retried",
        patched(_row("RETRY", _retry_that_stays_failed)),
        "parent.out-of-step",
        "call.no-effect",
    ),
    _mutant(
        "cancel-that-does-nothing",
        "a cancel changes nothing",
        patched(_row("CANCEL", _cancel_that_does_nothing)),
        "call.no-effect",
    ),
    _mutant("pass-that-waits", "a passed dag is RUNNING", patched(_row("PASS", _pass_that_waits)), "call.wrong-effect"),
    _mutant(
        "runs-not-counted",
        "execute_times stays at 1",
        patched(replacing(machine, "_start_run", _not_counted)),
        "count.not-bumped",
    ),
    _mutant(
        "rollback-upwards", "a rollback goes up", patched(replacing(machine, "_move_on", _always_up)), "rollback.order"
    ),
    _mutant(
        "rollback-from-the-start",
        "a rollback begins with the first node",
        patched(_row("ROLLBACK", _first_node_first)),
        "rollback.order",
    ),
    _mutant(
        "relapse", "what succeeded fails later", patched(replacing(machine, "_unfold", _a_relapse)), "terminal.moved"
    ),
    _mutant(
        "id-of-another-kind",
        "a dag answers to any spelling of its id",
        patched(replacing(room.ServiceFactory, "_check_id", lambda *_: None)),
        "id.spelling",
    ),
)
