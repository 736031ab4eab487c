"""The server that the workers of xdist share: a thread of the controller's process, so that it ends with it.

The controller listens at once, which costs next to nothing, and imports and starts the server with the first
connection: a suite without sandboxes pays for none.
"""

from __future__ import annotations

import socket
from select import select
from threading import Thread
from typing import Any, Final

import pytest

from oceanmock.access import new_token

SERVER_KEY: Final = "oceanmock_server"
"""The key of a worker's input that has the server's host, URL and token."""
_SERVER: Final = pytest.StashKey["SharedServer | None"]()


def offer(node: Any, *, host: str) -> None:
    """Give a worker the server's address; not where it runs on another machine or as another Python.

    A worker without it starts a server of its own.
    """
    config, spec = node.config, node.gateway.spec
    if not spec.popen or spec.python or spec.via:
        return
    if _SERVER not in config.stash:
        config.stash[_SERVER] = server = _listen(host)
        if server is not None:
            config.add_cleanup(server.stop)
    if (server := config.stash[_SERVER]) is not None:
        node.workerinput[SERVER_KEY] = server.address


def _listen(host: str) -> SharedServer | None:
    """Return a server that listens, or None where it cannot: the worker that needs one reports why."""
    try:
        return SharedServer(host)
    except (OSError, RuntimeError):  # the latter of pytest-socket
        return None


class SharedServer:
    """A server that starts with the first connection, in a thread of its own; ``address`` is what a worker needs."""

    def __init__(self, host: str) -> None:
        self._listener = socket.create_server((host, 0))
        self._stopped, self._stopping = socket.socketpair()
        name, port = self._listener.getsockname()
        url = f"http://{'127.0.0.1' if name == '0.0.0.0' else name}:{port}"  # noqa: S104 (to dial)
        self.address: Final[dict[str, Any]] = {"host": host, "url": url, "token": new_token(host)}
        self._thread = Thread(target=self._run, name="oceanmock", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._listener:
            ready, _, _ = select([self._listener, self._stopped], [], [])
            if self._stopped in ready:
                return
            from oceanmock.apis import make_sandbox  # noqa: PLC0415 (slow)
            from oceanmock.http.app import create_app  # noqa: PLC0415
            from oceanmock.http.server import Server  # noqa: PLC0415

            app = create_app(make_sandbox(), token=self.address["token"])
            with Server(app, host=self.address["host"], listener=self._listener):
                self._stopped.recv(1)

    def stop(self) -> None:
        """Stop it, if it has started."""
        self._stopping.close()
        self._thread.join()
        self._stopped.close()
