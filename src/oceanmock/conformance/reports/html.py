"""Results as one page of HTML that needs nothing else: no script, no font, no picture, no network.

What opens and closes are `details`; light or dark is the reader's choice; the state diagrams are
SVG within the page. A server may answer anything, so every text goes through ``_text``, and a
policy in the page forbids scripts and requests altogether. The style is ``page.css`` beside this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Final

from oceanmock import __version__
from oceanmock.checks import CheckResult, Exchange, Headers, Rule
from oceanmock.conformance.model import FAILED, INCOMPLETE, NO_RESPONSE, PASSED, Result, StoryStep
from oceanmock.conformance.reports import texts
from oceanmock.conformance.reports.diagram import Diagram, diagrams_of, draw, how
from oceanmock.conformance.rules import all_rules
from oceanmock.text import format_elapsed, plural

STYLE: Final = Path(__file__).with_name("page.css")
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
MOST_CHANGES: Final = 500
"""How many changing calls are listed one by one."""
MOST_OPEN: Final = 20
"""How many accepted ones are shown without being asked for."""
_TONES: Final = {PASSED: "good", FAILED: "bad", INCOMPLETE: "poor"}


def render(results: Sequence[Result]) -> str:
    """The page."""
    code = texts.exit_code(results)
    word, _ = texts.VERDICTS[code]
    title = f"{word}: oceanmock conform, {', '.join(map(texts.called, results))}"
    runs = "".join(_run(each, place) for place, each in enumerate(results, 1))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{_text(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n"
        f"</head>\n<body>\n{runs}"
        f"<footer>oceanmock {_text(__version__)} · exit code {code}: "
        f"{_text(texts.VERDICTS[code][1])}</footer>\n</body>\n</html>\n"
    )


def _text(text: object) -> str:
    """A text as HTML: clean and escaped, within attributes too."""
    return escape(texts.clean(str(text)), quote=True)


# --- a run ----------------------------------------------------------------------------------------

_Section = tuple[str, str, Callable[[Result], str], Callable[[Result], int]]


def _run(result: Result, place: int) -> str:
    """One run: its head, and its sections."""
    prefix = f"run{place}"
    present = [each for each in _SECTIONS if each[3](result) >= 0]
    links = "".join(
        f'<a href="#{prefix}-{key}">{title}{_badge(size(result))}</a>'
        for key, title, _, size in present
    )
    sections = "".join(
        f'<section id="{prefix}-{key}" class="{key}"><h2>{title}</h2>{body(result)}</section>\n'
        for key, title, body, _ in present
    )
    return f'<main id="{prefix}">{_head(result)}<nav>{links}</nav>\n{sections}</main>\n'


def _badge(size: int) -> str:
    return f" <b>{size:,}</b>" if size else ""


def _head(result: Result) -> str:
    word, means = texts.VERDICTS[result.exit_code]
    tone = _TONES.get(result.exit_code, "plain")
    lines = list(texts.rule_lines(result))
    looked = sum(each.looked > 0 for each in lines)
    answered = sum(bool(sum(seen.values())) for seen in result.statuses.values())
    tiles = "".join(
        f'<div class="tile {tone}"><strong>{_text(number)}</strong><span>{label}</span></div>'
        for number, label, tone in (
            (f"{len(result.findings):,}", "findings", "bad" if result.findings else "good"),
            (f"{len(result.missing):,}", "statuses missing", "poor" if result.missing else "good"),
            (f"{len(result.known):,}", "known deviations", "plain"),
            (f"{answered} / {len(result.statuses)}", "operations answered", "plain"),
            (f"{looked} / {len(lines)}", "rules looked at", "plain"),
            (f"{result.asked:,}", "requests", "plain"),
            (format_elapsed(result.took), "in all", "plain"),
        )
    )
    phases = " · ".join(
        f"{_text(phase)} {format_elapsed(took)}" for phase, took in result.phases.items()
    )
    return (
        f'<header class="{tone}"><p class="verdict">{word}</p><div>'
        f"<h1>{_text(texts.called(result))} <small>{_text(result.target)}</small></h1>"
        f"<p>{_text(texts.headline(result))}: {_text(means)}.</p></div></header>\n"
        f'<div class="tiles">{tiles}</div>\n'
        f'<dl class="facts"><dt>Mode</dt><dd>{texts.mode(result)}</dd>'
        f"<dt>Seed</dt><dd>{result.seed}</dd><dt>Started</dt><dd>{_text(result.started)}</dd>"
        + (f"<dt>Phases</dt><dd>{phases}</dd>" if phases else "")
        + (
            f"<dt>Baseline</dt><dd>{_text(', '.join(result.baselines))}</dd>"
            if result.baselines
            else ""
        )
        + f"<dt>Again</dt><dd><code>{_text(result.command)}</code></dd></dl>\n"
    )


# --- findings -------------------------------------------------------------------------------------


def _findings(result: Result) -> str:
    if not result.findings:
        return '<p class="none">No rule was broken.</p>'

    return "".join(
        f"<h3><code>{_text(rule)}</code>{_badge(len(found))}</h3>" + "".join(map(_finding, found))
        for rule, found in texts.by_rule(result.findings).items()
    )


def _known(result: Result) -> str:
    """Folded, as they may be many: a rule, and within it each finding."""
    return "".join(
        f"<details><summary><code>{_text(rule)}</code>{_badge(len(found))}<br>"
        f"<small>{_text('; '.join(dict.fromkeys(each.known for each in found)))}</small></summary>"
        f'<div class="folded">{"".join(map(_finding, found))}</div></details>'
        for rule, found in texts.by_rule(result.known).items()
    )


def _finding(finding: CheckResult) -> str:
    tone = "known" if finding.known else "new"
    reason = f'<p class="reason">Known: {_text(finding.known)}</p>' if finding.known else ""
    curl = f"<h4>Again</h4><pre>{_text(finding.curl)}</pre>" if finding.curl else ""
    exchange = _exchange(finding.exchange) if finding.exchange else ""
    return (
        f'<details class="finding {tone}"><summary>'
        f'<span class="crumb">{_text(finding.breadcrumb)}</span>'
        f"<span>{_text(finding.message)}</span></summary>"
        f'<div class="inside">{reason}<p class="source">{_text(finding.source)}</p>{curl}{exchange}'
        "</div></details>\n"
    )


def _exchange(exchange: Exchange) -> str:
    """Request and answer, side by side where there is room."""
    asked = texts.request_line(exchange)
    wrong = ", meant to be refused" if exchange.expects_refusal else ""
    about = f"request {exchange.number:,}, {exchange.phase}{wrong}"
    return (
        '<div class="exchange">'
        f'<div class="request"><h4>Request <small>{_text(about)}</small></h4>'
        f"<pre>{_text(asked)}\n{_headers(exchange.request_headers)}</pre>"
        f"{_body(exchange.request_body)}</div>"
        f'<div class="response"><h4>Answer</h4><pre>{_text(texts.answer_line(exchange))}\n'
        f"{_headers(exchange.response_headers)}</pre>{_body(exchange.response_body)}</div></div>"
    )


def _headers(headers: Headers) -> str:
    return "\n".join(f"{_text(texts.line(n))}: {_text(texts.line(v))}" for n, v in headers)


def _body(body: bytes) -> str:
    return f'<pre class="body">{_text(texts.body_text(body))}</pre>' if body else ""


# --- tables ---------------------------------------------------------------------------------------


def _table(heads: Iterable[str], rows: Iterable[str], style: str = "") -> str:
    head = "".join(f"<th>{each}</th>" for each in heads)
    return (
        f'<div class="scroll"><table class="{style}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(*cells: object) -> str:
    return f"<tr>{''.join(f'<td>{_text(each)}</td>' for each in cells)}</tr>"


def _matrix(result: Result) -> str:
    """Operations × statuses."""
    statuses = texts.statuses_of(result)
    names = dict.fromkeys([*result.statuses, *(each.operation for each in result.missing)])
    rows = (
        f"<tr><th>{_text(name)}</th>{''.join(_cells(result, name, statuses))}</tr>"
        for name in names
    )
    heads = ["operation", *(texts.status_name(each) for each in statuses)]
    key = (
        '<p class="key"><span class="cell s2">12</span> times answered '
        '<span class="cell missing">!</span> has to be seen, and was not '
        '<span class="cell s4 broken">3</span> with a finding</p>'
    )
    return _table(heads, rows, "matrix") + key


def _cells(result: Result, name: str, statuses: Sequence[int]) -> Iterator[str]:
    missing = texts.missing_of(result)
    broken = {(each.operation, each.status or NO_RESPONSE) for each in result.findings}
    seen = result.statuses.get(name, Counter())
    for status in statuses:
        times = seen.get(status, 0)
        if times:
            style = f"cell s{status // 100}" + (" broken" if (name, status) in broken else "")
            yield f'<td><span class="{style}">{times:,}</span></td>'
        elif (name, status) in missing:
            yield '<td><span class="cell missing" title="has to be seen, and was not">!</span></td>'
        else:
            yield "<td></td>"


def _missing(result: Result) -> str:
    rows = (_row(each.operation, each.status, each.hint) for each in result.missing)
    return _table(("operation", "status", "how to see it"), rows)


def _rules(result: Result) -> str:
    """What was broken or known in the open; the many others, by what came of them, folded."""
    said, rows = all_rules(), dict[str, list[str]]()
    for each in texts.rule_lines(result):
        rows.setdefault(_word(each), []).append(_rule(each, said.get(each.rule)))
    heads = ("rule", "", "looked at", "findings", "known")
    telling = rows.pop("broken", []) + rows.pop("known", [])
    folded = "".join(
        f"<details><summary>{plural(len(each), 'rule')} {word}</summary>"
        f"{_table(heads[:3], each, 'rules')}</details>"
        for word, each in rows.items()
    )
    return (_table(heads, telling, "rules") if telling else "") + folded


def _word(line: texts.RuleLine) -> str:
    """What came of a rule."""
    if line.broken:
        return "broken"
    return "known" if line.known else "kept" if line.looked else "not looked at"


def _rule(line: texts.RuleLine, rule: Rule | None) -> str:
    word, said = _word(line), f"<br><small>{_text(rule.says)}</small>" if rule else ""
    found = (f"{line.broken or ''}", f"{line.known or ''}") if line.broken or line.known else ()
    return (
        f'<tr class="{word.replace(" ", "-")}"><td><code>{_text(line.rule)}</code>{said}</td>'
        f"<td>{word}</td><td>{f'{line.looked:,}' if line.looked else '–'}</td>"
        f"{''.join(f'<td>{each}</td>' for each in found)}</tr>"
    )


def _changes(result: Result) -> str:
    """Those that were accepted, and those that were refused; folded where they are many."""
    accepted = [each for each in result.changes if texts.is_accepted(each)]
    refused = [each for each in result.changes if not texts.is_accepted(each)]
    return _folded(accepted, "accepted") + _folded(refused, "refused")


def _folded(exchanges: Sequence[Exchange], word: str) -> str:
    if not exchanges:
        return f"<p>No call was {word}.</p>"
    is_open = " open" if word == "accepted" and len(exchanges) <= MOST_OPEN else ""
    head = f"{plural(len(exchanges), 'call')} {word}"
    return f"<details{is_open}><summary>{head}</summary>{_calls(exchanges)}</details>"


def _calls(exchanges: Sequence[Exchange]) -> str:
    rows = (
        _row(each.number, each.phase, texts.request_line(each), texts.answer_line(each))
        for each in exchanges[:MOST_CHANGES]
    )
    more = len(exchanges) - MOST_CHANGES
    told = f"<p>… and {more:,} more; the JSON report has them all.</p>" if more > 0 else ""
    return _table(("", "phase", "call", "answer"), rows) + told


def _stale(result: Result) -> str:
    rows = (_row(each.rule, each.operation, each.reason) for each in result.stale)
    note = "<p>These entries of the baseline did not occur: they may be taken out.</p>"
    return note + _table(("rule", "operation", "reason it was let pass"), rows)


def _stories(result: Result) -> str:
    """Those that failed in the open, the others folded."""
    return "".join(_story(name, steps) for name, steps in result.stories.items())


def _story(name: str, steps: Sequence[StoryStep]) -> str:
    held = all(step.outcome == "held" for step in steps)
    told = f"{plural(len(steps), 'step')} {'held' if held else 'told'}"
    return (
        f'<details class="{"held" if held else "failed"}"{"" if held else " open"}>'
        f"<summary>{_text(name)} <small>{told}</small></summary>"
        f"<ol>{''.join(map(_step, steps))}</ol></details>"
    )


def _step(step: StoryStep) -> str:
    took = f" in {format_elapsed(step.took)}" if step.took else ""
    detail = f": {_text(step.detail)}" if step.detail else ""
    return (
        f'<li class="{step.outcome.replace(" ", "-")}"><span>{_text(step.text)}</span>'
        f" <small>{step.outcome}{took}{detail}</small></li>"
    )


# --- diagrams -------------------------------------------------------------------------------------


def _diagrams(result: Result) -> str:
    key = (
        '<p class="key"><span class="line seen"></span> seen, and how often '
        '<span class="line unseen"></span> not seen '
        '<span class="line leap"></span> seen, several moves at once '
        '<span class="line odd"></span> seen, and cannot follow</p>'
    )
    return f'<div class="drawn">{"".join(map(_diagram, diagrams_of(result)))}</div>{key}'


def _diagram(diagram: Diagram) -> str:
    of_contract = diagram.of_contract
    told = f"{diagram.walked} of {plural(len(of_contract), 'step')} seen"
    rows = (
        f'<tr class="{"seen" if each.seen else "unseen"}"><td>{_text(each.before)}</td>'
        f"<td>{_text(each.after)}</td><td>{_text(how(each))}</td>"
        f"<td>{f'{each.seen:,}' if each.seen else '–'}</td></tr>"
        for each in sorted(diagram.steps, key=lambda step: -step.seen)
    )
    return (
        f"<div><h3>{_text(diagram.kind)} <small>{told}</small></h3>"
        f'<div class="scroll">{draw(diagram)}</div>'
        f"<details><summary>Every step</summary>"
        f"{_table(('from', 'to', 'by', 'seen'), rows, 'steps')}</details></div>\n"
    )


_SECTIONS: Final[Sequence[_Section]] = (
    ("findings", "Findings", _findings, lambda result: len(result.findings)),
    ("missing", "Missing", _missing, lambda result: len(result.missing) or -1),
    ("operations", "Operations × statuses", _matrix, lambda _: 0),
    ("rules", "Rules", _rules, lambda _: 0),
    ("diagrams", "State diagrams walked", _diagrams, lambda _: 0),
    ("stories", "Stories", _stories, lambda result: len(result.stories) or -1),
    ("known", "Known deviations", _known, lambda result: len(result.known) or -1),
    ("stale", "Stale in the baseline", _stale, lambda result: len(result.stale) or -1),
    ("changes", "Changes made", _changes, lambda result: len(result.changes) or -1),
)
"""Key, title, body, and size; a size of -1 leaves the section out."""
