"""The vendor's own SDK, obshell 0.0.9 from PyPI, before a sandbox served over a socket.

Nothing of the SDK is replaced but its naps: the three seconds that it sleeps between two looks at a
dag move the sandbox's clock instead, which otherwise stands. So nobody waits, and every look shows
what it would have shown three seconds later.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from obshell import ClientSet, ClientV1, OBShellHandleError
from obshell.auth import PasswordAuth
from obshell.model.task import DagDetailDTO, TaskStatusDTO
from obshell.service import client_v1

from oceanmock import Obshell
from served import AFTERNOON, load_yaml, server

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


@dataclass(frozen=True, slots=True)
class Served:
    """A sandbox that is served."""

    sandbox: Obshell

    @property
    def asked(self) -> list[str]:
        """Return every request so far, in order, as in “GET info”."""
        entries = self.sandbox.journal.all()
        return [f"{entry.method} {entry.path.removeprefix('/api/v1/')}" for entry in entries]

    @property
    def sealed(self) -> list[str]:
        """Return the name of each security header so far."""
        entries = self.sandbox.journal.all()
        names = [name.lower() for entry in entries for name in dict(entry.request_headers)]
        return [name for name in names if name.startswith("x-ocs-")]

    def client(self, password: str | None = PASSWORD, **options: Any) -> ClientV1:
        """Return the SDK, with its own authentication; it has sent nothing yet."""
        place = urlsplit(self.sandbox.url)
        return ClientSet(place.hostname, place.port, PasswordAuth(password, **options)).v1

    def later(self, seconds: int) -> None:
        """Move its clock on."""
        self.sandbox.clock.advance(f"{seconds}s")


@contextmanager
def served(scenario: str) -> Iterator[Served]:
    """Serve a scenario, or one of the library by its name; the SDK's naps move its clock."""
    options: dict[str, Any] = {"progression": "manual", "starts_at": AFTERNOON, "seed": 1}
    with server().obshell(load_yaml(scenario), **options) as sandbox, pytest.MonkeyPatch.context() as patch:
        mock = Served(sandbox)
        patch.setattr(client_v1, "time", SimpleNamespace(sleep=mock.later))
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield mock


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
