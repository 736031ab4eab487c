"""What was asked of a task or a dag, and how that was answered: the last thousand of each.

Whoever explains a life needs it: the machine keeps what an operation led to, not that one came, and
of a refused one nothing at all.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """An operation that arrived: at which instant (nanoseconds since the epoch), and on what.

    ``position`` is that of the subtask or node, None for all of the task or dag; ``refused`` is
    why, or "" where it was accepted.
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
            lambda: deque(maxlen=MOST)
        )

    def keep(self, key: K, operated: OperationRecord) -> None:
        """Keeps one, and forgets the oldest of this task or dag when there are too many."""
        self._by_key[key].append(operated)

    def of(self, key: K) -> tuple[OperationRecord, ...]:
        """Those that are kept of this task or dag, the oldest first."""
        return tuple(self._by_key.get(key, ()))
