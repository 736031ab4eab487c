"""A small OCP of its own, in plain starlette: it shares no line with the mock, and may be broken.

Written after the documents and ocp-express alone, for one thing: that what conformance says of the
mock is said by somebody who knows no mock. Each task is a chain of subtasks; every look at a task
moves it one step on once it is answered, so nobody waits; a run takes two, so that it can be met.
Two nodes answer in turn, each in its own zone and by its own clock.
``Ocp(deviations={…})`` breaks it in the ways of DEVIATIONS. Nothing here imports oceanmock.
"""

from __future__ import annotations

import base64
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Json = dict[str, Any]

DEVIATIONS: Final = {
    "text code": "error.code is a text",
    "open door": "nobody is asked for credentials",
    "missing executor": "a task has no executor",
    "deaf to status": "a list is not filtered by status",
    "eager retry": "a task that has succeeded can be retried",
    "forward rollback": "a rollback begins with the first subtask",
    "lost count": "a retried task leaves runTime",
    "forgetful log": "a log holds the last run only",
}
USERS: Final = {"operator": "s3cret", "reader": "read0nly"}
STATES: Final = ("RUNNING", "FAILED", "SUCCESSFUL")
LARGEST: Final = 2**63 - 1


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(slots=True)
class Step:
    """A subtask; ``outcomes`` are those of its runs to come, the last one repeating."""

    id: int
    name: str
    outcomes: list[bool]
    locks: bool = False
    status: str = "PENDING"
    operation: str = "EXECUTE"
    run_time: int = 1
    is_under_way: bool = False
    started: datetime | None = None
    ended: datetime | None = None
    log: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Task:
    """A task; ``created`` is when it was made and started."""

    id: int
    name: str
    steps: list[Step]
    created: datetime
    status: str = "RUNNING"
    operation: str = "EXECUTE"
    ended: datetime | None = None

    @property
    def is_locked(self) -> bool:
        """Whether a subtask that has run forbids rollback."""
        return any(step.locks and step.status not in ("PENDING", "READY") for step in self.steps)


@dataclass(frozen=True, slots=True)
class Node:
    """One of the machines that answer: in its zone, by its clock, subtasks as they come."""

    name: str
    zone: timezone
    behind: timedelta
    order: int


NODES: Final = (
    Node("b94e44636", UTC, timedelta(0), 1),
    Node("10.1.1.2", timezone(timedelta(hours=8)), timedelta(seconds=1), -1),
)


# --- what moves a task on -------------------------------------------------------------------------


def move(task: Task, now: datetime) -> None:
    """One step: a run ends, or starts; or else the next subtask's turn comes, or the verdict."""
    if task.status != "RUNNING":
        return
    for step in task.steps:
        if step.status == "CANCELING":
            _end(step, "FAILED", now, operation="CANCEL")
            return
        if step.status == "RUNNING":
            _go_on(step, now)
            return
        if step.status == "READY":
            _start(step, now)
            return
    _judge(task, now)


def _start(step: Step, now: datetime) -> None:
    step.status, step.started, step.ended = "RUNNING", step.started or now, None
    step.log.append(f"############{{{step.operation}}}{{{_time(now)}}}############")
    step.is_under_way = True


def _go_on(step: Step, now: datetime) -> None:
    if step.is_under_way:
        step.is_under_way = False
    else:
        _finish(step, now)


def _finish(step: Step, now: datetime) -> None:
    if step.operation in ("ROLLBACK", "ROLLBACK_SKIP"):
        _end(step, "PENDING", now)
    elif step.operation == "SKIP":
        _end(step, "SUCCESSFUL", now)
    else:
        succeeds = step.outcomes.pop(0) if len(step.outcomes) > 1 else step.outcomes[0]
        _end(step, "SUCCESSFUL" if succeeds else "FAILED", now)


def _end(step: Step, status: str, now: datetime, *, operation: str | None = None) -> None:
    step.status, step.operation, step.ended = status, operation or step.operation, now
    step.log.append(f"Set state for subtask: {step.id}, new state: {status}")


def _judge(task: Task, now: datetime) -> None:
    back = task.operation == "ROLLBACK"
    if any(step.status == "FAILED" for step in task.steps):
        task.status, task.ended = "FAILED", now
    elif all(step.status == ("PENDING" if back else "SUCCESSFUL") for step in task.steps):
        task.status, task.ended = "SUCCESSFUL", now
    elif back:
        step = next(each for each in reversed(task.steps) if each.status == "SUCCESSFUL")
        step.status, step.operation = "READY", "ROLLBACK"
    else:
        step = next(each for each in task.steps if each.status == "PENDING")
        step.status, step.operation = "READY", "EXECUTE"


# --- the server -----------------------------------------------------------------------------------


class Ocp:
    """The server: an ASGI app, and the tasks it has. ``asked`` is its access log."""

    def __init__(self, *, deviations: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        assert deviations <= DEVIATIONS.keys()
        self.deviations = deviations
        self.asked: list[tuple[str, str]] = []
        self.now = datetime(2026, 3, 1, 8, 0, 0, 250_000, tzinfo=UTC)
        self.tasks = {task.id: task for task in _tasks(self.now)}
        one = "/api/v2/tasks/instances/{task}"
        sub = f"{one}/subtasks/{{subtask}}"
        self.app = Starlette(
            routes=[
                Route("/api/v2/tasks/instances", self._answering(self._list), methods=["GET"]),
                Route(one, self._answering(self._get), methods=["GET"]),
                Route(f"{one}/retry", self._answering(self._retry), methods=["POST"]),
                Route(f"{one}/rollback", self._answering(self._roll_back), methods=["POST"]),
                Route(f"{sub}/log", self._answering(self._log), methods=["GET"]),
                Route(f"{sub}/retry", self._answering(self._retry_step), methods=["POST"]),
                Route(f"{sub}/skip", self._answering(self._skip), methods=["POST"]),
                Route(f"{sub}/cancel", self._answering(self._cancel), methods=["POST"]),
            ],
            exception_handlers={HTTPException: self._unrouted},
        )
        self.app.router.redirect_slashes = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.asked.append((scope["method"], scope["path"]))
        await self.app(scope, receive, send)

    def settle(self) -> None:
        """Lets all that is due happen."""
        for task in self.tasks.values():
            while task.status == "RUNNING":
                self._pass(task)

    def _pass(self, task: Task) -> None:
        self.now += timedelta(milliseconds=500)
        move(task, self.now)

    def _answering(self, act: Callable[[Request], Any]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            self.now += timedelta(milliseconds=7)
            try:
                self._check_caller(request)
                return self._said(request, data=act(request))
            except Refusal as refusal:
                return self._refused(request, refusal)

        return answer

    def _unrouted(self, request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        refusal = Refusal(problem.status_code, 0, "There is nothing of the kind here.")
        answer = self._refused(request, refusal)
        answer.headers.update(problem.headers or {})
        return answer

    # --- who asks ---

    def _check_caller(self, request: Request) -> None:
        name, password = _basic(request)
        if "open door" in self.deviations:
            return
        if name is None:
            raise Refusal(401, 0, "The current user has not logged on.")
        if USERS.get(name) != password:
            raise Refusal(401, 0, "Bad credentials")
        if name == "reader" and request.method != "GET":
            raise Refusal(403, 30014, "You are not authorized to do this.")

    # --- reads ---

    def _list(self, request: Request) -> Json:
        asked = request.query_params
        page, size = _number(asked, "page", 1, 2**31 - 1), _number(asked, "size", 10, 2000)
        found = [task for task in self.tasks.values() if self._fits(task, asked)]
        self._sort(found, asked.get("sort", "id,desc"))
        contents = [self._row(task) for task in found[(page - 1) * size : page * size]]
        pages = -(-len(found) // size)
        counts = {"number": page, "size": size, "totalElements": len(found), "totalPages": pages}
        return {"contents": contents, "page": counts}

    def _fits(self, task: Task, asked: Any) -> bool:
        states = asked["status"].split(",") if "status" in asked else list(STATES)
        kind = asked.get("type", "MANUAL")
        for key in ("clusterId", "tenantId", "hostId"):
            _number(asked, key, 1, LARGEST)
        if not set(states) <= set(STATES) or kind not in (
            "MANUAL",
            "SYS_ONCE",
            "SYS_ONECE",
            "SCHEDULED",
            "SYS_SCHEDULED",
        ):
            raise Refusal(400, 0, "A filter has a value that there is not.")
        elsewhere = {"clusterName", "clusterId", "tenantName", "tenantId", "hostId"} & set(asked)
        return (
            (task.status in states or "deaf to status" in self.deviations)
            and kind == "MANUAL"
            and asked.get("name", "") in task.name
            and not elsewhere
        )

    def _sort(self, found: list[Task], asked: str) -> None:
        keys: dict[str, Callable[[Task], Any]] = {
            "id": lambda task: task.id,
            "name": lambda task: task.name,
            "status": lambda task: task.status,
            "startTime": lambda task: task.created,
            "finishTime": lambda task: (task.ended is not None, task.ended),
        }
        field_name, comma, way = asked.partition(",")
        if field_name not in keys or (comma and way not in ("asc", "desc")):
            raise Refusal(400, 0, "Nothing can be sorted by that.")
        found.sort(key=lambda task: task.id)
        found.sort(key=keys[field_name], reverse=way == "desc")

    def _get(self, request: Request) -> Json:
        task = self._task(request)
        shown = self._whole(task)
        self._pass(task)
        return shown

    def _log(self, request: Request) -> Json:
        lines = self._step(request)[1].log
        if "forgetful log" in self.deviations:
            heads = [at for at, line in enumerate(lines) if line.startswith("#")]
            lines = lines[heads[-1] :] if heads else lines
        return {"log": "\n".join(lines)}

    # --- operations ---

    def _retry(self, request: Request) -> Json:
        task = self._task(request)
        allowed = ("FAILED", "SUCCESSFUL") if "eager retry" in self.deviations else ("FAILED",)
        if task.status not in allowed:
            raise _illegal(task.id, task.status)
        if task.operation == "ROLLBACK":
            raise _illegal(task.id, "ROLLBACK")
        for step in task.steps:
            if step.status == "FAILED":
                step.status, step.operation = "READY", "RETRY"
                step.run_time += "lost count" not in self.deviations
        task.status, task.operation = "RUNNING", "RETRY"
        return self._whole(task)

    def _roll_back(self, request: Request) -> Json:
        task = self._task(request)
        if task.status != "FAILED":
            raise _illegal(task.id, task.status)
        if task.is_locked:
            raise Refusal(400, 20004, "Task {0} can not rollback.")
        ran = [step for step in task.steps if step.status != "PENDING"]
        for step in ran:
            step.operation = "ROLLBACK"
        ran[0 if "forward rollback" in self.deviations else -1].status = "READY"
        task.status, task.operation = "RUNNING", "ROLLBACK"
        return self._whole(task)

    def _retry_step(self, request: Request) -> Json:
        task, step = self._step(request)
        if step.status != "FAILED":
            raise _illegal(step.id, step.status)
        if step.operation == "ROLLBACK":
            raise _illegal(step.id, "ROLLBACK")
        step.status, step.operation, task.status = "READY", "RETRY", "RUNNING"
        return self._part(task, step)

    def _skip(self, request: Request) -> None:
        task, step = self._step(request)
        if step.status != "FAILED":
            raise _illegal(step.id, step.status)
        step.operation = "ROLLBACK_SKIP" if task.operation == "ROLLBACK" else "SKIP"
        step.status, task.status = "READY", "RUNNING"

    def _cancel(self, request: Request) -> None:
        _, step = self._step(request)
        if step.status != "RUNNING":
            raise _illegal(step.id, step.status)
        step.status = "CANCELING"

    # --- what is meant ---

    def _task(self, request: Request) -> Task:
        id = _id(request, "task", "taskInstanceId")
        if id not in self.tasks:
            raise Refusal(404, 20000, "The {0} task does not exist.")
        return self.tasks[id]

    def _step(self, request: Request) -> tuple[Task, Step]:
        task, id = self._task(request), _id(request, "subtask", "subtaskInstanceId")
        for step in task.steps:
            if step.id == id:
                return task, step
        raise Refusal(404, 20000, "The {0} task does not exist.")

    # --- what is shown ---

    def _whole(self, task: Task) -> Json:
        whole = {
            **self._head(task),
            "createTime": self._time(task.created.replace(microsecond=0)),
            "executor": "10.1.1.1",
            "operation": task.operation,
            "prohibitRollback": task.is_locked,
            "subtasks": [self._part(task, step) for step in task.steps[:: self._node.order]],
            "taskDefinitionId": -1,
            "type": "MANUAL",
        }
        if "missing executor" in self.deviations:
            del whole["executor"]
        return whole

    def _row(self, task: Task) -> Json:
        parts = [
            {"description": s.name, "id": s.id, "name": s.name, "operation": s.operation} | {"status": s.status}
            for s in task.steps
        ]
        return {**self._head(task), "subtasks": parts}

    def _head(self, task: Task) -> Json:
        return {
            "creator": {"id": 7, "name": "dba"},
            "id": task.id,
            "name": task.name,
            "startTime": self._time(task.created),
            "status": task.status,
        } | ({} if task.ended is None else {"finishTime": self._time(task.ended)})

    def _part(self, task: Task, step: Step) -> Json:
        place = task.steps.index(step)
        times = {"startTime": step.started, "finishTime": step.ended}
        ran = {"executor": "10.1.1.1", "createTime": self._time(task.created.replace(microsecond=0))}
        return {
            "description": step.name,
            "downstreams": [each.id for each in task.steps[place + 1 : place + 2]],
            "id": step.id,
            "name": step.name,
            "nodeType": "JAVA_TASK",
            "operation": step.operation,
            "parallelIdx": -1,
            "prohibitRollback": step.locks,
            "runTime": step.run_time,
            "seriesId": place,
            "status": step.status,
            "timeout": 60,
            "upstreams": [each.id for each in task.steps[max(place - 1, 0) : place]],
            **{key: self._time(at) for key, at in times.items() if at is not None},
        } | (ran if step.started else {})

    @property
    def _node(self) -> Node:
        return NODES[len(self.asked) % len(NODES)]

    def _time(self, moment: datetime) -> str:
        return _time(moment.astimezone(self._node.zone))

    # --- the envelope ---

    def _said(self, request: Request, *, data: Any) -> Response:
        body = self._envelope(request, 200)
        return JSONResponse(body if data is None else body | {"data": data})

    def _refused(self, request: Request, refusal: Refusal) -> Response:
        code: Any = str(refusal.code) if "text code" in self.deviations else refusal.code
        error = {"code": code, "message": refusal.message}
        body = self._envelope(request, refusal.status) | {"error": error}
        headers = {"WWW-Authenticate": "Basic"} if refusal.status == 401 else {}
        return JSONResponse(body, refusal.status, headers)

    def _envelope(self, request: Request, status: int) -> Json:
        trace = request.headers.get("x-trace-id") or uuid.uuid4().hex[:16]
        return {
            "duration": 7,
            "server": self._node.name,
            "status": status,
            "successful": status < 400,
            "timestamp": self._time(self.now - self._node.behind),
            "traceId": "" if status == 401 else trace,
        }


# --- small things ---------------------------------------------------------------------------------


def _tasks(now: datetime) -> Iterator[Task]:
    lives: dict[str, list[list[bool]]] = {
        "Upgrade agent": [[True], [False, True], [True]],
        "Add host": [[True], [False, False, True]],
        "Create tenant": [[True], [True]],
        "Drop tenant": [[True], [False]],
        "Restart proxy": [[True], [False, True]],
        "Collect logs": [[True], [True], [False, True], [True]],
    }
    for number, (name, outcomes) in enumerate(lives.items(), start=1):
        steps = [
            Step(number * 1000 + place, f"{name}: part {place}", list(each))
            for place, each in enumerate(outcomes, start=1)
        ]
        steps[0].locks = name == "Drop tenant"
        steps[0].status = "READY"
        yield Task(number, name, steps, now)


def _illegal(id: int, state: str) -> Refusal:
    return Refusal(400, 20003, f"This operation is not supported for the {id} task in the {state} state.")


def _id(request: Request, name: str, said: str) -> int:
    text = request.path_params[name]
    if not text.isascii() or not text.isdigit() or len(text) > 19 or not 1 <= int(text) <= LARGEST:
        raise Refusal(400, 0, f"The parameter '{said}' could not be converted to type 'Long'")
    return int(text)


def _number(asked: Any, name: str, otherwise: int, most: int) -> int:
    text = asked.get(name, str(otherwise))
    if not text.isascii() or not text.isdigit() or len(text) > 19 or not 1 <= int(text) <= most:
        raise Refusal(400, 0, f"The parameter '{name}' is out of bounds.")
    return int(text)


def _basic(request: Request) -> tuple[str | None, str]:
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None, ""
    try:
        name, _, password = base64.b64decode(rest).decode().partition(":")
    except ValueError:
        return None, ""
    return name, password


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """Serve an app from a thread, and yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
