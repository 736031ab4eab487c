"""Check that obshell's responses are consistent: each by itself, and several over time.

Only rules that hold at any instant are checked. The server reads a dag, then its nodes, then their sub tasks, and the
scheduler writes a tick in several steps. So an item is compared with its parts only when its state is final. Facts:
github.com/oceanbase/obshell at 61ee147 (ob/agent/engine, ob/agent/service/task), and recordings of a running obshell
4.5.0.0, which outrank it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Final

from oceanmock import observations
from oceanmock.api import Json
from oceanmock.checks import Check, CheckResult, Subject, check, instant, numbered, objects, whole
from oceanmock.clock import MILLISECOND
from oceanmock.observations import SKEW, ApiHistory, Call, Members, Observation, Sample
from oceanmock.obshell import quirks
from oceanmock.obshell.api import API
from oceanmock.obshell.conformance import FINAL, parsed_id
from oceanmock.obshell.gojson import BOOLEANS
from oceanmock.obshell.quirks import GO_FALSE, has_panicked, operator_of

LOG: Final = "getFullSubTaskLogs"
STARTED: Final = frozenset({"RUNNING", *FINAL})
UNFINISHED_LISTS: Final = frozenset({"getUnfinishedDags", "getClusterUnfinishDags", "getAgentUnfinishDags"})
CLUSTER_DAGS: Final = frozenset({"getAllClusterDags", "getClusterUnfinishDags", "getObLastMaintenanceDag"})
AGENT_DAGS: Final = frozenset({"getAllAgentDags", "getAgentUnfinishDags", "getAgentLastMaintenanceDag"})
MAINTENANCE_DAGS: Final = frozenset(
    {"getObLastMaintenanceDag", "getAgentLastMaintenanceDag", "getAllAgentsLastMaintenanceDag"}
)
UNMAINTAINED: Final = 1  # the maintenance type of a dag that holds no lock (maintenance_type.go:42-48)
ALWAYS_DETAILED: Final = frozenset(
    {"getAllAgentsLastMaintenanceDag", "getAgentMainDags", "getAllAgentDags", "getAllClusterDags"}
)
"""The lists that may have details despite show_details=false: an agent does not forward the parameter for the first two
(ob/agent/executor/task/dag.go:434-468, 615-643), and before 4.3.1 it is ignored for the others
(agent/executor/task/dag.go)."""

OWN_FACTS: Final = frozenset({"getAgentInfo", "getStatus", "getSecret", "getGitInfo"})
"""The operations that show facts of the agent itself."""
FACTS: Final = frozenset(
    {"pid", "startAt", "version", "ip", "port", "homePath", "architecture", "branch", "commitId", "commitTime"}
)
"""The facts that never change while the agent runs (ob/agent/meta/agent.go)."""

OWN_RULES: Final = quirks.QUIRK_RULES
RENDERS_UNKNOWN_PATHS: Final = True
is_explained: Final = quirks.is_explained

CODES_BY_STATUS: Final[Mapping[int, tuple[str, ...]]] = {
    400: (
        "Task.GenericID.Invalid",
        "Task.Dag.Operator.",
        "Task.Node.Operator.",
        "Common.BindJsonFailed",
        "Common.IllegalArgument",
        "Request.Header.NotFound",
    ),
    401: ("Security.Authentication.", "Common.Unauthorized", "Request.Header.NotFound"),
    404: ("Task.NotFound", "Common.NotFound"),
    500: ("Common.Unexpected", "Agent.OceanBase.NotHold", "Gorm.NoRowAffected"),
}
"""The errCodes of a status, and prefixes of errCodes (errorcode.go:23-30,75,346-405)."""
ABOUT_THE_REQUEST: Final = ("Task.", "Common.", "Request.", "Security.")
"""Prefixes of errCodes about the request. Others concern an agent, a cluster or a database, and may differ between
servers."""
REASONS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "Dag": {
        "RETRY": ("RetryNotFailedDag", "RetryNotAllowed"),
        "ROLLBACK": ("RollbackNotFailedDag", "RollbackNotAllowed"),
        "CANCEL": ("CancelFinishedDag", "CancelNotAllowed"),
        "PASS": ("PassNotFailedDag", "PassNotAllowed"),
    },
    "Node": {"PASS": ("PassNotFailedDag", "PassNotFailedNode", "PassNotAllowed")},
}
"""The operators of dags and nodes, and the reasons for which each is refused."""
TARGETS: Final = {"dagHandler": "Dag", "nodeHandler": "Node"}
ABOUT_THE_STATE: Final = ("NotFailedDag", "NotFailedNode", "CancelFinishedDag")


def code(subject: Subject) -> Iterator[CheckResult]:
    """Check that an errCode fits the status and, if an operator is refused, the operator."""
    code, path, status = subject.error.get("errCode"), "$.error.errCode", subject.status
    if not isinstance(code, str):
        return
    if statuses := [number for number, codes in CODES_BY_STATUS.items() if code.startswith(codes)]:
        yield check("error.code", status in statuses, path, f"{code} is answered {status}; it goes with {statuses[0]}.")
    is_of_the_request = code.startswith(ABOUT_THE_REQUEST) and subject.operation is not None
    if status == 400 and is_of_the_request:
        target, allowed = TARGETS.get(subject.id), list[str]()
        if target is not None:
            reasons = REASONS[target].get(operator_of(subject), ("NotSupport",))
            allowed += (f"Task.{target}.Operator.{reason}" for reason in reasons)
        unread = "Common.IllegalArgument" if target is None else "Common.BindJsonFailed"
        allowed += ("Task.GenericID.Invalid", unread, "Request.Header.NotFound")
        wrong = f"{subject.id} is refused with {code}; here it can be {', '.join(allowed)}."
        yield check("error.code", code in allowed, path, wrong)
    if status == 404 and is_of_the_request:
        wrong = f"what is not found is answered {code}, not Task.NotFound."
        yield check("error.code", code in ("Task.NotFound", "Common.NotFound"), path, wrong)
    number = whole(subject.error.get("code"))
    if status == 401 and number is not None:  # SDKs depend on it
        right: tuple[int, ...] = (1,) if code == "Security.Authentication.Header.DecryptFailed" else (10008,)
        if code.startswith("Request."):  # only without the quirk missing-header-is-400
            right = (1, 10008)
        yield check("error.code", number in right, "$.error.code", f"code is {number}; with {code} it is {right[0]}.")


def operators(subject: Subject) -> Iterator[CheckResult]:
    """Check that an unknown operator is refused."""
    existing = REASONS.get(TARGETS.get(subject.id, ""), {})
    is_operation = bool(existing) and subject.exchange.method == "POST" and subject.status < 500
    if is_operation and operator_of(subject) not in existing:
        operator = subject.request_json.get("operator")
        wrong = f"the operator {operator!r} is accepted; {subject.id} has {', '.join(existing)}."
        yield check("call.unknown-accepted", subject.status >= 300, "$", wrong)


def ids(subject: Subject) -> Iterator[CheckResult]:
    """Check that the returned id is the requested one, and that each generic id has its number and its agent."""
    requested = subject.path_ids[-1] if subject.path_ids else ""
    if subject.status == 200 and isinstance(subject.data, dict) and number_in(requested) is not None:
        actual = subject.data.get("id", requested)
        wrong = f"{requested} was asked for, and {actual} is answered."
        yield check("id.differs", actual == requested, "$.data.id", wrong)
    for item in observations.items_in(subject, API):
        name = API.kind(item.kind).own_key
        number, own = whole(item.raw.get(name)), number_in(item.id)
        if number is not None and own is not None:
            wrong = f"the id is {item.id}, and {name} is {number}."
            yield check("id.number", own == number, f"{item.path}.{name}", wrong)
        for part in item.parts:
            wrong = (
                f"the id is {part.raw.get('id')}, of another agent than {item.raw.get('id')}, of which it is a part."
            )
            yield check("id.number", _owner_of(part.id) == _owner_of(item.id), f"{part.path}.id", wrong)


def _owner_of(id: str) -> str:
    """Return a generic id without the number that it ends in."""
    return id.removesuffix(str(number_in(id)))


def number_in(id: str) -> int | None:
    """Return the number that a generic id ends in; None if the server would write the id in another way."""
    generic = parsed_id(id)
    return generic.number if generic is not None and str(generic) == id else None


def times(subject: Subject) -> Iterator[CheckResult]:
    """Check that times are valid and not in the future, and in order if an item has ended."""
    now = None if has_panicked(subject) else subject.at
    for item in observations.items_in(subject, API):
        yield from observations.not_in_future(item.raw, item.path, ("start_time", "end_time"), now)
        if item.is_terminal:
            yield from observations.in_order(item, "start_time", "end_time", slack=_slack(item))
    time = instant(subject.data) if subject.id == "getTime" else None
    if time is not None and now is not None:
        wrong = f"the time is {subject.data}, and the timestamp {subject.body['timestamp']}."
        yield check("envelope.date", abs(time - now) <= SKEW, "$.data", wrong)


def _slack(item: Observation) -> int:
    """Return the tolerance: several agents, each with its own clock, write a cluster's times."""
    return SKEW if item.id.startswith("1") else 0


def counts(subject: Subject) -> Iterator[CheckResult]:
    """Check that exactly the sub tasks that ran have a count of runs and a log (sub_task.go:115-121)."""
    for item in observations.items_in(subject, API, "sub_task"):
        has_run, count_path = item.state in STARTED, f"{item.path}.execute_times"
        runs, has_log = whole(item.raw.get("execute_times")), isinstance(item.raw.get("task_logs"), list)
        if runs is not None and item.label == ("PENDING", "RUN"):
            yield check("count.never-run", runs == 0, count_path, f"a sub task that never ran has run {runs} times.")
        if runs is not None and has_run and item.operation != "PASS":
            yield check("count.never-run", runs >= 1, count_path, f"a sub task that is {item.state} has never run.")
        wrong = f"a sub task that is {item.state} has {'a' if has_log else 'no'} log."
        yield check("log.presence", has_log == has_run, f"{item.path}.task_logs", wrong)


def dags(subject: Subject) -> Iterator[CheckResult]:
    """Check each dag with its nodes: it has one for each stage, and its stage is one of them."""
    for dag in observations.items_in(subject, API, "dag"):
        path, stage, most = dag.path, whole(dag.raw.get("stage")), whole(dag.raw.get("max_stage"))
        if stage is not None and most is not None:
            yield check("parent.stage", 1 <= stage <= most, f"{path}.stage", f"stage {stage} is none of {most}.")
            if isinstance(nodes := dag.raw.get("nodes"), list):
                wrong = f"a dag of {most} stages has {len(nodes)} nodes."
                yield check("parent.stage", len(nodes) == most, f"{path}.max_stage", wrong)
        yield from _filters(subject, dag)
        if stage is not None and dag.operation == "RUN" and subject.at is not None:
            started = [node.time("start_time") for node in dag.parts[stage:] if node.state in STARTED]
            wrong = f"a dag at stage {stage} has a node of a later stage that has started."
            is_behind = any(start is not None and start < subject.at - SKEW for start in started)
            yield check("parent.stage", not is_behind, f"{path}.stage", wrong)
        if dag.parts and dag.is_terminal:
            yield from _end(dag)
        for lower, upper in pairwise(dag.parts):
            yield from _order(dag.operation, lower, upper)


def _filters(subject: Subject, dag: Observation) -> Iterator[CheckResult]:
    """Check that a dag belongs to the list that has it."""
    path, state, lock, id = dag.path, dag.state, dag.raw.get("maintenance_type"), str(dag.raw.get("id"))
    if subject.id in UNFINISHED_LISTS:
        wrong = f"dag {id} is {state}, and listed as unfinished."
        is_done = state == "SUCCEED" or (state == "FAILED" and lock == UNMAINTAINED)
        yield check("filter.ignored", not is_done, path, wrong)
    if subject.id in MAINTENANCE_DAGS:
        wrong = f"dag {id} is answered as the last for maintenance, and holds no lock."
        yield check("filter.ignored", lock != UNMAINTAINED, path, wrong)
    if subject.id in CLUSTER_DAGS | AGENT_DAGS:
        is_cluster = subject.id in CLUSTER_DAGS
        wrong = f"dag {id} is {'an agent' if is_cluster else 'the cluster'}'s."
        yield check("filter.ignored", id.startswith("1") == is_cluster, path, wrong)


def _end(dag: Observation) -> Iterator[CheckResult]:
    """Check that a final dag agrees with its nodes (engine/scheduler/dag_handler.go:24-74).

    All nodes are done, or undone, unless a rollback was cancelled. After a RETRY or PASS of a failed rollback, nodes
    that it did not reach stay PENDING/ROLLBACK.
    """
    labels, states = [node.label for node in dag.parts], [node.state for node in dag.parts]
    operator, stage, rule = dag.operation, whole(dag.raw.get("stage")), "parent.out-of-step"
    words, at = ", ".join(states), f"{dag.path}.state"
    if dag.state == "FAILED":
        place = stage or 0
        there = states[place - 1] if 1 <= place <= len(states) else "none"
        # An operation may come between the reads of the dag and of its nodes.
        new = {("PENDING", "RETRY"), ("PENDING", "ROLLBACK"), ("SUCCEED", "PASS")}
        is_new = "FAILED" not in states and not new.isdisjoint(labels)
        wrong = f"a dag that is FAILED at stage {place} has a node there that is {there}."
        yield check(rule, there == "FAILED" or is_new, at, wrong)
        return
    if any(node.operation == "CANCEL" for node in dag.parts):
        return
    if operator in ("RUN", "PASS"):
        wrong = f"a dag that is SUCCEED/{operator} has nodes that are {words}."
        settled = {state for state, of in labels if (state, of) != ("PENDING", "ROLLBACK")}
        yield check(rule, settled == {"SUCCEED"}, at, wrong)
    if operator == "ROLLBACK":
        wrong = f"a dag that was rolled back has nodes that are {words}."
        yield check(rule, set(states) <= {"SUCCEED", "PENDING"} and ("PENDING", "ROLLBACK") not in labels, at, wrong)
    last = {"RUN": len(states), "ROLLBACK": 1}.get(operator)
    if last is not None:
        wrong = f"a dag that is SUCCEED/{operator} ends at stage {stage}, not at {last}."
        yield check("parent.stage", stage == last, f"{dag.path}.stage", wrong)


def _order(operator: str, lower: Observation, upper: Observation) -> Iterator[CheckResult]:
    """Check that nodes run in the order of their stages, and are rolled back in the reverse order."""
    if operator == "RUN" and upper.state in STARTED and upper.operation in ("RUN", "RETRY"):
        wrong = "it started before the node of the stage below it had ended."
        yield check("order.forward", _comes_after(upper, lower), f"{upper.path}.start_time", wrong)
    if operator == upper.operation == lower.operation == "ROLLBACK" and lower.state in STARTED:
        wrong = "it is not undone, or too late, while the node of the stage below it is."
        passed = upper.state == "SUCCEED" and _comes_after(lower, upper)
        yield check("rollback.order", passed, f"{upper.path}.end_time", wrong)


def _comes_after(later: Observation, earlier: Observation) -> bool:
    start = later.time("start_time")
    return start is None or earlier.end is None or earlier.end <= start + _slack(later)


def nodes(subject: Subject) -> Iterator[CheckResult]:
    """Check that a final node agrees with its parts (engine/scheduler/task_handler.go:74-235)."""
    for node in observations.items_in(subject, API, "node"):
        states = {item.state for item in node.parts}
        words, at = " and ".join(sorted(states)), f"{node.path}.state"
        if states and node.state == "SUCCEED":
            wrong = f"a node that is SUCCEED has sub tasks that are {words}."
            allowed = {"SUCCEED", "PENDING"} if node.operation == "ROLLBACK" else {"SUCCEED"}
            yield check("parent.out-of-step", states <= allowed, at, wrong)
        if states and node.state == "FAILED" and node.operation != "CANCEL":
            wrong = f"a node that is FAILED has no sub task that is: they are {words}."
            is_being_passed = any(item.operation == "PASS" for item in node.parts)
            yield check("parent.out-of-step", "FAILED" in states or is_being_passed, at, wrong)


def lists(subject: Subject) -> Iterator[CheckResult]:
    """Check that no item is listed twice, and that dags have nodes unless show_details is false."""
    if subject.id in (LOG, *(route.id for route in API.routes if route.lists)) and isinstance(subject.data, dict):
        yield from observations.listed_once(subject.data.get("contents"), "$.data.contents")
    texts = [text for name, text in subject.query if name == "show_details"]
    expected = not set(texts) & GO_FALSE
    is_free = subject.id in ALWAYS_DETAILED and not expected
    if len(texts) > 1 or not set(texts) <= BOOLEANS.keys() or is_free:
        return
    for item in observations.items_in(subject, API):
        key = API.kind(item.kind).parts_key
        if key in item.raw:
            is_there = item.raw[key] is not None
            wrong = (
                f"details are {'' if expected else 'not '}asked for, and {key} is {'there' if is_there else 'null'}."
            )
            yield check("details.ignored", is_there == expected, f"{item.path}.{key}", wrong)


def logs(subject: Subject) -> Iterator[CheckResult]:
    """Check that a log's lines are of its sub task, with runs in order; a cluster's lines come in any order."""
    lines = subject.data.get("contents") if isinstance(subject.data, dict) else None
    if subject.id != LOG or subject.status != 200 or not lines:
        return
    requested, path = subject.path_ids[-1] if subject.path_ids else "", "$.data.contents"
    for place, line in numbered(lines, path):
        yield from observations.not_in_future(line, place, ("create_time", "update_time"), subject.at)
    runs = [n for line in objects(lines) if (n := whole(line.get("execute_times"))) is not None]
    if not requested.startswith("1"):
        wrong = f"the lines are of the runs {runs[:20]}, which are not in order."
        yield check("log.order", runs == sorted(runs), path, wrong)
    own = number_in(requested)
    for place, line in numbered(lines, path) if own is not None else ():
        number = whole(line.get("sub_task_id"))
        if number is not None:
            wrong = f"the line is of sub task {number}, and {requested} was asked for."
            yield check("id.differs", own == number, f"{place}.sub_task_id", wrong)


CHECKS: Final[tuple[Check, ...]] = (code, operators, ids, times, counts, dags, nodes, lists, logs, quirks.quirks)


class DagHistory(ApiHistory):
    """Checks the facts of agents and the logs of sub tasks over time."""

    members: ClassVar = {
        "dag": Members(
            ("dag_id", "name", "max_stage", "maintenance_type", "maintenance_key"),
            ("start_time", "end_time"),
            settled=FINAL,
        ),
        "node": Members(("node_id", "name"), ("start_time", "end_time"), settled=FINAL),
        # The agent of a sub task is written with each run (ob/agent/service/task/sub_task.go).
        "sub_task": Members(("task_id", "name"), ("start_time", "end_time"), "execute_times", counts_all=True),
    }
    one_view: ClassVar = frozenset({"additional_data", "task_logs"})

    def __init__(self, *, is_shared: bool) -> None:
        super().__init__(is_shared=is_shared)
        self._lines: dict[str, list[Any]] = {}
        self._failed: dict[str, tuple[int, int]] = {}
        self._facts: dict[str, Any] = {}

    def clock_of(self, subject: Subject) -> str | None:
        """Return the agent's clock, or one for authorized requests, which a FOLLOWER forwards."""
        is_guarded = subject.operation is not None and not subject.contract.is_open(subject.id)
        name = f"{super().clock_of(subject)} {is_guarded and subject.status == 200}"
        return None if has_panicked(subject) else name  # after a panic the timestamp is the server's start

    def log_lines(self, subject: Subject) -> list[Any] | None:
        rows = subject.data.get("contents") if subject.id == LOG and isinstance(subject.data, dict) else None
        return None if rows is None else [[row.get("execute_times"), row.get("log_content")] for row in objects(rows)]

    def log_results(self, subject: Subject, sample: Sample) -> Iterator[CheckResult]:
        """Check that a log has the same lines as the sub task, and no more runs."""
        lines, shown = self.log_lines(subject) or [], sample.raw.get("task_logs")
        runs, last = whole(sample.raw.get("execute_times")), max([whole(run) or 0 for run, _ in lines], default=0)
        if isinstance(shown, list):
            texts = [text for _, text in lines]
            wrong = f"the log has {len(texts)} lines, other than the {len(shown)} of the sub task."
            yield check("log.differs", sorted(map(str, texts)) == sorted(map(str, shown)), "$.data.contents", wrong)
        if runs is not None:
            wrong = f"the log has lines of run {last}, and the sub task has run {runs} times."
            yield check("log.differs", last <= runs, "$.data.contents", wrong)

    def slack(self, sample: Sample) -> int:
        """Return the tolerance: one clock sets an agent's times, several set a cluster's."""
        return SKEW if sample.id.startswith("1") else MILLISECOND

    def results(
        self, subject: Subject, samples: Sequence[Sample], latest: Mapping[tuple[str, str], Sample]
    ) -> Iterator[CheckResult]:
        """Check the facts of the agent, and that logs only grow and that each failed run adds lines to them."""
        if subject.id in OWN_FACTS and subject.status == 200 and isinstance(subject.data, dict):
            yield from self._agent(subject.data)
        for sample in samples:
            lines = sample.raw.get("task_logs")
            if sample.kind == "sub_task" and isinstance(lines, list):
                yield from self._log(sample, lines)
        sub_task = latest.get(("sub_task", subject.path_ids[-1])) if subject.path_ids else None
        if subject.id != LOG or subject.status != 200 or sub_task is None:
            return
        runs = _failed_runs(sub_task)
        if runs is not None and isinstance(subject.data, dict):
            rows = objects(subject.data.get("contents"))
            last = max([whole(row.get("execute_times")) or 0 for row in rows], default=0)
            wrong = f"the sub task has failed in run {runs}, and its last line is of run {last}."
            yield check("log.stale", last >= runs, "$.data.contents", wrong)

    def _agent(self, data: Json) -> Iterator[CheckResult]:
        """Check that an agent's facts are the same in every response, until it starts anew."""
        facts = {**data, **(data["agent"] if isinstance(data.get("agent"), dict) else {})}
        if facts.get("startAt", self._facts.get("startAt")) != self._facts.get("startAt"):
            self._facts = {}
        for name in FACTS & facts.keys():
            first = self._facts.setdefault(name, facts[name])
            wrong = f"{name} is {facts[name]!r}, and was {first!r}, and the agent has not started anew."
            yield check("agent.changed", facts[name] == first, f"$.data.{name}", wrong)

    def _log(self, sub_task: Sample, lines: list[Any]) -> Iterator[CheckResult]:
        id, path = sub_task.id, f"{sub_task.path}.task_logs"
        before = self._lines.get(id, [])
        self._lines[id] = lines
        is_kept = lines[: len(before)] == before
        if id.startswith("1"):
            is_kept = not Counter(map(str, before)) - Counter(map(str, lines))
        wrong = f"the log of sub task {id} had {len(before)} lines, which are not there any more."
        yield check("log.rewritten", is_kept, path, wrong)
        runs = _failed_runs(sub_task)
        if runs is not None:
            last_run, last_length = self._failed.setdefault(id, (runs, len(lines)))
            if runs > last_run:
                wrong = f"sub task {id} has failed in run {runs}, and its log does not say why."
                yield check("log.stale", len(lines) > last_length, path, wrong)
                self._failed[id] = (runs, len(lines))

    def has_run_again(self, before: Sample, now: Sample, calls: Sequence[Call]) -> bool:
        """Return whether the start is new, as each run sets it."""
        old, new = (instant(item.raw.get("start_time")) for item in (before, now))
        return old is not None and new is not None and new > old

    def is_waiting(self, sample: Sample) -> bool:
        """Return whether the current node of a RUNNING dag is RUNNING though its sub tasks have ended."""
        nodes, stage = objects(sample.raw.get("nodes")), whole(sample.raw.get("stage")) or 0
        if sample.state != "RUNNING" or not 1 <= stage <= len(nodes):
            return False
        node = nodes[stage - 1]
        states = {str(item.get("state")) for item in objects(node.get("sub_tasks"))}
        return (node.get("state"), node.get("operator")) == ("RUNNING", "RUN") and bool(states) and states <= FINAL

    def is_refused_for_state(self, subject: Subject, before: Sample) -> bool:
        return str(subject.error.get("errCode", "")).endswith(ABOUT_THE_STATE)


def _failed_runs(sub_task: Sample) -> int | None:
    """Return the run in which a sub task failed; None if it did not, or if its log may come late."""
    is_failed = sub_task.state == "FAILED" and sub_task.operation != "PASS"
    is_late = sub_task.id.startswith("1")
    return whole(sub_task.raw.get("execute_times")) if is_failed and not is_late else None


HISTORY: Final = DagHistory
