"""What may be done to an obshell dag or node over HTTP, and in what words it is refused.

What an operator does is lifecycle's to test; here is who refuses it, in which order, and what is
read of its body. The worlds stand still, and nothing a refusal touches changes.
"""

from __future__ import annotations

import pytest

from obshell_world import (
    DAG,
    FOREIGN,
    LOCAL,
    NO_MATCH,
    NODE,
    NOT_FOUND,
    NOT_HELD,
    TASK,
    failed,
    flagged,
    operate,
    plain,
    said,
    world,
)
from served import MILLISECOND, SECOND

# --- what a state or a flag does not allow --------------------------------------------------------


ALL = "cancel, retry, rollback, pass"
NODE_A, NODE_B, NODE_C = (f"{TASK}/node/{LOCAL}{number}" for number in (401, 402, 403))


@pytest.mark.parametrize(
    ("path", "operator", "after", "answer"),
    [
        (DAG, "ROLLBACK", 0, (400, "Task.Dag.Operator.RollbackNotFailedDag",
                              "Failed to set DAG rollback: DAG state is not failed")),
        (DAG, "RETRY", 3, (400, "Task.Dag.Operator.RetryNotFailedDag",
                           "Failed to set DAG retry: DAG state is not failed")),
        (DAG, "CANCEL", 4, (400, "Task.Dag.Operator.CancelFinishedDag",
                            "Failed to cancel DAG: DAG is finished")),
        (DAG, "PASS", 3, (400, "Task.Dag.Operator.PassNotFailedDag",
                          "Failed to pass DAG: DAG is not failed")),
        (NODE_B, "PASS", 3, (400, "Task.Node.Operator.PassNotFailedDag",
                             "Failed to pass node: assigned DAG is not failed")),
        (NODE_A, "PASS", 5, (400, "Task.Node.Operator.PassNotFailedNode",
                             "Failed to pass node: node A is not failed")),
        (NODE_C, "PASS", 5, (400, "Task.Node.Operator.PassNotFailedNode",
                             "Failed to pass node: node C is not failed")),
    ],
)  # fmt: skip
def test_an_operator_is_refused_where_the_state_does_not_allow_it(
    path: str, operator: str, *, after: int, answer: tuple[int, str, str]
) -> None:
    sandbox = world(flagged(ALL, ALL, ALL))
    sandbox.advance(after * SECOND + MILLISECOND)
    ask = plain(sandbox)
    before = ask("GET", DAG).json()["data"]

    refused = operate(ask, path, operator)

    assert said(refused) == answer
    assert ask("GET", DAG).json()["data"] == before


@pytest.mark.parametrize(
    ("operator", "nodes", "code", "message"),
    [
        ("ROLLBACK", ("retry", ALL, ALL), "RollbackNotAllowed",
         "Failed to set DAG rollback: node A cannot rollback"),
        ("ROLLBACK", (ALL, "retry", ALL), "RollbackNotAllowed",
         "Failed to set DAG rollback: node B cannot rollback"),
        ("ROLLBACK", ("", "", ""), "RollbackNotAllowed",
         "Failed to set DAG rollback: node A cannot rollback"),
        ("RETRY", (ALL, "rollback", ALL), "RetryNotAllowed",
         "Failed to set DAG retry: node B cannot retry"),
        ("PASS", (ALL, "retry", ""), "PassNotAllowed",
         "Failed to pass DAG: node B cannot pass"),
        ("PASS", ("", "pass", "retry"), "PassNotAllowed",
         "Failed to pass DAG: node C cannot pass"),
    ],
)  # fmt: skip
def test_the_first_node_without_the_flag_is_named(
    operator: str, nodes: tuple[str, str, str], *, code: str, message: str
) -> None:
    sandbox = world(flagged(*nodes))
    sandbox.advance(5 * SECOND)

    refused = operate(plain(sandbox), DAG, operator)

    assert said(refused) == (400, f"Task.Dag.Operator.{code}", message)


@pytest.mark.parametrize(
    ("nodes", "after", "name"), [(("", ALL, ALL), 0, "A"), (("retry", "", ALL), 3, "A"), ((ALL, "retry", ALL), 3, "B")]
)
def test_a_cancel_asks_every_node_up_to_the_one_that_runs(
    nodes: tuple[str, str, str], *, after: int, name: str
) -> None:
    sandbox = world(flagged(*nodes))
    sandbox.advance(after * SECOND)

    refused = operate(plain(sandbox), DAG, "CANCEL")

    assert said(refused) == (
        400,
        "Task.Dag.Operator.CancelNotAllowed",
        f"Failed to cancel DAG: node {name} cannot cancel",
    )


@pytest.mark.parametrize(
    ("path", "operator", "nodes", "after"),
    [
        (DAG, "ROLLBACK", ("rollback", "rollback", ""), 5),
        (DAG, "RETRY", ("", "retry", ""), 5),
        (DAG, "CANCEL", ("cancel", "", ""), 0),
        (DAG, "PASS", ("", "pass", "pass"), 5),
        (NODE_B, "PASS", ("", "pass", ""), 5),
    ],
)
def test_no_other_flag_is_asked_for(path: str, operator: str, nodes: tuple[str, str, str], *, after: int) -> None:
    sandbox = world(flagged(*nodes))
    sandbox.advance(after * SECOND)

    assert operate(plain(sandbox), path, operator).status_code == 200


def test_a_node_that_cannot_be_passed_is_named() -> None:
    sandbox = world(flagged(ALL, "retry", ALL))
    sandbox.advance(5 * SECOND)

    refused = operate(plain(sandbox), NODE_B, "PASS")

    assert said(refused) == (400, "Task.Node.Operator.PassNotAllowed", "Failed to pass node: node B cannot pass")


@pytest.mark.parametrize(
    ("path", "operator", "code"),
    [
        (DAG, "RUN", "Task.Dag.Operator.NotSupport"),
        (DAG, "run away", "Task.Dag.Operator.NotSupport"),
        (DAG, " RETRY ", "Task.Dag.Operator.NotSupport"),
        (DAG, "ретрай", "Task.Dag.Operator.NotSupport"),
        (NODE, "RETRY", "Task.Node.Operator.NotSupport"),
        (NODE, "PASS\n", "Task.Node.Operator.NotSupport"),
    ],
)
def test_an_operator_the_route_does_not_know_is_told_as_it_was_sent(path: str, operator: str, code: str) -> None:
    refused = operate(plain(failed()), path, operator)

    assert said(refused) == (400, code, f"Operator {operator} is not supported")


@pytest.mark.parametrize(
    ("path", "operator"), [(DAG, "RETRY"), (DAG, "retry"), (DAG, "rollBack"), (NODE, "PASS"), (NODE, "pass")]
)
def test_an_operator_may_be_written_in_any_case(path: str, operator: str) -> None:
    answer = operate(plain(failed()), path, operator)

    assert answer.status_code == 200
    assert "data" not in answer.json()


@pytest.mark.parametrize(("operator", "shown"), [("ROLLBACK", ("READY", "ROLLBACK")), ("RETRY", ("READY", "RUN"))])
def test_the_next_answer_no_longer_shows_the_failure(operator: str, shown: tuple[str, str]) -> None:
    ask = plain(failed())

    operate(ask, DAG, operator)

    dag = ask("GET", DAG).json()["data"]
    assert (dag["state"], dag["operator"]) == shown
    assert dag["start_time"] == dag["end_time"] == "1970-01-01T00:00:00Z"


# --- the order of the checks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "body", "answer"),
    [
        ("abc", "nonsense", (400, "Task.GenericID.Invalid", "Invalid ID: abc: invalid generic id")),
        (f"{FOREIGN}4", "nonsense", (400, "Common.BindJsonFailed", "Bind JSON failed: EOF")),
        (f"{LOCAL}9", "nonsense", (400, "Common.BindJsonFailed", "Bind JSON failed: EOF")),
        (f"{LOCAL}9", '{"operator": "RUN"}', NOT_FOUND),
        (f"{LOCAL}04", '{"operator": "RUN"}', NO_MATCH),
        (f"{LOCAL}4", '{"operator": "RUN"}',
         (400, "Task.Dag.Operator.NotSupport", "Operator RUN is not supported")),
        ("11", '{"operator": "RUN"}', NOT_HELD),
    ],
)  # fmt: skip
def test_on_a_dag_the_first_mistake_is_told(id: str, body: str, answer: tuple[int, str, str]) -> None:
    refused = plain(failed())("POST", f"{TASK}/dag/{id}", content=body)

    assert said(refused) == answer


def test_on_a_dag_the_owner_comes_before_the_operator() -> None:
    refused = operate(plain(failed()), f"{TASK}/dag/{FOREIGN}4", "RUN")

    assert said(refused)[2].startswith('Post "http://10.0.0.2:2886/')


@pytest.mark.parametrize(
    ("id", "body", "answer"),
    [
        ("abc", "nonsense", (400, "Task.GenericID.Invalid", "Invalid ID: abc: invalid generic id")),
        (f"{LOCAL}9", "nonsense", (400, "Common.BindJsonFailed", "Bind JSON failed: EOF")),
        (f"{FOREIGN}9", '{"operator": "RUN"}',
         (400, "Task.Node.Operator.NotSupport", "Operator RUN is not supported")),
        (f"{LOCAL}9", '{"operator": "RUN"}',
         (400, "Task.Node.Operator.NotSupport", "Operator RUN is not supported")),
        ("11", '{"operator": "PASS"}', NOT_HELD),
        (f"{LOCAL}9", '{"operator": "PASS"}', NOT_FOUND),
    ],
)  # fmt: skip
def test_on_a_node_the_operator_comes_before_the_lookup(id: str, body: str, answer: tuple[int, str, str]) -> None:
    refused = plain(failed())("POST", f"{TASK}/node/{id}", content=body)

    assert said(refused) == answer


# --- what is read of a body -----------------------------------------------------------------------

MISSING = "Key: 'DagOperator.Operator' Error:Field validation for 'Operator' failed on the 'required' tag"
NO_ID = MISSING.replace("DagOperator.Operator", "DagOperator.DagDetailDTO.GenericDTO.GenericID").replace(
    "for 'Operator'", "for 'GenericID'"
)
WRONG_FIELD = "json: cannot unmarshal {} into Go struct field DagOperator.DagDetailDTO.{} of type {}"
WRONG_TYPE = "json: cannot unmarshal {} into Go struct field DagOperator.operator of type string"


@pytest.mark.parametrize("path", [DAG, NODE])
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", MISSING),
        ("{}", MISSING),
        ("null", MISSING),
        ('{"operator": null}', MISSING),
        ('{"operator": ""}', MISSING),
        ('{"operators": "RETRY"}', MISSING),
        ('{"operator": 1}', WRONG_TYPE.format("number")),
        ('{"operator": true}', WRONG_TYPE.format("bool")),
        ('{"operator": ["RETRY"]}', WRONG_TYPE.format("array")),
        ('{"operator": {}}', WRONG_TYPE.format("object")),
        ('{"operator": "PASS", "id": ""}', NO_ID),
        ('{"id": ""}', f"{NO_ID}\n{MISSING}"),
        ('{"operator": "PASS", "id": 4}', WRONG_FIELD.format("number", "GenericDTO.id", "string")),
        ('{"operator": "PASS", "stage": "1"}', WRONG_FIELD.format("string", "DagDetail.stage", "int")),
        ('{"operator": "PASS", "state": 1}', WRONG_FIELD.format("number", "DagDetail.TaskStatusDTO.state", "string")),
        ("[]", "EOF"),
        ('"RETRY"', "EOF"),
        ('{"operator":', "EOF"),
        (" ", "EOF"),
        ('{"operator": "RETRY"} {}', "EOF"),
    ],
)
def test_a_body_without_an_operator_is_refused_in_the_words_of_go(path: str, body: str, why: str) -> None:
    refused = plain(failed())("POST", path, content=body)

    assert said(refused) == (400, "Common.BindJsonFailed", f"Bind JSON failed: {why}")


@pytest.mark.parametrize(
    "body",
    [
        '{"OPERATOR": "RETRY"}',
        '{"operator": "RUN", "Operator": "RETRY"}',
        '{"operator": "RETRY", "operator": null}',
        '{"operator": "RETRY", "force": [1, {"a": null}]}',
        '{"operator": "RETRY", "id": null, "stage": 2, "additional_data": null, "nodes": []}',
        ' \n{"operator": "RETRY"}\n ',
    ],
)
def test_a_body_is_read_as_go_reads_it(body: str) -> None:
    ask = plain(failed())

    answer = ask("POST", DAG, content=body, headers={"content-type": "text/plain"})

    assert answer.status_code == 200


def test_a_node_does_not_mind_an_id_in_the_body() -> None:
    answer = plain(failed())("POST", NODE, json={"operator": "PASS", "id": f"{LOCAL}1"})

    assert answer.status_code == 200


def test_a_node_that_ends_on_the_tick_that_starts_it_ends_after_its_start() -> None:
    """Each is written down by itself (ob/agent/service/task/node.go:208, 232)."""
    sandbox = world(flagged(ALL, ALL, ALL))
    ask = plain(sandbox)
    operate(ask, DAG, "CANCEL")
    sandbox.advance(3 * SECOND)
    operate(ask, DAG, "ROLLBACK")
    sandbox.advance(3 * SECOND)

    dag = ask("GET", DAG).json()["data"]
    (skipped, *_) = dag["nodes"]
    shown = (dag["start_time"], skipped["start_time"], skipped["end_time"], dag["end_time"])
    times = [time.removesuffix("Z") for time in shown]

    assert (skipped["operator"], skipped["sub_tasks"][0]["execute_times"]) == ("ROLLBACK", 0)
    assert times == sorted({*times})
