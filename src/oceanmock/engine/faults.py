"""Which requests of a sandbox go wrong on purpose, and what becomes of their answers.

``Faults.strike`` says of each request whether a fault strikes it, and which; ``mangle`` makes of an
answer the one that is sent. Both are pure: whoever serves does the waiting, the cutting and the
asking. Every fault counts each request that it might strike, struck or not; of those whose turn it
is, the first strikes, alone. What is drawn for a fault's n-th call depends on the sandbox's seed,
the fault's name and n, and on nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from threading import Lock
from typing import Any, Final

from oceanmock.errors import AuthorError
from oceanmock.journal import is_called
from oceanmock.scenario.faults import Fault

Headers = Sequence[tuple[bytes, bytes]]

MOST_CALLERS: Final = 1000
"""So many callers' last requests are remembered, for the attempts that two of them may be."""


# --- which requests -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FaultRequest:
    """A request, as far as a fault can tell it from another.

    ``ids`` are the path's variables by the names of the contract; ``operation`` is empty where none
    was meant. ``key`` is what a re-sent request has in common with the one before: method, target
    and the body as the API understood it.
    """

    api: str
    operation: str
    ids: Mapping[str, str]
    caller: str
    key: Hashable


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """What is to be done to one request. ``call`` is the number it has for the fault."""

    fault: Fault
    name: str
    call: int
    delay: int
    """How many nanoseconds of the machine's time later it is answered."""

    @property
    def carries_out(self) -> bool:
        """Whether the operation happens, whatever is answered."""
        fault = self.fault
        answers_itself = fault.reset or fault.empty or fault.status is not None
        return fault.still_executes or fault.drop_response or not answers_itself

    @property
    def resets(self) -> bool:
        """Whether the connection is reset, and nothing answered."""
        return self.fault.reset or self.fault.drop_response

    @property
    def status(self) -> int | None:
        """The status to answer with, in the API's envelope; None leaves the answer as it is."""
        return self.fault.status


@dataclass(frozen=True, slots=True)
class FaultStatistics:
    """A fault of a sandbox, how many calls it has counted and how many requests it has struck."""

    name: str
    fault: Fault
    calls: int
    strikes: int


class Faults:
    """The faults of one sandbox, in order, and their counts; threads may ask at once."""

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int = 0) -> None:
        """Raises AuthorError when two have the same name."""
        self._seed: Final = seed
        self._lock: Final = Lock()
        self._added = 0
        self._standing: dict[str, _Standing] = {}
        self._struck: dict[str, _Attempt] = {}
        for fault in faults:
            self.add(fault)

    def strike(self, asked: FaultRequest) -> InjectedFault | None:
        """What strikes a request, if anything does; counts it for every fault that might."""
        if not self._standing:
            return None
        with self._lock:
            before = self._struck.pop(asked.caller, None)
            again = before is not None and before.key == hash(asked.key)
            numbers = before.numbers if before is not None and again else {}
            turns = [
                (standing, standing.number(numbers))
                for standing in self._standing.values()
                if standing.might_strike(asked)
            ]
            strike = next(self._strikes(turns), None)
            if strike is not None and not again:
                self._remember(asked, {standing.name: number for standing, number in turns})
            return strike

    def add(self, fault: Fault) -> str:
        """Adds a fault behind the others; its name. Raises AuthorError when that is taken."""
        with self._lock:
            self._added += 1
            while fault.name is None and f"fault {self._added}" in self._standing:
                self._added += 1
            name = fault.name or f"fault {self._added}"
            if name in self._standing:
                raise AuthorError(f"there is a fault {name!r} already. Give this one another name.")
            self._standing[name] = _Standing(name, fault)
            return name

    def remove(self, name: str) -> bool:
        """Takes a fault away; whether there was one of this name."""
        with self._lock:
            return self._standing.pop(name, None) is not None

    def clear(self) -> None:
        """Takes every fault away."""
        with self._lock:
            self._standing.clear()
            self._struck.clear()

    def all(self) -> tuple[FaultStatistics, ...]:
        """The faults that stand, in order."""
        with self._lock:
            return tuple(
                FaultStatistics(each.name, each.fault, each.calls, each.strikes)
                for each in self._standing.values()
            )

    def _strikes(self, turns: Sequence[tuple[_Standing, int]]) -> Iterator[InjectedFault]:
        for standing, number in turns:
            if not standing.is_due(number):
                continue
            fault = standing.fault
            chance = Random(f"{self._seed}/{standing.name}/{number}")  # noqa: S311 (reproducible)
            if chance.random() < fault.probability:
                standing.strikes += 1
                delay = (fault.delay or 0) + int(chance.random() * (fault.jitter or 0))
                yield InjectedFault(fault, standing.name, number, delay)

    def _remember(self, asked: FaultRequest, numbers: dict[str, int]) -> None:
        """Keeps what a re-sent request is compared with; the oldest gives way."""
        if len(self._struck) >= MOST_CALLERS:
            del self._struck[next(iter(self._struck))]
        self._struck[asked.caller] = _Attempt(hash(asked.key), numbers)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A caller's last request, where it was struck, and the number that each fault gave it."""

    key: int
    numbers: Mapping[str, int]


@dataclass(slots=True)
class _Standing:
    """A fault with its counts, and what is read of it once rather than for every request."""

    name: str
    fault: Fault
    calls: int = 0
    strikes: int = 0
    operations: frozenset[str] = field(init=False)
    targets: Mapping[str, str] = field(init=False)
    spans: tuple[tuple[int, int | None], ...] = field(init=False)

    def __post_init__(self) -> None:
        self.operations = frozenset(self.fault.operation)
        self.targets = self.fault.targets
        self.spans = self.fault.spans

    def might_strike(self, asked: FaultRequest) -> bool:
        """Whether it is one of the requests the fault is for."""
        fault = self.fault
        return (
            fault.API in ("", asked.api)
            and (not self.operations or asked.operation in self.operations)
            and fault.caller in (None, asked.caller)
            and all(self._is_about(kind, id, asked) for kind, id in self.targets.items())
        )

    def _is_about(self, kind: str, id: str, asked: FaultRequest) -> bool:
        variable = self.fault.KINDS.get(asked.operation, {}).get(kind)
        return variable is not None and is_called(asked.ids.get(variable, ""), id)

    def number(self, before: Mapping[str, int]) -> int:
        """The number of this call; that of the one ``before``, where both are one attempt."""
        if self.fault.counts == "attempts" and self.name in before:
            return before[self.name]
        self.calls += 1
        return self.calls

    def is_due(self, number: int) -> bool:
        """Whether the call of this number is one of those it strikes."""
        return any(first <= number <= (last or number) for first, last in self.spans)


# --- what becomes of the answer -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """What goes out: the pause, in nanoseconds of the machine's time, is between two chunks.

    ``is_cut``: the headers promise more than there is; the connection is closed after the last
    chunk. ``missed`` are the ways to values that the answer does not have.
    """

    status: int
    headers: Headers
    chunks: tuple[bytes, ...]
    pause: int = 0
    is_cut: bool = False
    missed: tuple[str, ...] = ()


def mangle(
    strike: InjectedFault, status: int = 200, headers: Headers = (), body: bytes = b""
) -> Sent:
    """The answer as the strike leaves it; without one, an empty answer."""
    fault = strike.fault
    body, missed = _other_json(fault, b"" if fault.empty else body)
    if fault.malformed:
        body = _not_quite_json(body)
    kept = body if fault.truncate is None else body[: fault.truncate]
    step = len(kept) if fault.dribble is None else fault.dribble.bytes
    return Sent(
        status,
        _other_headers(headers, len(body), fault.content_type),
        tuple(kept[at : at + step] for at in range(0, len(kept), step or 1)),
        pause=0 if fault.dribble is None else fault.dribble.every,
        is_cut=len(kept) < len(body),
        missed=missed,
    )


def _other_headers(headers: Headers, length: int, content_type: str | None) -> Headers:
    """The headers with the length of this body, and this type of content."""
    replaced = {b"content-length": str(length).encode()}
    if content_type is not None:
        replaced[b"content-type"] = content_type.encode()
    kept = [(name, value) for name, value in headers if name.lower() not in replaced]
    return (*kept, *replaced.items())


def _not_quite_json(body: bytes) -> bytes:
    """The body without its end, as of a server that died while it wrote."""
    text = body.rstrip()
    return text[:-1] if text[-1:] in (b"}", b"]", b'"') else text + b"}"


def _other_json(fault: Fault, body: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The JSON with values left out or of other types, and the ways that lead to none."""
    ways = [(way, _drop) for way in fault.drop] + [(way, _change_type) for way in fault.change_type]
    if not ways:
        return body, ()
    try:
        value = json.loads(body)
    except ValueError:
        return body, tuple(way for way, _ in ways)
    missed = tuple(way for way, change in ways if not _changed(value, way, change))
    return _json(value).encode("utf-8", "backslashreplace"), missed


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _changed(value: Any, way: str, change: Callable[[Any, Any], None]) -> bool:
    """Changes what a way leads to, in place; whether it leads to anything."""
    *steps, last = way.split(".")
    holders = [value]
    for step in steps:
        holders = [holder[key] for holder in holders for key in _keys(holder, step)]
    places = [(holder, key) for holder in holders for key in _keys(holder, last)]
    for holder, key in reversed(places):  # from the end: a list grows shorter
        change(holder, key)
    return bool(places)


_NUMBER: Final = re.compile("-?[0-9]{1,15}", re.ASCII)


def _keys(holder: Any, step: str) -> list[Any]:
    """The keys or positions that a step means in a mapping or list."""
    if isinstance(holder, dict):
        return list(holder) if step == "*" else [step] if step in holder else []
    if isinstance(holder, list):
        everything = range(len(holder))
        return [at for at in everything if step in ("*", str(at))]
    return []


def _drop(holder: Any, key: Any) -> None:
    del holder[key]


def _change_type(holder: Any, key: Any) -> None:
    """A text becomes a number: the one it says, if it says one. Anything else becomes a text."""
    value = holder[key]
    if not isinstance(value, str):
        holder[key] = _json(value)
    else:
        holder[key] = int(value) if _NUMBER.fullmatch(value) else 0
