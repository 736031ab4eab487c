"""Read the scenarios, templates and switches of admin requests.

A scenario comes by name, as an object or as a text. A name is never read as a path: it means a
scenario that the server was started with, or one of the library. An error in a text has its line
and column; one in an object, its path (``scenarios[0].tasks[1].name``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from oceanmock.api import Api
from oceanmock.apis import api_named
from oceanmock.engine.log import Create
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import AuthorError
from oceanmock.library import library_names, load_scenario, read_scenario, scenario_of
from oceanmock.scenario.document import too_many_values, value_count
from oceanmock.scenario.fields import BaseScenario
from oceanmock.text import did_you_mean, suggest

Json = dict[str, Any]

MAX_STEPS: Final = 200_000
"""The most subtasks or sub tasks of one request; a template that repeats needs few bytes."""
MAX_VALUES: Final = 50_000
"""The most keys and values of one scenario: reading it blocks every other request."""
_NAME: Final = re.compile(r"[^\s:{\[]+")


class ScenarioCatalog:
    """Find scenarios by name: those the server was started with, and the library."""

    def __init__(self, served: Iterable[BaseScenario] = ()) -> None:
        self._known: dict[str, BaseScenario] = {scenario.name: scenario for scenario in served}

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted({*self._known, *library_names()})

    def get(self, name: str) -> BaseScenario:
        """Return the scenario of a name. Raises AuthorError with the nearest name."""
        if name not in self._known:
            if name not in library_names():
                hint = did_you_mean(name, self.names())
                raise AuthorError(f"there is no scenario {name[:200]!r} here. {hint}".rstrip())
            self._known[name] = load_scenario(name)
        return self._known[name]

    def scenario(self, given: str | Json, *, place: str) -> BaseScenario:
        """Return the scenario of a name, an object or a text; ``place`` is where it was given.

        Raises AuthorError with all that is wrong with it.
        """
        if isinstance(given, str):
            if _NAME.fullmatch(given):
                return self.get(given)
            return read_scenario(given, path=place, max_values=MAX_VALUES)
        if value_count(given) > MAX_VALUES:
            raise too_many_values(place, MAX_VALUES)
        return scenario_of(given, path=place)


def check_api(scenarios: Iterable[BaseScenario], api: str | None) -> None:
    """Raise AuthorError where one is of another API than the requested one."""
    for scenario in scenarios:
        if api not in (None, scenario.api):
            raise AuthorError(
                f"scenario {scenario.name!r} is of {scenario.api}, and {api} is asked for: "
                f"api={scenario.api!r} would take it."
            )


def check_size(scenarios: Iterable[BaseScenario], apis: Sequence[Api]) -> None:
    """Raise AuthorError where scenarios have more steps than a request may bring."""
    steps = sum(api_named(item.api, apis).module("world").steps_of(item) for item in scenarios)
    if steps > MAX_STEPS:
        raise AuthorError(
            f"these scenarios have {steps:,} subtasks, with all that repeats; at most "
            f"{MAX_STEPS:,} can be given in one request."
        )


# --- switches and templates -----------------------------------------------------------------------


def check_switches(api: Api, switches: Mapping[str, Any]) -> None:
    """Raise AuthorError for a switch that an API does not have, or a wrong value."""
    model, key = api.scenario.Switches, api.switches_key
    for name in switches:
        if name not in model.model_fields:
            hint = suggest(name, list(model.model_fields))
            raise AuthorError(f"{key}: {name[:200]!r} is no switch. {hint}")
    try:
        model.model_validate(switches)
    except ValidationError as error:
        problem = error.errors()[0]
        path = ".".join(str(part) for part in (key, *problem["loc"]))
        raise AuthorError(f"{path}: {problem['msg']}") from None


def create_task(sandbox: Sandbox, api: Api, template: Json) -> str:
    """Start a task from a template, now, and return its id; the first one's where it repeats.

    Raises AuthorError with all that is wrong with the template, or IdTaken.
    """
    key, settings = api.scripts_key, sandbox.worlds[api.name].settings()
    data = {"summary": "A template", "api": api.name, **settings, key: [template]}
    try:
        scenario = scenario_of(data, path="template")
    except AuthorError as error:
        raise AuthorError(str(error).replace(f"template.{key}[0]", "template")) from None
    if any(getattr(script, "starts_on", None) for script in getattr(scenario, key)):
        raise AuthorError("template.starts_on: a task that is created is born at once.")
    check_size([scenario], [api])
    id: str = sandbox.execute(Create(api.name, scenario))
    return id
