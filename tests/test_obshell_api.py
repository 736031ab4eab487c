"""apis/obshell.py: what obshell answers, field by field, text by text, in plain JSON.

Whole answers are kept in tests/golden. What the machine does is lifecycle's to test, and that the
answers are a real server's is test_obshell_replay's; here each rule stands by itself.
"""

from __future__ import annotations

import json
import socket
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Ask, sandbox_of
from golden import assert_golden
from obshell_world import (
    DAG,
    FOREIGN,
    INIT,
    LOCAL,
    LOGS,
    NO_MATCH,
    NODE,
    NOT_FOUND,
    NOT_HELD,
    PANIC,
    SUB_TASK,
    TASK,
    UNKNOWN,
    UNKNOWN_PATH,
    failed,
    guarded,
    ids,
    operate,
    plain,
    said,
    world,
)
from oceanmock.clock import MILLISECOND, SECOND
from oceanmock.contract import load_spec, operations_of, spec_path
from oceanmock.contracts_app import MAX_BODY_BYTES
from oceanmock.scenario.obshell import QUIRKS, Identity

# --- whole answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("golden", "after", "path"),
    [
        ("obshell_dag_just_born.json", 0, DAG),
        ("obshell_dag_failed.json", 10, DAG),
        ("obshell_dag_without_details.json", 10, f"{DAG}?show_details=false"),
        ("obshell_node.json", 10, NODE),
        ("obshell_sub_task.json", 10, SUB_TASK),
        ("obshell_logs.json", 10, LOGS),
        ("obshell_unknown_dag.json", 10, UNKNOWN),
        ("obshell_wrong_id.json", 10, f"{TASK}/dag/<&>"),
    ],
)
def test_an_answer_is_this_text(golden: str, *, after: int, path: str) -> None:
    sandbox = sandbox_of(INIT)
    sandbox.clock.advance(after * SECOND)

    assert_golden(golden, plain(sandbox)("GET", path).text + "\n")


def test_an_operator_is_answered_with_this_text() -> None:
    assert_golden("obshell_retried.json", operate(plain(failed()), DAG, "RETRY").text + "\n")


def test_what_html_and_scripts_would_misread_is_escaped_as_go_does() -> None:
    sandbox = world(r'[{id: 1, nodes: [{name: "<a href=\"x\"> & \L\P é"}]}]')

    text = plain(sandbox)("GET", f"{TASK}/node/{LOCAL}101").text

    assert r"\u003ca href=\"x\"\u003e \u0026 \u2028\u2029 é" in text


# --- operators: what a state or a flag does not allow ---------------------------------------------


def flags(first: str, second: str, third: str) -> str:
    """A dag 4 whose nodes A, B and C can do this; B fails."""
    return f"""[{{id: 4, nodes: [
      {{name: A, can: [{first}]}},
      {{name: B, can: [{second}], sub_tasks: {{ends: FAILED}}}},
      {{name: C, can: [{third}]}}]}}]"""


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
    sandbox = world(flags(ALL, ALL, ALL))
    sandbox.clock.advance(after * SECOND + MILLISECOND)
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
    sandbox = world(flags(*nodes))
    sandbox.clock.advance(5 * SECOND)

    refused = operate(plain(sandbox), DAG, operator)

    assert said(refused) == (400, f"Task.Dag.Operator.{code}", message)


@pytest.mark.parametrize(
    ("nodes", "after", "name"),
    [(("", ALL, ALL), 0, "A"), (("retry", "", ALL), 3, "A"), ((ALL, "retry", ALL), 3, "B")],
)
def test_a_cancel_asks_every_node_up_to_the_one_that_runs(
    nodes: tuple[str, str, str], *, after: int, name: str
) -> None:
    sandbox = world(flags(*nodes))
    sandbox.clock.advance(after * SECOND)

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
def test_no_other_flag_is_asked_for(
    path: str, operator: str, nodes: tuple[str, str, str], *, after: int
) -> None:
    sandbox = world(flags(*nodes))
    sandbox.clock.advance(after * SECOND)

    assert operate(plain(sandbox), path, operator).status_code == 200


def test_a_node_that_cannot_be_passed_is_named() -> None:
    sandbox = world(flags(ALL, "retry", ALL))
    sandbox.clock.advance(5 * SECOND)

    refused = operate(plain(sandbox), NODE_B, "PASS")

    assert said(refused) == (
        400,
        "Task.Node.Operator.PassNotAllowed",
        "Failed to pass node: node B cannot pass",
    )


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
def test_an_operator_the_route_does_not_know_is_told_as_it_was_sent(
    path: str, operator: str, code: str
) -> None:
    refused = operate(plain(failed()), path, operator)

    assert said(refused) == (400, code, f"Operator {operator} is not supported")


@pytest.mark.parametrize("operator", ["RETRY", "retry", "Retry", "rEtRy"])
def test_an_operator_may_be_written_in_any_case(operator: str) -> None:
    answer = operate(plain(failed()), DAG, operator)

    assert answer.status_code == 200
    assert "data" not in answer.json()


@pytest.mark.parametrize(
    ("operator", "shown"),
    [
        ("ROLLBACK", ("READY", "ROLLBACK")),
        ("RETRY", ("READY", "RUN")),
    ],
)
def test_the_next_answer_no_longer_shows_the_failure(operator: str, shown: tuple[str, str]) -> None:
    ask = plain(failed())

    operate(ask, DAG, operator)

    dag = ask("GET", DAG).json()["data"]
    assert (dag["state"], dag["operator"]) == shown
    assert dag["start_time"] == dag["end_time"] == "1970-01-01T00:00:00Z"


# --- operators: the order of the checks -----------------------------------------------------------


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
def test_on_a_dag_the_first_mistake_is_told(
    id: str, body: str, answer: tuple[int, str, str]
) -> None:
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
def test_on_a_node_the_operator_comes_before_the_lookup(
    id: str, body: str, answer: tuple[int, str, str]
) -> None:
    refused = plain(failed())("POST", f"{TASK}/node/{id}", content=body)

    assert said(refused) == answer


# --- operators: what is read of a body ------------------------------------------------------------

MISSING = (
    "Key: 'DagOperator.Operator' Error:Field validation for 'Operator' failed on the 'required' tag"
)
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
        ("[]", "EOF"),
        ('"RETRY"', "EOF"),
        ('{"operator":', "EOF"),
        (" ", "EOF"),
        ('{"operator": "RETRY"} {}', "EOF"),
    ],
)
def test_a_body_without_an_operator_is_refused_in_the_words_of_go(
    path: str, body: str, why: str
) -> None:
    refused = plain(failed())("POST", path, content=body)

    assert said(refused) == (400, "Common.BindJsonFailed", f"Bind JSON failed: {why}")


@pytest.mark.parametrize(
    "body",
    [
        '{"OPERATOR": "RETRY"}',
        '{"operator": "RUN", "Operator": "RETRY"}',
        '{"operator": "RETRY", "operator": null}',
        '{"operator": "RETRY", "force": [1, {"a": null}]}',
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


# --- ids ------------------------------------------------------------------------------------------

ROUTES = ["dag/{}", "node/{}", "sub_task/{}", "sub_task/{}/logs"]
PARSING = "Invalid ID: {}: strconv.ParseInt: parsing {}"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("1", "Invalid ID: 1"),
        ("2", "Invalid ID: 2"),
        (LOCAL, f"Invalid ID: {LOCAL}"),
        ("3" + "0" * 44, "Invalid ID: 3" + "0" * 44),
        ("abc", "Invalid ID: abc: invalid generic id"),
        ("6123", "Invalid ID: 6123: invalid generic id"),
        ("2x130706433028864", "Invalid ID: 2x130706433028864: convert id to bigInt failed"),
        ("29999999999028864", "Invalid ID: 29999999999028864: convert id to ip failed"),
        ("2213070643302x864", "Invalid ID: 2213070643302x864: parse port failed"),
        (f"{LOCAL}x", PARSING.format(f"{LOCAL}x", '"x": invalid syntax')),
        (f"{LOCAL}%0a", PARSING.format(f"{LOCAL}\n", r'"\n": invalid syntax')),
        (f"{LOCAL}9223372036854775808",
         PARSING.format(f"{LOCAL}9223372036854775808",
                        '"9223372036854775808": value out of range')),
        ("1x", PARSING.format("1x", '"x": invalid syntax')),
    ],
)  # fmt: skip
def test_a_text_that_is_no_id_is_refused_in_the_server_s_words(
    route: str, id: str, message: str
) -> None:
    refused = plain(failed())("GET", f"{TASK}/{route.format(id)}")

    assert said(refused) == (400, "Task.GenericID.Invalid", message)


@pytest.mark.parametrize("tail", ["04", "+4", "0000000004"])
def test_a_dag_s_id_has_one_spelling(tail: str) -> None:
    ask = plain(failed())

    assert said(ask("GET", f"{TASK}/dag/{LOCAL}{tail}")) == NO_MATCH
    assert said(operate(ask, f"{TASK}/dag/{LOCAL}{tail}", "RETRY")) == NO_MATCH


def test_a_node_s_and_a_sub_task_s_ids_have_many() -> None:
    ask = plain(failed())

    node = ask("GET", f"{TASK}/node/{LOCAL}0402").json()["data"]
    sub_task = ask("GET", f"{TASK}/sub_task/{LOCAL}+40201").json()["data"]

    assert (node["node_id"], sub_task["task_id"]) == (402, 40201)
    assert node["id"] == f"{LOCAL}402"


@pytest.mark.parametrize("tail", ["-1", "0", "9", "9223372036854775807"])
@pytest.mark.parametrize("route", ROUTES[:3])
def test_a_number_that_none_has_is_not_found(route: str, tail: str) -> None:
    answer = plain(failed())("GET", f"{TASK}/{route.format(LOCAL + tail)}")

    assert said(answer) == NOT_FOUND


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (f"dag/4{LOCAL[1:]}4", "dag id not match"),
        (f"node/4{LOCAL[1:]}402", "node type not match"),
        (f"sub_task/4{LOCAL[1:]}40201", "sub task type not match"),
    ],
)
def test_an_id_of_obproxy_does_not_name_what_is_the_agent_s(path: str, why: str) -> None:
    answer = plain(failed())("GET", f"{TASK}/{path}")

    assert said(answer) == (404, "Task.NotFound", f"Task not found: {why}")


def test_the_ids_of_an_obproxy_dag_begin_with_4() -> None:
    ask = plain(world("[{id: 7, maintenance: obproxy, nodes: [A]}]"))

    dag = ask("GET", f"{TASK}/dag/4{LOCAL[1:]}7").json()["data"]
    node = ask("GET", f"{TASK}/node/{dag['nodes'][0]['id']}")

    assert dag["id"] == f"4{LOCAL[1:]}7"
    assert dag["maintenance_type"] == 4
    assert node.json()["data"]["id"] == dag["nodes"][0]["id"] == f"4{LOCAL[1:]}701"


def test_the_ids_of_an_agent_that_speaks_ipv6_begin_with_3() -> None:
    ask = plain(world("[{id: 7, nodes: [A]}]", head='agent: {ip: "fe80::1", port: 2886}'))
    id = f"3{0xFE80 << 112 | 1:039}028867"

    dag = ask("GET", f"{TASK}/dag/{id}").json()["data"]

    assert dag["id"] == id
    assert dag["nodes"][0]["sub_tasks"][0]["execute_agent"] == {"ip": "fe80::1", "port": 2886}


def test_one_text_names_a_dag_on_one_route_and_a_node_on_another() -> None:
    ask = plain(world("[{id: 5, name: D, nodes: [{id: 5, name: N, sub_tasks: {id: 5, name: S}}]}]"))

    names = [
        ask("GET", f"{TASK}/{kind}/{LOCAL}5").json()["data"]["name"]
        for kind in ("dag", "node", "sub_task")
    ]

    assert names == ["D", "N", "S"]


# --- ids of another agent -------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever dials, or asks for an address, fails the test."""

    def dialled(*_: Any, **__: Any) -> None:
        raise AssertionError("something was dialled")

    monkeypatch.setattr(socket.socket, "connect", dialled)
    monkeypatch.setattr(socket.socket, "connect_ex", dialled)
    monkeypatch.setattr(socket, "create_connection", dialled)
    monkeypatch.setattr(socket, "getaddrinfo", dialled)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("route", ROUTES)
def test_another_agent_s_id_is_answered_as_if_that_did_not_answer(route: str) -> None:
    target = f"{TASK}/{route.format(FOREIGN)}4?show_details=false".replace("/logs4", "4/logs")

    answer = plain(failed())("GET", target)

    assert said(answer) == (
        500,
        "Common.Unexpected",
        f'Get "http://10.0.0.2:2886{target}": dial tcp 10.0.0.2:2886: connect: connection refused',
    )


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("kind", "operator"), [("dag", "RETRY"), ("node", "PASS")])
def test_an_operator_for_another_agent_is_a_post_to_it(kind: str, operator: str) -> None:
    target = f"{TASK}/{kind}/{FOREIGN}4"

    answer = operate(plain(failed()), target, operator)

    assert said(answer)[2].startswith(f'Post "http://10.0.0.2:2886{target}": dial tcp')


@pytest.mark.usefixtures("no_network")
def test_another_agent_s_ipv6_address_is_in_brackets() -> None:
    target = f"{TASK}/dag/3{0xFE80 << 112 | 2:039}028864"

    answer = plain(failed())("GET", target)

    assert said(answer)[2] == (
        f'Get "http://[fe80::2]:2886{target}": dial tcp [fe80::2]:2886: connect: connection refused'
    )


@pytest.mark.usefixtures("no_network")
def test_an_agent_on_another_port_is_another_agent() -> None:
    answer = plain(failed())("GET", f"{TASK}/dag/22130706433028874")

    assert said(answer)[2].endswith("dial tcp 127.0.0.1:2887: connect: connection refused")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("route", ROUTES)
def test_an_obproxy_id_of_another_agent_is_not_found(route: str) -> None:
    id = f"4{FOREIGN[1:]}4"

    answer = plain(failed())("GET", f"{TASK}/{route.format(id)}")

    assert said(answer) == (404, "Task.NotFound", "Task not found: obproxy task not found")


# --- lists ----------------------------------------------------------------------------------------

KINDS = """[
  {id: 3, name: Succeeds, maintenance: global, nodes: [A]},
  {id: 1, name: Fails, nodes: [{sub_tasks: {ends: FAILED}}]},
  {id: 5, name: Runs, nodes: [{sub_tasks: {takes: forever}}]},
  {id: 4, name: Fails with the lock, maintenance: global, nodes: [{sub_tasks: {ends: FAILED}}]},
  {id: 2, name: Is obproxy's and fails, maintenance: obproxy,
   nodes: [{sub_tasks: {ends: FAILED}}]}]"""


@pytest.fixture
def ask_kinds() -> Ask:
    sandbox = world(KINDS)
    sandbox.clock.advance(60 * SECOND)
    return plain(sandbox)


@pytest.mark.parametrize(
    ("route", "numbers"),
    [
        ("dags/agent", [1, 2, 3, 4, 5]),
        ("dag/unfinish", [2, 4, 5]),
        ("dag/agent/unfinish", [2, 4, 5]),
        ("dag/maintain/agents", [4]),
        ("dag/agent/main_dags", []),
    ],
)
def test_a_list_has_these_dags_by_ascending_number(
    ask_kinds: Ask, route: str, numbers: list[int]
) -> None:
    assert ids(ask_kinds("GET", f"{TASK}/{route}")) == numbers


@pytest.mark.parametrize("route", ["dags/agent", "dag/unfinish", "dag/agent/unfinish",
                                   "dag/maintain/agents"])  # fmt: skip
@pytest.mark.parametrize(
    ("query", "shows"),
    [
        ("", True), ("?show_details=true", True), ("?show_details=True", True),
        ("?show_details=1", True), ("?show_details=T&show_details=0", True),
        ("?show_details=false", False), ("?show_details=False", False),
        ("?show_details=0", False), ("?show_details=", False), ("?show_details", False),
    ],
)  # fmt: skip
def test_a_list_shows_nodes_where_details_are_asked_for(
    ask_kinds: Ask, route: str, query: str, *, shows: bool
) -> None:
    dags = ask_kinds("GET", f"{TASK}/{route}{query}").json()["data"]["contents"]

    assert {dag["nodes"] is not None for dag in dags} == {shows}


@pytest.mark.parametrize("junk", ["maybe", "yes", "tRUE", "01", " true", "%ff", "true%00"])
@pytest.mark.parametrize(
    "path", [DAG, NODE, f"{TASK}/dags/agent", f"{TASK}/dag/unfinish", f"{TASK}/dag/maintain/agent"]
)
def test_show_details_that_go_cannot_read_is_a_panic(path: str, junk: str) -> None:
    answer = plain(failed())("GET", f"{path}?show_details={junk}")

    assert said(answer) == PANIC
    assert answer.json()["traceId"] == ""


@pytest.mark.parametrize(
    ("query", "shows"),
    [
        ("show_details=%zz", True),
        ("show_details=false;a=1", True),
        ("show_details=%", True),
        ("show_details=%zz&show_details=false", False),
        ("show%5Fdetails=%66alse", False),
        ("Show_Details=false", True),
        ("a=%zz&&=&show_details=0", False),
    ],
)
def test_a_field_of_a_query_that_go_cannot_read_is_passed_over(query: str, *, shows: bool) -> None:
    dag = plain(failed())("GET", f"{DAG}?{query}").json()["data"]

    assert (dag["nodes"] is not None) is shows


def test_a_sub_task_does_not_mind_show_details() -> None:
    ask = plain(failed())

    answer = ask("GET", f"{SUB_TASK}?show_details=maybe")

    assert answer.json()["data"] == ask("GET", SUB_TASK).json()["data"]


@pytest.mark.parametrize(
    ("route", "answer"),
    [("dags/agent", (200, {"contents": []})), ("dag/unfinish", (500, None))],
)
def test_a_list_of_nothing_reads_show_details_only_where_the_server_does(
    route: str, answer: tuple[int, Any]
) -> None:
    sandbox = world("[{scope: cluster, nodes: [A]}]", head="agent: {identity: CLUSTER AGENT}")

    got = plain(sandbox)("GET", f"{TASK}/{route}?show_details=maybe")

    assert (got.status_code, got.json().get("data")) == answer


def test_the_agent_s_last_maintenance_is_its_newest_finished_or_not(ask_kinds: Ask) -> None:
    dag = ask_kinds("GET", f"{TASK}/dag/maintain/agent").json()["data"]

    assert (dag["dag_id"], dag["state"]) == (4, "FAILED")


def test_an_agent_that_was_never_maintained_has_no_last_maintenance() -> None:
    answer = plain(world("[{nodes: [A]}]"))("GET", f"{TASK}/dag/maintain/agent")

    assert said(answer) == (404, "Task.NotFound", "Task not found: Agent is not under maintenance")


# --- a cluster agent ------------------------------------------------------------------------------

CLUSTER = """[
  {id: 1, name: Of the agent, maintenance: global, nodes: [{sub_tasks: {takes: forever}}]},
  {id: 2, name: Succeeds, scope: cluster, maintenance: global, nodes: [A]},
  {id: 1, name: Locks a tenant, scope: cluster, maintenance: {tenant: t1},
   nodes: [{name: A, can: pass, sub_tasks: {ends: FAILED}}]},
  {id: 3, name: Locks nothing, scope: cluster, nodes: [{sub_tasks: {takes: forever}}]}]"""
HOLDER = "agent: {identity: CLUSTER AGENT}"


@pytest.fixture
def ask_cluster() -> Ask:
    sandbox = world(CLUSTER, head=HOLDER)
    sandbox.clock.advance(60 * SECOND)
    return plain(sandbox)


def test_a_cluster_dag_s_id_is_a_1_and_its_number(ask_cluster: Ask) -> None:
    dag = ask_cluster("GET", f"{TASK}/dag/13").json()["data"]

    assert (dag["id"], dag["name"]) == ("13", "Locks nothing")
    assert dag["nodes"][0]["id"] == "1301"
    assert ask_cluster("GET", f"{TASK}/sub_task/130101").json()["data"]["id"] == "130101"


def test_agent_and_cluster_count_their_dags_apart(ask_cluster: Ask) -> None:
    names = [
        ask_cluster("GET", f"{TASK}/dag/{id}").json()["data"]["name"] for id in ("11", f"{LOCAL}1")
    ]

    assert names == ["Locks a tenant", "Of the agent"]


def test_a_tenant_s_lock_is_named(ask_cluster: Ask) -> None:
    dag = ask_cluster("GET", f"{TASK}/dag/11").json()["data"]

    assert (dag["maintenance_type"], dag["maintenance_key"]) == (3, "t1")


@pytest.mark.parametrize(
    ("route", "shown"),
    [
        ("dags/ob", ["11", "12", "13"]),
        ("dag/ob/unfinish", ["11", "13"]),
        ("dag/unfinish", [f"{LOCAL}1", "11", "13"]),
        ("dag/agent/unfinish", [f"{LOCAL}1"]),
        ("dags/agent", [f"{LOCAL}1"]),
    ],
)
def test_a_cluster_agent_lists_the_agent_s_dags_before_the_cluster_s(
    ask_cluster: Ask, route: str, shown: list[str]
) -> None:
    dags = ask_cluster("GET", f"{TASK}/{route}").json()["data"]["contents"]

    assert [dag["id"] for dag in dags] == shown


def test_the_cluster_s_last_maintenance_is_its_newest(ask_cluster: Ask) -> None:
    assert ask_cluster("GET", f"{TASK}/dag/maintain/ob").json()["data"]["id"] == "12"


def test_a_cluster_that_was_never_maintained_has_no_last_maintenance() -> None:
    answer = plain(world("[{nodes: [A]}]", head=HOLDER))("GET", f"{TASK}/dag/maintain/ob")

    assert said(answer) == (
        404,
        "Task.NotFound",
        "Task not found: Cluster is not under maintenance",
    )


def test_where_nothing_is_unfinished_a_cluster_agent_says_null_and_others_an_empty_list() -> None:
    lone, holder = world("[{nodes: [A]}]"), world("[{nodes: [A]}]", head=HOLDER)
    for sandbox in (lone, holder):
        sandbox.clock.advance(10 * SECOND)

    lists = [
        plain(sandbox)("GET", f"{TASK}/dag/unfinish").json()["data"] for sandbox in (lone, holder)
    ]

    assert lists == [{"contents": []}, {"contents": None}]


def test_a_cluster_dag_is_operated_by_its_id(ask_cluster: Ask) -> None:
    answer = operate(ask_cluster, f"{TASK}/node/1101", "PASS")

    assert answer.status_code == 200
    assert ask_cluster("GET", f"{TASK}/dag/11").json()["data"]["state"] == "READY"


@pytest.mark.parametrize("identity", ["SCALING OUT", "SCALING IN", "UNIDENTIFIED"])
def test_an_agent_on_its_way_does_not_say_what_is_unfinished(identity: str) -> None:
    sandbox = world("[{nodes: [A]}]", head=f"agent: {{identity: {identity}}}")

    answer = plain(sandbox)("GET", f"{TASK}/dag/unfinish")

    assert said(answer) == (
        500,
        "Agent.Identify.Unknown",
        f"Agent identify is unknown: {identity}",
    )


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ("dag/11", "Task not found: Agent is not holding OceanBase"),
        ("node/11", "Task not found: Agent is not holding OceanBase"),
        ("sub_task/11", "Task not found: Agent is not holding OceanBase"),
        ("sub_task/11/logs", "Agent is not holding OceanBase"),
        ("dag/maintain/ob", "Agent is not holding OceanBase"),
    ],
)
def test_an_agent_without_oceanbase_says_so(route: str, message: str) -> None:
    answer = plain(failed())("GET", f"{TASK}/{route}")

    assert said(answer) == (500, "Agent.OceanBase.NotHold", message)


# --- main dags ------------------------------------------------------------------------------------


def working_for(*ids: str, ends: str = "FAILED") -> Ask:
    """Asks an agent whose last maintenance dag, 9, has one sub task for each main dag."""
    sub_tasks = ", ".join(
        f"{{ends: {ends}, additional_data: {{main_dag_id: '{id}'}}}}" for id in ids
    )
    sandbox = world(f"""[
      {{id: 1, name: Main, nodes: [{{name: A, sub_tasks: {{additional_data: {{a: 1}}}}}}]}},
      {{id: 2, name: Another, nodes: [A]}},
      {{id: 9, maintenance: global, nodes: [{{sub_tasks: [{sub_tasks}]}}]}}]""")
    sandbox.clock.advance(60 * SECOND)
    return plain(sandbox)


def test_the_main_dag_is_the_one_the_last_maintenance_dag_works_for() -> None:
    ask = working_for(f"{LOCAL}1")

    main = ask("GET", f"{TASK}/dag/agent/main_dags").json()["data"]["contents"]

    assert main == [ask("GET", f"{TASK}/dag/{LOCAL}1").json()["data"]]


def test_of_two_main_dags_the_last_one_named_is_told() -> None:
    ask = working_for(f"{LOCAL}1", f"{LOCAL}2")

    assert ids(ask("GET", f"{TASK}/dag/agent/main_dags")) == [2]


@pytest.mark.parametrize("id", [f"{LOCAL}8", f"{LOCAL}01", f"{FOREIGN}1", "11", "abc", ""])
def test_a_main_dag_that_cannot_be_had_is_left_out(id: str) -> None:
    assert ids(working_for(id)("GET", f"{TASK}/dag/agent/main_dags")) == []


def test_a_maintenance_dag_that_succeeded_works_for_none_any_more() -> None:
    ask = working_for(f"{LOCAL}1", ends="SUCCEED")

    assert ids(ask("GET", f"{TASK}/dag/agent/main_dags")) == []


def test_main_dags_are_not_found_without_details() -> None:
    ask = working_for(f"{LOCAL}1")

    assert ids(ask("GET", f"{TASK}/dag/agent/main_dags?show_details=false")) == []


# --- additional data ------------------------------------------------------------------------------


def data_shown(*nodes: str, of: str = "dag", number: str = "4") -> Any:
    """The additional data of a dag, or a part of it; each node is its sub tasks in YAML."""
    listed = ", ".join(f"{{sub_tasks: {each}}}" for each in nodes)
    ask = plain(world(f"[{{id: 4, nodes: [{listed}]}}]"))
    return ask("GET", f"{TASK}/{of}/{LOCAL}{number}").json()["data"]["additional_data"]


NOTHING = "{takes: 1ms}"


@pytest.mark.parametrize(
    ("nodes", "shown"),
    [
        ([NOTHING], None),
        ([f"[{NOTHING}, {NOTHING}]"], {}),
        ([NOTHING, NOTHING], {}),
        (["{additional_data: {a: 1}}"], {"a": 1}),
        (["{additional_data: {a: 1}}", "{additional_data: {b: 2}}", NOTHING], {"a": 1, "b": 2}),
        (["{additional_data: {a: 1}}", "{additional_data: {a: 2}}"], {"a": 2}),
        (["{additional_data: {a: 1}}", "{additional_data: {a: null}}"], {"a": 1}),
        (["[{additional_data: {a: [1]}}, {additional_data: {a: [2]}}]"], {"a": [1, 2]}),
        (["{additional_data: {a: {b: 1, c: 1}}}", "{additional_data: {a: {b: 2}}}"],
         {"a": {"b": 2, "c": 1}}),
    ],
)  # fmt: skip
def test_a_dag_shows_the_data_of_its_sub_tasks_together(nodes: list[str], shown: Any) -> None:
    assert data_shown(*nodes) == shown


def test_a_node_shows_the_data_of_its_own() -> None:
    nodes = ["[{additional_data: {a: 1}}, {additional_data: {b: 2}}]", "{additional_data: {c: 3}}"]

    assert data_shown(*nodes, of="node", number="401") == {"a": 1, "b": 2}


def test_a_sub_task_shows_its_own_data() -> None:
    assert data_shown("{additional_data: {a: 1}}", of="sub_task", number="40101") == {"a": 1}
    assert data_shown(NOTHING, of="sub_task", number="40101") is None


def test_only_what_is_answered_itself_shows_data() -> None:
    ask = plain(world("[{id: 4, nodes: [{sub_tasks: {additional_data: {a: 1}}}]}]"))

    dag = ask("GET", DAG).json()["data"]

    assert dag["additional_data"] == {"a": 1}
    assert dag["nodes"][0]["additional_data"] is None
    assert dag["nodes"][0]["sub_tasks"][0]["additional_data"] is None


def test_the_keys_of_additional_data_are_sorted_as_go_sorts_them() -> None:
    ask = plain(
        world("[{id: 4, nodes: [{sub_tasks: {additional_data: {b: {d: 1, c: 2}, a: 3}}}]}]")
    )

    texts = [ask("GET", path).text for path in (DAG, f"{TASK}/sub_task/{LOCAL}40101")]

    assert all('"additional_data":{"a":3,"b":{"c":2,"d":1}}' in text for text in texts)


def test_data_of_two_types_under_one_key_are_a_panic() -> None:
    ask = plain(
        world("""[{id: 4, nodes: [
      {sub_tasks: {additional_data: {a: 1}}}, {sub_tasks: {additional_data: {a: x}}}]}]""")
    )

    assert said(ask("GET", DAG)) == PANIC
    assert ask("GET", f"{DAG}?show_details=false").status_code == 200


# --- logs -----------------------------------------------------------------------------------------


def test_the_lines_of_a_sub_task_are_null_before_it_runs_and_come_as_it_does() -> None:
    ask_after = {}
    for name, after in {"before": 0, "while": 1_001, "after": 5_000}.items():
        sandbox = world("[{id: 4, nodes: [{sub_tasks: {takes: 1s, log: [one, two]}}]}]")
        sandbox.clock.advance(after * MILLISECOND)
        answer = plain(sandbox)("GET", f"{TASK}/sub_task/{LOCAL}40101")
        ask_after[name] = answer.json()["data"]["task_logs"]

    assert ask_after == {"before": None, "while": ["one"], "after": ["one", "two"]}


def test_a_sub_task_that_ran_and_said_nothing_has_no_lines() -> None:
    sandbox = world("[{id: 4, nodes: [A]}]")
    sandbox.clock.advance(5 * SECOND)
    ask = plain(sandbox)

    assert ask("GET", f"{TASK}/sub_task/{LOCAL}40101").json()["data"]["task_logs"] == []
    assert ask("GET", f"{TASK}/sub_task/{LOCAL}40101/logs").json()["data"] == {"contents": []}


def test_the_lines_of_all_runs_are_told_and_which_run_wrote_them() -> None:
    sandbox = failed()
    ask = plain(sandbox)
    operate(ask, DAG, "RETRY")
    sandbox.clock.advance(10 * SECOND)

    lines = ask("GET", LOGS).json()["data"]["contents"]

    error = "ERROR: [Common.Unexpected]: Unexpected error: exit status 127"
    assert [(line["execute_times"], line["log_content"]) for line in lines] == [
        (1, "start observer"),
        (1, error),
        (3, "start observer"),
        (3, error),
    ]
    assert [line["log_content"] for line in lines] == ask("GET", SUB_TASK).json()["data"][
        "task_logs"
    ]


# --- the envelope ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [DAG, UNKNOWN, f"{TASK}/nope", "/api/v1/info"])
def test_a_trace_id_is_taken_from_the_request(path: str) -> None:
    answer = plain(failed())("GET", path, headers={"X-OBSHELL-Trace-ID": "my trace"})

    assert answer.json()["traceId"] == "my trace"


def test_every_other_trace_id_is_sixteen_digits_of_its_own() -> None:
    ask = plain(failed())

    traces = {ask("GET", DAG).json()["traceId"] for _ in range(3)}

    assert len(traces) == 3
    assert all(len(trace) == 16 and int(trace, 16) >= 0 for trace in traces)


@pytest.mark.parametrize("path", [DAG, UNKNOWN, f"{TASK}/nope", f"{NODE}?show_details=false"])
def test_status_and_content_type_go_with_the_body(path: str) -> None:
    answer = plain(failed())("GET", path)

    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["successful"] is answer.is_success
    assert answer.headers["content-type"] == "application/json"
    assert list(body) == [
        *("successful", "timestamp", "duration", "status", "traceId"),
        "data" if answer.is_success else "error",
    ]


# --- what a client reads first --------------------------------------------------------------------


def test_info_says_who_the_agent_is() -> None:
    head = "agent: {ip: 10.0.0.2, port: 2887, identity: FOLLOWER, agent_password: secret}"
    answer = plain(world("[{nodes: [A]}]", head=head))("GET", "/api/v1/info")

    info = answer.json()["data"]

    assert {key: info[key] for key in ("ip", "port", "identity", "version", "security")} == {
        "ip": "10.0.0.2",
        "port": 2887,
        "identity": "FOLLOWER",
        "version": "4.5.0.0-1",
        "security": True,
    }
    assert info["supportedAuth"] == ["v2"]


@pytest.mark.parametrize(
    ("after", "is_locked"), [(0, True), (3, True), (10, True), (20, False)]
)  # the lock stays with a failed dag until it is rolled back
def test_status_says_whether_the_agent_is_under_maintenance(after: int, *, is_locked: bool) -> None:
    sandbox = sandbox_of(INIT)
    ask = plain(sandbox)
    sandbox.clock.advance(min(after, 10) * SECOND)
    operate(ask, DAG, "ROLLBACK")
    sandbox.clock.advance(max(after - 10, 0) * SECOND)

    assert ask("GET", "/api/v1/status").json()["data"]["underMaintenance"] is is_locked


@pytest.mark.parametrize("path", ["info", "secret", "time", "git-info", "status"])
def test_what_comes_before_the_credentials_asks_for_none(path: str) -> None:
    answer = guarded(failed())("GET", f"/api/v1/{path}")

    assert answer.status_code == 200
    assert answer.json()["data"]


# --- what HTTP brings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", DAG), ("DELETE", DAG), ("PATCH", DAG), ("OPTIONS", DAG),
        ("POST", SUB_TASK), ("POST", LOGS), ("POST", f"{TASK}/dags/agent"),
        ("POST", "/api/v1/info"),
        ("GET", TASK), ("GET", f"{TASK}/"), ("GET", f"{TASK}/dag"), ("GET", f"{TASK}/nope"),
        ("GET", f"{DAG}/nope"), ("GET", f"{SUB_TASK}/log"), ("GET", f"{TASK}//dag/{LOCAL}4"),
        ("GET", f"{TASK}/dag//"), ("GET", "/api/v1/nope"), ("GET", "/api/v1"), ("GET", "/api/v1/"),
        ("GET", "/api/v1x"), ("TRACE", DAG), ("BREW", DAG), ("GET", f"{TASK}/dag/a%2fb"),
        ("DELETE", f"{DAG}/"),
    ],
)  # fmt: skip
def test_what_no_route_answers_is_an_element_not_found(method: str, path: str) -> None:
    assert said(plain(failed())(method, path)) == UNKNOWN_PATH


def test_head_is_answered_as_an_unknown_path_without_a_body() -> None:
    answer = plain(failed())("HEAD", DAG)

    assert (answer.status_code, answer.content) == (404, b"")


@pytest.mark.parametrize("query", ["", "?show_details=false", "?a=1&b=%3C&c=it's"])
@pytest.mark.parametrize("path", [DAG, NODE, LOGS, f"{TASK}/dags/agent", f"{TASK}/dag"])
def test_a_get_with_a_slash_too_much_is_sent_to_the_path_without(path: str, query: str) -> None:
    answer = plain(failed())("GET", f"{path}/{query}")

    where = f"{path}{query}"
    assert (answer.status_code, answer.headers["location"]) == (301, where)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    link = where.replace("&", "&amp;").replace("'", "&#39;")
    assert answer.text == f'<a href="{link}">Moved Permanently</a>.\n\n'


def test_a_post_with_a_slash_too_much_is_to_be_sent_again() -> None:
    answer = operate(plain(failed()), f"{DAG}/?a=1", "RETRY")

    assert (answer.status_code, answer.headers["location"]) == (307, f"{DAG}?a=1")
    assert answer.content == b""


def test_a_body_over_the_limit_is_refused_in_the_envelope() -> None:
    answer = plain(failed())("POST", DAG, content=b" " * (MAX_BODY_BYTES + 1))

    assert said(answer) == (413, "Request.Body.TooLarge", "The request body is too large.")


@pytest.mark.parametrize(
    "id",
    ["9" * 8000, "1" + "9" * 8000, "1" + "0" * 8000, "2" + "9" * 8000, LOCAL + "0" * 8000 + "4",
     "3" * 8000, "%ff%fe", "%00", "%F0%9D%9F%9A2130706433028864", f"{LOCAL}%EF%BC%94",
     "%252e", "%22%3C%26", "..", "%2e%2e", "-1", "+", "1-", "2-213070643028864", "é", "%20",
     "1%0a", "22130706433-02864", "22130706433+02864", "2+130706433028864"],
)  # fmt: skip
@pytest.mark.parametrize("route", ROUTES)
def test_no_id_is_too_strange_to_be_refused(route: str, id: str) -> None:
    answer = plain(failed())("GET", f"{TASK}/{route.format(id)}")

    refused = answer.status_code in (400, 404)
    assert refused or "NotHold" in answer.text or "dial tcp" in answer.text


@pytest.mark.parametrize("path", [DAG, NODE])
@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe", b'{"operator": "\xff"}', b'{"operator": "\\ud800"}', b"[" * 100_000,
     b'{"operator": ' + b'{"a":' * 100_000, b'{"a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
     b'{"operator": "' + b"x" * 100_000 + b'"}', b'{"operator": 1e999}', b"\x00", b"\xef\xbb\xbf{}",
     b'{"operator": ' + b"9" * 10_000 + b"}", b"NaN", b'{"operator": Infinity}', b"{" * 10],
)  # fmt: skip
def test_no_body_is_too_strange_to_be_refused(path: str, body: bytes) -> None:
    answer = plain(failed())("POST", path, content=body)

    assert answer.status_code == 400
    assert json.loads(answer.text)["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [{"X-OBSHELL-Trace-ID": "x" * 5000}, {"X-OBSHELL-Trace-ID": b"\xff"},
     {"Accept-Language": "zh-CN"}, {"Accept": "text/plain"}, {"Content-Type": "nonsense"},
     {"X-OCS-Header": "nonsense"}],
)  # fmt: skip
def test_no_header_is_too_strange_to_be_answered(headers: dict[str, str]) -> None:
    assert plain(failed())("GET", DAG, headers=headers).status_code == 200


# --- the contract ---------------------------------------------------------------------------------

OPERATIONS = operations_of(load_spec(spec_path("obshell")))
HOLDING = (
    INIT
    + """
  - id: 1
    name: Locks a tenant
    scope: cluster
    maintenance: {tenant: t1}
    nodes: [{sub_tasks: {additional_data: {a: 1}}}, {sub_tasks: {additional_data: {a: x}}}]
agent: {identity: CLUSTER AGENT}
"""
)
TAILS = ["4", "402", "40201", "04", "9", "-1", "x"]
IDS = [f"{start}{tail}" for start in (LOCAL, f"4{LOCAL[1:]}", FOREIGN, "1", "6") for tail in TAILS]


@settings(max_examples=150)
@given(
    operation=st.sampled_from(OPERATIONS),
    id=st.sampled_from(IDS),
    query=st.sampled_from(["", "?show_details=false", "?show_details=maybe"]),
    operator=st.sampled_from(["ROLLBACK", "RETRY", "CANCEL", "PASS", "RUN", None]),
    after=st.integers(0, 10_000),
    identity=st.sampled_from(get_args(Identity)),
    quirks_off=st.lists(st.sampled_from(["all", *QUIRKS]), max_size=3, unique=True),
)
def test_no_answer_breaks_the_contract(
    *,
    operation: Any,
    id: str,
    query: str,
    operator: str | None,
    after: int,
    identity: str,
    quirks_off: list[str],
) -> None:
    is_holder = identity == "CLUSTER AGENT"
    text = HOLDING if is_holder else f"{INIT}\nagent: {{identity: {identity}}}"
    sandbox = sandbox_of(f"{text}\nswitches: {{quirks_off: [{', '.join(quirks_off)}]}}")
    sandbox.clock.advance(after * MILLISECOND)
    body = json.dumps({"operator": operator}) if operation.method == "POST" else None

    path = operation.path.replace("{id}", id) + query
    answer = plain(sandbox)(operation.method, path, content=body)

    assert str(answer.status_code) in operation.statuses
    assert "breaks the contract" not in answer.text
