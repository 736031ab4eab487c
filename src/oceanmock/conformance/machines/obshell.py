"""A walk on an obshell dag: which operator its state and its nodes' flags allow, and what follows.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent (service/task, engine/scheduler), and the
recordings of a running 4.5.0.0. The flags of a node are never shown: who knows them gives them
(``flags_of_scenarios``, ``known_flags``); where nobody does, an operator may be accepted or
refused, but the same way each time. Nothing here looks at the mock's machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from oceanmock.checks import Exchange, instant
from oceanmock.conformance.machines.base import (
    ACCEPTED,
    Act,
    Answers,
    Look,
    Notes,
    Pace,
    Sender,
    Walk,
    look,
)
from oceanmock.conformance.machines.knowledge import NOTHING, Known
from oceanmock.conformance.quirks import KNOWN_ERROR
from oceanmock.obshell import scenario as obshell
from oceanmock.obshell.versions import ERR_CODES_SINCE, contract_version
from oceanmock.scenario.fields import BaseScenario

WISHES: Final = ("RETRY", "ROLLBACK", "CANCEL", "PASS", "illegal", "look")
OPERATORS: Final = ("RETRY", "ROLLBACK", "CANCEL", "PASS")
UNKNOWN: Final = ("RUN", "RESTART")
"""Operators that no route takes; RUN is a word of the API's own (dag.go:338-420)."""
_EPOCH: Final = 0
_NOT_SUPPORTED: Final = {
    "dagHandler": "Task.Dag.Operator.NotSupport",
    "nodeHandler": "Task.Node.Operator.NotSupport",
}
_BUSY: Final = (
    "Agent.UnderMaintenance",
    "OB.Cluster.UnderMaintenance",
    "OB.Tenant.UnderMaintenance",
    "Task.Expired",
    "Gorm.NoRowAffected",
)
"""Refusals that come of what else goes on (service/task/dag.go:603-694)."""
NO_NODE: Final = "Common.Unexpected"
"""What answers an illegal operator before that: a status, and a number for a code."""


# --- flags ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubTask:
    """What a sub task shows."""

    state: str
    operator: str
    execute_times: int

    @property
    def words(self) -> str:
        """Its state and operator."""
        return f"{self.state}/{self.operator}"


@dataclass(frozen=True, slots=True)
class Node:
    """What a node shows."""

    id: str
    name: str
    state: str
    operator: str
    start_time: str
    end_time: str
    sub_tasks: tuple[SubTask, ...]

    @property
    def words(self) -> str:
        """Its state and operator."""
        return f"{self.state}/{self.operator}"


@dataclass(frozen=True, slots=True)
class Dag:
    """What a dag shows. ``stage`` counts from 1."""

    number: int
    name: str
    state: str
    operator: str
    stage: int
    start_time: str
    end_time: str
    nodes: tuple[Node, ...]

    @property
    def words(self) -> str:
        """Its state, operator and stage, and those of its nodes."""
        nodes = ", ".join(each.words for each in self.nodes)
        return f"{self.state}/{self.operator} at stage {self.stage} [{nodes}]"

    @property
    def at_rest(self) -> bool:
        """Whether it is FAILED or has SUCCEEDed, and nothing of it runs."""
        return self.state in ("FAILED", "SUCCEED") and not self.is_running

    @property
    def is_running(self) -> bool:
        """Whether a sub task runs."""
        return any(each.state == "RUNNING" for node in self.nodes for each in node.sub_tasks)


Flags = Callable[[Dag, int], frozenset[str] | None]
"""What the node at a position can: cancel, pass, retry, rollback; None where nobody knows."""

_USUAL: Final = frozenset({"cancel", "retry", "rollback"})
_NO_CANCEL: Final = frozenset({"retry", "rollback"})
_NO_ROLLBACK: Final = frozenset({"cancel", "retry"})
_KNOWN: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    **{
        ("Initialize cluster", name): can
        for can, names in {
            _USUAL: (
                "Integrate config",
                "Create observer workdir",
                "Cluster boostrap",
                "Migrate table",
                "Migrate data",
            ),
            _USUAL | {"pass"}: ("Start observer",),
            _NO_CANCEL: (
                "Modify password",
                "Convert follower to cluster agent",
                "Convert master to cluster agent",
            ),
            _NO_ROLLBACK: ("Synchronize agent from cluster",),
        }.items()
        for name in names
    },
    ("Join self", "Join self"): frozenset(),
    ("Update observer config", "Update observer config"): _NO_ROLLBACK,
    ("Update cluster config", "Update cluster config"): _NO_ROLLBACK,
}
"""By dag and node, as a running 4.5.0.0 stored them."""


def no_flags(dag: Dag, place: int) -> None:
    """Nobody knows."""


def known_flags(dag: Dag, place: int) -> frozenset[str] | None:
    """What a real server's own dags can, as far as that was seen."""
    return _KNOWN.get((dag.name, dag.nodes[place].name))


def flags_of_scenarios(scenarios: Sequence[BaseScenario]) -> Flags:
    """What the dags of some scenarios can, which are found by their number, or their nodes."""
    written = [dag for each in scenarios if isinstance(each, obshell.Scenario) for dag in each.dags]

    def flags(dag: Dag, place: int) -> frozenset[str] | None:
        names = [node.name for node in dag.nodes]
        fitting = [
            each
            for each in written
            if each.id in (None, dag.number)
            and each.name in (None, dag.name)
            and [node.name or name for node, name in zip(each.nodes, names, strict=False)] == names
            and len(each.nodes) == len(names)
        ]
        cans = {frozenset(each.nodes[place].can) for each in fitting}
        return cans.pop() if len(cans) == 1 else None

    return flags


# --- the walk -------------------------------------------------------------------------------------


class ObshellWalk(Walk[Dag]):
    """A walk on a dag."""

    def __init__(
        self,
        client: Sender,
        id: str,
        *,
        pace: Pace,
        notes: Notes,
        known: Known = NOTHING,
    ) -> None:
        super().__init__(client, id, pace=pace, notes=notes)
        self.flags: Final[Flags] = known.flags or no_flags
        self.has_err_codes: Final = contract_version(known.version) >= ERR_CODES_SINCE

    # --- reading ---

    def path(self) -> str:
        """Where the dag is read."""
        return f"/api/v1/task/dag/{self.id}"

    def read(self, data: Any) -> Dag:
        """The dag in an answer's data."""
        return read_dag(data)

    # --- what may be asked ---

    def acts(self, shown: Dag) -> Iterable[Act]:
        """Every operator of a dag, PASS of each node, and some that there is no route for."""
        places = range(len(shown.nodes) if self.has_err_codes else 0)  # both came with 4.3.1
        return [
            *(Act("dagHandler", None, word) for word in (*OPERATORS, *UNKNOWN)),
            *(Act("nodeHandler", place, "PASS") for place in places),
            *(Act("nodeHandler", place, "RETRY") for place in places[:1]),
        ]

    def answers_to(self, act: Act, shown: Dag) -> Answers:
        """By the states, then by the flags (dag.go:283-420, node.go:116-174)."""
        known = OPERATORS if act.part is None else ("PASS",)
        if act.word not in known:
            return frozenset({_NOT_SUPPORTED[act.operation]})
        if act.part is not None:
            return self._answers_of_node(act.part, shown)
        return _ANSWERS[act.word](self, shown)

    def _answers_of_node(self, place: int, shown: Dag) -> Answers:
        if shown.state != "FAILED":
            return frozenset({"Task.Node.Operator.PassNotFailedDag"})
        if shown.nodes[place].state != "FAILED":
            return frozenset({"Task.Node.Operator.PassNotFailedNode"})
        return self._asking_flags(shown, [place], "pass", "Task.Node.Operator.PassNotAllowed")

    def _answers_to_retry(self, shown: Dag) -> Answers:
        if shown.state != "FAILED":
            return frozenset({"Task.Dag.Operator.RetryNotFailedDag"})
        place = min(max(shown.stage, 1), len(shown.nodes)) - 1
        return self._asking_flags(shown, [place], "retry", "Task.Dag.Operator.RetryNotAllowed")

    def _answers_to_cancel(self, shown: Dag) -> Answers:
        if shown.state in ("FAILED", "SUCCEED"):
            return frozenset({"Task.Dag.Operator.CancelFinishedDag"})
        upto = _first_unfinished(shown)
        # While a rollback runs, what is asked is every node up to the first one, or to the one at
        # the stage, if the server does not have that quirk.
        places = range(upto + 1)
        answers = self._asking_flags(shown, places, "cancel", "Task.Dag.Operator.CancelNotAllowed")
        if shown.operator == "ROLLBACK":
            further = range(max(shown.stage, upto + 1))
            reason = "Task.Dag.Operator.CancelNotAllowed"
            answers |= self._asking_flags(shown, further, "cancel", reason)
        return answers

    def _answers_to_pass(self, shown: Dag) -> Answers:
        if shown.state != "FAILED":
            return frozenset({"Task.Dag.Operator.PassNotFailedDag"})
        places = [place for place, node in enumerate(shown.nodes) if node.state != "SUCCEED"]
        return self._asking_flags(shown, places, "pass", "Task.Dag.Operator.PassNotAllowed")

    def _answers_to_rollback(self, shown: Dag) -> Answers:
        if shown.state != "FAILED":
            return frozenset({"Task.Dag.Operator.RollbackNotFailedDag"})
        places = _to_roll_back(shown)
        if not places:  # a rollback that was cancelled: the server that can still do it is better
            return frozenset({ACCEPTED, NO_NODE})
        reason = "Task.Dag.Operator.RollbackNotAllowed"
        return self._asking_flags(shown, places, "rollback", reason)

    def _asking_flags(self, shown: Dag, places: Iterable[int], flag: str, reason: str) -> Answers:
        """Accepted if all these nodes have a flag; either way where one's are not known."""
        all_flags = [self.flags(shown, place) for place in places]
        if any(can is not None and flag not in can for can in all_flags):
            return frozenset({reason})
        return frozenset({ACCEPTED, reason} if None in all_flags else {ACCEPTED})

    def state_for(self, act: Act, shown: Dag) -> str:
        """The dag's state and operator, and the node's where one is asked."""
        whole = f"{shown.state}/{shown.operator}"
        return whole if act.part is None else f"{whole}/{shown.nodes[act.part].words}"

    def ask(self, act: Act, shown: Dag, *, expects_refusal: bool) -> Exchange:
        """Posts the operator."""
        path = self.path()
        if act.part is not None:
            path = f"/api/v1/task/node/{shown.nodes[act.part].id}"
        return self.client.send(
            "POST",
            path,
            phase="machine",
            operation=act.operation,
            json={"operator": act.word},
            expects_refusal=expects_refusal,
        )

    def called(self, act: Act, shown: Dag) -> str:
        """The operator, and of what."""
        if act.part is None:
            return f"{act.word} of the dag"
        node = shown.nodes[act.part]
        return f"{act.word} of node {node.name!r} ({node.words})"

    # --- judging ---

    def judge_answer(self, act: Act, before: Dag, exchange: Exchange) -> Iterator[Look]:
        """Accepted where states and flags allow it, else refused with 400 and its reason."""
        answers, called = self.answers_to(act, before), self.called(act, before)
        status, code = exchange.status or 0, _err_code_of(exchange)
        is_accepted = status < 300
        has_failed = status >= 500 and self.has_err_codes and code not in answers
        if code in _BUSY or has_failed:
            return  # that it fails is for the checks of answers to complain of
        reasons = sorted(answers - {ACCEPTED})
        is_of_flags = any(each.endswith("NotAllowed") for each in reasons) or (
            str(code).endswith("NotAllowed")
        )
        state = f"the dag is {before.state}/{before.operator} at stage {before.stage}"
        if ACCEPTED in answers and reasons and is_of_flags:
            yield self._judge_sameness(act, before, called, is_accepted)
        if answers == {ACCEPTED}:
            rule = "machine.flag" if is_of_flags else "machine.refused"
            said = f"{called} is answered {status} ({code}), though {state}."
            yield look(rule, is_accepted, "$", said)
            return
        if ACCEPTED not in answers:
            rule = "machine.flag" if is_of_flags else "machine.illegal"
            if act.word in UNKNOWN or (act.operation == "nodeHandler" and act.word != "PASS"):
                rule = "machine.unknown-operator"
            said = f"{called} is answered {status}, though {state}: it should be {reasons[0]}."
            yield look(rule, not is_accepted, "$", said)
        if not is_accepted:
            yield from self._judge_refusal(called, reasons, exchange)

    def _judge_refusal(
        self, called: str, reasons: Sequence[str], exchange: Exchange
    ) -> Iterator[Look]:
        """The status and the code of one of these reasons, as the version words it."""
        status, code = exchange.status, _err_code_of(exchange)
        wanted: list[tuple[int, object]] = [
            (500, reason) if reason == NO_NODE else (400, reason) for reason in reasons
        ]
        path = "$.error.errCode"
        if not self.has_err_codes:
            wanted, path = [KNOWN_ERROR for _ in reasons], "$.error.code"
        statuses = {each for each, _ in wanted}
        said = f"{called} is refused with {status}, and not with {sorted(statuses)[0]}."
        yield look("machine.refusal-status", status in statuses, "$.status", said)
        said = f"{called} is refused with {code}, and not with {wanted[0][1]}."
        yield look("machine.refusal-code", code in [each for _, each in wanted], path, said)

    def _judge_sameness(self, act: Act, before: Dag, called: str, is_accepted: bool) -> Look:
        """Flags never change: what they once allowed they always do."""
        state = tuple(each.words for each in before.nodes)
        key = (self.id, act.operation, act.word, act.part, before.stage, state)
        learned = self.notes.learned.setdefault(key, is_accepted)
        words = {True: "accepted", False: "refused"}
        said = f"{called} was {words[learned]} before, and is {words[is_accepted]} in one state."
        return look("machine.flag", learned == is_accepted, "$", said)

    def judge_effect(self, act: Act, before: Dag, after: Dag, answer: Exchange) -> Iterator[Look]:
        """What the operator does at once: it shows at the next look."""
        wanted = _after(act, before)
        if wanted is None:
            return
        called = self.called(act, before)
        said = f"{called} was accepted, and the dag shows {{}} {{}}, and not {{}}."
        states = (wanted.state,) if self.pace.stands else _LATER.get(wanted.state, (wanted.state,))
        # A look may come late, however soon it was asked for: then what runs may have ended anew.
        has_ended_anew = after.at_rest and after.end_time != before.end_time
        yield look(
            "machine.parent" if after.state == "FAILED" else "machine.effect",
            after.state in states or (has_ended_anew and not self.pace.stands),
            "$.data.state",
            said.format("state", after.state, wanted.state),
        )
        yield look(
            "machine.effect",
            after.operator == wanted.operator,
            "$.data.operator",
            said.format("operator", after.operator, wanted.operator),
        )
        if not self.pace.stands:
            return
        yield look(
            "machine.rollback-order" if act.word == "ROLLBACK" else "machine.effect",
            after.stage == wanted.stage,
            "$.data.stage",
            said.format("stage", after.stage, wanted.stage),
        )
        if act.word == "CANCEL":
            yield _judge_cancelled(after, called)
            return
        for place, (new, old) in enumerate(zip(after.nodes, wanted.nodes, strict=False)):
            said = (
                f"{called} was accepted, and node {new.name!r} shows {new.words}, not {old.words}."
            )
            path = f"$.data.nodes[{place}].state"
            yield look("machine.effect", new.words == old.words, path, said)
            yield _judge_same_counts(place, new, old, called)

    def judge_shown(self, shown: Dag) -> Iterator[Look]:
        """What holds at each look."""
        said = f"the dag shows {shown.words}."
        if shown.state in ("FAILED", "SUCCEED"):
            kept = not shown.is_running
            yield look("machine.parent", kept, "$.data.state", f"{said[:-1]}, and a sub task runs.")
            kept = instant(shown.end_time) != _EPOCH
            told = f"the dag is {shown.state}, and has no end_time."
            yield look("machine.finish-time", kept, "$.data.end_time", told)
        if shown.state == "FAILED":
            kept = any(node.state == "FAILED" for node in shown.nodes)
            yield look("machine.parent", kept, "$.data.state", said)
        if shown.operator == "ROLLBACK":
            yield _judge_order(shown)

    def judge_rest(self, act: Act, before: Dag, after: Dag) -> Iterator[Look]:
        """Where an operator has led, if no other one came in between."""
        called, path = self.called(act, before), "$.data.state"
        said = f"{called} has led to {after.words}."
        if act.word != "PASS" or act.part is not None:
            anew = f"after {called} the dag ended anew, and has its old end_time."
            kept = after.end_time != before.end_time or before.state != "FAILED"
            yield look("machine.finish-time", kept, "$.data.end_time", anew)
        if act.word == "RETRY":
            yield look("machine.outcome", after.operator == "RUN", "$.data.operator", said)
            yield from _judge_retried(before, after, called)
        elif act.word == "ROLLBACK" and _to_roll_back(before):
            yield from _judge_rolled_back(before, after, called)
        elif act.word == "CANCEL" and before.operator == "RUN" and _is_straight(before):
            node = after.nodes[before.stage - 1]
            kept = (after.state, after.operator, node.words) == (
                "FAILED",
                "CANCEL",
                "FAILED/CANCEL",
            )
            yield look("machine.cancel", kept, path, said)
        elif act.part is not None:
            kept = after.nodes[act.part].words == "SUCCEED/PASS"
            yield look("machine.outcome", kept, f"$.data.nodes[{act.part}].state", said)

    def may_move(self, before: Dag, after: Dag) -> bool:
        """Never; elsewhere than in a sandbox, others may operate on what has FAILED."""
        return before.state == "FAILED" and not self.pace.stands

    def is_waiting(self, shown: Dag) -> bool:
        """Not ended, and no sub task runs."""
        return shown.state in ("READY", "RUNNING") and not shown.is_running

    def read_logs(self, before: Dag, after: Dag) -> None:
        """Nothing: a dag shows the logs of its sub tasks itself."""


_ANSWERS: Final[Mapping[str, Callable[[ObshellWalk, Dag], Answers]]] = {
    "RETRY": ObshellWalk._answers_to_retry,
    "ROLLBACK": ObshellWalk._answers_to_rollback,
    "CANCEL": ObshellWalk._answers_to_cancel,
    "PASS": ObshellWalk._answers_to_pass,
}
_LATER: Final = {"READY": ("READY", "RUNNING"), "SUCCEED": ("SUCCEED",)}
"""What a state may have become by the next look, where time runs."""


def read_dag(data: Any) -> Dag:
    """The dag in an answer's data. Raises one of UNREADABLE."""
    if not 1 <= int(data["stage"]) <= len(data["nodes"]):
        raise ValueError("it is at a stage that it does not have")
    return Dag(
        number=int(data["dag_id"]),
        name=str(data["name"]),
        state=str(data["state"]),
        operator=str(data["operator"]),
        stage=int(data["stage"]),
        start_time=str(data["start_time"]),
        end_time=str(data["end_time"]),
        nodes=tuple(map(_node, data["nodes"])),
    )


def _node(data: Any) -> Node:
    return Node(
        id=str(data["id"]),
        name=str(data["name"]),
        state=str(data["state"]),
        operator=str(data["operator"]),
        start_time=str(data["start_time"]),
        end_time=str(data["end_time"]),
        sub_tasks=tuple(
            SubTask(str(each["state"]), str(each["operator"]), int(each["execute_times"]))
            for each in data["sub_tasks"]
        ),
    )


def _err_code_of(exchange: Exchange) -> Any:
    body = exchange.json()
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return None
    return error["errCode"] if "errCode" in error else error.get("code")


def _first_unfinished(dag: Dag) -> int:
    """The first node that has not ended; the last one, where all have (dag.go:352-377)."""
    open_ones = [p for p, node in enumerate(dag.nodes) if node.state not in ("FAILED", "SUCCEED")]
    return open_ones[0] if open_ones else len(dag.nodes) - 1


def _to_roll_back(dag: Dag) -> list[int]:
    """The nodes that a rollback marks: up to the failed one, or the first untouched."""
    places: list[int] = []
    for place, node in enumerate(dag.nodes):
        if node.state == "PENDING" and node.operator != "ROLLBACK":
            break
        places.append(place)
        if node.state == "FAILED":
            break
    return places


def _is_straight(dag: Dag) -> bool:
    """Whether what a CANCEL marks is the node at the stage.

    It is another one while a rollback runs, and after one was cancelled (dag.go:352-377).
    """
    is_forward = all(node.operator != "ROLLBACK" for node in dag.nodes)
    return is_forward and _first_unfinished(dag) == dag.stage - 1


# --- what an operator does at once ----------------------------------------------------------------


def _after(act: Act, before: Dag) -> Dag | None:
    """What must show right after an act that was accepted; None where no text says."""
    if act.part is not None:
        return _with(before, "READY", "RUN", {act.part: _passed(before.nodes[act.part])})
    match act.word:
        case "RETRY":
            place = before.stage - 1
            return _with(before, "READY", "RUN", {place: _reset(before.nodes[place], "RETRY")})
        case "ROLLBACK":
            places = _to_roll_back(before)
            marked = {place: _reset(before.nodes[place], "ROLLBACK") for place in places}
            return _with(before, "READY", "ROLLBACK", marked) if places else None
        case "CANCEL":
            return _with(before, "READY", "CANCEL", {})
        case "PASS":
            failed = [node.state for node in before.nodes].index("FAILED")
            places_from = range(failed, len(before.nodes))
            passed = {place: _passed(before.nodes[place]) for place in places_from}
            return _with(before, "SUCCEED", "PASS", passed)
    return None


def _with(dag: Dag, state: str, operator: str, nodes: Mapping[int, Node]) -> Dag:
    changed = tuple(nodes.get(place, node) for place, node in enumerate(dag.nodes))
    return replace(dag, state=state, operator=operator, nodes=changed)


def _reset(node: Node, operator: str) -> Node:
    return replace(node, state="PENDING", operator=operator)


def _passed(node: Node) -> Node:
    return replace(node, state="SUCCEED", operator="PASS")


def _judge_cancelled(after: Dag, called: str) -> Look:
    """One node is to be cancelled: which one it is while a rollback runs is the server's quirk."""
    kept = any(node.words == "PENDING/CANCEL" for node in after.nodes)
    said = f"{called} was accepted, and no node is PENDING/CANCEL: the dag shows {after.words}."
    return look("machine.effect", kept, "$.data.nodes[*].operator", said)


def _judge_same_counts(place: int, shown: Node, wanted: Node, called: str) -> Look:
    """An operator runs nothing by itself."""
    new = [each.execute_times for each in shown.sub_tasks]
    old = [each.execute_times for each in wanted.sub_tasks]
    said = f"{called} by itself has changed execute_times of node {shown.name!r}: {old} to {new}."
    return look("machine.count", new == old, f"$.data.nodes[{place}].sub_tasks[*]", said)


# --- where an operator leads ----------------------------------------------------------------------


def _judge_retried(before: Dag, after: Dag, called: str) -> Iterator[Look]:
    """A FAILED sub task is rolled back, and run again if that succeeds; others stay as they are.

    (engine/scheduler/task_handler.go:163-212.)
    """
    place = before.stage - 1
    node = after.nodes[place]
    path = f"$.data.nodes[{place}].sub_tasks[*].execute_times"
    for old, new in zip(before.nodes[place].sub_tasks, node.sub_tasks, strict=False):
        runs = new.execute_times - old.execute_times
        wanted = {"SUCCEED": 0, "PENDING": 1}.get(old.state)
        if wanted is None:
            wanted = 1 if new.operator == "ROLLBACK" else 2
        said = (
            f"after {called} a sub task of node {node.name!r} that was {old.words} is "
            f"{new.words}, and execute_times went from {old.execute_times} to "
            f"{new.execute_times}, and not to {old.execute_times + wanted}."
        )
        yield look("machine.count", runs == wanted, path, said)


def _judge_rolled_back(before: Dag, after: Dag, called: str) -> Iterator[Look]:
    """All that had run is undone, once each; or it has failed, and says so."""
    said = f"{called} has led to {after.words}."
    kept = after.operator == "ROLLBACK"
    yield look("machine.outcome", kept, "$.data.operator", said)
    if (after.state, after.operator) != ("SUCCEED", "ROLLBACK"):
        return
    for place in _to_roll_back(before):
        node = after.nodes[place]
        path = f"$.data.nodes[{place}]"
        kept = node.words == "SUCCEED/ROLLBACK"
        yield look("machine.outcome", kept, f"{path}.state", said)
        for old, new in zip(before.nodes[place].sub_tasks, node.sub_tasks, strict=False):
            has_run = old.words != "PENDING/RUN"
            told = (
                f"after {called} execute_times of node {node.name!r} went from "
                f"{old.execute_times} to {new.execute_times}."
            )
            kept = new.execute_times == old.execute_times + has_run
            yield look("machine.count", kept, f"{path}.sub_tasks[*].execute_times", told)


def _judge_order(dag: Dag) -> Look:
    """While a rollback runs, no node is taken up before all marked ones after it are done."""
    waiting = [p for p, node in enumerate(dag.nodes) if node.words == "PENDING/ROLLBACK"]
    taken_up = [
        p
        for p, node in enumerate(dag.nodes)
        if node.operator == "ROLLBACK" and node.state in ("RUNNING", "SUCCEED", "FAILED")
    ]
    early = [place for place in taken_up if waiting and place < max(waiting)]
    said = f"a node is undone before those after it: the dag shows {dag.words}."
    path = f"$.data.nodes[{early[0]}].state" if early else "$"
    return look("machine.rollback-order", not early, path, said)
