"""OCP's room: operationId → sandbox → OCP's JSON, its envelope and its errors.

Facts: the public API reference (github.com/oceanbase/ocp-doc, 1100.task-management) and OCP's
open-source sibling (github.com/oceanbase/ocp-express at eb6f2117), named with each. OCP's own error
numbers are not public: those here are the sibling's, and switches of the sandbox.

The one rule: what leaves here is the contract's openapi/ocp.yaml; the app checks that it is. Keys
are sorted and absent values left out, as the sibling's mapper does (JacksonFactory.java:58-68). It
also writes a Long beyond 2^53 as a string; a scenario's ids stay below that, so none is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta, timezone, tzinfo
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from weakref import WeakKeyDictionary

import orjson

from oceanmock.api import (
    ApiError,
    Authenticator,
    ErrorKind,
    Handler,
    Headers,
    Request,
    Response,
    Service,
)
from oceanmock.clock import MILLISECOND, SECOND, wall_now
from oceanmock.engine.accounts import MANAGER
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import IllegalOperation, NoSuchSubtask, NoSuchTask, RollbackProhibited
from oceanmock.ocp.auth import credentials
from oceanmock.ocp.machine import Run, SubtaskState, TaskState, log_lines_at
from oceanmock.ocp.world import Subtask, Task, Tasks, TaskView, Template
from oceanmock.openapi import load_spec, spec_path
from oceanmock.text import format_instant, shorten

Json = dict[str, Any]

CHINA: Final = timezone(timedelta(hours=8))
"""Every public sample is written at +08:00."""
TRACE_ID: Final = re.compile(rb"[!-~]{1,128}")
"""A trace id that a caller may choose: printable, and short enough to be repeated."""
TASK_PATH: Final = "/api/v2/tasks/instances/{taskInstanceId}"
UNDOCUMENTED_TASK_PATH: Final = "/api/v2/tasks/{taskInstanceId}"
MAX_ECHO: Final = 200
"""How much of a refused value an error repeats."""


def api(
    *,
    undocumented_path: bool = False,
    zone: tzinfo = CHINA,
    wall: Callable[[], int] = wall_now,
) -> Service:
    """OCP's task API, for the app to serve. Timestamps are written in ``zone``.

    ``undocumented_path`` also answers a path that a public client polls and no document has.
    """
    checks = credentials(wall=wall)
    room = _Room(zone, checks)
    return Service(
        name="ocp",
        prefix="/api/v2/",
        spec=load_spec(spec_path("ocp")),
        handlers={
            "listTaskInstances": room.list_tasks,
            "getTaskInstance": room.get_task,
            "retryTask": room.retry_task,
            "rollbackTask": room.roll_back_task,
            "getSubtaskLog": room.get_log,
            "retrySubtask": room.retry_subtask,
            "skipSubtask": room.skip_subtask,
            "cancelSubtask": room.cancel_subtask,
        },
        render_error=room.render_error,
        security=checks,
        encode=_encode,
        fallback=room.fallback,
        aliases={UNDOCUMENTED_TASK_PATH: TASK_PATH} if undocumented_path else {},
    )


def _encode(body: Any) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


class _Room:
    """The operations; remembers, for each sandbox, what it has written out."""

    def __init__(self, zone: tzinfo, checks: Mapping[str, Authenticator]) -> None:
        self.zone = zone
        self.checks = checks
        self._written: WeakKeyDictionary[Sandbox, dict[int, tuple[TaskState, orjson.Fragment]]]
        self._written = WeakKeyDictionary()

    # --- the operations ---

    def list_tasks(self, request: Request) -> Response:
        """A page of the tasks that match every filter; beyond the last page it is empty."""
        asked = request.parameters
        views = _filtered(request.sandbox.world(Tasks).all(), asked)
        _sort(views, asked.get("sort", "id,desc"))
        number, size = asked["page"], asked["size"]
        shown = views[(number - 1) * size : number * size]
        page = {
            "number": number,
            "size": size,
            "totalElements": len(views),
            "totalPages": -(-len(views) // size),
        }
        contents = [_task_row(view, self.zone) for view in shown]
        answer = self._succeed(request, {"contents": contents, "page": page})
        request.sandbox.world(Tasks).shown(shown)
        return answer

    def get_task(self, request: Request) -> Response:
        """A task with all its subtasks."""
        view = request.sandbox.world(Tasks).view(request.parameters["taskInstanceId"])
        answer = self._succeed(request, self._task(request, view))
        request.sandbox.world(Tasks).shown([view])
        return answer

    def retry_task(self, request: Request) -> Response:
        """The task, just set running."""
        view = request.sandbox.world(Tasks).operate(request.parameters["taskInstanceId"], "RETRY")
        return self._succeed(request, self._task(request, view))

    def roll_back_task(self, request: Request) -> Response:
        """The task, just set running backwards."""
        view = request.sandbox.world(Tasks).operate(
            request.parameters["taskInstanceId"], "ROLLBACK"
        )
        return self._succeed(request, self._task(request, view))

    def get_log(self, request: Request) -> Response:
        """All a subtask has logged so far.

        Where pairs of ids are not checked, an unknown subtask has an empty log
        (ocp-express TaskService.java:103-133).
        """
        now = request.sandbox.clock.now()
        try:
            view, position = request.sandbox.world(Tasks).view_subtask(*_pair(request))
        except NoSuchSubtask:
            if request.sandbox.world(Tasks).switches.subtask_pairing == "checked":
                raise
            return self._succeed(request, {"log": ""})
        return self._succeed(request, {"log": _log(view, position, now, self.zone)})

    def retry_subtask(self, request: Request) -> Response:
        """The subtask, just made ready to run."""
        view, position = request.sandbox.world(Tasks).operate_subtask(*_pair(request), "RETRY")
        subtask, state = view.task.subtasks[position], view.state.subtasks[position]
        return self._succeed(request, _subtask(view.task, subtask, state, self.zone))

    def skip_subtask(self, request: Request) -> Response:
        """An envelope without data."""
        request.sandbox.world(Tasks).operate_subtask(*_pair(request), "SKIP")
        return self._succeed(request)

    def cancel_subtask(self, request: Request) -> Response:
        """An envelope without data."""
        request.sandbox.world(Tasks).operate_subtask(*_pair(request), "CANCEL")
        return self._succeed(request)

    # --- calls that start a task ---

    def fallback(self, request: Request) -> Handler | None:
        """What starts the task of a template that the request fits. Raises ApiError."""
        templates = request.sandbox.world(Tasks).templates
        fitting = [each for each in templates if each.starts_on.fits(request.method, request.path)]
        if not fitting:
            return None
        self._check_manager(request)
        body = _read_json(request.body)
        for template in fitting:
            if template.starts_on.fits_body(body):
                return partial(self._start, template=template)
        nearest = fitting[0]
        raise ApiError("unknown path", nearest.starts_on.asks(str(nearest.model.name)))

    def _check_manager(self, request: Request) -> None:
        """Whether a request may start tasks; that this takes TASK_MANAGER is ours."""
        offered = (check(request) for check in self.checks.values())
        permitted = next((each for each in offered if each is not None), None)
        if permitted is None:
            raise ApiError("unauthenticated", "The request brings no credentials.")
        if MANAGER not in permitted:
            raise ApiError("forbidden", f"Starting a task needs the permission {MANAGER}.")

    def _start(self, request: Request, *, template: Template) -> Response:
        """The task that was just started, where the real one has it: as the data, or in a list."""
        task = _task_submitted(request.sandbox.world(Tasks).start(template), self.zone)
        return self._succeed(
            request, {"contents": [task]} if template.starts_on.in_contents else task
        )

    def _task(self, request: Request, view: TaskView) -> orjson.Fragment:
        """A task in full, written out once for each state it is in."""
        written = self._written.setdefault(request.sandbox, {})
        known = written.get(view.task.id)
        if known is None or known[0] is not view.state:
            fragment = orjson.Fragment(_encode(_task_in_full(view, self.zone)))
            known = written[view.task.id] = (view.state, fragment)
        return known[1]

    # --- the envelope ---

    def _succeed(self, request: Request, data: Any = None) -> Response:
        body = self._envelope(request, status=200, successful=True, trace=self._trace_of(request))
        if data is not None:
            body["data"] = data
        return Response(200, body)

    def render_error(self, request: Request, error: Exception) -> Response:
        """An error in OCP's envelope: codes and texts as ocp-express has them."""
        said = _worded(request, error)
        # A request has a name only once it has been let in (TraceHandlerInterceptor).
        trace = "" if said.status in (401, 429) else self._trace_of(request)
        body = self._envelope(request, status=said.status, successful=False, trace=trace)
        body["error"] = {"code": said.code, "message": said.message}
        if said.debug:
            body["error"]["debugMessage"] = said.debug
        return Response(said.status, body, said.headers)

    def _envelope(self, request: Request, *, status: int, successful: bool, trace: str) -> Json:
        now = request.sandbox.clock.now()
        return {
            "duration": (now - request.received_at) // MILLISECOND,
            "server": request.sandbox.server,
            "status": status,
            "successful": successful,
            "timestamp": timestamp(now, self.zone),
            "traceId": trace,
        }

    def _trace_of(self, request: Request) -> str:
        """The caller's ``x-trace-id``, or 16 hexadecimal digits (TraceUtils.java:121-123)."""
        sent = request.header(b"x-trace-id")
        if sent is not None and TRACE_ID.fullmatch(sent):
            return sent.decode()
        return request.sandbox.draw_trace_id()


def _pair(request: Request) -> tuple[int, int]:
    return request.parameters["taskInstanceId"], request.parameters["subtaskInstanceId"]


# --- timestamps -----------------------------------------------------------------------------------


def timestamp(instant: int, zone: tzinfo = CHINA) -> str:
    """An instant as Jackson writes it: to the millisecond, without trailing zeros, UTC as Z."""
    return format_instant(instant, zone, digits=3)


def _created(task: Task, zone: tzinfo) -> str:
    """When a task and its subtasks were made; the column keeps seconds (common_tables.yaml:61)."""
    return timestamp(task.born // SECOND * SECOND, zone)


# --- tasks ----------------------------------------------------------------------------------------


def _task_in_full(view: TaskView, zone: tzinfo) -> Json:
    """WrappedTaskInstance.java:30-60."""
    task, state = view.task, view.state
    return _task_head(view, zone) | {
        "taskDefinitionId": task.task_definition_id,
        "type": task.type,
        "operation": state.operation,
        "executor": task.executor,
        "prohibitRollback": state.prohibit_rollback,
        "createTime": _created(task, zone),
        "subtasks": [
            _subtask(task, subtask, shown, zone)
            for subtask, shown in zip(task.subtasks, state.subtasks, strict=True)
        ],
    }


def _task_submitted(view: TaskView, zone: tzinfo) -> Json:
    """TaskInstance, as a submit answers it (400.task-return-structure.md): ids and one name.

    Of 39 public samples none has a createTime or finishTime, and 33 have a context.
    """
    task, state = view.task, view.state
    forbids = state.prohibit_rollback
    context = {"prohibit_rollback": "true" if forbids else "false"}
    body = _task_head(view, zone) | {
        "taskDefinitionId": task.task_definition_id,
        "type": task.type,
        "operation": state.operation,
        "executor": task.executor,
        "prohibitRollback": forbids,
        "creator": task.creator.name,
        "context": {"listMap": {}, "parallel": False, "parallelIdx": -1, "stringMap": context},
        "subtasks": [
            _subtask(task, subtask, shown, zone)
            for subtask, shown in zip(task.subtasks, state.subtasks, strict=True)
        ],
    }
    ids = {
        "clusterId": task.cluster and task.cluster.id,
        "tenantId": task.tenant and task.tenant.id,
        "hostId": task.host_id,
    }
    for key in ("cluster", "tenant"):
        body.pop(key, None)
    return body | {key: id for key, id in ids.items() if id is not None}


def _task_row(view: TaskView, zone: tzinfo) -> Json:
    """BasicTaskInstance.java."""
    row = _task_head(view, zone)
    row["subtasks"] = [
        {
            "id": subtask.id,
            "name": subtask.name,
            "description": subtask.description,
            "status": shown.status,
            "operation": shown.operation,
        }
        for subtask, shown in zip(view.task.subtasks, view.state.subtasks, strict=True)
    ]
    return row


def _task_head(view: TaskView, zone: tzinfo) -> Json:
    """What both forms of a task have."""
    task, state = view.task, view.state
    head: Json = {
        "id": task.id,
        "name": task.name,
        "creator": {"id": task.creator.id, "name": task.creator.name},
        "status": state.status,
        "startTime": timestamp(task.born + state.start_time, zone),
    }
    if state.finish_time is not None:
        head["finishTime"] = timestamp(task.born + state.finish_time, zone)
    if (cluster := task.cluster) is not None:
        head["cluster"] = {
            "id": cluster.id,
            "name": cluster.name,
            "obClusterId": cluster.ob_cluster_id,
            "type": cluster.type,
        }
    if (tenant := task.tenant) is not None:
        head["tenant"] = {
            "id": tenant.id,
            "name": tenant.name,
            "obTenantId": tenant.ob_tenant_id,
            "mode": tenant.mode,
        }
    return head


def _subtask(task: Task, subtask: Subtask, state: SubtaskState, zone: tzinfo) -> Json:
    """SubtaskInstance.java:36-73.

    Executor and times appear once it has started, and then stay: of 189 public samples those that
    never ran have none of them, and those that did have all. That a RUNNING one already has its
    createTime is not verified; no public sample shows one.
    """
    body: Json = {
        "id": subtask.id,
        "seriesId": subtask.series_id,
        "name": subtask.name,
        "description": subtask.description,
        "timeout": subtask.timeout,
        "status": state.status,
        "operation": state.operation,
        "runTime": state.run_time,
        "nodeType": subtask.node_type,
        "parallelIdx": subtask.parallel_idx,
        "upstreams": subtask.upstreams,
        "downstreams": subtask.downstreams,
        "prohibitRollback": subtask.prohibits_rollback,
    }
    if subtask.class_name is not None:
        body["className"] = subtask.class_name
    if state.start_time is not None:
        body["executor"] = subtask.executor
        body["createTime"] = _created(task, zone)
        body["startTime"] = timestamp(task.born + state.start_time, zone)
    if state.finish_time is not None:
        body["finishTime"] = timestamp(task.born + state.finish_time, zone)
    return body


# --- logs -----------------------------------------------------------------------------------------


def _log(view: TaskView, position: int, now: int, zone: tzinfo) -> str:
    """The log of a subtask at an instant: a segment for each run so far."""
    task, subtask = view.task, view.task.subtasks[position]
    runs = view.state.subtasks[position].runs
    lines = [line for run in runs for line in _segment(task, subtask, run, now, zone)]
    return "\n".join(lines)


def _segment(task: Task, subtask: Subtask, run: Run, now: int, zone: tzinfo) -> Iterable[str]:
    """A separator (RunnerFactory.java:62), what the run has logged, and, at its end, its verdict.

    The last line is that of the one public sample of a log.
    """
    started = timestamp(task.born + run.started, zone)
    yield f"############{{{run.operation}}}{{{started}}}############"
    yield from log_lines_at(run, now - task.born)
    if run.ends is not None:
        yield (
            f"Set state for subtask: {subtask.id}, current state: RUNNING, new state: {run.ends}"
        )


# --- lists ----------------------------------------------------------------------------------------

Filter = Callable[[TaskView], bool]


def _filter_name(wanted: str) -> Filter:
    """The reference calls it fuzzy; that it ignores case is not verified."""
    part = wanted.casefold()
    return lambda view: part in view.task.name.casefold()


def _filter_status(wanted: list[str]) -> Filter:
    states = frozenset(wanted)
    return lambda view: view.state.status in states


def _filter_type(wanted: str) -> Filter:
    """SYS_ONECE is the reference's misspelling of SYS_ONCE, which clients have copied."""
    kind = "SYS_ONCE" if wanted == "SYS_ONECE" else wanted
    return lambda view: view.task.type == kind


def _filter_cluster_name(wanted: str) -> Filter:
    part = wanted.casefold()
    return lambda view: view.task.cluster is not None and part in view.task.cluster.name.casefold()


def _filter_cluster(wanted: int) -> Filter:
    return lambda view: view.task.cluster is not None and view.task.cluster.id == wanted


def _filter_tenant_name(wanted: str) -> Filter:
    """The reference asks for clusterId beside it; without it, any cluster's tenant will do."""
    return lambda view: view.task.tenant is not None and view.task.tenant.name == wanted


def _filter_tenant(wanted: int) -> Filter:
    return lambda view: view.task.tenant is not None and view.task.tenant.id == wanted


def _filter_host(wanted: int) -> Filter:
    return lambda view: view.task.host_id == wanted


FILTERS: Final[Mapping[str, Callable[[Any], Filter]]] = {
    "name": _filter_name,
    "status": _filter_status,
    "type": _filter_type,
    "clusterName": _filter_cluster_name,
    "clusterId": _filter_cluster,
    "tenantName": _filter_tenant_name,
    "tenantId": _filter_tenant,
    "hostId": _filter_host,
}

SORT_KEYS: Final[Mapping[str, Callable[[TaskView], Any]]] = {
    "id": lambda view: view.task.id,
    "name": lambda view: view.task.name,
    "status": lambda view: view.state.status,
    "startTime": lambda view: view.task.born + view.state.start_time,
    # None before everything, as MySQL sorts NULL.
    "finishTime": lambda view: (
        -1 if view.state.finish_time is None else view.task.born + view.state.finish_time
    ),
}


def _filtered(views: list[TaskView], asked: Mapping[str, Any]) -> list[TaskView]:
    """The tasks that pass every filter asked for."""
    for name, make in FILTERS.items():
        if name in asked:
            views = list(filter(make(asked[name]), views))
    return views


def _sort(views: list[TaskView], asked: str) -> None:
    """Sorts in place; without a direction ascending, tasks that are equal by ascending id."""
    name, _, direction = asked.partition(",")
    views.sort(key=SORT_KEYS[name], reverse=direction == "desc")


# --- requests that start a task -------------------------------------------------------------------


def _read_json(body: bytes) -> Any:
    """The JSON of a body; None of none. Raises ApiError."""
    if not body.strip():
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError("malformed body", f"The body is not JSON: {error}.") from None


# --- errors ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Said:
    """An error as OCP says it."""

    status: int
    message: str
    code: int = 0
    debug: str = ""
    headers: Headers = ()


CHALLENGE: Final[Headers] = ((b"www-authenticate", b'Basic realm="OCP", charset="UTF-8"'),)
NOT_LOGGED_ON: Final = (
    "The current user has not logged on or a logon error has occurred. Please log on and try again."
)
NOT_AUTHORIZED: Final = (
    "You are not authorized to perform the corresponding operation. Contact the administrator."
)
"""Both from ocp-express' messages_en_US.properties."""
JAVA_TYPES: Final = {"int64": "Long", "int32": "Integer", "boolean": "Boolean", "number": "Double"}

MESSAGES: Final[Mapping[ErrorKind, str]] = {
    "bad credentials": "Bad credentials",  # CustomSecurityConfiguration.java:152-173
    "malformed body": "Malformed JSON request",  # RestExceptionHandler.java:271
    "unauthenticated": NOT_LOGGED_ON,  # CustomAuthenticationEntryPoint.java:62-70
    "forbidden": NOT_AUTHORIZED,  # RestExceptionHandler.java:123-132
    "wrong type": "The parameter '{parameter}' of value '{value}' could not be converted "
    "to type '{java_type}'",  # RestExceptionHandler.java:200-207
    # The rest are ours: ocp-express answers these with 500, with a web page, or not at all.
    "body too large": "The request body is too large.",
    "broken response": "The answer of the mock does not keep the contract.",
    "unknown path": "No API has the path '{path}'.",
    "unsupported media type": "The media type of the request body is not supported.",
    "wrong method": "Method {method} is not allowed here.",
    "wrong request": "The request is not as the contract says.",
    "wrong value": "The parameter '{parameter}' of value '{value}' is not allowed.",
}


def _worded(request: Request, error: Exception) -> _Said:
    """An error in OCP's words. The literal {0} are ocp-express': it passes no arguments there."""
    switches = request.sandbox.world(Tasks).switches
    match error:
        case ApiError():
            return _worded_refusal(request, error, switches.error_code_forbidden)
        case NoSuchTask() | NoSuchSubtask():  # TaskInstanceManagerImpl.java:61,98,122
            return _Said(404, "The {0} task does not exist.", switches.error_code_not_found)
        case IllegalOperation():  # TaskInstanceManagerImpl.java:63,99; SubtaskInstanceManagerImpl
            # The id without thousands separators: I18nService.java makes it a text first.
            asked = request.parameters
            blamed = asked.get("subtaskInstanceId", asked["taskInstanceId"])
            message = (
                f"This operation is not supported for the {blamed} task in the {error.state} state."
            )
            return _Said(400, message, switches.error_code_illegal_state, debug=str(error))
        case RollbackProhibited():  # TaskInstanceManagerImpl.java:66-68
            code = switches.error_code_rollback_prohibited
            return _Said(400, "Task {0} can not rollback.", code)
        case _:  # RestExceptionHandler.java:343-358
            kind = type(error).__name__
            return _Said(500, f"Unhandled exception, type={kind}, message={error}")


def _worded_refusal(request: Request, error: ApiError, forbidden: int) -> _Said:
    if error.kind == "fault":
        return _struck(error.status)
    value = _shortened(error.value)
    message = MESSAGES[error.kind].format(
        parameter=error.parameter,
        value=value,
        java_type=JAVA_TYPES.get(error.expected_type, error.expected_type),
        path=_shortened(request.path),
        method=_shortened(request.method),
    )
    return _Said(
        error.status_code,
        message,
        code=forbidden if error.kind == "forbidden" else 0,
        # The debugMessage of a wrong type is Java's own.
        debug=f'For input string: "{value}"' if error.kind == "wrong type" else error.detail,
        headers=CHALLENGE if error.status_code == 401 else error.headers,
    )


THROTTLED: Final = (
    "Excessive number of requests. "
    "You have exceeded the request limit for the current throttling window."
)
PHRASES: Final = {each.value: each.phrase for each in HTTPStatus}
RATE_LIMIT: Final[Headers] = (
    (b"ratelimit-limit", b"100"),
    (b"ratelimit-remaining", b"0"),
    (b"ratelimit-reset", b"1"),
)
"""The headers of a 429 (200.api-request-description.md:121-151), with the page's own numbers."""


def _struck(status: int) -> _Said:
    """An error that a fault asks for: in OCP's words where it has some for that status."""
    if status == 429:
        return _Said(429, THROTTLED, headers=RATE_LIMIT)
    if status == 401:
        return _Said(401, NOT_LOGGED_ON, headers=CHALLENGE)
    known = {403: NOT_AUTHORIZED, 404: "The {0} task does not exist."}
    phrase = PHRASES.get(status, f"Status {status}")
    return _Said(status, known.get(status, phrase))


def _shortened(text: str) -> str:
    return shorten(text, MAX_ECHO)
