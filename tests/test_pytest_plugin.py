"""The plugin as its users meet it: fixtures, marks, options; each rule shown in a run of pytest."""

from __future__ import annotations

import pytest

from golden import assert_golden
from plugin_runs import QUIET, output, run, run_apart

SCENARIO = """
summary: One step
api: ocp
tasks:
  - {id: 7, name: Seven, subtasks: [one]}
"""


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


# --- the fixtures ---------------------------------------------------------------------------------


def test_each_test_has_a_sandbox_of_its_own_on_one_server(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import httpx, pytest

seen = []

@pytest.mark.parametrize("turn", range(3))
@pytest.mark.oceanmock("retry-failed-subtask", progression="manual")
def test_it(ocp, oceanmock_server, turn):
    assert len(ocp.journal) == 0
    ocp.task(1000).assert_status("RUNNING")

    ocp.clock.advance("10s")
    httpx.get(f"{ocp.url}/api/v2/tasks/instances/1000", auth=ocp.auth)

    ocp.task(1000).assert_status("FAILED")
    ocp.journal.assert_called("getTaskInstance", times=1)
    assert (ocp.name, oceanmock_server.url) not in seen
    assert not seen or seen[0][1] == oceanmock_server.url
    seen.append((ocp.name, oceanmock_server.url))
""",
    )

    result.assert_outcomes(passed=3)


def test_a_test_may_have_a_sandbox_of_each_api(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import pytest

@pytest.mark.oceanmock("retry-failed-subtask", "initialize-cluster-fails", progression="manual")
def test_it(ocp, obshell):
    assert ocp.clock.progression == obshell.clock.progression == "manual"
    assert [task.id for task in ocp.tasks()] == [1000]
    assert [dag.id for dag in obshell.dags()] == [obshell.dag(4).id]
    assert ocp.url != obshell.url
""",
    )

    result.assert_outcomes(passed=1)


def test_without_a_mark_there_is_nothing_in_a_sandbox(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_it(ocp):
    assert ocp.tasks() == []
    assert ocp.clock.progression == "polls"
    assert ocp.task("Install agent", ["Prepare", "Install"]).status == "RUNNING"
""",
    )

    result.assert_outcomes(passed=1)


def test_a_unittest_class_finds_its_sandbox_as_an_attribute(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import unittest, pytest

@pytest.mark.usefixtures("ocp", "obshell")
@pytest.mark.oceanmock("retry-failed-subtask", progression="manual")
class RetryTest(unittest.TestCase):
    def setUp(self):
        self.ocp.clock.advance("10s")

    def test_failed(self):
        self.ocp.task(1000).assert_status("FAILED")

    @pytest.mark.oceanmock(progression="immediate")
    def test_once_more(self):
        assert self.ocp.clock.progression == "immediate"
        assert self.obshell.dags() == []
        assert self.obshell.name.startswith("test-once-more-")

class AsyncTest(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def lent(self, ocp):
        self.mock = ocp

    async def test_it(self):
        assert self.mock.tasks() == []
""",
    )

    result.assert_outcomes(passed=3)


def test_a_suite_may_bring_a_server_of_its_own(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import pytest
from oceanmock import Mock

@pytest.fixture(scope="module")
def oceanmock_server():
    with Mock.start(host="127.0.0.4") as mock:
        yield mock

@pytest.mark.oceanmock("retry-failed-subtask")
def test_it(ocp):
    assert ocp.host == "127.0.0.4"
    ocp.task(1000).assert_status("FAILED")
""",
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*oceanmock task 1000*"])


def test_a_test_may_close_its_sandbox_itself(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_passes(ocp):
    ocp.close()

def test_fails(ocp):
    ocp.close()
    assert False
""",
        *("--oceanmock-strict", "--oceanmock-coverage-min=0"),
    )

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*oceanmock*")


def test_fixtures_say_what_they_are(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--fixtures", "-q")

    text = output(result).partition("oceanmock.pytest_plugin")[2].partition("\n------")[0]
    assert_golden("plugin-fixtures.txt", text.lstrip(" -\n") + "\n")


def test_the_mark_says_what_it_takes(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--markers", "-q")

    text = next(line for line in output(result).splitlines() if "mark.oceanmock" in line)
    assert_golden("plugin-marker.txt", text + "\n")


# --- the mark -------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [".", "deep"])
def test_a_scenario_is_a_name_a_file_beside_the_test_or_a_mapping_wherever_pytest_runs(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    pytester.makeini("[pytest]")
    pytester.mkdir("deep").joinpath("seven.yaml").write_text(SCENARIO)
    pytester.path.joinpath("from-the-root.yaml").write_text(SCENARIO.replace("7", "8"))
    text = """
from pathlib import Path
import pytest

@pytest.mark.oceanmock("rollback", "seven.yaml", Path("from-the-root.yaml"))
@pytest.mark.oceanmock({"summary": "s", "api": "ocp", "tasks": [{"id": 9, "subtasks": ["a"]}]})
def test_mark(ocp):
    assert {task.id for task in ocp.tasks()} > {7, 8, 9}

def test_load(ocp):
    assert [task.id for task in ocp.load("seven.yaml", "from-the-root.yaml").tasks()] == [7, 8]
"""
    pytester.path.joinpath("deep/test_deep.py").write_text(text)
    monkeypatch.chdir(pytester.path / folder)

    result = pytester.runpytest_inprocess(*QUIET)

    result.assert_outcomes(passed=2)


def test_names_on_a_test_replace_those_of_its_class_and_each_keyword_only_itself(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import pytest

pytestmark = pytest.mark.oceanmock("fails-twice", progression="manual", seed=7)

def test_of_the_module(ocp):
    assert (ocp.json()["tasks"], ocp.clock.progression, ocp.seed) == (1, "manual", 7)

@pytest.mark.oceanmock("retry-failed-subtask", seed=8)
class TestClass:
    def test_of_the_class(self, ocp):
        assert [task.id for task in ocp.tasks()] == [1000]
        assert (ocp.clock.progression, ocp.seed) == ("manual", 8)

    @pytest.mark.oceanmock(progression="immediate")
    def test_keyword(self, ocp):
        assert [task.id for task in ocp.tasks()] == [1000]
        assert (ocp.clock.progression, ocp.seed) == ("immediate", 8)

    @pytest.mark.oceanmock("rollback")
    def test_name(self, ocp):
        assert 1000 not in [task.id for task in ocp.tasks()]

    @pytest.mark.oceanmock("rollback")
    @pytest.mark.oceanmock("retry-failed-subtask")
    def test_names_on_one_level_add_up(self, ocp):
        assert len(ocp.tasks()) == 2

    @pytest.mark.oceanmock("initialize-cluster-fails")
    def test_names_of_the_other_api_replace_nothing(self, ocp, obshell):
        assert [task.id for task in ocp.tasks()] == [1000]
        assert len(obshell.dags()) == 1

    def test_that_needs_none_is_left_alone(self):
        pass
""",
    )

    result.assert_outcomes(passed=7)


def test_keywords_go_with_the_names_beside_them(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import pytest

@pytest.mark.oceanmock("retry-failed-subtask", switches={"subtask_pairing": "checked"})
@pytest.mark.oceanmock("initialize-cluster-fails", switches={"obshell_version": "4.3.0.0"}, seed=3)
def test_it(ocp, obshell):
    assert (ocp.seed, obshell.seed) == (0, 3)
""",
    )

    result.assert_outcomes(passed=1)


def test_a_parameter_may_bring_its_scenario(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import pytest

SCENARIOS = ["retry-failed-subtask", "fails-twice", "never-succeeds"]

@pytest.mark.oceanmock(progression="immediate")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.oceanmock(name)) for name in SCENARIOS]
)
def test_it(ocp, name):
    assert len(ocp.tasks()) == 1
    assert ocp.clock.progression == "immediate"
""",
    )

    result.assert_outcomes(passed=3)


def test_what_is_wrong_with_a_mark_is_said_at_once_and_in_plain_words(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("wrong.yaml").write_text(SCENARIO.replace("subtasks", "subtask"))

    result = run(
        pytester,
        """
import pytest

@pytest.mark.oceanmock("retry-faild-subtask", "wrong.yaml", progresion="manual")
def test_three_mistakes(ocp): ...

@pytest.mark.oceanmock("gone.yaml", progression="manul")
def test_two(ocp): ...

@pytest.mark.oceanmock({"api": "opc"})
@pytest.mark.oceanmock(1)
@pytest.mark.oceanmock()
def test_three_marks(ocp): ...

@pytest.mark.oceanmock({"summary": "s", "api": "ocp", "tasks": [{"subtasks": [{"attempt": []}]}]})
def test_wrong_mapping(ocp): ...

@pytest.mark.oceanmock("retry-failed-subtask", speed=-1)
def test_wrong_value(ocp): ...

@pytest.mark.oceanmock(strict="no")
def test_wrong_type(ocp): ...

@pytest.mark.oceanmock(switches=7)
def test_wrong_switches(ocp): ...

@pytest.mark.oceanmock(seed={7})
def test_no_json(ocp): ...

@pytest.mark.oceanmock(starts_at=7)
def test_wrong_start(ocp): ...

@pytest.mark.oceanmock("retry-failed-subtask")
def test_no_fixture(): ...

@pytest.mark.oceanmock("initialize-cluster-fails")
def test_other_fixture(ocp): ...

@pytest.mark.oceanmock("initialize-cluster-fails")
def test_other_fixture_and_failure(ocp):
    assert False
""",
    )

    result.assert_outcomes(errors=9, failed=2, passed=1)
    assert_golden("plugin-wrong-marks.txt", output(result))


def test_a_fixture_that_is_asked_for_later_counts_as_used(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import pytest

@pytest.fixture
def mock(request):
    return request.getfixturevalue("ocp")

@pytest.mark.oceanmock("retry-failed-subtask")
def test_by_a_fixture(mock):
    assert mock.tasks()

@pytest.fixture
def mock_later(request):
    return lambda: request.getfixturevalue("ocp")

@pytest.mark.oceanmock("retry-failed-subtask")
def test_by_itself(request):
    assert request.getfixturevalue("ocp").tasks()

@pytest.mark.oceanmock("retry-failed-subtask")
def test_by_a_function(mock_later):
    assert mock_later().tasks()

@pytest.mark.oceanmock("retry-failed-subtask", "initialize-cluster-fails")
def test_beside_another(obshell, mock_later):
    assert mock_later().tasks() and obshell.dags()
""",
    )

    result.assert_outcomes(passed=4)


def test_a_parameter_of_the_fixture_replaces_the_scenarios_of_marks(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("seven.yaml").write_text(SCENARIO)

    result = run(
        pytester,
        """
import pytest

@pytest.mark.oceanmock("fails-twice", seed=7)
@pytest.mark.parametrize(
    ("ocp", "ids"), [("seven.yaml", {7}), (["seven.yaml", "retry-failed-subtask"], {7, 1000})], indirect=["ocp"]
)
def test_it(ocp, ids):
    assert {task.id for task in ocp.tasks()} == ids
    assert ocp.seed == 7
""",
    )

    result.assert_outcomes(passed=2)


# --- beside what a suite has ----------------------------------------------------------------------


def test_a_suite_s_own_fixtures_and_marks_of_these_names_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers = scenario(name): theirs")
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef ocp(): return 'theirs'")

    result = run(
        pytester,
        """
import pytest

@pytest.mark.scenario("login flow")
def test_without_a_fixture(): ...

@pytest.mark.oceanmock("login flow", 5, sped=2)
@pytest.mark.scenario("login flow")
def test_their_fixture(ocp):
    assert ocp == "theirs"

@pytest.mark.oceanmock("retry-failed-subtask", "initialize-cluster-fails")
def test_their_fixture_beside_ours(ocp, obshell):
    assert (ocp, len(obshell.dags())) == ("theirs", 1)
""",
        "--strict-markers",
    )

    result.assert_outcomes(passed=3)


def test_a_module_or_a_session_shares_a_sandbox_under_the_name_of_a_fixture(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
import pytest

@pytest.fixture(scope="module")
def ocp(oceanmock_server):
    with oceanmock_server.ocp("retry-failed-subtask", progression="manual") as ocp:
        yield ocp

@pytest.fixture(scope="session")
def obshell(oceanmock_server):
    with oceanmock_server.obshell("initialize-cluster-fails", progression="manual") as obshell:
        yield obshell

def test_first(ocp, obshell):
    ocp.clock.advance("5s")
    obshell.clock.advance("1m")

def test_second(ocp, obshell):
    ocp.task(1000).assert_status("FAILED")
    obshell.dag(4).assert_state("FAILED")
""",
    )

    result.assert_outcomes(passed=2)


def test_a_plan_of_the_setup_makes_no_sandbox(pytester: pytest.Pytester) -> None:
    text = "import pytest\n@pytest.mark.oceanmock('retry-failed-subtask')\ndef test_it(ocp): ..."

    result = run(pytester, text, "--setup-plan")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*SETUP    F ocp*"])


@pytest.mark.slow
def test_a_test_that_hides_the_files_of_the_machine_may_be_the_first(pytester: pytest.Pytester) -> None:
    result = run_apart(
        pytester,
        """
import httpx, pytest

def test_it(fs, ocp, obshell):
    ocp.load("retry-failed-subtask")
    obshell.load("initialize-cluster-fails")
    ocp.faults.add(status=503)
    with httpx.Client(verify=False, trust_env=False) as client:
        task = f"{ocp.url}/api/v2/tasks/instances/1000"
        assert [client.get(task, auth=ocp.auth).status_code for _ in range(2)] == [503, 503]
    assert "RUNNING" in ocp.task(1000).explain()
    assert obshell.dag(4).timeline()
    assert obshell.auth is not None
""",
        *("-p", "pyfakefs.pytest_plugin"),
    )

    result.assert_outcomes(passed=1)


# --- options --------------------------------------------------------------------------------------


def test_the_options_fixture_says_what_no_mark_says(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
import pytest

@pytest.fixture(scope="session")
def oceanmock_options():
    return {"progression": "manual", "seed": 5}

@pytest.fixture(scope="session")
def oceanmock_host():
    return "127.0.0.2"
"""
    )
    result = run(
        pytester,
        """
import pytest

def test_options(ocp, obshell):
    assert (ocp.clock.progression, obshell.clock.progression) == ("manual", "manual")
    assert ocp.seed == 5
    assert ocp.host == "127.0.0.2"

@pytest.mark.oceanmock(progression="polls")
def test_mark(ocp):
    assert (ocp.clock.progression, ocp.seed) == ("polls", 5)
""",
    )

    result.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"sped": 3}, ["*oceanmock_options: there is no keyword `sped`", "*Did you mean 'speed'?"]),
        (None, ["the fixture oceanmock_options gives None, and no mapping."]),
    ],
)
def test_what_is_wrong_with_the_options_is_told(pytester: pytest.Pytester, said: object, told: list[str]) -> None:
    result = run(
        pytester,
        f"""
import pytest

@pytest.fixture(scope="session")
def oceanmock_options():
    return {said!r}

def test_it(ocp): ...
""",
    )

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(told)


def test_the_ini_file_says_where_the_server_listens(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\noceanmock_host = 127.0.0.3\n")

    result = run(pytester, "def test_it(ocp): assert ocp.host == '127.0.0.3'")

    result.assert_outcomes(passed=1)


def test_a_suite_that_uses_no_fixture_imports_nothing_of_it(pytester: pytest.Pytester) -> None:
    result = run_apart(
        pytester,
        """
import sys

def test_it():
    plugin = {"oceanmock.pytest_plugin"}
    assert {name for name in sys.modules if name.startswith("oceanmock.")} == plugin
    assert not {"connexion", "uvicorn", "httpx", "ssl"} & {*sys.modules}
""",
    )

    result.assert_outcomes(passed=1)


# --- pytest-socket --------------------------------------------------------------------------------

ASKS = """
import httpx

def test_it(ocp):
    task = ocp.task("Install", ["Prepare"])
    url = f"{ocp.url}/api/v2/tasks/instances/{task.id}"
    assert httpx.get(url, auth=ocp.auth).status_code == 200
    task.until("SUCCESSFUL")
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--disable-socket"], ["--allow-hosts=10.0.0.1"]])
def test_blocked_sockets_are_reported_with_the_option_that_allows_them(
    pytester: pytest.Pytester, options: list[str]
) -> None:
    result = run_apart(pytester, ASKS, "-p", "pytest_socket", *options)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "pytest-socket blocks connections to 127.0.0.1, where oceanmock listens. "
            "Run pytest with --allow-hosts=127.0.0.1."
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--disable-socket"]])
def test_allowing_the_loopback_host_is_enough(pytester: pytest.Pytester, options: list[str]) -> None:
    result = run_apart(pytester, ASKS, "-p", "pytest_socket", *options, "--allow-hosts=127.0.0.1")

    result.assert_outcomes(passed=1)
