"""Define the ``Api`` record, and what the pipeline and an API exchange.

An ``Api`` states the words of one API: its kinds with their states and operations, its routes and the keys of its
JSON. Each API defines one in the ``api.py`` of its package, and ``oceanmock.apis`` lists them. ``Service``,
``Request``, ``Response`` and ``ApiError`` serve it over HTTP. Nothing here depends on connexion or on one API.
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
    """One kind of thing that an API has, such as a task or a node.

    ``operations`` are the ones that a client can request of it; ``shown_operations`` those that its JSON shows.
    ``terminal_states`` are those it leaves only by an operation. ``detail`` is the operationId that reads one, empty
    where none does. ``parent`` is the kind it is a part of, ``parts_key`` the key of its JSON under which its own parts
    are, ``own_key`` one that no other kind's JSON has.
    """

    name: str
    title: str
    states: tuple[str, ...]
    terminal_states: frozenset[str]
    shown_operations: tuple[str, ...]
    operations: tuple[str, ...] = ()
    detail: str = ""
    parent: str = ""
    parts_key: str = ""
    own_key: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of a contract.

    ``ids`` maps each kind in its path to the path's parameter. A route with ``changes`` requests an operation of that
    kind: ``operation``, or the one that its body names where that is empty. ``lists`` is the kind that it lists, and
    ``shows`` the kind whose JSON its response contains. ``alias`` is another name, by which clients call it.
    """

    id: str
    path: str
    ids: Mapping[str, str] = field(default_factory=dict)
    changes: str = ""
    operation: str = ""
    lists: str = ""
    shows: str = ""
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Api:
    """The words of one API, and the modules of its package.

    ``name`` stands in scenario files and in the admin API, ``title`` in text for people. ``prefix`` begins the API's
    paths. ``kinds`` begins with the kind that has no parent. ``scripts_key`` and ``switches_key`` are the keys of a
    scenario file's scripts and of the admin API's switches. ``state_key``, ``operation_key``, ``start_key`` and
    ``end_key`` are keys of the API's JSON. ``version`` is the one that the mock serves by default, where the API has
    versions. ``contract`` is the contract's file; None means ``openapi/<name>.yaml``.

    The modules of the package are imported on first use, so that serving does not load what only tests or conformance
    runs need. ``scenario`` is the scenario format (``Scenario``, ``Switches``, ``script_of`` …), ``states`` has the
    tables of transitions (``MACHINES`` by kind), ``handlers`` the ``ServiceFactory``, ``parse`` reads response bodies
    (``observations`` …), ``checks`` are the conformance checks.
    """

    name: str
    title: str
    package: str
    prefix: str
    kinds: tuple[Kind, ...]
    routes: tuple[Route, ...]
    scripts_key: str
    switches_key: str
    state_key: str
    operation_key: str
    start_key: str
    end_key: str
    version: str = ""
    contract: Path | None = None

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
        """Return the path parameter of each kind that an operation's path has; empty for none."""
        return next((route.ids for route in self.routes if route.id == operation_id), {})

    @property
    def operation_names(self) -> tuple[str, ...]:
        """Return the names of all operations: the ids and aliases of the routes, and the ids of the submits."""
        names = [name for route in self.routes for name in (route.id, route.alias) if name]
        return (*names, *(submit.id for submit in self.submits))

    def operation_id(self, name: object) -> str | None:
        """Return the id of an operation by either of its names, or of a submit; None where there is none."""
        ids = (route.id for route in self.routes if name in (route.id, route.alias))
        return next(ids, None) or next((submit.id for submit in self.submits if submit.id == name), None)

    @property
    def spec(self) -> Spec:
        """Return the contract without its submits, read once; one of somebody else's is checked. Raises InputError."""
        from oceanmock.openapi import load_checked_spec, load_spec, spec_path  # noqa: PLC0415 (slow)

        if self.contract is not None:
            return load_checked_spec(self.contract)
        return load_spec(spec_path(self.name), without_submits=True)

    @property
    def submits(self) -> tuple[Operation, ...]:
        """Return the operations of the contract that start something, in its order."""
        from oceanmock.openapi import load_submits, spec_path  # noqa: PLC0415 (slow)

        return load_submits(self.contract or spec_path(self.name))

    def submit_body(self, method: str, path: str) -> Any:
        """Return the contract's example of the body of a submit; {} without one."""
        from oceanmock.openapi import load_spec, operations_at, spec_path  # noqa: PLC0415 (slow)

        at_path = operations_at(self.submits, path)
        body = next((it.definition.get("requestBody") for it in at_path if it.method == method), None)
        schema = body["content"]["application/json"]["schema"] if body else {}
        if "$ref" in schema:
            schema = load_spec(spec_path(self.name))["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema.get("example", {})

    def module(self, name: str) -> Any:
        """Return a module of the API's package, imported on first use."""
        return import_module(f"{self.package}.{name}")

    scenario = property(lambda api: api.module("scenario"))
    states = property(lambda api: api.module("states"))
    handlers = property(lambda api: api.module("handlers"))
    checks = property(lambda api: api.module("checks"))

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
    """A refused request: ``kind`` decides the status, ``detail`` is one sentence for a developer.

    ``parameter``, ``value`` and ``expected_type`` (the type or its format, such as "int64") are given for a wrong type
    or value, ``status`` for an injected fault, with the error's own ``code`` and ``message`` where it has them.
    """

    kind: ErrorKind
    detail: str
    _: KW_ONLY
    parameter: str = ""
    value: str = ""
    expected_type: str = ""
    status: int = 500
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
    """One request; each stage of the pipeline fills in what it has validated.

    ``path`` is the API's own, ``raw_path`` the path as sent. ``received_at`` is an instant of the sandbox's clock.
    ``client`` is the peer's address and port, None if unknown. ``caller`` is the authenticated user, ``error`` one
    sentence on why the request was refused, ``fault`` the injected fault, ``stub`` the name of the stub that responds.
    ``port`` is the one that it came to, ``place`` the position of the server that responds, of those that a sandbox
    stands for. ``compiled`` is the pipeline's operation; ``is_valid`` is set once the contract has accepted parameters
    and body.
    """

    service: Service
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
    port: int = 0
    place: int | None = None
    caller: str = ""
    error: str = ""
    fault: InjectedFault | None = None
    stub: str = ""
    path_values: Mapping[str, str] = field(default_factory=dict)
    operation: Operation | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    content: Any = None
    compiled: Any = None
    is_valid: bool = False

    def duration(self, now: int) -> int:
        """Return the milliseconds from its receipt to an instant, as the machine measures them at any speed.

        They are 0 where another replica has set the clock back meanwhile, by a reset.
        """
        return int(max(now - self.received_at, 0) / self.sandbox.clock.speed) // MILLISECOND

    def again(self, sandbox: Sandbox, received_at: int) -> Request:
        """Return the same request, received by a sandbox at an instant; what was found valid stays so."""
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
        """Return the first header of this name, which is given in lower case; None without one."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """Encoded JSON that many responses contain; ``accepted_by`` has the schemas that it was checked by."""

    json: bytes
    accepted_by: set[object] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Response:
    """A response: a status, a JSON value that is not yet encoded, and further headers.

    A body of bytes goes out as it is, as the media type says; None sends no content type. ``fragment`` becomes the
    member ``data`` of the body, an object. ``sample`` is the body with one of the rows that come from the same format:
    it is checked in place of the body.
    """

    status: int
    body: Any
    headers: Headers = ()
    media_type: bytes | None = JSON
    fragment: Fragment | None = None
    sample: Any = None


Handler = Callable[[Request], Response]
Authenticator = Callable[[Request], frozenset[str] | None]
"""What a request's credentials of one kind permit; None when it brings none of that kind.

Raises ApiError("bad credentials") when it brings some and they are wrong."""


@dataclass(frozen=True, slots=True)
class Service:
    """One API as the pipeline serves it.

    ``prefix`` decides which paths are its own and get its errors. ``security`` maps a kind of security scheme
    (``basic``, ``apiKey``) to its authenticator. ``encode`` serializes bodies; ``aliases`` maps further paths to
    paths of the contract. ``submits`` returns the operations of the contract that ``fallback`` responds to, of which
    the pipeline has read the body unless it has ``checks``. ``open`` prepares each request first, for example
    decrypts it. ``fallback`` returns a handler for a request that no operation matches, or None; it authenticates
    that request itself, so it decides whether an unknown path or a wrong method is refused before credentials are
    checked. ``is_lenient``: a path may end in a slash, and HEAD is served as GET. ``readers`` maps formats of the
    contract to functions that read a parameter's text, and raise ValueError.
    """

    name: str
    prefix: str
    spec: Spec
    handlers: Mapping[str, Handler]
    render_error: Callable[[Request, Exception], Response]
    security: Mapping[str, Authenticator]
    encode: Callable[[Any], bytes]
    submits: Callable[[], Sequence[Operation]] = tuple
    aliases: Mapping[str, str] = field(default_factory=dict)
    open: Callable[[Request], None] = lambda request: None
    fallback: Callable[[Request], Handler | None] = lambda request: None
    is_lenient: bool = False
    readers: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)


def template_for(templates: Sequence[Any], body: Any) -> Any:
    """Return the first template that a request with this body starts; None without one."""
    return next((template for template in templates if template.starts_on.fits_body(body)), None)


def unknown_start(templates: Sequence[Any], request: Request) -> ApiError:
    """Return the error of a request that no template starts on, or none with its body."""
    name = request.operation.id if request.operation else f"{request.method} {request.path[:200]}"
    asks = [template.starts_on.asks(template.name) for template in templates[:1]]
    return ApiError("unknown path", asks[0] if asks else f"Nothing of the scenario starts on {name}.")


def stub_for(
    request: Request,
    *,
    envelope: Callable[[Request, int], Json],
    item: Callable[[Any], Json],
    time: Callable[[int], str],
    refusals: Sequence[Any] | None = None,
) -> Handler | str:
    """Return the handler of the stub that responds to a request, else why none does; "" where none has its path.

    ``envelope`` returns the API's envelope of a status, ``item`` the JSON of a view, ``time`` the text of an instant;
    ``refusals`` are the stubs of the start that it requests, in place of the scenario's.
    """
    found = request.sandbox.find_stub(request, refusals)
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
        for name, text in parts.pop("headers").items():  # a request may have what no header of a response has
            headers.append((name.lower().encode(), re.sub("[^ -~]", "?", text).encode()))
        body = parts.get("body", "") if stub.is_raw else {**envelope(request, stub.status), **parts}
        media_type: bytes | None = b"text/plain; charset=utf-8" if isinstance(body, str) else JSON
        if body == "" or b"content-type" in dict(headers):
            media_type = None
        request.fault = sandbox.delay_stub(found, request.fault)
        return Response(stub.status, body.encode() if isinstance(body, str) else body, headers, media_type)

    return respond
