"""Turn a scenario's text into a scenario, or into all that is wrong with it.

A file's ``api`` says which format it is in; the formats are a parameter. First come all issues of
structure together: repeated and unknown keys, missing and wrong values, ids and references. Only
where there are none, the format's rules ask what the whole means, and its story is simulated. A key
that is nearly a known one is read as that one, so that what is below it is checked as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from oceanmock.errors import AuthorError
from oceanmock.scenario.diagnostics import Issue, Loc, ScenarioError, Wording, explain, owner_of, value_at
from oceanmock.scenario.document import MAX_VALUES, Document
from oceanmock.scenario.faults import Fault, check_faults
from oceanmock.scenario.fields import BaseScenario, FileSchema, StartsOn, is_variable
from oceanmock.scenario.story import StoryDivergesError
from oceanmock.text import closest, suggest


@dataclass(frozen=True, slots=True)
class Format:
    """The scenario files of one API, whose record (``oceanmock.api.Api``) has its words.

    ``check_names`` checks ids and references in the data, ``rules`` what a scenario of sound
    structure means, and ``simulate`` runs its story.
    """

    api: Any
    model: type[BaseScenario]
    fault: type[Fault]
    wording: Wording
    check_names: Callable[[Any], Iterator[Issue]]
    rules: Sequence[Callable[[Any], Iterator[Issue]]]
    simulate: Callable[[Any], object]


def read_scenario(text: str, formats: Sequence[Format], *, path: str, max_values: int = MAX_VALUES) -> BaseScenario:
    """Return the scenario of a text, which messages call ``path``. Raises ScenarioError."""
    document = Document(text, path, max_values=max_values)
    diagnostics = document.duplicate_keys()
    issues, scenario = _parse(document.data, formats, document.text_at, checks_meaning=not diagnostics)
    if issues or diagnostics or scenario is None:
        raise ScenarioError([*diagnostics, *map(document.locate, issues)])
    scenario._name = Path(path).stem
    return scenario


def scenario_of(data: Any, formats: Sequence[Format], *, path: str) -> BaseScenario:
    """Return the scenario of a mapping as JSON has it. Raises AuthorError with all its issues.

    Places are ``path`` and the way from there: `scenarios[0].tasks[0].name`.
    """
    issues, scenario = _parse(data, formats)
    if issues or scenario is None:
        lines = list[str]()
        for issue in issues:
            steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in issue.loc)
            lines.append(f"{path}{''.join(steps)}: {issue}")
        raise AuthorError("\n".join(lines))
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
    format = next((entry for entry in formats if entry.api.name == api), formats[0])
    parsed = _validate(fields, format.fault, format.wording, prefix=("faults", 0))
    issues = parsed.issues
    if api not in (None, format.api.name):
        what = f"`api` is {api!r}, which is none of its values"
        issues.append(Issue(("api",), "unknown-value", what, suggest(api, _apis(formats))))
    if parsed.value is not None and not issues:
        issues += check_faults([parsed.value])
    if issues:
        raise AuthorError("\n".join(map(str, issues)))
    return parsed.value if api else Fault.model_validate(parsed.data)


def _apis(formats: Sequence[Format]) -> tuple[str, ...]:
    return tuple(format.api.name for format in formats)


def _api_hint(formats: Sequence[Format]) -> str:
    apis = ", or ".join(f"`api: {format.api.name}` for {format.api.scripts_key}" for format in formats)
    return f"Say {apis}."


def _api_named(fault: Mapping[Any, Any], formats: Sequence[Format]) -> str | None:
    """Return the API whose operation or thing a fault names, perhaps not quite rightly."""
    for format in formats:
        if any(kind in fault for ids in format.fault.ids_by_operation.values() for kind in ids):
            return str(format.api.name)
    named = fault.get("operation")
    api_of: dict[str, str] = {id: format.api.name for format in formats for id in format.fault.ids_by_operation}
    for word in named if isinstance(named, list) else [named]:
        near = closest(word, [*api_of]) if word else None
        if near is not None:
            return api_of[near]
    return None


# --- structure ------------------------------------------------------------------------------------


def _parse(
    data: Any, formats: Sequence[Format], text_at: Callable[[Loc], str] = lambda _: "", *, checks_meaning: bool = True
) -> tuple[list[Issue], BaseScenario | None]:
    """Return all issues of structure or, where there are none, of meaning, and the scenario.

    The format is the one that ``api`` names, or else the one whose tasks or dags the file has.
    """
    if not isinstance(data, dict):
        what = "a scenario is a mapping: `summary: …`, `api: ocp`, `tasks: …`"
        return [Issue((), "wrong-type", what)], None
    by_keys = [entry for entry in formats if entry.api.scripts_key in data]
    by_name = [entry for entry in formats if entry.api.name == data.get("api")]
    format = [*by_name, *by_keys, *formats][0]
    wording = replace(format.wording, text_at=text_at)
    parsed = _validate(data, format.model, wording, formats=formats)
    issues = parsed.issues
    for issue in format.check_names(parsed.data):
        issues.append(replace(issue, loc=parsed.as_written(issue.loc)))
    if issues and "api" not in parsed.data:
        missing = Issue((), "missing-key", "a scenario has no `api`")
        hint = _api_hint(formats)
        issues = [replace(entry, hint=hint) if entry == missing else entry for entry in issues]
    if not issues and checks_meaning:
        issues = _check_meaning(parsed.value, format)
    return issues, None if issues else parsed.value


@dataclass(slots=True)
class _Parsed:
    """Data, with its misspelt keys put right, what the model makes of it, and the issues.

    ``renamed`` has the author's spelling of each key that was put right, by the way to it.
    ``unknown`` has the way to each unknown key, the keys that are possible there, and the required
    key that it was read as, "" if it was not.
    """

    data: Any
    value: Any = None
    issues: list[Issue] = field(default_factory=list)
    renamed: dict[Loc, str] = field(default_factory=dict)
    unknown: list[tuple[Loc, tuple[str, ...], str]] = field(default_factory=list)

    def as_written(self, loc: Loc) -> Loc:
        """Return a way with the author's own keys."""
        steps = enumerate(loc)
        return tuple(self.renamed.get(loc[: depth + 1], step) for depth, step in steps)

    def correct(self, value: Any, model: type[BaseModel] | None, loc: Loc) -> Any:
        """Return a value whose mappings have known keys only."""
        if model is not None and isinstance(value, list):
            return [
                self.correct(item, model, (*loc, place)) if isinstance(item, dict) else item
                for place, item in enumerate(value)
            ]
        if model is None or not isinstance(value, dict):
            return value
        possible, clean = model.model_fields, dict[Any, Any]()
        for key, item in value.items():
            name: Any = key
            if key not in possible:
                name = closest(key, list(possible)) if isinstance(key, str) else None
                is_free = name not in (None, *value, *clean)
                missing = name if is_free and possible[name].is_required() else ""
                self.unknown.append(((*loc, key), tuple(possible), missing))
                if not is_free:
                    continue
                self.renamed[(*loc, name)] = key
            clean[name] = self.correct(item, _model_below(model, name), (*loc, name))
        return clean


def _validate(
    data: Any, model: type[BaseModel], wording: Wording, *, prefix: Loc = (), formats: Sequence[Format] = ()
) -> _Parsed:
    """Return what a model makes of data, or all that is wrong with its keys and values.

    ``prefix`` is the way to the only fault; a key of another of the ``formats`` gets its own hint.
    """
    try:
        return _Parsed(data, model.model_validate(data))
    except ValidationError:
        parsed = _Parsed(data)
    clean = parsed.data = parsed.correct(data, model, prefix)
    whole = {prefix[0]: [clean]} if prefix else clean
    text_at = wording.text_at
    wording = replace(
        wording, choices={"api": _apis(formats), **wording.choices}, text_at=lambda loc: text_at(parsed.as_written(loc))
    )
    foreign = {
        key: f"It belongs to a scenario with `api: {other.api.name}`."
        for other in formats
        for key in other.model.model_fields
    }
    for (*way, key), possible, missing in parsed.unknown:
        loc = tuple(way)
        owner, place = owner_of(loc, whole, wording), parsed.as_written(loc)
        if missing:
            parsed.issues.append(Issue(place, "missing-key", f"{owner} has no `{missing}`"))
        hint = ("" if loc else foreign.get(str(key), "")) or suggest(key, possible)
        what = f"`{key}` is no key of {owner}"
        parsed.issues.append(Issue((*place, key), "unknown-key", what, hint, at_key=True))
    try:
        parsed.value = model.model_validate(clean)
    except ValidationError as refused:
        for error in refused.errors():
            # A list may be called too short only because its items were refused.
            is_echo = error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]
            if not is_echo:
                issue = explain(error, _way_in(whole, (*prefix, *error["loc"])), whole, wording)
                parsed.issues.append(replace(issue, loc=parsed.as_written(issue.loc)))
    return parsed


@lru_cache(maxsize=1024)
def _model_below(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the model of the mappings at a key; no key has more than one."""
    return next(_models_in(model.model_fields[key].annotation), None)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


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


# --- meaning --------------------------------------------------------------------------------------


def _check_meaning(scenario: BaseScenario, format: Format) -> list[Issue]:
    """Return what the rules find or, where that is nothing, whether the story cannot happen."""
    scripts = getattr(scenario, format.api.scripts_key)
    templates = [
        ((format.api.scripts_key, place), script)
        for place, script in enumerate(scripts)
        if script.starts_on is not None
    ]
    issues = list[Issue]()
    for rule in format.rules:
        issues += rule(scenario)
    if scenario.faults:
        issues += check_faults(scenario.faults)
    if templates:
        issues += _check_starts(templates, format)
    for number, step in enumerate(scenario.story):
        if step.start is None:
            continue
        if next(script for script in scripts if script.name == step.start).starts_on is None:
            what = f"{format.api.root.title} {step.start!r} is there from the start"
            hint = "Say what it `starts_on`."
            issues.append(Issue(("story", number, "start"), "wrong-start", what, hint))
    if not issues:
        try:
            format.simulate(scenario)
        except StoryDivergesError as divergence:
            what = f"the story cannot happen: {divergence}"
            issues.append(Issue(("story", divergence.number), "impossible-story", what))
    return issues


def _check_starts(templates: Sequence[tuple[Loc, Any]], format: Format) -> Iterator[Issue]:
    """Yield what is wrong with a file's templates and the requests that start them."""
    prefix = f"{format.api.prefix.rstrip('/')}/"
    part_keys = [f"{kind.name}s" for kind in format.api.kinds[1:]]
    for number, (loc, template) in enumerate(templates):
        starts_on: StartsOn = template.starts_on
        path, where = starts_on.path, (*loc, "starts_on", "path")
        owner = next((route.id for route in format.api.routes if _may_meet(path, route.path)), None)
        if not path.startswith(prefix):
            what = f"{path} is no path of this API"
            yield Issue(where, "wrong-path", what, f"They begin with {prefix}.")
        elif owner is not None:
            what = f"{path} belongs to {owner}, which responds there itself"
            yield Issue(where, "wrong-path", what)
        for _, earlier in templates[:number]:
            other: StartsOn = earlier.starts_on
            # Each request that starts this one starts the earlier one as well.
            if other.fits(starts_on.method, path) and (other.body is None or other.fits_body(starts_on.body)):
                what = f"another starts on all that {starts_on.method} {path} could mean"
                hint = "Put this one first, or say which `body` it asks for."
                yield Issue((*loc, "starts_on"), "never-starts", what, hint)
                break
        for way in _own_keys(template, part_keys, loc):
            what = f"`{way[-1]}` is said of what `starts_on` a request"
            hint = "Leave it out: each that is started gets its own."
            if way[-1] in ("age", "repeat"):
                hint = "Leave it out: each starts when its request comes."
            yield Issue(way, "beside-starts-on", what, hint)


def _may_meet(one: str, other: str) -> bool:
    """Return whether there is a path that both templates stand for."""
    pairs = zip(one.split("/"), other.split("/"), strict=False)
    return one.count("/") == other.count("/") and all(a == b or is_variable(a) or is_variable(b) for a, b in pairs)


def _own_keys(thing: Any, part_keys: Sequence[str], loc: Loc) -> Iterator[Loc]:
    """Yield the ways to ids and keys of its start that a thing or a part of it has."""
    for key in ("id", "age", "repeat"):
        if getattr(thing, key, None):
            yield (*loc, key)
    for key in part_keys[:1]:
        for place, part in enumerate(getattr(thing, key)):
            yield from _own_keys(part, part_keys[1:], (*loc, key, place))


# --- the schema -----------------------------------------------------------------------------------


def scenario_schema(formats: Sequence[Format]) -> dict[str, Any]:
    """Return the JSON Schema of the formats, from their models; ``api`` chooses one of them."""
    definitions: dict[str, Any] = {}
    for format in formats:
        whole = format.model.model_json_schema(
            schema_generator=FileSchema, ref_template=f"#/$defs/{format.api.name}.{{model}}"
        )
        parts = whole.pop("$defs")
        definitions[format.api.name] = whole
        definitions |= {f"{format.api.name}.{name}": part for name, part in parts.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "oceanmock scenario",
        "type": "object",
        "properties": {"api": {"enum": list(_apis(formats)), "description": _api_hint(formats)}},
        "required": ["api"],
        "allOf": [
            {"if": {"properties": {"api": {"const": api}}, "required": ["api"]}, "then": {"$ref": f"#/$defs/{api}"}}
            for api in _apis(formats)
        ],
        "$defs": definitions,
    }
