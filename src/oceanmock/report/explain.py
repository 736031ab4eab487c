"""Explanations and timelines: why a task or dag is in its state, and what happens next and when.

An explanation uses the changes in a history and the refused operations. A timeline draws a history over time: the
operations, a track for the whole and each part, then every change. Every state has at least one column; the rest of the
width is divided by duration. The picture of a scenario shows the end of its story, and when its stubs and faults apply;
the timeline of a task or dag in a sandbox ends now, and is cut to fit a report.

Neither counts as a read, which moves a clock under `polls`. An API's ``Explainer`` has the sentences, in the present
tense. Instants are nanoseconds since the epoch; those of a history and a timeline count from the start of the whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Final, Generic, NamedTuple, Self, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.markup import escape, render

from oceanmock.api import Api
from oceanmock.clock import MILLISECOND, SECOND, Clock
from oceanmock.engine.log import OperationRecord
from oceanmock.engine.machine import Change, History, Label, Moment, Part, format_label, next_due, states_until, view_at
from oceanmock.engine.sandbox import Sandbox
from oceanmock.scenario.story import Actor
from oceanmock.scenario.stubs import conditions_on
from oceanmock.text import (
    first_few,
    format_duration,
    format_instant,
    format_seconds,
    one_line,
    round_duration,
    wrap_line,
)

MAX_EXPLAINED: Final = 5  # how many things of one kind a sentence or a list names; it counts the rest
REPORT_WIDTH: Final = 100
NAME_WIDTH: Final = 32
MAX_DRAWN_STATES: Final = 60
MAX_TRACKS: Final = 20
MAX_CHANGES: Final = 30
MAX_PICTURES: Final = 12
MAX_EVENTS: Final = 500  # the last events that an explanation has; more only if they are of one instant

HistoryState = TypeVar("HistoryState", bound=Moment)


class Event(NamedTuple):
    """A change between labels (``before`` is None at the start), or a refused operation, which changes none."""

    at: int
    part: Part
    before: str | None
    after: str
    why: str
    is_operation: bool = False
    is_refusal: bool = False


Tracks = Mapping[Part, tuple[str, str | None]]
"""By part, its name in the list of changes and the label of its track; None if it has no track of its own."""
Markers = Sequence[tuple[int, str]]  # instant and text of each operation on a task or dag
Lines = Sequence[tuple[str, Callable[[Any, int], bool]]]
"""The names of stubs and faults, drawn below the tracks, each with a test of a state and an instant."""
Labels = Sequence[Sequence[str]]  # the labels of the parts of each part; empty if parts have none


@dataclass(eq=False)
class Explainer(ABC, Generic[HistoryState]):
    """Explain a task or dag and draw its timeline; each API has its own sentences.

    ``item`` has its constant data: ``name``, ``created`` and its parts; ``records`` the operations on it, also refused
    ones, ``stubs`` sentences on stubs that depend on it. ``age`` is the time since its start; ``past`` are its states
    so far, ``state`` the last one.
    """

    api: ClassVar[Api]
    number_key: ClassVar[str]
    styles: ClassVar[Mapping[str, tuple[str, str]]]
    """The glyph and the colour of a state, or of a state and an operation if that differs."""

    item: Any
    history: History[Any, Any, HistoryState]
    records: Sequence[OperationRecord]
    clock: Clock
    stubs: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.script, self.now = self.history.script, self.clock.now()
        self.created: int = self.item.created
        self.age = self.now - self.created
        self.past = states_until(self.history, self.age)
        self.state = self.past[-1]

    @classmethod
    def of(cls, sandbox: Sandbox, id: int | str) -> Self:
        """Return the explainer of a task or dag in a sandbox. Raises NoSuchTask or ValueError."""
        world = sandbox.worlds[cls.api.name]
        key = world.key_of(str(id))
        records, stubs = sandbox.operations_of(cls.api.name, key), sandbox.stubs_about(cls.api.name, key)
        return cls(world.data_of(key), world.history_of(key), records, sandbox.clock, stubs)

    @abstractmethod
    def why(self, before: HistoryState, after: HistoryState, change: Change) -> str:
        """Return the sentence for a change; "" if it needs none."""

    @abstractmethod
    def leading(self) -> Iterable[Event]:
        """Return the events that best explain the state, besides the last operation."""

    @abstractmethod
    def holding(self) -> Iterator[str]:
        """Yield the sentences on present reasons for the state."""

    @abstractmethod
    def offers(self) -> Iterator[tuple[str, str]]:
        """Yield each operation that would be accepted now, and the name of its target."""

    @staticmethod
    @abstractmethod
    def describe(state: HistoryState, part: Part, changes: Sequence[Change]) -> str:
        """Return in markup the state of a part after some changes, "" for none; without changes, its first state."""

    @classmethod
    @abstractmethod
    def picture(cls, scenario: Any, script: Any, actor: Actor) -> tuple[list[str], Iterable[str], Labels]:
        """Return further facts on a task or dag of a scenario, its steps in markup, and the labels of parts."""

    def labels(self) -> Labels:
        """Return the labels of each part's own parts."""
        return ()

    def item_at(self, part: Part) -> Any:
        """Return the constant data of the whole or a part."""
        item = self.item
        for kind, place in zip(self.api.kinds[1:], part, strict=False):
            item = getattr(item, f"{kind.name}s")[place]
        return item

    def name(self, part: Part = ()) -> str:
        """Return the words for the whole or a part in sentences: `subtask 71 “Install”`."""
        item = self.item_at(part)
        return f"{self.api.kinds[len(part)].title} {getattr(item, self.number_key)} “{one_line(item.name)}”"

    def names(self, parts: Iterable[Part]) -> str:
        """Return the words for several parts in sentences."""
        return first_few([self.name(part) for part in parts])

    def label_text(self, state: HistoryState, part: Part, label: Label) -> str:
        """Return a label as text, that of a dag with its stage."""
        stage = None if part else getattr(state, "stage", None)
        return format_label(label) + ("" if stage is None else f" at stage {stage}")

    def last_of(self, part: Part, *, number: int = 1) -> list[Event]:
        """Return the last changes of a part, at most ``number``."""
        return [event for event in self.events if event.part == part and not event.is_refusal][-number:]

    @cached_property
    def since(self) -> int:
        """Return the instant at which the whole took its label."""
        moves = (it.at for state in self.past for it in state.changes if not it.part and it.before != it.after)
        return self.created + max(moves, default=self.past[0].at)

    @cached_property
    def because(self) -> list[tuple[int | None, str]]:
        """Return the sentences on events that led to the state, with their instants, then those on present reasons."""
        chosen = {*[event for event in self.events if event.is_operation][-1:], *self.leading()}
        led = _without_beginnings((event.at, event.why) for event in self.events if event in chosen)
        return [*led, *((None, sentence) for sentence in self.holding())]

    @cached_property
    def next(self) -> tuple[int, str] | None:
        """Return the instant of the next change without a request, and a sentence on it; None if there is none."""
        due = next_due(self.history, self.age)
        if due is None:
            return None
        after = view_at(self.history, due)
        whys = [(due, why) for it in after.changes if (why := self.why(self.state, after, it))]
        sentences = [what for _, what in _without_beginnings(whys)]
        if len(sentences) > 3:
            sentences[3:] = [f"and {len(sentences) - 3} more changes"]
        return self.created + due, "; ".join(sentences)

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """Return the last changes and refused operations in order.

        Of one instant, changes by time come first, also those by operations whose records are gone, then operations.
        """
        # The last states with at most MAX_EVENTS changes, and the state before them.
        count = bisect([*accumulate(len(state.changes) for state in reversed(self.past))], MAX_EVENTS)
        past = self.past[-max(count, 1) - 1 :]
        return tuple(self._events(past))

    def _events(self, past: Sequence[HistoryState]) -> Iterator[Event]:
        before, created = past[0], self.created
        states_at: defaultdict[int, deque[HistoryState]] = defaultdict(deque)
        for state in past:
            states_at[state.at].append(state)
        records_at: defaultdict[int, list[OperationRecord]] = defaultdict(list)
        for record in (item for item in self.records if item.at - created >= before.at):
            records_at[record.at - created].append(record)
        for at in sorted({*states_at, *records_at}):
            waiting, accepted = states_at[at], sum(not record.refused for record in records_at[at])
            for entry in (*[None] * max(len(waiting) - accepted, 0), *records_at[at]):
                if entry is not None and entry.refused:
                    part: Part = () if entry.position is None else (entry.position,)
                    label = self.label_text(before, part, before.label_of(part))
                    why = f"{entry.operation} of {self.name(part)} is refused: {entry.refused}"
                    yield Event(entry.at, part, label, label, why, is_refusal=True)
                elif waiting:
                    after = waiting.popleft()
                    for change in after.changes:
                        if after is before and change.before is not None:
                            continue  # in a cut history, the state before the first one is unknown
                        if why := self.why(before, after, change):
                            part, old = change.part, change.before
                            label = self.label_text(after, part, change.after)
                            previous = None if old is None else self.label_text(before, part, old)
                            is_operation = part == change.target
                            yield Event(created + change.at, part, previous, label, why, is_operation)
                    before = after

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict: instants as RFC 3339 in UTC, spans as scenario files write them."""
        state, operation = self.state.label_of(())
        clock, following = self.clock, None
        if self.next is not None:
            due, what = self.next
            following = {"at": format_instant(due), "in": format_duration(due - self.now), "what": what}
        return {
            "who": self.name(),
            "state": state,
            "operation": operation,
            "created": format_instant(self.created),
            "since": format_instant(self.since),
            "because": [{"at": at if at is None else format_instant(at), "what": what} for at, what in self.because],
            "events": [
                {
                    "at": format_instant(event.at),
                    "kind": self.api.kinds[len(event.part)].name,
                    "id": getattr(self.item_at(event.part), self.number_key),
                    "who": self.name(event.part),
                    "from": event.before,
                    "to": event.after,
                    "why": event.why,
                }
                for event in self.events
            ],
            "next": following,
            "accepts": [{"operation": offered, "who": target} for offered, target in self.offers()],
            "clock": {"progression": clock.progression, "speed": clock.speed, "now": format_instant(self.now)},
            "stubs": [*self.stubs],
        }

    def text(self, width: int = REPORT_WIDTH) -> str:
        """Return the explanation as a few lines of text, which end in a line feed."""
        wrapped = partial(wrap_line, width=width)
        who, (state, operation) = self.name(), self.state.label_of(())
        after = self.since - self.created
        when = f" ({format_seconds(after)} after its start)" if after else ", its start"
        under = "" if operation in ("EXECUTE", "RUN") else f" under {operation}"
        lines = [wrapped(f"{who[:1].upper()}{who[1:]} is {state}{under} since {_time(self.since)}{when}."), "Because"]
        for at, what in self.because:
            lines.append(wrapped(f"{'' if at is None else format_seconds(at - self.created):>12}  {what}", indent=14))
        by_who: defaultdict[str, list[str]] = defaultdict(list)
        for offered, target in self.offers():
            by_who[f"the {self.api.root.title}" if target == who else target].append(offered)
        offers = first_few([f"{' or '.join(words)} of {target}" for target, words in by_who.items()])
        if self.next is None:
            move = f"{offers} would move it on." if offers else "No operation is accepted any more."
            lines.append(wrapped(f"Next: nothing is due. {move}"))
            by = ""
        else:
            due, what = self.next
            left, accepts = due - self.now, f" It accepts {offers} now." if offers else ""
            lines.append(wrapped(f"Next: at {_time(due)}, in {round_duration(left)}, {what}.{accepts}"))
            by = f", by {format_duration(left)} for what is next"
        speed = self.clock.speed
        pace = {
            "manual": f"nothing moves until it is advanced{by}",
            "polls": "each read moves it to the next change of what was read",
            "immediate": "what is due happens at once",
            "time": "it runs" if speed == 1 else f"it runs {speed:g} times as fast as the wall's",
        }[self.clock.progression]
        day = format_instant(self.now)[: len("2024-01-10T")]
        lines.append(wrapped(f"Clock: {self.clock.progression}, at {day}{_time(self.now)}; {pace}."))
        lines += [wrapped(f"Beside it, {sentence}.") for sentence in self.stubs]
        return "\n".join(lines) + "\n"

    def timeline(self) -> str:
        """Return a timeline up to now without markup, which ends in a line feed."""
        item, name = self.item, one_line(self.item.name)
        recent = self.past[-MAX_DRAWN_STATES:]
        names = [one_line(part.name) for part in getattr(item, f"{self.api.kinds[1].name}s")]
        tracks = shown = self._tracks(names, self.labels())
        markers = []
        for record in self.records:
            at, target = record.at - self.created, repr(name)
            if record.position is not None:
                target = f"{tracks[record.position,][0]!r} of {name!r}"
            refused = f", refused: {record.refused}" if record.refused else ""
            if at >= recent[0].at:
                markers.append((at, one_line(f"{record.operation} {target}{refused}")))
        if len(tracks) > MAX_TRACKS:  # only the last parts that change
            changing = {change.part for state in recent[1:] for change in state.changes}
            parts = [part for part in tracks if part in changing - {()}][1 - MAX_TRACKS :]
            shown = {part: tracks[part] for part in ((), *parts)}
        drawn = self._draw_tracks(recent, shown, markers, width=REPORT_WIDTH, until=self.age)
        rows = [render(row).plain for row in drawn]
        changes = [render(line).plain for line in self._draw_changes(recent, shown, markers)]
        glyphs = set("".join(rows))
        title = f"{self.api.root.name} {getattr(item, self.number_key)} {name}"
        lines = [
            f"{title}, {format_seconds(self.age)} after its start at {format_instant(self.created)}",
            "",
            *_left_out(len(self.past) - MAX_DRAWN_STATES, "states before these"),
            *rows,
            *_left_out(len(tracks) - len(shown), "parts more"),
            "",
            *_left_out(len(changes) - MAX_CHANGES, "lines before these"),
            *changes[-MAX_CHANGES:],
            "",
            "  " + "  ".join([f"{glyph} {text}" for text, (glyph, _) in self.styles.items() if glyph in glyphs]),
        ]
        return "\n".join(map(str.rstrip, lines)) + "\n"

    @classmethod
    def draw_scenario(cls, scenario: Any, *, width: int = REPORT_WIDTH) -> Iterator[str]:
        """Yield the lines of a scenario in markup: title, steps and timeline of each task or dag."""
        run, scripts = cls.api.scenario.FORMAT.simulate(scenario), getattr(scenario, cls.api.scripts_key)
        yield f"[bold]{escape(scenario.name)}[/]  {escape(scenario.summary)}"
        for script, actor in zip(scripts[:MAX_PICTURES], run.actors, strict=False):
            facts, steps, labels = cls.picture(scenario, script, actor)
            markers = [*actor.markers]
            if script.starts_on:
                facts.append(f"on {script.starts_on.method} {script.starts_on.path}")
            if script.age:
                facts.append(f"started {format_duration(script.age)} ago")
                markers.insert(0, (script.age, "the sandbox starts"))
            states, tracks = actor.history.states, cls._tracks(actor.names, labels)
            until = states[-1].at + max((states[-1].at - states[0].at) // 12, 1)
            lines = conditions_on(scenario, script, actor.name)
            head = " ".join(filter(None, (cls.api.root.name, str(script.id or ""), actor.name)))
            yield from ("", f"[bold]{escape('  '.join([head, *facts]))}[/]", *steps, "")
            yield from cls._draw_tracks(states, tracks, markers, width=width, until=until, lines=lines)
            yield ""
            yield from cls._draw_changes(states, tracks, markers)
        yield from _left_out(len(scripts) - MAX_PICTURES, f"more {cls.api.root.name}s")
        yield ""
        cell = max(map(len, cls.styles)) + 4
        legend = [f"[{colour}]{glyph}[/] {text:<{cell - 2}}" for text, (glyph, colour) in cls.styles.items()]
        yield from ("".join(legend[at : at + width // cell]).rstrip() for at in range(0, len(legend), width // cell))

    @classmethod
    def _tracks(cls, names: Iterable[str], labels: Labels) -> Tracks:
        """Return the tracks of the whole and its parts; an only part of a part has no track."""
        tracks: dict[Part, tuple[str, str | None]] = {(): (cls.api.root.name, cls.api.root.name)}
        for place, name in enumerate(names):
            below = labels[place] if labels else ()
            tracks[place,] = (name, name)
            for at, label in enumerate(below):
                tracks[place, at] = (f"{name} ({label})", f"  {label}")
            if len(below) == 1:
                tracks[place, 0] = (f"{cls.api.kinds[2].title} of {name}", None)
        return tracks

    @classmethod
    def _draw_tracks(
        cls, states: Sequence[Any], tracks: Tracks, markers: Markers, *, width: int, until: int, lines: Lines = ()
    ) -> Iterator[str]:
        """Yield the markers, and below them the tracks of some states in markup, up to ``until``."""
        spans = [*pairwise([*(state.at for state in states), until])]
        spare, total = max(width - NAME_WIDTH - 4 - len(states), 0), max(until - states[0].at, 1)
        widths = [1 + (end - at) * spare // total for at, end in spans]
        if markers:
            row = [" "] * sum(widths)
            for instant, _ in markers:
                after = max(place for place, (at, _) in enumerate(spans) if at <= instant)
                row[sum(widths[:after])] = "▼"
            yield f"  {'':{NAME_WIDTH}}[yellow]{''.join(row).rstrip()}[/]"
        for part, (_, name) in tracks.items():
            if name is None:
                continue
            cells = ""
            for columns, state in zip(widths, states, strict=True):
                label = state.label_of(part)
                glyph, colour = cls.styles.get("/".join(label)) or cls.styles[label[0]]
                cells += f"[{colour}]{glyph * columns}[/]"
            yield f"  {_track_name(name)}{cells}"
        for name, applies in lines:
            cells = ""
            for columns, state, (at, end) in zip(widths, states, spans, strict=True):
                times = (at + (end - at) * column // columns for column in range(columns))
                cells += "".join("─" if applies(state, time) else " " for time in times)
            yield f"  {_track_name(name)}[cyan]{cells}[/]"

    @classmethod
    def _draw_changes(cls, states: Sequence[Any], tracks: Tracks, markers: Markers) -> Iterator[str]:
        """Yield each instant of changes with its changes, in markup, and the operations between them."""
        lines = [(instant, f"  [yellow]▼ {_at(instant)}  {escape(text)}[/]") for instant, text in markers]
        for number, state in enumerate(states):
            is_operated = any(change.target is not None or change.before is None for change in state.changes)
            while lines and lines[0][0] < state.at + is_operated:
                yield lines.pop(0)[1]
            texts, changes_of = list[str](), defaultdict[Part, list[Change]](list)
            for change in state.changes if number else ():
                changes_of[change.part].append(change)
            for part, (name, _) in tracks.items():
                changes = changes_of[part]
                is_changed = number == 0 or (bool(changes) and changes[0].before != changes[-1].after)
                if is_changed or any(change.target is None and change.before == change.after for change in changes):
                    text = cls.describe(state, part, changes)
                    texts += [f"{escape(name)} {text}"] if text else []
            if texts:
                yield f"    {_at(state.at)}  {'; '.join(texts)}"
        yield from (line for _, line in lines)


def _without_beginnings(sentences: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return dated sentences, each once, without those that only begin another sentence of the same instant."""
    unique = dict.fromkeys(sentences)
    return [it for it in unique if not any(at == it[0] and more.startswith(f"{it[1]}: ") for at, more in unique)]


def _time(instant: int) -> str:
    """Return a time of day in UTC."""
    return format_instant(instant + MILLISECOND // 2, digits=3, padded=True)[len("2024-01-10T") :]


def _track_name(name: str) -> str:
    """Return the name of a track in markup, in its column; a wide character takes two columns."""
    text = f"{set_cell_size(name, NAME_WIDTH - 3)}…" if cell_len(name) >= NAME_WIDTH else name
    return escape(set_cell_size(text, NAME_WIDTH))


def _at(instant: int) -> str:
    return f"{instant / SECOND:8.3f} s"


def _left_out(count: int, what: str) -> list[str]:
    return [f"  … and {count} {what}"] if count > 0 else []
