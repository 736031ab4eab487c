"""The command ``oceanmock``: its group, and how its errors are printed.

Each command has its options and exit codes in a module of this package and imports what it needs
when it runs, so that `--help` stays quick. Exit codes: 0 done, 1 `check` or `verify` failed, 2 the
command could not be carried out.
"""

from __future__ import annotations

from typing import Any

import click

from oceanmock import __version__
from oceanmock.cli.admin import ADMIN_COMMANDS
from oceanmock.cli.conform import conform as conform_command
from oceanmock.cli.requests import REQUEST_COMMANDS
from oceanmock.cli.scenarios import SCENARIO_COMMANDS
from oceanmock.errors import OceanmockError

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class CommandFailed(click.ClickException):
    """One clear message on stderr, exit code 2."""

    exit_code = 2


class _Group(click.Group):
    """A group that prints every error of oceanmock's own as one message."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OceanmockError as error:
            raise CommandFailed(str(error)) from error


@click.group(cls=_Group, context_settings=_CONTEXT)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Serve and drive a contract-testing mock of OceanBase's task APIs.

    \b
    oceanmock serve                         the whole library of scenarios
    oceanmock serve retry-failed-subtask    one of them
    oceanmock show retry-failed-subtask     draw its tasks and their states over time
    oceanmock check my-scenario.yaml        print every mistake in it, with its line
    oceanmock clock advance 90s             advance a running server's clock
    oceanmock conform --mock                check the mock against its contract
    """


for command in (*SCENARIO_COMMANDS, conform_command, *ADMIN_COMMANDS, *REQUEST_COMMANDS):
    main.add_command(command)
