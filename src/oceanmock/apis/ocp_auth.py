"""Who calls OCP: HTTP Basic, and signatures made with an access key.

Facts: OCP API reference, 300.ak-sk-sign-roles.md (its sample code where text and code differ, since
its worked signatures are made by the code) and the list of permissions on each operation's page.
Which permissions the two default users have is ours; the accounts are the mock's and no secret.

A signature is younger or older than it may be by the machine's clock, never by the sandbox's: the
client dates it with the clock of its own machine, whatever time the sandbox plays.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import parse_qsl, quote, quote_plus

from oceanmock.apis.api import Call, Credentials, Refused
from oceanmock.clock import SECOND, wall_now
from oceanmock.engine.accounts import EVERYTHING, Accounts

SCHEME: Final = b"OCP-ACCESS-KEY-HMACSHA1"
MAX_SKEW: Final = 15 * 60 * SECOND


def credentials(*, wall: Callable[[], int] = wall_now) -> dict[str, Credentials]:
    """What checks a call by its sandbox's accounts, for each kind of scheme the contract has."""

    def basic(call: Call) -> frozenset[str] | None:
        accounts = call.sandbox.accounts
        return _basic(accounts, call) if accounts.required else EVERYTHING

    def access_key(call: Call) -> frozenset[str] | None:
        accounts = call.sandbox.accounts
        return _access_key(accounts, call, wall()) if accounts.required else EVERYTHING

    return {"basic": basic, "apiKey": access_key}


def _offered(call: Call, scheme: bytes) -> bytes | None:
    """What ``Authorization`` says after this scheme; None without it."""
    said, _, rest = (call.header(b"authorization") or b"").strip().partition(b" ")
    return rest.strip() if said.lower() == scheme.lower() else None


# --- HTTP Basic -----------------------------------------------------------------------------------


def _basic(accounts: Accounts, call: Call) -> frozenset[str] | None:
    offered = _offered(call, b"basic")
    if offered is None:
        return None
    try:
        name, colon, password = base64.b64decode(offered, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        raise Refused("bad credentials", "The Basic credentials are not Base64.") from None
    found = [u for u in accounts.users if _same(u.name, name) & _same(u.password, password)]
    if not found or not colon:
        raise Refused("bad credentials", "No user has this name and password.")
    call.caller = found[0].name
    return found[0].permissions


def _same(ours: str, theirs: bytes) -> bool:
    """Compares in a time that does not tell how much of it was right."""
    return hmac.compare_digest(ours.encode(), theirs)


# --- access keys ----------------------------------------------------------------------------------


def _access_key(accounts: Accounts, call: Call, now: int) -> frozenset[str] | None:
    offered = _offered(call, SCHEME)
    if offered is None:
        return None
    key_id, _, signature = offered.partition(b":")
    found = [key for key in accounts.access_keys if _same(key.id, key_id)]
    if not found:
        raise Refused("bad credentials", "No access key has this id.")
    _check_date(_date(call), now)
    wanted = [sign(found[0].secret, message).encode() for message in messages(call)]
    if not any([hmac.compare_digest(each, signature) for each in wanted]):  # noqa: C419 (no early end)
        raise Refused("bad credentials", f"The signature is not that of {wanted_text(call)!r}.")
    call.caller = found[0].id
    return found[0].permissions


def _date(call: Call) -> str:
    """When the call was signed; newer pages of the documents also read it from x-ocp-date."""
    date = call.header(b"date") or call.header(b"x-ocp-date") or b""
    return date.decode("latin-1")


def _check_date(date: str, now: int) -> None:
    try:
        signed_at = int(parsedate_to_datetime(date).timestamp()) * SECOND
    except (ValueError, TypeError, OverflowError, IndexError):
        raise Refused(
            "bad credentials", f"The Date {date[:100]!r} is not in the form of RFC 1123."
        ) from None
    if abs(now - signed_at) >= MAX_SKEW:
        raise Refused("bad credentials", f"The Date {date[:100]} is 15 minutes away, or more.")


def sign(secret: str, message: str) -> str:
    """The signature of a message: Base64 of its HMAC-SHA1."""
    return base64.b64encode(
        hmac.digest(secret.encode(), message.encode("utf-8", "surrogateescape"), "sha1")
    ).decode()


def wanted_text(call: Call) -> str:
    """The message a signature of this call signs, for whoever looks for the difference."""
    return next(messages(call))


def messages(call: Call) -> Iterator[str]:
    """The message that the call's signature signs, once for each way to encode its query.

    The page says RFC 3986; the sample code of its newer version encodes as HTML forms do.
    """
    head = [
        call.method,
        hashlib.md5(call.body).hexdigest().upper() if call.body else "",  # noqa: S324 (theirs)
        _text(call.header(b"content-type")),
        _date(call),
        _text(call.header(b"host")),
        _ocp_headers(call),
    ]
    query = list(_query(call))
    yield "\n".join([*head, _target(call, query, quote)])
    yield "\n".join([*head, _target(call, query, quote_plus)])


def _text(value: bytes | None) -> str:
    return (value or b"").decode("latin-1")


def _ocp_headers(call: Call) -> str:
    """Every header that begins with ``x-ocp``, sorted by name, one a line.

    Values stay in the order they were sent in: the page says they are sorted, but its worked
    signature XN8P+O+v3vUabB16ZCooq5wMJoY= is of ``x-ocp-data:A,1``.
    """
    values: dict[str, list[str]] = {}
    for name, value in call.headers:
        if name.lower().startswith(b"x-ocp"):
            values.setdefault(_text(name).lower(), []).append(_text(value))
    return "\n".join(f"{name}:{','.join(values[name])}" for name in sorted(values))


def _query(call: Call) -> Iterator[tuple[str, str]]:
    """The query, sorted by key; the values of one key sorted and joined, empty ones left out."""
    values: dict[str, list[str]] = {}
    for key, value in parse_qsl(_text(call.query), keep_blank_values=True):
        values.setdefault(key, []).append(value)
    for key in sorted(values):
        yield key, ",".join(sorted(value for value in values[key] if value))


def _target(call: Call, query: list[tuple[str, str]], encode: Callable[..., str]) -> str:
    path = _text(call.raw_path.partition(b"?")[0])
    pairs = "&".join(f"{encode(key, safe='')}={encode(value, safe='')}" for key, value in query)
    return f"{path}?{pairs}" if query else path
