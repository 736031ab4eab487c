"""The README's story over HTTP: the real command in a process of its own, as a client meets it.

Only what needs the whole way from the command line to the wire is asked here. How each operation
answers is test_ocp_api's, the command's other words are test_cli's.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from certificates import certificate, file_of
from command import OCEANMOCK, PATIENCE, Serving, run, serving
from served import SERVED_APART, until

pytestmark = pytest.mark.slow

TASKS = "/api/v2/tasks/instances"
TASK = f"{TASKS}/1000"
SUBTASK = f"{TASK}/subtasks/1002"
ENVELOPE = {"duration", "server", "status", "successful", "timestamp", "traceId"}
LOOKS = 100
"""No life of these tests takes that many polls."""


def ask(server: Serving, method: str, path: str, user: str = "manager") -> httpx.Response:
    return httpx.request(method, server.url + path, auth=(user, user), trust_env=False)


def statuses(task: Any) -> str:
    """“FAILED/EXECUTE: SUCCESSFUL FAILED PENDING”: a task, then its subtasks."""
    subtasks = " ".join(subtask["status"] for subtask in task["subtasks"])
    return f"{task['status']}/{task['operation']}: {subtasks}"


def watch(server: Serving, status: str) -> list[str]:
    """Polls the task until it has a status; every look, the last one included."""
    looks = [statuses(ask(server, "GET", TASK, "viewer").json()["data"])]
    while not looks[-1].startswith(status):
        assert len(looks) < LOOKS, looks
        looks.append(statuses(ask(server, "GET", TASK, "viewer").json()["data"]))
    return looks


def refusal(response: httpx.Response) -> tuple[int, int, str]:
    """The status, code and message of a refusal, which is in the envelope or none at all."""
    body = response.json()
    assert response.headers["content-type"] == "application/json"
    assert body.keys() == (ENVELOPE if body["status"] != 401 else ENVELOPE - {"server"}) | {"error"}
    assert (body["status"], body["successful"]) == (response.status_code, False)
    return body["status"], body["error"]["code"], body["error"]["message"]


# --- a failed task, retried -----------------------------------------------------------------------


@pytest.fixture
def story() -> Iterator[Serving]:
    with serving("retry-failed-subtask", "--progression", "polls") as server:
        yield server


def test_who_polls_sees_every_state_once_until_the_task_has_failed(story: Serving) -> None:
    looks = watch(story, "FAILED")

    assert looks == [
        "RUNNING/EXECUTE: READY PENDING PENDING",
        "RUNNING/EXECUTE: RUNNING PENDING PENDING",
        "RUNNING/EXECUTE: SUCCESSFUL PENDING PENDING",
        "RUNNING/EXECUTE: SUCCESSFUL READY PENDING",
        "RUNNING/EXECUTE: SUCCESSFUL RUNNING PENDING",
        "RUNNING/EXECUTE: SUCCESSFUL FAILED PENDING",
        "FAILED/EXECUTE: SUCCESSFUL FAILED PENDING",
    ]


def test_the_failed_subtask_is_retried_and_the_task_succeeds(story: Serving) -> None:
    watch(story, "FAILED")

    retried = ask(story, "POST", f"{SUBTASK}/retry").json()["data"]

    assert (retried["status"], retried["operation"]) == ("READY", "RETRY")
    assert watch(story, "SUCCESSFUL") == [
        "RUNNING/EXECUTE: SUCCESSFUL READY PENDING",
        "RUNNING/EXECUTE: SUCCESSFUL RUNNING PENDING",
        "RUNNING/EXECUTE: SUCCESSFUL SUCCESSFUL PENDING",
        "RUNNING/EXECUTE: SUCCESSFUL SUCCESSFUL READY",
        "RUNNING/EXECUTE: SUCCESSFUL SUCCESSFUL RUNNING",
        "RUNNING/EXECUTE: SUCCESSFUL SUCCESSFUL SUCCESSFUL",
        "SUCCESSFUL/EXECUTE: SUCCESSFUL SUCCESSFUL SUCCESSFUL",
    ]


@pytest.mark.parametrize("operation", ["retry", "rollback"])
def test_a_task_that_has_succeeded_takes_no_operation(story: Serving, operation: str) -> None:
    watch(story, "FAILED")
    ask(story, "POST", f"{SUBTASK}/retry")
    watch(story, "SUCCESSFUL")

    refused = ask(story, "POST", f"{TASK}/{operation}")

    message = "This operation is not supported for the 1000 task in the SUCCESSFUL state."
    assert refusal(refused) == (400, 20003, message)
    assert len(watch(story, "SUCCESSFUL")) == 1


# --- who may not, and what is not there -----------------------------------------------------------


@pytest.fixture(scope="module")
def refusing() -> Iterator[Serving]:
    with serving("retry-failed-subtask", "--progression", "polls") as server:
        yield server


def test_a_viewer_may_not_retry(refusing: Serving) -> None:
    refused = ask(refusing, "POST", f"{TASK}/retry", "viewer")

    message = "You are not authorized to perform the corresponding operation. Contact the administrator."
    assert refusal(refused) == (403, 30014, message)


def test_without_credentials_nobody_gets_in(refusing: Serving) -> None:
    refused = httpx.get(refusing.url + TASK, trust_env=False)

    message = "The current user has not logged on or a logon error has occurred. Please log on and try again."
    assert refusal(refused) == (401, 0, message)
    assert "www-authenticate" not in refused.headers


def test_a_wrong_password_lets_nobody_in(refusing: Serving) -> None:
    refused = httpx.get(refusing.url + TASK, auth=("manager", "viewer"), trust_env=False)

    assert refusal(refused) == (401, 0, "Bad credentials")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{TASKS}/1001"),
        ("GET", f"{TASKS}/9223372036854775807"),
        ("POST", f"{TASKS}/1001/retry"),
        ("POST", f"{TASKS}/1001/rollback"),
        ("POST", f"{TASK}/subtasks/1/retry"),
        ("POST", f"{TASK}/subtasks/1/skip"),
        ("POST", f"{TASK}/subtasks/1/cancel"),
    ],
)
def test_an_unknown_id_is_not_found(refusing: Serving, method: str, path: str) -> None:
    refused = ask(refusing, method, path)

    assert refusal(refused) == (404, 20000, "The {0} task does not exist.")


@pytest.mark.parametrize("id", ["abc", "1.0", "%20", "0x", "1_0", str(10**30), "9" * 5000])
def test_what_can_be_no_id_is_a_bad_request(refusing: Serving, id: str) -> None:
    status, code, message = refusal(ask(refusing, "GET", f"{TASKS}/{id}"))

    assert (status, code) == (400, 0)
    assert "taskInstanceId" in message
    assert len(message) < 500


# --- what the command prints is true --------------------------------------------------------------


def by_curl(words: list[str]) -> httpx.Response:
    """Runs a command as it is, and only asks curl to show the head of the answer as well."""
    done = subprocess.run([*words, "-i"], capture_output=True, check=True, timeout=30)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    return httpx.Response(int(head.split()[1]), content=body)


def by_httpx(words: list[str]) -> httpx.Response:
    """What curl would have done: `curl -s [-u NAME:PASSWORD] [-X METHOD] URL`."""
    *options, url = words
    assert options[:2] == ["curl", "-s"]
    given = dict(zip(options[2::2], options[3::2], strict=True))
    name, _, password = given.pop("-u").partition(":")
    method = given.pop("-X", "GET")
    assert given == {}
    return httpx.request(method, url, auth=(name, password), trust_env=False)


RUNNERS = {"httpx": by_httpx} | ({"curl": by_curl} if shutil.which("curl") else {})


def printed_commands(server: Serving) -> dict[str, list[str]]:
    """The words of each command that the server has printed, by operation."""
    lines = [line.split(maxsplit=1) for line in server.announcement.splitlines() if "curl" in line]
    return {operation: shlex.split(command) for operation, command in lines}


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_printed_command_runs_as_it_is(story: Serving, runner: str) -> None:
    commands = printed_commands(story)
    watch(story, "FAILED")

    answers = {operation: RUNNERS[runner](words) for operation, words in commands.items()}

    assert {operation: answer.status_code for operation, answer in answers.items()} == {
        "listTaskInstances": 200,
        "getTaskInstance": 200,
        "retryTask": 200,  # from here on it is under way, and none of the others is possible
        "rollbackTask": 400,
        "getSubtaskLog": 200,
        "retrySubtask": 400,
        "skipSubtask": 400,
        "cancelSubtask": 400,
    }
    assert all(answer.json()["status"] == answer.status_code for answer in answers.values())
    assert "Connection refused" in answers["getSubtaskLog"].json()["data"]["log"]


def test_it_says_first_what_it_serves_and_how_and_last_where(story: Serving) -> None:
    first, *_, last = story.announcement.splitlines()

    assert first.endswith(": OCP, 1 task; progression polls")
    assert last == f"Ready on {story.url} (stop it with Ctrl-C)"


# --- how it is served -----------------------------------------------------------------------------


def test_without_a_scenario_the_whole_library_is_served() -> None:
    with serving() as server:
        tasks = ask(server, "GET", "/__admin/sandboxes/default/tasks").json()["tasks"]
        library = ask(server, "GET", "/__admin/scenarios").json()["scenarios"]
        ids = sorted(int(task["id"]) for task in tasks if task["api"] == "ocp")
        url = f"{TASKS}?size=500&sort=id,asc&page="
        pages = [ask(server, "GET", f"{url}{1 + page}") for page in range(len(ids) // 500 + 1)]
        listed = [page.json()["data"] for page in pages]

    assert [task["id"] for page in listed for task in page["contents"]] == ids
    assert {page["page"]["totalElements"] for page in listed} == {len(ids)}
    absent = [one["name"] for one in library if one["name"] not in server.announcement.split()]
    # Their agents have a cluster, or have done nothing.
    assert absent == SERVED_APART


STUB = """
summary: A list beside the tasks
api: ocp
tasks: [{id: 9000, subtasks: [install]}]
stubs: [{path: /api/v2/alarms, data: {contents: []}}]
"""


def test_it_says_which_requests_start_what_and_which_have_a_response(tmp_path: Path) -> None:
    (tmp_path / "stub.yaml").write_text(STUB)
    with serving("create-tenant", "start-operations", "stub.yaml", folder=tmp_path) as server:
        lines = server.announcement.splitlines()

    assert lines[0].endswith(
        ": OCP, 1 task and 1 task on request; obshell 127.0.0.1:2886 (SINGLE), 4 dags on request; progression time"
    )
    assert "  POST /api/v2/ob/clusters/{id}/tenants starts 'Create tenant'" in lines
    assert "  POST /api/v1/agent/join starts 'Join self'" in lines
    assert "  GET /api/v2/alarms has a response in the scenario" in lines


def log_of(format: str) -> list[str]:
    """Return what a server has logged of a read, a retry, an injected fault and a refusal."""
    with serving("retry-failed-subtask", "--progression", "manual", "--log-format", format, "--auth", "off") as server:
        admin = f"{server.url}/__admin/sandboxes/default"
        httpx.post(f"{admin}/clock/advance", json={"by": "10s"})
        ask(server, "GET", f"{TASK}?password=secret")
        ask(server, "POST", f"{TASK}/retry")
        httpx.post(f"{admin}/faults", json={"name": "busy", "operation": "getTaskInstance", "status": 503})
        ask(server, "GET", TASK)
        ask(server, "GET", "/api/v2/nothing")
        return server.stop(signal.SIGINT).stderr.splitlines()


def test_each_request_is_logged_in_one_line_with_what_came_of_it() -> None:
    read, retried, fault, refused = (line.partition(" ")[2] for line in log_of("text"))

    assert read == f"default 200 GET {TASK}?password=*** getTaskInstance"
    assert retried == f"default 200 POST {TASK}/retry retryTask  change: FAILED/EXECUTE → RUNNING/RETRY"
    assert fault == f"default 503 GET {TASK} getTaskInstance  fault: busy  refusal: fault injected: busy"
    assert refused.startswith("default 404 GET /api/v2/nothing  refusal: No operation of the contract answers")


def test_the_log_has_the_same_as_json() -> None:
    read, retried, fault, refused = map(json.loads, log_of("json"))

    assert (read["path"], read["status"], read["sandbox"]) == (f"{TASK}?password=***", 200, "default")
    assert (retried["operation"], retried["change"]) == ("retryTask", "FAILED/EXECUTE → RUNNING/RETRY")
    assert (fault["fault"], refused["status"]) == ("busy", 404)


def test_a_quiet_server_prints_neither_a_banner_nor_requests(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    words = ["serve", "rollback", "--port", "0", "--quiet", "--log-format", "text", "--ready-file", f"{ready}"]
    with subprocess.Popen([OCEANMOCK, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            until(lambda: ready.is_file() and ready.read_text().endswith("\n"))
            httpx.get(f"{ready.read_text().strip()}{TASKS}", timeout=PATIENCE, trust_env=False)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()

    assert (process.returncode, output) == (0, "")


def test_a_ready_file_that_is_there_is_complete(tmp_path: Path) -> None:
    ready, command = tmp_path / "ready", tmp_path / "oceanmock"
    hook = f"lambda event, args: event == 'open' and str(args[0]) == {str(ready)!r} and print(args, file=sys.stderr)"
    lines = (f"#!{sys.executable}", "import sys", f"sys.addaudithook({hook})", "import oceanmock.cli")
    command.write_text("\n".join((*lines, "oceanmock.cli.main()")))
    command.chmod(0o700)

    with serving("rollback", "--ready-file", ready, command=command) as server:
        httpx.get(f"{server.url}/__admin/sandboxes").raise_for_status()
        url = ready.read_text()

    assert url == f"{server.url}\n"


def test_a_ready_file_that_cannot_be_written_is_one_clear_message(tmp_path: Path) -> None:
    file = tmp_path / "ready"
    script = f"ulimit -f 0 && {OCEANMOCK} serve rollback --port 0 --ready-file {file}"

    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert (ended.returncode, ended.stderr) == (2, f"Error: cannot write {file}: File too large.\n")
    assert [*tmp_path.iterdir()] == []


def test_with_auth_off_nobody_is_asked() -> None:
    with serving("retry-failed-subtask", "--auth", "off") as server:
        looked = httpx.get(server.url + TASK, trust_env=False)
        operated = httpx.post(server.url + f"{TASK}/rollback", trust_env=False)

    assert (looked.status_code, operated.status_code) == (200, 400)
    assert " -u " not in server.announcement


def test_immediately_each_look_shows_how_it_ended() -> None:
    with serving("retry-failed-subtask", "--progression", "immediate") as server:
        first = watch(server, "FAILED")
        retried = ask(server, "POST", f"{TASK}/retry").json()["data"]
        last = watch(server, "SUCCESSFUL")

    assert len(first) == len(last) == 1
    assert statuses(retried) == "RUNNING/RETRY: SUCCESSFUL READY PENDING"


@pytest.mark.parametrize(
    ("speed", "look"),
    [("1000000", "FAILED/EXECUTE: SUCCESSFUL FAILED PENDING"), ("0.0001", "RUNNING/EXECUTE: READY PENDING PENDING")],
)
def test_time_runs_as_fast_as_it_is_told(speed: str, look: str) -> None:
    with serving("retry-failed-subtask", "--speed", speed) as server:
        seen = ask(server, "GET", TASK).json()["data"]

    assert statuses(seen) == look


# --- how it ends, and how it does not begin -------------------------------------------------------


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_0_and_without_a_word(by: signal.Signals) -> None:
    with serving("retry-failed-subtask") as server:
        ask(server, "GET", TASK)
        ended = server.stop(by)

    assert (ended.code, ended.stdout, ended.stderr) == (0, "", "")


def test_a_signal_ends_it_while_a_client_keeps_its_connection_open() -> None:
    with serving("retry-failed-subtask") as server, httpx.Client(trust_env=False) as client:
        client.get(server.url + TASK, auth=("viewer", "viewer"))
        ended = server.stop(signal.SIGTERM)

    assert (ended.code, ended.stderr) == (0, "")


def test_a_taken_port_is_one_clear_message() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        refused = run("serve", "--port", str(port), "retry-failed-subtask")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"Error: cannot listen on 127.0.0.1:{port}: Address already in use. "
        "Choose another port, or 0 for any that is free.\n"
    )


def test_a_unix_domain_socket_is_served_beside_the_port_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    with socket.socket(socket.AF_UNIX) as left_by_a_server_that_was_killed:
        left_by_a_server_that_was_killed.bind(str(path))

    with serving("retry-failed-subtask", "--uds", path) as server:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost") as client:
            over_the_socket = client.get(TASK, auth=("viewer", "viewer")).json()["data"]["id"]
            admin = client.get("/__admin/sandboxes/default")
        over_the_port = httpx.get(server.url + TASK, auth=("viewer", "viewer")).json()["data"]["id"]
        taken = run("serve", "--port", "0", "--uds", path)

    assert over_the_socket == over_the_port
    assert admin.status_code == 200
    assert taken.stderr == f"Error: cannot listen on {path}: Address already in use. Choose another path.\n"
    assert not path.exists()


def test_sandboxes_have_ports_of_a_range() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with serving("rollback", "--sandbox-ports", f"{port}-{port}") as server:
        sandboxes = f"{server.url}/__admin/sandboxes"
        first, second = (httpx.post(sandboxes, json={"name": name, "own_port": True}) for name in "ab")
        httpx.delete(f"{sandboxes}/a")
        third = httpx.post(sandboxes, json={"own_port": True})

    assert first.json()["urls"]["port"] == third.json()["urls"]["port"] == f"http://127.0.0.1:{port}"
    assert (second.status_code, f"none of the ports {port} to {port} is free" in second.text) == (409, True)


def test_a_signal_during_a_delayed_response_over_tls_leaves_no_traceback(tmp_path: Path) -> None:
    certificate(tmp_path, "127.0.0.1")
    file = file_of(tmp_path, "127.0.0.1")
    context = ssl.create_default_context(cafile=file)
    with serving("many-tasks", "--auth", "off", "--tls-cert", file) as server, ExitStack() as stack:
        faults, parts = f"{server.url}/__admin/sandboxes/default/faults", urlsplit(server.url)
        httpx.post(faults, json={"delay": "1h"}, verify=context).raise_for_status()
        plain = stack.enter_context(socket.create_connection((parts.hostname, parts.port)))
        client = stack.enter_context(context.wrap_socket(plain, server_hostname=parts.hostname))
        client.sendall(f"GET {TASKS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        httpx.get(faults, verify=context).raise_for_status()

        ended = server.stop(signal.SIGTERM)

    assert (ended.code, ended.stderr) == (0, "Cancel 1 running task(s), timeout graceful shutdown exceeded\n")


def test_a_server_speaks_tls_with_a_certificate(tmp_path: Path) -> None:
    certificate(tmp_path, "127.0.0.1")
    file = file_of(tmp_path, "127.0.0.1")

    with serving("retry-failed-subtask", "--tls-cert", file) as server:
        trusting = ssl.create_default_context(cafile=file)
        response = httpx.get(server.url + TASK, auth=("viewer", "viewer"), verify=trusting)

    assert (server.url[:8], response.status_code) == ("https://", 200)


def test_beside_a_unix_domain_socket_the_ports_of_sandboxes_speak_tls(tmp_path: Path) -> None:
    certificate(tmp_path, "127.0.0.1")
    path, file = tmp_path / "server.sock", file_of(tmp_path, "127.0.0.1")
    over_the_socket = httpx.HTTPTransport(uds=str(path))

    with serving("rollback", "--tls-cert", file, "--uds", path), httpx.Client(transport=over_the_socket) as client:
        created = client.post("http://127.0.0.1/__admin/sandboxes", json={"own_port": True}).json()
        answer = httpx.get(created["urls"]["port"] + TASK, verify=ssl.create_default_context(cafile=file))

    assert (created["urls"]["port"][:8], answer.status_code) == ("https://", 401)


def test_a_certificate_that_cannot_be_used_is_one_clear_message(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("no key")

    refused = [run("serve", "--port", "0", *words) for words in (("--tls-cert", key), ("--tls-key", key))]

    assert [item.returncode for item in refused] == [2, 2]
    assert refused[0].stderr.startswith(f"Error: cannot serve TLS with {key}: ")
    assert refused[1].stderr == "Error: --tls-key needs the certificate of that key: add --tls-cert.\n"


def test_options_of_a_server_come_from_the_environment_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ready"
    monkeypatch.setenv("OCEANMOCK_SCENARIOS", "rollback retry-failed-subtask")
    monkeypatch.setenv("OCEANMOCK_READY_FILE", str(file))
    monkeypatch.setenv("OCEANMOCK_PROGRESSION", "manual")
    monkeypatch.setenv("OCEANMOCK_SWITCH", "unknown_path=index error_code_not_found=4711")

    with serving() as server:
        missing = httpx.get(f"{server.url}{TASKS}/7", auth=("viewer", "viewer"), trust_env=False).json()
        (sandbox,) = httpx.get(f"{server.url}/__admin/sandboxes").json()["sandboxes"]
        ready = file.read_text()

    assert [scenario["name"] for scenario in sandbox["scenarios"]] == ["rollback", "retry-failed-subtask"]
    assert sandbox["progression"] == "manual"
    assert missing["error"]["code"] == 4711
    assert ready == f"{server.url}\n"
    assert not file.exists()


def test_a_server_that_is_asked_to_stops_with_the_process_that_started_it(tmp_path: Path) -> None:
    file = tmp_path / "ready"
    serve = shlex.join(
        [str(OCEANMOCK), "serve", "--port", "0", "--json", "--exit-with-parent", "--ready-file", str(file)]
    )
    script = f"{serve} & {OCEANMOCK} wait http://127.0.0.1:1 --timeout 1ms; until [ -e {file} ]; do :; done"

    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False)

    line = json.loads(ended.stdout)  # the end of the output is that of the last process that has it
    assert ended.stderr.startswith("Error: no oceanmock was ready within 1ms: ")
    assert (line["url"], line["token"]) == (f"http://127.0.0.1:{line['port']}", None)


def test_a_command_runs_beside_a_server_of_its_own() -> None:
    script = (
        f"{OCEANMOCK} wait && {OCEANMOCK} clock advance 10s && curl -sf -u viewer:viewer $OCEANMOCK_URL{TASK}; exit $1"
    )
    words = ("exec", "retry-failed-subtask", "--progression", "manual", "--", "bash", "-c", script, "-")

    passed, failed = run(*words, "0"), run(*words, "3")

    assert (passed.returncode, passed.stderr) == (0, "")
    assert '"status":"FAILED"' in passed.stdout
    assert failed.returncode == 3
    assert failed.stderr.startswith("oceanmock, sandbox default: 1 request\n")
    assert f"GET {TASK} by viewer, answered 200: FAILED/EXECUTE" in failed.stderr
    assert "Task 1000 “Reinstall OCP agent” is FAILED" in failed.stderr


def test_what_exec_cannot_run_is_one_clear_message() -> None:
    nothing, unknown = run("exec", "rollback"), run("exec", "rollback", "--", "/no/such/command")

    assert (nothing.returncode, unknown.returncode) == (2, 2)
    assert "give the command to run behind `--`" in nothing.stderr
    assert unknown.stderr == "Error: cannot run /no/such/command: No such file or directory.\n"


def test_an_unknown_scenario_is_one_clear_message() -> None:
    refused = run("serve", "--port", "0", "retry-faild-subtask")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "Error: there is no scenario 'retry-faild-subtask' in the library. Did you mean 'retry-failed-subtask'?\n"
    )


def test_a_broken_file_is_one_clear_message(tmp_path: Path) -> None:
    text = "summary: Broken\napi: ocp\ntasks:\n  - {name: A, subtasks: [a], age: 3}\n"
    (tmp_path / "broken.yaml").write_text(text)

    refused = run("serve", "--port", "0", "broken.yaml", folder=tmp_path)

    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "Error: broken.yaml:4:35: `age` of task 'A' is 3, "
        "which is not a duration such as 400ms, 1.9s, 2m or 1h30m (write 3s for seconds) "
        "[bad-duration]\n"
    )
