"""Compare servers that answer the same request: oceanmock, stock connexion, a bare ASGI app, peers.

``python tests/benchmarks/bench_requests.py`` loads oceanmock, stock connexion and a bare ASGI app with
wrk; it asserts nothing. ``--peers FOLDER`` adds Prism, WireMock and MockServer, which
``install_peers.sh FOLDER`` installs. Every server is a process of its own, started as its user starts
it, and stays up; they are loaded by turns, so that a machine that becomes slow becomes slow for all,
and medians of the rounds are printed. oceanmock and stock connexion authenticate each request and
validate it and its response by openapi/ocp.yaml; no other server does.

The requests: ``get`` of one task; ``list``, a page of tasks; ``retry`` of a subtask that fails again
at once, which is a command in the log each time; ``sealed``, obshell's GET of a dag, sealed anew for
each request. The other servers answer each with the same bytes, and keep no state.

``--replicas`` loads instead, all through nginx but the first: oceanmock in memory, and one and two replicas on Redis.
``--memory`` prints instead what ``serve`` with the whole library holds after so many of each.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import copy
import json
import logging
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

# ruff: noqa: PLC0415 (each process imports what it serves, and no more)
warnings.simplefilter("ignore")  # what connexion imports is deprecated

ROOT: Final = Path(__file__).resolve().parents[2]
TASKS: Final = "/api/v2/tasks/instances"
BASIC: Final = "Basic " + base64.b64encode(b"manager:manager").decode()
TASK: Final = f"{TASKS}/5300"
RETRY: Final = f"{TASK}/subtasks/5302/retry"
DAG: Final = "/api/v1/task/dag/221307064330288670"
SCENARIOS: Final = ("never-succeeds", "pass-failed-dag")
PATHS: Final = {"get": TASK, "list": TASKS, "retry": RETRY, "sealed": DAG}
"""By request; ``retry`` is a POST, the others are GETs."""
SEALED_HEADERS: Final = 4096
"""How many headers take turns: more than the server keeps requests, since a client seals each anew."""
READY_SECONDS: Final = 60
MEMORY_MARKS: Final = (20_000, 100_000, 200_000)


@dataclass(frozen=True)
class Server:
    """How a server is started, and which of the requests it answers."""

    name: str
    command: Sequence[str]
    requests: Sequence[str] = ("get", "list", "retry")
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One load of one server: requests, in all and a second, latencies in ms, CPU in µs a request."""

    count: int
    rate: float
    p50: float
    p99: float
    cpu: float


# --- the servers of this file ---------------------------------------------------------------------


def check_user(username: str, password: str) -> dict[str, str] | None:
    """Return the user of the stock app, whose spec names this function."""
    return {"sub": username} if (username, password) == ("manager", "manager") else None


def no_access_key(apikey: str) -> None:
    """Accept no access key in the stock app."""


def stock_app(bodies: Mapping[str, bytes]) -> Any:
    """Return plain connexion with the contract, its security, and its responses validated."""
    from connexion import AsyncApp
    from connexion.resolver import Resolver

    from oceanmock.openapi import load_spec, spec_path

    spec = copy.deepcopy(dict(load_spec(spec_path("ocp"))))
    schemes = spec["components"]["securitySchemes"]
    schemes["basicAuth"]["x-basicInfoFunc"] = f"{__name__}.check_user"
    schemes["accessKey"]["x-apikeyInfoFunc"] = f"{__name__}.no_access_key"
    values = {path: json.loads(body) for path, body in bodies.items()}

    async def answer(**params: Any) -> Any:
        return values[(TASKS, TASK, RETRY)[len([name for name in params if name.endswith(("InstanceId", "_id"))])]]

    app = AsyncApp(__name__, validate_responses=True)
    app.add_api(spec, resolver=Resolver(lambda _operation: answer))
    return app


def bare_app(bodies: Mapping[str, bytes]) -> Any:
    """Return as little as ASGI allows."""
    starts = {
        path: [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        for path, body in bodies.items()
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        await send({"type": "http.response.start", "status": 200, "headers": starts[path]})
        await send({"type": "http.response.body", "body": bodies[path]})

    return app


def serve(name: str, port: int, folder: Path) -> None:
    """Serve one of this file's apps with uvicorn."""
    import uvicorn

    logging.disable(logging.WARNING)
    bodies = {path: (folder / file).read_bytes() for path, file in BODIES.items()}
    app = stock_app(bodies) if name == "stock" else bare_app(bodies)
    config = {"http": "httptools", "loop": "uvloop", "lifespan": "off", "log_config": None, "access_log": False}
    uvicorn.run(app, port=port, **config)  # type: ignore[arg-type]


BODIES: Final = {path: f"{request}.json" for request, path in PATHS.items()}


# --- every server ---------------------------------------------------------------------------------


def servers_in(folder: Path, peers: Path | None) -> list[Server]:
    """Return the servers to compare; ``{port}`` in a command is replaced."""
    own, every = [sys.executable, __file__, "serve"], tuple(PATHS)
    servers = [
        oceanmock_server(*SCENARIOS),
        Server("stock connexion", [*own, "stock", "{port}", str(folder)]),
        Server("bare ASGI", [*own, "bare", "{port}", str(folder)], every),
    ]
    if peers is None:
        return servers
    prism = [str(peers / "node_modules/.bin/prism"), "mock", "-p", "{port}", str(ROOT / "openapi/ocp.yaml")]
    wiremock = ["java", "-jar", str(next(peers.glob("wiremock/*.jar"))), "--port", "{port}"]
    wiremock += ["--root-dir", str(folder / "wiremock"), "--no-request-journal", "--disable-banner"]
    classpath = str(peers / "mockserver/*")
    mockserver = ["java", "-cp", classpath, "org.mockserver.cli.Main", "-serverPort", "{port}"]
    expectations = {"MOCKSERVER_INITIALIZATION_JSON_PATH": str(folder / "mockserver.json")}
    return [
        *servers,
        Server("Prism", prism),
        Server("WireMock, no journal", wiremock, every),
        Server("WireMock", [part for part in wiremock if part != "--no-request-journal"], every),
        Server("MockServer", mockserver, every, expectations),
    ]


def oceanmock_server(*scenarios: str) -> Server:
    """Return oceanmock with some scenarios, by default the whole library."""
    command = [sys.executable, "-m", "oceanmock", "serve", "--port", "{port}", "--progression", "immediate"]
    return Server("oceanmock", [*command, *scenarios], tuple(PATHS))


def replica_servers() -> list[Server]:
    """Return oceanmock in memory, alone and behind nginx, and replicas on a Redis that writes its file each second."""
    command = [
        sys.executable,
        str(ROOT / "tests" / "redis_servers.py"),
        "--port",
        "{port}",
        "--appendfsync",
        "everysec",
    ]
    command += ["--progression", "immediate", *SCENARIOS, "--replicas"]
    names = ("in memory, behind nginx", "one replica", "two replicas")
    several = [Server(name, [*command, str(count)]) for count, name in enumerate(names)]
    return [oceanmock_server(*SCENARIOS), *several]


def write_inputs(folder: Path) -> None:
    """Write the bodies and stubs that the other servers answer with."""
    import httpx

    stubs, expectations = [], []
    with started(oceanmock_server(*SCENARIOS), folder) as running:
        for request, path in PATHS.items():
            method, url = method_of(request), running.url + path
            headers = {"Authorization": BASIC} if request != "sealed" else dict(sealed_headers(url, 1)[0])
            body = httpx.request(method, url, headers=headers).raise_for_status().text
            (folder / BODIES[path]).write_text(body)
            response = {"status": 200, "headers": {"Content-Type": "application/json"}, "body": body}
            stubs.append({"request": {"method": method, "urlPath": path}, "response": response})
            response = {"statusCode": 200, "headers": {"Content-Type": ["application/json"]}, "body": body}
            expectations.append({"httpRequest": {"method": method, "path": path}, "httpResponse": response})
    mappings = folder / "wiremock" / "mappings"
    mappings.mkdir(parents=True)
    (mappings / "stubs.json").write_text(json.dumps({"mappings": stubs}))
    (folder / "mockserver.json").write_text(json.dumps(expectations))


@dataclass
class Running:
    """A server that has started; ``ready`` is the seconds until its first answer."""

    server: Server
    process: subprocess.Popen[bytes]
    url: str
    ready: float = 0.0

    def stat(self) -> tuple[float, float]:
        """Return the CPU seconds used so far, and the resident memory in MB."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        memory = int(re.findall(r"VmRSS:\s+(\d+)", status)[0])
        return ticks / os.sysconf("SC_CLK_TCK"), memory / 1024


@contextlib.contextmanager
def started(server: Server, folder: Path) -> Iterator[Running]:
    """Start a server, wait for its first answer, and stop it afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [part.replace("{port}", str(port)) for part in server.command]
    environment = {**os.environ, **server.environment}
    began = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=folder)
        try:
            running = Running(server, process, f"http://127.0.0.1:{port}")
            request = urllib.request.Request(running.url + TASK, headers={"Authorization": BASIC})
            while True:
                with contextlib.suppress(urllib.error.URLError, OSError):
                    urllib.request.urlopen(request, timeout=READY_SECONDS).close()
                    break
                running.ready = time.perf_counter() - began
                if process.poll() is not None or running.ready > READY_SECONDS:
                    output.seek(0)
                    raise SystemExit(f"{server.name} did not start:\n{output.read().decode()}")
                time.sleep(0.005)
            running.ready = time.perf_counter() - began
            yield running
        finally:
            process.terminate()
            process.wait()


# --- the load -------------------------------------------------------------------------------------


def load(running: Running, request: str, *, seconds: int, connections: int) -> Result:
    """Load a server with wrk. Raises SystemExit unless every answer is 2xx."""
    url = running.url + PATHS[request]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as lua:
        if request == "sealed" and running.server.name == "oceanmock":
            headers = [f'["{name}"]="{value}"' for ((name, value),) in sealed_headers(url, SEALED_HEADERS)]
            lua.write(SEALED_SCRIPT.replace("HEADERS", "}, {".join(headers)))
        else:
            lua.write(f'wrk.method = "{method_of(request)}" wrk.headers["Authorization"] = "{BASIC}"')
        lua.flush()
        cpu, _ = running.stat()
        output = subprocess.run([*command, "-s", lua.name, url], check=True, capture_output=True, text=True)
        cpu = running.stat()[0] - cpu
    text = output.stdout
    if "Non-2xx" in text:
        raise SystemExit(f"{running.server.name}, {request}: not every answer was 2xx:\n{text}")
    count = int(re.findall(r"(\d+) requests in", text)[0])
    p50, p99 = (milliseconds(re.findall(rf"{part}%\s+([\d.]+\w+)", text)[0]) for part in (50, 99))
    return Result(count, count / seconds, p50, p99, cpu / max(count, 1) * 1e6)


SEALED_SCRIPT: Final = """
local several, turn = {{HEADERS}}, 0
init = function() for i, headers in ipairs(several) do several[i] = wrk.format("GET", nil, headers) end end
request = function() turn = turn % #several + 1 return several[turn] end
"""


def method_of(request: str) -> str:
    """Return the method of a request."""
    return "POST" if request == "retry" else "GET"


def sealed_headers(url: str, count: int) -> list[list[tuple[str, str]]]:
    """Return obshell's security headers for several GETs, each sealed anew."""
    import httpx

    from oceanmock.credentials import Sealed

    seal, several = Sealed("oceanmock", lifetime=3600), []
    for _ in range(count):
        headers = seal(httpx.Request("GET", url)).headers
        several.append([(name, value) for name, value in headers.items() if name.startswith("x-ocs")])
    return several


def milliseconds(text: str) -> float:
    """Return a latency of wrk's output in milliseconds."""
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


# --- the comparison -------------------------------------------------------------------------------


def compare(folder: Path, servers: Sequence[Server], connections: Sequence[int], options: argparse.Namespace) -> None:
    """Load every server by turns and print the medians as Markdown tables."""
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    )
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(started(server, folder)) for server in servers]
        for each in running:
            load(each, "get", seconds=options.warm, connections=16)
        for request in options.requests.split(","):
            for count in connections:
                some = [each for each in running if request in each.server.requests]
                results: dict[str, list[Result]] = {each.server.name: [] for each in some}
                for _ in range(options.rounds):
                    for each in some:
                        results[each.server.name].append(
                            load(each, request, seconds=options.seconds, connections=count)
                        )
                print_results(f"{request}, {count} connections", results)
        print("\n| server | first answer, s | memory after, MB |\n|---|---|---|")
        for each in running:
            print(f"| {each.server.name} | {each.ready:.2f} | {each.stat()[1]:.0f} |")


def print_results(title: str, results: Mapping[str, Sequence[Result]]) -> None:
    """Print the medians of one request, and each server's ratio to the bare app."""
    medians = {name: statistics.median(result.rate for result in of_name) for name, of_name in results.items()}
    bare = medians.get("bare ASGI")
    print(f"\n| {title} | req/s | to bare | p50 ms | p99 ms | CPU µs |\n|---|---|---|---|---|---|")
    for name, of_name in results.items():
        p50, p99, cpu = (statistics.median(getattr(result, key) for result in of_name) for key in ("p50", "p99", "cpu"))
        ratio = f"{medians[name] / bare:.2f}" if bare else "–"
        print(f"| {name} | {medians[name]:.0f} | {ratio} | {p50:.2f} | {p99:.1f} | {cpu:.0f} |", flush=True)


def print_memory(folder: Path, requests: Sequence[str]) -> None:
    """Print the resident memory of ``serve`` with the library after numbers of each of some requests, in MB."""
    print(f"| resident MB after | 0 | {' | '.join(f'{mark:,}' for mark in MEMORY_MARKS)} |")
    print("|---" * (len(MEMORY_MARKS) + 2) + "|")
    for request in requests:
        with started(oceanmock_server(), folder) as running:
            count, cells = 0, [f"{running.stat()[1]:.1f}"]
            for mark in MEMORY_MARKS:
                while count < mark:
                    count += load(running, request, seconds=2, connections=16).count
                cells.append(f"{running.stat()[1]:.1f}")
        print(f"| {request} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Compare; or, as a child of itself, serve one app."""
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    parser.add_argument("--warm", type=int, default=3, help="seconds of load before the first round")
    parser.add_argument("--connections", default="1,16,64", help="numbers, separated by commas")
    parser.add_argument("--requests", default=",".join(PATHS), help="some of them, separated by commas")
    parser.add_argument(
        "--replicas", action="store_true", help="compare replicas on Redis; needs nginx and redis-server"
    )
    parser.add_argument("--memory", action="store_true", help="measure memory instead, which takes ten minutes")
    parser.add_argument("--peers", type=Path, help="the folder that install_peers.sh has filled")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; it is a package of most systems (apt install wrk).")
    with tempfile.TemporaryDirectory() as folder:
        if options.memory:
            print_memory(Path(folder), options.requests.split(","))
            return
        connections = [int(count) for count in options.connections.split(",")]
        if options.replicas:
            compare(Path(folder), replica_servers(), connections, options)
            return
        write_inputs(Path(folder))
        servers = servers_in(Path(folder), options.peers)
        compare(Path(folder), servers, connections, options)


if __name__ == "__main__":
    main()
