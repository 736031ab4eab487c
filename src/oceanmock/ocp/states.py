"""Scripts and states of a task with its subtasks, and the tables of their transitions.

A trigger names the target of an operation, though it may change more: ``task.RETRY`` also the FAILED subtasks of the
task, ``subtask.RETRY`` also the task. Sources are classes of oceanbase/ocp-express at eb6f2117
(task/task-service/src/main/java/com/oceanbase/ocp/task/engine).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Final, Literal, NamedTuple

from oceanmock.clock import DEFAULT_TICK, SECOND
from oceanmock.engine.machine import Change, Label, LogLine, Moment, Parts, StateMachine, parse_label, transitions
from oceanmock.ocp.api import SubtaskOperation, SubtaskStatus, TaskOperation, TaskStatus

Outcome = Literal["SUCCESSFUL", "FAILED"]
Cause = Literal["start", "task tick", "subtask tick", "run ended", "timeout", "interrupt", "abandoned"]
"""The causes of changes that no operation makes."""

NO_OP_TAKES: Final = 10_000_000
"""The duration of a skip, or of the interruption of a cancelled run: short, but visible. Not verified."""
DEFAULT_CONCURRENCY: Final = 10
"""How many subtasks of a task may be READY or RUNNING if the task sets no limit (AbstractTaskWorker:36)."""


def watchdog(tick: int) -> int:
    """Return how long a run without a timeout may take: 11 s, or up to one tick more (RunningSubtaskWorker:95-96)."""
    return -(-11 * SECOND // tick) * tick


@dataclass(frozen=True, slots=True)
class RunScript:
    """One run of a subtask: how long it takes (``None``: for ever), how it ends, what it logs."""

    takes: int | None
    ends: Outcome = "SUCCESSFUL"
    log: tuple[LogLine, ...] = ()


@dataclass(frozen=True, slots=True)
class SubtaskScript:
    """The runs of a subtask, forwards and in rollbacks; the last of each repeats."""

    attempts: tuple[RunScript, ...]
    rollbacks: tuple[RunScript, ...] = (RunScript(takes=SECOND),)
    needs: tuple[int, ...] = ()  # the positions of its upstreams
    timeout: int = 3600  # in seconds
    prohibits_rollback: bool = False
    retries: int = 0  # how often the server itself runs it again after a failure


@dataclass(frozen=True, slots=True)
class Rules:
    """The behaviour of the server that runs the task; the defaults are ocp-express'."""

    tick: int = DEFAULT_TICK  # the period of the schedulers
    phase: int = 0  # the instant of the first tick of the task scheduler
    retry_after_failed_rollback: bool = False
    subtask_retry_counts: bool = False  # in runTime, as only the database's comment says (common_tables.yaml:56)


@dataclass(frozen=True)
class TaskScript:
    """A task's subtasks, in the order the API lists them, and its limits."""

    subtasks: tuple[SubtaskScript, ...]
    concurrency: int | None = None  # how many are READY or RUNNING at once (AbstractTaskWorker:59-87)
    prohibits_rollback: bool = False
    abandoned_after: int | None = None  # a task that stays FAILED so long is ABORTED for good
    others: tuple[tuple[int, str, int | None], ...] = ()  # of other clients, the last item the position of a subtask

    @cached_property
    def downstreams(self) -> tuple[tuple[int, ...], ...]:
        """Return, for each subtask, the positions of those that need it."""
        downstreams: list[list[int]] = [[] for _ in self.subtasks]
        for position, subtask in enumerate(self.subtasks):
            for upstream in subtask.needs:
                downstreams[upstream].append(position)
        return tuple(map(tuple, downstreams))

    @property
    def limit(self) -> int:
        """Return how many subtasks may be READY or RUNNING at once; the default does not apply to the start."""
        return self.concurrency or DEFAULT_CONCURRENCY


class Run(NamedTuple):
    """One run of a subtask."""

    operation: SubtaskOperation
    started: int
    takes: int  # the script's duration, over which log lines are spread; 0 for a run that hangs, whose lines come first
    log: tuple[LogLine, ...] = ()
    ended: int | None = None
    ends: SubtaskStatus | None = None  # None until its end, also if a rollback has cut it short
    ended_by: Cause | None = None  # likewise
    number: int = 0  # among the runs forwards, or those in rollbacks, from 1; a skip has 0


class SubtaskState(NamedTuple):
    """A subtask at an instant. ``due``, ``will_end`` and ``ending`` belong to the run under way."""

    status: SubtaskStatus = "PENDING"
    operation: SubtaskOperation = "EXECUTE"
    run_time: int = 1
    start_time: int | None = None
    finish_time: int | None = None
    runs: tuple[Run, ...] = ()  # the last ones, at most MAX_OPERATIONS, the oldest first
    due: int | None = None
    will_end: Outcome = "SUCCESSFUL"
    ending: Cause = "run ended"
    attempts: int = 0
    rollbacks: int = 0

    @property
    def label(self) -> Label:
        return self.status, self.operation

    @property
    def last_run(self) -> Run | None:
        """Return the run under way or else the last one that ended, if any."""
        return self.runs[-1] if self.runs else None


@dataclass(frozen=True, slots=True)
class TaskState(Moment):
    """A task from instant ``at`` until the next state's, and the changes that led to it."""

    at: int
    status: TaskStatus
    operation: TaskOperation
    start_time: int
    finish_time: int | None
    prohibit_rollback: bool
    subtasks: Parts[SubtaskState]
    changes: tuple[Change, ...] = field(default=(), compare=False)

    @property
    def label(self) -> Label:
        return self.status, self.operation

    parts = property(attrgetter("subtasks"))


ABANDONED: Final = "abandoned_after"  # a scenario's opt-in: no public text shows ABORTED in the API
RETRIES: Final = "retries"  # a subtask's opt-in: in ocp-express the default is none (Subtask.java:25-32)
RETRY_AFTER_ROLLBACK: Final = "retry_after_failed_rollback"
"""The switch by which a task whose rollback failed may be retried, as OCP 4.2.2's user guide has it; ocp-express
refuses (TaskInstanceManagerImpl:99-101)."""

_USER_GUIDE: Final = "OCP 4.2.2's user guide"
_UPGRADE_CHECK: Final = "OBD plugins/ocp-server/4.2.1/upgrade_check.py:125"
_RUNS: Final = "EXECUTE|RETRY|SKIP|ROLLBACK|ROLLBACK_SKIP"

TASK: Final = StateMachine(
    kind="task",
    initial=(parse_label("RUNNING/EXECUTE"),),
    transitions=transitions(f"""
        time           RUNNING/EXECUTE|RETRY|ROLLBACK → SUCCESSFUL/=     RunningTaskWorker:86-119,143-176
        time           RUNNING/EXECUTE|RETRY|ROLLBACK → FAILED/=         RunningTaskWorker:86-119,143-176
        task.RETRY     FAILED/EXECUTE|RETRY → RUNNING/RETRY              TaskInstanceManagerImpl:96-101
        task.RETRY     FAILED/ROLLBACK → RUNNING/RETRY  {_USER_GUIDE}  {RETRY_AFTER_ROLLBACK}
        task.ROLLBACK  FAILED/EXECUTE|RETRY|ROLLBACK → RUNNING/ROLLBACK  TaskInstanceManagerImpl:59-88
        subtask.RETRY  FAILED/EXECUTE|RETRY|ROLLBACK → RUNNING/=         SubtaskInstanceManagerImpl:43-46
        subtask.SKIP   FAILED/EXECUTE|RETRY|ROLLBACK → RUNNING/=         SubtaskInstanceManagerImpl:59
        time           FAILED/EXECUTE|RETRY|ROLLBACK → ABORTED/=         {_UPGRADE_CHECK}  {ABANDONED}
    """),
)
"""A task's operation is its direction; a retry or skip of a subtask does not change it."""

SUBTASK: Final = StateMachine(
    kind="subtask",
    initial=(parse_label("PENDING/EXECUTE"), parse_label("READY/EXECUTE")),
    transitions=transitions(f"""
        time            PENDING/EXECUTE → READY/EXECUTE                                 AbstractTaskWorker:59-115
        time            READY/{_RUNS} → RUNNING/=                                       SubtaskAccessor:54-61
        time            RUNNING/EXECUTE|RETRY|SKIP → SUCCESSFUL/=                       SubtaskAccessor:68-83
        time            RUNNING/EXECUTE|RETRY|ROLLBACK|CANCEL → FAILED/=                SubtaskAccessor:68-83
        time            RUNNING/ROLLBACK|ROLLBACK_SKIP → PENDING/=                      SubtaskAccessor:68-83
        time            SUCCESSFUL/ROLLBACK|RETRY → READY/ROLLBACK                      AbstractTaskWorker:59-115
        time            CANCELING/ROLLBACK|ROLLBACK_SKIP|RETRY|CANCEL → READY/ROLLBACK  AbstractTaskWorker:59-115
        subtask.CANCEL  RUNNING/{_RUNS}|CANCEL → CANCELING/=                            SubtaskInstanceManagerImpl:77
        time            CANCELING/{_RUNS}|CANCEL → RUNNING/CANCEL                       CancelingSubtaskWorker:58-82
        time            FAILED/EXECUTE|RETRY → READY/RETRY                  FailedSubtaskWorker:59-88  {RETRIES}
        task.RETRY      FAILED/EXECUTE|RETRY|CANCEL → READY/RETRY                       TaskInstanceManagerImpl:96-101
        subtask.RETRY   FAILED/EXECUTE|RETRY|CANCEL → READY/RETRY                       SubtaskInstanceManagerImpl:43-46
        subtask.SKIP    FAILED/EXECUTE|RETRY|CANCEL → READY/SKIP                        SubtaskInstanceManagerImpl:59
        subtask.SKIP    FAILED/RETRY|ROLLBACK|CANCEL → READY/ROLLBACK_SKIP              SubtaskInstanceManagerImpl:59
        task.ROLLBACK   SUCCESSFUL/EXECUTE|RETRY|SKIP → SUCCESSFUL/ROLLBACK             TaskInstanceManagerImpl:59-88
        task.ROLLBACK   SUCCESSFUL/EXECUTE|RETRY|SKIP|ROLLBACK → READY/ROLLBACK         TaskInstanceManagerImpl:59-88
        task.ROLLBACK   FAILED/EXECUTE|RETRY|ROLLBACK|CANCEL → READY/ROLLBACK           TaskInstanceManagerImpl:59-88
        task.ROLLBACK   READY/RETRY|SKIP|ROLLBACK_SKIP → READY/ROLLBACK                 TaskInstanceManagerImpl:59-88
        task.ROLLBACK   RUNNING/RETRY|SKIP|ROLLBACK_SKIP|CANCEL → READY/ROLLBACK        TaskInstanceManagerImpl:59-88
        task.ROLLBACK   CANCELING/{_RUNS}|CANCEL → READY/ROLLBACK                       TaskInstanceManagerImpl:59-88
        task.RETRY      FAILED/ROLLBACK → READY/RETRY  {_USER_GUIDE}  {RETRY_AFTER_ROLLBACK}
        time  PENDING/ROLLBACK|ROLLBACK_SKIP → READY/EXECUTE  AbstractTaskWorker:59-115  {RETRY_AFTER_ROLLBACK}
    """),
)
"""A subtask's operation is that of its last run, or of the run it waits for. A rollback of a FAILED task finds subtasks
READY, RUNNING or CANCELING if they were retried, skipped or cancelled just before."""

MACHINES: Final = {machine.kind: machine for machine in (TASK, SUBTASK)}
