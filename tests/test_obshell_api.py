"""apis/obshell.py: what obshell answers, field by field, text by text, in plain JSON.

Whole answers are kept in tests/golden. What the machine does is lifecycle's to test, and that the
answers are a real server's is test_obshell_replay's; here each rule stands by itself. Operators,
lists, and what is refused before any of that, have files of their own.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract_file import ContractFile
from golden import assert_golden
from obshell_world import (
    DAG,
    FOREIGN,
    INIT,
    LOCAL,
    LOGS,
    NODE,
    PANIC,
    SUB_TASK,
    TASK,
    UNKNOWN,
    failed,
    guarded,
    operate,
    plain,
    said,
    world,
)
from scenario_schema import identities, quirks
from served import MILLISECOND, SECOND, World

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
    sandbox = World(INIT)
    sandbox.advance(after * SECOND)

    assert_golden(golden, plain(sandbox)("GET", path).text + "\n")


def test_an_operator_is_answered_with_this_text() -> None:
    assert_golden("obshell_retried.json", operate(plain(failed()), DAG, "RETRY").text + "\n")


def test_what_html_and_scripts_would_misread_is_escaped_as_go_does() -> None:
    sandbox = world(r'[{id: 1, nodes: [{name: "<a href=\"x\"> & \L\P é"}]}]')

    text = plain(sandbox)("GET", f"{TASK}/node/{LOCAL}101").text

    assert r"\u003ca href=\"x\"\u003e \u0026 \u2028\u2029 é" in text


def test_a_sub_task_says_which_agent_does_it() -> None:
    nodes = "[{sub_tasks: [{agent: {ip: 10.0.0.2, port: 2887}}, {agent: {ip: fe80::1}}, {}]}]"

    node = plain(world(f"[{{id: 4, nodes: {nodes}}}]"))("GET", f"{TASK}/node/{LOCAL}401")

    assert [each["execute_agent"] for each in node.json()["data"]["sub_tasks"]] == [
        {"ip": "10.0.0.2", "port": 2887},
        {"ip": "fe80::1", "port": 2886},
        {"ip": "127.0.0.1", "port": 2886},
    ]


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


def test_the_dags_that_a_sub_task_creates_are_shown_once_it_has_run() -> None:
    """(ob/agent/executor/ob/sub_dag.go:81-93.)"""
    creates = "{takes: 500ms, additional_data: {restore_job_id: 0, sub_dags: {a: 1}}}"
    later = world(f"[{{id: 4, nodes: [{{sub_tasks: {creates}}}, Next]}}]")
    ask, shown = plain(later), []
    for _ in range(2):
        data = ask("GET", DAG).json()["data"]
        shown.append((data["nodes"][0]["sub_tasks"][0]["execute_times"], data["additional_data"]))
        later.advance(2 * SECOND)

    assert shown == [(0, {"restore_job_id": 0}), (1, {"restore_job_id": 0, "sub_dags": {"a": 1}})]


def test_only_what_is_answered_itself_shows_data() -> None:
    ask = plain(world("[{id: 4, nodes: [{sub_tasks: {additional_data: {a: 1}}}]}]"))

    dag = ask("GET", DAG).json()["data"]

    assert dag["additional_data"] == {"a": 1}
    assert dag["nodes"][0]["additional_data"] is None
    assert dag["nodes"][0]["sub_tasks"][0]["additional_data"] is None


def test_the_keys_of_additional_data_are_sorted_as_go_sorts_them() -> None:
    ask = plain(world("[{id: 4, nodes: [{sub_tasks: {additional_data: {b: {d: 1, c: 2}, a: 3}}}]}]"))

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
        sandbox.advance(after * MILLISECOND)
        answer = plain(sandbox)("GET", f"{TASK}/sub_task/{LOCAL}40101")
        ask_after[name] = answer.json()["data"]["task_logs"]

    assert ask_after == {"before": None, "while": ["one"], "after": ["one", "two"]}


def test_a_sub_task_that_ran_and_said_nothing_has_no_lines() -> None:
    sandbox = world("[{id: 4, nodes: [A]}]")
    sandbox.advance(5 * SECOND)
    ask = plain(sandbox)

    assert ask("GET", f"{TASK}/sub_task/{LOCAL}40101").json()["data"]["task_logs"] == []
    assert ask("GET", f"{TASK}/sub_task/{LOCAL}40101/logs").json()["data"] == {"contents": []}


def test_the_lines_of_all_runs_are_told_and_which_run_wrote_them() -> None:
    sandbox = failed()
    ask = plain(sandbox)
    operate(ask, DAG, "RETRY")
    sandbox.advance(10 * SECOND)

    lines = ask("GET", LOGS).json()["data"]["contents"]

    error = "ERROR: [Common.Unexpected]: Unexpected error: exit status 127"
    assert [(line["execute_times"], line["log_content"]) for line in lines] == [
        (1, "start observer"),
        (1, error),
        (3, "start observer"),
        (3, error),
    ]
    assert [line["log_content"] for line in lines] == ask("GET", SUB_TASK).json()["data"]["task_logs"]


def test_the_ids_of_lines_count_on_over_all_dags_of_an_agent() -> None:
    sandbox = world(
        "[{id: 4, nodes: [{sub_tasks: [{log: [a, b]}, {log: c}]}]}, {id: 5, age: 1m, nodes: [{sub_tasks: {log: z}}]}]"
    )
    sandbox.advance(9 * SECOND)
    ask = plain(sandbox)

    ids = [
        [line["id"] for line in ask("GET", f"{TASK}/sub_task/{LOCAL}{number}/logs").json()["data"]["contents"]]
        for number in (50101, 40101, 40102)
    ]

    assert ids == [[1], [2, 4], [3]]  # by their time


def test_the_lines_of_the_last_hundred_runs_are_kept() -> None:
    """A retry is two runs: what failed is undone before it runs again."""
    ask = plain(World(INIT, progression="immediate"))
    for _ in range(51):
        assert operate(ask, DAG, "RETRY").status_code == 200

    lines = ask("GET", LOGS).json()["data"]["contents"]

    forward = range(5, 104, 2)
    assert [line["execute_times"] for line in lines] == [number for number in forward for _ in range(2)]


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


def test_status_may_be_asked_for_with_post() -> None:
    """ob/agent/api/agent_route.go:106."""
    ask = guarded(World(INIT))

    get, post = (ask(method, "/api/v1/status") for method in ("GET", "POST"))

    assert (post.status_code, post.json()["data"]) == (200, get.json()["data"])
    assert ask("POST", "/api/v1/status/").headers["location"] == "/api/v1/status"


@pytest.mark.parametrize("after", [0, 3, 10])
def test_status_says_that_a_dag_holds_the_lock_until_it_is_finished(after: int) -> None:
    sandbox = World(INIT)
    sandbox.advance(after * SECOND)

    status = plain(sandbox)("GET", "/api/v1/status").json()["data"]

    assert status["underMaintenance"] is True


def test_a_dag_that_was_rolled_back_lets_the_lock_go() -> None:
    sandbox = failed()
    ask = plain(sandbox)
    operate(ask, DAG, "ROLLBACK")
    sandbox.advance(10 * SECOND)

    assert ask("GET", "/api/v1/status").json()["data"]["underMaintenance"] is False


@pytest.mark.parametrize("path", ["info", "secret", "time", "git-info", "status"])
def test_what_comes_before_the_credentials_asks_for_none(path: str) -> None:
    answer = guarded(failed())("GET", f"/api/v1/{path}")

    assert answer.status_code == 200
    assert answer.json()["data"]


# --- the contract ---------------------------------------------------------------------------------

OPERATIONS = list(ContractFile("obshell").operations.values())
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


@given(
    operation=st.sampled_from(OPERATIONS),
    id=st.sampled_from(IDS),
    query=st.sampled_from(["", "?show_details=false", "?show_details=maybe"]),
    operator=st.sampled_from(["ROLLBACK", "RETRY", "CANCEL", "PASS", "RUN", None]),
    after=st.integers(0, 10_000),
    identity=st.sampled_from(identities()),
    quirks_off=st.lists(st.sampled_from(["all", *quirks()]), max_size=3, unique=True),
)
def test_no_answer_breaks_the_contract(
    *, operation: Any, id: str, query: str, operator: str | None, after: int, identity: str, quirks_off: list[str]
) -> None:
    is_holder = identity == "CLUSTER AGENT"
    text = HOLDING if is_holder else f"{INIT}\nagent: {{identity: {identity}}}"
    sandbox = World(f"{text}\nswitches: {{quirks_off: [{', '.join(quirks_off)}]}}")
    sandbox.advance(after * MILLISECOND)
    body = json.dumps({"operator": operator}) if operation["method"] == "post" else None

    path = operation["path"].replace("{id}", id) + query
    answer = plain(sandbox)(operation["method"].upper(), path, content=body)

    assert str(answer.status_code) in operation["responses"]
    assert "breaks the contract" not in answer.text
