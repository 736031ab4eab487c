"""Check the status and the body of a response against the contract's schema.

Each violation is reported by kind (a missing member, a wrong type, a word outside an enumeration,
any other value), with its JSON path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import orjson

from oceanmock.checks import CheckResult, Contract, Subject, check
from oceanmock.conformance.checks.envelope import BELOW
from oceanmock.conformance.quirks import is_explained
from oceanmock.http.validation import Schema, SchemaViolation

MOST: Final = 20
"""The most violations reported of one body."""
RULES_BY_KEYWORD: Final = {
    "required": "schema.required",
    "type": "schema.type",
    "enum": "schema.enum",
    "format": "schema.type",
}
BODIES: Final = ("schema.required", "schema.type", "schema.enum", "schema.value")


def status(subject: Subject) -> Iterator[CheckResult]:
    """Check that the contract has the status, and that the server did not fail."""
    if subject.operation is None:
        return
    if subject.status >= 500:
        if not _is_unknown_method(subject):
            yield from _failure(subject)
    elif subject.exchange.method != subject.operation.method:
        wrong = (
            f"{subject.exchange.method} is answered {subject.status}; the path does not know it."
        )
        refused = subject.status >= 400 or subject.exchange.method in ("HEAD", "OPTIONS")
        yield check("method.accepted", refused, "$", wrong)
    elif subject.status not in BELOW:
        documented = str(subject.status) in subject.operation.statuses
        allowed = ", ".join(subject.operation.statuses)
        wrong = f"it is answered {subject.status}; the contract knows {allowed}."
        yield check("status.undocumented", documented, "$", wrong)


def _is_unknown_method(subject: Subject) -> bool:
    """Return whether the path does not have the method: ocp-express responds with 500.

    (RestExceptionHandler.java:343-358; not verified for OCP.)
    """
    operation = subject.operation
    is_ocp = subject.contract.api == "ocp"
    return is_ocp and operation is not None and subject.exchange.method != operation.method


EXPECTED: Final = ("UnderMaintenance", "Task.Expired")
"""The errCodes of obshell's 500 to an operator whose dag cannot get its lock back."""


def _failure(subject: Subject) -> Iterator[CheckResult]:
    """Report an unexplained 500, by a rule of its own if the request was hostile."""
    code = str(subject.error.get("errCode", ""))
    if not is_explained(subject) and not any(word in code for word in EXPECTED):
        rule = "hostile.500" if subject.exchange.expects_refusal else "status.server-error"
        actual = str(subject.error.get("message", ""))[:200].rstrip(". ")
        yield check(
            rule, False, "$", f"the server failed with {subject.status}: {actual or 'no word'}."
        )


def no_failure(subject: Subject) -> Iterator[CheckResult]:
    """Count the requests without a 500 as passed."""
    if subject.operation is not None and subject.status < 500:
        yield check(
            "hostile.500" if subject.exchange.expects_refusal else "status.server-error", True
        )


def body(subject: Subject) -> Iterator[CheckResult]:
    """Check the body against the contract's schema for the status."""
    operation = subject.operation
    if operation is None or subject.exchange.method != operation.method or subject.body is None:
        return
    schema = _schema_of(subject.contract, operation.id, str(subject.status))
    if schema is None:
        return
    mistakes = (
        list(islice(schema.violations(subject.body), MOST))
        if not schema.accepts(subject.body)
        else []
    )
    broken = {_rule(item) for item in mistakes}
    yield from (check(rule, True) for rule in BODIES if rule not in broken)
    for item in mistakes:
        yield CheckResult(
            _rule(item), json_path(item.path), f"{json_path(item.path)}: {item.message}."
        )


def _rule(mistake: SchemaViolation) -> str:
    return RULES_BY_KEYWORD.get(mistake.keyword, "schema.value")


def json_path(parts: Sequence[str | int]) -> str:
    """Return a place in a body as a JSON path: ``$.data.subtasks[3].status``."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


@lru_cache(maxsize=256)
def _schema_of(contract: Contract, operation: str, status: str) -> Schema | None:
    """Return the compiled schema of a response, or None if the contract has none."""
    responses = contract.definition_of(contract.operations[operation])["responses"]
    actual = contract.resolved(responses.get(status, {}))
    for media_type, content in actual.get("content", {}).items():
        if "json" in media_type:
            return _compiled(orjson.dumps(content.get("schema", {})), contract)
    return None


@lru_cache(maxsize=256)
def _compiled(schema: bytes, contract: Contract) -> Schema:
    """Return a compiled schema, cached since operations share most of their responses."""
    actual: dict[str, Any] = orjson.loads(schema)
    shared = {"schemas": contract.spec["components"]["schemas"]}
    return Schema({"allOf": [actual], "components": shared})


CHECKS: Final = (status, no_failure, body)
