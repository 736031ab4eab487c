"""What an explanation is made of, and how it is written: as JSON and as a short text.

Everything is told in the present tense, so that a sentence fits what has happened and what is to
come. Instants are nanoseconds since the epoch; in the text those of a life count from its birth,
and what a clock shows is UTC. Knows neither machine.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from oceanmock.clock import MILLISECOND, Clock, Progression
from oceanmock.engine.history import Dated
from oceanmock.engine.records import OperationRecord
from oceanmock.text import (
    first_few,
    format_duration,
    format_instant,
    format_seconds,
    one_line,
    round_duration,
)

Part = tuple[int, ...]
"""The positions that lead to a part of a task or dag; () is all of it."""

WIDTH: Final = 100
MOST: Final = 5
"""So many things of one kind are told in a sentence or a list; the rest is counted."""


# --- what happened --------------------------------------------------------------------------------

S = TypeVar("S", bound=Dated)


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """From one state to the next. Of a birth there is no ``before``; a refusal leads nowhere.

    ``by`` is the operation that made it; ``by_request`` holds also where its record is lost.
    """

    before: S | None
    after: S
    by: OperationRecord | None = None
    by_request: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a task, a dag or a part of it: from which words to which, and why."""

    at: int
    part: Part
    id: int
    who: str
    before: str | None
    after: str
    why: str
    by: OperationRecord | None = None

    def to_json(self) -> dict[str, Any]:
        """As a plain dict; ``from`` is None at birth, and the same as ``to`` for a refusal."""
        return {
            "at": format_instant(self.at),
            "id": self.id,
            "who": self.who,
            "from": self.before,
            "to": self.after,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Reason:
    """A sentence that says why; without an instant, what holds now."""

    at: int | None
    what: str


def steps_of(
    states: Sequence[S], operated: Iterable[OperationRecord], *, born: int
) -> Iterator[Step[S]]:
    """How each state came about, and what was refused, in order.

    A life holds one state for each operation at the instant it came, after the one that was due
    there anyway, if any.
    """
    shown: defaultdict[int, list[S]] = defaultdict(list)
    for state in states:
        shown[born + state.at].append(state)
    arrived: defaultdict[int, list[OperationRecord]] = defaultdict(list)
    for each in operated:
        arrived[each.at].append(each)
    before: S | None = None
    for at in sorted({*shown, *arrived}):
        for step in _steps_at(before, shown[at], arrived[at]):
            yield step
            before = step.after


def _steps_at(
    before: S | None, states: list[S], operated: list[OperationRecord]
) -> Iterator[Step[S]]:
    due = max(len(states) - sum(not each.refused for each in operated), 0)
    for number, state in enumerate(states[:due]):
        yield Step(before, state, by_request=number > 0)
        before = state
    waiting = iter(states[due:])
    for each in operated:
        after = before if each.refused else next(waiting, None)
        if after is not None:
            yield Step(before, after, each, by_request=True)
            before = after


# --- why ------------------------------------------------------------------------------------------


def last_of(events: Sequence[Event], part: Part, *, number: int = 1) -> Iterator[Event]:
    """The last things that happened to a part, if any have; refusals are nothing."""
    yield from [each for each in events if each.part == part and not _is_refusal(each)][-number:]


def last_request(events: Sequence[Event]) -> Iterator[Event]:
    """The last operation that was accepted, if any was; not all that it changed."""
    yield from [each for each in events if each.by and not _is_refusal(each)][-1:]


def _is_refusal(event: Event) -> bool:
    return event.by is not None and event.by.refused != ""


def reasons_of(
    events: Sequence[Event], leading: Iterable[Event], sentences: Iterable[str]
) -> tuple[Reason, ...]:
    """The leading ones of the events, each once and in their order, and then what holds now.

    A sentence that another one of the same instant only continues is left to that one.
    """
    chosen = set(leading)
    told = list(dict.fromkeys((each.at, each.why) for each in events if each in chosen))
    return (
        *(
            Reason(at, what)
            for at, what in told
            if not any(at == when and more.startswith(f"{what}: ") for when, more in told)
        ),
        *(Reason(None, sentence) for sentence in sentences),
    )


# --- the explanation ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Next:
    """What is due next if nobody interferes."""

    at: int
    what: str


@dataclass(frozen=True, slots=True)
class Offer:
    """An operation that would be accepted now, and on whom."""

    operation: str
    who: str


@dataclass(frozen=True, slots=True)
class ClockFace:
    """What a clock shows, and what moves it."""

    progression: Progression
    speed: float
    now: int

    @classmethod
    def of(cls, clock: Clock) -> ClockFace:
        """The clock as it is now."""
        return cls(clock.progression, clock.speed, clock.now())


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task or dag is in its state; ``who`` says which, in words."""

    who: str
    state: str
    operation: str
    born: int
    since: int
    because: tuple[Reason, ...]
    events: tuple[Event, ...]
    next: Next | None
    accepts: tuple[Offer, ...]
    clock: ClockFace

    def to_json(self) -> dict[str, Any]:
        """As a plain dict: instants as RFC 3339 in UTC, spans as scenario files write them."""
        return {
            "who": self.who,
            "state": self.state,
            "operation": self.operation,
            "born": format_instant(self.born),
            "since": format_instant(self.since),
            "because": [
                {"at": None if each.at is None else format_instant(each.at), "what": each.what}
                for each in self.because
            ],
            "events": [event.to_json() for event in self.events],
            "next": self._next_json(),
            "accepts": [{"operation": each.operation, "who": each.who} for each in self.accepts],
            "clock": {
                "progression": self.clock.progression,
                "speed": self.clock.speed,
                "now": format_instant(self.clock.now),
            },
        }

    def text(self) -> str:
        """As a few lines to read, the last one ending in a line feed."""
        lines = [self._headline(), "Because", *self._because()]
        rest = [f"Next: {self._next_text()}", f"Clock: {self._clock_text()}"]
        return "\n".join([*lines, *(_wrapped(line, "  ") for line in rest)]) + "\n"

    def _headline(self) -> str:
        after = self.since - self.born
        when = f" ({format_seconds(after)} after its birth)" if after else ", its birth"
        usual = self.operation in ("EXECUTE", "RUN")
        under = "" if usual else f" under {self.operation}"
        who = self.who[:1].upper() + self.who[1:]
        return _wrapped(
            f"{who} is {self.state}{under} since {_time_of_day(self.since)}{when}.", "  "
        )

    def _because(self) -> Iterator[str]:
        for reason in self.because:
            at = "" if reason.at is None else format_seconds(reason.at - self.born)
            yield _wrapped(f"{at:>12}  {reason.what}", " " * 14)

    def _next_json(self) -> dict[str, Any] | None:
        if self.next is None:
            return None
        span = format_duration(max(self.next.at - self.clock.now, 0))
        return {"at": format_instant(self.next.at), "in": span, "what": self.next.what}

    def _next_text(self) -> str:
        offers = _offers_text(self.accepts, self.who)
        if self.next is None:
            move = f"{offers} would move it on." if offers else "No operation is accepted any more."
            return f"nothing is due. {move}"
        span = round_duration(max(self.next.at - self.clock.now, 0))
        accepts = f" It accepts {offers} now." if offers else ""
        return f"at {_time_of_day(self.next.at)}, in {span}, {self.next.what}.{accepts}"

    def _clock_text(self) -> str:
        clock = self.clock
        span = None if self.next is None else format_duration(max(self.next.at - clock.now, 0))
        day = _to_millisecond(clock.now)
        return f"{clock.progression}, at {day}; {_pace(clock, span)}."


def _pace(clock: ClockFace, span: str | None) -> str:
    """What moves a clock, and how far it has to be moved where somebody has to."""
    if clock.progression == "manual":
        by = f", by {span} for what is next" if span else ""
        return f"nothing moves until it is advanced{by}"
    if clock.progression == "polls":
        return "each read moves it to the next change of what was read"
    if clock.progression == "immediate":
        return "what is due happens at once"
    return "it runs" + ("" if clock.speed == 1 else f" {clock.speed:g} times as fast as the wall's")


def _offers_text(offers: Iterable[Offer], whole: str) -> str:
    """`RETRY or ROLLBACK of the task, RETRY or SKIP of subtask 71`."""
    by_who: defaultdict[str, list[str]] = defaultdict(list)
    for offer in offers:
        by_who[offer.who].append(offer.operation)
    the_whole = f"the {whole.partition(' ')[0]}"
    return first_few(
        [
            f"{' or '.join(words)} of {the_whole if who == whole else who}"
            for who, words in by_who.items()
        ],
        MOST,
    )


# --- words ----------------------------------------------------------------------------------------


def next_text(events: Iterable[Event]) -> str:
    """All that happens at one instant, in one sentence."""
    whys = list({each.why: None for each in events})
    rest = len(whys) - 3
    return "; ".join([*whys[:3], *([f"and {rest} more changes"] if rest > 0 else [])])


def ends_with(lines: Sequence[str], when: str = "its log ends") -> str:
    """The last line that a log has, to be put after a sentence; nothing for an empty log."""
    return f"; {when} “{one_line(lines[-1])}”" if lines else ""


def _to_millisecond(instant: int) -> str:
    rounded = (instant + MILLISECOND // 2) // MILLISECOND * MILLISECOND
    return format_instant(rounded, digits=3, padded=True)


def _time_of_day(instant: int) -> str:
    return _to_millisecond(instant).partition("T")[2]


def _wrapped(line: str, indent: str) -> str:
    return textwrap.fill(
        line,
        WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
