"""Servers in this process over each kind of store, and a proxy that holds what goes to Redis."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from oceanmock.apis import make_sandbox
from oceanmock.cli.store import default_sandbox, open_store
from oceanmock.client import Mock
from oceanmock.engine.log import Decoder
from oceanmock.engine.redis_store import RedisStore
from oceanmock.engine.sandbox import Sandbox
from oceanmock.http.app import create_app
from oceanmock.http.server import Server
from oceanmock.library import DECODER
from redis_servers import RedisServer

KINDS: Final = ("memory", "sqlite", "redis", "two replicas on redis")
SETTINGS: Final[dict[str, Any]] = {"progression": "manual"}


def connect(stack: contextlib.ExitStack, url: str, replica: str = "test", decoder: Decoder = DECODER) -> RedisStore:
    """Connect as a replica does, until the stack is closed."""
    store = RedisStore(url, replica=replica, decoder=decoder)
    stack.callback(store.close)
    return store


@contextlib.contextmanager
def served_by(kind: str, folder: Path, redis: RedisServer) -> Iterator[list[str]]:
    """Serve a default sandbox from a kind of store; yield the URLs of two servers, or one twice."""
    with contextlib.ExitStack() as stack:
        sandboxes = {
            "memory": lambda: [make_sandbox(**SETTINGS)],
            "sqlite": lambda: [default_sandbox(open_store(folder / "state.db", replica=""), [], SETTINGS)],
            "redis": lambda: [default_sandbox(connect(stack, redis.url), [], SETTINGS)],
            "two replicas on redis": lambda: [
                default_sandbox(connect(stack, redis.url, replica), [], SETTINGS) for replica in ("one", "two")
            ],
        }[kind]()
        urls = [stack.enter_context(Server(create_app(sandbox))).url for sandbox in sandboxes]
        yield [urls[0], urls[-1]]


class Proxy:
    """A TCP proxy on a port of its own that can hold what clients send."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._passes = threading.Event()
        self._passes.set()
        self.url: Final = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Let every connection end, and accept no other."""
        self.release()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def hold(self) -> None:
        """Pass nothing more on, and let the clients wait."""
        self._passes.clear()

    def release(self) -> None:
        """Pass on what was held, and all that comes."""
        self._passes.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._passes.wait()
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def start_servers_on(url: str) -> None:
    """Let ``Mock.start`` serve from Redis: each server from the next database, which is emptied."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    numbers = itertools.count(1000 * worker)
    start_in_memory = Mock.start

    def make_shared_sandbox() -> Sandbox:
        store = connect(contextlib.ExitStack(), f"{url}/{next(numbers)}")
        for name in store.names():
            store.delete(name)
        return default_sandbox(store, [], {})

    def start(_: type[Mock], /, **options: Any) -> Mock:
        with patch("oceanmock.apis.make_sandbox", make_shared_sandbox):
            return start_in_memory(**options)

    Mock.start = classmethod(start)  # type: ignore[method-assign, assignment]
