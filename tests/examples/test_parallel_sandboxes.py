"""Eight clients at once, each in a sandbox of its own on the one server: none sees another's.

Every test has its own sandbox anyway; a test that needs more makes them on the session's server.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from oceanmock import Mock, Ocp


def bring_to_success(ocp: Ocp) -> None:
    """A client's work in one sandbox."""
    with httpx.Client(base_url=f"{ocp.url}/api/v2/tasks/instances", auth=ocp.auth) as http:
        while http.get("/1000").json()["data"]["status"] != "FAILED":
            pass
        http.post("/1000/subtasks/1002/retry").raise_for_status()
        while http.get("/1000").json()["data"]["status"] != "SUCCESSFUL":
            pass


@pytest.fixture
def sandboxes(oceanmock_server: Mock) -> Iterator[list[Ocp]]:
    made = [oceanmock_server.ocp("retry-failed-subtask") for _ in range(8)]
    yield made
    for each in made:
        each.close()


def test_clients_in_sandboxes_of_their_own_do_not_meet(sandboxes: list[Ocp]) -> None:
    with ThreadPoolExecutor(len(sandboxes)) as pool:
        list(pool.map(bring_to_success, sandboxes))

    assert len({each.url for each in sandboxes}) == len(sandboxes)
    for each in sandboxes:
        each.task(1000).assert_status("SUCCESSFUL")
        each.journal.assert_called("retrySubtask", times=1)
