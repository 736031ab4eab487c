"""Render results as one HTML page without scripts, fonts, pictures or requests.

Sections fold with `details`; the reader chooses light or dark. A server may respond with anything, so every text goes
through ``_text``, and a policy in the page forbids scripts and requests. The style is ``page.css`` beside this module.

The transitions that a run observed are SVG state diagrams. A node is a state, in the API's own word; an edge is every
transition between two states, whatever the operation. Observed edges are solid and counted, others dashed. An observed
change may also be a *leap* (several transitions between two reads) or *odd* (no transitions lead there). Points are
complex numbers: x and y of the picture, y downwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from operator import attrgetter
from pathlib import Path
from typing import Final

from oceanmock import __version__
from oceanmock.checks import CheckResult, Exchange, HeaderFields
from oceanmock.conformance import reports
from oceanmock.conformance.checks import all_rules
from oceanmock.conformance.model import FAILED, INCOMPLETE, NO_RESPONSE, PASSED, Result
from oceanmock.text import escape_unprintable, format_elapsed, plural

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
MAX_ROWS: Final = 500
"""The number of changes that are listed one by one."""
MAX_OPEN_ROWS: Final = 20
"""The number of accepted changes up to which their list is open."""
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


def _text(text: object) -> str:
    """Return a text clean and escaped, for content and attributes."""
    return escape(reports.clean(str(text)), quote=True)


def _badge(size: int) -> str:
    return f" <b>{size:,}</b>" if size else ""


def _table(heads: Iterable[str], rows: Iterable[str], style: str = "") -> str:
    head = "".join(f"<th>{item}</th>" for item in heads)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table class="{style}">{body}</table></div>'


def _row(*cells: object) -> str:
    return f"<tr>{''.join(f'<td>{_text(item)}</td>' for item in cells)}</tr>"


def _head(result: Result) -> str:
    word, meaning = reports.VERDICTS[result.exit_code]
    tone = {PASSED: "good", FAILED: "bad", INCOMPLETE: "poor"}.get(result.exit_code, "plain")
    lines = list(reports.rule_lines(result))
    checked = sum(item.checks > 0 for item in lines)
    answered = sum(bool(counts.total()) for counts in result.statuses.values())
    tiles = (
        (f"{len(result.findings):,}", "findings", "bad" if result.findings else "good"),
        (f"{len(result.missing):,}", "statuses missing", "poor" if result.missing else "good"),
        (f"{len(result.known):,}", "known deviations", "plain"),
        (f"{answered} / {len(result.statuses)}", "operations answered", "plain"),
        (f"{checked} / {len(lines)}", "rules checked", "plain"),
        (f"{result.request_count:,}", "requests", "plain"),
        (format_elapsed(result.took), "duration", "plain"),
    )
    facts = {
        "Mode": _text(reports.mode(result)),
        "Seed": _text(result.seed),
        "Started": _text(result.started),
        "Phases": _text(reports.phase_times(result)),
        "Baseline": _text(", ".join(result.baselines)),
        "Repeat": f"<code>{_text(result.command)}</code>",
    }
    tile_list = "".join(
        f'<div class="tile {tone}"><strong>{number}</strong><span>{label}</span></div>' for number, label, tone in tiles
    )
    fact_list = "".join(f"<dt>{key}</dt><dd>{fact}</dd>" for key, fact in facts.items() if fact)
    return (
        f'<header class="{tone}"><p class="verdict">{word}</p><div>'
        f"<h1>{_text(reports.server_name(result))} <small>{_text(result.target)}</small></h1>"
        f"<p>{_text(reports.headline(result))}: {_text(meaning)}.</p></div></header>\n"
        f'<div class="tiles">{tile_list}</div>\n<dl class="facts">{fact_list}</dl>\n'
    )


def _findings(result: Result) -> str:
    if not result.findings:
        return '<p class="none">No rule was violated.</p>'
    return "".join(
        f"<h3><code>{_text(rule)}</code>{_badge(len(matches))}</h3>" + "".join(map(_finding, matches))
        for rule, matches in reports.grouped(result.findings, attrgetter("rule")).items()
    )


def _known(result: Result) -> str:
    """Return known deviations, folded by rule."""
    return "".join(
        f"<details><summary><code>{_text(rule)}</code>{_badge(len(matches))}<br>"
        f"<small>{_text('; '.join(dict.fromkeys(row.known for row in matches)))}</small></summary>"
        f'<div class="folded">{"".join(map(_finding, matches))}</div></details>'
        for rule, matches in reports.grouped(result.known, attrgetter("rule")).items()
    )


def _finding(finding: CheckResult) -> str:
    tone = "known" if finding.known else "new"
    reason = f'<p class="reason">Known: {_text(finding.known)}</p>' if finding.known else ""
    curl = f"<h4>Reproduce</h4><pre>{_text(finding.curl)}</pre>" if finding.curl else ""
    exchange = _exchange(finding.exchange) if finding.exchange else ""
    return (
        f'<details class="finding {tone}"><summary><span class="crumb">{_text(finding.breadcrumb)}</span>'
        f"<span>{_text(finding.message)}</span></summary>"
        f'<div class="inside">{reason}<p class="source">{_text(finding.source)}</p>{curl}{exchange}</div></details>\n'
    )


def _exchange(exchange: Exchange) -> str:
    """Return request and response, side by side if the page is wide enough."""
    refusal = ", expects a refusal" if exchange.expects_refusal else ""
    about = f"Request <small>request {exchange.number:,}, {_text(exchange.phase)}{refusal}</small>"
    request, response = reports.request_line(exchange), reports.response_line(exchange)
    sent = _message(about, request, exchange.request_headers, exchange.request_body)
    received = _message("Response", response, exchange.response_headers, exchange.response_body)
    return f'<div class="exchange"><div class="request">{sent}</div><div class="response">{received}</div></div>'


def _message(title: str, line: str, headers: HeaderFields, body: bytes) -> str:
    lines = [line, *(f"{escape_unprintable(name)}: {escape_unprintable(value)}" for name, value in headers)]
    head = _text("\n".join(lines))
    text = f'<pre class="body">{_text(reports.body_text(body))}</pre>' if body else ""
    return f"<h4>{title}</h4><pre>{head}</pre>{text}"


def _operations(result: Result) -> str:
    """Return operations × statuses."""
    statuses, operations = reports.matrix(result)
    violated = {(item.operation, item.status or NO_RESPONSE) for item in result.findings}
    rows = []
    for name, cells in operations.items():
        row = f"<tr><th>{_text(name)}</th>"
        for cell in cells:
            style = f"cell s{cell.status // 100}{' violated' if (name, cell.status) in violated else ''}"
            if cell.count:
                row += f'<td><span class="{style}">{cell.count:,}</span></td>'
            elif cell.is_missing:
                row += '<td><span class="cell missing" title="required, not observed">!</span></td>'
            else:
                row += "<td></td>"
        rows.append(f"{row}</tr>")
    key = (
        '<p class="key"><span class="cell s2">12</span> responses '
        '<span class="cell missing">!</span> required, not observed '
        '<span class="cell s4 violated">3</span> with a finding</p>'
    )
    return _table(("operation", *map(reports.status_name, statuses)), rows, "matrix") + key


def _not_asked(result: Result) -> str:
    return _table(("what", "why"), (_row(item.what, item.why) for item in result.not_asked))


def _missing(result: Result) -> str:
    rows = (_row(item.operation, item.status, item.hint) for item in result.missing)
    return _table(("operation", "status", "how to observe it"), rows)


def _rules(result: Result) -> str:
    """Return the table of violated and known rules, and the others folded by outcome."""
    rules, rows = all_rules(), dict[str, list[str]]()
    for item in reports.rule_lines(result):
        rule, is_noted = rules.get(item.rule), item.violations or item.known
        sentence = f"<br><small>{_text(rule.says)}</small>" if rule else ""
        counts = (item.violations or "", item.known or "") if is_noted else ()
        rows.setdefault(item.outcome, []).append(
            f'<tr class="{item.outcome.replace(" ", "-")}">'
            f"<td><code>{_text(item.rule)}</code>{sentence}</td><td>{item.outcome}</td>"
            f"<td>{f'{item.checks:,}' if item.checks else '–'}</td>"
            f"{''.join(f'<td>{count}</td>' for count in counts)}</tr>"
        )
    heads = ("rule", "", "checks", "findings", "known")
    listed = rows.pop("violated", []) + rows.pop("known", [])
    folded = "".join(
        f"<details><summary>{plural(len(group), 'rule')} {name}</summary>{_table(heads[:3], group, 'rules')}</details>"
        for name, group in rows.items()
    )
    return (_table(heads, listed, "rules") if listed else "") + folded


def _changes(result: Result) -> str:
    """Return the accepted and the refused changes; long lists are folded."""
    lists = []
    for word, is_accepted in (("accepted", True), ("refused", False)):
        exchanges = [item for item in result.changes if reports.is_accepted(item) is is_accepted]
        if not exchanges:
            lists.append(f"<p>No request was {word}.</p>")
            continue
        rows = (
            _row(item.number, item.phase, reports.request_line(item), reports.response_line(item))
            for item in exchanges[:MAX_ROWS]
        )
        more = len(exchanges) - MAX_ROWS
        rest = f"<p>… and {more:,} more; the JSON report has them all.</p>" if more > 0 else ""
        is_open = " open" if is_accepted and len(exchanges) <= MAX_OPEN_ROWS else ""
        head = f"{plural(len(exchanges), 'request')} {word}"
        table = _table(("", "phase", "request", "response"), rows)
        lists.append(f"<details{is_open}><summary>{head}</summary>{table}{rest}</details>")
    return "".join(lists)


def _stale(result: Result) -> str:
    rows = (_row(item.rule, item.operation, item.reason) for item in result.stale)
    table = _table(("rule", "operation", "reason"), rows)
    return f"<p>These baseline entries did not occur, and can be removed.</p>{table}"


def _stories(result: Result) -> str:
    """Return the stories: failed ones open, the others folded."""
    text = ""
    for name, steps in result.stories.items():
        passed = all(step.outcome == "passed" for step in steps)
        outcome, is_open = ("passed", "") if passed else ("failed", " open")
        text += (
            f'<details class="{outcome}"{is_open}><summary>{_text(name)} '
            f"<small>{plural(len(steps), 'step')}, {outcome}</small></summary><ol>"
        )
        for step in steps:
            took = f" in {format_elapsed(step.took)}" if step.took else ""
            detail = f": {_text(step.detail)}" if step.detail else ""
            text += (
                f'<li class="{step.outcome.replace(" ", "-")}"><span>{_text(step.text)}</span>'
                f" <small>{step.outcome}{took}{detail}</small></li>"
            )
        text += "</ol></details>"
    return text


def _diagrams(result: Result) -> str:
    texts = []
    for diagram in reports.diagrams_of(result):
        total = plural(sum(bool(move.triggers) for move in diagram.moves), "transition")
        rows = (
            f'<tr class="{"seen" if move.count else "unseen"}"><td>{_text(move.before)}</td>'
            f"<td>{_text(move.after)}</td><td>{_text(move.cause)}</td>"
            f"<td>{f'{move.count:,}' if move.count else '–'}</td></tr>"
            for move in sorted(diagram.moves, key=lambda move: -move.count)
        )
        texts.append(
            f"<div><h3>{_text(diagram.kind)} <small>{diagram.observed} of {total} observed</small></h3>"
            f'<div class="scroll">{draw(diagram)}</div><details><summary>All transitions</summary>'
            f"{_table(('from', 'to', 'trigger', 'count'), rows, 'steps')}</details></div>\n"
        )
    return (
        f'<div class="drawn">{"".join(texts)}</div>'
        '<p class="key"><span class="line seen"></span> observed, with its count '
        '<span class="line unseen"></span> not observed '
        '<span class="line leap"></span> several transitions at once '
        '<span class="line odd"></span> observed, but cannot follow</p>'
    )


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
    title = _text(f"States of a {diagram.kind}, and the transitions between them")
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


_SECTIONS: Final = {
    "findings": ("Findings", _findings),
    "missing": ("Missing", _missing),
    "not_asked": ("Not asked", _not_asked),
    "operations": ("Operations × statuses", _operations),
    "rules": ("Rules", _rules),
    "diagrams": ("State diagrams", _diagrams),
    "stories": ("Stories", _stories),
    "known": ("Known deviations", _known),
    "stale": ("Stale in the baseline", _stale),
    "changes": ("Changes made", _changes),
}
UNCOUNTED_SECTIONS: Final = ("operations", "rules", "diagrams")
"""Sections of every run. The others show the field of a result that has their name; all but findings may be empty."""


def render(results: Sequence[Result]) -> str:
    """Return the page."""
    code = reports.exit_code(results)
    word, meaning = reports.VERDICTS[code]
    title = f"{word}: oceanmock conform, {', '.join(map(reports.server_name, results))}"
    runs = ""
    for place, result in enumerate(results, 1):
        links = sections = ""
        for key, (name, body) in _SECTIONS.items():
            size = 0 if key in UNCOUNTED_SECTIONS else len(getattr(result, key))
            if size or key in ("findings", *UNCOUNTED_SECTIONS):
                links += f'<a href="#run{place}-{key}">{name}{_badge(size)}</a>'
                sections += f'<section id="run{place}-{key}" class="{key}"><h2>{name}</h2>{body(result)}</section>\n'
        runs += f'<main id="run{place}">{_head(result)}<nav>{links}</nav>\n{sections}</main>\n'
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{_text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{runs}"
        f"<footer>oceanmock {_text(__version__)} · exit code {code}: {_text(meaning)}</footer>\n</body>\n</html>\n"
    )
