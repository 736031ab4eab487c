"""The commands on scenario files: ``check``, ``show``, ``list`` and ``schema``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

from oceanmock.cli.serve import NAME_WIDTH
from oceanmock.text import plural


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
def check(paths: tuple[str, ...]) -> None:
    """Check scenarios and OpenAPI files, and print every mistake with its line.

    PATH is a file, or a name of the library; without one, every file that comes with oceanmock is
    checked. Exits with 1 if there is any mistake.
    """
    from oceanmock.library import find_scenario
    from oceanmock.openapi import data_folder

    own = [*sorted(data_folder("openapi").glob("*.yaml"))]
    own += sorted(data_folder("scenarios").glob("*.yaml"))
    wrong = 0
    for path in [find_scenario(name) for name in paths] or own:
        mistakes = _mistakes_in(path)
        wrong += len(mistakes)
        click.echo("\n".join(mistakes) if mistakes else f"{path}: ok")
    if wrong:
        click.echo(plural(wrong, "mistake"), err=True)
        raise click.exceptions.Exit(1)


def _mistakes_in(path: Path) -> list[str]:
    """Return all mistakes of a file: a contract or a scenario, as its first keys show."""
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


@click.command()
@click.argument("scenario")
@click.option("--width", type=click.IntRange(60, 400), help="Columns to draw in.")
def show(scenario: str, width: int | None) -> None:
    """Draw a scenario: the DAG of each task, and its states over time by the scenario's story."""
    from rich.console import Console

    from oceanmock.apis import api_named
    from oceanmock.library import load_scenario

    console = Console(width=width, highlight=False, soft_wrap=True)
    loaded = load_scenario(scenario)
    drawing = api_named(loaded.api).module("explain")
    for line in drawing.draw_scenario(loaded, width=console.width):
        console.print(line)


@click.command(name="list")
def list_scenarios() -> None:
    """List the scenarios of the library, each with its summary."""
    from oceanmock.library import library_names, load_scenario

    for name in library_names():
        click.echo(f"{name:<{NAME_WIDTH}}{load_scenario(name).summary}")


@click.command()
def schema() -> None:
    """Print the JSON Schema of scenario files, for editors."""
    from oceanmock.library import scenario_schema

    click.echo(json.dumps(scenario_schema(), indent=2, ensure_ascii=False))


SCENARIO_COMMANDS: Final = (check, show, list_scenarios, schema)
