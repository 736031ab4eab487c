"""Serve the APIs over HTTP. Here are ASGI's types, the keys of a scope, responses, and the sockets of a server."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, Final

import orjson

from oceanmock.api import JSON, Headers
from oceanmock.errors import EnvironmentProblem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[..., Awaitable[None]]
Encoded = tuple[int, Headers, bytes]
"""The status, the headers and the body of a response."""

CLOSE_CONNECTION: Final = "oceanmock.close_connection"
"""The scope's key for a function that closes the connection, where the server offers one."""
REPEAT: Final = "oceanmock.repeat"
"""The scope's key for a function that returns the response to the same request, sent again byte for byte: for any
connection to the same port. It returns None once the request has to be read anew."""


def plain_error(status: int, problem: str) -> Encoded:
    """Return an error that is in no API's envelope."""
    body = orjson.dumps({"error": problem})
    return status, [(b"content-type", JSON), (b"content-length", str(len(body)).encode())], body


async def send_response(response: Encoded | AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a whole response, or let an app send it."""
    if not isinstance(response, tuple):
        await response(scope, receive, send)
        return
    status, headers, body = response
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address. Raises EnvironmentProblem."""
    if not 0 <= port <= 65535:
        raise EnvironmentProblem(f"cannot listen on {host}:{port}: a port is 0 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as problem:
        raise EnvironmentProblem(f"cannot listen on {host}:{port}: {problem}.") from None
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as problem:
        listener.close()
        reason = getattr(problem, "strerror", None) or str(problem)
        raise EnvironmentProblem(
            f"cannot listen on {host}:{port}: {reason}. Choose another port, or 0 for any that is free."
        ) from None
    return listener


@contextlib.contextmanager
def bind_unix(path: Path) -> Iterator[socket.socket]:
    """Bind a Unix domain socket, and remove it in the end; one that no server listens on any more is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and listener.connect_ex(str(path)) == errno.ECONNREFUSED:
            path.unlink()
        listener.close()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
    except OSError as problem:
        listener.close()
        raise EnvironmentProblem(
            f"cannot listen on {path}: {problem.strerror or problem}. Choose another path."
        ) from None
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """Return the URL of a bound socket for clients on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (to dial)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
