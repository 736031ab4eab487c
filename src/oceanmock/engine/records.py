"""Records of the operations requested of each task or dag, with those that were refused.

A history has the changes that an operation led to, but nothing of a refused one.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

MAX_RECORDS: Final = 1000


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """One requested operation; ``at`` in nanoseconds since the epoch.

    ``position`` is that of the subtask or node, None for the whole task or dag; ``refused`` is the
    reason, or "" where it was accepted.
    """

    at: int
    operation: str
    position: int | None
    refused: str = ""


K = TypeVar("K", bound=Hashable)


class Records(Generic[K]):
    """The operations on each task or dag, in the order of their arrival."""

    def __init__(self) -> None:
        self._by_key: defaultdict[K, deque[OperationRecord]] = defaultdict(
            lambda: deque(maxlen=MAX_RECORDS)
        )

    def keep(self, key: K, operated: OperationRecord) -> None:
        """Add a record; the oldest of this task or dag goes when there are too many."""
        self._by_key[key].append(operated)

    def of(self, key: K) -> tuple[OperationRecord, ...]:
        """Return the records of this task or dag, the oldest first."""
        return tuple(self._by_key.get(key, ()))
