"""bands: what a task or dag of a sandbox has lived through, as a picture in plain text."""

from __future__ import annotations

from contextlib import suppress

import pytest

from golden import assert_golden
from in_process import asking
from kit_world import World
from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.log import SetClock
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import CallerError
from oceanmock.library import load_scenario, read_scenario
from oceanmock.obshell import world as obshell_world
from oceanmock.obshell.explain import draw_timeline as draw_dag
from oceanmock.ocp import world as ocp_world
from oceanmock.ocp.explain import draw_timeline as draw_task
from oceanmock.report.timeline import MAX_CHANGES, MAX_TRACKS

AFTERNOON = 1_704_895_200 * SECOND


def playing(*names: str) -> Sandbox:
    scenarios = [load_scenario(name) for name in names]
    return make_sandbox(scenarios, progression="manual", starts_at=AFTERNOON)


def test_a_picture_has_every_state_up_to_now_and_every_operation() -> None:
    sandbox = playing("retry-failed-subtask")
    sandbox.advance(10 * SECOND)
    with suppress(CallerError):
        ocp_world.operate_subtask(sandbox, 1000, 1001, "RETRY")
    ocp_world.operate_subtask(sandbox, 1000, 1002, "RETRY")
    sandbox.advance(4 * SECOND)

    assert_golden("bands-task.txt", draw_task(sandbox, 1000))


def test_a_picture_of_a_dag_has_a_band_for_each_of_several_sub_tasks() -> None:
    sandbox = playing("parallel-node")
    sandbox.advance(20 * SECOND)
    obshell_world.operate(sandbox, ("agent", 90), "RETRY")
    sandbox.advance(5 * SECOND)

    assert_golden("bands-dag.txt", draw_dag(sandbox, 90))


def test_at_its_birth_there_is_one_state() -> None:
    picture = draw_task(playing("retry-failed-subtask"), 1000)

    assert "0.000 s after its start" in picture
    assert "FAILED" not in picture


def test_drawing_moves_no_clock() -> None:
    sandbox = playing("retry-failed-subtask")
    sandbox.execute(SetClock("polls"))

    draw_task(sandbox, 1000)

    assert sandbox.clock.now() == AFTERNOON


def test_what_is_long_is_cut_and_says_so() -> None:
    subtasks = ", ".join(f"step {number}" for number in range(100))
    text = f"summary: Long\napi: ocp\ntasks: [{{id: 1, name: Long, subtasks: [{subtasks}]}}]\n"
    sandbox = make_sandbox([read_scenario(text)], progression="manual", starts_at=0)
    sandbox.advance(3600 * SECOND)

    lines = draw_task(sandbox, 1).splitlines()

    shown = [line for line in lines if line.startswith("  step ")]
    assert 1 < len(shown) < MAX_TRACKS
    assert f"  … and {100 - len(shown)} parts more" in lines
    assert any(line.endswith("states before these") for line in lines)
    assert any(line.endswith("lines before these") for line in lines)
    assert len(lines) < MAX_TRACKS + MAX_CHANGES + 12
    assert shown[-1].startswith("  step 99 ")


def test_no_name_is_taken_for_markup_or_for_a_terminal_s_command() -> None:
    text = (
        "summary: Odd\napi: ocp\n"
        'tasks: [{id: 1, name: "[red]x[/]", subtasks: ["[bold]\\u001b[31mstep"]}]\n'
    )
    sandbox = make_sandbox([read_scenario(text)], progression="manual", starts_at=0)

    picture = draw_task(sandbox, 1)

    assert "task 1 [red]x[/]," in picture
    assert "\x1b" not in picture


@pytest.mark.parametrize(("api", "task"), [("ocp", "35000312"), ("obshell", "1")])
def test_the_admin_api_draws_it(api: str, task: str) -> None:
    world = World()
    ask = asking(world)
    template = {"name": "Start cluster", "nodes": ["Integrate config"]}
    ask("POST", "/__admin/sandboxes/default/tasks", json={"api": "obshell", "template": template})

    answer = ask("GET", f"/__admin/sandboxes/default/tasks/{api}/{task}/explain?format=timeline")

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.startswith(("task 35000312 ", "dag 1 "))


def test_an_unknown_task_has_no_picture() -> None:
    ask = asking(World())

    answer = ask("GET", "/__admin/sandboxes/default/tasks/ocp/17/explain?format=timeline")

    assert answer.status_code == 404
