"""conformance/memory: what two answers must be to each other, each rule with a pair that breaks it.

Silent on every life that was recorded of a real obshell, looked at in full or only now and then.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, Final

import orjson
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
    exchange,
    recorded,
)
from oceanmock.checks import CheckResult, Exchange
from oceanmock.conformance import ApiName
from oceanmock.conformance.history import HistoryChecker

TASKS: Final = "/api/v2/tasks/instances"
DAG_AT: Final = f"/api/v1/task/dag/{DAG}"
FINISHED: Final = example("ocp", "FinishedTask")
FAILED_DAG: Final = dag_of_the_recording()
OTHER_DAG: Final = "22130706433028865"
OTHER_DAG_AT: Final = f"/api/v1/task/dag/{OTHER_DAG}"
INSTALL: Final = "data__subtasks__2__"
START: Final = "data__nodes__2__sub_tasks__0__"
LATER: Final = "2021-08-25T15:20:00+08:00"
MUCH_LATER: Final = "2026-11-22T20:00:00Z"
LONG_OVER: Final = {"timestamp": MUCH_LATER}

FAILED_TASK: Final = changed(
    example("ocp", "RetriedTask"),
    data__status="FAILED",
    data__operation="EXECUTE",
    **{f"{INSTALL}status": "FAILED", f"{INSTALL}operation": "EXECUTE", f"{INSTALL}runTime": 1},
)
"""A task FAILED at its second subtask, the third of its list."""


def found(api: ApiName, exchanges: Iterable[Exchange], *, ours: Container[str] | None = None) -> list[CheckResult]:
    """What a memory finds in some exchanges, one after the other."""
    memory = HistoryChecker(CONTRACTS[api], own_ids=ours)
    return [finding for each in exchanges for finding in memory(each)]


def rules(api: ApiName, *exchanges: Exchange, ours: Container[str] | None = None) -> list[str]:
    """The rules that some exchanges break."""
    return [finding.rule for finding in found(api, exchanges, ours=ours)]


def task(said: Any = FAILED_TASK, **places: Any) -> Exchange:
    """The task, asked for by its id, with something changed."""
    return exchange("GET", TASK, changed(said, **places))


def row(said: Any = FAILED_TASK, **places: Any) -> Exchange:
    """The task as the only row of a list, with something changed."""
    kept = {"cluster", "creator", "finishTime", "id", "name", "startTime", "status", "tenant"}
    basic = {"description", "id", "name", "operation", "status"}
    task = {key: value for key, value in said["data"].items() if key in kept}
    task["subtasks"] = [
        {key: value for key, value in each.items() if key in basic} for each in said["data"]["subtasks"]
    ]
    page = {"number": 1, "size": 10, "totalElements": 1, "totalPages": 1}
    listed = said | {"data": {"contents": [task], "page": page}}
    return exchange("GET", TASKS, changed(listed, **places))


def call(operation: str, *, status: int = 200, said: Any = None, at: str = TASK) -> Exchange:
    """A call on the task, or on its subtask, accepted unless a status says otherwise."""
    code = {"error__code": 20003, "status": status}
    answers = {200: example("ocp", "NoData"), 400: changed(example("ocp", "IllegalState"), **code)}
    return exchange("POST", f"{at}/{operation}", said or answers[status], status=status)


def dag(**places: Any) -> Exchange:
    """The recorded dag, FAILED at its third node, with something changed."""
    return exchange("GET", DAG_AT, changed(FAILED_DAG, **places))


def dags(**places: Any) -> Exchange:
    """The recorded dag in a list of dags, with something changed."""
    said = {**FAILED_DAG, "data": {"contents": [FAILED_DAG["data"]]}}
    return exchange("GET", "/api/v1/task/dags/agent", changed(said, **places))


def node(**places: Any) -> Exchange:
    """Its third node by itself, with something changed."""
    third = FAILED_DAG["data"]["nodes"][2]
    said = changed(FAILED_DAG | {"data": third}, **places)
    return exchange("GET", f"/api/v1/task/node/{third['id']}", said)


def operate(operator: str, *, status: int = 200, code: str = "") -> Exchange:
    """An operator on the dag, accepted unless a status says otherwise."""
    said = example("obshell", "Operated" if status == 200 else "DagNotFailed")
    if code:
        said["error"]["errCode"] = code
    said["timestamp"] = FAILED_DAG["timestamp"]
    return exchange("POST", DAG_AT, said, status=status, body={"operator": operator})


def failed_again(**places: Any) -> Exchange:
    """The dag after it was retried, and has failed once more."""
    again = {
        "timestamp": "2026-11-22T19:50:00Z",
        "data__start_time": "2026-11-22T19:45:00Z",
        "data__end_time": "2026-11-22T19:45:09Z",
        "data__nodes__2__operator": "RETRY",
        "data__nodes__2__start_time": "2026-11-22T19:45:01Z",
        "data__nodes__2__end_time": "2026-11-22T19:45:08Z",
        f"{START}start_time": "2026-11-22T19:45:02Z",
        f"{START}end_time": "2026-11-22T19:45:07Z",
        f"{START}execute_times": 3,
        f"{START}task_logs": [*LINES, "once more", "ERROR: [x]: y"],
    }
    return dag(**(again | places))


SUB_TASK: Final = FAILED_DAG["data"]["nodes"][2]["sub_tasks"][0]
LINES: Final = SUB_TASK["task_logs"]
ROWS: Final = example("obshell", "SubTaskLogs")
LINE: Final = [ROWS["data"]["contents"][0]["log_content"]]
ONE_LINE: Final = LONG_OVER | {f"{START}task_logs": LINE}
ONE_LINE_OF_NODE: Final = {"data__sub_tasks__0__task_logs": LINE}


def log(text: str) -> Exchange:
    """The log of the subtask that failed."""
    said = changed(example("ocp", "SubtaskLog"), data__log=text)
    return exchange("GET", f"{SUBTASK}/log", said)


def rows_of_run(number: int, **places: Any) -> Exchange:
    """The log of the failed sub task, with one line of a run, and with something changed."""
    said = changed(ROWS, data__contents__0__execute_times=number, **places)
    return exchange("GET", f"/api/v1/task/sub_task/{SUB_TASK['id']}/logs", said)


def with_trace_id(said: Any) -> Exchange:
    """The task, under the traceId of the body."""
    return exchange("GET", TASK, orjson.dumps(said))


def agent(**places: Any) -> Exchange:
    """The facts of the agent, with something changed."""
    return exchange("GET", "/api/v1/info", changed(example("obshell", "AgentInfo"), **places))


def waiting(**places: Any) -> Exchange:
    """The task RUNNING, though nothing of it is under way and one subtask has failed."""
    return task(data__status="RUNNING", **places)


UNKNOWN: Final = example("ocp", "UnknownTask")
EXECUTE: Final = "############{EXECUTE}{2021-08-25T15:09:33+08:00}############\n"
RUNNING: Final = {f"{INSTALL}status": "RUNNING", f"{INSTALL}finishTime": ...}
RETRYING: Final = RUNNING | {f"{INSTALL}operation": "RETRY", f"{INSTALL}runTime": 2}
SKIPPING: Final = RUNNING | {f"{INSTALL}operation": "SKIP"}

BROKEN: Final[dict[str, list[tuple[ApiName, list[Exchange]]]]] = {
    "envelope.went-back": [("ocp", [task(timestamp=LATER), task()]), ("obshell", [dag(timestamp=MUCH_LATER), dag()])],
    "envelope.date": [
        ("ocp", [exchange("GET", TASK, FAILED_TASK, response_headers=(("Date", "Wed, 25 Aug 2021 15:10:13 GMT"),))])
    ],
    "envelope.trace-id-again": [("ocp", [with_trace_id(FAILED_TASK), with_trace_id(FAILED_TASK)])],
    "error.code-differs": [
        (
            "ocp",
            [
                exchange("GET", f"{TASKS}/7", UNKNOWN, status=404),
                exchange("GET", f"{TASKS}/8", changed(UNKNOWN, error__code=1), status=404),
            ],
        )
    ],
    "id.two-owners": [
        ("ocp", [task(), exchange("GET", f"{TASKS}/7", changed(FAILED_TASK, data__id=7))]),
        ("obshell", [dag(), exchange("GET", OTHER_DAG_AT, changed(FAILED_DAG, data__id=OTHER_DAG, data__dag_id=5))]),
    ],
    "id.vanished": [("ocp", [task(), exchange("GET", TASK, UNKNOWN, status=404)])],
    "agent.changed": [("obshell", [agent(), agent(data__version="4.5.0.1-1")])],
    "transition.illegal": [
        ("ocp", [task(data__status="RUNNING", **RUNNING), task(data__operation="ROLLBACK")]),
        ("obshell", [dag(data__state="RUNNING"), dag(data__state="READY", data__operator="RUN")]),
    ],
    "terminal.moved": [
        ("ocp", [task(FINISHED), task(FINISHED, data__status="FAILED")]),
        ("ocp", [task(), task(data__status="RUNNING")]),
        ("ocp", [task(FINISHED), task(FINISHED, **{f"{INSTALL}runTime": 2})]),
        ("obshell", [dag(), dag(data__state="RUNNING")]),
        ("obshell", [dag(), dag(data__nodes__0__sub_tasks__0__execute_times=2)]),
    ],
    "list.differs-from-detail": [
        ("ocp", [task(), row(data__contents__0__status="RUNNING")]),
        ("ocp", [task(), row(data__contents__0__name="another")]),
        ("obshell", [dag(), dags(data__contents__0__state="RUNNING")]),
        ("obshell", [dag(), dags(data__contents__0__stage=2)]),
    ],
    "views.differ": [
        ("obshell", [dag(), node(data__state="RUNNING", data__operator="ROLLBACK")]),
        ("obshell", [dag(), node(data__start_time="2026-11-22T19:38:44Z")]),
    ],
    "kept.changed": [
        ("ocp", [task(), task(data__name="another")]),
        ("ocp", [task(), task(**{f"{INSTALL}startTime": "2021-08-25T15:09:35+08:00"})]),
        ("ocp", [task(), task(data__subtasks=FAILED_TASK["data"]["subtasks"][1:])]),
        ("obshell", [dag(), dag(data__max_stage=12)]),
    ],
    "time.went-back": [
        ("ocp", [task(), task(data__finishTime="2021-08-25T15:09:32+08:00", **{f"{INSTALL}runTime": 2})]),
        ("obshell", [dag(), operate("RETRY"), failed_again(data__end_time="2026-11-22T00:00:00Z")]),
    ],
    "count.went-down": [
        ("ocp", [task(**{f"{INSTALL}runTime": 2}), task()]),
        ("obshell", [dag(**{f"{START}execute_times": 2}), dag()]),
    ],
    "count.not-bumped": [
        ("ocp", [task(), call("retry"), task(data__operation="RETRY", data__status="RUNNING")]),
        ("obshell", [dag(), operate("RETRY"), failed_again(**{f"{START}execute_times": 1})]),
    ],
    "log.differs": [
        ("obshell", [dag(**LONG_OVER), rows_of_run(1, **LONG_OVER), node(**LONG_OVER)]),
        ("obshell", [dag(**LONG_OVER), rows_of_run(1, **LONG_OVER), dag(**LONG_OVER)]),
        ("obshell", [dag(**ONE_LINE), rows_of_run(2, **LONG_OVER), node(**LONG_OVER, **ONE_LINE_OF_NODE)]),
    ],
    "log.rewritten": [
        ("ocp", [log("one\n"), log("two\n")]),
        ("obshell", [dag(), dag(**{f"{START}task_logs": ["others"]})]),
    ],
    "log.stale": [
        ("ocp", [task(**{f"{INSTALL}operation": "RETRY"}), log(EXECUTE)]),
        ("obshell", [dag(), operate("RETRY"), failed_again(**{f"{START}task_logs": LINES})]),
        ("obshell", [dag(**{f"{START}execute_times": 3}), rows_of_run(1)]),
    ],
    "parent.stuck": [("ocp", [waiting(), waiting(timestamp=LATER)])],
    "call.illegal-accepted": [
        ("ocp", [task(FINISHED), call("retry", said=FINISHED)]),
        ("ocp", [task(), call("cancel", at=SUBTASK)]),
        ("obshell", [dag(), operate("CANCEL")]),
    ],
    "call.prohibited-accepted": [("ocp", [task(data__prohibitRollback=True), call("rollback", said=FAILED_TASK)])],
    "call.legal-refused": [
        ("ocp", [task(), call("retry", status=400), task()]),
        ("obshell", [dag(), operate("RETRY", status=400, code="Task.Dag.Operator.RetryNotFailedDag"), dag()]),
    ],
    "call.no-effect": [
        ("ocp", [task(), call("skip", at=SUBTASK), task()]),
        ("ocp", [task(**RUNNING), call("cancel", at=SUBTASK), task(**RUNNING)]),
        ("obshell", [dag(), operate("ROLLBACK"), dag()]),
    ],
    "call.wrong-effect": [("ocp", [task(), call("skip", at=SUBTASK), task(**RETRYING)])],
    "call.skip-runs": [("ocp", [task(**SKIPPING), task(timestamp=LATER, **SKIPPING)])],
    "count.unasked": [("ocp", [task(), task(**{f"{INSTALL}runTime": 2})])],
    "time.not-renewed": [
        (
            "ocp",
            [
                task(),
                call("retry"),
                task(timestamp=LATER, data__status="RUNNING", data__operation="RETRY", **RETRYING),
                task(timestamp=LATER, data__operation="RETRY", **{f"{INSTALL}runTime": 2}),
            ],
        )
    ],
}
"""Exchanges that break each rule of memory, the last of them."""

CASES: Final = [
    pytest.param(rule, api, several, id=f"{rule}-{number}")
    for rule, worlds in BROKEN.items()
    for number, (api, several) in enumerate(worlds)
]


# --- what is right --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDINGS.glob("[a-z]*.json")))
@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_nothing_is_found_in_a_life_of_a_real_obshell_however_rarely_it_is_looked_at(name: str, every: int) -> None:
    exchanges = recorded(name)

    seen = [e for n, e in enumerate(exchanges) if e.method == "POST" or n % every == 0]

    assert found("obshell", seen) == []


@pytest.mark.parametrize("name", ["init.json", "cancel.json", "pass.json", "pass-dag.json"])
def test_nothing_is_found_where_others_operate_and_nobody_here_knows(name: str) -> None:
    reads = [each for each in recorded(name) if each.method == "GET"]

    assert found("obshell", reads, ours=()) == []


def test_what_a_life_went_through_is_counted() -> None:
    memory = HistoryChecker(CONTRACTS["obshell"])

    for each in recorded("pass-dag.json"):
        memory(each)

    assert memory.transitions["dag", "FAILED/RUN", "SUCCEED/PASS"] == 1
    assert memory.labels["dag", "FAILED/RUN"] > 0


# --- what is broken -------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "api", "several"), CASES)
def test_answers_that_break_a_rule_are_found_under_its_name(rule: str, api: ApiName, several: list[Exchange]) -> None:
    broken = rules(api, *several)

    assert rule in broken


@pytest.mark.parametrize(("rule", "api", "several"), CASES)
def test_nothing_is_found_before_the_last_of_them(rule: str, api: ApiName, several: list[Exchange]) -> None:
    before = rules(api, *several[:-1])

    assert rule not in before


# --- only what must hold --------------------------------------------------------------------------


def test_what_others_may_have_operated_may_have_become_anything_they_can_make_of_it() -> None:
    moved = [task(), task(example("ocp", "RetriedTask"))]

    assert rules("ocp", *moved, ours=()) == []
    assert "terminal.moved" in rules("ocp", *moved, ours={"35000312"})


def test_what_nobody_can_operate_stays_whoever_there_is() -> None:
    relapse = [task(FINISHED), task(FINISHED, data__status="FAILED")]

    assert "terminal.moved" in rules("ocp", *relapse, ours=())


def test_a_call_that_got_no_answer_may_have_been_accepted_or_not() -> None:
    lost = exchange("POST", f"{TASK}/retry", b"", status=None, problem="timed out")  # type: ignore[arg-type]

    assert rules("ocp", task(), lost, task()) == []
    assert rules("ocp", task(), lost, task(example("ocp", "RetriedTask"))) == []


def test_a_retry_that_was_seen_late_is_no_call_without_effect() -> None:
    assert rules("obshell", dag(), operate("RETRY"), failed_again()) == []


def test_a_list_that_is_false_in_between_is_told_though_others_may_operate() -> None:
    several = [dag(), dags(data__contents__0__state="RUNNING"), dag()]

    (finding,) = found("obshell", several, ours=())

    assert finding.rule == "list.differs-from-detail"
    assert finding.operation == "getAllAgentDags"


def test_a_refusal_for_a_flag_that_nobody_sees_may_be_right() -> None:
    flag = operate("RETRY", status=400, code="Task.Dag.Operator.RetryNotAllowed")

    assert rules("obshell", dag(), flag, dag()) == []


def test_what_is_forgotten_is_held_against_nothing() -> None:
    memory = HistoryChecker(CONTRACTS["ocp"])
    memory(task(FINISHED, timestamp=LATER))

    memory.forget()

    assert memory(task()) == []


def test_a_subtask_that_retries_by_itself_is_no_finding_on_a_server_of_others() -> None:
    by_itself = task(data__status="RUNNING", **{f"{INSTALL}status": "READY"})
    several = [task(data__status="RUNNING"), changed_operation(by_itself)]

    assert rules("ocp", *several, ours={"35000312"}) == []


@pytest.mark.parametrize(("opted_in", "found"), [(frozenset(), True), (frozenset({"retries"}), False)])
def test_the_mock_retries_by_itself_only_where_a_scenario_says_so(opted_in: frozenset[str], found: bool) -> None:
    by_itself = task(data__status="RUNNING", **{f"{INSTALL}status": "READY"})
    memory = HistoryChecker(CONTRACTS["ocp"], opted_in=opted_in)

    memory(task(data__status="RUNNING"))

    assert bool(memory(changed_operation(by_itself))) is found


OTHERWISE: Final = "2021-08-25T07:09:36.067Z"
"""The instant at which the task has ended, as a server in another zone writes it."""
ROLLBACK_FAILED: Final = changed(FAILED_TASK, data__operation="ROLLBACK", **{f"{INSTALL}operation": "ROLLBACK"})
OF_A_CLUSTER: Final = changed(FAILED_DAG, data__nodes__2__sub_tasks__0__id="11")
AT_ONCE: Final = "2021-08-25T15:10:13+08:00"
OF_NO_STATUS: Final = {f"data__subtasks__{place}__status": "SUCCESSFUL" for place in (0, 1)} | {
    f"{INSTALL}status": None
}

LAWFUL: Final[dict[str, tuple[ApiName, list[Exchange]]]] = {
    "a FOLLOWER answers by itself, or passes on": (
        "obshell",
        [dag(timestamp=MUCH_LATER), exchange("GET", "/api/v1/time", example("obshell", "Time"))],
    ),
    "an accelerated clock passes another zone": (
        "ocp",
        [
            exchange("GET", TASK, FAILED_TASK, response_headers=(("Date", f"Wed, 25 Aug 2021 {time} GMT"),))
            for time in ("07:05:13", "06:40:13")
        ],
    ),
    "a clock of a mock that jumps an hour passes another zone": (
        "ocp",
        [
            exchange("GET", TASK, FAILED_TASK, response_headers=(("Date", f"Wed, 25 Aug 2021 {time} GMT"),))
            for time in ("07:10:13", "06:10:13")
        ],
    ),
    "that a task, and that a subtask is unknown are two things": (
        "ocp",
        [
            exchange("POST", f"{SUBTASK}/retry", UNKNOWN, status=404),
            exchange("POST", f"{SUBTASK}/retry", changed(UNKNOWN, error__code=1), status=404),
        ],
    ),
    "nobody is let in for several reasons": (
        "ocp",
        [
            exchange("GET", TASK, changed(UNKNOWN, status=401, error__code=0), status=401),
            exchange("GET", TASK, changed(UNKNOWN, status=401, error__code=7), status=401),
        ],
    ),
    "an instant is written in two zones": ("ocp", [task(), task(data__finishTime=OTHERWISE)]),
    "a cluster is called otherwise, and a list says less of it": (
        "ocp",
        [
            task(data__cluster={"id": 1, "name": "a", "obClusterId": 2, "type": "PRIMARY"}),
            row(data__contents__0__cluster={"id": 1, "name": "b", "obClusterId": 2, "type": "STANDBY"}),
        ],
    ),
    "two servers of one OCP have two clocks": (
        "ocp",
        [
            task(timestamp="2021-08-25T15:09:36.5+08:00"),
            task(
                data__finishTime="2021-08-25T15:09:35+08:00",
                **{f"{INSTALL}finishTime": "2021-08-25T15:09:34.9+08:00", f"{INSTALL}runTime": 2},
            ),
        ],
    ),
    "a retried sub task is given to another agent": (
        "obshell",
        [dag(), operate("RETRY"), failed_again(**{f"{START}execute_agent": {"ip": "::1", "port": 1}})],
    ),
    "lines of a cluster's log come late, and in any order": (
        "obshell",
        [
            exchange("GET", DAG_AT, OF_A_CLUSTER),
            exchange("GET", DAG_AT, changed(OF_A_CLUSTER, **{f"{START}task_logs": ["0", *LINES]})),
        ],
    ),
    "a log does not say where a run begins": ("ocp", [task(**{f"{INSTALL}operation": "RETRY"}), log("Retrying.\n")]),
    "a rollback that has failed is retried, and goes on backwards": (
        "ocp",
        [
            task(ROLLBACK_FAILED),
            call("retry", said=changed(ROLLBACK_FAILED, data__status="RUNNING", timestamp=AT_ONCE)),
        ],
    ),
    "a part does not say its state": ("obshell", [dag(), dag(**{f"{START}state": None}), dag()]),
    "a subtask does not say its status": ("ocp", [task(), task(**{f"{INSTALL}status": None})]),
    "the subtask that a task waits for does not say its status": (
        "ocp",
        [waiting(timestamp=at, **OF_NO_STATUS) for at in (AT_ONCE, LATER)],
    ),
    "a subtask is retried, and its task shows that": (
        "ocp",
        [
            task(),
            call("retry", at=SUBTASK, said=example("ocp", "RetriedSubtask")),
            task(data__status="RUNNING", data__operation="RETRY", **{f"{INSTALL}status": "READY"}),
        ],
    ),
}
"""What two answers of a sound server may be to each other, though the mock's never are."""


@pytest.mark.parametrize("why", LAWFUL)
def test_what_a_sound_server_may_show_is_no_finding(why: str) -> None:
    api, several = LAWFUL[why]

    assert rules(api, *several, ours={"35000312", DAG}) == []


def changed_operation(each: Exchange) -> Exchange:
    """The same, the subtask with the operation RETRY and its second run."""
    retried = {f"{INSTALL}operation": "RETRY", f"{INSTALL}runTime": 2}
    return exchange("GET", TASK, changed(each.json(), **retried))


def test_a_finding_about_two_responses_has_the_earlier_one_and_the_place_there() -> None:
    earlier, listed = task(), row(data__contents__0__name="Another")

    changed_name = found("ocp", [earlier, task(data__name="Another")])
    other_view = found("ocp", [earlier, listed])

    assert [(item.rule, item.earlier) for item in changed_name] == [("kept.changed", (earlier, "$.data.name"))]
    assert [(item.path, item.earlier) for item in other_view if item.rule == "list.differs-from-detail"] == [
        ("$.data.contents[0].name", (earlier, "$.data.name"))
    ]
