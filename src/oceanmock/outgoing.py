"""Read and change an outgoing request of httpx, requests or any other client, to sign it.

Neither client is imported here. A body must be complete, since it is signed or sealed before it is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from oceanmock.errors import CallerError

Outgoing = TypeVar("Outgoing")  # a request of httpx, a prepared one of requests, or a PreparedRequest


@dataclass(slots=True)
class PreparedRequest:
    """A request for any client, such as aiohttp's, with the ``headers`` and the ``body`` to send."""

    method: str
    url: str
    body: bytes
    headers: dict[str, str]
    plain_body: bytes = b""

    @property
    def path_url(self) -> str:
        """Path and query."""
        parts = urlsplit(self.url)
        return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"

    def prepare_body(self, data: bytes, _files: None) -> None:
        """Take another body."""
        self.body = data


class Signer:
    """Credentials that sign requests of httpx and requests when they are called."""

    __slots__ = ()

    def prepare(
        self: Any, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> PreparedRequest:
        """Return a signed request for another client, which must send its URL, ``headers`` and ``body`` unchanged.

        request = obshell.auth.prepare("POST", url, b'{"operator": "RETRY"}')
        await session.post(url, data=request.body, headers=request.headers)
        """
        return cast("PreparedRequest", self(PreparedRequest(method, url, body, dict(headers or {}))))


def target_of(request: Any) -> str:
    """Return the path and query that are sent; requests of httpx have no ``path_url``."""
    if hasattr(request, "path_url"):
        return str(request.path_url)
    return bytes(request.url.raw_path).decode("latin-1")


def host_of(request: Any) -> str:
    """Return the ``Host`` header that is sent; urllib3 adds it to requests of requests."""
    host_header = request.headers.get("Host")
    if host_header is not None:
        return _text(host_header)
    parts = urlsplit(str(request.url))
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    is_usual = parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme))
    return host if is_usual else f"{host}:{parts.port}"


def headers_of(request: Any) -> list[tuple[str, str]]:
    """Return the headers that the request has by now."""
    headers = request.headers
    items = headers.multi_items() if hasattr(headers, "multi_items") else headers.items()
    return [(_text(name), _text(value)) for name, value in items]


def body_of(request: Any) -> bytes:
    """Return the body, empty without one. Raises CallerError for a stream."""
    if hasattr(request, "path_url"):
        body = request.body
    else:  # an async stream stays, for the error below
        body = request.read() if isinstance(request.stream, Iterable) else request.stream
    if isinstance(body, str):
        return body.encode()
    if not isinstance(body, bytes | None):
        raise CallerError(
            f"this request's body is a {type(body).__name__}, and has to be whole to be signed "
            "or sealed. Give it as bytes, as text or with json=."
        )
    return body or b""


def with_body(request: Any, body: bytes) -> Any:
    """Return the request with another body; of httpx, a new request."""
    if hasattr(request, "path_url"):
        request.prepare_body(body, None)
        return request
    framing = ("content-length", "transfer-encoding")
    headers = [item for item in request.headers.raw if item[0].lower().decode() not in framing]
    return type(request)(request.method, request.url, headers=headers, content=body, extensions=request.extensions)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
