"""Serve contracts with connexion: the only module that imports connexion and starlette.

connexion loads and validates a contract, builds its operations, resolves their handlers, verifies
security by its security map and holds the frame of middlewares (``PIPELINE``). This module compiles
each operation once, when the app is built: its route into a tree, its parameters, body and
responses into the validators of ``http/validation.py``. Stock connexion prepares these for every
request (connexion 3.3: middleware/request_validation.py:102-139, apps/asynchronous.py:52-58).

Each error, of this module, of connexion or of a handler, is rendered by the API that the path
belongs to (``Service.render_error``). Nothing here knows one API.

Decided here, where OCP's documents are silent: a path with a trailing slash is another path; HEAD
and OPTIONS are methods like any other; a query parameter that the contract does not name is
ignored, as Spring does; of a repeated one the first value counts.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException

from oceanmock.api import ApiError, Authenticator, ErrorKind, Headers, Request, Response, Service
from oceanmock.engine.faults import FaultRequest
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import AuthorError, CallerError
from oceanmock.http.validation import CompiledOperation
from oceanmock.openapi import operations_of, runtime_view
from oceanmock.text import closest

with warnings.catch_warnings():
    # connexion 3.3 imports names that its own dependencies have deprecated.
    warnings.simplefilter("ignore")
    from connexion import AsyncApp
    from connexion.apps.abstract import AbstractApp
    from connexion.apps.asynchronous import AsyncApi, AsyncASGIApp, AsyncOperation
    from connexion.middleware.abstract import ROUTING_CONTEXT, AbstractRoutingAPI, SpecMiddleware
    from connexion.middleware.main import API
    from connexion.middleware.security import SecurityAPI, SecurityMiddleware, SecurityOperation
    from connexion.resolver import Resolver
    from connexion.security import NO_VALUE, AbstractSecurityHandler
    from connexion.spec import Specification

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("oceanmock")

SANDBOX: Final = "oceanmock.sandbox"
"""The scope's key for the Sandbox; set before the pipeline is called."""
REQUEST: Final = "oceanmock.request"
"""The scope's key for the Request."""
COMPILED: Final = "oceanmock.compiled"
"""The scope's key for the CompiledOperation, once routed."""
MAX_BODY_BYTES: Final = 1024 * 1024


def build_app(services: Sequence[Service]) -> AsyncApp:
    """Return the ASGI app that serves these APIs; the first renders errors of unknown prefixes.

    Raises AuthorError where a contract and its handlers do not match.
    """
    app = _App(services)
    for service in services:
        _check_service(service)
        app.add_contract(
            _load_contract(orjson.dumps(runtime_view(service.spec, aliases=service.aliases))),
            name=service.name,
            resolver=Resolver(service.handlers.__getitem__),
            security_map={kind: _security_handler(a) for kind, a in service.security.items()},
        )
    # Built now and not at the first request, so that an error in a contract shows here.
    app.middleware.app, app.middleware.middleware_stack = app.middleware._build_middleware_stack()
    return app


@lru_cache(maxsize=16)
def _load_contract(contract: bytes) -> Specification:
    """Load and validate a contract once per process; validation takes long."""
    return Specification.load(orjson.loads(contract))


def _check_service(service: Service) -> None:
    """Raise AuthorError with every difference between a contract and its handlers.

    connexion would find a missing handler at its first request, and does not read OpenAPI 3.1
    (spec-first/connexion#1396).
    """
    name, spec, handlers = service.name, service.spec, set(service.handlers)
    if not str(spec.get("openapi", "")).startswith("3.0."):
        raise AuthorError(f"the contract of {name} is not OpenAPI 3.0; connexion needs that.")
    operations = {operation.id for operation in operations_of(spec)}
    problems = [f"operation '{o}' has no handler" for o in sorted(operations - handlers)]
    problems += [f"handler '{h}' has no operation" for h in sorted(handlers - operations)]
    schemes = spec.get("components", {}).get("securitySchemes", {})
    kinds = {key: scheme.get("scheme", scheme["type"]).lower() for key, scheme in schemes.items()}
    supported = {kind.lower() for kind in service.security}
    problems += [f"nothing checks '{key}'" for key, kind in kinds.items() if kind not in supported]
    if problems:
        raise AuthorError(f"the contract of {name} and its handlers: " + "; ".join(problems))


class _App(AsyncApp):
    """connexion's AsyncApp around an application of compiled operations."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._middleware_app = HandlerApp()  # AsyncApp.__init__ would set an AsyncASGIApp
        frame = partial(RequestFrame, services=tuple(services))
        AbstractApp.__init__(self, __name__, middlewares=[frame, *PIPELINE])

    def add_contract(self, contract: Specification, *, name: str, **options: Any) -> None:
        """Add a loaded contract; ``add_api`` would load it again."""
        all_options = self.middleware.options.replace(**options)
        self.middleware.apis.append(API(contract, base_path=None, name=name, **vars(all_options)))


# --- requests in, errors out ----------------------------------------------------------------------


class RequestFrame:
    """Create the request, receive its body, and render every error.

    An error of an operation is validated against the contract like any other response.
    """

    def __init__(self, app: AsgiApp, *, services: tuple[Service, ...]) -> None:
        self.app = app
        self.services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = scope[REQUEST] = self._request_of(scope)
        try:
            if _announces_body(request.headers):
                request.body = await _receive_body(request.headers, receive)
            request.service.open(request)
            await self.app(scope, receive, send)
        except _Disconnected:
            return
        except Exception as error:  # every error has an envelope
            start, body = _render(request, error)
            try:
                if COMPILED in scope:
                    scope[COMPILED].check_response(start, body)
            except ApiError as broken:
                start, body = _render(request, broken)
            await _send(send, start, body)

    def _request_of(self, scope: Scope) -> Request:
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        sandbox: Sandbox = scope[SANDBOX]
        return Request(
            next((api for api in self.services if path.startswith(api.prefix)), self.services[0]),
            sandbox,
            scope["method"],
            path,
            scope.get("raw_path") or path.encode(),
            scope["query_string"],
            scope["headers"],
            sandbox.clock.now(),
            client=scope.get("client"),
            scheme=scope.get("scheme", "http"),
        )


class _Disconnected(Exception):
    """The client disconnected before its body was complete."""


def _announces_body(headers: Headers) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in headers
    )


async def _receive_body(headers: Headers, receive: Receive) -> bytes:
    """Return the whole body, chunked or not. Raises ApiError when it is over MAX_BODY_BYTES."""
    # The connection stays open: closed amid the body, many clients would not read the response.
    too_large = ApiError("body too large", f"The body is larger than {MAX_BODY_BYTES} bytes.")
    declared = next((value for name, value in headers if name == b"content-length"), b"0")
    if declared.isdigit() and int(declared[:20]) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    return bytes(body)


def _render(request: Request, error: Exception) -> tuple[Message, bytes]:
    """Return the messages of an error response; log the mock's own errors."""
    if isinstance(error, HTTPException) and error.status_code in KIND_BY_STATUS:
        error = ApiError(KIND_BY_STATUS[error.status_code], str(error.detail or ""))
    request.error = str(error)
    if _is_internal(error):
        logger.error("%s %s: %r", request.method, request.path, error, exc_info=error)
    return response_start(request.service.render_error(request, error), request.service.encode)


def _is_internal(error: Exception) -> bool:
    """Return True for an error of the mock itself, not of the request."""
    if isinstance(error, ApiError):
        return error.status_code >= 500 and error.kind != "fault"
    return not isinstance(error, CallerError)


KIND_BY_STATUS: Final[Mapping[int, ErrorKind]] = {
    400: "wrong request",
    401: "unauthenticated",
    403: "forbidden",
    404: "unknown path",
    405: "wrong method",
    413: "body too large",
    415: "unsupported media type",
}
"""The kinds of the errors that starlette and connexion raise."""


def response_start(response: Response, encode: Callable[[Any], bytes]) -> tuple[Message, bytes]:
    """Return the first ASGI message of a response, and its encoded body."""
    body = response.body if isinstance(response.body, bytes) else encode(response.body)
    headers = [(b"content-length", str(len(body)).encode()), *response.headers]
    if response.media_type is not None:
        headers.insert(0, (b"content-type", response.media_type))
    return {"type": "http.response.start", "status": response.status, "headers": headers}, body


async def _send(send: Send, start: Message, body: bytes) -> None:
    await send(start)
    await send({"type": "http.response.body", "body": body})


# --- routing --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Segment:
    """A node in the tree of paths: its children, and the routes that end here by method."""

    literals: dict[str, _Segment] = field(default_factory=dict)
    variable: _Segment | None = None
    name: str = ""
    methods: dict[str, CompiledOperation] = field(default_factory=dict)

    def child(self, part: str) -> _Segment:
        """Return the child for one segment of a path template, created if missing."""
        if not part.startswith("{"):
            return self.literals.setdefault(part, _Segment())
        self.variable = self.variable or _Segment(name=part.strip("{}"))
        return self.variable

    def matches(
        self, parts: list[str], values: dict[str, str]
    ) -> Iterator[tuple[_Segment, dict[str, str]]]:
        """Yield the nodes that a path leads to and routes end at; a literal before a variable."""
        if not parts:
            if self.methods:
                yield self, values
            return
        part, *rest = parts
        literal = self.literals.get(part)
        if literal is not None:
            yield from literal.matches(rest, values)
        if self.variable is not None and part:  # an empty segment is no value
            yield from self.variable.matches(rest, values | {self.variable.name: part})


class RoutingApi(AbstractRoutingAPI):
    """Compile the operations of one contract into the tree of paths."""

    def __init__(self, specification: Specification, *, root: _Segment, **options: Any) -> None:
        self.root = root
        self.by_id = {operation.id: operation for operation in operations_of(specification)}
        super().__init__(specification, **options)

    def make_operation(self, operation: Any) -> CompiledOperation:
        """Compile an operation; ``extensions`` is how connexion's middlewares find it."""
        id = operation.operation_id
        return CompiledOperation(
            self.by_id[id],
            parameters=operation.parameters,
            request_body=operation.request_body if operation.is_request_body_defined else None,
            responses=operation.responses,
            extensions={ROUTING_CONTEXT: {"api_base_path": self.base_path, "operation_id": id}},
        )

    @staticmethod
    def _framework_path_and_name(_operation: Any, path: str) -> tuple[str, str]:
        return path, path

    def _add_operation_internal(
        self, method: str, path: str, operation: CompiledOperation, name: str | None = None
    ) -> None:
        node = self.root
        for part in (self.base_path + path).split("/"):
            node = node.child(part)
        node.methods[method.upper()] = operation


class Routing(SpecMiddleware):
    """Find the operation of a request: 404, 405."""

    def __init__(self, app: AsgiApp) -> None:
        self.app = app
        self.root = _Segment()
        self.operations: dict[str, list[str]] = {}

    def add_api(self, specification: Specification, *, name: str, **options: Any) -> None:
        """Add the operations of a contract to the tree."""
        api = RoutingApi(specification, root=self.root, **options)
        self.operations[name] = [f"{o.method} {o.path}" for o in api.by_id.values()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request: Request = scope[REQUEST]
            compiled = self._find(request)
            if compiled is None:
                response = self._fall_back(request)
                await _send(send, *response_start(response, request.service.encode))
                return
            scope[COMPILED], scope["extensions"] = compiled, compiled.extensions
            request.operation = compiled.operation
        await self.app(scope, receive, send)

    def _find(self, request: Request) -> CompiledOperation | None:
        """Return the operation, and set ``path_values``; None where no operation has the path.

        Where two templates match, the one that has the method is chosen. Raises ApiError when none
        has the method.
        """
        allowed: list[str] = []
        for node, values in self.root.matches(request.path.split("/"), {}):
            compiled = node.methods.get(request.method)
            if compiled is not None:
                request.path_values = values
                return compiled
            allowed = allowed or sorted(node.methods)
        if not allowed:
            return None
        methods = ", ".join(allowed)
        raise ApiError(
            "wrong method",
            f"{request.path} does not answer {request.method[:20]}. Allowed: {methods}.",
            headers=[(b"allow", methods.encode())],
        )

    def _fall_back(self, request: Request) -> Response:
        """Return the API's response to a path that no operation has. Raises ApiError."""
        handler = request.service.fallback(request)
        if handler is not None:
            inject_fault(request)
            return handler(request)
        line = f"{request.method} {request.path[:200]}"
        operations = {_filled(o, line): o for o in self.operations[request.service.name]}
        nearest = operations[str(closest(line, list(operations), cutoff=0.0))]
        detail = f"No operation of the contract answers {line}. The nearest is {nearest}."
        raise ApiError("unknown path", detail)


def _filled(operation: str, line: str) -> str:
    """Return an operation with the request's segments for its variables, so that ids match."""
    parts = line.split("/")
    return "/".join(
        parts[index] if part.startswith("{") and index < len(parts) else part
        for index, part in enumerate(operation.split("/"))
    )


# --- security -------------------------------------------------------------------------------------


class _SecurityRequest:
    """The attributes that connexion's verification reads (security.py, verify_security)."""

    __slots__ = ("context", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.context: dict[str, Any] = {}


class SecuredOperation(SecurityOperation):
    """connexion's verification of one operation, without a ConnexionRequest per request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.security:
            await self.verification_fn(_SecurityRequest(scope[REQUEST]))
        await self.next_app(scope, receive, send)


class SecuredApi(SecurityAPI):
    """The secured operations of one contract."""

    def make_operation(self, operation: Any) -> Any:
        """Return the verification of an operation."""
        factory = self.security_handler_factory
        return SecuredOperation.from_operation(
            operation, next_app=self.next_app, security_handler_factory=factory
        )


class Security(SecurityMiddleware):
    """Authenticate the request and check its permission: 401, 403."""

    api_cls = SecuredApi


def _security_handler(authenticate: Authenticator) -> type[AbstractSecurityHandler]:
    """Return a handler for connexion's security map.

    connexion passes no scopes of basic and apiKey schemes, so the permission that an operation
    needs is read from the contract's ``x-permission``.
    """

    def verify(secured: _SecurityRequest) -> Any:
        permissions = authenticate(secured.request)
        if permissions is None:
            return NO_VALUE
        operation = secured.request.operation
        required = operation.permission if operation else None
        if required is not None and required not in permissions:
            raise ApiError("forbidden", f"This operation needs the permission {required}.")
        return {}

    class Handler(AbstractSecurityHandler):
        def get_fn(self, _security_scheme: Any, _required_scopes: Any) -> Any:
            return verify

    return Handler


# --- handlers -------------------------------------------------------------------------------------


def inject_fault(request: Request) -> None:
    """Draw the fault of a request. Raises ApiError when the operation is not to be executed.

    The fault's effect on the response is applied by the app, outside the response check.
    """
    operation = request.operation.id if request.operation else ""
    key = (request.method, request.raw_path, request.query, request.body)
    fault_request = FaultRequest(
        request.service.name, operation, request.path_values, request.caller, key
    )
    fault = request.fault = request.sandbox.inject_fault(fault_request)
    if fault is not None and not fault.carries_out:
        raise ApiError("fault", f"struck by {fault.name}", status=fault.status or 503)


class HandlerOperation(AsyncOperation):
    """Run one operation: injected fault, request validation, handler, response check."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: Request = scope[REQUEST]
        compiled: CompiledOperation = scope[COMPILED]
        inject_fault(request)
        compiled.read_request(request)
        start, body = response_start(self._fn(request), request.service.encode)
        compiled.check_response(start, body)
        await _send(send, start, body)


class HandlerApi(AsyncApi):
    """The handlers of one contract."""

    def make_operation(self, operation: Any) -> Any:
        """Return the operation around the handler that connexion has resolved."""
        return HandlerOperation.from_operation(
            operation, pythonic_params=self.pythonic_params, jsonifier=self.jsonifier
        )


class HandlerApp(AsyncASGIApp):
    """The application inside the middlewares."""

    api_cls = HandlerApi


PIPELINE: Final = (Routing, Security)
"""The middlewares after RequestFrame, in the order of a request; HandlerApp comes last."""
