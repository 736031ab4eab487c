"""Share a sandbox with a stopped clock, its app, and a function that sends it requests.

Hypothesis has three profiles. ``fast``, the default, and ``thorough`` try the same examples in
every run; ``explore`` draws new ones and prints how to reproduce a failure:
``pytest -m hypothesis --hypothesis-profile=explore``.

The marker ``blackbox`` is added here to the tests of each file that imports nothing of oceanmock
below its public names. The marker ``slow`` stands in the files; slow tests run with ``-m slow``, or
when their file is named.
"""

import asyncio
import gc
import signal
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings

from imports import is_blackbox
from oceanmock.apis import make_sandbox
from oceanmock.engine.log import SandboxSpec
from oceanmock.engine.sandbox import Sandbox
from oceanmock.http.app import create_app
from oceanmock.library import read_scenario
from served import open_sandboxes

pytest_plugins = ["pytester"]

gc.set_threshold(50_000, 20, 100)  # looking for garbage as often as usual is a sixth of the time

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job that a shell started with &
    signal.signal(signal.SIGINT, signal.default_int_handler)  # child processes inherit the default

any_machine = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", any_machine, derandomize=True, max_examples=25)
settings.register_profile("thorough", any_machine, derandomize=True, max_examples=200)
settings.register_profile(
    "explore", any_machine, derandomize=False, max_examples=200, print_blob=True
)
settings.load_profile("fast")


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.markexpr and not any(".py" in argument for argument in config.args):
        config.option.markexpr = "not slow"


@pytest.hookimpl(tryfirst=True)  # before -m deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_blackbox(item.path):
            item.add_marker("blackbox")


@pytest.fixture(autouse=True)
def _close_worlds() -> Iterator[None]:
    before = open_sandboxes()  # those of fixtures with a wider scope
    yield
    for sandbox in open_sandboxes() - before:
        sandbox.close()


Ask = Callable[..., httpx.Response]

REINSTALL = """
summary: The documents' own sample, but its second subtask fails on its first run
api: ocp
progression: manual
tasks:
  - id: 35000312
    name: Reinstall OCP agent
    creator: {id: 100, name: admin}
    executor: 192.168.0.1
    subtasks:
      - {id: 13000336, series_id: 0, name: Install ocp agent, needs: [13000333], timeout: 90m}
      - {id: 13000334, series_id: 1, name: Finish reinstalling OCP agent, needs: [13000336]}
      - id: 13000333
        series_id: 2
        name: Uninstall ocp agent
        needs: [13000335]
        attempts:
          - {takes: 2s, ends: FAILED, log: [connecting, still connecting, Connection refused]}
          - {takes: 2s, log: [connecting, done]}
      - {id: 13000335, series_id: 3, name: Prepare reinstalling OCP agent, needs: []}
"""
AFTERNOON = int(datetime.fromisoformat("2021-08-25T15:09:31.740+08:00").timestamp() * 1000) * 10**6


def spec_of(text: str, **options: Any) -> SandboxSpec:
    """The specification of that sandbox."""
    return SandboxSpec((read_scenario(text),), **{"starts_at": AFTERNOON, "seed": 1, **options})


def sandbox_of(text: str, **options: Any) -> Sandbox:
    """A sandbox of one scenario, at a standstill in August 2021."""
    options = {"starts_at": AFTERNOON, "seed": 1, **options}
    return make_sandbox([read_scenario(text)], **options)


async def _asked(app: Any, method: str, url: str, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://mock") as client:
        return await client.request(method, url, **{"auth": ("manager", "manager")} | options)


def asking(app: Any) -> Ask:
    """Asks an app, in process and as a manager: ``ask("GET", "/api/…")`` is the answer."""

    def ask(method: str, url: str, **options: Any) -> httpx.Response:
        return asyncio.run(_asked(app, method, url, **options))

    return ask


@pytest.fixture
def sandbox() -> Sandbox:
    return sandbox_of(REINSTALL)


@pytest.fixture
def ask(sandbox: Sandbox) -> Ask:
    return asking(create_app(sandbox))
