"""The app: which sandbox a request means, and the contracts as that sandbox has them.

A sandbox is meant by the port a request came to, by its header ``X-Oceanmock-Sandbox``, or by a
path that begins with ``/sandboxes/{name}``; otherwise it is ``default``. A request that names two
is refused, so that what belongs to one never reaches another. All are served by the same few
connexion apps, one for each variant of the contracts that their switches ask for, made when first
needed: so a sandbox costs nothing but its own state.
"""

from __future__ import annotations

from asyncio import CancelledError, timeout
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Final

import orjson

from oceanmock.api import ApiError, Headers, Request
from oceanmock.clock import SECOND, Clock, stopwatch, wall_now
from oceanmock.engine.accounts import Accounts
from oceanmock.engine.faults import InjectedFault, mangle
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.sandboxes import NoSuchSandbox, Sandboxes, TwoSandboxes
from oceanmock.http import admin
from oceanmock.http.admin import AdminContext, Ports
from oceanmock.http.admin_scenarios import ScenarioCatalog
from oceanmock.http.pipeline import (
    REQUEST,
    SANDBOX,
    AsgiApp,
    Message,
    Receive,
    Scope,
    Send,
    build_app,
    response_start,
)
from oceanmock.obshell import handlers as obshell
from oceanmock.obshell.crypto import make_key
from oceanmock.obshell.versions import contract_version
from oceanmock.obshell.world import Dags
from oceanmock.ocp import handlers as ocp
from oceanmock.ocp.world import Tasks
from oceanmock.scenario.fields import BaseScenario

SANDBOX_HEADER: Final = b"x-oceanmock-sandbox"
SANDBOX_PATH: Final = "/sandboxes/"
CUT: Final = "oceanmock.cut"
"""Where the scope of a request holds what cuts its connection, if the server knows how to."""


def create_app(
    sandbox: Sandbox,
    *,
    accounts: Accounts | None = None,
    token: str | None = None,
    scenarios: Iterable[BaseScenario] = (),
    wall: Callable[[], int] = wall_now,
) -> App:
    """The ASGI app that serves one sandbox, by the contracts of OCP and of obshell.

    ``accounts`` go before the sandbox's own; where none are required, obshell takes plain JSON from
    anybody as well. ``token`` lets other machines into the admin API. ``scenarios`` are those that
    further sandboxes can be created from by name, beside the library's. ``wall`` is what the age of
    credentials goes by: clients date them by their own machine's clock. Raises AuthorError when a
    contract and its handlers do not match.
    """
    if accounts is not None:
        sandbox.accounts = accounts
    return App(Sandboxes(sandbox), token=token, scenarios=scenarios, wall=wall)


class App:
    """Every sandbox of a server, served, and the admin API that drives them."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        *,
        token: str | None = None,
        scenarios: Iterable[BaseScenario] = (),
        wall: Callable[[], int] = wall_now,
    ) -> None:
        self.sandboxes: Final = sandboxes
        self._kit = AdminContext(sandboxes, ScenarioCatalog(scenarios), token=token)
        self._backstage = Sandbox(Clock())  # the admin API's own: no fault of another strikes it
        self._contracts = _Contracts(wall)
        self._contracts.of(sandboxes.default)  # now, so that a mistake in a contract shows here

    @property
    def ports(self) -> Ports | None:
        """What opens further ports; the server brings it, once there is one."""
        return self._kit.ports

    @ports.setter
    def ports(self, ports: Ports | None) -> None:
        self._kit.ports = ports

    @cached_property
    def _admin(self) -> AsgiApp:
        """The admin API, made when it is first asked."""
        app: AsgiApp = build_app([admin.api(self._kit)])
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["path"].startswith(admin.PREFIX):
            scope[SANDBOX] = self._backstage
            await self._admin(scope, receive, send)
            return
        try:
            sandbox = self._choose(scope)
        except NoSuchSandbox as error:
            await _send_plainly(send, 404, str(error))
            return
        except TwoSandboxes as error:
            await _send_plainly(send, 400, str(error))
            return
        scope[SANDBOX] = sandbox
        exchange = _Exchange(scope, receive, send)
        await self._contracts.of(sandbox)(scope, receive, exchange.take)
        await exchange.send_on(sandbox)

    def _choose(self, scope: Scope) -> Sandbox:
        """The sandbox a request means. Raises NoSuchSandbox, TwoSandboxes."""
        names = list(self._names(scope))
        if not names:
            return self.sandboxes.default
        if len(set(names)) > 1:
            raise TwoSandboxes(*dict.fromkeys(names))
        return self.sandboxes.get(names[0])

    def _names(self, scope: Scope) -> Iterator[str]:
        """Every name of a sandbox that a request has; takes it out of the path."""
        _, port = scope.get("server") or ("", None)
        if port in self.sandboxes.ports:
            yield self.sandboxes.ports[port]
        for key, value in scope["headers"]:
            if key == SANDBOX_HEADER:
                yield value.decode("latin-1")
        root: str = scope.get("root_path", "")
        path: str = scope["path"].removeprefix(root)
        if path.startswith(SANDBOX_PATH):
            name, slash, rest = path.removeprefix(SANDBOX_PATH).partition("/")
            scope["path"] = root + slash + rest
            yield name


class _Contracts:
    """The connexion apps, one for each variant of the contracts."""

    def __init__(self, wall: Callable[[], int]) -> None:
        self._wall = wall
        self._key = make_key()
        self._apps: dict[tuple[bool, tuple[int, ...]], AsgiApp] = {}

    def of(self, sandbox: Sandbox) -> AsgiApp:
        """The app by which a sandbox is served."""
        undocumented = sandbox.world(Tasks).switches.undocumented_task_path
        version = contract_version(sandbox.world(Dags).switches.obshell_version)
        app = self._apps.get((undocumented, version))
        if app is None:
            app = self._apps[undocumented, version] = build_app(
                [
                    ocp.api(undocumented_path=undocumented, wall=self._wall),
                    obshell.api(version, wall=self._wall, key=self._key),
                ]
            )
        return app


class _Gone(Exception):
    """The client has gone away; nobody waits for the rest."""


class _Exchange:
    """One request and its answer: what goes wrong with it on purpose, and what the journal keeps.

    The answer, one start and one body, is taken in whole before any of it is sent, so that no fault
    is met by those who made it. It is written down before its last byte leaves: who has an answer
    finds it in the journal.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._began = stopwatch()
        self._wall = wall_now()
        self._start: Message | None = None
        self._status: int | None = None
        self._body = b""

    async def take(self, message: Message) -> None:
        """Takes in a part of the answer."""
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self._body = message["body"]

    async def send_on(self, sandbox: Sandbox) -> None:
        """Sends the answer, or what a fault leaves of it; there is none for a client that left."""
        request: Request = self._scope[REQUEST]
        start = self._start
        if start is None:
            request.error = "The client went away before its request was complete."
            self._record(sandbox, request)
        elif request.fault is None:
            self._status = start["status"]
            self._record(sandbox, request)
            await self._send(start)
            await self._send({"type": "http.response.body", "body": self._body})
        else:
            try:
                await self._strike(sandbox, request, request.fault, start)
            except _Gone:
                request.error = request.error or "The client did not wait for the answer."
                self._record(sandbox, request)
            except CancelledError:
                if CUT not in self._scope:
                    raise
                await self._cut(reset=False)  # the server stops, and waits no longer

    async def _strike(
        self, sandbox: Sandbox, request: Request, strike: InjectedFault, start: Message
    ) -> None:
        """The answer as the fault leaves it, late, in pieces, cut off, or not at all."""
        answered, self._body = self._body, b""
        await self._wait(strike.delay)
        if strike.resets:
            self._record(sandbox, request)
            await self._cut(reset=True)
            return
        if strike.status is not None and strike.carries_out:
            start, answered = _other_answer(request, strike.status)
        status = start["status"] if strike.carries_out or strike.status is not None else 200
        sent = mangle(strike, status, start["headers"], answered)
        self._status = sent.status
        self._start = {**start, "status": sent.status, "headers": list(sent.headers)}
        await self._send(self._start)
        *pieces, last = sent.chunks or (b"",)
        for piece in pieces:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            self._body += piece
            await self._wait(sent.pause)
        self._body += last
        self._record(sandbox, request)
        await self._send({"type": "http.response.body", "body": last, "more_body": sent.is_cut})
        if sent.is_cut:
            await self._cut(reset=False)

    async def _wait(self, span: int) -> None:
        """Waits so many nanoseconds of the machine's time. Raises _Gone when the client leaves."""
        if not span:
            return
        try:
            async with timeout(span / SECOND):
                await self._until_gone()
        except TimeoutError:
            return
        raise _Gone

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _cut(self, *, reset: bool) -> None:
        """Ends the connection, or resets it; raises ConnectionResetError where nothing can."""
        cut = self._scope.get(CUT)
        if cut is None:
            raise ConnectionResetError("the connection was cut on purpose")
        cut(reset=reset)
        await self._until_gone()

    def _record(self, sandbox: Sandbox, request: Request) -> None:
        """Writes it down in the sandbox's journal."""
        headers = () if self._status is None or self._start is None else self._start["headers"]
        sandbox.journal.record(
            at=request.received_at,
            wall=self._wall,
            took=stopwatch() - self._began,
            api=request.service.name,
            operation=request.operation.id if request.operation else "",
            method=request.method,
            path=request.path,
            query=request.query.decode("latin-1"),
            ids=request.path_values,
            caller=request.caller,
            request_headers=_texts(request.headers),
            request_body=request.body,
            status=self._status,
            response_headers=_texts(headers),
            response_body=self._body,
            refusal=request.error,
            fault=request.fault.name if request.fault else "",
        )


def _other_answer(request: Request, status: int) -> tuple[Message, bytes]:
    """The answer of this status in the API's envelope, in place of what the operation said."""
    answer = request.service.render_error(request, ApiError("fault", "", status=status))
    return response_start(answer, request.service.encode)


def _texts(headers: Headers) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


async def _live(receive: Receive, send: Send) -> None:
    """Says that it has started, and that it has stopped; there is nothing to do for either."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _send_plainly(send: Send, status: int, message: str) -> None:
    """An answer of oceanmock's own, in no API's envelope."""
    body = orjson.dumps({"error": message})
    start: Message = {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})
