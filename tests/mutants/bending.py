"""What every mutant is made with: answers that are bent on their way out, and machines taken apart.

A mutant is a context manager: inside it the mock is broken, and what it yields wraps the app that
is served. Nothing here knows what conformance checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import orjson

from oceanmock.conformance import ApiName
from oceanmock.obshell import machine as obshell_machine
from oceanmock.ocp import machine as ocp_machine
from oceanmock.openapi import load_spec, operations_of, spec_path

AsgiApp = Callable[..., Any]
Wrap = Callable[[AsgiApp], AsgiApp]


@dataclass(slots=True)
class Answer:
    """An answer on its way out; ``said`` is its JSON, and may be changed in place."""

    operation: str
    query: str
    status: int
    content_type: str
    said: Any
    asked: list[str] = field(default_factory=list)
    """The operations that were asked before, oldest first."""
    turn: int = 0
    """How often this was asked before: the same operation on the same path."""


Bend = Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken server. ``rules``: conformance has to name at least one of them."""

    name: str
    api: ApiName
    says: str
    rules: frozenset[str]
    broken: Callable[[], Any]
    """A context manager that yields what wraps the app."""


def on(*operations: str, status: int | None = None) -> Callable[[Bend], Bend]:
    """Bends only the answers of these operations, or of any, and of this status."""

    def only(bend: Bend) -> Bend:
        def bent_there(answer: Answer) -> None:
            is_one = not operations or answer.operation in operations
            if is_one and status in (None, answer.status):
                bend(answer)

        return bent_there

    return only


def bent(api: str, bend: Bend) -> Callable[[], Any]:
    """A mutant whose answers are bent; what is no JSON, and the admin API, are left alone."""

    @contextmanager
    def broken() -> Iterator[Wrap]:
        yield lambda app: Bent(app, api, bend)

    return broken


def patched(*patches: Callable[[], Any]) -> Callable[[], Any]:
    """A mutant whose machine is taken apart; lives that were worked out before are forgotten."""

    @contextmanager
    def broken() -> Iterator[Wrap]:
        with ExitStack() as stack:
            for each in patches:
                stack.enter_context(each())
            _forget()
            stack.callback(_forget)
            yield lambda app: app

    return broken


def replacing(module: Any, name: str, other: Any) -> Callable[[], Any]:
    """Another function, or other value, in its place."""
    return lambda: patch.object(module, name, other)


def replacing_in(table: dict[Any, Any], entries: Mapping[Any, Any]) -> Callable[[], Any]:
    """Other entries in a table."""
    return lambda: patch.dict(table, entries)


def _forget() -> None:
    ocp_machine.start.cache_clear()
    obshell_machine.start.cache_clear()


class Bent:
    """An ASGI app whose JSON answers are bent."""

    dispatch = None  # each answer goes through ``__call__``

    def __init__(self, app: AsgiApp, api: str, bend: Bend) -> None:
        self.app = app
        self.bend = bend
        self.operations = operations_of(load_spec(spec_path(api)))
        self.asked: list[str] = []
        self.turns: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.app, name)  # what a server looks for: ports, sandboxes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/__admin/"):
            await self.app(scope, receive, send)
            return
        path = _in_its_sandbox(scope["path"])
        operation = self._operation(scope["method"], path)
        query = scope["query_string"].decode("latin-1")
        start: dict[str, Any] = {}

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            for each in self._bent(operation, path, query, start, message):
                await send(each)

        await self.app(scope, receive, sending)

    def _bent(self, operation: str, path: str, query: str, start: Any, message: Any) -> list[Any]:
        headers = dict(start["headers"])
        try:
            said = orjson.loads(message["body"])
        except ValueError:
            return [start, message]
        kind = headers.get(b"content-type", b"").decode()
        answer = Answer(operation, query, start["status"], kind, said, self.asked, self.turns[operation + path])
        self.turns[operation + path] += 1
        self.bend(answer)
        if answer.status < 400:
            self.asked.append(operation)
        body = orjson.dumps(answer.said)
        changed = {b"content-type": answer.content_type.encode(), b"content-length": str(len(body)).encode()}
        return [
            {**start, "status": answer.status, "headers": list({**headers, **changed}.items())},
            {**message, "body": body},
        ]

    def _operation(self, method: str, path: str) -> str:
        parts = path.split("/")
        found = sorted(
            (o for o in self.operations if o.method == method and _fits(o.path, parts)), key=lambda o: "{" in o.path
        )
        return found[0].id if found else ""


def _in_its_sandbox(path: str) -> str:
    """The path below a sandbox' own (``/sandboxes/{name}``)."""
    return "/" + path.split("/", 3)[3] if path.startswith("/sandboxes/") else path


def _fits(template: str, parts: list[str]) -> bool:
    wanted = template.split("/")
    return len(wanted) == len(parts) and all(
        part if want.startswith("{") else part == want for want, part in zip(wanted, parts, strict=True)
    )
