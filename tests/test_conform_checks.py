"""conformance/checks and quirks: what one answer must be, each rule with an answer that breaks it.

Right are the contracts' own examples, and all that a real obshell was recorded to answer; there
nothing may be found but the quirks that have a name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from conform_exchanges import (
    CONTRACTS,
    DAG,
    RECORDINGS,
    SUBTASK,
    TASK,
    changed,
    dag_of_the_recording,
    example,
    examples,
    exchange,
    recorded,
)
from oceanmock.checks import Exchange, Subject
from oceanmock.conformance import ApiName
from oceanmock.conformance.checks import RULES, ResponseChecker, all_rules
from oceanmock.obshell.api import QUIRK_NAMES
from oceanmock.obshell.quirks import QUIRK_RULES, is_explained

TASKS: Final = "/api/v2/tasks/instances"
FINISHED: Final = example("ocp", "FinishedTask")
ROLLING_BACK: Final = example("ocp", "RollingBackTask")
LISTED: Final = example("ocp", "TaskList")
UNKNOWN: Final = example("ocp", "UnknownTask")
FAILED: Final = dag_of_the_recording()
DAG_AT: Final = f"/api/v1/task/dag/{DAG}"
INSTALL: Final = "data__subtasks__0__"
DOWNLOADED: Final = "data__subtasks__2__"


def found(api: ApiName, *exchanges: Exchange) -> list[str]:
    """The rules that some exchanges break, in their order."""
    checks = ResponseChecker(CONTRACTS[api])
    return [finding.rule for each in exchanges for finding in checks(each)]


def task(**places: Any) -> Exchange:
    """The finished task, asked for by its id, with something changed."""
    return exchange("GET", TASK, changed(FINISHED, **places))


def rolling_back(**places: Any) -> Exchange:
    """A task that is rolled back, with something changed."""
    return exchange("GET", TASK, changed(ROLLING_BACK, **places))


def listed(query: str = "size=10", **places: Any) -> Exchange:
    """A page of two tasks, with something changed."""
    return exchange("GET", f"{TASKS}?{query}", changed(LISTED, **places))


def refused(status: int, code: int, method: str = "GET", target: str = TASK) -> Exchange:
    """A refusal of OCP's."""
    said = changed(UNKNOWN, status=status, error__code=code)
    return exchange(method, target, said, status=status)


def dag(query: str = "", **places: Any) -> Exchange:
    """The recorded dag, FAILED at its third node, with something changed."""
    return exchange("GET", f"{DAG_AT}{query}", changed(FAILED, **places))


def dags(route: str, **places: Any) -> Exchange:
    """A list that has the recorded dag in it, with something changed."""
    said = {**FAILED, "data": {"contents": [FAILED["data"]]}}
    return exchange("GET", f"/api/v1/task/{route}", changed(said, **places))


def refusal(status: int, code: str, operator: Any = "RETRY", *, route: str = "dag") -> Exchange:
    """A refusal of obshell's."""
    said = changed(example("obshell", "DagNotFailed"), status=status, error__errCode=code)
    target = f"/api/v1/task/{route}/{DAG}"
    return exchange("POST", target, said, status=status, body={"operator": operator})


def dag_refused(**places: Any) -> Exchange:
    """A refusal for a header that has expired, with something changed."""
    said = changed(example("obshell", "Expired"), **places)
    return exchange("GET", DAG_AT, said, status=401)


def logs(**places: Any) -> Exchange:
    """The log of a sub task, with something changed."""
    said = changed(example("obshell", "SubTaskLogs"), **places)
    return exchange("GET", "/api/v1/task/sub_task/22130706433028861/logs", said)


def time_is(time: str) -> Exchange:
    """The time of an agent."""
    return exchange("GET", "/api/v1/time", changed(example("obshell", "Time"), data=time))


def two_lines(first: int, second: int) -> list[Any]:
    """Lines of two runs."""
    line = example("obshell", "SubTaskLogs")["data"]["contents"][0]
    return [line | {"id": 1, "execute_times": first}, line | {"id": 2, "execute_times": second}]


BROKEN: Final[dict[str, list[tuple[ApiName, Exchange]]]] = {
    "answer.none": [
        ("ocp", exchange("GET", TASK, b"", status=None, problem="reset"))  # type: ignore[arg-type]
    ],
    "answer.unforeseen": [("ocp", exchange("GET", f"{TASKS}/{'9' * 5000}", FINISHED))],  # which int() does not read
    "content-type": [
        ("ocp", exchange("GET", TASK, FINISHED, response_headers=(("Content-Type", "text/html"),))),
        ("obshell", exchange("GET", DAG_AT, FAILED, response_headers=())),
    ],
    "header.missing": [("ocp", exchange("GET", TASK, example("ocp", "Throttled"), status=429))],
    "body.json": [("ocp", exchange("GET", TASK, b"[]")), ("obshell", exchange("GET", DAG_AT, b""))],
    "envelope.member": [("ocp", task(traceId=...)), ("obshell", dag(duration=...))],
    "envelope.status": [("ocp", task(status=201)), ("obshell", dag(status=404))],
    "envelope.successful": [
        ("ocp", task(successful=False)),
        ("ocp", exchange("GET", TASK, changed(UNKNOWN, successful=True), status=404)),
    ],
    "envelope.timestamp": [("ocp", task(timestamp="2021-02-30T00:00:00Z")), ("ocp", task(timestamp=1))],
    "envelope.duration": [("ocp", task(duration=-1)), ("obshell", dag(duration="3ms"))],
    "envelope.date": [("obshell", time_is("2026-11-22T19:30:19Z"))],
    "envelope.error": [
        ("ocp", task(error=UNKNOWN["error"])),
        ("ocp", exchange("GET", TASK, changed(UNKNOWN, error=...), status=404)),
    ],
    "envelope.trace-id": [("ocp", task(traceId="")), ("obshell", dag(traceId=" "))],
    "schema.required": [("ocp", task(**{f"{INSTALL}runTime": ...})), ("obshell", dag(data__stage=...))],
    "schema.type": [("ocp", task(data__id="35000312")), ("obshell", dag(data__nodes__0__sub_tasks=3))],
    "schema.enum": [("ocp", task(data__status="DONE")), ("obshell", dag(data__state="SUCCESSFUL"))],
    "schema.undocumented": [("ocp", task(data__another=1)), ("obshell", dag(data__nodes__0__another=1))],
    "schema.value": [("ocp", task(**{f"{INSTALL}runTime": 0})), ("obshell", dag(data__stage=0))],
    "status.undocumented": [("ocp", exchange("GET", TASK, FINISHED, status=203))],
    "status.server-error": [
        ("ocp", exchange("GET", TASK, UNKNOWN, status=500)),
        ("obshell", exchange("GET", DAG_AT, example("obshell", "Panicked"), status=500)),
    ],
    "hostile.500": [("ocp", exchange("GET", TASK, UNKNOWN, status=500, expects_refusal=True))],
    "method.accepted": [("ocp", exchange("DELETE", TASK, FINISHED))],
    "error.message": [("ocp", exchange("GET", TASK, changed(UNKNOWN, error__message=" "), status=404))],
    "error.code": [
        ("ocp", refused(404, 20003)),
        ("ocp", refused(400, 20000, "POST", f"{TASK}/retry")),
        ("ocp", refused(400, 20004, "POST", f"{TASK}/retry")),
        ("obshell", refusal(400, "Common.IllegalArgument")),
        ("obshell", refusal(400, "Task.Dag.Operator.PassNotFailedDag")),
        ("obshell", refusal(400, "Task.Dag.Operator.NotSupport")),
        ("obshell", refusal(404, "Task.Dag.Operator.RetryNotFailedDag")),
        ("obshell", refusal(400, "Task.Dag.Operator.RetryNotFailedDag", route="node")),
        ("obshell", dag_refused(error__code=1)),
    ],
    "auth.missing-accepted": [
        ("ocp", exchange("GET", TASK, FINISHED, credentials="none")),
        ("obshell", exchange("GET", DAG_AT, FAILED, credentials="none")),
    ],
    "id.differs": [
        ("ocp", exchange("GET", f"{TASKS}/7", FINISHED)),
        ("ocp", exchange("POST", f"{TASK}/subtasks/7/retry", example("ocp", "RetriedSubtask"))),
        ("obshell", dag(data__id="22130706433028865")),
        ("obshell", logs(data__contents__0__sub_task_id=2)),
    ],
    "id.number": [("obshell", dag(data__dag_id=5)), ("obshell", dag(data__nodes__1__node_id=500))],
    "time.format": [("ocp", task(data__startTime="2021-02-30T00:00:00Z"))],
    "time.start-after-finish": [
        ("ocp", task(data__finishTime="2021-08-25T15:09:28+08:00")),
        ("ocp", task(data__createTime="2021-08-25T15:19:33+08:00")),
        ("obshell", dag(data__end_time="2020-01-01T00:00:00Z")),
    ],
    "time.finish": [
        ("ocp", task(data__finishTime=...)),
        ("ocp", task(**{f"{INSTALL}startTime": ...})),
        ("ocp", task(**{f"{INSTALL}status": "RUNNING"})),
        ("ocp", task(**{f"{INSTALL}status": "PENDING"})),
        ("ocp", task(**{f"{INSTALL}finishTime": None})),
    ],
    "time.future": [
        ("ocp", task(data__finishTime="2021-08-25T15:12:00+08:00")),
        ("obshell", dag(data__nodes__0__start_time="2027-01-01T00:00:00Z")),
    ],
    "count.never-run": [
        ("ocp", task(**{f"{INSTALL}runTime": 2})),
        ("obshell", dag(data__nodes__5__sub_tasks__0__execute_times=1)),
        ("obshell", dag(data__nodes__0__sub_tasks__0__execute_times=0)),
    ],
    "log.presence": [
        ("obshell", dag(data__nodes__5__sub_tasks__0__task_logs=["a line"])),
        ("obshell", dag(data__nodes__0__sub_tasks__0__task_logs=None)),
    ],
    "log.order": [("obshell", logs(data__contents=two_lines(2, 1)))],
    "parent.out-of-step": [
        ("ocp", task(data__status="FAILED")),
        ("ocp", task(**{f"{INSTALL}status": "FAILED"})),
        ("ocp", task(data__operation="ROLLBACK")),
        ("ocp", listed(data__contents__0__subtasks__0__status="RUNNING")),
        ("obshell", dag(data__state="SUCCEED")),
        ("obshell", dag(data__stage=2)),
        ("obshell", dag(data__nodes__2__sub_tasks__0__state="SUCCEED")),
        ("obshell", dag(data__nodes__0__sub_tasks__0__state="RUNNING")),
    ],
    "parent.empty": [("ocp", task(data__subtasks=[])), ("obshell", dag(data__nodes__0__sub_tasks=[]))],
    "parent.times": [
        ("ocp", task(data__finishTime="2021-08-25T15:09:45+08:00")),
        ("ocp", task(**{f"{INSTALL}createTime": "2021-08-25T15:08:00+08:00"})),
        ("obshell", dag(data__end_time="2026-11-22T19:38:41.6Z")),
        ("obshell", dag(data__nodes__0__sub_tasks__0__start_time="2026-11-22T19:38:00Z")),
    ],
    "parent.stage": [("obshell", dag(data__stage=12)), ("obshell", dag(data__max_stage=10))],
    "parent.prohibit-rollback": [("ocp", task(**{f"{INSTALL}prohibitRollback": True}))],
    "graph.one-way": [("ocp", task(**{f"{INSTALL}upstreams": []}))],
    "graph.series": [("ocp", task(**{f"{INSTALL}seriesId": 4}))],
    "order.forward": [
        ("ocp", rolling_back(data__operation="RETRY", **{f"{INSTALL}status": "RUNNING"})),
        ("obshell", dag(data__nodes__2__start_time="2026-11-22T00:00:00Z")),
    ],
    "rollback.order": [
        ("ocp", rolling_back(**{f"{INSTALL}status": "SUCCESSFUL"})),
        (
            "ocp",
            rolling_back(
                **{f"{DOWNLOADED}status": "PENDING", f"{INSTALL}operation": "ROLLBACK"},
                **{f"{INSTALL}finishTime": "2021-08-25T15:09:39+08:00"},
            ),
        ),
        (
            "obshell",
            dag(data__operator="ROLLBACK", data__nodes__0__operator="ROLLBACK", data__nodes__1__operator="ROLLBACK"),
        ),
    ],
    "paging.number": [("ocp", listed("size=10&page=2"))],
    "paging.size": [("ocp", listed("size=5"))],
    "paging.pages": [("ocp", listed(data__page__totalPages=7))],
    "paging.rows": [("ocp", listed(data__page__totalElements=1))],
    "list.twice": [
        ("ocp", listed(data__contents__1=LISTED["data"]["contents"][0])),
        ("obshell", dags("dags/agent", data__contents=[FAILED["data"], FAILED["data"]])),
    ],
    "list.order": [("ocp", listed("size=10&sort=id,asc"))],
    "filter.ignored": [
        ("ocp", listed("size=10&status=FAILED")),
        ("ocp", listed("size=10&name=nothing")),
        ("ocp", listed("size=10&clusterId=77")),
        ("ocp", listed("size=10&tenantId=77")),
        ("obshell", dags("dag/unfinish", data__contents__0__state="SUCCEED")),
        ("obshell", dags("dag/agent/unfinish", data__contents__0__maintenance_type=1)),
        ("obshell", dags("dag/maintain/agents", data__contents__0__maintenance_type=1)),
        ("obshell", dags("dags/ob")),
    ],
    "details.ignored": [("obshell", dag("?show_details=false")), ("obshell", dag(data__nodes=None))],
    "call.unknown-accepted": [
        ("obshell", exchange("POST", DAG_AT, example("obshell", "Operated"), body={"operator": "NOPE"})),
        (
            "obshell",
            exchange("POST", f"/api/v1/task/node/{DAG}", example("obshell", "Operated"), body={"operator": "RETRY"}),
        ),
    ],
}
"""Answers that break each rule of the checks."""

CASES: Final = [
    pytest.param(rule, api, each, id=f"{rule}-{number}")
    for rule, several in BROKEN.items()
    for number, (api, each) in enumerate(several)
]


# --- what is right --------------------------------------------------------------------------------

WHERE_IT_STANDS: Final = ("filter", "error", "status")
"""A contract shows some examples at several operations, at most of which nobody would get them."""


@pytest.mark.parametrize("api", ["ocp", "obshell"])
def test_nothing_is_found_in_the_examples_of_a_contract_but_quirks(api: ApiName) -> None:
    rules = found(api, *examples(api))

    families = {rule.partition(".")[0] for rule in rules}
    assert families <= {"quirk", *WHERE_IT_STANDS}


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDINGS.glob("[a-z]*.json")))
def test_nothing_is_found_in_what_a_real_obshell_answered_but_quirks(name: str) -> None:
    rules = found("obshell", *recorded(name))

    assert [rule for rule in rules if not rule.startswith("quirk.")] == []


def test_the_quirks_of_the_recordings_are_found_under_their_own_names() -> None:
    files = sorted(path.name for path in RECORDINGS.glob("[a-z]*.json"))

    quirks = Counter(rule for name in files for rule in found("obshell", *recorded(name)))

    assert quirks == {
        "quirk.body-id-overrules-path": 3,
        "quirk.body-that-is-no-object-is-eof": 20,
        "quirk.forwarded-pass-loses-its-body": 1,
        "quirk.missing-header-is-400": 4,
        "quirk.never-maintained-is-500": 2,
        "quirk.no-oceanbase-is-500": 2,
        "quirk.node-body-says-dag-operator": 6,
        "quirk.node-without-details-is-500": 6,
        "quirk.panic-is-dated-at-start": 10,
        "quirk.refusal-is-never-sent": 6,
        "quirk.status-has-no-trace-id": 2,
        "quirk.undecryptable-body-is-500": 6,
        "quirk.unheld-cluster-id-is-500": 7,
        "quirk.unreadable-show-details-is-500": 2,
        "quirk.unreachable-owner-is-500": 1,
    }


# --- what is broken -------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "api", "each"), CASES)
def test_an_answer_that_breaks_a_rule_is_found_under_its_name(rule: str, api: ApiName, each: Exchange) -> None:
    rules = found(api, each)

    assert rule in rules


def test_a_finding_says_where_what_and_by_which_source() -> None:
    checks = ResponseChecker(CONTRACTS["ocp"])

    several = checks(task(data__finishTime="2021-08-25T15:09:28+08:00"))
    finding = next(item for item in several if item.rule == "time.start-after-finish")

    assert finding.breadcrumb == "getTaskInstance → 200 → $.data.startTime"
    assert finding.message == (
        "startTime is 2021-08-25T15:09:31.74+08:00, after finishTime, which is 2021-08-25T15:09:28+08:00."
    )
    assert finding.source.startswith("openapi: the times of tasks")


def test_a_rule_is_counted_where_it_was_kept_as_well() -> None:
    checks = ResponseChecker(CONTRACTS["ocp"])

    findings = [*checks(task()), *checks(task(status=201))]

    assert [item.rule for item in findings].count("envelope.status") == 1
    assert checks.checked["envelope.status", "getTaskInstance"] == 2


@pytest.mark.parametrize("said", [b"", b"null", b"[]", b'"text"', b"{}", b'{"data":[]}', b'{"data":{"contents":3}}'])
@pytest.mark.parametrize("target", [f"{TASKS}?size=10", TASK, f"{SUBTASK}/log"])
def test_whatever_comes_no_check_of_ocp_raises(said: bytes, target: str) -> None:
    rules = found("ocp", exchange("GET", target, said))

    assert "answer.unforeseen" not in rules
    assert {"body.json", "envelope.member", "schema.required"} & set(rules)


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, [None], [{"id": []}], {"id": {}}])
def test_whatever_is_in_the_data_no_check_raises(value: Any) -> None:
    answers = [
        *(exchange("GET", f"{TASKS}?size=10", changed(LISTED, data__contents=value)),),
        *(task(data__subtasks=value), task(**{f"{INSTALL}upstreams": value})),
        *(task(data__startTime=value), task(data__id=value), task(traceId=value)),
    ]

    rules = found("ocp", *answers)

    assert "answer.unforeseen" not in rules


@pytest.mark.parametrize("place", ["id", "status"])
@pytest.mark.parametrize("value", [..., None, ["x"]])
def test_a_subtask_without_an_id_or_a_status_is_checked_all_the_same(place: str, value: Any) -> None:
    late = {f"{INSTALL}{place}": value, f"{INSTALL}finishTime": "2099-08-25T15:09:36+08:00"}

    assert "time.future" in found("ocp", task(**late))


@pytest.mark.parametrize(
    ("rule", "api", "each"),
    [
        ("graph.one-way", "ocp", task(**{f"{INSTALL}status": None})),
        ("graph.series", "ocp", task(data__subtasks=[*FINISHED["data"]["subtasks"], FINISHED["data"]["subtasks"][0]])),
    ],
)
def test_a_part_that_is_not_as_it_has_to_be_is_no_finding_of_the_others(
    rule: str, api: ApiName, each: Exchange
) -> None:
    rules = found(api, each)

    assert rules
    assert rule not in rules


# --- only what must hold --------------------------------------------------------------------------


def page_of_a_web_server(status: int, target: str, **more: Any) -> Exchange:
    """What a web server, or a proxy, answers by itself."""
    html = (("content-type", "text/html"),)
    return exchange("GET", target, b"<html>", status=status, response_headers=html, **more)


LAWFUL: Final[dict[str, tuple[ApiName, Exchange]]] = {
    "a proxy chose the traceId": ("ocp", task(traceId="7e2a5c1e-0d5e-4b7c-8a59-7f3b8f0f7c11")),
    "null stands for what is absent": (
        "ocp",
        exchange("GET", TASK, changed(ROLLING_BACK, **{f"{INSTALL}finishTime": None, "error": None})),
    ),
    "a path is refused before the API is asked": (
        "ocp",
        page_of_a_web_server(400, f"{TASKS}/%00", expects_refusal=True),
    ),
    "nobody is let in but to a page to log in at": ("ocp", page_of_a_web_server(303, TASK, credentials="none")),
    "a method that the path does not know is a failure to ocp-express": (
        "ocp",
        exchange("PUT", TASK, changed(UNKNOWN, status=500, error__code=0), status=500),
    ),
    "what is not found has no number": ("ocp", refused(404, 0)),
    "the database's clock is not the server's": ("ocp", task(data__createTime="2021-08-25T15:09:36+08:00")),
    "two servers of one OCP have two clocks": (
        "ocp",
        exchange("GET", TASK, changed(FINISHED, data__startTime="2021-08-25T15:09:55+08:00", data__operation="RETRY")),
    ),
    "a task was retried between the two reads of one answer": (
        "ocp",
        exchange("GET", TASK, changed(example("ocp", "RetriedTask"), data__status="FAILED")),
    ),
    "a rollback that had failed was retried, and has ended": (
        "ocp",
        exchange(
            "GET",
            TASK,
            changed(
                ROLLING_BACK,
                data__status="SUCCESSFUL",
                data__operation="RETRY",
                **{f"{DOWNLOADED}status": "PENDING", "data__subtasks__3__status": "PENDING"},
            ),
        ),
    ),
    "what had run twice was rolled back, and runs forwards again": (
        "ocp",
        task(data__operation="RETRY", **{f"{INSTALL}runTime": 2}),
    ),
    "a page has a limit of its own": ("ocp", listed("size=2000", data__page__size=500)),
    "a name is looked for with a wildcard": ("ocp", listed("size=10&name=%25")),
    "a status is asked for that no document has": ("ocp", listed("size=10&status=ABORTED")),
    "an id that is 0 is taken for none": ("ocp", listed("size=10&clusterId=0")),
    "nobody says how an order without a direction goes": ("ocp", listed("size=10&sort=id")),
    "an agent is refused for what it is": ("obshell", refusal(400, "Agent.UnderMaintenance.Other")),
    "a node was passed between the two reads of one answer": (
        "obshell",
        dag(
            data__nodes__2__state="SUCCEED",
            data__nodes__2__operator="PASS",
            data__nodes__2__sub_tasks__0__state="SUCCEED",
            data__nodes__2__sub_tasks__0__operator="PASS",
        ),
    ),
    "other agents are asked without saying that no details are wanted": (
        "obshell",
        dags("dag/maintain/agents?show_details=false"),
    ),
    "an older obshell lists its dags with all details": ("obshell", dags("dags/agent?show_details=false")),
    "lines of a cluster's log come from several agents": (
        "obshell",
        exchange(
            "GET",
            "/api/v1/task/sub_task/11/logs",
            changed(example("obshell", "SubTaskLogs"), data__contents=two_lines(2, 1)),
        ),
    ),
}
"""Answers that a sound server may give, though the mock never does."""


@pytest.mark.parametrize("why", LAWFUL)
def test_what_a_sound_server_may_answer_is_no_finding(why: str) -> None:
    api, each = LAWFUL[why]

    rules = [rule for rule in found(api, each) if rule not in ("schema.type", "schema.value")]

    assert rules == []


# --- quirks ---------------------------------------------------------------------------------------


def asked(method: str, path: str, status: int, said: str, **more: Any) -> Exchange:
    """A request to obshell, answered by an example of the contract."""
    return exchange(method, f"/api/v1/{path}", example("obshell", said), status=status, **more)


SHOWN: Final = {
    "cancelled-rollback-is-stuck": exchange(
        "POST",
        DAG_AT,
        changed(example("obshell", "Panicked"), error__message="…: no node failed"),
        status=500,
        body={"operator": "rollback"},
    ),
    "lost-race-is-500": exchange(
        "POST",
        DAG_AT,
        changed(example("obshell", "Panicked"), error__errCode="Gorm.NoRowAffected"),
        status=500,
        body={"operator": "RETRY"},
    ),
    "logs-of-nothing-are-empty": asked("GET", f"task/sub_task/{DAG}/logs", 200, "EmptyList", expects_refusal=True),
    "unreachable-owner-is-500": exchange(
        "GET", DAG_AT, changed(example("obshell", "Panicked"), error__message="Get …: dial tcp …"), status=500
    ),
}
"""Quirks that were not recorded where they could be told."""
OTHER_WORDS: Final = {
    # 4.3.0 (agent/repository/db/oceanbase/instance.go at 32187ba)
    "no-oceanbase-is-500": exchange(
        "GET",
        "/api/v1/task/dag/maintain/ob",
        changed(example("obshell", "Panicked"), error__message="Unexpected error: oceanbase db is nil"),
        status=500,
    ),
    "unreadable-show-details-is-500": asked("GET", "task/dags/agent?show_details=AAA", 200, "EmptyList"),
}
"""Quirks in the words of another version, or where there is nothing to fail at."""


@pytest.mark.parametrize("name", sorted(OTHER_WORDS))
def test_a_quirk_is_one_cause_in_any_words(name: str) -> None:
    rules = found("obshell", OTHER_WORDS[name])

    assert rules == [f"quirk.{name}"]
    assert is_explained(Subject(OTHER_WORDS[name], CONTRACTS["obshell"]))


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_a_quirk_that_was_not_recorded_is_found_all_the_same(name: str) -> None:
    rules = found("obshell", SHOWN[name])

    assert f"quirk.{name}" in rules
    assert "status.server-error" not in rules


def test_a_mended_server_has_none_of_the_quirks() -> None:
    mended = [
        asked("GET", f"task/sub_task/{DAG}/logs", 404, "Unknown", expects_refusal=True),
        asked("GET", "task/dag/unfinish", 401, "WrongPassword", credentials="none"),
        dag("?show_details=false", data__nodes=None),
    ]

    assert found("obshell", *mended) == []


def test_each_quirk_of_the_mock_has_a_rule() -> None:
    assert {*QUIRK_RULES} == {f"quirk.{name}" for name in QUIRK_NAMES}
    assert all(f"quirk.{name}" in RULES for name in QUIRK_NAMES)


# --- the catalogue --------------------------------------------------------------------------------


def test_a_rule_says_one_plain_sentence_and_where_it_is_from() -> None:
    sentences = {rule.id: rule.says for rule in RULES.values() if rule.says.count(". ") > 0}

    assert sentences == {}
    assert all(rule.says.endswith(".") and rule.source for rule in RULES.values())


def test_the_rules_of_all_rooms_are_collected() -> None:
    rules = all_rules()

    assert {*RULES} < set(rules)
    assert all(id == rule.id for id, rule in rules.items())


def broken_rules() -> Iterable[str]:
    """The rules that the tests of this file break."""
    return {*BROKEN, *(f"quirk.{name}" for name in SHOWN)}


# --- the page of rules ----------------------------------------------------------------------------

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "rules.md"


def test_the_page_has_every_rule_once() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert [page.count(f"| `{id}` |") for id in all_rules()] == [1] * len(all_rules())
