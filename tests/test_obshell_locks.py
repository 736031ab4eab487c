"""Maintenance locks: which dag has one, which gives it back when it fails, and what it needs to go on.

The rules are obshell's (service/task/status_maintainer.go, dag.go:422-601, executor/*/*.go at 61ee147); the first of
obproxy's two stories was seen on a running 4.5.0.0.
"""

from __future__ import annotations

from typing import Final

import pytest

from obshell_world import operate, said, with_bodies
from oceanmock.errors import InputError
from oceanmock.library import read_scenario
from served import SECOND, Ask, World

TENANT: Final = """
summary: Create tenant fails and gives its lock back
api: obshell
progression: manual
agent: {identity: CLUSTER AGENT}
dags:
  - name: Create tenant
    scope: cluster
    maintenance: {tenant: t1}
    starts_on: {path: /api/v1/tenant}
    nodes:
      - {name: Create, can: [retry, rollback, pass], sub_tasks: {takes: 1s, ends: FAILED}}
      - {name: Set password, can: [retry, pass]}
  - name: Scale out
    scope: cluster
    maintenance: global
    starts_on: {path: /api/v1/ob/scale_out}
    nodes: [{name: Integrate, sub_tasks: {takes: 1h}}]
  - name: Drop tenant
    scope: cluster
    maintenance: {tenant: t1}
    starts_on: {method: DELETE, path: "/api/v1/tenant/{name}"}
    nodes: [Drop]
"""
OBPROXY: Final = """
summary: Add obproxy fails at its first node, then at its second one
api: obshell
progression: manual
agent: {identity: SINGLE}
dags:
  - name: Add obproxy
    maintenance: obproxy
    starts_on: {path: /api/v1/obproxy}
    nodes:
      - {name: Check, can: [retry, pass], sub_tasks: {attempts: [{ends: FAILED}, {takes: 1ms}]}}
      - {name: Start, can: [retry, pass, rollback], sub_tasks: {ends: FAILED}}
"""
DAG: Final = "/api/v1/task/dag"
EXPIRED: Final = (
    "t1 has already executed task {last}. '{id}: Create tenant' cannot be executed. Please submit a new request"
)


def served(text: str) -> tuple[World, Ask]:
    """Return a world and somebody who sends plain JSON."""
    world = World(text)
    return world, with_bodies(world.serve(auth=False))


def submit(world: World, ask: Ask, path: str, *, method: str = "POST") -> str:
    """Start a dag, wait until nothing more happens soon, and return its id."""
    response = ask(method, path)
    assert response.status_code == 200, response.text
    world.advance(10 * SECOND)
    return str(response.json()["data"]["id"])


def test_a_tenant_can_be_created_again_after_it_failed() -> None:
    world, ask = served(TENANT)

    first, second = submit(world, ask, "/api/v1/tenant"), submit(world, ask, "/api/v1/tenant")

    unfinished = ask("GET", "/api/v1/task/dag/ob/unfinish").json()["data"]["contents"]
    assert [(dag["id"], dag["state"]) for dag in unfinished] == [(first, "FAILED"), (second, "FAILED")]


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/api/v1/tenant/t1"), ("POST", "/api/v1/ob/scale_out")])
def test_a_failure_that_gives_the_lock_back_lets_others_start(method: str, path: str) -> None:
    world, ask = served(TENANT)
    submit(world, ask, "/api/v1/tenant")

    assert ask(method, path).status_code == 200


def test_the_lock_is_held_while_the_dag_runs() -> None:
    _, ask = served(TENANT)
    ask("POST", "/api/v1/tenant")

    assert said(ask("POST", "/api/v1/tenant"))[1] == "OB.Tenant.UnderMaintenance"


def test_a_refusal_names_the_last_maintenance_dag_of_the_cluster() -> None:
    _, ask = served(TENANT.replace("t1", "t2", 1))
    ask("POST", "/api/v1/tenant")
    ask("DELETE", "/api/v1/tenant/t1")

    assert "under maintenance by DAG: Drop tenant" in said(ask("POST", "/api/v1/ob/scale_out"))[2]


def test_a_retry_needs_the_lock_that_its_dag_gave_back() -> None:
    world, ask = served(TENANT)
    first = submit(world, ask, "/api/v1/tenant")
    ask("POST", "/api/v1/ob/scale_out")

    refused = operate(ask, f"{DAG}/{first}", "RETRY")

    message = "OceanBase cluster is under maintenance by DAG: Scale out, please try again later"
    assert said(refused) == (500, "OB.Cluster.UnderMaintenanceWithDag", message)
    assert "data" not in refused.json()


@pytest.mark.parametrize("operator", ["RETRY", "ROLLBACK"])
def test_a_dag_has_expired_once_another_one_has_maintained_its_tenant(operator: str) -> None:
    world, ask = served(TENANT)
    first, last = submit(world, ask, "/api/v1/tenant"), submit(world, ask, "/api/v1/tenant")

    assert said(operate(ask, f"{DAG}/{first}", operator)) == (500, "Task.Expired", EXPIRED.format(last=last, id=first))
    assert operate(ask, f"{DAG}/{last}", operator).status_code == 200


def test_a_retry_takes_the_lock_again() -> None:
    world, ask = served(TENANT)
    first = submit(world, ask, "/api/v1/tenant")

    assert operate(ask, f"{DAG}/{first}", "RETRY").status_code == 200
    assert ask("POST", "/api/v1/ob/scale_out").status_code == 500


@pytest.mark.parametrize("lock", ["global", "obproxy"])
def test_the_status_of_an_agent_shows_its_own_lock_while_a_dag_has_it(lock: str) -> None:
    world, ask = served(OBPROXY.replace("maintenance: obproxy", f"maintenance: {lock}"))
    submit(world, ask, "/api/v1/obproxy")

    assert ask("GET", "/api/v1/status").json()["data"]["underMaintenance"] is False


def test_a_dag_that_gave_its_lock_back_is_still_unfinished() -> None:
    world, ask = served(OBPROXY)
    ids = [submit(world, ask, "/api/v1/obproxy") for _ in range(2)]

    listed = ask("GET", "/api/v1/task/dag/agent/unfinish").json()["data"]["contents"]

    assert [(dag["id"], dag["state"]) for dag in listed] == [(id, "FAILED") for id in ids]


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/v1/ob/scale_in"), ("DELETE", "/api/v1/observer")])
def test_a_server_that_cannot_be_deleted_gives_the_lock_back(method: str, path: str) -> None:
    """ob/agent/api/agent_route.go: both call obClusterScaleInHandler."""
    world, ask = served(
        "summary: A\napi: obshell\nprogression: manual\nagent: {identity: CLUSTER AGENT}\ndags:\n"
        "  - {name: Scale in, scope: cluster, maintenance: global, nodes: [{sub_tasks: {ends: FAILED}}],\n"
        f"     starts_on: {{method: {method}, path: {path}}}}}"
    )

    assert submit(world, ask, path, method=method) != submit(world, ask, path, method=method)


def test_obproxy_keeps_its_lock_from_the_second_node_on() -> None:
    world, ask = served(OBPROXY)
    first, second = submit(world, ask, "/api/v1/obproxy"), submit(world, ask, "/api/v1/obproxy")
    operate(ask, f"{DAG}/{second}", "RETRY")
    world.advance(10 * SECOND)

    refused, retried = ask("POST", "/api/v1/obproxy"), operate(ask, f"{DAG}/{first}", "RETRY")

    held = "127.0.0.1:2886 is under maintenance"
    assert said(refused) == (500, "Agent.UnderMaintenance", f"Create task 'Add obproxy' failed: {held}")
    assert refused.json()["data"] is None
    assert said(retried) == (500, "Agent.UnderMaintenance", held)
    assert "data" not in retried.json()


def test_a_passed_dag_releases_the_lock_of_another_one() -> None:
    """A quirk: PASS stops the maintenance of its kind, whoever has it (dag.go:527)."""
    world, ask = served(OBPROXY)
    first, second = submit(world, ask, "/api/v1/obproxy"), submit(world, ask, "/api/v1/obproxy")
    operate(ask, f"{DAG}/{second}", "RETRY")
    world.advance(10 * SECOND)

    assert operate(ask, f"{DAG}/{first}", "PASS").status_code == 200
    assert ask("POST", "/api/v1/obproxy").status_code == 200


def test_a_dag_that_still_has_its_lock_is_passed_beside_any_other() -> None:
    """Only a scenario's own dags can have two locks that exclude each other."""
    others = """
  - {id: 8, name: Failed, scope: cluster, maintenance: {tenant: t2}, nodes: [{can: [pass], sub_tasks: {ends: FAILED}}]}
  - {id: 9, name: Runs, scope: cluster, maintenance: global, nodes: [{sub_tasks: {takes: 1h}}]}
"""
    world, ask = served(TENANT + others)
    world.advance(10 * SECOND)
    (failed, _) = ask("GET", "/api/v1/task/dag/ob/unfinish").json()["data"]["contents"]

    assert operate(ask, f"{DAG}/{failed['id']}", "PASS").status_code == 200


@pytest.mark.parametrize(
    ("key", "where", "status"),
    [
        ("failure_exit: always", "dag", 200),
        ("failure_exit: first node", "dag", 500),
        ("failure_exit: never", "dag", 500),
        ("failure_exit: true", "node", 200),
    ],
)
def test_a_scenario_says_where_a_failure_gives_the_lock_back(key: str, where: str, status: int) -> None:
    of_dag, of_node = (f"{key}, " if place == where else "" for place in ("dag", "node"))
    world, ask = served(
        "summary: A\napi: obshell\nprogression: manual\ndags:\n"
        f"  - {{name: B, {of_dag}maintenance: global, starts_on: {{path: /api/v1/b}},\n"
        f"     nodes: [One, {{name: Two, {of_node}sub_tasks: {{ends: FAILED}}}}]}}"
    )
    submit(world, ask, "/api/v1/b")

    assert ask("POST", "/api/v1/b").status_code == status


STORY: Final = "story:\n  - {start: Create tenant}\n  - {until: {dag: Create tenant, state: FAILED}}\n"


def test_a_story_starts_what_a_failed_dag_no_longer_locks_out() -> None:
    read_scenario(f"{TENANT}{STORY}  - {{start: Scale out}}\n")


def test_a_story_cannot_retry_without_the_lock() -> None:
    more = "  - {start: Scale out}\n  - {call: operateDag, dag: Create tenant, operator: RETRY}\n"
    with pytest.raises(InputError, match="'Scale out' has the maintenance lock"):
        read_scenario(f"{TENANT}{STORY}{more}")


def test_a_tenant_is_created_once_the_agent_has_become_a_cluster_agent() -> None:
    text = """
summary: Init makes the agent a CLUSTER AGENT, then a tenant is created
api: obshell
progression: manual
agent: {identity: MASTER}
dags:
  - {name: Init, starts_on: {path: /api/v1/ob/init, identity: MASTER}, makes: {identity: CLUSTER AGENT}, nodes: [A]}
  - {name: Create tenant, scope: cluster, starts_on: {path: /api/v1/tenant}, nodes: [A]}
"""
    world, ask = served(text)
    early = said(ask("POST", "/api/v1/tenant"))
    submit(world, ask, "/api/v1/ob/init")

    assert early[:2] == (400, "Agent.Identify.NotSupportOperation")
    assert ask("POST", "/api/v1/tenant").status_code == 200


def test_the_parts_of_a_started_dag_count_up_as_obshell_s_do() -> None:
    world, ask = served(OBPROXY)

    first, second = submit(world, ask, "/api/v1/obproxy"), submit(world, ask, "/api/v1/obproxy")

    dags = [ask("GET", f"/api/v1/task/dag/{id}?show_details=true").json()["data"] for id in (first, second)]
    numbers = [
        (dag["dag_id"], [(node["node_id"], [it["id"][-1:] for it in node["sub_tasks"]]) for node in dag["nodes"]])
        for dag in dags
    ]
    assert numbers == [(1, [(1, ["1"]), (2, ["2"])]), (2, [(3, ["3"]), (4, ["4"])])]
