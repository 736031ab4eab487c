"""Run a sandbox in this process and send its app requests, for tests of what HTTP does not show."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx

from oceanmock.apis import make_sandbox
from oceanmock.engine.log import SandboxSpec
from oceanmock.engine.sandbox import Sandbox
from oceanmock.library import load_scenario, read_scenario
from served import REINSTALL

__all__ = ["AFTERNOON", "REINSTALL", "Ask", "asking", "calls_in", "of_library", "sandbox_of", "spec_of"]

Ask = Callable[..., httpx.Response]

AFTERNOON = int(datetime.fromisoformat("2021-08-25T15:09:31.740+08:00").timestamp() * 1000) * 10**6


def spec_of(text: str, **options: Any) -> SandboxSpec:
    """The specification of that sandbox."""
    return SandboxSpec((read_scenario(text),), **{"starts_at": AFTERNOON, "seed": 1, **options})


def sandbox_of(text: str, **options: Any) -> Sandbox:
    """A sandbox of one scenario, at a standstill in August 2021."""
    options = {"starts_at": AFTERNOON, "seed": 1, **options}
    return make_sandbox([read_scenario(text)], **options)


def of_library(name: str) -> Sandbox:
    """A scenario of the library, at a standstill."""
    return make_sandbox([load_scenario(name)], progression="manual", starts_at=AFTERNOON)


async def _asked(app: Any, method: str, url: str, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.request(method, url, **{"auth": ("manager", "manager")} | options)


def asking(app: Any) -> Ask:
    """Asks an app, in process and as a manager: ``ask("GET", "/api/…")`` is the answer."""

    def ask(method: str, url: str, **options: Any) -> httpx.Response:
        return asyncio.run(_asked(app, method, url, **options))

    return ask


def calls_in(function: Callable[[], Any]) -> int:
    """Return how many Python functions a function calls."""
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls
