"""Choose the fault to inject into a request, and apply it to the response.

``Faults.inject`` chooses the fault; ``apply_fault`` changes the response. The server delays it, or cuts it off. A
fault counts every request that it matches; of those whose turn it is, only the first is injected. What is drawn for
the n-th request of a fault depends only on the sandbox's seed, the fault's name and n.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from random import Random
from typing import Any, Final

from oceanmock.engine.store import Store
from oceanmock.errors import CallerError, InputError
from oceanmock.journal.entries import BODILESS, RawHeaders
from oceanmock.scenario.faults import MAX_FAULTS, Fault
from oceanmock.scenario.stubs import is_in_time


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault that one request gets. ``call`` is the request's number for the fault."""

    fault: Fault
    name: str
    call: int
    delay: int  # the delay of the response, in nanoseconds of the machine's time

    @property
    def carries_out(self) -> bool:
        """Return whether the operation is executed, whatever the response is."""
        fault = self.fault
        is_replaced = fault.reset or fault.empty or fault.own_status is not None
        return fault.still_executes or fault.drop_response or not is_replaced


@dataclass(frozen=True, slots=True)
class FaultStatistics:
    """A fault of a sandbox: how many requests it has matched, and into how many it was injected."""

    name: str
    fault: Fault
    calls: int
    affected: int


class Faults:
    """The faults of one sandbox by name, in order; its store keeps their counters and the callers' last attempts."""

    def __init__(self, sandbox: str, store: Store, *, seed: int = 0) -> None:
        self._sandbox: Final = sandbox
        self._store: Final = store
        self._seed: Final = seed
        self._added = 0
        self.by_name: dict[str, tuple[int, Fault]] = {}  # each with its id: its number among all faults ever added

    def inject(self, request: Any) -> InjectedFault | None:
        """Return the fault to inject into a request (``oceanmock.api``), if any; count it for each fault that matches.

        A request is a further attempt if its method, target and body equal those of the caller's last one.
        """
        store, sandbox = self._store, self._sandbox
        last_key, last_numbers = store.swap_attempt(sandbox, request.caller)
        operation = request.operation.id if request.operation else ""
        faults = self.by_name.items()
        matching = [(name, id, fault) for name, (id, fault) in faults if _matches(fault, request, operation)]
        if not matching:
            return None
        key = (request.method, request.raw_path, request.query, request.body)
        digest = blake2b(repr(key).encode(), digest_size=16).hexdigest()
        if digest != last_key:
            last_numbers = {}
        numbers = {}
        for _, id, fault in matching:
            is_again = fault.counts == "attempts" and id in last_numbers
            numbers[id] = last_numbers[id] if is_again else store.count(sandbox, ("requests", id))
        for name, id, fault in matching:
            number = numbers[id]
            if not any(first <= number <= (last or number) for first, last in fault.spans):
                continue
            chance = Random(f"{self._seed}/{name}/{number}")  # noqa: S311 (reproducible)
            if chance.random() < fault.probability:
                store.count(sandbox, ("injections", id))
                delay = (fault.delay or 0) + int(chance.random() * (fault.jitter or 0))
                if last_numbers.keys().isdisjoint(numbers):  # only of the first attempt
                    store.swap_attempt(sandbox, request.caller, (digest, numbers))
                return InjectedFault(fault, name, number, delay)
        return None

    def add(self, fault: Fault) -> str:
        """Add a fault behind the others and return its name. Raises InputError if it is taken, or at the limit."""
        if len(self.by_name) >= MAX_FAULTS:
            raise InputError(f"a sandbox has at most {MAX_FAULTS} faults. Remove those that are done with.")
        number = self._added + 1
        while fault.name is None and f"fault {number}" in self.by_name:
            number += 1
        name = fault.name or f"fault {number}"
        if name in self.by_name:
            raise InputError(f"there is a fault {name!r} already. Give this one another name.")
        self._added = number
        self.by_name[name] = number, fault
        return name

    def remove(self, name: str) -> bool:
        """Remove a fault; return whether there was one of this name."""
        return self.by_name.pop(name, None) is not None

    def statistics(self) -> tuple[FaultStatistics, ...]:
        """Return the faults in order, with their counters."""
        count = partial(self._store.count, self._sandbox, by=0)
        return tuple(
            FaultStatistics(name, fault, count(("requests", id)), count(("injections", id)))
            for name, (id, fault) in self.by_name.items()
        )


def _matches(fault: Fault, request: Any, operation: str) -> bool:
    """Return whether a fault is for this request, in its time, and its condition holds."""
    variables = fault.ids_by_operation.get(operation, {})
    return (
        fault.api in ("", request.service.name)
        and (not fault.operation or operation in fault.operation)
        and fault.caller in (None, request.caller)
        and fault.stub in (None, request.stub)
        and all(
            fault.is_same_id(request.path_values.get(variables.get(kind, ""), ""), id)
            for kind, id in fault.targets.items()
        )
        and (not fault.is_conditional or _holds(fault, request, variables))
    )


def _holds(fault: Fault, request: Any, variables: Mapping[str, str]) -> bool:
    sandbox, when, view = request.sandbox, fault.when, None
    now, world = sandbox.clock.now(), sandbox.worlds[request.service.name]
    may_apply = is_in_time(fault, now - sandbox.started)
    if when is None or not may_apply:
        return may_apply
    if when.of is not None:
        view = world.newest(when.of)
    else:
        with suppress(CallerError, LookupError, ValueError):  # the request names nothing that exists
            view = world.view_named({kind: request.path_values[variable] for kind, variable in variables.items()})
    return not when.difference(view, sandbox.started, now)


@dataclass(frozen=True, slots=True)
class FaultyResponse:
    """A response after a fault; ``is_cut``: the connection is closed before the announced length."""

    status: int
    headers: RawHeaders
    chunks: tuple[bytes, ...]
    pause: int = 0  # between chunks, in nanoseconds of the machine's time
    is_cut: bool = False


def apply_fault(
    injected: InjectedFault, status: int = 200, headers: RawHeaders = (), body: bytes = b""
) -> FaultyResponse:
    """Return a response as a fault changes it; by default an empty one."""
    fault, original = injected.fault, body
    replaced = dict[bytes, bytes]()
    status = fault.own_status or status
    if fault.body is not None:
        is_text, content = (True, fault.body) if isinstance(fault.body, str) else (False, _json(fault.body))
        headers, body = (), content.encode("utf-8", "backslashreplace")
        kind = "text/html" if content.lstrip().startswith("<") else "text/plain"
        replaced[b"content-type"] = f"{kind}; charset=utf-8".encode() if is_text else b"application/json"
    elif fault.own_status is not None and status < 400:
        headers, body = (), b""
    if fault.empty:
        body = b""
    if fault.set or fault.drop or fault.change_type:
        with suppress(ValueError):  # a body that is no JSON stays
            value = json.loads(body)
            _change(value, fault)
            body = _json(value).encode("utf-8", "backslashreplace")
    if fault.malformed:  # as if the server had stopped while it wrote
        text = body.rstrip()
        body = text[:-1] if text[-1:] in (b"}", b"]", b'"') else text + b"}"
    if status in BODILESS:
        body = b""
    sent = body if fault.truncate is None else body[: fault.truncate]
    step = len(sent) if fault.dribble is None else fault.dribble.bytes
    keeps_length = headers and body == original and not fault.empty  # to HEAD it is that of GET's body
    if not keeps_length and status not in BODILESS:
        replaced[b"content-length"] = str(len(body)).encode()
    if fault.content_type is not None:
        replaced[b"content-type"] = fault.content_type.encode()
    replaced |= {name.lower().encode(): text.encode() for name, text in (fault.headers or {}).items()}
    others = [(name, value) for name, value in headers if name.lower() not in replaced]
    return FaultyResponse(
        status,
        (*others, *replaced.items()),
        tuple(sent[at : at + step] for at in range(0, len(sent), step or 1)),
        pause=0 if fault.dribble is None else fault.dribble.every,
        is_cut=len(sent) < len(body),
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _change(value: Any, fault: Fault) -> None:
    """Set, drop and change the type of values in place; a path that matches nothing is ignored."""
    for path, new in (fault.set or {}).items():
        for holder, key in _places(value, path, adds=True):
            holder[key] = deepcopy(new)
    dropped = {(id(holder), key): holder for path in fault.drop for holder, key in _places(value, path)}
    for (_, key), holder in sorted(dropped.items(), key=_position_of, reverse=True):  # from the end: lists grow shorter
        del holder[key]
    for path in fault.change_type:
        for holder, key in _places(value, path):
            old = holder[key]
            if not isinstance(old, str):
                holder[key] = _json(old)
            else:
                holder[key] = int(old) if re.fullmatch("-?[0-9]{1,15}", old) else 0


def _places(value: Any, path: str, *, adds: bool = False) -> list[tuple[Any, Any]]:
    """Return the holders of the values at a path, each with its key; with ``adds`` also of new keys of objects."""
    *steps, last = _POSITION.sub(r".\1", path).lstrip(".").split(".")
    holders = [value]
    for step in steps:
        holders = [holder[key] for holder in holders for key in _keys(holder, step)]
    places = [(holder, key) for holder in holders for key in _keys(holder, last)]
    if adds and last != "*":
        places += [(holder, last) for holder in holders if isinstance(holder, dict) and last not in holder]
    return places


def _position_of(place: tuple[tuple[int, Any], Any]) -> int:
    key = place[0][1]
    return key if isinstance(key, int) else 0


_POSITION: Final = re.compile(r"\[([0-9]+|\*)\]")


def _keys(holder: Any, step: str) -> list[Any]:
    if isinstance(holder, dict):
        return list(holder) if step == "*" else [step] if step in holder else []
    if isinstance(holder, list):
        return [at for at in range(len(holder)) if step in ("*", str(at))]
    return []
