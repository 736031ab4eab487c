"""The client of a server's admin API, for the admin commands and the handles of tests.

It uses the standard library alone, since commands have to start quickly. Every failure is a
NoAnswer: no server, another server, a wrong token, or an error that the server returned (Refused).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

from oceanmock.errors import EnvironmentProblem, OceanmockError

if TYPE_CHECKING:
    from ssl import SSLContext

Json = dict[str, Any]

TIMEOUT_S: Final = 30.0


class NoAnswer(OceanmockError):
    """No usable response: no server, no oceanmock, or an error."""


class Refused(NoAnswer):
    """An error response of the server; ``status`` is HTTP's."""

    def __init__(self, what: str, *, status: int) -> None:
        super().__init__(what)
        self.status = status


@dataclass(frozen=True, slots=True)
class Admin:
    """A server's admin API; each request has a connection of its own."""

    url: str
    token: str | None = None
    tls: SSLContext | None = None

    def ask(
        self, method: str, path: str, body: Json | None = None, *, query: Json | None = None
    ) -> Json:
        """The JSON object it answers. Raises NoAnswer with one sentence on what to do."""
        return self._parsed(self.read(method, path, body, query=query))

    def read(
        self, method: str, path: str, body: Json | None = None, *, query: Json | None = None
    ) -> bytes:
        """The body it answers. Raises NoAnswer."""
        asked = urlencode({key: value for key, value in (query or {}).items() if value is not None})
        target = f"/__admin{path}?{asked}" if asked else f"/__admin{path}"
        status, is_ours, content = self._exchange(method, target, body)
        if not is_ours:
            raise self._not_ours()
        if status == 401:
            what = "another token" if self.token else "its token"
            raise NoAnswer(
                f"{self.url} wants {what}: --token or OCEANMOCK_TOKEN. `oceanmock serve` was "
                "started with it, or has printed it."
            )
        if status >= 400:
            what = str(self._parsed(content).get("error", f"answered {status}"))
            raise Refused(what, status=status)
        return content

    def _exchange(self, method: str, target: str, body: Json | None) -> tuple[int, bool, bytes]:
        """The status, whether it is oceanmock that answers, and the body."""
        headers = {"X-Oceanmock-Token": self.token} if self.token else {}
        try:
            content = None if body is None else json.dumps(body).encode()
        except (TypeError, ValueError) as problem:
            raise NoAnswer(f"this cannot be sent as JSON: {problem}.") from None
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            return self._send(method, target, headers, content)
        except HTTPException:
            raise self._not_ours() from None
        except OSError as problem:
            why = problem.strerror or str(problem) or type(problem).__name__
            raise NoAnswer(
                f"nothing answers at {self.url} ({why}). "
                "Start it with `oceanmock serve`, or say where it is with --url."
            ) from None
        except ValueError as problem:  # a header that cannot be sent
            raise NoAnswer(f"this cannot be sent: {problem}.") from None
        except RuntimeError as error:
            raise_if_blocked(error, host=urlsplit(self.url).hostname or "")
            raise

    def _send(
        self, method: str, target: str, headers: dict[str, str], content: bytes | None
    ) -> tuple[int, bool, bytes]:
        """Send a request over a new connection."""
        connection = self._connect()
        try:
            connection.request(method, target, content, headers)
            response = connection.getresponse()
            return response.status, "X-Oceanmock-Version" in response.headers, response.read()
        finally:
            connection.close()

    def _connect(self) -> HTTPConnection:
        try:
            parts = urlsplit(self.url)
            host = parts.hostname or ""
            if parts.scheme == "https":
                return HTTPSConnection(host, parts.port, timeout=TIMEOUT_S, context=self.tls)
            return {"http": HTTPConnection}[parts.scheme](host, parts.port, timeout=TIMEOUT_S)
        except (KeyError, ValueError, HTTPException):
            raise NoAnswer(
                f"{self.url!r} is no URL of a server, such as http://127.0.0.1:8080."
            ) from None

    def _parsed(self, content: bytes) -> Json:
        try:
            said = json.loads(content)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise self._not_ours()
        return said

    def _not_ours(self) -> NoAnswer:
        return NoAnswer(
            f"what answers at {self.url} is no oceanmock that can be driven. "
            "Say where it is with --url."
        )


def raise_if_blocked(error: RuntimeError, *, host: str) -> None:
    """Raise EnvironmentProblem where pytest-socket blocks sockets, with the option to allow it."""
    if type(error).__name__ in {"SocketBlockedError", "SocketConnectBlockedError"}:
        raise EnvironmentProblem(
            f"pytest-socket blocks connections to {host}, where oceanmock listens. "
            f"Run pytest with --allow-hosts={host}."
        ) from None


@dataclass(frozen=True, slots=True)
class Driven:
    """One sandbox of a server."""

    admin: Admin
    name: str

    def ask(
        self, method: str, path: str = "", body: Json | None = None, *, query: Json | None = None
    ) -> Json:
        """What it answers on one of the sandbox's own paths. Raises NoAnswer."""
        return self.admin.ask(method, self.path(path), body, query=query)

    def path(self, path: str = "") -> str:
        """A path of the sandbox."""
        return f"/sandboxes/{quote(self.name, safe='')}{path}"
