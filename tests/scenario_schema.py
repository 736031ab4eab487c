"""Read the names that the scenario format allows, from the schema in the library, which is what the command prints."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA_FILE = Path(__file__).parents[1] / "scenarios" / "scenario.schema.json"


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema of scenario files."""
    content: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return content


@cache
def validator() -> Draft202012Validator:
    """Return a validator of scenario files by the schema, as an editor checks them."""
    return Draft202012Validator(schema())


def definitions() -> dict[str, Any]:
    """Return the definitions of the scenario format's JSON Schema."""
    schemas: dict[str, Any] = schema()["$defs"]
    return schemas


def quirks() -> list[str]:
    """Return the names of obshell's quirks that a scenario can switch off."""
    names = _enum(definitions()["obshell.Switches"]["properties"]["quirks_off"])
    return [name for name in names if name != "all"]


def identities() -> list[str]:
    """Return what an agent of obshell can be."""
    return _enum(definitions()["obshell.Agent"]["properties"]["identity"])


def _enum(schema: Any) -> list[str]:
    found = schema.get("enum") or [_enum(part) for part in schema.get("anyOf", ())]
    if found and isinstance(found[0], list):
        return next(part for part in found if part)
    return found or (_enum(schema["items"]) if "items" in schema else [])
