"""A state machine as a table: what a kind of thing may show, and what may follow what.

A *label* is a state and an operation (obshell: operator), in the API's own words. A transition is
one move from a label to another; it has one trigger, time or an operation such as ``task.RETRY``,
and one public source. Nothing here knows when something happens, only what may come next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

Label = tuple[str, str]

TIME: Final = "time"
"""The trigger of everything that happens without an operation."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One move, its trigger and its source.

    ``only`` names the switch or the circumstance without which it never shows; "" if any server
    with the defaults may make it.
    """

    before: Label
    after: Label
    trigger: str
    source: str
    only: str = ""

    def __str__(self) -> str:
        return f"{format_label(self.before)} → {format_label(self.after)}"


@dataclass(frozen=True, slots=True)
class StateMachine:
    """One kind: the labels it may start with, and every transition."""

    kind: str
    initial: tuple[Label, ...]
    transitions: tuple[Transition, ...]

    @property
    def labels(self) -> tuple[Label, ...]:
        """Return all labels, each once, the initial ones first."""
        ends = (end for each in self.transitions for end in (each.before, each.after))
        return tuple(dict.fromkeys((*self.initial, *ends)))

    @property
    def states(self) -> tuple[str, ...]:
        """Return all states, each once."""
        return tuple(dict.fromkeys(state for state, _ in self.labels))

    @property
    def operations(self) -> tuple[str, ...]:
        """Return all operations that labels contain, each once."""
        return tuple(dict.fromkeys(operation for _, operation in self.labels))

    @property
    def triggers(self) -> tuple[str, ...]:
        """Return the operations that cause transitions, those on another kind too, each once."""
        return tuple(dict.fromkeys(e.trigger for e in self.transitions if e.trigger != TIME))

    def between(self, before: Label, after: Label) -> tuple[Transition, ...]:
        """Return the transitions from one label to another: one for each trigger."""
        return tuple(e for e in self.transitions if (e.before, e.after) == (before, after))


def can_follow(
    machine: StateMachine, before: Label, after: Label, *, triggers: Collection[str] | None = None
) -> bool:
    """Return whether a client may see ``after`` some time after ``before``.

    Any number of transitions may lie between them, by time or by one of ``triggers``, each as
    often as needed; None stands for any operation. A label is reachable from itself.
    """
    return after in reachable(machine, before, triggers=triggers)


def reachable(
    machine: StateMachine, before: Label, *, triggers: Collection[str] | None = None
) -> frozenset[Label]:
    """Return all labels that may follow ``before``, itself too; ``triggers`` as ``can_follow``."""
    found, waiting = {before}, [before]
    while waiting:
        current = waiting.pop()
        for each in machine.transitions:
            may = each.trigger == TIME or triggers is None or each.trigger in triggers
            if may and each.before == current and each.after not in found:
                found.add(each.after)
                waiting.append(each.after)
    return frozenset(found)


def transitions(trigger: str, source: str, *moves: str, only: str = "") -> Iterator[Transition]:
    """Yield the transitions of some moves that have one trigger and one source.

    A move is written ``FAILED/RUN → READY/RUN``; ``FAILED/RUN|CANCEL → READY/=`` stands for one
    from each operation, which stays the same.
    """
    for move in moves:
        before, after = map(parse_label, move.split(" → "))
        for operation in before[1].split("|"):
            kept = operation if after[1] == "=" else after[1]
            yield Transition((before[0], operation), (after[0], kept), trigger, source, only)


def parse_label(text: str) -> Label:
    """Return the label that a text such as ``FAILED/RUN`` stands for."""
    state, operation = text.split("/")
    return state, operation


def format_label(label: Label) -> str:
    """Return a label as text."""
    return "/".join(label)
