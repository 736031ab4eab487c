"""Assertions on what a client has asked: rules about requests, not about mock objects.

Where one does not hold, its message shows what was expected beside the nearest thing that came.
"""

from collections.abc import Iterator

import httpx
import pytest

from oceanmock import Ocp

pytestmark = pytest.mark.oceanmock("retry-failed-subtask", progression="manual")


@pytest.fixture
def http(ocp: Ocp) -> Iterator[httpx.Client]:
    ocp.clock.advance("10m")
    with httpx.Client(base_url=f"{ocp.url}/api/v2/tasks/instances", auth=ocp.auth) as http:
        yield http


def test_a_client_looks_before_it_retries(ocp: Ocp, http: httpx.Client) -> None:
    http.get("/1000")
    http.post("/1000/subtasks/1002/retry")

    asked = [entry.operation for entry in ocp.journal]
    assert asked == ["getTaskInstance", "retrySubtask"]
    ocp.journal.assert_called("retrySubtask", task=1000, subtask=1002, status=200, times=1)


def test_who_may_only_look_is_refused_and_changes_nothing(ocp: Ocp, http: httpx.Client) -> None:
    answer = http.post("/1000/subtasks/1002/retry", auth=ocp.viewer)

    assert answer.status_code == 403
    ocp.journal.assert_called("retrySubtask", caller="viewer", status="4xx")
    ocp.task(1000).assert_status("FAILED")


def test_an_expectation_that_is_not_met_says_what_came_nearest(ocp: Ocp, http: httpx.Client) -> None:
    http.post("/1000/subtasks/1001/retry")

    with pytest.raises(AssertionError) as told:
        ocp.journal.assert_called("retrySubtask", subtask=1002, times=1)

    assert "1001" in str(told.value)
