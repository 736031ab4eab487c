"""Every fault as a client sees it: httpx over a socket, and the vendor's obshell SDK.

One rule a test. Which requests a fault strikes is test_faults'; here is what becomes of them, of
what they asked for, and of the journal. The clock of the sandbox stands; what is late is late by
the machine's, by milliseconds.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest

from command import PATIENCE
from in_process import REINSTALL, asking, sandbox_of
from obshell_world import INIT
from oceanmock.clock import MILLISECOND, SECOND
from oceanmock.engine.log import Accounts, AddFault, RemoveFault
from oceanmock.engine.sandbox import Sandboxes
from oceanmock.http import server
from oceanmock.http.app import App, create_app
from oceanmock.journal import Query
from oceanmock.library import read_fault
from oceanmock.ocp.world import Tasks
from serving_app import Serving, World, serving_app

TASKS: Final = "/api/v2/tasks/instances"
TASK: Final = f"{TASKS}/35000312"
RETRY: Final = f"{TASK}/subtasks/13000333/retry"
DAG: Final = "/api/v1/task/dag/22130706433028864"
LOGON: Final = "Authorization: Basic " + base64.b64encode(b"manager:manager").decode()
IMPATIENT: Final = httpx.Timeout(PATIENCE, read=0.05)
CUT: Final = (httpx.ReadError, httpx.RemoteProtocolError)
"""How httpx tells that the other side hung up, rudely or not."""


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with serving_app() as serving:
        yield serving


@pytest.fixture
def world(serving: Serving) -> World:
    """A sandbox in which subtask 13000333 has failed, with nothing that goes wrong."""
    return failed(serving)


def failed(serving: Serving, text: str = REINSTALL, **options: Any) -> World:
    """A world long after it has failed."""
    world = serving.world(text, **options)
    world.sandbox.advance(60 * SECOND)
    return world


def status_of(world: World) -> str:
    """The state of the subtask that has failed, as the sandbox has it."""
    view, position = world.sandbox.world(Tasks).view_subtask(35000312, 13000333)
    return view.state.subtasks[position].status


def statuses(world: World, count: int, path: str = TASK, **options: Any) -> list[int]:
    """What so many requests are answered."""
    return [world.ask("GET", path, **options).status_code for _ in range(count)]


# --- late -----------------------------------------------------------------------------------------


def test_a_delayed_answer_is_late_and_whole(world: World) -> None:
    world.strike(delay="30ms", jitter="10ms")

    answer = world.ask("GET", TASK)

    (entry,) = world.sandbox.journal.entries()
    assert (answer.status_code, answer.json()["data"]["id"]) == (200, 35000312)
    assert entry.took > 25 * MILLISECOND


def test_a_delay_is_by_the_machine_s_clock_not_the_sandbox_s(world: World) -> None:
    world.strike(delay="5ms")
    before = world.sandbox.clock.now()

    assert world.ask("GET", TASK).json()["duration"] == 0
    assert world.sandbox.clock.now() == before


def test_a_delayed_operation_happens_when_it_comes_not_when_it_is_answered(world: World) -> None:
    world.strike(operation="retrySubtask", delay="1h")

    with pytest.raises(httpx.ReadTimeout):
        world.ask("POST", RETRY, timeout=IMPATIENT)

    world.app.until(lambda: world.sandbox.journal.count() > 0)

    assert status_of(world) == "READY"


def test_who_does_not_wait_for_a_delayed_answer_is_in_the_journal(world: World) -> None:
    world.strike(delay="1h", name="slow")
    with pytest.raises(httpx.ReadTimeout):
        world.ask("GET", TASK, timeout=IMPATIENT)

    world.app.until(lambda: world.sandbox.journal.count() > 0)

    (entry,) = world.sandbox.journal.entries()
    assert (entry.status, entry.fault) == (None, "slow")
    assert entry.refusal == "The client did not wait for the answer."


def test_others_are_answered_while_one_waits(world: World) -> None:
    world.strike(operation="getTaskInstance", delay="1h")
    with pytest.raises(httpx.ReadTimeout):
        world.ask("GET", TASK, timeout=IMPATIENT)

    assert world.ask("GET", TASKS).status_code == 200


# --- another status -------------------------------------------------------------------------------

STATUSES: Final = [*range(400, 600, 7), 401, 403, 404, 405, 409, 422, 429, 500, 502, 503, 504, 599]


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_is_answered_in_ocp_s_envelope(world: World, status: int) -> None:
    world.strike(status=status)

    answer = world.ask("GET", TASK)

    said = answer.json()
    assert answer.status_code == said["status"] == status
    assert answer.headers["content-type"] == "application/json"
    assert said["successful"] is False
    assert said["error"]["message"]
    assert "data" not in said


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_is_answered_in_obshell_s_envelope(serving: Serving, status: int) -> None:
    world = failed(serving, INIT, accounts=Accounts(required=False))
    world.strike(status=status)

    answer = world.ask("GET", DAG)

    said = answer.json()
    assert answer.status_code == said["status"] == status
    assert said["successful"] is False
    assert said["error"]["errCode"]
    assert said["error"]["message"]
    assert said.get("data") is None


def test_a_429_has_the_documented_headers_and_words(world: World) -> None:
    world.strike(status=429)

    answer = world.ask("GET", TASK)

    limits = {name: answer.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset")}
    assert limits == {"limit": "100", "remaining": "0", "reset": "1"}
    assert answer.json()["error"]["message"].startswith("Excessive number of requests.")


def test_a_401_has_a_challenge(world: World) -> None:
    world.strike(status=401)

    assert world.ask("GET", TASK).headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize("effect", [{"status": 503}, {"reset": True}, {"empty": True}, {"empty": True, "status": 502}])
def test_what_a_fault_answers_itself_does_not_happen(world: World, effect: dict[str, Any]) -> None:
    world.strike(operation="retrySubtask", calls=1, **effect)
    before = world.sandbox.world(Tasks).view(35000312)

    answered_or_cut(lambda: world.ask("POST", RETRY))

    assert world.sandbox.world(Tasks).view(35000312) == before
    assert world.sandbox.operations_of(Tasks.api, 35000312) == ()
    assert world.ask("POST", RETRY).status_code == 200


@pytest.mark.parametrize(
    "effect",
    [
        {"status": 503, "still_executes": True},
        {"reset": True, "still_executes": True},
        {"empty": True, "still_executes": True},
        {"drop_response": True},
        {"malformed": True, "still_executes": True},
        {"truncate": 10, "still_executes": True},
        {"drop": "data", "still_executes": True},
        {"delay": "1ms"},
    ],
)
def test_what_is_said_to_happen_happens_once(world: World, effect: dict[str, Any]) -> None:
    world.strike(operation="retrySubtask", calls=1, **effect)

    answered_or_cut(lambda: world.ask("POST", RETRY))

    assert status_of(world) == "READY"
    assert world.ask("POST", RETRY).status_code == 400


def answered_or_cut(ask: Callable[[], httpx.Response]) -> httpx.Response | None:
    """The answer, or None where the connection was cut."""
    try:
        return ask()
    except CUT:
        return None


def test_a_status_stands_in_for_that_of_an_operation_that_happened(world: World) -> None:
    world.strike(operation="retrySubtask", status=504, still_executes=True)

    answer = world.ask("POST", RETRY)

    assert (answer.status_code, answer.json()["status"]) == (504, 504)
    assert answer.json()["error"]["message"] == "Gateway Timeout"
    assert status_of(world) == "READY"


# --- no answer, or half of one --------------------------------------------------------------------


def test_a_reset_connection_is_reset(world: World) -> None:
    world.strike(reset=True)

    with pytest.raises(httpx.ReadError) as cut:
        world.ask("GET", TASK)

    assert "reset by peer" in str(cut.value)


def test_after_a_reset_the_next_request_is_answered(world: World) -> None:
    world.strike(reset=True, calls=1)
    with pytest.raises(CUT):
        world.ask("GET", TASK)

    assert world.ask("GET", TASK).status_code == 200


def test_a_reset_is_not_answered_and_the_journal_says_so(world: World) -> None:
    world.strike(reset=True, name="gone")
    with pytest.raises(CUT):
        world.ask("GET", TASK)

    (entry,) = world.sandbox.journal.entries()
    assert (entry.status, entry.response_headers, entry.response_body) == (None, (), b"")
    assert (entry.fault, entry.refusal) == ("gone", "fault injected: gone")


def test_a_lost_answer_is_of_an_operation_that_happened(world: World) -> None:
    world.strike(operation="retrySubtask", drop_response=True, calls=1)
    with pytest.raises(CUT):
        world.ask("POST", RETRY)

    again = world.ask("POST", RETRY)

    assert again.status_code == 400
    assert "not supported for the 13000333 task in the READY state" in again.text
    kept = [(each.operation, bool(each.refused)) for each in operations(world)]
    assert kept == [("RETRY", False), ("RETRY", True)]


def operations(world: World) -> tuple[Any, ...]:
    return world.sandbox.operations_of(Tasks.api, 35000312)


def test_an_empty_answer_is_a_status_and_headers(world: World) -> None:
    world.strike(empty=True)

    answer = world.ask("GET", TASK)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "0"
    assert answer.headers["content-type"] == "application/json"


def test_an_empty_answer_may_have_a_status_of_its_own(world: World) -> None:
    world.strike(empty=True, status=502)

    answer = world.ask("GET", TASK)

    assert (answer.status_code, answer.content) == (502, b"")


@pytest.mark.parametrize("kept", [0, 1, 100])
def test_a_truncated_answer_promises_more_than_it_has(world: World, kept: int) -> None:
    whole = world.ask("GET", TASK).content
    world.strike(operation="getTaskInstance", truncate=kept)

    with pytest.raises(httpx.RemoteProtocolError) as cut:
        world.ask("GET", TASK)

    assert str(cut.value) == (
        f"peer closed connection without sending complete message body (received {kept} bytes, expected {len(whole)})"
    )


def test_an_answer_shorter_than_what_is_kept_of_it_is_whole(world: World) -> None:
    world.strike(operation="getTaskInstance", truncate=1_000_000)

    assert world.ask("GET", TASK).json()["status"] == 200


def test_a_truncated_answer_is_in_the_journal_as_it_was_sent(world: World) -> None:
    world.strike(operation="getTaskInstance", truncate=10)
    with pytest.raises(CUT):
        world.ask("GET", TASK)

    (entry,) = world.sandbox.journal.entries()
    assert (entry.status, entry.response_body) == (200, b'{"data":{"')


def raw(world: World, path: str) -> bytes:
    """A GET as it goes over the wire."""
    lines = [f"GET /sandboxes/{world.sandbox.name}{path} HTTP/1.1", "Host: mock", LOGON]
    return "\r\n".join([*lines, "", ""]).encode()


def connect(serving: Serving) -> socket.socket:
    place = urlsplit(serving.url)
    return socket.create_connection((place.hostname, place.port), timeout=PATIENCE)


def test_a_reset_ends_the_requests_that_did_not_wait_for_an_answer(serving: Serving, world: World) -> None:
    world.strike(reset=True, calls=1)

    with connect(serving) as connection:
        connection.sendall(raw(world, TASK) * 3)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)

    world.app.until(lambda: not serving.tasks)
    assert world.sandbox.journal.count() == 1


def test_a_server_that_stops_waits_for_no_delay(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "GRACE_SECONDS", 0.1)
    with serving_app() as serving:
        world = serving.world()
        world.strike(delay="1h")
        connection = connect(serving)
        connection.sendall(raw(world, TASK))
        world.app.until(lambda: world.sandbox.faults()[0].affected == 1)

    with connection:
        assert connection.recv(1) == b""
    assert "Exception" not in caplog.text


# --- an answer that is wrong ----------------------------------------------------------------------


def test_a_malformed_answer_is_no_json_although_it_says_so(world: World) -> None:
    world.strike(operation="getTaskInstance", malformed=True)

    answer = world.ask("GET", TASK)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_an_answer_may_have_another_content_type(world: World) -> None:
    world.strike(operation="getTaskInstance", content_type="text/html; charset=utf-8")

    answer = world.ask("GET", TASK)

    assert answer.headers.get_list("content-type") == ["text/html; charset=utf-8"]
    assert answer.json()["data"]["id"] == 35000312


def test_a_dripping_answer_comes_in_pieces_and_is_whole_in_the_end(world: World) -> None:
    whole = world.ask("GET", TASK)
    world.strike(operation="getTaskInstance", dribble={"bytes": 1000, "every": "20ms"})

    with world.client.stream("GET", TASK) as answer:
        pieces = list(answer.iter_raw())

    assert len(pieces) > 1
    assert json.loads(b"".join(pieces))["data"] == whole.json()["data"]


def test_a_dripping_answer_is_in_the_journal_whole(world: World) -> None:
    world.strike(operation="getTaskInstance", dribble={"bytes": 500, "every": "1ms"}, name="slowly")

    answer = world.ask("GET", TASK)

    (entry,) = world.sandbox.journal.entries()
    assert (entry.response_body, entry.fault) == (answer.content, "slowly")
    assert entry.took > (len(answer.content) // 500) * MILLISECOND // 2


def test_of_a_dripping_answer_the_journal_has_what_the_client_waited_for(world: World) -> None:
    world.strike(operation="getTaskInstance", dribble={"bytes": 10, "every": "1h"})
    with pytest.raises(httpx.ReadTimeout):
        world.ask("GET", TASK, timeout=IMPATIENT)

    world.app.until(lambda: world.sandbox.journal.count() > 0)

    (entry,) = world.sandbox.journal.entries()
    assert (entry.status, entry.response_body) == (200, b'{"data":{"')
    assert entry.refusal == "The client did not wait for the answer."


def test_a_dropped_field_is_left_out(world: World) -> None:
    world.strike(operation="getTaskInstance", drop=["data.status", "data.subtasks.*.id"])

    data = world.ask("GET", TASK).json()["data"]

    assert "status" not in data
    assert data["id"] == 35000312
    assert ["id" in each for each in data["subtasks"]] == [False] * 4


def test_a_retyped_field_is_of_another_type(world: World) -> None:
    world.strike(operation="getTaskInstance", change_type=["data.id", "data.status", "data.subtasks"])

    data = world.ask("GET", TASK).json()["data"]

    assert (data["id"], data["status"]) == ("35000312", 0)
    assert json.loads(data["subtasks"])[0]["id"] == 13000336


def test_a_changed_answer_is_as_long_as_it_says(world: World) -> None:
    world.strike(operation="getTaskInstance", drop="data.subtasks", change_type="data.id", content_type="text/plain")

    answer = world.ask("GET", TASK)

    assert answer.headers.get_list("content-length") == [str(len(answer.content))]
    assert answer.headers.get_list("content-type") == ["text/plain"]


# --- whom it strikes ------------------------------------------------------------------------------


def test_a_fault_of_one_caller_spares_the_others(world: World) -> None:
    world.strike(status=503, caller="viewer")

    assert statuses(world, 2) == [200, 200]
    assert statuses(world, 2, auth=("viewer", "viewer")) == [503, 503]


def test_a_fault_of_one_operation_spares_the_others(world: World) -> None:
    world.strike(status=503, operation="listTaskInstances")

    assert statuses(world, 1, TASKS) == [503]
    assert statuses(world, 1, TASK) == [200]


def test_a_fault_of_one_task_spares_the_others(world: World) -> None:
    world.strike(api="ocp", status=503, task=35000312)

    assert statuses(world, 1, TASK) == [503]
    assert statuses(world, 1, f"{TASKS}/1") == [404]
    assert statuses(world, 1, TASKS) == [200]


def test_a_fault_of_one_dag_spares_the_others(serving: Serving) -> None:
    world = failed(serving, INIT, accounts=Accounts(required=False))
    world.strike(api="obshell", status=503, dag=4)

    assert statuses(world, 1, DAG) == [503]
    assert statuses(world, 1, "/api/v1/task/node/2213070643302886402") == [200]


def test_a_fault_strikes_the_calls_of_its_numbers(world: World) -> None:
    world.strike(status=503, calls=[2, "4-5"])

    assert statuses(world, 6) == [200, 503, 200, 503, 503, 200]


def test_each_fault_counts_what_it_might_strike(world: World) -> None:
    world.strike(status=502, calls=1, operation="getTaskInstance")
    world.strike(status=503, calls=2)

    assert statuses(world, 3) == [502, 503, 200]


def test_with_the_same_seed_the_same_requests_are_struck(serving: Serving) -> None:
    rows = []
    for seed in (5, 5, 6):
        world = failed(serving, seed=seed)
        world.strike(name="rarely", status=503, probability=0.4)
        rows.append(statuses(world, 40))

    assert rows[0] == rows[1] != rows[2]
    assert set(rows[0]) == {200, 503}


def test_a_reset_sandbox_has_the_same_row_again(serving: Serving) -> None:
    world = serving.world(f"{REINSTALL}faults: [{{status: 503, probability: 0.4}}]\n")
    before = statuses(world, 40)

    world.app.sandboxes.reset(world.sandbox.name)

    assert statuses(world, 40) == before
    assert set(before) == {200, 503}


def test_who_is_not_let_in_is_not_struck(world: World) -> None:
    world.strike(status=503, calls=1)

    assert statuses(world, 1, auth=("manager", "wrong")) == [401]
    assert statuses(world, 1) == [503]


def test_a_fault_of_one_sandbox_spares_the_others(serving: Serving, world: World) -> None:
    world.strike(status=503)
    other = failed(serving)

    assert statuses(other, 1) == [200]
    assert statuses(world, 1) == [503]


def test_a_fault_that_is_removed_strikes_no_more(world: World) -> None:
    name = world.strike(status=503)
    assert statuses(world, 1) == [503]

    world.sandbox.execute(RemoveFault(name))

    assert statuses(world, 1) == [200]


def test_a_request_that_is_refused_anyway_is_struck_first(world: World) -> None:
    world.strike(status=503)

    assert statuses(world, 1, f"{TASKS}/abc") == [503]


# --- a request that starts something --------------------------------------------------------------

SUBMITTING: Final = """
summary: A tenant is created when a client asks for it
api: ocp
progression: manual
tasks:
  - name: Create tenant
    starts_on: {path: "/api/v2/ob/clusters/{id}/tenants"}
    subtasks: [Check tenant]
"""
TENANTS: Final = "/api/v2/ob/clusters/1/tenants"


@pytest.mark.parametrize("effect", [{"status": 503}, {"reset": True}, {"empty": True}], ids=str)
def test_what_a_fault_answers_itself_starts_nothing(serving: Serving, effect: dict[str, Any]) -> None:
    world = serving.world(SUBMITTING)
    world.strike(calls=1, **effect)

    answered_or_cut(lambda: world.ask("POST", TENANTS, json={}))
    assert world.sandbox.world(Tasks).all() == []

    assert world.ask("POST", TENANTS, json={}).status_code == 200
    assert len(world.sandbox.world(Tasks).all()) == 1


def test_a_lost_answer_has_started_something(serving: Serving) -> None:
    world = serving.world(SUBMITTING)
    world.strike(calls=1, drop_response=True)

    with pytest.raises(CUT):
        world.ask("POST", TENANTS, json={})
    world.ask("POST", TENANTS, json={})

    assert len(world.sandbox.world(Tasks).all()) == 2


def test_an_unknown_path_is_not_struck(world: World) -> None:
    world.strike(status=503, calls=1)

    assert statuses(world, 1, "/nowhere") == [404]
    assert statuses(world, 1) == [503]


# --- the journal, and the contract ----------------------------------------------------------------


def test_the_journal_names_the_fault_that_struck(world: World) -> None:
    world.strike(name="the second", status=503, calls=2)
    world.strike(status=502, calls=3)
    statuses(world, 4)

    entries = world.sandbox.journal.entries()

    assert [entry.fault for entry in entries] == ["", "the second", "fault 2", ""]
    assert [entry.status for entry in entries] == [200, 503, 502, 200]
    assert world.sandbox.journal.count(Query(fault="the second")) == 1


def test_the_journal_has_the_answer_that_was_sent(world: World) -> None:
    world.strike(operation="getTaskInstance", drop="data.status")

    answer = world.ask("GET", TASK)

    (entry,) = world.sandbox.journal.entries()
    assert entry.response_body == answer.content
    assert dict(entry.response_headers)["content-length"] == answer.headers["content-length"]


def test_a_struck_answer_may_break_the_contract_and_another_may_not(caplog: pytest.LogCaptureFixture) -> None:
    sandbox = sandbox_of(REINSTALL)
    sandbox.execute(AddFault(read_fault({"operation": "getTaskInstance", "change_type": "server"})))
    ask = asking(create_app(sandbox))

    struck = ask("GET", TASK)
    object.__setattr__(sandbox, "server", 5)
    unstruck = ask("GET", TASKS)

    assert (struck.status_code, struck.json()["server"]) == (200, 0)
    assert unstruck.status_code == 500
    assert "listTaskInstances 200: server: 5 is not of type" in caplog.text


def test_where_no_connection_can_be_cut_an_error_says_so_and_the_journal_keeps_it() -> None:
    sandbox = sandbox_of(REINSTALL)
    sandbox.execute(AddFault(read_fault({"operation": "retryTask", "drop_response": True})))
    ask = asking(App(Sandboxes(sandbox)))
    sandbox.advance(60 * SECOND)

    with pytest.raises(ConnectionResetError, match="cut on purpose"):
        ask("POST", f"{TASK}/retry")

    (entry,) = sandbox.journal.entries()
    assert (entry.status, entry.fault, entry.refusal) == (None, "fault 1", "")


def test_what_a_scenario_says_goes_wrong_goes_wrong(serving: Serving) -> None:
    faults = "faults: [{name: flaky, operation: getTaskInstance, calls: 2, status: 502}]\n"
    world = serving.world(REINSTALL + faults)

    assert statuses(world, 3) == [200, 502, 200]
