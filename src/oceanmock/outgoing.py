"""Read and change an outgoing request of httpx or requests, for the credentials that sign it.

The two clients share only names; the differences are resolved here. Neither is imported: whoever has such a request has
imported its client. A body must be whole, since it is signed or sealed before it is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from oceanmock.errors import CallerError


def target_of(request: Any) -> str:
    """Return path and query as sent; only a request of requests has a ``path_url``."""
    if hasattr(request, "path_url"):
        return str(request.path_url)
    return bytes(request.url.raw_path).decode("latin-1")


def host_of(request: Any) -> str:
    """Return the ``Host`` that is sent; requests leaves it to urllib3."""
    host_header = request.headers.get("Host")
    if host_header is not None:
        return _text(host_header)
    parts = urlsplit(str(request.url))
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    is_usual = parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme))
    return host if is_usual else f"{host}:{parts.port}"


def headers_of(request: Any) -> list[tuple[str, str]]:
    """Return the headers so far."""
    headers = request.headers
    items = headers.multi_items() if hasattr(headers, "multi_items") else headers.items()
    return [(_text(name), _text(value)) for name, value in items]


def body_of(request: Any) -> bytes:
    """Return the body, empty without one. Raises CallerError for a stream."""
    if hasattr(request, "path_url"):
        body = request.body
    else:  # only an async client can read an async stream
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
    """Return the request with another body; for httpx a new request, as its body is fixed."""
    if hasattr(request, "path_url"):
        request.prepare_body(body, None)
        return request
    framing = ("content-length", "transfer-encoding")
    headers = [item for item in request.headers.raw if item[0].lower().decode() not in framing]
    return type(request)(request.method, request.url, headers=headers, content=body, extensions=request.extensions)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
