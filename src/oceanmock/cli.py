"""The command ``oceanmock``: serve · check · show · list · schema.

Words and exit codes only; everything it does is done elsewhere, and imported only by the command
that needs it. Exit codes: 0 done, 1 `check` found mistakes, 2 the command could not be carried out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oceanmock import __version__
from oceanmock.clock import PROGRESSIONS, Progression
from oceanmock.errors import AuthorError, OceanmockError

if TYPE_CHECKING:
    from oceanmock.engine import Sandbox, Task
    from oceanmock.scenario.ocp import Scenario, Switches

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
    type=click.Choice([name for name in PROGRESSIONS if name != "manual"]),
    help="How time passes. time: it runs. polls: on to the next event each time a task has been "
    "read. immediate: all that is due happens at once. As the scenarios say, if left out.",
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
    help="Whether requests must authenticate: viewer/viewer may read, manager/manager may do all.",
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
    switches: tuple[str, ...],
) -> None:
    """Serve scenarios over HTTP until interrupted.

    SCENARIO is a name from the library (`oceanmock list`) or the path of a file; without one the
    whole library is served.
    """
    from oceanmock.apis.ocp_auth import Accounts
    from oceanmock.app import create_app
    from oceanmock.engine import Sandbox
    from oceanmock.library import library_names, load_scenario
    from oceanmock.server import serve_forever

    loaded = [load_scenario(name) for name in dict.fromkeys(scenarios or library_names())]
    sandbox = Sandbox.of_scenarios(
        loaded,
        progression=progression,
        speed=speed,
        seed=seed,
        switches=_parse_switches(switches, loaded),
    )
    app = create_app(sandbox, accounts=Accounts(required=auth == "on"))
    serve_forever(
        app,
        host=host,
        port=port,
        on_ready=lambda url: _announce(sandbox, loaded, url, with_auth=auth == "on"),
    )


def _parse_switches(given: Sequence[str], loaded: Sequence[Scenario]) -> Switches | None:
    """The scenarios' switches with those of the command line over them; None to keep theirs."""
    from pydantic import ValidationError

    from oceanmock.engine import switches_of
    from oceanmock.mistakes import nearest
    from oceanmock.scenario.ocp import Switches

    if not given:
        return None
    values = switches_of(loaded).model_dump()
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or name not in values:  # a name alone decides nothing
            raise AuthorError(f"--switch {each}: not a switch. {nearest(name, list(values))}")
        values[name] = value
        try:
            Switches.model_validate(values)
        except ValidationError as error:
            raise AuthorError(f"--switch {each}: {error.errors()[0]['msg']}") from error
    return Switches.model_validate(values)


def _announce(sandbox: Sandbox, loaded: Sequence[Scenario], url: str, *, with_auth: bool) -> None:
    """Every operation as a command to paste, and a last line that says it is ready."""
    views = sandbox.list_tasks()
    clock = sandbox.clock
    pace = f"{clock.progression} × {clock.speed:g}" if clock.speed != 1 else clock.progression
    held = _count(len(views), "task")
    click.echo(f"oceanmock {__version__}: OCP, {held}, progression {pace}")
    for scenario in loaded:
        click.echo(f"  {scenario.name:<32}{scenario.summary}")
    click.echo("")
    for line in _commands(_most_telling([view.task for view in views], loaded), url, with_auth):
        click.echo(line)
    click.echo(f"\nReady on {url} (stop it with Ctrl-C)")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _most_telling(tasks: Sequence[Task], loaded: Sequence[Scenario]) -> tuple[Task, int]:
    """The task to paste commands about, and the subtask: one that fails, of the first scenario
    that is about one task, or else the first."""
    by_id = {task.id: task for task in tasks}
    for scenario in sorted(loaded, key=lambda each: each.name != "retry-failed-subtask"):
        for model in scenario.tasks:
            for place, subtask in enumerate(model.subtasks):
                if model.id in by_id and subtask.attempts[0].ends == "FAILED":
                    return by_id[model.id], place
    return tasks[0], 0


def _commands(telling: tuple[Task, int], url: str, with_auth: bool) -> Iterator[str]:
    from oceanmock.contract import load_spec, operations_of, spec_path

    task, place = telling
    for operation in operations_of(load_spec(spec_path("ocp"))):
        path = operation.path.replace("{taskInstanceId}", str(task.id)).replace(
            "{subtaskInstanceId}", str(task.subtasks[place].id)
        )
        user = "viewer:viewer" if operation.permission == "TASK_VIEWER" else "manager:manager"
        who = f" -u {user}" if with_auth else ""
        method = "" if operation.method == "GET" else f" -X {operation.method}"
        yield f"  {operation.id:<18} curl -s{who}{method} {url}{path}"


# --- check ----------------------------------------------------------------------------------------


@main.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
def check(paths: tuple[str, ...]) -> None:
    """Check scenarios and OpenAPI files, and print every mistake with its line.

    PATH is a file, or a scenario's name from the library; without one all that comes with oceanmock
    is checked. Exits with 1 if there is any mistake.
    """
    from oceanmock.contract import data_folder
    from oceanmock.library import find_scenario

    own = [*sorted(data_folder("openapi").glob("*.yaml"))]
    own += sorted(data_folder("scenarios").glob("*.yaml"))
    wrong = 0
    for path in [find_scenario(each) for each in paths] or own:
        mistakes = _mistakes_in(path)
        wrong += len(mistakes)
        click.echo("\n".join(mistakes) if mistakes else f"{path}: ok")
    if wrong:
        click.echo(_count(wrong, "mistake"), err=True)
        raise click.exceptions.Exit(1)


def _mistakes_in(path: Path) -> list[str]:
    """All mistakes of a file, which says itself whether it is a contract or a scenario."""
    from oceanmock.contract import check_spec
    from oceanmock.library import load_scenario
    from oceanmock.mistakes import ScenarioError

    if _is_contract(path):
        return [str(mistake) for mistake in check_spec(path)]
    try:
        load_scenario(path)
    except ScenarioError as error:
        return [str(mistake) for mistake in error.mistakes]
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

    from oceanmock.drawing import draw_scenario
    from oceanmock.library import load_scenario

    console = Console(width=width, highlight=False, soft_wrap=True)
    for line in draw_scenario(load_scenario(scenario), width=console.width):
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
    from oceanmock.reading import scenario_schema

    click.echo(json.dumps(scenario_schema(), indent=2, ensure_ascii=False))
