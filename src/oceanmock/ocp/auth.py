"""Sign and verify OCP's requests: HTTP Basic and access keys.

``Basic`` and ``AccessKey`` sign a request of httpx or requests; ``authenticators`` verify it. Both sides build the same
messages, so signing is written once.

Facts: OCP API reference, 300.ak-sk-sign-roles.md (where its text and sample code differ, the code, which made its
sample signatures), and the permissions on each operation's page. The permissions of the two default users are a choice
of the mock; its accounts are public. Dates of signatures are compared with the machine's clock, not the sandbox's, as
clients use the machine's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

from oceanmock.api import ApiError, Authenticator, Request
from oceanmock.clock import SECOND, wall_now
from oceanmock.openapi import ALL_PERMISSIONS
from oceanmock.outgoing import Outgoing, PreparedRequest, Signer, body_of, headers_of, host_of, target_of
from oceanmock.text import nanoseconds_of

if TYPE_CHECKING:
    from oceanmock.engine.log import User

SIGNATURE_SCHEME: Final = "OCP-ACCESS-KEY-HMACSHA1"
MAX_SKEW: Final = 15 * 60 * SECOND


class Basic(NamedTuple):
    """A user and a password: a pair, as httpx and requests take it, and a callable that signs a request.

        requests.get(f"{ocp.url}/api/v2/tasks/instances", auth=Basic("manager", "manager"))

    The pair is sent in Latin-1 by requests; the callable sends UTF-8.
    """

    user: str
    password: str

    def prepare(self, method: str, url: str, body: bytes = b"") -> PreparedRequest:
        """Return a signed request for another client, which must send its ``headers`` and ``body`` unchanged."""
        return Signer.prepare(self, method, url, body)

    def __call__(self, request: Outgoing) -> Outgoing:
        """Add ``Authorization`` to the request."""
        outgoing: Any = request
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        outgoing.headers["Authorization"] = f"Basic {pair}"
        return request

    def __repr__(self) -> str:
        return f"Basic({self.user!r}, '***')"


@dataclass(frozen=True, slots=True)
class AccessKey(Signer):
    """An access key and its secret, which date and sign each request.

        httpx.get(f"{ocp.url}/api/v2/tasks/instances", auth=AccessKey("my-key", "its secret"))

    ``wall`` returns the time of the date, in nanoseconds. Sign last: later changes of the request are not signed.
    """

    id: str
    secret: str = field(repr=False)
    wall: Callable[[], int] = field(default=wall_now, kw_only=True, repr=False)

    def __call__(self, request: Outgoing) -> Outgoing:
        """Add ``Date`` and ``Authorization`` to the request. Raises CallerError for a stream."""
        outgoing: Any = request
        outgoing.headers["Date"] = formatdate(self.wall() / SECOND, usegmt=True)
        headers = [("host", host_of(outgoing)), *headers_of(outgoing)]
        message = next(messages(outgoing.method, target_of(outgoing), headers=headers, body=body_of(outgoing)))
        outgoing.headers["Authorization"] = f"{SIGNATURE_SCHEME} {self.id}:{sign(self.secret, message)}"
        return request


def authenticators(*, wall: Callable[[], int] = wall_now) -> dict[str, Authenticator]:
    """Return the authenticator of each kind of security scheme in the contract."""
    return {"basic": _basic, "apiKey": partial(_access_key, wall=wall)}


def _basic(request: Request) -> frozenset[str] | None:
    accounts = request.sandbox.accounts
    if not accounts.required:
        return ALL_PERMISSIONS
    user = _user_of(request.header(b"authorization"), accounts.users)
    if user is None:
        return None
    request.caller = user.name
    return user.permissions


@lru_cache(maxsize=256)
def _user_of(authorization: bytes | None, users: tuple[User, ...]) -> User | None:
    """Return the user of Basic credentials, or None without any. Raises ApiError, which is not cached."""
    encoded = _credentials_of(authorization, b"basic")
    if encoded is None:
        return None
    if not encoded:
        raise _bad_credentials("The Basic credentials are empty.", "Empty basic authentication token")
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        text = "Failed to decode basic authentication token"
        raise _bad_credentials("The Basic credentials are not Base64.", text) from None
    if not colon:
        raise _bad_credentials("The Basic credentials have no colon.", "Invalid basic authentication token")
    matching = [user for user in users if _equal(user.name, name) & _equal(user.password, password)]
    if matching:
        return matching[0]
    if any(_equal(user.name, name) for user in users):
        raise _bad_credentials("The password is not this user's.")
    # The name alone is the text of UsernameNotFoundException (JdbcUserDetailsService).
    raise _bad_credentials("No user has this name.", name.decode(errors="replace"))


def _bad_credentials(detail: str, text: str = "Bad credentials") -> ApiError:
    """Return the error of wrong credentials, with the text of Spring Security."""
    return ApiError("bad credentials", detail, value=text)


def _access_key(request: Request, *, wall: Callable[[], int]) -> frozenset[str] | None:
    accounts = request.sandbox.accounts
    if not accounts.required:
        return ALL_PERMISSIONS
    credentials = _credentials_of(request.header(b"authorization"), SIGNATURE_SCHEME.encode())
    if credentials is None:
        return None
    key_id, _, signature = credentials.partition(b":")
    keys = [key for key in accounts.access_keys if _equal(key.id, key_id)]
    if not keys:
        raise _bad_credentials("No access key has this id.")
    date = _date_of(dict(reversed(_headers(request))))
    try:
        # Without a zone, a TypeError; that of email.utils.formatdate is UTC.
        signed_at = nanoseconds_of(parsedate_to_datetime(date.replace(" -0000", " GMT")))
    except (ValueError, TypeError, OverflowError, IndexError):
        raise _bad_credentials(f"The Date {date[:100]!r} is not in the form of RFC 1123.") from None
    if abs(wall() - signed_at) >= MAX_SKEW:
        raise _bad_credentials(f"The Date {date[:100]} is 15 minutes away, or more.")
    expected = list(request_messages(request))
    valid = [_equal(sign(keys[0].secret, message), signature) for message in expected]
    if not any(valid):
        raise _bad_credentials(f"The signature is not that of {expected[0]!r}.")
    request.caller = keys[0].id
    return keys[0].permissions


def _credentials_of(authorization: bytes | None, scheme: bytes) -> bytes | None:
    name, _, rest = (authorization or b"").strip().partition(b" ")
    return rest.strip() if name.lower() == scheme.lower() else None


def _equal(expected: str, actual: bytes) -> bool:
    return hmac.compare_digest(expected.encode(), actual)


def request_messages(request: Request) -> Iterator[str]:
    """Yield the messages of which a received request may have the signature."""
    path, query = request.raw_path.partition(b"?")[0].decode("latin-1"), request.query.decode("latin-1")
    target = f"{path}?{query}" if query else path
    return messages(request.method, target, headers=_headers(request), body=request.body)


def _headers(request: Request) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]


def sign(secret: str, message: str) -> str:
    """Return the signature of a message: Base64 of its HMAC-SHA1."""
    return base64.b64encode(hmac.digest(secret.encode(), message.encode("utf-8", "surrogateescape"), "sha1")).decode()


def messages(method: str, target: str, *, headers: Iterable[tuple[str, str]], body: bytes) -> Iterator[str]:
    """Yield the message that the signature of a request signs, in each encoding of the query.

    ``target`` is path and query as sent. Of repeated headers the first one counts. Only OCP's own, which begin with
    ``x-ocp``, are all signed: sorted by name, one per line, their values in the order in which they were sent. (The
    page sorts these, but its sample signature XN8P+O+v3vUabB16ZCooq5wMJoY= is of ``x-ocp-data:A,1``.) The query is
    sorted by key and value, without empty values. Clients sign the first message, which is encoded by RFC 3986, as the
    page says; the second is encoded like an HTML form, as in the sample code of the page's newer version.
    """
    lowered = [(name.lower(), value) for name, value in headers]
    ocp_headers = _grouped((name, value) for name, value in lowered if name.startswith("x-ocp"))
    first = dict(reversed(lowered))
    head = [
        method,
        hashlib.md5(body).hexdigest().upper() if body else "",  # noqa: S324 (OCP's choice)
        first.get("content-type", ""),
        _date_of(first),
        first.get("host", ""),
        "\n".join(f"{name}:{','.join(values)}" for name, values in ocp_headers),
    ]
    path, _, query = target.partition("?")
    grouped = _grouped(parse_qsl(query, keep_blank_values=True))
    pairs = {key: ",".join(sorted(filter(None, values))) for key, values in grouped}
    for quote_via in (quote, quote_plus):
        encoded = urlencode(pairs, safe="", quote_via=quote_via)
        yield "\n".join([*head, f"{path}?{encoded}" if pairs else path])


def _date_of(headers: Mapping[str, str]) -> str:
    """Return the date of a signature; newer versions of the page also allow x-ocp-date."""
    return headers.get("date") or headers.get("x-ocp-date", "")


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Return the values of each name, sorted by name."""
    values = defaultdict[str, list[str]](list)
    for name, value in pairs:
        values[name].append(value)
    return sorted(values.items())
