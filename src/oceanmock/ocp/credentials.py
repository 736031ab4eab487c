"""OCP's credentials: HTTP Basic, and signatures made with an access key.

Facts: OCP API reference, 300.ak-sk-sign-roles.md (its sample code where text and code differ, since
its worked signatures are made by the code). Signing is written once: the server's side makes the
same messages, and compares (``apis.ocp_auth``). A signature is dated by the machine's clock.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final, Self, TypeVar
from urllib.parse import parse_qsl, quote, quote_plus

from oceanmock.clock import SECOND, wall_now
from oceanmock.outgoing import body_of, headers_of, host_of, target_of

SCHEME: Final = "OCP-ACCESS-KEY-HMACSHA1"

Request = TypeVar("Request")
"""A request of httpx or a prepared one of requests."""


class Basic(tuple[str, str]):
    """A name and a password, as the pair that both clients take; called, it signs a request.

        requests.get(f"{ocp.url}/api/v2/tasks/instances", auth=Basic("manager", "manager"))

    Given as a pair to requests, name and password go out in Latin-1; called, in UTF-8.
    """

    __slots__ = ()

    def __new__(cls, user: str, password: str) -> Self:
        return super().__new__(cls, (user, password))

    @property
    def user(self) -> str:
        """The name."""
        return self[0]

    @property
    def password(self) -> str:
        """The password."""
        return self[1]

    def __call__(self, request: Request) -> Request:
        """The request with its ``Authorization``."""
        outgoing: Any = request
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        outgoing.headers["Authorization"] = f"Basic {pair}"
        return request

    def __repr__(self) -> str:
        return f"Basic({self.user!r}, '***')"


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key and its secret key: what dates and signs each request.

        httpx.get(f"{ocp.url}/api/v2/tasks/instances", auth=AccessKey("my-key", "its secret"))

    ``wall`` is the clock that dates it, in nanoseconds. Sign last: what is changed of a request
    afterwards is not what was signed.
    """

    id: str
    secret: str = field(repr=False)
    wall: Callable[[], int] = field(default=wall_now, kw_only=True, repr=False)

    def __call__(self, request: Request) -> Request:
        """The request with its ``Date`` and ``Authorization``. Raises CallerError for a stream."""
        outgoing: Any = request
        outgoing.headers["Date"] = formatdate(self.wall() / SECOND, usegmt=True)
        message = next(
            messages(
                outgoing.method,
                target_of(outgoing),
                headers=[("host", host_of(outgoing)), *headers_of(outgoing)],
                body=body_of(outgoing),
            )
        )
        outgoing.headers["Authorization"] = f"{SCHEME} {self.id}:{sign(self.secret, message)}"
        return request


def sign(secret: str, message: str) -> str:
    """The signature of a message: Base64 of its HMAC-SHA1."""
    return base64.b64encode(
        hmac.digest(secret.encode(), message.encode("utf-8", "surrogateescape"), "sha1")
    ).decode()


def messages(
    method: str, target: str, *, headers: Iterable[tuple[str, str]], body: bytes
) -> Iterator[str]:
    """The message that a request's signature signs, once for each way to encode its query.

    ``target`` is path and query as they are sent; of headers of one name the first counts, but for
    OCP's own. The page says RFC 3986, so a client signs the first message; the sample code of the
    page's newer version encodes as HTML forms do.
    """
    listed = [(name.lower(), value) for name, value in headers]
    head = [
        method,
        hashlib.md5(body).hexdigest().upper() if body else "",  # noqa: S324 (theirs)
        _first(listed, "content-type"),
        date_of(listed),
        _first(listed, "host"),
        _ocp_headers(listed),
    ]
    path, _, asked = target.partition("?")
    query = list(_query(asked))
    yield "\n".join([*head, _target(path, query, quote)])
    yield "\n".join([*head, _target(path, query, quote_plus)])


def date_of(headers: Iterable[tuple[str, str]]) -> str:
    """When a request was signed; newer pages of the documents also read it from x-ocp-date."""
    listed = list(headers)
    return _first(listed, "date") or _first(listed, "x-ocp-date")


def _first(headers: Iterable[tuple[str, str]], name: str) -> str:
    return next((value for key, value in headers if key.lower() == name), "")


def _ocp_headers(headers: Iterable[tuple[str, str]]) -> str:
    """Every header that begins with ``x-ocp``, sorted by name, one a line.

    Values stay in the order they were sent in: the page says they are sorted, but its worked
    signature XN8P+O+v3vUabB16ZCooq5wMJoY= is of ``x-ocp-data:A,1``.
    """
    values: dict[str, list[str]] = {}
    for name, value in headers:
        if name.startswith("x-ocp"):
            values.setdefault(name, []).append(value)
    return "\n".join(f"{name}:{','.join(values[name])}" for name in sorted(values))


def _query(asked: str) -> Iterator[tuple[str, str]]:
    """The query, sorted by key; the values of one key sorted and joined, empty ones left out."""
    values: dict[str, list[str]] = {}
    for key, value in parse_qsl(asked, keep_blank_values=True):
        values.setdefault(key, []).append(value)
    for key in sorted(values):
        yield key, ",".join(sorted(value for value in values[key] if value))


def _target(path: str, query: list[tuple[str, str]], encode: Callable[..., str]) -> str:
    pairs = "&".join(f"{encode(key, safe='')}={encode(value, safe='')}" for key, value in query)
    return f"{path}?{pairs}" if query else path
