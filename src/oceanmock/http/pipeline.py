"""Serve contracts with connexion: the only module that imports connexion and starlette.

connexion loads a contract, builds its operations, resolves their handlers and verifies security by its security map.
This module compiles each operation once, when the app is built: its route, and the validators of
``http/validation.py``. Stock connexion prepares them for every request (connexion 3.3:
middleware/request_validation.py:102-139, apps/asynchronous.py:52-58). The API of the path renders every error
(``Service.render_error``).

Decided here: unless the service is lenient, OPTIONS and HEAD are methods like any other, and a trailing slash makes
another path. Unless the pipeline is strict, query parameters that the contract does not have are ignored, as by Spring.
Of a repeated parameter the first value counts.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException

from oceanmock.api import STATUS_BY_KIND, ApiError, Authenticator, Handler, Headers, Request, Response, Service
from oceanmock.engine.faults import InjectedFault
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.store import SandboxDeleted, SandboxFull, StoreUnavailable
from oceanmock.errors import CallerError, InputError
from oceanmock.http import MAX_MESSAGE_LENGTH, Encoded, Receive, Scope, declared_size
from oceanmock.http.validation import Parameters, RequestBody, ResponseRules, check_names, check_width, read_submit
from oceanmock.journal.entries import BODILESS
from oceanmock.masking import mask_error, mask_text
from oceanmock.openapi import Operation, operations_at, operations_of, runtime_view
from oceanmock.text import closest, one_line

with warnings.catch_warnings():
    # connexion 3.3 imports names that its own dependencies have deprecated.
    warnings.simplefilter("ignore")
    from connexion.middleware.security import SecurityOperation
    from connexion.resolver import Resolver
    from connexion.security import NO_VALUE, AbstractSecurityHandler, SecurityHandlerFactory
    from connexion.spec import OpenAPISpecification

MAX_BODY_BYTES: Final = 1024 * 1024
VIOLATIONS_HEADER: Final = b"x-oceanmock-violations"
KIND_BY_STATUS: Final = {status: kind for kind, status in STATUS_BY_KIND.items() if status < 500}
"""The kinds of the errors that starlette and connexion raise; of several with one status, the last."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    operation: Operation
    verify_security: Callable[[Any], Coroutine[Any, Any, None]] | None
    parameters: Parameters
    body: RequestBody | None
    responses: ResponseRules
    handler: Handler

    def check_response(self, encoded: Encoded, response: Response | None = None) -> None:
        """Raise ApiError for a response that the contract forbids."""
        if problem := self.responses.problem(encoded, response):
            raise ApiError("broken response", f"{self.operation.id} {encoded[0]}: {problem}")


_Routes = dict[int, list[tuple[re.Pattern[str], dict[str, _Compiled]]]]
"""By the number of slashes of a path: its pattern, and its operations by method."""


class _Contract(OpenAPISpecification):
    """connexion's model of a contract, without its slow check by the metaschema: the tests check the contracts."""

    @classmethod
    def _validate_spec(cls, _spec: Any) -> None:
        pass


@lru_cache(maxsize=16)
def _load_contract(contract: bytes) -> _Contract:
    return _Contract(orjson.loads(contract))


def _compile(service: Service, routes: _Routes) -> list[str]:
    """Add the operations of a service to the routes; return their methods and paths.

    Raises InputError with every difference between its contract and its handlers. connexion cannot read OpenAPI 3.1
    (spec-first/connexion#1396), and ignores security schemes that it does not support.
    """
    name, spec, handled = service.name, service.spec, set(service.handlers)
    if not str(spec.get("openapi", "")).startswith("3.0."):
        raise InputError(f"the contract of {name} is not OpenAPI 3.0; connexion needs that.")
    ids = {operation.id for operation in operations_of(spec)}
    problems = [f"operation '{id}' has no handler" for id in sorted(ids - handled)]
    problems += [f"handler '{id}' has no operation" for id in sorted(handled - ids)]
    supported = {kind.lower() for kind in service.security}
    for key, scheme in spec.get("components", {}).get("securitySchemes", {}).items():
        if scheme.get("scheme", scheme["type"]).lower() not in supported:
            problems.append(f"nothing checks '{key}'")
    if problems:
        raise InputError(f"the contract of {name} and its handlers: " + "; ".join(problems))
    contract = _load_contract(orjson.dumps(runtime_view(spec, aliases=service.aliases)))
    security = SecurityHandlerFactory({kind: _security_handler(check) for kind, check in service.security.items()})
    resolver = Resolver(service.handlers.__getitem__)
    methods: dict[str, dict[str, _Compiled]] = defaultdict(dict)
    operations = operations_of(contract)
    for operation in operations:
        method = operation.method.lower()
        built = contract.operation_cls.from_spec(contract, path=operation.path, method=method, resolver=resolver)
        secured = SecurityOperation.from_operation(built, next_app=None, security_handler_factory=security)
        methods[operation.path][operation.method] = _Compiled(
            operation,
            secured.verification_fn if built.security else None,
            Parameters(built.parameters, service.readers),
            RequestBody(built.request_body) if built.is_request_body_defined else None,
            ResponseRules(built.responses),
            built.function,
        )
    # A path with a literal segment comes before one with a parameter there.
    for path in sorted(methods, key=lambda path: [part[:1] == "{" for part in path.split("/")]):
        parts = [
            f"(?P<{part[1:-1]}>[^/]+)" if part.startswith("{") else re.escape(part)
            for part in (contract.base_path + path).split("/")
        ]
        routes[len(parts) - 1].append((re.compile("/".join(parts)), methods[path]))
    return [f"{operation.method} {operation.path}" for operation in operations]


def _security_handler(authenticate: Authenticator) -> type[AbstractSecurityHandler]:
    """Return a handler for connexion's security map.

    It reads the permission that an operation needs from the contract's ``x-permission``, since connexion passes no
    scopes for basic and apiKey schemes.
    """

    def verify(secured: Any) -> Any:
        request: Request = secured.request
        permissions = authenticate(request)
        if permissions is None:
            return NO_VALUE
        required = request.operation.permission if request.operation else None
        if required is not None and required not in permissions:
            raise ApiError("forbidden", f"This operation needs the permission {required}.")
        return {}

    class Handler(AbstractSecurityHandler):
        def get_fn(self, _security_scheme: Any, _required_scopes: Any) -> Any:
            return verify

    return Handler


class Pipeline:
    """The compiled operations of some services; the first one responds to unknown prefixes.

    A strict pipeline refuses query parameters and keys of bodies that the contract does not have. To a request that
    breaks the contract, its response has a header that says how. Raises InputError as ``_compile`` does.
    """

    def __init__(self, services: Sequence[Service], *, is_strict: bool = False) -> None:
        self._services, self._is_strict = services, is_strict
        self._routes: _Routes = defaultdict(list)
        self._operations = {service.name: _compile(service, self._routes) for service in services}

    def request_of(self, scope: Scope, sandbox: Sandbox) -> Request:
        """Return the request of a scope to a sandbox, without its body."""
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        for service in self._services:
            if path.startswith(service.prefix):
                break
        else:
            service = self._services[0]
        return Request(
            service,
            sandbox,
            scope["method"],
            path,
            scope.get("raw_path") or path.encode(),
            scope["query_string"],
            scope["headers"],
            sandbox.clock.now(),
            client=scope.get("client"),
            scheme=scope.get("scheme", "http"),
            port=(scope.get("server") or ("", 0))[1] or 0,
        )

    def respond(self, request: Request, body: bytes | ApiError) -> Encoded:
        """Return the response to a request with this body, or with the error of its body.

        Of a repeated valid request, only the credentials are verified again. Every response is checked against the
        contract, errors included. Raises SandboxDeleted when the sandbox was deleted in the meantime.
        """
        service, compiled = request.service, request.compiled
        try:
            if isinstance(body, ApiError):
                raise body
            if compiled is None:
                request.body = body
                service.open(request)
                check_width(request.body)
                compiled, allowed = self._find(request)
                if compiled is None:
                    encoded = encode(self._fall_back(request, allowed), service)
                    return encoded if request.method != "HEAD" else (*encoded[:2], b"")
                request.compiled = compiled
                request.operation = compiled.operation
            if compiled.verify_security is not None:
                _finish(compiled.verify_security(SimpleNamespace(request=request, context={})))
            inject_fault(request)
            if not request.is_valid:
                request.parameters = compiled.parameters.read(request)
                if compiled.body is not None:
                    request.content = compiled.body.read(request)
                if self._is_strict:
                    check_names(request)
                request.is_valid = True
            response = compiled.handler(request)
            encoded = encode(response, service)
            checked = encoded if response.sample is None else encode(replace(response, body=response.sample), service)
            compiled.check_response(checked, response)
        except SandboxDeleted:
            raise
        except Exception as error:  # every error has an envelope
            encoded = render(request, error)
            try:
                if compiled is not None:
                    compiled.check_response(encoded)
            except ApiError as broken:
                encoded = render(request, broken)
            if self._is_strict and getattr(error, "breaks_contract", False):
                text = one_line(mask_text(request.error), MAX_MESSAGE_LENGTH).encode("ascii", "backslashreplace")
                encoded = (encoded[0], [*encoded[1], (VIOLATIONS_HEADER, text)], encoded[2])
        return encoded if request.method != "HEAD" else (*encoded[:2], b"")

    def _find(self, request: Request) -> tuple[_Compiled | None, list[str]]:
        """Return the first operation whose path and method match, and set ``path_values``.

        Without one, return None and the methods of the path.
        """
        allowed: list[str] = []
        path, method = request.path, request.method
        if request.service.is_lenient:
            path, method = path.removesuffix("/") or "/", "GET" if method == "HEAD" else method
        for pattern, methods in self._routes.get(path.count("/"), ()):
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if method in methods:
                request.path_values = match.groupdict()
                return methods[method], []
            allowed = allowed or sorted(methods)
        return None, allowed

    def _fall_back(self, request: Request, allowed: Sequence[str]) -> Response:
        """Return the API's response to a request that no operation matches. Raises ApiError."""
        path = request.path.removesuffix("/") if request.service.is_lenient else request.path
        at_path = operations_at(request.service.submits(), path)
        request.operation = next((each for each in at_path if each.method == request.method), None)
        handler = request.service.fallback(request)
        if handler is not None:
            inject_fault(request)
            if request.operation and not request.stub:
                read_submit(request, request.operation)
                if self._is_strict:
                    check_names(request)
            return handler(request)
        if allowed:
            text = ", ".join(allowed)
            problem = f"{request.path} does not answer {request.method[:20]}. Allowed: {text}."
            raise ApiError("wrong method", problem, headers=[(b"allow", text.encode())])
        line, name = f"{request.method} {request.path[:200]}", request.service.name
        parts, operations = line.split("/"), dict[str, str]()
        submits = (f"{each.method} {each.path}" for each in request.service.submits())
        for operation in (*self._operations[name], *request.sandbox.stub_paths(name), *submits):
            # Parameters are replaced by the request's segments, so that ids do not count as differences.
            segments = [
                parts[index] if segment.startswith("{") and index < len(parts) else segment
                for index, segment in enumerate(operation.split("/"))
            ]
            operations["/".join(segments)] = operation
        nearest = operations[str(closest(line, list(operations), cutoff=0.0))]
        raise ApiError("unknown path", f"No operation of the contract answers {line}. The nearest is {nearest}.")


def _finish(verification: Coroutine[Any, Any, None]) -> None:
    """Run connexion's coroutine to its end without an event loop, since no authenticator waits."""
    try:
        verification.send(None)
    except StopIteration:
        return
    raise TypeError("an authenticator waits; it must be a plain function.")


async def receive_body(headers: Headers, receive: Receive) -> bytes | ApiError | None:
    """Return the body; an error when it is over MAX_BODY_BYTES, and None when the client has disconnected."""
    declared, body = declared_size(headers), bytearray()
    size, more = declared or 0, declared != 0
    while more and size <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        size = len(body)
        more = message.get("more_body", False)
    if size > MAX_BODY_BYTES:
        # The connection stays open: if it closed during the body, many clients would not read the response.
        return ApiError("body too large", f"The body is larger than {MAX_BODY_BYTES} bytes.")
    return bytes(body)


def inject_fault(request: Request) -> None:
    """Choose the fault of a request; the app applies it. Raises ApiError if the operation must not be executed."""
    if not request.sandbox.faults.by_name:
        return
    fault = request.fault = request.sandbox.faults.inject(request)
    if fault is not None and not fault.carries_out:
        raise fault_error(fault)


def fault_error(injected: InjectedFault) -> ApiError:
    """Return the error that replaces a response; ``apply_fault`` then sets a status below 400."""
    fault, status = injected.fault, injected.fault.own_status or 503
    message, what = fault.error_message or "", f"fault injected: {injected.name}"
    return ApiError("fault", what, status=status if status >= 400 else 503, code=fault.error_code, message=message)


def render(request: Request, error: Exception) -> Encoded:
    """Return the response of an error; log the mock's own errors."""
    if isinstance(error, HTTPException) and error.status_code in KIND_BY_STATUS:
        error = ApiError(KIND_BY_STATUS[error.status_code], str(error.detail or ""))
    if isinstance(error, (StoreUnavailable, SandboxFull)):
        if isinstance(error, StoreUnavailable):
            logging.getLogger("oceanmock").error("%s", error)
        error = ApiError("unavailable", str(error))
    request.error = str(error)
    is_expected = isinstance(error, CallerError)
    if isinstance(error, ApiError):
        is_expected = error.status_code < 500 or error.kind in ("fault", "unavailable")
    if not is_expected:
        what = f"{type(error).__name__}({mask_text(str(error))!r})"
        line = mask_text(f"{request.method} {request.path}: {what}")
        logging.getLogger("oceanmock").error("%s\n%s", line, mask_error(error))
    return encode(request.service.render_error(request, error), request.service)


def encode(response: Response, service: Service) -> Encoded:
    """Return the status, headers and bytes of a response."""
    content = response.body
    if response.fragment is not None:
        content = {**content, "data": orjson.Fragment(response.fragment.json)}
    body = content if isinstance(content, bytes) else service.encode(content)
    headers = list(response.headers)
    if response.status not in BODILESS:
        headers.insert(0, (b"content-length", str(len(body)).encode()))
    if response.media_type is not None:
        headers.insert(0, (b"content-type", response.media_type))
    return response.status, headers, body
