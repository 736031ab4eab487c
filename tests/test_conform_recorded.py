"""What a real obshell answered, asked for again: nothing is found that the baseline does not know.

A replayer answers each recorded request with what was recorded, over a socket; the conformance run
asks them in their order, and every rule that is held against one answer, or against several, is
held against these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from obshell_recordings import Exchange, exchanges_of
from oceanmock.checks import Contract
from oceanmock.conformance.baseline import shipped_for
from oceanmock.conformance.checks import ResponseChecker
from oceanmock.conformance.history import HistoryChecker
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.model import Options
from oceanmock.conformance.target import Target
from oceanmock.http.server import Server
from oceanmock.openapi import load_spec, spec_path

pytestmark = pytest.mark.slow

FILES = (
    "lone.json",
    "auth.json",
    "password.json",
    "join.json",
    "init.json",
    "cancel.json",
    "pass.json",
    "pass-dag.json",
)
OWN = {"pass-dag.json": ("127.0.0.1", 2887)}
"""Whose answers a file has, where it is not the agent on 127.0.0.1:2886."""


@dataclass(slots=True)
class Replayer:
    """An ASGI app that gives one recorded answer after the other, and only to what was asked."""

    exchanges: tuple[Exchange, ...]
    given: int = 0
    strangers: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        recorded = self.exchanges[self.given]
        self.given += 1
        asked = f"{scope['method']} {_target(scope)}"
        if asked != f"{recorded.request['method']} {recorded.request['target']}":
            self.strangers.append(asked)
        body = recorded.response["body"]
        text = body if isinstance(body, str) else json.dumps(body)
        headers = [(n.encode(), v.encode()) for n, v in recorded.response["headers"].items()]
        start = {"type": "http.response.start", "status": recorded.response["status"]}
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})


def _target(scope: Any) -> str:
    query = scope["query_string"].decode()
    path: str = scope["raw_path"].decode()
    return f"{path}?{query}" if query else path


@contextmanager
def replayed(file: str) -> Iterator[tuple[Replayer, str]]:
    """A file's answers, served; where."""
    replayer = Replayer(exchanges_of(file))
    with Server(replayer) as server:
        yield replayer, server.url


def asked_again(file: str) -> HttpClient:
    """A file's requests, asked again, and what is found in their answers."""
    own = OWN.get(file, ("127.0.0.1", 2886))
    contract = Contract("obshell", load_spec(spec_path("obshell")))
    with replayed(file) as (replayer, url):
        target = Target(url, "obshell", _sealed, version="4.5.0.0", own_address=own)
        checkers = [ResponseChecker(contract), HistoryChecker(contract)]
        client = HttpClient(target, Options(write=True), checkers=checkers)
        client.guard.may_change_everything()
        for recorded in replayer.exchanges:
            _ask(client, recorded)
    assert replayer.strangers == []
    return client


def _sealed(request: Any) -> Any:
    """Stands where the sealed header did: the replayer opens nothing."""
    request.headers["X-OCS-Header"] = "sealed"
    return request


def _ask(client: HttpClient, recorded: Exchange) -> None:
    asked, how = recorded.request, recorded.request.get("how", {})
    said = asked.get("body")
    body = None if said is None else (said if isinstance(said, str) else json.dumps(said)).encode()
    client.send(
        asked["method"],
        asked["target"],
        body=body,
        auth=None if how.get("auth") == "none" else "default",
        expects_refusal=bool(how),
    )


@pytest.mark.parametrize("file", FILES)
def test_in_a_real_agents_answers_nothing_is_found_but_what_the_baseline_knows(file: str) -> None:
    baseline = shipped_for("obshell", "4.5.0.0")
    assert baseline is not None

    client = asked_again(file)

    unknown = [each for each in client.findings if not baseline.reason_for(each)]
    assert [(each.rule, each.breadcrumb, each.message) for each in unknown] == []
    assert client.asked == len(exchanges_of(file))


def test_what_the_baseline_knows_is_found_where_it_was_recorded() -> None:
    client = asked_again("lone.json")

    assert {each.rule for each in client.findings} == {
        "quirk.never-maintained-is-500",
        "quirk.no-oceanbase-is-500",
        "quirk.panic-is-dated-at-start",
        "quirk.refusal-is-never-sent",
        "quirk.status-has-no-trace-id",
        "quirk.unheld-cluster-id-is-500",
    }
