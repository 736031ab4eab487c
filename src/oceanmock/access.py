"""Decide which server needs a token for its admin API, and where the token comes from."""

from __future__ import annotations

from ipaddress import ip_address
from secrets import token_urlsafe
from typing import Final

TOKEN_VARIABLE: Final = "OCEANMOCK_ADMIN_TOKEN"  # noqa: S105 (its name)
"""The environment variable with the token, for servers and clients."""


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
