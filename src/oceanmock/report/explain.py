"""Why a task or a dag is in its state, what led there, and what moves it next and when.

An explanation is worked out from the life that the machine has given it and from the record of what
was asked of it. It changes nothing: it is no read, so it does not move a clock under `polls`. What
OCP's machine does is told in ``tasks``, what obshell's does in ``dags``; how an explanation is
written is in ``telling``, which knows neither.
"""

from __future__ import annotations

from oceanmock.engine.sandbox import Sandbox
from oceanmock.obshell.explain import explain_history as _explain_dag
from oceanmock.obshell.world import Dags, Store
from oceanmock.ocp.explain import explain_history as _explain_task
from oceanmock.ocp.world import Tasks
from oceanmock.report.explanation import Explanation

__all__ = ["Explanation", "explain_dag", "explain_task"]


def explain_task(sandbox: Sandbox, task_id: int) -> Explanation:
    """Why one of OCP's tasks is in its state. Raises NoSuchTask."""
    tasks = sandbox.world(Tasks)
    return _explain_task(
        tasks.view(task_id).task,
        tasks.life_of(task_id),
        tasks.operations_of(task_id),
        clock=sandbox.clock,
    )


def explain_dag(sandbox: Sandbox, number: int, store: Store = "agent") -> Explanation:
    """Why one of obshell's dags is in its state. Raises NoSuchTask."""
    dags, key = sandbox.world(Dags), (store, number)
    return _explain_dag(
        dags.view(key).dag, dags.life_of(key), dags.operations_of(key), clock=sandbox.clock
    )
