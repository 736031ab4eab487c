"""schemathesis in process: what it may send, what it is given, what becomes of its findings."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests

from fuzzing_world import OWN_ADDRESS, World, fuzzed
from oceanmock.checks import Phase
from oceanmock.conformance.fuzzing import MALFORMED, RULES_OF_SCHEMATHESIS
from oceanmock.conformance.model import Api
from oceanmock.obshell.api import InvalidGenericId, parse_generic_id

pytestmark = pytest.mark.slow

APIS: tuple[Api, ...] = ("ocp", "obshell")
READS = {
    "ocp": {"getTaskInstance", "getSubtaskLog"},
    "obshell": {"getDagDetail", "getNodeDetail", "getSubTaskDetail", "getFullSubTaskLogs"},
}


@cache
def after_reading(api: Api) -> World:
    """What is left of a world that was read in all phases."""
    with fuzzed(api) as world:
        world.run()
    return world


# --- what it may send -----------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_a_run_that_only_reads_sends_nothing_but_get_in_any_phase(api: Api) -> None:
    world = after_reading(api)

    assert set(world.methods) == {"GET"}
    assert world.methods["GET"] > 100


@pytest.mark.parametrize("api", APIS)
def test_all_that_comes_in_went_out_by_the_client(api: Api) -> None:
    """But for what credentials read before they can seal the first request."""
    world = after_reading(api)

    before_sealing = {"ocp": 0, "obshell": 2}[api]
    assert len(world.asked) == world.client.asked + before_sealing


def test_a_run_that_writes_operates_on_what_it_was_told_and_on_nothing_else() -> None:
    with fuzzed("ocp", write=True, tasks=["1000"]) as world:
        world.run()

    changed = {path.split("/")[5] for method, path in world.asked if method == "POST"}
    assert changed == {"1000", MALFORMED, "9223372036854775807"}
    assert {rule for rule, *_ in world.found} == set()


def test_without_anything_that_may_be_changed_nothing_is() -> None:
    with fuzzed("ocp", write=True, tasks=[]) as world:
        world.run()

    assert set(world.methods) == {"GET"}


def test_no_id_of_another_agent_is_ever_asked_for() -> None:
    world = after_reading("obshell")

    named = {address_of(path) for _, path in world.asked} - {None}
    assert named == {OWN_ADDRESS}


def address_of(path: str) -> tuple[str, int] | None:
    """The address in the id of a path; None where there is none."""
    try:
        id = parse_generic_id(path.partition("?")[0].split("/")[5])
    except (InvalidGenericId, IndexError):
        return None
    return None if id.ip is None else (str(id.ip), id.port)


# --- how much -------------------------------------------------------------------------------------


def test_the_same_seed_asks_the_same_and_another_one_something_else() -> None:
    logs = []
    for seed in (1, 1, 2):
        with fuzzed("ocp", seed=seed) as world:
            world.run("examples", "fuzzing")
        logs.append(world.asked)

    assert logs[0] == logs[1]
    assert logs[0] != logs[2]


def test_the_same_seed_asks_the_same_in_another_process() -> None:
    """Whatever its hashes are, and wherever its objects lie."""
    first, second = (log_of_a_process(hashes) for hashes in ("1", "2"))

    assert first == second
    assert len(first.splitlines()) > 100
    assert "POST" in first


def log_of_a_process(hashes: str) -> str:
    """What comes in when a process of its own runs all phases."""
    script = """
from fuzzing_world import fuzzed
with fuzzed("ocp", write=True, tasks=["1000", "2000"]) as world:
    world.run()
for method, target in world.asked:
    print(method, target)
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONHASHSEED": hashes},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout


@pytest.mark.parametrize("most", [3, 12])
def test_an_operation_is_fuzzed_so_often_and_no_more(most: int) -> None:
    with fuzzed("ocp", max_examples=most) as world:
        world.run("fuzzing")

    counts = Counter(each.operation for each in world.client.exchanges if each.phase == "fuzzing")
    of_credentials = 3
    assert len(counts) == 3
    assert all(most / 2 <= count <= most + of_credentials for count in counts.values())


def test_a_run_that_is_stopped_stops() -> None:
    stop = threading.Event()
    stop.set()

    with fuzzed("ocp", stop=stop) as world, pytest.raises(KeyboardInterrupt):
        world.run("coverage")

    assert {each.phase for each in world.client.exchanges} == {"preflight"}


# --- what it is given -----------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["examples", "coverage", "fuzzing"])
def test_it_asks_for_what_is_there(phase: Phase) -> None:
    with fuzzed("ocp", max_examples=10) as world:
        world.run(phase)

    assert all(world.client.statuses[name][200] for name in READS["ocp"])


@pytest.mark.parametrize("api", APIS)
def test_it_asks_for_what_is_not_there_too(api: Api) -> None:
    statuses = after_reading(api).client.statuses

    assert all(statuses[name][200] for name in READS[api])
    assert any(statuses[name][404] for name in READS[api])


# --- what it finds --------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_of_the_mock_it_finds_nothing_but_what_quirks_explain(api: Api) -> None:
    world = after_reading(api)

    assert world.found == set()
    assert any(counts[500] for counts in world.client.statuses.values()) is (api == "obshell")


def test_what_breaks_a_schema_is_found_where_it_stands() -> None:
    def wrong_status(path: str, body: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
        if "contents" in body.get("data", {}):
            for row in body["data"]["contents"]:
                row["status"] = "SUCESS"
        return None, body

    with fuzzed("ocp", edit=wrong_status) as world:
        world.run("examples", "fuzzing")

    found = world.client.findings[0]
    assert found.key == (
        "schemathesis.response_schema_conformance",
        "listTaskInstances",
        200,
        "$.data.contents[0].status",
    )
    assert '"SUCESS" is not one of' in found.message
    assert found.source == ("openapi/ocp.yaml, GET /api/v2/tasks/instances, responses, schema")
    assert found.exchange is not None
    assert b"SUCESS" in found.exchange.response_body
    assert found.curl.startswith("curl ")


def test_one_failure_is_told_once_and_ends_nothing() -> None:
    def failing(path: str, body: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
        return (500, body) if path.endswith("/log") else (None, body)

    with fuzzed("ocp", edit=failing, max_examples=10) as world:
        world.run("fuzzing", "stateful")

    assert ("schemathesis.not_a_server_error", "getSubtaskLog", 500, "") in world.found
    assert len(world.client.findings) == len(world.found)
    assert world.fuzzer.counts["schemathesis.not_a_server_error"].broken > 5
    assert world.client.statuses["getTaskInstance"][200] > 5


def test_who_lets_everybody_in_is_found() -> None:
    def letting_in(path: str, body: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
        return (200, body) if body.get("status") == 401 else (None, body)

    with fuzzed("ocp", edit=letting_in) as world:
        world.run("examples")

    assert "schemathesis.ignored_auth" in {rule for rule, *_ in world.found}


def test_what_was_not_tested_to_the_end_is_told_of_its_operation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut(*_: Any) -> Any:
        raise requests.ConnectionError("cut off")

    with fuzzed("ocp") as world:
        monkeypatch.setattr(world.client.session, "forward", cut)
        world.run("examples", "stateful")

    rule = "schemathesis.unfinished"
    assert world.found == {
        (rule, "", None, "Stateful tests"),
        *((rule, name, None, "") for name in ("listTaskInstances", *READS["ocp"])),
    }


# --- its rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_every_check_that_was_looked_at_is_a_rule(api: Api) -> None:
    world = after_reading(api)

    looked = world.fuzzer.checked
    assert {rule for rule, _ in looked} <= set(RULES_OF_SCHEMATHESIS)
    assert {operation for _, operation in looked} == {
        name for name, counts in world.client.statuses.items() if counts
    }
