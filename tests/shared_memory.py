"""Replicas that share a store in the memory of this process."""

from __future__ import annotations

from typing import Any

from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.store import MemoryStore, Store, StoreUnavailable


class Connection:
    """One replica's connection to a store, which can be cut."""

    def __init__(self, store: MemoryStore, replica: str) -> None:
        self.store = store
        self.replica = replica
        self.is_cut = False

    def __getattr__(self, name: str) -> Any:
        if self.is_cut:
            raise StoreUnavailable("the store is gone.")
        return getattr(self.store, name)

    def ping(self) -> None:
        self.names()

    def metrics(self) -> dict[str, float]:
        return self.store.metrics()

    def replica_details(self) -> dict[str, str]:
        return {"replica": self.replica, "clock_skew": "0s"}


def second_replica(sandbox: Sandbox) -> Sandbox:
    """Return the sandbox of another replica over the same memory."""
    connection: Any = Connection(sandbox.store.store, "two")  # type: ignore[union-attr]
    return replica_of(sandbox, connection)


def replica_of(sandbox: Sandbox, store: Store) -> Sandbox:
    """Return the sandbox of another replica, as it is in the store."""
    other = Sandbox(sandbox.spec, sandbox.apis, store=store, wall=sandbox.wall, is_stored=False)
    other.refresh(since=-1)
    return other
