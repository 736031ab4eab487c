"""A recording of a real obshell told to the mock again: its requests, at its instants.

A scenario is made of the recording, and read as any scenario is; a dag is born when it was born
there. ``replayed`` asks what was asked, in order, over HTTP and sealed as it was, and gives back
the recorded answers beside the mock's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import httpx

from obshell_recordings import Exchange, exchanges_of
from obshell_replay_answers import renamed
from obshell_replay_requests import request_of
from obshell_replay_scenarios import (
    LIVES,
    WORLDS,
    World,
    beginning_of,
    birth_of,
    life_of,
    scenario_text,
)
from oceanmock.app import create_app
from oceanmock.engine.sandbox import Sandbox
from oceanmock.lifecycle.obshell import SECOND
from oceanmock.reading import read_scenario
from oceanmock.scenario.obshell import Dag, Scenario

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Replayed:
    """An exchange with the answer that was recorded and the mock's, both renamed."""

    exchange: Exchange
    recorded: str
    mocked: str


@lru_cache
def replayed(file: str) -> tuple[Replayed, ...]:
    """Every exchange of a file, asked again in order."""
    return tuple(asyncio.run(_replayed(file)))


async def _replayed(file: str) -> list[Replayed]:
    answered: list[Replayed] = []
    for world, exchanges in _parts(file):
        stage = _stage(file, world)
        transport = httpx.ASGITransport(create_app(stage.sandbox, wall=stage.sandbox.clock.now))
        async with httpx.AsyncClient(transport=transport, base_url="http://mock") as client:
            key = (await client.get("/api/v1/secret")).json()["data"]["public_key"]
            for exchange in exchanges:
                stage.move_to(exchange.instant)
                mocked = await _asked(client, file, exchange, public_key=key)
                answers = (exchange.response, mocked)
                said = [renamed(answer, instant=exchange.instant) for answer in answers]
                answered.append(Replayed(exchange, *said))
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
        self.sandbox.clock.move_to(instant)
        while self.unborn and self.unborn[0][0] <= instant:
            born, dag = self.unborn.pop(0)
            first_tick = self.start + self.scenario.phase
            self.sandbox.dags.add(dag, born=born, tick=self.scenario.tick, first_tick=first_tick)


def _stage(file: str, world: World) -> _Stage:
    """The sandbox at the start of a world, with the dags that were born before."""
    scenario = read_scenario(scenario_text(file, world))
    assert isinstance(scenario, Scenario)
    start = beginning_of(file, world).instant
    births = [birth_of(life_of(*each)) for each in LIVES[file]]
    alive = tuple(dag for dag in scenario.dags if dag.age)
    unborn = [each for each in zip(births, scenario.dags, strict=True) if not each[1].age]
    scenario = scenario.model_copy(update={"dags": alive})
    sandbox = Sandbox.of_scenarios([scenario], starts_at=start, seed=1)
    return _Stage(sandbox, scenario, start, unborn)


async def _asked(
    client: httpx.AsyncClient, file: str, exchange: Exchange, *, public_key: str
) -> Json:
    asked = exchange.request
    sent = request_of(
        file, exchange.label, asked, public_key=public_key, now_s=exchange.instant // SECOND
    )
    request = client.build_request(
        asked["method"], asked["target"], headers=sent.headers, content=sent.body or None
    )
    assert request.url.raw_path == asked["target"].encode()
    for _ in range(2 if exchange.label.endswith("replayed twice") else 1):
        answer = await client.send(request)
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    body = answer.json() if is_json and answer.content else answer.text
    return {"status": answer.status_code, "headers": dict(answer.headers), "body": body}
