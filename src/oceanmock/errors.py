"""Every error oceanmock raises on purpose, as one tree.

    OceanmockError
    ├── AuthorError            whoever wrote a file: a scenario, a contract, a story
    ├── CallerError            whoever sent a request; answered in the API's own envelope
    │   ├── NoSuchTask
    │   ├── NoSuchSubtask
    │   ├── IllegalOperation   the task's state does not allow it
    │   ├── IllegalOperator    an obshell dag's or node's does not
    │   ├── RollbackProhibited
    │   ├── UnderMaintenance   another dag has the maintenance lock
    │   └── WrongIdentity      an agent that is something else does it
    └── EnvironmentProblem     the machine: a taken port, an unreadable folder

A message says what happened, where, and how to mend it. The one rule: nothing here knows HTTP.
"""

from __future__ import annotations


class OceanmockError(Exception):
    """The root: catching it catches every error oceanmock raises on purpose."""


class AuthorError(OceanmockError):
    """A file somebody wrote cannot be used; the message lists every mistake, with its place."""


class EnvironmentProblem(OceanmockError):
    """The machine refused something: a port, a file, a folder."""


class CallerError(OceanmockError):
    """A request asked for what is not there, or what its state does not allow."""


class NoSuchTask(CallerError):
    """No task has this id."""

    def __init__(self, task_id: int) -> None:
        super().__init__(f"there is no task {task_id}")
        self.task_id = task_id


class NoSuchSubtask(CallerError):
    """No subtask has this id (or not in this task, where that is checked)."""

    def __init__(self, subtask_id: int) -> None:
        super().__init__(f"there is no subtask {subtask_id}")
        self.subtask_id = subtask_id


class IllegalOperation(CallerError):
    """The state a task or subtask is in does not allow the operation; nothing has changed.

    ``state`` is the word the API blames (OCP: the status, or the operation ROLLBACK where that is
    the reason); ``allowed`` holds the operations that the same state would have accepted.
    """

    def __init__(self, operation: str, *, state: str, allowed: tuple[str, ...]) -> None:
        would_do = ", ".join(allowed) if allowed else "none"
        super().__init__(f"{operation} is not allowed in state {state}; allowed: {would_do}")
        self.operation = operation
        self.state = state
        self.allowed = allowed


class IllegalOperator(CallerError):
    """The state or a flag of an obshell dag or node does not allow the operator.

    ``reason`` is the tail of the API's errCode (``Dag.Operator.RetryNotAllowed``), or NoNodeFailed;
    ``node`` the position of the node that is to blame.
    """

    def __init__(self, reason: str, *, node: int | None = None) -> None:
        super().__init__(reason if node is None else f"{reason}: node {node + 1}")
        self.reason = reason
        self.node = node


class RollbackProhibited(CallerError):
    """The task forbids rollback: by itself, or by a subtask that has already run."""


class UnderMaintenance(CallerError):
    """A dag that is not finished keeps another from being made; ``tenant`` is what it maintains."""

    def __init__(self, dag: str, *, tenant: str | None = None) -> None:
        super().__init__(f"dag {dag!r} is not finished, and has the maintenance lock")
        self.dag = dag
        self.tenant = tenant


class WrongIdentity(CallerError):
    """Only an agent that is something else makes such a dag."""

    def __init__(self, identity: str, wanted: tuple[str, ...]) -> None:
        super().__init__(f"the agent is {identity}, instead of {' or '.join(wanted)}")
        self.identity = identity
        self.wanted = wanted
