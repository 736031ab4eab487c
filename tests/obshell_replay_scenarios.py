"""Recorded lives of real obshell dags as scenario files, with the agent they lived on.

What each attempt does is read off the recording, as obshell_recordings does it for the machine; the
flags of the nodes are known by name. All numbers are the recorded ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from obshell_recordings import ALL_BUT_PASS, FLAGS, Exchange, dags_in, exchanges_of, instant_of, node_plans
from oceanmock.clock import SECOND
from oceanmock.obshell.states import RunScript

Json = dict[str, Any]

# --- what the agent was, and which dags it had ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class World:
    """What the agent is from one exchange on."""

    since: str
    identity: str = "MASTER"
    port: int = 2886
    root_password: str | None = None
    agent_password: str | None = None


WORLDS: Final[dict[str, tuple[World, ...]]] = {
    "lone.json": (World("info", "SINGLE"),),
    "submits-single.json": (World("read ob/info", "SINGLE"),),
    "auth.json": (World("no header", "SINGLE"),),
    "password.json": (
        World("info", "SINGLE", root_password="ob-secret"),
        World("info with agent password", root_password="ob-secret", agent_password="agent-secret"),
    ),
    "join.json": (World("join", "SINGLE"),),
    "init.json": (World("observer config"),),
    "cancel.json": (World("init"),),
    "pass.json": (World("init"),),
    "pass-dag.json": (World("failed", "FOLLOWER", port=2887),),
}

LIVES: Final[dict[str, tuple[tuple[str, int], ...]]] = {
    "lone.json": (("join.json", 1),),
    "submits-single.json": (("join.json", 1),),
    "auth.json": (("join.json", 1),),
    "password.json": (("password.json", 1),),
    "join.json": (("join.json", 1),),
    "init.json": (("join.json", 1), ("init.json", 2), ("init.json", 3), ("init.json", 4)),
    "cancel.json": (("cancel.json", 5),),
    "pass.json": (("pass.json", 6),),
    "pass-dag.json": (("pass-dag.json", 3),),
}
"""The dags of each file by number, each with the file that shows its life. join.json is what came
after lone.json and auth.json: there its dag is not born yet."""


def history_of(file: str, number: int) -> list[Json]:
    return [dag for dag in dags_in(exchanges_of(file)) if dag["dag_id"] == number]


def starts_in(file: str) -> dict[int, str]:
    """The dags that a request of the file started, by number, each with where that went."""
    return {
        each.response["body"]["data"]["dag_id"]: each.request["target"] for each in exchanges_of(file) if is_start(each)
    }


def is_start(exchange: Exchange) -> bool:
    """Whether a request bore a dag, which is its answer."""
    body = exchange.response["body"]
    data = body.get("data") if isinstance(body, dict) else None
    return exchange.request["method"] == "POST" and isinstance(data, dict) and "dag_id" in data


def asked_at(exchange: Exchange) -> int:
    """When it is asked again: that of the answer, but of one that bore a dag, the birth."""
    if not is_start(exchange):
        return exchange.instant
    born = instant_of(exchange.response["body"]["data"]["start_time"])
    assert born is not None
    return born


def birth_of(life: list[Json]) -> int:
    """When a dag was made; where nobody saw that, half a second before it started."""
    start = instant_of(life[0]["start_time"])
    assert start is not None
    return start if life[0]["state"] == "READY" else start - SECOND // 2


# --- as a scenario --------------------------------------------------------------------------------


def scenario_text(file: str, world: World) -> str:
    """The dags of a file, and the agent, as a scenario (JSON is YAML)."""
    start = asked_at(beginning_of(file, world))
    tick, phase = _grid(file)
    told = {
        "summary": f"What {file} shows from {world.since!r} on",
        "api": "obshell",
        "progression": "manual",
        "tick": _duration(tick),
        "phase": _duration((phase - start) % tick),
        "agent": {
            "ip": "127.0.0.1",
            "port": world.port,
            "identity": world.identity,
            "root_password": world.root_password,
            "agent_password": world.agent_password,
        },
        "dags": [
            _dag(life) | {"age": _duration(max(start - birth_of(life), 0))}
            for life in (history_of(*each) for each in LIVES[file])
        ],
    }
    return json.dumps(told, indent=1)


def beginning_of(file: str, world: World) -> Exchange:
    return next(each for each in exchanges_of(file) if each.label == world.since)


def _grid(file: str) -> tuple[int, int]:
    """The period of the ticks that fits what the scheduler wrote down, and one of them."""
    lives = [history_of(*each) for each in LIVES[file] if each[0] == file]
    ticks = sorted(tick for life in lives for tick in _ticks(life))
    if not ticks:
        return SECOND, 0
    count = round((ticks[-1] - ticks[0]) / SECOND)
    return (ticks[-1] - ticks[0]) // count, ticks[0]


def _ticks(life: list[Json]) -> Iterator[int]:
    made = birth_of(life)
    for dag in life:
        for thing in (dag, *dag["nodes"]):
            for key in ("start_time", "end_time"):
                at = instant_of(thing[key])
                if at is not None and thing["operator"] != "PASS" and at - made > SECOND // 50:
                    yield at


def _dag(life: list[Json]) -> Json:
    first = life[0]
    return {
        "id": first["dag_id"],
        "name": first["name"],
        "maintenance": {1: "none", 2: "global"}[first["maintenance_type"]],
        "nodes": [
            {
                "id": node["node_id"],
                "name": node["name"],
                "can": list(FLAGS.get(node["name"], ALL_BUT_PASS)),
                "sub_tasks": [
                    _sub_task(shown, plan) for shown, plan in zip(node["sub_tasks"], planned.sub_tasks, strict=True)
                ],
            }
            for node, planned in zip(first["nodes"], node_plans(life), strict=True)
        ],
    }


def _sub_task(shown: Json, plan: Any) -> Json:
    return {
        "id": shown["task_id"],
        "name": shown["name"],
        "agent": shown["execute_agent"],
        "attempts": [_attempt(each) for each in plan.attempts],
        "rollback": [_attempt(each) for each in plan.rollbacks],
    }


ERROR: Final = re.compile(r"ERROR: \[(?P<code>[\w.]+)\]: (?P<message>.*)", re.DOTALL)


def _attempt(attempt: RunScript) -> Json:
    """An attempt as a file has it; the line that tells its error is not written twice."""
    told: Json = {"takes": "forever" if attempt.takes is None else _duration(attempt.takes)}
    error = ERROR.fullmatch(str(attempt.log[-1])) if attempt.ends == "FAILED" and attempt.log else None
    if error is None:
        return told | {"log": list(attempt.log)}
    return told | {"error": error.groupdict(), "log": list(attempt.log[:-1])}


def _duration(span: int) -> str:
    return f"{span // 10**6}.{span % 10**6:06}ms"
