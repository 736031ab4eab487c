"""Check that the markers of the test files say what the files do."""

from __future__ import annotations

from pathlib import Path

import pytest

from imports import TESTS, internal_imports, is_blackbox

FILES = sorted(TESTS.rglob("test_*.py"))


@pytest.mark.parametrize(
    "text",
    [
        "from oceanmock.clock import SECOND",
        "import oceanmock.clock",
        "from oceanmock import clock",
        "def test() -> None:\n    from oceanmock.clock import SECOND",
        "from obshell_strategies import dags",
    ],
)
def test_a_file_that_imports_below_the_public_names_is_no_blackbox(text: str, tmp_path: Path) -> None:
    path = tmp_path / "test_it.py"
    path.write_text(text, encoding="utf-8")

    assert not is_blackbox(path)


def test_a_file_that_imports_public_names_is_a_blackbox(tmp_path: Path) -> None:
    path = tmp_path / "test_it.py"
    path.write_text("import oceanmock\nfrom oceanmock import Ocp, running", encoding="utf-8")

    assert internal_imports(path) == set()


def test_the_marker_is_on_the_tests_of_a_blackbox_file(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("blackbox") is not None


def test_each_exhaustive_test_is_slow(request: pytest.FixtureRequest) -> None:
    exhaustive = [item for item in request.session.items if item.get_closest_marker("exhaustive")]

    assert [item.nodeid for item in exhaustive if not item.get_closest_marker("slow")] == []
