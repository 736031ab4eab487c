"""The contract of OCP, held against the mock by schemathesis: every phase, every check, over HTTP.

A run counts only if every operation has been seen to answer every status that the contract
documents for it.
"""

from __future__ import annotations

import pytest

from oceanmock.engine.accounts import Accounts, User
from oceanmock.http.app import create_app
from oceanmock.ocp.scenario import Switches
from oceanmock.openapi import load_spec, operations_of, spec_path
from schemathesis_hooks import hooked_sandbox
from schemathesis_run import HERE, NO_PATH, Recorder, documented, run_cleanly, walk

pytestmark = pytest.mark.slow

CONFIG = HERE / "data" / "schemathesis.toml"
OPERATIONS = operations_of(load_spec(spec_path("ocp")))
ALL = {operation.id for operation in OPERATIONS}
OPERATING = {operation.id for operation in OPERATIONS if operation.permission == "TASK_MANAGER"}

NEVER = {429}
"""Documented, but the mock never throttles anybody: the README says so."""
GUEST = User("guest", "guest", frozenset())
"""Known, and permitted nothing: whom even reading is forbidden."""


def run_as(user: str, recorder: Recorder, *options: str) -> dict[str, set[int]]:
    """A clean run as a user, and the statuses each operation answered."""
    return run_cleanly(recorder, CONFIG, "--auth", f"{user}:{user}", *options)


def recorded(switches: Switches) -> Recorder:
    """The mock with a third user, noting what it answers."""
    accounts = Accounts(users=(*Accounts().users, GUEST))
    return Recorder(create_app(hooked_sandbox(switches, accounts)), "ocp")


def test_a_manager_meets_every_documented_answer_of_every_operation() -> None:
    recorder = recorded(Switches(subtask_pairing="checked"))

    seen = run_as("manager", recorder)

    assert seen.pop(NO_PATH) == {404}
    assert seen == {operation.id: documented(operation) - NEVER - {403} for operation in OPERATIONS}


def test_by_default_the_log_of_an_unknown_subtask_is_empty_and_nothing_else_differs() -> None:
    recorder = recorded(Switches())

    seen = run_as("manager", recorder, "--phases", "coverage,fuzzing", "-n", "30")

    assert seen.pop(NO_PATH) == {404}
    assert seen.pop("getSubtaskLog") == {200, 400, 401, 405}
    assert all(seen[o.id] <= documented(o) - {403} for o in OPERATIONS if o.id in seen)


def test_every_walk_along_the_links_of_the_contract_keeps_it_at_each_step() -> None:
    """As the phase `stateful` of the first test, but each walk begins in a new world."""
    recorder = recorded(Switches(subtask_pairing="checked"))

    seen = walk(recorder, CONFIG, walks=60, auth=("manager", "manager"))

    assert {operation for operation, answers in seen.items() if 200 in answers} == ALL
    assert set().union(*seen.values()) == {200, 400, 401, 404}


@pytest.mark.parametrize(("user", "forbidden"), [("viewer", OPERATING), ("guest", ALL)])
def test_who_lacks_the_permission_is_forbidden_whatever_they_ask(user: str, forbidden: set[str]) -> None:
    recorder = recorded(Switches())

    seen = run_as(user, recorder, "--phases", "examples,coverage")

    assert seen.pop(NO_PATH) == {404}
    assert {operation for operation, statuses in seen.items() if 403 in statuses} == forbidden
    assert all(seen[operation] == {403, 405} for operation in forbidden)
