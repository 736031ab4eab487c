"""The admin API's handlers: sandboxes, their clocks, journals, faults and tasks, over HTTP.

What a request means is in openapi/admin.yaml, by which the app has checked it before it comes here.
Nothing a client can send is answered 500: what it says wrong is worded and answered 400, what is
not there 404, what stands in the way 409. Which sandbox is meant is said in the path, so the one
that the app has chosen is never looked at. Who asks from another machine shows the token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import orjson

from oceanmock import __version__
from oceanmock.api import Api, ApiError, Handler, Request, Response, Service
from oceanmock.apis import APIS, api_named
from oceanmock.clock import LATEST, stopwatch
from oceanmock.engine.accounts import EVERYTHING, Accounts, User
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
    DEFAULT,
    NoSuchSandbox,
    Sandboxes,
    SandboxTaken,
    TooManySandboxes,
)
from oceanmock.errors import AuthorError, CallerError, EnvironmentProblem, IdTaken, NoSuchTask
from oceanmock.http.admin_access import token_check
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
from oceanmock.journal import Query
from oceanmock.library import read_fault
from oceanmock.openapi import Spec, load_spec, operations_of, spec_path
from oceanmock.scenario.fields import BaseScenario
from oceanmock.text import (
    did_you_mean,
    format_duration,
    format_instant,
    parse_duration,
    parse_instant,
    shorten,
    suggest,
)

PREFIX: Final = "/__admin/"
VERSION_HEADER: Final = b"x-oceanmock-version"
"""In every answer, so that a client knows whom it talks to."""
EARLIEST: Final = parse_instant("1980-01-01T00:00:00Z")
MOST_SAID: Final = 64 * 1024
"""How much of what is wrong an error repeats; it may quote what was sent."""


class Ports(Protocol):
    """What opens further ports while the server runs."""

    def open(self, port: int = 0) -> int:
        """Listens on a further port, any that is free if 0. Raises EnvironmentProblem."""

    def close(self, port: int) -> None:
        """Listens there no more."""


@dataclass(slots=True)
class AdminContext:
    """What the handlers work with. ``ports`` come from the server, once there is one.

    Without a ``token`` nobody from another machine gets in.
    """

    sandboxes: Sandboxes
    catalog: ScenarioCatalog = field(default_factory=ScenarioCatalog)
    apis: Sequence[Api] = APIS
    token: str | None = None
    ports: Ports | None = None


class Unknown(CallerError):
    """There is no such thing in this sandbox."""


class Conflict(CallerError):
    """What is there already, or is not, stands in the way."""


_PAGING: Final = frozenset({"after", "limit"})


def service(context: AdminContext) -> Service:
    """The admin API over a kit, for the app to serve."""
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
    """curl calls what ``-d`` sends a form unless told otherwise; no operation here takes a form."""
    if (request.header(b"content-type") or b"").startswith(b"application/x-www-form-urlencoded"):
        request.headers = [pair for pair in request.headers if pair[0] != b"content-type"]


def _as_caller_errors(handler: Handler) -> Handler:
    """Return a handler that raises author and environment errors as the caller's."""

    @wraps(handler)
    def handle(request: Request) -> Response:
        try:
            return handler(request)
        except AuthorError as mistake:
            raise ApiError("wrong request", str(mistake)) from None
        except EnvironmentProblem as problem:
            raise Conflict(str(problem)) from None

    return handle


class AdminHandlers:
    """The operations."""

    def __init__(self, context: AdminContext) -> None:
        self.context = context
        self.spec = load_spec(spec_path("admin"))
        self._began = stopwatch()
        self._filters = frozenset(_filters(self.spec))

    # --- the server ---

    def get_health(self, request: Request) -> Response:
        """Return that the server runs, and since when."""
        uptime = (stopwatch() - self._began) // 1_000_000 * 1_000_000
        return _respond(
            {
                "status": "ok",
                "version": __version__,
                "sandboxes": len(self.context.sandboxes),
                "uptime": format_duration(uptime),
            }
        )

    get_readiness = get_health

    def list_scenarios(self, request: Request) -> Response:
        """The heads of all scenarios."""
        scenarios = [self.context.catalog.get(name) for name in self.context.catalog.names()]
        return _respond({"scenarios": [head_json(scenario) for scenario in scenarios]})

    # --- sandboxes ---

    def list_sandboxes(self, request: Request) -> Response:
        """All sandboxes."""
        return _respond(
            {"sandboxes": [self._json(request, each) for each in self.context.sandboxes]}
        )

    def create_sandbox(self, request: Request) -> Response:
        """The sandbox, just made; on a port of its own, if that was asked for."""
        said = request.content
        sandbox = self.context.sandboxes.create(said.get("name"), self._spec_of(said))
        if said.get("own_port"):
            try:
                self._open_port(sandbox)
            except (CallerError, EnvironmentProblem):
                self.context.sandboxes.delete(sandbox.name)
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
            created=self.context.sandboxes.default.wall(),
            starts_at=None if start is None else _instant("starts_at", start),
            progression=body.get("progression"),
            default_progression=body.get("otherwise", "time"),
            speed=body.get("speed", 1.0),
            switches=switches,
            accounts=self._accounts(body),
        )

    def _scenarios(self, said: Mapping[str, Any]) -> list[BaseScenario]:
        """The scenarios that a body gives. Raises AuthorError with all that is wrong with them."""
        given = enumerate(said.get("scenarios", []))
        scenarios = [self.context.catalog.scenario(s, place=f"scenarios[{n}]") for n, s in given]
        check_api(scenarios, said.get("api"))
        check_size(scenarios, self.context.apis)
        return scenarios

    def _accounts(self, said: Mapping[str, Any]) -> Accounts:
        """Who may ask a new sandbox: as `default`, but for what the request says."""
        accounts = self.context.sandboxes.default.accounts
        users = tuple(
            User(each["name"], each["password"], frozenset(each.get("permissions", EVERYTHING)))
            for each in said.get("users", ())
        )
        return replace(
            accounts, required=said.get("auth", accounts.required), users=users or accounts.users
        )

    def _open_port(self, sandbox: Sandbox) -> None:
        if self.context.ports is None:
            raise Conflict("this server cannot listen on further ports; leave out `own_port`.")
        self.context.sandboxes.ports[self.context.ports.open()] = sandbox.name

    def get_sandbox(self, request: Request) -> Response:
        """A sandbox."""
        return _respond(self._json(request, self._sandbox(request)))

    def delete_sandbox(self, request: Request) -> Response:
        """1, where one is gone; 0 for the default one, which is reset."""
        name = request.parameters["sandbox"]
        for port in self.context.sandboxes.delete(name):
            if self.context.ports is not None:
                self.context.ports.close(port)
        return _deleted(int(name != DEFAULT))

    def reset_sandbox(self, request: Request) -> Response:
        """The sandbox, made anew."""
        return _respond(
            self._json(request, self.context.sandboxes.reset(request.parameters["sandbox"]))
        )

    def load_scenarios(self, request: Request) -> Response:
        """The sandbox, in which more scenarios live."""
        scenarios = self._scenarios(request.content)
        try:
            sandbox = self.context.sandboxes.load(request.parameters["sandbox"], scenarios)
        except AuthorError as clash:
            raise Conflict(str(clash)) from None
        return _respond(self._json(request, sandbox))

    def _sandbox(self, request: Request) -> Sandbox:
        return self.context.sandboxes.get(request.parameters["sandbox"])

    def _json(self, request: Request, sandbox: Sandbox) -> dict[str, Any]:
        host = (request.header(b"host") or b"").decode("latin-1")
        return sandbox_json(
            sandbox,
            apis=self.context.apis,
            scheme=request.scheme,
            host=host,
            ports=self.context.sandboxes.ports,
        )

    # --- the clock ---

    def get_clock(self, request: Request) -> Response:
        """The clock."""
        return _respond(clock_json(self._sandbox(request)))

    def set_clock(self, request: Request) -> Response:
        """The clock, passing otherwise."""
        sandbox = self._sandbox(request)
        sandbox.execute(SetClock(request.content.get("progression"), request.content.get("speed")))
        return _respond(clock_json(sandbox))

    def advance_clock(self, request: Request) -> Response:
        """The clock, moved on."""
        sandbox = self._sandbox(request)
        return _moved(sandbox, sandbox.clock.now() + _duration("by", request.content["by"]))

    def move_clock(self, request: Request) -> Response:
        """The clock, moved to an instant."""
        return _moved(self._sandbox(request), _instant("to", request.content["to"]))

    def move_clock_to_next(self, request: Request) -> Response:
        """The clock, moved to what happens next."""
        sandbox = self._sandbox(request)
        due = sandbox.next_due()
        return _moved(sandbox, sandbox.clock.now() if due is None else due)

    # --- the journal ---

    def get_journal(self, request: Request) -> Response:
        """The entries that match every filter."""
        journal, asked = self._sandbox(request).journal, request.parameters
        self._check_filters(request)
        query = Query.of({key: asked[key] for key in (self._filters - _PAGING) & asked.keys()})
        entries = journal.entries(query, after=asked["after"], limit=asked["limit"])
        return _respond(
            {
                "entries": [entry.to_json() for entry in entries],
                "dropped": journal.dropped,
                "last": entries[-1].number if entries else journal.last,
            }
        )

    def _check_filters(self, request: Request) -> None:
        """Raises ApiError for a filter that there is not: it would silently match everything."""
        for name, _ in parse_qsl(request.query.decode("latin-1"), keep_blank_values=True):
            if name not in self._filters:
                hint = suggest(name, sorted(self._filters))
                raise ApiError("wrong request", f"{name[:200]!r} is no filter. {hint}")

    def clear_journal(self, request: Request) -> Response:
        """How many entries are forgotten."""
        journal = self._sandbox(request).journal
        count = journal.count()
        journal.clear()
        return _deleted(count)

    def verify_journal(self, request: Request) -> Response:
        """Whether what was expected has come."""
        journal, said = self._sandbox(request).journal, request.content
        verdict = journal.verify(
            Query.of(said["query"]),
            times=said.get("times"),
            at_least=said.get("at_least"),
            at_most=said.get("at_most"),
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
        """The faults that stand."""
        return _respond({"faults": [fault_json(each) for each in self._sandbox(request).faults()]})

    def add_fault(self, request: Request) -> Response:
        """The fault, just added."""
        sandbox, fault = self._sandbox(request), read_fault(request.content)
        try:
            name = sandbox.execute(AddFault(fault))
        except AuthorError as taken:
            raise Conflict(str(taken)) from None
        return _respond(
            next(fault_json(each) for each in sandbox.faults() if each.name == name), 201
        )

    def remove_faults(self, request: Request) -> Response:
        """How many are gone."""
        sandbox = self._sandbox(request)
        count = len(sandbox.faults())
        sandbox.execute(ClearFaults())
        return _deleted(count)

    def remove_fault(self, request: Request) -> Response:
        """1: it is gone."""
        sandbox, name = self._sandbox(request), request.parameters["fault"]
        names = [each.name for each in sandbox.faults()]
        if name not in names:
            hint = did_you_mean(name, names)
            where = f"there is no fault {name!r} in sandbox {sandbox.name!r}"
            raise Unknown(f"{where}. {hint}".rstrip())
        sandbox.execute(RemoveFault(name))
        return _deleted(1)

    # --- tasks ---

    def list_tasks(self, request: Request) -> Response:
        """Every task and dag."""
        return _respond({"tasks": list(rows_of(self._sandbox(request)))})

    def create_task(self, request: Request) -> Response:
        """The task, just born."""
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
        """An error in one sentence, or a line for each mistake."""
        if isinstance(error, ApiError):
            detail = _UNAUTHENTICATED if error.kind == "unauthenticated" else error.detail
            return _wrong(
                error.status_code,
                detail + self._hint(request, detail),
                *error.headers,
                *(_CHALLENGE if error.status_code == 401 else ()),
            )
        status = next((status for kind, status in _STATUS_OF if isinstance(error, kind)), 500)
        return _wrong(status, str(error) if status < 500 else "oceanmock has made a mistake.")

    def _hint(self, request: Request, detail: str) -> str:
        """The key that was meant, perhaps, by one that a body does not have."""
        unknown = _UNKNOWN_KEY.search(detail)
        if unknown is None or request.operation is None:
            return ""
        within, key = unknown.groups()
        keys = _keys_of(self.spec, request.operation.id, within)
        return f". {suggest(key, keys)}" if keys else ""


# --- responses and parameters ---------------------------------------------------------------------

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
    said = shorten(what, MOST_SAID)
    clean = said.encode("utf-8", "backslashreplace").decode()
    return Response(status, {"error": clean}, (*_HEADERS, *headers))


def _moved(sandbox: Sandbox, to: int) -> Response:
    """The clock, moved to an instant that a calendar has."""
    if to > LATEST:
        raise ApiError("wrong request", f"No clock goes further than {format_instant(LATEST)}.")
    sandbox.execute(MoveClock(to))
    return _respond(clock_json(sandbox))


def _duration(key: str, text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as problem:
        raise ApiError("wrong request", f"`{key}` is {text[:100]!r}, which {problem}.") from None


def _instant(key: str, text: str) -> int:
    try:
        at = parse_instant(text)
    except ValueError as problem:
        raise ApiError("wrong request", f"`{key}`: {problem}.") from None
    if not EARLIEST <= at <= LATEST:
        raise ApiError("wrong request", f"`{key}` is not between the years 1980 and 2999.")
    return at


# --- the contract ---------------------------------------------------------------------------------

_UNKNOWN_KEY: Final = re.compile(
    r"^The body: (?:([a-z_]+): )?Additional properties are not allowed \('([^']{1,100})'"
)


def _filters(spec: Spec) -> Iterator[str]:
    """The filters of the journal, by their names in the contract."""
    path = spec["paths"]["/__admin/sandboxes/{sandbox}/journal"]
    for parameter in path["get"]["parameters"]:
        yield _pointed(spec, parameter)["name"]


def _keys_of(spec: Spec, operation: str, within: str | None) -> list[str]:
    """The keys that an operation's body has, or the object under one of them."""
    found = (
        said
        for item in spec["paths"].values()
        for said in item.values()
        if isinstance(said, dict) and said.get("operationId") == operation
    )
    schema = _pointed(spec, next(found)["requestBody"]["content"]["application/json"]["schema"])
    if within is not None:
        schema = _pointed(spec, schema["properties"].get(within, {}))
    return list(schema.get("properties", ()))


def _pointed(spec: Spec, node: dict[str, Any]) -> dict[str, Any]:
    """What a node stands for: itself, or what its reference points to."""
    target: Any = node
    if "$ref" in node:
        target = spec
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
    return dict(target)
