"""Describe obshell as the target of a conformance run: how to recognize, identify and address it.

An id of an obshell can name another agent, which the target would then ask
(obshell ob/agent/executor/task/dag.go:72-88), so a run has to know which addresses a request names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

import orjson

from oceanmock.obshell.api import INFO_PATH, TASK_PREFIX
from oceanmock.obshell.ids import GenericId, InvalidGenericId, local_id, parse_generic_id

Address = tuple[str, int]

PREFLIGHT_PATH: Final = INFO_PATH
"""The first request of a run."""
IS_PREFLIGHT_OPEN: Final = True
"""Whether the first request is answered without credentials."""
READ_PATH: Final = f"{TASK_PREFIX}/dag/agent/unfinish"
"""A read that needs credentials."""
FAILED_PATH: Final = f"{TASK_PREFIX}/dag/unfinish?show_details=false"
"""A list with all FAILED dags."""
NUMBER_KEY: Final = "dag_id"
"""The key of a dag's number; a newer dag has a higher one."""
ACTIVE_STATES: Final = frozenset({"RUNNING"})
"""States of sub tasks that time changes even if their dag has ended."""
ID_TYPE: Final = str
"""The type of ids in the contract's paths."""
CREDENTIALS_HINT: Final = "--password for root's, --agent-password for the agent's own"
CLUSTER_AGENT: Final = "CLUSTER AGENT"
NUMBER_OF_NOTHING: Final = 99_999_999


def is_server(body: Mapping[str, Any]) -> bool:
    """Return whether a response to the first request is this API's."""
    data = body.get("data")
    return isinstance(data, dict) and bool({"identity", "version"} & data.keys())


def identify(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return version, identity and address. Raises LookupError, TypeError or ValueError."""
    data = body["data"]
    return {
        "version": str(data.get("version", "")),
        "identity": str(data.get("identity", "")),
        "own_address": (str(data["ip"]), int(data["port"])),
    }


def own_id(script: Any, address: Address | None) -> str | None:
    """Return the id that a scenario's dag has on the agent at an address."""
    if script.id is None:
        return None
    if script.scope == "cluster":
        return str(GenericId("cluster", int(script.id)))
    if address is None:
        return None
    kind: Any = "obproxy" if script.maintenance == "obproxy" else "local"
    return local_id(int(script.id), ip=address[0], port=address[1], kind=kind)


def list_path(script: Any) -> str:
    """Return the path of a list that contains a scenario's dag."""
    store = "ob" if script.scope == "cluster" else "agent"
    return f"{TASK_PREFIX}/dags/{store}?show_details=true"


def unknown_ids(address: Address | None, identity: str) -> list[str | int]:
    """Return ids of nothing, which the agent looks up itself."""
    ids: list[str | int] = []
    if address is not None:
        ids.append(local_id(NUMBER_OF_NOTHING, ip=address[0], port=address[1]))
    if address is None or identity == CLUSTER_AGENT:
        ids.append(str(GenericId("cluster", NUMBER_OF_NOTHING)))
    return ids


def addresses_in(path: str, body: bytes) -> Iterator[Address]:
    """Yield the agents' addresses in the path and in the body's ``id``, whose case Go ignores."""
    try:
        data = orjson.loads(body)
    except ValueError:
        data = None
    members = data.items() if isinstance(data, dict) else ()
    ids = [value for key, value in members if key.lower() == "id" and isinstance(value, str)]
    for text in (*path.split("/"), *ids):
        try:
            id = parse_generic_id(unquote(text))
        except InvalidGenericId:
            continue
        if id.ip is not None:
            yield str(id.ip), id.port


def equivalent_ids(id: str) -> set[str]:
    """Return an id and its canonical form."""
    try:
        return {id, str(parse_generic_id(id))}
    except InvalidGenericId:
        return {id}


# --- statuses that schemathesis has to accept -----------------------------------------------------

_UNDECIDED: Final[tuple[int | str, ...]] = (429, "5xx")
"""A server that is busy or broken neither accepts nor refuses; other rules check that."""
SCHEMATHESIS_CHECKS: Final[Mapping[str, Any]] = {
    "negative_data_rejection": {"expected-statuses": [400, 401, 404, *_UNDECIDED]},
    "positive_data_acceptance": {"expected-statuses": [200, 401, *_UNDECIDED]},
    # gin responds 404, which this check accepts for paths with an id alone.
    "unsupported_method": {"enabled": False},
}
"""The statuses of a refusal; schemathesis' own defaults are wider."""
SCHEMATHESIS_OPERATIONS: Final = (
    ({"include-name-regex": r"^GET .*\{id\}"}, [200, 401, 404, *_UNDECIDED]),
    # The lock may be free, …
    ({"include-path-regex": r"/maintain/(ob|agent)$"}, [200, 401, 404, *_UNDECIDED]),
    # … and the agent in no cluster.
    ({"include-path-regex": r"/dags/ob$|/dag/ob/unfinish$"}, [200, 400, 401, *_UNDECIDED]),
    ({"include-method": "POST"}, [200, 400, 401, 403, 404, *_UNDECIDED]),
)
"""Operations whose valid requests may be refused because of a state the contract cannot express."""
UNCERTAIN_VALUE: Final = ""
