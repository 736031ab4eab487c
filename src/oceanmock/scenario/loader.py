"""Turn a scenario's text into a scenario, or into all that is wrong with it.

A file's ``api`` says which format it is in; the formats are a parameter. First come all issues of
structure together: repeated and unknown keys, missing and wrong values, ids and references. Only
where there are none, the format's own checks ask what the whole means. A key that is nearly a known
one is read as that one, so that what is below it is checked as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from oceanmock.errors import AuthorError
from oceanmock.scenario.diagnostics import (
    Issue,
    Loc,
    ScenarioError,
    Wording,
    explain,
    owner_of,
    value_at,
)
from oceanmock.scenario.document import MAX_VALUES, Document
from oceanmock.scenario.faults import Fault, check_faults
from oceanmock.scenario.fields import BaseScenario, FileSchema
from oceanmock.scenario.story import StoryDivergesError
from oceanmock.text import closest, suggest


@dataclass(frozen=True, slots=True)
class Format:
    """The scenario files of one API.

    ``scripts_key`` is the key of its tasks or dags. ``check_names`` checks ids and references in
    the data, ``check`` what a scenario of sound structure means.
    """

    api: str
    scripts_key: str
    model: type[BaseScenario]
    fault: type[Fault]
    wording: Wording
    check_names: Callable[[Any], Iterator[Issue]]
    check: Callable[[Any], list[Issue]]


def read_scenario(
    text: str, formats: Sequence[Format], *, path: str, max_values: int = MAX_VALUES
) -> BaseScenario:
    """Return the scenario of a text, which messages call ``path``. Raises ScenarioError."""
    document = Document(text, path, max_values=max_values)
    issues, scenario = _parse(document.data, formats, document.text_at)
    diagnostics = document.duplicate_keys()
    if scenario is not None and not diagnostics:
        issues = _format_of(document.data, formats).check(scenario)
    diagnostics += map(document.locate, issues)
    if diagnostics or scenario is None:
        raise ScenarioError(diagnostics)
    return _named(scenario, path)


def scenario_of(data: Any, formats: Sequence[Format], *, path: str) -> BaseScenario:
    """Return the scenario of a mapping as JSON has it. Raises AuthorError with all its issues.

    Places are ``path`` and the way from there: `scenarios[0].tasks[0].name`.
    """
    issues, scenario = _parse(data, formats)
    if scenario is not None:
        issues = _format_of(data, formats).check(scenario)
    if issues or scenario is None:
        raise AuthorError("\n".join(f"{path}{_way(issue.loc)}: {issue}" for issue in issues))
    return _named(scenario, path)


def _named(scenario: BaseScenario, path: str) -> BaseScenario:
    scenario._name = Path(path).stem
    return scenario


def read_fault(data: object, formats: Sequence[Format]) -> Fault:
    """Return the fault that a mapping describes. Raises AuthorError with all its issues.

    Its API is the one in ``api``, or else the one whose operation or thing it names; a fault that
    names none applies to the requests of every API.
    """
    fields = {**data} if isinstance(data, dict) else data
    api = fields.pop("api", None) if isinstance(fields, dict) else None
    if isinstance(fields, dict) and not api:
        api = _api_named(fields, formats)
    format = next((entry for entry in formats if entry.api == api), formats[0])
    parsed = _validate(fields, format.fault, format.wording, prefix=("faults", 0))
    issues = parsed.issues
    if api not in (None, format.api):
        what = f"`api` is {api!r}, which is none of its values"
        issues.append(Issue(("api",), "unknown-value", what, suggest(api, _apis(formats))))
    if parsed.value is not None and not issues:
        issues += check_faults([parsed.value])
    if issues:
        raise AuthorError("\n".join(map(str, issues)))
    return parsed.value if api else Fault.model_validate(parsed.data)


def _apis(formats: Sequence[Format]) -> tuple[str, ...]:
    return tuple(format.api for format in formats)


def _api_hint(formats: Sequence[Format]) -> str:
    apis = ", or ".join(f"`api: {format.api}` for {format.scripts_key}" for format in formats)
    return f"Say {apis}."


def _api_named(fault: Mapping[Any, Any], formats: Sequence[Format]) -> str | None:
    """Return the API whose operation or thing a fault names, perhaps not quite rightly."""
    for format in formats:
        if any(kind in fault for ids in format.fault.ids_by_operation.values() for kind in ids):
            return format.api
    named = fault.get("operation")
    api_of = {id: format.api for format in formats for id in format.fault.ids_by_operation}
    for word in named if isinstance(named, list) else [named]:
        near = closest(word, [*api_of]) if word else None
        if near is not None:
            return api_of[near]
    return None


# --- structure ------------------------------------------------------------------------------------


def _parse(
    data: Any, formats: Sequence[Format], text_at: Callable[[Loc], str] = lambda _: ""
) -> tuple[list[Issue], BaseScenario | None]:
    """Return all issues of structure, and the scenario, None if there are any."""
    if not isinstance(data, dict):
        what = "a scenario is a mapping: `summary: …`, `api: ocp`, `tasks: …`"
        return [Issue((), "wrong-type", what)], None
    format = _format_of(data, formats)
    choices = {"api": _apis(formats), **format.wording.choices}
    wording = replace(format.wording, choices=choices, text_at=text_at)
    parsed = _validate(data, format.model, wording, foreign_keys=_foreign_keys(format, formats))
    issues = parsed.issues + [parsed.as_written(entry) for entry in format.check_names(parsed.data)]
    if "api" not in parsed.data:
        missing = Issue((), "missing-key", "a scenario has no `api`")
        hint = _api_hint(formats)
        issues = [replace(entry, hint=hint) if entry == missing else entry for entry in issues]
    return issues, None if issues else parsed.value


def _format_of(data: Mapping[Any, Any], formats: Sequence[Format]) -> Format:
    """Return the format that ``api`` names, or else the one whose tasks or dags the file has."""
    for format in formats:
        if format.api == data.get("api"):
            return format
    return next((format for format in formats if format.scripts_key in data), formats[0])


def _foreign_keys(format: Format, formats: Sequence[Format]) -> dict[str, str]:
    """Return the hint for each key at the root that only another format has."""
    return {
        key: f"It belongs to a scenario with `api: {other.api}`."
        for other in formats
        for key in other.model.model_fields.keys() - format.model.model_fields.keys()
    }


@dataclass(slots=True)
class _Parsed:
    """Data with its misspelt keys put right, what the model makes of it, and the issues.

    ``renamed`` has the author's spelling of each key that was put right, by the way to it.
    """

    data: Any
    value: Any
    issues: list[Issue]
    renamed: dict[Loc, str]

    def as_written(self, issue: Issue) -> Issue:
        """Return an issue whose way has the author's own keys."""
        return replace(issue, loc=_as_written(issue.loc, self.renamed))


def _validate(
    data: Any,
    model: type[BaseModel],
    wording: Wording,
    *,
    prefix: Loc = (),
    foreign_keys: Mapping[str, str] | None = None,
) -> _Parsed:
    """Check the keys of data, then its values. ``prefix`` is the way to the only fault."""
    keys = _Keys()
    clean = keys.read(data, model, prefix)
    whole = {prefix[0]: [clean]} if prefix else clean
    parsed = _Parsed(clean, None, [], keys.renamed)
    text_at = wording.text_at
    wording = replace(wording, text_at=lambda loc: text_at(_as_written(loc, keys.renamed)))
    for loc, key in keys.missing:
        message = f"{owner_of(loc, whole, wording)} has no `{key}`"
        parsed.issues.append(parsed.as_written(Issue(loc, "missing-key", message)))
    for loc, key, existing in keys.unknown:
        hint = "" if loc or foreign_keys is None else foreign_keys.get(str(key), "")
        message = f"`{key}` is no key of {owner_of(loc, whole, wording)}"
        way = (*_as_written(loc, keys.renamed), key)
        issue = Issue(way, "unknown-key", message, hint or suggest(key, existing), at_key=True)
        parsed.issues.append(issue)
    try:
        parsed.value = model.model_validate(clean)
    except ValidationError as refused:
        for error in refused.errors():
            if not _is_echo(error):
                loc = _way_in(whole, (*prefix, *error["loc"]))
                parsed.issues.append(parsed.as_written(explain(error, loc, whole, wording)))
    return parsed


class _Keys:
    """Read mappings by a model's keys; collect unknown and misspelt required ones."""

    def __init__(self) -> None:
        self.unknown: list[tuple[Loc, Any, tuple[str, ...]]] = []
        self.missing: list[tuple[Loc, str]] = []
        self.renamed: dict[Loc, str] = {}

    def read(self, value: Any, model: type[BaseModel] | None, loc: Loc) -> Any:
        """Return a value whose mappings have known keys only."""
        if model is None:
            return value
        if isinstance(value, list):
            return [
                self._mapping(item, model, (*loc, place)) if isinstance(item, dict) else item
                for place, item in enumerate(value)
            ]
        return self._mapping(value, model, loc) if isinstance(value, dict) else value

    def _mapping(self, data: dict[Any, Any], model: type[BaseModel], loc: Loc) -> dict[Any, Any]:
        existing, clean = model.model_fields, dict[Any, Any]()
        for key, value in data.items():
            right = key
            if key not in existing:
                self.unknown.append((loc, key, tuple(existing)))
                right = closest(key, list(existing)) if isinstance(key, str) else None
                if right is None or right in data or right in clean:
                    continue
                self.renamed[(*loc, right)] = key
                if existing[right].is_required():
                    self.missing.append((loc, right))
            clean[right] = self.read(value, _model_below(model, right), (*loc, right))
        return clean


@lru_cache(maxsize=1024)
def _model_below(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the model of the mappings at a key; no key has more than one."""
    return next(_models_in(model.model_fields[key].annotation), None)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _as_written(loc: Loc, renamed: Mapping[Loc, str]) -> Loc:
    return tuple(renamed.get(loc[: depth + 1], step) for depth, step in enumerate(loc))


def _is_echo(error: ErrorDetails) -> bool:
    """Return whether a list is called too short only because its items were refused."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _way_in(data: Any, loc: Loc) -> Loc:
    """Return pydantic's way to a value as the data has it.

    Without the tags of a union's members (in angle brackets where they are mappings), and without
    the position in a list that is written as its only item.
    """
    way: list[int | str] = []
    for step in loc:
        holder = value_at(data, tuple(way))
        is_key = isinstance(step, str) and not step.startswith("<")
        in_dict = isinstance(holder, dict) and (is_key or step in holder)
        if in_dict or isinstance(holder, list):
            way.append(step)
    return tuple(way)


def _way(loc: Loc) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)


# --- meaning --------------------------------------------------------------------------------------

S = TypeVar("S", bound=BaseScenario)


def check_meaning(
    scenario: S,
    rules: Sequence[Callable[[S], Iterator[Issue]]],
    simulate: Callable[[S], object],
) -> list[Issue]:
    """Return what the rules find or, where that is nothing, whether the story cannot happen."""
    issues = [issue for rule in rules for issue in rule(scenario)]
    if not issues:
        try:
            simulate(scenario)
        except StoryDivergesError as divergence:
            what = f"the story cannot happen: {divergence}"
            issues.append(Issue(("story", divergence.number), "impossible-story", what))
    return issues


# --- the schema -----------------------------------------------------------------------------------


def scenario_schema(formats: Sequence[Format]) -> dict[str, Any]:
    """Return the JSON Schema of the formats, from their models; ``api`` chooses one of them."""
    definitions: dict[str, Any] = {}
    for format in formats:
        whole = format.model.model_json_schema(
            schema_generator=FileSchema, ref_template=f"#/$defs/{format.api}.{{model}}"
        )
        parts = whole.pop("$defs")
        definitions[format.api] = whole
        definitions |= {f"{format.api}.{name}": part for name, part in parts.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "oceanmock scenario",
        "type": "object",
        "properties": {"api": {"enum": list(_apis(formats)), "description": _api_hint(formats)}},
        "required": ["api"],
        "allOf": [
            {
                "if": {"properties": {"api": {"const": api}}, "required": ["api"]},
                "then": {"$ref": f"#/$defs/{api}"},
            }
            for api in _apis(formats)
        ],
        "$defs": definitions,
    }
