"""Simulate a story: the steps in which a client can use a scenario's tasks or dags.

An actor is a task or a dag with the history that its machine computes. `until` waits for the first
instant at which it shows some words, `wait` lets time pass, `start` starts an actor that was not
there before, and `call` performs an operation at once. Where a step cannot happen, the error says
which one, what it waited for and what happens instead. Pure: without clock, files and HTTP; what an
operation does is asked of the actor. Instants are nanoseconds since the sandbox's start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Generic, Self, TypeVar

from oceanmock.clock import SECOND
from oceanmock.errors import AuthorError

PartPath = tuple[int, ...]
"""The positions that lead from an actor to a part of it; () is the actor itself."""


@dataclass(frozen=True, slots=True)
class Display:
    """The words an API shows from an instant on: a state, an operation, maybe more.

    ``at`` counts from the actor's start.
    """

    at: int
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The HTTP status with which an operation is refused, and why."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Actor(ABC):
    """A task or dag of a story: when it started, and what messages call it and its parts.

    A subclass adds the history that one machine computes.
    """

    created: int
    name: str
    names: tuple[str, ...]

    @abstractmethod
    def shows(self, part: PartPath) -> Iterable[Display]:
        """Yield what the actor, or a part of it, shows in each state; at least one."""

    @abstractmethod
    def start(self, instant: int, others: Sequence[Self]) -> Self | Refusal:
        """Return the actor started at an instant, beside the others that have started."""

    @abstractmethod
    def operate(self, operation: str, part: PartPath, instant: int) -> Self | Refusal:
        """Return the actor after an operation on it or a part, ``instant`` after its start."""

    def called(self, part: PartPath) -> str:
        """Return what messages call the actor, or a part of it."""
        return f"{self.names[part[0]]!r} of {self.name!r}" if part else repr(self.name)


A = TypeVar("A", bound=Actor)


@dataclass(frozen=True, slots=True)
class UntilAction:
    """Wait until an actor, or a part of it, shows some words; None stands for any word."""

    actor: int
    part: PartPath
    words: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class WaitAction:
    """Let time pass."""

    span: int


@dataclass(frozen=True, slots=True)
class StartAction:
    """Send the request that an actor starts on; the response has this HTTP status."""

    actor: int
    status: int = 200


@dataclass(frozen=True, slots=True)
class CallAction:
    """Perform an operation; the response has this HTTP status: 200, or it is refused."""

    actor: int
    part: PartPath
    operation: str
    status: int = 200


Action = UntilAction | WaitAction | StartAction | CallAction


@dataclass(frozen=True, slots=True)
class Marker:
    """An operation of the story, or a start, and when it happened."""

    instant: int
    actor: int
    text: str


@dataclass(frozen=True, slots=True)
class StoryRun(Generic[A]):
    """A story simulated to its end: the actors with their histories, and the operations on them."""

    actors: tuple[A, ...]
    markers: tuple[Marker, ...]
    ended_at: int = 0


def label_of(thing: Any, place: int) -> str:
    """Return what messages call a task, a dag or a part of one: its name, id or number."""
    return thing.name or str(thing.id or place + 1)


def positions_of(labels: Iterable[tuple[int | None, str | None]]) -> dict[Any, int]:
    """Return the position of the first thing of each id and name."""
    positions: dict[Any, int] = {}
    for place, (id, name) in enumerate(labels):
        positions.setdefault(id, place)
        positions.setdefault(name, place)
    return positions


class StoryDivergesError(AuthorError):
    """Step ``number`` (from 0) cannot happen."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def simulate(actors: Sequence[A], steps: Sequence[Action], *, waiting: Iterable[int] = ()) -> StoryRun[A]:
    """Run a story to its end. Raises StoryDivergesError at the first step that cannot happen.

    ``waiting`` are the positions of the actors that are there only once they are started.
    """
    cast, now, markers, absent = list(actors), 0, list[Marker](), set(waiting)
    for number, step in enumerate(steps):
        if isinstance(step, WaitAction):
            now += step.span
            continue
        actor = cast[step.actor]
        try:
            if isinstance(step, StartAction) and step.actor not in absent:
                raise _Divergence(f"{actor.called(())} is there already")
            if not isinstance(step, StartAction) and step.actor in absent:
                raise _Divergence(f"{actor.called(())} is not started yet")
            if isinstance(step, UntilAction):
                now = _wait_until(actor, step, now)
                continue
            if isinstance(step, StartAction):
                others = [item for place, item in enumerate(cast) if place not in absent]
                text, after = f"start {actor.called(())}", actor.start(now, others)
            else:
                text = f"{step.operation} {actor.called(step.part)}"
                after = actor.operate(step.operation, step.part, now - actor.created)
            _compare_status(after, step.status, text)
        except _Divergence as divergence:
            raise StoryDivergesError(number, str(divergence)) from None
        if not isinstance(after, Refusal):
            cast[step.actor] = after
            absent.discard(step.actor)
        if step.actor not in absent:
            text += ", refused" if isinstance(after, Refusal) else ""
            markers.append(Marker(now, step.actor, text))
    return StoryRun(tuple(cast), tuple(markers), now)


class _Divergence(Exception):
    """A step cannot happen; the message says why."""


def _wait_until(actor: A, step: UntilAction, now: int) -> int:
    """Return the first instant from ``now`` on at which the step's words show."""
    displays = list(actor.shows(step.part))
    past = bisect_right(displays, now - actor.created, key=attrgetter("at"))
    coming = displays[max(past - 1, 0) :]
    expected = {item for item in enumerate(step.words) if item[1] is not None}
    for display in coming:
        if expected.issubset(enumerate(display.words)):
            return max(actor.created + display.at, now)
    texts = ["/".join(display.words[: len(step.words)]) for display in coming]
    actual = "; ".join(text for text, _ in groupby(texts))
    remaining = max(actor.created + coming[-1].at - now, 0) / SECOND
    end = f"after {remaining:g} s nothing more is due" if remaining else "nothing more is due"
    raise _Divergence(
        f"{actor.called(step.part)} never is {' '.join(filter(None, step.words))} from here on; "
        f"it is {actual}, and {end}"
    )


def _compare_status(after: object, status: int, call: str) -> None:
    """Raise _Divergence if a call has another status than its step expects."""
    if isinstance(after, Refusal) and after.status != status:
        instead = "" if status == 200 else f" with {after.status}, not {status}"
        raise _Divergence(f"{call} is refused{instead}: {after.reason}")
    if not isinstance(after, Refusal) and status != 200:
        raise _Divergence(f"{call} is accepted, not refused")
