"""An app in this process, asked without a socket, on the event loop that its server runs on.

An exchange tells, part by part and on that loop, what a connection would carry: the head of the
answer, pieces of its body, and how it ended. Who waits for the parts, and how, is not known here.
The rule: an exchange always ends, also where the server stops in the middle of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum
from queue import Empty, SimpleQueue
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from oceanmock.client.admin import Wire

Address = tuple[str, int]
AsgiApp = Callable[..., Any]
Pairs = Sequence[tuple[bytes, bytes]]

CUT: Final = "oceanmock.cut"
"""Where the app finds, in a request's scope, what cuts its connection."""
PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer."""

    status: int
    headers: Pairs


class End(Enum):
    """How an answer ended: whole, before all of it had come, or by a reset."""

    WHOLE = "whole"
    CUT = "cut"
    RESET = "reset"


Part = Head | bytes | End
Tell = Callable[[Part], object]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it would be written to a connection; ``target`` is a path and maybe a query."""

    method: str
    target: bytes
    headers: Pairs
    body: bytes = b""
    scheme: str = "http"


@dataclass(frozen=True, slots=True)
class Near:
    """An app, and what gives the loop it is served on, or raises where it is served no more."""

    app: AsgiApp
    loop: Callable[[], asyncio.AbstractEventLoop]

    def ask(self, request: Request, tell: Tell, *, server: Address) -> Callable[[], None]:
        """Asks as if at an address; ``tell`` hears the parts of the answer. Gives what hangs up."""
        loop = self.loop()
        exchange = _Exchange(request, tell)
        asyncio.run_coroutine_threadsafe(exchange.run(self.app, server), loop)

        def leave() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(exchange.gone.set)

        return leave

    def wire(self, url: str) -> Wire:
        """What carries the requests of the admin API's client, as if to the server's URL."""
        parts = urlsplit(url)
        server = (parts.hostname or "", parts.port or 0)

        def carry(
            method: str, target: str, headers: Mapping[str, str], body: bytes | None
        ) -> tuple[int, Mapping[str, str], bytes]:
            said = {"host": parts.netloc, "content-length": str(len(body or b"")), **headers}
            pairs = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in said.items()]
            heard = SimpleQueue[Part]()
            request = Request(method, target.encode("latin-1"), pairs, body or b"", parts.scheme)
            self.ask(request, heard.put, server=server)
            return _whole(heard)

        return carry


def _whole(parts: SimpleQueue[Part]) -> tuple[int, Mapping[str, str], bytes]:
    """A whole answer. Raises OSError where it does not come."""
    head, body = Head(0, ()), b""
    while True:
        try:
            part = parts.get(timeout=PATIENCE)
        except Empty:
            raise TimeoutError("it does not answer") from None
        if isinstance(part, Head):
            head = part
        elif isinstance(part, bytes):
            body += part
        elif part is End.WHOLE:
            return head.status, {k.decode(): v.decode("latin-1") for k, v in head.headers}, body
        else:
            raise ConnectionResetError("it has stopped")


class _Exchange:
    """One request and its answer, on the server's loop."""

    def __init__(self, request: Request, tell: Tell) -> None:
        self.gone = asyncio.Event()
        self._request = request
        self._tell = tell
        self._is_read = False
        self._has_ended = False

    async def run(self, app: AsgiApp, server: Address) -> None:
        """Lets the app answer."""
        try:
            await app(self._scope(server), self._receive, self._send)
        finally:
            self._end(End.CUT)

    def _scope(self, server: Address) -> dict[str, Any]:
        request = self._request
        path, _, query = request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": server,
            "client": ("127.0.0.1", 0),
            "scheme": request.scheme,
            "method": request.method,
            "root_path": "",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "headers": list(request.headers),
            CUT: self._cut,
        }

    async def _receive(self) -> dict[str, Any]:
        if not self._is_read:
            self._is_read = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if self._has_ended:
            return
        if message["type"] == "http.response.start":
            date = (b"date", formatdate(usegmt=True).encode())
            self._tell(Head(message["status"], [date, *message.get("headers", ())]))
            return
        if message.get("body") and self._request.method != "HEAD":
            self._tell(bytes(message["body"]))
        if not message.get("more_body"):
            self._end(End.WHOLE)

    def _cut(self, *, reset: bool) -> None:
        self._end(End.RESET if reset else End.CUT)
        self.gone.set()

    def _end(self, how: End) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._tell(how)
