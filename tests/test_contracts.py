"""Lint every contract; each test lists all violations."""

from __future__ import annotations

from openapi_spec_validator import OpenAPIV30SpecValidator

from contract_file import Case, ContractFile

API_CONTRACTS = {name: ContractFile(name) for name in ("ocp", "obshell")}
CONTRACTS = {**API_CONTRACTS, "admin": ContractFile("admin")}


def test_every_contract_is_valid_openapi_3_0() -> None:
    problems = [
        f"{name}: {error.message}"
        for name, contract in CONTRACTS.items()
        for error in OpenAPIV30SpecValidator(contract.document).iter_errors()
    ]

    assert problems == []
    assert {contract.document["openapi"] for contract in CONTRACTS.values()} == {"3.0.3"}


def test_every_example_of_a_response_keeps_its_schema() -> None:
    problems = [
        problem
        for name, contract in CONTRACTS.items()
        for problem in contract.misjudged(
            Case("-".join((name, *row[:3])), row[3], row[4], valid=True) for row in contract.response_examples()
        )
    ]

    assert problems == []


def test_every_documented_response_has_an_example() -> None:
    without = [
        f"{name}: {id} {status}"
        for name, contract in CONTRACTS.items()
        for id, operation in contract.operations.items()
        for status in operation["responses"]
        if (id, status) not in {row[:2] for row in contract.response_examples()}
    ]

    assert without == []


def test_an_example_in_an_envelope_has_its_own_status() -> None:
    wrong = [
        f"{name}: {row[0]} {row[1]} {row[2]}"
        for name, contract in API_CONTRACTS.items()
        for row in contract.response_examples()
        if str(row[4]["status"]) != row[1]
    ]

    assert wrong == []


def test_every_schema_and_every_field_has_a_description() -> None:
    undescribed = [
        f"{name}: {schema}{field}"
        for name, contract in CONTRACTS.items()
        for schema, definition in contract.schemas.items()
        for field, node in [
            ("", definition),
            *((f".{key}", value) for key, value in definition.get("properties", {}).items()),
        ]
        if not contract.follow(node).get("description")
    ]

    assert undescribed == []


def test_every_operation_has_a_summary_a_description_tags_and_sources() -> None:
    keys = {"ocp": ("pages",), "obshell": ("code", "recorded")}
    missing = [
        f"{name}: {id}"
        for name, contract in API_CONTRACTS.items()
        for id, operation in contract.operations.items()
        if not all(operation.get(key) for key in ("summary", "description", "tags"))
        or not all(operation["x-source"].get(key) for key in keys[name])
    ]

    assert missing == []


def test_every_schema_names_a_public_source() -> None:
    missing = [
        f"{name}: {schema}"
        for name, contract in API_CONTRACTS.items()
        for schema, definition in contract.schemas.items()
        if not set(definition["x-source"]) & {"documents", "pages", "code", "recorded"}
    ]

    assert missing == []
