"""The app: which sandbox a request means, and the contracts as that sandbox has them.

A sandbox is meant by the port a request came to, by its header ``X-Oceanmock-Sandbox``, or by a
path that begins with ``/sandboxes/{name}``; otherwise it is ``default``. All are served by the same
few connexion apps, one for each variant of the contracts that their switches ask for, made when
first needed: so a sandbox costs nothing but its own state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson

from oceanmock.apis import obshell, ocp
from oceanmock.apis.obshell_crypto import make_key
from oceanmock.clock import wall_now
from oceanmock.contracts_app import SANDBOX, AsgiApp, Message, Receive, Scope, Send, app_of
from oceanmock.engine.accounts import Accounts
from oceanmock.engine.sandbox import Sandbox
from oceanmock.sandboxes import NoSuchSandbox, Sandboxes

SANDBOX_HEADER: Final = b"x-oceanmock-sandbox"
SANDBOX_PATH: Final = "/sandboxes/"


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
        await self._contracts.of(sandbox)(scope, receive, send)

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
