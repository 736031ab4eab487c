"""Check each response by itself: status, media type, envelope, schema and access.

These checks apply to every API; those of one API's data are in its ``checks.py``. Each takes one
exchange, and none keeps state: rules that need two responses are in ``history``, those that need a
particular request in ``probes``. Responses that do not come from the API have no envelope and are
not checked: those of HTTP itself (a redirect, a request that is too long), and those of a proxy
whose server is down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Final

import orjson

from oceanmock.apis import api_named
from oceanmock.checks import Check, CheckResult, Contract, RuleChecker, Subject, check, instant, whole
from oceanmock.conformance.rules import RULES
from oceanmock.http.validation import Schema

STATUSES_BELOW: Final = frozenset({204, 301, 302, 303, 304, 307, 308, 413, 414, 415, 431, 502, 503, 504})
"""The statuses that do not come from the API: redirects, no content, requests too large."""
REFUSED_BELOW: Final = re.compile(r"%(?:[01][0-9a-f]|25|2f|3b|5c|7f|[89a-f][0-9a-f])|[\[\]{}|\\^]", re.IGNORECASE)
"""The characters that web servers and proxies refuse in a target: those that are not plain text,
and those that could mean another path."""
MAX_VIOLATIONS: Final = 20
"""The most violations reported of one body."""
RULES_BY_KEYWORD: Final = {
    "required": "schema.required",
    "type": "schema.type",
    "enum": "schema.enum",
    "format": "schema.type",
}
SCHEMA_RULES: Final = ("schema.required", "schema.type", "schema.enum", "schema.value")


def _is_of_the_api(subject: Subject) -> bool:
    """Return whether the API itself responded, not a web server in front of it.

    A web server that refuses a target sends a page of its own; the API responds in JSON.
    """
    target = subject.exchange.target
    is_page = subject.status == 400 and subject.body is None and REFUSED_BELOW.search(target)
    if subject.status in STATUSES_BELOW or subject.exchange.method == "HEAD" or is_page:
        return False
    api = api_named(subject.contract.api)
    is_unknown = api.checks.RENDERS_UNKNOWN_PATHS and subject.path.startswith(f"{api.prefix}/")
    return subject.operation is not None or is_unknown


def headers(subject: Subject) -> Iterator[CheckResult]:
    """Check that a response has the contract's media type, and the headers that are required."""
    contract, operation = subject.contract, subject.operation
    responses = contract.definition_of(operation).get("responses", {}) if operation else {}
    response = contract.resolved(responses.get(str(subject.status), {}))
    if _is_of_the_api(subject):
        sent = (subject.exchange.header("content-type") or "").partition(";")[0].strip().lower()
        allowed = [name.lower() for name in response.get("content", {})] or ["application/json"]
        wrong = f"the answer is {sent or 'of no media type'}; it should be {' or '.join(allowed)}."
        yield check("content-type", sent in allowed, "header Content-Type", wrong)
    for name, header in response.get("headers", {}).items():
        if contract.resolved(header).get("required"):
            there = subject.exchange.header(name) is not None
            wrong = f"the header {name} is missing; every {subject.status} has it."
            yield check("header.missing", there, f"header {name}", wrong)


def envelope(subject: Subject) -> Iterator[CheckResult]:
    """Check that the body is a JSON object, whose envelope is complete and fits the HTTP status.

    The traceId of a refusal may be empty; a proxy may choose it.
    """
    if not _is_of_the_api(subject):
        return
    body, status = subject.body, subject.status
    wrong = f"the body is no JSON object; it begins with {subject.exchange.response_body[:60]!r}."
    yield check("body.json", isinstance(body, dict), "$", wrong)
    if not isinstance(body, dict):
        return
    for name in subject.contract.spec["components"]["schemas"]["Envelope"]["required"]:
        yield check("envelope.member", name in body, f"$.{name}", f"the envelope has no {name}.")
    if (number := whole(body.get("status"))) is not None:
        wrong = f"status is {number} in an answer whose HTTP status is {status}."
        yield check("envelope.status", number == status, "$.status", wrong)
    if isinstance(body.get("successful"), bool):
        passed = body["successful"] == (status < 400)
        wrong = f"successful is {str(body['successful']).lower()} in an answer with {status}."
        yield check("envelope.successful", passed, "$.successful", wrong)
    if "timestamp" in body:
        wrong = f"timestamp is {body['timestamp']!r}, which is no instant."
        is_instant = instant(body["timestamp"]) is not None
        yield check("envelope.timestamp", is_instant, "$.timestamp", wrong)
    if "duration" in body:
        duration = whole(body["duration"])
        wrong = f"duration is {body['duration']!r}, not a number of milliseconds."
        is_span = duration is not None and duration >= 0
        yield check("envelope.duration", is_span, "$.duration", wrong)
    has_error = body.get("error") is not None
    wrong = f"an answer with {status} has {'an' if has_error else 'no'} error."
    yield check("envelope.error", has_error == (status >= 400), "$.error", wrong)
    trace = body.get("traceId")
    if isinstance(trace, str) and status < 400 and (trace or not _is_explained(subject)):
        wrong = f"traceId is {trace!r}, in which nobody finds anything again."
        yield check("envelope.trace-id", bool(trace.strip()), "$.traceId", wrong)


def _is_explained(subject: Subject) -> bool:
    result: bool = api_named(subject.contract.api).checks.is_explained(subject)
    return result


def message(subject: Subject) -> Iterator[CheckResult]:
    """Check that an error has a message."""
    if subject.error:
        text = subject.error.get("message")
        passed = isinstance(text, str) and bool(text.strip())
        yield check("error.message", passed, "$.error.message", "the error has no message.")


def credentials(subject: Subject) -> Iterator[CheckResult]:
    """Check that a request without credentials is refused, unless the operation is open.

    A wrong password is tested by the probes: an exchange does not show which password is right.
    """
    if subject.operation is None or subject.contract.is_open(subject.id) or subject.has_credentials:
        return
    wrong = f"{subject.id} is answered {subject.status} to a request that does not say whose it is."
    is_refused = subject.status >= 300 or not isinstance(subject.body, dict)  # a page to log in at
    yield check("auth.missing-accepted", is_refused, "$", wrong)


def status(subject: Subject) -> Iterator[CheckResult]:
    """Check that the contract has the status, and that the server did not fail.

    A failure at a hostile request has a rule of its own.
    """
    if subject.operation is None:
        return
    code, method = subject.status, subject.exchange.method
    rule = "hostile.500" if subject.exchange.expects_refusal else "status.server-error"
    if code >= 500:
        if not _is_explained(subject):
            text = str(subject.error.get("message", ""))[:200].rstrip(". ")
            wrong = f"the server failed with {code}: {text or 'no word'}."
            yield check(rule, False, "$", wrong)
        return
    yield check(rule, True)
    if method != subject.operation.method:
        wrong = f"{method} is answered {code}; the path does not know it."
        is_refused = code >= 400 or method in ("HEAD", "OPTIONS")
        yield check("method.accepted", is_refused, "$", wrong)
    elif code not in STATUSES_BELOW:
        statuses = subject.operation.statuses
        wrong = f"it is answered {code}; the contract knows {', '.join(statuses)}."
        yield check("status.undocumented", str(code) in statuses, "$", wrong)


def body(subject: Subject) -> Iterator[CheckResult]:
    """Check the body against the contract's schema for the status.

    Each violation is reported by kind (a missing member, a wrong type, a word outside an
    enumeration, any other value), with its JSON path.
    """
    operation = subject.operation
    if operation is None or subject.exchange.method != operation.method or subject.body is None:
        return
    schema = _schema_of(subject.contract, operation.id, str(subject.status))
    if schema is None:
        return
    is_valid = schema.accepts(subject.body)
    violations = [] if is_valid else [*islice(schema.violations(subject.body), MAX_VIOLATIONS)]
    rules = [RULES_BY_KEYWORD.get(item.keyword, "schema.value") for item in violations]
    yield from (check(rule, True) for rule in SCHEMA_RULES if rule not in rules)
    for rule, item in zip(rules, violations, strict=True):
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in item.path)
        path = f"${''.join(parts)}"
        yield CheckResult(rule, path, f"{path}: {item.message}.")


@lru_cache(maxsize=256)
def _schema_of(contract: Contract, operation: str, status: str) -> Schema | None:
    """Return the compiled schema of a response, or None if the contract has none."""
    responses = contract.definition_of(contract.operations[operation])["responses"]
    response = contract.resolved(responses.get(status, {}))
    for media_type, content in response.get("content", {}).items():
        if "json" in media_type:
            return _compiled(orjson.dumps(content.get("schema", {})), contract)
    return None


@lru_cache(maxsize=256)
def _compiled(schema: bytes, contract: Contract) -> Schema:
    """Return a compiled schema, cached since operations share most of their responses."""
    shared = {"schemas": contract.spec["components"]["schemas"]}
    return Schema({"allOf": [orjson.loads(schema)], "components": shared})


CHECKS: Final[tuple[Check, ...]] = (headers, envelope, status, body, message, credentials)


class ResponseChecker(RuleChecker):
    """A checker of every rule that needs no history."""

    def __init__(self, contract: Contract) -> None:
        own: tuple[Check, ...] = api_named(contract.api).checks.CHECKS
        super().__init__(contract, RULES, (*CHECKS, *own))

    def results(self, subject: Subject) -> Iterator[CheckResult]:
        """Yield every check result of an exchange; without a response, only that."""
        problem = subject.exchange.problem or "the connection was closed"
        there = subject.exchange.status is not None
        yield check("answer.none", there, "$", f"no answer came: {problem}.")
        if there:
            yield from super().results(subject)
