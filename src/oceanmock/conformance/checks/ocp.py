"""Check that the data of one OCP response are consistent: times, tasks and subtasks, pages.

Only rules that hold at any instant are checked. The server reads a task and its subtasks one after
the other while the scheduler runs: so a task is compared with its subtasks only when its status is
final. Facts: github.com/oceanbase/ocp-express at eb6f2117
(task/task-service/src/main/java/com/oceanbase/ocp/task/engine) and the samples of the public pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from oceanmock.checks import CheckResult, Subject, check, instant, numbered, objects, whole
from oceanmock.conformance.checks.times import FUTURE, SKEW, TIMES, Json, not_in_future, ordered

ENDED: Final = frozenset({"FAILED", "SUCCESSFUL"})
BACKWARDS: Final = frozenset({"ROLLBACK", "ROLLBACK_SKIP"})
STATUSES: Final = frozenset({"RUNNING", "FAILED", "SUCCESSFUL"})
"""The documented statuses; ABORTED is not, and a server may not support it as a filter."""
UNDER_RUN: Final = frozenset({"RUNNING", "CANCELING"})
UNDER_WAY: Final = frozenset({"PENDING", "READY", "RUNNING", "FAILED"})
LEAST_MOST: Final = 100
"""The page size that every server must allow; above it, a server may have a limit of its own."""
TAKEN_UP: Final = frozenset({"RETRY", "SKIP", "ROLLBACK", "ROLLBACK_SKIP"})
"""The operations after which a subtask is READY."""


# --- items in a body ------------------------------------------------------------------------------


def tasks_in(subject: Subject) -> Iterator[tuple[str, Json]]:
    """Yield every task of a response, whole or as a row, with its JSON path."""
    data = subject.data
    if subject.status != 200 or not isinstance(data, dict):
        return
    if subject.id == "listTaskInstances":
        yield from numbered(data.get("contents"), "$.data.contents")
    elif subject.id in ("getTaskInstance", "retryTask", "rollbackTask"):
        yield "$.data", data


def subtasks_in(subject: Subject) -> Iterator[tuple[str, Json]]:
    """Yield every subtask of a response, with its JSON path."""
    if subject.id == "retrySubtask" and subject.status == 200 and isinstance(subject.data, dict):
        yield "$.data", subject.data
    for path, task in tasks_in(subject):
        yield from numbered(task.get("subtasks"), f"{path}.subtasks")


def ids(subject: Subject) -> Iterator[CheckResult]:
    """Check that the returned id matches the requested id."""
    if subject.status != 200 or not isinstance(subject.data, dict) or "id" not in subject.data:
        return
    asked = subject.path_ids[-1] if subject.path_ids else ""
    if asked.isascii() and asked.isdigit():
        wrong = f"{asked} was asked for, and {subject.data['id']} is answered."
        yield check("id.differs", str(subject.data["id"]) == str(int(asked)), "$.data.id", wrong)


# --- times ----------------------------------------------------------------------------------------


def times(subject: Subject) -> Iterator[CheckResult]:
    """Check that times are valid, in order and not in the future."""
    now = instant(subject.body.get("timestamp")) if isinstance(subject.body, dict) else None
    for path, thing in (*tasks_in(subject), *subtasks_in(subject)):
        # The database's clock sets createTime, the server's startTime.
        yield from ordered(thing, path, "createTime", "startTime", slack=FUTURE)
        yield from ordered(thing, path, "startTime", "finishTime")
        yield from not_in_future(thing, path, TIMES, now)


def ends(subject: Subject) -> Iterator[CheckResult]:
    """Check that ended items have a finishTime, running ones none, unstarted ones no times."""
    for path, task in tasks_in(subject):
        if task.get("status") in ENDED:
            wrong = f"a task that is {task['status']} has no finishTime."
            passed = task.get("finishTime") is not None
            yield check("time.finish", passed, f"{path}.finishTime", wrong)
    for path, subtask in subtasks_in(subject):
        if "runTime" in subtask:  # a row of a list has no times
            yield from _ends_of(path, subtask)


def _ends_of(path: str, subtask: Json) -> Iterator[CheckResult]:
    status = str(subtask.get("status"))
    never_ran = (status, subtask.get("operation")) == ("PENDING", "EXECUTE")
    has = {"startTime": status in ENDED | UNDER_RUN, "finishTime": status in ENDED}
    for name, required in has.items() if never_ran or status in ENDED | UNDER_RUN else ():
        wrong = f"a subtask that is {status} has {'no' if required else 'a'} {name}."
        passed = (subtask.get(name) is not None) == required
        yield check("time.finish", passed, f"{path}.{name}", wrong)


# --- a task and its subtasks ----------------------------------------------------------------------


def skips(subject: Subject) -> Iterator[CheckResult]:
    """Check that no skipped subtask has failed (JavaSubtaskRunner.java:32-108)."""
    for path, subtask in subtasks_in(subject):
        if subtask.get("operation") in ("SKIP", "ROLLBACK_SKIP"):
            wrong = f"a subtask is {subtask.get('status')}/{subtask['operation']}."
            passed = subtask.get("status") != "FAILED"
            yield check("call.skip-runs", passed, f"{path}.status", wrong)


def parents(subject: Subject) -> Iterator[CheckResult]:
    """Check that a final task agrees with its subtasks (RunningTaskWorker:86-119,143-176)."""
    for path, task in tasks_in(subject):
        subtasks = objects(task.get("subtasks"))
        statuses = {str(item.get("status")) for item in subtasks}
        if not subtasks:
            continue
        if task.get("status") == "SUCCESSFUL":
            goals = _goals(task)
            wrong = f"a task that is SUCCESSFUL has subtasks that are {_listed(statuses)}."
            yield check("parent.out-of-step", statuses in goals, f"{path}.status", wrong)
        if task.get("status") == "FAILED":
            wrong = f"a task that is FAILED has no subtask that is: they are {_listed(statuses)}."
            passed = "FAILED" in statuses or _was_just_taken_up(subtasks)
            yield check("parent.out-of-step", passed, f"{path}.status", wrong)


def _was_just_taken_up(subtasks: list[Json]) -> bool:
    """Return whether an operation came between the reads of the task and of its subtasks."""
    return any(e.get("status") == "READY" and e.get("operation") in TAKEN_UP for e in subtasks)


def _goals(task: Json) -> tuple[set[str], ...]:
    """Return the possible statuses of all subtasks at the end, for each possible direction.

    The direction is unknown in a row of a list, and after a RETRY that may be of a failed rollback
    (OCP 4.2.2's user guide).
    """
    forward, back = {"SUCCESSFUL"}, {"PENDING"}
    if task.get("operation") == "ROLLBACK":
        return (back,)
    was_undone = any(e.get("operation") in BACKWARDS for e in objects(task.get("subtasks")))
    is_told = "operation" in task and not (task["operation"] == "RETRY" and was_undone)
    return (forward,) if is_told else (forward, back)


def _listed(words: set[str]) -> str:
    return " and ".join(sorted(words))


def prohibitions(subject: Subject) -> Iterator[CheckResult]:
    """Check that a subtask that ran and prohibits rollback prohibits its task's (:160-174)."""
    for path, task in tasks_in(subject):
        subtasks = objects(task.get("subtasks"))
        if task.get("status") in ENDED and "prohibitRollback" in task:
            has = any(
                item.get("prohibitRollback") is True
                and item.get("status") not in ("PENDING", "READY")
                for item in subtasks
            )
            wrong = "a subtask that has run prohibits rollback, and its task does not say so."
            passed = not has or task["prohibitRollback"] is True
            yield check("parent.prohibit-rollback", passed, f"{path}.prohibitRollback", wrong)


# --- the graph ------------------------------------------------------------------------------------


def graph(subject: Subject) -> Iterator[CheckResult]:
    """Check that upstreams and downstreams are of one task, and agree."""
    for path, task in tasks_in(subject):
        subtasks = _by_id(task)
        if not any("upstreams" in item for item in subtasks.values()):
            continue
        for at, item in numbered(task.get("subtasks"), f"{path}.subtasks"):
            yield from _edges(at, item, subtasks, "upstreams", "downstreams")
            yield from _edges(at, item, subtasks, "downstreams", "upstreams")
        series = sorted(s for e in subtasks.values() if (s := whole(e.get("seriesId"))) is not None)
        wrong = f"the seriesIds of a task are {series[:20]}, not 0 to {len(subtasks) - 1}."
        passed = series == list(range(len(subtasks)))
        yield check("graph.series", passed, f"{path}.subtasks[*].seriesId", wrong)


def _by_id(task: Json) -> dict[Any, Json]:
    """Return the subtasks of a task by their ids, as numbers."""
    return {
        id: item
        for item in objects(task.get("subtasks"))
        if (id := whole(item.get("id"))) is not None
    }


def _edges(
    path: str, subtask: Json, subtasks: Mapping[Any, Json], there: str, back: str
) -> Iterator[CheckResult]:
    named = subtask.get(there)
    for other in map(whole, named if isinstance(named, list) else ()):
        ends = subtasks.get(other, {}).get(back)
        passed = isinstance(ends, list) and subtask.get("id") in ends
        wrong = f"{subtask.get('id')} has {other} among its {there}, which does not name it back."
        yield check("graph.one-way", passed, f"{path}.{there}", wrong)


def order(subject: Subject) -> Iterator[CheckResult]:
    """Check that subtasks run after their upstreams and, in a rollback, after their downstreams."""
    for path, task in tasks_in(subject):
        subtasks = _by_id(task)
        check = _undone_last_first if task.get("operation") == "ROLLBACK" else _done_first
        if "operation" in task:
            for at, item in numbered(task.get("subtasks"), f"{path}.subtasks"):
                yield from check(at, item, subtasks)


def _neighbours(subtask: Json, subtasks: Mapping[Any, Json], name: str) -> list[Json]:
    named = subtask.get(name)
    existing = [subtasks.get(whole(item)) for item in named] if isinstance(named, list) else []
    return [item for item in existing if item is not None]


def _done_first(path: str, subtask: Json, subtasks: Mapping[Any, Json]) -> Iterator[CheckResult]:
    """Check that the upstreams of a started subtask succeeded (AbstractTaskWorker:59-87)."""
    if subtask.get("status") == "PENDING":
        return
    for item in _neighbours(subtask, subtasks, "upstreams"):
        wrong = f"it is {subtask.get('status')} while its upstream {item.get('id')} is "
        passed = item.get("status") == "SUCCESSFUL"
        yield check("order.forward", passed, f"{path}.status", f"{wrong}{item.get('status')}.")


def _undone_last_first(
    path: str, subtask: Json, subtasks: Mapping[Any, Json]
) -> Iterator[CheckResult]:
    """Check that its downstreams were undone before a subtask (AbstractTaskWorker:89-115)."""
    if subtask.get("operation") not in BACKWARDS or subtask.get("status") not in UNDER_WAY:
        return
    for item in _neighbours(subtask, subtasks, "downstreams"):
        wrong = f"it is undone while its downstream {item.get('id')} is {item.get('status')}."
        yield check("rollback.order", item.get("status") == "PENDING", f"{path}.status", wrong)
        both = (subtask, item)
        if all(e.get("status") == "PENDING" and e.get("operation") in BACKWARDS for e in both):
            mine, its = (instant(e.get("finishTime")) for e in both)
            wrong = f"it was undone before its downstream {item.get('id')} was."
            passed = mine is None or its is None or its <= mine + SKEW
            yield check("rollback.order", passed, f"{path}.finishTime", wrong)


# --- lists ----------------------------------------------------------------------------------------


def page(subject: Subject) -> Iterator[CheckResult]:
    """Check that a page is the requested one, and that its numbers agree with its rows."""
    data = subject.data
    if subject.id != "listTaskInstances" or subject.status != 200 or not isinstance(data, dict):
        return
    actual = data.get("page")
    if not isinstance(actual, dict) or not isinstance(data.get("contents"), list):
        return
    rows = len(data["contents"])
    number, size = whole(actual.get("number")), whole(actual.get("size"))
    total, pages = whole(actual.get("totalElements")), whole(actual.get("totalPages"))
    for name, default, is_said in (("page", 1, number), ("size", 10, size)):
        if (asked := _asked_number(subject, name, default)) is not None and is_said is not None:
            member = "number" if name == "page" else name
            wrong = f"{name}={asked} was asked for, and page.{member} is {is_said}."
            passed = is_said == asked or (name == "size" and LEAST_MOST <= is_said < asked)
            yield check(f"paging.{member}", passed, f"$.data.page.{member}", wrong)
    if number is None or size is None or size < 1 or total is None or pages is None:
        return
    wrong = f"{total} elements in pages of {size} are {-(-total // size)} pages, not {pages}."
    yield check("paging.pages", pages == -(-total // size), "$.data.page.totalPages", wrong)
    expected = max(0, min(size, total - (number - 1) * size))
    wrong = f"page {number} of {total} elements in pages of {size} has {rows} rows, not {expected}."
    yield check("paging.rows", rows == expected, "$.data.contents", wrong)


def _asked_number(subject: Subject, name: str, default: int) -> int | None:
    text = subject.parameter(name)
    if text is None:
        return default if name not in dict(subject.query) else None
    is_number = text.isascii() and text.isdigit() and len(text) < 10
    most = LARGEST[name]
    return int(text) if is_number and 1 <= int(text) <= most else None


def twice(subject: Subject) -> Iterator[CheckResult]:
    """Check that no item is listed twice."""
    lists = (
        [("$.data.contents", subject.data.get("contents"))]
        if isinstance(subject.data, dict)
        else []
    )
    lists += [(f"{path}.subtasks", task.get("subtasks")) for path, task in tasks_in(subject)]
    for path, listed in lists:
        existing = [item.get("id") for item in objects(listed) if "id" in item]
        again = sorted({str(item) for item in existing if existing.count(item) > 1})
        if existing:
            yield check("list.twice", not again, path, f"{', '.join(again)} is listed twice.")


LARGEST: Final = {"page": 2**31 - 1, "size": 2000}

Matches = Callable[[Json, str], bool]


def _inner(task: Json, *names: str) -> Any:
    result: Any = task
    for name in names:
        result = result.get(name) if isinstance(result, dict) else None
    return result


FILTERS: Final[Mapping[str, Matches]] = {
    "status": lambda task, text: _is_one_of(str(task.get("status")), text.split(",")),
    "name": lambda task, text: _is_like(str(task.get("name")), text.strip()),
    "clusterId": lambda task, text: _is_number(_inner(task, "cluster", "id"), text),
    "tenantId": lambda task, text: _is_number(_inner(task, "tenant", "id"), text),
}
"""Predicates for the rows that match a filter. Filters by type or host are not checked, as rows do
not show these. A tenant's name is unique only in its cluster, and the name of the filter
clusterName is not verified."""
PLAIN: Final = re.compile(r"[A-Za-z0-9 .:-]+")
"""A text that a database compares literally: no wildcards, no letters with equivalents."""


def _is_one_of(status: str, asked: list[str]) -> bool:
    """Return whether a status matches a filter; ocp-express ignores unknown statuses."""
    return status in asked or not set(asked) <= STATUSES


def _is_like(name: str, asked: str) -> bool:
    return asked.lower() in name.lower() or not PLAIN.fullmatch(asked)


def _is_number(id: Any, asked: str) -> bool:
    """Return whether an id matches a filter; a server may ignore 0, or text that is no number."""
    is_one = asked.isascii() and asked.isdigit() and int(asked) > 0
    return not is_one or str(id) == str(int(asked))


def filters(subject: Subject) -> Iterator[CheckResult]:
    """Check that every row matches the filters."""
    if subject.id != "listTaskInstances":
        return
    for name, matches in FILTERS.items():
        text = subject.parameter(name)
        for path, task in tasks_in(subject) if text else ():
            wrong = f"{name}={text} was asked for, and task {task.get('id')} is none of that."
            yield check("filter.ignored", matches(task, text or ""), path, wrong)


DIRECTIONS: Final = {"id,asc": False, "id,desc": True}
"""The supported values of ``sort``, and whether each is descending. The documents have no other
field than id, and do not state the order of a sort without a direction."""


def sorting(subject: Subject) -> Iterator[CheckResult]:
    """Check that rows are in the requested order."""
    asked = subject.parameter("sort") or ""
    if subject.id != "listTaskInstances" or asked not in DIRECTIONS:
        return
    result = [whole(task.get("id")) for _, task in tasks_in(subject)]
    values = [item for item in result if item is not None]
    right = sorted(values, reverse=DIRECTIONS[asked])
    wrong = f"sort={asked} was asked for, and the rows are not in that order."
    yield check("list.order", values == right, "$.data.contents", wrong)


CHECKS: Final = (
    ids,
    times,
    ends,
    parents,
    skips,
    prohibitions,
    graph,
    order,
    page,
    twice,
    filters,
    sorting,
)
