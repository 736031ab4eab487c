"""Check the error of a refusal: its message, and a code that fits the status and the request.

obshell's codes are words, and public (ob/agent/errors/errorcode.go). OCP's are numbers, of which
only those of ocp-express are public; each of these must have its documented meaning. Unknown codes
pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from oceanmock.checks import CheckResult, Subject, check, whole
from oceanmock.conformance.checks.envelope import is_of_the_api

# --- any ------------------------------------------------------------------------------------------


def message(subject: Subject) -> Iterator[CheckResult]:
    """Check that an error has a message."""
    if subject.error:
        actual = subject.error.get("message")
        passed = isinstance(actual, str) and bool(actual.strip())
        yield check("error.message", passed, "$.error.message", "the error has no message.")


# --- OCP ------------------------------------------------------------------------------------------

OCP_CODES: Final[Mapping[int, tuple[int, str]]] = {
    20000: (404, "an unknown task or subtask"),
    20003: (400, "an operation that the state does not allow"),
    20004: (400, "a rollback that is prohibited"),
    30014: (403, "a permission that is missing"),
}
"""ocp-express' codes with their status and meaning (ErrorCodes.java)."""


def ocp_code(subject: Subject) -> Iterator[CheckResult]:
    """Check that a code of ocp-express has its documented meaning."""
    code = whole(subject.error.get("code"))
    if subject.operation is None or code is None:
        return
    if code in OCP_CODES:
        status, means = OCP_CODES[code]
        wrong = f"code {code} is that of {means}, which is answered {status}, not {subject.status}."
        yield check("error.code", status == subject.status, "$.error.code", wrong)
    if code == 20004:
        wrong = "code 20004 is that of a prohibited rollback, and no rollback was asked for."
        yield check("error.code", subject.id == "rollbackTask", "$.error.code", wrong)


# --- obshell --------------------------------------------------------------------------------------

DECRYPT_FAILED: Final = "Security.Authentication.Header.DecryptFailed"
STATUS_BY_CODE: Final[Mapping[str, tuple[int, ...]]] = {
    "Task.NotFound": (404,),
    "Common.NotFound": (404,),
    "Task.GenericID.Invalid": (400,),
    "Task.Dag.Operator.": (400,),
    "Task.Node.Operator.": (400,),
    "Common.BindJsonFailed": (400,),
    "Common.IllegalArgument": (400,),
    "Request.Header.NotFound": (400, 401),
    "Security.Authentication.": (401,),
    "Common.Unauthorized": (401,),
    "Common.Unexpected": (500,),
    "Agent.OceanBase.NotHold": (500,),
    "Gorm.NoRowAffected": (500,),
}
"""The statuses of an errCode, or of a prefix of errCodes (errorcode.go:23-30,75,346-405)."""

OF_THE_REQUEST: Final = ("Task.", "Common.", "Request.", "Security.")
"""Prefixes of errCodes about the request. Others concern an agent, a cluster or a database, and may
differ between servers."""
READ_REFUSALS: Final = (
    "Task.GenericID.Invalid",
    "Common.IllegalArgument",
    "Request.Header.NotFound",
)
BODY_REFUSALS: Final = (
    "Task.GenericID.Invalid",
    "Common.BindJsonFailed",
    "Request.Header.NotFound",
)
WORDS_BY_OPERATOR: Final[Mapping[str, tuple[str, ...]]] = {
    "RETRY": ("RetryNotFailedDag", "RetryNotAllowed"),
    "ROLLBACK": ("RollbackNotFailedDag", "RollbackNotAllowed"),
    "CANCEL": ("CancelFinishedDag", "CancelNotAllowed"),
    "PASS": ("PassNotFailedDag", "PassNotAllowed"),
}
NODE_WORDS: Final = ("PassNotFailedDag", "PassNotFailedNode", "PassNotAllowed")


def obshell_code(subject: Subject) -> Iterator[CheckResult]:
    """Check that an errCode fits the status and, in a refusal, the operator."""
    code = subject.error.get("errCode")
    if not is_of_the_api(subject) or not isinstance(code, str):
        return
    path = "$.error.errCode"
    statuses = next(
        (s for existing, s in STATUS_BY_CODE.items() if code.startswith(existing)), None
    )
    if statuses is not None:
        wrong = f"{code} is answered {subject.status}; it goes with {statuses[0]}."
        yield check("error.code", subject.status in statuses, path, wrong)
    is_of_the_request = code.startswith(OF_THE_REQUEST) and subject.operation is not None
    if subject.status == 400 and is_of_the_request:
        allowed = _refusals(subject)
        wrong = f"{subject.id} is refused with {code}; here it can be {', '.join(allowed)}."
        yield check("error.code", code in allowed, path, wrong)
    if subject.status == 404 and is_of_the_request:
        wrong = f"what is not found is answered {code}, not Task.NotFound."
        yield check("error.code", code in ("Task.NotFound", "Common.NotFound"), path, wrong)
    if subject.status == 401:
        yield from _number(subject, code)


def _number(subject: Subject, code: str) -> Iterator[CheckResult]:
    """Check that the code is 1 for an undecryptable header, else 10008; SDKs depend on it."""
    actual = whole(subject.error.get("code"))
    right: tuple[int, ...] = (1,) if code == DECRYPT_FAILED else (10008,)
    if code.startswith("Request."):  # only without the quirk missing-header-is-400
        right = (1, 10008)
    if actual is not None:
        wrong = f"code is {actual}; with {code} it is {right[0]}."
        yield check("error.code", actual in right, "$.error.code", wrong)


def _refusals(subject: Subject) -> tuple[str, ...]:
    """Return the errCodes that a 400 of this request may have."""
    if subject.id not in ("dagHandler", "nodeHandler"):
        return READ_REFUSALS
    kind = "Dag" if subject.id == "dagHandler" else "Node"
    requested = subject.request_json.get("operator")
    operator = requested.upper() if isinstance(requested, str) else ""
    words: tuple[str, ...]
    if kind == "Node":
        words = NODE_WORDS if operator == "PASS" else ("NotSupport",)
    else:
        words = WORDS_BY_OPERATOR.get(operator, ("NotSupport",))
    return (*(f"Task.{kind}.Operator.{word}" for word in words), *BODY_REFUSALS)


OCP: Final = (message, ocp_code)
OBSHELL: Final = (message, obshell_code)
