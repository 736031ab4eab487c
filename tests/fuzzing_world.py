"""A served sandbox, a client to it, and schemathesis over both; what was asked is noted there."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from oceanmock.apis import make_sandbox
from oceanmock.checks import Phase
from oceanmock.conformance import ApiName, Options
from oceanmock.conformance.fuzzing import SCHEMATHESIS_PHASES, Fuzzer
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.probes import find_items
from oceanmock.credentials import Basic, Sealed
from oceanmock.engine.sandbox import Sandbox
from oceanmock.http.app import create_app
from oceanmock.http.server import Server
from oceanmock.library import read_scenario
from oceanmock.observations import Target
from oceanmock.obshell.agent import Switches

SCENARIOS = {
    "ocp": """
summary: A task that failed, and one that runs
api: ocp
progression: manual
tasks:
  - {id: 1000, name: Fails, age: 1h, subtasks: [{id: 1001, name: Fail, attempts: {ends: FAILED}}]}
  - id: 2000
    name: Runs
    age: 1h
    subtasks: [{id: 2001, name: Run, attempts: {takes: forever}, timeout: 30d}]
""",
    "obshell": """
summary: A dag that failed, and one that runs
api: obshell
progression: manual
agent: {agent_password: secret}
dags:
  - id: 7
    name: Fails
    maintenance: global
    age: 1h
    nodes: [{id: 70, name: Fail, can: [retry], sub_tasks: [{id: 700, ends: FAILED, log: trying}]}]
  - id: 8
    name: Runs
    age: 1h
    nodes: [{id: 80, name: Run, timeout: 30d, sub_tasks: [{id: 800, takes: forever}]}]
""",
}
OWN_ADDRESS = ("127.0.0.1", 2886)
OBSHELL_VERSION = Switches().obshell_version

Edit = Callable[[str, dict[str, Any]], tuple[int | None, dict[str, Any]]]
"""What a broken server makes of an answer, by its path: its status (None: the same), its body."""


@dataclass
class Asked:
    """An ASGI app around another that notes what it is asked, and may break what is answered."""

    app: Any
    edit: Edit | None = None
    log: list[tuple[str, str]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        self.log.append((scope["method"], scope["raw_path"].decode("latin-1") + "?" * bool(query) + query))
        if self.edit is None:
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, _Breaking(scope["path"], self.edit, send))


class _Breaking:
    """Sends an answer on as a broken server would have it."""

    def __init__(self, path: str, edit: Edit, send: Any) -> None:
        self.path, self.edit, self.send = path, edit, send
        self.start: Any = None

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        status, said = self.edit(self.path, json.loads(message["body"]))
        body = json.dumps(said).encode()
        headers = [(k, v) for k, v in self.start["headers"] if k.lower() != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self.send({**self.start, "status": status or self.start["status"], "headers": headers})
        await self.send({**message, "body": body})


@dataclass
class World:
    """A client to a served sandbox; ``asked`` is what came in there, method and target."""

    client: HttpClient
    asked: list[tuple[str, str]]
    fuzzer: Fuzzer

    def run(self, *phases: Phase) -> None:
        """Runs these phases, or all that are schemathesis'."""
        for phase in phases or SCHEMATHESIS_PHASES:
            self.fuzzer.run(phase)

    @property
    def methods(self) -> Counter[str]:
        """How often each method came in."""
        return Counter(method for method, _ in self.asked)

    @property
    def found(self) -> set[tuple[str, str, int | None, str]]:
        """The keys of all findings."""
        return {each.key for each in self.client.result.findings}


@dataclass
class Served:
    """A served sandbox as a target; ``asked`` is what came in there, method and target."""

    target: Target
    sandbox: Sandbox
    asked: list[tuple[str, str]]
    app: Any


@contextmanager
def served(api: ApiName, *, edit: Edit | None = None, version: str = OBSHELL_VERSION) -> Iterator[Served]:
    """The scenario above, in which time stands, as a target that is let in."""
    sandbox = make_sandbox([read_scenario(SCENARIOS[api])], seed=0, switches={"obshell": {"obshell_version": version}})
    asked = Asked(create_app(sandbox), edit)
    auth: Any = {"ocp": Basic("manager", "manager"), "obshell": Sealed("oceanmock", "secret")}[api]
    with Server(asked) as server:
        own_address = OWN_ADDRESS if api == "obshell" else None
        target = Target(
            url=server.url, api=api, auth=auth, own_address=own_address, version=version if api == "obshell" else ""
        )
        yield Served(target, sandbox, asked.log, asked)


@contextmanager
def fuzzed(
    api: ApiName,
    *,
    write: bool = False,
    tasks: Sequence[str] = (),
    seed: int = 1,
    max_examples: int = 4,
    edit: Edit | None = None,
    stop: threading.Event | None = None,
) -> Iterator[World]:
    """A world of the scenario above, in which time stands; ``tasks`` may be changed."""
    options = Options(write=write, tasks=tuple(tasks), seed=seed, max_examples=max_examples)
    with served(api, edit=edit) as there:
        client = HttpClient(there.target, options)
        yield World(client, there.asked, Fuzzer(client, find_items(client), stop=stop))
