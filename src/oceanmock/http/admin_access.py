"""Decide who may use the admin API: whoever has the token, and this machine without one."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from oceanmock.api import ApiError, Request

TOKEN_HEADER: Final = b"x-oceanmock-token"
_PERMITTED: Final = frozenset({"ADMIN"})


def token_check(token_of: Callable[[], str | None]) -> Callable[[Request], frozenset[str] | None]:
    """Return an authenticator that accepts the token, and this machine's requests without one."""

    def check(request: Request) -> frozenset[str] | None:
        token = token_of()
        tokens = list(_tokens(request)) if token is not None else []
        expected = (token or "").encode()
        if not all([hmac.compare_digest(expected, item) for item in tokens]):  # noqa: C419 (no early end)
            raise ApiError("bad credentials", "This is not the token of the server.")
        return _PERMITTED if tokens or _is_near(request) else None

    return check


def _tokens(request: Request) -> Iterator[bytes]:
    """Return the tokens that a request has, in either header."""
    for name, value in request.headers:
        if name == TOKEN_HEADER:
            yield value.strip()
        elif name == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            yield rest.strip() if scheme.lower() == b"bearer" else value


def _is_near(request: Request) -> bool:
    """Return whether it comes from this machine, and not from another site's page in a browser."""
    origin = request.header(b"origin")
    if origin is not None:
        try:
            site = urlsplit(origin.decode("latin-1")).hostname or ""
        except ValueError:
            return False
        if site != "localhost" and not _is_loopback(site):
            return False
    return request.client is None or _is_loopback(request.client[0])


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
