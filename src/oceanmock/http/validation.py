"""Validate requests and responses by the contract, with jsonschema-rs.

An invalid request raises ApiError; an invalid response is described in one sentence with its place. Nothing here
depends on connexion, or on one API.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache, partial, reduce
from itertools import chain
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

import orjson
from jsonschema_rs import Draft4Validator

from oceanmock.api import ApiError, ErrorKind, Fragment, Request, Response
from oceanmock.errors import InputError
from oceanmock.http import MAX_MESSAGE_LENGTH, Encoded
from oceanmock.openapi import Operation, Spec, load_spec, operations_of, spec_path
from oceanmock.text import first_few, suggest

MAX_QUERY_FIELDS: Final = 1000
MAX_JSON_VALUES: Final = 50_000  # the most values of a body; more would hold the event loop while they are parsed
MAX_JSON_DEPTH: Final = 100
_NO_MARKS: Final = bytes({*range(256)} - {*b'",{['})
_UNKNOWN_KEY: Final = re.compile(r"^The body: (?:([a-z_]+): )?Additional properties are not allowed \('([^']{1,100})'")


class SchemaViolation(NamedTuple):
    """One violation of a schema: its place, the keyword and a message."""

    path: tuple[str | int, ...]
    keyword: str
    message: str


class Schema:
    """A compiled schema of the contract. Of an object with ``data``, the envelope and the data have schemas, too."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._validator = _compiled(orjson.dumps(schema))
        self.accepts: Callable[[Any], bool] = self._validator.is_valid

    def problem(self, value: Any) -> str:
        """Return the first violation of an invalid value, with its place."""
        first = next(iter(self._validator.iter_errors(value)))
        place = ".".join(str(part) for part in first.instance_path)
        message = str(first.message)  # which quotes the value first
        pattern = getattr(first.kind, "pattern", "")
        if pattern and (words := _words_for(pattern, self._schema)):
            message = f"{message.partition(' does not match ')[0]} is not {words}"
        if options := getattr(first.kind, "options", None):  # of which jsonschema-rs names the first ones
            message = message.rpartition(" is not one of ")[0] + f" is not one of {', '.join(map(str, options))}"
        if isinstance(first.instance, float) and first.instance.is_integer():  # as integers beyond 64 bits are read
            message = message.replace('of type "integer"', "between -2^63 and 2^63 - 1")
        text = f"{place}: {message}" if place else message
        half = MAX_MESSAGE_LENGTH // 2
        return text if len(text) <= MAX_MESSAGE_LENGTH else f"{text[:half]} … {text[-half:]}"

    def violations(self, value: Any) -> Iterator[SchemaViolation]:
        """Yield every violation of a value."""
        return _flattened(self._validator.iter_errors(value))

    @cached_property
    def _parts(self) -> tuple[Schema, Schema] | None:
        data = list[Any]()
        envelope = _split(self._schema, data)
        return None if envelope is None or not data else (Schema(envelope), Schema({"allOf": data}))

    def problem_of(self, envelope: Mapping[str, Any], fragment: Fragment) -> str | None:
        """Return the first violation of an envelope around a fragment, or ""; None for a schema without parts."""
        if self._parts is None:
            return None
        of_envelope, of_data = self._parts
        whole = {**envelope, "data": None}
        if not of_envelope.accepts(whole):
            return of_envelope.problem(whole)
        if of_data not in fragment.accepted_by:
            value = orjson.loads(fragment.json)
            if not of_data.accepts(value):
                return f"data: {of_data.problem(value)}"
            fragment.accepted_by.add(of_data)
        return ""


def _words_for(pattern: str, schema: Any) -> str:
    """Return the `x-words` beside a pattern in a schema, or ""."""
    parts = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    if isinstance(schema, Mapping) and schema.get("pattern") == pattern and "x-words" in schema:
        return str(schema["x-words"])
    return next(filter(None, (_words_for(pattern, part) for part in parts)), "")


class Shape:
    """The members that a value may have by any of some schemas of a contract; None for any members."""

    def __init__(self, schemas: Sequence[Mapping[str, Any]], spec: Spec) -> None:
        self._schemas, self._spec = schemas, spec

    @cached_property
    def _parts(self) -> tuple[dict[str, Shape] | None, Shape | None]:
        """Return the shapes of an object's members, and of a list's items."""
        waiting, members, items, is_open = [*self._schemas], dict[str, list[Any]](), list[Any](), False
        while waiting:
            schema = resolve(self._spec, waiting.pop())
            waiting += [part for key in ("allOf", "anyOf", "oneOf") for part in schema.get(key, ())]
            items += [schema["items"]] if "items" in schema else []
            is_open |= bool(schema.get("additionalProperties"))
            for name, value in schema.get("properties", {}).items():
                members.setdefault(name, []).append(value)
        shapes = {name: Shape(several, self._spec) for name, several in members.items()}
        return (shapes if shapes and not is_open else None), (Shape(items, self._spec) if items else None)

    def unknown(self, value: Any, path: str) -> Iterator[str]:
        """Yield the paths of the members that no schema has."""
        members, items = self._parts
        if isinstance(value, dict) and members is not None:
            for name, member in value.items():
                if name in members:
                    yield from members[name].unknown(member, f"{path}.{name}")
                elif member is not None:  # null counts as absent
                    yield f"{path}.{name}"
        elif isinstance(value, list) and items is not None:
            for place, item in enumerate(value):
                yield from items.unknown(item, f"{path}[{place}]")


def _flattened(errors: Iterable[Any]) -> Iterator[SchemaViolation]:
    """Yield the violations in errors; of a nullable value, those of the branch that is not null."""
    for error in errors:
        branches = error.kind.context if error.kind.name == "anyOf" else []
        if len(branches) == 2 and [branch.kind.name for branch in branches[0]] == ["type"]:
            yield from _flattened(branches[1])
        else:
            path, message = tuple(error.instance_path), str(error.message)[:300]
            yield SchemaViolation(path, error.kind.name, message)


@lru_cache(maxsize=1024)
def _compiled(schema: bytes) -> Draft4Validator:
    """Return the validator of a schema, which many responses share.

    Its patterns are ECMA-262's: ``$`` is the end of a text, and in Python also the place before a final newline.
    """
    return Draft4Validator(_as_draft4(orjson.loads(schema)), validate_formats=True)


def _as_draft4(node: Any) -> Any:
    """Return a schema in JSON Schema draft 4, which has no ``nullable``."""
    if isinstance(node, list):
        return [_as_draft4(value) for value in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _as_draft4(value) for key, value in node.items()}
    if plain.get("nullable") is True:
        return {"anyOf": [{"type": "null"}, plain]}
    return plain


Reader = Callable[[str], Any]  # reads the text of a parameter; raises ValueError


def _read(matches: Reader, convert: Reader, text: str) -> Any:
    if matches(text) is None:
        raise ValueError(text)
    return convert(text)


READERS: Final[Mapping[str, Reader]] = {
    # ASCII digits, as many as 64 bits hold; int() would also read '1_0', ' 1' and other digits.
    "integer": partial(_read, re.compile(r"[+-]?[0-9]{1,19}").fullmatch, int),
    "number": partial(_read, re.compile(r"[+-]?[0-9]{1,19}(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,2})?").fullmatch, float),
    "boolean": partial(_read, re.compile("true|false").fullmatch, "true".__eq__),
}


class _Parameter:
    def __init__(self, definition: Mapping[str, Any], readers: Mapping[str, Reader]) -> None:
        schema = definition["schema"]
        self.name: str = definition["name"]
        self.place: str = definition["in"]
        self.key = self.name.lower().encode("latin-1", "replace")
        self.required: bool = definition.get("required", False)
        self.default = schema.get("default")
        self.may_be_empty: bool = definition.get("allowEmptyValue", False)
        self.schema = Schema(schema)
        self.is_array = schema.get("type") == "array"
        self.explode: bool = definition.get("explode", self.place == "query")
        self.delimiter = {"spaceDelimited": " ", "pipeDelimited": "|"}.get(definition.get("style", ""), ",")
        item = schema.get("items", {}) if self.is_array else schema
        read_type = item.get("type", "string")
        self.expected_type: str = item.get("format", read_type)
        self.convert = readers.get(self.expected_type, READERS.get(read_type, str))

    def read(self, texts: Sequence[str]) -> Any:
        """Return the parameter's value. Raises ApiError for one that the contract forbids."""
        if not self.is_array:
            texts = texts[:1]
        elif not self.explode:
            texts = [part for text in texts for part in text.split(self.delimiter)]
        values = list[Any]()
        for text in texts:
            try:
                values.append(self.convert(text))
            except ValueError:
                raise self._error("wrong type", f"{self.name} is not of the type {self.expected_type}.", text) from None
        value = values if self.is_array else values[0]
        if not self.schema.accepts(value):
            detail = f"{self.name}: {self.schema.problem(value)}"
            raise self._error("wrong value", detail, ",".join(texts))
        return value

    def _error(self, kind: ErrorKind, detail: str, text: str) -> ApiError:
        return ApiError(kind, detail, parameter=self.name, value=text, expected_type=self.expected_type)


class Parameters:
    """The parameters of one operation."""

    def __init__(self, definitions: Sequence[Mapping[str, Any]], readers: Mapping[str, Reader]) -> None:
        parameters = [_Parameter(definition, readers) for definition in definitions]
        self.of_path = [p for p in parameters if p.place == "path"]
        self.of_query = {p.name: p for p in parameters if p.place == "query"}
        self.of_header = [p for p in parameters if p.place == "header"]
        self.defaults = {p.name: p.default for p in parameters if p.default is not None}
        self.required = [p.name for p in parameters if p.required and p.place != "path"]
        if len(self.of_path) + len(self.of_query) + len(self.of_header) < len(parameters):
            raise InputError("a parameter of the contract is in a cookie: that is not served.")

    def read(self, request: Request) -> dict[str, Any]:
        """Return the values of a request, with defaults. An empty one counts as absent where the contract allows it.

        Raises ApiError for the first invalid one.
        """
        values = self.defaults.copy()
        for parameter in self.of_path:
            values[parameter.name] = parameter.read((request.path_values[parameter.name],))
        if request.query and self.of_query:
            try:
                query = request.query.decode("latin-1")
                fields = parse_qs(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
            except ValueError as problem:
                raise ApiError("wrong request", f"The query cannot be read: {problem}.") from None
            for name, texts in fields.items():
                if name in self.of_query and (texts[0] or not self.of_query[name].may_be_empty):
                    values[name] = self.of_query[name].read(texts)
        for parameter in self.of_header:
            text = request.header(parameter.key)
            if text is not None:
                values[parameter.name] = parameter.read((text.decode("latin-1"),))
        for name in self.required:
            if name not in values:
                raise ApiError("wrong request", f"The parameter {name} is missing.")
        return values


class RequestBody:
    """The schemas of an operation's request body, by media type."""

    def __init__(self, request_body: Mapping[str, Any]) -> None:
        self.required: bool = request_body.get("required", False)
        self.schemas = {
            media_type.lower(): Schema(content.get("schema", {}))
            for media_type, content in request_body.get("content", {}).items()
        }

    def read(self, request: Request) -> Any:
        """Return the body: a JSON value, bytes of another media type, or None. Raises ApiError for an invalid one."""
        if not request.body:
            if self.required:
                raise ApiError("malformed body", "The body is missing.")
            return None
        content_type = (request.header(b"content-type") or b"").partition(b";")[0]
        media_type = content_type.strip().lower().decode("latin-1") or next(iter(self.schemas))
        schema = self.schemas.get(media_type)
        if schema is None:
            expected = ", ".join(self.schemas)
            raise ApiError("unsupported media type", f"The body is {media_type[:100]}; expected: {expected}.")
        if not media_type.endswith("json"):
            return request.body
        try:
            content = orjson.loads(request.body)
        except orjson.JSONDecodeError as problem:  # or it is not UTF-8, or nested too deep
            raise ApiError("malformed body", f"The body is not JSON: {problem}.") from None
        level = [content]
        for _ in range(MAX_JSON_DEPTH + 1):
            holders = [node for node in level if isinstance(node, (dict, list))]
            level = [*chain.from_iterable(node.values() if isinstance(node, dict) else node for node in holders)]
            if not level:
                break
        else:
            raise ApiError("malformed body", f"The body is nested deeper than {MAX_JSON_DEPTH} levels.")
        if not schema.accepts(content):
            raise ApiError("wrong request", f"The body: {schema.problem(content)}")
        return content


def hint_for(spec: Spec, operation: Operation, detail: str) -> str:
    """Return a suggestion for the unknown key in a validation error, or ""."""
    if (unknown := _UNKNOWN_KEY.search(detail)) is None:
        return ""
    within, key = unknown.groups()
    body = spec["paths"][operation.path][operation.method.lower()]["requestBody"]
    schema = resolve(spec, body["content"]["application/json"]["schema"])
    if within is not None:
        schema = resolve(spec, schema["properties"].get(within, {}))
    keys = list(schema.get("properties", ()))
    return f". {suggest(key, keys)}" if keys else ""


def resolve(spec: Spec, node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a node of a contract, or what its reference points to."""
    while "$ref" in node:
        node = reduce(lambda value, key: value[key], node["$ref"].split("/")[1:], spec)
    return node


def _parameters_of(spec: Spec, operation: Operation) -> list[Mapping[str, Any]]:
    shared = spec["paths"][operation.path].get("parameters", ())
    return [resolve(spec, node) for node in (*operation.definition.get("parameters", ()), *shared)]


def read_submit(request: Request, operation: Operation) -> None:
    """Read the ids in the path of a submit and its body, unless its API reads them. Raises ApiError."""
    service, definition, segments = request.service, operation.definition, operation.path.split("/")
    if "checks" in definition["x-submit"]:
        return
    parts = zip(segments, request.path.split("/"), strict=False)  # the path may end in a slash
    request.path_values = {segment[1:-1]: part for segment, part in parts if segment.startswith("{")}
    parameters = _parameters_of(load_spec(spec_path(service.name)), operation)
    request.parameters = Parameters(parameters, service.readers).read(request)
    if "requestBody" in definition:
        request.content = RequestBody(definition["requestBody"]).read(request)


def check_names(request: Request) -> None:
    """Raise ApiError for query parameters and keys of a JSON body that the operation does not have."""
    service, are_submits = request.service, request.compiled is None
    spec = load_spec(spec_path(service.name)) if are_submits else service.spec
    operations = operations_of(spec, are_submits=are_submits)  # from the contract before runtime_view changed it
    operation = next(item for item in operations if request.operation and item.id == request.operation.id)
    known = {parameter["name"] for parameter in _parameters_of(spec, operation) if parameter["in"] == "query"}
    query = parse_qs(request.query.decode("latin-1"), keep_blank_values=True)
    unknown = [f"the query parameter {name}" for name in query if name not in known]
    content = resolve(spec, operation.definition.get("requestBody", {})).get("content", {})
    with suppress(orjson.JSONDecodeError):  # a body that is not JSON was refused, or has no keys
        shape = Shape([media["schema"] for media in content.values()], spec)
        unknown += [f"the body's {path.lstrip('$.')}" for path in shape.unknown(orjson.loads(request.body), "$")]
    if unknown:
        raise ApiError("wrong request", f"{operation.id} does not have {first_few(unknown)}.")


def check_width(body: bytes) -> None:
    """Raise ApiError for JSON with more than ``MAX_JSON_VALUES``, before it is parsed."""
    if len(body) <= MAX_JSON_VALUES or body.lstrip()[:1] not in (b"{", b"["):
        return
    marks = body.translate(None, _NO_MARKS)
    if len(marks) > MAX_JSON_VALUES and b'"' in marks:
        if b"\\" in body:
            marks = body.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _NO_MARKS)
        marks = b"".join(marks.replace(b'""', b"").split(b'"')[::2])  # without the marks in texts
    if len(marks) > MAX_JSON_VALUES:
        raise ApiError("body too large", f"The body has more than {MAX_JSON_VALUES:,} values.")


_ENVELOPE_KEYS: Final = {"type", "properties", "required", "allOf", "additionalProperties", "title", "description"}


def _split(schema: Mapping[str, Any], data: list[Any]) -> dict[str, Any] | None:
    """Return the schema of an envelope with any ``data``, and append those of ``data``; None if it cannot be split."""
    if not _ENVELOPE_KEYS.issuperset(schema):
        return None
    envelope = {**schema}
    if "data" in schema.get("properties", {}):
        data.append(schema["properties"]["data"])
        envelope["properties"] = {**schema["properties"], "data": {}}
    if "allOf" in schema:
        parts = [_split(part, data) for part in schema["allOf"]]
        if None in parts:
            return None
        envelope["allOf"] = parts
    return envelope


class ResponseRules:
    """The responses that the contract allows an operation. The encoded bytes are checked.

    Of an envelope around a fragment, the envelope is checked before encoding, and the fragment once for all responses.
    Errors with a status that the contract does not have are allowed: 413, 415 and 500 come from the server itself.
    """

    def __init__(self, responses: Mapping[str, Any]) -> None:
        self._documented = {
            int(status): (
                {
                    media_type.lower().encode(): Schema(content.get("schema", {}))
                    for media_type, content in response.get("content", {}).items()
                },
                [
                    name.lower().encode()
                    for name, header in response.get("headers", {}).items()
                    if header.get("required")
                ],
            )
            for status, response in responses.items()
            if status.isdigit()
        }

    def problem(self, encoded: Encoded, response: Response | None) -> str:
        """Return the first violation of the contract, or ""; an error comes without its ``response``."""
        status, headers, body = encoded
        if status not in self._documented:
            return "" if status >= 400 else "the contract does not name this status"
        bodies, required = self._documented[status]
        by_name = dict(headers)
        for name in required:
            if name not in by_name:
                return f"without the header {name.decode()}"
        media_type = by_name.get(b"content-type", b"")
        schema = bodies.get(media_type)
        if schema is None:
            return f"not a media type of {list(bodies)}" if bodies else ""
        if response and response.fragment:
            problem = schema.problem_of(response.body, response.fragment)
            if problem is not None:
                return problem
        value = body.decode() if media_type.startswith(b"text/") else orjson.loads(body)
        return "" if schema.accepts(value) else schema.problem(value)
