"""What a conformance run may send: asked of every request before a byte leaves.

A run that only reads sends GET. One that writes changes the tasks it was told, what their own
answers show to belong to them, and ids that were registered, such as those of nothing. An id of an
obshell that names another agent is sent by no method, since the target would dial that agent
(obshell ob/agent/executor/task/dag.go:72-88). The one rule: what is not known to be allowed is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import unquote

import orjson

from oceanmock.checks import Exchange
from oceanmock.conformance.model import Api
from oceanmock.errors import OceanmockError
from oceanmock.obshell.ids import InvalidGenericId, parse_generic_id
from oceanmock.openapi import Operation, operations_at

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110, 9.2.1)."""

KINDS: Final[Mapping[str, str]] = {
    "instances": "task",
    "subtasks": "subtask",
    "dag": "dag",
    "node": "node",
    "sub_task": "sub_task",
}
"""What a path's variable is the id of, by the name before it."""
PARTS: Final[Mapping[str, str]] = {"subtasks": "subtask", "nodes": "node", "sub_tasks": "sub_task"}
"""What a task's answer shows to belong to it, by the key of the list."""
DISGUISES: Final[tuple[str, ...]] = (
    "transfer-encoding",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
)
"""Headers that some servers take for another method, or for another end of the body."""
ANY: Final = "any"
REWRITTEN: Final = re.compile(r"[/\\;%]")
"""What makes a server, or what stands before it, read another path: none of it in a change."""
_VARIABLE: Final = re.compile(r"\{.*\}")


class NotAllowed(OceanmockError):
    """A request that this run must not send; nothing of it has left."""


class Guard:
    """What one run may send to one target.

    ``own_address`` is that of the obshell that is asked; without one, no id that names an address
    is sent. ``tasks`` are the ids that may be changed, ``writes`` says whether any may.
    """

    def __init__(
        self,
        api: Api,
        operations: tuple[Operation, ...],
        *,
        writes: bool,
        tasks: tuple[str, ...] = (),
        own_address: tuple[str, int] | None = None,
    ) -> None:
        self._api = api
        self._operations = operations
        self._writes = writes
        self._own_address = own_address
        self._everything = False
        kind = "task" if api == "ocp" else "dag"
        self._ids = {(kind, str(id)) for id in tasks}

    def may_change(self, id: str | int, *, kind: str = ANY) -> None:
        """Allows changes to an id; of one kind (``KINDS``), else of each.

        Of any kind is an id of nothing: with it, methods that are no operation are sent as well.
        """
        self._ids.add((kind, str(id)))

    def may_change_everything(self) -> None:
        """Allows any change, as on a mock that nobody else uses; it stays in force."""
        self._everything = True

    def changes(self, method: str) -> bool:
        """Whether a method is one that may change something."""
        return method not in SAFE

    def check(self, method: str, target: str, body: bytes) -> None:
        """Raises NotAllowed for a request that must not be sent; ``target`` is path and query."""
        path = target.partition("?")[0]
        if self._api == "obshell":
            self._check_addresses(method, path, body)
        if not self._writes and method != "GET":
            raise NotAllowed(
                f"{method} {path} was not sent: this run only reads. With --write it may change "
                "what --task names."
            )
        if self.changes(method) and not self._everything:
            self._check_ids(method, path)

    def check_headers(self, headers: Mapping[str, Any], body: bytes, *, host: str) -> None:
        """Raises NotAllowed for headers that make another request of it than it seems to be.

        Where a body ends has to be plain, or what is left of it is a request by itself; and neither
        another host nor another method is meant than those that were checked.
        """
        said = {name.lower(): _text(value) for name, value in headers.items()}
        length = said.get("content-length", "")
        odd = [name for name in DISGUISES if name in said]
        odd += ["content-length"] if length and length != str(len(body)) else []
        odd += ["host"] if said.get("host", host).lower() != host.lower() else []
        if odd:
            raise NotAllowed(
                f"a request was not sent: its header {odd[0]} makes another request of it."
            )

    def _check_ids(self, method: str, path: str) -> None:
        """Every id of the path is one that may be changed, and there is one.

        By an operation, that is: what any other method would do to what is there, nobody knows.
        """
        several = list(self._ids_in(method, path))
        if not several:
            raise NotAllowed(f"{method} {path} was not sent: it names no task that may be changed.")
        at_path = operations_at(self._operations, path)
        is_operation = any(each.method == method for each in at_path)
        if not is_operation and any((ANY, id) not in self._ids for _, id in several):
            raise NotAllowed(
                f"{method} {path} was not sent: it is no operation of the contract, and nobody "
                "knows what it would do to what is there."
            )
        for kind, id in several:
            if not self._may_change(kind, id):
                raise NotAllowed(
                    f"{method} {path} was not sent: {kind} {id!r} is none that this run may "
                    f"change. --task {id} allows it."
                    if kind in {"task", "dag"}
                    else f"{method} {path} was not sent: {kind} {id!r} belongs to nothing that "
                    "this run may change."
                )

    def _may_change(self, kind: str, id: str) -> bool:
        """Whether an id may be changed, and with it every other that a server may read it as."""
        return not REWRITTEN.search(id) and all(
            not self._ids.isdisjoint({(kind, each), (ANY, each)}) for each in self._read_as(id)
        )

    def _read_as(self, id: str) -> set[str]:
        """An id, and what a server may take it for."""
        if self._api == "ocp":
            return _numbers_in(id)
        try:
            return {id, str(parse_generic_id(id))}
        except InvalidGenericId:
            return {id}

    def _ids_in(self, method: str, path: str) -> Iterator[tuple[str, str]]:
        """The ids in a path and what each is, by the contract."""
        at_path = operations_at(self._operations, path)
        asked = [each for each in at_path if each.method == method] or at_path
        template = asked[0].path.split("/") if asked else []
        for before, name, said in zip(template, template[1:], path.split("/")[1:], strict=False):
            if _VARIABLE.fullmatch(name):
                yield KINDS.get(before, before), unquote(said)

    # --- what belongs to what may be changed ------------------------------------------------------

    def learn(self, exchange: Exchange) -> None:
        """Allows changes to what an answer shows to belong to something that may be changed."""
        if not self._writes or exchange.status != 200:
            return
        several = list(self._ids_in(exchange.method, exchange.target.partition("?")[0]))
        if several and all(self._may_change(kind, id) for kind, id in several):
            answer = exchange.json()
            self._ids.update(_parts_in(answer.get("data") if isinstance(answer, dict) else None))

    # --- addresses --------------------------------------------------------------------------------

    def _check_addresses(self, method: str, path: str, body: bytes) -> None:
        """No id of another agent stands in the path, or in the body's ``id``."""
        for said in [*path.split("/"), *_ids_of_body(body)]:
            address = _address(unquote(said))
            if address is not None and not self._is_own(address):
                host = f"[{address[0]}]" if ":" in address[0] else address[0]
                raise NotAllowed(
                    f"{method} {path} was not sent: the id names the agent {host}:{address[1]}, "
                    "and the target would ask that agent."
                )

    def _is_own(self, address: tuple[str, int]) -> bool:
        own = self._own_address
        if own is None or own[1] != address[1]:
            return False
        try:
            return ip_address(own[0]) == ip_address(address[0])
        except ValueError:
            return False


def _numbers_in(id: str) -> set[str]:
    """An id, and the number that a lenient server may read in it: 7 in ``+7``, ``7.0``, ``0x7``.

    Spring drops all blanks and knows hexadecimals (its NumberUtils.parseNumber).
    """
    text = re.sub(r"\s", "", id).lower()
    found = {id}
    for pattern, read in _NUMBERS:
        if pattern.fullmatch(text):
            found.add(str(read(text)))
    return found


_NUMBERS: Final[Sequence[tuple[re.Pattern[str], Callable[[str], int]]]] = (
    (re.compile(r"[+-]?\d{1,40}"), int),
    (
        re.compile(r"[+-]?\d{1,40}(\.\d*)?(e\+?\d{1,2})?[dfl]?"),
        lambda t: int(Decimal(t.rstrip("dfl"))),
    ),
    (re.compile(r"[+-]?(0x|#)[0-9a-f]{1,40}"), lambda t: int(re.sub("0x|#", "", t), 16)),
)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _address(text: str) -> tuple[str, int] | None:
    """The address that a generic id names; None for a cluster's id, and for what is no id."""
    try:
        id = parse_generic_id(text)
    except InvalidGenericId:
        return None
    return None if id.ip is None else (str(id.ip), id.port)


def _ids_of_body(body: bytes) -> list[str]:
    """What a body gives as ``id``, in any case, as Go reads its keys."""
    try:
        said = orjson.loads(body)
    except ValueError:
        return []
    members = said.items() if isinstance(said, dict) else ()
    return [value for key, value in members if key.lower() == "id" and isinstance(value, str)]


def _parts_in(node: Any) -> Iterator[tuple[str, str]]:
    """The ids of all subtasks, or of all nodes and sub tasks, in an answer."""
    for key, kind in PARTS.items() if isinstance(node, dict) else ():
        for part in node.get(key) or ():
            if isinstance(part, dict) and isinstance(part.get("id"), str | int):
                yield kind, str(part["id"])
                yield from _parts_in(part)
