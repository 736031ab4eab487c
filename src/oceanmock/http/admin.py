"""The admin API's handlers: sandboxes, their clocks, journals, faults and tasks, over HTTP.

The app validates a request by openapi/admin.yaml first. Invalid requests are answered 400, unknown
things 404 and conflicts 409. The path names the sandbox; other machines need the token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import orjson

from oceanmock import __version__
from oceanmock.api import Api, ApiError, Handler, Request, Response, Service
from oceanmock.apis import APIS, api_named, operations_by_api
from oceanmock.clock import LATEST, stopwatch
from oceanmock.engine.accounts import ALL_PERMISSIONS, Accounts, User
from oceanmock.engine.log import (
    AddFault,
    ClearFaults,
    MoveClock,
    RemoveFault,
    SandboxSpec,
    SetClock,
)
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.sandboxes import (
    DEFAULT_SANDBOX,
    NoSuchSandbox,
    Sandboxes,
    SandboxTaken,
    TooManySandboxes,
)
from oceanmock.errors import AuthorError, CallerError, EnvironmentProblem, IdTaken, NoSuchTask
from oceanmock.http.admin_access import token_check
from oceanmock.http.admin_contract import (
    admin_spec,
    hint_for,
    journal_filters,
    read_duration,
    read_instant,
)
from oceanmock.http.admin_json import (
    clock_json,
    fault_json,
    head_json,
    rows_of,
    sandbox_json,
    task_json,
)
from oceanmock.http.admin_scenarios import (
    ScenarioCatalog,
    check_api,
    check_size,
    check_switches,
    create_task,
)
from oceanmock.journal.query import Query
from oceanmock.library import read_fault
from oceanmock.openapi import operations_of
from oceanmock.scenario.fields import BaseScenario
from oceanmock.text import did_you_mean, format_duration, format_instant, shorten, suggest

PREFIX: Final = "/__admin/"
VERSION_HEADER: Final = b"x-oceanmock-version"
"""A header of every response, by which a client recognizes oceanmock."""
MAX_ERROR_LENGTH: Final = 64 * 1024
"""The length at which an error is cut; it may quote the request."""


class Ports(Protocol):
    """Opens further ports while the server runs."""

    def open(self, port: int = 0) -> int:
        """Listen on a further port, a free one if 0. Raises EnvironmentProblem."""

    def close(self, port: int) -> None:
        """Stop listening on a port."""


@dataclass(slots=True)
class AdminContext:
    """The dependencies of the handlers. The server sets ``ports``, once there is one.

    Without a ``token`` requests from other machines are refused.
    """

    sandboxes: Sandboxes
    catalog: ScenarioCatalog = field(default_factory=ScenarioCatalog)
    apis: Sequence[Api] = APIS
    token: str | None = None
    ports: Ports | None = None


class Unknown(CallerError):
    """A sandbox has no such fault or task."""


class Conflict(CallerError):
    """The state of the server or of a sandbox does not allow a request."""


_PAGING: Final = frozenset({"after", "limit"})


def service(context: AdminContext) -> Service:
    """Return the admin API as the app serves it."""
    handlers = AdminHandlers(context)
    check = token_check(lambda: context.token)
    return Service(
        name="admin",
        prefix=PREFIX,
        spec=handlers.spec,
        handlers={
            operation.id: _as_caller_errors(getattr(handlers, _snake_case(operation.id)))
            for operation in operations_of(handlers.spec)
        },
        render_error=handlers.render_error,
        security={"apiKey": check, "bearer": check},
        encode=orjson.dumps,
        open=_take_a_form_for_json,
    )


def _snake_case(operation_id: str) -> str:
    return re.sub("([A-Z])", r"_\1", operation_id).lower()


def _take_a_form_for_json(request: Request) -> None:
    """Read a form as JSON: curl declares the body of ``-d`` as a form."""
    if (request.header(b"content-type") or b"").startswith(b"application/x-www-form-urlencoded"):
        request.headers = [pair for pair in request.headers if pair[0] != b"content-type"]


def _as_caller_errors(handler: Handler) -> Handler:
    """Return a handler that raises author and environment errors as the caller's."""

    @wraps(handler)
    def handle(request: Request) -> Response:
        try:
            return handler(request)
        except AuthorError as error:
            raise ApiError("wrong request", str(error)) from None
        except EnvironmentProblem as error:
            raise Conflict(str(error)) from None

    return handle


class AdminHandlers:
    """The operations, by the names of their operationIds in snake case."""

    def __init__(self, context: AdminContext) -> None:
        self.context = context
        self.spec = admin_spec(context.apis)
        self._began = stopwatch()
        self._filters = frozenset(journal_filters(self.spec))

    @property
    def _sandboxes(self) -> Sandboxes:
        return self.context.sandboxes

    # --- the server ---

    def get_health(self, request: Request) -> Response:
        """Return that the server runs, and since when."""
        uptime = (stopwatch() - self._began) // 1_000_000 * 1_000_000
        return _respond(
            {
                "status": "ok",
                "version": __version__,
                "sandboxes": len(self._sandboxes),
                "uptime": format_duration(uptime),
            }
        )

    get_readiness = get_health

    def list_scenarios(self, request: Request) -> Response:
        """List all scenarios."""
        catalog = self.context.catalog
        return _respond({"scenarios": [head_json(catalog.get(name)) for name in catalog.names()]})

    # --- sandboxes ---

    def list_sandboxes(self, request: Request) -> Response:
        """List all sandboxes."""
        return _respond({"sandboxes": [self._json(request, item) for item in self._sandboxes]})

    def create_sandbox(self, request: Request) -> Response:
        """Create a sandbox; with a port of its own if the request asks for one."""
        body = request.content
        sandbox = self._sandboxes.create(body.get("name"), self._spec_of(body))
        if body.get("own_port"):
            try:
                self._open_port(sandbox)
            except (CallerError, EnvironmentProblem):
                self._sandboxes.delete(sandbox.name)
                raise
        return _respond(self._json(request, sandbox), status=201)

    def _spec_of(self, body: Mapping[str, Any]) -> SandboxSpec:
        """Return the specification that a body asks for. Raises AuthorError."""
        scenarios, start = self._scenarios(body), body.get("starts_at")
        switches = {api.name: body.get(api.switches_key, {}) for api in self.context.apis}
        for api in self.context.apis:
            check_switches(api, switches[api.name])
        return SandboxSpec(
            tuple(scenarios),
            seed=body.get("seed", 0),
            created=self._sandboxes.default.wall(),
            starts_at=None if start is None else read_instant("starts_at", start),
            progression=body.get("progression"),
            default_progression=body.get("otherwise", "time"),
            speed=body.get("speed", 1.0),
            switches=switches,
            accounts=self._accounts(body),
        )

    def _scenarios(self, body: Mapping[str, Any]) -> list[BaseScenario]:
        """Return the scenarios of a body. Raises AuthorError with all their errors."""
        values = enumerate(body.get("scenarios", []))
        scenarios = [self.context.catalog.scenario(s, place=f"scenarios[{n}]") for n, s in values]
        check_api(scenarios, body.get("api"))
        check_size(scenarios, self.context.apis)
        return scenarios

    def _accounts(self, body: Mapping[str, Any]) -> Accounts:
        """Return the accounts of a new sandbox: those of `default` but for what the body states."""
        accounts = self._sandboxes.default.accounts
        users = tuple(
            User(
                item["name"], item["password"], frozenset(item.get("permissions", ALL_PERMISSIONS))
            )
            for item in body.get("users", ())
        )
        required = body.get("auth", accounts.required)
        return replace(accounts, required=required, users=users or accounts.users)

    def _open_port(self, sandbox: Sandbox) -> None:
        if self.context.ports is None:
            raise Conflict("this server cannot listen on further ports; leave out `own_port`.")
        self._sandboxes.ports[self.context.ports.open()] = sandbox.name

    def get_sandbox(self, request: Request) -> Response:
        """Return a sandbox."""
        return _respond(self._json(request, self._sandbox(request)))

    def delete_sandbox(self, request: Request) -> Response:
        """Delete a sandbox and count 1, or reset the default one and count 0."""
        name, ports = request.parameters["sandbox"], self.context.ports
        for port in self._sandboxes.delete(name):
            if ports is not None:
                ports.close(port)
        return _deleted(int(name != DEFAULT_SANDBOX))

    def reset_sandbox(self, request: Request) -> Response:
        """Reset a sandbox."""
        return _respond(self._json(request, self._sandboxes.reset(request.parameters["sandbox"])))

    def load_scenarios(self, request: Request) -> Response:
        """Add scenarios to a sandbox."""
        scenarios = self._scenarios(request.content)
        try:
            sandbox = self._sandboxes.load(request.parameters["sandbox"], scenarios)
        except AuthorError as error:
            raise Conflict(str(error)) from None
        return _respond(self._json(request, sandbox))

    def _sandbox(self, request: Request) -> Sandbox:
        return self._sandboxes.get(request.parameters["sandbox"])

    def _json(self, request: Request, sandbox: Sandbox) -> dict[str, Any]:
        host = (request.header(b"host") or b"").decode("latin-1")
        apis, ports = self.context.apis, self._sandboxes.ports
        return sandbox_json(sandbox, apis=apis, scheme=request.scheme, host=host, ports=ports)

    # --- the clock ---

    def get_clock(self, request: Request) -> Response:
        """Return the clock."""
        return _respond(clock_json(self._sandbox(request)))

    def set_clock(self, request: Request) -> Response:
        """Change how time passes."""
        sandbox = self._sandbox(request)
        sandbox.execute(SetClock(request.content.get("progression"), request.content.get("speed")))
        return _respond(clock_json(sandbox))

    def advance_clock(self, request: Request) -> Response:
        """Move the clock on."""
        sandbox = self._sandbox(request)
        return _moved(sandbox, sandbox.clock.now() + read_duration("by", request.content["by"]))

    def move_clock(self, request: Request) -> Response:
        """Move the clock to an instant."""
        return _moved(self._sandbox(request), read_instant("to", request.content["to"]))

    def move_clock_to_next(self, request: Request) -> Response:
        """Move the clock to the next change."""
        sandbox = self._sandbox(request)
        due = sandbox.next_due()
        return _moved(sandbox, sandbox.clock.now() if due is None else due)

    # --- the journal ---

    def get_journal(self, request: Request) -> Response:
        """Return the entries that match every filter."""
        journal, params = self._sandbox(request).journal, request.parameters
        self._check_filters(request)
        filters = {key: params[key] for key in (self._filters - _PAGING) & params.keys()}
        query = Query.of(filters, operations_by_api(self.context.apis))
        entries = journal.entries(query, after=params["after"], limit=params["limit"])
        return _respond(
            {
                "entries": [entry.to_json() for entry in entries],
                "dropped": journal.dropped,
                "last": entries[-1].number if entries else journal.last,
            }
        )

    def _check_filters(self, request: Request) -> None:
        """Raise ApiError for an unknown filter, which would silently match everything."""
        for name, _ in parse_qsl(request.query.decode("latin-1"), keep_blank_values=True):
            if name not in self._filters:
                hint = suggest(name, sorted(self._filters))
                raise ApiError("wrong request", f"{name[:200]!r} is no filter. {hint}")

    def clear_journal(self, request: Request) -> Response:
        """Clear the journal and count its entries."""
        journal = self._sandbox(request).journal
        count = journal.count()
        journal.clear()
        return _deleted(count)

    def verify_journal(self, request: Request) -> Response:
        """Return whether the expected requests have come."""
        journal, body = self._sandbox(request).journal, request.content
        verdict = journal.verify(
            Query.of(body["query"], operations_by_api(self.context.apis)),
            times=body.get("times"),
            at_least=body.get("at_least"),
            at_most=body.get("at_most"),
        )
        return _respond(
            {
                "holds": verdict.holds,
                "found": len(verdict.found),
                "entries": [entry.number for entry in verdict.found],
                "message": verdict.message,
            }
        )

    # --- faults ---

    def list_faults(self, request: Request) -> Response:
        """List the faults."""
        return _respond({"faults": [fault_json(item) for item in self._sandbox(request).faults()]})

    def add_fault(self, request: Request) -> Response:
        """Add a fault."""
        sandbox, fault = self._sandbox(request), read_fault(request.content)
        try:
            name = sandbox.execute(AddFault(fault))
        except AuthorError as error:
            raise Conflict(str(error)) from None
        return _respond(
            next(fault_json(item) for item in sandbox.faults() if item.name == name), 201
        )

    def remove_faults(self, request: Request) -> Response:
        """Remove all faults and count them."""
        sandbox = self._sandbox(request)
        count = len(sandbox.faults())
        sandbox.execute(ClearFaults())
        return _deleted(count)

    def remove_fault(self, request: Request) -> Response:
        """Remove a fault."""
        sandbox, name = self._sandbox(request), request.parameters["fault"]
        names = [item.name for item in sandbox.faults()]
        if name not in names:
            hint = did_you_mean(name, names)
            where = f"there is no fault {name!r} in sandbox {sandbox.name!r}"
            raise Unknown(f"{where}. {hint}".rstrip())
        sandbox.execute(RemoveFault(name))
        return _deleted(1)

    # --- tasks ---

    def list_tasks(self, request: Request) -> Response:
        """List the tasks of every API."""
        return _respond({"tasks": list(rows_of(self._sandbox(request)))})

    def create_task(self, request: Request) -> Response:
        """Create a task."""
        sandbox, template = self._sandbox(request), request.content["template"]
        api = self._api(request.content["api"])
        id = create_task(sandbox, api, template)
        return _respond(task_json(sandbox, api.name, id), status=201)

    def get_task(self, request: Request) -> Response:
        """Return a task with its parts."""
        sandbox, params = self._sandbox(request), request.parameters
        try:
            return _respond(task_json(sandbox, params["api"], params["task"]))
        except (NoSuchTask, ValueError):
            raise self._no_task(sandbox, params) from None

    def explain_task(self, request: Request) -> Response:
        """Return why a task is in its state, or a drawing of its history."""
        sandbox, params = self._sandbox(request), request.parameters
        api = self._api(params["api"])
        try:
            if params["format"] == "timeline":
                # It imports rich, which only drawing needs.
                return _text(api.module("drawing").draw_timeline(sandbox, params["task"]))
            explanation = api.module("explain").explain(sandbox, params["task"])
        except (NoSuchTask, ValueError):
            raise self._no_task(sandbox, params) from None
        if params["format"] == "text":
            return _text(explanation.text())
        return _respond(explanation.to_json())

    def _api(self, name: str) -> Api:
        return api_named(name, self.context.apis)

    def _no_task(self, sandbox: Sandbox, params: Mapping[str, Any]) -> Unknown:
        kind = self._api(params["api"]).root.title
        return Unknown(f"there is no {kind} {params['task']} in sandbox {sandbox.name!r}.")

    # --- errors ---

    def render_error(self, request: Request, error: Exception) -> Response:
        """Return an error as one sentence, or as a line for each issue."""
        if isinstance(error, ApiError):
            detail = _UNAUTHENTICATED if error.kind == "unauthenticated" else error.detail
            operation = request.operation
            hint = hint_for(self.spec, operation.id, detail) if operation else ""
            return _wrong(
                error.status_code,
                detail + hint,
                *error.headers,
                *(_CHALLENGE if error.status_code == 401 else ()),
            )
        status = next((status for kind, status in _STATUS_OF if isinstance(error, kind)), 500)
        return _wrong(status, str(error) if status < 500 else "oceanmock has made a mistake.")


# --- responses ------------------------------------------------------------------------------------

_UNAUTHENTICATED: Final = (
    "From another machine this needs the token of the server, in the header X-Oceanmock-Token."
)
_CHALLENGE: Final = ((b"www-authenticate", b'Bearer realm="oceanmock"'),)
_HEADERS: Final = ((VERSION_HEADER, __version__.encode()),)
_STATUS_OF: Final[tuple[tuple[type[Exception], int], ...]] = (
    (NoSuchSandbox, 404),
    (NoSuchTask, 404),
    (Unknown, 404),
    (SandboxTaken, 409),
    (TooManySandboxes, 409),
    (IdTaken, 409),
    (Conflict, 409),
)


def _respond(body: dict[str, Any], status: int = 200) -> Response:
    return Response(status, body, _HEADERS)


def _text(text: str) -> Response:
    return Response(200, text.encode(), _HEADERS, b"text/plain; charset=utf-8")


def _deleted(count: int) -> Response:
    return _respond({"deleted": count})


def _wrong(status: int, what: str, *headers: tuple[bytes, bytes]) -> Response:
    body = shorten(what, MAX_ERROR_LENGTH)
    clean = body.encode("utf-8", "backslashreplace").decode()
    return Response(status, {"error": clean}, (*_HEADERS, *headers))


def _moved(sandbox: Sandbox, to: int) -> Response:
    """Move a clock, at most to the end of the year 2999."""
    if to > LATEST:
        raise ApiError("wrong request", f"No clock goes further than {format_instant(LATEST)}.")
    sandbox.execute(MoveClock(to))
    return _respond(clock_json(sandbox))
