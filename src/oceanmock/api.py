"""Define what the pipeline and an API exchange: requests, responses, errors and the API record.

Nothing here knows connexion, a wire format or one API: each API writes an ``ApiError`` in its own
envelope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from oceanmock.engine.faults import InjectedFault
from oceanmock.engine.sandbox import Sandbox
from oceanmock.openapi import Operation, Spec

Headers = Sequence[tuple[bytes, bytes]]

JSON: Final = b"application/json"

ErrorKind = Literal[
    "bad credentials",
    "body too large",
    "broken response",
    "fault",
    "forbidden",
    "malformed body",
    "unknown path",
    "unsupported media type",
    "wrong method",
    "wrong request",
    "wrong type",
    "wrong value",
    "unauthenticated",
]

STATUS_BY_KIND: Final[Mapping[ErrorKind, int]] = {
    "malformed body": 400,
    "wrong request": 400,
    "wrong type": 400,
    "wrong value": 400,
    "bad credentials": 401,
    "unauthenticated": 401,
    "forbidden": 403,
    "unknown path": 404,
    "wrong method": 405,
    "body too large": 413,
    "unsupported media type": 415,
    "broken response": 500,
}


class ApiError(Exception):
    """A refused request: ``kind`` decides the status, ``detail`` is one sentence for a developer.

    ``parameter``, ``value`` and ``expected_type`` (the type or its format, such as "int64") are
    given for a wrong type or value, ``status`` for an injected fault.
    """

    def __init__(
        self,
        kind: ErrorKind,
        detail: str,
        *,
        parameter: str = "",
        value: str = "",
        expected_type: str = "",
        status: int = 500,
        headers: Headers = (),
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.parameter = parameter
        self.value = value
        self.expected_type = expected_type
        self.status = status
        self.headers = headers

    @property
    def status_code(self) -> int:
        """The HTTP status; connexion looks for this name (security.py, _raise_most_specific)."""
        return STATUS_BY_KIND.get(self.kind, self.status)


@dataclass(slots=True)
class Request:
    """One request; each stage of the pipeline fills in what it has validated.

    ``path`` is the API's own, ``raw_path`` the path as sent. ``received_at`` is an instant of the
    sandbox's clock. ``client`` is the peer's address and port, None if unknown. ``caller`` is the
    authenticated user, ``error`` one sentence on why the request was refused, ``fault`` the
    injected fault.
    """

    api: Service
    sandbox: Sandbox
    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers
    received_at: int
    body: bytes = b""
    client: tuple[str, int] | None = None
    scheme: str = "http"
    credentials: Any = None
    caller: str = ""
    error: str = ""
    fault: InjectedFault | None = None
    path_values: Mapping[str, str] = field(default_factory=dict)
    operation: Operation | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    content: Any = None

    def header(self, name: bytes) -> bytes | None:
        """The first header of this name, which is given in lower case; None without one."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back: a status, a JSON value not yet written out, and further headers.

    A body of bytes goes out as it is, as the media type says; None sends no content type.
    """

    status: int
    body: Any
    headers: Headers = ()
    media_type: bytes | None = JSON


Handler = Callable[[Request], Response]

Authenticator = Callable[[Request], frozenset[str] | None]
"""What a request's credentials of one kind permit; None when it brings none of that kind.

Raises ApiError("bad credentials") when it brings some and they are wrong."""


def _as_it_is(request: Request) -> None:
    """Leaves a request as it came."""


def _knows_no_more(request: Request) -> None:
    """Leaves a request to be refused."""


@dataclass(frozen=True, slots=True)
class Service:
    """One API as the pipeline serves it.

    ``prefix`` decides which paths are its own and get its errors. ``security`` maps a kind of
    security scheme (``basic``, ``apiKey``) to its authenticator. ``encode`` serializes bodies;
    ``aliases`` maps further paths to paths of the contract. ``open`` prepares each request first,
    for example decrypts it. ``fallback`` returns a handler for a request that no operation
    matches, or None; it authenticates that request itself.
    """

    name: str
    prefix: str
    spec: Spec
    handlers: Mapping[str, Handler]
    render_error: Callable[[Request, Exception], Response]
    security: Mapping[str, Authenticator]
    encode: Callable[[Any], bytes]
    aliases: Mapping[str, str] = field(default_factory=dict)
    open: Callable[[Request], None] = _as_it_is
    fallback: Callable[[Request], Handler | None] = _knows_no_more
