"""The base of conformance checks: an exchange, a rule, and the result of checking one.

A *check* reads one exchange and yields a ``CheckResult`` for each rule and place that it checked, passed or failed. A
``RuleChecker`` runs checks and counts their results, so that a report can distinguish a rule that holds from one that
was never checked. A checker never raises: a response that a check cannot read is a failed result of its own
(``answer.unforeseen``). Each API's checks are in its ``checks.py``; what applies to every API is in
``oceanmock.conformance``.
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

MAX_SIMILAR_RESULTS: Final = 3  # the number of places of one list at which a failed rule is reported; all are counted
UNAVAILABLE: Final = frozenset({429, 502, 503, 504})
"""Statuses of a response that does not depend on the request: the server is busy or away."""
UNREADABLE: Final = (LookupError, TypeError, ValueError, AttributeError)
"""The exceptions of reading a body of another shape than the contract's."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its response; ``status`` is None, and ``problem`` the reason, without one.

    ``target`` is the path with its query. The request's body is the one before it was encrypted. ``operation`` is the
    operationId, empty for a request that is no operation. Instants and spans are nanoseconds. Secrets are masked before
    an exchange is made.
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
    expects_refusal: bool = False  # sent to be refused: wrong credentials, a malformed id, junk
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
    """The earlier response that it is compared with, and the JSON path there."""

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
        """Return the key without the places in lists."""
        return self.rule, self.operation, self.status, folded(self.path)


def folded(path: str) -> str:
    """Return a path with `[*]` for each index."""
    return re.sub(r"\[[0-9]+\]", "[*]", path)


def check(rule: str, passed: bool, path: str = "$", message: str = "") -> CheckResult:
    """Return the result of checking a rule; ``message`` counts only where it failed."""
    return CheckResult(rule, path, "" if passed else message or "the rule is broken here.")


Checker = Callable[[Exchange], Sequence[CheckResult]]
"""Checks one exchange as it comes, and returns what failed; may keep state. Never raises."""


Statuses = frozenset[int]
OK: Final = frozenset({200})
REFUSED: Final = frozenset({400})
UNAUTHORIZED: Final = frozenset({401})
UNKNOWN: Final = frozenset({404})


@dataclass(frozen=True, slots=True)
class Probe:
    """A request made on purpose, and the statuses and error codes that it may be answered with.

    ``accepted`` is the rule that fails if the request is done although it must be refused, and ``refused`` the one that
    fails if it is refused although it must be done. Every other unexpected response fails ``error.status``. ``codes``
    are the errCodes of the expected refusal; ``other_codes`` are numbers that stand for another reason.
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

    ``goal`` is the name by which a move requests it, ``state`` the part of the state that matters for it.
    """

    goal: str
    probe: Probe
    state: str
    is_last: bool = False  # nothing can be requested of the task once this is done


UNDECIDED: Final[tuple[int | str, ...]] = (429, "5xx")
"""Statuses of a server that is busy or broken; it neither accepts nor refuses."""


class TargetApi(ABC):
    """One API as the target of a conformance run: how to recognize, address and operate it.

    A script is a task or dag of a scenario; an address, of a server that ids name, is a host and a port. The first
    request of a run reads ``preflight_path``, without credentials where that is open; ``read_path`` needs them, and
    ``failed_path`` lists all that is FAILED. A newer task has a higher number at ``number_key``. Time changes parts in
    ``active_states`` even where their task has ended. ``cancel`` and ``retries`` are among ``goals``, the operations
    that walks request; a ``cancel`` may be sent while the state changes, as it does no harm. ``schemathesis_checks``
    are the statuses of a refusal, where its own defaults are wider; ``schemathesis_operations`` are those whose valid
    requests a state that the contract cannot express may refuse. ``weights`` has the weight of a rule's source by a
    text in it, the first that occurs; any other is a document.
    """

    preflight_path: ClassVar[str]
    is_preflight_open: ClassVar[bool] = False
    read_path: ClassVar[str]
    failed_path: ClassVar[str]
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
    spared_rule: ClassVar[str] = ""  # the rule that a server breaks if an id of nothing does harm there

    @abstractmethod
    def is_server(self, body: Mapping[str, Any]) -> bool:
        """Return whether a response to the first request is this API's."""

    def is_uncertain(self, query: Mapping[str, Any]) -> bool:
        """Return whether a server may refuse a query that the contract allows, because no document decides."""
        return False

    def identify(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a ``Target`` that the first response states. Raises UNREADABLE."""
        return {}

    @abstractmethod
    def list_path(self, script: Any) -> str:
        """Return the path of a list that contains a script's task."""

    def own_id(self, script: Any, address: tuple[str, int] | None) -> str | None:
        """Return the id that a script's task has on the server at an address."""
        return None if script.id is None else str(script.id)

    @abstractmethod
    def ids_in(self, scenario: Any) -> list[str]:
        """Return the ids of a scenario's scripts that walks may operate on."""

    def spares(self, values: Mapping[str, Any], read: Callable[[str], Exchange]) -> str:
        """Return why ids of nothing may do harm on a server, or "". ``values`` are those of ``identify``."""
        return ""

    def is_looked_up(self, id: str) -> bool:
        """Return whether an id of nothing, if it is this one, could do harm on a server that has to be spared."""
        return False

    @abstractmethod
    def unknown_ids(self, address: tuple[str, int] | None, identity: str) -> list[str | int]:
        """Return ids of nothing, which the server looks up itself."""

    def addresses_in(self, path: str, body: bytes) -> Iterator[tuple[str, int]]:
        """Yield the addresses of servers that a request names."""
        yield from ()

    @abstractmethod
    def equivalent_ids(self, id: str) -> set[str]:
        """Return an id and the other forms in which a server may read it."""

    def knowledge(self, version: str, scenarios: Sequence[Any] | None = None) -> Any:
        """Return what is known of a server, or of the mock that serves some scenarios."""
        return None

    def opted_in(self, scenarios: Sequence[Any]) -> frozenset[str]:
        """Return the API's ``opt_ins`` that some scenarios use."""
        return frozenset()

    def is_at_rest(self, task: Any) -> bool:
        """Return whether a task has ended, and no part that can run on still does."""
        return task.is_terminal and not any(it.state in self.active_states for it in task.all() if not it.parts)

    @abstractmethod
    def actions(self, task: Any, id: str, *, is_mock: bool, knowledge: Any) -> Iterator[WalkAction]:
        """Yield every operation on a task and its parts, and how it must be answered."""

    def log_paths(self, before: Any, after: Any, id: str) -> Sequence[str]:
        """Return the paths of logs to read once a task that was operated on is at rest."""
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
        self.items: Sequence[Any] | None = None  # the observations of the response, once they are needed

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
        """Return the ids in the path, outermost first, as the server reads them."""
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
"""Probes in their order, and results of comparing their responses. Each probe is answered with its response; with None
if it was not sent, or not answered."""


def fields_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a request's body, its keys in lower case, as Go reads them; empty for anything else."""
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
        """Return the failed results of an exchange, each rule and place once."""
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
        except Exception as problem:  # a response of any shape may come; none may end the run
            detail = f"{type(problem).__name__}: {problem}"[:200]
            yield CheckResult("answer.unforeseen", "$", f"no check can read this answer ({detail}).")

    def failures(self, subject: Subject, results: Iterable[CheckResult]) -> list[CheckResult]:
        """Count results, and return the failed ones, complete: the first of a kind, whatever their places in a list."""
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
