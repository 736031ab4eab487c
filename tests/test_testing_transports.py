"""Transports: what a client meets in this process without a socket is what it meets over one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from held_world import here
from oceanmock.client.mock import Mock
from oceanmock.errors import EnvironmentProblem
from oceanmock.ocp.client import Ocp

__all__ = ["here"]

TASK = "/api/v2/tasks/instances/1"
ONE = {"summary": "One step", "api": "ocp", "tasks": [{"id": 1, "subtasks": ["install"]}]}
OUTCOMES = ("without a socket", "over a socket")
Ask = Callable[..., httpx.Response]


@pytest.fixture
def ocp(here: Mock) -> Iterator[Ocp]:
    with here.ocp(ONE) as sandbox:
        yield sandbox


def synchronously(transport: httpx.BaseTransport, ocp: Ocp) -> Ask:
    def ask(method: str, path: str, **options: Any) -> httpx.Response:
        with httpx.Client(transport=transport, base_url=ocp.url, auth=ocp.auth) as client:
            return client.request(method, path, **options)

    return ask


def asynchronously(transport: httpx.AsyncBaseTransport, ocp: Ocp) -> Ask:
    async def ask(method: str, path: str, **options: Any) -> httpx.Response:
        async with httpx.AsyncClient(
            transport=transport, base_url=ocp.url, auth=ocp.auth
        ) as client:
            return await client.request(method, path, **options)

    return lambda *words, **options: asyncio.run(ask(*words, **options))


@pytest.fixture(params=["sync", "async"])
def ways(request: pytest.FixtureRequest, ocp: Ocp) -> dict[str, Ask]:
    """What asks the sandbox, each way."""
    if request.param == "sync":
        transports = (ocp.transport, httpx.HTTPTransport())
        return dict(zip(OUTCOMES, [synchronously(each, ocp) for each in transports], strict=True))
    both = (ocp.async_transport, httpx.AsyncHTTPTransport())
    return dict(zip(OUTCOMES, [asynchronously(each, ocp) for each in both], strict=True))


def what_comes_of(ask: Ask, *words: str, **options: Any) -> Any:
    """The error a request ends in; or the answer, without what dates it."""
    try:
        answer = ask(*words, **options)
    except httpx.HTTPError as error:
        return type(error), error.request.url.path
    dated = ("date", "x-ocp-trace-id", "x-ocp-server-address")
    headers = {name: value for name, value in answer.headers.items() if name not in dated}
    return answer.status_code, headers.keys(), len(answer.content) > 0


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", TASK, {}),
        ("GET", "/api/v2/tasks/instances", {"params": {"size": 1, "name": "ä b&c"}}),
        ("POST", f"{TASK}/retry", {}),
        ("POST", f"{TASK}/retry", {"json": {"a": [1, 2]}}),
        ("GET", TASK, {"auth": ("viewer", "wrong")}),
        ("HEAD", TASK, {}),
        ("DELETE", TASK, {}),
        ("GET", "/api/v2/nothing", {}),
    ],
)
def test_an_answer_is_the_same_either_way(
    ways: dict[str, Ask], method: str, path: str, options: dict[str, Any]
) -> None:
    near, far = (what_comes_of(ways[way], method, path, **options) for way in OUTCOMES)

    assert near == far


@pytest.mark.parametrize(
    ("fault", "timeout", "error"),
    [
        ({"reset": True}, None, httpx.ReadError),
        ({"drop_response": True}, None, httpx.ReadError),
        ({"truncate": 10}, None, httpx.RemoteProtocolError),
        ({"truncate": 0}, None, httpx.RemoteProtocolError),
        ({"delay": "1h"}, 0.05, httpx.ReadTimeout),
        ({"dribble": {"bytes": 20, "every": "1h"}}, 0.05, httpx.ReadTimeout),
    ],
)
@pytest.mark.parametrize("way", OUTCOMES)
def test_what_goes_wrong_is_the_same_either_way(
    ocp: Ocp, ways: dict[str, Ask], way: str, *, fault: Any, timeout: Any, error: type[Exception]
) -> None:
    ocp.faults.add(operation="getTaskInstance", **fault)

    assert what_comes_of(ways[way], "GET", TASK, timeout=timeout) == (error, TASK)


@pytest.mark.parametrize("way", OUTCOMES)
def test_an_operation_whose_answer_is_lost_has_happened(
    ocp: Ocp, ways: dict[str, Ask], way: str
) -> None:
    task = ocp.task("Fails", [{"name": "a", "attempts": [{"ends": "FAILED"}]}]).until("FAILED")
    ocp.faults.add(operation="retryTask", drop_response=True)

    what_comes_of(ways[way], "POST", f"/api/v2/tasks/instances/{task.id}/retry")

    task.assert_status("RUNNING", operation="RETRY")


@pytest.mark.parametrize("way", OUTCOMES)
def test_a_body_comes_in_pieces(ocp: Ocp, ways: dict[str, Ask], way: str) -> None:
    ocp.faults.add(operation="getTaskInstance", dribble={"bytes": 100, "every": "0s"})

    assert ways[way]("GET", TASK).json()["data"]["id"] == 1


def test_a_streamed_request_is_sent_whole(ocp: Ocp) -> None:
    start = {"name": "Create", "starts_on": {"path": "/api/v2/tenants"}, "subtasks": ["a"]}
    ocp.load({"summary": "Starts", "api": "ocp", "tasks": [start]})

    with httpx.Client(transport=ocp.transport, base_url=ocp.url, auth=ocp.auth) as client:
        client.post("/api/v2/tenants", content=iter([b'{"mode": ', b'"MYSQL"}']))

    (entry,) = ocp.journal
    assert entry.request_body == {"mode": "MYSQL"}


def test_any_host_in_a_url_means_the_sandbox(ocp: Ocp) -> None:
    with httpx.Client(transport=ocp.transport, auth=ocp.auth) as client:
        assert client.get(f"http://ocp.example.com{TASK}").status_code == 200


def test_a_signature_is_of_the_host_that_was_asked(ocp: Ocp) -> None:
    with httpx.Client(transport=ocp.transport, auth=ocp.access_key) as client:
        assert client.get(f"http://ocp.example.com{TASK}").status_code == 200


def test_a_client_that_gives_up_is_told_of_in_the_journal(ocp: Ocp) -> None:
    ocp.faults.add(operation="getTaskInstance", delay="1h")

    with (
        httpx.Client(transport=ocp.transport, base_url=ocp.url, auth=ocp.auth) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.get(TASK, timeout=0.01)

    (entry,) = ocp.journal
    assert entry.refusal == "The client did not wait for the answer."


def test_many_requests_go_at_once(ocp: Ocp) -> None:
    async def ask_all() -> list[int]:
        async with httpx.AsyncClient(
            transport=ocp.async_transport, base_url=ocp.url, auth=ocp.auth
        ) as client:
            answers = await asyncio.gather(*(client.get(TASK) for _ in range(50)))
            return [answer.status_code for answer in answers]

    assert asyncio.run(ask_all()) == [200] * 50
    ocp.journal.assert_called("getTaskInstance", times=50)


def test_without_asyncio_there_is_another_way(ocp: Ocp) -> None:
    asked = ocp.async_transport.handle_async_request(httpx.Request("GET", f"{ocp.url}{TASK}"))

    with pytest.raises(EnvironmentProblem, match=r"goes with asyncio.* under trio too"):
        asked.send(None)


def test_a_server_that_stops_ends_what_it_has_not_answered() -> None:
    started = Mock.start()
    ocp = started.ocp(ONE, name="stops")
    ocp.faults.add(operation="getTaskInstance", delay="1h")

    async def ask_and_stop() -> None:
        async with httpx.AsyncClient(
            transport=ocp.async_transport, base_url=ocp.url, auth=ocp.auth, timeout=None
        ) as client:
            asked = asyncio.create_task(client.get(TASK))
            while not ocp.faults.all()[0].strikes:
                await asyncio.sleep(0)
            await asyncio.to_thread(started.stop)
            await asked

    with pytest.raises(httpx.RemoteProtocolError):
        asyncio.run(ask_and_stop())


def test_a_transport_to_a_server_that_has_stopped_says_so() -> None:
    with Mock.start() as started:
        transport = started.ocp(ONE).transport

    with pytest.raises(EnvironmentProblem, match="does not run"):
        httpx.Client(transport=transport).get("http://ocp/")


def test_elsewhere_transports_are_httpx_s_own(here: Mock) -> None:
    with Mock.attach(here.url).ocp(ONE) as ocp:
        assert isinstance(ocp.transport, httpx.HTTPTransport)
        assert isinstance(ocp.async_transport, httpx.AsyncHTTPTransport)
