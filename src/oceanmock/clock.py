"""Define the virtual clock of a sandbox.

Instants are integer nanoseconds since the epoch; spans are integer nanoseconds. No other module reads the machine's
clock, so every timestamp, duration and transition depends on this one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, get_args

Progression = Literal["time", "polls", "manual", "immediate"]
PROGRESSIONS: Final[tuple[Progression, ...]] = get_args(Progression)

MICROSECOND: Final = 1_000
MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
DEFAULT_TICK: Final = SECOND
"""The period of both servers' schedulers.

(ocp-express TaskCoordinator.java:58-59, obshell constant/scheduler.go:23-24.)"""
EARLIEST: Final = 315_532_800 * SECOND
"""The first instant of 1980, before which no sandbox starts; tasks that are ten years old have an instant above 0."""
LATEST: Final = 2**63 - 1
"""The last instant in 64 bits, 2262-04-11T23:47:16.854775807Z, at which every sandbox's clock stops.

obshell shows its start in nanoseconds."""


# Partials, because freezegun replaces the functions of ``time`` in modules.
if hasattr(time, "clock_gettime_ns"):
    _monotonic = partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC)
else:
    _monotonic = partial(time.monotonic_ns)
_OFFSET: Final = time.time_ns() - _monotonic()
stopwatch: Final = partial(time.perf_counter_ns)  # the machine's performance counter, in nanoseconds


def machine_now() -> int:
    """Return a time of the machine that never goes back: the time of day at the import plus the time since."""
    return _OFFSET + _monotonic()


def wall_now() -> int:
    """Return the machine's time of day, which can be set back."""
    return time.time_ns()


def pause(span: int) -> None:
    """Sleep for a span of the machine's time."""
    time.sleep(span / SECOND)


def patch_time(monkeypatch: Any, advance: Callable[[float], object]) -> None:
    """Let ``time.sleep`` and ``asyncio.sleep`` call ``advance``, and add the time slept to the clocks of ``time``.

    This does not reach modules that have imported these functions by name, such as ``from time import sleep``, nor a
    mock's own threads, since its server sleeps, too.
    """
    import asyncio  # noqa: PLC0415 (slow)
    import threading  # noqa: PLC0415

    slept, real_sleep, real_sleep_async = 0.0, time.sleep, asyncio.sleep

    def is_of_a_mock() -> bool:
        return threading.current_thread().name.startswith("oceanmock")

    def sleep(seconds: float) -> None:
        nonlocal slept
        if is_of_a_mock():
            real_sleep(seconds)
        else:
            advance(seconds)
            slept += seconds

    async def sleep_async(delay: float, result: Any = None) -> Any:
        is_real = delay <= 0 or is_of_a_mock()
        await (real_sleep_async(delay) if is_real else asyncio.to_thread(sleep, delay))
        return result

    def later(read: Callable[[], float]) -> Callable[[], float]:
        return lambda: read() + slept

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(asyncio, "sleep", sleep_async)
    monkeypatch.setattr(time, "monotonic", later(time.monotonic))
    monkeypatch.setattr(time, "time", later(time.time))


class Clock:
    """The clock of one sandbox; ``origin`` is its instant when it was last moved or set, or started.

    Under ``time`` it runs ``speed`` times as fast as the machine's monotonic clock; under the other progressions it
    stands until moved. A move to an earlier instant changes nothing.
    """

    __slots__ = ("_wall", "_wall_origin", "origin", "progression", "speed")

    def __init__(
        self,
        progression: Progression = "time",
        *,
        starts_at: int | None = None,
        speed: float = 1.0,
        wall: Callable[[], int] = machine_now,
        created: int | None = None,
    ) -> None:
        self.progression, self.speed, self._wall = progression, speed, wall
        self._wall_origin = wall() if created is None else created
        self.origin = self._wall_origin if starts_at is None else starts_at

    def set(
        self, *, progression: Progression | None = None, speed: float | None = None, wall: int | None = None
    ) -> None:
        """Change how time passes from a time of the machine on, by default now; None keeps a setting."""
        wall = self._wall() if wall is None else wall
        self.origin, self._wall_origin = self.at(wall), wall
        self.progression = self.progression if progression is None else progression
        self.speed = self.speed if speed is None else speed

    def now(self) -> int:
        """Return the current instant of the sandbox."""
        return self.at(self._wall()) if self.progression == "time" else self.origin

    def at(self, wall: int) -> int:
        """Return the instant of the sandbox at a time of the machine."""
        if self.progression != "time":
            return self.origin
        return min(self.origin + int((wall - self._wall_origin) * self.speed), LATEST)

    def move_to(self, instant: int, *, wall: int | None = None) -> None:
        """Move to ``instant``, unless it is later already; a running clock runs on. ``wall`` is as for ``set``."""
        wall = self._wall() if wall is None else wall
        self.origin, self._wall_origin = min(max(self.at(wall), instant), LATEST), wall

    def advance(self, by: int) -> None:
        """Move forward by a span."""
        self.move_to(self.now() + by)
