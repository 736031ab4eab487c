"""A client that rolls a failed task back, and does not take what follows for success.

OCP shows a task that was rolled back as SUCCESSFUL: the rollback was. Only its operation tells.
"""

from collections.abc import Iterator
from typing import Literal

import httpx
import pytest

from oceanmock import Ocp

Outcome = Literal["done", "undone", "failed"]


def outcome(http: httpx.Client, task: int) -> Outcome:
    """What came of a task, once it has come to its end."""
    while (seen := http.get(f"/{task}").json()["data"])["status"] == "RUNNING":
        pass
    if seen["status"] == "FAILED":
        return "failed"
    return "undone" if seen["operation"] == "ROLLBACK" else "done"


@pytest.fixture
def http(ocp: Ocp) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{ocp.url}/api/v2/tasks/instances", auth=ocp.auth) as http:
        yield http


@pytest.mark.oceanmock("rollback")
def test_a_rolled_back_task_is_undone_and_not_done(ocp: Ocp, http: httpx.Client) -> None:
    assert outcome(http, 5400) == "failed"

    http.post("/5400/rollback").raise_for_status()

    assert outcome(http, 5400) == "undone"
    ocp.task(5400).assert_status("SUCCESSFUL")


@pytest.mark.oceanmock("rollback", progression="manual")
def test_what_ran_last_is_undone_first(ocp: Ocp, http: httpx.Client) -> None:
    ocp.clock.advance("1m")
    http.post("/5400/rollback").raise_for_status()

    ocp.clock.advance("1.8s")

    statuses = {each["name"]: each["status"] for each in http.get("/5400").json()["data"]["subtasks"]}
    assert statuses == {
        "Create new unit config": "SUCCESSFUL",
        "Move units to it": "PENDING",
        "Drop old unit config": "PENDING",
    }
