"""Write results to files: JSON, JUnit XML and SARIF for programs, HTML for people, and annotations for GitHub.

The same results give the same text. JSON: ``result.schema.json`` describes it, and changes with ``REPORT_FORMAT``.
JUnit XML: a test case per rule and operation, with only the attributes that Jenkins accepts (jenkinsci/xunit-plugin:
junit-10.xsd); failures have the type that Surefire requires. HTML: one page without scripts, fonts, pictures or
requests, ``page.html`` with ``page.css``; a server may respond with anything, so every text is cleaned and escaped, and
a policy in the page forbids scripts and requests.
"""

from __future__ import annotations

import base64
import json
import re
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from oceanmock import __version__
from oceanmock.checks import CheckResult, Exchange, HeaderFields, Rule, folded
from oceanmock.clock import SECOND
from oceanmock.conformance import NO_RESPONSE, Result, StoryStep, reports
from oceanmock.conformance.checks import all_rules
from oceanmock.errors import EnvironmentProblem, InputError
from oceanmock.text import escape_command, escape_unprintable, first_few, format_instant, one_line, suggest

REPORT_FORMAT: Final = 1
MAX_JSON_BODY: Final = 64 * 2**10
MAX_JUNIT_BODY: Final = 2000
ANY_OPERATION: Final = "any operation"
SLOWER: Final = 2  # medians differ if one is more than so many times the other, and longer than MIN_SLOW_MS
MIN_SLOW_MS: Final = 50


def render_json(results: Sequence[Result]) -> str:
    """Return the JSON report, with a newline at its end."""
    code = reports.worst_last(results)[-1].exit_code
    head = {"oceanmock": __version__, "format": REPORT_FORMAT, "exit_code": code, "verdict": reports.VERDICTS[code][0]}
    return json.dumps({**head, "runs": [_run(item) for item in results]}, indent=2, ensure_ascii=True) + "\n"


def _run(result: Result) -> dict[str, Any]:
    checked = sorted(+result.checked)
    return {
        **_values(result, "target", "api", "version", "seed", "command", "started"),
        "duration_ms": _ms(result.took),
        **_values(result, "writes", "interrupted", "stopped", "shortfalls", "exit_code"),
        "observed": {name: {"count": n, "total": total} for name, (n, total) in reports.observed(result).items()},
        "verdict": reports.VERDICTS[result.exit_code][0],
        "requests": result.request_count,
        "phases": [{"phase": name, "duration_ms": _ms(took)} for name, took in result.phases.items()],
        "operations": [
            {
                "operation": name,
                "statuses": {reports.status_name(status): count for status, count in sorted(counts.items())},
                "missing": sorted(missing),
            }
            for name, (counts, missing) in reports.statuses_by_operation(result).items()
        ],
        "rules": [
            {**asdict(item), "operations": {name: result.checked[id, name] for id, name in checked if id == item.rule}}
            for item in reports.rule_lines(result)
        ],
        "findings": [_finding(item) for item in result.findings],
        "known": [_finding(item) for item in result.known],
        "latencies": [
            {"operation": name, "median_ms": _ms(median), "p95_ms": _ms(most), "longest_ms": _ms(longest)}
            for name, (median, most, longest) in reports.latencies(result).items()
        ],
        "baselines": result.baselines,
        "stale": [_values(item, "rule", "operation", "reason") for item in result.stale],
        **{name: [asdict(item) for item in getattr(result, name)] for name in ("missing", "not_asked")},
        "changes": [{**_exchange(item), "change": reports.change_line(item, result.api)} for item in result.changes],
        "left": [{"id": id, "state": state} for id, state in result.left.items()],
        "transitions": [
            {"kind": kind, "before": before, "after": after, "count": count}
            for (kind, before, after), count in sorted(result.transitions.items())
        ],
        "states": [
            {"kind": kind, "state": state, "count": count} for (kind, state), count in sorted(result.labels.items())
        ],
        "stories": [{"story": name, "steps": list(map(_step, steps))} for name, steps in result.stories.items()],
    }


def _step(step: StoryStep) -> dict[str, Any]:
    return {**_values(step, "text", "outcome", "detail"), "duration_ms": _ms(step.took)}


def _values(record: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _finding(finding: CheckResult) -> dict[str, Any]:
    exchange, earlier = finding.exchange, finding.earlier
    return {
        **_values(finding, "rule", "operation", "status", "path", "breadcrumb", "message", "source", "known", "curl"),
        "exchange": exchange and _exchange(exchange),
        "earlier": earlier and {"path": earlier[1], "exchange": _exchange(earlier[0])},
    }


def _exchange(exchange: Exchange) -> dict[str, Any]:
    return {
        **_values(exchange, "number", "phase", "operation"),
        "sent_at": format_instant(exchange.sent_at, digits=3, padded=True),
        "duration_ms": _ms(exchange.took),
        **_values(exchange, "expects_refusal", "method", "target", "status", "problem"),
        "request": _message(exchange.request_headers, exchange.request_body),
        "response": _message(exchange.response_headers, exchange.response_body),
    }


def _message(headers: HeaderFields, body: bytes) -> dict[str, Any]:
    part, kind = body[:MAX_JSON_BODY], "text" if body else "none"
    try:
        # an incremental decoder leaves out a character that was cut
        text = getincrementaldecoder("utf-8")().decode(part, final=len(part) == len(body))
    except UnicodeDecodeError:
        kind, text = "base64", base64.b64encode(part).decode()
    return {"headers": [list(pair) for pair in headers], "body": text, "body_kind": kind, "body_bytes": len(body)}


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)


def render_junit(results: Sequence[Result]) -> str:
    """Return the JUnit report, with a newline at its end."""
    suites = [suite for result in results for suite in _suites(result)]
    counts = {name: str(sum(int(suite.attrib[name]) for suite in suites)) for name in ("tests", "failures", "errors")}
    time = _seconds(sum(item.took for item in results))
    root = ElementTree.Element("testsuites", {"name": "oceanmock conform", **counts, "time": time})
    root.extend(suites)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _suites(result: Result) -> Iterator[ElementTree.Element]:
    stale = [f"stale in the baseline: {item.rule} at {item.operation}" for item in result.stale]
    yield _suite(result, "rules", _rule_cases(result), took=result.took, lines=stale)
    yield _suite(result, "coverage", _coverage_cases(result))
    why = f"the run was stopped before its end: {result.stopped or 'interrupted'}"
    cases = [_case("run", "the run is complete", "error" if result.interrupted or result.stopped else "", why)]
    cases += [_case("run", text.partition(":")[0], "failure", text) for text in result.shortfalls]
    changes = [reports.change_line(item, result.api) for item in result.changes if reports.is_accepted(item)]
    lines = [*(f"change: {line}" for line in changes), *reports.left_lines(result)]
    yield _suite(result, "run", cases, lines=lines)
    outcomes = {"skipped": "skipped", "passed": "", "failed": "failure", "not reached": "skipped"}
    for story, steps in result.stories.items():
        cases = []
        for number, step in enumerate(steps, 1):
            name, message = f"{number}. {step.text}", step.detail or step.outcome
            cases.append(_case(story, name, outcomes[step.outcome], message, step.detail, took=step.took))
        yield _suite(result, "story", cases, took=sum(step.took for step in steps))


def _suite(
    result: Result, name: str, cases: Iterable[ElementTree.Element], *, took: int = 0, lines: Sequence[str] = ()
) -> ElementTree.Element:
    """Return a suite of test cases, with lines of output beside them."""
    name = f"{result.api}.{name}"
    cases = list(cases)
    count = Counter(outcome.tag for case in cases for outcome in case)
    counts = {"tests": len(cases), "failures": count["failure"], "errors": count["error"], "skipped": count["skipped"]}
    suite = ElementTree.Element("testsuite", {"name": name, **{key: str(number) for key, number in counts.items()}})
    suite.attrib |= {"time": _seconds(took), "timestamp": result.started.removesuffix("Z")}
    properties = ElementTree.SubElement(suite, "properties")
    values = _values(result, "target", "version", "seed")
    values |= {"mode": reports.mode(result), "command": result.command, "baselines": ", ".join(result.baselines)}
    not_asked = [("not asked", f"{item.what}: {item.why}") for item in result.not_asked]
    for key, value in [*values.items(), *not_asked]:
        ElementTree.SubElement(properties, "property", name=key, value=reports.clean(str(value)))
    for case in cases:
        case.set("classname", f"{name}.{case.get('classname')}")
    suite.extend(cases)
    if lines:
        ElementTree.SubElement(suite, "system-out").text = reports.clean("\n".join(lines))
    return suite


def _case(
    group: str, name: str, outcome: str = "", message: str = "", details: str = "", *, took: int = 0
) -> ElementTree.Element:
    """Return a test case, whose outcome is failure, error, skipped, or "" if it passed."""
    group, name = escape_unprintable(group), escape_unprintable(name)
    case = ElementTree.Element("testcase", classname=group, name=name, time=_seconds(took))
    if outcome:
        child = ElementTree.SubElement(case, outcome, message=escape_unprintable(message))
        if outcome != "skipped":
            child.set("type", group)
        child.text = reports.clean(details) or None
    return case


def _coverage_cases(result: Result) -> Iterator[ElementTree.Element]:
    """Yield a case per operation, which fails if required responses were not received."""
    for name, (counts, hints) in reports.statuses_by_operation(result).items():
        missing = sorted(hints)
        message, outcome = f"never received {', '.join(map(str, missing))}", "failure" if missing else ""
        if outcome and result.interrupted:
            message, outcome = "the run was stopped before its end", "skipped"
        elif not outcome and not counts:
            message, outcome = "never requested", "skipped"
        details = "\n".join(f"{status}: {hints[status]}" for status in missing)
        yield _case("statuses", name, outcome, message, details)


def _rule_cases(result: Result) -> Iterator[ElementTree.Element]:
    """Yield a case per rule and operation at which it was checked."""

    def place(finding: CheckResult) -> tuple[str, str]:
        return reports.clean(finding.rule), finding.operation or ANY_OPERATION

    findings, known = reports.grouped(result.findings, place), reports.grouped(result.known, place)
    places = {(rule, operation or ANY_OPERATION) for rule, operation in result.checked} | {*findings, *known}
    for line in reports.rule_lines(result):
        operations = {operation for rule, operation in places if rule == line.rule}
        for operation in sorted(operations or {ANY_OPERATION}):
            outcome, message, details = ("", "", "") if line.checks else ("skipped", "never checked", "")
            if matches := findings.get((line.rule, operation)):
                more = f" (and {len(matches) - 1} more)" if len(matches) > 1 else ""
                outcome, message = "failure", reports.finding_line(matches[0]) + more
                details = "\n\n".join(map(_finding_text, matches))
            elif matches := known.get((line.rule, operation)):
                outcome, message = "skipped", f"known: {'; '.join(dict.fromkeys(item.known for item in matches))}"
            yield _case(line.rule, operation, outcome, message, details)


def _finding_text(finding: CheckResult) -> str:
    lines = [reports.finding_line(finding), f"source: {finding.source}", finding.curl, *reports.both_lines(finding)]
    if (exchange := finding.exchange) is not None:
        lines.append(f"{reports.request_line(exchange)} → {reports.response_line(exchange)}")
        lines.append(reports.body_text(exchange.response_body, MAX_JUNIT_BODY))
    return "\n".join(lines)


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / SECOND:.3f}"


def render_sarif(results: Sequence[Result]) -> str:
    """Return the SARIF 2.1.0 report: a result per cause and place, with those of known causes suppressed."""
    head = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0"}
    return json.dumps({**head, "runs": [_sarif_run(item) for item in results]}, indent=2) + "\n"


def _sarif_run(result: Result) -> dict[str, Any]:
    known_rules = all_rules(result.api)
    names = sorted({item.rule for item in (*result.findings, *result.known)})
    rules = [
        {"id": item.id, "shortDescription": {"text": item.says}, "help": {"text": item.source or item.id}}
        for item in (known_rules.get(name) or Rule(name, name, "") for name in names)
    ]
    driver = {"name": "oceanmock conform", "version": __version__, "rules": rules}
    rows = []
    for cause in (*reports.causes(result.findings, result.api), *reports.causes(result.known, result.api)):
        for place, count in cause.places.items():
            times = f" (× {count:,})" if count > 1 else ""
            location = {"artifactLocation": {"uri": f"openapi/{result.api}.yaml"}, "region": {"startLine": 1}}
            row: dict[str, Any] = {
                "ruleId": cause.first.rule,
                "level": cause.severity,
                "message": {"text": reports.clean(f"{place}{times}: {cause.first.message}")},
                "locations": [
                    {"physicalLocation": location, "logicalLocations": [{"fullyQualifiedName": reports.clean(place)}]}
                ],
                "partialFingerprints": {"place/v1": reports.clean(f"{cause.first.rule} {place}")},
            }
            reason = cause.first.known
            row["suppressions"] = [{"kind": "external", "justification": reason}] if reason else []
            rows.append(row)
    invocation = {"executionSuccessful": not result.interrupted, "commandLine": result.command}
    return {"tool": {"driver": driver}, "invocations": [invocation], "results": rows}


def github_annotations(results: Sequence[Result]) -> Iterator[str]:
    """Yield a workflow command for each cause, which GitHub shows as an annotation of the run."""
    levels = {"error": "error", "warning": "warning", "note": "notice"}
    for result in results:
        for cause in reports.causes(result.findings, result.api):
            text = f"{cause.first.message}\nat {first_few([*cause.places], 3)}\n{cause.weight}: {cause.first.source}"
            title = escape_command(reports.clean(cause.title), ":,")
            yield f"::{levels[cause.severity]} title={title}::{escape_command(reports.clean(text))}"


def github_summary(results: Sequence[Result]) -> str:
    """Return the summary of a workflow's step, in Markdown."""

    def cell(text: str) -> str:
        return re.sub(r"[\\|<>&`*_\[\]~]", lambda match: f"&#{ord(match[0])};", one_line(reports.clean(text), 300))

    lines = list[str]()
    for result in results:
        word, meaning, _ = reports.VERDICTS[result.exit_code]
        lines += [f"### {word}: {cell(f'{reports.server_name(result)} at {result.target}')}", ""]
        lines += [f"{cell(reports.scope(result))}; {cell(reports.headline(result))}: {meaning}.", ""]
        lines += [f"- {cell(text)}" for text in result.shortfalls]
        causes = reports.causes(result.findings, result.api)
        lines += ["| severity | rule | deviation | places |", "|---|---|---|---|"] if causes else []
        for cause in causes:
            cells = (cause.severity, cause.title, cause.first.message, first_few([*cause.places], 3))
            lines.append(f"| {' | '.join(map(cell, cells))} |")
        lines += ["", f"Repeat: `{result.command.replace('`', '')}`", ""]
    return "\n".join(lines) + "\n"


def render_html(results: Sequence[Result]) -> str:
    """Return the HTML report, in which every text is cleaned and escaped."""

    def cleaned(value: Any) -> Any:
        return reports.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    loader = FileSystemLoader(Path(__file__).parent)
    settings: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(autoescape=True, finalize=cleaned, loader=loader, **settings)
    environment.globals |= {"reports": reports, "version": __version__, "all_rules": all_rules, "names_of": names_of}
    environment.filters |= {"names_of": names_of, "server_name": reports.server_name, "spelled": escape_unprintable}
    environment.filters["status_name"] = reports.status_name
    environment.filters["answered"] = lambda finding: (finding.operation, finding.status or NO_RESPONSE)
    environment.tests["accepted"] = reports.is_accepted
    page = environment.get_template("page.html")
    return page.render(results=results, worst=reports.worst_last(results)[-1].exit_code).lstrip()


def names_of(result: Result) -> list[str]:
    """Return the operations at which there are findings, known or not."""
    return sorted({item.operation or "no operation" for item in (*result.findings, *result.known)})


def load_json(path: Path) -> dict[str, Any]:
    """Return a JSON report that was written to a file. Raises InputError for anything else."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["format"] == REPORT_FORMAT and report["runs"]:
            return dict(report)
    except (OSError, ValueError, LookupError, TypeError):
        pass
    raise InputError(f"{path} is no JSON report of `oceanmock conform --report json=FILE`.")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield the differences of two runs of JSON reports: a title, the texts only of the old run, those of the new one.

    The first title is ``deviations``, known or not; their indices in lists do not count.
    """
    names = [{item["operation"] for item in run["operations"]} for run in (old, new)]
    texts: dict[str, Callable[[Mapping[str, Any]], Iterable[str]]] = {
        "deviations": lambda run: (
            f"{item['rule']} at {folded(item['breadcrumb'])}" for item in (*run["findings"], *run["known"])
        ),
        "version": lambda run: [run["version"]],
        "operations": lambda run: (item["operation"] for item in run["operations"]),
        "responses": lambda run: (
            f"{item['operation']} {status}"
            for item in run["operations"]
            if item["operation"] in names[0] & names[1]
            for status in item["statuses"]
        ),
        "transitions": lambda run: (f"{i['kind']} {i['before']} → {i['after']}" for i in run["transitions"]),
    }
    for title, texts_of in texts.items():
        before, after = dict.fromkeys(texts_of(old)), dict.fromkeys(texts_of(new))
        yield title, [text for text in before if text not in after], [text for text in after if text not in before]
    before, after = ({item["operation"]: item["median_ms"] for item in run["latencies"]} for run in (old, new))
    pairs = [(name, span, after[name]) for name, span in before.items() if name in after]
    moved = [(name, *both) for name, *both in pairs if max(both) > max(SLOWER * min(both), MIN_SLOW_MS)]
    rows = [[f"{name} median {both[place]:g} ms" for name, *both in moved] for place in (0, 1)]
    yield "latency", rows[0], rows[1]


RENDERERS: Final[Mapping[str, Callable[[Sequence[Result]], str]]] = {
    "html": render_html,
    "json": render_json,
    "junit": render_junit,
    "sarif": render_sarif,
}


@contextmanager
def writing(path: Path, what: str) -> Iterator[None]:
    """Raise EnvironmentProblem for an OSError while a file is written."""
    try:
        yield
    except OSError as problem:
        raise EnvironmentProblem(f"the {what} cannot be written to {path}: {problem.strerror}") from problem


def check_writable(path: Path, *, what: str = "report") -> None:
    """Raise EnvironmentProblem unless a file can be written there; leave no file behind."""
    with writing(path, what):
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        path.open("ab").close()
        if not existed:
            path.unlink()


def write_report(kind: str, results: Sequence[Result], path: Path) -> None:
    """Write a report of a kind. Raises InputError for another kind, EnvironmentProblem where that fails."""
    if kind not in RENDERERS:
        raise InputError(f"there is no {kind!r} report. {suggest(kind, [*RENDERERS])}")
    with writing(path, "report"):
        path.write_text(RENDERERS[kind](results), encoding="utf-8")
