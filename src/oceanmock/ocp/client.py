"""OCP in a test's hand: a sandbox, its tasks and their subtasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self, overload

from oceanmock.client.admin import Json
from oceanmock.client.held import HIDDEN
from oceanmock.client.parts import Part, Told, Whole, find
from oceanmock.client.sandbox import MANAGER, VIEWER, Sandbox
from oceanmock.ocp.auth import AccessKey, Basic

__tracebackhide__ = HIDDEN

Step = str | Mapping[str, Any]
"""A subtask: its name, or what a scenario file says of it; ``subtask(…)`` writes it."""

STATUSES: Final = ("PENDING", "READY", "RUNNING", "CANCELING", "FAILED", "SUCCESSFUL", "ABORTED")
ACCESS_KEY: Final = ("oceanmock-ak", "oceanmock-sk")


class Ocp(Sandbox):
    """A sandbox for clients of OCP.

    with oceanmock.running("retry-failed-subtask") as ocp:
        client = Client(ocp.url, auth=ocp.auth, sleep=ocp.clock.sleep)
        client.retry(1000)
        ocp.task(1000).assert_status("SUCCESSFUL")
    """

    api = "ocp"

    @property
    def auth(self) -> Basic:
        """A manager's user and password, ready for httpx and requests; a pair of both."""
        return Basic(*MANAGER)

    @property
    def viewer(self) -> Basic:
        """The same of somebody who may only look."""
        return Basic(*VIEWER)

    @property
    def access_key(self) -> AccessKey:
        """An access key that signs each request, ready for httpx and requests."""
        return AccessKey(*ACCESS_KEY)

    @overload
    def task(self, wanted: int | str, /) -> Task: ...

    @overload
    def task(self, name: str, subtasks: Sequence[Step], /, **rest: Any) -> Task: ...

    def task(
        self, wanted: int | str, subtasks: Sequence[Step] | None = None, /, **rest: Any
    ) -> Task:
        """The task of an id or a name; or, with subtasks, one that is born now.

            ocp.task(1000)
            ocp.task("Install agent", ["Prepare", subtask("Install", fails(log="disk full"))])

        ``rest`` is what else a scenario file says of a task. Raises AuthorError when there is no
        such task, or with all that is wrong with the new one.
        """
        if subtasks is None:
            return Task(self.admin, self._find(wanted, what="task"))
        return Task(self.admin, self._start({"name": wanted, "subtasks": list(subtasks), **rest}))

    def tasks(self) -> list[Task]:
        """Every task, by ascending id."""
        return [Task(self.admin, each) for each in self._rows()]


class _OfOcp(Told):
    """What a task and a subtask of OCP are asked alike."""

    @property
    def id(self) -> int:
        """Its id."""
        return self.number

    @property
    def status(self) -> str:
        """Its status now."""
        return str(self.json()["state"])

    @property
    def operation(self) -> str:
        """Its operation now."""
        return str(self.json()["operation"])

    def assert_status(self, expected: str, *, operation: str | None = None) -> None:
        """Holds if it is in this status, and this operation if one is said.

        Raises AssertionError with why it is in another, and what is next.
        """
        self._assert(expected, operation)

    def until(self, status: str) -> Self:
        """Moves the clock on, from change to change, until it is in this status.

        Raises AssertionError where nothing is due any more that could make it so.
        """
        return self._until(status)


class Task(_OfOcp, Whole):
    """A task of OCP."""

    api = "ocp"
    kind = "task"
    states = STATUSES

    @property
    def subtasks(self) -> list[Subtask]:
        """Its subtasks, in the API's order."""
        return [Subtask(self, part) for part in self.json()["parts"]]

    def subtask(self, wanted: int | str) -> Subtask:
        """The subtask of an id or a name. Raises AuthorError when there is none."""
        parts = self.json()["parts"]
        return Subtask(self, find(parts, wanted, what="subtask", where=f"in task {self.id}"))


class Subtask(_OfOcp, Part):
    """A subtask of a task of OCP."""

    kind = "subtask"

    def __init__(self, task: Task, said: Json) -> None:
        super().__init__(task, said)
        self.task: Final = task
