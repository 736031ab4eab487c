"""The contract, held against the mock by schemathesis: every phase, every check, over HTTP.

A clean run says little by itself: one that is answered 404 throughout is clean too. So the server
notes what it has answered, and a run counts only if every operation has been seen to answer every
status that the contract documents for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis

from oceanmock.engine.accounts import Accounts, User
from oceanmock.app import create_app
from oceanmock.contract import load_spec, operations_of, spec_path
from oceanmock.scenario.ocp import Switches
from oceanmock.server import Server
from schemathesis_hooks import make_sandbox

HERE = Path(__file__).parent
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIG = HERE / "data" / "schemathesis.toml"
SPEC = spec_path("ocp")
OPERATIONS = operations_of(load_spec(SPEC))
ALL = {operation.id for operation in OPERATIONS}
OPERATING = {operation.id for operation in OPERATIONS if operation.permission == "TASK_MANAGER"}

NEVER = {429}
"""Documented, but the mock never throttles anybody: the README says so."""
WALKS = hypothesis.settings(
    max_examples=60,
    stateful_step_count=8,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
GUEST = User("guest", "guest", frozenset())
"""Known, and permitted nothing: whom even reading is forbidden."""


class Recorder:
    """An ASGI app around another, that notes each operation's answers by their status.

    No two operations of the contract share a path, so a method that a path does not know is noted
    with the path's operation; what is no path of the contract, under its own name.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.seen: defaultdict[str, Counter[int]] = defaultdict(Counter)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def noting_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.seen[operation_of(scope["path"])][message["status"]] += 1
            await send(message)

        await self.app(scope, receive, noting_send)


def operation_of(path: str) -> str:
    """The operation that a path belongs to, whatever its ids."""
    parts = path.split("/")
    return next((o.id for o in OPERATIONS if is_path_of(o.path, parts)), "no path of the contract")


def is_path_of(template: str, parts: list[str]) -> bool:
    wanted = template.split("/")
    return len(wanted) == len(parts) and all(
        part if want.startswith("{") else part == want
        for want, part in zip(wanted, parts, strict=True)
    )


def documented(operation: Any) -> set[int]:
    return {int(status) for status in operation.statuses}


def run_schemathesis(recorder: Recorder, user: str, *options: str) -> dict[str, set[int]]:
    """A clean run as a user against a recorded app, and the statuses each operation answered."""
    with Server(recorder) as server:
        run = subprocess.run(
            [
                SCHEMATHESIS,
                *("--config-file", CONFIG, "run", SPEC),
                *("--url", server.url, "--auth", f"{user}:{user}", *options),
            ],
            capture_output=True,
            text=True,
            cwd=HERE,
            env=os.environ | {"PYTHONPATH": str(HERE), "COLUMNS": "120"},
            check=False,
        )
    seen = {operation: dict(counts) for operation, counts in recorder.seen.items()}
    print(run.stdout, run.stderr, f"Answered: {seen}", sep="\n")  # pytest shows it on failure
    assert run.returncode == 0, "schemathesis found something: see its report below"
    return {operation: set(counts) for operation, counts in seen.items()}


def recorded(switches: Switches) -> Recorder:
    """The mock with a third user, noting what it answers."""
    accounts = Accounts(users=(*Accounts().users, GUEST))
    return Recorder(create_app(make_sandbox(switches), accounts=accounts))


def test_a_manager_meets_every_documented_answer_of_every_operation() -> None:
    recorder = recorded(Switches(subtask_pairing="checked"))

    seen = run_schemathesis(recorder, "manager")

    assert seen.pop("no path of the contract") == {404}
    assert seen == {operation.id: documented(operation) - NEVER - {403} for operation in OPERATIONS}


def test_by_default_the_log_of_an_unknown_subtask_is_empty_and_nothing_else_differs() -> None:
    recorder = recorded(Switches())

    seen = run_schemathesis(recorder, "manager", "--phases", "coverage,fuzzing", "-n", "30")

    assert seen.pop("no path of the contract") == {404}
    assert seen.pop("getSubtaskLog") == {200, 400, 401, 405}
    assert all(seen[o.id] <= documented(o) - {403} for o in OPERATIONS if o.id in seen)


def test_every_walk_along_the_links_of_the_contract_keeps_it_at_each_step() -> None:
    """As the phase `stateful` of the first test, but each walk begins in a world of its own."""
    switches = Switches(subtask_pairing="checked")
    recorder = recorded(switches)
    config = schemathesis.Config.from_path(str(CONFIG))
    schema = schemathesis.openapi.from_path(SPEC, config=config)

    with Server(recorder) as server:
        schema.config.update(base_url=server.url)

        class Walk(schema.as_state_machine()):  # type: ignore[misc]
            def setup(self) -> None:
                recorder.app = recorded(switches).app

            def get_call_kwargs(self, case: Any) -> dict[str, Any]:
                return {"auth": ("manager", "manager")}

        Walk.run(settings=WALKS)

    assert {operation for operation, answers in recorder.seen.items() if 200 in answers} == ALL
    assert set().union(*recorder.seen.values()) == {200, 400, 401, 404}


@pytest.mark.parametrize(("user", "forbidden"), [("viewer", OPERATING), ("guest", ALL)])
def test_who_lacks_the_permission_is_forbidden_whatever_they_ask(
    user: str, forbidden: set[str]
) -> None:
    recorder = recorded(Switches())

    seen = run_schemathesis(recorder, user, "--phases", "examples,coverage")

    assert seen.pop("no path of the contract") == {404}
    assert {operation for operation, statuses in seen.items() if 403 in statuses} == forbidden
    assert all(seen[operation] == {403, 405} for operation in forbidden)
