"""What obshell says when it refuses: status, errCode and text of every error, and those of before.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent/errors/errorcode.go and
ob/agent/assets/i18n/error/en.json; recorded in tests/data/obshell. Before 4.3.1 there was no
errCode but a number, and an operator the state does not allow was answered 500; those numbers and
texts are of agent/errors/errorcode.go at 424f28a and agent/service/task/dag.go at 0166004, and were
never recorded. Messages are English whatever Accept-Language says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final, Literal

from oceanmock.api import ApiError, ErrorKind
from oceanmock.errors import CallerError, IllegalOperator, NoSuchTask
from oceanmock.obshell.crypto import SecurityError
from oceanmock.obshell.ids import InvalidGenericId

PHRASES: Final = {each.value: each.phrase for each in HTTPStatus}

Stage = Literal["handler", "decryption", "panic"]


class ObshellError(CallerError):
    """An error in obshell's words; ``old_message`` is what it said before 4.3.1, if that differs.

    ``stage`` says what came of the request: a "handler" answered it; "decryption" failed before a
    trace id and a content type were set; or the server recovered from a "panic". ``has_null`` says
    that the answer has data beside the error, which are null.
    """

    def __init__(
        self,
        status: int,
        err_code: str,
        message: str,
        *,
        code: int | None = None,
        old_message: str = "",
        stage: Stage = "handler",
        has_null: bool = False,
    ) -> None:
        super().__init__(message)
        self.said: Final = ErrorParts(
            status, err_code, message, code, old_message or message, stage, has_null
        )


@dataclass(frozen=True, slots=True)
class ErrorParts:
    """An error as it is answered; ``code`` and ``err_code`` are left out when there is none."""

    status: int
    err_code: str | None
    message: str
    code: int | None
    old_message: str
    stage: Stage = "handler"
    has_null: bool = False


# --- the errors of the operations -----------------------------------------------------------------


def not_found(reason: str = "record not found") -> ObshellError:
    """There is no such dag, node or sub task."""
    return ObshellError(404, "Task.NotFound", f"Task not found: {reason}")


def not_holding(*, task: bool) -> ObshellError:
    """It would be in OceanBase, which this agent does not hold."""
    outer = "Task not found: " if task else ""
    return ObshellError(500, "Agent.OceanBase.NotHold", f"{outer}Agent is not holding OceanBase")


def unexpected(what: str) -> ObshellError:
    """Go's own error, or one nobody gave a kind."""
    return ObshellError(500, "Common.Unexpected", f"Unexpected error: {what}")


def panic() -> ObshellError:
    """The server recovered from a panic."""
    return ObshellError(
        500, "Common.Unexpected", "Unexpected error: Internal Server Error", stage="panic"
    )


def unreachable(request: str, address: str) -> ObshellError:
    """Go's words for another agent that does not answer (``request``: Get "http://…")."""
    reason = f"{request}: dial tcp {address}: connect: connection refused"
    return ObshellError(500, "Common.Unexpected", reason)


def wrong_identity(agent: str, identity: str, wanted: str) -> ObshellError:
    """What only an agent of another identity does (recorded of agent/join)."""
    message = f"'{agent}' is '{identity}', instead of '{wanted}', does not support this operation"
    return ObshellError(400, "Agent.Identify.NotSupportOperation", message)


def already_initialized() -> ObshellError:
    """What only an agent does that has no cluster yet (ob/agent/api/obcluster_handler.go)."""
    message = "Cluster has already been initialized"
    return ObshellError(400, "OB.Cluster.AlreadyInitialized", message)


def under_maintenance(name: str, agent: str) -> ObshellError:
    """Another dag has the agent's lock (recorded in init.json, null data and all).

    That agent/join, by its code, leaves the null out is not modelled (agent_handler.go).
    """
    message = f"Create task '{name}' failed: {agent} is under maintenance"
    return ObshellError(500, "Agent.UnderMaintenance", message, has_null=True)


def cluster_under_maintenance(name: str, held_by: str) -> ObshellError:
    """Another dag has the cluster's lock (status_maintainer.go, never recorded)."""
    message = (
        f"Create task '{name}' failed: OceanBase cluster is under maintenance "
        f"by DAG: {held_by}, please try again later"
    )
    return ObshellError(500, "OB.Cluster.UnderMaintenanceWithDag", message, has_null=True)


def tenant_under_maintenance(name: str, tenant: str) -> ObshellError:
    """Another dag has the tenant's lock (status_maintainer.go, never recorded)."""
    message = (
        f"Create task '{name}' failed: Tenant '{tenant}' is under maintenance, "
        "please try again later."
    )
    return ObshellError(500, "OB.Tenant.UnderMaintenance", message, has_null=True)


def unknown_identity(identity: str) -> ObshellError:
    """What an agent of this identity does not say."""
    message = f"Agent identify is unknown: {identity}"
    return ObshellError(500, "Agent.Identify.Unknown", message)


def bind_failed(why: str) -> ObshellError:
    """The body could not be read, or lacks its operator."""
    return ObshellError(
        400,
        "Common.BindJsonFailed",
        f"Bind JSON failed: {why}",
        old_message=f"Illegal argument: {why}",
    )


def illegal_argument(why: str) -> ObshellError:
    """A parameter that Go could not read, where a quirk that lets it pass is switched off."""
    return ObshellError(400, "Common.IllegalArgument", f"Illegal argument: {why}")


def not_supported(kind: Literal["Dag", "Node"], operator: str) -> ObshellError:
    """An operator that this route does not know; it is told as it was sent."""
    return ObshellError(
        400,
        f"Task.{kind}.Operator.NotSupport",
        f"Operator {operator} is not supported",
        old_message=f"invalid operator: {operator}",
    )


# --- operators that a state or a flag does not allow ----------------------------------------------

_NO_NODE_FAILED: Final = "failed to set dag rollback: no node failed"

ILLEGAL_OPERATORS: Final[Mapping[str, tuple[str, str]]] = {
    "Dag.Operator.RollbackNotFailedDag": (
        "Failed to set DAG rollback: DAG state is not failed",
        "failed to set dag rollback: dag state is not failed",
    ),
    "Dag.Operator.RollbackNotAllowed": (
        "Failed to set DAG rollback: node {node} cannot rollback",
        "failed to set dag rollback: node {number}. {node} can not rollback",
    ),
    "Dag.Operator.RetryNotFailedDag": (
        "Failed to set DAG retry: DAG state is not failed",
        "failed to set dag retry: dag state is not failed",
    ),
    "Dag.Operator.RetryNotAllowed": (
        "Failed to set DAG retry: node {node} cannot retry",
        "failed to set dag retry: {node} can not retry",
    ),
    "Dag.Operator.CancelFinishedDag": (
        "Failed to cancel DAG: DAG is finished",
        "failed to cancel dag: dag is finished",
    ),
    "Dag.Operator.CancelNotAllowed": (
        "Failed to cancel DAG: node {node} cannot cancel",
        "failed to cancel dag: {node} can not cancel",
    ),
    "Dag.Operator.PassNotFailedDag": (
        "Failed to pass DAG: DAG is not failed",
        "failed to pass dag: dag is not failed",
    ),
    "Dag.Operator.PassNotAllowed": (
        "Failed to pass DAG: node {node} cannot pass",
        "failed to pass dag: {node} can not pass",
    ),
    "Node.Operator.PassNotFailedDag": ("Failed to pass node: assigned DAG is not failed", ""),
    "Node.Operator.PassNotFailedNode": ("Failed to pass node: node {node} is not failed", ""),
    "Node.Operator.PassNotAllowed": ("Failed to pass node: node {node} cannot pass", ""),
}
"""By the tail of the errCode: the text (en.json:300-322), and that of before 4.3.1."""


def illegal_operator(refusal: IllegalOperator, nodes: Sequence[tuple[int, str]]) -> ObshellError:
    """A refusal of the machine, about a dag whose nodes have these numbers and names."""
    if refusal.reason == "NoNodeFailed":
        return ObshellError(
            500,
            "Common.Unexpected",
            f"Unexpected error: {_NO_NODE_FAILED}",
            old_message=f"Known error: {_NO_NODE_FAILED}",
        )
    number, node = nodes[refusal.node or 0]
    message, old = (
        text.format(node=node, number=number) for text in ILLEGAL_OPERATORS[refusal.reason]
    )
    return ObshellError(400, f"Task.{refusal.reason}", message, old_message=old)


# --- from any error to what is said ---------------------------------------------------------------

_REFUSALS: Final[Mapping[ErrorKind, tuple[str, str]]] = {
    "unknown path": ("Common.NotFound", "Element not found: 404 not found"),
    "wrong method": ("Common.NotFound", "Element not found: 404 not found"),
    # The rest are ours: the real server has no such limit, and keeps its own contract.
    "body too large": ("Request.Body.TooLarge", "The request body is too large."),
    "broken response": ("Common.Unexpected", "Unexpected error: the answer breaks the contract"),
}


def error_parts(error: Exception) -> ErrorParts:
    """What is said about any error, in the words of 4.3.1 and later."""
    match error:
        case ObshellError():
            return error.said
        case SecurityError():
            return _said_of_security(error)
        case InvalidGenericId():
            old_message = f"Illegal argument: {error.old_message}"
            return ErrorParts(400, "Task.GenericID.Invalid", str(error), None, old_message)
        case NoSuchTask():
            return not_found().said
        case ApiError():
            return _said_of_refusal(error)
        case _:
            return unexpected(f"{type(error).__name__}: {error}").said


def _said_of_refusal(refusal: ApiError) -> ErrorParts:
    if refusal.kind == "fault":
        return _struck(refusal.status)
    err_code, message = _REFUSALS.get(refusal.kind, ("Common.IllegalArgument", refusal.detail))
    # gin does not tell a wrong method from an unknown path.
    status = 404 if refusal.kind == "wrong method" else refusal.status_code
    return ErrorParts(status, err_code, message, None, message)


def _struck(status: int) -> ErrorParts:
    """An error that a fault asks for: in obshell's words where it has some for that status."""
    match status:
        case 401:
            message = "Unauthorized: OceanBase password is incorrect"
            err_code = "Security.Authentication.IncorrectOceanbasePassword"
            return ErrorParts(401, err_code, message, 10008, message)
        case 404:
            return not_found().said
        case _:
            phrase = PHRASES.get(status, f"status {status}")
            message = f"Unexpected error: {phrase}"
            return ErrorParts(status, "Common.Unexpected", message, None, message)


def _said_of_security(refusal: SecurityError) -> ErrorParts:
    stages: Mapping[str, Stage] = {"header": "decryption", "body": "decryption", "panic": "panic"}
    return ErrorParts(
        refusal.status,
        refusal.err_code,
        refusal.message,
        refusal.code,
        refusal.message,
        stages.get(refusal.stage, "handler"),
    )


# --- before 4.3.1 ---------------------------------------------------------------------------------

_KNOWN_ERROR: Final = (500, 1010)
_NOT_FOUND: Final = (404, 2300)
_OLD_FAMILIES: Final = (
    ("Task.GenericID.", (400, 1001)),
    ("Common.BindJsonFailed", (400, 1001)),
    ("Common.IllegalArgument", (400, 1001)),
    ("Task.NotFound", _NOT_FOUND),
    ("Task.", _KNOWN_ERROR),
    ("Security.Authentication.Header.DecryptFailed", (401, 1)),
    ("Security.", (401, 10008)),
    ("Request.Header.NotFound", (401, 10008)),
    ("Request.Body.Decrypt.", (401, 10008)),
    ("Request.Body.TooLarge", (413, 1000)),
    ("Agent.Identify.", (400, 1000)),
)
"""errCode → status and number; the first that fits. Only those of tasks are read in the code."""
_OLD_UNEXPECTED: Final = 1002
_OLD_NOT_FOUND: Final = 1000


def in_old_format(said: ErrorParts) -> ErrorParts:
    """The same error as a server before 4.3.1 answers it: a number, and no errCode."""
    err_code = said.err_code or ""
    for prefix, (status, code) in _OLD_FAMILIES:
        if err_code.startswith(prefix):
            known = (status, code) == _KNOWN_ERROR
            message = f"Known error: {said.old_message}" if known else said.old_message
            return replace(said, status=status, code=code, err_code=None, message=message)
    if said.old_message.startswith("Task not found: "):
        return replace(said, status=404, code=_NOT_FOUND[1], err_code=None)
    code = _OLD_NOT_FOUND if said.status == 404 else _OLD_UNEXPECTED
    if said.old_message.startswith("Known error: "):
        code = _KNOWN_ERROR[1]
    return replace(said, code=code, err_code=None, message=said.old_message)
