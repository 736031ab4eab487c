"""Define the ``Api`` record, and the types by which the HTTP pipeline calls an API.

An ``Api`` describes one API: its kinds with their states and operations, its routes and the keys of its JSON. Each
package of an API defines one in its ``api.py``; ``oceanmock.apis`` lists them. ``Service``, ``Request``, ``Response``
and ``ApiError`` serve it over HTTP. This module depends neither on connexion nor on one API.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from oceanmock.clock import MILLISECOND

if TYPE_CHECKING:
    from oceanmock.checks import TargetApi
    from oceanmock.engine.faults import InjectedFault
    from oceanmock.engine.sandbox import Sandbox
    from oceanmock.openapi import Operation, Spec


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object of an API, such as a task or a node."""

    name: str
    title: str
    states: tuple[str, ...]
    terminal_states: frozenset[str]  # left only by an operation
    shown_operations: tuple[str, ...]  # in its JSON
    operations: tuple[str, ...] = ()  # that a client can request
    detail: str = ""  # the operationId that reads one
    parent: str = ""  # the kind of which it is a part
    parts_key: str = ""  # of its own parts in its JSON
    own_key: str = ""  # a key that the JSON of no other kind has


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of a contract."""

    id: str
    path: str
    ids: Mapping[str, str] = field(default_factory=dict)  # for each kind in the path, the path's parameter
    changes: str = ""  # the kind of which it requests an operation
    operation: str = ""  # that operation; if empty, the body names it
    lists: str = ""  # the kind that it lists
    shows: str = ""  # the kind whose JSON the response contains
    alias: str = ""  # its name in clients


@dataclass(frozen=True, slots=True)
class Api:
    """The description of one API, and access to the modules of its package."""

    name: str  # in scenario files and in the admin API
    title: str  # in texts for people
    package: str
    prefix: str  # of its paths
    kinds: tuple[Kind, ...]  # of which the first has no parent
    routes: tuple[Route, ...]
    scripts_key: str  # of the tasks or dags in a scenario file
    switches_key: str  # of the switches in the admin API
    state_key: str  # of its JSON, like the next three
    operation_key: str
    start_key: str
    end_key: str
    version: str = ""  # the one that is served by default
    contract: Path | None = None  # None means ``openapi/<name>.yaml``

    @property
    def root(self) -> Kind:
        """Return the kind that has no parent: a task or a dag."""
        return self.kinds[0]

    def kind(self, name: str) -> Kind:
        """Return a kind by its name. Raises KeyError."""
        return {kind.name: kind for kind in self.kinds}[name]

    def route(self, operation_id: str) -> Route:
        """Return a route by its operationId. Raises KeyError."""
        return {route.id: route for route in self.routes}[operation_id]

    def ids_of(self, operation_id: str) -> Mapping[str, str]:
        """Return the path parameter of each kind in the path of an operation; empty for an unknown one."""
        return next((route.ids for route in self.routes if route.id == operation_id), {})

    @property
    def operation_names(self) -> tuple[str, ...]:
        """Return the names of all operations: ids and aliases of the routes, and ids of the submits."""
        names = [name for route in self.routes for name in (route.id, route.alias) if name]
        return (*names, *(submit.id for submit in self.submits))

    def operation_id(self, name: object) -> str | None:
        """Return the id of an operation or submit by its id or alias; None for an unknown name."""
        ids = (route.id for route in self.routes if name in (route.id, route.alias))
        return next(ids, None) or next((submit.id for submit in self.submits if submit.id == name), None)

    @property
    def spec(self) -> Spec:
        """Return the contract without its submits, read once; a file of the user's is checked. Raises InputError."""
        from oceanmock.openapi import load_checked_spec, load_spec, spec_path  # noqa: PLC0415 (slow)

        if self.contract is not None:
            return load_checked_spec(self.contract)
        return load_spec(spec_path(self.name), without_submits=True)

    @property
    def submits(self) -> tuple[Operation, ...]:
        """Return the submits: the operations of the contract that start a task or dag, in its order."""
        from oceanmock.openapi import load_submits, spec_path  # noqa: PLC0415 (slow)

        return load_submits(self.contract or spec_path(self.name))

    def submit_body(self, method: str, path: str) -> Any:
        """Return the contract's example of a submit's body, or {}."""
        from oceanmock.openapi import load_spec, operations_at, spec_path  # noqa: PLC0415 (slow)

        at_path = operations_at(self.submits, path)
        body = next((it.definition.get("requestBody") for it in at_path if it.method == method), None)
        schema = body["content"]["application/json"]["schema"] if body else {}
        if "$ref" in schema:
            schema = load_spec(spec_path(self.name))["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema.get("example", {})

    def module(self, name: str) -> Any:
        """Return a module of the API's package, imported on first use: a server does not load what only tests need."""
        return import_module(f"{self.package}.{name}")

    scenario = property(lambda api: api.module("scenario"))  # the scenario format
    states = property(lambda api: api.module("states"))  # the tables of transitions: ``MACHINES``, by kind
    handlers = property(lambda api: api.module("handlers"))  # the ``ServiceFactory``
    checks = property(lambda api: api.module("checks"))  # the conformance checks

    @property
    def conformance(self) -> TargetApi:
        """Return the API as the target of a conformance run."""
        result: TargetApi = self.module("conformance").CONFORMANCE
        return result


Headers = Sequence[tuple[bytes, bytes]]
Json = dict[str, Any]
"""A JSON object."""
JSON: Final = b"application/json"

ErrorKind = Literal[
    "bad credentials",
    "body too large",
    "broken response",
    "fault",
    "forbidden",
    "malformed body",
    "unavailable",
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
    "wrong type": 400,
    "wrong value": 400,
    "wrong request": 400,
    "bad credentials": 401,
    "unauthenticated": 401,
    "forbidden": 403,
    "unknown path": 404,
    "wrong method": 405,
    "body too large": 413,
    "unsupported media type": 415,
    "broken response": 500,
    "unavailable": 503,
}


@dataclass(eq=False, repr=False)
class ApiError(Exception):
    """A refused request: ``kind`` decides the status, ``detail`` is one sentence for a developer."""

    kind: ErrorKind
    detail: str
    _: KW_ONLY
    parameter: str = ""  # of a wrong type or value, like the next two
    value: str = ""
    expected_type: str = ""  # the type, or its format such as "int64"
    status: int = 500  # of an injected fault, like the next two
    code: int | str | None = None
    message: str = ""
    headers: Headers = ()

    def __str__(self) -> str:
        return self.detail

    @property
    def status_code(self) -> int:
        """The HTTP status; connexion looks for this name (security.py, _raise_most_specific)."""
        return STATUS_BY_KIND.get(self.kind, self.status)

    @property
    def breaks_contract(self) -> bool:
        """Return whether the contract does not allow the request, whoever sends it and whatever the state."""
        return STATUS_BY_KIND.get(self.kind) in (400, 405, 413, 415)


@dataclass(slots=True)
class Request:
    """One request; each stage of the pipeline fills in what it has validated."""

    service: Service
    sandbox: Sandbox
    method: str
    path: str  # within the API
    raw_path: bytes  # as sent
    query: bytes
    headers: Headers
    received_at: int  # by the sandbox's clock
    body: bytes = b""
    client: tuple[str, int] | None = None  # the peer's address and port
    scheme: str = "http"
    credentials: Any = None
    port: int = 0  # the server's
    place: int | None = None  # the position of the server that responds, if the sandbox has several
    caller: str = ""  # the authenticated user
    error: str = ""  # one sentence on why it was refused
    fault: InjectedFault | None = None
    stub: str = ""  # the name of the stub that responds
    path_values: Mapping[str, str] = field(default_factory=dict)
    operation: Operation | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    content: Any = None
    compiled: Any = None  # the pipeline's operation
    is_valid: bool = False  # parameters and body are validated

    def duration(self, now: int) -> int:
        """Return the real milliseconds from its receipt to an instant; 0 if another replica has set the clock back."""
        return int(max(now - self.received_at, 0) / self.sandbox.clock.speed) // MILLISECOND

    def again(self, sandbox: Sandbox, received_at: int) -> Request:
        """Return the validated request as a sandbox receives it at an instant. (``replace`` is five times slower.)"""
        return Request(
            self.service,
            sandbox,
            self.method,
            self.path,
            self.raw_path,
            self.query,
            self.headers,
            received_at,
            self.body,
            self.client,
            self.scheme,
            self.credentials,
            self.port,
            path_values=self.path_values,
            operation=self.operation,
            parameters=self.parameters,
            content=self.content,
            compiled=self.compiled,
            is_valid=self.is_valid,
        )

    def header(self, name: bytes) -> bytes | None:
        """Return the first header of a lower-case name, or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """Encoded JSON that many responses contain; ``accepted_by`` are the schemas that it is known to match."""

    json: bytes
    accepted_by: set[object] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Response:
    """A response: a status, a body and further headers."""

    status: int
    body: Any  # JSON that is encoded later, or bytes
    headers: Headers = ()
    media_type: bytes | None = JSON  # None sends no content type
    fragment: Fragment | None = None  # the encoded member ``data`` of the body
    sample: Any = None  # the body with only one row of each format, which is validated in place of the body


Handler = Callable[[Request], Response]
Authenticator = Callable[[Request], frozenset[str] | None]
"""Returns the permissions of a request's credentials of one scheme, or None if it has none of that scheme.

Raises ApiError("bad credentials") for wrong ones."""


@dataclass(frozen=True, slots=True)
class Service:
    """One API as the pipeline serves it.

    ``fallback`` returns a handler for a request that no operation matches, or None. It authenticates that request
    itself, so it decides whether credentials are checked before an unknown path or a wrong method is refused.
    """

    name: str
    prefix: str  # of the paths that are the API's and get its errors
    spec: Spec
    handlers: Mapping[str, Handler]
    render_error: Callable[[Request, Exception], Response]
    security: Mapping[str, Authenticator]  # by kind of security scheme: ``basic``, ``apiKey``
    encode: Callable[[Any], bytes]  # a body
    submits: Callable[[], Sequence[Operation]] = tuple  # which ``fallback`` handles, and checks if they have ``checks``
    aliases: Mapping[str, str] = field(default_factory=dict)  # of further paths, paths of the contract
    open: Callable[[Request], None] = lambda request: None  # prepares each request first: may decrypt it
    fallback: Callable[[Request], Handler | None] = lambda request: None
    is_lenient: bool = False  # a path may end in a slash, and HEAD is served as GET
    readers: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)  # by format; they may raise ValueError


def template_for(templates: Sequence[Any], body: Any) -> Any:
    """Return the first template that a request with this body starts; None without one."""
    return next((template for template in templates if template.starts_on.fits_body(body)), None)


def unknown_start(templates: Sequence[Any], request: Request) -> ApiError:
    """Return the error of a request that starts nothing: no template has its path, or none its body."""
    name = request.operation.id if request.operation else f"{request.method} {request.path[:200]}"
    asks = [template.starts_on.asks(template.name) for template in templates[:1]]
    return ApiError("unknown path", asks[0] if asks else f"Nothing of the scenario starts on {name}.")


def stub_for(
    request: Request,
    *,
    envelope: Callable[[Request, int], Json],
    item: Callable[[Any], Json],
    time: Callable[[int], str],
    starts_on: Any = None,
) -> Handler | str:
    """Return the handler of the stub that responds to a request, or why none does; "" if none has its path.

    ``envelope`` returns the API's envelope of a status, ``item`` the JSON of a view, ``time`` the text of an instant;
    with ``starts_on``, of a template, its refusals are the stubs, in place of the scenario's.
    """
    found = request.sandbox.find_stub(request, starts_on)
    if isinstance(found, str):
        return found
    request.stub = found.name

    def respond(request: Request) -> Response:
        stub, sandbox = found.stub, request.sandbox
        if not sandbox.take_stub(found):
            other = stub_for(request, envelope=envelope, item=item, time=time)
            if isinstance(other, str):
                raise ApiError("unknown path", other)
            return other(request)
        parts = stub.render(found.request, time(sandbox.clock.now()), lambda: item(found.views[-1]))
        headers = []
        for name, text in parts.pop("headers").items():  # characters of the request may not be allowed here
            headers.append((name.lower().encode(), re.sub("[^ -~]", "?", text).encode()))
        body = parts.get("body", "") if stub.is_raw else {**envelope(request, stub.status), **parts}
        media_type: bytes | None = b"text/plain; charset=utf-8" if isinstance(body, str) else JSON
        if body == "" or b"content-type" in dict(headers):
            media_type = None
        request.fault = sandbox.delay_stub(found, request.fault)
        return Response(stub.status, body.encode() if isinstance(body, str) else body, headers, media_type)

    return respond
