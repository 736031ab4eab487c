"""A run does no harm to a server that is not its own: what it does not ask, what it does not do, and how it says so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from conform_exchanges import exchange
from oceanmock.apis import make_sandbox
from oceanmock.checks import Exchange
from oceanmock.conformance import http_client
from oceanmock.conformance.baseline import shipped_for
from oceanmock.conformance.model import NotAllowed, Options, Result
from oceanmock.conformance.run import conform
from oceanmock.conformance.target import Target, check_tasks, reach
from oceanmock.credentials import Sealed
from oceanmock.http.app import create_app
from oceanmock.http.server import Server
from oceanmock.library import read_scenario
from oceanmock.obshell.conformance import CONFORMANCE

DAGS = """
summary: An agent beside another
api: obshell
progression: manual
agent: {identity: IDENTITY, port: PORT, root_password: right}
dags:
  - {id: 7, name: Fails, maintenance: global, age: 1h,
     nodes: [{name: Fail, can: [retry], sub_tasks: [{ends: FAILED, log: trying}]}]}
"""
PROBES = Options(phases=frozenset({"probes"}))
MOST_TURNS = 30
"""After so many questions about a question the fakes stop, as real agents do when their time is up."""


@dataclass(slots=True)
class Agent:
    """A mock of an agent that asks another one for a dag that it does not have, as obshell does."""

    identity: str
    port: int
    url: str = ""
    other: Agent | None = None
    asked: int = 0
    hangs: bool = False
    """Whether what it asks for without end is not answered in time."""
    turns: list[str] = field(default_factory=list)
    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        path = scope["path"]
        self.asked += 1
        if b"x-turn" in headers:  # from the other agent
            await self._ask_other(path, int(headers[b"x-turn"]) + 1, send)
        elif path == "/api/v1/agents/status":
            await _send(send, 200, {"data": {f"127.0.0.1:{each.port}": each.status for each in self.all}})
        elif scope["method"] == "GET" and re.fullmatch("/api/v1/task/dag/[1-5][0-9]+", path):
            sent: list[Any] = []

            async def keep(message: Any) -> None:
                sent.append(message)

            await self.app(scope, receive, keep)
            text = sent[-1].get("body", b"").decode()
            if "record not found" in text or "NotHold" in text:
                await self._ask_other(path, 1, send)
                while self.hangs and (await receive())["type"] != "http.disconnect":
                    pass
            else:
                for message in sent:
                    await send(message)
        else:
            await self.app(scope, receive, send)

    async def _ask_other(self, path: str, turn: int, send: Any) -> None:
        if turn <= MOST_TURNS and self.other is not None:
            self.turns.append(path)
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get(self.other.url + path, headers={"X-Turn": str(turn)})
        if not self.hangs:
            await _send(
                send, 404, {"error": {"errCode": "Task.NotFound", "message": "Task not found: record not found"}}
            )

    @property
    def all(self) -> list[Agent]:
        return [self, *([self.other] if self.other else [])]

    @property
    def status(self) -> Any:
        return {"agent": {"ip": "127.0.0.1", "port": self.port, "identity": self.identity}, "obState": 0}


async def _send(send: Any, status: int, data: Any) -> None:
    envelope = {"successful": status < 400, "timestamp": "2026-01-01T00:00:00Z", "duration": 0, "status": status}
    body = json.dumps({**envelope, "traceId": "0123456789abcdef", **data}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def agents(*identities: str) -> Iterator[list[Agent]]:
    """One agent of each identity on a port of this machine; two are beside each other."""
    several = [Agent(identity, 2886 + place) for place, identity in enumerate(identities)]
    with ExitStack() as stack:
        for each in several:
            text = DAGS.replace("IDENTITY", each.identity).replace("PORT", str(each.port))
            each.app = create_app(make_sandbox([read_scenario(text)]))
            each.url = stack.enter_context(Server(each)).url
        for each in several[: len(several) - len(several) % 2]:
            each.other = next(other for other in several if other is not each)
        yield several


def target_of(agent: Agent) -> Target:
    return reach(agent.url, api="obshell", auth=Sealed("right"))


def run(agent: Agent, options: Options) -> Result:
    target = target_of(agent)
    return conform(target, options, baseline=shipped_for("obshell", target.version))


# --- who else is there ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1], ids=["MASTER", "FOLLOWER"])
def test_a_run_at_one_of_two_agents_does_not_make_them_ask_each_other(place: int) -> None:
    with agents("MASTER", "FOLLOWER") as pair:
        result = run(pair[place], PROBES)

    assert [each.turns for each in pair] == [[], []]
    assert pair[1 - place].asked == 0
    assert 100 < result.request_count < 600
    assert result.findings == []
    (not_asked,) = result.not_asked
    assert "404" in not_asked.what
    assert "dag.go:102-118" in not_asked.why
    assert {item.status for item in result.missing} == set()


@pytest.mark.parametrize("identity", ["SINGLE", "MASTER", "CLUSTER AGENT"])
def test_an_agent_alone_or_of_a_cluster_is_asked_for_ids_of_nothing(identity: str) -> None:
    with agents(identity) as (agent,):
        result = run(agent, PROBES)

    assert result.not_asked == []
    assert result.statuses["getDagDetail"][404] > 0


@pytest.mark.slow
def test_where_the_run_is_told_to_ask_the_first_harm_is_a_finding_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "READ_SECONDS", 2.0)

    with agents("MASTER", "FOLLOWER") as pair:
        pair[0].hangs = True
        result = run(pair[0], replace(PROBES, unknown_ids=True))

    (finding,) = [each for each in result.known if each.rule == "quirk.unknown-dag-is-asked-for-without-end"]
    assert "dag.go:102-118" in finding.message
    assert [each.rule for each in result.findings] == ["answer.none"]
    assert len(set(pair[0].turns)) == 1
    assert result.not_asked != []


@pytest.mark.parametrize("identity", ["CLUSTER AGENT", "SCALING OUT", ""])
def test_an_agent_without_an_open_connection_is_spared(identity: str) -> None:
    def read(path: str) -> Exchange:
        return exchange("GET", path, {"data": {"obState": 2}})

    assert CONFORMANCE.spares({"identity": identity, "own_address": ("127.0.0.1", 2886)}, read)


def test_a_dag_that_is_named_by_mistake_is_not_asked_for() -> None:
    with agents("MASTER", "FOLLOWER") as pair, pytest.raises(NotAllowed, match="no response has shown"):
        check_tasks(target_of(pair[0]), ["221307064330288699"])

    assert pair[0].turns == []


@pytest.mark.slow
def test_every_phase_spares_two_agents() -> None:
    with agents("MASTER", "FOLLOWER") as pair:
        result = run(pair[0], Options(max_examples=2))

    assert [each.turns for each in pair] == [[], []]
    assert result.findings == []
    assert result.statuses["getNodeDetail"][200] > 0
