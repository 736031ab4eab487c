"""OCP's vocabulary: its kinds, states, operations, routes and keys, and the texts of its errors.

States and operations are those of oceanbase/ocp-express at eb6f2117
(task/task-service/src/main/java/com/oceanbase/ocp/task/model); paths are the contract's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Literal, NamedTuple, get_args

from oceanmock.api import Api, ApiError, ErrorKind, Headers, Kind, Request, Route
from oceanmock.errors import IllegalOperation, NoSuchSubtask, NoSuchTask, RollbackProhibited
from oceanmock.text import shorten

TaskStatus = Literal["RUNNING", "FAILED", "SUCCESSFUL", "ABORTED"]
TaskOperation = Literal["EXECUTE", "RETRY", "ROLLBACK"]
SubtaskStatus = Literal["PENDING", "READY", "RUNNING", "CANCELING", "FAILED", "SUCCESSFUL"]
SubtaskOperation = Literal["EXECUTE", "RETRY", "ROLLBACK", "SKIP", "ROLLBACK_SKIP", "CANCEL"]
Operation = Literal["RETRY", "ROLLBACK", "SKIP", "CANCEL"]
"""An operation that a client can request of a task or a subtask."""

ChangeId = Literal["retryTask", "rollbackTask", "retrySubtask", "skipSubtask", "cancelSubtask"]

TASKS_PATH: Final = "/api/v2/tasks/instances"
TASK_PATH: Final = f"{TASKS_PATH}/{{taskInstanceId}}"
SUBTASK_PATH: Final = f"{TASK_PATH}/subtasks/{{subtaskInstanceId}}"
UNDOCUMENTED_TASK_PATH: Final = "/api/v2/tasks/{taskInstanceId}"
"""A path that a public client polls, and that no document has."""

_TASK_ID: Final = {"task": "taskInstanceId"}
_SUBTASK_ID: Final = {**_TASK_ID, "subtask": "subtaskInstanceId"}


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
            own_key="subtasks",
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
        Route("retryTask", f"{TASK_PATH}/retry", _TASK_ID, changes="task", operation="RETRY", shows="task"),
        Route("rollbackTask", f"{TASK_PATH}/rollback", _TASK_ID, changes="task", operation="ROLLBACK", shows="task"),
        Route("getSubtaskLog", f"{SUBTASK_PATH}/log", _SUBTASK_ID),
        Route(
            "retrySubtask", f"{SUBTASK_PATH}/retry", _SUBTASK_ID, changes="subtask", operation="RETRY", shows="subtask"
        ),
        Route("skipSubtask", f"{SUBTASK_PATH}/skip", _SUBTASK_ID, changes="subtask", operation="SKIP"),
        Route("cancelSubtask", f"{SUBTASK_PATH}/cancel", _SUBTASK_ID, changes="subtask", operation="CANCEL"),
    ),
    scripts_key="tasks",
    switches_key="switches",
    state_key="status",
    operation_key="operation",
    start_key="startTime",
    end_key="finishTime",
)

MAX_ECHO: Final = 200  # the characters of a refused value that an error repeats
CHALLENGE: Final[Headers] = ((b"www-authenticate", b'Basic realm="OCP", charset="UTF-8"'),)
FULL_AUTHENTICATION: Final = "Full authentication is required to access this resource"
"""Spring Security's debugMessage of a request without credentials."""
INDEX_PAGE: Final = b"<!DOCTYPE html><html><head><title>OCP</title></head><body></body></html>"
"""A web page in place of OCP's, for unknown paths (CustomErrorController.java:34-42)."""
NOT_LOGGED_ON: Final = "The current user has not logged on or a logon error has occurred. Please log on and try again."
NOT_AUTHORIZED: Final = "You are not authorized to perform the corresponding operation. Contact the administrator."
"""Both from ocp-express' messages_en_US.properties."""
NO_SUCH_TASK: Final = "The {0} task does not exist."  # ocp-express sends the literal {0}: it passes no arguments
JAVA_TYPES: Final = {"int64": "Long", "int32": "Integer", "boolean": "Boolean", "number": "Double"}

NOT_CONVERTED: Final = (
    "Failed to convert value of type 'java.lang.String' to required type 'java.lang.{java_type}'; "
    'nested exception is java.lang.NumberFormatException: For input string: "{value}"'
)
"""The text of Spring 5.3's MethodArgumentTypeMismatchException (RestExceptionHandler.java:205)."""

MESSAGES: Final[Mapping[ErrorKind, str]] = {
    "bad credentials": "{value}",  # CustomSecurityConfiguration.java:152-173
    "malformed body": "Malformed JSON request",  # RestExceptionHandler.java:271
    "unauthenticated": NOT_LOGGED_ON,  # CustomAuthenticationEntryPoint.java:62-70
    "forbidden": NOT_AUTHORIZED,  # RestExceptionHandler.java:123-132
    "wrong type": "The parameter '{parameter}' of value '{value}' could not be converted "
    "to type '{java_type}'",  # RestExceptionHandler.java:200-207
    # The rest are the mock's: ocp-express returns 500, a web page, or nothing.
    "body too large": "The request body is too large.",
    "broken response": "The answer of the mock does not keep the contract.",
    "unavailable": "The state of the mock cannot be read or written now.",
    "unknown path": "No API has the path '{path}'.",
    "unsupported media type": "The media type of the request body is not supported.",
    "wrong method": "Method {method} is not allowed here.",
    "wrong request": "The request is not as the contract says.",
    "wrong value": "The parameter '{parameter}' of value '{value}' is not allowed.",
}

FAULTS: Final[Mapping[int, tuple[str, Headers]]] = {
    401: (NOT_LOGGED_ON, ()),
    403: (NOT_AUTHORIZED, ()),
    404: (NO_SUCH_TASK, ()),
    429: (
        "Excessive number of requests. You have exceeded the request limit for the current throttling window.",
        ((b"ratelimit-limit", b"100"), (b"ratelimit-remaining", b"0"), (b"ratelimit-reset", b"1")),
    ),
}
"""The texts and headers of injected faults, by status; a 429's are the page's (200.api-call-description.md:121-151)."""


_LONG: Final = re.compile(r"[+-]?\d+|(?P<sign>-?)(?:0[xX]|#)(?P<hex>[0-9a-fA-F]+)")


def read_long(text: str, *, bits: int = 64) -> int:
    """Parse a Long, or an Integer, as Spring does (NumberUtils.parseNumber). Raises ValueError.

    Blanks are ignored; hexadecimals and the digits of any script are allowed. (Spring Security refuses line feeds.)
    """
    match = _LONG.fullmatch(re.sub(r"[^\S\r\n]", "", text))
    if match is not None:
        value = int(match["sign"] + match["hex"], 16) if match["hex"] else int(match[0])
        if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            return value
    raise ValueError(text)


class HttpRequestMethodNotSupportedException(Exception):
    """Spring's exception, whose name and text the error has."""


class OcpError(NamedTuple):
    """The parts of an error response."""

    status: int
    message: str
    code: int = 0
    debug: str = ""
    headers: Headers = ()


def error_of(request: Request, error: Exception, switches: Any) -> OcpError:
    """Return the error response to an exception, with the codes of ocp-express; OCP's are not public."""
    match error:
        case ApiError(kind="fault"):
            phrase = next((it.phrase for it in HTTPStatus if it == error.status), f"Status {error.status}")
            message, headers = FAULTS.get(error.status, (phrase, ()))
            codes = {403: switches.error_code_forbidden, 404: switches.error_code_not_found}
            code = error.code if isinstance(error.code, int) else codes.get(error.status, 0)
            return OcpError(error.status, error.message or message, code, headers=headers)
        case ApiError():
            code = switches.error_code_forbidden if error.kind == "forbidden" else 0
            value = shorten(error.value, MAX_ECHO)
            java_type = JAVA_TYPES.get(error.expected_type, error.expected_type)
            message = MESSAGES[error.kind].format(
                parameter=error.parameter,
                value=value,
                java_type=java_type,
                path=shorten(request.path, MAX_ECHO),
                method=shorten(request.method, MAX_ECHO),
            )
            # The text of the exception of Java or Spring, if there is one.
            debug = {
                "bad credentials": value,
                "forbidden": "",
                "unauthenticated": FULL_AUTHENTICATION,
                "wrong type": NOT_CONVERTED.format(value=value, java_type=java_type),
            }.get(error.kind, error.detail)
            return OcpError(error.status_code, message, code, debug, error.headers)
        case NoSuchTask() | NoSuchSubtask():  # TaskInstanceManagerImpl.java:61,98,122
            return OcpError(404, NO_SUCH_TASK, switches.error_code_not_found)
        case IllegalOperation():  # TaskInstanceManagerImpl.java:63,99; SubtaskInstanceManagerImpl
            # The id has no thousands separators: I18nService.java makes it a text first.
            ids = request.parameters
            id = ids.get("subtaskInstanceId", ids["taskInstanceId"])
            message = f"This operation is not supported for the {id} task in the {error.state} state."
            return OcpError(400, message, switches.error_code_illegal_state)
        case RollbackProhibited():  # TaskInstanceManagerImpl.java:66-68
            return OcpError(400, "Task {0} can not rollback.", switches.error_code_rollback_prohibited)
        case _:  # RestExceptionHandler.java:343-358
            message = f"Unhandled exception, type={type(error).__name__}, message={error}"
            return OcpError(500, message, debug=str(error))
