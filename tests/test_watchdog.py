"""A callback that holds the event loop of a server fails the test, wherever it runs."""

from __future__ import annotations

import pytest

SERVERS = """
import asyncio
import time

import httpx
import pytest

from oceanmock.http.server import Server

def work():
    end = time.thread_time() + 0.08
    while time.thread_time() < end:
        pass

class Dispatches:
    async def __call__(self, scope, receive, send):
        raise AssertionError

    def dispatch(self, scope, body):
        work()
        return 204, [], b""

class Repeats(Dispatches):
    def dispatch(self, scope, body):
        scope["oceanmock.repeat"] = lambda: work() or (204, [], b"")
        return 204, [], b""

async def in_a_task(scope, receive, send):
    await asyncio.sleep(0)
    work()
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})

async def by_a_timer(scope, receive, send):
    asyncio.get_running_loop().call_later(0.001, work)
    await asyncio.sleep(0.01)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})

async def quickly(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})

@pytest.mark.parametrize("app", [Dispatches(), Repeats(), in_a_task, by_a_timer, quickly])
def test_it(app):
    with Server(app) as server, httpx.Client() as client:
        assert {client.get(server.url).status_code for _ in range(2)} == {204}
"""


def test_a_callback_that_holds_the_event_loop_fails_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SERVERS)

    result = pytester.runpytest_inprocess("-p", "watchdog", "-p", "no:xdist")

    result.assert_outcomes(passed=5, errors=4)
    assert "these callbacks held the event loop for more than 50 ms" in result.stdout.str()
