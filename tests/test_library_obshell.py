"""The library's obshell scenarios against what a real obshell did (tests/data/obshell)."""

from __future__ import annotations

import json
import re
from datetime import datetime
from itertools import groupby

import pytest

from obshell_recordings import ALL_BUT_PASS, FLAGS, FOLDER, Seen, recording_of
from obshell_sandbox import plain
from oceanmock.apis import make_sandbox
from oceanmock.errors import IllegalOperator
from oceanmock.library import library_names, load_scenario
from oceanmock.obshell import machine
from oceanmock.obshell import scenario as obshell
from oceanmock.obshell import states as obshell_states
from oceanmock.obshell import world as obshell_world
from oceanmock.obshell.scenario_checks import simulate_story
from oceanmock.obshell.world import Dags


def scenario_of(name: str) -> obshell.Scenario:
    """An obshell scenario of the library."""
    scenario = load_scenario(name)
    assert isinstance(scenario, obshell.Scenario)
    return scenario


NAMES = [name for name in library_names() if load_scenario(name).api == "obshell"]
DAGS = [dag for name in NAMES for dag in scenario_of(name).dags]
INITIALIZING = [dag for dag in DAGS if dag.name == "Initialize cluster"]
RECORDED = recording_of("init.json", "22130706433028864")


@pytest.mark.parametrize(
    ("dag", "file", "dag_id", "nodes"),
    [
        (4, "init.json", "22130706433028864", 3),
        (10, "join.json", "22130706433028861", 1),
        (20, "init.json", "22130706433028862", 1),
        (21, "init.json", "22130706433028863", 1),
    ],
)
def test_what_is_said_to_be_recorded_is(dag: int, file: str, dag_id: str, nodes: int) -> None:
    (written,) = (each for each in DAGS if each.id == dag)

    recording = recording_of(file, dag_id)

    assert tuple(node.name for node in written.nodes) == recording.names
    assert [measured(each.attempts[0]) for each in scripts(obshell.script_of(written))[:nodes]] == [
        measured(each.attempts[0]) for each in scripts(recording.plan)[:nodes]
    ]


def test_initialize_cluster_is_undone_as_the_recorded_one() -> None:
    (dag,) = scenario_of("initialize-cluster-fails").dags

    undone = [measured(each.rollbacks[0]) for each in scripts(obshell.script_of(dag))[:3]]

    assert undone == [measured(each.rollbacks[0]) for each in scripts(RECORDED.plan)[:3]]


def scripts(plan: obshell_states.DagScript) -> list[obshell_states.SubTaskScript]:
    """The script of each node's first sub task."""
    return [node.sub_tasks[0] for node in plan.nodes]


def measured(run: obshell_states.RunScript) -> tuple[int, str, tuple[str, ...]]:
    """How many microseconds a run takes, how it ends and what it logs."""
    return round((run.takes or 0) / 1000), run.ends, logged(run)


def logged(run: obshell_states.RunScript) -> tuple[str, ...]:
    """All lines of a run that ends by itself; a recording does not set the last one apart."""
    return run.log if run.last_words is None else (*run.log, run.last_words)


def test_the_dag_that_is_passed_failed_as_the_recorded_one() -> None:
    (dag,) = scenario_of("pass-failed-dag").dags
    exchanges = json.loads((FOLDER / "pass-dag.json").read_text("utf-8"))["exchanges"]

    recorded = exchanges[0]["response"]["body"]["data"]

    assert recorded["name"] == dag.name
    assert recorded["nodes"][0]["sub_tasks"][0]["task_logs"] == list(
        logged(obshell.script_of(dag).nodes[0].sub_tasks[0].attempts[0])
    )


@pytest.mark.parametrize("dag", INITIALIZING, ids=lambda dag: str(dag.id))
def test_initialize_cluster_is_always_the_real_one(dag: obshell.Dag) -> None:
    names = tuple(node.name for node in dag.nodes)

    assert names == RECORDED.names
    assert dag.maintenance == "global"
    assert [set(node.can) for node in dag.nodes] == [
        {"continue", *FLAGS.get(str(name), ALL_BUT_PASS)} for name in names
    ]


def test_the_story_of_initialize_cluster_is_the_recorded_one() -> None:
    """Every state of the dag in the recording, in order, but for the refused calls between."""
    (actor,) = simulate_story(scenario_of("initialize-cluster-fails")).actors
    seen = [each.dag for each in RECORDED.events if isinstance(each, Seen)]

    told = [(each.state, each.operator, each.stage) for each in actor.life.states]

    recorded = [(dag["state"], dag["operator"], dag["stage"]) for dag in seen]
    assert [words for words, _ in groupby(told)] == [words for words, _ in groupby(recorded)]


def test_the_documents_call_is_accepted_from_the_first_moment() -> None:
    sandbox = make_sandbox([scenario_of("documents-dag-id")], progression="manual")
    before = sandbox.world(Dags).view(("agent", 9))

    after = obshell_world.operate(sandbox, ("agent", 9), "ROLLBACK")

    assert (before.dag.name, before.state.state) == ("Initialize cluster", "FAILED")
    assert (after.state.state, after.state.operator) == ("READY", "ROLLBACK")
    assert sandbox.clock.now() == 1_704_869_068_366_402_000


def test_the_documents_request_is_answered_as_the_document_shows() -> None:
    """To the order of its keys; the trace id is the server's to choose, so is how long it took."""
    sandbox = make_sandbox([scenario_of("documents-dag-id")], progression="manual")
    shown = json.loads((FOLDER / "001_fdf33ed94fc51ae1.json").read_text("utf-8"))

    answer = plain(sandbox)(
        "POST", "/api/v1/task/dag/22130706433028869", content='{\n    "operator": "ROLLBACK"\n}'
    )

    body = answer.json()
    assert list(body) == list(shown)
    assert [body[key] for key in ("successful", "status")] == [True, 200]
    assert re.fullmatch("[0-9a-f]{16}", body["traceId"])
    assert datetime.fromisoformat(body["timestamp"]) == datetime.fromisoformat(shown["timestamp"])


def test_a_cancelled_rollback_stays_stuck_however_often_it_is_retried() -> None:
    (actor,) = simulate_story(scenario_of("cancelled-rollback")).actors
    life = actor.life

    for _ in range(3):
        over = life.states[-1].at
        with pytest.raises(IllegalOperator) as refused:
            machine.operate(life, "ROLLBACK", over)
        assert refused.value.reason == "NoNodeFailed"
        life = machine.operate(life, "RETRY", over)

    assert not life.states[-1].is_finished


def test_of_the_two_that_failed_yesterday_one_is_unfinished() -> None:
    scenario = scenario_of("unfinished-maintenance")
    sandbox = make_sandbox([scenario], progression="manual")

    states = {view.dag.number: view.state for view in sandbox.world(Dags).all("agent")}

    assert {number: state.state for number, state in states.items()} == {
        100: "FAILED",
        101: "FAILED",
    }
    assert {number: state.is_finished for number, state in states.items()} == {
        100: False,
        101: True,
    }


def test_the_stories_show_every_state_with_every_operator_there_is() -> None:
    lives = [actor.life for name in NAMES for actor in simulate_story(scenario_of(name)).actors]
    states = [state for life in lives for state in life.states]
    nodes = [node for state in states for node in state.nodes]

    assert {(state.state, state.operator) for state in states} >= {
        ("READY", "RUN"),
        ("RUNNING", "RUN"),
        ("FAILED", "RUN"),
        ("SUCCEED", "RUN"),
        ("READY", "ROLLBACK"),
        ("RUNNING", "ROLLBACK"),
        ("FAILED", "ROLLBACK"),
        ("SUCCEED", "ROLLBACK"),
        ("READY", "CANCEL"),
        ("RUNNING", "CANCEL"),
        ("FAILED", "CANCEL"),
        ("SUCCEED", "PASS"),
    }
    assert {node.operator for node in nodes} == {"RUN", "RETRY", "ROLLBACK", "CANCEL", "PASS"}
    assert {sub_task.operator for node in nodes for sub_task in node.sub_tasks} == {
        "RUN",
        "ROLLBACK",
        "PASS",
    }


def test_the_stories_call_everything_and_are_refused_in_both_ways() -> None:
    steps = [step for name in NAMES for step in scenario_of(name).story if step.call]

    assert {(step.call, step.operator, step.answers) for step in steps} == {
        *(("operateDag", each, 200) for each in ("ROLLBACK", "RETRY", "CANCEL", "PASS")),
        *(("operateDag", each, 400) for each in ("ROLLBACK", "RETRY", "CANCEL", "PASS")),
        ("operateDag", "ROLLBACK", 500),
        ("operateNode", "PASS", 200),
        ("operateNode", "PASS", 400),
    }


@pytest.mark.parametrize("name", [name for name in NAMES if name != "start-operations"])
def test_every_dag_is_on_the_agent_that_the_whole_library_is_served_on(name: str) -> None:
    scenario = scenario_of(name)

    assert scenario.agent == obshell.Agent()
    assert scenario.switches == obshell.Switches()
    assert all(dag.id is not None and dag.scope == "agent" for dag in scenario.dags)
