"""``oceanmock serve --cors``: pages of any origin may send requests."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from command import serving
from served import MANAGER

TASK = "/api/v2/tasks/instances/1000"
PAGE = {"Origin": "http://localhost:3000"}
TOKEN = {"X-Oceanmock-Token": "secret"}
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}


@pytest.fixture(scope="module")
def page() -> Iterator[httpx.Client]:
    """Return a client that sends a page's requests."""
    words = ("retry-failed-subtask", "--cors", "--admin-token", "secret")
    with serving(*words) as server, httpx.Client(base_url=server.url, headers=PAGE) as client:
        yield client


@pytest.mark.parametrize("path", [TASK, "/api/v1/task/dag/1", "/__admin/sandboxes", "/sandboxes/default" + TASK, "/"])
def test_a_preflight_needs_no_credentials(page: httpx.Client, path: str) -> None:
    answer = page.options(path, headers=PREFLIGHT)

    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, "*")
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Authorization" in answer.headers["access-control-allow-headers"]


def test_a_page_may_read_every_response(page: httpx.Client) -> None:
    answers = [
        page.get(TASK, auth=MANAGER),
        page.get(TASK, auth=MANAGER),
        page.get(TASK),
        page.get("/__admin/scenarios"),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 401, 401]
    assert {answer.headers["access-control-allow-origin"] for answer in answers} == {"*"}


def test_a_page_with_the_token_may_use_the_admin_api(page: httpx.Client) -> None:
    answer = page.post("/__admin/sandboxes", json={"name": "t1"}, headers=TOKEN)

    assert answer.status_code == 201


def test_other_requests_with_options_are_answered_as_ever(page: httpx.Client) -> None:
    assert page.options(TASK, auth=MANAGER).status_code == 405


def test_without_the_option_no_page_is_allowed() -> None:
    with serving("retry-failed-subtask") as server:
        answer = httpx.options(server.url + TASK, headers=PAGE | PREFLIGHT, auth=MANAGER)

    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers
