"""The README: its commands, its example, its picture and its table are what the code does."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from command import run
from oceanmock.library import library_names, read_scenario
from oceanmock.obshell.scenario import QUIRKS
from oceanmock.ocp.scenario import Switches

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = ROOT / ".ci" / "run"


def section(title: str) -> str:
    """What stands under a heading, up to the next one."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def block(text: str, language: str) -> str:
    """The first fenced block of a language."""
    return text.partition(f"```{language}\n")[2].partition("```")[0]


def command(name: str) -> str:
    """The block that a comment marks as the command of this name."""
    return block(README.partition(f"<!-- command: {name} -->\n")[2], "sh").strip()


def test_one_command_sets_up_and_serves_the_whole_library() -> None:
    assert command("serve") == (
        "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/oceanmock serve"
    )


def test_one_command_sets_up_and_passes_the_tests() -> None:
    assert command("test") == (
        "python3 -m venv .venv && .venv/bin/pip install -q -e . -r requirements/dev.txt "
        "&& .venv/bin/python -m pytest"
    )


def test_the_gate_runs_the_test_command_as_it_stands_in_the_readme() -> None:
    gate = CI.read_text(encoding="utf-8")

    assert os.access(CI, os.X_OK)
    assert "command=$(readme_command test)" in gate
    assert gate.index("$command") < gate.index("pytest -m slow")


def test_the_scenario_example_is_one_and_its_story_happens() -> None:
    example = block(section("A scenario, line by line"), "yaml")

    scenario = read_scenario(example)

    assert [step.call for step in scenario.story if step.call] == ["retrySubtask", "retryTask"]


def test_the_picture_is_what_show_draws() -> None:
    picture = block(section("A failed task, retried"), "text")

    shown = run("show", "retry-failed-subtask", "--width", "100").stdout

    heading, dag, timelines, _ = shown.split("\n\n", 3)
    assert picture == f"{dag}\n\n{timelines}\n"
    assert heading.startswith("retry-failed-subtask  ")


def test_the_table_of_switches_names_every_switch_and_no_other() -> None:
    rows = re.findall(r"^\| (`.*?) \| ", section("Switches"), re.MULTILINE)
    named = re.findall(r"`(\S+)`", " ".join(rows))

    spelled_out = {name.replace("…_", "error_code_") for name in named}

    assert spelled_out == set(Switches.model_fields)


def test_the_table_of_quirks_names_every_quirk_and_no_other() -> None:
    named = re.findall(r"^\| `(\S+)` \| ", section("obshell's versions and quirks"), re.MULTILINE)

    assert sorted(named) == sorted(QUIRKS)


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"oceanmock (?:serve|show) ([a-z]\S*\w)", README)))
)
def test_every_scenario_that_is_named_is_in_the_library(name: str) -> None:
    assert name in library_names()
