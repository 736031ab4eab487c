"""Who may do what: an operation that is not open is done for nobody who does not say who he is.

And what may be asked at all: an operator nobody knows is never accepted. Whether a wrong password
is refused only a probe can know, for no exchange says which password is the right one.
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
    """Without credentials nothing is done, and nothing shown."""
    if subject.operation is None or subject.contract.is_open(subject.id) or subject.has_credentials:
        return
    wrong = f"{subject.id} is answered {subject.status} to a request that does not say whose it is."
    is_refused = subject.status >= 300 or not isinstance(subject.body, dict)  # a page to log in at
    yield check("auth.missing-accepted", is_refused, "$", wrong)


def operators(subject: Subject) -> Iterator[CheckResult]:
    """An operator that the route does not know is refused."""
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
