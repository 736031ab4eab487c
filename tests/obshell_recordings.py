"""Recorded lives of real obshell dags (tests/data/obshell), as plans for the machine and as views.

A plan is read off the recording itself: each run of each sub task with its operator, time, outcome
and log lines. Ticks are a grid fitted to the instants at which the scheduler wrote something down.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from oceanmock.clock import SECOND
from oceanmock.obshell.api import Operator
from oceanmock.obshell.machine import task_logs_at
from oceanmock.obshell.states import (
    CANCELLED,
    DagScript,
    DagState,
    NodeFlag,
    NodeScript,
    Rules,
    RunScript,
    SubTaskScript,
)

FOLDER = Path(__file__).parent / "data" / "obshell"
EPOCH = "1970-01-01T00:00:00Z"
ALL_BUT_PASS: tuple[NodeFlag, ...] = ("cancel", "retry", "rollback")
FLAGS: dict[str, tuple[NodeFlag, ...]] = {
    "Join self": (),
    "Update observer config": ("cancel", "retry"),
    "Update cluster config": ("cancel", "retry"),
    "Start observer": (*ALL_BUT_PASS, "pass"),
    "Modify password": ("retry", "rollback"),
    "Convert follower to cluster agent": ("retry", "rollback"),
    "Convert master to cluster agent": ("retry", "rollback"),
    "Synchronize agent from cluster": ("cancel", "retry"),
}
"""What may be done to a node, by name, as the server stored it; ALL_BUT_PASS for any other."""


RECOVERED: Final = "Unexpected error: Internal Server Error"
"""The message of the server's recovery, whose answer is as old as the server."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One recorded request and its answer, and the instant at which it was answered."""

    number: int
    label: str
    instant: int
    request: dict[str, Any]
    response: dict[str, Any]


@lru_cache
def exchanges_of(file: str) -> tuple[Exchange, ...]:
    """The exchanges of a file; where an answer has no timestamp of its own, ``at`` dates it."""
    recorded = json.loads((FOLDER / file).read_text(encoding="utf-8"))["exchanges"]
    first = next(instant for each in recorded if (instant := _dated(each)))
    exchanges: list[Exchange] = []
    for number, each in enumerate(recorded):
        instant = _dated(each) or first + int((each["at"] - recorded[0]["at"]) * SECOND)
        instant = max(instant, exchanges[-1].instant if exchanges else instant)
        exchanges.append(Exchange(number, each["label"], instant, each["request"], each["response"]))
    return tuple(exchanges)


def _dated(exchange: dict[str, Any]) -> int | None:
    """When the answer was written, where it says so."""
    body = exchange["response"]["body"]
    if isinstance(body, str) or body.get("error", {}).get("message") == RECOVERED:
        return None
    return instant_of(body["timestamp"])


def dags_in(exchanges: tuple[Exchange, ...]) -> Iterator[dict[str, Any]]:
    """Every dag that was shown with its nodes, in order."""
    for exchange in exchanges:
        body = exchange.response["body"]
        data = body.get("data") if isinstance(body, dict) else None
        shown = data.get("contents", [data]) if isinstance(data, dict) else []
        yield from (dag for dag in shown if "dag_id" in dag and dag["nodes"])


@dataclass(frozen=True, slots=True)
class Seen:
    """One recorded answer about a dag: when, and the dag as the API showed it."""

    instant: int
    dag: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One recorded operator: when, on which node (None: the dag), and its status and errCode."""

    instant: int
    operator: Operator
    node: int | None
    status: int
    err_code: str | None


@dataclass(frozen=True, slots=True)
class Recording:
    """One dag's recorded life; instants count from its birth."""

    plan: DagScript
    rules: Rules
    events: tuple[Seen | Asked, ...]
    names: tuple[str, ...]


def recording_of(file: str, dag_id: str) -> Recording:
    """The life of one dag in a file."""
    exchanges = json.loads((FOLDER / file).read_text(encoding="utf-8"))["exchanges"]
    answers = list(_views(exchanges, dag_id))
    born = instant_of(answers[0][1]["start_time"])
    assert born is not None
    nodes = [node["id"] for node in answers[0][1]["nodes"]]
    events: list[Seen | Asked] = [Seen(at - born, dag) for at, dag in answers]
    events += list(_operators(exchanges, dag_id, nodes, born))
    seen = [dag for _, dag in answers]
    return Recording(
        DagScript(tuple(node_plans(seen)), is_maintenance=seen[0]["maintenance_type"] != 1),
        _fitted(seen, born),
        tuple(sorted(events, key=lambda event: event.instant)),
        tuple(node["name"] for node in seen[0]["nodes"]),
    )


def instant_of(text: str) -> int | None:
    """Nanoseconds since the epoch; None for the epoch itself."""
    if text == EPOCH:
        return None
    whole, _, fraction = text.removesuffix("Z").partition(".")
    second = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return second * SECOND + int(fraction.ljust(9, "0") or 0)


def _views(exchanges: list[Any], dag_id: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for exchange in exchanges:
        body = exchange["response"].get("body")
        asked = exchange["request"]
        if asked["method"] == "GET" and asked["target"] == f"/api/v1/task/dag/{dag_id}":
            at = instant_of(body["timestamp"])
            assert at is not None
            yield at, body["data"]


def _operators(exchanges: list[Any], dag_id: str, nodes: list[str], born: int) -> Iterator[Asked]:
    """The operators asked for with a plain body; broken bodies are the API's business."""
    for exchange in exchanges:
        asked, answer = exchange["request"], exchange["response"]
        kind, _, id = asked["target"].removeprefix("/api/v1/task/").partition("/")
        mine = (kind == "dag" and id == dag_id) or (kind == "node" and id in nodes)
        if asked["method"] == "POST" and mine and isinstance(asked.get("body"), dict):
            at = instant_of(answer["body"]["timestamp"])
            assert at is not None
            yield Asked(
                at - born,
                asked["body"]["operator"].upper(),
                nodes.index(id) if kind == "node" else None,
                answer["status"],
                answer["body"].get("error", {}).get("errCode"),
            )


def node_plans(seen: list[dict[str, Any]]) -> Iterator[NodeScript]:
    """The plan of each node of a dag, from all that was seen of the dag."""
    for place, node in enumerate(seen[0]["nodes"]):
        flags = FLAGS.get(node["name"], ALL_BUT_PASS)
        sub_tasks = tuple(
            _sub_task_plan([dag["nodes"][place]["sub_tasks"][number] for dag in seen])
            for number in range(len(node["sub_tasks"]))
        )
        yield NodeScript(sub_tasks, frozenset(flags))


def _sub_task_plan(shown: list[dict[str, Any]]) -> SubTaskScript:
    """Each run as it was last seen, and what it added to the log."""
    last_of_run = {each["execute_times"]: each for each in shown if each["operator"] != "PASS"}
    attempts: list[RunScript] = []
    rollbacks: list[RunScript] = []
    logged = 0
    for times in sorted(last_of_run):
        run = last_of_run[times]
        lines = tuple((run["task_logs"] or [])[logged:])
        logged += len(lines)
        if times:
            (rollbacks if run["operator"] == "ROLLBACK" else attempts).append(_attempt(run, lines))
    return SubTaskScript(tuple(attempts) or (RunScript(SECOND),), tuple(rollbacks) or (RunScript(SECOND),))


def _attempt(run: dict[str, Any], lines: tuple[str, ...]) -> RunScript:
    start, end = instant_of(run["start_time"]), instant_of(run["end_time"])
    if CANCELLED in lines or start is None or end is None or run["state"] == "RUNNING":
        return RunScript(None, "FAILED", tuple(line for line in lines if line != CANCELLED))
    return RunScript(end - start, run["state"], lines)


def _fitted(seen: list[dict[str, Any]], born: int) -> Rules:
    """The grid of ticks that fits the times the scheduler wrote down for dag and nodes."""
    written = {
        instant_of(thing[key])
        for dag in seen
        for thing in (dag, *dag["nodes"])
        for key in ("start_time", "end_time")
        if thing["operator"] != "PASS"
    }
    ticks = sorted(at - born for at in written if at is not None and at - born > SECOND // 50)
    first, last = ticks[0], ticks[-1]
    count = round((last - first) / SECOND)
    return Rules(tick=(last - first) // count if count else SECOND, phase=first)


# --- what is compared -----------------------------------------------------------------------------


def shape_of_recorded(dag: dict[str, Any]) -> dict[str, Any]:
    """A recorded dag without its ids and names, its times as ranks."""
    rank = _ranks(instant_of(thing[key]) for thing in _parts(dag) for key in ("start_time", "end_time"))
    return {
        "stage": dag["stage"],
        "parts": [
            (
                thing["state"],
                thing["operator"],
                rank[instant_of(thing["start_time"])],
                rank[instant_of(thing["end_time"])],
                thing.get("execute_times"),
                thing.get("task_logs"),
            )
            for thing in _parts(dag)
        ],
    }


def shape_of_state(state: DagState, instant: int) -> dict[str, Any]:
    """The same of a machine's state."""
    parts: list[Any] = [state]
    for node in state.nodes:
        parts += [node, *node.sub_tasks]
    rank = _ranks(at for part in parts for at in (part.start_time, part.end_time))
    return {
        "stage": state.stage,
        "parts": [
            (
                part.state,
                part.operator,
                rank[part.start_time],
                rank[part.end_time],
                getattr(part, "execute_times", None),
                _logs(part, instant),
            )
            for part in parts
        ],
    }


def _logs(part: Any, instant: int) -> list[str] | None:
    if not hasattr(part, "execute_times"):
        return None
    lines = task_logs_at(part, instant)
    return None if lines is None else list(lines)


def _parts(dag: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield dag
    for node in dag["nodes"]:
        yield node
        yield from node["sub_tasks"]


def _ranks(instants: Iterator[int | None]) -> dict[int | None, int]:
    """Which time comes before which; the epoch before all."""
    distinct = sorted({-1 if at is None else at for at in instants})
    ranks: dict[int | None, int] = {at: place for place, at in enumerate(distinct)}
    ranks[None] = ranks.get(-1, 0)
    return ranks
