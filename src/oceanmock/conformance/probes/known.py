"""What is there to ask about: the tasks or dags of a target, found by listing, with their parts.

Only reads. On obshell only ids of the target's own are kept: another agent's it would ask for. Of
many only so many are looked at, of each state some; those that a run may play with come first.
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
"""So many tasks or dags are looked at in full."""
MOST_GIVEN: Final = 60
"""And so many of those that were given, if they are more."""
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
"""Asked only of an agent that holds OceanBase; others fail at it."""
DETAIL: Final = {"ocp": "/api/v2/tasks/instances/{}", "obshell": "/api/v1/task/dag/{}"}


@dataclass(frozen=True, slots=True)
class Known:
    """A task, subtask, dag, node or sub task that was there, as it was shown, with its parts."""

    kind: str
    id: str
    name: str
    state: str
    operation: str
    parts: tuple[Known, ...] = ()
    type: str = ""
    """Of a task of OCP: who started it."""

    def all(self) -> Iterator[Known]:
        """Itself, and all that belongs to it."""
        yield self
        for part in self.parts:
            yield from part.all()


@dataclass(frozen=True, slots=True)
class KnownIds:
    """All that was found; ``tasks`` are tasks or dags, whole, those to play with first."""

    api: Api
    tasks: tuple[Known, ...] = ()

    def of(self, kind: str) -> list[Known]:
        """Everything of a kind, each id once."""
        found = {item.id: item for task in self.tasks for item in task.all() if item.kind == kind}
        return list(found.values())

    def ids(self, kind: str) -> list[str]:
        """The ids of everything of a kind."""
        return [item.id for item in self.of(kind)]

    @property
    def failed(self) -> list[Known]:
        """The tasks or dags that have failed."""
        return [task for task in self.tasks if task.state == "FAILED"]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each task of OCP with each of its subtasks."""
        return [(task.id, part.id) for task in self.tasks for part in task.parts]


def find_ids(client: HttpClient) -> KnownIds:
    """The ids that the target has now, by its lists and by what each shows of itself."""
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
    """The answer to a read; None where the id may not be sent to this target."""
    try:
        return client.send("GET", target)
    except NotAllowed:
        return None


def _tops(client: HttpClient, exchange: Exchange | None) -> list[Observation]:
    """The tasks or dags of an answer."""
    if exchange is None or exchange.status != 200:
        return []
    found = api_named(client.target.api).parse.observations(exchange.operation, exchange.json())
    return [item for item in found if item.kind in ("task", "dag")]


def _of_each_state(rows: Iterable[Observation]) -> Iterator[str]:
    """The ids of rows: one of each state, then a second one of each, and so on."""
    by_state: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_state[row.state].append(row.id)
    yield from filter(None, chain.from_iterable(zip_longest(*by_state.values())))


def _whole(client: HttpClient, exchange: Exchange | None) -> Known | None:
    """What one whole task or dag shows; None for one that is not there."""
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
