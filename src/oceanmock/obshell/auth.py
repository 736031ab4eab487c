"""Who may pass an obshell agent: the server's checks of an opened header, in the server's order.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent/api/common/middleware.go:500-660 and
724-814, ob/agent/secure/auth.go:46-87, ob/agent/assets/i18n/error/en.json. Recorded in
tests/data/obshell/{auth,password,lone}.json: SINGLE without an agent password, MASTER with
OceanBase's and with both, an obproxy dag. All else is read in the code and not verified: SINGLE
with an agent password, FOLLOWER, CLUSTER AGENT and its sessions, tokens, forwarding.

A ts has no upper bound, and a header may be used again; with no password in it, it never expires.
Not modelled: POST /api/v1/agent/password (which asks for other things) and an RSA-sealed password
inside a header, which SINGLE takes too. Messages are English.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from oceanmock.api import Headers
from oceanmock.obshell.crypto import Header, SecurityRefusal
from oceanmock.obshell.gojson import Unreadable, parse_int
from oceanmock.obshell.scenario import Identity

AUTH_FAILED: Final = 10008
MANUAL_FORWARD: Final = 2

HeaderName = Literal["X-OCS-Header", "X-OCS-Agent-Header"]
HEADERS: Final[tuple[HeaderName, ...]] = ("X-OCS-Agent-Header", "X-OCS-Header")
"""Where credentials are looked for, in the order in which they decide (middleware.go:413-428)."""


@dataclass(frozen=True, slots=True)
class Agent:
    """What an agent is and what it asks for; a password that is None was never set.

    ``root_password`` is that of OceanBase's root@sys, ``token`` the one its master gave it.
    """

    identity: Identity = "SINGLE"
    root_password: str | None = None
    agent_password: str | None = None
    token: str = ""


@dataclass(frozen=True, slots=True)
class Offered:
    """The credentials of a request: what a security header said, and which header it was."""

    name: HeaderName
    header: Header

    @property
    def is_for_agent(self) -> bool:
        """Whether it is the agent's own password that is offered."""
        return self.name == "X-OCS-Agent-Header"


def chosen_header(headers: Headers) -> tuple[HeaderName, str] | None:
    """The security header that decides, and its sealed text; None when there is none or empty."""
    for name in HEADERS:
        wanted = name.lower().encode()
        text = next((value for key, value in headers if key.lower() == wanted), b"").strip(b" \t")
        if text:
            return name, text.decode("latin-1")
    return None


def refusal_of(
    agent: Agent,
    offered: Offered | None,
    *,
    target: str,
    now_s: int,
    is_obproxy_task: bool = False,
) -> SecurityRefusal | None:
    """Why a request may not pass; None when it may.

    ``target`` is the request's path and query as they were sent, ``now_s`` the second since the
    epoch at which it came, ``is_obproxy_task`` says that its route is a task's and the id in its
    path begins with 4 or 5 (task_dto.go, IsObproxyTask).
    """
    if offered is None:
        return SecurityRefusal(
            "verify",
            "Request.Header.NotFound",
            status=400,
            message="X-OCS-Agent-Header or X-OCS-Header not found in http request header",
        )
    if offered.header.uri != target:
        return _refusal("Header.UriMismatch", "URI mismatch")
    if offered.header.session_id and agent.identity == "CLUSTER AGENT":
        return _session(offered.header, now_s)
    if is_obproxy_task:
        return _obproxy_task(agent, offered, now_s)
    return _CHECKS.get(agent.identity, _by_password)(agent, offered, now_s)


# --- one check for each identity, and one for obproxy's tasks -------------------------------------


def _single(agent: Agent, offered: Offered, now_s: int) -> SecurityRefusal | None:
    """Nothing is asked until the agent has a password of its own."""
    if _has_token(agent, offered.header) or agent.agent_password is None:
        return None
    if not offered.is_for_agent:
        return _with_agent_password("agent password has been set")
    return _agent_password(agent, offered.header, now_s)


def _follower(agent: Agent, offered: Offered, now_s: int) -> SecurityRefusal | None:
    """A follower forwards to its master, which is taken to have the same passwords."""
    if _has_token(agent, offered.header):
        return None
    if offered.header.forward_type == MANUAL_FORWARD:
        return _incorrect_token()
    if offered.is_for_agent:
        return SecurityRefusal(
            "verify",
            "Request.Forward.Header.NotExist",
            status=500,
            message="Header not found when auto-forwarding request to master",
        )
    return _by_password(agent, offered, now_s)


def _master(agent: Agent, offered: Offered, now_s: int) -> SecurityRefusal | None:
    """A master takes what a follower forwards by its token; this one has no followers."""
    if offered.header.forward_type == MANUAL_FORWARD:
        return _incorrect_token()
    return _by_password(agent, offered, now_s)


def _by_password(agent: Agent, offered: Offered, now_s: int) -> SecurityRefusal | None:
    """Each header against its own password, and one that was never set refers to the other."""
    if not offered.is_for_agent:
        if agent.root_password is None and agent.agent_password is not None:
            return _with_agent_password("oceanbase password is not initialized")
        return _root_password(agent, offered.header, now_s)
    if agent.agent_password is not None:
        return _agent_password(agent, offered.header, now_s)
    if agent.root_password is None:
        return None
    return _unauthorized(
        "WithOceanBasePassword",
        "Should use oceanbase_password to verify: agent password is not initialized",
    )


_CHECKS: Final[Mapping[str, Callable[[Agent, Offered, int], SecurityRefusal | None]]] = {
    "SINGLE": _single,
    "FOLLOWER": _follower,
    "MASTER": _master,
}
"""Every other identity is asked for its passwords."""


def _obproxy_task(agent: Agent, offered: Offered, now_s: int) -> SecurityRefusal | None:
    if not offered.is_for_agent:
        return _with_agent_password("this route only support agent password")
    if agent.agent_password is None:
        return _unauthorized("AgentPasswordNotInitialized", "Agent password is not initialized")
    return _agent_password(agent, offered.header, now_s)


def _session(header: Header, now_s: int) -> SecurityRefusal:
    """Nobody has logged on; a ts that is no number, or past, is told as Go prints the two."""
    if _timestamp(header, now_s) is not None:
        return _refusal(
            "Timestamp.Invalid", f"Invalid timestamp: {header.ts}, err: %!s(int64={now_s})"
        )
    return _refusal("Session.Invalid", "Session is invalid")


# --- what is compared (secure/auth.go) ------------------------------------------------------------


def _has_token(agent: Agent, header: Header) -> bool:
    return header.token != "" and header.token == agent.token


def _agent_password(agent: Agent, header: Header, now_s: int) -> SecurityRefusal | None:
    expired = _timestamp(header, now_s) if header.auth else None
    if expired is None and header.auth != agent.agent_password:
        return _unauthorized("IncorrectAgentPassword", "Agent password is incorrect")
    return expired


def _root_password(agent: Agent, header: Header, now_s: int) -> SecurityRefusal | None:
    expired = _timestamp(header, now_s) if header.auth else None
    if expired is None and header.auth != (agent.root_password or ""):
        return _unauthorized("IncorrectOceanbasePassword", "OceanBase password is incorrect")
    return expired


def _timestamp(header: Header, now_s: int) -> SecurityRefusal | None:
    """Expired a second after ``ts``; before that, however far ahead it lies, it holds."""
    try:
        expires_s = parse_int(header.ts)
    except Unreadable as why:
        return _unauthorized("Timestamp.Invalid", f"Invalid timestamp: {header.ts}, err: {why}")
    return _unauthorized("Expired", "Authentication expired") if now_s > expires_s else None


# --- how it is told -------------------------------------------------------------------------------


def _with_agent_password(why: str) -> SecurityRefusal:
    return _unauthorized("WithAgentPassword", f"Should use agent_password to verify: {why}")


def _incorrect_token() -> SecurityRefusal:
    return _unauthorized("IncorrectToken", "Incorrect token")


def _unauthorized(tail: str, why: str) -> SecurityRefusal:
    return _refusal(tail, f"Unauthorized: {why}")


def _refusal(tail: str, message: str) -> SecurityRefusal:
    return SecurityRefusal(
        "verify",
        f"Security.Authentication.{tail}",
        status=401,
        code=AUTH_FAILED,
        message=message,
    )
