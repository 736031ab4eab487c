"""Serve scenarios on one server per test process, through the public names only.

A World is a scenario in a sandbox of its own, with a stopped clock. It is created by its first
request, so that a test can still choose whether it asks for credentials. conftest closes a test's
worlds after it.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from threading import Thread
from typing import Any, Final

import httpx
import yaml

from command import PATIENCE
from oceanmock import Mock, Obshell, Ocp

Ask = Callable[..., httpx.Response]

MILLISECOND: Final = 10**6
SECOND: Final = 10**9
AFTERNOON: Final = "2021-08-25T15:09:31.740+08:00"
MAX_BODY_BYTES: Final = 1024 * 1024
MANAGER: Final = ("manager", "manager")
REINSTALL: Final = """
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
SERVED_APART = [
    *("backup-tenant", "cluster-of-two", "restore-tenant", "scale-out-refused"),
    *("single-to-tenant", "start-operations", "take-over", "tenant-created-again", "upgrade-cluster"),
]
"""Scenarios of the library whose agents are others, so that no sandbox has them with the rest."""
OF_TWO_AGENTS = {"cluster-of-two", "take-over", "upgrade-cluster"}
"""Those whose stories ask two servers; a conformance run asks one."""


def load_yaml(text: str) -> Any:
    """Return the data of a YAML text; libyaml reads it 8 times as fast as ``yaml.safe_load``."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


@contextmanager
def own_server() -> Iterator[Mock]:
    """Start a server, and do not wait until it has stopped, which takes two ticks of uvicorn."""
    mock = Mock.start()
    yield mock
    Thread(target=mock.stop).start()


class World:
    """A scenario that will be served: its text, its options, and how far its clock is moved."""

    def __init__(self, text: str, **options: Any) -> None:
        self._scenario: dict[str, Any] = load_yaml(text)
        self._options = {"starts_at": AFTERNOON, "seed": 1, "progression": "manual", **options}
        self._advance_ns = 0
        self._sandbox: Ocp | Obshell | None = None

    def advance(self, nanoseconds: int) -> None:
        """Move the clock on."""
        if self._sandbox is None:
            self._advance_ns += nanoseconds
        else:
            self._sandbox.clock.advance(f"{nanoseconds / SECOND:.9f}s")

    @property
    def sandbox(self) -> Ocp | Obshell:
        """Return its sandbox, once it is served."""
        assert self._sandbox is not None
        return self._sandbox

    def now(self) -> datetime:
        """Return the time of its clock, once it is served."""
        return self.sandbox.clock.now()

    def serve(self, *, auth: bool = True) -> Ask:
        """Return a function that sends requests to it: ``ask("GET", "/api/…")``."""
        if self._sandbox is None:
            make = server().ocp if self._scenario["api"] == "ocp" else server().obshell
            self._sandbox = make(self._scenario, auth=auth, **self._options)
            if self._advance_ns:
                self.advance(self._advance_ns)
        url = self._sandbox.url

        def ask(method: str, path: str, **options: Any) -> httpx.Response:
            return client().request(method, url + path, **{"auth": MANAGER} | options)

        return ask


@cache
def server() -> Mock:
    """Return the server of this process."""
    mock = Mock.start()
    atexit.register(mock.stop)
    return mock


@cache
def client() -> httpx.Client:
    """Return the HTTP client of this process."""
    http = httpx.Client(verify=False, trust_env=False)
    atexit.register(http.close)
    return http


def request_counts(mock: Mock) -> dict[str, int]:
    """Return how many requests each sandbox of a server has had."""
    sandboxes = mock.admin.ask("GET", "/sandboxes")["sandboxes"]
    return {sandbox["name"]: sandbox["requests"] for sandbox in sandboxes}


def error_of(answer: httpx.Response, status: int) -> str:
    """Return the message of an error of the admin API, which has nothing else."""
    assert answer.status_code == status
    assert answer.json().keys() == {"error"}
    text: str = answer.json()["error"]
    return text


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; it asks the server, so that there is no need to sleep."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"


def open_sandboxes() -> set[Any]:
    """Return the sandboxes of this process's server, if there is one."""
    return set(server().sandboxes) if server.cache_info().currsize else set()
