"""explain/: why a task or dag is in its state, as whole text, as JSON, and for every life there is.

The clock stands where a test has moved it, or goes by a wall that the test owns. That nothing is
changed by an explanation, and that none ever fails, is shown of the lives that hypothesis makes up;
they are put into a sandbox as the engine would hold them. A timeline is the same life as a picture
in plain text.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

import obshell_strategies
import ocp_strategies
from golden import assert_golden
from in_process import AFTERNOON, asking
from kit_world import World
from oceanmock.apis import make_sandbox
from oceanmock.clock import PROGRESSIONS, SECOND, Clock, Progression
from oceanmock.engine.log import OperationRecord, SetClock
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import CallerError, NoSuchTask
from oceanmock.library import library_names, load_scenario, read_scenario
from oceanmock.obshell import states as obshell_states
from oceanmock.obshell import world as obshell_world
from oceanmock.obshell.explain import DagExplainer
from oceanmock.obshell.explain import draw_timeline as draw_dag
from oceanmock.obshell.explain import explain as explain_dag
from oceanmock.obshell.scenario import Address, Dag, Node
from oceanmock.obshell.world import DagData, DagKey, Dags, NodeData, SubTaskData, id_of
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import scenario as ocp_files
from oceanmock.ocp import states as ocp_states
from oceanmock.ocp import world as ocp_world
from oceanmock.ocp.explain import TaskExplainer
from oceanmock.ocp.explain import draw_timeline as draw_task
from oceanmock.ocp.explain import explain as explain_task
from oceanmock.ocp.world import SubtaskData, TaskData, Tasks
from oceanmock.report.explain import MAX_CHANGES, MAX_TRACKS, Explanation
from oceanmock.text import one_line

MILLISECOND = SECOND // 1000
INIT: DagKey = ("agent", 4)
CANCELLED: DagKey = ("agent", 50)
REMOVE_ALL: DagKey = ("agent", 60)


def standing(name: str, *, seconds: float = 0, **options: Any) -> Sandbox:
    """A scenario of the library so long after its start."""
    options = {"progression": "manual", "starts_at": AFTERNOON, **options}
    sandbox = make_sandbox([load_scenario(name)], **options)
    advance(sandbox, seconds)
    return sandbox


def advance(sandbox: Sandbox, seconds: float) -> None:
    """Lets so much time pass."""
    sandbox.advance(round(seconds * 1000) * MILLISECOND)


# --- OCP, as whole text ---------------------------------------------------------------------------


def test_a_task_that_waits_for_a_scheduler() -> None:
    sandbox = standing("retry-failed-subtask", seconds=1.2)

    assert_golden("explain-ocp-waiting.txt", explain_task(sandbox, 1000).text())


def test_a_task_that_has_a_failed_subtask_and_waits_for_its_siblings() -> None:
    sandbox = standing("parallel-branches", seconds=3)

    assert_golden("explain-ocp-waiting-for-siblings.txt", explain_task(sandbox, 5900).text())


def test_a_failed_task() -> None:
    sandbox = standing("retry-failed-subtask", seconds=4)

    assert_golden("explain-ocp-failed.txt", explain_task(sandbox, 1000).text())


def test_a_retried_task() -> None:
    sandbox = standing("retry-failed-subtask", seconds=4)
    ocp_world.operate_subtask(sandbox, 1000, 1002, "RETRY")
    advance(sandbox, 1)

    assert_golden("explain-ocp-retried.txt", explain_task(sandbox, 1000).text())


def test_a_task_that_fails_again() -> None:
    sandbox = standing("never-succeeds", seconds=60)
    task = sandbox.world(Tasks).all()[0].task.id
    ocp_world.operate(sandbox, task, "RETRY")
    advance(sandbox, 60)

    assert_golden("explain-ocp-failed-again.txt", explain_task(sandbox, task).text())


def test_a_task_that_is_being_rolled_back() -> None:
    sandbox = standing("rollback", seconds=4)
    ocp_world.operate(sandbox, 5400, "ROLLBACK")
    advance(sandbox, 1)

    assert_golden("explain-ocp-rolling-back.txt", explain_task(sandbox, 5400).text())


def test_a_task_that_has_been_rolled_back() -> None:
    sandbox = standing("rollback", seconds=4)
    ocp_world.operate(sandbox, 5400, "ROLLBACK")
    advance(sandbox, 20)

    assert_golden("explain-ocp-rolled-back.txt", explain_task(sandbox, 5400).text())


def test_a_task_that_forbids_rollback() -> None:
    sandbox = standing("rollback-forbidden", seconds=20)

    assert_golden("explain-ocp-rollback-forbidden.txt", explain_task(sandbox, 5500).text())


def test_a_task_that_has_finished() -> None:
    sandbox = standing("reinstall-ocp-agent", seconds=60)

    assert_golden("explain-ocp-finished.txt", explain_task(sandbox, 35000312).text())


def test_a_task_whose_running_subtask_was_cancelled() -> None:
    sandbox = standing("cancel-running-subtask", seconds=2)
    view = sandbox.world(Tasks).all()[0]
    place = [each.status for each in view.state.subtasks].index("RUNNING")
    ocp_world.operate_subtask(sandbox, view.task.id, view.task.subtasks[place].id, "CANCEL")
    advance(sandbox, 5)

    assert_golden("explain-ocp-cancelled.txt", explain_task(sandbox, view.task.id).text())


def test_a_task_whose_subtask_ran_out_of_time() -> None:
    sandbox = standing("subtask-times-out", seconds=7200)
    task = sandbox.world(Tasks).all()[0].task.id

    assert_golden("explain-ocp-timed-out.txt", explain_task(sandbox, task).text())


def test_a_failed_task_that_somebody_will_abandon() -> None:
    sandbox = standing("abandoned-task", seconds=3)

    assert_golden("explain-ocp-before-abandoned.txt", explain_task(sandbox, 6200).text())


def test_an_abandoned_task() -> None:
    sandbox = standing("abandoned-task", seconds=30)

    assert_golden("explain-ocp-abandoned.txt", explain_task(sandbox, 6200).text())


# --- obshell, as whole text -----------------------------------------------------------------------


def test_a_dag_between_two_stages() -> None:
    sandbox = standing("initialize-cluster-fails", seconds=2.4)

    assert_golden("explain-obshell-between-stages.txt", explain_dag(sandbox, 4).text())


def test_a_failed_dag() -> None:
    sandbox = standing("initialize-cluster-fails", seconds=6)

    assert_golden("explain-obshell-failed.txt", explain_dag(sandbox, 4).text())


def test_a_dag_whose_retry_is_under_way() -> None:
    sandbox = standing("initialize-cluster-fails", seconds=6)
    obshell_world.operate(sandbox, INIT, "RETRY")
    advance(sandbox, 1.5)

    assert_golden("explain-obshell-retry.txt", explain_dag(sandbox, 4).text())


def test_a_dag_that_has_been_rolled_back() -> None:
    sandbox = standing("initialize-cluster-fails", seconds=6)
    obshell_world.operate(sandbox, INIT, "ROLLBACK")
    advance(sandbox, 20)

    assert_golden("explain-obshell-rolled-back.txt", explain_dag(sandbox, 4).text())


def test_a_dag_that_has_been_cancelled() -> None:
    sandbox = standing("cancel-running-dag", seconds=5)
    obshell_world.operate(sandbox, ("agent", 40), "CANCEL")
    advance(sandbox, 5)

    assert_golden("explain-obshell-cancelled.txt", explain_dag(sandbox, 40).text())


def test_a_dag_whose_rollback_has_failed() -> None:
    sandbox = standing("dag-rollback-fails", seconds=6)
    obshell_world.operate(sandbox, ("agent", 120), "ROLLBACK")
    advance(sandbox, 20)

    assert_golden("explain-obshell-rollback-failed.txt", explain_dag(sandbox, 120).text())


def cancelled_rollback() -> Sandbox:
    """A rollback that was cancelled while it undid the second node."""
    sandbox = standing("cancelled-rollback", seconds=20)
    obshell_world.operate(sandbox, CANCELLED, "ROLLBACK")
    advance(sandbox, 4)
    obshell_world.operate(sandbox, CANCELLED, "CANCEL")
    return sandbox


def test_a_dag_whose_rollback_was_cancelled() -> None:
    sandbox = cancelled_rollback()
    advance(sandbox, 2)

    assert_golden("explain-obshell-rollback-cancelled.txt", explain_dag(sandbox, 50).text())


def test_a_dag_that_can_never_be_rolled_back_again() -> None:
    sandbox = cancelled_rollback()
    advance(sandbox, 20)

    assert_golden("explain-obshell-stuck.txt", explain_dag(sandbox, 50).text())


def test_a_node_that_waits_for_another_agent() -> None:
    sandbox = standing("pass-failed-node", seconds=1.7)

    assert_golden("explain-obshell-waiting-for-agent.txt", explain_dag(sandbox, 60).text())


def test_a_dag_whose_failed_node_was_passed() -> None:
    sandbox = standing("pass-failed-node", seconds=10)
    obshell_world.operate_node(sandbox, ("agent", 6001), "PASS")

    assert_golden("explain-obshell-passed.txt", explain_dag(sandbox, 60).text())


# --- clocks ---------------------------------------------------------------------------------------


def test_under_time_it_is_said_that_the_clock_runs() -> None:
    wall = [0]
    sandbox = standing("initialize-cluster-fails", progression="time", wall=lambda: wall[0])
    wall[0] = 5_004 * MILLISECOND

    assert_golden("explain-under-time.txt", explain_dag(sandbox, 4).text())


@pytest.mark.parametrize(
    ("progression", "speed", "said"),
    [
        ("manual", 1, "nothing moves until it is advanced, by 500ms for what is next."),
        ("time", 0.25, "it runs 0.25 times as fast as the wall's."),
        ("polls", 1, "each read moves it to the next change of what was read."),
    ],
)
def test_what_moves_the_clock_is_said(progression: Progression, speed: float, said: str) -> None:
    sandbox = standing("retry-failed-subtask")
    explanation = explain_task(sandbox, 1000)

    moved = replace(explanation, progression=progression, speed=speed)

    (line,) = moved.text().replace("\n  ", " ").splitlines()[-1:]
    assert line == f"Clock: {progression}, at 2021-08-25T07:09:31.740Z; {said}"


def test_under_immediate_all_has_happened() -> None:
    sandbox = standing("retry-failed-subtask", progression="immediate")

    explanation = explain_task(sandbox, 1000)

    assert (explanation.state, explanation.next) == ("FAILED", None)
    assert explanation.text().endswith("what is due happens at once.\n")


# --- JSON -----------------------------------------------------------------------------------------


def test_an_explanation_as_json() -> None:
    sandbox = standing("retry-failed-subtask", seconds=4)
    with pytest.raises(CallerError):
        ocp_world.operate_subtask(sandbox, 1000, 1001, "RETRY")
    ocp_world.operate_subtask(sandbox, 1000, 1002, "RETRY")

    told = explain_task(sandbox, 1000).to_json()

    assert_golden("explain.json", json.dumps(told, ensure_ascii=False, indent=2) + "\n")


def test_what_is_due_at_no_time_is_null() -> None:
    told = explain_task(standing("retry-failed-subtask", seconds=4), 1000).to_json()

    assert told["next"] is None


def test_an_instant_is_exact_so_that_a_clock_can_be_moved_to_it() -> None:
    sandbox = standing("initialize-cluster-fails", seconds=1)

    told = explain_dag(sandbox, 4).to_json()

    assert (told["next"]["at"], told["next"]["in"]) == ("2021-08-25T07:09:32.746829Z", "6.829ms")


def test_a_task_that_is_not_there_cannot_be_explained() -> None:
    sandbox = standing("retry-failed-subtask")

    with pytest.raises(NoSuchTask):
        explain_task(sandbox, 7)
    with pytest.raises(NoSuchTask):
        explain_dag(sandbox, 7)


# --- what it is careful about ---------------------------------------------------------------------


@pytest.mark.parametrize("progression", PROGRESSIONS)
def test_an_explanation_is_no_read(progression: Progression) -> None:
    sandbox = standing("retry-failed-subtask", progression=progression)
    before = sandbox.clock.now()

    explain_task(sandbox, 1000)

    assert progression == "time" or sandbox.clock.now() == before
    assert sandbox.operations_of(Tasks.api, 1000) == ()


def test_a_text_stays_on_its_line_and_gives_a_terminal_no_orders() -> None:
    assert one_line("one\ntwo\x1b[2J\tthree") == "one two [2J three"
    assert len(one_line("x" * 1000)) == 160


def test_an_operation_whose_record_is_lost_is_still_explained() -> None:
    sandbox = standing("retry-failed-subtask", seconds=4)
    ocp_world.operate_subtask(sandbox, 1000, 1002, "RETRY")
    tasks = sandbox.world(Tasks)
    explainer = TaskExplainer(tasks.view(1000).task, tasks.history_of(1000))

    told = explainer.explain((), clock=sandbox.clock)

    (operation,) = [event for event in told.events if event.is_operation]
    assert operation.why.startswith("RETRY of subtask 1002 “Uninstall ocp agent” arrives: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", library_names())
def test_every_moment_of_every_story_of_the_library_can_be_explained(name: str) -> None:
    sandbox = standing(name)
    for _ in range(60):
        before = everything_shown(sandbox)
        for told in everything_in(sandbox):
            check(told)
        assert everything_shown(sandbox) == before
        sandbox.clock.move_to(sandbox.next_due() or sandbox.clock.now())


def everything_shown(sandbox: Sandbox) -> tuple[object, ...]:
    """The clock, and what each task and dag shows by it."""
    dags = sandbox.world(Dags)
    return sandbox.clock.now(), sandbox.world(Tasks).all(), dags.all("agent"), dags.all("cluster")


def everything_in(sandbox: Sandbox) -> list[Explanation]:
    """The first few tasks and dags, explained."""
    of_ocp = [explain_task(sandbox, view.task.id) for view in sandbox.world(Tasks).all()[:3]]
    views = [*sandbox.world(Dags).all("agent"), *sandbox.world(Dags).all("cluster")]
    return [*of_ocp, *(explain_dag(sandbox, id_of(it.dag, it.dag.number)) for it in views[:3])]


def check(told: Explanation) -> None:
    """What holds of every explanation."""
    document = told.to_json()
    assert json.loads(json.dumps(document)) == document
    assert told.because, "it always has a reason"
    assert [event.at for event in told.events] == sorted(event.at for event in told.events)
    assert told.created <= told.since <= max(told.now, told.created)
    assert all(event.why and event.who for event in told.events)
    assert all(each.at is None or each.at <= told.now for each in told.because)
    assert told.next is None or (told.next.at > told.now and told.next.what)
    assert max(map(len, told.text().splitlines())) <= 160
    follow(told)


def follow(told: Explanation) -> None:
    """The events of each part lead without a gap from its first words to its last."""
    shown: dict[tuple[int, ...], str] = {}
    for event in told.events:
        assert event.part not in shown or event.before == shown[event.part]
        shown[event.part] = event.after
    assert shown[()].partition(" ")[0] == f"{told.state}/{told.operation}"


# --- every life -----------------------------------------------------------------------------------


def a_task(plan: ocp_states.TaskScript) -> TaskData:
    """A task that goes with a plan."""
    downstreams = ocp.downstreams_of(plan)
    model = ocp_files.Task(subtasks=(ocp_files.Subtask(),))
    return TaskData(
        id=1,
        name="A task",
        creator=ocp_files.Named(id=1, name="admin"),
        executor="10.0.0.1",
        model=model,
        subtasks=tuple(
            SubtaskData(
                id=place,
                name=f"Step {place}",
                description="",
                executor="10.0.0.1",
                series_id=place,
                model=model.subtasks[0],
                upstreams=each.needs,
                downstreams=downstreams[place],
            )
            for place, each in enumerate(plan.subtasks)
        ),
        created=AFTERNOON,
    )


def a_dag(plan: obshell_states.DagScript) -> DagData:
    """A dag that goes with a plan."""
    agent = Address(ip="10.0.0.1", port=2886)
    return DagData(
        number=1,
        owner=agent,
        name="A dag",
        model=Dag(maintenance="global" if plan.is_maintenance else "none", nodes=(Node(),)),
        nodes=tuple(
            NodeData(
                number,
                f"Node {number}",
                tuple(SubTaskData(place, f"Node {number}", agent, None) for place in range(len(node.sub_tasks))),
            )
            for number, node in enumerate(plan.nodes)
        ),
        created=AFTERNOON,
    )


def at(instant: int) -> Clock:
    """A clock that stands so long after the birth."""
    return Clock("manual", starts_at=AFTERNOON + instant)


def is_stuck(told: Explanation) -> bool:
    """Whether it says that ROLLBACK is refused for good."""
    return any("ROLLBACK is refused for good" in each.what for each in told.because)


@given(ocp_strategies.scripts())
def test_every_state_of_every_task_can_be_explained(script: ocp_strategies.Script) -> None:
    task, operated = a_task(script.plan), list[OperationRecord]()
    story = ocp_strategies.born(script.plan, script.rules)
    for move in script.moves:
        known = len(story.answers)
        story.make(move)
        for act, _, answer in story.answers[known:]:
            refused = "" if answer == "ACCEPTED" else answer
            operated.append(OperationRecord(AFTERNOON + story.instant, act.operation, act.subtask, refused))
        told = TaskExplainer(task, story.life).explain(operated, clock=at(story.instant))
        check(told)
        assert (told.state, told.operation) == (story.now.status, story.now.operation)


@given(obshell_strategies.scripts())
def test_every_state_of_every_dag_can_be_explained(script: obshell_strategies.Script) -> None:
    dag, operated = a_dag(script.plan), list[OperationRecord]()
    story = obshell_strategies.born(script.plan, script.rules)
    for move in script.moves:
        known = len(story.answers)
        story.make(move)
        for act, _, answer in story.answers[known:]:
            refused = "" if answer is None else answer.reason
            operated.append(OperationRecord(AFTERNOON + story.instant, act.operator, act.node, refused))
        told = DagExplainer(dag, story.life).explain(operated, clock=at(story.instant))
        check(told)
        assert not (is_stuck(told) and "ROLLBACK" in [each.operation for each in told.accepts])
        assert (told.state, told.operation) == (story.now.state, story.now.operator)


# --- timelines: the states of a task or dag over time ---------------------------------------------


TIMELINE_START = 1_704_895_200 * SECOND


def playing(*names: str) -> Sandbox:
    scenarios = [load_scenario(name) for name in names]
    return make_sandbox(scenarios, progression="manual", starts_at=TIMELINE_START)


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

    assert sandbox.clock.now() == TIMELINE_START


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
    text = 'summary: Odd\napi: ocp\ntasks: [{id: 1, name: "[red]x[/]", subtasks: ["[bold]\\u001b[31mstep"]}]\n'
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
