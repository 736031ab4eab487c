"""Walks and stories against a server: what the phases that operate on tasks do, and what they find.

The walker operates in every way, on nothing but what it is given; sound servers pass. A scenario's story is replayed
with a target: its tasks are found there, and each step is reported. The target is the mock over a socket. Where its
clock stands it keeps the scenario's own times; elsewhere each state is waited for, and time passes when it is waited
for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, cast

import pytest

import mutants.obshell
from golden import assert_golden
from independent_ocp import Ocp
from machine_world import World, served, world_of
from oceanmock.conformance import ApiName, Options, StoryStep
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.mock import walk_scenario
from oceanmock.conformance.probes import LOOK, Walk, Walker
from oceanmock.conformance.run import Runner
from oceanmock.conformance.stories import DIVERGES, replay
from oceanmock.credentials import Basic
from oceanmock.engine.log import SetClock
from oceanmock.http.server import Server
from oceanmock.library import library_names, load_scenario, read_scenario
from oceanmock.observations import Target
from oceanmock.obshell.agent import Switches as ObshellSwitches
from oceanmock.obshell.conformance import CONFORMANCE, Knowledge
from oceanmock.ocp.scenario import Switches as OcpSwitches
from oceanmock.scenario import BaseScenario
from served import OF_TWO_AGENTS

APIS: list[ApiName] = ["ocp", "obshell"]

# --- walks of the mock, reset before each ---------------------------------------------------------


@cache
def after_walks(api: ApiName, seed: int = 0) -> tuple[World, Walker]:
    """Return a world after ten walks on each of its tasks, and their walker."""
    with served(api) as world:
        return world, world.walk(seed=seed, examples=10)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 10))])
@pytest.mark.parametrize("api", APIS)
def test_the_mock_passes_with_any_seed(api: ApiName, seed: int) -> None:
    world, _ = after_walks(api, seed)

    assert world.told() == []
    assert {each.status for each in world.client.result.changes} <= {200, 400, 500}


@pytest.mark.slow
@pytest.mark.parametrize("api", APIS)
def test_every_operation_is_accepted_and_refused(api: ApiName) -> None:
    _, report = after_walks(api)

    goals = {goal for goal, _ in report.operations} - {"RUN", "RESTART"}
    statuses = {goal: {s for g, s in report.operations if g == goal} & {200, 400} for goal in goals}
    assert statuses == {goal: {200, 400} for goal in goals}
    assert len(goals) == {"ocp": 5, "obshell": 4}[api]


@pytest.mark.slow
@pytest.mark.parametrize("api", APIS)
def test_every_response_of_a_walk_is_checked_against_its_expectation(api: ApiName) -> None:
    flags = {"ocp": "call.prohibited-accepted", "obshell": "call.flag-ignored"}[api]

    world, _ = after_walks(api)

    expected = {"call.illegal-accepted", "call.legal-refused", "error.status", flags}
    assert expected <= {rule for rule, _ in world.prober.checked}


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_flags_of_the_real_servers_own_dags_are_known() -> None:
    mutant = next(each for each in mutants.obshell.MUTANTS if each.name == "flags-ignored")

    with served("obshell", read_scenario(INITIALIZE), broken=mutant) as world:
        world.walk(knowledge=CONFORMANCE.knowledge(""))

    assert "call.flag-ignored" in world.rules


@pytest.mark.slow
@pytest.mark.parametrize("api", APIS)
def test_a_task_that_never_ends_does_not_stop_the_walks(api: ApiName) -> None:
    text = {
        "ocp": "tasks: [{id: 1, subtasks: [{attempts: {takes: forever}, timeout: 30d}]}]",
        "obshell": "dags: [{id: 1, nodes: [{timeout: 30d, sub_tasks: {takes: forever}}]}]",
    }[api]

    with served(api, read_scenario(f"summary: A\napi: {api}\n{text}\n")) as world:
        world.walk()

    assert world.told() == []


# --- one walk, where nothing can be reset ---------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(3, 10))]
)
@pytest.mark.parametrize("api", APIS)
def test_one_walk_on_a_server_whose_time_runs_finds_nothing(api: ApiName, seed: int) -> None:
    with served(api) as world:
        _let_time_run(world)
        _running(world, seed=seed, knowledge=world.knowledge).walk_server(world.ids)

    assert world.told() == []


@pytest.mark.slow
@pytest.mark.parametrize("api", APIS)
def test_a_walk_operates_on_nothing_but_what_it_is_given(api: ApiName) -> None:
    with served(api) as world:
        _let_time_run(world)
        given = world.ids[0]
        _running(world).walk_server([given], moves=30)
        targets = {each.target.split("/")[5] for each in world.client.result.changes}

    own = {"ocp": {given}, "obshell": {given, *(f"{given}{n:02}" for n in (1, 2, 3))}}[api]
    assert targets <= own


@pytest.mark.slow
def test_a_run_that_only_reads_cannot_operate() -> None:
    with served("ocp", write=False) as world:
        report = Walker(world.prober, world.wait)
        report.walk_server(world.ids)

    assert world.client.result.changes == []
    assert {status for _, status in report.operations} == {None}


@pytest.mark.slow
def test_a_refused_login_ends_the_walk_and_is_no_failure() -> None:
    with Server(Ocp()) as server:
        world = _independent(server.url, Basic("reader", "read0nly"))
        report = _running(world)
        report.walk_server(["1"])

    assert world.told() == []
    assert sum(report.operations.values()) == 1


@pytest.mark.slow
def test_a_response_of_a_busy_server_is_read_again() -> None:
    with served("ocp") as world:
        busy: Any = _BusyOnce(world.client)
        world.prober.client = busy
        walk = Walk(Walker(world.prober, world.wait), "1")

        walk.move(LOOK, 0, "none")

    assert (walk.is_over, walk.current and walk.current.id) == (False, "1")
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


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_an_independent_server_passes(seed: int) -> None:
    with Server(Ocp()) as server:
        world = _independent(server.url, Basic("operator", "s3cret"))
        _running(world, seed=seed).walk_server(TASKS)

    assert world.told() == []


@pytest.mark.slow
@pytest.mark.parametrize("api", APIS)
def test_a_scenario_for_walks_comes_along(api: ApiName) -> None:
    assert walk_scenario(api).api == api


def _let_time_run(world: World) -> None:
    """From now on each read moves the clock on, and so an operation may find another state."""
    world.app.sandboxes.default.execute(SetClock("polls"))


def _running(world: World, **options: Any) -> Walker:
    """One on a server whose time runs by itself; here, with each read."""
    return Walker(world.prober, lambda _: None, stands=False, timeout=400, **options)


def _independent(url: str, auth: Basic) -> World:
    return world_of(None, Target(url, "ocp", auth), TASKS, None, ours=TASKS)


# --- stories --------------------------------------------------------------------------------------

STORY = """
summary: A step fails, is retried, and then all is well
api: ocp
tasks:
  - id: 1000
    name: Reinstall agent
    subtasks:
      - {id: 1001, name: Prepare}
      - {id: 1002, name: Uninstall, attempts: [{takes: 2s, ends: FAILED}, {takes: 2s}]}
      - {id: 1003, name: Install}
story:
  - {until: {task: 1000, status: FAILED}}
  - {call: skipSubtask, task: 1000, subtask: 1001, answers: 400}
  - {call: retrySubtask, task: 1000, subtask: 1002}
  - {wait: 100ms}
  - {until: {task: 1000, subtask: Uninstall, status: RUNNING, operation: RETRY}}
  - {until: {task: 1000, status: SUCCESSFUL}}
"""
ELSEWHERE = """
summary: The same task, under other ids and in another order; and others of its name
api: ocp
tasks:
  - {id: 5, name: Reinstall agent, subtasks: [Another]}
  - id: 6
    name: Reinstall agent
    subtasks:
      - {id: 63, name: Install, needs: [Uninstall]}
      - id: 62
        name: Uninstall
        needs: [Prepare]
        attempts: [{takes: 7s, ends: FAILED}, {takes: 9s}]
      - {id: 61, name: Prepare, needs: []}
  - {id: 7, name: Another, subtasks: [Prepare, Uninstall, Install]}
"""
DAG = """
summary: A node fails, and is passed
api: obshell
dags:
  - id: 4
    name: Initialize
    nodes:
      - {name: Integrate, can: [pass]}
      - {name: Start, can: [pass], sub_tasks: {takes: 3s, ends: FAILED}}
      - {name: Finish, can: [pass]}
story:
  - {until: {dag: 4, stage: 2}}
  - {until: {dag: 4, node: Start, sub_task: 40201, state: FAILED}}
  - {until: {dag: 4, state: FAILED}}
  - {call: operateDag, dag: 4, operator: RETRY, answers: 400}
  - {call: operateNode, dag: 4, node: Start, operator: PASS}
  - {until: {dag: 4, state: SUCCEED, operator: RUN}}
"""
DAG_ELSEWHERE = DAG.replace("id: 4\n", "id: 9\n").partition("story:")[0]
NEVER_FAILS = STORY.replace(", attempts: [{takes: 2s, ends: FAILED}, {takes: 2s}]", "").partition("story:")[0]
ROLLBACK = """
summary: A task is rolled back
api: ocp
tasks:
  - {id: 1, name: Create, subtasks: [Prepare, {name: Make, attempts: {ends: FAILED}}]}
story:
  - {until: {task: 1, status: FAILED}}
  - {call: rollbackTask, task: 1}
  - {until: {task: 1, status: SUCCESSFUL, operation: ROLLBACK}}
"""
FORBIDS = ROLLBACK.replace("id: 1,", "id: 1, prohibit_rollback: true,").partition("story:")[0]


def client_of(
    world: World, *, is_ours: bool = False, ids: Mapping[str, str] | None = None, **options: Any
) -> HttpClient:
    """A client for stories of a world where time passes when it is waited for."""
    target = replace(world.client.target, wait=world.wait, is_ours=is_ours)
    own = replace(world.client.options, first=0, story_ids=tuple((ids or {}).items()), **options)
    client = HttpClient(target, own, world.client.result, checkers=world.client.checkers)
    client.guard.allows_everything |= world.client.guard.allows_everything
    return client


def told(world: World, story: BaseScenario, **options: Any) -> list[StoryStep]:
    """How a story goes there."""
    return replay(client_of(world, **options), story)


def failures(steps: list[StoryStep]) -> list[StoryStep]:
    """Those that did not hold."""
    return [step for step in steps if step.outcome != "passed"]


def lines(steps: list[StoryStep]) -> str:
    """The steps, to be read."""
    return "".join(f"{each.outcome}: {each.text} ({each.detail})\n" for each in steps)


# --- stories that hold ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*library_names()} - OF_TWO_AGENTS))
def test_every_story_of_the_library_is_lived_with_its_own_scenario(name: str) -> None:
    scenario = load_scenario(name)

    with served(cast("ApiName", scenario.api), scenario) as world:
        steps = told(world, scenario, is_ours=True)

    assert failures(steps) == []
    assert len(steps) == len(scenario.story)
    assert [f for f in world.client.result.findings if not f.rule.startswith("quirk.")] == []


@pytest.mark.parametrize("name", ["cancel-running-subtask", "rollback", "parallel-node", "cancelled-rollback"])
def test_a_story_is_also_lived_where_nobody_knows_when_things_are_due(name: str) -> None:
    scenario = load_scenario(name)

    with served(cast("ApiName", scenario.api), scenario) as world:
        steps = told(world, scenario)

    assert failures(steps) == []


@pytest.mark.parametrize(("story", "target"), [(STORY, ELSEWHERE), (DAG, DAG_ELSEWHERE)], ids=["ocp", "obshell"])
def test_tasks_and_their_parts_are_found_by_their_names(story: str, target: str) -> None:
    scenario, there = read_scenario(story), read_scenario(target)

    with served(cast("ApiName", scenario.api), there) as world:
        steps = told(world, scenario)
        asked = {each.target for each in world.client.result.changes}

    assert failures(steps) == []
    wanted = {"ocp": "/instances/6/subtasks/62/retry", "obshell": "22130706433028869"}
    assert any(wanted[scenario.api] in each for each in asked)


@pytest.mark.parametrize(
    "ids",
    [{"1000": "7"}, {"Reinstall agent": "7"}, {"1000": "7", "1002": "1", "Prepare": "2"}],
    ids=["by id", "by name", "parts that are not there"],
)
def test_an_id_that_is_given_is_taken(ids: Mapping[str, str]) -> None:
    with served("ocp", read_scenario(ELSEWHERE)) as world:
        client = client_of(world, ids=ids, timeout=0)
        steps = replay(client, read_scenario(STORY))

    assert steps[0].outcome == "failed"
    assert {each.target for each in client.exchanges} == {"/api/v2/tasks/instances/7"}


def test_an_id_that_is_given_to_a_run_is_taken() -> None:
    stories = (read_scenario(STORY, path="reinstall.yaml"),)
    options = Options(phases=frozenset(), stories=stories, story_ids=(("1000", "7"),), timeout=0)

    with served("ocp", read_scenario(ELSEWHERE)) as world:
        run = Runner(replace(world.client.target, wait=world.wait), options)
        run.go()

    assert run.result.stories["reinstall"][0].outcome == "failed"
    assert {each.target for each in run.client.exchanges} == {"/api/v2/tasks/instances/7"}


def test_a_part_that_is_given_is_taken() -> None:
    with served("ocp", read_scenario(ELSEWHERE)) as world:
        steps = told(world, read_scenario(STORY), ids={"1000": "6", "1001": "63", "1002": "62"})
        skipped = world.client.result.changes[0].target

    assert failures(steps) == []
    assert skipped.endswith("/subtasks/63/skip")


# --- stories that do not --------------------------------------------------------------------------


def test_a_story_that_diverges_says_where_and_what_shows_instead() -> None:
    with served("ocp", read_scenario(NEVER_FAILS)) as world:
        steps = told(world, read_scenario(STORY))

    assert [step.outcome for step in steps] == ["failed", *["not reached"] * 5]
    assert_golden("conform-story-diverges.txt", lines(steps))


def test_a_call_that_is_answered_otherwise_says_how() -> None:
    with served("ocp", read_scenario(FORBIDS)) as world:
        steps = told(world, read_scenario(ROLLBACK))

    assert_golden("conform-story-refused.txt", lines(steps))


def test_a_story_that_diverges_is_a_finding_with_the_answer_that_showed_it() -> None:
    with served("ocp", read_scenario(NEVER_FAILS)) as world:
        told(world, read_scenario(STORY))

    (finding,) = world.client.result.findings
    assert finding.rule == DIVERGES.id
    assert finding.exchange is not None
    assert finding.exchange.phase == "story"
    assert "SUCCESSFUL" in finding.exchange.response_body.decode()


@pytest.mark.parametrize("left_out", ["getTaskInstance", "listTaskInstances"])
def test_a_story_that_needs_a_read_that_is_left_out_says_so(left_out: str) -> None:
    with served("ocp", read_scenario(ROLLBACK)) as world:
        steps = told(world, read_scenario(ROLLBACK), excluded=frozenset({left_out}))

    assert [step.outcome for step in steps] == ["failed", "not reached", "not reached"]
    assert f"--exclude names {left_out}" in steps[0].detail


def test_what_does_not_come_is_waited_for_no_longer_than_the_timeout() -> None:
    never = NEVER_FAILS.replace("{id: 1003, name: Install}", "{name: Install, attempts: {takes: 50m}}")

    with served("ocp", read_scenario(never)) as world:
        steps = told(world, read_scenario(STORY), timeout=30_000_000_000)

    assert steps[0].outcome == "failed"
    assert "and is RUNNING/EXECUTE" in steps[0].detail
    assert 30_000_000_000 < steps[0].took < 36_000_000_000


def test_nobody_of_that_name_is_a_step_that_failed() -> None:
    with served("ocp") as world:
        steps = told(world, read_scenario(STORY))

    assert steps[0].detail == ("the target has no 'Reinstall agent' with the same parts: give its id.")


def test_what_may_not_be_sent_is_a_step_that_failed() -> None:
    with served("ocp", read_scenario(STORY), write=False) as world:
        steps = told(world, read_scenario(STORY))

    assert [step.outcome for step in steps[:3]] == ["passed", "failed", "not reached"]
    assert "was not sent" in steps[1].detail
    assert world.client.result.changes == []


def test_a_server_that_is_gone_is_a_step_that_failed() -> None:
    with served("ocp", read_scenario(STORY)) as world:
        pass

    steps = told(world, read_scenario(STORY), ids={"1000": "1000"})

    assert steps[0].outcome == "failed"
    assert "cannot be read" in steps[0].detail


# --- tasks that are started -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["create-tenant", "start-operations"])
def test_what_the_run_may_not_start_it_says_so(name: str) -> None:
    scenario = load_scenario(name)

    with served(cast("ApiName", scenario.api), scenario) as world:
        steps = told(world, scenario)

    (failed, *_) = failures(steps)
    assert failed.text.startswith("start ")
    assert "was not sent" in failed.detail


def test_what_somebody_else_has_started_is_taken_by_its_id() -> None:
    scenario = load_scenario("create-tenant")

    with served("ocp", scenario) as world:
        world.client.guard.allows_everything = True
        started = world.client.send("POST", "/api/v2/ob/clusters/1/tenants")
        ids = {"Create tenant": str(started.json()["data"]["id"])}
        steps = told(world, scenario, ids=ids)

    assert failures(steps) == []
    assert steps[1] == StoryStep("start 'Create tenant'", "passed", "already started: its id was given", 0)
