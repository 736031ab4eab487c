"""``starts_on`` in a scenario file: what it means, what a story makes of it, and its mistakes."""

import pytest

from oceanmock.clock import SECOND
from oceanmock.library import read_scenario
from oceanmock.obshell import scenario as obshell
from oceanmock.obshell import scenario_checks as obshell_rules
from oceanmock.ocp import scenario as ocp
from oceanmock.ocp import scenario_checks as ocp_rules
from oceanmock.scenario.diagnostics import ScenarioError
from oceanmock.scenario.fields import StartsOn

TENANT = "starts_on: {path: '/api/v2/ob/clusters/{id}/tenants'}"
JOIN = "starts_on: {path: /api/v1/agent/join, identity: SINGLE}, makes: {identity: MASTER}"
CONFIG = "starts_on: {path: /api/v1/observer/config, identity: [MASTER, FOLLOWER]}"
OCP = "summary: A\napi: ocp\ntasks:\n"
OBSHELL = "summary: A\napi: obshell\nagent: {identity: SINGLE}\ndags:\n"
AGENT = f"""{OBSHELL}\
  - {{name: Join, {JOIN}, maintenance: global, nodes: [One]}}
  - {{name: Config, {CONFIG}, maintenance: global, nodes: [One]}}
story:
"""
CREATE = f"{OCP}  - {{name: Create, {TENANT}, subtasks: [One]}}\nstory:\n"


def starts_on(**said: object) -> StartsOn:
    """A request that starts something."""
    return StartsOn.model_validate({"path": "/api/v1/agent/join"} | said)


def said_of(text: str) -> str:
    """All that is said of a text that cannot be used."""
    with pytest.raises(ScenarioError) as refused:
        read_scenario(text, path="x.yaml")
    return str(refused.value)


def ocp_of(text: str) -> ocp.Scenario:
    scenario = read_scenario(text)
    assert isinstance(scenario, ocp.Scenario)
    return scenario


def obshell_of(text: str) -> obshell.Scenario:
    scenario = read_scenario(text)
    assert isinstance(scenario, obshell.Scenario)
    return scenario


# --- which requests fit ---------------------------------------------------------------------------


def test_a_request_is_a_post_unless_it_is_said_otherwise() -> None:
    assert starts_on().fits("POST", "/api/v1/agent/join")
    assert not starts_on().fits("PUT", "/api/v1/agent/join")
    assert starts_on(method="PUT").fits("PUT", "/api/v1/agent/join")


@pytest.mark.parametrize(
    ("path", "fits"),
    [
        ("/api/v2/ob/clusters/7/tenants", True),
        ("/api/v2/ob/clusters/a%2Fb c/tenants", True),
        ("/api/v2/ob/clusters//tenants", False),
        ("/api/v2/ob/clusters/7/8/tenants", False),
        ("/api/v2/ob/clusters/7/tenants/", False),
        ("/api/v2/ob/clusters/7", False),
    ],
)
def test_a_variable_is_one_part_of_a_path(path: str, fits: bool) -> None:
    assert starts_on(path="/api/v2/ob/clusters/{id}/tenants").fits("POST", path) is fits


@pytest.mark.parametrize(
    ("wanted", "got", "fits"),
    [
        (None, None, True),
        (None, "anything", True),
        ({}, {}, True),
        ({}, None, False),
        ({"name": "foo"}, {"name": "foo", "mode": "MYSQL"}, True),
        ({"name": "foo"}, {"name": "bar"}, False),
        ({"name": "foo"}, {}, False),
        ({"scope": {"type": "GLOBAL"}}, {"scope": {"type": "GLOBAL", "target": []}}, True),
        ({"zones": [{"name": "z1"}]}, {"zones": [{"name": "z1", "units": 1}]}, True),
        ({"zones": [{"name": "z1"}]}, {"zones": [{"name": "z1"}, {"name": "z2"}]}, False),
        ({"restart": 1}, {"restart": True}, False),
        ({"id": 1}, {"id": 1.0}, True),
        ({"pwd": None}, {"pwd": None}, True),
        ({"pwd": None}, {}, False),
    ],
)
def test_a_body_has_what_is_asked_of_it_and_may_have_more(
    wanted: object, got: object, fits: bool
) -> None:
    assert starts_on(body=wanted).fits_body(got) is fits


# --- the story ------------------------------------------------------------------------------------


def test_a_started_task_is_born_when_its_story_starts_it() -> None:
    run = ocp_rules.simulate_story(ocp_of(f"{CREATE}  - wait: 90s\n  - start: Create\n"))

    assert run.actors[0].born == 90 * SECOND
    assert [(mark.instant, mark.text) for mark in run.markers] == [(90 * SECOND, "start 'Create'")]


def test_a_started_dag_keeps_to_the_ticks_that_were_there_before() -> None:
    run = obshell_rules.simulate_story(obshell_of(f"{AGENT}  - wait: 2500ms\n  - start: Join\n"))

    (join, _) = run.actors
    assert [join.born + state.at for state in join.life.states][1] // SECOND == 3


def test_a_dag_that_succeeded_has_made_the_agent_what_the_next_one_asks_for() -> None:
    steps = [
        "{start: Config, answers: 400}",
        "{start: Join}",
        "{start: Config, answers: 400}",
        "{until: {dag: Join, state: SUCCEED}}",
        "{start: Config}",
    ]

    text = AGENT + "".join(f"  - {each}\n" for each in steps)
    run = obshell_rules.simulate_story(obshell_of(text))

    assert [mark.text for mark in run.markers] == ["start 'Join'", "start 'Config'"]


STORIES = {
    "a state of what is not there": (
        f"{CREATE}  - until: {{task: Create, status: RUNNING}}\n",
        "the story cannot happen: 'Create' is not started yet",
    ),
    "a second start": (
        f"{CREATE}  - start: Create\n  - start: Create\n",
        "the story cannot happen: 'Create' is there already",
    ),
    "an agent that is something else": (
        f"{AGENT}  - start: Config\n",
        "start 'Config' is refused: the agent is SINGLE, instead of MASTER or FOLLOWER",
    ),
    "a lock": (
        AGENT.replace(", identity: SINGLE}", "}") + "  - start: Join\n  - start: Join\n",
        "'Join' is there already",
    ),
    "a refusal that does not come": (
        f"{AGENT}  - {{start: Join, answers: 500}}\n",
        "start 'Join' is accepted, not refused",
    ),
}


@pytest.mark.parametrize(("text", "said"), STORIES.values(), ids=STORIES)
def test_what_cannot_happen_is_said(text: str, said: str) -> None:
    assert said in said_of(text)


LOCKS = [
    ("agent", "global", "global", True),
    ("agent", "global", "none", False),
    ("agent", "none", "global", False),
    ("agent", "global", "obproxy", False),
    ("agent", "obproxy", "obproxy", True),
    ("cluster", "{tenant: a}", "{tenant: a}", True),
    ("cluster", "{tenant: a}", "{tenant: b}", False),
    ("cluster", "{tenant: a}", "global", True),
    ("cluster", "global", "{tenant: a}", True),
]


@pytest.mark.parametrize(("scope", "held", "wanted", "excludes"), LOCKS)
def test_a_lock_keeps_out_what_would_maintain_the_same(
    scope: str, held: str, wanted: str, excludes: bool
) -> None:
    dags = [
        f"  - {{scope: {scope}, maintenance: {each}, nodes: [One]}}\n" for each in (held, wanted)
    ]
    head = OBSHELL.replace("SINGLE", "CLUSTER AGENT")
    scenario = obshell_of(head + "".join(dags))

    assert obshell.excludes(*scenario.dags) is excludes


def test_what_the_agent_keeps_does_not_lock_the_cluster() -> None:
    dag = {"maintenance": "global", "nodes": ["One"]}
    own = obshell.Dag.model_validate(dag)
    clusters = obshell.Dag.model_validate(dag | {"scope": "cluster"})

    assert not obshell.excludes(own, clusters)


# --- mistakes -------------------------------------------------------------------------------------

MISTAKES = {
    "no path": (
        f"{OCP}  - {{subtasks: [One], starts_on: {{}}}}\n",
        "x.yaml:4:34: `starts_on` of task 1 has no `path` [missing-key]",
    ),
    "a path that is none": (
        f"{OCP}  - {{subtasks: [One], starts_on: {{path: api/v2/ob}}}}\n",
        "x.yaml:4:41: `path` of `starts_on` of task 1 is 'api/v2/ob', which is no path such as "
        "/api/v1/agent/join [bad-path]",
    ),
    "a path with a query": (
        f"{OCP}  - {{subtasks: [One], starts_on: {{path: '/api/v2/ob?a=1'}}}}\n",
        "x.yaml:4:41: `path` of `starts_on` of task 1 is '/api/v2/ob?a=1', which is no path such "
        "as /api/v1/agent/join [bad-path]",
    ),
    "a method that starts nothing": (
        f"{OCP}  - {{subtasks: [One], starts_on: {{path: /api/v2/ob, method: GET}}}}\n",
        "x.yaml:4:61: `method` of `starts_on` of task 1 is 'GET', which is none of its values "
        "[unknown-value]\n  Allowed: POST, PUT, PATCH, DELETE.",
    ),
    "a path of the other API": (
        f"{OCP}  - {{subtasks: [One], starts_on: {{path: /api/v1/agent/join}}}}\n",
        "x.yaml:4:41: /api/v1/agent/join is no path of this API [wrong-path]\n"
        "  They begin with /api/v2/.",
    ),
    "a path of the contract": (
        f"{OBSHELL}  - {{nodes: [One], starts_on: {{path: '/api/v1/task/{{kind}}/{{id}}'}}}}\n",
        "x.yaml:5:38: /api/v1/task/{kind}/{id} belongs to getAllClusterDags, which responds there "
        "itself [wrong-path]",
    ),
    "an id": (
        f"{OCP}  - {{id: 7, subtasks: [One], {TENANT}}}\n",
        "x.yaml:4:10: `id` is said of what `starts_on` a request [beside-starts-on]\n"
        "  Leave it out: each that is started gets its own.",
    ),
    "an id of a subtask": (
        f"{OCP}  - {{subtasks: [{{id: 7}}], {TENANT}}}\n",
        "x.yaml:4:22: `id` is said of what `starts_on` a request [beside-starts-on]\n"
        "  Leave it out: each that is started gets its own.",
    ),
    "an age": (
        f"{OCP}  - {{age: 1s, subtasks: [One], {TENANT}}}\n",
        "x.yaml:4:11: `age` is said of what `starts_on` a request [beside-starts-on]\n"
        "  Leave it out: each starts when its request comes.",
    ),
    "a repeat": (
        f"{OCP}  - {{repeat: {{count: 2}}, subtasks: [One], {TENANT}}}\n",
        "x.yaml:4:14: `repeat` is said of what `starts_on` a request [beside-starts-on]\n"
        "  Leave it out: each starts when its request comes.",
    ),
    "an id of a node": (
        f"{OBSHELL}  - {{nodes: [{{id: 7}}], {JOIN}}}\n",
        "x.yaml:5:19: `id` is said of what `starts_on` a request [beside-starts-on]\n"
        "  Leave it out: each that is started gets its own.",
    ),
    "another that starts on all of it": (
        f"{OCP}  - {{subtasks: [One], {TENANT}}}\n"
        "  - {subtasks: [One], starts_on: {path: /api/v2/ob/clusters/1/tenants, body: {a: 1}}}\n",
        "x.yaml:5:34: another starts on all that POST /api/v2/ob/clusters/1/tenants could mean "
        "[never-starts]\n  Put this one first, or say which `body` it asks for.",
    ),
    "a start of what is there": (
        f"{OCP}  - {{name: A, subtasks: [One]}}\nstory: [{{start: A}}]\n",
        "x.yaml:5:17: task 'A' is there from the start [wrong-start]\n  Say what it `starts_on`.",
    ),
    "a start of nothing": (
        f"{AGENT}  - start: Jion\n",
        "x.yaml:8:12: there is no dag 'Jion' in this file [unknown-reference]\n"
        "  Did you mean 'Join'?",
    ),
    "a start of a dag that is there": (
        f"{OBSHELL}  - {{name: A, nodes: [One]}}\nstory: [{{start: A}}]\n",
        "x.yaml:6:17: dag 'A' is there from the start [wrong-start]\n  Say what it `starts_on`.",
    ),
    "an operator of a start": (
        f"{AGENT}  - {{start: Join, operator: RETRY}}\n",
        "x.yaml:8:5: step 1 of the story has `operator` beside `start`, where only a call has it "
        "[bad-step]",
    ),
    "a body that is no object": (
        f"{OCP}  - {{subtasks: [One], starts_on: {{path: /api/v2/ob, body: [1]}}}}\n",
        "x.yaml:4:59: `body` of `starts_on` of task 1 is a list; it should be a mapping of keys to "
        "values [wrong-type]",
    ),
}


@pytest.mark.parametrize(("text", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_said_with_its_place_and_how_to_mend_it(text: str, said: str) -> None:
    assert said_of(text) == said


def test_what_cannot_be_read_of_a_request_makes_no_further_mistake() -> None:
    text = f"{OCP}  - {{name: A, subtasks: [One], starts_on: {{path: 7}}}}\nstory: [{{start: A}}]\n"

    assert said_of(text).count("[") == 1


def test_two_may_start_on_one_path_if_their_bodies_differ() -> None:
    dags = [
        f"  - {{nodes: [One], starts_on: {{path: /api/v1/ob/stop, body: {{force: {force}}}}}}}\n"
        for force in ("true", "false")
    ]

    assert len(obshell_of(OBSHELL + "".join(dags)).dags) == 2
