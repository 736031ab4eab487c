"""The admin API's room: sandboxes, their clocks, journals, faults and tasks, over HTTP.

What a request means is in openapi/admin.yaml, by which the app has checked it before it comes here.
Nothing a client can send is answered 500: what it says wrong is worded and answered 400, what is
not there 404, what stands in the way 409. Which sandbox is meant is said in the path, so the one
that the app has chosen is never looked at. Who asks from another machine shows the token.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from ipaddress import ip_address
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlsplit

import orjson

from oceanmock import __version__
from oceanmock.api import ApiError, Handler, Request, Response, Service
from oceanmock.clock import LATEST, stopwatch
from oceanmock.engine.accounts import EVERYTHING, Accounts, User
from oceanmock.engine.sandbox import Sandbox, progression_of, switches_of
from oceanmock.engine.sandboxes import (
    DEFAULT,
    NoSuchSandbox,
    Sandboxes,
    SandboxTaken,
    TooManySandboxes,
)
from oceanmock.errors import AuthorError, CallerError, EnvironmentProblem, NoSuchTask
from oceanmock.http.admin_json import (
    clock_json,
    dag_json,
    fault_json,
    head_json,
    rows_of,
    sandbox_json,
    task_json,
)
from oceanmock.http.admin_scenarios import (
    ScenarioCatalog,
    Taken,
    bear_dag,
    bear_task,
    check_api,
    check_size,
    switched,
)
from oceanmock.journal import Query
from oceanmock.library import read_fault
from oceanmock.obshell.bodies import id_of
from oceanmock.obshell.world import Dags, DagView
from oceanmock.ocp.world import Tasks
from oceanmock.openapi import Spec, load_spec, spec_path
from oceanmock.report.explain import Explanation, explain_dag, explain_task
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
TOKEN_HEADER: Final = b"x-oceanmock-token"
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
    """What the room works with. ``ports`` come from the server, once there is one.

    Without a ``token`` nobody from another machine gets in.
    """

    sandboxes: Sandboxes
    shelf: ScenarioCatalog = field(default_factory=ScenarioCatalog)
    token: str | None = None
    ports: Ports | None = None


class Unknown(CallerError):
    """There is no such thing in this sandbox."""


class Conflict(CallerError):
    """What is there already, or is not, stands in the way."""


def api(kit: AdminContext) -> Service:
    """The admin API over a kit, for the app to serve."""
    room = _Room(kit)
    handlers: dict[str, Handler] = {
        "getHealth": room.health,
        "getReadiness": room.health,
        "listScenarios": room.list_scenarios,
        "listSandboxes": room.list_sandboxes,
        "createSandbox": room.create_sandbox,
        "getSandbox": room.get_sandbox,
        "deleteSandbox": room.delete_sandbox,
        "resetSandbox": room.reset_sandbox,
        "loadScenarios": room.load_scenarios,
        "getClock": room.get_clock,
        "setClock": room.set_clock,
        "advanceClock": room.advance_clock,
        "moveClock": room.move_clock,
        "moveClockToNext": room.move_clock_to_next,
        "getJournal": room.get_journal,
        "clearJournal": room.clear_journal,
        "verifyJournal": room.verify_journal,
        "listFaults": room.list_faults,
        "addFault": room.add_fault,
        "removeFaults": room.remove_faults,
        "removeFault": room.remove_fault,
        "listTasks": room.list_tasks,
        "createTask": room.create_task,
        "getTask": room.get_task,
        "explainTask": room.explain_task,
    }
    check = _token_check(kit)
    return Service(
        name="admin",
        prefix=PREFIX,
        spec=room.spec,
        handlers={name: _worded(handler) for name, handler in handlers.items()},
        render_error=room.render_error,
        security={"apiKey": check, "bearer": check},
        encode=orjson.dumps,
        open=_take_a_form_for_json,
    )


def _take_a_form_for_json(call: Request) -> None:
    """curl calls what ``-d`` sends a form unless told otherwise; no operation here takes a form."""
    if (call.header(b"content-type") or b"").startswith(b"application/x-www-form-urlencoded"):
        call.headers = [pair for pair in call.headers if pair[0] != b"content-type"]


def _worded(handler: Handler) -> Handler:
    """A handler whose author's and environment's errors are the caller's."""

    @wraps(handler)
    def handle(call: Request) -> Response:
        try:
            return handler(call)
        except AuthorError as mistake:
            raise ApiError("wrong request", str(mistake)) from None
        except EnvironmentProblem as problem:
            raise Conflict(str(problem)) from None

    return handle


class _Room:
    """The operations."""

    def __init__(self, kit: AdminContext) -> None:
        self.kit = kit
        self.spec = load_spec(spec_path("admin"))
        self._began = stopwatch()
        self._filters = frozenset(_filters(self.spec))

    # --- the server ---

    def health(self, call: Request) -> Response:
        """That it runs, and since when."""
        uptime = (stopwatch() - self._began) // 1_000_000 * 1_000_000
        return _said(
            {
                "status": "ok",
                "version": __version__,
                "sandboxes": len(self.kit.sandboxes),
                "uptime": format_duration(uptime),
            }
        )

    def list_scenarios(self, call: Request) -> Response:
        """The heads of all scenarios."""
        scenarios = [self.kit.shelf.get(name) for name in self.kit.shelf.names()]
        return _said({"scenarios": [head_json(scenario) for scenario in scenarios]})

    # --- sandboxes ---

    def list_sandboxes(self, call: Request) -> Response:
        """All sandboxes."""
        return _said({"sandboxes": [self._json(call, each) for each in self.kit.sandboxes]})

    def create_sandbox(self, call: Request) -> Response:
        """The sandbox, just made; on a port of its own, if that was asked for."""
        said = call.content
        make = self._recipe(said)
        sandbox = self.kit.sandboxes.create(said.get("name"), make)
        if said.get("own_port"):
            try:
                self._open_port(sandbox)
            except (CallerError, EnvironmentProblem):
                self.kit.sandboxes.delete(sandbox.name)
                raise
        return _said(self._json(call, sandbox), status=201)

    def _recipe(self, said: dict[str, Any]) -> Callable[[str], Sandbox]:
        """What makes the sandbox that a body asks for, of its name."""
        scenarios = self._scenarios(said)
        start = said.get("starts_at")
        starts_at = None if start is None else _instant("starts_at", start)
        accounts = self._accounts(said)

        def make(name: str, more: Sequence[BaseScenario] = ()) -> Sandbox:
            every = [*scenarios, *more]
            agreed = switches_of(every)
            sandbox = Sandbox.of_scenarios(
                every,
                name=name,
                progression=said.get("progression")
                or progression_of(every, otherwise=said.get("otherwise", "time")),
                speed=said.get("speed", 1.0),
                seed=said.get("seed", 0),
                starts_at=starts_at,
                accounts=accounts,
                switches=switched(agreed[0], said.get("switches", {}), key="switches"),
                obshell_switches=switched(
                    agreed[1], said.get("obshell_switches", {}), key="obshell_switches"
                ),
            )
            sandbox.remake_by(lambda further: make(name, [*more, *further]))
            return sandbox

        return make

    def _scenarios(self, said: Mapping[str, Any]) -> list[BaseScenario]:
        """The scenarios that a body gives. Raises AuthorError with all that is wrong with them."""
        given = enumerate(said.get("scenarios", []))
        scenarios = [self.kit.shelf.scenario(s, place=f"scenarios[{n}]") for n, s in given]
        check_api(scenarios, said.get("api"))
        check_size(scenarios)
        return scenarios

    def _accounts(self, said: Mapping[str, Any]) -> Accounts:
        """Who may ask a new sandbox: as `default`, but for what the request says."""
        accounts = self.kit.sandboxes.default.accounts
        users = tuple(
            User(each["name"], each["password"], frozenset(each.get("permissions", EVERYTHING)))
            for each in said.get("users", ())
        )
        return replace(
            accounts, required=said.get("auth", accounts.required), users=users or accounts.users
        )

    def _open_port(self, sandbox: Sandbox) -> None:
        if self.kit.ports is None:
            raise Conflict("this server cannot listen on further ports; leave out `own_port`.")
        self.kit.sandboxes.ports[self.kit.ports.open()] = sandbox.name

    def get_sandbox(self, call: Request) -> Response:
        """A sandbox."""
        return _said(self._json(call, self._sandbox(call)))

    def delete_sandbox(self, call: Request) -> Response:
        """1, where one is gone; 0 for the default one, which is reset."""
        name = call.parameters["sandbox"]
        for port in self.kit.sandboxes.delete(name):
            if self.kit.ports is not None:
                self.kit.ports.close(port)
        return _deleted(int(name != DEFAULT))

    def reset_sandbox(self, call: Request) -> Response:
        """The sandbox, made anew."""
        return _said(self._json(call, self.kit.sandboxes.reset(call.parameters["sandbox"])))

    def load_scenarios(self, call: Request) -> Response:
        """The sandbox, in which more scenarios live."""
        scenarios = self._scenarios(call.content)
        try:
            sandbox = self.kit.sandboxes.load(call.parameters["sandbox"], scenarios)
        except AuthorError as clash:
            raise Conflict(str(clash)) from None
        return _said(self._json(call, sandbox))

    def _sandbox(self, call: Request) -> Sandbox:
        return self.kit.sandboxes.get(call.parameters["sandbox"])

    def _json(self, call: Request, sandbox: Sandbox) -> dict[str, Any]:
        host = (call.header(b"host") or b"").decode("latin-1")
        return sandbox_json(sandbox, scheme=call.scheme, host=host, ports=self.kit.sandboxes.ports)

    # --- the clock ---

    def get_clock(self, call: Request) -> Response:
        """The clock."""
        return _said(clock_json(self._sandbox(call)))

    def set_clock(self, call: Request) -> Response:
        """The clock, passing otherwise."""
        sandbox = self._sandbox(call)
        sandbox.set_clock(
            progression=call.content.get("progression"), speed=call.content.get("speed")
        )
        return _said(clock_json(sandbox))

    def advance_clock(self, call: Request) -> Response:
        """The clock, moved on."""
        sandbox = self._sandbox(call)
        return _moved(sandbox, sandbox.clock.now() + _duration("by", call.content["by"]))

    def move_clock(self, call: Request) -> Response:
        """The clock, moved to an instant."""
        return _moved(self._sandbox(call), _instant("to", call.content["to"]))

    def move_clock_to_next(self, call: Request) -> Response:
        """The clock, moved to what happens next."""
        sandbox = self._sandbox(call)
        due = sandbox.next_due()
        return _moved(sandbox, sandbox.clock.now() if due is None else due)

    # --- the journal ---

    def get_journal(self, call: Request) -> Response:
        """The entries that match every filter."""
        journal, asked = self._sandbox(call).journal, call.parameters
        self._check_filters(call)
        query = Query.of({key: asked[key] for key in (self._filters - _PAGING) & asked.keys()})
        entries = journal.entries(query, after=asked["after"], limit=asked["limit"])
        return _said(
            {
                "entries": [entry.to_json() for entry in entries],
                "dropped": journal.dropped,
                "last": entries[-1].number if entries else journal.last,
            }
        )

    def _check_filters(self, call: Request) -> None:
        """Raises ApiError for a filter that there is not: it would silently match everything."""
        for name, _ in parse_qsl(call.query.decode("latin-1"), keep_blank_values=True):
            if name not in self._filters:
                hint = suggest(name, sorted(self._filters))
                raise ApiError("wrong request", f"{name[:200]!r} is no filter. {hint}")

    def clear_journal(self, call: Request) -> Response:
        """How many entries are forgotten."""
        journal = self._sandbox(call).journal
        count = journal.count()
        journal.clear()
        return _deleted(count)

    def verify_journal(self, call: Request) -> Response:
        """Whether what was expected has come."""
        journal, said = self._sandbox(call).journal, call.content
        verdict = journal.verify(
            Query.of(said["query"]),
            times=said.get("times"),
            at_least=said.get("at_least"),
            at_most=said.get("at_most"),
        )
        return _said(
            {
                "holds": verdict.holds,
                "found": len(verdict.found),
                "entries": [entry.number for entry in verdict.found],
                "message": verdict.message,
            }
        )

    # --- faults ---

    def list_faults(self, call: Request) -> Response:
        """The faults that stand."""
        return _said({"faults": [fault_json(each) for each in self._sandbox(call).faults.all()]})

    def add_fault(self, call: Request) -> Response:
        """The fault, just added."""
        faults, fault = self._sandbox(call).faults, read_fault(call.content)
        try:
            name = faults.add(fault)
        except AuthorError as taken:
            raise Conflict(str(taken)) from None
        return _said(next(fault_json(each) for each in faults.all() if each.name == name), 201)

    def remove_faults(self, call: Request) -> Response:
        """How many are gone."""
        faults = self._sandbox(call).faults
        count = len(faults.all())
        faults.clear()
        return _deleted(count)

    def remove_fault(self, call: Request) -> Response:
        """1: it is gone."""
        sandbox, name = self._sandbox(call), call.parameters["fault"]
        if not sandbox.faults.remove(name):
            hint = did_you_mean(name, [each.name for each in sandbox.faults.all()])
            where = f"there is no fault {name!r} in sandbox {sandbox.name!r}"
            raise Unknown(f"{where}. {hint}".rstrip())
        return _deleted(1)

    # --- tasks ---

    def list_tasks(self, call: Request) -> Response:
        """Every task and dag."""
        return _said({"tasks": list(rows_of(self._sandbox(call)))})

    def create_task(self, call: Request) -> Response:
        """The task, just born."""
        sandbox, template = self._sandbox(call), call.content["template"]
        if call.content["api"] == "ocp":
            task = task_json(sandbox.world(Tasks).view(bear_task(sandbox, template)))
        else:
            store, number = bear_dag(sandbox, template)
            task = dag_json(_dag(sandbox, lambda view: _key(view) == (store, number)))
        return _said(task, status=201)

    def get_task(self, call: Request) -> Response:
        """A task or dag with its parts."""
        sandbox, asked = self._sandbox(call), call.parameters
        try:
            if asked["api"] == "ocp":
                return _said(task_json(sandbox.world(Tasks).view(int(asked["task"]))))
            return _said(dag_json(_dag_called(sandbox, asked["task"])))
        except NoSuchTask:
            raise _no_task(sandbox, asked) from None

    def explain_task(self, call: Request) -> Response:
        """Why a task or dag is in its state; or what it has lived through, as a picture."""
        sandbox, asked = self._sandbox(call), call.parameters
        try:
            if asked["format"] == "timeline":
                return _text(_timeline(sandbox, asked))
            told = _explanation(sandbox, asked)
        except NoSuchTask:
            raise _no_task(sandbox, asked) from None
        return _text(told.text()) if asked["format"] == "text" else _said(told.to_json())

    # --- errors ---

    def render_error(self, call: Request, error: Exception) -> Response:
        """An error in one sentence, or a line for each mistake."""
        if isinstance(error, ApiError):
            detail = _UNAUTHENTICATED if error.kind == "unauthenticated" else error.detail
            return _wrong(
                error.status_code,
                detail + self._hint(call, detail),
                *error.headers,
                *(_CHALLENGE if error.status_code == 401 else ()),
            )
        status = next((status for kind, status in _STATUS_OF if isinstance(error, kind)), 500)
        return _wrong(status, str(error) if status < 500 else "oceanmock has made a mistake.")

    def _hint(self, call: Request, detail: str) -> str:
        """The key that was meant, perhaps, by one that a body does not have."""
        unknown = _UNKNOWN_KEY.search(detail)
        if unknown is None or call.operation is None:
            return ""
        within, key = unknown.groups()
        keys = _keys_of(self.spec, call.operation.id, within)
        return f". {suggest(key, keys)}" if keys else ""


# --- who asks -------------------------------------------------------------------------------------


_UNAUTHENTICATED: Final = (
    "From another machine this needs the token of the server, in the header X-Oceanmock-Token."
)
_CHALLENGE: Final = ((b"www-authenticate", b'Bearer realm="oceanmock"'),)
_PERMITTED: Final = frozenset({"ADMIN"})


def _token_check(kit: AdminContext) -> Callable[[Request], frozenset[str] | None]:
    """Lets in who shows the token, and who shows none from the server's own machine."""

    def check(call: Request) -> frozenset[str] | None:
        shown = list(_tokens(call)) if kit.token is not None else []
        token = (kit.token or "").encode()
        if not all([hmac.compare_digest(token, each) for each in shown]):  # noqa: C419 (no early end)
            raise ApiError("bad credentials", "This is not the token of the server.")
        return _PERMITTED if shown or _is_near(call) else None

    return check


def _tokens(call: Request) -> Iterator[bytes]:
    """The tokens that a call shows, in either header."""
    for name, value in call.headers:
        if name == TOKEN_HEADER:
            yield value.strip()
        elif name == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            yield rest.strip() if scheme.lower() == b"bearer" else value


def _is_near(call: Request) -> bool:
    """Whether it comes from this machine, and not from another site's page in a browser on it."""
    origin = call.header(b"origin")
    if origin is not None:
        try:
            site = urlsplit(origin.decode("latin-1")).hostname or ""
        except ValueError:
            return False
        if site != "localhost" and not _is_loopback(site):
            return False
    return call.client is None or _is_loopback(call.client[0])


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


# --- what is said, and what is answered -----------------------------------------------------------


_HEADERS: Final = ((VERSION_HEADER, __version__.encode()),)
_STATUS_OF: Final[tuple[tuple[type[Exception], int], ...]] = (
    (NoSuchSandbox, 404),
    (NoSuchTask, 404),
    (Unknown, 404),
    (SandboxTaken, 409),
    (TooManySandboxes, 409),
    (Taken, 409),
    (Conflict, 409),
)


def _said(body: dict[str, Any], status: int = 200) -> Response:
    return Response(status, body, _HEADERS)


def _text(text: str) -> Response:
    return Response(200, text.encode(), _HEADERS, b"text/plain; charset=utf-8")


def _deleted(count: int) -> Response:
    return _said({"deleted": count})


def _wrong(status: int, what: str, *headers: tuple[bytes, bytes]) -> Response:
    said = shorten(what, MOST_SAID)
    clean = said.encode("utf-8", "backslashreplace").decode()
    return Response(status, {"error": clean}, (*_HEADERS, *headers))


def _moved(sandbox: Sandbox, to: int) -> Response:
    """The clock, moved to an instant that a calendar has."""
    if to > LATEST:
        raise ApiError("wrong request", f"No clock goes further than {format_instant(LATEST)}.")
    sandbox.clock.move_to(to)
    return _said(clock_json(sandbox))


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


def _key(view: DagView) -> tuple[str, int]:
    return view.dag.store, view.dag.number


def _dag(sandbox: Sandbox, *wanted: Callable[[DagView], bool]) -> DagView:
    """The first dag of which the first thing wanted holds, or else the next. Raises NoSuchTask."""
    views = [*sandbox.world(Dags).all("agent"), *sandbox.world(Dags).all("cluster")]
    for holds in wanted:
        for view in views:
            if holds(view):
                return view
    raise NoSuchTask(0)


def _dag_called(sandbox: Sandbox, text: str) -> DagView:
    """The dag of a generic id, or of a number. Raises NoSuchTask."""
    return _dag(
        sandbox,
        lambda view: id_of(view.dag, view.dag.number) == text,
        lambda view: str(view.dag.number) == text,
    )


def _explanation(sandbox: Sandbox, asked: dict[str, Any]) -> Explanation:
    """Why a task or dag is in its state. Raises NoSuchTask."""
    if asked["api"] == "ocp":
        return explain_task(sandbox, int(asked["task"]))
    dag = _dag_called(sandbox, asked["task"]).dag
    return explain_dag(sandbox, dag.number, dag.store)


def _timeline(sandbox: Sandbox, asked: dict[str, Any]) -> str:
    """What a task or dag has lived through. Raises NoSuchTask."""
    from oceanmock.report.draw_timeline import (  # noqa: PLC0415 (rich, for who looks)
        draw_dag,
        draw_task,
    )

    if asked["api"] == "ocp":
        return draw_task(sandbox, int(asked["task"]))
    dag = _dag_called(sandbox, asked["task"]).dag
    return draw_dag(sandbox, dag.number, dag.store)


def _no_task(sandbox: Sandbox, asked: dict[str, Any]) -> Unknown:
    what = "task" if asked["api"] == "ocp" else "dag"
    return Unknown(f"there is no {what} {asked['task']} in sandbox {sandbox.name!r}.")


_PAGING: Final = frozenset({"after", "limit"})
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
