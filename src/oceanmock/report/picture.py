"""What a picture of a task or a dag of a scenario consists of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from oceanmock.report.timeline import Timeline
from oceanmock.scenario.story import Marker
from oceanmock.scenario.submit_calls import StartsOn


@dataclass(frozen=True, slots=True)
class Picture:
    """A task or a dag: its title, its steps in markup, and its course."""

    title: str
    steps: Iterable[str]
    course: Timeline


def marks_on(marks: Iterable[Marker], number: int) -> tuple[Marker, ...]:
    """Those of a story's operations that are on one actor."""
    return tuple(mark for mark in marks if mark.actor == number)


def on_request(starts_on: StartsOn | None) -> str:
    """Which request starts it, after a title; nothing for what is there from the start."""
    return "" if starts_on is None else f"  on {starts_on.method} {starts_on.path}"
