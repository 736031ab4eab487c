"""A test that says itself what lives in its sandbox: a task, and what its subtasks do.

The builders are the words of scenario files; a plain name is a subtask that takes a second and
succeeds.
"""

from collections.abc import Iterator

import httpx
import pytest

from oceanmock import Ocp, fails, hangs, subtask, succeeds


def alarm(http: httpx.Client, task: int) -> str:
    """What a team is told of a failed task: the step, and the last line of its log."""
    seen = http.get(f"/{task}").json()["data"]
    failed = next(each for each in seen["subtasks"] if each["status"] == "FAILED")
    log = http.get(f"/{task}/subtasks/{failed['id']}/log").json()["data"]["log"]
    words = [line for line in log.splitlines() if not line.startswith(("#", "Set state"))]
    return f"{seen['name']}: {failed['name']} failed: {words[-1]}"


@pytest.fixture
def http(ocp: Ocp) -> Iterator[httpx.Client]:
    ocp.clock.set(progression="manual")
    with httpx.Client(base_url=f"{ocp.url}/api/v2/tasks/instances", auth=ocp.auth) as http:
        yield http


def test_an_alarm_says_what_the_log_says(ocp: Ocp, http: httpx.Client) -> None:
    task = ocp.task(
        "Install agent",
        ["Prepare host", subtask("Install package", fails(takes="3s", log=["unpacking", "disk full"])), "Start agent"],
    )

    ocp.clock.advance("1m")

    assert alarm(http, task.id) == "Install agent: Install package failed: disk full"


def test_a_retry_goes_on_where_it_failed(ocp: Ocp, http: httpx.Client) -> None:
    install = subtask("Install package", fails(log="disk full"), succeeds(takes="2s"))
    task = ocp.task("Install agent", ["Prepare host", install, "Start agent"])
    ocp.clock.advance("1m")

    http.post(f"/{task.id}/retry").raise_for_status()
    ocp.clock.advance("1m")

    task.assert_status("SUCCESSFUL")
    runs = {each["name"]: each["runTime"] for each in http.get(f"/{task.id}").json()["data"]["subtasks"]}
    assert runs == {"Prepare host": 1, "Install package": 2, "Start agent": 1}


def test_what_hangs_is_still_running_after_half_an_hour(ocp: Ocp) -> None:
    task = ocp.task("Collect statistics", [subtask("Gather", hangs())])

    ocp.clock.advance("30m")

    task.subtask("Gather").assert_status("RUNNING")
