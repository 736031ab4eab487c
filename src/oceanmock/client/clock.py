"""A sandbox's clock in a test's hand: read it, move it on, change how it passes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from oceanmock.client.admin import Json
from oceanmock.client.held import HIDDEN, Held, nearest_of
from oceanmock.clock import PROGRESSIONS, Progression
from oceanmock.errors import AuthorError

__tracebackhide__ = HIDDEN

Span = str | float | timedelta
"""A duration as scenario files write it (``"90s"``), seconds, or a timedelta."""


class Clock:
    """What instant it is in a sandbox, and what moves it on.

    Advancing skips nothing: every state on the way has had its instant.

        ocp.clock.advance("90s")
        ocp.clock.next()                     # to whatever is due next
        client = Client(sleep=ocp.clock.sleep)
    """

    def __init__(self, driven: Held) -> None:
        self._driven: Final = driven

    def now(self) -> datetime:
        """What instant it is, in UTC."""
        return instant_of(self._ask("GET")["now"])

    def next_due(self) -> datetime | None:
        """When a task or dag changes next, if nobody interferes; None if nothing does.

        To the microsecond, rounded up: moved to that instant, the clock has come there.
        """
        due = self._ask("GET")["next_due"]
        return None if due is None else instant_of(due) + _rest_of(due)

    @property
    def progression(self) -> Progression:
        """How time passes: ``time``, ``polls``, ``manual`` or ``immediate``."""
        progression: Progression = self._ask("GET")["progression"]
        return progression

    @property
    def speed(self) -> float:
        """How many times faster than the machine's clock it runs, under ``time``."""
        return float(self._ask("GET")["speed"])

    def advance(self, by: Span) -> datetime:
        """Moves the clock on: ``"90s"``, ``90`` or a timedelta. Gives the instant it is then."""
        return instant_of(self._ask("POST", "/advance", {"by": span_text(by)})["now"])

    def next(self) -> datetime:
        """Moves the clock to whatever is due next. Gives the instant it is then."""
        return instant_of(self._ask("POST", "/next")["now"])

    def move_to(self, to: datetime | str) -> datetime:
        """Moves the clock to an instant, unless it is later already. Gives the instant it is."""
        return instant_of(self._ask("POST", "/move", {"to": instant_text(to)})["now"])

    def set(self, *, progression: Progression | None = None, speed: float | None = None) -> None:
        """Changes how time passes from now on; what is left out stays."""
        check_progression(progression)
        said = {"progression": progression, "speed": speed}
        self._ask("PATCH", "", {key: value for key, value in said.items() if value is not None})

    def sleep(self, seconds: float) -> None:
        """Moves the clock on instead of waiting: a stand-in for ``time.sleep``."""
        self.advance(seconds)

    def __repr__(self) -> str:
        said = self._ask("GET")
        return f"<Clock {said['now']}, {said['progression']}>"

    def _ask(self, method: str, path: str = "", body: Json | None = None) -> dict[str, Any]:
        return self._driven.ask(method, f"/clock{path}", body)


def check_progression(said: str | None) -> None:
    """Raises AuthorError for a way to pass that time has not got, with the nearest that it has."""
    if said is not None and said not in PROGRESSIONS:
        raise AuthorError(f"`progression` is {said!r}. {nearest_of(str(said), PROGRESSIONS)}")


_BEYOND: Final = re.compile(r"(\.\d{6})\d+")


def instant_of(text: str) -> datetime:
    """The instant that the admin API writes so, in UTC; to the microsecond."""
    return datetime.fromisoformat(_BEYOND.sub(r"\1", text)).astimezone(UTC)


def _rest_of(text: str) -> timedelta:
    """A microsecond, where an instant goes on behind its microseconds."""
    beyond = _BEYOND.search(text)
    is_exact = beyond is None or not beyond[0][len(beyond[1]) :].strip("0")
    return timedelta(microseconds=0 if is_exact else 1)


def instant_text(instant: datetime | str) -> str:
    """An instant as the admin API reads it; one without a time zone is in UTC."""
    if not isinstance(instant, datetime):
        return instant  # what is no instant either, the server says what is wrong with
    aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat()


def span_text(span: Span) -> str:
    """A duration as scenario files and the admin API write it."""
    if isinstance(span, str):
        return span
    seconds = span.total_seconds() if isinstance(span, timedelta) else float(span)
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
