"""Actions of a conformance walk on an obshell dag: each operator, and how it must be answered.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent (service/task, engine/scheduler), and the
recordings of a running 4.5.0.0. No response shows the flags of a node. Where they are not known an
operator may be accepted or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from oceanmock.checks import Action, Probe
from oceanmock.obshell.api import DAG_PATH, TASK_PREFIX
from oceanmock.obshell.ids import GenericId, local_id
from oceanmock.obshell.parse import Dag, read_dag
from oceanmock.obshell.scenario import Scenario
from oceanmock.obshell.versions import ERR_CODES_SINCE, contract_version

GOALS: Final = ("RETRY", "ROLLBACK", "CANCEL", "PASS")
CANCEL: Final = "CANCEL"
UNKNOWN_OPERATORS: Final = ("RUN", "RESTART")
"""Operators of no route; RUN is a word of the API's own (dag.go:338-420)."""
DONE: Final = frozenset({200})
REFUSED: Final = frozenset({400})

read = read_dag


# --- flags ----------------------------------------------------------------------------------------

Flags = Callable[[Dag, int], frozenset[str] | None]
"""The flags of the node at a position (cancel, pass, retry, rollback), or None if not known."""

_USUAL: Final = frozenset({"cancel", "retry", "rollback"})
_NO_CANCEL: Final = frozenset({"retry", "rollback"})
_NO_ROLLBACK: Final = frozenset({"cancel", "retry"})
_INITIALIZE: Final = {
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
}
_KNOWN: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    **{
        ("Initialize cluster", name): flags
        for flags, names in _INITIALIZE.items()
        for name in names
    },
    ("Join self", "Join self"): frozenset(),
    ("Update observer config", "Update observer config"): _NO_ROLLBACK,
    ("Update cluster config", "Update cluster config"): _NO_ROLLBACK,
}
"""By dag and node, as a running 4.5.0.0 stored them."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a run knows of a server beyond its responses; no version stands for the newest."""

    flags: Flags = lambda _dag, _place: None
    version: str = ""


def known_flags(dag: Dag, place: int) -> frozenset[str] | None:
    """Return the flags of a node of a real server's own dag, if they were recorded."""
    return _KNOWN.get((dag.name, dag.nodes[place].name))


def flags_of_scenarios(scenarios: Sequence[Any]) -> Flags:
    """Return the flags of some scenarios' dags, found by their number, or their nodes."""
    scripts = [dag for item in scenarios if isinstance(item, Scenario) for dag in item.dags]

    def flags(dag: Dag, place: int) -> frozenset[str] | None:
        names = [node.name for node in dag.nodes]
        fitting = [
            item
            for item in scripts
            if item.id in (None, dag.number)
            and item.name in (None, dag.name)
            and [node.name or name for node, name in zip(item.nodes, names, strict=False)] == names
            and len(item.nodes) == len(names)
        ]
        several = {frozenset(item.nodes[place].can) for item in fitting}
        return several.pop() if len(several) == 1 else None

    return flags


def server_knowledge(version: str) -> Knowledge:
    """Return what is known of a real server of a version."""
    return Knowledge(known_flags, version)


def mock_knowledge(scenarios: Sequence[Any], version: str) -> Knowledge:
    """Return what is known of the mock that serves some scenarios."""
    return Knowledge(flags_of_scenarios(scenarios), version)


def ids_in(scenario: Scenario) -> list[str]:
    """Return the generic ids of a scenario's dags that have a number and a lock of their own."""
    agent = scenario.agent
    return [
        str(GenericId("cluster", dag.id))
        if dag.scope == "cluster"
        else local_id(dag.id, ip=agent.ip, port=agent.port)
        for dag in scenario.dags
        if dag.id is not None and dag.maintenance != "obproxy"
    ]


# --- actions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Expected:
    """How an operator may be answered: accepted, or refused for one of some reasons."""

    may_be_accepted: bool
    reasons: tuple[str, ...] = ()


_ACCEPTED: Final = _Expected(True)


def path_of(id: str) -> str:
    """Return the path of a dag."""
    return DAG_PATH.format(id=id)


def actions(
    dag: Dag, id: str, *, is_mock: bool, knowledge: Knowledge = Knowledge()
) -> Iterator[Action]:
    """Yield every operator of the dag, PASS of each node, and some that no route has."""
    has_err_codes = contract_version(knowledge.version) >= ERR_CODES_SINCE  # as nodeHandler
    for operator in (*GOALS, *UNKNOWN_OPERATORS):
        rule = _DAG_RULES.get(operator)
        expected = (
            _Expected(False, ("Task.Dag.Operator.NotSupport",))
            if rule is None
            else rule(dag, knowledge.flags)
        )
        what = f"{operator} of the dag, which is {dag.state}/{dag.operator} at stage {dag.stage},"
        state = f"{dag.state}/{dag.operator}"
        yield _action(operator, what, path_of(id), expected, state, has_err_codes=has_err_codes)
    for place, node in enumerate(dag.nodes if has_err_codes else ()):
        target = f"{TASK_PREFIX}/node/{node.id}"
        what = f"PASS of node {node.name!r}, which is {node.words},"
        state = f"node {dag.state}/{dag.operator}/{node.words}"
        expected = _pass_of_node(dag, place, knowledge.flags)
        yield _action("PASS", what, target, expected, state, has_err_codes=True)
        if place == 0:
            unknown = _Expected(False, ("Task.Node.Operator.NotSupport",))
            what = what.replace("PASS", "RETRY", 1)
            yield _action("RETRY", what, target, unknown, state, has_err_codes=True)


def _action(
    operator: str, what: str, target: str, expected: _Expected, state: str, *, has_err_codes: bool
) -> Action:
    statuses = DONE if expected.may_be_accepted else frozenset[int]()
    for reason in expected.reasons:
        is_refusal = has_err_codes and reason != NO_NODE
        statuses |= REFUSED if is_refusal else frozenset({500})  # how older versions refuse
    probe = Probe(
        what,
        "POST",
        target,
        statuses,
        expected.reasons if has_err_codes else (),
        accepted=_rule_of(expected),
        refused="call.legal-refused",
        headers={"Content-Type": "application/json"},
        body=orjson.dumps({"operator": operator}),
        is_wrong=not expected.may_be_accepted,
    )
    return Action(operator, probe, state, is_safe=operator == CANCEL)


def _rule_of(expected: _Expected) -> str:
    """Return the rule that fails where an operator is accepted that must be refused."""
    if any(reason.endswith("NotSupport") for reason in expected.reasons):
        return "call.unknown-accepted"
    is_of_flags = any(reason.endswith("NotAllowed") for reason in expected.reasons)
    return "call.flag-ignored" if is_of_flags else "call.illegal-accepted"


NO_NODE: Final = "Common.Unexpected"


def _retry(dag: Dag, flags: Flags) -> _Expected:
    if dag.state != "FAILED":
        return _Expected(False, ("Task.Dag.Operator.RetryNotFailedDag",))
    place = min(max(dag.stage, 1), len(dag.nodes)) - 1
    return _by_flags(dag, flags, [place], "retry", "Task.Dag.Operator.RetryNotAllowed")


def _cancel(dag: Dag, flags: Flags) -> _Expected:
    """Ask every node up to the first unfinished one (dag.go:352-377).

    While a rollback runs, a server without that quirk asks those up to the stage.
    """
    if dag.state in ("FAILED", "SUCCEED"):
        return _Expected(False, ("Task.Dag.Operator.CancelFinishedDag",))
    unfinished = [p for p, node in enumerate(dag.nodes) if node.state not in ("FAILED", "SUCCEED")]
    upto = unfinished[0] if unfinished else len(dag.nodes) - 1
    reason = "Task.Dag.Operator.CancelNotAllowed"
    expected = _by_flags(dag, flags, range(upto + 1), "cancel", reason)
    if dag.operator != "ROLLBACK":
        return expected
    other = _by_flags(dag, flags, range(max(dag.stage, upto + 1)), "cancel", reason)
    return _Expected(
        expected.may_be_accepted or other.may_be_accepted, expected.reasons or other.reasons
    )


def _pass(dag: Dag, flags: Flags) -> _Expected:
    if dag.state != "FAILED":
        return _Expected(False, ("Task.Dag.Operator.PassNotFailedDag",))
    places = [place for place, node in enumerate(dag.nodes) if node.state != "SUCCEED"]
    return _by_flags(dag, flags, places, "pass", "Task.Dag.Operator.PassNotAllowed")


def _rollback(dag: Dag, flags: Flags) -> _Expected:
    """Ask the nodes up to the failed one, or the first that never ran.

    There is none after a cancelled rollback, at which a real server fails.
    """
    if dag.state != "FAILED":
        return _Expected(False, ("Task.Dag.Operator.RollbackNotFailedDag",))
    places: list[int] = []
    for place, node in enumerate(dag.nodes):
        if node.state == "PENDING" and node.operator != "ROLLBACK":
            break
        places.append(place)
        if node.state == "FAILED":
            break
    if not places:
        return _Expected(True, (NO_NODE,))
    return _by_flags(dag, flags, places, "rollback", "Task.Dag.Operator.RollbackNotAllowed")


def _pass_of_node(dag: Dag, place: int, flags: Flags) -> _Expected:
    if dag.state != "FAILED":
        return _Expected(False, ("Task.Node.Operator.PassNotFailedDag",))
    if dag.nodes[place].state != "FAILED":
        return _Expected(False, ("Task.Node.Operator.PassNotFailedNode",))
    return _by_flags(dag, flags, [place], "pass", "Task.Node.Operator.PassNotAllowed")


def _by_flags(dag: Dag, flags: Flags, places: Iterable[int], flag: str, reason: str) -> _Expected:
    """Return accepted if all these nodes have a flag, and either if one's flags are not known."""
    several = [flags(dag, place) for place in places]
    if any(existing is not None and flag not in existing for existing in several):
        return _Expected(False, (reason,))
    return _Expected(True, (reason,)) if None in several else _ACCEPTED


_DAG_RULES: Final[Mapping[str, Callable[[Dag, Flags], _Expected]]] = {
    "RETRY": _retry,
    "ROLLBACK": _rollback,
    "CANCEL": _cancel,
    "PASS": _pass,
}


def is_retry(action: Action) -> bool:
    """Return whether an action makes something run again."""
    return action.goal == "RETRY"


def log_paths(before: Dag, after: Dag, id: str) -> Iterable[str]:
    """Return no path: a dag shows the logs of its sub tasks itself."""
    return ()
