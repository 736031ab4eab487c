"""What goes wrong on purpose, as a scenario file or the admin API says it: the model of a fault.

A fault says whom it strikes (operation, ids, caller), when (which calls, how probably) and how: its
effects. Here is what both APIs share; each format adds the operations of its own API and the things
they are about. Which call a fault strikes, and what becomes of an answer, is for ``faults``; what
only the whole file can show is for ``scenario_rules``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from oceanmock import clock
from oceanmock.scenario.fields import MAX_ID, Duration, Id, Model, Name, OrOne, shown_default
from oceanmock.text import format_duration

# --- call numbers, paths, media types -------------------------------------------------------------

_CALLS: Final = re.compile(r"([1-9][0-9]{0,8})(?:(-)([1-9][0-9]{0,8})?)?", re.ASCII)
_PATH: Final = re.compile(r"[^.\s]+(?:\.[^.\s]+)*")
_MEDIA_TYPE: Final = re.compile(r"[!-~]+/[ -~]*[!-~]", re.ASCII)


def _check_calls(value: object) -> object:
    """A number, or a text of one number or of a range, in which the end may be left open."""
    is_text = isinstance(value, int | str) and not isinstance(value, bool)
    written = _CALLS.fullmatch(str(value)) if is_text else None
    if written is None:
        what = "is neither a call's number, counted from 1, nor a range such as 2-4 or 1-"
        raise PydanticCustomError("bad_calls", what)
    first, _, last = written.groups()
    if last is not None and int(last) < int(first):
        raise PydanticCustomError("bad_calls", "ends before it begins")
    return value


def _check_path(value: object) -> object:
    if isinstance(value, str) and _PATH.fullmatch(value):
        return value
    what = "is no way to a value, such as data.status or data.contents.*.id"
    raise PydanticCustomError("bad_path", what)


def _check_media_type(value: object) -> object:
    if isinstance(value, str) and _MEDIA_TYPE.fullmatch(value):
        return value
    raise PydanticCustomError("bad_media_type", "is no media type such as text/html")


def _check_id(value: object) -> object:
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_ID:
        return value
    raise PydanticCustomError("bad_id", "is neither a number nor a generic id")


Calls = Annotated[
    int | str,
    BeforeValidator(_check_calls),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": f"^{_CALLS.pattern}$", "examples": ["2-4", "1-"]},
            ]
        }
    ),
]
"""A call by its number, or a range of them; ``Fault.spans`` reads it."""

Path = Annotated[
    str,
    BeforeValidator(_check_path),
    WithJsonSchema({"type": "string", "pattern": f"^{_PATH.pattern}$"}),
]
MediaType = Annotated[
    str,
    BeforeValidator(_check_media_type),
    WithJsonSchema({"type": "string", "pattern": f"^{_MEDIA_TYPE.pattern}$"}),
]
ShownId = Annotated[
    int | str,
    BeforeValidator(_check_id),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_ID},
                {"type": "string", "pattern": "^[0-9]+$"},
            ]
        }
    ),
]
"""The number of a dag, node or sub task, or the generic id that the API makes of it, as a text."""
Span = Annotated[Duration, PlainSerializer(format_duration, return_type=str)]
Status = Annotated[int, Field(strict=True, ge=400, le=599)]
Size = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
Probability = Annotated[float, Field(strict=True, ge=0, le=1)]


# --- the models -----------------------------------------------------------------------------------

EFFECTS: Final = (
    *("delay", "jitter", "status", "reset", "drop_response", "empty", "truncate"),
    *("malformed", "content_type", "dribble", "drop", "change_type"),
)
MANGLES: Final = ("truncate", "malformed", "content_type", "dribble", "drop", "change_type")
"""The effects that make another answer of the one there is."""
_ALONE: Final = {
    "drop_response": (("delay", "jitter"), "there is no answer"),
    "reset": (("delay", "jitter"), "there is no answer"),
    "empty": (("delay", "jitter", "status", "content_type"), "there is no body"),
}
"""The effects that leave nothing for others: those they may stand beside, and why only those."""


class Dribble(Model):
    """A body that comes a few bytes at a time."""

    bytes: Annotated[int, Field(strict=True, ge=1, le=2**20)] = 16
    """How many come at once."""
    every: Span = Field(default=50 * clock.MILLISECOND, json_schema_extra=shown_default("50ms"))
    """How long after the ones before, by the machine's clock."""


class Fault(Model):
    """Something that goes wrong on purpose, and with which requests; never with the tasks."""

    KINDS: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """For each operation, what it is about, and which variable of its path says so."""
    CHANGES: ClassVar[frozenset[str]] = frozenset()
    """The operations that change something."""
    API: ClassVar[str] = ""
    """The API whose requests it strikes; either's, where it is empty."""

    name: Name | None = None
    """What the journal calls it; `fault 1`, `fault 2` … in the order of the file, if left out."""
    operation: Annotated[tuple[str, ...], OrOne()] = ()
    """The operations it strikes, by their operationId; every one, if left out."""
    caller: Name | None = None
    """Who must have asked: a user, an access key, `root` or `agent`. Anybody, if left out."""
    calls: Annotated[tuple[Calls, ...], Field(min_length=1), OrOne()] = ("1-",)
    """Which of the calls it might strike it does: `3`, `[1, 3]`, `2-4`, `1-`. Every one, if left
    out. They are counted for each fault, from 1, whether or not another one has struck them."""
    counts: Literal["calls", "attempts"] = "calls"
    """What `calls` and `probability` count. A request that directly follows one that was struck, of
    the same caller and equal to it, is another call, but the same attempt: obshell's Python SDK
    sends each failed request a second time by itself."""
    probability: Probability = 1.0
    """How probably each of these calls is struck: 0 to 1, drawn from the sandbox's seed."""

    delay: Span | None = None
    """How much later it is answered, by the machine's clock."""
    jitter: Span | None = None
    """At most how much later than that, drawn from the sandbox's seed."""
    status: Status | None = None
    """The answer's HTTP status, 400 to 599, with an error in the API's own envelope."""
    reset: bool = False
    """Reset the connection and answer nothing."""
    drop_response: bool = False
    """Execute the operation and drop its response: `reset: true` with `still_executes: true`."""
    empty: bool = False
    """Answer a status and headers, and no body."""
    truncate: Size | None = None
    """Send so many bytes of the body, of which the headers promise all, and close."""
    malformed: bool = False
    """Send a body that is not quite JSON."""
    content_type: MediaType | None = None
    """Send this as the answer's content type."""
    dribble: Dribble | None = None
    """Send the body slowly: `{bytes: 16, every: 50ms}`."""
    drop: Annotated[tuple[Path, ...], OrOne()] = ()
    """Leave out what is there in the JSON: `data.status`, or `data.contents.*.id` in every item."""
    change_type: Annotated[tuple[Path, ...], OrOne()] = ()
    """Make it of another type: a text a number, everything else a text."""
    still_executes: bool = False
    """Execute the operation although its response is replaced (`status`), empty, or none (`reset`);
    required where an operation that changes something would get a mangled response."""

    @property
    def effects(self) -> tuple[str, ...]:
        """What it does, by its keys; an effect that is switched off is none."""
        given = ((key, getattr(self, key)) for key in EFFECTS)
        return tuple(key for key, it in given if it is not None and it is not False and it != ())

    @property
    def mangles(self) -> tuple[str, ...]:
        """The effects that spoil the operation's own answer; that of `status` is the fault's."""
        return tuple(key for key in self.effects if key in MANGLES and self.status is None)

    @property
    def targets(self) -> dict[str, str]:
        """What a request must be about: the kinds and their ids."""
        kinds = dict.fromkeys(kind for about in self.KINDS.values() for kind in about)
        given = {kind: getattr(self, kind) for kind in kinds}
        return {kind: str(id) for kind, id in given.items() if id is not None}

    @property
    def spans(self) -> tuple[tuple[int, int | None], ...]:
        """The calls as pairs of first and last, the last None where the end is open."""
        return tuple(map(_span, self.calls))

    def to_json(self) -> dict[str, Any]:
        """What was said of it, and its API; ``read_fault`` makes the same of it."""
        api = {"api": self.API} if self.API else {}
        return api | self.model_dump(mode="json", exclude_defaults=True)

    @model_validator(mode="after")
    def _something_that_can_be(self) -> Fault:
        if not self.effects:
            what = "does nothing; give it one of {effects}"
            raise PydanticCustomError("bad_fault", what, {"effects": ", ".join(EFFECTS)})
        for key, (allowed, why) in _ALONE.items():
            beside = [each for each in self.effects if each != key and each not in allowed]
            if key in self.effects and beside:
                context = {"key": key, "beside": beside[0], "why": why}
                message = "has `{beside}` beside `{key}`, with which {why}"
                raise PydanticCustomError("bad_fault", message, context)
        return self


def _span(written: int | str) -> tuple[int, int | None]:
    first, dash, last = str(written).partition("-")
    if not dash:
        return int(first), int(first)
    return int(first), int(last) if last else None


# --- of each API ----------------------------------------------------------------------------------

OcpChange = Literal["retryTask", "rollbackTask", "retrySubtask", "skipSubtask", "cancelSubtask"]
OcpOperation = Literal["listTaskInstances", "getTaskInstance", "getSubtaskLog", OcpChange]
"""The operations of openapi/ocp.yaml."""

_TASK: Final = {"task": "taskInstanceId"}
_SUBTASK: Final = {**_TASK, "subtask": "subtaskInstanceId"}


class OcpFault(Fault):
    """Something that goes wrong on purpose, and with which requests; never with the tasks."""

    API: ClassVar[str] = "ocp"
    CHANGES: ClassVar[frozenset[str]] = frozenset(get_args(OcpChange))
    KINDS: ClassVar[Mapping[str, Mapping[str, str]]] = {
        each: _SUBTASK if "Subtask" in each else {} if each == "listTaskInstances" else _TASK
        for each in get_args(OcpOperation)
    }

    operation: Annotated[tuple[OcpOperation, ...], OrOne()] = ()
    """The operations it strikes, by their operationId; every one, if left out."""
    task: Id | None = None
    """The id of the task a request must be about; any, if left out."""
    subtask: Id | None = None
    """The id of the subtask a request must be about; any, if left out."""


ObshellChange = Literal["dagHandler", "nodeHandler"]
ObshellOperation = Literal[
    "getAllClusterDags",
    "getAllAgentDags",
    "getObLastMaintenanceDag",
    "getAgentLastMaintenanceDag",
    "getAllAgentsLastMaintenanceDag",
    "getUnfinishedDags",
    "getClusterUnfinishDags",
    "getAgentUnfinishDags",
    "getAgentMainDags",
    "getDagDetail",
    "getNodeDetail",
    "getSubTaskDetail",
    "getFullSubTaskLogs",
    "getAgentInfo",
    "getSecret",
    "getTime",
    "getGitInfo",
    "getStatus",
    ObshellChange,
]
"""The operations of openapi/obshell.yaml."""

_ABOUT: Final = {
    "getDagDetail": "dag",
    "dagHandler": "dag",
    "getNodeDetail": "node",
    "nodeHandler": "node",
    "getSubTaskDetail": "sub_task",
    "getFullSubTaskLogs": "sub_task",
}


class ObshellFault(Fault):
    """Something that goes wrong on purpose, and with which requests; never with the dags."""

    API: ClassVar[str] = "obshell"
    CHANGES: ClassVar[frozenset[str]] = frozenset(get_args(ObshellChange))
    KINDS: ClassVar[Mapping[str, Mapping[str, str]]] = {
        each: {_ABOUT[each]: "id"} if each in _ABOUT else {} for each in get_args(ObshellOperation)
    }

    operation: Annotated[tuple[ObshellOperation, ...], OrOne()] = ()
    """The operations it strikes, by their operationId; every one, if left out."""
    dag: ShownId | None = None
    """The dag a request must be about, by its number, or its generic id as a text; any, if left
    out."""
    node: ShownId | None = None
    """The node a request must be about, in the same way."""
    sub_task: ShownId | None = None
    """The sub task a request must be about, in the same way."""
