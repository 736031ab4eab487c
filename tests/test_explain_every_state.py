"""Explanations of every state: of each moment of the library's scenarios, and of the lives that hypothesis makes up.

Those lives are put into a sandbox as the engine would hold them. An explanation never fails, and reads nothing.
test_explain checks the texts, through the public names.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

import obshell_strategies
import ocp_strategies
from golden import assert_golden
from in_process import AFTERNOON
from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND, Clock, Progression
from oceanmock.engine.log import OperationRecord
from oceanmock.engine.sandbox import Sandbox
from oceanmock.library import library_names, load_scenario
from oceanmock.obshell import states as obshell_states
from oceanmock.obshell.agent import Agent
from oceanmock.obshell.explain import DagExplainer
from oceanmock.obshell.explain import explain as explain_dag
from oceanmock.obshell.scenario import Dag, Node
from oceanmock.obshell.world import DagData, Dags, NodeData, SubTaskData, id_of
from oceanmock.ocp import scenario as ocp_files
from oceanmock.ocp import states as ocp_states
from oceanmock.ocp import world as ocp_world
from oceanmock.ocp.explain import TaskExplainer
from oceanmock.ocp.explain import explain as explain_task
from oceanmock.ocp.world import SubtaskData, TaskData, Tasks
from oceanmock.report.explain import Explainer
from oceanmock.text import one_line

MILLISECOND = SECOND // 1000


def standing(name: str, *, seconds: float = 0, **options: Any) -> Sandbox:
    """A scenario of the library so long after its start."""
    options = {"progression": "manual", "starts_at": AFTERNOON, **options}
    sandbox = make_sandbox([load_scenario(name)], **options)
    advance(sandbox, seconds)
    return sandbox


def advance(sandbox: Sandbox, seconds: float) -> None:
    """Lets so much time pass."""
    sandbox.advance(round(seconds * 1000) * MILLISECOND)


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
    tasks = sandbox.world(Tasks)
    clock = Clock(progression, starts_at=sandbox.clock.now(), speed=speed, wall=lambda: 0)

    explainer = TaskExplainer(tasks.view(1000).data, tasks.history_of(1000), (), clock)

    (line,) = explainer.text().replace("\n  ", " ").splitlines()[-1:]
    assert line == f"Clock: {progression}, at 2021-08-25T07:09:31.740Z; {said}"


# --- what it is careful about ---------------------------------------------------------------------


def test_a_text_stays_on_its_line_and_gives_a_terminal_no_orders() -> None:
    assert one_line("one\ntwo\x1b[2J\tthree") == r"one two\x1b[2J three"
    assert len(one_line("x" * 1000)) == 160


def test_an_operation_whose_record_is_lost_is_still_explained() -> None:
    sandbox = standing("retry-failed-subtask", seconds=4)
    ocp_world.operate_subtask(sandbox, 1000, 1002, "RETRY")
    tasks = sandbox.world(Tasks)

    told = TaskExplainer(tasks.view(1000).data, tasks.history_of(1000), (), sandbox.clock)

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


def everything_in(sandbox: Sandbox) -> list[Explainer[Any]]:
    """The first few tasks and dags, explained."""
    of_ocp = [explain_task(sandbox, view.data.id) for view in sandbox.world(Tasks).all()[:3]]
    views = [*sandbox.world(Dags).all("agent"), *sandbox.world(Dags).all("cluster")]
    return [*of_ocp, *(explain_dag(sandbox, id_of(it.data, it.data.number)) for it in views[:3])]


def check(told: Explainer[Any]) -> None:
    """What holds of every explanation."""
    document = told.to_json()
    assert json.loads(json.dumps(document)) == document
    assert told.because, "it always has a reason"
    assert [event.at for event in told.events] == sorted(event.at for event in told.events)
    assert told.created <= told.since <= max(told.now, told.created)
    assert all(event["why"] and event["who"] for event in document["events"])
    assert all(at is None or at <= told.now for at, _ in told.because)
    assert told.next is None or (told.next[0] > told.now and told.next[1])
    assert max(map(len, told.text().splitlines())) <= 160
    follow(told)


def follow(told: Explainer[Any]) -> None:
    """The events of each part lead without a gap from its first words to its last."""
    shown: dict[tuple[int, ...], str] = {}
    for event in told.events:
        assert event.part not in shown or event.before == shown[event.part]
        shown[event.part] = event.after
    assert shown[()].partition(" ")[0] == "/".join(told.state.label_of(()))


# --- every life -----------------------------------------------------------------------------------


def a_task(plan: ocp_states.TaskScript) -> TaskData:
    """A task that goes with a plan."""
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
                downstreams=plan.downstreams[place],
            )
            for place, each in enumerate(plan.subtasks)
        ),
        created=AFTERNOON,
    )


def a_dag(plan: obshell_states.DagScript) -> DagData:
    """A dag that goes with a plan."""
    agent = Agent(ip="10.0.0.1", port=2886)
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


def is_stuck(told: Explainer[Any]) -> bool:
    """Whether it says that ROLLBACK is refused for good."""
    return any("ROLLBACK is refused for good" in what for _, what in told.because)


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
        told = TaskExplainer(task, story.life, operated, at(story.instant))
        check(told)
        assert told.state.label_of(()) == (story.now.status, story.now.operation)


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
        told = DagExplainer(dag, story.life, operated, at(story.instant))
        check(told)
        assert not (is_stuck(told) and "ROLLBACK" in [operation for operation, _ in told.offers()])
        assert told.state.label_of(()) == (story.now.state, story.now.operator)
