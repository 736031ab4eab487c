"""What a task or dag of a sandbox has lived through, as plain text: a band for each part of it.

Drawn is what has happened, up to now; what comes next is for ``explain`` to tell. What is long is
cut to what fits a report, and says so. Looking changes nothing: it is no read, so it does not move
a clock under `polls`. How words look is in ``ocp`` and ``obshell``; everything else about bands in
``timeline``, which knows neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from rich.markup import render

from oceanmock.engine.history import until
from oceanmock.engine.records import OperationRecord
from oceanmock.engine.sandbox import Sandbox
from oceanmock.obshell import timeline as obshell
from oceanmock.obshell.scenario_checks import ObshellActor
from oceanmock.obshell.world import Dags, Node, Store, SubTask
from oceanmock.ocp import timeline as ocp
from oceanmock.ocp.scenario_checks import OcpActor
from oceanmock.ocp.world import Tasks
from oceanmock.report.timeline import Style, Timeline, Track, Words, draw_changes, draw_tracks
from oceanmock.scenario.story import Actor, Marker
from oceanmock.text import format_instant, format_seconds, one_line

__all__ = ["draw_dag", "draw_task"]

Looks = Mapping[str, Style]

WIDTH: Final = 100
MOST_STATES: Final = 60
"""So many of the last states are drawn."""
MOST_ROWS: Final = 20
MOST_CHANGES: Final = 30


def draw_task(sandbox: Sandbox, task_id: int) -> str:
    """One of OCP's tasks, up to now; the last line ends in a line feed. Raises NoSuchTask."""
    task, life = sandbox.world(Tasks).view(task_id).task, sandbox.world(Tasks).life_of(task_id)
    now = sandbox.clock.now()
    past = until(life.states, now - task.born) or life.states[:1]
    actor = OcpActor(
        born=task.born,
        name=one_line(task.name),
        names=tuple(one_line(subtask.name) for subtask in task.subtasks),
        life=replace(life, states=tuple(past[-MOST_STATES:])),
    )
    marks = _marks(actor, sandbox.world(Tasks).operations_of(task_id))
    return _text(
        ocp.course_of(actor, marks),
        who=f"task {task.id}",
        looks=ocp.LOOKS,
        now=now,
        left_out=len(past) - MOST_STATES,
    )


def draw_dag(sandbox: Sandbox, number: int, store: Store = "agent") -> str:
    """One of obshell's dags, up to now. Raises NoSuchTask."""
    key = (store, number)
    dag, life = sandbox.world(Dags).view(key).dag, sandbox.world(Dags).life_of(key)
    now = sandbox.clock.now()
    past = until(life.states, now - dag.born) or life.states[:1]
    actor = ObshellActor(
        born=dag.born,
        name=one_line(dag.name),
        names=tuple(one_line(node.name) for node in dag.nodes),
        life=replace(life, states=tuple(past[-MOST_STATES:])),
    )
    marks = _marks(actor, sandbox.world(Dags).operations_of(key))
    labels = [[_label(node, each) for each in node.sub_tasks] for node in dag.nodes]
    return _text(
        obshell.course_of(actor, labels, marks),
        who=f"dag {dag.number}",
        looks=obshell.LOOKS,
        now=now,
        left_out=len(past) - MOST_STATES,
    )


def _label(node: Node, sub_task: SubTask) -> str:
    """What tells a sub task from its node's others: a name of its own, or else the agent."""
    agent = sub_task.agent
    host = f"[{agent.ip}]" if ":" in agent.ip else agent.ip
    return one_line(sub_task.name) if sub_task.name != node.name else f"{host}:{agent.port}"


def _marks(actor: Actor, operated: Iterable[OperationRecord]) -> tuple[Marker, ...]:
    """What was asked of it, refused or not."""
    marks = []
    for each in operated:
        called = actor.called(() if each.position is None else (each.position,))
        refused = f", refused: {each.refused}" if each.refused else ""
        marks.append(Marker(each.at, 0, one_line(f"{each.operation} {called}{refused}")))
    return tuple(marks)


def _text(course: Timeline, *, who: str, looks: Looks, now: int, left_out: int) -> str:
    """The whole picture, without markup."""
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
