"""Decide what a conformance run may send, before a byte leaves.

A run that only reads sends GET. One that writes changes the tasks it was given, the parts that
their own responses show, and registered ids, such as those of nothing. A request that names the
address of another agent is never sent, since the target would forward it. What is not known to be
allowed is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import unquote

from oceanmock.apis import api_named
from oceanmock.checks import Exchange
from oceanmock.errors import OceanmockError
from oceanmock.openapi import Operation, operations_at

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110, 9.2.1)."""
REWRITING_HEADERS: Final[Sequence[str]] = (
    "transfer-encoding",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
)
"""Headers that some servers read as another method, or as another end of the body."""
ANY_KIND: Final = "any"
REWRITTEN: Final = re.compile(r"[/\\;%]")
"""Characters that make a server or a proxy read another path; no changed id contains one."""
_VARIABLE: Final = re.compile(r"\{(.*)\}")


class NotAllowed(OceanmockError):
    """A request that this run must not send; no byte of it has left."""


class Guard:
    """The permissions of one run on one target.

    ``own_address`` is the target's; without one, no id that names an address is sent. ``tasks`` are
    the ids that may be changed, ``writes`` says whether any may.
    """

    def __init__(
        self,
        api: str,
        operations: Sequence[Operation],
        *,
        writes: bool,
        tasks: Sequence[str] = (),
        own_address: tuple[str, int] | None = None,
    ) -> None:
        self._api = api_named(api)
        self._server = self._api.conformance
        self._operations = operations
        self._writes = writes
        self._own_address: tuple[str, int] | None = None
        if own_address is not None:
            with suppress(ValueError):  # a name is no address in an id
                self._own_address = str(ip_address(own_address[0])), own_address[1]
        self._allows_everything = False
        self._ids = {(self._api.root.name, str(id)) for id in tasks}
        self._parts = {f"{kind.name}s": kind.name for kind in self._api.kinds if kind.parent}

    def may_change(self, id: str | int, *, kind: str = ANY_KIND) -> None:
        """Allow changes to an id of a kind; ``ANY_KIND``, for ids of nothing, any method."""
        self._ids.add((kind, str(id)))

    def may_change_everything(self) -> None:
        """Allow every change, as on a mock that nobody else uses."""
        self._allows_everything = True

    def check(self, method: str, target: str, body: bytes) -> None:
        """Raise NotAllowed for a request that must not be sent; ``target`` is path and query."""
        path = target.partition("?")[0]
        for ip, port in self._server.addresses_in(path, body):
            if self._own_address != (str(ip_address(ip)), port):
                host = f"[{ip}]" if ":" in ip else ip
                raise NotAllowed(
                    f"{method} {path} was not sent: the id names the agent {host}:{port}, which the target would ask."
                )
        if not self._writes and method != "GET":
            raise NotAllowed(
                f"{method} {path} was not sent: this run only reads. With --write it may change the tasks of --task."
            )
        if method not in SAFE and not self._allows_everything:
            self._check_ids(method, path)

    def check_headers(self, headers: Mapping[str, Any], body: bytes, *, host: str) -> None:
        """Raise NotAllowed for headers that turn the request into another one.

        The end of the body has to be unambiguous, or its rest would be a request of its own; and
        host and method have to be those that were checked.
        """
        values = {name.lower(): header_text(value) for name, value in headers.items()}
        length = values.get("content-length", "")
        odd = [name for name in REWRITING_HEADERS if name in values]
        odd += ["content-length"] if length and length != str(len(body)) else []
        odd += ["host"] if values.get("host", host).lower() != host.lower() else []
        if odd:
            raise NotAllowed(f"a request was not sent: its header {odd[0]} makes it another request.")

    def learn(self, exchange: Exchange) -> None:
        """Allow changes to the parts that a response shows of something that may be changed."""
        if not self._writes or exchange.status != 200:
            return
        ids = list(self._ids_in(exchange.method, exchange.target.partition("?")[0]))
        if ids and all(self._may_change(kind, id) for kind, id in ids):
            body = exchange.json()
            self._ids.update(self._parts_in(body.get("data") if isinstance(body, dict) else None))

    def _check_ids(self, method: str, path: str) -> None:
        """Raise NotAllowed unless the path has ids, and all of them may be changed.

        A method that is no operation of the contract may have any effect on what exists.
        """
        refused = f"{method} {path} was not sent:"
        ids = list(self._ids_in(method, path))
        if not ids:
            raise NotAllowed(f"{refused} it names no task that may be changed.")
        is_operation = any(item.method == method for item in operations_at(self._operations, path))
        if not is_operation and any((ANY_KIND, id) not in self._ids for _, id in ids):
            raise NotAllowed(f"{refused} it is no operation of the contract, so its effect is unknown.")
        for kind, id in ids:
            if not self._may_change(kind, id):
                raise NotAllowed(
                    f"{refused} this run may not change {kind} {id!r}. --task {id} allows it."
                    if kind == self._api.root.name
                    else f"{refused} {kind} {id!r} is no part of a task that this run may change."
                )

    def _may_change(self, kind: str, id: str) -> bool:
        """Return whether an id may be changed, and every other that a server may read it as."""
        return not REWRITTEN.search(id) and all(
            (kind, item) in self._ids or (ANY_KIND, item) in self._ids for item in self._server.equivalent_ids(id)
        )

    def _ids_in(self, method: str, path: str) -> Iterator[tuple[str, str]]:
        """Yield kind and id of each variable of a path, by the contract."""
        at_path = operations_at(self._operations, path)
        operation = next((item for item in at_path if item.method == method), None)
        operation = operation or next(iter(at_path), None)
        if operation is None:
            return
        kinds = {parameter: kind for kind, parameter in self._api.ids_of(operation.id).items()}
        for name, value in zip(operation.path.split("/"), path.split("/"), strict=False):
            if variable := _VARIABLE.fullmatch(name):
                yield kinds.get(variable[1], variable[1]), unquote(value)

    def _parts_in(self, node: Any) -> Iterator[tuple[str, str]]:
        """Yield kind and id of every part that a response's data contain."""
        for key, kind in self._parts.items() if isinstance(node, dict) else ():
            for part in node.get(key) or ():
                if isinstance(part, dict) and isinstance(part.get("id"), str | int):
                    yield kind, str(part["id"])
                    yield from self._parts_in(part)


def header_text(value: str | bytes) -> str:
    """Return a header's name or value as text."""
    return value.decode("latin-1") if isinstance(value, bytes) else value
