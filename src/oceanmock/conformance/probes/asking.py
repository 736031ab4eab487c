"""Send probes, and check their responses against what each expects.

A probe's expectation holds for any server of its API; where public sources allow two responses, it
has both. The client's checkers see the response, too, so a probe states only how this request must
be answered. A response that does not depend on the request (too many requests, a proxy whose server
is down) is not checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from oceanmock.checks import (
    UNAVAILABLE,
    CheckResult,
    Contract,
    Exchange,
    Probe,
    RuleChecker,
    Subject,
    check,
)
from oceanmock.conformance.guard import NotAllowed
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.quirks import quirk_of
from oceanmock.conformance.rules import RULES

ELSEWHERE: Final = frozenset({301, 302, 303, 307, 308})
"""The statuses of a redirect to a login page, by a proxy in front of the server."""


class Prober(RuleChecker):
    """A sender of probes over a client, which gets the findings; ``counts`` are the results."""

    def __init__(self, client: HttpClient, contract: Contract) -> None:
        super().__init__(contract, RULES)
        self.client = client

    def ask(self, probe: Probe) -> Exchange | None:
        """Return the exchange of a probe, checked against what the probe expects.

        None if it may not be sent, or if the target's version does not have the operation.
        """
        if self.contract.lacks(probe.method, probe.target.partition("?")[0]):
            return None
        try:
            exchange = self.client.send(
                probe.method,
                probe.target,
                headers=probe.headers,
                body=probe.body,
                auth=probe.auth,
                expects_refusal=probe.is_wrong,
            )
        except NotAllowed:
            return None
        subject = Subject(exchange, self.contract)
        if exchange.status is not None:
            self.tell(subject, _judge(probe, subject))
        return exchange

    def ask_all(self, probes: Iterable[Probe]) -> None:
        """Send each probe."""
        for probe in probes:
            self.ask(probe)

    def tell(self, subject: Subject, results: Iterable[CheckResult]) -> None:
        """Count results, and pass the failed ones to the client."""
        for finding in self.failures(subject, results):
            self.client.found(finding)


def missing(shown: Collection[str], known: Iterable[str]) -> CheckResult:
    """Return the result of checking that a list has all known ids."""
    left_out = [id for id in known if id not in shown]
    wrong = f"{', '.join(left_out[:5])} can be read, and is not listed."
    return check("list.missing", not left_out, "$.data.contents", wrong)


def _asks_who(probe: Probe) -> bool:
    return probe.accepted.startswith("auth.")


def _was_let_in(probe: Probe, subject: Subject) -> bool:
    """Return whether the request succeeded; for one of access, whether it was authenticated."""
    if _asks_who(probe):
        return (
            subject.status < 500
            and subject.status not in (401, 403)
            and isinstance(subject.body, dict)
        )
    return subject.status < 300


def _judge(probe: Probe, subject: Subject) -> Iterator[CheckResult]:
    """Check that the response is expected; quirks and failures have rules of their own."""
    if quirk_of(subject) is not None or subject.status in UNAVAILABLE or subject.status >= 500:
        return  # the client's checkers report a failure
    if probe.refused != "error.status" and subject.status in (401, 403):
        return  # the run's credentials do not suffice
    allowed = " or ".join(str(item) for item in sorted(probe.statuses))
    wrong = f"{probe.what} is answered {subject.status}; it should be {allowed}."
    is_sent_elsewhere = _asks_who(probe) and subject.status in ELSEWHERE
    is_expected = subject.status in probe.statuses or is_sent_elsewhere
    if probe.accepted != "error.status":
        was_done = not is_expected and _was_let_in(probe, subject)
        yield check(probe.accepted, not was_done, "$", wrong)
        if was_done:
            return
    if probe.refused != "error.status" and 400 not in probe.statuses:
        yield check(probe.refused, subject.status != 400, "$", wrong)
        if subject.status == 400:
            return
    yield check("error.status", is_expected, "$", wrong)
    actual = subject.error.get("errCode")
    if is_expected and subject.status >= 400 and probe.codes and isinstance(actual, str):
        wrong = f"{probe.what} is answered {actual}; it should be {' or '.join(probe.codes)}."
        yield check("error.code", actual in probe.codes, "$.error.errCode", wrong)
    number = subject.error.get("code")
    if subject.status == 400 and probe.other_codes and isinstance(number, int):
        wrong = f"{probe.what} is answered with the code {number}, which has another meaning."
        yield check("error.code", number not in probe.other_codes, "$.error.code", wrong)
