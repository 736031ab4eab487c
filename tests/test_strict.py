"""``oceanmock serve --strict``: what the contract does not have is refused, and a header says how it was broken."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from command import serving
from served import MANAGER

TASK = "/api/v2/tasks/instances/1000"
DAG = "/api/v1/task/dag/1"
JOIN = {"agentInfo": {"ip": "10.0.0.9", "port": 2886}, "zoneName": "zone1"}
HEADER = "x-oceanmock-violations"
SCENARIOS = ("retry-failed-subtask", "start-operations", "--auth", "off")


@pytest.fixture(scope="module")
def strict() -> Iterator[httpx.Client]:
    with serving(*SCENARIOS, "--strict") as server, httpx.Client(base_url=server.url, auth=MANAGER) as client:
        yield client


@pytest.fixture(scope="module")
def usual() -> Iterator[httpx.Client]:
    with serving(*SCENARIOS) as server, httpx.Client(base_url=server.url, auth=MANAGER) as client:
        yield client


@pytest.mark.parametrize(
    ("asked", "body", "said"),
    [
        (("GET", TASK + "?verbose=1"), None, "getTaskInstance does not have the query parameter verbose."),
        (
            ("GET", DAG + "?detail=true&show_details=true"),
            None,
            "getDagDetail does not have the query parameter detail.",
        ),
        (("POST", DAG), {"operator": "PASS", "force": {}}, "dagHandler does not have the body's force."),
        (("POST", "/api/v1/agent/join"), {**JOIN, "zone": 1}, "postAgentJoin does not have the body's zone."),
        (("POST", "/api/v1/agent/join?x=1"), JOIN, "postAgentJoin does not have the query parameter x."),
    ],
)
def test_what_the_contract_does_not_have_is_refused_only_when_strict(
    strict: httpx.Client, usual: httpx.Client, asked: tuple[str, str], body: object, said: str
) -> None:
    refused, answer = strict.request(*asked, json=body), usual.request(*asked, json=body)

    assert (refused.status_code, refused.headers.get(HEADER)) == (400, said)
    assert said in refused.json()["error"].get("debugMessage", refused.json()["error"]["message"])
    assert said not in answer.text
    assert HEADER not in answer.headers


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        (("GET", "/api/v2/tasks/instances/a%0D%0A%C3%A9", ""), 400, "taskInstanceId is not of the type int64."),
        (("PUT", TASK, ""), 405, f"{TASK} does not answer PUT. Allowed: GET."),
        (("POST", "/api/v1/agent/join", "{"), 400, "Bind JSON failed: EOF"),
    ],
)
def test_a_header_says_how_a_request_breaks_the_contract(
    strict: httpx.Client, usual: httpx.Client, asked: tuple[str, str, str], status: int, said: str
) -> None:
    refused, answer = (client.request(*asked[:2], content=asked[2]) for client in (strict, usual))

    assert (refused.status_code, refused.headers.get(HEADER)) == (status, said)
    assert (answer.status_code, answer.headers.get(HEADER)) == (status, None)


def test_the_header_has_ascii_and_no_line_break(strict: httpx.Client) -> None:
    answer = strict.get(TASK + "?a%0D%0Ax-b:%C3%A9=1")

    assert answer.headers[HEADER] == r"getTaskInstance does not have the query parameter a x-b:\xe9."
    assert "x-b" not in answer.headers


def test_a_request_as_the_contract_has_it_is_answered_as_ever(strict: httpx.Client, usual: httpx.Client) -> None:
    paths = (TASK, "/api/v2/tasks/instances?page=1&size=1", DAG + "?show_details=true", "/api/v2/tasks/instances/7")
    answers = [
        [(client.get(path).status_code, client.get(path).headers.get(HEADER)) for path in paths]
        for client in (strict, usual)
    ]

    assert answers[0] == answers[1] == [(200, None), (200, None), (400, None), (404, None)]
