"""What the vendor's own SDK, obshell 0.0.9, does when a server goes away and comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from obshell import ClientSet, ClientV1, OBShellHandleError
from obshell.auth import PasswordAuth
from obshell.service import client_v1
from requests.exceptions import ConnectionError as NobodyThere

from in_process import of_library, sandbox_of
from obshell_sdk import ALLOWING, INITIALIZE, PASSWORD, local, standing
from oceanmock.clock import SECOND
from oceanmock.engine.sandbox import Sandbox
from oceanmock.http.app import create_app
from oceanmock.http.server import AsgiApp, Server

DAG_4: Final = f"GET task/dag/{local(4)}"


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


Serve = Callable[[Sandbox], Mock]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a sandbox until the test is over."""
    with ExitStack() as stack:
        yield lambda sandbox: stack.enter_context(served(sandbox))


def test_a_server_that_came_back_with_another_key_is_asked_for_it(serve: Serve) -> None:
    mock = serve(sandbox_of(INITIALIZE))
    client = mock.client()
    client.get_dag(local(4))

    mock.restart()
    dag = client.get_dag(local(4))

    assert dag.dag_id == 4
    assert mock.asked == [DAG_4, "GET info", "GET secret", DAG_4, DAG_4]


def test_an_operator_for_a_server_with_another_key_is_done_and_told_as_refused(
    serve: Serve,
) -> None:
    """The SDK's: once it has the key it sends the request twice, and the second answer counts."""
    mock = serve(sandbox_of(ALLOWING))
    client = mock.client()
    client.get_dag(local(5))
    mock.later(60)

    mock.restart()
    with pytest.raises(OBShellHandleError) as refused:
        client.operate_dag(local(5), "RETRY")

    assert refused.value.err_code == "Task.Dag.Operator.RetryNotFailedDag"
    assert standing(client.get_dag(local(5))) == ("READY", "RUN", 1)


def test_who_waits_outlasts_a_server_that_is_away() -> None:
    sandbox = of_library("join-agent")
    with served(sandbox) as mock:
        client = mock.client()
        client.get_dag(local(10))
    naps: list[int] = []

    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:

        def nap(seconds: int) -> None:
            naps.append(seconds)
            stack.enter_context(served(sandbox, port=urlsplit(mock.url).port or 0))
            sandbox.advance(60 * SECOND)

        patch.setattr(client_v1, "time", SimpleNamespace(sleep=nap))
        dag = client.wait_dag_succeed(local(10))

    assert dag.is_succeed()
    assert naps == [3]


def test_who_waits_for_a_server_that_stays_away_gives_up() -> None:
    with served(of_library("join-agent")) as mock:
        client = mock.client()

    with pytest.raises(NobodyThere):
        client.wait_dag_succeed(local(10), retry_time=0)
