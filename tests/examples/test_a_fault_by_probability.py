"""Every third answer is a 503, by chance, and yet every run of the test is the same.

What a fault strikes by chance is drawn from the sandbox's seed: the same seed, the same calls.
"""

from collections.abc import Iterator

import httpx
import pytest

from oceanmock import Mock, Ocp


def wait(ocp: Ocp, task: int) -> str:
    """The status a task comes to; an answer that is no answer is asked for again."""
    with httpx.Client(base_url=f"{ocp.url}/api/v2/tasks/instances", auth=ocp.auth) as http:
        while True:
            answer = http.get(f"/{task}")
            if answer.status_code != 503 and answer.json()["data"]["status"] != "RUNNING":
                return str(answer.json()["data"]["status"])
            ocp.clock.sleep(2)


def unsteady(ocp: Ocp) -> Ocp:
    """The sandbox, whose server cannot always answer."""
    ocp.faults.add(name="overloaded", operation="getTaskInstance", status=503, probability=0.33)
    return ocp


@pytest.mark.oceanmock("retry-failed-subtask", seed=7)
def test_a_client_lives_with_a_server_that_cannot_always_answer(ocp: Ocp) -> None:
    assert wait(unsteady(ocp), 1000) == "FAILED"

    ocp.journal.assert_called(fault="overloaded", status=503, at_least=1)


@pytest.fixture
def twins(oceanmock_server: Mock) -> Iterator[tuple[Ocp, Ocp]]:
    one, other = (oceanmock_server.ocp("retry-failed-subtask", progression="manual", seed=7) for _ in range(2))
    yield unsteady(one), unsteady(other)
    one.close()
    other.close()


def test_the_same_seed_strikes_the_same_calls(twins: tuple[Ocp, Ocp]) -> None:
    one, other = twins

    wait(one, 1000)
    wait(other, 1000)

    statuses = [entry.status for entry in one.journal]
    assert statuses == [entry.status for entry in other.journal]
    assert {200, 503} == set(statuses)
