"""The command `oceanmock conform`, run against a server: its exit codes, reports and errors.

test_conform_cli checks its options, where nothing is sent.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner
from click.testing import Result as Ended

from command import OCEANMOCK, PATIENCE, run
from oceanmock import Mock
from oceanmock.cli import main

LOGIN = ("--api", "ocp", "--user", "manager")
REPORT_KINDS = ("html", "json", "junit")
PASSWORDS = {f"OCEANMOCK_{name}": None for name in ("PASSWORD", "SECRET_KEY", "AGENT_PASSWORD", "READ_ONLY_PASSWORD")}


def conform(*words: str) -> Ended:
    return CliRunner().invoke(main, ["conform", *words], prog_name="oceanmock", env={**PASSWORDS, "COLUMNS": "100"})


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """Serve a sandbox with one task in it, 30 seconds after that began; return its URL."""
    with Mock.start() as mock:
        sandbox = mock.ocp("retry-failed-subtask", progression="manual")
        sandbox.clock.advance(30)
        yield f"{mock.url}/sandboxes/{sandbox.name}"


@pytest.mark.slow
def test_a_run_finds_nothing_and_writes_its_reports(served: str, tmp_path: Path) -> None:
    reports = ",".join(f"{kind}={tmp_path / kind}" for kind in REPORT_KINDS)
    options = ("--password", "manager", "--max-examples", "3", "--phases", "probes,fuzzing", "--report", reports)

    ended = run("conform", served, *LOGIN, *options, folder=tmp_path)

    report = json.loads((tmp_path / "json").read_text())
    assert (ended.returncode, report["verdict"], report["runs"][0]["findings"]) == (0, "PASSED", [])
    assert report["runs"][0]["requests"] > 100
    assert ElementTree.parse(tmp_path / "junit").getroot().get("failures") == "0"
    assert "PASSED" in (tmp_path / "html").read_text()
    phases = list(dict.fromkeys(line.partition(":")[0] for line in ended.stderr.splitlines()))
    assert phases == ["preflight", "probes", "fuzzing"]
    assert ended.stdout.count("\n") == 7, "a run that found nothing is quiet"
    assert {path.name for path in tmp_path.iterdir()} == set(REPORT_KINDS)


@pytest.mark.parametrize(
    "words", [(*LOGIN, "--password", "wrong"), ("--api", "obshell", "--password", "")], ids=["ocp", "obshell"]
)
def test_a_wrong_password_is_one_sentence_and_never_a_run(words: tuple[str, ...], served: str) -> None:
    ended = conform(served, *words)

    error = ended.stderr.splitlines()[-1]
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert error.startswith(f"Error: {served} refuses the ")
    assert "password" in error


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_during_a_run_reports_the_findings_until_then(
    number: signal.Signals, served: str, tmp_path: Path
) -> None:
    path, junit = tmp_path / "run.json", tmp_path / "junit.xml"
    reports = f"json={path},junit={junit}"
    options = ("--max-examples", "10000", "--phases", "probes,fuzzing", "--report", reports)
    with subprocess.Popen(
        [OCEANMOCK, "conform", served, *LOGIN, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OCEANMOCK_PASSWORD": "manager"},
    ) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if line.startswith("probes: "))
            process.send_signal(number)
            stdout, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()

    report = json.loads(path.read_text())["runs"][0]
    assert line
    assert process.returncode == 130
    assert (report["verdict"], report["interrupted"], report["stopped"]) == ("INTERRUPTED", True, number.name)
    assert ElementTree.parse(junit).getroot().get("errors") == "1"
    assert report["requests"] > 100
    assert "INTERRUPTED (exit code 130)" in stdout


def test_a_story_is_replayed_on_a_server() -> None:
    options = ("--password", "manager", "--write", "--task", "1000", "--story", "retry-failed-subtask")

    with Mock.start() as mock:
        sandbox = mock.ocp("retry-failed-subtask", progression="time", speed=50)
        sandbox.clock.advance(30)
        ended = conform(f"{mock.url}/sandboxes/{sandbox.name}", *LOGIN, *options)

    assert "Story retry-failed-subtask" in ended.stdout
    assert "✗" not in ended.stdout
    assert ended.exit_code == 0


FAILS_ONCE = """
summary: A task fails, is retried and succeeds
api: ocp
tasks:
  - {id: 1000, name: Create, subtasks: [Prepare, {name: Make, attempts: [{takes: 2s, ends: FAILED}, {takes: 2s}]}]}
story:
  - {call: rollbackTask, task: 1000, answers: 400}
  - {until: {task: 1000, status: FAILED}}
  - {call: retryTask, task: 1000}
  - {until: {task: 1000, status: SUCCESSFUL}}
"""


def replayed(scenario: Path | str, *words: str, at_rest: bool = True, speed: int = 50) -> Ended:
    """Return the end of a story that is replayed on a server of the scenario, 30 seconds after its begin."""
    with Mock.start() as mock:
        sandbox = mock.ocp(scenario, progression="time", speed=speed)
        if at_rest:
            sandbox.clock.advance(30)
        return conform(f"{mock.url}/sandboxes/{sandbox.name}", *LOGIN, "--password", "manager", "--write", *words)


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        ((), 0, "Story fails-once: 2 of 4 steps passed, 2 skipped"),
        (("--from", "3"), 0, "Story fails-once: 2 of 4 steps passed, 2 skipped"),
        (("--from", "4"), 1, "Story fails-once: 0 of 4 steps passed, 3 skipped"),
        (("--from", "5"), 2, "has 4 steps: give --from 1 to 4."),
    ],
)
def test_a_story_begins_at_the_first_step_that_fits(
    words: tuple[str, ...], code: int, line: str, tmp_path: Path
) -> None:
    file = tmp_path / "fails-once.yaml"
    file.write_text(FAILS_ONCE)

    ended = replayed(file, "--task", "1000", "--story", str(file), "--timeout", "1s", *words)

    assert line in ended.output
    assert ended.exit_code == code


def test_a_story_submits_only_if_that_is_allowed_and_names_what_it_creates() -> None:
    words = ("--story", "create-tenant")

    refused = replayed("create-tenant", *words, at_rest=False, speed=200)
    done = replayed("create-tenant", *words, "--submit", at_rest=False, speed=200)

    created = "task 'Create tenant' by POST /api/v2/ob/clusters/{id}/tenants"
    assert refused.exit_code == 2
    assert f"the story of create-tenant creates {created}: --submit allows it." in refused.stderr
    assert f"The story create-tenant creates {created}.\n" in done.stderr
    assert "Story create-tenant: 6 of 6 steps passed" in done.stdout
    assert done.exit_code == 0


# --- the action -----------------------------------------------------------------------------------

ACTION = yaml.safe_load((Path(__file__).parents[1] / ".github/actions/conform/action.yml").read_text(encoding="utf-8"))


def step(key: str) -> dict[str, Any]:
    """Return the first step of the action that has a text in its script or action."""
    return next(item for item in ACTION["runs"]["steps"] if key in item.get("run", "") + item.get("uses", ""))


def test_the_action_passes_words_as_they_are_quoted(tmp_path: Path) -> None:
    command = tmp_path / "oceanmock/bin/oceanmock"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\nprintf '%s|' \"$@\"; exit 3\n")
    command.chmod(0o755)
    reports = str(tmp_path / "my reports")
    options = """--exclude 'schemathesis.*' --baseline "my lab.yaml" --task $(id)"""
    inputs = {"TARGET": "http://a", "API": "ocp", "USERNAME": "jo hara", "OPTIONS": options, "REPORTS": reports}

    done = subprocess.run(
        ["bash", "-e", "-c", step("--format github")["run"]],
        env={"PATH": os.environ["PATH"], "RUNNER_TEMP": str(tmp_path), **inputs},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )

    assert done.returncode == 3
    assert done.stdout.split("|")[:-1] == [
        *("conform", "http://a", "--exclude", "schemathesis.*", "--baseline", "my lab.yaml", "--task", "$(id)"),
        *("--api", "ocp", "--user", "jo hara", "--format", "github"),
        *("--report", f"junit={reports}/junit.xml", "--report", f"json={reports}/report.json"),
        *("--report", f"html={reports}/report.html", "--report", f"sarif={reports}/report.sarif"),
    ]


def test_the_action_sets_python_up_pins_and_uploads() -> None:
    used = [item["uses"] for item in ACTION["runs"]["steps"] if "uses" in item]

    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", name) for name in used)
    assert step("setup-python")["with"] == {
        "python-version": "${{ inputs.python-version }}",
        "update-environment": False,
    }
    assert '-c "$repository/requirements/dev.txt"' in step("pip")["run"]
    assert step("upload-artifact")["if"].startswith("always()")
