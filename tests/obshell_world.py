"""Describe the obshell that tests use: a dag that fails at its second node, and requests to it.

Ticks are whole seconds from the sandbox's start; the clock stands until it is moved. Node 1 starts
at 1 s and succeeds at 2 s; node 2 starts at 3 s and fails, and the dag with it, at 4 s.
"""

from __future__ import annotations

from typing import Any, Final

import httpx

import obshell_client as client
from oceanmock.obshell.api import API
from served import SECOND, Ask, World

TASK: Final = "/api/v1/task"
LOCAL: Final = "2213070643302886"
"""What the ids of the agent 127.0.0.1:2886 begin with."""
FOREIGN: Final = "2016777216202886"
"""What those of 10.0.0.2:2886 begin with."""
DAG: Final = f"{TASK}/dag/{LOCAL}4"
NODE: Final = f"{TASK}/node/{LOCAL}402"
SUB_TASK: Final = f"{TASK}/sub_task/{LOCAL}40201"
LOGS: Final = f"{SUB_TASK}/logs"
UNKNOWN: Final = f"{TASK}/dag/{LOCAL}9"
KEYS: Final = client.AES_KEY + client.AES_IV

INIT: Final = """
summary: Initialize cluster fails at its second node
api: obshell
progression: manual
dags:
  - id: 4
    name: Initialize cluster
    maintenance: global
    nodes:
      - name: Integrate config
        can: [cancel, retry, rollback]
        sub_tasks: {takes: 7ms, log: get all agents}
      - name: Start observer
        can: [cancel, retry, rollback, pass]
        sub_tasks:
          takes: 9ms
          error: {message: "Unexpected error: exit status 127"}
          log: start observer
      - {name: Cluster boostrap, can: [cancel, retry, rollback]}
"""


def with_bodies(ask: Ask) -> Ask:
    """Return a function that asks, with the contract's example of a submit's body where a test gives none."""

    def asked(method: str, path: str, **options: Any) -> httpx.Response:
        body = {} if {"json", "content"} & options.keys() else API.submit_body(method, path)
        return ask(method, path, **({"json": body} if body else {}), **options)

    return asked


def world(dags: str, *, head: str = "", **options: Any) -> World:
    """Return a world of these dags (a list in YAML); ``head`` is further keys."""
    return World(f"summary: A\napi: obshell\n{head}\ndags: {dags}\n", **options)


def failed(text: str = INIT, **options: Any) -> World:
    """Return a world long after its dags have ended."""
    later = World(text, **options)
    later.advance(60 * SECOND)
    return later


def flagged(first: str, second: str, third: str) -> str:
    """A dag 4 whose nodes A, B and C can do this; B fails."""
    return f"""[{{id: 4, nodes: [
      {{name: A, can: [{first}]}},
      {{name: B, can: [{second}], sub_tasks: {{ends: FAILED}}}},
      {{name: C, can: [{third}]}}]}}]"""


def plain(world: World) -> Ask:
    """Serve a world that takes plain JSON without credentials."""
    return world.serve(auth=False)


def guarded(world: World) -> Ask:
    """Serve a world that needs credentials."""
    return world.serve()


def operate(ask: Ask, path: str, operator: str) -> httpx.Response:
    """Sends an operator to a dag or a node."""
    return ask("POST", path, json={"operator": operator})


def said(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, errCode and message of an error."""
    error = answer.json()["error"]
    return answer.status_code, error["errCode"], error["message"]


def ids(answer: httpx.Response) -> list[int]:
    """The numbers of the dags in a list, in order."""
    assert answer.status_code == 200, answer.text
    return [dag["dag_id"] for dag in answer.json()["data"]["contents"]]


NOT_FOUND: Final = (404, "Task.NotFound", "Task not found: record not found")
NO_MATCH: Final = (404, "Task.NotFound", "Task not found: dag id not match")
UNKNOWN_PATH: Final = (404, "Common.NotFound", "Element not found: 404 not found")
PANIC: Final = (500, "Common.Unexpected", "Unexpected error: Internal Server Error")
NOT_HELD: Final = (500, "Agent.OceanBase.NotHold", "Task not found: Agent is not holding OceanBase")


def sealed(
    ask: Ask, method: str, target: str, *, body: bytes = b"", name: str = "X-OCS-Header", **changed: Any
) -> httpx.Response:
    """Asks as the vendor's SDKs do, but for what is changed of the header.

    ``body`` is sent as it is; client.sealed_body makes one.
    """
    key = ask("GET", "/api/v1/secret").json()["data"]["public_key"]
    said = {"auth": "oceanmock", "ts": "9999999999", "uri": target, "keys": KEYS} | changed
    header = client.sealed_header(key, **said)
    return ask(method, target, headers={name: header}, content=body or None)
