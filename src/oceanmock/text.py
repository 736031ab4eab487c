"""Instants as the APIs write them: RFC 3339, a fraction without trailing zeros, UTC as Z."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

from oceanmock.clock import SECOND

NANOSECOND: Final = 9
"""The digits of a fraction that Go writes; Java's Jackson writes three of them."""
_INSTANT: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(instant: int, zone: tzinfo, *, digits: int = NANOSECOND) -> str:
    """An instant in nanoseconds since the epoch, with at most ``digits`` digits of fraction."""
    second, rest = divmod(instant, SECOND)
    start, offset = _second(second, zone)
    fraction = f"{rest:09d}"[:digits].rstrip("0")
    return f"{start}.{fraction}{offset}" if fraction else start + offset


@lru_cache(maxsize=4096)
def _second(second: int, zone: tzinfo) -> tuple[str, str]:
    """A second and its offset, as texts."""
    text = datetime.fromtimestamp(second, zone).isoformat(timespec="seconds")
    start, offset = text[:19], text[19:]
    return start, "Z" if offset == "+00:00" else offset


def instant_of(text: str) -> int:
    """The nanoseconds since the epoch of a text in RFC 3339, to the last of nine digits.

    Raises ValueError for anything else.
    """
    parts = _INSTANT.fullmatch(text)
    if parts is None:
        raise ValueError(f"{text[:100]!r} is no instant such as 2024-01-10T06:00:00Z")
    day, time, fraction, offset = parts.groups()
    second = datetime.fromisoformat(f"{day}T{time}{offset.upper()}") - _EPOCH
    return second // timedelta(seconds=1) * SECOND + int((fraction or "").ljust(NANOSECOND, "0"))
