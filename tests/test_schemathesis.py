"""The contracts of OCP, obshell and the admin API, checked with schemathesis: every phase, every check, over HTTP.

A run counts only if every operation has been seen to answer every status that the contract documents for it; what is
not to be seen is named here. obshell is run plain and encrypted, with its quirks and without, in two worlds, since no
agent can give every answer. The admin API is asked from another machine, with the token: from its own, nobody would be
asked for one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast, get_args
from urllib.parse import parse_qs

import pytest

import kit_world
from contract_file import ContractFile
from in_process import REINSTALL
from oceanmock.apis import make_sandbox
from oceanmock.engine.log import Accounts, SandboxSpec, User
from oceanmock.http.app import App, create_app
from oceanmock.library import read_scenario
from oceanmock.obshell.agent import Switches as ObshellSwitches
from oceanmock.ocp.scenario import Switches as OcpSwitches
from oceanmock.openapi import load_spec, operations_of, spec_path
from schemathesis_hooks import hooked_sandbox as ocp_sandbox
from schemathesis_obshell_hooks import SEALED, WORLD, World
from schemathesis_obshell_hooks import hooked_sandbox as obshell_sandbox
from schemathesis_run import (
    HERE,
    NO_METHOD,
    NO_PATH,
    Finding,
    Recorder,
    documented,
    run_cleanly,
    run_for_findings,
    walk,
)

pytestmark = pytest.mark.slow

OCP_CONFIG = HERE / "data" / "schemathesis.toml"
OBSHELL_CONFIG = HERE / "data" / "schemathesis-obshell.toml"
ADMIN_CONFIG = HERE / "data" / "schemathesis-admin.toml"

# --- OCP ------------------------------------------------------------------------------------------

OCP_OPERATIONS = operations_of(load_spec(spec_path("ocp")))
ALL = {operation.id for operation in OCP_OPERATIONS}
OPERATING = {operation.id for operation in OCP_OPERATIONS if operation.permission == "TASK_MANAGER"}

NEVER_BY_OCP = {429}
"""Documented, but the mock never throttles anybody: the README says so."""
GUEST = User("guest", "guest", frozenset())
"""Known, and permitted nothing: whom even reading is forbidden."""


def run_as(user: str, recorder: Recorder, *options: str) -> dict[str, set[int]]:
    """A clean run as a user, and the statuses each operation answered."""
    return run_cleanly(recorder, OCP_CONFIG, "--auth", f"{user}:{user}", *options)


def served_ocp(switches: OcpSwitches) -> Recorder:
    """The mock with a third user, noting what it answers."""
    accounts = Accounts(users=(*Accounts().users, GUEST))
    return Recorder(create_app(ocp_sandbox(switches, accounts)), "ocp")


def test_a_manager_meets_every_documented_answer_of_every_operation() -> None:
    recorder = served_ocp(OcpSwitches(subtask_pairing="checked"))

    seen = run_as("manager", recorder)

    assert seen.pop(NO_PATH) == {404}
    assert seen == {operation.id: documented(operation) - NEVER_BY_OCP - {403} for operation in OCP_OPERATIONS}


def test_by_default_the_log_of_an_unknown_subtask_is_empty_and_nothing_else_differs() -> None:
    recorder = served_ocp(OcpSwitches())

    seen = run_as("manager", recorder, "--phases", "coverage,fuzzing", "-n", "30")

    assert seen.pop(NO_PATH) == {404}
    assert seen.pop("getSubtaskLog") == {200, 400, 401, 405}
    assert all(seen[o.id] <= documented(o) - {403} for o in OCP_OPERATIONS if o.id in seen)


def test_every_walk_along_the_links_of_ocp_s_contract_keeps_it_at_each_step() -> None:
    """As the phase `stateful` of the first test, but each walk begins in a new world."""
    recorder = served_ocp(OcpSwitches(subtask_pairing="checked"))

    seen = walk(recorder, OCP_CONFIG, walks=60, auth=("manager", "manager"))

    assert {operation for operation, answers in seen.items() if 200 in answers} == ALL
    assert set().union(*seen.values()) == {200, 400, 401, 404}


@pytest.mark.parametrize(("user", "forbidden"), [("viewer", OPERATING), ("guest", ALL)])
def test_who_lacks_the_permission_is_forbidden_whatever_they_ask(user: str, forbidden: set[str]) -> None:
    recorder = served_ocp(OcpSwitches())

    seen = run_as(user, recorder, "--phases", "examples,coverage")

    assert seen.pop(NO_PATH) == {404}
    assert {operation for operation, statuses in seen.items() if 403 in statuses} == forbidden
    assert all(seen[operation] == {403, 405} for operation in forbidden)


# --- obshell --------------------------------------------------------------------------------------

OBSHELL = ContractFile("obshell")
OBSHELL_OPERATIONS = operations_of(OBSHELL.document)
WORLDS: tuple[World, ...] = get_args(World)
LENIENT = ("--exclude-checks", "ignored_auth")
"""Who asks for no credentials can not refuse wrong ones."""

OUT_OF_REACH: dict[World, dict[str, set[int]]] = {
    "agent": {
        "getAllClusterDags": {200},
        "getClusterUnfinishDags": {200},
        "getObLastMaintenanceDag": {200, 400},
        "getAgentLastMaintenanceDag": {404},
    },
    "cluster": {"getAgentLastMaintenanceDag": {200, 400}, "getObLastMaintenanceDag": {404}},
}
"""What an agent can not answer, for being what it is; without a dag, show_details is not read."""
ONLY_BY_QUIRK = {500}
"""Without its quirks the server never fails."""
ONLY_SEALED = {401}
"""Without credentials there are no wrong ones."""


def served_obshell(world: World, *, sealed: bool = False, quirks: bool = False) -> Recorder:
    """The mock in one of the worlds, noting what it answers."""
    switches = ObshellSwitches(quirks_off=() if quirks else ("all",))
    sandbox = obshell_sandbox(world, switches, Accounts(required=sealed))
    return Recorder(create_app(sandbox), "obshell")


def reachable(world: World, *, but: set[int]) -> dict[str, set[int]]:
    """What the contract documents for each operation and this world can answer."""
    out = OUT_OF_REACH[world]
    return {o.id: documented(o) - ONLY_BY_QUIRK - but - out.get(o.id, set()) for o in OBSHELL_OPERATIONS}


def test_what_one_world_can_not_answer_the_other_can() -> None:
    agent, cluster = (OUT_OF_REACH[world] for world in WORLDS)

    assert all(agent[name].isdisjoint(cluster[name]) for name in agent.keys() & cluster.keys())


@pytest.mark.parametrize("world", WORLDS)
def test_without_credentials_every_operation_meets_every_documented_answer(world: World) -> None:
    recorder = served_obshell(world)

    seen = run_cleanly(recorder, OBSHELL_CONFIG, *LENIENT, env={WORLD: world})

    assert seen.pop(NO_PATH) == {404}
    assert seen.pop(NO_METHOD) == {200, 404}  # POST of /api/v1/status is answered like GET
    assert seen == reachable(world, but=ONLY_SEALED)


@pytest.mark.parametrize("world", WORLDS)
def test_encrypted_every_operation_meets_every_documented_answer(world: World) -> None:
    recorder = served_obshell(world, sealed=True)

    seen = run_cleanly(recorder, OBSHELL_CONFIG, env={WORLD: world, SEALED: "yes"})

    assert seen.pop(NO_PATH) == {404}
    assert seen.pop(NO_METHOD) == {401, 404}  # a header is decrypted before the path is looked at
    assert seen == reachable(world, but=set())


def test_every_walk_along_the_links_of_obshell_s_contract_keeps_it_at_each_step() -> None:
    """As the phase `stateful` of the other tests, but each walk begins in a new world."""
    recorder = served_obshell("agent")
    tasks = {o.id for o in OBSHELL_OPERATIONS if o.path.startswith("/api/v1/task/")}
    elsewhere = {name for name, out in OUT_OF_REACH["agent"].items() if 200 in out}

    seen = walk(recorder, OBSHELL_CONFIG, walks=160)

    assert {name for name, answers in seen.items() if 200 in answers} == tasks - elsewhere
    assert set().union(*seen.values()) == {200, 400, 404}


# --- obshell: with its quirks, nothing is found but them ---------------------------------------------------

PANIC = "Common.Unexpected: Unexpected error: Internal Server Error"
NOT_HELD = "Agent is not holding OceanBase"
READABLE = OBSHELL.schemas["GoBool"]["enum"]


@dataclass(frozen=True, slots=True)
class Row:
    """How a quirk shows: its status, errCode and message, and whether show_details can be read."""

    quirk: str
    status: int
    said: str
    readable: bool | None = None

    def explains(self, found: Finding) -> bool:
        """Whether a finding is this quirk, at an operation of which the contract names it."""
        return (
            (self.quirk, self.status) in quirks_of(found.operation)
            and found.status == self.status
            and re.fullmatch(self.said, found.said) is not None
            and self.readable in (None, can_be_read(found.query))
        )


ROWS = (
    Row("unreadable-show-details-is-500", 500, PANIC, readable=False),
    Row("never-maintained-is-500", 500, PANIC, readable=True),
    Row("node-without-details-is-500", 500, PANIC, readable=True),
    Row("refusal-is-never-sent", 500, "Common.Unexpected: .* ocsagent cannot build response body"),
    Row("unreachable-owner-is-500", 500, 'Common.Unexpected: (Get|Post) "http.*: dial tcp .*'),
    Row("no-oceanbase-is-500", 500, f"Agent.OceanBase.NotHold: {NOT_HELD}"),
    Row("unheld-cluster-id-is-500", 500, f"Agent.OceanBase.NotHold: Task not found: {NOT_HELD}"),
    Row("undecryptable-body-is-500", 500, "Request.Body.Decrypt.*"),
    Row("undecryptable-body-is-500", 500, PANIC, readable=True),
    Row("missing-header-is-400", 400, "Request.Header.NotFound: .*"),
)


def can_be_read(query: str) -> bool:
    """Whether the show_details of a query, of which the first counts, is one the contract knows."""
    said = parse_qs(query, keep_blank_values=True).get("show_details", ["true"])
    return said[0] in READABLE


@cache
def quirks_of(operation: str) -> set[tuple[str, int]]:
    """What the server does against its rules at an operation: names, each with its status."""
    said = OBSHELL.operations[operation]
    schemes = OBSHELL.document["components"]["securitySchemes"].values()
    parts = [
        said,
        said.get("requestBody", {}),
        *said["parameters"],
        *said["responses"].values(),
        *(schemes if "security" not in said else ()),
    ]
    quirks = [quirk for part in parts for quirk in OBSHELL.follow(part).get("x-quirk", [])]
    return {(quirk["name"], quirk["status"]) for quirk in quirks}


def explained(findings: list[Finding]) -> set[str]:
    """The quirks that are found. Fails when anything else is."""
    found = {each: next((r.quirk for r in ROWS if r.explains(each)), None) for each in findings}
    assert [each for each, quirk in found.items() if quirk is None] == []
    return {str(quirk) for quirk in found.values()}


ANYWHERE = {"node-without-details-is-500", "unreadable-show-details-is-500", "unreachable-owner-is-500"}
OF_WORLD: dict[World, set[str]] = {
    "agent": {"refusal-is-never-sent", "no-oceanbase-is-500", "unheld-cluster-id-is-500"},
    "cluster": {"never-maintained-is-500"},
}


BRIEFLY = ("--phases", "examples,coverage")
"""What every quirk is found by."""


@pytest.mark.parametrize("world", WORLDS)
def test_with_its_quirks_all_that_is_found_are_they(world: World, tmp_path: Path) -> None:
    recorder = served_obshell(world, quirks=True)

    findings = run_for_findings(
        recorder, OBSHELL_CONFIG, *LENIENT, *BRIEFLY, report=tmp_path / "report.ndjson", env={WORLD: world}
    )

    assert explained(findings) == ANYWHERE | OF_WORLD[world]


def test_encrypted_with_its_quirks_all_that_is_found_are_they(tmp_path: Path) -> None:
    recorder = served_obshell("agent", sealed=True, quirks=True)

    findings = run_for_findings(
        recorder, OBSHELL_CONFIG, *BRIEFLY, report=tmp_path / "report.ndjson", env={WORLD: "agent", SEALED: "yes"}
    )

    of_transport = {"missing-header-is-400", "undecryptable-body-is-500"}
    quirks = explained(findings)
    assert of_transport <= quirks <= of_transport | ANYWHERE | OF_WORLD["agent"]


# --- the admin API --------------------------------------------------------------------------------

ADMIN_OPERATIONS = operations_of(load_spec(spec_path("admin")))
NEVER_BY_ADMIN = {405, 413, 503}
"""405 belongs to no operation (``NO_METHOD``); large bodies are not generated; 503 is in tests/test_replicas.py."""
DAGS = """
summary: A dag, and a fault that comes back with every reset
api: obshell
dags: [{id: 4, nodes: [a]}]
faults: [{name: outage, delay: 1ms}]
"""


class ByMethod(Recorder):
    """Notes 405 under a name of its own: two operations of a path can't both answer it."""

    def operation_of(self, method: str, path: str) -> str:
        asked = super().operation_of(method, path)
        known = [o for o in self.operations if o.id == asked]
        if not known or known[0].method == method:
            return asked
        same_path = [o for o in self.operations if o.path == known[0].path and o.method == method]
        return same_path[0].id if same_path else NO_METHOD


def make_world() -> kit_world.World:
    """One that has all that the hooks name; its clocks stand."""
    scenarios = [read_scenario(text) for text in (REINSTALL, DAGS)]
    world = kit_world.World(make_sandbox(scenarios, progression="manual"), token="secret", client=kit_world.FAR)
    world.sandboxes.create("t1", SandboxSpec(tuple(scenarios), progression="manual"))
    return world


def test_every_documented_answer_of_the_admin_api_is_met() -> None:
    recorder = ByMethod(cast("App", make_world()), "admin")

    seen = run_cleanly(recorder, ADMIN_CONFIG)

    assert seen.pop(NO_PATH) == {404}
    assert seen.pop(NO_METHOD) == {405}
    seen["getMetrics"].add(409)  # a library that is not installed: tests/test_admin_api.py
    assert seen == {operation.id: documented(operation) - NEVER_BY_ADMIN for operation in ADMIN_OPERATIONS}
