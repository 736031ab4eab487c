"""A client that polls sends the same bytes again: the server does not parse them twice, and responds as if it did."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oceanmock
from in_process import AFTERNOON
from oceanmock import Mock, Ocp
from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND
from oceanmock.http.app import create_app
from oceanmock.http.server import Server

SCENARIO = "retry-failed-subtask"
TASKS = "/api/v2/tasks/instances"
TASK = f"{TASKS}/1000"
RETRY = f"{TASK}/subtasks/1002/retry"


@pytest.fixture(scope="module")
def mock() -> Iterator[Mock]:
    with Mock.start() as started:
        yield started


@pytest.fixture
def ocp(mock: Mock) -> Iterator[Ocp]:
    with mock.ocp(SCENARIO, progression="manual") as sandbox:
        yield sandbox


@pytest.fixture
def client(ocp: Ocp) -> Iterator[httpx.Client]:
    """A client whose connection stays open, and which sends the same headers each time."""
    with httpx.Client(auth=ocp.auth) as client:
        yield client


def status_of(client: httpx.Client, ocp: Ocp) -> str:
    status: str = client.get(f"{ocp.url}{TASK}").json()["data"]["status"]
    return status


def test_a_repeated_request_shows_the_instant_at_which_it_is_made(ocp: Ocp, client: httpx.Client) -> None:
    statuses = [status_of(client, ocp), status_of(client, ocp)]
    ocp.clock.advance("5s")
    statuses += [status_of(client, ocp), status_of(client, ocp)]

    assert statuses == ["RUNNING", "RUNNING", "FAILED", "FAILED"]


def test_a_repeated_operation_is_executed_each_time(ocp: Ocp, client: httpx.Client) -> None:
    ocp.clock.advance("5s")

    assert [client.post(f"{ocp.url}{RETRY}").status_code for _ in range(3)] == [200, 400, 400]


def test_polls_move_the_clock_when_they_are_repeated(mock: Mock) -> None:
    with mock.ocp(SCENARIO, progression="polls") as ocp, httpx.Client(auth=ocp.auth) as client:
        statuses = [status_of(client, ocp) for _ in range(20)]

    assert (statuses[0], statuses[-1]) == ("RUNNING", "FAILED")


def test_each_repeated_request_is_in_the_journal(ocp: Ocp, client: httpx.Client) -> None:
    sent = [client.get(f"{ocp.url}{TASK}").json() for _ in range(3)]

    entries = ocp.journal.all("getTaskInstance")

    assert [entry.response_body for entry in entries] == sent
    assert len({entry.number for entry in entries}) == 3
    assert {(entry.path, entry.caller, entry.status) for entry in entries} == {(TASK, "manager", 200)}


def test_a_fault_added_later_is_injected_into_a_repeated_request(ocp: Ocp, client: httpx.Client) -> None:
    before = [client.get(f"{ocp.url}{TASK}").status_code for _ in range(2)]
    ocp.faults.add(operation="getTaskInstance", status=503, calls=1)
    after = [client.get(f"{ocp.url}{TASK}").status_code for _ in range(2)]

    assert (before, after) == ([200, 200], [503, 200])


def test_a_repeated_request_sees_a_sandbox_that_was_reset(ocp: Ocp, client: httpx.Client) -> None:
    ocp.clock.advance("5s")
    before = [status_of(client, ocp), status_of(client, ocp)]
    ocp.reset()

    assert before == ["FAILED", "FAILED"]
    assert status_of(client, ocp) == "RUNNING"


def test_a_repeated_request_to_a_deleted_sandbox_is_not_found(mock: Mock) -> None:
    with httpx.Client() as client:
        with mock.ocp(SCENARIO) as ocp:
            task = f"{mock.url}/sandboxes/{ocp.name}{TASK}"
            before = [client.get(task, auth=ocp.auth).status_code for _ in range(2)]
        after = client.get(task, auth=ocp.auth).status_code

    assert (before, after) == ([200, 200], 404)


def test_a_repeated_request_renews_no_lease_that_has_run_out(ocp: Ocp) -> None:
    instants = [AFTERNOON]
    app = create_app(make_sandbox(wall=lambda: instants[-1]))
    with Server(app) as server, httpx.Client(base_url=server.url, auth=ocp.auth) as client:
        client.post("/__admin/sandboxes", json={"name": "t", "ttl": "10m", "scenarios": [SCENARIO]})
        before = [client.get(f"/sandboxes/t{TASK}").status_code for _ in range(2)]
        instants.append(AFTERNOON + 601 * SECOND)

        assert (before, client.get(f"/sandboxes/t{TASK}").status_code) == ([200, 200], 404)


def test_a_repeated_signature_expires(ocp: Ocp, monkeypatch: pytest.MonkeyPatch) -> None:
    with httpx.Client() as client:
        request = client.build_request("GET", f"{ocp.url}{TASK}")
        ocp.access_key(request)
        before = [client.send(request).status_code for _ in range(2)]
        now = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: now() + 16 * 60 * 10**9)

        assert (before, client.send(request).status_code) == ([200, 200], 401)


def test_wrong_credentials_are_refused_each_time(ocp: Ocp) -> None:
    with httpx.Client(auth=("manager", "wrong")) as client:
        assert [client.get(f"{ocp.url}{TASK}").status_code for _ in range(3)] == [401, 401, 401]


# --- on the wire ------------------------------------------------------------------------------------


def request_bytes(ocp: Ocp, method: str = "GET", path: str = TASK, *further: str) -> bytes:
    request = httpx.Request(method, f"{ocp.url}{path}")
    ocp.auth(request)
    lines = [f"{method} {request.url.raw_path.decode()} HTTP/1.1", f"Authorization: {request.headers['authorization']}"]
    return "\r\n".join([*lines, "Host: mock", *further, "", ""]).encode()


def exchange(ocp: Ocp, *pieces: tuple[bytes, int]) -> list[bytes]:
    """Send each piece and receive so many responses to it; return the bodies of all."""
    place, bodies = urlsplit(ocp.url), list[bytes]()
    with closing(socket.create_connection((place.hostname, place.port), timeout=10)) as connection:
        file = connection.makefile("rb")
        for piece, number in pieces:
            connection.sendall(piece)
            for _ in range(number):
                length = 0
                while (line := file.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                bodies.append(file.read(length))
    return bodies


def test_repeated_requests_in_one_piece_are_all_answered(ocp: Ocp) -> None:
    once = request_bytes(ocp)

    bodies = exchange(ocp, (once, 1), (once, 1), (once * 3, 3), (once, 1))

    assert len(bodies) == 6
    assert all(b'"id":1000' in body for body in bodies)


def test_a_request_that_begins_like_a_repeated_one_is_read_to_its_end(ocp: Ocp) -> None:
    once, other = request_bytes(ocp), request_bytes(ocp, "GET", TASKS)

    *_, last = exchange(ocp, (once, 1), (once, 1), (once[:-2], 0), (b"\r\n" + other[:30], 1), (other[30:], 1))

    assert b'"contents"' in last


def test_the_body_of_one_request_is_not_taken_for_another(ocp: Ocp) -> None:
    once = request_bytes(ocp)
    head = request_bytes(ocp, "POST", RETRY, f"Content-Length: {len(once)}")

    bodies = exchange(ocp, (once, 1), (once, 1), (head[:-2], 0), (b"\r\n" + once[:10], 0), (once[10:], 1))

    assert len(bodies) == 3
    assert len(ocp.journal.all("getTaskInstance")) == 2


def test_a_connection_closes_after_a_request_that_asks_for_it(ocp: Ocp) -> None:
    once = request_bytes(ocp, "GET", TASK, "Connection: close")

    for _ in range(3):
        place = urlsplit(ocp.url)
        with closing(socket.create_connection((place.hostname, place.port), timeout=10)) as connection:
            connection.sendall(once)
            assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200")


# --- at random --------------------------------------------------------------------------------------

ACTIONS: dict[str, Callable[[Ocp], Any]] = {
    "advance": lambda ocp: ocp.clock.advance("700ms"),
    "retry": lambda ocp: httpx.post(f"{ocp.url}{RETRY}", auth=ocp.auth),
    "roll back": lambda ocp: httpx.post(f"{ocp.url}{TASK}/rollback", auth=ocp.auth),
    "fault": lambda ocp: ocp.faults.add(operation="getTaskInstance", status=503),
    "no faults": lambda ocp: ocp.faults.clear(),
    "reset": lambda ocp: ocp.reset(),
}
READS = (
    TASK,
    TASKS,
    f"{TASKS}?page=1&size=1&status=FAILED",
    f"{TASK}/subtasks/1002/log",
    f"{TASKS}/7",
    f"{TASKS}?page=x",
)


@given(st.lists(st.sampled_from(sorted(ACTIONS)) | st.sampled_from(READS), min_size=5, max_size=30))
def test_a_repeated_request_gets_the_response_that_a_new_one_gets(steps: list[str]) -> None:
    unique = count()
    with httpx.Client() as client, oceanmock.running(SCENARIO, progression="manual") as ocp:
        client.auth = ocp.auth

        def read(path: str, **headers: str) -> tuple[int, Any]:
            response = client.get(f"{ocp.url}{path}", headers=headers)
            body = response.json()
            del body["traceId"]
            return response.status_code, body

        for path in READS:
            read(path)
        for step in steps:
            if step in ACTIONS:
                ACTIONS[step](ocp)
            else:
                assert read(step) == read(step, **{"X-Unique": str(next(unique))})
