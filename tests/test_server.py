"""server.py: a port, a thread, signals; and what only a real socket can send."""

import base64
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from in_process import REINSTALL, sandbox_of
from oceanmock.errors import EnvironmentProblem
from oceanmock.http.app import create_app
from oceanmock.http.server import Server

TASKS = "/api/v2/tasks/instances"
LOGON = "Authorization: Basic " + base64.b64encode(b"manager:manager").decode()

SERVING = """
import sys
sys.path.insert(0, sys.argv[1])
from in_process import REINSTALL, sandbox_of
from oceanmock.http.app import create_app
from oceanmock.http.server import serve_forever
serve_forever(create_app(sandbox_of(REINSTALL)), on_ready=lambda url: print(url, flush=True))
print("stopped", flush=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(create_app(sandbox_of(REINSTALL))) as running:
        yield running


def said(server: Server, *lines: str, body: bytes = b"") -> bytes:
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


def test_a_server_listens_once_it_has_started(server: Server) -> None:
    answer = httpx.get(f"{server.url}{TASKS}", auth=("viewer", "viewer"))

    assert answer.status_code == 200
    assert "server" not in answer.headers


def test_a_server_is_gone_once_it_has_stopped() -> None:
    with Server(create_app(sandbox_of(REINSTALL))) as server:
        pass

    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_stopping_twice_changes_nothing() -> None:
    before = set(threading.enumerate())
    server = Server(create_app(sandbox_of(REINSTALL))).start()

    server.stop()
    server.stop()

    assert not [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]


def test_a_server_that_was_never_started_can_be_stopped() -> None:
    server = Server(create_app(sandbox_of(REINSTALL)))

    server.stop()

    with Server(create_app(sandbox_of(REINSTALL)), port=urlsplit(server.url).port or 0) as again:
        assert again.url == server.url


def test_a_server_in_a_thread_leaves_signals_alone(server: Server) -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_wildcard_address_is_told_as_one_that_can_be_dialled() -> None:
    with Server(create_app(sandbox_of(REINSTALL)), host="0.0.0.0") as server:
        assert httpx.get(server.url).status_code == 404
        assert server.url.startswith("http://127.0.0.1:")


# --- the port -------------------------------------------------------------------------------------


def test_a_taken_port_is_a_problem_of_the_environment(server: Server) -> None:
    port = urlsplit(server.url).port or 0

    with pytest.raises(EnvironmentProblem) as problem:
        Server(create_app(sandbox_of(REINSTALL)), port=port)

    assert str(problem.value) == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use. "
        "Choose another port, or 0 for any that is free."
    )


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 65536), ("127.0.0.1", -1), ("no.such.invalid", 0)]
)
def test_an_address_that_is_none_is_a_problem_of_the_environment(host: str, port: int) -> None:
    with pytest.raises(EnvironmentProblem, match=f"cannot listen on {host}:{port}: "):
        Server(create_app(sandbox_of(REINSTALL)), host=host, port=port)


# --- as a process ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_cleanly(number: signal.Signals) -> None:
    tests = str(Path(__file__).parent)
    command = [sys.executable, "-W", "error", "-c", SERVING, tests]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        answer = httpx.get(f"{url}{TASKS}", auth=("viewer", "viewer"))

        os.kill(process.pid, number)
        rest, errors = process.communicate(timeout=20)

    assert answer.status_code == 200
    assert (process.returncode, rest, errors) == (0, "stopped\n", "")


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
def test_an_odd_target_is_answered_as_the_clients_mistake(
    server: Server, target: str, expected: int
) -> None:
    answer = said(server, f"GET {target} HTTP/1.1", LOGON)

    assert status(answer) == expected


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_a_method_no_operation_has_is_answered_405(server: Server, method: str) -> None:
    answer = said(server, f"{method} {TASKS} HTTP/1.1", LOGON)

    assert status(answer) == 405
    assert b"\r\nallow: GET\r\n" in answer


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Type: garbage;;;=", "Transfer-Encoding: chunked"],
        ["Content-Type: application/json; charset=no-such", "Transfer-Encoding: chunked"],
    ],
)
def test_a_chunked_body_where_none_is_asked_for_is_taken_and_ignored(
    server: Server, lines: list[str]
) -> None:
    request = f"POST {TASKS}/35000312/retry HTTP/1.1"

    answer = said(server, request, LOGON, *lines, body=b"3\r\n\xff\xfe\xfd\r\n0\r\n\r\n")

    assert b'"code":20003' in answer


def test_a_client_that_sends_a_body_over_the_bound_sees_why_it_is_refused(server: Server) -> None:
    parts = (b" " * 65536 for _ in range(64))

    answer = httpx.post(f"{server.url}{TASKS}/35000312/retry", content=parts)

    assert answer.status_code == 413
    assert answer.json()["error"]["message"] == "The request body is too large."
