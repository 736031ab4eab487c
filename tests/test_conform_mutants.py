"""Every broken server is found out by a full run of conformance, by the rule that is meant for it.

Each is the mock with one thing wrong, served as ``conform --mock`` serves it, and run with every
phase. What finds what is a table, ``golden/mutants.md``, which these runs have written.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from unittest.mock import patch

import pytest

from conform_results import shipped_for
from machine_world import WHOLE
from mutants import consistency, table
from mutants.bending import Mutant
from oceanmock.checks import CheckResult, Phase
from oceanmock.conformance import ApiName, Event, Listener, Options, Result, probes
from oceanmock.conformance.baseline import apply_baselines
from oceanmock.conformance.checks import all_rules
from oceanmock.conformance.mock import conform_mock

pytestmark = pytest.mark.slow

APIS: tuple[ApiName, ...] = ("ocp", "obshell")
BESIDE = {"ocp": "tasks: [{id: 1, name: Mine, subtasks: [Do]}]", "obshell": "dags: [{id: 1, name: Mine, nodes: [Do]}]"}
"""What is served beside the worlds that come with oceanmock: next to nothing."""
BY_CHANCE: frozenset[Phase] = frozenset({"fuzzing", "stateful"})
"""The phases in which the seed decides what is asked; the machine's seeds are tested by itself."""
PROBES, WALKS = frozenset[Phase]({"probes"}), frozenset[Phase]({"machine"})
OTHERS = Options().phases - WALKS
STAGES = ((PROBES, 1), (WALKS, 1), (WALKS, 5), (OTHERS, 1))
"""Phases, and on how many tasks a machine walks: each only where those before have not found it."""
WALKS_FIRST = sorted(STAGES, key=lambda stage: stage[0] != WALKS)
"""The same for servers that only an operation shows to be broken."""
IN_ORDER = ((PROBES, 1), (OTHERS, 1), (WALKS, 1), (WALKS, 5))
"""The same, in the order of a run."""


def run(
    api: ApiName, folder: Path, options: Options, *, mutant: Mutant = WHOLE, listen: Listener = lambda _: None
) -> Result:
    """What a run over the mock comes to that is broken in one way, or in none."""
    scenario = folder / f"{api}.yaml"
    scenario.write_text(f"summary: Next to nothing\napi: {api}\n{BESIDE[api]}\n")
    known = shipped_for(api, "4.5.0.0")
    with mutant.broken() as wrap:
        return apply_baselines(known, conform_mock(api, [str(scenario)], options, listen=listen, wrap=wrap))


def stopping_at(rules: Container[str]) -> Listener:
    """Breaks a run off as soon as it has found one of these."""

    def listen(event: Event) -> None:
        if isinstance(event, CheckResult) and event.rule in rules:
            raise KeyboardInterrupt

    return listen


def measure(mutant: Mutant, folder: Path) -> table.Kill:
    """What finds a broken server first: in the phase of the table and those run with it; for a new row in any."""
    kills = list[table.Kill]()

    def listen(event: Event) -> None:
        if isinstance(event, CheckResult) and event.rule in mutant.rules:
            exchange = event.exchange
            phase = exchange.phase if exchange is not None else ""
            kills.append(table.Kill(phase, event.rule))
            raise KeyboardInterrupt

    kill = None if table.is_made_anew() else table.read_kills().get(table.name_of(mutant))
    stages = [(phases, walks) for phases, walks in IN_ORDER if kill is None or kill[0] in phases]
    for phases, walks in stages:
        with patch.object(probes, "TOURS", walks):
            run(mutant.api, folder, Options(seed=1, max_examples=walks, phases=phases), mutant=mutant, listen=listen)
        if kills:
            break
    return kills[0] if kills else table.Kill("", "")


def found_in(mutant: Mutant, folder: Path) -> set[str]:
    """The rules that a broken server is found to break: all of them for the table, else enough."""
    enough = () if table.is_made_anew() else mutant.rules
    found = set[str]()
    stages = WALKS_FIRST if mutant in table.OF_WALKS else STAGES
    for phases, walks in [(Options().phases, 5)] if table.is_made_anew() else stages:
        options = Options(seed=1, max_examples=walks, phases=phases)
        with patch.object(probes, "TOURS", walks):
            result = run(mutant.api, folder, options, mutant=mutant, listen=stopping_at(enough))
        found = {finding.rule for finding in result.findings}
        if found & mutant.rules:
            break
    return found


@pytest.mark.parametrize("mutant", table.MUTANTS, ids=table.name_of)
def test_a_broken_server_is_found_by_the_rule_that_is_meant_for_it(mutant: Mutant, tmp_path: Path) -> None:
    found = found_in(mutant, tmp_path)

    table.write(mutant, found)
    assert found & mutant.rules, sorted(found)
    assert found & mutant.rules <= set(table.read()[table.name_of(mutant)])


@pytest.mark.parametrize("mutant", consistency.MUTANTS, ids=table.name_of)
def test_a_server_that_contradicts_itself_is_found_in_the_phase_of_the_table(mutant: Mutant, tmp_path: Path) -> None:
    kill = measure(mutant, tmp_path)

    table.write_kill(mutant, kill)
    assert kill.rule in mutant.rules
    assert table.read_kills()[table.name_of(mutant)] == (kill.phase, kill.rule)


def test_the_table_of_phases_has_every_one_of_them() -> None:
    assert list(table.read_kills()) == [table.name_of(mutant) for mutant in consistency.MUTANTS]


def test_the_table_has_every_broken_server_and_is_as_it_was_generated() -> None:
    rows = table.read()

    assert list(rows) == [table.name_of(mutant) for mutant in table.MUTANTS]
    assert table.written(rows) == table.FILE.read_text()
    assert all(mutant.rules & set(rows[table.name_of(mutant)]) for mutant in table.MUTANTS)


def test_every_rule_that_has_to_find_one_is_in_the_catalogue() -> None:
    wanted = set[str]().union(*(mutant.rules for mutant in (*table.MUTANTS, *consistency.MUTANTS)))

    assert wanted <= all_rules().keys()


@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(2, 10))]
)
@pytest.mark.parametrize("api", APIS)
def test_a_whole_server_passes_with_any_seed(api: ApiName, seed: int, tmp_path: Path) -> None:
    result = run(api, tmp_path, Options(seed=seed, max_examples=2, phases=BY_CHANCE))

    assert [f"{each.rule} {each.breadcrumb}: {each.message}" for each in result.findings] == []
    assert set(result.phases) >= BY_CHANCE
