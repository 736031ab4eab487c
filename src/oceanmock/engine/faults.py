"""Choose the fault to inject into a request, and apply it to the response.

``Faults.inject`` chooses; ``apply_fault`` changes a response. The server does the waiting and the
cutting. A fault counts every request that it matches; of the faults whose turn it is, only the
first is injected. What is drawn for a fault's n-th request depends on the sandbox's seed, the
fault's name and n alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from threading import Lock
from typing import Any, Final

from oceanmock.engine.store import FaultAttempt, FaultCounters
from oceanmock.errors import AuthorError
from oceanmock.journal import is_id
from oceanmock.scenario.faults import Fault

RawHeaders = Sequence[tuple[bytes, bytes]]


# --- the request ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FaultRequest:
    """The properties of a request by which faults select it.

    ``ids`` are the path's parameters by their names; ``operation`` is empty where none matches.
    ``key`` is equal for a request that is sent again: method, target, and the body as the API
    reads it.
    """

    api: str
    operation: str
    ids: Mapping[str, str]
    caller: str
    key: Hashable


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault that one request gets. ``call`` is the request's number for the fault."""

    fault: Fault
    name: str
    call: int
    delay: int
    """The delay of the response, in nanoseconds of the machine's time."""

    @property
    def carries_out(self) -> bool:
        """Return whether the operation is executed, whatever is answered."""
        fault = self.fault
        answers_itself = fault.reset or fault.empty or fault.status is not None
        return fault.still_executes or fault.drop_response or not answers_itself

    @property
    def resets(self) -> bool:
        """Return whether the connection is reset without a response."""
        return self.fault.reset or self.fault.drop_response

    @property
    def status(self) -> int | None:
        """Return the status of the response, in the API's envelope; None keeps the response."""
        return self.fault.status


@dataclass(frozen=True, slots=True)
class FaultStatistics:
    """A fault of a sandbox: how many requests it has matched, and into how many it was injected."""

    name: str
    fault: Fault
    calls: int
    affected: int


class Faults:
    """The faults of one sandbox by name, in order; the sandbox's store keeps their counters."""

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int = 0) -> None:
        """Raise AuthorError if two have the same name."""
        self._seed: Final = seed
        self._lock: Final = Lock()
        self._added = 0
        self.by_name: dict[str, _Fault] = {}
        for fault in faults:
            self.add(fault)

    def inject(self, request: FaultRequest, counters: FaultCounters) -> InjectedFault | None:
        """Return the fault to inject, if any; count the request for every fault it matches."""
        with self._lock:
            previous = counters.take_attempt(request.caller)
            matching = [fault for fault in self.by_name.values() if fault.matches(request)]
            if not matching:
                return None
            digest = blake2b(repr(request.key).encode(), digest_size=16).hexdigest()
            is_retry = previous is not None and previous.request == digest
            numbers = dict(previous.numbers) if previous is not None and is_retry else {}
            is_retry = any(fault.id in numbers for fault in matching)
            turns = [(fault, fault.number(numbers, counters)) for fault in matching]
            injected = next(self._injections(turns, counters), None)
            if injected is not None and not is_retry:
                attempt = FaultAttempt(digest, {fault.id: number for fault, number in turns})
                counters.keep_attempt(request.caller, attempt)
            return injected

    def add(self, fault: Fault) -> str:
        """Add a fault behind the others and return its name. Raises AuthorError if it is taken."""
        with self._lock:
            number = self._added + 1
            while fault.name is None and f"fault {number}" in self.by_name:
                number += 1
            name = fault.name or f"fault {number}"
            if name in self.by_name:
                raise AuthorError(f"there is a fault {name!r} already. Give this one another name.")
            self._added = number
            self.by_name[name] = _Fault(number, name, fault)
            return name

    def remove(self, name: str) -> bool:
        """Remove a fault; return whether there was one of this name."""
        with self._lock:
            return self.by_name.pop(name, None) is not None

    def clear(self) -> None:
        """Remove every fault."""
        with self._lock:
            self.by_name.clear()

    def statistics(self, counters: FaultCounters) -> tuple[FaultStatistics, ...]:
        """Return the faults in order, with their counters."""
        with self._lock:
            return tuple(
                FaultStatistics(fault.name, fault.fault, *counters.counts(fault.id)) for fault in self.by_name.values()
            )

    def _injections(self, turns: Sequence[tuple[_Fault, int]], counters: FaultCounters) -> Iterator[InjectedFault]:
        for fault, number in turns:
            if not fault.is_due(number):
                continue
            settings = fault.fault
            chance = Random(f"{self._seed}/{fault.name}/{number}")  # noqa: S311 (reproducible)
            if chance.random() < settings.probability:
                counters.count_injection(fault.id)
                delay = (settings.delay or 0) + int(chance.random() * (settings.jitter or 0))
                yield InjectedFault(settings, fault.name, number, delay)


@dataclass(slots=True)
class _Fault:
    """A fault, and what is derived of it once rather than for every request.

    ``id`` is its place among all faults that were ever added.
    """

    id: int
    name: str
    fault: Fault
    operations: frozenset[str] = field(init=False)
    targets: Mapping[str, str] = field(init=False)
    spans: tuple[tuple[int, int | None], ...] = field(init=False)

    def __post_init__(self) -> None:
        self.operations = frozenset(self.fault.operation)
        self.targets = self.fault.targets
        self.spans = self.fault.spans

    def matches(self, request: FaultRequest) -> bool:
        """Return whether the fault is for this request."""
        fault = self.fault
        return (
            fault.api in ("", request.api)
            and (not self.operations or request.operation in self.operations)
            and fault.caller in (None, request.caller)
            and (not self.targets or self._is_about(request))
        )

    def _is_about(self, request: FaultRequest) -> bool:
        variables = self.fault.ids_by_operation.get(request.operation, {})
        return all(
            kind in variables and is_id(request.ids.get(variables[kind], ""), id) for kind, id in self.targets.items()
        )

    def number(self, previous: Mapping[int, int], counters: FaultCounters) -> int:
        """Return the request's number; that of the ``previous`` one if both are one attempt."""
        if self.fault.counts == "attempts" and self.id in previous:
            return previous[self.id]
        return counters.count_request(self.id)

    def is_due(self, number: int) -> bool:
        """Return whether the fault is injected into the request of a number."""
        return any(first <= number <= (last or number) for first, last in self.spans)


# --- the response ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FaultyResponse:
    """A response after a fault; ``pause`` is in nanoseconds of the machine's time, between chunks.

    ``is_cut``: the connection is closed after the last chunk, before the announced length.
    """

    status: int
    headers: RawHeaders
    chunks: tuple[bytes, ...]
    pause: int = 0
    is_cut: bool = False


def apply_fault(
    injected: InjectedFault, status: int = 200, headers: RawHeaders = (), body: bytes = b""
) -> FaultyResponse:
    """Return a response as a fault changes it; by default an empty one."""
    fault = injected.fault
    body = _other_json(fault, b"" if fault.empty else body)
    if fault.malformed:  # as of a server that stopped while it wrote
        text = body.rstrip()
        body = text[:-1] if text[-1:] in (b"}", b"]", b'"') else text + b"}"
    passed = body if fault.truncate is None else body[: fault.truncate]
    step = len(passed) if fault.dribble is None else fault.dribble.bytes
    replaced = {b"content-length": str(len(body)).encode()}
    if fault.content_type is not None:
        replaced[b"content-type"] = fault.content_type.encode()
    others = [(name, value) for name, value in headers if name.lower() not in replaced]
    return FaultyResponse(
        status,
        (*others, *replaced.items()),
        tuple(passed[at : at + step] for at in range(0, len(passed), step or 1)),
        pause=0 if fault.dribble is None else fault.dribble.every,
        is_cut=len(passed) < len(body),
    )


def _other_json(fault: Fault, body: bytes) -> bytes:
    """Return the body with values dropped or changed; one that is no JSON stays."""
    if not (fault.drop or fault.change_type):
        return body
    try:
        value = json.loads(body)
    except ValueError:
        return body
    for path in fault.drop:
        _change(value, path, _drop)
    for path in fault.change_type:
        _change(value, path, _change_type)
    return _json(value).encode("utf-8", "backslashreplace")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _change(value: Any, path: str, change: Callable[[Any, Any], None]) -> None:
    """Change the values at a path, if there are any, in place."""
    *steps, last = path.split(".")
    holders = [value]
    for step in steps:
        holders = [holder[key] for holder in holders for key in _keys(holder, step)]
    places = [(holder, key) for holder in holders for key in _keys(holder, last)]
    for holder, key in reversed(places):  # from the end: a list grows shorter
        change(holder, key)


def _keys(holder: Any, step: str) -> list[Any]:
    """Return the keys or positions that a step of a path matches."""
    if isinstance(holder, dict):
        return list(holder) if step == "*" else [step] if step in holder else []
    if isinstance(holder, list):
        everything = range(len(holder))
        return [at for at in everything if step in ("*", str(at))]
    return []


def _drop(holder: Any, key: Any) -> None:
    del holder[key]


def _change_type(holder: Any, key: Any) -> None:
    """Turn a text into a number, its own or 0, and any other value into a text."""
    value = holder[key]
    if not isinstance(value, str):
        holder[key] = _json(value)
    else:
        holder[key] = int(value) if re.fullmatch("-?[0-9]{1,15}", value) else 0
