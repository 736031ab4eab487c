"""What an API shows of a kind of thing, and what may follow what: a table of edges.

A *machine* describes one kind (a task, a subtask, a dag, a node, a sub task): the words it may
show, which are a state and an operation, and the edges between them. An edge is one move; it has
one cause, time or a call that a client makes, and one public source. Two moves that fall on the
same instant are two edges, though nobody can look in between. The tables themselves are in
``ocp_transitions`` and ``obshell_transitions``; tests hold them against the machines that live
them: no move without its edge, no edge without a life that makes it. The one rule: nothing here
knows when something happens, only what may come next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

Shown = tuple[str, str]
"""A state and an operation (obshell: operator), in the API's own words."""

TIME: Final = "time"
"""The cause of what happens by itself."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One move, and its cause: time, or a call such as ``task.RETRY``.

    ``only`` names what has to be switched on, or seen through, for it to show; empty where any
    server with the defaults may make it.
    """

    before: Shown
    after: Shown
    by: str
    source: str
    only: str = ""

    def __str__(self) -> str:
        return f"{words(self.before)} → {words(self.after)}"


@dataclass(frozen=True, slots=True)
class StateMachine:
    """What one kind shows: the words it may be born with, and every edge."""

    kind: str
    born: tuple[Shown, ...]
    edges: tuple[Transition, ...]

    @property
    def shown(self) -> tuple[Shown, ...]:
        """All it may show, each once: first what it is born with."""
        ends = (end for edge in self.edges for end in (edge.before, edge.after))
        return tuple(dict.fromkeys((*self.born, *ends)))

    @property
    def states(self) -> tuple[str, ...]:
        """Its states, each once."""
        return tuple(dict.fromkeys(state for state, _ in self.shown))

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations (obshell: operators) it shows, each once."""
        return tuple(dict.fromkeys(operation for _, operation in self.shown))

    @property
    def calls(self) -> tuple[str, ...]:
        """The calls that move it, those on another kind too, each once."""
        return tuple(dict.fromkeys(edge.by for edge in self.edges if edge.by != TIME))

    def between(self, before: Shown, after: Shown) -> tuple[Transition, ...]:
        """The edges from one to the other: one for each cause."""
        return tuple(e for e in self.edges if (e.before, e.after) == (before, after))


def can_become(
    machine: StateMachine, before: Shown, after: Shown, *, calls: Collection[str] | None = None
) -> bool:
    """Whether somebody who saw ``before`` may see ``after`` next, having looked away for a while.

    That is, whether any number of edges lead there, of which those that a call makes are made by
    one of ``calls``: those that were accepted in between, each as often as you like. None stands
    for calls that nobody knows of. What stays as it is has become itself.
    """
    return after in reachable(machine, before, calls=calls)


def reachable(
    machine: StateMachine, before: Shown, *, calls: Collection[str] | None = None
) -> frozenset[Shown]:
    """All that may show after ``before``, itself too; ``calls`` as for ``can_become``."""
    found, waiting = {before}, [before]
    while waiting:
        here = waiting.pop()
        for edge in machine.edges:
            may = edge.by == TIME or calls is None or edge.by in calls
            if may and edge.before == here and edge.after not in found:
                found.add(edge.after)
                waiting.append(edge.after)
    return frozenset(found)


def edges(by: str, source: str, *moves: str, only: str = "") -> Iterator[Transition]:
    """The edges of some moves with one cause, each written ``FAILED/RUN → READY/RUN``."""
    for move in moves:
        before, after = move.split(" → ")
        yield Transition(shown(before), shown(after), by, source, only)


def shown(text: str) -> Shown:
    """What a text such as ``FAILED/RUN`` stands for."""
    state, operation = text.split("/")
    return state, operation


def words(shown: Shown) -> str:
    """A state and an operation, as texts write them."""
    return "/".join(shown)
