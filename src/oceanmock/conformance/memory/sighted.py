"""What one look at a thing is: what it showed, by which operation, and after which calls.

A thing is a task or a subtask, a dag, a node or a sub task. The same thing is shown by lists, by
itself and within others; those are different *views* of it, which may each be wrong in their own
way. Reading bodies is ``checks``' business; here it only gets an identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from oceanmock.checks import Subject, instant, numbered
from oceanmock.conformance.checks import obshell, ocp

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
    raw: Json
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
    """Everything that an answer shows; ``roots`` says to which task or dag a part belongs."""
    found = _ocp(subject) if subject.contract.api == "ocp" else _obshell(subject)
    return [
        Sighting(kind, id, root or roots.get((kind, id), ""), raw, path, subject, calls)
        for kind, id, root, path, raw in found
        if id
    ]


_Found = Iterator[tuple[str, str, str, str, Json]]


def _ocp(subject: Subject) -> _Found:
    if subject.id == "retrySubtask":
        yield from (("subtask", id_in(s), "", path, s) for path, s in ocp.subtasks_in(subject))
        return
    for path, task in ocp.tasks_in(subject):
        root = id_in(task)
        yield "task", root, root, path, task
        for at, subtask in numbered(task.get("subtasks"), f"{path}.subtasks"):
            yield "subtask", id_in(subtask), root, at, subtask


def _obshell(subject: Subject) -> _Found:
    for path, dag in obshell.dags_in(subject):
        yield "dag", id_in(dag), id_in(dag), path, dag
        for at, node in numbered(dag.get("nodes"), f"{path}.nodes"):
            yield from _node(node, at, id_in(dag))
    if subject.status == 200 and isinstance(subject.data, dict):
        if subject.id == "getNodeDetail":
            yield from _node(subject.data, "$.data", "")
        elif subject.id == "getSubTaskDetail":
            yield "sub_task", id_in(subject.data), "", "$.data", subject.data


def _node(node: Json, path: str, root: str) -> _Found:
    yield "node", id_in(node), root, path, node
    for at, sub_task in numbered(node.get("sub_tasks"), f"{path}.sub_tasks"):
        yield "sub_task", id_in(sub_task), root, at, sub_task


def id_in(thing: Json) -> str:
    """The id of a thing as a text; empty where it has none."""
    said = thing.get("id")
    return str(said) if isinstance(said, int | str) and not isinstance(said, bool) else ""
