"""The admin API's JSON: a sandbox, a clock, a fault, and the tasks of every API in one form.

Ids are texts, as obshell's generic ids have too many digits for many a JSON reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from oceanmock.api import Api
from oceanmock.engine.faults import FaultStatistics
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.world import TaskItem
from oceanmock.scenario.fields import BaseScenario
from oceanmock.text import format_instant

Json = dict[str, Any]

HOST: Final = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,255}")


def sandbox_json(
    sandbox: Sandbox, *, apis: Iterable[Api], scheme: str, host: str, ports: Mapping[int, str]
) -> Json:
    """Return a sandbox; ``scheme`` and ``host`` are how the client has reached the server.

    ``ports`` maps further ports to the sandboxes they mean.
    """
    body: Json = {
        "name": sandbox.name,
        "urls": _urls(sandbox.name, scheme, host, ports),
        "progression": sandbox.clock.progression,
        "speed": sandbox.clock.speed,
        "now": format_instant(sandbox.clock.now()),
        "started": format_instant(sandbox.started),
        "seed": sandbox.spec.seed,
        "requests": sandbox.journal.count(),
        "faults": len(sandbox.faults()),
        "scenarios": [head_json(scenario) for scenario in sandbox.scenarios],
    }
    for api in apis:
        world = sandbox.worlds[api.name]
        body |= {api.scripts_key: len(world), **world.details()}
    return body


def head_json(scenario: BaseScenario) -> Json:
    """Return what a scenario is about."""
    return {"name": scenario.name, "api": scenario.api, "summary": scenario.summary}


def _urls(name: str, scheme: str, host: str, ports: Mapping[int, str]) -> Json:
    """Return where a sandbox is reached; relative to the server if its host is not known."""
    server = f"{scheme}://{host}" if HOST.fullmatch(host) else ""
    urls = {"path": f"{server}/sandboxes/{name}"}
    own = next((port for port, owner in ports.items() if owner == name), None)
    if own is not None:
        urls["port"] = f"{scheme}://{_without_port(server)}:{own}"
    return urls


def _without_port(server: str) -> str:
    """Return the host of a URL; brackets stay around an IPv6 address."""
    try:
        host = urlsplit(server).hostname or "127.0.0.1"
    except ValueError:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def clock_json(sandbox: Sandbox) -> Json:
    """Return a sandbox's clock."""
    due = sandbox.next_due()
    return {
        "progression": sandbox.clock.progression,
        "speed": sandbox.clock.speed,
        "now": format_instant(sandbox.clock.now()),
        "next_due": None if due is None else format_instant(due),
    }


def fault_json(statistics: FaultStatistics) -> Json:
    """Return a fault with its counters."""
    return {
        "name": statistics.name,
        "counted": statistics.calls,
        "strikes": statistics.strikes,
        "fault": statistics.fault.to_json(),
    }


def rows_of(sandbox: Sandbox) -> Iterator[Json]:
    """Return every task of a sandbox without its parts, in the order of the APIs."""
    for name, world in sandbox.worlds.items():
        yield from ({"api": name} | part_json(item) for item in world.items())


def task_json(sandbox: Sandbox, api: str, id: str) -> Json:
    """Return a task with its parts. Raises NoSuchTask."""
    item = sandbox.worlds[api].item(id)
    body: Json = {"api": api} | part_json(item)
    body["born"] = format_instant(item.started or 0)
    if item.stage is not None:
        body["stage"] = item.stage
    return body


def part_json(item: TaskItem) -> Json:
    """Return a task or a part of one, with its own parts where it has some."""
    body: Json = {
        "id": item.id,
        "number": item.number,
        "name": item.name,
        "state": item.state,
        "operation": item.operation,
    }
    if item.parts is not None:
        body["parts"] = [part_json(part) for part in item.parts]
    return body
