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

Kind = Literal[
    "bad credentials",
    "body too large",
    "broken answer",
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

STATUS_OF: Final[Mapping[Kind, int]] = {
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
    "broken answer": 500,
}


class ApiError(Exception):
    """A request that goes no further, and why.

    ``detail`` is one sentence for a developer. ``parameter``, ``value`` and ``wanted`` (the type,
    with its format: "int64") are given for a wrong type or value, ``status`` for a fault.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        parameter: str = "",
        value: str = "",
        wanted: str = "",
        status: int = 500,
        headers: Headers = (),
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.parameter = parameter
        self.value = value
        self.wanted = wanted
        self.status = status
        self.headers = headers

    @property
    def status_code(self) -> int:
        """The HTTP status; connexion looks for this name (security.py, _raise_most_specific)."""
        return STATUS_OF.get(self.kind, self.status)


@dataclass(slots=True)
class Request:
    """One request on its way in; each check it passes fills in what it has made sure of.

    ``path`` is the API's own, ``raw_path`` what was sent. ``began`` is by the sandbox's clock.
    ``client`` is the address and port it comes from, as far as the server knows.
    ``caller`` names who asks, as far as the credentials say; ``refusal`` is one sentence on why it
    went no further, ``strike`` what goes wrong on purpose.
    """

    api: Api
    sandbox: Sandbox
    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers
    began: int
    body: bytes = b""
    client: tuple[str, int] | None = None
    scheme: str = "http"
    credentials: Any = None
    caller: str = ""
    refusal: str = ""
    strike: InjectedFault | None = None
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

Credentials = Callable[[Request], frozenset[str] | None]
"""What a call's credentials of one kind permit; None when it brings none of that kind.

Raises ApiError("bad credentials") when it brings some and they are wrong."""


def _as_it_is(call: Request) -> None:
    """Leaves a call as it came."""


def _knows_no_more(call: Request) -> None:
    """Leaves a call to be refused."""


@dataclass(frozen=True, slots=True)
class Api:
    """One API, as the app serves it.

    ``prefix`` says which paths are its own, so that an unknown one is refused in its words.
    ``security`` maps a kind of security scheme (``basic``, ``apiKey``) to what checks it.
    ``encode`` writes its JSON; ``aliases`` are paths served beyond the contract, each with the
    contract's path it stands for. ``open`` is shown each call first, to decrypt it or to refuse it.
    ``fallback`` is asked about a call whose path is no operation's: what answers it, once it may
    pass, or None. Nothing checks such a call but the room itself.
    """

    name: str
    prefix: str
    spec: Spec
    handlers: Mapping[str, Handler]
    render_error: Callable[[Request, Exception], Response]
    security: Mapping[str, Credentials]
    encode: Callable[[Any], bytes]
    aliases: Mapping[str, str] = field(default_factory=dict)
    open: Callable[[Request], None] = _as_it_is
    fallback: Callable[[Request], Handler | None] = _knows_no_more
