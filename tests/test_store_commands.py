"""``oceanmock store``: check a store, copy it as JSON lines, empty it; here a state file, in test_stores Redis."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fault_requests import request_to
from oceanmock.apis import make_sandbox
from oceanmock.cli import main
from oceanmock.clock import SECOND
from oceanmock.engine.log import AddFault, Operate, SandboxSpec
from oceanmock.engine.sandboxes import Sandboxes
from oceanmock.engine.state_file import StateFile
from oceanmock.library import DECODER, load_scenario, read_fault


def fill(path: Path) -> None:
    """Write two sandboxes, of which one has had commands, requests with a fault and a refused operation."""
    store = StateFile(path, decoder=DECODER)
    sandboxes = Sandboxes(make_sandbox([load_scenario("retry-failed-subtask")], store=store, progression="manual"))
    sandboxes.create("second", SandboxSpec((load_scenario("pass-failed-dag"),)))
    sandboxes.default.advance(60 * SECOND)
    sandboxes.default.execute(Operate("ocp", 1000, "RETRY"))
    sandboxes.default.execute(AddFault(read_fault({"status": 503, "calls": 2})))
    sandboxes.default.faults.inject(request_to("ocp", "getTaskInstance", {}))
    store.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    fill(tmp_path / "state.db")
    return tmp_path / "state.db"


def store(*words: str | Path, **options: str) -> Result:
    return CliRunner().invoke(main, ["store", *map(str, words)], **options)  # type: ignore[arg-type]


def test_a_store_is_checked(state: Path) -> None:
    checked, as_json = store("check", state), store("check", state, "--json")

    assert json.loads(as_json.output) == [{"name": "default", "commands": 3}, {"name": "second", "commands": 0}]
    assert (checked.exit_code, checked.output) == (
        0,
        f"default: 3 commands\nsecond: 0 commands\n{state}: 2 sandboxes\n",
    )


def test_an_export_is_the_sandboxes_and_an_import_gives_the_same_again(state: Path, tmp_path: Path) -> None:
    exported = store("export", state).output
    imported = store("import", tmp_path / "copy.db", input=exported)

    lines = [json.loads(line) for line in exported.splitlines()]
    assert [next(iter(line)) for line in lines] == ["spec", "at", "at", "at", "counter", "of", "spec"]
    assert imported.output == f"{tmp_path / 'copy.db'}: 2 sandboxes\n"
    assert store("export", tmp_path / "copy.db").output == exported


def test_an_import_tells_the_line_that_it_cannot_read(state: Path, tmp_path: Path) -> None:
    first, *_ = store("export", state).output.splitlines()

    imported = store("import", tmp_path / "copy.db", input=f"{first}\n{{}}\n")

    assert imported.exit_code == 2
    assert "line 2 cannot be imported: no export has such a line. Those before it were." in imported.output


def test_a_store_is_emptied_when_it_is_confirmed(state: Path) -> None:
    assert store("purge", state, input="n\n").exit_code == 1
    assert store("check", state).output.endswith("2 sandboxes\n")

    assert store("purge", state, "--yes").output == f"Deleting {state}: 2 sandboxes\n"
    assert store("check", state).output == f"{state}: 0 sandboxes\n"


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    missing = store("check", tmp_path / "none.db")

    assert missing.exit_code == 2
    assert f"there is no state file {tmp_path / 'none.db'}." in missing.output
