"""Times in a body: whether they can be read, in which order they are, and that none is to come.

A server is several machines: each writes down what it does by a clock of its own, and so does the
database. What is absent may also be null here; whether it may is the schema's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from oceanmock.checks import CheckResult, check, instant
from oceanmock.clock import SECOND

Json = dict[str, Any]
TIMES: Final = ("createTime", "startTime", "finishTime")
SKEW: Final = 2 * SECOND
"""How far apart the clocks may be by which two machines of a server write down what they do."""
FUTURE: Final = 60 * SECOND
"""How far two clocks may be apart: the server's, and that of the database that keeps the times."""


def ordered(
    thing: Json, path: str, first: str, then: str, *, slack: int = SKEW
) -> Iterator[CheckResult]:
    """Looks at whether one time of a thing is no later than another; both have to be there."""
    before, after = instant(thing.get(first)), instant(thing.get(then))
    if before is not None and after is not None:
        wrong = f"{first} is {thing[first]}, after {then}, which is {thing[then]}."
        yield check("time.start-after-finish", before <= after + slack, f"{path}.{first}", wrong)


def not_in_future(
    thing: Json, path: str, names: tuple[str, ...], now: int | None
) -> Iterator[CheckResult]:
    """Looks at whether the times of a thing can be read, and are not after the answer's own."""
    for name in names:
        if thing.get(name) is None:
            continue
        at, where = instant(thing[name]), f"{path}.{name}"
        wrong = f"{name} is {thing[name]!r}, which is no instant."
        yield check("time.format", at is not None, where, wrong)
        if at is not None and now is not None:
            wrong = f"{name} is {thing[name]}, which is after the answer's own timestamp."
            yield check("time.future", at <= now + FUTURE, where, wrong)
