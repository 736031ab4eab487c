"""What the vendor's own SDK, obshell 0.0.9 from PyPI, makes of injected faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import pytest
from obshell import OBShellHandleError
from requests.exceptions import ChunkedEncodingError, JSONDecodeError
from requests.exceptions import ConnectionError as NobodyThere

from obshell_sdk import ALLOWING, Served, local, served, standing

Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a dag that has failed, with these faults, until the test is over."""
    with ExitStack() as stack:

        def serve(*faults: dict[str, Any], text: str = ALLOWING) -> Served:
            mock = stack.enter_context(served(text))
            mock.later(60)
            for fault in faults:
                mock.sandbox.faults.add(**fault)
            return mock

        yield serve


READ: Final = {"api": "obshell", "operation": "getDagDetail"}
OPERATE: Final = {"api": "obshell", "operation": "dagHandler"}
GET: Final = f"GET task/dag/{local(5)}"
POST: Final = f"POST task/dag/{local(5)}"


def faults_of(mock: Served) -> list[str]:
    """Return the faults injected into the requests about the dag, in order."""
    return [entry.fault for entry in mock.sandbox.journal.all() if entry.ids]


@pytest.mark.parametrize("status", [400, 404, 409, 429, 500, 503])
def test_the_sdk_absorbs_what_goes_wrong_once_by_sending_again(serve: Serve, status: int) -> None:
    mock = serve({**READ, "calls": 1, "status": status})

    assert mock.client().get_dag(local(5)).is_failed()

    assert mock.asked[3:] == [GET, GET]
    assert faults_of(mock) == ["fault 1", ""]


def test_the_sdk_fails_for_good_where_its_second_sending_is_the_same_attempt(serve: Serve) -> None:
    mock = serve({**READ, "calls": 1, "counts": "attempts", "status": 503})
    client = mock.client()

    with pytest.raises(OBShellHandleError):
        client.get_dag(local(5))

    assert mock.asked[3:] == [GET, GET]
    assert faults_of(mock) == ["fault 1", "fault 1"]
    assert client.get_dag(local(5)).is_failed()


def test_the_sdk_s_retry_is_absorbed_and_happens_once(serve: Serve) -> None:
    mock = serve({**OPERATE, "calls": 1, "status": 503})
    client = mock.client()

    assert client.operate_dag(local(5), "RETRY") is True

    assert mock.asked[3:] == [POST, POST]
    assert standing(client.get_dag(local(5))) == ("READY", "RUN", 1)


def test_the_sdk_is_refused_what_has_happened_unseen(serve: Serve) -> None:
    mock = serve({**OPERATE, "calls": 1, "status": 503, "still_executes": True})

    with pytest.raises(OBShellHandleError) as refused:
        mock.client().operate_dag(local(5), "RETRY")

    assert refused.value.err_code == "Task.Dag.Operator.RetryNotFailedDag"


def test_the_sdk_does_not_send_again_when_the_connection_is_reset(serve: Serve) -> None:
    mock = serve({**OPERATE, "calls": 1, "reset": True})
    client = mock.client()

    with pytest.raises(NobodyThere):
        client.operate_dag(local(5), "RETRY")

    assert mock.asked[3:] == [POST]
    assert client.get_dag(local(5)).is_failed()


def test_the_sdk_s_lost_answer_was_that_of_a_retry(serve: Serve) -> None:
    mock = serve({**OPERATE, "calls": 1, "drop_response": True})
    client = mock.client()

    with pytest.raises(NobodyThere):
        client.operate_dag(local(5), "RETRY")

    assert standing(client.get_dag(local(5))) == ("READY", "RUN", 1)
    with pytest.raises(OBShellHandleError):
        client.operate_dag(local(5), "RETRY")


def test_the_sdk_waits_on_through_resets(serve: Serve) -> None:
    mock = serve({**READ, "calls": "1-3", "reset": True}, text=SUCCEEDED)

    assert mock.client().wait_dag_succeed(local(5)).is_succeed()
    assert faults_of(mock) == ["fault 1", "fault 1", "fault 1", ""]


SUCCEEDED: Final = """
summary: A dag that has succeeded
api: obshell
progression: manual
dags: [{id: 5, nodes: [Stop observer]}]
"""


@pytest.mark.parametrize(
    ("effect", "error"),
    [
        ({"malformed": True}, JSONDecodeError),
        ({"empty": True}, JSONDecodeError),
        ({"truncate": 20}, ChunkedEncodingError),
        ({"drop": "data.state"}, KeyError),
    ],
    ids=str,
)
def test_the_sdk_chokes_on_an_answer_that_is_wrong(
    serve: Serve, effect: dict[str, Any], error: type[Exception]
) -> None:
    mock = serve({**READ, "calls": 1, **effect})
    client = mock.client()

    with pytest.raises(error):
        client.get_dag(local(5))

    assert client.get_dag(local(5)).is_failed()


@pytest.mark.parametrize(
    "effect", [{"dribble": {"bytes": 100, "every": "1ms"}}, {"delay": "5ms"}, {"content_type": "text/html"}], ids=str
)
def test_the_sdk_takes_an_answer_that_is_slow_or_goes_by_another_name(serve: Serve, effect: dict[str, Any]) -> None:
    mock = serve({**READ, **effect})

    assert mock.client().get_dag(local(5)).is_failed()


def test_a_fault_of_a_caller_is_injected_into_the_sdk_s_requests(serve: Serve) -> None:
    mock = serve({"api": "obshell", "caller": "root", "calls": 1, "reset": True})

    with pytest.raises(NobodyThere):
        mock.client().get_dag(local(5))

    assert mock.asked == ["GET info", "GET info", "GET secret", GET]
