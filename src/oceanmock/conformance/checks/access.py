"""Check that requests without credentials, and unknown operators, are refused.

A wrong password is tested by the probes: an exchange does not show which password is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from oceanmock.checks import CheckResult, Subject, check

OPERATORS: Final = {
    "dagHandler": ("ROLLBACK", "RETRY", "CANCEL", "PASS"),
    "nodeHandler": ("PASS",),
}


def credentials(subject: Subject) -> Iterator[CheckResult]:
    """Check that a request without credentials is refused, unless the operation is open."""
    if subject.operation is None or subject.contract.is_open(subject.id) or subject.has_credentials:
        return
    wrong = f"{subject.id} is answered {subject.status} to a request that does not say whose it is."
    is_refused = subject.status >= 300 or not isinstance(subject.body, dict)  # a page to log in at
    yield check("auth.missing-accepted", is_refused, "$", wrong)


def operators(subject: Subject) -> Iterator[CheckResult]:
    """Check that an unknown operator is refused."""
    existing = OPERATORS.get(subject.id)
    if existing is None or subject.exchange.method != "POST" or subject.status >= 500:
        return
    requested = subject.request_json.get("operator")
    if isinstance(requested, str) and requested.upper() in existing:
        return
    wrong = f"the operator {requested!r} is accepted; {subject.id} knows {', '.join(existing)}."
    yield check("call.unknown-accepted", subject.status >= 300, "$", wrong)


OCP: Final = (credentials,)
OBSHELL: Final = (credentials, operators)
