"""Requests per second: plain connexion, oceanmock and a bare ASGI app, answering the same body.

All three are served by uvicorn with httptools and uvloop, each from its own process; plain
connexion and oceanmock serve openapi/ocp.yaml with its security and check every response against
it. They stay up and are loaded by turns, so that a machine that grows slow grows slow for all; the
medians are compared. Run it with ``python tests/benchmarks/bench_requests.py``; it asserts nothing.

The load comes from ``wrk`` where it is installed, else from the small client below.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import copy
import json
import logging
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

# ruff: noqa: PLC0415 (each process imports what it serves, and no more)
warnings.simplefilter("ignore")  # what connexion imports is deprecated

TASK_PATH = "/api/v2/tasks/instances/1000"
CREDENTIALS = base64.b64encode(b"viewer:viewer").decode()


# --- what is served -------------------------------------------------------------------------------


def sandbox() -> Any:
    """A sandbox at a standstill, with one failed task of three subtasks."""
    from oceanmock.apis import make_sandbox
    from oceanmock.library import read_scenario

    scenario = read_scenario(
        "summary: Three subtasks\napi: ocp\nprogression: immediate\ntasks:\n"
        "  - id: 1000\n    name: Reinstall OCP agent\n    subtasks:\n"
        "      - {id: 1, name: Prepare}\n"
        "      - {id: 2, name: Uninstall, attempts: [{takes: 2s, ends: FAILED}]}\n"
        "      - {id: 3, name: Install}\n"
    )
    return make_sandbox([scenario], seed=1)


def body_of_the_task() -> bytes:
    """What oceanmock answers to the benchmark's request."""
    import httpx

    async def ask() -> bytes:
        transport = httpx.ASGITransport(oceanmock_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://mock") as client:
            return (await client.get(TASK_PATH, auth=("viewer", "viewer"))).content

    return asyncio.run(ask())


def oceanmock_app() -> Any:
    """oceanmock, as it is served."""
    from oceanmock.http.app import create_app

    return create_app(sandbox())


def check_user(username: str, password: str) -> dict[str, str] | None:
    """The stock app's users (its spec names this function)."""
    return {"sub": username} if (username, password) == ("viewer", "viewer") else None


def no_access_key(apikey: str) -> None:
    """The stock app knows no access keys."""


def stock_app() -> Any:
    """Plain connexion with the contract, its security, and its responses validated."""
    from connexion import AsyncApp
    from connexion.resolver import Resolver

    from oceanmock.openapi import load_spec, spec_path

    body = json.loads(body_of_the_task())
    spec = copy.deepcopy(dict(load_spec(spec_path("ocp"))))
    schemes = spec["components"]["securitySchemes"]
    schemes["basicAuth"]["x-basicInfoFunc"] = f"{__name__}.check_user"
    schemes["accessKey"]["x-apikeyInfoFunc"] = f"{__name__}.no_access_key"

    async def answer(**_: Any) -> Any:
        return body

    app = AsyncApp(__name__, validate_responses=True)
    app.add_api(spec, resolver=Resolver(lambda _operation: answer))
    return app


def bare_app() -> Any:
    """As little as ASGI allows."""
    body = body_of_the_task()
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


APPS: dict[str, Callable[[], Any]] = {"stock connexion": stock_app, "oceanmock": oceanmock_app, "bare ASGI": bare_app}


def serve(name: str) -> None:
    """Serves one of the apps until it is told to stop; prints its URL."""
    import uvicorn

    logging.disable(logging.WARNING)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        APPS[name](),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
    )
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


# --- the load -------------------------------------------------------------------------------------


def load(url: str, *, seconds: float, connections: int) -> float:
    """Requests per second, all answered 200."""
    if shutil.which("wrk"):
        return _load_with_wrk(url, seconds=seconds, connections=connections)
    command = [sys.executable, __file__, "load", url, str(seconds), str(connections)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _load_with_wrk(url: str, *, seconds: float, connections: int) -> float:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s"]
    command += ["-H", f"Authorization: Basic {CREDENTIALS}", url + TASK_PATH]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said:
        raise SystemExit(f"not every answer was 200:\n{said}")
    return float(re.findall(r"Requests/sec: +([0-9.]+)", said)[0])


class _Asking(asyncio.Protocol):
    """One connection that asks again as soon as it has been answered."""

    def __init__(self, request: bytes, count: list[int], failed: asyncio.Future[None]) -> None:
        self.request = request
        self.count = count
        self.failed = failed
        self.length = 0
        self.buffered = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffered = self.buffered + data if self.buffered else data
        if not self.length:
            self.length = self._whole_length()
        if not self.length or len(self.buffered) < self.length:
            return
        if not self.buffered.startswith(b"HTTP/1.1 200") and not self.failed.done():
            self.failed.set_exception(RuntimeError(f"not answered 200: {self.buffered!r}"))
        self.count[0] += 1
        self.buffered, self.length = b"", 0
        self.transport.write(self.request)

    def _whole_length(self) -> int:
        head = self.buffered.find(b"\r\n\r\n")
        if head < 0:
            return 0
        at = self.buffered.index(b"content-length: ") + 16
        return head + 4 + int(self.buffered[at : self.buffered.index(b"\r", at)])


async def _load(url: str, seconds: float, connections: int) -> float:
    place = urlsplit(url)
    host, port = place.hostname or "", place.port or 80
    request = (
        f"GET {TASK_PATH} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Basic {CREDENTIALS}\r\n\r\n"
    ).encode()
    count = [0]
    loop = asyncio.get_running_loop()
    failed = loop.create_future()
    for _ in range(connections):
        await loop.create_connection(lambda: _Asking(request, count, failed), host, port)
    began = time.perf_counter()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(failed, seconds)
    return count[0] / (time.perf_counter() - began)


# --- the comparison -------------------------------------------------------------------------------


def compare(*, rounds: int, seconds: float, connections: int) -> None:
    """Loads every app by turns and prints the medians."""
    servers = {name: _start(name) for name in APPS}
    try:
        urls = {name: process.stdout.readline().strip() for name, process in servers.items()}
        for url in urls.values():
            load(url, seconds=min(seconds, 1), connections=connections)
        runs: dict[str, list[float]] = {name: [] for name in APPS}
        for _ in range(rounds):
            for name, url in urls.items():
                runs[name].append(load(url, seconds=seconds, connections=connections))
    finally:
        for process in servers.values():
            process.terminate()
    _print_table(runs)


def _start(name: str) -> Any:
    command = [sys.executable, __file__, "serve", name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _print_table(runs: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(rates) for name, rates in runs.items()}
    print(f"{'served by':<18}{'req/s':>10}{'least':>10}{'most':>10}{'to stock':>10}{'to bare':>10}")
    for name, rate in medians.items():
        to_stock = rate / medians["stock connexion"]
        to_bare = rate / medians["bare ASGI"]
        least, most = min(runs[name]), max(runs[name])
        print(f"{name:<18}{rate:>10.0f}{least:>10.0f}{most:>10.0f}{to_stock:>10.2f}{to_bare:>10.2f}")


def main() -> None:
    """Compares; or, as a child of itself, serves one app or loads one server."""
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    elif sys.argv[1:2] == ["load"]:
        import uvloop

        url, seconds, connections = sys.argv[2:]
        print(uvloop.run(_load(url, float(seconds), int(connections))))
    else:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("--rounds", type=int, default=5)
        parser.add_argument("--seconds", type=float, default=3)
        parser.add_argument("--connections", type=int, default=16)
        compare(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
