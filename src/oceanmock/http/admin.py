"""The admin API's handlers: sandboxes, their clocks, journals, faults and tasks, over HTTP.

The pipeline validates each request by openapi/admin.yaml first. An invalid request has the status 400, one for
something that does not exist 404, and a conflict 409. A server with a token requires it of every client; one without
accepts only requests from its own machine.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import parse_qsl

import orjson

from oceanmock import __version__, http
from oceanmock.admin_client import VERIFICATION_FAILED
from oceanmock.api import Api, ApiError, Headers, Json, Request, Response, Service
from oceanmock.apis import api_named, operations_by_api
from oceanmock.clock import LATEST, MILLISECOND, Clock, stopwatch
from oceanmock.engine import log
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.sandboxes import DEFAULT_SANDBOX, MAX_OWN_PORTS
from oceanmock.engine.store import NoSuchSandbox, SandboxDeleted, SandboxTaken, StoreUnavailable, TooManySandboxes
from oceanmock.engine.world import TaskItem
from oceanmock.errors import CallerError, EnvironmentProblem, IdTaken, InputError, NoSuchTask
from oceanmock.http.validation import hint_for
from oceanmock.journal import MAX_STORE_BYTES
from oceanmock.journal.entries import Query
from oceanmock.library import read_fault
from oceanmock.openapi import operations_of, spec_path
from oceanmock.report import report_of, report_text
from oceanmock.text import did_you_mean, format_duration, format_instant, list_existing, round_duration, suggest

if TYPE_CHECKING:
    from oceanmock.http.app import App

ADMIN_PREFIX: Final = "/__admin/"
HEALTH_PATH: Final = f"{ADMIN_PREFIX}health"
READY_PATH: Final = f"{ADMIN_PREFIX}ready"
RESPONSE_HEADERS: Final[Headers] = ((b"x-oceanmock-version", __version__.encode()),)
"""Of every response: clients recognize oceanmock by them."""
MAX_LISTED_TASKS: Final = 10_000
LARGE_BODY: Final = 2 * 1024
LARGE_JOURNAL: Final = 256 * 1024
LARGE_SANDBOX: Final = 200
MANY_SANDBOXES: Final = 500
"""Above these numbers of bytes, attempts and sandboxes, a request would block the event loop for more than 20 ms."""
_LONG_REQUEST: Final = re.compile(
    re.escape(ADMIN_PREFIX) + "sandboxes(?:/(?P<name>[^/]+)(?:/(?P<part>scenarios|tasks|reset|journal(?:/verify)?))?)?"
)
PERMITTED: Final = frozenset({"ADMIN"})
_T = TypeVar("_T")


class Conflict(CallerError):
    """The state of the server or of a sandbox does not allow a request."""


STATUSES: Final[Mapping[int, tuple[type[Exception], ...]]] = {
    404: (NoSuchSandbox,),
    409: (SandboxTaken, TooManySandboxes, IdTaken, Conflict),
}


def service(app: App) -> Service:
    """Return the admin API of an app."""
    handlers = AdminHandlers(app)
    return Service(
        name="admin",
        prefix=ADMIN_PREFIX,
        spec=handlers.spec,
        handlers=dict.fromkeys(handlers.methods, handlers.respond),
        render_error=handlers.render_error,
        security={"apiKey": handlers.authenticate, "bearer": handlers.authenticate},
        encode=orjson.dumps,
        open=http.take_text_for_json,
        is_lenient=True,  # tools that wait for a server send HEAD
    )


def _clock_json(clock: Clock) -> Json:
    return {"progression": clock.progression, "speed": clock.speed, "now": format_instant(clock.now())}


def takes_long(app: App, request: Request, body: bytes | ApiError) -> bool:
    """Return whether a request would block the event loop: it has or concerns a large scenario, journal or sandbox."""
    match = _LONG_REQUEST.fullmatch(request.path)
    if app.is_replica or match is None or isinstance(body, ApiError):
        return False
    name, part = match.groups()
    if len(body) > LARGE_BODY or (b"&" in body and b"*" in body):  # YAML aliases make much of few bytes
        return True
    if name is None and request.method == "GET":
        return len(app.sandboxes) > MANY_SANDBOXES
    try:
        sandbox = app.sandboxes.get(name or DEFAULT_SANDBOX)
    except NoSuchSandbox:
        return False
    if part in ("journal", "journal/verify"):
        return sandbox.journal.bytes > LARGE_JOURNAL
    is_built = part in ("reset", "scenarios") or (name == DEFAULT_SANDBOX and request.method == "DELETE")
    return is_built and http.steps_in(sandbox.spec.scenarios, app.apis) > LARGE_SANDBOX


class AdminHandlers:
    """The operations: methods with the operationIds in snake case. Each returns the response's JSON or text.

    ``request.sandbox`` is the sandbox in the path.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.spec = http.admin_spec(app.apis)
        self.methods = {
            operation.id: getattr(self, re.sub("([A-Z])", r"_\1", operation.id).lower())
            for operation in operations_of(self.spec)
        }
        self._began = stopwatch()

    def authenticate(self, request: Request) -> frozenset[str]:
        """Check the token; without one on the server, that the request comes from this machine. Raises ApiError."""
        if self.app.token is None:
            http.check_is_own(request)
            return PERMITTED
        tokens = []
        for name, value in request.headers:
            if name == b"x-oceanmock-token":
                tokens.append(value.strip())
            elif name == b"authorization":
                scheme, _, rest = value.strip().partition(b" ")
                tokens.append(rest.strip() if scheme.lower() == b"bearer" else value)
        if not tokens:
            raise ApiError("unauthenticated", "This needs the token of the server, in the header X-Oceanmock-Token.")
        expected = self.app.token.encode()
        matches = [hmac.compare_digest(expected, token) for token in tokens]  # no early end
        if not all(matches):
            raise ApiError("bad credentials", "This is not the token of the server.")
        return PERMITTED

    def respond(self, request: Request) -> Response:
        """Call the operation's method. Errors in a scenario or of the environment become errors of the request."""
        assert request.operation is not None
        try:
            if "sandbox" in request.parameters:
                request.sandbox = self.app.sandboxes.get(request.parameters["sandbox"])
                request.sandbox.renew()
            body: Json | str | Response = self.methods[request.operation.id](request)
        except SandboxDeleted as error:  # by another replica
            raise NoSuchSandbox(request.sandbox.name, ()) from error
        except InputError as error:
            raise ApiError("wrong request", str(error)) from None
        except EnvironmentProblem as error:
            raise Conflict(str(error)) from None
        if isinstance(body, Response):
            return body
        if isinstance(body, str):
            return Response(200, body.encode(), RESPONSE_HEADERS, b"text/plain; charset=utf-8")
        return Response(int(request.operation.statuses[0]), body, RESPONSE_HEADERS)

    def get_index(self, request: Request) -> Json:
        names, root = ["admin", *(api.name for api in self.app.apis)], http.prefix_of(request) + ADMIN_PREFIX
        return {
            "version": __version__,
            "links": {name: f"{root}{name}" for name in ("ready", "scenarios", "sandboxes")},
            "contracts": {name: f"{root}openapi.yaml?api={name}" for name in names},
        }

    def get_contract(self, request: Request) -> str:
        name = request.parameters["api"]
        own = None if name == "admin" else api_named(name, self.app.apis).contract
        return (own or spec_path(name)).read_text(encoding="utf-8")

    def get_health(self, request: Request) -> Json:
        sandboxes, store = self.app.sandboxes, self.app.sandboxes.store
        metrics = store.metrics()
        return {
            "status": "ok",
            "version": __version__,
            "sandboxes": metrics["sandboxes"],
            "max_sandboxes": sandboxes.limit,
            "journal_bytes": metrics["journal_bytes"],
            "max_journal_bytes": MAX_STORE_BYTES,
            "uptime": format_duration((stopwatch() - self._began) // MILLISECOND * MILLISECOND),
            **store.replica_details(),
        }

    def get_readiness(self, request: Request) -> Json:
        """Return the same as ``getHealth``. Raises StoreUnavailable where a replica cannot use its store."""
        self.app.sandboxes.store.ping()
        return self.get_health(request)

    def get_metrics(self, request: Request) -> str:
        store = self.app.sandboxes.store
        with suppress(StoreUnavailable):
            store.ping()
        return http.metrics_text(self.app.requests, store.metrics())

    def list_scenarios(self, request: Request) -> Json:
        catalog = self.app.catalog
        return {"scenarios": [http.head_json(catalog.get(name)) for name in catalog.names()]}

    def list_sandboxes(self, request: Request) -> Json:
        self._remove_expired()
        own_ports = self._own_ports()
        return {"sandboxes": [self._json(request, item, own_ports) for item in self.app.sandboxes]}

    def create_sandbox(self, request: Request) -> Json:
        self._remove_expired()
        sandbox = self.app.sandboxes.build(request.content.get("name"), http.read_spec(request.content, self.app))
        return self._change(lambda: self._add(request, sandbox))

    def _remove_expired(self) -> None:
        self._change(lambda: self._close_ports(self.app.sandboxes.remove_expired()))

    def _add(self, request: Request, sandbox: Sandbox) -> Json:
        sandboxes, ports = self.app.sandboxes, self.app.ports
        if not request.content.get("own_port"):
            return self._json(request, sandboxes.add(sandbox))
        count = sum(len(world.listens_on) for world in sandbox.worlds.values()) or 1
        if len(sandboxes.ports) + count > MAX_OWN_PORTS:
            raise Conflict(f"{MAX_OWN_PORTS} sandboxes have ports of their own. Delete those that are done with.")
        if ports is None:
            raise Conflict("this server cannot listen on further ports; leave out `own_port`.")
        sandboxes.add(sandbox)
        try:
            sandbox = self.app.open_ports(sandbox)
            if not sandbox.spec.ports:
                sandboxes.ports[http.on_loop(ports.open)] = sandbox.name
        except EnvironmentProblem:
            self._close_ports(sandboxes.delete(sandbox.name))
            raise
        return self._json(request, sandbox)

    def get_sandbox(self, request: Request) -> Json:
        return self._json(request, request.sandbox)

    def delete_sandbox(self, request: Request) -> Json:
        """Delete a sandbox; reset the default one instead, and count no deleted one."""
        name = request.sandbox.name
        if name == DEFAULT_SANDBOX:
            self.reset_sandbox(request)
            return {"deleted": 0}
        self._close_ports(self.app.sandboxes.delete(name))
        return {"deleted": 1}

    def _close_ports(self, numbers: Iterable[int]) -> None:
        for port in numbers:
            if self.app.ports is not None:
                http.on_loop(partial(self.app.ports.close, port))

    def _change(self, change: Callable[[], _T]) -> _T:
        """Read or change sandboxes on the event loop; in a replica, which waits for its store, in this thread."""
        return change() if self.app.is_replica else http.on_loop(change)

    def reset_sandbox(self, request: Request) -> Json:
        sandboxes = self.app.sandboxes
        while True:
            fresh = sandboxes.rebuild(request.sandbox.name)
            if self._change(partial(sandboxes.put, fresh)) is not None:
                return self._change(partial(self._json, request, fresh))

    def load_scenarios(self, request: Request) -> Json:
        sandboxes, sandbox, apis = self.app.sandboxes, request.sandbox, self.app.apis
        scenarios, replaces = self.app.catalog.read(request.content, apis), request.content.get("replace", False)

        def load() -> Sandbox | None:
            current = sandboxes.get(sandbox.name)
            if fresh is not None and (replaces or (current is sandbox and current.is_untouched)):
                has_ports = sandbox.name in {*sandboxes.ports.values(), DEFAULT_SANDBOX}
                return sandboxes.put(self.app.with_ports(fresh) if has_ports else fresh, if_untouched=not replaces)
            if current.is_untouched:  # it was reset in the meantime
                return None
            place = f"loaded at once into sandbox {sandbox.name!r}, which is in use."
            fix = "Load them in parts, or into a fresh one."
            http.check_size(scenarios, apis, http.MAX_LOADED_STEPS, f"{place} {fix}")
            current.execute(log.Load(scenarios))
            return current

        try:
            while True:
                is_new = replaces or sandbox.is_untouched
                fresh = sandboxes.rebuild(sandbox.name, scenarios, replaces=replaces) if is_new else None
                loaded = self._change(load)
                if loaded is not None:
                    return self._change(partial(self._json, request, loaded))
                sandbox = sandboxes.get(sandbox.name)
        except InputError as error:
            raise Conflict(str(error)) from None

    def get_report(self, request: Request) -> Json | str:
        report = report_of(request.sandbox, max_tasks=request.parameters["tasks"])
        return report if request.parameters["format"] == "json" else report_text(report)

    def _own_ports(self) -> dict[str, int]:
        return {name: port for port, name in reversed(self.app.sandboxes.ports.copy().items())}

    def _json(self, request: Request, sandbox: Sandbox, own_ports: Mapping[str, int] | None = None) -> Json:
        """Return a sandbox as JSON; its URLs are relative where the request has no valid Host."""
        host = (request.header(b"host") or b"").decode("latin-1")
        host = host if re.fullmatch(r"[A-Za-z0-9.:_\[\]-]{1,255}", host) else ""
        server = f"{request.scheme}://{host}" if host else ""
        urls = {"path": f"{server}{http.prefix_of(request)}/sandboxes/{sandbox.name}"}
        own_ports = self._own_ports() if own_ports is None else own_ports
        if sandbox.name in own_ports:
            name = http.host_name(host) or "127.0.0.1"
            at = f"[{name}]" if ":" in name else name
            scheme = "https" if self.app.ports is not None and self.app.ports.has_tls else request.scheme
            urls["port"] = f"{scheme}://{at}:{own_ports[sandbox.name]}"
            if self.app.is_replica:
                urls["port_of"] = sandbox.store.replica
        body: Json = {
            "name": sandbox.name,
            **_clock_json(sandbox.clock),
            "started": format_instant(sandbox.started),
            "seed": sandbox.spec.seed,
            "requests": sandbox.journal.count(),
            "faults": len(sandbox.faults.by_name),
            "scenarios": [http.head_json(scenario) for scenario in sandbox.scenarios],
        }
        if (left := sandbox.lease_left()) is not None:
            body |= {"ttl": format_duration(sandbox.spec.ttl or 0), "ttl_left": round_duration(max(left, 0))}
        for api in self.app.apis:
            world = sandbox.worlds[api.name]
            body |= {api.scripts_key: len(world), **world.details()}
        return body | {"urls": urls}

    def get_clock(self, request: Request) -> Json:
        clock, due = request.sandbox.clock, request.sandbox.next_due()
        next_due = None if due is None else format_instant(due)
        return {**_clock_json(clock), "next_due": next_due}

    def set_clock(self, request: Request) -> Json:
        request.sandbox.execute(log.SetClock(**request.content))
        return self.get_clock(request)

    def advance_clock(self, request: Request) -> Json:
        by = http.read_duration("by", request.content["by"])
        return self._move(request, lambda: request.sandbox.clock.now() + by)

    def move_clock(self, request: Request) -> Json:
        to = http.read_instant("to", request.content["to"])
        return self._move(request, lambda: to)

    def move_clock_to_next(self, request: Request) -> Json:
        due = request.sandbox.next_due()  # read before the command, so that two concurrent requests move once
        return self._move(request, lambda: request.sandbox.clock.now() if due is None else due)

    def _move(self, request: Request, instant: Callable[[], int]) -> Json:
        def command() -> log.MoveClock:
            to = instant()
            if to > LATEST:
                raise ApiError("wrong request", f"No clock goes further than {format_instant(LATEST)}.")
            return log.MoveClock(to)

        request.sandbox.execute(command)
        return self.get_clock(request)

    def get_journal(self, request: Request) -> Json:
        journal, params = request.sandbox.journal, dict(request.parameters)
        filters = sorted(request.compiled.parameters.of_query)
        for name, _ in parse_qsl(request.query.decode("latin-1"), keep_blank_values=True):
            if name not in filters:  # else it would silently match everything
                raise ApiError("wrong request", f"{name[:200]!r} is no filter. {suggest(name, filters)}")
        after, limit = params.pop("after"), params.pop("limit")
        del params["sandbox"]
        query, last = self._query(params), journal.last  # entries recorded meanwhile have greater numbers
        entries, has_more = journal.page(query, after=after, limit=limit)
        return {
            "entries": [entry.to_json() for entry in entries],
            "dropped": journal.dropped,
            "last": entries[-1].number if entries else last,
            "more": has_more,
        }

    def _query(self, filters: Json) -> Query:
        if name := filters.get("operation"):
            ids = (api.operation_id(name) for api in self.app.apis)
            filters = {**filters, "operation": next(filter(None, ids), name)}
        return Query.of(filters, operations_by_api(self.app.apis, with_submits="operation" in filters))

    def clear_journal(self, request: Request) -> Json:
        return {"deleted": request.sandbox.journal.clear()}

    def verify_journal(self, request: Request) -> Response:
        journal, limits = request.sandbox.journal, dict(request.content)
        queries = limits.pop("in_order", None)
        if (queries is None) is ("query" not in limits) or (queries is not None and limits):
            raise ApiError("wrong request", "Give either `query`, with a number or without, or `in_order` alone.")
        if limits.pop("never", False):
            if limits.keys() != {"query"}:
                raise ApiError("wrong request", "`never` says it all: leave out the numbers.")
            limits["times"] = 0
        if queries is not None:
            verdict = journal.verify_order([self._query(query) for query in queries])
        else:
            verdict = journal.verify(self._query(limits.pop("query")), **limits)
        return Response(200 if verdict["holds"] else VERIFICATION_FAILED, verdict, RESPONSE_HEADERS)

    def list_faults(self, request: Request) -> Json:
        return {"faults": [http.fault_json(item) for item in request.sandbox.faults.statistics()]}

    def add_fault(self, request: Request) -> Json:
        sandbox, fault = request.sandbox, read_fault(request.content)
        try:
            name = sandbox.execute(log.AddFault(fault))
        except InputError as error:
            raise Conflict(str(error)) from None
        return next(http.fault_json(item) for item in sandbox.faults.statistics() if item.name == name)

    def remove_faults(self, request: Request) -> Json:
        return {"deleted": request.sandbox.execute(log.ClearFaults())}

    def remove_fault(self, request: Request) -> Json:
        sandbox, name = request.sandbox, request.parameters["fault"]

        def command() -> log.RemoveFault:
            names = [*sandbox.faults.by_name]
            if name in names:
                return log.RemoveFault(name)
            hint = did_you_mean(name, names) or list_existing(names)
            raise ApiError("unknown path", f"there is no fault {name!r} in sandbox {sandbox.name!r}. {hint}")

        sandbox.execute(command)
        return {"deleted": 1}

    def list_tasks(self, request: Request) -> Json:
        worlds = request.sandbox.worlds.items()
        items = ({"api": name, **http.part_json(item)} for name, world in worlds for item in world.items())
        return {"tasks": [*islice(items, MAX_LISTED_TASKS)]}

    def create_task(self, request: Request) -> Json:
        """Create a task; of a template that repeats, return the first one."""
        sandbox, api = request.sandbox, api_named(request.content["api"], self.app.apis)
        scenario = http.read_template(api, request.content["template"], sandbox.worlds[api.name].settings())

        def create() -> Json:
            id: str = sandbox.execute(log.Create(api.name, scenario))
            return http.task_json(api, sandbox.worlds[api.name].item(id))

        return self._change(create)

    def get_task(self, request: Request) -> Json:
        return http.task_json(*self._task(request))

    def explain_task(self, request: Request) -> Json | str:
        params = request.parameters
        api, _ = self._task(request)
        explainer = api.module("explain").explain(request.sandbox, params["task"])
        if params["format"] == "timeline":
            body: Json | str = explainer.timeline()
        else:
            body = explainer.text(params["width"]) if params["format"] == "text" else explainer.to_json()
        return body

    def _task(self, request: Request) -> tuple[Api, TaskItem]:
        """Return the task in the path, and its API. Raises ApiError."""
        id, sandbox = request.parameters["task"], request.sandbox
        api = api_named(request.parameters["api"], self.app.apis)
        world = sandbox.worlds[api.name]
        try:
            return api, world.item(id)
        except (NoSuchTask, ValueError):
            hint = list_existing((item.number for item in islice(world.items(), 5)), len(world))
            problem = f"there is no {api.root.title} {id} in sandbox {sandbox.name!r}. {hint}"
            raise ApiError("unknown path", problem) from None

    def render_error(self, request: Request, error: Exception) -> Response:
        """Return an error as JSON: one sentence, or a line for each issue."""
        headers = [*RESPONSE_HEADERS]
        if isinstance(error, ApiError):
            status, text = error.status_code, error.detail
            headers += error.headers
            if error.kind == "unsupported media type":
                text += " Send the header Content-Type: application/json."
            if status == 401:
                headers.append((b"www-authenticate", b'Bearer realm="oceanmock"'))
            if request.operation is not None:
                text += hint_for(self.spec, request.operation, text)
        else:
            status = next((status for status, kinds in STATUSES.items() if isinstance(error, kinds)), 500)
            text = str(error) if status < 500 else "oceanmock has made a mistake."
        return Response(status, http.error_json(text), headers)
