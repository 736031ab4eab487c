"""What one answer must be by itself: its envelope, its shape, its errors, and what it shows.

Each check takes one exchange and checks rules; none keeps state. What needs two answers is
``memory``'s, what has to be asked for on purpose ``probes``'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from oceanmock.checks import Check, CheckResult, Contract, RuleChecker, Subject, check
from oceanmock.conformance import quirks
from oceanmock.conformance.checks import access, envelope, errors, obshell, ocp, schema
from oceanmock.conformance.rules import RULES


def answered(subject: Subject) -> Iterator[CheckResult]:
    """A request is answered, whatever it is."""
    problem = subject.exchange.problem or "the connection was closed"
    yield check(
        "answer.none", subject.exchange.status is not None, "$", f"no answer came: {problem}."
    )


COMMON: Final = (*envelope.CHECKS, *schema.CHECKS)
CHECKS_OF: Final[Mapping[str, tuple[Check, ...]]] = {
    "ocp": (*COMMON, *errors.OCP, *access.OCP, *ocp.CHECKS),
    "obshell": (*COMMON, *errors.OBSHELL, *access.OBSHELL, *obshell.CHECKS, *quirks.CHECKS),
}


class ResponseChecker(RuleChecker):
    """The watch that holds every stateless rule against each exchange."""

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract, RULES, CHECKS_OF[contract.api])

    def results(self, subject: Subject) -> Iterator[CheckResult]:
        """Every look at an exchange; at one that was not answered, only that it was not."""
        yield from answered(subject)
        if subject.exchange.status is not None:
            yield from super().results(subject)
