"""The command ``oceanmock``: serve · check · show · list · schema; ``cli_kit`` has the rest.

Words and exit codes only; everything it does is done elsewhere, and imported only by the command
that needs it. Exit codes: 0 done, 1 `check` found mistakes, 2 the command could not be carried out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import click

from oceanmock import __version__
from oceanmock.cli import admin as cli_kit
from oceanmock.cli import conform as cli_conform
from oceanmock.clock import PROGRESSIONS, Progression
from oceanmock.errors import AuthorError, OceanmockError
from oceanmock.text import plural

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Refusal(click.ClickException):
    """One clear message on stderr, exit code 2."""

    exit_code = 2


class _Group(click.Group):
    """Turns every error of oceanmock's own into one message, whichever command met it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OceanmockError as error:
            raise _Refusal(str(error)) from error


@click.group(cls=_Group, context_settings=_CONTEXT)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """A contract-testing mock server for OceanBase's task APIs.

    \b
    oceanmock serve                         the whole library of scenarios
    oceanmock serve retry-failed-subtask    one of them
    oceanmock show retry-failed-subtask     what happens in it, as a picture
    oceanmock check my-scenario.yaml        every mistake in it, with its line
    oceanmock clock advance 90s             move a running server's clock on
    oceanmock conform --mock                hold it to its contract
    """


# --- serve ----------------------------------------------------------------------------------------


@main.command()
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 for any free one.",
)
@click.option(
    "--progression",
    type=click.Choice(PROGRESSIONS),
    help="How time passes. time: it runs. polls: on to the next event each time a task has been "
    "read. immediate: all that is due happens at once. manual: it stands until `oceanmock clock` "
    "moves it. As the scenarios say, if left out.",
)
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1_000_000, min_open=True),
    help="How many times faster than the wall clock time runs, under `time`.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="Fills what scenarios leave out; the same seed gives the same names and ids.",
)
@click.option(
    "--auth",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="Whether requests must authenticate. OCP: viewer/viewer may read, manager/manager may do "
    "all. obshell: the scenario's root password (oceanmock), sealed; off: plain JSON.",
)
@click.option(
    "--admin-token",
    envvar="OCEANMOCK_TOKEN",
    help="What other machines send as X-Oceanmock-Token to drive sandboxes, clock, journal and "
    "faults; this machine needs none. Made up, and printed, when listening beyond it without one.",
)
@click.option(
    "--switch",
    "switches",
    multiple=True,
    metavar="NAME=VALUE",
    help="Decide what no public document does, e.g. subtask_pairing=checked. May be repeated.",
)
def serve(
    scenarios: tuple[str, ...],
    *,
    host: str,
    port: int,
    progression: Progression | None,
    speed: float,
    seed: int,
    auth: str,
    admin_token: str | None,
    switches: tuple[str, ...],
) -> None:
    """Serve scenarios over HTTP until interrupted.

    SCENARIO is a name from the library (`oceanmock list`) or the path of a file; without one the
    whole library is served.
    """
    from oceanmock.apis import make_sandbox
    from oceanmock.cli.banner import welcome
    from oceanmock.engine.accounts import Accounts
    from oceanmock.http.app import create_app
    from oceanmock.http.server import serve_forever
    from oceanmock.library import load_library, load_scenario

    named = [load_scenario(name) for name in dict.fromkeys(scenarios)]
    loaded = named or load_library()
    sandbox = make_sandbox(
        loaded,
        progression=progression,
        speed=speed,
        seed=seed,
        switches=_parse_switches(switches),
        accounts=Accounts(required=auth == "on"),
    )
    token = admin_token or (None if _is_this_machine(host) else token_urlsafe(12))
    app = create_app(sandbox, token=token, scenarios=loaded)

    def announce(url: str) -> None:
        if token and not admin_token:
            click.echo(f"admin token for other machines: {token}")
        click.echo("\n".join(welcome(sandbox, loaded, url, with_auth=auth == "on")))

    serve_forever(app, host=host, port=port, on_ready=announce)


def _is_this_machine(host: str) -> bool:
    """Whether nobody else can reach what listens there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parse_switches(given: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the switches of each API that are given as NAME=VALUE. Raises AuthorError."""
    from pydantic import ValidationError

    from oceanmock.apis import APIS
    from oceanmock.text import suggest

    models = {api.name: api.scenario.Switches for api in APIS}
    api_of = {switch: api for api, model in models.items() for switch in model.model_fields}
    switches: dict[str, dict[str, str]] = {api: {} for api in models}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or name not in api_of:  # a name alone decides nothing
            raise AuthorError(f"--switch {each}: not a switch. {suggest(name, list(api_of))}")
        switches[api_of[name]][name] = value
        try:
            models[api_of[name]].model_validate({name: value})
        except ValidationError as error:
            raise AuthorError(f"--switch {each}: {error.errors()[0]['msg']}") from error
    return switches


# --- check ----------------------------------------------------------------------------------------


@main.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
def check(paths: tuple[str, ...]) -> None:
    """Check scenarios and OpenAPI files, and print every mistake with its line.

    PATH is a file, or a scenario's name from the library; without one all that comes with oceanmock
    is checked. Exits with 1 if there is any mistake.
    """
    from oceanmock.library import find_scenario
    from oceanmock.openapi import data_folder

    own = [*sorted(data_folder("openapi").glob("*.yaml"))]
    own += sorted(data_folder("scenarios").glob("*.yaml"))
    wrong = 0
    for path in [find_scenario(each) for each in paths] or own:
        mistakes = _mistakes_in(path)
        wrong += len(mistakes)
        click.echo("\n".join(mistakes) if mistakes else f"{path}: ok")
    if wrong:
        click.echo(plural(wrong, "mistake"), err=True)
        raise click.exceptions.Exit(1)


def _mistakes_in(path: Path) -> list[str]:
    """All mistakes of a file, which says itself whether it is a contract or a scenario."""
    from oceanmock.library import load_scenario
    from oceanmock.openapi import check_spec
    from oceanmock.scenario.diagnostics import ScenarioError

    if _is_contract(path):
        return [str(mistake) for mistake in check_spec(path)]
    try:
        load_scenario(path)
    except ScenarioError as error:
        return [str(mistake) for mistake in error.diagnostics]
    return []


def _is_contract(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as lines:
        return any(line.startswith(("openapi:", "swagger:", '"openapi"')) for line in lines)


# --- show, list, schema ---------------------------------------------------------------------------


@main.command()
@click.argument("scenario")
@click.option("--width", type=click.IntRange(60, 400), help="Columns to draw in.")
def show(scenario: str, width: int | None) -> None:
    """Draw a scenario: each task's DAG, and its states over time as its story goes."""
    from rich.console import Console

    from oceanmock.apis import api_named
    from oceanmock.library import load_scenario

    console = Console(width=width, highlight=False, soft_wrap=True)
    loaded = load_scenario(scenario)
    drawing = api_named(loaded.api).module("drawing")
    for line in drawing.draw_scenario(loaded, width=console.width):
        console.print(line)


@main.command(name="list")
def list_scenarios() -> None:
    """Name the scenarios of the library, and what happens in each."""
    from oceanmock.library import library_names, load_scenario

    for name in library_names():
        click.echo(f"{name:<32}{load_scenario(name).summary}")


@main.command()
def schema() -> None:
    """Print the JSON Schema of scenario files, by which editors complete and check them."""
    from oceanmock.library import scenario_schema

    click.echo(json.dumps(scenario_schema(), indent=2, ensure_ascii=False))


# --- the commands that have files of their own ----------------------------------------------------

for command in (cli_conform.conform, *cli_kit.COMMANDS):
    main.add_command(command)
