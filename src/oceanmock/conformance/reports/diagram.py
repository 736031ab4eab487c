"""The state diagrams a run has walked, as SVG: what may follow what, and how often it was seen.

A node is a state, in the API's own word; an edge is every step from one state to another, whatever
the operation. Seen edges are solid and counted, unseen ones dashed. What was seen may also be a
leap, several moves of which nobody saw the first ones, or odd: what no number of moves leads to.
The moves there are, are those of ``lifecycle``. The one rule: every text is escaped here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import hypot
from typing import Final

from oceanmock.conformance.model import Result
from oceanmock.conformance.reports import texts
from oceanmock.engine.machine import (
    StateMachine,
    Transition,
    can_follow,
    format_label,
    parse_label,
)
from oceanmock.obshell import transitions as obshell_transitions
from oceanmock.ocp import transitions as ocp_transitions
from oceanmock.text import plural

MACHINES: Final[Mapping[str, Mapping[str, StateMachine]]] = {
    "ocp": ocp_transitions.MACHINES,
    "obshell": obshell_transitions.MACHINES,
}
MOST_STRANGERS: Final = 6
"""How many states are drawn that the contract does not know."""

# --- what is drawn --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """From one shown word to another; no cause where that is not a single move of the contract.

    ``is_odd``: no number of moves leads there.
    """

    before: str
    after: str
    by: tuple[str, ...]
    seen: int
    is_odd: bool = False

    @property
    def states(self) -> tuple[str, str]:
        """The states it moves between, without the operations."""
        return state_of(self.before), state_of(self.after)


@dataclass(frozen=True, slots=True)
class Diagram:
    """One kind's: its states, how often each was shown, and every step."""

    kind: str
    shown: Mapping[str, int]
    steps: Sequence[Step]

    @property
    def of_contract(self) -> list[Step]:
        """The steps that are moves of the contract."""
        return [each for each in self.steps if each.by]

    @property
    def walked(self) -> int:
        """How many of the contract's moves were seen."""
        return sum(each.seen > 0 for each in self.of_contract)


def state_of(word: str) -> str:
    """`FAILED` of `FAILED/RUN`."""
    return word.partition("/")[0]


def how(step: Step) -> str:
    """What makes the step, or what is the matter with it."""
    if step.is_odd:
        return "cannot follow"
    return ", ".join(step.by) or "several moves"


def diagrams_of(result: Result) -> list[Diagram]:
    """A diagram per kind of the API, in the contract's order; then any the result has besides."""
    machines = MACHINES[result.api]
    kinds = dict.fromkeys([*machines, *(kind for kind, _, _ in result.walked)])
    return [_diagram(kind, machines.get(kind), result) for kind in kinds]


def _diagram(kind: str, machine: StateMachine | None, result: Result) -> Diagram:
    seen = Counter({(b, a): n for (k, b, a), n in result.walked.items() if k == kind and b != a})
    causes: dict[tuple[str, str], list[str]] = {}
    for edge in _edges_of(machine, seen):
        pair = format_label(edge.before), format_label(edge.after)
        causes.setdefault(pair, []).append(edge.trigger)
    steps = [
        Step(*pair, tuple(dict.fromkeys(causes.get(pair, ()))), seen[pair], _is_odd(machine, *pair))
        for pair in dict.fromkeys([*causes, *sorted(seen)])
    ]
    times: Counter[str] = Counter()
    for (of, word), number in result.shown.items():
        if of == kind:
            times[state_of(word)] += number
    for step in steps:
        for state in step.states:
            times.setdefault(state, 0)
    return Diagram(kind, dict(times), steps)


def _edges_of(
    machine: StateMachine | None, seen: Mapping[tuple[str, str], int]
) -> Iterator[Transition]:
    """The moves of a kind; those that need something switched on only where they were seen."""
    for edge in machine.transitions if machine else ():
        if not edge.only or (format_label(edge.before), format_label(edge.after)) in seen:
            yield edge


def _is_odd(machine: StateMachine | None, before: str, after: str) -> bool:
    """Whether the one cannot follow the other, however long nobody looks."""
    if machine is None or "/" not in before or "/" not in after:
        return True
    return not can_follow(machine, parse_label(before), parse_label(after))


# --- where it is drawn ----------------------------------------------------------------------------

Place = tuple[int, int]
Point = tuple[float, float]

_PLACES: Final[Mapping[str, Place]] = {
    "PENDING": (0, 1),
    "READY": (1, 1),
    "RUNNING": (2, 1),
    "CANCELING": (3, 1),
    "SUCCESSFUL": (2, 0),
    "SUCCEED": (2, 0),
    "FAILED": (2, 2),
    "ABORTED": (3, 2),
}
"""State → column and row; what is not here stands in a row below."""
_COLUMN: Final = 210
_ROW: Final = 124
_WIDTH: Final = 124
_HEIGHT: Final = 44
_MARGIN: Final = 16
_APART: Final = 8
"""How far an edge keeps from the boxes it does not belong to."""


@dataclass(frozen=True, slots=True)
class _Edge:
    """All steps from one state to another."""

    before: str
    after: str
    steps: list[Step] = field(default_factory=list)

    @property
    def seen(self) -> int:
        return sum(each.seen for each in self.steps)

    @property
    def is_counted(self) -> bool:
        """Whether it says how often it was seen; a leap says it only when it is pointed at."""
        return self.seen > 0 and self.style != "leap"

    @property
    def style(self) -> str:
        if any(each.is_odd for each in self.steps):
            return "odd"
        if not any(each.by for each in self.steps):
            return "leap"
        return "seen" if self.seen else "unseen"


def draw(diagram: Diagram) -> str:
    """The diagram as an SVG element; its colours are the page's."""
    places = _places(list(diagram.shown))
    edges = [edge for edge in _edges(diagram) if {edge.before, edge.after} <= set(places)]
    curves = [_curve(edge, places) for edge in edges]
    drawn = [_edge_shape(edge, curve) for edge, curve in zip(edges, curves, strict=True)]
    drawn += [_node_shape(state, place, diagram.shown[state]) for state, place in places.items()]
    drawn += [_edge_label(e, curve) for e, curve in zip(edges, curves, strict=True) if e.is_counted]
    left, top, width, height = _frame(places, curves)
    title = escape(f"States of a {texts.clean(diagram.kind)}, and the steps between them")
    return (
        f'<svg class="diagram" viewBox="{left} {top} {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{title}">{"".join(drawn)}</svg>'
    )


def _frame(places: Mapping[str, Place], curves: Sequence[Curve]) -> tuple[int, int, int, int]:
    """Left, top, width and height of what holds every box and every curve."""
    points = [point for curve in curves for point in curve.points]
    points += [(x - _WIDTH / 2, y - _HEIGHT / 2) for x, y in places.values()]
    points += [(x + _WIDTH / 2, y + _HEIGHT / 2) for x, y in places.values()]
    xs, ys = [x for x, _ in points] or [0], [y for _, y in points] or [0]
    left, top = int(min(xs)) - _MARGIN, int(min(ys)) - _MARGIN
    return left, top, int(max(xs)) + _MARGIN - left, int(max(ys)) + _MARGIN - top


def _places(states: Sequence[str]) -> dict[str, Place]:
    """The middle of each state's box; empty columns and rows are left out."""
    known = [each for each in states if each in _PLACES]
    columns = sorted({_PLACES[each][0] for each in known})
    rows = sorted({_PLACES[each][1] for each in known})
    found = {}
    for state in known:
        column, row = _PLACES[state]
        found[state] = _middle(columns.index(column), rows.index(row))
    strangers = [each for each in states if each not in _PLACES][:MOST_STRANGERS]
    for place, state in enumerate(strangers):
        found[state] = _middle(place, len(rows))
    return found


def _middle(column: int, row: int) -> Place:
    return column * _COLUMN, row * _ROW


def _edges(diagram: Diagram) -> Iterator[_Edge]:
    """Steps joined by their states; those that matter last, so that they are on top."""
    grouped: defaultdict[tuple[str, str], list[Step]] = defaultdict(list)
    for step in diagram.steps:
        grouped[step.states].append(step)
    yield from sorted((_Edge(*ends, steps) for ends, steps in grouped.items()), key=_weight)


def _weight(edge: _Edge) -> tuple[int, int]:
    return ("leap", "unseen", "seen", "odd").index(edge.style), edge.seen


# --- curves ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Curve:
    """A cubic curve from border to border; ``points`` lie on it, the last is its tip."""

    start: Point
    first: Point
    second: Point
    end: Point

    @property
    def points(self) -> list[Point]:
        return [self.at(step / 12) for step in range(13)]

    def at(self, t: float) -> Point:
        """The point at a share of the way."""
        weights = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
        corners = (self.start, self.first, self.second, self.end)
        x, y = (sum(w * c[axis] for w, c in zip(weights, corners, strict=True)) for axis in (0, 1))
        return x, y


def _curve(edge: _Edge, places: Mapping[str, Place]) -> Curve:
    """The flattest curve that passes no other box; those there and back bend to different sides."""
    x, y = places[edge.before]
    top = y - _HEIGHT / 2
    if edge.before == edge.after:
        return Curve((x - 22, top), (x - 36, top - 38), (x + 36, top - 38), (x + 22, top))
    others = [place for state, place in places.items() if state not in (edge.before, edge.after)]
    bent = (_bent((x, y), places[edge.after], 0.12 + 0.1 * step) for step in range(9))
    curves = list(bent)
    return next((each for each in curves if _is_clear(each, others)), curves[0])


def _bent(start: Place, end: Place, bow: float) -> Curve:
    across, down = end[0] - start[0], end[1] - start[1]
    off = 26 / (hypot(across, down) or 1) + bow
    control = (
        (start[0] + end[0]) / 2 + down * off,
        (start[1] + end[1]) / 2 - across * off,
    )
    first, last = _border(start, control), _border(end, control)
    return Curve(first, _towards(first, control), _towards(last, control), last)


def _towards(point: Point, control: Point) -> Point:
    """Two thirds of the way: a quadratic curve's control, as a cubic one has it."""
    return point[0] + (control[0] - point[0]) * 2 / 3, point[1] + (control[1] - point[1]) * 2 / 3


def _is_clear(curve: Curve, others: Sequence[Place]) -> bool:
    return not any(
        abs(x - ox) < _WIDTH / 2 + _APART and abs(y - oy) < _HEIGHT / 2 + _APART
        for x, y in curve.points
        for ox, oy in others
    )


def _border(middle: Place, towards: Point) -> Point:
    """Where the line from a box's middle towards a point leaves the box."""
    across, down = towards[0] - middle[0], towards[1] - middle[1]
    scale = min(
        (_WIDTH / 2 + 2) / abs(across) if across else 99,
        (_HEIGHT / 2 + 2) / abs(down) if down else 99,
    )
    return middle[0] + across * scale, middle[1] + down * scale


# --- shapes ---------------------------------------------------------------------------------------


def _node_shape(state: str, place: Place, shown: int) -> str:
    x, y = place
    style = "met" if shown else "unmet"
    if state not in _PLACES:
        style += " stranger"
    name = escape(texts.line(state)[:16])
    told = escape(f"{texts.line(state)}: shown {plural(shown, 'time')}")
    return (
        f'<g class="node {style}"><title>{told}</title>'
        f'<rect x="{x - _WIDTH // 2}" y="{y - _HEIGHT // 2}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'rx="10"/><text x="{x}" y="{y - 2}">{name}</text>'
        f'<text class="times" x="{x}" y="{y + 14}">{f"×{shown:,}" if shown else "not shown"}</text>'
        "</g>"
    )


def _edge_shape(edge: _Edge, curve: Curve) -> str:
    told = escape("\n".join(map(_told, edge.steps)))
    corners = (curve.start, curve.first, curve.second, curve.end)
    start, first, second, end = (f"{x:.1f},{y:.1f}" for x, y in corners)
    return (
        f'<g class="edge {edge.style}"><title>{told}</title>'
        f'<path d="M{start} C{first} {second} {end}"/>'
        f'<polygon points="{_tip(curve)}"/></g>'
    )


def _tip(curve: Curve) -> str:
    """The corners of the arrow's head."""
    (x, y), (from_x, from_y) = curve.end, curve.second
    length = hypot(x - from_x, y - from_y) or 1
    along, down = (x - from_x) / length * 9, (y - from_y) / length * 9
    left = (x - along - down / 2, y - down + along / 2)
    right = (x - along + down / 2, y - down - along / 2)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in ((x, y), left, right))


def _told(step: Step) -> str:
    seen = f"seen {plural(step.seen, 'time')}" if step.seen else "not seen"
    return f"{texts.line(step.before)} → {texts.line(step.after)} ({how(step)}): {seen}"


def _edge_label(edge: _Edge, curve: Curve) -> str:
    """How often it was seen, on the middle of the curve."""
    x, y = curve.at(0.5)
    text = f"{edge.seen:,}"
    wide = 10 + 7 * len(text)
    return (
        f'<g class="label {edge.style}"><rect x="{x - wide / 2:.1f}" y="{y - 9:.1f}" '
        f'width="{wide}" height="18" rx="9"/><text x="{x:.1f}" y="{y + 4:.1f}">{text}</text></g>'
    )
