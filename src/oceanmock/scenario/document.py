"""Read YAML 1.2 with its core schema, and find the place of any value.

Editors read scenario files by the same schema, so both agree on what a word is: `no`, `on` and
`1:30` are texts (https://yaml.org/spec/1.2.2/#103-core-schema). Merge keys (`<<`) are kept from
YAML 1.1. The text becomes data in one pass over PyYAML's events; PyYAML's own resolver and
constructors, which follow YAML 1.1, are not used. Depth, numbers and the size of what aliases
stand for are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Final, NamedTuple

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
_TOO_DEEP: Final = f"more than {MAX_DEPTH} levels are nested here"


class TooManyValues(AuthorError):
    """A text or an object has more values than may be read."""

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(
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


class _Node(NamedTuple):
    """A value with the event that it begins with, its size, and the levels below it."""

    event: Any
    data: Any
    size: int = 1
    depth: int = 0


class Document:
    """A YAML text as data. The place of a value is found from the events, once it is needed."""

    def __init__(self, text: str, path: str, *, max_values: int = MAX_VALUES) -> None:
        """Raise ScenarioError for a text that is not YAML, or empty, and TooManyValues."""
        self.path = path
        self._max_values = max_values
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._anchors: dict[str | None, _Node | None] = {}
        self._nodes: dict[int, list[_Node]] = {}  # by the id of a list, or of a mapping: in pairs
        self._duplicates: list[tuple[Any, Any]] = []
        try:
            root = self._compose()
        except yaml.MarkedYAMLError as error:
            raise ScenarioError([_syntax_error(path, text, error)]) from error
        except (yaml.YAMLError, ValueError) as error:
            what = f"this is not YAML: {error}".replace("\n", " ")
            raise ScenarioError([Diagnostic(path, 1, 1, "syntax", what)]) from error
        if root is None:
            raise ScenarioError([Diagnostic(path, 1, 1, "syntax", "the file is empty")])
        self._root = root
        self.data: Any = root.data

    def duplicate_keys(self) -> list[Diagnostic]:
        """Return the keys that a mapping has twice, of which YAML readers keep the last."""
        return [
            Diagnostic(
                self.path,
                *_place(key),
                "duplicate-key",
                f"{key.value!r} stands here twice; the first is on line {_place(first)[0]}",
                "Remove one of them.",
            )
            for key, first in self._duplicates
        ]

    def locate(self, issue: Issue) -> Diagnostic:
        """Return an issue with its line and column: the value's, or the nearest one's above."""
        place = _place(self._event(issue.loc, at_key=issue.at_key))
        return Diagnostic(self.path, *place, issue.rule, issue.message, issue.hint, issue.loc)

    def text_at(self, loc: Loc) -> str:
        """Return the author's own text of a plain scalar, or ""."""
        event = self._event(loc)
        return str(event.value) if _is_plain(event) else ""

    # --- places ---

    def _event(self, loc: Loc, *, at_key: bool = False) -> Any:
        node = self._root
        for depth, step in enumerate(loc):
            pair = self._find(node, step)
            if pair is not None:
                node = pair[0 if at_key and depth == len(loc) - 1 else 1]
            elif not (isinstance(node.data, dict) and isinstance(step, int)):
                break  # an int in a mapping: a list written as its only item
        return node.event

    def _find(self, node: _Node, step: int | str) -> tuple[_Node, _Node] | None:
        """Return the key and the value at a step, perhaps merged; None without one."""
        nodes = self._nodes.get(id(node.data), [])
        if isinstance(node.data, list):
            is_place = isinstance(step, int) and step < len(nodes)
            return (nodes[int(step)], nodes[int(step)]) if is_place else None
        pairs = list(zip(nodes[::2], nodes[1::2], strict=True))
        own = next((pair for pair in reversed(pairs) if pair[0].data == step), None)
        merged = (self._find(part, step) for key, value in pairs for part in self._merged(key, value))
        return own or next(filter(None, merged), None)

    def _merged(self, key: _Node, value: _Node) -> list[_Node]:
        """Return the mappings that a merge key brings in; the first one's keys outrank others."""
        if key.data != "<<" or not _is_plain(key.event):
            return []
        return self._nodes[id(value.data)] if isinstance(value.data, list) else [value]

    # --- from events to data ---

    def _compose(self) -> _Node | None:
        """Return the root of the only document; None without one."""
        next(self._events)  # the start of the stream
        if not isinstance(next(self._events), yaml.DocumentStartEvent):
            return None
        root_event = next(self._events)
        if isinstance(root_event, yaml.CollectionStartEvent):
            root = self._collection(root_event, 1)
        elif isinstance(root_event, yaml.AliasEvent):
            root = self._anchored(root_event, 1)
        else:
            root = _Node(root_event, _scalar(root_event))
        next(self._events)  # the end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            what = "expected a single document in the stream, but found another document"
            raise _error(event, what)
        return root

    def _collection(self, event: Any, depth: int) -> _Node:
        is_list = isinstance(event, yaml.SequenceStartEvent)
        if depth > MAX_DEPTH:
            raise _error(event, _TOO_DEEP)
        if event.tag not in (None, "!", f"{_PREFIX}{'seq' if is_list else 'map'}"):
            raise _unknown_tag(event)
        self._anchors[event.anchor] = None
        nodes, size, below = list[_Node](), 1, 0
        while not isinstance(item := next(self._events), yaml.CollectionEndEvent):
            if isinstance(item, yaml.ScalarEvent):
                is_text = item.tag is None and not _TYPED.fullmatch(item.value)
                node = _Node(item, item.value if is_text else _scalar(item))
            elif isinstance(item, yaml.AliasEvent):
                node = self._anchored(item, depth + 1)
            else:
                node = self._collection(item, depth + 1)
            self._anchors[item.anchor] = node
            nodes.append(node)
            size, below = size + node.size, max(below, node.depth)
        if size > self._max_values:
            raise TooManyValues(self.path, self._max_values)
        data: Any = list(map(_data_of, nodes)) if is_list else self._mapping(nodes)
        self._nodes[id(data)] = nodes
        return _Node(event, data, size, below + 1)

    def _anchored(self, event: Any, depth: int) -> _Node:
        """Return the value that an alias stands for."""
        if event.anchor not in self._anchors:
            raise _error(event, "found undefined alias")
        node = self._anchors[event.anchor]
        if node is None:
            raise _error(event, "a value cannot contain itself")
        if depth + node.depth - 1 > MAX_DEPTH:
            raise _error(event, _TOO_DEEP)
        return node

    def _mapping(self, nodes: list[_Node]) -> dict[Any, Any]:
        own, merged, keys = dict[Any, Any](), dict[Any, Any](), dict[Any, Any]()
        for key, value in zip(nodes[::2], nodes[1::2], strict=True):
            if key.data == "<<" and _is_plain(key.event):
                for part in self._merged(key, value):
                    if not isinstance(part.data, dict):
                        raise _error(key.event, "`<<` merges mappings only")
                    merged = part.data | merged
            elif isinstance(key.data, dict | list):
                what = "while constructing a mapping, found unhashable key"
                raise _error(key.event, what)
            else:
                if key.data in keys:
                    self._duplicates.append((key.event, keys[key.data]))
                keys[key.data], own[key.data] = key.event, value.data
        return merged | own if merged else own


_data_of: Final = attrgetter("data")


def _is_plain(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and bool(event.implicit[0])


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


# --- scalars --------------------------------------------------------------------------------------

_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT: Final = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    re.ASCII,
)
_SCALAR_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TYPED: Final = re.compile(f"{_INT.pattern}|{_FLOAT.pattern}|{'|'.join(map(re.escape, _SCALAR_WORDS))}", re.ASCII)
"""The plain scalars that are no texts."""
_TAGS: Final = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (bool, "true or false"),
    "null": (type(None), "null"),
}


def parse_scalar(text: str) -> Any:
    """Return the value of a plain scalar: a number, true, false, null, or the text itself.

    Raises ValueError for a number that is too long to be read.
    """
    if text in _SCALAR_WORDS:
        return _SCALAR_WORDS[text]
    if not _TYPED.fullmatch(text):
        return text
    if len(text) > _MAX_DIGITS:
        raise ValueError(text)
    if not _INT.fullmatch(text):
        return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    number = int(text, 10 if text[:2] not in ("0o", "0x") else 0)
    if abs(number) >= _MAX_NUMBER:
        raise ValueError(text)
    return number


def _scalar(event: Any) -> Any:
    """Return the value of a scalar by its tag or, where it has none and no quotes, by its form."""
    is_plain = event.tag is None and event.implicit[0]
    kind = "str" if event.tag in (None, "!") else event.tag.removeprefix(_PREFIX)
    if kind == "str" and not is_plain:
        return event.value
    if kind not in ("str", *_TAGS):
        raise _unknown_tag(event)
    try:
        value = parse_scalar(event.value)
    except ValueError:
        number = "int" if _INT.fullmatch(event.value) else "float"
        raise _no_such_value(event, number if is_plain else kind) from None
    if kind == "float" and type(value) is int:
        value = float(value)
    if kind != "str" and type(value) is not _TAGS[kind][0]:
        raise _no_such_value(event, kind)
    return value


# --- errors ---------------------------------------------------------------------------------------


def _error(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _unknown_tag(event: Any) -> yaml.MarkedYAMLError:
    tag = event.tag.replace(_PREFIX, "!!")
    return _error(event, f"the tag {tag} is not part of YAML's core schema")


def _no_such_value(event: Any, kind: str) -> yaml.MarkedYAMLError:
    return _error(event, f"{event.value[:40]!r} cannot be read as {_TAGS[kind][1]}")


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
