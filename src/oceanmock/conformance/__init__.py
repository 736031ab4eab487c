"""Check a server against its API's contract, and its tasks against their state machines."""

from __future__ import annotations

import importlib.util
from typing import Final

from oceanmock.errors import EnvironmentProblem

NEEDS: Final = ("hypothesis", "requests", "schemathesis")


def check_extra() -> None:
    """Raise EnvironmentProblem, with what to install, unless all are."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentProblem(
            f"a conformance run needs {' and '.join(missing)}, which comes with an extra: "
            'pip install "oceanmock[conform]"'
        )
