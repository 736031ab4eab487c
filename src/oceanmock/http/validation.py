"""The checks a request and its answer pass, compiled from the contract; the door to jsonschema-rs.

A schema becomes a jsonschema-rs validator, a parameter a reader of its text, a documented answer a
look-up by status. What fails raises ApiError, or is told as an objection: one sentence, with the
place. Nothing here knows connexion, or one API.
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

MAX_QUERY_FIELDS: Final = 1000


# --- schemas --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SchemaViolation:
    """One thing that is wrong with a value: where, against which keyword, in words."""

    path: tuple[str | int, ...]
    keyword: str
    message: str


class Schema:
    """A schema of the contract, compiled."""

    __slots__ = ("_validator", "accepts")

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = _compiled(orjson.dumps(schema))
        self.accepts: Callable[[Any], bool] = self._validator.is_valid

    def objection(self, value: Any) -> str:
        """What is wrong with a value that is not accepted, and where in it."""
        first = next(iter(self._validator.iter_errors(value)))
        place = ".".join(str(part) for part in first.instance_path)
        return f"{place}: {first.message}" if place else str(first.message)

    def mistakes(self, value: Any) -> Iterator[SchemaViolation]:
        """All that is wrong with a value, each with the way to it."""
        for error in self._validator.iter_errors(value):
            yield from _mistakes_in(error)


def _mistakes_in(error: Any) -> Iterator[SchemaViolation]:
    """An error as mistakes; of a value that may also be null, those of what else it may be."""
    branches = error.kind.context if error.kind.name == "anyOf" else []
    if len(branches) == 2 and [each.kind.name for each in branches[0]] == ["type"]:
        for inner in branches[1]:
            yield from _mistakes_in(inner)
        return
    yield SchemaViolation(tuple(error.instance_path), error.kind.name, str(error.message)[:300])


@lru_cache(maxsize=1024)
def _compiled(schema: bytes) -> Draft4Validator:
    """The validator of a schema; the answers of a contract's operations share most of theirs.

    Its patterns mean what ECMA-262 says, so ``$`` is the very end of a text; in Python's it also
    matches before a final newline.
    """
    return Draft4Validator(_as_draft4(orjson.loads(schema)), validate_formats=True)


def _as_draft4(node: Any) -> Any:
    """A schema in the words of JSON Schema draft 4, which does not know ``nullable``."""
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
"""ASCII digits, as many as 64 bits can fill: int() would also read '1_0', ' 1' and other digits."""
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
"""How the text of a parameter becomes a value, by type; None when it is not of that type."""


class _Parameter:
    """One parameter of an operation, compiled: reads its texts, and checks what it has read."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        schema = said["schema"]
        items = schema.get("items", {})
        self.name: str = said["name"]
        self.place: str = said["in"]
        self.key = self.name.lower().encode("latin-1", "replace")
        self.required: bool = said.get("required", False)
        self.default = schema.get("default")
        self.is_array = schema.get("type") == "array"
        self.explode: bool = said.get("explode", said["in"] == "query")
        self.delimiter = DELIMITERS.get(said.get("style", ""), ",")
        read_type = (items if self.is_array else schema).get("type", "string")
        self.reader = READERS.get(read_type)
        self.expected_type: str = (items if self.is_array else schema).get("format", read_type)
        self.schema = Schema(schema)

    def read(self, texts: Sequence[str]) -> Any:
        """The value of the parameter. Raises ApiError for one the contract does not allow."""
        value = self._read_array(texts) if self.is_array else self._read_one(texts[0])
        if not self.schema.accepts(value):
            raise ApiError(
                "wrong value",
                f"{self.name}: {self.schema.objection(value)}",
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

    def __init__(self, parameters: Sequence[Mapping[str, Any]]) -> None:
        self.all = [_Parameter(said) for said in parameters]
        self.of_path = [p for p in self.all if p.place == "path"]
        self.of_query = {p.name: p for p in self.all if p.place == "query"}
        self.of_header = [p for p in self.all if p.place == "header"]
        self.defaults = {p.name: p.default for p in self.all if p.default is not None}
        self.required = [p for p in self.all if p.required and p.place != "path"]
        if len(self.of_path) + len(self.of_query) + len(self.of_header) < len(self.all):
            raise AuthorError("a parameter of the contract is in a cookie: that is not served.")

    def read(self, request: Request, path_values: Mapping[str, str]) -> dict[str, Any]:
        """The values of a request, defaults included.

        Raises ApiError for the first that is not as the contract says.
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
            sent = parse_qsl(
                request.query.decode("latin-1"),
                keep_blank_values=True,
                max_num_fields=MAX_QUERY_FIELDS,
            )
        except ValueError as problem:
            raise ApiError("wrong request", f"The query cannot be read: {problem}.") from None
        texts: dict[str, list[str]] = {}
        for name, text in sent:
            if name in self.of_query:
                texts.setdefault(name, []).append(text)
        for name, several in texts.items():
            values[name] = self.of_query[name].read(several)


# --- bodies ---------------------------------------------------------------------------------------


class RequestBody:
    """What an operation takes as a body, by media type."""

    def __init__(self, request_body: Mapping[str, Any]) -> None:
        self.required: bool = request_body.get("required", False)
        self.schemas = {
            media_type.lower(): Schema(said.get("schema", {}))
            for media_type, said in request_body.get("content", {}).items()
        }

    def read(self, request: Request) -> Any:
        """Return the body: the JSON value, the bytes of another media type, or None without one.

        Raises ApiError when it is not as the contract says.
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
            raise ApiError("wrong request", f"The body: {schema.objection(content)}")
        return content


def _media_type(content_type: bytes | None) -> str:
    return (content_type or b"").partition(b";")[0].strip().lower().decode("latin-1")


def _parsed(body: bytes) -> Any:
    """The JSON value of a body; refused when it is not UTF-8, not JSON, or nested too deep."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise ApiError("malformed body", f"The body is not JSON: {problem}.") from None


# --- answers --------------------------------------------------------------------------------------


class ResponseRules:
    """What the contract allows an operation to answer.

    An error whose status the contract does not name is let out as it is: 413, 415 and 500 come
    from the server itself. Any other undocumented status is an objection.
    """

    def __init__(self, responses: Mapping[str, Any]) -> None:
        self.documented = {
            int(status): _DocumentedAnswer(said)
            for status, said in responses.items()
            if status.isdigit()
        }

    def objection(self, status: int, headers: Headers, body: bytes) -> str:
        """What the contract has against an answer; empty when nothing."""
        said = self.documented.get(status)
        if said is not None:
            return said.objection(headers, body)
        return "" if status >= 400 else "the contract does not name this status"


class _DocumentedAnswer:
    """One documented answer: its media types, and the headers it must have."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self.bodies = {
            media_type.lower().encode(): Schema(content.get("schema", {}))
            for media_type, content in said.get("content", {}).items()
        }
        self.required = {
            name.lower().encode()
            for name, header in said.get("headers", {}).items()
            if header.get("required")
        }

    def objection(self, headers: Headers, body: bytes) -> str:
        """What the contract has against an answer; empty when nothing."""
        sent = dict(headers)
        missing = [name.decode() for name in self.required if name not in sent]
        if missing:
            return f"without the header {missing[0]}"
        schema = self.bodies.get(sent.get(b"content-type", b""))
        if schema is None:
            return "" if not self.bodies else f"not a media type of {list(self.bodies)}"
        is_text = sent[b"content-type"].startswith(b"text/")
        value = body.decode() if is_text else orjson.loads(body)
        return "" if schema.accepts(value) else schema.objection(value)
