"""What only a whole obshell scenario can show: numbers, scopes, unreachable runs, its story.

Each rule takes a scenario that its models accept and yields what breaks it; ``check`` asks them
all, then tells the story. Rule names are stable. Nothing here knows YAML, lines or files. What a
machine makes of a run is said in ``lifecycle.obshell``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, cast

from oceanmock.clock import SECOND
from oceanmock.errors import IllegalOperator
from oceanmock.obshell import api as obshell_api
from oceanmock.obshell import machine as obshell
from oceanmock.obshell import states as obshell_states
from oceanmock.obshell.scenario import (
    Attempt,
    Dag,
    Identity,
    Node,
    Scenario,
    Step,
    SubTask,
    TenantLock,
    Until,
    excludes,
    find_dags,
    find_nodes,
    find_sub_tasks,
    has_succeeded,
    is_in_time,
    node_number,
    rules_of,
    script_of,
    sub_task_number,
)
from oceanmock.scenario import story
from oceanmock.scenario.checks import ask, unless_one
from oceanmock.scenario.diagnostics import Found, Loc
from oceanmock.scenario.fault_checks import check_faults
from oceanmock.scenario.fields import Reference
from oceanmock.scenario.submit_checks import check_starts, check_templates
from oceanmock.text import suggest

_STATES: Final = {
    "dag": ("READY", "RUNNING", "FAILED", "SUCCEED"),
    "node": ("PENDING", "RUNNING", "FAILED", "SUCCEED"),
    "sub task": ("PENDING", "RUNNING", "FAILED", "SUCCEED"),
}
_OPERATORS: Final = {
    "dag": ("RUN", "ROLLBACK", "CANCEL", "PASS"),
    "node": ("RUN", "RETRY", "ROLLBACK", "CANCEL", "PASS"),
    "sub task": ("RUN", "ROLLBACK", "PASS"),
}
_INSTEAD: Final = {
    ("dag", "PENDING"): "A dag is READY until the scheduler takes it up.",
    ("node", "READY"): "A node is PENDING until it runs.",
    ("sub task", "READY"): "A sub task is PENDING until it runs.",
    ("dag", "RETRY"): "A retried dag shows RUN; the node at its stage shows RETRY.",
    ("sub task", "RETRY"): "A retried sub task shows ROLLBACK, and then RUN.",
    ("sub task", "CANCEL"): "A cancelled sub task keeps its operator, and is FAILED.",
}
"""What shows where an author might look for something else."""


def check(scenario: Scenario, *, tell_story: bool = True) -> list[Found]:
    """Everything that is wrong with the whole; the story is told only when nothing else is."""
    return ask(scenario, _RULES, tell if tell_story else None)


def tell(scenario: Scenario, *, steps: int | None = None) -> story.Told[ObshellActor]:
    """The scenario's story, or its first steps. Raises StoryDivergesError if it cannot happen."""
    actors = [
        ObshellActor(
            -dag.age,
            _called(dag, number),
            tuple(_called(node, place) for place, node in enumerate(dag.nodes)),
            obshell.start(
                script_of(dag),
                rules_of(scenario.tick, scenario.phase, scenario.switches, age=dag.age),
            ),
            dag,
            scenario,
        )
        for number, dag in enumerate(scenario.dags)
    ]
    unborn = [place for place, dag in enumerate(scenario.dags) if dag.starts_on]
    return story.tell(actors, steps_of(scenario)[:steps], unborn=unborn)


def steps_of(scenario: Scenario) -> list[story.Step]:
    """The story's steps, with positions for references; what is wrong with those is not asked."""
    return [_resolve(scenario, step) for step in scenario.story]


@dataclass(frozen=True, slots=True)
class ObshellActor(story.Actor):
    """A dag of a story; its parts are its nodes, and theirs the sub tasks."""

    life: obshell.History
    dag: Dag | None = None
    scenario: Scenario | None = None

    def shows(self, part: story.Part) -> Iterator[story.Shown]:
        """Its state and operator in each state of its life; of the dag itself the stage, too."""
        for state in self.life.states:
            if not part:
                words = (state.state, state.operator, _stage(state.stage))
                yield story.Shown(state.at, words)
                continue
            node = state.nodes[part[0]]
            it = node.sub_tasks[part[1]] if len(part) > 1 else node
            yield story.Shown(state.at, (it.state, it.operator))

    def start(self, instant: int, others: Sequence[ObshellActor]) -> ObshellActor | story.Refusal:
        """The dag born at an instant, if the agent does such things, and no lock is in its way."""
        dag, scenario = self.dag, self.scenario
        if dag is None or scenario is None:
            raise ValueError("only a dag of a file can be started")
        wanted = dag.starts_on.identity if dag.starts_on else ()
        identity = _identity_at(instant, scenario, others)
        if wanted and identity not in wanted:
            return story.Refusal(400, f"the agent is {identity}, instead of {' or '.join(wanted)}")
        for each in others:
            is_over = obshell.view_at(each.life, instant - each.born).is_finished
            if each.dag is not None and excludes(each.dag, dag) and not is_over:
                return story.Refusal(500, f"{each.called(())} is not finished")
        rules = rules_of(scenario.tick, scenario.phase - instant, scenario.switches, age=0)
        return replace(self, born=instant, life=obshell.start(self.life.script, rules))

    def operate(
        self, operation: str, part: story.Part, instant: int
    ) -> ObshellActor | story.Refusal:
        """The dag after an operator for it, or for one of its nodes."""
        operator, node = cast("obshell_api.Operator", operation), part[0] if part else None
        try:
            life = obshell.operate(self.life, operator, instant, node=node)
        except IllegalOperator as refusal:
            return self._refusal(refusal, instant)
        return replace(self, life=life)

    def called(self, part: story.Part) -> str:
        """A sub task is named by its place: most have their node's name."""
        whole = story.Actor.called(self, part)  # a class with slots has lost its super()
        return f"sub task {part[1] + 1} of {whole}" if len(part) > 1 else whole

    def _refusal(self, refusal: IllegalOperator, instant: int) -> story.Refusal:
        """The errCode, and what makes the server say it."""
        if refusal.reason == "NoNodeFailed":
            return story.Refusal(500, "Common.Unexpected (no node failed)")
        dag = obshell.view_at(self.life, instant)
        what = f"the dag is {dag.state}/{dag.operator}"
        if refusal.node is not None:
            node, can = dag.nodes[refusal.node], self.life.script.nodes[refusal.node].can
            what = f"node {self.names[refusal.node]!r} is {node.state}/{node.operator}"
            if refusal.reason.endswith("NotAllowed"):
                allowed = ", ".join(sorted(can)) or "nothing"
                what = f"node {self.names[refusal.node]!r} can {allowed}"
        return story.Refusal(400, f"Task.{refusal.reason} ({what})")


def _identity_at(instant: int, scenario: Scenario, actors: Sequence[ObshellActor]) -> Identity:
    """What the agent is at an instant, by what has succeeded on it."""
    made = list[tuple[int, Identity]]()
    for each in actors:
        state = obshell.view_at(each.life, instant - each.born)
        if each.dag is not None and each.dag.makes is not None and has_succeeded(state):
            made.append((each.born + state.at, each.dag.makes.identity))
    return max(made)[1] if made else scenario.agent.identity


# --- the rules ------------------------------------------------------------------------------------


def _numbers_given_twice(scenario: Scenario) -> Iterator[Found]:
    """Dags, nodes and sub tasks count apart, and the two stores count apart."""
    given: dict[tuple[str, str, int], Loc] = {}
    for dag, kind, thing, loc in _things(scenario):
        if thing.id is None:
            continue
        if (dag.scope, kind, thing.id) in given:
            what = f"another {kind} of this file already has id {thing.id}"
            yield Found((*loc, "id"), "duplicate-id", what)
        given.setdefault((dag.scope, kind, thing.id), loc)
    for dag, kind, thing, number in _numbers_not_given(scenario):
        if loc := given.get((dag.scope, kind, number), ()):
            named = f" {thing.name!r}" if thing.name else ""
            what = f"{kind}{named} of dag {dag.name or dag.id!r} gets {number}, having no id itself"
            yield Found((*loc, "id"), "duplicate-id", what)


def _numbers_not_given(scenario: Scenario) -> Iterator[tuple[Dag, str, Node | SubTask, int]]:
    """What has no id in the file, and which it gets."""
    for dag, kind, thing, loc in _things(scenario):
        place = [int(step) for step in loc[3::2]]
        if thing.id is not None or isinstance(thing, Dag):
            continue
        number = node_number(dag, *place) if len(place) == 1 else sub_task_number(dag, *place)
        if number is not None:
            yield dag, kind, thing, number


def _templates(scenario: Scenario) -> Iterator[Found]:
    templates = [
        (("dags", number), dag.starts_on)
        for number, dag in enumerate(scenario.dags)
        if dag.starts_on is not None
    ]
    yield from check_starts("obshell", templates)
    for dag, _, thing, loc in _things(scenario):
        if dag.starts_on is not None:
            keys = [key for key in ("id", "age") if getattr(thing, key, None)]
            yield from check_templates([(loc, keys)])


def _scopes(scenario: Scenario) -> Iterator[Found]:
    identity = scenario.agent.identity
    for number, dag in enumerate(scenario.dags):
        loc: Loc = ("dags", number)
        if dag.scope == "cluster" and identity != "CLUSTER AGENT":
            what = f"only a CLUSTER AGENT keeps dags in OceanBase, and this agent is {identity}"
            hint = "Give the agent `identity: CLUSTER AGENT`, or leave `scope` out."
            yield Found((*loc, "scope"), "wrong-scope", what, hint)
        if isinstance(dag.maintenance, TenantLock) and dag.scope == "agent":
            what = "a dag that the agent keeps itself cannot maintain a tenant"
            hint = "Give the dag `scope: cluster`."
            yield Found((*loc, "maintenance"), "wrong-scope", what, hint)


def _first_tick(scenario: Scenario) -> Iterator[Found]:
    if scenario.phase >= scenario.tick:
        what = f"`phase` is not shorter than the tick of {scenario.tick / SECOND:g} s"
        yield Found(("phase",), "out-of-range", what, "There is a tick before it.")


def _attempts_nobody_can_reach(scenario: Scenario) -> Iterator[Found]:
    for node, sub_task, called, loc in _sub_tasks(scenario):
        for nth, (before, _) in enumerate(pairwise(sub_task.runs), start=1):
            if hint := _why_no_other_run(node, sub_task, before, nth):
                what = f"attempt {nth + 1} of {called} is never reached"
                yield Found((*loc, "attempts", nth), "unreachable-attempt", what, hint)
        if sub_task.rollback[1:] and not {"retry", "rollback"} & set(node.can):
            what = f"rollback attempt 2 of {called} is never reached"
            hint = "Say that the node `can: [rollback]`, or remove this."
            yield Found((*loc, "rollback", 1), "unreachable-attempt", what, hint)


def _why_no_other_run(node: Node, sub_task: SubTask, before: Attempt, nth: int) -> str:
    """Only a RETRY runs it again, and only if it failed, was cancelled, or failed to roll back.

    It is rolled back again whenever another one fails to roll back; so nothing is said of that.
    """
    if "retry" not in node.can:
        return "Only a retry runs it again; say that the node `can: [retry]`, or remove this."
    rolls_back_badly = any(_outcome(each, node) == "FAILED" for each in sub_task.rollback)
    if _outcome(before, node) == "FAILED" or "cancel" in node.can:
        return ""
    if "rollback" in node.can and rolls_back_badly:
        return ""
    return f"Attempt {nth} succeeds; say `ends: FAILED` there, or remove this."


def _outcomes_out_of_time(scenario: Scenario) -> Iterator[Found]:
    for node, sub_task, called, loc in _sub_tasks(scenario):
        for which, run, way in _runs(sub_task):
            if run.ends == "SUCCEED" and not is_in_time(run, node):
                what = (
                    f"{which} of {called} cannot end SUCCEED: "
                    f"it takes longer than the timeout of {node.timeout} s"
                )
                yield Found((*loc, *way, "ends"), "impossible-outcome", what, "Raise the timeout.")


def _story_references(scenario: Scenario) -> Iterator[Found]:
    for number, step in enumerate(scenario.story):
        loc: Loc = ("story", number) if step.until is None else ("story", number, "until")
        whom = step.until or step
        if whom.dag is not None:
            yield from _references_of(scenario, whom, whom.dag, loc)
        if step.start is not None:
            yield from _starts(scenario, step.start, (*loc, "start"))
        if step.until is not None:
            yield from _words_of_another_kind(step.until, loc)


def _starts(scenario: Scenario, name: str, loc: Loc) -> Iterator[Found]:
    found = find_dags(scenario.dags, name)
    names = [each.name for each in scenario.dags if each.name and each.starts_on]
    yield from unless_one(len(found), name, noun="dag", where="this file", names=names, loc=loc)
    if len(found) == 1 and scenario.dags[found[0]].starts_on is None:
        what = f"dag {name!r} is there from the start"
        yield Found(loc, "wrong-start", what, "Say what it `starts_on`.")


def _references_of(
    scenario: Scenario, whom: Until | Step, reference: Reference, loc: Loc
) -> Iterator[Found]:
    dags = find_dags(scenario.dags, reference)
    names = _names((each.id, each.name) for each in scenario.dags)
    yield from unless_one(
        len(dags), reference, noun="dag", where="this file", names=names, loc=(*loc, "dag")
    )
    if len(dags) == 1:
        dag = scenario.dags[dags[0]]
        yield from _stage_beyond_the_last(dag, whom, loc)
        if whom.node is not None:
            yield from _references_in(dag, whom, whom.node, loc)


def _references_in(dag: Dag, whom: Until | Step, reference: Reference, loc: Loc) -> Iterator[Found]:
    """What is wrong with a step's node and sub task, now that its dag is known."""
    nodes = find_nodes(dag, reference)
    names = _names((node_number(dag, place), node.name) for place, node in enumerate(dag.nodes))
    yield from unless_one(
        len(nodes), reference, noun="node", where="this dag", names=names, loc=(*loc, "node")
    )
    if len(nodes) != 1 or isinstance(whom, Step) or whom.sub_task is None:
        return
    found = find_sub_tasks(dag, nodes[0], whom.sub_task)
    sub_tasks = enumerate(dag.nodes[nodes[0]].sub_tasks)
    names = _names((sub_task_number(dag, nodes[0], place), each.name) for place, each in sub_tasks)
    where = (*loc, "sub_task")
    yield from unless_one(
        len(found), whom.sub_task, noun="sub task", where="this node", names=names, loc=where
    )


def _stage_beyond_the_last(dag: Dag, whom: Until | Step, loc: Loc) -> Iterator[Found]:
    if isinstance(whom, Until) and (whom.stage or 0) > len(dag.nodes):
        what = f"a dag of {len(dag.nodes)} nodes is never at stage {whom.stage}"
        yield Found((*loc, "stage"), "unknown-value", what)


def _names(pairs: Iterable[tuple[int | None, str | None]]) -> list[str]:
    return [str(name) for pair in pairs for name in pair if name]


def _words_of_another_kind(until: Until, loc: Loc) -> Iterator[Found]:
    """What a dag shows, a node never does, and so on: a retried dag is RUN, and its node RETRY."""
    kind = "dag" if until.node is None else "node" if until.sub_task is None else "sub task"
    if until.state is not None and until.state not in _STATES[kind]:
        what = f"a {kind} is never {until.state}"
        hint = _INSTEAD.get((kind, until.state)) or suggest(until.state, _STATES[kind])
        yield Found((*loc, "state"), "unknown-value", what, hint)
    if until.operator is not None and until.operator not in _OPERATORS[kind]:
        what = f"the operator of a {kind} is never {until.operator}"
        hint = _INSTEAD.get((kind, until.operator)) or suggest(until.operator, _OPERATORS[kind])
        yield Found((*loc, "operator"), "unknown-value", what, hint)


def _faults(scenario: Scenario) -> Iterator[Found]:
    """Their numbers are not looked up: clients may start dags that no file has, as by a join."""
    yield from check_faults(scenario.faults, {})


_RULES: Final[tuple[Callable[[Scenario], Iterator[Found]], ...]] = (
    _numbers_given_twice,
    _templates,
    _scopes,
    _first_tick,
    _attempts_nobody_can_reach,
    _outcomes_out_of_time,
    _faults,
    _story_references,
)


# --- small things ---------------------------------------------------------------------------------


def _things(scenario: Scenario) -> Iterator[tuple[Dag, str, Dag | Node | SubTask, Loc]]:
    """All that has a number, with its dag, what kind of thing it is, and where."""
    for number, dag in enumerate(scenario.dags):
        yield dag, "dag", dag, ("dags", number)
        for place, node in enumerate(dag.nodes):
            loc: Loc = ("dags", number, "nodes", place)
            yield dag, "node", node, loc
            for nth, sub_task in enumerate(node.sub_tasks):
                yield dag, "sub task", sub_task, (*loc, "sub_tasks", nth)


def _sub_tasks(scenario: Scenario) -> Iterator[tuple[Node, SubTask, str, Loc]]:
    """All sub tasks, with their nodes, what messages call them, and where they are."""
    for dag, _, thing, loc in _things(scenario):
        if isinstance(thing, SubTask):
            place, nth = loc[3], loc[5]
            node = dag.nodes[int(place)]
            called = f"sub task {int(nth) + 1} of node {_called(node, int(place))!r}"
            yield node, thing, called, loc


def _runs(sub_task: SubTask) -> Iterator[tuple[str, Attempt, Loc]]:
    """All it does forward and back: what messages call a run, and where in it that is written."""
    for nth, run in enumerate(sub_task.runs):
        yield f"attempt {nth + 1}", run, () if sub_task.attempts is None else ("attempts", nth)
    for nth, run in enumerate(sub_task.rollback):
        yield f"rollback attempt {nth + 1}", run, ("rollback", nth)


def _called(thing: Dag | Node, place: int) -> str:
    return thing.name or str(thing.id or place + 1)


def _outcome(attempt: Attempt, node: Node) -> obshell_states.Outcome:
    """How the run really ends, if nobody cancels it."""
    return attempt.outcome if is_in_time(attempt, node) else "FAILED"


def _stage(number: int) -> str:
    return f"stage {number}"


def _resolve(scenario: Scenario, step: Step) -> story.Step:
    """A step with positions for references; the references have been checked."""
    if step.wait is not None:
        return story.Wait(step.wait)
    if step.start is not None:
        return story.Start(find_dags(scenario.dags, step.start)[0], step.answers)
    whom = step.until or step
    if whom.dag is None:
        raise ValueError("a step either waits or calls")
    (place,) = find_dags(scenario.dags, whom.dag)
    part = _part(scenario.dags[place], whom)
    if isinstance(whom, Step):
        return story.Call(place, part, str(whom.operator), whom.answers)
    words = (whom.state, whom.operator)
    return story.Until(place, part, words if whom.stage is None else (*words, _stage(whom.stage)))


def _part(dag: Dag, whom: Until | Step) -> story.Part:
    if whom.node is None:
        return ()
    (node,) = find_nodes(dag, whom.node)
    if isinstance(whom, Step) or whom.sub_task is None:
        return (node,)
    (sub_task,) = find_sub_tasks(dag, node, whom.sub_task)
    return node, sub_task
