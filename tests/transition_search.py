"""Every moment of a few small tasks and dags: a search for what the machines can show at all.

From each moment the search goes on in every way there is: to the next change, to a moment half a
tick later, and through every call that is accepted. Two moments that promise the same future are
one. What comes back is every move met on the way, with its cause; nothing here knows the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

from oceanmock.engine.machine import TIME, Label
from oceanmock.errors import IllegalOperator
from oceanmock.obshell import machine as obshell
from oceanmock.ocp import machine as ocp

Move = tuple[str, str, Label, Label]
"""Of which kind, by what, from what, to what."""

L = TypeVar("L", ocp.History, obshell.History)


@dataclass(frozen=True, slots=True)
class World(Generic[L]):
    """One machine, as the search uses it."""

    next_due: Callable[[L, int], int | None]
    calls: Callable[[L, int], Iterator[tuple[str, L]]]
    moves: Callable[[L, L, int, int, str], Iterator[Move]]
    promise: Callable[[L, int], Hashable]
    tick: int


def moves_of(world: World[L], life: L) -> set[Move]:
    """Every move that a life, and all that calls can make of it, meets."""
    waiting, known, met = [(life, 0)], {world.promise(life, 0)}, set[Move]()
    while waiting:
        life, instant = waiting.pop()
        for by, after, then in _ways_on(world, life, instant):
            met.update(world.moves(life, after, instant, then, by))
            promise = world.promise(after, then)
            if promise not in known:
                known.add(promise)
                waiting.append((after, then))
    return met


def _ways_on(world: World[L], life: L, instant: int) -> Iterator[tuple[str, L, int]]:
    half = instant + world.tick // 4
    due = world.next_due(life, instant)
    if due is not None:
        yield TIME, life, due
        if half < due:
            yield TIME, life, half
    for by, after in world.calls(life, instant):
        yield by, after, instant


# --- OCP ------------------------------------------------------------------------------------------


def _ocp_calls(life: ocp.History, instant: int) -> Iterator[tuple[str, ocp.History]]:
    state = ocp.view_at(life, instant)
    for operation in ocp.allowed_operations(state, life.rules):
        yield f"task.{operation}", ocp.operate(life, operation, instant)
    for place in range(len(state.subtasks)):
        for operation in ocp.allowed_operations(state, life.rules, subtask=place):
            yield f"subtask.{operation}", ocp.operate(life, operation, instant, subtask=place)


def ocp_moves(before: ocp.TaskState, after: ocp.TaskState, by: str) -> Iterator[Move]:
    """What lies between two states that follow one another; the birth of a run is a move."""
    yield from _move("task", by, _task_words(before), _task_words(after))
    for old, new in zip(before.subtasks, after.subtasks, strict=True):
        passed = [_words(old), *(_runs_between(old, new) if by == TIME else ()), _words(new)]
        for here, there in pairwise(passed):
            yield from _move("subtask", by, here, there)


def _runs_between(old: ocp.SubtaskState, new: ocp.SubtaskState) -> Iterator[Label]:
    """What a subtask shows when a run starts or ends, though it be at one instant."""
    first = max(len(old.runs) - 1, 0)
    for number, run in enumerate(new.runs[first:], first):
        is_new = number >= len(old.runs)
        if is_new:
            yield "RUNNING", run.operation
        if run.ends is not None and (is_new or old.runs[number].ended is None):
            yield run.ends, run.operation if is_new else old.operation


def _words(subtask: ocp.SubtaskState) -> Label:
    return subtask.status, subtask.operation


def _task_words(task: ocp.TaskState) -> Label:
    return task.status, task.operation


def _ocp_promise(life: ocp.History, instant: int) -> Hashable:
    """What shows, what is due how soon, and which attempt comes next."""
    state = ocp.view_at(life, instant)
    return (
        _task_words(state),
        _failed_for(life, state, instant),
        (instant - life.rules.phase) % life.rules.tick,
        tuple(
            (
                _words(each),
                each.due and each.due - instant,
                each.will_end,
                *(_made(script, each.runs, kin) for script, kin in _scripts(plan)),
            )
            for plan, each in zip(life.plan.subtasks, state.subtasks, strict=True)
        ),
    )


def _failed_for(life: ocp.History, state: ocp.TaskState, instant: int) -> int | None:
    """How long it has been FAILED, where that matters."""
    waits = life.plan.abandoned_after is not None and state.status == "FAILED"
    return instant - state.finish_time if waits and state.finish_time is not None else None


def _scripts(
    plan: ocp.SubtaskScript,
) -> tuple[tuple[tuple[ocp.Attempt, ...], tuple[str, ...]], ...]:
    return (plan.attempts, ("EXECUTE", "RETRY")), (plan.rollbacks, ("ROLLBACK",))


def _made(script: tuple[ocp.Attempt, ...], runs: tuple[ocp.Run, ...], kin: tuple[str, ...]) -> int:
    return min(sum(run.operation in kin for run in runs), len(script) - 1)


OCP: World[ocp.History] = World(
    next_due=ocp.next_due,
    calls=_ocp_calls,
    moves=lambda life, after, instant, then, by: ocp_moves(
        ocp.view_at(life, instant), ocp.view_at(after, then), by
    ),
    promise=_ocp_promise,
    tick=ocp.SECOND,
)


# --- obshell --------------------------------------------------------------------------------------


def _obshell_calls(life: obshell.History, instant: int) -> Iterator[tuple[str, obshell.History]]:
    operators: tuple[obshell.Operator, ...] = ("RETRY", "ROLLBACK", "CANCEL", "PASS")
    for operator in operators:
        yield from _accepted(f"dag.{operator}", life, operator, instant, None)
    for place in range(len(life.plan.nodes)):
        yield from _accepted("node.PASS", life, "PASS", instant, place)


def _accepted(
    by: str, life: obshell.History, operator: obshell.Operator, instant: int, node: int | None
) -> Iterator[tuple[str, obshell.History]]:
    try:
        yield by, obshell.operate(life, operator, instant, node=node)
    except IllegalOperator:
        return


def obshell_moves(before: obshell.DagState, after: obshell.DagState, by: str) -> Iterator[Move]:
    """What lies between two states that follow one another."""
    yield from _move("dag", by, _dag_words(before), _dag_words(after))
    for old, new in zip(before.nodes, after.nodes, strict=True):
        yield from _move("node", by, _dag_words(old), _dag_words(new))
        for old_task, new_task in zip(old.sub_tasks, new.sub_tasks, strict=True):
            yield from _move("sub_task", by, _dag_words(old_task), _dag_words(new_task))


def _dag_words(it: obshell.DagState | obshell.NodeState | obshell.SubTaskState) -> Label:
    return it.state, it.operator


def _obshell_promise(life: obshell.History, instant: int) -> Hashable:
    state = obshell.view_at(life, instant)
    return (
        _dag_words(state),
        state.stage,
        (instant - life.rules.phase) % life.rules.tick,
        tuple(
            (
                _dag_words(node),
                tuple(
                    (
                        _dag_words(each),
                        each.due and each.due - instant,
                        each.will_end,
                        (each.start_time or 0) > (node.start_time or 0),
                        _runs(plan.attempts, each, "RUN"),
                        _runs(plan.rollbacks, each, "ROLLBACK"),
                    )
                    for plan, each in zip(place.sub_tasks, node.sub_tasks, strict=True)
                ),
            )
            for place, node in zip(life.plan.nodes, state.nodes, strict=True)
        ),
    )


def _runs(script: tuple[obshell.Attempt, ...], it: obshell.SubTaskState, operator: str) -> int:
    return min(sum(run.operator == operator for run in it.runs), len(script) - 1)


OBSHELL: World[obshell.History] = World(
    next_due=obshell.next_due,
    calls=_obshell_calls,
    moves=lambda life, after, instant, then, by: obshell_moves(
        obshell.view_at(life, instant), obshell.view_at(after, then), by
    ),
    promise=_obshell_promise,
    tick=obshell.SECOND,
)


# --- small things ---------------------------------------------------------------------------------


def _move(kind: str, by: str, before: Label, after: Label) -> Iterator[Move]:
    if before != after:
        yield kind, by, before, after
