"""Authenticate obshell's requests, on the client's side and on the server's.

``Sealed`` seals a request of httpx or requests: a password in an encrypted header, with the keys of
the encrypted body. ``access_error`` checks an opened header, in the server's order.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent/api/common/middleware.go:500-660 and
724-814, ob/agent/secure/auth.go:46-87, ob/agent/assets/i18n/error/en.json; obshell-sdk-python
0.0.9, auth/password.py:132-188. Recorded in tests/data/obshell/{auth,password,lone}.json: SINGLE
without an agent password, MASTER with OceanBase's and with both, an obproxy dag. The rest is read
in the code and not verified: SINGLE with an agent password, FOLLOWER, CLUSTER AGENT and its
sessions, tokens, forwarding.

A ts has no upper bound, and a header may be used again; with no password in it, it never expires.
Not modelled: POST /api/v1/agent/password (which requires other fields) and an RSA-encrypted
password inside a header, which SINGLE accepts too.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from oceanmock.api import Headers
from oceanmock.clock import SECOND, wall_now
from oceanmock.errors import EnvironmentProblem
from oceanmock.obshell.api import PREFIX
from oceanmock.obshell.crypto import Header, new_keys, seal_body, seal_header
from oceanmock.obshell.errors import AUTH_FAILED, ObshellError
from oceanmock.obshell.gojson import Unreadable, parse_int
from oceanmock.outgoing import body_of, target_of, with_body

if TYPE_CHECKING:
    from oceanmock.obshell.api import Identity

MANUAL_FORWARD: Final = 2

HeaderName = Literal["X-OCS-Header", "X-OCS-Agent-Header"]
ROOT_HEADER: Final = "X-OCS-Header"
AGENT_HEADER: Final = "X-OCS-Agent-Header"
SECURITY_HEADERS: Final[tuple[HeaderName, ...]] = (AGENT_HEADER, ROOT_HEADER)
"""The headers with credentials; the first that is present decides (middleware.go:413-428)."""

LIFETIME_SECONDS: Final = 60
FETCH_TIMEOUT_S: Final = 10.0
OPEN_ROUTES: Final = frozenset({"info", "secret", "time", "git-info", "status"})
"""Routes that need no authentication (agent_route.go:102-107)."""
OBPROXY_ROUTE: Final = re.compile(r"task/\w+/[45]")
"""Routes of obproxy's tasks, which only the agent's own password opens (task_dto.go)."""

Outgoing = TypeVar("Outgoing")
"""A request of httpx or a prepared one of requests."""


# --- the client's side ----------------------------------------------------------------------------

Fetch = Callable[[str], Mapping[str, Any]]
"""Returns the ``data`` of a URL's JSON."""


@dataclass(frozen=True, slots=True)
class AgentFetch:
    """Read an agent over a socket, with the standard library alone.

    ``verify`` is as in httpx and requests: False, True or the path of trusted certificates.
    """

    verify: bool | str = True

    def __call__(self, url: str) -> Mapping[str, Any]:
        """Return the ``data`` of the URL's JSON. Raises EnvironmentProblem."""
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
        connection = HTTPConnection(*address, timeout=FETCH_TIMEOUT_S)
        if parts.scheme == "https":
            cafile = self.verify if isinstance(self.verify, str) else None
            context = ssl.create_default_context(cafile=cafile)
            if self.verify is False:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            connection = HTTPSConnection(*address, timeout=FETCH_TIMEOUT_S, context=context)
        try:
            connection.request("GET", parts.path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class Sealed:
    """Seal each request with OceanBase's root password or the agent's own.

        requests.post(f"{agent}/api/v1/task/dag/{id}", json={"operator": "RETRY"},
                      auth=Sealed("root's password"))

    The agent's password is sent if it is given and the agent has one, and for tasks of obproxy;
    else root's. The agent's key and state are read once, before the first request, with ``fetch``
    (blocking, for an async client too). ``plain_body`` of a sealed request is the body before it
    was sealed. ``wall`` is the clock of ``lifetime``, in nanoseconds.
    """

    password: str = field(default="", repr=False)
    agent_password: str | None = field(default=None, repr=False)
    lifetime: int = field(default=LIFETIME_SECONDS, kw_only=True)
    verify: bool | str = field(default=True, kw_only=True)
    fetch: Fetch | None = field(default=None, kw_only=True, repr=False)
    wall: Callable[[], int] = field(default=wall_now, kw_only=True, repr=False)
    _cache: dict[str, Mapping[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, request: Outgoing) -> Outgoing:
        """Return the request sealed, or unchanged where none is required.

        The header is valid for this path, query and time. Raises EnvironmentProblem.
        """
        outgoing: Any = request
        agent, slash, route = str(outgoing.url).partition(f"{PREFIX}/")
        if not slash or route.partition("?")[0] in OPEN_ROUTES:
            return request
        body, keys = body_of(outgoing), new_keys()
        if body:
            outgoing = with_body(outgoing, seal_body(body, keys))
        outgoing.plain_body = body
        name, password = self._choose(agent, route)
        fields = {
            "auth": password,
            "ts": str(self.wall() // SECOND + self.lifetime),
            "uri": target_of(outgoing),
            "keys": keys,
        }
        for header in SECURITY_HEADERS:
            outgoing.headers.pop(header, None)
        outgoing.headers[name] = seal_header(self.public_key(agent), fields)
        sealed: Outgoing = outgoing
        return sealed

    def public_key(self, agent: str) -> str:
        """Return the agent's key; ``agent`` is the URL before ``/api/v1``."""
        return str(self._data_of(f"{agent}{PREFIX}/secret").get("public_key", ""))

    def _choose(self, agent: str, route: str) -> tuple[str, str]:
        """Return the header and its password (password.py:173-179)."""
        if self.agent_password is not None:
            has_one = OBPROXY_ROUTE.match(route) is not None
            if has_one or self._data_of(f"{agent}{PREFIX}/info").get("security") is True:
                return AGENT_HEADER, self.agent_password
        return ROOT_HEADER, self.password

    def _data_of(self, url: str) -> Mapping[str, Any]:
        if url not in self._cache:
            fetch = self.fetch or AgentFetch(self.verify)
            self._cache[url] = fetch(url)
        return self._cache[url]


@dataclass(frozen=True, slots=True)
class Unsealed(Sealed):
    """Credentials for an agent that does not authenticate: requests stay as they are."""

    def __call__(self, request: Outgoing) -> Outgoing:
        """Return the request as it is: the agent could not read a sealed body."""
        return request


# --- the server's side ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AgentSecurity:
    """An agent's identity and passwords; None is a password that was never set.

    ``root_password`` is that of OceanBase's root@sys, ``token`` the one its master gave it.
    """

    identity: Identity = "SINGLE"
    root_password: str | None = None
    agent_password: str | None = None
    token: str = ""


@dataclass(frozen=True, slots=True)
class OpenedHeader:
    """The decrypted security header of a request, and its name."""

    name: HeaderName
    header: Header

    @property
    def is_for_agent(self) -> bool:
        """Return True for the header that holds the agent's own password."""
        return self.name == AGENT_HEADER


def find_header(headers: Headers) -> tuple[HeaderName, str] | None:
    """Return the deciding security header and its sealed text; None without one."""
    for name in SECURITY_HEADERS:
        lower = name.lower().encode()
        text = next((value for key, value in headers if key.lower() == lower), b"").strip(b" \t")
        if text:
            return name, text.decode("latin-1")
    return None


def access_error(
    agent: AgentSecurity, opened: OpenedHeader | None, *, target: str, now_s: int, is_obproxy_task: bool = False
) -> ObshellError | None:
    """Return the error of a request that may not pass, else None.

    ``target`` is the request's path and query as sent, ``now_s`` the second since the epoch at
    which it came. ``is_obproxy_task`` is True for a task's route with an id that begins with 4 or 5
    (task_dto.go, IsObproxyTask).
    """
    if opened is None:
        return ObshellError(
            400, "Request.Header.NotFound", "X-OCS-Agent-Header or X-OCS-Header not found in http request header"
        )
    if opened.header.uri != target:
        return _error("Header.UriMismatch", "URI mismatch")
    if opened.header.session_id and agent.identity == "CLUSTER AGENT":
        return _session(opened.header, now_s)
    if is_obproxy_task:
        return _obproxy_task(agent, opened, now_s)
    return _by_identity(agent, opened, now_s)


def _session(header: Header, now_s: int) -> ObshellError:
    """Refuse a session: none exists. A bad or expired ts is printed as Go formats it."""
    if _timestamp(header, now_s) is None:
        return _error("Session.Invalid", "Session is invalid")
    message = f"Invalid timestamp: {header.ts}, err: %!s(int64={now_s})"
    return _error("Timestamp.Invalid", message)


def _obproxy_task(agent: AgentSecurity, opened: OpenedHeader, now_s: int) -> ObshellError | None:
    if not opened.is_for_agent:
        return _with_agent_password("this route only support agent password")
    if agent.agent_password is None:
        return _unauthorized("AgentPasswordNotInitialized", "Agent password is not initialized")
    return _agent_password(agent, opened.header, now_s)


def _by_identity(agent: AgentSecurity, opened: OpenedHeader, now_s: int) -> ObshellError | None:
    header, has_own = opened.header, agent.agent_password is not None
    match agent.identity:
        case "SINGLE" | "FOLLOWER" if header.token != "" and header.token == agent.token:
            return None
        case "SINGLE" if has_own and not opened.is_for_agent:
            return _with_agent_password("agent password has been set")
        case "SINGLE":  # requires nothing until the agent has a password of its own
            return _agent_password(agent, header, now_s) if has_own else None
        # A master refuses what a follower forwards by its token; this one has no followers.
        case "FOLLOWER" | "MASTER" if header.forward_type == MANUAL_FORWARD:
            return _unauthorized("IncorrectToken", "Incorrect token")
        case "FOLLOWER" if opened.is_for_agent:
            message = "Header not found when auto-forwarding request to master"
            return ObshellError(500, "Request.Forward.Header.NotExist", message)
        case _:  # a follower forwards to the master, which is assumed to have the same passwords
            return _by_password(agent, opened, now_s)


def _by_password(agent: AgentSecurity, opened: OpenedHeader, now_s: int) -> ObshellError | None:
    """Compare each header with its own password; one never set refers to the other."""
    if opened.is_for_agent:
        if agent.agent_password is not None:
            return _agent_password(agent, opened.header, now_s)
        if agent.root_password is None:
            return None
        why = "Should use oceanbase_password to verify: agent password is not initialized"
        return _unauthorized("WithOceanBasePassword", why)
    if agent.root_password is None and agent.agent_password is not None:
        return _with_agent_password("oceanbase password is not initialized")
    return _check_password(opened.header, agent.root_password or "", now_s, name="OceanBase")


def _agent_password(agent: AgentSecurity, header: Header, now_s: int) -> ObshellError | None:
    return _check_password(header, agent.agent_password, now_s, name="Agent")


def _check_password(header: Header, password: str | None, now_s: int, *, name: str) -> ObshellError | None:
    """Compare a password, and the ts of one that is sent (secure/auth.go)."""
    expired = _timestamp(header, now_s) if header.auth else None
    if expired is None and header.auth != password:
        tail = f"Incorrect{name.capitalize()}Password"
        return _unauthorized(tail, f"{name} password is incorrect")
    return expired


def _timestamp(header: Header, now_s: int) -> ObshellError | None:
    """Return an error from one second after ``ts`` on; it has no upper bound."""
    try:
        expires_s = parse_int(header.ts)
    except Unreadable as why:
        return _unauthorized("Timestamp.Invalid", f"Invalid timestamp: {header.ts}, err: {why}")
    return _unauthorized("Expired", "Authentication expired") if now_s > expires_s else None


def _with_agent_password(why: str) -> ObshellError:
    return _unauthorized("WithAgentPassword", f"Should use agent_password to verify: {why}")


def _unauthorized(tail: str, why: str) -> ObshellError:
    return _error(tail, f"Unauthorized: {why}")


def _error(tail: str, message: str) -> ObshellError:
    return ObshellError(401, f"Security.Authentication.{tail}", message, AUTH_FAILED)
