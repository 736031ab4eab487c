"""What the vendor's own SDK, obshell 0.0.9, does when a server goes away and comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from obshell import ClientSet, ClientV1, OBShellHandleError
from obshell.auth import PasswordAuth
from obshell.service import client_v1
from requests.exceptions import ConnectionError as NobodyThere

import oceanmock
from obshell_sdk import ALLOWING, INITIALIZE, PASSWORD, local, standing
from served import AFTERNOON, load_yaml

DAG_4: Final = f"GET task/dag/{local(4)}"
DEFAULT: Final = "/sandboxes/default"


@dataclass(slots=True)
class Mock:
    """A server with a scenario in its default sandbox, and how far that one's clock is moved."""

    scenario: Any
    server: oceanmock.Mock
    moved: int = 0

    @property
    def port(self) -> int:
        """Its port."""
        return urlsplit(self.server.url).port or 0

    @property
    def asked(self) -> list[str]:
        """Every request so far, in order: “GET info”."""
        entries = self.server.admin.ask("GET", f"{DEFAULT}/journal")["entries"]
        return [f"{each['method']} {each['path'].removeprefix('/api/v1/')}" for each in entries]

    def client(self, password: str | None = PASSWORD, **options: Any) -> ClientV1:
        """The SDK, with its own authentication; it has asked nothing yet."""
        return ClientSet("127.0.0.1", self.port, PasswordAuth(password, **options)).v1

    def load(self) -> None:
        """Load the scenario, and let as much time pass as has passed before."""
        self.server.admin.ask("POST", f"{DEFAULT}/scenarios", {"scenarios": [self.scenario]})
        self.server.admin.ask("PATCH", f"{DEFAULT}/clock", {"progression": "manual"})
        self._advance(self.moved)

    def restart(self) -> None:
        """Another server in its place: the same dags, another key, and nothing asked yet."""
        port = self.port
        self.server.stop()
        self.server = oceanmock.Mock.start(port=port)
        self.load()

    def later(self, seconds: int) -> None:
        """Moves its clock on."""
        self.moved += seconds
        self._advance(seconds)

    def _advance(self, seconds: int) -> None:
        self.server.admin.ask("POST", f"{DEFAULT}/clock/advance", {"by": f"{seconds}s"})


@contextmanager
def served(scenario: str, *, port: int = 0) -> Iterator[Mock]:
    """A scenario over a socket, with a key of its own; the SDK's naps move its clock."""
    loaded = load_yaml(scenario)
    if isinstance(loaded, dict):
        loaded |= {"starts_at": AFTERNOON}
    mock = Mock(loaded, oceanmock.Mock.start(port=port))
    try:
        mock.load()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client_v1, "time", SimpleNamespace(sleep=mock.later))
            patch.setenv("NO_PROXY", "127.0.0.1")
            yield mock
    finally:
        mock.server.stop()


Serve = Callable[[str], Mock]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a scenario until the test is over."""
    with ExitStack() as stack:
        yield lambda scenario: stack.enter_context(served(scenario))


def test_a_server_that_came_back_with_another_key_is_asked_for_it(serve: Serve) -> None:
    mock = serve(INITIALIZE)
    client = mock.client()
    client.get_dag(local(4))

    mock.restart()
    dag = client.get_dag(local(4))

    assert dag.dag_id == 4
    assert mock.asked == [DAG_4, "GET info", "GET secret", DAG_4, DAG_4]


def test_an_operator_for_a_server_with_another_key_is_done_and_told_as_refused(serve: Serve) -> None:
    """The SDK's: once it has the key it sends the request twice, and the second answer counts."""
    mock = serve(ALLOWING)
    client = mock.client()
    client.get_dag(local(5))
    mock.later(60)

    mock.restart()
    with pytest.raises(OBShellHandleError) as refused:
        client.operate_dag(local(5), "RETRY")

    assert refused.value.err_code == "Task.Dag.Operator.RetryNotFailedDag"
    assert standing(client.get_dag(local(5))) == ("READY", "RUN", 1)


def test_who_waits_outlasts_a_server_that_is_away() -> None:
    with served("join-agent") as mock:
        client = mock.client()
        client.get_dag(local(10))
    naps: list[int] = []

    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:

        def nap(seconds: int) -> None:
            naps.append(seconds)
            again = stack.enter_context(served("join-agent", port=mock.port))
            again.later(60)

        patch.setattr(client_v1, "time", SimpleNamespace(sleep=nap))
        dag = client.wait_dag_succeed(local(10))

    assert dag.is_succeed()
    assert naps == [3]


def test_who_waits_for_a_server_that_stays_away_gives_up() -> None:
    with served("join-agent") as mock:
        client = mock.client()

    with pytest.raises(NobodyThere):
        client.wait_dag_succeed(local(10), retry_time=0)
