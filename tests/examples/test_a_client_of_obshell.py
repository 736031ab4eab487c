"""A client of obshell without the SDK: httpx, and an `auth` that seals what it sends.

obshell wants each request's credentials, and each body, encrypted with a key of its own;
`obshell.auth` does that. A dag that was written in code fails once and succeeds when retried.
"""

from collections.abc import Iterator

import httpx
import pytest

from oceanmock import Obshell, fails, node, sub_task, succeeds


@pytest.fixture
def http(obshell: Obshell) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{obshell.url}/api/v1/task", auth=obshell.auth) as http:
        yield http


def wait(http: httpx.Client, dag: str) -> str:
    """The state a dag comes to."""
    state = "READY"
    while state in {"READY", "RUNNING"}:
        state = http.get(f"/dag/{dag}").raise_for_status().json()["data"]["state"]
    return state


def test_a_failed_dag_is_retried(obshell: Obshell, http: httpx.Client) -> None:
    upgrade = node("Upgrade agent", fails(log="package is missing"), succeeds(), can=["retry"])
    dag = obshell.dag("Upgrade", ["Check agent", upgrade, "Restart agent"])
    assert wait(http, dag.id) == "FAILED"

    http.post(f"/dag/{dag.id}", json={"operator": "RETRY"}).raise_for_status()

    assert wait(http, dag.id) == "SUCCEED"
    obshell.journal.assert_called("dagHandler", body={"operator": "RETRY"}, times=1)


def test_one_agent_of_two_fails_a_stage(obshell: Obshell, http: httpx.Client) -> None:
    stage = node("Start observer", sub_tasks=[sub_task(succeeds()), sub_task(fails())])
    dag = obshell.dag("Start cluster", [stage])

    assert wait(http, dag.id) == "FAILED"

    sub_tasks = http.get(f"/dag/{dag.id}").json()["data"]["nodes"][0]["sub_tasks"]
    assert [each["state"] for each in sub_tasks] == ["SUCCEED", "FAILED"]
