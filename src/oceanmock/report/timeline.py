"""Timelines: a history over time, a track for the whole and each part, then every change.

Every state gets at least one column; the rest of the width is shared out by how long each lasts.
Above the tracks stands where an operation came. A scenario is drawn with its steps and where its
story leads; a task or dag of a sandbox with what has happened up to now, cut to what fits a report.
Drawing is no read, so it does not move a clock under `polls`. An API's package has the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from rich.cells import cell_len, set_cell_size
from rich.markup import escape, render

from oceanmock.clock import MILLISECOND, SECOND
from oceanmock.engine.machine import Change, Label, Part, states_until
from oceanmock.engine.sandbox import Sandbox
from oceanmock.report.explain import Explainer
from oceanmock.scenario.fields import BaseScenario
from oceanmock.scenario.story import StoryRun
from oceanmock.text import format_instant, format_seconds, one_line

NAME_WIDTH: Final = 32
REPORT_WIDTH: Final = 100
MAX_DRAWN_STATES: Final = 60
MAX_TRACKS: Final = 20
MAX_CHANGES: Final = 30
MAX_PICTURES: Final = 12

Styles = Mapping[str, tuple[str, str]]
"""A glyph and a colour by state, or by state and operation where that makes a difference."""
Describe = Callable[[Any, Part, Sequence[Change]], str]
"""What to print, in markup, of a part that has come to a state by some changes; "" for nothing.
Without changes, it is what shows first."""


@dataclass(frozen=True, slots=True)
class Track:
    """The whole or a part: its name in the list of changes, and the label of its track, if any."""

    part: Part
    name: str
    label: str | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The states of a task or dag, its tracks, and instant and text of each operation on it.

    A state has ``at``, ``changes`` and ``labels()``. Instants count from the start. ``until`` is
    where the picture ends; some time after the last state, if it is None.
    """

    states: Sequence[Any]
    tracks: Sequence[Track]
    markers: Sequence[tuple[int, str]]
    styles: Styles
    describe: Describe
    until: int | None = None

    def draw_tracks(self, width: int) -> Iterator[str]:
        """Yield the tracks under the markers, in markup."""
        instants = [state.at for state in self.states]
        until = self.until
        if until is None:
            until = instants[-1] + max((instants[-1] - instants[0]) // 12, 1)
        total = max(until - instants[0], 1)
        spare = max(width - NAME_WIDTH - 4 - len(instants), 0)
        widths = [1 + (end - at) * spare // total for at, end in pairwise([*instants, until])]
        if self.markers:
            row = [" "] * sum(widths)
            for instant, _ in self.markers:
                after = max(place for place, at in enumerate(instants) if at <= instant)
                row[sum(widths[:after])] = "▼"
            yield f"  {'':{NAME_WIDTH}}[yellow]{''.join(row).rstrip()}[/]"
        labels = [dict(state.labels()) for state in self.states]
        for track in self.tracks:
            if (name := track.label) is None:
                continue
            if cell_len(name) >= NAME_WIDTH:  # a wide character takes two columns
                name = f"{set_cell_size(name, NAME_WIDTH - 3)}…"
            cells = ""
            for columns, by_part in zip(widths, labels, strict=True):
                glyph, colour = style_of(self.styles, by_part[track.part])
                cells += f"[{colour}]{glyph * columns}[/]"
            yield f"  {escape(set_cell_size(name, NAME_WIDTH))}{cells}"

    def draw_changes(self) -> Iterator[str]:
        """Yield each instant at which something changes, and what; operations where they came."""
        waiting = list(self.markers)
        for number, state in enumerate(self.states):
            is_operated = any(c.target is not None or c.before is None for c in state.changes)
            while waiting and waiting[0][0] < state.at + is_operated:
                yield _marker_line(*waiting.pop(0))
            texts = []
            for track in self.tracks:
                changes = [c for c in state.changes if c.part == track.part] if number else []
                if _is_change(changes) or number == 0:
                    text = self.describe(state, track.part, changes)
                    texts += [f"{escape(track.name)} {text}"] if text else []
            if texts:
                yield f"    {_at(state.at)}  {'; '.join(texts)}"
        yield from (_marker_line(*marker) for marker in waiting)


def _is_change(changes: Sequence[Change]) -> bool:
    """Return whether a part's changes lead to another label, or to another stage."""
    is_moved = any(c.target is None and c.before == c.after for c in changes)
    return is_moved or (bool(changes) and changes[0].before != changes[-1].after)


def _marker_line(instant: int, text: str) -> str:
    return f"  [yellow]▼ {_at(instant)}  {escape(text)}[/]"


def _at(instant: int) -> str:
    return f"{instant / SECOND:8.3f} s"


def style_of(styles: Styles, label: Label) -> tuple[str, str]:
    """Return the style of a label, or else of its state."""
    return styles.get("/".join(label)) or styles[label[0]]


def draw_story(
    scenario: BaseScenario,
    run: StoryRun,
    pictures: Sequence[tuple[str, Iterable[str], Sequence[Track]]],
    styles: Styles,
    describe: Describe,
    *,
    width: int,
) -> Iterator[str]:
    """Yield the lines of a scenario in markup: title, steps and timeline of each task or dag."""
    yield f"[bold]{escape(scenario.name)}[/]  {escape(scenario.summary)}"
    for number, (title, steps, tracks) in enumerate(pictures[:MAX_PICTURES]):
        actor = run.actors[number]
        markers = [(m.instant - actor.created, m.text) for m in run.markers if m.actor == number]
        timeline = Timeline(actor.history.states, tracks, markers, styles, describe)
        yield from ("", f"[bold]{escape(title)}[/]", *steps, "")
        yield from timeline.draw_tracks(width)
        yield ""
        yield from timeline.draw_changes()
    if len(pictures) > MAX_PICTURES:
        yield f"\n… and {len(pictures) - MAX_PICTURES} more {pictures[0][2][0].name}s"
    yield ""
    yield "  ".join(f"[{colour}]{glyph}[/] {text}" for text, (glyph, colour) in styles.items())


def runs_text(runs: Iterable[tuple[bool, int | None]]) -> str:
    """Return what runs do, in a few words: whether each fails, and how long it takes."""
    texts = []
    for fails, takes in runs:
        if takes is None:
            texts.append("hangs")
            continue
        long = takes >= SECOND or not takes
        span = f"{takes / SECOND:g} s" if long else f"{takes / MILLISECOND:g} ms"
        texts.append(f"{'✗' if fails else '✓'} {span}")
    return ", then ".join(texts)


def draw_report(
    sandbox: Sandbox, explainer: Explainer[Any], tracks: Sequence[Track], styles: Styles, describe: Describe
) -> str:
    """Return a timeline up to now without markup; the last line ends in a line feed."""
    item, now = explainer.item, sandbox.clock.now()
    age, name = now - item.created, one_line(item.name)
    past = states_until(explainer.history, age)
    recent = past[-MAX_DRAWN_STATES:]
    names = {track.part: track.name for track in tracks}
    markers = []
    for record in sandbox.operations_of(explainer.api.name, item.key):
        part = () if record.position is None else (record.position,)
        target = f"{names[part]!r} of {name!r}" if part else repr(name)
        refused = f", refused: {record.refused}" if record.refused else ""
        text = one_line(f"{record.operation} {target}{refused}")
        if record.at - item.created >= recent[0].at:
            markers.append((record.at - item.created, text))
    whole, *parts = tracks
    if len(parts) >= MAX_TRACKS:  # the last of those that change
        changing = {change.part for state in recent[1:] for change in state.changes}
        parts = [track for track in parts if track.part in changing][1 - MAX_TRACKS :]
    timeline = Timeline(recent, [whole, *parts], markers, styles, describe, until=age)
    drawn = [render(line).plain for line in timeline.draw_tracks(REPORT_WIDTH)]
    changes = [render(line).plain for line in timeline.draw_changes()]
    glyphs = set("".join(drawn))
    start = format_instant(item.created)
    title = f"{whole.name} {explainer.number(())} {name}"
    lines = [
        f"{title}, {format_seconds(age)} after its start at {start}",
        "",
        *_left_out(len(past) - MAX_DRAWN_STATES, "states before these"),
        *drawn,
        *_left_out(len(tracks) - len(timeline.tracks), "parts more"),
        "",
        *_left_out(len(changes) - MAX_CHANGES, "lines before these"),
        *changes[-MAX_CHANGES:],
        "",
        "  " + "  ".join(f"{g} {text}" for text, (g, _) in styles.items() if g in glyphs),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _left_out(count: int, what: str) -> list[str]:
    return [f"  … and {count} {what}"] if count > 0 else []
