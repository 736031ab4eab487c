"""obshell's state machines as tables: what a dag, a node and a sub task may show, in which order.

Sources are files of github.com/oceanbase/obshell at 61ee147 (ob/agent/engine and
ob/agent/service/task, both abbreviated) and recordings of a running obshell 4.5.0.0, which outrank
them. Operations are named after what they are made on: an operator of a dag also moves its nodes,
PASS their sub tasks too.
"""

from __future__ import annotations

from typing import Final

from oceanmock.engine.machine import TIME, StateMachine, parse_label, transitions

BETWEEN_WRITES: Final = "a request between two writes of one tick"
"""The server writes a tick down in several steps, 0.2 to 3 ms apart; the mock shows the last."""

_DAG_TICK: Final = "engine/scheduler/dag_handler.go:24-74"
_TASK_TICK: Final = "engine/scheduler/task_handler.go:74-235"
_EXECUTOR: Final = "engine/executor/executor.go"
_ROLLBACK: Final = "service/task/dag.go:422-454"
_RETRY: Final = "service/task/dag.go:456-481"
_CANCEL: Final = "service/task/dag.go:352-377,483-497"
_DAG_PASSED: Final = "service/task/dag.go:499-532"
_NODE_PASSED: Final = "service/task/node.go:116-166"

_WAYS: Final = "RUN|ROLLBACK|CANCEL"
_RUNS: Final = "RUN|RETRY|ROLLBACK"
_ENDS: Final = "RUN|RETRY|ROLLBACK|CANCEL"

DAG: Final = StateMachine(
    kind="dag",
    initial=(parse_label("READY/RUN"),),
    transitions=(
        *transitions(
            TIME,
            _DAG_TICK,
            f"READY/{_WAYS} → RUNNING/=",
            f"RUNNING/{_WAYS} → SUCCEED/=",
            f"RUNNING/{_WAYS} → FAILED/=",
        ),
        *transitions("dag.RETRY", _RETRY, f"FAILED/{_WAYS} → READY/RUN"),
        *transitions("dag.ROLLBACK", _ROLLBACK, f"FAILED/{_WAYS} → READY/ROLLBACK"),
        *transitions("dag.PASS", _DAG_PASSED, f"FAILED/{_WAYS} → SUCCEED/PASS"),
        *transitions("node.PASS", _NODE_PASSED, f"FAILED/{_WAYS} → READY/RUN"),
        *transitions(
            "dag.CANCEL",
            _CANCEL,
            "READY/RUN|ROLLBACK → READY/CANCEL",
            f"RUNNING/{_WAYS} → READY/CANCEL",
        ),
    ),
)
"""A retried dag shows RUN, never RETRY. One cancelled in its last tick may still be SUCCEED."""

NODE: Final = StateMachine(
    kind="node",
    initial=(parse_label("PENDING/RUN"),),
    transitions=(
        *transitions(TIME, _DAG_TICK, f"PENDING/{_RUNS} → RUNNING/="),
        *transitions(
            TIME,
            _TASK_TICK,
            f"RUNNING/{_RUNS} → SUCCEED/=",
            f"RUNNING/{_RUNS} → FAILED/=",
            "PENDING/CANCEL → FAILED/CANCEL",
            "PENDING/RETRY|ROLLBACK → SUCCEED/=",
        ),
        *transitions("dag.RETRY", _RETRY, f"FAILED/{_ENDS} → PENDING/RETRY"),
        *transitions(
            "dag.ROLLBACK",
            _ROLLBACK,
            f"FAILED/{_ENDS} → PENDING/ROLLBACK",
            "SUCCEED/RUN|RETRY|ROLLBACK|PASS → PENDING/ROLLBACK",
        ),
        *transitions(
            "dag.CANCEL",
            _CANCEL,
            f"PENDING/{_RUNS} → PENDING/CANCEL",
            f"RUNNING/{_RUNS} → PENDING/CANCEL",
            "SUCCEED/RETRY|ROLLBACK|PASS → PENDING/CANCEL",
            "FAILED/CANCEL → PENDING/CANCEL",
        ),
        *transitions(
            "dag.PASS",
            _DAG_PASSED,
            f"FAILED/{_ENDS} → SUCCEED/PASS",
            "PENDING/RUN|CANCEL → SUCCEED/PASS",
            "SUCCEED/ROLLBACK → SUCCEED/PASS",
        ),
        *transitions("node.PASS", _NODE_PASSED, f"FAILED/{_ENDS} → SUCCEED/PASS"),
        *transitions(
            TIME,
            "engine/scheduler/dag_handler.go:24-74, task_handler.go:214-235",
            "PENDING/CANCEL → RUNNING/CANCEL",
            "RUNNING/CANCEL → FAILED/CANCEL",
            only=BETWEEN_WRITES,
        ),
    ),
)
"""A node with nothing to do, or cancelled, ends in the tick that takes it up."""

SUB_TASK: Final = StateMachine(
    kind="sub_task",
    initial=(parse_label("PENDING/RUN"),),
    transitions=(
        *transitions(
            TIME,
            _TASK_TICK,
            "PENDING/RUN → RUNNING/RUN",
            "SUCCEED/ROLLBACK → RUNNING/RUN",
            "SUCCEED/RUN|ROLLBACK|PASS → RUNNING/ROLLBACK",
            "FAILED/RUN|ROLLBACK → RUNNING/ROLLBACK",
        ),
        *transitions(
            TIME,
            _EXECUTOR,
            "RUNNING/RUN|ROLLBACK → SUCCEED/=",
            "RUNNING/RUN|ROLLBACK → FAILED/=",
        ),
        *transitions(
            "dag.PASS",
            _DAG_PASSED,
            "PENDING/RUN → SUCCEED/PASS",
            "FAILED/RUN|ROLLBACK → SUCCEED/PASS",
        ),
        *transitions(
            "node.PASS",
            _NODE_PASSED,
            "PENDING/RUN → SUCCEED/PASS",
            "FAILED/RUN|ROLLBACK → SUCCEED/PASS",
        ),
        *transitions(
            TIME,
            "engine/scheduler/task_handler.go:74-235, engine/executor/pool.go:27-30",
            "PENDING/RUN → READY/RUN",
            "SUCCEED/ROLLBACK → READY/RUN",
            "SUCCEED/RUN|ROLLBACK|PASS → READY/ROLLBACK",
            "FAILED/RUN|ROLLBACK → READY/ROLLBACK",
            "READY/RUN|ROLLBACK → RUNNING/=",
            "READY/RUN|ROLLBACK → FAILED/=",
            only=BETWEEN_WRITES,
        ),
    ),
)
"""A retry undoes what FAILED before it runs again; an operator of its own it never shows."""

MACHINES: Final = {machine.kind: machine for machine in (DAG, NODE, SUB_TASK)}
