"""OCP in the terminal: each task's DAG drawn as rails, one lane an edge, and its timeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.markup import escape

from oceanmock.clock import SECOND
from oceanmock.engine.machine import Change, Part, states_until
from oceanmock.engine.sandbox import Sandbox
from oceanmock.ocp import machine
from oceanmock.ocp import states as ocp_states
from oceanmock.ocp.scenario import Scenario, Task
from oceanmock.ocp.scenario_checks import OcpActor, simulate_story
from oceanmock.ocp.states import TaskState
from oceanmock.ocp.world import Tasks
from oceanmock.report.timeline import (
    REPORT_WIDTH,
    Picture,
    Style,
    Timeline,
    Track,
    coloured,
    draw_pictures,
    draw_report,
    markers_of,
    start_text,
    style_of,
)
from oceanmock.scenario.story import Marker
from oceanmock.text import one_line

STYLES: Final[dict[str, Style]] = {
    "PENDING": ("·", "dim"),
    "READY": ("○", "cyan"),
    "RUNNING": ("█", "blue"),
    "CANCELING": ("▒", "magenta"),
    "FAILED": ("✗", "red"),
    "SUCCESSFUL": ("━", "green"),
    "ABORTED": ("▪", "red"),
}


def draw_scenario(scenario: Scenario, *, width: int = REPORT_WIDTH) -> Iterator[str]:
    """Yield the lines of a scenario's picture, in rich markup."""
    message = simulate_story(scenario)
    pictures = [
        Picture(
            _title(task, actor),
            _draw_dag(task, actor),
            _timeline(
                actor.name,
                actor.names,
                actor.born,
                actor.life.states,
                tuple(mark for mark in message.markers if mark.actor == number),
            ),
        )
        for number, (task, actor) in enumerate(zip(scenario.tasks, message.actors, strict=True))
    ]
    yield from draw_pictures(scenario.name, scenario.summary, pictures, width=width, kinds="tasks")


def draw_timeline(sandbox: Sandbox, id: int | str) -> str:
    """Return a task's timeline up to now, as plain text. Raises NoSuchTask."""
    tasks, task_id, now = sandbox.world(Tasks), int(id), sandbox.clock.now()
    task, history = tasks.view(task_id).task, tasks.history_of(task_id)
    name, names = one_line(task.name), tuple(one_line(item.name) for item in task.subtasks)

    def called(part: Part) -> str:
        return f"{names[part[0]]!r} of {name!r}" if part else repr(name)

    markers = markers_of(sandbox.operations_of(Tasks.api, task_id), called)
    past = states_until(history, now - task.created)
    timeline = _timeline(name, names, task.created, past, markers)
    return draw_report(timeline, who=f"task {task.id}", now=now)


def _timeline(
    name: str,
    names: Sequence[str],
    started_at: int,
    states: Sequence[TaskState],
    markers: tuple[Marker, ...],
) -> Timeline:
    subtasks = (Track((place,), item, item) for place, item in enumerate(names))
    tracks = (Track((), "task", "task"), *subtasks)
    return Timeline(name, started_at, states, tracks, markers, STYLES, _describe)


def _describe(state: TaskState, part: Part, changes: Sequence[Change]) -> str:
    status, operation = state.subtasks[part[0]].label if part else state.label
    is_as_at_first = (status, operation) == ("PENDING", "EXECUTE")
    if is_as_at_first and (not changes or changes[0].before is None):
        return ""
    return f"{coloured(status, style_of(STYLES, (status, operation)))}/{operation}"


def _title(task: Task, actor: OcpActor) -> str:
    ident = f" {task.id}" if task.id else ""
    times = f"  × {task.repeat.count}" if task.repeat else ""
    return f"task{ident} {actor.name}{times}{start_text(task.starts_on)}"


# --- the DAG --------------------------------------------------------------------------------------


def _draw_dag(task: Task, actor: OcpActor) -> Iterator[str]:
    script = actor.life.script
    for rails, position in draw_rails(script):
        if position is None:
            yield f"  [dim]{rails}[/]"
        else:
            ident = f"  [dim]{task.subtasks[position].id}[/]" if task.subtasks[position].id else ""
            does = _attempts_text(script.subtasks[position])
            name = escape(actor.names[position])
            yield f"  {rails}  {name}{ident}  [dim]{does}[/]"


def _attempts_text(script: ocp_states.SubtaskScript) -> str:
    """Return what its attempts do, in a few words."""
    return ", then ".join(
        f"{'✗' if attempt.ends == 'FAILED' else '✓'} {_seconds(attempt.takes)}"
        for attempt in script.attempts
    )


def _seconds(takes: int | None) -> str:
    return "for ever" if takes is None else f"{takes / SECOND:g} s"


def draw_rails(script: ocp_states.TaskScript) -> Iterator[tuple[str, int | None]]:
    """Yield the rows of a DAG: each with the subtask it shows, or None for a connection.

    Each lane carries one edge down to the subtask that waits at its end.
    """
    downstreams = machine.downstreams_of(script)
    lanes: list[int | None] = []
    for position in _in_order(script):
        arriving = [lane for lane, target in enumerate(lanes) if target == position]
        home = arriving[0] if arriving else _free_lane(lanes)
        lanes[home] = position
        if len(arriving) > 1:
            yield _connection(lanes, home, arriving[1:], "╯┴"), None
            for lane in arriving[1:]:
                lanes[lane] = None
        yield _row(lanes, home), position
        first, *others = downstreams[position] or (None,)
        lanes[home] = first
        opened = []
        for other in others:
            opened.append(_free_lane(lanes))
            lanes[opened[-1]] = other
        if opened:
            yield _connection(lanes, home, opened, "╮┬"), None
        while lanes and lanes[-1] is None:
            lanes.pop()


def _in_order(script: ocp_states.TaskScript) -> list[int]:
    """Return the positions, upstreams first, otherwise as listed."""
    done: list[int] = []
    while len(done) < len(script.subtasks):
        done += [
            position
            for position, subtask in enumerate(script.subtasks)
            if position not in done and set(subtask.needs) <= set(done)
        ]
    return done


def _free_lane(lanes: list[int | None]) -> int:
    if None in lanes:
        return lanes.index(None)
    lanes.append(None)
    return len(lanes) - 1


def _row(lanes: Sequence[int | None], home: int) -> str:
    marks = (
        "●" if lane == home else " " if lanes[lane] is None else "│" for lane in range(len(lanes))
    )
    return " ".join(marks)


def _connection(lanes: Sequence[int | None], home: int, ends: Sequence[int], glyphs: str) -> str:
    """Return a row in which lanes leave or join the home lane."""
    low, high = min(home, *ends), max(home, *ends)
    row = ""
    for lane in range(len(lanes)):
        crossed = lanes[lane] is not None
        inside = low <= lane < high
        if lane == home:
            mark = "├" if home == low else "┤" if home == high else "┼"
        elif lane in ends:
            mark = _corner(lane, low, high, glyphs)
        elif low < lane < high:
            mark = "┼" if crossed else "─"
        else:
            mark = "│" if crossed else " "
        row += mark + ("─" if inside else " ")
    return row.rstrip()


def _corner(lane: int, low: int, high: int, glyphs: str) -> str:
    if lane == high:
        return glyphs[0]
    mirrored = {"╯": "╰", "╮": "╭"}[glyphs[0]]
    return mirrored if lane == low else glyphs[1]
