"""Read the admin API's contract and parameters, and extend it to the APIs that are served."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from oceanmock.api import Api, ApiError
from oceanmock.clock import LATEST
from oceanmock.openapi import Spec, load_spec, spec_path
from oceanmock.text import parse_duration, parse_instant, suggest

EARLIEST: Final = parse_instant("1980-01-01T00:00:00Z")
JOURNAL_PATH: Final = "/__admin/sandboxes/{sandbox}/journal"
_UNKNOWN_KEY: Final = re.compile(
    r"^The body: (?:([a-z_]+): )?Additional properties are not allowed \('([^']{1,100})'"
)


def admin_spec(apis: Sequence[Api]) -> Spec:
    """Return the contract of the admin API, with the words of these APIs."""
    spec = load_spec(spec_path("admin"))
    names = [api.name for api in apis]
    if spec["components"]["schemas"]["ApiName"]["enum"] == names:
        return spec
    spec = copy.deepcopy(dict(spec))
    schemas = spec["components"]["schemas"]
    schemas["ApiName"]["enum"] = names
    for name in ("NewSandbox", "MoreScenarios"):
        schemas[name]["properties"]["api"]["enum"] = names
    for api in apis:
        schemas["Sandbox"]["properties"].setdefault(api.scripts_key, {"type": "integer"})
        schemas["NewSandbox"]["properties"].setdefault(api.switches_key, {"type": "object"})
    return spec


def journal_filters(spec: Spec) -> Iterator[str]:
    """Return the names of the journal's filters."""
    for parameter in spec["paths"][JOURNAL_PATH]["get"]["parameters"]:
        yield _resolve(spec, parameter)["name"]


def hint_for(spec: Spec, operation_id: str, detail: str) -> str:
    """Return a suggestion for the unknown key that a validation error names, or ""."""
    unknown = _UNKNOWN_KEY.search(detail)
    if unknown is None:
        return ""
    within, key = unknown.groups()
    keys = _keys_of(spec, operation_id, within)
    return f". {suggest(key, keys)}" if keys else ""


def _keys_of(spec: Spec, operation_id: str, within: str | None) -> list[str]:
    """Return the keys of an operation's body, or of the object under one of them."""
    operation = next(
        operation
        for item in spec["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict) and operation.get("operationId") == operation_id
    )
    schema = _resolve(spec, operation["requestBody"]["content"]["application/json"]["schema"])
    if within is not None:
        schema = _resolve(spec, schema["properties"].get(within, {}))
    return list(schema.get("properties", ()))


def _resolve(spec: Spec, node: dict[str, Any]) -> dict[str, Any]:
    """Return a node, or what its reference points to."""
    target: Any = node
    if "$ref" in node:
        target = spec
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
    return dict(target)


# --- parameters -----------------------------------------------------------------------------------


def read_duration(key: str, text: str) -> int:
    """Return the nanoseconds of a duration. Raises ApiError."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ApiError("wrong request", f"`{key}` is {text[:100]!r}, which {error}.") from None


def read_instant(key: str, text: str) -> int:
    """Return an instant that a clock can show. Raises ApiError."""
    try:
        at = parse_instant(text)
    except ValueError as error:
        raise ApiError("wrong request", f"`{key}`: {error}.") from None
    if not EARLIEST <= at <= LATEST:
        raise ApiError("wrong request", f"`{key}` is not between the years 1980 and 2999.")
    return at
