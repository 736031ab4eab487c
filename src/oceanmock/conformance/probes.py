"""Send prepared requests: some that must be refused, hostile ones, and lists that must agree.

The requests are few, and the same in each run; each API's ``probes.py`` yields them. They are GET,
unless the run writes; then they include operations that a correct server refuses, on unknown ids
and on tasks that the run may change. A wrong password is tried once for each way to send one.

A probe's expectation holds for any server of its API; where public sources allow two responses, it
has both. The client's checkers see each response, too, so a probe states only how this request must
be answered. A response that does not depend on the request (too many requests, a proxy whose server
is down) is not checked.

A run without findings proves little by itself: one with only 401 responses has none either. So
each operation has required statuses; they depend on the API, on whether the run writes, and on the
kind of an obshell's agent. They are those of the contracts, without those that need more than a
client: 403 (a second account), 405 (another method), 429 (too many requests), 500 (a defect).
Responses that only a quirk gives are not required either.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Final

from oceanmock.api import Api
from oceanmock.apis import api_named
from oceanmock.checks import UNAVAILABLE, CheckResult, Contract, Exchange, Probe, Probes, RuleChecker, Subject, check
from oceanmock.conformance.guard import NotAllowed
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.model import Api as ApiName
from oceanmock.conformance.model import MissingResponse, contract_for
from oceanmock.conformance.rules import RULES
from oceanmock.conformance.target import detail_path
from oceanmock.observations import ItemTree, Observation, ProbeTarget, Required, TargetKind
from oceanmock.openapi import Operation

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""The statuses of a redirect to a login page, by a proxy in front of the server."""
MAX_READ: Final = 24
"""The most tasks or dags that are read in full."""
MAX_CHANGEABLE: Final = 60
"""The most of those that the run may change, if they are more."""
SENT_TO_LOG_IN: Final = frozenset({302, 303, 307})
"""The statuses that replace 401 where a proxy in front of a server authenticates."""


class Prober(RuleChecker):
    """A sender of probes over a client, which gets the findings; ``counts`` are the results."""

    def __init__(self, client: HttpClient, contract: Contract) -> None:
        super().__init__(contract, RULES)
        self.client = client

    def ask(self, probe: Probe) -> Exchange | None:
        """Return the exchange of a probe, checked against what the probe expects.

        None if it may not be sent, or if the target's version does not have the operation.
        """
        if self.contract.lacks(probe.method, probe.target.partition("?")[0]):
            return None
        try:
            exchange = self.client.send(
                probe.method,
                probe.target,
                headers=probe.headers,
                body=probe.body,
                auth=probe.auth,
                expects_refusal=probe.is_wrong,
            )
        except NotAllowed:
            return None
        if exchange.status is not None:
            subject = Subject(exchange, self.contract)
            self._report(subject, list(self._judge(probe, subject)))
        return exchange

    def run(self, probes: Probes) -> None:
        """Send probes, and report the results of comparing their responses."""
        response: Subject | None = None
        while True:
            try:
                item = probes.send(response)
            except StopIteration:
                return
            response = None
            if isinstance(item, Probe):
                exchange = self.ask(item)
                if exchange is not None and exchange.status is not None:
                    response = Subject(exchange, self.contract)
            else:
                self._report(item[0], [item[1]])

    def _report(self, subject: Subject, results: Sequence[CheckResult]) -> None:
        """Count results, and pass the failed ones to the client."""
        for finding in self.failures(subject, results):
            self.client.found(finding)

    def _judge(self, probe: Probe, subject: Subject) -> Iterator[CheckResult]:
        """Check that the response is expected; quirks and failures have rules of their own."""
        status = subject.status
        checks = api_named(self.contract.api).checks
        if status in UNAVAILABLE or status >= 500 or checks.is_explained(subject):
            return  # the client's checkers report a failure
        if probe.refused != "error.status" and status in (401, 403):
            return  # the run's credentials do not suffice
        allowed = " or ".join(str(item) for item in sorted(probe.statuses))
        wrong = f"{probe.what} is answered {status}; it should be {allowed}."
        is_of_access = probe.accepted.startswith("auth.")
        is_expected = status in probe.statuses or (is_of_access and status in REDIRECTS)
        if probe.accepted != "error.status":
            was_done = status < 300
            if is_of_access:
                was_done = status not in (401, 403) and isinstance(subject.body, dict)
            was_done = was_done and not is_expected
            yield check(probe.accepted, not was_done, "$", wrong)
            if was_done:
                return
        if probe.refused != "error.status" and 400 not in probe.statuses:
            yield check(probe.refused, status != 400, "$", wrong)
            if status == 400:
                return
        yield check("error.status", is_expected, "$", wrong)
        code, number = subject.error.get("errCode"), subject.error.get("code")
        if is_expected and status >= 400 and probe.codes and isinstance(code, str):
            wrong = f"{probe.what} is answered {code}; it should be {' or '.join(probe.codes)}."
            yield check("error.code", code in probe.codes, "$.error.errCode", wrong)
        if status == 400 and probe.other_codes and isinstance(number, int):
            wrong = f"{probe.what} is answered with the code {number}, which has another meaning."
            yield check("error.code", number not in probe.other_codes, "$.error.code", wrong)


def probe(client: HttpClient, items: tuple[ItemTree, ...]) -> Prober:
    """Send every probe, and return the checker that counted the results."""
    target, options = client.target, client.options
    prober = Prober(client, contract_for(target.api, target.version))
    probes = api_named(target.api).module("probes")
    context = ProbeTarget(
        items,
        auth=target.auth,
        read_only_auth=target.read_only_auth,
        writes=options.write,
        changeable=options.tasks,
        own_address=target.own_address,
        identity=target.identity,
    )
    with client.during("probes"):
        for id in probes.ids_of_nothing(context):
            client.guard.may_change(id)
        prober.run(probes.probes(context))
    return prober


# --- the items of a target ------------------------------------------------------------------------


def find_items(client: HttpClient) -> tuple[ItemTree, ...]:
    """Return the tasks or dags of a target with their parts, by its lists and by reading each.

    On obshell only the target's own ids are used: it would forward a request for another agent's.
    At most MAX_READ are read in full, some of each state; those that the run may change come first.
    """
    target, own = client.target, client.options.tasks
    api = api_named(target.api)
    lists = api.module("probes").list_targets(target.identity)
    rows = [row for path in lists for row in _read(client, api, path) if row.kind == api.root.name]
    by_state: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_state[row.state].append(row.id)
    mixed = filter(None, chain.from_iterable(zip_longest(*by_state.values())))  # of each state
    ids = [*dict.fromkeys([*own, *mixed])]
    trees = []
    for id in ids[: max(MAX_READ, min(MAX_CHANGEABLE, len(own)))]:
        items = _read(client, api, detail_path(target.api, id))
        if items:
            trees.append(_tree(api, items[0], items))
    return tuple(trees)


def _read(client: HttpClient, api: Api, path: str) -> list[Observation]:
    """Return the observations of a read; none if the id may not be sent to this target."""
    with suppress(NotAllowed):
        exchange = client.send("GET", path)
        if exchange.status == 200:
            return list(api.parse.observations(exchange.operation, exchange.json()))
    return []


def _tree(api: Api, top: Observation, items: Sequence[Observation]) -> ItemTree:
    """Return an item with its parts, which have the ids of their parents."""
    parts = [i for i in items if i.parent == top.id and api.kind(i.kind).parent == top.kind]
    return ItemTree(
        top.kind,
        top.id,
        top.name,
        top.state,
        top.operation,
        raw=top.raw,
        parts=tuple(_tree(api, part, items) for part in parts),
    )


# --- required responses ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Needed:
    """An operation, and statuses of which at least one is required."""

    operation: Operation
    one_of: frozenset[int]


def missing(
    statuses: Mapping[str, Counter[int]],
    *,
    api: ApiName,
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


def required(api: ApiName, *, writes: bool, version: str = "", kinds: Iterable[TargetKind] = ()) -> Iterator[Needed]:
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


def _table(api: ApiName) -> Required:
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
