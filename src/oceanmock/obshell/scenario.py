"""The format of an obshell scenario: an agent, its dags, their nodes and sub tasks, and the story.

A dag's nodes run one at a time, in the order of the file; a node has one sub task per agent, and
most have a single one. A sub task that only ever does one thing says it in itself; one that does
something else when it is run again has a list of ``attempts``. What only the whole file can show is
for ``scenario_rules`` to find. Words and texts are the server's own (github.com/oceanbase/obshell
at 61ee147, ob/agent).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from oceanmock import clock
from oceanmock.obshell import api as obshell_api
from oceanmock.obshell import states as obshell_states
from oceanmock.scenario.faults import ObshellFault
from oceanmock.scenario.fields import (
    MAX_ID,
    BaseScenario,
    Duration,
    Id,
    Model,
    Name,
    OrOne,
    Reference,
    Takes,
    Timeout,
    shown_default,
    split_lines,
)
from oceanmock.scenario.submit_calls import JsonObject, StartsOn

PER_OWNER: Final = 99
"""The most nodes of a dag, and sub tasks of a node: their numbers are their owner's and two digits
more."""

Identity = Literal[
    "SINGLE",
    "MASTER",
    "FOLLOWER",
    "CLUSTER AGENT",
    "TAKE OVER MASTER",
    "TAKE OVER FOLLOWER",
    "SCALING OUT",
    "SCALING IN",
    "UNIDENTIFIED",
]
"""What an agent is to its cluster (ob/agent/meta/agent_identity.go)."""

QuirkName = Literal[
    "refusal-is-never-sent",
    "never-maintained-is-500",
    "unreachable-owner-is-500",
    "foreign-obproxy-id-is-forwarded-too",
    "cancelled-rollback-is-stuck",
    "body-id-overrules-path",
    "lost-race-is-500",
    "node-without-details-is-500",
    "forwarded-pass-loses-its-body",
    "logs-of-nothing-are-empty",
    "status-has-no-trace-id",
    "unheld-cluster-id-is-500",
    "unreadable-show-details-is-500",
    "body-that-is-no-object-is-eof",
    "node-body-says-dag-operator",
    "missing-header-is-400",
    "no-oceanbase-is-500",
    "undecryptable-body-is-500",
    "panic-is-dated-at-start",
]
QUIRKS: Final[tuple[QuirkName, ...]] = get_args(QuirkName)
"""What the server does against its own rules, as openapi/obshell.yaml names and describes it."""

OLDEST: Final = "4.2.3.0"
NEWEST: Final = "4.5.0.0"
_VERSION: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){3}", re.ASCII)


def _check_ip(text: str) -> str:
    """Go drops leading zero bytes of the address in an id, and then refuses it."""
    try:
        address = ip_address(text)
    except ValueError:
        raise PydanticCustomError("bad_address", "is no IPv4 or IPv6 address") from None
    if not address.packed[0]:
        message = "begins with a zero byte: obshell would refuse the ids it hands out"
        raise PydanticCustomError("bad_address", message)
    return str(address)


def _check_version(text: str) -> str:
    if not _VERSION.fullmatch(text):
        raise PydanticCustomError("bad_version", "is not four numbers such as 4.5.0.0")
    if not _numbers(OLDEST) <= _numbers(text) <= _numbers(NEWEST):
        limits = {"oldest": OLDEST, "newest": NEWEST}
        raise PydanticCustomError("bad_version", "is not between {oldest} and {newest}", limits)
    return text


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _at_least_a_second(seconds: int) -> int:
    if not seconds:
        raise PydanticCustomError("bad_duration", "is shorter than 1s")
    return seconds


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _also_with_commas(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"type": "string", "pattern": ","})


Ip = Annotated[str, AfterValidator(_check_ip)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]


# --- the models -----------------------------------------------------------------------------------


DagNumber = Annotated[int, Field(strict=True, ge=1, le=MAX_ID // (PER_OWNER + 1) ** 2)]
"""A number that leaves room for those of its nodes and their sub tasks."""


class Error(Model):
    """What a failed run says, in its last line: `ERROR: [code]: message`."""

    code: Annotated[str, Field(min_length=1)] = "Common.Unexpected"
    message: str


UNEXPECTED: Final = Error(message="Unexpected error: exit status 1")


class Attempt(Model):
    """One run of a sub task."""

    takes: Takes = Field(default=10 * clock.MILLISECOND, json_schema_extra=shown_default("10ms"))
    """How long the run takes; `forever` for one that only the timeout or a cancel ends."""
    ends: obshell_states.Outcome | None = None
    """How it ends: SUCCEED, or FAILED, the default where there is an `error`."""
    error: Error | None = None
    """Why it fails; an unexpected exit status, if left out."""
    log: Annotated[tuple[str, ...], OrOne(), BeforeValidator(split_lines)] = ()
    """What it logs: a text or a list of lines, spread evenly over the time it takes."""

    @property
    def outcome(self) -> obshell_states.Outcome:
        """How it ends, if nothing ends it before."""
        return self.ends or ("FAILED" if self.error else "SUCCEED")

    @model_validator(mode="after")
    def _no_error_in_success(self) -> Attempt:
        if self.error is not None and self.ends == "SUCCEED":
            raise PydanticCustomError("bad_attempt", "has an `error`, and yet ends SUCCEED")
        return self


Attempts = Annotated[tuple[Attempt, ...], Field(min_length=1), OrOne()]


class Address(Model):
    """Where an agent listens."""

    ip: Ip
    port: Port = 2886


class SubTask(Attempt):
    """A node's work on one agent: a single run, or `attempts`."""

    id: Id | None = None
    """The number its id is built from; its node's and two digits more, if left out."""
    name: Name | None = None
    """The node's name, if left out."""
    agent: Address | None = None
    """The agent that does it; the scenario's own, if left out."""
    additional_data: JsonObject | None = None
    """What the API shows as additional_data, here and, merged, of its node and dag."""
    attempts: Attempts | None = None
    """What each forward run does: one attempt, or a list of which the last repeats."""
    rollback: Attempts = (Attempt.model_validate({"takes": "1ms"}),)
    """What each rollback run does, in the same way; 1 ms and success, if left out."""

    @property
    def runs(self) -> tuple[Attempt, ...]:
        """What each forward run does."""
        return (self,) if self.attempts is None else self.attempts

    @model_validator(mode="after")
    def _one_or_several(self) -> SubTask:
        stray = [key for key in Attempt.model_fields if key in self.model_fields_set]
        if self.attempts is not None and stray:
            message = "has `{key}` beside `attempts`, where only each attempt has it"
            raise PydanticCustomError("bad_attempt", message, {"key": stray[0]})
        return self


class Node(Model):
    """A stage of a dag. Its name alone will do: `- Integrate config`."""

    id: Id | None = None
    """The number its id is built from; its dag's and two digits more, if left out."""
    name: Name | None = None
    can: Annotated[tuple[obshell_states.Flag, ...], OrOne()] = ()
    """What may be done to it: cancel, continue, pass, retry, rollback. Nothing, if left out."""
    timeout: Annotated[Timeout, AfterValidator(_at_least_a_second)] = Field(
        default=3600, json_schema_extra=shown_default("1h")
    )
    """A run of a sub task that takes longer fails then."""
    sub_tasks: Annotated[
        tuple[SubTask, ...], Field(min_length=1, max_length=PER_OWNER), OrOne()
    ] = (SubTask(),)
    """One per agent; if left out, one on the scenario's own agent that succeeds in 10 ms."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        mapping = handler(core_schema)
        return {"anyOf": [mapping, {"type": "string", "description": "A node's name."}]}


class TenantLock(Model):
    """The maintenance of one tenant."""

    tenant: Name


def _kind_of_maintenance(value: object) -> str:
    return "<lock>" if isinstance(value, dict | TenantLock) else "<word>"


Maintenance = Annotated[
    Annotated[TenantLock, Tag("<lock>")]
    | Annotated[Literal["none", "global", "obproxy"], Tag("<word>")],
    Discriminator(_kind_of_maintenance),
]


class ObshellStartsOn(StartsOn):
    """The request that starts it, outside the routes of tasks; each that fits bears one more."""

    identity: Annotated[tuple[Identity, ...], OrOne()] = ()
    """What the agent must be to do it, any of these; others refuse. Anything, if left out."""


class Makes(Model):
    """What a dag that has succeeded has made of the agent."""

    identity: Identity


class Dag(Model):
    """An obshell dag: nodes that run one after the other."""

    id: DagNumber | None = None
    """The number the API's id is built from, with the agent's address."""
    name: Name | None = None
    maintenance: Maintenance = "none"
    """What it keeps from being maintained otherwise while it is not finished."""
    scope: Literal["agent", "cluster"] = "agent"
    """Where it is kept: by the agent itself, or in OceanBase, which only a CLUSTER AGENT holds."""
    age: Duration = Field(default=0, json_schema_extra=shown_default("0s"))
    """How long before the sandbox's start it was born."""
    starts_on: ObshellStartsOn | None = None
    """The request that starts it. Without one it is there from the start."""
    makes: Makes | None = None
    """What the agent is once it has succeeded; as it was, if left out."""
    nodes: Annotated[tuple[Node, ...], Field(min_length=1, max_length=PER_OWNER)]
    """In the order in which they run."""


class Agent(Model):
    """The agent that is asked."""

    ip: Ip = "127.0.0.1"
    port: Port = 2886
    identity: Identity = "MASTER"
    root_password: Annotated[str | None, Field(json_schema_extra={"type": ["string", "null"]})] = (
        "oceanmock"  # noqa: S105 (the mock's own, and public)
    )
    """The password of root@sys, by which most routes are opened; none was set, if null."""
    agent_password: str | None = None
    """The agent's own password; none was set, if left out."""


class Switches(Model):
    """Which obshell is shown, and which of its oddities are not."""

    obshell_version: Annotated[str, AfterValidator(_check_version)] = NEWEST
    """Four numbers, 4.2.3.0 to 4.5.0.0."""
    quirks_off: Annotated[
        tuple[Literal[QuirkName, "all"], ...], OrOne(), BeforeValidator(_split_commas)
    ] = Field(default=(), json_schema_extra=_also_with_commas)
    """What the server does against its own rules and this one shall not: names, or `all`."""

    def has(self, quirk: QuirkName) -> bool:
        """Whether a quirk shows."""
        return not {"all", quirk} & set(self.quirks_off)


class Until(Model):
    """A state to wait for: of a dag, of one of its nodes, or of a sub task of that."""

    dag: Reference
    node: Reference | None = None
    sub_task: Reference | None = None
    state: obshell_api.State | None = None
    operator: obshell_api.Operator | None = None
    stage: Annotated[int, Field(strict=True, ge=1)] | None = None
    """Of a dag: which node's turn it is, counted from 1."""

    @model_validator(mode="after")
    def _something(self) -> Until:
        if self.state is None and self.operator is None and self.stage is None:
            what = "waits for neither a state, nor an operator, nor a stage"
            raise PydanticCustomError("bad_step", what)
        if self.sub_task is not None and self.node is None:
            raise PydanticCustomError("bad_step", "has a `sub_task` without its `node`")
        if self.stage is not None and self.node is not None:
            raise PydanticCustomError("bad_step", "has a `stage`, which only a dag shows")
        return self


Call = Literal["operateDag", "operateNode"]
Called = Literal["ROLLBACK", "RETRY", "CANCEL", "PASS"]


class Step(Model):
    """One step of a story: wait `until` something is so, `wait` a while, `start` a dag that starts
    on a request, or `call` an operation."""

    until: Until | None = None
    wait: Duration | None = None
    start: Name | None = None
    """The name of a dag with `starts_on`, for which its request comes now."""
    call: Call | None = None
    dag: Reference | None = None
    node: Reference | None = None
    operator: Called | None = None
    """ROLLBACK, RETRY, CANCEL or PASS; a node only takes PASS."""
    answers: Literal[200, 400, 500] = 200
    """The HTTP status the call answers: 400 where a state or flag does not allow it, 500 where
    there is no node to roll back. Of a start: 400 where the agent is something else, 500 where it
    is under maintenance."""

    @model_validator(mode="after")
    def _one_thing(self) -> Step:
        kinds = ("until", "wait", "start", "call")
        given = [name for name in kinds if getattr(self, name) is not None]
        if len(given) != 1:
            what = "must be one of until, wait, start and call"
            raise PydanticCustomError("bad_step", what)
        if self.call is not None:
            self._check_call(self.call)
            return self
        of_a_call = {"dag", "node", "operator", "answers"}
        stray = self.model_fields_set & (of_a_call - {"answers"} if self.start else of_a_call)
        if stray:
            message = "has `{key}` beside `{step}`, where only a call has it"
            raise PydanticCustomError("bad_step", message, {"key": min(stray), "step": given[0]})
        return self

    def _check_call(self, call: Call) -> None:
        wanted = ("dag", "operator") if call == "operateDag" else ("dag", "node", "operator")
        for key in wanted:
            if getattr(self, key) is None:
                context = {"call": call, "key": key}
                raise PydanticCustomError("bad_step", "calls {call} without `{key}`", context)
        if call == "operateDag" and self.node is not None:
            raise PydanticCustomError("bad_step", "has a `node`, which operateDag does not take")
        if call == "operateNode" and self.operator != "PASS":
            context = {"operator": str(self.operator)}
            message = "calls operateNode with {operator}, where a node only takes PASS"
            raise PydanticCustomError("bad_step", message, context)


class Scenario(BaseScenario):
    """A scenario: dags of an agent, how time passes, and the story a client can live with them."""

    api: Literal["obshell"]
    phase: Duration = Field(default=0, json_schema_extra=shown_default("0s"))
    """How long after the sandbox's start the scheduler ticks first; less than a `tick`."""
    agent: Agent = Agent()
    switches: Switches = Switches()
    dags: Annotated[tuple[Dag, ...], Field(min_length=1)]
    """In any order; the API lists them by their numbers."""
    faults: tuple[ObshellFault, ...] = ()
    """What goes wrong on purpose; of those that could strike a request, the first one does."""
    story: tuple[Step, ...] = ()
    """A life a client can live with these dags, checked whenever the file is loaded."""

    @property
    def scripts(self) -> tuple[Dag, ...]:
        """Return the dags."""
        return self.dags


# --- numbers and references -----------------------------------------------------------------------


def number_below(owner: int, position: int) -> int:
    """The number of a dag's node, or a node's sub task, that says none itself."""
    return owner * (PER_OWNER + 1) + position + 1


def node_number(dag: Dag, position: int) -> int | None:
    """A node's number, as far as the file decides it."""
    return dag.nodes[position].id or _below(dag.id, position)


def sub_task_number(dag: Dag, node: int, position: int) -> int | None:
    """A sub task's number, as far as the file decides it."""
    return dag.nodes[node].sub_tasks[position].id or _below(node_number(dag, node), position)


def _below(owner: int | None, position: int) -> int | None:
    return None if owner is None else number_below(owner, position)


def find_dags(dags: Iterable[Dag], reference: Reference) -> list[int]:
    """The positions of the dags of this number or name."""
    return [place for place, dag in enumerate(dags) if reference in (dag.id, dag.name)]


def find_nodes(dag: Dag, reference: Reference) -> list[int]:
    """The positions of the nodes of this number or name."""
    return [
        place
        for place, node in enumerate(dag.nodes)
        if reference in (node_number(dag, place), node.name)
    ]


def find_sub_tasks(dag: Dag, node: int, reference: Reference) -> list[int]:
    """The positions of the node's sub tasks of this number or name."""
    return [
        place
        for place, sub_task in enumerate(dag.nodes[node].sub_tasks)
        if reference in (sub_task_number(dag, node, place), sub_task.name or dag.nodes[node].name)
    ]


# --- from models to the machine -------------------------------------------------------------------


def script_of(dag: Dag) -> obshell_states.DagScript:
    """The machine's plan of a dag."""
    return obshell_states.DagScript(
        nodes=tuple(map(_node_plan, dag.nodes)), is_maintenance=dag.maintenance != "none"
    )


def rules_of(tick: int, phase: int, switches: Switches, *, age: int) -> obshell_states.Rules:
    """The machine's rules for a dag so old, where a tick falls ``phase`` after the start."""
    return obshell_states.Rules(
        tick=tick,
        phase=-((-phase - age) % tick),
        cancels_at_stage=not switches.has("cancelled-rollback-is-stuck"),
    )


def _node_plan(node: Node) -> obshell_states.NodeScript:
    return obshell_states.NodeScript(
        sub_tasks=tuple(
            obshell_states.SubTaskScript(
                attempts=_attempt_plans(sub_task.runs),
                rollbacks=_attempt_plans(sub_task.rollback),
            )
            for sub_task in node.sub_tasks
        ),
        can=frozenset(node.can),
        timeout=node.timeout * clock.SECOND,
    )


def _attempt_plans(attempts: Sequence[Attempt]) -> tuple[obshell_states.Attempt, ...]:
    return tuple(
        obshell_states.Attempt(each.takes, each.outcome, each.log, _last_words(each))
        for each in attempts
    )


def _last_words(attempt: Attempt) -> str | None:
    """The line of a run that fails by itself (executor/executor task.go:505-513)."""
    if attempt.outcome == "SUCCEED":
        return None
    error = attempt.error or UNEXPECTED
    return f"ERROR: [{error.code}]: {error.message}"


def excludes(held: Dag, wanted: Dag) -> bool:
    """Whether the maintenance of one keeps another from being made until it is finished.

    (ob/agent/service/task/status_maintainer.go: an agent's own database keeps obproxy's apart, and
    OceanBase's that of each tenant.)
    """
    if "none" in (held.maintenance, wanted.maintenance) or held.scope != wanted.scope:
        return False
    one, other = held.maintenance, wanted.maintenance
    if held.scope == "agent" or isinstance(one, TenantLock) is isinstance(other, TenantLock):
        return one == other
    return True


def has_succeeded(state: obshell_states.DagState) -> bool:
    """Whether a dag has done what it was made for, and has not undone it."""
    return state.state == "SUCCEED" and state.operator != "ROLLBACK"


def is_in_time(attempt: Attempt, node: Node) -> bool:
    """Whether the run ends before its node's timeout ends it."""
    return attempt.takes is not None and attempt.takes <= node.timeout * clock.SECOND
