"""Hold obshell's worlds as engine sandboxes, for tests that read what HTTP does not show."""

from __future__ import annotations

from functools import cache
from typing import Any

import httpx

from in_process import Ask, asking, sandbox_of
from obshell_world import INIT
from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.log import Accounts
from oceanmock.engine.sandbox import Sandbox
from oceanmock.http.app import App, create_app


def world(dags: str, *, head: str = "", **options: Any) -> Sandbox:
    """A sandbox of these dags (a list in YAML), at a standstill; ``head`` is further keys."""
    text = f"summary: A\napi: obshell\nprogression: manual\n{head}\ndags: {dags}\n"
    return sandbox_of(text, **options)


def failed(text: str = INIT, **options: Any) -> Sandbox:
    """A sandbox long after its dags have ended."""
    sandbox = sandbox_of(text, **options)
    sandbox.advance(60 * SECOND)
    return sandbox


def plain(sandbox: Sandbox) -> Ask:
    """Asks a sandbox in plain JSON, as `--auth off` lets anybody."""
    sandbox.accounts = Accounts(required=False)
    return guarded(sandbox)


def guarded(sandbox: Sandbox) -> Ask:
    """Asks a sandbox that wants to know who asks."""
    app = _app()
    name = f"world-{len(app.sandboxes)}"
    app.sandboxes._by_name[name] = sandbox

    def ask(method: str, url: str, *, headers: Any = (), **options: Any) -> httpx.Response:
        chosen = {**dict(headers), "X-Oceanmock-Sandbox": name}
        return asking(app)(method, url, headers=chosen, **options)

    return ask


@cache
def _app() -> App:
    """One app for all worlds: to make one takes a tenth of a second."""
    return create_app(make_sandbox(progression="manual"))
