"""Replicas that share their sandboxes through a real redis-server, behind nginx: what clients see of them.

Each operation of a storm is requested by many clients at once, through whichever replica nginx chooses.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import httpx
import pytest

from command import Serving
from oceanmock import Mock, Obshell, Ocp
from redis_servers import RedisServer, nginx, redis_server, replicas
from served import MANAGER, until

pytestmark = pytest.mark.slow

CLIENTS: Final = 64
OCP_TASK: Final = "/api/v2/tasks/instances/5"
FAILING_TASK: Final = """
summary: A subtask that fails once
api: ocp
tasks: [{id: 5, subtasks: [{id: 6, attempts: [{takes: 1s, ends: FAILED}, {takes: 1h}]}]}]
"""
FAILING_DAG: Final = """
summary: A sub task that fails once
api: obshell
dags: [{id: 5, nodes: [{can: [retry], sub_tasks: {attempts: [{takes: 1s, ends: FAILED}, {takes: 1h}]}}]}]
"""
VIEWS: Final = ("", "/clock", "/faults", "/tasks")


@pytest.fixture(scope="module")
def store() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def served(store: RedisServer) -> Iterator[list[Serving]]:
    with replicas(store.url, count=3) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(served: list[Serving]) -> Iterator[str]:
    with nginx([replica.url for replica in served]) as url:
        yield url


def at_once(send: Callable[[httpx.Client], httpx.Response], clients: int = CLIENTS) -> list[httpx.Response]:
    """Send a request by many clients at once."""
    limits = httpx.Limits(max_connections=clients)
    with httpx.Client(limits=limits, timeout=60) as http, ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda _: send(http), range(clients)))


def retry_storm(url: str, sandbox: Ocp | Obshell) -> Counter[int]:
    """Retry the sandbox's one task by many clients at once; return how often each status came."""
    headers = {"X-Oceanmock-Sandbox": sandbox.name}
    if isinstance(sandbox, Ocp):
        answers = at_once(lambda http: http.post(f"{url}{OCP_TASK}/retry", auth=MANAGER, headers=headers))
    else:
        dag = f"{url}/api/v1/task/dag/{sandbox.dag(5).id}"
        answers = at_once(lambda http: http.post(dag, json={"operator": "RETRY"}, headers=headers))
    return Counter(answer.status_code for answer in answers)


def views(served: Sequence[Serving], name: str) -> list[list[Any]]:
    """What each replica shows of a sandbox."""
    admin = f"/__admin/sandboxes/{name}"
    shown = [[httpx.get(f"{replica.url}{admin}{part}").json() for part in VIEWS] for replica in served]
    for view in shown:
        del view[0]["urls"]
    return shown


def accepted(served: Sequence[Serving], name: str) -> list[int]:
    """How many retries that were accepted are in the journal, as each replica shows it."""
    query = {"query": {"status": 200, "method": "POST"}}
    verdicts = [httpx.post(f"{it.url}/__admin/sandboxes/{name}/journal/verify", json=query).json() for it in served]
    return [verdict["found"] for verdict in verdicts]


def check_storm(served: Sequence[Serving], url: str, api: str) -> None:
    mock = Mock.attach(url)
    make: Any = {"ocp": mock.ocp, "obshell": mock.obshell}[api]
    scenario = {"ocp": FAILING_TASK, "obshell": FAILING_DAG}[api]
    sandbox = make(scenario, progression="manual", auth=api == "ocp")
    sandbox.clock.advance("60s")

    statuses = retry_storm(url, sandbox)

    assert statuses == {200: 1, {"ocp": 400, "obshell": 400}[api]: CLIENTS - 1}
    assert accepted(served, sandbox.name) == [1, 1, 1]
    assert len(sandbox.journal) == CLIENTS
    first, *others = views(served, sandbox.name)
    assert others == [first, first]
    sandbox.close()


@pytest.mark.parametrize("api", ["ocp", "obshell"])
def test_of_64_retries_at_once_one_is_accepted(served: list[Serving], proxy: str, api: str) -> None:
    check_storm(served, proxy, api)


@pytest.mark.exhaustive
@pytest.mark.parametrize("api", ["ocp", "obshell"])
@pytest.mark.parametrize("round", range(20))
def test_of_64_retries_at_once_one_is_accepted_in_each_round(
    served: list[Serving], proxy: str, api: str, round: int
) -> None:
    check_storm(served, proxy, api)


def test_a_port_of_its_own_is_one_replica_s_and_the_answer_says_whose(served: list[Serving]) -> None:
    created = httpx.post(f"{served[0].url}/__admin/sandboxes", json={"scenarios": [FAILING_TASK], "own_port": True})
    name, urls = created.json()["name"], created.json()["urls"]
    elsewhere = httpx.get(f"{served[1].url}/__admin/sandboxes/{name}").json()["urls"]
    headers = {"X-Oceanmock-Sandbox": name}
    everywhere = [(urls["port"], {}), (served[1].url, headers), (f"{served[2].url}/sandboxes/{name}", {})]
    statuses = [httpx.get(url + OCP_TASK, auth=MANAGER, headers=extra).status_code for url, extra in everywhere]

    assert (urls["port_of"], elsewhere.keys()) == ("replica-1", {"path"})
    assert statuses == [200, 200, 200]


ENDLESS: Final = """
summary: A subtask that fails as often as it is retried
api: ocp
progression: immediate
tasks: [{id: 5, subtasks: [{id: 6, attempts: {takes: 1ms, ends: FAILED}}]}]
"""


def runs(url: str, name: str) -> int:
    """How often the subtask has run."""
    answer = httpx.get(f"{url}/sandboxes/{name}{OCP_TASK}", auth=MANAGER)
    count: int = answer.raise_for_status().json()["data"]["subtasks"][0]["runTime"]
    return count


@pytest.mark.parametrize("victim", ["replica", "redis"])
def test_a_kill_in_a_storm_loses_nothing_acknowledged_and_doubles_nothing(store: RedisServer, victim: str) -> None:
    with replicas(store.url, count=2, code=-signal.SIGKILL) as served, nginx([it.url for it in served]) as url:
        name = httpx.post(f"{url}/__admin/sandboxes", json={"scenarios": [ENDLESS]}).json()["name"]
        before, path = runs(url, name), f"{url}/sandboxes/{name}{OCP_TASK}/retry"

        def retry(number: int) -> int:
            if number == 100 and victim == "replica":
                served[0].process.kill()
            elif number == 100:
                store.kill()
                store.start()
            with suppress(httpx.HTTPError):
                return httpx.post(path, auth=MANAGER, timeout=60).status_code
            return 0

        with ThreadPoolExecutor(8) as pool:
            statuses = Counter(pool.map(retry, range(300)))
        until(lambda: httpx.get(f"{served[1].url}/__admin/ready").status_code == 200)
        after, journal = runs(served[1].url, name), accepted(served[1:], name)[0]
        for replica in served:
            replica.process.kill()
            replica.process.wait()

    assert statuses[200] > 50
    assert statuses.keys() <= {200, 500, 502, 503}
    assert statuses[200] <= journal <= after - before <= 300
