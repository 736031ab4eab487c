"""The reports of a conformance run: a terminal's, JUnit XML, JSON; and what is said meanwhile."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import unescape

import jsonschema
import pytest
from rich.console import Console

from conform_results import SECOND, a_clean_result, a_finding, a_result, an_exchange
from golden import assert_golden
from oceanmock.checks import CheckResult
from oceanmock.conformance import Event, MissingResponse, PhaseStarted, Result, Waiting, reports
from oceanmock.conformance.baseline import Known
from oceanmock.conformance.reports import diagrams_of
from oceanmock.conformance.reports.files import (
    RENDERERS,
    check_writable,
    render_html,
    render_json,
    render_junit,
    render_sarif,
    write_report,
)
from oceanmock.conformance.reports.terminal import Display, print_results
from oceanmock.errors import EnvironmentProblem
from oceanmock.text import format_elapsed

HOSTILE = "\x1b[2J\x00 [red]&<b>]]>\u202e\ud800\n2"


def printed(*results: Result, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_results(results, console)
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def hostile() -> Result:
    """A run in which whatever a server could make up is hostile."""
    exchange = an_exchange(
        target=f"/{HOSTILE}",
        response_headers=((HOSTILE, HOSTILE),),
        response_body=HOSTILE.encode("utf-8", "surrogatepass"),
        problem=HOSTILE,
    )
    finding = a_finding(path=HOSTILE, message=HOSTILE, exchange=exchange, curl=HOSTILE)
    return a_result(
        version=HOSTILE,
        findings=[finding, replace(finding, rule=HOSTILE, operation=HOSTILE, exchange=None)],
        known=[replace(finding, known=HOSTILE)],
        changes=[exchange],
        transitions=Counter({("task", HOSTILE, "RUNNING"): 1, (HOSTILE, "a", "b"): 1}),
        labels=Counter({("task", HOSTILE): 1}),
    )


# --- on a terminal --------------------------------------------------------------------------------


def test_a_run_that_found_something_is_summed_up() -> None:
    assert_golden("conform-failed.txt", printed(a_result()))


def test_a_clean_run_is_summed_up() -> None:
    assert_golden("conform-passed.txt", printed(a_clean_result()))


def test_two_runs_end_with_the_verdict_on_the_worse() -> None:
    text = printed(a_clean_result(missing=a_result().missing), a_clean_result(api="obshell"))

    assert "Required responses that were not observed" in text
    assert text.splitlines()[-1].startswith("INCOMPLETE (exit code 3), ")


def one_cause() -> Result:
    """A run in which every time of a list has the same wrong format."""
    findings = [
        a_finding(
            "time.format",
            operation="listTaskInstances",
            path=f"$.data.contents[{place}].{member}",
            message=f"{member} is '2024-01-10 06:00:{place:02} +08', which is no instant.",
            source="openapi: the times of tasks (ocp-express SubtaskAccessor.java:54-83)",
        )
        for place in range(47)
        for member in ("startTime", "finishTime")
    ]
    return a_clean_result(findings=findings)


def test_places_of_one_cause_are_folded() -> None:
    text = printed(one_cause())

    assert_golden("conform-one-cause.txt", text)
    assert "1 cause of findings, in 94 places" in text


def test_an_interrupted_run_says_what_it_found_until_then() -> None:
    findings = a_result().findings[:1]
    result = a_clean_result(interrupted=True, stopped="SIGTERM", findings=findings, phases={"probes": SECOND})

    assert_golden("conform-interrupted.txt", printed(result))


@pytest.mark.parametrize(
    ("messages", "count"),
    [
        (["$.a is '1', not '2'.", "$.a is 'x', not 'y\\'s'."], 1),
        (["an id of 30 digits is answered 500", "an id of 31 digits is answered 502"], 1),
        (["it is answered 500 to GET", "it is answered 500 to PUT"], 2),
    ],
)
def test_findings_that_differ_in_values_alone_have_one_cause(messages: list[str], count: int) -> None:
    findings = [a_finding(path=f"$.data[{place}].a", message=text) for place, text in enumerate(messages)]

    assert len(reports.causes(findings, "ocp")) == count


def test_wrong_values_of_two_members_are_two_causes_of_a_schema() -> None:
    paths = ("$.data.contents[0].id", "$.data.contents[1].id", "$.data.contents[0].name")
    findings = [a_finding("schema.type", path=path, message=f"{path}: 1 is not a string.") for path in paths]

    assert [len(cause.findings) for cause in reports.causes(findings, "ocp")] == [2, 1]


def test_severe_causes_of_weighty_sources_come_first() -> None:
    findings = [
        a_finding("schemathesis.unfinished", source="schemathesis"),
        a_finding("hostile.500"),
        a_finding("order.forward", source="ocp-express AbstractTaskWorker.java:59-87"),
        a_finding("list.order", source="openapi (ocp-doc 100.query-the-task-list.md; ocp-express A.java)"),
    ]

    found = [(cause.severity, cause.weight, cause.first.rule) for cause in reports.causes(findings, "ocp")]
    assert found == [
        ("error", "document", "list.order"),
        ("error", "sibling", "order.forward"),
        ("warning", "document", "hostile.500"),
        ("note", "document", "schemathesis.unfinished"),
    ]
    assert reports.causes([a_finding(source="obshell ob/param/task.go:19")], "obshell")[0].weight == "code"


def test_a_cause_lists_its_operations_in_the_same_order_in_each_run() -> None:
    findings = [a_finding(operation=name) for name in ("skipSubtask", "", "getTaskInstance", "retryTask")]

    (cause,) = reports.causes(findings, "ocp")

    assert cause.operations == ["getTaskInstance", "no operation", "retryTask", "skipSubtask"]


def test_a_summary_fits_a_screen() -> None:
    findings = [a_finding(f"hostile.{n}", curl="curl a\n" * 8) for n in range(32)]
    changes = [an_exchange(n, method="POST", operation="retryTask") for n in range(40)]
    missing = [MissingResponse("retryTask", n, f"Hint {n}.") for n in range(40)]
    stale = [Known(f"rule{n}", "retryTask", "reason") for n in range(40)]

    text = printed(a_result(findings=findings, changes=changes, missing=missing, stale=stale))

    assert text.count("\n") <= 50
    assert "  … and 31 more causes; a report (--report) has all\n    hostile.1 × 1, hostile.2 × 1" in text
    assert "Changes made: 40 of 40 requests accepted" in text
    assert "  … and 36 more changes" in text
    assert "  … and 36 more missing responses" in text
    assert "  … and 36 more stale entries" in text


def test_a_command_to_paste_begins_in_the_first_column() -> None:
    command = "python3 - <<'END'\nprint(1)\nEND"

    assert f"\n{command}\n" in printed(a_clean_result(findings=[a_finding(curl=command)]))


def test_a_server_cannot_write_to_the_terminal() -> None:
    text = printed(hostile())

    assert set(text) - {"\n"} == {each for each in text if each.isprintable()}
    assert "[red]" in text


@pytest.mark.parametrize("width", [40, 60, 200])
def test_commands_to_paste_are_never_wrapped(width: int) -> None:
    text = printed(a_result(), width=width)

    command = "oceanmock conform http://127.0.0.1:8080 --api ocp --user manager --seed 7"
    assert f"repeat  {command}\n" in text


@pytest.mark.parametrize(
    ("span", "told"),
    [
        (39_400, "0.0 ms"),
        (3_400_000, "3.4 ms"),
        (47_900_000, "48 ms"),
        (999_000_000, "999 ms"),
        (999_900_000, "1.0 s"),
        (12_340_000_000, "12.3 s"),
        (59_960_000_000, "1 min 0 s"),
        (125 * SECOND, "2 min 5 s"),
    ],
)
def test_spans_are_told_as_people_read_them(span: int, told: str) -> None:
    assert format_elapsed(span) == told


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ""),
        (b'{"a":[1]}', '{\n  "a": [\n    1\n  ]\n}'),
        (b"not JSON\x00", "not JSON\\x00"),
        (b"\xff\xfe", "ff fe"),
        (b"[" * 100_000, "[" * reports.MAX_SHOWN_BODY + "\n… 83,616 more bytes"),
    ],
)
def test_bodies_are_laid_out_as_far_as_they_can_be(body: bytes, text: str) -> None:
    assert reports.body_text(body) == text


def test_a_finding_about_two_responses_names_both() -> None:
    earlier = an_exchange(response_body=b'{"data":{"name":"old"}}')
    later = an_exchange(2, response_body=b'{"data":[{"name":"new"}]}')
    found = a_finding("kept.changed", path="$.data[0].name", exchange=later, earlier=(earlier, "$.data.name"))

    texts = [printed(a_clean_result(findings=[found])), render_junit([a_clean_result(findings=[found])])]

    for text in texts:
        assert 'request 1: GET /api/v2/tasks/instances/1000?x=1 → 200: $.data.name = "old"' in unescape(text)
        assert 'request 2: GET /api/v2/tasks/instances/1000?x=1 → 200: $.data[0].name = "new"' in unescape(text)


@pytest.mark.parametrize(
    ("path", "marked"),
    [
        ("$.a[1].b", '{\n  "a": [\n    1,\n    {\n      "b": <2>\n    }\n  ]\n}'),
        ("$.a[1]", '{\n  "a": [\n    1,\n    <{\n      "b": 2\n    }>\n  ]\n}'),
        ("$.a[2].c", '{\n  "a": [\n    1,\n    {\n      "b": 2\n    }\n  ]\n}'),
        ("header Date", '{\n  "a": [\n    1,\n    {\n      "b": 2\n    }\n  ]\n}'),
    ],
)
def test_the_member_of_a_body_is_marked(path: str, marked: str) -> None:
    before, member, after = reports.marked_body(b'{"a": [1, {"b": 2}]}', path)

    assert before + (f"<{member}>" if member else "") + after == marked


# --- JUnit XML ------------------------------------------------------------------------------------


def junit(*results: Result) -> ElementTree.Element:
    return ElementTree.fromstring(render_junit(results))


def cases(root: ElementTree.Element, suite: str) -> dict[tuple[str, str], str]:
    """Class and name → what came of it, in a suite."""
    return {
        (case.get("classname", "").removeprefix(f"{suite}."), case.get("name", "")): next(
            (child.tag for child in case), "passed"
        )
        for case in root.iterfind(f"testsuite[@name='{suite}']/testcase")
    }


def test_a_rule_at_an_operation_is_a_test_case() -> None:
    assert cases(junit(a_result()), "ocp.rules") == {
        ("envelope.status", "getTaskInstance"): "failure",
        ("envelope.status", "listTaskInstances"): "passed",
        ("hostile.500", "getTaskInstance"): "failure",
        ("parent.out-of-step", "getTaskInstance"): "passed",
        ("rollback.order", "any operation"): "skipped",
        ("time.start-after-finish", "getTaskInstance"): "skipped",
    }


def test_what_had_to_be_seen_is_a_suite_of_its_own() -> None:
    assert cases(junit(a_result()), "ocp.coverage") == {
        ("statuses", "listTaskInstances"): "passed",
        ("statuses", "getTaskInstance"): "passed",
        ("statuses", "retryTask"): "failure",
        ("statuses", "rollbackTask"): "failure",
    }


def test_an_operation_that_was_never_requested_is_skipped() -> None:
    assert cases(junit(a_clean_result()), "ocp.coverage")["statuses", "rollbackTask"] == "skipped"


def test_a_run_that_was_stopped_is_an_error_and_misses_nothing() -> None:
    root = junit(a_result(interrupted=True, stopped="SIGTERM"))

    assert cases(root, "ocp.run") == {("run", "the run is complete"): "error"}
    assert "SIGTERM" in next(root.iter("error")).get("message", "")
    assert cases(root, "ocp.coverage")["statuses", "retryTask"] == "skipped"


def test_a_threshold_that_is_not_met_is_a_failure() -> None:
    root = junit(a_clean_result(shortfalls=["transitions: 0 observed, 1 required"]))

    run = cases(root, "ocp.run")
    assert run == {("run", "the run is complete"): "passed", ("run", "transitions"): "failure"}


def test_a_story_is_a_suite_of_its_steps() -> None:
    story = "retry-failed-subtask"
    assert cases(junit(a_result()), "ocp.story") == {
        (story, "1. until task 1000 is FAILED"): "passed",
        (story, "2. retryTask 1000"): "failure",
        (story, "3. until task 1000 is SUCCESSFUL"): "skipped",
    }


@pytest.mark.parametrize("results", [[a_result()], [a_clean_result(), hostile(), a_result(interrupted=True)]])
def test_junit_counts_what_it_holds(results: list[Result]) -> None:
    root = junit(*results)

    for element in [root, *root.iterfind("testsuite")]:
        assert int(element.get("tests", "")) == len(list(element.iter("testcase")))
        assert int(element.get("failures", "")) == len(list(element.iter("failure")))
        assert int(element.get("errors", "")) == len(list(element.iter("error")))
    for suite in root.iterfind("testsuite"):
        assert int(suite.get("skipped", "")) == len(list(suite.iter("skipped")))


COUNTED = {"name", "time", "tests", "failures", "errors"}
JENKINS = {
    "testsuites": COUNTED,
    "testsuite": COUNTED | {"skipped", "timestamp"},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"classname", "name", "time"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message"},
    "system-out": set(),
}
"""What Jenkins lets stand where, of what is here (jenkinsci/xunit-plugin: junit-10.xsd)."""


@pytest.mark.parametrize("results", [[a_result()], [a_clean_result(), hostile(), a_result(interrupted=True)]])
def test_junit_is_as_jenkins_wants_it(results: list[Result]) -> None:
    said = {(each.tag, frozenset(each.attrib)) for each in junit(*results).iter()}

    assert {tag for tag, _ in said} <= JENKINS.keys()
    assert all(names == JENKINS[tag] for tag, names in said)


def test_a_failure_says_all_that_is_needed_to_mend_it() -> None:
    assert_golden("conform-junit.xml", render_junit([a_result()]))


def test_a_rule_nobody_counted_per_operation_is_one_case() -> None:
    found = cases(junit(a_result(checked=Counter({("parent.out-of-step", ""): 34}))), "ocp.rules")

    assert found["envelope.status", "getTaskInstance"] == "failure"
    assert found["parent.out-of-step", "any operation"] == "passed"


def test_a_clean_run_has_no_failure() -> None:
    assert not list(junit(a_clean_result()).iter("failure"))


# --- JSON -----------------------------------------------------------------------------------------


def schema() -> Any:
    return json.loads(Path(reports.__file__).with_name("result.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "results",
    [
        [a_result()],
        [a_clean_result(), a_clean_result(api="obshell")],
        [hostile()],
        [a_clean_result(interrupted=True)],
        [a_result(findings=[a_finding(exchange=an_exchange(status=None, problem="refused"))])],
        [a_result(findings=[a_finding(earlier=(an_exchange(), "$"))], latencies={"retryTask": [1, 2]})],
    ],
)
def test_the_json_report_is_as_its_schema_says(results: list[Result]) -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(validator.schema)

    assert list(validator.iter_errors(json.loads(render_json(results)))) == []


def test_the_schema_holds_every_key_and_allows_no_other() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    report = json.loads(render_json([a_result()]))

    for here in (report, report["runs"][0], report["runs"][0]["findings"][0]):
        key, value = next(iter(here.items()))
        del here[key]
        assert not validator.is_valid(report)
        here[key] = value
        here["surprise"] = 1
        assert not validator.is_valid(report)
        del here["surprise"]
    assert validator.is_valid(report)


def test_the_json_report_is_told_in_full() -> None:
    assert_golden("conform-report.json", render_json([a_result()]))


def test_bodies_are_kept_exactly_and_cut_where_they_are_long() -> None:
    bodies = {
        b"": ("none", "", 0),
        '{"id": 99999999999999999999999, "é": 1}'.encode(): ("text", '{"id": 99999999999999999999999, "é": 1}', 40),
        b"\xff": ("base64", "/w==", 1),
        ("é" * 40_000).encode()[1:]: ("base64", None, 79_999),
        b"a" + ("é" * 40_000).encode(): ("text", "a" + "é" * 32_767, 80_001),
    }
    for body, (kind, text, size) in bodies.items():
        found = a_result(findings=[a_finding(exchange=an_exchange(response_body=body))])
        report = json.loads(render_json([found]))

        said = report["runs"][0]["findings"][0]["exchange"]["response"]
        assert (said["body_kind"], said["body_bytes"]) == (kind, size)
        assert text is None or said["body"] == text


# --- SARIF ----------------------------------------------------------------------------------------


def test_sarif_has_a_result_per_cause_and_place() -> None:
    known = a_finding("time.start-after-finish", known="a slow clock")
    run = json.loads(render_sarif([replace(one_cause(), known=[known])]))["runs"][0]

    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["time.format", "time.start-after-finish"]
    found = [(row["ruleId"], row["level"], row["message"]["text"].partition(":")[0]) for row in run["results"]]
    assert found == [
        ("time.format", "error", "listTaskInstances → 200 → $.data.contents[*].startTime (× 47)"),
        ("time.format", "error", "listTaskInstances → 200 → $.data.contents[*].finishTime (× 47)"),
        ("time.start-after-finish", "error", "getTaskInstance → 200 → status"),
    ]
    assert [[item["justification"] for item in row["suppressions"]] for row in run["results"]] == [
        [],
        [],
        ["a slow clock"],
    ]
    places = [row["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for row in run["results"]]
    assert set(places) == {"openapi/ocp.yaml"}


def test_sarif_says_that_a_run_was_interrupted() -> None:
    runs = json.loads(render_sarif([a_clean_result(), a_clean_result(interrupted=True)]))["runs"]

    assert [run["invocations"][0]["executionSuccessful"] for run in runs] == [True, False]


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RENDERERS)
def test_the_same_results_give_the_same_report(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "report"

    write_report(kind, [a_result()], path)

    assert path.read_text(encoding="utf-8") == RENDERERS[kind]([a_result()])


def test_a_report_has_its_folder_made_and_leaves_nothing_when_it_is_only_tried(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"

    check_writable(path)

    assert path.parent.is_dir()
    assert not path.exists()


@pytest.mark.parametrize("path", ["/proc/report.html", "/", "/dev/null/report.html"])
def test_a_report_that_cannot_be_written_is_told_before_the_run(path: str) -> None:
    with pytest.raises(EnvironmentProblem, match=r"the report cannot be written to /"):
        check_writable(Path(path))


def test_an_old_report_is_not_lost_by_trying(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("of yesterday")

    check_writable(path)

    assert path.read_text() == "of yesterday"


# --- the diagrams ---------------------------------------------------------------------------------


def test_a_diagram_counts_what_was_seen_and_keeps_what_was_not() -> None:
    walked = Counter({("task", "FAILED/EXECUTE", "RUNNING/RETRY"): 2})

    task, _ = diagrams_of(a_clean_result(transitions=walked, labels=Counter()))

    steps = {(each.before, each.after): (each.triggers, each.count) for each in task.moves}
    assert steps["FAILED/EXECUTE", "RUNNING/RETRY"] == (("task.RETRY",), 2)
    assert steps["RUNNING/EXECUTE", "FAILED/EXECUTE"] == (("time",), 0)
    assert task.observed == 1
    assert "ABORTED" not in task.states, "an opt-in that nobody saw is not drawn"


def drawings(result: Result) -> list[str]:
    """The diagrams of a run's page."""
    return re.findall(r"<svg.*?</svg>", render_html([result]), re.DOTALL)


@pytest.mark.parametrize(
    ("before", "after", "style"),
    [
        ("READY/RUN", "RUNNING/RUN", "seen"),
        ("READY/RUN", "SUCCEED/RUN", "leap"),
        ("SUCCEED/RUN", "RUNNING/RUN", "odd"),
        ("READY/RUN", "PAUSED/RUN", "odd"),
        ("READY", "RUNNING", "odd"),
    ],
)
def test_what_is_seen_is_a_move_or_a_leap_or_odd(before: str, after: str, style: str) -> None:
    walked = Counter({("dag", before, after): 1})

    drawn = drawings(a_clean_result(api="obshell", transitions=walked))[0]

    others = {"seen", "leap", "odd"} - {style}
    assert drawn.count(f'class="edge {style}"') == 1
    assert not any(f'class="edge {other}"' in drawn for other in others)


def test_every_diagram_fits_its_frame() -> None:
    for result in (a_result(), a_clean_result(api="obshell"), hostile()):
        drawn = drawings(result)
        assert len(drawn) == len(diagrams_of(result))
        for svg in map(ElementTree.fromstring, drawn):
            left, top, width, height = map(int, svg.get("viewBox", "").split())
            for box in svg.iter("rect"):
                x, y = float(box.get("x", "")), float(box.get("y", ""))
                assert left <= x <= left + width - float(box.get("width", ""))
                assert top <= y <= top + height - float(box.get("height", ""))


# --- while it runs --------------------------------------------------------------------------------


EVENTS: list[Event] = [
    Waiting("http://127.0.0.1:8080", "connection refused", 5 * SECOND),
    Waiting("http://127.0.0.1:8080", "connection refused", 4 * SECOND),
    PhaseStarted("probes"),
    an_exchange(1),
    an_exchange(2),
    a_finding(),
    a_finding("time.start-after-finish"),
    PhaseStarted("story"),
    an_exchange(3),
    PhaseStarted("story"),
    an_exchange(4),
]


def reason(finding: CheckResult) -> str:
    return "a slow clock" if finding.rule == "time.start-after-finish" else ""


def told(events: Sequence[Event] = EVENTS, *, is_terminal: bool, tick: int = 0) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=is_terminal)
    ticks: Callable[[], int] = count(0, tick).__next__
    with Display(console, stopwatch=ticks, reason_for=reason) as listen:
        for event in events:
            listen(event)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_log_has_a_line_per_phase_and_per_new_finding() -> None:
    assert told(is_terminal=False) == (
        "waiting for http://127.0.0.1:8080: connection refused\n"
        "found envelope.status: getTaskInstance → 200 → status: "
        "the envelope says 201, and the answer's status is 200\n"
        "probes: 2 requests, 1 finding, 1 known in 0.0 ms\n"
        "story: 2 requests, 0 findings in 0.0 ms\n"
    )


def test_a_log_says_now_and_then_that_something_happens() -> None:
    events: list[Event] = [PhaseStarted("probes"), *(an_exchange(n) for n in range(9))]

    lines = told(events, is_terminal=False, tick=4 * SECOND).splitlines()

    assert lines[0] == "probes: 4 requests, 0 findings so far, in 20.0 s"
    assert [line.partition(":")[0] for line in lines] == ["probes"] * 3


def test_enough_findings_end_a_run_at_the_next_response() -> None:
    known, new = a_finding("time.start-after-finish"), a_finding()
    console = Console(file=io.StringIO(), width=100)

    with Display(console, stopwatch=lambda: 0, reason_for=reason, max_failures=2) as listen:
        for event in (known, known, new, an_exchange(), new):
            listen(event)
        with pytest.raises(KeyboardInterrupt):
            listen(an_exchange())

    assert listen.stopped == "--max-failures 2"


def test_a_terminal_has_a_bar_that_leaves_only_the_findings_behind() -> None:
    text = told(is_terminal=True)

    assert "found envelope.status: getTaskInstance → 200 → status" in text
    assert "found time.start-after-finish" not in text
    assert text.endswith("\x1b[2K") or "\x1b[?25h" in text, "the cursor is given back"
