"""Draw the transitions that a run observed as SVG state diagrams.

A node is a state, in the API's own word; an edge is every transition between two states, whatever
the operation. Observed edges are solid and counted, others dashed. An observed change may also be a
*leap* (several transitions between two reads) or *odd* (no transitions lead there). The transitions
are those of the API's state machines. Every text is escaped here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import hypot
from typing import Final, Literal

from oceanmock.apis import api_named
from oceanmock.conformance.model import Result
from oceanmock.conformance.reports import texts
from oceanmock.engine.machine import StateMachine, can_follow, format_label, parse_label
from oceanmock.text import plural

MAX_UNKNOWN_STATES: Final = 6
"""The number of states unknown to the contract that are drawn."""

# --- steps ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """A change between two labels; ``triggers`` is empty if no single transition makes it."""

    before: str
    after: str
    triggers: tuple[str, ...]
    count: int
    is_odd: bool = False

    @property
    def states(self) -> tuple[str, str]:
        """Return the states, without the operations."""
        return _state_of(self.before), _state_of(self.after)

    @property
    def cause(self) -> str:
        """Return what causes the step, or why nothing does."""
        if self.is_odd:
            return "cannot follow"
        return ", ".join(self.triggers) or "several transitions"


@dataclass(frozen=True, slots=True)
class Diagram:
    """One kind: how often each state was observed, which are terminal, and every step."""

    kind: str
    states: Mapping[str, int]
    known: Sequence[str]
    terminal: frozenset[str]
    steps: Sequence[Step]

    @property
    def transitions(self) -> list[Step]:
        """Return the steps that are transitions of the contract."""
        return [item for item in self.steps if item.triggers]

    @property
    def observed(self) -> int:
        """Return how many of the contract's transitions were observed."""
        return sum(item.count > 0 for item in self.transitions)


def _state_of(label: str) -> str:
    return label.partition("/")[0]


def diagrams_of(result: Result) -> list[Diagram]:
    """Return a diagram per kind of the API, then one for any other kind in the result."""
    api = api_named(result.api)
    machines = api.states.MACHINES
    kinds = {item.name: item for item in api.kinds}
    names = dict.fromkeys([*machines, *(kind for kind, _, _ in result.walked)])
    return [
        _diagram(
            name,
            machines.get(name),
            result,
            known=kinds[name].states if name in kinds else (),
            terminal=kinds[name].terminal_states if name in kinds else frozenset(),
        )
        for name in names
    ]


def _diagram(
    kind: str,
    machine: StateMachine | None,
    result: Result,
    *,
    known: Sequence[str],
    terminal: frozenset[str],
) -> Diagram:
    counts = Counter({(b, a): n for (k, b, a), n in result.walked.items() if k == kind and b != a})
    triggers: dict[tuple[str, str], list[str]] = {}
    for item in machine.transitions if machine else ():
        pair = format_label(item.before), format_label(item.after)
        if not item.only or pair in counts:  # one that needs a switch is drawn only if observed
            triggers.setdefault(pair, []).append(item.trigger)
    steps = [
        Step(
            *pair,
            tuple(dict.fromkeys(triggers.get(pair, ()))),
            counts[pair],
            is_odd=_is_odd(machine, *pair),
        )
        for pair in dict.fromkeys([*triggers, *sorted(counts)])
    ]
    states: Counter[str] = Counter({state: 0 for step in steps for state in step.states})
    for (name, label), count in result.shown.items():
        if name == kind:
            states[_state_of(label)] += count
    return Diagram(kind, dict(states), known, terminal, steps)


def _is_odd(machine: StateMachine | None, before: str, after: str) -> bool:
    if machine is None or "/" not in before or "/" not in after:
        return True
    return not can_follow(machine, parse_label(before), parse_label(after))


# --- layout ---------------------------------------------------------------------------------------

Place = tuple[int, int]
Point = tuple[float, float]

_COLUMN: Final = 210
_ROW: Final = 124
_WIDTH: Final = 124
_HEIGHT: Final = 44
_MARGIN: Final = 16
_GAP: Final = 8
"""The distance that an edge keeps from boxes it does not belong to."""

Style = Literal["leap", "unseen", "seen", "odd"]


@dataclass(frozen=True, slots=True)
class _Edge:
    """All steps from one state to another."""

    before: str
    after: str
    steps: list[Step] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(item.count for item in self.steps)

    @property
    def is_counted(self) -> bool:
        """Return whether the count is drawn; a leap has it in its title only."""
        return self.count > 0 and self.style != "leap"

    @property
    def style(self) -> Style:
        if any(item.is_odd for item in self.steps):
            return "odd"
        if not any(item.triggers for item in self.steps):
            return "leap"
        return "seen" if self.count else "unseen"


def draw(diagram: Diagram) -> str:
    """Return the diagram as an SVG element; its colours are the page's."""
    places = _places(diagram)
    edges = [edge for edge in _edges(diagram) if {edge.before, edge.after} <= set(places)]
    curves = [_curve(edge, places) for edge in edges]
    shapes = [_edge_shape(edge, curve) for edge, curve in zip(edges, curves, strict=True)]
    shapes += [_node_shape(diagram, state, place) for state, place in places.items()]
    shapes += [
        _edge_label(e, curve) for e, curve in zip(edges, curves, strict=True) if e.is_counted
    ]
    points = [point for curve in curves for point in curve.points]
    for x, y in places.values():
        points += [(x - _WIDTH / 2, y - _HEIGHT / 2), (x + _WIDTH / 2, y + _HEIGHT / 2)]
    xs, ys = [x for x, _ in points] or [0], [y for _, y in points] or [0]
    left, top = int(min(xs)) - _MARGIN, int(min(ys)) - _MARGIN
    width, height = int(max(xs)) + _MARGIN - left, int(max(ys)) + _MARGIN - top
    title = escape(f"States of a {texts.clean(diagram.kind)}, and the transitions between them")
    return (
        f'<svg class="diagram" viewBox="{left} {top} {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{title}">{"".join(shapes)}</svg>'
    )


def _places(diagram: Diagram) -> dict[str, Place]:
    """Return the middle of each box: running states in a row, then a column of terminal ones."""
    known = [state for state in diagram.known if state in diagram.states]
    running = [state for state in known if state not in diagram.terminal]
    ended = [state for state in known if state in diagram.terminal]
    places = {state: (column * _COLUMN, _ROW) for column, state in enumerate(running)}
    step = 2 if len(ended) == 2 else 1
    for row, state in enumerate(ended):
        places[state] = len(running) * _COLUMN, row * step * _ROW
    unknown = [state for state in diagram.states if state not in known][:MAX_UNKNOWN_STATES]
    for column, state in enumerate(unknown):
        places[state] = column * _COLUMN, 3 * _ROW
    return places


def _edges(diagram: Diagram) -> Iterator[_Edge]:
    """Yield steps grouped by their states; the important ones last, so that they are on top."""
    grouped: defaultdict[tuple[str, str], list[Step]] = defaultdict(list)
    for step in diagram.steps:
        grouped[step.states].append(step)
    order: Sequence[Style] = ("leap", "unseen", "seen", "odd")
    edges = (_Edge(*ends, steps) for ends, steps in grouped.items())
    yield from sorted(edges, key=lambda edge: (order.index(edge.style), edge.count))


# --- curves ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Curve:
    """A cubic curve between two boxes; ``points`` lie on it, the last is its tip."""

    start: Point
    first: Point
    second: Point
    end: Point

    @property
    def points(self) -> list[Point]:
        return [self.at(step / 12) for step in range(13)]

    def at(self, t: float) -> Point:
        """Return the point at a share of the way."""
        weights = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
        corners = (self.start, self.first, self.second, self.end)
        x, y = (sum(w * c[axis] for w, c in zip(weights, corners, strict=True)) for axis in (0, 1))
        return x, y


def _curve(edge: _Edge, places: Mapping[str, Place]) -> Curve:
    """Return the flattest curve that passes no other box; opposite edges bend to opposite sides."""
    x, y = places[edge.before]
    top = y - _HEIGHT / 2
    if edge.before == edge.after:
        return Curve((x - 22, top), (x - 36, top - 38), (x + 36, top - 38), (x + 22, top))
    others = [place for state, place in places.items() if state not in (edge.before, edge.after)]
    curves = [_bent((x, y), places[edge.after], 0.12 + 0.1 * step) for step in range(9)]
    return next((item for item in curves if _is_clear(item, others)), curves[0])


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
    """Return a quadratic curve's control point as a cubic one's: two thirds of the way."""
    return point[0] + (control[0] - point[0]) * 2 / 3, point[1] + (control[1] - point[1]) * 2 / 3


def _is_clear(curve: Curve, others: Sequence[Place]) -> bool:
    return not any(
        abs(x - ox) < _WIDTH / 2 + _GAP and abs(y - oy) < _HEIGHT / 2 + _GAP
        for x, y in curve.points
        for ox, oy in others
    )


def _border(middle: Place, towards: Point) -> Point:
    """Return where the line from a box's middle towards a point leaves the box."""
    across, down = towards[0] - middle[0], towards[1] - middle[1]
    scale = min(
        (_WIDTH / 2 + 2) / abs(across) if across else 99,
        (_HEIGHT / 2 + 2) / abs(down) if down else 99,
    )
    return middle[0] + across * scale, middle[1] + down * scale


# --- shapes ---------------------------------------------------------------------------------------


def _node_shape(diagram: Diagram, state: str, place: Place) -> str:
    (x, y), count = place, diagram.states[state]
    style = "observed" if count else "unobserved"
    if state not in diagram.known:
        style += " unknown"
    name = escape(texts.line(state)[:16])
    title = escape(f"{texts.line(state)}: observed {plural(count, 'time')}")
    label = f"×{count:,}" if count else "not observed"
    return (
        f'<g class="node {style}"><title>{title}</title>'
        f'<rect x="{x - _WIDTH // 2}" y="{y - _HEIGHT // 2}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'rx="10"/><text x="{x}" y="{y - 2}">{name}</text>'
        f'<text class="times" x="{x}" y="{y + 14}">{label}</text>'
        "</g>"
    )


def _edge_shape(edge: _Edge, curve: Curve) -> str:
    title = escape("\n".join(map(_step_text, edge.steps)))
    corners = (curve.start, curve.first, curve.second, curve.end)
    start, first, second, end = (f"{x:.1f},{y:.1f}" for x, y in corners)
    return (
        f'<g class="edge {edge.style}"><title>{title}</title>'
        f'<path d="M{start} C{first} {second} {end}"/>'
        f'<polygon points="{_tip(curve)}"/></g>'
    )


def _tip(curve: Curve) -> str:
    """Return the corners of the arrow's head."""
    (x, y), (from_x, from_y) = curve.end, curve.second
    length = hypot(x - from_x, y - from_y) or 1
    along, down = (x - from_x) / length * 9, (y - from_y) / length * 9
    left = (x - along - down / 2, y - down + along / 2)
    right = (x - along + down / 2, y - down - along / 2)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in ((x, y), left, right))


def _step_text(step: Step) -> str:
    count = f"observed {plural(step.count, 'time')}" if step.count else "not observed"
    return f"{texts.line(step.before)} → {texts.line(step.after)} ({step.cause}): {count}"


def _edge_label(edge: _Edge, curve: Curve) -> str:
    """Return the count, on the middle of the curve."""
    x, y = curve.at(0.5)
    text = f"{edge.count:,}"
    wide = 10 + 7 * len(text)
    return (
        f'<g class="label {edge.style}"><rect x="{x - wide / 2:.1f}" y="{y - 9:.1f}" '
        f'width="{wide}" height="18" rx="9"/><text x="{x:.1f}" y="{y + 4:.1f}">{text}</text></g>'
    )
