"""Read YAML 1.2 with its core schema, find the place of a value in the text, and explain errors of validation.

Editors read scenario files by the same schema, so both agree on scalars: `no`, `on` and `1:30` are texts
(https://yaml.org/spec/1.2.2/#103-core-schema). Merge keys (`<<`) are kept from YAML 1.1. The text becomes data in one
pass over PyYAML's events; PyYAML's own resolver and constructors, which follow YAML 1.1, are not used. Depth, numbers
and the size of aliased values are bounded. An ``Issue`` has the location of a value; ``Document.locate`` adds its line
and column. ``explain`` puts pydantic's errors in the words of the file format, and quotes the author's own text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from pydantic_core import ErrorDetails, PydanticCustomError

from oceanmock.errors import Issue, Loc, ScenarioError, TooManyValues
from oceanmock.text import shorten, suggest

MAX_DEPTH: Final = 100  # how many levels may be nested, so that recursive code has enough stack
MAX_ISSUES: Final = 50  # how many issues of a scenario are searched for, and listed
MAX_VALUES: Final = 1_000_000  # how many values a text may have; an alias counts as its value does
MAX_INCLUDED_FILES: Final = 20
MAX_PART_BYTES: Final = 2**18  # the most bytes of a file that a scenario includes, or that a fault sends
INCLUDE: Final = "include"
INCLUDED: Final = re.compile(r"([^#]+\.ya?ml)(?:#(.+))?")
"""The value of `include`, by which it differs from a key of that name in free data."""


class _Node(NamedTuple):
    """A value with its first event, its size, and the number of levels below it."""

    event: Any
    data: Any
    size: int = 1
    depth: int = 0


class Document:
    """A YAML text as data. The place of a value in the text is found only when it is needed.

    ``duplicates`` are issues of keys that a mapping has twice; YAML readers keep the last. A mapping with
    `include: FILE` or `include: FILE#KEY` also has the keys of that file's mapping, or of the mapping at that key
    there, as by a merge key: its own outrank them. FILE is in ``folder`` or below; ``files`` are those that were read.
    """

    def __init__(
        self,
        text: str,
        path: str,
        *,
        max_values: int = MAX_VALUES,
        folder: Path | None = None,
        root: Document | None = None,
    ) -> None:
        """Raise ScenarioError for a text that is empty or not YAML, and TooManyValues; ``root`` includes this one."""
        self.path = path
        self._root, self._folder, self._max_values = root, folder, max_values
        stream = StringIO(text)
        stream.name = path  # which the places of its values have
        self._events: Iterator[Any] = yaml.parse(stream, Loader=yaml.CSafeLoader)
        self._anchors: dict[str | None, _Node | None] = {}
        self.files: dict[Path, _Node | None] = root.files if root else {}
        self.duplicates: list[Issue] = root.duplicates if root else []
        # The items of each list, or the keys and values of each mapping, by its ``id()``.
        self._nodes: dict[int, list[_Node]] = root._nodes if root else {}
        try:
            next(self._events)  # the start of the stream
            event = next(self._events)
            if not isinstance(event, yaml.DocumentStartEvent):
                raise ScenarioError([Issue((), "syntax", "the file is empty", path=path)])
            self._document = self._collection(event, 0)
            event = next(self._events)
            if not isinstance(event, yaml.StreamEndEvent):
                raise _error(event, "expected a single document in the stream, but found another document")
        except yaml.MarkedYAMLError as error:
            raise ScenarioError([_syntax_error(path, text, error)]) from error
        except (yaml.YAMLError, ValueError) as error:
            what = f"this is not YAML: {error}".replace("\n", " ")
            raise ScenarioError([Issue((), "syntax", what, path=path)]) from error
        (self.data,), self.size = self._document.data, self._document.size

    def locate(self, issue: Issue) -> Issue:
        """Return an issue with the line and column of its value, or of the nearest value above."""
        return self._at(self._event(issue.loc, at_key=issue.at_key), issue)

    def _at(self, event: Any, issue: Issue) -> Issue:
        line, column = _place(event)
        return replace(issue, path=event.start_mark.name, line=line, column=column)

    def text_at(self, loc: Loc) -> str:
        """Return the author's own text of a plain scalar, or ""."""
        event = self._event(loc)
        return str(event.value) if _is_plain(event) else ""

    def _event(self, loc: Loc, *, at_key: bool = False) -> Any:
        (node,) = self._nodes[id(self._document.data)]
        for depth, step in enumerate(loc):
            pair = self._find(node, step)
            if pair is not None:
                node = pair[0 if at_key and depth == len(loc) - 1 else 1]
            elif not (isinstance(node.data, dict) and isinstance(step, int)):
                break  # an int in a mapping is the place of an only item, written without its list
        return node.event

    def _find(self, node: _Node, step: int | str) -> tuple[_Node, _Node] | None:
        """Return the key and the value at a step, maybe merged; None if there are none."""
        nodes = self._nodes.get(id(node.data), [])
        if isinstance(node.data, list):
            is_place = isinstance(step, int) and step < len(nodes)
            return (nodes[int(step)], nodes[int(step)]) if is_place else None
        pairs = [*zip(nodes[::2], nodes[1::2], strict=True)]
        own = next((pair for pair in reversed(pairs) if pair[0].data == step), None)
        merged = (self._find(part, step) for key, value in pairs for part in self._merged(key, value))
        return own or next(filter(None, merged), None)

    def _merged(self, key: _Node, value: _Node) -> list[_Node]:
        """Return the mappings that a merge key brings in; the first one's keys outrank others."""
        if not _is_merge_key(key):
            return []
        return self._nodes[id(value.data)] if isinstance(value.data, list) else [value]

    def _collection(self, event: Any, depth: int) -> _Node:
        """Return the list or mapping that an event begins; a document becomes the list of its only value."""
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if depth > MAX_DEPTH:
            raise _error(event, _TOO_DEEP)
        if depth:
            if event.tag not in (None, "!", f"{_PREFIX}{'map' if is_mapping else 'seq'}"):
                raise _error(event, _unknown_tag(event.tag))
            self._anchors[event.anchor] = None
        nodes, size, below, item = list[_Node](), min(depth, 1), 0, event
        try:
            while not isinstance(item := next(self._events), yaml.CollectionEndEvent | yaml.DocumentEndEvent):
                if isinstance(item, yaml.ScalarEvent):
                    is_text = item.tag is None and not (item.implicit[0] and _TYPED.fullmatch(item.value))
                    node = _Node(item, item.value if is_text else parse_scalar(item.value, item.tag))
                elif isinstance(item, yaml.AliasEvent):
                    node = self._anchored(item, depth)
                else:
                    node = self._collection(item, depth + 1)
                self._anchors[item.anchor] = node
                nodes.append(node)
                size, below = size + node.size, max(below, node.depth)
        except ValueError as problem:
            raise _error(item, str(problem)) from None
        data: Any = [node.data for node in nodes]
        if is_mapping:
            try:
                pairs = dict(zip(data[::2], data[1::2], strict=True))
            except TypeError:  # a key is a list or a mapping
                pairs = {}
            part = self._include(nodes, depth) if INCLUDE in pairs else _NOTHING
            size, below = size + part.size, max(below, part.depth)
            is_simple = 2 * len(pairs) == len(data) and "<<" not in pairs and part is _NOTHING
            data = pairs if is_simple else self._mapping(nodes)
        if size > self._max_values:
            raise TooManyValues(self.path, self._max_values)
        self._nodes[id(data)] = nodes
        return _Node(event, data, size, below + 1)

    def _include(self, nodes: list[_Node], depth: int) -> _Node:
        """Replace an `include` by a merge of the mapping it names, and return that; an `include` of free data stays."""
        place = next(place for place, node in enumerate(nodes[::2]) if node.data == INCLUDE)
        key, value = nodes[2 * place : 2 * place + 2]
        named = INCLUDED.fullmatch(value.data) if isinstance(value.data, str) else None
        if named is None:
            return _NOTHING
        try:
            (part,) = self._nodes[id((self._root or self)._read(named[1]).data)]
            pair = self._find(part, named[2]) if named[2] else (key, part)
            if pair is None:
                hint = suggest(named[2], [*map(str, part.data)]) if isinstance(part.data, dict) else "It is no mapping."
                raise ValueError(f"it has no key {named[2]!r}. {hint}")
            part = pair[1]
            if not isinstance(part.data, dict):
                raise ValueError("it is no mapping")
            if depth + part.depth > MAX_DEPTH:
                raise ValueError(_TOO_DEEP)
        except (OSError, ValueError) as problem:
            what = f"{value.data!r} cannot be included: {getattr(problem, 'strerror', None) or problem}"
            raise ScenarioError([self._at(value.event, Issue((), "bad-include", what))]) from None
        nodes[2 * place : 2 * place + 2] = key._replace(data=_MERGED), part
        return part

    def _read(self, file: str) -> _Node:
        """Return the content of an included file, which is read once. Raises OSError, ValueError, ScenarioError."""
        if self._folder is None:
            raise ValueError("only a file includes others, and this text is none; send the scenario in full")
        path = (self._folder / file).resolve()
        if Path(file).is_absolute() or not path.is_relative_to(self._folder.resolve()):
            raise ValueError("it is not in the folder of the scenario, or below")
        if path not in self.files:
            if len(self.files) == MAX_INCLUDED_FILES:
                raise ValueError(f"a scenario includes at most {MAX_INCLUDED_FILES} files")
            text, self.files[path] = read_part(path), None
            document = Document(text, str(self._folder / file), max_values=self._max_values, root=self)
            self.files[path] = document._document
        content = self.files[path]
        if content is None:
            raise ValueError("it includes itself")
        return content

    def _anchored(self, event: Any, depth: int) -> _Node:
        if event.anchor not in self._anchors:
            raise _error(event, "found undefined alias")
        node = self._anchors[event.anchor]
        if node is None:
            raise _error(event, "a value cannot contain itself")
        if depth + node.depth > MAX_DEPTH:
            raise _error(event, _TOO_DEEP)
        return node

    def _mapping(self, nodes: list[_Node]) -> dict[Any, Any]:
        """Return a mapping that may have merge keys, duplicate keys, or lists and mappings as keys."""
        own, merged, keys = dict[Any, Any](), dict[Any, Any](), dict[Any, Any]()
        for key, value in zip(nodes[::2], nodes[1::2], strict=True):
            if _is_merge_key(key):
                for part in self._merged(key, value):
                    if not isinstance(part.data, dict):
                        raise _error(key.event, "`<<` merges mappings only")
                    merged = part.data | merged
            elif isinstance(key.data, dict | list):
                raise _error(key.event, "while constructing a mapping, found unhashable key")
            else:
                if key.data in keys and len(self.duplicates) < MAX_ISSUES:
                    what = f"{key.event.value!r} stands here twice; the first is on line {_place(keys[key.data])[0]}"
                    issue = Issue((), "duplicate-key", what, "Remove one of them.")
                    self.duplicates.append(self._at(key.event, issue))
                keys[key.data], own[key.data] = key.event, value.data
        return merged | own


def read_part(path: Path) -> str:
    """Return the content of a file that a scenario names. Raises OSError, ValueError."""
    if path.stat().st_size > MAX_PART_BYTES or not path.is_file():
        raise ValueError(f"it is no file of at most {MAX_PART_BYTES:,} bytes")
    return path.read_text(encoding="utf-8")


_NOTHING: Final = _Node(None, None, size=0)
_MERGED: Final = object()  # the key in place of an `include`


def _is_merge_key(key: _Node) -> bool:
    return key.data is _MERGED or (key.data == "<<" and _is_plain(key.event))


def _is_plain(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and bool(event.implicit[0])


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


_PREFIX: Final = "tag:yaml.org,2002:"
_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_SCALAR_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TYPED: Final = re.compile(
    rf"{_INT.pattern}"
    r"|[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    rf"|{'|'.join(map(re.escape, _SCALAR_WORDS))}",
    re.ASCII,
)
"""The plain scalars that are not texts."""
_MAX_DIGITS: Final = 400
_MAX_NUMBER: Final = 10**100
_TAGS: Final = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (bool, "true or false"),
    "null": (type(None), "null"),
}


def parse_scalar(text: str, tag: str | None = None) -> Any:
    """Return the value of a scalar by its tag or, without one, by its form; the text itself if it has no type.

    Raises ValueError for an unknown tag, and for a text that the tag does not allow.
    """
    kind: str = "" if tag is None else tag.removeprefix(_PREFIX)
    value: Any = text
    if kind in ("!", "str"):
        return text
    if kind not in ("", *_TAGS):
        raise ValueError(_unknown_tag(str(tag)))
    if text in _SCALAR_WORDS:
        value = _SCALAR_WORDS[text]
    elif _INT.fullmatch(text):
        kind = kind or "int"
        number = int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(text) <= _MAX_DIGITS else _MAX_NUMBER
        value = number if abs(number) < _MAX_NUMBER else text
    elif _TYPED.fullmatch(text):
        kind = kind or "float"
        value = float(re.sub(r"\.(?=inf|nan)", "", text.lower())) if len(text) <= _MAX_DIGITS else text
    if kind == "float" and type(value) is int:
        value = float(value)
    if kind and type(value) is not _TAGS[kind][0]:
        raise ValueError(f"{text[:40]!r} cannot be read as {_TAGS[kind][1]}")
    return value


_TOO_DEEP: Final = f"more than {MAX_DEPTH} levels are nested here"


def _error(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _unknown_tag(tag: str) -> str:
    return f"the tag {tag.replace(_PREFIX, '!!')} is not part of YAML's core schema"


def _syntax_error(path: str, text: str, error: yaml.MarkedYAMLError) -> Issue:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    context, problem = f"{error.context}, " if error.context else "", str(error.problem)
    if "nesting depth" in problem:  # libyaml's own limit, which it reaches while looking ahead
        context, problem, depth = "", _TOO_DEEP, 0
        for at, character in enumerate(text):
            depth += (character in "[{") - (character in "]}")
            if depth > MAX_DEPTH:
                line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
                break
    return Issue((), "syntax", f"this is not YAML: {context}{problem}", path=path, line=line, column=column)


def contradiction(rule: str, message: str, **context: Any) -> PydanticCustomError:
    """Return a validator's error about a mapping; ``message`` continues its name, ``fix`` is a hint."""
    return PydanticCustomError(rule, message, {"about": "mapping", **context})


def wrong_value(key: str, message: str, hint: str = "") -> PydanticCustomError:
    """Return a validator's error about the value of a key; ``message`` is a whole sentence."""
    return PydanticCustomError("unknown_value", "{text}", {"text": message, "key": key, "hint": hint})


_EXPECTED: Final = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a number of at most 64 bits",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a mapping of keys to values",
    "dataclass_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "bad_reference": "an id or a name",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "string_pattern_mismatch": "of the form {pattern}",
    "string_too_short": "at least one character long",
    "string_too_long": "at most {max_length} characters long",
    "too_short": "a list of at least one item",
    "too_long": "a {holder} of at most {max_length} items",
}


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of one format in messages.

    ``server_words`` are the keys whose values are the server's words. ``choices`` has all values of the keys of which
    pydantic lists only some. Items of the list ``unnamed`` seldom have a name, so messages name one more owner.
    ``text_at`` returns the author's text of a value, "" if unknown.
    """

    title: str
    server_words: frozenset[str] = frozenset()
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unnamed: str = ""
    text_at: Callable[[Loc], str] = lambda _: ""


def explain(error: ErrorDetails, loc: Loc, data: Any, wording: Wording) -> Issue:
    """Return an error of pydantic at ``loc`` of ``data`` as an issue."""
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind == "missing":
        return Issue(loc[:-1], "missing-key", f"{subject_of(loc[:-1], data, wording)} has no `{loc[-1]}`")
    rule = kind.replace("_", "-")
    if "key" in context and "text" in context:
        return Issue((*loc, context["key"]), rule, context["text"], context["hint"])
    subject = subject_of(loc, data, wording)
    if context.get("about") == "mapping":
        return Issue(loc, rule, f"{subject} {error['msg']}", context.get("fix", ""))
    text, hint = wording.text_at(loc), ""
    if kind == "literal_error":
        rule, key = "unknown-value", next((step for step in reversed(loc) if isinstance(step, str)), "")
        is_of_server = key in wording.server_words
        reason = f"which {wording.title} does not have" if is_of_server else "which is none of its values"
        words = re.findall(r"'([^']+)'|(\d+)", str(context["expected"]))
        choices = wording.choices.get(key, tuple(word or number for word, number in words))
        hint = suggest(value if isinstance(value, str) else "", choices)
    elif kind == "bad_instant" or kind.startswith(("datetime", "timezone")):
        no_offset = "which has no offset" if kind == "timezone_aware" else "which is no instant"
        reason = f"which {error['msg']}" if kind == "bad_instant" else no_offset
        rule, hint = "bad-instant", "Write it like 2021-08-25T15:09:31+08:00."
    elif kind == "value_error":
        rule, reason = "bad-duration", f"which {context['error']}"
    elif kind.startswith("bad_") and kind not in _EXPECTED:
        reason = f"which {error['msg']}"
    else:
        is_wrong_type = kind.endswith(("_type", "_parsing", "_from_float", "_reference"))
        holder = "mapping" if isinstance(value, Mapping) else "list"
        expected = _EXPECTED.get(kind, error["msg"]).format(holder=holder, **context)
        if kind == "string_type" and isinstance(value, bool | int | float):
            hint = f"Put it in quotes: {json.dumps(text or str(value))}."
        message = f"{subject} is {_quote(value, text)}; it should be {expected}"
        return Issue(loc, "wrong-type" if is_wrong_type else "out-of-range", message, hint)
    return Issue(loc, rule, f"{subject} is {_quote(value, text)}, {reason}", hint)


def _quote(value: Any, text: str) -> str:
    """Return a value as its author wrote it, or its kind if it is a list or a mapping."""
    if value is None or value == []:
        return "empty"
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return text or str(value).lower()
    return shorten(repr(value) if isinstance(value, str) or not text else text, 60)


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
"""The nouns for items of lists, where they are not the singular of the key."""


def subject_of(loc: Loc, data: Any, wording: Wording) -> str:
    """Return the words by which messages name a value: “`takes` of attempt 1 of subtask 'install'”."""
    parts: list[str] = []
    for depth, step in enumerate(loc):
        if isinstance(step, str):
            parts.append(f"`{step}`")
            continue
        key, value = str(loc[depth - 1]), value_at(data, loc[: depth + 1])
        noun = _NOUNS.get(key, key.removesuffix("s").replace("_", " ") if key.endswith("s") else f"`{key}`")
        name = (value.get("name") or value.get("id")) if isinstance(value, dict) else None
        if key == "story":
            parts[-1:] = [f"{noun} {step + 1} of the story"]
        elif name and isinstance(name, str | int | float):
            parts[-1:] = [f"{noun} {_quote(name, '')}"]
        else:
            parts[-1:] = [f"{noun} {step + 1}"]
    return " of ".join(reversed(parts[-4 if wording.unnamed in loc else -3 :])) or "a scenario"


def value_at(data: Any, loc: Loc) -> Any:
    """Return the value at a location, or None."""
    for step in loc:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data
