"""What an obshell scenario may hold, what it is when it says little, and what is said of mistakes.

As with OCP's, each mistake is one row: a fragment put in place of a part of a right file, and the
whole of what is said, with its line and column.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from golden import assert_golden
from oceanmock.clock import MILLISECOND, SECOND
from oceanmock.errors import ScenarioError
from oceanmock.library import read_scenario
from oceanmock.obshell import machine
from oceanmock.obshell import scenario as obshell
from oceanmock.obshell.agent import Switches
from oceanmock.obshell.api import QUIRK_NAMES
from oceanmock.obshell.states import TIMED_OUT, Rules, RunScript, SubTaskScript
from scenario_schema import validator
from served import load_yaml

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data" / "scenarios"

HEAD = "summary: A scenario\napi: obshell\n"
DAG = "dags:\n  - id: 4\n    name: Join\n    nodes:\n"
STEPS = f"{HEAD}{DAG}      - {{name: One, can: [retry]}}\n      - Two\nstory:\n"


def read(text: str) -> obshell.Scenario:
    """The scenario of a right file."""
    scenario = read_scenario(text)
    assert isinstance(scenario, obshell.Scenario)
    return scenario


def said_of(text: str) -> str:
    """All that is said of a text that cannot be used."""
    with pytest.raises(ScenarioError) as refused:
        read_scenario(text, path="x.yaml")
    return str(refused.value)


def with_node(written: str) -> str:
    """A file with this node, at line 7, column 9."""
    return f"{HEAD}{DAG}      - {written}\n"


def with_sub_task(written: str, *, can: str = "[retry, rollback]") -> str:
    """A file with this sub task, at line 9, column 11, of a node that can be tried again."""
    return f"{HEAD}{DAG}      - name: One\n        can: {can}\n        sub_tasks: [{written}]\n"


def with_dag(written: str) -> str:
    """A file with this dag, at line 4, column 5."""
    return f"{HEAD}dags:\n  - {written}\n"


def with_step(written: str) -> str:
    """A file with this as its only step, at line 10, column 5."""
    return f"{STEPS}  - {written}\n"


def with_key(written: str) -> str:
    """A file with this at its root, from line 3 on."""
    return f"{HEAD}{written}\ndags: [{{nodes: [One]}}]\n"


def node_of(text: str) -> obshell.Node:
    """The first node of a right file."""
    return read(text).dags[0].nodes[0]


def sub_task_of(text: str) -> obshell.SubTask:
    """The first sub task of a right file."""
    return node_of(text).sub_tasks[0]


# --- what a file that says little says ------------------------------------------------------------


def test_a_dag_is_no_more_than_the_names_of_its_nodes() -> None:
    (dag,) = read(f"{HEAD}dags: [{{nodes: [One, Two]}}]\n").dags

    assert [node.name for node in dag.nodes] == ["One", "Two"]
    assert (dag.id, dag.name, dag.maintenance, dag.scope, dag.age) == (None, None, "none", "agent", 0)


def test_a_node_can_nothing_has_an_hour_and_one_sub_task_that_succeeds() -> None:
    node = node_of(with_node("One"))

    assert (node.can, node.timeout) == ((), 3600)
    assert [each.outcome for each in node.sub_tasks] == ["SUCCEED"]


def test_a_sub_task_takes_ten_milliseconds_and_its_rollback_one() -> None:
    sub_task = sub_task_of(with_node("One"))

    assert [each.takes for each in sub_task.runs] == [10 * MILLISECOND]
    assert [each.takes for each in sub_task.rollback] == [MILLISECOND]


def test_the_agent_is_a_lone_master_with_a_password() -> None:
    agent = read(with_node("One")).agent

    assert (agent.ip, agent.port, agent.identity) == ("127.0.0.1", 2886, "MASTER")
    assert (agent.root_password, agent.agent_password) == ("oceanmock", None)


def test_the_scheduler_ticks_once_a_second_from_the_start_on() -> None:
    scenario = read(with_node("One"))

    assert (scenario.tick, scenario.phase) == (SECOND, 0)


def test_an_agent_may_have_no_password() -> None:
    assert read(with_key("agent: {root_password: null}")).agent.root_password is None


def test_a_run_with_an_error_fails() -> None:
    assert sub_task_of(with_sub_task("{error: {message: busy}}")).outcome == "FAILED"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("One", "{name: One}"),
        ("{name: One}", "{name: One, can: [], timeout: 1h, sub_tasks: [{}]}"),
        ("{can: retry}", "{can: [retry]}"),
        ("{sub_tasks: {takes: 1s}}", "{sub_tasks: [{takes: 1s}]}"),
        ("{can: retry, sub_tasks: {attempts: {takes: 1s}}}", "{can: [retry], sub_tasks: [{attempts: [{takes: 1s}]}]}"),
        ("{sub_tasks: {rollback: {takes: 1s}}}", "{sub_tasks: [{rollback: [{takes: 1s}]}]}"),
        ('{sub_tasks: {log: "a\\nb"}}', "{sub_tasks: [{log: [a, b]}]}"),
        ("{sub_tasks: {agent: {ip: 10.0.0.2}}}", "{sub_tasks: {agent: {ip: 10.0.0.2, port: 2886}}}"),
    ],
)
def test_a_short_form_means_the_same_as_the_long_one(short: str, long: str) -> None:
    assert node_of(with_node(short)).model_dump() == node_of(with_node(long)).model_dump()


@pytest.mark.parametrize(
    ("written", "meant"),
    [("all", ("all",)), ("[all]", ("all",)), ("", ())]
    + [
        (written, ("lost-race-is-500", "missing-header-is-400"))
        for written in ("'lost-race-is-500, missing-header-is-400'", "[lost-race-is-500, missing-header-is-400]")
    ],
)
def test_quirks_may_be_named_in_one_text(written: str, meant: tuple[str, ...]) -> None:
    scenario = read(with_key(f"switches: {{quirks_off: {written or '[]'}}}"))

    assert scenario.switches.quirks_off == meant


def test_a_quirk_shows_unless_it_or_all_are_off() -> None:
    one, all_of_them = (Switches.model_validate({"quirks_off": each}) for each in ("lost-race-is-500", "all"))

    assert Switches().has("lost-race-is-500")
    assert not one.has("lost-race-is-500")
    assert one.has("missing-header-is-400")
    assert not all_of_them.has("missing-header-is-400")


def test_the_quirks_are_those_of_the_contract() -> None:
    contract = load_yaml((ROOT / "openapi" / "obshell.yaml").read_text("utf-8"))

    assert set(QUIRK_NAMES) == set(quirks_in(contract))


def quirks_in(node: Any) -> list[str]:
    """The names of all quirks that a contract describes."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = node.get("x-quirk", ()) if isinstance(node, dict) else ()
    return [each["name"] for each in own] + [name for child in children for name in quirks_in(child)]


# --- what the machine is given --------------------------------------------------------------------


def test_a_plan_has_the_runs_the_flags_and_the_lock_of_the_file() -> None:
    text = with_dag("{maintenance: global, nodes: [{can: [retry, pass], timeout: 5s, sub_tasks: {takes: 2s}}]}")

    plan = obshell.script_of(read(text).dags[0])

    assert plan.is_maintenance
    assert plan.nodes[0].can == {"retry", "pass"}
    assert plan.nodes[0].timeout == 5 * SECOND
    assert plan.nodes[0].sub_tasks == (SubTaskScript((RunScript(2 * SECOND),), rollbacks=(RunScript(MILLISECOND),)),)


@pytest.mark.parametrize("lock", ["{tenant: t1}", "obproxy"])
def test_every_lock_makes_a_maintenance_dag(lock: str) -> None:
    text = f"{HEAD}agent: {{identity: CLUSTER AGENT}}\ndags:\n  - scope: cluster\n"

    plan = obshell.script_of(read(f"{text}    maintenance: {lock}\n    nodes: [One]\n").dags[0])

    assert plan.is_maintenance


@pytest.mark.parametrize(
    ("written", "last"),
    [
        ("{error: {code: Agent.Busy, message: come back}}", "ERROR: [Agent.Busy]: come back"),
        ("{error: {message: come back}}", "ERROR: [Common.Unexpected]: come back"),
        ("{ends: FAILED}", "ERROR: [Common.Unexpected]: Unexpected error: exit status 1"),
    ],
)
def test_a_failed_run_says_why_in_its_last_line(written: str, last: str) -> None:
    (attempt,) = (
        obshell.script_of(read(with_sub_task(written.replace("{", "{log: one, ", 1))).dags[0])
        .nodes[0]
        .sub_tasks[0]
        .attempts
    )

    assert (attempt.ends, attempt.log, attempt.last_words) == ("FAILED", ("one",), last)


def test_why_a_run_failed_is_said_when_it_has_ended() -> None:
    text = with_sub_task("{takes: 5s, ends: FAILED, log: one}")
    life = machine.start(obshell.script_of(read(text).dags[0]))

    def said(at: int) -> tuple[str, ...] | None:
        shown = machine.view_at(life, at)
        return machine.task_logs_at(shown.nodes[0].sub_tasks[0], at)

    assert said(5 * SECOND) == ("one",)
    assert said(9 * SECOND) == ("one", "ERROR: [Common.Unexpected]: Unexpected error: exit status 1")


def test_a_run_that_the_timeout_ends_says_nothing_of_its_own() -> None:
    text = with_node("{timeout: 1s, sub_tasks: {takes: forever, ends: FAILED}}")
    life = machine.start(obshell.script_of(read(text).dags[0]))

    ended = life.states[-1].nodes[0].sub_tasks[0]

    assert machine.task_logs_at(ended, life.states[-1].at) == (TIMED_OUT,)


@pytest.mark.parametrize(
    ("phase", "age", "first"), [(0, 0, 0), (300, 0, -700), (0, 300, -700), (300, 700, 0), (300, 1900, -800)]
)
def test_the_ticks_are_counted_from_a_dag_s_birth(phase: int, age: int, first: int) -> None:
    """In milliseconds; the first one is at its birth or before it."""
    rules = obshell.rules_of(SECOND, (phase + age) * MILLISECOND, Switches())

    assert rules == Rules(tick=SECOND, phase=first * MILLISECOND)


def test_without_its_quirk_a_cancelled_rollback_can_be_taken_up_again() -> None:
    switches = Switches(quirks_off=("cancelled-rollback-is-stuck",))

    assert obshell.rules_of(SECOND, 0, switches).cancels_at_stage


# --- what the models refuse -----------------------------------------------------------------------

NO_DURATION = "which is not a duration such as 400ms, 1.9s, 2m or 1h30m"
OF_SUB_TASK = "of sub task 1 of node 'One' of dag 'Join'"

MODEL_MISTAKES = {
    "a duration without a unit": (
        with_sub_task("{takes: 60}"),
        f"x.yaml:9:29: `takes` {OF_SUB_TASK} is 60, {NO_DURATION} (write 60s for seconds) [bad-duration]",
    ),
    "a timeout of nothing": (
        with_node("{name: One, timeout: 0s}"),
        "x.yaml:7:30: `timeout` of node 'One' of dag 'Join' is '0s', which is shorter than 1s [bad-duration]",
    ),
    "an outcome obshell does not have": (
        with_sub_task("{attempts: [{ends: SUCCESSFUL}]}"),
        "x.yaml:9:40: `ends` of attempt 1 of sub task 1 of node 'One' is 'SUCCESSFUL', which "
        "obshell does not have [unknown-value]\n"
        "  Allowed: SUCCEED, FAILED. Did you mean 'SUCCEED'?",
    ),
    "a flag there is not": (
        with_node("{name: One, can: [retry, skip]}"),
        "x.yaml:7:34: flag 2 of node 'One' of dag 'Join' is 'skip', which obshell does not have "
        "[unknown-value]\n"
        "  Allowed: cancel, continue, pass, retry, rollback.",
    ),
    "an identity there is not": (
        with_key("agent: {identity: CLUSTER_AGENT}"),
        "x.yaml:3:19: `identity` of `agent` is 'CLUSTER_AGENT', which obshell does not have "
        "[unknown-value]\n"
        "  Allowed: SINGLE, MASTER, FOLLOWER, CLUSTER AGENT, TAKE OVER MASTER, TAKE OVER FOLLOWER, "
        "SCALING OUT, SCALING IN, UNIDENTIFIED. Did you mean 'CLUSTER AGENT'?",
    ),
    "a maintenance there is not": (
        with_dag("{maintenance: tenant, nodes: [One]}"),
        "x.yaml:4:19: `maintenance` of dag 1 is 'tenant', which is none of its values "
        "[unknown-value]\n"
        "  Allowed: none, global, obproxy, {tenant: …}. Did you mean '{tenant: …}'?",
    ),
    "a maintenance of no tenant": (
        with_dag("{maintenance: {}, nodes: [One]}"),
        "x.yaml:4:19: `maintenance` of dag 1 has no `tenant` [missing-key]",
    ),
    "an address that is none": (
        with_key("agent: {ip: localhost}"),
        "x.yaml:3:13: `ip` of `agent` is 'localhost', which is no IPv4 or IPv6 address [bad-address]",
    ),
    "a port that is none": (
        with_key("agent: {port: 65536}"),
        "x.yaml:3:15: `port` of `agent` is 65536; it should be at most 65535 [out-of-range]",
    ),
    "a version that is none": (
        with_key("switches: {obshell_version: 4.5}"),
        "x.yaml:3:29: `obshell_version` of `switches` is 4.5; it should be a text [wrong-type]\n"
        '  Put it in quotes: "4.5".',
    ),
    "a version of three numbers": (
        with_key("switches: {obshell_version: 4.5.0}"),
        "x.yaml:3:29: `obshell_version` of `switches` is '4.5.0', which is not four numbers such "
        "as 4.5.0.0 [bad-version]",
    ),
    "a version before the first": (
        with_key("switches: {obshell_version: 4.2.2.9}"),
        "x.yaml:3:29: `obshell_version` of `switches` is '4.2.2.9', which is not between 4.2.3.0 "
        "and 4.5.0.0 [bad-version]",
    ),
    "a key there is not": (
        with_node("{name: One, subtasks: []}"),
        "x.yaml:7:21: `subtasks` is no key of node 'One' of dag 'Join' [unknown-key]\n"
        "  Allowed: id, name, can, timeout, failure_exit, sub_tasks. Did you mean 'sub_tasks'?\n"
        "x.yaml:7:31: `sub_tasks` of node 'One' of dag 'Join' is empty; it should be a list of at "
        "least one item [out-of-range]",
    ),
    "a key of the other format": (
        with_key("tasks: []"),
        "x.yaml:3:1: `tasks` is no key of a scenario [unknown-key]\n  It belongs to a scenario with `api: ocp`.",
    ),
    "no dags": ("summary: A\napi: obshell\n", "x.yaml:1:1: a scenario has no `dags` [missing-key]"),
    "no API": (
        "summary: A\ndags: [{nodes: [One]}]\n",
        "x.yaml:1:1: a scenario has no `api` [missing-key]\n  Say `api: ocp` for tasks, or `api: obshell` for dags.",
    ),
    "an API misspelt": (
        "summary: A\napi: obshel\ndags: [{nodes: [One]}]\n",
        "x.yaml:2:6: `api` is 'obshel', which is none of its values [unknown-value]\n"
        "  Allowed: ocp, obshell. Did you mean 'obshell'?",
    ),
    "a hundred nodes": (
        with_dag(f"{{nodes: [{', '.join(['One'] * 100)}]}}"),
        "x.yaml:4:13: `nodes` of dag 1 is a list; it should be a list of at most 99 items [out-of-range]",
    ),
    "an error in a success": (
        with_sub_task("{attempts: [{ends: SUCCEED, error: {message: busy}}]}"),
        "x.yaml:9:33: attempt 1 of sub task 1 of node 'One' of dag 'Join' has an `error`, and yet "
        "ends SUCCEED [bad-attempt]",
    ),
    "an error without its message": (
        with_sub_task("{error: {code: Agent.Busy}}"),
        "x.yaml:9:29: `error` of sub task 1 of node 'One' of dag 'Join' has no `message` [missing-key]",
    ),
    "additional data beyond all numbers": (
        with_sub_task("{additional_data: {ids: [9007199254740992]}}"),
        f"x.yaml:9:39: `additional_data` {OF_SUB_TASK} is a mapping, which holds a number beyond 2^53 [bad-data]",
    ),
    "a run beside attempts": (
        with_sub_task("{takes: 1s, attempts: [{takes: 2s}]}"),
        "x.yaml:9:21: sub task 1 of node 'One' of dag 'Join' has `takes` beside `attempts`, where "
        "only each attempt has it [bad-attempt]",
    ),
    "an until that waits for nothing": (
        with_step("{until: {dag: 4}}"),
        "x.yaml:10:13: `until` of step 1 of the story waits for neither a state, nor an operator, "
        "nor a stage [bad-step]",
    ),
    "a sub task of no node": (
        with_step("{until: {dag: 4, sub_task: 40101, state: FAILED}}"),
        "x.yaml:10:13: `until` of step 1 of the story has a `sub_task` without its `node` [bad-step]",
    ),
    "a node's stage": (
        with_step("{until: {dag: 4, node: One, stage: 1}}"),
        "x.yaml:10:13: `until` of step 1 of the story has a `stage`, which only a dag shows [bad-step]",
    ),
    "a step that does two things": (
        with_step("{wait: 1s, call: operateDag, dag: 4, operator: RETRY}"),
        "x.yaml:10:5: step 1 of the story must be one of until, wait, start and call [bad-step]",
    ),
    "a dag outside its until": (
        with_step("{wait: 1s, dag: 4}"),
        "x.yaml:10:5: step 1 of the story has `dag` beside `wait`, where only a call has it [bad-step]",
    ),
    "a call of no dag": (
        with_step("{call: operateDag, operator: RETRY}"),
        "x.yaml:10:5: step 1 of the story calls operateDag without `dag` [bad-step]",
    ),
    "a call of no operator": (
        with_step("{call: operateDag, dag: 4}"),
        "x.yaml:10:5: step 1 of the story calls operateDag without `operator` [bad-step]",
    ),
    "a call of no node": (
        with_step("{call: operateNode, dag: 4, operator: PASS}"),
        "x.yaml:10:5: step 1 of the story calls operateNode without `node` [bad-step]",
    ),
    "a call of a dag that names a node": (
        with_step("{call: dagHandler, dag: 4, node: One, operator: PASS}"),
        "x.yaml:10:5: step 1 of the story has a `node`, which dagHandler does not take [bad-step]",
    ),
    "a retry of a node": (
        with_step("{call: operateNode, dag: 4, node: One, operator: RETRY}"),
        "x.yaml:10:5: step 1 of the story calls operateNode with RETRY, where a node only takes PASS [bad-step]",
    ),
    "an operator that is no call": (
        with_step("{call: operateDag, dag: 4, operator: RUN}"),
        "x.yaml:10:42: `operator` of step 1 of the story is 'RUN', which is none of its values "
        "[unknown-value]\n"
        "  Allowed: ROLLBACK, RETRY, CANCEL, PASS.",
    ),
}


@pytest.mark.parametrize(("text", "said"), MODEL_MISTAKES.values(), ids=MODEL_MISTAKES)
def test_what_the_models_refuse_is_said_in_plain_words(text: str, said: str) -> None:
    assert said_of(text) == said


def test_a_reader_sees_all_mistakes_of_a_file_at_once() -> None:
    text = (DATA / "mistakes-in-dags.yaml").read_text("utf-8")

    with pytest.raises(ScenarioError) as refused:
        read_scenario(text, path="mistakes-in-dags.yaml")

    assert_golden("mistakes-in-dags.txt", f"{refused.value}\n")


# --- what only the whole can show -----------------------------------------------------------------

WHOLE_MISTAKES = {
    "two dags of one number": (
        f"{HEAD}dags:\n  - {{id: 4, nodes: [One]}}\n  - {{id: 4, nodes: [One]}}\n",
        "x.yaml:5:10: another dag of this file already has id 4 [duplicate-id]",
    ),
    "two nodes of one number": (
        f"{HEAD}dags:\n  - {{nodes: [{{id: 7}}]}}\n  - {{nodes: [{{id: 7}}]}}\n",
        "x.yaml:5:19: another node of this file already has id 7 [duplicate-id]",
    ),
    "two sub tasks of one number": (
        with_sub_task("{id: 7}, {id: 7}"),
        "x.yaml:9:35: another sub task of this file already has id 7 [duplicate-id]",
    ),
    "a number that a node without one gets": (
        with_node("{id: 402, name: One}\n      - Two"),
        "x.yaml:7:14: node 'Two' of dag 'Join' gets 402, having no id itself [duplicate-id]",
    ),
    "a number that a sub task without one gets": (
        with_sub_task("{id: 40102}, {}"),
        "x.yaml:9:26: sub task of dag 'Join' gets 40102, having no id itself [duplicate-id]",
    ),
    "a dag in OceanBase without OceanBase": (
        with_dag("{scope: cluster, nodes: [One]}"),
        "x.yaml:4:13: only a CLUSTER AGENT keeps dags in OceanBase, and this agent is MASTER "
        "[wrong-scope]\n"
        "  Give the agent `identity: CLUSTER AGENT`, or leave `scope` out.",
    ),
    "a tenant maintained by an agent's own dag": (
        with_dag("{maintenance: {tenant: t1}, nodes: [One]}"),
        "x.yaml:4:19: a dag that the agent keeps itself cannot maintain a tenant [wrong-scope]\n"
        "  Give the dag `scope: cluster`.",
    ),
    "a first tick after the second": (
        with_key("phase: 1s"),
        "x.yaml:3:8: `phase` is not shorter than the tick of 1 s [out-of-range]\n  There is a tick before it.",
    ),
    "a first tick of an agent after another": (
        with_key("agents: [{}, {phase: 5s}]"),
        "x.yaml:3:22: `phase` is not shorter than the tick of 1 s [out-of-range]\n  There is a tick before it.",
    ),
    "a run after a success": (
        with_sub_task("{attempts: [{takes: 1s}, {takes: 2s}]}", can="[retry]"),
        "x.yaml:9:46: attempt 2 of sub task 1 of node 'One' is never reached "
        "[unreachable-attempt]\n"
        "  Attempt 1 succeeds; say `ends: FAILED` there, or remove this.",
    ),
    "a run after a failure that nobody can retry": (
        with_sub_task("{attempts: [{ends: FAILED}, {takes: 2s}]}", can="[rollback]"),
        "x.yaml:9:49: attempt 2 of sub task 1 of node 'One' is never reached "
        "[unreachable-attempt]\n"
        "  Only a retry runs it again; say that the node `can: [retry]`, or remove this.",
    ),
    "rollbacks of what cannot be rolled back": (
        with_sub_task("{rollback: [{ends: FAILED}, {}]}", can="[pass]"),
        "x.yaml:9:49: rollback attempt 2 of sub task 1 of node 'One' is never reached "
        "[unreachable-attempt]\n"
        "  Say that the node `can: [rollback]`, or remove this.",
    ),
    "a success that comes after the timeout": (
        with_node("{name: One, timeout: 5s, sub_tasks: {takes: 6s, ends: SUCCEED}}"),
        "x.yaml:7:63: attempt 1 of sub task 1 of node 'One' cannot end SUCCEED: it takes longer "
        "than the timeout of 5 s [impossible-outcome]\n"
        "  Raise the timeout, or leave `ends` out.",
    ),
    "a rollback's success that never comes": (
        with_node("{name: One, sub_tasks: {rollback: {takes: forever, ends: SUCCEED}}}"),
        "x.yaml:7:66: rollback attempt 1 of sub task 1 of node 'One' cannot end SUCCEED: it takes "
        "longer than the timeout of 3600 s [impossible-outcome]\n"
        "  Raise the timeout, or leave `ends` out.",
    ),
    "a story of a dag there is not": (
        with_step("{call: operateDag, dag: Jion, operator: RETRY}"),
        "x.yaml:10:29: there is no dag 'Jion' in this file [unknown-reference]\n  Did you mean 'Join'?",
    ),
    "a story of a node there is not": (
        with_step("{until: {dag: 4, node: 403, state: FAILED}}"),
        "x.yaml:10:28: there is no node 403 in this dag [unknown-reference]\n  Did you mean '402'?",
    ),
    "a story of a sub task there is not": (
        with_step("{until: {dag: 4, node: One, sub_task: Two, state: FAILED}}"),
        "x.yaml:10:43: there is no sub task 'Two' in this node [unknown-reference]\n  There are: 40101.",
    ),
    "a node of a name that two have": (
        with_step("{until: {dag: 4, node: One, state: FAILED}}").replace("- Two", "- One"),
        "x.yaml:10:28: 'One' is the name of 2 nodes of this dag [ambiguous-reference]\n  Refer to it by its id.",
    ),
    "a sub task of a name that two have": (
        with_step("{until: {dag: 4, node: One, sub_task: One, state: FAILED}}").replace(
            "{name: One, can: [retry]}", "{name: One, sub_tasks: [{}, {}]}"
        ),
        "x.yaml:10:43: 'One' is the name of 2 sub tasks of this node [ambiguous-reference]\n  Refer to it by its id.",
    ),
    "a stage beyond the last": (
        with_step("{until: {dag: 4, stage: 3}}"),
        "x.yaml:10:29: a dag of 2 nodes is never at stage 3 [unknown-value]",
    ),
    "a state that only nodes have": (
        with_step("{until: {dag: 4, state: PENDING}}"),
        "x.yaml:10:29: a dag is never PENDING [unknown-value]\n  A dag is READY until the scheduler starts it.",
    ),
    "an operator that only nodes have": (
        with_step("{until: {dag: 4, operator: RETRY}}"),
        "x.yaml:10:32: the operator of a dag is never RETRY [unknown-value]\n"
        "  A retried dag shows RUN; the node at its stage shows RETRY.",
    ),
    "an operator that only dags and nodes have": (
        with_step("{until: {dag: 4, node: One, sub_task: 40101, operator: CANCEL}}"),
        "x.yaml:10:60: the operator of a sub task is never CANCEL [unknown-value]\n"
        "  A cancelled sub task keeps its operator, and is FAILED.",
    ),
    "a story that cannot happen": (
        with_step("{until: {dag: 4, state: FAILED}}"),
        "x.yaml:10:5: the story cannot happen: 'Join' never is FAILED from here on; it is "
        "READY/RUN; RUNNING/RUN; SUCCEED/RUN, and after 4 s nothing more is due [impossible-story]",
    ),
}


@pytest.mark.parametrize(("text", "said"), WHOLE_MISTAKES.values(), ids=WHOLE_MISTAKES)
def test_what_only_the_whole_shows_is_said_in_plain_words(text: str, said: str) -> None:
    assert said_of(text) == said


@pytest.mark.parametrize("kind", ["nodes: [{id: 7}]", "nodes: [{sub_tasks: {id: 7}}]"])
def test_the_two_stores_count_apart(kind: str) -> None:
    text = f"{HEAD}agent: {{identity: CLUSTER AGENT}}\ndags:\n"

    dags = read(f"{text}  - {{id: 4, {kind}}}\n  - {{id: 4, scope: cluster, {kind}}}\n").dags

    assert [dag.scope for dag in dags] == ["agent", "cluster"]


def test_dags_nodes_and_sub_tasks_count_apart() -> None:
    assert read(with_dag("{id: 4, nodes: [{id: 4, sub_tasks: {id: 4}}]}"))


@pytest.mark.parametrize(
    ("runs", "can"),
    [
        ("attempts: [{ends: FAILED}, {}]", "[retry]"),
        ("attempts: [{takes: forever}, {}]", "[retry]"),
        ("attempts: [{takes: 9s}, {}]", "[cancel, retry]"),
        ("attempts: [{}, {}], rollback: [{ends: FAILED}]", "[retry, rollback]"),
        ("rollback: [{}, {}]", "[retry]"),
        ("rollback: [{}, {}]", "[rollback]"),
    ],
)
def test_a_run_that_an_operator_leads_to_can_be_reached(runs: str, can: str) -> None:
    assert read(with_sub_task(f"{{{runs}}}", can=can))


@pytest.mark.parametrize("name", ["402", "Two"])
@pytest.mark.parametrize("sub_task", ["40201", "Two"])
def test_nodes_and_sub_tasks_go_by_a_number_of_their_own_making(name: str, sub_task: str) -> None:
    """That of the dag or node, and two digits more; a sub task has its node's name, too."""
    step = f"{{until: {{dag: Join, node: {name}, sub_task: {sub_task}, state: SUCCEED}}}}"

    assert read(with_step(step)).story


def test_what_has_a_number_has_no_other() -> None:
    step = "{until: {dag: 4, node: 401, state: FAILED}}"

    said = said_of(with_step(step).replace("{name: One, can", "{id: 7, name: One, can"))

    assert "there is no node 401 in this dag" in said


@pytest.mark.parametrize(
    "mistake",
    [
        "{id: '401', name: One}",
        "{nam: One, id: 401}",
        "{name: One, sub_tasks: [{takes: 5, attempts: [{}]}]}",
        "{name: One, sub_tasks: [{ends: SUCCESSFUL}]}",
        "{name: One, can: [retyr], sub_tasks: {attempts: [{ends: FAILED}, {}]}}",
        "{name: One, can: retry, sub_tasks: {attempts: [{ends: FALIED}, {}]}}",
        "{name: One, can: retry, sub_tasks: {attempts: [{error: boom}, {}]}}",
        "{name: One, can: retry, sub_tasks: {attempts: [{error: {code: 5, message: busy}}, {}]}}",
        "[One]",
    ],
)
def test_one_mistake_is_not_said_twice_in_other_words(mistake: str) -> None:
    text = with_step("{call: operateNode, dag: 4, node: One, operator: PASS, answers: 400}")

    said = said_of(text.replace("{name: One, can: [retry]}", mistake))

    assert len(re.findall(r"^x\.yaml", said, re.MULTILINE)) == 1, said


# --- any values at all ----------------------------------------------------------------------------

WORDS = "One 1s forever FAILED RETRY retry global cluster <lock> <word>"
words = st.sampled_from(WORDS.split())
scalars = st.none() | st.booleans() | st.integers(-5, 20) | st.floats() | words
RUN_KEYS = "attempts rollback takes ends error log id agent additional_data"
KEYS = (
    "id name maintenance scope age nodes can timeout sub_tasks agent attempts rollback takes ends "
    "error log code message tenant ip port additional_data until wait call dag node sub_task state "
    "operator stage answers <lock>"
)
keys = st.sampled_from([*KEYS.split(), 1])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=8
)
runs = st.fixed_dictionaries({}, optional=dict.fromkeys(RUN_KEYS.split(), values))
nodes = st.fixed_dictionaries({"sub_tasks": st.lists(runs, max_size=2)}, optional={"can": values, "id": values})
dags = st.fixed_dictionaries({"nodes": st.lists(nodes | values, max_size=2)})


@given(
    st.fixed_dictionaries(
        {"summary": st.just("A"), "api": st.just("obshell"), "dags": st.lists(dags | values)},
        optional={
            "story": st.lists(values, max_size=3) | values,
            "switches": values,
            "agent": values,
            "phase": values,
            "tick": values,
        },
    )
)
def test_a_file_of_the_right_keys_and_any_values_is_read_or_refused(data: dict[str, Any]) -> None:
    text = yaml.safe_dump(data, allow_unicode=True)

    assert rules_of(text) is not None


def rules_of(text: str) -> list[str]:
    """The rules that a text breaks; anything but a ScenarioError is raised."""
    try:
        read_scenario(text)
    except ScenarioError as refused:
        return [each.rule for each in refused.diagnostics]
    return []


# --- the schema -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"sumary": "?"}, "$"),
        ({"api": "obshel"}, "$.api"),
        ({"tasks": []}, "$"),
        ({"dags": []}, "$.dags"),
        ({"dags": [{}]}, "$.dags[0]"),
        ({"phase": 5}, "$.phase"),
        ({"agent": {"port": 0}}, "$.agent.port"),
        ({"agent": {"root_password": 5}}, "$.agent.root_password"),
        ({"switches": {"quirks_off": "everything"}}, "$.switches.quirks_off"),
        ({"dags": [{"nodes": [{"can": ["skip"]}]}]}, "$.dags[0].nodes[0]"),
        ({"dags": [{"nodes": ["One"], "maintenance": "tenant"}]}, "$.dags[0].maintenance"),
        ({"story": [{"call": "retryTask"}]}, "$.story[0].call"),
        ({"story": [{"until": {"state": "FAILED"}}]}, "$.story[0].until"),
    ],
)
def test_the_schema_refuses_an_obvious_mistake(change: dict[str, Any], place: str) -> None:
    right: dict[str, Any] = {"summary": "?", "api": "obshell", "dags": [{"nodes": ["One"]}]}

    assert places_of_mistakes(right) == []
    assert places_of_mistakes(right | change) == [place]


@pytest.mark.parametrize(
    "change",
    [
        {"agent": {"root_password": None}},
        {"switches": {"quirks_off": "all"}},
        {"switches": {"quirks_off": "lost-race-is-500, missing-header-is-400"}},
        {"dags": [{"nodes": ["One"], "maintenance": {"tenant": "t1"}, "scope": "cluster"}]},
        {"dags": [{"nodes": [{"can": "retry", "sub_tasks": {"takes": "forever"}}]}]},
        {"dags": [{"nodes": [{"sub_tasks": [{"attempts": {"log": "a line"}}]}]}]},
        {"dags": [{"nodes": [{"sub_tasks": [{"additional_data": {"main_dag_id": "1"}}]}]}]},
    ],
)
def test_the_schema_accepts_every_short_form(change: dict[str, Any]) -> None:
    right = {"summary": "?", "api": "obshell", "dags": [{"nodes": ["One"]}]}

    assert places_of_mistakes(right | change) == []


def places_of_mistakes(data: Any) -> list[str]:
    """What the schema refuses, each with its place."""
    errors = validator().iter_errors(data)
    return sorted(error.json_path for error in errors)
