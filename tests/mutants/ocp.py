"""OCP, broken in one way each. ``rules`` are those of which one has to name it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from mutants.bending import Answer, Mutant, bent, on, patched, replacing, replacing_in
from oceanmock.clock import SECOND
from oceanmock.engine.machine import Parts
from oceanmock.errors import RollbackProhibited
from oceanmock.ocp import auth as ocp_auth
from oceanmock.ocp import handlers as room
from oceanmock.ocp import machine
from oceanmock.ocp import world as ocp_world
from oceanmock.ocp.states import SubtaskState, TaskState
from oceanmock.openapi import ALL_PERMISSIONS

Json = dict[str, Any]


# --- answers that are bent ------------------------------------------------------------------------


def _tasks_in(answer: Answer) -> list[Json]:
    """Each whole task that an answer shows: of a detail, a list or an operation."""
    data = answer.said.get("data") or {}
    alone = [data] if "subtasks" in data else []
    found: list[Json] = data.get("contents", alone)
    return found


@on("getTaskInstance", status=200)
def _without_run_time(answer: Answer) -> None:
    for subtask in answer.said["data"]["subtasks"]:
        del subtask["runTime"]


@on("getTaskInstance", "listTaskInstances", status=200)
def _other_words(answer: Answer) -> None:
    for task in _tasks_in(answer):
        task["status"] = task["status"].replace("SUCCESSFUL", "SUCCEEDED")


@on()
def _codes_as_text(answer: Answer) -> None:
    if "error" in answer.said:
        answer.said["error"]["code"] = str(answer.said["error"]["code"])


@on("retryTask", "retrySubtask", status=200)
def _created(answer: Answer) -> None:
    answer.status = answer.said["status"] = 201


@on("getTaskInstance")
def _problem_json(answer: Answer) -> None:
    if answer.status >= 400:
        answer.content_type = "application/problem+json"


@on()
def _always_successful(answer: Answer) -> None:
    answer.said["successful"] = True


@on()
def _other_status_in_body(answer: Answer) -> None:
    if answer.status == 404:
        answer.said["status"] = 400


@on()
def _epoch_timestamps(answer: Answer) -> None:
    answer.said["timestamp"] = 1704866415


@on("getTaskInstance", status=200)
def _finished_before_it_began(answer: Answer) -> None:
    task = answer.said["data"]
    if "finishTime" in task:
        task["startTime"], task["finishTime"] = "2999-01-01T00:00:00Z", task["startTime"]


@on("getTaskInstance", status=200)
def _failed_while_something_runs(answer: Answer) -> None:
    task = answer.said["data"]
    if any(subtask["status"] == "RUNNING" for subtask in task["subtasks"]):
        task["status"] = "FAILED"


@on("listTaskInstances", status=200)
def _running_in_lists(answer: Answer) -> None:
    for task in _tasks_in(answer):
        task["status"] = "RUNNING" if task["status"] == "FAILED" else task["status"]


@on(status=400)
def _one_code_for_all(answer: Answer) -> None:
    if answer.said["error"]["code"] == 20003:
        answer.said["error"]["code"] = 20000


@on("getTaskInstance", status=404)
def _unknown_is_a_crash(answer: Answer) -> None:
    answer.status = answer.said["status"] = 500


@on("getTaskInstance", status=200)
def _one_way_edges(answer: Answer) -> None:
    for subtask in answer.said["data"]["subtasks"]:
        subtask["upstreams"] = []


@on("listTaskInstances", status=200)
def _one_row_twice(answer: Answer) -> None:
    rows = answer.said["data"]["contents"]
    if len(rows) > 1:
        rows[-1] = rows[0]


@on("getSubtaskLog", status=200)
def _no_logs(answer: Answer) -> None:
    answer.said["data"]["log"] = ""


@on("getSubtaskLog", status=200)
def _half_logs(answer: Answer) -> None:
    text = answer.said["data"]["log"]
    answer.said["data"]["log"] = text[: len(text) // 2]


@on("getSubtaskLog", status=200)
def _one_log_for_all(answer: Answer) -> None:
    answer.said["data"]["log"] = "All is well."


@on()
def _a_server_without_a_name(answer: Answer) -> None:
    if "server" in answer.said:
        answer.said["server"] = ""


@on()
def _runs_that_nobody_asked_for(answer: Answer) -> None:
    for task in _tasks_in(answer):
        for subtask in task["subtasks"]:
            if "runTime" in subtask:
                subtask["runTime"] += 98


# --- rooms that do something else -----------------------------------------------------------------

_LIST: Final = room.ServiceFactory.list_tasks


def _page_off_by_one(self: Any, call: Any) -> Any:
    """Pages from 0: the second is the one that was asked for first."""
    call.parameters["page"] += 1
    answer = _LIST(self, call)
    answer.body["data"]["page"]["number"] -= 1
    return answer


def _nobody_is_asked(call: Any) -> frozenset[str]:
    return ALL_PERMISSIONS


_BASIC: Final = ocp_auth._basic


def _everybody_may_all(call: Any) -> frozenset[str] | None:
    return ALL_PERMISSIONS if _BASIC(call) is not None else None


_QUERY: Final = ocp_world.query_of


def _order_only(params: Any) -> Any:
    return _QUERY({name: value for name, value in params.items() if name == "sort"})


_LOG: Final = room._log


def _first_run_only(view: Any, position: int, now: int) -> str:
    state = view.state.subtasks[position]
    subtasks = list(view.state.subtasks)
    subtasks[position] = state._replace(runs=state.runs[:1])
    only = replace(view, state=replace(view.state, subtasks=Parts(subtasks)))
    return _LOG(only, position, now)


# --- machines that go otherwise -------------------------------------------------------------------


def _never_refused(state: TaskState, _rules: Any, _position: int) -> None:
    return None


def _retry_without_counting(plan: Any, rules: Any, state: TaskState, position: int) -> TaskState:
    after = machine._retry_task(plan, rules, state, position)
    subtasks = Parts(
        new._replace(run_time=old.run_time) for old, new in zip(state.subtasks, after.subtasks, strict=True)
    )
    return replace(after, subtasks=subtasks)


def _retry_that_stays_failed(plan: Any, rules: Any, state: TaskState, position: int) -> TaskState:
    return replace(machine._retry_subtask(plan, rules, state, position), status="FAILED")


def _skip_that_runs(plan: Any, rules: Any, state: TaskState, position: int) -> TaskState:
    return machine._retry_subtask(plan, rules, state, position)


def _cancel_that_does_nothing(plan: Any, rules: Any, state: TaskState, position: int) -> TaskState:
    return state


_ROLL_BACK: Final = machine._roll_back


def _all_at_once(plan: Any, rules: Any, state: TaskState, position: int) -> TaskState:
    """Everything that has run is undone at once, whatever needs it."""
    after = _ROLL_BACK(plan, rules, state, position)
    subtasks = Parts(
        each._replace(status="READY", due=None) if each.operation == "ROLLBACK" else each for each in after.subtasks
    )
    return replace(after, subtasks=subtasks)


_UNFOLD: Final = machine._unfold


def _a_relapse(plan: Any, rules: Any, state: TaskState) -> Iterator[TaskState]:
    """What has succeeded fails five seconds later."""
    *before, last = _UNFOLD(plan, rules, state)
    yield from before
    yield last
    if last.status == "SUCCESSFUL" and last.operation != "ROLLBACK":
        yield replace(last, at=last.at + 5 * SECOND, status="FAILED")


_END: Final = machine._end_run


def _an_end_without_a_time(subtask: SubtaskState, instant: int) -> SubtaskState:
    return _END(subtask, instant)._replace(finish_time=None)


_OPERATE: Final = machine.operate


def _rolls_back_all_the_same(life: Any, operation: Any, instant: int, subtask: int | None = None) -> Any:
    """It shows that rollback is forbidden, and does it."""
    try:
        return _OPERATE(life, operation, instant, subtask)
    except RollbackProhibited:
        state = replace(machine.view_at(life, instant), at=instant)
        after = _ROLL_BACK(life.script, life.rules, state, 0)
        return life.continued(instant, _UNFOLD(life.script, life.rules, after))


_START: Final = machine._start_run


def _a_start_that_is_moved(plan: Any, subtask: SubtaskState, instant: int, tick: int) -> SubtaskState:
    """Each start looks an hour later than it was."""
    return _START(plan, subtask, instant, tick)._replace(start_time=instant + 3600 * SECOND)


_REFUSAL: Final = machine._refusal


def _row(kind: str, operation: str, refusal: Any, effect: Any) -> Any:
    """Give an operation of a task or a subtask another refusal, or another effect."""
    if effect is not None:
        table = machine._TASK_OPERATIONS if kind == "task" else machine._SUBTASK_OPERATIONS
        return replacing_in(table, {operation: effect})

    def changed(requested: Any, state: Any, rules: Any, subtask: int | None) -> Any:
        is_meant = requested == operation and (subtask is None) == (kind == "task")
        if is_meant:
            return refusal(state, rules, subtask or 0)
        return _REFUSAL(requested, state, rules, subtask)

    return replacing(machine, "_refusal", changed)


def _task_row(operation: str, *, refusal: Any = None, effect: Any = None) -> Any:
    return _row("task", operation, refusal, effect)


def _subtask_row(operation: str, *, refusal: Any = None, effect: Any = None) -> Any:
    return _row("subtask", operation, refusal, effect)


def _mutant(name: str, says: str, broken: Any, *rules: str) -> Mutant:
    return Mutant(name, "ocp", says, frozenset(rules), broken)


MUTANTS: Final = (
    _mutant("missing-field", "subtasks have no runTime", bent("ocp", _without_run_time), "schema.required"),
    _mutant("other-enum", "a status is SUCCEEDED", bent("ocp", _other_words), "schema.enum"),
    _mutant("code-as-text", "error.code is a text", bent("ocp", _codes_as_text), "schema.type"),
    _mutant("created", "a retry is answered 201", bent("ocp", _created), "status.undocumented"),
    _mutant("problem-json", "errors are application/problem+json", bent("ocp", _problem_json), "content-type"),
    _mutant("always-successful", "every answer is successful", bent("ocp", _always_successful), "envelope.successful"),
    _mutant("other-status-in-body", "404 says 400", bent("ocp", _other_status_in_body), "envelope.status"),
    _mutant("epoch-timestamps", "timestamps are numbers", bent("ocp", _epoch_timestamps), "envelope.timestamp"),
    _mutant(
        "ends-before-it-begins",
        "finishTime < startTime",
        bent("ocp", _finished_before_it_began),
        "time.start-after-finish",
    ),
    _mutant(
        "parent-out-of-step", "FAILED over a RUNNING", bent("ocp", _failed_while_something_runs), "parent.out-of-step"
    ),
    _mutant(
        "list-differs", "lists say RUNNING of what FAILED", bent("ocp", _running_in_lists), "list.differs-from-detail"
    ),
    _mutant(
        "one-code-for-all", "an illegal operation has the code of 404", bent("ocp", _one_code_for_all), "error.code"
    ),
    _mutant("crash", "an unknown id is 500", bent("ocp", _unknown_is_a_crash), "hostile.500"),
    _mutant("one-way-edges", "upstreams are always empty", bent("ocp", _one_way_edges), "graph.one-way"),
    _mutant("no-logs", "every log is empty", bent("ocp", _no_logs), "log.presence"),
    _mutant("half-logs", "logs are cut off in their middle", bent("ocp", _half_logs), "log.stale"),
    _mutant("one-log-for-all", "what never ran has a log too", bent("ocp", _one_log_for_all), "log.presence"),
    _mutant("no-server-name", "the server has no name", bent("ocp", _a_server_without_a_name), "schema.value"),
    _mutant(
        "many-runs", "what never was retried has many runs", bent("ocp", _runs_that_nobody_asked_for), "count.never-run"
    ),
    _mutant("one-row-twice", "a list repeats a row", bent("ocp", _one_row_twice), "list.twice"),
    _mutant(
        "page-off-by-one",
        "page 1 is the second",
        patched(replacing(room.ServiceFactory, "list_tasks", _page_off_by_one)),
        "paging.rows",
        "paging.whole",
    ),
    _mutant(
        "filter-ignored",
        "lists are not filtered",
        patched(replacing(ocp_world, "query_of", _order_only)),
        "filter.ignored",
    ),
    _mutant(
        "no-auth",
        "nobody is asked who he is",
        patched(
            replacing(ocp_auth, "_basic", _nobody_is_asked),
            replacing(ocp_auth, "_access_key", lambda *_, **__: ALL_PERMISSIONS),
        ),
        "auth.missing-accepted",
    ),
    _mutant(
        "viewer-may-write",
        "who may look may do all",
        patched(replacing(ocp_auth, "_basic", _everybody_may_all)),
        "auth.forbidden-accepted",
    ),
    _mutant(
        "stale-log", "a log never leaves its first run", patched(replacing(room, "_log", _first_run_only)), "log.stale"
    ),
    _mutant(
        "any-retry",
        "a task is retried in any state",
        patched(_task_row("RETRY", refusal=_never_refused)),
        "call.illegal-accepted",
    ),
    _mutant(
        "any-rollback",
        "a task is rolled back in any state",
        patched(_task_row("ROLLBACK", refusal=_never_refused)),
        "call.illegal-accepted",
    ),
    _mutant(
        "any-skip",
        "a subtask is skipped in any state",
        patched(_subtask_row("SKIP", refusal=_never_refused)),
        "call.illegal-accepted",
    ),
    _mutant(
        "cancel-of-what-waits",
        "a PENDING subtask can be cancelled",
        patched(_subtask_row("CANCEL", refusal=_never_refused)),
        "call.illegal-accepted",
    ),
    _mutant(
        "run-time-not-counted",
        "a retried task leaves runTime",
        patched(_task_row("RETRY", effect=_retry_without_counting)),
        "count.not-bumped",
    ),
    _mutant(
        "retry-stays-failed",
        "a task stays FAILED while its subtask is retried",
        patched(_subtask_row("RETRY", effect=_retry_that_stays_failed)),
        "parent.out-of-step",
    ),
    _mutant(
        "skip-that-runs",
        "a skip is a retry",
        patched(_subtask_row("SKIP", effect=_skip_that_runs)),
        "call.wrong-effect",
    ),
    _mutant(
        "cancel-that-does-nothing",
        "a cancel changes nothing",
        patched(_subtask_row("CANCEL", effect=_cancel_that_does_nothing)),
        "call.no-effect",
    ),
    _mutant(
        "rollback-all-at-once",
        "a rollback has no order",
        patched(_task_row("ROLLBACK", effect=_all_at_once)),
        "rollback.order",
    ),
    _mutant(
        "rollback-though-forbidden",
        "prohibitRollback is ignored",
        patched(replacing(machine, "operate", _rolls_back_all_the_same)),
        "call.prohibited-accepted",
    ),
    _mutant(
        "relapse", "what succeeded fails later", patched(replacing(machine, "_unfold", _a_relapse)), "terminal.moved"
    ),
    _mutant(
        "end-without-a-time",
        "what has ended has no finishTime",
        patched(replacing(machine, "_end_run", _an_end_without_a_time)),
        "time.finish",
    ),
    _mutant(
        "start-in-the-future",
        "startTime is an hour late",
        patched(replacing(machine, "_start_run", _a_start_that_is_moved)),
        "time.future",
    ),
)
