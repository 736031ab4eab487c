"""A client that waits an hour at most, and cancels what hangs; the test takes no time.

The client sleeps by the sandbox's clock: `ocp.clock.sleep` stands in for `time.sleep`, and an hour
of the task's life is over in a moment.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest

from oceanmock import Ocp

pytestmark = pytest.mark.oceanmock("cancel-running-subtask", progression="manual")


def wait(http: httpx.Client, task: int, sleep: Callable[[float], None], *, seconds: float = 3600) -> str:
    """The status a task comes to; what still runs at the deadline is cancelled first."""
    for _ in range(int(seconds / 20)):
        seen = http.get(f"/{task}").json()["data"]
        if seen["status"] != "RUNNING":
            return str(seen["status"])
        sleep(20)
    for subtask in seen["subtasks"]:
        if subtask["status"] == "RUNNING":
            http.post(f"/{task}/subtasks/{subtask['id']}/cancel").raise_for_status()
    return wait(http, task, sleep, seconds=60)


@pytest.fixture
def http(ocp: Ocp) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{ocp.url}/api/v2/tasks/instances", auth=ocp.auth) as http:
        yield http


def test_what_hangs_is_cancelled_after_an_hour(ocp: Ocp, http: httpx.Client) -> None:
    began = ocp.clock.now()

    assert wait(http, 5800, ocp.clock.sleep) == "FAILED"

    ocp.journal.assert_called("cancelSubtask", subtask=5802, times=1)
    assert timedelta(hours=1) <= ocp.clock.now() - began < timedelta(hours=1, minutes=2)


def test_what_was_cancelled_can_be_retried(ocp: Ocp, http: httpx.Client) -> None:
    wait(http, 5800, ocp.clock.sleep)

    http.post("/5800/subtasks/5802/retry").raise_for_status()

    assert wait(http, 5800, ocp.clock.sleep) == "SUCCESSFUL"
