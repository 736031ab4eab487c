"""Show a run in a terminal: its progress while it runs, on stderr, and the summary of its results.

Nothing is markup: a server's response can neither colour, move nor erase anything. Commands to
paste are printed unwrapped. Progress is a bar on a terminal, and plain lines anywhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.rule import Rule as Line
from rich.table import Table
from rich.text import Text

from oceanmock.checks import CheckResult
from oceanmock.clock import SECOND
from oceanmock.conformance import reports
from oceanmock.conformance.model import (
    FAILED,
    INCOMPLETE,
    INTERRUPTED,
    PASSED,
    CheckFailed,
    Event,
    Listener,
    PhaseEnded,
    PhaseStarted,
    ResponseReceived,
    Result,
    Waiting,
)
from oceanmock.text import format_elapsed, plural

MAX_LISTED: Final = 20
"""The number of findings, and of changes, that are printed one by one."""
MAX_SILENCE: Final = 15 * SECOND
"""The longest time without a plain line while requests are sent."""
COLOURS: Final = {PASSED: "green", FAILED: "red", INCOMPLETE: "yellow", INTERRUPTED: "magenta"}
STEP_MARKS: Final = {"passed": ("✓", "green"), "failed": ("✗", "red"), "not reached": ("·", "dim")}

# --- summary --------------------------------------------------------------------------------------


def print_results(results: Sequence[Result], console: Console) -> None:
    """Print the summary of each run, and what the exit code means."""
    for result in results:
        for part in _parts(result):
            console.print(part, soft_wrap=isinstance(part, Text), highlight=False)
    code = reports.exit_code(results)
    word, meaning = reports.VERDICTS[code]
    verdict = Text.assemble((word, f"bold {COLOURS[code]}"), f" (exit code {code}): {meaning}.")
    console.print(verdict, soft_wrap=True, highlight=False)


def _parts(result: Result) -> Iterator[RenderableType]:
    """Yield the sections of a run's summary, each followed by an empty line."""
    name = f"{reports.server_name(result)} at {reports.line(result.target)}"
    yield Line(Text(name, style="bold"), style="dim", align="left", characters="─")
    yield Text()
    for section in (_matrix, _rules, _findings, _stories, _baselines, _missing, _changes, _outcome):
        parts = list(section(result))
        if parts:
            yield from parts
            yield Text()


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
    return Text(reports.line(str(text)), style=style)


def _matrix(result: Result) -> Iterator[RenderableType]:
    statuses, operations = reports.matrix(result)
    heads = ["operation", *map(reports.status_name, statuses)]
    rows = ([name, *map(_cell, cells)] for name, cells in operations.items())
    yield _table("Operations × statuses", heads, rows, numbers=len(statuses))


def _cell(cell: reports.Cell) -> Text:
    if cell.count:
        return Text(f"{cell.count:,}")
    return Text("missing", style="yellow") if cell.is_missing else Text("·", style="dim")


def _rules(result: Result) -> Iterator[RenderableType]:
    styles = {"violated": "red", "not checked": "dim"}
    rows = (
        (
            _text(item.rule, styles.get(item.outcome, "")),
            f"{item.checks:,}" if item.checks else "never",
            item.violations or "·",
            item.known or "·",
        )
        for item in reports.rule_lines(result)
    )
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
        for command_line in reports.clean(finding.curl).splitlines():
            yield Text(f"     {command_line}", style="dim")
    rest = Counter(item.rule for item in result.findings[MAX_LISTED:])
    if rest:
        yield Text(f"  … and {rest.total():,} more, in the reports: {_times(rest)}")


def _times(counts: Counter[str]) -> str:
    return ", ".join(f"{reports.line(name)} ×{count:,}" for name, count in counts.most_common())


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
        grouped: dict[tuple[str, str], dict[str, None]] = {}
        for item in result.known:
            operations = grouped.setdefault((item.rule, item.known), {})
            operations[item.operation or "no operation"] = None
        rows = (
            (rule, *(names if len(names) == 1 else (f"{len(names)} operations",)), reason)
            for (rule, reason), names in grouped.items()
        )
        where = reports.line(", ".join(result.baselines))
        title = f"Known deviations ({len(result.known):,}), accepted by {where}"
        yield _table(title, ("rule", "operations", "reason"), rows)
    if result.known and result.stale:
        yield Text()
    if result.stale:
        title = "Stale: baseline entries that did not occur"
        rows = ((item.rule, item.operation, item.reason) for item in result.stale)
        yield _table(title, ("rule", "operation", "reason"), rows)


def _missing(result: Result) -> Iterator[RenderableType]:
    if result.missing:
        title = "Missing: required responses that were not observed"
        rows = ((item.operation, item.status, item.hint) for item in result.missing)
        yield _table(title, ("operation", "status", "how to observe it"), rows)


def _changes(result: Result) -> Iterator[RenderableType]:
    if not result.changes:
        return
    accepted = [item for item in result.changes if reports.is_accepted(item)]
    total = plural(len(result.changes), "request")
    yield Text(f"Changes made ({len(accepted):,} of {total} accepted)", style="bold")
    for item in accepted[:MAX_LISTED]:
        yield Text(f"  {reports.request_line(item)} → {reports.response_line(item)}")
    if len(accepted) > MAX_LISTED:
        yield Text(f"  … and {len(accepted) - MAX_LISTED:,} more, in the reports")
    kinds = Counter(item.operation or "no operation" for item in result.changes)
    yield Text.assemble(("  requests: ", "dim"), _times(kinds))


def _outcome(result: Result) -> Iterator[RenderableType]:
    phases = " · ".join(f"{name} {format_elapsed(took)}" for name, took in result.phases.items())
    rows = (
        ("found", reports.headline(result)),
        ("sent", f"{plural(result.asked, 'request')} in {format_elapsed(result.took)}"),
        ("phases", phases),
        ("mode", f"{reports.mode(result)}, seed {result.seed}"),
        ("repeat", result.command),
    )
    for name, value in rows:
        if value:
            yield Text.assemble((f"{name:<8}", "dim"), _text(value))


# --- progress -------------------------------------------------------------------------------------


@contextmanager
def show_progress(
    console: Console, *, stopwatch: Callable[[], int], reason_for: Callable[[CheckResult], str]
) -> Iterator[Listener]:
    """Yield a listener that shows the events of a run.

    ``reason_for`` returns why a finding is accepted, or "".
    """
    if not console.is_terminal:
        lines = _Lines(console, reason_for, stopwatch)
        try:
            yield lines
        finally:
            lines.end()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[counts]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar, reason_for)


class _Display:
    """The counts of one phase, and what every display of progress does with an event."""

    def __init__(self, console: Console, reason_for: Callable[[CheckResult], str]) -> None:
        self._console = console
        self._reason_for = reason_for
        self._requests = self._findings = self._known = 0

    def _counts(self) -> str:
        known = f", {self._known:,} known" if self._known else ""
        return f"{plural(self._requests, 'request')}, {plural(self._findings, 'finding')}{known}"

    def _start_counts(self) -> None:
        self._requests = self._findings = self._known = 0

    def _count(self, event: Event) -> None:
        """Count an event, and print it if it is a new finding."""
        if isinstance(event, ResponseReceived):
            self._requests += 1
        elif isinstance(event, CheckFailed) and self._reason_for(event.finding):
            self._known += 1
        elif isinstance(event, CheckFailed):
            self._findings += 1
            finding = event.finding
            self._write(f"found {finding.rule}: {reports.finding_line(finding)}", style="red")

    def _write(self, text: str, style: str = "") -> None:
        self._console.print(_text(text, style), soft_wrap=True, highlight=False)


class _Lines(_Display):
    """Print a line per phase, new finding and cause of waiting, and one after a long silence.

    A phase that follows itself, as that of several stories does, is one.
    """

    def __init__(
        self, console: Console, reason_for: Callable[[CheckResult], str], stopwatch: Callable[[], int]
    ) -> None:
        super().__init__(console, reason_for)
        self._stopwatch = stopwatch
        self._phase = self._reason_to_wait = ""
        self._started = self._ended = self._written = stopwatch()

    def __call__(self, event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase != self._phase:
            self.end()
            self._start_counts()
            self._phase = event.phase
            self._started = self._ended = self._written = self._stopwatch()
        self._count(event)
        if isinstance(event, Waiting) and event.why != self._reason_to_wait:
            self._reason_to_wait = event.why
            self._write(f"waiting for {event.url}: {event.why}")
        elif isinstance(event, PhaseEnded):
            self._ended = self._stopwatch()
        elif isinstance(event, ResponseReceived) and self._stopwatch() - self._written > MAX_SILENCE:
            took = format_elapsed(self._stopwatch() - self._started)
            self._write(f"{self._phase}: {self._counts()} so far, in {took}")

    def end(self) -> None:
        """Print the counts of the last phase."""
        if self._phase:
            took = format_elapsed(self._ended - self._started)
            self._write(f"{self._phase}: {self._counts()} in {took}")
            self._phase = ""

    def _write(self, text: str, style: str = "") -> None:
        self._written = self._stopwatch()
        super()._write(text)


class _Bar(_Display):
    """Show a bar for the current phase; findings are printed above it."""

    def __init__(self, bar: Progress, reason_for: Callable[[CheckResult], str]) -> None:
        super().__init__(bar.console, reason_for)
        self._bar = bar
        self._task: TaskID | None = None

    def __call__(self, event: Event) -> None:
        self._count(event)
        if isinstance(event, PhaseStarted | PhaseEnded) and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        if isinstance(event, PhaseStarted):
            self._start_counts()
            self._task = self._bar.add_task(event.phase, total=None, counts="")
        elif isinstance(event, Waiting):
            if self._task is None:
                name = f"waiting for {reports.line(event.url)}"
                self._task = self._bar.add_task(name, total=None, counts="")
            counts = f"{reports.line(event.why)}; {format_elapsed(event.left)} more"
            self._bar.update(self._task, counts=counts)
        elif self._task is not None:
            advance = 1 if isinstance(event, ResponseReceived) else 0
            self._bar.update(self._task, advance=advance, counts=self._counts())
