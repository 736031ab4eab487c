"""Clients' credentials, the ``auth=`` of httpx and requests: OCP's ``Basic`` and ``AccessKey``, obshell's ``Sealed``.

Each is a callable that takes an outgoing request of either client and returns it with its credentials; neither client
is imported here. Their texts hide the secrets. ``Sealed`` is imported on first use, since cryptography is slow.
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
