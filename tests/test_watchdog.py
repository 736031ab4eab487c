"""A callback that holds the event loop of a mock fails the test, wherever it runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SERVERS = """
import asyncio
import time

import httpx
import pytest

from oceanmock.apis import make_sandbox
from oceanmock.http.app import create_app
from oceanmock.http.server import Server

RESPONSE = (204, [], b"")

def work():
    end = time.thread_time() + 0.6
    while time.thread_time() < end:
        pass

async def respond(send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})

def slow(scope, body):
    work()
    return RESPONSE

def slow_when_repeated(scope, body):
    scope["oceanmock.repeat"] = lambda: work() or RESPONSE
    return RESPONSE

def slow_in_a_task(scope, body):
    async def send_late(scope, receive, send):
        await asyncio.sleep(0)
        work()
        await respond(send)
    return send_late

def slow_in_a_timer(scope, body):
    async def send_late(scope, receive, send):
        asyncio.get_running_loop().call_later(0.001, work)
        await asyncio.sleep(0.01)
        await respond(send)
    return send_late

def quick(scope, body):
    return RESPONSE

@pytest.mark.parametrize("dispatch", [slow, slow_when_repeated, slow_in_a_task, slow_in_a_timer, quick])
def test_it(dispatch):
    app = create_app(make_sandbox())
    app.dispatch = dispatch
    with Server(app) as server, httpx.Client() as client:
        assert {client.get(server.url).status_code for _ in range(2)} == {204}
"""


@pytest.mark.slow
def test_a_callback_that_holds_the_event_loop_fails_the_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(SERVERS)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)

    result = pytester.runpytest_subprocess("-p", "watchdog", "-p", "no:xdist")

    result.assert_outcomes(passed=5, errors=4)
    assert "these callbacks held the event loop for more than 50 ms" in result.stdout.str()
