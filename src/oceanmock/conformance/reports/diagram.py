"""Draw the transitions that a run observed as SVG state diagrams.

A node is a state, in the API's own word; an edge is every transition between two states, whatever
the operation. Observed edges are solid and counted, others dashed. An observed change may also be a
*leap* (several transitions between two reads) or *odd* (no transitions lead there). The transitions
are those of the API's state machines. Every text is escaped here. Points are complex numbers: x and
y of the picture, y downwards.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from oceanmock.apis import api_named
from oceanmock.conformance import reports
from oceanmock.conformance.model import Result
from oceanmock.engine.machine import format_label, parse_label, reachable
from oceanmock.text import plural

MAX_UNKNOWN_STATES: Final = 6
"""The number of states unknown to the contract that are drawn."""


@dataclass(frozen=True, slots=True)
class Move:
    """A change between two labels; ``triggers`` is empty if no single transition makes it."""

    before: str
    after: str
    triggers: tuple[str, ...]
    count: int
    is_odd: bool

    @property
    def states(self) -> tuple[str, str]:
        """Return the states, without the operations."""
        return self.before.partition("/")[0], self.after.partition("/")[0]

    @property
    def cause(self) -> str:
        """Return what causes the change, or why nothing does."""
        if self.is_odd:
            return "cannot follow"
        return ", ".join(self.triggers) or "several transitions"


@dataclass(frozen=True, slots=True)
class Diagram:
    """One kind: how often each state was observed, which are terminal, and every change."""

    kind: str
    states: Mapping[str, int]
    known: Sequence[str]
    terminal: Collection[str]
    moves: Sequence[Move]

    @property
    def observed(self) -> int:
        """Return how many of the contract's transitions were observed."""
        return sum(move.count > 0 for move in self.moves if move.triggers)


def diagrams_of(result: Result) -> list[Diagram]:
    """Return a diagram per kind of the API, then one for any other kind in the result."""
    kinds = [*api_named(result.api).states.MACHINES, *(kind for kind, _, _ in result.walked)]
    return [_diagram(kind, result) for kind in dict.fromkeys(kinds)]


def _diagram(name: str, result: Result) -> Diagram:
    api = api_named(result.api)
    machine = api.states.MACHINES.get(name)
    counts = Counter({(b, a): n for (k, b, a), n in result.walked.items() if k == name and b != a})
    triggers: dict[tuple[str, str], list[str]] = {}
    for item in machine.transitions if machine else ():
        pair = format_label(item.before), format_label(item.after)
        if not item.only or pair in counts:  # one that needs a switch is drawn only if observed
            triggers.setdefault(pair, []).append(item.trigger)
    moves = []
    for before, after in dict.fromkeys([*triggers, *sorted(counts)]):
        is_odd = machine is None or "/" not in before or "/" not in after
        is_odd = is_odd or parse_label(after) not in reachable(machine, parse_label(before))
        causes = tuple(dict.fromkeys(triggers.get((before, after), ())))
        moves.append(Move(before, after, causes, counts[before, after], is_odd))
    states = Counter({state: 0 for move in moves for state in move.states})
    for (kind, label), count in result.shown.items():
        if kind == name:
            states[label.partition("/")[0]] += count
    record = next((item for item in api.kinds if item.name == name), None)
    known, terminal = (record.states, record.terminal_states) if record else ((), ())
    return Diagram(name, states, known, terminal, moves)


COLUMN: Final = 210
ROW: Final = 124
BOX: Final = complex(124, 44)
MARGIN: Final = 16
LIMIT: Final = BOX / 2 + complex(8, 8)
"""The distance that an edge keeps from the middle of boxes it does not belong to."""


def _places(diagram: Diagram) -> dict[str, complex]:
    """Return the middle of each box: running states in a row, then a column of terminal ones."""
    known = [state for state in diagram.known if state in diagram.states]
    running = [state for state in known if state not in diagram.terminal]
    terminal = [state for state in known if state in diagram.terminal]
    places = {state: complex(column * COLUMN, ROW) for column, state in enumerate(running)}
    distance = 2 * ROW if len(terminal) == 2 else ROW
    for row, state in enumerate(terminal):
        places[state] = complex(len(running) * COLUMN, row * distance)
    unknown = [state for state in diagram.states if state not in known][:MAX_UNKNOWN_STATES]
    for column, state in enumerate(unknown):
        places[state] = complex(column * COLUMN, 3 * ROW)
    return places


@dataclass(frozen=True, slots=True)
class Curve:
    """A quadratic curve between two boxes, with its control point."""

    start: complex
    control: complex
    end: complex

    def at(self, t: float) -> complex:
        """Return the point at a share of the way."""
        return (1 - t) ** 2 * self.start + 2 * (1 - t) * t * self.control + t * t * self.end

    def points(self) -> list[complex]:
        """Return points along the curve, from its start to its tip."""
        return [self.at(step / 12) for step in range(13)]


def _curve(before: str, after: str, places: Mapping[str, complex]) -> Curve:
    """Return the flattest curve that passes no other box; opposite edges bend to opposite sides."""
    start, end = places[before], places[after]
    if before == after:
        top = start - BOX.imag / 2 * 1j
        return Curve(top - 22, top - 57j, top + 22)
    others = [place for state, place in places.items() if state not in (before, after)]
    way, curves = end - start, list[Curve]()
    for bow in range(9):
        control = (start + end) / 2 - 1j * way * (26 / abs(way) + 0.12 + 0.1 * bow)
        curve = Curve(_border(start, control), control, _border(end, control))
        curves.append(curve)
        offsets = [point - place for point in curve.points() for place in others]
        if not any(abs(o.real) < LIMIT.real and abs(o.imag) < LIMIT.imag for o in offsets):
            return curve
    return curves[0]


def _border(middle: complex, towards: complex) -> complex:
    """Return where the line from a box's middle towards a point leaves the box."""
    way = towards - middle
    across, down = abs(way.real) / (BOX.real / 2 + 2), abs(way.imag) / (BOX.imag / 2 + 2)
    return middle + way / max(across, down)


def draw(diagram: Diagram) -> str:
    """Return the diagram as an SVG element; its colours are the page's."""
    places = _places(diagram)
    edges = defaultdict[tuple[str, str], list[Move]](list)
    for move in diagram.moves:
        if places.keys() >= set(move.states):
            edges[move.states].append(move)
    points = [place + corner for place in places.values() for corner in (-BOX / 2, BOX / 2)]
    paths, labels = list[str](), list[str]()
    styles = {ends: _style(moves) for ends, moves in edges.items()}
    counts = {ends: sum(move.count for move in moves) for ends, moves in edges.items()}
    for ends in sorted(edges, key=lambda ends: (STYLES.index(styles[ends]), counts[ends])):
        curve, style, count, moves = _curve(*ends, places), styles[ends], counts[ends], edges[ends]
        points += curve.points()
        paths.append(_path(curve, moves, style))
        if count and style != "leap":  # which has it in its title only
            labels.append(_label(curve.at(0.5), f"{count:,}", style))
    nodes = [_node(diagram, state, place) for state, place in places.items()]
    xs, ys = [point.real for point in points] or [0], [point.imag for point in points] or [0]
    x, y = int(min(xs)) - MARGIN, int(min(ys)) - MARGIN
    width, height = int(max(xs)) + MARGIN - x, int(max(ys)) + MARGIN - y
    title = escape(f"States of a {reports.clean(diagram.kind)}, and the transitions between them")
    return (
        f'<svg class="diagram" viewBox="{x} {y} {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{title}">{"".join(paths + nodes + labels)}</svg>'
    )


def _style(moves: Sequence[Move]) -> str:
    if any(move.is_odd for move in moves):
        return "odd"
    if not any(move.triggers for move in moves):
        return "leap"
    return "seen" if any(move.count for move in moves) else "unseen"


STYLES: Final = ("leap", "unseen", "seen", "odd")
"""The order of drawing: the important edges last, so that they are on top."""


def _node(diagram: Diagram, state: str, place: complex) -> str:
    count, corner = diagram.states[state], place - BOX / 2
    style = "observed" if count else "unobserved"
    if state not in diagram.known:
        style += " unknown"
    name = escape(reports.line(state)[:16])
    title = escape(f"{reports.line(state)}: observed {plural(count, 'time')}")
    label = f"×{count:,}" if count else "not observed"
    return (
        f'<g class="node {style}"><title>{title}</title>'
        f'<rect x="{corner.real:g}" y="{corner.imag:g}" width="{BOX.real:g}" '
        f'height="{BOX.imag:g}" rx="10"/>'
        f'<text x="{place.real:g}" y="{place.imag - 2:g}">{name}</text>'
        f'<text class="times" x="{place.real:g}" y="{place.imag + 14:g}">{label}</text></g>'
    )


def _path(curve: Curve, moves: Sequence[Move], style: str) -> str:
    """Return a curve with its arrow's head."""
    lines = []
    for move in moves:
        count = f"observed {plural(move.count, 'time')}" if move.count else "not observed"
        change = f"{reports.line(move.before)} → {reports.line(move.after)}"
        lines.append(f"{change} ({move.cause}): {count}")
    title = escape("\n".join(lines))
    way = curve.end - curve.control
    back = curve.end - 9 * way / abs(way)
    side = (curve.end - back) / 2 * 1j
    head = " ".join(map(_xy, (curve.end, back + side, back - side)))
    return (
        f'<g class="edge {style}"><title>{title}</title>'
        f'<path d="M{_xy(curve.start)} Q{_xy(curve.control)} {_xy(curve.end)}"/>'
        f'<polygon points="{head}"/></g>'
    )


def _label(middle: complex, text: str, style: str) -> str:
    width = 10 + 7 * len(text)
    return (
        f'<g class="label {style}"><rect x="{middle.real - width / 2:.1f}" '
        f'y="{middle.imag - 9:.1f}" width="{width}" height="18" rx="9"/>'
        f'<text x="{middle.real:.1f}" y="{middle.imag + 4:.1f}">{text}</text></g>'
    )


def _xy(point: complex) -> str:
    return f"{point.real:.1f},{point.imag:.1f}"
