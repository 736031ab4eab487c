"""A scenario file: YAML → checked, typed models.

A scenario scripts the lives of some tasks: what each attempt of each subtask does and how long it
takes, and, in its ``story``, the life a client should be able to live with them. Loading a file
finds *all* its mistakes at once, each with its place: first what the models below refuse, then what
only the whole can show (references, cycles, attempts nobody can reach, a story that cannot happen).

The models are the file format's one description: ``scenarios/scenario.schema.json``, by which an
editor completes and checks, is generated from them. What only the whole file can show is asked of
``scenario_rules``; what a file leaves out is filled later, by the engine, from a seed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from pydantic_core.core_schema import NullableSchema, WithDefaultSchema

from oceanmock import clock
from oceanmock.lifecycle import ocp

MAX_ID: Final = 2**53 - 1
"""Ids stay within what every JSON reader keeps exact; beyond it OCP writes strings."""

# --- durations ------------------------------------------------------------------------------------

_UNITS: Final = {"ms": clock.MILLISECOND, "s": clock.SECOND, "m": 60 * clock.SECOND}
_UNITS.update(h=60 * _UNITS["m"], d=24 * 60 * _UNITS["m"])
_DURATION: Final = re.compile(r"(?:[0-9]{1,18}(?:\.[0-9]{1,18})?(?:ms|s|m|h|d))+")
_PART: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?(ms|s|m|h|d)")
_LONGEST: Final = 3650 * _UNITS["d"]


def parse_duration(text: object) -> int:
    """The nanoseconds in a duration such as ``400ms``, ``1.9s``, ``2m`` or ``1h30m``.

    Raises PydanticCustomError for anything else, and for more than ten years.
    """
    if isinstance(text, str) and _DURATION.fullmatch(text):
        span = sum(_nanoseconds(*part) for part in _PART.findall(text))
        if span <= _LONGEST:
            return span
        raise PydanticCustomError("bad_duration", "is longer than ten years")
    is_number = isinstance(text, int | float) and not isinstance(text, bool) and 0 <= text < 1e9
    hint = f" (write {text}s for seconds)" if is_number else ""
    raise PydanticCustomError(
        "bad_duration", "is not a duration such as 400ms, 1.9s, 2m or 1h30m{hint}", {"hint": hint}
    )


def _nanoseconds(whole: str, fraction: str, unit: str) -> int:
    return int(whole + fraction) * _UNITS[unit] // int(10 ** len(fraction))


def _parse_takes(text: object) -> int | None:
    return None if text == "forever" else parse_duration(text)


def _parse_timeout(text: object) -> int:
    seconds, rest = divmod(parse_duration(text), clock.SECOND)
    if rest:
        raise PydanticCustomError("bad_duration", "is not a whole number of seconds")
    return seconds


def _parse_tick(text: object) -> int:
    span = parse_duration(text)
    if span < clock.MILLISECOND:
        raise PydanticCustomError("bad_duration", "is shorter than 1ms")
    return span


def _duration_schema(also: str = "") -> WithJsonSchema:
    pattern = rf"^({_DURATION.pattern}{also})$"
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": ["400ms", "1.9s"]})


Duration = Annotated[int, BeforeValidator(parse_duration), _duration_schema()]
Takes = Annotated[int | None, BeforeValidator(_parse_takes), _duration_schema("|forever")]
Timeout = Annotated[int, BeforeValidator(_parse_timeout), _duration_schema()]
Tick = Annotated[int, BeforeValidator(_parse_tick), _duration_schema()]
Id = Annotated[int, Field(strict=True, ge=1, le=MAX_ID)]
Name = Annotated[str, Field(min_length=1, max_length=500)]


def _check_reference(value: object) -> object:
    if isinstance(value, int | str) and not isinstance(value, bool):
        return value
    raise PydanticCustomError("bad_reference", "should be an id or a name")


Reference = Annotated[int | str, BeforeValidator(_check_reference)]
"""A task or subtask of this file, by its id or by its name."""


def _check_instant(value: object) -> object:
    """Text and YAML's own timestamps; a bare number would silently mean 1970."""
    if not isinstance(value, str | datetime):
        raise PydanticCustomError("bad_instant", "is no instant")
    return value


def _within_centuries(value: datetime) -> datetime:
    """Far enough from the ends of the calendar for every age and duration."""
    if not 1980 <= value.year < 3000:
        raise PydanticCustomError("bad_instant", "is not between 1980 and 2999")
    return value


Instant = Annotated[
    AwareDatetime, BeforeValidator(_check_instant), AfterValidator(_within_centuries)
]


@dataclass(frozen=True, slots=True)
class _OrOne:
    """A list that may be written as its only item; says so to the validator and the schema."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_one_or_more, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        several = handler(schema)
        return {"anyOf": [several, several["items"]]}


def _one_or_more(value: object) -> object:
    return value if value is None or isinstance(value, list | tuple) else [value]


def _split_lines(value: object) -> object:
    return value.splitlines() if isinstance(value, str) else value


class FileSchema(GenerateJsonSchema):
    """A JSON Schema that reads like the file: no titles, no nulls, no defaults that say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never: the key is the title."""
        return False

    def nullable_schema(self, schema: NullableSchema) -> JsonSchemaValue:
        """What may be left out is left out, not written as null."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        """Only defaults a reader would write: a duration's is given where its field is."""
        made = super().default_schema(schema)
        if not isinstance(made.get("default"), str | int) or "pattern" in made:
            made.pop("default", None)
        return made


def _shown_default(text: str) -> dict[str, Any]:
    return {"default": text}


# --- the models -----------------------------------------------------------------------------------


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Attempt(_Model):
    """One run of a subtask."""

    takes: Takes = Field(default=clock.SECOND, json_schema_extra=_shown_default("1s"))
    """How long the run takes; `forever` for one that only the timeout or a cancel ends."""
    ends: ocp.Outcome | None = None
    """How it ends: SUCCESSFUL (the default) or FAILED."""
    log: Annotated[tuple[str, ...], _OrOne(), BeforeValidator(_split_lines)] = ()
    """What it logs: a text or a list of lines, spread evenly over the time it takes."""


Attempts = Annotated[tuple[Attempt, ...], Field(min_length=1), _OrOne()]


class Named(_Model):
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


class Subtask(_Model):
    """A step of a task. Its name alone will do: `- Start observer`."""

    id: Id | None = None
    name: Name | None = None
    description: str | None = None
    """The name, if left out."""
    needs: Annotated[tuple[Reference, ...], _OrOne()] | None = None
    """The subtasks that must have succeeded before this one may start, by id or name; if left out,
    the one listed just before. `[]` for one that may start at once."""
    attempts: Attempts = (Attempt(),)
    """What each run does: one attempt, or a list of which the last repeats. If left out, it takes
    a second and succeeds."""
    rollback: Attempts = (Attempt(),)
    """What rolling it back does, in the same way."""
    timeout: Timeout = Field(default=3600, json_schema_extra=_shown_default("1h"))
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


class Repeat(_Model):
    """Many tasks from one template; `{n}` in the name counts them, ids count on from the first."""

    count: Annotated[int, Field(ge=1, le=100_000)]
    every: Duration = Field(default=0, json_schema_extra=_shown_default("0s"))
    """How much later each one is born than the one before."""


class Task(_Model):
    """An OCP task: a DAG of subtasks."""

    id: Id | None = None
    name: Name | None = None
    type: Literal["MANUAL", "SYS_ONCE", "SCHEDULED", "SYS_SCHEDULED"] = "MANUAL"
    subtasks: Annotated[tuple[Subtask, ...], Field(min_length=1, max_length=2000)]
    """In the order the API lists them, which need not be the order they run in."""
    age: Duration = Field(default=0, json_schema_extra=_shown_default("0s"))
    """How long before the sandbox's start it was born."""
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


class Switches(_Model):
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


Status = Literal[ocp.SubtaskStatus, ocp.TaskStatus]


class Until(_Model):
    """A state to wait for: of a task, or of one of its subtasks."""

    task: Reference
    subtask: Reference | None = None
    status: Status | None = None
    operation: ocp.SubtaskOperation | None = None

    @model_validator(mode="after")
    def _something(self) -> Until:
        if self.status is None and self.operation is None:
            raise PydanticCustomError("bad_step", "waits for neither a status nor an operation")
        return self


Call = Literal["retryTask", "rollbackTask", "retrySubtask", "skipSubtask", "cancelSubtask"]


class Step(_Model):
    """One step of a story: wait `until` something is so, `wait` a while, or `call` an operation."""

    until: Until | None = None
    wait: Duration | None = None
    call: Call | None = None
    task: Reference | None = None
    subtask: Reference | None = None
    answers: Literal[200, 400] = 200
    """The HTTP status the call answers: 400 where the state does not allow it."""

    @model_validator(mode="after")
    def _one_thing(self) -> Step:
        given = [name for name in ("until", "wait", "call") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError("bad_step", "must have exactly one of until, wait and call")
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


class Scenario(_Model):
    """A scenario: tasks, how time passes for them, and the story a client can live with them."""

    model_config = ConfigDict(title="oceanmock scenario")

    summary: Annotated[str, Field(min_length=1, max_length=200)]
    """What happens, in one sentence."""
    api: Literal["ocp"]
    progression: clock.Progression = "time"
    """How time passes: `time` runs; `polls` goes to the next event each time a task has been read;
    `immediate` lets everything due happen at once; `manual` stands until it is moved."""
    starts_at: Instant | None = None
    """The instant the sandbox's clock starts at, with its offset; now, if left out."""
    tick: Tick = Field(default=clock.SECOND, json_schema_extra=_shown_default("1s"))
    """The period of the server's schedulers."""
    switches: Switches = Switches()
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    story: tuple[Step, ...] = ()
    """A life a client can live with these tasks, checked whenever the file is loaded."""

    _name: str = PrivateAttr("scenario")

    @property
    def name(self) -> str:
        """The library name or the file's stem; set by whoever loaded it."""
        return self._name


# --- from models to the machine -------------------------------------------------------------------


def plan_of(task: Task) -> ocp.TaskPlan:
    """The machine's plan of a task whose references have been checked."""
    return ocp.TaskPlan(
        subtasks=tuple(_subtask_plan(task, position) for position in range(len(task.subtasks))),
        concurrency=task.concurrency,
        prohibits_rollback=task.prohibit_rollback,
        abandoned_after=task.abandoned_after,
    )


def rules_of(tick: int, switches: Switches) -> ocp.Rules:
    """The machine's rules under a tick and switches."""
    return ocp.Rules(
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


def _subtask_plan(task: Task, position: int) -> ocp.SubtaskPlan:
    subtask = task.subtasks[position]
    return ocp.SubtaskPlan(
        attempts=tuple(map(_attempt_plan, subtask.attempts)),
        rollbacks=tuple(map(_attempt_plan, subtask.rollback)),
        needs=upstreams_of(task, position),
        timeout=subtask.timeout,
        prohibits_rollback=subtask.prohibit_rollback,
    )


def _attempt_plan(attempt: Attempt) -> ocp.Attempt:
    return ocp.Attempt(attempt.takes, attempt.ends or "SUCCESSFUL", attempt.log)
