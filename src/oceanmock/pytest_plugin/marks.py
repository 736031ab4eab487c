"""Read and check the marks of a test: ``@pytest.mark.scenario(…)``.

A mark that names scenarios applies to the fixtures of their APIs, one that names none to both. For
each API the names are those of the closest level (test, class, module) that gives any; marks on one
level add up, from the top down. Each keyword counts from the closest mark that gives it. A test's
own marks must fit its fixtures; from its class and module a test takes what fits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from inspect import signature
from pathlib import Path
from textwrap import indent
from typing import Any, Final, cast

import pytest

from oceanmock.admin_client import Admin
from oceanmock.client import HANDLES, SandboxOptions
from oceanmock.clock import PROGRESSIONS
from oceanmock.errors import AuthorError
from oceanmock.handles import ScenarioSource, locate
from oceanmock.text import did_you_mean, shorten, suggest

FIXTURES: Final = tuple(HANDLES)
"""The names of the fixtures, which are those of the APIs."""
MARK_KEYWORDS: Final = tuple(key for key in SandboxOptions.__annotations__ if key != "name")
"""The keywords of a mark; the plugin names a sandbox after its test."""
MAX_MARK_LENGTH: Final = 60
"""The number of characters of a mark's arguments that an error shows."""


class ScenarioApis:
    """Find the API of each scenario; cached, since many tests name the same ones."""

    def __init__(self, admin: Admin | None = None) -> None:
        """Use the scenarios of a server; None means the library's."""
        self._admin: Final = admin
        self._apis: Final[dict[str | Path, str]] = {}

    @cached_property
    def _served(self) -> Mapping[str, str]:
        """The scenarios that the server knows, each with its API."""
        scenarios = [] if self._admin is None else self._admin.ask("GET", "/scenarios")["scenarios"]
        return {scenario["name"]: scenario["api"] for scenario in scenarios}

    def api_of(self, source: ScenarioSource) -> str:
        """Return the API. Raises AuthorError with everything wrong in the scenario."""
        if isinstance(source, Mapping):
            api = source.get("api")
            if api not in FIXTURES:
                raise AuthorError(f"`api` of the scenario is {api!r}\n  {suggest(api, FIXTURES)}")
            return str(api)
        if not isinstance(source, str | Path):
            raise AuthorError(f"{source!r} is no scenario: give a name, a path or a mapping.")
        key = source.absolute() if isinstance(source, Path) else source
        if key not in self._apis:
            self._apis[key] = self._find(source)
        return self._apis[key]

    def _find(self, source: str | Path) -> str:
        from oceanmock.library import load_scenario  # noqa: PLC0415 (slow)

        if isinstance(source, Path) and not source.is_file():
            raise AuthorError(
                f"there is no scenario file {source}, neither beside the test nor in the rootdir"
            )
        if self._admin is None or isinstance(source, Path):
            return str(load_scenario(source).api)
        if source not in self._served:
            hint = did_you_mean(source, list(self._served))
            raise AuthorError(f"the server knows no scenario {source!r}. {hint}".rstrip())
        return self._served[source]


def read_marks(
    item: pytest.Item, api: str, *, apis: ScenarioApis
) -> tuple[tuple[ScenarioSource, ...], dict[str, Any]]:
    """Return the scenarios and the options that a test's marks give to the sandbox of one API.

    Raises AuthorError with everything wrong in the marks.
    """
    scenarios: list[ScenarioSource] = []
    options: dict[str, Any] = {}
    closest = None
    for node, sources, keywords in _marks(item, apis):
        if sources and not any(name == api for name, _ in sources):
            continue
        options = {**keywords, **options}
        if sources and closest in (None, node):
            closest = node
            scenarios += [source for name, source in sources if name == api]
    return tuple(scenarios), options


def check_use(item: pytest.Item, used: Collection[str], *, apis: ScenarioApis) -> None:
    """Raise AuthorError where a test's own marks apply to none of the fixtures that it uses.

    A test that may request a fixture while it runs (``request.getfixturevalue``) is not checked.
    """
    if isinstance(item, pytest.Function) and "request" in signature(item.function).parameters:
        return
    for mark in _own_marks(item):
        if not used:
            raise AuthorError(
                f"{_mark_text(mark)}:\n  the test uses neither the fixture `ocp` nor `obshell`\n"
                "    Add one of them to the test's arguments."
            )
        for source in mark.args:
            api = apis.api_of(locate(source, scenario_folders(item)))
            if api not in used:
                raise AuthorError(
                    f"{_mark_text(mark)}:\n  this is a scenario of {api}, and the test does not "
                    f"use the fixture `{api}`\n    Add `{api}` to the test's arguments."
                )


def scenario_folders(item: pytest.Item) -> tuple[Path, ...]:
    """Return where a test's scenario files may be: beside the test, then in pytest's rootdir.

    They do not depend on the folder in which pytest runs.
    """
    return item.path.parent, item.config.rootpath


def option_problems(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with options, as far as it can be checked without a sandbox."""
    for keyword, value in options.items():
        if keyword not in MARK_KEYWORDS:
            yield f"there is no keyword `{keyword}`\n  {suggest(keyword, MARK_KEYWORDS)}"
        elif keyword == "progression" and value not in PROGRESSIONS:
            yield f"`progression` is {value!r}\n  {suggest(value, PROGRESSIONS)}"
        elif keyword in {"auth", "strict"} and not isinstance(value, bool):
            yield f"`{keyword}` is {value!r}\n  Allowed: True, False."


def _marks(
    item: pytest.Item, apis: ScenarioApis
) -> Sequence[tuple[object, list[tuple[str, ScenarioSource]], Mapping[str, Any]]]:
    """Return the marks of a test, closest first: the level, the scenarios with APIs, the keywords.

    Raises AuthorError with all their problems.
    """
    problems: list[str] = []
    marks = []
    for node in reversed(cast("list[pytest.Item | pytest.Collector]", item.listchain())):
        for mark in _own_marks(node):
            lines = list(option_problems(mark.kwargs))
            if not mark.args and not mark.kwargs:
                lines.append("it says nothing\n  Name a scenario, such as 'retry-failed-subtask'.")
            scenarios = []
            for argument in mark.args:
                try:
                    source = locate(argument, scenario_folders(item))
                    scenarios.append((apis.api_of(source), source))
                except AuthorError as error:
                    lines.append(str(error))
            if lines:
                problems += [f"{_mark_text(mark)}:", *(indent(line, "  ") for line in lines)]
            marks.append((node, scenarios, mark.kwargs))
    if problems:
        raise AuthorError("\n".join(problems))
    return marks


def _own_marks(node: pytest.Item | pytest.Collector) -> list[pytest.Mark]:
    """Return the marks of one level, from the top down."""
    return [mark for mark in reversed(node.own_markers) if mark.name == "scenario"]


def _mark_text(mark: pytest.Mark) -> str:
    """Return the mark as it is written in the test, shortened."""
    arguments = [repr(argument) for argument in mark.args]
    arguments += [f"{name}={value!r}" for name, value in mark.kwargs.items()]
    return f"@pytest.mark.scenario({shorten(', '.join(arguments), MAX_MARK_LENGTH)})"
