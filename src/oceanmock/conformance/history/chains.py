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
    """A call that was, or may have been, accepted: ``task.RETRY`` on task 7."""

    name: str
    id: str
    roots: frozenset[str]
    """The tasks or dags it may have moved; empty where nobody knows, and then it may be any."""
    is_sure: bool
    """Whether it was accepted; otherwise no answer came, or one that says nothing."""

    @property
    def kind(self) -> str:
        """What it is made on."""
        return self.name.partition(".")[0]

    def concerns(self, root: str) -> bool:
        """Whether it may have moved something of this task or dag."""
        return not self.roots or not root or root in self.roots

    def aims_at(self, kind: str, id: str) -> bool:
        """Whether it is made on this very thing."""
        return (self.kind, self.id) == (kind, id)


@lru_cache(maxsize=1024)
def could_be(kind: str, state: str, operation: str) -> States:
    """What something may be that shows this; a row of a list does not tell the operation."""
    existing = MACHINES[kind].labels
    return frozenset(s for s in existing if s[0] == state and operation in ("", s[1]))


@lru_cache(maxsize=1024)
def in_time(kind: str, states: States, *, by_anybody: bool = False) -> States:
    """All that may show after any of these, by time alone or by calls nobody knows of."""
    machine = MACHINES[kind]
    triggers = None if by_anybody else ()
    return frozenset().union(*(reachable(machine, state, triggers=triggers) for state in states))


@lru_cache(maxsize=1024)
def moved(kind: str, states: States, by: str) -> States:
    """What a call makes of these; of those that it does not move, nothing."""
    return frozenset(
        e.after for e in MACHINES[kind].transitions if e.trigger == by and e.before in states
    )


def after_calls(
    kind: str, id: str, states: States, calls: Sequence[Call], *, is_certain: bool
) -> States:
    """All that may show after the calls; with ``is_certain`` a call that was accepted has moved.

    A call that the table knows no move of, from where things may be, is taken for one that moved
    nothing: that it was accepted at all is another rule's business.
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
    """The calls, and before and after each the retry that a subtask may make by itself.

    Some classes of subtasks do (ocp-express FailedSubtaskWorker:72-88); the mock's never do.
    """
    own = Call("subtask.RETRY", id, frozenset(), is_sure=False)
    return [own, *(item for call in calls for item in (call, own))]


def can_take(kind: str, name: str, *, switched: bool) -> States:
    """What something may show that takes a call; ``switched``: with every switch on."""
    table = MACHINES[kind].transitions
    return frozenset(e.before for e in table if e.trigger == name and (switched or not e.only))


def known_calls(kind: str) -> Iterable[str]:
    """The calls that are made on a kind."""
    return [name for name in MACHINES[kind].triggers if name.partition(".")[0] == kind]
