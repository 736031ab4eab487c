"""The obshell machine, rule by rule: what each operator and each tick does to a dag.

Every test is one fact of obshell, seen on a running 4.5.0.0 or read in its engine; the generated
sequences and the recordings of test_lifecycle_obshell_properties.py are held against the rules. A
line such as "RUNNING/RETRY: FAILED/RUN x1" is a node and its sub tasks; ticks come at whole
seconds.
"""

from __future__ import annotations

from typing import Any

import pytest

from oceanmock.clock import SECOND
from oceanmock.errors import IllegalOperator
from oceanmock.obshell.api import Operator
from oceanmock.obshell.machine import History, next_due, operate, start, task_logs_at, view_at
from oceanmock.obshell.states import (
    TIMED_OUT,
    DagScript,
    DagState,
    NodeFlag,
    NodeScript,
    Rules,
    RunScript,
    SubTaskScript,
    SubTaskState,
)

MILLISECOND = SECOND // 1000
OK = RunScript(takes=MILLISECOND)
FAILS = RunScript(takes=MILLISECOND, ends="FAILED")
HANGS = RunScript(takes=None)
ALL: frozenset[NodeFlag] = frozenset({"cancel", "retry", "rollback", "pass"})


def sub(*attempts: RunScript, back: tuple[RunScript, ...] = (OK,)) -> SubTaskScript:
    return SubTaskScript(attempts=attempts or (OK,), rollbacks=back)


def node(*sub_tasks: SubTaskScript, without: str = "", **more: Any) -> NodeScript:
    """A stage, with every flag but those named."""
    return NodeScript(sub_tasks or (sub(),), ALL - set(without.split()), **more)


def history_of(*nodes: NodeScript, **more: Any) -> History:
    return start(DagScript(nodes, **more))


def failing_second(**more: Any) -> History:
    """Three stages, of which the second fails at 4 s."""
    return history_of(node(), node(sub(FAILS, OK)), node(), **more)


def after(tick: int) -> int:
    """A little after the tick, when short runs have ended."""
    return tick * SECOND + SECOND // 2


def look(life: History, tick: int) -> DagState:
    return view_at(life, after(tick))


def one(life: History, tick: int) -> SubTaskState:
    """The first sub task."""
    return look(life, tick).nodes[0].sub_tasks[0]


def ask(life: History, operator: Operator, tick: int, **more: Any) -> History:
    return operate(life, operator, after(tick), **more)


def dag(life: History, tick: int) -> str:
    state = look(life, tick)
    return f"{state.state}/{state.operator} {state.stage}"


def nodes(life: History, tick: int) -> list[str]:
    return [f"{each.state}/{each.operator}" for each in look(life, tick).nodes]


def told(life: History, tick: int) -> list[str]:
    """The dag with its stage, then each node with its sub tasks."""
    lines = [dag(life, tick)]
    for each in look(life, tick).nodes:
        children = [f"{s.state}/{s.operator} x{s.execute_times}" for s in each.sub_tasks]
        lines.append(f"{each.state}/{each.operator}: {', '.join(children)}")
    return lines


def refusal(life: History, operator: Operator, tick: int, **more: Any) -> tuple[str, int | None]:
    """The reason and the node of a refused operator, which must leave the life alone."""
    before = life.states
    with pytest.raises(IllegalOperator) as refused:
        ask(life, operator, tick, **more)
    assert life.states == before
    return refused.value.reason, refused.value.node


# --- running forward ------------------------------------------------------------------------------


def test_a_dag_is_born_ready_with_the_times_of_its_creation() -> None:
    life = history_of(node())

    born = look(life, 0)

    assert told(life, 0) == ["READY/RUN 1", "PENDING/RUN: PENDING/RUN x0"]
    assert (born.start_time, born.end_time, born.is_finished) == (0, 0, False)


def test_one_stage_costs_two_ticks() -> None:
    life = history_of(node())

    assert told(life, 1) == ["RUNNING/RUN 1", "RUNNING/RUN: SUCCEED/RUN x1"]
    assert told(life, 2) == ["SUCCEED/RUN 1", "SUCCEED/RUN: SUCCEED/RUN x1"]
    assert next_due(life, after(2)) is None


def test_the_stage_moves_with_the_end_of_a_node_and_the_next_node_starts_a_tick_later() -> None:
    life = history_of(node(), node(), node())

    assert [dag(life, tick) for tick in range(7)] == [
        "READY/RUN 1",
        "RUNNING/RUN 1",
        "RUNNING/RUN 2",
        "RUNNING/RUN 2",
        "RUNNING/RUN 3",
        "RUNNING/RUN 3",
        "SUCCEED/RUN 3",
    ]
    assert nodes(life, 2) == ["SUCCEED/RUN", "PENDING/RUN", "PENDING/RUN"]
    assert nodes(life, 3) == ["SUCCEED/RUN", "RUNNING/RUN", "PENDING/RUN"]
    assert nodes(life, 6) == ["SUCCEED/RUN", "SUCCEED/RUN", "SUCCEED/RUN"]


def test_a_running_dag_still_ends_at_its_creation_and_a_running_node_at_its_start() -> None:
    life = history_of(node())

    running, ended = look(life, 1), look(life, 2)

    assert (running.start_time, running.end_time) == (SECOND, 0)
    assert running.nodes[0].start_time == running.nodes[0].end_time
    assert (ended.nodes[0].end_time, ended.start_time) == (2 * SECOND, SECOND)


def test_a_dag_ends_a_little_after_its_node() -> None:
    ended = look(history_of(node()), 2)

    lag = (ended.end_time or 0) - (ended.nodes[0].end_time or 0)

    assert 0 < lag <= 3 * MILLISECOND


def test_a_sub_task_ends_in_its_own_time_under_a_node_that_still_runs() -> None:
    life = history_of(node(sub(RunScript(takes=300 * MILLISECOND))))

    run = one(life, 1)

    assert (run.end_time or 0) - (run.start_time or 0) == 300 * MILLISECOND
    assert nodes(life, 1) == ["RUNNING/RUN"]


def test_a_running_sub_task_shows_the_end_of_before() -> None:
    life = history_of(node(sub(RunScript(takes=SECOND * 3 // 4))))

    born, running = one(life, 0), one(life, 1)

    assert running.state == "RUNNING"
    assert running.end_time == born.end_time


def test_a_node_waits_for_the_slowest_of_its_sub_tasks() -> None:
    life = history_of(node(sub(OK), sub(RunScript(takes=2 * SECOND))))

    assert told(life, 2)[1] == "RUNNING/RUN: SUCCEED/RUN x1, RUNNING/RUN x1"
    assert told(life, 3)[1] == "RUNNING/RUN: SUCCEED/RUN x1, SUCCEED/RUN x1"
    assert told(life, 4)[1] == "SUCCEED/RUN: SUCCEED/RUN x1, SUCCEED/RUN x1"


def test_the_tick_and_its_phase_can_be_set() -> None:
    rules = Rules(tick=SECOND // 10, phase=SECOND // 20)

    life = start(DagScript((node(sub(RunScript(takes=0))),)), rules)

    assert life.states[1].at == SECOND // 20
    assert life.states[-1].at == SECOND * 3 // 20


# --- failing --------------------------------------------------------------------------------------


def test_a_node_and_its_dag_fail_together_a_tick_after_the_sub_task() -> None:
    life = failing_second()

    assert told(life, 3)[2] == "RUNNING/RUN: FAILED/RUN x1"
    assert told(life, 4) == [
        "FAILED/RUN 2",
        "SUCCEED/RUN: SUCCEED/RUN x1",
        "FAILED/RUN: FAILED/RUN x1",
        "PENDING/RUN: PENDING/RUN x0",
    ]


def test_the_other_sub_tasks_may_finish_before_the_node_fails() -> None:
    life = history_of(node(sub(FAILS), sub(RunScript(takes=2 * SECOND))))

    assert told(life, 2)[1] == "RUNNING/RUN: FAILED/RUN x1, RUNNING/RUN x1"
    assert told(life, 4)[1] == "FAILED/RUN: FAILED/RUN x1, SUCCEED/RUN x1"


def test_a_run_that_hangs_fails_after_an_hour_with_a_line_to_say_so() -> None:
    life = history_of(node(sub(HANGS)))

    failed = one(life, 3602)

    assert told(life, 3600) == ["RUNNING/RUN 1", "RUNNING/RUN: RUNNING/RUN x1"]
    assert told(life, 3602) == ["FAILED/RUN 1", "FAILED/RUN: FAILED/RUN x1"]
    assert task_logs_at(failed, after(3602)) == (TIMED_OUT,)


def test_a_run_longer_than_its_timeout_fails_however_it_was_to_end() -> None:
    life = history_of(node(sub(RunScript(takes=10 * SECOND)), timeout=2 * SECOND))

    assert told(life, 2) == ["RUNNING/RUN 1", "RUNNING/RUN: RUNNING/RUN x1"]
    assert told(life, 4) == ["FAILED/RUN 1", "FAILED/RUN: FAILED/RUN x1"]


def test_a_failed_maintenance_dag_stays_unfinished() -> None:
    life = failing_second(is_maintenance=True)

    assert look(life, 4).state == "FAILED"
    assert look(life, 4).is_finished is False


def test_any_other_failed_dag_is_finished() -> None:
    life = failing_second()

    assert look(life, 4).is_finished is True


@pytest.mark.parametrize("is_maintenance", [True, False])
def test_a_dag_that_succeeds_is_finished(is_maintenance: bool) -> None:
    life = history_of(node(), is_maintenance=is_maintenance)

    assert look(life, 2).is_finished is True


# --- RETRY ----------------------------------------------------------------------------------------


def test_a_retry_shows_ready_run_at_once_and_resets_the_times_to_the_epoch() -> None:
    life = ask(failing_second(), "RETRY", 10)

    now = look(life, 10)

    assert told(life, 10) == [
        "READY/RUN 2",
        "SUCCEED/RUN: SUCCEED/RUN x1",
        "PENDING/RETRY: FAILED/RUN x1",
        "PENDING/RUN: PENDING/RUN x0",
    ]
    assert (now.start_time, now.end_time, now.is_finished) == (None, None, False)
    assert (now.nodes[1].start_time, now.nodes[1].end_time) == (None, None)


def test_a_retried_sub_task_is_rolled_back_then_run_forward() -> None:
    life = ask(failing_second(), "RETRY", 10)

    assert told(life, 11)[2] == "RUNNING/RETRY: SUCCEED/ROLLBACK x2"
    assert told(life, 12)[2] == "RUNNING/RETRY: SUCCEED/RUN x3"
    assert told(life, 13)[2] == "SUCCEED/RETRY: SUCCEED/RUN x3"


def test_a_retried_dag_goes_on_with_the_next_stage() -> None:
    life = ask(failing_second(), "RETRY", 10)

    assert [dag(life, tick) for tick in (11, 12, 13, 14, 15)] == [
        "RUNNING/RUN 2",
        "RUNNING/RUN 2",
        "RUNNING/RUN 3",
        "RUNNING/RUN 3",
        "SUCCEED/RUN 3",
    ]


def test_the_end_of_a_retried_dag_stays_at_the_epoch_until_it_ends() -> None:
    life = ask(failing_second(), "RETRY", 10)

    running, ended = look(life, 14), look(life, 15)

    assert (running.start_time, running.end_time) == (11 * SECOND, None)
    assert (ended.end_time or 0) // SECOND == 15


def test_a_retry_that_fails_again_leaves_node_failed_retry_and_dag_failed_run() -> None:
    life = ask(history_of(node(sub(FAILS))), "RETRY", 10)

    assert told(life, 13) == ["FAILED/RUN 1", "FAILED/RETRY: FAILED/RUN x3"]


def test_a_retry_whose_rollback_run_fails_does_not_run_forward() -> None:
    life = ask(history_of(node(sub(FAILS, OK, back=(FAILS,)))), "RETRY", 10)

    assert told(life, 12) == ["FAILED/RUN 1", "FAILED/RETRY: FAILED/ROLLBACK x2"]


def test_each_retry_adds_two_runs() -> None:
    life = ask(history_of(node(sub(FAILS, FAILS, OK))), "RETRY", 10)

    life = ask(life, "RETRY", 20)

    assert told(life, 23) == ["SUCCEED/RUN 1", "SUCCEED/RETRY: SUCCEED/RUN x5"]


def test_each_sub_task_of_a_retried_node_goes_its_own_way() -> None:
    slow_back = sub(FAILS, OK, back=(RunScript(takes=3 * SECOND),))
    life = ask(history_of(node(sub(FAILS, OK), slow_back, sub(OK))), "RETRY", 10)

    assert [told(life, tick)[1] for tick in (11, 12, 14, 15, 16)] == [
        "RUNNING/RETRY: SUCCEED/ROLLBACK x2, RUNNING/ROLLBACK x2, SUCCEED/RUN x1",
        "RUNNING/RETRY: SUCCEED/RUN x3, RUNNING/ROLLBACK x2, SUCCEED/RUN x1",
        "RUNNING/RETRY: SUCCEED/RUN x3, SUCCEED/ROLLBACK x2, SUCCEED/RUN x1",
        "RUNNING/RETRY: SUCCEED/RUN x3, SUCCEED/RUN x3, SUCCEED/RUN x1",
        "SUCCEED/RETRY: SUCCEED/RUN x3, SUCCEED/RUN x3, SUCCEED/RUN x1",
    ]


def test_the_last_attempt_repeats() -> None:
    life = history_of(node(sub(FAILS)))

    for tick in (10, 20, 30):
        life = ask(life, "RETRY", tick)

    assert told(life, 40) == ["FAILED/RUN 1", "FAILED/RETRY: FAILED/RUN x7"]


# --- CANCEL ---------------------------------------------------------------------------------------


def test_a_cancel_shows_ready_at_once_over_a_sub_task_that_still_runs() -> None:
    life = ask(history_of(node(sub(HANGS))), "CANCEL", 5)

    now = look(life, 5)

    assert told(life, 5) == ["READY/CANCEL 1", "PENDING/CANCEL: RUNNING/RUN x1"]
    assert (now.start_time, now.end_time) == (None, None)
    assert (now.nodes[0].start_time, now.nodes[0].end_time) == (None, None)


def test_a_cancelled_node_fails_at_the_next_tick_and_its_dag_one_later() -> None:
    life = ask(history_of(node(sub(HANGS))), "CANCEL", 5)

    assert told(life, 6) == ["RUNNING/CANCEL 1", "FAILED/CANCEL: FAILED/RUN x1"]
    assert look(life, 6).end_time is None
    assert told(life, 7) == ["FAILED/CANCEL 1", "FAILED/CANCEL: FAILED/RUN x1"]


def test_a_cancelled_sub_task_ends_at_the_tick_with_a_line_to_say_so() -> None:
    talkative = RunScript(takes=None, log=("one", "two"))
    life = ask(history_of(node(sub(talkative))), "CANCEL", 5)

    cancelled = one(life, 6)

    assert (cancelled.end_time or 0) // MILLISECOND == 6000
    assert task_logs_at(cancelled, after(6)) == ("one", "two", "sub task cancelled")


def test_a_cancel_before_the_first_tick_leaves_the_sub_task_pending() -> None:
    life = ask(history_of(node()), "CANCEL", 0)

    assert told(life, 2) == ["FAILED/CANCEL 1", "FAILED/CANCEL: PENDING/RUN x0"]


def test_a_sub_task_that_ended_before_the_cancel_keeps_its_end() -> None:
    life = ask(history_of(node(sub(OK), sub(HANGS))), "CANCEL", 5)

    assert told(life, 7)[1] == "FAILED/CANCEL: SUCCEED/RUN x1, FAILED/RUN x1"


def test_a_second_cancel_while_ready_changes_nothing() -> None:
    cancelled = ask(history_of(node(sub(HANGS)), node()), "CANCEL", 5)

    twice = operate(cancelled, "CANCEL", after(5) + MILLISECOND)

    assert told(twice, 5) == told(cancelled, 5)
    assert [told(twice, tick) for tick in (6, 7, 8)] == [told(cancelled, tick) for tick in (6, 7, 8)]


def test_a_second_cancel_after_the_node_has_failed_marks_the_next_node() -> None:
    cancelled = ask(history_of(node(sub(HANGS)), node()), "CANCEL", 5)

    twice = ask(cancelled, "CANCEL", 6)

    assert nodes(twice, 6) == ["FAILED/CANCEL", "PENDING/CANCEL"]
    assert [dag(twice, tick) for tick in (6, 7, 8)] == ["READY/CANCEL 1", "RUNNING/CANCEL 1", "FAILED/CANCEL 1"]


def test_a_node_marked_by_a_second_cancel_fails_when_its_turn_comes() -> None:
    twice = ask(ask(history_of(node(sub(HANGS, OK)), node()), "CANCEL", 5), "CANCEL", 6)

    retried = ask(twice, "RETRY", 10)

    assert told(retried, 20) == ["FAILED/RUN 2", "SUCCEED/RETRY: SUCCEED/RUN x3", "FAILED/CANCEL: PENDING/RUN x0"]


def test_a_cancel_where_all_nodes_have_ended_marks_the_last_one() -> None:
    passed = ask(history_of(node(), node(sub(FAILS))), "PASS", 10, node=1)

    cancelled = ask(passed, "CANCEL", 10)

    assert nodes(cancelled, 10) == ["SUCCEED/RUN", "PENDING/CANCEL"]
    assert dag(cancelled, 12) == "FAILED/CANCEL 2"


def test_a_cancelled_dag_can_be_retried() -> None:
    cancelled = ask(history_of(node(sub(HANGS, OK))), "CANCEL", 5)

    retried = ask(cancelled, "RETRY", 10)

    assert told(retried, 13) == ["SUCCEED/RUN 1", "SUCCEED/RETRY: SUCCEED/RUN x3"]


def test_a_retry_runs_a_sub_task_that_never_ran_without_rolling_it_back() -> None:
    cancelled = ask(history_of(node()), "CANCEL", 0)

    retried = ask(cancelled, "RETRY", 10)

    assert told(retried, 11)[1] == "RUNNING/RETRY: SUCCEED/RUN x1"
    assert told(retried, 12) == ["SUCCEED/RUN 1", "SUCCEED/RETRY: SUCCEED/RUN x1"]


# --- ROLLBACK -------------------------------------------------------------------------------------


def test_a_rollback_marks_every_node_up_to_the_failed_one_and_keeps_the_stage() -> None:
    life = ask(failing_second(), "ROLLBACK", 10)

    now = look(life, 10)

    assert told(life, 10) == [
        "READY/ROLLBACK 2",
        "PENDING/ROLLBACK: SUCCEED/RUN x1",
        "PENDING/ROLLBACK: FAILED/RUN x1",
        "PENDING/RUN: PENDING/RUN x0",
    ]
    assert (now.start_time, now.end_time, now.is_finished) == (None, None, False)
    assert {each.start_time for each in tuple(now.nodes)[:2]} == {None}
    assert {each.end_time for each in tuple(now.nodes)[:2]} == {None}


def test_a_rollback_goes_down_one_stage_every_two_ticks() -> None:
    life = ask(failing_second(), "ROLLBACK", 10)

    assert [dag(life, tick) for tick in (11, 12, 13, 14)] == [
        "RUNNING/ROLLBACK 2",
        "RUNNING/ROLLBACK 1",
        "RUNNING/ROLLBACK 1",
        "SUCCEED/ROLLBACK 1",
    ]
    assert nodes(life, 11)[:2] == ["PENDING/ROLLBACK", "RUNNING/ROLLBACK"]
    assert nodes(life, 12)[:2] == ["PENDING/ROLLBACK", "SUCCEED/ROLLBACK"]
    assert nodes(life, 13)[:2] == ["RUNNING/ROLLBACK", "SUCCEED/ROLLBACK"]


def test_a_rollback_counts_one_run_and_leaves_later_nodes_alone() -> None:
    life = ask(failing_second(), "ROLLBACK", 10)

    assert told(life, 14) == [
        "SUCCEED/ROLLBACK 1",
        "SUCCEED/ROLLBACK: SUCCEED/ROLLBACK x2",
        "SUCCEED/ROLLBACK: SUCCEED/ROLLBACK x2",
        "PENDING/RUN: PENDING/RUN x0",
    ]


def test_a_sub_task_retried_and_then_rolled_back_has_run_four_times() -> None:
    retried = ask(history_of(node(sub(FAILS))), "RETRY", 10)

    rolled = ask(retried, "ROLLBACK", 20)

    assert told(rolled, 22) == ["SUCCEED/ROLLBACK 1", "SUCCEED/ROLLBACK: SUCCEED/ROLLBACK x4"]


def test_a_sub_task_that_never_ran_is_not_rolled_back() -> None:
    cancelled = ask(history_of(node()), "CANCEL", 0)

    rolled = ask(cancelled, "ROLLBACK", 10)

    assert told(rolled, 11) == ["RUNNING/ROLLBACK 1", "SUCCEED/ROLLBACK: PENDING/RUN x0"]
    assert told(rolled, 12) == ["SUCCEED/ROLLBACK 1", "SUCCEED/ROLLBACK: PENDING/RUN x0"]


def test_a_rollback_that_fails_leaves_the_dag_failed_at_that_stage() -> None:
    stuck = node(sub(OK, back=(FAILS, OK)))
    life = ask(history_of(stuck, node(sub(FAILS))), "ROLLBACK", 10)

    assert told(life, 14) == [
        "FAILED/ROLLBACK 1",
        "FAILED/ROLLBACK: FAILED/ROLLBACK x2",
        "SUCCEED/ROLLBACK: SUCCEED/ROLLBACK x2",
    ]


def test_a_second_rollback_resumes_where_the_first_one_failed() -> None:
    stuck = node(sub(FAILS, back=(FAILS, OK)))
    failed = ask(history_of(node(), stuck), "ROLLBACK", 10)

    resumed = ask(failed, "ROLLBACK", 20)

    assert nodes(failed, 12) == ["PENDING/ROLLBACK", "FAILED/ROLLBACK"]
    assert told(resumed, 24) == [
        "SUCCEED/ROLLBACK 1",
        "SUCCEED/ROLLBACK: SUCCEED/ROLLBACK x2",
        "SUCCEED/ROLLBACK: SUCCEED/ROLLBACK x3",
    ]


def test_a_node_above_a_failed_rollback_is_not_rolled_back_again() -> None:
    stuck = node(sub(OK, back=(FAILS, OK)))
    failed = ask(history_of(stuck, node(sub(FAILS))), "ROLLBACK", 10)

    resumed = ask(failed, "ROLLBACK", 20)

    assert nodes(resumed, 20) == ["PENDING/ROLLBACK", "SUCCEED/ROLLBACK"]
    assert told(resumed, 22)[1:] == ["SUCCEED/ROLLBACK: SUCCEED/ROLLBACK x3", "SUCCEED/ROLLBACK: SUCCEED/ROLLBACK x2"]


def test_a_failed_rollback_may_be_retried_and_then_the_stage_counts_up() -> None:
    stuck = node(sub(OK, back=(FAILS, OK)))
    failed = ask(history_of(stuck, node(sub(FAILS)), node()), "ROLLBACK", 10)

    retried = ask(failed, "RETRY", 20)

    assert told(retried, 30) == [
        "SUCCEED/RUN 3",
        "SUCCEED/RETRY: SUCCEED/RUN x4",
        "SUCCEED/ROLLBACK: SUCCEED/ROLLBACK x2",
        "SUCCEED/RUN: SUCCEED/RUN x1",
    ]


# --- PASS -----------------------------------------------------------------------------------------


def test_a_passed_node_has_succeeded_at_once_and_its_dag_is_ready_to_run() -> None:
    life = ask(failing_second(), "PASS", 10, node=1)

    now, before = look(life, 10), look(life, 9)

    assert told(life, 10)[:3] == ["READY/RUN 2", "SUCCEED/RUN: SUCCEED/RUN x1", "SUCCEED/PASS: SUCCEED/PASS x1"]
    assert (now.start_time, now.end_time) == (None, None)
    assert (now.nodes[1].start_time, now.nodes[1].end_time) == (before.nodes[1].start_time, after(10))
    assert now.nodes[1].sub_tasks[0].end_time == after(10)


def test_passing_a_node_leaves_its_sub_tasks_that_had_succeeded() -> None:
    life = ask(history_of(node(sub(FAILS), sub(OK))), "PASS", 10, node=0)

    assert told(life, 10)[1] == "SUCCEED/PASS: SUCCEED/PASS x1, SUCCEED/RUN x1"


def test_a_passed_node_keeps_its_stage_for_one_tick() -> None:
    life = ask(failing_second(), "PASS", 10, node=1)

    assert [dag(life, tick) for tick in (11, 12, 13, 14)] == [
        "RUNNING/RUN 2",
        "RUNNING/RUN 3",
        "RUNNING/RUN 3",
        "SUCCEED/RUN 3",
    ]
    assert nodes(life, 12)[2] == "PENDING/RUN"
    assert nodes(life, 13)[2] == "RUNNING/RUN"


def test_a_passed_node_rolls_back_like_any_other() -> None:
    passed = ask(history_of(node(sub(FAILS)), node(sub(FAILS))), "PASS", 10, node=0)

    rolled = ask(passed, "ROLLBACK", 20)

    assert told(rolled, 24) == [
        "SUCCEED/ROLLBACK 1",
        "SUCCEED/ROLLBACK: SUCCEED/ROLLBACK x2",
        "SUCCEED/ROLLBACK: SUCCEED/ROLLBACK x2",
    ]


def test_a_passed_dag_has_succeeded_at_once_and_nothing_further_happens() -> None:
    life = ask(failing_second(is_maintenance=True), "PASS", 10)

    now, before = look(life, 10), look(life, 9)

    assert told(life, 10) == [
        "SUCCEED/PASS 2",
        "SUCCEED/RUN: SUCCEED/RUN x1",
        "SUCCEED/PASS: SUCCEED/PASS x1",
        "SUCCEED/PASS: SUCCEED/PASS x0",
    ]
    assert (now.start_time, now.end_time) == (before.start_time, after(10))
    assert (now.nodes[1].start_time, now.nodes[1].end_time) == (before.nodes[1].start_time, after(10))
    assert now.is_finished is True
    assert next_due(life, after(10)) is None


def test_a_passed_dag_keeps_its_logs() -> None:
    failing = RunScript(takes=MILLISECOND, ends="FAILED", log=("ERROR: [Common.Unexpected]: no",))

    life = ask(history_of(node(sub(failing))), "PASS", 10)

    assert task_logs_at(one(life, 10), after(10)) == failing.log


# --- who may --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        ("ROLLBACK", "Dag.Operator.RollbackNotFailedDag"),
        ("RETRY", "Dag.Operator.RetryNotFailedDag"),
        ("PASS", "Dag.Operator.PassNotFailedDag"),
    ],
)
@pytest.mark.parametrize("tick", [0, 1, 2], ids=["READY", "RUNNING", "SUCCEED"])
def test_a_dag_must_have_failed(operator: Operator, reason: str, tick: int) -> None:
    life = history_of(node())

    assert refusal(life, operator, tick) == (reason, None)


@pytest.mark.parametrize("life", [history_of(node()), failing_second()], ids=["SUCCEED", "FAILED"])
def test_a_dag_that_has_ended_cannot_be_cancelled(life: History) -> None:
    assert refusal(life, "CANCEL", 10) == ("Dag.Operator.CancelFinishedDag", None)


def test_a_retry_asks_the_node_at_the_stage_alone() -> None:
    others = history_of(node(without="retry"), node(sub(FAILS)), node(without="retry"))
    this = history_of(node(), node(sub(FAILS), without="retry"))

    assert dag(ask(others, "RETRY", 10), 10) == "READY/RUN 2"
    assert refusal(this, "RETRY", 10) == ("Dag.Operator.RetryNotAllowed", 1)


def test_a_rollback_asks_every_node_up_to_the_failed_one() -> None:
    later = history_of(node(), node(sub(FAILS)), node(without="rollback"))
    earlier = history_of(node(without="rollback"), node(sub(FAILS), without="rollback"))

    assert dag(ask(later, "ROLLBACK", 10), 10) == "READY/ROLLBACK 2"
    assert refusal(earlier, "ROLLBACK", 10) == ("Dag.Operator.RollbackNotAllowed", 0)


def test_a_cancel_asks_every_node_up_to_the_first_unfinished_one() -> None:
    later = history_of(node(), node(sub(HANGS)), node(without="cancel"))
    earlier = history_of(node(without="cancel"), node(sub(HANGS)))

    assert dag(ask(later, "CANCEL", 10), 10) == "READY/CANCEL 2"
    assert refusal(earlier, "CANCEL", 10) == ("Dag.Operator.CancelNotAllowed", 0)


def test_passing_a_dag_asks_every_node_that_has_not_succeeded() -> None:
    earlier = history_of(node(without="pass"), node(sub(FAILS)))
    later = history_of(node(), node(sub(FAILS)), node(without="pass"))

    assert dag(ask(earlier, "PASS", 10), 10) == "SUCCEED/PASS 2"
    assert refusal(later, "PASS", 10) == ("Dag.Operator.PassNotAllowed", 2)


def test_passing_a_node_asks_for_a_failed_dag_a_failed_node_and_its_flag() -> None:
    forbidden = history_of(node(), node(sub(FAILS), without="pass"))

    assert refusal(forbidden, "PASS", 1, node=0) == ("Node.Operator.PassNotFailedDag", None)
    assert refusal(forbidden, "PASS", 10, node=0) == ("Node.Operator.PassNotFailedNode", 0)
    assert refusal(forbidden, "PASS", 10, node=1) == ("Node.Operator.PassNotAllowed", 1)


def test_passing_a_node_asks_no_other_node() -> None:
    life = history_of(node(without="pass"), node(sub(FAILS)), node(without="pass"))

    assert dag(ask(life, "PASS", 10, node=1), 10) == "READY/RUN 2"


def test_an_operator_may_be_asked_again_only_once_it_has_failed_again() -> None:
    retried = ask(failing_second(), "RETRY", 10)

    assert refusal(retried, "RETRY", 10) == ("Dag.Operator.RetryNotFailedDag", None)


@pytest.mark.parametrize(("operator", "place"), [("RUN", None), ("RETRY", 0), ("CANCEL", 0)])
def test_an_operator_without_a_route_is_the_callers_mistake(operator: Operator, place: int | None) -> None:
    life = failing_second()

    with pytest.raises(ValueError, match=operator):
        operate(life, operator, after(10), node=place)


# --- CANCEL while a ROLLBACK runs -----------------------------------------------------------------


def rollback_cancelled(*last: RunScript) -> History:
    """Of five stages the third failed; its rollback, at work from 11 s to 14 s, is cancelled."""
    slow_back = node(sub(FAILS, back=(RunScript(takes=3 * SECOND),)))
    life = history_of(node(), node(), slow_back, node(), node(sub(*last)), is_maintenance=True)
    return ask(ask(life, "ROLLBACK", 10), "CANCEL", 12)


def test_a_cancel_during_a_rollback_marks_node_one_and_not_the_one_that_runs() -> None:
    life = rollback_cancelled(FAILS)

    now = look(life, 12)

    assert dag(life, 12) == "READY/CANCEL 3"
    assert nodes(life, 12) == ["PENDING/CANCEL", "PENDING/ROLLBACK", "RUNNING/ROLLBACK", "PENDING/RUN", "PENDING/RUN"]
    assert (now.start_time, now.end_time) == (None, None)


def test_after_a_cancelled_rollback_the_stage_counts_up_and_later_nodes_run_forward() -> None:
    life = rollback_cancelled(FAILS)

    assert [dag(life, tick) for tick in range(13, 20)] == [
        "RUNNING/CANCEL 3",
        "RUNNING/CANCEL 3",
        "RUNNING/CANCEL 4",
        "RUNNING/CANCEL 4",
        "RUNNING/CANCEL 5",
        "RUNNING/CANCEL 5",
        "FAILED/CANCEL 5",
    ]
    assert told(life, 19)[1:] == [
        "PENDING/CANCEL: SUCCEED/RUN x1",
        "PENDING/ROLLBACK: SUCCEED/RUN x1",
        "SUCCEED/ROLLBACK: SUCCEED/ROLLBACK x2",
        "SUCCEED/RUN: SUCCEED/RUN x1",
        "FAILED/RUN: FAILED/RUN x1",
    ]


def test_a_node_already_rolled_back_costs_a_cancelled_rollback_one_tick() -> None:
    slow_back = node(sub(OK, back=(RunScript(takes=3 * SECOND),)))
    rolling = ask(history_of(node(), slow_back, node(sub(FAILS)), node()), "ROLLBACK", 10)

    life = ask(rolling, "CANCEL", 14)

    assert nodes(life, 14)[1:3] == ["RUNNING/ROLLBACK", "SUCCEED/ROLLBACK"]
    assert [dag(life, tick) for tick in (16, 17, 18, 19, 20)] == [
        "RUNNING/CANCEL 2",
        "RUNNING/CANCEL 3",
        "RUNNING/CANCEL 4",
        "RUNNING/CANCEL 4",
        "SUCCEED/CANCEL 4",
    ]


def test_a_cancelled_rollback_can_be_neither_rolled_back_nor_cancelled_again() -> None:
    life = rollback_cancelled(FAILS)

    assert refusal(life, "ROLLBACK", 20) == ("NoNodeFailed", None)
    assert refusal(life, "CANCEL", 20) == ("Dag.Operator.CancelFinishedDag", None)
    assert look(life, 20).is_finished is False


def test_a_cancelled_rollback_may_be_retried_which_changes_nothing_about_rollback() -> None:
    retried = ask(rollback_cancelled(FAILS), "RETRY", 20)

    assert dag(retried, 20) == "READY/RUN 5"
    assert dag(retried, 23) == "FAILED/RUN 5"
    assert nodes(retried, 23)[4] == "FAILED/RETRY"
    assert refusal(retried, "ROLLBACK", 30) == ("NoNodeFailed", None)


# --- logs, and looking ----------------------------------------------------------------------------


def test_a_sub_task_that_never_ran_has_no_log_and_one_that_said_nothing_an_empty_one() -> None:
    life = history_of(node())

    assert task_logs_at(one(life, 0), after(0)) is None
    assert task_logs_at(one(life, 2), after(2)) == ()


def test_a_log_holds_the_lines_of_all_runs_in_order() -> None:
    first = RunScript(MILLISECOND, "FAILED", ("starting", "ERROR: [Common.Unexpected]: no"))
    undo = RunScript(MILLISECOND, log=("undoing",))
    then = RunScript(MILLISECOND, log=("starting", "started"))
    life = ask(history_of(node(sub(first, then, back=(undo,)))), "RETRY", 10)

    lines = task_logs_at(one(life, 13), after(13))

    assert lines == (*first.log, *undo.log, *then.log)


def test_a_run_logs_its_lines_evenly_over_its_time() -> None:
    life = history_of(node(sub(RunScript(takes=4 * SECOND, log=("one", "two", "three", "four")))))

    assert task_logs_at(one(life, 1), after(1)) == ("one",)
    assert task_logs_at(one(life, 3), after(3)) == ("one", "two", "three")


def test_stepping_from_due_instant_to_due_instant_sees_every_state() -> None:
    life = ask(failing_second(), "RETRY", 10)
    seen, instant = [view_at(life, 0)], next_due(life, 0)

    while instant is not None:
        seen.append(view_at(life, instant))
        instant = next_due(life, instant)

    assert tuple(seen) == life.states


def test_an_operator_leaves_the_past_alone() -> None:
    life = failing_second()

    retried = ask(life, "RETRY", 10)

    assert [told(retried, tick) for tick in range(10)] == [told(life, tick) for tick in range(10)]


@pytest.mark.slow
def test_a_thousand_stages_are_no_burden() -> None:
    life = history_of(*[node()] * 1000)

    assert look(life, 2000).state == "SUCCEED"
    assert next_due(life, after(2000)) is None
