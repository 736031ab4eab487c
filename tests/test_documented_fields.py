"""The mock answers with exactly the documented fields: the contract lets a real server say more.

Every schema of the contract is closed for this, and every scenario of the library is lived through
state by state, with each answer on the way held to the closed schema of its operation and status.
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema_rs import Draft4Validator

from contract_file import ContractFile
from served import server

pytestmark = pytest.mark.slow

MANAGER, VIEWER, NOBODY = ("manager", "manager"), ("viewer", "viewer"), ("nobody", "?")
CONTRACT = ContractFile("ocp")
LIBRARY = sorted((Path(__file__).parents[1] / "scenarios").glob("[!_]*.yaml"))
OF_OCP = [
    path.stem
    for path in LIBRARY
    if "api: ocp\n" in path.read_text("utf-8") and path.stem != "take-over-cluster"  # which has no task at first
]


def closed(schema: Any, spec: Any) -> Any:
    """A schema with its references filled in, in which no object may have undocumented keys."""
    if isinstance(schema, list):
        return [closed(each, spec) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return closed(spec["components"]["schemas"][schema["$ref"].rpartition("/")[2]], spec)
    if "allOf" in schema:
        return closed(_merged([closed(part, spec) for part in schema["allOf"]], schema), spec)
    whole = {key: closed(value, spec) for key, value in schema.items()}
    return whole | {"additionalProperties": False} if "properties" in whole else whole


def _merged(parts: list[Any], schema: Any) -> Any:
    """One object for the several of an `allOf`: a closed one would refuse the others' keys."""
    rest = {key: value for key, value in schema.items() if key != "allOf"}
    merged: dict[str, Any] = {"properties": {}, "required": []}
    for part in copy.deepcopy([*parts, rest]):
        merged["required"] += part.pop("required", [])
        for name, value in part.pop("properties", {}).items():
            merged["properties"][name] = merged["properties"].get(name, {}) | value
        merged |= {key: value for key, value in part.items() if key != "additionalProperties"}
    return {key: value for key, value in merged.items() if value}


@cache
def validator(operation_id: str, status: int) -> Draft4Validator:
    response = CONTRACT.follow(CONTRACT.operations[operation_id]["responses"][str(status)])
    schema = response["content"]["application/json"]["schema"]
    return Draft4Validator(closed(schema, CONTRACT.document))


def operation_of(method: str, path: str) -> str:
    (found,) = (
        name
        for name, operation in CONTRACT.operations.items()
        if operation["method"] == method.lower() and re.fullmatch(re.sub(r"\{\w+\}", r"[^/]+", operation["path"]), path)
    )
    return str(found)


class Client:
    """Asks the app, and holds every answer to the closed schema of its operation and status."""

    def __init__(self, url: str) -> None:
        self.http = httpx.AsyncClient(base_url=url, verify=False, trust_env=False)
        self.seen: Counter[tuple[str, int]] = Counter()

    async def ask(self, method: str, tail: str = "", auth: tuple[str, str] = MANAGER) -> Any:
        path = f"/api/v2/tasks/instances{tail}"
        answer = await self.http.request(method, path, auth=auth)
        operation = operation_of(method, path.partition("?")[0])
        body = answer.json()
        errors = validator(operation, answer.status_code).iter_errors(body)
        assert [str(error) for error in errors] == [], (method, path, answer.text)
        self.seen[operation, answer.status_code] += 1
        return body


def calls_on(task: Any) -> Iterator[tuple[str, str]]:
    """Every call there is on a task, reads first."""
    yield "GET", f"/{task['id']}"
    for subtask in task["subtasks"]:
        yield "GET", f"/{task['id']}/subtasks/{subtask['id']}/log"
    for subtask in task["subtasks"]:
        for verb in ("cancel", "skip", "retry"):
            yield "POST", f"/{task['id']}/subtasks/{subtask['id']}/{verb}"
    yield "POST", f"/{task['id']}/rollback"
    yield "POST", f"/{task['id']}/retry"


async def live_through(name: str) -> Client:
    """Asks everything at many states of every task of a scenario."""
    client = Client(server().ocp(name, progression="polls").url)
    tenant = {"name": "orders", "mode": "MYSQL"}  # starts the task of create-tenant
    await client.http.post("/api/v2/ob/clusters/1/tenants", json=tenant, auth=MANAGER)
    for _ in range(25):
        page = await client.ask("GET", "?size=5")
        for task in page["data"]["contents"]:
            for method, tail in calls_on(task):
                await client.ask(method, tail)
    for auth in (VIEWER, NOBODY):
        for method, tail in calls_on(task):
            await client.ask(method, tail, auth)
    await client.ask("GET", "/999999999")
    await client.ask("GET", "/none")
    await client.http.aclose()
    return client


@pytest.mark.parametrize("name", OF_OCP)
def test_every_answer_has_exactly_the_documented_fields(name: str) -> None:
    client = asyncio.run(live_through(name))

    assert client.seen["getTaskInstance", 200] >= 25
    assert client.seen["retryTask", 403] >= 1
    assert client.seen["retryTask", 401] >= 1


def test_a_field_that_is_not_documented_would_be_noticed() -> None:
    task = {"data": {"isRemote": True}}

    errors = [error.message for error in validator("getTaskInstance", 200).iter_errors(task)]

    assert any("isRemote" in message for message in errors)
