"""OCP's tasks: the DAG of each drawn as rails, one lane an edge, so any shape fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.markup import escape

from oceanmock.clock import SECOND
from oceanmock.ocp import machine as ocp
from oceanmock.ocp.scenario import Scenario, Task
from oceanmock.ocp.scenario_checks import OcpActor, tell
from oceanmock.ocp.timeline import course_of
from oceanmock.report.picture import Picture, marks_on, on_request


def draw_tasks(scenario: Scenario) -> Iterator[Picture]:
    """A picture of each task."""
    told = tell(scenario)
    for number, (task, actor) in enumerate(zip(scenario.tasks, told.actors, strict=True)):
        course = course_of(actor, marks_on(told.marks, number))
        yield Picture(_title(task, actor), _draw_dag(task, actor), course)


def _title(task: Task, actor: OcpActor) -> str:
    ident = f" {task.id}" if task.id else ""
    times = f"  × {task.repeat.count}" if task.repeat else ""
    return f"task{ident} {actor.name}{times}{on_request(task.starts_on)}"


# --- the DAG --------------------------------------------------------------------------------------


def _draw_dag(task: Task, actor: OcpActor) -> Iterator[str]:
    plan = actor.life.plan
    for rails, position in draw_rails(plan):
        if position is None:
            yield f"  [dim]{rails}[/]"
        else:
            ident = f"  [dim]{task.subtasks[position].id}[/]" if task.subtasks[position].id else ""
            does = _describe(plan.subtasks[position])
            name = escape(actor.names[position])
            yield f"  {rails}  {name}{ident}  [dim]{does}[/]"


def _describe(plan: ocp.SubtaskScript) -> str:
    """What its attempts do, in a few words."""
    return ", then ".join(
        f"{'✗' if attempt.ends == 'FAILED' else '✓'} {_seconds(attempt.takes)}"
        for attempt in plan.attempts
    )


def _seconds(takes: int | None) -> str:
    return "for ever" if takes is None else f"{takes / SECOND:g} s"


def draw_rails(plan: ocp.TaskScript) -> Iterator[tuple[str, int | None]]:
    """Rows of a DAG drawn as rails: the row, and the subtask it shows (None for a connection).

    Each lane carries one edge down to the subtask that waits at its end.
    """
    downstreams = ocp.downstreams_of(plan)
    lanes: list[int | None] = []
    for position in _in_order(plan):
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


def _in_order(plan: ocp.TaskScript) -> list[int]:
    """Positions, upstreams first, otherwise as listed."""
    done: list[int] = []
    while len(done) < len(plan.subtasks):
        done += [
            position
            for position, subtask in enumerate(plan.subtasks)
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
    """A row in which lanes leave or join the home lane."""
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
