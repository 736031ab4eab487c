"""Several tests of one sandbox: what it is costly to bring about is brought about once.

`ocp` and `obshell` are new for each test. A fixture of a class or a module makes its sandbox on the
session's server; a test that fails tells its journal all the same.
"""

from collections.abc import Iterator

import httpx
import pytest

from oceanmock import Mock, Ocp

FAILED = 1002


@pytest.fixture(scope="module")
def failed(oceanmock_server: Mock) -> Iterator[Ocp]:
    """A sandbox in which a task has failed; the tests only look."""
    with oceanmock_server.ocp("retry-failed-subtask", progression="manual") as ocp:
        ocp.task(1000).until("FAILED")
        yield ocp


@pytest.fixture
def http(failed: Ocp) -> Iterator[httpx.Client]:
    url = f"{failed.url}/api/v2/tasks/instances"
    with httpx.Client(base_url=url, auth=failed.viewer) as http:
        yield http


def test_a_task_says_which_subtask_has_failed(http: httpx.Client) -> None:
    subtasks = http.get("/1000").json()["data"]["subtasks"]

    assert [each["id"] for each in subtasks if each["status"] == "FAILED"] == [FAILED]


def test_the_log_says_why(http: httpx.Client) -> None:
    log = http.get(f"/1000/subtasks/{FAILED}/log").json()["data"]["log"]

    assert "Connection refused" in log


def test_who_may_only_look_cannot_retry(http: httpx.Client) -> None:
    assert http.post(f"/1000/subtasks/{FAILED}/retry").status_code == 403
