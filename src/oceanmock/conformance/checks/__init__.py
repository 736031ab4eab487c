"""Check each response by itself: its envelope, its schema, its errors and its data.

Each check takes one exchange; none keeps state. Rules that need two responses are in ``history``,
those that need a particular request in ``probes``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from oceanmock.checks import Check, CheckResult, Contract, RuleChecker, Subject, check
from oceanmock.conformance import quirks
from oceanmock.conformance.checks import access, envelope, errors, obshell, ocp, schema
from oceanmock.conformance.rules import RULES


def answered(subject: Subject) -> Iterator[CheckResult]:
    """Check that there is a response."""
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
    """A checker of every rule that needs no history."""

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract, RULES, CHECKS_OF[contract.api])

    def results(self, subject: Subject) -> Iterator[CheckResult]:
        """Yield every check result of an exchange; without a response, only that."""
        yield from answered(subject)
        if subject.exchange.status is not None:
            yield from super().results(subject)
