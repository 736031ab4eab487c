"""A server's app with its admin API, for the tests of both: one sandbox at a standstill in it."""

from __future__ import annotations

from functools import cache
from typing import Any

from conftest import REINSTALL, sandbox_of
from oceanmock.apis import admin
from oceanmock.app import App
from oceanmock.clock import Clock
from oceanmock.contracts_app import SANDBOX, app_of
from oceanmock.engine.sandbox import Sandbox
from oceanmock.sandboxes import Sandboxes

NEAR = ("127.0.0.1", 50000)
FAR = ("192.0.2.7", 50000)


class World:
    """The APIs, and the admin API over them.

    ``client`` is where every request to that seems to come from.
    """

    def __init__(
        self,
        sandbox: Sandbox | None = None,
        *,
        token: str | None = None,
        client: tuple[str, int] | None = NEAR,
    ) -> None:
        self.sandboxes = Sandboxes(sandbox or sandbox_of(REINSTALL))
        self.kit = admin.Kit(self.sandboxes, token=token)
        self.client = client
        self.ports: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        apis, kit, admin_app = _apps()
        self.kit.ports = self.ports
        apis.sandboxes = self.sandboxes
        kit.now = self.kit
        if scope["type"] == "http" and scope["path"].startswith(admin.PREFIX):
            scope |= {SANDBOX: NOBODY, "client": self.client}
            await admin_app(scope, receive, send)
        else:
            await apis(scope, receive, send)


class KitInUse:
    """The kit of the world that is asked: compiling the contracts anew for each takes too long."""

    now: admin.Kit

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)


NOBODY = Sandbox(Clock())


@cache
def _apps() -> tuple[Any, KitInUse, Any]:
    kit: Any = KitInUse()
    return App(Sandboxes(NOBODY)), kit, app_of([admin.api(kit)])
