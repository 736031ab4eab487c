"""What OCP shows of a task and of a subtask, and what may follow what.

The tables say what ``lifecycle/ocp.py`` lives, move by move; the sources are classes of
oceanbase/ocp-express at eb6f2117 (task/task-service/src/main/java/com/oceanbase/ocp/task/engine),
and where that file calls something not verified, it is so here. Calls are named after what they are
made on: ``task.RETRY`` also moves the FAILED subtasks of its task, ``subtask.RETRY`` also the task.
"""

from __future__ import annotations

from typing import Final

from oceanmock.engine.transitions import TIME, StateMachine, edges, shown

ABANDONED: Final = "abandoned_after"
"""A task that somebody abandons: a scenario's opt-in, no public text shows ABORTED in the API."""
RETRY_AFTER_ROLLBACK: Final = "retry_after_failed_rollback"
"""The switch by which a task whose rollback failed may be retried, as OCP 4.2.2's user guide has
it; ocp-express refuses (TaskInstanceManagerImpl:99-101)."""

_DIRECTIONS: Final = ("EXECUTE", "RETRY", "ROLLBACK")
_FORWARD: Final = ("EXECUTE", "RETRY")
_RUNS: Final = ("EXECUTE", "RETRY", "SKIP", "ROLLBACK", "ROLLBACK_SKIP")
_ROLLBACK: Final = "TaskInstanceManagerImpl:59-88"
_PROMOTED: Final = "AbstractTaskWorker:59-115"
_ENDED: Final = "SubtaskAccessor:68-83"
_SKIPPED: Final = "SubtaskInstanceManagerImpl:59"

TASK: Final = StateMachine(
    kind="task",
    born=(shown("RUNNING/EXECUTE"),),
    edges=(
        *edges(
            TIME,
            "RunningTaskWorker:86-119,143-176",
            *(f"RUNNING/{way} → SUCCESSFUL/{way}" for way in _DIRECTIONS),
            *(f"RUNNING/{way} → FAILED/{way}" for way in _DIRECTIONS),
        ),
        *edges(
            "task.RETRY",
            "TaskInstanceManagerImpl:96-101",
            *(f"FAILED/{way} → RUNNING/RETRY" for way in _FORWARD),
        ),
        *edges(
            "task.RETRY",
            "OCP 4.2.2's user guide",
            "FAILED/ROLLBACK → RUNNING/RETRY",
            only=RETRY_AFTER_ROLLBACK,
        ),
        *edges(
            "task.ROLLBACK", _ROLLBACK, *(f"FAILED/{way} → RUNNING/ROLLBACK" for way in _DIRECTIONS)
        ),
        *edges(
            "subtask.RETRY",
            "SubtaskInstanceManagerImpl:43-46",
            *(f"FAILED/{way} → RUNNING/{way}" for way in _DIRECTIONS),
        ),
        *edges("subtask.SKIP", _SKIPPED, *(f"FAILED/{way} → RUNNING/{way}" for way in _DIRECTIONS)),
        *edges(
            TIME,
            "OBD plugins/ocp-server/4.2.1/upgrade_check.py:125",
            *(f"FAILED/{way} → ABORTED/{way}" for way in _DIRECTIONS),
            only=ABANDONED,
        ),
    ),
)
"""A task's operation is the direction it goes in; retrying or skipping a subtask keeps it."""

SUBTASK: Final = StateMachine(
    kind="subtask",
    born=(shown("PENDING/EXECUTE"), shown("READY/EXECUTE")),
    edges=(
        *edges(TIME, _PROMOTED, "PENDING/EXECUTE → READY/EXECUTE"),
        *edges(TIME, "SubtaskAccessor:54-61", *(f"READY/{run} → RUNNING/{run}" for run in _RUNS)),
        *edges(
            TIME,
            _ENDED,
            *(f"RUNNING/{run} → SUCCESSFUL/{run}" for run in (*_FORWARD, "SKIP")),
            *(f"RUNNING/{run} → FAILED/{run}" for run in (*_FORWARD, "ROLLBACK", "CANCEL")),
            *(f"RUNNING/{run} → PENDING/{run}" for run in ("ROLLBACK", "ROLLBACK_SKIP")),
        ),
        *edges(
            TIME,
            _PROMOTED,
            "SUCCESSFUL/ROLLBACK → READY/ROLLBACK",
            "SUCCESSFUL/RETRY → READY/ROLLBACK",
        ),
        *edges(
            "subtask.CANCEL",
            "SubtaskInstanceManagerImpl:77",
            *(f"RUNNING/{run} → CANCELING/{run}" for run in (*_RUNS, "CANCEL")),
        ),
        *edges(
            TIME,
            "CancelingSubtaskWorker:58-82",
            *(f"CANCELING/{run} → RUNNING/CANCEL" for run in (*_RUNS, "CANCEL")),
        ),
        *edges(
            "task.RETRY",
            "TaskInstanceManagerImpl:96-101",
            *(f"FAILED/{run} → READY/RETRY" for run in (*_FORWARD, "CANCEL")),
        ),
        *edges(
            "subtask.RETRY",
            "SubtaskInstanceManagerImpl:43-46",
            *(f"FAILED/{run} → READY/RETRY" for run in (*_FORWARD, "CANCEL")),
        ),
        *edges(
            "subtask.SKIP",
            _SKIPPED,
            *(f"FAILED/{run} → READY/SKIP" for run in (*_FORWARD, "CANCEL")),
            *(f"FAILED/{run} → READY/ROLLBACK_SKIP" for run in ("RETRY", "ROLLBACK", "CANCEL")),
        ),
        *edges(
            "task.ROLLBACK",
            _ROLLBACK,
            *(f"SUCCESSFUL/{run} → SUCCESSFUL/ROLLBACK" for run in (*_FORWARD, "SKIP")),
            *(f"SUCCESSFUL/{run} → READY/ROLLBACK" for run in (*_FORWARD, "SKIP", "ROLLBACK")),
            *(f"FAILED/{run} → READY/ROLLBACK" for run in (*_FORWARD, "ROLLBACK", "CANCEL")),
            *(f"READY/{run} → READY/ROLLBACK" for run in ("RETRY", "SKIP", "ROLLBACK_SKIP")),
            *(
                f"RUNNING/{run} → READY/ROLLBACK"
                for run in ("RETRY", "SKIP", "ROLLBACK_SKIP", "CANCEL")
            ),
            *(f"CANCELING/{run} → READY/ROLLBACK" for run in (*_RUNS, "CANCEL")),
        ),
        *edges(
            "task.RETRY",
            "OCP 4.2.2's user guide",
            "FAILED/ROLLBACK → READY/RETRY",
            only=RETRY_AFTER_ROLLBACK,
        ),
        *edges(
            TIME,
            _PROMOTED,
            *(f"PENDING/{run} → READY/EXECUTE" for run in ("ROLLBACK", "ROLLBACK_SKIP")),
            only=RETRY_AFTER_ROLLBACK,
        ),
    ),
)
"""A subtask's operation is that of its last run, or of the one it waits for. What a rollback finds
under way, under a FAILED task, is something that was retried, skipped or cancelled just before."""

MACHINES: Final = {machine.kind: machine for machine in (TASK, SUBTASK)}
"""By kind."""
