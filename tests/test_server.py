"""server.py: a port, a thread, signals; and what only a real socket can send."""

import base64
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from command import PATIENCE, serving
from oceanmock import EnvironmentProblem, Mock, OceanmockError, Ocp
from oceanmock.apis import make_sandbox
from oceanmock.http.app import create_app
from oceanmock.http.server import Server
from served import REINSTALL, load_yaml

TASKS = "/api/v2/tasks/instances"
LOGON = "Authorization: Basic " + base64.b64encode(b"manager:manager").decode()


@pytest.fixture(scope="module")
def server() -> Iterator[Ocp]:
    """Serve a sandbox on a port of its own."""
    scenario = load_yaml(REINSTALL)
    with Mock.start() as mock, mock.ocp(scenario, progression="manual") as sandbox:
        yield sandbox


def said(server: Ocp, *lines: str, body: bytes = b"") -> bytes:
    """What the server answers to a request written by hand, until it hangs up."""
    place = urlsplit(server.url)
    head = "\r\n".join([*lines, "Host: mock", "Connection: close", "", ""]).encode("latin-1")
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        connection.sendall(head + body)
        with connection.makefile("rb") as answer:
            return answer.read()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# --- in a thread ----------------------------------------------------------------------------------


def test_a_server_listens_once_it_has_started(server: Ocp) -> None:
    answer = httpx.get(f"{server.url}{TASKS}", auth=("viewer", "viewer"))

    assert answer.status_code == 200
    assert "server" not in answer.headers


def test_a_server_is_gone_once_it_has_stopped() -> None:
    with Mock.start() as server:
        server.admin.ask("GET", "/sandboxes")

    with pytest.raises(OceanmockError):  # if another process has the port now, its token is another
        server.admin.ask("GET", "/sandboxes")


def test_stopping_twice_changes_nothing() -> None:
    before = set(threading.enumerate())
    server = Mock.start()

    server.stop()
    server.stop()

    assert not [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]


def test_a_server_in_a_thread_leaves_signals_alone(server: Ocp) -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_wildcard_address_is_told_as_one_that_can_be_dialled() -> None:
    with Mock.start(host="0.0.0.0") as server:
        assert httpx.get(server.url).status_code == 200
        assert server.url.startswith("http://127.0.0.1:")


# --- the port -------------------------------------------------------------------------------------


def test_a_taken_port_is_a_problem_of_the_environment(server: Ocp) -> None:
    port = urlsplit(server.url).port or 0

    with pytest.raises(EnvironmentProblem) as problem:
        Mock.start(port=port)

    assert str(problem.value) == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use. Choose another port, or 0 for any that is free."
    )


def test_of_two_servers_that_are_started_at_one_port_one_is_refused() -> None:
    app = create_app(make_sandbox())
    first = Server(app)

    with pytest.raises(EnvironmentProblem, match="Address already in use"):
        Server(app, port=urlsplit(first.url).port or 0)
    first.stop()


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 65536), ("127.0.0.1", -1), ("no.such.invalid", 0)])
def test_an_address_that_is_none_is_a_problem_of_the_environment(host: str, port: int) -> None:
    with pytest.raises(EnvironmentProblem, match=f"cannot listen on {host}:{port}: "):
        Mock.start(host=host, port=port)


# --- as a process ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_cleanly(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    with serving("many-tasks") as server:
        answer = httpx.get(f"{server.url}{TASKS}", auth=("viewer", "viewer"))

        ended = server.stop(number)

    assert answer.status_code == 200
    assert (ended.code, ended.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_requests_ends_the_process_without_a_traceback(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    (tmp_path / "mine.yaml").write_text("summary: s\napi: ocp\ntasks: [{id: 1, name: A, subtasks: [a]}]\n")
    words = (tmp_path / "mine.yaml", "--watch", "--state", tmp_path / "state.db")
    answered = threading.Event()
    with ExitStack() as stack, serving(*words) as server, ThreadPoolExecutor() as pool:
        admin = f"{server.url}/__admin/sandboxes"
        own = httpx.post(admin, json={"own_port": True}).json()["urls"]["port"]
        httpx.post(f"{admin}/default/faults", json={"operation": "listTaskInstances", "status": 503, "delay": "1h"})
        for url, part in ((server.url, b""), (server.url, b"GET / HT"), (server.url, UNENDED), (own, UNENDED)):
            port = int(url.rpartition(":")[2])
            stack.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(part)
        for path in (TASKS, *[f"{TASKS}/1"] * 3):
            pool.submit(poll, f"{server.url}{path}", answered)
        answered.wait(PATIENCE)

        ended = server.stop(number)

    assert ended.code == 0
    assert [line for line in ended.stderr.splitlines() if "graceful shutdown exceeded" not in line] == []


UNENDED = f"POST {TASKS}/1/retry HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode()


def poll(url: str, answered: threading.Event) -> None:
    """Send requests until the server is gone."""
    with suppress(httpx.HTTPError), httpx.Client(auth=("viewer", "viewer"), timeout=PATIENCE) as client:
        while client.get(url):
            answered.set()


# --- what clients refuse to send ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (f"{TASKS}/%zz", 400),
        (f"{TASKS}/%", 400),
        (f"{TASKS}/%ff", 400),
        (f"{TASKS}/%00", 400),
        (f"{TASKS}/1%0a", 400),
        (f"{TASKS}/{'9' * 5000}", 400),
        (f"{TASKS}/../instances", 404),
        (f"{TASKS}//35000312", 404),
        (f"{TASKS}?%zz=%zz&name=%ff%00", 200),
        (f"{TASKS}?&&=&=1", 200),
        (f"http://mock{TASKS}", 200),
        ("*", 404),
    ],
)
def test_an_odd_target_is_answered_as_the_clients_mistake(server: Ocp, target: str, expected: int) -> None:
    answer = said(server, f"GET {target} HTTP/1.1", LOGON)

    assert status(answer) == expected


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_a_method_no_operation_has_is_answered_405(server: Ocp, method: str) -> None:
    answer = said(server, f"{method} {TASKS} HTTP/1.1", LOGON)

    assert status(answer) == 405
    assert b"\r\nallow: GET\r\n" in answer


@pytest.mark.parametrize("name", ["Upgrade", "upgrade", "UPGRADE"])
def test_the_body_of_a_request_that_offers_another_protocol_is_read(server: Ocp, name: str) -> None:
    headers = {"Connection": f"{name}, HTTP2-Settings", name: "h2c", "HTTP2-Settings": "AAEAAEAA"}  # as Java sends them

    answer = httpx.post(f"{server.admin.url}/__admin/sandboxes", json={"ttl": "1m"}, headers=headers)

    assert answer.status_code == 201


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Type: garbage;;;=", "Transfer-Encoding: chunked"],
        ["Content-Type: application/json; charset=no-such", "Transfer-Encoding: chunked"],
    ],
)
def test_a_chunked_body_where_none_is_asked_for_is_taken_and_ignored(server: Ocp, lines: list[str]) -> None:
    request = f"POST {TASKS}/35000312/retry HTTP/1.1"

    answer = said(server, request, LOGON, *lines, body=b"3\r\n\xff\xfe\xfd\r\n0\r\n\r\n")

    assert b'"code":20003' in answer


def test_a_client_that_sends_a_body_over_the_bound_sees_why_it_is_refused(server: Ocp) -> None:
    parts = (b" " * 65536 for _ in range(64))

    answer = httpx.post(f"{server.url}{TASKS}/35000312/retry", content=parts)

    assert answer.status_code == 413
    assert answer.json()["error"]["message"] == "The request body is too large."
