"""Define every error that oceanmock raises on purpose.

    OceanmockError
    ├── InputError             in a file or an argument: a scenario, a contract, a story
    │   ├── ScenarioError      all issues of a file, each at its place
    │   └── TooManyValues
    ├── CallerError            in a request; the response uses the API's own envelope
    │   ├── NoSuchTask
    │   ├── NoSuchSubtask
    │   ├── IllegalOperation   the task's state does not allow it
    │   ├── IllegalOperator    the state of an obshell dag or node does not allow it
    │   ├── RollbackProhibited
    │   └── IdTaken            a new task asks for another one's id
    └── EnvironmentProblem     on the machine: a taken port, an unreadable folder

A message says what happened, where, and how to fix it. Nothing here depends on HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

Loc = tuple[int | str, ...]  # the location of a value: keys and positions from the root


class OceanmockError(Exception):
    """The base class of every error that oceanmock raises on purpose."""


class InputError(OceanmockError):
    """A file or an argument cannot be used; the message lists every issue with its place."""


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue of the value at ``loc``, or of its key. ``rule`` is a stable name, for tools.

    ``path``, ``line`` and ``column``, which count from 1, are set once it is located.
    """

    loc: Loc
    rule: str
    message: str
    hint: str = ""
    at_key: bool = False
    path: str = ""
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}: " if self.path else ""
        hint = f"\n  {self.hint}" if self.hint else ""
        return f"{place}{self.message} [{self.rule}]{hint}"


class ScenarioError(InputError):
    """A file cannot be used; ``diagnostics`` has its issues in the order of their places."""

    def __init__(self, diagnostics: Iterable[Issue]) -> None:
        by_text = {str(issue): issue for issue in diagnostics}
        self.diagnostics = tuple(sorted(by_text.values(), key=attrgetter("path", "line", "column", "rule", "message")))
        super().__init__("\n".join(map(str, self.diagnostics)))


class TooManyValues(InputError):
    """A text or an object has more values than may be read."""

    def __init__(self, path: str, limit: int) -> None:
        problem = f"{path} has more than {limit:,} values, each alias counted as what it stands for."
        super().__init__(f"{problem} Let tasks `repeat`, or give it in parts.")


class EnvironmentProblem(OceanmockError):
    """A port, a file or a folder is not available."""


class CallerError(OceanmockError):
    """A request names something unknown, or its state does not allow the operation."""


class NoSuchTask(CallerError):
    """No task has this id."""

    def __init__(self, task_id: int) -> None:
        super().__init__(f"there is no task {task_id}")
        self.task_id = task_id


class NoSuchSubtask(CallerError):
    """No subtask has this id, or none of the task, if that is checked."""

    def __init__(self, subtask_id: int) -> None:
        super().__init__(f"there is no subtask {subtask_id}")


class IllegalOperation(CallerError):
    """The state of a task or subtask does not allow the operation; nothing has changed.

    ``state`` is the word that the API gives as the reason (OCP: the status, or the operation ROLLBACK); ``allowed``
    has the operations that the state accepts.
    """

    def __init__(self, operation: str, *, state: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{operation} is not allowed in state {state}; allowed: {', '.join(allowed) or 'none'}")
        self.state, self.allowed = state, allowed


class IllegalOperator(CallerError):
    """The state or a flag of an obshell dag or node does not allow the operator.

    ``reason`` is the end of the API's errCode (``Dag.Operator.RetryNotAllowed``), or NoNodeFailed; ``node`` the
    position of the node that prevents it.
    """

    def __init__(self, reason: str, *, node: int | None = None) -> None:
        super().__init__(reason if node is None else f"{reason}: node {node + 1}")
        self.reason, self.node = reason, node


class RollbackProhibited(CallerError):
    """The task, or one of its subtasks that has run, forbids rollback."""


class IdTaken(CallerError):
    """An id that a new task asks for belongs to another one."""
