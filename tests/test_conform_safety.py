"""A run does no harm to a server that is not its own: what it does not ask, what it does not do, and how it says so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from conform_exchanges import exchange
from conform_results import shipped_for
from conform_servers import logged
from machine_world import served
from oceanmock.apis import APIS, make_sandbox
from oceanmock.checks import Exchange, Phase
from oceanmock.cli import main
from oceanmock.clock import SECOND
from oceanmock.conformance import INCOMPLETE, NotAllowed, Options, Result, http_client
from oceanmock.conformance.baseline import apply_baselines
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.reports import change_line
from oceanmock.conformance.reports.files import write_report
from oceanmock.conformance.run import ConformanceRun, conform
from oceanmock.conformance.target import check_tasks, reach
from oceanmock.credentials import Sealed
from oceanmock.engine.log import SetClock
from oceanmock.http.app import create_app
from oceanmock.http.server import Server
from oceanmock.library import load_scenario, read_scenario
from oceanmock.observations import Target
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
SLOW = pytest.mark.slow
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
    return apply_baselines(shipped_for("obshell", target.version), conform(target, options))


# --- who else is there ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", [pytest.param(0, marks=SLOW, id="MASTER"), pytest.param(1, id="FOLLOWER")])
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


@SLOW
@pytest.mark.parametrize("identity", ["CLUSTER AGENT", "SINGLE", "MASTER"])
def test_an_agent_alone_or_of_a_cluster_is_asked_for_ids_of_nothing(identity: str) -> None:
    with agents(identity) as (agent,):
        result = run(agent, PROBES)

    assert result.not_asked == []
    assert result.statuses["getDagDetail"][404] > 0


@SLOW
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


@SLOW
def test_every_phase_spares_two_agents() -> None:
    with agents("MASTER", "FOLLOWER") as pair:
        result = run(pair[0], Options(max_examples=2))

    assert [each.turns for each in pair] == [[], []]
    assert result.findings == []
    assert result.statuses["getNodeDetail"][200] > 0


# --- what cannot be undone ------------------------------------------------------------------------

INITIALIZE = """
summary: A dag whose third node fails again and again
api: obshell
dags:
  - id: 1
    name: Initialize cluster
    maintenance: global
    nodes:
      - {name: Integrate config, can: [cancel, continue, retry, rollback]}
      - {name: Create observer workdir, can: [cancel, continue, retry, rollback]}
      - {name: Start observer, can: [cancel, continue, pass, retry, rollback], sub_tasks: {ends: FAILED, log: trying}}
      - {name: Cluster boostrap, can: [cancel, continue, retry, rollback], sub_tasks: {ends: FAILED, log: trying}}
"""
ENDED = re.compile("SUCCEED/(RUN|ROLLBACK|PASS) at stage [0-9]")


def walked(
    seed: int, *, phases: frozenset[Phase] = frozenset({"machine"}), text: str = "", max_requests: int = 0
) -> tuple[Result, dict[str, Any]]:
    """A run with --write on dags that may be operated on in every way, and how the server has them in the end.

    The clock moves on with each read, as on a server whose time passes.
    """
    with served("obshell", read_scenario(text) if text else None) as world:
        world.app.sandboxes.default.execute(SetClock("polls"))
        ids = tuple(world.ids[::2])  # the others have no node that may be rolled back
        options = Options(write=True, tasks=ids, seed=seed, phases=phases, max_examples=2, timeout=400 * SECOND)
        options = replace(options, max_requests=max_requests)
        result = conform(replace(world.client.target, wait=lambda _: None), options)
        dags = {id: world.client.send("GET", f"/api/v1/task/dag/{id}").json()["data"] for id in ids}
    return result, dags


def never_stuck(seed: int, **options: Any) -> None:
    result, dags = walked(seed, **options)

    assert {id: text for id, text in result.left.items() if not ENDED.match(text)} == {}
    assert {dag["state"] for dag in dags.values()} == {"SUCCEED"}
    assert [id for id, dag in dags.items() if not result.left[id].startswith(f"{dag['state']}/{dag['operator']}")] == []


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=SLOW) for seed in range(1, 3))])
def test_a_walk_leaves_no_dag_stuck(seed: int) -> None:
    never_stuck(seed)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=SLOW) for seed in range(1, 4))])
def test_a_walk_does_not_cancel_the_rollback_of_a_dag_that_always_fails(seed: int) -> None:
    result, dags = walked(seed, text=INITIALIZE)

    (dag,), (left,) = dags.values(), result.left.values()
    labels = {(node["state"], node["operator"]) for node in dag["nodes"]}
    assert ENDED.match(left)
    assert dag["state"] == "SUCCEED"
    assert labels.isdisjoint({("PENDING", "CANCEL"), ("PENDING", "ROLLBACK")})
    assert {change_line(each, "obshell")[:8] for each in result.changes} >= {"dag.CANC", "dag.RETR"}


@SLOW
@pytest.mark.parametrize(
    "seed", [*range(3, 10), *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(10, 50))]
)
def test_nor_with_any_other_seed(seed: int) -> None:
    never_stuck(seed)


@SLOW
@pytest.mark.parametrize("seed", range(3))
def test_nor_does_any_other_phase(seed: int) -> None:
    never_stuck(seed, phases=Options().phases)


@SLOW
def test_what_a_walk_on_one_failed_dag_sees_does_not_depend_on_the_seed() -> None:
    accepted = {frozenset(change_line(each, "obshell")[:8] for each in walked(seed)[0].changes) for seed in range(8)}

    assert all({"dag.CANC", "dag.RETR", "node.PAS"} <= names for names in accepted)


@pytest.mark.parametrize("operator", ["CANCEL", "cancel"])
def test_a_rollback_is_not_cancelled(operator: str) -> None:
    with served("obshell") as world:
        client = HttpClient(world.client.target, Options(write=True, tasks=tuple(world.ids)))
        world.wait(60)
        path = f"/api/v1/task/dag/{world.ids[0]}"
        assert client.send("POST", path, json={"operator": "ROLLBACK"}).status == 200
        with pytest.raises(NotAllowed, match="being rolled back"):
            client.send("POST", path, json={"Operator": operator})
        world.wait(60)
        dag = client.send("GET", path).json()["data"]

    assert (dag["state"], dag["operator"]) == ("SUCCEED", "ROLLBACK")


HALF_UNDONE = """
summary: A dag whose rollback fails at its second node
api: obshell
dags:
  - id: 1
    name: Half undone
    maintenance: global
    nodes:
      - {name: Prepare, can: &all [cancel, pass, retry, rollback]}
      - {name: Change, can: *all, sub_tasks: {ends: FAILED, rollback: [{ends: FAILED}, {takes: 60s}]}}
      - {name: Finish, can: *all}
"""


def test_a_dag_that_is_retried_after_a_failed_rollback_is_not_cancelled_until_that_is_complete() -> None:
    with served("obshell", read_scenario(HALF_UNDONE)) as world:
        client = HttpClient(world.client.target, Options(write=True, tasks=tuple(world.ids)))
        path = f"/api/v1/task/dag/{world.ids[0]}"

        def operate(operator: str) -> None:
            world.wait(60)
            client.send("GET", path)
            client.send("POST", path, json={"operator": operator})

        for operator in ("ROLLBACK", "RETRY"):
            operate(operator)
        with pytest.raises(NotAllowed, match="or was in part"):
            client.send("POST", path, json={"operator": "CANCEL"})
        world.wait(2)
        client.send("GET", "/api/v1/task/dag/unfinish?show_details=false")
        dag = client.send("GET", path).json()["data"]
        with pytest.raises(NotAllowed, match="or was in part"):
            client.send("POST", path, json={"operator": "CANCEL"})

    assert (dag["state"], dag["operator"]) == ("RUNNING", "RUN")
    assert [(node["state"], node["operator"]) for node in dag["nodes"][:2]] == [
        ("PENDING", "ROLLBACK"),
        ("RUNNING", "RETRY"),
    ]


def test_reports_name_each_operator_and_how_each_dag_was_left(tmp_path: Path) -> None:
    result, _ = walked(0)
    for kind in ("html", "json", "junit"):
        write_report(kind, [result], tmp_path / kind)
    texts = [ConformanceRun(result).text(), *((tmp_path / kind).read_text() for kind in ("html", "json", "junit"))]

    for text in texts:
        assert "dag.CANCEL: POST /api/v1/task/dag/" in text
    for id, state in result.left.items():
        assert [f"left: dag {id}: {state}" in text or f'"state": "{state}"' in text for text in texts] == [True] * 4


# --- how much it asks -----------------------------------------------------------------------------


@pytest.mark.parametrize("phases", [{"probes", "fuzzing"}, pytest.param({"coverage", "fuzzing"}, marks=SLOW)])
def test_a_run_sends_no_more_requests_than_it_may_and_says_what_it_left_out(phases: set[Phase]) -> None:
    with agents("SINGLE") as (agent,):
        target = target_of(agent)
        before = agent.asked
        result = conform(target, Options(phases=frozenset(phases), max_requests=40))
        asked = agent.asked - before

    assert result.request_count == 40
    assert asked <= 42  # with key and identity
    assert (result.stopped, result.interrupted) == ("--max-requests 40", False)
    (not_asked,) = result.not_asked
    assert not_asked.what == f"the rest of {min(phases - {'fuzzing'})}, fuzzing"
    assert result.missing == []


def test_a_run_takes_no_longer_than_it_may() -> None:
    with agents("SINGLE") as (agent,):
        result = conform(target_of(agent), replace(PROBES, max_time=1))

    assert result.request_count == 0
    assert result.stopped == "--max-time 0.000001ms"
    assert result.exit_code == INCOMPLETE
    assert "stopped by --max-time 0.000001ms" in ConformanceRun(result).text()


@SLOW
def test_a_walk_that_is_ended_by_a_bound_leaves_no_dag_stuck() -> None:
    for most in range(4, 40, 5):
        result, dags = walked(0, text=INITIALIZE, max_requests=most)

        assert result.stopped == f"--max-requests {most}"
        assert {dag["state"] for dag in dags.values()} <= {"SUCCEED"} or not result.changes


def test_a_run_of_the_command_is_bounded_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    report = tmp_path / "run.json"
    with agents("SINGLE") as (agent,):
        words = ["conform", agent.url, "--api", "obshell", "--password", "right", "--phases", "probes"]
        ended = CliRunner().invoke(main, [*words, "--max-requests", "30", "--report", f"json={report}"])

    (run,) = json.loads(report.read_text())["runs"]
    assert (ended.exit_code, run["requests"], run["stopped"]) == (INCOMPLETE, 30, "--max-requests 30")
    assert [item["what"] for item in run["not_asked"]] == ["the rest of probes"]
    assert "--max-requests 30" in run["command"]


# --- what starts something ------------------------------------------------------------------------

STARTING = {
    "ocp": (
        "retry-failed-subtask",
        "tasks: [{name: Create tenant, starts_on: createTenant, subtasks: [Create]}]",
        ("--task", "1000", "--user", "manager", "--password", "manager"),
    ),
    "obshell": (
        "retry-failed-node",
        "dags: [{name: Create tenant, starts_on: tenantCreate, nodes: [Create]}]",
        ("--task", "221307064330288630", "--password", "oceanmock"),
    ),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("api", STARTING)
def test_a_full_run_with_write_sends_no_call_that_starts_something(api: str) -> None:
    name, template, options = STARTING[api]
    templates = read_scenario(f"summary: Something to start\napi: {api}\n{template}\n")
    sandbox = make_sandbox([load_scenario(name), templates], progression="polls")
    with logged(create_app(sandbox)) as proxy:
        words = ["conform", proxy.url, "--api", api, "--write", *options, "--max-examples", "3"]
        done = CliRunner().invoke(main, words)

    routes = next(record.routes for record in APIS if record.name == api)
    allowed = "|".join(re.sub(r"\{\w+\}", "[^/]*", route.path) for route in routes)
    sent = {path.partition("?")[0] for method, path in proxy.log if method not in ("GET", "HEAD")}
    assert done.exit_code in (0, 1, 3), done.output
    assert len(sent) > 1
    assert [path for path in sent if not re.fullmatch(allowed, path)] == []
