"""obshell's dags in a sandbox: views, numbers, time; and the generic ids that clients know them by.

The machine's own rules are not here. Ticks are whole seconds from the sandbox's start; nothing here waits: the tests
move the clock. Ids are checked against the document's own, and against every recorded refusal of one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from in_process import REINSTALL, sandbox_of
from obshell_sandbox import failed, plain, world
from obshell_world import DAG, INIT, LOGS, TASK, ids, operate
from oceanmock.apis import make_sandbox
from oceanmock.clock import PROGRESSIONS, SECOND, Progression
from oceanmock.engine.log import Load, MoveClock
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import IllegalOperator, InputError, NoSuchTask
from oceanmock.library import read_scenario
from oceanmock.obshell import machine as obshell
from oceanmock.obshell import world as obshell_world
from oceanmock.obshell.agent import Switches
from oceanmock.obshell.api import GenericId, InvalidGenericId, local_id, parse_generic_id
from oceanmock.obshell.scenario import Scenario, rules_of, script_of
from oceanmock.obshell.world import DagKey, Dags, DagView
from oceanmock.ocp.world import Tasks


def named(name: str, dags: str, *, more: str = "") -> Scenario:
    """A scenario of this name and these dags."""
    text = f"summary: A\napi: obshell\nprogression: manual\n{more}\ndags: {dags}\n"
    scenario = read_scenario(text, path=f"{name}.yaml")
    assert isinstance(scenario, Scenario)
    return scenario


def sharing(*scenarios: Scenario) -> Sandbox:
    """Several scenarios in one sandbox."""
    return make_sandbox(scenarios, starts_at=0, seed=1)


def together(*scenarios: Scenario) -> Dags:
    """The dags of several scenarios in one sandbox."""
    return sharing(*scenarios).world(Dags)


def numbers(view: DagView) -> tuple[int, list[tuple[int, list[int]]]]:
    """The numbers of a dag, its nodes and its sub tasks."""
    dag = view.data
    return dag.number, [(n.number, [s.number for s in n.sub_tasks]) for n in dag.nodes]


# --- views ----------------------------------------------------------------------------------------


def test_a_view_is_what_a_dag_is_and_what_it_shows_now() -> None:
    sandbox = sandbox_of(INIT)

    view = sandbox.world(Dags).view(("agent", 4))

    assert (view.data.name, view.data.key[0], view.data.created) == ("Initialize cluster", "agent", sandbox.clock.now())
    assert (view.state.state, view.state.stage, view.now) == ("READY", 1, view.data.created)


def test_a_dag_shows_at_every_instant_what_the_machine_says() -> None:
    sandbox = sandbox_of(INIT)
    dag = named("init", INIT.partition("dags:")[2]).dags[0]
    life = obshell.start(script_of(dag), rules_of(SECOND, 0, Switches()))
    start = sandbox.clock.now()

    for state in life.states:
        sandbox.execute(MoveClock(start + state.at))
        assert sandbox.world(Dags).view(("agent", 4)).state == state


def test_a_node_and_a_sub_task_are_found_by_their_numbers() -> None:
    dags = sandbox_of(INIT).world(Dags)

    assert dags.view_part("node", ("agent", 402)) == (dags.view(("agent", 4)), (1,))
    assert dags.view_part("sub_task", ("agent", 40201)) == (dags.view(("agent", 4)), (1, 0))


def test_looking_changes_nothing() -> None:
    sandbox = failed()
    before = sandbox.world(Dags).view(("agent", 4))

    sandbox.world(Dags).all("agent")
    sandbox.world(Dags).last_maintenance("agent")
    sandbox.note_read(Dags, [before.data.key])

    assert sandbox.world(Dags).view(("agent", 4)) == before


@pytest.mark.parametrize("key", [("agent", 5), ("cluster", 4)])
def test_what_there_is_not_cannot_be_seen_or_operated(key: DagKey) -> None:
    sandbox = sandbox_of(INIT)
    dags = sandbox.world(Dags)

    with pytest.raises(NoSuchTask):
        dags.view(key)
    for kind in ("dag", "node", "sub_task"):
        with pytest.raises(NoSuchTask):
            dags.view_part(kind, key)
    with pytest.raises(NoSuchTask):
        obshell_world.operate(sandbox, key, "RETRY")


def test_an_operator_that_is_refused_changes_nothing() -> None:
    sandbox = failed()
    before = sandbox.world(Dags).view(("agent", 4))

    with pytest.raises(IllegalOperator):
        obshell_world.operate(sandbox, ("agent", 4), "PASS")

    assert sandbox.world(Dags).view(("agent", 4)) == before


def test_an_operator_is_answered_by_what_it_makes_true() -> None:
    sandbox = failed()

    view = obshell_world.operate(sandbox, ("agent", 4), "RETRY")

    assert (view.state.state, view.state.nodes[1].operator) == ("READY", "RETRY")
    assert sandbox.world(Dags).view(("agent", 4)) == view


# --- numbers --------------------------------------------------------------------------------------


def test_a_dag_without_a_number_gets_the_smallest_that_is_free() -> None:
    sandbox = sharing(named("a", "[{name: A, nodes: [N]}, {id: 1, nodes: [N]}, {id: 3, nodes: [N]}]"))

    sandbox.execute(Load((named("b", "[{nodes: [N]}]"),)))

    world = sandbox.world(Dags)
    assert [view.data.number for view in world.all("agent")] == [1, 2, 3, 4]
    assert world.view(("agent", 2)).data.name == "A"


def test_a_number_of_one_s_own_is_kept_whichever_file_is_read_first() -> None:
    unnumbered, numbered = named("a", "[{nodes: [N]}]"), named("b", "[{id: 1, nodes: [N]}]")

    orders = [together(unnumbered, numbered), together(numbered, unnumbered)]

    assert [[view.data.number for view in dags.all("agent")] for dags in orders] == [[1, 2], [1, 2]]


def test_a_node_has_its_dag_s_number_and_its_place_and_a_sub_task_its_node_s() -> None:
    dags = together(named("a", "[{id: 4, nodes: [A, {sub_tasks: [{}, {}]}, {id: 9, sub_tasks: [{}, {id: 8}]}]}]"))

    assert numbers(dags.view(("agent", 4))) == (4, [(401, [40101]), (402, [40201, 40202]), (9, [901, 8])])


def test_the_numbers_below_a_dag_do_not_depend_on_what_else_is_served() -> None:
    dag = "[{id: 7, nodes: [A, B]}]"

    alone = together(named("a", dag))
    crowded = together(named("b", "[{id: 1, nodes: [A]}, {id: 2, nodes: [A, B]}]"), named("a", dag))

    assert numbers(alone.view(("agent", 7))) == numbers(crowded.view(("agent", 7)))


def test_agent_and_cluster_have_numbers_apart() -> None:
    dags = together(
        named(
            "a", "[{id: 1, nodes: [N]}, {id: 1, scope: cluster, nodes: [N]}]", more="agent: {identity: CLUSTER AGENT}"
        )
    )

    stores = [dags.view((store, 1)).data.key[0] for store in ("agent", "cluster")]

    assert stores == ["agent", "cluster"]


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("{id: 1, nodes: [N]}", "{id: 1, nodes: [N]}", "dag 1"),
        ("{id: 1, nodes: [{id: 5}]}", "{id: 2, nodes: [{id: 5}]}", "node 5"),
        ("{id: 1, nodes: [{sub_tasks: {id: 5}}]}", "{id: 2, nodes: [{sub_tasks: {id: 5}}]}",
         "sub task 5"),
        ("{id: 4, nodes: [N]}", "{id: 5, nodes: [{id: 401}]}", "node 401"),
    ],
)  # fmt: skip
def test_two_scenarios_with_one_number_are_an_author_s_mistake(one: str, other: str, kind: str) -> None:
    with pytest.raises(InputError, match=f"has a {kind}, and so has another dag"):
        together(named("a", f"[{one}]"), named("b", f"[{other}]"))


def test_a_dag_that_was_refused_left_nothing_behind() -> None:
    sandbox = sharing(named("a", "[{id: 1, nodes: [{id: 5}]}]"))
    twice, once = (named("b", f"[{{id: 2, nodes: [{{id: 6}}{more}]}}]") for more in (", {id: 5}", ""))

    with pytest.raises(InputError):
        sandbox.execute(Load((twice,)))

    assert [view.data.number for view in sandbox.world(Dags).all("agent")] == [1]
    sandbox.execute(Load((once,)))
    assert [view.data.number for view in sandbox.world(Dags).all("agent")] == [1, 2]


def test_what_has_no_name_gets_one_and_the_same_seed_the_same() -> None:
    scenario = named("a", "[{nodes: [{}, {sub_tasks: [{}, {name: Mine}]}]}]")

    first, second = (together(scenario).view(("agent", 1)).data for _ in range(2))

    assert first == second
    assert first.name
    assert [each.name for each in first.nodes[1].sub_tasks] == [first.nodes[1].name, "Mine"]


# --- scenarios that do not go together ------------------------------------------------------------


def test_scenarios_that_disagree_on_the_agent_cannot_be_served_together() -> None:
    one = named("one", "[{id: 1, nodes: [N]}]", more="agent: {port: 2887}")
    other = named("other", "[{id: 2, nodes: [N]}]", more="agent: {port: 2888}")

    with pytest.raises(InputError, match="scenarios one, other set different agents"):
        together(one, other)


def test_scenarios_that_disagree_on_the_switches_cannot_be_served_together() -> None:
    one = named("one", "[{id: 1, nodes: [N]}]", more="switches: {obshell_version: 4.3.0.0}")
    other = named("other", "[{id: 2, nodes: [N]}]", more="switches: {quirks_off: all}")

    with pytest.raises(InputError, match="scenarios one, other set different switches"):
        together(one, other)


def test_a_scenario_that_says_nothing_of_the_agent_takes_the_other_s() -> None:
    one = named("one", "[{id: 1, nodes: [N]}]", more="agent: {port: 2887}")

    dags = together(one, named("other", "[{id: 2, nodes: [N]}]"))

    assert dags.agents[0].port == 2887
    assert dags.view(("agent", 2)).data.nodes[0].sub_tasks[0].agent.port == 2887


# --- time -----------------------------------------------------------------------------------------


def test_a_dag_of_some_age_has_lived_already() -> None:
    sandbox = world("[{id: 4, age: 1h, nodes: [A]}]")

    view = sandbox.world(Dags).view(("agent", 4))

    assert view.data.created == sandbox.clock.now() - 3600 * SECOND
    assert view.state.state == "SUCCEED"


def test_all_dags_live_by_the_same_ticks_whenever_they_were_born() -> None:
    sandbox = world("[{id: 1, nodes: [A]}, {id: 2, age: 300ms, nodes: [A]}]", head="phase: 400ms")
    start = sandbox.clock.now()
    sandbox.advance(SECOND)

    dags = sandbox.world(Dags).all("agent")
    states = [view.data.created + (view.state.start_time or 0) for view in dags]

    assert states[0] == start + 400_000_000
    assert (states[1] - start) % SECOND == 400_000_000


def test_a_tick_may_be_shorter() -> None:
    sandbox = world("[{id: 4, nodes: [A]}]", head="tick: 100ms")

    sandbox.advance(SECOND // 4)

    assert sandbox.world(Dags).view(("agent", 4)).state.state == "SUCCEED"


def both_states(sandbox: Sandbox) -> tuple[str, str]:
    """What OCP's task shows, and what obshell's dag."""
    dag = sandbox.world(Dags).view(("agent", 4))
    return sandbox.world(Tasks).view(35000312).state.status, dag.state.state


def test_ocp_s_tasks_and_obshell_s_dags_live_by_one_clock() -> None:
    scenarios = [read_scenario(REINSTALL), read_scenario(INIT)]
    sandbox = make_sandbox(scenarios, starts_at=0)
    before = (sandbox.world(Tasks).view(35000312).state.status, sandbox.world(Dags).view(("agent", 4)).state.state)

    sandbox.advance(60 * SECOND)

    after = (sandbox.world(Tasks).view(35000312).state.status, sandbox.world(Dags).view(("agent", 4)).state.state)
    assert (before, after) == (("RUNNING", "READY"), ("FAILED", "FAILED"))


# --- progressions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [DAG, f"{TASK}/dags/agent", f"{TASK}/dag/maintain/agent", LOGS])
def test_under_polls_a_read_shows_the_state_as_it_is_and_then_moves_on(path: str) -> None:
    sandbox = sandbox_of(INIT, progression="polls")
    ask = plain(sandbox)
    start = sandbox.clock.now()

    answer = ask("GET", path).json()

    assert answer["timestamp"] == "2021-08-25T07:09:31.74Z"
    assert sandbox.clock.now() == start + SECOND


def test_under_polls_the_whole_life_is_seen_one_state_a_read() -> None:
    sandbox = sandbox_of(INIT, progression="polls")
    ask = plain(sandbox)
    dag = named("init", INIT.partition("dags:")[2]).dags[0]
    life = obshell.start(script_of(dag), rules_of(SECOND, 0, Switches()))

    seen = [ask("GET", DAG).json()["data"] for _ in life.states]

    assert [(each["state"], each["stage"]) for each in seen] == [(state.state, state.stage) for state in life.states]
    assert [node["state"] for each in seen for node in each["nodes"]] == [
        node.state for state in life.states for node in state.nodes
    ]


def test_under_polls_the_last_state_stays() -> None:
    ask = plain(sandbox_of(INIT, progression="polls"))
    for _ in range(20):
        ask("GET", DAG)

    answers = [ask("GET", DAG).json() for _ in range(2)]

    assert answers[0]["data"] == answers[1]["data"]
    assert answers[0]["data"]["state"] == "FAILED"


def test_under_polls_an_operator_does_not_hide_its_first_state() -> None:
    ask = plain(sandbox_of(INIT, progression="polls"))
    for _ in range(20):
        ask("GET", DAG)

    operate(ask, DAG, "RETRY")

    assert [ask("GET", DAG).json()["data"]["state"] for _ in range(2)] == ["READY", "RUNNING"]


def test_under_polls_a_list_moves_on_to_what_changes_first() -> None:
    sandbox = world(
        "[{id: 1, nodes: [{sub_tasks: {takes: 5s}}]}, {id: 2, nodes: [{sub_tasks: {takes: 2s}}]}]", progression="polls"
    )
    ask = plain(sandbox)
    states = []

    for _ in range(12):
        dags = ask("GET", f"{TASK}/dags/agent").json()["data"]["contents"]
        states.append([dag["state"] for dag in dags])

    assert ["RUNNING", "SUCCEED"] in states
    assert states[-1] == ["SUCCEED", "SUCCEED"]


def test_under_polls_a_read_that_is_refused_moves_nothing_on() -> None:
    sandbox = sandbox_of(INIT, progression="polls")
    start = sandbox.clock.now()

    plain(sandbox)("GET", f"{TASK}/dag/abc")

    assert sandbox.clock.now() == start


def test_under_immediate_all_has_happened_already() -> None:
    sandbox = sandbox_of(INIT, progression="immediate")
    ask = plain(sandbox)

    first = ask("GET", DAG).json()["data"]["state"]
    operate(ask, DAG, "ROLLBACK")

    dag = ask("GET", DAG).json()["data"]
    assert first == "FAILED"
    assert (dag["state"], dag["operator"], dag["stage"]) == ("SUCCEED", "ROLLBACK", 1)


def test_under_manual_nothing_happens_until_the_clock_is_moved() -> None:
    sandbox = sandbox_of(INIT)
    ask = plain(sandbox)

    before = [ask("GET", DAG).json()["data"] for _ in range(3)]
    sandbox.advance(10 * SECOND)

    assert before[0] == before[1] == before[2]
    assert ask("GET", DAG).json()["data"]["state"] == "FAILED"


@pytest.mark.parametrize("progression", PROGRESSIONS)
def test_under_every_progression_the_list_is_the_dags(progression: Progression) -> None:
    ask = plain(world("[{id: 2, nodes: [A]}, {id: 1, nodes: [A]}]", progression=progression))

    assert ids(ask("GET", f"{TASK}/dags/agent")) == [1, 2]


# --- generic ids ----------------------------------------------------------------------------------

LONE = Path(__file__).parent / "data" / "obshell" / "lone.json"


def recorded() -> list[tuple[str, dict[str, Any]]]:
    """Every id asked for on a dag, node or sub task route of a lone agent, and the answer."""
    exchanges = json.loads(LONE.read_text(encoding="utf-8"))["exchanges"]
    asked = [each for each in exchanges if " id " in each["label"]]
    return [(unquote(e["request"]["target"].split("/")[5]), e["response"]["body"]) for e in asked]


def test_the_documents_own_id_is_number_9_of_a_local_agent() -> None:
    said = parse_generic_id("22130706433028869")

    assert (said.kind, str(said.ip), said.port, said.number) == ("local", "127.0.0.1", 2886, 9)
    assert local_id(9, ip="127.0.0.1", port=2886) == "22130706433028869"


@given(
    st.sampled_from(["local", "obproxy"]),
    st.ip_addresses().filter(lambda ip: int(ip) >> (ip.max_prefixlen - 8)),
    st.integers(0, 65535),
    st.integers(0, 2**63 - 1),
)
def test_what_is_built_is_parsed(kind: Any, ip: Any, port: int, number: int) -> None:
    text = local_id(number, ip=str(ip), port=port, kind=kind)

    assert parse_generic_id(text) == GenericId(kind, number, ip, port)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_cluster_id_is_a_one_and_a_number(number: int) -> None:
    assert parse_generic_id(f"1{number}") == GenericId("cluster", number)


@given(st.text() | st.text("0123456789+-x", max_size=60))
def test_any_text_is_an_id_or_is_refused(text: str) -> None:
    answer = said_of(text)

    assert answer.startswith(("cluster", "local", "obproxy", f"Invalid ID: {text}"))


@pytest.mark.parametrize(
    ("text", "number"), [("2213070643302886+1", 1), ("2213070643302886-1", -1), ("2213070643302886009", 9)]
)
def test_a_tail_with_a_sign_or_leading_zeros_is_a_number(text: str, number: int) -> None:
    assert parse_generic_id(text).number == number


def test_every_recorded_refusal_of_an_id_has_its_words() -> None:
    refused = [
        (text, body["error"]["message"])
        for text, body in recorded()
        if body.get("error", {}).get("errCode") == "Task.GenericID.Invalid"
    ]

    said = [(text, refusal_of(text)) for text, _ in refused]

    assert len(refused) > 30
    assert said == refused


def test_every_recorded_id_that_was_looked_up_is_parsed() -> None:
    looked_up = [
        text
        for text, body in recorded()
        if body.get("error", {}).get("errCode") in ("Task.NotFound", "Agent.OceanBase.NotHold")
    ]

    assert len(looked_up) > 10
    assert all(parse_generic_id(text) for text in looked_up)


def refusal_of(text: str) -> str:
    with pytest.raises(InvalidGenericId) as refused:
        parse_generic_id(text)
    return str(refused.value)


def said_of(text: str) -> str:
    try:
        return parse_generic_id(text).kind
    except InvalidGenericId as refused:
        return str(refused)
