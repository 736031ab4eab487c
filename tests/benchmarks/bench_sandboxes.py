"""What a sandbox costs: to make and drop, to live through, to retry, in memory while it is asked, and with a long task.

Run it with ``python tests/benchmarks/bench_sandboxes.py``; it asserts nothing. Memory is what the
process holds (Linux: /proc/self/statm), after a collection.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.log import MoveClock, SandboxSpec
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.sandboxes import Sandboxes
from oceanmock.http.app import App
from oceanmock.journal import MAX_JOURNAL_ENTRIES
from oceanmock.library import load_scenario, read_scenario
from oceanmock.ocp.world import Tasks
from oceanmock.scenario import BaseScenario

REQUESTS: Final = 200_000
RETRIES: Final = 30_000
SANDBOXES: Final = 10_000

OCP: Final = read_scenario(
    """
summary: Three subtasks, of which the second fails once
api: ocp
progression: manual
tasks:
  - id: 1000
    name: Reinstall OCP agent
    subtasks:
      - {id: 1, name: Prepare}
      - {id: 2, name: Uninstall, attempts: [{takes: 2s, ends: FAILED}, {takes: 2s}]}
      - {id: 3, name: Install}
"""
)
OBSHELL: Final = read_scenario(
    """
summary: Three nodes, of which the second fails once
api: obshell
progression: manual
dags:
  - id: 4
    name: Initialize cluster
    nodes:
      - Integrate config
      - name: Start observer
        can: [retry]
        sub_tasks: {attempts: [{takes: 9ms, ends: FAILED}, {takes: 9ms}]}
      - Cluster boostrap
"""
)
NAMELESS: Final = read_scenario(
    """
summary: A task whose names and ids are all left out
api: ocp
progression: manual
tasks: [{subtasks: [{}, {}, {}]}]
"""
)
LONG: Final = read_scenario(
    """
summary: A task that takes an hour and a half
api: ocp
progression: manual
tasks:
  - id: 1000
    name: Back up tenant
    subtasks:
      - {id: 1, name: Prepare, timeout: 2h, attempts: {takes: 1m}}
      - {id: 2, name: Copy, timeout: 2h, attempts: {takes: 87m, log: [a, b, c]}}
      - {id: 3, name: Verify, timeout: 2h, attempts: {takes: 2m}}
"""
)
CREDENTIALS: Final = b"Basic " + base64.b64encode(b"manager:manager")


def made(*scenarios: BaseScenario) -> SandboxSpec:
    """The specification of a sandbox."""
    return SandboxSpec(scenarios)


def rss_bytes() -> int:
    """What the process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def microseconds(act: Callable[[], object], *, times: int) -> tuple[float, float]:
    """The median of one act, and the longest but one in a hundred."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append((time.perf_counter() - began) * 1e6)
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


# --- to make and drop -----------------------------------------------------------------------------


def make_and_drop(sandboxes: Sandboxes, make: SandboxSpec) -> None:
    sandboxes.delete(sandboxes.create(None, make).name)


def print_making() -> None:
    sandboxes = Sandboxes(make_sandbox(progression="manual"))
    for name, make in {
        "a task of OCP": made(OCP),
        "a dag of obshell": made(OBSHELL),
        "both": made(OCP, OBSHELL),
        "a task without a name": made(NAMELESS),
    }.items():
        make_and_drop(sandboxes, make)  # the first one loads faker
        median, worst = microseconds(partial(make_and_drop, sandboxes, make), times=2000)
        print(f"made and dropped, {name:24}{median:8.0f} us{worst:8.0f} us at worst")


def print_living_together() -> None:
    sandboxes = Sandboxes(make_sandbox(progression="manual"), limit=SANDBOXES + 1)
    before = rss_bytes()
    for _ in range(SANDBOXES):
        sandboxes.create(None, made(OCP, OBSHELL))
    taken = rss_bytes() - before
    each = taken // SANDBOXES
    print(f"{SANDBOXES:,} sandboxes at once: {taken / 2**20:.0f} MiB, {each:,} bytes each")


# --- to live through ------------------------------------------------------------------------------


def live(sandbox: Sandbox) -> int:
    """Goes from one due instant to the next until nothing is due; how many there were."""
    steps = 0
    while (due := sandbox.next_due()) is not None:
        sandbox.execute(MoveClock(due))
        sandbox.world(Tasks).view(1000)
        steps += 1
    return steps


def print_living() -> None:
    def whole() -> None:
        sandbox = make_sandbox([LONG])
        sandbox.advance(5_500 * SECOND)
        if sandbox.world(Tasks).view(1000).state.status != "SUCCESSFUL":
            raise SystemExit("it has not ended")

    steps = live(make_sandbox([LONG]))
    for name, act in {"in one go": whole, f"in {steps} steps": lambda: live(make_sandbox([LONG]))}.items():
        median, worst = microseconds(act, times=200)
        print(f"5,400 s lived through {name:20}{median:8.0f} us{worst:8.0f} us at worst")


# --- to be asked ----------------------------------------------------------------------------------


def targets() -> Iterator[tuple[str, str]]:
    """What is asked: mostly reads, some of what is refused."""
    task = "/api/v2/tasks/instances/1000"
    while True:
        yield from [("GET", task)] * 6
        yield "GET", "/api/v2/tasks/instances"
        yield "GET", f"{task}/subtasks/2/log"
        yield "POST", f"{task}/subtasks/2/retry"
        yield "GET", "/nowhere"


async def ask(app: App, method: str, path: str) -> None:
    """Asks as raw ASGI; the answer is dropped."""

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(_: object) -> None:
        return None

    headers = [(b"authorization", CREDENTIALS), (b"user-agent", b"bench"), (b"host", b"mock")]
    scope = {"type": "http", "method": method, "path": path, "query_string": b""}
    await app({**scope, "headers": headers}, receive, send)


async def print_asking() -> None:
    sandbox = make_sandbox([OCP])
    app, rest = App(Sandboxes(sandbox)), targets()
    sandbox.advance(60 * SECOND)
    marks = [MAX_JOURNAL_ENTRIES, 10_000, 50_000, 100_000, 150_000, REQUESTS]
    asked, began = 0, time.perf_counter()
    for mark in marks:
        while asked < mark:
            await ask(app, *next(rest))
            asked += 1
        rate = asked / (time.perf_counter() - began)
        held = rss_bytes() / 2**20
        kept = sandbox.journal.count()
        print(f"{asked:9,} requests: {held:8.1f} MiB held, {kept:,} entries, {rate:,.0f} requests/s")


async def print_retrying() -> None:
    """Print the CPU time of retries of one task that fails again at once, so that its history grows."""
    app = App(Sandboxes(make_sandbox([load_scenario("never-succeeds")], progression="immediate")))
    gc.freeze()  # as a server does when it is ready
    for number in range(RETRIES // 10_000):
        taken = []
        for _ in range(10_000):
            began = time.thread_time_ns()
            await ask(app, "POST", "/api/v2/tasks/instances/5300/subtasks/5302/retry")
            taken.append((time.thread_time_ns() - began) / 1e3)
        median, longest, held = statistics.median(taken), max(taken), rss_bytes() / 2**20
        count = (number + 1) * 10_000
        print(f"{count:9,} retries: {median:8.0f} us{longest:9.0f} us at worst, {held:8.1f} MiB held")
    gc.unfreeze()


# --- a long task ----------------------------------------------------------------------------------


def chain(length: int) -> BaseScenario:
    """A task of subtasks in a row: the first fails once, the last always."""
    first = "{attempts: [{takes: 1s, ends: FAILED}, {takes: 1s}]}"
    subtasks = ", ".join([first, *["Step"] * (length - 2), "{attempts: {takes: 1s, ends: FAILED}}"])
    return read_scenario(
        f"summary: A chain\napi: ocp\nprogression: manual\ntasks: [{{id: 1000, name: T, subtasks: [{subtasks}]}}]"
    )


async def print_chains() -> None:
    """Print the CPU time of a task's start, of requests for it, and of its whole way in between."""
    task = "/api/v2/tasks/instances/1000"

    async def timed(app: App, method: str, path: str = "") -> float:
        began = time.thread_time_ns()
        await ask(app, method, task + path)
        return (time.thread_time_ns() - began) / 1e6

    for length in (500, 1000, 2000):
        scenario = chain(length)
        began = time.thread_time_ns()
        sandbox = make_sandbox([scenario])
        app = App(Sandboxes(sandbox))
        sandbox.world(Tasks).view(1000)
        started = (time.thread_time_ns() - began) / 1e6
        sandbox.advance(60 * SECOND)
        retried, read = await timed(app, "POST", "/retry"), await timed(app, "GET")
        sandbox.advance(10 * length * SECOND)
        ended = await timed(app, "GET")
        undone = await timed(app, "POST", "/rollback")
        sandbox.advance(10 * length * SECOND)
        view = sandbox.world(Tasks).view(1000).state
        if (view.status, view.operation) != ("SUCCESSFUL", "ROLLBACK"):
            raise SystemExit("it has not been rolled back")
        costs = f"start{started:7.1f} ms, retry{retried:7.1f}, GET{read:7.1f}, rollback{undone:7.1f}"
        costs += f", the first GET once all subtasks have run{ended:7.1f}"
        print(f"a chain of {length:5,} subtasks: {costs}")


if __name__ == "__main__":
    asyncio.run(print_chains())
    asyncio.run(print_retrying())
    print_making()
    print_living()
    asyncio.run(print_asking())
    print_living_together()
