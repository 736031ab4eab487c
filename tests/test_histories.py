"""engine/machine.py: a history grows at its end, and an operation costs its own work only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oceanmock.clock import SECOND
from oceanmock.engine.machine import Chain
from oceanmock.obshell import machine as obshell
from oceanmock.obshell import states as obshell_states
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import states as ocp_states

PERIOD = 10 * SECOND


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 99), st.booleans()), max_size=40))
def test_every_version_of_a_chain_keeps_its_items(steps: list[tuple[int, bool]]) -> None:
    versions: list[tuple[Chain[int], tuple[int, ...]]] = [(Chain(), ())]
    for number, (choice, appends) in enumerate(steps):
        chain, items = versions[choice % len(versions)]
        if appends or not items:
            versions.append((chain.append(number), (*items, number)))
        else:
            versions.append((chain.replace_last(number), (*items[:-1], number)))

    assert all(tuple(chain) == items and len(chain) == len(items) for chain, items in versions)
    assert all(chain[-2:] == items[-2:] and chain == items for chain, items in versions)


def test_a_chain_has_nothing_beyond_its_ends() -> None:
    chain = Chain([1]).append(2)

    with pytest.raises(IndexError):
        chain[2]
    with pytest.raises(IndexError):
        chain[-3]


def a_task() -> ocp.History:
    """A task whose only subtask always fails."""
    return ocp.start(
        ocp_states.TaskScript(
            (ocp_states.SubtaskScript((ocp_states.RunScript(SECOND, "FAILED"),)),)
        )
    )


def a_dag() -> obshell.History:
    """A dag whose only sub task always fails."""
    failing = obshell_states.SubTaskScript((obshell_states.RunScript(SECOND, "FAILED"),))
    node = obshell_states.NodeScript((failing,), frozenset({"retry"}))
    return obshell.start(obshell_states.DagScript((node,)))


def calls_in(function: Callable[[], Any]) -> int:
    """How many Python functions it calls."""
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize(("machine", "start"), [(ocp, a_task), (obshell, a_dag)])
def test_the_thousandth_retry_costs_as_much_as_the_tenth(machine: Any, start: Any) -> None:
    history = start()

    def retry(instant: int) -> None:
        nonlocal history
        history = machine.operate(history, "RETRY", instant)
        machine.view_at(history, instant)
        machine.next_due(history, instant)

    costs = [calls_in(partial(retry, number * PERIOD)) for number in range(1, 1001)]

    assert costs[999] == costs[9]
    assert len(history.settled) + len(history.upcoming) > 3000


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
