"""Every bound of docs/reference/limits.md, at its value and above it; and what hostile inputs cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oceanmock import Mock
from served import MANAGER, client

ROOT = Path(__file__).parents[1]
ROW = re.compile(
    r"^\| (?P<bound>[^|]+) \| (?P<value>[^|]+) \| (?P<status>[^|]+) \| (?P<message>[^|]+) \|$", re.MULTILINE
)
ROWS = [row for row in ROW.finditer((ROOT / "docs/reference/limits.md").read_text("utf-8")) if row["bound"] != "bound"]
TRIED = [row for row in ROWS if not row["message"].startswith("`")]
"""The rows that this file tries; the others name the file that does."""

Attempt = Callable[["Server", Any], httpx.Response]


class Server:
    """A server, with one empty sandbox that each attempt begins with."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.served = 0

    def admin(self, method: str, path: str, **options: Any) -> httpx.Response:
        return client().request(method, f"{self.url}/__admin{path}", timeout=60, **options)

    def fresh(self, **settings: Any) -> httpx.Response:
        """Create the sandbox anew."""
        self.admin("DELETE", "/sandboxes/t")
        return self.admin("POST", "/sandboxes", json={"name": "t", **settings})

    def create(self, *scenarios: Any, **settings: Any) -> httpx.Response:
        return self.fresh(scenarios=list(scenarios), **settings)

    def mine(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.admin(method, f"/sandboxes/t{path}", **options)

    def beside_others(self, send: Callable[..., httpx.Response], *args: Any) -> httpx.Response:
        """Return the response to a request, and count in ``served`` those of others meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            response = pool.submit(send, *args)
            while not response.done():
                self.served += self.admin("GET", "/ready").status_code == 200
        return response.result()

    def verify(self, **query: Any) -> httpx.Response:
        return self.mine("POST", "/journal/verify", json={"query": query, "at_least": 0})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Mock.start() as mock:
        yield Server(mock.url)


def ocp(*tasks: Any, **keys: Any) -> dict[str, Any]:
    return {"summary": "s", "api": "ocp", "tasks": list(tasks) or [{"subtasks": ["a"]}], **keys}


def subtasks(count: int) -> dict[str, Any]:
    return {"subtasks": [f"s{number}" for number in range(count)]}


def stubs(count: int, prefix: str = "x") -> dict[str, Any]:
    paths = [f"/api/v2/{prefix}/{number}" for number in range(count)]
    return ocp(*[{"name": path, "subtasks": ["a"], "starts_on": {"path": path}} for path in paths])


def faults(count: int) -> list[dict[str, Any]]:
    return [{"caller": f"c{number}", "status": 503} for number in range(count)]


def add_faults(server: Server, count: int) -> httpx.Response:
    server.create(ocp(faults=faults(count - 1)))
    return server.mine("POST", "/faults", json={"status": 503})


def open_ports(server: Server, count: int) -> httpx.Response:
    names = [f"port-{number}" for number in range(count)]
    answers = [server.admin("POST", "/sandboxes", json={"name": name, "own_port": True}) for name in names]
    for name in names:
        server.admin("DELETE", f"/sandboxes/{name}")
    return answers[-1]


def load_stubs(server: Server, count: int) -> httpx.Response:
    server.create(ocp(), stubs(count - 1, "x"))
    return server.mine("POST", "/scenarios", json={"scenarios": [stubs(1, "y")]})


def responses(count: int) -> list[dict[str, Any]]:
    return [{"path": f"/api/v2/z/{number}"} for number in range(count)]


def load_responses(server: Server, count: int) -> httpx.Response:
    server.create(ocp(stubs=responses(count - 1)))
    return server.mine("POST", "/scenarios", json={"scenarios": [ocp(stubs=responses(1))]})


def load_into_used(server: Server, count: int) -> httpx.Response:
    server.create(ocp())
    server.mine("POST", "/clock/next")
    return server.mine("POST", "/scenarios", json={"scenarios": [ocp(subtasks(count))]})


def values(count: int) -> str:
    """Return the text of a scenario with so many keys and values."""
    lines = ",".join("a" * (count - 17))
    return f"summary: s\napi: ocp\ntasks:\n- subtasks:\n  - name: a\n    attempts: {{log: [{lines}]}}\n"


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def template(place: int = 0, **keys: Any) -> dict[str, Any]:
    """Return a task that starts on a request, so that creating it costs little."""
    return {"name": f"t{place}", "starts_on": {"path": f"/api/v2/x/{place}"}, **keys}


def dag(nodes: int) -> dict[str, Any]:
    return {"summary": "s", "api": "obshell", "dags": [{"nodes": ["a"] * nodes}]}


def repeated(count: int, **keys: Any) -> dict[str, Any]:
    return ocp({"subtasks": ["a"], "repeat": {"count": count}, **keys})


ATTEMPTS: dict[str, Attempt] = {
    "bytes of a body": lambda server, value: server.mine("POST", "/clock/next", content=b" " * value),
    "values of a body in JSON": lambda server, value: server.fresh(
        obshell_switches={"quirks_off": ["all"] * (value - 3)}
    ),
    "levels of a body in JSON": lambda server, value: server.verify(body=nested(value - 2)),
    "fields of a query": lambda server, value: server.mine("GET", "/journal?" + "&".join(["limit=1"] * value)),
    "characters of a sandbox's name": lambda server, value: server.admin(
        "POST", "/sandboxes", json={"name": "x" * value}
    ),
    "own ports of a server": open_ports,
    "users of a sandbox": lambda server, value: server.fresh(
        users=[{"name": f"u{number}", "password": "b"} for number in range(value)]
    ),
    "faults of a sandbox": add_faults,
    "faults of a scenario": lambda server, value: server.create(ocp(faults=faults(value))),
    "calls of a fault": lambda server, value: server.create(
        ocp(faults=[{"calls": [*range(1, value + 1)], "status": 503}])
    ),
    "values that a fault sets": lambda server, value: server.create(
        ocp(faults=[{"operation": "getTaskInstance", "set": {f"data.x{number}": 1 for number in range(value)}}])
    ),
    "characters of a duration": lambda server, value: server.create(
        ocp({"subtasks": [{"name": "a", "attempts": {"takes": "1ms" * 32 + "1" * (value - 98) + "ms"}}]})
    ),
    "steps of a scenario's story": lambda server, value: server.create(ocp(story=[{"wait": "1s"}] * value)),
    "tasks of a scenario that start on a request": lambda server, value: server.create(stubs(value)),
    "tasks of a sandbox that start on a request": load_stubs,
    "agents of a scenario": lambda server, value: server.create({**dag(1), "agents": [{}] * value}),
    "operations of others on a task or dag": lambda server, value: server.create(
        ocp({"subtasks": ["a"], "others": [{"at": "1s", "call": "retryTask"}] * value})
    ),
    "stubs of a scenario": lambda server, value: server.create(ocp(stubs=responses(value))),
    "stubs of a sandbox": load_responses,
    "scenarios of one request": lambda server, value: server.create(*[stubs(1, f"x{n}") for n in range(value)]),
    "keys and values of the scenarios of one request": lambda server, value: server.create(
        values(20), values(value - 20)
    ),
    "levels of a scenario's text": lambda server, value: server.create("a: " + "[" * (value - 1) + "]" * (value - 1)),
    "subtasks of a task": lambda server, value: server.create(ocp(template(**subtasks(value)))),
    "nodes of a dag": lambda server, value: server.create(dag(value)),
    "repetitions of a task": lambda server, value: server.create(repeated(value)),
    "repetitions with `{n}` twice in the name, or before a digit": lambda server, value: server.create(
        ocp(*[repeated(n, name=name)["tasks"][0] for n, name in ((1, "{n}0"), (value - 1, "{n}-{n}"))])
    ),
    "attempts of subtasks of one request": lambda server, value: server.create(
        ocp(
            *[
                template(place, **subtasks(size))
                for place, size in enumerate([2000] * (value // 2000) + [value % 2000])
                if size
            ]
        )
    ),
    "attempts of subtasks that are loaded at once into a sandbox in use": load_into_used,
    "first instant of a clock": lambda server, value: server.create(ocp(starts_at=value)),
    "last instant of a clock": lambda server, value: server.mine("POST", "/clock/move", json={"to": value}),
    "a duration": lambda server, value: server.mine("POST", "/clock/advance", json={"by": value}),
    "keys and values of the body in a query of the journal": lambda server, value: server.verify(
        body=[0] * (value - 1)
    ),
    "characters of a text in a query of the journal": lambda server, value: server.verify(path="x" * value),
}
SLOW = ("own ports of a server", "attempts of subtasks of one request")
BEYOND = {
    "first instant of a clock": "1979-12-31T23:59:59.999Z",
    "last instant of a clock": "2262-04-11T23:47:16.854775808Z",
    "a duration": "3650d1ms",
}
"""A value beyond a bound that is no number."""


def test_every_bound_is_tried_or_names_the_tests_that_do() -> None:
    assert [row["bound"] for row in TRIED] == [*ATTEMPTS]
    assert all((ROOT / row["message"].strip("`")).is_file() for row in ROWS if row not in TRIED)


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row["bound"], marks=[pytest.mark.slow] if row["bound"] in SLOW else []) for row in TRIED],
)
def test_a_bound_is_kept(server: Server, row: re.Match[str]) -> None:
    attempt, number = ATTEMPTS[row["bound"]], row["value"].replace(",", "")
    value = int(number) if number.isdecimal() else number
    beyond = BEYOND.get(row["bound"]) or int(number) + 1
    server.fresh()

    within = attempt(server, value)
    server.fresh()
    refused = attempt(server, beyond)

    assert row["message"] not in within.text
    assert within.status_code < 400 or row["bound"] in ("levels of a scenario's text",)
    assert (refused.status_code, row["message"] in refused.json()["error"]) == (int(row["status"]), True)
    assert server.admin("GET", "/ready").json()["status"] == "ok"


def test_others_are_served_while_a_large_scenario_is_read_or_reset(server: Server) -> None:
    dags, server.served = [{"nodes": ["a"] * 10} for _ in range(500)], 0

    loaded = server.beside_others(server.create, {"summary": "s", "api": "obshell", "dags": dags})
    reset = server.beside_others(server.mine, "POST", "/reset")

    assert (loaded.status_code, reset.status_code) == (201, 200)
    assert loaded.json()["dags"] == reset.json()["dags"] == 500
    assert server.served > 25


def test_a_sandbox_that_is_deleted_while_it_is_reset_stays_deleted(server: Server) -> None:
    server.create(ocp(subtasks(2000)))
    with ThreadPoolExecutor(1) as pool:
        resetting = pool.submit(server.mine, "POST", "/reset")
        deleted = server.mine("DELETE", "")

    assert deleted.json() == {"deleted": 1}
    assert resetting.result().status_code in (200, 404)
    assert server.mine("GET", "").status_code == 404


def test_a_long_chain_holds_the_event_loop_only_briefly(server: Server) -> None:
    """What an operation costs grows with the transitions that follow, not with their square: the watchdog looks."""
    first = {"name": "first", "attempts": [{"takes": "1s", "ends": "FAILED"}, {"takes": "1s"}]}
    server.create(ocp({"id": 1, "subtasks": [first, *subtasks(99)["subtasks"]]}, progression="manual"))
    task, admin, auth = f"{server.url}/sandboxes/t/api/v2/tasks/instances/1", "/tasks/ocp/1/explain", MANAGER

    server.mine("POST", "/clock/advance", json={"by": "10s"})
    retried = client().post(f"{task}/retry", auth=auth)
    server.mine("POST", "/clock/advance", json={"by": "1h"})
    reads = [client().get(task, auth=auth), server.mine("GET", admin), server.mine("GET", f"{admin}?format=timeline")]
    report = server.mine("GET", "/report")

    assert retried.status_code == 200
    assert reads[0].json()["data"]["status"] == "SUCCESSFUL"
    assert [read.status_code for read in (*reads, report)] == [200] * 4


def test_a_page_of_many_tasks_holds_the_event_loop_only_briefly(server: Server) -> None:
    """The users that a scenario leaves out are drawn while it is read, not while the first page is."""
    server.create("summary: x\napi: ocp\ntasks:\n" + "- {name: t, subtasks: [a]}\n" * 1000)

    page = client().get(f"{server.url}/sandboxes/t/api/v2/tasks/instances", auth=MANAGER).json()["data"]

    assert page["page"]["totalElements"] == 1000
    assert all(task["creator"]["name"] for task in page["contents"])


@pytest.mark.slow
def test_others_are_served_while_many_sandboxes_are_listed(server: Server) -> None:
    names = [f"many-{number}" for number in range(1000)]
    for name in names:
        server.admin("POST", "/sandboxes", json={"name": name})

    listed = server.beside_others(server.admin, "GET", "/sandboxes")
    for name in names:
        server.admin("DELETE", f"/sandboxes/{name}")

    assert {*names} < {sandbox["name"] for sandbox in listed.json()["sandboxes"]}


# --- instants -------------------------------------------------------------------------------------

READS = {
    "ocp": ["/api/v2/tasks/instances", "/api/v2/tasks/instances/1", "/api/v2/tasks/instances/1/diagnosis"],
    "obshell": ["/api/v1/info", "/api/v1/status", "/api/v1/time", "/api/v1/task/dag/maintain/agent"],
}
TASK: dict[str, Any] = {"id": 1, "age": "3650d", "subtasks": [{"name": "a", "attempts": {"takes": "3650d"}}] * 1}
DAGS: dict[str, Any] = {"summary": "s", "api": "obshell", "dags": [{"id": 1, "age": "3650d", "nodes": ["a"]}]}


@given(
    instant=st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31))
    | st.datetimes(datetime(2262, 4, 10), datetime(2262, 4, 13)),
    offset=st.integers(-14 * 60, 14 * 60),
    by_scenario=st.booleans(),
    api=st.sampled_from(["ocp", "obshell"]),
)
def test_an_instant_is_refused_or_shown(
    server: Server, instant: datetime, offset: int, by_scenario: bool, api: str
) -> None:
    sign, minutes = "-" if offset < 0 else "+", abs(offset)
    text = f"{instant.isoformat(timespec='seconds')}{sign}{minutes // 60:02}:{minutes % 60:02}"
    scenario = ocp(TASK) if api == "ocp" else DAGS
    start = {"starts_at": text}

    answer = server.create({**scenario, **start}) if by_scenario else server.create(scenario, **start)

    is_possible = datetime(1980, 1, 1) <= instant - timedelta(minutes=offset) < datetime(2262, 4, 11, 23, 47, 17)
    assert answer.status_code == (201 if is_possible else 400)
    for move in ({"by": "0s"}, {"by": "3650d"}) if is_possible else ():
        server.mine("POST", "/clock/advance", json=move)
        reads = [client().get(f"{server.url}/sandboxes/t{path}", auth=("root", "oceanmock")) for path in READS[api]]
        reads += [server.mine("GET", f"/tasks/{api}/1/explain"), server.mine("GET", "/report"), server.mine("GET", "")]
        assert all(read.status_code < 500 for read in reads)
        assert server.mine("POST", "/clock/next").status_code < 500
