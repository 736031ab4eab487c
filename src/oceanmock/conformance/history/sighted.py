"""What one look at a thing is: what it showed, by which operation, and after which calls.

A thing is a task or a subtask, a dag, a node or a sub task. The same thing is shown by lists, by
itself and within others; those are different *views* of it, which may each be wrong in their own
way. Reading bodies is ``checks``' business; here it only gets an identity.
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
"""A row of a list; a whole thing, or one within a whole thing; a part asked for by itself."""

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
    """One look at one thing. ``root`` is the id of its task or dag, empty where nobody knows."""

    kind: str
    id: str
    root: str
    raw: Mapping[str, Any]
    path: str
    subject: Subject
    calls: int
    """How many calls had been made when it was subject."""

    @property
    def key(self) -> tuple[str, str]:
        """Which thing it is."""
        return self.kind, self.id

    @property
    def state(self) -> str:
        """Its state, in the API's own word."""
        return str(self.raw.get(STATE[self.subject.contract.api], ""))

    @property
    def operation(self) -> str:
        """Its operation, or operator; empty where the answer leaves it out."""
        return str(self.raw.get(OPERATION[self.subject.contract.api], ""))

    @property
    def words(self) -> str:
        """State and operation, as the tables of transitions write them."""
        return f"{self.state}/{self.operation}" if self.operation else self.state

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended, until somebody does something."""
        return self.state in TERMINAL[self.kind]

    @property
    def end(self) -> int | None:
        """When it ended last; None where it does not say."""
        return instant(self.raw.get(END[self.subject.contract.api]))

    @property
    def view(self) -> View:
        """How it was looked at."""
        if self.subject.id in LISTS:
            return "list"
        return "part" if self.subject.id in PARTS else "detail"

    @property
    def at(self) -> int | None:
        """The server's time when it was subject."""
        body = self.subject.body
        return instant(body.get("timestamp")) if isinstance(body, dict) else None


def sightings(
    subject: Subject, *, roots: Mapping[tuple[str, str], str], calls: int
) -> list[Sighting]:
    """Return all that a response shows; ``roots`` has the task or dag of each known part."""
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
