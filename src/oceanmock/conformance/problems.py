"""Why no answer came: what requests and the libraries below it raise, in one plain sentence.

Their messages name objects and repeat each other; what a user can act on is one of a few kinds. The
kind is told by the innermost error, wherever the libraries have put it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
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
    """What kept an answer from coming, and a few words that say so."""

    kind: Kind
    text: str


def problem_of(error: BaseException) -> Problem:
    """What an error means to somebody who looks at the network, not at the code."""
    for each in _chain(error):
        found = _known(each)
        if found is not None:
            return found
    return Problem("other", str(error) or type(error).__name__)


def _known(error: BaseException) -> Problem | None:
    if isinstance(error, ssl.SSLError):
        return _of_tls(error)
    for kinds, problem in _PLAIN:
        if isinstance(error, kinds):
            return problem
    if isinstance(error, OSError) and error.errno:
        return Problem("other", (error.strerror or str(error)).lower())
    return None


_PLAIN: Final[Sequence[tuple[tuple[type[BaseException], ...], Problem]]] = (
    ((socket.gaierror,), Problem("no such host", "no such host")),
    ((ConnectionRefusedError,), Problem("refused", "connection refused")),
    ((TimeoutError, urllib3.exceptions.TimeoutError), Problem("timeout", "no answer in time")),
    ((ConnectionResetError, BrokenPipeError), Problem("cut", "cut off before an answer")),
    ((urllib3.exceptions.DecodeError,), Problem("other", "not encoded as it says")),
    ((IncompleteRead,), Problem("cut", "cut off amid an answer")),
    ((InvalidHeader,), Problem("not sendable", "a header of it cannot be written")),
    ((HTTPException,), Problem("no HTTP there", "what came is no HTTP")),
)
"""The first that an error is decides."""
_OF_NO_TLS: Final = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}


def _of_tls(error: ssl.SSLError) -> Problem:
    if isinstance(error, ssl.SSLCertVerificationError):
        kind: Kind = "other name" if _is_of_names(error) else "certificate"
        return Problem(kind, error.verify_message)
    reason = error.reason or str(error)
    is_plain = reason in _OF_NO_TLS
    return Problem("no TLS there" if is_plain else "TLS", reason.replace("_", " ").lower())


def _is_of_names(error: ssl.SSLCertVerificationError) -> bool:
    """Whether the certificate is trusted, and another host's (X509_V_ERR_HOSTNAME_MISMATCH, IP)."""
    return error.verify_code in {62, 64}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised for, the innermost first."""
    waiting, seen = [error], list[BaseException]()
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.append(each)
        inner = [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        waiting += [one for one in inner if isinstance(one, BaseException)]
    return reversed(seen)
