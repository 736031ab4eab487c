"""A client that retries three times, and then says why it gives up.

The scenario's subtask fails however often it is retried; its log says what is wrong.
"""

import httpx
import pytest

from oceanmock import Ocp


class GaveUpError(Exception):
    """A task that cannot be brought to success."""


def bring_to_success(http: httpx.Client, task: int, *, retries: int = 3) -> None:
    """Retries a task until it succeeds, so often at most."""
    for attempt in range(retries + 1):
        if attempt:
            http.post(f"/{task}/retry").raise_for_status()
        while (seen := http.get(f"/{task}").json()["data"])["status"] == "RUNNING":
            pass
        if seen["status"] == "SUCCESSFUL":
            return
    failed = next(each for each in seen["subtasks"] if each["status"] == "FAILED")
    log = http.get(f"/{task}/subtasks/{failed['id']}/log").json()["data"]["log"]
    raise GaveUpError(f"{failed['name']} failed after {failed['runTime']} runs:\n{log}")


@pytest.mark.oceanmock("never-succeeds")
def test_a_task_that_never_succeeds_is_given_up_after_three_retries(ocp: Ocp) -> None:
    client = httpx.Client(base_url=f"{ocp.url}/api/v2/tasks/instances", auth=ocp.auth)

    with client as http, pytest.raises(GaveUpError) as gave_up:
        bring_to_success(http, 5300)

    assert "Create resource pool failed after 4 runs" in str(gave_up.value)
    assert "Not enough CPU in zone2" in str(gave_up.value)
    ocp.journal.assert_called("retryTask", times=3)
    ocp.task(5300).assert_status("FAILED")
