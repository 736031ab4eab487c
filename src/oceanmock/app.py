"""The app: which sandbox a request means, and the contracts as that sandbox has them.

A sandbox is meant by the port a request came to, by its header ``X-Oceanmock-Sandbox``, or by a
path that begins with ``/sandboxes/{name}``; otherwise it is ``default``. All are served by the same
few connexion apps, one for each variant of the contracts that their switches ask for, made when
first needed: so a sandbox costs nothing but its own state.
"""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Callable
from typing import Final

import orjson

from oceanmock.apis import obshell, ocp
from oceanmock.apis.api import Call, Headers, Refused
from oceanmock.apis.obshell_crypto import make_key
from oceanmock.clock import SECOND, stopwatch, wall_now
from oceanmock.contracts_app import (
    CALL,
    SANDBOX,
    AsgiApp,
    Message,
    Receive,
    Scope,
    Send,
    app_of,
    start_of,
)
from oceanmock.engine.accounts import Accounts
from oceanmock.engine.sandbox import Sandbox
from oceanmock.faults import Strike, mangle
from oceanmock.sandboxes import NoSuchSandbox, Sandboxes

SANDBOX_HEADER: Final = b"x-oceanmock-sandbox"
SANDBOX_PATH: Final = "/sandboxes/"
CUT: Final = "oceanmock.cut"
"""Where the scope of a request holds what cuts its connection, if the server knows how to."""


def create_app(
    sandbox: Sandbox, *, accounts: Accounts | None = None, wall: Callable[[], int] = wall_now
) -> App:
    """The ASGI app that serves one sandbox, by the contracts of OCP and of obshell.

    ``accounts`` go before the sandbox's own; where none are required, obshell takes plain JSON from
    anybody as well. ``wall`` is what the age of credentials goes by: clients date them by their own
    machine's clock. Raises AuthorError when a contract and its handlers do not match.
    """
    if accounts is not None:
        sandbox.accounts = accounts
    return App(Sandboxes(sandbox), wall=wall)


class App:
    """Every sandbox of a server, served."""

    def __init__(self, sandboxes: Sandboxes, *, wall: Callable[[], int] = wall_now) -> None:
        self.sandboxes: Final = sandboxes
        self._contracts = _Contracts(wall)
        self._contracts.of(sandboxes.default)  # now, so that a mistake in a contract shows here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        try:
            sandbox = self._choose(scope)
        except NoSuchSandbox as error:
            await _send_plainly(send, 404, str(error))
            return
        scope[SANDBOX] = sandbox
        exchange = _Exchange(scope, receive, send)
        await self._contracts.of(sandbox)(scope, receive, exchange.send)
        exchange.record(sandbox)

    def _choose(self, scope: Scope) -> Sandbox:
        """The sandbox a request means; takes its name out of the path. Raises NoSuchSandbox."""
        path: str = scope["path"]
        if path.startswith(SANDBOX_PATH):
            name, slash, rest = path.removeprefix(SANDBOX_PATH).partition("/")
            scope["path"] = slash + rest
            return self.sandboxes.get(name)
        for key, value in scope["headers"]:
            if key == SANDBOX_HEADER:
                return self.sandboxes.get(value.decode("latin-1"))
        _, port = scope.get("server") or ("", 0)
        owner = self.sandboxes.ports.get(port)
        return self.sandboxes.default if owner is None else self.sandboxes.get(owner)


class _Contracts:
    """The connexion apps, one for each variant of the contracts."""

    def __init__(self, wall: Callable[[], int]) -> None:
        self._wall = wall
        self._key = make_key()
        self._apps: dict[tuple[bool, tuple[int, ...]], AsgiApp] = {}

    def of(self, sandbox: Sandbox) -> AsgiApp:
        """The app by which a sandbox is served."""
        undocumented = sandbox.tasks.switches.undocumented_task_path
        version = obshell.contract_version(sandbox.dags.switches.obshell_version)
        app = self._apps.get((undocumented, version))
        if app is None:
            app = self._apps[undocumented, version] = app_of(
                [
                    ocp.api(undocumented_path=undocumented, wall=self._wall),
                    obshell.api(version, wall=self._wall, key=self._key),
                ]
            )
        return app


class _Exchange:
    """One request and its answer: what goes wrong with it on purpose, and what the journal keeps.

    Whatever answers, it is one start and one body; a fault may make more, less or nothing of them.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._began = stopwatch()
        self._wall = wall_now()
        self._start: Message = {}
        self._status: int | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        """Sends the answer on, or what a fault leaves of it."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        strike = self._scope[CALL].strike
        if strike is not None:
            await self._strike(strike, message["body"])
            return
        self._status, self._body = self._start["status"], message["body"]
        await self._send(self._start)
        await self._send(message)

    async def _strike(self, strike: Strike, body: bytes) -> None:
        """The answer as the fault leaves it, late, in pieces, cut off, or not at all."""
        await sleep(strike.delay / SECOND)
        if strike.resets:
            await self._cut(reset=True)
            return
        if strike.status is not None and strike.carries_out:
            self._start, body = self._other_answer(strike.status)
        elif not strike.carries_out and strike.status is None:
            self._start["status"] = 200
        sent = mangle(strike, self._start["status"], self._start["headers"], body)
        self._start["status"], self._start["headers"] = sent.status, list(sent.headers)
        self._status, self._body = sent.status, b"".join(sent.chunks)
        await self._send(self._start)
        for number, chunk in enumerate(sent.chunks):
            if number:
                await sleep(sent.pause / SECOND)
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        if sent.is_cut:
            await self._cut(reset=False)
        else:
            await self._send({"type": "http.response.body", "body": b""})

    def _other_answer(self, status: int) -> tuple[Message, bytes]:
        """The answer of this status in the API's envelope, in place of what the operation said."""
        call: Call = self._scope[CALL]
        answer = call.api.render_error(call, Refused("fault", "", status=status))
        return start_of(answer, call.api.encode)

    async def _cut(self, *, reset: bool) -> None:
        """Ends the connection, or resets it; raises ConnectionResetError where nothing can."""
        cut = self._scope.get(CUT)
        if cut is None:
            raise ConnectionResetError("the connection was cut on purpose")
        cut(reset=reset)
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def record(self, sandbox: Sandbox) -> None:
        """Writes it down in the sandbox's journal."""
        call: Call = self._scope[CALL]
        sandbox.journal.record(
            at=call.began,
            wall=self._wall,
            took=stopwatch() - self._began,
            api=call.api.name,
            operation=call.operation.id if call.operation else "",
            method=call.method,
            path=call.path,
            query=call.query.decode("latin-1"),
            ids=call.path_values,
            caller=call.caller,
            request_headers=_texts(call.headers),
            request_body=call.body,
            status=self._status,
            response_headers=() if self._status is None else _texts(self._start["headers"]),
            response_body=self._body,
            refusal=call.refusal,
            fault=call.strike.name if call.strike else "",
        )


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
