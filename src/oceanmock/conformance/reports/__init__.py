"""Compute what several reports show: the verdict, the causes of findings, counts and state diagrams.

The modules of this package print results in a terminal and render them as HTML, JSON, JUnit XML, SARIF and GitHub's
annotations. Texts are clean (no control character, no lone surrogate), but each format must still escape them.
"""

from __future__ import annotations

import re
from cmath import phase
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import degrees
from operator import attrgetter
from typing import Any, Final, Literal

import orjson

from oceanmock.apis import api_named
from oceanmock.checks import CheckResult, Exchange, fields_of, folded
from oceanmock.conformance import FAILED, INCOMPLETE, INTERRUPTED, NO_RESPONSE, PASSED, Result
from oceanmock.engine.machine import StateMachine, format_label, parse_label, reachable
from oceanmock.observations import requested_operation
from oceanmock.text import escape_unprintable, format_elapsed, one_line, plural, shorten

MARK: Final = "__the-member-that-is-marked__"
MAX_SHOWN_BODY: Final = 16 * 2**10
VERDICTS: Final = {
    PASSED: ("PASSED", "no violations, all required responses observed", "green"),
    INCOMPLETE: ("INCOMPLETE", "no violations, but required responses were not observed", "yellow"),
    FAILED: ("FAILED", "violations that no baseline accepts", "red"),
    INTERRUPTED: ("INTERRUPTED", "stopped before its end; the findings so far are reported", "magenta"),
}
"""Exit code of a run → verdict, its meaning and its colour; the worst last."""


def worst_last(results: Iterable[Result]) -> list[Result]:
    """Return runs sorted by verdict, so that the last one has the verdict of all."""
    return sorted(results, key=lambda result: [*VERDICTS].index(result.exit_code))


def headline(result: Result) -> str:
    """Return the counts of a run, such as `2 findings, 1 known, 2 statuses missing`."""
    failed = sum(step.outcome == "failed" for steps in result.stories.values() for step in steps)
    parts = [plural(len(result.findings), "finding")]
    parts += [f"{len(result.known):,} known"] if result.known else []
    parts += [f"{plural(len(result.missing), 'status', 'statuses')} missing"] if result.missing else []
    parts += [f"{plural(failed, 'story step')} failed"] if failed else []
    parts += [f"{plural(len(result.stale), 'entry', 'entries')} stale"] if result.stale else []
    return ", ".join(parts)


def observed(result: Result) -> dict[str, tuple[int, int]]:
    """Return the counts and totals of the operations that had a 2xx response, and of the observed transitions.

    Transitions are those of tasks or dags, without those that need a switch of a scenario.
    """
    root = diagrams_of(result)[0]
    succeeded = [any(status in range(200, 300) for status in +counts) for counts in result.statuses.values()]
    return {"operations": (sum(succeeded), len(succeeded)), "transitions": (root.observed, root.total)}


def scope(result: Result) -> str:
    """Return what a run observed, such as `read-only: 3 of 8 operations, 0 of 12 transitions`."""
    counts = ", ".join(f"{count} of {plural(total, name[:-1])}" for name, (count, total) in observed(result).items())
    return f"{mode(result)}: {counts}"


def mode(result: Result) -> str:
    """Return whether the run could change the target."""
    return "passive" if "passive" in result.phases else "read and write" if result.writes else "read-only"


def phase_times(result: Result) -> str:
    return " · ".join(f"{phase} {format_elapsed(took)}" for phase, took in result.phases.items())


def server_name(result: Result) -> str:
    """Return the API and the target's version, such as `OCP 4.2.2`."""
    return clean(f"{api_named(result.api).title} {result.version}".rstrip())


def statuses_by_operation(result: Result) -> dict[str, tuple[Counter[int], dict[int, str]]]:
    """Return how often each operation had each status, and its missing statuses with their hints."""
    rows = {name: (+counts, dict[int, str]()) for name, counts in result.statuses.items()}
    for item in result.missing:
        rows.setdefault(item.operation, (Counter(), {}))[1][item.status] = item.hint
    return rows


def columns(rows: Mapping[str, tuple[Counter[int], dict[int, str]]]) -> list[int]:
    """Return every status of ``statuses_by_operation`` in order; NO_RESPONSE is the last."""
    statuses = {status for counts, missing in rows.values() for status in (*counts, *missing)}
    return sorted(statuses, key=lambda status: (status == NO_RESPONSE, status))


@dataclass(frozen=True, slots=True)
class RuleLine:
    """The counts of one rule; ``violations`` are findings that no baseline accepts."""

    rule: str
    checks: int
    violations: int
    known: int

    @property
    def outcome(self) -> Literal["violated", "known", "passed", "not checked"]:
        """Return the worst that happened."""
        if self.violations or self.known:
            return "violated" if self.violations else "known"
        return "passed" if self.checks else "not checked"


def rule_lines(result: Result, rules: Iterable[str] = ()) -> Iterator[RuleLine]:
    """Yield a line per rule, sorted by id: the rules that were checked or violated, and those of ``rules``."""
    violations = Counter(item.rule for item in result.findings)
    known = Counter(item.rule for item in result.known)
    checks = result.rules
    for rule in sorted({*checks, *violations, *known, *rules}):
        yield RuleLine(clean(rule), checks[rule], violations[rule], known[rule])


def grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    """Return findings, or moves, by their key, in the order in which the keys occur."""
    groups = defaultdict[Any, list[Any]](list)
    for item in items:
        groups[key(item)].append(item)
    return groups


Severity = Literal["error", "warning", "note"]
SEVERITIES: Final[Mapping[str, Severity]] = {
    **dict.fromkeys(("content-type", "error", "header", "hostile", "id.spelling", "schemathesis"), "warning"),
    **dict.fromkeys(("envelope.duration", "envelope.trace-id", "envelope.went-back"), "warning"),
    "schemathesis.unfinished": "note",
}
"""Rule or family → severity, if it is no error, since clients work in spite of it."""
_VALUE: Final = re.compile(r"b?'(?:[^'\\]|\\.)*'|b?\"(?:[^\"\\]|\\.)*\"|[-+.:\w]*[0-9][-+.:\w]*")
"""A quoted value, or a word with a digit, in a message."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Findings that differ only in their place and values, such as the same wrong format of all times.

    ``first`` is their example; ``title`` is its rule, and the number of findings if there are several. ``places``
    counts them by breadcrumb, without indices.
    """

    findings: Sequence[CheckResult]
    first: CheckResult
    title: str
    severity: Severity
    weight: str
    operations: list[str]
    places: Counter[str]


def causes(findings: Iterable[CheckResult], api: str) -> list[Cause]:
    """Return the causes of findings, sorted by severity, then by the weight of their source.

    Findings have the same cause if rule and message are equal, apart from values; for schema rules, rule and member.
    """

    def key(item: CheckResult) -> tuple[str, str]:
        member = re.split(r"[.\]]", folded(item.path).replace("[*]", ""))[-1]
        if item.rule.startswith("schema."):
            return item.rule, member
        text = item.message.replace(item.path, "…") if item.path else item.message
        text = text.replace(member, "…") if member.isidentifier() else text
        return item.rule, _VALUE.sub("…", text)

    weights = api_named(api).conformance.weights
    found = []
    for (rule, _), group in grouped(findings, key).items():
        title = rule + (f" × {len(group):,}" if len(group) > 1 else "")
        severity = SEVERITIES.get(rule, SEVERITIES.get(rule.partition(".")[0], "error"))
        weight = next((weight for name, weight in weights.items() if name in group[0].source), "document")
        operations = sorted({item.operation or "no operation" for item in group})
        places = Counter(folded(item.breadcrumb) for item in group)
        found.append(Cause(group, group[0], title, severity, weight, operations, places))
    order = ("error", "warning", "note", "document", "code", "sibling")
    return sorted(found, key=lambda cause: (order.index(cause.severity), order.index(cause.weight)))


def is_accepted(exchange: Exchange) -> bool:
    """Return whether a request succeeded, so that it changed the target."""
    return exchange.status in range(200, 300)


def clean(text: str) -> str:
    r"""Return a text whose unprintable characters are spelled out, such as ``\x1b``, but for spaces and line breaks."""
    return "".join(c if c.isprintable() or c in "\t\n\r\xa0\u3000" else ascii(c)[1:-1] for c in text)


def latencies(result: Result) -> dict[str, tuple[int, ...]]:
    """Return the median, the 95th percentile and the longest time to a response, by operation that was timed."""
    return {
        name: tuple(sorted(spans)[min(len(spans) * share // 100, len(spans) - 1)] for share in (50, 95, 100))
        for name, spans in result.latencies.items()
        if spans
    }


def marked_body(body: bytes, path: str) -> tuple[str, str, str]:
    """Return a readable body in three parts: before the member at a JSON path, the member, and after it.

    If there is no such member, the first part is the whole body.
    """
    members = re.findall(r"\.?([^.\[\]]+)|\[([0-9]+)\]", path.removeprefix("$"))
    *above, last = [int(index) if index else key for key, index in members] or [""]
    with suppress(LookupError, TypeError, ValueError):
        data = parent = orjson.loads(body if len(body) <= MAX_SHOWN_BODY else b"")
        for key in above:
            parent = parent[key]
        member, parent[last] = parent[last], MARK
        before, after = body_text(orjson.dumps(data)).split(f'"{MARK}"')
        indent = " " * (2 * len(above) + 2)
        return before, body_text(orjson.dumps(member)).replace("\n", f"\n{indent}"), after
    return body_text(body), "", ""


def body_text(body: bytes, limit: int = MAX_SHOWN_BODY) -> str:
    """Return a readable body: indented JSON, else text, else bytes in hex."""
    cut = f"\n… {len(body) - limit:,} more bytes" if len(body) > limit else ""
    with suppress(ValueError, RecursionError):
        if not cut:
            return clean(orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode())
    try:
        text = body[:limit].decode("utf-8", errors="ignore" if cut else "strict")
    except UnicodeDecodeError:
        text = body[: limit // 4].hex(" ")
    return clean(text) + cut


def request_line(exchange: Exchange) -> str:
    """Return `GET /api/v2/…`."""
    return escape_unprintable(f"{exchange.method} {exchange.target}")


def change_line(exchange: Exchange, api: str) -> str:
    """Return a request with its operation, such as `dag.PASS: POST /api/v1/task/dag/7`."""
    name = requested_operation(api_named(api), exchange.operation, fields_of(exchange.request_body))
    return f"{escape_unprintable(name)}: {request_line(exchange)}" if name else request_line(exchange)


def left_lines(result: Result) -> list[str]:
    """Return a line on the last state of each task or dag that the run could change."""
    noun = api_named(result.api).root.name
    return [f"left: {noun} {id}: {state}" for id, state in result.left.items()]


def response_line(exchange: Exchange) -> str:
    """Return `200 in 3.4 ms`, or why there is no response."""
    took = format_elapsed(exchange.took)
    if exchange.status is None:
        return f"no response after {took}: {escape_unprintable(exchange.problem) or 'the connection was cut'}"
    return f"{exchange.status} in {took}"


def finding_line(finding: CheckResult) -> str:
    """Return the place and the message of a finding."""
    return f"{finding.breadcrumb}: {finding.message}"


def both_lines(finding: CheckResult) -> list[str]:
    """Return lines on the member in the earlier response and in this one, if a finding compares two."""
    if finding.earlier is None or finding.exchange is None:
        return []
    return [
        f"request {item.number:,}: {request_line(item)} → {item.status}: {path} = {shorten(one_line(member), 120)}"
        for item, path in (finding.earlier, (finding.exchange, finding.path))
        for member in [marked_body(item.response_body, path)[1] or "absent"]
    ]


def status_name(status: int) -> str:
    """Return a status as the head of a column."""
    return "none" if status == NO_RESPONSE else str(status)


BOX: Final = complex(124, 44)
COLUMN: Final = 150
MARGIN: Final = 16
PORT: Final = complex(24, -BOX.imag / 2)  # where an edge leaves a box
MAX_UNKNOWN_STATES: Final = 6
EDGE_STYLES: Final = ("leap", "unseen", "seen", "odd")
"""The order of drawing: the important edges last, so that they are on top."""


@dataclass(frozen=True, slots=True)
class Move:
    """A change between two labels; ``triggers`` is empty if it is no single transition."""

    before: str
    after: str
    triggers: tuple[str, ...]
    count: int
    is_odd: bool

    @property
    def states(self) -> tuple[str, str]:
        """Return the states, without the operations."""
        return self.before.partition("/")[0], self.after.partition("/")[0]

    @property
    def cause(self) -> str:
        """Return the triggers of the change, or a text if there are none."""
        return "cannot follow" if self.is_odd else ", ".join(self.triggers) or "several transitions"


@dataclass(frozen=True, slots=True)
class Edge:
    """All moves between the states of two columns, drawn as an arc: above the boxes forwards, below them backwards.

    ``curve`` has the start, the control point and the end of a quadratic curve, ``middle`` is its point that is
    farthest from the boxes, and ``angle`` the direction of its tip in degrees.
    """

    moves: Sequence[Move]
    count: int
    style: str
    curve: tuple[complex, complex, complex]
    middle: complex
    angle: float


@dataclass(frozen=True, slots=True)
class Diagram:
    """The state diagram of one kind: how often each state was observed, and every change.

    It is a row of boxes, the ``columns``, with ``edges`` between them in their order of drawing. Points are complex
    numbers: x and y, y downwards. ``frame`` is x, y, width and height of the drawing. ``observed`` and ``total`` count
    transitions of the state machine, ``known`` are the states of the contract.
    """

    kind: str
    states: Mapping[str, int]
    known: Sequence[str]
    moves: Sequence[Move]
    columns: Sequence[str]
    edges: Sequence[Edge]
    frame: tuple[int, int, int, int]
    observed: int
    total: int


def diagrams_of(result: Result) -> list[Diagram]:
    """Return a diagram per kind of the API, then one for any other kind in the result."""
    api, diagrams = api_named(result.api), []
    for name in dict.fromkeys([*api.states.MACHINES, *(kind for kind, _, _ in result.transitions)]):
        moves = _moves(result, name, api.states.MACHINES.get(name))
        states = Counter({state: 0 for move in moves for state in move.states})
        for (kind, label), count in result.labels.items():
            if kind == name:
                states[label.partition("/")[0]] += count
        record = next((item for item in api.kinds if item.name == name), None)
        known, terminal = (record.states, record.terminal_states) if record else ((), ())
        # running states, then terminal ones, then those unknown to the contract
        columns = sorted((state for state in known if state in states), key=lambda state: state in terminal)
        columns += [state for state in states if state not in columns][:MAX_UNKNOWN_STATES]
        groups = grouped((move for move in moves if {*columns} >= {*move.states}), attrgetter("states"))
        edges = [_edge(group, *map(columns.index, pair)) for pair, group in groups.items()]
        edges.sort(key=lambda edge: (EDGE_STYLES.index(edge.style), edge.count))
        ys = [BOX.imag / 2, -BOX.imag / 2, *(edge.middle.imag for edge in edges)]
        x, y = -int(BOX.real / 2) - MARGIN, int(min(ys)) - MARGIN
        frame = x, y, len(columns) * COLUMN + 2 * MARGIN, int(max(ys)) + MARGIN - y
        counts = [move.count for move in moves if move.triggers]
        observed = sum(count > 0 for count in counts)
        diagrams.append(Diagram(name, states, known, moves, columns, edges, frame, observed, len(counts)))
    return diagrams


def _moves(result: Result, kind: str, machine: StateMachine | None) -> list[Move]:
    """Return the changes of a kind: those of its state machine, then others that were observed."""
    counts = Counter({(b, a): n for (k, b, a), n in result.transitions.items() if k == kind and b != a})
    triggers: dict[tuple[str, str], list[str]] = {}
    for item in machine.transitions if machine else ():
        pair = format_label(item.before), format_label(item.after)
        if not item.only or pair in counts:  # one that needs a switch is drawn only if observed
            triggers.setdefault(pair, []).append(item.trigger)
    moves = []
    for before, after in dict.fromkeys([*triggers, *sorted(counts)]):
        is_odd = machine is None or "/" not in before or "/" not in after
        if machine is not None and not is_odd:
            is_odd = parse_label(after) not in reachable(machine, parse_label(before))
        causes = tuple(dict.fromkeys(triggers.get((before, after), ())))
        moves.append(Move(before, after, causes, counts[before, after], is_odd))
    return moves


def _edge(moves: Sequence[Move], before: int, after: int) -> Edge:
    """Return the edge from one column to another."""
    count = sum(move.count for move in moves)
    side = 1 if after >= before else -1
    style = ("seen" if count else "unseen") if any(move.triggers for move in moves) else "leap"
    style = "odd" if any(move.is_odd for move in moves) else style
    start, end = before * COLUMN + side * PORT, after * COLUMN - side * PORT.conjugate()
    control = (start + end) / 2 - side * 1j * (30 + 44 * abs(after - before))
    middle = (start + 2 * control + end) / 4
    return Edge(moves, count, style, (start, control, end), middle, degrees(phase(end - control)))
