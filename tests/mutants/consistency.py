"""Servers each answer of which may be right by itself: only beside another one it is wrong.

Most are the same for both APIs. Each is wrong in one of these ways: two views of one thing differ, a whole differs from
its parts, a time from its neighbours, a counter from what was counted; what has ended moves; who answers changes; a
filter or a page leaves out what it should have; a member is there that no document has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs

from mutants.bending import Answer, Bend, Mutant, bent, on, patched, replacing, replacing_in
from oceanmock.conformance import ApiName
from oceanmock.obshell import machine as obshell_machine
from oceanmock.ocp import machine as ocp_machine

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one API."""

    api: ApiName
    lists: tuple[str, ...]
    detail: str
    parts: tuple[str, ...]
    """The keys of the parts, outermost first."""
    state: str
    start: str
    end: str
    count: str
    done: str
    log: str


OCP: Final = Words(
    "ocp", ("listTaskInstances",), "getTaskInstance", ("subtasks",), "status", "startTime", "finishTime", "runTime",
    "SUCCESSFUL", "getSubtaskLog",
)  # fmt: skip
OBSHELL: Final = Words(
    "obshell",
    ("getAllAgentDags", "getAllClusterDags", "getUnfinishedDags", "getAgentUnfinishDags", "getClusterUnfinishDags"),
    "getDagDetail", ("nodes", "sub_tasks"), "state", "start_time", "end_time", "execute_times", "SUCCEED",
    "getFullSubTaskLogs",
)  # fmt: skip
BOTH: Final = (OCP, OBSHELL)
SHOWN: Final = {
    "getTaskInstance", "listTaskInstances", "retryTask", "rollbackTask", *OBSHELL.lists, "getDagDetail",
    "getAgentLastMaintenanceDag", "getObLastMaintenanceDag", "getAllAgentsLastMaintenanceDag", "getAgentMainDags",
}  # fmt: skip
"""The operations that show tasks or dags."""
ALONE: Final = {"retrySubtask": 1, "getNodeDetail": 1, "getSubTaskDetail": 2}
"""Those that show a part by itself, with its level."""


def tops_in(answer: Answer) -> list[Json]:
    """The tasks or dags that an answer shows."""
    data = answer.said.get("data") if isinstance(answer.said, dict) else None
    if answer.status != 200 or answer.operation not in SHOWN or not isinstance(data, dict):
        return []
    return list(data["contents"] or ()) if "contents" in data else [data]


def levels_in(answer: Answer, words: Words) -> list[list[Json]]:
    """The same, and below them their parts, level by level; a part that is shown alone is in its level."""
    levels = [tops_in(answer)]
    alone = ALONE.get(answer.operation) if answer.status == 200 else None
    for level, key in enumerate(words.parts, start=1):
        levels.append([part for item in levels[-1] for part in item.get(key) or ()])
        levels[-1] += [answer.said["data"]] if alone == level else []
    return levels


def leaves_in(answer: Answer, words: Words) -> list[Json]:
    """The parts that have none themselves."""
    return levels_in(answer, words)[-1]


def later(text: str, **span: float) -> str:
    """A time that is later, with all its digits."""
    head, fraction, zone = _split(text)
    return (datetime.fromisoformat(head) + timedelta(**span)).isoformat(timespec="seconds") + fraction + zone


def _split(text: str) -> tuple[str, str, str]:
    zone = "Z" if text.endswith("Z") else text[-6:]
    head, _, fraction = text.removesuffix(zone).partition(".")
    return head, f".{fraction}" if fraction else "", zone


def has_run(item: Json, words: Words) -> bool:
    """Whether an item has a start and is no longer waiting."""
    return item.get(words.start) is not None and item[words.state] not in ("PENDING", "READY")


def has_ended(item: Json, words: Words) -> bool:
    """Whether an item has succeeded or failed."""
    return item[words.state] in (words.done, "FAILED") and item.get(words.end) is not None


# --- two views of one thing -----------------------------------------------------------------------


def another_name_in_lists(words: Words) -> Bend:
    @on(*words.lists, status=200)
    def bend(answer: Answer) -> None:
        for item in tops_in(answer):
            if item[words.state] == "RUNNING":
                item["name"] += " (listed)"

    return bend


def later_start_in_lists(words: Words) -> Bend:
    @on(*words.lists, status=200)
    def bend(answer: Answer) -> None:
        for item in tops_in(answer):
            if item[words.state] == "RUNNING":
                item[words.start] = later(item[words.start], seconds=5)

    return bend


def other_parts_in_lists(words: Words) -> Bend:
    @on(*words.lists, status=200)
    def bend(answer: Answer) -> None:
        for item in levels_in(answer, words)[-1]:
            item["name"] += " (part)"

    return bend


@on("getNodeDetail", status=200)
def _later_start_of_a_node_alone(answer: Answer) -> None:
    node = answer.said["data"]
    if node["state"] == "RUNNING":
        node["start_time"] = later(node["start_time"], seconds=3)


@on("getSubTaskDetail", status=200)
def _another_agent_of_a_sub_task_alone(answer: Answer) -> None:
    answer.said["data"]["execute_agent"]["port"] += 1


@on("getFullSubTaskLogs", status=200)
def _other_lines_by_themselves(answer: Answer) -> None:
    for line in answer.said["data"]["contents"] or ():
        line["log_content"] = f"{line['log_content']}!"


@on("getAgentUnfinishDags", status=200)
def _another_key_among_the_unfinished(answer: Answer) -> None:
    for dag in answer.said["data"]["contents"] or ():
        dag["maintenance_key"] += "x"


@on("getAgentLastMaintenanceDag", status=200)
def _another_stage_of_the_last(answer: Answer) -> None:
    dag = answer.said["data"]
    dag["additional_data"] = {**(dag["additional_data"] or {}), "agent": "another"}


@on("retryTask", status=200)
def _another_creator_after_a_retry(answer: Answer) -> None:
    answer.said["data"]["creator"] = {"id": 7, "name": "somebody else"}


@on("retrySubtask", status=200)
def _another_description_after_a_retry(answer: Answer) -> None:
    answer.said["data"]["seriesId"] += 1


@on("listTaskInstances", status=200)
def _waiting_parts_in_lists(answer: Answer) -> None:
    for task in tops_in(answer):
        for subtask in task["subtasks"]:
            if subtask["status"] == "RUNNING":
                subtask["status"] = "READY"


@on("listTaskInstances", status=200)
def _a_part_too_few_in_lists(answer: Answer) -> None:
    for task in tops_in(answer):
        task["subtasks"] = task["subtasks"][:1]


# --- a whole and its parts ------------------------------------------------------------------------


def parts_that_start_first(words: Words) -> Bend:
    def bend(answer: Answer) -> None:
        for item in levels_in(answer, words)[0]:
            for part in item.get(words.parts[0]) or ():
                if has_run(part, words):
                    part[words.start] = later(item[words.start], minutes=-1)

    return bend


def ends_before_its_parts(words: Words) -> Bend:
    def bend(answer: Answer) -> None:
        for item in tops_in(answer):
            if item[words.state] == words.done:
                item[words.start] = later(item[words.start], minutes=-2)
                item[words.end] = later(item[words.start], minutes=1)

    return bend


def without_parts(words: Words) -> Bend:
    @on(words.detail, "getNodeDetail", status=200)
    def bend(answer: Answer) -> None:
        for item in levels_in(answer, words)[-2]:
            if item[words.state] == words.done:
                item[words.parts[-1]] = []

    return bend


def _stage_behind(answer: Answer) -> None:
    for dag in tops_in(answer):
        if dag["state"] != "SUCCEED" and dag["operator"] == "RUN" and dag["stage"] > 1:
            dag["stage"] -= 1


def _sub_tasks_that_outlive_their_node(answer: Answer) -> None:
    for node in levels_in(answer, OBSHELL)[1]:
        for sub_task in node["sub_tasks"] or ():
            if has_ended(node, OBSHELL):
                sub_task["end_time"] = later(node["end_time"], seconds=30)


def _nodes_of_another_agent(answer: Answer) -> None:
    for node in [node for dag in tops_in(answer) for node in dag["nodes"] or ()]:
        node["id"] = node["id"].replace("02886", "09999", 1)


def _created_before_its_task(answer: Answer) -> None:
    for subtask in levels_in(answer, OCP)[1]:
        if "createTime" in subtask:
            subtask["createTime"] = later(subtask["createTime"], days=-1)


def _started_before_its_upstream_ended(answer: Answer) -> None:
    for task in tops_in(answer):
        ended = [
            s for s in task["subtasks"] if s["status"] == "SUCCESSFUL" and s.get("downstreams") and "finishTime" in s
        ]
        for subtask in ended:
            subtask["finishTime"] = later(subtask["finishTime"], minutes=1)


# --- times ----------------------------------------------------------------------------------------


def timestamps_of_another_zone(_: Words) -> Bend:
    return _dated(lambda text: later(text, hours=8))


def _dated(change: Callable[[str], str]) -> Bend:
    def bend(answer: Answer) -> None:
        if isinstance(answer.said, dict) and isinstance(answer.said.get("timestamp"), str):
            answer.said["timestamp"] = change(answer.said["timestamp"])

    return bend


def durations_of_minutes(_: Words) -> Bend:
    def bend(answer: Answer) -> None:
        if isinstance(answer.said, dict) and "duration" in answer.said:
            answer.said["duration"] = 95_000

    return bend


def starts_that_move(words: Words) -> Bend:
    @on(words.detail, status=200)
    def bend(answer: Answer) -> None:
        for item in tops_in(answer):
            if item[words.state] == "RUNNING":
                item[words.start] = later(item[words.start], seconds=answer.turn)

    return bend


@on("getTime", status=200)
def _another_time(answer: Answer) -> None:
    answer.said["data"] = later(answer.said["data"], hours=1)


@on("getFullSubTaskLogs", status=200)
def _lines_of_tomorrow(answer: Answer) -> None:
    for line in answer.said["data"]["contents"] or ():
        line["create_time"] = line["update_time"] = later(line["create_time"], days=1)


# --- counters -------------------------------------------------------------------------------------


def a_run_at_each_look(words: Words) -> Bend:
    def bend(answer: Answer) -> None:
        for leaf in leaves_in(answer, words):
            if has_ended(leaf, words) and words.count in leaf:
                leaf[words.count] += answer.turn

    return bend


@on("getFullSubTaskLogs", status=200)
def _lines_of_a_later_run(answer: Answer) -> None:
    for line in answer.said["data"]["contents"] or ():
        line["execute_times"] += 1


@on("listTaskInstances", status=200)
def _another_total_on_each_page(answer: Answer) -> None:
    page = answer.said["data"]["page"]
    if page["number"] < page["totalPages"]:
        page["totalElements"] += page["size"] * page["number"]
        page["totalPages"] += page["number"]


def _no_run_is_counted(answer: Answer) -> None:
    for subtask in levels_in(answer, OCP)[1]:
        if "runTime" in subtask:
            subtask["runTime"] = 0


# --- what has ended -------------------------------------------------------------------------------


def ends_that_move(words: Words) -> Bend:
    def bend(answer: Answer) -> None:
        for item in tops_in(answer):
            if has_ended(item, words):
                item[words.end] = later(item[words.end], seconds=answer.turn)

    return bend


def ends_of_parts_that_move(words: Words) -> Bend:
    @on(words.detail, status=200)
    def bend(answer: Answer) -> None:
        for leaf in leaves_in(answer, words):
            if has_ended(leaf, words):
                leaf[words.end] = later(leaf[words.end], seconds=-1 if answer.turn % 2 else 0)

    return bend


def ends_at_each_look(words: Words) -> Bend:
    def bend(answer: Answer) -> None:
        for item in tops_in(answer):
            if item[words.state] == "FAILED" and item.get(words.end):
                item[words.end] = answer.said["timestamp"]

    return bend


@on("getDagDetail", status=200)
def _data_that_move(answer: Answer) -> None:
    dag = answer.said["data"]
    if dag["state"] in ("SUCCEED", "FAILED"):
        dag["additional_data"] = {"looks": answer.turn}


@on("getTaskInstance", status=200)
def _descriptions_that_move(answer: Answer) -> None:
    for subtask in answer.said["data"]["subtasks"]:
        if subtask["status"] in ("SUCCESSFUL", "FAILED"):
            subtask["description"] = f"looked at {answer.turn} times"


@on("getTaskInstance", status=200)
def _a_prohibition_that_comes_and_goes(answer: Answer) -> None:
    task = answer.said["data"]
    if task["status"] == "SUCCESSFUL":
        task["prohibitRollback"] = bool(answer.turn % 2)


def logs_that_grow(words: Words) -> Bend:
    @on(words.log, status=200)
    def bend(answer: Answer) -> None:
        data = answer.said["data"]
        more = answer.turn
        if words is OCP and data["log"]:
            data["log"] += "and so on\n" * more
        elif words is OBSHELL and data["contents"]:
            data["contents"] += [
                {**data["contents"][-1], "id": 10**6 + n, "log_content": "and so on"} for n in range(more)
            ]

    return bend


# --- who answers ----------------------------------------------------------------------------------


def one_trace_id(_: Words) -> Bend:
    def bend(answer: Answer) -> None:
        if isinstance(answer.said, dict) and answer.said.get("traceId"):
            answer.said["traceId"] = "0123456789abcdef"

    return bend


def one_trace_id_for_each_operation(_: Words) -> Bend:
    def bend(answer: Answer) -> None:
        if isinstance(answer.said, dict) and answer.said.get("traceId"):
            answer.said["traceId"] = f"{hash(answer.operation) & (2**64 - 1):016x}"

    return bend


def _changing(operation: str, name: str, change: Callable[[Any, int], Any]) -> Bend:
    """A member of an agent's own facts that changes at every look."""

    @on(operation, status=200)
    def bend(answer: Answer) -> None:
        answer.said["data"][name] = change(answer.said["data"][name], answer.turn)

    return bend


# --- filters and pages ----------------------------------------------------------------------------


def _filtered(name: str, keep: Callable[[Json, str], bool]) -> Bend:
    """A list that leaves out further rows where it is asked for by this parameter."""

    @on("listTaskInstances", status=200)
    def bend(answer: Answer) -> None:
        text = parse_qs(answer.query).get(name, [""])[0]
        data = answer.said["data"]
        if text and len(data["contents"]) < data["page"]["size"]:
            data["contents"] = [row for row in data["contents"] if keep(row, text)]
            data["page"]["totalElements"] = len(data["contents"])
            data["page"]["totalPages"] = -(-len(data["contents"]) // data["page"]["size"])

    return bend


@on("listTaskInstances", status=200)
def _always_upwards(answer: Answer) -> None:
    if "desc" in answer.query:
        answer.said["data"]["contents"].sort(key=lambda row: row["id"])


def _leaving_out(operation: str, keep: Callable[[int, Json], bool]) -> Bend:
    """A list of dags that leaves some out."""

    @on(operation, status=200)
    def bend(answer: Answer) -> None:
        rows = answer.said["data"]["contents"] or []
        answer.said["data"]["contents"] = [row for place, row in enumerate(rows) if keep(place, row)]

    return bend


# --- undocumented members -------------------------------------------------------------------------


def a_member_more(words: Words, where: str) -> Bend:
    def bend(answer: Answer) -> None:
        said = answer.said if isinstance(answer.said, dict) else {}
        for item in {
            "envelope": [said],
            "error": [said["error"]] if said.get("error") else [],
            "whole": tops_in(answer),
            "part": leaves_in(answer, words),
        }[where]:
            item["internalState"] = {"lock": 1}

    return bend


# --- operations -----------------------------------------------------------------------------------

_RETRY: Final = obshell_machine._OPERATORS["RETRY"]


def _retried_while_it_runs(plan: Any, dag: Any, instant: int) -> Any:
    return dag if dag.state in ("RUNNING", "READY") else _RETRY(plan, dag, instant)


_REFUSAL: Final = ocp_machine._refusal
_RETRY_TASK: Final = ocp_machine._retry_task


def _refuses_no_second_retry(operation: Any, state: Any, rules: Any, subtask: int | None) -> Any:
    is_second = (operation, subtask, state.status, state.operation) == ("RETRY", None, "RUNNING", "RETRY")
    return None if is_second else _REFUSAL(operation, state, rules, subtask)


def _retried_once(plan: Any, rules: Any, state: Any, position: int) -> Any:
    return state if state.status == "RUNNING" else _RETRY_TASK(plan, rules, state, position)


# --- the table ------------------------------------------------------------------------------------


def _both(name: str, says: str, bend: Callable[[Words], Bend], *rules: str) -> list[Mutant]:
    return [Mutant(name, words.api, says, frozenset(rules), bent(words.api, bend(words))) for words in BOTH]


def _ocp(name: str, says: str, bend: Bend, *rules: str) -> list[Mutant]:
    return [Mutant(name, "ocp", says, frozenset(rules), bent("ocp", bend))]


def _obshell(name: str, says: str, bend: Bend, *rules: str) -> list[Mutant]:
    return [Mutant(name, "obshell", says, frozenset(rules), bent("obshell", bend))]


def _member(where: str) -> list[Mutant]:
    says = f"there is a member more in the {where}"
    return _both(f"member-of-{where}", says, lambda words: a_member_more(words, where), "schema.undocumented")


_LIST, _VIEW, _KEPT = "list.differs-from-detail", "views.differ", "kept.changed"
_AGENT: Final = "agent.changed"

_ALL: Final = (
    # Two views of one thing.
    _both("other-name-in-lists", "what runs has another name in lists", another_name_in_lists, _LIST),
    _both("later-start-in-lists", "what runs starts later in lists", later_start_in_lists, _LIST),
    _both("other-parts-in-lists", "parts have other names in lists", other_parts_in_lists, _LIST),
    _ocp("waiting-in-lists", "what runs waits in lists", _waiting_parts_in_lists, _LIST),
    _ocp("fewer-parts-in-lists", "lists have only the first part", _a_part_too_few_in_lists, _LIST),
    _ocp("other-creator", "a retry is answered with another creator", _another_creator_after_a_retry, _VIEW, _KEPT),
    _ocp("other-series", "a retry is answered with another seriesId", _another_description_after_a_retry, _VIEW),
    _obshell("node-alone", "a node that runs starts later by itself", _later_start_of_a_node_alone, _VIEW),
    _obshell("agent-alone", "a sub task has another agent by itself", _another_agent_of_a_sub_task_alone, _VIEW),
    _obshell("other-lines", "a log has other lines by itself", _other_lines_by_themselves, "log.differs"),
    _obshell("other-key", "one list has another key", _another_key_among_the_unfinished, _LIST),
    _obshell("other-data", "the last dag has other data", _another_stage_of_the_last, _LIST),
    # A whole and its parts.
    _both("parts-start-first", "parts start before the whole", parts_that_start_first, "parent.times"),
    _both("ends-before-parts", "the whole ends before its parts", ends_before_its_parts, "parent.times"),
    _both("no-parts", "what succeeded has no parts", without_parts, "parent.empty"),
    _ocp("parts-created-first", "subtasks are created before the task", _created_before_its_task, "parent.times"),
    _ocp(
        "upstream-ends-later",
        "a subtask starts before its upstream ends",
        _started_before_its_upstream_ended,
        "order.forward",
    ),
    _obshell("stage-behind", "the stage is behind the nodes", _stage_behind, "parent.stage", "parent.out-of-step"),
    _obshell(
        "sub-tasks-end-later", "sub tasks end after their node", _sub_tasks_that_outlive_their_node, "parent.times"
    ),
    _obshell("nodes-of-another", "nodes are another agent's", _nodes_of_another_agent, "id.number"),
    # Times.
    _both("eight-hours", "timestamps are of another zone", timestamps_of_another_zone, "envelope.date"),
    _both("duration-of-minutes", "every duration is 95 s", durations_of_minutes, "envelope.duration"),
    _both("start-moves", "what runs starts later at each look", starts_that_move, "time.went-back", "kept.changed"),
    _obshell("other-time", "the time is not that of the timestamp", _another_time, "envelope.date"),
    _obshell("lines-of-tomorrow", "the lines of a log are of tomorrow", _lines_of_tomorrow, "time.future"),
    # Counters.
    _both("run-at-each-look", "each look counts a run", a_run_at_each_look, "count.unasked", "terminal.moved"),
    _ocp("total-of-a-page", "each page has another total", _another_total_on_each_page, "paging.total"),
    _ocp("never-counted", "no run is counted", _no_run_is_counted, "count.never-run"),
    _obshell("lines-of-later-runs", "lines are of runs that there were not", _lines_of_a_later_run, "log.differs"),
    # What has ended.
    _both("end-moves", "what has ended ends later at each look", ends_that_move, "terminal.moved"),
    _both("end-of-part-moves", "a part's end goes to and fro", ends_of_parts_that_move, "terminal.moved"),
    _both("end-is-now", "what failed has ended just now", ends_at_each_look, "terminal.moved"),
    _both("log-grows", "the log of what has ended grows at each look", logs_that_grow, "terminal.moved", "log.differs"),
    _ocp("description-moves", "the description of what has ended moves", _descriptions_that_move, "terminal.moved"),
    _ocp("prohibition-moves", "prohibitRollback comes and goes", _a_prohibition_that_comes_and_goes, "terminal.moved"),
    _obshell("data-move", "the data of what has ended move", _data_that_move, "terminal.moved"),
    # Who answers.
    _both("one-trace-id", "all answers have one traceId", one_trace_id, "envelope.trace-id-again"),
    _both(
        "trace-id-of-operation",
        "answers of an operation have one traceId",
        one_trace_id_for_each_operation,
        "envelope.trace-id-again",
    ),
    _obshell(
        "version-moves", "the version changes", _changing("getAgentInfo", "version", lambda v, n: f"{v}{n % 2}"), _AGENT
    ),
    _obshell("pid-moves", "the pid changes", _changing("getAgentInfo", "pid", lambda v, n: v + n), _AGENT),
    _obshell("other-pid", "the status has another pid", _changing("getStatus", "pid", lambda v, n: v + 1), _AGENT),
    _obshell("other-port", "the key is another port's", _changing("getSecret", "port", lambda v, n: v + 1), _AGENT),
    _obshell(
        "commit-moves", "the commit changes", _changing("getGitInfo", "commitId", lambda v, n: f"{n:040x}"), _AGENT
    ),
    # Filters and pages.
    _ocp(
        "first-status",
        "only the first status is looked for",
        _filtered("status", lambda row, text: row["status"] == text.split(",")[0]),
        "filter.too-narrow",
    ),
    _ocp(
        "whole-name",
        "a name has to be the whole one",
        _filtered("name", lambda row, text: row["name"] == text),
        "filter.too-narrow",
    ),
    _ocp(
        "no-tenant",
        "nothing is found by its tenant",
        _filtered("tenantId", lambda row, text: False),
        "filter.too-narrow",
    ),
    _ocp("no-type", "nothing is found by its type", _filtered("type", lambda row, text: False), "filter.too-narrow"),
    _ocp("always-upwards", "every list is sorted upwards", _always_upwards, "list.order"),
    _obshell(
        "failed-is-finished",
        "what failed is not unfinished",
        _leaving_out("getAgentUnfinishDags", lambda place, row: row["state"] != "FAILED"),
        "filter.too-narrow",
        "list.missing",
    ),
    _obshell(
        "one-unfinished",
        "only one is unfinished",
        _leaving_out("getUnfinishedDags", lambda place, row: place == 0),
        "filter.too-narrow",
        "list.missing",
    ),
    _obshell(
        "cluster-is-short",
        "the cluster's list lacks the oldest",
        _leaving_out("getAllClusterDags", lambda place, row: place < 2),
        "filter.too-narrow",
        "list.missing",
    ),
    # Undocumented members.
    *map(_member, ("envelope", "error", "whole", "part")),
    # Operations.
    [
        Mutant(
            "second-retry",
            "obshell",
            "a second RETRY is accepted while the first runs",
            frozenset({"call.illegal-accepted"}),
            patched(replacing_in(obshell_machine._OPERATORS, {"RETRY": _retried_while_it_runs})),
        )
    ],
    [
        Mutant(
            "second-retry",
            "ocp",
            "a second retry is accepted while the first runs",
            frozenset({"call.illegal-accepted"}),
            patched(
                replacing(ocp_machine, "_refusal", _refuses_no_second_retry),
                replacing_in(ocp_machine._TASK_OPERATIONS, {"RETRY": _retried_once}),
            ),
        )
    ],
)
MUTANTS: Final = tuple(mutant for several in _ALL for mutant in several)
