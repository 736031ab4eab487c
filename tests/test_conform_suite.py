"""Conformance inside a suite: the fixture, its one assertion, and what it tells."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from independent_ocp import Ocp, serve
from oceanmock import InputError, OceanmockError

pytestmark = pytest.mark.slow

Conformance = Callable[..., Any]
"""The fixture `conformance`."""
WHO = ("operator", "s3cret")


@pytest.fixture
def sound() -> Iterator[str]:
    """Where a server is that keeps the contract."""
    ocp = Ocp()
    ocp.settle()
    with serve(ocp) as url:
        yield url


@pytest.fixture
def broken() -> Iterator[str]:
    """Where one is whose error codes are texts."""
    with serve(Ocp(deviations={"text code"})) as url:
        yield url


def test_a_server_that_keeps_the_contract_passes(conformance: Conformance, sound: str) -> None:
    held = conformance(sound, api="ocp", auth=WHO, max_examples=3)

    held.assert_passed()
    assert held.text().endswith("PASSED (exit code 0), read-only: 3 of 8 operations, 0 of 12 transitions.\n")


def test_one_that_does_not_fails_with_what_the_command_would_print(conformance: Conformance, broken: str) -> None:
    held = conformance(broken, api="ocp", auth=WHO, phases=["probes"])

    with pytest.raises(AssertionError) as failure:
        held.assert_passed()
    assert str(failure.value) == f"the server does not conform to the contract\n{held.text()}"
    assert "getTaskInstance → 404 → $.error.code" in held.text()


def test_a_report_is_written(conformance: Conformance, broken: str, tmp_path: Path) -> None:
    held = conformance(broken, api="ocp", auth=WHO, phases=["probes"])

    held.report("json", tmp_path / "report.json")

    assert json.loads((tmp_path / "report.json").read_text("utf-8"))
    with pytest.raises(InputError, match=r"there is no 'jsn' report\. .* Did you mean 'json'"):
        held.report("jsn", tmp_path / "report.jsn")


@pytest.mark.parametrize(
    ("setting", "mended"),
    [
        ({"max_example": 3}, "no setting 'max_example'. .* Did you mean 'max_examples'?"),
        ({"phases": ["probe"]}, "no phase 'probe'. .* Did you mean 'probes'?"),
    ],
)
def test_what_is_misspelt_does_not_go_unheard(setting: Any, mended: str, conformance: Conformance) -> None:
    with pytest.raises(InputError, match=mended):
        conformance("http://127.0.0.1:1", api="ocp", auth=WHO, **setting)


def test_a_task_that_is_not_there_is_no_result(conformance: Conformance, sound: str) -> None:
    with pytest.raises(OceanmockError, match="has no task '424242'") as refusal:
        conformance(sound, api="ocp", auth=WHO, write=True, tasks=[424242])
    assert refusal.typename == "Untestable"


def test_a_wrong_password_is_no_result(conformance: Conformance, sound: str) -> None:
    with pytest.raises(OceanmockError, match="refuses") as refusal:
        conformance(sound, api="ocp", auth=("operator", "wrong"))
    assert refusal.typename == "Untestable"
