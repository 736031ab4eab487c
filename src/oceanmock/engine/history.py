"""What both machines share: a life as states in order, and the pace at which a run logs.

Instants and spans are integer nanoseconds. Nothing here knows an API's states or operations.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, ClassVar, Protocol, TypeVar


class Dated(Protocol):
    """A state, and the instant from which it shows."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def at(self) -> int:
        """When it begins."""


S = TypeVar("S", bound=Dated)
_at = attrgetter("at")


def state_at(states: Sequence[S], instant: int) -> S:
    """The state that shows at ``instant``; before the first one, the first."""
    return states[max(bisect_right(states, instant, key=_at) - 1, 0)]


def until(states: Sequence[S], instant: int) -> Sequence[S]:
    """The states that had begun by ``instant``."""
    return states[: bisect_right(states, instant, key=_at)]


def next_change(states: Sequence[S], instant: int) -> int | None:
    """Return the first instant after ``instant`` from which something else shows, or None.

    A state that an operation replaced at the very instant it was due never shows.
    """
    shown = replace(state_at(states, instant), at=0)
    for number in range(bisect_right(states, instant, key=_at), len(states)):
        state = states[number]
        is_replaced = number + 1 < len(states) and states[number + 1].at == state.at
        if not is_replaced and replace(state, at=0) != shown:
            return state.at
    return None


def next_tick(instant: int, period: int, phase: int) -> int:
    """The first tick after ``instant`` on the grid phase + k · period."""
    return instant + period - (instant - phase) % period


def lines_logged(
    lines: tuple[str, ...], *, started: int, takes: int, by: int
) -> Iterator[tuple[int, str]]:
    """The lines logged by an instant, each with its own, evenly over the time a run should take."""
    for number, line in enumerate(lines):
        at = started + takes * number // len(lines)
        if at <= by:
            yield at, line
