"""Validate requests and responses, compiled from the contract; the door to jsonschema-rs.

A schema becomes a jsonschema-rs validator, a parameter a reader of its text, a documented response
a lookup by status. An invalid request raises ApiError; an invalid response is described in one
sentence with its place. Nothing here knows connexion, or one API.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from jsonschema_rs import Draft4Validator

from oceanmock.api import ApiError, Headers, Request
from oceanmock.errors import AuthorError
from oceanmock.openapi import Operation

MAX_QUERY_FIELDS: Final = 1000


# --- schemas --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SchemaViolation:
    """One violation of a schema: its place, the keyword and a message."""

    path: tuple[str | int, ...]
    keyword: str
    message: str


class Schema:
    """A compiled schema of the contract."""

    __slots__ = ("_validator", "accepts")

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = _compiled(orjson.dumps(schema))
        self.accepts: Callable[[Any], bool] = self._validator.is_valid

    def problem(self, value: Any) -> str:
        """Return the first violation of an invalid value, with its place."""
        first = next(iter(self._validator.iter_errors(value)))
        place = ".".join(str(part) for part in first.instance_path)
        return f"{place}: {first.message}" if place else str(first.message)

    def violations(self, value: Any) -> Iterator[SchemaViolation]:
        """Yield every violation of a value."""
        for error in self._validator.iter_errors(value):
            yield from _violations_of(error)


def _violations_of(error: Any) -> Iterator[SchemaViolation]:
    """Yield an error as violations; of a nullable value, those of its other branch."""
    branches = error.kind.context if error.kind.name == "anyOf" else []
    if len(branches) == 2 and [branch.kind.name for branch in branches[0]] == ["type"]:
        for inner in branches[1]:
            yield from _violations_of(inner)
        return
    yield SchemaViolation(tuple(error.instance_path), error.kind.name, str(error.message)[:300])


@lru_cache(maxsize=1024)
def _compiled(schema: bytes) -> Draft4Validator:
    """Return the validator of a schema; the responses of a contract share most of theirs.

    Patterns are ECMA-262's, where ``$`` is the end of a text; Python's also matches before a final
    newline.
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


# --- parameters -----------------------------------------------------------------------------------

INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
"""ASCII digits, as many as 64 bits hold; int() would also read '1_0', ' 1' and other digits."""
NUMBER: Final = re.compile(r"[+-]?[0-9]{1,19}(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,2})?")
BOOLEANS: Final = {"true": True, "false": False}
DELIMITERS: Final = {"spaceDelimited": " ", "pipeDelimited": "|"}


def _integer(text: str) -> int | None:
    return int(text) if INTEGER.fullmatch(text) else None


def _number(text: str) -> float | None:
    return float(text) if NUMBER.fullmatch(text) else None


READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "integer": _integer,
    "number": _number,
    "boolean": BOOLEANS.get,
}
"""The readers of a parameter's text, by type; they return None for a text of another type."""


class _Parameter:
    """One compiled parameter of an operation."""

    def __init__(self, definition: Mapping[str, Any]) -> None:
        schema = definition["schema"]
        items = schema.get("items", {})
        self.name: str = definition["name"]
        self.place: str = definition["in"]
        self.key = self.name.lower().encode("latin-1", "replace")
        self.required: bool = definition.get("required", False)
        self.default = schema.get("default")
        self.is_array = schema.get("type") == "array"
        self.explode: bool = definition.get("explode", definition["in"] == "query")
        self.delimiter = DELIMITERS.get(definition.get("style", ""), ",")
        read_type = (items if self.is_array else schema).get("type", "string")
        self.reader = READERS.get(read_type)
        self.expected_type: str = (items if self.is_array else schema).get("format", read_type)
        self.schema = Schema(schema)

    def read(self, texts: Sequence[str]) -> Any:
        """Return the parameter's value. Raises ApiError for one that the contract forbids."""
        value = self._read_array(texts) if self.is_array else self._read_one(texts[0])
        if not self.schema.accepts(value):
            raise ApiError(
                "wrong value",
                f"{self.name}: {self.schema.problem(value)}",
                parameter=self.name,
                value=",".join(texts),
                expected_type=self.expected_type,
            )
        return value

    def _read_array(self, texts: Sequence[str]) -> list[Any]:
        if not self.explode:
            texts = [part for text in texts for part in text.split(self.delimiter)]
        return [self._read_one(text) for text in texts]

    def _read_one(self, text: str) -> Any:
        if self.reader is None:
            return text
        value = self.reader(text)
        if value is None:
            raise ApiError(
                "wrong type",
                f"{self.name} is not of the type {self.expected_type}.",
                parameter=self.name,
                value=text,
                expected_type=self.expected_type,
            )
        return value


class Parameters:
    """The parameters of one operation."""

    def __init__(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        self.all = [_Parameter(definition) for definition in definitions]
        self.of_path = [p for p in self.all if p.place == "path"]
        self.of_query = {p.name: p for p in self.all if p.place == "query"}
        self.of_header = [p for p in self.all if p.place == "header"]
        self.defaults = {p.name: p.default for p in self.all if p.default is not None}
        self.required = [p for p in self.all if p.required and p.place != "path"]
        if len(self.of_path) + len(self.of_query) + len(self.of_header) < len(self.all):
            raise AuthorError("a parameter of the contract is in a cookie: that is not served.")

    def read(self, request: Request, path_values: Mapping[str, str]) -> dict[str, Any]:
        """Return the values of a request, defaults included.

        Raises ApiError for the first one that the contract forbids.
        """
        values = self.defaults.copy()
        for parameter in self.of_path:
            values[parameter.name] = parameter.read((path_values[parameter.name],))
        if request.query and self.of_query:
            self._read_query(request, values)
        for parameter in self.of_header:
            text = request.header(parameter.key)
            if text is not None:
                values[parameter.name] = parameter.read((text.decode("latin-1"),))
        for parameter in self.required:
            if parameter.name not in values:
                raise ApiError("wrong request", f"The parameter {parameter.name} is missing.")
        return values

    def _read_query(self, request: Request, values: dict[str, Any]) -> None:
        try:
            fields = parse_qsl(
                request.query.decode("latin-1"),
                keep_blank_values=True,
                max_num_fields=MAX_QUERY_FIELDS,
            )
        except ValueError as problem:
            raise ApiError("wrong request", f"The query cannot be read: {problem}.") from None
        texts: dict[str, list[str]] = {}
        for name, text in fields:
            if name in self.of_query:
                texts.setdefault(name, []).append(text)
        for name, of_name in texts.items():
            values[name] = self.of_query[name].read(of_name)


# --- bodies ---------------------------------------------------------------------------------------


class RequestBody:
    """The schemas of an operation's request body, by media type."""

    def __init__(self, request_body: Mapping[str, Any]) -> None:
        self.required: bool = request_body.get("required", False)
        self.schemas = {
            media_type.lower(): Schema(content.get("schema", {}))
            for media_type, content in request_body.get("content", {}).items()
        }

    def read(self, request: Request) -> Any:
        """Return the body: the JSON value, the bytes of another media type, or None without one.

        Raises ApiError for one that the contract forbids.
        """
        if not request.body:
            if self.required:
                raise ApiError("malformed body", "The body is missing.")
            return None
        media_type = _media_type(request.header(b"content-type")) or next(iter(self.schemas))
        schema = self.schemas.get(media_type)
        if schema is None:
            raise ApiError(
                "unsupported media type",
                f"The body is {media_type[:100]}; expected: {', '.join(self.schemas)}.",
            )
        if not media_type.endswith("json"):
            return request.body
        content = _parsed(request.body)
        if not schema.accepts(content):
            raise ApiError("wrong request", f"The body: {schema.problem(content)}")
        return content


def _media_type(content_type: bytes | None) -> str:
    return (content_type or b"").partition(b";")[0].strip().lower().decode("latin-1")


def _parsed(body: bytes) -> Any:
    """Return the JSON value. Raises ApiError: not UTF-8, not JSON, or nested too deep."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise ApiError("malformed body", f"The body is not JSON: {problem}.") from None


# --- responses ------------------------------------------------------------------------------------


class ResponseRules:
    """The responses that the contract allows an operation.

    An error whose status the contract does not name is allowed: 413, 415 and 500 come from the
    server itself. Any other undocumented status is a problem.
    """

    def __init__(self, responses: Mapping[str, Any]) -> None:
        self.documented = {
            int(status): _DocumentedResponse(response)
            for status, response in responses.items()
            if status.isdigit()
        }

    def problem(self, status: int, headers: Headers, body: bytes) -> str:
        """Return the first violation of the contract, or ""."""
        documented = self.documented.get(status)
        if documented is not None:
            return documented.problem(headers, body)
        return "" if status >= 400 else "the contract does not name this status"


class _DocumentedResponse:
    """One documented response: its media types and its required headers."""

    def __init__(self, response: Mapping[str, Any]) -> None:
        self.bodies = {
            media_type.lower().encode(): Schema(content.get("schema", {}))
            for media_type, content in response.get("content", {}).items()
        }
        self.required = {
            name.lower().encode()
            for name, header in response.get("headers", {}).items()
            if header.get("required")
        }

    def problem(self, headers: Headers, body: bytes) -> str:
        """Return the first violation of the contract, or ""."""
        by_name = dict(headers)
        missing = [name.decode() for name in self.required if name not in by_name]
        if missing:
            return f"without the header {missing[0]}"
        media_type = by_name.get(b"content-type", b"")
        schema = self.bodies.get(media_type)
        if schema is None:
            return "" if not self.bodies else f"not a media type of {list(self.bodies)}"
        value = body.decode() if media_type.startswith(b"text/") else orjson.loads(body)
        return "" if schema.accepts(value) else schema.problem(value)


# --- operations -----------------------------------------------------------------------------------


class CompiledOperation:
    """One compiled operation: reads its requests and checks its responses."""

    __slots__ = ("body", "extensions", "operation", "parameters", "responses")

    def __init__(
        self,
        operation: Operation,
        *,
        parameters: Sequence[Mapping[str, Any]],
        request_body: Mapping[str, Any] | None,
        responses: Mapping[str, Any],
        extensions: Mapping[str, Any],
    ) -> None:
        self.operation = operation
        self.parameters = Parameters(parameters)
        self.body = None if request_body is None else RequestBody(request_body)
        self.responses = ResponseRules(responses)
        self.extensions = extensions

    def read_request(self, request: Request) -> None:
        """Read parameters and body into the request. Raises ApiError: 400, 415."""
        request.parameters = self.parameters.read(request, request.path_values)
        if self.body is not None:
            request.content = self.body.read(request)

    def check_response(self, start: Mapping[str, Any], body: bytes) -> None:
        """Raise ApiError for a response that the contract forbids."""
        problem = self.responses.problem(start["status"], start["headers"], body)
        if problem:
            detail = f"{self.operation.id} {start['status']}: {problem}"
            raise ApiError("broken response", detail)
