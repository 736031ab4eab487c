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
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from oceanmock.api import Api
from oceanmock.clock import MILLISECOND, Clock, Progression
from oceanmock.engine.log import OperationRecord
from oceanmock.engine.machine import Change, Dated, History, Label, Part, format_label, next_due, states_until, view_at
from oceanmock.engine.sandbox import Sandbox
from oceanmock.text import first_few, format_duration, format_instant, format_seconds, one_line, round_duration

LINE_WIDTH: Final = 100
MAX_EXPLAINED: Final = 5
"""How many things of one kind a sentence or a list names; the rest is counted."""

HistoryState = TypeVar("HistoryState", bound=Dated)


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a task, a dag or a part of it, or a refused operation; texts are labels.

    ``before`` is None at the start, and as ``after`` for a refusal.
    """

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


@dataclass(frozen=True, slots=True)
class Reason:
    """One sentence, and its instant; without one, it holds now."""

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
class Explanation:
    """The state of a task or dag and its reasons; ``who`` names it."""

    who: str
    state: str
    operation: str
    created: int
    since: int
    because: tuple[Reason, ...]
    events: tuple[Event, ...]
    next: Next | None
    accepts: tuple[Offer, ...]
    progression: Progression
    speed: float
    now: int

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict: instants as RFC 3339 in UTC, spans as scenario files write them."""
        return {
            "who": self.who,
            "state": self.state,
            "operation": self.operation,
            "created": format_instant(self.created),
            "since": format_instant(self.since),
            "because": [
                {"at": None if entry.at is None else format_instant(entry.at), "what": entry.what}
                for entry in self.because
            ],
            "events": [
                {
                    "at": format_instant(event.at),
                    "kind": event.kind,
                    "id": event.id,
                    "who": event.who,
                    "from": event.before,
                    "to": event.after,
                    "why": event.why,
                }
                for event in self.events
            ],
            "next": self.next
            and {"at": format_instant(self.next.at), "in": format_duration(self._time_left), "what": self.next.what},
            "accepts": [{"operation": entry.operation, "who": entry.who} for entry in self.accepts],
            "clock": {"progression": self.progression, "speed": self.speed, "now": format_instant(self.now)},
        }

    def text(self) -> str:
        """Return a few lines to read, the last one ending in a line feed."""
        after = self.since - self.created
        when = f" ({format_seconds(after)} after its start)" if after else ", its start"
        under = "" if self.operation in ("EXECUTE", "RUN") else f" under {self.operation}"
        who = self.who[:1].upper() + self.who[1:]
        lines = [_wrapped(f"{who} is {self.state}{under} since {_time(self.since)}{when}."), "Because"]
        for reason in self.because:
            at = "" if reason.at is None else format_seconds(reason.at - self.created)
            lines.append(_wrapped(f"{at:>12}  {reason.what}", indent=14))
        offers = self._offers_text()
        if self.next is None:
            move = f"{offers} would move it on." if offers else "No operation is accepted any more."
            lines.append(_wrapped(f"Next: nothing is due. {move}"))
        else:
            accepts = f" It accepts {offers} now." if offers else ""
            at = f"at {_time(self.next.at)}, in {round_duration(self._time_left)}"
            lines.append(_wrapped(f"Next: {at}, {self.next.what}.{accepts}"))
        now = f"{format_instant(self.now)[: len('2024-01-10')]}T{_time(self.now)}"
        lines.append(_wrapped(f"Clock: {self.progression}, at {now}; {self._pace()}."))
        return "\n".join(lines) + "\n"

    @property
    def _time_left(self) -> int:
        """The span up to what is due next."""
        return max(self.next.at - self.now, 0) if self.next else 0

    def _offers_text(self) -> str:
        """Return `RETRY or ROLLBACK of the task, RETRY or SKIP of subtask 71`."""
        by_who: defaultdict[str, list[str]] = defaultdict(list)
        for offer in self.accepts:
            whole = f"the {self.who.partition(' ')[0]}"
            by_who[whole if offer.who == self.who else offer.who].append(offer.operation)
        return first_few([f"{' or '.join(words)} of {who}" for who, words in by_who.items()])

    def _pace(self) -> str:
        """Return what moves the clock."""
        if self.progression == "manual":
            by = f", by {format_duration(self._time_left)} for what is next" if self.next else ""
            return f"nothing moves until it is advanced{by}"
        if self.progression == "polls":
            return "each read moves it to the next change of what was read"
        if self.progression == "immediate":
            return "what is due happens at once"
        return "it runs" if self.speed == 1 else f"it runs {self.speed:g} times as fast as the wall's"


def _time(instant: int) -> str:
    """Return a time of day in UTC."""
    rounded = (instant + MILLISECOND // 2) // MILLISECOND * MILLISECOND
    return format_instant(rounded, digits=3, padded=True)[len("2024-01-10T") :]


def _wrapped(line: str, *, indent: int = 2) -> str:
    return textwrap.fill(
        line, LINE_WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


# --- from a history -------------------------------------------------------------------------------


class Explainer(ABC, Generic[HistoryState]):
    """One API's sentences about a task or dag with its history.

    ``item`` holds the constant data of the whole: ``name``, ``created`` and its parts.
    """

    api: ClassVar[Api]
    number_key: ClassVar[str]

    def __init__(self, item: Any, history: History[Any, Any, HistoryState]) -> None:
        self.item: Final = item
        self.history: Final = history

    @classmethod
    def of(cls, sandbox: Sandbox, id: int | str) -> Self:
        """Return the explainer of a task or dag in a sandbox. Raises NoSuchTask or ValueError."""
        world = sandbox.worlds[cls.api.name]
        key = world.key_of(str(id))
        return cls(world.data_of(key), world.history_of(key))

    @abstractmethod
    def why(self, before: HistoryState, after: HistoryState, change: Change) -> str:
        """Return the sentence for a change; "" where it goes without saying."""

    @abstractmethod
    def leading(self, state: HistoryState, events: Sequence[Event]) -> Iterator[Event]:
        """Yield the events that explain the state best."""

    @abstractmethod
    def holding(self, state: HistoryState, instant: int) -> Iterator[str]:
        """Yield the sentences that hold now."""

    @abstractmethod
    def offers(self, state: HistoryState, instant: int) -> Iterator[Offer]:
        """Yield the operations that would be accepted now."""

    def find(self, part: Part) -> Any:
        """Return the constant data of the whole or a part."""
        result = self.item
        for kind, place in zip(self.api.kinds[1:], part, strict=False):
            result = getattr(result, f"{kind.name}s")[place]
        return result

    def number(self, part: Part) -> int:
        """Return the id of the whole or a part."""
        return int(getattr(self.find(part), self.number_key))

    def name(self, part: Part = ()) -> str:
        """Return what sentences call the whole or a part: `subtask 71 “Install”`."""
        title = self.api.kinds[len(part)].title
        return f"{title} {self.number(part)} “{one_line(self.find(part).name)}”"

    def names(self, parts: Iterable[Part]) -> str:
        """Return what sentences call several parts."""
        return first_few([self.name(part) for part in parts])

    def label_text(self, state: HistoryState, part: Part, label: Label) -> str:
        """Return a label as events show it."""
        return format_label(label)

    def explain_in(self, sandbox: Sandbox) -> Explanation:
        """Return why it shows what it does now, in its sandbox."""
        records = sandbox.operations_of(self.api.name, self.item.key)
        return self.explain(records, clock=sandbox.clock)

    def explain(self, records: Iterable[OperationRecord], *, clock: Clock) -> Explanation:
        """Return why it shows what it does now; ``records`` add the refused operations."""
        now, created = clock.now(), self.item.created
        age = now - created
        past = states_until(self.history, age)
        events = tuple(self._events(past, records))
        state = past[-1]
        changes = (change for item in reversed(past) for change in reversed(item.changes))
        move = next(item for item in changes if not item.part and item.before != item.after)
        name, operation = dict(state.labels())[()]
        return Explanation(
            who=self.name(),
            state=name,
            operation=operation,
            created=created,
            since=created + move.at,
            because=_reasons(events, self.leading(state, events), self.holding(state, age)),
            events=events,
            next=self._next(state, age),
            accepts=tuple(self.offers(state, age)),
            progression=clock.progression,
            speed=clock.speed,
            now=now,
        )

    def _events(self, past: Sequence[HistoryState], records: Iterable[OperationRecord]) -> Iterator[Event]:
        before = past[0]
        for entry in _in_order(past, records, self.item.created):
            if isinstance(entry, OperationRecord):
                part: Part = () if entry.position is None else (entry.position,)
                label = self.label_text(before, part, dict(before.labels())[part])
                why = f"{entry.operation} of {self.name(part)} is refused: {entry.refused}"
                yield self._event(entry.at, part, label, label, why, is_refusal=True)
            else:
                yield from self._changes(before, entry)
                before = entry

    def _changes(self, before: HistoryState, after: HistoryState) -> Iterator[Event]:
        for change in after.changes:
            if why := self.why(before, after, change):
                part, old = change.part, change.before
                yield self._event(
                    self.item.created + change.at,
                    part,
                    None if old is None else self.label_text(before, part, old),
                    self.label_text(after, part, change.after),
                    why,
                    is_operation=part == change.target,
                )

    def _event(self, at: int, part: Part, before: str | None, after: str, why: str, **flags: bool) -> Event:
        kind, id = self.api.kinds[len(part)].name, self.number(part)
        return Event(at, part, kind, id, self.name(part), before, after, why, **flags)

    def _next(self, state: HistoryState, instant: int) -> Next | None:
        due = next_due(self.history, instant)
        if due is None:
            return None
        events = self._changes(state, view_at(self.history, due))
        sentences = list(dict.fromkeys(event.why for event in events))
        if len(sentences) > 3:
            sentences[3:] = [f"and {len(sentences) - 3} more changes"]
        return Next(self.item.created + due, "; ".join(sentences))


def _in_order(
    states: Iterable[HistoryState], records: Iterable[OperationRecord], started_at: int
) -> Iterator[HistoryState | OperationRecord]:
    """Yield the states and the refused operations in their order.

    Of one instant, states come in the order of the operations that led to them, after what time
    did; those of operations whose records are gone come first.
    """
    states_at: defaultdict[int, list[HistoryState]] = defaultdict(list)
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


def last_of(events: Sequence[Event], part: Part, *, number: int = 1) -> Iterator[Event]:
    """Yield the last changes of a part, if there are any."""
    yield from [entry for entry in events if entry.part == part and not entry.is_refusal][-number:]


def last_operation(events: Sequence[Event]) -> Iterator[Event]:
    """Yield the last operation that was accepted, if any was; not all that it changed."""
    yield from [entry for entry in events if entry.is_operation][-1:]


def ends_with(lines: Sequence[str]) -> str:
    """Return the clause that quotes the last line of a log; "" for an empty log."""
    return f"; its log ends “{one_line(lines[-1])}”" if lines else ""


def _reasons(events: Sequence[Event], leading: Iterable[Event], sentences: Iterable[str]) -> tuple[Reason, ...]:
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
