"""Serve the APIs over HTTP. This module has what the others share: ASGI types, sockets, values of the admin API.

The admin API takes a scenario as a name, an object or a text. A name is never a path: the server was started with that
scenario, or it is in the library. An error in a text has a line and a column; one in an object has a path
(``scenarios[0].tasks[1].name``). Ids are texts: obshell's generic ids have more digits than many JSON readers keep.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import re
import socket
from asyncio import AbstractEventLoop, run_coroutine_threadsafe
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import orjson
from pydantic import ValidationError

from oceanmock.admin_client import is_loopback
from oceanmock.api import JSON, Api, ApiError, Headers, Json, Request
from oceanmock.apis import api_named
from oceanmock.clock import EARLIEST, LATEST
from oceanmock.engine import log
from oceanmock.engine.faults import FaultStatistics
from oceanmock.engine.world import TaskItem
from oceanmock.errors import EnvironmentProblem, InputError, TooManyValues
from oceanmock.journal.entries import value_count
from oceanmock.library import library_names, load_scenario, read_scenario, scenario_of
from oceanmock.openapi import ALL_PERMISSIONS, Spec, load_spec, spec_path
from oceanmock.scenario import OUT_OF_TIME, BaseScenario
from oceanmock.text import did_you_mean, format_instant, parse_duration, parse_instant, shorten, suggest

if TYPE_CHECKING:
    from oceanmock.http.app import App


Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[..., Awaitable[None]]
Encoded = tuple[int, Headers, bytes]  # the status, the headers and the body of a response

MAX_MESSAGE_LENGTH: Final = 1000
MAX_ERROR_LENGTH: Final = 64 * 1024
"""The length at which an error of the admin API is cut; it may quote the request."""
CLOSE: Final = "oceanmock.close_connection"
"""The scope's key for the server's function that closes the connection."""
REPEAT: Final = "oceanmock.repeat"
"""The scope's key for the app's function that responds to the same bytes, sent again on any connection to the port. It
returns None once the request has to be parsed again."""

MAX_SCENARIO_STEPS: Final = 40_000  # attempts in one request; YAML aliases make many of few bytes
MAX_SCENARIO_VALUES: Final = 50_000  # keys and values in one request: reading them blocks every other request
MAX_LOADED_STEPS: Final = 500  # attempts added at once to a sandbox in use, which blocks every other request
TEXT_TYPES: Final = (b"application/x-www-form-urlencoded", b"text/plain")
MAX_PREFIX_LENGTH: Final = 200
_PREFIX: Final = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._~-]+)+")
_SCENARIO_NAME: Final = re.compile(r"[^\s:{\[]+")
METRICS: Final = {
    "sandboxes": "Sandboxes.",
    "journal_bytes": "What the journals take.",
    "store_conflicts_total": "Commands that were evaluated again, since another replica's came first.",
    "store_requests_total": "Requests to the store.",
    "store_seconds_total": "How long they took.",
}
MAX_WAIT_SECONDS: Final = 10  # how long a thread waits for the event loop, which may have been stopped
LOOP: Final = ContextVar[AbstractEventLoop | None]("oceanmock.loop", default=None)
"""The server's event loop, in the thread that responds to a long request."""
_T = TypeVar("_T")


def plain_error(status: int, problem: str) -> Encoded:
    """Return an error response that belongs to no API."""
    body = orjson.dumps({"error": problem})
    return status, [(b"content-type", JSON), (b"content-length", str(len(body)).encode())], body


def declared_size(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Return the Content-Length of a request: 0 without a body, None for a chunked one."""
    size = 0
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and not value.isdigit()):
            return None
        if name == b"content-length":
            size = int(value[:20])
    return size


async def send_response(response: Encoded | AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a whole response, or let an app send it."""
    if not isinstance(response, tuple):
        await response(scope, receive, send)
        return
    status, headers, body = response
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address. Raises EnvironmentProblem."""
    if not 0 <= port <= 65535:
        raise EnvironmentProblem(f"cannot listen on {host}:{port}: a port is 0 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as problem:
        raise EnvironmentProblem(f"cannot listen on {host}:{port}: {problem}.") from None
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)  # two may be bound to one port until one listens, and uvloop hides that the other cannot
    except (OSError, OverflowError) as problem:
        listener.close()
        reason = getattr(problem, "strerror", None) or str(problem)
        raise EnvironmentProblem(
            f"cannot listen on {host}:{port}: {reason}. Choose another port, or 0 for any that is free."
        ) from None
    return listener


@contextlib.contextmanager
def bind_unix(path: Path) -> Iterator[socket.socket]:
    """Bind a Unix domain socket in place of one without a server, and remove it at the end of the block."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and listener.connect_ex(str(path)) == errno.ECONNREFUSED:
            path.unlink()
        listener.close()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
    except OSError as problem:
        listener.close()
        raise EnvironmentProblem(
            f"cannot listen on {path}: {problem.strerror or problem}. Choose another path."
        ) from None
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """Return the URL of a bound socket for clients on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (to dial)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def admin_spec(apis: Sequence[Api]) -> Spec:
    """Return the contract of the admin API, with the names of these APIs."""
    spec = load_spec(spec_path("admin"))
    names = [api.name for api in apis]
    if spec["components"]["schemas"]["ApiName"]["enum"] == names:
        return spec
    spec = copy.deepcopy(dict(spec))
    schemas = spec["components"]["schemas"]
    schemas["ApiName"]["enum"] = names
    spec["paths"]["/__admin/openapi.yaml"]["get"]["parameters"][0]["schema"]["enum"] = ["admin", *names]
    for api in apis:
        schemas["Sandbox"]["properties"].setdefault(api.scripts_key, {"type": "integer"})
        schemas["NewSandbox"]["properties"].setdefault(api.switches_key, {"type": "object"})
    return spec


def check_is_own(request: Request) -> None:
    """Raise ApiError unless a request comes from this machine, and not from a page of another site.

    The address of the connection decides, not a forwarded header. A page of another site sends its own Origin or, after
    DNS rebinding, its own Host.
    """
    hosts = [value.decode("latin-1") for name, value in request.headers if name == b"host"]
    origin = (request.header(b"origin") or b"").decode("latin-1")
    if request.client is not None and not is_loopback(request.client[0]):
        problem = f"Without a token only the server's own machine may do this, and not {request.client[0]}."
    elif len(hosts) != 1 or not is_loopback(host_name(hosts[0])):
        host = shorten(", ".join(hosts), 200)
        problem = f"Without a token the Host must be localhost or an address such as 127.0.0.1, and not {host!r}."
    elif origin and origin != f"{request.scheme}://{hosts[0]}":
        problem = f"Without a token the Origin must be the server's own, and not {shorten(origin, 200)!r}."
    else:
        return
    raise ApiError("unauthenticated", f"{problem} Start the server with --admin-token-file to use it from elsewhere.")


def host_name(host: str) -> str:
    """Return the name or address in a Host header, or ""."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def take_text_for_json(request: Request) -> None:
    """Remove the content type of a form (curl's ``-d``) or a text (``fetch`` of a string), so that it is read as JSON.

    A page of another site can send both without a preflight request, but always with an Origin.
    """
    declared = (request.header(b"content-type") or b"").partition(b";")[0].strip().lower()
    if declared in TEXT_TYPES and request.header(b"origin") is None:
        request.headers = [pair for pair in request.headers if pair[0] != b"content-type"]


def read_instant(key: str, text: str) -> int:
    """Return an instant that a clock can show. Raises ApiError."""
    try:
        at = parse_instant(text)
    except ValueError as error:
        raise ApiError("wrong request", f"`{key}`: {error}.") from None
    if not EARLIEST <= at <= LATEST:
        raise ApiError("wrong request", f"`{key}` {OUT_OF_TIME}.")
    return at


def read_duration(key: str, text: str) -> int:
    """Return a duration. Raises ApiError."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ApiError("wrong request", f"`{key}` is {text[:100]!r}, which {error}.") from None


class ScenarioCatalog:
    """The scenarios by name: those that the server was started with, and the library."""

    def __init__(self, served: Iterable[BaseScenario] = ()) -> None:
        self._by_name: dict[str, BaseScenario] = {scenario.name: scenario for scenario in served}

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted({*self._by_name, *library_names()})

    def get(self, name: str) -> BaseScenario:
        """Return the scenario of a name. Raises InputError with the nearest name."""
        if name not in self._by_name:
            if name not in library_names():
                hint = did_you_mean(name[:200], self.names())
                raise InputError(f"there is no scenario {name[:200]!r} here. {hint}".rstrip())
            self._by_name[name] = load_scenario(name)
        return self._by_name[name]

    def read(self, body: Mapping[str, Any], apis: Sequence[Api]) -> tuple[BaseScenario, ...]:
        """Return the scenarios of a request. Raises InputError with everything wrong in them."""
        scenarios, left, api = list[BaseScenario](), MAX_SCENARIO_VALUES, body.get("api")
        for number, source in enumerate(body.get("scenarios", ())):
            place = f"scenarios[{number}]"
            subject = place if left == MAX_SCENARIO_VALUES else f"{place}, with those before it,"
            if not isinstance(source, str):
                left -= value_count(source)
                if left < 0:
                    raise TooManyValues(subject, MAX_SCENARIO_VALUES)
                scenarios.append(scenario_of(source, path=place))
            elif _SCENARIO_NAME.fullmatch(source):
                scenarios.append(self.get(source))
            else:
                try:
                    scenarios.append(read_scenario(source, path=place, max_values=left))
                except TooManyValues:
                    raise TooManyValues(subject, MAX_SCENARIO_VALUES) from None
                left -= scenarios[-1]._size
        for scenario in scenarios:
            if api not in (None, scenario.api):
                problem = f"scenario {scenario.name!r} is of {scenario.api}, and {api} is asked for"
                raise InputError(f"{problem}: api={scenario.api!r} would take it.")
        check_size(scenarios, apis)
        return tuple(scenarios)


def read_spec(body: Mapping[str, Any], app: App) -> log.SandboxSpec:
    """Return the specification in a body; its accounts are by default those of ``default``. Raises InputError."""
    scenarios, start = app.catalog.read(body, app.apis), body.get("starts_at")
    switches = {api.name: body.get(api.switches_key, {}) for api in app.apis}
    for api in app.apis:
        model, key = api.scenario.Switches, api.switches_key
        for name in switches[api.name]:
            if name not in model.model_fields:
                raise InputError(f"{key}: {name[:200]!r} is no switch. {suggest(name, list(model.model_fields))}")
        try:
            model.model_validate(switches[api.name])
        except ValidationError as error:
            problem = error.errors()[0]
            path = ".".join(map(str, (key, *problem["loc"])))
            raise InputError(f"{path}: {problem['msg']}") from None
    users = tuple(
        log.User(item["name"], item["password"], frozenset(item.get("permissions", ALL_PERMISSIONS)))
        for item in body.get("users", ())
    )
    names = [user.name for user in users]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"users: two are called {twice[0]!r}. Give each a name of its own.")
    ttl = None if "ttl" not in body else read_duration("ttl", body["ttl"])
    if ttl == 0:
        raise InputError(f"`ttl` is {body['ttl']!r}, which would remove it at once. Give it longer, such as 10m.")
    default = app.sandboxes.default
    accounts: log.Accounts = default.accounts
    return log.SandboxSpec(
        scenarios,
        seed=body.get("seed", 0),
        created=default.wall(),
        starts_at=None if start is None else read_instant("starts_at", start),
        ttl=ttl,
        progression=body.get("progression"),
        default_progression=body.get("otherwise", "time"),
        speed=body.get("speed", 1.0),
        switches=switches,
        accounts=replace(accounts, required=body.get("auth", accounts.required), users=users or accounts.users),
    )


def steps_in(scenarios: Iterable[BaseScenario], apis: Sequence[Api]) -> int:
    """Return the number of attempts of all subtasks or sub tasks of scenarios."""
    return sum(api_named(item.api, apis).module("world").steps_of(item) for item in scenarios)


def check_size(
    scenarios: Iterable[BaseScenario],
    apis: Sequence[Api],
    limit: int = MAX_SCENARIO_STEPS,
    place: str = "given in one request. Let tasks `repeat`: those count once.",
) -> None:
    """Raise InputError for scenarios with more attempts than the limit."""
    if (steps := steps_in(scenarios, apis)) > limit:
        raise InputError(f"these scenarios have {steps:,} attempts of subtasks; at most {limit:,} can be {place}")


def read_template(api: Api, template: Json, settings: Mapping[str, Any]) -> BaseScenario:
    """Return a scenario with one task and a sandbox's settings. Raises InputError with every issue."""
    key = api.scripts_key
    data = {"summary": "A template", "api": api.name, **settings, key: [template]}
    try:
        scenario = scenario_of(data, path="template")
    except InputError as error:
        raise InputError(str(error).replace(f"template.{key}[0]", "template")) from None
    if any(getattr(script, "starts_on", None) for script in getattr(scenario, key)):
        raise InputError("template.starts_on: a task that is created starts at once.")
    check_size([scenario], [api])
    return scenario


def prefix_of(request: Request) -> str:
    """Return the path under which a proxy serves this server, from X-Forwarded-Prefix; "" without a valid one."""
    prefix = (request.header(b"x-forwarded-prefix") or b"").decode("latin-1").removesuffix("/")
    return prefix if len(prefix) <= MAX_PREFIX_LENGTH and _PREFIX.fullmatch(prefix) else ""


def head_json(scenario: BaseScenario) -> Json:
    """Return the name, API and summary of a scenario."""
    return {"name": scenario.name, "api": scenario.api, "summary": scenario.summary}


def error_json(text: str) -> Json:
    """Return an error as JSON; half surrogate pairs, which UTF-8 cannot encode, are escaped."""
    return {"error": shorten(text, MAX_ERROR_LENGTH).encode("utf-8", "backslashreplace").decode()}


def fault_json(fault: FaultStatistics) -> Json:
    """Return a fault with its counters."""
    return {"name": fault.name, "counted": fault.calls, "affected": fault.affected, "fault": fault.fault.to_json()}


def metrics_text(requests: Mapping[tuple[str, str, int | None], int], sizes: Mapping[str, float]) -> str:
    """Return the metrics in Prometheus's text format. Raises EnvironmentProblem without prometheus_client."""
    try:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415
        from prometheus_client.exposition import generate_latest  # noqa: PLC0415
    except ImportError:
        raise EnvironmentProblem("metrics need a library. Install it: pip install 'oceanmock[metrics]'") from None
    text, labels = "Requests to the APIs that were recorded.", ("api", "operation", "status")
    counted = CounterMetricFamily("oceanmock_requests", text, labels=labels)
    for (api, operation, status), count in [*requests.items()]:
        counted.add_metric((api, operation, f"{status or ''}"), count)
    families: list[Any] = [counted]
    for name, value in sizes.items():
        family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        families.append(family(f"oceanmock_{name}", METRICS[name], value=value))
    registry: Any = SimpleNamespace(collect=lambda: families)
    return generate_latest(registry).decode()


def task_json(api: Api, item: TaskItem) -> Json:
    """Return a task with its parts."""
    body = {"api": api.name, **part_json(item), "created": format_instant(item.started or 0)}
    return body if item.stage is None else body | {"stage": item.stage}


def part_json(item: TaskItem) -> Json:
    """Return a task, or a part of one, with its parts."""
    body: Json = {key: getattr(item, key) for key in ("id", "number", "name", "state", "operation")}
    if item.parts is not None:
        body["parts"] = [part_json(part) for part in item.parts]
    return body


def on_loop(change: Callable[[], _T]) -> _T:
    """Call a function on the event loop, from it or from the thread of a long request; return the result."""
    loop = LOOP.get()
    if loop is None:
        return change()

    async def run() -> _T:
        LOOP.set(None)  # it has the context of the thread
        return change()

    return run_coroutine_threadsafe(run(), loop).result(MAX_WAIT_SECONDS)
