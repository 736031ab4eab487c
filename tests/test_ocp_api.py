"""apis/ocp.py: what OCP answers, field by field, text by text.

Whole answers are kept in tests/golden; their trace ids come from the sandbox's seed. What the
machine does is lifecycle's to test; here is how it is told.
"""

import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract_file import ContractFile
from oceanmock.ocp.api import read_long
from served import MANAGER, MILLISECOND, REINSTALL, SECOND, Ask, World

GOLDEN = Path(__file__).parent / "golden"
TASKS = "/api/v2/tasks/instances"
TASK = f"{TASKS}/35000312"
FAILING = f"{TASK}/subtasks/13000333"
LAST = f"{TASK}/subtasks/13000334"

OFFICE = """
summary: Tasks of every kind
api: ocp
tasks:
  - {id: 1, name: Back up, subtasks: [A], type: SCHEDULED, age: 1h, host_id: 7}
  - id: 2
    name: Start tenant
    subtasks: [{name: A, attempts: [{ends: FAILED}]}]
    age: 30m
    cluster: {id: 10, name: Meta_One, ob_cluster_id: 100}
    tenant: {id: 20, name: t1, ob_tenant_id: 200}
  - id: 3
    name: start cluster
    type: SYS_ONCE
    subtasks: [{name: A, attempts: [{takes: forever}]}]
"""


def office(ask: Ask, query: str) -> list[int]:
    """The ids a list of the office's tasks shows, in order."""
    answer = ask("GET", f"{TASKS}?{query}")
    assert answer.status_code == 200
    return [row["id"] for row in answer.json()["data"]["contents"]]


@pytest.fixture
def world() -> World:
    return World(REINSTALL)


@pytest.fixture
def ask(world: World) -> Ask:
    return world.serve()


@pytest.fixture
def ask_office() -> Ask:
    return World(OFFICE).serve()


def states(answer: httpx.Response) -> dict[int, tuple[str, str]]:
    """Status and operation of each subtask of a task."""
    return {s["id"]: (s["status"], s["operation"]) for s in answer.json()["data"]["subtasks"]}


# --- whole answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("golden", "after", "request_line"),
    [
        ("ocp_task_just_started.json", 0, f"GET {TASK}"),
        ("ocp_task_failed.json", 10, f"GET {TASK}"),
        ("ocp_task_retried.json", 10, f"POST {TASK}/retry"),
        ("ocp_task_rolling_back.json", 10, f"POST {TASK}/rollback"),
        ("ocp_list.json", 10, f"GET {TASKS}"),
        ("ocp_log.json", 10, f"GET {FAILING}/log"),
        ("ocp_subtask_retried.json", 10, f"POST {FAILING}/retry"),
        ("ocp_subtask_skipped.json", 10, f"POST {FAILING}/skip"),
        ("ocp_unknown_task.json", 10, f"GET {TASKS}/1"),
        ("ocp_illegal_state.json", 10, f"POST {LAST}/retry"),
        ("ocp_wrong_type.json", 10, f"GET {TASKS}/abc"),
        ("ocp_wrong_value.json", 10, f"GET {TASKS}?size=2001"),
        ("ocp_wrong_method.json", 10, f"DELETE {TASK}"),
        ("ocp_unknown_path.json", 10, "GET /api/v2/tasks/35000312"),
    ],
)
def test_an_answer_is_this_text(world: World, ask: Ask, golden: str, *, after: int, request_line: str) -> None:
    world.advance(after * SECOND)

    answer = ask(*request_line.split())

    assert answer.text == (GOLDEN / golden).read_text(encoding="utf-8").strip()


@pytest.mark.parametrize(
    ("golden", "auth"),
    [
        ("ocp_not_logged_on.json", None),
        ("ocp_bad_credentials.json", ("manager", "wrong")),
        ("ocp_not_authorized.json", ("viewer", "viewer")),
    ],
)
def test_who_may_not_is_answered_with_this_text(ask: Ask, golden: str, auth: Any) -> None:
    answer = ask("POST", f"{TASK}/retry", auth=auth)

    assert answer.text == (GOLDEN / golden).read_text(encoding="utf-8").strip()


def challenge_driven(world: World) -> urllib.request.OpenerDirector:
    """Return a client that sends credentials only once it has been asked for them."""
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, world.sandbox.url, *MANAGER)
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(passwords))


def test_a_client_that_waits_for_a_challenge_is_let_in_only_where_a_switch_sends_one(world: World, ask: Ask) -> None:
    challenging = World(REINSTALL + "\nswitches: {basic_challenge: true}")
    answer = challenging.serve()("GET", TASK, auth=None)

    with pytest.raises(urllib.error.HTTPError, match="401"):
        challenge_driven(world).open(world.sandbox.url + TASK)
    assert answer.headers["www-authenticate"] == 'Basic realm="OCP", charset="UTF-8"'
    assert challenge_driven(challenging).open(challenging.sandbox.url + TASK).status == 200


@pytest.mark.parametrize("path", [TASK, f"{TASK}/retry", f"{TASKS}/1/nothing", "/api/v2/nothing", "/api/v2/nothing/"])
@pytest.mark.parametrize("auth", [None, ("manager", "wrong"), ("nobody", "x")])
@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD", "OPTIONS"])
def test_credentials_are_checked_before_the_path_and_the_method(ask: Ask, method: str, path: str, auth: Any) -> None:
    assert ask(method, path, auth=auth).status_code == 401
    assert ask(method, "/nothing", auth=auth).status_code == 404


@pytest.mark.parametrize(
    ("switches", "method", "path", "status", "text"),
    [
        ("{}", "GET", "/api/v2/nothing", 404, '"successful":false'),
        ("{}", "DELETE", TASK, 405, '"successful":false'),
        ("{unknown_path: index}", "POST", "/api/v2/nothing", 200, "<!DOCTYPE html>"),
        ("{unknown_path: index}", "DELETE", TASK, 405, '"successful":false'),
        ("{wrong_method: index}", "DELETE", TASK, 200, "<!DOCTYPE html>"),
        ("{wrong_method: failed}", "GET", f"{TASK}/retry", 500,
         '"code":0,"debugMessage":"Request method \'GET\' not supported","message":"Unhandled exception, '
         'type=HttpRequestMethodNotSupportedException, message=Request method \'GET\' not supported"'),
    ],
)  # fmt: skip
def test_what_an_unknown_path_and_a_wrong_method_return_is_a_switch(
    switches: str, method: str, path: str, status: int, text: str
) -> None:
    world = World(f"{REINSTALL}\nswitches: {switches}")

    answer = world.serve()(method, path)

    assert answer.status_code == status
    assert text in answer.text
    assert answer.headers["content-type"].startswith("text/html" if "<" in text else "application/json")
    assert [entry.status for entry in world.sandbox.journal] == [status]


@pytest.mark.parametrize(
    "path", [TASKS, TASK, f"{TASKS}/1", f"{TASKS}/abc", f"{FAILING}/log", f"{TASKS}?status=FAILED"]
)
def test_a_path_may_end_in_a_slash_and_head_is_a_get_without_its_body(ask: Ask, path: str) -> None:
    bare, _, query = path.partition("?")

    got, with_slash, head = ask("GET", path), ask("GET", f"{bare}/?{query}"), ask("HEAD", path)

    assert with_slash.status_code == head.status_code == got.status_code
    assert with_slash.json().get("data") == got.json().get("data")
    assert (head.content, head.headers["content-length"]) == (b"", got.headers["content-length"])


def test_an_operation_whose_path_ends_in_a_slash_is_carried_out_and_head_is_no_post(world: World, ask: Ask) -> None:
    world.advance(10 * SECOND)

    assert ask("HEAD", f"{TASK}/retry").status_code == 405
    assert ask("POST", f"{TASK}/retry/").json()["data"]["operation"] == "RETRY"


# Spring 5.3.27, run with ocp-express' controllers, reads these as 35000312, and refuses the others.
@pytest.mark.parametrize(
    "id",
    [
        *("0x2160FF8", "0X2160ff8", "%232160ff8", "%20%2035000312%20", "35%20000%20312", "+35000312"),
        *("0" * 30 + "35000312", "%D9%A3%D9%A5%D9%A0%D9%A0%D9%A0%D9%A3%D9%A1%D9%A2"),
    ],
)
def test_an_id_is_read_as_spring_reads_a_long(ask: Ask, id: str) -> None:
    assert ask("GET", f"{TASKS}/{id}").json()["data"]["id"] == 35000312


@pytest.mark.parametrize("id", ["-1", "0", "-0x10", "-9223372036854775808"])
def test_an_id_below_one_is_an_unknown_task(ask: Ask, id: str) -> None:
    answer = ask("POST", f"{TASKS}/{id}/retry")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, 20000)


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_a_text_is_a_long_or_refused(text: str) -> None:
    digits = re.fullmatch(r"[+-]?([0-9]+)", text)

    try:
        value = read_long(text)
    except ValueError:
        assert digits is None or int(digits[1]) >= 2**63
    else:
        assert -(2**63) <= value < 2**63
        assert digits is None or value == int(text)


# --- the envelope ---------------------------------------------------------------------------------


def test_the_keys_of_an_envelope_are_sorted_and_its_status_is_the_answers(ask: Ask) -> None:
    answers = [ask("GET", TASK), ask("POST", f"{TASK}/retry"), ask("GET", TASK, auth=None)]

    for answer in answers:
        assert list(answer.json()) == sorted(answer.json())
        assert answer.json()["status"] == answer.status_code
        assert answer.json()["successful"] is answer.is_success


@pytest.mark.parametrize("sent", ["0bc49000675d41af", "checkout-test-17"])
def test_a_trace_id_is_taken_from_the_request(ask: Ask, sent: str) -> None:
    answer = ask("GET", TASK, headers={"x-trace-id": sent})

    assert answer.json()["traceId"] == sent


@pytest.mark.parametrize("sent", ["", "two words", "x" * 129, "\xff" * 16])
def test_a_trace_id_that_no_log_should_hold_is_replaced(ask: Ask, sent: str) -> None:
    answer = ask("GET", TASK, headers={"x-trace-id": sent.encode("latin-1")})

    assert answer.json()["traceId"] != sent
    assert len(answer.json()["traceId"]) == 16


def test_two_requests_have_two_trace_ids(ask: Ask) -> None:
    assert ask("GET", TASK).json()["traceId"] != ask("GET", TASK).json()["traceId"]


@pytest.mark.parametrize(
    ("starts_at", "text"),
    [
        ("2000-01-01T00:00:00Z", "2000-01-01T08:00:00+08:00"),
        ("2000-01-01T00:00:00.740Z", "2000-01-01T08:00:00.74+08:00"),
        ("2000-01-01T00:00:00.500Z", "2000-01-01T08:00:00.5+08:00"),
        ("2000-01-01T00:00:00.005Z", "2000-01-01T08:00:00.005+08:00"),
        ("2000-01-01T00:01:00Z", "2000-01-01T08:01:00+08:00"),
    ],
)
def test_a_timestamp_has_no_trailing_zeros(starts_at: str, text: str) -> None:
    ask = World(REINSTALL, starts_at=starts_at).serve()

    assert ask("GET", TASKS).json()["timestamp"] == text


# --- which fields appear --------------------------------------------------------------------------

TIMES = {"executor", "createTime", "startTime", "finishTime"}


@pytest.mark.parametrize(("after", "shown"), [(0, set()), (1 * SECOND, TIMES - {"finishTime"}), (10 * SECOND, TIMES)])
def test_a_subtask_shows_executor_and_times_only_once_it_has_started(
    world: World, ask: Ask, after: int, shown: set[str]
) -> None:
    world.advance(after)

    root = ask("GET", TASK).json()["data"]["subtasks"][3]

    assert TIMES & set(root) == shown


def test_null_is_never_written(world: World, ask: Ask) -> None:
    world.advance(10 * SECOND)

    texts = [ask("GET", TASK).text, ask("GET", TASKS).text, ask("GET", f"{TASKS}/1").text]

    assert not [text for text in texts if "null" in text]


def test_a_class_a_cluster_and_a_tenant_are_shown_where_a_task_has_them() -> None:
    text = OFFICE.replace("[{name: A, attempts: [{ends: FAILED}]}]", "[{name: A, class_name: a.B}]")
    ask = World(text).serve()

    task = ask("GET", f"{TASKS}/2").json()["data"]

    assert task["subtasks"][0]["className"] == "a.B"
    assert task["cluster"] == {"id": 10, "name": "Meta_One", "obClusterId": 100, "type": "PRIMARY"}
    assert task["tenant"] == {"id": 20, "mode": "MYSQL", "name": "t1", "obTenantId": 200}


def test_what_a_task_shows_follows_its_state(world: World, ask: Ask) -> None:
    before = states(ask("GET", TASK))
    world.advance(10 * SECOND)

    after = states(ask("GET", TASK))

    assert before[13000333] == ("PENDING", "EXECUTE")
    assert after[13000333] == ("FAILED", "EXECUTE")


# --- operations -----------------------------------------------------------------------------------


def test_a_cancelled_subtask_answers_without_data(world: World, ask: Ask) -> None:
    world.advance(1 * SECOND)

    answer = ask("POST", f"{TASK}/subtasks/13000335/cancel")

    assert answer.status_code == 200
    assert "data" not in answer.json()
    assert states(ask("GET", TASK))[13000335] == ("CANCELING", "EXECUTE")


def test_a_rollback_that_is_forbidden_is_refused_with_its_own_code() -> None:
    world = World(REINSTALL.replace("id: 35000312", "id: 35000312\n    prohibit_rollback: true"))
    world.advance(10 * SECOND)

    answer = world.serve()("POST", f"{TASK}/rollback")

    assert answer.status_code == 400
    assert answer.json()["error"] == {"code": 20004, "message": "Task {0} can not rollback."}


@pytest.mark.parametrize(
    ("method", "path", "auth", "code"),
    [
        ("GET", f"{TASKS}/1", "manager", 1),
        ("POST", f"{TASK}/retry", "manager", 2),
        ("POST", f"{TASK}/retry", "viewer", 4),
    ],
)
def test_the_numbers_of_errors_are_switches(method: str, path: str, *, auth: str, code: int) -> None:
    numbers = "error_code_not_found: 1, error_code_illegal_state: 2, error_code_forbidden: 4"
    ask = World(f"{REINSTALL}\nswitches: {{{numbers}}}").serve()

    answer = ask(method, path, auth=(auth, auth))

    assert answer.json()["error"]["code"] == code


# --- logs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after_ms", "lines"), [(0, 0), (2_500, 2), (3_500, 3), (4_000, 4), (4_500, 5)])
def test_a_log_fills_as_its_run_goes_on(world: World, ask: Ask, after_ms: int, lines: int) -> None:
    world.advance(after_ms * MILLISECOND)

    log = ask("GET", f"{FAILING}/log").json()["data"]["log"]

    assert len(log.splitlines()) == lines


def test_each_run_has_a_segment_of_the_log(world: World, ask: Ask) -> None:
    world.advance(10 * SECOND)
    ask("POST", f"{FAILING}/retry")
    world.advance(10 * SECOND)

    log = ask("GET", f"{FAILING}/log").json()["data"]["log"]

    assert [line[12:20] for line in log.splitlines() if line.startswith("#")] == ["{EXECUTE", "{RETRY}{"]
    assert log.endswith("current state: RUNNING, new state: SUCCESSFUL")


def test_a_log_keeps_the_last_hundred_runs() -> None:
    fails_always = "[{id: 1, subtasks: [{id: 2, attempts: {takes: 1s, ends: FAILED}}]}]"
    ask = World(f"summary: A\napi: ocp\ntasks: {fails_always}", progression="immediate").serve()
    for _ in range(101):
        assert ask("POST", f"{TASKS}/1/subtasks/2/retry").status_code == 200

    log = ask("GET", f"{TASKS}/1/subtasks/2/log").json()["data"]["log"]

    assert [line[12:18] for line in log.splitlines() if line.startswith("#")] == ["{RETRY"] * 100


def test_a_log_has_its_lines_in_the_order_of_their_times() -> None:
    log = "[first, {at: 9s, text: last}, {at: 1s, text: second}]"
    world = World(
        f"summary: A\napi: ocp\ntasks: [{{id: 1, subtasks: [{{id: 2, attempts: {{takes: 10s, log: {log}}}}}]}}]"
    )
    world.advance(11 * SECOND)

    text = world.serve()("GET", f"{TASKS}/1/subtasks/2/log").json()["data"]["log"]

    assert text.splitlines()[1:4] == ["first", "second", "last"]


def test_the_log_of_an_unknown_subtask_is_empty_where_pairs_are_not_checked(ask: Ask) -> None:
    answer = ask("GET", f"{TASK}/subtasks/1/log")

    assert (answer.status_code, answer.json()["data"]) == (200, {"log": ""})


def test_the_log_of_an_unknown_subtask_is_a_404_where_pairs_are_checked() -> None:
    ask = World(REINSTALL + "\nswitches: {subtask_pairing: checked}").serve()

    assert ask("GET", f"{TASK}/subtasks/1/log").status_code == 404
    assert ask("GET", f"{TASKS}/1/subtasks/13000333/log").status_code == 404


def segments(ask: Ask, path: str) -> list[str]:
    """Return the separators and the final states in a log, without their times."""
    lines = ask("GET", path).json()["data"]["log"].splitlines()
    return [re.sub(r"\}.*|.*, ", "", line) for line in lines if line.startswith(("###", "Set "))]


def test_a_cancelled_run_has_a_segment_for_its_cancel_and_a_skip_in_a_rollback_no_final_state() -> None:
    subtasks = "[{id: 2, attempts: {takes: 60s}, rollback: {ends: FAILED}}]"
    world = World(f"summary: s\napi: ocp\ntasks: [{{id: 1, subtasks: {subtasks}}}]")
    ask = world.serve()
    subtask = f"{TASKS}/1/subtasks/2"

    for path in (f"{subtask}/cancel", f"{TASKS}/1/rollback", f"{subtask}/skip"):
        world.advance(5 * SECOND)
        assert ask("POST", path).status_code == 200
    world.advance(5 * SECOND)

    assert segments(ask, f"{subtask}/log") == [
        *("############{EXECUTE", "new state: FAILED", "############{CANCEL"),
        *("############{ROLLBACK", "new state: FAILED", "############{ROLLBACK_SKIP"),
    ]


def test_a_rollback_ends_with_the_state_pending(world: World, ask: Ask) -> None:
    world.advance(10 * SECOND)
    ask("POST", f"{TASK}/rollback")
    world.advance(10 * SECOND)

    assert segments(ask, f"{FAILING}/log")[2:] == ["############{ROLLBACK", "new state: PENDING"]


@pytest.mark.parametrize(
    ("starts_at", "text"),
    [
        ("2000-01-01T00:00:00.250Z", "2000-01-01T08:00:00.750+08:00"),
        ("2000-01-01T00:00:00.505Z", "2000-01-01T08:00:01.005+08:00"),
        ("2000-01-01T00:00:01.500Z", "2000-01-01T08:00:02+08:00"),
        ("2000-01-01T00:00:59.500Z", "2000-01-01T08:01+08:00"),
    ],
)
def test_a_separator_has_the_time_as_java_writes_an_offset_date_time(starts_at: str, text: str) -> None:
    world = World(REINSTALL, starts_at=starts_at)
    ask = world.serve()
    world.advance(2 * SECOND)

    log = ask("GET", f"{TASK}/subtasks/13000335/log").json()["data"]["log"]

    assert log.startswith(f"############{{EXECUTE}}{{{text}}}############")


@pytest.mark.parametrize(("type", "lines"), [("SCHEDULED", 5), ("SYS_SCHEDULED", 2)])
def test_the_output_of_a_scheduled_task_of_the_system_is_not_in_its_log(type: str, lines: int) -> None:
    world = World(REINSTALL.replace("    creator", f"    type: {type}\n    creator"))
    world.advance(10 * SECOND)

    log = world.serve()("GET", f"{FAILING}/log").json()["data"]["log"]

    assert len(log.splitlines()) == lines


# --- lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", [3, 2, 1]),
        ("name=START", [3, 2]),
        ("name=%00", []),
        ("status=RUNNING", [3]),
        ("status=FAILED,RUNNING", [3, 2]),
        ("type=MANUAL", [2]),
        ("type=SYS_ONCE", [3]),
        ("type=SYS_ONECE", [3]),
        ("clusterName=meta", [2]),
        ("clusterId=10", [2]),
        ("clusterId=11", []),
        ("tenantName=t1&clusterId=10", [2]),
        ("tenantName=t&clusterId=10", []),
        ("tenantName=t1&clusterId=-1", []),
        ("status=failed,Running", [3, 2]),
        ("status=DONE", []),
        ("status=DONE,FAILED", [2]),
        ("status=", []),
        ("status=RUNNING,", [3]),
        ("clusterId=0xA", [2]),
        ("tenantId=20", [2]),
        ("hostId=7", [1]),
        ("name=start&status=FAILED&type=MANUAL", [2]),
        ("cluterName=meta", [2]),
        ("cluterName=other", []),
    ],
)
def test_a_list_has_the_tasks_that_pass_every_filter(ask_office: Ask, query: str, ids: list[int]) -> None:
    assert office(ask_office, query) == ids


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("sort=id", [1, 2, 3]),
        ("sort=id,desc", [3, 2, 1]),
        ("sort=name,asc", [1, 2, 3]),
        ("sort=status,asc", [2, 3, 1]),
        ("sort=startTime,asc", [1, 2, 3]),
        ("sort=finishTime,asc", [3, 1, 2]),
        ("sort=finishTime,desc", [2, 1, 3]),
        ("sort=id,ASC", [1, 2, 3]),
        ("sort=id,Desc", [3, 2, 1]),
        ("sort=createTime,asc", [1, 2, 3]),
        ("sort=state,ASC", [2, 3, 1]),
        ("sort=type", [2, 1, 3]),
    ],
)
def test_a_list_is_sorted_as_asked(ask_office: Ask, query: str, ids: list[int]) -> None:
    assert office(ask_office, query) == ids


@pytest.mark.parametrize(
    ("query", "ids", "page"),
    [
        ("size=2", [3, 2], {"number": 1, "size": 2, "totalElements": 3, "totalPages": 2}),
        ("size=2&page=2", [1], {"number": 2, "size": 2, "totalElements": 3, "totalPages": 2}),
        ("size=%202&page=0x2", [1], {"number": 2, "size": 2, "totalElements": 3, "totalPages": 2}),
        ("size=2&page=3", [], {"number": 3, "size": 2, "totalElements": 3, "totalPages": 2}),
        ("name=x", [], {"number": 1, "size": 10, "totalElements": 0, "totalPages": 0}),
        ("page=2147483647&size=2000", [],
         {"number": 2147483647, "size": 2000, "totalElements": 3, "totalPages": 1}),
    ],
)  # fmt: skip
def test_a_list_is_told_page_by_page(ask_office: Ask, query: str, ids: list[int], page: dict[str, int]) -> None:
    answer = ask_office("GET", f"{TASKS}?{query}").json()["data"]

    assert [row["id"] for row in answer["contents"]] == ids
    assert answer["page"] == page


def test_an_empty_number_type_or_order_counts_as_left_out_as_spring_reads_it(ask_office: Ask) -> None:
    assert office(ask_office, "clusterId=&tenantId=&hostId=&page=&size=&type=&sort=") == [3, 2, 1]


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=abc", "page=2147483648", "size=0", "size=2001", "type=ONCE", "sort=age", "sort=id,up",
     "sort=id,desc%0A", "clusterId=1_0", "hostId=x", "tenantName=t1", "tenantName=t1&tenantId=20"],
)  # fmt: skip
def test_a_filter_the_contract_does_not_allow_is_refused(ask_office: Ask, query: str) -> None:
    answer = ask_office("GET", f"{TASKS}?{query}")

    assert answer.status_code == 400
    assert "match" not in answer.text  # no regular expression


def test_an_unknown_type_is_refused_with_all_types(ask_office: Ask) -> None:
    message = ask_office("GET", f"{TASKS}?type=ONCE").json()["error"]["debugMessage"]

    assert message == 'type: "ONCE" is not one of MANUAL, SYS_ONCE, SCHEDULED, SYS_SCHEDULED, SYS_ONECE'


# --- what reading does ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [TASK, TASKS])
def test_under_polls_a_read_shows_the_state_as_it_is_and_then_moves_on(path: str) -> None:
    world = World(REINSTALL, progression="polls")
    ask = world.serve()
    start = world.now()

    first = ask("GET", path).json()

    assert first["timestamp"] == "2021-08-25T15:09:31.74+08:00"
    assert world.now() > start


def test_under_polls_reading_a_log_moves_nothing_on() -> None:
    world = World(REINSTALL, progression="polls")
    ask = world.serve()
    start = world.now()

    ask("GET", f"{FAILING}/log")

    assert world.now() == start


# --- switches -------------------------------------------------------------------------------------


def test_the_undocumented_path_of_a_task_is_served_where_the_switch_says_so() -> None:
    text = REINSTALL + "\nswitches: {undocumented_task_path: true}"
    ask = World(text).serve()

    short, documented = ask("GET", "/api/v2/tasks/35000312"), ask("GET", TASK)

    assert short.json()["data"] == documented.json()["data"]


# --- the contract ---------------------------------------------------------------------------------

OPERATIONS = list(ContractFile("ocp").operations.values())


@given(
    operation=st.sampled_from(OPERATIONS),
    task=st.sampled_from([35000312, 1]),
    subtask=st.sampled_from([13000333, 13000335, 2]),
    after=st.integers(0, 20_000),
    auth=st.sampled_from([None, ("viewer", "viewer"), ("manager", "manager"), ("x", "y")]),
)
def test_no_answer_breaks_the_contract(*, operation: Any, task: int, subtask: int, after: int, auth: Any) -> None:
    world = World(REINSTALL)
    world.advance(after * MILLISECOND)
    path = operation["path"].format(taskInstanceId=task, subtaskInstanceId=subtask)

    answer = world.serve()(operation["method"], path, auth=auth)

    assert str(answer.status_code) in operation["responses"]
