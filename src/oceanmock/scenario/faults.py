"""Model an injected fault, as a scenario file or the admin API has it, and check a file's faults.

A fault selects requests (operation, ids, caller), counts them (calls, probability) and has effects, which
``engine.faults`` applies. Each format adds the operations of its API and the kinds that their paths name. Of a file's
faults, the first that applies to a request is injected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import orjson
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer, StrictBool, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from oceanmock import clock
from oceanmock.errors import Issue, Loc
from oceanmock.journal.entries import BODILESS, is_id
from oceanmock.scenario import IS_JSON, DurationText, Id, JsonValue, Model, Name, OrOne, Refuse, SentHeaders, must
from oceanmock.scenario.document import Document, contradiction, read_part
from oceanmock.text import closest, format_duration

MAX_ITEMS: Final = 1000  # the most calls or paths of a fault, and characters of a path


def span_of(calls: int | str) -> tuple[int, int | None]:
    """Return the first and the last number of a range, None where the end is open."""
    first, dash, last = str(calls).partition("-")
    return int(first), int(last or first) if last or not dash else None


def _is_ascending(calls: int | str) -> bool:
    first, last = span_of(calls)
    return last is None or first <= last


Calls = Annotated[
    Annotated[int, Field(strict=True, ge=1, lt=10**9)]
    | Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}(-([1-9][0-9]{0,8})?)?$", examples=["2-4", "1-"])],
    Refuse("bad_calls", "is neither a call's number, counted from 1, nor a range such as 2-4 or 1-"),
    must(_is_ascending, "bad_calls", "ends before it begins"),
]
"""A call by its number, or a range of them; ``Fault.spans`` reads it."""
ValuePath = Annotated[
    str,
    Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$", max_length=MAX_ITEMS),
    Refuse("bad_path", "is no path to a value, such as data.status, data.contents[0] or data.contents.*.id"),
]
MediaType = Annotated[
    str, Field(pattern="^[!-~]+/[ -~]*[!-~]$"), Refuse("bad_media_type", "is no media type such as text/html")
]
Body = Annotated[
    Annotated[str | dict[Any, Any] | list[Any], Refuse("bad_body", "is no text, mapping or list")], IS_JSON
]
ErrorCode = Annotated[
    Annotated[int, Field(strict=True, ge=0, lt=10**9)] | Name,
    Refuse("bad_code", "is neither an errCode such as Task.NotFound nor a number"),
]
ShownId = Annotated[
    Id | Annotated[str, Field(pattern="^[0-9]+$")], Refuse("bad_id", "is neither a number nor a generic id")
]
"""The number of a dag, node or sub task, or the generic id that the API makes of it, as a text."""
Span = Annotated[DurationText, PlainSerializer(format_duration, return_type=str)]


@dataclass(frozen=True, slots=True)
class OperationName:
    """Read the id of an operation from either of its names, or of a submit."""

    api: Any

    def _id_of(self, name: str) -> str:
        if (id := self.api.operation_id(name)) is None:
            near = closest(name, self.api.operation_names)
            names = dict.fromkeys([route.id for route in self.api.routes] + ([near] if near else []))
            raise PydanticKnownError("literal_error", {"expected": ", ".join(map(repr, names))})
        return str(id)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._id_of, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "enum": [*self.api.operation_names]}


MAX_FAULTS: Final = 200  # the most faults of a sandbox; every request is compared with each
EFFECTS: Final = (
    *("delay", "jitter", "status", "headers", "body", "error_code", "error_message", "reset", "drop_response"),
    *("empty", "truncate", "malformed", "content_type", "dribble", "set", "drop", "change_type"),
)
MANGLES: Final = ("headers", "truncate", "malformed", "content_type", "dribble", "set", "drop", "change_type")
"""The effects that change the operation's own response."""
_ALONE: Final = {
    "drop_response": (("delay", "jitter"), "there is no response"),
    "reset": (("delay", "jitter"), "there is no response"),
    "empty": (("delay", "jitter", "status", "headers", "content_type"), "there is no body"),
    "body": (
        ("delay", "jitter", "status", "headers", "truncate", "malformed", "content_type", "dribble"),
        "the response has nothing of the API's own",
    ),
}
"""The effects that exclude others, with those they allow beside them, and why."""


class Dribble(Model):
    """A body sent a few bytes at a time."""

    bytes: Annotated[int, Field(strict=True, ge=1, le=2**20)] = 16
    """The number of bytes sent at once."""
    every: Span = Field(default=50 * clock.MILLISECOND, json_schema_extra={"default": "50ms"})
    """The pause between them, in real time."""


class Fault(Model):
    """An injected fault: the requests that it applies to, and its effects. Tasks are not affected."""

    ids_by_operation: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """For each operation the kinds its path names, each with the path's parameter."""
    changing_operations: ClassVar[frozenset[str]] = frozenset()
    api: ClassVar[str] = ""
    """The API whose requests it applies to; every one's, where it is empty."""

    name: Name | None = None
    """Its name in the journal; `fault 1`, `fault 2` … in the order of the file, if left out."""
    operation: Annotated[tuple[str, ...], OrOne()] = ()
    """The operations that it applies to, by operationId; all, if left out."""
    stub: Name | None = None
    """The stub that responds; any operation or stub, if left out."""
    caller: Name | None = None
    """The caller: a user, an access key, `root` or `agent`. Any, if left out."""
    calls: Annotated[tuple[Calls, ...], Field(min_length=1, max_length=MAX_ITEMS), OrOne()] = ("1-",)
    """Which of the matching calls get the fault: `3`, `[1, 3]`, `2-4`, `1-`. Every one, if left
    out. Each fault counts its matching calls from 1, also those that got another fault."""
    counts: Literal["calls", "attempts"] = "calls"
    """Whether `calls` and `probability` count calls or attempts. A repetition of a request that got a fault, sent next
    by the same caller, is another call but the same attempt: obshell's Python SDK repeats each failed request once by
    itself."""
    probability: Annotated[float, Field(strict=True, ge=0, le=1)] = 1.0
    """The probability for each of these calls: 0 to 1, drawn from the sandbox's seed."""
    from_: Annotated[Span | None, Field(alias="from")] = None
    """How long after the sandbox's start, by its clock, it begins to apply; earlier requests are not counted."""
    until: Span | None = None
    """How long after the sandbox's start it stops applying."""
    when: Any = None
    """A condition that must hold when the request comes; other requests are not counted."""

    delay: Span | None = None
    """The delay of the response, in real time."""
    jitter: Span | None = None
    """The highest random addition to `delay`, drawn from the sandbox's seed."""
    status: Annotated[int, Field(strict=True, ge=200, le=599)] | None = None
    """The response's HTTP status, 200 to 599, with the `body`. Without one, a status from 400 on has an error in the
    API's own envelope, and a lower one, such as a redirect, has no body."""
    headers: SentHeaders | None = None
    """Send these headers: `Retry-After: "7"`, or the `Location` of a redirect."""
    body: Body | None = None
    """Send this body, with status 200 if there is no `status`: a text, such as the page of a proxy, or a mapping or
    list as JSON. The content type is that of the body, unless `headers` has another."""
    body_file: Annotated[str, Field(min_length=1, max_length=MAX_ITEMS)] | None = None
    """Send the content of this file as the `body`, as JSON if it is a .json. The path is relative to the scenario's
    folder; the file is read with the scenario."""
    error_code: ErrorCode | None = None
    """The code of an error in the API's own envelope, with status 500 if there is no `status`: a number of OCP, an
    errCode of obshell, or a number of an obshell before 4.3.1, which has no errCode."""
    error_message: Annotated[str, Field(max_length=10_000)] | None = None
    """The message of that error."""
    reset: StrictBool = False
    """Reset the connection and send nothing."""
    drop_response: StrictBool = False
    """Execute the operation and drop its response: `reset: true` with `still_executes: true`."""
    empty: StrictBool = False
    """Send a status and headers, and no body."""
    truncate: Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)] | None = None
    """Send only this many bytes of the body, although the headers announce all, and close the connection."""
    malformed: StrictBool = False
    """Send a body that is not valid JSON."""
    content_type: MediaType | None = None
    """Send this content type."""
    dribble: Dribble | None = None
    """Send the body slowly: `{bytes: 16, every: 50ms}`."""
    set: Annotated[Mapping[ValuePath, JsonValue], Field(max_length=MAX_ITEMS)] | None = None
    """Send these values of the JSON instead: `{data.status: BROKEN}`; an object may get new keys."""
    drop: Annotated[tuple[ValuePath, ...], Field(max_length=MAX_ITEMS), OrOne()] = ()
    """Leave out these values of the JSON: `data.contents[0]`, or `data.contents.*.id` in every item."""
    change_type: Annotated[tuple[ValuePath, ...], Field(max_length=MAX_ITEMS), OrOne()] = ()
    """Send these values with another type: a text as a number, everything else as a text."""
    still_executes: StrictBool = False
    """Execute the operation although its response is replaced (`status`, `body`), empty, or none (`reset`);
    required where an operation that changes something would get a mangled response."""

    @property
    def effects(self) -> tuple[str, ...]:
        """Return the keys of its effects, without those that are switched off."""
        values = {key: getattr(self, key) for key in EFFECTS}
        return tuple(key for key, value in values.items() if value is not False and value not in (None, ()))

    @property
    def mangles(self) -> tuple[str, ...]:
        """Return the effects that change the operation's own response."""
        return tuple(key for key in self.effects if key in MANGLES and self.own_status is None)

    @property
    def own_status(self) -> int | None:
        """Return the status of the response that replaces the operation's own; None where that is sent."""
        has_error = self.error_code is not None or self.error_message is not None
        return self.status or (500 if has_error else None if self.body is None else 200)

    @property
    def is_conditional(self) -> bool:
        """Return whether it applies only for a time, or while a condition holds."""
        return self.when is not None or bool(self.from_) or self.until is not None

    @cached_property
    def targets(self) -> dict[str, int | str]:
        """Return the ids that a request's path must have, by their kinds."""
        kinds = dict.fromkeys(kind for about in self.ids_by_operation.values() for kind in about)
        ids = {kind: getattr(self, kind) for kind in kinds}
        return {kind: id for kind, id in ids.items() if id is not None}

    @staticmethod
    def is_same_id(id: str, expected: int | str) -> bool:
        """Return whether an id in a request's path is the one that a fault has; a number is no generic id."""
        return is_id(id, str(expected)) and (isinstance(expected, str) or id != str(expected))

    @cached_property
    def spans(self) -> tuple[tuple[int, int | None], ...]:
        """Return the calls as pairs of first and last, the last None where the end is open."""
        return tuple(map(span_of, self.calls))

    def to_json(self) -> dict[str, Any]:
        """Return its keys and its API, as ``read_fault`` reads them."""
        api = {"api": self.api} if self.api else {}
        return api | self.model_dump(mode="json", exclude_defaults=True, by_alias=True)

    @model_validator(mode="after")
    def _check_effects(self) -> Fault:
        if self.body_file is not None:
            what, fix = "has a `body_file`, which only a scenario's file has, and without a `body`", "Give it a `body`."
            raise contradiction("bad_fault", what, fix=fix)
        if not self.effects:
            what = "does nothing; give it one of {effects}"
            raise contradiction("bad_fault", what, effects=", ".join(EFFECTS))
        clashes = [
            (beside, f"`{key}`", why)
            for key, (allowed, why) in _ALONE.items()
            for beside in self.effects
            if key in self.effects and beside not in (key, *allowed)
        ]
        status, errors = self.own_status or 500, [key for key in self.effects if key.startswith("error_")]
        clashes += [(key, f"status {status}", "there is no error") for key in errors if status < 400]
        clashes += [("body", f"status {status}", "there is no body")] * (status in BODILESS and self.body is not None)
        for beside, what, why in clashes:
            message, fix = "has `{beside}` beside {what}, with which {why}", "Leave one of them out."
            raise contradiction("bad_fault", message, beside=beside, what=what, why=why, fix=fix)
        if self.until is not None and self.until <= (self.from_ or 0):
            message, fix = "never applies: `until` is not later than `from`", "Give it a later `until`."
            raise contradiction("bad_fault", message, fix=fix)
        return self


def read_bodies(document: Document, folder: Path) -> Iterator[Issue]:
    """Put the content of each fault's file in its place, and yield an issue for each that cannot be read."""
    faults = document.data.get("faults") if isinstance(document.data, dict) else None
    for place, fault in enumerate(faults if isinstance(faults, list) else ()):
        if not isinstance(fault, dict) or not isinstance(fault.get("body_file"), str) or "body" in fault:
            continue
        path, fault["body"] = folder / fault.pop("body_file"), ""
        document.files[path] = None
        try:
            text = read_part(path)
            fault["body"] = orjson.loads(text) if path.suffix == ".json" else text
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            yield Issue(("faults", place, "body_file"), "unreadable-file", f"{path} cannot be read: {why}")


def name_each(noun: str, items: Iterable[Any]) -> tuple[list[str], list[Issue]]:
    """Return the names of a file's faults or stubs, by default numbers, and an issue for each duplicate."""
    names, issues = list[str](), list[Issue]()
    for place, item in enumerate(items):
        name = item.name or f"{noun} {place + 1}"
        if name in names:
            what = f"{noun} {names.index(name) + 1} of this file is already called {name!r}"
            issues.append(Issue((f"{noun}s", place, "name"), "duplicate-name", what))
        names.append(name)
    return names, issues


def check_faults(faults: Sequence[Fault]) -> Iterator[Issue]:
    """Yield the issues of a file's faults: duplicate names, changes it does not state, and faults without effect."""
    constant = list[tuple[int, Fault]]()
    yield from name_each("fault", faults)[1]
    for place, fault in enumerate(faults):
        loc: Loc = ("faults", place)
        # A fault without an operation applies to all, also to those that change something, as a submit does.
        ids = fault.operation or fault.changing_operations
        changing = {id for id in ids if id in fault.changing_operations or id not in fault.ids_by_operation}
        if fault.mangles and changing and not (fault.still_executes or fault.stub):
            which, hint = f"{min(changing)} changes something", "Say `still_executes: true`."
            if not fault.operation:
                which = "it applies to operations that change something, too"
                hint = "Say `still_executes: true`, or name the operations it applies to."
            effect = fault.mangles[0]
            what = f"`{effect}` changes the response of an executed operation, and {which}"
            yield Issue((*loc, effect), "unsaid-change", what, hint)
        for key, why, hint in islice(_reasons(fault, constant), 1):
            what = f"fault {place + 1} is never injected: {why}"
            yield Issue((*loc, key) if key else loc, "never-injected", what, hint)
        if fault.probability == 1 and (1, None) in fault.spans and not fault.is_conditional:
            constant.append((place + 1, fault))


def _reasons(fault: Fault, constant: Sequence[tuple[int, Fault]]) -> Iterator[tuple[str, str, str]]:
    """Yield each reason why a fault is never injected: key, reason, hint; the faults ``constant`` always precede it."""
    if not fault.probability:
        yield "probability", "its probability is 0", "Give it one above 0, or remove the fault."
    targets = fault.targets
    if fault.stub and (fault.operation or targets):
        yield "stub", "a stub responds only beside the operations", "Leave the operation and the ids out."
    names_nothing = fault.operation and not any(fault.ids_by_operation.get(id) for id in fault.operation)
    if fault.when is not None and fault.when.of is None and (fault.stub or names_nothing):
        root = fault.when.api.root.name
        yield "when", f"its requests name no {root}", f"Say which one: `when: {{{root}: …}}`."
    fitting = [id for id, about in fault.ids_by_operation.items() if set(targets) <= set(about)]
    if targets and not set(fault.operation or fitting) & set(fitting):
        kinds = " and ".join(f"a {kind.replace('_', ' ')}" for kind in targets)
        which = f"{fault.operation[0]} is not" if fault.operation else "no operation is"
        hint = f"These are: {', '.join(fitting)}." if fitting else "Leave one of them out."
        yield [*targets][-1], f"{which} about {kinds}", hint
    for number, other in constant:
        covers = not other.operation or (fault.operation and set(fault.operation).issubset(other.operation))
        covers = covers and other.stub in (None, fault.stub)
        if other.caller in (None, fault.caller) and covers and other.targets.items() <= targets.items():
            hint = "Put that one behind, or say to which `calls` it applies."
            yield "", f"fault {number} applies to all its requests", hint
