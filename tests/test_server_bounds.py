"""What the server refuses before a request is complete: a head too large, a client too slow, a connection too many."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest

from oceanmock import Mock
from oceanmock.http import server as http_server

GET = b"GET /api/v2/tasks/instances HTTP/1.1\r\nHost: mock\r\n"
POST = b"POST /api/v2/tasks/instances/1/retry HTTP/1.1\r\nHost: mock\r\n"


@pytest.fixture(scope="module")
def mock() -> Iterator[Mock]:
    with Mock.start() as started:
        yield started


@pytest.fixture
def connect(mock: Mock) -> Iterator[Callable[[], socket.socket]]:
    """Connect to the server as often as is asked for."""
    place = urlsplit(mock.url)
    with ExitStack() as stack:
        new = partial(socket.create_connection, (place.hostname, place.port), timeout=20)
        yield lambda: stack.enter_context(new())


def answer_of(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    with connection.makefile("rb") as file:
        return file.read()


def assert_refused(connection: socket.socket, status: int, problem: str) -> None:
    head, _, body = answer_of(connection).partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == str(status).encode()
    assert b"\r\nconnection: close" in head
    assert problem in body.decode()


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X: " + b"x" * 66_000 + b"\r\n\r\n",
        GET + b"X: y\r\n" * 201 + b"\r\n",
        GET.replace(b"instances", b"x" * 66_000) + b"\r\n",
    ],
    ids=["one large header", "many headers", "a long path"],
)
def test_a_head_over_the_bound_is_refused(connect: Callable[[], socket.socket], head: bytes) -> None:
    connection = connect()
    connection.sendall(head)

    assert_refused(connection, 431, "The request's head is larger than 65,536 bytes or 200 headers.")


def test_a_header_that_does_not_end_is_refused(connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.sendall(GET + b"X: ")
    with pytest.raises(OSError, match=r"Broken pipe|reset"):  # it closes while more is sent
        connection.sendall(b"x" * 200_000_000)


def test_trailers_that_do_not_end_are_refused(connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
    with pytest.raises(OSError, match=r"Broken pipe|reset"):  # it closes while more is sent
        connection.sendall(b"X: y\r\n" * 20_000_000)


def test_trailers_are_no_headers(connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    head = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head + b"2\r\n{}\r\n0\r\nAuthorization: Basic bWFuYWdlcjptYW5hZ2Vy\r\n\r\n")

    assert answer_of(connection).startswith(b"HTTP/1.1 401 ")


def test_a_body_in_many_small_chunks_is_read(mock: Mock) -> None:
    body = iter([b" "] * 30_000 + [b"{}"])

    assert httpx.post(f"{mock.url}/__admin/sandboxes/default/reset", content=body).status_code == 200


def test_requests_that_wait_for_responses_are_bounded(connect: Callable[[], socket.socket]) -> None:
    request = b"GET /api/v1/time HTTP/1.1\r\n\r\n"
    within, beyond = connect(), connect()
    within.sendall(request * 900 + request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    beyond.sendall(request * 5000)

    assert answer_of(within).count(b"HTTP/1.1 200 ") == 901
    with pytest.raises(ConnectionError):
        beyond.sendall(request * 5_000_000)


def test_a_head_within_the_bound_is_read(mock: Mock) -> None:
    headers = {f"X-{number}": "x" * 300 for number in range(150)}

    assert httpx.get(f"{mock.url}/__admin/ready", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "part", [b"G", GET, POST + b"Content-Length: 5\r\n\r\nab", POST + b"Content-Length: 900000\r\n\r\nab"]
)
def test_a_request_that_does_not_end_is_refused(
    connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    monkeypatch.setattr(http_server, "MAX_REQUEST_SECONDS", 0.1)
    connection = connect()
    connection.sendall(part)

    assert_refused(connection, 408, "The request was not complete within 0.1 seconds.")


def test_a_connection_on_which_nothing_comes_is_closed(
    connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "KEEP_ALIVE_SECONDS", 0.1)

    assert answer_of(connect()) == b""


def test_a_connection_over_the_bound_is_refused(
    mock: Mock, connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 3)
    with httpx.Client() as client:
        assert client.get(f"{mock.url}/__admin/ready").status_code == 200
        for _ in range(2):
            connect()

        assert_refused(connect(), 503, "There are 3 connections already; close those that are done with.")
        assert client.get(f"{mock.url}/__admin/ready").status_code == 200
