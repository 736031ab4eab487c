"""OCP's handlers: each operationId's response, in OCP's JSON and envelope.

Facts: the public API reference (github.com/oceanbase/ocp-doc, 1100.task-management) and OCP's open-source sibling
(github.com/oceanbase/ocp-express at eb6f2117), named with each.

The pipeline validates every response against openapi/ocp.yaml. Keys are sorted and absent values left out, as by the
sibling's mapper (JacksonFactory.java:58-68). That also writes a Long beyond 2^53 as a string; ids of scenarios stay
below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

import orjson

from oceanmock import api as base
from oceanmock.api import ApiError, Fragment, Handler, Json, Request, Response, Route, Service
from oceanmock.clock import MILLISECOND, SECOND, wall_now
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.world import PLACEHOLDER, Group, View
from oceanmock.errors import NoSuchSubtask
from oceanmock.ocp import api, world
from oceanmock.ocp.api import API, TASK_PATH, UNDOCUMENTED_TASK_PATH, read_long
from oceanmock.ocp.auth import authenticators
from oceanmock.ocp.machine import log_lines_at
from oceanmock.ocp.scenario import Cluster
from oceanmock.ocp.states import SubtaskState, TaskState
from oceanmock.ocp.world import SubtaskData, TaskData, Tasks, TaskView, Template
from oceanmock.openapi import MANAGER_PERMISSION
from oceanmock.scenario.stubs import StubRequest
from oceanmock.text import format_instant, shorten

CHINA: Final = timezone(timedelta(hours=8))  # every public sample is written at +08:00
encode: Final = partial(orjson.dumps, option=orjson.OPT_SORT_KEYS)
MAX_ENCODED: Final = 1000  # how many tasks of a sandbox are kept encoded
MAX_FORMATS: Final = 100  # how many formats of rows are kept for a repeated task
TRACE_ID: Final = re.compile("[!-~]{1,128}")
"""The trace ids that a caller may choose: short and printable."""


class ServiceFactory:
    """Build OCP's services; the variant says whether the undocumented path is served too."""

    def __init__(self, *, wall: Callable[[], int] = wall_now) -> None:
        self._authenticators = authenticators(wall=wall)

    def variant_of(self, sandbox: Sandbox) -> bool:
        """Return the variant that the switches of a sandbox select."""
        return sandbox.world(Tasks).switches.undocumented_task_path

    def service(self, variant: bool) -> Service:
        """Return the service of a variant."""
        return Service(
            name=API.name,
            prefix=API.prefix,
            spec=API.spec,
            submits=lambda: API.submits,
            handlers={
                "listTaskInstances": self.list_tasks,
                "getTaskInstance": self.get_task,
                "getSubtaskLog": self.get_log,
                **{route.id: partial(self.change, route=route) for route in API.routes if route.changes},
            },
            render_error=self.render_error,
            security=self._authenticators,
            encode=encode,
            fallback=self.fallback,
            is_lenient=True,  # as Spring Boot 2.7 is
            readers={"int64": read_long, "int32": partial(read_long, bits=32)},
            aliases={UNDOCUMENTED_TASK_PATH: TASK_PATH} if variant else {},
        )

    def list_tasks(self, request: Request) -> Response:
        """Return a page of the tasks that match every filter; empty beyond the last page."""
        params, number, size = request.parameters, request.parameters["page"], request.parameters["size"]
        tasks, now = _tasks(request), request.sandbox.clock.now()
        if "tenantName" in params and "clusterId" not in params:
            detail = "The name of the tenant must be used with the ID of the cluster."
            raise ApiError("wrong value", detail, parameter="tenantName", value=params["tenantName"])
        total, ids = tasks.page(world.query_of(params), now, skip=(number - 1) * size, size=size)
        page = {"number": number, "size": size, "totalElements": total, "totalPages": -(-total // size)}
        samples: dict[Any, Any] = {}
        contents = [_row(tasks, id, now, samples) for id in ids]
        response = self._respond(request, {"contents": contents, "page": page})
        request.sandbox.note_read(Tasks, ids)
        if len(samples) == len(contents):
            return response
        return replace(response, sample={**response.body, "data": {"contents": [*samples.values()], "page": page}})

    def get_task(self, request: Request) -> Response:
        view = _tasks(request).view(request.parameters["taskInstanceId"])
        response = self._respond(request, self._task(request, view))
        request.sandbox.note_read(Tasks, (view.data.id,))
        return response

    def change(self, request: Request, *, route: Route) -> Response:
        """Operate a task or a subtask, and return it if the route shows it."""
        operation: Any = route.operation
        if route.changes == "task":
            view = world.operate(request.sandbox, request.parameters["taskInstanceId"], operation)
            return self._respond(request, self._task(request, view))
        view, position = world.operate_subtask(request.sandbox, *_pair(request), operation)
        if not route.shows:
            return self._respond(request)
        subtask, state = view.data.subtasks[position], view.state.subtasks[position]
        return self._respond(request, _subtask(view.data, subtask, state))

    def get_log(self, request: Request) -> Response:
        """Return a log; empty for an unknown subtask, unless pairs are checked (TaskService.java:103-133)."""
        now = request.sandbox.clock.now()
        try:
            view, position = _tasks(request).view_subtask(*_pair(request))
        except NoSuchSubtask:
            if _tasks(request).switches.subtask_pairing == "checked":
                raise
            return self._respond(request, {"log": ""})
        return self._respond(request, {"log": _log(view, position, now)})

    def fallback(self, request: Request) -> Handler | None:
        """Return a handler: of a stub, of another read, or one that starts a template's task. Raises ApiError.

        Credentials are checked first, for any path of OCP's (CustomSecurityConfiguration.java:124-129). That only a
        manager may do more than read is the mock's choice.
        """
        templates = _tasks(request).templates_for(request.method, request.path.removesuffix("/"))
        if not templates and not request.path.startswith(API.prefix):
            return None
        permissions = (check(request) for check in self._authenticators.values())
        granted = next((item for item in permissions if item is not None), None)
        if granted is None and request.path.removesuffix("/") != TIME_PATH:
            raise ApiError("unauthenticated", "The call brings no credentials.")
        stub = self._stub(request)
        is_read = request.method in ("GET", "HEAD")
        if is_read and isinstance(stub, str) and (other := self._other_response(request)) is not None:
            return lambda _: other
        if not templates and not stub and request.operation is None:
            return None
        if MANAGER_PERMISSION not in (granted or ()) and not is_read:
            raise ApiError("forbidden", f"A call that is no read needs the permission {MANAGER_PERMISSION}.")
        return partial(self._submit, templates=templates, why=stub) if isinstance(stub, str) else stub

    def _stub(self, request: Request, starts_on: Any = None) -> Handler | str:
        item = partial(_task_json, form="full")
        return base.stub_for(request, envelope=self._envelope, item=item, time=format_timestamp, starts_on=starts_on)

    def _other_response(self, request: Request) -> Response | None:
        path = request.path.removesuffix("/")
        if path == TIME_PATH:
            time = format_timestamp(request.sandbox.clock.now()).encode()
            return Response(200, time, media_type=b"text/plain;charset=UTF-8")
        if path == INFO_PATH:
            return Response(200, INFO)
        data = named_by_tasks(_tasks(request), path)
        if isinstance(data, list):
            data = page_of(data, request.query.decode("latin-1"))
        return None if data is None else self._respond(request, data)

    def _submit(self, request: Request, *, templates: Sequence[Template], why: str) -> Response:
        """Start the task of the first matching template, and return it, if ``in_contents`` in a list."""
        try:
            body = orjson.loads(request.body) if request.body.strip() else None
        except orjson.JSONDecodeError as error:
            raise ApiError("malformed body", f"The body is not JSON: {error}.") from None
        template: Template | None = base.template_for(templates, body)
        if template is None:
            raise ApiError("unknown path", why) if why and not templates else base.unknown_start(templates, request)
        refusal = self._stub(request, template.starts_on)
        if not isinstance(refusal, str):
            return refusal(request)
        task = _task_json(world.start(request.sandbox, template, StubRequest.of(request)), "submitted")
        data = {"contents": [task]} if template.starts_on.in_contents else task
        return self._respond(request, data)

    def _task(self, request: Request, view: TaskView) -> Fragment:
        """Return the JSON of a task, encoded once for each of its states."""
        cache = _tasks(request).encoded
        entry = cache.get(view.data.id)
        if entry is None or entry[0] is not view.state:
            if len(cache) >= MAX_ENCODED:
                del cache[next(iter(cache))]
            entry = cache[view.data.id] = (view.state, Fragment(encode(_task_json(view, "full"))))
        return entry[1]

    def render_error(self, request: Request, error: Exception) -> Response:
        """Return an error in OCP's envelope, or a web page if a switch says so."""
        switches = _tasks(request).switches
        if isinstance(error, ApiError):
            choices = {"unknown path": switches.unknown_path, "wrong method": switches.wrong_method}
            choice = choices.get(error.kind, "refused")
            if choice == "index":
                return Response(200, api.INDEX_PAGE, error.headers, b"text/html;charset=UTF-8")
            if choice == "failed":
                method = shorten(request.method, api.MAX_ECHO)
                error = api.HttpRequestMethodNotSupportedException(f"Request method '{method}' not supported")
        status, message, code, debug, headers = api.error_of(request, error, switches)
        if status == 401:
            headers = api.CHALLENGE if switches.basic_challenge else ()
        details = {"code": code, "message": message, **({"debugMessage": debug} if debug else {})}
        return Response(status, {**self._envelope(request, status), "error": details}, headers)

    def _respond(self, request: Request, data: Any = None) -> Response:
        body = self._envelope(request, 200)
        if isinstance(data, Fragment):
            return Response(200, body, fragment=data)
        return Response(200, body if data is None else {**body, "data": data})

    @staticmethod
    def _envelope(request: Request, status: int) -> Json:
        """Return the envelope of every response.

        The trace id is the caller's ``x-trace-id`` or else 16 hex digits (TraceUtils.java:121-123); before
        authentication it is empty (TraceHandlerInterceptor). A 401 has no ``server`` (CustomAuthenticationEntryPoint).
        """
        now, trace = request.sandbox.clock.now(), (request.header(b"x-trace-id") or b"").decode("latin-1")
        if status in (401, 429):
            trace = ""
        elif not TRACE_ID.fullmatch(trace):
            trace = request.sandbox.draw_trace_id()
        return {
            "duration": request.duration(now),
            **({} if status == 401 else {"server": request.sandbox.server}),
            "status": status,
            "successful": status < 400,
            "timestamp": format_timestamp(now),
            "traceId": trace,
        }


def _tasks(request: Request) -> Tasks:
    return request.sandbox.world(Tasks)


def _pair(request: Request) -> tuple[int, int]:
    return request.parameters["taskInstanceId"], request.parameters["subtaskInstanceId"]


def format_timestamp(instant: int) -> str:
    """Return an instant as Jackson writes it: to the millisecond, without trailing zeros."""
    return format_instant(instant, CHINA, digits=3)


def _task_json(view: TaskView, form: Literal["full", "row", "submitted"]) -> Json:
    """Return the JSON of a task: in full (WrappedTaskInstance.java:30-60), as a row of a list, or as by a submit.

    A row is a BasicTaskInstance (BasicTaskInstance.java). Of 39 public samples of a submitted task
    (400.task-return-structure.md) none has a createTime or finishTime, and 33 have a context.
    """
    task, state, model = view.data, view.state, view.data.model
    body: Json = {
        "id": task.id,
        "name": task.name,
        "creator": {"id": task.creator.id, "name": task.creator.name},
        "status": state.status,
        "startTime": format_timestamp(task.created + state.start_time),
    }
    if state.finish_time is not None:
        body["finishTime"] = format_timestamp(task.created + state.finish_time)
    cluster, tenant = model.cluster, model.tenant
    if form != "submitted":
        body |= {key: item.as_json for key, item in (("cluster", cluster), ("tenant", tenant)) if item is not None}
    subtasks = zip(task.subtasks, state.subtasks, strict=True)
    if form == "row":
        body["subtasks"] = [
            {
                "id": subtask.id,
                "name": subtask.name,
                "description": subtask.description,
                "status": now.status,
                "operation": now.operation,
            }
            for subtask, now in subtasks
        ]
        return body
    body |= {
        "taskDefinitionId": model.task_definition_id,
        "type": model.type,
        "operation": state.operation,
        "executor": task.executor,
        "prohibitRollback": state.prohibit_rollback,
        "subtasks": [_subtask(task, *pair) for pair in subtasks],
    }
    if form == "full":  # in whole seconds (common_tables.yaml:61)
        return body | {"createTime": format_timestamp(task.created // SECOND * SECOND)}
    ids = {"clusterId": cluster and cluster.id, "tenantId": tenant and tenant.id, "hostId": model.host_id}
    context = {"prohibit_rollback": "true" if state.prohibit_rollback else "false"}
    return body | {
        "creator": task.creator.name,
        "context": {"listMap": {}, "parallel": False, "parallelIdx": -1, "stringMap": context},
        **{key: id for key, id in ids.items() if id is not None},
    }


def _row(tasks: Tasks, id: int, now: int, samples: dict[Any, Any]) -> Any:
    """Return the row of a task, encoded if its template repeats; add the first row of each format to ``samples``."""
    if (group := tasks.group_of(id)) is None:
        return samples.setdefault(id, _task_json(tasks.view(id, now), "row"))
    number, width = id - group.ids.start, len(group.data.subtasks)
    state, finished = group.state_of(number, now)
    row = group.formats.get(state.at)
    if row is None:
        if len(group.formats) >= MAX_FORMATS:
            group.formats.clear()
        row = group.formats[state.at] = _row_format(group, state)
    numbers, part_ids = (number + 1,) * group.name.count(PLACEHOLDER), group.part_ids[number * width :][:width]
    values = (id, *numbers, format_timestamp(group.start_of(number)).encode(), *part_ids)
    encoded = orjson.Fragment(row % (values if finished is None else (format_timestamp(finished).encode(), *values)))
    samples.setdefault(row, encoded)
    return encoded


def _row_format(group: Group, state: TaskState) -> bytes:
    """Return the format of a group's rows in a state: a text for the operator %, with the values in key order."""
    body = _task_json(View(group.data, state, 0), "row")
    name = encode(group.name).replace(PLACEHOLDER.encode(), b"\0d")
    body |= {"id": orjson.Fragment(b"\0d"), "name": orjson.Fragment(name)}
    for key in body.keys() & {"startTime", "finishTime"}:
        body[key] = orjson.Fragment(b'"\0s"')
    for subtask in body["subtasks"]:
        subtask["id"] = orjson.Fragment(b"\0d")
    return encode(body).replace(b"%", b"%%").replace(b"\0", b"%")  # JSON has no NUL


def _subtask(task: TaskData, subtask: SubtaskData, state: SubtaskState) -> Json:
    """Return a SubtaskInstance (SubtaskInstance.java:36-73).

    Executor and times appear once it has started: of 189 public samples, those that never ran have none of them, and
    those that ran have all. That a RUNNING one has a createTime is not verified.
    """
    body: Json = {
        "id": subtask.id,
        "seriesId": subtask.series_id,
        "name": subtask.name,
        "description": subtask.description,
        "timeout": subtask.model.timeout,
        "status": state.status,
        "operation": state.operation,
        "runTime": state.run_time,
        "nodeType": "JAVA_TASK",
        "parallelIdx": subtask.model.parallel_idx,
        "upstreams": subtask.upstreams,
        "downstreams": subtask.downstreams,
        "prohibitRollback": subtask.model.prohibit_rollback,
    }
    if subtask.model.class_name is not None:
        body["className"] = subtask.model.class_name
    if state.start_time is not None:
        body["executor"] = subtask.executor
        body["createTime"] = format_timestamp(task.created // SECOND * SECOND)
        body["startTime"] = format_timestamp(task.created + state.start_time)
    if state.finish_time is not None:
        body["finishTime"] = format_timestamp(task.created + state.finish_time)
    return body


def _log(view: TaskView, position: int, now: int) -> str:
    """Return the log of a subtask at an instant: a segment for each run so far.

    As in the one public sample, a segment is a separator, the lines of the run and its final state. A scheduled task of
    the system has no lines (RunnerFactory.java:170-177). PENDING is the final state only of a ROLLBACK
    (SubtaskAccessor.java:96-97). The cancel of an interrupted run adds a separator (RunningSubtaskWorker.java:82-92).
    """
    task, lines = view.data, list[str]()
    for run in view.state.subtasks[position].runs:
        lines.append(_separator(run.operation, task.created + run.started))
        if task.model.type != "SYS_SCHEDULED":
            lines.extend(log_lines_at(run, now - task.created))
        if run.ends in ("SUCCESSFUL", "FAILED") or (run.ends and run.operation == "ROLLBACK"):
            change = f"current state: RUNNING, new state: {run.ends}"
            lines.append(f"Set state for subtask: {task.subtasks[position].id}, {change}")
        if run.ended_by == "interrupt" and run.ended is not None:
            lines.append(_separator("CANCEL", task.created + run.ended))
    return "\n".join(lines)


def _separator(operation: str, instant: int) -> str:
    """Return the line before a segment of a log (RunnerFactory.java:62,146-153)."""
    # The time is in the format of OffsetDateTime.toString: milliseconds, or without zeros at the end.
    second, rest = divmod(instant // MILLISECOND, 1000)
    parts = "milliseconds" if rest else "seconds" if second % 60 else "minutes"
    text = datetime.fromtimestamp(second, CHINA).replace(microsecond=rest * 1000).isoformat(timespec=parts)
    return f"############{{{operation}}}{{{text}}}############"


# OCP itself, and the clusters and tenants that tasks name. Facts: the public API reference
# (github.com/oceanbase/ocp-doc, en-US/600.api-reference: 1600.other/100 and 200, 300.cluster-information/100,
# 400.tenant-information/100 and 300). Keys for which a scenario has no value are left out; that a cluster is RUNNING
# and a tenant NORMAL is made up.
INFO_PATH: Final = "/api/v2/info"
TIME_PATH: Final = "/api/v2/time"
INFO: Final = {
    "artifact": "ocp-server",
    "buildJavaVersion": "1.8",
    "buildTime": "2020-11-29T05:43:31.644+08:00",
    "buildVersion": "2.5.0-SNAPSHOT",
    "group": "com.oceanbase",
    "name": "ocp-server",
    "springBootVersion": "2.2.5.RELEASE",
}
"""The page's own sample, which has no envelope."""
_CLUSTERS: Final = re.compile(r"/api/v2/ob/clusters(?:/([0-9]{1,19})(/tenants(?:/([0-9]{1,19}))?)?)?")


def named_by_tasks(tasks: Tasks, path: str) -> Any:
    """Return the list of clusters or tenants at a path, or one of them, from all tasks; None for another path or id."""
    match = _CLUSTERS.fullmatch(path)
    if match is None:
        return None
    models = [data.model for data in tasks.all_data()]
    clusters = {model.cluster.id: model.cluster for model in models if model.cluster}
    tenants = {(it.cluster.id, it.tenant.id): it.tenant for it in models if it.cluster and it.tenant}
    if match[1] is None:
        return [_cluster_json(cluster, tenants.keys()) for _, cluster in sorted(clusters.items())]
    cluster = clusters.get(int(match[1]))
    if cluster is None or match[2] is None:
        return cluster and _cluster_json(cluster, tenants.keys())
    shared = {"clusterId": cluster.id, "clusterName": cluster.name, "clusterType": cluster.type}
    shared |= {"obClusterId": cluster.ob_cluster_id, "status": "NORMAL"}
    own = {id: {**it.as_json, **shared} for (owner, id), it in tenants.items() if owner == cluster.id}
    return [own[id] for id in sorted(own)] if match[3] is None else own.get(int(match[3]))


def page_of(items: list[Json], query: str) -> Json:
    """Return the page of a list that a query selects; values that are no numbers are ignored."""
    texts = dict(parse_qsl(query))
    matches = (re.fullmatch("[1-9][0-9]{0,8}", texts.get(key, "")) for key in ("page", "size"))
    number, size = (int(match[0]) if match else default for match, default in zip(matches, (1, 10), strict=True))
    page = {"number": number, "size": size, "totalElements": len(items), "totalPages": -(-len(items) // size)}
    return {"contents": items[(number - 1) * size : number * size], "page": page}


def _cluster_json(cluster: Cluster, tenants: Iterable[tuple[int, int]]) -> Json:
    count = sum(owner == cluster.id for owner, _ in tenants)
    return {**cluster.as_json, "status": "RUNNING", "tenantCount": count}
