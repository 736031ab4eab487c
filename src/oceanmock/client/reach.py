"""How a client reaches a sandbox: its URL, and httpx's transports to it.

``Here`` is a sandbox of a server in this process, on a port of its own, and without a socket for
httpx. ``Elsewhere`` is one of a server on another machine or in another process, on a port of its
own where that can be reached from here, and otherwise by a path of the server's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from oceanmock.errors import EnvironmentProblem

if TYPE_CHECKING:
    import httpx

    from oceanmock.client.near import Near


class Reach(Protocol):
    """Where a sandbox is, and how to get there."""

    @property
    def url(self) -> str:
        """Its URL; the paths of OCP and obshell come behind it."""

    def address(self) -> tuple[str, int]:
        """The host and port that are its own. Raises EnvironmentProblem where it has none."""

    def transport(self) -> httpx.BaseTransport:
        """A transport for ``httpx.Client``."""

    def async_transport(self) -> httpx.AsyncBaseTransport:
        """A transport for ``httpx.AsyncClient``."""


@dataclass(frozen=True, slots=True)
class Here:
    """A sandbox of a server in this process."""

    url: str
    near: Near

    def address(self) -> tuple[str, int]:
        """The host and port of its URL."""
        return _address_in(self.url)

    def transport(self) -> httpx.BaseTransport:
        """One without a socket."""
        from oceanmock.client.httpx_transports import transport_to  # noqa: PLC0415

        return transport_to(self.near, self.address())

    def async_transport(self) -> httpx.AsyncBaseTransport:
        """One without a socket."""
        from oceanmock.client.httpx_transports import async_transport_to  # noqa: PLC0415

        return async_transport_to(self.near, self.address())


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A sandbox of another server; ``out_of_reach`` is the URL of its port, where that is so."""

    url: str
    out_of_reach: str | None = None

    def address(self) -> tuple[str, int]:
        """The host and port of its URL. Raises EnvironmentProblem where they are the server's."""
        if self.out_of_reach is not None:
            raise EnvironmentProblem(
                f"the sandbox has no host and port of its own here: {self.out_of_reach} cannot be "
                f"reached from this machine, and {self.url} is a path of the server's. Let this "
                "machine reach the server's other ports, or use `url`."
            )
        return _address_in(self.url)

    def transport(self) -> httpx.BaseTransport:
        """httpx's own."""
        from oceanmock.client.httpx_transports import far_transport  # noqa: PLC0415

        return far_transport()

    def async_transport(self) -> httpx.AsyncBaseTransport:
        """httpx's own."""
        from oceanmock.client.httpx_transports import far_async_transport  # noqa: PLC0415

        return far_async_transport()


def _address_in(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80)
