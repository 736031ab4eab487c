"""What one answer must be by itself: its envelope, its shape, its errors, and what it shows.

Each check takes one exchange and holds rules against it (``looks``); none remembers anything. What
needs two answers is ``memory``'s, what has to be asked for on purpose ``probes``'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from oceanmock.conformance import quirks
from oceanmock.conformance.checks import access, envelope, errors, obshell, ocp, schema
from oceanmock.conformance.looks import Check, Contract, Look, Seen, Watch, look
from oceanmock.conformance.rules import RULES


def answered(seen: Seen) -> Iterator[Look]:
    """A request is answered, whatever it is."""
    problem = seen.exchange.problem or "the connection was closed"
    yield look("answer.none", seen.exchange.status is not None, "$", f"no answer came: {problem}.")


COMMON: Final = (*envelope.CHECKS, *schema.CHECKS)
CHECKS_OF: Final[Mapping[str, tuple[Check, ...]]] = {
    "ocp": (*COMMON, *errors.OCP, *access.OCP, *ocp.CHECKS),
    "obshell": (*COMMON, *errors.OBSHELL, *access.OBSHELL, *obshell.CHECKS, *quirks.CHECKS),
}


class Checks(Watch):
    """The watch that holds every stateless rule against each exchange."""

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract, RULES, CHECKS_OF[contract.api])

    def looks(self, seen: Seen) -> Iterator[Look]:
        """Every look at an exchange; at one that was not answered, only that it was not."""
        yield from answered(seen)
        if seen.exchange.status is not None:
            yield from super().looks(seen)
