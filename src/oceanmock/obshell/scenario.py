"""Model an obshell scenario: an agent, its dags, their nodes and sub tasks, faults and the story.

A dag's nodes run one at a time, in the order of the file. A node has one sub task per agent, usually a single one; a
sub task is a single attempt or has a list of ``attempts``. The rules at the end check what only the whole file shows;
their names are stable. Words and texts are the server's own (github.com/oceanbase/obshell at 61ee147, ob/agent).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from oceanmock import clock
from oceanmock import scenario as base
from oceanmock.errors import IllegalOperator, Issue, Loc
from oceanmock.obshell import agent as models
from oceanmock.obshell import machine, states
from oceanmock.obshell.agent import Switches
from oceanmock.obshell.api import API, ClientOperator, GenericId, Identity, Operator, State, local_id
from oceanmock.scenario import DurationText, Id, Model, Name, NamedModel, OrOne, Reference
from oceanmock.scenario.document import Wording, contradiction, wrong_value
from oceanmock.scenario.faults import MAX_FAULTS
from oceanmock.scenario.story import Actor, Format, PartPath, Refusal, label_of
from oceanmock.text import plural

MAX_PER_OWNER: Final = 99
"""The most nodes of a dag, and sub tasks of a node: their ids are their owner's with two more digits."""

DagNumber = Annotated[int, Field(strict=True, ge=1, le=base.MAX_ID // (MAX_PER_OWNER + 1) ** 2)]
"""An id small enough for the ids of its nodes and sub tasks to stay within ``MAX_ID``."""


class Error(Model):
    """The error of a failed run, its last line: `ERROR: [code]: message`."""

    code: Annotated[str, Field(min_length=1)] = "Common.Unexpected"
    message: str


class Attempt(Model):
    """One run of a sub task."""

    takes: base.Takes = Field(default=10 * clock.MILLISECOND, json_schema_extra={"default": "10ms"})
    """The duration of the run; `forever` if only its timeout or a cancel ends it."""
    ends: states.Outcome | None = None
    """The state in which it ends: SUCCEED, or FAILED, which is the default if it has an `error`."""
    error: Error | None = None
    """The error with which it fails; an unexpected exit status, if left out."""
    log: base.Lines = ()
    """Its log: a text or a list of lines, written evenly over the time that it takes."""

    @property
    def outcome(self) -> states.Outcome:
        """Return how it ends unless its timeout or a cancel ends it."""
        return self.ends or ("FAILED" if self.error else "SUCCEED")

    @model_validator(mode="after")
    def _no_error_in_success(self) -> Attempt:
        if self.error is not None and self.ends == "SUCCEED":
            raise contradiction("bad_attempt", "has an `error`, and yet ends SUCCEED")
        return self


Attempts = Annotated[tuple[Attempt, ...], Field(min_length=1), OrOne()]


class SubTask(Attempt):
    """A node's work on one agent: a single run, or `attempts`."""

    id: Id | None = None
    """The number of its id; if left out, its node's with two more digits."""
    name: Name | None = None
    """The node's name, if left out."""
    agent: models.AgentReference | None = None
    """The agent that runs it, by its address or its number in `agents`; if left out, the dag's own."""
    additional_data: base.JsonObject | None = None
    """Its additional_data in the API; those of its node and dag are merged from it."""
    attempts: Attempts | None = None
    """The result of each forward run: one attempt, or a list whose last one repeats."""
    rollback: Attempts = (Attempt.model_validate({"takes": "1ms"}),)
    """The result of each rollback, in the same form; if left out, it takes 1 ms and succeeds."""

    @property
    def runs(self) -> tuple[Attempt, ...]:
        return (self,) if self.attempts is None else self.attempts

    @model_validator(mode="after")
    def _one_or_several(self) -> SubTask:
        stray = [key for key in Attempt.model_fields if key in self.model_fields_set]
        if self.attempts is not None and stray:
            message = "has `{stray}` beside `attempts`, where only each attempt has it"
            raise contradiction("bad_attempt", message, stray=stray[0])
        return self


class Node(NamedModel):
    """A stage of a dag. Its name alone is enough: `- Integrate config`."""

    id: Id | None = None
    """The number of its id; if left out, its dag's with two more digits."""
    name: Name | None = None
    can: Annotated[tuple[states.NodeFlag, ...], OrOne()] = ()
    """The operators that it allows; none, if left out."""
    timeout: Annotated[base.Timeout, base.must(bool, "bad_duration", "is shorter than 1s")] = Field(
        default=3600, json_schema_extra={"default": "1h"}
    )
    """The time after which a run of a sub task fails."""
    failure_exit: bool | None = None
    """Whether its failure releases the dag's maintenance lock; if left out, the dag's `failure_exit` applies."""
    sub_tasks: Annotated[tuple[SubTask, ...], Field(min_length=1, max_length=MAX_PER_OWNER), OrOne()] = (SubTask(),)
    """One per agent; if left out, one on the scenario's own agent that succeeds in 10 ms."""


class Dag(Model):
    """An obshell dag: nodes that run one after the other."""

    id: DagNumber | None = None
    """The number in the API's id, which also contains the agent's address."""
    name: Name | None = None
    maintenance: models.Maintenance = "none"
    """The maintenance lock that it holds until it is finished."""
    failure_exit: models.FailureExit | None = None
    """Where a failure releases the lock; if left out, as in the real dag that the request starts."""
    agent: models.Place | None = None
    """The number in `agents` of the agent that stores and starts it; if left out, the first one, or the one that
    receives the request."""
    scope: Literal["agent", "cluster"] = "agent"
    """Where it is stored: in the agent, or in OceanBase, which only a CLUSTER AGENT has."""
    age: DurationText = Field(default=0, json_schema_extra={"default": "0s"})
    """The time between its start and the sandbox's start."""
    starts_on: models.ObshellStartsOn | None = None
    """The request that starts it. Without one, it exists from the start."""
    makes: models.Makes | None = None
    """The change of the agent when it succeeds; none, if left out."""
    others: models.Others = ()
    """Operators of other clients."""
    nodes: Annotated[tuple[Node, ...], Field(min_length=1, max_length=MAX_PER_OWNER)]
    """In the order in which they run."""


def id_of(dag: Dag, number: int, *, ip: str, port: int) -> str:
    """Return the generic id of a dag that the agent at an address keeps, or of a part of it, with this number."""
    if dag.scope == "cluster":
        return str(GenericId("cluster", number))
    return local_id(number, ip=ip, port=port, kind="obproxy" if dag.maintenance == "obproxy" else "local")


def excludes(current: Dag, other: Dag) -> bool:
    """Return whether the maintenance lock of a dag keeps another dag from taking its own.

    In an agent's own database obproxy's lock is independent, and in OceanBase that of each tenant
    (ob/agent/service/task/status_maintainer.go). Which dags have locks follows from their states.
    """
    locks = (current.maintenance, other.maintenance)
    if "none" in locks or current.scope != other.scope:
        return False
    are_alike = isinstance(locks[0], models.TenantLock) is isinstance(locks[1], models.TenantLock)
    return locks[0] == locks[1] if current.scope == "agent" or are_alike else True


class Until(Model):
    """A state to wait for: of a dag, of one of its nodes, or of a sub task of that."""

    dag: Reference
    node: Reference | None = None
    sub_task: Reference | None = None
    state: State | None = None
    operator: Operator | None = None
    stage: Annotated[int, Field(strict=True, ge=1)] | None = None
    """The dag's stage, counted from 1."""

    @model_validator(mode="after")
    def _check_words(self) -> Until:
        if self.state is None and self.operator is None and self.stage is None:
            raise contradiction("bad_step", "waits for neither a state, nor an operator, nor a stage")
        if self.sub_task is not None and self.node is None:
            raise contradiction("bad_step", "has a `sub_task` without its `node`")
        if self.stage is not None and self.node is not None:
            raise contradiction("bad_step", "has a `stage`, which only a dag shows")
        kind = "dag" if self.node is None else "node" if self.sub_task is None else "sub task"
        for key, word, subject in (
            ("state", self.state, f"a {kind}"),
            ("operator", self.operator, f"the operator of a {kind}"),
        ):
            if hint := _INSTEAD.get((kind, word)):
                raise wrong_value(key, f"{subject} is never {word}", hint)
        return self


_INSTEAD: Final[Mapping[tuple[str, str | None], str]] = {
    ("dag", "PENDING"): "A dag is READY until the scheduler starts it.",
    ("node", "READY"): "A node is PENDING until it runs.",
    ("sub task", "READY"): "A sub task is PENDING until it runs.",
    ("dag", "RETRY"): "A retried dag shows RUN; the node at its stage shows RETRY.",
    ("sub task", "RETRY"): "A retried sub task shows ROLLBACK, and then RUN.",
    ("sub task", "CANCEL"): "A cancelled sub task keeps its operator, and is FAILED.",
}
"""The words that a kind never shows, and the words that it shows instead."""


class Step(base.BaseStep):
    """One step of a story: wait `until` a state shows, `wait`, `start` a dag, or `call` an operation."""

    keys_of_calls: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **dict.fromkeys(("operateDag", "dagHandler"), ("dag", "operator")),
        **dict.fromkeys(("operateNode", "nodeHandler"), ("dag", "node", "operator")),
    }
    allowed_at_start: ClassVar[str] = "answers"

    until: Until | None = None
    call: Literal["operateDag", "operateNode", "dagHandler", "nodeHandler"] | None = None
    dag: Reference | None = None
    node: Reference | None = None
    operator: ClientOperator | None = None
    """ROLLBACK, RETRY, CANCEL or PASS; a node only takes PASS."""
    answers: Literal[200, 400, 500] = 200
    """The HTTP status of the response. Of a call, it is 400 if a state or flag does not allow the call, and 500 if
    there is no node to roll back. Of a start, it is 400 if the agent has another identity, and 500 if it is under
    maintenance."""

    @model_validator(mode="after")
    def _nodes_only_pass(self) -> Step:
        if self.node is not None and self.operator != "PASS":
            message = "calls {call} with {operator}, where a node only takes PASS"
            raise contradiction("bad_step", message, call=self.call, operator=str(self.operator))
        return self


class Scenario(base.BaseScenario):
    """A scenario: dags of an agent, how time passes, faults, and a story of a client with them."""

    api: Literal["obshell"]
    phase: DurationText = Field(default=0, json_schema_extra={"default": "0s"})
    """The time between the sandbox's start and the scheduler's first tick; less than a `tick`."""
    agent: models.Agent = models.Agent()
    agents: Annotated[tuple[models.Member, ...], Field(max_length=models.MAX_AGENTS)] = ()
    """Several agents in place of `agent`, each with its own dags, lock, scheduler and key; they share one OceanBase."""
    switches: Switches = Switches()
    dags: Annotated[tuple[Dag, ...], Field(min_length=1)]
    """In any order; the API lists them by their numbers."""
    stubs: Annotated[tuple[models.ObshellStub, ...], Field(max_length=base.MAX_STUBS)] = ()
    faults: Annotated[tuple[models.ObshellFault, ...], Field(max_length=MAX_FAULTS)] = ()
    """Injected faults; the first one that applies to a request is injected."""
    story: Annotated[tuple[Step, ...], Field(max_length=base.MAX_STORY_STEPS)] = ()
    """Steps of a client with these dags, simulated when the file is loaded."""

    @property
    def stands_alone(self) -> bool:
        """Return whether it has an agent of its own, and so cannot be served with other scenarios."""
        return self.members != (models.Agent(),)

    @property
    def members(self) -> tuple[models.Agent, ...]:
        """Return the agents, each with a port."""
        numbered = enumerate(self.agents)
        return tuple(it.model_copy(update={"port": it.port or 2886 + n}) for n, it in numbered) or (self.agent,)

    def place_of(self, dag: Dag) -> int:
        return (dag.agent or 1) - 1

    def address_of(self, sub_task: SubTask, dag: Dag) -> models.Address:
        stated = sub_task.agent or dag.agent or 1
        return self.members[stated - 1] if isinstance(stated, int) else stated

    def phase_of(self, place: int) -> int:
        phase = self.agents[place].phase if place < len(self.agents) else None
        return self.phase if phase is None else phase


def number_below(owner: int, position: int) -> int:
    """Return the number of a node of a dag, or of a sub task of a node, without an id in the file."""
    return owner * (MAX_PER_OWNER + 1) + position + 1


def script_of(dag: Dag) -> states.DagScript:
    exits, nodes = dag.failure_exit, list[states.NodeScript]()
    if exits is None and dag.starts_on is not None:
        usual, methods = models.FAILURE_EXITS.get(re.sub("{[^}]*}", "{}", dag.starts_on.path), (None, ()))
        exits = usual if dag.starts_on.method in methods else None
    for place, node in enumerate(dag.nodes):
        sub_tasks = [
            states.SubTaskScript(tuple(map(_run_script, it.runs)), tuple(map(_run_script, it.rollback)))
            for it in node.sub_tasks
        ]
        gives_back = node.failure_exit
        if gives_back is None:
            gives_back = exits == "always" or (exits == "first node" and place == 0)
        limit = node.timeout * clock.SECOND
        nodes.append(states.NodeScript(tuple(sub_tasks), frozenset(node.can), limit, gives_back))
    others = [(other.at, other.operator, None) for other in dag.others]
    return states.DagScript(tuple(nodes), dag.maintenance != "none", tuple(others))


def _run_script(attempt: Attempt) -> states.RunScript:
    last_line = None
    if attempt.outcome == "FAILED":  # by itself (executor/executor task.go:505-513)
        error = attempt.error or Error(message="Unexpected error: exit status 1")
        last_line = f"ERROR: [{error.code}]: {error.message}"
    return states.RunScript(attempt.takes, attempt.outcome, base.lines_of(attempt.log), last_line)


def rules_of(tick: int, phase: int, switches: Switches) -> states.Rules:
    """Return the machine's rules for a dag with a tick at ``phase`` after its start."""
    return states.Rules(tick, -(-phase % tick), cancels_at_stage=not switches.has("cancelled-rollback-is-stuck"))


class ObshellActor(Actor):
    """A dag of a story; its parts are its nodes, and theirs the sub tasks."""

    api: ClassVar = API
    machine: ClassVar = machine

    @staticmethod
    def begin(scenario: Scenario, script: Dag, created: int) -> machine.History:
        """Return the history of a dag; the instants of ticks do not depend on when it is created."""
        phase = scenario.phase_of(scenario.place_of(script))
        return machine.start(script_of(script), rules_of(scenario.tick, phase - created, scenario.switches))

    def start(self, instant: int, others: Sequence[ObshellActor]) -> ObshellActor | Refusal:
        place, identities = self.scenario.place_of(self.script), list[tuple[int, Identity]]()
        for other in others:
            makes, state = other.script.makes, machine.view_at(other.history, instant - other.created)
            if makes is None or makes.identity is None or not machine.has_succeeded(state):
                continue
            if place in makes.places(self.scenario.place_of(other.script)):
                identities.append((other.created + state.at, makes.identity))
        identity = max(identities)[1] if identities else self.scenario.members[place].identity
        required = self.script.starts_on.identity
        if required and identity not in required:
            return Refusal(400, f"the agent is {identity}, instead of {' or '.join(required)}")
        return self._lock_refusal(instant, others) or super().start(instant, others)

    def operate(
        self, operation: str, part: PartPath, instant: int, others: Sequence[ObshellActor]
    ) -> ObshellActor | Refusal:
        after = super().operate(operation, part, instant, others)
        operator: Any = operation
        dag, script = machine.view_at(self.history, instant - self.created), self.history.script
        node = machine.node_of_lock(dag, operator, part[0] if part else None)
        if isinstance(after, Refusal) or node is None or not script.nodes[node].failure_exit:
            return after
        return self._lock_refusal(instant, others) or after

    def _lock_refusal(self, instant: int, others: Sequence[ObshellActor]) -> Refusal | None:
        for other in others:
            is_beside = self.scenario.place_of(other.script) == self.scenario.place_of(self.script)
            has_store = is_beside or self.script.scope == "cluster"
            if other is not self and has_store and excludes(other.script, self.script):
                state = machine.view_at(other.history, instant - other.created)
                if machine.holds_lock(other.history.script, state):
                    return Refusal(500, f"{other.called(())} has the maintenance lock")
        return None

    def refusal(self, error: IllegalOperator, instant: int) -> Refusal:
        """Return the status, the errCode and its cause."""
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


def _check_dags(scenario: Scenario) -> Iterator[Issue]:
    """Yield the issues of each dag: of its store, of the agents that it names, and of its attempts."""
    identities, count = {agent.identity for agent in scenario.members}, len(scenario.members)
    later = {dag.makes.identity for dag in scenario.dags if dag.makes is not None and dag.makes.identity}
    for number, dag in enumerate(scenario.dags):
        loc: Loc = ("dags", number)
        if dag.scope == "cluster" and "CLUSTER AGENT" not in identities | (later if dag.starts_on else set()):
            identity = ", ".join(agent.identity for agent in scenario.members)
            what = f"only a CLUSTER AGENT keeps dags in OceanBase, and this agent is {identity}"
            hint = "Give the agent `identity: CLUSTER AGENT`, or leave `scope` out."
            yield Issue((*loc, "scope"), "wrong-scope", what, hint)
        if isinstance(dag.maintenance, models.TenantLock) and dag.scope == "agent":
            what = "a dag that the agent keeps itself cannot maintain a tenant"
            hint = "Give the dag `scope: cluster`."
            yield Issue((*loc, "maintenance"), "wrong-scope", what, hint)
        agents: dict[Loc, object] = {(*loc, "agent"): dag.agent}
        agents |= {(*loc, "makes", "agents", nth): it for nth, it in enumerate(dag.makes.agents if dag.makes else ())}
        for place, node in enumerate(dag.nodes):
            for nth, sub_task in enumerate(node.sub_tasks):
                way = (*loc, "nodes", place, "sub_tasks", nth)
                agents[*way, "agent"] = sub_task.agent
                yield from _check_runs(node, sub_task, f"sub task {nth + 1} of node {label_of(node, place)!r}", way)
        for way, agent in agents.items():
            if isinstance(agent, int) and agent > count:
                what = f"there is no agent {agent}: the file has {plural(count, 'agent')}"
                yield Issue(way, "unknown-agent", what, "Add it to `agents`, which count from 1.")


def _check_times(scenario: Scenario) -> Iterator[Issue]:
    """Yield first ticks that are too late, and stages of a story that its dag does not have."""
    phases: dict[Loc, int | None] = {("phase",): scenario.phase}
    phases |= {("agents", place, "phase"): agent.phase for place, agent in enumerate(scenario.agents)}
    for loc, phase in phases.items():
        if (phase or 0) >= scenario.tick:
            what = f"`phase` is not shorter than the tick of {scenario.tick / clock.SECOND:g} s"
            yield Issue(loc, "out-of-range", what, "There is a tick before it.")
    for number, (step, action) in enumerate(zip(scenario.story, FORMAT.steps_of(scenario), strict=True)):
        if step.until is not None and step.until.stage is not None:
            nodes = len(scenario.dags[action.actor].nodes)
            if step.until.stage > nodes:
                what = f"a dag of {nodes} nodes is never at stage {step.until.stage}"
                yield Issue(("story", number, "until", "stage"), "unknown-value", what)


def _check_runs(node: Node, sub_task: SubTask, label: str, loc: Loc) -> Iterator[Issue]:
    """Yield attempts of a sub task that never run, and successes that would come after the timeout.

    Only a RETRY runs it again, if it failed, was cancelled, or failed to roll back. Later rollback attempts are not
    checked so, as a rollback is repeated whenever another sub task fails to roll back.
    """

    def is_late(attempt: Attempt) -> bool:
        return attempt.takes is None or attempt.takes > node.timeout * clock.SECOND

    def fails(attempt: Attempt) -> bool:
        return attempt.outcome == "FAILED" or is_late(attempt)

    may_run_again = "cancel" in node.can or ("rollback" in node.can and any(map(fails, sub_task.rollback)))
    for nth, (before, _) in enumerate(pairwise(sub_task.runs), start=1):
        hint = ""
        if "retry" not in node.can:
            hint = "Only a retry runs it again; say that the node `can: [retry]`, or remove this."
        elif not may_run_again and not fails(before):
            hint = f"Attempt {nth} succeeds; say `ends: FAILED` there, or remove this."
        if hint:
            what = f"attempt {nth + 1} of {label} is never reached"
            yield Issue((*loc, "attempts", nth), "unreachable-attempt", what, hint)
    if sub_task.rollback[1:] and not {"retry", "rollback"} & set(node.can):
        what = f"rollback attempt 2 of {label} is never reached"
        hint = "Say that the node `can: [rollback]`, or remove this."
        yield Issue((*loc, "rollback", 1), "unreachable-attempt", what, hint)
    for key, attempts in (("attempts", sub_task.runs), ("rollback", sub_task.rollback)):
        which = "rollback attempt" if key == "rollback" else "attempt"
        for nth, attempt in enumerate(attempts):
            if attempt.ends == "SUCCEED" and is_late(attempt):
                why = f"it takes longer than the timeout of {node.timeout} s"
                what = f"{which} {nth + 1} of {label} cannot end SUCCEED: {why}"
                way = () if attempt is sub_task else (key, nth)
                yield Issue((*loc, *way, "ends"), "impossible-outcome", what, "Raise the timeout, or leave `ends` out.")


FORMAT: Final = Format(
    api=API,
    model=Scenario,
    fault=models.ObshellFault,
    actor=ObshellActor,
    wording=Wording(
        API.title,
        server_words=frozenset(("can", "ends", "identity", "mode", "operation", "state", "status", "type")),
        choices={"maintenance": ("none", "global", "obproxy", "{tenant: …}")},
        unnamed="sub_tasks",
    ),
    rules=(models.check_agents, _check_dags, _check_times),
    numbered=number_below,
    implicit_kind="sub_task",
)
