"""Render results as one HTML page without scripts, fonts, pictures or requests: ``page.html``, with ``page.css``.

Sections fold with `details`, and the filters are style sheets; the reader chooses light or dark. A server may respond
with anything, so every text is made clean and is escaped, and a policy in the page forbids scripts and requests.

The transitions that a run observed are SVG state diagrams. A node is a state, in the API's own word; an edge is every
transition between two states, whatever the operation. Observed edges are solid and counted, others dashed. An observed
change may also be a *leap* (several transitions between two reads) or *odd* (no transitions lead there). Points are
complex numbers: x and y of the picture, y downwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from oceanmock import __version__
from oceanmock.checks import HeaderFields
from oceanmock.conformance import reports
from oceanmock.conformance.checks import all_rules
from oceanmock.conformance.model import NO_RESPONSE, Result
from oceanmock.text import escape_unprintable, format_elapsed, plural

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
MAX_ROWS: Final = 500
"""The number of changes, and of places of a cause, that are listed one by one."""
MAX_OPEN_PLACES: Final = 5
"""The number of places of a cause that are not folded."""
MAX_UNKNOWN_STATES: Final = 6
"""The number of states unknown to the contract that are drawn."""
COLUMN: Final = 210
ROW: Final = 124
BOX: Final = complex(124, 44)
MARGIN: Final = 16
LIMIT: Final = BOX / 2 + complex(8, 8)
"""The distance that an edge keeps from the middle of boxes it does not belong to."""
Curve = tuple[complex, complex, complex]
"""A quadratic curve between two boxes: its start, control point and end."""
EDGE_STYLES: Final = ("leap", "unseen", "seen", "odd")
"""The order of drawing: the important edges last, so that they are on top."""
UNCOUNTED_SECTIONS: Final = ("operations", "rules", "diagrams")
"""Sections of every run. The others show the field of a result that has their name; all but findings may be empty."""


def render(results: Sequence[Result]) -> str:
    """Return the page."""
    code = reports.exit_code(results)
    template = _environment().get_template("page.html")
    return template.render(results=results, exit_code=code, verdict=reports.VERDICTS[code]).lstrip()


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Return what renders the page: every text that it shows is clean and escaped."""

    def cleaned(value: Any) -> Any:
        return reports.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        autoescape=True,
        finalize=cleaned,
        loader=loader,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    functions = (draw, facts, message_head, names_of, rules_by_outcome, tiles, violated, format_elapsed, plural)
    environment.globals |= {function.__name__: function for function in functions}
    environment.globals |= {
        "reports": reports,
        "version": __version__,
        "POLICY": POLICY,
        "MAX_ROWS": MAX_ROWS,
        "MAX_OPEN_PLACES": MAX_OPEN_PLACES,
        "UNCOUNTED": UNCOUNTED_SECTIONS,
        "EVERY_SECTION": ("findings", *UNCOUNTED_SECTIONS),
    }
    filters = {"names_of": names_of, "server_name": reports.server_name, "status_name": reports.status_name}
    environment.filters |= filters
    environment.tests["accepted"] = reports.is_accepted
    return environment


def tiles(result: Result) -> list[tuple[str, str, str]]:
    """Return number, label and tone of each count at the head of a run."""
    lines = list(reports.rule_lines(result))
    rules = {*all_rules(result.api), *(item.rule for item in lines)}
    succeeded, operations = reports.observed(result)["operations"]
    return [
        (f"{len(reports.causes(result.findings, result.api)):,}", "causes", "bad" if result.findings else "good"),
        (f"{len(result.missing):,}", "statuses missing", "poor" if result.missing else "good"),
        (f"{len(result.known):,}", "known deviations", "plain"),
        (f"{succeeded} / {operations}", "operations succeeded", "plain"),
        (f"{sum(item.checks > 0 for item in lines)} / {len(rules)}", "rules checked", "plain"),
        (f"{result.request_count:,}", "requests", "plain"),
        (format_elapsed(result.took), "duration", "plain"),
    ]


def facts(result: Result) -> dict[str, str]:
    """Return what else is known of a run, by its name; some may be empty."""
    return {
        "Observed": reports.scope(result),
        "Not met": "; ".join(result.shortfalls),
        "Stopped by": result.stopped,
        "Seed": str(result.seed),
        "Started": result.started,
        "Phases": reports.phase_times(result),
        "Baseline": ", ".join(result.baselines),
        "Repeat": result.command,
    }


def names_of(result: Result) -> list[str]:
    """Return the operations at which there are findings, known or not."""
    return sorted({item.operation or "no operation" for item in (*result.findings, *result.known)})


def violated(result: Result) -> set[tuple[str, int]]:
    """Return operation and status of the responses that have a finding that is not known."""
    return {(item.operation, item.status or NO_RESPONSE) for item in result.findings}


def rules_by_outcome(result: Result) -> dict[str, list[tuple[reports.RuleLine, str]]]:
    """Return every rule of the API with its sentence, by what came of it; those with findings first, under ""."""
    rules = all_rules(result.api)
    lines = {item.rule: item for item in reports.rule_lines(result)}
    groups = {name: list[tuple[reports.RuleLine, str]]() for name in ("", "passed", "not checked")}
    for id in sorted({*rules, *lines}, key=lambda id: (id in lines and not lines[id].violations, id)):
        line = lines.get(id) or reports.RuleLine(id, 0, 0, 0)
        groups["" if line.violations or line.known else line.outcome].append(
            (line, rules[id].says if id in rules else "")
        )
    return {name: group for name, group in groups.items() if group}


def message_head(line: str, headers: HeaderFields) -> str:
    """Return the first line and the headers of a request or response."""
    fields = (f"{escape_unprintable(name)}: {escape_unprintable(value)}" for name, value in headers)
    return "\n".join([line, *fields])


def draw(diagram: reports.Diagram) -> str:
    """Return the diagram as an SVG element; its colours are the page's."""
    places = _places(diagram)
    edges = defaultdict[tuple[str, str], list[reports.Move]](list)
    for move in diagram.moves:
        if places.keys() >= set(move.states):
            edges[move.states].append(move)
    points = [place + corner for place in places.values() for corner in (-BOX / 2, BOX / 2)]
    paths, labels = list[str](), list[str]()
    styles = {ends: _edge_style(moves) for ends, moves in edges.items()}
    counts = {ends: sum(move.count for move in moves) for ends, moves in edges.items()}
    for ends in sorted(edges, key=lambda ends: (EDGE_STYLES.index(styles[ends]), counts[ends])):
        curve, style, count = _curve(*ends, places), styles[ends], f"{counts[ends]:,}"
        way = _points(*curve)
        points += way
        paths.append(_path(*curve, edges[ends], style))
        if counts[ends] and style != "leap":  # which has it in its title only
            middle, width = way[len(way) // 2], 10 + 7 * len(count)
            labels.append(
                f'<g class="label {style}"><rect x="{middle.real - width / 2:.1f}" '
                f'y="{middle.imag - 9:.1f}" width="{width}" height="18" rx="9"/>'
                f'<text x="{middle.real:.1f}" y="{middle.imag + 4:.1f}">{count}</text></g>'
            )
    nodes = [_node(diagram, state, place) for state, place in places.items()]
    xs, ys = [point.real for point in points] or [0], [point.imag for point in points] or [0]
    x, y = int(min(xs)) - MARGIN, int(min(ys)) - MARGIN
    width, height = int(max(xs)) + MARGIN - x, int(max(ys)) + MARGIN - y
    title = escape(reports.clean(f"States of a {diagram.kind}, and the transitions between them"))
    return (
        f'<svg class="diagram" viewBox="{x} {y} {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{title}">{"".join(paths + nodes + labels)}</svg>'
    )


def _places(diagram: reports.Diagram) -> dict[str, complex]:
    """Return the middle of each box: running states in a row, then a column of terminal ones."""
    known = [state for state in diagram.known if state in diagram.states]
    running = [state for state in known if state not in diagram.terminal]
    terminal = [state for state in known if state in diagram.terminal]
    unknown = [state for state in diagram.states if state not in known][:MAX_UNKNOWN_STATES]
    distance = 2 * ROW if len(terminal) == 2 else ROW
    return {
        **{state: complex(column * COLUMN, ROW) for column, state in enumerate(running)},
        **{state: complex(len(running) * COLUMN, row * distance) for row, state in enumerate(terminal)},
        **{state: complex(column * COLUMN, 3 * ROW) for column, state in enumerate(unknown)},
    }


def _curve(before: str, after: str, places: Mapping[str, complex]) -> Curve:
    """Return the flattest curve that passes no other box; opposite edges bend to opposite sides."""
    start, end = places[before], places[after]
    if before == after:
        top = start - BOX.imag / 2 * 1j
        return top - 22, top - 57j, top + 22
    others = [place for state, place in places.items() if state not in (before, after)]
    way, curves = end - start, list[Curve]()
    for bow in range(9):
        control = (start + end) / 2 - 1j * way * (26 / abs(way) + 0.12 + 0.1 * bow)
        curves.append((_border(start, control), control, _border(end, control)))
        offsets = [point - place for point in _points(*curves[-1]) for place in others]
        if not any(abs(o.real) < LIMIT.real and abs(o.imag) < LIMIT.imag for o in offsets):
            return curves[-1]
    return curves[0]


def _points(start: complex, control: complex, end: complex) -> list[complex]:
    """Return points along a curve, from its start to its tip."""
    shares = (step / 12 for step in range(13))
    return [(1 - t) ** 2 * start + 2 * (1 - t) * t * control + t * t * end for t in shares]


def _border(middle: complex, towards: complex) -> complex:
    """Return where the line from a box's middle towards a point leaves the box."""
    way = towards - middle
    across, down = abs(way.real) / (BOX.real / 2 + 2), abs(way.imag) / (BOX.imag / 2 + 2)
    return middle + way / max(across, down)


def _edge_style(moves: Sequence[reports.Move]) -> str:
    if any(move.is_odd for move in moves):
        return "odd"
    if not any(move.triggers for move in moves):
        return "leap"
    return "seen" if any(move.count for move in moves) else "unseen"


def _node(diagram: reports.Diagram, state: str, place: complex) -> str:
    count, corner = diagram.states[state], place - BOX / 2
    name, unknown = escape_unprintable(state), "" if state in diagram.known else " unknown"
    title = escape(f"{name}: observed {plural(count, 'time')}")
    return (
        f'<g class="node {"observed" if count else "unobserved"}{unknown}"><title>{title}</title>'
        f'<rect x="{corner.real:g}" y="{corner.imag:g}" width="{BOX.real:g}" height="{BOX.imag:g}" rx="10"/>'
        f'<text x="{place.real:g}" y="{place.imag - 2:g}">{escape(name[:16])}</text>'
        f'<text class="times" x="{place.real:g}" y="{place.imag + 14:g}">'
        f"{f'×{count:,}' if count else 'not observed'}</text></g>"
    )


def _path(start: complex, control: complex, end: complex, moves: Sequence[reports.Move], style: str) -> str:
    """Return a curve with its arrow's head."""
    lines = []
    for move in moves:
        count = f"observed {plural(move.count, 'time')}" if move.count else "not observed"
        lines.append(f"{escape_unprintable(f'{move.before} → {move.after}')} ({move.cause}): {count}")
    title = escape("\n".join(lines))
    way = end - control
    back = end - 9 * way / abs(way)
    side = (end - back) / 2 * 1j
    points = [f"{point.real:.1f},{point.imag:.1f}" for point in (start, control, end, back + side, back - side)]
    return (
        f'<g class="edge {style}"><title>{title}</title><path d="M{points[0]} Q{points[1]} {points[2]}"/>'
        f'<polygon points="{" ".join(points[2:])}"/></g>'
    )
