"""What `faults` and `starts_on` in a scenario file may say, and what is said of mistakes in them.

Each mistake is one row: what is wrong, and the whole of what is said of the file that has it, with
its line and column.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oceanmock.clock import MILLISECOND, SECOND
from oceanmock.errors import InputError, ScenarioError
from oceanmock.handles import FaultFields
from oceanmock.library import load_scenario, read_fault, read_scenario
from oceanmock.obshell import scenario as obshell
from oceanmock.obshell.agent import ObshellFault
from oceanmock.obshell.scenario import excludes as locks_out
from oceanmock.ocp import scenario as ocp
from oceanmock.ocp.scenario import OcpFault
from oceanmock.openapi import load_spec, operations_of, spec_path
from oceanmock.scenario.faults import EFFECTS, Fault
from oceanmock.scenario.stubs import StartsOn
from oceanmock.text import format_duration, parse_duration
from scenario_schema import definitions, validator
from served import load_yaml

TASKS = "tasks: [{id: 1000, subtasks: [{id: 7}, {id: 8}]}]"
DAGS = "dags: [{id: 4, nodes: [One, {name: Two, id: 444}]}]"


def with_faults(*written: str, api: str = "ocp", things: str = "") -> str:
    """A file with these faults, the first of them at line 5, column 5."""
    things = things or {"ocp": TASKS, "obshell": DAGS}[api]
    faults = "".join(f"  - {each}\n" for each in written)
    return f"summary: A scenario\napi: {api}\n{things}\nfaults:\n{faults}"


def fault_of(written: str, *, api: str = "ocp") -> Fault:
    """The only fault of a right file."""
    scenario = read_scenario(with_faults(written, api=api))
    assert isinstance(scenario, ocp.Scenario | obshell.Scenario)
    return scenario.faults[0]


def said_of(text: str) -> str:
    """All that is said of a text that cannot be used."""
    with pytest.raises(ScenarioError) as refused:
        read_scenario(text, path="x.yaml")
    return str(refused.value)


# --- what a fault says ----------------------------------------------------------------------------


def test_a_fault_that_says_only_what_it_does_strikes_everything() -> None:
    fault = fault_of("{status: 503}")

    assert (fault.operation, fault.caller, fault.targets) == ((), None, {})
    assert (fault.spans, fault.counts, fault.probability) == (((1, None),), "calls", 1)
    assert fault.effects == ("status",)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("{status: 500, operation: retryTask}", "{status: 500, operation: [retryTask]}"),
        ("{status: 500, calls: 3}", "{status: 500, calls: [3]}"),
        ("{status: 500, calls: '3'}", "{status: 500, calls: ['3']}"),
        ("{drop: data, operation: getTaskInstance}", "{drop: [data], operation: getTaskInstance}"),
        (
            "{dribble: {}, operation: getTaskInstance}",
            "{dribble: {bytes: 16, every: 50ms}, operation: getTaskInstance}",
        ),
    ],
)
def test_a_short_form_means_the_same_as_the_long_one(short: str, long: str) -> None:
    assert fault_of(short).model_dump() == fault_of(long).model_dump()


def test_calls_are_numbers_and_ranges() -> None:
    fault = fault_of("{status: 500, calls: [1, 3, 5-7, 9-]}")

    assert fault.spans == ((1, 1), (3, 3), (5, 7), (9, None))


def test_a_delay_is_a_duration() -> None:
    fault = fault_of("{delay: 1.5s, jitter: 20ms}")

    assert (fault.delay, fault.jitter) == (1500 * MILLISECOND, 20 * MILLISECOND)


def test_a_fault_may_be_about_a_task_and_its_subtask() -> None:
    assert fault_of("{status: 500, task: 1000, subtask: 7}").targets == {"task": 1000, "subtask": 7}


@pytest.mark.parametrize("node", [401, 444, "401", "2213070643302886401"])
def test_a_fault_may_be_about_a_node_by_its_number_or_its_generic_id(node: int | str) -> None:
    fault = fault_of(f"{{status: 500, node: {node!r}}}", api="obshell")

    assert fault.targets == {"node": node}


def test_an_effect_that_is_switched_off_is_none() -> None:
    assert fault_of("{status: 500, reset: false, drop: []}").effects == ("status",)


def test_what_is_answered_by_the_fault_itself_is_not_mangled() -> None:
    assert fault_of("{status: 502, content_type: text/html, operation: retryTask}").mangles == ()


def test_a_fault_is_written_as_it_was_read() -> None:
    written = "{name: slow, operation: [retryTask], calls: [2-4], delay: 1m30s, still_executes: true}"

    assert fault_of(written).to_json() == {"api": "ocp", **load_yaml(written)}


@given(st.integers(0, 3650 * 24 * 3600 * SECOND))
def test_every_duration_can_be_written(span: int) -> None:
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (0, "0s"),
        (1, "0.000001ms"),
        (400 * MILLISECOND, "400ms"),
        (1900 * MILLISECOND, "1.9s"),
        (90 * SECOND, "1m30s"),
        (5400 * SECOND, "1h30m"),
        (86_400_500 * MILLISECOND, "1d500ms"),
    ],
)
def test_a_duration_is_written_as_somebody_would(span: int, text: str) -> None:
    assert format_duration(span) == text


# --- what the contracts say -----------------------------------------------------------------------


@pytest.mark.parametrize("fault", [OcpFault, ObshellFault])
def test_the_operations_are_those_of_the_contract(fault: type[Fault]) -> None:
    operations = operations_of(load_spec(spec_path(fault.api)))

    assert {each.id for each in operations} == set(fault.ids_by_operation)


@pytest.mark.parametrize(
    ("named", "api", "id"),
    [
        ("operateDag", "obshell", "dagHandler"),
        ("operateNode", "obshell", "nodeHandler"),
        ("postAgentJoin", "obshell", "postAgentJoin"),
        ("createTenant", "ocp", "createTenant"),
    ],
)
def test_a_fault_names_any_operation_by_each_of_its_names(named: str, api: str, id: str) -> None:
    assert read_fault({"operation": named, "status": 503}).to_json() == {"api": api, "operation": [id], "status": 503}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"operation": "operatDag", "status": 503}, "which obshell does not have .*Did you mean 'operateDag'"),
        ({"operation": "createTenants", "status": 503}, "which OCP does not have .*Did you mean 'createTenant'"),
        ({"operation": "createTenant", "truncate": 9}, "createTenant changes something"),
        ({"operation": "createTenant", "task": 1, "status": 503}, "createTenant is not about a task"),
    ],
)
def test_what_is_wrong_with_a_fault_of_a_submit_is_said_in_its_own_api(fault: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"(?s){said}"):
        read_fault(fault)


@pytest.mark.parametrize(("api", "model"), [("ocp", OcpFault), ("obshell", ObshellFault)])
def test_what_changes_something_is_what_is_posted(api: str, model: type[Fault]) -> None:
    operations = operations_of(load_spec(spec_path(api)))

    assert {each.id for each in operations if each.method == "POST"} == model.changing_operations


@pytest.mark.parametrize(("api", "model"), [("ocp", OcpFault), ("obshell", ObshellFault)])
def test_the_variables_are_those_of_the_paths(api: str, model: type[Fault]) -> None:
    for each in operations_of(load_spec(spec_path(api))):
        said = set(model.ids_by_operation[each.id].values())

        assert said == {part[1:-1] for part in each.path.split("/") if part.startswith("{")}


def test_every_effect_has_a_key_and_every_key_a_description() -> None:
    properties = definitions()["ocp.OcpFault"]["properties"]

    assert set(EFFECTS) <= set(properties)
    assert all("description" in said for said in properties.values())


# --- what the models refuse -----------------------------------------------------------------------

OPERATIONS = (
    "listTaskInstances, getTaskInstance, retryTask, rollbackTask, getSubtaskLog, retrySubtask, "
    "skipSubtask, cancelSubtask."
)

MODEL_MISTAKES = {
    "an operation there is not": (
        with_faults("{status: 500, operation: retySubtask}"),
        "x.yaml:5:30: `operation` of fault 1 is 'retySubtask', which OCP does not have "
        f"[unknown-value]\n  Allowed: {OPERATIONS} Did you mean 'retrySubtask'?",
    ),
    "an operation of a list": (
        with_faults("{status: 500, operation: [getTime, getSecretKey]}", api="obshell"),
        "x.yaml:5:40: `operation` 2 of fault 1 is 'getSecretKey', which obshell does not have "
        "[unknown-value]\n"
        "  Allowed: getAllClusterDags, getAllAgentDags, getObLastMaintenanceDag, "
        "getAgentLastMaintenanceDag, getAllAgentsLastMaintenanceDag, getUnfinishedDags, "
        "getClusterUnfinishDags, getAgentUnfinishDags, getAgentMainDags, getDagDetail, "
        "getNodeDetail, getSubTaskDetail, getFullSubTaskLogs, getAgentInfo, getSecret, getTime, "
        "getGitInfo, getStatus, dagHandler, nodeHandler. Did you mean 'getSecret'?",
    ),
    "a thing of the other API": (
        with_faults("{status: 500, dag: 4}"),
        "x.yaml:5:19: `dag` is no key of fault 1 [unknown-key]\n"
        "  Allowed: name, operation, stub, caller, calls, counts, probability, from, until, when, "
        "delay, jitter, status, headers, body, body_file, error_code, error_message, reset, drop_response, empty, "
        "truncate, malformed, content_type, dribble, set, drop, change_type, still_executes, task, subtask.",
    ),
    "a key misspelt": (
        with_faults("{status: 500, probabilty: 2}"),
        "x.yaml:5:19: `probabilty` is no key of fault 1 [unknown-key]\n"
        "  Allowed: name, operation, stub, caller, calls, counts, probability, from, until, when, "
        "delay, jitter, status, headers, body, body_file, error_code, error_message, reset, drop_response, empty, "
        "truncate, malformed, content_type, dribble, set, drop, change_type, still_executes, task, subtask. "
        "Did you mean 'probability'?\n"
        "x.yaml:5:31: `probability` of fault 1 is 2; it should be at most 1.0 [out-of-range]",
    ),
    "no effect": (
        with_faults("{name: slow, operation: retryTask, reset: false}"),
        "x.yaml:5:5: fault 'slow' does nothing; give it one of delay, jitter, status, headers, body, "
        "error_code, error_message, reset, drop_response, empty, truncate, malformed, content_type, dribble, set, "
        "drop, change_type [bad-fault]",
    ),
    "an effect after a reset": (
        with_faults("{reset: true, delay: 1s, malformed: true}"),
        "x.yaml:5:5: fault 1 has `malformed` beside `reset`, with which there is no response [bad-fault]\n"
        "  Leave one of them out.",
    ),
    "an effect on no body": (
        with_faults("{empty: true, content_type: text/html, truncate: 3, status: 500}"),
        "x.yaml:5:5: fault 1 has `truncate` beside `empty`, with which there is no body [bad-fault]\n"
        "  Leave one of them out.",
    ),
    "an answer both lost and given": (
        with_faults("{drop_response: true, status: 500}"),
        "x.yaml:5:5: fault 1 has `status` beside `drop_response`, with which there is no response [bad-fault]\n"
        "  Leave one of them out.",
    ),
    "a status that is no response": (
        with_faults("{status: 199}"),
        "x.yaml:5:14: `status` of fault 1 is 199; it should be at least 200 [out-of-range]",
    ),
    "a status that is a text": (
        with_faults("{status: '500'}"),
        "x.yaml:5:14: `status` of fault 1 is '500'; it should be a whole number [wrong-type]",
    ),
    "a probability that is a text": (
        with_faults("{status: 500, probability: 50%}"),
        "x.yaml:5:32: `probability` of fault 1 is '50%'; it should be a number [wrong-type]",
    ),
    "a probability that is none": (
        with_faults("{status: 500, probability: .nan}"),
        "x.yaml:5:32: `probability` of fault 1 is .nan; it should be at most 1.0 [out-of-range]",
    ),
    "a delay without a unit": (
        with_faults("{delay: 3}"),
        "x.yaml:5:13: `delay` of fault 1 is 3, which is not a duration such as 400ms, 1.9s, 2m or "
        "1h30m (write 3s for seconds) [bad-duration]",
    ),
    "the zeroth call": (
        with_faults("{status: 500, calls: [1, 0]}"),
        "x.yaml:5:30: call 2 of fault 1 is 0, which is neither a call's number, counted from 1, "
        "nor a range such as 2-4 or 1- [bad-calls]",
    ),
    "a range that ends before it begins": (
        with_faults("{status: 500, calls: 4-2}"),
        "x.yaml:5:26: `calls` of fault 1 is '4-2', which ends before it begins [bad-calls]",
    ),
    "no calls": (
        with_faults("{status: 500, calls: []}"),
        "x.yaml:5:26: `calls` of fault 1 is empty; it should be a list of at least one item [out-of-range]",
    ),
    "a way to nowhere": (
        with_faults("{drop: [data..status], still_executes: true}"),
        "x.yaml:5:13: path 1 of fault 1 is 'data..status', which is no path to a value, such as "
        "data.status, data.contents[0] or data.contents.*.id [bad-path]",
    ),
    "a media type that would end a header": (
        with_faults('{content_type: "text/html\\r\\nX: y", still_executes: true}'),
        "x.yaml:5:20: `content_type` of fault 1 is 'text/html\\r\\nX: y', which is no media type "
        "such as text/html [bad-media-type]",
    ),
    "a dribble of nothing": (
        with_faults("{dribble: {bytes: 0, every: 1}, still_executes: true}"),
        "x.yaml:5:23: `bytes` of `dribble` of fault 1 is 0; it should be at least 1 "
        "[out-of-range]\n"
        "x.yaml:5:33: `every` of `dribble` of fault 1 is 1, which is not a duration such as 400ms, "
        "1.9s, 2m or 1h30m (write 1s for seconds) [bad-duration]",
    ),
    "an id that is none": (
        with_faults("{status: 500, node: One}", api="obshell"),
        "x.yaml:5:25: `node` of fault 1 is 'One', which is neither a number nor a generic id [bad-id]",
    ),
    "no operation": (
        with_faults("{status: 500, operation: []}"),
        "x.yaml:5:30: `operation` of fault 1 is empty; it should be a list of at least one item [out-of-range]",
    ),
    "no operation of obshell": (
        with_faults("{status: 500, operation: []}", api="obshell"),
        "x.yaml:5:30: `operation` of fault 1 is empty; it should be a list of at least one item [out-of-range]",
    ),
    "no list": (
        f"summary: A\napi: ocp\n{TASKS}\nfaults: {{status: 500}}\n",
        "x.yaml:4:9: `faults` is a mapping; it should be a list [wrong-type]",
    ),
    "no mapping": (
        with_faults("reset"),
        "x.yaml:5:5: fault 1 is 'reset'; it should be a mapping of keys to values [wrong-type]",
    ),
}


@pytest.mark.parametrize(("text", "said"), MODEL_MISTAKES.values(), ids=MODEL_MISTAKES)
def test_what_the_models_refuse_is_said_in_plain_words(text: str, said: str) -> None:
    assert said_of(text) == said


def test_a_mistake_in_one_fault_hides_none_in_another() -> None:
    text = with_faults("{status: 1}", "{status: 500, operation: retryTsk}", "{delay: 1s, task: 1}")

    said = said_of(text)

    assert re.findall(r"x.yaml:([0-9]+):.*\[(.*)\]", said) == [
        ("5", "out-of-range"),
        ("6", "unknown-value"),
        ("7", "unknown-reference"),
    ]


# --- what only the whole file shows ---------------------------------------------------------------

RULE_MISTAKES = {
    "a change answered with less": (
        with_faults("{truncate: 10, operation: [getTaskInstance, retryTask]}"),
        "x.yaml:5:16: `truncate` changes the response of an executed operation, and retryTask "
        "changes something [unsaid-change]\n"
        "  Say `still_executes: true`.",
    ),
    "any change answered with less": (
        with_faults("{delay: 1s, change_type: data}", api="obshell"),
        "x.yaml:5:30: `change_type` changes the response of an executed operation, and "
        "it applies to operations that change something, too [unsaid-change]\n"
        "  Say `still_executes: true`, or name the operations it applies to.",
    ),
    "a probability of nothing": (
        with_faults("{status: 500, probability: 0}"),
        "x.yaml:5:32: fault 1 is never injected: its probability is 0 [never-injected]\n"
        "  Give it one above 0, or remove the fault.",
    ),
    "a list about one task": (
        with_faults("{status: 500, operation: listTaskInstances, task: 1000}"),
        "x.yaml:5:55: fault 1 is never injected: listTaskInstances is not about a task "
        "[never-injected]\n"
        "  These are: getTaskInstance, retryTask, rollbackTask, getSubtaskLog, retrySubtask, "
        "skipSubtask, cancelSubtask.",
    ),
    "a task about a subtask": (
        with_faults("{status: 500, operation: retryTask, task: 1000, subtask: 7}"),
        "x.yaml:5:62: fault 1 is never injected: retryTask is not about a task and a subtask "
        "[never-injected]\n"
        "  These are: getSubtaskLog, retrySubtask, skipSubtask, cancelSubtask.",
    ),
    "a dag and a node": (
        with_faults("{status: 500, dag: 4, node: 401}", api="obshell"),
        "x.yaml:5:33: fault 1 is never injected: no operation is about a dag and a node "
        "[never-injected]\n"
        "  Leave one of them out.",
    ),
    "a fault behind one that always strikes": (
        with_faults("{delay: 1s, calls: [2, 1-]}", "{status: 500, calls: 3}"),
        "x.yaml:6:5: fault 2 is never injected: fault 1 applies to all its requests "
        "[never-injected]\n"
        "  Put that one behind, or say to which `calls` it applies.",
    ),
    "a task there is not": (
        with_faults("{status: 500, task: 100}"),
        "x.yaml:5:25: there is no task 100 in this file [unknown-reference]\n  Did you mean '1000'?",
    ),
    "a subtask there is not": (
        with_faults("{status: 500, subtask: 9}"),
        "x.yaml:5:28: there is no subtask 9 in this file [unknown-reference]\n  There are: 7, 8.",
    ),
    "a name given twice": (
        with_faults("{name: fault 2, delay: 1s, calls: 1}", "{delay: 2s}"),
        "x.yaml:6:5: fault 1 of this file is already called 'fault 2' [duplicate-name]",
    ),
}


@pytest.mark.parametrize(("text", "said"), RULE_MISTAKES.values(), ids=RULE_MISTAKES)
def test_what_only_the_whole_file_shows_is_said_in_plain_words(text: str, said: str) -> None:
    assert said_of(text) == said


@pytest.mark.parametrize(
    "fault",
    [
        "{truncate: 10, operation: getTaskInstance}",
        "{truncate: 10, still_executes: true}",
        "{status: 502, malformed: true}",
        "{status: 500, operation: [listTaskInstances, getTaskInstance], task: 1000}",
        "{drop_response: true, operation: retryTask}",
        "{empty: true, delay: 1s}",
    ],
)
def test_a_fault_that_says_what_it_does_is_right(fault: str) -> None:
    assert fault_of(fault).effects


@pytest.mark.parametrize(
    "things",
    [
        "tasks: [{id: 1, subtasks: [One]}, {subtasks: [Two]}]",
        "tasks: [{id: 99, age: 1s, repeat: {count: 2}, subtasks: [One]}]",
    ],
)
def test_a_task_whose_id_is_yet_to_be_given_may_be_meant(things: str) -> None:
    text = with_faults("{status: 500, task: 100, subtask: 5}", things=things)

    assert read_scenario(text)


def test_a_dag_that_somebody_may_start_may_be_meant() -> None:
    assert fault_of("{status: 500, dag: 5}", api="obshell").targets == {"dag": 5}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{delay: 1s, operation: getTaskInstance}", "{delay: 2s}"),
        ("{delay: 1s, calls: 1-3}", "{delay: 2s}"),
        ("{delay: 1s, probability: 0.5}", "{delay: 2s}"),
        ("{delay: 1s, caller: ada}", "{delay: 2s}"),
        ("{delay: 1s, task: 1000}", "{delay: 2s, subtask: 7}"),
    ],
)
def test_a_fault_behind_one_that_leaves_it_something_is_right(first: str, second: str) -> None:
    assert read_scenario(with_faults(first, second))


# --- a fault by itself ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "model"),
    [
        ({"status": 500}, Fault),
        ({"status": 500, "api": "ocp"}, OcpFault),
        ({"status": 500, "operation": "retryTask"}, OcpFault),
        ({"status": 500, "subtask": 7}, OcpFault),
        ({"status": 500, "api": "obshell"}, ObshellFault),
        ({"status": 500, "operation": ["getTime"]}, ObshellFault),
        ({"status": 500, "sub_task": 7}, ObshellFault),
    ],
)
def test_a_fault_by_itself_is_of_the_api_it_names(said: dict[str, Any], model: type[Fault]) -> None:
    fault = read_fault(said)

    assert type(fault) is model
    assert read_fault(fault.to_json()) == fault


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("reset", "fault 1 is 'reset'; it should be a mapping of keys to values [wrong-type]"),
        ({"status": 5}, "`status` of fault 1 is 5; it should be at least 200 [out-of-range]"),
        (
            {"status": 500, "operation": []},
            "`operation` of fault 1 is empty; it should be a list of at least one item [out-of-range]",
        ),
        (
            {"api": "obshel", "reset": True},
            "`api` is 'obshel', which is none of its values [unknown-value]\n"
            "  Allowed: ocp, obshell. Did you mean 'obshell'?",
        ),
        (
            {"malformed": True},
            "`malformed` changes the response of an executed operation, and it applies to "
            "operations that change something, too [unsaid-change]\n"
            "  Say `still_executes: true`, or name the operations it applies to.",
        ),
        (
            {"delay": 1, "calls": "x"},
            "`calls` of fault 1 is 'x', which is neither a call's number, counted from 1, nor a "
            "range such as 2-4 or 1- [bad-calls]\n"
            "`delay` of fault 1 is 1, which is not a duration such as 400ms, 1.9s, 2m or 1h30m "
            "(write 1s for seconds) [bad-duration]",
        ),
    ],
)
def test_all_that_is_wrong_with_a_fault_by_itself_is_said(said: object, message: str) -> None:
    with pytest.raises(InputError) as refused:
        read_fault(said)

    assert str(refused.value) == message


def test_a_misspelt_operation_still_tells_the_api() -> None:
    with pytest.raises(InputError, match="which obshell does not have"):
        read_fault({"status": 500, "operation": "dagHandlr"})


# --- the schema -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "operation": "listTaskInstances", "calls": [1, "3-"]},
        {"delay": "1s", "calls": "2-4", "task": 1000},
        {"drop": ["data.contents.*.id"], "still_executes": True, "dribble": {"bytes": 1}},
    ],
)
def test_the_schema_accepts_a_fault(fault: dict[str, Any]) -> None:
    scenario = {**load_yaml(with_faults("{delay: 1s}")), "faults": [fault]}

    assert not list(validator().iter_errors(scenario))
    assert read_scenario(json.dumps(scenario))


@pytest.mark.parametrize("fault", [{"status": 199}, {"operation": "retry"}, {"calls": "x"}, {"dribble": 3}, {"dag": 4}])
def test_the_schema_refuses_an_obvious_mistake(fault: dict[str, Any]) -> None:
    scenario = {**load_yaml(with_faults("{delay: 1s}")), "faults": [{"reset": True, **fault}]}

    assert list(validator().iter_errors(scenario))


# --- whatever is said -----------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["1s", "2-4", "data.*", "retryTask", "getTime", "a/b", "ocp", "attempts"])
)
KEYS = st.sampled_from([*OcpFault.model_fields, *ObshellFault.model_fields, "api", "bytes", "x"])


@given(
    st.dictionaries(KEYS, SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(KEYS, SCALARS, max_size=3))
    | SCALARS
)
def test_whatever_is_said_of_a_fault_is_read_or_refused_in_words(said: object) -> None:
    outcome = read_or_refused(said)

    assert "Input should" not in str(outcome)
    assert outcome == (read_fault(outcome.to_json()) if isinstance(outcome, Fault) else outcome)


def read_or_refused(said: object) -> Fault | str:
    """The fault that is read, or why none is."""
    try:
        return read_fault(said)
    except InputError as refused:
        return str(refused)


def test_a_fault_in_python_has_the_keywords_of_the_file_format() -> None:
    fault = type(read_fault({"reset": True, "api": "ocp"}))
    other = type(read_fault({"reset": True, "api": "obshell"}))

    keys = Fault.model_fields.keys() | fault.model_fields.keys() | other.model_fields.keys()
    assert {*FaultFields.__annotations__} == {"api", *keys} - {"body_file"}  # which only a scenario's file has


@pytest.mark.parametrize(
    ("name", "content", "body"),
    [("page.html", "<h1>502</h1>", "<h1>502</h1>"), ("busy.json", '{"code": 7}', {"code": 7})],
)
def test_a_body_may_be_in_a_file_beside_the_scenario(tmp_path: Path, name: str, content: str, body: object) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / "one.yaml").write_text(with_faults(f"{{status: 502, body_file: {name}}}"))

    scenario = load_scenario(tmp_path / "one.yaml")

    assert scenario.faults[0].body == body
    assert json.loads(scenario.source)["faults"] == [{"status": 502, "body": body}]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("none.html", "No such file or directory"),
        ("bad.json", "unexpected end of data"),
        ("large.txt", "it is no file of at most 262,144 bytes"),
        ("/dev/zero", "it is no file of at most 262,144 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_of_the_scenario(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "bad.json").write_text("[")
    (tmp_path / "large.txt").write_text("x" * (2**18 + 1))
    (tmp_path / "one.yaml").write_text(with_faults(f"{{status: 502, body_file: {name}}}"))

    with pytest.raises(ScenarioError, match=f"one.yaml:5:.*{name} cannot be read: {why}.*unreadable-file"):
        load_scenario(tmp_path / "one.yaml")


@pytest.mark.parametrize("fault", ["{body_file: one.yaml}", "{body_file: one.yaml, body: x}"])
def test_only_the_file_of_a_scenario_names_files(fault: str) -> None:
    assert "has a `body_file`, which only a scenario's file has" in said_of(with_faults(fault))


# --- starts_on ------------------------------------------------------------------------------------


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
def test_a_body_has_what_is_asked_of_it_and_may_have_more(wanted: object, got: object, fits: bool) -> None:
    assert starts_on(body=wanted).fits_body(got) is fits


# --- the story ------------------------------------------------------------------------------------


def test_a_started_task_is_born_when_its_story_starts_it() -> None:
    run = ocp.FORMAT.simulate(ocp_of(f"{CREATE}  - wait: 90s\n  - start: Create\n"))

    assert run.actors[0].created == 90 * SECOND
    assert run.actors[0].markers == ((0, "start 'Create'"),)


def test_a_started_dag_keeps_to_the_ticks_that_were_there_before() -> None:
    run = obshell.FORMAT.simulate(obshell_of(f"{AGENT}  - wait: 2500ms\n  - start: Join\n"))

    (join, _) = run.actors
    assert [join.created + state.at for state in join.history.states][1] // SECOND == 3


def test_a_dag_that_succeeded_has_made_the_agent_what_the_next_one_asks_for() -> None:
    steps = [
        "{start: Config, answers: 400}",
        "{start: Join}",
        "{start: Config, answers: 400}",
        "{until: {dag: Join, state: SUCCEED}}",
        "{start: Config}",
    ]

    text = AGENT + "".join(f"  - {each}\n" for each in steps)
    run = obshell.FORMAT.simulate(obshell_of(text))

    assert [text for actor in run.actors for _, text in actor.markers] == ["start 'Join'", "start 'Config'"]


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
def test_a_lock_keeps_out_what_would_maintain_the_same(scope: str, held: str, wanted: str, excludes: bool) -> None:
    dags = [f"  - {{scope: {scope}, maintenance: {each}, nodes: [One]}}\n" for each in (held, wanted)]
    head = OBSHELL.replace("SINGLE", "CLUSTER AGENT")
    scenario = obshell_of(head + "".join(dags))

    assert locks_out(*scenario.dags) is excludes


def test_what_the_agent_keeps_does_not_lock_the_cluster() -> None:
    dag = {"maintenance": "global", "nodes": ["One"]}
    own = obshell.Dag.model_validate(dag)
    clusters = obshell.Dag.model_validate(dag | {"scope": "cluster"})

    assert not locks_out(own, clusters)


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
        "x.yaml:4:41: /api/v1/agent/join is no path of this API [wrong-path]\n  They begin with /api/v2/.",
    ),
    "a path of the contract": (
        f"{OBSHELL}  - {{nodes: [One], starts_on: {{path: '/api/v1/task/{{kind}}/{{id}}'}}}}\n",
        "x.yaml:5:38: /api/v1/task/{kind}/{id} belongs to getAllClusterDags, which responds there itself [wrong-path]",
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
        "[never-starts]\n  Put this one first, or say which `body` it asks for, or how many `times` the other starts.",
    ),
    "a start of what is there": (
        f"{OCP}  - {{name: A, subtasks: [One]}}\nstory: [{{start: A}}]\n",
        "x.yaml:5:17: task 'A' is there from the start [wrong-start]\n  Say what it `starts_on`.",
    ),
    "a start of nothing": (
        f"{AGENT}  - start: Jion\n",
        "x.yaml:8:12: there is no dag 'Jion' in this file [unknown-reference]\n  Did you mean 'Join'?",
    ),
    "a start of a dag that is there": (
        f"{OBSHELL}  - {{name: A, nodes: [One]}}\nstory: [{{start: A}}]\n",
        "x.yaml:6:17: dag 'A' is there from the start [wrong-start]\n  Say what it `starts_on`.",
    ),
    "an operator of a start": (
        f"{AGENT}  - {{start: Join, operator: RETRY}}\n",
        "x.yaml:8:5: step 1 of the story has `operator` beside `start`, where only a call has it [bad-step]",
    ),
    "a body that is no object": (
        f"{OCP}  - {{subtasks: [One], starts_on: {{path: /api/v2/ob, body: [1]}}}}\n",
        "x.yaml:4:59: `body` of `starts_on` of task 1 is a list; it should be a mapping of keys to values [wrong-type]",
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
