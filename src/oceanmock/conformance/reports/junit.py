"""Results as JUnit XML, for what shows test results: a test case per rule and operation.

A broken rule is a failure. A known deviation is skipped, as pytest reports what is expected to
fail: it shows, with its reason, and fails nothing. What was never looked at is skipped too. What
had to be seen and was not is a suite of its own, an operation a case; so is each story, a step a
case. No attribute is here that Jenkins does not know (jenkinsci/xunit-plugin: junit-10.xsd), and a
failure has the type that Surefire wants (surefire-test-report.xsd).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal
from xml.etree import ElementTree

from oceanmock.checks import CheckResult
from oceanmock.conformance.model import Result
from oceanmock.conformance.reports import texts

Outcome = Literal["passed", "failure", "skipped"]
ANYWHERE: Final = "any operation"


@dataclass(frozen=True, slots=True)
class _Case:
    """One test case; ``details`` is the text within a failure."""

    name: str
    outcome: Outcome = "passed"
    message: str = ""
    details: str = ""
    took: int = 0


@dataclass(frozen=True, slots=True)
class _Suite:
    """Test cases that stand together; a class name joins the suite's to the rule's."""

    name: str
    cases: list[tuple[str, _Case]]
    result: Result
    took: int = 0
    notes: list[str] = field(default_factory=list)


def render(results: Sequence[Result]) -> str:
    """The report, with a newline at its end."""
    suites = [suite for result in results for suite in _suites(result)]
    cases = [case for suite in suites for _, case in suite.cases]
    root = ElementTree.Element("testsuites", {"name": "oceanmock conform", **_counts(cases)})
    del root.attrib["skipped"]  # only suites have it
    root.set("time", _seconds(sum(each.took for each in results)))
    root.extend(map(_suite_element, suites))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + (
        ElementTree.tostring(root, encoding="unicode") + "\n"
    )


# --- which cases there are ------------------------------------------------------------------------


def _suites(result: Result) -> Iterator[_Suite]:
    rules = list(_rule_cases(result))
    notes = [f"stale in the baseline: {each.rule} at {each.operation}" for each in result.stale]
    yield _Suite(f"{result.api}.rules", rules, result, result.took, notes)
    yield _Suite(f"{result.api}.coverage", list(_coverage_cases(result)), result)
    for name, steps in result.stories.items():
        outcomes: dict[str, Outcome] = {"held": "passed", "failed": "failure"}
        cases = [
            _Case(
                f"{place}. {step.text}",
                outcomes.get(step.outcome, "skipped"),
                step.detail or step.outcome,
                step.detail,
                step.took,
            )
            for place, step in enumerate(steps, 1)
        ]
        took = sum(step.took for step in steps)
        yield _Suite(f"{result.api}.story", [(name, each) for each in cases], result, took)


def _rule_cases(result: Result) -> Iterator[tuple[str, _Case]]:
    """A case per rule and operation that it was looked at in."""
    for rule in texts.rule_lines(result):
        found = _by_operation(result.findings, rule.rule)
        known = _by_operation(result.known, rule.rule)
        looked = {operation for (name, operation), n in result.checked.items() if name == rule.rule}
        places = sorted({each or ANYWHERE for each in looked} | {*found, *known})
        if not places:
            places = [ANYWHERE]
        for place in places:
            if place in found:
                yield rule.rule, _broken(place, found[place])
            elif place in known:
                yield rule.rule, _known(place, known[place])
            elif rule.looked:
                yield rule.rule, _Case(place)
            else:
                yield rule.rule, _Case(place, "skipped", "never looked at")


def _by_operation(findings: Sequence[CheckResult], rule: str) -> dict[str, list[CheckResult]]:
    grouped: dict[str, list[CheckResult]] = {}
    for each in findings:
        if texts.clean(each.rule) == rule:
            grouped.setdefault(each.operation or ANYWHERE, []).append(each)
    return grouped


def _broken(place: str, findings: Sequence[CheckResult]) -> _Case:
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    first = findings[0]
    details = "\n\n".join(map(_told, findings))
    return _Case(place, "failure", f"{first.breadcrumb}: {first.message}{more}", details)


def _told(finding: CheckResult) -> str:
    answer = []
    if (exchange := finding.exchange) is not None:
        answer = [
            f"{texts.request_line(exchange)} → {texts.answer_line(exchange)}",
            texts.body_text(exchange.response_body, 2000),
        ]
    source = f"source: {finding.source}"
    return "\n".join([f"{finding.breadcrumb}: {finding.message}", source, finding.curl, *answer])


def _known(place: str, findings: Sequence[CheckResult]) -> _Case:
    reasons = "; ".join(dict.fromkeys(each.known for each in findings))
    return _Case(place, "skipped", f"known: {reasons}")


def _coverage_cases(result: Result) -> Iterator[tuple[str, _Case]]:
    names = dict.fromkeys([*result.statuses, *(each.operation for each in result.missing)])
    for name in names:
        missing = [each for each in result.missing if each.operation == name]
        if not missing:
            yield "statuses", _Case(name)
            continue
        statuses = ", ".join(str(each.status) for each in missing)
        hints = "\n".join(f"{each.status}: {each.hint}" for each in missing)
        yield "statuses", _Case(name, "failure", f"never answered {statuses}", hints)


# --- how they are written -------------------------------------------------------------------------


def _suite_element(suite: _Suite) -> ElementTree.Element:
    counts = _counts([case for _, case in suite.cases])
    element = ElementTree.Element("testsuite", {"name": suite.name, **counts})
    element.set("time", _seconds(suite.took))
    element.set("timestamp", suite.result.started.removesuffix("Z"))
    properties = ElementTree.SubElement(element, "properties")
    for name, value in _properties(suite.result).items():
        ElementTree.SubElement(properties, "property", name=name, value=texts.clean(value))
    for rule, case in suite.cases:
        element.append(_case_element(suite.name, rule, case))
    if suite.notes:
        ElementTree.SubElement(element, "system-out").text = texts.clean("\n".join(suite.notes))
    return element


def _properties(result: Result) -> dict[str, str]:
    return {
        "target": result.target,
        "version": result.version,
        "seed": str(result.seed),
        "mode": texts.mode(result),
        "command": result.command,
        "baselines": ", ".join(result.baselines),
    }


def _case_element(suite: str, rule: str, case: _Case) -> ElementTree.Element:
    element = ElementTree.Element(
        "testcase",
        classname=texts.line(f"{suite}.{rule}"),
        name=texts.line(case.name),
        time=_seconds(case.took),
    )
    if case.outcome != "passed":
        said = ElementTree.SubElement(element, case.outcome, message=texts.line(case.message))
        if case.outcome == "failure":
            said.set("type", texts.line(rule))
        said.text = texts.clean(case.details) or None
    return element


def _counts(cases: Sequence[_Case]) -> dict[str, str]:
    return {
        "tests": str(len(cases)),
        "failures": str(sum(case.outcome == "failure" for case in cases)),
        "errors": "0",
        "skipped": str(sum(case.outcome == "skipped" for case in cases)),
    }


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:.3f}"
