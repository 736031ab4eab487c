"""OCP in a test's hand: a sandbox, its tasks and their subtasks."""

from __future__ import annotations

from typing import Any, Final

from oceanmock.admin_client import Driven, Json
from oceanmock.testing.sandbox import Sandbox


class Ocp(Sandbox):
    """A sandbox for clients of OCP."""

    api = "ocp"

    @property
    def auth(self) -> tuple[str, str]:
        """A manager's user and password, ready for httpx and requests."""
        return ("manager", "manager")

    @property
    def viewer(self) -> tuple[str, str]:
        """The same of somebody who may only look."""
        return ("viewer", "viewer")

    def task(self, id: int | str, subtasks: Any = None, **rest: Any) -> Task:
        """The task of an id; with subtasks, a new one of this name."""
        if subtasks is None:
            return Task(self.admin, str(id))
        template = {"name": id, "subtasks": list(subtasks), **rest}
        made = self.admin.ask("POST", "/tasks", {"api": "ocp", "template": template})
        return Task(self.admin, made["id"])

    def tasks(self) -> list[Task]:
        """Every task, by ascending id."""
        found = self.admin.ask("GET", "/tasks")["tasks"]
        return [Task(self.admin, each["id"]) for each in found if each["api"] == "ocp"]


class Task:
    """A task of OCP."""

    def __init__(self, driven: Driven, id: str) -> None:
        self._driven: Final = driven
        self.id: Final = int(id)

    @property
    def status(self) -> str:
        """Its status now."""
        return str(self.json()["state"])

    def json(self) -> Json:
        """The task as the admin API tells of it."""
        return self._driven.ask("GET", f"/tasks/ocp/{self.id}")

    def assert_status(self, expected: str) -> None:
        """Holds if it is in this status."""
        if self.status != expected:
            raise AssertionError(f"task {self.id} is {self.status}, not {expected}")
