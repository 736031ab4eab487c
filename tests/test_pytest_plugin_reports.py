"""What the plugin tells of a test that has failed, and what makes a strict one fail; whole text."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from golden import assert_golden
from plugin_runs import output, run


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


# --- the report of a failure ----------------------------------------------------------------------

RETRY = """
import httpx, pytest

TASK = "/api/v2/tasks/instances/1000"

@pytest.mark.oceanmock(
    "retry-failed-subtask", progression="manual", starts_at="2024-01-10T06:00:00Z"
)
def test_client_retries(ocp):
    client = httpx.Client(base_url=ocp.url, auth=ocp.auth)
    client.get(TASK)
    ocp.clock.advance("4s")
    client.post(f"{TASK}/subtasks/1001/retry")
    client.post(f"{TASK}/subtasks/1002/retry")
    ocp.clock.advance("1s")
    client.get("/api/v2/tasks/instance/1000?password=hunter2")
    ocp.faults.add(operation="getTaskInstance", reset=True)
    with pytest.raises(httpx.TransportError):
        client.get(TASK)
    client.close()

    assert ocp.task(1000).status == "SUCCESSFUL"
"""

DAG = """
import pytest

@pytest.mark.oceanmock(
    "initialize-cluster-fails", progression="manual", starts_at="2024-01-10T06:00:00Z"
)
def test_client_gives_up(obshell):
    client = obshell.sdk()
    obshell.clock.advance("6s")
    client.operate_dag("22130706433028864", "RETRY")
    obshell.clock.advance("3s")
    client.operate_dag("22130706433028864", "ROLLBACK")
    obshell.clock.advance("2s")

    assert obshell.dag(4).state == "SUCCEED"
"""


def test_a_failure_tells_the_journal_and_the_life_of_a_task(pytester: pytest.Pytester) -> None:
    result = run(pytester, RETRY)

    result.assert_outcomes(failed=1)
    assert_golden("plugin-failure-ocp.txt", output(result))


def test_a_failure_tells_the_journal_and_the_life_of_a_dag(pytester: pytest.Pytester) -> None:
    result = run(pytester, DAG)

    result.assert_outcomes(failed=1)
    assert_golden("plugin-failure-obshell.txt", output(result))


def test_what_is_wrong_is_shown_at_the_test_s_own_line_and_told_once(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import pytest

@pytest.mark.oceanmock(
    "retry-failed-subtask", progression="manual", starts_at="2024-01-10T06:00:00Z"
)
def test_of_a_status(ocp):
    ocp.task(1000).assert_status("SUCCESSFUL")

def test_of_a_call(ocp):
    ocp.journal.assert_called("retrySubtask", time=1)

def test_of_a_clock(ocp):
    ocp.clock.set(progression="manul")

def test_of_a_scenario(ocp):
    ocp.load("fails-twic")

def test_of_a_sandbox(oceanmock_server):
    oceanmock_server.ocp("fails-twic")
""",
    )

    result.assert_outcomes(failed=5)
    assert_golden("plugin-own-line.txt", output(result))


def test_a_sandbox_of_a_module_is_told_by_the_tests_it_is_given_to(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import httpx, pytest

@pytest.fixture(scope="module")
def shared(oceanmock_server):
    with oceanmock_server.ocp("retry-failed-subtask") as ocp:
        yield ocp

@pytest.fixture
def client(shared):
    with httpx.Client(base_url=shared.url, auth=shared.auth) as client:
        yield client

def test_of_it(client):
    client.get("/nowhere")
    assert False

def test_without_it():
    assert False
""",
    )

    result.assert_outcomes(failed=2)
    assert output(result).count("GET /nowhere, answered 404") == 1
    result.stdout.fnmatch_lines(["*oceanmock journal (ocp)*", "*_ test_without_it _*"])


def test_sandboxes_that_a_test_makes_are_told_by_their_names(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_it(ocp, oceanmock_server):
    for name in "abcd":
        oceanmock_server.ocp(name=name)
    assert False
""",
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*oceanmock journal (ocp, test-it-*)*",
            "*oceanmock journal (ocp, a)*",
            "*oceanmock journal (ocp, b)*",
            "*oceanmock: 2 more sandboxes*",
            "c, d",
        ]
    )


def test_a_report_for_a_machine_has_the_journal_too(pytester: pytest.Pytester) -> None:
    run(pytester, "def test_it(ocp): assert False", "--junitxml=junit.xml")

    (told,) = ElementTree.parse(pytester.path / "junit.xml").iter("failure")
    assert "oceanmock journal (ocp)" in (told.text or "")


def test_no_secret_is_told(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import httpx

def test_it(ocp):
    body = {"name": "t", "rootPassword": "hunter1"}
    httpx.post(f"{ocp.url}/api/v2/ob/clusters/1/tenants?token=hunter2", json=body,
               auth=("manager", "hunter3"), headers={"X-Api-Key": "hunter4"})
    assert False
""",
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*POST /api/v2/ob/clusters/1/tenants?token=?**"])
    result.stdout.fnmatch_lines(['*with {"name": "t", "rootPassword": "?**"}'])
    assert "hunter" not in result.stdout.str().partition("oceanmock journal")[2]


def test_what_is_long_is_told_in_part(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import httpx, pytest

@pytest.mark.oceanmock("many-tasks", "many-subtasks", progression="manual")
def test_it(ocp):
    last = ocp.tasks()[-1].id
    with httpx.Client(base_url=ocp.url, auth=ocp.auth) as client:
        for _ in range(30):
            client.get(f"/api/v2/tasks/instances/{last}")
    ocp.clock.advance("10m")
    assert False
""",
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["  … 10 earlier", "  11 *", "  30 *", "*oceanmock: * more tasks*"])
    assert len(result.outlines) < 300


def test_a_fixture_that_fails_has_the_same_report(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import httpx, pytest

@pytest.fixture
def client(ocp):
    httpx.get(f"{ocp.url}/nowhere")
    raise RuntimeError("no client")

def test_it(client): ...
""",
    )

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*oceanmock journal (ocp)*", "*GET /nowhere, answered 404"])


@pytest.mark.parametrize(("detail", "sections"), [("full", 2), ("short", 2), ("none", 0)])
def test_how_much_a_failure_tells_can_be_chosen(pytester: pytest.Pytester, detail: str, sections: int) -> None:
    text = "import pytest\n@pytest.mark.oceanmock('retry-failed-subtask')\ndef test_it(ocp): assert False"

    result = run(pytester, text, f"--oceanmock-report={detail}")

    titles = [line for line in result.outlines if line.startswith("---") and "oceanmock" in line]
    assert len(titles) == sections
    assert ("oceanmock states (ocp)" in result.stdout.str()) is (detail == "short")
    assert ("RUNNING since" in result.stdout.str()) is (detail == "full")


@pytest.mark.parametrize("mistake", ["ocp.nothing = unknown", "import no_such_module", "ocp.task('None')"])
def test_a_mistake_in_the_test_itself_has_no_report(pytester: pytest.Pytester, mistake: str) -> None:
    result = run(pytester, f"def test_it(ocp):\n    {mistake}")

    result.assert_outcomes(failed=1)
    assert "oceanmock journal" not in result.stdout.str()


def test_a_test_that_passes_or_is_expected_to_fail_tells_nothing(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import httpx, pytest

def test_passes(ocp):
    httpx.get(f"{ocp.url}/nowhere")

@pytest.mark.xfail
def test_is_expected_to_fail(ocp):
    httpx.get(f"{ocp.url}/nowhere")
    assert False
""",
        "-rA",
    )

    result.assert_outcomes(passed=1, xfailed=1)
    result.stdout.no_fnmatch_line("*oceanmock journal*")


# --- strict ---------------------------------------------------------------------------------------


def test_a_strict_test_fails_by_what_is_unexpected_and_by_what_has_not_come(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import httpx, pytest

@pytest.mark.oceanmock("retry-failed-subtask", progression="manual", strict=True)
def test_client_retries(ocp):
    ocp.faults.add(operation="retrySubtask", calls=[2], reset=True)
    ocp.faults.add(name="slow", operation=["getTaskInstance", "retryTask"], delay="1ms")
    httpx.get(f"{ocp.url}/api/v2/tasks/instances/1000", auth=ocp.auth)
    httpx.get(f"{ocp.url}/api/v2/tasks/instance/1000", auth=ocp.auth)
    httpx.delete(f"{ocp.url}/api/v2/tasks/instances/1000", auth=ocp.auth)
    httpx.post(f"{ocp.url}/api/v2/tasks/instances/1000/subtasks/1002/retry", auth=ocp.auth)
""",
    )

    result.assert_outcomes(passed=1, errors=1)
    assert_golden("plugin-strict.txt", output(result))


def test_a_strict_test_that_expects_all_that_comes_passes(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import httpx, pytest

pytestmark = pytest.mark.oceanmock("create-tenant", strict=True)

def test_refusals_and_started_tasks_are_expected(ocp):
    tenants = f"{ocp.url}/api/v2/ob/clusters/1/tenants"
    assert httpx.post(tenants, json={"mode": "MYSQL"}, auth=ocp.auth).status_code == 200
    assert httpx.get(f"{ocp.url}/api/v2/tasks/instances/1", auth=ocp.auth).status_code == 404
    assert httpx.get(f"{ocp.url}/api/v2/tasks/instances").status_code == 401

def test_a_fault_that_strikes_by_chance_need_not_strike(ocp):
    ocp.faults.add(operation="listTaskInstances", probability=1e-9, reset=True)
    httpx.get(f"{ocp.url}/api/v2/tasks/instances", auth=ocp.auth)

def test_what_is_meant_to_be_so_can_be_forgotten(ocp):
    httpx.get(f"{ocp.url}/nowhere")
    ocp.faults.add(operation="listTaskInstances", reset=True)
    ocp.journal.clear()
    ocp.faults.clear()

@pytest.mark.oceanmock(strict=False)
def test_lenient(ocp):
    httpx.get(f"{ocp.url}/nowhere")
""",
    )

    result.assert_outcomes(passed=4)


def test_a_strict_sandbox_of_a_module_is_judged_when_it_is_closed(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import httpx, pytest

@pytest.fixture(scope="module")
def shared(oceanmock_server):
    with oceanmock_server.ocp(strict=True) as ocp:
        yield ocp

def test_it(shared):
    httpx.get(f"{shared.url}/nowhere")

def test_last(shared): ...
""",
    )

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_last*", "1 request to ocp matched*"])


def test_a_strict_test_that_has_failed_already_fails_once(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import httpx

def test_it(ocp):
    httpx.get(f"{ocp.url}/nowhere")
    assert False

def test_block(oceanmock_server):
    with oceanmock_server.ocp(strict=True) as ocp:
        httpx.get(f"{ocp.url}/nowhere")
        assert False
""",
        "--oceanmock-strict",
    )

    result.assert_outcomes(failed=2)
    result.stdout.no_fnmatch_line("*matched no operation*")


def test_a_strict_test_that_is_skipped_or_fails_as_expected_is_not_judged(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import pytest

def test_skipped(ocp):
    ocp.faults.add(operation="getTaskInstance", reset=True)
    pytest.skip()

@pytest.mark.xfail(strict=True, raises=AssertionError)
def test_failing(ocp):
    ocp.faults.add(operation="getTaskInstance", reset=True)
    assert False
""",
        "--oceanmock-strict",
    )

    result.assert_outcomes(skipped=1, xfailed=1)


def test_a_strict_test_that_is_run_again_is_judged_again(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    runtestprotocol(item, nextitem=nextitem, log=False)
    runtestprotocol(item, nextitem=nextitem)
    return True
""")

    result = run(
        pytester,
        """
runs = []

def test_it(ocp):
    ocp.faults.add(operation="getTaskInstance", reset=True)
    runs.append(ocp)
    assert len(runs) == 2
""",
        "--oceanmock-strict",
    )

    result.assert_outcomes(passed=1, errors=1)


@pytest.mark.parametrize("said", ["option", "ini", "fixture"])
def test_a_whole_suite_can_be_strict(pytester: pytest.Pytester, said: str) -> None:
    options = {"option": ["--oceanmock-strict"], "ini": ["-o", "oceanmock_strict=true"]}
    fixture = "{'strict': True}" if said == "fixture" else "{}"

    result = run(
        pytester,
        f"""
import httpx, pytest

@pytest.fixture(scope="session")
def oceanmock_options():
    return {fixture}

def test_it(ocp):
    httpx.get(f"{{ocp.url}}/nowhere")
""",
        *options.get(said, []),
    )

    result.assert_outcomes(passed=1, errors=1)
