"""Check that OCP's responses are consistent: each by itself, and several over time.

Only rules that hold at any instant are checked. The server reads a task and then its subtasks while the scheduler runs,
so a task is compared with its subtasks only when its status is final. Facts: github.com/oceanbase/ocp-express at
eb6f2117 (task/task-service/src/main/java/com/oceanbase/ocp/task/engine) and the samples of the public pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, ClassVar, Final

from oceanmock import observations
from oceanmock.checks import Check, CheckResult, Rule, Subject, check, objects, whole
from oceanmock.clock import SECOND
from oceanmock.observations import FUTURE, SKEW, ApiHistory, Call, Members, Observation, Sample
from oceanmock.ocp import states
from oceanmock.ocp.api import API
from oceanmock.ocp.conformance import DOCUMENTED, UNDER_WAY

LIST: Final = "listTaskInstances"
ENDED: Final = frozenset({"FAILED", "SUCCESSFUL"})
BACKWARDS: Final = frozenset({"ROLLBACK", "ROLLBACK_SKIP"})
LEAST_MOST: Final = 100  # the smallest limit of the page size that a server may have
LARGEST_VALUES: Final = {"page": 2**31 - 1, "size": 2000}
CODES: Final[Mapping[int, tuple[int, str]]] = {
    20000: (404, "an unknown task or subtask"),
    20003: (400, "an operation that the state does not allow"),
    20004: (400, "a rollback that is prohibited"),
    30014: (403, "a permission that is missing"),
}
"""ocp-express' codes with their status and meaning (ErrorCodes.java); other codes are not public, and pass."""

OWN_RULES: Final[Mapping[str, Rule]] = {}
RENDERS_UNKNOWN_PATHS: Final = False  # other APIs of OCP, or a proxy, may respond to a path that is no operation


def is_explained(subject: Subject) -> bool:
    """Return whether an unsupported method gets a web page or a 5xx, as in ocp-express; not verified for OCP."""
    # (CustomErrorController.java:34-42; RestExceptionHandler.java:343-358.)
    operation, exchange = subject.operation, subject.exchange
    is_page = (exchange.header("content-type") or "").startswith("text/html")
    return operation is not None and exchange.method != operation.method and (subject.status >= 500 or is_page)


def code(subject: Subject) -> Iterator[CheckResult]:
    """Check that a code of ocp-express has its documented meaning."""
    number, path = whole(subject.error.get("code")), "$.error.code"
    if subject.operation is None or number is None or number not in CODES:
        return
    status, means = CODES[number]
    wrong = f"code {number} is that of {means}, which is answered {status}, not {subject.status}."
    yield check("error.code", status == subject.status, path, wrong)
    if number == 20004:
        wrong = "code 20004 is that of a prohibited rollback, and no rollback was asked for."
        yield check("error.code", subject.id == "rollbackTask", path, wrong)


def ids(subject: Subject) -> Iterator[CheckResult]:
    """Check that the returned id matches the requested id."""
    requested = subject.path_ids[-1] if subject.path_ids else ""
    has_id = subject.status == 200 and isinstance(subject.data, dict) and "id" in subject.data
    if has_id and requested.isascii() and requested.isdigit():
        actual = subject.data["id"]
        wrong = f"{requested} was asked for, and {actual} is answered."
        yield check("id.differs", str(actual) == str(int(requested)), "$.data.id", wrong)


def items(subject: Subject) -> Iterator[CheckResult]:
    """Check the times of each item, and that no skipped subtask has failed (JavaSubtaskRunner.java:32-108).

    Times are valid, in order, not in the future, and present exactly if the item has started or ended.
    """
    directions = {task.id: task.operation for task in observations.items_in(subject, API, "task")}
    for item in observations.items_in(subject, API):
        path, kind, status, required = item.path, item.kind, item.state, dict[str, bool]()
        # The database's clock sets createTime, the server's startTime.
        yield from observations.in_order(item, "createTime", "startTime", slack=FUTURE)
        yield from observations.in_order(item, "startTime", "finishTime")
        yield from observations.not_in_future(item.raw, path, ("createTime", "startTime", "finishTime"), subject.at)
        never_ran = item.label == ("PENDING", "EXECUTE")
        if (runs := whole(item.raw.get("runTime"))) is not None:
            wrong = f"runTime is {runs} in {item.words}; the first run is 1, and only a retry adds one."
            # What was retried, then rolled back, is in EXECUTE again after a retry of the failed rollback.
            is_first = item.operation == "EXECUTE" and directions.get(item.parent) == "EXECUTE"
            passed = runs == 1 or (runs > 1 and not is_first)
            yield check("count.never-run", passed, f"{path}.runTime", wrong)
        if kind == "task" and status in ENDED:
            required = {"finishTime": True}
        elif kind == "subtask" and "runTime" in item.raw and (never_ran or status in (*ENDED, "RUNNING", "CANCELING")):
            required = {"startTime": not never_ran, "finishTime": status in ENDED}
        for name, is_required in required.items():
            wrong = f"a {kind} that is {status} has {'no' if is_required else 'a'} {name}."
            yield check("time.finish", (item.raw.get(name) is not None) == is_required, f"{path}.{name}", wrong)
        if kind == "subtask" and item.operation in ("SKIP", "ROLLBACK_SKIP"):
            yield check("call.skip-runs", status != "FAILED", f"{path}.status", f"a subtask is {item.words}.")


def tasks(subject: Subject) -> Iterator[CheckResult]:
    """Check each task with its subtasks."""
    for task in observations.items_in(subject, API, "task"):
        yield from _parent(task)
        yield from observations.listed_once(task.raw.get("subtasks"), f"{task.path}.subtasks")
        first = task.time("createTime")
        for item in task.parts:
            then = item.time("createTime")
            wrong = f"createTime is {item.raw.get('createTime')}, and that of its task is {task.raw.get('createTime')}."
            yield check(
                "parent.times", not first or not then or first <= then + FUTURE, f"{item.path}.createTime", wrong
            )
        by_id = {item.id: item for item in task.parts if item.id}
        if any("upstreams" in item.raw for item in by_id.values()):
            yield from _graph(task, by_id)
        for item in task.parts if "operation" in task.raw else ():
            if task.operation == "ROLLBACK":
                yield from _undone_last_first(item, by_id)
            elif item.state != "PENDING":  # its upstreams have succeeded (AbstractTaskWorker:59-87)
                for upstream in _named(item, "upstreams", by_id):
                    wrong = f"it is {item.state} while its upstream {upstream.id} is {upstream.state}."
                    yield check("order.forward", upstream.state == "SUCCESSFUL", f"{item.path}.status", wrong)
                    if all((e.operation, e.raw.get("runTime")) == ("EXECUTE", 1) for e in (item, upstream)):
                        start, end = item.time("startTime"), upstream.end
                        wrong = f"it started before its upstream {upstream.id} had ended."
                        passed = start is None or end is None or end <= start + SKEW
                        yield check("order.forward", passed, f"{item.path}.startTime", wrong)


def _parent(task: Observation) -> Iterator[CheckResult]:
    """Check that an ended task agrees with its subtasks (RunningTaskWorker:86-119,143-176).

    A subtask that has run and prohibits rollback prohibits that of its task (:160-174).
    """
    statuses = {item.state for item in task.parts}
    words = " and ".join(sorted(statuses))
    if statuses and task.state == "SUCCESSFUL":
        # The direction is unknown in a row of a list, and after a RETRY of what may be a failed rollback (OCP 4.2.2's
        # user guide).
        was_undone = any(item.operation in BACKWARDS for item in task.parts)
        goals = [{"SUCCESSFUL"}, {"PENDING"}]
        if task.operation == "ROLLBACK":
            goals = [{"PENDING"}]
        elif "operation" in task.raw and not (task.operation == "RETRY" and was_undone):
            goals = [{"SUCCESSFUL"}]
        wrong = f"a task that is SUCCESSFUL has subtasks that are {words}."
        yield check("parent.out-of-step", statuses in goals, f"{task.path}.status", wrong)
    if statuses and task.state == "FAILED":
        wrong = f"a task that is FAILED has no subtask that is: they are {words}."
        # An operation may come between the reads of the task and of its subtasks.
        is_new = any(e.state == "READY" and e.operation in ("RETRY", "SKIP", *BACKWARDS) for e in task.parts)
        yield check("parent.out-of-step", "FAILED" in statuses or is_new, f"{task.path}.status", wrong)
    if task.state in ENDED and "prohibitRollback" in task.raw:
        started = [item for item in task.parts if item.state not in ("PENDING", "READY")]
        passed = task.raw["prohibitRollback"] is True or all(e.raw.get("prohibitRollback") is not True for e in started)
        wrong = "a subtask that has run prohibits rollback, and its task does not say so."
        yield check("parent.prohibit-rollback", passed, f"{task.path}.prohibitRollback", wrong)


def _graph(task: Observation, by_id: Mapping[str, Observation]) -> Iterator[CheckResult]:
    """Check that upstreams and downstreams are of the same task, and agree."""
    for item in task.parts:
        for there, back in (("upstreams", "downstreams"), ("downstreams", "upstreams")):
            for other in _ids(item, there):
                wrong = f"{item.raw.get('id')} has {other} among its {there}, which does not name it back."
                passed = other in by_id and item.id in _ids(by_id[other], back)
                yield check("graph.one-way", passed, f"{item.path}.{there}", wrong)
    series = sorted(n for item in by_id.values() if (n := whole(item.raw.get("seriesId"))) is not None)
    wrong = f"the seriesIds of a task are {series[:20]}, not 0 to {len(by_id) - 1}."
    yield check("graph.series", series == list(range(len(by_id))), f"{task.path}.subtasks[*].seriesId", wrong)


def _ids(subtask: Observation, name: str) -> list[str]:
    ids = subtask.raw.get(name)
    return [observations.id_text(id) or "None" for id in ids] if isinstance(ids, list) else []


def _named(subtask: Observation, name: str, by_id: Mapping[str, Observation]) -> list[Observation]:
    return [by_id[id] for id in _ids(subtask, name) if id in by_id]


def _undone_last_first(subtask: Observation, by_id: Mapping[str, Observation]) -> Iterator[CheckResult]:
    """Check that the downstreams of a subtask were undone before it (AbstractTaskWorker:89-115)."""
    if subtask.operation not in BACKWARDS or subtask.state not in ("PENDING", "READY", "RUNNING", "FAILED"):
        return
    for item in _named(subtask, "downstreams", by_id):
        wrong = f"it is undone while its downstream {item.id} is {item.state}."
        yield check("rollback.order", item.state == "PENDING", f"{subtask.path}.status", wrong)
        if all(e.state == "PENDING" and e.operation in BACKWARDS for e in (subtask, item)):
            wrong = f"it was undone before its downstream {item.id} was."
            passed = subtask.end is None or item.end is None or item.end <= subtask.end + SKEW
            yield check("rollback.order", passed, f"{subtask.path}.finishTime", wrong)


def page(subject: Subject) -> Iterator[CheckResult]:
    """Check that a page is the requested one, and that its numbers match its rows."""
    data = subject.data if isinstance(subject.data, dict) else {}
    actual, rows = data.get("page"), data.get("contents")
    yield from observations.listed_once(rows, "$.data.contents")
    is_list = subject.id == LIST and subject.status == 200
    if not is_list or not isinstance(actual, dict) or not isinstance(rows, list):
        return
    number, size = whole(actual.get("number")), whole(actual.get("size"))
    total, pages = whole(actual.get("totalElements")), whole(actual.get("totalPages"))
    for name, member, default, value in (("page", "number", 1, number), ("size", "size", 10, size)):
        text, requested = subject.parameter(name), default if name not in dict(subject.query) else None
        if text is not None and text.isascii() and text.isdigit() and len(text) < 10:
            requested = int(text) if 1 <= int(text) <= LARGEST_VALUES[name] else None
        if requested is not None and value is not None:
            wrong = f"{name}={requested} was asked for, and page.{member} is {value}."
            passed = value == requested or (name == "size" and LEAST_MOST <= value < requested)
            yield check(f"paging.{member}", passed, f"$.data.page.{member}", wrong)
    if number is None or size is None or size < 1 or total is None or pages is None:
        return
    wrong = f"{total} elements in pages of {size} are {-(-total // size)} pages, not {pages}."
    yield check("paging.pages", pages == -(-total // size), "$.data.page.totalPages", wrong)
    expected = max(0, min(size, total - (number - 1) * size))
    wrong = f"page {number} of {total} elements in pages of {size} has {len(rows)} rows, not"
    yield check("paging.rows", len(rows) == expected, "$.data.contents", f"{wrong} {expected}.")


PLAIN_NAME: Final = r"[A-Za-z0-9 .:-]+"  # a name that every database compares literally


def _has_id(value: Any, requested: str) -> bool:
    """Return whether an object matches a filter by id; a server may ignore 0 and texts that are no id."""
    id = value.get("id") if isinstance(value, dict) else None
    is_id = requested.isascii() and requested.isdigit() and int(requested) > 0
    return not is_id or str(id) == str(int(requested))


FILTERS: Final[Mapping[str, Callable[[Mapping[str, Any], str], bool]]] = {
    "status": lambda task, text: (
        str(task.get("status")) in text.split(",")
        or not set(text.split(",")) <= DOCUMENTED  # ocp-express ignores case, and has no tasks of an unknown status
    ),
    "name": lambda task, text: (
        text.strip().lower() in str(task.get("name")).lower() or not re.fullmatch(PLAIN_NAME, text.strip())
    ),
    "clusterId": lambda task, text: _has_id(task.get("cluster"), text),
    "tenantId": lambda task, text: _has_id(task.get("tenant"), text),
}
"""Predicates of the rows that match a filter. Rows have no type or host. A tenant's name is unique only in its cluster,
and the name of the filter clusterName is not verified."""
DIRECTIONS: Final = {"id,asc": False, "id,desc": True}
"""The documented values of ``sort``, and whether each is descending. No document states the order without one."""


def rows(subject: Subject) -> Iterator[CheckResult]:
    """Check that the rows of a list match the filters, and are in the requested order."""
    if subject.id != LIST:
        return
    items = list(observations.items_in(subject, API, "task"))
    for name, matches in FILTERS.items():
        text = subject.parameter(name)
        for task in items if text else ():
            wrong = f"{name}={text} was asked for, and task {task.raw.get('id')} is none of that."
            yield check("filter.ignored", matches(task.raw, text or ""), task.path, wrong)
    sort = subject.parameter("sort")
    if sort in DIRECTIONS:
        values = [id for task in items if (id := whole(task.raw.get("id"))) is not None]
        wrong = f"sort={sort} was asked for, and the rows are not in that order."
        yield check("list.order", values == sorted(values, reverse=DIRECTIONS[sort]), "$.data.contents", wrong)


CHECKS: Final[tuple[Check, ...]] = (code, ids, items, tasks, page, rows)

RETRY_CALLS: Final = frozenset({"task.RETRY", "subtask.RETRY"})
"""The operations that may add one to a subtask's runTime."""
ON_A_SUBTASK: Final = frozenset({"subtask.RETRY", "subtask.SKIP", "subtask.CANCEL"})
LONGEST_SKIP: Final = 10 * SECOND
"""The longest run of a skipped subtask of the mock, which takes at most two ticks of the scheduler."""
LONGEST_SHARED_SKIP: Final = 120 * SECOND
ABOUT_A_TASK: Final = frozenset({"getTaskInstance", "retryTask", "rollbackTask"})
"""The operations whose 404 has only one reason: an unknown task."""
ENDS_OF_RUNS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("EXECUTE", "RETRY"), ("SUCCESSFUL", "FAILED")),
    "ROLLBACK": ("PENDING", "FAILED"),
}
"""The statuses in which a subtask of an operation has had a run of that operation."""
FIRST_LINE: Final = re.compile(r"#{12}\{([A-Z_]+)\}\{")
LAST_LINE: Final = "Set state for subtask: "  # and its id (SubtaskAccessor.java:93-104, and the documents' sample)
LOGS_KEPT: Final = 24 * 3600 * SECOND  # how long a server keeps a log at least; not verified for OCP


class TaskHistory(ApiHistory):
    """Checks the codes, logs and skips of tasks over time."""

    opt_ins = frozenset({states.RETRIES})
    members: ClassVar = {
        "task": Members(
            ("name", "type", "taskDefinitionId", "creator", "createTime", "startTime"),
            ("finishTime",),
            # A subtask that was READY may still run after its task has FAILED.
            settled=frozenset({"SUCCESSFUL"}),
        ),
        # startTime is that of the first run (ocp-express SubtaskAccessor.java:54-61)
        "subtask": Members(
            (*("name", "seriesId", "upstreams", "downstreams", "timeout", "nodeType"), *("createTime", "startTime")),
            ("finishTime",),
            count="runTime",
        ),
    }

    def __init__(self, *, is_shared: bool) -> None:
        super().__init__(is_shared=is_shared)
        self._codes: dict[str, int] = {}
        self._texts: dict[str, str] = {}
        self._skipped_since: dict[str, int] = {}

    def results(
        self, subject: Subject, samples: Sequence[Sample], latest: Mapping[tuple[str, str], Sample]
    ) -> Iterator[CheckResult]:
        """Check that an unknown task always has the same code (OCP's are not public), then skips and logs."""
        number = subject.error.get("code")
        is_plain = all(id.isascii() and id.isdigit() for id in subject.path_ids)
        is_unknown = subject.id in ABOUT_A_TASK and subject.status == 404 and is_plain
        if is_unknown and isinstance(number, int):
            first = self._codes.setdefault(subject.id, number)
            wrong = f"code is {number}, and was {first} the last time this was answered 404."
            yield check("error.code-differs", number == first, "$.error.code", wrong)
        for sample in samples:
            if sample.kind == "subtask":
                yield from self._skip(sample)
        if subject.id == "getSubtaskLog" and subject.status == 200 and subject.path_ids:
            yield from self._log(subject, latest.get(("subtask", subject.path_ids[-1])))

    def _skip(self, subtask: Sample) -> Iterator[CheckResult]:
        """Check that a skipped subtask ends within a few ticks of the scheduler."""
        at = subtask.subject.at
        is_skipped = subtask.operation in ("SKIP", "ROLLBACK_SKIP")
        if not is_skipped or subtask.state not in ("READY", "RUNNING") or at is None:
            self._skipped_since.pop(subtask.id, None)
            return
        span = at - self._skipped_since.setdefault(subtask.id, at)
        limit = LONGEST_SHARED_SKIP if self.is_shared else LONGEST_SKIP
        wrong = f"subtask {subtask.id} is {subtask.words}, {span // SECOND} s after its skip."
        yield check("call.skip-runs", span <= limit, subtask.path, wrong)

    def _log(self, subject: Subject, subtask: Sample | None) -> Iterator[CheckResult]:
        """Check that a log only grows, and has the first line of the last run."""
        text = subject.data.get("log") if isinstance(subject.data, dict) else None
        id, path = subject.path_ids[-1], "$.data.log"
        if not isinstance(text, str) or not text:
            return
        wrong = f"the log of subtask {id} does not begin as it did before."
        yield check("log.rewritten", text.startswith(self._texts.get(id, "")), path, wrong)
        self._texts[id] = text
        if subtask is not None and subtask.state in ENDS_OF_RUNS.get(subtask.operation, ()):
            runs = FIRST_LINE.findall(text)  # may be missing, as in every public sample
            wrong = f"subtask {id} is {subtask.words}, and its log has no run of that."
            yield check("log.stale", not runs or subtask.operation in runs, path, wrong)

    def log_lines(self, subject: Subject) -> list[Any] | None:
        text = subject.data.get("log") if subject.id == "getSubtaskLog" and isinstance(subject.data, dict) else None
        return text.splitlines() if isinstance(text, str) else None

    def log_results(self, subject: Subject, sample: Sample) -> Iterator[CheckResult]:
        """Check that the log of a new end is there, and complete if it has ocp-express' lines; old ones may be gone."""
        text, path = "\n".join(self.log_lines(subject) or []), "$.data.log"
        if (sample.subject.at or 0) - (sample.end or 0) < LOGS_KEPT:
            yield check("log.presence", bool(text), path, f"subtask {sample.id} is {sample.words}, and has no log.")
        if FIRST_LINE.search(text) and sample.label == ("SUCCESSFUL", "EXECUTE"):
            wrong = f"subtask {sample.id} is {sample.words}, and its log does not say that its state was set."
            yield check("log.stale", f"{LAST_LINE}{sample.id}" in text, path, wrong)

    def acceptance(self, name: str, before: Sample, *, is_certain: bool) -> Iterator[CheckResult]:
        if name == "task.ROLLBACK" and before.state == "FAILED" and is_certain:
            wrong = f"a rollback is accepted of task {before.id}, whose prohibitRollback is true."
            yield check("call.prohibited-accepted", before.raw.get("prohibitRollback") is not True, "$", wrong)

    def possible_calls(self, before: Sample, calls: Sequence[Call]) -> Sequence[Call]:
        # Some classes of subtasks retry by themselves (ocp-express FailedSubtaskWorker:72-88).
        if not self.is_shared or before.kind != "subtask":
            return calls
        retry = Call("subtask", "subtask.RETRY", before.id, frozenset(), is_sure=False)
        return [retry, *(item for call in calls for item in (call, retry))]

    def is_undecided(self, before: Sample, names: Set[str]) -> bool:
        # No public source states the effect on a real server of a retry after a failed rollback (only OCP 4.2.2's user
        # guide has it), and the operation of a task of which one subtask is retried, skipped or cancelled.
        if not self.is_shared:
            return False
        is_half_undone = before.operation in BACKWARDS and bool(names & RETRY_CALLS)
        return is_half_undone or (before.kind == "task" and bool(names & ON_A_SUBTASK))

    def has_run_again(self, before: Sample, now: Sample, calls: Sequence[Call]) -> bool:
        was_failed = before.state == "FAILED" and before.operation != "ROLLBACK"
        return was_failed and bool(calls) and calls[0].is_sure and calls[0].name == "task.RETRY"

    def most_runs(self, first: Sample, calls: Sequence[Call]) -> int | None:
        own = sum(call.name in RETRY_CALLS and (call.kind != first.kind or call.id == first.id) for call in calls)
        count = whole(first.raw.get("runTime"))
        return None if self.is_shared or count is None else count + own  # a real server may retry by itself

    def is_waiting(self, sample: Sample) -> bool:
        statuses = {str(item.get("status")) for item in objects(sample.raw.get("subtasks"))}
        goal = "PENDING" if sample.operation == "ROLLBACK" else "SUCCESSFUL"
        is_decided = "FAILED" in statuses or statuses == {goal}
        return sample.state == "RUNNING" and is_decided and statuses.isdisjoint(UNDER_WAY)

    def is_refused_for_state(self, subject: Subject, before: Sample) -> bool:
        is_allowed = before.raw.get("prohibitRollback") is False
        return not subject.exchange.request_body and (subject.id != "rollbackTask" or is_allowed)


HISTORY: Final = TaskHistory
