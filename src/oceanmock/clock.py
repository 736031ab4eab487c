"""A sandbox's time: what instant it is there, and what moves it on.

Instants are integer nanoseconds since the epoch; spans are integer nanoseconds. The only door to
``time``: nothing else in oceanmock reads the machine's clock, so a test that holds this one holds
every timestamp, duration and transition.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, Literal, get_args

Progression = Literal["time", "polls", "manual", "immediate"]
PROGRESSIONS: Final[tuple[Progression, ...]] = get_args(Progression)

MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
LATEST: Final = 32_503_680_000 * SECOND - 1
"""The end of the year 2999, where every sandbox's clock stops: calendars end soon after."""


def wall_now() -> int:
    """The machine's time of day."""
    return time.time_ns()


def stopwatch() -> int:
    """Nanoseconds of the machine's time since some instant; for how long things take."""
    return time.perf_counter_ns()


def pause(span: int) -> None:
    """Waits so many nanoseconds of the machine's time."""
    time.sleep(span / SECOND)


class Clock:
    """One sandbox's clock.

    Under ``time`` it runs, ``speed`` times as fast as the wall; under the other progressions it
    stands until moved. It never runs backwards: a move to an earlier instant changes nothing.
    """

    __slots__ = ("_origin", "_wall", "_wall_origin", "progression", "speed")

    def __init__(
        self,
        progression: Progression = "time",
        *,
        starts_at: int | None = None,
        speed: float = 1.0,
        wall: Callable[[], int] = wall_now,
    ) -> None:
        self.progression = progression
        self.speed = speed
        self._wall = wall
        self._wall_origin = wall()
        self._origin = self._wall_origin if starts_at is None else starts_at

    @property
    def origin(self) -> int:
        """The instant it was last moved to, or set at; at first, that it began at."""
        return self._origin

    def set(self, *, progression: Progression | None = None, speed: float | None = None) -> None:
        """Changes how time passes from now on; the instant stays, and so does what is left out."""
        self._origin, self._wall_origin = self.now(), self._wall()
        if progression is not None:
            self.progression = progression
        if speed is not None:
            self.speed = speed

    def now(self) -> int:
        """The instant it is in this sandbox."""
        if self.progression != "time":
            return self._origin
        return min(self._origin + int((self._wall() - self._wall_origin) * self.speed), LATEST)

    def move_to(self, instant: int) -> None:
        """Makes it ``instant``, unless it is later already; a running clock runs on from there."""
        self._origin, self._wall_origin = min(max(self.now(), instant), LATEST), self._wall()

    def advance(self, by: int) -> None:
        """Moves on by ``by`` nanoseconds."""
        self.move_to(self.now() + by)

    def read(self, dues: Iterable[int]) -> None:
        """A read has shown what changes at ``dues``: under ``polls``, on to the first of them."""
        if self.progression == "polls":
            first = min(dues, default=None)
            if first is not None:
                self.move_to(first)

    def settle(self, instant: int) -> None:
        """Something goes on until ``instant``: under ``immediate``, it has all happened."""
        if self.progression == "immediate":
            self.move_to(instant)
