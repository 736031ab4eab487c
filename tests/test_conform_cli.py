"""The command `oceanmock conform`, as its user meets it: words, secrets, files, exit codes."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from click.testing import Result as Ended

from conform_results import a_clean_result, a_finding, a_result
from golden import assert_golden
from kit_world import World
from oceanmock.cli import conform as cli_conform
from oceanmock.cli import conform_options, main
from oceanmock.conformance import MAX_REQUESTS, MAX_TIME, NEEDS, MissingResponse, Options, PhaseStarted, Result
from oceanmock.conformance.baseline import load_baseline
from oceanmock.conformance.reports.files import write_report
from oceanmock.conformance.target import Untestable
from oceanmock.credentials import AccessKey, Basic, Sealed
from oceanmock.http.server import Server
from oceanmock.observations import Target

URL = "http://127.0.0.1:8080"
OCP = (URL, "--api", "ocp", "--user", "manager", "--password", "s3cret")
MISSING = [MissingResponse("retryTask", 200, "Name a FAILED task.")]
OBSHELL = (URL, "--api", "obshell", "--password", "s3cret")


def oceanmock(*words: str | Path, **env: str) -> Ended:
    nothing = {f"OCEANMOCK_{name.upper()}": None for name in conform_options.SECRETS}
    nothing["GITHUB_STEP_SUMMARY"] = None
    return CliRunner().invoke(
        main, ["conform", *map(str, words)], prog_name="oceanmock", env={**nothing, "COLUMNS": "100", **env}
    )


@dataclass
class Stage:
    """Stands in for what reaches a target and runs: remembers what was asked, gives what is set."""

    result: Result = field(default_factory=a_clean_result)
    version: str = "4.2.2"
    url: str = URL
    reached: list[dict[str, Any]] = field(default_factory=list)
    ran: list[tuple[Options, Result]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    mocked: list[tuple[str, Sequence[str]]] = field(default_factory=list)
    problem: BaseException | None = None

    def reach(self, url: str, **said: Any) -> Target:
        if self.problem is not None:
            raise self.problem
        self.reached.append({"url": url, **said})
        return Target(self.url, said["api"], said["auth"], version=self.version)

    def conform(self, target: Target, options: Options, *, listen: Any) -> Result:
        self.targets.append(target)
        return self._run(replace(self.result, api=target.api), options, listen)

    def conform_mock(self, api: Any, names: Sequence[str], options: Options, *, listen: Any) -> Result:
        self.mocked.append((api, list(names)))
        return self._run(replace(self.result, api=api), options, listen)

    def _run(self, result: Result, options: Options, listen: Any) -> Result:
        self.ran.append((options, result))
        listen(PhaseStarted("probes"))
        return result

    @property
    def auth(self) -> Any:
        return self.reached[0]["auth"]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()
    for name in ("run", "mock"):
        room = SimpleNamespace(conform=stage.conform, conform_mock=stage.conform_mock)
        monkeypatch.setitem(sys.modules, f"oceanmock.conformance.{name}", room)
    monkeypatch.setattr("oceanmock.conformance.target.reach", stage.reach)
    return stage


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_conform, "is_interactive", lambda: True)


# --- words ----------------------------------------------------------------------------------------


def test_the_help_says_how_to_begin_and_what_the_exit_codes_mean() -> None:
    assert_golden("conform-help.txt", oceanmock("--help").output)


WRONG = (
    "",
    "retry-failed-subtask",
    f"{URL} {URL} --api ocp --user a",
    URL,
    "ftp://host --api ocp --user a",
    "http:// --api ocp --user a",
    "http://[::1 --api ocp --user a",
    "http://manager:s3cret@127.0.0.1:8080 --api ocp",
    "ftp://manager:s3cret@127.0.0.1:8080 --api ocp",
    f"{URL} --api ocp",
    f"{URL} --api ocp --user a --access-key b",
    f"{URL} --api ocp --user a --agent-password s3cret",
    f"{URL} --api ocp --user a",
    f"{URL} --api ocp --access-key a",
    f"{URL} --api ocp --user a --password s3cret --read-only-user b",
    f"{URL} --api obshell --read-only-user b",
    f"{URL} --api obshell",
    f"{URL} --api obshell --user a",
    f"{URL} --api ocp --user a --task 7",
    f"{URL} --api ocp --user a --story-id 1=2",
    f"{URL} --api ocp --user a --story retry-failed-subtask --story-id 1",
    f"{URL} --api ocp --user a --insecure --ca /etc/hostname",
    f"{URL} --api ocp --user a --phases probe,fuzzing",
    f"{URL} --api ocp --user a --connect-timeout 5",
    f"{URL} --api ocp --user a --report htm=a.html",
    f"{URL} --api ocp --user a --require transition",
    f"{URL} --api ocp --user a --password s3cret --include getTaskInstances",
    f"{URL} --api ocp --user a --password s3cret --exclude time.formats",
    f"{URL} --api ocp --user a --require transitions=many",
    f"{URL} --api ocp --user a --report html",
    f"{URL} --api ocp --user a --report html=a,json=./a",
    f"{URL} --api ocp --user a --password s3cret --baseline obshell",
    f"{URL} --api ocp --user a --password s3cret --baseline obshell-4.5.0.0",
    f"{URL} --api ocp --user a --baseline none --baseline a.yaml",
    f"{URL} --api ocp --user a --update-baseline",
    f"{URL} --api ocp --user a --password s3cret --story no-such-story",
    f"{URL} --api ocp --user a --password s3cret --story initialize-cluster-fails",
    f"{URL} --api ocp --user a --password s3cret --story retry-failed-subtask",
    f"--mock {URL}",
    "--mock --user a",
    "--mock --read-only-password s3cret",
    "--mock --write",
    "--mock --story retry-failed-subtask",
    "--mock --update-baseline --baseline a.yaml",
    "--mock retry-failed-subtsk",
    "--mock --api obshell retry-failed-subtask",
)


def test_words_that_do_not_go_together_are_refused_before_anything_is_sent(stage: Stage) -> None:
    results = {words: oceanmock(*shlex.split(words)) for words in WRONG}

    assert {result.exit_code for result in results.values()} == {2}
    assert stage.ran == []
    answers = {words: _without_usage(result.output) for words, result in results.items()}
    assert not any("s3cret" in answer for answer in answers.values())
    told = "\n".join(f"$ oceanmock conform {words}\n{text}" for words, text in answers.items())
    assert_golden("conform-wrong-words.txt", told)


def _without_usage(text: str) -> str:
    lines = text.splitlines()
    return "".join(f"{line}\n" for line in lines if not line.startswith(("Usage:", "Try ")))


@pytest.mark.parametrize("name", NEEDS)
def test_without_the_extra_it_says_how_to_install_it(name: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)

    result = oceanmock("--mock")

    assert result.exit_code == 2
    assert f"needs {name}" in result.output
    assert 'pip install "oceanmock[conform]"' in result.output
    assert stage.ran == []


def test_what_is_said_reaches_the_run(stage: Stage) -> None:
    words = "--seed 7 --rate 2.5 --max-examples 3 --timeout 2m --phases probes,machine"

    result = oceanmock(*OCP, "--write", "--task", "1", "--task", "2", *words.split())

    options, _ = stage.ran[0]
    assert result.exit_code == 0
    assert (options.write, options.tasks) == (True, ("1", "2"))
    assert (options.seed, options.rate, options.max_examples) == (7, 2.5, 3)
    assert options.timeout == 120_000_000_000
    assert options.phases == {"probes", "machine"}


def test_by_default_nothing_is_changed(stage: Stage) -> None:
    oceanmock(*OCP)

    assert stage.ran[0][0] == Options(max_requests=MAX_REQUESTS, max_time=MAX_TIME)


@pytest.mark.parametrize(
    ("words", "verify"), [((), True), (("--insecure",), False), (("--ca", "/etc/hostname"), "/etc/hostname")]
)
def test_certificates_are_taken_as_it_is_said(words: tuple[str, ...], verify: bool | str, stage: Stage) -> None:
    oceanmock(*OCP, "--connect-timeout", "1m30s", *words)

    assert stage.reached[0]["verify"] == verify
    assert stage.reached[0]["wait"] == 90.0


def test_a_story_is_handed_over_with_its_name(stage: Stage) -> None:
    stage.result = a_clean_result(missing=MISSING)
    words = ("--write", "--task", "7", "--story", "retry-failed-subtask", "--story-id", "1000=7")

    result = oceanmock(*OCP, *words)

    options, _ = stage.ran[0]
    assert [story.name for story in options.stories] == ["retry-failed-subtask"]
    assert options.stories[0].story
    assert options.story_ids == (("1000", "7"),)
    assert options.phases == frozenset()
    assert result.exit_code == 0, "a story claims to check nothing but itself"
    assert "--task 7 --story retry-failed-subtask --story-id 1000=7 --seed 0" in result.stdout


def test_a_story_is_one_more_phase_where_phases_are_named(stage: Stage) -> None:
    stage.result = a_clean_result(missing=MISSING)
    words = ("--write", "--task", "7", "--story", "retry-failed-subtask", "--phases", "probes")

    result = oceanmock(*OCP, *words)

    assert stage.ran[0][0].phases == {"probes"}
    assert result.exit_code == 3


# --- secrets --------------------------------------------------------------------------------------


def test_passwords_come_by_option_or_by_the_environment(stage: Stage) -> None:
    who = (URL, "--api", "ocp", "--user", "manager")
    key = (URL, "--api", "ocp", "--access-key", "mine")
    obshell = (URL, "--api", "obshell")

    oceanmock(*who, "--password", "s3cret")
    oceanmock(*who, OCEANMOCK_PASSWORD="s3cret")
    oceanmock(*key, "--secret-key", "s3cret")
    oceanmock(*key, OCEANMOCK_SECRET_KEY="s3cret")
    oceanmock(*obshell, "--password", "")
    oceanmock(*obshell, OCEANMOCK_PASSWORD="s3cret", OCEANMOCK_AGENT_PASSWORD="4gent")
    oceanmock(*obshell, "--agent-password", "4gent")

    auths = [each["auth"] for each in stage.reached]
    assert auths[:2] == [Basic("manager", "s3cret")] * 2
    assert auths[2:4] == [AccessKey("mine", "s3cret")] * 2
    assert all(isinstance(each, Sealed) for each in auths[4:])
    assert len(auths) == 7


def test_the_environment_of_one_api_does_not_disturb_another(stage: Stage) -> None:
    secrets = {"OCEANMOCK_PASSWORD": "s3cret", "OCEANMOCK_AGENT_PASSWORD": "4gent"}

    ended = [oceanmock(*OCP, **secrets), oceanmock("--mock", **secrets)]

    assert [each.exit_code for each in ended] == [0, 0]


def test_somebody_who_may_only_look_is_handed_over(stage: Stage) -> None:
    result = oceanmock(*OCP, "--read-only-user", "looker", OCEANMOCK_READ_ONLY_PASSWORD="v1ewer")

    assert stage.targets[0].read_only_auth == Basic("looker", "v1ewer")
    assert "--user manager --read-only-user looker --seed 0" in result.stdout
    assert "v1ewer" not in result.output


@pytest.mark.usefixtures("at_a_terminal")
def test_a_password_that_was_left_out_is_asked_for_and_not_shown(stage: Stage) -> None:
    words = ["conform", URL, "--api", "ocp", "--user", "manager"]

    result = CliRunner().invoke(main, words, input="s3cret\n", env={"OCEANMOCK_PASSWORD": None})

    assert stage.auth == Basic("manager", "s3cret")
    assert "The password of manager: " in result.stderr
    assert "s3cret" not in result.output


@pytest.mark.parametrize(
    "words",
    [
        OCP,
        (URL, "--api", "ocp", "--access-key", "mine", "--secret-key", "s3cret"),
        (*OBSHELL, "--agent-password", "s3cret"),
    ],
)
def test_no_secret_is_in_what_is_printed_or_reported(words: tuple[str, ...], stage: Stage, tmp_path: Path) -> None:
    stage.result = a_result()
    paths = [tmp_path / kind for kind in conform_options.REPORT_KINDS]
    reports = [f"--report={path.name}={path}" for path in paths]

    result = oceanmock(*words, *reports)

    assert result.exit_code == 1
    texts = [result.output, *(path.read_text() for path in paths)]
    assert not any("s3cret" in text for text in texts)
    assert all(f"oceanmock conform {URL} --api" in text for text in texts)


def test_the_command_to_repeat_it_is_the_same_command(stage: Stage, tmp_path: Path) -> None:
    baseline = tmp_path / "my lab.yaml"
    baseline.write_text("api: ocp\nknown: []\n")
    said = (
        f"--api ocp --user manager --write --task 1 --task 2 --phases probes,machine --seed 7 "
        f"--max-examples 3 --rate 2.5 --timeout 1m30s --baseline '{baseline}' --insecure"
    )

    first = oceanmock(URL, *shlex.split(said), "--password", "s3cret")
    again = next(line[8:] for line in first.output.splitlines() if line.startswith("repeat"))
    oceanmock(*shlex.split(again)[2:], OCEANMOCK_PASSWORD="s3cret")

    assert again == f"oceanmock conform {URL} {said}"
    assert stage.ran[0][0] == stage.ran[1][0]


# --- exit codes and files -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (a_clean_result(), 0),
        (a_result(), 1),
        (a_clean_result(missing=MISSING), 3),
        (a_clean_result(interrupted=True, missing=MISSING), 130),
    ],
)
def test_the_exit_code_is_the_verdict(result: Result, code: int, stage: Stage, tmp_path: Path) -> None:
    stage.result = result
    path = tmp_path / "deep" / "run.json"

    ended = oceanmock(*OCP, "--report", f"json={path}")

    assert ended.exit_code == code
    assert f"(exit code {code})" in ended.stdout
    assert f"json report: {path}\n" in ended.stdout
    assert json.loads(path.read_text())["exit_code"] == code


@pytest.mark.parametrize(
    ("words", "shortfalls"),
    [
        ("--require transitions=2 --min-operations 3", []),
        ("--require transitions", []),
        ("--require transitions=4", ["transitions: 3 observed, 4 required"]),
        ("--min-operations 4", ["operations: 3 observed, 4 required"]),
        ("--require operations=4", ["operations: 3 observed, 4 required"]),
    ],
)
def test_a_threshold_that_is_not_met_makes_a_run_incomplete(words: str, shortfalls: list[str], stage: Stage) -> None:
    ended = oceanmock(*OCP, *words.split())

    assert ended.exit_code == (3 if shortfalls else 0)
    assert [line for line in ended.stdout.splitlines() if line.endswith("required")] == shortfalls
    assert "3 of 4 operations, 3 of 12 transitions" in ended.stdout


def test_a_run_that_enough_findings_ended_has_failed(stage: Stage) -> None:
    stage.result = a_result(interrupted=True, stopped="--max-failures 2")

    ended = oceanmock(*OCP, "--max-failures", "2")

    assert ended.exit_code == 1
    assert "not observed" not in ended.stdout


def test_what_cannot_be_tested_is_one_sentence_and_exit_code_2(stage: Stage) -> None:
    stage.problem = Untestable(f"nobody answers at {URL}: connection refused.")

    result = oceanmock(*OCP)

    assert result.exit_code == 2
    assert result.stderr == f"Error: nobody answers at {URL}: connection refused.\n"
    assert result.stdout == ""


def test_a_mistake_of_our_own_does_not_look_like_a_finding(stage: Stage) -> None:
    stage.problem = RuntimeError("it fell over")

    result = oceanmock(*OCP)

    assert result.exit_code == 2
    assert "RuntimeError: it fell over" in result.stderr
    assert "a defect in oceanmock, not in the server" in result.stderr


def test_ctrl_c_before_the_run_leaves_nothing(stage: Stage, tmp_path: Path) -> None:
    stage.problem = KeyboardInterrupt()

    result = oceanmock(*OCP, "--report", f"html={tmp_path / 'run.html'}")

    assert result.exit_code == 130
    assert "Interrupted before the run had any results." in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("at_a_terminal")
def test_ctrl_c_where_a_password_is_asked_for_is_no_finding(stage: Stage) -> None:
    words = ["conform", URL, "--api", "ocp", "--user", "manager"]

    result = CliRunner().invoke(main, words, input="", env={"OCEANMOCK_PASSWORD": None})

    assert result.exit_code == 130
    assert stage.reached == []


def test_a_report_that_cannot_be_written_is_told_before_the_run(stage: Stage) -> None:
    result = oceanmock(*OCP, "--report", "html=/proc/no/run.html")

    assert result.exit_code == 2
    assert "the report cannot be written to /proc/no/run.html" in result.stderr
    assert stage.reached == []


def test_what_was_found_is_not_lost_where_a_disk_is_full(stage: Stage, tmp_path: Path) -> None:
    stage.result = a_result()
    path = tmp_path / "run.json"

    result = oceanmock(*OCP, "--report", f"html=/dev/full,json={path}")

    assert result.exit_code == 2
    assert "the report cannot be written to /dev/full: No space left on device" in result.stderr
    assert "FAILED (exit code 1)" in result.stdout
    assert result.stdout.endswith(f"json report: {path}\n")
    assert json.loads(path.read_text())["verdict"] == "FAILED"


def test_progress_and_summary_go_their_own_ways(stage: Stage) -> None:
    result = oceanmock(*OCP)

    assert result.stderr.startswith("probes: 0 requests, 0 findings in ")
    assert result.stdout.startswith("OCP 4.2.2 at http://127.0.0.1:8080")


# --- operations and rules, and a file of options --------------------------------------------------


@pytest.mark.parametrize(
    ("words", "rules", "missing"),
    [
        ("", ["envelope.status", "hostile.500"], ["rollbackTask", "retryTask"]),
        ("--include getTask*", ["envelope.status", "hostile.500"], []),
        ("--include hostile.* --include retryTask", [], ["retryTask"]),
        ("--include hostile.*", ["hostile.500"], ["rollbackTask", "retryTask"]),
        ("--exclude hostile.* --exclude rollbackTask", ["envelope.status"], ["retryTask"]),
        ("--exclude getTaskInstance", [], ["rollbackTask", "retryTask"]),
    ],
)
def test_operations_and_rules_are_chosen_by_patterns(
    words: str, rules: list[str], missing: list[str], stage: Stage, tmp_path: Path
) -> None:
    stage.result, path = a_result(stories={}, known=[]), tmp_path / "run.json"

    oceanmock(*OCP, *words.split(), "--report", f"json={path}")

    run = json.loads(path.read_text())["runs"][0]
    assert [item["rule"] for item in run["findings"]] == rules
    assert [item["operation"] for item in run["missing"]] == missing


def test_excluded_operations_are_not_requested(stage: Stage) -> None:
    oceanmock(*OCP, "--exclude", "get*", "--exclude", "hostile.*")

    assert stage.ran[0][0].excluded == {"getTaskInstance", "getSubtaskLog"}


@pytest.mark.parametrize(
    ("name", "head"), [("oceanmock.toml", "[conform]"), ("pyproject.toml", "[tool.oceanmock.conform]")]
)
def test_a_file_has_the_defaults_of_options(
    name: str, head: str, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_text(
        f"{head}\napi = 'ocp'\nuser = 'manager'\nseed = 3\nphases = ['probes', 'fuzzing']\nmax-failures = 2\n"
        "min_operations = 9\nreport = ['json=a.json', 'junit=b.xml']\ntimeout = '2m'\ninsecure = true\n"
    )
    monkeypatch.chdir(tmp_path)

    ended = oceanmock(URL, "--seed", "4", OCEANMOCK_PASSWORD="s3cret")

    options = stage.ran[0][0]
    assert ended.exit_code == 3
    assert (options.seed, options.timeout) == (4, 120_000_000_000)
    assert options.phases == {"probes", "fuzzing"}
    assert {path.name for path in tmp_path.iterdir()} == {name, "a.json", "b.xml"}
    assert f"conform {URL} --api ocp --user manager --phases probes,fuzzing --seed 4 --timeout 2m" in ended.stdout
    assert oceanmock("--mock").exit_code == 3


def test_a_single_value_of_a_list_and_a_number_for_a_flag_are_taken(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "oceanmock.toml").write_text(
        "[conform]\nexclude = 'getSubtaskLog'\nreport = 'json=a.json'\nwrite = 1\n"
    )
    monkeypatch.chdir(tmp_path)

    oceanmock(*OCP, "--task", "7")

    options = stage.ran[0][0]
    assert options.excluded == {"getSubtaskLog"}
    assert options.write
    assert (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[conform]\nfrom = 2", "--from needs a story: give --story."),
        ("[conform]\nsed = 1", "oceanmock.toml: conform has no option 'sed'."),
        ("[confrom]\nseed = 1", "oceanmock.toml: 'confrom' is no command."),
        ("[conform]\npassword = 's3cret'", "oceanmock.toml: password is a secret: give it in the environment instead."),
        ("[conform]\nseed = 'x'", "Invalid value for '--seed'"),
        ("[conform", "oceanmock.toml cannot be read"),
        ("conform = 3", "oceanmock.toml: 'conform' is no command."),
    ],
)
def test_a_mistake_in_the_file_of_options_is_named(
    text: str, message: str, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "oceanmock.toml").write_text(text)
    monkeypatch.chdir(tmp_path)

    ended = oceanmock(*OCP)

    assert ended.exit_code == 2
    assert message in ended.stderr
    assert "s3cret" not in ended.output
    assert stage.ran == []


# --- in a workflow, and between two runs ----------------------------------------------------------


def test_a_workflow_gets_an_annotation_per_cause_and_a_summary(stage: Stage, tmp_path: Path) -> None:
    evil = a_finding("kept.changed", path="$.a", message="::set-env name=A::%\nb | <b>`x`")
    stage.result = a_clean_result(findings=[a_finding(path=f"$.data[{n}]") for n in range(2)] + [evil])
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")

    ended = oceanmock(*OCP, "--format", "github", GITHUB_STEP_SUMMARY=str(summary))

    begin, *lines = ended.stdout.splitlines()
    end = lines.index(f"::{begin.removeprefix('::stop-commands::')}::")
    assert lines[end + 1 :] == [
        "::error title=envelope.status × 2::the envelope says 201, and the answer's status is 200%0A"
        "at getTaskInstance → 200 → $.data[*]%0Adocument: ocp.yaml, components/schemas/Envelope",
        "::error title=kept.changed::::set-env name=A::%25%0Ab | <b>`x`%0A"
        "at getTaskInstance → 200 → $.a%0Adocument: ocp.yaml, components/schemas/Envelope",
    ]
    assert_golden("conform-step-summary.md", summary.read_text())


def written(folder: Path, name: str, result: Result) -> Path:
    path = folder / name
    write_report("json", [result], path)
    return path


def compared(*paths: Path | str) -> Ended:
    return CliRunner().invoke(main, ["compare", *map(str, paths)])


def test_what_a_new_release_changed_is_shown(tmp_path: Path) -> None:
    moved = Counter({("task", "RUNNING/EXECUTE", "FAILED/EXECUTE"): 3})
    old = a_clean_result(
        findings=[a_finding(path="$.data[0]")], transitions=moved, latencies={"listTaskInstances": [10**8]}
    )
    statuses = {"listTaskInstances": Counter({200: 9, 429: 1}), "newTask": Counter({200: 1})}
    new = a_clean_result(
        version="4.3.0",
        findings=[a_finding(path="$.data[7]")],
        known=[a_finding("hostile.500", known="the gateway")],
        statuses=statuses,
        transitions=Counter(),
        latencies={"listTaskInstances": [10**9]},
    )

    paths = written(tmp_path, "a.json", old), written(tmp_path, "b.json", new)
    ended, as_json = compared(*paths), compared(*paths, "--json")

    assert ended.exit_code == as_json.exit_code == 1
    assert {"api": "ocp", "what": "version", "-": ["4.2.2"], "+": ["4.3.0"]} in json.loads(as_json.output)
    assert_golden("conform-compare.txt", ended.output)


def test_two_equal_runs_have_no_differences(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", a_result())

    ended = compared(path, path)

    assert (ended.exit_code, ended.output) == (0, "")


def test_only_reports_of_one_api_are_compared(tmp_path: Path) -> None:
    ocp = written(tmp_path, "a.json", a_clean_result())
    obshell = written(tmp_path, "b.json", a_clean_result(api="obshell"))
    other = tmp_path / "c.json"
    other.write_text('{"runs": []}')

    ends = [compared(ocp, obshell), compared(ocp, other), compared(ocp, tmp_path / "none.json")]

    assert [ended.exit_code for ended in ends] == [2, 2, 2]
    assert "have no run of the same API" in ends[0].output
    assert f"{other} is no JSON report of `oceanmock conform --report json=FILE`" in ends[1].output


# --- the mock -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        ((), [("ocp", []), ("obshell", [])]),
        (("--api", "obshell"), [("obshell", [])]),
        (("retry-failed-subtask",), [("ocp", ["retry-failed-subtask"])]),
        (
            ("initialize-cluster-fails", "retry-failed-subtask"),
            [("obshell", ["initialize-cluster-fails"]), ("ocp", ["retry-failed-subtask"])],
        ),
    ],
)
def test_the_mock_is_checked_for_each_api_that_is_meant(
    words: tuple[str, ...], runs: list[tuple[str, list[str]]], stage: Stage
) -> None:
    result = oceanmock("--mock", *words)

    assert result.exit_code == 0
    assert stage.mocked == runs
    assert f"repeat  {shlex.join(['oceanmock', 'conform', '--mock', *words])}" in result.output


def test_the_mocks_quirks_are_known(stage: Stage) -> None:
    oceanmock("--mock", "--api", "obshell")

    assert stage.ran[0][1].baselines == ["obshell-4.5.0.0"]


def test_an_interrupted_mock_stops_before_the_next_api(stage: Stage) -> None:
    stage.result = a_clean_result(interrupted=True)

    result = oceanmock("--mock")

    assert result.exit_code == 130
    assert [api for api, _ in stage.mocked] == ["ocp"]


# --- baselines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "words", "names"),
    [
        ("4.5.0.0-1", (), ["obshell-4.5.0.0"]),
        ("4.5.0.0-1", ("--baseline", "none"), []),
        ("4.6.0.0-1", (), []),
        ("4.6.0.0-1", ("--baseline", "obshell-4.5.0.0"), ["obshell-4.5.0.0"]),
    ],
)
def test_the_quirks_of_a_version_are_let_pass_unless_it_is_said_otherwise(
    version: str, words: tuple[str, ...], names: list[str], stage: Stage
) -> None:
    stage.version = version

    oceanmock(*OBSHELL, *words)

    assert stage.ran[0][1].baselines == names


def test_a_baseline_of_another_version_is_taken_and_said(stage: Stage) -> None:
    stage.version = "4.6.0.0-1"

    result = oceanmock(*OBSHELL, "--baseline", "obshell-4.5.0.0")

    assert "baseline obshell-4.5.0.0: for 4.5.0.0; the target is 4.6.0.0-1." in result.stderr


def test_where_no_baseline_comes_for_a_version_the_nearest_is_named(stage: Stage) -> None:
    stage.version = "4.3.1.0-1"

    result = oceanmock(*OBSHELL)

    assert "there is no baseline for obshell 4.3.1.0-1" in result.stderr
    assert "--baseline obshell-4.5.0.0." in result.stderr


def test_a_rule_that_is_none_is_said(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text("api: ocp\nknown:\n- {rule: envelope.statsu, operation: '*', reason: x}\n")

    result = oceanmock(*OCP, "--baseline", path)

    assert result.exit_code == 0
    assert (f"baseline {path}: there is no rule 'envelope.statsu'. Did you mean 'envelope.status'?\n") in result.stderr


def test_a_new_baseline_is_written_and_then_honoured(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    stage.result = a_clean_result(findings=[a_finding(), a_finding("hostile.500")])
    words = (*OCP, "--baseline", path)

    written = oceanmock(*words, "--update-baseline")
    again = oceanmock(*words)

    assert written.exit_code == 0
    assert f"baseline {path}: 2 entries added, 0 removed." in written.stderr
    assert again.exit_code == 0
    assert "2 known deviations, accepted by" in again.stdout
    known = load_baseline(path).known
    assert [each.rule for each in known] == ["envelope.status", "hostile.500"]


def test_an_update_keeps_reasons_and_takes_out_what_is_stale(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(
        "api: ocp\nknown:\n"
        "- {rule: envelope.status, operation: '*', reason: the gateway}\n"
        "- {rule: hostile.500, operation: getTaskInstance, reason: it was so}\n"
    )
    stage.result = a_clean_result(findings=[a_finding()])

    result = oceanmock(*OCP, "--baseline", path, "--update-baseline")

    assert f"baseline {path}: 0 entries added, 1 removed." in result.stderr
    assert [each.reason for each in load_baseline(path).known] == ["the gateway"]


def test_what_another_baseline_knows_is_not_written(stage: Stage, tmp_path: Path) -> None:
    theirs, mine = tmp_path / "theirs.yaml", tmp_path / "mine.yaml"
    theirs.write_text("api: ocp\nknown:\n- {rule: envelope.status, operation: '*', reason: x}\n")
    stage.result = a_clean_result(findings=[a_finding(), a_finding("hostile.500")])

    oceanmock(*OCP, "--baseline", theirs, "--baseline", mine, "--update-baseline")

    assert [each.rule for each in load_baseline(mine).known] == ["hostile.500"]


def test_an_update_calls_nothing_stale_that_was_left_out(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text("api: ocp\nknown:\n- {rule: envelope.status, operation: '*', reason: the gateway}\n")
    stage.result = a_clean_result(findings=[a_finding()])

    result = oceanmock(*OCP, "--baseline", path, "--update-baseline", "--exclude", "envelope.status")

    assert "stale" not in result.stdout


def test_a_baseline_that_cannot_be_written_is_told_before_the_run(stage: Stage) -> None:
    result = oceanmock(*OCP, "--baseline", "/proc/no/lab.yaml", "--update-baseline")

    assert result.exit_code == 2
    assert "the baseline cannot be written to /proc/no/lab.yaml" in result.stderr
    assert stage.reached == []


def test_an_interrupted_run_writes_no_baseline(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    stage.result = a_clean_result(findings=[a_finding()], interrupted=True)

    result = oceanmock(*OCP, "--baseline", path, "--update-baseline")

    assert result.exit_code == 130
    assert "not written, because the run was interrupted" in result.stderr
    assert not path.exists()


# --- tasks to play with ---------------------------------------------------------------------------


def begun(server: Server, **settings: object) -> str:
    """The name of a sandbox with one task in it, 30 seconds after that began."""
    sandboxes = f"{server.url}/__admin/sandboxes"
    sandbox = {"scenarios": ["retry-failed-subtask"], "name": "t1", **settings}
    httpx.post(sandboxes, json=sandbox).raise_for_status()
    httpx.post(f"{sandboxes}/t1/clock/advance", json={"by": "30s"}).raise_for_status()
    return "t1"


@pytest.fixture
def failed(stage: Stage) -> Iterator[str]:
    """A server on which task 1000 is FAILED, and nothing else."""
    with Server(World()) as server:
        stage.url = f"{server.url}/sandboxes/{begun(server, progression='manual')}"
        yield stage.url


WRITE = ("--api", "ocp", "--user", "manager", "--password", "manager", "--write")


def test_without_a_terminal_the_failed_tasks_are_named_and_nothing_is_done(failed: str, stage: Stage) -> None:
    result = oceanmock(failed, *WRITE)

    assert result.exit_code == 2
    assert "--write needs the tasks to operate on: give --task ID." in result.stderr
    assert result.stderr.endswith("FAILED are:\n  1000  Reinstall OCP agent\n")
    assert stage.ran == []


@pytest.mark.usefixtures("at_a_terminal")
def test_at_a_terminal_it_is_asked_which_of_the_failed_tasks(failed: str, stage: Stage) -> None:
    words = ["conform", failed, *WRITE]

    result = CliRunner().invoke(main, words, input="1001\n1000\n", env={"COLUMNS": "200"})

    assert "'1001' is not allowed. Allowed: 1000." in result.output
    assert stage.ran[0][0].tasks == ("1000",)
    assert "--api ocp --user manager --write --task 1000 --seed 0" in result.stdout


def test_a_task_that_is_not_there_is_said_before_the_run(failed: str, stage: Stage) -> None:
    result = oceanmock(failed, *WRITE, "--task", "1000", "--task", "424242")

    assert result.exit_code == 2
    assert f"{failed} has no task '424242': it responds 404. Check the id." in result.stderr
    assert stage.ran == []


def test_where_nothing_is_failed_it_says_so(failed: str, stage: Stage) -> None:
    stage.url = stage.url.replace("/sandboxes/t1", "")

    result = oceanmock(failed, "--write", "--api", "obshell", "--password", "oceanmock")

    assert result.exit_code == 2
    assert "--write needs a dag to operate on, and none is FAILED: give --task ID.\n" in result.stderr
    assert stage.ran == []
