"""Read which names of oceanmock a test file imports, itself or through the tests' own modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import oceanmock

TESTS = Path(__file__).parent
# The names of the package, and the entry points of the command and the plugin.
PUBLIC = {
    "oceanmock",
    "oceanmock.cli.main",
    "oceanmock.pytest_plugin",
    *(f"oceanmock.{name}" for name in oceanmock.__all__),
}


def is_blackbox(path: Path) -> bool:
    """Return True if a test file reaches oceanmock through its public names only."""
    return not internal_imports(path)


@cache
def internal_imports(path: Path) -> frozenset[str]:
    """Return the names below the public ones that a file imports, also through local modules."""
    internal: set[str] = set()
    pending, visited = [path], {path}
    while pending:
        for name in _imports(pending.pop()):
            local = TESTS / f"{name.partition('.')[0]}.py"
            if name.partition(".")[0] == "oceanmock":
                internal |= {name} - PUBLIC
            elif local.exists() and local not in visited:
                visited.add(local)
                pending.append(local)
    return frozenset(internal)


@cache
def _imports(path: Path) -> frozenset[str]:
    return frozenset(_read_imports(ast.parse(path.read_text(encoding="utf-8"))))


def _read_imports(block: ast.AST) -> Iterator[str]:
    for statement in ast.iter_child_nodes(block):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)
        elif isinstance(statement, ast.stmt | ast.excepthandler):
            yield from _read_imports(statement)
