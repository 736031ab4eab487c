"""Parse OCP's JSON: tasks and subtasks from response bodies, operations from requests.

``observations`` accepts any body and skips what is not as the contract has it; ``read_task`` reads
one whole task. Shapes are those of openapi/ocp.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from oceanmock.checks import instant, numbered
from oceanmock.observations import Observation, id_text, text_at
from oceanmock.ocp.api import API

_SHOW_NOTHING: Final = frozenset(route.id for route in API.routes if not route.shows)
UNDER_WAY: Final = ("READY", "RUNNING", "CANCELING")


def observations(operation: str, body: Any) -> Iterator[Observation]:
    """Yield the tasks and subtasks of a body in its order, each task before its subtasks.

    ``operation`` is the operationId of the request, empty for a request that starts a task: its
    response contains a task only where that has subtasks.
    """
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict) or operation in _SHOW_NOTHING:
        return
    if operation == "retrySubtask":
        yield from _observation("subtask", data, "$.data")
        return
    rows = data.get("contents")
    for path, task in (
        numbered(rows, "$.data.contents") if isinstance(rows, list) else [("$.data", data)]
    ):
        if operation or isinstance(task.get("subtasks"), list):
            yield from _task(task, path)


def _task(task: Mapping[str, Any], path: str) -> Iterator[Observation]:
    for result in _observation("task", task, path):
        yield result
        for place, subtask in numbered(task.get("subtasks"), f"{path}.subtasks"):
            yield from _observation("subtask", subtask, place, task=result.id)


def _observation(
    kind: str, item: Mapping[str, Any], path: str, *, task: str = ""
) -> Iterator[Observation]:
    id, status = id_text(item.get("id")), item.get("status")
    if id and isinstance(status, str):
        name, operation = text_at(item, "name"), text_at(item, "operation")
        root = id if kind == "task" else task
        yield Observation(kind, id, name, status, operation, task, root, path, item)


_REQUESTS: Final = {
    route.id: f"{route.changes}.{route.operation}" for route in API.routes if route.changes
}


def requested_operation(operation: str, body: Any) -> str:
    """Return the operation that a request asks for, such as ``task.RETRY``; empty for a read."""
    return _REQUESTS.get(operation, "")


# --- one whole task -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubtaskSnapshot:
    """A subtask of a response."""

    id: int
    name: str
    status: str
    operation: str
    finish_time: int | str | None = field(compare=False)

    @property
    def words(self) -> str:
        """Return status and operation."""
        return f"{self.status}/{self.operation}"


@dataclass(frozen=True, slots=True)
class TaskSnapshot:
    """A task of a response, its subtasks by their ids."""

    id: int
    status: str
    operation: str
    prohibits_rollback: bool
    subtasks: tuple[SubtaskSnapshot, ...]

    @property
    def words(self) -> str:
        """Return its status and operation, and those of its subtasks."""
        subtasks = ", ".join(entry.words for entry in self.subtasks)
        return f"{self.status}/{self.operation} [{subtasks}]"

    @property
    def at_rest(self) -> bool:
        """Return whether it has ended and nothing of it runs."""
        is_running = any(entry.status in UNDER_WAY for entry in self.subtasks)
        return self.status != "RUNNING" and not is_running


def read_task(data: Any) -> TaskSnapshot:
    """Return the task in a response's data. Raises one of UNREADABLE."""
    subtasks = (
        SubtaskSnapshot(
            id=int(item["id"]),
            name=str(item["name"]),
            status=str(item["status"]),
            operation=str(item["operation"]),
            finish_time=instant(item.get("finishTime")) or item.get("finishTime"),
        )
        for item in data["subtasks"]
    )
    return TaskSnapshot(
        id=int(data["id"]),
        status=str(data["status"]),
        operation=str(data["operation"]),
        prohibits_rollback=bool(data.get("prohibitRollback")),
        subtasks=tuple(sorted(subtasks, key=lambda subtask: subtask.id)),
    )
