"""A list over repeated tasks shows what reading every task shows, whatever the filter, the order and the page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract_file import ContractFile, component
from in_process import AFTERNOON, calls_in
from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.sandboxes import Sandboxes
from oceanmock.http.app import App
from oceanmock.library import read_scenario, scenario_of

TASKS = "/api/v2/tasks/instances"
MILLISECOND = SECOND // 1000
DAY = 86_400 * SECOND
Json = dict[str, Any]

SUBTASKS = st.one_of(
    st.integers(0, 9000).map(lambda takes: {"name": "Fails", "attempts": {"takes": f"{takes}ms", "ends": "FAILED"}}),
    st.integers(0, 90_000).map(lambda takes: {"name": "Works 100%s {n}", "attempts": {"takes": f"{takes}ms"}}),
    st.just({"name": "Root", "needs": [], "attempts": {"takes": "2500ms"}}),
)
NAMES = [
    *("Back up {n}", "Back up {n}, part 1", "Copy {n}x{n}", "{n}", "A{n}0", "Same"),
    *("1{n}-", "Straße {n}Z", "{n}1{n}", '100%d "{n}" \\\x00'),
]
EVERY = ["0s", "0s", "40ms", "700ms", "1s", "2500ms", "20s"]
PARTS = ["1", "12", "back UP", "up 1", "2, p", "x2", "0", "11", "STRASSE 1", "z", "2z", "same", "none"]
PROPERTIES = [
    *("id", "name", "status", "startTime", "finishTime"),
    *("type", "operation", "prohibitRollback", "createTime", "executor", "taskDefinitionId"),
]
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "status": st.lists(st.sampled_from(["RUNNING", "FAILED", "SUCCESSFUL", "ABORTED"]), min_size=1).map(",".join),
        "name": st.sampled_from(PARTS),
        "type": st.sampled_from(["MANUAL", "SYS_ONECE"]),
        "clusterName": st.sampled_from(["trade", "-B"]),
        "clusterId": st.integers(1, 2),
        "tenantId": st.just(7),
    },
)
FILTERS |= st.fixed_dictionaries({"clusterId": st.integers(1, 2), "tenantName": st.just("crm")})
SORTS = st.tuples(st.sampled_from(PROPERTIES), st.sampled_from(["asc", "desc"])).map(",".join)
OPERATIONS = ["retry", "rollback", "subtasks/{}/retry", "subtasks/{}/skip", "subtasks/{}/cancel"]
ROW = frozenset(("id", "name", "creator", "status", "startTime", "finishTime", "cluster", "tenant"))


@st.composite
def tasks(draw: st.DrawFn, first_id: int) -> Json:
    """A task that may repeat, and that is there from the start."""
    task: Json = {
        "name": draw(st.sampled_from(NAMES)),
        "type": draw(st.sampled_from(["MANUAL", "SYS_ONCE"])),
        "age": f"{draw(st.integers(500_000, 600_000))}ms",
        "subtasks": [{**part} for part in draw(st.lists(SUBTASKS, min_size=1, max_size=3))],
        "concurrency": draw(st.integers(1, 2)),
    }
    if draw(st.booleans()):
        task["id"] = first_id
    if draw(st.integers(0, 3)):
        task["repeat"] = {"count": draw(st.integers(1, 25)), "every": draw(st.sampled_from(EVERY))}
    if draw(st.booleans()):
        task["abandoned_after"] = "30s"
        task["subtasks"][-1]["prohibit_rollback"] = True
    if draw(st.booleans()):
        name = draw(st.sampled_from(["Trade", "trade-b"]))
        task["cluster"] = {"id": draw(st.integers(1, 2)), "name": name, "ob_cluster_id": 1}
        task["tenant"] = {"id": 7, "name": draw(st.sampled_from(["crm", "CRM"])), "ob_tenant_id": 1}
    return task


@st.composite
def scenarios(draw: st.DrawFn) -> Json:
    """A scenario of up to a hundred tasks from four templates."""
    number = draw(st.integers(1, 4))
    return {
        "summary": "Many tasks",
        "api": "ocp",
        "progression": "manual",
        "tick": draw(st.sampled_from(["1s", "1s", "300ms", "1001ms"])),
        "tasks": [draw(tasks(first_id=100 * place)) for place in range(1, number + 1)],
    }


@dataclass(slots=True)
class Client:
    """A client of one sandbox, in this process."""

    http: httpx.AsyncClient

    async def get(self, path: str = "", params: Mapping[str, Any] = MappingProxyType({})) -> Json:
        response = await self.http.get(f"{TASKS}{path}", params={**params})
        assert response.status_code == 200, response.text
        data: Json = response.json()["data"]
        return data

    async def every_task(self) -> list[Json]:
        """Every task as its own GET shows it, by ascending id."""
        rows = (await self.get(params={"size": 2000, "sort": "id,asc"}))["contents"]
        return [await self.get(f"/{row['id']}") for row in rows]


def fitting(tasks: list[Json], params: Mapping[str, Any]) -> list[Json]:
    return [task for task in tasks if fits(task, params)]


def fits(task: Json, params: Mapping[str, Any]) -> bool:
    """The filters, by what a task shows of itself."""
    cluster, tenant = task.get("cluster", {}), task.get("tenant", {})
    tests: dict[str, Callable[[Any], bool]] = {
        "status": lambda value: task["status"] in value.split(","),
        "name": lambda value: value.casefold() in task["name"].casefold(),
        "type": lambda value: task["type"] == value.replace("ONECE", "ONCE"),
        "clusterName": lambda value: value.casefold() in cluster.get("name", "").casefold(),
        "clusterId": lambda value: cluster.get("id") == value,
        "tenantName": lambda value: tenant.get("name") == value,
        "tenantId": lambda value: tenant.get("id") == value,
    }
    return all(tests[name](value) for name, value in params.items())


@pytest.mark.blackbox
@given(data=st.data(), scenario=scenarios())
def test_a_page_shows_what_reading_every_task_shows(data: st.DataObject, scenario: Json) -> None:
    seed = data.draw(st.integers(0, 9))
    sandbox = make_sandbox([scenario_of(scenario, path="many")], seed=seed, starts_at=AFTERNOON)
    app = App(Sandboxes(sandbox))
    count = sum(task.get("repeat", {}).get("count", 1) for task in scenario["tasks"])

    async def check() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://mock", auth=("manager", "manager")) as http:
            client = Client(http)
            repeated = [(data.draw(FILTERS), data.draw(SORTS)) for _ in range(3)]
            for _ in range(3):
                expected = await client.every_task()
                assert len(expected) == count
                for params, sort in [*repeated, *((data.draw(FILTERS), data.draw(SORTS)) for _ in range(4))]:
                    number, size = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 20))
                    await check_a_page(client, expected, params, sort, number=number, size=size)
                for _ in range(data.draw(st.integers(0, 4))):
                    await operate(client, data.draw(st.sampled_from(expected)), data)
                span = data.draw(st.one_of(st.none(), st.integers(0, 700_000)))
                if span is None:
                    await check_next_due(client, sandbox)
                else:
                    sandbox.advance(span * MILLISECOND)

    asyncio.run(check())


ENDING_AT_TURNS = """
summary: Tasks that end one after another
api: ocp
progression: manual
tasks:
  - {name: Third, age: 1s, subtasks: [{name: A, attempts: {takes: 9s}}]}
  - {name: Fails, age: 3s, subtasks: [{name: A, attempts: [{takes: 4s, ends: FAILED}, {takes: 2s}]}]}
  - {name: First, age: 2s, subtasks: [{name: A, attempts: {takes: 1s}}]}
  - name: Repeats {n}
    age: 4s
    repeat: {count: 2, every: 2s}
    subtasks: [{name: A, attempts: {takes: 5s, ends: FAILED}}]
"""


@pytest.mark.parametrize("params", [{}, {"status": "RUNNING"}, {"status": "FAILED,SUCCESSFUL"}, {"name": "f"}])
@pytest.mark.parametrize("sort", ["finishTime,asc", "status,desc", "name,asc", "id,desc"])
def test_a_list_that_is_read_again_shows_the_tasks_as_they_are(params: Json, sort: str) -> None:
    sandbox = make_sandbox([read_scenario(ENDING_AT_TURNS)], starts_at=AFTERNOON)
    transport = httpx.ASGITransport(App(Sandboxes(sandbox)))

    async def check() -> None:
        async with httpx.AsyncClient(transport=transport, base_url="http://mock", auth=("manager", "manager")) as http:
            client = Client(http)
            for _ in range(10):
                tasks = await client.every_task()
                await check_a_page(client, tasks, params, sort)
                for task in fitting(tasks, {"status": "FAILED"}):
                    await client.http.post(f"{TASKS}/{task['id']}/retry")
                await check_a_page(client, await client.every_task(), params, sort)
                sandbox.advance(2 * SECOND)

    asyncio.run(check())


REPEATED = """
summary: Repeated tasks in every state, with a name that needs escapes
api: ocp
progression: manual
tasks:
  - name: 'Ends {n} %d "x"'
    age: 80s
    repeat: {count: 40, every: 2s}
    subtasks: [{name: A, attempts: {takes: 15s, ends: FAILED}}, {name: B}]
  - name: Works
    age: 80s
    repeat: {count: 40, every: 2s}
    subtasks: [{name: A, attempts: {takes: 25s}}]
"""


def test_every_row_that_comes_from_one_format_is_as_the_contract_says() -> None:
    sandbox = make_sandbox([read_scenario(REPEATED)], starts_at=AFTERNOON)
    contract = ContractFile("ocp")

    async def read() -> list[Json]:
        transport = httpx.ASGITransport(App(Sandboxes(sandbox)))
        async with httpx.AsyncClient(transport=transport, base_url="http://mock", auth=("manager", "manager")) as http:
            page = await Client(http).get(params={"size": 100})
            return [*page["contents"]]

    rows = asyncio.run(read())
    assert {(row["name"][0], row["status"]) for row in rows} >= {("E", "FAILED"), ("E", "RUNNING"), ("W", "SUCCESSFUL")}
    assert [contract.problems(component("BasicTaskInstance"), row) for row in rows] == [[]] * 80


async def check_next_due(client: Client, sandbox: Sandbox) -> None:
    """Checks that no task changes before the next instant that is due, and that one does then."""
    due, before = sandbox.next_due(), await client.every_task()
    sandbox.advance(DAY if due is None else due - sandbox.clock.now() - 1)
    assert await client.every_task() == before
    if due is not None:
        sandbox.advance(1)
        assert await client.every_task() != before


async def operate(client: Client, task: Json, data: st.DataObject) -> None:
    """Requests an operation, allowed or not."""
    subtask = data.draw(st.sampled_from(task["subtasks"]))["id"]
    operation = data.draw(st.sampled_from(OPERATIONS)).format(subtask)
    response = await client.http.post(f"{TASKS}/{task['id']}/{operation}")
    assert response.status_code in (200, 400)


async def check_a_page(
    client: Client, tasks: list[Json], params: Mapping[str, Any], sort: str, *, number: int = 1, size: int = 20
) -> None:
    """Compares a page by some filters in some order with the tasks."""
    key, _, direction = sort.partition(",")
    expected = fitting(tasks, params)
    expected.sort(key=lambda task: task.get(key, ""), reverse=direction == "desc")

    page = await client.get(params={**params, "sort": sort, "page": number, "size": size})

    of_page = expected[(number - 1) * size : number * size]
    assert [row["id"] for row in page["contents"]] == [task["id"] for task in of_page]
    assert page["page"]["totalElements"] == len(expected)
    for row, task in zip(page["contents"], of_page, strict=True):
        parts = row.pop("subtasks")
        assert row == {name: task[name] for name in task if name in ROW}
        assert parts == [{name: part[name] for name in parts[0]} for part in task["subtasks"]]


def test_the_first_page_of_many_tasks_costs_hardly_more_than_the_next_ones() -> None:
    tasks = [{"name": f"t{number}", "subtasks": ["a"]} for number in range(1_000)]
    scenario = {"summary": "Many", "api": "ocp", "progression": "manual", "tasks": tasks}
    app = App(Sandboxes(make_sandbox([read_scenario(json.dumps(scenario))])))

    async def read(path: str) -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://mock", auth=("manager", "manager")
        ) as http:
            assert (await http.get(path)).status_code in {200, 404}

    asyncio.run(read(f"{TASKS}/1"))  # compiles the contract
    first, second = (calls_in(lambda: asyncio.run(read(f"{TASKS}?name=t1&sort=id,desc"))) for _ in range(2))
    assert first < 3 * second
