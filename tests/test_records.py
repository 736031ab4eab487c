"""engine/store.py: what a sandbox keeps of the operations on its tasks and dags."""

from __future__ import annotations

import pytest

from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.log import SandboxSpec
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.store import MAX_RECORDS, MemoryStore, OperationRecord
from oceanmock.errors import IllegalOperation, IllegalOperator, NoSuchTask
from oceanmock.library import load_scenario
from oceanmock.obshell import world as obshell_world
from oceanmock.obshell.world import DagKey, Dags
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import world as ocp_world
from oceanmock.ocp.world import Tasks

REMOVE_ALL: DagKey = ("agent", 60)
FOLLOWER: DagKey = ("agent", 6001)


def standing(name: str) -> Sandbox:
    """A scenario of the library at a standstill."""
    return make_sandbox([load_scenario(name)], progression="manual", starts_at=0)


def test_an_operation_is_kept_with_its_instant_whether_it_was_accepted_or_not() -> None:
    sandbox = standing("retry-failed-subtask")
    with pytest.raises(IllegalOperation):
        ocp_world.operate(sandbox, 1000, "RETRY")
    sandbox.advance(4 * SECOND)

    ocp_world.operate_subtask(sandbox, 1000, 1002, "RETRY")

    refused = "RETRY is not allowed in state RUNNING; allowed: none"
    assert sandbox.operations_of(Tasks.api, 1000) == (
        OperationRecord(0, "RETRY", None, refused),
        OperationRecord(4 * SECOND, "RETRY", 1),
    )


def test_an_operator_is_kept_with_its_instant_whether_it_was_accepted_or_not() -> None:
    sandbox = standing("pass-failed-node")
    with pytest.raises(IllegalOperator):
        obshell_world.operate_node(sandbox, FOLLOWER, "PASS")
    sandbox.advance(60 * SECOND)

    obshell_world.operate_node(sandbox, FOLLOWER, "PASS")

    assert sandbox.operations_of(Dags.api, REMOVE_ALL) == (
        OperationRecord(0, "PASS", 0, "Node.Operator.PassNotFailedDag"),
        OperationRecord(60 * SECOND, "PASS", 0),
    )


def test_a_life_begins_at_its_birth_and_holds_what_is_to_come() -> None:
    tasks = standing("retry-failed-subtask").world(Tasks)

    life = tasks.history_of(1000)

    assert (life.states[0].at, life.states[-1].status) == (0, "FAILED")
    assert tasks.view(1000).state == ocp.view_at(life, 0)


def test_nothing_is_kept_of_what_is_not_there() -> None:
    sandbox = standing("retry-failed-subtask")

    assert sandbox.operations_of(Tasks.api, 7) == ()
    with pytest.raises(NoSuchTask):
        sandbox.world(Tasks).history_of(7)
    assert sandbox.operations_of(Dags.api, ("agent", 7)) == ()
    with pytest.raises(NoSuchTask):
        sandbox.world(Dags).history_of(("agent", 7))


def test_only_the_last_thousand_are_kept_of_each() -> None:
    store = MemoryStore()
    store.put(SandboxSpec(name="t"))

    for instant in range(MAX_RECORDS + 5):
        store.record("t", 1, OperationRecord(instant, "RETRY", None))
    store.record("t", 2, OperationRecord(0, "RETRY", None))

    records = store.records("t", 1)
    assert [operated.at for operated in records] == list(range(5, MAX_RECORDS + 5))
    assert len(store.records("t", 2)) == 1
    assert store.records("t", 3) == ()
