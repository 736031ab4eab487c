"""The OCP machine, rule by rule: what each operation and each tick does to a task.

Every test is one fact of ocp-express' engine; the generated sequences of
test_lifecycle_ocp_properties.py hold the rules together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from oceanmock.clock import SECOND
from oceanmock.errors import IllegalOperation, RollbackProhibited
from oceanmock.ocp import api as ocp_api
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import states as ocp_states
from oceanmock.ocp.machine import History, next_due, operate, start, view_at
from oceanmock.ocp.states import Rules, RunScript, SubtaskScript, TaskScript

OK = RunScript(takes=SECOND)
FAILS = RunScript(takes=SECOND, ends="FAILED")
HANGS = RunScript(takes=None)


def subtask(*attempts: RunScript, needs: Sequence[int] = (), **more: Any) -> SubtaskScript:
    return SubtaskScript(attempts=attempts or (OK,), needs=tuple(needs), **more)


def history_of(*subtasks: SubtaskScript, rules: Rules = Rules(), **more: Any) -> History:
    return start(TaskScript(subtasks, **more), rules)


def chain(*attempts: tuple[RunScript, ...]) -> History:
    """Subtasks one after the other, each with its attempts."""
    return history_of(*(subtask(*each, needs=[place - 1] if place else []) for place, each in enumerate(attempts)))


def end(life: History) -> int:
    return life.states[-1].at


def statuses(life: History, instant: int) -> list[str]:
    return [each.status for each in view_at(life, instant).subtasks]


def words(life: History, instant: int) -> list[str]:
    """The task and its subtasks as “STATUS/OPERATION”."""
    state = view_at(life, instant)
    subtasks = [f"{each.status}/{each.operation}" for each in state.subtasks]
    return [f"{state.status}/{state.operation}", *subtasks]


# --- running forward ------------------------------------------------------------------------------


def test_a_task_is_born_running_with_its_roots_ready() -> None:
    life = chain((OK,), (OK,))

    born = view_at(life, 0)

    assert words(life, 0) == ["RUNNING/EXECUTE", "READY/EXECUTE", "PENDING/EXECUTE"]
    assert (born.start_time, born.finish_time) == (0, None)
    assert [each.run_time for each in born.subtasks] == [1, 1]


def test_a_ready_subtask_starts_at_the_next_tick_of_the_subtask_scheduler() -> None:
    life = chain((OK,))

    before, after = view_at(life, SECOND // 2 - 1), view_at(life, SECOND // 2)

    assert before.subtasks[0].status == "READY"
    assert after.subtasks[0].status == "RUNNING"
    assert after.subtasks[0].start_time == SECOND // 2


def test_a_subtask_is_ready_at_the_first_task_tick_after_all_its_upstreams_succeeded() -> None:
    slow = RunScript(takes=3 * SECOND)
    life = history_of(subtask(OK), subtask(slow), subtask(needs=[0, 1]))

    assert statuses(life, 3 * SECOND) == ["SUCCESSFUL", "RUNNING", "PENDING"]
    assert statuses(life, 4 * SECOND - 1) == ["SUCCESSFUL", "SUCCESSFUL", "PENDING"]
    assert statuses(life, 4 * SECOND) == ["SUCCESSFUL", "SUCCESSFUL", "READY"]


def test_a_task_whose_subtasks_all_succeed_is_successful_at_the_next_task_tick() -> None:
    life = chain((OK,))

    last = view_at(life, end(life))

    assert statuses(life, 3 * SECOND // 2) == ["SUCCESSFUL"]
    assert view_at(life, 2 * SECOND - 1).status == "RUNNING"
    assert (last.status, last.operation, last.finish_time) == ("SUCCESSFUL", "EXECUTE", 2 * SECOND)


def test_the_tick_and_its_phase_can_be_set() -> None:
    rules = Rules(tick=SECOND // 10, phase=SECOND // 20)

    life = history_of(subtask(RunScript(takes=0)), rules=rules)

    assert [state.at for state in life.states] == [0, SECOND // 10, 3 * SECOND // 20]


def test_no_more_subtasks_than_the_limit_are_under_way() -> None:
    life = history_of(subtask(OK), *(subtask(OK, needs=[0]) for _ in range(3)), concurrency=2)

    assert statuses(life, 2 * SECOND) == ["SUCCESSFUL", "READY", "READY", "PENDING"]
    assert statuses(life, 3 * SECOND) == ["SUCCESSFUL", "RUNNING", "RUNNING", "PENDING"]
    assert statuses(life, 4 * SECOND) == ["SUCCESSFUL", "SUCCESSFUL", "SUCCESSFUL", "READY"]


def test_a_task_is_born_with_no_more_ready_roots_than_may_be_under_way() -> None:
    life = history_of(subtask(OK), subtask(OK), subtask(OK), concurrency=2)

    assert statuses(life, 0) == ["READY", "READY", "PENDING"]


def test_without_a_limit_every_root_is_ready_at_first_and_ten_are_under_way_later() -> None:
    life = history_of(*[subtask(OK)] * 15, *(subtask(OK, needs=[0]) for _ in range(15)))

    assert statuses(life, 0).count("READY") == 15
    assert statuses(life, 2 * SECOND)[15:].count("READY") == 10


# --- failing --------------------------------------------------------------------------------------


def test_siblings_finish_when_one_fails_and_only_then_the_task_is_failed() -> None:
    slow = RunScript(takes=5 * SECOND)
    life = history_of(subtask(FAILS), subtask(slow), subtask(needs=[1]))

    assert statuses(life, 2 * SECOND) == ["FAILED", "RUNNING", "PENDING"]
    assert view_at(life, 6 * SECOND - 1).status == "RUNNING"
    assert view_at(life, 6 * SECOND).status == "FAILED"
    assert statuses(life, end(life)) == ["FAILED", "SUCCESSFUL", "PENDING"]


def test_a_run_that_takes_longer_than_the_timeout_fails_with_its_operation_unchanged() -> None:
    life = history_of(subtask(HANGS, timeout=3))

    assert statuses(life, SECOND // 2 + 3 * SECOND - 1) == ["RUNNING"]
    assert words(life, SECOND // 2 + 3 * SECOND)[1] == "FAILED/EXECUTE"


@pytest.mark.parametrize(("tick", "lasts"), [(SECOND, 11), (2 * SECOND, 12), (3 * SECOND, 12)])
def test_a_timeout_of_zero_leaves_the_watchdog_which_looks_once_a_tick(tick: int, lasts: int) -> None:
    life = history_of(subtask(HANGS, timeout=0), rules=Rules(tick=tick))

    end_of_run = tick // 2 + lasts * SECOND

    assert statuses(life, end_of_run - 1) == ["RUNNING"]
    assert statuses(life, end_of_run) == ["FAILED"]


def test_an_abandoned_task_is_aborted_for_good() -> None:
    life = history_of(subtask(FAILS), abandoned_after=60 * SECOND)

    assert view_at(life, 62 * SECOND - 1).status == "FAILED"
    assert view_at(life, 62 * SECOND).status == "ABORTED"
    with pytest.raises(IllegalOperation) as refused:
        operate(life, "RETRY", 70 * SECOND, subtask=0)
    assert (refused.value.state, refused.value.allowed) == ("ABORTED", ())


# --- retry ----------------------------------------------------------------------------------------


def test_retrying_a_task_readies_every_failed_subtask_and_counts_its_run() -> None:
    life = history_of(subtask(FAILS, OK), subtask(FAILS, OK), subtask(OK))

    retried = operate(life, "RETRY", 10 * SECOND)

    assert words(retried, 10 * SECOND) == [
        "RUNNING/RETRY", "READY/RETRY", "READY/RETRY", "SUCCESSFUL/EXECUTE"
    ]  # fmt: skip
    assert [each.run_time for each in view_at(retried, 10 * SECOND).subtasks] == [2, 2, 1]
    assert words(retried, end(retried))[0] == "SUCCESSFUL/RETRY"


def test_the_old_finish_times_still_show_until_the_retried_run_starts() -> None:
    life = chain((FAILS, OK))

    retried = operate(life, "RETRY", 10 * SECOND)
    ready, running = view_at(retried, 10 * SECOND), view_at(retried, 10 * SECOND + SECOND // 2)

    assert (ready.finish_time, ready.subtasks[0].finish_time) == (2 * SECOND, 3 * SECOND // 2)
    assert (running.finish_time, running.subtasks[0].finish_time) == (2 * SECOND, None)
    assert running.subtasks[0].start_time == SECOND // 2


def test_retrying_a_subtask_leaves_the_operation_of_its_task_and_its_run_time() -> None:
    life = chain((FAILS, OK), (OK,))

    retried = operate(life, "RETRY", 10 * SECOND, subtask=0)

    assert words(retried, 10 * SECOND) == ["RUNNING/EXECUTE", "READY/RETRY", "PENDING/EXECUTE"]
    assert view_at(retried, 10 * SECOND).subtasks[0].run_time == 1
    assert words(retried, end(retried)) == [
        "SUCCESSFUL/EXECUTE", "SUCCESSFUL/RETRY", "SUCCESSFUL/EXECUTE"
    ]  # fmt: skip


def test_retrying_a_subtask_counts_its_run_where_the_switch_says_so() -> None:
    life = history_of(subtask(FAILS, OK), rules=Rules(subtask_retry_counts=True))

    retried = operate(life, "RETRY", 10 * SECOND, subtask=0)

    assert view_at(retried, 10 * SECOND).subtasks[0].run_time == 2


def test_the_task_falls_back_to_failed_while_another_subtask_is_failed() -> None:
    slow = RunScript(takes=20 * SECOND)
    life = history_of(subtask(FAILS, slow), subtask(FAILS))

    retried = operate(life, "RETRY", 10 * SECOND, subtask=0)

    assert words(retried, 10 * SECOND) == ["RUNNING/EXECUTE", "READY/RETRY", "FAILED/EXECUTE"]
    assert words(retried, 11 * SECOND) == ["RUNNING/EXECUTE", "RUNNING/RETRY", "FAILED/EXECUTE"]
    assert words(retried, end(retried))[0] == "FAILED/EXECUTE"


def test_a_subtask_may_be_retried_while_its_siblings_still_run() -> None:
    life = history_of(subtask(FAILS, OK), subtask(RunScript(takes=20 * SECOND)))

    retried = operate(life, "RETRY", 5 * SECOND, subtask=0)

    assert statuses(retried, 5 * SECOND) == ["READY", "RUNNING"]
    assert view_at(retried, end(retried)).status == "SUCCESSFUL"


def test_the_last_attempt_repeats() -> None:
    life = chain((FAILS, FAILS))

    for instant in (10, 20, 30):
        life = operate(life, "RETRY", instant * SECOND)

    assert view_at(life, end(life)).status == "FAILED"
    assert view_at(life, end(life)).subtasks[0].run_time == 4


def test_the_server_retries_by_itself_as_often_as_the_subtask_says_and_counts_it() -> None:
    life = history_of(subtask(FAILS, FAILS, OK, retries=2), subtask(needs=[0]))

    assert words(life, 3 * SECOND // 2) == ["RUNNING/EXECUTE", "READY/RETRY", "PENDING/EXECUTE"]
    assert view_at(life, 3 * SECOND // 2).subtasks[0].finish_time is None
    assert words(life, end(life)) == ["SUCCESSFUL/EXECUTE", "SUCCESSFUL/RETRY", "SUCCESSFUL/EXECUTE"]
    assert [item.run_time for item in view_at(life, end(life)).subtasks] == [3, 1]


def test_what_fails_more_often_than_the_server_retries_it_has_failed() -> None:
    life = history_of(subtask(FAILS, retries=2))

    assert words(life, end(life)) == ["FAILED/EXECUTE", "FAILED/RETRY"]
    assert view_at(life, end(life)).subtasks[0].run_time == 3


@pytest.mark.parametrize(("retries", "status"), [(1, "FAILED"), (2, "SUCCESSFUL")])
def test_before_the_last_retry_of_the_server_the_task_fails_if_its_scheduler_comes_first(
    retries: int, status: str
) -> None:
    life = history_of(subtask(RunScript(6 * SECOND // 5, "FAILED"), OK, retries=retries))

    assert words(life, end(life)) == [f"{status}/EXECUTE", "SUCCESSFUL/RETRY"]


def test_the_server_does_not_retry_what_was_cancelled_or_is_undone() -> None:
    life = history_of(subtask(HANGS, retries=2))
    failed = history_of(subtask(FAILS, retries=1, rollbacks=(FAILS,)))

    cancelled = operate(life, "CANCEL", 5 * SECOND, subtask=0)
    undone = operate(failed, "ROLLBACK", end(failed))

    assert words(cancelled, end(cancelled)) == ["RUNNING/EXECUTE", "FAILED/CANCEL"]  # which no scheduler ends
    assert words(undone, end(undone)) == ["FAILED/ROLLBACK", "FAILED/ROLLBACK"]


# --- rollback -------------------------------------------------------------------------------------


def test_a_rollback_runs_backwards_and_leaves_pending_subtasks_under_a_successful_task() -> None:
    life = chain((OK,), (OK,), (FAILS,), (OK,))
    at = 30 * SECOND

    rolled = operate(life, "ROLLBACK", at)

    assert words(rolled, at) == [
        "RUNNING/ROLLBACK", "SUCCESSFUL/ROLLBACK", "SUCCESSFUL/ROLLBACK", "READY/ROLLBACK",
        "PENDING/EXECUTE",
    ]  # fmt: skip
    assert statuses(rolled, at + 2 * SECOND) == ["SUCCESSFUL", "READY", "PENDING", "PENDING"]
    assert words(rolled, end(rolled)) == [
        "SUCCESSFUL/ROLLBACK", "PENDING/ROLLBACK", "PENDING/ROLLBACK", "PENDING/ROLLBACK",
        "PENDING/EXECUTE",
    ]  # fmt: skip
    assert view_at(rolled, end(rolled)).subtasks[0].finish_time is not None


def test_a_rollback_cuts_short_what_still_runs_under_a_failed_task() -> None:
    slow = RunScript(takes=20 * SECOND)
    life = history_of(subtask(FAILS, slow), subtask(FAILS))
    fallen_back = operate(life, "RETRY", 10 * SECOND + 6 * SECOND // 10, subtask=0)

    rolled = operate(fallen_back, "ROLLBACK", 12 * SECOND)

    assert words(fallen_back, 12 * SECOND) == ["FAILED/EXECUTE", "RUNNING/RETRY", "FAILED/EXECUTE"]
    assert words(rolled, 12 * SECOND) == ["RUNNING/ROLLBACK", "READY/ROLLBACK", "READY/ROLLBACK"]
    assert words(rolled, end(rolled))[0] == "SUCCESSFUL/ROLLBACK"
    assert end(rolled) < 20 * SECOND


def test_a_rollback_that_fails_leaves_task_and_subtask_failed_and_may_be_repeated() -> None:
    life = history_of(subtask(FAILS, rollbacks=(FAILS, OK)))

    rolled = operate(life, "ROLLBACK", 10 * SECOND)
    again = operate(rolled, "ROLLBACK", 20 * SECOND)

    assert words(rolled, 20 * SECOND) == ["FAILED/ROLLBACK", "FAILED/ROLLBACK"]
    assert words(again, end(again)) == ["SUCCESSFUL/ROLLBACK", "PENDING/ROLLBACK"]


def test_a_retry_after_a_failed_rollback_is_refused_and_the_rollback_is_blamed() -> None:
    life = operate(history_of(subtask(FAILS, rollbacks=(FAILS,))), "ROLLBACK", 10 * SECOND)

    with pytest.raises(IllegalOperation) as of_task:
        operate(life, "RETRY", 20 * SECOND)
    with pytest.raises(IllegalOperation) as of_subtask:
        operate(life, "RETRY", 20 * SECOND, subtask=0)

    assert (of_task.value.state, of_task.value.allowed) == ("ROLLBACK", ("ROLLBACK",))
    assert (of_subtask.value.state, of_subtask.value.allowed) == ("ROLLBACK", ("SKIP",))


def test_a_retry_after_a_failed_rollback_goes_forward_where_the_switch_allows_it() -> None:
    rules = Rules(retry_after_failed_rollback=True)
    life = history_of(subtask(FAILS, OK, rollbacks=(FAILS,)), rules=rules)
    rolled = operate(life, "ROLLBACK", 10 * SECOND)

    retried = operate(rolled, "RETRY", 20 * SECOND)

    assert words(retried, 20 * SECOND) == ["RUNNING/RETRY", "READY/RETRY"]
    assert words(retried, end(retried)) == ["SUCCESSFUL/RETRY", "SUCCESSFUL/RETRY"]


def test_rollback_is_prohibited_once_a_subtask_that_forbids_it_has_started() -> None:
    life = history_of(subtask(OK, prohibits_rollback=True), subtask(FAILS, needs=[0]))

    assert view_at(life, 0).prohibit_rollback is False
    assert view_at(life, SECOND // 2).prohibit_rollback is True
    with pytest.raises(RollbackProhibited):
        operate(life, "ROLLBACK", 10 * SECOND)


def test_rollback_is_prohibited_by_the_task_itself() -> None:
    life = history_of(subtask(FAILS), prohibits_rollback=True)

    with pytest.raises(RollbackProhibited):
        operate(life, "ROLLBACK", 10 * SECOND)

    assert view_at(life, 0).prohibit_rollback is True


# --- skip and cancel ------------------------------------------------------------------------------


def test_a_skipped_subtask_runs_to_no_effect_and_its_downstreams_go_on() -> None:
    life = chain((FAILS,), (OK,))

    skipped = operate(life, "SKIP", 10 * SECOND, subtask=0)

    assert words(skipped, 10 * SECOND) == ["RUNNING/EXECUTE", "READY/SKIP", "PENDING/EXECUTE"]
    assert words(skipped, end(skipped)) == [
        "SUCCESSFUL/EXECUTE", "SUCCESSFUL/SKIP", "SUCCESSFUL/EXECUTE"
    ]  # fmt: skip


def test_a_skip_in_a_rollback_undoes_nothing_and_the_rollback_goes_on() -> None:
    stuck = history_of(subtask(OK), subtask(FAILS, needs=[0], rollbacks=(FAILS,)))
    rolled = operate(stuck, "ROLLBACK", 10 * SECOND)

    skipped = operate(rolled, "SKIP", 20 * SECOND, subtask=1)

    assert words(skipped, 20 * SECOND)[2] == "READY/ROLLBACK_SKIP"
    assert words(skipped, end(skipped)) == [
        "SUCCESSFUL/ROLLBACK", "PENDING/ROLLBACK", "PENDING/ROLLBACK_SKIP"
    ]  # fmt: skip


def test_a_cancelled_subtask_is_canceling_then_running_then_failed() -> None:
    life = history_of(subtask(RunScript(takes=60 * SECOND)))
    at = 10 * SECOND

    cancelled = operate(life, "CANCEL", at, subtask=0)

    assert words(cancelled, at) == ["RUNNING/EXECUTE", "CANCELING/EXECUTE"]
    assert words(cancelled, at + SECOND // 2)[1] == "RUNNING/CANCEL"
    assert words(cancelled, at + SECOND // 2 + ocp_states.NO_OP_TAKES)[1] == "FAILED/CANCEL"
    assert words(cancelled, end(cancelled)) == ["FAILED/EXECUTE", "FAILED/CANCEL"]


def test_a_cancelled_subtask_may_be_retried_with_its_next_attempt() -> None:
    life = history_of(subtask(RunScript(takes=60 * SECOND), OK))
    cancelled = operate(life, "CANCEL", 10 * SECOND, subtask=0)

    retried = operate(cancelled, "RETRY", 20 * SECOND, subtask=0)

    assert end(retried) == 22 * SECOND
    assert words(retried, end(retried)) == ["SUCCESSFUL/EXECUTE", "SUCCESSFUL/RETRY"]


def test_a_cancel_in_a_rollback_is_lost_if_the_task_scheduler_comes_first() -> None:
    slow = RunScript(takes=60 * SECOND)
    life = operate(history_of(subtask(FAILS, rollbacks=(slow, OK))), "ROLLBACK", 10 * SECOND)

    lost = operate(life, "CANCEL", 15 * SECOND - 1, subtask=0)
    interrupted = operate(life, "CANCEL", 15 * SECOND + 1, subtask=0)

    assert words(lost, 15 * SECOND - 1)[1] == "CANCELING/ROLLBACK"
    assert words(lost, 15 * SECOND)[1] == "READY/ROLLBACK"
    assert view_at(lost, 15 * SECOND).subtasks[0].runs[-1].ended == 15 * SECOND
    assert words(lost, end(lost)) == ["SUCCESSFUL/ROLLBACK", "PENDING/ROLLBACK"]
    assert words(interrupted, end(interrupted)) == ["FAILED/ROLLBACK", "FAILED/CANCEL"]


# --- refusals, and looking ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "of_subtask", "instant", "state"),
    [
        ("RETRY", None, SECOND, "RUNNING"),
        ("ROLLBACK", None, SECOND, "RUNNING"),
        ("RETRY", None, 10 * SECOND, "SUCCESSFUL"),
        ("ROLLBACK", None, 10 * SECOND, "SUCCESSFUL"),
        ("RETRY", 0, 0, "READY"),
        ("SKIP", 0, SECOND, "RUNNING"),
        ("CANCEL", 0, 0, "READY"),
        ("CANCEL", 1, SECOND, "PENDING"),
        ("RETRY", 0, 10 * SECOND, "SUCCESSFUL"),
        ("SKIP", 0, 10 * SECOND, "SUCCESSFUL"),
    ],
)
def test_an_operation_that_the_state_does_not_allow_is_refused_and_changes_nothing(
    operation: ocp_api.Operation, of_subtask: int | None, instant: int, state: str
) -> None:
    life = chain((OK,), (OK,))

    with pytest.raises(IllegalOperation) as refused:
        operate(life, operation, instant, subtask=of_subtask)

    assert refused.value.state == state
    assert life == chain((OK,), (OK,))


def test_stepping_from_due_instant_to_due_instant_sees_every_state() -> None:
    life = chain((FAILS,), (OK,))
    seen, instant = [view_at(life, 0)], next_due(life, 0)

    while instant is not None:
        seen.append(view_at(life, instant))
        instant = next_due(life, instant)

    assert tuple(seen) == life.states


def test_a_run_logs_its_lines_evenly_over_its_time_and_stops_when_interrupted() -> None:
    talkative = RunScript(takes=4 * SECOND, log=("one", "two", "three", "four"))
    life = operate(history_of(subtask(talkative)), "CANCEL", 2 * SECOND, subtask=0)

    run = view_at(life, end(life)).subtasks[0].runs[0]

    assert ocp.log_lines_at(run, run.started) == ("one",)
    assert ocp.log_lines_at(run, run.started + SECOND) == ("one", "two")
    assert ocp.log_lines_at(run, 100 * SECOND) == ("one", "two", "three")


@pytest.mark.slow
def test_a_thousand_subtasks_in_a_row_are_no_burden() -> None:
    life = chain(*[(OK,)] * 1000)

    assert view_at(life, end(life)).status == "SUCCESSFUL"
