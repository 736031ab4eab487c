"""What obshell shows of a dag, of a node and of a sub task, and what may follow what.

The tables say what ``lifecycle/obshell.py`` lives, move by move; the sources are files of
github.com/oceanbase/obshell at 61ee147 (ob/agent/engine, ob/agent/service/task, both abbreviated)
and recordings of a running obshell 4.5.0.0, which outrank them. Calls are named after what they are
made on: an operator of a dag also moves its nodes, PASS their sub tasks too.
"""

from __future__ import annotations

from typing import Final

from oceanmock.engine.transitions import TIME, StateMachine, edges, shown

GLIMPSED: Final = "a look between two writes of one tick"
"""The server writes a tick down in several steps, 0.2 to 3 ms apart; the mock shows the last."""

_DAG_TICK: Final = "engine/scheduler/dag_handler.go:24-74"
_TASK_TICK: Final = "engine/scheduler/task_handler.go:74-235"
_EXECUTOR: Final = "engine/executor/executor.go"
_ROLLBACK: Final = "service/task/dag.go:422-454"
_RETRY: Final = "service/task/dag.go:456-481"
_CANCEL: Final = "service/task/dag.go:352-377,483-497"
_DAG_PASSED: Final = "service/task/dag.go:499-532"
_NODE_PASSED: Final = "service/task/node.go:116-166"

_WAYS: Final = ("RUN", "ROLLBACK", "CANCEL")
_ENDS: Final = ("RUN", "RETRY", "ROLLBACK", "CANCEL")

DAG: Final = StateMachine(
    kind="dag",
    born=(shown("READY/RUN"),),
    edges=(
        *edges(
            TIME,
            _DAG_TICK,
            *(f"READY/{way} → RUNNING/{way}" for way in _WAYS),
            *(f"RUNNING/{way} → SUCCEED/{way}" for way in _WAYS),
            *(f"RUNNING/{way} → FAILED/{way}" for way in _WAYS),
        ),
        *edges("dag.RETRY", _RETRY, *(f"FAILED/{way} → READY/RUN" for way in _WAYS)),
        *edges("dag.ROLLBACK", _ROLLBACK, *(f"FAILED/{way} → READY/ROLLBACK" for way in _WAYS)),
        *edges("dag.PASS", _DAG_PASSED, *(f"FAILED/{way} → SUCCEED/PASS" for way in _WAYS)),
        *edges("node.PASS", _NODE_PASSED, *(f"FAILED/{way} → READY/RUN" for way in _WAYS)),
        *edges(
            "dag.CANCEL",
            _CANCEL,
            *(f"READY/{way} → READY/CANCEL" for way in ("RUN", "ROLLBACK")),
            *(f"RUNNING/{way} → READY/CANCEL" for way in _WAYS),
        ),
    ),
)
"""A retried dag shows RUN, never RETRY. One cancelled in its last tick may still be SUCCEED."""

NODE: Final = StateMachine(
    kind="node",
    born=(shown("PENDING/RUN"),),
    edges=(
        *edges(
            TIME,
            _DAG_TICK,
            *(f"PENDING/{way} → RUNNING/{way}" for way in ("RUN", "RETRY", "ROLLBACK")),
        ),
        *edges(
            TIME,
            _TASK_TICK,
            *(f"RUNNING/{way} → SUCCEED/{way}" for way in ("RUN", "RETRY", "ROLLBACK")),
            *(f"RUNNING/{way} → FAILED/{way}" for way in ("RUN", "RETRY", "ROLLBACK")),
            "PENDING/CANCEL → FAILED/CANCEL",
            "PENDING/RETRY → SUCCEED/RETRY",
            "PENDING/ROLLBACK → SUCCEED/ROLLBACK",
        ),
        *edges("dag.RETRY", _RETRY, *(f"FAILED/{way} → PENDING/RETRY" for way in _ENDS)),
        *edges(
            "dag.ROLLBACK",
            _ROLLBACK,
            *(f"FAILED/{way} → PENDING/ROLLBACK" for way in _ENDS),
            *(f"SUCCEED/{way} → PENDING/ROLLBACK" for way in ("RUN", "RETRY", "ROLLBACK", "PASS")),
        ),
        *edges(
            "dag.CANCEL",
            _CANCEL,
            *(f"PENDING/{way} → PENDING/CANCEL" for way in ("RUN", "RETRY", "ROLLBACK")),
            *(f"RUNNING/{way} → PENDING/CANCEL" for way in ("RUN", "RETRY", "ROLLBACK")),
            *(f"SUCCEED/{way} → PENDING/CANCEL" for way in ("RETRY", "ROLLBACK", "PASS")),
            "FAILED/CANCEL → PENDING/CANCEL",
        ),
        *edges(
            "dag.PASS",
            _DAG_PASSED,
            *(f"FAILED/{way} → SUCCEED/PASS" for way in _ENDS),
            *(f"PENDING/{way} → SUCCEED/PASS" for way in ("RUN", "CANCEL")),
            "SUCCEED/ROLLBACK → SUCCEED/PASS",
        ),
        *edges("node.PASS", _NODE_PASSED, *(f"FAILED/{way} → SUCCEED/PASS" for way in _ENDS)),
        *edges(
            TIME,
            "engine/scheduler/dag_handler.go:24-74, task_handler.go:214-235",
            "PENDING/CANCEL → RUNNING/CANCEL",
            "RUNNING/CANCEL → FAILED/CANCEL",
            only=GLIMPSED,
        ),
    ),
)
"""A node with nothing to do, or cancelled, ends in the tick that takes it up."""

SUB_TASK: Final = StateMachine(
    kind="sub_task",
    born=(shown("PENDING/RUN"),),
    edges=(
        *edges(
            TIME,
            _TASK_TICK,
            "PENDING/RUN → RUNNING/RUN",
            "SUCCEED/ROLLBACK → RUNNING/RUN",
            *(f"SUCCEED/{way} → RUNNING/ROLLBACK" for way in ("RUN", "ROLLBACK", "PASS")),
            *(f"FAILED/{way} → RUNNING/ROLLBACK" for way in ("RUN", "ROLLBACK")),
        ),
        *edges(
            TIME,
            _EXECUTOR,
            *(f"RUNNING/{way} → SUCCEED/{way}" for way in ("RUN", "ROLLBACK")),
            *(f"RUNNING/{way} → FAILED/{way}" for way in ("RUN", "ROLLBACK")),
        ),
        *edges(
            "dag.PASS",
            _DAG_PASSED,
            "PENDING/RUN → SUCCEED/PASS",
            *(f"FAILED/{way} → SUCCEED/PASS" for way in ("RUN", "ROLLBACK")),
        ),
        *edges(
            "node.PASS",
            _NODE_PASSED,
            "PENDING/RUN → SUCCEED/PASS",
            *(f"FAILED/{way} → SUCCEED/PASS" for way in ("RUN", "ROLLBACK")),
        ),
        *edges(
            TIME,
            "engine/scheduler/task_handler.go:74-235, engine/executor/pool.go:27-30",
            "PENDING/RUN → READY/RUN",
            "SUCCEED/ROLLBACK → READY/RUN",
            *(f"SUCCEED/{way} → READY/ROLLBACK" for way in ("RUN", "ROLLBACK", "PASS")),
            *(f"FAILED/{way} → READY/ROLLBACK" for way in ("RUN", "ROLLBACK")),
            *(f"READY/{way} → RUNNING/{way}" for way in ("RUN", "ROLLBACK")),
            *(f"READY/{way} → FAILED/{way}" for way in ("RUN", "ROLLBACK")),
            only=GLIMPSED,
        ),
    ),
)
"""A retry undoes what FAILED before it runs again; an operator of its own it never shows."""

MACHINES: Final = {machine.kind: machine for machine in (DAG, NODE, SUB_TASK)}
"""By kind."""
