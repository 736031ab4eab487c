"""What all reports say alike: verdicts, spans of time, bodies as text, and what was counted.

Texts here are clean (no control character, no lone surrogate) and not yet escaped: HTML, XML and
terminals each have a way of their own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from oceanmock.checks import CheckResult, Exchange
from oceanmock.conformance.model import (
    FAILED,
    INCOMPLETE,
    INTERRUPTED,
    NO_RESPONSE,
    PASSED,
    UNTESTABLE,
    Result,
)
from oceanmock.text import format_elapsed, plural

MOST_SHOWN: Final = 16 * 2**10
"""How much of a body a report shows; bytes."""

# --- verdicts -------------------------------------------------------------------------------------

VERDICTS: Final = {
    PASSED: ("PASSED", "no violations, all required responses observed"),
    FAILED: ("FAILED", "violations that no baseline accepts"),
    UNTESTABLE: ("UNTESTABLE", "the run could not begin"),
    INCOMPLETE: ("INCOMPLETE", "no violations, but required responses were not observed"),
    INTERRUPTED: ("INTERRUPTED", "stopped by Ctrl-C; the findings so far are reported"),
}
"""Exit code → verdict and its meaning."""
_WORST_FIRST: Final = (INTERRUPTED, FAILED, INCOMPLETE, PASSED)


def exit_code(results: Sequence[Result]) -> int:
    """The exit code of several runs: that of the worst."""
    codes = {each.exit_code for each in results}
    return next(code for code in _WORST_FIRST if code in codes)


def failed_steps(result: Result) -> int:
    """How many steps of stories failed."""
    return sum(step.outcome == "failed" for steps in result.stories.values() for step in steps)


def headline(result: Result) -> str:
    """What was found, counted: “2 findings, 1 known, 2 statuses missing”."""
    steps = failed_steps(result)
    parts = [
        plural(len(result.findings), "finding"),
        f"{len(result.known):,} known" if result.known else "",
        f"{plural(len(result.missing), 'status', 'statuses')} missing" if result.missing else "",
        f"{plural(steps, 'step')} of stories failed" if steps else "",
        f"{plural(len(result.stale), 'entry', 'entries')} stale" if result.stale else "",
    ]
    return ", ".join(filter(None, parts))


def mode(result: Result) -> str:
    """Whether the target was changed."""
    return "read and write" if result.writes else "read-only"


def called(result: Result) -> str:
    """The API and what it says of itself: “OCP 4.2.2”."""
    name = {"ocp": "OCP", "obshell": "obshell"}[result.api]
    return clean(f"{name} {result.version}".rstrip())


# --- numbers --------------------------------------------------------------------------------------


def statuses_of(result: Result) -> list[int]:
    """Every status that was answered or has to be, sorted; no answer (0) is last."""
    seen = {status for each in result.statuses.values() for status in each if each[status]}
    wanted = {each.status for each in result.missing}
    return sorted(seen | wanted, key=lambda status: (status == NO_RESPONSE, status))


def missing_of(result: Result) -> set[tuple[str, int]]:
    """Operation and status of all that is missing."""
    return {(each.operation, each.status) for each in result.missing}


@dataclass(frozen=True, slots=True)
class RuleLine:
    """What came of a rule."""

    rule: str
    looked: int
    broken: int
    """Findings that no baseline knows."""
    known: int


def rule_lines(result: Result) -> Iterator[RuleLine]:
    """A line per rule, by id; those that only findings name as well."""
    broken = Counter(each.rule for each in result.findings)
    known = Counter(each.rule for each in result.known)
    for rule in sorted({*result.rules, *broken, *known}):
        tally = result.rules.get(rule)
        yield RuleLine(clean(rule), tally.looked if tally else 0, broken[rule], known[rule])


def by_rule(findings: Sequence[CheckResult]) -> dict[str, list[CheckResult]]:
    """Findings by rule, in the order the rules were first broken."""
    grouped: dict[str, list[CheckResult]] = {}
    for each in findings:
        grouped.setdefault(each.rule, []).append(each)
    return grouped


# --- texts ----------------------------------------------------------------------------------------

_UNCLEAN: Final = re.compile(
    "[^\\t\\n\\r\\x20-\\x7e\\xa0-\\u200a\\u2010-\\u2027\\u2030-\\u205f\\u2070-\\ud7ff"
    "\\ue000-\\ufdcf\\ufdf0-\\ufefe\\uff00-\\uffef\\U00010000-\\U0001fffd\\U00020000-\\U0002fffd"
    "\\U00030000-\\U0003fffd]"
)
"""What XML forbids, terminals obey, or turns text around."""


def clean(text: str) -> str:
    r"""A text in which what cannot be printed is spelled out: ``\x1b``, ``\u202e``."""
    return _UNCLEAN.sub(lambda found: ascii(found[0])[1:-1], text)


def line(text: str) -> str:
    """The same on one line."""
    return clean(text).replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def body_text(body: bytes, most: int = MOST_SHOWN) -> str:
    """A body as a person reads it: its JSON laid out, else its text, else its bytes in hex."""
    cut = f"\n… {len(body) - most:,} more bytes" if len(body) > most else ""
    if not cut:
        try:
            laid_out = orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2)
            return clean(laid_out.decode())
        except (ValueError, RecursionError):
            pass
    try:
        text = body[:most].decode("utf-8", errors="ignore" if cut else "strict")
    except UnicodeDecodeError:
        text = body[: most // 4].hex(" ")
    return clean(text) + cut


def request_line(exchange: Exchange) -> str:
    """“GET /api/v2/…”."""
    return line(f"{exchange.method} {exchange.target}")


def answer_line(exchange: Exchange) -> str:
    """“200 in 3.4 ms”, or why none came."""
    took = format_elapsed(exchange.took)
    if exchange.status is None:
        return f"no answer after {took}: {line(exchange.problem) or 'the connection was cut'}"
    return f"{exchange.status} in {took}"


def is_accepted(exchange: Exchange) -> bool:
    """Whether a call was, so that it has changed something."""
    return exchange.status is not None and 200 <= exchange.status < 300


def status_name(status: int) -> str:
    """A status as a column's head."""
    return "none" if status == NO_RESPONSE else str(status)
