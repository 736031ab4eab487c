"""State what servers and clients of the admin API share: who needs a token, where it comes from, a status."""

from __future__ import annotations

from ipaddress import ip_address
from secrets import token_urlsafe
from typing import Final

TOKEN_VARIABLE: Final = "OCEANMOCK_ADMIN_TOKEN"  # noqa: S105 (its name)
"""The environment variable with the token, for servers and clients."""
URL_VARIABLE: Final = "OCEANMOCK_URL"
"""The environment variable with the URL of the server that the commands use."""
VERIFICATION_FAILED: Final = 417
"""The status of a verification that fails: Expectation Failed."""


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its name or its address."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def new_token(host: str) -> str | None:
    """Return a token for a server at a host, or None where only this machine can connect."""
    return None if is_loopback(host) else token_urlsafe()
