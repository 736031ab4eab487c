"""The mock, held to its own contracts: green and adequate, whatever it serves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from oceanmock.checks import Phase
from oceanmock.conformance.baseline import Baseline, shipped_for
from oceanmock.conformance.mock import WORLDS, conform_mock, load_scenarios, worlds_of
from oceanmock.conformance.model import PASSED, Api, Options, Result
from oceanmock.errors import AuthorError
from oceanmock.library import load_scenario

pytestmark = pytest.mark.slow

APIS: tuple[Api, ...] = ("ocp", "obshell")
BRIEFLY: frozenset[Phase] = frozenset({"probes", "coverage", "machine"})


def names_of(api: Api) -> set[str]:
    return {each.name for each in load_scenarios() if each.api == api}


def quirks_of(api: Api) -> Baseline | None:
    return shipped_for(api, "4.5.0.0") if api == "obshell" else None


def run(api: Api, *names: str, phases: frozenset[Phase] = BRIEFLY) -> Result:
    options = Options(seed=1, max_examples=5, phases=phases)
    return conform_mock(api, names, options, baseline=quirks_of(api))


def told(result: Result) -> str:
    """What is wrong with a result, for whoever reads why a test failed."""
    lines = [f"{each.rule} {each.breadcrumb}: {each.message}" for each in result.findings]
    lines += [f"missing: {each.operation} {each.status}" for each in result.missing]
    for name, steps in result.stories.items():
        lines += [f"{name}: {s.text}: {s.detail}" for s in steps if s.outcome != "passed"]
    return "\n".join(lines)


@pytest.mark.parametrize("api", APIS)
def test_all_scenarios_that_come_with_oceanmock_are_green_and_adequate(api: Api) -> None:
    began = time.perf_counter()

    result = run(api, phases=Options().phases)

    print(f"{api}: {result.asked} requests in {time.perf_counter() - began:.1f} s")
    assert told(result) == ""
    assert result.exit_code == PASSED
    assert set(result.stories) == names_of(api)
    assert set(result.phases) == Options().phases | {"story"}


@pytest.mark.parametrize(
    ("api", "name"),
    [("ocp", "rollback-forbidden"), ("ocp", "many-tasks"), ("obshell", "start-operations")],
)
def test_each_scenario_by_itself_is_green_and_adequate(api: Api, name: str) -> None:
    """Those that are unlike the others: small, large, and of an agent of its own."""
    result = run(api, name)

    assert told(result) == ""
    assert result.exit_code == PASSED
    assert set(result.stories) == {name}


def test_what_the_quirks_of_obshell_break_is_known_and_told() -> None:
    known = run("obshell", "join-agent", phases=frozenset({"probes"})).known

    assert {each.rule for each in known} >= {
        "quirk.missing-header-is-400",
        "quirk.unreadable-show-details-is-500",
        "quirk.no-oceanbase-is-500",
    }
    assert all(each.known for each in known)


def test_a_file_of_ones_own_is_run_as_well_and_its_faults_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "summary: Mine\napi: ocp\ntasks: [{id: 1, name: Mine, subtasks: [Do]}]\n"
        "faults: [{name: outage, status: 500}]\n"
    )

    result = run("ocp", str(path), phases=frozenset({"probes"}))

    assert result.target == f"the mock: {path}"
    assert result.findings == []
    assert not any(counts[500] for counts in result.statuses.values())


def test_the_switches_of_a_scenario_are_the_worlds_too(tmp_path: Path) -> None:
    path = tmp_path / "checked.yaml"
    path.write_text(
        "summary: Checked\napi: ocp\nswitches: {subtask_pairing: checked}\n"
        "tasks: [{id: 1, name: Mine, subtasks: [Do]}]\n"
    )

    result = run("ocp", str(path), phases=frozenset({"probes", "machine"}))

    assert result.statuses["getSubtaskLog"][404]
    assert told(result) == ""


def test_a_scenario_that_is_none_names_the_nearest() -> None:
    with pytest.raises(AuthorError, match="Did you mean 'rollback-forbidden'"):
        run("ocp", "rollback-forbiden")


def test_what_agrees_is_served_together_and_what_does_not_apart() -> None:
    scenarios = [load_scenario(name) for name in sorted(names_of("obshell"))]

    worlds, apart = worlds_of("obshell", scenarios)

    assert [each.kind for each in worlds] == ["agent", "cluster"]
    assert [each.name for each in apart] == ["start-operations"]
    assert len(worlds[0].scenarios) == len(scenarios)  # less one that is apart, plus the world


def test_every_world_that_comes_with_oceanmock_is_one_of_an_api() -> None:
    worlds = [load_scenario(path) for path in sorted(WORLDS.glob("*.yaml"))]

    assert {world.api for world in worlds} == set(APIS)
