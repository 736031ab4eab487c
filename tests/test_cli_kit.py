"""The commands that drive a running server, as their user meets them: output and exit codes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner, Result

from command import OCEANMOCK, PATIENCE, serving
from golden import assert_golden
from oceanmock.cli import main
from served import AFTERNOON, REINSTALL, load_yaml, own_server

Oceanmock = Callable[..., Result]
MANAGER = ("manager", "manager")
TASK = "/api/v2/tasks/instances/35000312"
DATA = Path(__file__).parent / "data"
SCENARIO = {**load_yaml(REINSTALL), "starts_at": AFTERNOON}


@pytest.fixture
def url() -> Iterator[str]:
    with own_server() as mock:
        mock.admin.ask("POST", "/sandboxes/default/scenarios", {"scenarios": [SCENARIO]})
        yield mock.url


def run_at(url: str) -> Oceanmock:
    def run(*words: str, **env: str) -> Result:
        environment = {"OCEANMOCK_URL": url, "COLUMNS": "100", **env}
        return CliRunner().invoke(main, list(words), prog_name="oceanmock", env=environment)

    return run


@pytest.fixture
def oceanmock(url: str) -> Oceanmock:
    return run_at(url)


def leaves(command: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    """Every command that does something, by its words."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaves(inner, *words, name)
    else:
        yield words


OTHERS = {"serve", "store", "exec", "wait", "check", "show", "list", "schema", "conform", "compare"}
KIT = [words for words in leaves(main) if words[0] not in OTHERS]
STORE = [words for words in leaves(main) if words[0] == "store"]


# --- how they look --------------------------------------------------------------------------------


SCREENS = (("list",), ("check", "broken.yaml"), ("journal",), ("faults", "list"), ("explain", "35000312"))


@pytest.mark.parametrize("columns", ["80", "120"])
def test_screens_wrap_at_words(columns: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text(
        f'summary: s\napi: ocp\ntasks:\n  - name: A\n    subtasks: ["\\e[1mx"]\n    story: {"x" * 40}\n'
        "faults:\n  - {operation: getTask, status: 503}\n"
    )
    httpx.get(f"{url}{TASK}?page=1&size=10", auth=MANAGER)
    httpx.post(f"{url}{TASK}/subtasks/35000313/retry", auth=MANAGER)
    httpx.get(f"{url}/api/v2/%1b[1m", auth=MANAGER)
    long = (
        "--operation",
        "getTaskInstance",
        "--calls",
        "1-3",
        "--status",
        "503",
        "--delay",
        "90s",
        "--caller",
        "nobody",
    )
    run_at(url)("faults", "add", *long)

    run, terminal = run_at(url), {"COLUMNS": columns, "TTY_COMPATIBLE": "1"}
    text = "".join(f"$ oceanmock {' '.join(words)}\n{run(*words, **terminal).output}\n" for words in SCREENS)

    for drawn in ("initialize-cluster-fails", str(DATA / "stubs-faults-timeouts-ages.yaml")):
        text += run("show", drawn, "--width", columns).output
    assert_golden(f"screens-{columns}.txt", text)


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["80", "120"])
def test_a_server_s_banner_wraps_at_words(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with serving("retry-one-of-two-failures", "cancel-running-dag") as server:
        port = server.url.rpartition(":")[2]

    assert_golden(f"screen-serve-{columns}.txt", server.announcement.replace(port, "PORT"))


@pytest.mark.parametrize("words", [*KIT, *STORE], ids=" ".join)
def test_every_command_and_every_option_is_explained(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*words, "--help"], prog_name="oceanmock")

    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    assert result.exit_code == 0
    assert command.help
    assert all(each.help for each in command.params if isinstance(each, click.Option))


@pytest.mark.parametrize("words", KIT, ids=" ".join)
def test_every_command_to_a_server_takes_its_address_and_its_token(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*words, "--help"], prog_name="oceanmock")

    assert "--url" in result.output
    assert "OCEANMOCK_ADMIN_TOKEN" in result.output


def test_a_story_as_a_shell_script_would_tell_it(url: str, oceanmock: Oceanmock) -> None:
    told = []

    def tell(*words: str) -> None:
        result = oceanmock(*words)
        code = f"(exit code {result.exit_code})\n" if result.exit_code else ""
        told.append(f"$ oceanmock {' '.join(words)}\n{result.output}{code}\n")

    start = ("--name", "t1", "--progression", "manual", "--starts-at", "2024-01-10T06:00:00Z")
    tell("sandbox", "create", "retry-failed-subtask", *start)
    tell("sandbox", "list")
    tell("clock", "next", "--sandbox", "t1")
    tell("clock", "advance", "30s", "--sandbox", "t1")
    tell("tasks", "--sandbox", "t1")
    tell("explain", "1000", "--sandbox", "t1")
    retry = "/api/v2/tasks/instances/1000/subtasks/1002/retry"
    httpx.post(f"{url}/sandboxes/t1{retry}", auth=MANAGER)
    httpx.post(f"{url}/sandboxes/t1{retry}", auth=MANAGER)
    tell("journal", "--sandbox", "t1")
    tell("verify", "retrySubtask", "--subtask", "1002", "--times", "2", "--sandbox", "t1")
    tell("verify", "retrySubtask", "--subtask", "1003", "--sandbox", "t1")
    tell("faults", "add", "--operation", "getTaskInstance", "--calls", "2-3", "--status", "503")
    tell("faults", "list")
    tell("faults", "remove", "fault 1")
    tell("clock", "set", "--progression", "immediate", "--sandbox", "t1")
    tell("sandbox", "reset", "t1")
    tell("journal", "--sandbox", "t1")
    tell("sandbox", "delete", "t1")
    tell("tasks", "--sandbox", "t1")

    assert_golden("cli-kit-story.txt", "".join(told).replace(url, "http://127.0.0.1:8080"))


# --- sandboxes ------------------------------------------------------------------------------------


def test_create_prints_nothing_but_the_url_of_the_port(oceanmock: Oceanmock) -> None:
    result = oceanmock("sandbox", "create", "retry-failed-subtask", "--own-port")

    assert result.exit_code == 0
    assert result.stderr == "sandbox sandbox-1\n"
    url = result.stdout.strip()
    assert httpx.get(f"{url}/api/v2/tasks/instances/1000", auth=MANAGER).status_code == 200


def test_a_lease_is_listed_with_what_is_left_of_it(oceanmock: Oceanmock) -> None:
    oceanmock("sandbox", "create", "--name", "leased", "--ttl", "1h")

    assert "leased " in oceanmock("sandbox", "list").output
    assert "removed in " in oceanmock("sandbox", "list").output


def test_create_sends_the_text_of_a_file_of_this_machine(oceanmock: Oceanmock, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("summary: Mine\napi: ocp\ntasks: [{id: 7, name: 检查, subtasks: [a]}]", "utf-8")

    result = oceanmock("sandbox", "create", str(path), "--name", "t1")

    assert result.exit_code == 0
    assert "检查" in oceanmock("tasks", "--sandbox", "t1").stdout


def test_create_says_everything_that_is_to_be_different(url: str, oceanmock: Oceanmock) -> None:
    oceanmock(
        *("sandbox", "create", "fails-twice", "--name", "t1"),
        *("--speed", "60", "--seed", "7", "--auth", "off"),
        *("--progression", "polls", "--starts-at", "2024-01-10T06:00:00Z"),
        *("--switch", "subtask_pairing=checked", "--obshell-switch", "obshell_version=4.2.3.0"),
    )

    sandbox = httpx.get(f"{url}/__admin/sandboxes/t1").json()
    version = httpx.get(f"{url}/sandboxes/t1/api/v1/info").json()["data"]["version"]
    (task,) = httpx.get(f"{url}/__admin/sandboxes/t1/tasks").json()["tasks"]
    log = f"/api/v2/tasks/instances/{task['id']}/subtasks/1/log"
    assert (sandbox["speed"], sandbox["progression"], sandbox["seed"]) == (60, "polls", 7)
    assert sandbox["started"] == "2024-01-10T06:00:00Z"
    assert httpx.get(f"{url}/sandboxes/t1{log}").status_code == 404  # neither 401 nor an empty log
    assert version.startswith("4.2.3.0")


def test_which_sandbox_is_meant_can_be_said_once(oceanmock: Oceanmock) -> None:
    oceanmock("sandbox", "create", "fails-twice", "--name", "t1")

    result = oceanmock("tasks", OCEANMOCK_SANDBOX="t1")

    assert result.output == oceanmock("tasks", "--sandbox", "t1").output != ""


# --- the journal ----------------------------------------------------------------------------------


def test_the_journal_is_printed_page_by_page_to_its_end(
    url: str, oceanmock: Oceanmock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oceanmock.cli.admin.PAGE_SIZE", 2)
    for _ in range(5):
        httpx.get(url + TASK, auth=MANAGER)

    lines = oceanmock("journal", "getTaskInstance").output.splitlines()

    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4", "5"]


def test_the_journal_as_json_is_one_entry_a_line(url: str, oceanmock: Oceanmock) -> None:
    httpx.get(url + TASK, auth=MANAGER)
    httpx.get(url + TASK, auth=("viewer", "viewer"))

    lines = oceanmock("journal", "--json", "--caller", "viewer").output.splitlines()

    assert [json.loads(line)["number"] for line in lines] == [2]


def test_a_cleared_journal_is_empty(url: str, oceanmock: Oceanmock) -> None:
    httpx.get(url + TASK, auth=MANAGER)

    assert oceanmock("journal", "--clear").output == ""
    assert oceanmock("journal").output == ""


def test_what_would_move_the_cursor_is_spelled_out(url: str, oceanmock: Oceanmock) -> None:
    httpx.get(f"{url}/api/v2/%1b%5b2J", auth=MANAGER)

    output = oceanmock("journal").output

    assert "\x1b" not in output
    assert "\\x1b[2J" in output


def test_follow_prints_what_comes_until_it_is_interrupted_even_after_a_reset(url: str) -> None:
    with subprocess.Popen(
        [OCEANMOCK, "journal", "--follow", "--url", url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            deadline = threading.Timer(PATIENCE, process.kill)
            deadline.start()
            httpx.get(url + TASK, auth=MANAGER)
            first = process.stdout.readline()
            httpx.get(url + TASK, auth=MANAGER)
            second = process.stdout.readline()
            httpx.post(f"{url}/__admin/sandboxes/default/reset")
            httpx.get(url + TASK, auth=("viewer", "viewer"))
            anew = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            deadline.cancel()

    assert [line.split()[0] for line in (first, second, anew)] == ["1", "2", "1"]
    assert "viewer" in anew
    assert (process.returncode, stderr) == (0, "")


def test_verify_compares_bodies(url: str, oceanmock: Oceanmock) -> None:
    httpx.request("GET", url + TASK, auth=MANAGER, content=b'{"a": {"b": 1, "c": 2}}')

    assert oceanmock("verify", "--body", '{"a": {"b": 1}}').exit_code == 0
    assert oceanmock("verify", "--body", '{"a": {"b": 2}}').exit_code == 1


def test_verify_takes_headers_an_order_and_never(url: str, oceanmock: Oceanmock) -> None:
    httpx.get(url + TASK, auth=MANAGER, headers={"X-Job": "7"})
    httpx.post(f"{url}{TASK}/retry", auth=MANAGER)

    assert oceanmock("verify", "getTaskInstance", "--header", "x-job: 7", "--then", "retryTask").exit_code == 0
    assert oceanmock("verify", "retryTask", "--then", '{"header": "x-job: 7"}').exit_code == 1
    assert oceanmock("verify", "--query", "page=2", "--never").exit_code == 0
    assert oceanmock("verify", "retryTask", "--never").exit_code == 1
    assert [line.split()[4] for line in oceanmock("journal", "--header", "X-Job: *").output.splitlines()] == [TASK]


# --- faults ---------------------------------------------------------------------------------------


def test_a_fault_can_be_given_everything(oceanmock: Oceanmock) -> None:
    result = oceanmock(
        *("faults", "add", "--name", "slow", "--operation", "getTaskInstance", "--task", "7"),
        *("--caller", "viewer", "--calls", "1", "--calls", "3-", "--counts", "attempts"),
        *("--probability", "0.5", "--delay", "1s", "--jitter", "2s", "--drop", "data.id"),
        *("--dribble-bytes", "7", "--dribble-every", "10ms", "--change-type", "data.status"),
    )

    assert result.output == "slow\n"
    (tally,) = json.loads(oceanmock("faults", "list", "--json").output)
    assert tally["fault"] == {
        "api": "ocp",
        "name": "slow",
        "operation": ["getTaskInstance"],
        "task": 7,
        "caller": "viewer",
        "calls": ["1", "3-"],
        "counts": "attempts",
        "probability": 0.5,
        "delay": "1s",
        "jitter": "2s",
        "dribble": {"bytes": 7, "every": "10ms"},
        "drop": ["data.id"],
        "change_type": ["data.status"],
    }


@pytest.mark.parametrize(
    "words",
    [
        ("--status", "429"),
        ("--reset",),
        ("--drop-response",),
        ("--empty",),
        ("--truncate", "0", "--still-executes"),
        ("--malformed", "--still-executes"),
        ("--content-type", "text/html", "--still-executes"),
        ("--api", "obshell", "--dag", "4", "--delay", "1s"),
        ("--node", "22130706433028861", "--delay", "1s"),
        ("--sub-task", "40201", "--delay", "1s"),
        ("--subtask", "1002", "--delay", "1s"),
        ("--with", "headers={Retry-After: '7'}", "--with", "error_code=20003", "--api", "ocp"),
        ("--with", "from=1s", "--with", "until=9s", "--with", "body=<html>"),
        ("--with", "set={data.status: BROKEN}", "--with", "when={status: [FAILED]}", "--still-executes"),
    ],
    ids=" ".join,
)
def test_every_effect_can_be_asked_for(oceanmock: Oceanmock, words: tuple[str, ...]) -> None:
    assert oceanmock("faults", "add", *words).output == "fault 1\n"


@pytest.mark.parametrize("words", ["headers", "headers={a", "boddy=x"])
def test_a_mistake_in_another_key_of_a_fault_is_explained(oceanmock: Oceanmock, words: str) -> None:
    result = oceanmock("faults", "add", "--status", "503", "--with", words)

    assert result.exit_code == 2
    assert words.split("=", maxsplit=1)[0] in result.output
    assert "Traceback" not in result.output


def test_all_faults_are_removed_at_once(oceanmock: Oceanmock) -> None:
    oceanmock("faults", "add", "--reset", "--name", "a/b")

    result = oceanmock("faults", "remove", "--all")

    assert result.exit_code == 0
    assert json.loads(oceanmock("faults", "list", "--json").output) == []


# --- JSON, for those who like it ------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("sandbox", "list"),
        ("faults", "list"),
        ("tasks",),
        ("explain", "35000312"),
        ("clock", "show"),
        ("verify", "--never"),
        ("show", "backup-tenant"),
        ("list",),
    ],
    ids=" ".join,
)
def test_what_is_listed_can_be_had_as_json(oceanmock: Oceanmock, words: tuple[str, ...]) -> None:
    assert isinstance(json.loads(oceanmock(*words, "--json").output), list | dict)


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sandbox", "create", "none"), "there is no scenario 'none' here"),
        (("sandbox", "create", "none.yaml"), "none.yaml cannot be read: No such file"),
        (("sandbox", "create", "--switch", "subtask_pairing"), "it is written NAME=VALUE"),
        (("sandbox", "create", "--name", "default"), "there is a sandbox 'default' already"),
        (("sandbox", "delete", "none"), "there is no sandbox 'none'"),
        (("tasks", "--sandbox", "a/b"), "a/b"),
        (("clock", "advance", "90"), "by"),
        (("clock", "move", "tomorrow"), "to"),
        (("clock", "set"), "nothing to set"),
        (("journal", "retrySubtsk"), "Did you mean 'retrySubtask'?"),
        (("verify", "--body", "{"), "--body is no JSON"),
        (("verify", "--then", "{"), "--then is no JSON"),
        (("verify", "--times", "1", "--at-most", "2"), "leave out `at_least` and `at_most`"),
        (("faults", "add"), "does nothing"),
        (("faults", "remove"), "which fault?"),
        (("faults", "remove", "x", "--all"), "which fault?"),
        (("faults", "remove", "x"), "there is no fault 'x' in sandbox 'default'. There are none."),
        (("explain", "17"), "there is no task 17 in sandbox 'default'. There are: 35000312."),
        (("explain", "17", "--api", "obshell"), "there is no dag 17 in sandbox 'default'. There are none."),
        (("explain", "17", "--api", "ocp"), "there is no task 17 in sandbox 'default'. There are: 35000312."),
        (("journal", "getTask"), "Did you mean 'getTaskInstance'?"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_what_cannot_be_done_is_said_in_one_message(oceanmock: Oceanmock, words: tuple[str, ...], message: str) -> None:
    result = oceanmock(*words)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr


def test_a_task_behind_the_first_ten_thousand_is_explained(url: str, oceanmock: Oceanmock) -> None:
    template = {"name": "Check", "subtasks": ["one"], "repeat": {"count": 10_000}}
    tasks = f"{url}/__admin/sandboxes/default/tasks"
    first = httpx.post(tasks, json={"api": "ocp", "template": template}).json()["number"]

    assert oceanmock("explain", str(first + 9_999)).exit_code == 0


def test_a_task_that_both_apis_have_must_be_told_apart(url: str, oceanmock: Oceanmock) -> None:
    dag = {"api": "obshell", "template": {"id": 35000312, "nodes": ["a"]}}
    httpx.post(f"{url}/__admin/sandboxes/default/tasks", json=dag)

    result = oceanmock("explain", "35000312")

    assert result.exit_code == 2
    assert "several APIs have a task 35000312" in result.stderr
    assert oceanmock("explain", "35000312", "--api", "obshell").exit_code == 0


def test_a_dead_port_is_said_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    result = run_at(f"http://127.0.0.1:{port}")("tasks")

    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: nothing responds at http://127.0.0.1:{port} (Connection refused). "
        "Start it with `oceanmock serve`, or say where it is with --url.\n"
    )


class SomethingElse(BaseHTTPRequestHandler):
    """A server that answers everything, and is no oceanmock."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"tasks": []}')

    def log_message(self, *_: object) -> None:
        pass


def test_another_server_is_recognised() -> None:
    with HTTPServer(("127.0.0.1", 0), SomethingElse) as server:
        threading.Thread(target=server.handle_request).start()
        url = f"http://127.0.0.1:{server.server_port}"

        result = run_at(url)("tasks")

    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: what answers at {url} is no oceanmock")


def test_what_speaks_no_http_is_recognised() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        threading.Thread(target=answer).start()
        result = run_at(f"http://127.0.0.1:{server.getsockname()[1]}")("tasks")

    assert result.exit_code == 2
    assert "is no oceanmock" in result.stderr


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://127.0.0.1:port", "http://[", "x"])
def test_what_is_no_url_is_refused(url: str) -> None:
    result = run_at(url)("tasks")
    waited = run_at(url)("wait", "--timeout", "1ms")

    assert (result.exit_code, waited.exit_code) == (2, 2)
    assert result.stderr == waited.stderr
    assert f"{url!r} is no URL of a server" in result.stderr


@pytest.mark.parametrize("token", ["a\nb", "", "a b", "é", "x" * 1001])
def test_a_token_that_no_header_can_carry_is_refused(oceanmock: Oceanmock, tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token, "utf-8")

    for command in ("tasks", "serve"):
        for words in (["--admin-token", token], ["--admin-token-file", str(tmp_path / "token")]):
            result = oceanmock(command, *words)

            assert result.exit_code == 2
            assert "an admin token is 1 to 1,000 printable ASCII characters" in result.stderr


def test_a_token_file_that_cannot_be_read_is_named(oceanmock: Oceanmock, tmp_path: Path) -> None:
    result = oceanmock("tasks", "--admin-token-file", str(tmp_path / "none"))

    assert result.exit_code == 2
    assert f"the token file {tmp_path / 'none'} cannot be read: No such file or directory." in result.stderr
