"""How `oceanmock show` draws obshell's dags, as whole text and rule by rule."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from golden import assert_golden
from oceanmock.cli import main

LIBRARY = Path(__file__).parents[1] / "scenarios"
OF_OBSHELL = sorted(path.stem for path in LIBRARY.glob("[!_]*.yaml") if "\napi: obshell\n" in path.read_text("utf-8"))

EVERY_KIND = r"""
summary: Every kind of dag, node and sub task that there is to draw
api: obshell
agent: {ip: "fd00::7", identity: CLUSTER AGENT}
dags:
  - id: 7
    name: Kept by the agent
    nodes:
      - One
      - name: "[red]检查[/] \\ a name longer than the column that the timeline leaves for it"
        can: pass
        sub_tasks: {takes: 0s, agent: {ip: fd00::8, port: 2887}}
  - id: 7
    scope: cluster
    name: Kept in OceanBase
    maintenance: {tenant: orders}
    nodes:
      - name: Three of them
        can: [rollback, retry]
        sub_tasks:
          - {takes: 1s}
          - {agent: {ip: fd00::8}, takes: 2s}
          - {name: Named, takes: forever}
  - {id: 8, name: An obproxy's, maintenance: obproxy, nodes: [Start obproxy]}
  - {name: Without a number, maintenance: global, nodes: [{sub_tasks: [{}, {}]}]}
"""


def show(scenario: str | Path, *, width: int = 100) -> str:
    """Return what `oceanmock show` prints of a scenario."""
    result = CliRunner().invoke(main, ["show", str(scenario), "--width", str(width)])
    assert result.exit_code == 0, result.output
    return result.output


def show_text(text: str, folder: Path) -> str:
    """Return what `oceanmock show` prints of a file with this text."""
    path = folder / "scenario.yaml"
    path.write_text(text, "utf-8")
    return show(path)


def test_a_failed_dag_that_is_retried_and_rolled_back() -> None:
    picture = show("initialize-cluster-fails")

    assert_golden("show-initialize-cluster-fails.txt", picture)


def test_a_parallel_node_has_a_band_for_each_agent() -> None:
    picture = show("pass-failed-node")

    assert_golden("show-pass-failed-node.txt", picture)


def test_every_kind_of_dag_node_and_sub_task(tmp_path: Path) -> None:
    assert_golden("show-every-kind-of-dag.txt", show_text(EVERY_KIND, tmp_path))


@pytest.mark.parametrize("width", [60, *(pytest.param(width, marks=pytest.mark.slow) for width in (100, 200))])
def test_all_tracks_of_a_timeline_end_in_the_same_column(width: int) -> None:
    pictures = [show(name, width=width) for name in OF_OBSHELL]

    lines = [line for picture in pictures for line in picture.splitlines()]
    timelines = [list(group) for ruled, group in groupby(lines, is_track) if ruled]
    assert len(timelines) == sum(line.startswith("dag ") for line in lines)
    assert all(len({cell_len(line) for line in tracks}) == 1 for tracks in timelines)


def is_track(line: str) -> bool:
    """Whether a line is a row of a timeline."""
    return len(line) > 34 and set(line[34:]) <= set("·○█▒✗━╌═")


def test_an_operator_that_is_not_run_is_said() -> None:
    picture = show("cancelled-rollback")

    assert "dag READY/ROLLBACK; Integrate config PENDING/ROLLBACK;" in picture
    assert "dag READY/CANCEL; Integrate config PENDING/CANCEL\n" in picture
    assert "/RUN" not in picture.replace("RUNNING", "")


def test_a_sub_task_is_mentioned_only_where_it_is_not_as_its_node(tmp_path: Path) -> None:
    picture = show_text(
        "summary: s\napi: obshell\ndags: [{id: 1, name: D, nodes: [{name: N, sub_tasks: [{takes: 1.5s}]}]}]", tmp_path
    )

    assert picture.partition("\n\n       0.000 s")[2].splitlines()[:4] == [
        "  dag READY",
        "       1.000 s  dag RUNNING; N RUNNING",
        "       2.500 s  sub task of N SUCCEED",
        "       3.000 s  dag SUCCEED; N SUCCEED",
    ]
