"""What a start takes: ``oceanmock serve`` until it is ready, beside the libraries' imports alone.

Run it with ``python tests/benchmarks/bench_start.py``; it asserts nothing. Each round starts every command once, in a
process of its own and with all modules compiled, so that what else the machine does troubles all alike. Printed are the
medians of the rounds: seconds of wall time and of CPU, each also as a ratio to the import command. A server is measured
when it prints that it is ready, and again at its first response; ``serve`` serves the whole library. At the end stands
the memory of ``serve``: when it is ready, and after one request of each operation.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Final

import httpx

from oceanmock.apis import APIS, make_sandbox
from oceanmock.credentials import Basic, Sealed
from oceanmock.library import load_library
from oceanmock.openapi import operations_of

IMPORTS: Final = "import connexion, uvicorn, pydantic"
BARE: Final = """
import uvicorn

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("Ready on http://127.0.0.1:%d" % self.servers[0].sockets[0].getsockname()[1], flush=True)

Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None)).run()
"""
COMMANDS: Final = {
    "the imports": ["-W", "ignore", "-c", IMPORTS],
    "python -c pass": ["-c", "pass"],
    "oceanmock --help": ["-m", "oceanmock", "--help"],
}
SERVERS: Final = {"bare uvicorn": ["-c", BARE], "oceanmock serve": ["-m", "oceanmock", "serve", "--port", "0"]}
PATHS: Final = {"ocp": "/api/v2/tasks/instances", "obshell": "/api/v1/task/dag/"}
IDLE_S: Final = 2.0
"""What a server still does when it is ready, such as importing faker, has ended after so many seconds."""


@dataclass(frozen=True)
class Cost:
    """Seconds since the start of a process: by the wall clock, and of CPU."""

    wall: float
    cpu: float


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Return the cost of a command that ends by itself."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments} failed")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime)


@contextlib.contextmanager
def started(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """Start a server, wait for its ready line, and stop it afterwards; yield its URL and when it was started."""
    began = time.perf_counter()
    command = [sys.executable, "-u", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process, url_in(process.stdout), began
        finally:
            process.terminate()


def url_in(output: IO[str] | None) -> str:
    """Return the URL of the ready line. Raises SystemExit without one."""
    for line in output or ():
        if found := re.match(r"Ready on (\S+)", line):
            return found[1]
    raise SystemExit("a server did not start")


def cost_of(process: subprocess.Popen[str], began: float) -> Cost:
    """Return the cost of a running process, of all its threads."""
    wall = time.perf_counter() - began
    files = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return Cost(wall, sum(int(file.read_text().split()[0]) for file in files) / 1e9)


def start(name: str, environment: Mapping[str, str]) -> dict[str, Cost]:
    """Start a server and return its cost when it is ready and at its first response."""
    with started(SERVERS[name], environment) as (process, url, began):
        ready = cost_of(process, began)
        httpx.get(f"{url}{PATHS['ocp']}/1000", auth=Basic("viewer", "viewer")).raise_for_status()
        return {f"{name}, ready": ready, f"{name}, first response": cost_of(process, began)}


def memory_of(process: subprocess.Popen[str]) -> float:
    """Return the resident memory in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def request_each_operation(url: str) -> list[int]:
    """Send one request of each operation, about the first task or dag and its first parts; return the statuses."""
    statuses = list[int]()
    sandbox = make_sandbox(load_library())
    for api in APIS:
        auth = Basic("manager", "manager") if api.name == "ocp" else Sealed("oceanmock")
        ids = {api.root.name: next(sandbox.worlds[api.name].items()).id}
        for operation in sorted(operations_of(api.spec), key=lambda operation: operation.id != api.root.detail):
            path = operation.path
            for kind, parameter in api.ids_of(operation.id).items():
                path = path.replace(f"{{{parameter}}}", ids[kind])
            response = httpx.request(operation.method, url + path, auth=auth)
            statuses.append(response.status_code)
            if operation.id == api.root.detail:
                part = response.json()["data"]
                for above, below in pairwise(api.kinds):
                    part = part[above.parts_key][0]
                    ids[below.name] = str(part["id"])
    return statuses


def main() -> None:
    """Measure by turns, and print the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        rounds: list[dict[str, Cost]] = []
        for _ in range(options.rounds + 1):  # the first one compiles
            costs = {name: run(arguments, environment) for name, arguments in COMMANDS.items()}
            for name in SERVERS:
                costs |= start(name, environment)
            rounds.append(costs)
        print_costs(rounds[1:])
        print_memory(environment)


def print_costs(rounds: Sequence[Mapping[str, Cost]]) -> None:
    """Print the medians of all commands, and those of their ratios to the imports of the same round."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {len(rounds)} rounds")
    print(f"{'':32}{'wall s':>8}{'ratio':>8}{'CPU s':>8}{'ratio':>8}")
    for name in rounds[0]:
        line = f"{name:32}"
        for key in ("wall", "cpu"):
            pairs = [(getattr(costs[name], key), getattr(costs["the imports"], key)) for costs in rounds]
            seconds, ratio = statistics.median(a for a, _ in pairs), statistics.median(a / b for a, b in pairs)
            line += f"{seconds:8.3f}{ratio:8.2f}"
        print(line)


def print_memory(environment: Mapping[str, str]) -> None:
    """Print the memory of ``serve``."""
    with started(SERVERS["oceanmock serve"], environment) as (process, url, _):
        print(f"memory of serve: {memory_of(process):.0f} MB when ready, ", end="")
        time.sleep(IDLE_S)
        print(f"{memory_of(process):.0f} MB {IDLE_S:g} s later, ", end="")
        statuses = request_each_operation(url)
        accepted = sum(status < 300 for status in statuses)
        print(f"{memory_of(process):.0f} MB after {len(statuses)} operations ({accepted} answered 2xx)")


if __name__ == "__main__":
    main()
