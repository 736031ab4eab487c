"""What one answer of obshell shows must fit together: times, a dag and its nodes, ids, lists.

Only what must hold at any instant is asked. A dag, its nodes and their sub tasks are read one after
the other, and the scheduler writes a tick down in several steps: so what is above is held against
what is below it where its state is final, and not while it runs. Facts:
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
"""What may have details that nobody wants: an agent asks other agents for the first two, without
saying so (ob/agent/executor/task/dag.go:434-468, 615-643), and versions before 4.3.1 read no
show_details for the others (agent/executor/task/dag.go)."""
TAKEN_UP: Final = frozenset({("PENDING", "RETRY"), ("PENDING", "ROLLBACK"), ("SUCCEED", "PASS")})
"""What a failed node becomes at the instant in which somebody operates."""
CANONICAL: Final = re.compile(r"1[1-9][0-9]*|[24][0-9]{15}[1-9][0-9]*|[35][0-9]{44}[1-9][0-9]*")
"""A generic id as the server writes it: its number without a sign or leading zeros."""


# --- what a body shows ----------------------------------------------------------------------------


def dags_in(subject: Subject) -> Iterator[tuple[str, Json]]:
    """Every dag of an answer, with its JSON path."""
    data = subject.data
    if subject.status != 200 or not isinstance(data, dict):
        return
    if subject.id in LISTS:
        yield from numbered(data.get("contents"), "$.data.contents")
    elif subject.id in DAGS:
        yield "$.data", data


def nodes_in(subject: Subject) -> Iterator[tuple[str, Json]]:
    """Every node of an answer, with its JSON path."""
    if subject.id == "getNodeDetail" and subject.status == 200 and isinstance(subject.data, dict):
        yield "$.data", subject.data
    for path, dag in dags_in(subject):
        yield from numbered(dag.get("nodes"), f"{path}.nodes")


def sub_tasks_in(subject: Subject) -> Iterator[tuple[str, Json]]:
    """Every sub task of an answer, with its JSON path."""
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
    """What is answered is what was asked for, and a generic id ends in the number it stands for."""
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
    """The number that a canonical id ends in; what is before it says where the thing is kept."""
    return int(id[{"1": 1, "3": 45, "5": 45}.get(id[0], 16) :])


# --- times and counts -----------------------------------------------------------------------------


def times(subject: Subject) -> Iterator[CheckResult]:
    """Times can be read, are none of the future, and of what has ended in their order."""
    now = instant(subject.body.get("timestamp")) if isinstance(subject.body, dict) else None
    now = None if has_panicked(subject) else now
    for path, thing in (*dags_in(subject), *nodes_in(subject), *sub_tasks_in(subject)):
        yield from not_in_future(thing, path, TIMES, now)
        if thing.get("state") in FINAL:
            yield from ordered(thing, path, "start_time", "end_time", slack=_slack(thing))


def counts(subject: Subject) -> Iterator[CheckResult]:
    """What has run was counted; what never ran has no log (sub_task.go:115-121)."""
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


# --- what is above and what is below --------------------------------------------------------------


def stages(subject: Subject) -> Iterator[CheckResult]:
    """A dag has as many nodes as stages, and its stage is one of them."""
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
    """A dag whose state is final fits its nodes (engine/scheduler/dag_handler.go:24-74)."""
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
    """Whether somebody operated between the two reads: its nodes were read after the dag."""
    view = {(str(node.get("state")), str(node.get("operator"))) for node in nodes}
    return "FAILED" not in {state for state, _ in view} and bool(view & TAKEN_UP)


def _succeeded(path: str, dag: Json, states: list[str]) -> Iterator[CheckResult]:
    """All nodes are done, or undone; after a rollback was cancelled nothing is for sure.

    A rollback that failed may be retried or passed: what it did not come to stays PENDING/ROLLBACK.
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
    """A node whose state is final fits its sub tasks (engine/scheduler/task_handler.go:74-235)."""
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
    """Nodes run one at a time: in the order of their stages, and back when they are undone."""
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
    """Whether one node started when the other had ended; true where a time cannot be read."""
    start, end = instant(later.get("start_time")), instant(earlier.get("end_time"))
    return start is None or end is None or end <= start + _slack(later)


def _slack(thing: Json) -> int:
    """An agent has one clock. For a cluster now this agent writes, now that, each by its own."""
    return SKEW if str(thing.get("id")).startswith("1") else 0


# --- lists ----------------------------------------------------------------------------------------


def twice(subject: Subject) -> Iterator[CheckResult]:
    """Nothing is listed twice."""
    contents = subject.data.get("contents") if isinstance(subject.data, dict) else None
    existing = [item["id"] for item in objects(contents) if "id" in item]
    again = sorted({str(item) for item in existing if existing.count(item) > 1})
    if existing and subject.id in LISTS | {"getFullSubTaskLogs"}:
        yield check("list.twice", not again, "$.data.contents", f"{again[:5]} are listed twice.")


def filters(subject: Subject) -> Iterator[CheckResult]:
    """A list holds what its route is for."""
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
    """Nodes are there when details are asked for, or nothing is said, and not otherwise."""
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
    """The lines of a log are of one sub task, and of its runs in their order."""
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
