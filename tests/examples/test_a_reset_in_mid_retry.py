"""The network fails while a client retries: the server has heard it, its answer never arrives.

A client that just asks again is refused, since the task is not FAILED any more. A good one looks
first.
"""

from collections.abc import Iterator

import httpx
import pytest

from oceanmock import Ocp

pytestmark = pytest.mark.oceanmock("retry-failed-task", progression="manual")


def retry(http: httpx.Client, task: int) -> None:
    """Retries a failed task once, whatever becomes of the answer."""
    while http.get(f"/{task}").json()["data"]["status"] == "FAILED":
        try:
            http.post(f"/{task}/retry").raise_for_status()
        except httpx.TransportError:
            continue  # it may have happened: look again


@pytest.fixture
def http(ocp: Ocp) -> Iterator[httpx.Client]:
    ocp.clock.advance("10m")
    with httpx.Client(base_url=f"{ocp.url}/api/v2/tasks/instances", auth=ocp.auth) as http:
        yield http


def test_a_retry_whose_answer_is_lost_has_happened(ocp: Ocp, http: httpx.Client) -> None:
    ocp.faults.add(operation="retryTask", calls=1, drop_response=True)

    retry(http, 5100)

    ocp.task(5100).assert_status("RUNNING")
    ocp.journal.assert_called("retryTask", times=1)


def test_a_retry_that_never_arrived_is_made_again(ocp: Ocp, http: httpx.Client) -> None:
    ocp.faults.add(operation="retryTask", calls=1, reset=True)

    retry(http, 5100)

    ocp.task(5100).assert_status("RUNNING")
    ocp.journal.assert_called("retryTask", times=2)


def test_asking_again_without_a_look_is_refused(ocp: Ocp, http: httpx.Client) -> None:
    ocp.faults.add(operation="retryTask", calls=1, drop_response=True)

    with pytest.raises(httpx.TransportError):
        http.post("/5100/retry")

    assert http.post("/5100/retry").status_code == 400
