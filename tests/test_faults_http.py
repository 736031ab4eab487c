"""The effects of each fault as a client sees them, on the wire, and what the journal says of them.

test_faults checks which requests a fault affects; here, what becomes of them and of what they asked for. The clock of
the sandbox stands; a response is late by the machine's clock, by milliseconds.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest

from command import PATIENCE
from obshell_world import INIT
from oceanmock import JournalEntry, Obshell, Ocp
from served import MANAGER, REINSTALL, SECOND, Ask, World, client, until

TASKS: Final = "/api/v2/tasks/instances"
TASK: Final = f"{TASKS}/35000312"
RETRY: Final = f"{TASK}/subtasks/13000333/retry"
DAG: Final = "/api/v1/task/dag/22130706433028864"
LOGIN: Final = "Authorization: Basic " + base64.b64encode(b"manager:manager").decode()
IMPATIENT: Final = httpx.Timeout(PATIENCE, read=0.05)
CUT: Final = (httpx.ReadError, httpx.RemoteProtocolError)
"""How httpx reports that the other side hung up, with or without a reset."""


@dataclass(frozen=True, slots=True)
class Target:
    """A sandbox, and the function that sends requests to it as a manager."""

    sandbox: Ocp | Obshell
    ask: Ask

    @property
    def entry(self) -> JournalEntry:
        """Return the one entry of its journal."""
        (entry,) = self.sandbox.journal
        return entry


@pytest.fixture
def world() -> Target:
    """Return a sandbox in which subtask 13000333 has failed, with no faults."""
    return failed()


def failed(text: str = REINSTALL, *, auth: bool = True, **options: Any) -> Target:
    """Serve a scenario long after it has failed."""
    world = World(text, **options)
    world.advance(60 * SECOND)
    return serve(world, auth=auth)


def serve(world: World, *, auth: bool = True) -> Target:
    ask = world.serve(auth=auth)
    return Target(world.sandbox, ask)


def status_of(world: Target) -> str:
    """Return the status of the subtask that has failed."""
    assert isinstance(world.sandbox, Ocp)
    return world.sandbox.task(35000312).subtask(13000333).status


def operations(world: Target) -> list[str]:
    """Return the operations on the task, each with the reason for its refusal if it was refused."""
    assert isinstance(world.sandbox, Ocp)
    lines = world.sandbox.task(35000312).timeline().splitlines()
    return [line.split(" s  ")[1] for line in lines if line.startswith("  ▼")]


def statuses(world: Target, count: int, path: str = TASK, **options: Any) -> list[int]:
    """Return the statuses of so many responses."""
    return [world.ask("GET", path, **options).status_code for _ in range(count)]


# --- late -----------------------------------------------------------------------------------------


def test_a_delayed_answer_is_late_and_whole(world: Target) -> None:
    world.sandbox.faults.add(delay="30ms", jitter="10ms")

    answer = world.ask("GET", TASK)

    entry = world.entry
    assert (answer.status_code, answer.json()["data"]["id"]) == (200, 35000312)
    assert entry.took_ms > 25


def test_a_delay_is_by_the_machine_s_clock_not_the_sandbox_s(world: Target) -> None:
    world.sandbox.faults.add(delay="5ms")
    before = world.sandbox.clock.now()

    assert world.ask("GET", TASK).json()["duration"] == 0
    assert world.sandbox.clock.now() == before


def test_a_delayed_operation_happens_when_it_comes_not_when_it_is_answered(world: Target) -> None:
    world.sandbox.faults.add(operation="retrySubtask", delay="1h")

    with pytest.raises(httpx.ReadTimeout):
        world.ask("POST", RETRY, timeout=IMPATIENT)

    until(lambda: len(world.sandbox.journal) > 0)

    assert status_of(world) == "READY"


def test_who_does_not_wait_for_a_delayed_answer_is_in_the_journal(world: Target) -> None:
    world.sandbox.faults.add(delay="1h", name="slow")
    with pytest.raises(httpx.ReadTimeout):
        world.ask("GET", TASK, timeout=IMPATIENT)

    until(lambda: len(world.sandbox.journal) > 0)

    entry = world.entry
    assert (entry.status, entry.fault) == (None, "slow")
    assert entry.refusal == "The client did not wait for the answer."


def test_others_are_answered_while_one_waits(world: Target) -> None:
    world.sandbox.faults.add(operation="getTaskInstance", delay="1h")
    with pytest.raises(httpx.ReadTimeout):
        world.ask("GET", TASK, timeout=IMPATIENT)

    assert world.ask("GET", TASKS).status_code == 200


# --- another status -------------------------------------------------------------------------------

STATUSES: Final = [*range(400, 600, 7), 401, 403, 404, 405, 409, 422, 429, 500, 502, 503, 504, 599]


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_is_answered_in_ocp_s_envelope(world: Target, status: int) -> None:
    world.sandbox.faults.add(status=status)

    answer = world.ask("GET", TASK)

    said = answer.json()
    assert answer.status_code == said["status"] == status
    assert answer.headers["content-type"] == "application/json"
    assert said["successful"] is False
    assert said["error"]["message"]
    assert "data" not in said


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_is_answered_in_obshell_s_envelope(status: int) -> None:
    world = failed(INIT, auth=False)
    world.sandbox.faults.add(status=status)

    answer = world.ask("GET", DAG)

    said = answer.json()
    assert answer.status_code == said["status"] == status
    assert said["successful"] is False
    assert said["error"]["errCode"]
    assert said["error"]["message"]
    assert said.get("data") is None


def test_a_429_has_the_documented_headers_and_words(world: Target) -> None:
    world.sandbox.faults.add(status=429)

    answer = world.ask("GET", TASK)

    limits = {name: answer.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset")}
    assert limits == {"limit": "100", "remaining": "0", "reset": "1"}
    assert answer.json()["error"]["message"].startswith("Excessive number of requests.")


@pytest.mark.parametrize(("status", "code"), [(403, 30014), (404, 20000)])
def test_a_fault_has_the_code_that_the_api_has_with_its_status(world: Target, status: int, code: int) -> None:
    world.sandbox.faults.add(status=status)

    assert world.ask("GET", TASK).json()["error"]["code"] == code


def test_a_401_is_that_of_a_request_without_credentials(world: Target) -> None:
    world.sandbox.faults.add(status=401)

    answer = world.ask("GET", TASK)

    assert "www-authenticate" not in answer.headers
    assert "server" not in answer.json()


@pytest.mark.parametrize("effect", [{"status": 503}, {"reset": True}, {"empty": True}, {"empty": True, "status": 502}])
def test_what_a_fault_answers_itself_does_not_happen(world: Target, effect: dict[str, Any]) -> None:
    world.sandbox.faults.add(operation="retrySubtask", calls=1, **effect)
    before = world.sandbox.rows(), world.ask("GET", TASK).json()["data"]

    answered_or_cut(lambda: world.ask("POST", RETRY))

    assert (world.sandbox.rows(), world.ask("GET", TASK).json()["data"]) == before
    assert operations(world) == []
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
def test_what_is_said_to_happen_happens_once(world: Target, effect: dict[str, Any]) -> None:
    world.sandbox.faults.add(operation="retrySubtask", calls=1, **effect)

    answered_or_cut(lambda: world.ask("POST", RETRY))

    assert status_of(world) == "READY"
    assert world.ask("POST", RETRY).status_code == 400


def answered_or_cut(ask: Callable[[], httpx.Response]) -> httpx.Response | None:
    """The answer, or None where the connection was cut."""
    try:
        return ask()
    except CUT:
        return None


def test_a_status_stands_in_for_that_of_an_operation_that_happened(world: Target) -> None:
    world.sandbox.faults.add(operation="retrySubtask", status=504, still_executes=True)

    answer = world.ask("POST", RETRY)

    assert (answer.status_code, answer.json()["status"]) == (504, 504)
    assert answer.json()["error"]["message"] == "Gateway Timeout"
    assert status_of(world) == "READY"


# --- no answer, or half of one --------------------------------------------------------------------


def test_a_reset_connection_is_reset(world: Target) -> None:
    world.sandbox.faults.add(reset=True)

    with pytest.raises(httpx.ReadError) as cut:
        world.ask("GET", TASK)

    assert "reset by peer" in str(cut.value)


def test_after_a_reset_the_next_request_is_answered(world: Target) -> None:
    world.sandbox.faults.add(reset=True, calls=1)
    with pytest.raises(CUT):
        world.ask("GET", TASK)

    assert world.ask("GET", TASK).status_code == 200


def test_a_reset_is_not_answered_and_the_journal_says_so(world: Target) -> None:
    world.sandbox.faults.add(reset=True, name="gone")
    with pytest.raises(CUT):
        world.ask("GET", TASK)

    entry = world.entry
    assert (entry.status, entry.response_headers, entry.response_body) == (None, (), None)
    assert (entry.fault, entry.refusal) == ("gone", "fault injected: gone")


def test_a_lost_answer_is_of_an_operation_that_happened(world: Target) -> None:
    world.sandbox.faults.add(operation="retrySubtask", drop_response=True, calls=1)
    with pytest.raises(CUT):
        world.ask("POST", RETRY)

    again = world.ask("POST", RETRY)

    assert again.status_code == 400
    assert "not supported for the 13000333 task in the READY state" in again.text
    retry = "RETRY 'Uninstall ocp agent' of 'Reinstall OCP agent'"
    assert operations(world) == [retry, f"{retry}, refused: RETRY is not allowed in state READY; allowed: none"]


def test_an_empty_answer_is_a_status_and_headers(world: Target) -> None:
    world.sandbox.faults.add(empty=True)

    answer = world.ask("GET", TASK)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "0"
    assert answer.headers["content-type"] == "application/json"


def test_an_empty_answer_may_have_a_status_of_its_own(world: Target) -> None:
    world.sandbox.faults.add(empty=True, status=502)

    answer = world.ask("GET", TASK)

    assert (answer.status_code, answer.content) == (502, b"")


@pytest.mark.parametrize("kept", [0, 1, 100])
def test_a_truncated_answer_promises_more_than_it_has(world: Target, kept: int) -> None:
    whole = world.ask("GET", TASK).content
    world.sandbox.faults.add(operation="getTaskInstance", truncate=kept)

    with pytest.raises(httpx.RemoteProtocolError) as cut:
        world.ask("GET", TASK)

    assert str(cut.value) == (
        f"peer closed connection without sending complete message body (received {kept} bytes, expected {len(whole)})"
    )


def test_an_answer_shorter_than_what_is_kept_of_it_is_whole(world: Target) -> None:
    world.sandbox.faults.add(operation="getTaskInstance", truncate=1_000_000)

    assert world.ask("GET", TASK).json()["status"] == 200


def test_a_truncated_answer_is_in_the_journal_as_it_was_sent(world: Target) -> None:
    world.sandbox.faults.add(operation="getTaskInstance", truncate=10)
    with pytest.raises(CUT):
        world.ask("GET", TASK)

    entry = world.entry
    assert (entry.status, entry.response_body) == (200, '{"data":{"')


def test_a_reset_ends_the_requests_that_did_not_wait_for_a_response(world: Target) -> None:
    world.sandbox.faults.add(reset=True, calls=1)
    request = "\r\n".join([f"GET {TASK} HTTP/1.1", "Host: mock", LOGIN, "", ""]).encode()

    with socket.create_connection((world.sandbox.host, world.sandbox.port), timeout=PATIENCE) as connection:
        connection.sendall(request * 3)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)

    assert world.ask("GET", TASK).status_code == 200  # by now the others would have been answered
    assert [entry.status for entry in world.sandbox.journal] == [None, 200]


# --- an answer that is wrong ----------------------------------------------------------------------


def test_a_malformed_answer_is_no_json_although_it_says_so(world: Target) -> None:
    world.sandbox.faults.add(operation="getTaskInstance", malformed=True)

    answer = world.ask("GET", TASK)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_an_answer_may_have_another_content_type(world: Target) -> None:
    world.sandbox.faults.add(operation="getTaskInstance", content_type="text/html; charset=utf-8")

    answer = world.ask("GET", TASK)

    assert answer.headers.get_list("content-type") == ["text/html; charset=utf-8"]
    assert answer.json()["data"]["id"] == 35000312


def test_a_dripping_answer_comes_in_pieces_and_is_whole_in_the_end(world: Target) -> None:
    whole = world.ask("GET", TASK)
    world.sandbox.faults.add(operation="getTaskInstance", dribble={"bytes": 1000, "every": "20ms"})

    with client().stream("GET", world.sandbox.url + TASK, auth=MANAGER) as answer:
        pieces = list(answer.iter_raw())

    assert len(pieces) > 1
    assert json.loads(b"".join(pieces))["data"] == whole.json()["data"]


def test_a_dripping_answer_is_in_the_journal_whole(world: Target) -> None:
    world.sandbox.faults.add(operation="getTaskInstance", dribble={"bytes": 500, "every": "1ms"}, name="slowly")

    answer = world.ask("GET", TASK)

    entry = world.entry
    assert (entry.response_body, entry.fault) == (answer.json(), "slowly")
    assert entry.took_ms > len(answer.content) // 500 / 2


def test_of_a_dripping_answer_the_journal_has_what_the_client_waited_for(world: Target) -> None:
    world.sandbox.faults.add(operation="getTaskInstance", dribble={"bytes": 10, "every": "1h"})
    with pytest.raises(httpx.ReadTimeout):
        world.ask("GET", TASK, timeout=IMPATIENT)

    until(lambda: len(world.sandbox.journal) > 0)

    entry = world.entry
    assert (entry.status, entry.response_body) == (200, '{"data":{"')
    assert entry.refusal == "The client did not wait for the answer."


def test_a_dropped_field_is_left_out(world: Target) -> None:
    world.sandbox.faults.add(operation="getTaskInstance", drop=["data.status", "data.subtasks.*.id"])

    data = world.ask("GET", TASK).json()["data"]

    assert "status" not in data
    assert data["id"] == 35000312
    assert ["id" in each for each in data["subtasks"]] == [False] * 4


def test_a_retyped_field_is_of_another_type(world: Target) -> None:
    world.sandbox.faults.add(operation="getTaskInstance", change_type=["data.id", "data.status", "data.subtasks"])

    data = world.ask("GET", TASK).json()["data"]

    assert (data["id"], data["status"]) == ("35000312", 0)
    assert json.loads(data["subtasks"])[0]["id"] == 13000336


def test_a_changed_answer_is_as_long_as_it_says(world: Target) -> None:
    world.sandbox.faults.add(
        operation="getTaskInstance", drop="data.subtasks", change_type="data.id", content_type="text/plain"
    )

    answer = world.ask("GET", TASK)

    assert answer.headers.get_list("content-length") == [str(len(answer.content))]
    assert answer.headers.get_list("content-type") == ["text/plain"]


# --- whom it strikes ------------------------------------------------------------------------------


def test_a_fault_of_one_caller_spares_the_others(world: Target) -> None:
    world.sandbox.faults.add(status=503, caller="viewer")

    assert statuses(world, 2) == [200, 200]
    assert statuses(world, 2, auth=("viewer", "viewer")) == [503, 503]


def test_a_fault_of_one_operation_spares_the_others(world: Target) -> None:
    world.sandbox.faults.add(status=503, operation="listTaskInstances")

    assert statuses(world, 1, TASKS) == [503]
    assert statuses(world, 1, TASK) == [200]


def test_a_fault_of_one_task_spares_the_others(world: Target) -> None:
    world.sandbox.faults.add(api="ocp", status=503, task=35000312)

    assert statuses(world, 1, TASK) == [503]
    assert statuses(world, 1, f"{TASKS}/1") == [404]
    assert statuses(world, 1, TASKS) == [200]


def test_a_fault_of_one_dag_spares_the_others() -> None:
    world = failed(INIT, auth=False)
    world.sandbox.faults.add(api="obshell", status=503, dag=4)

    assert statuses(world, 1, DAG) == [503]
    assert statuses(world, 1, "/api/v1/task/node/2213070643302886402") == [200]


def test_a_fault_strikes_the_calls_of_its_numbers(world: Target) -> None:
    world.sandbox.faults.add(status=503, calls=[2, "4-5"])

    assert statuses(world, 6) == [200, 503, 200, 503, 503, 200]


def test_each_fault_counts_what_it_might_strike(world: Target) -> None:
    world.sandbox.faults.add(status=502, calls=1, operation="getTaskInstance")
    world.sandbox.faults.add(status=503, calls=2)

    assert statuses(world, 3) == [502, 503, 200]


def test_with_the_same_seed_the_same_requests_are_struck() -> None:
    rows = []
    for seed in (5, 5, 6):
        world = failed(seed=seed)
        world.sandbox.faults.add(name="rarely", status=503, probability=0.4)
        rows.append(statuses(world, 40))

    assert rows[0] == rows[1] != rows[2]
    assert set(rows[0]) == {200, 503}


def test_a_reset_sandbox_has_the_same_row_again() -> None:
    world = serve(World(f"{REINSTALL}faults: [{{status: 503, probability: 0.4}}]\n"))
    before = statuses(world, 40)

    world.sandbox.reset()

    assert statuses(world, 40) == before
    assert set(before) == {200, 503}


def test_who_is_not_let_in_is_not_struck(world: Target) -> None:
    world.sandbox.faults.add(status=503, calls=1)

    assert statuses(world, 1, auth=("manager", "wrong")) == [401]
    assert statuses(world, 1) == [503]


def test_a_fault_of_one_sandbox_spares_the_others(world: Target) -> None:
    world.sandbox.faults.add(status=503)
    other = failed()

    assert statuses(other, 1) == [200]
    assert statuses(world, 1) == [503]


def test_a_fault_that_is_removed_strikes_no_more(world: Target) -> None:
    fault = world.sandbox.faults.add(status=503)
    assert statuses(world, 1) == [503]

    fault.remove()

    assert statuses(world, 1) == [200]


def test_a_request_that_is_refused_anyway_is_struck_first(world: Target) -> None:
    world.sandbox.faults.add(status=503)

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
def test_what_a_fault_answers_itself_starts_nothing(effect: dict[str, Any]) -> None:
    world = serve(World(SUBMITTING))
    world.sandbox.faults.add(calls=1, **effect)

    answered_or_cut(lambda: world.ask("POST", TENANTS, json={}))
    assert world.sandbox.rows() == []

    assert world.ask("POST", TENANTS, json={}).status_code == 200
    assert len(world.sandbox.rows()) == 1


def test_a_lost_answer_has_started_something() -> None:
    world = serve(World(SUBMITTING))
    world.sandbox.faults.add(calls=1, drop_response=True)

    with pytest.raises(CUT):
        world.ask("POST", TENANTS, json={})
    world.ask("POST", TENANTS, json={})

    assert len(world.sandbox.rows()) == 2


def test_an_unknown_path_is_not_struck(world: Target) -> None:
    world.sandbox.faults.add(status=503, calls=1)

    assert statuses(world, 1, "/nowhere") == [404]
    assert statuses(world, 1) == [503]


# --- the journal, and the contract ----------------------------------------------------------------


def test_the_journal_names_the_fault_that_struck(world: Target) -> None:
    world.sandbox.faults.add(name="the second", status=503, calls=2)
    world.sandbox.faults.add(status=502, calls=3)
    statuses(world, 4)

    entries = world.sandbox.journal.all()

    assert [entry.fault for entry in entries] == ["", "the second", "fault 2", ""]
    assert [entry.status for entry in entries] == [200, 503, 502, 200]
    world.sandbox.journal.assert_called(times=1, fault="the second")


def test_the_journal_has_the_answer_that_was_sent(world: Target) -> None:
    world.sandbox.faults.add(operation="getTaskInstance", drop="data.status")

    answer = world.ask("GET", TASK)

    entry = world.entry
    assert entry.response_body == answer.json()
    assert dict(entry.response_headers)["content-length"] == answer.headers["content-length"]


def test_what_a_scenario_says_goes_wrong_goes_wrong() -> None:
    faults = "faults: [{name: flaky, operation: getTaskInstance, calls: 2, status: 502}]\n"
    world = serve(World(REINSTALL + faults))

    assert statuses(world, 3) == [200, 502, 200]
