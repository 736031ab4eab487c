"""Measure what a large sandbox costs: load, memory, a page by every filter and sort, a GET, and the longest block.

Run it with ``python tests/benchmarks/bench_large.py``; it asserts nothing. It compares 1,000 with 1,000,000 tasks in
one process, by turns, in CPU time. The longest block of the event loop is the longest request, since each is answered
in one call. Load and memory are those of a process of their own.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import resource
import statistics
import subprocess
import sys
import time
from typing import Any, Final

import orjson

from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.sandboxes import Sandboxes
from oceanmock.http.app import App
from oceanmock.library import read_scenario

SIZES: Final = (1_000, 1_000_000)
TEMPLATES: Final = 10
ROUNDS: Final = 15
PATH: Final = "/api/v2/tasks/instances"
CREDENTIALS: Final = b"Basic " + base64.b64encode(b"manager:manager")
FILTERS: Final = (
    "status=FAILED",
    "status=RUNNING,SUCCESSFUL",
    "type=SCHEDULED",
    "clusterName=trade",
    "clusterId=21",
    "clusterId=21&tenantName=crm",
    "tenantId=312",
    "hostId=71",
    "name=Back up",
    "name=12",
    "name=part 12&status=FAILED&clusterId=21&sort=name,desc",
)
SORTS: Final = [
    f"sort={key},{way}" for key in ("id", "name", "status", "startTime", "finishTime") for way in ("asc", "desc")
]

LONGEST: Final = list[float]()
"""The CPU time of the longest request so far, in ms."""


def scenario_text(count: int) -> str:
    """Return a scenario of tasks in every state, two milliseconds apart, from ten templates."""
    each = count // TEMPLATES
    ends = ["{takes: 10s}", "{takes: 5s, ends: FAILED}", "{takes: 365d}"]
    templates = [
        f"""
  - name: {("Back up tenant crm, part {n}", "Inspect host {n}", "Create tenant t{n} of trade")[place % 3]}
    repeat: {{count: {each}, every: 2ms}}
    age: {3000 + place}s
    type: {("SCHEDULED", "MANUAL")[place % 2]}
    {("cluster: {id: 21, name: trade, ob_cluster_id: 1}", "host_id: 71")[place % 2]}
    {("tenant: {id: 312, name: crm, ob_tenant_id: 8}", "concurrency: 3")[place % 2]}
    subtasks: [Prepare, {{name: Work, timeout: 400d, attempts: {ends[place % 3]}}}, Finish]"""
        for place in range(TEMPLATES)
    ]
    return "summary: Many tasks\napi: ocp\nprogression: manual\ntasks:" + "".join(templates)


async def request(app: App, method: str, path: str) -> tuple[float, dict[str, Any]]:
    """Send one request in this process, and return its CPU time in ms and the response."""
    parts = list[bytes]()

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        parts.append(message.get("body", b""))

    target, _, query = path.partition("?")
    headers = [(b"authorization", CREDENTIALS), (b"host", b"mock")]
    scope = {"type": "http", "method": method, "path": target, "query_string": query.replace(" ", "%20").encode()}
    began = time.process_time_ns()
    await app({**scope, "headers": headers}, receive, send)
    spent = (time.process_time_ns() - began) / 1e6
    LONGEST[:] = [max(spent, *LONGEST, 0.0)]
    return spent, orjson.loads(b"".join(parts))


async def print_requests(title: str, apps: list[App], sandboxes: list[Sandbox], *, by: int = 0) -> None:
    """Print what each request costs; ``by`` moves the clock on before each."""
    print(f"\n{title}: CPU ms with {SIZES[0]:,}, with {SIZES[1]:,}, ratio")
    highest = 0.0
    for query in ("", *FILTERS, *SORTS):
        totals = [(await request(app, "GET", f"{PATH}?{query}"))[1]["data"]["page"]["totalPages"] for app in apps]
        for place, share in (("first", 0.0), ("middle", 0.5), ("last", 1.0)):
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(ROUNDS):
                for number, app in enumerate(apps):
                    sandboxes[number].advance(by)
                    page = max(int(totals[number] * share), 1)
                    times[number].append((await request(app, "GET", f"{PATH}?{query}&page={page}"))[0])
                    await asyncio.sleep(0)
            small, large = map(statistics.median, times)
            highest = max(highest, large / small)
            print(f"  {query or 'no filter':55}{place:8}{small:8.2f}{large:8.2f}{large / small:8.2f}")
    print(f"  highest ratio {highest:.2f}")


async def print_gets(apps: list[App]) -> list[list[int]]:
    """Print what the GET of a task costs, and return some ids of each."""
    ids = [
        [row["id"] for row in (await request(app, "GET", f"{PATH}?size=2000&status=FAILED"))[1]["data"]["contents"]]
        for app in apps
    ]
    times: tuple[list[float], list[float]] = ([], [])
    for place in range(200):
        for number, app in enumerate(apps):
            times[number].append((await request(app, "GET", f"{PATH}/{ids[number][place]}"))[0])
            await asyncio.sleep(0)
    small, large = map(statistics.median, times)
    print(f"\nGET of a task: CPU ms {small:.2f}, {large:.2f}, ratio {large / small:.2f}")
    return ids


async def measure() -> None:
    sandboxes = [make_sandbox([read_scenario(scenario_text(size))]) for size in SIZES]
    apps = [App(Sandboxes(sandbox)) for sandbox in sandboxes]
    for app in apps:  # what is prepared once, such as names
        await request(app, "GET", PATH)
    gc.freeze()  # as serve does when it is ready
    LONGEST.clear()
    ids = await print_gets(apps)
    await print_requests("fresh", apps, sandboxes)
    for number, app in enumerate(apps):
        for id in ids[number][:200]:
            await request(app, "POST", f"{PATH}/{id}/retry")
            await asyncio.sleep(0)
    await print_requests("200 of them retried", apps, sandboxes)
    await print_requests("and the clock moved before each request", apps, sandboxes, by=SECOND // 7)
    print(f"\nlongest block of the event loop: {LONGEST[0]:.1f} ms of CPU time")
    times = [(await request(apps[1], "GET", f"{PATH}?size=2000"))[0] for _ in range(5)]
    print(f"a page of 2,000 rows, the most that a client can ask for: {statistics.median(times):.1f} ms")


def print_load(count: int) -> None:
    began = time.process_time()
    make_sandbox([read_scenario(scenario_text(count))])
    spent = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{count:9,} tasks: loaded in {spent:.3f} s of CPU time, {peak} MiB at most")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print_load(int(sys.argv[1]))
    else:
        for size in SIZES:
            subprocess.run([sys.executable, __file__, str(size)], check=True)
        asyncio.run(measure())
