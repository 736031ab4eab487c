"""A life over time: a band for the actor and each of its parts, and every change with its instant.

Every state gets at least one column, and the rest of the width is shared out by how long each of
them lasts. Above the bands stands where something was operated. How a word looks, and what is said
of a change, is the business of whoever knows an API's words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.markup import escape

from oceanmock.clock import SECOND
from oceanmock.engine.history import Dated
from oceanmock.scenario.story import Actor, Marker, Part

NAME_WIDTH: Final = 32

Style = tuple[str, str]
"""A glyph and a colour."""
Words = tuple[str, ...]
"""What shows at one moment, in the API's own words."""
Say = Callable[[Words | None, Words, Words], str]
"""What to say, in markup, when some words (None: birth) have become others, and the actor or part
above shows the third; "" for nothing."""


@dataclass(frozen=True, slots=True)
class Track:
    """An actor or a part of it: its name in the list of changes, and its label before its band.

    The part above it has a row of its own. Without a label it has no band.
    """

    part: Part
    label: str | None
    name: str
    say: Say


@dataclass(frozen=True, slots=True)
class Timeline:
    """What a timeline shows: an actor, its states, its rows, and the operations on it.

    ``until``, from the actor's birth, is where the picture ends; some time after the last state, if
    it is None.
    """

    actor: Actor
    states: Sequence[Dated]
    rows: tuple[Track, ...]
    marks: tuple[Marker, ...]
    look: Callable[[Words], Style]
    until: int | None = None


def draw_timeline(course: Timeline, *, width: int) -> Iterator[str]:
    """The bands under the operations' marks, then the changes, in markup."""
    yield from draw_tracks(course, width=width)
    yield ""
    yield from draw_changes(course)


def draw_tracks(course: Timeline, *, width: int) -> Iterator[str]:
    """The bands under the operations' marks, in markup."""
    instants = [state.at for state in course.states]
    widths = _widths(instants, course.until, max(width - NAME_WIDTH - 4, len(instants)))
    if course.marks:
        yield f"  {'':{NAME_WIDTH}}[yellow]{_mark_row(course, instants, widths)}[/]"
    for row in course.rows:
        if row.label is not None:
            looks = [course.look(words) for words in _shown(course, row.part)]
            yield _band(row.label, looks, widths)


def draw_changes(course: Timeline) -> Iterator[str]:
    """Each instant at which something changes, and what, in markup."""
    yield from _changes(course, {row.part: _shown(course, row.part) for row in course.rows})


def _shown(course: Timeline, part: Part) -> list[Words]:
    """What a part shows in each of the states."""
    return [it.words for it in course.actor.shows(part)]


def coloured(word: str, look: Style) -> str:
    """A word in the colour of its look."""
    return f"[{look[1]}]{word}[/]"


def legend(looks: dict[str, Style]) -> str:
    """Every glyph, and what it stands for."""
    return "  ".join(f"[{style}]{glyph}[/] {text}" for text, (glyph, style) in looks.items())


def _widths(instants: Sequence[int], until: int | None, room: int) -> list[int]:
    """Columns for each state: one at least, the rest by its share of the whole time."""
    if until is None:
        until = instants[-1] + max((instants[-1] - instants[0]) // 12, 1)
    ends = [*instants[1:], until]
    total = max(ends[-1] - instants[0], 1)
    spare = max(room - len(instants), 0)
    return [1 + (end - at) * spare // total for at, end in zip(instants, ends, strict=True)]


def _band(name: str, looks: Sequence[Style], widths: Sequence[int]) -> str:
    """One row of the timeline; neighbouring columns of one state share their markup."""
    short = name if cell_len(name) < NAME_WIDTH else f"{set_cell_size(name, NAME_WIDTH - 3)}…"
    label = set_cell_size(short, NAME_WIDTH)  # a wide character takes two columns
    cells = "".join(
        f"[{style}]{glyph * columns}[/]"
        for (glyph, style), columns in zip(looks, widths, strict=True)
    )
    return f"  {escape(label)}{cells}"


def _mark_row(course: Timeline, instants: Sequence[int], widths: Sequence[int]) -> str:
    """▼ above the column in which each operation took effect."""
    row = [" "] * sum(widths)
    for mark in course.marks:
        after = max(
            place for place, at in enumerate(instants) if at <= mark.instant - course.actor.born
        )
        row[sum(widths[:after])] = "▼"
    return "".join(row).rstrip()


def _changes(course: Timeline, shown: Mapping[Part, Sequence[Words]]) -> Iterator[str]:
    """Each instant at which something changes, and what; operations where they happened."""
    born, instants = course.actor.born, [state.at for state in course.states]
    waiting = list(course.marks)
    for number, (at, after) in enumerate(zip(instants, [*instants[1:], None], strict=True)):
        made_by_operation = after is None or after > at
        while waiting and waiting[0].instant - born < at + made_by_operation:
            yield _mark_line(waiting.pop(0), born)
        if what := "; ".join(_differences(course.rows, shown, number)):
            yield f"    {_at(at)}  {what}"
    yield from (_mark_line(mark, born) for mark in waiting)


def _differences(
    rows: Sequence[Track], shown: Mapping[Part, Sequence[Words]], number: int
) -> Iterator[str]:
    for row in rows:
        before = shown[row.part][number - 1] if number else None
        words, above = shown[row.part][number], shown[row.part[:-1]][number]
        if before != words and (text := row.say(before, words, above)):
            yield f"{escape(row.name)} {text}"


def _mark_line(mark: Marker, born: int) -> str:
    return f"  [yellow]▼ {_at(mark.instant - born)}  {escape(mark.text)}[/]"


def _at(instant: int) -> str:
    return f"{instant / SECOND:8.3f} s"
