"""What schemathesis cannot know of the admin API: names that are there, bodies that make sense.

It loads this file by its name (`hooks` in tests/data/schemathesis-admin.toml), in a process of its
own. The names it makes up are replaced, most by one that is there, some by nobody's. The one rule:
a request that is meant to be wrong stays as it is.
"""

from __future__ import annotations

import re
from random import Random
from typing import Any, Final

import schemathesis

SANDBOX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
TASKS: Final = {"ocp": "35000312", "obshell": "4"}
SCENARIOS: Final = (
    "retry-failed-subtask",
    {"summary": "One step", "api": "ocp", "tasks": [{"id": 1, "subtasks": ["install"]}]},
    "summary: One step\napi: obshell\ndags: [{id: 1, nodes: [a]}]\n",
)
NAMELESS: Final = tuple(
    {"summary": f"Loaded {number}", "api": "ocp", "tasks": [{"subtasks": ["install"]}]} for number in range(20)
)
"""Scenarios that leave ids out, and so go with any sandbox."""
TEMPLATES: Final = {
    "ocp": ({"subtasks": ["a"]}, *[{"id": 35000312, "subtasks": ["a"]}] * 2, {"subtask": ["a"]}),
    "obshell": ({"nodes": ["a"]}, *[{"id": 4, "nodes": ["a"]}] * 2, {"node": ["a"]}),
}


@schemathesis.hook
def map_path_parameters(_: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Names that are there, in place of those that could be."""
    if path_parameters is None or not _could_be(path_parameters):
        return path_parameters
    chance = Random(repr(path_parameters))
    there = {
        "sandbox": chance.choice(("default", "default", "t1", "nobody")),
        "fault": chance.choice(("outage", "outage", "none")),
        "task": chance.choice((TASKS.get(path_parameters.get("api", ""), "999"), "999")),
    }
    return {name: there.get(name, value) for name, value in path_parameters.items()}


def _could_be(path_parameters: dict[str, Any]) -> bool:
    name, task = path_parameters.get("sandbox", "a"), path_parameters.get("task", "1")
    return (
        isinstance(name, str)
        and SANDBOX.fullmatch(name) is not None
        and isinstance(task, str)
        and re.fullmatch("[0-9]{1,100}", task) is not None
        and path_parameters.get("api", "ocp") in TASKS
        and isinstance(path_parameters.get("fault", "a"), str)
        and "/" not in path_parameters.get("fault", "")
    )


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Scenarios, templates and faults that are some, in place of objects of any kind."""
    operation = context.operation.definition.raw["operationId"] if context.operation else ""
    if not isinstance(body, dict):
        return body
    chance = Random(repr(body))
    if operation == "createSandbox" and _is_list_of(body.get("scenarios"), (str, dict)):
        return body | {"scenarios": [chance.choice(SCENARIOS)], "name": chance.choice(NAMES)}
    if operation == "loadScenarios" and _is_list_of(body.get("scenarios"), (str, dict)):
        is_wrong = "" in body["scenarios"] or not 0 < len(body["scenarios"]) <= 100
        return body if is_wrong else body | {"scenarios": [chance.choice((*SCENARIOS, *NAMELESS))]}
    if operation == "createTask" and isinstance(body.get("template"), dict):
        return body | {"template": chance.choice(TEMPLATES.get(body.get("api", ""), ({},)))}
    if operation == "addFault" and set(body) <= FAULT_KEYS and _could_be_a_fault(body):
        return {"name": chance.choice(("outage", "outage", *NAMES[:2])), "delay": "0s", "calls": "1"}
    return body


NAMES: Final = tuple(f"made-{number}" for number in range(20))
FAULT_KEYS: Final = {
    "name",
    "caller",
    "calls",
    "delay",
    "drop_response",
    "empty",
    "jitter",
    "operation",
    "reset",
    "status",
}


def _could_be_a_fault(body: dict[str, Any]) -> bool:
    kinds: dict[str, Any] = {
        "status": int,
        "calls": (str, int, list),
        **dict.fromkeys(("drop_response", "empty", "reset"), bool),
    }
    return all(isinstance(value, kinds.get(key, str)) for key, value in body.items())


def _is_list_of(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, list) and all(isinstance(each, types) for each in value)
