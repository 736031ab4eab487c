"""transition_coverage.py: what a suite's clients have seen, what they missed, and how it is told.

The journals are those that clients of real sandboxes leave behind; where a test is about a single
exchange, it writes that one itself. Reports are whole texts in tests/golden.

Observations are read from responses: recorded by an obshell 4.5.0.0, the samples of the documents
and the examples of the contracts. That nothing is raised, whatever comes, is asked of hypothesis.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import assert_golden
from in_process import Ask, asking
from obshell_recordings import exchanges_of
from obshell_sandbox import plain
from oceanmock.apis import APIS, api_named, make_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.log import AddFault
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import CallerError
from oceanmock.http.app import create_app
from oceanmock.library import library_names, load_scenario, read_fault
from oceanmock.observations import Observation, observations, requested_operation
from oceanmock.obshell import world as obshell_world
from oceanmock.obshell.api import ClientOperator
from oceanmock.obshell.explain import explain as explain_dag
from oceanmock.obshell.states import MACHINES
from oceanmock.obshell.world import Dags, id_of
from oceanmock.ocp import api as ocp_api
from oceanmock.ocp import world as ocp_world
from oceanmock.ocp.explain import explain as explain_task
from oceanmock.ocp.world import Tasks
from oceanmock.openapi import load_spec, spec_path
from oceanmock.report import Coverage, Item, items_of

TASK = "/api/v2/tasks/instances/1000"
FAILED = f"{TASK}/subtasks/1002"
DAG = "/api/v1/task/dag/2213070643302886"


def sandbox_of(name: str, **options: Any) -> Sandbox:
    """A sandbox of a scenario of the library, in which every look moves time on."""
    return make_sandbox([load_scenario(name)], **{"progression": "polls"} | options)


def watch(ask: Ask, path: str, state: str, *, of: Callable[[Any], str] = lambda t: t["status"]) -> None:
    """Polls until it is in a state, as a client does."""
    for _ in range(200):
        if of(ask("GET", path).json()["data"]) == state:
            return
    raise AssertionError(f"{path} never was {state}")


def covered(sandbox: Sandbox, api: str = "ocp") -> Coverage:
    """What has come of a sandbox by now."""
    coverage = Coverage(APIS)
    scenarios = [each.name for each in sandbox.scenarios]
    coverage.add(api, scenarios, [entry.to_json() for entry in sandbox.journal.entries()])
    for explanation in explained(sandbox, api):
        coverage.add_explanation(api, explanation)
    return coverage


def explained(sandbox: Sandbox, api: str) -> list[dict[str, Any]]:
    """The lives of a sandbox, as the admin API tells them; of many tasks those of the first."""
    lives: list[Any]
    if api == "ocp":
        lives = [explain_task(sandbox, view.data.id) for view in sandbox.world(Tasks).all()[:3]]
    else:
        stores: tuple[Any, ...] = ("agent", "cluster")
        dags = [view.data for store in stores for view in sandbox.world(Dags).all(store)]
        lives = [explain_dag(sandbox, id_of(dag, dag.number)) for dag in dags]
    return [json.loads(json.dumps(life.to_json())) for life in lives]


def standing(coverage: Coverage, text: str, api: str = "ocp") -> str:
    """What became of the item that the report calls so."""
    return next(s for item, s in coverage.standings(api).items() if str(item) == text)


def text_of(coverage: Coverage) -> str:
    """The report, without its colours."""
    return "".join(f"{text}\n" for text, _ in coverage.lines())


def read_back(data: Any) -> Coverage:
    """The coverage that was written as JSON."""
    coverage = Coverage(APIS)
    coverage.add_json(data)
    return coverage


def entry(number: int, operation: str, data: Any = None, **said: Any) -> dict[str, Any]:
    """One exchange, as the admin API has it, as far as coverage reads it."""
    return {
        "number": number,
        "operation": operation,
        "request_body": None,
        "status": 200,
        "response_body": {"data": data},
    } | said


def task(status: str, operation: str | None = None) -> dict[str, Any]:
    """A task in an answer, without subtasks; a row of a list has no operation."""
    return {"id": 1, "status": status} | ({"operation": operation} if operation else {})


def looks(*shown: str) -> Coverage:
    """What a client has seen that has looked at one task so often."""
    coverage = Coverage(APIS)
    entries = [entry(number, "getTaskInstance", task(*words.split("/"))) for number, words in enumerate(shown, start=1)]
    coverage.add("ocp", ["made-up"], entries)
    return coverage


# --- the report -----------------------------------------------------------------------------------


@pytest.fixture
def retried() -> Coverage:
    """A client that polls a task, retries what failed, and polls on."""
    sandbox = sandbox_of("retry-failed-subtask")
    ask = asking(create_app(sandbox))
    watch(ask, TASK, "FAILED")
    ask("POST", f"{FAILED}/retry")
    watch(ask, TASK, "SUCCESSFUL")
    return covered(sandbox)


@pytest.fixture
def initialized() -> Coverage:
    """A client that only looks at the beginning and at the end of a dag that fails."""
    sandbox = sandbox_of("initialize-cluster-fails", progression="manual")
    ask, path = plain(sandbox), f"{DAG}4"
    ask("GET", path)
    sandbox.advance(600 * SECOND)
    ask("GET", path)
    ask("POST", path, json={"operator": "CANCEL"})
    ask("POST", path, json={"operator": "ROLLBACK"})
    sandbox.advance(600 * SECOND)
    ask("GET", path)
    return covered(sandbox, "obshell")


def test_the_report_names_what_no_client_has_met(retried: Coverage) -> None:
    assert_golden("transition-coverage-ocp.txt", text_of(retried))


def test_the_report_tells_what_happened_from_what_was_seen(initialized: Coverage) -> None:
    assert_golden("transition-coverage-obshell.txt", text_of(initialized))


def test_both_apis_are_told_together(retried: Coverage, initialized: Coverage) -> None:
    retried.add_json(initialized.to_json())

    assert_golden("transition-coverage-both.txt", text_of(retried))


def test_a_run_without_a_sandbox_has_seen_nothing() -> None:
    nothing = Coverage(APIS)

    assert nothing.percent == 0
    assert nothing.counts == {}
    assert text_of(nothing) == "Transition coverage: no sandbox was used.\n"


def test_the_report_fits_a_narrow_terminal(retried: Coverage, initialized: Coverage) -> None:
    retried.add_json(initialized.to_json())

    assert max(len(text) for text, _ in retried.lines()) <= 80
    assert {colour for _, colour in retried.lines()} <= {"", "bold", "green", "yellow", "red"}


# --- what counts as seen --------------------------------------------------------------------------


def test_a_state_is_seen_when_an_answer_shows_it() -> None:
    coverage = looks("RUNNING/EXECUTE")

    assert standing(coverage, "task RUNNING") == "seen"
    assert standing(coverage, "task FAILED") == "never"


def test_a_transition_is_seen_when_its_ends_are_next_to_each_other() -> None:
    coverage = looks("RUNNING/EXECUTE", "FAILED/EXECUTE", "RUNNING/RETRY")

    assert standing(coverage, "task RUNNING → FAILED/EXECUTE") == "seen"
    assert standing(coverage, "task FAILED → RUNNING/RETRY") == "seen"


def test_no_transition_is_seen_by_who_looks_away_in_between() -> None:
    coverage = looks("RUNNING/EXECUTE", "SUCCESSFUL/RETRY")

    edges = [item for item, s in coverage.standings("ocp").items() if item.sort == "transition" and s == "seen"]
    assert edges == []


def test_a_list_shows_states_and_no_ends_of_transitions() -> None:
    coverage = looks("RUNNING/EXECUTE", "FAILED", "RUNNING/RETRY")

    assert standing(coverage, "task FAILED") == "seen"
    assert standing(coverage, "task FAILED → RUNNING/RETRY") == "never"


def test_a_list_in_between_hides_no_transition() -> None:
    coverage = looks("RUNNING/EXECUTE", "FAILED", "FAILED/EXECUTE")

    assert standing(coverage, "task RUNNING → FAILED/EXECUTE") == "seen"


def test_two_sandboxes_are_not_one_life() -> None:
    coverage = looks("RUNNING/EXECUTE")

    coverage.add_json(looks("FAILED/EXECUTE").to_json())

    assert standing(coverage, "task RUNNING → FAILED/EXECUTE") == "never"


def test_a_journal_is_read_in_the_order_of_its_numbers() -> None:
    coverage = Coverage(APIS)
    first = entry(1, "getTaskInstance", task("RUNNING", "EXECUTE"))
    second = entry(2, "getTaskInstance", task("FAILED", "EXECUTE"))

    coverage.add("ocp", [], [second, first])

    assert standing(coverage, "task RUNNING → FAILED/EXECUTE") == "seen"


@pytest.mark.parametrize(
    "answer",
    [
        {"status": None, "response_body": None},
        {"status": 500},
        {"response_body": '{"data": {"id": 1, "status": "FAI... (9 more bytes)'},
    ],
)
def test_what_was_not_answered_in_full_shows_nothing(answer: dict[str, Any]) -> None:
    coverage = Coverage(APIS)

    coverage.add("ocp", [], [entry(1, "getTaskInstance", task("FAILED", "EXECUTE"), **answer)])

    assert standing(coverage, "task FAILED") == "never"


def test_a_state_that_no_machine_has_is_left_out() -> None:
    coverage = looks("RUNNING/EXECUTE", "PAUSED/EXECUTE")

    assert "PAUSED" not in json.dumps(coverage.to_json())


# --- operators ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "became"), [(200, "seen"), (400, "requested"), (None, "requested")])
def test_an_operator_is_seen_when_it_is_accepted(status: int | None, became: str) -> None:
    coverage = Coverage(APIS)

    coverage.add("ocp", [], [entry(1, "skipSubtask", status=status)])

    assert standing(coverage, "subtask SKIP") == became
    assert standing(coverage, "subtask CANCEL") == "never"


def test_the_operators_of_a_dag_are_told_from_those_of_a_node() -> None:
    coverage = Coverage(APIS)

    coverage.add("obshell", [], [entry(1, "nodeHandler", request_body={"operator": "PASS"})])

    assert standing(coverage, "node PASS", "obshell") == "seen"
    assert standing(coverage, "dag PASS", "obshell") == "never"


def test_an_operator_that_there_is_not_is_left_out() -> None:
    coverage = Coverage(APIS)

    coverage.add("obshell", [], [entry(1, "dagHandler", request_body={"operator": "x"}, status=400)])

    assert not any(s != "never" for s in coverage.standings("obshell").values())


# --- what happened --------------------------------------------------------------------------------


def test_what_was_never_read_has_happened() -> None:
    sandbox = sandbox_of("retry-failed-subtask", progression="manual")
    sandbox.advance(60 * SECOND)

    coverage = covered(sandbox)

    assert coverage.counts["seen"] == 0
    assert standing(coverage, "task RUNNING → FAILED/EXECUTE") == "happened"
    assert standing(coverage, "subtask PENDING → READY/EXECUTE") == "happened"
    assert standing(coverage, "subtask CANCELING") == "never"


def test_an_operation_whose_answer_is_lost_has_happened_all_the_same() -> None:
    sandbox = sandbox_of("retry-failed-subtask", progression="manual")
    sandbox.execute(AddFault(read_fault({"operation": "retrySubtask", "drop_response": True})))
    sandbox.advance(60 * SECOND)

    with pytest.raises(ConnectionResetError):
        asking(create_app(sandbox))("POST", f"{FAILED}/retry")

    coverage = covered(sandbox)
    assert standing(coverage, "subtask RETRY") == "requested"
    assert standing(coverage, "subtask FAILED → READY/RETRY") == "happened"


def test_what_needs_an_opt_in_counts_once_it_has_happened() -> None:
    sandbox = sandbox_of("abandoned-task", progression="manual")
    before = covered(sandbox)

    sandbox.advance(3600 * SECOND)
    after = covered(sandbox)

    aborted = Item("task", "state", "ABORTED")
    assert aborted not in before.standings("ocp")
    assert after.standings("ocp")[aborted] == "happened"
    assert after.counts.total() == before.counts.total() + 2


def test_a_refusal_and_a_moving_stage_are_no_transitions() -> None:
    coverage = Coverage(APIS)
    events = [
        {"kind": "dag", "who": "dag 4 “x”", "from": "RUNNING/RUN at stage 1", "to": "RUNNING/RUN at stage 2"},
        {"kind": "dag", "who": "dag 4 “x”", "from": "RUNNING/RUN at stage 2", "to": "RUNNING/RUN at stage 2"},
    ]

    coverage.add_explanation("obshell", {"events": events})

    happened = [i for i, s in coverage.standings("obshell").items() if s == "happened"]
    assert happened == [Item("dag", "state", "RUNNING")]


def test_an_operator_that_changes_nothing_makes_no_transition() -> None:
    coverage = Coverage(APIS)
    again = {"kind": "dag", "who": "dag 4 “x”", "from": "READY/CANCEL at stage 1", "to": "READY/CANCEL at stage 1"}

    coverage.add_explanation("obshell", {"events": [again]})

    assert standing(coverage, "dag READY", "obshell") == "happened"
    assert standing(coverage, "dag READY → READY/CANCEL", "obshell") == "never"


def test_a_dag_is_born_with_its_nodes_and_their_sub_tasks() -> None:
    sandbox = sandbox_of("initialize-cluster-fails", progression="manual")

    coverage = covered(sandbox, "obshell")

    happened = [str(i) for i, s in coverage.standings("obshell").items() if s == "happened"]
    assert happened == ["dag READY", "node PENDING", "sub task PENDING"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "many-tasks" else []) for name in library_names()]
)
def test_whatever_happens_in_a_library_scenario_is_something_that_counts(name: str) -> None:
    sandbox = sandbox_of(name, progression="manual")
    api = str(load_scenario(name).api)
    live(sandbox)

    told = [event for life in explained(sandbox, api) for event in life["events"]]

    moves = [e for e in told if e["from"] and unstaged(e["from"]) != unstaged(e["to"])]
    known = {item for item in items_of(api_named(api)) if item.sort == "transition"}
    happened = {item for item in covered(sandbox, api).standings(api) if item.sort == "transition"}
    assert all(transition_of(event, known) in happened for event in moves)


def live(sandbox: Sandbox) -> None:
    """Lets half an hour of it pass in ever longer steps, and tries everything on the way."""
    on_tasks: list[ocp_api.Operation] = ["ROLLBACK", "RETRY"]
    on_dags: list[ClientOperator] = ["RETRY", "CANCEL", "ROLLBACK", "PASS"]
    for step in range(60):
        sandbox.advance((step + 1) * SECOND)
        for view in sandbox.world(Tasks).all()[:3]:
            with suppress(CallerError):
                ocp_world.operate(sandbox, view.data.id, on_tasks[step % 2])
        for dag in sandbox.world(Dags).all("agent"):
            with suppress(CallerError):
                obshell_world.operate(sandbox, ("agent", dag.data.number), on_dags[step % 4])


def unstaged(words: str) -> str:
    """What a dag shows, without its stage."""
    return words.partition(" at ")[0]


def transition_of(event: Mapping[str, Any], known: set[Item]) -> Item | None:
    """The transition of an event among those that there are."""
    before, after = unstaged(event["from"]).split("/")[0], unstaged(event["to"])
    item = Item(event["kind"], "transition", f"{before} → {after}")
    return item if item in known else None


# --- the figures ----------------------------------------------------------------------------------


def test_the_percentage_is_of_all_that_there_is_by_default() -> None:
    by_default = [only for only in items_of(api_named("ocp")).values() if not only]

    coverage = looks("RUNNING/EXECUTE", "FAILED/EXECUTE")

    assert (coverage.counts["seen"], coverage.counts.total()) == (3, len(by_default))
    assert coverage.percent == 5.5


def test_a_percentage_is_never_rounded_up() -> None:
    many = Coverage(APIS)
    many.add("ocp", [], [])
    many.add("obshell", [], [])
    said = json.loads(json.dumps(many.to_json()).replace('"never"', '"seen"'))
    said["apis"]["ocp"]["kinds"]["task"]["states"]["FAILED"] = "happened"

    coverage = read_back(said)

    assert (coverage.counts["seen"], coverage.counts.total()) == (116, 117)
    assert coverage.percent == 99.1


def test_an_api_that_was_not_used_counts_for_nothing(retried: Coverage) -> None:
    assert retried.apis == ("ocp",)
    assert retried.counts.total() == len(retried.standings("ocp"))


# --- several processes ----------------------------------------------------------------------------


def test_what_is_written_can_be_read_again(retried: Coverage, initialized: Coverage) -> None:
    retried.add_json(initialized.to_json())
    said = json.loads(json.dumps(retried.to_json()))

    again = read_back(said)

    assert again.to_json() == said
    assert text_of(again) == text_of(retried)


def test_the_best_of_several_is_what_counts() -> None:
    nothing, something = Coverage(APIS), looks("RUNNING/EXECUTE")
    nothing.add("ocp", ["other"], [])

    one, other = read_back(nothing.to_json()), read_back(something.to_json())
    one.add_json(something.to_json())
    other.add_json(nothing.to_json())

    assert one.to_json() == other.to_json()
    assert one.to_json()["apis"]["ocp"]["scenarios"] == ["made-up", "other"]
    assert one.to_json()["apis"]["ocp"]["sandboxes"] == 2
    assert one.counts == something.counts


def test_what_a_newer_worker_knows_more_is_left_out() -> None:
    said = looks("RUNNING/EXECUTE").to_json()
    said["apis"]["ocp"]["kinds"]["task"]["states"]["PAUSED"] = "seen"
    said["apis"]["ocp"]["kinds"]["step"] = {"states": {"RUNNING": "seen"}}

    assert read_back(said).to_json() == looks("RUNNING/EXECUTE").to_json()


def test_the_json_says_what_is_not_counted_and_why(retried: Coverage) -> None:
    said = retried.to_json()["apis"]["ocp"]

    assert said["not_counted"]["task ABORTED"] == "abandoned_after"
    assert said["kinds"]["task"]["states"] == dict.fromkeys(["RUNNING", "SUCCESSFUL", "FAILED"], "seen")


# --- what responses show --------------------------------------------------------------------------


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
    return list(observations(api_named(api), operation, body))


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

    assert seen("ocp", "", alone) == seen("ocp", "", listed) == seen("ocp", "getTaskInstance", alone)


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
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=8),
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
    assert requested_operation(api_named("ocp"), operation, None) == call


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
    assert requested_operation(api_named("obshell"), operation, body) == call
