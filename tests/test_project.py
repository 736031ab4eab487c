"""Check the project's own files: pinned environments, workflows and metadata agree."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tomllib
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from command import OCEANMOCK

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DEPENDENCIES = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"]["conform"]]
GROUPS = PYPROJECT["dependency-groups"]


def pins(name: str) -> dict[str, Version]:
    """Return the version that a file of ``requirements/`` pins of each distribution."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines]
    return {
        canonicalize_name(requirement.name): Version(specifier.version)
        for requirement in requirements
        for specifier in requirement.specifier
        if specifier.operator == "=="
    }


@pytest.mark.parametrize(
    ("name", "texts"),
    [("dev", [*DEPENDENCIES, *GROUPS["test"], *GROUPS["lint"]]), ("oldest", [*DEPENDENCIES, *GROUPS["test"]])],
)
def test_every_dependency_is_pinned_within_its_range(name: str, texts: list[str]) -> None:
    pinned = pins(name)

    for text in texts:
        requirement = Requirement(text)
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, text


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    pinned = pins("oldest")

    for text in DEPENDENCIES:
        requirement = Requirement(text)
        (bound,) = (s for s in requirement.specifier if s.operator in (">=", "~="))
        assert pinned[canonicalize_name(requirement.name)] == Version(bound.version), text


def test_the_image_runs_without_root_and_has_only_files_and_options_that_exist() -> None:
    lines = [line.split(maxsplit=1) for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines() if line]
    told = [(word, rest) for word, rest in lines if word != "#"]
    copied = [name for word, rest in told if word == "COPY" for name in rest.split()[:-1]]
    variables = " ".join(rest for word, rest in told if word == "ENV")

    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert [rest for word, rest in told if word == "RUN" and '"/oceanmock[metrics,redis]"' in rest]
    assert [rest for word, rest in told if word == "USER"] == ["10001"]
    assert [rest for word, rest in told if word == "VOLUME"] == ["/scenarios"]
    assert {word for word, _ in told} >= {"HEALTHCHECK", "ENTRYPOINT", "EXPOSE"}
    assert re.findall(r"OCEANMOCK_(\w+)", variables) == ["HOST", "LOG_FORMAT", "URL"]


@pytest.mark.slow
def test_the_start_action_starts_servers_and_shows_why_one_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "oceanmock").mkdir()
    (tmp_path / "oceanmock" / "bin").symlink_to(OCEANMOCK.parent)
    action = yaml.safe_load((ROOT / ".github/actions/start/action.yml").read_text(encoding="utf-8"))
    files = {name: str(tmp_path / name) for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH")}
    files["OCEANMOCK_JSON"] = "1"

    def start(scenarios: str, options: str = "--progression polls") -> subprocess.CompletedProcess[str]:
        inputs = {"SCENARIOS": scenarios, "OPTIONS": options, "RUNNER_TEMP": str(tmp_path), **files}
        command = ["bash", "-eo", "pipefail", "-c", action["runs"]["steps"][-1]["run"]]
        return subprocess.run(command, env={**os.environ, **inputs}, capture_output=True, text=True, check=False)

    try:
        codes = [start(scenarios).returncode for scenarios in ("retry-failed-subtask", "'rollback' fails-twice")]
        codes.append(start("", "").returncode)
        wrong = start("no-such")
        lines = (tmp_path / "GITHUB_ENV").read_text(encoding="utf-8").splitlines()
        admins = [f"{line.removeprefix('OCEANMOCK_URL=')}/__admin/sandboxes/default" for line in lines]
        tasks = [httpx.get(admin).json()["tasks"] for admin in admins]
    finally:
        for log in [*tmp_path.glob("*/log"), *tmp_path.glob("*.log")]:
            with suppress(ValueError):
                os.kill(json.loads(log.read_text(encoding="utf-8"))["pid"], signal.SIGTERM)
    assert (codes, tasks[:2]) == ([0, 0, 0], [1, 2])
    assert (wrong.returncode, "there is no scenario 'no-such'" in wrong.stdout) == (1, True)
