"""obshell's words in a timeline: how each looks, and what is said when it has become another.

A node's only sub task has no band of its own; of several each has one. An operator is said where it
is not RUN, and a sub task where it is not as its node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from oceanmock.obshell.scenario_checks import ObshellActor
from oceanmock.report.timeline import Style, Timeline, Track, Words, coloured, legend
from oceanmock.scenario.story import Marker

LOOKS: Final[dict[str, Style]] = {
    "PENDING": ("·", "dim"),
    "READY": ("○", "cyan"),
    "RUNNING": ("█", "blue"),
    "RUNNING/ROLLBACK": ("▒", "magenta"),
    "FAILED": ("✗", "red"),
    "SUCCEED": ("━", "green"),
    "SUCCEED/ROLLBACK": ("╌", "magenta"),
    "SUCCEED/PASS": ("═", "yellow"),
}
"""How each state looks in a timeline; with its operator, where that makes a difference."""
LEGEND: Final = legend(LOOKS)


def course_of(
    actor: ObshellActor, labels: Sequence[Sequence[str]], marks: tuple[Marker, ...]
) -> Timeline:
    """A dag's life with all its nodes, and the operations on it.

    ``labels`` are what the sub tasks of each node are called.
    """
    return Timeline(actor, actor.life.states, tuple(_rows(actor, labels)), marks, _look)


def _rows(actor: ObshellActor, labels: Sequence[Sequence[str]]) -> Iterator[Track]:
    yield Track((), "dag", "dag", _say_of_dag)
    for place, (name, below) in enumerate(zip(actor.names, labels, strict=True)):
        yield Track((place,), name, name, _say)
        if len(below) == 1:
            yield Track((place, 0), None, f"sub task of {name}", _say_of_sub_task)
            continue
        for position, label in enumerate(below):
            yield Track((place, position), f"  {label}", f"{name} ({label})", _say_of_sub_task)


def _look(words: Words) -> Style:
    return LOOKS.get("/".join(words[:2]), LOOKS[words[0]])


def _say_of_dag(before: Words | None, words: Words, above: Words) -> str:
    """Its state, and its stage where that has moved."""
    state = "" if before is not None and before[:2] == words[:2] else _state(words)
    stage = "" if before is None or before[2:] == words[2:] else words[2]
    return ", ".join(filter(None, [state, stage]))


def _say(before: Words | None, words: Words, above: Words) -> str:
    if before is None and words == ("PENDING", "RUN"):
        return ""  # as everything begins
    return _state(words)


def _say_of_sub_task(before: Words | None, words: Words, above: Words) -> str:
    return "" if words == above else _say(before, words, above)


def _state(words: Words) -> str:
    operator = "" if words[1] == "RUN" else f"/{words[1]}"
    return f"{coloured(words[0], LOOKS[words[0]])}{operator}"
