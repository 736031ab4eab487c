"""What a client gives a sandbox to live by: scenarios by name, as objects or texts; templates.

Nothing a client says is taken for a path: a name means a scenario that the server was started with,
or one of the library. A mistake in a text is where it stands in the text, by line and column; one
in an object, by the way to it (``scenarios[0].tasks[1].name``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson
import yaml
from pydantic import ValidationError

from oceanmock.api import Api
from oceanmock.apis import api_named
from oceanmock.engine.log import Create
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import AuthorError
from oceanmock.library import library_names, load_scenario, read_scenario
from oceanmock.scenario.diagnostics import DEEPEST, Issue, ScenarioError
from oceanmock.scenario.fields import BaseScenario
from oceanmock.text import did_you_mean, suggest

Json = dict[str, Any]

MOST_STEPS: Final = 200_000
"""So many subtasks or sub tasks may one request bring; a template that repeats needs few bytes."""
MOST_VALUES: Final = 50_000
"""So many keys and values may one scenario have: reading it holds up every other request."""
_NAME: Final = re.compile(r"[^\s:{\[]+")
_BREAKS: Final = {each: f"\\u{each:04x}" for each in (0x7F, *range(0x80, 0xA0), 0x2028, 0x2029)}
"""What JSON may hold as it is, and YAML would take for the end of a line or refuse."""


class ScenarioCatalog:
    """The scenarios there are by name: those the server was started with, and the library."""

    def __init__(self, served: Iterable[BaseScenario] = ()) -> None:
        self._known: dict[str, BaseScenario] = {scenario.name: scenario for scenario in served}

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self._known, *library_names()})

    def get(self, name: str) -> BaseScenario:
        """The scenario of a name. Raises AuthorError with the nearest name."""
        if name not in self._known:
            if name not in library_names():
                hint = did_you_mean(name, self.names())
                raise AuthorError(f"there is no scenario {name[:200]!r} here. {hint}".rstrip())
            self._known[name] = load_scenario(name)
        return self._known[name]

    def scenario(self, given: str | Json, *, place: str) -> BaseScenario:
        """The scenario that a name, an object or a text is; ``place`` is where it was given.

        Raises AuthorError with all that is wrong with it.
        """
        if isinstance(given, str):
            if _NAME.fullmatch(given):
                return self.get(given)
            _check_values(given, place)
            return read_scenario(given, path=place)
        return _of_object(given, place)


def check_api(scenarios: Iterable[BaseScenario], api: str | None) -> None:
    """Raises AuthorError where one is of the other API than the one that is asked for."""
    for scenario in scenarios:
        if api not in (None, scenario.api):
            raise AuthorError(
                f"scenario {scenario.name!r} is of {scenario.api}, and {api} is asked for: "
                f"api={scenario.api!r} would take it."
            )


def check_size(scenarios: Iterable[BaseScenario], apis: Sequence[Api]) -> None:
    """Raise AuthorError where scenarios have more steps than a request may bring."""
    steps = sum(api_named(each.api, apis).module("world").steps_of(each) for each in scenarios)
    if steps > MOST_STEPS:
        raise AuthorError(
            f"these scenarios have {steps:,} subtasks, with all that repeats; at most "
            f"{MOST_STEPS:,} can be given in one request."
        )


def _check_values(text: str, place: str) -> None:
    """Raises AuthorError for more values than can be read in a moment; an alias is all it is of."""
    sizes, open_ones, total = dict[str | None, int](), list[tuple[str | None, int]](), 0
    with suppress(yaml.YAMLError):  # whoever reads it will say so
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.AliasEvent):
                total += sizes.get(event.anchor, 1)
            elif isinstance(event, yaml.ScalarEvent):
                total += 1
                sizes[event.anchor] = 1
            elif isinstance(event, yaml.CollectionStartEvent):
                open_ones.append((event.anchor, total))
                total += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, before = open_ones.pop()
                sizes[anchor] = total - before
            if len(open_ones) > DEEPEST:
                return  # whoever reads it will say that, too
            if total > MOST_VALUES:
                raise AuthorError(
                    f"{place} has more than {MOST_VALUES:,} values, each alias counted as what it "
                    "stands for. Let tasks `repeat`, or give it in parts."
                )


# --- an object ------------------------------------------------------------------------------------


def _of_object(said: Json, place: str) -> BaseScenario:
    """The scenario that an object is. Raises AuthorError, whose places begin with ``place``."""
    try:
        text = orjson.dumps(said, option=orjson.OPT_INDENT_2).decode().translate(_BREAKS)
    except orjson.JSONEncodeError as problem:
        raise AuthorError(f"{place} cannot be read: {problem}.") from None
    _check_values(text, place)
    try:
        return read_scenario(text, path=place)
    except ScenarioError as error:
        ways = _ways_in(text)
        raise AuthorError(
            "\n".join(
                _told(each, place + ways.get((each.line, each.column), ""))
                for each in error.mistakes
            )
        ) from None


def _told(mistake: Issue, place: str) -> str:
    hint = f"\n  {mistake.hint}" if mistake.hint else ""
    return f"{place}: {mistake.message} [{mistake.rule}]{hint}"


def _ways_in(text: str) -> dict[tuple[int, int], str]:
    """The way to every key and value of a text, by the line and column at which each begins."""
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        root = None
    nodes = () if root is None else _nodes(root)
    return {(node.start_mark.line + 1, node.start_mark.column + 1): way for node, way in nodes}


def _nodes(root: yaml.Node) -> Iterator[tuple[yaml.Node, str]]:
    waiting = [(root, "")]
    while waiting:
        node, way = waiting.pop()
        yield node, way
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, f"{way}[{at}]") for at, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                waiting += [(key, f"{way}.{key.value}"), (value, f"{way}.{key.value}")]


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
        scenario = _of_object(data, "template")
    except AuthorError as error:
        raise AuthorError(str(error).replace(f"template.{key}[0]", "template")) from None
    if any(getattr(script, "starts_on", None) for script in getattr(scenario, key)):
        raise AuthorError("template.starts_on: a task that is created is born at once.")
    check_size([scenario], [api])
    id: str = sandbox.execute(Create(api.name, scenario))
    return id
