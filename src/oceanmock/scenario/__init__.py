"""Define what all formats of scenario files share: types of values, base models, and the JSON Schema.

Models are frozen and refuse unknown keys; editors show the docstring under a key. Types are as strict as their JSON
Schema: a text is never read as a number, or as true or false.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PrivateAttr,
    StrictInt,
    StrictStr,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from pydantic_core.core_schema import ModelSchema, NullableSchema, WithDefaultSchema

from oceanmock import clock
from oceanmock.scenario.document import contradiction
from oceanmock.text import DURATION_PATTERN, format_instant, nanoseconds_of, parse_duration

OUT_OF_TIME: Final = f"is not between {format_instant(clock.EARLIEST)} and {format_instant(clock.LATEST)}"
MAX_STUBS: Final = 200  # the most stubs of a sandbox, and the most templates: a request is compared with each
MAX_REFUSALS: Final = 20
MAX_OTHERS: Final = 100
MAX_PATH_LENGTH: Final = 1000
MAX_STORY_STEPS: Final = 1000
MAX_COPIES: Final = 1_000_000  # the most tasks of one that repeats
MAX_ID: Final = 2**53 - 1  # the largest whole number that every JSON reader keeps exact; OCP writes larger ids as texts


@dataclass(frozen=True, slots=True)
class Refuse:
    """Replace all errors of a type by one, with a rule and a message."""

    rule: str
    message: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(handler(source), self.rule, custom_error_message=self.message)


def must(condition: Callable[[Any], object], rule: str, message: str) -> AfterValidator:
    """Refuse values that do not meet a condition."""

    def check(value: Any) -> Any:
        if not condition(value):
            raise PydanticCustomError(rule, message)
        return value

    return AfterValidator(check)


@dataclass(frozen=True, slots=True)
class OrOne:
    """Mark a list that may be written as its only item, for the validator and the schema."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def as_list(value: object) -> object:
            return value if value is None or isinstance(value, list | tuple) else [value]

        return core_schema.no_info_before_validator_function(as_list, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        several = handler(schema)
        return {"anyOf": [several, several["items"]]}


def _whole_seconds(span: int) -> int:
    if span % clock.SECOND:
        raise PydanticCustomError("bad_duration", "is not a whole number of seconds")
    return span // clock.SECOND


def _duration_schema(also: str = "") -> WithJsonSchema:
    pattern = rf"^({DURATION_PATTERN}{also})$"
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": ["400ms", "1.9s"]})


def _check_instant(value: object) -> object:
    """Refuse a number, also as a text: pydantic would read it as seconds since 1970."""
    if not isinstance(value, str | datetime) or (isinstance(value, str) and ":" not in value):
        raise PydanticCustomError("bad_instant", "is no instant")
    return value


DurationText = Annotated[int, BeforeValidator(parse_duration), _duration_schema()]
Takes = Annotated[
    int | None,
    BeforeValidator(lambda value: None if value == "forever" else parse_duration(value)),
    _duration_schema("|forever"),
]
Timeout = Annotated[DurationText, AfterValidator(_whole_seconds)]
Tick = Annotated[DurationText, must(lambda span: span >= clock.MILLISECOND, "bad_duration", "is shorter than 1ms")]
Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_check_instant),
    must(lambda value: clock.EARLIEST <= nanoseconds_of(value) <= clock.LATEST, "bad_instant", OUT_OF_TIME),
]


def _check_whole(value: object) -> object:
    if isinstance(value, str | bool):
        raise PydanticCustomError("int_type", "is not a whole number")
    return value


def _check_json(data: Any, *, bits: int = 53) -> Any:
    """Refuse whole numbers of more bits, and numbers and keys that JSON does not have."""
    waiting: list[Any] = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
            if not all(isinstance(key, str) for key in value):
                raise PydanticCustomError("bad_data", "has a key that is no text")
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, int) and abs(value) >= 2**bits:
            raise PydanticCustomError("bad_data", f"holds a number beyond 2^{bits}")
        elif isinstance(value, float) and not isfinite(value):
            raise PydanticCustomError("bad_data", "holds a number that JSON does not have")
    return data


Id = Annotated[int, Field(strict=True, ge=1, le=MAX_ID)]
Name = Annotated[str, Field(min_length=1, max_length=500)]
WHOLE: Final = BeforeValidator(_check_whole)
"""Mark a whole number, also written as `5.0`, as in JSON Schema; its bounds come before this."""
Int32 = Annotated[int, Field(ge=-(2**31), lt=2**31), WHOLE]
Reference = Annotated[StrictInt | StrictStr, Refuse("bad_reference", "should be an id or a name")]
PathTemplate = Annotated[
    str,
    Field(max_length=MAX_PATH_LENGTH, pattern=r"^(?:/(?:[A-Za-z0-9._~-]+|\{[A-Za-z][A-Za-z0-9_]*\}))+$"),
    Refuse("bad_path", "is no path such as /api/v1/agent/join"),
]
"""A request's path, in which `{id}` stands for any segment."""
IS_JSON: Final = AfterValidator(partial(_check_json, bits=63))
JsonValue = Annotated[Any, IS_JSON]
"""Any JSON, with whole numbers of 64 bits, which servers send."""
JsonObject = Annotated[dict[str, Any], AfterValidator(_check_json)]
_OWN_HEADERS: Final = frozenset(("connection", "content-length", "transfer-encoding"))
HeaderName = Annotated[
    str,
    Field(pattern="^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"),
    must(lambda name: name.lower() not in _OWN_HEADERS, "bad_header", "is a header that the server sets itself"),
]
SentHeaders = Mapping[HeaderName, Annotated[StrictStr, Field(pattern="^[ -~]*$")]]


class FileSchema(GenerateJsonSchema):
    """Write a JSON Schema that editors show well: without titles and nulls, and only with useful defaults."""

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        """Describe each key by the docstring under it; pydantic would read these at every import."""
        result = super().model_schema(schema)
        for ancestor in reversed(schema["cls"].__mro__):
            for name, text in _docstrings_of_keys(ancestor) if issubclass(ancestor, Model) else ():
                key = name.rstrip("_")  # a keyword of Python is a key without "_"
                if key in result["properties"]:
                    result["properties"][key]["description"] = text
        return result

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: a key needs no title."""
        return False

    def nullable_schema(self, schema: NullableSchema) -> JsonSchemaValue:
        """Return the schema without null: authors leave an optional key out."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        """Keep numbers and texts as defaults; that of a duration is stated with its field."""
        result = super().default_schema(schema)
        kinds = str if "pattern" in result else str | int
        if not isinstance(result.get("default"), kinds):
            result.pop("default", None)
        return result


def _docstrings_of_keys(model: type[Model]) -> Iterator[tuple[str, str]]:
    (definition,) = ast.parse(inspect.getsource(model)).body
    for one, other in pairwise(getattr(definition, "body", ())):
        match one, other:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)


class Model(BaseModel):
    """A mapping of the file: frozen, and without unknown keys. pydantic builds it at its first use."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Line(Model):
    """A line of a log that is written at its own time."""

    at: DurationText
    """The time since the start of its run."""
    text: str


LogText = Annotated[
    Annotated[Line, Tag("<dated>")] | Annotated[str, Tag("<text>")],
    Discriminator(lambda value: "<dated>" if isinstance(value, dict | Line) else "<text>"),
]
Lines = Annotated[
    tuple[LogText, ...], OrOne(), BeforeValidator(lambda value: value.splitlines() if isinstance(value, str) else value)
]
"""A text, or a list of lines, each a text or `{at: 2s, text: …}`."""


def lines_of(lines: Iterable[Line | str]) -> tuple[Any, ...]:
    """Return the lines of a log in the form that machines read."""
    return tuple(line if isinstance(line, str) else (line.at, line.text) for line in lines)


class NamedModel(Model):
    """A mapping that may be written as its name alone."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        description = f"A {cls.__name__.lower()}'s name."
        return {"anyOf": [handler(core_schema), {"type": "string", "description": description}]}


class BaseStep(Model):
    """One step of a story; each format adds the keys of its calls, and the values of ``answers``.

    ``keys_of_calls`` has the keys that each call requires, ``operations`` the operation of each call without a key for
    it; ``allowed_at_start`` is the key that a start may have, too.
    """

    keys_of_calls: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    operations: ClassVar[Mapping[str, str]] = {}
    allowed_at_start: ClassVar[str] = ""

    until: Any = None
    wait: DurationText | None = None
    start: Name | None = None
    """The name of a task or dag with `starts_on`; its request is sent now."""
    call: Any = None

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.until, self.wait, self.start, self.call).count(None) != 3:
            raise contradiction("bad_step", "must be one of until, wait, start and call")
        call_keys = {"answers"}.union(*self.keys_of_calls.values())
        if self.call is None:
            if stray := call_keys & self.model_fields_set - ({self.allowed_at_start} if self.start else set()):
                step = "start" if self.start else "wait" if self.until is None else "until"
                message = "has `{stray}` beside `{step}`, where only a call has it"
                raise contradiction("bad_step", message, stray=min(stray), step=step)
            return self
        required = self.keys_of_calls[self.call]
        for key in required:
            if getattr(self, key) is None:
                raise contradiction("bad_step", "calls {call} without `{key}`", call=self.call, key=key)
        for key in call_keys - {"answers", *required}:
            if getattr(self, key) is not None:
                raise contradiction("bad_step", "has a `{key}`, which {call} does not take", key=key, call=self.call)
        return self


class BaseScenario(Model):
    """The keys of every scenario."""

    model_config = ConfigDict(title="oceanmock scenario")

    summary: Annotated[str, Field(min_length=1, max_length=200)]
    """A sentence that says what happens."""
    api: str
    """The API. The other keys depend on it."""
    progression: clock.Progression = "time"
    """How time passes: `time` runs like a clock; `polls` moves to the next event after each read of a task or dag;
    `immediate` moves to the end at once; `manual` moves only on request."""
    starts_at: Instant | None = None
    """The instant at which the sandbox's clock starts, with an offset; now, if left out, or beside other scenarios."""
    tick: Tick = Field(default=clock.DEFAULT_TICK, json_schema_extra={"default": "1s"})
    """The period of the server's schedulers."""

    stubs: tuple[Any, ...] = ()
    """Responses to calls beside the task routes; the first stub that matches a request responds."""

    _name: str = PrivateAttr("scenario")
    _size: int = PrivateAttr(0)
    _source: bytes = PrivateAttr(b"")
    _files: tuple[Path, ...] = PrivateAttr(())

    if TYPE_CHECKING:  # each format declares these, as its last keys
        switches: Any
        faults: Any
        story: Any

    @property
    def stands_alone(self) -> bool:
        """Return whether it must be served without other scenarios."""
        return False

    @property
    def responses(self) -> list[tuple[str, Any]]:
        """Return each stub and each fault with its name."""
        responses = (("stub", self.stubs), ("fault", self.faults))
        return [(item.name or f"{noun} {at}", item) for noun, items in responses for at, item in enumerate(items, 1)]

    @property
    def source(self) -> bytes:
        """Return the file's content as JSON, which the loader sets."""
        return self._source

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that its own names, which the loader sets."""
        return self._files

    @property
    def name(self) -> str:
        """Return the library name or the file's stem, which the loader sets."""
        return self._name
