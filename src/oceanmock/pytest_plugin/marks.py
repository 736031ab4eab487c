"""What a test's marks want of its sandboxes: ``@pytest.mark.scenario(…)``, read and checked.

A mark that names scenarios speaks to the fixtures of their APIs, one that names none to both. For
each API the names are those of the closest level (test, class, module) that gives any; marks on one
level add up, from the top down. Each keyword counts from the closest mark that gives it. A test's
own marks must fit its fixtures; from its class and module a test takes what fits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import signature
from pathlib import Path
from textwrap import indent
from typing import Any, Final, cast

import pytest

from oceanmock.client.sandbox import Given, Options, place_of
from oceanmock.clock import PROGRESSIONS
from oceanmock.errors import AuthorError
from oceanmock.text import did_you_mean, shorten, suggest

APIS: Final = ("ocp", "obshell")
"""The APIs, which are also the names of their fixtures."""
KEYWORDS: Final = tuple(each for each in Options.__annotations__ if each != "name")
"""What a mark can say beside the scenarios; a sandbox is named for its test."""
Node = pytest.Item | pytest.Collector
LONGEST: Final = 60
"""So much of what a mark says is shown with what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a sandbox is to be: the scenarios in it, and the keywords of the one who makes it."""

    scenarios: tuple[Given, ...]
    keywords: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Mark:
    """A mark, on the test or on what it lies in, and the API of each scenario it names."""

    node: Node
    scenarios: tuple[tuple[str, Given], ...]
    keywords: Mapping[str, Any]

    def is_for(self, api: str) -> bool:
        """Whether it speaks to the fixture of this API."""
        return not self.scenarios or any(each == api for each, _ in self.scenarios)


def wanted(item: pytest.Item, api: str, api_of: Callable[[Given], str]) -> Wanted:
    """What the marks of a test want of the sandbox of one API.

    Raises AuthorError with all that is wrong with them.
    """
    marks = [each for each in _marks(item, api_of) if each.is_for(api)]
    keywords: dict[str, Any] = {}
    for mark in marks:  # the closest first
        keywords = {**mark.keywords, **keywords}
    naming = [each for each in marks if each.scenarios]
    level = [each for each in naming if each.node is naming[0].node]
    scenarios = [it for mark in level for each, it in mark.scenarios if each == api]
    return Wanted(tuple(scenarios), keywords)


def check_use(item: pytest.Item, used: Collection[str], api_of: Callable[[Given], str]) -> None:
    """Raises AuthorError where a test's own marks want what none of the fixtures it uses gives.

    A test that may ask for a fixture while it runs (``request.getfixturevalue``) is left alone.
    """
    if isinstance(item, pytest.Function) and "request" in signature(item.function).parameters:
        return
    for mark in _of(item):
        if not used:
            raise AuthorError(
                f"{shown(mark)}:\n  the test uses neither the fixture `ocp` nor `obshell`\n"
                "    Add one of them to the test's arguments."
            )
        for given in mark.args:
            api = api_of(place_of(given, folders_of(item)))
            if api not in used:
                raise AuthorError(
                    f"{shown(mark)}:\n  this is a scenario of {api}, and the test does not use "
                    f"the fixture `{api}`\n    Add `{api}` to the test's arguments."
                )


def folders_of(item: pytest.Item) -> tuple[Path, ...]:
    """Where the files of its scenarios are looked for: beside the test, then in pytest's rootdir.

    So it is the same from wherever pytest runs.
    """
    return item.path.parent, item.config.rootpath


# --- the marks of a test --------------------------------------------------------------------------


def _marks(item: pytest.Item, api_of: Callable[[Given], str]) -> list[_Mark]:
    """The marks of a test, closest first. Raises AuthorError with all that is wrong with them."""
    mistakes: list[str] = []
    marks = []
    for node in reversed(cast("list[Node]", item.listchain())):  # pytest 7 has it too
        for mark in _of(node):
            found = [place_of(each, folders_of(item)) for each in mark.args]
            wrong = [*_mistakes_in(mark)]
            scenarios = []
            for given in found:
                try:
                    scenarios.append((api_of(given), given))
                except AuthorError as mistake:
                    wrong.append(str(mistake))
            if wrong:
                mistakes += [f"{shown(mark)}:", *(indent(text, "  ") for text in wrong)]
            marks.append(_Mark(node, tuple(scenarios), mark.kwargs))
    if mistakes:
        raise AuthorError("\n".join(mistakes))
    return marks


def _of(node: Node) -> list[pytest.Mark]:
    """The marks of one level, from the top down."""
    return [each for each in reversed(node.own_markers) if each.name == "scenario"]


def _mistakes_in(mark: pytest.Mark) -> Iterator[str]:
    yield from mistakes_in(mark.kwargs)
    if not mark.args and not mark.kwargs:
        yield "it says nothing\n  Name a scenario, such as 'retry-failed-subtask'."


def mistakes_in(keywords: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with keywords, as far as it shows before a sandbox is made."""
    for keyword, value in keywords.items():
        if keyword not in KEYWORDS:
            yield f"there is no keyword `{keyword}`\n  {suggest(keyword, KEYWORDS)}"
        elif keyword == "progression" and value not in PROGRESSIONS:
            yield f"`progression` is {value!r}\n  {suggest(value, PROGRESSIONS)}"
        elif keyword in {"auth", "strict"} and not isinstance(value, bool):
            yield f"`{keyword}` is {value!r}\n  Allowed: True, False."


def shown(mark: pytest.Mark) -> str:
    """The mark as it was written, or nearly so."""
    said = [repr(each) for each in mark.args]
    said += [f"{name}={value!r}" for name, value in mark.kwargs.items()]
    text = ", ".join(said)
    return f"@pytest.mark.scenario({shorten(text, LONGEST)})"


# --- which API a scenario is of -------------------------------------------------------------------


class Known:
    """The API that each scenario is of; remembered, since many tests name the same one."""

    def __init__(self, names: Callable[[], Mapping[str, str]] | None = None) -> None:
        """``names`` gives a server's scenarios with their APIs; by default the library's."""
        self._names = names if names is None else cache(names)
        self._apis: dict[str | Path, str] = {}

    def api_of(self, given: Given) -> str:
        """The API. Raises AuthorError for what is no scenario, with all that is wrong with it."""
        if isinstance(given, Mapping):
            return _api_in(given)
        if not isinstance(given, str | Path):
            raise AuthorError(f"{given!r} is no scenario: give a name, a path or a mapping.")
        key = given.absolute() if isinstance(given, Path) else given
        if key not in self._apis:
            self._apis[key] = self._find(given)
        return self._apis[key]

    def _find(self, given: str | Path) -> str:
        from oceanmock.library import load_scenario  # noqa: PLC0415 (slow)

        if isinstance(given, Path) and not given.is_file():
            raise AuthorError(
                f"there is no scenario file {given}, neither beside the test nor in the rootdir"
            )
        if self._names is None or isinstance(given, Path):
            return load_scenario(given).api
        names = self._names()
        if given not in names:
            hint = did_you_mean(given, list(names))
            raise AuthorError(f"the server knows no scenario {given!r}. {hint}".rstrip())
        return names[given]


def _api_in(given: Mapping[str, Any]) -> str:
    api = given.get("api")
    if api not in APIS:
        raise AuthorError(f"`api` of the scenario is {api!r}\n  {suggest(api, APIS)}")
    return str(api)
