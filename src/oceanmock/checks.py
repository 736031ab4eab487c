"""The base types of conformance checks: exchanges, rules, check results, probes, and an API as a target.

A *check* reads one exchange and yields a ``CheckResult`` for each rule and place that it checked, passed or failed. A
``RuleChecker`` runs checks and counts their results, so that a report can distinguish a rule that holds from one that
was never checked. A checker never raises: a response that a check cannot read is a failed result of its own
(``answer.unforeseen``). Each API's checks are in its ``checks.py``, those for every API in ``oceanmock.conformance``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Final, Literal
from urllib.parse import parse_qsl, unquote

import orjson

from oceanmock.openapi import Spec, find_operation, operations_at, operations_of
from oceanmock.text import parse_instant

HeaderFields = tuple[tuple[str, str], ...]
Phase = Literal["preflight", "probes", "examples", "coverage", "fuzzing", "stateful", "machine", "story", "passive"]
Credentials = Literal["own", "others", "none"]

MAX_SIMILAR_RESULTS: Final = 3  # the most places of one list at which a failed rule is reported
UNAVAILABLE: Final = frozenset({429, 502, 503, 504})
"""Statuses of a server that is busy or down, whatever the request."""
UNREADABLE: Final = (LookupError, TypeError, ValueError, AttributeError)
"""The exceptions from reading a body that does not have the contract's shape."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its response; without a response ``status`` is None, and ``problem`` is the reason.

    ``target`` is the path with its query. ``request_body`` is the body before it was encrypted. ``operation`` is the
    operationId, empty for a request that is no operation. Instants and spans are nanoseconds. Secrets are masked.
    """

    number: int
    phase: Phase
    operation: str
    method: str
    target: str
    request_headers: HeaderFields
    request_body: bytes
    status: int | None
    response_headers: HeaderFields
    response_body: bytes
    sent_at: int
    took: int
    problem: str = ""
    expects_refusal: bool = False  # whether the request is wrong on purpose
    credentials: Credentials = "none"  # the run's own, another user's, or none

    def json(self) -> Any:
        """Return the response's JSON, or None."""
        with suppress(ValueError):
            return orjson.loads(self.response_body)
        return None

    def header(self, name: str) -> str | None:
        """Return the first response header of this name, in any case."""
        return next((v for n, v in self.response_headers if n.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for servers. ``id`` is stable: baselines and reports refer to it."""

    id: str
    says: str  # one plain sentence
    source: str  # the place in the contract, or in the public source behind it


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A rule checked at one place of a response. A check fills in the first three fields, a checker the others."""

    rule: str
    path: str = "$"  # the JSON path; may be empty
    message: str = ""  # one plain sentence: the actual value, and the expected one; empty where the rule holds
    operation: str = ""
    status: int | None = None
    source: str = ""
    exchange: Exchange | None = None
    curl: str = ""
    known: str = ""  # the baseline's reason, where it has one
    earlier: tuple[Exchange, str] | None = None
    """The earlier exchange that it is compared with, and the JSON path there."""

    @property
    def passed(self) -> bool:
        return not self.message

    @property
    def breadcrumb(self) -> str:
        """Return operation → status → JSON path."""
        status = "no answer" if self.status is None else str(self.status)
        return " → ".join(filter(None, (self.operation or "no operation", status, self.path)))

    @property
    def key(self) -> tuple[str, str, int | None, str]:
        """Return the key by which failed results are reported once."""
        return self.rule, self.operation, self.status, self.path

    @property
    def cause(self) -> tuple[str, str, int | None, str]:
        """Return the key with `[*]` for the indices in lists."""
        return self.rule, self.operation, self.status, folded(self.path)


def folded(path: str) -> str:
    """Return a path with `[*]` for each index."""
    return re.sub(r"\[[0-9]+\]", "[*]", path)


def check(rule: str, passed: bool, path: str = "$", message: str = "") -> CheckResult:
    """Return the result of checking a rule; ``message`` counts only where it failed."""
    return CheckResult(rule, path, "" if passed else message or "the rule is broken here.")


Checker = Callable[[Exchange], Sequence[CheckResult]]
"""Checks one exchange and returns the failed results; may keep state. Never raises."""


Statuses = frozenset[int]
OK: Final = frozenset({200})
REFUSED: Final = frozenset({400})
UNAUTHORIZED: Final = frozenset({401})
UNKNOWN: Final = frozenset({404})


@dataclass(frozen=True, slots=True)
class Probe:
    """A prepared request, and the statuses and error codes that its response may have.

    ``accepted`` is the rule that fails if the server accepts a request that it must refuse, ``refused`` the rule that
    fails if it refuses a request that it must accept. Every other unexpected response fails ``error.status``. ``codes``
    are the errCodes of the expected refusal, ``other_codes`` are numeric codes of other refusals.
    """

    what: str
    method: str
    target: str
    statuses: Statuses
    codes: tuple[str, ...] = ()
    accepted: str = "error.status"
    refused: str = "error.status"
    other_codes: frozenset[int] = frozenset()
    auth: Literal["default"] | Callable[[Any], Any] | None = "default"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    is_wrong: bool = True


@dataclass(frozen=True, slots=True)
class WalkAction:
    """One operation that a walk can request now.

    ``goal`` is the name by which a move requests it, ``state`` the part of the task's state on which it depends.
    """

    goal: str
    probe: Probe
    state: str
    is_last: bool = False  # whether no operation can follow it


UNDECIDED: Final[tuple[int | str, ...]] = (429, "5xx")
"""Statuses of a server that is busy or broken, which neither accepts nor refuses."""


class TargetApi(ABC):
    """One API as the target of a conformance run: how to recognize, address and operate a server.

    A script is a task or dag of a scenario. An address is a host and a port. The first request of a run reads
    ``preflight_path``, without credentials if that is open; ``read_path`` needs them. Newer tasks have higher numbers
    at ``number_key``. Time changes parts in ``active_states`` even if their task has ended. ``goals`` are the
    operations that walks request; ``cancel`` and ``retries`` are among them, and a cancel may be sent while the state
    changes. ``schemathesis_checks`` narrow the statuses that schemathesis expects; ``schemathesis_operations`` are
    operations whose valid requests the server's state may refuse. ``weights`` has the weight of a rule's source by a
    text in it, the first that occurs; any other source is a document.
    """

    preflight_path: ClassVar[str]
    is_preflight_open: ClassVar[bool] = False
    read_path: ClassVar[str]
    number_key: ClassVar[str] = "id"
    active_states: ClassVar[frozenset[str]]
    id_type: ClassVar[type] = str
    credentials_hint: ClassVar[str]
    schemathesis_checks: ClassVar[Mapping[str, Any]]
    schemathesis_operations: ClassVar[Sequence[tuple[Mapping[str, str], Sequence[int | str]]]]
    goals: ClassVar[tuple[str, ...]]
    retries: ClassVar[frozenset[str]]
    cancel: ClassVar[str]
    weights: ClassVar[Mapping[str, Literal["document", "code", "sibling"]]]
    never_during: ClassVar[tuple[str, str]] = ("", "")
    """An operation, and another one during which it does harm that nothing undoes."""
    spared_rule: ClassVar[str] = ""  # the rule that a server breaks if an unknown id does harm there

    @abstractmethod
    def is_server(self, body: Mapping[str, Any]) -> bool:
        """Return whether a response to the first request is this API's."""

    def is_uncertain(self, query: Mapping[str, Any]) -> bool:
        """Return whether a server may refuse a query that the contract allows, as no document is clear about it."""
        return False

    def identify(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a ``Target`` that the first response has. Raises UNREADABLE."""
        return {}

    @abstractmethod
    def list_path(self, script: Any) -> str:
        """Return the path of a list that contains a script's task."""

    def own_id(self, script: Any, address: tuple[str, int] | None) -> str | None:
        """Return the id of a script's task on the server at an address."""
        return None if script.id is None else str(script.id)

    def spares(self, values: Mapping[str, Any], read: Callable[[str], Exchange]) -> str:
        """Return why unknown ids may do harm on a server, or "". ``values`` are those of ``identify``."""
        return ""

    def is_looked_up(self, id: str) -> bool:
        """Return whether a server looks an id up, so that it may do harm if it is unknown."""
        return False

    @abstractmethod
    def unknown_ids(self, address: tuple[str, int] | None, identity: str) -> list[str | int]:
        """Return unknown ids that the server looks up itself."""

    def addresses_in(self, path: str, body: bytes) -> Iterator[tuple[str, int]]:
        """Yield the addresses of servers that a request names."""
        yield from ()

    @abstractmethod
    def equivalent_ids(self, id: str) -> set[str]:
        """Return an id and every other id that a server may read in its place."""

    def knowledge(self, version: str, scenarios: Sequence[Any] | None = None) -> Any:
        """Return facts on a server's tasks beyond its responses, or on those of the mock that serves scenarios."""
        return None

    def opted_in(self, scenarios: Sequence[Any]) -> frozenset[str]:
        """Return the API's ``opt_ins`` that some scenarios use."""
        return frozenset()

    def is_at_rest(self, task: Any) -> bool:
        """Return whether a task has ended, and none of its parts still runs."""
        return task.is_terminal and not any(it.state in self.active_states for it in task.all() if not it.parts)

    @abstractmethod
    def actions(self, task: Any, *, is_mock: bool, knowledge: Any) -> Iterator[WalkAction]:
        """Yield every operation on a task and its parts, with its expected response."""

    def log_paths(self, before: Any, after: Any) -> Sequence[str]:
        """Return the paths of the logs to read when a task is at rest after an operation."""
        return ()


class Contract:
    """A contract as checks read it. ``newest`` is that of the API's newest version."""

    def __init__(self, api: str, spec: Spec, *, version: str = "", newest: Spec | None = None) -> None:
        self.api, self.spec, self.version = api, spec, version
        self.operations = {operation.id: operation for operation in operations_of(spec)}
        self._newer = [item for item in operations_of(newest or spec) if item.id not in self.operations]

    def lacks(self, method: str, path: str) -> bool:
        """Return whether only newer versions have this operation."""
        return any(entry.method == method for entry in operations_at(self._newer, path))

    def is_open(self, operation: str) -> bool:
        """Return whether an operation needs no credentials."""
        return not self.operations[operation].definition.get("security", self.spec.get("security"))


class Subject:
    """An exchange under check: its request and response, parsed."""

    def __init__(self, exchange: Exchange, contract: Contract) -> None:
        self.exchange, self.contract = exchange, contract
        self.status: int = exchange.status or 0
        self.path, _, self.query_text = exchange.target.partition("?")
        self.operation = contract.operations.get(exchange.operation)
        if not exchange.operation:
            self.operation = find_operation(contract.operations.values(), exchange.method, self.path)
        self.id = self.operation.id if self.operation else exchange.operation
        self.items: Sequence[Any] | None = None  # a cache of ``items_in``

    @cached_property
    def body(self) -> Any:
        """Return the response's JSON, or None."""
        return self.exchange.json()

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """Return the query's parameters in their order."""
        return parse_qsl(self.query_text, keep_blank_values=True, max_num_fields=10_000)

    def parameter(self, name: str) -> str | None:
        """Return the value of a query parameter that was sent exactly once, else None."""
        texts = [text for key, text in self.query if key == name]
        return texts[0] if len(texts) == 1 else None

    @cached_property
    def path_ids(self) -> tuple[str, ...]:
        """Return the unquoted ids in the path, outermost first."""
        if self.operation is None:
            return ()
        pairs = zip(self.operation.path.split("/"), self.path.split("/"), strict=False)
        return tuple(unquote(part) for template, part in pairs if template.startswith("{"))

    @property
    def envelope(self) -> Mapping[str, Any]:
        """Return the body if it is an object, else an empty one."""
        return self.body if isinstance(self.body, dict) else {}

    @property
    def data(self) -> Any:
        """Return the envelope's data, or None."""
        return self.envelope.get("data")

    @property
    def error(self) -> Mapping[str, Any]:
        """Return the envelope's error, or an empty mapping."""
        error = self.envelope.get("error")
        return error if isinstance(error, dict) else {}

    @property
    def at(self) -> int | None:
        """Return the instant that the response's timestamp names, or None."""
        return instant(self.envelope.get("timestamp"))

    @cached_property
    def request_json(self) -> Mapping[str, Any]:
        """Return ``fields_of`` the request's body."""
        return fields_of(self.exchange.request_body)


Check = Callable[[Subject], Iterable[CheckResult]]
Probes = Generator[Probe | tuple[Subject, CheckResult], Subject | None, None]
"""A generator of probes, and of results of comparing their responses. It is sent each probe's response, or None."""


def fields_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a request's body with keys in lower case, as Go reads them; else an empty one."""
    fields = None
    with suppress(ValueError):
        fields = orjson.loads(body)
    return {str(key).lower(): value for key, value in fields.items()} if isinstance(fields, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list; none if it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def numbered(value: Any, path: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the objects of a list, each with its JSON path; none if it is no list."""
    items = enumerate(value if isinstance(value, list) else ())
    return [(f"{path}[{place}]", item) for place, item in items if isinstance(item, dict)]


def instant(value: Any) -> int | None:
    """Return a timestamp in nanoseconds, its offset with or without a colon; else None."""
    return _instant(value) if isinstance(value, str) else None


@lru_cache(maxsize=16_384)
def _instant(text: str) -> int | None:
    with suppress(ValueError, OverflowError):
        return parse_instant(re.sub(r"([+-][0-9]{2})([0-9]{2})$", r"\1:\2", text))
    return None


def whole(value: Any) -> int | None:
    """Return an integer; None for anything else, booleans included."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass
class RuleChecker:
    """Checks each exchange, and counts how often each rule was checked."""

    contract: Contract
    rules: Mapping[str, Rule]
    checks: tuple[Check, ...] = ()
    checked: Counter[tuple[str, str]] = field(default_factory=Counter)  # by rule and operation
    _similar: dict[tuple[str, str, int | None, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    compares: ClassVar[bool] = False
    """Whether results are of comparing an exchange with earlier ones, so that sending it again cannot confirm them."""

    def __call__(self, exchange: Exchange) -> list[CheckResult]:
        """Return the failed results of an exchange, one for each rule and place."""
        subject = Subject(exchange, self.contract)
        return self.failures(subject, self.results(subject))

    def results(self, subject: Subject) -> Iterator[CheckResult]:
        """Yield the result of every check of one exchange."""
        for entry in self.checks:
            yield from self.guarded(entry, subject)

    def guarded(self, check: Check, subject: Subject) -> Iterator[CheckResult]:
        """Yield the results of a check; if it raises, a failed ``answer.unforeseen``."""
        try:
            yield from check(subject)
        except Exception as problem:  # no response, whatever its shape, may end the run
            detail = f"{type(problem).__name__}: {problem}"[:200]
            yield CheckResult("answer.unforeseen", "$", f"no check can read this answer ({detail}).")

    def failures(self, subject: Subject, results: Iterable[CheckResult]) -> list[CheckResult]:
        """Count results, and return the failed ones with all fields; of a list, those at the first places."""
        failed: dict[Any, CheckResult] = {}
        for item in results:
            self.checked[item.rule, subject.id] += 1
            if not item.passed:
                source, exchange = self.rules[item.rule].source, subject.exchange
                result = replace(item, operation=subject.id, status=exchange.status, source=source, exchange=exchange)
                paths = self._similar[result.cause]
                if len(paths) < MAX_SIMILAR_RESULTS:
                    paths.add(result.path)
                if result.path in paths:
                    failed.setdefault(result.key, result)
        return list(failed.values())
