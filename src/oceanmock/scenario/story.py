"""A story: the life a client should be able to live with a scenario's tasks or dags, in steps.

An actor is one of them, with the life its machine gives it. Telling a story runs the machine with
nobody waiting: `until` goes to the first instant at which some words show, `wait` lets time pass,
`start` bears an actor that was not there before, `call` operates there and then. A story that
cannot happen diverges, and says at which step, what it waited for and what happens instead. Pure:
it knows neither machine, no file, no clock and no HTTP; what is a machine's own is asked of the
actor. Instants are nanoseconds since the sandbox's start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, Self, TypeVar

from oceanmock.clock import SECOND
from oceanmock.engine.machine import until
from oceanmock.errors import AuthorError

Part = tuple[int, ...]
"""The positions that lead from an actor to a part of it; () is the actor itself."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What shows from an instant on, in the API's own words: a state, an operation, maybe more.

    ``at`` counts from the actor's birth.
    """

    at: int
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An operation that is refused: the HTTP status that says so, and why."""

    answers: int
    why: str


@dataclass(frozen=True, slots=True)
class Actor(ABC):
    """One a story is about: when it was born, what messages call it and its parts.

    A subclass adds the life that one machine gives it, and knows that machine's words.
    """

    born: int
    name: str
    names: tuple[str, ...]

    @abstractmethod
    def shows(self, part: Part) -> Iterable[Shown]:
        """What the actor, or a part of it, shows in each state of its life; never nothing."""

    @abstractmethod
    def start(self, instant: int, others: Sequence[Self]) -> Self | Refusal:
        """The actor born at an instant, beside the others that are there already."""

    @abstractmethod
    def operate(self, operation: str, part: Part, instant: int) -> Self | Refusal:
        """The actor after an operation on it, or on a part of it, at ``instant`` of its life."""

    def called(self, part: Part) -> str:
        """What messages call the actor, or a part of it."""
        return f"{self.names[part[0]]!r} of {self.name!r}" if part else repr(self.name)


A = TypeVar("A", bound=Actor)


@dataclass(frozen=True, slots=True)
class Until:
    """Waits for an actor, or a part of it, to show some words; None stands for any word."""

    actor: int
    part: Part
    words: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Lets time pass."""

    span: int


@dataclass(frozen=True, slots=True)
class Start:
    """Lets the request come that an actor starts on; it is answered with this HTTP status."""

    actor: int
    answers: int = 200


@dataclass(frozen=True, slots=True)
class Call:
    """Operates, and is answered with this HTTP status: 200, or it is refused."""

    actor: int
    part: Part
    operation: str
    answers: int = 200


Step = Until | Wait | Start | Call


@dataclass(frozen=True, slots=True)
class Marker:
    """An operation of the story, or a birth, where it happened."""

    instant: int
    actor: int
    text: str


@dataclass(frozen=True, slots=True)
class Told(Generic[A]):
    """A story that came to its end: the actors' lives as they went, and the operations on them."""

    actors: tuple[A, ...]
    marks: tuple[Marker, ...]
    ended: int = 0
    """The instant at which its last step was done."""


class StoryDivergesError(AuthorError):
    """Step ``number`` (from 0) cannot happen."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def tell(actors: Sequence[A], steps: Sequence[Step], *, unborn: Iterable[int] = ()) -> Told[A]:
    """Runs a story to its end. Raises StoryDivergesError at the first step that cannot happen.

    ``unborn`` are the positions of those who are there only once they are started.
    """
    cast, now, marks, waiting = list(actors), 0, list[Marker](), set(unborn)
    for number, step in enumerate(steps):
        if isinstance(step, Wait):
            now += step.span
            continue
        if not isinstance(step, Start) and step.actor in waiting:
            raise StoryDivergesError(number, f"{cast[step.actor].called(())} is not started yet")
        if isinstance(step, Until):
            now = _await(cast[step.actor], step, now, number)
            continue
        if isinstance(step, Start):
            _start(cast, waiting, step, now, number)
        else:
            cast[step.actor] = _operate(cast[step.actor], step, now, number)
        if step.actor not in waiting:
            refused = "" if step.answers == 200 else ", refused"
            marks.append(Marker(now, step.actor, _call_text(cast[step.actor], step) + refused))
    return Told(tuple(cast), tuple(marks), now)


def _start(cast: list[A], waiting: set[int], step: Start, now: int, number: int) -> None:
    """Bears an actor in its place in the cast."""
    actor = cast[step.actor]
    if step.actor not in waiting:
        raise StoryDivergesError(number, f"{actor.called(())} is there already")
    others = [each for place, each in enumerate(cast) if place not in waiting]
    after = _unless_refused(actor.start(now, others), actor, step, number)
    if after is not None:
        cast[step.actor] = after
        waiting.remove(step.actor)


def _await(actor: A, step: Until, now: int, number: int) -> int:
    """The first instant from now on at which the step's words show."""
    for shown in _from(actor, step, now):
        if all(word in (None, seen) for word, seen in zip(step.words, shown.words, strict=False)):
            return max(actor.born + shown.at, now)
    raise StoryDivergesError(number, _never(actor, step, now))


def _from(actor: A, step: Until, now: int) -> list[Shown]:
    """What shows now, and all that will."""
    life = list(actor.shows(step.part))
    past = len(until(life, now - actor.born))
    return life[max(past - 1, 0) :]


def _operate(actor: A, step: Call, now: int, number: int) -> A:
    after = actor.operate(step.operation, step.part, now - actor.born)
    return _unless_refused(after, actor, step, number) or actor


def _unless_refused(after: A | Refusal, actor: A, step: Start | Call, number: int) -> A | None:
    """The actor as it has become; None when it was refused, as the step says it is."""
    call = _call_text(actor, step)
    if not isinstance(after, Refusal):
        if step.answers == 200:
            return after
        raise StoryDivergesError(number, f"{call} is accepted, not refused")
    if after.answers == step.answers:
        return None
    instead = "" if step.answers == 200 else f" with {after.answers}, not {step.answers}"
    raise StoryDivergesError(number, f"{call} is refused{instead}: {after.why}")


def _call_text(actor: A, step: Start | Call) -> str:
    if isinstance(step, Start):
        return f"start {actor.called(())}"
    return f"{step.operation} {actor.called(step.part)}"


def _never(actor: A, step: Until, now: int) -> str:
    wanted = " ".join(word for word in step.words if word)
    coming = _from(actor, step, now)
    texts = ["/".join(each.words[: len(step.words)]) for each in coming]
    seen = "; ".join(text for text, _ in groupby(texts))
    left = max(actor.born + coming[-1].at - now, 0) / SECOND
    end = f"after {left:g} s nothing more is due" if left else "nothing more is due"
    return f"{actor.called(step.part)} never is {wanted} from here on; it is {seen}, and {end}"
