"""Requests by which faults are selected, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from oceanmock.api import Request


def request_to(api: str, operation: str, ids: Mapping[str, str], *, caller: str = "", body: bytes = b"") -> Request:
    """Return a request of an operation with these ids in its path, "" for none."""
    service: Any = SimpleNamespace(name=api)
    request = Request(service, None, "GET", "/", b"/", b"", (), 0, body, caller=caller, path_values=ids)  # type: ignore[arg-type]
    request.operation = SimpleNamespace(id=operation) if operation else None  # type: ignore[assignment]
    return request
