"""The samples of clients in docs/samples pass their tests under ``oceanmock exec``, and fail with a mistake in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from command import run

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

SAMPLES = Path(__file__).parents[1] / "docs" / "samples"
COMMANDS = [
    ("go", "client.go", ("go", "test", "./...")),
    ("javascript", "client.mjs", ("node", "--test")),
    ("java", "ClientTest.java", ("java", "-ea", "ClientTest.java")),
]


@pytest.fixture(params=COMMANDS, ids=[name for name, *_ in COMMANDS])
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the client's file in a copy of a sample, and the command that tests it."""
    name, file, command = request.param
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} here")
    shutil.copytree(SAMPLES / name, tmp_path / name)
    return tmp_path / name / file, command


def test_a_sample_passes(sample: tuple[Path, tuple[str, ...]]) -> None:
    file, command = sample

    done = run("exec", "retry-failed-subtask", "--", *command, folder=file.parent)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_mistake_in_a_sample_is_reported_with_the_requests(sample: tuple[Path, tuple[str, ...]]) -> None:
    file, command = sample
    file.write_text(file.read_text(encoding="utf-8").replace("/retry", "/cancel"), encoding="utf-8")

    done = run("exec", "retry-failed-subtask", "--", *command, folder=file.parent)

    assert done.returncode != 0
    assert "/api/v2/tasks/instances/1000/subtasks/1002/cancel by manager, answered 400" in done.stderr
