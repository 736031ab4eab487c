"""List the required responses that a run did not receive.

A run without findings proves little by itself: one with only 401 responses has none either. So
each operation has required statuses; they depend on the API, on whether the run writes, and on the
kind of an obshell's agent. They are those of the contracts, without those that need more than a
client: 403 (a second account), 405 (another method), 429 (too many requests), 500 (a defect).
Responses that only a quirk gives are not required either. The functions are pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from oceanmock.conformance.model import Api, MissingResponse, spec_for
from oceanmock.obshell.api import SINCE
from oceanmock.openapi import Operation, operations_of

Kind = Literal["agent", "cluster"]
"""The kind of an obshell's agent: one of a cluster (CLUSTER AGENT), or any other."""

OUT_OF_REACH: Final[Mapping[Kind, Mapping[str, frozenset[int]]]] = {
    "agent": {
        "getAllClusterDags": frozenset({200}),
        "getClusterUnfinishDags": frozenset({200}),
        "getObLastMaintenanceDag": frozenset({200, 404}),
    },
    "cluster": {},
}
"""The statuses that a kind of agent cannot give (obshell ob/agent/executor/task/dag.go)."""
ONE_WILL_DO: Final[Mapping[str, frozenset[int]]] = {
    "getObLastMaintenanceDag": frozenset({200, 404}),
    "getAgentLastMaintenanceDag": frozenset({200, 404}),
    "getAllAgentsLastMaintenanceDag": frozenset({200, 500}),
    "getAgentMainDags": frozenset({200, 500}),
}
"""The statuses of which one suffices: a server has had maintenance or it has not.

If not, the last two fail (obshell ob/agent/service/task/dag.go:155-161), which is a finding or a
known one.
"""
SENT_TO_LOG_IN: Final = frozenset({302, 303, 307})
"""The statuses that replace 401 where a proxy in front of an OCP authenticates."""
MAY_BE_EMPTY: Final = frozenset({"getSubtaskLog", "getFullSubTaskLogs"})
"""The operations without a required 404: the log of an unknown id is empty on some servers."""
UNGUARDED: Final = frozenset({"getAgentInfo", "getSecret", "getTime", "getGitInfo", "getStatus"})
"""The operations that need no credentials and always succeed."""

ACCEPTED: Final[Mapping[str, str]] = {
    "retryTask": "a FAILED task",
    "rollbackTask": "a FAILED task that may be rolled back",
    "retrySubtask": "a task with a FAILED subtask",
    "skipSubtask": "a task with a FAILED subtask",
    "cancelSubtask": "a task with a RUNNING subtask",
    "dagHandler": "a FAILED dag that can be retried, or a running one that can be cancelled",
    "nodeHandler": "a FAILED dag, the failed node of which can be passed",
}
"""The task or dag that must exist for an operation to be accepted."""
REFUSED: Final[Mapping[str, str]] = {
    "retryTask": "a task that is not FAILED",
    "rollbackTask": "a task that is not FAILED",
    "retrySubtask": "a task with a subtask that is not FAILED",
    "skipSubtask": "a task with a subtask that is not FAILED",
    "cancelSubtask": "a task with a subtask that does not run",
    "dagHandler": "a dag that is not FAILED",
    "nodeHandler": "a dag that is not FAILED",
}
"""The task or dag that must exist for an operation to be refused."""
WANTED: Final[Mapping[int, Mapping[str, str]]] = {200: ACCEPTED, 400: REFUSED}


@dataclass(frozen=True, slots=True)
class Needed:
    """An operation, and statuses of which at least one is required."""

    operation: Operation
    one_of: frozenset[int]

    @property
    def status(self) -> int:
        """Return the status to report; never one that replaces 401."""
        return min(self.one_of - SENT_TO_LOG_IN)


def missing(
    statuses: Mapping[str, Counter[int]],
    *,
    api: Api,
    writes: bool,
    version: str = "",
    kinds: Iterable[Kind] = (),
) -> list[MissingResponse]:
    """Return the required responses not received, in the contract's order.

    ``kinds`` are those of the targets; without any, an obshell counts as a plain agent.
    """
    observed = {
        (name, item) for name, counts in statuses.items() for item in counts if counts[item]
    }
    return [
        MissingResponse(needed.operation.id, needed.status, _hint(api, needed))
        for needed in required(api, writes=writes, version=version, kinds=kinds)
        if observed.isdisjoint((needed.operation.id, item) for item in needed.one_of)
    ]


def required(
    api: Api, *, writes: bool, version: str = "", kinds: Iterable[Kind] = ()
) -> Iterator[Needed]:
    """Yield the responses required of one target, or of several of these kinds together."""
    reachable = [OUT_OF_REACH[kind] for kind in kinds] or [OUT_OF_REACH["agent"]]
    for operation in operations_of(spec_for(api, version)):
        if not writes and operation.method != "GET":
            continue
        out = [item.get(operation.id, frozenset[int]()) for item in reachable]
        never = frozenset.intersection(*out) if api == "obshell" else frozenset()
        yield from _needed_of(api, operation, never)


def _needed_of(api: Api, operation: Operation, never: frozenset[int]) -> Iterator[Needed]:
    either = ONE_WILL_DO.get(operation.id, frozenset()) - never
    if either:
        yield Needed(operation, either)
    for status in sorted(_statuses_of(api, operation) - never - either):
        others = SENT_TO_LOG_IN if (api, status) == ("ocp", 401) else frozenset[int]()
        yield Needed(operation, frozenset({status}) | others)


def _statuses_of(api: Api, operation: Operation) -> frozenset[int]:
    """Return the required statuses; a list of obshell is 400 only by missing-header-is-400."""
    if operation.id in UNGUARDED:
        return frozenset({200})
    has_id = "{" in operation.path
    requested = {200, 401} | ({400, 404} if has_id else {400} if api == "ocp" else set())
    if operation.id in MAY_BE_EMPTY:
        requested.discard(404)
    return frozenset(requested & {int(status) for status in operation.statuses})


def _hint(api: Api, needed: Needed) -> str:
    operation, status = needed.operation, needed.status
    since = ".".join(map(str, SINCE.get(operation.id, ())))
    older = f" Before {since} obshell did not have it." if since else ""
    if status in WANTED and operation.id in WANTED[status]:
        expected = WANTED[status][operation.id]
        return f"Give the run {expected} to play with (--task).{older}"
    if status == 200 and "{" in operation.path:
        return f"{_TO_READ[api]}{older}"
    if status == 200:
        return f"No plain read was accepted: look at what was answered instead.{older}"
    return (
        f"The probes ask for a {status}: keep that phase, or see what they were answered. 429 "
        "wants a lower --rate; what stands in front of the server may have answered for it."
    )


_TO_READ: Final[Mapping[Api, str]] = {
    "ocp": "Let the target have a task to read, with all its parts.",
    "obshell": "Let the target have a dag of its own to read, with all its parts. What a FOLLOWER "
    "lists is its master's: ask that one.",
}
