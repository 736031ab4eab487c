"""Clients' credentials, ready to be the ``auth=`` of httpx and of requests.

``Basic`` and ``AccessKey`` are OCP's, ``Sealed`` is obshell's. Each is a callable that takes a
request on its way out, of either client, and gives it back with its credentials; neither client is
imported here. None of them shows its secret when it is printed.
"""

from oceanmock.credentials.obshell import Sealed
from oceanmock.credentials.ocp import AccessKey, Basic

__all__ = ["AccessKey", "Basic", "Sealed"]
