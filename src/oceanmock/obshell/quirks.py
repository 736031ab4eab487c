"""Check for the contract's quirks: defects of a real obshell, each with a rule of its own.

The rule ``quirk.<name>`` (the ``x-quirk`` of openapi/obshell.yaml) is checked for each request that can cause the
quirk, and fails if the response has it; the general rules then do not apply. A quirk is identified by the request *and*
the words of the response, so that any other failure is still reported. foreign-obproxy-id-is-forwarded-too cannot occur
with the server's own ids, and unreachable-owner-is-500 is checked only if it occurs. The request that causes
unknown-dag-is-asked-for-without-end is sent only if an option asks for it; the client then checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from oceanmock.checks import CheckResult, Rule, Subject, check
from oceanmock.obshell.api import API, ERR_CODES_SINCE, contract_version
from oceanmock.obshell.gojson import BOOLEANS
from oceanmock.openapi import load_spec, spec_path

GO_FALSE: Final = frozenset(text for text, value in BOOLEANS.items() if not value)
LAST_DAGS: Final = ("getAllAgentsLastMaintenanceDag", "getAgentMainDags")
OPERATORS: Final = ("dagHandler", "nodeHandler")
NOT_HOLDING: Final = ("Agent.OceanBase.NotHold", "Agent is not holding OceanBase", "oceanbase db is nil")
"""The words of an agent without OceanBase; the last ones are older than 4.3.1 (repository/db/oceanbase/instance.go)."""

Predicate = Callable[[Subject], bool]


def _says(status: int, *words: str) -> Predicate:
    """Return a predicate for responses with a status, and all of some words in the error."""

    def occurs(subject: Subject) -> bool:
        text = f"{subject.error.get('errCode', '')} {subject.error.get('message', '')}"
        return subject.status == status and all(word in text for word in words)

    return occurs


has_panicked: Final = _says(500, "Unexpected error: Internal Server Error")
"""Whether the server has panicked; the timestamp is then its start."""


def _holds_nothing(subject: Subject) -> bool:
    """Return whether the agent has no OceanBase, by errCode or by message."""
    return any(_says(500, words)(subject) for words in NOT_HOLDING)


def _is_authorized(subject: Subject) -> bool:
    return subject.status not in (401, 403) and subject.error.get("errCode") != "Request.Header.NotFound"


def _of(*operations: str) -> Predicate:
    return lambda subject: subject.id in operations and _is_authorized(subject)


def operator_of(subject: Subject) -> str:
    """Return the operator that a request asks for, in upper case; the server accepts any case."""
    operator = subject.request_json.get("operator")
    return operator.upper() if isinstance(operator, str) else ""


def _asks(operation: str, operator: str) -> Predicate:
    return lambda subject: subject.id == operation and operator_of(subject) == operator


def _show_details(subject: Subject) -> str | None:
    return next((text for name, text in subject.query if name == "show_details"), None)


def _is_without_details(subject: Subject) -> bool:
    return _of("getNodeDetail")(subject) and _show_details(subject) in GO_FALSE


def _has_unreadable_details(subject: Subject) -> bool:
    operation, ignoring = subject.operation, ("getSubTaskDetail", "getFullSubTaskLogs", *OPERATORS)
    is_read = operation is not None and operation.method == "GET" and subject.id not in ignoring
    is_odd = _show_details(subject) not in (None, *BOOLEANS)
    return is_read and is_odd and "/task/" in subject.path and _is_authorized(subject)


def _ignores_details(subject: Subject) -> bool:
    """Return whether the server panicked, or returned an empty list, for which it does not read show_details."""
    is_list = subject.status == 200 and isinstance(subject.data, dict) and "contents" in subject.data
    return has_panicked(subject) or (is_list and not subject.data["contents"])


def _may_panic(subject: Subject) -> bool:
    return _of(*LAST_DAGS)(subject) or _has_unreadable_details(subject) or _is_without_details(subject)


def _has_foreign_body_id(subject: Subject) -> bool:
    id = subject.request_json.get("id")
    return subject.id == "dagHandler" and isinstance(id, str) and id not in ("", *subject.path_ids)


def _has_no_object(subject: Subject) -> bool:
    body = subject.exchange.request_body
    is_none = bool(body) and not subject.request_json and body.strip() not in (b"{}", b"null")
    return is_none and _of(*OPERATORS)(subject)


def _is_undecrypted(subject: Subject) -> bool:
    is_junk = subject.id in OPERATORS and subject.exchange.expects_refusal
    is_panic = is_junk and not _may_panic(subject) and has_panicked(subject)
    return _says(500, "Request.Body.Decrypt")(subject) or is_panic


_RULES: Final = {
    "refusal-is-never-sent": "An agent that is no CLUSTER AGENT refuses the lists of the cluster, but not with 500.",
    "never-maintained-is-500": "An agent that never had a maintenance dag does not respond with 500.",
    "foreign-obproxy-id-is-forwarded-too": "A request that is refused is not forwarded as well.",
    "unknown-dag-is-asked-for-without-end": "Agents do not endlessly forward a request for an unknown dag.",
    "cancelled-rollback-is-stuck": "A cancelled rollback can be rolled back again.",
    "body-id-overrules-path": "The id in the path counts, not one in the body.",
    "lost-race-is-500": "An operator that comes too late is refused, but not with 500.",
    "node-without-details-is-500": "A node can be read without details.",
    "forwarded-pass-loses-its-body": "The PASS of a node keeps its body when it is forwarded to the node's agent.",
    "logs-of-nothing-are-empty": "The log of an unknown sub task is refused with 404, like all unknown objects.",
    "status-has-no-trace-id": "The response with the status has a traceId, like every other response.",
    "missing-header-is-400": "A request without a security header is refused with 401, like one with a wrong header.",
    "unheld-cluster-id-is-500": "An id of the cluster is not found on an agent that has no OceanBase.",
    "unreachable-owner-is-500": "If the agent of an id cannot be reached, the error is one of obshell's own.",
    "unreadable-show-details-is-500": "An unreadable show_details is refused with 400.",
    "body-that-is-no-object-is-eof": "The error of an invalid body names the mistake.",
    "node-body-says-dag-operator": "The error of a node's operator does not call it a dag's operator.",
    "no-oceanbase-is-500": "An agent without OceanBase does not respond with 500.",
    "undecryptable-body-is-500": "A body that cannot be decrypted is refused with 401, not with 500.",
    "panic-is-dated-at-start": "The timestamp of a response is its own time, after a panic too.",
}
"""By quirk, in the order of openapi/obshell.yaml, the text of its rule."""
QUIRKS: Final[Mapping[str, tuple[Predicate, Predicate]]] = {
    "refusal-is-never-sent": (
        _of("getAllClusterDags", "getClusterUnfinishDags"),
        _says(500, "cannot build response body"),
    ),
    "never-maintained-is-500": (
        lambda subject: _of(*LAST_DAGS)(subject) and not _has_unreadable_details(subject),
        has_panicked,
    ),
    "cancelled-rollback-is-stuck": (_asks("dagHandler", "ROLLBACK"), _says(500, "no node failed")),
    "body-id-overrules-path": (_has_foreign_body_id, _says(404, "dag id not match")),
    "lost-race-is-500": (_of(*OPERATORS), _says(500, "Gorm.NoRowAffected")),
    "node-without-details-is-500": (_is_without_details, has_panicked),
    "forwarded-pass-loses-its-body": (_asks("nodeHandler", "PASS"), _says(400, "Common.BindJsonFailed", "required")),
    "logs-of-nothing-are-empty": (
        lambda s: s.id == "getFullSubTaskLogs" and s.exchange.expects_refusal and s.status in (200, 404),
        lambda s: s.status == 200 and isinstance(s.data, dict) and not s.data.get("contents"),
    ),
    "status-has-no-trace-id": (
        lambda subject: subject.id == "getStatus" and subject.status == 200,
        lambda subject: isinstance(subject.body, dict) and subject.body.get("traceId") == "",
    ),
    "missing-header-is-400": (
        lambda s: bool(s.id) and not s.contract.is_open(s.id) and s.exchange.credentials == "none",
        _says(400, "Request.Header.NotFound"),
    ),
    "unheld-cluster-id-is-500": (
        lambda s: _is_authorized(s) and any(id.startswith("1") for id in s.path_ids),
        _holds_nothing,
    ),
    "unreachable-owner-is-500": (_says(500, "dial tcp"), _says(500, "dial tcp")),
    "unreadable-show-details-is-500": (_has_unreadable_details, _ignores_details),
    "body-that-is-no-object-is-eof": (_has_no_object, _says(400, "Bind JSON failed: EOF")),
    "node-body-says-dag-operator": (
        lambda subject: _of("nodeHandler")(subject) and not operator_of(subject),
        _says(400, "DagOperator.Operator"),
    ),
    "no-oceanbase-is-500": (_of("getObLastMaintenanceDag"), _holds_nothing),
    "undecryptable-body-is-500": (_is_undecrypted, _is_undecrypted),
    "panic-is-dated-at-start": (
        _may_panic,
        lambda subject: has_panicked(subject) and subject.body.get("traceId") == "",
    ),
}
"""By quirk, the requests that can cause it and the responses that have it; without the two that nothing here checks."""


def _sources_in(node: Any) -> Iterator[tuple[str, str]]:
    """Yield the names and the sources of the quirks in a part of the contract."""
    if isinstance(node, dict):
        yield from ((quirk["name"], quirk["source"]) for quirk in node.get("x-quirk", ()))
        node = [*node.values()]
    if isinstance(node, list):
        for item in node:
            yield from _sources_in(item)


_CONTRACT: Final = load_spec(spec_path(API.name), without_submits=True)  # the part that a run reads
_SOURCES: Final = dict(reversed([*_sources_in(_CONTRACT)]))  # the first source of each
QUIRK_RULES: Final[Mapping[str, Rule]] = {
    f"quirk.{name}": Rule(f"quirk.{name}", says, _SOURCES[name]) for name, says in _RULES.items()
}


def quirks(subject: Subject) -> Iterator[CheckResult]:
    """Check every quirk that a request can cause."""
    for name, (may_occur, occurs) in QUIRKS.items():
        if may_occur(subject):
            yield check(f"quirk.{name}", not occurs(subject), "$", f"{_RULES[name]} This is the quirk {name}.")


def is_explained(subject: Subject) -> bool:
    """Return whether the general rules do not apply to a response.

    They do not if it has a quirk, refuses an operator because another dag has the lock, or refuses one in the format
    before errCodes (agent/errors/errorcode.go at 424f28a).
    """
    code = str(subject.error.get("errCode", ""))
    is_old = contract_version(subject.contract.version) < ERR_CODES_SINCE
    is_old_refusal = subject.status == 500 and subject.error.get("code") == 1010
    return (
        any(may_occur(subject) and occurs(subject) for may_occur, occurs in QUIRKS.values())
        or (subject.status >= 500 and ("UnderMaintenance" in code or "Task.Expired" in code))
        or (subject.id == "dagHandler" and is_old and is_old_refusal)
    )
