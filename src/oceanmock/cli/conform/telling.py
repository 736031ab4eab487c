"""What is told at the end: the reports, the summary, and the command that repeats the run.

The summary goes to stdout, and is as wide as the terminal.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from oceanmock.cli.conform.order import Order
from oceanmock.conformance.model import Options, Result
from oceanmock.errors import EnvironmentProblem

if TYPE_CHECKING:
    from rich.console import Console

LOG_WIDTH: Final = 120
"""How wide a summary is where nobody says."""


def tell(order: Order, results: Sequence[Result]) -> None:
    """Writes the reports and prints the summary. Raises EnvironmentProblem at the very end.

    So what was found is not lost with a report that cannot be written, nor any other report.
    """
    from oceanmock.conformance.reports import write_report
    from oceanmock.conformance.reports.terminal import print_results

    written, problems = [], []
    for kind, path in order.reports:
        try:
            write_report(kind, results, path)
            written.append(f"{kind} report: {path}")
        except EnvironmentProblem as problem:
            problems.append(str(problem))
    print_results(results, _console())
    for line in written:
        click.echo(line)
    if problems:
        raise EnvironmentProblem("\n".join(problems))


def exit_code(results: Sequence[Result]) -> int:
    """The exit code of several runs: that of the worst."""
    from oceanmock.conformance.reports import texts

    return texts.exit_code(results)


def _console() -> Console:
    """Where the summary goes: as wide as the terminal, or as a log may be."""
    from rich.console import Console  # slow to import

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=LOG_WIDTH)
    return console


def command_of(order: Order, tasks: Sequence[str]) -> str:
    """What repeats the run. Passwords are left out: the environment has them, or it asks."""
    from oceanmock.text import format_duration

    is_usual = order.patience == Options().patience
    words = ["oceanmock", "conform", *(["--mock"] if order.mock else []), *order.what]
    said: list[tuple[str, object]] = [
        ("--api", order.api),
        ("--user", order.user),
        ("--access-key", order.access_key),
        ("--viewer", order.viewer),
        *(("--task", each) for each in tasks),
        *(("--story", each) for each in order.story),
        *(("--story-id", "=".join(each)) for each in order.story_id),
        ("--phases", ",".join(order.phases) if order.phases else None),
        ("--seed", order.seed),
        ("--max-examples", order.max_examples),
        ("--rate", f"{order.rate:g}" if order.rate else None),
        ("--patience", None if is_usual else format_duration(order.patience)),
        *(("--baseline", each) for each in order.baseline),
        ("--ca", order.ca),
    ]
    flags = [("--write", order.write), ("--insecure", order.insecure)]
    words += [name for name, is_said in flags if is_said]
    words += [str(word) for pair in said if pair[1] is not None for word in pair]
    return shlex.join(words)
