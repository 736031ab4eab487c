"""Check for the contract's quirks: defects of a real obshell, each with a rule of its own.

openapi/obshell.yaml gives each a stable name (``x-quirk``); its rule is ``quirk.<name>``. The rule
is checked for each request that can cause the quirk, and fails if the response has it; so a server
without the defect passes, and its baseline entry becomes stale. The general rules exclude quirks.
A quirk is identified by the request *and* the words of the response, so that any other failure is
still reported.

A client that uses only the server's own ids cannot cause foreign-obproxy-id-is-forwarded-too, which
is never checked, nor unreachable-owner-is-500, which is checked only where it occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from oceanmock.checks import CheckResult, Subject, check
from oceanmock.obshell.versions import ERR_CODES_SINCE, contract_version

KNOWN_ERROR: Final = (500, 1010)
"""Status and code of a refused operator before errCodes (agent/errors/errorcode.go at 424f28a)."""
GO_FALSE: Final = frozenset({"", "0", "f", "F", "false", "False", "FALSE"})
GO_BOOLEANS: Final = GO_FALSE | {"1", "t", "T", "true", "True", "TRUE"}
OF_NODES: Final = frozenset({"getNodeDetail"})
CLUSTER_LISTS: Final = frozenset({"getAllClusterDags", "getClusterUnfinishDags"})
LAST_DAGS: Final = frozenset({"getAllAgentsLastMaintenanceDag", "getAgentMainDags"})
OPERATORS: Final = frozenset({"dagHandler", "nodeHandler"})
WITHOUT_DETAILS: Final = frozenset({"getSubTaskDetail", "getFullSubTaskLogs", *OPERATORS})


@dataclass(frozen=True, slots=True)
class Quirk:
    """A quirk: its rule's sentence and source, and predicates for its requests and responses."""

    name: str
    says: str
    source: str
    asked: Callable[[Subject], bool]
    shown: Callable[[Subject], bool]

    @property
    def rule(self) -> str:
        """Return the id of its rule."""
        return f"quirk.{self.name}"


# --- responses ------------------------------------------------------------------------------------


def _says(status: int, *words: str) -> Callable[[Subject], bool]:
    """Return a predicate for responses with this status, and an error with all these words."""

    def shown(subject: Subject) -> bool:
        text = f"{subject.error.get('errCode', '')} {subject.error.get('message', '')}"
        return subject.status == status and all(word in text for word in words)

    return shown


PANIC: Final = "Unexpected error: Internal Server Error"
_panicked: Final = _says(500, PANIC)


def _holds_nothing(subject: Subject) -> bool:
    """Return whether the agent has no OceanBase, by errCode or, in old versions, by message."""
    actual = ("Agent.OceanBase.NotHold", "Agent is not holding OceanBase")
    return any(_says(500, item)(subject) for item in actual)


def has_panicked(subject: Subject) -> bool:
    """Return whether the server recovered from a panic, so that its timestamp is its start."""
    return _panicked(subject)


# --- requests -------------------------------------------------------------------------------------


def _is_let_in(subject: Subject) -> bool:
    return (
        subject.status not in (401, 403)
        and subject.error.get("errCode") != "Request.Header.NotFound"
    )


def _of(operations: frozenset[str]) -> Callable[[Subject], bool]:
    return lambda subject: subject.id in operations and _is_let_in(subject)


def _without_details(subject: Subject) -> bool:
    return _of(OF_NODES)(subject) and _show_details(subject) in GO_FALSE


def _with_odd_details(subject: Subject) -> bool:
    has_them = subject.operation is not None and subject.operation.method == "GET"
    is_of_dags = has_them and "/task/" in subject.path and subject.id not in WITHOUT_DETAILS
    return is_of_dags and _is_let_in(subject) and _show_details(subject) not in (None, *GO_BOOLEANS)


def _show_details(subject: Subject) -> str | None:
    return next((text for name, text in subject.query if name == "show_details"), None)


def _with_cluster_id(subject: Subject) -> bool:
    return _is_let_in(subject) and any(id.startswith("1") for id in subject.path_ids)


def _without_header(subject: Subject) -> bool:
    return (
        bool(subject.id)
        and not subject.contract.is_open(subject.id)
        and not subject.has_credentials
    )


def _operator(subject: Subject) -> str:
    actual = subject.request_json.get("operator")
    return actual.upper() if isinstance(actual, str) else ""


def _rolls_back(subject: Subject) -> bool:
    return subject.id == "dagHandler" and _operator(subject) == "ROLLBACK"


def _with_foreign_body_id(subject: Subject) -> bool:
    actual = subject.request_json.get("id")
    return (
        subject.id == "dagHandler"
        and isinstance(actual, str)
        and actual not in ("", *subject.path_ids)
    )


def _passes_node(subject: Subject) -> bool:
    return subject.id == "nodeHandler" and _operator(subject) == "PASS"


def _without_operator(subject: Subject) -> bool:
    return subject.id == "nodeHandler" and _is_let_in(subject) and not _operator(subject)


def _with_a_body_that_is_none(subject: Subject) -> bool:
    body = subject.exchange.request_body
    is_none = bool(body) and not subject.request_json and body.strip() not in (b"{}", b"null")
    return subject.id in OPERATORS and _is_let_in(subject) and is_none


def _may_fail(subject: Subject) -> bool:
    return _with_odd_details(subject) or _without_details(subject) or _of(LAST_DAGS)(subject)


def _needs_ocean_base(subject: Subject) -> bool:
    return subject.id == "getObLastMaintenanceDag" and _is_let_in(subject)


def _asks_for_an_empty_log(subject: Subject) -> bool:
    return (
        subject.id == "getFullSubTaskLogs"
        and subject.exchange.expects_refusal
        and subject.status in (200, 404)
    )


def _is_empty_log(subject: Subject) -> bool:
    return (
        subject.status == 200
        and isinstance(subject.data, dict)
        and not subject.data.get("contents")
    )


def _undecrypted(subject: Subject) -> bool:
    is_junk = (
        subject.id in OPERATORS and subject.exchange.expects_refusal and not _may_fail(subject)
    )
    return _says(500, "Request.Body.Decrypt")(subject) or (is_junk and _panicked(subject))


_DAG_GO: Final = "ob/agent/executor/task/dag.go"
_MIDDLEWARE: Final = "ob/agent/api/common/middleware.go"
_RECORDED: Final = "recorded from obshell 4.5.0.0: tests/data/obshell"

QUIRKS: Final = (
    Quirk(
        "refusal-is-never-sent",
        "An agent that is no CLUSTER AGENT refuses the lists of the cluster, and does not fail.",
        f"{_DAG_GO}:146-149, 523-526",
        _of(CLUSTER_LISTS),
        _says(500, "cannot build response body"),
    ),
    Quirk(
        "never-maintained-is-500",
        "An agent that never had a maintenance dag says so, and does not fail.",
        f"ob/agent/service/task/dag.go:155-161, {_DAG_GO}:441-443",
        lambda subject: _of(LAST_DAGS)(subject) and not _with_odd_details(subject),
        _panicked,
    ),
    Quirk(
        "foreign-obproxy-id-is-forwarded-too",
        "A request that is refused is not forwarded as well.",
        f"{_DAG_GO}:72-88",
        lambda subject: False,
        lambda subject: False,
    ),
    Quirk(
        "cancelled-rollback-is-stuck",
        "A rollback that was cancelled can be taken up again.",
        "ob/agent/service/task/dag.go:343-377",
        _rolls_back,
        _says(500, "no node failed"),
    ),
    Quirk(
        "body-id-overrules-path",
        "An id in the body is not taken for the one in the path.",
        f"{_RECORDED}/init.json",
        _with_foreign_body_id,
        _says(404, "dag id not match"),
    ),
    Quirk(
        "lost-race-is-500",
        "An operator that comes too late is refused, and is no failure of the server.",
        "ob/agent/service/task/dag.go:624-630",
        _of(OPERATORS),
        _says(500, "Gorm.NoRowAffected"),
    ),
    Quirk(
        "node-without-details-is-500",
        "A node can be asked for without details.",
        "ob/agent/executor/task/node.go:95-117",
        _without_details,
        _panicked,
    ),
    Quirk(
        "forwarded-pass-loses-its-body",
        "The PASS of a node keeps its operator on the way to the node's agent.",
        f"{_RECORDED}/pass-dag.json",
        _passes_node,
        _says(400, "Common.BindJsonFailed", "required"),
    ),
    Quirk(
        "logs-of-nothing-are-empty",
        "The log of a sub task that is not there is answered 404, as everything else.",
        f"{_RECORDED}/lone.json",
        _asks_for_an_empty_log,
        _is_empty_log,
    ),
    Quirk(
        "status-has-no-trace-id",
        "The status has a traceId, as every other answer.",
        f"{_MIDDLEWARE}:245-248",
        lambda subject: subject.id == "getStatus" and subject.status == 200,
        lambda subject: isinstance(subject.body, dict) and subject.body.get("traceId") == "",
    ),
    Quirk(
        "missing-header-is-400",
        "A request without a security header is answered 401, as one with a wrong one.",
        f"{_MIDDLEWARE}:724-814",
        _without_header,
        _says(400, "Request.Header.NotFound"),
    ),
    Quirk(
        "unheld-cluster-id-is-500",
        "An id of the cluster is not found on an agent that has no OceanBase.",
        f"{_DAG_GO}:102-119",
        _with_cluster_id,
        _holds_nothing,
    ),
    Quirk(
        "unreachable-owner-is-500",
        "What cannot be asked of its agent is answered with an error of obshell's own.",
        f"{_DAG_GO}:72-88",
        _says(500, "dial tcp"),
        _says(500, "dial tcp"),
    ),
    Quirk(
        "unreadable-show-details-is-500",
        "A show_details that cannot be read is refused.",
        "ob/agent/executor/task/enter.go:39-43",
        _with_odd_details,
        _panicked,
    ),
    Quirk(
        "body-that-is-no-object-is-eof",
        "What is wrong with a body is said.",
        f"{_RECORDED}/init.json",
        _with_a_body_that_is_none,
        _says(400, "Bind JSON failed: EOF"),
    ),
    Quirk(
        "node-body-says-dag-operator",
        "The operator of a node is not called that of a dag.",
        f"{_RECORDED}/init.json",
        _without_operator,
        _says(400, "DagOperator.Operator"),
    ),
    Quirk(
        "no-oceanbase-is-500",
        "An agent without OceanBase says so, and that is no failure of the server.",
        f"{_RECORDED}/lone.json",
        _needs_ocean_base,
        _holds_nothing,
    ),
    Quirk(
        "undecryptable-body-is-500",
        "A body that cannot be decrypted is refused, and is no failure of the server.",
        f"{_MIDDLEWARE}:439-498",
        _undecrypted,
        _undecrypted,
    ),
    Quirk(
        "panic-is-dated-at-start",
        "An answer is dated when it is made, after a panic too.",
        f"{_MIDDLEWARE}:72, 379-382",
        _may_fail,
        lambda subject: _panicked(subject) and subject.body.get("traceId") == "",
    ),
)
"""The quirks in the order of openapi/obshell.yaml."""


def quirks(subject: Subject) -> Iterator[CheckResult]:
    """Check every quirk that a request can cause."""
    if subject.contract.api != "obshell":
        return
    for item in QUIRKS:
        if item.asked(subject):
            wrong = f"{item.says} This is the quirk {item.name}."
            yield check(item.rule, not item.shown(subject), "$", wrong)


def quirk_of(subject: Subject) -> Quirk | None:
    """Return the quirk that a response has, or None."""
    if subject.contract.api != "obshell":
        return None
    return next((item for item in QUIRKS if item.asked(subject) and item.shown(subject)), None)


def is_explained(subject: Subject) -> bool:
    """Return whether a response is excluded from the general rules."""
    return quirk_of(subject) is not None or _is_old_refusal(subject)


def _is_old_refusal(subject: Subject) -> bool:
    """Return whether an older obshell refuses an operator, as its contract was then."""
    is_older = contract_version(subject.contract.version) < ERR_CODES_SINCE
    is_operator = subject.id == "dagHandler" and subject.contract.api == "obshell"
    return is_operator and is_older and (subject.status, subject.error.get("code")) == KNOWN_ERROR


CHECKS: Final = (quirks,)
