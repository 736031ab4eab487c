"""obshell's errors: status, errCode and text of each, also in the format before 4.3.1.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent/errors/errorcode.go and
ob/agent/assets/i18n/error/en.json; recorded in tests/data/obshell. Before 4.3.1 an error had a
number and no errCode, and an operator that the state does not allow was a 500; those numbers and
texts are of agent/errors/errorcode.go at 424f28a and agent/service/task/dag.go at 0166004, and were
never recorded. Messages are English whatever Accept-Language says.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final, Literal

from oceanmock.api import ApiError, ErrorKind, Response
from oceanmock.errors import (
    CallerError,
    IllegalOperator,
    NoSuchTask,
    UnderMaintenance,
    WrongIdentity,
)
from oceanmock.obshell.api import QuirkName
from oceanmock.obshell.auth import AUTH_FAILED
from oceanmock.obshell.crypto import SecurityError
from oceanmock.obshell.ids import InvalidGenericId
from oceanmock.obshell.scenario import TenantLock
from oceanmock.obshell.world import Template
from oceanmock.openapi import Spec, operations_of

PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

Stage = Literal["handler", "decryption", "panic"]


class ObshellError(CallerError):
    """An error of obshell; ``old_message`` is the message before 4.3.1, if that differs.

    ``stage`` is the part of the server that responds: a "handler"; "decryption", before a trace id
    and a content type are set; or the recovery from a "panic". ``has_null`` adds null data.
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
        self.parts: Final = ErrorParts(
            status, err_code, message, code, old_message or message, stage, has_null
        )


@dataclass(frozen=True, slots=True)
class ErrorParts:
    """The parts of an error response; ``code`` and ``err_code`` may be absent."""

    status: int
    err_code: str | None
    message: str
    code: int | None
    old_message: str
    stage: Stage = "handler"
    has_null: bool = False

    def json(self) -> dict[str, Any]:
        """Return the value of the response's key ``error``."""
        code = {} if self.code is None else {"code": self.code}
        err_code = {} if self.err_code is None else {"errCode": self.err_code}
        return {**code, **err_code, "message": self.message}


# --- the errors of the operations -----------------------------------------------------------------


def not_found(reason: str = "record not found") -> ObshellError:
    """Return the error of a dag, node or sub task that does not exist."""
    return ObshellError(404, "Task.NotFound", f"Task not found: {reason}")


def not_holding(*, task: bool) -> ObshellError:
    """Return the error of an object in OceanBase on an agent that does not hold it."""
    outer = "Task not found: " if task else ""
    return ObshellError(500, "Agent.OceanBase.NotHold", f"{outer}Agent is not holding OceanBase")


def unexpected(what: str) -> ObshellError:
    """Return an error of Go itself, or one without a kind."""
    return ObshellError(500, "Common.Unexpected", f"Unexpected error: {what}")


def panic() -> ObshellError:
    """Return the error after the server recovered from a panic."""
    return ObshellError(
        500, "Common.Unexpected", "Unexpected error: Internal Server Error", stage="panic"
    )


def unreachable(request: str, address: str) -> ObshellError:
    """Return Go's error of an unreachable agent (``request``: Get "http://…")."""
    reason = f"{request}: dial tcp {address}: connect: connection refused"
    return ObshellError(500, "Common.Unexpected", reason)


def wrong_identity(agent: str, identity: str, expected: str) -> ObshellError:
    """Return the error of an operation for another identity (recorded of agent/join)."""
    message = f"'{agent}' is '{identity}', instead of '{expected}', does not support this operation"
    return ObshellError(400, "Agent.Identify.NotSupportOperation", message)


def already_initialized() -> ObshellError:
    """Return the error of an initialized cluster (ob/agent/api/obcluster_handler.go)."""
    message = "Cluster has already been initialized"
    return ObshellError(400, "OB.Cluster.AlreadyInitialized", message)


def under_maintenance(name: str, agent: str) -> ObshellError:
    """Return the error of a locked agent (recorded in init.json, with null data).

    That agent/join, by its code, leaves the null out is not modelled (agent_handler.go).
    """
    message = f"Create task '{name}' failed: {agent} is under maintenance"
    return ObshellError(500, "Agent.UnderMaintenance", message, has_null=True)


def cluster_under_maintenance(name: str, held_by: str) -> ObshellError:
    """Return the error of a locked cluster (status_maintainer.go, never recorded)."""
    message = (
        f"Create task '{name}' failed: OceanBase cluster is under maintenance "
        f"by DAG: {held_by}, please try again later"
    )
    return ObshellError(500, "OB.Cluster.UnderMaintenanceWithDag", message, has_null=True)


def tenant_under_maintenance(name: str, tenant: str) -> ObshellError:
    """Return the error of a locked tenant (status_maintainer.go, never recorded)."""
    message = (
        f"Create task '{name}' failed: Tenant '{tenant}' is under maintenance, "
        "please try again later."
    )
    return ObshellError(500, "OB.Tenant.UnderMaintenance", message, has_null=True)


def unknown_identity(identity: str) -> ObshellError:
    """Return the error of an identity that the operation does not know."""
    message = f"Agent identify is unknown: {identity}"
    return ObshellError(500, "Agent.Identify.Unknown", message)


def bind_failed(why: str) -> ObshellError:
    """Return the error of a body that is unreadable or lacks its operator."""
    return ObshellError(
        400,
        "Common.BindJsonFailed",
        f"Bind JSON failed: {why}",
        old_message=f"Illegal argument: {why}",
    )


def illegal_argument(why: str) -> ObshellError:
    """Return the error of an unreadable parameter, where its quirk is switched off."""
    return ObshellError(400, "Common.IllegalArgument", f"Illegal argument: {why}")


def not_supported(kind: Literal["Dag", "Node"], operator: str) -> ObshellError:
    """Return the error of an operator that this route does not know."""
    return ObshellError(
        400,
        f"Task.{kind}.Operator.NotSupport",
        f"Operator {operator} is not supported",
        old_message=f"invalid operator: {operator}",
    )


def not_started(
    error: WrongIdentity | UnderMaintenance, template: Template, *, address: str
) -> ObshellError:
    """Return the error of a dag that could not be started by the agent at an address."""
    if isinstance(error, WrongIdentity):
        if error.identity == "CLUSTER AGENT" and "MASTER" in error.expected:
            return already_initialized()
        return wrong_identity(address, error.identity, " or ".join(error.expected))
    name, lock = template.name, template.model.maintenance
    if template.model.scope == "agent":
        return under_maintenance(name, address)
    if isinstance(lock, TenantLock) and error.tenant is not None:
        return tenant_under_maintenance(name, lock.tenant)
    return cluster_under_maintenance(name, error.dag)


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
    """Return the machine's error, for a dag whose nodes have these numbers and names."""
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


# --- from any exception to an error response ------------------------------------------------------

_REFUSALS: Final[Mapping[ErrorKind, tuple[str, str]]] = {
    "unknown path": ("Common.NotFound", "Element not found: 404 not found"),
    "wrong method": ("Common.NotFound", "Element not found: 404 not found"),
    # The rest are the mock's: the real server has no such limit, and keeps its own contract.
    "body too large": ("Request.Body.TooLarge", "The request body is too large."),
    "broken response": ("Common.Unexpected", "Unexpected error: the answer breaks the contract"),
}


def error_parts(error: Exception) -> ErrorParts:
    """Return the parts of any exception, in the format of 4.3.1 and later."""
    match error:
        case ObshellError():
            return error.parts
        case SecurityError():
            return _parts_of_security_error(error)
        case InvalidGenericId():
            old_message = f"Illegal argument: {error.old_message}"
            return ErrorParts(400, "Task.GenericID.Invalid", str(error), None, old_message)
        case NoSuchTask():
            return not_found().parts
        case ApiError():
            return _parts_of_api_error(error)
        case _:
            return unexpected(f"{type(error).__name__}: {error}").parts


def _parts_of_api_error(refusal: ApiError) -> ErrorParts:
    if refusal.kind == "fault":
        return _injected(refusal.status)
    err_code, message = _REFUSALS.get(refusal.kind, ("Common.IllegalArgument", refusal.detail))
    # gin returns 404 for a wrong method too.
    status = 404 if refusal.kind == "wrong method" else refusal.status_code
    return ErrorParts(status, err_code, message, None, message)


def _injected(status: int) -> ErrorParts:
    """Return the error of an injected fault, with obshell's text where it has one."""
    match status:
        case 401:
            message = "Unauthorized: OceanBase password is incorrect"
            err_code = "Security.Authentication.IncorrectOceanbasePassword"
            return ErrorParts(401, err_code, message, 10008, message)
        case 404:
            return not_found().parts
        case _:
            phrase = PHRASES.get(status, f"status {status}")
            message = f"Unexpected error: {phrase}"
            return ErrorParts(status, "Common.Unexpected", message, None, message)


def _parts_of_security_error(refusal: SecurityError) -> ErrorParts:
    stages: Mapping[str, Stage] = {"header": "decryption", "body": "decryption", "panic": "panic"}
    return ErrorParts(
        refusal.status,
        refusal.err_code,
        refusal.message,
        refusal.code,
        refusal.message,
        stages.get(refusal.stage, "handler"),
    )


def without_quirks(
    parts: ErrorParts, error: Exception, has_quirk: Callable[[QuirkName], bool]
) -> ErrorParts:
    """Return the error as it is without the quirks that are switched off."""
    if isinstance(error, SecurityError):
        is_missing = parts.err_code == "Request.Header.NotFound"
        if is_missing and not has_quirk("missing-header-is-400"):
            return replace(parts, status=401, code=AUTH_FAILED)
        is_body = error.stage in ("body", "panic")
        if is_body and not has_quirk("undecryptable-body-is-500"):
            return replace(parts, status=401, code=1, stage="decryption")
    if parts.stage == "panic" and not has_quirk("panic-is-dated-at-start"):
        return replace(parts, stage="handler")
    return parts


# --- redirects ------------------------------------------------------------------------------------

HTML: Final = b"text/html; charset=utf-8"


class Redirect(CallerError):
    """A path with a slash too much; gin redirects it before anything else."""


def redirected_routes(spec: Spec) -> dict[str, re.Pattern[str]]:
    """Return by method the paths that redirect with a trailing slash; also those without an id."""
    paths: dict[str, set[str]] = {"GET": set(), "POST": set()}
    for operation in operations_of(spec):
        path = operation.path.removesuffix("/{id}")
        paths[operation.method] |= {path, operation.path.replace("{id}", "[^/]+")}
    return {method: re.compile("|".join(sorted(of_method))) for method, of_method in paths.items()}


def redirect(method: str, target: str) -> Response:
    """Return 301 for a GET, else 307 (gin's RedirectTrailingSlash; recorded in lone.json)."""
    path, question, query = target.partition("?")
    location = path.rstrip("/") + question + query
    headers = ((b"location", location.encode("latin-1")),)
    if method != "GET":
        return Response(307, b"", headers, media_type=None)
    link = html.escape(location).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    page = f'<a href="{link}">Moved Permanently</a>.\n\n'
    return Response(301, page.encode("latin-1"), headers, media_type=HTML)


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
"""By prefix of the errCode, status and number. Only those of tasks are read in the code."""
_OLD_UNEXPECTED: Final = 1002
_OLD_NOT_FOUND: Final = 1000


def in_old_format(parts: ErrorParts) -> ErrorParts:
    """Return the error in the format before 4.3.1: a number, and no errCode."""
    err_code = parts.err_code or ""
    for prefix, (status, code) in _OLD_FAMILIES:
        if err_code.startswith(prefix):
            is_known = (status, code) == _KNOWN_ERROR
            message = f"Known error: {parts.old_message}" if is_known else parts.old_message
            return replace(parts, status=status, code=code, err_code=None, message=message)
    if parts.old_message.startswith("Task not found: "):
        return replace(parts, status=404, code=_NOT_FOUND[1], err_code=None)
    code = _OLD_NOT_FOUND if parts.status == 404 else _OLD_UNEXPECTED
    if parts.old_message.startswith("Known error: "):
        code = _KNOWN_ERROR[1]
    return replace(parts, code=code, err_code=None, message=parts.old_message)
