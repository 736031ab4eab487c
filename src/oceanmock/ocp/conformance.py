"""OCP as the target of a conformance run, the parser of its bodies, and a walk's expectations.

``observations`` accepts any body and skips what is not as openapi/ocp.yaml has it; ``read_task``
reads one whole task.

The transition tables decide: an operation that has a transition from the current state is accepted,
one that needs a switch may be either, any other is refused with 400. Where no public text decides
what a server other than the mock does, both are expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, Final
from urllib.parse import quote

from oceanmock.api import Route
from oceanmock.checks import UNDECIDED, Action, Probe, TargetApi, instant, numbered
from oceanmock.engine.machine import Label
from oceanmock.observations import Observation, id_text, text_at
from oceanmock.ocp.api import API, TASK_PATH, TASKS_PATH
from oceanmock.ocp.scenario import Scenario
from oceanmock.ocp.states import MACHINES

ILLEGAL_CODE: Final = 20003
PROHIBITED_CODE: Final = 20004
_ACCEPTED_STATUSES: Final = frozenset({200})
_REFUSED_STATUSES: Final = frozenset({400})
_ID_FORMATS: Final[Sequence[tuple[str, Callable[[str], int]]]] = (
    (r"[+-]?\d{1,40}", int),
    (r"[+-]?\d{1,40}(\.\d*)?(e\+?\d{1,2})?[dfl]?", lambda text: int(Decimal(text.rstrip("dfl")))),
    (r"[+-]?(0x|#)[0-9a-f]{1,40}", lambda text: int(re.sub("0x|#", "", text), 16)),
)

# --- response bodies ------------------------------------------------------------------------------

_SHOW_NOTHING: Final = frozenset(route.id for route in API.routes if not route.shows)
UNDER_WAY: Final = frozenset({"READY", "RUNNING", "CANCELING"})


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
    for path, task in numbered(rows, "$.data.contents") if isinstance(rows, list) else [("$.data", data)]:
        if operation or isinstance(task.get("subtasks"), list):
            yield from _task(task, path)


def _task(task: Mapping[str, Any], path: str) -> Iterator[Observation]:
    for result in _observation("task", task, path):
        yield result
        for place, subtask in numbered(task.get("subtasks"), f"{path}.subtasks"):
            yield from _observation("subtask", subtask, place, task=result.id)


def _observation(kind: str, item: Mapping[str, Any], path: str, *, task: str = "") -> Iterator[Observation]:
    id, status = id_text(item.get("id")), item.get("status")
    if id and isinstance(status, str):
        name, operation = text_at(item, "name"), text_at(item, "operation")
        root = id if kind == "task" else task
        yield Observation(kind, id, name, status, operation, task, root, path, item)


_REQUESTS: Final = {route.id: f"{route.changes}.{route.operation}" for route in API.routes if route.changes}


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


# --- the target -----------------------------------------------------------------------------------


class OcpTarget(TargetApi):
    """A server of OCP."""

    preflight_path = f"{TASKS_PATH}?size=1"
    read_path = preflight_path
    failed_path = f"{TASKS_PATH}?status=FAILED&size=50"
    active_states = UNDER_WAY
    id_type = int
    credentials_hint = "--user and --password, or --access-key and --secret-key"
    uncertain_value = "ABORTED"  # openapi/ocp.yaml
    schemathesis_checks: ClassVar[Mapping[str, Any]] = {
        # Parameters are checked before the task is looked up; 404 is an id that makes another path.
        "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, *UNDECIDED]},
        "positive_data_acceptance": {"expected-statuses": [200, 401, 403, 404, *UNDECIDED]},
    }
    schemathesis_operations = (({"include-method": "POST"}, [200, 400, 401, 403, 404, *UNDECIDED]),)
    goals = ("retrySubtask", "retryTask", "rollbackTask", "skipSubtask", "cancelSubtask")
    retries = frozenset({"retrySubtask", "retryTask"})
    cancel = "cancelSubtask"
    read = staticmethod(read_task)

    def is_server(self, body: Mapping[str, Any]) -> bool:
        return "server" in body

    def list_path(self, script: Any) -> str:
        name = (script.name or "").replace("{n}", "1")
        return f"{TASKS_PATH}?size=2000" + (f"&name={quote(name)}" if name else "")

    def ids_in(self, scenario: Scenario) -> list[str]:
        return [str(task.id) for task in scenario.tasks if task.id is not None]

    def unknown_ids(self, address: tuple[str, int] | None, identity: str) -> list[str | int]:
        return [2**63 - 1]

    def equivalent_ids(self, id: str) -> set[str]:
        """Return an id and the number a lenient server reads in it: 7 in ``+7``, ``7.0``, ``0x7``.

        Spring drops all blanks and reads hexadecimals (NumberUtils.parseNumber).
        """
        text = re.sub(r"\s", "", id).lower()
        numbers = (read(text) for form, read in _ID_FORMATS if re.fullmatch(form, text))
        return {id, *map(str, numbers)}

    def actions(self, task: TaskSnapshot, id: str, *, is_mock: bool, knowledge: None = None) -> Iterator[Action]:
        """Yield every operation of the contract, on the task and on each subtask."""
        for part in (None, *task.subtasks):
            kind = "task" if part is None else "subtask"
            for route in API.routes:
                if route.changes == kind:
                    yield _action(route, task, part, id, is_mock=is_mock)

    def log_paths(self, before: TaskSnapshot, after: TaskSnapshot, id: str) -> Sequence[str]:
        """Return one log: of a subtask that has run again, rather than for the first time."""
        ends = {subtask.id: subtask.finish_time for subtask in before.subtasks}
        ended = [item for item in after.subtasks if item.finish_time != ends.get(item.id)]
        first = sorted(ended, key=lambda subtask: subtask.operation == "EXECUTE")[:1]
        path = TASK_PATH.format(taskInstanceId=quote(id, safe=""))
        return [f"{path}/subtasks/{subtask.id}/log" for subtask in first]


CONFORMANCE: Final = OcpTarget()


def _action(route: Route, task: TaskSnapshot, subtask: SubtaskSnapshot | None, id: str, *, is_mock: bool) -> Action:
    """Return an operation on the task, or on a subtask."""
    words = f"{task.status}/{task.operation}"
    is_prohibited = route.id == "rollbackTask" and task.prohibits_rollback
    if subtask is None:
        what = f"{route.id} of the task, which is {words},"
        state = f"{words}/{task.prohibits_rollback}"
        label = (task.status, task.operation)
    else:
        what = f"{route.id} of subtask {subtask.id}, which is {subtask.words},"
        state = f"{words}/{subtask.words}"
        label = (subtask.status, subtask.operation)
    statuses = _statuses(route, label)
    is_prohibited = is_prohibited and 200 in statuses
    if is_prohibited or (subtask is not None and task.status == "ABORTED"):
        statuses = _REFUSED_STATUSES
    elif route.id == "retrySubtask" and label == ("FAILED", "ROLLBACK") and not is_mock:
        statuses = _ACCEPTED_STATUSES | _REFUSED_STATUSES
    probe = Probe(
        what,
        "POST",
        route.path.format(taskInstanceId=quote(id, safe=""), subtaskInstanceId="" if subtask is None else subtask.id),
        statuses,
        accepted="call.prohibited-accepted" if is_prohibited else "call.illegal-accepted",
        refused="call.legal-refused",
        other_codes=frozenset({ILLEGAL_CODE if is_prohibited else PROHIBITED_CODE}),
        is_wrong=200 not in statuses,
    )
    return Action(route.id, probe, state, is_safe=route.id == OcpTarget.cancel)


def _statuses(route: Route, label: Label) -> frozenset[int]:
    """Return the statuses with which an operation may be answered in a state."""
    trigger = f"{route.changes}.{route.operation}"
    conditions = {
        item.only for item in MACHINES[route.changes].transitions if (item.before, item.trigger) == (label, trigger)
    }
    if not conditions:
        return _REFUSED_STATUSES
    return _ACCEPTED_STATUSES if "" in conditions else _ACCEPTED_STATUSES | _REFUSED_STATUSES
