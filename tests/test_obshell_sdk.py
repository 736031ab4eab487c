"""The vendor's own SDK, obshell 0.0.9 from PyPI, reads and operates the mock's dags, unmodified.

It seals every header and encrypts every body itself, and reads every answer with its own classes.
What it does wrong is named the SDK's where it shows, since a mock that hid it would be no mock of
the server it was written for. Who may pass and what is asked how often is
test_obshell_sdk_wire's.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final

import pytest
from obshell import ClientV1, OBShellHandleError, TaskExecuteFailedError
from obshell.model.task import DagDetailDTO
from obshell.model.tenant import ZoneParam

from command import PATIENCE, Serving, serving
from obshell_sdk import ALLOWING, INITIALIZE, Served, local, served, shown, standing, told

FORBIDDING: Final = """
summary: Of three dags that allow nothing, one hangs, one has failed and one has succeeded
api: obshell
progression: manual
dags:
  - {id: 1, age: 1m, nodes: [{name: Stop observer, sub_tasks: [{takes: forever}]}]}
  - {id: 2, age: 1m, nodes: [{name: Stop observer, sub_tasks: [{ends: FAILED}]}]}
  - {id: 3, age: 1m, nodes: [Stop observer]}
"""
OF_CLUSTER: Final = """
summary: An agent that holds OceanBase, with a dag of its own and two of its cluster
api: obshell
progression: manual
agent: {identity: CLUSTER AGENT}
dags:
  - id: 1
    name: Upgrade agent
    maintenance: global
    age: 3m
    nodes: [{sub_tasks: [{ends: FAILED}]}]
  - {id: 7, name: Scale out, scope: cluster, maintenance: global, age: 2m, nodes: [Add server]}
  - id: 8
    name: Modify replica
    scope: cluster
    maintenance: {tenant: t1}
    age: 1m
    nodes: [{sub_tasks: [{ends: FAILED}]}]
"""
SUCCEEDING: Final = """
summary: An agent that holds OceanBase, and the one dag of its cluster has succeeded
api: obshell
progression: manual
agent: {identity: CLUSTER AGENT}
dags: [{id: 1, scope: cluster, age: 1m, nodes: [Add server]}]
"""
UNTOUCHED: Final = """
summary: An agent that was never under maintenance
api: obshell
progression: manual
dags: [{id: 1, age: 1m, nodes: [Stop observer]}]
"""
Serve = Callable[[str], Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve scenarios until the test is over."""
    with ExitStack() as stack:
        yield lambda scenario: stack.enter_context(served(scenario))


# --- one dag, node, sub task ----------------------------------------------------------------------

INTEGRATE: Final = {
    "state": "SUCCEED",
    "operator": "RUN",
    "start_time": "2021-08-25T07:09:32.7404Z",
    "end_time": "2021-08-25T07:09:32.7474Z",
    "generic_id": local(40101),
    "task_id": 40101,
    "name": "Integrate config",
    "execute_times": 1,
    "execute_agent": "127.0.0.1:2886",
    "task_logs": ["get all agents"],
    "additional_data": None,
}
START_HERE: Final = {
    "state": "FAILED",
    "operator": "RUN",
    "start_time": "2021-08-25T07:09:34.7404Z",
    "end_time": "2021-08-25T07:09:34.7494Z",
    "generic_id": local(40201),
    "task_id": 40201,
    "name": "Start observer",
    "execute_times": 1,
    "execute_agent": "127.0.0.1:2886",
    "task_logs": ["start observer", "ERROR: [Common.Unexpected]: Unexpected error: exit status 127"],
    "additional_data": None,
}
START_THERE: Final = {
    "state": "SUCCEED",
    "operator": "RUN",
    "start_time": "2021-08-25T07:09:34.7404Z",
    "end_time": "2021-08-25T07:09:36.7404Z",
    "generic_id": local(40202),
    "task_id": 40202,
    "name": "Start observer",
    "execute_times": 1,
    "execute_agent": "10.0.0.2:2887",
    "task_logs": [],
    "additional_data": None,
}
BOOTSTRAP: Final = {
    "state": "PENDING",
    "operator": "RUN",
    "start_time": "2021-08-25T07:09:31.7414Z",
    "end_time": "2021-08-25T07:09:31.7414Z",
    "generic_id": local(40301),
    "task_id": 40301,
    "name": "Cluster boostrap",
    "execute_times": 0,
    "execute_agent": "127.0.0.1:2886",
    "task_logs": None,
    "additional_data": None,
}
START_NODE: Final = {
    "state": "FAILED",
    "operator": "RUN",
    "start_time": "2021-08-25T07:09:34.7402Z",
    "end_time": "2021-08-25T07:09:37.74Z",
    "generic_id": local(402),
    "node_id": 402,
    "name": "Start observer",
    "sub_tasks": [START_HERE, START_THERE],
    "additional_data": (None,),  # the SDK's: a tuple, by a comma too many
}
DAG: Final = {
    "state": "FAILED",
    "operator": "RUN",
    "start_time": "2021-08-25T07:09:32.74Z",
    "end_time": "2021-08-25T07:09:37.7402Z",
    "generic_id": local(4),
    "dag_id": 4,
    "name": "Initialize cluster",
    "stage": 2,
    "max_stage": 3,
    "nodes": [
        {
            "state": "SUCCEED",
            "operator": "RUN",
            "start_time": "2021-08-25T07:09:32.7402Z",
            "end_time": "2021-08-25T07:09:33.74Z",
            "generic_id": local(401),
            "node_id": 401,
            "name": "Integrate config",
            "sub_tasks": [INTEGRATE],
            "additional_data": (None,),
        },
        START_NODE,
        {
            "state": "PENDING",
            "operator": "RUN",
            "start_time": "2021-08-25T07:09:31.7412Z",
            "end_time": "2021-08-25T07:09:31.7412Z",
            "generic_id": local(403),
            "node_id": 403,
            "name": "Cluster boostrap",
            "sub_tasks": [BOOTSTRAP],
            "additional_data": (None,),
        },
    ],
    "additional_data": {"main_dag_id": "12"},
}
"""INITIALIZE when it has failed: two ticks of a second for each stage, and one more for the third
second of the sub task that takes two."""


@pytest.fixture(scope="module")
def failed() -> Iterator[ClientV1]:
    """The SDK before INITIALIZE when it has failed, for tests that only read."""
    with served(INITIALIZE) as mock:
        mock.later(60)
        yield mock.client()


def test_a_dag_is_what_its_scenario_says(failed: ClientV1) -> None:
    assert shown(failed.get_dag(local(4))) == DAG


def test_without_details_a_dag_has_no_nodes(failed: ClientV1) -> None:
    dag = failed.get_dag(local(4), show_detail=False)

    assert shown(dag) == DAG | {"nodes": [], "additional_data": None}


def test_a_node_has_its_own_additional_data(failed: ClientV1) -> None:
    node = failed.get_node(local(402))

    assert shown(node) == START_NODE | {"additional_data": ({"main_dag_id": "12"},)}


def test_without_details_a_node_crashes_the_server(failed: ClientV1) -> None:
    with pytest.raises(OBShellHandleError) as refused:
        failed.get_node(local(402), show_detail=False)

    message = "Unexpected error: Internal Server Error"
    assert told(refused.value) == (0, "Common.Unexpected", message)


def test_with_its_quirk_switched_off_a_node_can_be_had_without_details(serve: Serve) -> None:
    mock = serve(f"{INITIALIZE}switches: {{quirks_off: node-without-details-is-500}}\n")
    mock.later(60)

    node = mock.client().get_node(local(402), show_detail=False)

    assert shown(node) == START_NODE | {"sub_tasks": []}


def test_a_sub_task_has_its_own_additional_data(failed: ClientV1) -> None:
    sub_task = failed.get_sub_task(local(40202))

    assert shown(sub_task) == START_THERE | {"additional_data": {"main_dag_id": "12"}}


@pytest.mark.parametrize("get", ["get_dag", "get_node", "get_sub_task"])
def test_what_is_not_there_is_not_found(failed: ClientV1, get: str) -> None:
    with pytest.raises(OBShellHandleError) as refused:
        getattr(failed, get)(local(99))

    assert told(refused.value) == (0, "Task.NotFound", "Task not found: record not found")


@pytest.mark.parametrize("id", ["nine", "nine & a half?", "九"])
def test_what_is_no_id_is_refused_as_it_was_sent(failed: ClientV1, id: str) -> None:
    with pytest.raises(OBShellHandleError) as refused:
        failed.get_dag(id)

    message = f"Invalid ID: {id}: invalid generic id"
    assert told(refused.value) == (0, "Task.GenericID.Invalid", message)


def test_an_agent_on_ipv6_has_ids_of_its_own_kind(serve: Serve) -> None:
    client = serve(f"{INITIALIZE}agent: {{ip: '2001:db8::1'}}\n").client()
    id = f"3{int(IPv6Address('2001:db8::1')):039}028864"

    dag = client.get_dag(id)

    assert dag.generic_id == id
    assert dag.nodes[0].sub_tasks[0].execute_agent == "2001:db8::1:2886"


def test_the_agent_says_what_it_is_without_a_password(serve: Serve) -> None:
    mock = serve(INITIALIZE)

    info, status = mock.client("wrong").get_info(), mock.client("wrong").get_status()

    assert (info.identity, info.version) == ("MASTER", "4.5.0.0-1")
    assert (info.ip, info.port) == ("127.0.0.1", 2886)
    assert (status.agent.identity, status.state) == ("MASTER", 2)
    assert mock.sealed == []


# --- operators, and what they lead to -------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "after", "at_once"),
    [
        ("RETRY", 60, ("READY", "RUN", 1)),
        ("ROLLBACK", 60, ("READY", "ROLLBACK", 1)),
        ("PASS", 60, ("SUCCEED", "PASS", 1)),
        ("CANCEL", 5, ("READY", "CANCEL", 1)),
        ("cancel", 5, ("READY", "CANCEL", 1)),
    ],
)
def test_an_accepted_operator_shows_at_once(
    serve: Serve, operator: str, after: int, at_once: tuple[str, str, int]
) -> None:
    mock = serve(ALLOWING)
    client = mock.client()
    mock.later(after)

    accepted = client.operate_dag(local(5), operator)

    assert accepted is True
    assert standing(client.get_dag(local(5))) == at_once


@pytest.fixture(scope="module")
def forbidding() -> Iterator[ClientV1]:
    """The SDK before dags that allow nothing, for tests that change nothing."""
    with served(FORBIDDING) as mock:
        yield mock.client()


RUNNING, FAILED, SUCCEEDED = local(1), local(2), local(3)
REFUSALS: Final = {
    "RetryNotFailedDag": "Failed to set DAG retry: DAG state is not failed",
    "RetryNotAllowed": "Failed to set DAG retry: node Stop observer cannot retry",
    "RollbackNotFailedDag": "Failed to set DAG rollback: DAG state is not failed",
    "RollbackNotAllowed": "Failed to set DAG rollback: node Stop observer cannot rollback",
    "PassNotFailedDag": "Failed to pass DAG: DAG is not failed",
    "PassNotAllowed": "Failed to pass DAG: node Stop observer cannot pass",
    "CancelFinishedDag": "Failed to cancel DAG: DAG is finished",
    "CancelNotAllowed": "Failed to cancel DAG: node Stop observer cannot cancel",
}
"""What a refusal says, by the end of its err_code."""


@pytest.mark.parametrize(
    ("id", "operator", "refusal"),
    [
        (RUNNING, "RETRY", "RetryNotFailedDag"),
        (SUCCEEDED, "RETRY", "RetryNotFailedDag"),
        (RUNNING, "ROLLBACK", "RollbackNotFailedDag"),
        (SUCCEEDED, "ROLLBACK", "RollbackNotFailedDag"),
        (RUNNING, "PASS", "PassNotFailedDag"),
        (SUCCEEDED, "PASS", "PassNotFailedDag"),
        (FAILED, "CANCEL", "CancelFinishedDag"),
        (SUCCEEDED, "CANCEL", "CancelFinishedDag"),
    ],
)
def test_an_operator_that_the_state_does_not_allow_is_refused(
    forbidding: ClientV1, id: str, operator: str, refusal: str
) -> None:
    with pytest.raises(OBShellHandleError) as refused:
        forbidding.operate_dag(id, operator)

    assert told(refused.value) == (0, f"Task.Dag.Operator.{refusal}", REFUSALS[refusal])


@pytest.mark.parametrize(
    ("id", "operator", "refusal"),
    [
        (FAILED, "RETRY", "RetryNotAllowed"),
        (FAILED, "ROLLBACK", "RollbackNotAllowed"),
        (FAILED, "PASS", "PassNotAllowed"),
        (RUNNING, "CANCEL", "CancelNotAllowed"),
    ],
)
def test_an_operator_that_a_node_does_not_allow_is_refused(
    forbidding: ClientV1, id: str, operator: str, refusal: str
) -> None:
    with pytest.raises(OBShellHandleError) as refused:
        forbidding.operate_dag(id, operator)

    assert told(refused.value) == (0, f"Task.Dag.Operator.{refusal}", REFUSALS[refusal])


@pytest.mark.parametrize("operator", ["RUN", "SKIP", " RETRY "])
def test_an_operator_that_there_is_none_of_is_refused(forbidding: ClientV1, operator: str) -> None:
    with pytest.raises(OBShellHandleError) as refused:
        forbidding.operate_dag(FAILED, operator)

    message = f"Operator {operator} is not supported"
    assert told(refused.value) == (0, "Task.Dag.Operator.NotSupport", message)


def test_a_server_before_err_codes_refuses_with_a_number(serve: Serve) -> None:
    client = serve(f"{FORBIDDING}switches: {{obshell_version: 4.2.3.0}}\n").client()

    with pytest.raises(OBShellHandleError) as refused:
        client.operate_dag(SUCCEEDED, "RETRY")

    message = "Known error: failed to set dag retry: dag state is not failed"
    assert told(refused.value) == (1010, "", message)


def test_a_retry_that_succeeds_is_true(serve: Serve) -> None:
    mock = serve("retry-failed-node")
    client = mock.client()
    mock.later(60)

    succeeded = client.operate_dag_sync(local(30), "RETRY")

    assert succeeded is True
    assert standing(client.get_dag(local(30))) == ("SUCCEED", "RUN", 3)


def test_a_retry_that_fails_again_is_an_error_that_says_so(serve: Serve) -> None:
    mock = serve("initialize-cluster-fails")
    client = mock.client()
    mock.later(60)

    with pytest.raises(TaskExecuteFailedError) as failed:
        client.operate_dag_sync(local(4), "RETRY")

    why = f"Failed to RETRY task {local(4)}"
    assert str(failed.value) == f"Task 'Initialize cluster' execution failed: {why}"
    assert standing(failed.value.dag) == ("FAILED", "RUN", 3)
    assert failed.value.dag.nodes[2].sub_tasks[0].execute_times == 3


def test_a_rollback_is_true(serve: Serve) -> None:
    mock = serve("initialize-cluster-fails")
    client = mock.client()
    mock.later(60)

    succeeded = client.operate_dag_sync(local(4), "ROLLBACK")

    assert succeeded is True
    assert standing(client.get_dag(local(4))) == ("SUCCEED", "ROLLBACK", 1)


def test_a_cancel_is_true_though_its_dag_has_failed(serve: Serve) -> None:
    mock = serve("cancel-running-dag")
    client = mock.client()
    mock.later(60)

    succeeded = client.operate_dag_sync(local(40), "CANCEL")

    assert succeeded is True
    assert standing(client.get_dag(local(40))) == ("FAILED", "CANCEL", 3)


def test_a_pass_is_done_before_the_sdk_trips_over_its_own_name(serve: Serve) -> None:
    mock = serve("pass-failed-dag")
    client = mock.client()
    mock.later(60)

    with pytest.raises(AttributeError, match="is_pass"):  # the SDK's: it has no such method
        client.operate_dag_sync(local(70), "PASS")

    assert standing(client.get_dag(local(70))) == ("SUCCEED", "PASS", 1)


def test_the_documents_own_dag_is_rolled_back_by_the_documents_own_call(serve: Serve) -> None:
    client = serve("documents-dag-id").client()

    succeeded = client.operate_dag_sync("22130706433028869", "ROLLBACK")

    assert succeeded is True
    assert standing(client.get_dag("22130706433028869")) == ("SUCCEED", "ROLLBACK", 1)


def test_clearing_an_agent_rolls_its_initialization_back_and_gets_no_further(serve: Serve) -> None:
    mock = serve("initialize-cluster-fails")
    client = mock.client()
    mock.later(60)

    with pytest.raises(OBShellHandleError) as refused:
        client.agg_clear_uninitialized_agent()

    assert refused.value.err_code == "Common.NotFound"  # agent/remove is no operation on a task
    assert standing(client.get_dag(local(4))) == ("SUCCEED", "ROLLBACK", 1)


# --- waiting for a dag ----------------------------------------------------------------------------


def test_who_waits_for_a_dag_that_succeeds_has_it(serve: Serve) -> None:
    mock = serve("join-agent")

    dag = mock.client().wait_dag_succeed(local(10))

    assert (dag.name, *standing(dag)) == ("Join self", "SUCCEED", "RUN", 1)
    assert mock.asked[3:] == [f"GET task/dag/{local(10)}"] * 2  # in three seconds it was over


def test_who_waits_for_a_dag_that_fails_is_told_its_last_line(serve: Serve) -> None:
    client = serve(INITIALIZE).client()

    with pytest.raises(TaskExecuteFailedError) as failed:
        client.wait_dag_succeed(local(4))

    line = "ERROR: [Common.Unexpected]: Unexpected error: exit status 127"
    assert failed.value.message == f"127.0.0.1:2886 {line}\n"
    assert standing(failed.value.dag) == ("FAILED", "RUN", 2)


def test_who_waits_for_a_node_that_fails_on_two_agents_is_told_both_lines(serve: Serve) -> None:
    client = serve("parallel-node").client()

    with pytest.raises(TaskExecuteFailedError) as failed:
        client.wait_dag_succeed(local(90))

    assert [line.split(" ERROR: ")[0] for line in failed.value.message.splitlines()] == [
        "127.0.0.1:2887",
        "127.0.0.1:2888",
    ]


def test_who_waits_for_a_dag_that_times_out_is_told_so(serve: Serve) -> None:
    client = serve("node-times-out").client()

    with pytest.raises(TaskExecuteFailedError) as failed:
        client.wait_dag_succeed(local(110))

    assert failed.value.message == "127.0.0.1:2886 ERROR: [Common.Unexpected]: Unexpected error: task 1100101 timeout\n"


def test_who_waits_for_a_dag_that_is_cancelled_is_told_so(serve: Serve) -> None:
    mock = serve("cancel-running-dag")
    client = mock.client()
    mock.later(60)
    client.operate_dag(local(40), "CANCEL")

    with pytest.raises(TaskExecuteFailedError) as failed:
        client.wait_dag_succeed(local(40))

    assert failed.value.message == "Task Initialize cluster canceled."


def test_who_waits_for_a_dag_that_is_not_there_is_told_at_once(serve: Serve) -> None:
    client = serve(INITIALIZE).client()

    with pytest.raises(OBShellHandleError) as refused:
        client.wait_dag_succeed(local(99))

    assert refused.value.err_code == "Task.NotFound"


# --- lists ----------------------------------------------------------------------------------------


def names(dags: list[DagDetailDTO]) -> list[str]:
    return [dag.name for dag in dags]


@pytest.fixture(scope="module")
def alone() -> Iterator[ClientV1]:
    """The SDK before an agent without OceanBase, two of whose dags have failed."""
    with served("unfinished-maintenance") as mock:
        yield mock.client()


@pytest.fixture(scope="module")
def of_cluster() -> Iterator[ClientV1]:
    """The SDK before an agent that holds OceanBase."""
    with served(OF_CLUSTER) as mock:
        yield mock.client()


@pytest.fixture(scope="module")
def untouched() -> Iterator[ClientV1]:
    """The SDK before an agent that was never under maintenance."""
    with served(UNTOUCHED) as mock:
        yield mock.client()


def test_a_failed_dag_is_unfinished_if_it_locks_its_agent(alone: ClientV1) -> None:
    assert names(alone.get_agent_unfinished_dag()) == ["Destroy observer workdir"]
    assert names(alone.get_unfinished_dags()) == ["Destroy observer workdir"]


def test_a_listed_dag_is_what_it_is_by_itself(alone: ClientV1) -> None:
    (listed,) = alone.get_unfinished_dags()
    by_itself = alone.get_dag(local(100))

    assert shown(listed) == shown(by_itself)


def test_without_details_listed_dags_have_no_nodes(alone: ClientV1) -> None:
    (listed,) = alone.get_unfinished_dags(show_detail=False)

    assert (listed.dag_id, listed.nodes) == (100, [])


def test_the_last_maintenance_dag_is_the_last_that_locked_its_agent(alone: ClientV1) -> None:
    assert alone.get_agent_last_maintenance_dag().dag_id == 100
    assert [dag.dag_id for dag in alone.get_all_agent_last_maintenance_dag()] == [100]


def test_an_agent_that_holds_oceanbase_lists_its_clusters_unfinished_dags(of_cluster: ClientV1) -> None:
    (dag,) = of_cluster.get_cluster_unfinished_dag()

    assert (dag.generic_id, dag.name) == ("18", "Modify replica")


def test_what_is_unfinished_is_the_agents_and_the_clusters(of_cluster: ClientV1) -> None:
    assert names(of_cluster.get_agent_unfinished_dag()) == ["Upgrade agent"]
    assert names(of_cluster.get_unfinished_dags()) == ["Upgrade agent", "Modify replica"]


def test_the_clusters_last_maintenance_dag_is_never_listed(of_cluster: ClientV1) -> None:
    """The SDK's: it looks for a list where the server answers with the dag."""
    assert of_cluster.get_ob_last_maintenance_dag() == []


def test_an_agent_without_oceanbase_has_no_maintenance_dag_of_a_cluster(alone: ClientV1) -> None:
    with pytest.raises(OBShellHandleError) as refused:
        alone.get_ob_last_maintenance_dag()

    assert told(refused.value) == (0, "Agent.OceanBase.NotHold", "Agent is not holding OceanBase")


def test_an_agent_without_oceanbase_cannot_even_refuse_to_list_a_clusters_dags(alone: ClientV1) -> None:
    with pytest.raises(OBShellHandleError) as refused:
        alone.get_cluster_unfinished_dag()

    message = "Unexpected error: ocsagent cannot build response body"
    assert told(refused.value) == (0, "Common.Unexpected", message)


def test_a_dag_that_has_succeeded_is_not_unfinished(untouched: ClientV1) -> None:
    assert untouched.get_unfinished_dags() == untouched.get_agent_unfinished_dag() == []


def test_an_agent_that_was_never_under_maintenance_has_no_last_dag_of_it(untouched: ClientV1) -> None:
    with pytest.raises(OBShellHandleError) as refused:
        untouched.get_agent_last_maintenance_dag()

    message = "Task not found: Agent is not under maintenance"
    assert told(refused.value) == (0, "Task.NotFound", message)


def test_the_list_of_it_that_is_empty_crashes_the_server(untouched: ClientV1) -> None:
    with pytest.raises(OBShellHandleError) as refused:
        untouched.get_all_agent_last_maintenance_dag()

    message = "Unexpected error: Internal Server Error"
    assert told(refused.value) == (0, "Common.Unexpected", message)


def test_an_agent_of_a_cluster_with_nothing_unfinished_lists_none_though_it_sends_null(serve: Serve) -> None:
    client = serve(SUCCEEDING).client()

    assert client.get_unfinished_dags() == []


# --- the line that the command prints -------------------------------------------------------------


def printed(server: Serving) -> dict[str, str]:
    """The Python of each line for the SDK that the server has printed, by operation."""
    words = [shlex.split(line) for line in server.announcement.splitlines() if "python" in line]
    return {operation: code for operation, _python, _c, code in words}


def pasted(code: str) -> str:
    """What such a line prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"NO_PROXY": "127.0.0.1"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
def test_the_printed_lines_run_as_they_are() -> None:
    with serving("initialize-cluster-fails", "--progression", "immediate") as server:
        lines = printed(server)
        said = [pasted(lines[each]) for each in ("getDagDetail", "dagHandler", "getDagDetail")]

    assert lines.keys() == {"getDagDetail", "dagHandler"}
    assert said == ["FAILED\n", "True\n", "SUCCEED\n"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent",
    [
        {"root_password": None},
        {"root_password": 'it\'s "50 %" $HOME `ls` \\ 密码!'},
        {"root_password": "it's"},
        {"agent_password": "secret"},
        {"identity": "SINGLE", "agent_password": "secret"},
        {"identity": "FOLLOWER", "agent_password": "secret"},
    ],
    ids=str,
)
def test_the_printed_line_has_the_password_that_the_agent_takes(tmp_path: Path, agent: dict[str, str | None]) -> None:
    path = tmp_path / "of-agent.yaml"
    path.write_text(f"{INITIALIZE}agent: {json.dumps(agent)}\n", encoding="utf-8")

    with serving(path, "--progression", "immediate") as server:
        said = pasted(printed(server)["getDagDetail"])

    assert said == "FAILED\n"


@pytest.mark.slow
def test_the_printed_line_is_about_a_dag_that_fails_where_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "of-cluster.yaml"
    path.write_text(OF_CLUSTER.replace("id: 1\n", "id: 7\n"), encoding="utf-8")

    with serving(path, "--progression", "immediate") as server:
        code = printed(server)["getDagDetail"]
        said = pasted(code)

    assert f"get_dag('{local(7)}')" in code  # and not cluster's 7, which succeeds
    assert said == "FAILED\n"


# --- requests that start a dag --------------------------------------------------------------------


def test_the_sdk_makes_a_cluster_step_by_step() -> None:
    with served("start-operations") as mock:
        client = mock.client()
        dags = [
            client.join_sync(client.host, client.port, "zone1"),
            client.config_observer_sync({"mysql_port": "2881"}, "GLOBAL", []),
            client.config_obcluster_sync("demo", 1, "oceanmock"),
            client.init_sync(),
        ]
        identity = client.get_info().identity

    assert [(dag.name, *standing(dag)) for dag in dags] == [
        ("Join self", "SUCCEED", "RUN", 1),
        ("Update observer config", "SUCCEED", "RUN", 1),
        ("Update cluster config", "SUCCEED", "RUN", 1),
        ("Initialize cluster", "SUCCEED", "RUN", 11),
    ]
    assert [dag.dag_id for dag in dags] == [1, 2, 3, 4]
    assert identity == "CLUSTER AGENT"


def test_the_sdk_makes_a_cluster_at_once() -> None:
    with served("start-operations") as mock:
        client = mock.client()
        servers = {f"{client.host}:{client.port}": {"zone": "zone1", "memory_limit": "6G"}}
        client.agg_create_cluster(servers, "demo", 1, "oceanmock")
        identity = client.get_info().identity

    assert identity == "CLUSTER AGENT"


FAILS_ONCE: Final = """
summary: A configuration cannot be written at first
api: obshell
progression: manual
dags:
  - name: Update observer config
    starts_on: {path: /api/v1/observer/config}
    nodes:
      - name: Update observer config
        can: [retry]
        sub_tasks: {attempts: [{ends: FAILED, error: {message: "disk full"}}, {takes: 1s}]}
"""


def test_the_sdk_submits_polls_retries_and_finishes() -> None:
    with served(FAILS_ONCE) as mock:
        client = mock.client()
        started = client.config_observer({"mysql_port": "2881"}, "GLOBAL", [])
        with pytest.raises(TaskExecuteFailedError, match="disk full"):
            client.wait_dag_succeed(started.generic_id)
        client.operate_dag_sync(started.generic_id, "RETRY")
        finished = client.wait_dag_succeed(started.generic_id)

    assert standing(started) == ("READY", "RUN", 1)
    assert standing(finished) == ("SUCCEED", "RUN", 1)


def test_the_sdk_creates_a_tenant_again_that_could_not_be_created() -> None:
    with served("tenant-created-again") as mock:
        client, zones = mock.client(), [ZoneParam("zone1", "unit1", 1)]
        with pytest.raises(OBShellHandleError) as taken:
            client.create_tenant("sys", zones)
        with pytest.raises(TaskExecuteFailedError, match="resource not enough"):
            client.create_tenant_sync("t1", zones)
        created = client.create_tenant_sync("t1", zones)

    assert told(taken.value) == (0, "OB.Tenant.Existed", "Tenant sys already exists")
    assert (created.name, standing(created)) == ("Create tenant t1", ("SUCCEED", "RUN", 2))


def test_the_sdk_adds_a_server_after_others_are_refused() -> None:
    with served("scale-out-refused") as mock:
        client, refused = mock.client(), []
        for ip in ("10.0.0.7", "10.0.0.8", "10.0.0.9"):
            with pytest.raises(OBShellHandleError) as error:
                client.scale_out(ip, 2886, "zone3", {"memory_limit": "8G"})
            refused.append(told(error.value)[1:])
        added = client.scale_out_sync("10.0.0.3", 2886, "zone3", {"memory_limit": "8G"})

    identity, version, existing = refused
    assert identity == (
        "Agent.Identify.NotSupportOperation",
        "'10.0.0.7:2886' is 'CLUSTER AGENT', instead of 'SINGLE', does not support this operation",
    )
    assert (version[0], existing[0]) == ("Agent.OB.Version.Inconsistent", "Agent.AlreadyExists")
    assert (added.name, standing(added)) == ("Cluster scale out", ("SUCCEED", "RUN", 11))


def test_the_sdk_backs_a_tenant_up_and_polls_the_overview() -> None:
    with served("backup-tenant") as mock:
        client, seen = mock.client(), list[str]()
        started = client.start_tenant_backup("t1", mode="full")
        with pytest.raises(OBShellHandleError, match="no backup task"):
            client.get_tenant_backup_overview("t1")
        while "COMPLETED" not in seen[-1:]:
            mock.later(10)
            seen.append(client.get_tenant_backup_overview("t1").status["status"])

    assert standing(started) == ("READY", "RUN", 1)
    assert seen == ["DOING", "DOING", "DOING", "COMPLETED"]


def test_the_sdk_upgrades_agents_that_restart_and_then_their_servers() -> None:
    release = ("4.5.0.0", "100000012026120100.el7")
    with served("upgrade-cluster") as mock:
        client = mock.client()
        before = client.get_info()
        upgraded = client.upgrade_agent_sync(*release)
        with pytest.raises(TaskExecuteFailedError, match="wait all observer available timeout"):
            client.upgrade_ob_sync(*release, "ROLLING")
        failed = client.get_dag(mock.sandbox.dag(f"OB rolling upgrade {'-'.join(release)}").id)
        client.operate_dag_sync(failed.generic_id, "RETRY")
        rolled = client.wait_dag_succeed(failed.generic_id)
        after = client.get_info()
        lost = [entry for entry in mock.sandbox.journal.all(operation="getDagDetail") if entry.status is None]

    assert (upgraded.name, standing(upgraded)) == (f"Upgrade obshell {'-'.join(release)}", ("SUCCEED", "RUN", 9))
    assert (before.version, after.version) == ("4.4.1.0-1", "4.5.0.0-1")
    assert len(lost) == 2
    assert standing(failed) == ("FAILED", "RUN", 11)
    assert (rolled.name, standing(rolled)) == (f"OB rolling upgrade {'-'.join(release)}", ("SUCCEED", "RUN", 16))


def test_the_sdk_is_told_that_the_agent_is_under_maintenance() -> None:
    with served("start-operations") as mock:
        client = mock.client()
        client.join_sync(client.host, client.port, "zone1")
        client.config_observer({"mysql_port": "2881"}, "GLOBAL", [])
        with pytest.raises(OBShellHandleError) as refused:
            client.init()

    message = "Create task 'Initialize cluster' failed: 127.0.0.1:2886 is under maintenance"
    assert told(refused.value) == (0, "Agent.UnderMaintenance", message)
