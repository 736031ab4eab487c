"""What a scenario file may hold, and what is said of every mistake in one.

Each mistake is one row below: a fragment put in place of a part of a right file, and the whole of
what is said, with its line and column. The last tests hold the reader to one promise: whatever the
text, it is a scenario or a ScenarioError.
"""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from golden import assert_golden
from oceanmock.clock import MILLISECOND, SECOND
from oceanmock.errors import InputError, ScenarioError
from oceanmock.library import read_scenario
from oceanmock.ocp import scenario as ocp
from oceanmock.scenario import BaseScenario
from oceanmock.text import parse_duration
from scenario_schema import validator
from served import load_yaml

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data" / "scenarios"
LIBRARY = [path.read_text("utf-8") for path in sorted((ROOT / "scenarios").glob("[!_]*.yaml"))]

HEAD = "summary: A scenario\napi: ocp\n"
TASK = "tasks:\n  - id: 1\n    name: Upgrade\n    subtasks:\n"
STEPS = f"{HEAD}{TASK}      - {{id: 11, name: One}}\n      - {{id: 12, name: Two}}\nstory:\n"


def read(text: str) -> ocp.Scenario:
    """The scenario of a right file."""
    scenario = read_scenario(text)
    assert isinstance(scenario, ocp.Scenario)
    return scenario


def said_of(text: str) -> str:
    """All that is said of a text that cannot be used."""
    with pytest.raises(ScenarioError) as refused:
        read_scenario(text, path="x.yaml")
    return str(refused.value)


def with_subtask(written: str) -> str:
    """A file with this subtask, at line 7, column 9."""
    return f"{HEAD}{TASK}      - {written}\n"


def with_step(written: str) -> str:
    """A file with this as its only step, at line 10, column 5."""
    return f"{STEPS}  - {written}\n"


def with_key(written: str) -> str:
    """A file with this at its root, from line 3 on."""
    return f"{HEAD}{written}\ntasks: [{{subtasks: [One]}}]\n"


# --- golden ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["six-mistakes", "impossible-story"])
def test_a_reader_sees_all_mistakes_of_a_file_at_once(name: str) -> None:
    text = (DATA / f"{name}.yaml").read_text("utf-8")

    with pytest.raises(ScenarioError) as refused:
        read_scenario(text, path=f"{name}.yaml")

    assert_golden(f"{name}.txt", f"{refused.value}\n")


def test_mistakes_come_in_the_order_of_their_places() -> None:
    text = (DATA / "six-mistakes.yaml").read_text("utf-8")

    with pytest.raises(ScenarioError) as refused:
        read_scenario(text)

    places = [(each.line, each.column) for each in refused.value.diagnostics]
    assert places == sorted(places)
    assert len(places) == 6


# --- what the models refuse -----------------------------------------------------------------------

OF_SUBTASK = "of subtask 1 of task 'Upgrade'"
NO_DURATION = "which is not a duration such as 400ms, 1.9s, 2m or 1h30m"

MODEL_MISTAKES = {
    "a duration without a unit": (
        with_subtask("{timeout: 60}"),
        f"x.yaml:7:19: `timeout` {OF_SUBTASK} is 60, {NO_DURATION} (write 60s for seconds) [bad-duration]",
    ),
    "a duration that is a truth value": (
        with_subtask("{attempts: {takes: true}}"),
        f"x.yaml:7:28: `takes` of `attempts` of subtask 1 is true, {NO_DURATION} [bad-duration]",
    ),
    "a negative duration": (
        with_subtask("{attempts: [{takes: -1s}]}"),
        f"x.yaml:7:29: `takes` of attempt 1 of subtask 1 is '-1s', {NO_DURATION} [bad-duration]",
    ),
    "a timeout with a fraction": (
        with_subtask("{timeout: 1.5s}"),
        f"x.yaml:7:19: `timeout` {OF_SUBTASK} is '1.5s', which is not a whole number of seconds [bad-duration]",
    ),
    "more than ten years": (
        with_subtask("{timeout: 3651d}"),
        f"x.yaml:7:19: `timeout` {OF_SUBTASK} is '3651d', which is longer than ten years [bad-duration]",
    ),
    "a tick too short": (with_key("tick: 0s"), "x.yaml:3:7: `tick` is '0s', which is shorter than 1ms [bad-duration]"),
    "an outcome OCP does not have": (
        with_subtask("{name: install, attempts: [{ends: SUCESS}]}"),
        "x.yaml:7:43: `ends` of attempt 1 of subtask 'install' is 'SUCESS', which OCP does not "
        "have [unknown-value]\n"
        "  Allowed: SUCCESSFUL, FAILED. Did you mean 'SUCCESSFUL'?",
    ),
    "a progression there is not": (
        with_key("progression: poll"),
        "x.yaml:3:14: `progression` is 'poll', which is none of its values [unknown-value]\n"
        "  Allowed: time, polls, manual, immediate. Did you mean 'polls'?",
    ),
    "an API there is not": (
        "summary: A\napi: ocpp\ntasks: [{subtasks: [One]}]\n",
        "x.yaml:2:6: `api` is 'ocpp', which is none of its values [unknown-value]\n"
        "  Allowed: ocp, obshell. Did you mean 'ocp'?",
    ),
    "no API": (
        "summary: A\ntasks: [{subtasks: [One]}]\n",
        "x.yaml:1:1: a scenario has no `api` [missing-key]\n  Say `api: ocp` for tasks, or `api: obshell` for dags.",
    ),
    "another API's tasks": (
        "summary: A\napi: obshell\ntasks: [{subtasks: [One]}]\n",
        "x.yaml:1:1: a scenario has no `dags` [missing-key]\n"
        "x.yaml:3:1: `tasks` is no key of a scenario [unknown-key]\n"
        "  It belongs to a scenario with `api: ocp`.",
    ),
    "an answer that is no answer of an operation": (
        with_step("{call: retryTask, task: 1, answers: 404}"),
        "x.yaml:10:41: `answers` of step 1 of the story is 404, which is none of its values "
        "[unknown-value]\n"
        "  Allowed: 200, 400.",
    ),
    "a key there is not": (
        with_subtask("{name: One, need: []}"),
        "x.yaml:7:21: `need` is no key of subtask 'One' of task 'Upgrade' [unknown-key]\n"
        "  Allowed: id, name, description, needs, attempts, rollback, timeout, retries, prohibit_rollback, "
        "executor, series_id, parallel_idx, class_name. Did you mean 'needs'?",
    ),
    "a key there is not, in a mapping that may be left out": (
        with_key("tasks: [{subtasks: [One], creator: {id: 1, name: admin, nam: x}}]\nx-tasks:").replace(
            "x-tasks:\ntasks: [{subtasks: [One]}]\n", ""
        ),
        "x.yaml:3:57: `nam` is no key of `creator` of task 1 [unknown-key]\n  Allowed: id, name. Did you mean 'name'?",
    ),
    "a key that is a number": (
        with_key("5: x"),
        "x.yaml:3:1: `5` is no key of a scenario [unknown-key]\n"
        "  Allowed: summary, api, progression, starts_at, tick, stubs, switches, tasks, faults, story.",
    ),
    "a missing key": ("summary: A\napi: ocp\n", "x.yaml:1:1: a scenario has no `tasks` [missing-key]"),
    "a missing key further in": (
        with_step("{until: {status: FAILED}}"),
        "x.yaml:10:13: `until` of step 1 of the story has no `task` [missing-key]",
    ),
    "a name that YAML reads as a number": (
        with_subtask("{name: 42}"),
        "x.yaml:7:16: `name` of subtask 42 of task 'Upgrade' is 42; it should be a text "
        "[wrong-type]\n"
        '  Put it in quotes: "42".',
    ),
    "a line that YAML reads as a truth value": (
        with_subtask("{attempts: {log: [a, FALSE]}}"),
        "x.yaml:7:30: line 2 of `attempts` of subtask 1 is FALSE; it should be a text "
        "[wrong-type]\n"
        '  Put it in quotes: "FALSE".',
    ),
    "an id in quotes": (
        with_subtask("{id: '5'}"),
        "x.yaml:7:14: `id` of subtask '5' of task 'Upgrade' is '5'; it should be a whole number [wrong-type]",
    ),
    "an id of nought": (
        with_subtask("{id: 0}"),
        f"x.yaml:7:14: `id` {OF_SUBTASK} is 0; it should be at least 1 [out-of-range]",
    ),
    "an id that not every reader of JSON keeps": (
        with_subtask("{id: 9007199254740992, name: One}"),
        "x.yaml:7:14: `id` of subtask 'One' of task 'Upgrade' is 9007199254740992; "
        "it should be at most 9007199254740991 [out-of-range]",
    ),
    "a list that should have an item": (
        with_subtask("{attempts: []}"),
        f"x.yaml:7:20: `attempts` {OF_SUBTASK} is empty; it should be a list of at least one item [out-of-range]",
    ),
    "a value left out after its key": (
        "summary: A\napi: ocp\ntasks:\n",
        "x.yaml:3:7: `tasks` is empty; it should be a list [wrong-type]",
    ),
    "a mapping for a list": (
        "summary: A\napi: ocp\ntasks: {id: 1}\n",
        "x.yaml:3:8: `tasks` is a mapping; it should be a list [wrong-type]",
    ),
    "a text for a mapping": (
        "summary: A\napi: ocp\ntasks: [Upgrade]\n",
        "x.yaml:3:9: task 1 is 'Upgrade'; it should be a mapping of keys to values [wrong-type]",
    ),
    "a number for a truth value": (
        with_key("switches: {undocumented_task_path: 5}"),
        "x.yaml:3:36: `undocumented_task_path` of `switches` is 5; it should be true or false [wrong-type]",
    ),
    "a fraction for a whole number": (
        with_subtask("{parallel_idx: 1.5}"),
        f"x.yaml:7:24: `parallel_idx` {OF_SUBTASK} is 1.5; it should be a whole number [wrong-type]",
    ),
    "a reference that is neither id nor name": (
        with_subtask("{needs: [[One]]}"),
        "x.yaml:7:18: need 1 of subtask 1 of task 'Upgrade' is a list; it should be an id or a name [wrong-type]",
    ),
    "no summary": (
        "summary: ''\napi: ocp\ntasks: [{subtasks: [One]}]\n",
        "x.yaml:1:10: `summary` is ''; it should be at least one character long [out-of-range]",
    ),
    "a summary that is a story": (
        f"summary: {'x' * 201}\napi: ocp\ntasks: [{{subtasks: [One]}}]\n",
        f"x.yaml:1:10: `summary` is '{'x' * 59}…; it should be at most 200 characters long [out-of-range]",
    ),
    "a number of more than 64 bits": (
        with_subtask("{retries: 1e20}"),
        f"x.yaml:7:19: `retries` {OF_SUBTASK} is 1e20; it should be a number of at most 64 bits [out-of-range]",
    ),
    "so many starts that none counts them": (
        f"{HEAD}tasks: [{{name: A, starts_on: {{path: /api/v2/x, times: 1000000000}}, subtasks: [One]}}]\n",
        "x.yaml:3:55: `times` of `starts_on` of task 'A' is 1000000000; it should be below 1000000000 [out-of-range]",
    ),
    "a start without an offset": (
        with_key("starts_at: 2021-08-25T15:09:31"),
        "x.yaml:3:12: `starts_at` is '2021-08-25T15:09:31', which has no offset [bad-instant]\n"
        "  Write it like 2021-08-25T15:09:31+08:00.",
    ),
    "a day there is not": (
        with_key("starts_at: 2021-02-30T10:00:00Z"),
        "x.yaml:3:12: `starts_at` is '2021-02-30T10:00:00Z', which is no instant [bad-instant]\n"
        "  Write it like 2021-08-25T15:09:31+08:00.",
    ),
    "a start that is a year": (
        with_key("starts_at: 2021"),
        "x.yaml:3:12: `starts_at` is 2021, which is no instant [bad-instant]\n"
        "  Write it like 2021-08-25T15:09:31+08:00.",
    ),
    "a start in seconds since 1970": (
        with_key("starts_at: '1629875371.5'"),
        "x.yaml:3:12: `starts_at` is '1629875371.5', which is no instant [bad-instant]\n"
        "  Write it like 2021-08-25T15:09:31+08:00.",
    ),
    "a start at the end of the calendar": (
        with_key("starts_at: 9999-12-31T23:59:59Z"),
        "x.yaml:3:12: `starts_at` is '9999-12-31T23:59:59Z', which is not between 1980-01-01T00:00:00Z and "
        "2262-04-11T23:47:16.854775807Z [bad-instant]\n"
        "  Write it like 2021-08-25T15:09:31+08:00.",
    ),
    "a step that does nothing": (
        with_step("{}"),
        "x.yaml:10:5: step 1 of the story must be one of until, wait, start and call [bad-step]",
    ),
    "a step that does two things": (
        with_step("{wait: 1s, call: retryTask, task: 1}"),
        "x.yaml:10:5: step 1 of the story must be one of until, wait, start and call [bad-step]",
    ),
    "a call of no task": (
        with_step("{call: retryTask}"),
        "x.yaml:10:5: step 1 of the story calls retryTask without `task` [bad-step]",
    ),
    "a call of no subtask": (
        with_step("{call: skipSubtask, task: 1}"),
        "x.yaml:10:5: step 1 of the story calls skipSubtask without `subtask` [bad-step]",
    ),
    "a call of a task that names a subtask": (
        with_step("{call: retryTask, task: 1, subtask: One}"),
        "x.yaml:10:5: step 1 of the story has a `subtask`, which retryTask does not take [bad-step]",
    ),
    "a task outside its until": (
        with_step("{until: {task: 1, status: FAILED}, task: 1}"),
        "x.yaml:10:5: step 1 of the story has `task` beside `until`, where only a call has it [bad-step]",
    ),
    "an answer to a wait": (
        with_step("{wait: 1s, answers: 400}"),
        "x.yaml:10:5: step 1 of the story has `answers` beside `wait`, where only a call has it [bad-step]",
    ),
    "an until that waits for nothing": (
        with_step("{until: {task: 1}}"),
        "x.yaml:10:13: `until` of step 1 of the story waits for neither a status nor an operation [bad-step]",
    ),
    "a call there is not": (
        with_step("{call: retry, task: 1}"),
        "x.yaml:10:12: `call` of step 1 of the story is 'retry', which is none of its values "
        "[unknown-value]\n"
        "  Allowed: retryTask, rollbackTask, retrySubtask, skipSubtask, cancelSubtask. Did you "
        "mean 'retryTask'?",
    ),
}


@pytest.mark.parametrize(("text", "said"), MODEL_MISTAKES.values(), ids=MODEL_MISTAKES)
def test_what_the_models_refuse_is_said_in_plain_words(text: str, said: str) -> None:
    assert said_of(text) == said


def laughs(names: str) -> str:
    """Lists of nine of the list before, each of a name; the first one has nine texts."""
    return f"{names[0]}: &{names[0]} [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise(names)
    )


def test_aliases_cannot_stand_for_more_than_a_million_values() -> None:
    with pytest.raises(InputError, match="has more than 1,000,000 values"):
        read_scenario(f"{laughs('abcdefghi')}summary: A\n")


def test_aliases_cannot_nest_more_levels_than_may_be_written() -> None:
    text = f"a: &a {'[' * 60}{']' * 60}\nb: {'[' * 60}*a{']' * 60}\n"

    assert said_of(text) == ("x.yaml:2:64: this is not YAML: more than 100 levels are nested here [syntax]")


def test_a_value_is_shown_only_where_it_is_short() -> None:
    said = said_of(f"{laughs('abcd')}summary: A\napi: *d\ntasks: *d\n")

    assert "`api` is a list, which is none of its values" in said
    assert len(said) < 10_000


# --- what only the whole can show -----------------------------------------------------------------

WHOLE_MISTAKES = {
    "two tasks of one id": (
        f"{HEAD}tasks:\n  - {{id: 1, subtasks: [One]}}\n  - {{id: 1, subtasks: [One]}}\n",
        "x.yaml:5:10: another task of this file already has id 1, or counts up to it [duplicate-id]",
    ),
    "a task within the ids of a repeated one": (
        f"{HEAD}tasks:\n  - {{id: 1, repeat: {{count: 9}}, subtasks: [One]}}\n  - {{id: 9, subtasks: [One]}}\n",
        "x.yaml:5:10: another task of this file already has id 9, or counts up to it [duplicate-id]",
    ),
    "two subtasks of one id": (
        f"{HEAD}tasks:\n  - {{id: 1, subtasks: [{{id: 5}}]}}\n  - {{id: 2, subtasks: [{{id: 5}}]}}\n",
        "x.yaml:5:29: another subtask of this file already has id 5 [duplicate-id]",
    ),
    "a subtask's id in a repeated task": (
        f"{HEAD}tasks:\n  - {{repeat: {{count: 2}}, subtasks: [{{id: 5}}]}}\n",
        "x.yaml:4:42: a subtask of a repeated task cannot have an id of its own [repeated-id]\n"
        "  Leave it out: each gets one.",
    ),
    "more repeated tasks than there may be": (
        f"{HEAD}tasks:\n  - {{id: 5, subtasks: [One]}}\n  - {{id: 7, repeat: {{count: {2**64}}}, subtasks: [One]}}\n",
        f"x.yaml:5:29: `count` of `repeat` of task 7 is {2**64}; it should be at most 1000000 [out-of-range]",
    ),
    "repeated tasks yet to be born": (
        f"{HEAD}tasks:\n  - {{repeat: {{count: 4, every: 5s}}, age: 10s, subtasks: [One]}}\n",
        "x.yaml:4:14: the last of these tasks would start after the sandbox's start "
        "[starts-later]\n"
        "  Give `age` at least 15s.",
    ),
    "names that a list reads one by one": (
        f"{HEAD}tasks:\n  - {{name: '{{n}} of {{n}}', repeat: {{count: 10001}}, subtasks: [One]}}\n",
        "x.yaml:4:12: more than 10,000 tasks have a name with `{n}` twice, or before a digit [unordered-names]\n"
        "  Let them repeat less often, or write `{n}` once, and no digit behind it.",
    ),
    "a stub at a task's undocumented path": (
        with_key("switches: {undocumented_task_path: true}\nstubs: [{path: /api/v2/tasks/7}]"),
        "x.yaml:4:16: /api/v2/tasks/7 belongs to getTaskInstance where `undocumented_task_path` is true [wrong-path]",
    ),
    "a need for a subtask there is not": (
        with_subtask("{id: 11, name: One}\n      - {name: Two, needs: [11, Onne]}"),
        "x.yaml:8:33: there is no subtask 'Onne' in this task [unknown-reference]\n  Did you mean 'One'?",
    ),
    "a need for what is like nothing here": (
        with_subtask("{name: One, needs: 99}"),
        "x.yaml:7:28: there is no subtask 99 in this task [unknown-reference]\n  There are: One.",
    ),
    "a need for one of two of the same name": (
        with_subtask("One\n      - One\n      - {name: Two, needs: One}"),
        "x.yaml:9:28: 'One' is the name of 2 subtasks of this task [ambiguous-reference]\n  Refer to it by its id.",
    ),
    "a subtask that waits for itself": (
        with_subtask("{name: One, needs: One}"),
        "x.yaml:7:28: these subtasks wait for one another: One → One [cycle]",
    ),
    "subtasks that wait for one another": (
        with_subtask("{name: One, needs: Three}\n      - Two\n      - Three"),
        "x.yaml:7:28: these subtasks wait for one another: One → Three → Two → One [cycle]",
    ),
    "an attempt nobody can reach": (
        with_subtask("{name: One, attempts: [{takes: 1s}, {takes: 2s}]}"),
        "x.yaml:7:45: attempt 2 of subtask 'One' is never reached [unreachable-attempt]\n"
        "  Attempt 1 succeeds; say `ends: FAILED` there, or remove this.",
    ),
    "a rollback nobody can reach": (
        with_subtask("{name: One, rollback: [{ends: SUCCESSFUL}, {}]}"),
        "x.yaml:7:52: attempt 2 of subtask 'One' is never reached [unreachable-attempt]\n"
        "  Attempt 1 succeeds; say `ends: FAILED` there, or remove this.",
    ),
    "a success that comes after the timeout": (
        with_subtask("{name: One, timeout: 5s, attempts: {takes: 6s, ends: SUCCESSFUL}}"),
        "x.yaml:7:62: attempt 1 of subtask 'One' cannot end SUCCESSFUL: "
        "it takes longer than the timeout of 5 s [impossible-outcome]\n  Raise the timeout, or leave `ends` out.",
    ),
    "a success that comes after the watchdog": (
        with_subtask("{name: One, timeout: 0s, attempts: {takes: 12s, ends: SUCCESSFUL}}"),
        "x.yaml:7:63: attempt 1 of subtask 'One' cannot end SUCCESSFUL: "
        "it takes longer than the timeout of 11 s [impossible-outcome]\n  Raise the timeout, or leave `ends` out.",
    ),
    "a story of a task there is not": (
        with_step("{call: retryTask, task: Upgrad}"),
        "x.yaml:10:29: there is no task 'Upgrad' in this file [unknown-reference]\n  Did you mean 'Upgrade'?",
    ),
    "a story of a subtask there is not": (
        with_step("{until: {task: 1, subtask: 13, status: FAILED}}"),
        "x.yaml:10:32: there is no subtask 13 in this task [unknown-reference]\n  There are: 11, One, 12, Two.",
    ),
    "a status that only subtasks have": (
        with_step("{until: {task: 1, status: PENDING}}"),
        "x.yaml:10:31: a task is never PENDING [unknown-value]\n  Allowed: RUNNING, FAILED, SUCCESSFUL, ABORTED.",
    ),
    "a status that only tasks have": (
        with_step("{until: {task: 1, subtask: 11, status: ABORTED}}"),
        "x.yaml:10:44: a subtask is never ABORTED [unknown-value]\n"
        "  Allowed: PENDING, READY, RUNNING, CANCELING, FAILED, SUCCESSFUL.",
    ),
    "an operation that only subtasks have": (
        with_step("{until: {task: 1, operation: SKIP}}"),
        "x.yaml:10:34: the operation of a task is never SKIP [unknown-value]\n  Allowed: EXECUTE, RETRY, ROLLBACK.",
    ),
    "a story that cannot happen": (
        with_step("{until: {task: 1, status: FAILED}}"),
        "x.yaml:10:5: the story cannot happen: 'Upgrade' never is FAILED from here on; "
        "it is RUNNING/EXECUTE; SUCCESSFUL/EXECUTE, and after 4 s nothing more is due "
        "[impossible-story]",
    ),
    "a key that stands twice": (
        "summary: A\napi: ocp\nsummary: B\ntasks: [{subtasks: [One]}]\n",
        "x.yaml:3:1: 'summary' stands here twice; the first is on line 1 [duplicate-key]\n  Remove one of them.",
    ),
    "a key that stands twice further in": (
        with_subtask("{name: One, attempts: {takes: 1s, takes: 2s}}"),
        "x.yaml:7:43: 'takes' stands here twice; the first is on line 7 [duplicate-key]\n  Remove one of them.",
    ),
}


@pytest.mark.parametrize(("text", "said"), WHOLE_MISTAKES.values(), ids=WHOLE_MISTAKES)
def test_what_only_the_whole_shows_is_said_in_plain_words(text: str, said: str) -> None:
    assert said_of(text) == said


def test_an_attempt_after_one_that_a_story_cancels_can_be_reached() -> None:
    steps = (
        "{until: {task: 1, subtask: 11, status: RUNNING}}\n"
        "  - {call: cancelSubtask, task: 1, subtask: 11}\n"
        "  - {until: {task: 1, status: FAILED}}"
    )

    scenario = read(with_step(steps).replace("{id: 11, name: One}", "{id: 11, attempts: [{takes: 9s}, {}]}"))

    assert len(scenario.tasks[0].subtasks[0].attempts) == 2


def test_an_attempt_after_one_that_another_client_cancels_can_be_reached() -> None:
    other = "others: [{at: 2s, call: cancelSubtask, subtask: 1}]"

    scenario = read(with_subtask(f"{{attempts: [{{takes: 9s}}, {{}}]}}\n    {other}"))

    assert len(scenario.tasks[0].subtasks[0].attempts) == 2


def test_an_attempt_after_one_that_times_out_can_be_reached() -> None:
    text = with_subtask("{timeout: 1s, attempts: [{takes: forever}, {takes: 1s}]}")

    scenario = read(text)

    assert scenario.tasks[0].subtasks[0].attempts[0].takes is None


def test_an_attempt_after_a_success_can_be_reached_when_a_failed_rollback_may_be_retried() -> None:
    """The retry runs again what had succeeded and has been rolled back."""
    switches = "switches: {retry_after_failed_rollback: true}\n"

    scenario = read(switches + with_subtask("{attempts: [{takes: 1s}, {takes: 2s}]}"))

    assert len(scenario.tasks[0].subtasks[0].attempts) == 2


@pytest.mark.parametrize(
    "mistake",
    [
        "{id: '11', name: One}",
        "{id: 11, nam: One}",
        "{id: 11, name: One, attempts: [{end: FAILED}, {takes: 1s}]}",
        "{id: 11, name: One, attempts: [{ends: FALIED}, {takes: 1s}]}",
        "{id: 11, name: One, attempts: [5s, {takes: 1s}]}",
        "{id: 11, name: One, timeout: 5}",
        "{id: 11, name: One, attemps: [{ends: FAILED}, {takes: 1s}]}",
        "{id: 11, name: One, attempts: {takes: 1s, ends: FAILED, times: 2}}",
        "[11, One]",
    ],
)
def test_one_mistake_is_not_said_twice_in_other_words(mistake: str) -> None:
    text = with_step("{wait: 1s}\n  - {call: retrySubtask, task: 1, subtask: 11, answers: 400}")

    with pytest.raises(ScenarioError) as refused:
        read_scenario(text.replace("{id: 11, name: One}", mistake))

    assert len(refused.value.diagnostics) == 1


def test_a_mistake_below_a_misspelt_key_is_found_too_and_where_it_is() -> None:
    said = said_of(f"{HEAD}taskss:\n  - subtask:\n      - timeout: 5\n")

    assert re.findall(r"x\.yaml:\d+:\d+: `\w+`", said) == [
        "x.yaml:3:1: `taskss`",
        "x.yaml:4:5: `subtask`",
        "x.yaml:5:18: `timeout`",
    ]


def test_a_story_is_told_only_when_nothing_else_is_wrong() -> None:
    text = with_step("{until: {task: 1, status: FAILED}}")

    said = said_of(f"tick: 5\n{text}")

    assert "bad-duration" in said
    assert "impossible-story" not in said


def test_an_old_task_s_schedulers_tick_in_the_story_as_when_it_is_served() -> None:
    """The ticks are counted from the sandbox's start, and the task was born between two."""
    text = (
        f"{HEAD}tasks: [{{id: 1, age: 100ms, subtasks: [{{id: 11, attempts: {{takes: 0s}}}}]}}]\n"
        "story: [{wait: 500ms}, {until: {task: 1, subtask: 11, status: SUCCESSFUL}}, "
        "{until: {task: 1, status: RUNNING}}]"
    )

    assert read_scenario(text).story


# --- YAML -----------------------------------------------------------------------------------------

NOT_YAML = {
    "nothing": ("", "x.yaml:1:1: the file is empty [syntax]"),
    "only a comment": ("# later\n", "x.yaml:1:1: the file is empty [syntax]"),
    "a text": ("hello", "x.yaml:1:1: a scenario is a mapping: `summary: …`, `api: ocp`, `tasks: …` [wrong-type]"),
    "a list": (
        "- summary: A\n",
        "x.yaml:1:1: a scenario is a mapping: `summary: …`, `api: ocp`, `tasks: …` [wrong-type]",
    ),
    "a bracket left open": (
        "summary: [A\napi: ocp\n",
        "x.yaml:2:4: this is not YAML: while parsing a flow sequence, did not find expected ',' or ']' [syntax]",
    ),
    "a tab": (
        "tasks:\n\t- subtasks\n",
        "x.yaml:2:1: this is not YAML: while scanning for the next token, "
        "found character that cannot start any token [syntax]",
    ),
    "two documents": (
        "summary: A\n---\nsummary: B\n",
        "x.yaml:2:1: this is not YAML: expected a single document in the stream, but found another document [syntax]",
    ),
    "an alias of nothing": ("summary: *a\n", "x.yaml:1:10: this is not YAML: found undefined alias [syntax]"),
    "an object": (
        "!!python/object:os.system {}\n",
        "x.yaml:1:1: this is not YAML: the tag !!python/object:os.system is not part of YAML's core schema [syntax]",
    ),
    "bytes": (
        "summary: !!binary aGk=\n",
        "x.yaml:1:10: this is not YAML: the tag !!binary is not part of YAML's core schema [syntax]",
    ),
    "a number of five thousand digits": (
        f"summary: {'9' * 5000}\n",
        f"x.yaml:1:10: this is not YAML: '{'9' * 40}' cannot be read as a whole number [syntax]",
    ),
    "the same in hexadecimal": (
        f"summary: 0x{'f' * 5000}\n",
        f"x.yaml:1:10: this is not YAML: '0x{'f' * 38}' cannot be read as a whole number [syntax]",
    ),
    "a truth value that is none": (
        "summary: !!bool maybe\n",
        "x.yaml:1:10: this is not YAML: 'maybe' cannot be read as true or false [syntax]",
    ),
    "a list for a key": (
        "? [a]\n: b\n",
        "x.yaml:1:3: this is not YAML: while constructing a mapping, found unhashable key [syntax]",
    ),
    "nesting without end": (
        "[" * 200_000,
        "x.yaml:1:101: this is not YAML: more than 100 levels are nested here [syntax]",
    ),
}


@pytest.mark.parametrize(("text", "said"), NOT_YAML.values(), ids=NOT_YAML)
def test_what_is_no_mapping_in_yaml_is_refused_with_its_place(text: str, said: str) -> None:
    assert said_of(text) == said


def test_a_control_character_is_refused() -> None:
    said = said_of("summary: \0")

    assert said.startswith("x.yaml:1:1: this is not YAML: unacceptable character #x0000")


def test_half_a_surrogate_pair_is_refused() -> None:
    said = said_of("summary: \ud83d")

    assert said.startswith("x.yaml:1:1: this is not YAML: 'utf-8' codec can't encode")


def test_a_file_may_begin_with_a_byte_order_mark() -> None:
    assert read_scenario("\ufeff" + with_subtask("One")).summary == "A scenario"


def test_an_alias_stands_for_what_its_anchor_marks() -> None:
    text = f"{HEAD}tasks:\n  - {{cluster: &c {{id: 1, name: c, ob_cluster_id: 2}}, subtasks: [One]}}\n"

    scenario = read(f"{text}  - {{cluster: *c, subtasks: [One]}}\n")

    assert scenario.tasks[0].cluster == scenario.tasks[1].cluster


def test_a_merge_key_brings_in_another_mapping() -> None:
    text = f"{HEAD}tasks:\n  - &t {{age: 5s, type: SCHEDULED, subtasks: [One]}}\n"

    scenario = read(f"{text}  - {{<<: *t, age: 1s}}\n")

    assert (scenario.tasks[1].type, scenario.tasks[1].age) == ("SCHEDULED", SECOND)


def test_a_mistake_behind_an_alias_is_where_it_is_written() -> None:
    text = f"{HEAD}tasks:\n  - {{subtasks: &s [{{timeout: 5}}]}}\n  - {{subtasks: *s}}\n"

    with pytest.raises(ScenarioError) as refused:
        read_scenario(text)

    assert [(each.line, each.column) for each in refused.value.diagnostics] == [(4, 30), (4, 30)]


def test_a_misspelt_key_behind_an_alias_is_refused() -> None:
    cluster = "&c {id: 1, nam: c, ob_cluster_id: 2}"

    said = said_of(f"{HEAD}tasks:\n  - {{cluster: {cluster}, subtasks: [One]}}\n  - {{cluster: *c, subtasks: [One]}}\n")

    assert "x.yaml:4:26: `nam` is no key of `cluster` of task 1" in said


def test_a_mapping_within_itself_is_refused() -> None:
    said = said_of("summary: A\napi: ocp\ntasks: &t [*t]\n")

    assert said == "x.yaml:3:12: this is not YAML: a value cannot contain itself [syntax]"


@pytest.mark.parametrize(
    "written", ["2021-08-25T15:09:31.740+08:00", "'2021-08-25T15:09:31.740+08:00'", "2021-08-25 07:09:31.74Z"]
)
def test_an_instant_may_be_written_with_or_without_quotes(written: str) -> None:
    scenario = read(with_key(f"starts_at: {written}"))

    assert scenario.starts_at is not None
    assert scenario.starts_at.timestamp() == 1629875371.74


# --- short forms ----------------------------------------------------------------------------------


def test_a_task_is_no_more_than_the_names_of_its_subtasks() -> None:
    scenario = read(f"{HEAD}tasks: [{{subtasks: [One, Two]}}]\n")

    assert [each.name for each in scenario.tasks[0].subtasks] == ["One", "Two"]
    assert scenario.tasks[0].subtasks[1].needs is None


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("One", "{name: One}"),
        ("{name: One}", "{name: One, attempts: [{takes: 1s}], rollback: [{takes: 1s}], timeout: 1h}"),
        ("{attempts: {takes: 2s}}", "{attempts: [{takes: 2s}]}"),
        ("{rollback: {takes: 2s}}", "{rollback: [{takes: 2s}]}"),
        ("{needs: Zero}", "{needs: [Zero]}"),
        ("{needs: 10}", "{needs: [10]}"),
        ('{attempts: {log: "a\\nb"}}', "{attempts: [{log: [a, b]}]}"),
        ("{attempts: {takes: 90s}}", "{attempts: {takes: 1m30s}}"),
    ],
)
def test_a_short_form_means_the_same_as_the_long_one(short: str, long: str) -> None:
    def read_as(written: str) -> Any:
        subtasks = f"{{id: 10, name: Zero}}\n      - {written}"
        return read(with_subtask(subtasks)).tasks[0].subtasks[1].model_dump()

    assert read_as(short) == read_as(long)


# --- durations ------------------------------------------------------------------------------------

UNITS = {"ms": MILLISECOND, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from(sorted(UNITS))), min_size=1, max_size=5))
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)

    assert parse_duration(text) == sum(number * UNITS[unit] for number, unit in parts)


@given(st.integers(0, 999), st.integers(0, 999), st.sampled_from(["s", "m", "h"]))
def test_a_fraction_of_a_unit_is_exact(whole: int, thousandths: int, unit: str) -> None:
    text = f"{whole}.{thousandths:03}{unit}"

    assert parse_duration(text) == (whole * 1000 + thousandths) * UNITS[unit] // 1000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0s", 0),
        ("0.000000001s", 1),
        ("0.0000000001s", 0),
        ("1.9s", 1_900_000_000),
        ("1h30m", 5400 * SECOND),
        ("3650d", 3650 * UNITS["d"]),
    ],
)
def test_a_duration_at_its_edges(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


NO_TEXTS: tuple[object, ...] = (None, True, 5, 1.5, [], {}, float("nan"))
NO_DURATIONS = ("s", "1", "-1s", "+1s", "1,5s", ".5s", "1.s", "1e3s", "1S", "1us", "3650.1d", "٣s")
STRAY_TEXTS = ("", "forever", "1 s", " 1s", "1s ", "1s\n", "1s 2m")


@pytest.mark.parametrize("text", [*NO_TEXTS, *NO_DURATIONS, *STRAY_TEXTS, "1" * 5000 + "s"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


# --- any text at all ------------------------------------------------------------------------------


def read_or_refuse(text: str) -> BaseScenario | ScenarioError:
    """What becomes of a text: anything else is raised."""
    try:
        return read_scenario(text)
    except ScenarioError as refused:
        return refused


def in_order(outcome: BaseScenario | ScenarioError) -> bool:
    """Whether it is a scenario, or mistakes, each with a place and a rule, none said twice."""
    mistakes = () if isinstance(outcome, BaseScenario) else outcome.diagnostics
    return (
        (isinstance(outcome, BaseScenario) or len(mistakes) > 0)
        and len(set(mistakes)) == len(mistakes)
        and all(each.line >= 1 and each.column >= 1 for each in mistakes)
        and all(re.fullmatch("[a-z-]+", each.rule) for each in mistakes)
    )


SIGNS = ("{", "}", "[", "]", ":", "- ", "? ", "|", ">", "'", '"', "#", "~")
TAGS = ("&a ", "*a ", "<<: ", "!!int ", "!!set ", "!!float ")
SPACES = ("\n", "\n  ", "\t", "\0", "\x85", "\ud800")
SCALARS = f"true 0x1f 1:30 .nan 2021-02-30 -1 forever FAILED {'9' * 400}".split()
OPENINGS = ("id: 1", "subtasks: ", "attempts: ", "needs: ", "task: ", "until: ", "story:\n")

fragments = st.sampled_from([*SIGNS, *TAGS, *SPACES, *SCALARS, *OPENINGS]) | st.text(max_size=8)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A file of the library in which some stretches have been cut out, doubled or written over."""
    text = draw(st.sampled_from([each for each in LIBRARY if len(each) < 4000]))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(start + draw(st.integers(0, 30)), len(text))
        middle = draw(fragments | st.just(text[start:end] * 2))
        text = text[:start] + middle + text[end:]
    return text


@given(mutated())
def test_a_spoilt_scenario_is_read_or_refused(text: str) -> None:
    assert in_order(read_or_refuse(text))


@given(st.lists(fragments, max_size=40).map("".join))
def test_junk_is_read_or_refused(text: str) -> None:
    assert in_order(read_or_refuse(text))


scalars = st.none() | st.booleans() | st.integers(-5, 20) | st.floats() | fragments
KEYS = (
    "id name needs attempts rollback timeout takes ends log subtasks "
    "repeat count every age until wait call task subtask status answers"
)
keys = st.sampled_from([*KEYS.split(), 1])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=6
)
items = st.lists(values, max_size=3) | values


@given(
    st.fixed_dictionaries(
        {"summary": st.just("A"), "api": st.just("ocp"), "tasks": items},
        optional={"story": items, "switches": values, "starts_at": values, "tick": values, "progression": values},
    )
)
def test_a_file_of_the_right_keys_and_any_values_is_read_or_refused(data: dict[str, Any]) -> None:
    text = yaml.safe_dump(data, allow_unicode=True)

    assert in_order(read_or_refuse(text))


# --- editors and check agree ----------------------------------------------------------------------


@pytest.mark.parametrize("word", ["no", "on", "1:30", "yes", "off", "2021-08-25"])
def test_a_word_that_yaml_1_1_reads_otherwise_is_a_text(word: str) -> None:
    text = with_subtask(f"{{name: {word}}}")

    assert read(text).tasks[0].subtasks[0].name == word
    assert refused_by_editors(f"tasks: [{{subtasks: [{{name: '{word}'}}]}}]") == []


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("switches: {undocumented_task_path: on}", "$.switches.undocumented_task_path"),
        ("switches: {undocumented_task_path: no}", "$.switches.undocumented_task_path"),
        ("tick: 1:30", "$.tick"),
        ("switches: {error_code_not_found: 1:30}", "$.switches.error_code_not_found"),
    ],
)
def test_what_editors_refuse_is_refused_by_check(written: str, place: str) -> None:
    key, _, word = written.rstrip("}").rpartition(": ")
    quoted = f"{key}: '{word}'" + ("}" if written.endswith("}") else "")

    said = said_of(with_key(written))

    assert said.startswith("x.yaml:3:")
    assert word in said
    assert refused_by_editors(f"{quoted}\ntasks: [{{subtasks: [One]}}]") == [place]


@pytest.mark.parametrize(
    "written",
    [
        "tasks: [{repeat: {count: 0}, subtasks: [One]}]",
        "tasks: [{concurrency: 0, subtasks: [One]}]",
        "tasks: [{subtasks: [One], others: [{at: 1s, call: skipSubtask, subtask: 0}]}]",
        "tasks: [{subtasks: [{retries: 101}]}]",
        "tasks: [{subtasks: [{parallel_idx: 2147483648}]}]",
        "tasks: [{subtasks: [One]}]\nswitches: {error_code_not_found: 2147483648}",
    ],
)
def test_a_number_out_of_range_is_refused_by_editors_and_by_check(written: str) -> None:
    assert "[out-of-range]" in said_of(HEAD + written)
    assert len(refused_by_editors(written)) == 1


def refused_by_editors(written: str) -> list[str]:
    """The places that the schema refuses in a file, whose ambiguous words are in quotes."""
    data = load_yaml(f"{HEAD}{written}\n")
    return [each.json_path for each in validator().iter_errors(data)]
