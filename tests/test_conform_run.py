"""A whole run against one target: what it sends, when it ends, and what it comes to.

Of schemathesis: what it may send, what it is given, and what becomes of its findings.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests

from fuzzing_world import OWN_ADDRESS, Served, World, fuzzed, served
from oceanmock.checks import CheckResult, Exchange, Phase
from oceanmock.conformance import (
    FAILED,
    INCOMPLETE,
    INTERRUPTED,
    PASSED,
    SAFE,
    ApiName,
    Event,
    Options,
    PhaseStarted,
    Result,
)
from oceanmock.conformance.baseline import Baseline, Known, apply_baselines, load_baseline
from oceanmock.conformance.fuzzing import MALFORMED, RULES_OF_SCHEMATHESIS
from oceanmock.conformance.mock import conform_mock
from oceanmock.conformance.run import Runner, conform
from oceanmock.http.server import Server
from oceanmock.obshell.api import InvalidGenericId, parse_generic_id

pytestmark = pytest.mark.slow

APIS: tuple[ApiName, ...] = ("ocp", "obshell")
ALL: frozenset[Phase] = Options().phases
BRIEF = Options(seed=1, max_examples=3)
OWN = b"Basic bWFuYWdlcjptYW5hZ2Vy"
"""The header of the run's own credentials."""


def only(*phases: Phase, **options: Any) -> Options:
    """Return options of a run over a server whose clock stands: it waits for no end."""
    return Options(seed=1, max_examples=3, phases=frozenset(phases), **{"timeout": 10**6} | options)


@cache
def after_reading(api: ApiName) -> tuple[Served, Result]:
    """A sound server that was read, and what that came to."""
    with served(api) as there:
        return there, conform(there.target, BRIEF)


# --- what it sends --------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_a_run_that_only_reads_sends_nothing_but_get(api: ApiName) -> None:
    there, result = after_reading(api)

    assert {method for method, _ in there.asked} == {"GET"}
    assert result.changes == []
    assert not result.writes
    assert result.request_count == len(there.asked) - {"ocp": 0, "obshell": 2}[api]  # key and identity


def test_a_run_that_writes_says_every_call_that_may_have_changed_something() -> None:
    with served("ocp") as there:
        result = conform(there.target, only("probes", "coverage", write=True, tasks=("1000",)))

    changing = [path for method, path in there.asked if method not in SAFE]
    assert [each.target for each in result.changes] == changing
    assert any("/1000/" in path for path in changing)
    assert not any("/2000/" in path for path in changing)


def test_the_machine_walks_on_the_tasks_it_was_given() -> None:
    with served("ocp") as there:
        target = replace(there.target, wait=lambda s: there.sandbox.advance(int(s * 1e9)), is_ours=True)
        run = Runner(target, only("machine", write=True, tasks=("1000",)))
        run.go()
        result = run.result

    assert result.findings == []
    assert set(result.phases) == {"machine"}
    assert {each.target.split("/")[5] for each in result.changes} == {"1000"}
    assert any(rule.startswith("call.") for rule in result.rules)


@pytest.mark.parametrize(
    ("status", "head"), [(401, (b"www-authenticate", b"Basic")), (302, (b"location", b"https://login"))]
)
def test_what_a_proxy_answers_to_somebody_without_credentials_is_no_deviation(
    status: int, head: tuple[bytes, bytes]
) -> None:
    with served("ocp") as there:

        async def proxy(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or dict(scope["headers"]).get(b"authorization") == OWN:
                await there.app(scope, receive, send)
                return
            headers = [head, (b"content-type", b"text/html"), (b"content-length", b"4")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"page"})

        with Server(proxy) as server:
            result = conform(replace(there.target, url=server.url), only("probes", "fuzzing"))

    assert [f"{each.rule} {each.breadcrumb}" for each in result.findings] == []


@pytest.mark.parametrize("left_out", ["getSubtaskLog", "getTaskInstance"])
def test_a_walk_does_without_the_reads_that_the_run_leaves_out(left_out: str) -> None:
    with served("ocp") as there:
        target = replace(there.target, wait=lambda s: there.sandbox.advance(int(s * 1e9)), is_ours=True)
        options = only("machine", write=True, tasks=("1000",), excluded=frozenset({left_out}))

        result = conform(target, options)

    assert result.findings == []
    assert not result.statuses[left_out]


# --- which contract ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["4.2.3.0", "4.2.6.0", "4.3.0.0", "4.4.0.0"])
def test_an_older_obshell_is_held_to_what_was_its_own_contract(version: str) -> None:
    """Fewer routes, and errors without an errCode; its quirks are those of the newest."""
    quirks = load_baseline("obshell-4.5.0.0")

    with served("obshell", version=version) as there:
        result = apply_baselines([quirks], conform(there.target, only("probes", "coverage")))

    assert [f"{each.rule} {each.breadcrumb}" for each in result.findings] == []
    assert result.missing == []


def test_what_an_older_obshell_refuses_by_500_was_its_own_way() -> None:
    """Of operators, with a number; since 4.3.1 it is 400, and a failure if it is not."""
    dag = "22130706433028868"
    writes = only("probes", "coverage", write=True, tasks=(dag,))

    with served("obshell", version="4.2.6.0") as there:
        result = apply_baselines([load_baseline("obshell-4.5.0.0")], conform(there.target, writes))

    assert result.statuses["dagHandler"][500]
    assert "nodeHandler" not in result.statuses
    assert [f"{each.rule} {each.breadcrumb}" for each in result.findings] == []


def test_an_older_obshell_that_says_it_is_a_newer_one_is_found() -> None:
    with served("obshell", version="4.2.6.0") as there:
        target = replace(there.target, version="4.5.0.0")
        result = conform(target, only("probes"))

    assert "schema.required" in {each.rule for each in result.findings}
    assert ("getFullSubTaskLogs", 200) in {(each.operation, each.status) for each in result.missing}


# --- its phases -----------------------------------------------------------------------------------


def test_phases_go_in_their_order_whatever_order_they_are_asked_in() -> None:
    told: list[Event] = []

    with served("ocp") as there:
        conform(there.target, only("stateful", "examples", "probes"), listen=told.append)

    assert [each.phase for each in told if isinstance(each, PhaseStarted)] == ["probes", "examples", "stateful"]


def test_each_exchange_and_each_finding_is_told_once() -> None:
    told: list[Event] = []

    with served("obshell") as there:
        result = conform(there.target, only("probes"), listen=told.append)

    asked = [each.number for each in told if isinstance(each, Exchange)]
    found = [each.key for each in told if isinstance(each, CheckResult)]
    assert len(asked) == len(set(asked)) == result.request_count
    assert found == [each.key for each in result.findings]


def test_the_same_seed_comes_to_the_same() -> None:
    results = []
    for _ in range(2):
        with served("ocp") as there:
            results.append(conform(there.target, only("probes", "fuzzing")))

    one, other = results
    assert (one.statuses, one.checked, one.request_count) == (other.statuses, other.checked, other.request_count)


# --- what it comes to -----------------------------------------------------------------------------


def test_a_clean_run_that_saw_enough_is_kept() -> None:
    _, result = after_reading("ocp")

    assert result.findings == []
    assert result.missing == []
    assert result.exit_code == PASSED
    assert result.phases.keys() == ALL - {"machine"}
    assert result.labels["task", "FAILED/EXECUTE"]


def test_a_clean_run_that_saw_too_little_is_not() -> None:
    with served("ocp") as there:
        result = conform(there.target, only("examples"))

    assert result.findings == []
    assert result.exit_code == INCOMPLETE
    assert {(each.operation, each.status) for each in result.missing} >= {("listTaskInstances", 400)}


def refusing(status: int) -> Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]]]:
    """A server that answers this, and well, to whatever it is asked."""

    def edit(_: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        error = {"code": 0, "message": "no"}
        said = {k: v for k, v in body.items() if k != "data"}
        return status, {**said, "successful": False, "status": status, "error": error}

    return edit


@pytest.mark.parametrize("status", [401, 403, 404])
def test_who_refuses_everything_is_never_green(status: int) -> None:
    with served("ocp", edit=refusing(status)) as there:
        result = conform(there.target, only("probes", "examples"))

    assert result.exit_code in (FAILED, INCOMPLETE)
    assert {each.operation for each in result.missing if each.status == 200} == {
        "listTaskInstances",
        "getTaskInstance",
        "getSubtaskLog",
    }


def test_a_broken_server_is_found_and_what_is_known_of_it_breaks_nothing() -> None:
    def failing(path: str, body: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
        return None, {**body, "successful": not body["successful"]}

    with served("ocp", edit=failing) as there:
        result = conform(there.target, only("examples"))
    rules = {each.rule for each in result.findings}
    known = [Known(rule, "*", "it is mended in the next release") for rule in rules]
    again = apply_baselines([Baseline("own", "ocp", (), tuple(known))], replace(result))

    assert result.exit_code == FAILED
    assert "envelope.successful" in rules
    own = {each.curl[:22] for each in result.findings if each.exchange and each.exchange.credentials == "own"}
    assert own == {'curl -sS -u manager:"$'}
    assert (again.findings, len(again.known)) == ([], len(result.findings))
    assert again.exit_code == INCOMPLETE


@pytest.mark.parametrize("phase", ["probes", "coverage"])
def test_a_run_that_is_broken_off_tells_what_it_has_seen(phase: Phase) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Exchange) and event.phase == phase:
            raise KeyboardInterrupt

    with served("ocp") as there:
        result = conform(there.target, only(phase), listen=stop)

    assert result.interrupted
    assert result.exit_code == INTERRUPTED
    assert result.request_count
    assert phase in result.phases


def test_a_broken_off_run_of_the_mock_leaves_no_task_that_it_did_not_change() -> None:
    events = list[Event]()

    def stop(event: Event) -> None:
        events.append(event)
        replays = [number for number, each in enumerate(events) if isinstance(each, PhaseStarted)]
        if len(replays) == 2 and len(events) - replays[1] == 3:  # the second story is read, and nothing else yet
            raise KeyboardInterrupt

    names = ("retry-failed-task", "retry-failed-subtask")
    result = conform_mock("ocp", names, Options(phases=frozenset()), listen=stop)

    assert result.interrupted
    assert result.changes
    assert result.left == {}


def test_what_repeats_a_run_names_no_password() -> None:
    with served("ocp") as there:
        run = Runner(there.target, only("examples", "probes", write=True, tasks=("1000",), rate=9.5))

    assert run.result.command == (
        f"oceanmock conform {there.target.url} --api ocp --seed 1 --max-examples 3"
        " --write --task 1000 --phases probes,examples --rate 9.5"
    )


# --- several as one -------------------------------------------------------------------------------


def test_runs_add_to_the_result_that_they_are_given() -> None:
    result = Result("several", "ocp")

    with served("ocp") as there:
        Runner(there.target, only("probes"), result).go()
        once = Counter(result.checked)
        Runner(there.target, only("probes"), result).go()

    assert result.target == "several"
    assert result.request_count == len(there.asked)
    assert {rule: count for rule, count in result.checked.items() if rule[0] == "envelope.status"} == {
        rule: 2 * count for rule, count in once.items() if rule[0] == "envelope.status"
    }
    assert set(result.phases) == {"probes"}


# --- schemathesis in process ----------------------------------------------------------------------


READS = {
    "ocp": {"getTaskInstance", "getSubtaskLog"},
    "obshell": {"getDagDetail", "getNodeDetail", "getSubTaskDetail", "getFullSubTaskLogs"},
}


@cache
def fuzzed_reading(api: ApiName) -> World:
    """What is left of a world that was read in all phases."""
    with fuzzed(api) as world:
        world.run()
    return world


# --- what it may send -----------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_a_run_that_only_reads_sends_nothing_but_get_in_any_phase(api: ApiName) -> None:
    world = fuzzed_reading(api)

    assert set(world.methods) == {"GET"}
    assert world.methods["GET"] > 100


@pytest.mark.parametrize("api", APIS)
def test_all_that_comes_in_went_out_by_the_client(api: ApiName) -> None:
    """But for what credentials read before they can seal the first request."""
    world = fuzzed_reading(api)

    before_sealing = {"ocp": 0, "obshell": 2}[api]
    assert len(world.asked) == world.client.result.request_count + before_sealing


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
    world = fuzzed_reading("obshell")

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

    assert all(world.client.result.statuses[name][200] for name in READS["ocp"])


@pytest.mark.parametrize("api", APIS)
def test_it_asks_for_what_is_not_there_too(api: ApiName) -> None:
    statuses = fuzzed_reading(api).client.result.statuses

    assert all(statuses[name][200] for name in READS[api])
    assert any(statuses[name][404] for name in READS[api])


# --- what it finds --------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_of_the_mock_it_finds_nothing_but_what_quirks_explain(api: ApiName) -> None:
    world = fuzzed_reading(api)

    assert world.found == set()
    assert any(counts[500] for counts in world.client.result.statuses.values()) is (api == "obshell")


def test_what_breaks_a_schema_is_found_where_it_stands() -> None:
    def wrong_status(path: str, body: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
        if "contents" in body.get("data", {}):
            for row in body["data"]["contents"]:
                row["status"] = "SUCESS"
        return None, body

    with fuzzed("ocp", edit=wrong_status) as world:
        world.run("examples", "fuzzing")

    found = world.client.result.findings[0]
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


def test_one_failure_is_told_once_and_ends_nothing() -> None:
    def failing(path: str, body: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
        return (500, body) if path.endswith("/log") else (None, body)

    with fuzzed("ocp", edit=failing, max_examples=10) as world:
        world.run("fuzzing", "stateful")

    assert ("schemathesis.not_a_server_error", "getSubtaskLog", 500, "") in world.found
    assert len(world.client.result.findings) == len(world.found)
    assert world.fuzzer.checked["schemathesis.not_a_server_error", "getSubtaskLog"] > 5
    assert world.client.result.statuses["getSubtaskLog"][500] > 5
    assert world.client.result.statuses["getTaskInstance"][200] > 5


def test_who_lets_everybody_in_is_found() -> None:
    def letting_in(path: str, body: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
        return (200, body) if body.get("status") == 401 else (None, body)

    with fuzzed("ocp", edit=letting_in) as world:
        world.run("examples")

    assert "schemathesis.ignored_auth" in {rule for rule, *_ in world.found}


def test_what_was_not_tested_to_the_end_is_told_of_its_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: Any) -> Any:
        raise requests.ConnectionError("cut off")

    with fuzzed("ocp") as world:
        monkeypatch.setattr(world.client.session, "get_adapter", cut)
        world.run("examples", "stateful")

    rule = "schemathesis.unfinished"
    assert world.found == {
        (rule, "", None, "Stateful tests"),
        *((rule, name, None, "") for name in ("listTaskInstances", *READS["ocp"])),
    }


# --- its rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_every_check_that_was_looked_at_is_a_rule(api: ApiName) -> None:
    world = fuzzed_reading(api)

    looked = world.fuzzer.checked
    assert {rule for rule, _ in looked} <= set(RULES_OF_SCHEMATHESIS)
    assert {operation for _, operation in looked} == {
        name for name, counts in world.client.result.statuses.items() if counts
    }
