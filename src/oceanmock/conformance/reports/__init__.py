"""What a conformance run is told as: a terminal's summary, JUnit XML, JSON, one HTML page.

Each report is a function of results and nothing else: the same results give the same text. What a
server answered is hostile until it is escaped; each report escapes in its own way, at its border.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from oceanmock.conformance.model import Result
from oceanmock.conformance.reports import html, json, junit
from oceanmock.errors import EnvironmentProblem

KINDS: Final[Mapping[str, Callable[[Sequence[Result]], str]]] = {
    "html": html.render,
    "json": json.render,
    "junit": junit.render,
}


def check_writable(path: Path, *, what: str = "report") -> None:
    """Makes sure a file can be written there. Raises EnvironmentProblem when it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        with path.open("ab"):
            pass
        if not existed:
            path.unlink()
    except OSError as problem:
        raise EnvironmentProblem(
            f"the {what} cannot be written to {path}: {problem.strerror}"
        ) from problem


def write_report(kind: str, results: Sequence[Result], path: Path) -> None:
    """Writes the report of one kind. Raises EnvironmentProblem when that cannot be done."""
    try:
        path.write_text(KINDS[kind](results), encoding="utf-8")
    except OSError as problem:
        what = f"the report cannot be written to {path}: {problem.strerror}"
        raise EnvironmentProblem(what) from problem
