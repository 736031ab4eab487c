"""httpx's transports to an app in this process: no socket, and all that goes wrong on one.

A reset, a cut answer and a read that takes too long are raised as httpx raises them over a
connection. The only door to httpx.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

import httpx

from oceanmock.client.near import Address, End, Head, Near, Part, Request
from oceanmock.errors import EnvironmentProblem


class NearTransport(httpx.BaseTransport):
    """Asks an app in this process, as if at an address."""

    def __init__(self, near: Near, server: Address) -> None:
        self._near = near
        self._server = server

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request; its body comes while it is read."""
        parts = SimpleQueue[Part]()
        asked = _request(request, request.read())
        with _named(request):
            leave = self._near.ask(asked, parts.put, server=self._server)
            head = _expected_head(_next(parts, request, leave))
        return httpx.Response(
            head.status,
            headers=list(head.headers),
            stream=_Stream(parts, request, leave),
            extensions={"http_version": b"HTTP/1.1"},
            request=request,
        )


class AsyncNearTransport(httpx.AsyncBaseTransport):
    """The same for an asynchronous client, on whatever asyncio loop it runs."""

    def __init__(self, near: Near, server: Address) -> None:
        self._near = near
        self._server = server

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request; its body comes while it is read."""
        loop, parts = _running_loop(), asyncio.Queue[Part]()

        def tell(part: Part) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(parts.put_nowait, part)

        asked = _request(request, await request.aread())
        with _named(request):
            leave = self._near.ask(asked, tell, server=self._server)
            head = _expected_head(await _next_async(parts, request, leave))
        return httpx.Response(
            head.status,
            headers=list(head.headers),
            stream=_AsyncStream(parts, request, leave),
            extensions={"http_version": b"HTTP/1.1"},
            request=request,
        )


def transport_to(near: Near, server: Address) -> httpx.BaseTransport:
    """A transport to an app in this process."""
    return NearTransport(near, server)


def async_transport_to(near: Near, server: Address) -> httpx.AsyncBaseTransport:
    """An asynchronous transport to an app in this process."""
    return AsyncNearTransport(near, server)


def far_transport() -> httpx.BaseTransport:
    """httpx's own, over a connection."""
    return httpx.HTTPTransport()


def far_async_transport() -> httpx.AsyncBaseTransport:
    """httpx's own, over a connection."""
    return httpx.AsyncHTTPTransport()


class _Stream(httpx.SyncByteStream):
    def __init__(
        self, parts: SimpleQueue[Part], request: httpx.Request, leave: Callable[[], None]
    ) -> None:
        self._parts, self._request, self._leave = parts, request, leave

    def __iter__(self) -> Iterator[bytes]:
        with _named(self._request):
            while (part := _next(self._parts, self._request, self._leave)) is not End.WHOLE:
                yield _expected_piece(part)

    def close(self) -> None:
        """Hangs up."""
        self._leave()


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(
        self, parts: asyncio.Queue[Part], request: httpx.Request, leave: Callable[[], None]
    ) -> None:
        self._parts, self._request, self._leave = parts, request, leave

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _named(self._request):
            while (
                part := await _next_async(self._parts, self._request, self._leave)
            ) is not End.WHOLE:
                yield _expected_piece(part)

    async def aclose(self) -> None:
        """Hangs up."""
        self._leave()


# --- what is asked, and what comes ----------------------------------------------------------------


def _request(request: httpx.Request, body: bytes) -> Request:
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    return Request(request.method, request.url.raw_path, headers, body, request.url.scheme)


def _running_loop() -> asyncio.AbstractEventLoop:
    """asyncio's. Raises EnvironmentProblem under any other, such as trio's."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise EnvironmentProblem(
            "`async_transport` goes with asyncio, which does not run here. Without `transport=…` "
            "httpx.AsyncClient asks over a connection, under trio too."
        ) from None


def _patience(request: httpx.Request) -> float | None:
    """How long a read may take; seconds."""
    patience: float | None = request.extensions.get("timeout", {}).get("read")
    return patience


def _next(parts: SimpleQueue[Part], request: httpx.Request, leave: Callable[[], None]) -> Part:
    try:
        return parts.get(timeout=_patience(request))
    except Empty:
        leave()
        raise httpx.ReadTimeout("timed out") from None


async def _next_async(
    parts: asyncio.Queue[Part], request: httpx.Request, leave: Callable[[], None]
) -> Part:
    try:
        return await asyncio.wait_for(parts.get(), _patience(request))
    except TimeoutError:
        leave()
        raise httpx.ReadTimeout("timed out") from None
    except asyncio.CancelledError:
        leave()
        raise


def _expected_head(part: Part) -> Head:
    if isinstance(part, Head):
        return part
    if part is End.RESET:
        raise httpx.ReadError("[Errno 104] Connection reset by peer")
    raise httpx.RemoteProtocolError("Server disconnected without sending a response.")


def _expected_piece(part: Part) -> bytes:
    if isinstance(part, bytes):
        return part
    if part is End.RESET:
        raise httpx.ReadError("[Errno 104] Connection reset by peer")
    raise httpx.RemoteProtocolError(
        "peer closed connection without sending complete message body (incomplete message)"
    )


@contextmanager
def _named(request: httpx.Request) -> Iterator[None]:
    """Errors say which request they are about, as httpx's do."""
    try:
        yield
    except httpx.TransportError as error:
        error.request = request
        raise
