"""A server's app with its admin API, for the tests of both: one sandbox at a standstill in it."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from in_process import REINSTALL, sandbox_of
from oceanmock.apis import make_sandbox
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.sandboxes import Sandboxes
from oceanmock.http import ScenarioCatalog
from oceanmock.http.admin import ADMIN_PREFIX
from oceanmock.http.app import App

NEAR = ("127.0.0.1", 50000)
FAR = ("192.0.2.7", 50000)


class World:
    """Sandboxes and what drives them; ``client`` is where every admin request seems to come from.

    All worlds are served by one app, which takes a second to make.
    """

    def __init__(
        self, sandbox: Sandbox | None = None, *, token: str | None = None, client: tuple[str, int] | None = NEAR
    ) -> None:
        self.sandboxes = Sandboxes(sandbox or sandbox_of(REINSTALL))
        self.kit = SimpleNamespace(sandboxes=self.sandboxes, catalog=ScenarioCatalog(), token=token, ports=None)
        self.client = client

    @property
    def ports(self) -> Any:
        """What opens further ports; the server brings it."""
        return self.kit.ports

    @ports.setter
    def ports(self, ports: Any) -> None:
        self.kit.ports = ports

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        app = served_app()
        for name, value in vars(self.kit).items():
            setattr(app, name, value)
        if scope["type"] == "http" and scope["path"].startswith(ADMIN_PREFIX):
            scope["client"] = self.client
        await app(scope, receive, send)


@cache
def served_app() -> Any:
    """The app that serves every world."""
    return App(Sandboxes(make_sandbox()))
