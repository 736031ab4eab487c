"""Check that the data of one obshell response are consistent: times, dags and nodes, ids, lists.

Only rules that hold at any instant are checked. The server reads a dag, its nodes and their sub
tasks one after the other, and the scheduler writes a tick in several steps: so an item is compared
with its parts only when its state is final. Facts:
github.com/oceanbase/obshell at 61ee147 (ob/agent/engine, ob/agent/service/task), and recordings of
a running obshell 4.5.0.0, which outrank it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

from oceanmock.checks import CheckResult, Subject, check, instant, numbered, objects, whole
from oceanmock.conformance.checks.times import SKEW, Json, not_in_future, ordered
from oceanmock.conformance.quirks import GO_BOOLEANS, GO_FALSE, has_panicked

FINAL: Final = frozenset({"FAILED", "SUCCEED"})
TIMES: Final = ("start_time", "end_time")
LISTS: Final = frozenset(
    {
        "getAllClusterDags",
        "getAllAgentDags",
        "getAllAgentsLastMaintenanceDag",
        "getUnfinishedDags",
        "getClusterUnfinishDags",
        "getAgentUnfinishDags",
        "getAgentMainDags",
    }
)
DAGS: Final = frozenset({"getDagDetail", "getObLastMaintenanceDag", "getAgentLastMaintenanceDag"})
UNFINISHED: Final = frozenset(
    {"getUnfinishedDags", "getClusterUnfinishDags", "getAgentUnfinishDags"}
)
OF_CLUSTER: Final = frozenset(
    {"getAllClusterDags", "getClusterUnfinishDags", "getObLastMaintenanceDag"}
)
OF_AGENT: Final = frozenset(
    {"getAllAgentDags", "getAgentUnfinishDags", "getAgentLastMaintenanceDag"}
)
MAINTENANCE: Final = frozenset(
    {"getObLastMaintenanceDag", "getAgentLastMaintenanceDag", "getAllAgentsLastMaintenanceDag"}
)
UNMAINTAINED: Final = 1
"""The maintenance type of a dag that holds no lock (maintenance_type.go:42-48)."""
ALWAYS_DETAILED: Final = frozenset(
    {"getAllAgentsLastMaintenanceDag", "getAgentMainDags", "getAllAgentDags", "getAllClusterDags"}
)
"""The lists that may have details despite show_details=false: an agent does not forward it for the
first two (ob/agent/executor/task/dag.go:434-468, 615-643), and versions before 4.3.1 do not read it
for the others (agent/executor/task/dag.go)."""
TAKEN_UP: Final = frozenset({("PENDING", "RETRY"), ("PENDING", "ROLLBACK"), ("SUCCEED", "PASS")})
"""The labels of a failed node just after an operation."""
CANONICAL: Final = re.compile(r"1[1-9][0-9]*|[24][0-9]{15}[1-9][0-9]*|[35][0-9]{44}[1-9][0-9]*")
"""A generic id as the server writes it: its number has no sign and no leading zeros."""


# --- items in a body ------------------------------------------------------------------------------


def dags_in(subject: Subject) -> Iterator[tuple[str, Json]]:
    """Yield every dag of a response, with its JSON path."""
    data = subject.data
    if subject.status != 200 or not isinstance(data, dict):
        return
    if subject.id in LISTS:
        yield from numbered(data.get("contents"), "$.data.contents")
    elif subject.id in DAGS:
        yield "$.data", data


def nodes_in(subject: Subject) -> Iterator[tuple[str, Json]]:
    """Yield every node of a response, with its JSON path."""
    if subject.id == "getNodeDetail" and subject.status == 200 and isinstance(subject.data, dict):
        yield "$.data", subject.data
    for path, dag in dags_in(subject):
        yield from numbered(dag.get("nodes"), f"{path}.nodes")


def sub_tasks_in(subject: Subject) -> Iterator[tuple[str, Json]]:
    """Yield every sub task of a response, with its JSON path."""
    if (
        subject.id == "getSubTaskDetail"
        and subject.status == 200
        and isinstance(subject.data, dict)
    ):
        yield "$.data", subject.data
    for path, node in nodes_in(subject):
        yield from numbered(node.get("sub_tasks"), f"{path}.sub_tasks")


# --- ids ------------------------------------------------------------------------------------------


def ids(subject: Subject) -> Iterator[CheckResult]:
    """Check that the returned id matches the requested one, and each generic id its number."""
    requested = subject.path_ids[-1] if subject.path_ids else ""
    if subject.status == 200 and isinstance(subject.data, dict) and CANONICAL.fullmatch(requested):
        actual = subject.data.get("id", requested)
        wrong = f"{requested} was asked for, and {actual} is answered."
        yield check("id.differs", actual == requested, "$.data.id", wrong)
    for name, things in (("dag_id", dags_in), ("node_id", nodes_in), ("task_id", sub_tasks_in)):
        for path, thing in things(subject):
            number, id = whole(thing.get(name)), thing.get("id")
            if number is not None and isinstance(id, str) and CANONICAL.fullmatch(id):
                wrong = f"the id is {id}, and {name} is {number}."
                yield check("id.number", number_in(id) == number, f"{path}.{name}", wrong)


def number_in(id: str) -> int:
    """Return the number that a canonical id ends in; its prefix states the owner."""
    return int(id[{"1": 1, "3": 45, "5": 45}.get(id[0], 16) :])


# --- times and counts -----------------------------------------------------------------------------


def times(subject: Subject) -> Iterator[CheckResult]:
    """Check that times are valid, not in the future and, of ended items, in order."""
    now = instant(subject.body.get("timestamp")) if isinstance(subject.body, dict) else None
    now = None if has_panicked(subject) else now
    for path, thing in (*dags_in(subject), *nodes_in(subject), *sub_tasks_in(subject)):
        yield from not_in_future(thing, path, TIMES, now)
        if thing.get("state") in FINAL:
            yield from ordered(thing, path, "start_time", "end_time", slack=_slack(thing))


def counts(subject: Subject) -> Iterator[CheckResult]:
    """Check that only sub tasks that ran have a run count and a log (sub_task.go:115-121)."""
    for path, item in sub_tasks_in(subject):
        state, operator = item.get("state"), item.get("operator")
        times = whole(item.get("execute_times"))
        if times is not None and (state, operator) == ("PENDING", "RUN"):
            wrong = f"a sub task that never ran has run {times} times."
            yield check("count.never-run", times == 0, f"{path}.execute_times", wrong)
        if times is not None and state in ("RUNNING", *FINAL) and operator != "PASS":
            wrong = f"a sub task that is {state} has never run."
            yield check("count.never-run", times >= 1, f"{path}.execute_times", wrong)
        has_log = isinstance(item.get("task_logs"), list)
        wrong = f"a sub task that is {state} has {'a' if has_log else 'no'} log."
        remaining = has_log == (state in ("RUNNING", *FINAL))
        yield check("log.presence", remaining, f"{path}.task_logs", wrong)


# --- items and their parts ------------------------------------------------------------------------


def stages(subject: Subject) -> Iterator[CheckResult]:
    """Check that a dag has as many nodes as stages, and that its stage is one of them."""
    for path, dag in dags_in(subject):
        stage, most = whole(dag.get("stage")), whole(dag.get("max_stage"))
        if stage is None or most is None:
            continue
        wrong = f"stage {stage} is none of {most}."
        yield check("parent.stage", 1 <= stage <= most, f"{path}.stage", wrong)
        if isinstance(dag.get("nodes"), list):
            wrong = f"a dag of {most} stages has {len(dag['nodes'])} nodes."
            yield check("parent.stage", len(dag["nodes"]) == most, f"{path}.max_stage", wrong)


def dags(subject: Subject) -> Iterator[CheckResult]:
    """Check that a final dag agrees with its nodes (engine/scheduler/dag_handler.go:24-74)."""
    for path, dag in dags_in(subject):
        nodes = objects(dag.get("nodes"))
        states = [str(node.get("state")) for node in nodes]
        state, stage = dag.get("state"), whole(dag.get("stage")) or 0
        if not nodes or state not in FINAL:
            continue
        if state == "FAILED":
            there = states[stage - 1] if 1 <= stage <= len(states) else "none"
            wrong = f"a dag that is FAILED at stage {stage} has a node there that is {there}."
            remaining = there == "FAILED" or _was_just_taken_up(nodes)
            yield check("parent.out-of-step", remaining, f"{path}.state", wrong)
        else:
            yield from _succeeded(path, dag, states)


def _was_just_taken_up(nodes: list[Json]) -> bool:
    """Return whether an operation came between the reads of the dag and of its nodes."""
    view = {(str(node.get("state")), str(node.get("operator"))) for node in nodes}
    return "FAILED" not in {state for state, _ in view} and bool(view & TAKEN_UP)


def _succeeded(path: str, dag: Json, states: list[str]) -> Iterator[CheckResult]:
    """Check that the nodes of a SUCCEED dag are done, or undone, unless a rollback was cancelled.

    A failed rollback may be retried or passed: the nodes it did not reach stay PENDING/ROLLBACK.
    """
    operator, stage = dag.get("operator"), whole(dag.get("stage"))
    view = [(node.get("state"), node.get("operator")) for node in objects(dag.get("nodes"))]
    if any(of_node == "CANCEL" for _, of_node in view):
        return
    if operator in ("RUN", "PASS"):
        wrong = f"a dag that is SUCCEED/{operator} has nodes that are {', '.join(states)}."
        settled = [state for state, of in view if (state, of) != ("PENDING", "ROLLBACK")]
        remaining = set(settled) == {"SUCCEED"}
        yield check("parent.out-of-step", remaining, f"{path}.state", wrong)
    if operator == "ROLLBACK":
        wrong = f"a dag that was rolled back has nodes that are {', '.join(states)}."
        remaining = set(states) <= {"SUCCEED", "PENDING"} and ("PENDING", "ROLLBACK") not in view
        yield check("parent.out-of-step", remaining, f"{path}.state", wrong)
    last = {"RUN": len(states), "ROLLBACK": 1}.get(str(operator))
    if last is not None:
        wrong = f"a dag that is SUCCEED/{operator} ends at stage {stage}, not at {last}."
        yield check("parent.stage", stage == last, f"{path}.stage", wrong)


def nodes(subject: Subject) -> Iterator[CheckResult]:
    """Check that a final node agrees with its parts (engine/scheduler/task_handler.go:74-235)."""
    for path, node in nodes_in(subject):
        states = {str(item.get("state")) for item in objects(node.get("sub_tasks"))}
        state, operator = node.get("state"), node.get("operator")
        if not states:
            continue
        listed = " and ".join(sorted(states))
        if state == "SUCCEED":
            wrong = f"a node that is SUCCEED has sub tasks that are {listed}."
            remaining = states <= (
                {"SUCCEED", "PENDING"} if operator == "ROLLBACK" else {"SUCCEED"}
            )
            yield check("parent.out-of-step", remaining, f"{path}.state", wrong)
        if state == "FAILED" and operator != "CANCEL":
            wrong = f"a node that is FAILED has no sub task that is: they are {listed}."
            passed = any(item.get("operator") == "PASS" for item in objects(node.get("sub_tasks")))
            remaining = "FAILED" in states or passed  # in between
            yield check("parent.out-of-step", remaining, f"{path}.state", wrong)


def order(subject: Subject) -> Iterator[CheckResult]:
    """Check that nodes run in the order of their stages, and are undone in the reverse order."""
    for path, dag in dags_in(subject):
        numbered_nodes = list(numbered(dag.get("nodes"), f"{path}.nodes"))
        for (_, lower), (at, upper) in pairwise(numbered_nodes):
            if dag.get("operator") == "RUN" and _has_run(upper, ("RUN", "RETRY")):
                wrong = "it started before the node of the stage below it had ended."
                remaining = _comes_after(upper, lower)
                yield check("order.forward", remaining, f"{at}.start_time", wrong)
            both_back = _has_run(lower, ("ROLLBACK",)) and _was_undone(upper)
            if dag.get("operator") == "ROLLBACK" and both_back:
                wrong = "it is not undone, or too late, while the node of the stage below it is."
                remaining = upper.get("state") == "SUCCEED" and _comes_after(lower, upper)
                yield check("rollback.order", remaining, f"{at}.end_time", wrong)


def _has_run(node: Json, operators: tuple[str, ...]) -> bool:
    return node.get("state") in ("RUNNING", *FINAL) and node.get("operator") in operators


def _was_undone(node: Json) -> bool:
    return node.get("operator") == "ROLLBACK"


def _comes_after(later: Json, earlier: Json) -> bool:
    """Return whether one node started after the other ended; True if a time is unreadable."""
    start, end = instant(later.get("start_time")), instant(earlier.get("end_time"))
    return start is None or end is None or end <= start + _slack(later)


def _slack(thing: Json) -> int:
    """Return the tolerance: several agents, each with its own clock, write a cluster's times."""
    return SKEW if str(thing.get("id")).startswith("1") else 0


# --- lists ----------------------------------------------------------------------------------------


def twice(subject: Subject) -> Iterator[CheckResult]:
    """Check that no item is listed twice."""
    contents = subject.data.get("contents") if isinstance(subject.data, dict) else None
    existing = [item["id"] for item in objects(contents) if "id" in item]
    again = sorted({str(item) for item in existing if existing.count(item) > 1})
    if existing and subject.id in LISTS | {"getFullSubTaskLogs"}:
        yield check("list.twice", not again, "$.data.contents", f"{again[:5]} are listed twice.")


def filters(subject: Subject) -> Iterator[CheckResult]:
    """Check that a list has only the dags that its route is for."""
    for path, dag in dags_in(subject):
        state, kind, id = dag.get("state"), dag.get("maintenance_type"), str(dag.get("id"))
        if subject.id in UNFINISHED:
            wrong = f"dag {id} is {state}, and listed as unfinished."
            done = state == "SUCCEED" or (state == "FAILED" and kind == UNMAINTAINED)
            yield check("filter.ignored", not done, path, wrong)
        if subject.id in MAINTENANCE:
            wrong = f"dag {id} is answered as the last for maintenance, and holds no lock."
            yield check("filter.ignored", kind != UNMAINTAINED, path, wrong)
        if subject.id in OF_CLUSTER | OF_AGENT:
            of_cluster = subject.id in OF_CLUSTER
            wrong = f"dag {id} is {'an agent' if of_cluster else 'the cluster'}'s."
            yield check("filter.ignored", id.startswith("1") == of_cluster, path, wrong)


def details(subject: Subject) -> Iterator[CheckResult]:
    """Check that dags have nodes unless show_details is false."""
    texts = [text for name, text in subject.query if name == "show_details"]
    if len(texts) > 1 or not set(texts) <= GO_BOOLEANS:
        return
    expected = not set(texts) & GO_FALSE
    if subject.id in ALWAYS_DETAILED and not expected:
        return
    for path, dag in dags_in(subject):
        if "nodes" in dag:
            remaining = (dag["nodes"] is not None) == expected
            wrong = f"details are {'' if expected else 'not '}asked for, and nodes is"
            actual = "null" if dag["nodes"] is None else "there"
            yield check("details.ignored", remaining, f"{path}.nodes", f"{wrong} {actual}.")


def logs(subject: Subject) -> Iterator[CheckResult]:
    """Check that the lines of a log are of one sub task, with its runs in order."""
    lines: Any = subject.data.get("contents") if isinstance(subject.data, dict) else None
    if subject.id != "getFullSubTaskLogs" or subject.status != 200 or not lines:
        return
    runs = [whole(line.get("execute_times")) for line in objects(lines)]
    existing = [run for run in runs if run is not None]
    wrong = f"the lines are of the runs {existing[:20]}, which are not in order."
    requested = subject.path_ids[-1] if subject.path_ids else ""
    if not requested.startswith(
        "1"
    ):  # what the cluster keeps comes from several agents, in any order
        yield check("log.order", existing == sorted(existing), "$.data.contents", wrong)
    for path, line in numbered(lines, "$.data.contents"):
        number = whole(line.get("sub_task_id"))
        if CANONICAL.fullmatch(requested) and number is not None:
            wrong = f"the line is of sub task {number}, and {requested} was asked for."
            remaining = number_in(requested) == number
            yield check("id.differs", remaining, f"{path}.sub_task_id", wrong)


CHECKS: Final = (
    ids,
    times,
    counts,
    stages,
    dags,
    nodes,
    order,
    twice,
    filters,
    details,
    logs,
)
