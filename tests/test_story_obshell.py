"""Telling a story of obshell's dags: what its words are, and what is said of a refusal.

What any story does is told of OCP's tasks in test_story.py. The dag below is small enough to know
by heart: the scheduler ticks on whole seconds, each run takes less than one.
"""

import pytest

from oceanmock.clock import SECOND
from oceanmock.obshell import api as obshell_api
from oceanmock.obshell import machine as obshell
from oceanmock.obshell.scenario_checks import ObshellActor
from oceanmock.obshell.states import DagScript, NodeFlag, NodeScript, RunScript, SubTaskScript
from oceanmock.scenario.story import (
    Action,
    CallAction,
    Display,
    PartPath,
    StoryDivergesError,
    UntilAction,
    WaitAction,
    simulate,
)

ALL: frozenset[NodeFlag] = frozenset({"cancel", "pass", "retry", "rollback"})
RUNS = SubTaskScript((RunScript(takes=SECOND // 100),))
FAILS_FIRST = SubTaskScript(
    (RunScript(takes=SECOND // 100, ends="FAILED"), RunScript(takes=SECOND // 100)),
    rollbacks=(RunScript(takes=SECOND // 100),),
)


def actor(*, can: frozenset[NodeFlag] = ALL, born: int = 0) -> ObshellActor:
    """A dag whose second node fails after 4 s on the first of two agents, and may do so once."""
    plan = DagScript((NodeScript((RUNS,), can), NodeScript((FAILS_FIRST, RUNS), can)))
    return ObshellActor(born, "Initialize cluster", ("Configure", "Start"), obshell.start(plan))


def until(*words: str | None, part: PartPath = ()) -> UntilAction:
    """A step that waits for the first dag."""
    return UntilAction(0, part, words)


def call(operator: obshell_api.Operator, *, part: PartPath = (), answers: int = 200) -> CallAction:
    """A step that operates on the first dag."""
    return CallAction(0, part, operator, answers)


def divergence(*steps: Action, can: frozenset[NodeFlag] = ALL) -> str:
    """What is said of the story's last step, which cannot happen."""
    with pytest.raises(StoryDivergesError) as diverges:
        simulate([actor(can=can)], steps)
    assert diverges.value.number == len(steps) - 1
    return str(diverges.value)


FAILED = until("FAILED", "RUN")


# --- what shows -----------------------------------------------------------------------------------


def test_a_dag_shows_its_state_its_operator_and_its_stage() -> None:
    shown = list(actor().shows(()))

    assert shown[0] == Display(0, ("READY", "RUN", "stage 1"))
    assert shown[-1].words == ("FAILED", "RUN", "stage 2")


def test_a_node_and_a_sub_task_show_a_state_and_an_operator() -> None:
    alone = actor()

    assert list(alone.shows((1,)))[-1].words == ("FAILED", "RUN")
    assert [list(alone.shows((1, place)))[-1].words for place in (0, 1)] == [
        ("FAILED", "RUN"),
        ("SUCCEED", "RUN"),
    ]


def test_a_story_may_wait_for_a_dag_a_node_a_sub_task_and_a_stage() -> None:
    steps: list[Action] = [
        until(None, None, "stage 2"),
        until("RUNNING", None, part=(1,)),
        until("FAILED", None, part=(1, 0)),
        FAILED,
        call("RETRY"),
        until("SUCCEED", "ROLLBACK", part=(1, 0)),
        until("SUCCEED", "RETRY", part=(1,)),
        until("SUCCEED", "RUN"),
    ]

    run = simulate([actor()], steps)

    assert run.actors[0].life.states[-1].state == "SUCCEED"


def test_an_older_dag_is_further_on() -> None:
    run = simulate([actor(born=-3 * SECOND)], [FAILED, call("RETRY")])

    (mark,) = run.markers
    assert 0 < mark.instant < 2 * SECOND


# --- operators ------------------------------------------------------------------------------------


def test_a_node_is_passed_by_itself() -> None:
    steps: list[Action] = [FAILED, call("PASS", part=(1,)), until("SUCCEED", "RUN")]

    run = simulate([actor()], steps)

    assert [mark.text for mark in run.markers] == ["PASS 'Start' of 'Initialize cluster'"]
    assert run.actors[0].life.states[-1].nodes[1].operator == "PASS"


def test_a_refused_operator_changes_nothing_and_is_marked_as_refused() -> None:
    alone = actor()

    run = simulate([alone], [call("RETRY", answers=400)])

    assert run.actors == (alone,)
    assert [mark.text for mark in run.markers] == ["RETRY 'Initialize cluster', refused"]


def test_a_rollback_with_nothing_to_roll_back_answers_500() -> None:
    """CANCEL of a rollback leaves the first node PENDING/CANCEL (service/task/dag.go:343-345)."""
    steps: list[Action] = [
        FAILED,
        call("ROLLBACK"),
        call("CANCEL"),
        until("FAILED", "CANCEL"),
        call("ROLLBACK", answers=500),
    ]
    never = SubTaskScript((RunScript(takes=SECOND // 100, ends="FAILED"),))
    plan = DagScript(tuple(NodeScript((each,), ALL) for each in (RUNS, never, never)))
    alone = ObshellActor(0, "Initialize cluster", ("A", "B", "C"), obshell.start(plan))

    run = simulate([alone], steps)

    assert run.markers[-1].text == "ROLLBACK 'Initialize cluster', refused"


# --- what is said of a story that cannot happen ---------------------------------------------------

REFUSALS: dict[str, tuple[list[Action], frozenset[NodeFlag], str]] = {
    "a state that does not allow it": (
        [until("RUNNING"), call("RETRY")],
        ALL,
        "RETRY 'Initialize cluster' is refused: "
        "Task.Dag.Operator.RetryNotFailedDag (the dag is RUNNING/RUN)",
    ),
    "a finished dag": (
        [FAILED, call("CANCEL")],
        ALL,
        "CANCEL 'Initialize cluster' is refused: "
        "Task.Dag.Operator.CancelFinishedDag (the dag is FAILED/RUN)",
    ),
    "a flag that is not set": (
        [FAILED, call("RETRY")],
        frozenset({"rollback", "cancel"}),
        "RETRY 'Initialize cluster' is refused: "
        "Task.Dag.Operator.RetryNotAllowed (node 'Start' can cancel, rollback)",
    ),
    "no flag at all": (
        [FAILED, call("ROLLBACK")],
        frozenset(),
        "ROLLBACK 'Initialize cluster' is refused: "
        "Task.Dag.Operator.RollbackNotAllowed (node 'Configure' can nothing)",
    ),
    "a node that has not failed": (
        [FAILED, call("PASS", part=(0,))],
        ALL,
        "PASS 'Configure' of 'Initialize cluster' is refused: "
        "Task.Node.Operator.PassNotFailedNode (node 'Configure' is SUCCEED/RUN)",
    ),
    "a node of a dag that runs": (
        [WaitAction(SECOND), call("PASS", part=(0,))],
        ALL,
        "PASS 'Configure' of 'Initialize cluster' is refused: "
        "Task.Node.Operator.PassNotFailedDag (the dag is RUNNING/RUN)",
    ),
    "another refusal than expected": (
        [FAILED, call("CANCEL", answers=500)],
        ALL,
        "CANCEL 'Initialize cluster' is refused with 400, not 500: "
        "Task.Dag.Operator.CancelFinishedDag (the dag is FAILED/RUN)",
    ),
    "no refusal": (
        [FAILED, call("RETRY", answers=400)],
        ALL,
        "RETRY 'Initialize cluster' is accepted, not refused",
    ),
    "a state that never shows": (
        [FAILED, until("SUCCEED", "PASS")],
        ALL,
        "'Initialize cluster' never is SUCCEED PASS from here on; it is FAILED/RUN, "
        "and nothing more is due",
    ),
    "a stage that never comes": (
        [until(None, None, "stage 3")],
        ALL,
        "'Initialize cluster' never is stage 3 from here on; it is READY/RUN/stage 1; "
        "RUNNING/RUN/stage 1; RUNNING/RUN/stage 2; FAILED/RUN/stage 2, "
        "and after 4 s nothing more is due",
    ),
    "a sub task that never fails": (
        [until("FAILED", None, part=(1, 1))],
        ALL,
        "sub task 2 of 'Start' of 'Initialize cluster' never is FAILED from here on; it is "
        "PENDING/RUN; RUNNING/RUN; SUCCEED/RUN, and after 4 s nothing more is due",
    ),
}


@pytest.mark.parametrize(("steps", "can", "said"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_happen_is_said_in_obshell_s_words(
    steps: list[Action], can: frozenset[NodeFlag], said: str
) -> None:
    assert divergence(*steps, can=can) == said
