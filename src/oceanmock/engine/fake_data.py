"""Fill in what a scenario leaves out, from a seed: the same seed gives the same names and ids."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any, Final

FIRST_FREE_ID: Final = 1_000_000
"""OCP's ids that a scenario leaves out are drawn from here on, below 2^31."""


@cache
def _faker() -> Any:
    """Return faker's factory, loaded on first use: that takes a tenth of a second."""
    from faker import Factory  # noqa: PLC0415

    return Factory.create("en_US")


class FakeData:
    """The names, users, hosts and ids that one scenario leaves out."""

    def __init__(self, seed: str, taken: set[int] | None = None) -> None:
        self._random = Random(seed)  # noqa: S311 (reproducible, not secret)
        self._chances = Random(seed)  # noqa: S311 (the same)
        self._taken = set() if taken is None else taken
        self.host: Final = f"192.0.2.{self._random.randint(1, 254)}"  # for documents: RFC 5737

    @property
    def _faker(self) -> Any:
        """Return the process's faker, set to draw from this object's random source."""
        faker = _faker()
        faker.random = self._chances
        return faker

    def phrase(self) -> str:
        """Return a name."""
        return str(self._faker.bs()).capitalize()

    def user(self) -> tuple[int, str]:
        """Return a user's id and name."""
        return self._faker.random_int(100, 999), self._faker.user_name()

    def id(self) -> int:
        """Return an id that is not taken yet."""
        while (drawn := self._random.randrange(FIRST_FREE_ID, 2**31)) in self._taken:
            pass
        self._taken.add(drawn)
        return drawn
