"""What an answer's body shows: tasks and subtasks, dags, nodes and sub tasks, each in a state.

And what a request asks for, in the same words everywhere. Both read JSON as it came, from the mock
or from any server, and trust none of it: what is not as the contract has it is no sighting, and
nothing is ever raised. The shapes are those of openapi/ocp.yaml and openapi/obshell.yaml. The one
rule: nothing here knows what may follow what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing as one answer shows it.

    ``operation`` is empty where the answer leaves it out: a task in OCP's list has none.
    ``parent`` is the id of the task, dag or node it was shown in; empty where it came alone.
    """

    kind: str
    """task or subtask; dag, node or sub_task."""
    id: str
    name: str
    state: str
    operation: str
    parent: str = ""

    @property
    def shown(self) -> tuple[str, str]:
        """State and operation."""
        return self.state, self.operation


def observations_of(api: str, operation: str, body: Any) -> Iterator[Observation]:
    """All that a body shows, in its order, parents first; nothing for one that shows none.

    ``operation`` is the operationId of the request, empty for one that starts a task.
    """
    data = body.get("data") if isinstance(body, dict) else None
    listed = data.get("contents") if isinstance(data, dict) else None
    for each in listed if isinstance(listed, list) else [data]:
        if isinstance(each, dict):
            yield from _ocp(operation, each) if api == "ocp" else _obshell(each)


# --- OCP ------------------------------------------------------------------------------------------


def _ocp(operation: str, body: Mapping[str, Any]) -> Iterator[Observation]:
    """A task with its subtasks, or the subtask that was retried.

    What a request of another service answers is a task only where it has subtasks.
    """
    if operation == "retrySubtask":
        yield from _ocp_part("subtask", body, "")
    elif operation or isinstance(body.get("subtasks"), list):
        for task in _ocp_part("task", body, ""):
            yield task
            for subtask in _parts(body, "subtasks"):
                yield from _ocp_part("subtask", subtask, task.id)


def _ocp_part(kind: str, body: Mapping[str, Any], parent: str) -> Iterator[Observation]:
    state = body.get("status")
    if (id := _id(body.get("id"))) and isinstance(state, str):
        yield Observation(kind, id, _text(body, "name"), state, _text(body, "operation"), parent)


# --- obshell --------------------------------------------------------------------------------------

_NUMBERS: Final = {"dag": "dag_id", "node": "node_id", "sub_task": "task_id"}
"""Each kind, by the member that tells it from the others."""
_PARTS: Final = {"dag": ("nodes", "node"), "node": ("sub_tasks", "sub_task")}
"""Where the parts of a kind are, and what they are."""


def _obshell(body: Mapping[str, Any]) -> Iterator[Observation]:
    """A dag with its nodes, a node with its sub tasks, or a sub task."""
    for kind, number in _NUMBERS.items():
        if number in body:
            yield from _obshell_part(kind, body, "")
            return


def _obshell_part(kind: str, body: Mapping[str, Any], parent: str) -> Iterator[Observation]:
    id, state = _id(body.get("id")), body.get("state")
    if id and isinstance(state, str):
        yield Observation(kind, id, _text(body, "name"), state, _text(body, "operator"), parent)
        key, below = _PARTS.get(kind, ("", ""))
        for part in _parts(body, key) if key else ():
            yield from _obshell_part(below, part, id)


# --- what a request asks for ----------------------------------------------------------------------

_OCP_CALLS: Final = {
    "retryTask": "task.RETRY",
    "rollbackTask": "task.ROLLBACK",
    "retrySubtask": "subtask.RETRY",
    "skipSubtask": "subtask.SKIP",
    "cancelSubtask": "subtask.CANCEL",
}
_OBSHELL_CALLS: Final = {"dagHandler": "dag", "nodeHandler": "node"}


def operation_of(api: str, operation: str, body: Any) -> str:
    """What a request asks for, such as ``task.RETRY`` or ``dag.CANCEL``; empty for a read.

    ``body`` is the request's, before it was sealed. obshell reads an operator in any case.
    """
    if api == "ocp":
        return _OCP_CALLS.get(operation, "")
    kind = _OBSHELL_CALLS.get(operation)
    operator = body.get("operator") if isinstance(body, dict) else None
    return f"{kind}.{operator.upper()}" if kind and isinstance(operator, str) else ""


# --- small things ---------------------------------------------------------------------------------


def _id(value: Any) -> str:
    """An id as a text, whether it is a number or a text; empty for anything else."""
    is_id = isinstance(value, int | str) and not isinstance(value, bool)
    return str(value) if is_id else ""


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    return value if isinstance(value, str) else ""


def _parts(body: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    parts = body.get(key)
    yield from (
        part for part in (parts if isinstance(parts, list) else ()) if isinstance(part, dict)
    )
