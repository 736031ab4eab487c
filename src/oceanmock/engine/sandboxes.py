"""The sandboxes of a server by their names: those of its own process, or those that several replicas share."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import count, repeat
from threading import RLock, local
from typing import Any, Final

from oceanmock.engine import store
from oceanmock.engine.log import SandboxSpec
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.store import NoSuchSandbox, SandboxDeleted, SandboxTaken, TooManySandboxes
from oceanmock.errors import InputError
from oceanmock.scenario import BaseScenario

DEFAULT_SANDBOX: Final = "default"
MAX_SANDBOXES: Final = 10_000
MAX_OWN_PORTS: Final = 500  # the most further ports of a server; each is an open file, and a process often has 1,024
SANDBOX_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{store.MAX_NAME_LENGTH - 1}}}")
"""The names that can stand in paths and headers as they are."""
MAX_LOCKS: Final = 64  # how many sandboxes of a replica can be requested at once; some share a lock
MIN_KEPT: Final = 100


class Sandboxes:
    """The sandboxes of one server, by their names; ``ports`` maps further ports to them.

    They share a store and nothing else. ``default`` always exists: it is the sandbox of a request that names none.
    Their number is bounded; a sandbox stays until it is deleted, or its lease has run out.
    """

    def __init__(self, default: Sandbox, *, limit: int = MAX_SANDBOXES) -> None:
        self.limit: Final = limit
        self.ports: dict[int, str] = {}
        self.store: Final = default.store
        self._by_name = {DEFAULT_SANDBOX: default}
        self._numbers: Iterable[int] = count(1)
        self._apis: Final = default.apis
        self._wall: Final = default.wall
        if not self.store.replica:
            for name in self.store.names():
                if name != DEFAULT_SANDBOX:
                    self._restore(name)

    @property
    def default(self) -> Sandbox:
        """Return the default sandbox."""
        return self.get(DEFAULT_SANDBOX)

    def __iter__(self) -> Iterator[Sandbox]:
        return iter([*self._by_name.values()])

    def __len__(self) -> int:
        return len(self._names())

    def get(self, name: str) -> Sandbox:
        """Return the sandbox of a name. Raises NoSuchSandbox."""
        sandbox = self._by_name.get(name)
        if sandbox is not None:
            left = sandbox.lease_left()
            if left is None or left > 0:
                return sandbox
            self.store.delete(name)
            del self._by_name[name]
        raise NoSuchSandbox(name, self._by_name)

    def remove_expired(self) -> list[int]:
        """Remove the sandboxes whose leases have run out, and return the ports that are free then."""
        for name in [name for name, sandbox in [*self._by_name.items()] if sandbox.spec.ttl is not None]:
            with suppress(NoSuchSandbox):
                self.get(name)
        return self.free_ports()

    def create(self, name: str | None, spec: SandboxSpec) -> Sandbox:
        """Build and add a sandbox of a name, by default the next free one. Raises the errors of both."""
        return self.add(self.build(name, spec))

    def _restore(self, name: str) -> Sandbox:
        sandbox = self._by_name[name] = Sandbox.restored(name, self._apis, store=self.store, wall=self._wall)
        return sandbox

    def add(self, sandbox: Sandbox) -> Sandbox:
        """Add a sandbox that was built. Raises SandboxTaken, TooManySandboxes."""
        self._check(sandbox.name)
        if not sandbox.put(replaces=0):
            raise SandboxTaken(sandbox.name)
        self._by_name[sandbox.name] = sandbox
        return sandbox

    def build(self, name: str | None, spec: SandboxSpec) -> Sandbox:
        """Return a sandbox for ``add``; any thread may. Raises InputError, SandboxTaken, TooManySandboxes."""
        if name is None:
            names = self._names()
            name = next(n for n in map("sandbox-{}".format, self._numbers) if n not in names)
        if not SANDBOX_NAME.fullmatch(name):
            raise InputError(
                f"{store.quoted_name(name)} is no name for a sandbox: letters, digits, dots, dashes and "
                f"underscores, at most {store.MAX_NAME_LENGTH}, a letter or digit first."
            )
        self._check(name)
        return self._build(replace(spec, name=name))

    def _check(self, name: str) -> None:
        names = self._names()
        if len(names) >= self.limit:
            raise TooManySandboxes(f"there are {self.limit:,} sandboxes already. Delete those that are done with.")
        if name in names:
            raise SandboxTaken(name)

    def _names(self) -> Collection[str]:
        return self._by_name

    def reset(self, name: str) -> Sandbox:
        """Create a sandbox anew from its specification. Raises NoSuchSandbox."""
        while (fresh := self.put(self.rebuild(name))) is None:
            pass  # another replica was faster
        return fresh

    def delete(self, name: str) -> list[int]:
        """Delete a sandbox and return its own ports. Raises NoSuchSandbox. ``default`` is reset instead."""
        if name == DEFAULT_SANDBOX:
            self.reset(name)
            return []
        self.get(name)
        self.store.delete(name)
        del self._by_name[name]
        return self.free_ports([name])

    def free_ports(self, names: Iterable[str] = ()) -> list[int]:
        """Free the ports of some sandboxes and of deleted ones, and return them."""
        existing = set(self._names()) - {*names}
        freed = [port for port, owner in [*self.ports.items()] if owner not in existing]
        for port in freed:
            del self.ports[port]
        return freed

    def rebuild(
        self, name: str, scenarios: Sequence[BaseScenario] = (), *, replaces: bool = False, **changes: Any
    ) -> Sandbox:
        """Return a sandbox for ``put``: of the same specification, with more or other scenarios, and changes.

        Raises NoSuchSandbox, and InputError for scenarios that cannot be served together.
        """
        current = self.get(name)
        kept = () if replaces else current.spec.scenarios
        fresh = self._build(replace(current.spec, scenarios=(*kept, *scenarios), created=self._wall(), **changes))
        fresh.base = current.base
        return fresh

    def put(self, sandbox: Sandbox, *, if_untouched: bool = False) -> Sandbox | None:
        """Put a sandbox in the place of the one that it was rebuilt from. Raises NoSuchSandbox.

        Return None if that was replaced since; with ``if_untouched``, also if it has had a command or a request.
        """
        self.get(sandbox.name)
        if not sandbox.put(replaces=sandbox.base, if_untouched=if_untouched):
            return None
        self._by_name[sandbox.name] = sandbox
        return sandbox

    def _build(self, spec: SandboxSpec) -> Sandbox:
        return Sandbox(spec, self._apis, store=self.store, wall=self._wall, is_stored=False)


class SharedSandboxes(Sandboxes):
    """The sandboxes of a store that several replicas share.

    A replica keeps the state of each sandbox that it has served, and brings it up to date at the next request. Within
    ``request``, a thread has the sandboxes that it gets for itself. ``ports`` are this replica's own.
    """

    def __init__(self, default: Sandbox, *, limit: int = MAX_SANDBOXES) -> None:
        super().__init__(default, limit=limit)
        self._numbers = map(partial(self.store.count, DEFAULT_SANDBOX), repeat("names"))
        self._default_spec: Final = default.spec
        self._locks: Final = [RLock() for _ in range(MAX_LOCKS)]
        self._thread: Final = local()
        self._max_kept = MIN_KEPT

    @contextmanager
    def request(self) -> Iterator[None]:
        """Lock the sandboxes that the thread gets, until the end."""
        self._forget_deleted()
        with ExitStack() as stack:
            self._thread.stack = stack
            stack.callback(setattr, self._thread, "stack", None)
            yield

    def kept(self, name: str) -> Sandbox:
        """Return a sandbox as this replica last read it, or else the default one."""
        return self._by_name.get(name) or self._by_name[DEFAULT_SANDBOX]

    def __iter__(self) -> Iterator[Sandbox]:
        for name in dict.fromkeys([DEFAULT_SANDBOX, *self.store.names()]):
            with self._lock_of(name), suppress(NoSuchSandbox):
                yield self._refreshed(name)

    def get(self, name: str) -> Sandbox:
        """Return the sandbox of a name, up to date. Raises NoSuchSandbox, StoreUnavailable."""
        stack = getattr(self._thread, "stack", None)
        if stack is not None:
            stack.enter_context(self._lock_of(name))
        return self._refreshed(name)

    def remove_expired(self) -> list[int]:
        return self.free_ports()  # the store removes them

    def _lock_of(self, name: str) -> AbstractContextManager[Any]:
        return self._locks[hash(name) % MAX_LOCKS]

    def _refreshed(self, name: str) -> Sandbox:
        if not SANDBOX_NAME.fullmatch(name):
            raise NoSuchSandbox(name, self.store.names())
        sandbox = self._by_name.get(name)
        try:
            if sandbox is None:
                return self._restore(name)
            sandbox.refresh()
        except SandboxDeleted:
            if name == DEFAULT_SANDBOX and sandbox is not None:  # the store was emptied
                sandbox.base = 0
                spec = replace(self._default_spec, created=self._wall())
                self.store.put(spec, replaces=0)
                sandbox.refresh(since=-1)
                return sandbox
            self._by_name.pop(name, None)
            raise NoSuchSandbox(name, self.store.names()) from None
        return sandbox

    def _forget_deleted(self) -> None:
        """Forget the sandboxes that other replicas have deleted, once many more are kept."""
        if len(self._by_name) > self._max_kept:
            for name in {*self._by_name} - {*self.store.names()}:
                self._by_name.pop(name, None)
            self._max_kept = 2 * len(self._by_name) + MIN_KEPT

    def _names(self) -> Collection[str]:
        return self.store.names()
