"""Servers for a conformance run to meet: each on a port of this machine, each with one trait.

One logs what reaches it: what arrived, whatever the client thinks it sent. One answers what a test
tells it to. One says some bytes, which need not be HTTP.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, Literal

import requests

from oceanmock.http.server import Server


@dataclass(slots=True)
class Logged:
    """An app on a port; ``log`` is each request that arrived, in order."""

    app: Any
    url: str = ""
    log: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            query = scope["query_string"].decode("latin-1")
            path = scope["raw_path"].decode("latin-1").partition("?")[0]
            self.log.append((scope["method"], f"{path}?{query}" if query else path))
            self.headers.append({n.decode(): v.decode("latin-1") for n, v in scope["headers"]})
        await self.app(scope, receive, send)

    @property
    def methods(self) -> set[str]:
        """The methods that arrived."""
        return {method for method, _ in self.log}


@contextmanager
def logged(app: Any) -> Iterator[Logged]:
    """Serves an app behind a log."""
    served = Logged(app)
    with Server(served) as server:
        served.url = server.url
        yield served


@dataclass(frozen=True, slots=True)
class Said:
    """What a server answers."""

    status: int = 200
    body: bytes = b""
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


Answering = Callable[[str], Said]
"""What is answered to a path."""


@contextmanager
def answering(answer: Answering, *, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that answers what it is told to, whatever the method; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True

        def do_GET(self) -> None:
            said = answer(self.path)
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            if said.media_type:
                self.send_header("Content-Type", said.media_type)
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            self.wfile.write(said.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Says nothing of a client that went away, or spoke no TLS."""

    server = Quiet(("127.0.0.1", port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def saying(greeting: bytes) -> Iterator[str]:
    """Something that says this to whoever comes, and hangs up; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while listener.fileno() != -1:
                with suppress(OSError), listener.accept()[0] as connection:
                    connection.sendall(greeting)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(4096):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def hanging_up(each: int) -> Iterator[tuple[str, list[str]]]:
    """A server that answers so many requests of a connection, and hangs up at the next; its URL, and the methods."""
    log: list[str] = []
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            for turn in range(each + 1):
                text = connection.recv(65536).decode("latin-1")
                if not text:
                    return
                log.append(text.partition(" ")[0])
                if turn < each:
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", log
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def by_turn(answer: Callable[[int, int], bytes], *, distance: float = 0) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """A server whose bytes depend on the number of a connection and of its request; its URL, and both of each request.

    With a distance, in seconds, they come one by one.
    """
    log: list[tuple[int, int]] = []
    closing = threading.Event()

    def serve(connection: socket.socket, number: int) -> None:
        with connection, suppress(OSError):
            for turn in count():
                if not connection.recv(65536):
                    return
                log.append((number, turn))
                said = answer(number, turn)
                size = 1 if distance else len(said)
                for at in range(0, len(said), size):
                    connection.sendall(said[at : at + size])
                    closing.wait(distance)
                if not said.startswith(b"HTTP/1.1 200 OK\r\n") or b"close" in said:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                for number in count():
                    threading.Thread(target=serve, args=(listener.accept()[0], number), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", log
        closing.set()
        listener.shutdown(socket.SHUT_RDWR)


Shape = Literal["gzip", "header case", "kept alive and closed", "byte order mark", "utf-16", "chunked", "piecemeal"]


@contextmanager
def reshaping(origin: str, shape: Shape) -> Iterator[str]:
    """A proxy that passes on what another server answers, in another shape of the same meaning; its URL."""
    session = requests.Session()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        turns = 0

        def do_GET(self) -> None:
            self.turns += 1
            if shape == "kept alive and closed" and self.turns % 5 == 0:
                self.close_connection = True  # without an answer
                return
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = session.get(
                origin + self.path, headers=dict(self.headers.items()), data=sent, allow_redirects=False
            )
            headers, body = {name.title(): value for name, value in answer.headers.items()}, answer.content
            media_type = headers.get("Content-Type", "").partition(";")[0]
            if shape == "gzip":
                headers["Content-Encoding"], body = "gzip", gzip.compress(body)
            if shape == "byte order mark":
                body = answer.text.encode("utf-8-sig")
            if shape == "utf-16":
                headers["Content-Type"], body = f"{media_type}; charset=UTF-16", answer.text.encode("utf-16")
            if shape == "chunked":
                del headers["Content-Length"]
                headers["Transfer-Encoding"] = "chunked"
                body = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
            elif "Content-Length" in headers:
                headers["Content-Length"] = str(len(body))
            if shape == "header case":
                headers = {name.swapcase(): value for name, value in headers.items()}
            self.send_response_only(answer.status_code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            for piece in [body[at : at + 100] for at in range(0, len(body), 100)] if shape == "piecemeal" else [body]:
                self.wfile.write(piece)
                self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

    with session, Quiet(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
