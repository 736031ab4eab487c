"""Scenario files: found by library name or path, read, and refused with all their mistakes at once.

The library is the ``scenarios/`` folder that comes with oceanmock. A file is checked twice: against
the models of ``scenario``, then, with what they refused put right for the moment, against
``scenario_rules``; so a reader sees every mistake in one go.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from oceanmock import contract, scenario_rules
from oceanmock.errors import AuthorError
from oceanmock.mistakes import Document, Found, Loc, ScenarioError, did_you_mean, nearest
from oceanmock.scenario import Scenario

SUFFIXES: Final = (".yaml", ".yml")


def library_names() -> list[str]:
    """The names of all scenarios that come with oceanmock, sorted."""
    return sorted(path.stem for path in contract.data_folder("scenarios").glob("*.yaml"))


def find_scenario(reference: str) -> Path:
    """The file a library name or a path means. Raises AuthorError with the nearest name."""
    path = Path(reference)
    if path.suffix in SUFFIXES or path.parent != Path():
        if not path.is_file():
            raise AuthorError(f"there is no scenario file {reference}")
        return path
    names = library_names()
    if reference in names:
        return contract.data_folder("scenarios") / f"{reference}.yaml"
    hint = did_you_mean(reference, names) or "`oceanmock list` names them all."
    raise AuthorError(f"there is no scenario {reference!r} in the library. {hint}")


def load_scenario(reference: str | Path) -> Scenario:
    """The scenario of a library name or a path.

    Raises AuthorError when there is none, ScenarioError with all its mistakes when it is wrong.
    """
    path = reference if isinstance(reference, Path) else find_scenario(reference)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AuthorError(f"{path} cannot be read: {error}") from error
    return read_scenario(text, path=str(path))


def read_scenario(text: str, *, path: str = "scenario.yaml") -> Scenario:
    """The scenario a text holds; ``path`` is what messages call it. Raises ScenarioError."""
    document = Document(text, path)
    found, scenario = _check_models(document.data)
    if scenario is not None:
        found += scenario_rules.check(scenario, tell_story=not found)
    mistakes = document.duplicate_keys() + [document.locate(each) for each in found]
    if mistakes or scenario is None:
        raise ScenarioError(mistakes)
    scenario._name = Path(path).stem
    return scenario


# --- what the models refuse -----------------------------------------------------------------------

_PUT_RIGHT: Final[dict[str, Any]] = {
    "summary": "?",
    "api": "ocp",
    "id": 1,
    "name": "?",
    "ob_cluster_id": 1,
    "ob_tenant_id": 1,
    "tasks": [{"subtasks": ["?"]}],
    "subtasks": ["?"],
    "attempts": [{}],
    "rollback": [{}],
    "story": [],
    "count": 1,
}
"""What stands in for a value that is missing or wrong, while the rest is looked at."""

_STAND_INS: Final[dict[str, Any]] = {
    "tasks": {"subtasks": ["?"]},
    "subtasks": "?",
    "attempts": {},
    "rollback": {},
    "story": {"wait": "0s"},
    "log": "",
    "needs": None,
}
"""What stands in for one item of a list that is wrong."""


def _check_models(data: Any) -> tuple[list[Found], Scenario | None]:
    """What the models refuse, and the scenario with that put right (None if that is no use)."""
    if not isinstance(data, dict):
        return [
            Found((), "wrong-type", "a scenario is a mapping: `summary: …`, `api: ocp`, …")
        ], None
    found: list[Found] = []
    data = copy.deepcopy(data)
    for _ in range(5):
        try:
            return found, Scenario.model_validate(data)
        except ValidationError as refused:
            errors = [error for error in refused.errors() if not _is_echo(error)]
            found += [_explain(error, data) for error in errors]
            for error in reversed(errors):
                _put_right(data, _plain(error["loc"], data), missing=error["type"] == "missing")
    return found, None


def _is_echo(error: ErrorDetails) -> bool:
    """Whether a list is called too short only because its items were refused."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _put_right(data: Any, loc: Loc, *, missing: bool) -> None:
    holder = _value_at(data, loc[:-1])
    last = loc[-1] if loc else ""
    if isinstance(holder, list) and isinstance(last, int) and last < len(holder):
        stand_in = _STAND_INS.get(str(loc[-2]))
        holder[last] = copy.deepcopy(stand_in)
        if stand_in is None:
            holder.pop(last)
    elif isinstance(holder, dict):
        holder.pop(last, None)
        if last in _PUT_RIGHT and (missing or last != "id"):
            holder[last] = copy.deepcopy(_PUT_RIGHT[str(last)])


def _value_at(data: Any, loc: Loc) -> Any:
    for step in loc:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _plain(loc: Loc, data: Any) -> Loc:
    """The way to a value without the names pydantic gives to the members of a union."""
    way: list[int | str] = []
    for step in loc:
        holder = _value_at(data, tuple(way))
        if isinstance(holder, dict | list) or holder is None:
            way.append(step)
    return tuple(way)


# --- in words -------------------------------------------------------------------------------------

_NOUNS: Final = {
    "tasks": "task",
    "subtasks": "subtask",
    "attempts": "attempt",
    "rollback": "rollback attempt",
    "needs": "need",
    "story": "step",
}


def _explain(error: ErrorDetails, data: Any) -> Found:
    """One pydantic error in our words."""
    loc = _plain(error["loc"], data)
    kind, value = error["type"], error.get("input")
    if kind == "missing":
        return Found(loc[:-1], "missing-key", f"{_whole(loc[:-1], data)} has no `{loc[-1]}`")
    if kind == "extra_forbidden":
        hint = nearest(loc[-1], _keys_at(loc[:-1]))
        message = f"`{loc[-1]}` is no key of {_whole(loc[:-1], data)}"
        return Found(loc, "unknown-key", message, hint, at_key=True)
    subject = _subject(loc, data)
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'|(\d+)", str(error["ctx"]["expected"]))
        hint = nearest(value, [word or number for word, number in choices])
        return Found(loc, "unknown-value", f"{subject} is {value!r}, which OCP does not know", hint)
    if kind == "bad_duration":
        return Found(loc, "bad-duration", f"{subject} is {value!r}, which {error['msg']}")
    if kind == "bad_step":
        return Found(loc, "bad-step", f"{subject} {error['msg']}")
    rule = "wrong-type" if kind.endswith(("_type", "_parsing")) else "out-of-range"
    expected = error["msg"].removeprefix("Input ").replace("dictionary", "mapping")
    expected = expected.replace("tuple", "list").partition(" or instance")[0]
    shown = f" is {value!r}; it" if isinstance(value, str | int | float) else ""
    return Found(loc, rule, f"{subject}{shown} {expected[0].lower()}{expected[1:]}")


def _whole(loc: Loc, data: Any) -> str:
    return _subject(loc, data) if loc else "a scenario"


def _subject(loc: Loc, data: Any) -> str:
    """“`takes` of attempt 1 of subtask 'install'”: at most the two nearest owners."""
    parts: list[str] = []
    for depth, step in enumerate(loc):
        if isinstance(step, int):
            parts[-1:] = [_item(str(loc[depth - 1]), step, _value_at(data, loc[: depth + 1]))]
        else:
            parts.append(f"`{step}`")
    return " of ".join(reversed(parts[-3:]))


def _item(key: str, position: int, value: Any) -> str:
    noun = _NOUNS.get(key, f"`{key}`")
    known = value if isinstance(value, str) else None
    if isinstance(value, dict) and key in ("tasks", "subtasks"):
        known = value.get("name") or value.get("id")
    whose = " of the story" if key == "story" else ""
    return f"{noun} {known!r}" if known else f"{noun} {position + 1}{whose}"


def _keys_at(loc: Loc) -> list[str]:
    """The keys the file format allows there, from its own schema."""
    schema = scenario_schema()
    here = schema
    for step in loc:
        here = _resolve(here, schema)
        here = here["items"] if isinstance(step, int) else here["properties"][step]
    return list(_resolve(here, schema)["properties"])


def _resolve(here: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Through references, and through “this or null” and “this or a name” to the structure."""
    while "$ref" in here or "anyOf" in here:
        if "$ref" in here:
            here = schema["$defs"][here["$ref"].rpartition("/")[2]]
        else:
            here = here["anyOf"][0]
    return here


def scenario_schema() -> dict[str, Any]:
    """The JSON Schema of the file format, from the models."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Scenario.model_json_schema(),
    }
