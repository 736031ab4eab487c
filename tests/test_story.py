"""Telling a story: what each step does, and what is said of one that cannot happen.

The machine's own rules are not tested here; the task below is small enough to know by heart. Its
ticks are whole seconds, its runs start half a second later.
"""

import pytest

from oceanmock.clock import SECOND
from oceanmock.ocp import api as ocp_api
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import states as ocp_states
from oceanmock.ocp.scenario_checks import OcpActor
from oceanmock.scenario.story import (
    Action,
    CallAction,
    Marker,
    StoryDivergesError,
    UntilAction,
    WaitAction,
    simulate,
)

FAILS_FIRST = ocp_states.SubtaskScript(
    (ocp_states.RunScript(takes=SECOND, ends="FAILED"), ocp_states.RunScript(takes=SECOND)),
    rollbacks=(ocp_states.RunScript(SECOND),),
)
AFTERWARDS = ocp_states.SubtaskScript((ocp_states.RunScript(takes=SECOND),), needs=(0,))


def actor(*, born: int = 0, prohibits_rollback: bool = False) -> OcpActor:
    """A task that is FAILED after 2 s, whose first subtask succeeds when retried."""
    plan = ocp_states.TaskScript((FAILS_FIRST, AFTERWARDS), prohibits_rollback=prohibits_rollback)
    return OcpActor(born, "Upgrade", ("Install", "Check"), ocp.start(plan))


def until(
    status: str | None = None, operation: str | None = None, *, subtask: int | None = None
) -> UntilAction:
    """A step that waits for the first task."""
    return UntilAction(0, () if subtask is None else (subtask,), (status, operation))


def call(
    operation: ocp_api.Operation, *, subtask: int | None = None, refused: bool = False
) -> CallAction:
    """A step that operates on the first task."""
    return CallAction(0, () if subtask is None else (subtask,), operation, 400 if refused else 200)


def divergence(*steps: Action, **changes: bool) -> tuple[int, str]:
    """Where the story diverges, and what is said of it."""
    with pytest.raises(StoryDivergesError) as diverges:
        simulate([actor(**changes)], steps)
    return diverges.value.number, str(diverges.value)


def test_a_story_without_steps_is_the_life_as_it_goes() -> None:
    alone = actor()

    run = simulate([alone], [])

    assert run.actors == (alone,)
    assert run.markers == ()


def test_until_goes_to_the_first_instant_at_which_a_state_shows() -> None:
    steps: list[Action] = [until("FAILED"), call("RETRY")]

    run = simulate([actor()], steps)

    assert run.markers == (Marker(2 * SECOND, 0, "RETRY 'Upgrade'"),)


def test_until_does_not_wait_for_what_already_shows() -> None:
    steps: list[Action] = [until("FAILED"), WaitAction(5 * SECOND), until("FAILED"), call("RETRY")]

    run = simulate([actor()], steps)

    assert [mark.instant for mark in run.markers] == [7 * SECOND]


def test_until_may_wait_for_a_subtask() -> None:
    steps: list[Action] = [until("FAILED", subtask=0), until("FAILED"), call("RETRY", subtask=0)]

    run = simulate([actor()], steps)

    assert run.markers == (Marker(2 * SECOND, 0, "RETRY 'Install' of 'Upgrade'"),)


def test_until_may_wait_for_a_status_under_an_operation() -> None:
    steps: list[Action] = [until("FAILED"), call("RETRY"), until("SUCCESSFUL", "RETRY")]

    run = simulate([actor()], steps)

    assert run.actors[0].life.states[-1].operation == "RETRY"


def test_a_wait_lets_time_pass() -> None:
    steps: list[Action] = [WaitAction(2500 * SECOND // 1000), call("RETRY")]

    run = simulate([actor()], steps)

    assert [mark.instant for mark in run.markers] == [2500 * SECOND // 1000]


def test_an_older_task_is_further_on() -> None:
    steps: list[Action] = [until("FAILED"), call("RETRY")]

    run = simulate([actor(born=-2 * SECOND)], steps)

    assert [mark.instant for mark in run.markers] == [0]


def test_two_tasks_live_by_one_clock() -> None:
    steps: list[Action] = [until("FAILED"), CallAction(1, (), "RETRY")]

    run = simulate([actor(), actor(born=-SECOND)], steps)

    assert run.markers == (Marker(2 * SECOND, 1, "RETRY 'Upgrade'"),)


def test_a_refused_call_changes_nothing() -> None:
    alone = actor()

    run = simulate([alone], [call("RETRY", refused=True)])

    assert run.actors == (alone,)


def test_a_refused_call_is_marked_as_refused() -> None:
    steps: list[Action] = [call("RETRY", refused=True)]

    run = simulate([actor()], steps)

    assert run.markers == (Marker(0, 0, "RETRY 'Upgrade', refused"),)


def test_a_forbidden_rollback_is_a_refused_call() -> None:
    steps: list[Action] = [until("FAILED"), call("ROLLBACK", refused=True)]

    run = simulate([actor(prohibits_rollback=True)], steps)

    assert run.actors[0].life.states[-1].status == "FAILED"


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
    assert message == (
        "'Upgrade' never is RUNNING from here on; it is FAILED/EXECUTE, and nothing more is due"
    )


def test_a_subtask_that_never_gets_there_is_named() -> None:
    number, message = divergence(until("RUNNING", subtask=1))

    assert number == 0
    assert message == (
        "'Check' of 'Upgrade' never is RUNNING from here on; it is PENDING/EXECUTE, "
        "and after 2 s nothing more is due"
    )


def test_a_call_that_comes_too_late_diverges() -> None:
    number, message = divergence(
        until("FAILED"), call("RETRY"), until("SUCCESSFUL"), call("RETRY", subtask=0)
    )

    assert number == 3
    assert message == (
        "RETRY 'Install' of 'Upgrade' is refused: "
        "RETRY is not allowed in state SUCCESSFUL; allowed: none"
    )


def test_a_forbidden_rollback_that_was_to_be_accepted_diverges() -> None:
    number, message = divergence(until("FAILED"), call("ROLLBACK"), prohibits_rollback=True)

    assert number == 1
    assert message == (
        "ROLLBACK 'Upgrade' is refused: the task, or a subtask that has run, forbids rollback"
    )


def test_a_call_that_is_accepted_though_it_was_to_be_refused_diverges() -> None:
    number, message = divergence(until("FAILED"), call("RETRY", refused=True))

    assert number == 1
    assert message == "RETRY 'Upgrade' is accepted, not refused"
