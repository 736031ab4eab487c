"""How a rule is looked at: one exchange in, a look per rule out, and findings made of the bad ones.

A ``Look`` says that a rule was held against one place of an answer, and what was wrong there, if
anything. A ``Watch`` turns the looks of its checks into findings, and counts them, so that a report
can tell a rule that was kept from one that nobody could look at. The one rule: a watch never
raises; an answer that a check trips over is a finding of its own (``answer.unforeseen``).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import orjson

from oceanmock.conformance.model import Api, CheckResult, Exchange, Rule, RuleCount
from oceanmock.obshell.versions import contract_version, spec_of
from oceanmock.openapi import (
    Operation,
    Spec,
    load_spec,
    operation_asked,
    operations_at,
    operations_of,
    spec_path,
)
from oceanmock.text import parse_instant

MOST_ALIKE: Final = 3
"""So many places of a list are told for one rule; all are counted."""
UNHEARD: Final = frozenset({429, 502, 503, 504})
"""What is answered before a request is looked at: there are too many, or the server is away."""
_PLACE: Final = re.compile(r"\[[0-9]+\]")
_COLONLESS: Final = re.compile(r"([+-][0-9]{2})([0-9]{2})$")


@dataclass(frozen=True, slots=True)
class Look:
    """A rule held against one place; ``wrong`` is empty where it was kept."""

    rule: str
    path: str = "$"
    wrong: str = ""


def look(rule: str, kept: bool, path: str = "$", wrong: str = "") -> Look:
    """A look at a rule; ``wrong`` counts only where it was not kept."""
    return Look(rule, path, "" if kept else wrong or "the rule is broken here.")


# --- what is looked at ----------------------------------------------------------------------------


def spec_for(api: Api, version: str = "") -> Spec:
    """The contract that a server of a version has to keep: the newest, where nobody says which."""
    return spec_of(contract_version(version)) if api == "obshell" else load_spec(spec_path(api))


class Contract:
    """A contract as the checks read it: which operation is asked, and what it may answer."""

    @classmethod
    def of(cls, api: Api, version: str = "") -> Contract:
        """What a server of a version has to keep."""
        return cls(api, spec_for(api, version), version=version)

    def __init__(self, api: Api, spec: Spec, *, version: str = "") -> None:
        self.api = api
        self.spec = spec
        self.version = version
        self.operations = {each.id: each for each in operations_of(spec)}

    def lacks(self, method: str, path: str) -> bool:
        """Whether it is an operation of newer versions alone, which this one need not know."""
        return any(each.method == method for each in operations_at(self._newer, path))

    @cached_property
    def _newer(self) -> list[Operation]:
        newest = operations_of(spec_for(self.api))
        return [each for each in newest if each.id not in self.operations]

    def operation_at(self, method: str, path: str) -> str:
        """The operationId of a request, whatever its ids; empty where there is none."""
        asked = operation_asked(self.operations.values(), method, path)
        return asked.id if asked else ""

    def said_of(self, operation: Operation) -> Mapping[str, Any]:
        """What the contract says of an operation."""
        said: Mapping[str, Any] = self.spec["paths"][operation.path][operation.method.lower()]
        return said

    def followed(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a reference into the contract stands for; anything else as it is."""
        while "$ref" in said:
            node: Any = self.spec
            for part in said["$ref"].removeprefix("#/").split("/"):
                node = node[part]
            said = node
        return said

    def is_open(self, operation: str) -> bool:
        """Whether an operation asks nobody who he is."""
        said = self.said_of(self.operations[operation])
        return not said.get("security", self.spec.get("security"))


class Seen:
    """An exchange that was answered, read for the checks."""

    def __init__(self, exchange: Exchange, contract: Contract) -> None:
        self.exchange = exchange
        self.contract = contract
        self.status: int = exchange.status or 0
        self.path, _, self.query_text = exchange.target.partition("?")
        self.id = exchange.operation or contract.operation_at(exchange.method, self.path)
        self.operation = contract.operations.get(self.id)

    @cached_property
    def body(self) -> Any:
        """The answer's JSON; None where it is none."""
        return self.exchange.json()

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """What was asked for, in its order."""
        return parse_qsl(self.query_text, keep_blank_values=True, max_num_fields=10_000)

    def asked(self, name: str) -> str | None:
        """The value of a parameter that was sent exactly once; None for any other."""
        texts = [text for key, text in self.query if key == name]
        return texts[0] if len(texts) == 1 else None

    @cached_property
    def path_ids(self) -> tuple[str, ...]:
        """The ids in the path, outermost first, as the server reads them."""
        if self.operation is None:
            return ()
        pairs = zip(self.operation.path.split("/"), self.path.split("/"), strict=False)
        return tuple(unquote(part) for template, part in pairs if template.startswith("{"))

    @property
    def data(self) -> Any:
        """What the envelope holds; None where there is nothing."""
        return self.body.get("data") if isinstance(self.body, dict) else None

    @property
    def error(self) -> Mapping[str, Any]:
        """The error of the envelope; empty where there is none."""
        said = self.body.get("error") if isinstance(self.body, dict) else None
        return said if isinstance(said, dict) else {}

    @cached_property
    def request_json(self) -> Mapping[str, Any]:
        """The object that was sent, its keys in lower case; empty for anything else."""
        try:
            sent = orjson.loads(self.exchange.request_body)
        except ValueError:
            return {}
        return {str(key).lower(): value for key, value in sent.items()} if _is(sent, dict) else {}

    @property
    def has_credentials(self) -> bool:
        """Whether the request says who asks; whether that is true is not known here."""
        return self.exchange.credentials != "none"


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind)


Check = Callable[[Seen], Iterable[Look]]


# --- reading bodies that may be wrong -------------------------------------------------------------


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; none where it is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def numbered(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list, each with its JSON path."""
    for place, each in enumerate(value if isinstance(value, list) else ()):
        if isinstance(each, dict):
            yield f"{path}[{place}]", each


def instant(value: Any) -> int | None:
    """The nanoseconds of a timestamp, its offset with a colon or without; None for none."""
    return _instant(value) if isinstance(value, str) else None


@lru_cache(maxsize=16_384)
def _instant(text: str) -> int | None:
    try:
        return parse_instant(_COLONLESS.sub(r"\1:\2", text))
    except (ValueError, OverflowError):
        return None


def whole(value: Any) -> int | None:
    """An integer; None for anything else, true and false too."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


# --- the watch ------------------------------------------------------------------------------------


@dataclass
class Watch:
    """A watcher that holds rules against each exchange, and counts how often it could."""

    contract: Contract
    rules: Mapping[str, Rule]
    checks: tuple[Check, ...] = ()
    counts: defaultdict[str, RuleCount] = field(default_factory=lambda: defaultdict(RuleCount))
    """Rule → how often it was looked at and broken."""
    checked: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rule and operation → how often it was looked at there."""
    _alike: defaultdict[tuple[str, str, int | None, str], set[str]] = field(
        default_factory=lambda: defaultdict(set), repr=False
    )

    def __call__(self, exchange: Exchange) -> list[CheckResult]:
        """What is wrong with an exchange, each rule and place once."""
        seen = Seen(exchange, self.contract)
        return self.judged(seen, self.looks(seen))

    def judged(self, seen: Seen, looks: Iterable[Look]) -> list[CheckResult]:
        """The findings of some looks, which are counted."""
        found: dict[tuple[str, str], CheckResult] = {}
        for each in looks:
            tally = self.counts[each.rule]
            tally.looked += 1
            self.checked[each.rule, seen.id] += 1
            if each.wrong:
                tally.broken += 1
                if self._is_told(seen, each):
                    found.setdefault((each.rule, each.path), self._finding(seen, each))
        return list(found.values())

    def _is_told(self, seen: Seen, broken: Look) -> bool:
        """Whether it is one of the first of its like: the same at another place of a list."""
        like = (broken.rule, seen.id, seen.exchange.status, _PLACE.sub("[*]", broken.path))
        paths = self._alike[like]
        if len(paths) < MOST_ALIKE:
            paths.add(broken.path)
        return broken.path in paths

    def looks(self, seen: Seen) -> Iterator[Look]:
        """Every look at one exchange."""
        for check in self.checks:
            yield from guarded(check, seen)

    def _finding(self, seen: Seen, broken: Look) -> CheckResult:
        return CheckResult(
            rule=broken.rule,
            operation=seen.id,
            status=seen.exchange.status,
            path=broken.path,
            message=broken.wrong,
            source=self.rules[broken.rule].source,
            exchange=seen.exchange,
        )


def guarded(check: Check, seen: Seen) -> Iterator[Look]:
    """The looks of a check; a body it trips over is one that breaks ``answer.unforeseen``."""
    try:
        yield from check(seen)
    except Exception as problem:  # an answer of any shape may come; none may end the run
        what = f"{type(problem).__name__}: {problem}"
        yield Look("answer.unforeseen", "$", f"no check can read this answer ({what[:200]}).")
