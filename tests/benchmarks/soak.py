"""Load one server with eight hostile clients and one that polls: memory, statuses, and the good client's latency.

``python tests/benchmarks/soak.py --seconds 600`` starts ``oceanmock serve``, measures the good client alone, then
beside the hostile ones, and prints both, the memory over time and every status that each kind of hostile request got.
It exits with 1 if a response was a 500 that is not the real server's, the server has ended, or memory grew by more than
a tenth in the second half. A hostile client sends its requests one after the other, with a pause between, since two
cores are shared with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

TASKS: Final = "/api/v2/tasks/instances"
BASIC: Final = "Authorization: Basic " + base64.b64encode(b"manager:manager").decode()
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
HOSTILE_CLIENTS: Final = 8
REAL_500: Final = (b"/api/v1/",)
"""Paths on which a running obshell itself answers 500 (tests/data/obshell)."""


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace") + body


def json_request(path: str, value: object, method: str = "POST") -> bytes:
    """Return the bytes of a request with a JSON body."""
    return request(method, path, "Content-Type: application/json", body=json.dumps(value).encode())


def garbage(rng: random.Random) -> bytes:
    """Return bytes that are no HTTP."""
    return rng.randbytes(rng.randrange(1, 5000))


def large_head(rng: random.Random) -> bytes:
    """Return a head that is too large, in one header or in many."""
    if rng.random() < 0.5:
        return request("GET", TASKS, "X: " + "x" * 200_000)
    return request("GET", TASKS, *["X: y"] * 5_000)


def sealed_head(rng: random.Random) -> bytes:
    """Return a security header of many blocks."""
    header = base64.b64encode(rng.randbytes(64 * rng.randrange(1, 600))).decode()
    return request("GET", "/api/v1/task/dag/1", f"X-OCS-Header: {header}")


def odd_target(rng: random.Random) -> bytes:
    """Return a path or a query that no client should send."""
    path = rng.choice(["/%00", "/" + "9" * 5000, f"?{'a=b&' * 3000}", "/" * 2000, "/1/../1", "?status=%ff", "/%F0"])
    return request(rng.choice(["GET", "POST", "DELETE", "BREW"]), TASKS + path, BASIC)


def deep_json(rng: random.Random) -> bytes:
    """Return a body that is nested deep, or as wide as bodies may be."""
    depth = rng.randrange(10, 100_000)
    body = b"[" * depth + b"]" * depth if rng.random() < 0.5 else b"[" + b"1," * 400_000 + b"1]"
    path = rng.choice(["/api/v1/task/dag/1", f"{TASKS}/1000/retry", "/__admin/sandboxes"])
    return request("POST", path, BASIC, "Content-Type: application/json", body=body)


def wide_query(rng: random.Random) -> bytes:
    """Return a verification that compares much."""
    body = {f"key{number}": number for number in range(rng.randrange(5_000))}
    return json_request("/__admin/sandboxes/default/journal/verify", {"query": {"body": body, "path": "*a*b*c*d*e*"}})


def hostile_scenario(rng: random.Random) -> bytes:
    """Return a scenario that means a lot of work, or none."""
    name = f"soak-{rng.randrange(50)}"
    scenarios = [
        "summary: x\napi: ocp\ntasks: [{name: t, subtasks: [a], repeat: {count: 1000000}}]",
        "a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]",
        "[" * 10_000,
        "summary: x\napi: ocp\ntasks:\n" + "- {name: t, subtasks: [a]}\n" * 5_000,
        "\x00\ufeff: no",
    ]
    return json_request("/__admin/sandboxes", {"name": name, "scenarios": [rng.choice(scenarios)]})


def churn(rng: random.Random) -> bytes:
    """Return a request that creates, loads or deletes sandboxes, or adds faults."""
    name = f"soak-{rng.randrange(50)}"
    return rng.choice(
        [
            json_request("/__admin/sandboxes", {"name": name, "scenarios": ["retry-failed-subtask"]}),
            request("DELETE", f"/__admin/sandboxes/{name}"),
            json_request(f"/__admin/sandboxes/{name}/faults", {"api": "ocp", "status": 503}),
            json_request(f"/__admin/sandboxes/{name}/clock/advance", {"by": "999999h"}),
            request("GET", TASKS, BASIC, f"X-Oceanmock-Sandbox: {name}"),
        ]
    )


KINDS: Final[tuple[Callable[[random.Random], bytes], ...]] = (
    garbage,
    large_head,
    sealed_head,
    odd_target,
    deep_json,
    wide_query,
    hostile_scenario,
    churn,
)


async def hostile_client(place: SplitResult, seed: int, seconds: float, pause: float) -> Counter[str]:
    """Send hostile requests for so long; return how often each kind got each status."""
    rng, counts, until = random.Random(seed), Counter[str](), time.monotonic() + seconds
    while time.monotonic() < until:
        kind = rng.choice(KINDS)
        data = kind(rng)
        status = "closed"
        try:
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            writer.write(data)
            if rng.random() < 0.1:  # it goes away
                status = "left"
            else:
                line = await asyncio.wait_for(reader.readline(), 20)
                status = line.split(b" ")[1].decode() if line.startswith(b"HTTP/") else "closed"
            writer.close()
        except TimeoutError:
            status = "no answer"
        except OSError:
            pass
        counts[f"{kind.__name__} {status}"] += 1
        if status == "500" and not any(part in data[:200] for part in REAL_500):
            counts[f"WRONG {data[:120]!r}"] += 1
        await asyncio.sleep(pause * rng.random() * 2)
    return counts


def attack_with(place: SplitResult, seconds: float, pause: float, counts: multiprocessing.Queue[Counter[str]]) -> None:
    """Run the hostile clients in a process of their own."""

    async def run() -> Counter[str]:
        clients = (hostile_client(place, number, seconds, pause) for number in range(HOSTILE_CLIENTS))
        return sum(await asyncio.gather(*clients), Counter[str]())

    counts.put(asyncio.run(run()))


def poll(place: SplitResult, seconds: float, on_second: Callable[[], None]) -> Iterator[float]:
    """GET a task again and again, as a client that polls; yield each latency in ms."""
    data = request("GET", f"{TASKS}/1000", BASIC)
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        file, end = connection.makefile("rb"), time.monotonic() + seconds
        next_second = time.monotonic()
        while (now := time.monotonic()) < end:
            if now >= next_second:
                on_second()
                next_second += 1
            connection.sendall(data)
            length, line = 0, file.readline()
            assert line.startswith(b"HTTP/1.1 200"), line
            while (header := file.readline()) != b"\r\n":
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            file.read(length)
            yield (time.monotonic() - now) * 1000
            time.sleep(0.005)


def main() -> int:
    """Run the soak and print what it showed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--alone", type=float, default=30, help="seconds of the good client alone")
    parser.add_argument("--pause", type=float, default=0.1, help="mean seconds between a hostile client's requests")
    options = parser.parse_args()
    oceanmock = Path(sys.executable).with_name("oceanmock")
    command = [str(oceanmock), "serve", "--port", "0", "retry-failed-subtask", "start-operations"]
    memory, counts, rest = list[float](), Counter[str](), ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:

        def sample() -> None:
            pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
            memory.append(pages * PAGE / 2**20)

        try:
            assert server.stdout is not None
            address = next(line.split()[2] for line in server.stdout if line.startswith("Ready on "))
            place = urlsplit(address)
            alone = list(poll(place, options.alone, sample))
            queue: multiprocessing.Queue[Counter[str]] = multiprocessing.Queue()
            attack = multiprocessing.Process(target=attack_with, args=(place, options.seconds, options.pause, queue))
            attack.start()
            memory.clear()
            beside = list(poll(place, options.seconds, sample))
            counts = queue.get()
            attack.join()
            is_alive = server.poll() is None
        finally:
            server.terminate()
            rest = server.communicate()[0]
            print(rest[-3000:])
    print("| the good client | requests | p50 ms | p99 ms | most ms |\n|---|---|---|---|---|")
    for name, latencies in (("alone", alone), ("beside 8 hostile clients", beside)):
        cuts = statistics.quantiles(latencies, n=100)
        print(f"| {name} | {len(latencies):,} | {cuts[49]:.2f} | {cuts[98]:.2f} | {max(latencies):.1f} |")
    tenth = max(1, len(memory) // 10)
    samples = [round(memory[n]) for n in range(0, len(memory), tenth)]
    print(f"\nMemory of the server, MB, from the start to the end: {samples}, at most {max(memory):.0f}")
    print(f"Hostile requests: {sum(n for kind, n in counts.items() if not kind.startswith('WRONG')):,}\n")
    for kind, number in sorted(counts.items()):
        print(f"{number:7,} {kind}")
    middle = statistics.median(memory[len(memory) // 2 :][:tenth])
    end = statistics.median(memory[-tenth:])
    problems = [f"memory grew from {middle:.0f} to {end:.0f} MB in the second half"] if end > 1.1 * middle else []
    problems += [kind for kind in counts if kind.startswith("WRONG") or kind.endswith("no answer")]
    problems += [] if is_alive else ["the server has ended"]
    problems += [f"the server wrote: {rest.strip()[:2000]}"] if rest.strip() else []
    print("\n".join(["", *problems]) if problems else "\nNothing wrong.")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
