"""The tables of transitions say what the machines live: no more, and no less.

That every move is in its table is asked of lives that hypothesis writes; that every edge of a table
is somebody's move is asked of a search through every moment of a few small tasks and dags
(``transition_search``). The tables also hold what only a real server shows; nothing of that is ever
met here.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings

import obshell_strategies
import ocp_strategies
from in_process import calls_in
from oceanmock.clock import SECOND
from oceanmock.engine.machine import (
    MAX_OPERATIONS,
    TIME,
    Change,
    Label,
    Part,
    StateMachine,
    Transition,
    format_label,
    parse_label,
    reachable,
    transitions,
)
from oceanmock.obshell import machine as obshell
from oceanmock.obshell import states as obshell_states
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import states as ocp_states
from transition_search import OBSHELL, OCP, Move, moves_in, moves_of

SPAN = 600_000_000
"""Longer than half a tick, so that what starts at one is under way at the next."""
MACHINES = [*ocp_states.MACHINES.values(), *obshell_states.MACHINES.values()]

many = settings()
each_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.kind)


def table_of(machine: StateMachine, *, but: str = "") -> set[Move]:
    """The table's edges as moves; without those that only show with ``but``."""
    kept = (edge for edge in machine.transitions if not but or edge.only != but)
    return {(machine.kind, edge.trigger, edge.before, edge.after) for edge in kept}


def told(moves: Iterable[Move]) -> list[str]:
    """Moves, as a failure should print them."""
    return sorted(f"{kind}: {format_label(old)} → {format_label(new)} by {by}" for kind, by, old, new in moves)


# --- the tables and the machines ------------------------------------------------------------------


@many
@given(ocp_strategies.scripts())
def test_every_change_of_a_task_is_a_transition(script: ocp_strategies.Script) -> None:
    story = ocp_strategies.tell_to_its_rest(script)

    changes = [change for state in story.life.states for change in state.changes]

    table = table_of(ocp_states.TASK) | table_of(ocp_states.SUBTASK)
    assert not told(set(moves_in(OCP.kinds, changes)) - table)
    assert labels_after(changes) == dict(story.now.labels())


@many
@given(obshell_strategies.scripts())
def test_every_change_of_a_dag_is_a_transition(script: obshell_strategies.Script) -> None:
    story = obshell_strategies.tell_to_its_rest(script)

    changes = [change for state in story.life.states for change in state.changes]

    table = {move for each in obshell_states.MACHINES.values() for move in table_of(each)}
    assert not told(set(moves_in(OBSHELL.kinds, changes)) - table)
    assert labels_after(changes) == dict(story.now.labels())


def labels_after(changes: Iterable[Change]) -> dict[Part, Label]:
    """What each part shows after the changes, each of which begins where the last one ended."""
    labels: dict[Part, Label] = {}
    for change in changes:
        assert labels.get(change.part) == change.before
        labels[change.part] = change.after
    return labels


FAILS, WORKS = ocp_states.RunScript(SPAN, "FAILED"), ocp_states.RunScript(SPAN)
FAILS_ONCE = ocp_states.SubtaskScript((FAILS, WORKS), (FAILS, WORKS))
LASTS = ocp_states.SubtaskScript((ocp_states.RunScript(3 * SPAN),))
NEVER_SUCCEEDS = ocp_states.TaskScript((replace(FAILS_ONCE, attempts=(FAILS,)),))
SMALL_TASKS = [
    NEVER_SUCCEEDS,
    ocp_states.TaskScript((FAILS_ONCE, FAILS_ONCE)),
    ocp_states.TaskScript((FAILS_ONCE, LASTS)),
    ocp_states.TaskScript((FAILS_ONCE, replace(FAILS_ONCE, needs=(0,)))),
]
ABANDONED = replace(NEVER_SUCCEEDS, abandoned_after=6 * SPAN)
SELF_RETRYING = ocp_states.TaskScript((replace(FAILS_ONCE, attempts=(FAILS, FAILS, WORKS), retries=2),))
TWO_BRANCHES = ocp_states.TaskScript(
    (
        ocp_states.SubtaskScript((WORKS,)),
        ocp_states.SubtaskScript((FAILS,), needs=(0,)),
        ocp_states.SubtaskScript((WORKS,), (FAILS, WORKS)),
    )
)
"""The second is undone while the third's rollback fails; the first waits for the next one."""
SWITCHED = ocp_states.Rules(retry_after_failed_rollback=True)


def rollbacks_only(history: ocp.History, instant: int) -> Iterator[ocp.History]:
    """The ways on of a client that can do nothing else."""
    if "ROLLBACK" in ocp.allowed_operations(ocp.view_at(history, instant)):
        yield ocp.operate(history, "ROLLBACK", instant)


@pytest.fixture(scope="module")
def shown_by_default() -> set[Move]:
    """Every move of tasks that nobody abandons, on a server with the default switches."""
    met = {move for plan in SMALL_TASKS for move in moves_of(OCP, ocp.start(plan))}
    return met | moves_of(replace(OCP, operations=rollbacks_only), ocp.start(TWO_BRANCHES))


@pytest.mark.slow
def test_every_edge_of_a_task_is_met_by_a_life(shown_by_default: set[Move]) -> None:
    lives = [*(ocp.start(plan, SWITCHED) for plan in SMALL_TASKS), ocp.start(ABANDONED), ocp.start(SELF_RETRYING)]

    met = shown_by_default.union(*(moves_of(OCP, life) for life in lives))

    assert told(met) == told(table_of(ocp_states.TASK) | table_of(ocp_states.SUBTASK))


@pytest.mark.slow
def test_what_needs_no_opt_in_is_what_is_met_by_default(shown_by_default: set[Move]) -> None:
    machines = ocp_states.MACHINES.values()

    by_default = [
        (machine.kind, edge.trigger, edge.before, edge.after)
        for machine in machines
        for edge in machine.transitions
        if not edge.only
    ]

    assert told(shown_by_default) == told(by_default)


def node(*sub_tasks: obshell_states.SubTaskScript) -> obshell_states.NodeScript:
    """A node to which anything may be done."""
    flags: list[obshell_states.NodeFlag] = ["cancel", "continue", "pass", "retry", "rollback"]
    return obshell_states.NodeScript(sub_tasks, frozenset(flags))


RUNS = (obshell_states.RunScript(SPAN),)
FAILS_AND_RUNS = (obshell_states.RunScript(SPAN, "FAILED"), obshell_states.RunScript(SPAN))
SMALL_DAGS = [
    obshell_states.DagScript((node(obshell_states.SubTaskScript(FAILS_AND_RUNS, FAILS_AND_RUNS)),)),
    obshell_states.DagScript(
        (
            node(obshell_states.SubTaskScript(RUNS, FAILS_AND_RUNS)),
            node(obshell_states.SubTaskScript(FAILS_AND_RUNS, RUNS)),
        )
    ),
]


@pytest.mark.slow
def test_every_edge_of_a_dag_is_met_by_a_life() -> None:
    paces = (obshell_states.Rules(), obshell_states.Rules(cancels_at_stage=True))
    lives = [obshell.start(plan, pace) for plan in SMALL_DAGS for pace in paces]

    met = {move for life in lives for move in moves_of(OBSHELL, life)}

    table = [
        move
        for machine in obshell_states.MACHINES.values()
        for move in table_of(machine, but=obshell_states.BETWEEN_WRITES)
    ]
    assert told(met) == told(table)


@each_machine
def test_a_table_says_each_thing_once_and_where_it_is_from(machine: StateMachine) -> None:
    said = [(edge.trigger, edge.before, edge.after) for edge in machine.transitions]

    assert len(said) == len(set(said))
    assert all(edge.source for edge in machine.transitions)
    assert all(edge.before != edge.after for edge in machine.transitions)


@each_machine
def test_all_that_shows_can_come_of_what_is_born(machine: StateMachine) -> None:
    come = {after for born in machine.initial for after in reachable(machine, born)}

    assert come == set(machine.labels)


# --- what may be seen next ------------------------------------------------------------------------


TASK = ocp_states.TASK


def test_what_stays_as_it_is_has_become_itself() -> None:
    failed = parse_label("FAILED/EXECUTE")

    assert failed in reachable(TASK, failed, triggers=())


def test_nothing_but_time_passes_where_no_call_was_accepted() -> None:
    failed = parse_label("FAILED/EXECUTE")

    assert failed in reachable(TASK, parse_label("RUNNING/EXECUTE"), triggers=())
    assert parse_label("RUNNING/RETRY") not in reachable(TASK, failed, triggers=())
    assert parse_label("RUNNING/RETRY") not in reachable(TASK, failed, triggers={"task.ROLLBACK"})


def test_a_call_that_was_accepted_may_have_moved_it_on() -> None:
    failed = parse_label("FAILED/EXECUTE")

    assert parse_label("SUCCESSFUL/RETRY") in reachable(TASK, failed, triggers={"task.RETRY"})
    assert parse_label("RUNNING/ROLLBACK") in reachable(TASK, failed, triggers={"task.ROLLBACK"})


def test_calls_that_nobody_knows_of_may_have_moved_it_anywhere() -> None:
    failed = parse_label("FAILED/EXECUTE")

    assert parse_label("SUCCESSFUL/ROLLBACK") in reachable(TASK, failed)
    assert parse_label("RUNNING/EXECUTE") not in reachable(TASK, failed, triggers={"task.RETRY"})
    assert failed not in reachable(TASK, parse_label("SUCCESSFUL/EXECUTE"))


def test_words_that_no_server_shows_can_come_of_nothing() -> None:
    assert parse_label("CANCELED/EXECUTE") not in reachable(TASK, parse_label("RUNNING/EXECUTE"))


# --- a machine, read ------------------------------------------------------------------------------


def test_a_machine_lists_what_it_shows_and_what_moves_it() -> None:
    machine = StateMachine(
        "lamp",
        (parse_label("OFF/EXECUTE"),),
        transitions("""
            lamp.LIGHT  OFF/EXECUTE → ON/EXECUTE  Lamp:1
            time        ON/EXECUTE → OFF/EXECUTE  Lamp:2  a weak battery
        """),
    )

    assert machine.labels == (("OFF", "EXECUTE"), ("ON", "EXECUTE"))
    assert machine.triggers == ("lamp.LIGHT",)
    assert machine.between(("ON", "EXECUTE"), ("OFF", "EXECUTE")) == (
        Transition(("ON", "EXECUTE"), ("OFF", "EXECUTE"), TIME, "Lamp:2", "a weak battery"),
    )


# --- histories ------------------------------------------------------------------------------------

PERIOD = 10 * SECOND


def a_task() -> ocp.History:
    """A task whose only subtask always fails."""
    return ocp.start(ocp_states.TaskScript((ocp_states.SubtaskScript((ocp_states.RunScript(SECOND, "FAILED"),)),)))


def a_dag() -> obshell.History:
    """A dag whose only sub task always fails."""
    failing = obshell_states.SubTaskScript((obshell_states.RunScript(SECOND, "FAILED"),))
    node = obshell_states.NodeScript((failing,), frozenset({"retry"}))
    return obshell.start(obshell_states.DagScript((node,)))


@pytest.mark.parametrize(("machine", "start"), [(ocp, a_task), (obshell, a_dag)])
def test_the_thousandth_retry_costs_as_much_as_the_tenth(machine: Any, start: Any) -> None:
    history, first = start(), start().states[0]

    def retry(instant: int) -> None:
        nonlocal history
        history = machine.operate(history, "RETRY", instant)
        machine.view_at(history, instant)
        machine.next_due(history, instant)

    def cost_of_last(numbers: range) -> int:
        for number in numbers[:-1]:
            retry(number * PERIOD)
        return calls_in(partial(retry, numbers[-1] * PERIOD))

    tenth, thousandth = cost_of_last(range(1, 11)), cost_of_last(range(11, 1001))

    assert thousandth == tenth
    assert machine.view_at(history, 999 * PERIOD).at == 999 * PERIOD
    operations = [state for state in history.states if any(change.target == () for change in state.changes)]
    assert len(operations) == MAX_OPERATIONS + 1
    assert machine.view_at(history, first.at) == history.states[0] != first


@pytest.mark.parametrize(("machine", "start"), [(ocp, a_task), (obshell, a_dag)])
def test_the_past_stays_as_it_was_after_many_retries(machine: Any, start: Any) -> None:
    history = start()
    first = [machine.view_at(history, instant) for instant in range(0, PERIOD, SECOND // 4)]

    for number in range(1, 50):
        history = machine.operate(history, "RETRY", number * PERIOD)

    again = [machine.view_at(history, instant) for instant in range(0, PERIOD, SECOND // 4)]
    assert again == first


@pytest.mark.parametrize(("machine", "start"), [(ocp, a_task), (obshell, a_dag)])
def test_histories_that_begin_alike_do_not_disturb_each_other(machine: Any, start: Any) -> None:
    one, other = start(), start()

    for number in range(1, 20):
        one = machine.operate(one, "RETRY", number * PERIOD)
        other = machine.operate(other, "RETRY", number * PERIOD + SECOND)

    assert len(one.states) == len(other.states)
    assert machine.view_at(one, 10 * PERIOD) != machine.view_at(other, 10 * PERIOD)


def a_chain(length: int) -> ocp.History:
    """A task of subtasks in a row, of which the first fails once."""
    fails, works = ocp_states.RunScript(SECOND, "FAILED"), ocp_states.RunScript(SECOND)
    subtasks = [ocp_states.SubtaskScript((works,), needs=(place - 1,)) for place in range(1, length)]
    return ocp.start(ocp_states.TaskScript((ocp_states.SubtaskScript((fails, works)), *subtasks)))


def a_fan(width: int) -> ocp.History:
    """A task of subtasks side by side, which all fail once and end one after another."""
    fails = ocp_states.RunScript(SECOND, "FAILED")
    runs = [(fails, ocp_states.RunScript(SECOND + place)) for place in range(width)]
    return ocp.start(ocp_states.TaskScript(tuple(map(ocp_states.SubtaskScript, runs)), concurrency=width))


def a_row(length: int) -> obshell.History:
    """A dag of nodes of which the first fails once."""
    fails, works = obshell_states.RunScript(SECOND, "FAILED"), obshell_states.RunScript(SECOND)
    runs = [(fails, works), *[(works,)] * (length - 1)]
    nodes = [obshell_states.NodeScript((obshell_states.SubTaskScript(run),), frozenset({"retry"})) for run in runs]
    return obshell.start(obshell_states.DagScript(tuple(nodes)))


@pytest.mark.parametrize(("machine", "start"), [(ocp, a_chain), (ocp, a_fan), (obshell, a_row)])
def test_a_retry_of_twice_as_many_parts_costs_twice_as_much(machine: Any, start: Any) -> None:
    calls, memory, states = list[int](), list[int](), list[int]()

    for length in (200, 400):
        history = start(length)
        retry = partial(machine.operate, history, "RETRY", history.upcoming.last.at)
        retry()
        calls.append(calls_in(retry))
        gc.collect()
        tracemalloc.start()
        retried = retry()
        gc.collect()  # so that garbage does not count
        memory.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        states.append(len(retried.states))

    assert states[1] > 1.9 * states[0]
    assert calls[1] < 2.1 * calls[0]
    assert memory[1] < 2.5 * memory[0]


def test_a_rollback_of_twice_as_many_subtasks_costs_twice_as_much() -> None:
    calls = list[int]()

    for length in (200, 400):
        works, fails = ocp_states.RunScript(SECOND), ocp_states.RunScript(SECOND, "FAILED")
        runs = [*[(works,)] * (length - 1), (fails,)]
        needs = [(place - 1,) if place else () for place in range(length)]
        subtasks = [ocp_states.SubtaskScript(run, needs=need) for run, need in zip(runs, needs, strict=True)]
        history = ocp.start(ocp_states.TaskScript(tuple(subtasks)))
        calls.append(calls_in(partial(ocp.operate, history, "ROLLBACK", history.upcoming.last.at)))

    assert calls[1] < 2.1 * calls[0]
