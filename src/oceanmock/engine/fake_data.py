"""Generate what a scenario leaves out: names, users, hosts and ids, from a seed."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from random import Random
from threading import Lock
from typing import Any, Final

from oceanmock.errors import InputError

_start: Final = attrgetter("start")
FIRST_FREE_ID: Final = 1_000_000
LAST_FREE_ID: Final = 2**31
"""OCP's ids that a scenario leaves out are drawn between these."""
MAX_DRAWS: Final = 1000
MAX_UNDRAWN: Final = 500
"""How many users are drawn when one is read; where there are more, a thread of its own reads the scenario."""
_drawing: Final = Lock()
"""Held while faker, which a process has once, draws from one random source."""


@cache
def load_faker() -> Any:
    """Return the process's faker, imported on first use, since the import is slow."""
    from faker import Factory  # noqa: PLC0415 (a tenth of a second)

    return Factory.create("en_US")


class TakenIds:
    """Ids in use: single ones, and ranges that have none in common."""

    def __init__(self) -> None:
        self._single: set[int] = set()
        self._ranges: list[range] = []

    def add(self, ids: range) -> None:
        """Take an id, or a range of them."""
        if len(ids) == 1:
            self._single.add(ids.start)
        else:
            insort(self._ranges, ids, key=_start)

    def first_in(self, ids: range) -> int | None:
        """Return the lowest id in a range that is taken, if any."""
        return min(self._in(ids), default=None)

    def _in(self, ids: range) -> Iterator[int]:
        single: Collection[int] = self._single
        fewer, more = (ids, single) if len(ids) < len(single) else (single, ids)
        yield from (id for id in fewer if id in more)
        place = bisect_right(self._ranges, ids.start, key=_start)
        for other in self._ranges[max(place - 1, 0) : place + 1]:
            if (first := max(other.start, ids.start)) in ids and first in other:
                yield first


class FakeData:
    """Generate the names, users, hosts and ids that a scenario leaves out, from its seed.

    Phrases and users are drawn in the order of the requests for them.
    """

    def __init__(self, seed: str, taken: TakenIds | None = None) -> None:
        self.seed: Final = seed
        self._random = Random(seed)  # noqa: S311 (reproducible, not secret)
        self._words: Random | None = None
        self._requested, self._users = 0, list[tuple[int, str]]()
        self._taken = TakenIds() if taken is None else taken
        self.host: Final = f"192.0.2.{self._random.randint(1, 254)}"  # for documents: RFC 5737

    def _faker(self) -> Any:
        """Return the process's faker, set to draw from a random source of this object's."""
        self._words = self._words or Random(self.seed)  # noqa: S311 (reproducible, not secret)
        faker = load_faker()
        faker.random = self._words
        return faker

    def phrase(self) -> str:
        """Return a name."""
        self.drawn_user(self._requested - 1)
        with _drawing:
            return str(self._faker().bs()).capitalize()

    def user(self) -> FakeUser:
        """Return a user; an id and a name are drawn when one is read, or a phrase is drawn."""
        self._requested += 1
        return FakeUser(self._requested - 1, self.seed, self)

    def draw_users(self) -> None:
        """Draw the users now, where there are so many that the first to be read would take long."""
        if self._requested > MAX_UNDRAWN:
            self.drawn_user(self._requested - 1)

    def drawn_user(self, number: int) -> tuple[int, str]:
        """Return the id and the name of a user, drawn after those before it."""
        while len(self._users) <= number:
            with _drawing:
                faker = self._faker()
                self._users.append((faker.random_int(100, 999), faker.user_name()))
        return self._users[number] if self._users else (0, "")

    def id(self) -> int:
        """Return an id that is not taken yet. Raises InputError if there is none."""
        return self.ids(1).start

    def ids(self, count: int) -> range:
        """Return ids, one after another, that are not taken yet. Raises InputError if none are found."""
        for _ in range(MAX_DRAWS if FIRST_FREE_ID + count < LAST_FREE_ID else 0):
            first = self._random.randrange(FIRST_FREE_ID, LAST_FREE_ID - count + 1)
            drawn = range(first, first + count)
            if self._taken.first_in(drawn) is None:
                self._taken.add(drawn)
                return drawn
        raise InputError(f"there are no {count:,} free ids in a row. Let fewer tasks `repeat`.")


@dataclass(frozen=True, slots=True)
class FakeUser:
    """A generated user; its id and name are drawn when they are read."""

    number: int
    seed: str
    source: FakeData = field(compare=False, repr=False)

    @property
    def id(self) -> int:
        """Return the user's id."""
        return self.source.drawn_user(self.number)[0]

    @property
    def name(self) -> str:
        """Return the user's name."""
        return self.source.drawn_user(self.number)[1]
