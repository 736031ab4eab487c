"""Read the names that the scenario format allows, from the schema that the command prints."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from click.testing import CliRunner
from jsonschema import Draft202012Validator

from oceanmock.cli import main


@cache
def validator() -> Draft202012Validator:
    """Return a validator of scenario files by the schema, as an editor checks them."""
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0, result.output
    return Draft202012Validator(json.loads(result.stdout))


def definitions() -> dict[str, Any]:
    """Return the definitions of the scenario format's JSON Schema."""
    schemas: dict[str, Any] = validator().schema["$defs"]  # type: ignore[index]
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
