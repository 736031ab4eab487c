"""Decide which states an item may have, given an earlier observation and the requests since.

Any number of ticks may lie between two observations. So an observation is a set of states: all
that the transition table reaches by time alone. An accepted operation takes its item along one of
its transitions, in the order of the requests; one without a response may have been accepted or
not. Where others may operate as well, every operation may have happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from oceanmock.engine.machine import Label, StateMachine, reachable
from oceanmock.obshell import states as obshell_states
from oceanmock.ocp import states as ocp_states

MACHINES: Final[Mapping[str, StateMachine]] = {
    **ocp_states.MACHINES,
    **obshell_states.MACHINES,
}
States = frozenset[Label]


@dataclass(frozen=True, slots=True)
class Call:
    """An operation that was, or may have been, accepted: ``task.RETRY`` on task 7."""

    name: str
    id: str
    roots: frozenset[str]
    """The tasks or dags it may have changed; empty means any."""
    is_sure: bool
    """True if it was accepted; False if there was no response, or an inconclusive one."""

    @property
    def kind(self) -> str:
        """Return the kind of its target."""
        return self.name.partition(".")[0]

    def concerns(self, root: str) -> bool:
        """Return whether it may have changed this task or dag, or a part of it."""
        return not self.roots or not root or root in self.roots

    def aims_at(self, kind: str, id: str) -> bool:
        """Return whether this is its target."""
        return (self.kind, self.id) == (kind, id)


@lru_cache(maxsize=1024)
def could_be(kind: str, state: str, operation: str) -> States:
    """Return the possible labels; a row of a list has no operation."""
    existing = MACHINES[kind].labels
    return frozenset(s for s in existing if s[0] == state and operation in ("", s[1]))


@lru_cache(maxsize=1024)
def in_time(kind: str, states: States, *, by_anybody: bool = False) -> States:
    """Return the labels reachable by time alone, or ``by_anybody``'s operations too."""
    machine = MACHINES[kind]
    triggers = None if by_anybody else ()
    return frozenset().union(*(reachable(machine, state, triggers=triggers) for state in states))


@lru_cache(maxsize=1024)
def moved(kind: str, states: States, by: str) -> States:
    """Return the labels after an operation, without those in which it has no transition."""
    return frozenset(
        e.after for e in MACHINES[kind].transitions if e.trigger == by and e.before in states
    )


def after_calls(
    kind: str, id: str, states: States, calls: Sequence[Call], *, is_certain: bool
) -> States:
    """Return the labels after operations; with ``is_certain`` accepted ones had their effect.

    An operation without a transition from the possible labels has no effect here; another rule
    reports that it was accepted.
    """
    for call in calls:
        states = in_time(kind, states)
        if call.kind == kind and call.id != id:
            continue
        after = moved(kind, states, call.name)
        is_bound = is_certain and call.is_sure and call.aims_at(kind, id) and bool(after)
        states = after if is_bound else states | after
    return in_time(kind, states)


def with_own_retries(id: str, calls: Sequence[Call]) -> list[Call]:
    """Return the operations, with a possible automatic retry before and after each.

    Some classes of subtasks retry (ocp-express FailedSubtaskWorker:72-88); the mock's never do.
    """
    own = Call("subtask.RETRY", id, frozenset(), is_sure=False)
    return [own, *(item for call in calls for item in (call, own))]


def can_take(kind: str, name: str, *, switched: bool) -> States:
    """Return the labels in which an operation is legal; ``switched``: with every switch on."""
    table = MACHINES[kind].transitions
    return frozenset(e.before for e in table if e.trigger == name and (switched or not e.only))


def known_calls(kind: str) -> Iterable[str]:
    """Return the operations on a kind."""
    return [name for name in MACHINES[kind].triggers if name.partition(".")[0] == kind]
