"""Check a response's media type, headers, JSON and envelope, by the contract and the HTTP status.

The data are checked by ``schema``. Responses that do not come from the API have no envelope and are
not checked: those of HTTP itself (a redirect, a request that is too long), and those of a proxy
whose server is down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from oceanmock.checks import CheckResult, Subject, check, instant, whole

BELOW: Final = frozenset({204, 301, 302, 303, 304, 307, 308, 413, 414, 415, 431, 502, 503, 504})
"""The statuses that do not come from the API: redirects, no content, requests too large."""
REFUSED_BELOW: Final = re.compile(
    r"%(?:[01][0-9a-f]|25|2f|3b|5c|7f|[89a-f][0-9a-f])|[\[\]{}|\\^]", re.IGNORECASE
)
"""The characters that web servers and proxies refuse in a target: those that are not plain text,
and those that could mean another path."""


def is_of_the_api(subject: Subject) -> bool:
    """Return whether the API itself responded: an operation, or obshell's 404 below /api/v1."""
    if subject.status in BELOW or subject.exchange.method == "HEAD" or _is_refused_below(subject):
        return False
    is_obshell = subject.contract.api == "obshell"
    return subject.operation is not None or (is_obshell and subject.path.startswith("/api/v1/"))


def _is_refused_below(subject: Subject) -> bool:
    """Return whether a web server's own page refuses the target; the API responds in JSON."""
    target = subject.exchange.target
    return subject.status == 400 and subject.body is None and bool(REFUSED_BELOW.search(target))


def content_type(subject: Subject) -> Iterator[CheckResult]:
    """Check that the contract has the media type for the status."""
    if not is_of_the_api(subject):
        return
    sent = (subject.exchange.header("content-type") or "").partition(";")[0].strip().lower()
    allowed = _media_types(subject) or ("application/json",)
    wrong = f"the answer is {sent or 'of no media type'}; it should be {' or '.join(allowed)}."
    yield check("content-type", sent in allowed, "header Content-Type", wrong)


def _media_types(subject: Subject) -> tuple[str, ...]:
    actual = _response(subject)
    return tuple(media_type.lower() for media_type in actual.get("content", {}))


def _response(subject: Subject) -> Any:
    """Return the contract's object for this operation and status, with references resolved."""
    if subject.operation is None:
        return {}
    responses = subject.contract.definition_of(subject.operation).get("responses", {})
    return subject.contract.resolved(responses.get(str(subject.status), {}))


def required_headers(subject: Subject) -> Iterator[CheckResult]:
    """Check that the response has the headers that the contract requires."""
    for name, actual in _response(subject).get("headers", {}).items():
        if subject.contract.resolved(actual).get("required"):
            there = subject.exchange.header(name) is not None
            wrong = f"the header {name} is missing; every {subject.status} has it."
            yield check("header.missing", there, f"header {name}", wrong)


def json_object(subject: Subject) -> Iterator[CheckResult]:
    """Check that the body is a JSON object."""
    if is_of_the_api(subject):
        start = subject.exchange.response_body[:60]
        wrong = f"the body is no JSON object; it begins with {start!r}."
        yield check("body.json", isinstance(subject.body, dict), "$", wrong)


def envelope(subject: Subject) -> Iterator[CheckResult]:
    """Check that the envelope is complete and agrees with the HTTP status."""
    if not is_of_the_api(subject) or not isinstance(subject.body, dict):
        return
    body, status = subject.body, subject.status
    for name in subject.contract.spec["components"]["schemas"]["Envelope"]["required"]:
        yield check("envelope.member", name in body, f"$.{name}", f"the envelope has no {name}.")
    if (actual := whole(body.get("status"))) is not None:
        wrong = f"status is {actual} in an answer whose HTTP status is {status}."
        yield check("envelope.status", actual == status, "$.status", wrong)
    if isinstance(body.get("successful"), bool):
        passed = body["successful"] == (status < 400)
        wrong = f"successful is {str(body['successful']).lower()} in an answer with {status}."
        yield check("envelope.successful", passed, "$.successful", wrong)
    if "timestamp" in body:
        wrong = f"timestamp is {body['timestamp']!r}, which is no instant."
        yield check(
            "envelope.timestamp", instant(body["timestamp"]) is not None, "$.timestamp", wrong
        )
    if "duration" in body:
        passed = (whole(body["duration"]) or 0) >= 0 and whole(body["duration"]) is not None
        wrong = f"duration is {body['duration']!r}, not a number of milliseconds."
        yield check("envelope.duration", passed, "$.duration", wrong)
    yield from _error_or_not(subject)
    yield from _trace_id(subject)


def _error_or_not(subject: Subject) -> Iterator[CheckResult]:
    """Check that a refusal has an error, and a success none."""
    has = subject.body.get("error") is not None
    wrong = f"an answer with {subject.status} has {'an' if has else 'no'} error."
    yield check("envelope.error", has == (subject.status >= 400), "$.error", wrong)


def _trace_id(subject: Subject) -> Iterator[CheckResult]:
    """Check that the traceId of a successful response is not empty; a proxy may choose it."""
    actual = subject.body.get("traceId")
    if not isinstance(actual, str) or subject.status >= 400:
        return
    if actual or subject.id != "getStatus":  # the quirk status-has-no-trace-id
        wrong = f"traceId is {actual!r}, in which nobody finds anything again."
        yield check("envelope.trace-id", bool(actual.strip()), "$.traceId", wrong)


CHECKS: Final = (content_type, required_headers, json_object, envelope)
