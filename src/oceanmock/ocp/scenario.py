"""The format of an OCP scenario: its tasks, their subtasks, and the story lived with them.

What each attempt of each subtask does and how long it takes is written here; ids, names and
addresses that are left out are filled by the engine, from a seed. What only the whole file can show
is for ``scenario_rules`` to find.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from oceanmock import clock
from oceanmock.ocp import api as ocp_api
from oceanmock.ocp import states as ocp_states
from oceanmock.scenario.faults import OcpFault
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
from oceanmock.scenario.submit_calls import StartsOn

# --- the models -----------------------------------------------------------------------------------


class Attempt(Model):
    """One run of a subtask."""

    takes: Takes = Field(default=clock.SECOND, json_schema_extra=shown_default("1s"))
    """How long the run takes; `forever` for one that only the timeout or a cancel ends."""
    ends: ocp_states.Outcome | None = None
    """How it ends: SUCCESSFUL (the default) or FAILED."""
    log: Annotated[tuple[str, ...], OrOne(), BeforeValidator(split_lines)] = ()
    """What it logs: a text or a list of lines, spread evenly over the time it takes."""


Attempts = Annotated[tuple[Attempt, ...], Field(min_length=1), OrOne()]


class Named(Model):
    """Somebody with an id and a name."""

    id: Id
    name: Name


class Cluster(Named):
    """The OceanBase cluster a task works on."""

    ob_cluster_id: Id
    type: Literal["PRIMARY", "STANDBY"] = "PRIMARY"


class Tenant(Named):
    """The OceanBase tenant a task works on."""

    ob_tenant_id: Id
    mode: Literal["MYSQL", "ORACLE"] = "MYSQL"


class Subtask(Model):
    """A step of a task. Its name alone will do: `- Start observer`."""

    id: Id | None = None
    name: Name | None = None
    description: str | None = None
    """The name, if left out."""
    needs: Annotated[tuple[Reference, ...], OrOne()] | None = None
    """The subtasks that must have succeeded before this one may start, by id or name; if left out,
    the one listed just before. `[]` for one that may start at once."""
    attempts: Attempts = (Attempt(),)
    """What each run does: one attempt, or a list of which the last repeats. If left out, it takes
    a second and succeeds."""
    rollback: Attempts = (Attempt(),)
    """What rolling it back does, in the same way."""
    timeout: Timeout = Field(default=3600, json_schema_extra=shown_default("1h"))
    """A run that takes longer fails then. `0s` leaves only the server's watchdog: ten seconds."""
    prohibit_rollback: bool = False
    """Whether the task can no longer be rolled back once this subtask has started."""
    executor: str | None = None
    """The address of the node that runs it."""
    series_id: Annotated[int, Field(ge=0, le=MAX_ID)] | None = None
    """The API's seriesId, which is *not* the order of execution; the position, if left out."""
    parallel_idx: Annotated[int, Field(ge=-1)] = -1
    class_name: str | None = None
    """The Java class that older versions of OCP show."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        mapping = handler(core_schema)
        return {"anyOf": [mapping, {"type": "string", "description": "A subtask's name."}]}


class OcpStartsOn(StartsOn):
    """The request that starts it, outside the routes of tasks; each that fits bears one more."""

    in_contents: bool = False
    """Whether the answer has the task in `data.contents`, as that of adding hosts has, and is not
    itself the `data`."""


class Repeat(Model):
    """Many tasks from one template; `{n}` in the name counts them, ids count on from the first."""

    count: Annotated[int, Field(ge=1, le=100_000)]
    every: Duration = Field(default=0, json_schema_extra=shown_default("0s"))
    """How much later each one is born than the one before."""


class Task(Model):
    """An OCP task: a DAG of subtasks."""

    id: Id | None = None
    name: Name | None = None
    type: Literal["MANUAL", "SYS_ONCE", "SCHEDULED", "SYS_SCHEDULED"] = "MANUAL"
    subtasks: Annotated[tuple[Subtask, ...], Field(min_length=1, max_length=2000)]
    """In the order the API lists them, which need not be the order they run in."""
    age: Duration = Field(default=0, json_schema_extra=shown_default("0s"))
    """How long before the sandbox's start it was born."""
    starts_on: OcpStartsOn | None = None
    """The request that starts it. Without one it is there from the start."""
    repeat: Repeat | None = None
    concurrency: Annotated[int, Field(ge=1, le=MAX_ID)] = 10
    """How many subtasks may be READY or RUNNING at once."""
    prohibit_rollback: bool = False
    abandoned_after: Duration | None = None
    """This long after it FAILED somebody abandons it and it is ABORTED: a state the metadata
    database of OCP has and no public text shows in the API."""
    creator: Named | None = None
    cluster: Cluster | None = None
    tenant: Tenant | None = None
    host_id: Id | None = None
    executor: str | None = None
    task_definition_id: Annotated[int, Field(ge=-1, le=MAX_ID)] = -1
    """-1 for a task that no schedule started."""


class Switches(Model):
    """What no public text about OCP decides; the defaults are those of its sibling, ocp-express."""

    subtask_pairing: Literal["ignored", "checked"] = "ignored"
    """Whether a subtask's route checks that the subtask belongs to the task in the path.
    ocp-express ignores the task (TaskService.java:103-133) and answers an unknown subtask's log
    with an empty text; `checked` answers both with 404."""
    undocumented_task_path: bool = False
    """Also serve GET /api/v2/tasks/{id}, which no document has and a public client polls."""
    retry_after_failed_rollback: bool = False
    """Accept a retry of a task whose rollback failed, as the user guide of OCP 4.2.2 says."""
    subtask_retry_counts: bool = False
    """Let the retry of one subtask count its runTime up, as the database's comment says."""
    error_code_not_found: int = 20000
    error_code_illegal_state: int = 20003
    error_code_rollback_prohibited: int = 20004
    error_code_forbidden: int = 30014


Status = Literal[ocp_api.SubtaskStatus, ocp_api.TaskStatus]


class Until(Model):
    """A state to wait for: of a task, or of one of its subtasks."""

    task: Reference
    subtask: Reference | None = None
    status: Status | None = None
    operation: ocp_api.SubtaskOperation | None = None

    @model_validator(mode="after")
    def _something(self) -> Until:
        if self.status is None and self.operation is None:
            raise PydanticCustomError("bad_step", "waits for neither a status nor an operation")
        return self


Call = Literal["retryTask", "rollbackTask", "retrySubtask", "skipSubtask", "cancelSubtask"]


class Step(Model):
    """One step of a story: wait `until` something is so, `wait` a while, `start` a task that starts
    on a request, or `call` an operation."""

    until: Until | None = None
    wait: Duration | None = None
    start: Name | None = None
    """The name of a task with `starts_on`, for which its request comes now."""
    call: Call | None = None
    task: Reference | None = None
    subtask: Reference | None = None
    answers: Literal[200, 400] = 200
    """The HTTP status the call answers: 400 where the state does not allow it."""

    @model_validator(mode="after")
    def _one_thing(self) -> Step:
        kinds = ("until", "wait", "start", "call")
        given = [name for name in kinds if getattr(self, name) is not None]
        if len(given) != 1:
            what = "must be one of until, wait, start and call"
            raise PydanticCustomError("bad_step", what)
        if self.call is None:
            stray = self.model_fields_set & {"task", "subtask", "answers"}
            if stray:
                message = "has `{key}` beside `{step}`, where only a call has it"
                context = {"key": min(stray), "step": given[0]}
                raise PydanticCustomError("bad_step", message, context)
            return self
        if self.task is None:
            raise PydanticCustomError("bad_step", "calls {c} without a `task`", {"c": self.call})
        if "Subtask" in self.call and self.subtask is None:
            raise PydanticCustomError("bad_step", "calls {c} without a `subtask`", {"c": self.call})
        if "Subtask" not in self.call and self.subtask is not None:
            message = "has a `subtask`, which {c} does not take"
            raise PydanticCustomError("bad_step", message, {"c": self.call})
        return self


class Scenario(BaseScenario):
    """A scenario: tasks, how time passes for them, and the story a client can live with them."""

    api: Literal["ocp"]
    switches: Switches = Switches()
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    faults: tuple[OcpFault, ...] = ()
    """What goes wrong on purpose; of those that could strike a request, the first one does."""
    story: tuple[Step, ...] = ()
    """A life a client can live with these tasks, checked whenever the file is loaded."""

    @property
    def scripts(self) -> tuple[Task, ...]:
        """Return the tasks."""
        return self.tasks


# --- from models to the machine -------------------------------------------------------------------


def script_of(task: Task) -> ocp_states.TaskScript:
    """The machine's plan of a task whose references have been checked."""
    return ocp_states.TaskScript(
        subtasks=tuple(_subtask_plan(task, position) for position in range(len(task.subtasks))),
        concurrency=task.concurrency,
        prohibits_rollback=task.prohibit_rollback,
        abandoned_after=task.abandoned_after,
    )


def rules_of(tick: int, switches: Switches) -> ocp_states.Rules:
    """The machine's rules under a tick and switches."""
    return ocp_states.Rules(
        tick=tick,
        retry_after_failed_rollback=switches.retry_after_failed_rollback,
        subtask_retry_counts=switches.subtask_retry_counts,
    )


def find_subtask(task: Task, reference: Reference) -> int | None:
    """The position of the subtask with this id or name."""
    for position, subtask in enumerate(task.subtasks):
        if reference in (subtask.id, subtask.name):
            return position
    return None


def upstreams_of(task: Task, position: int) -> tuple[int, ...]:
    """The positions of a subtask's upstreams; unknown references are left out."""
    needs = task.subtasks[position].needs
    if needs is None:
        return (position - 1,) if position else ()
    found = (find_subtask(task, reference) for reference in needs)
    return tuple(dict.fromkeys(upstream for upstream in found if upstream is not None))


def _subtask_plan(task: Task, position: int) -> ocp_states.SubtaskScript:
    subtask = task.subtasks[position]
    return ocp_states.SubtaskScript(
        attempts=tuple(map(_attempt_plan, subtask.attempts)),
        rollbacks=tuple(map(_attempt_plan, subtask.rollback)),
        needs=upstreams_of(task, position),
        timeout=subtask.timeout,
        prohibits_rollback=subtask.prohibit_rollback,
    )


def _attempt_plan(attempt: Attempt) -> ocp_states.Attempt:
    return ocp_states.Attempt(attempt.takes, attempt.ends or "SUCCESSFUL", attempt.log)
