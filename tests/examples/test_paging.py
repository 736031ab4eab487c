"""A client that reads a long list page by page, and misses nothing.

The scenario holds 2500 tasks in ten states of affairs.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from oceanmock import Ocp


def tasks(http: httpx.Client, *, size: int = 100, **filters: str) -> Iterator[dict[str, Any]]:
    """Every task that fits, whatever the number of pages."""
    page = pages = 1
    while page <= pages:
        answer = http.get("/api/v2/tasks/instances", params={"page": page, "size": size, "sort": "id,asc", **filters})
        data = answer.raise_for_status().json()["data"]
        yield from data["contents"]
        page, pages = page + 1, data["page"]["totalPages"]


@pytest.fixture
def http(ocp: Ocp) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=ocp.url, auth=ocp.auth) as http:
        yield http


@pytest.mark.oceanmock("many-tasks", progression="manual")
def test_every_task_is_met_once(ocp: Ocp, http: httpx.Client) -> None:
    ids = [task["id"] for task in tasks(http)]

    assert ids == sorted(set(ids))
    assert ids == [task.id for task in ocp.tasks()]
    ocp.journal.assert_called("listTaskInstances", times=-(-len(ids) // 100))


@pytest.mark.oceanmock("many-tasks", progression="manual")
def test_a_filter_holds_on_every_page(ocp: Ocp, http: httpx.Client) -> None:
    failed = list(tasks(http, size=200, status="FAILED"))

    assert {task["status"] for task in failed} == {"FAILED"}
    assert len(failed) == 500
    ocp.journal.assert_called("listTaskInstances", times=3)


def test_an_empty_list_is_one_page(ocp: Ocp, http: httpx.Client) -> None:
    assert list(tasks(http)) == []
    ocp.journal.assert_called("listTaskInstances", times=1)
