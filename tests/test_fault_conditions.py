"""When faults apply: for a time by the sandbox's clock, and while a task, a dag or a part of one is in a state."""

from __future__ import annotations

from typing import Any, Final

import pytest
import yaml

from obshell_world import FOREIGN, INIT
from oceanmock.errors import InputError, ScenarioError
from oceanmock.library import read_scenario
from served import SECOND, Ask, World

TASKS: Final = "/api/v2/tasks/instances"
TASK: Final = f"{TASKS}/1"
LOG: Final = f"{TASK}/subtasks/11/log"
TENANTS: Final = "/api/v2/ob/clusters/1/tenants"
QUOTA: Final = "/api/v2/quota"
DAG: Final = "/api/v1/task/dag/22130706433028864"
FIRST_NODE: Final = "/api/v1/task/node/2213070643302886401"
SUB_TASK: Final = "/api/v1/task/sub_task/221307064330288640201"
INSTALL: Final = f"""
summary: A task fails after four seconds
api: ocp
tasks:
  - id: 1
    name: Install
    subtasks: [{{id: 10, name: copy}}, {{id: 11, name: deploy, attempts: {{takes: 3s, ends: FAILED}}}}]
  - {{name: Create tenant, starts_on: {{path: "/api/v2/ob/clusters/{{id}}/tenants"}}, subtasks: [Check tenant]}}
stubs: [{{path: {QUOTA}, data: {{left: 1}}}}]
"""


def serve(*faults: dict[str, Any], text: str = INSTALL, **options: Any) -> tuple[World, Ask]:
    """Serve a scenario with these faults at its start."""
    world = World(f"{text}\nfaults: {yaml.safe_dump(list(faults), default_flow_style=True, width=10**6)}", **options)
    return world, world.serve(auth="ocp" in text)


def statuses(ask: Ask, *paths: str) -> list[int]:
    """Return the statuses of reads."""
    return [ask("GET", path).status_code for path in paths]


def after(world: World, ask: Ask, seconds: list[int], path: str = TASK) -> list[int]:
    """Return the status of a read at each of these instants, in seconds since the start."""
    found, past = [], 0
    for instant in seconds:
        world.advance((instant - past) * SECOND)
        found += statuses(ask, path)
        past = instant
    return found


# --- for a time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({"from": "2s"}, [200, 200, 503, 503, 503]),
        ({"until": "3s"}, [503, 503, 503, 200, 200]),
        ({"from": "1s", "until": "3s"}, [200, 503, 503, 200, 200]),
        ({"from": "0s", "until": "1s"}, [503, 200, 200, 200, 200]),
    ],
    ids=str,
)
def test_a_fault_applies_from_an_instant_until_another(window: dict[str, Any], expected: list[int]) -> None:
    world, ask = serve({"status": 503, **window})

    assert after(world, ask, [0, 1, 2, 3, 9]) == expected


def test_requests_outside_the_time_of_a_fault_are_none_of_its_calls() -> None:
    world, ask = serve({"status": 503, "from": "2s", "calls": 2})

    assert after(world, ask, [0, 1, 2, 3, 4]) == [200, 200, 200, 503, 200]


def test_the_time_of_a_fault_that_is_added_later_counts_from_the_sandbox_s_start() -> None:
    world, ask = serve()
    world.advance(10 * SECOND)
    fault = world.sandbox.faults.add(from_="11s", until=12.5, status=503)

    assert after(world, ask, [0, 1, 2, 3]) == [200, 503, 503, 200]
    assert fault.json()["fault"] == {"from": "11s", "until": "12.5s", "status": 503}


def test_a_reset_begins_the_time_of_a_fault_again() -> None:
    world, ask = serve({"status": 503, "until": "1s"})
    assert after(world, ask, [0, 1]) == [503, 200]

    world.sandbox.reset()

    assert statuses(ask, TASK) == [503]


def test_the_next_fault_applies_where_one_is_over() -> None:
    world, ask = serve({"status": 502, "until": "1s"}, {"status": 503})

    assert after(world, ask, [0, 1]) == [502, 503]


# --- while something is in a state ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "condition", "expected"),
    [
        (TASK, {"status": "RUNNING"}, [503, 503, 200]),
        (TASK, {"status": "FAILED"}, [200, 200, 503]),
        (TASK, {"status": ["FAILED", "RUNNING"]}, [503, 503, 503]),
        (LOG, {"status": "PENDING"}, [503, 200, 200]),
        (LOG, {"status": "RUNNING"}, [200, 503, 200]),
        (LOG, {"status": "RUNNING", "after": "3s"}, [200, 503, 200]),
        (LOG, {"status": "RUNNING", "after": "3.5s"}, [200, 200, 200]),
        (TASK, {"after": "3s", "before": "7s"}, [200, 503, 200]),
        (f"{TASK}/subtasks/99/log", {"status": "PENDING"}, [200, 200, 200]),
        (f"{TASKS}/99", {"status": "RUNNING"}, [404, 404, 404]),
        (f"{TASKS}/x", {"status": "RUNNING"}, [400, 400, 400]),
        (TASKS, {"status": "RUNNING"}, [200, 200, 200]),
        (TASKS, {"task": "Install", "status": "RUNNING"}, [503, 503, 200]),
        (QUOTA, {"task": 1, "status": "FAILED"}, [200, 200, 503]),
        (QUOTA, {"task": "Create tenant"}, [200, 200, 200]),
    ],
    ids=str,
)
def test_a_condition_is_on_what_the_request_names_or_on_a_task_of_the_file(
    path: str, condition: dict[str, Any], expected: list[int]
) -> None:
    world, ask = serve({"status": 503, "when": condition})

    assert after(world, ask, [0, 3, 9], path) == expected


@pytest.mark.parametrize(
    ("path", "condition", "expected"),
    [
        (DAG, {"state": "READY"}, [503, 200]),
        (DAG, {"state": "FAILED"}, [200, 503]),
        (f"/api/v1/task/dag/{FOREIGN}4", {"state": "FAILED"}, [500, 500]),
        (FIRST_NODE, {"state": "SUCCEED"}, [200, 503]),
        (SUB_TASK, {"state": "FAILED"}, [200, 503]),
        (SUB_TASK, {"state": ["READY", "PENDING"]}, [503, 200]),
        ("/api/v1/task/dag/maintain/agent", {"state": "FAILED"}, [200, 200]),
        ("/api/v1/task/dag/maintain/agent", {"dag": 4, "state": "FAILED"}, [200, 503]),
    ],
    ids=str,
)
def test_a_condition_is_on_a_dag_or_a_part_of_one(path: str, condition: dict[str, Any], expected: list[int]) -> None:
    world, ask = serve({"status": 503, "when": condition}, text=INIT)

    assert after(world, ask, [0, 60], path) == expected


def test_a_condition_is_on_one_of_the_sub_tasks_of_a_node() -> None:
    nodes = "[{name: Join, sub_tasks: [{name: one}, {name: two, ends: FAILED}]}]"
    text = f"summary: A\napi: obshell\nprogression: manual\ndags: [{{id: 4, name: Join, nodes: {nodes}}}]"
    world, ask = serve({"status": 503, "when": {"state": "SUCCEED"}}, text=text)
    world.advance(60 * SECOND)

    assert statuses(ask, f"{SUB_TASK[:-3]}101", f"{SUB_TASK[:-3]}102") == [503, 200]


def test_a_submit_call_waits_for_a_task() -> None:
    world, ask = serve({"when": {"task": "Install", "status": "RUNNING"}, "status": 409, "error_code": 7})

    first = ask("POST", TENANTS, json={})
    world.advance(9 * SECOND)

    assert (first.status_code, first.json()["error"]["code"]) == (409, 7)
    assert ask("POST", TENANTS, json={}).status_code == 200


def test_an_operation_is_refused_while_its_task_is_in_a_state() -> None:
    fault = {"operation": "retryTask", "when": {"status": "FAILED"}, "calls": 1, "status": 409}
    world, ask = serve(fault)

    assert ask("POST", f"{TASK}/retry").status_code == 400
    world.advance(9 * SECOND)
    assert [ask("POST", f"{TASK}/retry").status_code for _ in range(2)] == [409, 200]


def test_values_of_a_response_are_changed_while_a_task_is_in_a_state() -> None:
    world, ask = serve({"operation": "getTaskInstance", "when": {"status": "FAILED"}, "set": {"data.status": "BROKEN"}})

    before = ask("GET", TASK).json()["data"]["status"]
    world.advance(9 * SECOND)

    assert (before, ask("GET", TASK).json()["data"]["status"]) == ("RUNNING", "BROKEN")


@pytest.mark.parametrize("fault", [{"when": {"status": "RUNNING"}}, {"until": "4s"}], ids=str)
def test_a_fault_that_keeps_a_client_from_reading_ends_under_polls(fault: dict[str, Any]) -> None:
    _, ask = serve({"status": 503, **fault}, progression="polls")

    found = statuses(ask, *[TASK] * 20)

    assert found == sorted(found, reverse=True)
    assert set(found) == {200, 503}


# --- mistakes -------------------------------------------------------------------------------------

REFUSED: Final = {
    "a time that ends before it begins": (
        "{from: 3s, until: 3s, status: 503}",
        "fault 1 never applies: `until` is not later than `from` [bad-fault]\n  Give it a later `until`.",
    ),
    "a time without a unit": ("{from: 3, status: 503}", "`from` of fault 1 is 3, which is not a duration"),
    "an end at the start": ("{until: 0s, status: 503}", "fault 1 never applies: `until` is not later than `from`"),
    "a condition on nothing": (
        "{operation: listTaskInstances, when: {status: RUNNING}, status: 503}",
        "fault 1 is never injected: its requests name no task [never-injected]\n  Say which one: `when: {task: …}`.",
    ),
    "a condition of a stub on nothing": (
        "{stub: stub 1, when: {status: RUNNING}, status: 503}",
        "fault 1 is never injected: its requests name no task [never-injected]",
    ),
    "a condition on a task that there is not": (
        "{when: {task: 9, status: RUNNING}, status: 503}",
        "there is no task 9 in this file [unknown-reference]",
    ),
    "a state that there is not": (
        "{when: {status: SUCCEED}, status: 503}",
        "`status` of `when` of fault 1 is 'SUCCEED', which OCP does not have",
    ),
    "a state that only a subtask has": (
        "{when: {task: 1, status: [FAILED, PENDING]}, status: 503}",
        "a task is never PENDING [unknown-value]\n  Allowed: RUNNING, FAILED, SUCCESSFUL, ABORTED.",
    ),
    "a condition that asks for nothing": (
        "{when: {}, status: 503}",
        "`when` of fault 1 asks for nothing; leave it out",
    ),
    "a key of the other API": ("{when: {state: RUNNING}, status: 503}", "`state` is no key of `when` of fault 1"),
}


@pytest.mark.parametrize(("fault", "message"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_in_a_time_or_condition_is_refused(fault: str, message: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        read_scenario(f"{INSTALL}faults: [{fault}]\n")

    assert message in str(refused.value)


@pytest.mark.parametrize("fault", ["from: 1s", "until: 1s", "when: {status: RUNNING}"])
def test_a_fault_behind_one_that_applies_for_a_time_is_right(fault: str) -> None:
    assert read_scenario(f"{INSTALL}faults: [{{{fault}, status: 502}}, {{status: 503}}]\n")


@pytest.mark.parametrize(
    ("condition", "api"),
    [({"status": "FAILED"}, "ocp"), ({"state": "FAILED"}, "obshell"), ({"dag": 4, "before": "1s"}, "obshell")],
    ids=str,
)
def test_a_condition_tells_the_api_of_a_fault(condition: dict[str, Any], api: str) -> None:
    world, _ = serve()

    fault = world.sandbox.faults.add(when=condition, status=503)

    said = fault.json()["fault"]
    assert (said["api"], said["when"]) == (
        api,
        {k: [v] if k in ("status", "state") else v for k, v in condition.items()},
    )


def test_a_mistake_in_an_added_condition_is_refused() -> None:
    world, _ = serve()

    with pytest.raises(InputError, match="is no key of `when` of fault 1"):
        world.sandbox.faults.add(when={"status": "FAILED", "state": "FAILED"}, status=503)
