"""Find the tasks or dags of a target, with their parts, by its lists.

It only reads. On obshell only the target's own ids are used: it would forward a request for another
agent's. At most ``MOST`` items are read in full, some of each state; those that the run may change
come first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any, Final
from urllib.parse import quote

from oceanmock.apis import api_named
from oceanmock.checks import Exchange
from oceanmock.conformance.guard import NotAllowed
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.model import Api
from oceanmock.observations import Observation

MOST: Final = 24
"""The most tasks or dags that are read in full."""
MOST_GIVEN: Final = 60
"""The most of those that the run may change, if they are more."""
ROWS: Final = 200
LISTS: Final[Mapping[str, tuple[str, ...]]] = {
    "ocp": (
        f"/api/v2/tasks/instances?size={ROWS}",
        f"/api/v2/tasks/instances?size={ROWS}&status=FAILED",
    ),
    "obshell": (
        "/api/v1/task/dag/unfinish?show_details=false",
        "/api/v1/task/dags/agent?show_details=false",
    ),
}
OF_A_CLUSTER: Final = "/api/v1/task/dags/ob?show_details=false"
"""Requested only from an agent that has OceanBase; others respond with 500."""
DETAIL: Final = {"ocp": "/api/v2/tasks/instances/{}", "obshell": "/api/v1/task/dag/{}"}


@dataclass(frozen=True, slots=True)
class Known:
    """An observed task, subtask, dag, node or sub task, with its parts."""

    kind: str
    id: str
    name: str
    state: str
    operation: str
    parts: tuple[Known, ...] = ()
    type: str = ""
    """The type of an OCP task, such as MANUAL."""

    def all(self) -> Iterator[Known]:
        """Yield itself and all its parts."""
        yield self
        for part in self.parts:
            yield from part.all()


@dataclass(frozen=True, slots=True)
class KnownIds:
    """The items of a target; ``tasks`` are whole tasks or dags, the changeable ones first."""

    api: Api
    tasks: tuple[Known, ...] = ()

    def of(self, kind: str) -> list[Known]:
        """Return the items of a kind, each id once."""
        found = {item.id: item for task in self.tasks for item in task.all() if item.kind == kind}
        return list(found.values())

    def ids(self, kind: str) -> list[str]:
        """Return the ids of a kind."""
        return [item.id for item in self.of(kind)]

    @property
    def failed(self) -> list[Known]:
        """Return the tasks or dags that are FAILED."""
        return [task for task in self.tasks if task.state == "FAILED"]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return each OCP task's id with that of each of its subtasks."""
        return [(task.id, part.id) for task in self.tasks for part in task.parts]


def find_ids(client: HttpClient) -> KnownIds:
    """Return the items that the target has now, by its lists and by reading each."""
    api = client.target.api
    lists = LISTS[api]
    if client.target.identity == "CLUSTER AGENT":
        lists = (*lists, OF_A_CLUSTER)
    rows = [row for path in lists for row in _tops(client, _read(client, path))]
    ids = dict.fromkeys([*client.options.tasks, *_of_each_state(rows)])
    looked_at = list(ids)[: max(MOST, min(MOST_GIVEN, len(client.options.tasks)))]
    found = [
        _whole(client, _read(client, DETAIL[api].format(quote(id, safe="")))) for id in looked_at
    ]
    return KnownIds(api, tuple(item for item in found if item is not None))


def _read(client: HttpClient, target: str) -> Exchange | None:
    """Return the exchange of a read; None if the id may not be sent to this target."""
    try:
        return client.send("GET", target)
    except NotAllowed:
        return None


def _tops(client: HttpClient, exchange: Exchange | None) -> list[Observation]:
    """Return the tasks or dags of a response."""
    if exchange is None or exchange.status != 200:
        return []
    found = api_named(client.target.api).parse.observations(exchange.operation, exchange.json())
    return [item for item in found if item.kind in ("task", "dag")]


def _of_each_state(rows: Iterable[Observation]) -> Iterator[str]:
    """Yield the ids of rows: one of each state, then a second one of each, and so on."""
    by_state: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_state[row.state].append(row.id)
    yield from filter(None, chain.from_iterable(zip_longest(*by_state.values())))


def _whole(client: HttpClient, exchange: Exchange | None) -> Known | None:
    """Return one whole task or dag; None if it does not exist."""
    if exchange is None or exchange.status != 200:
        return None
    body = exchange.json()
    found = list(api_named(client.target.api).parse.observations(exchange.operation, body))
    return replace(_with_parts(found[0], found), type=_type_in(body)) if found else None


def _type_in(body: Any) -> str:
    actual = body["data"].get("type")
    return actual if isinstance(actual, str) else ""


def _with_parts(top: Observation, found: list[Observation]) -> Known:
    below: Mapping[str, Any] = {"task": "subtask", "dag": "node", "node": "sub_task"}
    kind = below.get(top.kind)
    parts = [item for item in found if item.kind == kind and item.parent == top.id]
    return Known(
        kind=top.kind,
        id=top.id,
        name=top.name,
        state=top.state,
        operation=top.operation,
        parts=tuple(_with_parts(item, found) for item in parts),
    )
