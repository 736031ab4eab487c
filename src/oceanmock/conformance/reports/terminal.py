"""Print the summary of results within a screen, and the progress of a run; write the commands to paste.

Markup in texts is not interpreted, so that a server's response cannot colour, move or erase anything. A passed run is a
few lines; only the number is printed of what does not fit. Commands to paste are printed unwrapped.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from oceanmock.checks import CheckResult, Exchange
from oceanmock.clock import SECOND
from oceanmock.conformance import FAILED, PASSED, Event, PhaseStarted, Result, Waiting, reports
from oceanmock.credentials import AccessKey, Basic, Sealed
from oceanmock.text import escape_unprintable, first_few, format_elapsed, new_console, plural

if TYPE_CHECKING:
    from oceanmock.observations import Target

MAX_CAUSE_LINES: Final = 18  # the most lines on causes, unless the first has more
MAX_LISTED: Final = 4  # the most changes, stale entries and hints that are printed one by one
MAX_PLACES: Final = 3
MAX_SILENCE: Final = 15 * SECOND  # the time after which a log gets a line on the requests so far
LOG_WIDTH: Final = 120  # the width of a summary that does not go to a terminal
SEVERITY_COLOURS: Final = {"error": "bold red", "warning": "bold yellow", "note": "bold"}
UNMARKED: Final = ("·", "dim")
STEP_MARKS: Final = {"passed": ("✓", "green"), "failed": ("✗", "red")}


def console_of(file: TextIO) -> Console:
    """Return a console that writes to a file."""
    has_width = file.isatty() or "COLUMNS" in os.environ
    return new_console(file, width=None if has_width else LOG_WIDTH)


def print_results(results: Sequence[Result], console: Console) -> None:
    """Print the summary of each run, the worst last."""
    for result in reports.worst_last(results):
        for line in _summary(result):
            console.print(line, soft_wrap=True, highlight=False)


def _summary(result: Result) -> Iterator[Text]:
    yield Text(f"{reports.server_name(result)} at {escape_unprintable(result.target)}", style="bold")
    not_asked = [
        Text.assemble(("Not asked: ", "bold yellow"), _text(f"{item.what}, since {item.why}"))
        for item in result.not_asked
    ]
    for section in (_causes(result), _stories(result), _missing(result), not_asked, _changes(result), _known(result)):
        lines = list(section)
        yield from ([Text(), *lines] if lines else ())
    yield from ([] if result.exit_code == PASSED else [Text()])
    verb = "judged" if "passive" in result.phases else "sent"
    spent = f"{plural(result.request_count, 'request')} in {format_elapsed(result.took)}"
    yield Text.assemble((f"{verb:<8}", "dim"), _text(f"{spent} ({reports.phase_times(result)}), seed {result.seed}"))
    if result.command:
        yield Text.assemble(("repeat  ", "dim"), _text(result.command))
    code = result.exit_code
    word, meaning, colour = reports.VERDICTS[code]
    end = f"; stopped by {result.stopped}" if result.stopped else "" if code in (PASSED, FAILED) else f"; {meaning}"
    yield Text.assemble((word, f"bold {colour}"), f" (exit code {code}), {reports.scope(result)}{end}.")


def _text(text: object, style: str = "") -> Text:
    return Text(escape_unprintable(str(text)), style=style)


def _rest(count: int, noun: str, nouns: str = "") -> Iterator[Text]:
    if count > 0:
        yield Text(f"  … and {plural(count, f'more {noun}', nouns and f'more {nouns}')}; a report (--report) has all")


def _causes(result: Result) -> Iterator[Text]:
    """Yield the causes of findings that fit, and the count of the others by rule."""
    causes, lines, used = reports.causes(result.findings, result.api), list[Text](), 0
    if causes:
        places = plural(len(result.findings), "place")
        yield Text(f"{plural(len(causes), 'cause')} of findings, in {places}", style="bold red")
    for number, cause in enumerate(causes, 1):
        lines = list(_cause(number, cause))
        used += len(lines)
        if used > MAX_CAUSE_LINES and number > 1:
            rest = Counter(cause.first.rule for cause in causes[number - 1 :])
            yield from _rest(rest.total(), "cause")
            yield _text(f"    {first_few([f'{name} × {count}' for name, count in rest.most_common()])}")
            return
        yield from lines


def _cause(number: int, cause: reports.Cause) -> Iterator[Text]:
    finding, style = cause.first, SEVERITY_COLOURS[cause.severity]
    yield Text.assemble(f"  {number}. ", (cause.severity, style), " ", _text(cause.title, "bold"))
    for line in (finding.message, *reports.both_lines(finding)):
        yield Text.assemble("     ", _text(line))
    places = [f"{place}{f' × {count:,}' if count > 1 else ''}" for place, count in cause.places.most_common()]
    yield Text.assemble("     at ", _text(first_few(places, MAX_PLACES), "cyan"))
    yield Text.assemble("     ", _text(f"{cause.weight}: {finding.source}", "dim"))
    for line in reports.clean(finding.curl).splitlines():
        yield Text(line, style="dim")


def _stories(result: Result) -> Iterator[Text]:
    for name, steps in result.stories.items():
        counts = Counter(step.outcome for step in steps)
        skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
        total = f"{counts['passed']} of {plural(len(steps), 'step')} passed{skipped}"
        yield Text.assemble(("Story ", "bold"), _text(f"{name}: {total}"))
        for step in steps if counts["failed"] else ():
            mark, style = STEP_MARKS.get(step.outcome, UNMARKED)
            took = f" in {format_elapsed(step.took)}" if step.took else ""
            detail = f": {step.detail}" if step.detail else ""
            yield Text.assemble(f"  {mark} ", _text(f"{step.text} ({step.outcome}{took}){detail}"), style=style)


def _known(result: Result) -> Iterator[Text]:
    if result.known:
        where = escape_unprintable(", ".join(result.baselines))
        yield Text(f"{plural(len(result.known), 'known deviation')}, accepted by {where}")
    if result.stale:
        yield Text(f"{plural(len(result.stale), 'entry', 'entries')} of the baseline did not occur (stale)")
        for item in result.stale[:MAX_LISTED]:
            yield _text(f"  {item.rule} at {item.operation}: {item.reason}")
        yield from _rest(len(result.stale) - MAX_LISTED, "stale entry", "stale entries")


def _missing(result: Result) -> Iterator[Text]:
    """Yield the responses that were not observed, by how to observe them, and the thresholds that are not met."""
    if result.missing:
        yield Text("Required responses that were not observed", style="bold yellow")
    hints = dict[str, list[str]]()
    for item in result.missing:
        hints.setdefault(item.hint, []).append(f"{item.operation} {item.status}")
    for hint, names in [*hints.items()][:MAX_LISTED]:
        yield _text(f"  {first_few(names, MAX_PLACES)}: {hint}")
    yield from _rest(sum(map(len, [*hints.values()][MAX_LISTED:])), "missing response")
    for text in result.shortfalls:
        yield _text(text, "bold yellow")


def _changes(result: Result) -> Iterator[Text]:
    if not result.changes:
        return
    accepted = [item for item in result.changes if reports.is_accepted(item)]
    yield Text(f"Changes made: {len(accepted):,} of {plural(len(result.changes), 'request')} accepted", style="bold")
    for item in accepted[:MAX_LISTED]:
        yield Text(f"  {reports.change_line(item, result.api)} → {reports.response_line(item)}")
    yield from _rest(len(accepted) - MAX_LISTED, "change")
    left = reports.left_lines(result)
    yield from (_text(f"  {line}") for line in left[:MAX_LISTED])
    yield from _rest(len(left) - MAX_LISTED, "task left", "tasks left")


class Display:
    """Show the events of a run: a bar for the current phase; without a terminal a line per phase, and after a silence.

    New findings are printed in either case. Equal phases in a row, such as those of several stories, are one.
    ``reason_for`` returns why a finding is accepted, or "". SIGINT, SIGTERM and too many findings end the run:
    ``stopped`` is the reason, or "". A signal raises KeyboardInterrupt; as schemathesis catches those in its threads,
    the next response raises it again.
    """

    def __init__(
        self,
        console: Console,
        *,
        stopwatch: Callable[[], int],
        reason_for: Callable[[CheckResult], str],
        max_failures: int | None = None,
    ) -> None:
        name = TextColumn("{task.description}", markup=False)
        counts = TextColumn("{task.fields[counts]}", markup=False)
        columns = SpinnerColumn(), name, BarColumn(bar_width=24), counts, TimeElapsedColumn()
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._console, self._stopwatch, self._reason_for = console, stopwatch, reason_for
        self._task, self._counts = TaskID(0), Counter[str]()
        self._phase = self._reason_to_wait = self.stopped = ""
        self._started = self._written = stopwatch()
        self._failures, self._max_failures = 0, max_failures
        self._previous = dict[int, Any]()

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self.interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._bar.stop()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def interrupt(self, number: int, _frame: object) -> None:
        """End the run because of a signal."""
        self.stopped = signal.Signals(number).name
        raise KeyboardInterrupt

    def __call__(self, event: Event) -> None:
        is_response = isinstance(event, Exchange)
        if isinstance(event, PhaseStarted) and event.phase != self._phase:
            self.close()
            self._phase, self._counts = event.phase, Counter()
            self._started = self._written = self._stopwatch()
            self._task = self._bar.add_task(event.phase, total=None, counts="")
        elif isinstance(event, CheckResult):
            is_known = bool(self._reason_for(event))
            self._counts["known" if is_known else "findings"] += 1
            if not is_known:
                self._failures += 1
                self._write(f"found {event.rule}: {reports.finding_line(event)}", style="red")
        elif isinstance(event, Exchange):
            self._counts["requests"] += 1
        if self._phase and not self._bar.disable:
            text = self._text()
            if isinstance(event, Waiting):
                text = f"{escape_unprintable(event.why)}; {format_elapsed(event.left)} more"
            self._bar.update(self._task, advance=is_response, counts=text)
        elif isinstance(event, Waiting) and event.why != self._reason_to_wait:
            self._reason_to_wait = event.why
            self._write(f"waiting for {event.url}: {event.why}")
        elif is_response and self._stopwatch() - self._written > MAX_SILENCE:
            self._write(f"{self._phase}: {self._text()} so far, in {format_elapsed(self._stopwatch() - self._started)}")
        if is_response and self._max_failures is not None and self._failures >= self._max_failures:
            self.stopped = self.stopped or f"--max-failures {self._max_failures}"
        if is_response and self.stopped:
            raise KeyboardInterrupt

    def close(self) -> None:
        """Remove the bar of the last phase, or print its counts."""
        if self._phase and not self._bar.disable:
            self._bar.remove_task(self._task)
        elif self._phase:
            self._write(f"{self._phase}: {self._text()} in {format_elapsed(self._stopwatch() - self._started)}")
        self._phase = ""

    def _text(self) -> str:
        known = f", {self._counts['known']:,} known" if self._counts["known"] else ""
        return f"{plural(self._counts['requests'], 'request')}, {plural(self._counts['findings'], 'finding')}{known}"

    def _write(self, text: str, style: str = "") -> None:
        self._written = self._stopwatch()
        self._console.print(_text(text, style), soft_wrap=True, highlight=False)


CLIENT_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "host", "user-agent", "transfer-encoding"}
)
"""Headers that each client sets by itself."""
SIGNING_HEADERS: Final = frozenset({"authorization", "date", "x-ocs-header", "x-ocs-agent-header"})
"""Headers that are computed for each request."""


def curl_of(exchange: Exchange | None, target: Target) -> str:
    """Return the shell command that reproduces an exchange, if any: curl, or Python where curl cannot sign it.

    It has no secrets: it reads them from the same variables as the run, such as ``$OCEANMOCK_PASSWORD``, and other
    users' credentials are masked.
    """
    if exchange is None:
        return ""
    own = target.auth if exchange.credentials == "own" else None
    if isinstance(own, AccessKey):
        command = _python(exchange, target, f'AccessKey({own.id!r}, os.environ["OCEANMOCK_SECRET_KEY"])')
        return f"# Each request has its own signature, which curl cannot make:\n{command}"
    if isinstance(own, Sealed):
        params = ['os.environ["OCEANMOCK_PASSWORD"]' if own.password else '""']
        params += ['os.environ["OCEANMOCK_AGENT_PASSWORD"]'] if own.agent_password is not None else []
        params += [f"verify={target.verify!r}"] if target.verify is not True else []
        script = _python(exchange, target, f"Sealed({', '.join(params)})")
        by_socket = _curl(exchange, "http://localhost", '--unix-socket "$OBSHELL_HOME/run/obshell.sock"')
        return (
            f"# curl cannot encrypt the body, but the agent's unix socket needs no encryption:\n{by_socket}\n"
            f"# From any machine:\n{script}"
        )
    options = [f"--cacert {shlex.quote(target.verify)}"] if isinstance(target.verify, str) else []
    options += [] if target.verify else ["--insecure"]
    options += [f'-u {shlex.quote(f"{own.user}:")}"$OCEANMOCK_PASSWORD"'] if isinstance(own, Basic) else []
    return _curl(exchange, target.url, *options)


def _curl(exchange: Exchange, url: str, *options: str) -> str:
    body, headers = exchange.request_body, _headers(exchange)
    words = ["curl -sS", *options]
    if exchange.method == "HEAD":
        words.append("--head")
    elif exchange.method != ("POST" if body else "GET"):
        words.append(f"-X {shlex.quote(exchange.method)}")
    if re.search(r"[\[\]{}]|/\.", exchange.target):  # curl reads brackets as a pattern, and normalizes /.
        words.append("--globoff --path-as-is")
    words.append(shlex.quote(f"{url}{exchange.target}"))
    words += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()]
    if not body:
        return " ".join(words)
    if not any(name.lower() == "content-type" for name in headers):
        words.append("-H Content-Type:")  # else curl declares a form
    with suppress(UnicodeDecodeError):
        text = body.decode()
        if text.replace("\n", "").isprintable() and not text.startswith("@"):
            return " ".join([*words, "--data-binary", shlex.quote(text)])
    return " ".join([f"echo {base64.b64encode(body).decode()} | base64 -d |", *words, "--data-binary @-"])


def _python(exchange: Exchange, target: Target, signer: str) -> str:
    headers = _headers(exchange)
    params = [f"auth={signer}"]
    params += [f"headers={headers!r}"] if headers else []
    params += [f"data={exchange.request_body!r}"] if exchange.request_body else []
    params += [] if target.verify is True else [f"verify={target.verify!r}"]
    return (
        "python3 - <<'END'\nimport os, requests\n"
        f"from oceanmock.credentials import {signer.partition('(')[0]}\n"
        f"response = requests.request({exchange.method!r}, {target.url + exchange.target!r},\n"
        f"    {', '.join(params)})\nprint(response.status_code, response.text)\nEND"
    )


def _headers(exchange: Exchange) -> dict[str, str]:
    computed = SIGNING_HEADERS if exchange.credentials == "own" else frozenset[str]()
    return {name: value for name, value in exchange.request_headers if name.lower() not in CLIENT_HEADERS | computed}
