"""Explanations: why a task or dag is in its state, what led there, and what moves it next and when.

An explanation is made of the changes in a history and of the operations that were refused. It is no
read: it changes nothing, so it does not move a clock under `polls`. An API's package has the
``Explainer`` with that API's sentences, which are in the present tense, so that one sentence fits
what has happened and what is to come. Instants are nanoseconds since the epoch.
"""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Final, Generic, TypeVar

from oceanmock.clock import MILLISECOND, Clock, Progression
from oceanmock.engine.machine import (
    Change,
    Dated,
    History,
    Label,
    Part,
    format_label,
    next_due,
    states_until,
    view_at,
)
from oceanmock.engine.records import OperationRecord
from oceanmock.text import (
    first_few,
    format_duration,
    format_instant,
    format_seconds,
    one_line,
    round_duration,
)

LINE_WIDTH: Final = 100
MAX_EXPLAINED: Final = 5
"""How many things of one kind a sentence or a list names; the rest is counted."""


# --- the explanation ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a task, a dag or a part of it, or a refused operation; texts are labels."""

    at: int
    part: Part
    kind: str
    id: int
    who: str
    before: str | None
    after: str
    why: str
    is_operation: bool = False
    is_refusal: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict; ``from`` is None at the start, and as ``to`` for a refusal."""
        return {
            "at": format_instant(self.at),
            "kind": self.kind,
            "id": self.id,
            "who": self.who,
            "from": self.before,
            "to": self.after,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Reason:
    """One sentence; without an instant, it holds now."""

    at: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Next:
    """The instant at which something is due next, and the sentence."""

    at: int
    what: str


@dataclass(frozen=True, slots=True)
class Offer:
    """An operation that would be accepted now, and on what."""

    operation: str
    who: str


@dataclass(frozen=True, slots=True)
class ClockFace:
    """The instant that a clock shows, and what moves it."""

    progression: Progression
    speed: float
    now: int

    @classmethod
    def of(cls, clock: Clock) -> ClockFace:
        """Return the clock as it is now."""
        return cls(clock.progression, clock.speed, clock.now())


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task or dag is in its state; ``who`` names it."""

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
        """Return a plain dict: instants as RFC 3339 in UTC, spans as scenario files write them."""
        return {
            "who": self.who,
            "state": self.state,
            "operation": self.operation,
            "born": format_instant(self.born),
            "since": format_instant(self.since),
            "because": [
                {"at": None if entry.at is None else format_instant(entry.at), "what": entry.what}
                for entry in self.because
            ],
            "events": [event.to_json() for event in self.events],
            "next": self._next_json(),
            "accepts": [{"operation": entry.operation, "who": entry.who} for entry in self.accepts],
            "clock": {
                "progression": self.clock.progression,
                "speed": self.clock.speed,
                "now": format_instant(self.clock.now),
            },
        }

    def text(self) -> str:
        """Return a few lines to read, the last one ending in a line feed."""
        lines = [self._headline(), "Because", *self._because()]
        rest = [f"Next: {self._next_text()}", f"Clock: {self._clock_text()}"]
        return "\n".join([*lines, *(_wrapped(line, "  ") for line in rest)]) + "\n"

    def _headline(self) -> str:
        after = self.since - self.born
        when = f" ({format_seconds(after)} after its start)" if after else ", its start"
        is_usual = self.operation in ("EXECUTE", "RUN")
        under = "" if is_usual else f" under {self.operation}"
        who = self.who[:1].upper() + self.who[1:]
        return _wrapped(f"{who} is {self.state}{under} since {_time(self.since)}{when}.", "  ")

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
        return f"at {_time(self.next.at)}, in {span}, {self.next.what}.{accepts}"

    def _clock_text(self) -> str:
        clock = self.clock
        span = None if self.next is None else format_duration(max(self.next.at - clock.now, 0))
        day = format_instant(clock.now)[: len("2024-01-10")]
        return f"{clock.progression}, at {day}T{_time(clock.now)}; {_pace(clock, span)}."


def _pace(clock: ClockFace, span: str | None) -> str:
    """Return what moves a clock; ``span`` is how far it is to what is due next."""
    if clock.progression == "manual":
        by = f", by {span} for what is next" if span else ""
        return f"nothing moves until it is advanced{by}"
    if clock.progression == "polls":
        return "each read moves it to the next change of what was read"
    if clock.progression == "immediate":
        return "what is due happens at once"
    return "it runs" + ("" if clock.speed == 1 else f" {clock.speed:g} times as fast as the wall's")


def _offers_text(offers: Iterable[Offer], whole: str) -> str:
    """Return `RETRY or ROLLBACK of the task, RETRY or SKIP of subtask 71`."""
    by_who: defaultdict[str, list[str]] = defaultdict(list)
    for offer in offers:
        by_who[offer.who].append(offer.operation)
    the_whole = f"the {whole.partition(' ')[0]}"
    return first_few(
        [
            f"{' or '.join(words)} of {the_whole if who == whole else who}"
            for who, words in by_who.items()
        ]
    )


def ends_with(lines: Sequence[str]) -> str:
    """Return the clause that quotes the last line of a log; "" for an empty log."""
    return f"; its log ends “{one_line(lines[-1])}”" if lines else ""


def _time(instant: int) -> str:
    """Return a time of day in UTC."""
    rounded = (instant + MILLISECOND // 2) // MILLISECOND * MILLISECOND
    return format_instant(rounded, digits=3, padded=True)[len("2024-01-10T") :]


def _wrapped(line: str, indent: str) -> str:
    return textwrap.fill(
        line,
        LINE_WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


# --- from a history -------------------------------------------------------------------------------

S = TypeVar("S", bound=Dated)


class Explainer(ABC, Generic[S]):
    """One API's sentences about one task or dag with its history; kinds are by depth of part."""

    kinds: ClassVar[tuple[str, ...]]

    def __init__(self, history: History[Any, Any, S], *, started_at: int) -> None:
        self.history: Final = history
        self.started_at: Final = started_at

    @abstractmethod
    def number(self, part: Part) -> int:
        """Return the id of the whole or a part."""

    @abstractmethod
    def name(self, part: Part = ()) -> str:
        """Return what sentences call the whole or a part: `subtask 71 “Install”`."""

    @abstractmethod
    def why(self, before: S, after: S, change: Change) -> str:
        """Return the sentence for a change; "" where it goes without saying."""

    @abstractmethod
    def leading(self, state: S, events: Sequence[Event]) -> Iterator[Event]:
        """Yield the events that explain the state best."""

    @abstractmethod
    def holding(self, state: S, instant: int) -> Iterator[str]:
        """Yield the sentences that hold now."""

    @abstractmethod
    def offers(self, state: S, instant: int) -> Iterator[Offer]:
        """Yield the operations that would be accepted now."""

    def text_of(self, state: S, part: Part, label: Label) -> str:
        """Return a label as events show it."""
        return format_label(label)

    def names(self, parts: Iterable[Part]) -> str:
        """Return what sentences call several parts."""
        return first_few([self.name(part) for part in parts])

    def explain(self, records: Iterable[OperationRecord], *, clock: Clock) -> Explanation:
        """Return why it shows what it does now; ``records`` add the refused operations."""
        face = ClockFace.of(clock)
        instant = face.now - self.started_at
        past = states_until(self.history, instant)
        events = tuple(self._events(past, records))
        state = past[-1]
        name, operation = dict(state.labels())[()]
        return Explanation(
            who=self.name(),
            state=name,
            operation=operation,
            born=self.started_at,
            since=self.started_at + _last_move(past).at,
            because=_reasons(events, self.leading(state, events), self.holding(state, instant)),
            events=events,
            next=self._next(state, instant),
            accepts=tuple(self.offers(state, instant)),
            clock=face,
        )

    def _events(self, past: Sequence[S], records: Iterable[OperationRecord]) -> Iterator[Event]:
        before = past[0]
        for item in _in_order(past, records, self.started_at):
            if isinstance(item, OperationRecord):
                yield self._refusal(before, item)
            else:
                yield from self._changes(before, item)
                before = item

    def _changes(self, before: S, after: S) -> Iterator[Event]:
        for change in after.changes:
            if why := self.why(before, after, change):
                old = None if change.before is None else change.before
                yield Event(
                    self.started_at + change.at,
                    change.part,
                    self.kinds[len(change.part)],
                    self.number(change.part),
                    self.name(change.part),
                    None if old is None else self.text_of(before, change.part, old),
                    self.text_of(after, change.part, change.after),
                    why,
                    is_operation=change.part == change.target,
                )

    def _refusal(self, state: S, record: OperationRecord) -> Event:
        part: Part = () if record.position is None else (record.position,)
        text, name = self.text_of(state, part, dict(state.labels())[part]), self.name(part)
        why = f"{record.operation} of {name} is refused: {record.refused}"
        kind, number = self.kinds[len(part)], self.number(part)
        return Event(record.at, part, kind, number, name, text, text, why, is_refusal=True)

    def _next(self, state: S, instant: int) -> Next | None:
        due = next_due(self.history, instant)
        if due is None:
            return None
        events = self._changes(state, view_at(self.history, due))
        sentences = list(dict.fromkeys(event.why for event in events))
        rest = len(sentences) - 3
        more = [f"and {rest} more changes"] if rest > 0 else []
        return Next(self.started_at + due, "; ".join([*sentences[:3], *more]))


def _in_order(
    states: Iterable[S], records: Iterable[OperationRecord], started_at: int
) -> Iterator[S | OperationRecord]:
    """Yield the states and the refused operations in their order.

    Of one instant, states come in the order of the operations that led to them, after what time
    did; those of operations whose records are gone come first.
    """
    states_at: defaultdict[int, list[S]] = defaultdict(list)
    for state in states:
        states_at[state.at].append(state)
    records_at: defaultdict[int, list[OperationRecord]] = defaultdict(list)
    for record in records:
        records_at[record.at - started_at].append(record)
    for at in sorted({*states_at, *records_at}):
        accepted = sum(not record.refused for record in records_at[at])
        waiting = iter(states_at[at])
        yield from islice(waiting, max(len(states_at[at]) - accepted, 0))
        for record in records_at[at]:
            yield from (record,) if record.refused else islice(waiting, 1)


def _last_move(past: Sequence[S]) -> Change:
    """Return the change by which the whole came to its label."""
    for state in reversed(past):
        for change in reversed(state.changes):
            if not change.part and change.before != change.after:
                return change
    raise ValueError("a history begins with the start of the whole")


def last_of(events: Sequence[Event], part: Part, *, number: int = 1) -> Iterator[Event]:
    """Yield the last changes of a part, if there are any."""
    yield from [entry for entry in events if entry.part == part and not entry.is_refusal][-number:]


def last_operation(events: Sequence[Event]) -> Iterator[Event]:
    """Yield the last operation that was accepted, if any was; not all that it changed."""
    yield from [entry for entry in events if entry.is_operation][-1:]


def _reasons(
    events: Sequence[Event], leading: Iterable[Event], sentences: Iterable[str]
) -> tuple[Reason, ...]:
    """Return the leading events, each once and in their order, and then what holds now.

    A sentence that another one of the same instant only continues is left out.
    """
    chosen = set(leading)
    unique = list(dict.fromkeys((entry.at, entry.why) for entry in events if entry in chosen))
    return (
        *(
            Reason(at, what)
            for at, what in unique
            if not any(at == when and more.startswith(f"{what}: ") for when, more in unique)
        ),
        *(Reason(None, sentence) for sentence in sentences),
    )
