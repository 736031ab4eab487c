"""Instants as both APIs write them: RFC 3339, a fraction without trailing zeros, UTC as Z."""

from __future__ import annotations

from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Final

from oceanmock.clock import SECOND

NANOSECOND: Final = 9
"""The digits of a fraction that Go writes; Java's Jackson writes three of them."""


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
