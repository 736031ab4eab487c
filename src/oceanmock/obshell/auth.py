"""Authenticate and encrypt obshell's requests, for clients and for the server.

A client sends a JSON object in a header, encrypted with the server's public RSA key in blocks: a password, and the AES
key and IV of the body. The server decrypts both, and checks the header in the order of the real server. Decryption
raises ObshellError and nothing else; messages end in Go's own error texts.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent/lib/crypto/{rsa,aes}.go, ob/agent/secure/{header,body}.go,
ob/agent/secure/auth.go:46-87, ob/agent/api/common/middleware.go:396-660 and 724-814,
ob/agent/assets/i18n/error/en.json; obshell-sdk-python 0.0.9, auth/password.py:132-188. Recorded in
tests/data/obshell/{auth,password,lone}.json: SINGLE without an agent password, MASTER with OceanBase's and with both,
an obproxy dag. The rest is read in the code and not verified: SINGLE with an agent password, FOLLOWER, CLUSTER AGENT
and its sessions, tokens, forwarding.

A ts has no upper bound, and a header may be sent again; one without a password never expires. Not modelled:
POST /api/v1/agent/password (which requires other fields) and an RSA-encrypted password inside a header, which SINGLE
accepts too. Only this module imports ``cryptography``, on first use, since the import is slow.
"""

# ruff: noqa: PLC0415 (see above)

from __future__ import annotations

import base64
import json
import re
import secrets
import ssl
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from math import ceil, gcd, lcm, prod
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from urllib.parse import urlsplit

from oceanmock.api import Headers
from oceanmock.clock import SECOND, wall_now
from oceanmock.errors import EnvironmentProblem
from oceanmock.obshell.api import PREFIX
from oceanmock.obshell.errors import AUTH_FAILED, ObshellError, Stage, panic
from oceanmock.obshell.gojson import Unreadable, base64_bytes, base64_prefix, parse_int, read_struct
from oceanmock.outgoing import Outgoing, Signer, body_of, target_of, with_body

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

    from oceanmock.obshell.agent import Agent

RSA_BITS: Final = 1024
OLD_RSA_BITS: Final = 512
RSA_EXPONENT: Final = 65537
AES_BYTES: Final = 16  # the size of an AES key, an IV and a block
MAX_HEADER_BLOCKS: Final = 32
"""The most RSA blocks of a header. obshell's SDK sends one for every 53 bytes: three for a GET."""
DECRYPTION_ERROR: Final = "crypto/rsa: decryption error"

HeaderName = Literal["X-OCS-Header", "X-OCS-Agent-Header"]
ROOT_HEADER: Final = "X-OCS-Header"
AGENT_HEADER: Final = "X-OCS-Agent-Header"
SECURITY_HEADERS: Final[tuple[HeaderName, ...]] = (AGENT_HEADER, ROOT_HEADER)
"""The headers with credentials; the first one present counts (middleware.go:413-428)."""

FETCH_TIMEOUT_S: Final = 10.0
MAX_AGENT_BYTES: Final = 2**20  # of an agent's response, after decompression
OPEN_ROUTES: Final = ("info", "secret", "time", "git-info", "status")
"""Routes that need no authentication (agent_route.go:102-107)."""
OBPROXY_ROUTE: Final = re.compile(r"task/\w+/[45]")
"""Routes of obproxy's tasks, which require the agent's own password (task_dto.go)."""


def fetch_agent(url: str, *, verify: bool | str | ssl.SSLContext = True) -> Mapping[str, Any]:
    """Return the ``data`` of the JSON at a URL; ``verify`` is that of httpx and requests. Raises EnvironmentProblem."""
    try:
        parts = urlsplit(url)
        connect: Callable[..., HTTPConnection] = HTTPConnection
        if parts.scheme == "https":
            if isinstance(verify, ssl.SSLContext):
                context = verify
            else:
                context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
            if verify is False:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            connect = partial(HTTPSConnection, context=context)
        with closing(connect(parts.hostname or "", parts.port, timeout=FETCH_TIMEOUT_S)) as connection:
            connection.request("GET", parts.path)
            response = connection.getresponse()
            status, content = response.status, response.read()
            if response.headers.get("Content-Encoding", "").lower() == "gzip":  # though it was not accepted
                content = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(content, MAX_AGENT_BYTES)
    except (OSError, HTTPException, ValueError, zlib.error) as problem:
        raise EnvironmentProblem(f"{url} does not answer ({problem}).") from None
    data = None
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        data = json.loads(content)["data"]
    if not isinstance(data, dict):
        raise EnvironmentProblem(f"{url} answers {status}, and not as an obshell does.")
    return data


@dataclass(frozen=True, slots=True)
class Sealed(Signer):
    """Seal each request with OceanBase's root password or the agent's own.

        requests.post(f"{agent}/api/v1/task/dag/{id}", json={"operator": "RETRY"},
                      auth=Sealed("root's password"))

    If the agent's own password is given, it is used for tasks of obproxy, and if the agent has one, for all requests;
    else root's is used. The agent's key and state are read once, before the first request, by ``fetch`` (which blocks,
    in an async client too): it returns the ``data`` of the JSON at a URL. ``plain_body`` of a sealed request is its
    body before sealing. Each request expires after ``lifetime`` seconds; ``wall`` returns the time in nanoseconds.
    """

    password: str = field(default="", repr=False)
    agent_password: str | None = field(default=None, repr=False)
    lifetime: int = field(default=60, kw_only=True)
    verify: bool | str | ssl.SSLContext = field(default=True, kw_only=True)
    fetch: Callable[[str], Mapping[str, Any]] | None = field(default=None, kw_only=True, repr=False)
    wall: Callable[[], int] = field(default=wall_now, kw_only=True, repr=False)
    _cache: dict[str, Mapping[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, request: Outgoing) -> Outgoing:
        """Return the request sealed for its path, query and time, if that is required. Raises EnvironmentProblem."""
        outgoing: Any = request
        agent, slash, route = str(outgoing.url).partition(f"{PREFIX}/")
        if not slash or route.partition("?")[0] in OPEN_ROUTES:
            return request
        body, keys = body_of(outgoing), secrets.token_bytes(2 * AES_BYTES)
        if body:
            outgoing = with_body(outgoing, seal_body(body, keys))
        outgoing.plain_body = body
        name, password = ROOT_HEADER, self.password
        if self.agent_password is not None:  # as password.py:173-179
            is_obproxy = OBPROXY_ROUTE.match(route) is not None
            if is_obproxy or self._data_of(f"{agent}{PREFIX}/info").get("security") is True:
                name, password = AGENT_HEADER, self.agent_password
        ts = str(self.wall() // SECOND + self.lifetime)
        fields = {"auth": password, "ts": ts, "uri": target_of(outgoing), "keys": keys}
        for header in SECURITY_HEADERS:
            outgoing.headers.pop(header, None)
        outgoing.headers[name] = seal_header(self.public_key(agent), fields)
        return cast("Outgoing", outgoing)

    def public_key(self, agent: str) -> str:
        """Return the agent's key; ``agent`` is the URL before ``/api/v1``."""
        return str(self._data_of(f"{agent}{PREFIX}/secret").get("public_key", ""))

    def _data_of(self, url: str) -> Mapping[str, Any]:
        if url not in self._cache:
            fetch = self.fetch or partial(fetch_agent, verify=self.verify)
            self._cache[url] = fetch(url)
        return self._cache[url]


@dataclass(frozen=True, slots=True)
class Unsealed(Sealed):
    """Credentials for an agent that requires none: requests stay as they are."""

    def __call__(self, request: Outgoing) -> Outgoing:
        """Return the request as it is: the agent cannot read a sealed body."""
        return request


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A server's RSA key."""

    private: rsa.RSAPrivateKey
    public_key: str  # as in /api/v1/secret: standard base64 of a DER PKCS#1 RSAPublicKey (rsa.go:92-96)
    equivalent: rsa.RSAPrivateKey  # the key with another private exponent, by which wrong padding is detected


def make_private_key(bits: int = RSA_BITS) -> bytes:
    """Return a new private key in DER; this takes 10 ms or more."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    if bits == RSA_BITS:
        key = rsa.generate_private_key(RSA_EXPONENT, bits)
    else:  # cryptography makes no shorter key, but reads one, and checks its primes
        p, q = _make_prime(bits // 2), _make_prime(bits // 2)
        d, public = pow(RSA_EXPONENT, -1, (p - 1) * (q - 1)), rsa.RSAPublicNumbers(RSA_EXPONENT, p * q)
        key = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public).private_key()
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.DER, pkcs8, plain)


def _make_prime(bits: int) -> int:
    """Return a number with its highest two bits set that passes Fermat's primality test with base 2."""
    small_factors = prod(range(3, 1000, 2))  # five of six candidates have one; gcd is faster than the test
    while True:
        candidate = secrets.randbits(bits) | 3 << bits - 2 | 1
        if gcd(candidate, small_factors) > 1 or (candidate - 1) % RSA_EXPONENT == 0:
            continue
        if pow(2, candidate - 1, candidate) == 1:
            return candidate


def read_key(der: bytes) -> ServerKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = cast("rsa.RSAPrivateKey", serialization.load_der_private_key(der, None))
    der = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    numbers = private.private_numbers()
    period = lcm(numbers.p - 1, numbers.q - 1)  # exponents that differ by this are equivalent
    exponent = numbers.d + period if numbers.d < period else numbers.d - period
    others = (numbers.dmp1, numbers.dmq1, numbers.iqmp, numbers.public_numbers)
    equivalent = rsa.RSAPrivateNumbers(numbers.p, numbers.q, exponent, *others)
    equivalent_key = equivalent.private_key(unsafe_skip_rsa_key_validation=True)  # validation is slow
    return ServerKey(private, base64.b64encode(der).decode(), equivalent_key)


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a security header (header.go:38-49), empty if absent."""

    auth: str = ""
    ts: str = ""  # the second at which it expires, not parsed
    uri: str = ""
    keys: bytes = b""  # the AES key, followed by the IV
    session_id: str = ""
    forward_type: int = 0
    is_for_agent: bool = False  # by the name of the header


_TEXTS: Final = dict.fromkeys(("session_id", "Auth", "Ts", "Token", "ssotoken", "Uri", "Sha256"), "string")
_OTHERS: Final = {"Keys": "[]uint8", "ForwardType": "int", "ForwardAgent": "meta.AgentInfo"}
_STRUCTS: Final = {"secure.HttpHeader": _TEXTS | _OTHERS}
"""The Go type of each field by its JSON name; of fields that ``Header`` lacks only the type is checked."""


def open_header(key: ServerKey, text: str, name: HeaderName = "X-OCS-Header") -> Header:
    """Decrypt the value of a security header. Raises ObshellError."""
    try:
        if len(text) > 4 * ceil(MAX_HEADER_BLOCKS * key.private.key_size / 24):  # the real server has no such limit
            raise Unreadable(f"it has more than {MAX_HEADER_BLOCKS} RSA blocks, which is oceanmock's limit")
        fields = _read_blocks(key, base64_bytes(text.encode("utf-8", "surrogatepass")))
    except Unreadable as why:
        message = f"Decrypt http header failed: {why}"
        raise ObshellError(401, "Security.Authentication.Header.DecryptFailed", message, 1, stage="header") from None
    auth, ts, uri, session_id = (fields.get(it, "") for it in ("Auth", "Ts", "Uri", "session_id"))
    forward_type, is_for_agent = fields.get("ForwardType", 0), name == AGENT_HEADER
    return Header(auth, ts, uri, fields.get("Keys", b""), session_id, forward_type, is_for_agent)


def _read_blocks(key: ServerKey, sealed: bytes) -> dict[str, Any]:
    """Decrypt blocks of the modulus' length (the last may be shorter), and return the fields of their JSON.

    For a block with wrong padding OpenSSL returns random bytes ("implicit rejection", OpenSSL 3.2), while Go refuses
    it. Therefore the padding of blocks is checked if the text is no JSON, or if random bytes may be part of it.
    """
    size = key.private.key_size // 8
    blocks = [sealed[at : at + size] for at in range(0, len(sealed), size)]
    opened = [(block, _decrypt(key.private, block)) for block in blocks]
    # No client seals empty blocks. Both exponents decrypt one wrong block in 10,000 to an empty one.
    if len(opened) > 1 and not all(text for _, text in opened):
        raise Unreadable(DECRYPTION_ERROR)
    try:
        fields = read_struct(b"".join([text for _, text in opened]), "secure.HttpHeader", _STRUCTS)
    except Unreadable:
        _check_padding(key, opened)
        raise
    # Longer random bytes fit into JSON once in 200,000 blocks.
    _check_padding(key, [(block, text) for block, text in opened if len(text) < 8 or not text.isascii()])
    return fields


def _check_padding(key: ServerKey, opened: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise Unreadable if the padding of a block is wrong: the equivalent exponent then returns other random bytes."""
    for block, text in opened:
        if _decrypt(key.equivalent, block) != text:
            raise Unreadable(DECRYPTION_ERROR)


def _decrypt(key: rsa.RSAPrivateKey, block: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import padding

    try:
        return key.decrypt(block, padding.PKCS1v15())
    except ValueError:
        raise Unreadable(DECRYPTION_ERROR) from None


def open_body(body: bytes, keys: bytes) -> bytes:
    """Decrypt a body with the keys of its header. Raises ObshellError.

    As in the real server (aes.go:44-78), an empty body stays empty, text after an error in the base64 is dropped, and
    only the last byte of the padding is read, so a wrong key may return random bytes.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if not body:
        return b""
    key, iv = _split_keys(keys, "body")
    sealed, _ = base64_prefix(body)
    if len(sealed) % AES_BYTES:
        message = "Unauthorized: Decrypted string length is not a multiple of the block size"
        raise ObshellError(500, "Request.Body.Decrypt.AES.ContentLength.Invalid", message, stage="body")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    text = decryptor.update(sealed) + decryptor.finalize()
    if not text or text[-1] > len(text):  # Go panics
        raise panic("panic")
    return text[: len(text) - text[-1]]


def _split_keys(keys: bytes, stage: Stage) -> tuple[bytes, bytes]:
    """Return an AES key and the IV after it. Raises ObshellError; for a wrong IV Go panics."""
    is_body = stage == "body"
    if len(keys) < AES_BYTES:
        message = f"{'Unauthorized: ' if is_body else ''}AES key and IV size error"
        raise ObshellError(500, "Request.Body.Decrypt.AES.KeyAndIv.Invalid", message, stage=stage)
    if len(keys) != 2 * AES_BYTES:
        raise panic("panic" if is_body else "recovery")
    return keys[:AES_BYTES], keys[AES_BYTES:]


def seal_header(public_key: str, fields: Mapping[str, Any]) -> str:
    """Encrypt an object with the public key of /api/v1/secret; bytes become base64. Raises EnvironmentProblem."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = None
    with suppress(ValueError):
        key = serialization.load_der_public_key(base64.b64decode(public_key))
    if not isinstance(key, rsa.RSAPublicKey):
        raise EnvironmentProblem(f"{public_key[:40]!r} is no public key of an obshell: Base64 of an RSA key in DER.")
    text = json.dumps(fields, default=_base64).encode()
    size = key.key_size // 8 - 11  # the padding of PKCS#1 v1.5 has 11 bytes
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return _base64(b"".join(key.encrypt(piece, padding.PKCS1v15()) for piece in pieces))


def seal_body(body: bytes, keys: bytes) -> bytes:
    """Encrypt a body; ``keys`` is an AES key and the IV. An empty body stays empty. Raises ObshellError."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    if not body:
        return b""
    key, iv = _split_keys(keys, "handler")
    padder = PKCS7(8 * AES_BYTES).padder()
    whole = padder.update(body) + padder.finalize()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return _base64(encryptor.update(whole) + encryptor.finalize()).encode()


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def find_header(headers: Headers, names: Iterable[HeaderName] = SECURITY_HEADERS) -> tuple[HeaderName, str] | None:
    """Return the name and the value of the first security header present, or None."""
    for name in names:
        lower = name.lower().encode()
        text = next((value for key, value in headers if key.lower() == lower), b"").strip(b" \t")
        if text:
            return name, text.decode("latin-1")
    return None


def check_access(
    agent: Agent | None, header: Header | None, *, target: str, now_s: int, is_obproxy_task: bool = False
) -> None:
    """Raise ObshellError for a request without access.

    ``agent`` is None if the request needs no password, for example in a session. ``target`` is its path and query as
    sent, ``now_s`` the time in seconds since the epoch. ``is_obproxy_task`` is True if a task's id begins with 4 or 5
    (task_dto.go, IsObproxyTask).
    """
    if header is None:
        raise ObshellError(
            400, "Request.Header.NotFound", "X-OCS-Agent-Header or X-OCS-Header not found in http request header"
        )
    if header.uri != target:
        raise _error("Header.UriMismatch", "URI mismatch")
    if agent is not None and _needs_password(agent, header, is_obproxy_task=is_obproxy_task):
        name, password = ("Agent", agent.agent_password) if header.is_for_agent else ("OceanBase", agent.root_password)
        if header.auth:  # without a password ts is not read (secure/auth.go)
            _check_timestamp(header, now_s)
        if header.auth != (password or ""):
            raise _error(f"Incorrect{name.capitalize()}Password", f"Unauthorized: {name} password is incorrect")


def _needs_password(agent: Agent, header: Header, *, is_obproxy_task: bool) -> bool:
    """Return whether the header must have its password. Raises ObshellError if the other header is required."""
    root, own = agent.root_password, agent.agent_password
    if is_obproxy_task:
        if not header.is_for_agent:
            raise _with_agent_password("this route only support agent password")
        if own is None:
            raise _error("AgentPasswordNotInitialized", "Unauthorized: Agent password is not initialized")
    elif agent.identity == "SINGLE":  # open until the agent has its own password
        if own is not None and not header.is_for_agent:
            raise _with_agent_password("agent password has been set")
        return own is not None
    # A master checks the token of a request that a follower forwards (type 2); here no token is valid.
    elif agent.identity in ("FOLLOWER", "MASTER") and header.forward_type == 2:
        raise _error("IncorrectToken", "Unauthorized: Incorrect token")
    # A follower forwards to the master, which is taken to have the same passwords.
    elif agent.identity == "FOLLOWER" and header.is_for_agent:
        why = "Header not found when auto-forwarding request to master"
        raise ObshellError(500, "Request.Forward.Header.NotExist", why)
    elif header.is_for_agent and own is None:  # its password is not set: use the other header
        if root is not None:
            why = "Should use oceanbase_password to verify: agent password is not initialized"
            raise _error("WithOceanBasePassword", f"Unauthorized: {why}")
        return False
    elif not header.is_for_agent and root is None and own is not None:
        raise _with_agent_password("oceanbase password is not initialized")
    return True


def check_session(header: Header, end_s: int, *, now_s: int) -> None:
    """Raise ObshellError if a session has ended; ``end_s`` is 0 for an unknown one (middleware.go:646-657)."""
    try:
        _check_timestamp(header, now_s)
    except ObshellError:
        raise _error("Expired", "Authentication expired") from None
    if now_s > end_s:
        word = "expired" if end_s else "invalid"
        raise _error(f"Session{word.capitalize()}", f"Session is {word}")


def _check_timestamp(header: Header, now_s: int) -> None:
    """Raise ObshellError if ``ts`` has passed by a second or more; it has no upper bound."""
    try:
        expires_s = parse_int(header.ts)
    except Unreadable as why:
        message = f"Unauthorized: Invalid timestamp: {header.ts}, err: {why}"
        raise _error("Timestamp.Invalid", message) from None
    if now_s > expires_s:
        raise _error("Expired", "Unauthorized: Authentication expired")


def _with_agent_password(why: str) -> ObshellError:
    return _error("WithAgentPassword", f"Unauthorized: Should use agent_password to verify: {why}")


def _error(tail: str, message: str) -> ObshellError:
    return ObshellError(401, f"Security.Authentication.{tail}", message, AUTH_FAILED)
