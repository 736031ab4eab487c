"""obshell's words: its kinds, states, operators, routes and keys.

States and operators are those of github.com/oceanbase/obshell at 61ee147
(agent/engine/task/task.go); paths are the contract's.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from oceanmock.api import Api, Kind, Route

State = Literal["PENDING", "READY", "RUNNING", "FAILED", "SUCCEED"]
Operator = Literal["RUN", "RETRY", "ROLLBACK", "CANCEL", "PASS"]
ClientOperator = Literal["ROLLBACK", "RETRY", "CANCEL", "PASS"]
"""An operator that a client can request of a dag; of a node only PASS."""

ChangeId = Literal["dagHandler", "nodeHandler"]
ListId = Literal[
    "getAllClusterDags",
    "getAllAgentDags",
    "getObLastMaintenanceDag",
    "getAgentLastMaintenanceDag",
    "getAllAgentsLastMaintenanceDag",
    "getUnfinishedDags",
    "getClusterUnfinishDags",
    "getAgentUnfinishDags",
    "getAgentMainDags",
]
OperationId = Literal[
    ListId,
    "getDagDetail",
    "getNodeDetail",
    "getSubTaskDetail",
    "getFullSubTaskLogs",
    "getAgentInfo",
    "getSecret",
    "getTime",
    "getGitInfo",
    "getStatus",
    ChangeId,
]
"""The operations of openapi/obshell.yaml."""

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
"""Deviations of the server from its own rules, which openapi/obshell.yaml describes."""

PREFIX: Final = "/api/v1"
"""The beginning of the API's paths (ob/agent/api/web/server.go:93-98)."""
TASK_PREFIX: Final = f"{PREFIX}/task"
INFO_PATH: Final = f"{PREFIX}/info"
STATUS_PATH: Final = f"{PREFIX}/status"
DAG_PATH: Final = f"{TASK_PREFIX}/dag/{{id}}"

_TERMINAL: Final = frozenset({"SUCCEED", "FAILED"})
_LISTS: Final = {
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


def _of(kind: str, id: OperationId, path: str = "", *, changes: str = "", shows: str = "") -> Route:
    return Route(
        id, f"{TASK_PREFIX}/{kind}/{{id}}{path}", {kind: "id"}, changes=changes, shows=shows
    )


API: Final = Api(
    name="obshell",
    title="obshell",
    package="oceanmock.obshell",
    prefix=PREFIX,
    kinds=(
        Kind(
            name="dag",
            title="dag",
            states=get_args(State),
            terminal_states=_TERMINAL,
            shown_operations=get_args(Operator),
            operations=get_args(ClientOperator),
            detail="getDagDetail",
            parts_key="nodes",
        ),
        Kind(
            name="node",
            title="node",
            states=get_args(State),
            terminal_states=_TERMINAL,
            shown_operations=get_args(Operator),
            operations=("PASS",),
            detail="getNodeDetail",
            parts_key="sub_tasks",
            parent="dag",
        ),
        Kind(
            name="sub_task",
            title="sub task",
            states=get_args(State),
            terminal_states=_TERMINAL,
            shown_operations=get_args(Operator),
            detail="getSubTaskDetail",
            parent="node",
        ),
    ),
    routes=(
        *(
            Route(id, f"{TASK_PREFIX}/{path}", lists="dag", shows="dag")
            for id, path in _LISTS.items()
        ),
        _of("dag", "getDagDetail", shows="dag"),
        _of("dag", "dagHandler", changes="dag"),
        _of("node", "getNodeDetail", shows="node"),
        _of("node", "nodeHandler", changes="node"),
        _of("sub_task", "getSubTaskDetail", shows="sub_task"),
        _of("sub_task", "getFullSubTaskLogs", "/logs"),
        Route("getAgentInfo", INFO_PATH),
        Route("getSecret", f"{PREFIX}/secret"),
        Route("getTime", f"{PREFIX}/time"),
        Route("getGitInfo", f"{PREFIX}/git-info"),
        Route("getStatus", STATUS_PATH),
    ),
    scripts_key="dags",
    switches_key="obshell_switches",
    state_key="state",
    operation_key="operator",
    end_key="end_time",
    version="4.5.0.0",
)
