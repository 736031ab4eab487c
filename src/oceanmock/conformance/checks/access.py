"""Who may do what: an operation that is not open is done for nobody who does not say who he is.

And what may be asked at all: an operator nobody knows is never accepted. Whether a wrong password
is refused only a probe can know, for no exchange says which password is the right one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from oceanmock.conformance.looks import Look, Seen, look

OPERATORS: Final = {
    "dagHandler": ("ROLLBACK", "RETRY", "CANCEL", "PASS"),
    "nodeHandler": ("PASS",),
}


def credentials(seen: Seen) -> Iterator[Look]:
    """Without credentials nothing is done, and nothing shown."""
    if seen.operation is None or seen.contract.is_open(seen.id) or seen.has_credentials:
        return
    wrong = f"{seen.id} is answered {seen.status} to a request that does not say whose it is."
    is_refused = seen.status >= 300 or not isinstance(seen.body, dict)  # a page to log in at
    yield look("auth.missing-accepted", is_refused, "$", wrong)


def operators(seen: Seen) -> Iterator[Look]:
    """An operator that the route does not know is refused."""
    known = OPERATORS.get(seen.id)
    if known is None or seen.exchange.method != "POST" or seen.status >= 500:
        return
    asked = seen.request_json.get("operator")
    if isinstance(asked, str) and asked.upper() in known:
        return
    wrong = f"the operator {asked!r} is accepted; {seen.id} knows {', '.join(known)}."
    yield look("call.unknown-accepted", seen.status >= 300, "$", wrong)


OCP: Final = (credentials,)
OBSHELL: Final = (credentials, operators)
