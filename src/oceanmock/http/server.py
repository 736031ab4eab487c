"""Serve an ASGI app on a port with uvicorn: the only module that imports uvicorn.

``serve_forever`` runs in the main thread and returns at SIGINT or SIGTERM, so that the process exits with 0. ``Server``
runs in a thread of its own, for tests, and handles no signal. Both bind the port first; a taken one raises
EnvironmentProblem. Only errors are logged, since the journal has the requests. They set the attribute ``ports`` of an
app to a ``Ports``, which opens further ports, and call its method ``on_start`` once they listen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self, cast

import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HEADER_VALUE_RE, STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from oceanmock.api import Headers
from oceanmock.errors import EnvironmentProblem
from oceanmock.http import (
    CLOSE,
    REPEAT,
    AsgiApp,
    Encoded,
    bind,
    bind_unix,
    declared_size,
    plain_error,
    send_response,
    url_of,
)
from oceanmock.masking import mask_error, mask_text

Repeat = Callable[[], Encoded | None]  # the function under the scope's key REPEAT
MAX_REPEATS: Final = 1024
MAX_REPEATED_BYTES: Final = 4096
MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 200
MAX_REQUEST_SECONDS: Final = 30  # from the first byte of a request to the last of its body
MAX_CONNECTIONS: Final = 1000
MAX_PIPELINED: Final = 1000  # requests of a connection that wait for the response to an earlier one
UPGRADE: Final = re.compile(rb"(?is)\A((?:(?!\r\n\r\n).)*\r\n)upgrade:")
"""The header by which Java's client offers HTTP/2: httptools would read no body after it."""
KEEP_ALIVE_SECONDS: Final = 75  # more than most clients: a server that closes first may lose a request
GRACE_SECONDS: Final = 3
SWITCH_SECONDS: Final = 0.0005  # for the event loop to take over from a thread that loads scenarios; Python: 0.005


def serve_forever(
    app: AsgiApp,
    *,
    host: str,
    port: int,
    on_ready: Callable[[str], object],
    tls: ssl.SSLContext | None = None,
    uds: Path | None = None,
) -> None:
    """Serve the app until SIGINT or SIGTERM; call ``on_ready`` with the URL once it listens.

    Port 0 is any free one. ``uds`` is the path of a Unix domain socket to listen on as well, without TLS. Raises
    EnvironmentProblem when one of them cannot be bound.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(contextlib.closing(bind(host, port)))
        unix_listener = None if uds is None else stack.enter_context(bind_unix(uds))
        url = url_of(listener, "http" if tls is None else "https")
        server = _UvicornServer(app, host, lambda: on_ready(url), tls=tls, unix_listener=unix_listener)
        server.run(sockets=[listener])


class Server:
    """A server in a thread, as a context manager. It listens at ``url`` when ``start`` returns, until ``stop``.

    ``listener`` is a bound socket of that host, in place of a new one.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self._listener = bind(host, port) if listener is None else listener
        self._ready = threading.Event()
        self._uvicorn = _UvicornServer(app, host, self._ready.set, tls=tls)
        self._thread = threading.Thread(target=self._run, name="oceanmock", daemon=True)
        self._failure: BaseException | None = None
        self.url: Final = url_of(self._listener, "http" if tls is None else "https")

    def start(self) -> Self:
        """Start serving. Raises EnvironmentProblem when the app could not start."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise EnvironmentProblem(f"the server did not start: {self._failure!r}")
        return self

    def stop(self) -> None:
        """Finish open requests and stop. A second call changes nothing."""
        self._uvicorn.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._uvicorn.run(sockets=[self._listener])
        except (Exception, SystemExit) as failure:  # uvicorn exits on a bad start
            self._failure = failure
        finally:
            self._ready.set()


class _HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits, and without a task for requests that need none. uvicorn has no hooks for these.

    When a whole request has arrived, it calls the app's method ``dispatch(scope, body)``, if there is one, for the
    response, which it sends with one write, or for an ASGI app that sends it. If the scope has a function ``REPEAT``
    then, it calls that when the same bytes arrive again, so that a client that polls is parsed once. The function
    ``CLOSE`` in each scope closes the connection. When a client disconnects, the request that is being answered is
    notified; uvicorn notifies the newest of pipelined requests (0.54: httptools_impl.py, connection_lost).
    """

    def __init__(self, *args: Any, repeats: dict[tuple[Any, bytes], Repeat], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False  # it would have secrets in queries
        self._running: RequestResponseCycle | None = None
        self._dispatch: Callable[..., Any] | None = getattr(self.app, "dispatch", None)
        self._incomplete: RequestResponseCycle | None = None
        self._may_dispatch = False
        self._is_between_requests, self._is_in_head, self._is_in_trailers = True, False, False
        self._head_bytes, self._begun = 0, 0
        self._repeats, self._last_repeat = repeats, 0.0
        self._request_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse a connection above the limit; close one without a request after a time."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(503, f"There are {MAX_CONNECTIONS:,} connections already; close those that are done with.")
        else:
            self._request_timer = self.loop.call_later(KEEP_ALIVE_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        """Read data; dispatch at most one request of a pipeline, so that it does not block the event loop."""
        key, starts_request = (self.server, data), self._is_between_requests
        if starts_request and (repeat := self._repeats.get(key)) is not None and self._repeat(key, repeat):
            return
        self._may_dispatch, self._begun = self._dispatch is not None, 0
        if starts_request and b"upgrade" in data.lower():
            data = UPGRADE.sub(rb"\1X-Ignored:", data, count=1)
        super().data_received(data)
        if self._is_in_head or self._is_in_trailers:
            # Of a head in pieces, the first one is measured as it was parsed, further ones as they were sent.
            self._head_bytes = self._measure_head() if self._begun else self._head_bytes + len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()
        if self._request_timer is not None and (self._is_between_requests or self._begun):
            self._request_timer.cancel()
            self._request_timer = None
        if not self._is_between_requests:
            if self._begun:
                problem = f"The request was not complete within {MAX_REQUEST_SECONDS} seconds."
                self._request_timer = self.loop.call_later(MAX_REQUEST_SECONDS, self._refuse, 408, problem)
        elif starts_request and self._begun == 1 and len(data) <= MAX_REPEATED_BYTES:
            repeat = cast("Repeat | None", self.scope.get(REPEAT))
            if repeat is not None and self.cycle.keep_alive and self.scope["method"] != "HEAD":
                if len(self._repeats) >= MAX_REPEATS:
                    del self._repeats[next(iter(self._repeats))]
                self._repeats[key] = repeat

    def _repeat(self, key: tuple[Any, bytes], repeat: Repeat) -> bool:
        """Respond to a request with the same bytes as an earlier one; return False if it has to be parsed."""
        cycle = self.cycle
        if cycle is None or not cycle.response_complete or self.flow.write_paused or self.transport.is_closing():
            return False
        response = repeat()
        if response is None:
            self._repeats.pop(key, None)
            return False
        self.transport.write(_encode(self.server_state.default_headers, *response))
        self.server_state.total_requests += 1
        self._last_repeat = self.loop.time()  # uvicorn's timer runs from the last request that was parsed
        return True

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():  # it is after a head that is too large
            super().send_400_response(msg)

    def _refuse_head(self) -> None:
        self._refuse(431, f"The request's head is larger than {MAX_HEAD_BYTES:,} bytes or {MAX_HEADERS} headers.")

    def _refuse(self, status: int, problem: str) -> None:
        """Close the connection, after an error response unless another response is due or has begun."""
        cycle = self.cycle
        if self.transport.is_closing():
            return
        if self._is_in_head or cycle is None:
            is_next = cycle is None or cycle.response_complete
        else:
            is_next = not cycle.response_started and not self.pipeline
        if is_next:
            response = plain_error(status, problem)
            self.transport.write(_encode(self.server_state.default_headers, *response, keep_alive=False))
        self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        remaining = self._last_repeat + self.timeout_keep_alive - self.loop.time()
        if remaining > 0:
            self.timeout_keep_alive_task = self.loop.call_later(remaining, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: AsgiApp) -> None:
        """Start no task while uvicorn buffers a short body, unless the client waits for 100 Continue to send it."""
        self._running = cycle
        may_wait = self._may_dispatch and cycle is self.cycle and cycle.more_body
        size = declared_size(cycle.scope["headers"]) if may_wait else None
        if size is not None and size <= HIGH_WATER_LIMIT and not cycle.waiting_for_100_continue:
            self._may_dispatch, self._incomplete = False, cycle
        else:
            super()._start_asgi_task(cycle, app)

    def on_chunk_header(self) -> None:
        self._is_in_trailers = True  # unless a body follows

    def on_body(self, body: bytes) -> None:
        self._is_in_trailers, self._head_bytes = False, 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_between_requests, self._is_in_trailers = True, False
        super().on_message_complete()
        cycle, self._incomplete = self._incomplete, None
        if cycle is None or self._dispatch is None or self.transport.is_closing():
            return
        body, cycle.body = bytes(cycle.body), bytearray()
        try:
            response = self._dispatch(cycle.scope, body)
            if isinstance(response, tuple) and _send_whole(cycle, *response):
                return
        except Exception as error:  # uvicorn logs it, and responds with 500
            response = error
        super()._start_asgi_task(cycle, partial(_send_late, response))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_between_requests, self._is_in_head, self._head_bytes = False, True, 0
        self._begun += 1
        self.scope[CLOSE] = self.close  # type: ignore[typeddict-unknown-key]

    def _measure_head(self) -> int:
        return len(self.url) + sum([len(name) + len(value) for name, value in self.headers])

    def on_headers_complete(self) -> None:
        """Refuse a head that is too large, and a request after too many that have no response."""
        if self._measure_head() > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._refuse_head()
            raise ValueError("the head is too large")  # the parser stops, and uvicorn calls send_400_response
        if len(self.pipeline) >= MAX_PIPELINED:
            self.transport.close()
            raise ValueError("too many requests wait for their responses")
        self._is_in_head = False
        super().on_headers_complete()
        self.headers = []  # so that trailers are not added to the request's headers

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the task of the request that is being answered."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)
        if self._request_timer is not None:
            self._request_timer.cancel()
        if self._incomplete is not None:
            super()._start_asgi_task(self._incomplete, self.app)  # the app records that the client went away

    def close(self, *, reset: bool) -> None:
        """Close the connection after the data sent; ``reset`` resets it instead."""
        if not reset:
            self.transport.close()
            return
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


async def _send_late(response: Any, scope: Any, receive: Any, send: Any) -> None:
    """Send the result of ``dispatch``, or raise its exception."""
    if isinstance(response, Exception):
        raise response
    await send_response(response, scope, receive, send)


def _send_whole(cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes) -> bool:
    """Send a response with one write; return False if one has started or the client reads too slowly."""
    if cycle.flow.write_paused or cycle.disconnected or cycle.response_started:
        return False
    is_head = cycle.scope["method"] == "HEAD"
    data = _encode(cycle.default_headers, status, headers, b"" if is_head else body, keep_alive=cycle.keep_alive)
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(data)
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def _encode(default_headers: Headers, status: int, headers: Headers, body: bytes, *, keep_alive: bool = True) -> bytes:
    parts = [STATUS_LINE[status]]
    for name, value in default_headers:
        parts += (name, b": ", value, b"\r\n")
    parts += (_encode_headers(tuple(headers)), b"\r\n" if keep_alive else b"connection: close\r\n\r\n", body)
    return b"".join(parts)


@lru_cache(maxsize=512)
def _encode_headers(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    parts = list[bytes]()
    for name, value in headers:
        if HEADER_VALUE_RE.search(value):
            raise RuntimeError(f"the header {name.decode()} has a control character: {value!r}")
        parts += (name.lower(), b": ", value, b"\r\n")
    return b"".join(parts)


class Ports:
    """The further ports of a running server. Its methods must be called on the server's event loop."""

    def __init__(self, server: _UvicornServer, host: str, ports: range | None) -> None:
        self._server = server
        self._range = ports
        self._host = host
        self.has_tls: Final = server.config.ssl is not None
        self._servers: dict[int, asyncio.Task[asyncio.Server]] = {}

    def open(self, port: int = 0) -> int:
        """Listen on a further port; 0 is any free one of the range. Raises EnvironmentProblem."""
        if port or self._range is None:
            listener = bind(self._host, port)
        else:
            for free in (item for item in self._range if item not in self._servers):
                with contextlib.suppress(EnvironmentProblem):
                    listener = bind(self._host, free)
                    break
            else:
                problem = f"none of the ports {self._range[0]} to {self._range[-1]} is free."
                raise EnvironmentProblem(f"{problem} Delete sandboxes, or widen --sandbox-ports.")
        port = listener.getsockname()[1]
        loop, server = asyncio.get_running_loop(), self._server

        async def serve() -> asyncio.Server:
            further = await loop.create_server(server.protocol, sock=listener, ssl=server.config.ssl)
            server.servers.append(further)
            return further

        self._servers[port] = loop.create_task(serve())
        return port

    def close(self, port: int) -> None:
        """Finish open requests, then close the port and its connections."""
        server = self._servers.pop(port, None)
        if server is None:
            return
        if server.done():
            self._stop(server)
        else:
            server.add_done_callback(self._stop)
        for connection in list(self._server.server_state.connections):
            if isinstance(connection, _HttpProtocol) and (connection.server or ("", 0))[1] == port:
                connection.shutdown()

    def _stop(self, server: asyncio.Task[asyncio.Server]) -> None:
        server.result().close()
        self._server.servers.remove(server.result())


class _UvicornServer(uvicorn.Server):
    """uvicorn with a callback once it listens; it does not raise the signal that stopped it."""

    def __init__(
        self,
        app: AsgiApp,
        host: str,
        on_listening: Callable[[], object],
        *,
        tls: ssl.SSLContext | None = None,
        unix_listener: socket.socket | None = None,
    ) -> None:
        http: Any = partial(_HttpProtocol, repeats={})
        config = uvicorn.Config(
            app,
            http=http,
            loop="auto",  # uvloop where it can be imported
            ws="none",
            log_config=None,
            log_level="error",  # not warnings: of clients that send no HTTP
            server_header=False,
            headers=getattr(app, "response_headers", []),
            proxy_headers=False,  # the peer's address is the one of the connection
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        logging.getLogger("uvicorn.error").addFilter(_mask_record)
        config.load()
        config.ssl = tls
        super().__init__(config)
        self._on_listening = on_listening
        self._unix_listener = unix_listener
        self._on_start: Callable[[], object] = getattr(app, "on_start", lambda: None)
        if hasattr(app, "ports"):
            app.ports = Ports(self, host, getattr(app, "port_range", None))

    def protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            if self._unix_listener is not None:
                loop = asyncio.get_running_loop()
                self.servers.append(await loop.create_unix_server(self.protocol, sock=self._unix_listener))
            self._on_start()
            self._on_listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait some seconds for open requests, then close their connections."""
        await super().shutdown(sockets)
        for connection in [*self.server_state.connections]:
            connection.transport.abort()
        if self.server_state.tasks:  # over TLS they end after the connection
            await asyncio.wait(self.server_state.tasks, timeout=GRACE_SECONDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; at the second signal at once. uvicorn's own raises the signal again afterwards."""
        self.force_exit = self.should_exit
        self.should_exit = True


def _mask_record(record: logging.LogRecord) -> bool:
    """Mask secrets of requests in a log record of uvicorn."""
    record.msg, record.args = mask_text(record.getMessage()), ()
    if record.exc_info is not None and record.exc_info[1] is not None:
        record.exc_text, record.exc_info = mask_error(record.exc_info[1]), None
    return True
