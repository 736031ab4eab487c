"""The command ``oceanmock``: the group, its error messages, and the commands on scenarios.

Each command imports its modules when it runs, so that `--help` stays quick. Exit codes: 0 done, 1 `check` or `verify`
failed, 2 the command could not be carried out.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import click

from oceanmock import __version__
from oceanmock.cli.admin import ADMIN_COMMANDS, AS_JSON
from oceanmock.cli.conform import compare
from oceanmock.cli.conform import conform as conform_command
from oceanmock.cli.conform_options import SECRETS
from oceanmock.cli.printing import (
    SCENARIO_WIDTH,
    complete_scenario,
    output_problem,
    print_items,
    print_json,
    response_table,
    scenario_json,
    standard_output,
    wrap,
)
from oceanmock.cli.serve import exec_command, serve, wait
from oceanmock.cli.store import store_command
from oceanmock.errors import InputError, OceanmockError
from oceanmock.text import escape_command, escape_unprintable, new_console, plural, suggest

ANNOTATION_KEYS: Final = (("file", "file"), ("line", "line"), ("col", "column"), ("title", "rule"))
RESULT_IS_EXIT_CODE: Final = frozenset({"serve", "exec", "check", "verify", "conform", "compare"})
"""Commands whose exit code stays if their output could not be written."""
WRAPPED_INDENT: Final = 17  # of a wrapped line of `show`, behind its instant
WRAPPED_FROM: Final = 34  # where the tracks of a drawing begin; they have no letters


class CommandFailed(click.ClickException):
    """One clear message on stderr, exit code 2."""

    exit_code = 2


class MainGroup(click.Group):
    """A group that prints every error of oceanmock's own as one message."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line; completions for a shell are printed unchanged, with tabs."""
        with nullcontext() if "_OCEANMOCK_COMPLETE" in os.environ else standard_output():
            return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
        except OceanmockError as error:
            raise CommandFailed(str(error)) from error
        problem = output_problem()
        if problem and not isinstance(problem, BrokenPipeError) and ctx.invoked_subcommand not in RESULT_IS_EXIT_CODE:
            raise click.exceptions.Exit(CommandFailed.exit_code)
        return result


SETTINGS: Final = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "color": True,  # or click would remove escape sequences, which are escaped here
}


def load_config() -> dict[str, dict[str, Any]]:
    """Return the defaults of options by command, from the first file in the current folder that has any.

    Raises InputError for unknown options and for secrets.
    """
    for name, keys in (("oceanmock.toml", ()), ("pyproject.toml", ("tool", "oceanmock"))):
        if not Path(name).is_file():
            continue
        import tomllib

        try:
            tables: Any = tomllib.loads(Path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise InputError(f"{name} cannot be read: {problem}.") from problem
        for key in keys:
            tables = (tables.get(key) or {}) if isinstance(tables, dict) else None
        if not isinstance(tables, dict):
            raise InputError(f"{name}: {'.'.join(keys)} must be a table.")
        if tables:
            return {command: _defaults(name, command, table) for command, table in tables.items()}
    return {}


def _defaults(file: str, command: str, table: Any) -> dict[str, Any]:
    """Return the defaults of one command's options. Raises InputError."""
    known = main.commands.get(command)
    if known is None or not isinstance(table, dict):
        raise InputError(f"{file}: {command!r} is no command. {suggest(command, [*main.commands])}")
    options = [param for param in known.params if isinstance(param, click.Option)]
    params = {text[2:].replace("-", "_"): option for option in options for text in option.opts if text[:2] == "--"}
    values = dict[str, Any]()
    for key, value in table.items():
        param = params.get(key.replace("-", "_"))
        if param is None:
            raise InputError(f"{file}: {command} has no option {key!r}. {suggest(key, [*params])}")
        name = str(param.name)
        if name in SECRETS or "token" in name:
            raise InputError(f"{file}: {key} is a secret: give it in the environment instead.")
        texts = [str(item) for item in (value if isinstance(value, list) else [value])]
        values[name] = texts if param.multiple else ",".join(texts)
    return values


@click.group(cls=MainGroup, context_settings=SETTINGS)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Serve and drive a contract-testing mock of OceanBase's task APIs.

    \b
    oceanmock serve                         the scenarios of the library
    oceanmock serve retry-failed-subtask    one of them
    oceanmock exec SCENARIO -- go test      serve while another command runs
    oceanmock show retry-failed-subtask     draw its tasks and their states over time
    oceanmock check my-scenario.yaml        print every mistake in it, with its line
    oceanmock clock advance 90s             advance a running server's clock
    oceanmock conform --mock                check the mock against its contract

    Defaults of options come from the tables of oceanmock.toml, such as [conform], or from those of
    pyproject.toml, such as [tool.oceanmock.conform].

    Words are completed after `eval "$(_OCEANMOCK_COMPLETE=bash_source oceanmock)"` in ~/.bashrc, the same
    with zsh_source in ~/.zshrc, or `_OCEANMOCK_COMPLETE=fish_source oceanmock | source` in fish.
    """
    ctx.default_map = load_config()


for command in (serve, exec_command, wait, store_command, conform_command, compare, *ADMIN_COMMANDS):
    main.add_command(command)


@main.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...", shell_complete=complete_scenario)
@click.option(
    "--format",
    type=click.Choice(["text", "github", "json"]),
    default="text",
    show_default=True,
    help="Print lines, annotations of a GitHub workflow, or a list in JSON.",
)
def check(paths: tuple[str, ...], *, format: str) -> None:
    """Check scenarios and OpenAPI files. Every mistake is printed with its line.

    PATH is a file, a folder, or a name of the library; without one, every file that comes with oceanmock is checked.
    Exits with 1 if there is any mistake.
    """
    from oceanmock.errors import ScenarioError
    from oceanmock.library import expand, find_scenario, load_scenario
    from oceanmock.openapi import check_spec, data_folder

    own = [path for folder in ("openapi", "scenarios") for path in sorted(data_folder(folder).glob("[!_]*.yaml"))]
    rows = list[dict[str, Any]]()
    for path in [find_scenario(name) for name in expand(paths)] or own:
        mistakes = list[tuple[str, dict[str, Any]]]()
        with path.open(encoding="utf-8", errors="replace") as lines:
            is_contract = any(line.startswith(("openapi:", "swagger:", '"openapi"')) for line in lines)
        if is_contract:
            mistakes = [
                (text, {"line": 1, "column": 1, "rule": "openapi", "message": text}) for text in check_spec(path)
            ]
        else:
            try:
                load_scenario(path)
            except ScenarioError as error:
                keys = ("line", "column", "rule", "message", "hint")
                issues = error.diagnostics  # in the scenario's file, or in one that it includes
                mistakes = [(str(it), {"file": it.path, **{key: getattr(it, key) for key in keys}}) for it in issues]
        rows += [{"file": str(path), **row} for _, row in mistakes]
        if format == "text":
            click.echo(wrap("\n".join(text for text, _ in mistakes), 4) or f"{path}: ok")
    if format == "json":
        print_json(rows, indent=2)
    elif format == "github":
        for row in rows:
            place = ",".join(f"{key}={escape_command(str(row[name]), ':,')}" for key, name in ANNOTATION_KEYS)
            hint = f"\n{row['hint']}" if row.get("hint") else ""
            click.echo(f"::error {place}::{escape_command(row['message'] + hint)}")
    if rows:
        click.echo(plural(len(rows), "mistake"), err=True)
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("scenario", shell_complete=complete_scenario)
@click.option("--width", type=click.IntRange(60, 400), help="Columns to draw in.")
@AS_JSON
def show(scenario: str, width: int | None, *, as_json: bool) -> None:
    """Draw the tasks of a scenario and their states over time.

    The states follow the scenario's story. Below a task's states is a line for each stub and fault that applies to a
    part of them; a table lists them all.
    """
    from rich.text import Text

    from oceanmock.apis import api_named
    from oceanmock.library import load_scenario

    loaded = load_scenario(scenario)
    api = api_named(loaded.api)
    if as_json:
        print_json(scenario_json(loaded, api), indent=2)
        return
    console = new_console(sys.stdout, width=width, soft_wrap=True)
    for line in api.module("explain").draw_scenario(loaded, width=console.width):
        text, lines, width = Text.from_markup(escape_unprintable(line)), list[Text](), console.width
        while text.cell_len > width and any(map(str.isalnum, text.plain[WRAPPED_FROM:])):  # a track is never wrapped
            first = text.wrap(console, width)[0]
            first.rstrip()
            text = text[len(text) - len(text.plain[len(first) :].lstrip()) :]
            lines.append(first)
            width = console.width - WRAPPED_INDENT
        text.rstrip()
        console.print(Text("\n" + " " * WRAPPED_INDENT).join([*lines, text]))
    if loaded.responses:
        with console.capture() as capture:
            console.print("", response_table(loaded.responses), soft_wrap=False)
        console.print(Text.from_ansi("\n".join(map(str.rstrip, capture.get().split("\n")))))


@main.command("list")
@AS_JSON
def list_scenarios(*, as_json: bool) -> None:
    """List the scenarios of the library, each with its summary."""
    from oceanmock.library import library_names, load_scenario

    scenarios = map(load_scenario, library_names())
    items = [{"name": item.name, "api": item.api, "summary": item.summary} for item in scenarios]
    print_items(items, lambda item: (f"{item['name']:<{SCENARIO_WIDTH - 2}}", item["summary"]), as_json=as_json)


@main.command()
def schema() -> None:
    """Print the JSON Schema of scenario files, for editors."""
    from oceanmock.library import scenario_schema

    click.echo(json.dumps(scenario_schema(), indent=2, ensure_ascii=False))
