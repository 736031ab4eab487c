"""obshell's credentials: a password sealed into a header, with the keys that the body is sealed by.

The agent gives out its public key (GET /api/v1/secret); what is sealed with it says who asks, until
when, for which path and query, and with which AES key and IV the body is encrypted. What a sealed
header means to the server, and what refuses it, is ``apis.obshell_auth``'s.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent/lib/crypto/{rsa,aes}.go,
ob/agent/secure/header.go:38-49; obshell-sdk-python 0.0.9, auth/password.py:132-188. One of the two
doors to ``cryptography``; the other opens what is sealed here.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from oceanmock.clock import SECOND, wall_now
from oceanmock.errors import EnvironmentProblem
from oceanmock.outgoing import body_of, target_of, with_body

AES_SIZE_BYTES: Final = 16
PADDING_BYTES: Final = 11
"""What PKCS#1 v1.5 takes of each block."""
LIFETIME_SECONDS: Final = 60
PATIENCE: Final = 10.0

ROOT_HEADER: Final = "X-OCS-Header"
AGENT_HEADER: Final = "X-OCS-Agent-Header"

API: Final = "/api/v1/"
UNGUARDED: Final = frozenset({"info", "secret", "time", "git-info", "status"})
"""What anybody may read (agent_route.go:102-107): nothing is sealed for it."""
OF_OBPROXY: Final = re.compile(r"task/\w+/[45]")
"""The ids of obproxy's tasks, which only the agent's own password opens (task_dto.go)."""

Request = TypeVar("Request")
"""A request of httpx or a prepared one of requests."""


# --- sealing --------------------------------------------------------------------------------------


def new_keys() -> bytes:
    """An AES key and an IV, for one request."""
    return secrets.token_bytes(2 * AES_SIZE_BYTES)


def seal_header(public_key: str, said: Mapping[str, Any]) -> str:
    """A JSON object as the value of a security header; bytes in it become Base64.

    ``public_key`` is what /api/v1/secret gives out. Raises EnvironmentProblem for what is no key.
    """
    try:
        key = serialization.load_der_public_key(base64.b64decode(public_key))
    except ValueError:
        key = None
    if not isinstance(key, rsa.RSAPublicKey):
        raise EnvironmentProblem(
            f"{public_key[:40]!r} is no public key of an obshell: Base64 of an RSA key in DER."
        )
    text = json.dumps(said, default=_base64).encode()
    most = key.key_size // 8 - PADDING_BYTES
    pieces = [text[at : at + most] for at in range(0, len(text), most)]
    return _base64(b"".join(key.encrypt(piece, padding.PKCS1v15()) for piece in pieces))


def seal_body(body: bytes, keys: bytes) -> bytes:
    """A body as it is sent, encrypted with an AES key and the IV after it; none stays none."""
    if not body:
        return b""
    padder = PKCS7(8 * AES_SIZE_BYTES).padder()
    whole = padder.update(body) + padder.finalize()
    key, iv = keys[:AES_SIZE_BYTES], keys[AES_SIZE_BYTES:]
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return _base64(encryptor.update(whole) + encryptor.finalize()).encode()


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


# --- what an agent says of itself -----------------------------------------------------------------


Fetch = Callable[[str], Mapping[str, Any]]
"""Gives back the ``data`` of the JSON that a URL answers."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """Reads an agent over a socket, with the standard library alone.

    ``verify`` as httpx and requests have it: whether a certificate is looked at, or the path of
    those to trust.
    """

    verify: bool | str = True

    def __call__(self, url: str) -> Mapping[str, Any]:
        """The ``data`` that the URL answers. Raises EnvironmentProblem."""
        try:
            status, content = self._get(url)
        except (OSError, HTTPException, ValueError) as problem:
            raise EnvironmentProblem(f"{url} does not answer ({problem}).") from None
        try:
            data = json.loads(content)["data"]
        except (ValueError, KeyError, TypeError):
            data = None
        if not isinstance(data, dict):
            raise EnvironmentProblem(f"{url} answers {status}, and not as an obshell does.")
        return data

    def _get(self, url: str) -> tuple[int, bytes]:
        parts = urlsplit(url)
        address = parts.hostname or "", parts.port
        connection = (
            HTTPSConnection(*address, timeout=PATIENCE, context=self._tls())
            if parts.scheme == "https"
            else HTTPConnection(*address, timeout=PATIENCE)
        )
        try:
            connection.request("GET", parts.path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(
            cafile=self.verify if isinstance(self.verify, str) else None
        )
        if self.verify is False:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


# --- a client's credentials -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sealed:
    """OceanBase's root password and the agent's own: what seals each request.

        requests.post(f"{agent}/api/v1/task/dag/{id}", json={"operator": "RETRY"},
                      auth=Sealed("root's password"))

    The agent's own goes out where it was given and the agent has one, and for tasks of obproxy;
    else root's. What an agent says of itself is read once, before the first request, with ``fetch``
    (for an async client too, and it waits for it). ``plain_body`` of a sealed request is what was
    meant. ``wall`` is the clock that ``lifetime`` seconds are counted by, in nanoseconds.
    """

    password: str = field(default="", repr=False)
    agent_password: str | None = field(default=None, repr=False)
    lifetime: int = field(default=LIFETIME_SECONDS, kw_only=True)
    verify: bool | str = field(default=True, kw_only=True)
    fetch: Fetch | None = field(default=None, kw_only=True, repr=False)
    wall: Callable[[], int] = field(default=wall_now, kw_only=True, repr=False)
    _read: dict[str, Mapping[str, Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __call__(self, request: Request) -> Request:
        """The request sealed; as it is, where nobody is asked who he is. Raises EnvironmentProblem.

        Its header is one for this request alone: for its path, its query and its time.
        """
        outgoing: Any = request
        agent, slash, route = str(outgoing.url).partition(API)
        if not slash or route.partition("?")[0] in UNGUARDED:
            return request
        body, keys = body_of(outgoing), new_keys()
        if body:
            outgoing = with_body(outgoing, seal_body(body, keys))
        outgoing.plain_body = body
        name, password = self._chosen(agent, route)
        said = {
            "auth": password,
            "ts": str(self.wall() // SECOND + self.lifetime),
            "uri": target_of(outgoing),
            "keys": keys,
        }
        for each in (ROOT_HEADER, AGENT_HEADER):
            outgoing.headers.pop(each, None)
        outgoing.headers[name] = seal_header(self.public_key(agent), said)
        sealed: Request = outgoing
        return sealed

    def public_key(self, agent: str) -> str:
        """The key that is sealed with; ``agent`` is the URL before ``/api/v1``."""
        return str(self._told(f"{agent}{API}secret").get("public_key", ""))

    def _chosen(self, agent: str, route: str) -> tuple[str, str]:
        """The header and the password that goes into it (password.py:173-179)."""
        if self.agent_password is not None and (
            OF_OBPROXY.match(route) or self._told(f"{agent}{API}info").get("security") is True
        ):
            return AGENT_HEADER, self.agent_password
        return ROOT_HEADER, self.password

    def _told(self, url: str) -> Mapping[str, Any]:
        if url not in self._read:
            fetch = self.fetch or Fetching(self.verify)
            self._read[url] = fetch(url)
        return self._read[url]


@dataclass(frozen=True, slots=True)
class Unsealed(Sealed):
    """Credentials for an agent that does not authenticate: requests stay as they are."""

    def __call__(self, request: Request) -> Request:
        """Return the request as it is: the agent could not read a sealed body."""
        return request
