"""The scenarios that come with oceanmock, how they are found, and the schema of their format.

Those of obshell are also compared with what a real obshell did (tests/data/obshell).
"""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from obshell_recordings import ALL_BUT_PASS, FLAGS, FOLDER, Seen, recording_of
from obshell_sandbox import plain
from oceanmock.apis import make_sandbox
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import IllegalOperator, InputError, ScenarioError
from oceanmock.library import expand, find_scenario, library_names, load_all, load_library, load_scenario, read_scenario
from oceanmock.obshell import machine
from oceanmock.obshell import scenario as obshell
from oceanmock.obshell import states as obshell_states
from oceanmock.obshell import world as obshell_world
from oceanmock.obshell.agent import Agent, Switches
from oceanmock.obshell.scenario import FORMAT
from oceanmock.obshell.world import Dags
from oceanmock.ocp import scenario as ocp
from oceanmock.ocp.world import Tasks
from oceanmock.openapi import compiled, load_spec, spec_path
from oceanmock.scenario import BaseScenario
from scenario_schema import definitions, schema, validator
from served import load_yaml

ROOT = Path(__file__).parents[1]
SCENARIOS = ROOT / "scenarios"
NAMES = library_names()
ON_REQUEST = (
    "backup-tenant",
    "cluster-of-two",
    "create-tenant",
    "restore-tenant",
    "scale-out-refused",
    "single-to-tenant",
    "start-operations",
    "take-over-cluster",
    "tenant-created-again",
    "upgrade-cluster",
)
"""Those in which nothing is there before a client has asked for it."""
APART = {*ON_REQUEST, "take-over"} - {"create-tenant", "take-over-cluster"}
"""Those of another agent."""
PROMISED = {
    *ON_REQUEST,
    "cancel-running-dag",
    "cancel-running-subtask",
    "cancelled-rollback",
    "dag-rollback-fails",
    "documents-dag-id",
    "fails-twice",
    "initialize-cluster-fails",
    "join-agent",
    "many-tasks",
    "never-succeeds",
    "node-times-out",
    "operators-not-allowed",
    "parallel-branches",
    "parallel-node",
    "pass-failed-dag",
    "pass-failed-node",
    "reinstall-ocp-agent",
    "retry-failed-node",
    "retry-failed-subtask",
    "retry-failed-task",
    "rollback",
    "rollback-fails-and-is-repeated",
    "rollback-forbidden",
    "skip-failed-subtask",
    "subtask-times-out",
    "unfinished-maintenance",
    "update-config",
}
SAMPLE = ROOT / "tests" / "data" / "documents" / "004_e3d9e9fc43bd9445.json"


def mistakes(data: Any) -> list[str]:
    """What the schema refuses, each with its place."""
    errors = validator().iter_errors(data)
    return sorted(error.json_path for error in errors)


def as_json(path: Path) -> Any:
    """A YAML file as an editor's JSON Schema sees it: an instant is a text."""
    data = load_yaml(path.read_text("utf-8"))
    return json.loads(json.dumps(data, default=datetime.isoformat))


# --- the stories ----------------------------------------------------------------------------------


def test_the_library_holds_what_its_users_were_promised() -> None:
    assert set(NAMES) >= PROMISED


@pytest.mark.parametrize("text", ["{key}\n{{", "of another version\n{{}}", ""])
def test_what_is_kept_of_the_library_stands_for_its_files_while_it_is_whole_and_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    library = load_library()
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    load_library()
    with monkeypatch.context() as patch:
        patch.delattr(yaml, "parse")
        assert load_library() == library
    kept = [*tmp_path.rglob("*.json")]
    assert len(kept) == len(library_names())
    for file in kept:
        file.write_text(text.format(key=file.read_text().partition("\n")[0]))

    assert load_library() == library


@pytest.mark.parametrize("api", ["ocp", "obshell", "admin"])
def test_what_is_kept_of_a_contract_equals_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: str) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = spec_path(api)
    spec = load_spec(path)

    compiled(path, path.read_bytes(), lambda: spec)

    assert compiled(path, path.read_bytes(), dict) == spec


def test_each_scenario_has_the_name_of_its_file_and_a_story() -> None:
    scenarios = [load_scenario(name) for name in NAMES]

    assert [scenario.name for scenario in scenarios] == list(NAMES)
    assert [scenario.name for scenario in scenarios if not scenario.story] == []


def test_each_scenario_says_what_happens_in_one_plain_sentence() -> None:
    summaries = [load_scenario(name).summary for name in NAMES]

    plain = re.compile(r"[A-Z0-9][^.!?]*[^.!?,;]")
    assert [summary for summary in summaries if not plain.fullmatch(summary)] == []
    assert [summary for summary in summaries if len(summary) > 110] == []


def test_each_file_names_the_schema_that_editors_check_it_by() -> None:
    first_lines = {path.read_text("utf-8").splitlines()[0] for path in SCENARIOS.glob("[!_]*.yaml")}

    assert first_lines == {"# yaml-language-server: $schema=scenario.schema.json"}


def test_each_story_begins_within_ten_seconds() -> None:
    scenarios = [load_scenario(name) for name in NAMES if name not in ON_REQUEST]
    sandboxes = [make_sandbox([scenario], progression="manual") for scenario in scenarios]

    for sandbox in sandboxes:
        sandbox.advance(10 * 10**9)

    assert all(map(newest_state, sandboxes, scenarios))


def newest_state(sandbox: Sandbox, scenario: BaseScenario) -> int:
    """Since when what the story waits for first shows what it shows, counted from its birth."""
    if isinstance(scenario, obshell.Scenario):
        dag = next(each.until for each in scenario.story if each.until is not None).dag
        assert isinstance(dag, int)
        return sandbox.world(Dags).view(("agent", dag)).state.at
    return sandbox.world(Tasks).view(task_id_of(scenario)).state.at


def task_id_of(scenario: BaseScenario) -> int:
    """The id a story of the library names its first task by."""
    assert isinstance(scenario, ocp.Scenario)
    step = next(each.until for each in scenario.story if each.until is not None)
    (found,) = (task.id for task in scenario.tasks if step.task == task.id and task.id is not None)
    return int(found)


def test_the_whole_library_can_be_served_at_once() -> None:
    """Ids are unique across it, and no two files set different switches or agents."""
    library = load_library()

    sandbox = make_sandbox(library)

    tasks = [task for each in library if isinstance(each, ocp.Scenario) for task in each.tasks]
    there = [task for task in tasks if task.starts_on is None]
    dags = [dag for each in library if isinstance(each, obshell.Scenario) for dag in each.dags]
    assert len(sandbox.world(Tasks).all()) == sum(task.repeat.count if task.repeat else 1 for task in there)
    assert [view.data.number for view in sandbox.world(Dags).all("agent")] == sorted(
        dag.id for dag in dags if dag.id is not None
    )


def test_an_agent_that_has_done_nothing_or_has_a_cluster_is_served_apart() -> None:
    """Where it were SINGLE, nobody would have to know a password (obshell_auth)."""
    served = {scenario.name for scenario in load_library()}

    assert set(NAMES) - served == APART


def test_only_one_story_comes_after_the_many_tasks_in_the_list_s_own_order() -> None:
    """Newest id first: who looks at the first page sees the stories."""
    many = {view.data.id for view in make_sandbox([load_scenario("many-tasks")]).world(Tasks).all()}
    others = [load_scenario(name) for name in NAMES if name not in {"many-tasks", *APART}]

    after = [view.data.id for view in make_sandbox(others).world(Tasks).all() if view.data.id < max(many)]

    assert after == [1000]


def test_the_many_tasks_are_two_and_a_half_thousand_of_all_kinds() -> None:
    views = make_sandbox([load_scenario("many-tasks")]).world(Tasks).all()

    statuses = [view.state.status for view in views]
    assert {each: statuses.count(each) for each in sorted(set(statuses))} == {
        "FAILED": 500,
        "RUNNING": 500,
        "SUCCESSFUL": 1500,
    }
    assert {view.data.model.type for view in views} == {"MANUAL", "SCHEDULED", "SYS_ONCE", "SYS_SCHEDULED"}
    assert len({view.data.model.cluster for view in views}) == 3
    assert len({view.data.model.tenant for view in views}) == 4
    assert len({view.data.model.host_id for view in views}) == 4


def test_the_reinstalled_agent_is_the_documents_sample() -> None:
    sample = json.loads(SAMPLE.read_text("utf-8"))["data"]
    sandbox = make_sandbox([load_scenario("reinstall-ocp-agent")], progression="immediate")

    view = sandbox.world(Tasks).view(35000312)

    assert (view.data.name, view.data.creator.name, view.data.creator.id) == ("Reinstall OCP agent", "admin", 100)
    assert view.data.created == 1_629_875_371_740_000_000
    assert (view.state.status, view.state.operation) == (sample["status"], sample["operation"])
    assert [
        (each.id, each.series_id, each.name, each.model.timeout, list(each.upstreams), list(each.downstreams))
        for each in view.data.subtasks
    ] == [
        (each["id"], each["seriesId"], each["name"], each["timeout"], each["upstreams"], each["downstreams"])
        for each in sample["subtasks"]
    ]


def test_the_reinstalled_agent_s_steps_take_as_long_as_the_sample_s() -> None:
    sample = json.loads(SAMPLE.read_text("utf-8"))["data"]
    sandbox = make_sandbox([load_scenario("reinstall-ocp-agent")], progression="immediate")

    subtasks = sandbox.world(Tasks).view(35000312).state.subtasks

    assert [(each.finish_time or 0) - (each.start_time or 0) for each in subtasks] == [
        round((instant(each["finishTime"]) - instant(each["startTime"])) * 1000) * 1_000_000
        for each in sample["subtasks"]
    ]


def instant(text: str) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


# --- finding --------------------------------------------------------------------------------------


def test_a_library_name_finds_its_file() -> None:
    assert find_scenario("rollback") == SCENARIOS / "rollback.yaml"


def test_a_path_finds_the_file_it_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("summary: Mine\napi: ocp\ntasks: [{subtasks: [One]}]\n", encoding="utf-8")

    scenario = load_scenario(str(path))

    assert (scenario.name, scenario.summary) == ("mine", "Mine")


def test_a_misspelt_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError) as refused:
        find_scenario("rolback")

    assert str(refused.value) == ("there is no scenario 'rolback' in the library. Did you mean 'rollback'?")


@pytest.mark.parametrize("name", ["xyz", ""])
def test_a_name_like_no_other_is_refused_with_the_way_to_them_all(name: str) -> None:
    with pytest.raises(InputError) as refused:
        load_all([name])

    assert str(refused.value) == f"there is no scenario {name!r} in the library. `oceanmock list` names them all."


@pytest.mark.parametrize("reference", ["nowhere.yaml", "here/nowhere", "./rollback"])
def test_a_path_to_nothing_is_refused(reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError) as refused:
        load_scenario(reference)

    assert str(refused.value) == f"there is no scenario file {reference}"


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "junk.yaml"
    path.write_bytes(b"\xff\xfe\x00\x9d")

    with pytest.raises(InputError, match=r"junk\.yaml cannot be read: 'utf-8' codec"):
        load_scenario(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_scenario(tmp_path)


# --- including ------------------------------------------------------------------------------------

PART = """
Install: &install {name: Install, subtasks: [{name: unpack, attempts: {takes: 5s}}]}
Again: {include: more/_names.yaml#again, subtasks: *install}
"""
WHOLE = "summary: Two tasks\napi: ocp\ntasks:\n  - {id: 1, %s}\n  - {id: 2, name: Other, subtasks: [one]}\n"


def including(folder: Path, keys: str, part: str = PART) -> Path:
    (folder / "more").mkdir()
    (folder / "more" / "_names.yaml").write_text("again: {name: Install again}\n")
    (folder / "_part.yaml").write_text(part)
    path = folder / "one.yaml"
    path.write_text(WHOLE % keys)
    return path


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ("include: _part.yaml#Install", "Install"),
        ('"include": "_part.yaml#Install"', "Install"),
        ("include: _part.yaml#Install, name: Mine", "Mine"),
        ("name: Mine, include: more/../_part.yaml#Install", "Mine"),
        ("include: more/_names.yaml#again, subtasks: [unpack]", "Install again"),
    ],
)
def test_a_mapping_has_the_keys_that_it_includes_and_its_own_outrank_them(tmp_path: Path, keys: str, name: str) -> None:
    scenario = load_scenario(including(tmp_path, keys))

    assert isinstance(scenario, ocp.Scenario)
    assert (scenario.tasks[0].name, scenario.tasks[0].subtasks[0].name) == (name, "unpack")
    assert b"include" not in scenario.source


def test_a_file_includes_another_through_a_third(tmp_path: Path) -> None:
    path = including(tmp_path, "include: _part.yaml#Again", PART.replace("subtasks: *install", "subtasks: [unpack]"))

    scenario = load_scenario(path)

    assert isinstance(scenario, ocp.Scenario)
    assert scenario.tasks[0].name == "Install again"
    assert scenario.files == (tmp_path / "_part.yaml", tmp_path / "more" / "_names.yaml")


@pytest.mark.parametrize(
    ("keys", "issues"),
    [
        ("include: _part.yaml#A", ["_part.yaml:1:44: `takes` of `attempts` of subtask 'a' is 'often'"]),
        ("include: _part.yaml#B, nme: x", ["_part.yaml:2:37: `nam` is no key", "one.yaml:4:36: `nme` is no key"]),
        ("include: _part.yaml#C", ["_part.yaml:3:14: 'name' stands here twice; the first is on line 3"]),
    ],
)
def test_a_mistake_is_placed_in_the_file_that_has_it(tmp_path: Path, keys: str, issues: list[str]) -> None:
    part = """\
A: {name: A, subtasks: [{attempts: {takes: often}, name: a}]}
B: {name: B, subtasks: [{name: b}], nam: x}
C: {name: C, name: D, subtasks: [c]}
"""
    with pytest.raises(ScenarioError) as refused:
        load_scenario(including(tmp_path, keys, part))

    found = str(refused.value).split("\n")
    assert [any(line.startswith(f"{tmp_path}/{issue}") for line in found) for issue in issues] == [True] * len(issues)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("_none.yaml", "No such file or directory"),
        ("_part.yaml#Instal", r"it has no key 'Instal'\. Allowed: Install, Again\. Did you mean 'Install'\?"),
        ("_list.yaml", "it is no mapping"),
        ("_list.yaml#a", r"it has no key 'a'\. It is no mapping\."),
        ("_large.yaml", "it is no file of at most 262,144 bytes"),
        ("/etc/one.yaml", "it is not in the folder of the scenario, or below"),
        ("../one.yaml", "it is not in the folder of the scenario, or below"),
        ("_link.yaml", "it is not in the folder of the scenario, or below"),
        ("_self.yaml", "it includes itself"),
        ("_one.yaml", "it includes itself"),
        ("one.yaml", "it includes itself"),
        ("_0.yaml", "a scenario includes at most 20 files"),
    ],
)
def test_what_cannot_be_included_is_an_issue_at_its_place(tmp_path: Path, name: str, why: str) -> None:
    folder = tmp_path / "scenarios"
    folder.mkdir()
    path = including(folder, f"include: {name}")
    (tmp_path / "one.yaml").write_text("name: outside\n")
    (folder / "_link.yaml").symlink_to(tmp_path / "one.yaml")
    (folder / "_large.yaml").write_text("#" * (2**18 + 1))
    chain = {f"_{number}": f"{{include: _{number + 1}.yaml}}" for number in range(22)}
    parts = {"_self": "{include: _self.yaml}", "_one": "{include: _two.yaml}", "_two": "{include: _one.yaml}"}
    for part, text in {"_list": "[1]", **parts, **chain}.items():
        (folder / f"{part}.yaml").write_text(text)

    with pytest.raises(ScenarioError, match=rf"\.yaml:\d+:\d+: '[^']+' cannot be included: {why} \[bad-include\]"):
        load_scenario(path)


def test_what_is_included_counts_as_what_it_stands_for(tmp_path: Path) -> None:
    deep = f"a: {'[' * 60}{']' * 60}\nb: {{name: x, description: {'[' * 60}{']' * 60}}}\n"
    path = including(tmp_path, "include: _part.yaml#c", f"{deep}c: {{include: _part2.yaml}}\n")
    (tmp_path / "_part2.yaml").write_text(f"name: x\ny: {'[' * 97}{']' * 97}\n")

    with pytest.raises(ScenarioError, match="more than 100 levels are nested here"):
        load_scenario(path)


@pytest.mark.parametrize("text", [WHOLE % "include: _part.yaml#Install", json.dumps({"include": "_part.yaml"})])
def test_a_text_without_a_file_includes_nothing(text: str) -> None:
    with pytest.raises(ScenarioError, match="only a file includes others, and this text is none"):
        read_scenario(text)


def test_free_data_may_have_a_key_of_that_name() -> None:
    stub = 'stubs: [{path: /api/v2/x, body: {include: every.thing, "data": {include: 3}}}]'

    scenario = read_scenario(f"{WHOLE % 'name: One, subtasks: [one]'}{stub}")

    assert json.loads(scenario.source)["stubs"][0]["body"] == {"include": "every.thing", "data": {"include": 3}}


def test_a_folder_s_files_to_be_included_are_no_scenarios_of_their_own(tmp_path: Path) -> None:
    path = including(tmp_path, "include: _part.yaml#Install")

    assert expand([str(tmp_path)]) == [str(path)]


# --- the schema -----------------------------------------------------------------------------------


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema())


def test_the_schema_accepts_each_scenario() -> None:
    issues = {name: mistakes(as_json(SCENARIOS / f"{name}.yaml")) for name in NAMES}

    assert issues == {name: [] for name in NAMES}


TASK = {"subtasks": ["One"]}
STEP = {"until": {"task": 1, "status": "FAILED"}}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"sumary": "?"}, "$"),
        ({"api": "ocp 4"}, "$.api"),
        ({"summary": ""}, "$.summary"),
        ({"progression": "fast"}, "$.progression"),
        ({"tick": 5}, "$.tick"),
        ({"tick": "5"}, "$.tick"),
        ({"tasks": []}, "$.tasks"),
        ({"tasks": [{}]}, "$.tasks[0]"),
        ({"tasks": [{"subtasks": []}]}, "$.tasks[0].subtasks"),
        ({"tasks": [TASK | {"id": 0}]}, "$.tasks[0].id"),
        ({"tasks": [TASK | {"type": "MANUEL"}]}, "$.tasks[0].type"),
        ({"tasks": [{"subtasks": [{"attempts": []}]}]}, "$.tasks[0].subtasks[0]"),
        ({"tasks": [{"subtasks": [{"attempts": [{"ends": "SUCESS"}]}]}]}, "$.tasks[0].subtasks[0]"),
        ({"switches": {"subtask_pairing": "maybe"}}, "$.switches.subtask_pairing"),
        ({"story": [STEP, {"call": "retry", "task": 1}]}, "$.story[1].call"),
        ({"story": [{"until": {"status": "FAILED"}}]}, "$.story[0].until"),
    ],
)
def test_the_schema_refuses_an_obvious_mistake(change: dict[str, Any], place: str) -> None:
    right: dict[str, Any] = {"summary": "?", "api": "ocp", "tasks": [TASK], "story": [STEP]}

    assert mistakes(right) == []
    assert mistakes(right | change) == [place]


DAG = {"nodes": ["One"]}
WAIT = {"until": {"dag": 1, "state": "FAILED"}}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"tasks": [TASK]}, "$"),
        ({"phase": 1}, "$.phase"),
        ({"dags": []}, "$.dags"),
        ({"dags": [{}]}, "$.dags[0]"),
        ({"dags": [DAG | {"maintenance": "golbal"}]}, "$.dags[0].maintenance"),
        ({"dags": [DAG | {"scope": "local"}]}, "$.dags[0].scope"),
        ({"dags": [{"nodes": [{"can": ["undo"]}]}]}, "$.dags[0].nodes[0]"),
        ({"dags": [{"nodes": [{"sub_tasks": [{"takes": 5}]}]}]}, "$.dags[0].nodes[0]"),
        ({"agent": {"identity": "SLAVE"}}, "$.agent.identity"),
        ({"switches": {"obshell_version": 4}}, "$.switches.obshell_version"),
        ({"story": [WAIT, {"call": "operateTask", "dag": 1}]}, "$.story[1].call"),
        ({"story": [WAIT, {"call": "operateDag", "answers": 404}]}, "$.story[1].answers"),
    ],
)
def test_the_schema_refuses_an_obvious_mistake_in_a_dag(change: dict[str, Any], place: str) -> None:
    right: dict[str, Any] = {"summary": "?", "api": "obshell", "dags": [DAG], "story": [WAIT]}

    assert mistakes(right) == []
    assert mistakes(right | change) == [place]


@pytest.mark.parametrize(
    "node",
    [
        "One",
        {"name": "One", "can": "retry", "sub_tasks": {"takes": "1s", "log": "a line"}},
        {"name": "One", "can": [], "timeout": "1h30m", "sub_tasks": [{"takes": "forever"}]},
        {
            "sub_tasks": [
                {"agent": {"ip": "10.0.0.2"}, "attempts": {"error": {"message": "no"}}},
                {"name": "One", "attempts": [{"ends": "FAILED"}, {}], "rollback": {"takes": "1s"}},
            ]
        },
    ],
)
def test_the_schema_accepts_every_short_form_of_a_node(node: Any) -> None:
    assert mistakes({"summary": "?", "api": "obshell", "dags": [{"nodes": [node]}]}) == []


@pytest.mark.parametrize(
    "subtask",
    [
        "One",
        {"name": "One", "needs": "Two", "attempts": {"takes": "1s"}, "rollback": {"takes": "2s"}},
        {"name": "One", "needs": [5, "Two"], "attempts": [{"log": "a line"}, {"log": ["one", "two"]}]},
        {"name": "One", "attempts": {"takes": "forever"}, "timeout": "1h30m"},
    ],
)
def test_the_schema_accepts_every_short_form(subtask: Any) -> None:
    assert mistakes({"summary": "?", "api": "ocp", "tasks": [{"subtasks": [subtask]}]}) == []


def test_the_schema_shows_a_default_duration_as_a_file_would_write_it() -> None:
    formats = definitions()
    subtask, node = (formats[name]["anyOf"][0]["properties"] for name in ("ocp.Subtask", "obshell.Node"))

    assert formats["ocp.Attempt"]["properties"]["takes"]["default"] == "1s"
    assert formats["obshell.Attempt"]["properties"]["takes"]["default"] == "10ms"
    assert subtask["timeout"]["default"] == node["timeout"]["default"] == "1h"
    assert formats["ocp"]["properties"]["tick"]["default"] == "1s"
    assert formats["obshell"]["properties"]["phase"]["default"] == "0s"


def test_every_default_of_the_schema_satisfies_it() -> None:
    defaults = [each for each in properties(schema()) if "default" in each]

    refused = [
        each for each in defaults if not Draft202012Validator(each | {"$defs": definitions()}).is_valid(each["default"])
    ]

    assert len(defaults) > 15
    assert refused == []


def properties(node: Any) -> list[dict[str, Any]]:
    """Every mapping in a schema."""
    children = node.values() if isinstance(node, dict) else node
    found = [node] if isinstance(node, dict) else []
    return found + [each for child in children if isinstance(child, dict | list) for each in properties(child)]


# --- obshell's scenarios against recordings of a real obshell -------------------------------------


def scenario_of(name: str) -> obshell.Scenario:
    """An obshell scenario of the library."""
    scenario = load_scenario(name)
    assert isinstance(scenario, obshell.Scenario)
    return scenario


OBSHELL_NAMES = [name for name in library_names() if load_scenario(name).api == "obshell"]
DAGS = [dag for name in OBSHELL_NAMES for dag in scenario_of(name).dags]
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
    lines = tuple(map(str, run.log))
    return lines if run.last_words is None else (*lines, run.last_words)


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
    (actor,) = FORMAT.simulate(scenario_of("initialize-cluster-fails")).actors
    seen = [each.dag for each in RECORDED.events if isinstance(each, Seen)]

    told = [(each.state, each.operator, each.stage) for each in actor.history.states]

    recorded = [(dag["state"], dag["operator"], dag["stage"]) for dag in seen]
    assert [words for words, _ in groupby(told)] == [words for words, _ in groupby(recorded)]


def test_the_documents_call_is_accepted_from_the_first_moment() -> None:
    sandbox = make_sandbox([scenario_of("documents-dag-id")], progression="manual")
    before = sandbox.world(Dags).view(("agent", 9))

    after = obshell_world.operate(sandbox, ("agent", 9), "ROLLBACK")

    assert (before.data.name, before.state.state) == ("Initialize cluster", "FAILED")
    assert (after.state.state, after.state.operator) == ("READY", "ROLLBACK")
    assert sandbox.clock.now() == 1_704_869_068_366_402_000


def test_the_documents_request_is_answered_as_the_document_shows() -> None:
    """To the order of its keys; the trace id is the server's to choose, so is how long it took."""
    sandbox = make_sandbox([scenario_of("documents-dag-id")], progression="manual")
    shown = json.loads((FOLDER / "001_fdf33ed94fc51ae1.json").read_text("utf-8"))

    answer = plain(sandbox)("POST", "/api/v1/task/dag/22130706433028869", content='{\n    "operator": "ROLLBACK"\n}')

    body = answer.json()
    assert list(body) == list(shown)
    assert [body[key] for key in ("successful", "status")] == [True, 200]
    assert re.fullmatch("[0-9a-f]{16}", body["traceId"])
    assert datetime.fromisoformat(body["timestamp"]) == datetime.fromisoformat(shown["timestamp"])


def test_a_cancelled_rollback_stays_stuck_however_often_it_is_retried() -> None:
    (actor,) = FORMAT.simulate(scenario_of("cancelled-rollback")).actors
    life = actor.history

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

    states = {view.data.number: view.state for view in sandbox.world(Dags).all("agent")}

    assert {number: state.state for number, state in states.items()} == {100: "FAILED", 101: "FAILED"}
    assert {number: state.is_finished for number, state in states.items()} == {100: False, 101: True}


def test_the_stories_show_every_state_with_every_operator_there_is() -> None:
    lives = [actor.history for name in OBSHELL_NAMES for actor in FORMAT.simulate(scenario_of(name)).actors]
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
    assert {sub_task.operator for node in nodes for sub_task in node.sub_tasks} == {"RUN", "ROLLBACK", "PASS"}


def test_the_stories_call_everything_and_are_refused_in_both_ways() -> None:
    steps = [step for name in OBSHELL_NAMES for step in scenario_of(name).story if step.call]

    assert {(step.call, step.operator, step.answers) for step in steps} == {
        *(("operateDag", each, 200) for each in ("ROLLBACK", "RETRY", "CANCEL", "PASS")),
        *(("operateDag", each, 400) for each in ("ROLLBACK", "RETRY", "CANCEL", "PASS")),
        ("operateDag", "ROLLBACK", 500),
        ("operateNode", "PASS", 200),
        ("operateNode", "PASS", 400),
    }


@pytest.mark.parametrize("name", [name for name in OBSHELL_NAMES if name not in APART])
def test_every_dag_is_on_the_agent_that_the_whole_library_is_served_on(name: str) -> None:
    scenario = scenario_of(name)

    assert scenario.agent == Agent()
    assert scenario.switches == Switches()
    assert all(dag.id is not None and dag.scope == "agent" for dag in scenario.dags)
