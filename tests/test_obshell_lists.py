"""obshell's lists over HTTP: which dags are in them, in which order, and how much of each is shown.

And the last maintenance dag of an agent and of a cluster, which is a list of one.
"""

from __future__ import annotations

from typing import Any

import pytest

from obshell_world import DAG, FOREIGN, LOCAL, NODE, PANIC, SUB_TASK, TASK, failed, ids, operate, plain, said, world
from served import SECOND, Ask

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
    sandbox.advance(60 * SECOND)
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
def test_a_list_has_these_dags_by_ascending_number(ask_kinds: Ask, route: str, numbers: list[int]) -> None:
    assert ids(ask_kinds("GET", f"{TASK}/{route}")) == numbers


@pytest.mark.parametrize(
    ("query", "shows"),
    [
        ("", True), ("?show_details=true", True), ("?show_details=True", True),
        ("?show_details=1", True), ("?show_details=T&show_details=0", True),
        ("?show_details=false", False), ("?show_details=False", False),
        ("?show_details=0", False), ("?show_details=", False), ("?show_details", False),
    ],
)  # fmt: skip
def test_a_list_shows_nodes_where_details_are_asked_for(ask_kinds: Ask, query: str, *, shows: bool) -> None:
    routes = ["dags/agent", "dag/unfinish", "dag/agent/unfinish", "dag/maintain/agents"]

    answers = [ask_kinds("GET", f"{TASK}/{route}{query}").json() for route in routes]

    lists = [answer["data"]["contents"] for answer in answers]
    shown = [{dag["nodes"] is not None for dag in dags} for dags in lists]
    assert shown == [{shows}] * len(routes)


@pytest.mark.parametrize(
    "path", [DAG, NODE, f"{TASK}/dags/agent", f"{TASK}/dag/unfinish", f"{TASK}/dag/maintain/agent"]
)
def test_show_details_that_go_cannot_read_is_a_panic(path: str) -> None:
    ask = plain(failed())
    values = ["maybe", "yes", "tRUE", "01", " true", "%ff", "true%00"]

    answers = [ask("GET", f"{path}?show_details={value}") for value in values]

    assert [said(answer) for answer in answers] == [PANIC] * len(values)
    assert {answer.json()["traceId"] for answer in answers} == {""}


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


@pytest.mark.parametrize(("route", "answer"), [("dags/agent", (200, {"contents": []})), ("dag/unfinish", (500, None))])
def test_a_list_of_nothing_reads_show_details_only_where_the_server_does(route: str, answer: tuple[int, Any]) -> None:
    sandbox = world("[{scope: cluster, nodes: [A]}]", head="agent: {identity: CLUSTER AGENT}")

    got = plain(sandbox)("GET", f"{TASK}/{route}?show_details=maybe")

    assert (got.status_code, got.json().get("data")) == answer


def test_a_failed_dag_that_is_retried_is_unfinished_again() -> None:
    sandbox = world("[{id: 1, nodes: [{can: retry, sub_tasks: {ends: FAILED}}]}]")
    sandbox.advance(60 * SECOND)
    ask = plain(sandbox)
    failed_ones = ids(ask("GET", f"{TASK}/dag/unfinish"))

    operate(ask, f"{TASK}/dag/{LOCAL}1", "RETRY")

    assert (failed_ones, ids(ask("GET", f"{TASK}/dag/unfinish"))) == ([], [1])


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
    sandbox.advance(60 * SECOND)
    return plain(sandbox)


def test_a_cluster_dag_s_id_is_a_1_and_its_number(ask_cluster: Ask) -> None:
    dag = ask_cluster("GET", f"{TASK}/dag/13").json()["data"]

    assert (dag["id"], dag["name"]) == ("13", "Locks nothing")
    assert dag["nodes"][0]["id"] == "1301"
    assert ask_cluster("GET", f"{TASK}/sub_task/130101").json()["data"]["id"] == "130101"


def test_agent_and_cluster_count_their_dags_apart(ask_cluster: Ask) -> None:
    names = [ask_cluster("GET", f"{TASK}/dag/{id}").json()["data"]["name"] for id in ("11", f"{LOCAL}1")]

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

    assert said(answer) == (404, "Task.NotFound", "Task not found: Cluster is not under maintenance")


def test_where_nothing_is_unfinished_a_cluster_agent_says_null_and_others_an_empty_list() -> None:
    lone, holder = world("[{nodes: [A]}]"), world("[{nodes: [A]}]", head=HOLDER)
    for sandbox in (lone, holder):
        sandbox.advance(10 * SECOND)

    lists = [plain(sandbox)("GET", f"{TASK}/dag/unfinish").json()["data"] for sandbox in (lone, holder)]

    assert lists == [{"contents": []}, {"contents": None}]


def test_a_cluster_dag_is_operated_by_its_id(ask_cluster: Ask) -> None:
    answer = operate(ask_cluster, f"{TASK}/node/1101", "PASS")

    assert answer.status_code == 200
    assert ask_cluster("GET", f"{TASK}/dag/11").json()["data"]["state"] == "READY"


@pytest.mark.parametrize("identity", ["SCALING OUT", "SCALING IN", "UNIDENTIFIED"])
def test_an_agent_on_its_way_does_not_say_what_is_unfinished(identity: str) -> None:
    sandbox = world("[{nodes: [A]}]", head=f"agent: {{identity: {identity}}}")

    answer = plain(sandbox)("GET", f"{TASK}/dag/unfinish")

    assert said(answer) == (500, "Agent.Identify.Unknown", f"Agent identify is unknown: {identity}")


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
    sub_tasks = ", ".join(f"{{ends: {ends}, additional_data: {{main_dag_id: '{id}'}}}}" for id in ids)
    sandbox = world(f"""[
      {{id: 1, name: Main, nodes: [{{name: A, sub_tasks: {{additional_data: {{a: 1}}}}}}]}},
      {{id: 2, name: Another, nodes: [A]}},
      {{id: 9, maintenance: global, nodes: [{{sub_tasks: [{sub_tasks}]}}]}}]""")
    sandbox.advance(60 * SECOND)
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
