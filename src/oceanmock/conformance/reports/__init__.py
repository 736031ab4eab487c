"""Show results in a terminal, and define what every report shows before it is formatted.

The modules of this package render results as HTML, JSON and JUnit XML. Texts are clean (no control character, no lone
surrogate) but not escaped: HTML and XML escape in their own way. In a terminal nothing is markup: a server's response
can neither colour, move nor erase anything. Commands to paste are printed unwrapped.
"""

from __future__ import annotations

import os
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Literal, TextIO

import orjson
from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.rule import Rule as Line
from rich.table import Table
from rich.text import Text

from oceanmock.apis import api_named
from oceanmock.checks import CheckResult, Exchange
from oceanmock.clock import SECOND
from oceanmock.conformance.model import (
    FAILED,
    INCOMPLETE,
    INTERRUPTED,
    NO_RESPONSE,
    PASSED,
    UNTESTABLE,
    CheckFailed,
    Event,
    Listener,
    PhaseEnded,
    PhaseStarted,
    ResponseReceived,
    Result,
    Waiting,
)
from oceanmock.text import escape_unprintable, format_elapsed, plural

MAX_SHOWN_BODY: Final = 16 * 2**10
"""The number of bytes of a body that a report shows."""
MAX_LISTED: Final = 20
"""The number of findings, and of changes, that are printed one by one."""
MAX_SILENCE: Final = 15 * SECOND
"""The longest time without a plain line while requests are sent."""
LOG_WIDTH: Final = 120
"""The width of a summary that does not go to a terminal."""
VERDICTS: Final = {
    PASSED: ("PASSED", "no violations, all required responses observed"),
    FAILED: ("FAILED", "violations that no baseline accepts"),
    UNTESTABLE: ("UNTESTABLE", "the run could not begin"),
    INCOMPLETE: ("INCOMPLETE", "no violations, but required responses were not observed"),
    INTERRUPTED: ("INTERRUPTED", "stopped by Ctrl-C; the findings so far are reported"),
}
"""Exit code → verdict and its meaning."""
COLOURS: Final = {INTERRUPTED: "magenta", FAILED: "red", INCOMPLETE: "yellow", PASSED: "green"}
"""Exit code of a run → colour, the worst first."""
STEP_MARKS: Final = {"passed": ("✓", "green"), "failed": ("✗", "red"), "not reached": ("·", "dim")}


def exit_code(results: Sequence[Result]) -> int:
    """Return the exit code of several runs: that of the worst."""
    return min((item.exit_code for item in results), key=[*COLOURS].index)


def headline(result: Result) -> str:
    """Return the counts of a run, such as `2 findings, 1 known, 2 statuses missing`."""
    failed = sum(step.outcome == "failed" for steps in result.stories.values() for step in steps)
    parts = [
        plural(len(result.findings), "finding"),
        f"{len(result.known):,} known" if result.known else "",
        f"{plural(len(result.missing), 'status', 'statuses')} missing" if result.missing else "",
        f"{plural(failed, 'story step')} failed" if failed else "",
        f"{plural(len(result.stale), 'entry', 'entries')} stale" if result.stale else "",
    ]
    return ", ".join(filter(None, parts))


def mode(result: Result) -> str:
    """Return whether the run could change the target."""
    return "read and write" if result.writes else "read-only"


def phase_times(result: Result) -> str:
    return " · ".join(f"{phase} {format_elapsed(took)}" for phase, took in result.phases.items())


def server_name(result: Result) -> str:
    """Return the API and the target's version, such as `OCP 4.2.2`."""
    return clean(f"{api_named(result.api).title} {result.version}".rstrip())


@dataclass(frozen=True, slots=True)
class Cell:
    """One operation and status: how often it was received, and whether it is required."""

    status: int
    count: int
    is_missing: bool


def matrix(result: Result) -> tuple[list[int], dict[str, list[Cell]]]:
    """Return all statuses, sorted with no response last, and each operation's cells."""
    missing = {(item.operation, item.status) for item in result.missing}
    received = {status for counts in result.statuses.values() for status in +counts}
    statuses = sorted(received | {status for _, status in missing}, key=lambda n: (n == NO_RESPONSE, n))
    cells = {}
    for name in dict.fromkeys([*result.statuses, *(item.operation for item in result.missing)]):
        counts = result.statuses.get(name, Counter())
        cells[name] = [Cell(status, counts[status], (name, status) in missing) for status in statuses]
    return statuses, cells


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
        if self.violations:
            return "violated"
        return "known" if self.known else "passed" if self.checks else "not checked"


def rule_lines(result: Result) -> Iterator[RuleLine]:
    """Yield a line per rule, by id, including rules that only findings name."""
    violations = Counter(item.rule for item in result.findings)
    known = Counter(item.rule for item in result.known)
    for rule in sorted({*result.rules, *violations, *known}):
        count = result.rules.get(rule)
        yield RuleLine(clean(rule), count.looked if count else 0, violations[rule], known[rule])


def grouped(findings: Iterable[CheckResult], key: Callable[[CheckResult], Any]) -> dict[Any, list[CheckResult]]:
    """Return findings by their key, in the order in which the keys occur."""
    groups = defaultdict[Any, list[CheckResult]](list)
    for item in findings:
        groups[key(item)].append(item)
    return groups


def is_accepted(exchange: Exchange) -> bool:
    """Return whether a request succeeded, so that it changed the target."""
    return exchange.status is not None and 200 <= exchange.status < 300


def clean(text: str) -> str:
    r"""Return a text whose unprintable characters are spelled out, such as ``\x1b``, but for spaces and line breaks."""
    return "".join(c if c.isprintable() or c in "\t\n\r\xa0\u3000" else ascii(c)[1:-1] for c in text)


def body_text(body: bytes, limit: int = MAX_SHOWN_BODY) -> str:
    """Return a body for reading: its indented JSON, else its text, else its bytes in hex."""
    cut = f"\n… {len(body) - limit:,} more bytes" if len(body) > limit else ""
    if not cut:
        try:
            return clean(orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode())
        except (ValueError, RecursionError):
            pass
    try:
        text = body[:limit].decode("utf-8", errors="ignore" if cut else "strict")
    except UnicodeDecodeError:
        text = body[: limit // 4].hex(" ")
    return clean(text) + cut


def request_line(exchange: Exchange) -> str:
    """Return `GET /api/v2/…`."""
    return escape_unprintable(f"{exchange.method} {exchange.target}")


def response_line(exchange: Exchange) -> str:
    """Return `200 in 3.4 ms`, or why there is no response."""
    took = format_elapsed(exchange.took)
    if exchange.status is None:
        return f"no response after {took}: {escape_unprintable(exchange.problem) or 'the connection was cut'}"
    return f"{exchange.status} in {took}"


def finding_line(finding: CheckResult) -> str:
    """Return where a finding is and what it is."""
    return f"{finding.breadcrumb}: {finding.message}"


def status_name(status: int) -> str:
    """Return a status as the head of a column."""
    return "none" if status == NO_RESPONSE else str(status)


# --- in a terminal ------------------------------------------------------------------------------------------------


def console_of(file: TextIO) -> Console:
    """Return a console that writes to a file."""
    has_width = file.isatty() or "COLUMNS" in os.environ
    return Console(file=file, highlight=False, width=None if has_width else LOG_WIDTH)


def print_results(results: Sequence[Result], console: Console) -> None:
    """Print the summary of each run, and what the exit code means."""
    for result in results:
        title = Text(f"{server_name(result)} at {escape_unprintable(result.target)}", style="bold")
        parts: list[RenderableType] = [Line(title, style="dim", align="left", characters="─"), Text()]
        for section in (_matrix, _rules, _findings, _stories, _baselines, _missing, _changes, _outcome):
            lines = list(section(result))
            parts += [*lines, Text()] if lines else []
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, Text), highlight=False)
    code = exit_code(results)
    word, meaning = VERDICTS[code]
    verdict = Text.assemble((word, f"bold {COLOURS[code]}"), f" (exit code {code}): {meaning}.")
    console.print(verdict, soft_wrap=True, highlight=False)


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: int = 0) -> Table:
    """Return a table whose last columns are numbers."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    table.title, table.title_style, table.title_justify = title, "bold", "left"
    for place, head in enumerate(heads):
        is_number = place >= len(heads) - numbers
        table.add_column(head, justify="right" if is_number else "left", no_wrap=is_number)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else _text(cell) for cell in row))
    return table


def _text(text: object, style: str = "") -> Text:
    return Text(escape_unprintable(str(text)), style=style)


def _matrix(result: Result) -> Iterator[RenderableType]:
    statuses, operations = matrix(result)
    rows = []
    for name, cells in operations.items():
        gaps = (Text("missing", style="yellow") if cell.is_missing else Text("·", style="dim") for cell in cells)
        rows.append([name, *(f"{cell.count:,}" if cell.count else gap for cell, gap in zip(cells, gaps, strict=True))])
    heads = ["operation", *map(status_name, statuses)]
    yield _table("Operations × statuses", heads, rows, numbers=len(statuses))


def _rules(result: Result) -> Iterator[RenderableType]:
    styles = {"violated": "red", "not checked": "dim"}
    rows = []
    for item in rule_lines(result):
        rule, checks = _text(item.rule, styles.get(item.outcome, "")), f"{item.checks:,}" if item.checks else "never"
        rows.append((rule, checks, item.violations or "·", item.known or "·"))
    yield _table("Rules", ("rule", "checks", "violations", "known"), rows, numbers=3)


def _findings(result: Result) -> Iterator[RenderableType]:
    if not result.findings:
        return
    yield Text(f"Findings ({len(result.findings):,})", style="bold red")
    for number, finding in enumerate(result.findings[:MAX_LISTED], 1):
        rule, where = _text(finding.rule, "bold"), _text(finding.breadcrumb, "cyan")
        yield Text.assemble(f"  {number}. ", rule, "  ", where)
        yield Text.assemble("     ", _text(finding.message))
        yield Text.assemble("     ", _text(f"source: {finding.source}", "dim"))
        for command_line in clean(finding.curl).splitlines():
            yield Text(f"     {command_line}", style="dim")
    rest = Counter(item.rule for item in result.findings[MAX_LISTED:])
    if rest:
        yield Text(f"  … and {rest.total():,} more, in the reports: {_times(rest)}")


def _times(counts: Counter[str]) -> str:
    return ", ".join(f"{escape_unprintable(name)} ×{count:,}" for name, count in counts.most_common())


def _stories(result: Result) -> Iterator[RenderableType]:
    for number, (name, steps) in enumerate(result.stories.items()):
        if number:
            yield Text()
        yield Text.assemble(("Story ", "bold"), _text(name, "bold"))
        for step in steps:
            mark, style = STEP_MARKS[step.outcome]
            took = f" in {format_elapsed(step.took)}" if step.took else ""
            detail = f": {step.detail}" if step.detail else ""
            text = _text(f"{step.text} ({step.outcome}{took}){detail}")
            yield Text.assemble(f"  {mark} ", text, style=style)


def _baselines(result: Result) -> Iterator[RenderableType]:
    """Yield the known deviations, and the stale entries."""
    if result.known:
        rows = []
        for (rule, reason), matches in grouped(result.known, lambda item: (item.rule, item.known)).items():
            operations = {item.operation or "no operation" for item in matches}
            rows.append((rule, *(operations if len(operations) == 1 else [f"{len(operations)} operations"]), reason))
        where = escape_unprintable(", ".join(result.baselines))
        title = f"Known deviations ({len(result.known):,}), accepted by {where}"
        yield _table(title, ("rule", "operations", "reason"), rows)
    if result.known and result.stale:
        yield Text()
    if result.stale:
        stale = ((item.rule, item.operation, item.reason) for item in result.stale)
        yield _table("Stale: baseline entries that did not occur", ("rule", "operation", "reason"), stale)


def _missing(result: Result) -> Iterator[RenderableType]:
    if result.missing:
        title = "Missing: required responses that were not observed"
        rows = ((item.operation, item.status, item.hint) for item in result.missing)
        yield _table(title, ("operation", "status", "how to observe it"), rows)


def _changes(result: Result) -> Iterator[RenderableType]:
    if not result.changes:
        return
    accepted = [item for item in result.changes if is_accepted(item)]
    total = plural(len(result.changes), "request")
    yield Text(f"Changes made ({len(accepted):,} of {total} accepted)", style="bold")
    for item in accepted[:MAX_LISTED]:
        yield Text(f"  {request_line(item)} → {response_line(item)}")
    if len(accepted) > MAX_LISTED:
        yield Text(f"  … and {len(accepted) - MAX_LISTED:,} more, in the reports")
    kinds = Counter(item.operation or "no operation" for item in result.changes)
    yield Text.assemble(("  requests: ", "dim"), _times(kinds))


def _outcome(result: Result) -> Iterator[RenderableType]:
    rows = (
        ("found", headline(result)),
        ("sent", f"{plural(result.request_count, 'request')} in {format_elapsed(result.took)}"),
        ("phases", phase_times(result)),
        ("mode", f"{mode(result)}, seed {result.seed}"),
        ("repeat", result.command),
    )
    for name, value in rows:
        if value:
            yield Text.assemble((f"{name:<8}", "dim"), _text(value))


# --- progress -----------------------------------------------------------------------------------------------------


@contextmanager
def show_progress(
    console: Console, *, stopwatch: Callable[[], int], reason_for: Callable[[CheckResult], str]
) -> Iterator[Listener]:
    """Yield a listener that shows the events of a run, and that ends it at the first response after Ctrl-C.

    ``reason_for`` returns why a finding is accepted, or "". The KeyboardInterrupt alone may get lost: schemathesis
    catches what its threads raise.
    """
    is_stopped = False

    def stop(*_: object) -> None:
        nonlocal is_stopped
        is_stopped = True
        raise KeyboardInterrupt

    def listen(event: Event) -> None:
        display(event)
        if is_stopped and isinstance(event, ResponseReceived):
            raise KeyboardInterrupt

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[counts]}", markup=False),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
    display = _Display(console, bar, stopwatch, reason_for)
    previous = signal.signal(signal.SIGINT, stop)
    try:
        with bar or nullcontext(), closing(display):
            yield listen
    finally:
        signal.signal(signal.SIGINT, previous)


class _Display:
    """Show a bar for the current phase; without one, print a line per phase, and one after a long silence.

    New findings are printed in either case. A phase that follows itself, as that of several stories does, is one.
    """

    def __init__(
        self,
        console: Console,
        bar: Progress | None,
        stopwatch: Callable[[], int],
        reason_for: Callable[[CheckResult], str],
    ) -> None:
        self._console, self._bar, self._stopwatch, self._reason_for = console, bar, stopwatch, reason_for
        self._task = TaskID(0)
        self._requests = self._findings = self._known = 0
        self._phase = self._reason_to_wait = ""
        self._started = self._ended = self._written = stopwatch()

    def __call__(self, event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase != self._phase:
            self.close()
            self._phase = event.phase
            self._requests = self._findings = self._known = 0
            self._started = self._ended = self._written = self._stopwatch()
            if self._bar is not None:
                self._task = self._bar.add_task(event.phase, total=None, counts="")
        elif isinstance(event, PhaseEnded):
            self._ended = self._stopwatch()
        elif isinstance(event, CheckFailed) and self._reason_for(event.finding):
            self._known += 1
        elif isinstance(event, CheckFailed):
            self._findings += 1
            self._write(f"found {event.finding.rule}: {finding_line(event.finding)}", style="red")
        elif isinstance(event, ResponseReceived):
            self._requests += 1
        if self._bar is not None and self._phase:
            counts = self._counts()
            if isinstance(event, Waiting):
                counts = f"{escape_unprintable(event.why)}; {format_elapsed(event.left)} more"
            self._bar.update(self._task, advance=isinstance(event, ResponseReceived), counts=counts)
        elif isinstance(event, Waiting) and event.why != self._reason_to_wait:
            self._reason_to_wait = event.why
            self._write(f"waiting for {event.url}: {event.why}")
        elif isinstance(event, ResponseReceived) and self._stopwatch() - self._written > MAX_SILENCE:
            took = format_elapsed(self._stopwatch() - self._started)
            self._write(f"{self._phase}: {self._counts()} so far, in {took}")

    def close(self) -> None:
        """Remove the bar of the last phase, or print its counts."""
        if self._phase and self._bar is not None:
            self._bar.remove_task(self._task)
        elif self._phase:
            self._write(f"{self._phase}: {self._counts()} in {format_elapsed(self._ended - self._started)}")
        self._phase = ""

    def _counts(self) -> str:
        known = f", {self._known:,} known" if self._known else ""
        return f"{plural(self._requests, 'request')}, {plural(self._findings, 'finding')}{known}"

    def _write(self, text: str, style: str = "") -> None:
        self._written = self._stopwatch()
        self._console.print(_text(text, style), soft_wrap=True, highlight=False)
