"""The contracts, served by connexion. The only door to connexion.

An ``AsyncApp`` whose list of middlewares is the story of a request (``STORY``). Each keeps the
frame connexion gives it (a middleware that knows the contract, an API in it, an operation in that)
and compiles the operation once, when the app is made: the route into a tree, parameters, bodies and
answers into the checks of ``apis/checks.py``. Plain connexion does that anew for every request
(connexion 3.3: middleware/request_validation.py:102-139, apps/asynchronous.py:52-58).

Whatever is refused, here, by connexion or by a room, leaves in the envelope of the API that the
path belongs to; the words are the room's (``Service.render_error``). Nothing here knows one API.

Decided here, where OCP's documents are silent: a path with a trailing slash is another path, and
HEAD and OPTIONS are methods like any other; a query parameter that the contract does not name is
ignored, as Spring does; of a repeated one the first counts. A room may have it otherwise: OCP's
words the first two 404 and 405, obshell's redirects the first and words the second 404.
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
from oceanmock.http.validation import Parameters, RequestBody, ResponseRules
from oceanmock.openapi import Operation, operations_of, runtime_view
from oceanmock.text import closest

with warnings.catch_warnings():
    # connexion 3.3 imports what its own dependencies have deprecated; no user can mend that.
    warnings.simplefilter("ignore")
    from connexion import AsyncApp
    from connexion.apps.abstract import AbstractApp
    from connexion.apps.asynchronous import AsyncApi, AsyncASGIApp, AsyncOperation
    from connexion.jsonifier import Jsonifier
    from connexion.middleware.abstract import ROUTING_CONTEXT, AbstractRoutingAPI, SpecMiddleware
    from connexion.middleware.main import API
    from connexion.middleware.request_validation import (
        RequestValidationAPI,
        RequestValidationMiddleware,
        RequestValidationOperation,
    )
    from connexion.middleware.response_validation import (
        ResponseValidationAPI,
        ResponseValidationMiddleware,
        ResponseValidationOperation,
    )
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
"""Where the scope of a request holds the sandbox that is meant; put there before it comes here."""
REQUEST: Final = "oceanmock.request"
"""Where the scope of a request holds its Request."""
MAX_BODY_BYTES: Final = 1024 * 1024


def build_app(apis: Sequence[Service]) -> AsyncApp:
    """The ASGI app that serves these APIs; the first one words what is none's path."""
    app = _App(apis)
    for api in apis:
        _check_room(api)
        app.add_contract(
            _read(orjson.dumps(runtime_view(api.spec, aliases=api.aliases))),
            name=api.name,
            resolver=Resolver(api.handlers.__getitem__),
            security_map={kind: _security_handler(c) for kind, c in api.security.items()},
            jsonifier=_Written(api.encode),
        )
    # Built now and not at the first request, so that a mistake in a contract shows here.
    app.middleware.app, app.middleware.middleware_stack = app.middleware._build_middleware_stack()
    return app


@lru_cache(maxsize=16)
def _read(contract: bytes) -> Specification:
    """A contract as connexion reads it. To check it takes long: once is enough for a process."""
    return Specification.load(orjson.loads(contract))


def _check_room(api: Service) -> None:
    """Compares the contract with what the room brings, and names every difference.

    connexion would find a missing one at its first request, and does not read OpenAPI 3.1
    (spec-first/connexion#1396).
    """
    if not str(api.spec.get("openapi", "")).startswith("3.0."):
        raise AuthorError(f"the contract of {api.name} is not OpenAPI 3.0; connexion needs that.")
    promised = {operation.id for operation in operations_of(api.spec)}
    mistakes = [f"operation '{o}' has no handler" for o in sorted(promised - set(api.handlers))]
    mistakes += [f"handler '{h}' has no operation" for h in sorted(set(api.handlers) - promised)]
    schemes = api.spec.get("components", {}).get("securitySchemes", {})
    kinds = {name: said.get("scheme", said["type"]).lower() for name, said in schemes.items()}
    known = {kind.lower() for kind in api.security}
    mistakes += [f"nothing checks '{name}'" for name, kind in kinds.items() if kind not in known]
    if mistakes:
        raise AuthorError(f"the contract of {api.name} and its handlers: " + "; ".join(mistakes))


class _App(AsyncApp):
    """connexion's AsyncApp around an application that answers from compiled operations."""

    def __init__(self, apis: Sequence[Service]) -> None:
        self._middleware_app = Answering()  # AsyncApp's own __init__ would put its own here
        AbstractApp.__init__(
            self,
            __name__,
            middlewares=[partial(Reception, apis=tuple(apis)), *STORY],
            validate_responses=True,
        )

    def add_contract(self, contract: Specification, *, name: str, **options: Any) -> None:
        """As ``add_api``, of a contract that has been read."""
        said = self.middleware.options.replace(**options)
        self.middleware.apis.append(API(contract, base_path=None, name=name, **vars(said)))


# --- the request comes in, and whatever is refused goes out ---------------------------------------


class Reception:
    """Opens the request and takes its body in; the last to word what was refused."""

    def __init__(self, app: AsgiApp, *, apis: tuple[Service, ...]) -> None:
        self.app = app
        self.apis = apis

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = scope[REQUEST] = self._open(scope)
        try:
            if _announces_body(request.headers):
                request.body = await _take_in(request.headers, receive)
            request.service.open(request)
            await self.app(scope, receive, send)
        except _HungUp:
            return
        except Exception as error:  # every error has an envelope
            await _refuse(request, error, send)

    def _open(self, scope: Scope) -> Request:
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        api = next((api for api in self.apis if path.startswith(api.prefix)), self.apis[0])
        sandbox: Sandbox = scope[SANDBOX]
        return Request(
            api,
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


class Refusals:
    """Words what is refused behind it; before the response check, which so sees errors too."""

    def __init__(self, app: AsgiApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception as error:  # every error has an envelope
            await _refuse(scope[REQUEST], error, send)


class _HungUp(Exception):
    """The client went away before its body was complete; there is nobody to answer."""


def _announces_body(headers: Headers) -> bool:
    """Whether a request says that a body follows."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in headers
    )


async def _take_in(headers: Headers, receive: Receive) -> bytes:
    """The whole body, chunked or not. Raises ApiError when it is over MAX_BODY_BYTES."""
    # The connection stays open: closed amid the body, many a client would not see the answer.
    too_large = ApiError("body too large", f"The body is larger than {MAX_BODY_BYTES} bytes.")
    declared = next((value for name, value in headers if name == b"content-length"), b"0")
    if declared.isdigit() and int(declared[:20]) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _HungUp
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    return bytes(body)


async def _refuse(request: Request, error: Exception, send: Send) -> None:
    refusal = _as_refusal(error)
    request.error = str(refusal)
    if _is_ours(refusal):
        logger.error("%s %s: %r", request.method, request.path, error, exc_info=error)
    await _send(send, request.service.render_error(request, refusal), request.service.encode)


def _is_ours(error: Exception) -> bool:
    """Whether an error is a mistake of the mock's, worth a line in its log."""
    if isinstance(error, ApiError):
        return error.status_code >= 500 and error.kind != "fault"
    return not isinstance(error, CallerError)


KIND_OF: Final[Mapping[int, ErrorKind]] = {
    400: "wrong request",
    401: "unauthenticated",
    403: "forbidden",
    404: "unknown path",
    405: "wrong method",
    413: "body too large",
    415: "unsupported media type",
}


def _as_refusal(error: Exception) -> Exception:
    """An error in the words the rooms know: what starlette and connexion raise becomes ApiError."""
    if isinstance(error, HTTPException) and error.status_code in KIND_OF:
        return ApiError(KIND_OF[error.status_code], str(error.detail or ""))
    return error


async def _send(send: Send, answer: Response, encode: Callable[[Any], bytes]) -> None:
    start, body = response_start(answer, encode)
    await send(start)
    await send({"type": "http.response.body", "body": body})


def response_start(answer: Response, encode: Callable[[Any], bytes]) -> tuple[Message, bytes]:
    """How an answer begins, and its body."""
    body = answer.body if isinstance(answer.body, bytes) else encode(answer.body)
    headers = [(b"content-length", str(len(body)).encode()), *answer.headers]
    if answer.media_type is not None:
        headers.insert(0, (b"content-type", answer.media_type))
    return {"type": "http.response.start", "status": answer.status, "headers": headers}, body


# --- routing --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Segment:
    """A place in the tree of paths: what may follow, and the operations that end here."""

    literals: dict[str, _Segment] = field(default_factory=dict)
    variable: _Segment | None = None
    name: str = ""
    methods: dict[str, tuple[Operation, dict[str, Any]]] = field(default_factory=dict)


class RoutingTable(AbstractRoutingAPI):
    """Plants the operations of one contract into the tree of paths."""

    def __init__(self, specification: Specification, *, root: _Segment, **kwargs: Any) -> None:
        self.root = root
        self.by_id = {operation.id: operation for operation in operations_of(specification)}
        super().__init__(specification, **kwargs)

    def make_operation(self, operation: Any) -> tuple[Operation, dict[str, Any]]:
        """An operation, and what RoutedMiddleware looks it up by."""
        key = {"api_base_path": self.base_path, "operation_id": operation.operation_id}
        return self.by_id[operation.operation_id], {ROUTING_CONTEXT: key}

    @staticmethod
    def _framework_path_and_name(operation: Any, path: str) -> tuple[str, str]:
        return path, path

    def _add_operation_internal(
        self, method: str, path: str, operation: Any, name: str | None = None
    ) -> None:
        place = self.root
        for part in (self.base_path + path).split("/"):
            place = _grow(place, part)
        place.methods[method.upper()] = operation


def _grow(place: _Segment, part: str) -> _Segment:
    """The place one segment further, made when it is not there yet."""
    if not part.startswith("{"):
        return place.literals.setdefault(part, _Segment())
    place.variable = place.variable or _Segment(name=part.strip("{}"))
    return place.variable


class Routing(SpecMiddleware):
    """Finds the operation that is meant; a literal segment goes before a variable one."""

    def __init__(self, app: AsgiApp) -> None:
        self.app = app
        self.root = _Segment()
        self.known: dict[str, list[str]] = {}

    def add_api(self, specification: Specification, **kwargs: Any) -> None:
        """Adds the operations of a contract to the tree."""
        name = kwargs.pop("name")
        table = RoutingTable(specification, root=self.root, **kwargs)
        self.known[name] = [f"{o.method} {o.path}" for o in table.by_id.values()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = scope[REQUEST]
            found = self._find(request)
            if found is None:
                await _fall_back(request, self._unknown, send)
                return
            request.operation, scope["extensions"] = found
        await self.app(scope, receive, send)

    def _find(self, request: Request) -> tuple[Operation, dict[str, Any]] | None:
        """The operation of a path, whose variables go to ``path_values``; None where none has it.

        Where a path fits two, the one that has the method is meant. Raises ApiError when none has.
        """
        nearest: _Segment | None = None
        for place, values in _places(self.root, request.path.split("/"), 0, {}):
            found = place.methods.get(request.method)
            if found is not None:
                request.path_values = values
                return found
            nearest = nearest or place
        if nearest is None:
            return None
        raise _wrong_method(request, nearest)

    def _unknown(self, request: Request) -> ApiError:
        asked = f"{request.method} {request.path[:200]}"
        known = {_filled(each, asked): each for each in self.known[request.service.name]}
        near = closest(asked, list(known), cutoff=0.0)
        return ApiError(
            "unknown path",
            f"No operation of the contract answers {asked}. The nearest is {known[str(near)]}.",
        )


def _filled(operation: str, asked: str) -> str:
    """An operation's path with the asked segments for its variables, so that ids do not count."""
    parts = asked.split("/")
    return "/".join(
        parts[place] if part.startswith("{") and place < len(parts) else part
        for place, part in enumerate(operation.split("/"))
    )


async def _fall_back(request: Request, unknown: Callable[[Request], ApiError], send: Send) -> None:
    """ResponseRules a request that is no operation's, as its room knows how to. Raises ApiError."""
    handler = request.service.fallback(request)
    if handler is None:
        raise unknown(request)
    strike_at(request)
    await _send(send, handler(request), request.service.encode)


def _places(
    place: _Segment, parts: list[str], depth: int, values: dict[str, str]
) -> Iterator[tuple[_Segment, dict[str, str]]]:
    """Every place that a path leads to and operations end at, with its variables."""
    if depth == len(parts):
        if place.methods:
            yield place, values
        return
    part = parts[depth]
    literal = place.literals.get(part)
    if literal is not None:
        yield from _places(literal, parts, depth + 1, values)
    if place.variable is not None and part:  # an empty segment is no value
        known = values | {place.variable.name: part}
        yield from _places(place.variable, parts, depth + 1, known)


def _wrong_method(request: Request, place: _Segment) -> ApiError:
    allowed = ", ".join(sorted(place.methods))
    return ApiError(
        "wrong method",
        f"{request.path} does not answer {request.method[:20]}. Allowed: {allowed}.",
        headers=[(b"allow", allowed.encode())],
    )


# --- security -------------------------------------------------------------------------------------


class _Asker:
    """What connexion's verification asks of a request (connexion/security.py, verify_security)."""

    __slots__ = ("context", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.context: dict[str, Any] = {}


class GuardedOperation(SecurityOperation):
    """connexion's verification of one operation, without a request object around the scope."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.security:
            await self.verification_fn(_Asker(scope[REQUEST]))
        await self.next_app(scope, receive, send)


class GuardedApi(SecurityAPI):
    """The operations of one contract, guarded."""

    def make_operation(self, operation: Any) -> GuardedOperation:
        """The security the contract asks of an operation."""
        made: GuardedOperation = GuardedOperation.from_operation(
            operation,
            next_app=self.next_app,
            security_handler_factory=self.security_handler_factory,
        )
        return made


class Security(SecurityMiddleware):
    """Who asks, and whether they may: 401, 403."""

    api_cls = GuardedApi


def _security_handler(credentials: Authenticator) -> type[AbstractSecurityHandler]:
    """A handler for connexion's security_map that asks a room about a request's credentials.

    Scopes of basic and apiKey schemes do not reach the callback, so the permission an operation
    asks for is read from the contract's ``x-permission``.
    """

    def verify(asker: _Asker) -> Any:
        permitted = credentials(asker.request)
        if permitted is None:
            return NO_VALUE
        wanted = asker.request.operation.permission if asker.request.operation else None
        if wanted is not None and wanted not in permitted:
            raise ApiError("forbidden", f"This operation needs the permission {wanted}.")
        return {}

    class Handler(AbstractSecurityHandler):
        def get_fn(self, security_scheme: Any, required_scopes: Any) -> Any:
            return verify

    return Handler


# --- what goes wrong on purpose -------------------------------------------------------------------


class Striking:
    """Asks the sandbox's faults about a request; one that prevents the operation is refused here.

    What becomes of the answer is for who sends it: the app, outside the response check.
    """

    def __init__(self, app: AsgiApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            strike_at(scope[REQUEST])
        await self.app(scope, receive, send)


def strike_at(request: Request) -> None:
    """Notes what strikes a request. Raises ApiError when the operation is not to happen."""
    operation = request.operation.id if request.operation else ""
    key = (request.method, request.raw_path, request.query, request.body)
    asked = FaultRequest(request.service.name, operation, request.path_values, request.caller, key)
    strike = request.fault = request.sandbox.faults.strike(asked)
    if strike is not None and not strike.carries_out:
        status = strike.status or 503
        raise ApiError("fault", f"struck by {strike.name}", status=status)


# --- what is asked, and what is answered ----------------------------------------------------------


class CheckedRequest(RequestValidationOperation):
    """What the contract asks of a request to one operation, compiled."""

    def __init__(self, next_app: AsgiApp, *, operation: Any) -> None:
        super().__init__(next_app, operation=operation)
        self.parameters = Parameters(operation.parameters)
        self.bodies = (
            RequestBody(operation.request_body) if operation.is_request_body_defined else None
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: Request = scope[REQUEST]
        request.parameters = self.parameters.read(request, request.path_values)
        if self.bodies is not None:
            request.content = self.bodies.read(request)
        await self.next_app(scope, receive, send)


class CheckedRequestApi(RequestValidationAPI):
    """The operations of one contract, their requests checked."""

    def make_operation(self, operation: Any) -> CheckedRequest:
        """The check of the requests to an operation."""
        return CheckedRequest(self.next_app, operation=operation)


class RequestCheck(RequestValidationMiddleware):
    """What is asked keeps the contract: 400, 415."""

    api_cls = CheckedRequestApi


class CheckedResponse(ResponseValidationOperation):
    """What the contract allows one operation to answer, compiled."""

    def __init__(self, next_app: AsgiApp, *, operation: Any) -> None:
        super().__init__(next_app, operation=operation)
        self.name: str = operation.operation_id
        self.answers = ResponseRules(operation.responses)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {}

        async def checked_send(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            self._check(start, message["body"])
            await send(start)
            await send(message)

        await self.next_app(scope, receive, checked_send)

    def _check(self, start: Message, body: bytes) -> None:
        objection = self.answers.objection(start["status"], start["headers"], body)
        if objection:
            raise ApiError("broken response", f"{self.name} {start['status']}: {objection}")


class CheckedResponseApi(ResponseValidationAPI):
    """The operations of one contract, their answers checked."""

    def make_operation(self, operation: Any) -> CheckedResponse:
        """The check of the answers of an operation."""
        return CheckedResponse(self.next_app, operation=operation)


class ResponseCheck(ResponseValidationMiddleware):
    """What leaves keeps the contract, errors included; the mock's own mistakes are 500s."""

    api_cls = CheckedResponseApi


class _Written(Jsonifier):
    """connexion's jsonifier, writing as the API writes."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        super().__init__()
        self.dumps = encode


class AnsweringOperation(AsyncOperation):
    """Calls the room's handler and sends what it answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _send(send, self._fn(scope[REQUEST]), self.jsonifier.dumps)


class AnsweringApi(AsyncApi):
    """The operations of one contract, answered."""

    def make_operation(self, operation: Any) -> AnsweringOperation:
        """The handler of an operation."""
        made: AnsweringOperation = AnsweringOperation.from_operation(
            operation, pythonic_params=self.pythonic_params, jsonifier=self.jsonifier
        )
        return made


class Answering(AsyncASGIApp):
    """The application at the heart: every operation of every contract, answered."""

    api_cls = AnsweringApi


STORY: Final = (
    # Reception comes first; it needs to know the APIs.
    Routing,  # which operation is meant: 404, 405
    ResponseCheck,  # what leaves keeps the contract, errors included
    Refusals,  # what is refused from here on is worded before that check
    Security,  # who asks, and may they: 401, 403
    Striking,  # what goes wrong on purpose: any status
    RequestCheck,  # what they ask for keeps the contract: 400, 415
    # Answering comes last: operation → room → engine.
)
"""The middlewares, in the order a request meets them."""
