"""Check what only a whole obshell scenario shows, and simulate its story.

Each rule takes a validated scenario and yields its issues. Rule names are stable. Nothing here knows YAML or lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar, Final

from oceanmock.clock import SECOND
from oceanmock.errors import IllegalOperator
from oceanmock.obshell import machine
from oceanmock.obshell.api import API, Identity
from oceanmock.obshell.scenario import (
    Attempt,
    Dag,
    Node,
    ObshellFault,
    Scenario,
    SubTask,
    TenantLock,
    excludes,
    has_succeeded,
    is_in_time,
    number_below,
    rules_of,
    script_of,
)
from oceanmock.scenario.document import Issue, Loc, Wording
from oceanmock.scenario.story import Actor, Format, ListKind, Refusal, UntilAction, label_of


class ObshellActor(Actor):
    """A dag of a story; its parts are its nodes, and theirs the sub tasks."""

    api: ClassVar = API
    machine: ClassVar = machine

    @staticmethod
    def begin(scenario: Scenario, script: Dag, created: int) -> machine.History:
        """Return the history of a dag; the scheduler's ticks stay where they are."""
        return machine.start(script_of(script), rules_of(scenario.tick, scenario.phase - created, scenario.switches))

    def start(self, instant: int, others: Sequence[ObshellActor]) -> ObshellActor | Refusal:
        """Return the dag started at an instant, if the agent's identity and locks allow it."""
        states = [(other, machine.view_at(other.history, instant - other.created)) for other in others]
        made: list[tuple[int, Identity]] = [
            (other.created + state.at, other.script.makes.identity)
            for other, state in states
            if other.script.makes is not None and has_succeeded(state)
        ]
        identity, required = max(made)[1] if made else self.scenario.agent.identity, self.script.starts_on.identity
        if required and identity not in required:
            return Refusal(400, f"the agent is {identity}, instead of {' or '.join(required)}")
        for other, state in states:
            if excludes(other.script, self.script) and not state.is_finished:
                return Refusal(500, f"{other.called(())} is not finished")
        return super().start(instant, others)

    def refusal(self, error: IllegalOperator, instant: int) -> Refusal:
        """Return the server's errCode, and what causes it."""
        if error.reason == "NoNodeFailed":
            return Refusal(500, "Common.Unexpected (no node failed)")
        dag = machine.view_at(self.history, instant)
        what = f"the dag is {dag.state}/{dag.operator}"
        if error.node is not None:
            name, node = f"node {self.names[error.node]!r}", dag.nodes[error.node]
            what = f"{name} is {node.state}/{node.operator}"
            if error.reason.endswith("NotAllowed"):
                what = f"{name} can {', '.join(sorted(self.history.script.nodes[error.node].can)) or 'nothing'}"
        return Refusal(400, f"Task.{error.reason} ({what})")


def _scopes(scenario: Scenario) -> Iterator[Issue]:
    identity = scenario.agent.identity
    for number, dag in enumerate(scenario.dags):
        loc: Loc = ("dags", number)
        if dag.scope == "cluster" and identity != "CLUSTER AGENT":
            what = f"only a CLUSTER AGENT keeps dags in OceanBase, and this agent is {identity}"
            hint = "Give the agent `identity: CLUSTER AGENT`, or leave `scope` out."
            yield Issue((*loc, "scope"), "wrong-scope", what, hint)
        if isinstance(dag.maintenance, TenantLock) and dag.scope == "agent":
            what = "a dag that the agent keeps itself cannot maintain a tenant"
            hint = "Give the dag `scope: cluster`."
            yield Issue((*loc, "maintenance"), "wrong-scope", what, hint)


def _times(scenario: Scenario) -> Iterator[Issue]:
    """Yield a first tick that is too late, and stages that a story waits for in vain."""
    if scenario.phase >= scenario.tick:
        what = f"`phase` is not shorter than the tick of {scenario.tick / SECOND:g} s"
        yield Issue(("phase",), "out-of-range", what, "There is a tick before it.")
    for number, (step, action) in enumerate(zip(scenario.story, FORMAT.steps_of(scenario), strict=True)):
        if step.until is not None and step.until.stage is not None and isinstance(action, UntilAction):
            nodes = len(scenario.dags[action.actor].nodes)
            if step.until.stage > nodes:
                what = f"a dag of {nodes} nodes is never at stage {step.until.stage}"
                yield Issue(("story", number, "until", "stage"), "unknown-value", what)


def _attempts(scenario: Scenario) -> Iterator[Issue]:
    """Yield attempts that are never reached, and those that cannot succeed in time."""
    for node, sub_task, label, loc in _sub_tasks(scenario):
        for nth, (before, _) in enumerate(pairwise(sub_task.runs), start=1):
            if hint := _why_no_other_run(node, sub_task, before, nth=nth):
                what = f"attempt {nth + 1} of {label} is never reached"
                yield Issue((*loc, "attempts", nth), "unreachable-attempt", what, hint)
        if sub_task.rollback[1:] and not {"retry", "rollback"} & set(node.can):
            what = f"rollback attempt 2 of {label} is never reached"
            hint = "Say that the node `can: [rollback]`, or remove this."
            yield Issue((*loc, "rollback", 1), "unreachable-attempt", what, hint)
        for key, attempts in (("attempts", sub_task.runs), ("rollback", sub_task.rollback)):
            for nth, attempt in enumerate(attempts):
                if attempt.ends == "SUCCEED" and not is_in_time(attempt, node):
                    which = "rollback attempt" if key == "rollback" else "attempt"
                    what = (
                        f"{which} {nth + 1} of {label} cannot end SUCCEED: "
                        f"it takes longer than the timeout of {node.timeout} s"
                    )
                    way = () if attempt is sub_task else (key, nth)
                    hint = "Raise the timeout."
                    yield Issue((*loc, *way, "ends"), "impossible-outcome", what, hint)


def _sub_tasks(scenario: Scenario) -> Iterator[tuple[Node, SubTask, str, Loc]]:
    """Yield each sub task with its node, what messages call it, and the way to it."""
    for number, dag in enumerate(scenario.dags):
        for place, node in enumerate(dag.nodes):
            for nth, sub_task in enumerate(node.sub_tasks):
                loc: Loc = ("dags", number, "nodes", place, "sub_tasks", nth)
                label = f"sub task {nth + 1} of node {label_of(node, place)!r}"
                yield node, sub_task, label, loc


def _why_no_other_run(node: Node, sub_task: SubTask, before: Attempt, *, nth: int) -> str:
    """Return why nothing runs it again, or "".

    Only a RETRY does, if it failed, was cancelled, or failed to roll back. A rollback is repeated
    whenever another sub task fails to roll back, so nothing is said of that.
    """
    if "retry" not in node.can:
        return "Only a retry runs it again; say that the node `can: [retry]`, or remove this."
    rolls_back_badly = any(_fails(attempt, node) for attempt in sub_task.rollback)
    is_left = "cancel" in node.can or ("rollback" in node.can and rolls_back_badly)
    if is_left or _fails(before, node):
        return ""
    return f"Attempt {nth} succeeds; say `ends: FAILED` there, or remove this."


def _fails(attempt: Attempt, node: Node) -> bool:
    """Return whether the attempt fails unless it is cancelled."""
    return attempt.outcome == "FAILED" or not is_in_time(attempt, node)


FORMAT: Final = Format(
    api=API,
    model=Scenario,
    fault=ObshellFault,
    actor=ObshellActor,
    wording=Wording(
        API.title,
        server_words=frozenset(("can", "ends", "identity", "mode", "operation", "state", "status", "type")),
        choices={"maintenance": ("none", "global", "obproxy", "{tenant: …}")},
        unnamed="sub_tasks",
    ),
    lists=(
        ListKind("dags", "dag", where="this file"),
        ListKind("nodes", "node", where="this dag"),
        ListKind("sub_tasks", "sub task", where="this node", inherits_name=True, is_implicit=True),
    ),
    numbered=number_below,
    rules=(_scopes, _times, _attempts),
)
