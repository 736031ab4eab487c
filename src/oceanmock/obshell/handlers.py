"""obshell's room: operationId → dags → obshell's JSON, its envelope and its refusals.

Facts: github.com/oceanbase/obshell at 61ee147, named with each as ob/agent/…, and what a running
obshell 4.5.0.0 answered (tests/data/obshell), which outranks it. What leaves here keeps the
contract, openapi/obshell.yaml; the app checks that it does.

A request is opened before anything looks at it: header and body are decrypted here, with a key that
lives as long as the room (``open``), and verified once its route is known (``verify``). What the
contract marks ``x-checked-by: operation`` (ids, show_details, bodies) is read here too, in the
server's order and with its words. A quirk, by the name the contract gives it, can be switched off;
what is answered then is said beside it.

The one rule: nothing is ever dialled. An id of another agent is answered as by an agent that cannot
reach it.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal, TypeVar

import orjson

from oceanmock.api import JSON, ApiError, Handler, Request, Response, Service
from oceanmock.clock import MILLISECOND, SECOND, wall_now
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import (
    CallerError,
    IllegalOperator,
    NoSuchTask,
    UnderMaintenance,
    WrongIdentity,
)
from oceanmock.obshell import errors, world
from oceanmock.obshell.api import API, STATUS_PATH
from oceanmock.obshell.auth import (
    AUTH_FAILED,
    AgentSecurity,
    OpenedHeader,
    access_error,
    find_header,
)
from oceanmock.obshell.bodies import Json, JsonWriter
from oceanmock.obshell.crypto import SecurityError, ServerKey, make_key, open_body, open_header
from oceanmock.obshell.gojson import Unreadable, query_value, quoted, read_struct
from oceanmock.obshell.ids import GenericId, parse_generic_id
from oceanmock.obshell.scenario import QuirkName, TenantLock
from oceanmock.obshell.versions import (
    ERR_CODES_SINCE,
    SUPPORTED_AUTH_SINCE,
    Version,
    contract_version,
    has_operation,
    spec_of,
)
from oceanmock.obshell.world import Dags, DagView, Key, Store, Template, id_of
from oceanmock.openapi import Spec, operations_of
from oceanmock.text import format_instant

HTML: Final = b"text/html; charset=utf-8"
EARLY: Final = b"application/json; charset=utf-8"
"""The content type of what is answered before the server's own is set (middleware.go:387-394)."""
TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False", ""))
"""What Go's strconv.ParseBool reads; an empty text binds as false."""
REQUIRED_OPERATOR: Final = (
    "Key: '{kind}Operator.Operator' Error:"
    "Field validation for 'Operator' failed on the 'required' tag"
)
NO_DATA: Final = object()
NO_DAGS: Final[list[Json]] = []
KNOW_NOTHING_UNFINISHED: Final = frozenset(("SCALING OUT", "SCALING IN", "UNIDENTIFIED"))
"""Identities that dag/unfinish does not know (ob/agent/executor/task/dag.go:481-508)."""

Kind = Literal["Dag", "Node"]
Found = TypeVar("Found")


class ServiceFactory:
    """Build obshell's services; a variant is the version whose contract is served."""

    def __init__(self, *, wall: Callable[[], int] = wall_now) -> None:
        self._wall = wall
        self._key = make_key()

    def variant_of(self, sandbox: Sandbox) -> Version:
        """Return the contract's version that a sandbox's switches select."""
        return contract_version(sandbox.world(Dags).switches.obshell_version)

    def service(self, variant: Version) -> Service:
        """Return the service of a version."""
        spec = spec_of(variant)
        handlers = Handlers(variant, spec, wall=self._wall, key=self._key)
        by_id: dict[str, Handler] = {
            "getDagDetail": handlers.get_dag,
            "dagHandler": handlers.operate_dag,
            "getNodeDetail": handlers.get_node,
            "nodeHandler": handlers.operate_node,
            "getSubTaskDetail": handlers.get_sub_task,
            "getFullSubTaskLogs": handlers.get_logs,
            "getAllClusterDags": handlers.list_cluster,
            "getAllAgentDags": handlers.list_agent,
            "getObLastMaintenanceDag": handlers.get_cluster_maintenance,
            "getAgentLastMaintenanceDag": handlers.get_agent_maintenance,
            "getAllAgentsLastMaintenanceDag": handlers.list_maintenance,
            "getUnfinishedDags": handlers.list_unfinished,
            "getClusterUnfinishDags": handlers.list_cluster_unfinished,
            "getAgentUnfinishDags": handlers.list_agent_unfinished,
            "getAgentMainDags": handlers.list_main_dags,
            "getAgentInfo": handlers.get_info,
            "getSecret": handlers.get_secret,
            "getTime": handlers.get_time,
            "getGitInfo": handlers.get_git_info,
            "getStatus": handlers.get_status,
        }
        return Service(
            name=API.name,
            prefix=API.prefix,
            spec=spec,
            handlers={id: handler for id, handler in by_id.items() if has_operation(variant, id)},
            render_error=handlers.render_error,
            security={"apiKey": handlers.verify},
            encode=_encode,
            open=handlers.open,
            fallback=handlers.fallback,
        )


_ESCAPES: Final = {
    character.encode(): f"\\u{ord(character):04x}".encode() for character in "&<>\u2028\u2029"
}
_MISREAD: Final = re.compile(b"|".join(_ESCAPES))


def _encode(body: Any) -> bytes:
    """JSON as Go writes it: in order, and with what HTML or a script would misread escaped."""
    return _MISREAD.sub(lambda found: _ESCAPES[found[0]], orjson.dumps(body))


class Handlers:
    """The operations, and the key they are asked with."""

    def __init__(
        self, version: Version, spec: Spec, *, wall: Callable[[], int], key: ServerKey
    ) -> None:
        self.version = version
        self.wall = wall
        self.key = key
        self._routes = _routes_of(spec)
        self._writer = JsonWriter(has_maintenance=version >= ERR_CODES_SINCE)

    # --- before and behind every operation ---

    def open(self, request: Request) -> None:
        """Decrypts header and body (middleware.go:396-498). Raises SecurityError, Moved."""
        if request.path.endswith("/") and self._is_moved(request):
            raise Moved
        chosen = find_header(request.headers) if request.sandbox.accounts.required else None
        if chosen is not None:
            name, sealed = chosen
            header = open_header(self.key, sealed)
            request.credentials = OpenedHeader(name, header)
            request.body = open_body(request.body, header.keys)

    def _is_moved(self, request: Request) -> bool:
        """Whether a route of this method is meant, or the beginning of one that an id ends."""
        routes = self._routes.get(request.method)
        return routes is not None and routes.fullmatch(request.path[:-1]) is not None

    def verify(self, request: Request) -> frozenset[str]:
        """Whether a request may pass (middleware.go:724-814). Raises SecurityError."""
        if request.sandbox.accounts.required:
            refusal = access_error(
                _asked_for(request),
                request.credentials,
                target=_target(request),
                now_s=self.wall() // SECOND,
                is_obproxy_task=request.path_values.get("id", "").startswith(("4", "5")),
            )
            if refusal is not None:
                raise refusal
            request.caller = "agent" if request.credentials.is_for_agent else "root"
        return frozenset()

    def has(self, request: Request, quirk: QuirkName) -> bool:
        """Whether a quirk of the real server is served; each is on unless switched off."""
        return request.sandbox.world(Dags).switches.has(quirk)

    # --- one dag, node or sub task ---

    def get_dag(self, request: Request) -> Response:
        """A dag (dag.go:56-128)."""
        id = self._read_id(request)
        view = self._look(request, id, request.sandbox.world(Dags).view)
        self._check_id(request.parameters["id"], view)
        return self._read(request, [view], self._writer.dag(view, details=self._details(request)))

    def get_node(self, request: Request) -> Response:
        """A node (node.go:48-119); without details the server fails, or answers null sub tasks."""
        id = self._read_id(request)
        view, place = self._look(request, id, request.sandbox.world(Dags).view_node)
        details = self._details(request)
        if details:
            _check_kind(id, view, "node")
        elif self.has(request, "node-without-details-is-500"):
            raise errors.panic()
        return self._read(request, [view], self._writer.node(view, place, details=details))

    def get_sub_task(self, request: Request) -> Response:
        """A sub task (sub_task.go:45-113)."""
        id = self._read_id(request)
        view, place, position = self._look(request, id, request.sandbox.world(Dags).view_sub_task)
        _check_kind(id, view, "sub task")
        return self._read(request, [view], self._writer.sub_task(view, place, position))

    def get_logs(self, request: Request) -> Response:
        """The lines of a sub task; of an unknown one none, or 404 with the quirk off."""
        try:
            view, place, position = self._look(
                request,
                self._read_id(request),
                request.sandbox.world(Dags).view_sub_task,
                is_task=False,
            )
        except NoSuchTask:
            if not self.has(request, "logs-of-nothing-are-empty"):
                raise
            return self._succeed(request, {"contents": []})
        lines = self._writer.logs(view, place, position)
        return self._read(request, [view], {"contents": lines})

    def operate_dag(self, request: Request) -> Response:
        """Rolls back, retries, cancels or passes a dag (dag.go:283-356)."""
        id = self._read_id(request)
        body = self._read_body(request, "Dag")
        view = self._look(request, id, request.sandbox.world(Dags).view)
        named = body.get("id", "") if self.has(request, "body-id-overrules-path") else ""
        self._check_id(named or request.parameters["id"], view)
        match body["operator"].upper():
            case "ROLLBACK" | "RETRY" | "CANCEL" | "PASS" as operator:
                self._operate(view, lambda: world.operate(request.sandbox, _key(id), operator))
            case _:
                raise errors.not_supported("Dag", body["operator"])
        return self._succeed(request)

    def operate_node(self, request: Request) -> Response:
        """Passes a node; the operator comes first, and an id in the body nowhere (node.go:151)."""
        id = self._read_id(request)
        operator = self._read_body(request, "Node")["operator"]
        if operator.upper() != "PASS":
            raise errors.not_supported("Node", operator)
        view, _ = self._look(request, id, request.sandbox.world(Dags).view_node)
        self._operate(view, lambda: world.operate_node(request.sandbox, _key(id), "PASS"))
        return self._succeed(request)

    def _check_id(self, text: str, view: DagView) -> None:
        """An id of the right number, but spelt otherwise, is not the dag's (dag.go:122-125)."""
        if text != id_of(view.dag, view.dag.number):
            raise errors.not_found("dag id not match")

    def _operate(self, view: DagView, operate: Callable[[], DagView]) -> None:
        try:
            operate()
        except IllegalOperator as refusal:
            nodes = [(node.number, node.name) for node in view.dag.nodes]
            raise errors.illegal_operator(refusal, nodes) from None

    # --- calls that start a dag ---

    def fallback(self, request: Request) -> Handler | None:
        """What starts the dag of a template that the request fits. Raises what refuses it."""
        templates = request.sandbox.world(Dags).templates
        fitting = [each for each in templates if each.starts_on.fits(request.method, request.path)]
        if not fitting:
            return None
        self.verify(request)
        self._bind(request, "param.Body", {})
        body = json.loads((request.body or b"{}").decode("utf-8", "replace"), parse_int=float)
        for template in fitting:
            if template.starts_on.fits_body(body):
                return partial(self._start, template=template)
        nearest = fitting[0]
        raise ApiError("unknown path", nearest.starts_on.asks(str(nearest.model.name)))

    def _start(self, request: Request, *, template: Template) -> Response:
        """The dag that was just made, without details (agent_handler.go:116, NewDagDetailDTO)."""
        dags = request.sandbox.world(Dags)
        address, name = _authority(dags.own.ip, dags.own.port), str(template.model.name)
        try:
            view = world.start(request.sandbox, template)
        except WrongIdentity as refusal:
            if refusal.identity == "CLUSTER AGENT" and "MASTER" in refusal.expected:
                raise errors.already_initialized() from None
            wanted = " or ".join(refusal.expected)
            raise errors.wrong_identity(address, refusal.identity, wanted) from None
        except UnderMaintenance as refusal:
            lock = template.model.maintenance
            if template.model.scope == "agent":
                raise errors.under_maintenance(name, address) from None
            if isinstance(lock, TenantLock) and refusal.tenant is not None:
                raise errors.tenant_under_maintenance(name, lock.tenant) from None
            raise errors.cluster_under_maintenance(name, refusal.dag) from None
        return self._succeed(request, self._writer.dag(view, details=False))

    # --- lists ---

    def list_cluster(self, request: Request) -> Response:
        """The dags kept in OceanBase."""
        self._check_cluster_agent(request)
        return self._list(request, request.sandbox.world(Dags).all("cluster"))

    def list_agent(self, request: Request) -> Response:
        """The dags the agent keeps itself, the newest last."""
        return self._list(request, request.sandbox.world(Dags).all("agent"))

    def list_cluster_unfinished(self, request: Request) -> Response:
        """Those kept in OceanBase that are not finished."""
        self._check_cluster_agent(request)
        return self._list_unfinished(request, "cluster")

    def list_agent_unfinished(self, request: Request) -> Response:
        """Those the agent keeps itself that are not finished."""
        return self._list_unfinished(request, "agent")

    def list_unfinished(self, request: Request) -> Response:
        """What is unfinished; on a CLUSTER AGENT the cluster's too, or null (dag.go:481-508)."""
        identity = request.sandbox.world(Dags).agent.identity
        if identity in KNOW_NOTHING_UNFINISHED:
            raise errors.unknown_identity(identity)
        if not _holds_oceanbase(request):
            return self._list_unfinished(request, "agent")
        return self._list_unfinished(request, "agent", "cluster", nothing=None)

    def _check_cluster_agent(self, request: Request) -> None:
        """Raises ObshellError on any other agent; which error, is lost (dag.go:146-149)."""
        if _holds_oceanbase(request):
            return
        if self.has(request, "refusal-is-never-sent"):
            raise errors.unexpected("ocsagent cannot build response body")
        agent = request.sandbox.world(Dags).agent
        address = _authority(agent.ip, agent.port)
        raise errors.wrong_identity(address, agent.identity, "CLUSTER AGENT")

    def _list_unfinished(
        self, request: Request, *stores: Store, nothing: list[Json] | None = NO_DAGS
    ) -> Response:
        """Dags that are not finished; show_details is read even where there are none."""
        details = self._details(request)
        every = [view for store in stores for view in request.sandbox.world(Dags).all(store)]
        shown = [view for view in every if _is_unfinished(view)]
        contents = [self._writer.dag(view, details=details) for view in shown]
        return self._read(request, shown, {"contents": contents or nothing})

    def list_maintenance(self, request: Request) -> Response:
        """The last maintenance dag of every agent: of this one (dag.go:434-468)."""
        return self._list(request, self._last_of_agent(request))

    def list_main_dags(self, request: Request) -> Response:
        """The dag that the last maintenance dag works for, unless that succeeded (dag.go:615-643).

        It comes with its details, but it is named in those of the last maintenance dag.
        """
        details, last = self._details(request), self._last_of_agent(request)
        main = [
            found
            for view in last
            if details and view.state.state != "SUCCEED"
            for found in self._main_dag_of(request, view)
        ]
        contents = [self._writer.dag(view, details=True) for view in main]
        return self._read(request, [*last, *main], {"contents": contents})

    def _last_of_agent(self, request: Request) -> list[DagView]:
        """The agent's last maintenance dag; without one the server fails, or lists none."""
        view = request.sandbox.world(Dags).last_maintenance("agent")
        if view is None and self.has(request, "never-maintained-is-500"):
            raise errors.panic()
        return [] if view is None else [view]

    def _main_dag_of(self, request: Request, view: DagView) -> list[DagView]:
        """The dag that a dag's data name, if it can be had."""
        data = self._writer.dag(view, details=True)["additional_data"]
        name = (data or {}).get("main_dag_id")
        if not isinstance(name, str):
            return []
        try:
            main = self._look(request, parse_generic_id(name), request.sandbox.world(Dags).view)
            self._check_id(name, main)
        except CallerError:
            return []
        return [main]

    def get_agent_maintenance(self, request: Request) -> Response:
        """The agent's last maintenance dag (dag.go:396-421)."""
        return self._maintenance(request, "agent", "Agent is not under maintenance")

    def get_cluster_maintenance(self, request: Request) -> Response:
        """The cluster's (dag.go:369-383); on an agent without OceanBase 500, or the 404 of none."""
        if not _holds_oceanbase(request) and self.has(request, "no-oceanbase-is-500"):
            raise errors.not_holding(task=False)
        return self._maintenance(request, "cluster", "Cluster is not under maintenance")

    def _maintenance(self, request: Request, store: Store, otherwise: str) -> Response:
        view = request.sandbox.world(Dags).last_maintenance(store)
        if view is None:
            raise errors.not_found(otherwise)
        return self._read(request, [view], self._writer.dag(view, details=self._details(request)))

    def _list(self, request: Request, views: Iterable[DagView]) -> Response:
        """These dags; show_details is read for each of them (dag.go:145-204), so not for none."""
        shown = list(views)
        is_read = bool(shown) or not self.has(request, "unreadable-show-details-is-500")
        details = is_read and self._details(request)
        contents = [self._writer.dag(view, details=details) for view in shown]
        return self._read(request, shown, {"contents": contents})

    # --- what a client reads before it can seal a request ---

    def get_info(self, request: Request) -> Response:
        """What the agent is (ob/agent/meta/agent.go:399)."""
        agent = request.sandbox.world(Dags).agent
        info: Json = {
            "pid": request.sandbox.pid,
            "state": 2,
            "startAt": request.sandbox.started,
            "homePath": "/home/admin/oceanbase",
            "obVersion": request.sandbox.world(Dags).switches.obshell_version
            if _holds_oceanbase(request)
            else "",
            "architecture": "x86_64",
            "ip": agent.ip,
            "port": agent.port,
            "zone": "" if agent.identity == "SINGLE" else "zone1",
            "identity": agent.identity,
            "version": f"{request.sandbox.world(Dags).switches.obshell_version}-1",
            "isObproxyAgent": False,
            "security": agent.agent_password is not None,
        }
        if self.version >= SUPPORTED_AUTH_SINCE:
            info["supportedAuth"] = ["v2"]
        return self._succeed(request, info)

    def get_secret(self, request: Request) -> Response:
        """The public key that headers are sealed with."""
        agent = request.sandbox.world(Dags).agent
        data = {"ip": agent.ip, "port": agent.port, "public_key": self.key.public_key}
        return self._succeed(request, data)

    def get_time(self, request: Request) -> Response:
        """The sandbox's time."""
        return self._succeed(request, format_instant(request.sandbox.clock.now()))

    def get_git_info(self, request: Request) -> Response:
        """Four empty texts, as of a build that did not say."""
        keys = ("branch", "commitId", "shortCommitId", "commitTime")
        return self._succeed(request, dict.fromkeys(keys, ""))

    def get_status(self, request: Request) -> Response:
        """How the agent stands."""
        agent = request.sandbox.world(Dags).agent
        store: Store = "agent"
        locked = [
            view for view in request.sandbox.world(Dags).all(store) if view.dag.is_maintenance
        ]
        return self._succeed(
            request,
            {
                "agent": {"ip": agent.ip, "port": agent.port, "identity": agent.identity},
                "state": 2,
                "version": f"{request.sandbox.world(Dags).switches.obshell_version}-1",
                "pid": request.sandbox.pid,
                "startAt": request.sandbox.started,
                "port": agent.port,
                "obState": 0,
                "underMaintenance": any(map(_is_unfinished, locked)),
            },
        )

    # --- reading a request ---

    def _read_id(self, request: Request) -> GenericId:
        """The id in the path. Raises InvalidGenericId."""
        return parse_generic_id(request.parameters["id"])

    def _look(
        self, request: Request, id: GenericId, find: Callable[[Key], Found], *, is_task: bool = True
    ) -> Found:
        """What an id names here. Raises NoSuchTask, or ObshellError when it is not kept here.

        Of what is no task, but a log, it is not said that it is not found (sub_task.go:138-184).
        """
        self._reach(request, id)
        if id.ip is None and not _holds_oceanbase(request):
            if self.has(request, "unheld-cluster-id-is-500"):
                raise errors.not_holding(task=is_task)
            raise errors.not_found()
        return find(_key(id))

    def _reach(self, request: Request, id: GenericId) -> None:
        """Raises ObshellError for the id of another agent, to which a request is forwarded."""
        agent = request.sandbox.world(Dags).agent
        if id.ip is None or (str(id.ip), id.port) == (agent.ip, agent.port):
            return
        if id.kind == "obproxy":
            raise errors.not_found("obproxy task not found")
        if not self.has(request, "unreachable-owner-is-500"):
            raise errors.not_found()
        owner = _authority(str(id.ip), id.port)
        url = f'{request.method.capitalize()} "http://{owner}{_target(request)}"'
        raise errors.unreachable(url, owner)

    def _details(self, request: Request) -> bool:
        """Whether show_details is true (ob/param/task.go:19-21); anything unreadable fails."""
        said = query_value(request.query.decode("latin-1"), "show_details")
        text = "true" if said is None else said
        if text in TRUE or text in FALSE:
            return text in TRUE
        if self.has(request, "unreadable-show-details-is-500"):
            raise errors.panic()
        raise errors.illegal_argument(f"strconv.ParseBool: parsing {quoted(text)}: invalid syntax")

    def _read_body(self, request: Request, kind: Kind) -> dict[str, str]:
        """The operator of a body, and its id if it has one; no body is ``{}`` (middleware.go:299).

        Raises ObshellError.
        """
        named = "Dag" if self.has(request, "node-body-says-dag-operator") else kind
        fields = {"operator": "string", "id": "string"}
        body = self._bind(request, f"task.{named}Operator", fields)
        if not body.get("operator"):
            raise errors.bind_failed(REQUIRED_OPERATOR.format(kind=named))
        return body

    def _bind(self, request: Request, struct: str, fields: Mapping[str, str]) -> dict[str, Any]:
        """The fields of a body that a Go struct has; no body is ``{}``. Raises ObshellError."""
        try:
            return read_struct(request.body or b"{}", struct, fields)
        except Unreadable as why:
            is_eof = "Go struct field" not in str(why)
            if is_eof and self.has(request, "body-that-is-no-object-is-eof"):
                raise errors.bind_failed("EOF") from None
            raise errors.bind_failed(str(why)) from None

    # --- the envelope ---

    def _read(self, request: Request, views: Iterable[DagView], data: Any) -> Response:
        answer = self._succeed(request, data)
        world.note_read(request.sandbox, views)
        return answer

    def _succeed(self, request: Request, data: Any = NO_DATA) -> Response:
        body = self._envelope(request, 200)
        if data is not NO_DATA:
            body["data"] = data
        return Response(200, body)

    def render_error(self, request: Request, error: Exception) -> Response:
        """An error in obshell's envelope; a redirect, which has none."""
        if isinstance(error, Moved):
            return _moved(request)
        said = self._mended(request, errors.error_parts(error), error)
        if self.version < ERR_CODES_SINCE:
            said = errors.in_old_format(said)
        is_frozen = said.stage == "panic" and self.has(request, "panic-is-dated-at-start")
        body = self._envelope(request, said.status, is_traced=said.stage == "handler")
        if is_frozen:
            body |= {"timestamp": format_instant(request.sandbox.started), "duration": 0}
        if said.has_null:
            body["data"] = None
        body["error"] = _error(said)
        is_early = isinstance(error, SecurityError) and said.stage != "handler"
        return Response(said.status, body, media_type=EARLY if is_early else JSON)

    def _mended(
        self, request: Request, said: errors.ErrorParts, error: Exception
    ) -> errors.ErrorParts:
        """An error of the security checks as it would be without its quirk."""
        if isinstance(error, SecurityError):
            missing = said.err_code == "Request.Header.NotFound"
            if missing and not self.has(request, "missing-header-is-400"):
                return replace(said, status=401, code=AUTH_FAILED)
            body = error.stage in ("body", "panic")
            if body and not self.has(request, "undecryptable-body-is-500"):
                return replace(said, status=401, code=1, stage="decryption")
        if said.stage == "panic" and not self.has(request, "panic-is-dated-at-start"):
            return replace(said, stage="handler")
        return said

    def _envelope(self, request: Request, status: int, *, is_traced: bool = True) -> Json:
        now = request.sandbox.clock.now()
        return {
            "successful": status < 400,
            "timestamp": format_instant(now),
            "duration": (now - request.received_at) // MILLISECOND,
            "status": status,
            "traceId": self._trace_of(request) if is_traced else "",
        }

    def _trace_of(self, request: Request) -> str:
        """The caller's X-OBSHELL-Trace-ID, or 16 hexadecimal digits (lib/trace/header.go:25-46)."""
        is_status = request.path == STATUS_PATH and not request.query
        if is_status and self.has(request, "status-has-no-trace-id"):
            return ""
        sent = request.header(b"x-obshell-trace-id")
        if sent:
            return sent.decode("latin-1")
        return request.sandbox.draw_trace_id()


def _error(said: errors.ErrorParts) -> Json:
    error: Json = {}
    if said.code is not None:
        error["code"] = said.code
    if said.err_code is not None:
        error["errCode"] = said.err_code
    error["message"] = said.message
    return error


# --- small things ---------------------------------------------------------------------------------


class Moved(CallerError):
    """The path has a slash too much; gin redirects before it does anything else."""


def _moved(request: Request) -> Response:
    """301 for a GET, 307 otherwise (gin's RedirectTrailingSlash; recorded in lone.json)."""
    target = _target(request)
    path, question, query = target.partition("?")
    where = path.rstrip("/") + question + query
    headers = ((b"location", where.encode("latin-1")),)
    if request.method != "GET":
        return Response(307, b"", headers, media_type=None)
    link = html.escape(where).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    page = f'<a href="{link}">Moved Permanently</a>.\n\n'
    return Response(301, page.encode("latin-1"), headers, media_type=HTML)


def _routes_of(spec: Spec) -> dict[str, re.Pattern[str]]:
    """By method, the paths that a trailing slash is taken from: the routes, and what an id ends."""
    paths: dict[str, set[str]] = {"GET": set(), "POST": set()}
    for operation in operations_of(spec):
        path = operation.path.removesuffix("/{id}")
        paths[operation.method] |= {path, operation.path.replace("{id}", "[^/]+")}
    return {method: re.compile("|".join(sorted(several))) for method, several in paths.items()}


def _target(request: Request) -> str:
    """Path and query as they were sent; what a header's uri must be (Go's RequestURI)."""
    target = request.raw_path.decode("latin-1")
    return f"{target}?{request.query.decode('latin-1')}" if request.query else target


def _authority(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _holds_oceanbase(request: Request) -> bool:
    return request.sandbox.world(Dags).agent.identity == "CLUSTER AGENT"


def _asked_for(request: Request) -> AgentSecurity:
    """What the agent is, and the passwords it asks for."""
    agent = request.sandbox.world(Dags).agent
    return AgentSecurity(agent.identity, agent.root_password, agent.agent_password)


def _key(id: GenericId) -> Key:
    return ("cluster" if id.kind == "cluster" else "agent", id.number)


def _is_unfinished(view: DagView) -> bool:
    return not view.state.is_finished


def _check_kind(id: GenericId, view: DagView, what: str) -> None:
    """An id of obproxy does not name what is not, nor the other way round (node.go:95-117)."""
    if str(id)[0] != id_of(view.dag, view.dag.number)[0]:
        raise errors.not_found(f"{what} type not match")
