"""A client that starts something, is given a task, and polls it to its end.

The scenario's task is born when its request comes, as often as it comes; each has an id of its own.
"""

from collections.abc import Iterator

import httpx
import pytest

from oceanmock import Ocp

pytestmark = pytest.mark.oceanmock("create-tenant")


def create_tenant(http: httpx.Client, name: str) -> int:
    """Has a tenant created; the id of the task that does it."""
    answer = http.post("/api/v2/ob/clusters/1/tenants", json={"name": name, "mode": "MYSQL"})
    task: int = answer.raise_for_status().json()["data"]["id"]
    return task


def wait(http: httpx.Client, task: int) -> str:
    """The status a task comes to."""
    status = "RUNNING"
    while status == "RUNNING":
        status = http.get(f"/api/v2/tasks/instances/{task}").json()["data"]["status"]
    return status


@pytest.fixture
def http(ocp: Ocp) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=ocp.url, auth=ocp.auth) as http:
        yield http


def test_a_tenant_is_created_at_the_second_attempt(ocp: Ocp, http: httpx.Client) -> None:
    task = create_tenant(http, "orders")
    assert wait(http, task) == "FAILED"

    http.post(f"/api/v2/tasks/instances/{task}/retry").raise_for_status()

    assert wait(http, task) == "SUCCESSFUL"
    ocp.journal.assert_called(method="POST", path="*/tenants", body={"name": "orders"}, times=1)


def test_each_request_starts_a_task_of_its_own(ocp: Ocp, http: httpx.Client) -> None:
    first, second = create_tenant(http, "orders"), create_tenant(http, "billing")

    assert first != second
    assert [task.id for task in ocp.tasks()] == sorted([first, second])
