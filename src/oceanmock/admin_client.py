"""The client of a server's admin API, for the admin commands and the handles of tests.

It uses the standard library alone, since commands have to start quickly. Every failure is a
NoAnswer: no server, another server, a wrong token, or an error that the server returned (Refused).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

from oceanmock.errors import AuthorError, EnvironmentProblem, OceanmockError

if TYPE_CHECKING:
    from ssl import SSLContext

HIDE_FRAMES: Final = methodcaller("errisinstance", (AssertionError, OceanmockError))
"""A module's ``__tracebackhide__``: pytest shows the test's own line and none of these files."""
__tracebackhide__ = HIDE_FRAMES

Json = dict[str, Any]

ADMIN_TIMEOUT_S: Final = 30.0


class NoAnswer(OceanmockError):
    """No usable response: no server, no oceanmock, or an error."""


class Refused(NoAnswer):
    """An error response of the server; ``status`` is HTTP's."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status

    def as_author_error(self) -> OceanmockError:
        """Return the error as the author's of a test; a failure of the server stays its own."""
        if self.status >= 500:
            return self
        return AuthorError(str(self).removeprefix("The body: "))


def raise_if_blocked(error: RuntimeError, *, host: str) -> None:
    """Raise EnvironmentProblem where pytest-socket blocks sockets, with the option to allow it."""
    if type(error).__name__ in {"SocketBlockedError", "SocketConnectBlockedError"}:
        raise EnvironmentProblem(
            f"pytest-socket blocks connections to {host}, where oceanmock listens. "
            f"Run pytest with --allow-hosts={host}."
        ) from None


@dataclass(frozen=True, slots=True)
class Admin:
    """A server's admin API; each request has a connection of its own."""

    url: str
    token: str | None = None
    tls: SSLContext | None = None

    def ask(self, method: str, path: str, body: Json | None = None, *, query: Json | None = None) -> Json:
        """Return the JSON object that a path answers. Raises NoAnswer with one sentence."""
        return self._parse(self.read(method, path, body, query=query))

    def read(self, method: str, path: str, body: Json | None = None, *, query: Json | None = None) -> bytes:
        """Return the body that a path answers. Raises NoAnswer."""
        params = urlencode({key: value for key, value in (query or {}).items() if value is not None})
        target = f"/__admin{path}?{params}" if params else f"/__admin{path}"
        status, is_oceanmock, content = self._send(method, target, body)
        if not is_oceanmock:
            raise self._not_oceanmock()
        if status == 401:
            expected = "another token" if self.token else "its token"
            raise NoAnswer(
                f"{self.url} wants {expected}: --token or OCEANMOCK_TOKEN. `oceanmock serve` was "
                "started with it, or has printed it."
            )
        if status >= 400:
            message = self._parse(content).get("error", f"answered {status}")
            raise Refused(str(message), status=status)
        return content

    def _parse(self, content: bytes) -> Json:
        try:
            data = json.loads(content)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise self._not_oceanmock()
        return data

    def _send(self, method: str, target: str, body: Json | None) -> tuple[int, bool, bytes]:
        """Return the status, whether oceanmock answered, and the body."""
        headers = {"X-Oceanmock-Token": self.token} if self.token else {}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            try:
                content = json.dumps(body).encode()
            except (TypeError, ValueError) as error:
                raise NoAnswer(f"this cannot be sent as JSON: {error}.") from None
        connection = self._connection()
        try:
            connection.request(method, target, content, headers)
            response = connection.getresponse()
            return response.status, "X-Oceanmock-Version" in response.headers, response.read()
        except HTTPException:
            raise self._not_oceanmock() from None
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            raise NoAnswer(
                f"nothing responds at {self.url} ({reason}). "
                "Start it with `oceanmock serve`, or say where it is with --url."
            ) from None
        except ValueError as error:  # a header that cannot be sent
            raise NoAnswer(f"this cannot be sent: {error}.") from None
        except RuntimeError as error:
            raise_if_blocked(error, host=urlsplit(self.url).hostname or "")
            raise
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        try:
            parts = urlsplit(self.url)
            host, port, timeout = parts.hostname or "", parts.port, ADMIN_TIMEOUT_S
            if parts.scheme == "https":
                return HTTPSConnection(host, port, timeout=timeout, context=self.tls)
            return {"http": HTTPConnection}[parts.scheme](host, port, timeout=timeout)
        except (KeyError, ValueError, HTTPException):
            raise NoAnswer(f"{self.url!r} is no URL of a server, such as http://127.0.0.1:8080.") from None

    def _not_oceanmock(self) -> NoAnswer:
        return NoAnswer(f"what answers at {self.url} is no oceanmock that can be driven. Say where it is with --url.")


@dataclass(frozen=True, slots=True)
class SandboxClient:
    """The admin API of one sandbox; raises AuthorError for a wrong request, else NoAnswer."""

    server: Admin
    name: str

    def ask(self, method: str, path: str = "", body: Json | None = None, *, query: Json | None = None) -> Json:
        """Return the JSON that a path of the sandbox answers."""
        try:
            return self.server.ask(method, self._path(path), body, query=query)
        except Refused as error:
            raise error.as_author_error() from None

    def text(self, path: str, *, query: Json | None = None) -> str:
        """Return the text that a path of the sandbox answers."""
        try:
            return self.server.read("GET", self._path(path), query=query).decode()
        except Refused as error:
            raise error.as_author_error() from None

    def delete(self) -> None:
        """Delete the sandbox, unless it is gone already."""
        try:
            self.server.ask("DELETE", self._path(""))
        except Refused as error:
            if error.status != 404:
                raise

    def _path(self, path: str) -> str:
        return f"/sandboxes/{quote(self.name, safe='')}{path}"
