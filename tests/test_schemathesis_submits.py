"""schemathesis asks the operations that start something: each answer is documented, and keeps its schema.

No scenario of these worlds starts anything on them, so that what passes all checks is 404.
"""

from __future__ import annotations

import pytest

from oceanmock.apis import APIS
from oceanmock.ocp.scenario import Switches
from oceanmock.openapi import Operation
from schemathesis_obshell_hooks import WORLD
from schemathesis_run import NO_PATH, Recorder, documented, run_cleanly
from test_schemathesis import OBSHELL_CONFIG, OCP_CONFIG, served_obshell, served_ocp

pytestmark = pytest.mark.slow

SUBMITS = ("--include-tag", "submits", "--phases")
REFUSED = ("--exclude-checks", "ignored_auth,positive_data_acceptance")
"""Who asks for no credentials can not refuse wrong ones; what is asked for may be refused for what the agent is."""


def undocumented(operations: tuple[Operation, ...], seen: dict[str, set[int]]) -> list[str]:
    """Return the operations that have answered something that they do not document."""
    return [each.id for each in operations if not seen.get(each.id, set()) <= documented(each)]


def served(recorder: Recorder, operations: tuple[Operation, ...]) -> Recorder:
    """Return a recorder that knows the submits."""
    recorder.operations = operations
    return recorder


def test_ocp_answers_its_submits_as_documented() -> None:
    operations = APIS[0].submits
    recorder = served(served_ocp(Switches()), operations)

    seen = run_cleanly(recorder, OCP_CONFIG, "--auth", "manager:manager", *SUBMITS, "examples,fuzzing", "-n", "2")

    assert seen.pop(NO_PATH) == {404}
    assert seen.keys() == {operation.id for operation in operations}
    assert undocumented(operations, seen) == []
    assert set().union(*seen.values()) == {400, 404}


def test_obshell_answers_its_submits_as_documented() -> None:
    operations = APIS[1].submits
    recorder = served(served_obshell("cluster"), operations)

    seen = run_cleanly(recorder, OBSHELL_CONFIG, *REFUSED, *SUBMITS, "examples", env={WORLD: "cluster"})

    assert seen.pop(NO_PATH) == {404}
    assert seen.keys() == {operation.id for operation in operations if "requestBody" in operation.definition}
    assert undocumented(operations, seen) == []
    assert set().union(*seen.values()) == {400, 404}
