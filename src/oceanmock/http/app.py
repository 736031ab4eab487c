"""The ASGI app: find a request's sandbox, let its pipeline respond, apply the injected fault, and write the journal.

A request names its sandbox by the port it came to, by the header ``X-Oceanmock-Sandbox``, or by a path that begins with
``/sandboxes/{name}``; otherwise it is ``default``. A request that names two is refused. Sandboxes share pipelines: the
app builds one for each variant of the contracts that their switches select, on first use.
"""

from __future__ import annotations

import gc
from asyncio import CancelledError, get_running_loop, timeout
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import cached_property, partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import ref

from oceanmock.api import Api, ApiError, Headers, Request
from oceanmock.apis import APIS, make_sandbox
from oceanmock.clock import SECOND, stopwatch, wall_now
from oceanmock.engine.faults import InjectedFault, apply_fault
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.sandboxes import DEFAULT_SANDBOX, Sandboxes, SharedSandboxes
from oceanmock.engine.store import NoSuchSandbox, StoreUnavailable, quoted_name
from oceanmock.errors import CallerError, EnvironmentProblem
from oceanmock.http import (
    CLOSE,
    LOOP,
    REPEAT,
    AsgiApp,
    Encoded,
    Receive,
    ScenarioCatalog,
    Scope,
    Send,
    admin,
    on_loop,
    plain_error,
    send_response,
)
from oceanmock.http.pipeline import Pipeline, encode, fault_error, receive_body, render
from oceanmock.journal.entries import Entry
from oceanmock.scenario import BaseScenario

if TYPE_CHECKING:
    from oceanmock.http.server import Ports

SANDBOX_HEADER: Final = b"x-oceanmock-sandbox"
SANDBOX_PATH: Final = "/sandboxes/"
CORS_HEADERS: Final = [("access-control-allow-origin", "*"), ("access-control-expose-headers", "*")]
PREFLIGHT_HEADERS: Final[Headers] = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
    (b"access-control-allow-headers", b"*, Authorization"),  # which * does not stand for
    (b"access-control-max-age", b"600"),
)
MAX_WORKERS: Final = 16  # how many requests of a replica wait for the store at once
_NO_SANDBOX: Final[Any] = None
_T = TypeVar("_T")


class TwoSandboxes(CallerError):
    """A request names two different sandboxes."""


def create_app(sandbox: Sandbox, **options: Any) -> App:
    """Return the ASGI app that serves a sandbox, and those of its store; ``options`` are those of ``App``."""
    if sandbox.store.replica:
        return Replica(SharedSandboxes(sandbox), **options)
    return App(Sandboxes(sandbox), **options)


class App:
    """The sandboxes of a server, and the admin API that controls them.

    The admin API requires the ``token``; without one it accepts only this machine. ``scenarios`` extend the library.
    Credentials expire by the clock ``wall``, since clients date them by their machine's. With ``strict``, pipelines
    report what the contract does not have; with ``cors``, pages of any origin may send requests.

    The server adds ``response_headers`` to every response, and sets ``ports``, which opens further ports, of
    ``port_range`` if that is set. The app calls ``on_exchange`` after it wrote an exchange to the journal, and counts
    ``requests`` by API, operation and status. With ``has_process``, which a server alone in its process sets, garbage
    collection skips the objects that were loaded. Raises InputError when a contract and its handlers do not match.
    """

    is_replica = False

    def __init__(
        self,
        sandboxes: Sandboxes,
        *,
        token: str | None = None,
        scenarios: Iterable[BaseScenario] = (),
        wall: Callable[[], int] = wall_now,
        apis: Sequence[Api] = APIS,
        cors: bool = False,
        strict: bool = False,
    ) -> None:
        self.sandboxes = sandboxes
        self.token: Final = token
        self.catalog = ScenarioCatalog(scenarios)
        self.apis: Final = apis
        self.ports: Ports | None = None
        self.port_range: range | None = None
        self.requests = Counter[tuple[str, str, int | None]]()
        self.on_exchange: Callable[[Request, Entry], object] | None = None
        self.has_process = False
        self._is_strict: Final = strict
        self.response_headers: Final = CORS_HEADERS if cors else []
        self._admin_sandbox = make_sandbox(apis=())  # no fault of another sandbox is injected there
        self._factories = [api.handlers.ServiceFactory(wall=wall) for api in apis]
        self._pipelines: dict[tuple[Hashable, ...], Pipeline] = {}
        self._executor = ThreadPoolExecutor(1, "oceanmock-admin")
        self.workers: Final = ThreadPoolExecutor(MAX_WORKERS, "oceanmock-store")  # a thread starts when it is needed
        self._pipeline_of(sandboxes.default)  # built now, so that an error in a contract shows

    def on_start(self) -> None:
        """Open the ports of the sandboxes that exist at the start. Raises EnvironmentProblem."""
        for sandbox in () if self.is_replica else [*self.sandboxes]:
            if sandbox.spec.ports or sandbox.name == DEFAULT_SANDBOX:
                self.open_ports(sandbox)

    def open_ports(self, sandbox: Sandbox) -> Sandbox:
        """Listen where the servers that a sandbox stands for do; put it with these ports. Raises EnvironmentProblem."""
        fresh = self.with_ports(sandbox)
        if fresh is sandbox:
            return sandbox
        return self.sandboxes.put(fresh) or self.sandboxes.get(sandbox.name)  # another replica was faster

    def with_ports(self, sandbox: Sandbox) -> Sandbox:
        """Listen where a sandbox's servers do; return it for ``put``, with these ports. Raises EnvironmentProblem."""
        asked = [port for world in sandbox.worlds.values() for port in world.listens_on]
        if not asked or self.ports is None:
            return sandbox
        name, before = sandbox.name, tuple(sandbox.spec.ports)
        own, ports = [port for port, owner in self.sandboxes.ports.items() if owner == name], list[int]()
        try:
            for stated, known in zip_longest(asked, before[: len(asked)], fillvalue=0):
                port = stated or known or next((port for port in own if port not in ports), 0)
                if port not in own:
                    port = on_loop(partial(self.ports.open, port))
                    self.sandboxes.ports[port] = name
                ports.append(port)
        except EnvironmentProblem:
            for port in {*ports} - {*own}:
                del self.sandboxes.ports[port]
                on_loop(partial(self.ports.close, port))
            raise
        if tuple(ports) == before:
            return sandbox
        fresh = self.sandboxes.rebuild(name, sandbox.spec.scenarios, replaces=True, ports=tuple(ports))
        fresh.base = sandbox.base
        return fresh

    def replace_scenarios(self, scenarios: Sequence[BaseScenario]) -> None:
        """Reset ``default`` with other scenarios, which then extend the library. Call it on the server's event loop.

        Raises InputError where they contradict each other, EnvironmentProblem for a port; then nothing has changed.
        """
        loaded = None
        while loaded is None:  # another replica may be faster
            fresh = self.sandboxes.rebuild(DEFAULT_SANDBOX, scenarios, replaces=True)
            loaded = self.sandboxes.put(fresh if self.is_replica else self.with_ports(fresh))
        self.catalog = ScenarioCatalog(scenarios)

    @cached_property
    def _admin(self) -> Pipeline:
        return Pipeline([admin.service(self)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self._executor.shutdown()
            self.workers.shutdown()
            await send({"type": "lifespan.shutdown.complete"})
            return
        began = stopwatch()
        response = self.dispatch(scope, await receive_body(scope["headers"], receive), began=began)
        await send_response(response, scope, receive, send)

    def dispatch(self, scope: Scope, body: bytes | ApiError | None, *, began: int | None = None) -> Encoded | AsgiApp:
        """Return the response to a request, or an ASGI app that sends it.

        ``body`` is what ``receive_body`` returned; ``began`` is the stopwatch's time when the request came.
        """
        may_be_preflight = self.response_headers and scope["method"] == "OPTIONS"
        if may_be_preflight and any(name == b"access-control-request-method" for name, _ in scope["headers"]):
            return 204, PREFLIGHT_HEADERS, b""
        if scope["path"].startswith(admin.ADMIN_PREFIX) or scope["path"] == "/":
            if body is None:
                return _send_nothing
            request = self._admin.request_of(scope, self._admin_sandbox)
            if admin.takes_long(self, request, body):
                return partial(self._respond_in_thread, request, body)
            return self._admin.respond(request, body)
        try:
            sandbox = self.sandboxes.get(self._name_of(scope))
            sandbox.renew()
            pipeline = self._pipeline_of(sandbox)
            request = pipeline.request_of(scope, sandbox)
            exchange = _Exchange(self, pipeline, request, stopwatch() if began is None else began)
            response = exchange.respond(body)
            if request.is_valid:
                template = request.again(_NO_SANDBOX, 0)  # so that no deleted sandbox stays in memory
                scope[REPEAT] = partial(self._repeat, template, pipeline, ref(sandbox), sandbox.generation)
            return response
        except (NoSuchSandbox, TwoSandboxes) as error:  # in no API's envelope
            return plain_error(404 if isinstance(error, NoSuchSandbox) else 400, str(error))

    async def _respond_in_thread(
        self, request: Request, body: bytes | ApiError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Respond to a request of the admin API in a thread, one at a time, while the event loop serves others.

        The garbage collector is off meanwhile: its passes would stop every thread to search the objects that are being
        loaded. Deleted sandboxes and their scenarios are in no reference cycle.
        """

        def respond() -> Encoded:
            gc.disable()
            try:
                response = self._admin.respond(request, body)
                if self.has_process and response[0] < 400:  # an error may leave cycles, which must be collected
                    gc.freeze()
                return response
            finally:
                gc.enable()

        await send_response(await _run_in(self._executor, respond), scope, receive, send)

    def _repeat(
        self, template: Request, pipeline: Pipeline, sandbox_ref: ref[Sandbox], generation: int
    ) -> Encoded | None:
        """Return the response to a valid request sent again; None if its sandbox was replaced, or has faults."""
        sandbox, began = sandbox_ref(), stopwatch()
        if sandbox is None or sandbox.generation != generation or sandbox.faults.by_name:
            return None
        try:
            if self.sandboxes.get(sandbox.name) is not sandbox or self._pipeline_of(sandbox) is not pipeline:
                return None
            sandbox.renew()
            request = template.again(sandbox, sandbox.clock.now())
            response = _Exchange(self, pipeline, request, began).respond(request.body)
        except NoSuchSandbox:
            return None
        return response if isinstance(response, tuple) else None

    def _pipeline_of(self, sandbox: Sandbox) -> Pipeline:
        variants = tuple([factory.variant_of(sandbox) for factory in self._factories])
        pipeline = self._pipelines.get(variants)
        if pipeline is None:
            services = [factory.service(variant) for factory, variant in zip(self._factories, variants, strict=True)]
            pipeline = self._pipelines[variants] = Pipeline(services, is_strict=self._is_strict)
        return pipeline

    def _name_of(self, scope: Scope) -> str:
        """Return the name of a request's sandbox, and remove it from the path. Raises TwoSandboxes."""
        names = [value.decode("latin-1") for key, value in scope["headers"] if key == SANDBOX_HEADER]
        _, port = scope.get("server") or ("", None)
        if port in self.sandboxes.ports:
            names.insert(0, self.sandboxes.ports[port])
        root: str = scope.get("root_path", "")
        path: str = scope["path"].removeprefix(root)
        if path.startswith(SANDBOX_PATH):
            name, slash, rest = path.removeprefix(SANDBOX_PATH).partition("/")
            scope["path"] = root + slash + rest
            names.append(name)
        if len(set(names)) > 1:
            one, other, *_ = map(quoted_name, dict.fromkeys(names))
            problem = f"the request names two sandboxes, {one} and {other}."
            raise TwoSandboxes(f"{problem} Its port, its header and its path must mean the same one.")
        return names[0] if names else DEFAULT_SANDBOX


class Replica(App):
    """An app with a shared store: worker threads wait for the store, and the event loop does not.

    A sandbox has one request at a time. Without the store every request is refused in its API's envelope.
    """

    is_replica = True
    sandboxes: SharedSandboxes

    def dispatch(self, scope: Scope, body: bytes | ApiError | None, *, began: int | None = None) -> Encoded | AsgiApp:
        """Return an ASGI app that responds in a thread, or the response to a health check, which needs no store."""
        if scope["path"].removesuffix("/") == admin.HEALTH_PATH:
            return super().dispatch(scope, body)
        return partial(self._respond_later, body, stopwatch() if began is None else began)

    async def _respond_later(
        self, body: bytes | ApiError | None, began: int, scope: Scope, receive: Receive, send: Send
    ) -> None:
        dispatch = super().dispatch

        def respond() -> Encoded | AsgiApp:
            try:
                with self.sandboxes.request():
                    return dispatch({**scope}, body, began=began)  # a copy: the server must find no REPEAT
            except StoreUnavailable as error:
                own = {**scope}
                sandbox = self.sandboxes.kept(self._name_of(own))
                return render(self._pipeline_of(sandbox).request_of(own, sandbox), error)

        is_check = scope["path"].startswith(admin.READY_PATH)
        executor = self._executor if is_check else self.workers  # so that a check waits for no other request
        await send_response(await _run_in(executor, respond), scope, receive, send)

    def replace_scenarios(self, scenarios: Sequence[BaseScenario]) -> None:
        """Reset ``default`` for every replica; the library is this one's."""
        with self.sandboxes.request():
            super().replace_scenarios(scenarios)


async def _run_in(executor: ThreadPoolExecutor, respond: Callable[[], _T]) -> _T:
    """Run a function in a thread in which ``LOOP`` is this event loop; return the result."""
    loop = get_running_loop()
    LOOP.set(loop)
    return await loop.run_in_executor(executor, copy_context().run, respond)


async def _send_nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Send nothing to a client that has disconnected."""


class _ClientDisconnected(Exception):
    """The client disconnected before the whole response was sent."""


class _Exchange:
    """One request and its response, with its injected fault.

    It is recorded before the last byte is sent: a client that has the whole response finds it in the journal.
    """

    _scope: Scope
    _receive: Receive

    def __init__(self, app: App, pipeline: Pipeline, request: Request, began: int) -> None:
        self._app, self._pipeline, self._request = app, pipeline, request
        self._began, self._wall = began, wall_now()

    def respond(self, body: bytes | ApiError | None) -> Encoded | AsgiApp:
        """Return the response, or an ASGI app that sends it with its fault; without a body, one that sends nothing."""
        if body is None:
            self._request.error = "The client went away before its request was complete."
            self._record()
            return _send_nothing
        response = self._pipeline.respond(self._request, body)
        fault = self._request.fault
        if fault is not None:
            if fault.fault.is_conditional and not fault.carries_out:  # or a clock under ``polls`` would not move
                self._request.sandbox.note_read(type(self._request.sandbox.worlds[self._request.service.name]))
            return partial(self._send_faulty, fault, response)
        self._record(*response)
        return response

    async def _send_faulty(
        self, fault: InjectedFault, response: Encoded, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Send the response late, changed, in pieces, cut off, or not at all."""
        self._scope, self._receive, request = scope, receive, self._request
        status, headers, body = None, list[tuple[bytes, bytes]](), b""
        try:
            await self._wait(fault.delay)
            if fault.fault.reset or fault.fault.drop_response:
                await self._record_late()
                await self._close(reset=True)
                return
            if fault.fault.own_status is not None and fault.carries_out:
                error = fault_error(fault)
                response = encode(request.service.render_error(request, error), request.service)
            elif fault.fault.own_status is None and not fault.carries_out:
                response = (200, *response[1:])
            changed = apply_fault(fault, *response)
            status, headers = changed.status, list(changed.headers)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            *chunks, last = changed.chunks or (b"",)
            for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                body += chunk
                await self._wait(changed.pause)
            await self._record_late(status, headers, body + last)
            await send({"type": "http.response.body", "body": last, "more_body": changed.is_cut})
            if changed.is_cut:
                await self._close(reset=False)
        except _ClientDisconnected:
            request.error = request.error or "The client did not wait for the answer."
            await self._record_late(status, headers, body)
        except CancelledError:
            if CLOSE not in self._scope:
                raise
            await self._close(reset=False)  # the server stops

    async def _wait(self, span: int) -> None:
        """Wait for nanoseconds of real time. Raises _ClientDisconnected."""
        if span:
            with suppress(TimeoutError):
                async with timeout(span / SECOND):
                    await self._until_disconnected()
                raise _ClientDisconnected

    async def _until_disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _close(self, *, reset: bool) -> None:
        """Close or reset the connection; raise ConnectionResetError if the server cannot."""
        close = self._scope.get(CLOSE)
        if close is None:
            raise ConnectionResetError("the connection was cut on purpose")
        close(reset=reset)
        await self._until_disconnected()

    async def _record_late(self, *response: Any) -> None:
        """Record the exchange; in a replica in a thread, so that the event loop does not wait for the store."""
        if self._app.is_replica:
            with suppress(StoreUnavailable):
                await get_running_loop().run_in_executor(self._app.workers, self._record, *response)
        else:
            self._record(*response)

    def _record(self, status: int | None = None, headers: Headers = (), body: bytes = b"") -> None:
        """Write the exchange to the sandbox's journal, with the part of the response that was sent."""
        request = self._request
        entry = Entry(
            number=0,
            at=request.received_at,
            wall=self._wall,
            took=stopwatch() - self._began,
            api=request.service.name,
            operation=request.operation.id if request.operation else "",
            method=request.method,
            path=request.path,
            query=request.query.decode("latin-1"),
            ids=request.path_values,
            caller=request.caller,
            request_body=request.body,
            status=status,
            response_body=body,
            refusal=request.error,
            fault=request.fault.name if request.fault else "",
            stub=request.stub,
            request_headers=request.headers,
            response_headers=headers,
        )
        request.sandbox.journal.record(entry)
        self._app.requests[entry.api, entry.operation, status] += 1
        if self._app.on_exchange is not None:
            self._app.on_exchange(request, entry)
