"""Write results to files: JSON and JUnit XML for programs, HTML for people.

The same results give the same text. JSON: durations in milliseconds, instants in RFC 3339, bodies
as exact text or as Base64 (``body_kind``), cut after 64 KiB. ``result.schema.json`` describes it,
and changes with ``FORMAT``. JUnit XML: a test case per rule and operation. A violation is a
failure; a known deviation and a rule that was never checked are skipped. Missing responses are a
suite of their own, and so is each story. It has only attributes that Jenkins accepts
(jenkinsci/xunit-plugin: junit-10.xsd), and failures have the type that Surefire requires.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from xml.etree import ElementTree

from oceanmock import __version__
from oceanmock.checks import CheckResult, Exchange, Headers
from oceanmock.clock import SECOND
from oceanmock.conformance.model import Result
from oceanmock.conformance.reports import html, texts
from oceanmock.errors import EnvironmentProblem
from oceanmock.text import format_instant

FORMAT: Final = 1
SCHEMA: Final = Path(__file__).with_name("result.schema.json")
MAX_JSON_BODY: Final = 64 * 2**10
MAX_JUNIT_BODY: Final = 2000
ANY_OPERATION: Final = "any operation"

# --- JSON -----------------------------------------------------------------------------------------

Json = dict[str, Any]


def render_json(results: Sequence[Result]) -> str:
    """Return the JSON report, with a newline at its end."""
    code = texts.exit_code(results)
    report = {
        "oceanmock": __version__,
        "format": FORMAT,
        "exit_code": code,
        "verdict": texts.VERDICTS[code][0],
        "runs": [_run(item) for item in results],
    }
    return json.dumps(report, indent=2, ensure_ascii=True) + "\n"


def _run(result: Result) -> Json:
    _, matrix = texts.matrix(result)
    return {
        "target": result.target,
        "api": result.api,
        "version": result.version,
        "seed": result.seed,
        "command": result.command,
        "started": result.started,
        "duration_ms": _ms(result.took),
        "writes": result.writes,
        "interrupted": result.interrupted,
        "exit_code": result.exit_code,
        "verdict": texts.VERDICTS[result.exit_code][0],
        "requests": result.asked,
        "phases": [
            {"phase": name, "duration_ms": _ms(took)} for name, took in result.phases.items()
        ],
        "operations": [
            {
                "operation": name,
                "statuses": {
                    texts.status_name(cell.status): cell.count
                    for cell in sorted(cells, key=lambda cell: cell.status)
                    if cell.count
                },
                "missing": sorted(cell.status for cell in cells if cell.is_missing),
            }
            for name, cells in matrix.items()
        ],
        "rules": [
            {
                "rule": item.rule,
                "checks": item.checks,
                "violations": item.violations,
                "known": item.known,
                "operations": {
                    operation: count
                    for (rule, operation), count in sorted(result.checked.items())
                    if rule == item.rule and count
                },
            }
            for item in texts.rule_lines(result)
        ],
        "findings": [_finding(item) for item in result.findings],
        "known": [_finding(item) for item in result.known],
        "baselines": result.baselines,
        "stale": [asdict(item) for item in result.stale],
        "missing": [asdict(item) for item in result.missing],
        "changes": [_exchange(item) for item in result.changes],
        "transitions": [
            {"kind": kind, "before": before, "after": after, "count": count}
            for (kind, before, after), count in sorted(result.walked.items())
        ],
        "states": [
            {"kind": kind, "state": state, "count": count}
            for (kind, state), count in sorted(result.shown.items())
        ],
        "stories": [
            {
                "story": name,
                "steps": [
                    {
                        "text": step.text,
                        "outcome": step.outcome,
                        "detail": step.detail,
                        "duration_ms": _ms(step.took),
                    }
                    for step in steps
                ],
            }
            for name, steps in result.stories.items()
        ],
    }


def _finding(finding: CheckResult) -> Json:
    return {
        "rule": finding.rule,
        "operation": finding.operation,
        "status": finding.status,
        "path": finding.path,
        "breadcrumb": finding.breadcrumb,
        "message": finding.message,
        "source": finding.source,
        "known": finding.known,
        "curl": finding.curl,
        "exchange": None if finding.exchange is None else _exchange(finding.exchange),
    }


def _exchange(exchange: Exchange) -> Json:
    return {
        "number": exchange.number,
        "phase": exchange.phase,
        "operation": exchange.operation,
        "sent_at": format_instant(exchange.sent_at, digits=3, padded=True),
        "duration_ms": _ms(exchange.took),
        "expects_refusal": exchange.expects_refusal,
        "method": exchange.method,
        "target": exchange.target,
        "status": exchange.status,
        "problem": exchange.problem,
        "request": _message(exchange.request_headers, exchange.request_body),
        "response": _message(exchange.response_headers, exchange.response_body),
    }


def _message(headers: Headers, body: bytes) -> Json:
    kind, text = _encoded(body[:MAX_JSON_BODY])
    return {
        "headers": [list(pair) for pair in headers],
        "body": text,
        "body_kind": kind if body else "none",
        "body_bytes": len(body),
    }


def _encoded(body: bytes) -> tuple[str, str]:
    """Return the kind of a body's text, and the text."""
    try:
        return "text", body.decode()
    except UnicodeDecodeError as problem:
        if len(body) == MAX_JSON_BODY and problem.start > MAX_JSON_BODY - 4:  # cut in a character
            return "text", body[: problem.start].decode()
        return "base64", base64.b64encode(body).decode()


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)


# --- JUnit XML ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Case:
    """One test case; ``group`` follows the suite's name, ``details`` is a failure's text."""

    group: str
    name: str
    outcome: Literal["passed", "failure", "skipped"] = "passed"
    message: str = ""
    details: str = ""
    took: int = 0


@dataclass(frozen=True, slots=True)
class _Suite:
    name: str
    cases: list[_Case]
    result: Result
    took: int = 0
    notes: list[str] = field(default_factory=list)


def render_junit(results: Sequence[Result]) -> str:
    """Return the JUnit report, with a newline at its end."""
    suites = [suite for result in results for suite in _suites(result)]
    counts = _counts([case for suite in suites for case in suite.cases])
    del counts["skipped"]  # which only suites have
    root = ElementTree.Element("testsuites", {"name": "oceanmock conform", **counts})
    root.set("time", _seconds(sum(item.took for item in results)))
    root.extend(map(_suite_element, suites))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _suites(result: Result) -> Iterator[_Suite]:
    notes = [f"stale in the baseline: {item.rule} at {item.operation}" for item in result.stale]
    rules = list(_rule_cases(result))
    yield _Suite(f"{result.api}.rules", rules, result, result.took, notes)
    yield _Suite(f"{result.api}.coverage", list(_coverage_cases(result)), result)
    outcomes: Mapping[str, Any] = {"passed": "passed", "failed": "failure"}
    for name, steps in result.stories.items():
        cases = [
            _Case(
                name,
                f"{number}. {step.text}",
                outcomes.get(step.outcome, "skipped"),
                step.detail or step.outcome,
                step.detail,
                step.took,
            )
            for number, step in enumerate(steps, 1)
        ]
        yield _Suite(f"{result.api}.story", cases, result, sum(step.took for step in steps))


def _rule_cases(result: Result) -> Iterator[_Case]:
    """Yield a case per rule and operation at which it was checked."""
    for rule in texts.rule_lines(result):
        findings = _by_operation(result.findings, rule.rule)
        known = _by_operation(result.known, rule.rule)
        checked = {
            operation for (name, operation), _ in result.checked.items() if name == rule.rule
        }
        operations = {operation or ANY_OPERATION for operation in checked} | {*findings, *known}
        for operation in sorted(operations or {ANY_OPERATION}):
            if operation in findings:
                yield _failure(rule.rule, operation, findings[operation])
            elif operation in known:
                reasons = "; ".join(dict.fromkeys(item.known for item in known[operation]))
                yield _Case(rule.rule, operation, "skipped", f"known: {reasons}")
            elif rule.checks:
                yield _Case(rule.rule, operation)
            else:
                yield _Case(rule.rule, operation, "skipped", "never checked")


def _by_operation(findings: Sequence[CheckResult], rule: str) -> dict[str, list[CheckResult]]:
    grouped: dict[str, list[CheckResult]] = {}
    for item in findings:
        if texts.clean(item.rule) == rule:
            grouped.setdefault(item.operation or ANY_OPERATION, []).append(item)
    return grouped


def _failure(rule: str, operation: str, findings: Sequence[CheckResult]) -> _Case:
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    message = texts.finding_line(findings[0]) + more
    return _Case(rule, operation, "failure", message, "\n\n".join(map(_finding_text, findings)))


def _finding_text(finding: CheckResult) -> str:
    lines = [texts.finding_line(finding), f"source: {finding.source}", finding.curl]
    if (exchange := finding.exchange) is not None:
        lines.append(f"{texts.request_line(exchange)} → {texts.response_line(exchange)}")
        lines.append(texts.body_text(exchange.response_body, MAX_JUNIT_BODY))
    return "\n".join(lines)


def _coverage_cases(result: Result) -> Iterator[_Case]:
    hints = {(item.operation, item.status): item.hint for item in result.missing}
    for name, cells in texts.matrix(result)[1].items():
        missing = [cell.status for cell in cells if cell.is_missing]
        if missing:
            message = f"never received {', '.join(map(str, missing))}"
            details = "\n".join(f"{status}: {hints[name, status]}" for status in missing)
            yield _Case("statuses", name, "failure", message, details)
        else:
            yield _Case("statuses", name)


def _suite_element(suite: _Suite) -> ElementTree.Element:
    element = ElementTree.Element("testsuite", {"name": suite.name, **_counts(suite.cases)})
    element.set("time", _seconds(suite.took))
    element.set("timestamp", suite.result.started.removesuffix("Z"))
    properties = ElementTree.SubElement(element, "properties")
    for name, value in (
        ("target", suite.result.target),
        ("version", suite.result.version),
        ("seed", str(suite.result.seed)),
        ("mode", texts.mode(suite.result)),
        ("command", suite.result.command),
        ("baselines", ", ".join(suite.result.baselines)),
    ):
        ElementTree.SubElement(properties, "property", name=name, value=texts.clean(value))
    element.extend(_case_element(suite.name, case) for case in suite.cases)
    if suite.notes:
        ElementTree.SubElement(element, "system-out").text = texts.clean("\n".join(suite.notes))
    return element


def _case_element(suite: str, case: _Case) -> ElementTree.Element:
    element = ElementTree.Element(
        "testcase",
        classname=texts.line(f"{suite}.{case.group}"),
        name=texts.line(case.name),
        time=_seconds(case.took),
    )
    if case.outcome != "passed":
        child = ElementTree.SubElement(element, case.outcome, message=texts.line(case.message))
        if case.outcome == "failure":
            child.set("type", texts.line(case.group))
        child.text = texts.clean(case.details) or None
    return element


def _counts(cases: Sequence[_Case]) -> dict[str, str]:
    return {
        "tests": str(len(cases)),
        "failures": str(sum(case.outcome == "failure" for case in cases)),
        "errors": "0",
        "skipped": str(sum(case.outcome == "skipped" for case in cases)),
    }


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / SECOND:.3f}"


# --- files ----------------------------------------------------------------------------------------

RENDERERS: Final[Mapping[str, Callable[[Sequence[Result]], str]]] = {
    "html": html.render,
    "json": render_json,
    "junit": render_junit,
}


def check_writable(path: Path, *, what: str = "report") -> None:
    """Raise EnvironmentProblem unless a file can be written there; leave no file behind."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        with path.open("ab"):
            pass
        if not existed:
            path.unlink()
    except OSError as problem:
        raise EnvironmentProblem(
            f"the {what} cannot be written to {path}: {problem.strerror}"
        ) from problem


def write_report(kind: str, results: Sequence[Result], path: Path) -> None:
    """Write a report: html, json or junit. Raises EnvironmentProblem where that fails."""
    try:
        path.write_text(RENDERERS[kind](results), encoding="utf-8")
    except OSError as problem:
        raise EnvironmentProblem(
            f"the report cannot be written to {path}: {problem.strerror}"
        ) from problem
