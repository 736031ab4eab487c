"""An async client that watches three tasks at once."""

import asyncio

import httpx
import pytest

from oceanmock import Ocp

THREE_TASKS = {
    "summary": "Three tasks, one of which fails",
    "api": "ocp",
    "tasks": [
        {"id": 1, "name": "Back up", "subtasks": ["Copy", "Verify"]},
        {"id": 2, "name": "Inspect", "subtasks": [{"name": "Scan", "attempts": {"ends": "FAILED"}}]},
        {"id": 3, "name": "Restart", "subtasks": ["Stop", "Start"]},
    ],
}


async def wait(http: httpx.AsyncClient, task: int) -> str:
    """The status a task comes to."""
    status = "RUNNING"
    while status == "RUNNING":
        status = (await http.get(f"/{task}")).json()["data"]["status"]
    return status


async def wait_for_all(ocp: Ocp, *tasks: int) -> list[str]:
    """The statuses that several tasks come to."""
    tasks_url = f"{ocp.url}/api/v2/tasks/instances"
    async with httpx.AsyncClient(base_url=tasks_url, auth=ocp.auth) as http:
        return await asyncio.gather(*(wait(http, task) for task in tasks))


@pytest.mark.oceanmock(THREE_TASKS)
def test_three_tasks_are_watched_at_once(ocp: Ocp) -> None:
    statuses = asyncio.run(wait_for_all(ocp, 1, 2, 3))

    assert statuses == ["SUCCESSFUL", "FAILED", "SUCCESSFUL"]
