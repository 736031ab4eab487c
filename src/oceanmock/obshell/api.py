"""obshell's vocabulary: its kinds, states, operators, routes and keys.

States and operators are those of github.com/oceanbase/obshell at 61ee147
(agent/engine/task/task.go); paths are the contract's. Its generic ids and versions follow below.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from oceanmock.api import Api, Kind, Route
from oceanmock.errors import CallerError
from oceanmock.obshell.gojson import INTEGER, Unreadable, parse_int, quoted

if TYPE_CHECKING:
    from oceanmock.obshell.agent import Address
    from oceanmock.openapi import Spec

State = Literal["PENDING", "READY", "RUNNING", "FAILED", "SUCCEED"]
Operator = Literal["RUN", "RETRY", "ROLLBACK", "CANCEL", "PASS"]
ClientOperator = Literal["ROLLBACK", "RETRY", "CANCEL", "PASS"]
"""An operator that a client can request of a dag; of a node it can only request PASS."""

Identity = Literal[
    "SINGLE",
    "MASTER",
    "FOLLOWER",
    "CLUSTER AGENT",
    "TAKE OVER MASTER",
    "TAKE OVER FOLLOWER",
    "SCALING OUT",
    "SCALING IN",
    "UNIDENTIFIED",
]
"""An agent's identity in its cluster (ob/agent/meta/agent_identity.go)."""

QuirkName = Literal[
    "refusal-is-never-sent",
    "never-maintained-is-500",
    "unreachable-owner-is-500",
    "foreign-obproxy-id-is-forwarded-too",
    "unknown-dag-is-asked-for-without-end",
    "cancelled-rollback-is-stuck",
    "body-id-overrules-path",
    "lost-race-is-500",
    "node-without-details-is-500",
    "forwarded-pass-loses-its-body",
    "logs-of-nothing-are-empty",
    "status-has-no-trace-id",
    "unheld-cluster-id-is-500",
    "unreadable-show-details-is-500",
    "body-that-is-no-object-is-eof",
    "node-body-says-dag-operator",
    "missing-header-is-400",
    "no-oceanbase-is-500",
    "undecryptable-body-is-500",
    "panic-is-dated-at-start",
]
QUIRK_NAMES: Final[tuple[QuirkName, ...]] = get_args(QuirkName)
"""Deviations of the real server from its own rules, described in openapi/obshell.yaml."""

PREFIX: Final = "/api/v1"  # the beginning of the API's paths (ob/agent/api/web/server.go:93-98)
TASK_PREFIX: Final = f"{PREFIX}/task"
INFO_PATH: Final = f"{PREFIX}/info"
STATUS_PATH: Final = f"{PREFIX}/status"
LOGIN_PATH: Final = f"{PREFIX}/login"
LOGOUT_PATH: Final = f"{PREFIX}/logout"
OBSERVER_INFO_PATH: Final = f"{PREFIX}/observer/info"
TEMPLATES_PATH: Final = f"{PREFIX}/tenant/support-templates"
OB_AVAILABLE: Final = 3
"""The obState of an agent that is connected to OceanBase (ob/agent/repository/db/oceanbase/status.go:20-24)."""
DAG_PATH: Final = f"{TASK_PREFIX}/dag/{{id}}"

_LIST_PATHS: Final = {
    "getAllClusterDags": "dags/ob",
    "getAllAgentDags": "dags/agent",
    "getObLastMaintenanceDag": "dag/maintain/ob",
    "getAgentLastMaintenanceDag": "dag/maintain/agent",
    "getAllAgentsLastMaintenanceDag": "dag/maintain/agents",
    "getUnfinishedDags": "dag/unfinish",
    "getClusterUnfinishDags": "dag/ob/unfinish",
    "getAgentUnfinishDags": "dag/agent/unfinish",
    "getAgentMainDags": "dag/agent/main_dags",
}


def _kind(
    name: str, detail: str, own_key: str, *, parts_key: str = "", parent: str = "", operations: tuple[str, ...] = ()
) -> Kind:
    return Kind(
        name=name,
        title=name.replace("_", " "),
        states=get_args(State),
        terminal_states=frozenset({"SUCCEED", "FAILED"}),
        shown_operations=get_args(Operator),
        operations=operations,
        detail=detail,
        parts_key=parts_key,
        own_key=own_key,
        parent=parent,
    )


API: Final = Api(
    name="obshell",
    title="obshell",
    package="oceanmock.obshell",
    prefix=PREFIX,
    kinds=(
        _kind("dag", "getDagDetail", "dag_id", parts_key="nodes", operations=get_args(ClientOperator)),
        _kind("node", "getNodeDetail", "node_id", parts_key="sub_tasks", parent="dag", operations=("PASS",)),
        _kind("sub_task", "getSubTaskDetail", "task_id", parent="node"),
    ),
    routes=(
        *(Route(id, f"{TASK_PREFIX}/{path}", lists="dag", shows="dag") for id, path in _LIST_PATHS.items()),
        Route("getDagDetail", DAG_PATH, {"dag": "id"}, shows="dag"),
        Route("getNodeDetail", f"{TASK_PREFIX}/node/{{id}}", {"node": "id"}, shows="node"),
        Route("getSubTaskDetail", f"{TASK_PREFIX}/sub_task/{{id}}", {"sub_task": "id"}, shows="sub_task"),
        Route("getFullSubTaskLogs", f"{TASK_PREFIX}/sub_task/{{id}}/logs", {"sub_task": "id"}),
        Route("getAgentInfo", INFO_PATH),
        Route("getSecret", f"{PREFIX}/secret"),
        Route("getTime", f"{PREFIX}/time"),
        Route("getGitInfo", f"{PREFIX}/git-info"),
        Route("getStatus", STATUS_PATH),
        Route("dagHandler", DAG_PATH, {"dag": "id"}, changes="dag", alias="operateDag"),
        Route("nodeHandler", f"{TASK_PREFIX}/node/{{id}}", {"node": "id"}, changes="node", alias="operateNode"),
    ),
    scripts_key="dags",
    switches_key="obshell_switches",
    state_key="state",
    operation_key="operator",
    start_key="start_time",
    end_key="end_time",
    version="4.5.0.0",
)


# A generic id combines a number with its store and agent. By its first character it is: 1 + number, an object in
# OceanBase; 2 (IPv4) or 3 (IPv6) + address + port + number, one in an agent's own database; 4 or 5, the same of an
# obproxy dag. An IPv4 address has ten decimal digits, an IPv6 address thirty-nine, a port five. Dags, nodes and sub
# tasks are numbered separately: one id means a dag on one route and a node on another. Facts:
# ob/agent/engine/task/task_dto.go:280-382, and the recorded errors of tests/data/obshell/lone.json.

IdKind = Literal["cluster", "local", "obproxy"]

_DIGITS: Final = {4: 10, 6: 39}
_KINDS: Final[Mapping[str, tuple[IdKind, int]]] = {
    "2": ("local", 4),
    "3": ("local", 6),
    "4": ("obproxy", 4),
    "5": ("obproxy", 6),
}
_PREFIXES: Final = {kind: prefix for prefix, kind in _KINDS.items()}


class InvalidGenericId(CallerError):
    """A text that is no generic id; ``old_message`` is that before 4.3.1 (agent/engine/task/task_dto.go at 424f28a)."""

    def __init__(self, text: str, why: str = "", *, old_message: str = "") -> None:
        super().__init__(f"Invalid ID: {text}: {why}" if why else f"Invalid ID: {text}")
        self.old_message: Final = old_message or f"invalid id: {text}"


@dataclass(frozen=True, slots=True)
class GenericId:
    """A parsed generic id; ``ip`` and ``port`` are its agent's, None and 0 for an object of the cluster."""

    kind: IdKind
    number: int
    ip: IPv4Address | IPv6Address | None = None
    port: int = 0

    def __str__(self) -> str:
        if self.ip is None:
            return f"1{self.number}"
        prefix = _PREFIXES[self.kind, self.ip.version]
        return f"{prefix}{int(self.ip):0{_DIGITS[self.ip.version]}}{self.port:05}{self.number}"


@lru_cache(maxsize=1024)
def local_id(number: int, *, ip: str, port: int, kind: IdKind = "local") -> str:
    """Return the generic id of an object of the agent at ``ip`` and ``port``."""
    return str(GenericId(kind, number, ip_address(ip), port))


def authority(agent: Address | GenericId) -> str:
    """Return address and port of an agent, or of an id's agent, as in a URL."""
    return f"[{agent.ip}]:{agent.port}" if ":" in str(agent.ip) else f"{agent.ip}:{agent.port}"


def parse_generic_id(text: str) -> GenericId:
    """Parse a generic id. Raises InvalidGenericId, in the server's order of checks."""
    if text[:1] == "1":
        if len(text) == 1:
            raise InvalidGenericId(text)
        return GenericId("cluster", _number(text, text[1:]))
    if text[:1] not in _KINDS:
        raise InvalidGenericId(text, "invalid generic id")
    kind, version = _KINDS[text[0]]
    port_at = 1 + _DIGITS[version]
    number_at = port_at + 5
    if len(text) <= number_at:
        raise InvalidGenericId(text)
    address, port = text[1:port_at], text[port_at:number_at]
    if not INTEGER.fullmatch(address):
        raise InvalidGenericId(text, "convert id to bigInt failed", old_message=f"convert id '{text}' to bigInt failed")
    value = abs(int(address))
    if (value.bit_length() + 7) // 8 != (4 if version == 4 else 16):  # Go drops leading zero bytes, then refuses
        raise InvalidGenericId(text, "convert id to ip failed", old_message=f"convert id '{text}' to ip failed")
    if not INTEGER.fullmatch(port):
        old = f"parse port failed: strconv.Atoi: parsing {quoted(port)}: invalid syntax"
        raise InvalidGenericId(text, "parse port failed", old_message=old)
    ip = IPv4Address(value) if version == 4 else IPv6Address(value)
    return GenericId(kind, _number(text, text[number_at:]), ip, int(port))


def _number(text: str, digits: str) -> int:
    try:
        return parse_int(digits)
    except Unreadable as why:
        raise InvalidGenericId(text, str(why), old_message=f"parse id failed: {why}") from None


# openapi/obshell.yaml is the contract of 4.5.0.0. What older versions lack is read in the code of their tags
# (agent/api/task_handler.go, agent/errors/errorcode.go), and listed there as ``x-versions``. None of them was run.

Version = tuple[int, ...]

SINCE: Final[Mapping[str, Version]] = {
    "getAllClusterDags": (4, 3, 0),
    "getAllAgentDags": (4, 3, 0),
    "getAgentMainDags": (4, 3, 0),
    "getFullSubTaskLogs": (4, 3, 0),
    "nodeHandler": (4, 3, 1),
    TEMPLATES_PATH: (4, 3, 2),
    LOGIN_PATH: (4, 4, 0),
    LOGOUT_PATH: (4, 4, 0),
    OBSERVER_INFO_PATH: (4, 4, 1),
}
"""Operations, and the paths of others, that older versions do not have."""
INFO_SINCE: Final[Mapping[str, Version]] = {
    "obVersion": (4, 2, 4),
    "supportedAuth": (4, 2, 5),
    "isObproxyAgent": (4, 2, 6),
    "security": (4, 2, 6),
    "architecture": (4, 3, 0),
}
"""Keys of /api/v1/info that older versions do not have."""
OBPROXY_SINCE: Final[Version] = (4, 2, 6)
"""Since when an agent has a header of its own, and an id one spelling."""
ERR_CODES_SINCE: Final[Version] = (4, 3, 1)
SQL_PORT_SINCE: Final[Version] = (4, 3, 0)
LONG_KEYS_SINCE: Final[Version] = (4, 4, 2)

NEW_KEYS: Final = ("errCode", "maintenance_type", "maintenance_key", *INFO_SINCE)
"""Keys of errors, dags and /api/v1/info that 4.2.3 does not have."""
FIRST_VERSION: Final[Version] = (4, 2, 3)
CONTRACT_VERSIONS: Final = tuple(sorted({FIRST_VERSION, *SINCE.values(), *INFO_SINCE.values(), LONG_KEYS_SINCE}))
"""The versions that changed something; the last one is current."""


@lru_cache(maxsize=64)
def contract_version(version: str) -> Version:
    """Return the one of CONTRACT_VERSIONS for ``4.3.0.1`` or ``4.5.0.0-42026``, the last for a text without numbers."""
    numbers = tuple(map(int, re.findall(r"[0-9]{1,9}", version.partition("-")[0])))
    if not numbers:
        return CONTRACT_VERSIONS[-1]
    return max((e for e in CONTRACT_VERSIONS if e <= numbers), default=CONTRACT_VERSIONS[0])


def has_operation(version: Version, operation: str) -> bool:
    return SINCE.get(operation, ()) <= version


@lru_cache(maxsize=len(CONTRACT_VERSIONS))
def spec_of(version: Version) -> Spec:
    """Return the contract of a version; older ones have fewer routes and keys."""
    if version >= ERR_CODES_SINCE:
        return API.spec
    old: dict[str, Any] = _part_of(API.spec, version)
    old["paths"] = {path: item for path, item in old["paths"].items() if {"get", "post"} & item.keys()}
    return old


def _part_of(node: Any, version: Version) -> Any:
    """Return a part of the contract as of a version: without later operations, links to them and required keys."""
    if isinstance(node, list):
        return [_part_of(item, version) for item in node if item not in NEW_KEYS]
    if not isinstance(node, dict):
        return node
    ids = {key: value.get("operationId", "") for key, value in node.items() if isinstance(value, dict)}
    return {key: _part_of(value, version) for key, value in node.items() if has_operation(version, ids.get(key, ""))}
