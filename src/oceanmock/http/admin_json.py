"""The admin API's JSON: a sandbox, a clock, a fault, and tasks and dags in one form.

Nothing here decides anything; it writes out what there is, as openapi/admin.yaml says. Ids are
texts for both APIs, as obshell's generic ids have too many digits for many a JSON reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from oceanmock.engine.faults import FaultStatistics
from oceanmock.engine.sandbox import Sandbox
from oceanmock.obshell.bodies import id_of
from oceanmock.obshell.machine import DagState, NodeState, SubTaskState
from oceanmock.obshell.world import Dag, Dags, DagView
from oceanmock.ocp.world import Tasks, TaskView
from oceanmock.scenario.fields import BaseScenario
from oceanmock.text import format_instant

Json = dict[str, Any]

HOST: Final = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,255}")


# --- sandboxes ------------------------------------------------------------------------------------


def sandbox_json(sandbox: Sandbox, *, scheme: str, host: str, ports: Mapping[int, str]) -> Json:
    """A sandbox; ``scheme`` and ``host`` are how the client has reached the server.

    ``ports`` says whose each of the further ones is.
    """
    dags = sandbox.world(Dags)
    return {
        "name": sandbox.name,
        "urls": _urls(sandbox.name, scheme, host, ports),
        "progression": sandbox.clock.progression,
        "speed": sandbox.clock.speed,
        "now": format_instant(sandbox.clock.now()),
        "started": format_instant(sandbox.started),
        "seed": sandbox.seed,
        "tasks": len(sandbox.world(Tasks).all()),
        "dags": len(dags.all("agent")) + len(dags.all("cluster")),
        "requests": sandbox.journal.count(),
        "faults": len(sandbox.faults.all()),
        "scenarios": [head_json(scenario) for scenario in sandbox.scenarios],
        "agent": _agent(sandbox),
    }


def _agent(sandbox: Sandbox) -> Json:
    """obshell's agent, as it is at first, with its passwords."""
    agent = sandbox.world(Dags).began_as
    return {
        "ip": agent.ip,
        "port": agent.port,
        "root_password": agent.root_password,
        "agent_password": agent.agent_password,
    }


def head_json(scenario: BaseScenario) -> Json:
    """What a scenario is about."""
    return {"name": scenario.name, "api": scenario.api, "summary": scenario.summary}


def _urls(name: str, scheme: str, host: str, ports: Mapping[int, str]) -> Json:
    """Where a sandbox is reached; relative to the server, where nobody knows what it is called."""
    server = f"{scheme}://{host}" if HOST.fullmatch(host) else ""
    urls = {"path": f"{server}/sandboxes/{name}"}
    own = next((port for port, owner in ports.items() if owner == name), None)
    if own is not None:
        urls["port"] = f"{scheme}://{_without_port(server)}:{own}"
    return urls


def _without_port(server: str) -> str:
    """The host of a URL; brackets stay around an address of IPv6."""
    try:
        host = urlsplit(server).hostname or "127.0.0.1"
    except ValueError:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def clock_json(sandbox: Sandbox) -> Json:
    """A sandbox's clock."""
    due = sandbox.next_due()
    return {
        "progression": sandbox.clock.progression,
        "speed": sandbox.clock.speed,
        "now": format_instant(sandbox.clock.now()),
        "next_due": None if due is None else format_instant(due),
    }


def fault_json(tally: FaultStatistics) -> Json:
    """A fault that stands."""
    return {
        "name": tally.name,
        "counted": tally.calls,
        "strikes": tally.strikes,
        "fault": tally.fault.to_json(),
    }


# --- tasks and dags -------------------------------------------------------------------------------


def rows_of(sandbox: Sandbox) -> Iterator[Json]:
    """Every task and dag of a sandbox in short, OCP's first."""
    yield from map(_task_row, sandbox.world(Tasks).all())
    yield from map(
        _dag_row, (*sandbox.world(Dags).all("agent"), *sandbox.world(Dags).all("cluster"))
    )


def _task_row(view: TaskView) -> Json:
    task, state = view.task, view.state
    return {"api": "ocp"} | _part(task.id, task.id, task.name, state.status, state.operation)


def task_json(view: TaskView) -> Json:
    """A task of OCP with its subtasks."""
    return _task_row(view) | {
        "born": format_instant(view.task.born),
        "parts": [
            _part(subtask.id, subtask.id, subtask.name, state.status, state.operation)
            for subtask, state in zip(view.task.subtasks, view.state.subtasks, strict=True)
        ],
    }


def _dag_row(view: DagView) -> Json:
    return {"api": "obshell"} | _dag_part(view.dag, view.dag.number, view.dag.name, view.state)


def dag_json(view: DagView) -> Json:
    """A dag of obshell with its nodes and their sub tasks."""
    return _dag_row(view) | {
        "born": format_instant(view.dag.born),
        "stage": view.state.stage,
        "parts": [_node(view, place) for place in range(len(view.dag.nodes))],
    }


def _node(view: DagView, place: int) -> Json:
    node, state = view.dag.nodes[place], view.state.nodes[place]
    return _dag_part(view.dag, node.number, node.name, state) | {
        "parts": [
            _dag_part(view.dag, sub_task.number, sub_task.name, shown)
            for sub_task, shown in zip(node.sub_tasks, state.sub_tasks, strict=True)
        ]
    }


def _dag_part(dag: Dag, number: int, name: str, state: DagState | NodeState | SubTaskState) -> Json:
    return _part(id_of(dag, number), number, name, state.state, state.operator)


def _part(id: int | str, number: int, name: str, state: str, operation: str) -> Json:
    return {
        "id": str(id),
        "number": number,
        "name": name,
        "state": state,
        "operation": operation,
    }
