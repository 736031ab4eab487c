"""A server's admin API, asked for the commands of ``cli_kit`` and the handles of ``testing``.

With the standard library alone, since commands have to start quickly. Whatever keeps it from
answering is a NoAnswer: nobody there, somebody else there, a wrong token, or what the server itself
says was wrong (a Refused). A server in this process is asked by a ``wire`` of its own, without a
connection.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

from oceanmock.errors import OceanmockError

if TYPE_CHECKING:
    from ssl import SSLContext

Json = dict[str, Any]
Wire = Callable[[str, str, Mapping[str, str], bytes | None], tuple[int, Mapping[str, str], bytes]]
"""Asks a method, a target, with headers and a body; gives the status, the headers by their names
in small letters, and the body. Raises OSError, or HTTPException, where nothing answers."""

PATIENCE: Final = 30.0


class NoAnswer(OceanmockError):
    """The server is not there, is no oceanmock, or refuses."""


class Refused(NoAnswer):
    """The server has answered that it will not; ``status`` is HTTP's."""

    def __init__(self, what: str, *, status: int) -> None:
        super().__init__(what)
        self.status = status


@dataclass(frozen=True, slots=True)
class Admin:
    """A server's admin API; ``wire`` carries requests to it, by default a connection for each."""

    url: str
    token: str | None = None
    tls: SSLContext | None = None
    wire: Wire | None = None

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
            status, answered, said = (self.wire or self._dial)(method, target, headers, content)
            return status, "x-oceanmock-version" in answered, said
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

    def _dial(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Asks over a connection of its own."""
        connection = self._connect()
        try:
            connection.request(method, target, content, dict(headers))
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def _connect(self) -> HTTPConnection:
        try:
            parts = urlsplit(self.url)
            host = parts.hostname or ""
            if parts.scheme == "https":
                return HTTPSConnection(host, parts.port, timeout=PATIENCE, context=self.tls)
            return {"http": HTTPConnection}[parts.scheme](host, parts.port, timeout=PATIENCE)
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
