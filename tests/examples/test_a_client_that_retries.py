"""A client that finds what failed, retries it once, and watches it to its end.

The scenario fails a subtask on its first run. Nobody waits: under `polls`, which is how tests run
unless they say otherwise, each look shows the next state.
"""

from typing import Any

import httpx
import pytest

from oceanmock import Ocp


class Client:
    """What a team's own client may look like."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def wait(self, task: int) -> dict[str, Any]:
        """The task, once it has come to an end."""
        while True:
            seen: dict[str, Any] = self.http.get(f"/{task}").raise_for_status().json()["data"]
            if seen["status"] != "RUNNING":
                return seen

    def bring_to_success(self, task: int) -> None:
        """Retries every subtask that has failed, and waits again."""
        for subtask in self.wait(task)["subtasks"]:
            if subtask["status"] == "FAILED":
                self.http.post(f"/{task}/subtasks/{subtask['id']}/retry").raise_for_status()
        self.wait(task)


@pytest.mark.oceanmock("retry-failed-subtask")
def test_what_failed_is_retried_and_nothing_else(ocp: Ocp) -> None:
    with httpx.Client(base_url=f"{ocp.url}/api/v2/tasks/instances", auth=ocp.auth) as http:
        Client(http).bring_to_success(1000)

    ocp.task(1000).assert_status("SUCCESSFUL")
    ocp.journal.assert_called("retrySubtask", times=1, subtask=1002)
    ocp.journal.assert_not_called("retryTask")
