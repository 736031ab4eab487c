"""OCP's words: its kinds, states, operations, routes and keys.

States and operations are those of oceanbase/ocp-express at eb6f2117
(task/task-service/src/main/java/com/oceanbase/ocp/task/model); paths are the contract's.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from oceanmock.api import Api, Kind, Route

TaskStatus = Literal["RUNNING", "FAILED", "SUCCESSFUL", "ABORTED"]
TaskOperation = Literal["EXECUTE", "RETRY", "ROLLBACK"]
SubtaskStatus = Literal["PENDING", "READY", "RUNNING", "CANCELING", "FAILED", "SUCCESSFUL"]
SubtaskOperation = Literal["EXECUTE", "RETRY", "ROLLBACK", "SKIP", "ROLLBACK_SKIP", "CANCEL"]
Operation = Literal["RETRY", "ROLLBACK", "SKIP", "CANCEL"]
"""An operation that a client can request of a task or a subtask."""

ChangeId = Literal["retryTask", "rollbackTask", "retrySubtask", "skipSubtask", "cancelSubtask"]
OperationId = Literal["listTaskInstances", "getTaskInstance", "getSubtaskLog", ChangeId]
"""The operations of openapi/ocp.yaml."""

TASKS_PATH: Final = "/api/v2/tasks/instances"
TASK_PATH: Final = f"{TASKS_PATH}/{{taskInstanceId}}"
SUBTASK_PATH: Final = f"{TASK_PATH}/subtasks/{{subtaskInstanceId}}"
UNDOCUMENTED_TASK_PATH: Final = "/api/v2/tasks/{taskInstanceId}"
"""A path that a public client polls and no document has."""

_TASK_ID: Final = {"task": "taskInstanceId"}
_SUBTASK_ID: Final = {**_TASK_ID, "subtask": "subtaskInstanceId"}


def _task_change(id: OperationId, path: str, operation: Operation) -> Route:
    return Route(
        id, f"{TASK_PATH}/{path}", _TASK_ID, changes="task", operation=operation, shows="task"
    )


def _subtask_change(id: OperationId, path: str, operation: Operation, shows: str = "") -> Route:
    path = f"{SUBTASK_PATH}/{path}"
    return Route(id, path, _SUBTASK_ID, changes="subtask", operation=operation, shows=shows)


API: Final = Api(
    name="ocp",
    title="OCP",
    package="oceanmock.ocp",
    prefix="/api/v2/",
    kinds=(
        Kind(
            name="task",
            title="task",
            states=get_args(TaskStatus),
            terminal_states=frozenset({"SUCCESSFUL", "FAILED", "ABORTED"}),
            shown_operations=get_args(TaskOperation),
            operations=("RETRY", "ROLLBACK"),
            detail="getTaskInstance",
            parts_key="subtasks",
        ),
        Kind(
            name="subtask",
            title="subtask",
            states=get_args(SubtaskStatus),
            terminal_states=frozenset({"SUCCESSFUL", "FAILED"}),
            shown_operations=get_args(SubtaskOperation),
            operations=("RETRY", "SKIP", "CANCEL"),
            parent="task",
        ),
    ),
    routes=(
        Route("listTaskInstances", TASKS_PATH, lists="task", shows="task"),
        Route("getTaskInstance", TASK_PATH, _TASK_ID, shows="task"),
        _task_change("retryTask", "retry", "RETRY"),
        _task_change("rollbackTask", "rollback", "ROLLBACK"),
        Route("getSubtaskLog", f"{SUBTASK_PATH}/log", _SUBTASK_ID),
        _subtask_change("retrySubtask", "retry", "RETRY", shows="subtask"),
        _subtask_change("skipSubtask", "skip", "SKIP"),
        _subtask_change("cancelSubtask", "cancel", "CANCEL"),
    ),
    scripts_key="tasks",
    switches_key="switches",
    state_key="status",
    operation_key="operation",
    end_key="finishTime",
)
