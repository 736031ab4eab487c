"""The registry of APIs: each record states what its contract states, and a third API fits in.

A third API is one folder and one entry of the registry: served, driven, administered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from oceanmock.api import Api
from oceanmock.apis import APIS, api_named, make_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.sandboxes import Sandboxes
from oceanmock.errors import InputError
from oceanmock.http.app import App
from oceanmock.http.server import Server
from oceanmock.openapi import operations_of
from toy_api.api import API
from toy_api.scenario import Job, Scenario

every_api = pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)


@every_api
def test_routes_are_the_operations_of_the_contract(api: Api) -> None:
    contract = {operation.id: operation.path for operation in operations_of(api.spec)}
    assert {route.id: route.path for route in api.routes} == contract


@every_api
def test_routes_and_kinds_refer_to_kinds_and_routes_of_the_api(api: Api) -> None:
    kinds = {kind.name for kind in api.kinds}
    for route in api.routes:
        assert {*route.ids, route.changes, route.lists, route.shows} <= kinds | {""}
        assert all(f"{{{parameter}}}" in route.path for parameter in route.ids.values())
    for kind in api.kinds:
        assert kind.parent in kinds | {""}
        assert kind.terminal_states <= set(kind.states)
        assert not kind.detail or kind.name in api.route(kind.detail).ids


@every_api
def test_an_api_is_found_by_its_name(api: Api) -> None:
    assert api_named(api.name) is api


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match="obshell"):
        api_named("obshel")


# --- a third API ----------------------------------------------------------------------------------

ADMIN = "/__admin/sandboxes/default"
SCENARIO = Scenario(
    summary="Two jobs",
    api="toy",
    progression="manual",
    jobs=(Job(id=1, name="build", seconds=5), Job(id=2, name="test", seconds=60)),
)


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """A client of a server that serves the toy beside OCP and obshell."""
    apis = (*APIS, API)
    app = App(Sandboxes(make_sandbox([SCENARIO], apis=apis)), apis=apis)
    with Server(app) as server, httpx.Client(base_url=server.url) as client:
        yield client


def advance(http: httpx.Client, seconds: int) -> None:
    http.post(f"{ADMIN}/clock/advance", json={"by": f"{seconds}s"}).raise_for_status()


def test_its_state_is_served_and_follows_the_clock(http: httpx.Client) -> None:
    before = http.get("/toy/jobs/1").json()
    advance(http, 5)

    after = http.get("/toy/jobs/1").json()

    assert (before["state"], after["state"]) == ("BUSY", "BROKEN")
    assert [job["state"] for job in http.get("/toy/jobs").json()["jobs"]] == ["BROKEN", "BUSY"]


def test_an_operation_changes_it_where_its_rules_allow_that(http: httpx.Client) -> None:
    advance(http, 5)

    answers = [http.post("/toy/jobs/1/retry") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 409]
    assert answers[0].json() == {"id": 1, "name": "build", "state": "BUSY", "operation": "RETRY"}
    advance(http, 5)
    assert http.get("/toy/jobs/1").json()["state"] == "DONE"


def test_its_errors_are_its_own(http: httpx.Client) -> None:
    assert http.get("/toy/jobs/9").json() == {"oops": "there is no task 9"}
    assert http.get("/toy/nothing").status_code == 404
    assert list(http.get("/toy/jobs/x").json()) == ["oops"]


def test_its_exchanges_are_in_the_journal(http: httpx.Client) -> None:
    http.get("/toy/jobs/1")
    http.post("/toy/jobs/1/retry")

    entries = http.get(f"{ADMIN}/journal").json()["entries"]

    assert [(entry["api"], entry["operation"], entry["status"]) for entry in entries] == [
        ("toy", "getJob", 200),
        ("toy", "retryJob", 409),
    ]


def test_the_admin_api_shows_creates_and_explains_its_tasks(http: httpx.Client) -> None:
    row: dict[str, Any] = {"api": "toy", "id": "2", "number": 2, "name": "test"}
    rows = http.get(f"{ADMIN}/tasks").json()["tasks"]
    advance(http, 5)
    http.post("/toy/jobs/1/retry")

    explanation = http.get(f"{ADMIN}/tasks/toy/1/explain", params={"format": "text"}).text

    assert rows[1] == row | {"state": "BUSY", "operation": "RUN"}
    assert explanation == "job 1 is BUSY after ['RETRY']\n"
    assert http.get(ADMIN).json()["jobs"] == 2
    assert http.get(f"{ADMIN}/tasks/toy/2").json()["parts"] == []


def test_a_reset_and_the_next_due_instant_include_it(http: httpx.Client) -> None:
    http.post(f"{ADMIN}/clock/next").raise_for_status()
    assert http.get("/toy/jobs/1").json()["state"] == "BROKEN"
    http.post("/toy/jobs/1/retry")

    http.post(f"{ADMIN}/reset").raise_for_status()

    assert http.get("/toy/jobs/1").json()["operation"] == "RUN"


def test_its_settled_state_shows_under_immediate_progression() -> None:
    sandbox = make_sandbox([SCENARIO], apis=(API,), progression="manual", starts_at=0)
    sandbox.advance(60 * SECOND)

    assert [item.state for item in sandbox.worlds["toy"].items()] == ["BROKEN", "BROKEN"]
