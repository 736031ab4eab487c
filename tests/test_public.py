"""The public surface: what `import oceanmock` names, and how little it takes to."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import oceanmock

PUBLIC = [
    "Dag",
    "EnvironmentProblem",
    "InputError",
    "JournalEntry",
    "Mock",
    "Obshell",
    "OceanmockError",
    "Ocp",
    "Task",
    "__version__",
    "fails",
    "hangs",
    "node",
    "running",
    "sub_task",
    "subtask",
    "succeeds",
]
HEAVY = {"connexion", "httpx", "obshell", "pydantic", "pytest", "requests", "rich", "uvicorn", "yaml"}


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded once this has run, in an interpreter of its own."""
    told = f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))"
    words = [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{told}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_public_surface_is_what_it_is_meant_to_be() -> None:
    assert oceanmock.__all__ == PUBLIC
    assert dir(oceanmock) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_named_is_there_and_says_what_it_is(name: str) -> None:
    assert getattr(oceanmock, name).__doc__


def test_importing_it_loads_nothing_else() -> None:
    before = loaded_by("pass")

    assert loaded_by("import oceanmock") - before == {"oceanmock"}


def test_what_a_test_holds_needs_neither_a_server_nor_a_client() -> None:
    loaded = loaded_by("import oceanmock.client")

    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()


def test_a_name_that_is_not_there_is_missed_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'oceanmock' has no attribute 'runing'"):
        _ = oceanmock.runing  # type: ignore[attr-defined]


def test_running_stays_a_function_once_its_module_is_loaded() -> None:
    code = "import oceanmock.client; from oceanmock import *; assert callable(running)"

    assert "oceanmock.client" in loaded_by(code)
