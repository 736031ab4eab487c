"""The library: scenario files, found by name or by path, and loaded.

The library is the ``scenarios/`` folder that comes with oceanmock. What a file says, and all that
is wrong with it, is for ``reading`` to tell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from oceanmock.errors import AuthorError
from oceanmock.obshell import scenario as obshell
from oceanmock.openapi import data_folder
from oceanmock.scenario.fields import BaseScenario
from oceanmock.scenario.loader import read_fault, read_scenario, scenario_schema
from oceanmock.text import did_you_mean

__all__ = [
    "find_scenario",
    "library_names",
    "load_library",
    "load_scenario",
    "read_fault",
    "read_scenario",
    "scenario_schema",
]

SUFFIXES: Final = (".yaml", ".yml")


def library_names() -> list[str]:
    """The names of all scenarios that come with oceanmock, sorted."""
    return sorted(path.stem for path in data_folder("scenarios").glob("*.yaml"))


def load_library() -> list[BaseScenario]:
    """All scenarios that come with oceanmock and can be served at once.

    One whose agent is another than the others' is served apart, by its name.
    """
    loaded = map(load_scenario, library_names())
    return [each for each in loaded if not _has_its_own_agent(each)]


def _has_its_own_agent(scenario: BaseScenario) -> bool:
    return isinstance(scenario, obshell.Scenario) and scenario.agent != obshell.Agent()


def find_scenario(reference: str) -> Path:
    """The file a library name or a path means. Raises AuthorError with the nearest name."""
    path = Path(reference)
    if path.suffix in SUFFIXES or path.name != reference:
        if not path.is_file():
            raise AuthorError(f"there is no scenario file {reference}")
        return path
    names = library_names()
    if reference in names:
        return data_folder("scenarios") / f"{reference}.yaml"
    hint = did_you_mean(reference, names) or "`oceanmock list` names them all."
    raise AuthorError(f"there is no scenario {reference!r} in the library. {hint}")


def load_scenario(reference: str | Path) -> BaseScenario:
    """The scenario of a library name or a path.

    Raises AuthorError when there is none, ScenarioError with all its mistakes when it is wrong.
    """
    path = reference if isinstance(reference, Path) else find_scenario(reference)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AuthorError(f"{path} cannot be read: {error}") from error
    return read_scenario(text, path=str(path))
