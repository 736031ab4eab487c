"""Timelines: a history over time, a track for the whole and each part, then every change.

Every state gets at least one column; the rest of the width is shared out by how long each lasts.
Above the tracks stands where an operation came. A scenario is drawn with its steps and where its
story leads; a task or dag of a sandbox with what has happened up to now, cut to what fits a report.
Drawing is no read, so it does not move a clock under `polls`. An API's package has the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from rich.cells import cell_len, set_cell_size
from rich.markup import escape, render

from oceanmock.clock import SECOND
from oceanmock.engine.machine import Change, Label, Part
from oceanmock.engine.records import OperationRecord
from oceanmock.scenario.story import Marker
from oceanmock.scenario.submit_calls import StartsOn
from oceanmock.text import format_instant, format_seconds, one_line

NAME_WIDTH: Final = 32
REPORT_WIDTH: Final = 100
MAX_DRAWN_STATES: Final = 60
MAX_TRACKS: Final = 20
MAX_CHANGES: Final = 30
MAX_PICTURES: Final = 12

Style = tuple[str, str]
"""A glyph and a colour."""
Styles = Mapping[str, Style]
"""By state, or by state and operation where that makes a difference."""
Describe = Callable[[Any, Part, Sequence[Change]], str]
"""What to print, in markup, of a part that has come to a state by some changes; "" for nothing.
Without changes, it is what shows first."""


@dataclass(frozen=True, slots=True)
class Track:
    """The whole or a part: its name in the list of changes, and the label of its track.

    Without a label it has no track.
    """

    part: Part
    name: str
    label: str | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The states of a task or dag, its tracks, and the operations on it.

    A state has ``at``, ``changes`` and ``labels()``. ``until``, counted from the start, is where
    the picture ends; some time after the last state, if it is None.
    """

    name: str
    started_at: int
    states: Sequence[Any]
    tracks: tuple[Track, ...]
    markers: tuple[Marker, ...]
    styles: Styles
    describe: Describe
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A task or dag of a scenario: its title, its steps in markup, and its timeline."""

    title: str
    steps: Iterable[str]
    timeline: Timeline


# --- a scenario -----------------------------------------------------------------------------------


def draw_pictures(
    title: str, summary: str, pictures: Sequence[Picture], *, width: int, kinds: str
) -> Iterator[str]:
    """Yield the lines of a scenario's first pictures in markup, and how many more there are."""
    yield f"[bold]{escape(title)}[/]  {escape(summary)}"
    for picture in islice(pictures, MAX_PICTURES):
        yield from ("", f"[bold]{escape(picture.title)}[/]")
        yield from picture.steps
        yield ""
        yield from _draw_tracks(picture.timeline, width)
        yield ""
        yield from _draw_changes(picture.timeline)
    if len(pictures) > MAX_PICTURES:
        yield f"\n… and {len(pictures) - MAX_PICTURES} more {kinds}"
    yield ""
    styles = pictures[0].timeline.styles.items()
    yield "  ".join(f"[{colour}]{glyph}[/] {text}" for text, (glyph, colour) in styles)


def start_text(starts_on: StartsOn | None) -> str:
    """Return which request starts it, after a title; "" for what is there from the start."""
    return "" if starts_on is None else f"  on {starts_on.method} {starts_on.path}"


# --- a task or dag of a sandbox -------------------------------------------------------------------


def markers_of(
    records: Iterable[OperationRecord], called: Callable[[Part], str]
) -> tuple[Marker, ...]:
    """Return a marker for each operation, refused or not."""
    markers = []
    for record in records:
        name = called(() if record.position is None else (record.position,))
        refused = f", refused: {record.refused}" if record.refused else ""
        markers.append(Marker(record.at, 0, one_line(f"{record.operation} {name}{refused}")))
    return tuple(markers)


def draw_report(timeline: Timeline, *, who: str, now: int) -> str:
    """Return a timeline up to now without markup; the last line ends in a line feed."""
    recent = timeline.states[-MAX_DRAWN_STATES:]
    since = timeline.started_at + recent[0].at
    drawn = replace(
        timeline,
        states=recent,
        markers=tuple(mark for mark in timeline.markers if mark.instant >= since),
        until=now - timeline.started_at,
    )
    drawn = replace(drawn, tracks=tuple(_some_tracks(drawn)))
    tracks = [render(line).plain for line in _draw_tracks(drawn, REPORT_WIDTH)]
    changes = [render(line).plain for line in _draw_changes(drawn)]
    age = format_seconds(now - timeline.started_at)
    glyphs = set("".join(tracks))
    lines = [
        f"{who} {timeline.name}, {age} after its start at {format_instant(timeline.started_at)}",
        "",
        *_left_out(len(timeline.states) - MAX_DRAWN_STATES, "states before these"),
        *tracks,
        *_left_out(len(timeline.tracks) - len(drawn.tracks), "parts more"),
        "",
        *_left_out(len(changes) - MAX_CHANGES, "lines before these"),
        *changes[-MAX_CHANGES:],
        "",
        "  " + "  ".join(f"{g} {text}" for text, (g, _) in timeline.styles.items() if g in glyphs),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _some_tracks(timeline: Timeline) -> Iterator[Track]:
    """Yield all tracks; or, where they are too many, the last of those that change."""
    whole, *parts = timeline.tracks
    if len(parts) >= MAX_TRACKS:
        changing = {c.part for state in timeline.states[1:] for c in state.changes}
        parts = [track for track in parts if track.part in changing]
    yield from (whole, *parts[1 - MAX_TRACKS :])


def _left_out(count: int, what: str) -> list[str]:
    return [f"  … and {count} {what}"] if count > 0 else []


# --- drawing --------------------------------------------------------------------------------------


def coloured(word: str, style: Style) -> str:
    """Return a word in the colour of its style."""
    return f"[{style[1]}]{word}[/]"


def style_of(styles: Styles, label: Label) -> Style:
    """Return the style of a label, or else of its state."""
    return styles.get("/".join(label)) or styles[label[0]]


def _draw_tracks(timeline: Timeline, width: int) -> Iterator[str]:
    """Yield the tracks under the markers, in markup."""
    instants = [state.at for state in timeline.states]
    widths = _widths(instants, timeline.until, max(width - NAME_WIDTH - 4, len(instants)))
    if timeline.markers:
        yield f"  {'':{NAME_WIDTH}}[yellow]{_marker_row(timeline, instants, widths)}[/]"
    labels = [dict(state.labels()) for state in timeline.states]
    for track in timeline.tracks:
        if track.label is not None:
            styles = [style_of(timeline.styles, item[track.part]) for item in labels]
            yield _track(track.label, styles, widths)


def _widths(instants: Sequence[int], until: int | None, width: int) -> list[int]:
    """Return the columns of each state: one at least, the rest by its share of the time."""
    if until is None:
        until = instants[-1] + max((instants[-1] - instants[0]) // 12, 1)
    ends = [*instants[1:], until]
    total = max(ends[-1] - instants[0], 1)
    spare = max(width - len(instants), 0)
    return [1 + (end - at) * spare // total for at, end in zip(instants, ends, strict=True)]


def _track(name: str, styles: Sequence[Style], widths: Sequence[int]) -> str:
    short = name if cell_len(name) < NAME_WIDTH else f"{set_cell_size(name, NAME_WIDTH - 3)}…"
    label = set_cell_size(short, NAME_WIDTH)  # a wide character takes two columns
    cells = "".join(
        f"[{colour}]{glyph * columns}[/]"
        for (glyph, colour), columns in zip(styles, widths, strict=True)
    )
    return f"  {escape(label)}{cells}"


def _marker_row(timeline: Timeline, instants: Sequence[int], widths: Sequence[int]) -> str:
    """Return a row with ▼ above the column in which each operation took effect."""
    row = [" "] * sum(widths)
    for marker in timeline.markers:
        instant = marker.instant - timeline.started_at
        after = max(place for place, at in enumerate(instants) if at <= instant)
        row[sum(widths[:after])] = "▼"
    return "".join(row).rstrip()


def _draw_changes(timeline: Timeline) -> Iterator[str]:
    """Yield each instant at which something changes, and what; operations where they came."""
    waiting = list(timeline.markers)
    for number, state in enumerate(timeline.states):
        is_operated = any(c.target is not None or c.before is None for c in state.changes)
        while waiting and waiting[0].instant - timeline.started_at < state.at + is_operated:
            yield _marker_line(waiting.pop(0), timeline)
        if text := "; ".join(_differences(timeline, state, is_first=number == 0)):
            yield f"    {_at(state.at)}  {text}"
    yield from (_marker_line(marker, timeline) for marker in waiting)


def _differences(timeline: Timeline, state: Any, *, is_first: bool) -> Iterator[str]:
    for track in timeline.tracks:
        changes = [change for change in state.changes if change.part == track.part]
        if not is_first and not _is_change(changes):
            continue
        if text := timeline.describe(state, track.part, () if is_first else changes):
            yield f"{escape(track.name)} {text}"


def _is_change(changes: Sequence[Change]) -> bool:
    """Return whether a part's changes lead to another label, or to another stage."""
    is_moved = any(c.target is None and c.before == c.after for c in changes)
    return is_moved or (bool(changes) and changes[0].before != changes[-1].after)


def _marker_line(marker: Marker, timeline: Timeline) -> str:
    instant = marker.instant - timeline.started_at
    return f"  [yellow]▼ {_at(instant)}  {escape(marker.text)}[/]"


def _at(instant: int) -> str:
    return f"{instant / SECOND:8.3f} s"
