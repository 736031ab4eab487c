"""README's shell script runs as it stands: curl, a sandbox with its own port, a standing clock."""

from __future__ import annotations

import os
import subprocess

import httpx
import pytest

from command import serving
from test_readme import command


@pytest.fixture(scope="module")
def told() -> subprocess.CompletedProcess[str]:
    """What the script printed, at a real server; any step that fails ends it."""
    with serving("many-tasks") as server:
        run = subprocess.run(
            ["bash", "-e", "-u", "-o", "pipefail", "-c", command("kit")],
            env=os.environ | {"MOCK": server.url},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        left = httpx.get(f"{server.url}/__admin/sandboxes", trust_env=False).json()["sandboxes"]
    assert [each["name"] for each in left] == ["default"]
    return run


def test_every_step_of_it_succeeds(told: subprocess.CompletedProcess[str]) -> None:
    assert (told.returncode, told.stderr) == (0, "")


def test_the_journal_has_the_one_retry(told: subprocess.CompletedProcess[str]) -> None:
    assert '"operation":"retrySubtask"' in told.stdout
    assert '"holds":true' in told.stdout


def test_the_task_says_why_it_has_succeeded(told: subprocess.CompletedProcess[str]) -> None:
    explanation = told.stdout[told.stdout.index("Task 1000 ") :]

    assert "is SUCCESSFUL since" in explanation
    assert "RETRY" in explanation.partition("Next:")[0]
