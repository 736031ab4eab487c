"""The examples are documentation: each stands alone, and uses nothing that a reader has not got.

They run as tests of their own; here is what they may not be.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import oceanmock

FOLDER = Path(__file__).parent / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
CLIENTS = {"httpx", "requests", "obshell"}

each_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def imports_of(path: Path) -> dict[str, set[str]]:
    """The modules that a file imports, each with the names that it takes from there."""
    found: dict[str, set[str]] = {}
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.ImportFrom):
            names = {each.name for each in statement.names}
            found.setdefault(statement.module or "", set()).update(names)
        elif isinstance(statement, ast.Import):
            found.update({each.name: set() for each in statement.names})
    return found


def test_there_are_enough_of_them_and_nothing_else() -> None:
    assert len(EXAMPLES) >= 10
    assert {path.suffix for path in FOLDER.iterdir() if path.name != "__pycache__"} == {".py"}


@each_example
def test_an_example_needs_a_client_and_the_public_names(path: Path) -> None:
    imports = imports_of(path)

    strange = {name.partition(".")[0] for name in imports} - sys.stdlib_module_names
    assert strange <= CLIENTS | {"oceanmock", "pytest"}
    assert imports.get("oceanmock", set()) <= set(oceanmock.__all__)
    assert not [name for name in imports if name.startswith("oceanmock.")]


@each_example
def test_an_example_is_short_and_says_what_it_shows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    told = ast.get_docstring(ast.parse(text)) or ""
    assert 1 <= len(told.splitlines()) <= 8
    assert len(text.splitlines()) <= 80
