"""Test handles of OCP: a sandbox, its tasks and their subtasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from oceanmock import handles
from oceanmock.admin_client import HIDE_FRAMES
from oceanmock.api import Json
from oceanmock.handles import PartHandle, PartSource, SandboxHandle, TaskHandle
from oceanmock.ocp.api import API
from oceanmock.ocp.auth import AccessKey, Basic
from oceanmock.openapi import VIEWER_PERMISSION, Operation

__tracebackhide__ = HIDE_FRAMES


def server_title(world: Any) -> str:
    """Return the name of the server in the banner."""
    return API.title


def command(operation: Operation, url: str, world: Any, *, authenticates: bool) -> str:
    """Return a curl command for an operation at its URL."""
    user = handles.VIEWER_LOGIN if operation.permission == VIEWER_PERMISSION else handles.MANAGER_LOGIN
    login = f" -u {':'.join(user)}" if authenticates else ""
    method = "" if operation.method == "GET" else f" -X {operation.method}"
    return f"curl -s{login}{method} {url}"


def subtask(name: str, *attempts: handles.RunSource, **rest: Any) -> Json:
    """Return a subtask of the file format from its runs; the last run repeats.

    subtask("Install", fails("2s", log="disk full"), succeeds(), timeout="30m")
    """
    return {"name": name, **handles.attempts_of(attempts), **rest}


class Ocp(SandboxHandle):
    """A sandbox for clients of OCP.

    with oceanmock.running("retry-failed-subtask") as ocp:
        client = Client(ocp.url, auth=ocp.auth, sleep=ocp.clock.sleep)
        client.retry(1000)
        ocp.task(1000).assert_status("SUCCESSFUL")
    """

    API = API

    @property
    def auth(self) -> Basic:
        """A manager's user and password, ready for httpx and requests."""
        return Basic(*handles.MANAGER_LOGIN)

    @property
    def viewer(self) -> Basic:
        """The user and password of a read-only user."""
        return Basic(*handles.VIEWER_LOGIN)

    @property
    def access_key(self) -> AccessKey:
        """An access key that signs each request, ready for httpx and requests."""
        return AccessKey("oceanmock-ak", "oceanmock-sk")

    def task(self, id_or_name: int | str, subtasks: Sequence[PartSource] | None = None, /, **rest: Any) -> Task:
        """Return the task of an id or a name; or, with subtasks, add one that starts now.

            ocp.task(1000)
            ocp.task("Install agent", ["Prepare", subtask("Install", fails(log="disk full"))])

        ``rest`` holds further keys of a task in a scenario file. Raises InputError when there is no such task, or with
        everything wrong in the new one.
        """
        return Task(self.admin, self._find_or_add(id_or_name, subtasks, rest))

    def tasks(self) -> list[Task]:
        """Return every task, of more than 10,000 the first, by ascending id."""
        return [Task(self.admin, row) for row in self.rows()]


class _OcpHandle(PartHandle):
    """A task or a subtask."""

    API = API

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
        """Assert that it has this status, and this operation if given; the AssertionError explains its state."""
        self._assert(expected, operation)


class Task(_OcpHandle, TaskHandle):
    """A task of OCP."""

    KIND = API.kind("task")

    @property
    def subtasks(self) -> list[SubtaskHandle]:
        """Its subtasks, in the API's order."""
        return [SubtaskHandle(self, part) for part in self.json()["parts"]]

    def subtask(self, id_or_name: int | str) -> SubtaskHandle:
        """Return the subtask of an id or a name. Raises InputError when there is none."""
        return SubtaskHandle(self, self._find(id_or_name))


class SubtaskHandle(_OcpHandle):
    """A subtask of a task of OCP."""

    KIND = API.kind("subtask")

    def __init__(self, task: Task, data: Json) -> None:
        super().__init__(task, data)
        self.task: Final = task
