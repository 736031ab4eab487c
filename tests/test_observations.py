"""sightings.py: what answers show, held against recorded bodies, the documents and the contracts.

The recordings are of a running obshell 4.5.0.0; OCP's bodies are the documents' own samples and the
examples of the contract. That nothing is raised, whatever comes, is asked of hypothesis.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obshell_recordings import exchanges_of
from oceanmock.apis import api_named
from oceanmock.observations import Observation
from oceanmock.obshell.states import MACHINES
from oceanmock.openapi import load_spec, spec_path

DATA = Path(__file__).parent / "data"
RECORDINGS = sorted(path.name for path in (DATA / "obshell").glob("[a-z]*.json"))


def document(start: str) -> Any:
    """A sample of OCP's documents, by the beginning of its name."""
    (path,) = (DATA / "documents").glob(f"{start}*.json")
    return json.loads(path.read_text(encoding="utf-8"))


def example(api: str, name: str) -> Any:
    """An example of a contract."""
    return load_spec(spec_path(api))["components"]["examples"][name]["value"]


def seen(api: str, operation: str, body: Any) -> list[Observation]:
    """All sightings in a body."""
    return list(api_named(api).parse.observations(operation, body))


def standings(value: Any) -> Iterator[tuple[str, str]]:
    """State and operator of every object that has both, in the order in which they are written."""
    if isinstance(value, dict) and {"state", "operator"} <= value.keys():
        yield value["state"], value["operator"]
    children = value.values() if isinstance(value, dict) else value
    for child in children if isinstance(value, dict | list) else ():
        yield from standings(child)


# --- obshell, as it was recorded ------------------------------------------------------------------


@pytest.mark.parametrize("file", RECORDINGS)
def test_every_state_that_a_recorded_answer_has_is_a_sighting(file: str) -> None:
    bodies = [exchange.response.get("body") for exchange in exchanges_of(file)]

    shown = [[each.label for each in seen("obshell", "", body)] for body in bodies]

    assert shown == [list(standings(body)) for body in bodies]


@pytest.mark.parametrize("file", RECORDINGS)
def test_what_was_recorded_is_among_what_the_machines_show(file: str) -> None:
    bodies = [exchange.response.get("body") for exchange in exchanges_of(file)]

    sightings = [each for body in bodies for each in seen("obshell", "", body)]

    assert all(each.label in MACHINES[each.kind].labels for each in sightings)


def test_a_dag_is_shown_with_its_nodes_and_these_with_their_sub_tasks() -> None:
    submit, look, *_ = exchanges_of("pass.json")

    (started,) = seen("obshell", "", submit.response["body"])
    dag, node, sub_task, *_ = seen("obshell", "getDagDetail", look.response["body"])

    assert dag == Observation("dag", "22130706433028866", "Initialize cluster", "READY", "RUN")
    assert started == dag
    assert (node.kind, node.parent) == ("node", dag.id)
    assert (sub_task.kind, sub_task.parent) == ("sub_task", node.id)


def test_a_dag_without_details_is_shown_alone() -> None:
    body = {"data": {"contents": [{"id": "11", "dag_id": 1, "state": "READY", "nodes": None}]}}

    assert seen("obshell", "getAllClusterDags", body) == [Observation("dag", "11", "", "READY", "")]


def test_a_log_and_an_agents_state_are_no_sightings() -> None:
    log = {"data": {"contents": [{"id": 1, "sub_task_id": 1, "log_content": "x"}]}}
    agent = {"data": {"state": 2, "agent": {"ip": "10.0.0.1"}}}

    assert seen("obshell", "getFullSubTaskLogs", log) == []
    assert seen("obshell", "getStatus", agent) == []


# --- OCP, as it is documented ---------------------------------------------------------------------


def test_a_task_is_shown_with_its_subtasks_in_the_order_of_the_answer() -> None:
    task, *subtasks = seen("ocp", "getTaskInstance", document("000"))

    assert task == Observation("task", "35000312", "Reinstall OCP agent", "SUCCESSFUL", "EXECUTE")
    assert [each.id for each in subtasks] == ["13000336", "13000334", "13000333", "13000335"]
    assert {(each.kind, each.parent) for each in subtasks} == {("subtask", "35000312")}


def test_a_list_shows_each_task_without_its_operation() -> None:
    body = example("ocp", "TaskList")
    rows = body["data"]["contents"]

    shown = seen("ocp", "listTaskInstances", body)

    tasks = [each for each in shown if each.kind == "task"]
    assert [each.id for each in tasks] == [str(row["id"]) for row in rows]
    assert {each.operation for each in tasks} == {""}
    assert len(shown) == len(rows) + sum(len(row["subtasks"]) for row in rows)


def test_a_retried_subtask_is_shown_by_the_answer_to_its_retry() -> None:
    subtask = document("000")["data"]["subtasks"][2] | {"status": "READY", "operation": "RETRY"}

    (shown,) = seen("ocp", "retrySubtask", {"data": subtask})

    assert shown == Observation("subtask", "13000333", "Uninstall ocp agent", "READY", "RETRY")


def test_a_submit_shows_the_task_it_has_started_wherever_it_puts_it() -> None:
    task = document("000")["data"]

    alone, listed = ({"data": task}, {"data": {"contents": [task]}})

    assert (
        seen("ocp", "", alone) == seen("ocp", "", listed) == seen("ocp", "getTaskInstance", alone)
    )


def test_what_another_service_answers_is_no_task() -> None:
    cluster = {"data": {"id": 7, "name": "c1", "status": "RUNNING"}}

    assert seen("ocp", "", cluster) == []


@pytest.mark.parametrize("name", sorted(load_spec(spec_path("ocp"))["components"]["examples"]))
def test_an_example_of_the_contract_shows_a_task_exactly_where_it_has_one(name: str) -> None:
    body = example("ocp", name)
    has_task = "status" in str(body.get("data"))

    assert bool(seen("ocp", "getTaskInstance", body)) == has_task


# --- whatever comes -------------------------------------------------------------------------------

KEYS = ["data", "contents", "subtasks", "nodes", "sub_tasks", "id", "dag_id", "node_id", "task_id"]
KEYS += ["status", "state", "operation", "operator", "name", ""]
leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
junk = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=8)
    ),
    max_leaves=30,
)


@given(junk, st.sampled_from(["ocp", "obshell"]), st.sampled_from(["", "retrySubtask", "getX"]))
def test_no_body_is_too_strange_to_be_read(body: Any, api: str, operation: str) -> None:
    shown = seen(api, operation, {"data": body})

    assert all(each.id and isinstance(each.state, str) for each in shown)
    assert all(isinstance(each.operation, str) for each in shown)


@pytest.mark.parametrize("id", [True, None, 1.5, [], {}])
def test_what_has_no_id_is_not_seen(id: Any) -> None:
    assert seen("ocp", "getTaskInstance", {"data": {"id": id, "status": "RUNNING"}}) == []


# --- what a request asks for ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("retryTask", "task.RETRY"),
        ("rollbackTask", "task.ROLLBACK"),
        ("retrySubtask", "subtask.RETRY"),
        ("skipSubtask", "subtask.SKIP"),
        ("cancelSubtask", "subtask.CANCEL"),
        ("getTaskInstance", ""),
        ("", ""),
    ],
)
def test_each_operation_of_ocp_asks_for_one_thing(operation: str, call: str) -> None:
    assert api_named("ocp").parse.requested_operation(operation, None) == call


@pytest.mark.parametrize(
    ("operation", "body", "call"),
    [
        ("dagHandler", {"operator": "ROLLBACK"}, "dag.ROLLBACK"),
        ("nodeHandler", {"operator": "pass"}, "node.PASS"),
        ("dagHandler", {"operator": 1}, ""),
        ("dagHandler", None, ""),
        ("getDagDetail", {"operator": "ROLLBACK"}, ""),
    ],
)
def test_the_body_says_what_is_asked_of_obshell(operation: str, body: Any, call: str) -> None:
    assert api_named("obshell").parse.requested_operation(operation, body) == call
