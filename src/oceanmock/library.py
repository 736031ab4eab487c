"""Find scenarios by name or path, and read them; raise all issues of a file at once.

The library is the ``scenarios/`` folder that comes with oceanmock. A file's ``api`` says which format it is in. First
all issues of structure are reported: repeated and unknown keys, missing and wrong values, ids and references. If there
are none, the rules of the format check the meaning, and the story is simulated. A misspelt key is read as the known one
that is most similar, so that its value is checked as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, get_args

import orjson
from pydantic import BaseModel, ValidationError

from oceanmock.apis import APIS
from oceanmock.engine.log import Decoder
from oceanmock.errors import InputError, Issue, Loc, ScenarioError
from oceanmock.openapi import compiled, data_folder
from oceanmock.scenario import MAX_STUBS, BaseScenario, FileSchema
from oceanmock.scenario.document import (
    INCLUDE,
    INCLUDED,
    MAX_ISSUES,
    MAX_VALUES,
    Document,
    Wording,
    explain,
    subject_of,
    value_at,
)
from oceanmock.scenario.faults import Fault, check_faults, name_each, read_bodies, span_of
from oceanmock.scenario.story import Format, StoryDivergesError, items_of
from oceanmock.scenario.stubs import Matches, StartsOn, Stub, unknown_placeholders
from oceanmock.text import closest, did_you_mean, suggest

SUFFIXES: Final = (".yaml", ".yml")
FORMATS: Final[Sequence[Format]] = [api.scenario.FORMAT for api in APIS]
_API_NAMES: Final = tuple(api.name for api in APIS)
_API_HINT: Final = f"Say {', or '.join(f'`api: {api.name}` for {api.scripts_key}' for api in APIS)}."


def library_names() -> list[str]:
    """Return the names of all scenarios that come with oceanmock, sorted."""
    return sorted(path.stem for path in data_folder("scenarios").glob("[!_]*.yaml"))


def load_library() -> list[BaseScenario]:
    """Return all scenarios that come with oceanmock and can be served together."""
    return [scenario for scenario in map(load_scenario, library_names()) if not scenario.stands_alone]


def load_all(references: Sequence[str]) -> list[BaseScenario]:
    """Return the scenarios of names, files and folders, each once, by default the library's. Raises InputError."""
    return [load_scenario(reference) for reference in expand(references)] or load_library()


def expand(references: Iterable[str]) -> list[str]:
    """Return names and files, each once, and for a folder the YAML files in it and below. Raises InputError.

    Files whose names begin with `_` are only included by others.
    """
    expanded = list[str]()
    for reference in references:
        files = [reference]
        if reference and Path(reference).is_dir() and reference not in library_names():
            paths = (path for path in Path(reference).rglob("[!_]*") if path.suffix in SUFFIXES and path.is_file())
            files = [str(path) for path in sorted(paths)]
        if not files:
            raise InputError(f"the folder {reference} has no scenario file, such as one.yaml")
        expanded += files
    return list(dict.fromkeys(expanded))


def find_scenario(reference: str) -> Path:
    """Return the file of a library name or a path. Raises InputError with the nearest name."""
    path = Path(reference)
    if path.suffix in SUFFIXES or path.name != reference:
        if not path.is_file():
            raise InputError(f"there is no scenario file {reference}")
        return path
    in_library = data_folder("scenarios") / f"{reference}.yaml"
    if in_library.is_file():
        return in_library
    hint = did_you_mean(reference, library_names()) or "`oceanmock list` names them all."
    raise InputError(f"there is no scenario {reference!r} in the library. {hint}")


def load_scenario(reference: str | Path) -> BaseScenario:
    """Return the scenario of a library name or a path. Raises InputError if there is none, ScenarioError with issues.

    The references and the meaning of packaged files are checked by `oceanmock check` and the tests, not at each load.
    """
    path = reference if isinstance(reference, Path) else find_scenario(reference)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        issue = Issue((), "unreadable-file", f"{path} cannot be read: {error}", path=str(path))
        raise ScenarioError([issue]) from error
    if not isinstance(reference, Path) and path.parent == data_folder("scenarios"):
        parts = [part.read_bytes() for part in sorted(path.parent.glob("_*")) if f"{INCLUDE}: {part.name}" in text]
        content = b"".join([text.encode(), *parts])
        data = compiled(path, content, lambda: Document(text, str(path), folder=path.parent).data)
        _, scenario = _parse(data, checks_names=False, checks_meaning=False)
        if scenario is not None:
            scenario._name = path.stem
            return scenario
    return read_scenario(text, path=str(path), folder=path.parent)


def read_scenario(
    text: str, *, path: str = "scenario.yaml", max_values: int = MAX_VALUES, folder: Path | None = None
) -> BaseScenario:
    """Return the scenario of a text, which may name files in ``folder``; messages have its ``path``.

    Raises ScenarioError.
    """
    document = Document(text, path, max_values=max_values, folder=folder)
    unreadable = [*read_bodies(document, folder)] if folder else []
    issues, scenario = _parse(document.data, document.text_at, checks_meaning=not document.duplicates)
    if unreadable or document.duplicates or scenario is None:
        raise ScenarioError([*document.duplicates, *map(document.locate, unreadable + issues)])
    scenario._name, scenario._size, scenario._files = Path(path).stem, document.size, tuple(document.files)
    return scenario


def scenario_of(data: Mapping[str, Any], *, path: str) -> BaseScenario:
    """Return the scenario of a mapping of JSON. Raises InputError with all its issues.

    Their places begin with ``path``: `scenarios[0].tasks[0].name`.
    """
    issues, scenario = _parse(data)
    if scenario is None:
        lines = list[str]()
        for issue in issues:
            steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in issue.loc)
            lines.append(f"{path}{''.join(steps)}: {issue}")
        raise InputError("\n".join(lines))
    scenario._name = Path(path).stem
    return scenario


def read_fault(data: object) -> Fault:
    """Return the fault that a mapping describes. Raises InputError with all its issues.

    Its API is the one in ``api``, or else that of the operation, task or dag it names; a fault that names none applies
    to the requests of every API.
    """
    fields, api = data, None
    if isinstance(data, dict):
        fields = {**data}
        api = fields.pop("api", None) or _api_named(fields)
    format = next((entry for entry in FORMATS if entry.api.name == api), FORMATS[0])
    parsed = _validate(fields, format.fault, format.wording, prefix=("faults", 0))
    issues = parsed.issues
    if api not in (None, format.api.name):
        what = f"`api` is {api!r}, which is none of its values"
        issues.append(Issue(("api",), "unknown-value", what, suggest(api, _API_NAMES)))
    if parsed.value is not None and not issues:
        issues += check_faults([parsed.value])
    if issues:
        raise InputError("\n".join(map(str, issues)))
    return parsed.value if api or parsed.value.when else Fault.model_validate(parsed.data)


DECODER: Final = Decoder(scenario_of, read_fault)  # of the data in stores


def _api_named(fault: Mapping[Any, Any]) -> str | None:
    """Return the API whose operation, task or dag a fault names, perhaps misspelt."""
    condition = fault["when"] if isinstance(fault.get("when"), dict) else {}
    for format in FORMATS:
        kinds = {kind for ids in format.fault.ids_by_operation.values() for kind in ids}
        if kinds.intersection(fault) or condition.keys() & {*kinds, format.api.state_key}:
            return str(format.api.name)
    words = [word for word in items_of(fault.get("operation")) if word]
    api_of = {id: format.api.name for format in FORMATS for id in format.fault.ids_by_operation}
    if words and not any(word in [*api_of] for word in words):
        api_of = {name: format.api.name for format in FORMATS for name in format.api.operation_names}
    return next((api_of[name] for word in words if (name := closest(word, [*api_of]))), None)


def scenario_schema() -> dict[str, Any]:
    """Return the JSON Schema by which editors complete and check scenario files; ``api`` chooses a part of it."""
    definitions: dict[str, Any] = {}
    for api, format in zip(_API_NAMES, FORMATS, strict=True):
        template = f"#/$defs/{api}.{{model}}"
        whole = format.model.model_json_schema(schema_generator=FileSchema, ref_template=template)
        parts = whole.pop("$defs")
        definitions |= {api: whole, **{f"{api}.{name}": part for name, part in parts.items()}}
    for definition in definitions.values():
        schema = next((part for part in definition.get("anyOf", ()) if "properties" in part), definition)
        if "properties" in schema:  # a mapping may have its keys from another file
            text = "Keys from another file, or from a key there: `_part.yaml#key`."
            schema["properties"][INCLUDE] = {"type": "string", "pattern": f"^{INCLUDED.pattern}$", "description": text}
            if required := schema.pop("required", None):
                schema["anyOf"] = [{"required": required}, {"required": [INCLUDE]}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "oceanmock scenario",
        "type": "object",
        "properties": {"api": {"enum": list(_API_NAMES), "description": _API_HINT}},
        "required": ["api"],
        "allOf": [
            {"if": {"properties": {"api": {"const": api}}, "required": ["api"]}, "then": {"$ref": f"#/$defs/{api}"}}
            for api in _API_NAMES
        ],
        "$defs": definitions,
    }


def _parse(
    data: Any, text_at: Callable[[Loc], str] = lambda _: "", *, checks_names: bool = True, checks_meaning: bool = True
) -> tuple[list[Issue], BaseScenario | None]:
    """Return all issues of structure, or else of meaning, and the scenario if there are none."""
    if not isinstance(data, dict):
        what = "a scenario is a mapping: `summary: …`, `api: ocp`, `tasks: …`"
        return [Issue((), "wrong-type", what)], None
    # The format is the one that `api` names, or else the one whose tasks or dags the file has.
    format = max(FORMATS, key=lambda it: (it.api.name == data.get("api"), it.api.scripts_key in data))
    parsed = _validate(data, format.model, replace(format.wording, text_at=text_at))
    issues = parsed.issues
    for issue in format.check_names(parsed.data) if checks_names else ():
        issues.append(replace(issue, loc=parsed.as_written(issue.loc)))
    if issues and "api" not in parsed.data:
        missing = Issue((), "missing-key", "a scenario has no `api`")
        issues = [replace(entry, hint=_API_HINT) if entry == missing else entry for entry in issues]
    if not issues:
        parsed.value._source = orjson.dumps(parsed.data)
        issues = _check_meaning(parsed.value, format) if checks_meaning else []
    if len(issues) > MAX_ISSUES:
        issues[MAX_ISSUES:] = [Issue((), "more-issues", f"only the first {MAX_ISSUES} issues are listed")]
    return issues, None if issues else parsed.value


@dataclass(slots=True)
class _Parsed:
    """Data with corrected keys, the value that the model reads from them, and the issues.

    ``renamed`` has the author's spelling of each corrected key, by its location. ``unknown`` has the location of each
    unknown key, the keys that are possible there, and the required key that it was read as, or "".
    """

    data: Any
    value: Any = None
    issues: list[Issue] = field(default_factory=list)
    renamed: dict[Loc, str] = field(default_factory=dict)
    unknown: list[tuple[Loc, tuple[str, ...], str]] = field(default_factory=list)

    def as_written(self, loc: Loc) -> Loc:
        """Return a location with the author's own keys."""
        return tuple(self.renamed.get(loc[: depth + 1], step) for depth, step in enumerate(loc))

    def correct(self, value: Any, model: type[BaseModel] | None, loc: Loc) -> Any:
        """Return a value whose mappings have only known keys; note the unknown ones."""
        if model is not None and isinstance(value, list):
            return [
                self.correct(item, model, (*loc, place)) if isinstance(item, dict) else item
                for place, item in enumerate(value)
            ]
        if model is None or not isinstance(value, dict):
            return value
        possible, clean = _keys_of(model), dict[Any, Any]()
        for key, item in value.items():
            name: Any = key
            if key not in possible and len(self.unknown) > MAX_ISSUES:
                continue
            if key not in possible:
                name = closest(key, list(possible)) if isinstance(key, str) else None
                is_free = name not in (None, *value, *clean)
                missing = name if is_free and possible[name][0] else ""
                self.unknown.append(((*loc, key), tuple(possible), missing))
                if not is_free:
                    continue
                self.renamed[(*loc, name)] = key
            clean[name] = self.correct(item, possible[name][1], (*loc, name))
        return clean


def _validate(data: Any, model: type[BaseModel], wording: Wording, *, prefix: Loc = ()) -> _Parsed:
    """Return the value that a model reads from data, or all issues; ``prefix`` is the location of a single fault."""
    try:
        return _Parsed(data, model.model_validate(data))
    except ValidationError:
        parsed = _Parsed(data)
    clean = parsed.data = parsed.correct(data, model, prefix)
    whole = {prefix[0]: [clean]} if prefix else clean
    text_at, choices = wording.text_at, {"api": _API_NAMES, **wording.choices}
    wording = replace(wording, choices=choices, text_at=lambda loc: text_at(parsed.as_written(loc)))
    foreign = {key: other.api.name for other in FORMATS for key in other.model.model_fields}
    for (*way, key), possible, missing in parsed.unknown:
        loc = tuple(way)
        owner, place = subject_of(loc, whole, wording), parsed.as_written(loc)
        if missing:
            parsed.issues.append(Issue(place, "missing-key", f"{owner} has no `{missing}`"))
        hint = suggest(key, possible)
        if key == INCLUDE:
            hint = "It names another file, such as _part.yaml, and only a scenario's file has it."
        elif not loc and key in foreign:
            hint = f"It belongs to a scenario with `api: {foreign[key]}`."
        what = f"`{key}` is no key of {owner}"
        parsed.issues.append(Issue((*place, key), "unknown-key", what, hint, at_key=True))
    try:
        parsed.value = model.model_validate(clean)
    except ValidationError as refused:
        for error in refused.errors()[: MAX_ISSUES + 1]:
            # A list may seem too short because its items were refused.
            is_echo = error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]
            if not is_echo:
                issue = explain(error, _way_in(whole, (*prefix, *error["loc"])), whole, wording)
                parsed.issues.append(replace(issue, loc=parsed.as_written(issue.loc)))
    return parsed


@lru_cache(maxsize=1024)
def _keys_of(model: type[BaseModel]) -> dict[str, tuple[bool, type[BaseModel] | None]]:
    """Return for each key whether it is required, and the model of its mappings; no key has more than one."""
    return {
        field.alias or name: (field.is_required(), next(_models_in(field.annotation), None))
        for name, field in model.model_fields.items()
    }


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _way_in(data: Any, loc: Loc) -> Loc:
    """Return pydantic's location of a value without tags of unions (`<…>` in a mapping) and places of only items."""
    way: list[int | str] = []
    for step in loc:
        holder = value_at(data, tuple(way))
        is_key = isinstance(holder, dict) and ((isinstance(step, str) and not step.startswith("<")) or step in holder)
        if is_key or isinstance(holder, list):
            way.append(step)
    return tuple(way)


def _check_meaning(scenario: BaseScenario, format: Format) -> list[Issue]:
    """Return the issues of the rules or, if there are none, of the story."""
    scripts = getattr(scenario, format.api.scripts_key)
    issues = [issue for rule in format.rules for issue in rule(scenario)]
    issues += check_faults(scenario.faults)
    issues += _check_stubs(scenario, scripts, format)
    issues += _check_starts(scripts, scenario.stubs, format)
    for number, step in enumerate(scenario.story):
        if step.start is not None and next(script for script in scripts if script.name == step.start).starts_on is None:
            what = f"{format.api.root.title} {step.start!r} is there from the start"
            issues.append(Issue(("story", number, "start"), "wrong-start", what, "Say what it `starts_on`."))
    if scenario.story and not issues:
        try:
            format.simulate(scenario)
        except StoryDivergesError as divergence:
            what = f"the story cannot happen: {divergence}"
            issues.append(Issue(("story", divergence.number), "impossible-story", what))
    return issues


def _check_path(path: str, loc: Loc, format: Format) -> Iterator[Issue]:
    """Yield an issue for a path that is not the API's, or that is an operation's."""
    prefix, steps = f"{format.api.prefix.rstrip('/')}/", path.split("/")
    if not path.startswith(prefix):
        yield Issue(loc, "wrong-path", f"{path} is no path of this API", f"They begin with {prefix}.")
        return
    for route in format.api.routes:
        others = route.path.split("/")
        if len(others) == len(steps) and all(a == b or "{" in a + b for a, b in zip(steps, others, strict=True)):
            yield Issue(loc, "wrong-path", f"{path} belongs to {route.id}, which responds there itself")
            return


def _check_stubs(scenario: BaseScenario, scripts: Sequence[Any], format: Format) -> Iterator[Issue]:
    """Yield duplicate and unknown names of stubs, wrong paths, and stubs that can never answer."""
    stubs = scenario.stubs
    names, taken = name_each("stub", stubs)
    yield from taken
    for place, (name, stub) in enumerate(zip(names, stubs, strict=True)):
        loc: Loc = ("stubs", place)
        yield from _check_path(stub.path, (*loc, "path"), format)
        earlier = (at for at, other in enumerate(stubs[:place]) if other.covers(stub.method, stub.path, stub.matches))
        if (first := next(earlier, None)) is not None:
            what = f"stub {name!r} can never answer: stub {names[first]!r} answers all its requests"
            hint = "Put that one behind, or say `when` or how many `times` it answers."
            yield Issue(loc, "never-answers", what, hint)
        stage = getattr(stub.when, "stage", None)
        script = next((it for it in scripts if stage and stub.when.of in (it.id, it.name)), None)
        if stage and span_of(stage)[0] > len(parts := getattr(script, f"{format.api.kinds[1].name}s")):
            what = f"stub {name!r} can never answer: a dag of {len(parts)} nodes is never at stage {stage}"
            yield Issue((*loc, "when", "stage"), "never-answers", what)
    for place, fault in enumerate(scenario.faults):
        if fault.stub not in (None, *names):
            what = f"there is no stub {fault.stub!r} in this file"
            yield Issue(("faults", place, "stub"), "unknown-reference", what, suggest(fault.stub, names))


def _check_starts(scripts: Sequence[Any], stubs: Sequence[Stub], format: Format) -> Iterator[Issue]:
    """Yield the issues of a file's templates and the requests that start them."""
    earlier = list[tuple[object, StartsOn]]()
    for place, script in enumerate(scripts):
        starts_on: StartsOn | None = script.starts_on
        if starts_on is None:
            continue
        if len(earlier) == MAX_STUBS:
            what = f"more than {MAX_STUBS} start on a request"
            yield Issue((format.api.scripts_key, place, "starts_on"), "too-many", what, "Serve them apart.")
            return
        loc, path = (format.api.scripts_key, place), starts_on.path
        yield from _check_path(path, (*loc, "starts_on", "path"), format)
        # An earlier template takes all requests of this one, unless it is for another server.
        agent = getattr(script, "agent", None)
        rivals = (other for owner, other in earlier if owner in (None, agent))
        others = (other for other in rivals if other.times is None and other.fits(starts_on.method, path))
        if any(other.fits_body(starts_on.body) for other in others):
            what = f"another starts on all that {starts_on.method} {path} could mean"
            hint = "Put this one first, or say which `body` it asks for, or how many `times` the other starts."
            yield Issue((*loc, "starts_on"), "never-starts", what, hint)
        if any(stub.covers(starts_on.method, path, Matches(body=starts_on.body)) for stub in stubs):
            what, hint = f"a stub answers all that {starts_on.method} {path} could mean", "Say `when` it answers."
            yield Issue((*loc, "starts_on"), "never-starts", what, hint)
        for key, text in (("name", script.name), ("maintenance", getattr(script, "maintenance", None))):
            for unknown, hint in unknown_placeholders(getattr(text, "tenant", text), path, n=()):
                what = f"{unknown} of `{key}` stands for nothing of the request"
                yield Issue((*loc, key), "bad-placeholder", what, hint)
        earlier.append((agent, starts_on))
        for way in _own_keys(script, [f"{kind.name}s" for kind in format.api.kinds[1:]], loc):
            what = f"`{way[-1]}` is said of what `starts_on` a request"
            why = "starts when its request comes" if way[-1] in ("age", "repeat") else "that is started gets its own"
            yield Issue(way, "beside-starts-on", what, f"Leave it out: each {why}.")


def _own_keys(thing: Any, part_keys: Sequence[str], loc: Loc) -> Iterator[Loc]:
    """Yield the locations of ids and of keys of the start that a thing or a part of it has."""
    for key in ("id", "age", "repeat"):
        if getattr(thing, key, None):
            yield (*loc, key)
    for key in part_keys[:1]:
        for place, part in enumerate(getattr(thing, key)):
            yield from _own_keys(part, part_keys[1:], (*loc, key, place))
