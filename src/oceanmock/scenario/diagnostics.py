"""Say what is wrong with a file: which rule it breaks, where, and the nearest valid choice.

An ``Issue`` has the way to a value; a ``Diagnostic`` has its line and column. ``explain`` puts
pydantic's errors in the words of the file format, and quotes the author's own text. Nothing here
knows what a scenario means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import ErrorDetails, PydanticCustomError

from oceanmock.errors import AuthorError
from oceanmock.text import shorten, suggest

Loc = tuple[int | str, ...]
"""The way to a value: keys and positions from the root."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue by the way to its value, or to the key itself. ``rule`` is stable, for tools."""

    loc: Loc
    rule: str
    message: str
    hint: str = ""
    at_key: bool = False

    def __str__(self) -> str:
        hint = f"\n  {self.hint}" if self.hint else ""
        return f"{self.message} [{self.rule}]{hint}"


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One issue of a file; lines and columns count from 1."""

    path: str
    line: int
    column: int
    rule: str
    message: str
    hint: str = ""
    loc: Loc = field(default=(), compare=False)

    def __str__(self) -> str:
        hint = f"\n  {self.hint}" if self.hint else ""
        return f"{self.path}:{self.line}:{self.column}: {self.message} [{self.rule}]{hint}"


class ScenarioError(AuthorError):
    """A file cannot be used; ``diagnostics`` has its issues in the order of their places."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(sorted(set(diagnostics)))
        super().__init__("\n".join(map(str, self.diagnostics)))


def contradiction(rule: str, message: str, **context: Any) -> PydanticCustomError:
    """Return a validator's error about a mapping as a whole: ``message`` follows its name."""
    return PydanticCustomError(rule, message, {"about": "mapping", **context})


def wrong_value(key: str, message: str, hint: str = "") -> PydanticCustomError:
    """Return a validator's error about the value of a key, in a sentence of its own."""
    return PydanticCustomError("unknown_value", "{text}", {"text": message, "key": key, "hint": hint})


# --- pydantic's errors in words -------------------------------------------------------------------

_EXPECTED: Final = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a mapping of keys to values",
    "dataclass_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "bad_reference": "an id or a name",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "string_too_short": "at least one character long",
    "string_too_long": "at most {max_length} characters long",
    "too_short": "a list of at least one item",
    "too_long": "a list of at most {max_length} items",
}
_WRONG_TYPES: Final = ("_type", "_parsing", "_from_float", "_reference")
_MAX_VALUE_LENGTH: Final = 60


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of one format that messages need.

    ``server_words`` are the keys whose words are the server's own, ``choices`` lists what may stand
    at a key where pydantic knows only a part. Items of the list ``unnamed`` seldom have a name, so
    messages name one more owner. ``text_at`` returns the author's text of a value, "" if unknown.
    """

    title: str
    server_words: frozenset[str] = frozenset()
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unnamed: str = ""
    text_at: Callable[[Loc], str] = lambda _: ""


def explain(error: ErrorDetails, loc: Loc, data: Any, wording: Wording) -> Issue:
    """Return one of pydantic's errors, found at ``loc`` of ``data``, as an issue."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        owner = owner_of(loc[:-1], data, wording)
        return Issue(loc[:-1], "missing-key", f"{owner} has no `{loc[-1]}`")
    rule = kind.replace("_", "-")
    if "key" in context and "text" in context:
        return Issue((*loc, context["key"]), rule, context["text"], context["hint"])
    subject = subject_of(loc, data, wording)
    if context.get("about") == "mapping":
        return Issue(loc, rule, f"{subject} {error['msg']}")
    text = wording.text_at(loc)
    hint = ""
    if kind == "literal_error":
        rule, reason, hint = _explain_word(error, loc, wording)
    elif kind == "bad_instant" or kind.startswith(("datetime", "timezone")):
        no_offset = "which has no offset" if kind == "timezone_aware" else "which is no instant"
        reason = f"which {error['msg']}" if kind == "bad_instant" else no_offset
        rule, hint = "bad-instant", "Write it like 2021-08-25T15:09:31+08:00."
    elif kind.startswith("bad_") and kind not in _EXPECTED:
        reason = f"which {error['msg']}"
    else:
        rule = "wrong-type" if kind.endswith(_WRONG_TYPES) else "out-of-range"
        expected = _EXPECTED.get(kind, error["msg"]).format(**context)
        value = _quote(error["input"], text)
        if kind == "string_type" and isinstance(error["input"], bool | int | float):
            hint = f"Put it in quotes: {json.dumps(text or str(error['input']))}."
        return Issue(loc, rule, f"{subject} is {value}; it should be {expected}", hint)
    return Issue(loc, rule, f"{subject} is {_quote(error['input'], text)}, {reason}", hint)


def _explain_word(error: ErrorDetails, loc: Loc, wording: Wording) -> tuple[str, str, str]:
    """Return rule, reason and hint for a word that is none of a key's values."""
    value, expected = error["input"], str(error["ctx"]["expected"])
    choices = tuple(word or number for word, number in re.findall(r"'([^']+)'|(\d+)", expected))
    key = next((step for step in reversed(loc) if isinstance(step, str)), "")
    reason = "which is none of its values"
    if key in wording.server_words:
        reason = f"which {wording.title} does not know"
    hint = suggest(value if isinstance(value, str) else "", wording.choices.get(key, choices))
    return "unknown-value", reason, hint


def _quote(value: Any, text: str) -> str:
    """Return a value as its author wrote it, or what it is where that is too much to show."""
    if value is None or value == []:
        return "empty"
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return text or str(value).lower()
    quoted = repr(value) if isinstance(value, str) or not text else text
    return shorten(quoted, _MAX_VALUE_LENGTH)


# --- names of places ------------------------------------------------------------------------------

_NOUNS: Final = {
    "rollback": "rollback attempt",
    "can": "flag",
    "quirks_off": "quirk",
    "log": "line",
    "story": "step",
    "drop": "path",
    "known": "entry",
    "change_type": "path",
}
"""What an item of a list is called where that is not the key's singular."""


def owner_of(loc: Loc, data: Any, wording: Wording) -> str:
    """Return what messages call a mapping."""
    return subject_of(loc, data, wording) if loc else "a scenario"


def subject_of(loc: Loc, data: Any, wording: Wording) -> str:
    """Return what messages call a value: “`takes` of attempt 1 of subtask 'install'”."""
    parts: list[str] = []
    for depth, step in enumerate(loc):
        if isinstance(step, int):
            parts[-1:] = [_item(str(loc[depth - 1]), step, value_at(data, loc[: depth + 1]))]
        else:
            parts.append(f"`{step}`")
    return " of ".join(reversed(parts[-4 if wording.unnamed in loc else -3 :]))


def _item(key: str, position: int, value: Any) -> str:
    plural = key.removesuffix("s").replace("_", " ") if key.endswith("s") else f"`{key}`"
    noun = _NOUNS.get(key, plural)
    name = (value.get("name") or value.get("id")) if isinstance(value, dict) else None
    if name and isinstance(name, str | int | float) and key != "story":
        return f"{noun} {_quote(name, '')}"
    return f"{noun} {position + 1}" + (" of the story" if key == "story" else "")


def value_at(data: Any, loc: Loc) -> Any:
    """Return the value at the end of a way, or None."""
    for step in loc:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data
