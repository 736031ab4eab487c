"""The wheel: that an empty environment and another folder are all it needs, data included."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from command import run, serving

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
EXAMPLE = "<!-- example: plugin -->\n```python\n"
DATA = [*(ROOT / "openapi").glob("*.yaml"), *(ROOT / "scenarios").glob("*.yaml")]
CHECKED = [path for path in DATA if not path.name.startswith("_")]
"""Without the parts that scenarios include."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a release would consist of, and the command of a venv that holds nothing else."""

    wheel: Path
    sdist: Path
    command: Path


def call(*words: str | Path) -> None:
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def venv_with(folder: Path, *requirements: str | Path) -> Path:
    """The ``bin`` of a new virtual environment that holds nothing but these."""
    venv.create(folder)
    python = folder / "bin" / "python"
    call("pip", "--python", python, "install", "--quiet", *requirements)
    return folder / "bin"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, the wheel built from it, and that installed."""
    folder = tmp_path_factory.mktemp("built")
    call("build", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return Built(wheel, sdist, venv_with(folder / "venv", wheel) / "oceanmock")


def test_the_wheel_holds_the_data_and_the_types_and_no_tests(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        held = set(archive.namelist())

    assert held >= {f"oceanmock/{path.relative_to(ROOT).as_posix()}" for path in DATA}
    assert "oceanmock/py.typed" in held
    assert {name.split("/")[0].partition("-")[0] for name in held} == {"oceanmock"}
    assert not [name for name in held if "tests" in name or "/test_" in name]


def test_the_sdist_holds_all_that_building_and_testing_needs(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}

    assert held >= {path.relative_to(ROOT).as_posix() for path in DATA}
    assert held >= {".ci/run", ".github/actions/start/action.yml", ".github/actions/conform/action.yml", "Dockerfile"}
    assert held >= {"LICENSE", "README.md", "requirements/dev.txt", "src/oceanmock/py.typed", "tests/test_wheel.py"}


def test_the_installed_command_serves_from_any_folder(built: Built, tmp_path: Path) -> None:
    with serving(command=built.command, folder=tmp_path) as server:
        url = f"{server.url}/api/v2/tasks/instances/1000"
        task = httpx.get(url, auth=("viewer", "viewer"), trust_env=False)

    assert (task.status_code, task.json()["data"]["name"]) == (200, "Reinstall OCP agent")


def test_the_installed_command_has_the_whole_library(built: Built, tmp_path: Path) -> None:
    listed = run("list", command=built.command, folder=tmp_path)

    scenarios = {path.stem for path in CHECKED if path.parent.name == "scenarios"}
    assert (listed.returncode, listed.stderr) == (0, "")
    assert {line.split()[0] for line in listed.stdout.splitlines()} == scenarios


def test_the_installed_command_checks_its_own_data(built: Built, tmp_path: Path) -> None:
    checked = run("check", command=built.command, folder=tmp_path)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.count(": ok\n") == len(CHECKED)
    assert str(ROOT) not in checked.stdout


def test_the_installed_command_shows_a_scenario(built: Built, tmp_path: Path) -> None:
    shown = run("show", "retry-failed-subtask", command=built.command, folder=tmp_path)

    assert (shown.returncode, shown.stderr) == (0, "")
    assert "task 1000 Reinstall OCP agent" in shown.stdout


def test_the_readmes_example_passes_with_the_wheel_pytest_and_httpx(built: Built, tmp_path: Path) -> None:
    example = (ROOT / "README.md").read_text("utf-8").partition(EXAMPLE)[2].partition("```")[0]
    (tmp_path / "test_client.py").write_text(example, encoding="utf-8")
    python = built.command.with_name("python")
    call("pip", "--python", python, "install", "--quiet", "pytest", "httpx")

    done = subprocess.run(
        [python, "-m", "pytest", "-q", "--oceanmock-coverage", tmp_path / "test_client.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )

    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert "subtask CANCELING: never happened" in done.stdout
