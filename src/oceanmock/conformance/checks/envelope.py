"""What every answer is wrapped in: that there is one, its media type, its JSON, its envelope.

Held against what the contract says of the operation, and against the answer's own HTTP status. How
the data within are shaped is the business of ``schema``. Answers that are given before the API
is asked have no envelope, and are left alone: those of HTTP itself (a redirect, a request too long
to be read), and those of what stands in front, such as a proxy whose server is away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from oceanmock.conformance.looks import Look, Seen, instant, look, whole

BELOW: Final = frozenset({204, 301, 302, 303, 304, 307, 308, 413, 414, 415, 431, 502, 503, 504})
"""What is answered before, or instead of, the API: redirects, no content, requests too large."""
REFUSED_BELOW: Final = re.compile(
    r"%(?:[01][0-9a-f]|25|2f|3b|5c|7f|[89a-f][0-9a-f])|[\[\]{}|\\^]", re.IGNORECASE
)
"""What web servers and proxies refuse in a target by themselves: what is no plain text, and what
could mean another path."""


def is_of_the_api(seen: Seen) -> bool:
    """Whether the API itself answered: an operation, or obshell's own 404 below /api/v1."""
    if seen.status in BELOW or seen.exchange.method == "HEAD" or _is_refused_below(seen):
        return False
    is_obshell = seen.contract.api == "obshell"
    return seen.operation is not None or (is_obshell and seen.path.startswith("/api/v1/"))


def _is_refused_below(seen: Seen) -> bool:
    """Whether a web server's own page refuses the target; the API says it in JSON."""
    target = seen.exchange.target
    return seen.status == 400 and seen.body is None and bool(REFUSED_BELOW.search(target))


def content_type(seen: Seen) -> Iterator[Look]:
    """The media type is one that the contract names for the status."""
    if not is_of_the_api(seen):
        return
    sent = (seen.exchange.header("content-type") or "").partition(";")[0].strip().lower()
    allowed = _media_types(seen) or ("application/json",)
    wrong = f"the answer is {sent or 'of no media type'}; it should be {' or '.join(allowed)}."
    yield look("content-type", sent in allowed, "header Content-Type", wrong)


def _media_types(seen: Seen) -> tuple[str, ...]:
    said = _response(seen)
    return tuple(media_type.lower() for media_type in said.get("content", {}))


def _response(seen: Seen) -> Any:
    """What the contract says of this status of this operation, its reference followed."""
    if seen.operation is None:
        return {}
    responses = seen.contract.said_of(seen.operation).get("responses", {})
    return seen.contract.followed(responses.get(str(seen.status), {}))


def required_headers(seen: Seen) -> Iterator[Look]:
    """The headers that the contract requires of the answer are there."""
    for name, said in _response(seen).get("headers", {}).items():
        if seen.contract.followed(said).get("required"):
            there = seen.exchange.header(name) is not None
            wrong = f"the header {name} is missing; every {seen.status} has it."
            yield look("header.missing", there, f"header {name}", wrong)


def json_object(seen: Seen) -> Iterator[Look]:
    """The body is a JSON object."""
    if is_of_the_api(seen):
        start = seen.exchange.response_body[:60]
        wrong = f"the body is no JSON object; it begins with {start!r}."
        yield look("body.json", isinstance(seen.body, dict), "$", wrong)


def envelope(seen: Seen) -> Iterator[Look]:
    """The members of the envelope are there, and say what HTTP said."""
    if not is_of_the_api(seen) or not isinstance(seen.body, dict):
        return
    body, status = seen.body, seen.status
    for name in seen.contract.spec["components"]["schemas"]["Envelope"]["required"]:
        yield look("envelope.member", name in body, f"$.{name}", f"the envelope has no {name}.")
    if (said := whole(body.get("status"))) is not None:
        wrong = f"status is {said} in an answer whose HTTP status is {status}."
        yield look("envelope.status", said == status, "$.status", wrong)
    if isinstance(body.get("successful"), bool):
        kept = body["successful"] == (status < 400)
        wrong = f"successful is {str(body['successful']).lower()} in an answer with {status}."
        yield look("envelope.successful", kept, "$.successful", wrong)
    if "timestamp" in body:
        wrong = f"timestamp is {body['timestamp']!r}, which is no instant."
        yield look(
            "envelope.timestamp", instant(body["timestamp"]) is not None, "$.timestamp", wrong
        )
    if "duration" in body:
        kept = (whole(body["duration"]) or 0) >= 0 and whole(body["duration"]) is not None
        wrong = f"duration is {body['duration']!r}, not a number of milliseconds."
        yield look("envelope.duration", kept, "$.duration", wrong)
    yield from _error_or_not(seen)
    yield from _trace_id(seen)


def _error_or_not(seen: Seen) -> Iterator[Look]:
    """A refusal says why; an answer to what was done has no error."""
    has = seen.body.get("error") is not None
    wrong = f"an answer with {seen.status} has {'an' if has else 'no'} error."
    yield look("envelope.error", has == (seen.status >= 400), "$.error", wrong)


def _trace_id(seen: Seen) -> Iterator[Look]:
    """Any but an empty one, where the request was let in: what stands in front may choose it."""
    said = seen.body.get("traceId")
    if not isinstance(said, str) or seen.status >= 400:
        return
    if said or seen.id != "getStatus":  # the quirk status-has-no-trace-id
        wrong = f"traceId is {said!r}, in which nobody finds anything again."
        yield look("envelope.trace-id", bool(said.strip()), "$.traceId", wrong)


CHECKS: Final = (content_type, required_headers, json_object, envelope)
