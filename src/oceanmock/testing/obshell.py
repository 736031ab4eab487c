"""obshell in a test's hand: a sandbox, its dags, their nodes and sub tasks."""

from __future__ import annotations

from typing import Any, Final

from oceanmock.admin_client import Driven, Json
from oceanmock.testing.sandbox import Sandbox


class Obshell(Sandbox):
    """A sandbox for clients of obshell."""

    api = "obshell"

    def dag(self, id: int | str, nodes: Any = None, **rest: Any) -> Dag:
        """The dag of a number or generic id; with nodes, a new one of this name."""
        if nodes is None:
            return Dag(self.admin, str(id))
        template = {"name": id, "nodes": list(nodes), **rest}
        made = self.admin.ask("POST", "/tasks", {"api": "obshell", "template": template})
        return Dag(self.admin, made["id"])

    def dags(self) -> list[Dag]:
        """Every dag, by ascending number."""
        found = self.admin.ask("GET", "/tasks")["tasks"]
        return [Dag(self.admin, each["id"]) for each in found if each["api"] == "obshell"]


class Dag:
    """A dag of obshell."""

    def __init__(self, driven: Driven, id: str) -> None:
        self._driven: Final = driven
        self.id: Final = id

    @property
    def state(self) -> str:
        """Its state now."""
        return str(self.json()["state"])

    def json(self) -> Json:
        """The dag as the admin API tells of it."""
        return self._driven.ask("GET", f"/tasks/obshell/{self.id}")

    def assert_state(self, expected: str) -> None:
        """Holds if it is in this state."""
        if self.state != expected:
            raise AssertionError(f"dag {self.id} is {self.state}, not {expected}")
