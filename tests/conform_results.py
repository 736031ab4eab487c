"""Results of conformance runs that never were, for the tests of what is made of a result.

`a_result` is a run that found something of every kind; keywords replace its fields. Its texts are
hostile where a server could make them so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from oceanmock.checks import CheckResult, Exchange
from oceanmock.conformance import ApiName, MissingResponse, Result, StoryStep
from oceanmock.conformance.baseline import Baseline, Known, choose_baselines

SECOND = 1_000_000_000
SENT_AT = 1_704_866_400 * SECOND
CURL = "curl -s -u manager:$OCEANMOCK_PASSWORD http://127.0.0.1:8080/api/v2/tasks/instances/1000"


def an_exchange(number: int = 1, **other: Any) -> Exchange:
    said = Exchange(
        number=number,
        phase="probes",
        operation="getTaskInstance",
        method="GET",
        target="/api/v2/tasks/instances/1000?x=1",
        request_headers=(("Accept", "*/*"), ("Authorization", "Basic ***")),
        request_body=b"",
        status=200,
        response_headers=(("Content-Type", "application/json"),),
        response_body=b'{"status":200,"data":{"id":1000,"name":"Upgrade \xe4\xb8\xad"}}',
        sent_at=SENT_AT + number * SECOND,
        took=3_400_000,
    )
    return replace(said, **other)


def a_finding(rule: str = "envelope.status", **other: Any) -> CheckResult:
    said = CheckResult(
        rule=rule,
        operation="getTaskInstance",
        status=200,
        path="status",
        message="the envelope says 201, and the answer's status is 200",
        source="ocp.yaml, components/schemas/Envelope",
        exchange=an_exchange(),
        curl=CURL,
    )
    return replace(said, **other)


def a_result(**other: Any) -> Result:
    """A run of OCP with two findings, a known one, a missing status, changes and a story."""
    said = Result(
        target="http://127.0.0.1:8080",
        api="ocp",
        version="4.2.2",
        seed=7,
        command="oceanmock conform http://127.0.0.1:8080 --api ocp --user manager --seed 7",
        started="2024-01-10T06:00:00Z",
        writes=True,
        took=12_340_000_000,
        statuses={
            "listTaskInstances": Counter({200: 12, 400: 3, 401: 2}),
            "getTaskInstance": Counter({200: 34, 400: 5, 401: 2, 404: 4, 500: 1}),
            "retryTask": Counter({200: 2, 401: 1}),
            "rollbackTask": Counter(),
        },
        checked=Counter(
            {
                ("envelope.status", "getTaskInstance"): 49,
                ("envelope.status", "listTaskInstances"): 17,
                ("hostile.500", "getTaskInstance"): 9,
                ("parent.out-of-step", "getTaskInstance"): 34,
                ("time.start-after-finish", "getTaskInstance"): 34,
                ("rollback.order", ""): 0,
            }
        ),
        findings=[
            a_finding(),
            a_finding(
                "hostile.500",
                status=500,
                path="",
                message="an id of 30 digits is answered 500, and should be refused with 400",
                exchange=an_exchange(
                    2,
                    target="/api/v2/tasks/instances/999999999999999999999999999999",
                    status=500,
                    response_headers=(("Content-Type", "text/html"),),
                    response_body=b"<script>document.title='owned'</script><img src=x onerror=1>",
                ),
                curl=CURL.replace("1000", "999999999999999999999999999999"),
            ),
        ],
        known=[
            a_finding(
                "time.start-after-finish",
                path="data.subtasks[0].finishTime",
                message="it finished at 05:59, and started at 06:00",
                known="the clock of this lab's database is a minute slow",
            )
        ],
        stale=[Known("log.stale", "getSubtaskLog", "logs lagged behind in 4.2.1")],
        missing=[
            MissingResponse("rollbackTask", 200, "Name a FAILED task that can be rolled back with --task."),
            MissingResponse("retryTask", 400, "Name a task that is SUCCESSFUL with --task."),
        ],
        changes=[
            an_exchange(
                3, phase="machine", operation="retryTask", method="POST", target="/api/v2/tasks/instances/1000/retry"
            )
        ],
        transitions=Counter(
            {
                ("task", "RUNNING/EXECUTE", "FAILED/EXECUTE"): 3,
                ("task", "FAILED/EXECUTE", "RUNNING/RETRY"): 2,
                ("task", "RUNNING/RETRY", "SUCCESSFUL/RETRY"): 1,
                ("subtask", "PENDING/EXECUTE", "READY/EXECUTE"): 11,
                ("subtask", "PENDING/EXECUTE", "FAILED/EXECUTE"): 2,
                ("subtask", "SUCCESSFUL/EXECUTE", "EXPLODED/EXECUTE"): 1,
            }
        ),
        labels=Counter(
            {("task", "RUNNING/EXECUTE"): 20, ("task", "FAILED/EXECUTE"): 9, ("subtask", "READY/EXECUTE"): 4}
        ),
        stories={
            "retry-failed-subtask": [
                StoryStep("until task 1000 is FAILED", "passed", "", 2 * SECOND),
                StoryStep("retryTask 1000", "failed", "answered 409, expected 200", SECOND),
                StoryStep("until task 1000 is SUCCESSFUL", "not reached"),
            ]
        },
        phases={"probes": 2 * SECOND, "fuzzing": 7 * SECOND, "machine": 3 * SECOND},
        request_count=66,
        baselines=["lab.yaml"],
    )
    return replace(said, **other)


def a_clean_result(**other: Any) -> Result:
    """A run that found nothing, and saw all it had to see."""
    nothing: dict[str, Any] = {
        "findings": [],
        "known": [],
        "stale": [],
        "missing": [],
        "changes": [],
        "stories": {},
        "baselines": [],
        "writes": False,
    }
    return a_result(**{**nothing, **other})


def shipped_for(api: ApiName, version: str) -> list[Baseline]:
    """The baseline that comes with oceanmock for a version, if there is one."""
    return choose_baselines((), api=api, version=version)[0]
