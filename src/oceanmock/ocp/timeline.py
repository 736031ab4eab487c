"""OCP's words in a timeline: how each looks, and what is said when it has become another."""

from __future__ import annotations

from typing import Final

from oceanmock.ocp.scenario_checks import OcpActor
from oceanmock.report.timeline import Style, Timeline, Track, Words, coloured, legend
from oceanmock.scenario.story import Marker

LOOKS: Final[dict[str, Style]] = {
    "PENDING": ("·", "dim"),
    "READY": ("○", "cyan"),
    "RUNNING": ("█", "blue"),
    "CANCELING": ("▒", "magenta"),
    "FAILED": ("✗", "red"),
    "SUCCESSFUL": ("━", "green"),
    "ABORTED": ("▪", "red"),
}
"""How each status looks in a timeline."""
LEGEND: Final = legend(LOOKS)


def course_of(actor: OcpActor, marks: tuple[Marker, ...]) -> Timeline:
    """A task's life with all its subtasks, and the operations on it."""
    rows = (
        Track((), "task", "task", _say_of_task),
        *(Track((place,), name, name, _say) for place, name in enumerate(actor.names)),
    )
    return Timeline(actor, actor.life.states, rows, marks, _look)


def _look(words: Words) -> Style:
    return LOOKS[words[0]]


def _say_of_task(before: Words | None, words: Words, above: Words) -> str:
    status, operation = words
    return f"{coloured(status, LOOKS[status])}/{operation}"


def _say(before: Words | None, words: Words, above: Words) -> str:
    if before is None and words == ("PENDING", "EXECUTE"):
        return ""  # as everything begins
    return _say_of_task(before, words, above)
