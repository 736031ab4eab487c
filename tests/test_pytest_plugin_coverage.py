"""What the plugin tells of transition coverage: a summary, a file, and a threshold for the run."""

from __future__ import annotations

import json

import pytest

from golden import assert_golden
from plugin_runs import output, run, run_apart

SUITE = """
import httpx, pytest

@pytest.mark.oceanmock("retry-failed-subtask")
def test_failure_is_seen(ocp):
    with httpx.Client(base_url=ocp.url, auth=ocp.auth) as client:
        while client.get("/api/v2/tasks/instances/1000").json()["data"]["status"] == "RUNNING":
            pass

@pytest.mark.oceanmock("retry-failed-subtask", progression="manual")
def test_success_is_not_watched(ocp):
    with httpx.Client(base_url=ocp.url, auth=ocp.auth) as client:
        ocp.clock.advance("10s")
        client.post("/api/v2/tasks/instances/1000/subtasks/1002/retry")
        ocp.clock.advance("1m")

def test_nothing_at_all():
    pass
"""


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def test_the_summary_says_what_no_client_has_seen(pytester: pytest.Pytester) -> None:
    result = run(pytester, SUITE, "--oceanmock-coverage")

    assert result.ret == pytest.ExitCode.OK
    assert_golden("plugin-coverage.txt", output(result))


def test_the_same_goes_into_a_file(pytester: pytest.Pytester) -> None:
    result = run(pytester, SUITE, "--oceanmock-coverage-json=reports/coverage.json")

    said = json.loads(pytester.path.joinpath("reports/coverage.json").read_text())
    assert said["apis"]["ocp"]["scenarios"] == ["retry-failed-subtask"]
    assert said["apis"]["ocp"]["kinds"]["task"]["states"] == {
        "RUNNING": "seen",
        "FAILED": "seen",
        "SUCCESSFUL": "happened",
    }
    result.stdout.no_fnmatch_line("Transition coverage*")


def test_every_page_of_a_long_journal_counts(pytester: pytest.Pytester) -> None:
    text = """
import httpx

def test_polls(ocp):
    ocp.clock.set(progression="manual")
    ocp.task("Large", [f"Step {number}" for number in range(100)])
    with httpx.Client(base_url=ocp.url, auth=ocp.auth) as client:
        for _ in range(20):
            client.get(f"/api/v2/tasks/instances/{ocp.tasks()[0].id}")
        ocp.clock.advance("1h")
        client.get(f"/api/v2/tasks/instances/{ocp.tasks()[0].id}")
"""

    run(pytester, text, "--oceanmock-coverage-json=coverage.json")

    figures = json.loads(pytester.path.joinpath("coverage.json").read_text())["apis"]["ocp"]
    assert figures["kinds"]["task"]["states"]["SUCCESSFUL"] == "seen"


def test_a_file_that_cannot_be_written_fails_the_run(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("taken").write_text("")

    result = run(pytester, SUITE, "--oceanmock-coverage-json=taken/coverage.json")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["The run fails: taken/coverage.json cannot be written: *."])


@pytest.mark.parametrize("said", [["--oceanmock-coverage-min=90"], ["-o", "oceanmock_coverage_min=90"]], ids=str)
def test_a_run_that_has_seen_too_little_fails(pytester: pytest.Pytester, said: list[str]) -> None:
    result = run(pytester, SUITE, *said)

    result.assert_outcomes(passed=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["The run fails: its clients have seen * %*90 % is asked for*"])


def test_every_sandbox_of_the_server_counts_whoever_made_it(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import pytest

@pytest.fixture(scope="module")
def shared(oceanmock_server):
    with oceanmock_server.ocp() as ocp:
        yield ocp

def test_of_a_module(shared): ...

def test_closed_early(ocp):
    ocp.close()

def test_never_closed(oceanmock_server):
    oceanmock_server.ocp()
""",
        *("--oceanmock-coverage", "--oceanmock-coverage-min=90"),
    )

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["Transition coverage of OCP: 0 % (0 of 54), 3 sandboxes"])


def test_a_run_that_has_seen_enough_passes(pytester: pytest.Pytester) -> None:
    result = run(pytester, SUITE, "--oceanmock-coverage-min=5")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("The run fails*")


def test_a_run_without_sandboxes_is_not_judged(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_it(): ...", "--oceanmock-coverage-min=90")

    assert result.ret == pytest.ExitCode.OK


def test_a_threshold_is_a_percentage(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_it(): ...", "--oceanmock-coverage-min=lots")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*oceanmock_coverage_min is 'lots': a percentage is 0 to 100."])


FAILING = """
@pytest.mark.oceanmock("retry-failed-subtask")
def test_fails(ocp):
    assert False
"""


@pytest.mark.slow
def test_workers_of_xdist_send_on_what_was_seen_and_what_a_failure_tells(pytester: pytest.Pytester) -> None:
    alone = run(pytester, SUITE + FAILING, "--oceanmock-coverage-json=alone.json")
    shared = run_apart(pytester, SUITE + FAILING, "-n2", "--oceanmock-coverage-json=shared.json")

    alone.assert_outcomes(passed=3, failed=1)
    shared.assert_outcomes(passed=3, failed=1)
    shared.stdout.fnmatch_lines(["*oceanmock journal (ocp)*", "*oceanmock task 1000 * RUNNING*"])
    assert json.loads(pytester.path.joinpath("shared.json").read_text()) == json.loads(
        pytester.path.joinpath("alone.json").read_text()
    )
