"""Read the observations in a response: each item with its identity, view and preceding operations.

An item is a task, subtask, dag, node or sub task. Lists, its own response and those of the items
that contain it are different *views*, each of which may be wrong. The bodies are checked by
``checks``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from oceanmock.apis import api_named
from oceanmock.checks import Subject, instant
from oceanmock.conformance.checks import obshell

Json = dict[str, Any]
View = Literal["list", "detail", "part"]
"""A row of a list; a whole item, or a part within it; a part requested by itself."""

LISTS: Final = obshell.LISTS | {"listTaskInstances"}
PARTS: Final = frozenset({"getNodeDetail", "getSubTaskDetail", "retrySubtask"})
TERMINAL: Final[Mapping[str, frozenset[str]]] = {
    "task": frozenset({"SUCCESSFUL", "FAILED", "ABORTED"}),
    "subtask": frozenset({"SUCCESSFUL", "FAILED"}),
    "dag": frozenset({"SUCCEED", "FAILED"}),
    "node": frozenset({"SUCCEED", "FAILED"}),
    "sub_task": frozenset({"SUCCEED", "FAILED"}),
}
END: Final = {"ocp": "finishTime", "obshell": "end_time"}
STATE: Final = {"ocp": "status", "obshell": "state"}
OPERATION: Final = {"ocp": "operation", "obshell": "operator"}


@dataclass(frozen=True, slots=True)
class Sighting:
    """An observation of one item. ``root`` is the id of its task or dag, or empty."""

    kind: str
    id: str
    root: str
    raw: Mapping[str, Any]
    path: str
    subject: Subject
    calls: int
    """The number of operations requested before it."""

    @property
    def key(self) -> tuple[str, str]:
        """Return kind and id."""
        return self.kind, self.id

    @property
    def state(self) -> str:
        """Return its state, in the API's own word."""
        return str(self.raw.get(STATE[self.subject.contract.api], ""))

    @property
    def operation(self) -> str:
        """Return its operation or operator; empty if the response omits it."""
        return str(self.raw.get(OPERATION[self.subject.contract.api], ""))

    @property
    def words(self) -> str:
        """Return state and operation, as the transition tables write them."""
        return f"{self.state}/{self.operation}" if self.operation else self.state

    @property
    def is_terminal(self) -> bool:
        """Return whether it has ended, until the next operation."""
        return self.state in TERMINAL[self.kind]

    @property
    def end(self) -> int | None:
        """Return the instant of its last end, or None."""
        return instant(self.raw.get(END[self.subject.contract.api]))

    @property
    def view(self) -> View:
        """Return the view of it that the response gives."""
        if self.subject.id in LISTS:
            return "list"
        return "part" if self.subject.id in PARTS else "detail"

    @property
    def at(self) -> int | None:
        """Return the response's timestamp, or None."""
        body = self.subject.body
        return instant(body.get("timestamp")) if isinstance(body, dict) else None


def sightings(
    subject: Subject, *, roots: Mapping[tuple[str, str], str], calls: int
) -> list[Sighting]:
    """Return a response's observations; ``roots`` maps each known part to its task or dag."""
    if subject.status != 200:
        return []
    parse = api_named(subject.contract.api).parse
    return [
        Sighting(
            item.kind,
            item.id,
            item.root or roots.get((item.kind, item.id), ""),
            item.raw,
            item.path,
            subject,
            calls,
        )
        for item in parse.observations(subject.id, subject.body)
    ]
