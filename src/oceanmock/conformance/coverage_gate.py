"""What a run has to have seen before it may be called clean.

A run that finds nothing says little by itself: one that is answered 401 throughout finds nothing
either. So each operation has statuses that must have been seen; which they are hangs on the API, on
whether the run may write, and on what an obshell is. The statuses are those of the contracts, but
for what no client can bring about: 403 needs a second account, 405 another method, 429 too many
requests, 500 a mistake. What only a quirk answers is not asked for either, or a server that was
mended would be inadequate. The one rule: pure, from the statuses that were counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from oceanmock.conformance.model import Api, MissingResponse, spec_for
from oceanmock.obshell.versions import SINCE
from oceanmock.openapi import Operation, operations_of

Kind = Literal["agent", "cluster"]
"""What an obshell is: one of a cluster (CLUSTER AGENT), or any other agent."""

OUT_OF_REACH: Final[Mapping[Kind, Mapping[str, frozenset[int]]]] = {
    "agent": {
        "getAllClusterDags": frozenset({200}),
        "getClusterUnfinishDags": frozenset({200}),
        "getObLastMaintenanceDag": frozenset({200, 404}),
    },
    "cluster": {},
}
"""What an agent can not answer, for being what it is (obshell ob/agent/executor/task/dag.go)."""
ONE_WILL_DO: Final[Mapping[str, frozenset[int]]] = {
    "getObLastMaintenanceDag": frozenset({200, 404}),
    "getAgentLastMaintenanceDag": frozenset({200, 404}),
    "getAllAgentsLastMaintenanceDag": frozenset({200, 500}),
    "getAgentMainDags": frozenset({200, 500}),
}
"""There was maintenance or there was none: nobody can show both, nor choose.

Without any, the last two fail (obshell ob/agent/service/task/dag.go:155-161); that is a finding, or
a known one.
"""
SENT_TO_LOG_IN: Final = frozenset({302, 303, 307})
"""What stands for 401 where somebody else sees to who one is, in front of an OCP."""
MAY_BE_EMPTY: Final = frozenset({"getSubtaskLog", "getFullSubTaskLogs"})
"""The log of nothing is an empty one on some servers, so that 404 can not be asked for."""
UNGUARDED: Final = frozenset({"getAgentInfo", "getSecret", "getTime", "getGitInfo", "getStatus"})
"""What anybody may read, and nothing can be wrong with."""

ACCEPTED: Final[Mapping[str, str]] = {
    "retryTask": "a FAILED task",
    "rollbackTask": "a FAILED task that may be rolled back",
    "retrySubtask": "a task with a FAILED subtask",
    "skipSubtask": "a task with a FAILED subtask",
    "cancelSubtask": "a task with a RUNNING subtask",
    "dagHandler": "a FAILED dag that can be retried, or a running one that can be cancelled",
    "nodeHandler": "a FAILED dag, the failed node of which can be passed",
}
"""What has to be there for an operation to be accepted."""
REFUSED: Final[Mapping[str, str]] = {
    "retryTask": "a task that is not FAILED",
    "rollbackTask": "a task that is not FAILED",
    "retrySubtask": "a task with a subtask that is not FAILED",
    "skipSubtask": "a task with a subtask that is not FAILED",
    "cancelSubtask": "a task with a subtask that does not run",
    "dagHandler": "a dag that is not FAILED",
    "nodeHandler": "a dag that is not FAILED",
}
"""What has to be there for an operation to be refused."""
WANTED: Final[Mapping[int, Mapping[str, str]]] = {200: ACCEPTED, 400: REFUSED}


@dataclass(frozen=True, slots=True)
class Needed:
    """An operation, and statuses of which at least one has to be seen."""

    operation: Operation
    one_of: frozenset[int]

    @property
    def status(self) -> int:
        """The one that is told: what stands for another one is not."""
        return min(self.one_of - SENT_TO_LOG_IN)


def missing(
    statuses: Mapping[str, Counter[int]],
    *,
    api: Api,
    writes: bool,
    version: str = "",
    kinds: Iterable[Kind] = (),
) -> list[MissingResponse]:
    """What had to be seen and was not, in the contract's order; ``kinds`` are those of the targets.

    Without kinds, an obshell is taken for a plain agent.
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
    """All that has to be seen of a target, or of several of these kinds taken together."""
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
    """Of obshell's lists only a quirk is 400: that of a request without a security header."""
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
