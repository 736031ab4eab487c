"""Mistakes in a file somebody wrote: where each one is, which rule it breaks, how to mend it.

Knows YAML's nodes and their marks, and how to say what pydantic found; knows nothing of what a
scenario means. Its only door is ``ScenarioError``: all the mistakes of a file, in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from oceanmock.errors import AuthorError

Loc = tuple[int | str, ...]
"""The way to a value: keys and positions from the root."""


@dataclass(frozen=True, slots=True, order=True)
class Issue:
    """One mistake. Lines and columns count from 1; ``rule`` is stable, for tools to match."""

    path: str
    line: int
    column: int
    rule: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f"\n  {self.hint}" if self.hint else ""
        return f"{self.path}:{self.line}:{self.column}: {self.message} [{self.rule}]{hint}"


class ScenarioError(AuthorError):
    """A scenario that cannot be used; ``mistakes`` has all that is wrong with it."""

    def __init__(self, mistakes: Iterable[Issue]) -> None:
        self.mistakes = tuple(sorted(set(mistakes)))
        super().__init__("\n".join(map(str, self.mistakes)))


@dataclass(frozen=True, slots=True)
class Found:
    """A mistake before it has a line: the way to it, and whether the key itself is meant."""

    loc: Loc
    rule: str
    message: str
    hint: str = ""
    at_key: bool = False


class Document:
    """A YAML text as data, with the place of every value in it."""

    def __init__(self, text: str, path: str) -> None:
        """Raises ScenarioError when the text is not YAML, or empty."""
        self.path = path
        try:
            _check_depth(text)
            loader = _Loader(text)
            root = loader.get_single_node()
            self._duplicates = list(_duplicate_keys(root)) if root else []
            self.data: Any = loader.construct_document(root) if root else None
        except yaml.MarkedYAMLError as error:
            raise ScenarioError([_syntax_mistake(path, error)]) from error
        except (yaml.YAMLError, ValueError) as error:
            what = f"this is not YAML: {error}".replace("\n", " ")
            raise ScenarioError([Issue(path, 1, 1, "syntax", what)]) from error
        if root is None:
            raise ScenarioError([Issue(path, 1, 1, "syntax", "the file is empty")])
        self._root: yaml.Node = root

    def duplicate_keys(self) -> list[Issue]:
        """Keys that stand twice in one mapping; YAML would silently keep the last."""
        return [
            Issue(
                self.path,
                again.start_mark.line + 1,
                again.start_mark.column + 1,
                "duplicate-key",
                f"{again.value!r} stands here twice; the first is on line {first + 1}",
                "Remove one of them.",
            )
            for again, first in self._duplicates
        ]

    def locate(self, found: Found) -> Issue:
        """Gives a mistake its line and column: the value's, or the nearest that is there."""
        mark = _node_at(self._root, found.loc, at_key=found.at_key).start_mark
        return Issue(
            self.path, mark.line + 1, mark.column + 1, found.rule, found.message, found.hint
        )


class _Loader(yaml.CSafeLoader):
    """YAML's plain values; those that cannot be made are mistakes with a place."""

    yaml_constructors = {  # noqa: RUF012 (PyYAML's own way)
        tag: make
        for tag, make in yaml.CSafeLoader.yaml_constructors.items()
        if tag is None or not tag.endswith((":binary", ":omap", ":pairs", ":set"))
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The node's value. Raises a ConstructorError for a tag that does not fit the text."""
        if node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
            raise _no_such_value(node)  # it would be long in the making
        try:
            value = super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise _no_such_value(node) from error
        if isinstance(value, int) and abs(value) >= _TOO_BIG:
            raise _no_such_value(node)
        return value


_NUMBERS: Final = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_LONGEST_NUMBER: Final = 400
_TOO_BIG: Final = 10**100
DEEPEST: Final = 100
"""So many levels may be nested; far deeper ones take long to be read, and would break the stack."""


def _no_such_value(node: yaml.Node) -> yaml.constructor.ConstructorError:
    kind = node.tag.rpartition(":")[2]
    what = f"{str(node.value)[:40]!r} cannot be read as {_KINDS.get(kind, kind)}"
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


_KINDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "timestamp": "an instant",
}


def _check_depth(text: str) -> None:
    """Raises a ComposerError for nesting that would break the stack of whoever follows it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            mark: Any = event.start_mark  # libyaml's has the same fields
            what = f"more than {DEEPEST} levels are nested here"
            raise yaml.composer.ComposerError(None, None, what, mark)


def _syntax_mistake(path: str, error: yaml.MarkedYAMLError) -> Issue:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    context = f"{error.context}, " if error.context else ""
    return Issue(path, line, column, "syntax", f"this is not YAML: {context}{error.problem}")


def _duplicate_keys(root: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, int]]:
    """Each repeated key, with the line of the first one."""
    waiting: list[yaml.Node] = [root]
    visited: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key, value in node.value:
                waiting.append(value)
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen and key.value != "<<":
                        yield key, seen[key.value]
                    seen.setdefault(key.value, key.start_mark.line)


def _node_at(root: yaml.Node, loc: Loc, *, at_key: bool) -> yaml.Node:
    node = root
    for depth, step in enumerate(loc):
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            if step >= len(node.value):
                return node
            node = node.value[step]
        elif isinstance(node, yaml.MappingNode):
            pair = next(
                (pair for pair in reversed(node.value) if str(pair[0].value) == str(step)), None
            )
            if pair is None and isinstance(step, int):
                continue  # the only item of a list, written without the list
            if pair is None:
                return node
            last = depth == len(loc) - 1
            node = pair[0] if at_key and last else pair[1]
        else:
            return node
    return node
