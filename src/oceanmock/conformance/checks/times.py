"""Check the times in a body: their format, their order, and that none is in the future.

A server consists of several machines and a database, each with its own clock. Absent and null are
the same here; the schema distinguishes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from oceanmock.checks import CheckResult, check, instant
from oceanmock.clock import SECOND

Json = dict[str, Any]
TIMES: Final = ("createTime", "startTime", "finishTime")
SKEW: Final = 2 * SECOND
"""The largest difference between the clocks of two machines of a server."""
FUTURE: Final = 60 * SECOND
"""The largest difference between the clocks of the server and of its database."""


def ordered(
    thing: Json, path: str, first: str, then: str, *, slack: int = SKEW
) -> Iterator[CheckResult]:
    """Check that one time of an item is no later than another, if it has both."""
    before, after = instant(thing.get(first)), instant(thing.get(then))
    if before is not None and after is not None:
        wrong = f"{first} is {thing[first]}, after {then}, which is {thing[then]}."
        yield check("time.start-after-finish", before <= after + slack, f"{path}.{first}", wrong)


def not_in_future(
    thing: Json, path: str, names: tuple[str, ...], now: int | None
) -> Iterator[CheckResult]:
    """Check that an item's times are valid, and not after the response's timestamp."""
    for name in names:
        if thing.get(name) is None:
            continue
        at, where = instant(thing[name]), f"{path}.{name}"
        wrong = f"{name} is {thing[name]!r}, which is no instant."
        yield check("time.format", at is not None, where, wrong)
        if at is not None and now is not None:
            wrong = f"{name} is {thing[name]}, which is after the answer's own timestamp."
            yield check("time.future", at <= now + FUTURE, where, wrong)
