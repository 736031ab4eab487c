"""obshell's errors: status, errCode and text of each, also in the format before 4.3.1.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent/errors/errorcode.go and ob/agent/assets/i18n/error/en.json;
recorded in tests/data/obshell. Before 4.3.1 an error had a number and no errCode, and an operator that the state does
not allow was refused with 500; those numbers and texts come from agent/errors/errorcode.go at 424f28a and
agent/service/task/dag.go at 0166004, and were never recorded. Messages are Chinese for `Accept-Language: zh`.
"""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal

from oceanmock.api import ApiError, Response
from oceanmock.errors import CallerError, NoSuchTask
from oceanmock.obshell.api import API, InvalidGenericId, Version, authority, spec_of
from oceanmock.openapi import operations_of

if TYPE_CHECKING:
    from oceanmock.obshell.agent import Agent
    from oceanmock.obshell.api import QuirkName

AUTH_FAILED: Final = 10008
PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

Stage = Literal["handler", "recovery", "header", "body", "panic"]
"""A handler or the recovery from its panic; the decryption of header or body, or the recovery from its panic."""
PANICS: Final = frozenset[Stage](("recovery", "panic"))
DECRYPTION: Final = frozenset[Stage](("header", "body", "panic"))
"""The stages before the server sets a trace id and a content type."""


@dataclass(eq=False)
class ObshellError(CallerError):
    """An error response."""

    status: int
    err_code: str | None
    message: str
    code: int | None = None
    old_message: str = ""  # before 4.3.1, if that differs
    stage: Stage = "handler"  # the part of the server that responds
    null: Literal["", "null", "contents"] = ""  # its data: none, null, or null contents

    def __str__(self) -> str:
        return self.message

    @property
    def breaks_contract(self) -> bool:
        return self.err_code in ("Common.BindJsonFailed", "Common.IllegalArgument")


TEXTS: Final[Mapping[str, tuple[int, str]]] = {
    "Task.NotFound": (404, "Task not found: {why}"),
    "Task.GenericID.Invalid": (400, "{why}"),
    "Agent.OceanBase.NotHold": (500, "{outer}Agent is not holding OceanBase"),
    "Common.Unexpected": (500, "Unexpected error: {why}"),
    "Common.BindJsonFailed": (400, "Bind JSON failed: {why}"),
    # An unreadable parameter, where its quirk is switched off.
    "Common.IllegalArgument": (400, "Illegal argument: {why}"),
    # Recorded of agent/join.
    "Agent.Identify.NotSupportOperation": (
        400,
        "'{agent}' is '{identity}', instead of '{expected}', does not support this operation",
    ),
    # A login without a header (ob/agent/executor/session/login.go).
    "Request.AESKey.NotFound": (400, "AES key for encrypting session ID not found in HTTP headers"),
    "Request.Forward.MasterAgent.NotFound": (500, "Master agent not found when auto-forwarding request to master"),
    "Agent.Identify.Unknown": (500, "Agent identify is unknown: {identity}"),
    # Refused submits (ob/agent/api, assets/i18n/error/en.json); the first three were recorded.
    "OB.Cluster.Scope.Invalid": (400, "Scope '{scope}' is invalid"),
    "OB.Cluster.Id.Invalid": (400, "Cluster ID is invalid"),
    "OB.Cluster.NotInitialized": (400, "Cluster has not been initialized, please initialize it first"),
    "OB.Cluster.Name.Empty": (400, "Cluster name is empty"),
    "OB.Cluster.ForceStopOrTerminateRequired": (400, "Cannot stop all observers without 'force' and 'terminate'"),
    "OB.Cluster.StopModeConflict": (400, "Cannot stop observer with 'force' and 'terminate' at the same time"),
    "OB.Cluster.AlreadyInitialized": (400, "Cluster has already been initialized"),
    "OB.Server.DeleteSelf": (400, "Cannot delete the current server"),
    "OB.Tenant.Name.Empty": (400, "Tenant name is empty"),
    "OB.Tenant.SysOperationNotAllowed": (400, "System tenant is not allowed to perform this operation"),
    "OB.Tenant.ZoneList.Empty": (400, "Zone list is empty."),
    # Recorded in init.json.
    "Agent.UnderMaintenance": (500, "{outer}{agent} is under maintenance"),
    # The next three are status_maintainer.go's, and were never recorded.
    "OB.Cluster.UnderMaintenanceWithDag": (
        500,
        "{outer}OceanBase cluster is under maintenance by DAG: {dag}, please try again later",
    ),
    "OB.Tenant.UnderMaintenance": (500, "{outer}Tenant '{tenant}' is under maintenance, please try again later."),
    "Task.Expired": (
        500,
        "{tenant} has already executed task {last}. '{id}: {name}' cannot be executed. Please submit a new request",
    ),
    "Task.Dag.Operator.NotSupport": (400, "Operator {operator} is not supported"),
    "Task.Node.Operator.NotSupport": (400, "Operator {operator} is not supported"),
    # Operators that a state or a flag does not allow (en.json:300-322).
    "Task.Dag.Operator.RollbackNotFailedDag": (400, "Failed to set DAG rollback: DAG state is not failed"),
    "Task.Dag.Operator.RollbackNotAllowed": (400, "Failed to set DAG rollback: node {node} cannot rollback"),
    "Task.Dag.Operator.RetryNotFailedDag": (400, "Failed to set DAG retry: DAG state is not failed"),
    "Task.Dag.Operator.RetryNotAllowed": (400, "Failed to set DAG retry: node {node} cannot retry"),
    "Task.Dag.Operator.CancelFinishedDag": (400, "Failed to cancel DAG: DAG is finished"),
    "Task.Dag.Operator.CancelNotAllowed": (400, "Failed to cancel DAG: node {node} cannot cancel"),
    "Task.Dag.Operator.PassNotFailedDag": (400, "Failed to pass DAG: DAG is not failed"),
    "Task.Dag.Operator.PassNotAllowed": (400, "Failed to pass DAG: node {node} cannot pass"),
    "Task.Node.Operator.PassNotFailedDag": (400, "Failed to pass node: assigned DAG is not failed"),
    "Task.Node.Operator.PassNotFailedNode": (400, "Failed to pass node: node {node} is not failed"),
    "Task.Node.Operator.PassNotAllowed": (400, "Failed to pass node: node {node} cannot pass"),
}
"""By errCode: the status and the text."""
OLD_TEXTS: Final[Mapping[str, str]] = {
    "Task.GenericID.Invalid": "Illegal argument: {old}",
    "Common.BindJsonFailed": "Illegal argument: {why}",
    "Task.Dag.Operator.NotSupport": "invalid operator: {operator}",
    "Task.Node.Operator.NotSupport": "invalid operator: {operator}",
    "Task.Dag.Operator.RollbackNotFailedDag": "failed to set dag rollback: dag state is not failed",
    "Task.Dag.Operator.RollbackNotAllowed": "failed to set dag rollback: node {number}. {node} can not rollback",
    "Task.Dag.Operator.RetryNotFailedDag": "failed to set dag retry: dag state is not failed",
    "Task.Dag.Operator.RetryNotAllowed": "failed to set dag retry: {node} can not retry",
    "Task.Dag.Operator.CancelFinishedDag": "failed to cancel dag: dag is finished",
    "Task.Dag.Operator.CancelNotAllowed": "failed to cancel dag: {node} can not cancel",
    "Task.Dag.Operator.PassNotFailedDag": "failed to pass dag: dag is not failed",
    "Task.Dag.Operator.PassNotAllowed": "failed to pass dag: {node} can not pass",
}
"""The texts before 4.3.1 that differ."""


def error_of(err_code: str, **values: object) -> ObshellError:
    """Return an error of TEXTS; ``values`` fill in its placeholders."""
    status, text = TEXTS[err_code]
    old_message = OLD_TEXTS.get(err_code, text).format(**values)
    return ObshellError(status, err_code, text.format(**values), old_message=old_message)


def not_found(why: str = "record not found") -> ObshellError:
    return error_of("Task.NotFound", why=why)


def not_holding(*, is_task: bool = False) -> ObshellError:
    """Return the error of an agent without OceanBase; ``is_task``: a dag, node or sub task was requested."""
    outer = "Task not found: " if is_task else ""
    error = error_of("Agent.OceanBase.NotHold", outer=outer)
    return replace(error, old_message=f"{outer or 'Unexpected error: '}oceanbase db is nil")


def wrong_identity(agent: Agent, *expected: str) -> ObshellError:
    """Return the error of an agent that has none of the identities that a call requires."""
    values = {"agent": authority(agent), "identity": agent.identity, "expected": " or ".join(expected)}
    return error_of("Agent.Identify.NotSupportOperation", **values)


def panic(stage: Stage = "recovery") -> ObshellError:
    """Return the error after a panic of the server."""
    return replace(error_of("Common.Unexpected", why=PHRASES[500]), stage=stage)


def in_chinese(message: str) -> str:
    """Return a message in Chinese; parts without a translation stay."""
    for pattern, text in _translations():
        if match := pattern.fullmatch(message):
            *values, cause = match.groups()
            return text % tuple(values) + (f": {in_chinese(cause)}" if cause else "")
    outer, colon, cause = message.partition(": ")
    return f"{outer}: {in_chinese(cause)}" if colon else message


@cache
def _translations() -> list[tuple[re.Pattern[str], str]]:
    """Return a pattern for each English message and an optional cause after it, and the Chinese message."""
    pairs = API.spec["x-messages-zh"].items()
    # A value at the beginning is a name or an address, without blanks; else it is another message.
    patterns = (re.sub(r"^\(\.\*\)", "([^ ]*)", re.escape(text).replace("%s", "(.*)")) for text, _ in pairs)
    return [(re.compile(f"{it}(?:: (.*))?", re.DOTALL), text) for it, (_, text) in zip(patterns, pairs, strict=True)]


def response_error(error: Exception) -> ObshellError:
    """Return the error response of any exception, in the format of 4.3.1 and later."""
    match error:
        case ObshellError():
            result = error
        case InvalidGenericId():
            result = error_of("Task.GenericID.Invalid", why=str(error), old=error.old_message)
        case NoSuchTask() | ApiError(kind="fault", status=404):
            result = not_found()
        case ApiError(kind="fault", status=401):
            message = "Unauthorized: OceanBase password is incorrect"
            result = ObshellError(401, "Security.Authentication.IncorrectOceanbasePassword", message, AUTH_FAILED)
        case ApiError(kind="fault", status=status):
            phrase = PHRASES.get(status, f"status {status}")
            result = replace(error_of("Common.Unexpected", why=phrase), status=status)
        case ApiError(kind="unknown path" | "wrong method"):  # gin has one handler for both
            message, old = "Element not found: 404 not found", "Bad request: 404 not found"
            result = ObshellError(404, "Common.NotFound", message, old_message=old)
        # The next three are the mock's: the real server has no such limit, and keeps its contract.
        case ApiError(kind="body too large"):
            result = ObshellError(error.status_code, "Request.Body.TooLarge", "The request body is too large.")
        case ApiError(kind="unavailable"):
            result = ObshellError(error.status_code, "Common.Unexpected", f"Unexpected error: {error.detail}")
        case ApiError(kind="broken response"):
            message = "Unexpected error: the answer breaks the contract"
            result = ObshellError(error.status_code, "Common.Unexpected", message)
        case ApiError():
            result = ObshellError(error.status_code, "Common.IllegalArgument", error.detail)
        case _:
            result = error_of("Common.Unexpected", why=f"{type(error).__name__}: {error}")
    return result


def without_quirks(error: ObshellError, has_quirk: Callable[[QuirkName], bool]) -> ObshellError:
    """Return the error of a server without the quirks that are switched off."""
    if error.err_code == "Request.Header.NotFound" and not has_quirk("missing-header-is-400"):
        return replace(error, status=401, code=AUTH_FAILED)
    if error.stage in ("body", "panic") and not has_quirk("undecryptable-body-is-500"):
        return replace(error, status=401, code=1, stage="body")
    if error.stage in PANICS and not has_quirk("panic-is-dated-at-start"):
        return replace(error, stage="handler")
    return error


class Redirect(CallerError):
    """A path with an extra trailing slash, which gin redirects before anything else."""


@cache
def redirected_routes(version: Version) -> dict[str, re.Pattern[str]]:
    """Return by method a pattern of the paths with a trailing slash that redirect; an id at the end may be missing."""
    paths = defaultdict[str, set[str]](set)
    for operation in (*operations_of(spec_of(version)), *API.submits):
        path = operation.path.removesuffix("/{id}")
        paths[operation.method] |= {path, re.sub("{[^}]*}", "[^/]+", operation.path)}
    return {method: re.compile(f"(?:{'|'.join(sorted(of_method))})/") for method, of_method in paths.items()}


def redirect(method: str, target: str) -> Response:
    """Return status 301 for a GET, else 307 (gin's RedirectTrailingSlash; recorded in lone.json)."""
    path, question, query = target.partition("?")
    location = path.rstrip("/") + question + query
    headers = ((b"location", location.encode("latin-1")),)
    if method != "GET":
        return Response(307, b"", headers, media_type=None)
    link = html.escape(location).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    page = f'<a href="{link}">Moved Permanently</a>.\n\n'
    return Response(301, page.encode("latin-1"), headers, media_type=b"text/html; charset=utf-8")


_KNOWN_ERROR: Final = (500, 1010)
_OLD_FAMILIES: Final = {
    (400, 1001): ("Task.GenericID.", "Common.BindJsonFailed", "Common.IllegalArgument"),
    (404, 2300): ("Task.NotFound",),
    (400, 1000): ("Common.NotFound", "Agent.Identify."),
    _KNOWN_ERROR: ("Task.",),
    (401, 1): ("Security.Authentication.Header.DecryptFailed",),
    (401, 10008): ("Security.", "Request.Header.NotFound", "Request.Body.Decrypt."),
    (413, 1000): ("Request.Body.TooLarge",),
}
"""By the status and number of an error before 4.3.1, the prefixes of its errCode; the first match counts. Only those of
tasks are read in the code."""


def in_old_format(error: ObshellError) -> ObshellError:
    """Return the error in the format before 4.3.1: a number, and no errCode."""
    message = error.old_message or error.message
    families = (it for it, prefixes in _OLD_FAMILIES.items() if (error.err_code or "").startswith(prefixes))
    if (family := next(families, None)) is not None:
        status, code = family
        message = f"Known error: {message}" if family == _KNOWN_ERROR else message
    elif message.startswith("Task not found: "):
        status, code = 404, 2300
    elif message.startswith("Known error: "):
        status, code = error.status, _KNOWN_ERROR[1]
    else:
        status, code = error.status, 1000 if error.status == 404 else 1002  # an unexpected error
    return replace(error, status=status, code=code, err_code=None, message=message)
