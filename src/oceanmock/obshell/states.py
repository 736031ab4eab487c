"""Scripts and states of a dag with its parts, and the tables of their transitions.

A trigger names the target of an operator, though it may change more: that of a dag also its nodes, PASS their sub tasks
too. Sources are files of github.com/oceanbase/obshell at 61ee147 (ob/agent/engine and ob/agent/service/task, both
abbreviated) and recordings of a running obshell 4.5.0.0, which outrank them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, Literal

from oceanmock.clock import DEFAULT_TICK, SECOND
from oceanmock.engine.machine import Change, Label, LogLine, Moment, Parts, StateMachine, parse_label, transitions
from oceanmock.obshell.api import Operator, State

Outcome = Literal["SUCCEED", "FAILED"]
NodeFlag = Literal["cancel", "continue", "pass", "retry", "rollback"]

LAG: Final = 200_000
"""The delay between two writes of one tick: of the dag, then of its node, then of the sub tasks. The recordings show
0.2 to 3 ms; only the order matters."""
CANCELLED: Final = "sub task cancelled"
TIMED_OUT: Final = "ERROR: [Common.Unexpected]: Unexpected error: task {} timeout"


@dataclass(frozen=True, slots=True)
class RunScript:
    """One run of a sub task: how long it takes (None: for ever), how it ends, what it logs evenly over its time."""

    takes: int | None
    ends: Outcome = "SUCCEED"
    log: tuple[LogLine, ...] = ()
    last_words: str | None = None  # "ERROR: [code]: message", logged at its end, unless a timeout or a cancel ends it


@dataclass(frozen=True, slots=True)
class SubTaskScript:
    """The forward runs and the rollback runs of a sub task; the last of each repeats."""

    attempts: tuple[RunScript, ...]
    rollbacks: tuple[RunScript, ...] = (RunScript(takes=1_000_000),)


@dataclass(frozen=True, slots=True)
class NodeScript:
    """A stage: its sub tasks, one per agent, and the operators that it allows.

    The server keeps the flags of each sub task and requires all of them (engine/task/node.go:105-148); here they are
    the node's. `continue` only matters to a restarted agent, which no scenario has.
    """

    sub_tasks: tuple[SubTaskScript, ...]
    can: frozenset[NodeFlag] = frozenset()
    timeout: int = 3600 * SECOND
    failure_exit: bool = False  # a failure here releases the lock, and going on takes it (task/dag.go:429, 462, 580)


@dataclass(frozen=True, slots=True)
class DagScript:
    """A dag's nodes, by their stages; a failed maintenance dag stays unfinished (service/task/dag.go:565-585)."""

    nodes: tuple[NodeScript, ...]
    is_maintenance: bool = False
    others: tuple[tuple[int, str, int | None], ...] = ()  # operators of other clients; the last item is None


@dataclass(frozen=True, slots=True)
class Rules:
    """The behaviour of the server that runs the dag."""

    tick: int = DEFAULT_TICK  # the scheduler's period
    phase: int = 0  # the instant of the first tick, at or before the start
    cancels_at_stage: bool = False  # CANCEL marks the node that runs, in a rollback too; no real server does that


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a sub task."""

    operator: Operator
    started: int
    takes: int  # the time over which its log lines are spread; short for a run that hangs
    log: tuple[LogLine, ...] = ()
    ended: int | None = None
    last_words: str | None = None  # logged at its end
    number: int = 0  # among the runs of its operator, from 1


@dataclass(frozen=True, slots=True)
class PartState:
    """The state of a dag or of a part of it."""

    state: State
    operator: Operator
    start_time: int | None
    end_time: int | None

    @property
    def label(self) -> Label:
        return self.state, self.operator


@dataclass(frozen=True, slots=True)
class SubTaskState(PartState):
    """A sub task at an instant. ``execute_times`` counts its runs; ``due`` and ``will_end`` are the current one's."""

    execute_times: int = 0
    runs: tuple[Run, ...] = ()  # the last ones, at most MAX_OPERATIONS, the oldest first
    due: int | None = None
    will_end: Outcome = "SUCCEED"
    rollbacks: int = 0

    @property
    def last_run(self) -> Run | None:
        """Return the run under way or else the last one that ended, if any."""
        return self.runs[-1] if self.runs else None


@dataclass(frozen=True, slots=True)
class NodeState(PartState):
    """A node at an instant."""

    sub_tasks: tuple[SubTaskState, ...]

    parts = property(attrgetter("sub_tasks"))


@dataclass(frozen=True, slots=True)
class DagState(PartState, Moment):
    """A dag from instant ``at`` on, and the changes that led to it. ``stage`` counts from 1."""

    at: int
    stage: int
    is_finished: bool
    nodes: Parts[NodeState]
    changes: tuple[Change, ...] = field(default=(), compare=False)

    parts = property(attrgetter("nodes"))


BETWEEN_WRITES: Final = "a request between two writes of one tick"
"""The server stores a tick in several writes, 0.2 to 3 ms apart; the mock shows only the last."""

_WRITES: Final = "engine/scheduler/dag_handler.go:24-74, task_handler.go:214-235"
_POOL: Final = "engine/scheduler/task_handler.go:74-235, engine/executor/pool.go:27-30"

DAG: Final = StateMachine(
    kind="dag",
    initial=(parse_label("READY/RUN"),),
    transitions=transitions("""
        time          READY/RUN|ROLLBACK|CANCEL → RUNNING/=        engine/scheduler/dag_handler.go:24-74
        time          RUNNING/RUN|ROLLBACK|CANCEL → SUCCEED/=      engine/scheduler/dag_handler.go:24-74
        time          RUNNING/RUN|ROLLBACK|CANCEL → FAILED/=       engine/scheduler/dag_handler.go:24-74
        dag.RETRY     FAILED/RUN|ROLLBACK|CANCEL → READY/RUN       service/task/dag.go:456-481
        dag.ROLLBACK  FAILED/RUN|ROLLBACK|CANCEL → READY/ROLLBACK  service/task/dag.go:422-454
        dag.PASS      FAILED/RUN|ROLLBACK|CANCEL → SUCCEED/PASS    service/task/dag.go:499-532
        node.PASS     FAILED/RUN|ROLLBACK|CANCEL → READY/RUN       service/task/node.go:116-166
        dag.CANCEL    READY/RUN|ROLLBACK → READY/CANCEL            service/task/dag.go:352-377,483-497
        dag.CANCEL    RUNNING/RUN|ROLLBACK|CANCEL → READY/CANCEL   service/task/dag.go:352-377,483-497
    """),
)
"""A retried dag shows RUN, never RETRY. One cancelled in its last tick may still be SUCCEED."""

NODE: Final = StateMachine(
    kind="node",
    initial=(parse_label("PENDING/RUN"),),
    transitions=transitions(f"""
        time          PENDING/RUN|RETRY|ROLLBACK → RUNNING/=               engine/scheduler/dag_handler.go:24-74
        time          RUNNING/RUN|RETRY|ROLLBACK → SUCCEED/=               engine/scheduler/task_handler.go:74-235
        time          RUNNING/RUN|RETRY|ROLLBACK → FAILED/=                engine/scheduler/task_handler.go:74-235
        time          PENDING/CANCEL → FAILED/CANCEL                       engine/scheduler/task_handler.go:74-235
        time          PENDING/RETRY|ROLLBACK → SUCCEED/=                   engine/scheduler/task_handler.go:74-235
        dag.RETRY     FAILED/RUN|RETRY|ROLLBACK|CANCEL → PENDING/RETRY     service/task/dag.go:456-481
        dag.ROLLBACK  FAILED/RUN|RETRY|ROLLBACK|CANCEL → PENDING/ROLLBACK  service/task/dag.go:422-454
        dag.ROLLBACK  SUCCEED/RUN|RETRY|ROLLBACK|PASS → PENDING/ROLLBACK   service/task/dag.go:422-454
        dag.CANCEL    PENDING/RUN|RETRY|ROLLBACK → PENDING/CANCEL          service/task/dag.go:352-377,483-497
        dag.CANCEL    RUNNING/RUN|RETRY|ROLLBACK → PENDING/CANCEL          service/task/dag.go:352-377,483-497
        dag.CANCEL    SUCCEED/RETRY|ROLLBACK|PASS → PENDING/CANCEL         service/task/dag.go:352-377,483-497
        dag.CANCEL    FAILED/CANCEL → PENDING/CANCEL                       service/task/dag.go:352-377,483-497
        dag.PASS      FAILED/RUN|RETRY|ROLLBACK|CANCEL → SUCCEED/PASS      service/task/dag.go:499-532
        dag.PASS      PENDING/RUN|CANCEL → SUCCEED/PASS                    service/task/dag.go:499-532
        dag.PASS      SUCCEED/ROLLBACK → SUCCEED/PASS                      service/task/dag.go:499-532
        node.PASS     FAILED/RUN|RETRY|ROLLBACK|CANCEL → SUCCEED/PASS      service/task/node.go:116-166
        time          PENDING/CANCEL → RUNNING/CANCEL                      {_WRITES}  {BETWEEN_WRITES}
        time          RUNNING/CANCEL → FAILED/CANCEL                       {_WRITES}  {BETWEEN_WRITES}
    """),
)
"""A node that has nothing to do or is cancelled ends in the tick that starts it."""

SUB_TASK: Final = StateMachine(
    kind="sub_task",
    initial=(parse_label("PENDING/RUN"),),
    transitions=transitions(f"""
        time       PENDING/RUN → RUNNING/RUN                     engine/scheduler/task_handler.go:74-235
        time       SUCCEED/ROLLBACK → RUNNING/RUN                engine/scheduler/task_handler.go:74-235
        time       SUCCEED/RUN|ROLLBACK|PASS → RUNNING/ROLLBACK  engine/scheduler/task_handler.go:74-235
        time       FAILED/RUN|ROLLBACK → RUNNING/ROLLBACK        engine/scheduler/task_handler.go:74-235
        time       RUNNING/RUN|ROLLBACK → SUCCEED/=              engine/executor/executor.go
        time       RUNNING/RUN|ROLLBACK → FAILED/=               engine/executor/executor.go
        dag.PASS   PENDING/RUN → SUCCEED/PASS                    service/task/dag.go:499-532
        dag.PASS   FAILED/RUN|ROLLBACK → SUCCEED/PASS            service/task/dag.go:499-532
        node.PASS  PENDING/RUN → SUCCEED/PASS                    service/task/node.go:116-166
        node.PASS  FAILED/RUN|ROLLBACK → SUCCEED/PASS            service/task/node.go:116-166
        time       PENDING/RUN → READY/RUN                       {_POOL}  {BETWEEN_WRITES}
        time       SUCCEED/ROLLBACK → READY/RUN                  {_POOL}  {BETWEEN_WRITES}
        time       SUCCEED/RUN|ROLLBACK|PASS → READY/ROLLBACK    {_POOL}  {BETWEEN_WRITES}
        time       FAILED/RUN|ROLLBACK → READY/ROLLBACK          {_POOL}  {BETWEEN_WRITES}
        time       READY/RUN|ROLLBACK → RUNNING/=                {_POOL}  {BETWEEN_WRITES}
        time       READY/RUN|ROLLBACK → FAILED/=                 {_POOL}  {BETWEEN_WRITES}
    """),
)
"""A retry rolls FAILED sub tasks back before they run again; no sub task shows RETRY."""

MACHINES: Final = {machine.kind: machine for machine in (DAG, NODE, SUB_TASK)}
