"""Find scenarios by name or by path, and read them in the formats of the registered APIs.

The library is the ``scenarios/`` folder that comes with oceanmock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from oceanmock.apis import APIS
from oceanmock.errors import AuthorError
from oceanmock.openapi import data_folder
from oceanmock.scenario import loader
from oceanmock.scenario.document import MAX_VALUES
from oceanmock.scenario.faults import Fault
from oceanmock.scenario.fields import BaseScenario
from oceanmock.text import did_you_mean

SUFFIXES: Final = (".yaml", ".yml")


@cache
def _formats() -> Sequence[loader.Format]:
    return [api.module("scenario_checks").FORMAT for api in APIS]


def read_scenario(text: str, *, path: str = "scenario.yaml", max_values: int = MAX_VALUES) -> BaseScenario:
    """Return the scenario of a text, which messages call ``path``. Raises ScenarioError."""
    return loader.read_scenario(text, _formats(), path=path, max_values=max_values)


def scenario_of(data: Mapping[str, Any], *, path: str) -> BaseScenario:
    """Return the scenario of a mapping as JSON has it. Raises AuthorError with all its issues."""
    return loader.scenario_of(data, _formats(), path=path)


def read_fault(data: object) -> Fault:
    """Return the fault that a mapping describes. Raises AuthorError with all its issues."""
    return loader.read_fault(data, _formats())


def scenario_schema() -> dict[str, Any]:
    """Return the JSON Schema of scenario files, by which editors complete and check them."""
    return loader.scenario_schema(_formats())


def library_names() -> list[str]:
    """Return the names of all scenarios that come with oceanmock, sorted."""
    return sorted(path.stem for path in data_folder("scenarios").glob("*.yaml"))


def load_library() -> list[BaseScenario]:
    """Return all scenarios that come with oceanmock and can be served at once.

    One whose agent differs from the others' is served alone, by its name.
    """
    return [scenario for scenario in map(load_scenario, library_names()) if not scenario.stands_alone]


def find_scenario(reference: str) -> Path:
    """Return the file of a library name or a path. Raises AuthorError with the nearest name."""
    path = Path(reference)
    if path.suffix in SUFFIXES or path.name != reference:
        if not path.is_file():
            raise AuthorError(f"there is no scenario file {reference}")
        return path
    in_library = data_folder("scenarios") / f"{reference}.yaml"
    if in_library.is_file():
        return in_library
    hint = did_you_mean(reference, library_names()) or "`oceanmock list` names them all."
    raise AuthorError(f"there is no scenario {reference!r} in the library. {hint}")


def load_scenario(reference: str | Path) -> BaseScenario:
    """Return the scenario of a library name or a path.

    Raises AuthorError when there is none, ScenarioError with all its issues when it is wrong.
    """
    path = reference if isinstance(reference, Path) else find_scenario(reference)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AuthorError(f"{path} cannot be read: {error}") from error
    return read_scenario(text, path=str(path))
