"""Calls that start a task: a client asks for something else than a task, and is answered with one.

The answers keep the contracts' schemas of a submit, TaskInstance and CreatedDagResponse. Whether a
scenario's ``starts_on`` can be meant so is test_scenario_faults'; that obshell's answers are those
of a real server is test_obshell_replay's.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

import httpx
import pytest

from contract_file import ContractFile, component
from obshell_world import LOCAL, operate, said, sealed, with_bodies
from oceanmock import Obshell, Ocp
from oceanmock.errors import InputError
from oceanmock.library import load_scenario, read_scenario
from oceanmock.ocp.api import API
from served import MILLISECOND, SECOND, Ask, World

OCP: Final = ContractFile("ocp")
OBSHELL: Final = ContractFile("obshell")
TENANTS: Final = "/api/v2/ob/clusters/1/tenants"
TASKS: Final = "/api/v2/tasks/instances"
DAGS: Final = "/api/v1/task/dag"
HOSTS: Final = "/api/v2/compute/hosts/batchCreate"
JOIN, CONFIG, INIT = "/api/v1/agent/join", "/api/v1/observer/config", "/api/v1/ob/init"

CREATE: Final = """
summary: A tenant is created, or dropped, or a host is added
api: ocp
progression: manual
tasks:
  - name: Drop tenant
    starts_on: {method: DELETE, path: "/api/v2/ob/clusters/{id}/tenants/{tenant}"}
    subtasks: [Drop]
  - name: Create ORACLE tenant
    starts_on: {path: "/api/v2/ob/clusters/{id}/tenants", body: {mode: ORACLE}}
    subtasks: [Refuse]
  - name: Create tenant
    starts_on: {path: "/api/v2/ob/clusters/{id}/tenants", body: {name: foo}}
    creator: {id: 100, name: admin}
    cluster: {id: 1, name: one, ob_cluster_id: 10}
    tenant: {id: 2, name: foo, ob_tenant_id: 1002}
    host_id: 3
    subtasks: [{name: Check, attempts: {takes: 1s}}, Create]
  - name: Add host
    starts_on: {path: /api/v2/compute/hosts/batchCreate, in_contents: true}
    subtasks: [Add]
"""
AGENT: Final = """
summary: An agent that has done nothing yet
api: obshell
progression: manual
agent: {identity: %s}
dags:
  - name: Join self
    starts_on: {path: /api/v1/agent/join, identity: SINGLE}
    makes: {identity: MASTER}
    maintenance: global
    nodes: [{name: Join self, can: [rollback]}]
  - name: Update observer config
    starts_on: {path: /api/v1/observer/config}
    maintenance: global
    nodes: [{name: Update, sub_tasks: {ends: FAILED}}]
  - {name: Look around, starts_on: {path: /api/v1/host/info}, nodes: [Look]}
"""


def ocp(text: str = CREATE) -> tuple[World, Ask]:
    """A world, and a manager who asks it."""
    world = World(text)
    return world, world.serve()


def obshell(identity: str = "SINGLE") -> tuple[World, Ask]:
    """A world, and somebody who asks it in plain JSON."""
    world = World(AGENT % identity)
    return world, with_bodies(world.serve(auth=False))


def of_library(name: str, **options: Any) -> World:
    """A world of a scenario of the library."""
    return World(load_scenario(name).source.decode(), **options)


def tasks_of(ask: Ask) -> list[Any]:
    """All tasks that an OCP has."""
    tasks: list[Any] = ask("GET", f"{TASKS}?size=100").json()["data"]["contents"]
    return tasks


def dags_of(world: World) -> list[Any]:
    """All dags that an agent has."""
    assert isinstance(world.sandbox, Obshell)
    return world.sandbox.dags()


def identity(ask: Ask) -> str:
    """What an agent says that it is."""
    return str(ask("GET", "/api/v1/info").json()["data"]["identity"])


# --- OCP ------------------------------------------------------------------------------------------


def test_nothing_is_there_before_it_is_asked_for() -> None:
    world, ask = ocp()

    assert world.sandbox.rows() == []
    assert ask("GET", TASKS).json()["data"]["contents"] == []


def test_a_submit_answers_the_task_as_the_reference_shows_it() -> None:
    _, ask = ocp()

    answer = ask("POST", TENANTS, json={"name": "foo"})

    task = answer.json()["data"]
    assert (answer.status_code, answer.json()["successful"]) == (200, True)
    assert OCP.problems(component("TaskInstance"), task) == []
    assert [each["status"] for each in task.pop("subtasks")] == ["READY", "PENDING"]
    del task["id"], task["executor"]
    assert task == {
        "name": "Create tenant",
        "creator": "admin",
        "status": "RUNNING",
        "operation": "EXECUTE",
        "type": "MANUAL",
        "taskDefinitionId": -1,
        "clusterId": 1,
        "tenantId": 2,
        "hostId": 3,
        "prohibitRollback": False,
        "startTime": "2021-08-25T15:09:31.74+08:00",
        "context": {"listMap": {}, "parallel": False, "parallelIdx": -1, "stringMap": {"prohibit_rollback": "false"}},
    }


def test_what_a_submit_answers_can_be_read_and_operated_on() -> None:
    world, ask = ocp()
    id = ask("POST", TENANTS, json={"name": "foo"}).json()["data"]["id"]

    world.advance(60 * SECOND)

    assert ask("GET", f"{TASKS}/{id}").json()["data"]["status"] == "SUCCESSFUL"
    assert ask("POST", f"{TASKS}/{id}/retry").status_code == 400


def test_a_task_is_born_when_its_request_comes() -> None:
    world, ask = ocp()
    world.advance(90 * SECOND)

    id = ask("POST", TENANTS, json={"name": "foo"}).json()["data"]["id"]

    task = ask("GET", f"{TASKS}/{id}").json()["data"]
    assert task["startTime"] == "2021-08-25T15:11:01.74+08:00"


def test_a_task_that_is_born_between_two_ticks_waits_for_the_next_one() -> None:
    world, ask = ocp()
    world.advance(SECOND // 4)

    id = ask("POST", TENANTS, json={"name": "foo"}).json()["data"]["id"]

    states = []
    for time in (SECOND // 4 - MILLISECOND, MILLISECOND):  # it runs half a second after a tick
        world.advance(time)
        states.append(ask("GET", f"{TASKS}/{id}").json()["data"]["subtasks"][0]["status"])
    assert states == ["READY", "RUNNING"]


def test_each_request_starts_one_more_with_ids_of_its_own() -> None:
    _, ask = ocp()

    tasks = [ask("POST", TENANTS, json={"name": "foo"}).json()["data"] for _ in range(20)]

    ids = [task["id"] for task in tasks]
    ids += [subtask["id"] for task in tasks for subtask in task["subtasks"]]
    assert len(set(ids)) == 60
    assert len(tasks_of(ask)) == 20
    assert len({task["name"] for task in tasks}) == 1


def test_the_same_seed_starts_the_same_tasks() -> None:
    first, second = (ocp()[1]("POST", TENANTS, json={"name": "foo"}).json() for _ in range(2))

    assert first == second


def test_a_sandbox_made_anew_has_its_templates_and_none_of_what_they_started() -> None:
    world, ask = ocp()
    ask("POST", TENANTS, json={"name": "foo"})

    world.sandbox.reset()

    assert tasks_of(ask) == []
    assert ask("POST", TENANTS, json={"name": "foo"}).status_code == 200


def test_adding_hosts_answers_the_task_in_a_list() -> None:
    _, ask = ocp()

    data = ask("POST", HOSTS, json=API.submit_body("POST", HOSTS)).json()["data"]

    assert list(data) == ["contents"]
    assert [task["name"] for task in data["contents"]] == ["Add host"]
    assert OCP.problems(component("TaskInstance"), data["contents"][0]) == []


def test_the_first_that_fits_is_started() -> None:
    _, ask = ocp()

    task = ask("POST", TENANTS, json={"name": "foo", "mode": "ORACLE"}).json()["data"]

    assert task["name"] == "Create ORACLE tenant"


@pytest.mark.parametrize("id", ["2", "0x2", "%202"])
def test_a_task_is_of_the_cluster_that_the_path_names(id: str) -> None:
    _, ask = ocp()

    task = ask("POST", f"/api/v2/ob/clusters/{id}/tenants", json={"name": "foo"}).json()["data"]

    assert (task["clusterId"], task["tenantId"]) == (2, 2)
    assert ask("GET", f"{TASKS}/{task['id']}").json()["data"]["cluster"]["id"] == 2


def test_the_id_of_an_obproxy_cluster_is_no_cluster_s() -> None:
    cluster = "{id: 1, name: one, ob_cluster_id: 100}"
    start = f"tasks: [{{name: Delete, starts_on: deleteObproxyCluster, cluster: {cluster}, subtasks: [Delete]}}]"
    _, ask = ocp(f"summary: An OBProxy cluster is deleted\napi: ocp\n{start}")

    assert ask("DELETE", "/api/v2/obproxy/clusters/5").json()["data"]["clusterId"] == 1


def test_a_list_has_what_started_last_first() -> None:
    world, ask = ocp(CREATE)
    assert isinstance(world.sandbox, Ocp)

    started = [ask("POST", TENANTS, json={"name": "foo"}).json()["data"]["id"] for _ in range(5)]
    started += [world.sandbox.task("Upgrade", ["Check"]).id for _ in range(5)]
    first = world.sandbox.task("Backup {n}", ["Check"], repeat={"count": 3}).id

    assert [task["id"] for task in tasks_of(ask)] == [first + 2, first + 1, first, *reversed(started)]


def test_tasks_of_a_file_without_ids_are_listed_newest_first() -> None:
    ages = (2, 5, 1, 4, 3, 6)
    tasks = [f"{{name: '{age} h', age: {age}h, subtasks: [One]}}" for age in ages]
    tasks.append("{name: 'part {n}', age: 12h, repeat: {count: 3, every: 1h}, subtasks: [One]}")
    _, ask = ocp(f"summary: A\napi: ocp\ntasks: [{', '.join(tasks)}]")

    names = [task["name"] for task in tasks_of(ask)]

    assert names == [*(f"{age} h" for age in sorted(ages)), "part 3", "part 2", "part 1"]


FILLED: Final = """
summary: A tenant is dropped
api: obshell
progression: manual
agent: {identity: CLUSTER AGENT}
dags:
  - name: Drop tenant {path.name} of {body.zones[0]}
    scope: cluster
    maintenance: {tenant: "{path.name}"}
    starts_on: {method: DELETE, path: "/api/v1/tenant/{name}"}
    nodes: [{name: Drop, sub_tasks: {takes: 1h}}]
"""


def test_the_name_and_the_lock_of_a_dag_follow_from_its_request() -> None:
    ask = World(FILLED).serve(auth=False)

    first = ask("DELETE", "/api/v1/tenant/t1", json={"zones": ["z1"]})
    again = ask("DELETE", "/api/v1/tenant/t1", json={"zones": ["z2"]})
    other = ask("DELETE", "/api/v1/tenant/t2")

    assert first.json()["data"]["name"] == "Drop tenant t1 of z1"
    message = "Create task 'Drop tenant t1 of z2' failed: Tenant 't1' is under maintenance, please try again later."
    assert said(again) == (500, "OB.Tenant.UnderMaintenance", message)
    assert other.json()["data"]["name"] == "Drop tenant t2 of null"


def test_the_name_of_a_task_keeps_what_its_request_says() -> None:
    name = "Create {body.name}, part {n}"
    _, ask = ocp(f"summary: A\napi: ocp\ntasks: [{{name: '{name}', starts_on: {{path: {TENANTS}}}, subtasks: [One]}}]")

    started = ask("POST", TENANTS, json={"name": "t{n}"}).json()["data"]

    assert started["name"] == "Create t{n}, part 1"


def test_a_placeholder_that_stands_for_nothing_is_an_error_of_the_file() -> None:
    with pytest.raises(InputError) as refused:
        read_scenario(FILLED.replace('tenant: "{path.name}"', 'tenant: "{path.nam}"'))

    assert "{path.nam} of `maintenance` stands for nothing of the request [bad-placeholder]" in str(refused.value)
    assert "Did you mean 'name'?" in str(refused.value)


TWICE: Final = """
summary: Create tenant fails, then succeeds
api: %s
progression: manual
%s:
  - {name: Fails, starts_on: {path: %s, times: 1}, %s: [{%s: {ends: FAILED}}]}
  - {name: Succeeds, starts_on: {path: %s}, %s: [One]}
"""


@pytest.mark.parametrize(
    ("text", "path", "names"),
    [
        (TWICE % ("ocp", "tasks", TENANTS, "subtasks", "attempts", TENANTS, "subtasks"), TENANTS, "ocp"),
        (TWICE % ("obshell", "dags", INIT, "nodes", "sub_tasks", INIT, "nodes"), INIT, "obshell"),
    ],
)
def test_each_start_may_have_a_script_of_its_own(text: str, path: str, names: str) -> None:
    world = World(text)
    ask = world.serve(auth=names == "ocp")

    started = []
    for _ in range(3):
        started.append(ask("POST", path).json()["data"]["name"])
        world.advance(60 * SECOND)

    assert started == ["Fails", "Succeeds", "Succeeds"]


def test_what_has_started_as_often_as_it_may_is_unknown() -> None:
    ask = World("summary: A\napi: ocp\ntasks: [{starts_on: {path: /api/v2/a, times: 2}, subtasks: [{}]}]").serve()

    assert [ask("POST", "/api/v2/a").status_code for _ in range(3)] == [200, 200, 404]


def test_another_method_may_start_something_else() -> None:
    _, ask = ocp()

    assert ask("DELETE", f"{TENANTS}/9").json()["data"]["name"] == "Drop tenant"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", TENANTS, {"name": "foo"}),
        ("POST", f"{TENANTS}/9", {"name": "foo"}),
        ("POST", TENANTS, {"name": "bar"}),
        ("POST", TENANTS, ["foo"]),
        ("POST", TENANTS, None),
    ],
    ids=str,
)
def test_a_request_that_does_not_fit_is_unknown_and_starts_nothing(method: str, path: str, body: Any) -> None:
    _, ask = ocp()

    answer = ask(method, path, json=body)

    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == f"No API has the path '{path}'."
    assert tasks_of(ask) == []


def test_who_asks_with_the_wrong_body_finds_in_the_journal_what_was_missing() -> None:
    world, ask = ocp()

    ask("POST", TENANTS, json={"name": "bar"})

    (entry,) = world.sandbox.journal.all()
    assert entry.refusal == (
        "POST /api/v2/ob/clusters/{id}/tenants starts 'Create ORACLE tenant' only with a body "
        'that has {"mode": "ORACLE"}.'
    )


@pytest.mark.parametrize(
    ("auth", "status"), [(None, 401), (("manager", "wrong"), 401), (("viewer", "viewer"), 403)], ids=str
)
def test_only_a_manager_starts_tasks(auth: tuple[str, str] | None, status: int) -> None:
    _, ask = ocp()

    answer = ask("POST", TENANTS, json={"name": "foo"}, auth=auth)

    assert answer.status_code == status
    assert tasks_of(ask) == []


def test_a_path_that_starts_nothing_is_unknown_to_those_with_credentials() -> None:
    _, ask = ocp()

    assert ask("POST", "/api/v2/nothing", auth=None).status_code == 401
    assert ask("POST", "/api/v2/nothing").status_code == 404


def test_a_body_that_is_no_json_is_refused() -> None:
    _, ask = ocp()

    answer = ask("POST", TENANTS, content=b'{"name": ')

    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "Malformed JSON request"
    assert tasks_of(ask) == []


@pytest.mark.parametrize(("effect", "born"), [("status: 503", 0), ("drop_response: true", 1)])
def test_a_fault_strikes_a_submit_as_it_does_any_call(effect: str, born: int) -> None:
    _, ask = ocp(f"{CREATE}faults: [{{{effect}, calls: 1}}]\n")

    with contextlib.suppress(httpx.TransportError):
        ask("POST", TENANTS, json={"name": "foo"})

    assert len(tasks_of(ask)) == born


def test_under_immediate_it_is_over_when_its_answer_has_come() -> None:
    world = World(CREATE, progression="immediate")
    ask = world.serve()

    task = ask("POST", TENANTS, json={"name": "foo"}).json()["data"]

    assert task["status"] == "RUNNING"
    assert isinstance(world.sandbox, Ocp)
    world.sandbox.task(task["id"]).assert_status("SUCCESSFUL")


def test_a_client_submits_polls_retries_and_finishes() -> None:
    ask = of_library("create-tenant", progression="polls").serve()

    id = ask("POST", TENANTS, json={"name": "foo"}).json()["data"]["id"]
    seen = [poll(ask, id)]
    ask("POST", f"{TASKS}/{id}/retry").raise_for_status()
    seen.append(poll(ask, id))

    assert seen == ["FAILED", "SUCCESSFUL"]


def poll(ask: Ask, id: int) -> str:
    """How a task has ended."""
    status = "RUNNING"
    while status == "RUNNING":
        status = ask("GET", f"{TASKS}/{id}").json()["data"]["status"]
    return status


# --- obshell --------------------------------------------------------------------------------------


def test_a_start_answers_the_dag_that_was_just_made_without_its_nodes() -> None:
    _, ask = obshell()

    answer = ask("POST", JOIN)

    assert OBSHELL.problems(component("CreatedDagResponse"), answer.json()) == []
    assert answer.json()["data"] == {
        "id": f"{LOCAL}1",
        "dag_id": 1,
        "name": "Join self",
        "stage": 1,
        "max_stage": 1,
        "maintenance_type": 2,
        "maintenance_key": "",
        "state": "READY",
        "operator": "RUN",
        "start_time": "2021-08-25T07:09:31.74Z",
        "end_time": "2021-08-25T07:09:31.74Z",
        "additional_data": None,
        "nodes": None,
    }


def test_a_dag_that_is_born_on_a_tick_is_ready_when_it_is_answered() -> None:
    world, ask = obshell()
    world.advance(5 * SECOND)

    assert ask("POST", JOIN).json()["data"]["state"] == "READY"


def test_numbers_of_dags_nodes_and_sub_tasks_count_up_each_by_themselves() -> None:
    _, ask = obshell()

    answers = [ask("POST", "/api/v1/host/info").json()["data"] for _ in range(3)]

    assert [dag["dag_id"] for dag in answers] == [1, 2, 3]
    (node,) = ask("GET", f"{DAGS}/{answers[2]['id']}").json()["data"]["nodes"]
    assert (node["node_id"], node["sub_tasks"][0]["task_id"]) == (3, 3)


def test_a_number_is_one_more_than_the_largest_that_a_file_gives() -> None:
    text = (AGENT % "SINGLE") + "  - {id: 41, nodes: [One]}\n  - {id: 7, nodes: [One]}\n"
    ask = with_bodies(World(text).serve(auth=False))

    assert ask("POST", JOIN).json()["data"]["dag_id"] == 42


def test_the_numbers_of_parts_go_on_from_those_that_a_file_gives() -> None:
    text = (AGENT % "SINGLE") + "  - {id: 1, nodes: [{id: 250}]}\n"
    ask = with_bodies(World(text).serve(auth=False))

    (node,) = ask("GET", f"{DAGS}/{ask('POST', JOIN).json()['data']['id']}").json()["data"]["nodes"]

    assert (node["node_id"], node["sub_tasks"][0]["task_id"]) == (251, 25002)


def test_the_agent_is_a_master_once_it_has_joined_itself() -> None:
    world, ask = obshell()
    before = identity(ask)

    ask("POST", JOIN)
    meanwhile = identity(ask)
    world.advance(10 * SECOND)

    assert (before, meanwhile, identity(ask)) == ("SINGLE", "SINGLE", "MASTER")


def test_a_master_does_not_join() -> None:
    _, ask = obshell("MASTER")

    assert said(ask("POST", JOIN)) == (
        400,
        "Agent.Identify.NotSupportOperation",
        "'127.0.0.1:2886' is 'MASTER', instead of 'SINGLE', does not support this operation",
    )


def test_nothing_is_started_while_the_agent_is_under_maintenance() -> None:
    world, ask = obshell()
    ask("POST", CONFIG)

    answer = ask("POST", JOIN)

    assert said(answer) == (
        500,
        "Agent.UnderMaintenance",
        "Create task 'Join self' failed: 127.0.0.1:2886 is under maintenance",
    )
    assert "data" not in answer.json()
    assert ask("POST", CONFIG).json()["data"] is None
    assert len(dags_of(world)) == 1


def test_a_failed_dag_keeps_the_lock() -> None:
    world, ask = obshell()
    ask("POST", CONFIG)
    world.advance(60 * SECOND)

    assert ask("POST", CONFIG).status_code == 500


def test_a_dag_that_has_succeeded_has_let_the_lock_go() -> None:
    world, ask = obshell()
    ask("POST", JOIN)
    world.advance(60 * SECOND)

    assert ask("POST", CONFIG).status_code == 200


def test_what_maintains_nothing_needs_no_lock() -> None:
    _, ask = obshell()
    ask("POST", CONFIG)

    assert ask("POST", "/api/v1/host/info").status_code == 200


def test_a_file_s_own_dags_have_the_lock_too() -> None:
    text = (AGENT % "SINGLE") + "  - {name: Old, maintenance: global, nodes: [One]}\n"

    assert with_bodies(World(text).serve(auth=False))("POST", JOIN).status_code == 500


CLUSTER = """
summary: A cluster's maintenance
api: obshell
progression: manual
agent: {identity: CLUSTER AGENT}
dags:
  - name: Upgrade
    starts_on: {path: /api/v1/ob/upgrade}
    scope: cluster
    maintenance: global
    nodes: [One]
  - name: Modify replica
    starts_on: {path: /api/v1/tenant/t1/replicas}
    scope: cluster
    maintenance: {tenant: t1}
    nodes: [One]
"""
CLUSTERS_REFUSALS = [
    (
        "/api/v1/ob/upgrade",
        "/api/v1/tenant/t1/replicas",
        "OB.Cluster.UnderMaintenanceWithDag",
        "Create task 'Modify replica' failed: OceanBase cluster is under maintenance by DAG: "
        "Upgrade, please try again later",
    ),
    (
        "/api/v1/tenant/t1/replicas",
        "/api/v1/tenant/t1/replicas",
        "OB.Tenant.UnderMaintenance",
        "Create task 'Modify replica' failed: Tenant 't1' is under maintenance, please try again later.",
    ),
]


@pytest.mark.parametrize(("first", "second", "err_code", "message"), CLUSTERS_REFUSALS)
def test_a_cluster_and_its_tenants_have_locks_of_their_own(
    first: str, second: str, err_code: str, message: str
) -> None:
    ask = with_bodies(World(CLUSTER).serve(auth=False))
    ask("POST", first)

    assert said(ask("POST", second)) == (500, err_code, message)


def test_an_operator_finds_a_started_dag() -> None:
    world, ask = obshell()
    id = ask("POST", JOIN).json()["data"]["id"]
    world.advance(60 * SECOND)

    assert said(operate(ask, f"{DAGS}/{id}", "RETRY"))[1] == "Task.Dag.Operator.RetryNotFailedDag"


def test_a_start_needs_its_header_as_every_route_does() -> None:
    ask = World(AGENT.replace(CONFIG, INIT) % "MASTER").serve()

    without = ask("POST", INIT, json={})
    wrong = sealed(ask, "POST", INIT, auth="wrong")
    right = sealed(ask, "POST", INIT)

    assert said(without)[:2] == (400, "Request.Header.NotFound")
    assert said(wrong)[:2] == (401, "Security.Authentication.IncorrectOceanbasePassword")
    assert right.json()["data"]["name"] == "Update observer config"


def test_a_start_whose_body_is_no_object_is_refused_in_the_server_s_words() -> None:
    world, ask = obshell()

    assert said(ask("POST", JOIN, content=b"[")) == (400, "Common.BindJsonFailed", "Bind JSON failed: EOF")
    assert dags_of(world) == []


@pytest.mark.parametrize(
    "body",
    [b"null", b"1" * 5000, b'{"a": ' * 40_000, b"\xff", b'{"a": NaN}', b'"\\ud800"', b"[]"],
    ids=lambda body: str(body[:10]),
)
def test_no_body_makes_a_start_fail_in_another_way(body: bytes) -> None:
    _, ask = obshell()
    manager = ocp()[1]

    assert ask("POST", JOIN, content=body).status_code in (200, 400)
    assert manager("POST", TENANTS, content=body).status_code in (400, 404)


def test_a_path_of_obshell_that_starts_nothing_is_unknown() -> None:
    _, ask = obshell()

    assert said(ask("POST", "/api/v1/agent/leave"))[0] == 404


def test_a_cluster_is_initialized_once() -> None:
    world = of_library("start-operations")
    ask = with_bodies(world.serve(auth=False))
    for path in (JOIN, INIT):
        ask("POST", path)
        world.advance(600 * SECOND)

    assert said(ask("POST", INIT)) == (400, "OB.Cluster.AlreadyInitialized", "Cluster has already been initialized")
