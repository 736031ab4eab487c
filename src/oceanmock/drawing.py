"""A scenario as a picture in the terminal: each task's DAG, and its states over time.

The DAG is drawn as rails, one lane an edge, so any shape fits; the timeline gives every state at
least one column, and the rest of the width by how long it lasts. Draws what the story leads to when
there is one, and otherwise what happens if nobody interferes. Returns lines of rich markup; prints
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.markup import escape

from oceanmock.clock import SECOND
from oceanmock.lifecycle import ocp
from oceanmock.scenario.ocp import Scenario, Task
from oceanmock.scenario_rules import ocp as scenario_rules
from oceanmock.scenario_rules.ocp import OcpActor
from oceanmock.story import Mark, Told

STYLES: Final = {
    "PENDING": ("·", "dim"),
    "READY": ("○", "cyan"),
    "RUNNING": ("█", "blue"),
    "CANCELING": ("▒", "magenta"),
    "FAILED": ("✗", "red"),
    "SUCCESSFUL": ("━", "green"),
    "ABORTED": ("▪", "red"),
}
"""How each state looks in a timeline: a glyph and a colour."""

_NAME_WIDTH: Final = 32
_MOST_TASKS: Final = 12


def draw_scenario(scenario: Scenario, *, width: int = 100) -> Iterator[str]:
    """The whole scenario, line by line, in rich markup."""
    told = scenario_rules.tell(scenario)
    yield f"[bold]{escape(scenario.name)}[/]  {escape(scenario.summary)}"
    for number, task in enumerate(scenario.tasks[:_MOST_TASKS]):
        yield ""
        yield f"[bold]{escape(_title(task, told.actors[number]))}[/]"
        yield from _draw_dag(task, told.actors[number])
        yield ""
        yield from _draw_timeline(told, number, width=width)
    if len(scenario.tasks) > _MOST_TASKS:
        yield f"\n… and {len(scenario.tasks) - _MOST_TASKS} more tasks"
    yield ""
    yield "  ".join(f"[{style}]{glyph}[/] {state}" for state, (glyph, style) in STYLES.items())


def _title(task: Task, actor: OcpActor) -> str:
    ident = f" {task.id}" if task.id else ""
    times = f"  × {task.repeat.count}" if task.repeat else ""
    return f"task{ident} {actor.name}{times}"


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


def _describe(plan: ocp.SubtaskPlan) -> str:
    """What its attempts do, in a few words."""
    return ", then ".join(
        f"{'✗' if attempt.ends == 'FAILED' else '✓'} {_seconds(attempt.takes)}"
        for attempt in plan.attempts
    )


def draw_rails(plan: ocp.TaskPlan) -> Iterator[tuple[str, int | None]]:
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


def _in_order(plan: ocp.TaskPlan) -> list[int]:
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


# --- the timeline ---------------------------------------------------------------------------------


def _draw_timeline(told: Told[OcpActor], number: int, *, width: int) -> Iterator[str]:
    actor = told.actors[number]
    states = actor.life.states
    marks = [mark for mark in told.marks if mark.actor == number]
    widths = _widths([state.at for state in states], max(width - _NAME_WIDTH - 4, len(states)))
    if marks:
        yield f"  {'':{_NAME_WIDTH}}[yellow]{_mark_row(actor, states, widths, marks)}[/]"
    yield _band("task", [state.status for state in states], widths)
    for position, name in enumerate(actor.names):
        yield _band(name, [state.subtasks[position].status for state in states], widths)
    yield ""
    yield from _changes(actor, marks)


def _widths(instants: Sequence[int], room: int) -> list[int]:
    """Columns for each state: one at least, the rest by its share of the whole time."""
    ends = [*instants[1:], instants[-1] + max((instants[-1] - instants[0]) // 12, 1)]
    total = max(ends[-1] - instants[0], 1)
    spare = max(room - len(instants), 0)
    return [1 + (end - at) * spare // total for at, end in zip(instants, ends, strict=True)]


def _band(name: str, statuses: Sequence[str], widths: Sequence[int]) -> str:
    """One row of the timeline; neighbouring columns of one state share their markup."""
    short = name if cell_len(name) < _NAME_WIDTH else f"{set_cell_size(name, _NAME_WIDTH - 3)}…"
    label = set_cell_size(short, _NAME_WIDTH)  # a wide character takes two columns
    cells = "".join(
        f"[{STYLES[status][1]}]{STYLES[status][0] * columns}[/]"
        for status, columns in zip(statuses, widths, strict=True)
    )
    return f"  {escape(label)}{cells}"


def _mark_row(
    actor: OcpActor, states: Sequence[ocp.TaskState], widths: Sequence[int], marks: Sequence[Mark]
) -> str:
    """▼ above the column in which each operation took effect."""
    row = [" "] * sum(widths)
    for mark in marks:
        after = max(
            place for place, state in enumerate(states) if state.at <= mark.instant - actor.born
        )
        row[sum(widths[:after])] = "▼"
    return "".join(row).rstrip()


def _changes(actor: OcpActor, marks: Sequence[Mark]) -> Iterator[str]:
    """Each instant at which something changes, and what; operations where they happened."""
    waiting = list(marks)
    before: ocp.TaskState | None = None
    for state, after in zip(actor.life.states, [*actor.life.states[1:], None], strict=True):
        made_by_operation = after is None or after.at > state.at
        while waiting and waiting[0].instant - actor.born < state.at + made_by_operation:
            yield _mark_line(actor, waiting.pop(0))
        if what := "; ".join(_differences(actor, before, state)):
            yield f"    {_at(state.at)}  {what}"
        before = state
    yield from (_mark_line(actor, mark) for mark in waiting)


def _mark_line(actor: OcpActor, mark: Mark) -> str:
    return f"  [yellow]▼ {_at(mark.instant - actor.born)}  {escape(mark.text)}[/]"


def _differences(
    actor: OcpActor, before: ocp.TaskState | None, state: ocp.TaskState
) -> Iterator[str]:
    if before is None or (before.status, before.operation) != (state.status, state.operation):
        yield f"task {_coloured(state.status)}/{state.operation}"
    for position, subtask in enumerate(state.subtasks):
        earlier = None if before is None else before.subtasks[position]
        seen = ("PENDING", "EXECUTE") if earlier is None else (earlier.status, earlier.operation)
        if seen != (subtask.status, subtask.operation):
            name = escape(actor.names[position])
            yield f"{name} {_coloured(subtask.status)}/{subtask.operation}"


def _coloured(status: str) -> str:
    return f"[{STYLES[status][1]}]{status}[/]"


def _at(instant: int) -> str:
    return f"{instant / SECOND:8.3f} s"


def _seconds(takes: int | None) -> str:
    return "for ever" if takes is None else f"{takes / SECOND:g} s"
