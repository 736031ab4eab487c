"""What a run says while it runs: a line that lives on a terminal, plain lines anywhere else.

It goes to stderr, so that what is printed at the end can be kept apart. Spans come from the
machine's stopwatch, given from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from oceanmock.checks import CheckResult
from oceanmock.clock import SECOND
from oceanmock.conformance.model import (
    CheckFailed,
    Event,
    Listener,
    PhaseEnded,
    PhaseStarted,
    ResponseReceived,
    Waiting,
)
from oceanmock.conformance.reports import texts
from oceanmock.text import format_elapsed, plural

SILENCE: Final = 15 * SECOND
"""How long plain lines may keep quiet while there is something to count."""


@contextmanager
def shown_on(
    console: Console, *, stopwatch: Callable[[], int], reason_for: Callable[[CheckResult], str]
) -> Iterator[Listener]:
    """What is to be told the events of a run; ``reason_for`` says why a finding is let pass."""
    if not console.is_terminal:
        lines = _Lines(console, stopwatch, reason_for)
        try:
            yield lines
        finally:
            lines.end()
        return
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[told]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with bar:
        yield _Bar(bar, reason_for)


class _Counts:
    """What was counted in one phase."""

    def __init__(self) -> None:
        self.asked = self.found = self.known = 0

    def __str__(self) -> str:
        known = f", {self.known:,} known" if self.known else ""
        return f"{plural(self.asked, 'request')}, {plural(self.found, 'finding')}{known}"

    def add(self, event: Event, reason_for: Callable[[CheckResult], str]) -> None:
        if isinstance(event, ResponseReceived):
            self.asked += 1
        elif isinstance(event, CheckFailed) and reason_for(event.finding):
            self.known += 1
        elif isinstance(event, CheckFailed):
            self.found += 1


class _Lines:
    """A line when a phase is over, for each new finding, for what is awaited, and now and then.

    A phase that comes again right after itself, as stories do, is one.
    """

    def __init__(
        self,
        console: Console,
        stopwatch: Callable[[], int],
        reason_for: Callable[[CheckResult], str],
    ) -> None:
        self._console = console
        self._stopwatch = stopwatch
        self._reason_for = reason_for
        self._counts = _Counts()
        self._phase = ""
        self._began = self._ended = self._spoke = stopwatch()
        self._awaited = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            self._begin(event.phase)
        self._counts.add(event, self._reason_for)
        if isinstance(event, CheckFailed) and not self._reason_for(event.finding):
            self._say(_told(event.finding))
        elif isinstance(event, Waiting) and event.why != self._awaited:
            self._awaited = event.why
            self._say(f"waiting for {event.url}: {event.why}")
        elif isinstance(event, PhaseEnded):
            self._ended = self._stopwatch()
        elif self._stopwatch() - self._spoke > SILENCE:
            took = format_elapsed(self._stopwatch() - self._began)
            self._say(f"{self._phase}: {self._counts} so far, in {took}")

    def _begin(self, phase: str) -> None:
        if phase != self._phase:
            self.end()
            self._counts, self._phase = _Counts(), phase
            self._began = self._ended = self._spoke = self._stopwatch()

    def end(self) -> None:
        """Says what the last phase came to."""
        if self._phase:
            took = format_elapsed(self._ended - self._began)
            self._say(f"{self._phase}: {self._counts} in {took}")
            self._phase = ""

    def _say(self, text: str) -> None:
        self._spoke = self._stopwatch()
        self._console.print(Text(texts.line(text)), soft_wrap=True, highlight=False)


class _Bar:
    """A bar for the phase that runs; findings are printed above it."""

    def __init__(self, bar: Progress, reason_for: Callable[[CheckResult], str]) -> None:
        self._bar = bar
        self._reason_for = reason_for
        self._counts = _Counts()
        self._phase: TaskID | None = None

    def __call__(self, event: Event) -> None:
        self._counts.add(event, self._reason_for)
        if isinstance(event, PhaseStarted):
            self._begin(event.phase, event.total)
        elif isinstance(event, Waiting):
            self._await(event)
        elif isinstance(event, CheckFailed) and not self._reason_for(event.finding):
            self._bar.console.print(Text(texts.line(_told(event.finding)), "red"), soft_wrap=True)
        if self._phase is not None and not isinstance(event, Waiting):
            moved = 1 if isinstance(event, ResponseReceived) else 0
            self._bar.update(self._phase, advance=moved, told=str(self._counts))
        if isinstance(event, PhaseEnded):
            self._end()

    def _begin(self, phase: str, total: int | None) -> None:
        self._end()
        self._counts = _Counts()
        self._phase = self._bar.add_task(phase, total=total, told="")

    def _await(self, event: Waiting) -> None:
        if self._phase is None:
            name = f"waiting for {texts.line(event.url)}"
            self._phase = self._bar.add_task(name, total=None, told="")
        told = f"{texts.line(event.why)}; {format_elapsed(event.left)} more"
        self._bar.update(self._phase, told=told)

    def _end(self) -> None:
        if self._phase is not None:
            self._bar.remove_task(self._phase)
            self._phase = None


def _told(finding: CheckResult) -> str:
    return f"found {finding.rule}: {finding.breadcrumb}: {finding.message}"
