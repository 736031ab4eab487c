"""A scenario's text → the scenario, or all its mistakes at once.

A file's ``api`` says which of the two formats it is in. Its text is checked twice: against the
models of ``scenario``, then, with what they refused put right for the moment, against
``scenario_rules``; so its author sees every mistake in one go. What pydantic finds is said here in
the words of the file format.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from oceanmock.errors import AuthorError
from oceanmock.obshell import scenario as obshell
from oceanmock.obshell import scenario_checks as obshell_rules
from oceanmock.ocp import scenario as ocp
from oceanmock.ocp import scenario_checks as ocp_rules
from oceanmock.scenario.diagnostics import Document, Found, Loc, ScenarioError
from oceanmock.scenario.faults import Fault, ObshellFault, OcpFault
from oceanmock.scenario.fields import BaseScenario, FileSchema
from oceanmock.text import closest, suggest


def read_scenario(text: str, *, path: str = "scenario.yaml") -> BaseScenario:
    """The scenario a text holds; ``path`` is what messages call it. Raises ScenarioError."""
    document = Document(text, path)
    found, scenario = _check(document.data)
    mistakes = document.duplicate_keys() + [document.locate(each) for each in found]
    if mistakes or scenario is None:
        raise ScenarioError(mistakes)
    scenario._name = Path(path).stem
    return scenario


def read_fault(said: object) -> Fault:
    """The fault that a mapping describes, for a sandbox that is there already.

    Its API is the one in ``api``, or else the one whose operation or thing it names; where it names
    none, it strikes requests of both. Raises AuthorError with all that is wrong with it.
    """
    written = {**said} if isinstance(said, dict) else said
    api = written.pop("api", None) or _api_named(written) if isinstance(written, dict) else None
    form = _FORMATS.get(str(api), _FORMATS["ocp"])
    whole = {"summary": "?", "api": api or form.api, form.key: _PUT_RIGHT[form.key]}
    found, _ = _check({**whole, "faults": [written]})
    if found:
        raise AuthorError("\n".join(map(_without_place, found)))
    return (_FAULTS[form.api] if api else Fault).model_validate(written)


_FAULTS: Final[dict[str, type[Fault]]] = {"ocp": OcpFault, "obshell": ObshellFault}


def _api_named(fault: dict[Any, Any]) -> str | None:
    """The API whose operation or thing a fault names, perhaps not quite rightly; the first."""
    said = fault.get("operation")
    words = [str(word) for word in (said if isinstance(said, list) else [said]) if word]
    api_of = {word: api for api, model in _FAULTS.items() for word in model.KINDS}
    near = [closest(word, [*api_of]) for word in words]
    for api, model in _FAULTS.items():
        if any(kind in fault for about in model.KINDS.values() for kind in about):
            return api
    return next((api_of[word] for word in near if word is not None), None)


def _without_place(found: Found) -> str:
    hint = f"\n  {found.hint}" if found.hint else ""
    return f"{found.message} [{found.rule}]{hint}"


# --- the formats ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Format:
    """One of the two formats: its ``api``, whose words it uses, the key of what it scripts."""

    api: str
    server: str
    key: str
    model: type[BaseScenario]
    check: Callable[..., list[Found]]


_FORMATS: Final = {
    each.api: each
    for each in (
        _Format("ocp", "OCP", "tasks", ocp.Scenario, ocp_rules.check),
        _Format("obshell", "obshell", "dags", obshell.Scenario, obshell_rules.check),
    )
}


def _format_of(data: dict[Any, Any]) -> _Format:
    """The format a file's api says; where it says none, the one whose tasks or dags it has."""
    api = data.get("api")
    if isinstance(api, str) and api in _FORMATS:
        return _FORMATS[api]
    return _FORMATS["obshell" if "dags" in data and "tasks" not in data else "ocp"]


# --- what the models refuse -----------------------------------------------------------------------

_PUT_RIGHT: Final[dict[str, Any]] = {
    "summary": "?",
    "id": 1,
    "name": "?",
    "ob_cluster_id": 1,
    "ob_tenant_id": 1,
    "tasks": [{"subtasks": ["?"]}],
    "subtasks": ["?"],
    "attempts": [{}],
    "rollback": [{}],
    "dags": [{"nodes": ["?"]}],
    "nodes": ["?"],
    "sub_tasks": [{"ends": "FAILED"}],
    "story": [],
    "count": 1,
    "status": "RUNNING",
    "operation": "EXECUTE",
    "message": "?",
    "ip": "127.0.0.1",
    "tenant": "?",
}
"""What stands in for a value that is missing or wrong, while the rest is looked at."""

_STAND_INS: Final[dict[str, Any]] = {
    "tasks": {"subtasks": ["?"]},
    "subtasks": "?",
    "dags": {"nodes": ["?"]},
    "nodes": "?",
    "sub_tasks": {"ends": "FAILED"},
    "attempts": {"ends": "FAILED"},
    "rollback": {"ends": "FAILED"},
    "story": {"wait": "0s"},
    "log": "",
    "needs": None,
    "faults": {"delay": "0s", "calls": 2},
}
"""What stands in for one item of a list that is wrong."""


_ONLY_WHERE_MISSING: Final = {"id", "tenant"}
"""Elsewhere these may as well be left out."""

_RUNS: Final = {"attempts", "rollback", "sub_tasks"}

_NAMING: Final = ("tasks", "subtasks", "dags", "nodes", "sub_tasks", "id", "name")
"""Where something is wrong with one of these, a reference to what it names is not."""

_MAKE_A_STEP: Final = (
    *("until", "wait", "call", "task", "subtask"),
    *("dag", "node", "sub_task", "state", "operator", "stage"),
)
"""Without one of these a step of a story is no use, and another stands in for the whole of it."""


def _check(data: Any) -> tuple[list[Found], BaseScenario | None]:
    """All that is wrong, and the scenario with that put right (None if that is no use)."""
    if not isinstance(data, dict):
        what = "a scenario is a mapping: `summary: …`, `api: ocp`, `tasks: …`"
        return [Found((), "wrong-type", what)], None
    found, misspelt, scenario = list[Found](), dict[Loc, str](), None
    data, form = copy.deepcopy(data), _format_of(data)
    for _ in range(5):
        try:
            scenario = form.model.model_validate(data)
            break
        except ValidationError as refused:
            found += _mend(refused, data, misspelt, form)
    if scenario is not None:
        hidden = {rule for each in found for rule in _hidden_by(each)}
        further = form.check(scenario, tell_story=not found)
        found += [each for each in further if each.rule not in hidden]
    return [replace(each, loc=_as_written(each.loc, misspelt)) for each in found], scenario


def _mend(
    refused: ValidationError, data: Any, misspelt: dict[Loc, str], form: _Format
) -> list[Found]:
    """What the models refuse in ``data``, which is put right; keys renamed go to ``misspelt``."""
    errors = [error for error in refused.errors() if not _is_echo(error)]
    renamed = dict(_misspelt_keys(errors, data, form))
    found = [_explain(error, data, form) for error in errors]
    for right, wrong in renamed.items():
        holder = _value_at(data, right[:-1])
        if wrong in holder:  # not so where an alias brings one mapping to several places
            holder[right[-1]] = holder.pop(wrong)
    misspelt.update(renamed)
    mended = {*renamed, *((*loc[:-1], wrong) for loc, wrong in renamed.items())}
    for error in reversed(errors):
        loc = _plain(error["loc"], data)
        if error["type"] == "bad_attempt":
            _let_fail(_value_at(data, loc))
        elif loc not in mended:
            _put_right(data, loc, missing=error["type"] == "missing")
    data["api"] = form.api
    return found


def _misspelt_keys(
    errors: list[ErrorDetails], data: Any, form: _Format
) -> Iterator[tuple[Loc, str]]:
    """The way to where a key should be, and how it is misspelt."""
    for error in errors:
        *way, wrong = _plain(error["loc"], data) or ("",)
        if error["type"] == "extra_forbidden" and isinstance(wrong, str):
            right = closest(wrong, _keys_at(tuple(way), form))
            if right is not None and right not in (_value_at(data, tuple(way)) or ()):
                yield (*way, right), wrong


def _as_written(loc: Loc, misspelt: dict[Loc, str]) -> Loc:
    """The way to a value with its keys as the file spells them."""
    return tuple(misspelt.get(loc[: depth + 1], step) for depth, step in enumerate(loc))


def _hidden_by(found: Found) -> set[str]:
    """The rules that cannot be judged while a mistake leaves open what they ask about."""
    last = next((step for step in reversed(found.loc) if isinstance(step, str)), "")
    hidden = {"unknown-reference"} if last in _NAMING and found.rule != "bad-attempt" else set()
    if "starts_on" in found.loc:
        hidden.add("wrong-start")
    return hidden | ({"unreachable-attempt"} if last == "can" else set())


def _is_echo(error: ErrorDetails) -> bool:
    """Whether a list is called too short only because its items were refused."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _put_right(data: Any, loc: Loc, *, missing: bool) -> None:
    if "starts_on" in loc:
        loc = loc[: loc.index("starts_on") + 1]
    last = loc[-1] if loc else ""
    is_no_use = loc[:1] == ("story",) and (missing or last in _MAKE_A_STEP)
    if len(loc) > 2 and (is_no_use or loc[0] == "faults"):
        loc, last = loc[:2], loc[1]
    holder = _value_at(data, loc[:-1])
    if isinstance(holder, list) and isinstance(last, int) and last < len(holder):
        stand_in = _STAND_INS.get(str(loc[-2]))
        holder[last] = copy.deepcopy(stand_in)
        if stand_in is None:
            holder.pop(last)
    elif isinstance(holder, dict):
        for key in [key for key in holder if str(key) == str(last)]:
            del holder[key]
        if last in _PUT_RIGHT and (missing or last not in _ONLY_WHERE_MISSING):
            holder[last] = copy.deepcopy(_PUT_RIGHT[str(last)])
        if _RUNS & set(loc[-3:-1]):
            _let_fail(holder)


def _let_fail(run: dict[Any, Any]) -> None:
    """Makes a run fail, so that those after it are not called unreachable.

    Where a sub task says in itself what its attempts say, too, they are right.
    """
    if "attempts" in run:
        for key in obshell.Attempt.model_fields:
            run.pop(key, None)
    elif run.get("error"):
        run["ends"] = "FAILED"
    else:
        run.setdefault("ends", "FAILED")


def _value_at(data: Any, loc: Loc) -> Any:
    for step in loc:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _plain(loc: Loc, data: Any) -> Loc:
    """The way to a value as the file has it.

    Without the names that the members of a union have (those of mappings are in angle brackets),
    and without the position in a list that is written as its only item.
    """
    way: list[int | str] = []
    for step in loc:
        holder = _value_at(data, tuple(way))
        is_key = isinstance(step, str) and not step.startswith("<")
        in_dict = isinstance(holder, dict) and (is_key or step in holder)
        if in_dict or isinstance(holder, list):
            way.append(step)
    return tuple(way)


# --- in words -------------------------------------------------------------------------------------

_NOUNS: Final = {
    "tasks": "task",
    "subtasks": "subtask",
    "attempts": "attempt",
    "rollback": "rollback attempt",
    "dags": "dag",
    "nodes": "node",
    "sub_tasks": "sub task",
    "can": "flag",
    "quirks_off": "quirk",
    "needs": "need",
    "log": "line",
    "story": "step",
    "faults": "fault",
    "calls": "call",
    "drop": "way",
    "change_type": "way",
}
_WITH_NAMES: Final = ("tasks", "subtasks", "dags", "nodes", "sub_tasks", "faults")
_MOST_SHOWN: Final = 60


_EXPECTED: Final = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "model_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "bad_reference": "an id or a name",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "string_too_short": "at least one character long",
    "string_too_long": "at most {max_length} characters long",
    "too_short": "a list of at least one item",
    "too_long": "a list of at most {max_length} items",
}
_WHAT_AN_INSTANT_IS: Final = "Write it like 2021-08-25T15:09:31+08:00."
_OF_TYPE: Final = ("_type", "_parsing", "_from_float", "_reference")
_SERVERS_WORDS: Final = (
    *("ends", "mode", "operation", "status", "type"),
    *("can", "identity", "state"),
)
_WHICH_API: Final = "Say `api: ocp` for tasks, or `api: obshell` for dags."
_CHOICES: Final = {
    "api": tuple(_FORMATS),
    "maintenance": ("none", "global", "obproxy", "{tenant: …}"),
}
"""All that may stand there, where the member of a union that refuses a word knows only its own."""
_WHOLES: Final = {
    "bad_step": "bad-step",
    "bad_attempt": "bad-attempt",
    "bad_fault": "bad-fault",
}
"""What is wrong with a mapping as a whole; pydantic's message goes on after the subject."""

_SAID_WHOLE: Final = (
    *("bad_address", "bad_calls", "bad_data", "bad_duration", "bad_id"),
    *("bad_media_type", "bad_path", "bad_version"),
)
"""What is wrong with a value, in words that go on after it."""


def _explain(error: ErrorDetails, data: Any, form: _Format) -> Found:
    """One pydantic error in our words."""
    loc = _plain(error["loc"], data)
    kind, value = error["type"], error.get("input")
    if kind == "missing":
        hint = _WHICH_API if loc == ("api",) else ""
        what = f"{_whole(loc[:-1], data)} has no `{loc[-1]}`"
        return Found(loc[:-1], "missing-key", what, hint)
    if kind in ("extra_forbidden", "invalid_key"):
        hint = _key_of_another(loc) or suggest(loc[-1], _keys_at(loc[:-1], form))
        message = f"`{loc[-1]}` is no key of {_whole(loc[:-1], data)}"
        return Found(loc, "unknown-key", message, hint, at_key=True)
    if kind in _WHOLES:
        return Found(loc, _WHOLES[kind], f"{_subject(loc, data)} {error['msg']}")
    what = f"{_subject(loc, data)} is {_shown(value)}"
    if kind == "literal_error":
        return _explain_word(error, loc, what, form)
    return _explain_value(error, loc, what)


def _key_of_another(loc: Loc) -> str:
    """Whether a key at the root belongs to the other format, in words."""
    owners = [api for api, form in _FORMATS.items() if loc[0] in _keys_at((), form)]
    return f"It belongs to a scenario with `api: {owners[0]}`." if owners and not loc[1:] else ""


def _explain_word(error: ErrorDetails, loc: Loc, what: str, form: _Format) -> Found:
    value, expected = error.get("input"), str(error["ctx"]["expected"])
    choices = [word or number for word, number in re.findall(r"'([^']+)'|(\d+)", expected)]
    key = next((step for step in reversed(loc) if isinstance(step, str)), "")
    whose = f"{form.server} does not know" if key in _SERVERS_WORDS else "is none of its values"
    hint = suggest(value if isinstance(value, str) else "", _CHOICES.get(key, choices))
    return Found(loc, "unknown-value", f"{what}, which {whose}", hint)


def _explain_value(error: ErrorDetails, loc: Loc, what: str) -> Found:
    kind, value = error["type"], error.get("input")
    if kind in _SAID_WHOLE:
        return Found(loc, kind.replace("_", "-"), f"{what}, which {error['msg']}")
    if kind.startswith(("datetime", "timezone")) or kind == "bad_instant":
        return Found(loc, "bad-instant", f"{what}, {_why_no_instant(error)}", _WHAT_AN_INSTANT_IS)
    expected = _EXPECTED.get(kind, error["msg"]).format(**error.get("ctx", {}))
    hint = ""
    if kind == "string_type" and isinstance(value, int | float | date):
        hint = f"Put it in quotes: {json.dumps(str(value))}."
    rule = "wrong-type" if kind.endswith(_OF_TYPE) else "out-of-range"
    return Found(loc, rule, f"{what}; it should be {expected}", hint)


def _why_no_instant(error: ErrorDetails) -> str:
    if error["type"] == "bad_instant":
        return f"which {error['msg']}"
    return "which has no offset" if error["type"] == "timezone_aware" else "which is no instant"


def _shown(value: Any) -> str:
    """A value as a message shows it: what it is, when it is too much to show."""
    if value is None or value == []:
        return "empty"
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool | date):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _whole(loc: Loc, data: Any) -> str:
    return _subject(loc, data) if loc else "a scenario"


def _subject(loc: Loc, data: Any) -> str:
    """“`takes` of attempt 1 of subtask 'install'”: at most the two nearest owners.

    One more where a sub task is among them: few have a name of their own.
    """
    parts: list[str] = []
    for depth, step in enumerate(loc):
        if isinstance(step, int):
            parts[-1:] = [_item(str(loc[depth - 1]), step, _value_at(data, loc[: depth + 1]))]
        else:
            parts.append(f"`{step}`")
    return " of ".join(reversed(parts[-4 if "sub_tasks" in loc else -3 :]))


def _item(key: str, position: int, value: Any) -> str:
    noun = _NOUNS.get(key, f"`{key}`")
    known = value if key in ("subtasks", "nodes") else None
    if isinstance(value, dict) and key in _WITH_NAMES:
        known = value.get("name") or value.get("id")
    whose = " of the story" if key == "story" else ""
    if known and isinstance(known, str | int | float):
        return f"{noun} {_shown(known)}"
    return f"{noun} {position + 1}{whose}"


def _keys_at(loc: Loc, form: _Format) -> list[str]:
    """The keys the file format allows there, from its own schema."""
    schema = _schema()
    here = _structure(schema["$defs"][form.api], schema)
    for step in loc:
        if isinstance(step, str):
            here = _structure(here["properties"][step], schema)
    return list(here["properties"])


def _structure(here: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The mapping meant: through references, lists, and “these or only one of them”."""
    while "properties" not in here:
        if "$ref" in here:
            here = schema["$defs"][here["$ref"].rpartition("/")[2]]
        else:
            several = here.get("anyOf") or here.get("oneOf")
            here = several[0] if several else here["items"]
    return here


def scenario_schema() -> dict[str, Any]:
    """The JSON Schema of both formats, from the models: an editor takes the one its api says."""
    return copy.deepcopy(_schema())


@cache
def _schema() -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    for api, form in _FORMATS.items():
        whole = form.model.model_json_schema(
            schema_generator=FileSchema, ref_template=f"#/$defs/{api}.{{model}}"
        )
        parts = whole.pop("$defs")
        definitions[api] = whole
        definitions |= {f"{api}.{name}": part for name, part in parts.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "oceanmock scenario",
        "type": "object",
        "properties": {"api": {"enum": list(_FORMATS), "description": _WHICH_API}},
        "required": ["api"],
        "allOf": [
            {
                "if": {"properties": {"api": {"const": api}}, "required": ["api"]},
                "then": {"$ref": f"#/$defs/{api}"},
            }
            for api in _FORMATS
        ],
        "$defs": definitions,
    }
