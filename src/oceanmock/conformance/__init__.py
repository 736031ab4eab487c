"""Check a server against its API's contract, and its tasks against their state machines.

This module has the values of a run: its options, its result, the events while it runs, the guard that decides which
requests may be sent, and the masking of secrets. Nothing here sends, checks or prints. Spans are nanoseconds.
"""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, unquote

from oceanmock.checks import CheckResult, Contract, Exchange, HeaderFields, Phase, fields_of
from oceanmock.clock import SECOND, wall_now
from oceanmock.errors import EnvironmentProblem, OceanmockError
from oceanmock.masking import MASK, is_secret, mask_body, mask_headers, mask_query, mask_text
from oceanmock.observations import ApiName as ApiName
from oceanmock.observations import Target, items_in_response, requested_operation
from oceanmock.openapi import Operation, Spec, operations_at
from oceanmock.text import format_instant

if TYPE_CHECKING:
    from oceanmock.conformance.baseline import Known
    from oceanmock.scenario import BaseScenario

NEEDS: Final = ("hypothesis", "requests", "schemathesis")


def check_extra() -> None:
    """Raise EnvironmentProblem if a package of the extra ``conform`` is not installed."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentProblem(
            f"a conformance run needs {' and '.join(missing)}, which comes with an extra: "
            'pip install "oceanmock[conform]"'
        )


PHASES: Final[tuple[Phase, ...]] = ("probes", "examples", "coverage", "fuzzing", "stateful", "machine")
"""The phases that can be selected. The others follow from the target: preflight, story and passive."""

PASSED: Final = 0  # the exit code of a run without findings that received all required responses
FAILED: Final = 1  # there are findings that are in no baseline
UNTESTABLE: Final = 2
"""The target is down, or is not that API, or refuses the credentials; or the command is wrong."""
INCOMPLETE: Final = 3  # there are no findings, but required responses are missing, or thresholds are not met
INTERRUPTED: Final = 130  # the run was stopped by a signal; the findings until then are reported

MAX_REQUESTS: Final = 20_000
MAX_TIME: Final = 30 * 60 * SECOND
"""The default bounds of a run against a real server."""

NO_RESPONSE: Final = 0  # the key of requests without a response among counts of statuses


@dataclass(frozen=True, slots=True)
class MissingResponse:
    """A required status of an operation that was not received; ``hint`` says how the next run can receive it."""

    operation: str
    status: int
    hint: str


@dataclass(frozen=True, slots=True)
class NotAsked:
    """Requests that a run did not send, and the reason."""

    what: str
    why: str


TransitionCounts = Counter[tuple[str, str, str]]
"""The count of each observed transition: a kind (task, subtask, dag …), the labels before and after."""


@dataclass(frozen=True, slots=True)
class StoryStep:
    """A step of a story that was replayed."""

    text: str
    outcome: Literal["skipped", "passed", "failed", "not reached"]
    detail: str = ""
    took: int = 0


@dataclass(slots=True)
class Result:
    """The result of a run; its client and its checkers fill it in.

    ``target`` is the URL without credentials, or the checked part of the mock; ``version`` is the one that the target
    states. ``command`` repeats the run, without its passwords. ``started`` is in RFC 3339, UTC. ``statuses`` has an
    entry for every operation. ``checked`` counts checks by rule and operation. ``findings`` has each finding that no
    baseline accepts, once; ``known`` has those that the ``baselines`` accept, and ``stale`` their entries that did not
    occur. ``changes`` are the requests that may have changed the target. ``labels`` counts observations by kind and
    label. ``phases`` has the duration of each phase, ``latencies`` those of the responses by operation. If the run was
    ``interrupted``, ``missing`` means nothing; ``stopped`` is why it ended early, or "". ``shortfalls`` are sentences
    on thresholds that were not met. ``left`` has the last state of each task or dag that the run changed.
    """

    target: str
    api: ApiName
    version: str = ""
    seed: int = 0
    command: str = ""
    started: str = field(default_factory=lambda: format_instant(wall_now(), digits=0))
    writes: bool = False
    took: int = 0
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    checked: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[CheckResult] = field(default_factory=list)
    known: list[CheckResult] = field(default_factory=list)
    stale: list[Known] = field(default_factory=list)
    missing: list[MissingResponse] = field(default_factory=list)
    changes: list[Exchange] = field(default_factory=list)
    transitions: TransitionCounts = field(default_factory=Counter)
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    stories: dict[str, list[StoryStep]] = field(default_factory=dict)
    phases: dict[str, int] = field(default_factory=dict)
    latencies: dict[str, list[int]] = field(default_factory=dict)
    request_count: int = 0
    baselines: list[str] = field(default_factory=list)
    not_asked: list[NotAsked] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    stopped: str = ""
    shortfalls: list[str] = field(default_factory=list)

    @property
    def rules(self) -> Counter[str]:
        """Return how often each rule was checked."""
        counts = Counter[str]()
        for (rule, _), count in self.checked.items():
            counts[rule] += count
        return counts

    @property
    def exit_code(self) -> int:
        """Return PASSED, FAILED, INCOMPLETE or INTERRUPTED."""
        if self.interrupted:
            return INTERRUPTED
        broken = self.findings or any(step.outcome == "failed" for steps in self.stories.values() for step in steps)
        return FAILED if broken else INCOMPLETE if self.missing or self.shortfalls or self.stopped else PASSED


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """A phase begins."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Waiting:
    """The target does not respond yet, because of ``why``; the run waits for ``left`` more nanoseconds."""

    url: str
    why: str
    left: int


Event = PhaseStarted | Exchange | CheckResult | Waiting
"""A phase that begins, a complete exchange, the first finding with its key, or a wait for the target."""
Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a run.

    ``tasks`` are the ids of the tasks or dags that it may change. ``rate`` is in requests per second, 0 for no limit.
    ``story_ids`` are pairs of an id or name in a story and the id at the target. ``timeout`` limits each wait of a
    story or a walk. Requests of ``excluded`` operations are not sent. Stories begin at the step ``first`` (None: the
    first step that fits), and start tasks if the run may ``submit``. ``max_requests`` and ``max_time`` are 0 for no
    bound; the requests that bring a changed task to its end are beyond them. ``cancel_rollback`` allows to cancel a
    rollback although nothing can undo that, ``unknown_ids`` to send unknown ids to a target that they may harm.
    """

    write: bool = False
    tasks: tuple[str, ...] = ()
    seed: int = 0
    rate: float = 0.0
    phases: frozenset[Phase] = frozenset(PHASES)
    max_examples: int = 5
    stories: tuple[BaseScenario, ...] = ()
    story_ids: tuple[tuple[str, str], ...] = ()
    timeout: int = 60_000_000_000
    excluded: frozenset[str] = frozenset()
    first: int | None = None
    submit: bool = False
    max_requests: int = 0
    max_time: int = 0
    cancel_rollback: bool = False
    unknown_ids: bool = False


def spec_for(api: ApiName, version: str = "") -> Spec:
    """Return the contract that a version of a server must keep; the newest without a version."""
    from oceanmock.apis import api_named  # noqa: PLC0415 (--help reads this module)

    record = api_named(api)
    versions = record.module("api")
    spec: Spec = versions.spec_of(versions.contract_version(version)) if record.version else record.spec
    return spec


def contract_for(api: ApiName, version: str = "") -> Contract:
    """Return the same contract in the form that checks read."""
    return Contract(api, spec_for(api, version), version=version, newest=spec_for(api))


SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # methods that change nothing (RFC 9110, 9.2.1)
REWRITING_HEADERS: Final = ("transfer-encoding", "x-http-method", "x-http-method-override", "x-method-override")
"""Headers by which some servers change the request's method or the end of its body."""
ANY_KIND: Final = "any"
MIN_SECRET: Final = 8  # the shortest secret that is masked within texts; a shorter one may be a word


class BoundReached(KeyboardInterrupt):
    """The run has reached a bound. It is a KeyboardInterrupt, as libraries in between let that pass."""


class NotAllowed(OceanmockError):
    """A request that this run must not send; no byte of it was sent."""


class Guard:
    """Decide which requests a run may send to its target.

    A run that only reads sends GET. A run that writes may change the tasks of its options, the parts that their own
    responses show, and registered ids, such as unknown ones. Never sent are: a request that names the address of
    another agent, since the target would forward it; one with an id that no response has shown, while ``spared`` says
    why; and one that does harm which nothing undoes (``never_during`` of the API). A request that no rule allows is
    refused. ``submits`` are the methods and paths of requests that may start a task; ``allows_everything`` is for a
    mock that nobody else uses.
    """

    def __init__(self, target: Target, options: Options, operations: Sequence[Operation]) -> None:
        from oceanmock.apis import api_named  # noqa: PLC0415 (--help reads this module)

        self._api = api_named(target.api)
        self._server = self._api.conformance
        self._operations = operations
        self._writes = options.write
        self._own_address: tuple[str, int] | None = None
        if target.own_address is not None:
            with suppress(ValueError):  # an id has no host names
                self._own_address = str(ip_address(target.own_address[0])), target.own_address[1]
        self.spared = "" if options.unknown_ids else target.spared
        self._shown = set[tuple[str, str]]()
        self._harmful, self._before_it = ("", "") if options.cancel_rollback else self._server.never_during
        self._exposed = set[str]()
        self.allows_everything = target.is_ours
        self.submits = set[tuple[str, str]]()
        self._ids = {(self._api.root.name, str(id)) for id in options.tasks}

    def may_change(self, id: str | int, *, kind: str = ANY_KIND) -> None:
        """Allow changes to an id of a kind; ``ANY_KIND``, for unknown ids, allows any method."""
        self._ids.add((kind, str(id)))

    def check(self, method: str, target: str, body: bytes) -> None:
        """Raise NotAllowed for a request that must not be sent; ``target`` is path and query."""
        path = target.partition("?")[0]
        refused = f"{method} {path} was not sent:"
        for ip, port in self._server.addresses_in(path, body):
            if self._own_address != (str(ip_address(ip)), port):
                host = f"[{ip}]" if ":" in ip else ip
                raise NotAllowed(f"{refused} the id names the agent {host}:{port}, which the target would ask.")
        if self.spared and (id := self.unknown_id(method, path)):
            raise NotAllowed(f"{refused} no response has shown {id}, and {self.spared} --unknown-ids allows it.")
        if not self._writes and method != "GET":
            raise NotAllowed(f"{refused} this run only reads. With --write it may change the tasks of --task.")
        if method in SAFE or self.allows_everything or (method, path) in self.submits:
            return
        operation, ids = self._read(method, path)
        if not ids:
            raise NotAllowed(f"{refused} it names no task that may be changed.")
        if operation is None and any((ANY_KIND, id) not in self._ids for _, id in ids):
            raise NotAllowed(f"{refused} it is no operation of the contract, so its effect is unknown.")
        requested = requested_operation(self._api, operation.id if operation else "", fields_of(body))
        for kind, id in ids:
            if not self._may_change(kind, id) and kind == self._api.root.name:
                raise NotAllowed(f"{refused} this run may not change {kind} {id!r}. --task {id} allows it.")
            if not self._may_change(kind, id):
                raise NotAllowed(f"{refused} {kind} {id!r} is no part of a task that this run may change.")
            if id in self._exposed and requested == f"{self._api.root.name}.{self._harmful}":
                raise NotAllowed(f"{refused} {id} is being rolled back, or was in part: it could never be ended.")

    def check_headers(self, headers: Iterable[tuple[str, str]], body: bytes, *, host: str) -> None:
        """Raise NotAllowed for headers that turn the request into another one.

        The body must have one unambiguous end, or the server may read its rest as a second request. Host and method
        must be those that were checked.
        """
        values = {name.lower(): value for name, value in headers}
        length = values.get("content-length", "")
        odd: list[str] = [name for name in REWRITING_HEADERS if name in values]
        odd += ["content-length"] if length and length != str(len(body)) else []
        odd += ["host"] if values.get("host", host).lower() != host.lower() else []
        if odd:
            raise NotAllowed(f"a request was not sent: its header {odd[0]} makes it another request.")

    def learn(self, exchange: Exchange) -> None:
        """Record the ids that a response shows; allow changes to the parts of a task that may be changed."""
        parts = set[tuple[str, str]]()
        for item in items_in_response(self._api, exchange):
            self._shown.add((item.kind, item.id))
            if item.kind != self._api.root.name:
                parts.add((item.kind, item.id))
            elif any(it.operation == self._before_it and not it.is_terminal for it in (item, *item.parts)):
                self._exposed.add(item.id)  # its rollback has not ended, or has failed
            elif item.parts:  # a response without parts does not show whether one is still rolled back
                self._exposed.discard(item.id)
        _, ids = self._read(exchange.method, exchange.target.partition("?")[0])
        requested = requested_operation(self._api, exchange.operation, fields_of(exchange.request_body))
        is_refused = 400 <= (exchange.status or 0) < 500
        if self._before_it and requested == f"{self._api.root.name}.{self._before_it}" and not is_refused:
            self._exposed.update(id for _, id in ids)
        if self._writes and ids and all(self._may_change(kind, id) for kind, id in ids):
            self._ids |= parts

    def unknown_id(self, method: str, path: str) -> str:
        """Return the first id in a path that the server looks up and that no response has shown, or ""."""
        shown, same = self._shown, self._server.equivalent_ids
        known = {id for kind, id in self._read(method, path)[1] if any((kind, item) in shown for item in same(id))}
        ids = map(unquote, path.split("/"))
        return next((id for id in ids if id not in known and self._server.is_looked_up(id)), "")

    def _may_change(self, kind: str, id: str) -> bool:
        """Return whether an id may be changed, with every other spelling in which a server may read it.

        An id with a character that may make a server or a proxy read another path may not.
        """
        return not re.search(r"[/\\;%]", id) and all(
            (kind, item) in self._ids or (ANY_KIND, item) in self._ids for item in self._server.equivalent_ids(id)
        )

    def _read(self, method: str, path: str) -> tuple[Operation | None, list[tuple[str, str]]]:
        """Return the operation of a request, or None, and the kind and the id of each variable of its path."""
        at_path = operations_at(self._operations, path)
        operation = next((item for item in at_path if item.method == method), None)
        template = operation or next(iter(at_path), None)
        if template is None:
            return None, []
        kinds = {parameter: kind for kind, parameter in self._api.ids_of(template.id).items()}
        pairs = zip(template.path.split("/"), path.split("/"), strict=False)
        return operation, [(kinds.get(n[1:-1], n[1:-1]), unquote(id)) for n, id in pairs if n.startswith("{")]


def secrets_of(auth: Any) -> frozenset[str]:
    """Return the secrets of credentials, plain and quoted as in a URL, without one that is the user's name."""
    secrets = {getattr(auth, name, None) or "" for name in ("password", "secret", "agent_password")}
    long = {item for item in secrets if len(item) >= MIN_SECRET} - {getattr(auth, "user", "")}
    return frozenset(long | {quote(item) for item in long})


def secrets_in(headers: HeaderFields) -> set[str]:
    """Return the secrets in a request's headers."""
    return {value.split(" ", 1)[-1] for name, value in headers if is_secret(name, value)}


def masked(exchange: Exchange, secrets: frozenset[str] = frozenset()) -> Exchange:
    """Return an exchange with its secret fields masked, and ``secrets`` and those of the request wherever they occur.

    Secrets of the request are masked in the response only if they are the run's own: a made-up one may be a key of the
    JSON. In the request's headers nothing else is replaced: a password may be a part of the client's name there.
    """
    path, question, query = exchange.target.partition("?")
    in_headers = secrets_in(exchange.request_headers)
    in_request = secrets | in_headers
    in_response = in_request if exchange.credentials == "own" else secrets
    return replace(
        exchange,
        target=_hide(mask_text(path) + question + mask_query(query), in_request),
        request_headers=tuple((n, _hide(v, in_headers)) for n, v in mask_headers(exchange.request_headers)),
        request_body=_hide(mask_body(exchange.request_body), in_request),
        response_headers=tuple((n, _hide(v, in_response)) for n, v in mask_headers(exchange.response_headers)),
        response_body=_hide(mask_body(exchange.response_body), in_response),
        problem=_hide(exchange.problem, in_request),
    )


def _hide(text: Any, secrets: Iterable[str]) -> Any:
    """Return a text, or bytes, with every secret masked, the longest first, as one may contain another."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MIN_SECRET:
            pair = (secret, MASK) if isinstance(text, str) else (secret.encode(), MASK.encode())
            text = text.replace(*pair)
    return text
