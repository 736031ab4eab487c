"""Telling a story: what each step does, and what is said of one that cannot happen.

The machine's own rules are not tested here; the task and the dag below are small enough to know by
heart. Ticks are whole seconds; a task's runs start half a second later, and a dag's take less than
one. What any story does is told of OCP's tasks.
"""

from __future__ import annotations

import pytest

from oceanmock.clock import SECOND
from oceanmock.obshell import api as obshell_api
from oceanmock.obshell import machine as obshell
from oceanmock.obshell.scenario import ObshellActor
from oceanmock.obshell.states import DagScript, NodeFlag, NodeScript, RunScript, SubTaskScript
from oceanmock.ocp import api as ocp_api
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import states as ocp_states
from oceanmock.ocp.scenario import OcpActor
from oceanmock.scenario.story import Action, Display, PartPath, StoryDivergesError, simulate

FAILS_FIRST = ocp_states.SubtaskScript(
    (ocp_states.RunScript(takes=SECOND, ends="FAILED"), ocp_states.RunScript(takes=SECOND)),
    rollbacks=(ocp_states.RunScript(SECOND),),
)
AFTERWARDS = ocp_states.SubtaskScript((ocp_states.RunScript(takes=SECOND),), needs=(0,))


def actor(*, born: int = 0, prohibits_rollback: bool = False) -> OcpActor:
    """A task that is FAILED after 2 s, whose first subtask succeeds when retried."""
    plan = ocp_states.TaskScript((FAILS_FIRST, AFTERWARDS), prohibits_rollback=prohibits_rollback)
    return OcpActor(born, "Upgrade", ("Install", "Check"), ocp.start(plan))


def until(status: str | None = None, operation: str | None = None, *, subtask: int | None = None) -> Action:
    """A step that waits for the first task."""
    return Action("until", 0, () if subtask is None else (subtask,), (status, operation))


def call(operation: ocp_api.Operation, *, subtask: int | None = None, refused: bool = False) -> Action:
    """A step that operates on the first task."""
    part = () if subtask is None else (subtask,)
    return Action("call", 0, part, operation=operation, status=400 if refused else 200)


def divergence(*steps: Action, **changes: bool) -> tuple[int, str]:
    """Where the story diverges, and what is said of it."""
    with pytest.raises(StoryDivergesError) as diverges:
        simulate([actor(**changes)], steps)
    return diverges.value.number, str(diverges.value)


def test_a_story_without_steps_is_the_life_as_it_goes() -> None:
    alone = actor()

    run = simulate([alone], [])

    assert run.actors == (alone,)


def test_until_goes_to_the_first_instant_at_which_a_state_shows() -> None:
    steps: list[Action] = [until("FAILED"), call("RETRY")]

    run = simulate([actor()], steps)

    assert run.actors[0].markers == ((2 * SECOND, "RETRY 'Upgrade'"),)


def test_until_does_not_wait_for_what_already_shows() -> None:
    steps: list[Action] = [until("FAILED"), Action("wait", span=5 * SECOND), until("FAILED"), call("RETRY")]

    run = simulate([actor()], steps)

    assert [at for at, _ in run.actors[0].markers] == [7 * SECOND]


def test_until_may_wait_for_a_subtask() -> None:
    steps: list[Action] = [until("FAILED", subtask=0), until("FAILED"), call("RETRY", subtask=0)]

    run = simulate([actor()], steps)

    assert run.actors[0].markers == ((2 * SECOND, "RETRY 'Install' of 'Upgrade'"),)


def test_until_may_wait_for_a_status_under_an_operation() -> None:
    steps: list[Action] = [until("FAILED"), call("RETRY"), until("SUCCESSFUL", "RETRY")]

    run = simulate([actor()], steps)

    assert run.actors[0].history.states[-1].operation == "RETRY"


def test_a_wait_lets_time_pass() -> None:
    steps: list[Action] = [Action("wait", span=2500 * SECOND // 1000), call("RETRY")]

    run = simulate([actor()], steps)

    assert [at for at, _ in run.actors[0].markers] == [2500 * SECOND // 1000]


def test_an_older_task_is_further_on() -> None:
    steps: list[Action] = [until("FAILED"), call("RETRY")]

    run = simulate([actor(born=-2 * SECOND)], steps)

    assert [at for at, _ in run.actors[0].markers] == [2 * SECOND]


def test_two_tasks_live_by_one_clock() -> None:
    steps: list[Action] = [until("FAILED"), Action("call", 1, operation="RETRY")]

    run = simulate([actor(), actor(born=-SECOND)], steps)

    assert run.actors[1].markers == ((3 * SECOND, "RETRY 'Upgrade'"),)


def test_a_refused_call_changes_nothing() -> None:
    alone = actor()

    run = simulate([alone], [call("RETRY", refused=True)])

    assert run.actors[0].history == alone.history


def test_a_refused_call_is_marked_as_refused() -> None:
    steps: list[Action] = [call("RETRY", refused=True)]

    run = simulate([actor()], steps)

    assert run.actors[0].markers == ((0, "RETRY 'Upgrade', refused"),)


def test_a_forbidden_rollback_is_a_refused_call() -> None:
    steps: list[Action] = [until("FAILED"), call("ROLLBACK", refused=True)]

    run = simulate([actor(prohibits_rollback=True)], steps)

    assert run.actors[0].history.states[-1].status == "FAILED"


def test_a_state_that_never_shows_diverges_and_says_what_shows_instead() -> None:
    number, message = divergence(until("SUCCESSFUL"))

    assert number == 0
    assert message == (
        "'Upgrade' never is SUCCESSFUL from here on; it is RUNNING/EXECUTE; FAILED/EXECUTE, "
        "and after 2 s nothing more is due"
    )


def test_a_state_that_is_past_diverges() -> None:
    number, message = divergence(until("FAILED"), until("RUNNING"))

    assert number == 1
    assert message == ("'Upgrade' never is RUNNING from here on; it is FAILED/EXECUTE, and nothing more is due")


def test_a_subtask_that_never_gets_there_is_named() -> None:
    number, message = divergence(until("RUNNING", subtask=1))

    assert number == 0
    assert message == (
        "'Check' of 'Upgrade' never is RUNNING from here on; it is PENDING/EXECUTE, and after 2 s nothing more is due"
    )


def test_a_call_that_comes_too_late_diverges() -> None:
    number, message = divergence(until("FAILED"), call("RETRY"), until("SUCCESSFUL"), call("RETRY", subtask=0))

    assert number == 3
    assert message == (
        "RETRY 'Install' of 'Upgrade' is refused: RETRY is not allowed in state SUCCESSFUL; allowed: none"
    )


def test_a_forbidden_rollback_that_was_to_be_accepted_diverges() -> None:
    number, message = divergence(until("FAILED"), call("ROLLBACK"), prohibits_rollback=True)

    assert number == 1
    assert message == ("ROLLBACK 'Upgrade' is refused: the task, or a subtask that has run, forbids rollback")


def test_a_call_that_is_accepted_though_it_was_to_be_refused_diverges() -> None:
    number, message = divergence(until("FAILED"), call("RETRY", refused=True))

    assert number == 1
    assert message == "RETRY 'Upgrade' is accepted, not refused"


# --- the words of obshell's stories, and what is said of a refusal --------------------------------


ALL: frozenset[NodeFlag] = frozenset({"cancel", "pass", "retry", "rollback"})
RUNS = SubTaskScript((RunScript(takes=SECOND // 100),))
DAG_FAILS_FIRST = SubTaskScript(
    (RunScript(takes=SECOND // 100, ends="FAILED"), RunScript(takes=SECOND // 100)),
    rollbacks=(RunScript(takes=SECOND // 100),),
)


def dag_actor(*, can: frozenset[NodeFlag] = ALL, born: int = 0) -> ObshellActor:
    """A dag whose second node fails after 4 s on the first of two agents, and may do so once."""
    plan = DagScript((NodeScript((RUNS,), can), NodeScript((DAG_FAILS_FIRST, RUNS), can)))
    return ObshellActor(born, "Initialize cluster", ("Configure", "Start"), obshell.start(plan))


def until_dag(*words: str | None, part: PartPath = ()) -> Action:
    """A step that waits for the first dag."""
    return Action("until", 0, part, words)


def call_dag(operator: obshell_api.Operator, *, part: PartPath = (), answers: int = 200) -> Action:
    """A step that operates on the first dag."""
    return Action("call", 0, part, operation=operator, status=answers)


def dag_divergence(*steps: Action, can: frozenset[NodeFlag] = ALL) -> str:
    """What is said of the story's last step, which cannot happen."""
    with pytest.raises(StoryDivergesError) as diverges:
        simulate([dag_actor(can=can)], steps)
    assert diverges.value.number == len(steps) - 1
    return str(diverges.value)


FAILED = until_dag("FAILED", "RUN")


# --- what shows -----------------------------------------------------------------------------------


def test_a_dag_shows_its_state_its_operator_and_its_stage() -> None:
    shown = list(dag_actor().shows(()))

    assert shown[0] == Display(0, ("READY", "RUN", "stage 1"))
    assert shown[-1].words == ("FAILED", "RUN", "stage 2")


def test_a_node_and_a_sub_task_show_a_state_and_an_operator() -> None:
    alone = dag_actor()

    assert list(alone.shows((1,)))[-1].words == ("FAILED", "RUN")
    assert [list(alone.shows((1, place)))[-1].words for place in (0, 1)] == [("FAILED", "RUN"), ("SUCCEED", "RUN")]


def test_a_story_may_wait_for_a_dag_a_node_a_sub_task_and_a_stage() -> None:
    steps: list[Action] = [
        until_dag(None, None, "stage 2"),
        until_dag("RUNNING", None, part=(1,)),
        until_dag("FAILED", None, part=(1, 0)),
        FAILED,
        call_dag("RETRY"),
        until_dag("SUCCEED", "ROLLBACK", part=(1, 0)),
        until_dag("SUCCEED", "RETRY", part=(1,)),
        until_dag("SUCCEED", "RUN"),
    ]

    run = simulate([dag_actor()], steps)

    assert run.actors[0].history.states[-1].state == "SUCCEED"


def test_an_older_dag_is_further_on() -> None:
    run = simulate([dag_actor(born=-3 * SECOND)], [FAILED, call_dag("RETRY")])

    ((at, _),) = run.actors[0].markers
    assert 3 * SECOND < at < 5 * SECOND


# --- operators ------------------------------------------------------------------------------------


def test_a_node_is_passed_by_itself() -> None:
    steps: list[Action] = [FAILED, call_dag("PASS", part=(1,)), until_dag("SUCCEED", "RUN")]

    run = simulate([dag_actor()], steps)

    assert [text for _, text in run.actors[0].markers] == ["PASS 'Start' of 'Initialize cluster'"]
    assert run.actors[0].history.states[-1].nodes[1].operator == "PASS"


def test_a_refused_operator_changes_nothing_and_is_marked_as_refused() -> None:
    alone = dag_actor()

    run = simulate([alone], [call_dag("RETRY", answers=400)])

    assert run.actors[0].history == alone.history
    assert [text for _, text in run.actors[0].markers] == ["RETRY 'Initialize cluster', refused"]


def test_a_rollback_with_nothing_to_roll_back_answers_500() -> None:
    """CANCEL of a rollback leaves the first node PENDING/CANCEL (service/task/dag.go:343-345)."""
    steps: list[Action] = [
        FAILED,
        call_dag("ROLLBACK"),
        call_dag("CANCEL"),
        until_dag("FAILED", "CANCEL"),
        call_dag("ROLLBACK", answers=500),
    ]
    never = SubTaskScript((RunScript(takes=SECOND // 100, ends="FAILED"),))
    plan = DagScript(tuple(NodeScript((each,), ALL) for each in (RUNS, never, never)))
    alone = ObshellActor(0, "Initialize cluster", ("A", "B", "C"), obshell.start(plan))

    run = simulate([alone], steps)

    assert run.actors[0].markers[-1][1] == "ROLLBACK 'Initialize cluster', refused"


# --- what is said of a story that cannot happen ---------------------------------------------------

REFUSALS: dict[str, tuple[list[Action], frozenset[NodeFlag], str]] = {
    "a state that does not allow it": (
        [until_dag("RUNNING"), call_dag("RETRY")],
        ALL,
        "RETRY 'Initialize cluster' is refused: Task.Dag.Operator.RetryNotFailedDag (the dag is RUNNING/RUN)",
    ),
    "a finished dag": (
        [FAILED, call_dag("CANCEL")],
        ALL,
        "CANCEL 'Initialize cluster' is refused: Task.Dag.Operator.CancelFinishedDag (the dag is FAILED/RUN)",
    ),
    "a flag that is not set": (
        [FAILED, call_dag("RETRY")],
        frozenset({"rollback", "cancel"}),
        "RETRY 'Initialize cluster' is refused: Task.Dag.Operator.RetryNotAllowed (node 'Start' can cancel, rollback)",
    ),
    "no flag at all": (
        [FAILED, call_dag("ROLLBACK")],
        frozenset(),
        "ROLLBACK 'Initialize cluster' is refused: Task.Dag.Operator.RollbackNotAllowed (node 'Configure' can nothing)",
    ),
    "a node that has not failed": (
        [FAILED, call_dag("PASS", part=(0,))],
        ALL,
        "PASS 'Configure' of 'Initialize cluster' is refused: "
        "Task.Node.Operator.PassNotFailedNode (node 'Configure' is SUCCEED/RUN)",
    ),
    "a node of a dag that runs": (
        [Action("wait", span=SECOND), call_dag("PASS", part=(0,))],
        ALL,
        "PASS 'Configure' of 'Initialize cluster' is refused: "
        "Task.Node.Operator.PassNotFailedDag (the dag is RUNNING/RUN)",
    ),
    "another refusal than expected": (
        [FAILED, call_dag("CANCEL", answers=500)],
        ALL,
        "CANCEL 'Initialize cluster' is refused with 400, not 500: "
        "Task.Dag.Operator.CancelFinishedDag (the dag is FAILED/RUN)",
    ),
    "no refusal": (
        [FAILED, call_dag("RETRY", answers=400)],
        ALL,
        "RETRY 'Initialize cluster' is accepted, not refused",
    ),
    "a state that never shows": (
        [FAILED, until_dag("SUCCEED", "PASS")],
        ALL,
        "'Initialize cluster' never is SUCCEED PASS from here on; it is FAILED/RUN, and nothing more is due",
    ),
    "a stage that never comes": (
        [until_dag(None, None, "stage 3")],
        ALL,
        "'Initialize cluster' never is stage 3 from here on; it is READY/RUN/stage 1; "
        "RUNNING/RUN/stage 1; RUNNING/RUN/stage 2; FAILED/RUN/stage 2, "
        "and after 4 s nothing more is due",
    ),
    "a sub task that never fails": (
        [until_dag("FAILED", None, part=(1, 1))],
        ALL,
        "sub task 2 of 'Start' of 'Initialize cluster' never is FAILED from here on; it is "
        "PENDING/RUN; RUNNING/RUN; SUCCEED/RUN, and after 4 s nothing more is due",
    ),
}


@pytest.mark.parametrize(("steps", "can", "said"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_happen_is_said_in_obshell_s_words(
    steps: list[Action], can: frozenset[NodeFlag], said: str
) -> None:
    assert dag_divergence(*steps, can=can) == said
