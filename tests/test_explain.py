"""The explanation of a task's or dag's state, as whole text and as JSON, and its timeline in plain text.

The clock stands where a test has moved it. test_explain_every_state checks every state that hypothesis makes up.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from golden import assert_golden
from oceanmock import InputError, Obshell, Ocp
from served import AFTERNOON, MANAGER, SECOND, World, client, server

MAX_TRACKS = 20
MAX_CHANGES = 30
NOON = "2024-01-10T14:00:00Z"


def ocp(name: str, *, seconds: float = 0, **options: Any) -> Ocp:
    """Return a sandbox of a scenario of the library so long after its start."""
    sandbox = server().ocp(name, **{"starts_at": AFTERNOON, "progression": "manual", **options})
    if seconds:
        sandbox.clock.advance(seconds)
    return sandbox


def obshell(name: str, *, seconds: float = 0, **options: Any) -> Obshell:
    """Return a sandbox of a scenario of obshell so long after its start; requests need no credentials."""
    options = {"starts_at": AFTERNOON, "progression": "manual", "auth": False, **options}
    sandbox = server().obshell(name, **options)
    if seconds:
        sandbox.clock.advance(seconds)
    return sandbox


def post(sandbox: Ocp, path: str) -> httpx.Response:
    """Send an operation of OCP to a path below the tasks."""
    return client().post(f"{sandbox.url}/api/v2/tasks/instances/{path}", auth=MANAGER)


def operate(sandbox: Obshell, dag: int, operator: str) -> None:
    """Send an operator to a dag."""
    answer = client().post(f"{sandbox.url}/api/v1/task/dag/{sandbox.dag(dag).id}", json={"operator": operator})
    assert answer.status_code == 200, answer.text


def explained(sandbox: Ocp | Obshell, path: str) -> Any:
    """Return the explanation of a task or dag as JSON."""
    return sandbox.admin.ask("GET", f"/tasks/{path}/explain")


def test_an_explanation_goes_back_a_hundred_operations() -> None:
    """The task stays RUNNING meanwhile, as its other subtask does."""
    hangs = "needs: [], attempts: {takes: forever}, timeout: 9h"
    subtasks = f"[{{id: 2, {hangs}}}, {{id: 3, {hangs}}}]"
    world = World(f"summary: A\napi: ocp\ntasks: [{{id: 1, name: A, subtasks: {subtasks}}}]")
    world.advance(2 * SECOND)
    ask = world.serve()
    for _ in range(51):
        for operation in ("cancel", "retry"):
            assert ask("POST", f"/api/v2/tasks/instances/1/subtasks/2/{operation}").status_code == 200
            world.advance(2 * SECOND)

    explanation = explained(world.sandbox, "ocp/1")

    operations = [event["why"][:6] for event in explanation["events"] if " arrives: " in event["why"]]
    assert operations == ["CANCEL", "RETRY "] * 50
    assert explanation["since"].startswith("2021-08-25T07:09:35.74"), "four seconds after its start, at the second"


def test_what_somebody_else_does_next_is_said_once() -> None:
    task = "{id: 1, name: A, subtasks: [{attempts: {ends: FAILED}}], others: [{at: 9s, call: retryTask}]}"
    world = World(f"summary: A\napi: ocp\ntasks: [{task}]")
    world.advance(5 * SECOND)
    world.serve()

    following = explained(world.sandbox, "ocp/1")["next"]

    assert following["what"] == "RETRY of task 1 “A” arrives: every FAILED subtask is READY again"


def test_an_explanation_has_the_last_events() -> None:
    names = ", ".join(f"s{number}" for number in range(400))
    world = World(f"summary: A\napi: ocp\ntasks: [{{id: 1, name: A, subtasks: [{names}]}}]")
    world.serve()
    world.advance(2000 * SECOND)

    events = explained(world.sandbox, "ocp/1")["events"]

    assert 490 < len(events) <= 500
    assert events[-1]["why"] == "the task scheduler's tick finds every subtask SUCCESSFUL: so is the task"
    assert events[0]["from"] in ("PENDING/EXECUTE", "READY/EXECUTE", "RUNNING/EXECUTE")


def test_a_state_lasts_since_its_own_change_however_many_events_have_followed() -> None:
    names = ", ".join(f"s{number}" for number in range(400))
    world = World(f"summary: A\napi: ocp\ntasks: [{{id: 1, name: A, subtasks: [{names}]}}]")
    world.serve()
    world.advance(500 * SECOND)

    explanation = explained(world.sandbox, "ocp/1")

    assert explanation["state"] == "RUNNING"
    assert explanation["since"] == explanation["created"] < explanation["events"][0]["at"]


def test_an_explanation_names_twenty_of_many_subtasks_that_failed() -> None:
    fails = "needs: [], attempts: {takes: 1s, ends: FAILED}"
    subtasks = ", ".join(f"{{name: s{number}, {fails}}}" for number in range(60))
    world = World(f"summary: A\napi: ocp\ntasks: [{{id: 1, name: A, subtasks: [{subtasks}]}}]")
    world.serve()
    world.advance(60 * SECOND)

    reasons = [reason["what"] for reason in explained(world.sandbox, "ocp/1")["because"]]

    assert sum(" ends FAILED after 1s" in reason for reason in reasons) == 21, "and the last event"
    assert any("and 55 more FAILED" in reason for reason in reasons)


# --- OCP, as whole text ---------------------------------------------------------------------------


def test_a_task_that_waits_for_a_scheduler() -> None:
    sandbox = ocp("retry-failed-subtask", seconds=1.2)

    assert_golden("explain-ocp-waiting.txt", sandbox.task(1000).explain())


def test_a_task_that_has_a_failed_subtask_and_waits_for_its_siblings() -> None:
    sandbox = ocp("parallel-branches", seconds=3)

    assert_golden("explain-ocp-waiting-for-siblings.txt", sandbox.task(5900).explain())


def test_a_failed_task() -> None:
    sandbox = ocp("retry-failed-subtask", seconds=4)

    assert_golden("explain-ocp-failed.txt", sandbox.task(1000).explain())


def test_a_retried_task() -> None:
    sandbox = ocp("retry-failed-subtask", seconds=4)
    post(sandbox, "1000/subtasks/1002/retry").raise_for_status()
    sandbox.clock.advance(1)

    assert_golden("explain-ocp-retried.txt", sandbox.task(1000).explain())


def test_a_task_that_fails_again() -> None:
    sandbox = ocp("never-succeeds", seconds=60)
    task = sandbox.tasks()[0]
    post(sandbox, f"{task.id}/retry").raise_for_status()
    sandbox.clock.advance(60)

    assert_golden("explain-ocp-failed-again.txt", task.explain())


def test_a_task_that_is_being_rolled_back() -> None:
    sandbox = ocp("rollback", seconds=4)
    post(sandbox, "5400/rollback").raise_for_status()
    sandbox.clock.advance(1)

    assert_golden("explain-ocp-rolling-back.txt", sandbox.task(5400).explain())


def test_a_task_that_has_been_rolled_back() -> None:
    sandbox = ocp("rollback", seconds=4)
    post(sandbox, "5400/rollback").raise_for_status()
    sandbox.clock.advance(20)

    assert_golden("explain-ocp-rolled-back.txt", sandbox.task(5400).explain())


def test_a_task_that_forbids_rollback() -> None:
    sandbox = ocp("rollback-forbidden", seconds=20)

    assert_golden("explain-ocp-rollback-forbidden.txt", sandbox.task(5500).explain())


def test_a_task_that_has_finished() -> None:
    sandbox = ocp("reinstall-ocp-agent", seconds=60)

    assert_golden("explain-ocp-finished.txt", sandbox.task(35000312).explain())


def test_a_task_whose_running_subtask_was_cancelled() -> None:
    sandbox = ocp("cancel-running-subtask", seconds=2)
    task = sandbox.tasks()[0]
    running = next(subtask for subtask in task.subtasks if subtask.status == "RUNNING")
    post(sandbox, f"{task.id}/subtasks/{running.id}/cancel").raise_for_status()
    sandbox.clock.advance(5)

    assert_golden("explain-ocp-cancelled.txt", task.explain())


def test_a_task_whose_subtask_ran_out_of_time() -> None:
    sandbox = ocp("subtask-times-out", seconds=7200)

    assert_golden("explain-ocp-timed-out.txt", sandbox.tasks()[0].explain())


def test_a_failed_task_that_somebody_will_abandon() -> None:
    sandbox = ocp("abandoned-task", seconds=3)

    assert_golden("explain-ocp-before-abandoned.txt", sandbox.task(6200).explain())


def test_an_abandoned_task() -> None:
    sandbox = ocp("abandoned-task", seconds=30)

    assert_golden("explain-ocp-abandoned.txt", sandbox.task(6200).explain())


# --- obshell, as whole text -----------------------------------------------------------------------


def test_a_dag_between_two_stages() -> None:
    sandbox = obshell("initialize-cluster-fails", seconds=2.4)

    assert_golden("explain-obshell-between-stages.txt", sandbox.dag(4).explain())


def test_a_failed_dag() -> None:
    sandbox = obshell("initialize-cluster-fails", seconds=6)

    assert_golden("explain-obshell-failed.txt", sandbox.dag(4).explain())


def test_a_dag_whose_retry_is_under_way() -> None:
    sandbox = obshell("initialize-cluster-fails", seconds=6)
    operate(sandbox, 4, "RETRY")
    sandbox.clock.advance(1.5)

    assert_golden("explain-obshell-retry.txt", sandbox.dag(4).explain())


def test_a_dag_that_has_been_rolled_back() -> None:
    sandbox = obshell("initialize-cluster-fails", seconds=6)
    operate(sandbox, 4, "ROLLBACK")
    sandbox.clock.advance(20)

    assert_golden("explain-obshell-rolled-back.txt", sandbox.dag(4).explain())


def test_a_dag_that_has_been_cancelled() -> None:
    sandbox = obshell("cancel-running-dag", seconds=5)
    operate(sandbox, 40, "CANCEL")
    sandbox.clock.advance(5)

    assert_golden("explain-obshell-cancelled.txt", sandbox.dag(40).explain())


def test_a_dag_whose_rollback_has_failed() -> None:
    sandbox = obshell("dag-rollback-fails", seconds=6)
    operate(sandbox, 120, "ROLLBACK")
    sandbox.clock.advance(20)

    assert_golden("explain-obshell-rollback-failed.txt", sandbox.dag(120).explain())


def cancelled_rollback() -> Obshell:
    """Return a sandbox with a rollback that was cancelled while it undid the second node."""
    sandbox = obshell("cancelled-rollback", seconds=20)
    operate(sandbox, 50, "ROLLBACK")
    sandbox.clock.advance(4)
    operate(sandbox, 50, "CANCEL")
    return sandbox


def test_a_dag_whose_rollback_was_cancelled() -> None:
    sandbox = cancelled_rollback()
    sandbox.clock.advance(2)

    assert_golden("explain-obshell-rollback-cancelled.txt", sandbox.dag(50).explain())


def test_a_dag_that_can_never_be_rolled_back_again() -> None:
    sandbox = cancelled_rollback()
    sandbox.clock.advance(20)

    assert_golden("explain-obshell-stuck.txt", sandbox.dag(50).explain())


def test_a_node_that_waits_for_another_agent() -> None:
    sandbox = obshell("pass-failed-node", seconds=1.7)

    assert_golden("explain-obshell-waiting-for-agent.txt", sandbox.dag(60).explain())


def test_a_dag_whose_failed_node_was_passed() -> None:
    sandbox = obshell("pass-failed-node", seconds=10)
    node = f"{sandbox.url}/api/v1/task/node/{sandbox.dag(60).id}01"
    client().post(node, json={"operator": "PASS"}).raise_for_status()

    assert_golden("explain-obshell-passed.txt", sandbox.dag(60).explain())


# --- clocks ---------------------------------------------------------------------------------------


def test_under_immediate_all_has_happened() -> None:
    sandbox = ocp("retry-failed-subtask", progression="immediate")

    explanation = explained(sandbox, "ocp/1000")

    assert (explanation["state"], explanation["next"]) == ("FAILED", None)
    assert sandbox.task(1000).explain().endswith("what is due happens at once.\n")


# --- JSON -----------------------------------------------------------------------------------------


def test_an_explanation_as_json() -> None:
    sandbox = ocp("retry-failed-subtask", seconds=4)
    assert post(sandbox, "1000/subtasks/1001/retry").status_code == 400
    assert post(sandbox, "1000/subtasks/1002/retry").status_code == 200

    explanation = explained(sandbox, "ocp/1000")

    assert_golden("explain.json", json.dumps(explanation, ensure_ascii=False, indent=2) + "\n")


def test_a_change_that_is_never_due_is_null() -> None:
    sandbox = ocp("retry-failed-subtask", seconds=4)

    assert explained(sandbox, "ocp/1000")["next"] is None


def test_an_instant_is_exact_so_that_a_clock_can_be_moved_to_it() -> None:
    sandbox = obshell("initialize-cluster-fails", seconds=1)

    following = explained(sandbox, "obshell/4")["next"]

    assert (following["at"], following["in"]) == ("2021-08-25T07:09:32.746829Z", "6.829ms")


@pytest.mark.parametrize("path", ["ocp/7", "obshell/7"])
def test_an_unknown_task_cannot_be_explained(path: str) -> None:
    sandbox = ocp("retry-failed-subtask")

    with pytest.raises(InputError, match=r"^there is no (task|dag) 7 "):
        explained(sandbox, path)


@pytest.mark.parametrize("progression", ["time", "polls", "manual", "immediate"])
def test_an_explanation_is_no_read(progression: str) -> None:
    sandbox = ocp("retry-failed-subtask", progression=progression)
    before = sandbox.clock.now()

    sandbox.task(1000).explain()

    assert progression == "time" or sandbox.clock.now() == before
    assert "▼" not in sandbox.task(1000).timeline()


# --- timelines ------------------------------------------------------------------------------------


def test_a_timeline_has_every_state_up_to_now_and_every_operation() -> None:
    sandbox = ocp("retry-failed-subtask", starts_at=NOON, seconds=10)
    assert post(sandbox, "1000/subtasks/1001/retry").status_code == 400
    assert post(sandbox, "1000/subtasks/1002/retry").status_code == 200
    sandbox.clock.advance(4)

    assert_golden("bands-task.txt", sandbox.task(1000).timeline())


def test_a_timeline_of_a_dag_has_a_track_for_each_of_several_sub_tasks() -> None:
    sandbox = obshell("parallel-node", starts_at=NOON, seconds=20)
    operate(sandbox, 90, "RETRY")
    sandbox.clock.advance(5)

    assert_golden("bands-dag.txt", sandbox.dag(90).timeline())


def test_a_timeline_begins_with_one_state() -> None:
    timeline = ocp("retry-failed-subtask").task(1000).timeline()

    assert "0.000 s after its start" in timeline
    assert "FAILED" not in timeline


def test_drawing_moves_no_clock() -> None:
    sandbox = ocp("retry-failed-subtask", progression="polls")
    before = sandbox.clock.now()

    sandbox.task(1000).timeline()

    assert sandbox.clock.now() == before


def test_a_long_timeline_is_cut_and_says_so() -> None:
    subtasks = ", ".join(f"step {number}" for number in range(100))
    world = World(f"summary: Long\napi: ocp\ntasks: [{{id: 1, name: Long, subtasks: [{subtasks}]}}]\n")
    world.advance(3600 * SECOND)
    world.serve()

    lines = world.sandbox.timelines()[0].splitlines()

    shown = [line for line in lines if line.startswith("  step ")]
    assert 1 < len(shown) < MAX_TRACKS
    assert f"  … and {100 - len(shown)} parts more" in lines
    assert any(line.endswith("states before these") for line in lines)
    assert any(line.endswith("lines before these") for line in lines)
    assert len(lines) < MAX_TRACKS + MAX_CHANGES + 12
    assert shown[-1].startswith("  step 99 ")


def test_no_name_is_taken_for_markup_or_for_a_terminal_s_command() -> None:
    world = World('summary: Odd\napi: ocp\ntasks: [{id: 1, name: "[red]x[/]", subtasks: ["[bold]\\u001b[31mstep"]}]\n')
    world.serve()

    (timeline,) = world.sandbox.timelines()

    assert "task 1 [red]x[/]," in timeline
    assert "\x1b" not in timeline


@pytest.mark.parametrize(("path", "title"), [("ocp/35000312", "task 35000312 "), ("obshell/1", "dag 1 ")])
def test_the_admin_api_draws_a_timeline_of_either_api(path: str, title: str) -> None:
    sandbox = ocp("reinstall-ocp-agent")
    template = {"name": "Start cluster", "nodes": ["Integrate config"]}
    sandbox.admin.ask("POST", "/tasks", {"api": "obshell", "template": template})

    answer = client().get(f"{server().url}/__admin/sandboxes/{sandbox.name}/tasks/{path}/explain?format=timeline")

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.startswith(title)


def test_an_unknown_task_has_no_timeline() -> None:
    sandbox = ocp("retry-failed-subtask")

    answer = client().get(f"{server().url}/__admin/sandboxes/{sandbox.name}/tasks/ocp/17/explain?format=timeline")

    assert answer.status_code == 404
