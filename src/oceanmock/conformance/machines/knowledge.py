"""What a run knows of a target that the target does not show, or that no public text decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Codes:
    """The numbers of two errors of OCP; None for any, as long as it is the same each time.

    The defaults are ocp-express's (ErrorCodes:44-48): OCP's own are not public.
    """

    illegal: int | None = 20003
    prohibited: int | None = 20004


@dataclass(frozen=True, slots=True)
class Known:
    """The codes of OCP's errors; the flags of obshell's nodes, and its version.

    ``flags`` is an ``obshell.Flags``; without it nobody knows, and either answer will do. A version
    that is empty is taken for the newest.
    """

    codes: Codes = Codes()
    flags: Callable[[Any, int], frozenset[str] | None] | None = None
    version: str = ""


NOTHING: Final = Known()
"""Nothing of its own: ocp-express's codes, no flags, the newest version."""
