"""What replicas make of Redis's time, which they share: leases run out by it, and it may be set back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from click.testing import CliRunner

from oceanmock.cli import main
from oceanmock.cli.store import default_sandbox
from oceanmock.clock import SECOND
from oceanmock.http.app import create_app
from oceanmock.http.server import Server
from redis_servers import RedisServer, redis_server
from served import MANAGER
from shared_stores import connect, served_by

pytestmark = pytest.mark.slow

LIST: Final = "/api/v2/tasks/instances"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server(has_clock=True) as running:
        yield running


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    server.set_clock(0)
    server.client.flushall()
    return server


@pytest.fixture
def urls(redis: RedisServer, tmp_path: Path) -> Iterator[list[str]]:
    with served_by("two replicas on redis", tmp_path, redis) as servers:
        yield servers


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60, auth=MANAGER) as client:
        yield client


def create(http: httpx.Client, url: str, name: str, **options: Any) -> int:
    body = {"name": name, "scenarios": ["many-tasks"], **options}
    return http.post(f"{url}/__admin/sandboxes", json=body).status_code


@pytest.mark.parametrize("use", ["/sandboxes/leased" + LIST, "/__admin/sandboxes/leased/clock"])
def test_a_lease_is_renewed_through_either_replica_and_runs_out_for_both(
    redis: RedisServer, urls: list[str], http: httpx.Client, use: str
) -> None:
    create(http, urls[0], "leased", ttl="60s")
    used = []
    for minute, url in enumerate([urls[1], urls[0], urls[1], urls[1]], start=1):
        redis.set_clock(50 * minute)
        used.append(http.get(url + use).status_code)
    redis.set_clock(50 * 4 + 70)
    gone = [http.get(url + use) for url in urls]

    assert used == [200] * 4
    assert [(answer.status_code, "there is no sandbox 'leased'" in answer.text) for answer in gone] == [(404, True)] * 2


def test_a_lease_runs_out_without_any_request(redis: RedisServer, urls: list[str], http: httpx.Client) -> None:
    names = ["asked for", "listed", "created again"]
    created = [create(http, urls[0], name.replace(" ", "-"), ttl="60s") for name in names]
    redis.set_clock(61)
    asked = http.get(f"{urls[1]}/sandboxes/asked-for{LIST}").status_code
    again = create(http, urls[1], "created-again", ttl="60s")
    listed = http.get(f"{urls[1]}/__admin/sandboxes").json()["sandboxes"]

    assert (created, asked, again) == ([201] * 3, 404, 201)
    assert [sandbox["name"] for sandbox in listed] == ["default", "created-again"]
    assert redis.client.keys("*asked-for*") == []


def test_a_restart_of_every_replica_prolongs_no_lease(redis: RedisServer, tmp_path: Path, http: httpx.Client) -> None:
    with served_by("two replicas on redis", tmp_path, redis) as urls:
        create(http, urls[0], "leased", ttl="60s")
    redis.set_clock(61)
    with served_by("two replicas on redis", tmp_path, redis) as urls:
        answers = [http.get(f"{url}/sandboxes/leased{LIST}").status_code for url in urls]

    assert answers == [404, 404]


def instants(redis: RedisServer) -> list[tuple[int, int]]:
    """Return the instants of the sandboxes' logs, and the machine's times."""
    exported = CliRunner().invoke(main, ["store", "export", redis.url], catch_exceptions=False).stdout
    entries = map(json.loads, exported.splitlines())
    return [(entry["at"], entry["wall"]) for entry in entries if "at" in entry]


def test_a_replica_follows_redis_s_clock_at_its_next_request(redis: RedisServer) -> None:
    with ExitStack() as stack:
        store = connect(stack, redis.url)
        behind = []
        for seconds in range(100, 2100, 100):
            redis.set_clock(seconds)
            store.ping()
            behind.append(redis.client.time()[0] - store.wall() // SECOND)

    assert set(behind) <= {0, 1}


def test_no_instant_of_a_log_decreases_when_redis_s_clock_is_set_back(
    redis: RedisServer, urls: list[str], http: httpx.Client
) -> None:
    create(http, urls[0], "mine", progression="time")
    statuses, times = [], dict[str, list[str]]()
    for seconds in (0, 3600, 10, -86400, -10):
        redis.set_clock(seconds)
        with ExitStack() as stack:  # a replica that starts now has read nothing later
            store = connect(stack, redis.url, f"at {seconds}")
            third = stack.enter_context(Server(create_app(default_sandbox(store, [], {"progression": "manual"}))))
            for url in (*urls, third.url, *urls):
                mine = f"{url}/__admin/sandboxes/mine"
                statuses.append(
                    http.post(f"{mine}/faults", json={"operation": "getTaskInstance", "delay": "1s"}).status_code
                )
                times.setdefault(url, []).append(http.get(f"{mine}/clock").json()["now"])
    logged = instants(redis)

    assert statuses == [201] * 25
    assert len(logged) == 25
    assert [sorted(several) for several in times.values()] == [*times.values()]
    assert [sorted(several) for several in zip(*logged, strict=True)] == [
        [*several] for several in zip(*logged, strict=True)
    ]
