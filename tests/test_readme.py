"""Check the README: its length, its commands, its shell script and its names of scenarios."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest

from command import run, serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = [README, *(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))]
CI = ROOT / ".ci" / "run"


def command(name: str) -> str:
    """Return the block that a comment marks as the command of this name."""
    marked = README.partition(f"<!-- command: {name} -->\n```sh\n")[2]
    return marked.partition("```")[0].strip()


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 130


def test_one_command_sets_up_and_serves_the_whole_library() -> None:
    assert command("serve") == ("python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/oceanmock serve")


def test_one_command_sets_up_and_passes_the_tests() -> None:
    assert command("test") == (
        "python3 -m venv .venv && .venv/bin/pip install -q -e . -r requirements/dev.txt && .venv/bin/python -m pytest"
    )


def test_ci_runs_the_test_command_of_the_readme() -> None:
    gate = CI.read_text(encoding="utf-8")

    assert os.access(CI, os.X_OK)
    assert "command=$(readme_command test)" in gate
    assert gate.index("$command") < gate.index('pytest -m "(slow or hypothesis) and not exhaustive"')


def test_every_scenario_that_is_named_is_in_the_library() -> None:
    library = {line.split()[0] for line in run("list").stdout.splitlines()}

    named = set(re.findall(r"oceanmock (?:serve|show) ([a-z][\w-]*)(?![\w.-])", "".join(DOCS)))

    assert named
    assert named <= library


def run_script(text: str, url: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script that uses a server; any step that fails ends it."""
    return subprocess.run(
        ["bash", "-e", "-u", "-o", "pipefail", "-c", text],
        env=os.environ | {"MOCK": url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def script() -> subprocess.CompletedProcess[str]:
    """Run the shell script, once as it is, and once with a verification that fails."""
    with serving("many-tasks") as server:
        done = run_script(command("kit"), server.url)
        failing = run_script(command("kit").replace('"times": 1', '"times": 5'), server.url)
        httpx.delete(f"{server.url}/__admin/sandboxes/mine", trust_env=False).raise_for_status()
        rest = httpx.get(f"{server.url}/__admin/sandboxes", trust_env=False).json()["sandboxes"]
    assert [sandbox["name"] for sandbox in rest] == ["default"]
    assert (failing.returncode, '"holds":false' in failing.stdout) == (22, True)
    return done


def test_every_step_of_the_script_succeeds(script: subprocess.CompletedProcess[str]) -> None:
    assert (script.returncode, script.stderr) == (0, "")


def test_its_journal_has_the_one_retry(script: subprocess.CompletedProcess[str]) -> None:
    assert '"operation":"retrySubtask"' in script.stdout
    assert '"holds":true' in script.stdout


def test_its_explanation_names_the_retry(script: subprocess.CompletedProcess[str]) -> None:
    explanation = script.stdout[script.stdout.index("Task 1000 ") :]

    assert "is SUCCESSFUL since" in explanation
    assert "RETRY" in explanation.partition("Next:")[0]
