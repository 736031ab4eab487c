"""Explain in one plain sentence why a request had no response.

The messages of requests and the libraries below it name objects and repeat each other. The
innermost error decides.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from typing import Final, Literal

import urllib3.exceptions
from requests.exceptions import InvalidHeader

Kind = Literal[
    "no such host",
    "refused",
    "timeout",
    "cut",
    "no HTTP there",
    "certificate",
    "other name",
    "no TLS there",
    "TLS",
    "starting",
    "not sendable",
    "other",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """The kind of a problem, and a few words for it."""

    kind: Kind
    text: str


_PROBLEMS: Final[tuple[tuple[type[BaseException], Problem], ...]] = (
    (socket.gaierror, Problem("no such host", "no such host")),
    (ConnectionRefusedError, Problem("refused", "connection refused")),
    (TimeoutError, Problem("timeout", "no response in time")),
    (urllib3.exceptions.TimeoutError, Problem("timeout", "no response in time")),
    (ConnectionResetError, Problem("cut", "cut off before a response")),
    (BrokenPipeError, Problem("cut", "cut off before a response")),
    (urllib3.exceptions.DecodeError, Problem("other", "not encoded as it states")),
    (IncompleteRead, Problem("cut", "cut off within a response")),
    (InvalidHeader, Problem("not sendable", "a header of it cannot be written")),
    (HTTPException, Problem("no HTTP there", "the response is not HTTP")),
)
"""The first type that matches decides."""
_PLAIN_TEXT_REASONS: Final = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}
_MISMATCHES: Final = {62, 64}
"""X509_V_ERR_HOSTNAME_MISMATCH and …_IP_ADDRESS_MISMATCH."""


def problem_of(error: BaseException) -> Problem:
    """Return the problem behind an error."""
    for item in _chain(error):
        if isinstance(item, ssl.SSLError):
            return _tls_problem(item)
        for kind, problem in _PROBLEMS:
            if isinstance(item, kind):
                return problem
        if isinstance(item, OSError) and item.errno:
            return Problem("other", (item.strerror or str(item)).lower())
    return Problem("other", str(error) or type(error).__name__)


def _tls_problem(error: ssl.SSLError) -> Problem:
    if isinstance(error, ssl.SSLCertVerificationError):
        is_other = error.verify_code in _MISMATCHES
        return Problem("other name" if is_other else "certificate", error.verify_message)
    reason = error.reason or str(error)
    is_plain = reason in _PLAIN_TEXT_REASONS
    return Problem("no TLS there" if is_plain else "TLS", reason.replace("_", " ").lower())


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Return an error and its causes, wherever the libraries put them, the innermost first."""
    waiting, visited = [error], list[BaseException]()
    while waiting:
        current = waiting.pop()
        if current not in visited:
            visited.append(current)
            causes = [
                current.__cause__,
                current.__context__,
                getattr(current, "reason", None),
                *current.args,
            ]
            waiting += [item for item in causes if isinstance(item, BaseException)]
    return reversed(visited)
