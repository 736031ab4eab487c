"""Model a stub: a call beside the task routes, and the response that a scenario gives it.

A stub selects requests by method, path, query, headers and body, perhaps only while a task or dag is in a state, or in
an interval of the clock. In its response `{path.name}` and other placeholders stand for values of the request and of
that task or dag. Each format adds the words of its API to the condition. ``engine.sandbox`` counts the responses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import parse_qsl

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, SchemaError, SchemaValidator, core_schema

from oceanmock.errors import Loc
from oceanmock.journal.entries import BODILESS, body_value, has_values
from oceanmock.openapi import path_matches
from oceanmock.scenario import JsonObject, JsonValue, Model, Name, PathTemplate, Refuse, SentHeaders
from oceanmock.scenario.document import contradiction, value_at, wrong_value
from oceanmock.scenario.faults import Span, span_of
from oceanmock.text import format_duration, shorten, suggest

MAX_REGEX_LENGTH: Final = 200
MAX_MATCHED_LENGTH: Final = 4096  # regular expressions match no longer texts, so that their time is bounded
_STEP: Final = re.compile(r"\[([0-9]{1,6})\]|([^.\[\]{}\s]+)")
_PATH_TO_VALUE: Final = r"^(?:[^.\[\]{}\s]+|\[[0-9]{1,6}\])(?:\.[^.\[\]{}\s]+|\[[0-9]{1,6}\])*$"
_PLACEHOLDER: Final = re.compile(
    r"\{(?P<text>\{[\w.\[\]-]+\})\}|\{(?P<path>[A-Za-z_]\w*(?:\.[\w-]+|\[[0-9]{1,6}\])*)\}"
)
"""A placeholder in braces; in two pairs of braces, a text that stays, without the outer pair."""


@lru_cache(maxsize=1024)
def _compile(regex: str) -> SchemaValidator:
    """Compile a regular expression of Rust's engine, whose time is linear (docs.rs/regex). Raises SchemaError."""
    return SchemaValidator(core_schema.str_schema(pattern=regex, regex_engine="rust-regex"))


def _check_expected(value: Any) -> Any:
    if _is_regex(value):
        if len(value["regex"]) > MAX_REGEX_LENGTH:
            raise PydanticCustomError("bad_regex", f"is longer than {MAX_REGEX_LENGTH} characters")
        try:
            _compile(value["regex"])
        except SchemaError as error:
            why = " ".join(str(error).splitlines()[-1].split())
            raise PydanticCustomError("bad_regex", "is no regular expression: {why}", {"why": why}) from None
    return value


def _is_regex(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"regex"} and isinstance(value["regex"], str)


def _has_value(actual: Any, expected: Any) -> bool:
    """Return whether a value, or None for none, has or matches the expected one."""
    if not _is_regex(expected):
        return has_values(actual, expected)
    text = _plain_text(actual)
    is_bounded = actual is not None and len(text) <= MAX_MATCHED_LENGTH
    return is_bounded and _compile(expected["regex"]).isinstance_python(text)


Expected = Annotated[JsonValue, AfterValidator(_check_expected)]  # a value, or ``{regex: …}``
ValuePath = Annotated[
    str, Field(pattern=_PATH_TO_VALUE, max_length=1000), Refuse("bad_path", "is no path such as zone_list[0].name")
]


class Matches(Model):
    """What a request must have besides its method and path. Each value but the `body` is the value itself, or
    `{regex: …}`: a regular expression (Rust's) found in a text of at most 4,096 characters."""

    query: Mapping[Name, Expected] = Field(default_factory=dict)
    """Parameters of the query, of equal ones the first; null for one that must be missing."""
    headers: Mapping[Name, Expected] = Field(default_factory=dict)
    """Headers, in any case; null for one that must be missing."""
    body: JsonValue = None
    """What the request's JSON must contain: the listed keys of an object, all items of a list."""
    values: Mapping[ValuePath, Expected] = Field(default_factory=dict)
    """Single values of the request's JSON by their paths: `zone_list[0].name: zone1`."""

    @model_validator(mode="after")
    def _check_texts(self) -> Matches:
        for name, value in (*self.query.items(), *self.headers.items()):
            if isinstance(value, dict | list) and not _is_regex(value):
                message = "asks for {name} as something that no text is; write it as it is, or as {regex: …}"
                raise contradiction("bad_match", message, name=name)
        return self

    def difference(self, request: StubRequest) -> str:
        """Return the first requirement that a request does not meet, or ""."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        for noun, actual, expected in (("query", request.query, self.query), ("header", request.headers, headers)):
            for name, value in expected.items():
                text = json.dumps(value) if isinstance(value, int | float) else value
                if not _has_value(actual.get(name), text):
                    return f"asks for the {noun} {name}: {_text(value)}"
        if self.body is not None and not has_values(request.body, self.body):
            return f"asks for a body that has {_text(self.body)}"
        for path, value in self.values.items():
            if not _has_value(value_at(request.body, _steps(path)), value):
                return f"asks for {_text(value)} at {path} of the body"
        return ""


class BaseWhen(Model):
    """A condition of a stub or fault: on a task or dag of this file, on the clock, or both.

    Each format adds its ``api``, the ``item_schema`` of a task or dag in its contract, and keys for its root and its
    words, by the API's own names. ``stage`` is for an API that has stages. Without a root, one ``of_request`` is on
    what the request names.
    """

    api: ClassVar[Any]
    item_schema: ClassVar[str]
    of_request: ClassVar[bool] = False

    after: Span | None = None
    """How long after its task or dag, or without one the sandbox, has started the condition begins to hold."""
    before: Span | None = None
    """How long after that start the condition stops holding."""

    @property
    def of(self) -> int | str | None:
        """Return the reference to a task or dag, if any."""
        reference: int | str | None = getattr(self, self.api.root.name)
        return reference

    @model_validator(mode="after")
    def _check_keys(self) -> BaseWhen:
        root = self.api.root.name
        stray = [key for key in type(self).model_fields if key not in (root, "after", "before") and getattr(self, key)]
        if self.of is None and stray and not self.of_request:
            raise contradiction("bad_condition", "has a `{key}` without its `{root}`", key=stray[0], root=root)
        if not self.model_fields_set:
            raise contradiction("bad_condition", "asks for nothing; leave it out")
        if self.before is not None and self.before <= (self.after or 0):
            raise contradiction("bad_condition", "never holds: `before` is not later than `after`")
        key, states = self.api.state_key, self.api.root.states
        if never := [state for state in getattr(self, key, ()) if self.of is not None and state not in states]:
            raise wrong_value(key, f"a {self.api.root.title} is never {never[0]}", suggest(never[0], states))
        return self

    def difference(self, view: Any, started: int, now: int) -> str:
        """Return why it does not hold at an instant, or ""; ``view`` is that of its task or dag, if there is one."""
        if self.of is not None or self.of_request:
            who = f"{self.api.root.title} {self.of!r}"
            if view is None:
                return f"waits for {who}, which has not been started"
            started = view.data.created
            for key in (self.api.state_key, self.api.operation_key):
                words, actual = getattr(self, key, ()), getattr(view.state, key)
                if words and actual not in words:
                    return f"waits until {who} is {' or '.join(words)}; it is {actual}"
            stage = getattr(self, "stage", None)
            if stage is not None:
                first, last = span_of(stage)
                if not first <= view.state.stage <= (last or view.state.stage):
                    return f"asks for stage {stage} of {who}, which is at stage {view.state.stage}"
        age = now - started
        if self.after is not None and age < self.after:
            return f"begins {format_duration(self.after - age)} from now"
        return "has ended" if self.before is not None and age >= self.before else ""


@dataclass(frozen=True, slots=True)
class StubRequest:
    """A request as stubs read it; ``body`` is its JSON or None. Of equal names, the first counts."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any

    @classmethod
    def of(cls, request: Any) -> StubRequest:
        """Read a request (``oceanmock.api``). A lenient service also takes HEAD for GET, and a slash at the end."""
        method, path = request.method, request.path
        if request.service.is_lenient:
            method, path = "GET" if method == "HEAD" else method, path.removesuffix("/")
        query = parse_qsl(request.query.decode("latin-1"), keep_blank_values=True)
        headers = [(name.decode("latin-1").lower(), text.decode("latin-1")) for name, text in request.headers]
        kind, body = body_value(request.body)
        return cls(method, path, dict(reversed(query)), dict(reversed(headers)), body if kind == "json" else None)

    def values(self, template: str) -> dict[str, Any]:
        """Return the values of placeholders by their first words; ``template`` is the template of the path."""
        pairs = zip(template.split("/"), self.path.split("/"), strict=True)
        path = {part[1:-1]: value for part, value in pairs if part[:1] == "{"}
        return {"path": path, "query": self.query, "headers": self.headers, "body": self.body}

    def fill(self, text: str, template: str) -> str:
        """Return a text with values of the request in place of placeholders; `{n}` stays, for a number."""
        values = {**self.values(template), "n": "{n}"}
        return _plain_text(_render(text, lambda found: value_at(values, _steps(found))))


class Stub(Model):
    """A response to a call beside the task routes; the first stub that matches a request responds."""

    name: Name | None = None
    """Its name in the journal; `stub 1`, `stub 2` … in the order of the file, if left out."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: PathTemplate
    """The request's path; `{name}` stands for any segment: `/api/v1/tenant/{name}/backup/overview`."""
    matches: Matches = Field(default_factory=Matches)
    """What else a request must contain; anything, if left out."""
    when: Any = None
    """A condition that must hold when the request arrives; none, if left out."""
    times: Annotated[int, Field(strict=True, ge=1, lt=10**9)] | None = None
    """The number of requests that it responds to; any number, if left out."""
    delay: Span = Field(default=0, json_schema_extra={"default": "0s"})
    """The delay of the response, in real time."""
    status: Annotated[int, Field(strict=True, ge=200, le=599)] = 200
    """The response's HTTP status."""
    headers: SentHeaders = Field(default_factory=dict)
    """Further headers of the response."""
    data: JsonValue = None
    """The `data` in the API's envelope; the envelope has none, if left out."""
    error: JsonObject | None = None
    """The `error` in the API's envelope."""
    body: JsonValue = None
    """The response's body without an envelope: a text, or JSON."""

    @property
    def is_raw(self) -> bool:
        """Return whether the response is sent without an envelope."""
        return "body" in self.model_fields_set or self.status in BODILESS

    @model_validator(mode="after")
    def _check_response(self) -> Stub:
        present = [key for key in ("data", "error", "body") if key in self.model_fields_set]
        if self.is_raw and present not in ([], ["body"]):
            what = "`body`" if "body" in present else f"status {self.status}"
            raise contradiction("bad_stub", "has `{key}` beside {what}", key=present[0], what=what)
        if self.status in BODILESS and present:
            raise contradiction("bad_stub", "has a `body` beside status {status}", status=self.status)
        more: dict[str, Sequence[str]] = {"now": ()}
        if self.when is not None and self.when.of is not None:
            api = self.when.api
            more[api.root.name] = [*api.spec["components"]["schemas"][self.when.item_schema]["properties"]]
        values = [self.data, self.error, self.body, dict(self.headers)]
        for place, hint in unknown_placeholders(values, self.path, **more):
            message = "has the placeholder {place}, which stands for nothing. {hint}"
            raise contradiction("bad_placeholder", message, place=place, hint=hint)
        return self

    def fits(self, method: str, path: str) -> bool:
        """Return whether a request has this method and a path that matches."""
        return method == self.method and path_matches(self.path, path)

    def covers(self, method: str, path: str, matches: Matches) -> bool:
        """Return whether it answers every request with this method, path template and ``matches``, at any time."""
        is_constant = self.when is None and self.times is None and self.fits(method, path)
        return is_constant and has_values(matches.model_dump(), self.matches.model_dump(exclude_defaults=True))

    def render(self, request: StubRequest, now: str, item: Callable[[], Any]) -> dict[str, Any]:
        """Return its response with placeholders replaced; ``item`` returns the JSON of its condition's task or dag."""
        values, of_item = {**request.values(self.path), "now": now}, cache(item)

        def value_of(found: str) -> Any:
            first, *steps = _steps(found)
            return value_at(values[str(first)] if first in values else of_item(), tuple(steps))

        keys = (key for key in ("data", "error", "body") if key in self.model_fields_set)
        headers = {name: _plain_text(_render(text, value_of)) for name, text in self.headers.items()}
        return {"headers": headers, **{key: _render(getattr(self, key), value_of) for key in keys}}


def is_in_time(item: Any, age: int) -> bool:
    """Return whether a sandbox has an age at which a stub or fault applies, if its condition holds."""
    until = getattr(item, "until", None)
    return age >= (getattr(item, "from_", None) or 0) and (until is None or age < until)


def _applies_at(item: Any, age: int, state: Any, at: int) -> bool:
    """Return whether a stub or fault applies at an instant of a task or dag, of some age at the start, in a state."""
    view = SimpleNamespace(state=state, data=SimpleNamespace(created=0))
    return is_in_time(item, at - age) and (item.when is None or not item.when.difference(view, age, at))


def conditions_on(scenario: Any, script: Any, name: str) -> list[tuple[str, Callable[[Any, int], bool]]]:
    """Return the name and the condition of each stub and fault that applies only in some states of a task or dag."""
    conditions = list[tuple[str, Callable[[Any, int], bool]]]()
    for label, item in scenario.responses:
        if item.when is not None and (item.when.of is not None or item.when.of_request):
            is_about = item.when.of is not None and item.when.of in (script.id, script.name, name)
        else:
            is_about = script.starts_on is None and getattr(item, "is_conditional", item.when is not None)
        if is_about:
            conditions.append((label, partial(_applies_at, item, script.age)))
    return conditions


class StartRefusal(Model):
    """A refusal of the request that starts it, once its body and credentials are accepted."""

    code_key: ClassVar[str] = "code"

    matches: Matches = Field(default_factory=Matches)
    """What the request must contain; anything, if left out."""
    when: Any = None
    """A condition that must hold when the request arrives; none, if left out."""
    times: Annotated[int, Field(strict=True, ge=1, lt=10**9)] | None = None
    """The number of requests that are refused; any number, if left out."""
    status: Annotated[int, Field(strict=True, ge=400, le=599)] = 400
    """The response's HTTP status."""
    code: Any
    message: Annotated[str, Field(min_length=1, max_length=1000)]
    """The error's message, with placeholders: `Tenant {body.name} already exists`."""

    def stub(self, starts_on: StartsOn) -> Stub:
        """Return the stub that refuses a start."""
        error = {self.code_key: self.code, "message": self.message}
        keys = {"matches": self.matches, "when": self.when, "times": self.times, "status": self.status}
        return Stub(method=starts_on.method, path=starts_on.path, error=error, **keys)


class StartsOn(Model):
    """The request outside the task API that starts it; each matching request starts another one."""

    # A client of a real server gets a task's id from a call outside the task API, which creates a tenant, or joins an
    # agent. A task or dag with this key is a template: it does not exist from the start. A request starts it only if
    # no task operation of the contract has its path.

    api: ClassVar[Any] = None

    operation: Name | None = None
    """The contract's operation, in place of `method` and `path`. `starts_on: NAME` is short for `{operation: NAME}`."""
    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST"
    path: PathTemplate
    """The request's path; `{id}` stands for any segment: `/api/v2/ob/clusters/{id}/tenants`."""
    body: JsonObject | None = None
    """Keys and values that the request's JSON must contain; anything, if left out."""
    times: Annotated[int, Field(strict=True, ge=1, lt=10**9)] | None = None
    """The number of requests that start it; later ones start the next task or dag that matches. Any number, if left
    out."""
    refuses: tuple[Any, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_operation(cls, value: Any) -> Any:
        value = {"operation": value} if isinstance(value, str) else value
        id = value.get("operation") if isinstance(value, dict) else None
        if not isinstance(id, str):
            return value
        submits = {each.id: each for each in cls.api.submits}
        if id not in submits:
            message = f"`operation` is {shorten(repr(id), 60)}, which starts nothing in {cls.api.title}"
            raise wrong_value("operation", message, suggest(id, [*submits]))
        request = {"method": submits[id].method, "path": submits[id].path}
        if {**request, **value} != {**value, **request}:
            raise contradiction("bad_start", "has a `method` or a `path` beside its `operation`")
        rules = submits[id].definition["x-submit"].items()
        return {**{key: rule for key, rule in rules if key in cls.model_fields}, **value, **request}

    @model_validator(mode="after")
    def _check_refusals(self) -> StartsOn:
        for refusal, _ in zip(self.refuses, self.refusals, strict=True):
            if refusal.when is None and refusal.times is None and refusal.matches == Matches():
                raise contradiction("bad_start", "never starts it: it `refuses` every request")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        own, name = handler.resolve_ref_schema(schema), {"enum": [each.id for each in cls.api.submits]}
        own["properties"]["operation"] |= name
        own["allOf"] = [{"anyOf": [{"required": [key]} for key in ("path", "operation")]}]
        del own["required"]
        return {"anyOf": [schema, {"type": "string", "description": "The operation that it is.", **name}]}

    @cached_property
    def refusals(self) -> tuple[Stub, ...]:
        """Return the stubs of its refusals."""
        return tuple(refusal.stub(self) for refusal in self.refuses)

    def fits(self, method: str, path: str) -> bool:
        """Return whether a request has this method and a path that matches."""
        return method == self.method and path_matches(self.path, path)

    def fits_body(self, body: Any) -> bool:
        """Return whether a body has everything that ``body`` has."""
        return self.body is None or has_values(body, self.body)

    def asks(self, name: str) -> str:
        """Return the sentence for a request to its path whose body does not match."""
        return f"{self.method} {self.path} starts {name!r} only with a body that has {_text(self.body)}."


def unknown_placeholders(value: Any, path: str, **more: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each placeholder that stands for nothing in a request with this path, and a hint.

    ``more`` has further first words of placeholders, each with the possible second words, or () for any.
    """
    placeholders, variables = list[str](), re.findall(r"\{(\w+)\}", path)
    _render(value, placeholders.append)
    choices: dict[str, Sequence[str]] = {"query": (), "headers": (), "body": (), **more}
    if variables:
        choices["path"] = variables
    for placeholder in placeholders:
        first, *steps = map(str, _steps(placeholder))
        words = choices.get(first, ())
        if first not in choices:
            yield f"{{{placeholder}}}", suggest(first, list(choices))
        elif words and (not steps or steps[0] not in words):
            yield f"{{{placeholder}}}", suggest(steps[0] if steps else "", words)


def _render(value: Any, value_of: Callable[[str], Any]) -> Any:
    """Return a value with its placeholders replaced; a value in place of a whole text keeps its type."""
    if isinstance(value, dict):
        return {key: _render(item, value_of) for key, item in value.items()}
    if isinstance(value, list):
        return [_render(item, value_of) for item in value]
    if not isinstance(value, str):
        return value

    def value_at_place(match: re.Match[str]) -> Any:
        path = match["path"]
        return value_of(path.lower() if path.startswith("headers.") else path) if path else match["text"]

    whole = _PLACEHOLDER.fullmatch(value)
    return value_at_place(whole) if whole else _PLACEHOLDER.sub(lambda it: _plain_text(value_at_place(it)), value)


def _plain_text(value: Any) -> str:
    """Return a text as it is, and any other value as JSON."""
    return value if isinstance(value, str) else _text(value)


def _steps(path: str) -> Loc:
    return tuple(int(place) if place else key for place, key in _STEP.findall(path))


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
