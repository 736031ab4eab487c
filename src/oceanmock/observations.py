"""The observation: one item, such as a task or a node, as one response shows it.

Each API's ``parse.py`` reads observations from response bodies of any shape, and never raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Observation:
    """One item of one response.

    ``operation`` is empty where the response leaves it out: a task in OCP's list has none.
    ``parent`` is the id of the task, dag or node that contains it, ``root`` that of the task or
    dag; both are empty where the item came alone. ``path`` is its JSON path, ``raw`` its JSON.
    """

    kind: str
    """task or subtask; dag, node or sub_task."""
    id: str
    name: str
    state: str
    operation: str
    parent: str = ""
    root: str = field(default="", compare=False)
    path: str = field(default="$", compare=False)
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def label(self) -> tuple[str, str]:
        """Return state and operation."""
        return self.state, self.operation


def id_text(value: Any) -> str:
    """Return an id, a number or a text, as a text; an empty one for anything else."""
    is_id = isinstance(value, int | str) and not isinstance(value, bool)
    return str(value) if is_id else ""


def text_at(body: Mapping[str, Any], key: str) -> str:
    """Return a text of an object, or an empty one."""
    value = body.get(key)
    return value if isinstance(value, str) else ""
