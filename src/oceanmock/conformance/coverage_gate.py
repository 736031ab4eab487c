"""List the required responses that a run did not receive.

A run without findings proves little by itself: one with only 401 responses has none either. So
each operation has required statuses; they depend on the API, on whether the run writes, and on the
kind of an obshell's agent. They are those of the contracts, without those that need more than a
client: 403 (a second account), 405 (another method), 429 (too many requests), 500 (a defect).
Responses that only a quirk gives are not required either. Each API's ``probes.py`` has the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from oceanmock.apis import api_named
from oceanmock.conformance.model import Api, MissingResponse, contract_for
from oceanmock.observations import Required, TargetKind
from oceanmock.openapi import Operation

SENT_TO_LOG_IN: Final = frozenset({302, 303, 307})
"""The statuses that replace 401 where a proxy in front of a server authenticates."""


@dataclass(frozen=True, slots=True)
class Needed:
    """An operation, and statuses of which at least one is required."""

    operation: Operation
    one_of: frozenset[int]


def missing(
    statuses: Mapping[str, Counter[int]],
    *,
    api: Api,
    writes: bool,
    version: str = "",
    kinds: Iterable[TargetKind] = (),
) -> list[MissingResponse]:
    """Return the required responses not received, in the contract's order.

    ``kinds`` are those of the targets; without any, an obshell counts as a plain agent.
    """
    table = _table(api)
    return [
        MissingResponse(needed.operation.id, status, _hint(table, needed.operation, status))
        for needed in required(api, writes=writes, version=version, kinds=kinds)
        if not any(statuses.get(needed.operation.id, Counter())[code] for code in needed.one_of)
        for status in [min(needed.one_of - SENT_TO_LOG_IN)]
    ]


def required(
    api: Api, *, writes: bool, version: str = "", kinds: Iterable[TargetKind] = ()
) -> Iterator[Needed]:
    """Yield the responses required of one target, or of several of these kinds together."""
    table, contract = _table(api), contract_for(api, version)
    unreachable = [table.unreachable.get(kind, {}) for kind in [*kinds] or ["agent"]]
    for operation in contract.operations.values():
        if not writes and operation.method != "GET":
            continue
        name = operation.id
        never = frozenset.intersection(*(item.get(name, frozenset()) for item in unreachable))
        either = table.either.get(name, frozenset()) - never
        if either:
            yield Needed(operation, either)
        statuses = {200, 401, 400, 404} if "{" in operation.path else {200, 401, *table.of_lists}
        if contract.is_open(name):
            statuses = {200}
        elif name == table.log:
            statuses.discard(404)
        documented = {int(status) for status in operation.statuses}
        for status in sorted((statuses & documented) - never - either):
            is_login = status == 401 and table.may_redirect
            yield Needed(operation, frozenset({status, *(SENT_TO_LOG_IN if is_login else ())}))


def _table(api: Api) -> Required:
    result: Required = api_named(api).module("probes").REQUIRED
    return result


def _hint(table: Required, operation: Operation, status: int) -> str:
    since = ".".join(map(str, table.since.get(operation.id, ())))
    older = f" Before {since} obshell did not have it." if since else ""
    if operation.id in table.targets and status in (200, 400):
        target = table.targets[operation.id][status == 400]
        return f"Give the run {target} to play with (--task).{older}"
    if status == 200 and "{" in operation.path:
        return f"{table.to_read}{older}"
    if status == 200:
        return f"No plain read was accepted: look at what was answered instead.{older}"
    return (
        f"The probes ask for a {status}: keep that phase, or see what they were answered. 429 "
        "wants a lower --rate; what stands in front of the server may have answered for it."
    )
