"""obshell's handlers: each operationId's response, in obshell's JSON and envelope.

Facts: github.com/oceanbase/obshell at 61ee147, named with each as ob/agent/…, and the responses of a running obshell
4.5.0.0 (tests/data/obshell), which outrank it. Header and body are decrypted first (``open``), and verified once the
route is found (``verify``). Each operation itself reads what the contract marks ``x-checked-by: operation`` (ids,
show_details, bodies), in the server's order and with its messages. The quirks of the real server, named in the
contract, can be switched off. In a sandbox with several agents, the master responds to requests that a FOLLOWER
forwards, and the owner of an id to requests for it. An agent outside the sandbox cannot be reached.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal

from oceanmock.api import JSON, ApiError, Handler, Request, Response, Service, stub_for, template_for, unknown_start
from oceanmock.clock import SECOND, wall_now
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import CallerError, IllegalOperator, NoSuchTask
from oceanmock.obshell import api, auth, bodies, errors, world
from oceanmock.obshell.api import API, LOGIN_PATH, LOGOUT_PATH, STATUS_PATH, Version, contract_version, parse_generic_id
from oceanmock.obshell.bodies import agent_of, dag_json, dags_of, find, has_quirk, holds_oceanbase, place_of, read_id
from oceanmock.obshell.errors import ObshellError, error_of, not_found, not_holding, panic, wrong_identity
from oceanmock.obshell.submits import SubmitRules, is_needed, rules_at
from oceanmock.obshell.world import CLUSTER, Dags, DagView, Store, Template, id_of
from oceanmock.scenario.stubs import StubRequest

OBPROXY_PREFIX: Final = f"{api.PREFIX}/obproxy"
"""The paths that require the agent's own password (ob/agent/api/obproxy_route.go:33)."""
LOGOUT: Final = "param.LogoutSessionParam"
SESSION_S: Final = 1800  # how long a session lasts after its last request (ob/agent/secure/session.go:36-41)


class ServiceFactory:
    """Build obshell's services; a variant is the version whose contract is served."""

    def __init__(self, *, wall: Callable[[], int] = wall_now) -> None:
        self.wall = wall
        self._keys: dict[tuple[int, int], auth.ServerKey] = {}  # by position of the agent and bits, from the store
        self._others: dict[tuple[str, str], Handler] = {
            ("GET", f"{api.PREFIX}/ob/info"): self._reader(bodies.ob_info_json),
            ("GET", api.OBSERVER_INFO_PATH): self._reader(bodies.observer_json),
            ("GET", f"{api.PREFIX}/agents/status"): self._reader(bodies.all_status_json),
            ("GET", api.TEMPLATES_PATH): self._reader(lambda _: {"contents": []}),
            ("POST", LOGIN_PATH): self.log_in,
            ("POST", LOGOUT_PATH): self.log_out,
            ("POST", STATUS_PATH): self._reader(bodies.status_json),
        }

    def variant_of(self, sandbox: Sandbox) -> Version:
        return contract_version(sandbox.world(Dags).version_at(0))

    def service(self, variant: Version) -> Service:
        by_id: dict[str, Handler] = {
            "getDagDetail": self.get_dag,
            "dagHandler": self.operate_dag,
            "getNodeDetail": self.get_node,
            "nodeHandler": self.operate_node,
            "getSubTaskDetail": self.get_sub_task,
            "getFullSubTaskLogs": self.get_logs,
            "getAllClusterDags": partial(self.list_dags, store="cluster"),
            "getAllAgentDags": partial(self.list_dags, store="agent"),
            "getObLastMaintenanceDag": partial(self.get_maintenance, store="cluster"),
            "getAgentLastMaintenanceDag": partial(self.get_maintenance, store="agent"),
            "getAllAgentsLastMaintenanceDag": self.list_maintenance,
            "getUnfinishedDags": self.list_unfinished,
            "getClusterUnfinishDags": partial(self.list_dags, store="cluster", unfinished=True),
            "getAgentUnfinishDags": partial(self.list_dags, store="agent", unfinished=True),
            "getAgentMainDags": self.list_main_dags,
            "getAgentInfo": self._reader(bodies.info_json),
            "getSecret": self._reader(
                lambda request: bodies.address_json(agent_of(request)) | {"public_key": self.key_of(request).public_key}
            ),
            "getTime": self._reader(lambda request: bodies.time_of(request, request.sandbox.clock.now())),
            "getGitInfo": self._reader(lambda _: bodies.GIT_INFO),
            "getStatus": self._reader(bodies.status_json),
        }
        return Service(
            name=API.name,
            prefix=API.prefix,
            spec=api.spec_of(variant),
            submits=lambda: API.submits,
            handlers={id: handler for id, handler in by_id.items() if api.has_operation(variant, id)},
            render_error=self.render_error,
            security={"apiKey": self.verify},
            encode=bodies.encode,
            open=self.open,
            fallback=self.fallback,
        )

    def _reader(self, json_of: Callable[[Request], Any]) -> Handler:
        return lambda request: self._succeed(request, json_of(request))

    def key_of(self, request: Request) -> auth.ServerKey:
        """Return the key of the agents at the position of the one that responds."""
        bits = auth.RSA_BITS if bodies.contract_of(request) >= api.LONG_KEYS_SINCE else auth.OLD_RSA_BITS
        place = place_of(request), bits
        if place not in self._keys:  # an upgraded agent replaces a short key (secure/crypto.go:115-155)
            name = "obshell key {}, {} bits".format(*place)
            self._keys[place] = auth.read_key(request.sandbox.store.keep(name, partial(auth.make_private_key, bits)))
        return self._keys[place]

    def open(self, request: Request) -> None:
        """Decrypt header and body (middleware.go:396-498). Raises ObshellError, Redirect."""
        # The path of a route, with or without its id, and a trailing slash.
        if request.path.endswith("/"):
            routes = errors.redirected_routes(bodies.contract_of(request)).get(request.method)
            is_other = (request.method, request.path[:-1]) in self._others
            if is_other or (routes is not None and routes.fullmatch(request.path)):
                raise errors.Redirect
        version, required = bodies.contract_of(request), request.sandbox.accounts.required
        names = auth.SECURITY_HEADERS if version >= api.OBPROXY_SINCE else auth.SECURITY_HEADERS[1:]
        chosen = auth.find_header(request.headers, names) if required else None
        if chosen is not None:
            name, sealed = chosen
            request.credentials = auth.open_header(self.key_of(request), sealed, name)
            # A body that decrypts to an empty one is not read as {} (PaddingBody in middleware.go).
            request.body = auth.open_body(request.body, request.credentials.keys) or (request.body and b" ")

    def verify(self, request: Request) -> frozenset[str]:
        """Check the credentials (middleware.go:724-814). Raises ObshellError."""
        header, dags = request.credentials, dags_of(request)
        place = dags.place_at(request.port) or 0  # of the port, as this runs again for the next scheme after a refusal
        is_obproxy = request.path.startswith(OBPROXY_PREFIX)
        is_obproxy_task = is_obproxy or request.path_values.get("id", "").startswith(("4", "5"))
        target, lacks_master = bodies.target_of(request), False
        if dags.listens_on and dags.agent_at(place).identity == "FOLLOWER" and not is_obproxy_task:
            # It forwards the requests of clients to its master, which checks the password (middleware.go:527-537).
            master = next((at for at in dags.cluster_of(place) if dags.agent_at(at).identity == "MASTER"), None)
            lacks_master = master is None
            is_refused = header is None or header.is_for_agent or header.forward_type == 2 or header.uri != target
            request.place = None if is_refused and request.sandbox.accounts.required else master
        if request.sandbox.accounts.required:
            if is_obproxy and header is not None and not header.is_for_agent:
                header = None
            now_s = self.wall() // SECOND
            has_sessions = holds_oceanbase(request) and api.has_operation(bodies.contract_of(request), LOGIN_PATH)
            is_logged_in = header is not None and has_sessions and request.path != LOGIN_PATH
            session_id = header.session_id if is_logged_in else ""
            # A request needs no password in a session, or if it cannot be forwarded.
            agent = None if session_id or lacks_master else agent_of(request)
            auth.check_access(agent, header, target=target, now_s=now_s, is_obproxy_task=is_obproxy_task)
            if session_id:
                auth.check_session(header, self._session_end(request, session_id), now_s=now_s)
                self._session_end(request, session_id, at_s=now_s + SESSION_S)
            request.caller = "agent" if header.is_for_agent else "root"
        if lacks_master:
            raise error_of("Request.Forward.MasterAgent.NotFound")
        return frozenset()

    def get_dag(self, request: Request) -> Response:
        """Return a dag (dag.go:56-128).

        A SCALING OUT agent forwards a request for a dag of the cluster to the coordinator (dag.go:90-93, 206-229). The
        real one reads that dag's id in its own last maintenance dag; here it is the id of the cluster's last one.
        """
        id, dags = read_id(request), dags_of(request)
        if id.ip is None and agent_of(request).identity == "SCALING OUT":
            if dags.last_maintenance(dags.stores[place_of(request)]) is None:
                raise panic()
            last, identities = dags.last_maintenance(CLUSTER), [agent.identity for agent in dags.agents]
            if last is None or last.data.number != id.number or "CLUSTER AGENT" not in identities:
                raise error_of("Common.Unexpected", why="coordinate cluster agent is not found or not match")
            request.place = identities.index("CLUSTER AGENT")
        view, _ = find(request, id, "dag")
        self._check_id(request, request.parameters["id"], view)
        return self._succeed(request, dag_json(request, view, details=bodies.read_show_details(request)), [view])

    def get_node(self, request: Request) -> Response:
        """Return a node (node.go:48-119); without details the server fails, or omits sub tasks."""
        id = read_id(request)
        view, (place,) = find(request, id, "node")
        details = bodies.read_show_details(request)
        if details:
            bodies.check_kind(id, view, "node")
        elif has_quirk(request, "node-without-details-is-500"):
            raise panic()
        return self._succeed(request, bodies.node_json(view, place, details=details), [view])

    def get_sub_task(self, request: Request) -> Response:
        """Return a sub task (sub_task.go:45-113)."""
        id = read_id(request)
        view, (place, position) = find(request, id, "sub_task")
        bodies.check_kind(id, view, "sub task")
        return self._succeed(request, bodies.sub_task_json(view, place, position), [view])

    def get_logs(self, request: Request) -> Response:
        """Return the log lines of a sub task; for an unknown one none, or 404."""
        id = read_id(request)
        try:
            view, (place, position) = find(request, id, "sub_task", is_task=False)
        except NoSuchTask:
            if not has_quirk(request, "logs-of-nothing-are-empty"):
                raise
            return self._succeed(request, {"contents": []})
        return self._succeed(request, {"contents": bodies.log_lines_json(request, view, place, position)}, [view])

    def operate_dag(self, request: Request) -> Response:
        """Roll back, retry, cancel or pass a dag (dag.go:283-356)."""
        id = read_id(request)
        body = bodies.read_operator(request, "Dag")
        view, _ = find(request, id, "dag")
        body_id = body.get("id", "") if has_quirk(request, "body-id-overrules-path") else ""
        self._check_id(request, body_id or request.parameters["id"], view)
        match body["operator"].upper():
            case "ROLLBACK" | "RETRY" | "CANCEL" | "PASS" as operator:
                return self._operate(request, view, operator)
            case _:
                raise error_of("Task.Dag.Operator.NotSupport", operator=body["operator"])

    def operate_node(self, request: Request) -> Response:
        """Pass a node; the operator is checked first, an id in the body never (node.go:151)."""
        id = read_id(request)
        operator = bodies.read_operator(request, "Node")["operator"]
        if operator.upper() != "PASS":
            raise error_of("Task.Node.Operator.NotSupport", operator=operator)
        owner = bodies.owner_of(request, id)
        if owner not in (None, place_of(request)) and has_quirk(request, "forwarded-pass-loses-its-body"):
            bodies.read_operator(replace(request, body=b""), "Node")
        view, (place,) = find(request, id, "node")
        return self._operate(request, view, "PASS", place)

    def _operate(
        self, request: Request, view: DagView, operator: api.ClientOperator, node: int | None = None
    ) -> Response:
        """Operate a dag, or its node at a position. Raises ObshellError if a state, a flag or a lock forbids it."""
        try:
            world.operate(request.sandbox, view.data.key, operator, node)
        except IllegalOperator as error:
            if error.reason == "NoNodeFailed":
                why = "failed to set dag rollback: no node failed"
                raise replace(error_of("Common.Unexpected", why=why), old_message=f"Known error: {why}") from None
            at = view.data.nodes[error.node or 0]
            raise error_of(f"Task.{error.reason}", node=at.name, number=at.number) from None
        return self._succeed(request)

    def _check_id(self, request: Request, text: str, view: DagView) -> None:
        """Raise ObshellError if an id has the right number, but is not the dag's own text (dag.go:122-125)."""
        if bodies.contract_of(request) >= api.OBPROXY_SINCE and text != id_of(view.data, view.data.number):
            raise not_found("dag id not match")

    def fallback(self, request: Request) -> Handler | None:
        """Return a handler: of a stub, or one that checks a call and starts a template's dag. Raises CallerError."""
        templates = dags_of(request).templates_for(request.method, request.path)
        rules, other = rules_at(request.method, request.path), None
        if api.has_operation(bodies.contract_of(request), request.path):
            other = self._others.get((request.method, request.path))
        if not (templates or rules or other or request.sandbox.find_stub(request)):
            return None
        if request.path != STATUS_PATH:
            self.verify(request)
        templates = [template for template in templates if template.model.agent in (None, place_of(request) + 1)]
        stub = self._stub(request)
        if not isinstance(stub, str):
            return stub
        if other is not None and not templates:
            return other
        return partial(self._submit, rules=rules, templates=templates, why=stub)

    def _stub(self, request: Request, starts_on: Any = None, null: str = "") -> Handler | str:
        item = partial(dag_json, request, details=True)

        def envelope(request: Request, status: int) -> dict[str, Any]:
            return {**self._envelope(request, status), **({"data": None} if null else {})}

        time = partial(bodies.time_of, request)
        return stub_for(request, envelope=envelope, item=item, time=time, starts_on=starts_on)

    def _submit(
        self, request: Request, *, rules: SubmitRules | None, templates: Sequence[Template], why: str
    ) -> Response:
        """Check a call, start the dag of the first matching template, and return it. Raises ApiError, ObshellError."""
        sent = StubRequest.of(request)
        template: Template | None = template_for(templates, sent.body or {})
        if rules is None and templates:
            bodies.read_fields(request, "param.Body", {"param.Body": {}})
        if rules is not None:
            identities = template.identities if template else rules.get("identity", ())
            if not is_needed(request, rules, identities):
                return Response(204, b"", media_type=None)
        if template is None:  # here a real server would start a dag
            raise ApiError("unknown path", why) if why else unknown_start(templates, request)
        null: Literal["", "null"] = "" if rules and rules.get("bare") else "null"
        refusal = self._stub(request, template.starts_on, null)
        if not isinstance(refusal, str):
            return refusal(request)
        try:
            view = world.start(request.sandbox, template, sent, place=place_of(request))
        except ObshellError as error:  # a lock (500) with null data, or the agent's identity (400) without data
            raise replace(error, null=null if error.status == 500 else "") from None
        return self._succeed(request, dag_json(request, view, details=False))  # agent_handler.go:116

    def list_dags(self, request: Request, *, store: Store, unfinished: bool = False) -> Response:
        """Return the dags of a store, the newest last; other agents' error is not sent since 4.3.1 (dag.go:146-149)."""
        if store == "cluster" and not holds_oceanbase(request):
            if bodies.has_err_codes(request) and has_quirk(request, "refusal-is-never-sent"):
                raise error_of("Common.Unexpected", why="ocsagent cannot build response body")
            agent, dags = agent_of(request), "cluster unfinished dags" if unfinished else "all cluster dags"
            refusal = wrong_identity(agent, "CLUSTER AGENT")
            raise replace(refusal, old_message=f"Bad request: only cluster agent can get {dags}")
        store = store if store == CLUSTER else dags_of(request).stores[place_of(request)]
        if unfinished:
            return self._list_unfinished(request, store)
        return self._list(request, dags_of(request).all(store))

    def list_unfinished(self, request: Request) -> Response:
        """Return all unfinished dags, for a CLUSTER AGENT those of every agent, null for none (dag.go:481-508)."""
        identity, dags, own = agent_of(request).identity, dags_of(request), place_of(request)
        if identity in {"SCALING OUT", "SCALING IN", "UNIDENTIFIED"}:
            raise error_of("Agent.Identify.Unknown", identity=identity)
        if not holds_oceanbase(request):
            return self._list_unfinished(request, dags.stores[own])
        return self._list_unfinished(request, *(dags.stores[place] for place in dags.cluster_of(own)), CLUSTER)

    def _list_unfinished(self, request: Request, *stores: Store) -> Response:
        """Return unfinished dags; none of several stores are null. show_details is read even if there are none."""
        details = bodies.read_show_details(request)
        views = [view for store in stores for view in dags_of(request).unfinished(store)]
        contents = [dag_json(request, view, details=details) for view in views]
        return self._succeed(request, {"contents": contents or ([] if len(stores) == 1 else None)}, views)

    def list_maintenance(self, request: Request) -> Response:
        """Return the last maintenance dag of every agent, those of others with details (dag.go:434-468)."""
        return self._list(request, *self._last_of_agents(request))

    def list_main_dags(self, request: Request) -> Response:
        """Return the main dags of the agents' last maintenance dags that have not succeeded (dag.go:615-643)."""
        details, place = bodies.read_show_details(request), place_of(request)
        own, others = self._last_of_agents(request)
        last, main = [*own, *others], dict[str, DagView]()
        for view in last if details else others:
            data = dag_json(request, view, details=True)["additional_data"] if view.state.state != "SUCCEED" else None
            id = (data or {}).get("main_dag_id")
            if isinstance(id, str):
                with suppress(CallerError):  # it does not exist
                    dag, _ = find(request, parse_generic_id(id), "dag")
                    self._check_id(request, id, dag)
                    main.setdefault(id, dag)
                request.place = place
        contents = [dag_json(request, view, details=True) for view in main.values()]
        return self._succeed(request, {"contents": contents}, [*last, *main.values()])

    def _last_of_agents(self, request: Request) -> tuple[list[DagView], list[DagView]]:
        """Return the last maintenance dag of the agent, and those of the others; without its own the server fails."""
        dags, own = dags_of(request), place_of(request)
        last = {place: dags.last_maintenance(dags.stores[place]) for place in dags.cluster_of(own)}
        if last[own] is None and has_quirk(request, "never-maintained-is-500"):
            raise panic()
        own_view = last.pop(own)
        return [own_view] if own_view else [], [view for view in last.values() if view]

    def get_maintenance(self, request: Request, *, store: Store) -> Response:
        """Return a store's last maintenance dag (dag.go:369-421)."""
        # The master sends a request for a FOLLOWER's own dag back. Without OceanBase the response is 500 or 404.
        dags = dags_of(request)
        if store != CLUSTER:
            request.place = None
        elif not holds_oceanbase(request) and has_quirk(request, "no-oceanbase-is-500"):
            raise not_holding()
        view = dags.last_maintenance(CLUSTER if store == CLUSTER else dags.stores[place_of(request)])
        if view is None:
            raise not_found(f"{store.capitalize()} is not under maintenance")
        return self._succeed(request, dag_json(request, view, details=bodies.read_show_details(request)), [view])

    def _list(self, request: Request, views: Sequence[DagView], others: Sequence[DagView] = ()) -> Response:
        """Return dags, then others with details; without dags show_details is not read (dag.go:145-204)."""
        is_read = bool(views) or not has_quirk(request, "unreadable-show-details-is-500")
        details = is_read and bodies.read_show_details(request)
        contents = [dag_json(request, view, details=details) for view in views]
        contents += [dag_json(request, view, details=True) for view in others]
        return self._succeed(request, {"contents": contents}, [*views, *others])

    def log_in(self, request: Request) -> Response:
        """Begin a session and return its id, sealed with the header's keys (ob/agent/executor/session/login.go)."""
        if request.credentials is None:
            raise error_of("Request.AESKey.NotFound")
        id = secrets.token_hex(32)  # not of the seed: the session may outlast this process
        sealed = auth.seal_body(id.encode(), request.credentials.keys)
        self._session_end(request, id, at_s=self.wall() // SECOND + SESSION_S)
        return self._succeed(request, sealed.decode())

    def log_out(self, request: Request) -> Response:
        """End a session; a request in a session can only end that one (ob/agent/executor/session/logout.go)."""
        id = bodies.read_fields(request, LOGOUT, {LOGOUT: {"session_id": "string"}}).get("session_id")
        if not id:
            raise bodies.missing_fields("LogoutSessionParam.SessionID")
        own = request.credentials.session_id if request.credentials and holds_oceanbase(request) else ""
        if own in ("", id):
            self._session_end(request, id, at_s=0)
        return self._succeed(request)

    @staticmethod
    def _session_end(request: Request, id: str, *, at_s: int | None = None) -> int:
        """Return the second at which an agent's session ends, 0 without one, after setting it to ``at_s`` if given."""
        count = partial(request.sandbox.store.count, request.sandbox.name, ("session", place_of(request), id))
        end_s: int = count(by=0)
        return end_s if at_s is None else count(by=at_s - end_s)

    def _succeed(self, request: Request, data: Any = None, views: Iterable[DagView] = ()) -> Response:
        """Return a successful response; ``views`` are the dags that it reads."""
        body = self._envelope(request, 200)
        if data is not None:
            body["data"] = data
        request.sandbox.note_read(Dags, (view.data.key for view in views))
        return Response(200, body)

    def render_error(self, request: Request, error: Exception) -> Response:
        """Return an error in obshell's envelope; a redirect has none."""
        if isinstance(error, errors.Redirect):
            return errors.redirect(request.method, bodies.target_of(request))
        problem = errors.without_quirks(errors.response_error(error), partial(has_quirk, request))
        if not bodies.has_err_codes(request):
            problem = errors.in_old_format(problem)
        body = self._envelope(request, problem.status, is_traced=problem.stage == "handler")
        if problem.stage in errors.PANICS:
            body |= {"timestamp": bodies.time_of(request, request.sandbox.started), "duration": 0}
        if problem.null:
            body["data"] = {"contents": None} if problem.null == "contents" else None
        pairs = {"code": problem.code, "errCode": problem.err_code, "message": bodies.message_of(request, problem)}
        if isinstance(error, ApiError):  # of an injected fault
            own = {"code" if isinstance(error.code, int) else "errCode": error.code, "message": error.message}
            pairs |= {key: value for key, value in own.items() if value}
        body["error"] = {key: value for key, value in pairs.items() if value is not None}
        # Before the decryption the server has not yet set its own content type (middleware.go:387-394).
        early = b"application/json; charset=utf-8"
        return Response(problem.status, body, media_type=early if problem.stage in errors.DECRYPTION else JSON)

    def _envelope(self, request: Request, status: int, *, is_traced: bool = True) -> dict[str, Any]:
        """Return the envelope; the trace id is new, or the caller's if not forwarded (lib/trace/header.go:25-46)."""
        now, trace = request.sandbox.clock.now(), ""
        is_status = request.path == STATUS_PATH and not request.query
        if is_traced and not (is_status and has_quirk(request, "status-has-no-trace-id")):
            header = request.header(b"x-obshell-trace-id")
            is_forwarded = place_of(request) != (dags_of(request).place_at(request.port) or 0)
            trace = header.decode("latin-1") if header and not is_forwarded else request.sandbox.draw_trace_id()
        return {
            "successful": status < 400,
            "timestamp": bodies.time_of(request, now),
            "duration": request.duration(now),
            "status": status,
            "traceId": trace,
        }
