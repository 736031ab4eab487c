"""Actions of a conformance walk on an OCP task: each operation, and how it must be answered.

The transition tables decide: an operation that has a transition from the current state is accepted,
one that needs a switch may be either, any other is refused with 400. Where no public text decides
what a server other than the mock does, both are expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

from oceanmock.checks import Action, Probe
from oceanmock.engine.machine import Label, StateMachine
from oceanmock.ocp.api import API, SUBTASK_PATH, TASK_PATH
from oceanmock.ocp.parse import Task, read_task
from oceanmock.ocp.scenario import Scenario
from oceanmock.ocp.states import SUBTASK, TASK

GOALS: Final = ("retrySubtask", "retryTask", "rollbackTask", "skipSubtask", "cancelSubtask")
CANCEL: Final = "cancelSubtask"
ILLEGAL_CODE: Final = 20003
PROHIBITED_CODE: Final = 20004
ACCEPTED: Final = frozenset({200})
REFUSED: Final = frozenset({400})

read = read_task


def path_of(id: str) -> str:
    """Return the path of a task."""
    return TASK_PATH.format(taskInstanceId=quote(id, safe=""))


def server_knowledge(version: str) -> None:
    """Return what is known of a real server beyond its responses: nothing."""


def mock_knowledge(scenarios: Sequence[Any], version: str) -> None:
    """Return what is known of the mock beyond its responses: nothing."""


def ids_in(scenario: Scenario) -> list[str]:
    """Return the ids of a scenario's tasks that have one."""
    return [str(task.id) for task in scenario.tasks if task.id is not None]


def actions(task: Task, id: str, *, is_mock: bool, knowledge: None = None) -> Iterator[Action]:
    """Yield every operation of the contract, on the task and on each subtask."""
    whole: Label = (task.status, task.operation)
    for operation in ("retryTask", "rollbackTask"):
        trigger = f"task.{API.route(operation).operation}"
        is_prohibited = operation == "rollbackTask" and task.prohibits_rollback
        statuses = _statuses(TASK, whole, trigger)
        yield _action(
            operation,
            f"{operation} of the task, which is {task.status}/{task.operation},",
            API.route(operation).path.format(taskInstanceId=quote(id, safe="")),
            REFUSED if is_prohibited else statuses,
            state=f"{task.status}/{task.operation}/{task.prohibits_rollback}",
            is_prohibited=is_prohibited and 200 in statuses,
        )
    for subtask in task.subtasks:
        label = (subtask.status, subtask.operation)
        for operation in ("retrySubtask", "skipSubtask", "cancelSubtask"):
            statuses = _statuses(SUBTASK, label, f"subtask.{API.route(operation).operation}")
            if task.status == "ABORTED":
                statuses = REFUSED
            elif operation == "retrySubtask" and label == ("FAILED", "ROLLBACK") and not is_mock:
                statuses = ACCEPTED | REFUSED
            path = SUBTASK_PATH.format(
                taskInstanceId=quote(id, safe=""), subtaskInstanceId=subtask.id
            )
            yield _action(
                operation,
                f"{operation} of subtask {subtask.id}, which is {subtask.words},",
                f"{path}/{API.route(operation).path.rpartition('/')[2]}",
                statuses,
                state=f"{task.status}/{task.operation}/{subtask.words}",
            )


def _statuses(machine: StateMachine, label: Label, trigger: str) -> frozenset[int]:
    """Return the statuses with which an operation may be answered in a state."""
    conditions = {
        item.only for item in machine.transitions if (item.before, item.trigger) == (label, trigger)
    }
    if not conditions:
        return REFUSED
    return ACCEPTED if "" in conditions else ACCEPTED | REFUSED


def _action(
    operation: str,
    what: str,
    target: str,
    statuses: frozenset[int],
    *,
    state: str,
    is_prohibited: bool = False,
) -> Action:
    probe = Probe(
        what,
        "POST",
        target,
        statuses,
        accepted="call.prohibited-accepted" if is_prohibited else "call.illegal-accepted",
        refused="call.legal-refused",
        other_codes=frozenset({ILLEGAL_CODE if is_prohibited else PROHIBITED_CODE}),
        is_wrong=200 not in statuses,
    )
    return Action(operation, probe, state, is_safe=operation == CANCEL)


def is_retry(action: Action) -> bool:
    """Return whether an action makes something run again."""
    return action.goal in ("retrySubtask", "retryTask")


def log_paths(before: Task, after: Task, id: str) -> Iterable[str]:
    """Return the path of one log: of a subtask that has run again, rather than for the first time.

    ``before`` is the task before the operations, ``after`` the task at rest.
    """
    ends = {subtask.id: subtask.finish_time for subtask in before.subtasks}
    ended = [item for item in after.subtasks if item.finish_time != ends.get(item.id)]
    first = sorted(ended, key=lambda subtask: subtask.operation == "EXECUTE")[:1]
    return [f"{path_of(id)}/subtasks/{subtask.id}/log" for subtask in first]
