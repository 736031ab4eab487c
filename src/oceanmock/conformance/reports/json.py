"""Results as JSON, for programs. ``result.schema.json`` beside this file is what it looks like.

Spans are milliseconds, instants RFC 3339. A body is its exact text, or Base64 where it is no UTF-8
(``body_kind``); what is longer than 64 KiB is cut, and ``body_bytes`` says how long it was. The one
rule: the shape is promised, so it changes only together with the schema and its ``format``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from oceanmock import __version__
from oceanmock.checks import CheckResult, Exchange, Headers
from oceanmock.conformance.model import Result
from oceanmock.conformance.reports import texts
from oceanmock.text import format_instant

FORMAT: Final = 1
SCHEMA: Final = Path(__file__).with_name("result.schema.json")
MOST: Final = 64 * 2**10

Json = dict[str, Any]


def render(results: Sequence[Result]) -> str:
    """The report, with a newline at its end."""
    code = texts.exit_code(results)
    whole = {
        "oceanmock": __version__,
        "format": FORMAT,
        "exit_code": code,
        "verdict": texts.VERDICTS[code][0],
        "runs": [_run(each) for each in results],
    }
    return json.dumps(whole, indent=2, ensure_ascii=True) + "\n"


def _run(result: Result) -> Json:
    return {
        "target": result.target,
        "api": result.api,
        "version": result.version,
        "seed": result.seed,
        "command": result.command,
        "started": result.started,
        "took_ms": _ms(result.took),
        "writes": result.writes,
        "interrupted": result.interrupted,
        "exit_code": result.exit_code,
        "verdict": texts.VERDICTS[result.exit_code][0],
        "asked": result.asked,
        "phases": [{"phase": name, "took_ms": _ms(took)} for name, took in result.phases.items()],
        "operations": _operations(result),
        "rules": _rules(result),
        "findings": [_finding(each) for each in result.findings],
        "known": [_finding(each) for each in result.known],
        "baselines": result.baselines,
        "stale": [
            {"rule": each.rule, "operation": each.operation, "reason": each.reason}
            for each in result.stale
        ],
        "missing": [
            {"operation": each.operation, "status": each.status, "hint": each.hint}
            for each in result.missing
        ],
        "changes": [_exchange(each) for each in result.changes],
        "steps": [
            {"kind": kind, "before": before, "after": after, "seen": seen}
            for (kind, before, after), seen in sorted(result.walked.items())
        ],
        "shown": [
            {"kind": kind, "state": word, "seen": seen}
            for (kind, word), seen in sorted(result.shown.items())
        ],
        "stories": _stories(result),
    }


def _operations(result: Result) -> list[Json]:
    """What each operation answered; what is missing of it."""
    names = dict.fromkeys([*result.statuses, *(each.operation for each in result.missing)])
    wanted = sorted(texts.missing_of(result))
    return [
        {
            "operation": name,
            "statuses": _statuses(result.statuses.get(name, {})),
            "missing": [status for operation, status in wanted if operation == name],
        }
        for name in names
    ]


def _statuses(seen: Mapping[int, int]) -> Json:
    return {texts.status_name(status): times for status, times in sorted(seen.items()) if times}


def _rules(result: Result) -> list[Json]:
    """How often each rule was looked at, in all and per operation."""
    return [
        {
            "rule": each.rule,
            "looked": each.looked,
            "broken": each.broken,
            "known": each.known,
            "operations": {
                operation: times
                for (rule, operation), times in sorted(result.checked.items())
                if rule == each.rule and times
            },
        }
        for each in texts.rule_lines(result)
    ]


def _stories(result: Result) -> list[Json]:
    return [
        {
            "story": name,
            "steps": [
                {
                    "text": step.text,
                    "outcome": step.outcome,
                    "detail": step.detail,
                    "took_ms": _ms(step.took),
                }
                for step in steps
            ],
        }
        for name, steps in result.stories.items()
    ]


def _finding(finding: CheckResult) -> Json:
    return {
        "rule": finding.rule,
        "operation": finding.operation,
        "status": finding.status,
        "path": finding.path,
        "breadcrumb": finding.breadcrumb,
        "message": finding.message,
        "source": finding.source,
        "known": finding.known,
        "curl": finding.curl,
        "exchange": None if finding.exchange is None else _exchange(finding.exchange),
    }


def _exchange(exchange: Exchange) -> Json:
    return {
        "number": exchange.number,
        "phase": exchange.phase,
        "operation": exchange.operation,
        "sent_at": format_instant(exchange.sent_at, digits=3, padded=True),
        "took_ms": _ms(exchange.took),
        "expects_refusal": exchange.expects_refusal,
        "method": exchange.method,
        "target": exchange.target,
        "status": exchange.status,
        "problem": exchange.problem,
        "request": _message(exchange.request_headers, exchange.request_body),
        "response": _message(exchange.response_headers, exchange.response_body),
    }


def _message(headers: Headers, body: bytes) -> Json:
    kind, text = _body(body[:MOST])
    return {
        "headers": _pairs(headers),
        "body": text,
        "body_kind": kind if body else "none",
        "body_bytes": len(body),
    }


def _pairs(headers: Iterable[tuple[str, str]]) -> list[list[str]]:
    return [[name, value] for name, value in headers]


def _body(body: bytes) -> tuple[str, str]:
    """What kind of text it is, and the text."""
    try:
        return "text", body.decode()
    except UnicodeDecodeError as problem:
        if len(body) == MOST and problem.start > MOST - 4:  # cut within a character
            return "text", body[: problem.start].decode()
        return "base64", base64.b64encode(body).decode()


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)
