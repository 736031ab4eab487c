"""conformance/http_client.py, reproduce.py and the Guard: what a run sends, and what it keeps of it.

What reached the server is told by its own access log, never by the client.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from conform_exchanges import CONTRACTS, changed, example
from conform_servers import Logged, Said, answering, by_turn, hanging_up, logged, saying
from golden import assert_golden
from in_process import REINSTALL, sandbox_of
from obshell_sandbox import failed
from obshell_world import DAG, FOREIGN, INIT, LOCAL, NODE
from oceanmock.checks import CheckResult, Exchange, Probe
from oceanmock.clock import SECOND
from oceanmock.conformance import NO_RESPONSE, Event, NotAllowed, Options, http_client
from oceanmock.conformance.checks import ResponseChecker
from oceanmock.conformance.history import HistoryChecker
from oceanmock.conformance.http_client import SEEN_ONCE, HttpClient
from oceanmock.conformance.probes import Prober
from oceanmock.conformance.reports.terminal import curl_of
from oceanmock.credentials import AccessKey, Basic, Sealed
from oceanmock.errors import EnvironmentProblem
from oceanmock.http.app import create_app
from oceanmock.observations import Target
from oceanmock.obshell.auth import make_private_key, read_key

Act = Callable[[HttpClient], object]

TASKS: Final = "/api/v2/tasks/instances"
TASK: Final = f"{TASKS}/35000312"
SUBTASK: Final = f"{TASK}/subtasks/13000333"
OWN: Final = ("127.0.0.1", 2886)


@pytest.fixture(scope="module")
def ocp() -> Iterator[Logged]:
    with logged(create_app(sandbox_of(REINSTALL))) as served:
        yield served


@pytest.fixture(scope="module")
def obshell() -> Iterator[Logged]:
    with logged(create_app(failed(INIT))) as served:
        yield served


@pytest.fixture(autouse=True)
def clean(ocp: Logged, obshell: Logged) -> None:
    """Each test begins with empty logs."""
    for each in (ocp, obshell):
        each.log.clear()
        each.headers.clear()


def client_to(served: Logged, **said: Any) -> HttpClient:
    """A client to an OCP, as its manager."""
    target = Target(served.url, "ocp", Basic("manager", "manager"))
    return HttpClient(target, Options(**said))


def wire_to_obshell(served: Logged, **said: Any) -> HttpClient:
    """A client to an obshell, with root's password."""
    target = Target(served.url, "obshell", Sealed("oceanmock"), own_address=OWN)
    return HttpClient(target, Options(**said))


# --- a run that only reads ------------------------------------------------------------------------

METHODS: Final = [
    *("POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"),
    *("post", "Get", "get ", "GET\r\nX: y", "QUERY", "", "GÉT"),
]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_reads_sends_nothing_but_get(ocp: Logged, method: str) -> None:
    client = client_to(ocp)
    prepared = requests.Request("GET", ocp.url + TASK).prepare()
    prepared.method = method

    with pytest.raises(NotAllowed):
        client.session.send(prepared)

    assert ocp.log == []
    assert client.result.request_count == 0


def turn(request: Any) -> Any:
    """Credentials that make a POST of what they sign."""
    request.method = "POST"
    return request


def allowing(client: HttpClient, *ids: str) -> HttpClient:
    """A client that may change these, or everything."""
    for id in ids:
        client.guard.may_change(id)
    if not ids:
        client.guard.allows_everything = True
    return client


WAYS: Final[dict[str, Act]] = {
    "send": lambda client: client.send("POST", TASK),
    "send, meant wrong": lambda client: client.send("DELETE", "/nowhere", expects_refusal=True),
    "send, with a body": lambda client: client.send("PUT", TASK, json={}),
    "send, turned by its credentials": lambda client: client.send("GET", TASK, auth=turn),
    "the session's post": lambda client: client.session.post(client.target.url + TASK),
    "the session's request": lambda client: client.session.request("PATCH", client.target.url + TASK),
    "the session's head": lambda client: client.session.head(client.target.url + TASK),
    "the session's options": lambda client: client.session.options(client.target.url + TASK),
    "a task that may be changed": lambda client: allowing(client, "35000312").send("POST", TASK),
    "what may be changed as everything": lambda client: allowing(client).send("POST", TASK),
    "a method in a header": lambda client: client.send("GET", TASK, headers={"X-HTTP-Method-Override": "POST"}),
    "a second request in the body": lambda client: client.send(
        "GET", TASK, headers={"Transfer-Encoding": "chunked"}, body=b"0\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n"
    ),
    "a body that is a stream": lambda client: client.session.get(client.target.url + TASK, data=iter([b"POST"])),
    "another host": lambda client: client.session.get("http://127.0.0.1:1/"),
    "another host behind this one's name": lambda client: client.session.get(f"{client.target.url}@127.0.0.1:1/"),
    "a virtual host": lambda client: client.send("GET", TASK, headers={"Host": "other"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_there_is_no_way_around_it(ocp: Logged, way: str) -> None:
    client = client_to(ocp, tasks=("35000312",))

    with pytest.raises(NotAllowed):
        WAYS[way](client)

    assert ocp.log == []
    assert client.result.changes == []


@given(
    method=st.sampled_from(METHODS) | st.text(max_size=8),
    path=st.sampled_from([TASK, f"{TASK}/retry", SUBTASK, TASKS, "/"]) | st.text(max_size=9),
    body=st.none() | st.binary(max_size=20),
    phase=st.sampled_from(["probes", "examples", "coverage", "fuzzing", "stateful", "machine"]),
)
def test_whatever_is_tried_the_log_shows_get_only(
    ocp: Logged, method: str, path: str, body: bytes | None, phase: Any
) -> None:
    client = client_to(ocp)

    for url in (f"/{path}", TASK):
        with suppress(NotAllowed), client.during(phase):
            client.send(method, url, body=body)

    assert ocp.methods <= {"GET"}
    assert client.result.changes == []


def test_a_redirect_is_an_answer_and_is_not_followed(ocp: Logged) -> None:
    with answering(lambda _: Said(307, headers={"Location": ocp.url + TASK})) as url:
        exchange = HttpClient(Target(url, "ocp"), Options()).send("GET", TASK)

    assert (exchange.status, exchange.header("location")) == (307, ocp.url + TASK)
    assert ocp.log == []


def test_a_cookie_is_never_sent_back() -> None:
    asked: list[str] = []

    def answer(path: str) -> Said:
        asked.append(path)
        return Said(headers={"Set-Cookie": "JSESSIONID=1; Path=/"})

    with answering(answer) as url:
        client = HttpClient(Target(url, "ocp"), Options())
        client.send("GET", TASK)
        second = client.send("GET", TASK)

    assert asked == [TASK, TASK]
    assert "cookie" not in dict(second.request_headers)
    assert not client.session.cookies


# --- a run that writes ----------------------------------------------------------------------------


def test_a_run_that_writes_changes_the_tasks_it_was_told(ocp: Logged) -> None:
    client = client_to(ocp, write=True, tasks=("35000312",))

    exchange = client.send("POST", f"{TASK}/retry")

    assert ocp.log == [("POST", f"{TASK}/retry")]
    assert client.result.changes == [exchange]


@pytest.mark.parametrize(
    "path",
    [
        f"{TASKS}/1/retry",
        f"{TASKS}/035000312/retry",
        f"{TASKS}/35000312%20/retry",
        f"{TASKS}/35000312/../1/retry",
        f"{SUBTASK}/retry",
        TASKS,
        "/api/v2/compute/idcs",
        "/",
    ],
)
def test_it_changes_nothing_else(ocp: Logged, path: str) -> None:
    client = client_to(ocp, write=True, tasks=("35000312",))

    for method in ("POST", "PUT", "DELETE", "PATCH", "QUERY"):
        with pytest.raises(NotAllowed):
            client.send(method, path)

    assert ocp.log == []


@given(id=st.integers().map(str) | st.text(alphabet="0123456789%/.+ ", min_size=1, max_size=12))
def test_no_other_id_is_ever_changed(ocp: Logged, id: str) -> None:
    client = client_to(ocp, write=True, tasks=("35000312",))

    with suppress(NotAllowed):
        client.send("POST", f"{TASKS}/{id}/rollback")

    assert {target for _, target in ocp.log} <= {f"{TASK}/rollback"}


def test_what_its_tasks_are_made_of_may_be_changed_once_it_was_seen(ocp: Logged) -> None:
    client = client_to(ocp, write=True, tasks=("35000312",))
    client.send("GET", TASK)

    client.send("POST", f"{SUBTASK}/retry")

    assert ocp.log[1:] == [("POST", f"{SUBTASK}/retry")]


def test_what_other_tasks_are_made_of_may_not(ocp: Logged) -> None:
    client = client_to(ocp, write=True, tasks=("1",))
    client.send("GET", TASK)

    with pytest.raises(NotAllowed):
        client.send("POST", f"{TASKS}/1/subtasks/13000333/retry")


@pytest.mark.parametrize("path", [TASK, f"{TASK}/retry", f"{SUBTASK}/log"])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "QUERY"])
def test_what_may_be_changed_is_so_by_the_operations_of_the_contract_alone(ocp: Logged, method: str, path: str) -> None:
    """What a DELETE would do to a task that is there, no document says."""
    client = client_to(ocp, write=True, tasks=("35000312",))
    client.send("GET", TASK)
    client.guard.may_change("999")

    with pytest.raises(NotAllowed, match="no operation of the contract"):
        client.send(method, path)
    client.send(method, f"{TASKS}/999", expects_refusal=True)

    assert ocp.log[1:] == [(method, f"{TASKS}/999")]


def test_an_id_of_nothing_can_be_registered(ocp: Logged) -> None:
    client = client_to(ocp, write=True)
    client.guard.may_change("999")
    client.guard.may_change(35000312, kind="task")

    unknown = client.send("POST", f"{TASKS}/999/retry", expects_refusal=True)
    client.send("POST", f"{TASK}/subtasks/999/skip")

    assert unknown.status == 404
    assert len(ocp.log) == 2


ALIASES: Final = [
    *("+7", "07", " 7", "7 ", "7.0", "7.", "7e0", "0x7", "#7", "7L", "\u0667"),
    *("7;a=1", "7%2F", "..%2F7", "7%5C", "%2537"),
]


@pytest.mark.parametrize("id", ALIASES)
def test_an_id_that_a_server_may_read_as_another_is_not_changed(ocp: Logged, id: str) -> None:
    client = client_to(ocp, write=True)
    client.guard.may_change(id)
    client.guard.may_change(unquote(id))

    with pytest.raises(NotAllowed):
        client.send("POST", f"{TASKS}/{quote(id, safe='%;')}/retry")

    assert ocp.log == []


@pytest.mark.parametrize("id", [f"{LOCAL}04", f"{LOCAL}+4", "1+4", "104"])
def test_nor_is_one_that_an_obshell_reads_as_another(obshell: Logged, id: str) -> None:
    client = wire_to_obshell(obshell, write=True)
    client.guard.may_change(id)

    with pytest.raises(NotAllowed):
        client.send("POST", f"/api/v1/task/dag/{id}", json={"operator": "RETRY"})

    assert obshell.methods <= {"GET"}


def test_on_a_mock_of_ones_own_everything_may_be_changed(ocp: Logged) -> None:
    client = client_to(ocp, write=True)
    client.guard.allows_everything = True

    client.send("DELETE", TASKS)

    assert ocp.log == [("DELETE", TASKS)]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE"])
def test_a_run_that_writes_may_ask_by_any_safe_method(ocp: Logged, method: str) -> None:
    client = client_to(ocp, write=True)

    client.send(method, TASKS)

    assert ocp.methods == {method}
    assert client.result.changes == []


# --- ids of another agent -------------------------------------------------------------------------

OTHERS: Final = [
    f"{FOREIGN}1",
    f"4{FOREIGN[1:]}1",
    "22130706433028871",  # this machine, at another port
    "3336294682933583715844663186250927177729028861",
    f"%32{FOREIGN[1:]}1",
    f"2-{FOREIGN[2:]}1",
]


@pytest.mark.parametrize("id", OTHERS)
def test_an_id_of_another_agent_is_never_sent(obshell: Logged, id: str) -> None:
    client = wire_to_obshell(obshell, write=True)
    client.guard.allows_everything = True

    for method in ("GET", "POST", "HEAD"):
        for place in (f"dag/{id}", f"node/{id}", f"sub_task/{id}", f"sub_task/{id}/logs"):
            with pytest.raises(NotAllowed, match="which the target would ask"):
                client.send(method, f"/api/v1/task/{place}")

    assert not [path for _, path in obshell.log if "task" in path]


@pytest.mark.parametrize("key", ["id", "ID", "Id"])
def test_nor_is_one_in_a_body(obshell: Logged, key: str) -> None:
    client = wire_to_obshell(obshell, write=True, tasks=(f"{LOCAL}4",))

    with pytest.raises(NotAllowed):
        client.send("POST", DAG, json={key: f"{FOREIGN}1", "operator": "RETRY"})

    assert ("POST", DAG) not in obshell.log


@pytest.mark.parametrize("id", [f"{LOCAL}4", "14", f"{LOCAL}", "abc", "2", f"{FOREIGN}x"])
def test_its_own_ids_a_clusters_and_what_is_none_are_sent(obshell: Logged, id: str) -> None:
    client = wire_to_obshell(obshell)

    client.send("GET", f"/api/v1/task/dag/{id}")

    assert obshell.log[-1] == ("GET", f"/api/v1/task/dag/{id}")


def test_without_its_address_no_id_with_an_address_is_sent(obshell: Logged) -> None:
    client = HttpClient(Target(obshell.url, "obshell"), Options())

    with pytest.raises(NotAllowed):
        client.send("GET", DAG)


def test_nodes_of_its_dags_may_be_changed_once_they_were_seen(obshell: Logged) -> None:
    client = wire_to_obshell(obshell, write=True, tasks=(f"{LOCAL}4",))

    with pytest.raises(NotAllowed, match="is no part of a task that this run may change"):
        client.send("POST", NODE, json={"operator": "DANCE"})
    client.send("GET", DAG)

    assert client.send("POST", NODE, json={"operator": "DANCE"}).status == 400


# --- how fast -------------------------------------------------------------------------------------


class Time:
    """A machine's time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0
        self.slept: list[int] = []

    def sleep(self, span: int) -> None:
        self.slept.append(span)
        self.now += span


def test_no_more_go_out_in_a_second_than_allowed(ocp: Logged) -> None:
    time = Time()
    target = Target(ocp.url, "ocp", Basic("manager", "manager"))
    client = HttpClient(target, Options(rate=4), now=lambda: time.now, sleep=time.sleep)

    for _ in range(5):
        client.send("GET", TASK)

    assert time.slept == [SECOND // 4] * 4


def test_time_that_has_passed_anyway_is_not_waited_for_again(ocp: Logged) -> None:
    time = Time()
    client = HttpClient(Target(ocp.url, "ocp"), Options(rate=1), now=lambda: time.now, sleep=time.sleep)

    client.send("GET", TASK)
    time.now += 700_000_000
    client.send("GET", TASK)
    time.now += 10 * SECOND
    client.send("GET", TASK)
    client.session.get(ocp.url + TASK)

    assert time.slept == [300_000_000, SECOND]


def test_without_a_rate_nothing_is_waited_for(ocp: Logged) -> None:
    time = Time()
    client = HttpClient(Target(ocp.url, "ocp"), Options(), now=lambda: time.now, sleep=time.sleep)

    client.send("GET", TASK)
    client.send("GET", TASK)

    assert time.slept == []


@pytest.mark.parametrize(
    ("headers", "waited"),
    [
        ({"Retry-After": "7", "RateLimit-Reset": "9"}, 7),
        ({"RateLimit-Reset": "9"}, 9),
        ({"Retry-After": "0"}, 1),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 1),
        ({}, 1),
    ],
)
def test_what_came_too_soon_is_asked_again_when_the_answer_says(headers: dict[str, str], waited: int) -> None:
    time, statuses = Time(), iter([429, 429, 200])

    with answering(lambda _: Said(next(statuses), headers=headers)) as url:
        client = HttpClient(Target(url, "ocp"), Options(), now=lambda: time.now, sleep=time.sleep)
        exchange = client.send("GET", TASK)

    assert exchange.status == 200
    assert time.slept == [waited * SECOND] * 2
    assert client.result.statuses["getTaskInstance"] == {429: 2, 200: 1}


@pytest.mark.parametrize(("span", "waited"), [("50", 100), ("120", 120), ("9999", 0)])
def test_who_never_has_time_is_not_waited_for_for_ever(span: str, waited: int) -> None:
    time = Time()

    with answering(lambda _: Said(429, headers={"Retry-After": span})) as url:
        client = HttpClient(Target(url, "ocp"), Options(), now=lambda: time.now, sleep=time.sleep)
        statuses = [client.send("GET", TASK).status for _ in range(5)]

    assert statuses == [429] * 5
    assert time.now == waited * SECOND


# --- what is kept ---------------------------------------------------------------------------------


def test_an_exchange_says_what_was_asked_and_answered(ocp: Logged) -> None:
    client = client_to(ocp)

    with client.during("probes", expects_refusal=True):
        exchange = client.send("GET", f"{TASKS}/7?name=a b")

    assert (exchange.number, exchange.phase, exchange.operation) == (1, "probes", "getTaskInstance")
    assert (exchange.method, exchange.target) == ("GET", f"{TASKS}/7?name=a%20b")
    assert (exchange.status, exchange.problem, exchange.expects_refusal) == (404, "", True)
    assert exchange.json()["error"]["code"]
    assert exchange.header("Content-Type") == "application/json"
    assert exchange.took > 0
    assert client.phase == "preflight"


def test_what_the_session_sends_is_kept_as_well(ocp: Logged) -> None:
    client = client_to(ocp)

    with client.during("fuzzing"):
        answer = client.session.get(ocp.url + TASK, auth=client.auth, timeout=1, stream=True)
        client.session.get(ocp.url + TASK)

    assert answer.json()["data"]["id"] == 35000312
    assert [each.status for each in client.exchanges] == [200, 401]
    assert [each.credentials for each in client.exchanges] == ["own", "none"]
    assert {each.phase for each in client.exchanges} == {"fuzzing"}


def test_every_answer_is_counted_by_its_operation(ocp: Logged) -> None:
    client = client_to(ocp)

    for path in (TASK, TASK, f"{TASKS}/7", TASKS, "/nowhere"):
        client.send("GET", path)

    assert client.result.request_count == 5
    assert client.result.statuses["getTaskInstance"] == {200: 2, 404: 1}
    assert client.result.statuses["listTaskInstances"] == {200: 1}
    assert client.result.statuses["retryTask"] == {}
    assert [*client.result.latencies] == [operation.id for operation in client.operations]
    assert len(client.result.latencies["getTaskInstance"]) == 3


def test_credentials_of_others_are_told_from_ones_own(ocp: Logged) -> None:
    client = client_to(ocp)

    several = [client.send("GET", TASK, auth=auth) for auth in (Basic("a", "b"), None)]

    assert [each.credentials for each in several] == ["others", "none"]
    assert [each.status for each in several] == [401, 401]


def test_no_answer_is_an_exchange_too() -> None:
    client = HttpClient(Target("http://127.0.0.1:1", "ocp"), Options())

    exchange = client.send("GET", TASK)

    assert (exchange.status, exchange.problem) == (None, "connection refused")
    assert client.result.statuses["getTaskInstance"] == {NO_RESPONSE: 1}
    with pytest.raises(requests.ConnectionError):
        client.session.get(f"http://127.0.0.1:1{TASK}")
    assert client.result.request_count == 2


def test_what_cannot_be_written_or_sealed_is_an_exchange_too(ocp: Logged) -> None:
    def unsealed(_: Any) -> Any:
        raise EnvironmentProblem("no key")

    client = client_to(ocp)

    headers = client.send("GET", TASK, headers={"X": "a\nb"})
    sealing = client.send("POST", TASK, json={"a": 1}, auth=unsealed)

    assert headers.problem.startswith("it could not be sent: Invalid")
    assert sealing.problem == "it could not be sent: no key"
    assert sealing.request_headers == (("Content-Type", "application/json"),)
    assert sealing.request_body == b'{"a": 1}'
    assert ocp.log == []


def test_an_answer_that_is_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MAX_RESPONSE_BYTES", 1000)

    with answering(lambda _: Said(body=b"x" * 2000)) as url:
        exchange = HttpClient(Target(url, "ocp"), Options()).send("GET", TASK)

    assert (exchange.status, exchange.problem) == (None, "the response is longer than 1000 bytes")


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 500, b"[" * 101 + b"]" * 101, b'"\\\\"' + b"[" * 300])
def test_a_response_that_is_nested_too_deep_is_given_up(body: bytes) -> None:
    with answering(lambda _: Said(body=body)) as url:
        exchange = HttpClient(Target(url, "ocp"), Options()).send("GET", TASK)

    assert (exchange.status, exchange.problem) == (None, "the response is nested more than 100 levels deep")


@pytest.mark.parametrize("body", [b"[" * 100 + b"]" * 100, b'"%b"' % (b'[\\"{' * 500), b"[%b0]" % (b"[]," * 9999)])
def test_brackets_side_by_side_or_in_a_string_are_no_nesting(body: bytes) -> None:
    with answering(lambda _: Said(body=body)) as url:
        exchange = HttpClient(Target(url, "ocp"), Options()).send("GET", TASK)

    assert exchange.response_body == body
    assert exchange.json() is not None


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "READ_SECONDS", 0.01)
    stop = threading.Event()

    def late(_: str) -> Said:
        stop.wait(30)
        return Said()

    with answering(late) as url:
        exchange = HttpClient(Target(url, "ocp"), Options()).send("GET", TASK)
        stop.set()

    assert (exchange.status, exchange.problem) == (None, "no response in time")


@pytest.mark.parametrize(
    "head", [b"X-A: ", b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n64\r\n", b"\r\n"]
)
def test_a_response_that_comes_byte_by_byte_is_given_up(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "READ_SECONDS", 0.1)
    tail = b"\r\nContent-Length: 0\r\n\r\n" if head == b"X-A: " else b"\r\n0\r\n\r\n"

    with by_turn(lambda *_: b"HTTP/1.1 200 OK\r\n" + head + b"x" * 100 + tail, distance=0.005) as (url, _):
        exchange = HttpClient(Target(url, "ocp"), Options()).send("GET", TASK)

    assert (exchange.status, exchange.problem) == (None, "no response in time")


HEAD: Final = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (HEAD + b"Content-Length: 9\r\n\r\nshort", "cut off within a response"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", "cut off within a response"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\nplain", "not encoded as it states"),
        (b"SSH-2.0-OpenSSH\r\n", "the response is not HTTP"),
        (b"", "cut off before a response"),
    ],
)
def test_a_broken_answer_is_told_as_what_it_is(said: bytes, problem: str) -> None:
    with saying(said) as url:
        client = HttpClient(Target(url, "ocp"), Options())
        exchange = client.send("GET", TASK)
        with pytest.raises(requests.ConnectionError):
            client.session.get(url + TASK)

    assert (exchange.status, exchange.problem) == (None, problem)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"", b"{}"),
        (b"Transfer-Encoding: chunked\r\n", b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"),
        (b"Content-Encoding: gzip\r\n", gzip.compress(b"{}", mtime=0)),
    ],
)
def test_a_whole_answer_is_read_however_it_comes(headers: bytes, body: bytes) -> None:
    with saying(HEAD + headers + b"X-A: 1\r\nX-A: 2\r\n\r\n" + body) as url:
        client = HttpClient(Target(url, "ocp"), Options())
        exchange, answer = client.send("GET", TASK), client.session.get(url + TASK)

    assert (exchange.response_body, answer.content) == (b"{}", b"{}")
    assert [value for name, value in exchange.response_headers if name == "X-A"] == ["1", "2"]


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/json", '{"a": "陈"}'.encode("utf-8-sig")),
        ("application/json; charset=utf-8", '{"a": "陈"}'.encode("utf-8-sig")),
        ("application/json; charset=utf-16", '{"a": "陈"}'.encode("utf-16")),
        ("application/json", '{"a": "陈"}'.encode("utf-32-le")),
        ('application/json;Charset="GBK"', '{"a": "陈"}'.encode("gbk")),
        ("application/json; charset=no-such", '{"a": "陈"}'.encode()),
        ("application/json; charset=gbk", '{"a": "陈"}'.encode("utf-8-sig")),
    ],
)
def test_a_text_is_read_in_any_charset_and_with_a_byte_order_mark(media_type: str, body: bytes) -> None:
    with answering(lambda _: Said(body=body, media_type=media_type)) as url:
        client = HttpClient(Target(url, "ocp"), Options())
        exchange, response = client.send("GET", TASK), client.session.get(url + TASK)

    assert exchange.json() == response.json() == {"a": "陈"}


@pytest.mark.parametrize("body", [b"\xff\xfe{", b"\xff\x00\x80", b"\x00"])
def test_a_text_that_has_no_charset_is_kept_as_it_is(body: bytes) -> None:
    with answering(lambda _: Said(body=body)) as url:
        exchange = HttpClient(Target(url, "ocp"), Options()).send("GET", TASK)

    assert (exchange.status, exchange.json()) == (200, None)


# --- connections kept alive -----------------------------------------------------------------------


@pytest.mark.parametrize(("each", "statuses"), [(1, [200] * 4), (3, [200] * 4), (0, [None] * 4)])
def test_a_read_that_a_connection_kept_alive_cuts_off_is_sent_again_on_a_new_one(
    each: int, statuses: list[int | None]
) -> None:
    with hanging_up(each) as (url, log):
        client = HttpClient(Target(url, "ocp"), Options())
        exchanges = [client.send("GET", TASK) for _ in range(4)]

    assert [exchange.status for exchange in exchanges] == statuses
    assert client.result.request_count == 4
    assert len(log) == (4 if not each else 4 + 3 // each)


def test_a_write_is_sent_once_and_on_a_new_connection() -> None:
    with hanging_up(1) as (url, log):
        client = allowing(HttpClient(Target(url, "ocp"), Options(write=True)))
        statuses = [client.send(method, f"{TASK}/retry").status for method in ("GET", "POST", "POST", "GET")]

    assert statuses == [200] * 4
    assert log.count("POST") == 2


def test_the_last_exchanges_are_kept_and_all_are_counted(ocp: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MAX_RECENT_EXCHANGES", 2)
    client = client_to(ocp)

    several = [client.send("GET", TASK) for _ in range(3)]

    assert list(client.exchanges) == several[1:]
    assert client.result.request_count == 3


# --- findings are asked for again -----------------------------------------------------------------

RIGHT: Final = changed(example("ocp", "FinishedTask"), data__id=35000312)
WRONG: Final = changed(RIGHT, traceId="")


def response(said: Any) -> bytes:
    """A response with a body."""
    body = json.dumps(said).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def checking(url: str, *more: Any, **options: Any) -> HttpClient:
    """A client that checks each response by itself, and in further ways."""
    checkers = [ResponseChecker(CONTRACTS["ocp"]), *more]
    return HttpClient(Target(url, "ocp", Basic("me", "me")), Options(**options), checkers=checkers)


def test_what_is_broken_again_on_a_new_connection_is_reported_as_it_is() -> None:
    with by_turn(lambda *_: response(WRONG)) as (url, log):
        client = checking(url)
        for _ in range(3):
            client.send("GET", TASK)

    assert log == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert [(each.rule, SEEN_ONCE in each.message) for each in client.result.findings] == [("envelope.trace-id", False)]


def test_what_is_not_broken_again_says_so() -> None:
    with by_turn(lambda number, _: response(RIGHT if number else WRONG)) as (url, log):
        client = checking(url)
        exchange = client.send("GET", TASK)

    assert log == [(0, 0), (1, 0)]
    assert [(each.rule, SEEN_ONCE in each.message) for each in client.result.findings] == [("envelope.trace-id", True)]
    assert exchange.json() == RIGHT


@pytest.mark.parametrize("broken", [HEAD + b"Content-Length: 9\r\n\r\nshort", HEAD, b"}\r\n"])
def test_a_connection_that_breaks_is_no_finding(broken: bytes) -> None:
    with by_turn(lambda _, turn: broken if turn == 1 else response(RIGHT)) as (url, log):
        client = checking(url)
        statuses = [client.send("GET", TASK).status for _ in range(3)]
        read = client.session.get(url + TASK, auth=client.auth)

    assert client.result.findings == []
    assert (statuses, read.status_code) == ([200] * 3, 200)
    assert len(log) > 4


def test_a_write_is_not_sent_again_for_a_finding() -> None:
    with by_turn(lambda *_: response(WRONG)) as (url, log):
        client = allowing(checking(url, write=True))
        client.send("POST", f"{TASK}/retry")

    assert (len(log), len(client.result.changes)) == (1, 1)
    assert client.result.findings != []


def test_what_is_found_by_comparing_responses_is_not_asked_for_again() -> None:
    names = iter(["A", "B", "B"])
    history = HistoryChecker(CONTRACTS["ocp"])

    with by_turn(lambda *_: response(changed(RIGHT, data__name=next(names), traceId=f"{len(log)}"))) as (url, log):
        client = checking(url, history)
        for _ in range(3):
            client.send("GET", TASK)

    assert len(log) == 3
    assert [(each.rule, SEEN_ONCE in each.message) for each in client.result.findings] == [("kept.changed", False)]


def test_what_a_probe_expects_is_asked_for_again_too() -> None:
    probe = Probe("an unknown task", "GET", TASK, frozenset({404}))

    with by_turn(lambda number, _: response(RIGHT if number == 0 else WRONG)) as (url, log):
        client = HttpClient(Target(url, "ocp", Basic("me", "me")), Options())
        Prober(client).ask(probe)

    assert len(log) == 2
    assert [(each.rule, SEEN_ONCE in each.message) for each in client.result.findings] == [("error.status", False)]


# --- who is told ----------------------------------------------------------------------------------


def finding(exchange: Exchange, **said: Any) -> CheckResult:
    """A finding about an exchange."""
    rule = said.get("rule", "envelope.status")
    return CheckResult(rule, "$.status", "It is.", exchange.operation, exchange.status, "A page", exchange)


def test_what_watchers_find_is_told_once(ocp: Logged) -> None:
    told: list[Event] = []
    target = Target(ocp.url, "ocp", Basic("manager", "manager"))
    client = HttpClient(target, Options(), listen=told.append, checkers=[lambda each: [finding(each)]])

    client.send("GET", TASK)
    client.send("GET", TASK)

    assert [type(event) for event in told] == [Exchange, Exchange, CheckResult, Exchange]
    assert [each.rule for each in client.result.findings] == ["envelope.status"]


def test_what_is_found_otherwise_is_told_in_the_same_way(ocp: Logged) -> None:
    client = client_to(ocp)
    exchange = client.send("GET", TASK)

    client.found(finding(exchange), finding(exchange))
    client.found(finding(exchange))

    assert len(client.result.findings) == 1


# --- secrets --------------------------------------------------------------------------------------

HUSH: Final = "hush-hush-hush"
KEY: Final = read_key(make_private_key()).public_key


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An app that tells all it was sent: in its headers, and in its body."""
    sent = b" ".join([*[value for _, value in scope["headers"]], scope["query_string"]])
    asked = (await receive())["body"] if scope["type"] == "http" else b""
    body = b'{"said": "%b %b", "password": "x"} %b' % (sent, HUSH.encode(), asked)
    headers = [(b"x-said", sent), (b"set-cookie", b"a=" + HUSH.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def echoing() -> Iterator[Logged]:
    with logged(echo) as served:
        yield served


def told_of(_: str) -> dict[str, Any]:
    """What an agent says of itself."""
    return {"public_key": KEY, "security": True}


AUTHS: Final[dict[str, Any]] = {
    "basic": ("ocp", Basic("me", HUSH)),
    "access key": ("ocp", AccessKey("ak", HUSH)),
    "sealed": ("obshell", Sealed(HUSH, fetch=told_of)),
    "sealed for the agent": ("obshell", Sealed("", HUSH, fetch=told_of)),
}


@pytest.mark.parametrize("auth", AUTHS)
def test_no_secret_gets_into_anything_that_is_kept(echoing: Logged, auth: str) -> None:
    api, credentials = AUTHS[auth]
    told: list[Event] = []
    target = Target(echoing.url, api, credentials, own_address=OWN)
    client = HttpClient(target, Options(write=True), listen=told.append)
    client.guard.allows_everything = True

    path = {"ocp": f"{TASK}/retry", "obshell": DAG}[api]
    exchange = client.send("POST", f"{path}?token={HUSH}", json={"password": HUSH, "a": 1})
    client.found(finding(exchange))

    sent = echoing.headers[-1]
    secret = sent.get("authorization") or sent.get("x-ocs-header") or sent["x-ocs-agent-header"]
    kept = f"{exchange} {client.result.findings} {told} {target} {curl_of(exchange, target)}"
    assert HUSH not in kept
    assert base64.b64encode(f"me:{HUSH}".encode()).decode() not in kept
    assert secret.split()[-1] not in kept
    assert exchange.request_body == b'{"password":"***","a":1}'
    assert exchange.credentials == "own"


def test_a_secret_that_begins_with_another_one_leaves_no_rest(ocp: Logged) -> None:
    secrets = [HUSH + "x" * number for number in range(20)]
    headers = {f"X-Token-{number}": secret for number, secret in enumerate(secrets)}

    exchange = client_to(ocp).send("GET", f"{TASKS}?name={secrets[-1]}", headers=headers)

    assert exchange.target == f"{TASKS}?name=***"


def test_a_password_that_is_the_users_name_is_no_secret(ocp: Logged) -> None:
    client = client_to(ocp)

    exchange = client.send("GET", f"{TASKS}?name=manager")

    assert exchange.target == f"{TASKS}?name=manager"


def test_a_password_that_is_a_part_of_the_clients_name_is_no_secret_there(obshell: Logged) -> None:
    exchange = wire_to_obshell(obshell).send("GET", DAG)

    assert ("User-Agent", "oceanmock-conform") in exchange.request_headers


def test_what_was_made_up_as_a_credential_hides_nothing_of_an_answer(ocp: Logged) -> None:
    """It may be a key of the answer's JSON, which would then seem to be missing."""

    def made_up(request: Any) -> Any:
        request.headers["Authorization"] = "Bearer successful"
        return request

    exchange = client_to(ocp).send("GET", TASKS, auth=made_up)

    assert exchange.status == 401
    assert exchange.json()["successful"] is False
    assert ("Authorization", "Bearer ***") in exchange.request_headers


# --- asking again ---------------------------------------------------------------------------------


def asked_with(auth: Any, **said: Any) -> str:
    """The command for a request that was let in by this."""
    verify = said.pop("verify", True)
    target = Target("https://ocp:8080", "ocp", auth, verify)
    given: dict[str, Any] = {
        "number": 1,
        "phase": "probes",
        "operation": "",
        "method": "GET",
        "target": TASK,
        "request_headers": (("User-Agent", "x"), ("Accept", "*/*"), ("Authorization", "Basic ***")),
        "request_body": b"",
        "status": 200,
        "response_headers": (),
        "response_body": b"",
        "sent_at": 0,
        "took": 0,
        "credentials": "own",
    }
    return curl_of(Exchange(**{**given, **said}), target)


JSON: Final = (("Content-Type", "application/json"), ("Content-Length", "21"))


def test_an_exchange_can_be_asked_again_from_a_shell() -> None:
    basic, sealed = Basic("jörg o'hara", HUSH), Sealed(HUSH)
    commands = {
        "a read": asked_with(basic),
        "nobody's read": asked_with(None, request_headers=(), credentials="none"),
        "with others' credentials": asked_with(basic, credentials="others"),
        "where a certificate is not looked at": asked_with(basic, verify=False),
        "where one is trusted": asked_with(basic, verify="/etc/our ca.pem"),
        "a body": asked_with(basic, method="POST", request_headers=JSON, request_body=b'{"a": "it\'s"}'),
        "a body that is no text": asked_with(basic, method="PUT", request_body=b"\xff\0"),
        "a body that curl would take for a file": asked_with(basic, request_body=b"@/etc/passwd"),
        "another method": asked_with(basic, method="DELETE"),
        "only the head": asked_with(basic, method="HEAD"),
        "an odd path": asked_with(basic, target="/api/[1-3]/{a,b}?x=$HOME"),
        "signed": asked_with(AccessKey("ak", HUSH), verify="/etc/ca.pem"),
        "sealed": asked_with(sealed, method="POST", request_headers=JSON, request_body=b'{"operator": "RETRY"}'),
        "sealed for the agent, where no certificate is looked at": asked_with(
            Sealed("", HUSH), verify=False, target=DAG
        ),
    }

    text = "".join(f"--- {name}\n{command}\n\n" for name, command in commands.items())

    assert_golden("conform-reproduce.txt", text)
    assert HUSH not in text


@pytest.mark.parametrize("body", [b"", b'{"a": "it\'s \xc3\xbc"}', b"\xff\0", b"@/etc/passwd"])
def test_the_command_asks_what_was_asked(ocp: Logged, tmp_path: Path, body: bytes) -> None:
    client = client_to(ocp, write=True, tasks=("35000312",))
    exchange = client.send("POST", f"{TASK}/retry?a=[1-3]&b={{x,y}}%20", body=body)

    done = subprocess.run(
        ["sh", "-c", curl_of(exchange, client.target)],
        env={"PATH": os.environ["PATH"], "OCEANMOCK_PASSWORD": "manager", "no_proxy": "*"},
        capture_output=True,
        cwd=tmp_path,
        check=True,
    )

    assert ocp.log[0] == ocp.log[1]
    assert json.loads(done.stdout)["status"] == exchange.status
    assert ocp.headers[1].get("content-length", "0") == str(len(body))


@pytest.mark.parametrize(
    ("api", "auth", "environment"),
    [
        ("ocp", AccessKey("oceanmock-ak", "oceanmock-sk"), {"OCEANMOCK_SECRET_KEY": "oceanmock-sk"}),
        ("obshell", Sealed("oceanmock"), {"OCEANMOCK_PASSWORD": "oceanmock"}),
    ],
)
def test_so_does_the_one_in_python(
    ocp: Logged, obshell: Logged, api: Any, auth: Any, environment: dict[str, str]
) -> None:
    served, path = (ocp, TASK) if api == "ocp" else (obshell, DAG)
    client = HttpClient(Target(served.url, api, auth, own_address=OWN), Options())
    exchange = client.send("GET", path)

    python = curl_of(exchange, client.target).partition("python3 - <<'END'\n")[2].removesuffix("END")
    done = subprocess.run(
        [sys.executable, "-c", python], env={**environment, "no_proxy": "*"}, capture_output=True, text=True, check=True
    )

    assert exchange.status == 200
    assert done.stdout.startswith("200 {")
