"""Read queries, base64, JSON and numbers as a Go server does, with the texts of Go's errors.

Errors of obshell end in Go's own error texts, which clients print: those of encoding/base64, encoding/json, net/url and
strconv (Go 1.26); the texts in tests/data/obshell outrank them. JSON that is nested too deep for Python's parser is
refused, though Go reads 10,000 levels. Nothing here depends on obshell.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, AnyStr, Final, NamedTuple
from urllib.parse import unquote_plus

from oceanmock.errors import CallerError

UNEXPECTED_END: Final = "unexpected end of JSON input"
BOOLEANS: Final = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False", ""), False
)
"""The values that strconv.ParseBool reads, and the empty text, which gin reads as false."""
INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INT64: Final = range(-(2**63), 2**63)
_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


class Unreadable(CallerError):
    """Go would not read this; the message is the text of its error."""


_NAMED_ESCAPES: Final = dict(zip("\a\b\f\n\r\t\v\\", "abfnrtv\\", strict=True))


def _escaped(character: str, quote: str) -> str:
    number = ord(character)
    if character == quote or character in _NAMED_ESCAPES:
        return f"\\{_NAMED_ESCAPES.get(character, quote)}"
    if character.isprintable():
        return character
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def quoted(text: str) -> str:
    """Return the text in double quotes, as strconv.Quote writes it."""
    return f'"{"".join(_escaped(character, chr(34)) for character in text)}"'


def parse_int(text: str) -> int:
    """Return a number as strconv.ParseInt(text, 10, 64) does. Raises Unreadable."""
    if not INTEGER.fullmatch(text):
        raise Unreadable(f"strconv.ParseInt: parsing {quoted(text)}: invalid syntax")
    if len(text) > 4000 or int(text) not in _INT64:
        raise Unreadable(f"strconv.ParseInt: parsing {quoted(text)}: value out of range")
    return int(text)


_BROKEN_FIELD: Final = re.compile("%(?![0-9a-fA-F]{2})|;")


def query_value(query: str, name: str) -> str | None:
    """Return the first value of a name as url.URL.Query does, which skips fields with broken escapes or semicolons."""
    for field in query.split("&"):
        key, _, value = field.partition("=")
        if unquote_plus(key) == name and not _BROKEN_FIELD.search(field):
            return unquote_plus(value)
    return None


_BASE64: Final = re.compile(rb"[A-Za-z0-9+/\r\n]*")
_PADDING: Final = re.compile(rb"=?[\r\n]*")


def base64_prefix(text: bytes) -> tuple[bytes, int | None]:
    """Return the bytes that base64.StdEncoding decodes, and the position of its error or None."""
    place = _end(_BASE64, text, 0)
    symbols = text[:place].translate(None, b"\r\n")
    rest = len(symbols) % 4
    value = binascii.a2b_base64(symbols[: len(symbols) - rest])
    if place == len(text):
        return value, place - rest if rest else None
    if text[place : place + 1] != b"=" or rest < 2:
        return value, place
    after = _end(_PADDING, text, place)
    if rest == 2:
        if text[after : after + 1] != b"=":
            return value, after if after == len(text) else after - 1
        after = _end(_PADDING, text, after)
    value += binascii.a2b_base64(symbols[-rest:] + b"=" * (4 - rest))
    return value, after if after < len(text) else None


def base64_bytes(text: bytes) -> bytes:
    """Return the bytes of a whole base64 text. Raises Unreadable."""
    value, wrong_at = base64_prefix(text)
    if wrong_at is not None:
        raise Unreadable(f"illegal base64 data at input byte {wrong_at}")
    return value


class Number(NamedTuple):
    """A JSON number, as it is written."""

    text: str


class Object(NamedTuple):
    """A JSON object: its pairs in their order, with duplicate keys."""

    pairs: list[tuple[str, Any]]


_TYPE_NAMES: Final = {str: "string", bool: "bool", Number: "number", Object: "object", list: "array"}

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_STRING: Final = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*'
_INT: Final = "-?(?:0|[1-9][0-9]*)"
_SCALAR: Final = re.compile(rf'{_STRING}"|{_INT}(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null')
_BROKEN: Final = [
    (re.compile(pattern), context)
    for pattern, context in (
        (rf"{_STRING}(?=[\x00-\x1f])", "in string literal"),
        (rf'{_STRING}\\(?!["\\/bfnrtu])', "in string escape code"),
        (rf"{_STRING}\\u[0-9a-fA-F]{{0,3}}(?![0-9a-fA-F])", "in \\u hexadecimal character escape"),
        ("-(?![0-9])", "in numeric literal"),
        (rf"{_INT}\.(?![0-9])", "after decimal point in numeric literal"),
        (rf"{_INT}(?:\.[0-9]+)?[eE](?:[+-](?![0-9])|(?![-+0-9]))", "in exponent of numeric literal"),
        *(
            (f"{word[:size]}(?!{word[size]})", f"in literal {word} (expecting '{word[size]}')")
            for word in ("true", "false", "null")
            for size in range(1, len(word))
        ),
    )
]
"""Patterns of incomplete values, and Go's description of the place of the next character."""
_AFTER: Final = {"": "after top-level value", "{": "after object key:value pair", "[": "after array element"}


def _no_constant(name: str) -> Any:
    """Refuse NaN, Infinity and -Infinity, which only Python reads."""
    raise json.JSONDecodeError(name, "", 0)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=Object, parse_int=Number, parse_float=Number, parse_constant=_no_constant
)


def _syntax_error(text: str) -> str:
    """Return Go's text of the first syntax error; the end counts as a space (encoding/json/scanner.go)."""
    place, owners, expected, last = 0, [""], "value", ""
    while (place := _end(_SPACE, text, place)) < len(text):
        character, owner, is_key = text[place], owners[-1], expected == "key"
        if expected == "colon":
            if character != ":":
                return _invalid(text, place, "after object key")
            expected = "value"
        elif owner + character in ("{}", "[]") and (expected == "end" or last == owner):
            owners.pop()
            expected = "end"
        elif expected == "end":
            if character != "," or not owner:
                return _invalid(text, place, _AFTER[owner])
            expected = "key" if owner == "{" else "value"
        elif character in "{[" and not is_key:
            owners.append(character)
            expected = "key" if character == "{" else "value"
        elif is_key and character != '"':
            return _invalid(text, place, "looking for beginning of object key string")
        else:
            for pattern, context in _BROKEN:
                if match := pattern.match(text, place):
                    return _invalid(text, match.end(), context)
            scalar = _SCALAR.match(text, place)
            if scalar is None:
                return UNEXPECTED_END if character == '"' else _invalid(text, place, "looking for beginning of value")
            place, expected = scalar.end() - 1, "colon" if is_key else "end"
        place, last = place + 1, character
    return UNEXPECTED_END


def _invalid(text: str, place: int, context: str) -> str:
    """Return Go's text of an error, with the first byte of the character at a place."""
    byte = chr((text[place : place + 1] or " ").encode("utf-8", "surrogateescape")[0])
    quoted_byte = "'\"'" if byte == '"' else f"'{_escaped(byte, chr(39))}'"
    return f"invalid character {quoted_byte} {context}"


def _end(pattern: re.Pattern[AnyStr], text: AnyStr, place: int) -> int:
    match = pattern.match(text, place)
    return match.end() if match else place


Structs = Mapping[str, Mapping[str, str]]
"""By struct, named with its package, the Go type of each field by its JSON name, after the structs it embeds."""


def read_struct(text: bytes, name: str, structs: Structs) -> dict[str, Any]:
    """Return the fields of a JSON object as json.Unmarshal reads them into a struct.

    ``name`` is the struct's name with its package; values of a struct that ``structs`` lacks are not read. Names match
    in any case; unknown ones and null are ignored; the last duplicate counts. Raises Unreadable for a syntax error,
    else for the first value of a wrong type.
    """
    characters = text.decode("utf-8", "surrogateescape")
    try:
        value = _DECODER.decode(characters)
    except json.JSONDecodeError:
        raise Unreadable(_syntax_error(characters)) from None
    except RecursionError:
        raise Unreadable("exceeded max depth") from None
    if value is None:
        return {}
    if not isinstance(value, Object):
        raise Unreadable(f"json: cannot unmarshal {_TYPE_NAMES[type(value)]} into Go value of type {name}")
    errors = list[Unreadable]()
    values = _read_fields(value, name, "", structs, errors)
    if errors:
        raise errors[0]
    return values


def _read_fields(value: Object, name: str, path: str, structs: Structs, errors: list[Unreadable]) -> dict[str, Any]:
    """Return the fields of a struct, and add to ``errors`` those of unreadable ones; ``path`` is that of the struct."""
    by_folded_name = {field.rpartition(".")[2].casefold(): field for field in structs[name]}
    values = dict[str, Any]()

    def read(item: Any, go_type: str, place: str) -> Any:
        if go_type in structs and isinstance(item, Object):
            return _read_fields(item, go_type, f"{place}.", structs, errors)
        if go_type[:2] == "[]" and go_type != "[]uint8" and isinstance(item, list):
            return [read(element, go_type[2:], place) for element in item]
        if go_type.startswith("map[string]") and isinstance(item, Object):
            return {key: read(element, go_type[11:], place) for key, element in item.pairs}
        try:
            return None if item is None else _read_field(item, go_type, f"{name.rpartition('.')[2]}.{place}")
        except Unreadable as error:
            errors.append(error)

    for key, item in value.pairs:
        field = by_folded_name.get(key.casefold())
        if field is not None and item is not None:
            values[field.rpartition(".")[2]] = read(item, structs[name][field], f"{path}{field}")
    return values


def _read_field(value: Any, go_type: str, field: str) -> Any:
    """Return the value of a field. Raises Unreadable for a wrong type or invalid base64."""
    match go_type, value:
        case "string", str():
            return _SURROGATES.sub("\ufffd", value)
        case "int" | "int64", Number(text) if _WHOLE_NUMBER.fullmatch(text) and int(text) in _INT64:
            return int(text)
        case "float64", Number(text):
            return float(text)
        case ("bool", bool()) | ("interface {}", _) | ("meta.AgentInfo", Object()):
            return value
        case "[]uint8", str():
            return base64_bytes(_SURROGATES.sub("\ufffd", value).encode())
        case "[]uint8", []:  # Go also reads arrays of numbers
            return b""
    is_number = go_type in ("int", "int64") and isinstance(value, Number)
    name = f"number {value.text}" if is_number else _TYPE_NAMES[type(value)]
    raise Unreadable(f"json: cannot unmarshal {name} into Go struct field {field} of type {go_type}")
