"""The walker operates in every way, on nothing but what it is given; sound servers pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import mutants.obshell
from independent_ocp import Ocp
from machine_world import World, served, world_of
from oceanmock.conformance.model import Api
from oceanmock.conformance.target import Target
from oceanmock.conformance.walker import LOOK, Pace, Walk, WalkReport, walk_scenario, walk_server
from oceanmock.credentials import Basic
from oceanmock.engine.log import SetClock
from oceanmock.http.server import Server
from oceanmock.library import read_scenario
from oceanmock.obshell.conformance import CONFORMANCE, Knowledge
from oceanmock.obshell.scenario import Switches as ObshellSwitches
from oceanmock.ocp.scenario import Switches as OcpSwitches

APIS: list[Api] = ["ocp", "obshell"]

pytestmark = pytest.mark.slow


# --- the mock, reset before each walk -------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("api", APIS)
def test_the_mock_passes_with_any_seed(api: Api, seed: int) -> None:
    with served(api) as world:
        world.walk(seed=seed, examples=10)

    assert world.told() == []
    assert {each.status for each in world.client.changes} <= {200, 400, 500}


@pytest.mark.parametrize("api", APIS)
def test_every_operation_is_accepted_and_refused(api: Api) -> None:
    with served(api) as world:
        report = world.walk()

    goals = {goal for goal, _ in report.operations} - {"RUN", "RESTART"}
    statuses = {goal: {s for g, s in report.operations if g == goal} & {200, 400} for goal in goals}
    assert statuses == {goal: {200, 400} for goal in goals}
    assert len(goals) == {"ocp": 5, "obshell": 4}[api]


@pytest.mark.parametrize("api", APIS)
def test_every_response_of_a_walk_is_checked_against_its_expectation(api: Api) -> None:
    flags = {"ocp": "call.prohibited-accepted", "obshell": "call.flag-ignored"}[api]

    with served(api) as world:
        world.walk()

    expected = {"call.illegal-accepted", "call.legal-refused", "error.status", flags}
    assert expected <= world.prober.counts.keys()


@pytest.mark.parametrize(
    "switches",
    [
        OcpSwitches(subtask_retry_counts=True),
        OcpSwitches(retry_after_failed_rollback=True),
        OcpSwitches(subtask_pairing="checked"),
        OcpSwitches(error_code_illegal_state=4711, error_code_rollback_prohibited=4712),
    ],
    ids=lambda switches: "-".join(sorted(switches.model_fields_set)),
)
def test_what_no_text_decides_may_be_either_way(switches: OcpSwitches) -> None:
    with served("ocp", switches={"ocp": switches.model_dump()}) as world:
        world.walk()

    assert world.told() == []


@pytest.mark.parametrize(
    "switches",
    [
        ObshellSwitches(quirks_off=("all",)),
        ObshellSwitches(obshell_version="4.3.0.0"),
        ObshellSwitches(obshell_version="4.3.1.0"),
    ],
    ids=lambda switches: "-".join(map(str, switches.model_dump().values())),
)
def test_every_version_passes_with_quirks_and_without(switches: ObshellSwitches) -> None:
    version = switches.obshell_version
    with served("obshell", switches={"obshell": switches.model_dump()}, version=version) as world:
        world.walk()

    assert world.told() == []


def test_flags_that_are_not_known_may_be_either_way() -> None:
    with served("obshell") as world:
        world.walk(knowledge=Knowledge())

    assert world.told() == []


INITIALIZE = """
summary: The real dag's first nodes
api: obshell
dags:
  - id: 1
    name: Initialize cluster
    nodes:
      - {name: Integrate config, can: [cancel, continue, retry, rollback]}
      - {name: Modify password, can: [continue, retry, rollback], sub_tasks: {ends: FAILED}}
"""


def test_the_flags_of_the_real_servers_own_dags_are_known() -> None:
    mutant = next(each for each in mutants.obshell.MUTANTS if each.name == "flags-ignored")

    with served("obshell", read_scenario(INITIALIZE), broken=mutant) as world:
        world.walk(knowledge=CONFORMANCE.knowledge(""))

    assert "call.flag-ignored" in world.rules


@pytest.mark.parametrize("api", APIS)
def test_a_task_that_never_ends_does_not_stop_the_walks(api: Api) -> None:
    text = {
        "ocp": "tasks: [{id: 1, subtasks: [{attempts: {takes: forever}, timeout: 30d}]}]",
        "obshell": "dags: [{id: 1, nodes: [{timeout: 30d, sub_tasks: {takes: forever}}]}]",
    }[api]

    with served(api, read_scenario(f"summary: A\napi: {api}\n{text}\n")) as world:
        world.walk()

    assert world.told() == []


# --- one walk, where nothing can be reset ---------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("api", APIS)
def test_one_walk_on_a_server_whose_time_runs_finds_nothing(api: Api, seed: int) -> None:
    with served(api) as world:
        _let_time_run(world)
        walk_server(world.prober, world.ids, pace=_running(), seed=seed, knowledge=world.knowledge)

    assert world.told() == []


@pytest.mark.parametrize("api", APIS)
def test_a_walk_operates_on_nothing_but_what_it_is_given(api: Api) -> None:
    with served(api) as world:
        _let_time_run(world)
        given = world.ids[0]
        walk_server(world.prober, [given], pace=_running(), moves=30)
        targets = {each.target.split("/")[5] for each in world.client.changes}

    own = {"ocp": {given}, "obshell": {given, *(f"{given}{n:02}" for n in (1, 2, 3))}}[api]
    assert targets <= own


def test_a_run_that_only_reads_cannot_operate() -> None:
    with served("ocp", write=False) as world:
        report = walk_server(world.prober, world.ids, pace=world.pace)

    assert world.client.changes == []
    assert {status for _, status in report.operations} == {None}


def test_a_refused_login_ends_the_walk_and_is_no_failure() -> None:
    with Server(Ocp()) as server:
        world = _independent(server.url, Basic("reader", "read0nly"))
        report = walk_server(world.prober, ["1"], pace=_running())

    assert world.told() == []
    assert sum(report.operations.values()) == 1


def test_a_response_of_a_busy_server_is_read_again() -> None:
    with served("ocp") as world:
        busy: Any = _BusyOnce(world.client)
        world.prober.client = busy
        walk = Walk(world.prober, "1", pace=world.pace, report=WalkReport(), knowledge=None)

        walk.move(LOOK, 0, "none")

    assert (walk.is_over, walk.current.id) == (False, 1)
    assert busy.statuses == [429, 200]


class _BusyOnce:
    """A client whose first response is 429."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.statuses: list[int | None] = []

    def send(self, *args: Any, **options: Any) -> Any:
        exchange = self._client.send(*args, **options)
        if not self.statuses:
            exchange = replace(exchange, status=429)
        self.statuses.append(exchange.status)
        return exchange


# --- a server that shares nothing with the mock ---------------------------------------------------

TASKS = ("1", "2", "3", "4", "5", "6")


@pytest.mark.parametrize("seed", range(3))
def test_an_independent_server_passes(seed: int) -> None:
    with Server(Ocp()) as server:
        world = _independent(server.url, Basic("operator", "s3cret"))
        walk_server(world.prober, TASKS, pace=_running(), seed=seed)

    assert world.told() == []


@pytest.mark.parametrize("api", APIS)
def test_a_scenario_for_walks_comes_along(api: Api) -> None:
    assert walk_scenario(api).api == api


def _let_time_run(world: World) -> None:
    """From now on each read moves the clock on, and so an operation may find another state."""
    world.app.sandboxes.default.execute(SetClock("polls"))


def _running() -> Pace:
    """That of a server whose time runs by itself; here, with each read."""
    return Pace(lambda _: None, stands=False, timeout=400)


def _independent(url: str, auth: Basic) -> World:
    return world_of(None, Target(url, "ocp", auth), TASKS, None, ours=TASKS)
