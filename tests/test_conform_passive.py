"""`oceanmock conform --passive` judges what was recorded: a HAR file, or the output of `oceanmock journal --json`."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from click.testing import Result as Ended

import oceanmock
from oceanmock.cli import main

SECRET = "Basic bWFuYWdlcjptYW5hZ2Vy"
TASKS = "/api/v2/tasks/instances"
TARGETS = (f"{TASKS}?size=5", f"{TASKS}/2001", f"{TASKS}/2001", f"{TASKS}/99", f"{TASKS}?page=x")


@cache
def recorded() -> tuple[list[httpx.Response], str]:
    """What a mock of OCP answered to some reads, and its journal."""
    with oceanmock.running("reinstall-ocp-agent") as server:
        base = server.url
        id = httpx.get(f"{base}{TASKS}", headers={"Authorization": SECRET}).json()["data"]["contents"][0]["id"]
        targets = [target.replace("2001", str(id)) for target in TARGETS]
        responses = [httpx.get(base + target, headers={"Authorization": SECRET}) for target in targets]
        ended = CliRunner().invoke(main, ["journal", "--json", "--url", server.url, "--sandbox", server.name])
    return responses, ended.stdout


def har(**changes: Any) -> Any:
    """The HAR of what was recorded; ``task`` is put into the task by itself."""
    entries = list[Any]()
    for response in recorded()[0]:
        body = response.json()
        if "id" in (body.get("data") or {}):
            body["data"] |= changes
        content = {"size": 1, "mimeType": "application/json", "text": json.dumps(body)}
        request = {
            "method": "GET",
            "url": str(response.request.url).replace("/api/", "/behind/a/proxy/api/"),
            "headers": [{"name": "Authorization", "value": SECRET}],
        }
        headers = [{"name": name, "value": value} for name, value in response.headers.items()]
        answer = {"status": response.status_code, "headers": headers, "content": content}
        started = f"2026-01-01T00:00:{len(entries):02}.000Z"
        entries.append({"startedDateTime": started, "time": 1.5, "request": request, "response": answer})
    return {"log": {"version": "1.2", "entries": entries}}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every connection that is opened once the recording exists."""
    recorded()
    opened: list[str] = []

    def refuse(_: object, address: object) -> None:
        opened.append(str(address))
        raise OSError("no connection is opened here")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        yield opened
    assert opened == []


def judge(path: Path, *words: str) -> Ended:
    return CliRunner().invoke(main, ["conform", "--passive", str(path), *words])


def write(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["client.har", "journal.jsonl"])
def test_a_sound_recording_passes_and_nothing_is_sent(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, har() if name.endswith("har") else recorded()[1])

    ended = judge(path, "--report", f"json={tmp_path / 'run.json'}")

    assert ended.exit_code == 0, ended.output
    assert "PASSED" in ended.stdout
    assert ("judged  " in ended.stdout, "sent" in ended.stdout) == (True, False)
    (run,) = json.loads((tmp_path / "run.json").read_text())["runs"]
    statuses = {item["operation"]: item["statuses"] for item in run["operations"]}
    assert (statuses["listTaskInstances"]["400"], statuses["getTaskInstance"]["404"]) == (1, 1)
    assert (run["requests"], run["writes"], run["missing"]) == (5 + name.endswith("l"), False, [])


@pytest.mark.parametrize("encoding", ["", "base64"])
def test_a_planted_deviation_is_found(encoding: str, tmp_path: Path) -> None:
    broken = har(status="NOT A STATUS")
    for entry in broken["log"]["entries"] if encoding else ():
        content = entry["response"]["content"]
        content |= {"encoding": encoding, "text": base64.b64encode(content["text"].encode()).decode()}

    ended = judge(write(tmp_path / "client.har", broken))

    assert ended.exit_code == 1
    assert "schema.enum" in ended.stdout


def test_a_recording_is_judged_up_to_so_many_findings(tmp_path: Path) -> None:
    ended = judge(write(tmp_path / "client.har", har(status="NOT A STATUS")), "--max-failures", "1")

    assert ended.exit_code == 1, ended.output
    assert "stopped by --max-failures 1" in ended.stdout


def test_what_changes_between_two_exchanges_is_found(tmp_path: Path) -> None:
    changed = har()
    first, second = (entry["response"]["content"] for entry in changed["log"]["entries"][1:3])
    body = json.loads(first["text"])
    second["text"] = json.dumps({**body, "data": {**body["data"], "name": "Another"}})

    ended = judge(write(tmp_path / "client.har", changed))

    assert ended.exit_code == 1
    assert "kept.changed" in ended.stdout


def test_secrets_of_a_recording_are_in_no_report(tmp_path: Path) -> None:
    leaking = har(status="NOT A STATUS", note=SECRET.partition(" ")[2])
    kinds = ("html", "json", "junit")
    reports = [word for kind in kinds for word in ("--report", f"{kind}={tmp_path / kind}")]

    ended = judge(write(tmp_path / "client.har", leaking), *reports)

    texts = [ended.output, *((tmp_path / kind).read_text() for kind in kinds)]
    assert [SECRET.partition(" ")[2] in text for text in texts] == [False] * 4


def test_an_exchange_without_its_body_is_left_out_and_said(tmp_path: Path) -> None:
    cut = har()
    del cut["log"]["entries"][0]["response"]["content"]["text"]

    ended = judge(write(tmp_path / "client.har", cut))

    assert ended.exit_code == 0
    assert "1 of 5 exchanges" in ended.stdout


def test_two_servers_of_one_recording_have_nothing_in_common(tmp_path: Path) -> None:
    here, there = har()["log"]["entries"], har(name="Another")["log"]["entries"][1:]
    for entry in there:
        entry["request"]["url"] = "http://another" + entry["request"]["url"].partition(":")[2].partition("/behind")[2]

    ended = judge(write(tmp_path / "client.har", {"log": {"entries": here + there}}))

    assert ended.exit_code == 0, ended.output


def test_two_agents_of_a_journal_are_two(tmp_path: Path) -> None:
    entry = json.loads(recorded()[1].splitlines()[0]) | {"path": "/api/v1/status", "query": ""}
    body = entry["response_body"] | {"traceId": "1", "successful": True}
    rows = [
        entry
        | {
            "request_headers": [["host", f"127.0.0.1:{port}"]],
            "response_body": body | {"data": {"agent": {"ip": "127.0.0.1", "port": port}}},
        }
        for port in (2886, 2887)
    ]

    ended = judge(write(tmp_path / "two.jsonl", "\n".join(map(json.dumps, rows))), "--include", "agent.changed")

    assert ended.exit_code == 0, ended.output


def test_of_two_requests_at_once_either_may_be_answered_first(tmp_path: Path) -> None:
    slow = har(name="Renamed")["log"]["entries"][1] | {"time": 3000}
    quick = har()["log"]["entries"][2]

    ended = judge(write(tmp_path / "client.har", {"log": {"entries": [slow, quick]}}))

    assert ended.exit_code == 0, ended.output


def test_the_entries_of_a_har_have_no_order_but_their_times(tmp_path: Path) -> None:
    later = [{**item, "runTime": item["runTime"] + 1} for item in recorded()[0][1].json()["data"]["subtasks"]]
    first, second = har()["log"]["entries"][1], har(subtasks=later)["log"]["entries"][2]

    ended = judge(write(tmp_path / "client.har", {"log": {"entries": [second, first]}}), "--include", "count.went-down")

    assert ended.exit_code == 0, ended.output


def test_a_question_of_the_browser_itself_is_left_to_the_web_server(tmp_path: Path) -> None:
    asked = har()
    first = asked["log"]["entries"][0]
    preflight = {**first, "request": {**first["request"], "method": "OPTIONS"}}
    asked["log"]["entries"].insert(0, preflight | {"response": {"status": 200, "headers": [], "content": {"text": ""}}})

    ended = judge(write(tmp_path / "client.har", asked))

    assert ended.exit_code == 0, ended.output


def test_a_request_that_the_client_gave_up_is_left_out(tmp_path: Path) -> None:
    given_up = har()
    given_up["log"]["entries"][0]["response"] = {"status": 0, "headers": [], "content": {"size": 0}}

    ended = judge(write(tmp_path / "client.har", given_up))

    assert ended.exit_code == 0, ended.output
    assert "1 of 5 exchanges" in ended.stdout


def test_a_body_that_the_journal_has_cut_is_left_out(tmp_path: Path) -> None:
    first, *others = map(json.loads, recorded()[1].splitlines())
    cut = first | {"response_body": '{"data": ... (24959 more bytes)', "response_body_kind": "text"}

    ended = judge(write(tmp_path / "journal.jsonl", "\n".join(map(json.dumps, [cut, *others]))))

    assert ended.exit_code == 0, ended.output
    assert "1 of 6 exchanges" in ended.stdout


@pytest.mark.parametrize("words", [("--include", "getTaskInstance"), ("--include", "id.*", "--baseline", "ocp.yaml")])
def test_what_is_of_one_api_may_be_given_for_a_recording_of_both(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = har()
    both["log"]["entries"].append(json.loads(json.dumps(both["log"]["entries"][0]).replace(TASKS, "/api/v1/status")))
    monkeypatch.chdir(tmp_path)
    write(Path("ocp.yaml"), "api: ocp\nknown: []\n")

    ended = judge(write(tmp_path / "client.har", both), *words)

    assert ended.exit_code == 0, ended.output


BROKEN: Sequence[tuple[str, str]] = (
    ("", "has no exchange with"),
    ("{", "line 1 cannot be read"),
    ("[]", "line 1 cannot be read"),
    ('{"log": {}}', "it cannot be read"),
    ('{"log": {"entries": [{}]}}', "entry 1 cannot be read"),
    ('{"log": {"entries": []}}', "has no exchange with"),
    ('{"number": 1}', "line 1 cannot be read"),
)


@pytest.mark.parametrize(("text", "why"), BROKEN)
def test_a_broken_file_gives_one_message(text: str, why: str, tmp_path: Path) -> None:
    ended = judge(write(tmp_path / "broken.har", text))

    assert ended.exit_code == 2
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("words", [("--write",), ("--story", "x.yaml"), ("http://127.0.0.1:1",), ("--mock",)])
def test_what_would_send_something_is_refused(words: tuple[str, ...], tmp_path: Path) -> None:
    ended = judge(write(tmp_path / "client.har", har()), *words)

    assert ended.exit_code == 2
    assert "--passive" in ended.stderr
