"""The command, as its user meets it: what it prints, and how it exits."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len

from golden import assert_golden
from oceanmock.cli import main
from scenario_schema import SCHEMA_FILE

PATIENCE_S = 10.0

BROKEN = "summary: Broken\napi: ocp\ntasks:\n  - name: A\n    subtask: [a]\n"


def oceanmock(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), prog_name="oceanmock")


def test_help_names_every_command_and_shows_how_to_begin() -> None:
    result = oceanmock("--help")

    assert result.exit_code == 0
    assert "Usage: oceanmock [OPTIONS] COMMAND" in result.output
    assert "oceanmock serve retry-failed-subtask    one of them" in result.output
    kit = {"sandbox", "clock", "journal", "verify", "faults", "tasks", "explain"}
    served = {"serve", "exec", "wait", "store", "check", "show", "list", "schema", "conform", "compare"}
    assert set(main.commands) == served | kit


def test_a_file_names_options_as_the_command_line_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "oceanmock.toml").write_text("[list]\njson = true\n[serve]\nswitch = ['a=b']\n[conform]\nfrom = 2\n")
    monkeypatch.chdir(tmp_path)

    assert json.loads(oceanmock("list").stdout)
    assert "--switch a=b: not a switch." in oceanmock("serve").stderr


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\noceanmock = 3", "[[tool.oceanmock]]\nserve = 3"])
def test_a_file_without_tables_of_options_is_one_clear_message(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)

    assert oceanmock("list").stderr == "Error: pyproject.toml: tool.oceanmock must be a table.\n"


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_and_every_option_is_explained(command: str) -> None:
    result = oceanmock(command, "--help")

    options = [each for each in main.commands[command].params if isinstance(each, click.Option)]
    assert result.exit_code == 0
    assert main.commands[command].help
    assert all(option.help for option in options)


def test_show_draws_the_dag_and_the_story() -> None:
    result = oceanmock("show", "retry-failed-subtask", "--width", "100")

    assert result.exit_code == 0
    assert_golden("show-retry-failed-subtask.txt", result.output)


def test_show_draws_branches_as_rails(tmp_path: Path) -> None:
    path = tmp_path / "diamond.yaml"
    path.write_text(
        """
summary: A diamond with a bypass and a second root
api: ocp
tasks:
  - id: 1
    name: Diamond
    subtasks:
      - {name: a}
      - {name: b, needs: [a]}
      - {name: c, needs: [a], attempts: [{takes: 2s, ends: FAILED}, {takes: 3s}]}
      - {name: d, needs: [a]}
      - {name: e, needs: [b, c]}
      - {name: f, needs: [e, d, a]}
      - {name: g, needs: []}
      - {name: h, needs: [g, f]}
story:
  - {until: {task: 1, status: FAILED}}
  - {call: retryTask, task: 1}
  - {until: {task: 1, status: SUCCESSFUL}}
"""
    )

    result = oceanmock("show", str(path), "--width", "100")

    assert result.exit_code == 0
    assert_golden("show-diamond.txt", result.output)


def test_list_names_every_scenario_with_its_summary() -> None:
    result = oceanmock("list")

    assert result.exit_code == 0
    assert "retry-failed-subtask            A subtask fails on its first run" in result.output


def test_the_list_can_be_had_as_json() -> None:
    scenarios = json.loads(oceanmock("list", "--json").output)

    assert scenarios[0].keys() == {"name", "api", "summary"}
    assert "retry-failed-subtask" in [scenario["name"] for scenario in scenarios]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("oceanmock jour", ["plain,journal"]),
        ("oceanmock show retry-failed-s", ["file,retry-failed-s", "plain,retry-failed-subtask"]),
        ("oceanmock exec roll", [f"plain,rollback{end}" for end in ("", "-fails-and-is-repeated", "-forbidden")]),
        ("oceanmock sandbox create --name a ./own", ["file,./own"]),
        ("oceanmock journal retrysub", ["plain,retrySubtask"]),
        ("oceanmock verify retryTask --then dagH", ["plain,dagHandler"]),
        ("oceanmock faults add --operation getOb", ["plain,getObLastMaintenanceDag"]),
    ],
)
def test_a_shell_completes_commands_scenarios_and_operations(typed: str, words: list[str]) -> None:
    protocol = {"_OCEANMOCK_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}

    result = CliRunner().invoke(main, [], prog_name="oceanmock", env=protocol)

    assert set(words) <= set(result.output.splitlines())
    assert len(result.output.splitlines()) <= len(words) + 1


def test_a_completion_of_operations_imports_no_server() -> None:
    typed = "_OCEANMOCK_COMPLETE=bash_complete COMP_WORDS='oceanmock journal retryS' COMP_CWORD=2"

    result = subprocess.run(
        [
            "sh",
            "-c",
            f"{typed} {sys.executable} -X importtime -c 'import oceanmock.cli as c; c.main(prog_name=\"oceanmock\")'",
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "plain,retrySubtask" in result.stdout
    assert "oceanmock.apis" in result.stderr
    assert "connexion" not in result.stderr


def test_schema_prints_the_json_schema_that_is_in_the_library() -> None:
    result = oceanmock("schema")

    assert json.loads(result.output)["title"] == "oceanmock scenario"
    assert result.output == SCHEMA_FILE.read_text(encoding="utf-8"), (
        "the file format has changed: `oceanmock schema > scenarios/scenario.schema.json`"
    )


def test_check_without_a_path_passes_all_that_comes_with_oceanmock() -> None:
    result = oceanmock("check")

    assert result.exit_code == 0
    assert "ocp.yaml: ok" in result.output
    assert "retry-failed-subtask.yaml: ok" in result.output


def test_check_of_a_broken_scenario_prints_its_mistakes_and_exits_with_1(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN)

    result = oceanmock("check", str(path))

    assert result.exit_code == 1
    assert f"{path}:4:5: task 'A' has no `subtasks` [missing-key]" in result.output
    assert f"{path}:5:5: `subtask` is no key of task 'A' [unknown-key]" in result.output
    assert "Did you mean 'subtasks'?" in result.output
    assert result.output.endswith("2 mistakes\n")


def test_check_of_a_folder_reports_every_file_in_the_words_of_tools(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    broken = tmp_path / "below" / "broken.yaml"
    broken.write_text(BROKEN)
    (tmp_path / "api.yml").write_text("openapi: 3.0.3\ninfo: {title: An API}\npaths: {}\n")
    (tmp_path / "notes.txt").write_text("no scenario")

    listed = oceanmock("check", str(tmp_path), "--format", "json")
    annotated = oceanmock("check", str(tmp_path), "--format", "github")

    assert (listed.exit_code, annotated.exit_code) == (1, 1)
    rows = json.loads(listed.stdout)
    assert [(row["file"], row["line"], row["rule"]) for row in rows] == [
        (str(tmp_path / "api.yml"), 1, "openapi"),
        (str(broken), 4, "missing-key"),
        (str(broken), 5, "unknown-key"),
    ]
    assert f"::error file={broken},line=4,col=5,title=missing-key::task 'A' has no" in annotated.stdout
    assert "%0AAllowed: id, name, " in annotated.stdout


def test_check_names_the_file_of_each_mistake_and_goes_on_after_one_that_is_no_text(tmp_path: Path) -> None:
    part, junk = tmp_path / "_part.yaml", tmp_path / "junk.yaml"
    part.write_text("task: {subtask: [A]}\n")
    junk.write_bytes(b"\xff\xfe\x00\x9d")
    (tmp_path / "whole.yaml").write_text(
        "summary: A task of a part\napi: ocp\ntasks: [{include: _part.yaml#task, subtasks: [A]}]\n"
    )

    listed = oceanmock("check", str(tmp_path), "--format", "json")

    rows = json.loads(listed.stdout)
    assert [(row["file"], row["rule"]) for row in rows] == [(str(junk), "unreadable-file"), (str(part), "unknown-key")]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    result = oceanmock("serve", str(tmp_path))

    assert result.exit_code == 2
    assert f"the folder {tmp_path} has no scenario file" in result.output


@pytest.mark.parametrize("ports", ["0-5", "9000-8999", "70000", "some"])
def test_a_wrong_range_of_ports_is_refused(ports: str) -> None:
    result = oceanmock("serve", "--sandbox-ports", ports)

    assert (result.exit_code, "is no range of ports, such as 9000-9099" in result.output) == (2, True)


def test_check_of_a_broken_contract_prints_its_mistakes_and_exits_with_1(tmp_path: Path) -> None:
    path = tmp_path / "api.yaml"
    path.write_text("openapi: 3.0.3\ninfo: {title: An API}\npaths: {}\n")

    result = oceanmock("check", str(path))

    assert result.exit_code == 1
    assert f'{path}: #/info: "version" is a required property' in result.output


@pytest.mark.parametrize("command", ["serve", "check", "show"])
def test_an_unknown_scenario_is_refused_with_the_nearest_name(command: str) -> None:
    result = oceanmock(command, "retry-failed-subtsk")

    assert result.exit_code == 2
    assert "there is no scenario 'retry-failed-subtsk' in the library" in result.output
    assert "Did you mean 'retry-failed-subtask'?" in result.output


@pytest.mark.parametrize("command", ["serve", "check", "show"])
def test_a_missing_file_is_refused(command: str, tmp_path: Path) -> None:
    result = oceanmock(command, str(tmp_path / "none.yaml"))

    assert result.exit_code == 2
    assert f"there is no scenario file {tmp_path / 'none.yaml'}" in result.output


@pytest.mark.parametrize("command", ["serve", "show"])
def test_a_broken_file_is_refused_with_all_its_mistakes(command: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN)

    result = oceanmock(command, str(path))

    assert result.exit_code == 2
    assert "[missing-key]" in result.output
    assert "[unknown-key]" in result.output


def test_serve_on_a_taken_port_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        result = oceanmock("serve", "retry-failed-subtask", "--port", str(port))

    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use." in result.output


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ("subtask_paring=checked", "Did you mean 'subtask_pairing'?"),
        ("subtask_pairing", "--switch subtask_pairing: a value is missing"),
        ("subtask_pairing=maybe", "Input should be 'ignored' or 'checked'"),
    ],
)
def test_a_wrong_switch_is_refused(switch: str, message: str) -> None:
    result = oceanmock("serve", "retry-failed-subtask", "--switch", switch)

    assert result.exit_code == 2
    assert message in result.output


def test_show_lines_up_names_in_wide_characters(tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    path.write_text(
        "summary: Wide\napi: ocp\ntasks:\n  - {name: T, subtasks: [检查备份路径, check]}\n", encoding="utf-8"
    )

    result = oceanmock("show", str(path), "--width", "60")

    bands = [line for line in result.output.splitlines() if "○" in line or "━" in line][:3]
    assert len(bands) == 3
    assert {cell_len(line) for line in bands} == {cell_len(bands[0])}


def test_a_server_that_never_responds_is_waited_for_no_longer_than_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        result = pool.submit(CliRunner().invoke, main, ["wait", url, "--timeout", "1ms"])
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            while connection.recv(4096):
                pass

    assert result.result().exit_code == 2
    assert f"within 1ms: nothing responds at {url} (timed out)" in result.result().stderr
