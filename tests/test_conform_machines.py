"""The machines find what is wrong with a server, and nothing that is not.

Each broken server is the mock with one thing wrong, asked over a socket; time there is the
sandbox's, and passes when the machine waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

import mutants.obshell
import mutants.ocp
from conform_exchanges import changed, dag_of_the_recording, example, exchange
from golden import assert_golden
from independent_ocp import Ocp
from machine_mutants import OBSHELL, OCP
from machine_world import World, served
from mutants.bending import Mutant
from oceanmock.checks import Exchange
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.machines import (
    RULES_OF_MACHINES,
    Codes,
    Known,
    Pace,
    Played,
    known_flags,
    load_world,
    walk_once,
)
from oceanmock.conformance.machines.base import Act, Look, Notes
from oceanmock.conformance.machines.obshell import ObshellWalk, read_dag
from oceanmock.conformance.machines.ocp import OcpWalk, read_task
from oceanmock.conformance.model import Api, Options
from oceanmock.conformance.target import Target
from oceanmock.credentials import Basic
from oceanmock.engine.log import SetClock
from oceanmock.http.server import Server
from oceanmock.library import read_scenario
from oceanmock.obshell.scenario import Switches as ObshellSwitches
from oceanmock.ocp.scenario import Switches as OcpSwitches

pytestmark = pytest.mark.slow

APIS: list[Api] = ["ocp", "obshell"]

KILLED_BY = {
    ("ocp", "any-retry"): "machine.illegal",
    ("ocp", "any-rollback"): "machine.illegal",
    ("ocp", "any-skip"): "machine.illegal",
    ("ocp", "cancel-of-what-waits"): "machine.illegal",
    ("ocp", "run-time-not-counted"): "machine.count",
    ("ocp", "retry-stays-failed"): "machine.parent",
    ("ocp", "skip-that-runs"): "machine.effect",
    ("ocp", "cancel-that-does-nothing"): "machine.cancel",
    ("ocp", "rollback-all-at-once"): "machine.rollback-order",
    ("ocp", "rollback-though-forbidden"): "machine.prohibited",
    ("ocp", "relapse"): "machine.terminal",
    ("ocp", "end-without-a-time"): "machine.finish-time",
    ("ocp", "one-code-for-all"): "machine.refusal-code",
    ("obshell", "any-operator"): "machine.illegal",
    ("obshell", "flags-ignored"): "machine.flag",
    ("obshell", "retry-stays-failed"): "machine.parent",
    ("obshell", "cancel-that-does-nothing"): "machine.effect",
    ("obshell", "pass-that-waits"): "machine.effect",
    ("obshell", "runs-not-counted"): "machine.count",
    ("obshell", "rollback-from-the-start"): "machine.rollback-order",
    ("obshell", "relapse"): "machine.terminal",
    ("obshell", "one-err-code-for-all"): "machine.refusal-code",
}
"""Servers that others are held to as well; and the machines' own rule for each."""


def _broken() -> Iterator[Any]:
    for mutant in (*mutants.ocp.MUTANTS, *mutants.obshell.MUTANTS):
        rule = KILLED_BY.get((mutant.api, mutant.name))
        if rule is not None:
            yield pytest.param(mutant, rule, id=f"{mutant.api}-{mutant.name}")
    for mutant in (*OCP, *OBSHELL):
        (rule,) = mutant.rules
        yield pytest.param(mutant, rule, id=f"{mutant.api}-{mutant.name}")


def rules_in(played: Played) -> set[str]:
    """The rules that were broken."""
    return {finding.rule for finding in played.findings}


def told(played: Played) -> list[str]:
    """What was found, to be read where a test fails."""
    return [f"{each.rule}: {each.breadcrumb}: {each.message}" for each in played.findings]


# --- servers that are broken ----------------------------------------------------------------------


@pytest.mark.parametrize(("mutant", "rule"), list(_broken()))
def test_a_broken_server_is_found_and_the_rule_is_named(mutant: Mutant, rule: str) -> None:
    with served(mutant.api, broken=mutant) as world:
        played = world.play()

    assert rule in rules_in(played), told(played)
    assert played.counts[rule].broken > 0
    assert {finding.rule for finding in world.client.findings} >= {rule}


def test_every_mutant_that_is_counted_on_is_there() -> None:
    there = {(each.api, each.name) for each in (*mutants.ocp.MUTANTS, *mutants.obshell.MUTANTS)}

    assert KILLED_BY.keys() <= there


def test_a_finding_says_what_was_seen_and_what_led_there() -> None:
    (mutant,) = [each for each in mutants.ocp.MUTANTS if each.name == "run-time-not-counted"]

    with served("ocp", broken=mutant) as world:
        played = world.play()

    finding = min(played.findings, key=lambda each: (each.operation != "retryTask", each.path))
    assert finding.breadcrumb == "retryTask → 200 → $.data.subtasks[*].runTime"
    assert finding.source == RULES_OF_MACHINES["machine.count"].source
    assert finding.exchange is not None
    assert_golden("conform-machines-finding.txt", f"{finding.message}\n")


# --- servers that are not -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("api", APIS)
def test_the_mock_passes_with_any_seed(api: Api, seed: int) -> None:
    with served(api) as world:
        played = world.play(seed=seed, examples=10)

    assert told(played) == []
    assert {each.status for each in world.client.changes} <= {200, 400, 500}


@pytest.mark.parametrize("api", APIS)
def test_a_run_sees_every_operation_accepted_and_refused_and_looks_at_every_rule(api: Api) -> None:
    ours = {"machine.answer", "machine.order", "machine.prohibited", "machine.skip"}
    theirs = {"machine.flag", "machine.unknown-operator"}
    never = {"obshell": {"machine.stuck"}, "ocp": set[str]()}[api]  # all of it comes to rest

    with served(api) as world:
        played = world.play()

    words = {operation for operation, _ in played.operations} - {"RUN", "RESTART"}
    answered = {word: {200, 400} for word in words}
    seen = {word: {s for o, s in played.operations if o == word} & {200, 400} for word in words}
    assert seen == answered
    unseen = {"ocp": theirs, "obshell": ours}[api]
    assert played.counts.keys() == RULES_OF_MACHINES.keys() - unseen - never


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
    with served("ocp", switches=switches) as world:
        played = world.play(known=Known(codes=Codes(illegal=None, prohibited=None)))

    assert told(played) == []


def test_a_code_that_nobody_knows_must_stay_the_same() -> None:
    (mutant,) = [each for each in OCP if each.name == "prohibited-has-no-code"]

    with served("ocp", broken=mutant) as world:
        played = world.play(known=Known(codes=Codes(illegal=20003, prohibited=None)))

    assert told(played) == []


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
    with served("obshell", obshell_switches=switches) as world:
        known = Known(flags=world.known.flags, version=switches.obshell_version)
        played = world.play(known=known)

    assert told(played) == []


def test_flags_that_nobody_knows_may_be_either_way() -> None:
    with served("obshell") as world:
        played = world.play(known=Known())

    assert told(played) == []


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
        played = world.play(known=Known(flags=known_flags))

    assert "machine.flag" in rules_in(played)


@pytest.mark.parametrize("api", APIS)
def test_a_library_task_that_never_ends_holds_nobody_up(api: Api) -> None:
    text = {
        "ocp": "tasks: [{id: 1, subtasks: [{attempts: {takes: forever}, timeout: 30d}]}]",
        "obshell": "dags: [{id: 1, nodes: [{timeout: 30d, sub_tasks: {takes: forever}}]}]",
    }[api]

    with served(api, read_scenario(f"summary: A\napi: {api}\n{text}\n")) as world:
        played = world.play()

    assert told(played) == []


# --- one walk, where nothing can be made anew -----------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("api", APIS)
def test_one_walk_on_a_server_whose_time_runs_finds_nothing(api: Api, seed: int) -> None:
    with served(api) as world:
        _let_time_run(world)
        played = walk_once(
            world.client, api, world.ids, pace=_running(), seed=seed, known=world.known
        )

    assert told(played) == []
    assert played.left.keys() == set(world.ids)


@pytest.mark.parametrize("api", APIS)
def test_a_walk_operates_on_nothing_but_what_it_was_given(api: Api) -> None:
    with served(api) as world:
        _let_time_run(world)
        given = world.ids[0]
        played = walk_once(world.client, api, [given], pace=_running(), moves=30)
        asked = {each.target.split("/")[5] for each in world.client.changes}

    own = {"ocp": {given}, "obshell": {given, *(f"{given}{n:02}" for n in (1, 2, 3))}}[api]
    assert asked <= own
    assert played.left.keys() == {given}


def test_a_walk_that_is_broken_off_says_how_it_has_left_things() -> None:
    played = Played()

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with served("ocp") as world:
        pace = Pace(interrupt, stands=False)
        with pytest.raises(KeyboardInterrupt):
            walk_once(world.client, "ocp", ["1", "2"], pace=pace, played=played)

    assert played.summary == [
        "1 walk; nothing was operated on.",
        "1 is left RUNNING/EXECUTE [READY/EXECUTE, PENDING/EXECUTE, PENDING/EXECUTE].",
    ]


def test_the_summary_of_a_walk_reads_well() -> None:
    with served("ocp") as world:
        _let_time_run(world)
        played = walk_once(world.client, "ocp", world.ids[:2], pace=_running(), seed=3)

    assert_golden("conform-machines-summary.txt", "".join(f"{line}\n" for line in played.summary))


def test_a_run_that_only_reads_cannot_be_played_with() -> None:
    with served("ocp", write=False) as world, pytest.raises(Exception, match="not sent"):
        walk_once(world.client, "ocp", world.ids, pace=world.pace)


def test_a_refused_login_ends_the_walk_and_is_no_finding() -> None:
    with Server(Ocp()) as server:
        client = _wire_to(server.url, Basic("reader", "read0nly"))
        played = walk_once(client, "ocp", ["1"], pace=_running())

    assert played.findings == []
    assert sum(played.operations.values()) == 1


def test_a_task_that_is_not_there_is_a_finding() -> None:
    with served("ocp") as world:
        played = walk_once(world.client, "ocp", ["4711"], pace=world.pace)

    assert rules_in(played) == {"machine.lost"}
    assert played.left == {"4711": "where it could not be read"}


# --- what a sound server may show where time runs -------------------------------------------------

FAILED_DAG = read_dag(dag_of_the_recording()["data"])
FAILED_TASK = changed(
    example("ocp", "RetriedTask")["data"],
    status="FAILED",
    operation="EXECUTE",
    subtasks__2__status="FAILED",
)


def broken_rules(looks: Iterator[Look]) -> set[str]:
    """The rules that some looks have found broken."""
    return {each.wrong.rule for each in looks if each.wrong is not None}


def walk_on(kind: type[OcpWalk | ObshellWalk]) -> Any:
    """A walk of which only the judgement is asked."""
    client: Any = None
    return kind(client, "1", pace=_running(), notes=Notes(), known=UNKNOWN_CODES)


def refused_with(code: Any, *, status: int = 400) -> Exchange:
    """A refusal of either API."""
    said = {"error": {"code": code, "errCode": code}}
    return exchange("POST", "/", said, status=status)


UNKNOWN_CODES = Known(codes=Codes(illegal=None, prohibited=None))


def test_the_subtasks_of_a_task_have_no_order() -> None:
    turned = changed(FAILED_TASK, subtasks=FAILED_TASK["subtasks"][::-1])

    task, same = read_task(FAILED_TASK), read_task(turned)

    assert same == task
    assert task.subtasks[0].path != same.subtasks[0].path


def test_a_dag_that_has_failed_anew_before_the_next_look_was_retried() -> None:
    walk, retry = walk_on(ObshellWalk), Act("dagHandler", None, "RETRY")
    anew = replace(FAILED_DAG, end_time="2026-11-22T20:00:00Z")

    broken = {
        name: broken_rules(walk.judge_effect(retry, FAILED_DAG, after, refused_with("")))
        for name, after in {"anew": anew, "as it was": FAILED_DAG}.items()
    }

    assert broken == {"anew": set(), "as it was": {"machine.parent"}}


def test_what_cannot_be_read_for_want_of_room_is_read_again() -> None:
    answers = [exchange("GET", "/", b"", status=each) for each in (429, 503)]
    answers.append(exchange("GET", "/", {"data": FAILED_TASK}))
    client: Any = Answers(answers)

    walk = OcpWalk(client, "1", pace=_running(), notes=Notes())

    assert walk.look() == read_task(FAILED_TASK)
    assert (walk.is_over, answers) == (False, [])


@dataclass
class Answers:
    """Stands for a client that has these answers."""

    left: list[Exchange]

    def send(self, *_: Any, **__: Any) -> Exchange:
        return self.left.pop(0)


def test_a_server_that_fails_has_not_refused() -> None:
    walk, retry = walk_on(ObshellWalk), Act("dagHandler", None, "RETRY")

    failed = walk.judge_answer(retry, FAILED_DAG, refused_with("Common.Unexpected", status=500))
    refused = walk.judge_answer(retry, FAILED_DAG, refused_with("Task.Dag.Operator.Other"))

    assert broken_rules(failed) == set()
    assert broken_rules(refused) == {"machine.refusal-code"}


def test_a_task_may_show_what_is_done_to_its_subtask() -> None:
    before = read_task(FAILED_TASK)
    after = replace(before, status="RUNNING", operation="SKIP")

    looks = walk_on(OcpWalk).judge_effect(Act("skipSubtask", 1), before, after, refused_with(""))

    assert broken_rules(looks) == set()


def test_what_a_failed_rollback_becomes_when_it_is_retried_no_text_says() -> None:
    walk, retry = walk_on(OcpWalk), Act("retryTask")
    before = replace(read_task(FAILED_TASK), operation="ROLLBACK")
    after = replace(before, status="RUNNING")

    assert walk.answers_to(retry, before) == {"accepted", "illegal"}
    assert broken_rules(walk.judge_effect(retry, before, after, refused_with(""))) == set()


def test_a_number_that_nobody_knows_stays_the_same_for_one_operation() -> None:
    walk, running = walk_on(OcpWalk), replace(read_task(FAILED_TASK), status="RUNNING")
    asked = [(Act("retryTask"), 1), (Act("rollbackTask"), 2), (Act("retryTask"), 2)]

    broken = [
        broken_rules(walk.judge_answer(act, running, refused_with(code))) for act, code in asked
    ]

    assert broken == [set(), set(), {"machine.refusal-code"}]


# --- a server that shares nothing with the mock ---------------------------------------------------

TASKS = ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("seed", range(3))
def test_an_independent_server_passes(seed: int) -> None:
    with Server(Ocp()) as server:
        client = _wire_to(server.url, Basic("operator", "s3cret"))
        played = walk_once(client, "ocp", TASKS, pace=_running(), seed=seed)

    assert told(played) == []


@pytest.mark.parametrize(
    ("deviation", "rule"),
    [
        ("eager retry", "machine.illegal"),
        ("forward rollback", "machine.rollback-order"),
        ("lost count", "machine.count"),
    ],
)
def test_an_independent_server_that_deviates_is_found_in_one_walk(
    deviation: str, rule: str
) -> None:
    with Server(Ocp(deviations={deviation})) as server:
        client = _wire_to(server.url, Basic("operator", "s3cret"))
        played = walk_once(client, "ocp", TASKS, pace=_running(), moves=20)

    assert rules_in(played) == {rule}, told(played)


def test_a_world_to_play_with_comes_along_and_is_loaded_without_mistakes() -> None:
    assert [load_world(api).api for api in APIS] == APIS


def _let_time_run(world: World) -> None:
    """From now on each look moves the clock on, and so a call may find another state."""
    world.app.sandboxes.default.execute(SetClock("polls"))


def _running() -> Pace:
    """That of a server whose time runs by itself; here, with each look."""
    return Pace(lambda _: None, stands=False, patience=400)


def _wire_to(url: str, auth: Basic) -> HttpClient:
    return HttpClient(Target(url, "ocp", auth), Options(write=True, tasks=tuple(TASKS)))
