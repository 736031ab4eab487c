"""Operations by somebody else, as a scenario dates them: part of what a task or dag goes through, whoever looks."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest

from oceanmock.errors import InputError
from oceanmock.library import read_scenario
from served import SECOND, World

DAG: Final = """
summary: Somebody else cancels a dag, passes it in vain and rolls it back
api: obshell
progression: manual
dags:
  - id: 4
    nodes: [{name: Start, can: [cancel, retry, rollback], sub_tasks: [{takes: 20s}]}]
    others: [{at: 30s, operator: ROLLBACK}, {at: 5s, operator: CANCEL}, {at: 10s, operator: PASS}]
"""
TASK: Final = """
summary: Somebody else skips a subtask that has failed
api: ocp
progression: manual
tasks:
  - id: 7
    subtasks: [{name: Fail, attempts: [{ends: FAILED}]}, Go on]
    others: [{at: 11s, call: skipSubtask, subtask: 1}]
"""
ID: Final = "/api/v1/task/dag/22130706433028864"


def seen(
    step: int, seconds: int, text: str = DAG, path: str = ID, keys: tuple[str, str] = ("state", "operator")
) -> Any:
    """What is seen of a task or dag every so often; the clock moves on by one step at a time."""
    world = World(text)
    ask, words = world.serve(auth=False), []
    for _ in range(0, seconds, step):
        world.advance(step * SECOND)
        data = ask("GET", path).json()["data"]
        words.append("/".join(data[key] for key in keys))
    return words


def test_others_operate_at_their_instants_and_what_is_refused_changes_nothing() -> None:
    assert seen(8, 40) == ["FAILED/CANCEL"] * 3 + ["SUCCEED/ROLLBACK"] * 2


def test_others_operate_however_the_clock_gets_there() -> None:
    assert seen(4, 40)[1::2] == seen(8, 40)
    assert seen(40, 40) == ["SUCCEED/ROLLBACK"]


def test_others_operate_on_a_subtask_of_ocp() -> None:
    shown = seen(4, 16, TASK, "/api/v2/tasks/instances/7", ("status", "operation"))

    assert shown == ["FAILED/EXECUTE"] * 2 + ["RUNNING/EXECUTE", "SUCCESSFUL/EXECUTE"]


def test_an_operator_of_a_client_comes_between_those_of_others() -> None:
    world = World(DAG)
    ask = world.serve(auth=False)
    world.advance(15 * SECOND)
    answer = ask("POST", ID, json={"operator": "RETRY"})
    world.advance(10 * SECOND)
    meanwhile = ask("GET", ID).json()["data"]["state"]
    sandbox: Any = world.sandbox
    told = sandbox.dag(4).explain()
    world.advance(20 * SECOND)
    late = ask("GET", ID).json()["data"]

    assert (answer.status_code, meanwhile) == (200, "RUNNING")
    assert re.findall(r"([A-Z]+) of", told) == ["RETRY", "CANCEL"]  # the newest first
    assert (late["state"], late["operator"]) == ("SUCCEED", "RUN")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DAG.replace("at: 5s, operator: CANCEL", "at: 5s, operator: RUN"), "operator"),
        (TASK.replace("subtask: 1", "subtask: 3"), "a subtask that it does not have"),
        (TASK.replace(", subtask: 1", ""), "needs a `subtask`"),
        (TASK.replace("id: 7", "repeat: {count: 2}"), "repeats, and yet has calls of others"),
    ],
)
def test_a_mistake_in_what_others_do_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_scenario(text)
