"""A recording of a real obshell told to the mock again: its requests, at its instants.

A scenario is made of the recording, and read as any scenario is; a dag is born when it was born
there, by the request that bore it if that was recorded. ``replayed`` asks what was asked, in order,
over HTTP and sealed as it was, and gives back the recorded answers beside the mock's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import httpx

from obshell_recordings import Exchange, exchanges_of
from obshell_replay_answers import renamed
from obshell_replay_requests import request_of
from obshell_replay_scenarios import (
    LIVES,
    WORLDS,
    World,
    asked_at,
    beginning_of,
    birth_of,
    history_of,
    scenario_text,
    starts_in,
)
from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.log import Create, MoveClock
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.store import MemoryStore, Store
from oceanmock.http.app import create_app
from oceanmock.library import read_scenario
from oceanmock.obshell.agent import Makes, ObshellStartsOn
from oceanmock.obshell.scenario import Dag, Scenario
from oceanmock.obshell.world import Dags
from shared_memory import replica_of

Json = dict[str, Any]
Stores = Callable[[], Sequence[Store]]
SERVED: dict[str, Scenario] = {}
"""The scenarios by their names; a store has no more than these, since no file has dags as the recorded ones began."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """An exchange with the answer that was recorded and the mock's, both renamed."""

    exchange: Exchange
    recorded: str
    mocked: str


@lru_cache
def replayed(file: str, stores: Stores = lambda: [MemoryStore()]) -> tuple[Replayed, ...]:
    """Every exchange of a file, asked again in order, of a server with each of some stores in turn."""
    return tuple(asyncio.run(_replayed(file, stores)))


async def _replayed(file: str, stores: Stores) -> list[Replayed]:
    answered: list[Replayed] = []
    for world, exchanges in _parts(file):
        first, *others = stores()
        stage = _stage(file, world, first)
        sandboxes = [stage.sandbox, *(replica_of(stage.sandbox, store) for store in others)]
        transports = [httpx.ASGITransport(create_app(each, wall=stage.sandbox.clock.now)) for each in sandboxes]
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(httpx.AsyncClient(transport=each, base_url="http://mock"))
                for each in transports
            ]
            key = (await clients[0].get("/api/v1/secret")).json()["data"]["public_key"]
            for number, exchange in enumerate(exchanges):
                instant = asked_at(exchange)
                stage.move_to(instant)
                mocked = await _asked(clients[number % len(clients)], file, exchange, public_key=key)
                rename = partial(renamed, are_lines_counted=file in ("join.json", "init.json"))
                recorded = rename(exchange.response, instant=exchange.instant)
                answered.append(Replayed(exchange, recorded, rename(mocked, instant=instant)))
    return answered


def _parts(file: str) -> Iterator[tuple[World, list[Exchange]]]:
    """Each world with the exchanges that took place in it."""
    starts = [beginning_of(file, world).number for world in WORLDS[file]]
    ends = [*starts[1:], len(exchanges_of(file))]
    for world, start, end in zip(WORLDS[file], starts, ends, strict=True):
        yield world, list(exchanges_of(file)[start:end])


@dataclass(frozen=True, slots=True)
class _Stage:
    """A sandbox, and the dags that are not born in it yet, each with its birth, in order."""

    sandbox: Sandbox
    scenario: Scenario
    start: int
    unborn: list[tuple[int, Dag]]

    def move_to(self, instant: int) -> None:
        self.sandbox.execute(MoveClock(instant))
        while self.unborn and self.unborn[0][0] <= instant:
            born, dag = self.unborn.pop(0)
            age = self.sandbox.clock.now() - born
            self.sandbox.execute(Create(Dags.api, _of_dags(self.scenario, dag.model_copy(update={"age": age}))))


def _stage(file: str, world: World, store: Store) -> _Stage:
    """The sandbox at the start of a world, with the dags that were born before."""
    scenario = read_scenario(scenario_text(file, world))
    assert isinstance(scenario, Scenario)
    start = asked_at(beginning_of(file, world))
    births = [birth_of(history_of(*each)) for each in LIVES[file]]
    starts = _starts(file, world)
    alive = tuple(dag for dag in scenario.dags if dag.age and dag.id not in starts)
    unborn = [
        (birth, dag) for birth, dag in zip(births, scenario.dags, strict=True) if not dag.age and dag.id not in starts
    ]
    templates = tuple(
        dag.model_copy(update=_started(str(dag.name), starts[dag.id])) for dag in scenario.dags if dag.id in starts
    )
    initial = _of_dags(scenario, *alive, *templates)
    sandbox = make_sandbox([initial], starts_at=start, seed=1, store=store)
    return _Stage(sandbox, scenario, start, unborn)


def _of_dags(scenario: Scenario, *dags: Dag) -> Scenario:
    """A scenario with other dags, and a name of its own."""
    other = scenario.model_copy(update={"dags": dags})
    other._name = f"replayed-{len(SERVED)}"
    SERVED[other.name] = other
    return other


def served_scenario(_: Json, *, path: str) -> Scenario:
    """The scenario of a name in a store."""
    return SERVED[path]


def _starts(file: str, world: World) -> dict[int, str]:
    """The dags that a request in this world starts, and where that goes."""
    (exchanges,) = (found for each, found in _parts(file) if each == world)
    targets = {each.request["target"] for each in exchanges}
    return {dag: target for dag, target in starts_in(file).items() if target in targets}


def _started(name: str, target: str) -> Json:
    """What makes a template of a dag, which keeps its recorded numbers."""
    if name != "Join self":
        return {"age": 0, "starts_on": ObshellStartsOn(path=target)}
    return {
        "age": 0,
        "starts_on": ObshellStartsOn(path=target, identity=("SINGLE",)),
        "makes": Makes(identity="MASTER"),
    }


async def _asked(client: httpx.AsyncClient, file: str, exchange: Exchange, *, public_key: str) -> Json:
    asked = exchange.request
    sent = request_of(file, exchange.label, asked, public_key=public_key, now_s=exchange.instant // SECOND)
    request = client.build_request(asked["method"], asked["target"], headers=sent.headers, content=sent.body or None)
    assert request.url.raw_path == asked["target"].encode()
    for _ in range(2 if exchange.label.endswith("replayed twice") else 1):
        answer = await client.send(request)
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    body = answer.json() if is_json and answer.content else answer.text
    return {"status": answer.status_code, "headers": dict(answer.headers), "body": body}
