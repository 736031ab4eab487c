"""OCP's state machines as tables: what a task and a subtask may show, and what may follow what.

Sources are classes of oceanbase/ocp-express at eb6f2117
(task/task-service/src/main/java/com/oceanbase/ocp/task/engine). Operations are named after what
they are made on: ``task.RETRY`` also moves the FAILED subtasks of its task, ``subtask.RETRY`` also
the task.
"""

from __future__ import annotations

from typing import Final

from oceanmock.engine.machine import TIME, StateMachine, parse_label, transitions

ABANDONED: Final = "abandoned_after"
"""A scenario's opt-in: no public text shows ABORTED in the API."""
RETRY_AFTER_ROLLBACK: Final = "retry_after_failed_rollback"
"""The switch by which a task whose rollback failed may be retried, as OCP 4.2.2's user guide has
it; ocp-express refuses (TaskInstanceManagerImpl:99-101)."""

_DIRECTIONS: Final = "EXECUTE|RETRY|ROLLBACK"
_RUNS: Final = "EXECUTE|RETRY|SKIP|ROLLBACK|ROLLBACK_SKIP"
_TASK_RETRIED: Final = "TaskInstanceManagerImpl:96-101"
_ROLLED_BACK: Final = "TaskInstanceManagerImpl:59-88"
_PROMOTED: Final = "AbstractTaskWorker:59-115"
_SUBTASK_RETRIED: Final = "SubtaskInstanceManagerImpl:43-46"
_SKIPPED: Final = "SubtaskInstanceManagerImpl:59"
_USER_GUIDE: Final = "OCP 4.2.2's user guide"

TASK: Final = StateMachine(
    kind="task",
    initial=(parse_label("RUNNING/EXECUTE"),),
    transitions=(
        *transitions(
            TIME,
            "RunningTaskWorker:86-119,143-176",
            f"RUNNING/{_DIRECTIONS} → SUCCESSFUL/=",
            f"RUNNING/{_DIRECTIONS} → FAILED/=",
        ),
        *transitions("task.RETRY", _TASK_RETRIED, "FAILED/EXECUTE|RETRY → RUNNING/RETRY"),
        *transitions(
            "task.RETRY",
            _USER_GUIDE,
            "FAILED/ROLLBACK → RUNNING/RETRY",
            only=RETRY_AFTER_ROLLBACK,
        ),
        *transitions("task.ROLLBACK", _ROLLED_BACK, f"FAILED/{_DIRECTIONS} → RUNNING/ROLLBACK"),
        *transitions("subtask.RETRY", _SUBTASK_RETRIED, f"FAILED/{_DIRECTIONS} → RUNNING/="),
        *transitions("subtask.SKIP", _SKIPPED, f"FAILED/{_DIRECTIONS} → RUNNING/="),
        *transitions(
            TIME,
            "OBD plugins/ocp-server/4.2.1/upgrade_check.py:125",
            f"FAILED/{_DIRECTIONS} → ABORTED/=",
            only=ABANDONED,
        ),
    ),
)
"""A task's operation is the direction it goes in; retrying or skipping a subtask keeps it."""

SUBTASK: Final = StateMachine(
    kind="subtask",
    initial=(parse_label("PENDING/EXECUTE"), parse_label("READY/EXECUTE")),
    transitions=(
        *transitions(TIME, _PROMOTED, "PENDING/EXECUTE → READY/EXECUTE"),
        *transitions(TIME, "SubtaskAccessor:54-61", f"READY/{_RUNS} → RUNNING/="),
        *transitions(
            TIME,
            "SubtaskAccessor:68-83",
            "RUNNING/EXECUTE|RETRY|SKIP → SUCCESSFUL/=",
            "RUNNING/EXECUTE|RETRY|ROLLBACK|CANCEL → FAILED/=",
            "RUNNING/ROLLBACK|ROLLBACK_SKIP → PENDING/=",
        ),
        *transitions(TIME, _PROMOTED, "SUCCESSFUL/ROLLBACK|RETRY → READY/ROLLBACK"),
        *transitions(
            "subtask.CANCEL",
            "SubtaskInstanceManagerImpl:77",
            f"RUNNING/{_RUNS}|CANCEL → CANCELING/=",
        ),
        *transitions(
            TIME, "CancelingSubtaskWorker:58-82", f"CANCELING/{_RUNS}|CANCEL → RUNNING/CANCEL"
        ),
        *transitions("task.RETRY", _TASK_RETRIED, "FAILED/EXECUTE|RETRY|CANCEL → READY/RETRY"),
        *transitions(
            "subtask.RETRY", _SUBTASK_RETRIED, "FAILED/EXECUTE|RETRY|CANCEL → READY/RETRY"
        ),
        *transitions(
            "subtask.SKIP",
            _SKIPPED,
            "FAILED/EXECUTE|RETRY|CANCEL → READY/SKIP",
            "FAILED/RETRY|ROLLBACK|CANCEL → READY/ROLLBACK_SKIP",
        ),
        *transitions(
            "task.ROLLBACK",
            _ROLLED_BACK,
            "SUCCESSFUL/EXECUTE|RETRY|SKIP → SUCCESSFUL/ROLLBACK",
            "SUCCESSFUL/EXECUTE|RETRY|SKIP|ROLLBACK → READY/ROLLBACK",
            "FAILED/EXECUTE|RETRY|ROLLBACK|CANCEL → READY/ROLLBACK",
            "READY/RETRY|SKIP|ROLLBACK_SKIP → READY/ROLLBACK",
            "RUNNING/RETRY|SKIP|ROLLBACK_SKIP|CANCEL → READY/ROLLBACK",
            f"CANCELING/{_RUNS}|CANCEL → READY/ROLLBACK",
        ),
        *transitions(
            "task.RETRY",
            _USER_GUIDE,
            "FAILED/ROLLBACK → READY/RETRY",
            only=RETRY_AFTER_ROLLBACK,
        ),
        *transitions(
            TIME,
            _PROMOTED,
            "PENDING/ROLLBACK|ROLLBACK_SKIP → READY/EXECUTE",
            only=RETRY_AFTER_ROLLBACK,
        ),
    ),
)
"""A subtask's operation is that of its last run, or of the one it waits for. What a rollback finds
under way, under a FAILED task, was retried, skipped or cancelled just before."""

MACHINES: Final = {machine.kind: machine for machine in (TASK, SUBTASK)}
