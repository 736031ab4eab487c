"""OCP's words in a timeline: how each looks, and what is said when it has become another."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from oceanmock.engine.history import until
from oceanmock.engine.sandbox import Sandbox
from oceanmock.ocp.scenario_checks import OcpActor
from oceanmock.ocp.world import Tasks
from oceanmock.report.draw_timeline import MOST_STATES, draw_history, markers_of
from oceanmock.report.timeline import Style, Timeline, Track, Words, coloured, legend
from oceanmock.scenario.story import Marker
from oceanmock.text import one_line

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


def draw_timeline(sandbox: Sandbox, id: int | str) -> str:
    """Draw a task up to now, as plain text. Raises NoSuchTask."""
    tasks, task_id = sandbox.world(Tasks), int(id)
    task, life = tasks.view(task_id).task, tasks.life_of(task_id)
    now = sandbox.clock.now()
    past = until(life.states, now - task.born) or life.states[:1]
    actor = OcpActor(
        born=task.born,
        name=one_line(task.name),
        names=tuple(one_line(subtask.name) for subtask in task.subtasks),
        life=replace(life, states=tuple(past[-MOST_STATES:])),
    )
    marks = markers_of(actor, sandbox.operations_of(Tasks.api, task_id))
    return draw_history(
        course_of(actor, marks),
        who=f"task {task.id}",
        looks=LOOKS,
        now=now,
        left_out=len(past) - MOST_STATES,
    )
