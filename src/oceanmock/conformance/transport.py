"""Read a response whole: until a deadline, in UTF-8; or say why there is none.

A timeout of a socket is for each read alone, so a server that sends byte by byte never reaches it. Here the time that
one read may take is that of the whole response.
"""

from __future__ import annotations

import io
import json
import re
import socket
import ssl
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead
from itertools import accumulate
from typing import Any, Final

import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidHeader

from oceanmock.clock import SECOND, stopwatch

MAX_DEPTH: Final = 100
"""The levels of nesting of a response; every library that reads one is recursive."""
STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
NO_BRACKETS: Final = bytes({*range(256)} - {*b"[]{}"})
CHARSET: Final = re.compile(
    r"charset=\"?((?:big5|cp|euc|gb|iso|latin|shift|us|utf|windows)[a-z0-9_:-]*)", re.IGNORECASE
)
"""The charset in a Content-Type, if it is one in which texts are sent."""


class _BoundedReader(io.RawIOBase):
    """The bytes of a response, which has to be complete within the time that its socket may take to read some."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw, self._sock, self.is_at_end = raw, sock, False
        self._until = stopwatch() + round((sock.gettimeout() or 0) * SECOND)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read some bytes. Raises TimeoutError after the deadline."""
        remaining = self._until - stopwatch()
        if remaining <= 0:
            raise TimeoutError
        self._sock.settimeout(remaining / SECOND)
        size = self._raw.readinto(buffer)
        self.is_at_end = size == 0
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(HTTPResponse):
    """A response that is given up at a deadline, even if its server sends it byte by byte."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        fp: Any = self.fp
        self._reader = _BoundedReader(fp.detach(), sock)
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        """Read the headers. Raises IncompleteRead if they do not end; http.client takes them as complete."""
        super().begin()
        if self._reader.is_at_end:
            raise IncompleteRead(b"")


class BoundedAdapter(HTTPAdapter):
    """An adapter whose responses are bounded."""

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """Return the pool of connections for a request."""
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = type("Bounded", (type(pool).ConnectionCls,), {"response_class": _BoundedResponse})
        return pool


def as_utf8(content: bytes, media_type: str) -> bytes:
    """Return a text in UTF-8 without a byte order mark; as it is, if it does not have its charset."""
    stated = CHARSET.search(media_type)
    encoding = json.detect_encoding(content)
    try:
        return content.decode((stated[1] if stated else encoding) if encoding == "utf-8" else encoding).encode()
    except (LookupError, ValueError):
        return content


def depth(content: bytes) -> int:
    """Return how deep the brackets outside a text's strings are nested, at least."""
    if content.count(b"[") + content.count(b"{") <= MAX_DEPTH:
        return 0
    brackets = STRING.sub(b"", content).translate(None, NO_BRACKETS)
    return max(accumulate(1 if bracket in b"[{" else -1 for bracket in brackets), default=0)


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason why a request had no response: its kind, and a few words."""

    kind: str
    text: str


CUT: Final = Problem("cut", "cut off before a response")
_PROBLEMS: Final[tuple[tuple[type[BaseException], Problem], ...]] = (
    (socket.gaierror, Problem("no such host", "no such host")),
    (ConnectionRefusedError, Problem("refused", "connection refused")),
    (TimeoutError, Problem("timeout", "no response in time")),
    (urllib3.exceptions.TimeoutError, Problem("timeout", "no response in time")),
    (ConnectionResetError, CUT),
    (BrokenPipeError, CUT),
    (urllib3.exceptions.DecodeError, Problem("other", "not encoded as it states")),
    (IncompleteRead, Problem("cut", "cut off within a response")),
    (InvalidHeader, Problem("not sendable", "a header of it cannot be written")),
    (HTTPException, Problem("no HTTP there", "the response is not HTTP")),
)
"""The first type that matches decides."""


def problem_of(error: BaseException) -> Problem:
    """Return the problem behind an error; the innermost cause that is known decides."""
    errors, waiting = list[BaseException](), [error]
    while waiting:
        current = waiting.pop()
        if current not in errors:
            errors.append(current)
            # the libraries put causes in several places
            causes = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
            waiting += [item for item in causes if isinstance(item, BaseException)]
    for item in reversed(errors):
        if isinstance(item, ssl.SSLCertVerificationError):
            # 62 and 64 are X509_V_ERR_HOSTNAME_MISMATCH and …_IP_ADDRESS_MISMATCH
            return Problem("other name" if item.verify_code in {62, 64} else "certificate", item.verify_message)
        if isinstance(item, ssl.SSLError):
            reason = item.reason or str(item)
            is_plain = reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}
            return Problem("no TLS there" if is_plain else "TLS", reason.replace("_", " ").lower())
        for kind, problem in _PROBLEMS:
            if isinstance(item, kind):
                return problem
        if isinstance(item, OSError) and item.errno:
            return Problem("other", (item.strerror or str(item)).lower())
    return Problem("other", str(error) or type(error).__name__)
