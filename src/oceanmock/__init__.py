"""oceanmock: a contract-testing mock server for OceanBase's task APIs.

This is the public surface; everything else may move. Importing it does no work: what is named here
is imported when it is first asked for.

    with oceanmock.running("retry-failed-subtask") as ocp:
        ...
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oceanmock.errors import OceanmockError
    from oceanmock.running import Mock, running
    from oceanmock.testing import Obshell, Ocp

__all__ = ["Mock", "Obshell", "OceanmockError", "Ocp", "__version__", "running"]

__version__ = "0.1.0"

_HOMES = {
    "Mock": "oceanmock.running",
    "Obshell": "oceanmock.testing",
    "OceanmockError": "oceanmock.errors",
    "Ocp": "oceanmock.testing",
    "running": "oceanmock.running",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
