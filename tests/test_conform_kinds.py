"""A sound server of any kind and version passes with any seed, and however its responses are sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from conform_results import shipped_for
from conform_servers import Shape, reshaping
from fuzzing_world import served
from oceanmock.apis import make_sandbox
from oceanmock.checks import Exchange, Phase
from oceanmock.conformance import ApiName, Event, Options, Result
from oceanmock.conformance.baseline import apply_baselines, choose_baselines
from oceanmock.conformance.run import conform
from oceanmock.conformance.target import reach
from oceanmock.credentials import Sealed
from oceanmock.http.app import create_app
from oceanmock.http.server import Server
from oceanmock.library import load_scenario

BASELINE = "obshell-4.5.0.0"
FAILED = "{name: Fail, can: [cancel, pass, retry, rollback], sub_tasks: [{ends: FAILED, log: [trying]}]}"
DAGS = {
    "with dags": f"[{{id: 1, name: A, nodes: [{FAILED}]}}, {{id: 2, name: B, maintenance: global, nodes: [Do]}}]",
    "fresh": "[{name: A, starts_on: {path: /api/v1/agent/join}, nodes: [Do]}]",
}
IDENTITIES = ["SINGLE", "MASTER", "FOLLOWER", "CLUSTER AGENT"]
VERSIONS = ["4.2.6.0", "4.3.0.0", "4.4.0.0"]
KINDS = [
    *((identity, "4.5.0.0", dags) for identity in IDENTITIES for dags in DAGS),
    *(("SINGLE", version, "with dags") for version in VERSIONS),
    ("SINGLE", "4.3.0.0", "fresh"),
]
FURTHER_KINDS = [("CLUSTER AGENT", version, "with dags") for version in VERSIONS]
BY_CHANCE: frozenset[Phase] = frozenset({"fuzzing", "stateful"})
"""The phases in which the seed decides what is asked."""


def run(folder: Path, kind: tuple[str, str, str], options: Options) -> Result:
    """What a run comes to that only reads, as the command makes it."""
    identity, version, dags = kind
    file = folder / "agent.yaml"
    file.write_text(
        f"summary: An agent\napi: obshell\nprogression: manual\nagent: {{identity: {identity}}}\n"
        f"switches: {{obshell_version: {version}}}\ndags: {DAGS[dags]}\n"
    )
    with Server(create_app(make_sandbox([load_scenario(file)]))) as server:
        target = reach(server.url, api="obshell", auth=Sealed("oceanmock"))
        baselines, _ = choose_baselines([BASELINE], api="obshell", version=target.version)
        return apply_baselines(baselines, conform(target, options))


def texts(result: Result) -> list[str]:
    return [f"{each.rule} {each.breadcrumb}: {each.message}" for each in result.findings]


@pytest.mark.parametrize(
    "kind",
    [("SINGLE", "4.3.0.0", "fresh"), pytest.param(("FOLLOWER", "4.5.0.0", "with dags"), marks=pytest.mark.slow)],
    ids=str,
)
def test_probes_find_nothing_in_a_sound_agent(kind: tuple[str, str, str], tmp_path: Path) -> None:
    result = run(tmp_path, kind, Options(phases=frozenset({"probes"})))

    assert texts(result) == []
    assert result.request_count > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [*KINDS, *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in FURTHER_KINDS)], ids=str
)
def test_a_run_finds_nothing_in_a_sound_agent(kind: tuple[str, str, str], tmp_path: Path) -> None:
    result = run(tmp_path, kind, Options(seed=0, max_examples=3))

    assert texts(result) == []
    assert {item.status for item in result.missing} <= ({200} if kind[2] == "fresh" else set())


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", [*KINDS, *FURTHER_KINDS], ids=str)
def test_nor_with_any_other_seed(kind: tuple[str, str, str], tmp_path: Path) -> None:
    results = [run(tmp_path, kind, Options(seed=seed, max_examples=3, phases=BY_CHANCE)) for seed in range(1, 10)]

    assert [text for result in results for text in texts(result)] == []


@pytest.mark.slow
@pytest.mark.parametrize("api", ["ocp", "obshell"])
def test_a_run_asks_less_by_chance_than_on_purpose(api: ApiName) -> None:
    requests = Counter[str]()

    def listen(event: Event) -> None:
        requests.update([event.phase] if isinstance(event, Exchange) else [])

    with served(api) as there:
        conform(there.target, Options(), listen=listen)

    assert 0 < sum(requests[phase] for phase in BY_CHANCE) < requests["probes"]


@pytest.mark.slow
@pytest.mark.parametrize("shape", get_args(Shape))
@pytest.mark.parametrize("api", ["ocp", "obshell"])
def test_the_shape_of_responses_is_no_finding(api: ApiName, shape: Shape) -> None:
    with served(api) as there, reshaping(there.target.url, shape) as url:
        target = replace(there.target, url=url)
        result = conform(target, Options(max_examples=1, phases=frozenset({"probes"})))
    apply_baselines(shipped_for(api, target.version), result)

    assert texts(result) == []
    assert result.request_count > 100
