"""Render results as one HTML page without scripts, fonts, pictures or requests.

Sections fold with `details`; the reader chooses light or dark; the diagrams are SVG in the page. A
server may respond with anything, so every text goes through ``_text``, and a policy in the page
forbids scripts and requests. The style is ``page.css`` beside this module.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from oceanmock import __version__
from oceanmock.checks import CheckResult, Exchange, Headers
from oceanmock.conformance import reports
from oceanmock.conformance.model import FAILED, INCOMPLETE, NO_RESPONSE, PASSED, Result
from oceanmock.conformance.reports.diagram import diagrams_of, draw
from oceanmock.conformance.rules import all_rules
from oceanmock.text import format_elapsed, plural

STYLE: Final = Path(__file__).with_name("page.css")
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
MAX_ROWS: Final = 500
"""The number of changes that are listed one by one."""
MAX_OPEN_ROWS: Final = 20
"""The number of accepted changes up to which their list is open."""
_TONES: Final = {PASSED: "good", FAILED: "bad", INCOMPLETE: "poor"}


def render(results: Sequence[Result]) -> str:
    """Return the page."""
    code = reports.exit_code(results)
    word, _ = reports.VERDICTS[code]
    title = f"{word}: oceanmock conform, {', '.join(map(reports.server_name, results))}"
    runs = "".join(_run(item, place) for place, item in enumerate(results, 1))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{_text(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n"
        f"</head>\n<body>\n{runs}"
        f"<footer>oceanmock {_text(__version__)} · exit code {code}: "
        f"{_text(reports.VERDICTS[code][1])}</footer>\n</body>\n</html>\n"
    )


def _text(text: object) -> str:
    """Return a text clean and escaped, for content and attributes."""
    return escape(reports.clean(str(text)), quote=True)


# --- a run ----------------------------------------------------------------------------------------

_Section = tuple[str, str, Callable[[Result], str], Callable[[Result], int]]


def _run(result: Result, place: int) -> str:
    """Return one run: its head and its sections."""
    prefix = f"run{place}"
    present = [item for item in _SECTIONS if item[3](result) >= 0]
    links = "".join(f'<a href="#{prefix}-{key}">{title}{_badge(size(result))}</a>' for key, title, _, size in present)
    sections = "".join(
        f'<section id="{prefix}-{key}" class="{key}"><h2>{title}</h2>{body(result)}</section>\n'
        for key, title, body, _ in present
    )
    return f'<main id="{prefix}">{_head(result)}<nav>{links}</nav>\n{sections}</main>\n'


def _badge(size: int) -> str:
    return f" <b>{size:,}</b>" if size else ""


def _head(result: Result) -> str:
    word, meaning = reports.VERDICTS[result.exit_code]
    tone = _TONES.get(result.exit_code, "plain")
    lines = list(reports.rule_lines(result))
    checked = sum(item.checks > 0 for item in lines)
    answered = sum(bool(counts.total()) for counts in result.statuses.values())
    tiles = (
        (f"{len(result.findings):,}", "findings", "bad" if result.findings else "good"),
        (f"{len(result.missing):,}", "statuses missing", "poor" if result.missing else "good"),
        (f"{len(result.known):,}", "known deviations", "plain"),
        (f"{answered} / {len(result.statuses)}", "operations answered", "plain"),
        (f"{checked} / {len(lines)}", "rules checked", "plain"),
        (f"{result.asked:,}", "requests", "plain"),
        (format_elapsed(result.took), "duration", "plain"),
    )
    phases = (f"{phase} {format_elapsed(took)}" for phase, took in result.phases.items())
    facts = {
        "Mode": _text(reports.mode(result)),
        "Seed": _text(result.seed),
        "Started": _text(result.started),
        "Phases": _text(" · ".join(phases)),
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


# --- findings -------------------------------------------------------------------------------------


def _findings(result: Result) -> str:
    if not result.findings:
        return '<p class="none">No rule was violated.</p>'
    return "".join(
        f"<h3><code>{_text(rule)}</code>{_badge(len(matches))}</h3>" + "".join(map(_finding, matches))
        for rule, matches in _by_rule(result.findings).items()
    )


def _by_rule(findings: Sequence[CheckResult]) -> Mapping[str, list[CheckResult]]:
    grouped = defaultdict[str, list[CheckResult]](list)
    for item in findings:
        grouped[item.rule].append(item)
    return grouped


def _known(result: Result) -> str:
    """Return known deviations, folded by rule."""
    return "".join(
        f"<details><summary><code>{_text(rule)}</code>{_badge(len(matches))}<br>"
        f"<small>{_text('; '.join(dict.fromkeys(row.known for row in matches)))}</small></summary>"
        f'<div class="folded">{"".join(map(_finding, matches))}</div></details>'
        for rule, matches in _by_rule(result.known).items()
    )


def _finding(finding: CheckResult) -> str:
    tone = "known" if finding.known else "new"
    reason = f'<p class="reason">Known: {_text(finding.known)}</p>' if finding.known else ""
    curl = f"<h4>Reproduce</h4><pre>{_text(finding.curl)}</pre>" if finding.curl else ""
    exchange = _exchange(finding.exchange) if finding.exchange else ""
    return (
        f'<details class="finding {tone}"><summary>'
        f'<span class="crumb">{_text(finding.breadcrumb)}</span>'
        f"<span>{_text(finding.message)}</span></summary>"
        f'<div class="inside">{reason}<p class="source">{_text(finding.source)}</p>{curl}{exchange}'
        "</div></details>\n"
    )


def _exchange(exchange: Exchange) -> str:
    """Return request and response, side by side if the page is wide enough."""
    refusal = ", expects a refusal" if exchange.expects_refusal else ""
    about = f"Request <small>request {exchange.number:,}, {_text(exchange.phase)}{refusal}</small>"
    request, response = reports.request_line(exchange), reports.response_line(exchange)
    return (
        '<div class="exchange"><div class="request">'
        f"{_message(about, request, exchange.request_headers, exchange.request_body)}</div>"
        '<div class="response">'
        f"{_message('Response', response, exchange.response_headers, exchange.response_body)}</div>"
        "</div>"
    )


def _message(title: str, line: str, headers: Headers, body: bytes) -> str:
    lines = [line, *(f"{reports.line(name)}: {reports.line(value)}" for name, value in headers)]
    head = _text("\n".join(lines))
    text = f'<pre class="body">{_text(reports.body_text(body))}</pre>' if body else ""
    return f"<h4>{title}</h4><pre>{head}</pre>{text}"


# --- tables ---------------------------------------------------------------------------------------


def _table(heads: Iterable[str], rows: Iterable[str], style: str = "") -> str:
    head = "".join(f"<th>{item}</th>" for item in heads)
    return (
        f'<div class="scroll"><table class="{style}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(*cells: object) -> str:
    return f"<tr>{''.join(f'<td>{_text(item)}</td>' for item in cells)}</tr>"


def _matrix(result: Result) -> str:
    """Return operations × statuses."""
    statuses, operations = reports.matrix(result)
    violated = {(item.operation, item.status or NO_RESPONSE) for item in result.findings}
    rows = (
        f"<tr><th>{_text(name)}</th>"
        + "".join(_cell(cell, is_violated=(name, cell.status) in violated) for cell in cells)
        + "</tr>"
        for name, cells in operations.items()
    )
    key = (
        '<p class="key"><span class="cell s2">12</span> responses '
        '<span class="cell missing">!</span> required, not observed '
        '<span class="cell s4 violated">3</span> with a finding</p>'
    )
    return _table(("operation", *map(reports.status_name, statuses)), rows, "matrix") + key


def _cell(cell: reports.Cell, *, is_violated: bool) -> str:
    if cell.count:
        style = f"cell s{cell.status // 100}{' violated' if is_violated else ''}"
        return f'<td><span class="{style}">{cell.count:,}</span></td>'
    if cell.is_missing:
        return '<td><span class="cell missing" title="required, not observed">!</span></td>'
    return "<td></td>"


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
        f"<details><summary>{plural(len(group), 'rule')} {outcome}</summary>"
        f"{_table(heads[:3], group, 'rules')}</details>"
        for outcome, group in rows.items()
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
    note = "<p>These baseline entries did not occur, and can be removed.</p>"
    return note + _table(("rule", "operation", "reason"), rows)


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


# --- diagrams -------------------------------------------------------------------------------------


def _diagrams(result: Result) -> str:
    texts = []
    for diagram in diagrams_of(result):
        total = plural(sum(bool(move.triggers) for move in diagram.moves), "transition")
        rows = (
            f'<tr class="{"seen" if move.count else "unseen"}"><td>{_text(move.before)}</td>'
            f"<td>{_text(move.after)}</td><td>{_text(move.cause)}</td>"
            f"<td>{f'{move.count:,}' if move.count else '–'}</td></tr>"
            for move in sorted(diagram.moves, key=lambda move: -move.count)
        )
        texts.append(
            f"<div><h3>{_text(diagram.kind)} "
            f"<small>{diagram.observed} of {total} observed</small></h3>"
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


_SECTIONS: Final[Sequence[_Section]] = (
    ("findings", "Findings", _findings, lambda result: len(result.findings)),
    ("missing", "Missing", _missing, lambda result: len(result.missing) or -1),
    ("operations", "Operations × statuses", _matrix, lambda _: 0),
    ("rules", "Rules", _rules, lambda _: 0),
    ("diagrams", "State diagrams", _diagrams, lambda _: 0),
    ("stories", "Stories", _stories, lambda result: len(result.stories) or -1),
    ("known", "Known deviations", _known, lambda result: len(result.known) or -1),
    ("stale", "Stale in the baseline", _stale, lambda result: len(result.stale) or -1),
    ("changes", "Changes made", _changes, lambda result: len(result.changes) or -1),
)
"""Key, title, body and size; a size of -1 leaves the section out."""
