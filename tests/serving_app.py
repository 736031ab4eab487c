"""An app over a socket, for what only a socket has: ports, connections, threads.

One app serves a whole test module, since to make one takes a tenth of a second; each test has a
sandbox of its own in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from command import PATIENCE
from in_process import AFTERNOON, REINSTALL
from oceanmock.apis import make_sandbox
from oceanmock.engine.log import AddFault, SandboxSpec
from oceanmock.engine.sandbox import Sandbox, Sandboxes
from oceanmock.http.app import SANDBOX_PATH, App
from oceanmock.http.server import Ports, Server
from oceanmock.library import read_fault, read_scenario

MANAGER: Final = ("manager", "manager")
NO_TLS: Final = SSLContext(PROTOCOL_TLS_CLIENT)
"""For clients that speak no TLS; to read the machine's certificates takes each of them a while."""
Done = TypeVar("Done")


class OnLoop(App):
    """An app that knows the event loop it is served on."""

    loop: asyncio.AbstractEventLoop

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.loop = asyncio.get_running_loop()
        await super().__call__(scope, receive, send)

    def do(self, act: Callable[[], Done]) -> Done:
        """What an act gives back that is done on that loop."""

        async def done() -> Done:
            return act()

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(PATIENCE)

    def until(self, holds: Callable[[], bool]) -> None:
        """Turns the loop until something holds."""

        async def turn() -> None:
            async with asyncio.timeout(PATIENCE):
                while not holds():
                    await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(turn(), self.loop).result(PATIENCE)


@dataclass(frozen=True, slots=True)
class World:
    """A sandbox that is served, and a client of its own that asks it as a manager."""

    app: OnLoop
    sandbox: Sandbox
    client: httpx.Client

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Asks the sandbox."""
        return self.client.request(method, path, **options)

    def strike(self, **said: Any) -> str:
        """Adds a fault, as the admin API would; its name."""
        name: str = self.sandbox.execute(AddFault(read_fault(said)))
        return name


@dataclass(frozen=True, slots=True)
class Serving:
    """An app that is served."""

    app: OnLoop
    server: Server
    clients: ExitStack
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def url(self) -> str:
        """Where it is served."""
        return self.server.url

    @property
    def tasks(self) -> set[Any]:
        """The requests that are not done with."""
        return self.server._uvicorn.server_state.tasks

    def create(self, *texts: str, name: str | None = None, **options: Any) -> Sandbox:
        """A further sandbox of these scenarios, at a standstill in August 2021."""
        scenarios = [read_scenario(text) for text in texts or (REINSTALL,)]
        options = {"starts_at": AFTERNOON, "seed": 1, "progression": "manual", **options}

        spec = SandboxSpec(tuple(scenarios), **options)
        return self.app.sandboxes.create(name or f"world-{next(self._numbers)}", spec)

    def world(self, *texts: str, **options: Any) -> World:
        """A further sandbox, and a client that asks for it by its path."""
        sandbox = self.create(*texts, **options)
        return World(self.app, sandbox, self.client(f"{SANDBOX_PATH}{sandbox.name}"))

    def client(self, path: str = "", **options: Any) -> httpx.Client:
        """A client whose paths begin with this one; a manager's."""
        given: dict[str, Any] = {"auth": MANAGER, "verify": NO_TLS} | options
        client = httpx.Client(base_url=self.url + path, **given)
        return self.clients.enter_context(client)

    def open_port(self, sandbox: Sandbox) -> int:
        """Gives a sandbox a port of its own."""
        port = self.app.do(lambda: ports_of(self.app).open())
        self.app.sandboxes.ports[port] = sandbox.name
        return port

    def delete(self, name: str) -> None:
        """Deletes a sandbox, and closes the ports that were its own."""

        def act() -> None:
            for port in self.app.sandboxes.delete(name):
                ports_of(self.app).close(port)

        self.app.do(act)

    def at(self, port: int) -> str:
        """The URL of one of its ports."""
        return f"http://{urlsplit(self.url).hostname}:{port}"


def ports_of(app: App) -> Ports:
    """What opens further ports; there is something, once an app is served."""
    assert isinstance(app.ports, Ports)
    return app.ports


@contextmanager
def serving_app() -> Iterator[Serving]:
    """An app with an empty default sandbox, over a socket."""
    app = OnLoop(Sandboxes(make_sandbox(progression="manual", starts_at=AFTERNOON)))
    with Server(app) as server, ExitStack() as clients:
        yield Serving(app, server, clients)
