"""Check what only a whole obshell scenario shows, and simulate its story.

``check_names`` reads the file's data and checks ids and references; each rule below takes a
validated scenario and yields its issues. Rule names are stable. Nothing here knows YAML or lines.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, pairwise
from typing import Any, Final, cast

from oceanmock.clock import SECOND
from oceanmock.errors import IllegalOperator
from oceanmock.obshell import machine
from oceanmock.obshell.api import API, Identity, Operator
from oceanmock.obshell.scenario import (
    Attempt,
    Dag,
    Node,
    ObshellFault,
    Scenario,
    Step,
    SubTask,
    TenantLock,
    Until,
    excludes,
    has_succeeded,
    is_in_time,
    node_number,
    number_below,
    rules_of,
    script_of,
    sub_task_number,
)
from oceanmock.scenario import story
from oceanmock.scenario.diagnostics import Issue, Loc, Wording
from oceanmock.scenario.loader import Format
from oceanmock.scenario.names import ListKind, NamedPart, check_ids, check_story, outline
from oceanmock.scenario.story import label_of, positions_of

# --- ids and references ---------------------------------------------------------------------------

_NAMED_LISTS: Final = (
    ListKind("dags", "dag", where="this file"),
    ListKind("nodes", "node", where="this dag"),
    ListKind("sub_tasks", "sub task", where="this node", inherits_name=True, is_implicit=True),
)


def check_names(data: Any) -> Iterator[Issue]:
    """Yield duplicate ids, and unknown or ambiguous references, in a file's data.

    Dags, nodes and sub tasks count apart, and so do the two stores.
    """
    dags = outline(data, _NAMED_LISTS, number_below)
    groups: defaultdict[tuple[object, int], list[tuple[NamedPart, NamedPart]]] = defaultdict(list)
    for dag in dags.things:
        scope = str(dag.data.get("scope", "agent"))
        groups[scope, 0].append((dag, dag))
        for node in dag.parts.things:
            groups[scope, 1].append((dag, node))
            groups[scope, 2] += [(dag, sub_task) for sub_task in node.parts.things]
    for group in groups.values():
        yield from check_ids([thing for _, thing in group])
        by_id = {thing.number: thing for _, thing in reversed(group) if thing.ids}
        for dag, thing in group:
            owner = None if thing.ids else by_id.get(thing.number)
            if owner is not None:
                name = f" {thing.name!r}" if thing.name else ""
                what = f"{thing.kind.noun}{name} of dag {dag.name or dag.number!r} gets {thing.number}"
                yield Issue((*owner.loc, "id"), "duplicate-id", f"{what}, having no id itself")
    yield from check_story(data, dags, "dag", "node", "sub_task")


# --- the story ------------------------------------------------------------------------------------


def simulate_story(scenario: Scenario, *, steps: int | None = None) -> story.StoryRun[ObshellActor]:
    """Run the scenario's story, or its first steps. Raises StoryDivergesError."""
    actors = [
        ObshellActor(
            -dag.age,
            label_of(dag, number),
            tuple(map(label_of, dag.nodes, count())),
            machine.start(script_of(dag), rules_of(scenario.tick, scenario.phase, scenario.switches, age=dag.age)),
            dag,
            scenario,
        )
        for number, dag in enumerate(scenario.dags)
    ]
    waiting = [place for place, dag in enumerate(scenario.dags) if dag.starts_on]
    return story.simulate(actors, steps_of(scenario)[:steps], waiting=waiting)


def steps_of(scenario: Scenario) -> list[story.Action]:
    """Return the story's steps, with positions for references, which have been checked."""
    positions = positions_of((dag.id, dag.name) for dag in scenario.dags)
    steps = list[story.Action]()
    for step in scenario.story:
        target = step.until or step
        reference = step.start if step.start is not None else target.dag
        if reference is None:
            steps.append(story.WaitAction(step.wait or 0))
            continue
        place = positions[reference]
        part = _part_of(scenario.dags[place], target)
        if step.start is not None:
            steps.append(story.StartAction(place, step.answers))
        elif step.until is None:
            steps.append(story.CallAction(place, part, str(step.operator), step.answers))
        else:
            until = step.until
            stage = () if until.stage is None else (_stage(until.stage),)
            steps.append(story.UntilAction(place, part, (until.state, until.operator, *stage)))
    return steps


def _part_of(dag: Dag, target: Until | Step) -> story.PartPath:
    if target.node is None:
        return ()
    names = [(node_number(dag, place), node.name) for place, node in enumerate(dag.nodes)]
    place = positions_of(names)[target.node]
    if isinstance(target, Step) or target.sub_task is None:
        return (place,)
    node = dag.nodes[place]
    names = [
        (sub_task_number(dag, place, nth), sub_task.name or node.name) for nth, sub_task in enumerate(node.sub_tasks)
    ]
    return place, positions_of(names)[target.sub_task]


def _stage(number: int) -> str:
    return f"stage {number}"


@dataclass(frozen=True, slots=True)
class ObshellActor(story.Actor):
    """A dag of a story; its parts are its nodes, and theirs the sub tasks."""

    history: machine.History
    dag: Dag | None = None
    scenario: Scenario | None = None

    def shows(self, part: story.PartPath) -> Iterator[story.Display]:
        """Yield its state and operator in each state; of the dag itself the stage as well."""
        for state in self.history.states:
            if not part:
                words = (state.state, state.operator, _stage(state.stage))
                yield story.Display(state.at, words)
                continue
            node = state.nodes[part[0]]
            it = node.sub_tasks[part[1]] if len(part) > 1 else node
            yield story.Display(state.at, (it.state, it.operator))

    def start(self, instant: int, others: Sequence[ObshellActor]) -> ObshellActor | story.Refusal:
        """Return the dag started at an instant, if the agent's identity and locks allow it."""
        dag, scenario = self.dag, self.scenario
        if dag is None or scenario is None:
            raise ValueError("only a dag of a file can be started")
        required = dag.starts_on.identity if dag.starts_on else ()
        identity = _identity_at(instant, scenario, others)
        if required and identity not in required:
            reason = f"the agent is {identity}, instead of {' or '.join(required)}"
            return story.Refusal(400, reason)
        for other in others:
            is_over = machine.view_at(other.history, instant - other.created).is_finished
            if other.dag is not None and excludes(other.dag, dag) and not is_over:
                return story.Refusal(500, f"{other.called(())} is not finished")
        rules = rules_of(scenario.tick, scenario.phase - instant, scenario.switches, age=0)
        return replace(self, created=instant, history=machine.start(self.history.script, rules))

    def operate(self, operation: str, part: story.PartPath, instant: int) -> ObshellActor | story.Refusal:
        """Return the dag after an operator for it, or for one of its nodes."""
        node = part[0] if part else None
        try:
            history = machine.operate(self.history, cast("Operator", operation), instant, node=node)
        except IllegalOperator as refusal:
            return self._refusal(refusal, instant)
        return replace(self, history=history)

    def called(self, part: story.PartPath) -> str:
        """Return what messages call it; a sub task by its place, as most have their node's name."""
        whole = story.Actor.called(self, part)  # a class with slots has lost its super()
        return f"sub task {part[1] + 1} of {whole}" if len(part) > 1 else whole

    def _refusal(self, refusal: IllegalOperator, instant: int) -> story.Refusal:
        """Return the server's errCode, and what causes it."""
        if refusal.reason == "NoNodeFailed":
            return story.Refusal(500, "Common.Unexpected (no node failed)")
        dag = machine.view_at(self.history, instant)
        what = f"the dag is {dag.state}/{dag.operator}"
        if refusal.node is not None:
            node, can = dag.nodes[refusal.node], self.history.script.nodes[refusal.node].can
            what = f"node {self.names[refusal.node]!r} is {node.state}/{node.operator}"
            if refusal.reason.endswith("NotAllowed"):
                allowed = ", ".join(sorted(can)) or "nothing"
                what = f"node {self.names[refusal.node]!r} can {allowed}"
        return story.Refusal(400, f"Task.{refusal.reason} ({what})")


def _identity_at(instant: int, scenario: Scenario, actors: Sequence[ObshellActor]) -> Identity:
    """Return the agent's identity at an instant, after the dags that have succeeded by then."""
    made = list[tuple[int, Identity]]()
    for actor in actors:
        state = machine.view_at(actor.history, instant - actor.created)
        if actor.dag is not None and actor.dag.makes is not None and has_succeeded(state):
            made.append((actor.created + state.at, actor.dag.makes.identity))
    return max(made)[1] if made else scenario.agent.identity


# --- the rules ------------------------------------------------------------------------------------


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
    positions = positions_of((dag.id, dag.name) for dag in scenario.dags)
    for number, step in enumerate(scenario.story):
        if step.until is not None and step.until.stage is not None:
            nodes = len(scenario.dags[positions[step.until.dag]].nodes)
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
    wording=Wording(
        API.title,
        server_words=frozenset(("can", "ends", "identity", "mode", "operation", "state", "status", "type")),
        choices={"maintenance": ("none", "global", "obproxy", "{tenant: …}")},
        unnamed="sub_tasks",
    ),
    check_names=check_names,
    rules=(_scopes, _times, _attempts),
    simulate=simulate_story,
)
