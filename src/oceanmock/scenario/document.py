"""Read YAML 1.2 with its core schema, and keep the place of every value.

Editors read scenario files by the same schema, so both agree on what a word is: `no`, `on` and
`1:30` are texts (https://yaml.org/spec/1.2.2/#103-core-schema). Merge keys (`<<`) are kept from
YAML 1.1. The text becomes data in one pass over PyYAML's events; PyYAML's own resolver and
constructors, which follow YAML 1.1, are not used. Depth, numbers and the size of what aliases
stand for are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from oceanmock.errors import AuthorError
from oceanmock.scenario.diagnostics import Diagnostic, Issue, Loc, ScenarioError

MAX_DEPTH: Final = 100
"""So many levels may be nested; deeper ones would break the stack of code that follows them."""
MAX_VALUES: Final = 1_000_000
"""So many values may a text have, each alias counted as what it stands for."""
_MAX_DIGITS: Final = 400
_MAX_NUMBER: Final = 10**100
_PREFIX: Final = "tag:yaml.org,2002:"


class TooManyValues(AuthorError):
    """The text has more values than may be read."""


def too_many_values(path: str, limit: int) -> TooManyValues:
    """Return the error for a text or an object of more values than allowed."""
    return TooManyValues(
        f"{path} has more than {limit:,} values, each alias counted as what it stands for. "
        "Let tasks `repeat`, or give it in parts."
    )


def value_count(data: Any) -> int:
    """Return how many keys and values JSON has."""
    count, waiting = 0, [data]
    while waiting:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict):
            count += len(value)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return count


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its place: ``text`` is a plain scalar's own, ``depth`` the levels below it.

    ``pairs`` maps a mapping's keys to the nodes of the key and its value.
    """

    data: Any
    line: int
    column: int
    text: str = ""
    size: int = 1
    depth: int = 0
    items: tuple[Node, ...] = ()
    pairs: dict[Any, tuple[Node, Node]] | None = None


class Document:
    """A YAML text as data, with the place of every value in it."""

    def __init__(self, text: str, path: str, *, max_values: int = MAX_VALUES) -> None:
        """Raise ScenarioError for a text that is not YAML, or empty, and TooManyValues."""
        self.path = path
        composer = _Composer(text, path, max_values=max_values)
        try:
            root = composer.document()
        except yaml.MarkedYAMLError as error:
            raise ScenarioError([_syntax_error(path, text, error)]) from error
        except (yaml.YAMLError, ValueError) as error:
            what = f"this is not YAML: {error}".replace("\n", " ")
            raise ScenarioError([Diagnostic(path, 1, 1, "syntax", what)]) from error
        if root is None:
            raise ScenarioError([Diagnostic(path, 1, 1, "syntax", "the file is empty")])
        self._root = root
        self._duplicates = composer.duplicates
        self.data: Any = root.data

    def duplicate_keys(self) -> list[Diagnostic]:
        """Return the keys that a mapping has twice, of which YAML readers keep the last."""
        return [
            Diagnostic(
                self.path,
                key.line,
                key.column,
                "duplicate-key",
                f"{(key.text or key.data)!r} stands here twice; the first is on line {first.line}",
                "Remove one of them.",
            )
            for key, first in self._duplicates
        ]

    def locate(self, issue: Issue) -> Diagnostic:
        """Return an issue with its line and column: the value's, or the nearest one's above."""
        node = self._node(issue.loc, at_key=issue.at_key)
        return Diagnostic(
            self.path, node.line, node.column, issue.rule, issue.message, issue.hint, issue.loc
        )

    def text_at(self, loc: Loc) -> str:
        """Return the author's own text of a plain scalar, or ""."""
        return self._node(loc).text

    def _node(self, loc: Loc, *, at_key: bool = False) -> Node:
        node = self._root
        for depth, step in enumerate(loc):
            if node.pairs is not None:
                if step in node.pairs:
                    key, value = node.pairs[step]
                    node = key if at_key and depth == len(loc) - 1 else value
                elif not isinstance(step, int):  # an int: a list written as its only item
                    return node
            elif isinstance(step, int) and step < len(node.items):
                node = node.items[step]
            else:
                return node
        return node


# --- from events to nodes -------------------------------------------------------------------------


class _Composer:
    """The state of reading one document: its events, its anchors and its repeated keys."""

    def __init__(self, text: str, path: str, *, max_values: int) -> None:
        self.duplicates: list[tuple[Node, Node]] = []
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._anchors: dict[Any, Node | None] = {}
        self._path = path
        self._max_values = max_values

    def document(self) -> Node | None:
        """Return the root of the only document; None without one."""
        next(self._events)  # the start of the stream
        if not isinstance(next(self._events), yaml.DocumentStartEvent):
            return None
        root = self._node(next(self._events), 1)
        next(self._events)  # the end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            what = "expected a single document in the stream, but found another document"
            raise _error(event, what)
        return root

    def _node(self, event: Any, depth: int) -> Node:
        node: Node | None
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _error(event, "found undefined alias")
            node = self._anchors[event.anchor]
            if node is None:
                raise _error(event, "a value cannot contain itself")
        elif isinstance(event, yaml.ScalarEvent):
            text = str(event.value) if event.implicit[0] else ""
            node = Node(_scalar(event), *_place(event), text)
        elif depth > MAX_DEPTH:
            raise _error(event, _TOO_DEEP)
        else:
            if event.anchor:
                self._anchors[event.anchor] = None
            node = self._collection(event, depth)
        if depth + node.depth - 1 > MAX_DEPTH:
            raise _error(event, _TOO_DEEP)
        if node.size > self._max_values:
            raise too_many_values(self._path, self._max_values)
        if event.anchor and not isinstance(event, yaml.AliasEvent):
            self._anchors[event.anchor] = node
        return node

    def _collection(self, event: Any, depth: int) -> Node:
        kind = "seq" if isinstance(event, yaml.SequenceStartEvent) else "map"
        if event.tag not in (None, "!", _PREFIX + kind):
            raise _error(event, _unknown_tag(event.tag))
        items: tuple[Node, ...] = ()
        pairs = None
        if kind == "seq":
            parts = items = tuple(self._items(depth + 1))
            data: Any = [item.data for item in items]
        else:
            pairs = self._pairs(depth + 1)
            data = {key: value.data for key, (_, value) in pairs.items()}
            parts = tuple(node for pair in pairs.values() for node in pair)
        size = 1 + sum(part.size for part in parts)
        below = 1 + max((part.depth for part in parts), default=0)
        return Node(data, *_place(event), "", size, below, items, pairs)

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth)

    def _pairs(self, depth: int) -> dict[Any, tuple[Node, Node]]:
        merged: dict[Any, tuple[Node, Node]] = {}
        own: dict[Any, tuple[Node, Node]] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth)
            value = self._node(next(self._events), depth)
            if key.text == "<<":
                merged = _merged(key, value) | merged
            elif isinstance(key.data, dict | list):
                raise _error(event, "while constructing a mapping, found unhashable key")
            else:
                if key.data in own:
                    self.duplicates.append((key, own[key.data][0]))
                own[key.data] = (key, value)
        return merged | own


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _merged(key: Node, value: Node) -> dict[Any, tuple[Node, Node]]:
    """Return the pairs that a merge key brings in; of several mappings, the first one's."""
    pairs: dict[Any, tuple[Node, Node]] = {}
    for node in reversed(value.items or (value,)):
        if node.pairs is None:
            mark = yaml.Mark("", 0, key.line - 1, key.column - 1, None, 0)
            raise yaml.MarkedYAMLError(problem="`<<` merges mappings only", problem_mark=mark)
        pairs |= node.pairs
    return pairs


# --- scalars --------------------------------------------------------------------------------------

_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT: Final = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    re.ASCII,
)
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NAMES: Final = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (bool, "true or false"),
    "null": (type(None), "null"),
}


def parse_scalar(text: str) -> Any:
    """Return the value of a plain scalar: a number, true, false, null, or the text itself.

    Raises ValueError for a number that is too long to be read.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise ValueError(text)
        number = int(text, 10 if text[:2] not in ("0o", "0x") else 0)
        if abs(number) >= _MAX_NUMBER:
            raise ValueError(text)
        return number
    if _FLOAT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise ValueError(text)
        return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    return text


def _scalar(event: Any) -> Any:
    if event.tag in (None, "!", f"{_PREFIX}str"):
        is_plain = event.tag is None and event.implicit[0]
        try:
            return parse_scalar(event.value) if is_plain else event.value
        except ValueError:
            kind = "int" if _INT.fullmatch(event.value) else "float"
            raise _no_such_value(event, kind) from None
    kind = event.tag.removeprefix(_PREFIX)
    if kind not in _NAMES:
        raise _error(event, _unknown_tag(event.tag))
    try:
        value = parse_scalar(event.value)
    except ValueError:
        raise _no_such_value(event, kind) from None
    if kind == "float" and type(value) is int:
        return float(value)
    if type(value) is not _NAMES[kind][0]:
        raise _no_such_value(event, kind)
    return value


# --- errors ---------------------------------------------------------------------------------------

_TOO_DEEP: Final = f"more than {MAX_DEPTH} levels are nested here"


def _error(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _unknown_tag(tag: str) -> str:
    return f"the tag {tag.replace(_PREFIX, '!!')} is not part of YAML's core schema"


def _no_such_value(event: Any, kind: str) -> yaml.MarkedYAMLError:
    return _error(event, f"{event.value[:40]!r} cannot be read as {_NAMES[kind][1]}")


def _syntax_error(path: str, text: str, error: yaml.MarkedYAMLError) -> Diagnostic:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    context = f"{error.context}, " if error.context else ""
    problem = str(error.problem)
    if "nesting depth" in problem:  # libyaml's own limit, which it reaches while looking ahead
        line, column = _place_of_depth(text)
        context, problem = "", _TOO_DEEP
    return Diagnostic(path, line, column, "syntax", f"this is not YAML: {context}{problem}")


def _place_of_depth(text: str) -> tuple[int, int]:
    """Return the line and column at which brackets are nested deeper than allowed."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "[{") - (character in "]}")
        if depth > MAX_DEPTH:
            return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    return 1, 1
