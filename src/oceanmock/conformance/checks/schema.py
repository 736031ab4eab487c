"""The status and the body of an answer, held against the contract's own words for them.

Each mistake is found under what kind of mistake it is (a member that is missing, a wrong type, a
word that is none of an enumeration, any other value), with the JSON path to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import orjson

from oceanmock.conformance.checks.envelope import BELOW
from oceanmock.conformance.looks import Contract, Look, Seen, look
from oceanmock.conformance.quirks import is_explained
from oceanmock.http.validation import Schema, SchemaViolation

MOST: Final = 20
"""So many mistakes of one body are told; a body that is all wrong has one for each member."""
RULES_BY_KEYWORD: Final = {
    "required": "schema.required",
    "type": "schema.type",
    "enum": "schema.enum",
    "format": "schema.type",
}
BODIES: Final = ("schema.required", "schema.type", "schema.enum", "schema.value")


def status(seen: Seen) -> Iterator[Look]:
    """The contract names the status for this operation, and it is no failure of the server."""
    if seen.operation is None:
        return
    if seen.status >= 500:
        if not _is_unknown_method(seen):
            yield from _failure(seen)
    elif seen.exchange.method != seen.operation.method:
        wrong = f"{seen.exchange.method} is answered {seen.status}; the path does not know it."
        refused = seen.status >= 400 or seen.exchange.method in ("HEAD", "OPTIONS")
        yield look("method.accepted", refused, "$", wrong)
    elif seen.status not in BELOW:
        documented = str(seen.status) in seen.operation.statuses
        allowed = ", ".join(seen.operation.statuses)
        wrong = f"it is answered {seen.status}; the contract knows {allowed}."
        yield look("status.undocumented", documented, "$", wrong)


def _is_unknown_method(seen: Seen) -> bool:
    """Whether it is a method that the path does not know: ocp-express fails at each of them.

    (RestExceptionHandler.java:343-358; no document says what OCP does.)
    """
    operation = seen.operation
    is_ocp = seen.contract.api == "ocp"
    return is_ocp and operation is not None and seen.exchange.method != operation.method


EXPECTED: Final = ("UnderMaintenance", "Task.Expired")
"""What obshell answers 500 to an operator whose dag can not have its lock back."""


def _failure(seen: Seen) -> Iterator[Look]:
    """A 500 that nothing explains is a failure, and one to a hostile request another."""
    code = str(seen.error.get("errCode", ""))
    if not is_explained(seen) and not any(word in code for word in EXPECTED):
        rule = "hostile.500" if seen.exchange.expects_refusal else "status.server-error"
        said = str(seen.error.get("message", ""))[:200].rstrip(". ")
        yield look(rule, False, "$", f"the server failed with {seen.status}: {said or 'no word'}.")


def no_failure(seen: Seen) -> Iterator[Look]:
    """Counts the requests that the server did not fail at."""
    if seen.operation is not None and seen.status < 500:
        yield look("hostile.500" if seen.exchange.expects_refusal else "status.server-error", True)


def body(seen: Seen) -> Iterator[Look]:
    """The body is what the contract's schema says of this status."""
    operation = seen.operation
    if operation is None or seen.exchange.method != operation.method or seen.body is None:
        return
    schema = _schema_of(seen.contract, operation.id, str(seen.status))
    if schema is None:
        return
    mistakes = (
        list(islice(schema.violations(seen.body), MOST)) if not schema.accepts(seen.body) else []
    )
    broken = {_rule(each) for each in mistakes}
    yield from (look(rule, True) for rule in BODIES if rule not in broken)
    for each in mistakes:
        yield Look(_rule(each), json_path(each.path), f"{json_path(each.path)}: {each.message}.")


def _rule(mistake: SchemaViolation) -> str:
    return RULES_BY_KEYWORD.get(mistake.keyword, "schema.value")


def json_path(parts: Sequence[str | int]) -> str:
    """A place in a body as a JSON path: ``$.data.subtasks[3].status``."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


@lru_cache(maxsize=256)
def _schema_of(contract: Contract, operation: str, status: str) -> Schema | None:
    """The compiled schema of an answer; None where the contract has none."""
    responses = contract.said_of(contract.operations[operation])["responses"]
    said = contract.followed(responses.get(status, {}))
    for media_type, content in said.get("content", {}).items():
        if "json" in media_type:
            return _compiled(orjson.dumps(content.get("schema", {})), contract)
    return None


@lru_cache(maxsize=256)
def _compiled(schema: bytes, contract: Contract) -> Schema:
    """Operations share most of their answers; what a reference means is in the components."""
    said: dict[str, Any] = orjson.loads(schema)
    shared = {"schemas": contract.spec["components"]["schemas"]}
    return Schema({"allOf": [said], "components": shared})


CHECKS: Final = (status, no_failure, body)
