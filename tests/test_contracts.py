"""What holds of every contract, whatever API it is of."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import validate

from contract_file import ContractFile

CONTRACTS = {api: ContractFile(api) for api in ("ocp", "obshell", "admin")}
ENVELOPED = [CONTRACTS["ocp"], CONTRACTS["obshell"]]
"""Those whose every answer says its status in its body, too."""


@pytest.fixture(params=CONTRACTS)
def contract(request: pytest.FixtureRequest) -> ContractFile:
    return CONTRACTS[request.param]


def test_a_contract_is_valid_openapi_3_0(contract: ContractFile) -> None:
    assert contract.document["openapi"] == "3.0.3"

    validate(contract.document)


@pytest.mark.parametrize(
    ("api", "schema", "value"),
    [
        pytest.param(api, row[3], row[4], id="-".join((api, *row[:3])))
        for api, contract in CONTRACTS.items()
        for row in contract.response_examples()
    ],
)
def test_every_example_of_an_answer_validates(api: str, schema: dict[str, Any], value: Any) -> None:
    assert CONTRACTS[api].mistakes(schema, value) == []


def test_every_documented_answer_has_an_example(contract: ContractFile) -> None:
    shown = {(name, status) for name, status, *_ in contract.response_examples()}
    documented = {
        (name, status)
        for name, operation in contract.operations.items()
        for status in operation["responses"]
    }

    assert shown == documented


@pytest.mark.parametrize("contract", ENVELOPED, ids=["ocp", "obshell"])
def test_an_example_in_an_envelope_says_the_status_it_is_of(contract: ContractFile) -> None:
    examples = contract.response_examples()

    assert all(str(value["status"]) == status for _, status, _, _, value in examples)


def test_every_schema_and_every_field_is_described(contract: ContractFile) -> None:
    schemas = contract.schemas

    undescribed = [name for name, schema in schemas.items() if not schema.get("description")] + [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, described in schema.get("properties", {}).items()
        if not contract.follow(described).get("description")
    ]

    assert undescribed == []
