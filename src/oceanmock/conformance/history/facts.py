"""Check two observations of one item: fixed fields, growing fields, and equal views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from oceanmock.checks import CheckResult, Subject, check, instant, objects, whole
from oceanmock.clock import MILLISECOND, SECOND
from oceanmock.conformance.checks.times import SKEW
from oceanmock.conformance.history.chains import Call
from oceanmock.conformance.history.sighted import Sighting
from oceanmock.observations import id_text

LONG: Final = 120 * SECOND
"""The longest time from the end of the parts to that of the whole: the schedulers run once a
second, that of ocp-express first a minute after its start (TaskCoordinator.java:58-59)."""
AT_ONCE: Final = MILLISECOND
"""The tolerance between consecutive times: an end is dated when it is written."""

FIXED: Final[Mapping[str, tuple[str, ...]]] = {
    "task": ("name", "type", "taskDefinitionId", "creator", "createTime", "startTime"),
    "subtask": (
        "name",
        "seriesId",
        "upstreams",
        "downstreams",
        "timeout",
        "nodeType",
        "createTime",
        "startTime",
    ),
    "dag": ("dag_id", "name", "max_stage", "maintenance_type", "maintenance_key"),
    "node": ("node_id", "name"),
    "sub_task": ("task_id", "name"),
}
"""The fields that never change once present. A subtask's startTime is that of its first run
(ocp-express SubtaskAccessor.java:54-61); the agent of a sub task is written with each run
(obshell ob/agent/service/task/sub_task.go)."""
PARTS: Final = {"task": "subtasks", "dag": "nodes", "node": "sub_tasks"}
COUNT: Final = {"subtask": "runTime", "sub_task": "execute_times"}
GROWING: Final[Mapping[str, tuple[str, ...]]] = {
    "task": ("finishTime",),
    "subtask": ("finishTime",),
    "dag": ("start_time", "end_time"),
    "node": ("start_time", "end_time"),
    "sub_task": ("start_time", "end_time"),
}
OF_ONE_VIEW: Final = frozenset({"additional_data", "nodes", "sub_tasks", "subtasks", "task_logs"})
"""The fields that a view may omit, and logs, which other agents deliver late."""


def fixed_fields(before: Sighting, now: Sighting) -> Iterator[CheckResult]:
    """Check the fields that never change."""
    for name in FIXED[now.kind]:
        if name in before.raw and name in now.raw:
            wrong = f"{name} was {before.raw[name]!r}, and is {now.raw[name]!r}."
            same = _is_alike(before.raw[name], now.raw[name])
            yield check("kept.changed", same, f"{now.path}.{name}", wrong)
    parts = PARTS.get(now.kind, "")
    if isinstance(before.raw.get(parts), list) and isinstance(now.raw.get(parts), list):
        same = _ids(before.raw[parts]) == _ids(now.raw[parts])
        wrong = f"the {parts} of {now.kind} {now.id} are others than before."
        yield check("kept.changed", same, f"{now.path}.{parts}", wrong)


def _is_alike(one: Any, other: Any) -> bool:
    """Return whether two values are equivalent.

    Lists of ids have no order; an instant has several spellings; and of an object (a cluster, a
    user) only the id counts, since its name may change.
    """
    return bool(_meant(one) == _meant(other))


def _meant(value: Any) -> Any:
    if isinstance(value, dict):
        return value.get("id", value)
    if isinstance(value, list):
        return sorted(value, key=repr)
    at = instant(value)
    return value if at is None else at


def _ids(parts: Any) -> list[str]:
    return sorted(id_text(item.get("id")) for item in objects(parts))


def counted(before: Sighting, now: Sighting, calls: Sequence[Call]) -> Iterator[CheckResult]:
    """Check the fields that only grow: counts of runs, and times that are set again."""
    for name in GROWING[now.kind]:
        old, new = instant(before.raw.get(name)), instant(now.raw.get(name))
        if old and new:  # neither absent nor the epoch, to which obshell resets
            wrong = f"{name} was {before.raw[name]}, and is {now.raw[name]}."
            passed = new >= old - (AT_ONCE if _has_one_clock(now) else SKEW)
            yield check("time.went-back", passed, f"{now.path}.{name}", wrong)
    name = COUNT.get(now.kind, "")
    old_count, new_count = whole(before.raw.get(name)), whole(now.raw.get(name))
    if old_count is None or new_count is None:
        return
    path = f"{now.path}.{name}"
    wrong = f"{name} was {old_count}, and is {new_count}."
    yield check("count.went-down", new_count >= old_count, path, wrong)
    if _has_run_again(before, now, calls):
        wrong = f"{name} is {new_count} after another run, as it was before that."
        yield check("count.not-bumped", new_count > old_count, path, wrong)


RETRIES: Final = ("task.RETRY", "subtask.RETRY")
"""The operations that may add one to a subtask's runTime."""


def not_counted(before: Sighting, now: Sighting, calls: Sequence[Call]) -> Iterator[CheckResult]:
    """Check that a subtask's runTime grows by no more than the retries in between.

    Only the mock is checked: a subtask of a real server may retry automatically.
    """
    old, new = whole(before.raw.get("runTime")), whole(now.raw.get("runTime"))
    if now.kind != "subtask" or old is None or new is None:
        return
    own = [call for call in calls if call.kind != now.kind or call.id == now.id]
    most = old + sum(call.name in RETRIES for call in own)
    wrong = f"runTime was {old}, and is {new}; what was asked for makes it {most} at most."
    yield check("count.unasked", new <= most, f"{now.path}.runTime", wrong)


def _has_one_clock(thing: Sighting) -> bool:
    """Return whether one clock sets its times: an obshell agent's items, not a cluster's."""
    return thing.kind not in ("task", "subtask") and not thing.id.startswith("1")


def _has_run_again(before: Sighting, now: Sighting, calls: Sequence[Call]) -> bool:
    """Return whether a counted run began: obshell counts all, OCP those of a task's retry."""
    if now.kind == "sub_task":
        old, new = (instant(item.raw.get("start_time")) for item in (before, now))
        return old is not None and new is not None and new > old
    first = calls[0] if calls else None
    was_failed = before.state == "FAILED" and before.operation != "ROLLBACK"
    return was_failed and first is not None and first.is_sure and first.name == "task.RETRY"


def settled(before: Sighting, now: Sighting) -> Iterator[CheckResult]:
    """Check that the parts of an ended item do not change."""
    parts = PARTS.get(now.kind, "")
    old, new = before.raw.get(parts), now.raw.get(parts)
    if not isinstance(old, list) or not isinstance(new, list) or not before.is_terminal:
        return
    if before.kind == "task" and before.state != "SUCCESSFUL":
        return  # what was READY may still run under a task that is FAILED
    if (before.state, before.end) == (now.state, now.end) and before.end is not None:
        wrong = f"{now.kind} {now.id} has ended, and its {parts} are not as they were then."
        same = _shown_by(old) == _shown_by(new)
        yield check("terminal.moved", same, f"{now.path}.{parts}", wrong)


def _shown_by(parts: Any) -> dict[str, Any]:
    """Return state, operation, count and times of each part, and of its parts."""
    names = ("state", "operator", "status", "operation", "runTime", "execute_times")
    return {
        id_text(item.get("id")): (
            [*map(item.get, names), *(_meant(item.get(end)) for end in ("end_time", "finishTime"))],
            _shown_by(item.get("sub_tasks")),
        )
        for item in objects(parts)
    }


def same_everywhere(one: Sighting, other: Sighting) -> Iterator[CheckResult]:
    """Check that two views of one end show the same."""
    is_list = "list" in (one.view, other.view)
    rule = "list.differs-from-detail" if is_list else "views.differ"
    for name in (one.raw.keys() & other.raw.keys()) - OF_ONE_VIEW:
        wrong = f"{name} is {other.raw[name]!r} here, and {one.raw[name]!r} in {one.subject.id}."
        same = _is_alike(one.raw[name], other.raw[name])
        yield check(rule, same, f"{other.path}.{name}", wrong)


# --- refusals -------------------------------------------------------------------------------------

_ABOUT_THE_STATE: Final = ("NotFailedDag", "NotFailedNode", "CancelFinishedDag")


def is_about_the_state(subject: Subject, before: Sighting) -> bool:
    """Return whether the state is the reason for a refusal, not a hidden flag or a prohibition."""
    if subject.contract.api == "obshell":
        return str(subject.error.get("errCode", "")).endswith(_ABOUT_THE_STATE)
    if subject.exchange.request_body:
        return False  # it may be refused for its body, which it should not have
    return subject.id != "rollbackTask" or before.raw.get("prohibitRollback") is False


# --- items whose parts have ended -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """An item whose parts have all ended: their labels, and since when."""

    shows: str
    since: int


def waiting(now: Sighting) -> str | None:
    """Return the labels of an item that should end next, else None."""
    return _waiting_task(now.raw) if now.kind == "task" else _waiting_dag(now.raw)


def _waiting_task(task: Mapping[str, Any]) -> str | None:
    """Return the labels of a RUNNING task that runs no subtask and has a certain outcome."""
    statuses = {str(item.get("status")) for item in objects(task.get("subtasks"))}
    if task.get("status") != "RUNNING" or statuses & {"READY", "RUNNING", "CANCELING"}:
        return None
    goal = "PENDING" if task.get("operation") == "ROLLBACK" else "SUCCESSFUL"
    is_decided = "FAILED" in statuses or statuses == {goal}
    return repr(_shown_by(task.get("subtasks"))) if is_decided else None


def _waiting_dag(dag: Mapping[str, Any]) -> str | None:
    """Return the labels of a RUNNING dag whose current node runs though its sub tasks ended."""
    nodes, stage = objects(dag.get("nodes")), whole(dag.get("stage")) or 0
    if dag.get("state") != "RUNNING" or not 1 <= stage <= len(nodes):
        return None
    node = nodes[stage - 1]
    states = {str(item.get("state")) for item in objects(node.get("sub_tasks"))}
    runs = (node.get("state"), node.get("operator")) == ("RUNNING", "RUN")
    return repr(_shown_by(nodes)) if runs and states <= {"SUCCEED", "FAILED"} and states else None
