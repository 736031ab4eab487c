"""Who calls OCP: HTTP Basic, and signatures made with an access key.

Facts: OCP API reference, 300.ak-sk-sign-roles.md, and the list of permissions on each operation's
page. What a signature signs is ``credentials.ocp``'s, where clients sign. Which permissions the two
default users have is ours; the accounts are the mock's and no secret.

A signature is younger or older than it may be by the machine's clock, never by the sandbox's: the
client dates it with the clock of its own machine, whatever time the sandbox plays.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Final

from oceanmock.api import ApiError, Authenticator, Request
from oceanmock.clock import SECOND, wall_now
from oceanmock.engine.accounts import EVERYTHING, Accounts
from oceanmock.ocp import credentials as signing

MAX_SKEW: Final = 15 * 60 * SECOND


def credentials(*, wall: Callable[[], int] = wall_now) -> dict[str, Authenticator]:
    """What checks a request by its sandbox's accounts, for each kind of scheme the contract has."""

    def basic(request: Request) -> frozenset[str] | None:
        accounts = request.sandbox.accounts
        return _basic(accounts, request) if accounts.required else EVERYTHING

    def access_key(request: Request) -> frozenset[str] | None:
        accounts = request.sandbox.accounts
        return _access_key(accounts, request, wall()) if accounts.required else EVERYTHING

    return {"basic": basic, "apiKey": access_key}


def _offered(request: Request, scheme: bytes) -> bytes | None:
    """What ``Authorization`` says after this scheme; None without it."""
    said, _, rest = (request.header(b"authorization") or b"").strip().partition(b" ")
    return rest.strip() if said.lower() == scheme.lower() else None


# --- HTTP Basic -----------------------------------------------------------------------------------


def _basic(accounts: Accounts, request: Request) -> frozenset[str] | None:
    offered = _offered(request, b"basic")
    if offered is None:
        return None
    try:
        name, colon, password = base64.b64decode(offered, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        raise ApiError("bad credentials", "The Basic credentials are not Base64.") from None
    found = [u for u in accounts.users if _same(u.name, name) & _same(u.password, password)]
    if not found or not colon:
        raise ApiError("bad credentials", "No user has this name and password.")
    request.caller = found[0].name
    return found[0].permissions


def _same(ours: str, theirs: bytes) -> bool:
    """Compares in a time that does not tell how much of it was right."""
    return hmac.compare_digest(ours.encode(), theirs)


# --- access keys ----------------------------------------------------------------------------------


def _access_key(accounts: Accounts, request: Request, now: int) -> frozenset[str] | None:
    offered = _offered(request, signing.SCHEME.encode())
    if offered is None:
        return None
    key_id, _, signature = offered.partition(b":")
    found = [key for key in accounts.access_keys if _same(key.id, key_id)]
    if not found:
        raise ApiError("bad credentials", "No access key has this id.")
    _check_date(signing.date_of(_headers(request)), now)
    wanted = [signing.sign(found[0].secret, message).encode() for message in messages(request)]
    if not any([hmac.compare_digest(each, signature) for each in wanted]):  # noqa: C419 (no early end)
        raise ApiError("bad credentials", f"The signature is not that of {wanted_text(request)!r}.")
    request.caller = found[0].id
    return found[0].permissions


def _check_date(date: str, now: int) -> None:
    try:
        signed_at = int(parsedate_to_datetime(date).timestamp()) * SECOND
    except (ValueError, TypeError, OverflowError, IndexError):
        raise ApiError(
            "bad credentials", f"The Date {date[:100]!r} is not in the form of RFC 1123."
        ) from None
    if abs(now - signed_at) >= MAX_SKEW:
        raise ApiError("bad credentials", f"The Date {date[:100]} is 15 minutes away, or more.")


def wanted_text(request: Request) -> str:
    """The message a signature of this request signs, for whoever looks for the difference."""
    return next(messages(request))


def messages(request: Request) -> Iterator[str]:
    """The message that the request's signature signs, once for each way to encode its query."""
    path = _text(request.raw_path.partition(b"?")[0])
    query = _text(request.query)
    return signing.messages(
        request.method,
        f"{path}?{query}" if query else path,
        headers=_headers(request),
        body=request.body,
    )


def _headers(request: Request) -> list[tuple[str, str]]:
    return [(_text(name), _text(value)) for name, value in request.headers]


def _text(value: bytes) -> str:
    return value.decode("latin-1")
