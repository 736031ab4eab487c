"""``oceanmock serve`` reads its scenario files again: at SIGHUP, and by itself with --watch."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest

from command import Serving, run, serving

TEXT = "summary: One task\napi: ocp\ntasks:\n  - {{id: 1, name: {name}, subtasks: [{{name: a, timeout: {timeout}}}]}}\n"
WAYS = [("--switch=subtask_pairing=checked", signal.SIGHUP), ("--watch", 0)]
"""An option, and the signal that is sent after a change; 0 is none."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.format(name="Install", timeout="5s"))
    return path


def tasks_of(server: Serving, sandbox: str = "default") -> list[str]:
    tasks = httpx.get(f"{server.url}/__admin/sandboxes/{sandbox}/tasks").json()["tasks"]
    return [task["name"] for task in tasks]


def change(server: Serving, file: Path, by: int, **values: str) -> str:
    """Change the file, and return the first line that the server prints then."""
    file.write_text(TEXT.format(**values))
    server.process.send_signal(by)
    assert server.process.stderr is not None
    return server.process.stderr.readline()


@pytest.mark.parametrize(("option", "by"), WAYS)
def test_a_changed_file_is_served_and_a_mistake_in_it_changes_nothing(file: Path, option: str, by: int) -> None:
    served_path = file.parent if option == "--watch" else file
    with serving(served_path, option) as server:
        httpx.post(f"{server.url}/__admin/sandboxes", json={"name": "old", "scenarios": ["mine"]}).raise_for_status()

        reloaded = change(server, file, by, name="Remove", timeout="5s")
        refused = change(server, file, by, name="Repair", timeout="often")
        httpx.post(f"{server.url}/__admin/sandboxes", json={"name": "new", "scenarios": ["mine"]}).raise_for_status()
        served = tasks_of(server), tasks_of(server, "new"), tasks_of(server, "old")
        ended = server.stop(signal.SIGINT)

    assert reloaded == "Read again: mine\n"
    assert refused.startswith(f"The scenarios stay as they were. {file}:4:")
    assert served == (["Remove"], ["Remove"], ["Install"])
    assert (ended.code, ended.stderr.count("The scenarios stay")) == (0, 0)


def test_watching_needs_a_file() -> None:
    result = run("serve", "--watch")

    assert result.returncode == 2
    assert "give the scenario files that --watch reads again" in result.stderr


def test_a_file_that_the_scenario_names_is_watched_too(file: Path) -> None:
    part, page = file.with_name("_part.yaml"), file.with_name("page.html")
    part.write_text("one: {id: 1, name: Install, subtasks: [a]}\n")
    page.write_text("first")
    whole = "summary: One task\napi: ocp\ntasks:\n  - {include: _part.yaml#one}\n"
    file.write_text(f"{whole}faults: [{{operation: retryTask, status: 502, body_file: page.html}}]\n")
    changes = [
        (part, "one: {id: 1, name: Remove, subtasks: [a]}\n"),
        (page, "second"),
        (part, "one: {id: 1, name: Again, subtasks: [a]}\n"),
        (page, "third"),
    ]
    with serving(file, "--watch") as server:
        assert server.process.stderr is not None
        printed = []
        for path, text in changes:
            path.write_text(text)
            printed.append(server.process.stderr.readline())
        served = tasks_of(server)
        body = httpx.post(f"{server.url}/api/v2/tasks/instances/1/retry", auth=("manager", "manager")).text
        server.stop(signal.SIGINT)

    assert printed == ["Read again: mine\n"] * 4
    assert (served, body) == (["Again"], "third")
