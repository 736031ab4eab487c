"""Every moment of a few small tasks and dags: a search for what the machines can show at all.

From each moment the search goes on in every way there is: to the next change, to a moment half a
tick later, and through every call that is accepted. Two moments that promise the same future are
one. What comes back is every move met on the way, with its cause; nothing here knows the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from oceanmock.clock import SECOND
from oceanmock.engine.machine import TIME, Change, History, Label, next_due, view_at
from oceanmock.errors import IllegalOperator
from oceanmock.obshell import api as obshell_api
from oceanmock.obshell import machine as obshell
from oceanmock.obshell import states as obshell_states
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import states as ocp_states

Move = tuple[str, str, Label, Label]
"""Kind, trigger, before, after."""

L = TypeVar("L", bound=History[Any, Any, Any])


@dataclass(frozen=True, slots=True)
class World(Generic[L]):
    """One machine, as the search uses it."""

    kinds: Sequence[str]
    operations: Callable[[L, int], Iterator[L]]
    promise: Callable[[L, int], Hashable]
    tick: int


def moves_of(world: World[L], history: L) -> set[Move]:
    """Return every move that a history, and all that operations can make of it, meets."""
    waiting, known, met = [(history, 0)], {world.promise(history, 0)}, set[Move]()
    while waiting:
        history, instant = waiting.pop()
        for after, then in _ways_on(world, history, instant):
            met.update(moves_in(world.kinds, view_at(after, then).changes))
            promise = world.promise(after, then)
            if promise not in known:
                known.add(promise)
                waiting.append((after, then))
    return met


def moves_in(kinds: Sequence[str], changes: Sequence[Change]) -> Iterator[Move]:
    """Yield the changes that are moves: not a start, nor one that leaves the label."""
    for change in changes:
        if change.before is not None and change.before != change.after:
            yield kinds[len(change.part)], TIME if change.target is None else change.cause, change.before, change.after


def _ways_on(world: World[L], history: L, instant: int) -> Iterator[tuple[L, int]]:
    half = instant + world.tick // 4
    due = next_due(history, instant)
    if due is not None:
        yield history, due
        if half < due:
            yield history, half
    for after in world.operations(history, instant):
        yield after, instant


# --- OCP ------------------------------------------------------------------------------------------


def _ocp_operations(history: ocp.History, instant: int) -> Iterator[ocp.History]:
    state = ocp.view_at(history, instant)
    for operation in ocp.allowed_operations(state, history.rules):
        yield ocp.operate(history, operation, instant)
    for place in range(len(state.subtasks)):
        for operation in ocp.allowed_operations(state, history.rules, subtask=place):
            yield ocp.operate(history, operation, instant, subtask=place)


def _ocp_promise(history: ocp.History, instant: int) -> Hashable:
    """What shows, what is due how soon, and which attempt comes next."""
    state = ocp.view_at(history, instant)
    return (
        (state.status, state.operation),
        _failed_for(history, state, instant),
        (instant - history.rules.phase) % history.rules.tick,
        tuple(
            (
                (each.status, each.operation),
                each.due and each.due - instant,
                each.will_end,
                *(_made(script, each.runs, kin) for script, kin in _scripts(plan)),
            )
            for plan, each in zip(history.script.subtasks, state.subtasks, strict=True)
        ),
    )


def _failed_for(history: ocp.History, state: ocp_states.TaskState, instant: int) -> int | None:
    """How long it has been FAILED, where that matters."""
    waits = history.script.abandoned_after is not None and state.status == "FAILED"
    return instant - state.finish_time if waits and state.finish_time is not None else None


def _scripts(plan: ocp_states.SubtaskScript) -> tuple[tuple[tuple[ocp_states.RunScript, ...], tuple[str, ...]], ...]:
    return (plan.attempts, ("EXECUTE", "RETRY")), (plan.rollbacks, ("ROLLBACK",))


def _made(script: tuple[ocp_states.RunScript, ...], runs: Sequence[ocp_states.Run], kin: tuple[str, ...]) -> int:
    return min(sum(run.operation in kin for run in runs), len(script) - 1)


OCP: World[ocp.History] = World(
    kinds=("task", "subtask"), operations=_ocp_operations, promise=_ocp_promise, tick=SECOND
)


# --- obshell --------------------------------------------------------------------------------------


def _obshell_operations(history: obshell.History, instant: int) -> Iterator[obshell.History]:
    operators: tuple[obshell_api.Operator, ...] = ("RETRY", "ROLLBACK", "CANCEL", "PASS")
    for operator in operators:
        yield from _accepted(history, operator, instant, None)
    for place in range(len(history.script.nodes)):
        yield from _accepted(history, "PASS", instant, place)


def _accepted(
    history: obshell.History, operator: obshell_api.Operator, instant: int, node: int | None
) -> Iterator[obshell.History]:
    try:
        yield obshell.operate(history, operator, instant, node=node)
    except IllegalOperator:
        return


def _obshell_promise(history: obshell.History, instant: int) -> Hashable:
    state = obshell.view_at(history, instant)
    return (
        state.label,
        state.stage,
        (instant - history.rules.phase) % history.rules.tick,
        tuple(
            (
                node.label,
                tuple(
                    (
                        each.label,
                        each.due and each.due - instant,
                        each.will_end,
                        (each.start_time or 0) > (node.start_time or 0),
                        _runs(script.attempts, each, "RUN"),
                        _runs(script.rollbacks, each, "ROLLBACK"),
                    )
                    for script, each in zip(place.sub_tasks, node.sub_tasks, strict=True)
                ),
            )
            for place, node in zip(history.script.nodes, state.nodes, strict=True)
        ),
    )


def _runs(script: tuple[obshell_states.RunScript, ...], it: obshell_states.SubTaskState, operator: str) -> int:
    return min(sum(run.operator == operator for run in it.runs), len(script) - 1)


OBSHELL: World[obshell.History] = World(
    kinds=("dag", "node", "sub_task"), operations=_obshell_operations, promise=_obshell_promise, tick=SECOND
)
