"""Clients' credentials, as the ``auth=`` of httpx and of requests.

``Basic`` and ``AccessKey`` are OCP's, ``Sealed`` is obshell's. Each is a callable that takes an outgoing request of
either client and returns it with its credentials; neither client is imported here. None shows its secret when printed.
``Sealed`` is imported on first use, since cryptography is slow to import.
"""

from typing import TYPE_CHECKING, Any

from oceanmock.ocp.auth import AccessKey, Basic

if TYPE_CHECKING:
    from oceanmock.obshell.auth import Sealed

__all__ = ["AccessKey", "Basic", "Sealed"]


def __getattr__(name: str) -> Any:
    if name == "Sealed":
        from oceanmock.obshell.auth import Sealed  # noqa: PLC0415 (see above)

        return Sealed
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
