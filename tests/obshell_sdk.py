"""The vendor's own SDK, obshell 0.0.9 from PyPI, before a sandbox served over a socket.

Nothing of the SDK is replaced but its naps: the three seconds that it sleeps between two looks at a
dag move the sandbox's clock instead, which otherwise stands. So nobody waits, and every look shows
what it would have shown three seconds later.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from obshell import ClientSet, ClientV1, OBShellHandleError
from obshell.auth import PasswordAuth
from obshell.model.task import DagDetailDTO, TaskStatusDTO
from obshell.service import client_v1

from in_process import AFTERNOON
from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.sandbox import Sandbox
from oceanmock.http.app import create_app
from oceanmock.http.server import AsgiApp, Server
from oceanmock.library import load_scenario

INITIALIZE: Final = """
summary: An observer cannot be started on one of two agents
api: obshell
progression: manual
dags:
  - id: 4
    name: Initialize cluster
    maintenance: global
    nodes:
      - name: Integrate config
        can: [cancel, retry, rollback]
        sub_tasks: [{takes: 7ms, log: [get all agents]}]
      - name: Start observer
        can: [cancel, pass, retry, rollback]
        sub_tasks:
          - takes: 9ms
            error: {message: "Unexpected error: exit status 127"}
            log: [start observer]
          - {agent: {ip: 10.0.0.2, port: 2887}, additional_data: {main_dag_id: "12"}, takes: 2s}
      - Cluster boostrap
"""
ALLOWING: Final = """
summary: A dag of one node that anything may be done to fails after ten seconds
api: obshell
progression: manual
dags:
  - id: 5
    name: Start observer
    nodes:
      - name: Start observer
        can: [cancel, pass, retry, rollback]
        sub_tasks: [{takes: 10s, ends: FAILED}]
"""
PASSWORD: Final = "oceanmock"
"""root@sys's, unless a scenario says otherwise."""


def local(number: int) -> str:
    """The id of a dag, node or sub task that the agent on 127.0.0.1:2886 keeps itself."""
    return f"2213070643302886{number}"


@dataclass(slots=True)
class Witness:
    """An app, and what was asked of it: “GET info”, and the name of the header that was sealed."""

    app: AsgiApp
    asked: list[str] = field(default_factory=list)
    sealed: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            names = [name.decode() for name, _ in scope["headers"]]
            self.asked.append(f"{scope['method']} {scope['path'].removeprefix('/api/v1/')}")
            self.sealed.extend(name for name in names if name.startswith("x-ocs-"))
        await self.app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Mock:
    """A sandbox that is served."""

    sandbox: Sandbox
    witness: Witness
    url: str

    @property
    def asked(self) -> list[str]:
        """Every request so far, in order."""
        return self.witness.asked

    def client(self, password: str | None = PASSWORD, **options: Any) -> ClientV1:
        """The SDK, with its own authentication; it has asked nothing yet."""
        place = urlsplit(self.url)
        return ClientSet(place.hostname, place.port, PasswordAuth(password, **options)).v1

    def restart(self) -> None:
        """Another server in its place: the same dags, another key, and nothing asked yet."""
        self.witness.app = create_app(self.sandbox)
        self.asked.clear()

    def later(self, seconds: int) -> None:
        """Moves its clock on."""
        self.sandbox.advance(seconds * SECOND)


@contextmanager
def served(sandbox: Sandbox, *, port: int = 0) -> Iterator[Mock]:
    """A sandbox over a socket, with a key of its own; the SDK's naps move its clock."""
    witness = Witness(create_app(sandbox))
    with Server(witness, port=port) as server, pytest.MonkeyPatch.context() as patch:
        mock = Mock(sandbox, witness, server.url)
        patch.setattr(client_v1, "time", SimpleNamespace(sleep=mock.later))
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield mock


def of_library(name: str) -> Sandbox:
    """A scenario of the library, at a standstill."""
    return make_sandbox([load_scenario(name)], progression="manual", starts_at=AFTERNOON)


def shown(found: object) -> Any:
    """All attributes of what the SDK hands out, and of what is in it."""
    match found:
        case TaskStatusDTO():
            return {name: shown(value) for name, value in vars(found).items()}
        case list():
            return [shown(each) for each in found]
        case _:
            return found


def standing(dag: DagDetailDTO) -> tuple[str, str, int]:
    """A dag's state, operator and stage."""
    return dag.state, dag.operator, dag.stage


def told(error: OBShellHandleError) -> tuple[int, str, str]:
    """All that the SDK tells of a refusal."""
    return error.code, error.err_code, error.message
