"""What conformance finds in an independent server, in the mock and in a real obshell's responses.

The independent server is the OCP of ``independent_ocp``, which shares no line with the mock. Every
look at one of its tasks moves that on: what a run waits for, it looks for again at once.
The mock is held to its own contracts, whatever it serves.
A replayer returns the responses of a real obshell; the run sends the recorded requests in their
order, and finds nothing that the baseline does not know.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from click.testing import Result as Ended

from conform_results import shipped_for
from independent_ocp import DEVIATIONS, Ocp
from obshell_recordings import Exchange, exchanges_of
from oceanmock.checks import Contract, Phase
from oceanmock.cli import main
from oceanmock.clock import SECOND
from oceanmock.conformance import PASSED, UNTESTABLE, ApiName, Options, Result
from oceanmock.conformance.baseline import apply_baselines, reason_for
from oceanmock.conformance.checks import ResponseChecker
from oceanmock.conformance.history import HistoryChecker
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.mock import WORLDS, conform_mock, load_scenarios, worlds_of
from oceanmock.conformance.run import conform
from oceanmock.conformance.target import Untestable, reach
from oceanmock.credentials import Basic
from oceanmock.errors import InputError
from oceanmock.http.server import Server
from oceanmock.library import load_scenario
from oceanmock.observations import Target
from oceanmock.openapi import load_spec, spec_path
from served import OF_TWO_AGENTS, SERVED_APART

pytestmark = pytest.mark.slow

OPERATOR, READER = Basic("operator", "s3cret"), Basic("reader", "read0nly")
TASKS = ("1", "2", "3", "4", "5", "6")
ALL: frozenset[Phase] = Options().phases
READ_ONLY_SHOWS = {
    "text code": "schema.type",
    "open door": "auth.missing-accepted",
    "missing executor": "schema.required",
    "deaf to status": "filter.ignored",
}
"""Deviations that somebody who only reads can see, and the rule that is meant for each."""
WRITING_SHOWS = READ_ONLY_SHOWS | {
    "eager retry": "call.illegal-accepted",
    "forward rollback": "rollback.order",
    "lost count": "count.not-bumped",
    "forgetful log": "log.rewritten",
}
"""Those that somebody who operates can see."""


@dataclass
class World:
    """The server, and where it is."""

    ocp: Ocp
    url: str

    @property
    def methods(self) -> set[str]:
        """The methods in its access log."""
        return {method for method, _ in self.ocp.asked}

    def run(self, *, write: bool = False, seed: int = 1, phases: frozenset[Phase] = ALL) -> Result:
        """What a run against it comes to."""
        target = replace(reach(self.url, api="ocp", auth=OPERATOR), read_only_auth=READER, wait=lambda _: None)
        options = Options(
            write=write, tasks=TASKS if write else (), seed=seed, max_examples=3, phases=phases, timeout=400 * SECOND
        )
        return conform(target, options)


@contextmanager
def served(*deviations: str) -> Iterator[World]:
    """The server, broken in some ways or in none."""
    ocp = Ocp(deviations=set(deviations))
    with Server(ocp) as server:
        yield World(ocp, server.url)


@cache
def after_a_run(*, write: bool) -> tuple[World, Result]:
    """A server that keeps the contract, and what a run came to there."""
    with served() as world:
        return world, world.run(write=write)


def told(result: Result) -> list[str]:
    """What is wrong with a result, to be read where a test fails."""
    lines = [f"{each.rule} {each.breadcrumb}: {each.message}" for each in result.findings]
    return lines + [f"missing: {each.operation} {each.status}" for each in result.missing]


# --- a server that keeps the contract -------------------------------------------------------------


@pytest.mark.parametrize("write", [False, True], ids=["read-only", "write"])
def test_a_server_that_keeps_the_contract_is_green_and_adequate(write: bool) -> None:
    _, result = after_a_run(write=write)

    assert told(result) == []
    assert result.exit_code == PASSED
    assert set(result.phases) == ALL - (set() if write else {"machine"})
    assert result.rules["schema.required"] > 100


def test_a_run_that_only_reads_leaves_nothing_but_gets_in_the_access_log() -> None:
    world, result = after_a_run(write=False)

    assert world.methods == {"GET"}
    assert result.changes == []
    assert len(world.ocp.asked) == result.request_count + 1  # and one to see whether it was let in


def test_a_run_that_writes_operates_on_nothing_but_what_it_was_given_and_what_is_nobodys() -> None:
    world, _ = after_a_run(write=True)

    theirs = {path.split("/")[5] for method, path in world.ocp.asked if method != "GET"}
    there = {id for id in theirs if id.isascii() and id.isdigit() and int(id) in world.ocp.tasks}
    assert there == set(TASKS)


# --- one that does not ----------------------------------------------------------------------------


@pytest.mark.parametrize(("deviation", "rule"), READ_ONLY_SHOWS.items())
def test_what_can_be_seen_is_found_by_who_only_reads(deviation: str, rule: str) -> None:
    with served(deviation) as world:
        result = world.run(phases=frozenset({"probes"}))

    assert rule in {each.rule for each in result.findings}, told(result)
    assert world.methods == {"GET"}


@pytest.mark.parametrize(("deviation", "rule"), WRITING_SHOWS.items())
def test_every_deviation_is_found_by_who_writes(deviation: str, rule: str) -> None:
    with served(deviation) as world:
        result = world.run(write=True, phases=frozenset({"probes", "machine"}))

    assert rule in {each.rule for each in result.findings}, told(result)


def test_every_deviation_that_there_is_has_its_rule() -> None:
    assert WRITING_SHOWS.keys() == DEVIATIONS.keys()


# --- who is not let in, and what is not there -----------------------------------------------------


def oceanmock(url: str, *words: str, api: ApiName = "ocp", password: str = "s3cret") -> Ended:
    who = ["--api", api, "--user", "operator", "--password", password]
    return CliRunner().invoke(main, ["conform", url, *who, *words])


@pytest.mark.parametrize("words", [(), ("--write", "--task", "1")], ids=["read-only", "write"])
def test_a_wrong_password_never_ends_in_success(words: tuple[str, ...]) -> None:
    with served() as world:
        ended = oceanmock(world.url, *words, password="guessed")
        asked = list(world.ocp.asked)

    assert ended.exit_code == UNTESTABLE
    assert "refuses the name and password of 'operator'" in ended.output
    assert asked == [("GET", "/api/v2/tasks/instances")], "once: who guesses is locked out"


def test_a_wrong_password_is_no_target() -> None:
    with served() as world, pytest.raises(Untestable, match="Bad credentials"):
        reach(world.url, api="ocp", auth=Basic("operator", "guessed"))


def test_a_target_that_is_down_is_untestable() -> None:
    with served() as world:
        gone = world.url

    ended = oceanmock(gone, "--connect-timeout", "0s")

    assert ended.exit_code == UNTESTABLE
    assert f"nothing responds at {gone}" in ended.output


def test_a_target_that_is_another_api_is_untestable() -> None:
    with served() as world:
        ended = oceanmock(world.url, api="obshell")

    assert ended.exit_code == UNTESTABLE


# --- the mock, held to its own contracts ----------------------------------------------------------


# --- the recorded responses of a real obshell -----------------------------------------------------


APIS: tuple[ApiName, ...] = ("ocp", "obshell")
OF_THE_CONTRACT: frozenset[Phase] = frozenset({"probes", "machine"})
"""The phases that find out by themselves what a server has; the others are tested with the kinds of servers."""
BRIEFLY: frozenset[Phase] = frozenset({"probes", "coverage", "machine"})


def names_of(api: ApiName) -> set[str]:
    return {each.name for each in load_scenarios() if each.api == api}


def run(api: ApiName, *names: str, phases: frozenset[Phase] = BRIEFLY) -> Result:
    options = Options(seed=1, max_examples=5, phases=phases)
    return apply_baselines(shipped_for(api, "4.5.0.0"), conform_mock(api, names, options))


def problems_of(result: Result) -> str:
    """What is wrong with a result, for whoever reads why a test failed."""
    lines = [f"{each.rule} {each.breadcrumb}: {each.message}" for each in result.findings]
    lines += [f"missing: {each.operation} {each.status}" for each in result.missing]
    for name, steps in result.stories.items():
        lines += [f"{name}: {s.text}: {s.detail}" for s in steps if s.outcome != "passed"]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("api", "phases"),
    [
        *((api, OF_THE_CONTRACT) for api in APIS),
        *(pytest.param(api, ALL, marks=pytest.mark.exhaustive) for api in APIS),
    ],
)
def test_all_scenarios_that_come_with_oceanmock_are_green_and_adequate(api: ApiName, phases: frozenset[Phase]) -> None:
    began = time.perf_counter()

    result = run(api, phases=phases)

    print(f"{api}: {result.request_count} requests in {time.perf_counter() - began:.1f} s")
    assert problems_of(result) == ""
    assert result.exit_code == PASSED
    assert set(result.stories) == names_of(api) - OF_TWO_AGENTS  # a run is of one
    assert set(result.phases) == phases | {"story"}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("api", "name"), [("ocp", "rollback-forbidden"), ("ocp", "many-tasks"), ("obshell", "start-operations")]
)
def test_each_scenario_by_itself_is_green_and_adequate(api: ApiName, name: str) -> None:
    """Those that are unlike the others: small, large, and of an agent of its own."""
    result = run(api, name)

    assert problems_of(result) == ""
    assert result.exit_code == PASSED
    assert set(result.stories) == {name}


def test_what_the_quirks_of_obshell_break_is_known_and_told() -> None:
    known = run("obshell", "join-agent", phases=frozenset({"probes"})).known

    assert {each.rule for each in known} >= {
        "quirk.missing-header-is-400",
        "quirk.unreadable-show-details-is-500",
        "quirk.no-oceanbase-is-500",
    }
    assert all(each.known for each in known)
    assert len({each.key for each in known}) == len(known)  # though two agents have them


def test_a_file_of_ones_own_is_run_as_well_and_its_faults_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "summary: Mine\napi: ocp\ntasks: [{id: 1, name: Mine, subtasks: [Do]}]\nfaults: [{name: outage, status: 500}]\n"
    )

    result = run("ocp", str(path), phases=frozenset({"probes"}))

    assert result.target == f"the mock: {path}"
    assert result.findings == []
    assert not any(counts[500] for counts in result.statuses.values())


def test_the_switches_of_a_scenario_are_the_worlds_too(tmp_path: Path) -> None:
    path = tmp_path / "checked.yaml"
    path.write_text(
        "summary: Checked\napi: ocp\nswitches: {subtask_pairing: checked}\n"
        "tasks: [{id: 1, name: Mine, subtasks: [Do]}]\n"
    )

    result = run("ocp", str(path), phases=frozenset({"probes", "machine"}))

    assert result.statuses["getSubtaskLog"][404]
    assert problems_of(result) == ""


def test_a_scenario_that_is_none_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'rollback-forbidden'"):
        run("ocp", "rollback-forbiden")


def test_what_agrees_is_served_together_and_what_does_not_apart() -> None:
    scenarios = [load_scenario(name) for name in sorted(names_of("obshell"))]

    worlds, apart = worlds_of("obshell", scenarios)

    assert [each.kind for each in worlds] == ["agent", "cluster"]
    assert [each.name for each in apart] == SERVED_APART
    assert len(worlds[0].scenarios) == len(scenarios) - len(SERVED_APART) + 1  # the world


def test_every_world_that_comes_with_oceanmock_is_one_of_an_api() -> None:
    worlds = [load_scenario(path) for path in sorted(WORLDS.glob("*.yaml"))]

    assert {world.api for world in worlds} == set(APIS)


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


class _OnceChecker(ResponseChecker):
    """A checker whose findings are not asked for again, as a recording has each response once."""

    compares = True


def asked_again(file: str) -> HttpClient:
    """A file's requests, asked again, and what is found in their answers."""
    own = OWN.get(file, ("127.0.0.1", 2886))
    contract = Contract("obshell", load_spec(spec_path("obshell")))
    with replayed(file) as (replayer, url):
        target = Target(url, "obshell", _sealed, version="4.5.0.0", own_address=own)
        checkers = [_OnceChecker(contract), HistoryChecker(contract)]
        client = HttpClient(target, Options(write=True), checkers=checkers)
        client.guard.allows_everything = True
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
    baselines = shipped_for("obshell", "4.5.0.0")

    client = asked_again(file)

    unknown = [each for each in client.result.findings if not reason_for(each, baselines)]
    assert [(each.rule, each.breadcrumb, each.message) for each in unknown] == []
    assert client.result.request_count == len(exchanges_of(file))


def test_what_the_baseline_knows_is_found_where_it_was_recorded() -> None:
    client = asked_again("lone.json")

    assert {each.rule for each in client.result.findings} == {
        "quirk.never-maintained-is-500",
        "quirk.no-oceanbase-is-500",
        "quirk.panic-is-dated-at-start",
        "quirk.refusal-is-never-sent",
        "quirk.status-has-no-trace-id",
        "quirk.unheld-cluster-id-is-500",
    }
