"""Parse obshell's JSON: dags, nodes and sub tasks from response bodies, operators from requests.

``observations`` accepts any body and skips what is not as the contract has it; ``read_dag`` reads
one whole dag. Shapes are those of openapi/obshell.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from oceanmock.checks import numbered
from oceanmock.observations import Observation, id_text, text_at

_NUMBER_KEYS: Final = {"dag": "dag_id", "node": "node_id", "sub_task": "task_id"}
"""The member that distinguishes each kind from the others."""
_PARTS: Final = {"dag": ("nodes", "node"), "node": ("sub_tasks", "sub_task")}
"""The member with the parts of a kind, and their kind."""
_REQUESTS: Final = {"dagHandler": "dag", "nodeHandler": "node"}


def observations(operation: str, body: Any) -> Iterator[Observation]:
    """Yield the dags, nodes and sub tasks of a body in its order, each before its parts."""
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        return
    rows = data.get("contents")
    for path, item in (
        numbered(rows, "$.data.contents") if isinstance(rows, list) else [("$.data", data)]
    ):
        kind = next((kind for kind, number in _NUMBER_KEYS.items() if number in item), None)
        if kind is not None:
            root = id_text(item.get("id")) if kind == "dag" else ""
            yield from _observation(kind, item, path, parent="", root=root)


def _observation(
    kind: str, item: Mapping[str, Any], path: str, *, parent: str, root: str
) -> Iterator[Observation]:
    id, state = id_text(item.get("id")), item.get("state")
    if id and isinstance(state, str):
        name, operator = text_at(item, "name"), text_at(item, "operator")
        yield Observation(kind, id, name, state, operator, parent, root, path, item)
        if kind in _PARTS:
            key, part_kind = _PARTS[kind]
            for place, part in numbered(item.get(key), f"{path}.{key}"):
                yield from _observation(part_kind, part, place, parent=id, root=root)


def requested_operation(operation: str, body: Any) -> str:
    """Return the operator that a request asks for, such as ``dag.CANCEL``; empty for a read.

    ``body`` is the request's before it was encrypted. obshell reads an operator in any case.
    """
    kind = _REQUESTS.get(operation)
    operator = body.get("operator") if isinstance(body, dict) else None
    return f"{kind}.{operator.upper()}" if kind and isinstance(operator, str) else ""


# --- one whole dag --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """A node of a response; ``sub_tasks`` are their states and operators."""

    id: str
    name: str
    state: str
    operator: str
    sub_tasks: tuple[tuple[str, str], ...]

    @property
    def words(self) -> str:
        """Return state and operator."""
        return f"{self.state}/{self.operator}"


@dataclass(frozen=True, slots=True)
class DagSnapshot:
    """A dag of a response. ``stage`` counts from 1."""

    number: int
    name: str
    state: str
    operator: str
    stage: int
    nodes: tuple[NodeSnapshot, ...]

    @property
    def words(self) -> str:
        """Return its state, operator and stage, and the states of its nodes."""
        nodes = ", ".join(entry.words for entry in self.nodes)
        return f"{self.state}/{self.operator} at stage {self.stage} [{nodes}]"

    @property
    def at_rest(self) -> bool:
        """Return whether it has ended and no sub task runs."""
        states = {state for node in self.nodes for state, _ in node.sub_tasks}
        return self.state in ("FAILED", "SUCCEED") and "RUNNING" not in states


def read_dag(data: Any) -> DagSnapshot:
    """Return the dag in a response's data. Raises one of UNREADABLE."""
    if not 1 <= int(data["stage"]) <= len(data["nodes"]):
        raise ValueError("the dag has no node at its stage")
    nodes = (
        NodeSnapshot(
            id=str(node["id"]),
            name=str(node["name"]),
            state=str(node["state"]),
            operator=str(node["operator"]),
            sub_tasks=tuple((str(it["state"]), str(it["operator"])) for it in node["sub_tasks"]),
        )
        for node in data["nodes"]
    )
    return DagSnapshot(
        number=int(data["dag_id"]),
        name=str(data["name"]),
        state=str(data["state"]),
        operator=str(data["operator"]),
        stage=int(data["stage"]),
        nodes=tuple(nodes),
    )
