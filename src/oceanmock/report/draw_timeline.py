"""Draw what a task or dag of a sandbox has shown so far, as plain text: a track for each part.

What comes next is left to ``explain``. What is long is cut to what fits a report. Drawing is no
read, so it does not move a clock under `polls`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from rich.markup import render

from oceanmock.engine.records import OperationRecord
from oceanmock.report.timeline import Style, Timeline, Track, Words, draw_changes, draw_tracks
from oceanmock.scenario.story import Actor, Marker
from oceanmock.text import format_instant, format_seconds, one_line

Looks = Mapping[str, Style]

WIDTH: Final = 100
MOST_STATES: Final = 60
"""So many of the last states are drawn."""
MOST_ROWS: Final = 20
MOST_CHANGES: Final = 30


def markers_of(actor: Actor, operated: Iterable[OperationRecord]) -> tuple[Marker, ...]:
    """Return a marker for each operation requested, refused or not."""
    marks = []
    for each in operated:
        called = actor.called(() if each.position is None else (each.position,))
        refused = f", refused: {each.refused}" if each.refused else ""
        marks.append(Marker(each.at, 0, one_line(f"{each.operation} {called}{refused}")))
    return tuple(marks)


def draw_history(course: Timeline, *, who: str, looks: Looks, now: int, left_out: int) -> str:
    """Return the whole drawing, without markup."""
    actor = course.actor
    begins = actor.born + course.states[0].at
    shown = replace(
        course,
        rows=tuple(_some_rows(course)),
        marks=tuple(mark for mark in course.marks if mark.instant >= begins),
        until=now - actor.born,
    )
    age = f"{format_seconds(now - actor.born)} after its birth at {format_instant(actor.born)}"
    bands = [render(line).plain for line in draw_tracks(shown, width=WIDTH)]
    changes = [render(line).plain for line in draw_changes(shown)]
    lines = [
        f"{who} {actor.name}, {age}",
        "",
        *_left_out(left_out, "states before these"),
        *bands,
        *_left_out(len(course.rows) - len(shown.rows), "parts more"),
        "",
        *_left_out(len(changes) - MOST_CHANGES, "lines before these"),
        *changes[-MOST_CHANGES:],
        "",
        f"  {_legend(looks, bands)}",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _some_rows(course: Timeline) -> Iterator[Track]:
    """All rows; or, where they are too many, the last ones of those whose words change."""
    whole, *parts = course.rows
    if len(parts) >= MOST_ROWS:
        parts = [row for row in parts if len(set(_words(course, row))) > 1]
    yield from (whole, *parts[1 - MOST_ROWS :])


def _words(course: Timeline, row: Track) -> Iterator[Words]:
    return (shown.words for shown in course.actor.shows(row.part))


def _left_out(count: int, what: str) -> list[str]:
    return [f"  … and {count} {what}"] if count > 0 else []


def _legend(looks: Looks, bands: Iterable[str]) -> str:
    """What the glyphs stand for that occur."""
    seen = set("".join(bands))
    return "  ".join(f"{glyph} {word}" for word, (glyph, _) in looks.items() if glyph in seen)
