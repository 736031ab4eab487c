"""Read a contract for the lint tests: its parts, its examples, and values against its schemas."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from openapi_schema_validator import OAS30Validator, oas30_format_checker

OPENAPI = Path(__file__).parents[1] / "openapi"


class Case(NamedTuple):
    """A value that a schema is expected to accept or to refuse, and the rule that says so."""

    rule: str
    schema: dict[str, Any]
    value: Any
    valid: bool


class ContractFile:
    """One file of ``openapi/``, read once; what its ``x-submit`` marks is apart from the rest."""

    def __init__(self, api: str) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self.document: dict[str, Any] = yaml.load((OPENAPI / f"{api}.yaml").read_text("utf-8"), Loader=loader)
        schemas: dict[str, Any] = self.document["components"]["schemas"]
        self.schemas = {name: schema for name, schema in schemas.items() if "x-submit" not in schema}
        self.submit_schemas = {name: schema for name, schema in schemas.items() if "x-submit" in schema}
        operations = {op["operationId"]: op for op in self._operations()}
        self.operations = {id: op for id, op in operations.items() if "x-submit" not in op}
        self.submits = {id: op for id, op in operations.items() if "x-submit" in op}
        self._validator = cache(self._make_validator)

    def problems(self, schema: dict[str, Any], value: Any) -> list[str]:
        """Return the violations of a schema of the contract, each with its place."""
        errors = self._validator(json.dumps(schema)).iter_errors(value)
        return [f"{error.json_path}: {error.message}" for error in errors]

    def misjudged(self, cases: Iterable[Case]) -> list[str]:
        """Return the cases that the contract accepts or refuses against the expectation."""
        judged = [(case, self.problems(case.schema, case.value)) for case in cases]
        return [
            f"{case.rule}: {case.value!r}: {problems or 'accepted'}"
            for case, problems in judged
            if (problems == []) is not case.valid
        ]

    def _make_validator(self, schema: str) -> OAS30Validator:
        rooted = {"allOf": [json.loads(schema)], "components": self.document["components"]}
        return OAS30Validator(rooted, format_checker=oas30_format_checker)

    def follow(self, node: Any) -> Any:
        """Return a node, or the node that its $ref points to."""
        while isinstance(node, dict) and "$ref" in node:
            target = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def _operations(self) -> Iterator[dict[str, Any]]:
        """Yield every operation with its method, its path and the parameters of its path."""
        for path, item in self.document["paths"].items():
            for method in (key for key in item if key != "parameters"):
                shared, own = item.get("parameters", []), item[method].get("parameters", [])
                yield {**item[method], "method": method, "path": path, "parameters": shared + own}

    def response_examples(self) -> list[tuple[str, str, str, dict[str, Any], Any]]:
        """Return (operationId, status, name, schema, value) of every example of a response."""
        return [
            (name, status, key, media["schema"], self.follow(example)["value"])
            for name, operation in self.operations.items()
            for status, response in operation["responses"].items()
            for media in self.follow(response)["content"].values()
            for key, example in media["examples"].items()
        ]


def component(name: str) -> dict[str, Any]:
    """Return a reference to a schema of a contract."""
    return {"$ref": f"#/components/schemas/{name}"}


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping of a document, the outer ones first."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            yield from nodes(child)
