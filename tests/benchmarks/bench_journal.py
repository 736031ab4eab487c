"""What the journal costs: microseconds to record an exchange, and bytes that an entry takes.

The exchanges are what a client of each API sends and gets: a poll of a task, an operation with a
JSON body, one with a password in it. The bytes are what Python has allocated for a full journal,
beside what the journal itself counts. Run it with ``python tests/benchmarks/bench_journal.py``; it
asserts nothing.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from typing import Any

from oceanmock.journal import MAX_JOURNAL_ENTRIES, Journal
from oceanmock.journal.entries import Entry, Query

ROUNDS = 20

REQUEST_HEADERS = [
    (b"host", b"127.0.0.1:8080"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"python-httpx/0.28.1"),
    (b"authorization", b"Basic bWFuYWdlcjptYW5hZ2Vy"),
]
ANSWER_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"2400")]
ANSWER = b'{"data":{"id":1000,"name":"Reinstall OCP agent","status":"RUNNING"},"status":200}' * 30
EXCHANGES: dict[str, dict[str, Any]] = {
    "a poll of a task": {},
    "an operation with a body": {"method": "POST", "request_body": b'{"operator":"RETRY"}'},
    "a body with a password": {"method": "POST", "request_body": b'{"rootPwd":"aB3!","zone":"z1"}'},
    "an answer of 256 KiB": {"response_body": b"x" * 2**18},
}


def fresh(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers as a server hands them over: fresh for every request."""
    return [(bytes(bytearray(name)), bytes(bytearray(value))) for name, value in headers]


def exchange(number: int, **other: Any) -> Entry:
    fields = {
        "at": 1_629_875_371_740_000_000 + number,
        "wall": 1_790_000_000_000_000_000 + number,
        "took": 400_000 + number,
        "api": "ocp",
        "operation": "getTaskInstance",
        "method": "GET",
        "path": f"/api/v2/tasks/instances/{1000 + number}",
        "query": "",
        "ids": {"taskInstanceId": str(1000 + number)},
        "caller": "manager",
        "request_body": b"",
        "status": 200,
        "response_body": bytes(bytearray(ANSWER)),
        "request_headers": fresh(REQUEST_HEADERS),
        "response_headers": fresh(ANSWER_HEADERS),
        **other,
    }
    return Entry(number=0, **fields)


def microseconds(**other: Any) -> float:
    """The median over the rounds of what recording one exchange takes."""
    journal, taken = Journal(), []
    for _ in range(ROUNDS):
        exchanges = [exchange(number, **other) for number in range(MAX_JOURNAL_ENTRIES)]
        began = time.perf_counter()
        for each in exchanges:
            journal.record(each)
        taken.append((time.perf_counter() - began) / MAX_JOURNAL_ENTRIES)
    return statistics.median(taken) * 1e6


def bytes_of_an_entry(**other: Any) -> tuple[float, float, float]:
    """What an entry of a full journal takes; the same after ten more times as many; as counted."""
    tracemalloc.start()
    journal = Journal()
    taken = []
    for rounds in (1, 10):
        for number in range(rounds * MAX_JOURNAL_ENTRIES):
            journal.record(exchange(number, **other))
        taken.append(tracemalloc.get_traced_memory()[0] / journal.count())
    tracemalloc.stop()
    return taken[0], taken[1], journal.bytes / journal.count()


def milliseconds_to_verify() -> float:
    """What it takes to verify, in vain, a full journal."""
    journal = Journal()
    for number in range(MAX_JOURNAL_ENTRIES):
        journal.record(exchange(number))
    began = time.perf_counter()
    journal.verify(Query({"operation": "retrySubtask", "subtask": 7}), times=1)
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    print(f"{'recorded':28}{'us':>8}{'bytes':>10}{'later':>10}{'counted':>10}")
    for name, other in EXCHANGES.items():
        first, later, counted = bytes_of_an_entry(**other)
        took = microseconds(**other)
        print(f"{name:28}{took:8.1f}{first:10.0f}{later:10.0f}{counted:10.0f}")
    took = milliseconds_to_verify()
    print(f"a verification in vain, of {MAX_JOURNAL_ENTRIES} entries: {took:.1f} ms")


if __name__ == "__main__":
    main()
