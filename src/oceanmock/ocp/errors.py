"""Map every error to OCP's status, code and text.

Facts: OCP's open-source sibling (github.com/oceanbase/ocp-express at eb6f2117), named with each.
OCP's own error numbers are not public: those here are the sibling's, and switches of the sandbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from oceanmock.api import ApiError, ErrorKind, Headers, Request
from oceanmock.errors import IllegalOperation, NoSuchSubtask, NoSuchTask, RollbackProhibited
from oceanmock.ocp.world import Tasks
from oceanmock.text import shorten

MAX_ECHO: Final = 200
"""The characters of a refused value that an error repeats."""
CHALLENGE: Final[Headers] = ((b"www-authenticate", b'Basic realm="OCP", charset="UTF-8"'),)
NOT_LOGGED_ON: Final = (
    "The current user has not logged on or a logon error has occurred. Please log on and try again."
)
NOT_AUTHORIZED: Final = (
    "You are not authorized to perform the corresponding operation. Contact the administrator."
)
"""Both from ocp-express' messages_en_US.properties."""
NO_SUCH_TASK: Final = "The {0} task does not exist."
"""The literal {0} is ocp-express': it passes no arguments there."""
JAVA_TYPES: Final = {"int64": "Long", "int32": "Integer", "boolean": "Boolean", "number": "Double"}

MESSAGES: Final[Mapping[ErrorKind, str]] = {
    "bad credentials": "Bad credentials",  # CustomSecurityConfiguration.java:152-173
    "malformed body": "Malformed JSON request",  # RestExceptionHandler.java:271
    "unauthenticated": NOT_LOGGED_ON,  # CustomAuthenticationEntryPoint.java:62-70
    "forbidden": NOT_AUTHORIZED,  # RestExceptionHandler.java:123-132
    "wrong type": "The parameter '{parameter}' of value '{value}' could not be converted "
    "to type '{java_type}'",  # RestExceptionHandler.java:200-207
    # The rest are the mock's: ocp-express returns 500, a web page, or nothing.
    "body too large": "The request body is too large.",
    "broken response": "The answer of the mock does not keep the contract.",
    "unknown path": "No API has the path '{path}'.",
    "unsupported media type": "The media type of the request body is not supported.",
    "wrong method": "Method {method} is not allowed here.",
    "wrong request": "The request is not as the contract says.",
    "wrong value": "The parameter '{parameter}' of value '{value}' is not allowed.",
}

THROTTLED: Final = (
    "Excessive number of requests. "
    "You have exceeded the request limit for the current throttling window."
)
RATE_LIMIT: Final[Headers] = (
    (b"ratelimit-limit", b"100"),
    (b"ratelimit-remaining", b"0"),
    (b"ratelimit-reset", b"1"),
)
"""The headers of a 429 (200.api-call-description.md:121-151), with the page's own numbers."""


@dataclass(frozen=True, slots=True)
class OcpError:
    """The parts of an error response."""

    status: int
    message: str
    code: int = 0
    debug: str = ""
    headers: Headers = ()


def error_of(request: Request, error: Exception) -> OcpError:
    """Return the error response of any exception."""
    switches = request.sandbox.world(Tasks).switches
    match error:
        case ApiError(kind="fault"):
            return _injected(error.status)
        case ApiError():
            return _refused(request, error, switches.error_code_forbidden)
        case NoSuchTask() | NoSuchSubtask():  # TaskInstanceManagerImpl.java:61,98,122
            return OcpError(404, NO_SUCH_TASK, switches.error_code_not_found)
        case IllegalOperation():  # TaskInstanceManagerImpl.java:63,99; SubtaskInstanceManagerImpl
            # The id has no thousands separators: I18nService.java makes it a text first.
            ids = request.parameters
            id = ids.get("subtaskInstanceId", ids["taskInstanceId"])
            message = (
                f"This operation is not supported for the {id} task in the {error.state} state."
            )
            return OcpError(400, message, switches.error_code_illegal_state, debug=str(error))
        case RollbackProhibited():  # TaskInstanceManagerImpl.java:66-68
            code = switches.error_code_rollback_prohibited
            return OcpError(400, "Task {0} can not rollback.", code)
        case _:  # RestExceptionHandler.java:343-358
            kind = type(error).__name__
            return OcpError(500, f"Unhandled exception, type={kind}, message={error}")


def _refused(request: Request, error: ApiError, forbidden: int) -> OcpError:
    value = shorten(error.value, MAX_ECHO)
    message = MESSAGES[error.kind].format(
        parameter=error.parameter,
        value=value,
        java_type=JAVA_TYPES.get(error.expected_type, error.expected_type),
        path=shorten(request.path, MAX_ECHO),
        method=shorten(request.method, MAX_ECHO),
    )
    return OcpError(
        error.status_code,
        message,
        code=forbidden if error.kind == "forbidden" else 0,
        # The debugMessage of a wrong type is Java's own.
        debug=f'For input string: "{value}"' if error.kind == "wrong type" else error.detail,
        headers=CHALLENGE if error.status_code == 401 else error.headers,
    )


def _injected(status: int) -> OcpError:
    """Return the error of an injected fault, with OCP's text where it has one for the status."""
    if status == 429:
        return OcpError(429, THROTTLED, headers=RATE_LIMIT)
    if status == 401:
        return OcpError(401, NOT_LOGGED_ON, headers=CHALLENGE)
    phrases = {existing.value: existing.phrase for existing in HTTPStatus}
    messages = {403: NOT_AUTHORIZED, 404: NO_SUCH_TASK}
    return OcpError(status, messages.get(status) or phrases.get(status, f"Status {status}"))
