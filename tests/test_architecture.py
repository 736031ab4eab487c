"""The house's rules that no other test would notice broken: arrows, doors, and what is slow."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SLOW_TO_IMPORT = {"click", "connexion", "faker", "pydantic", "rich", "uvicorn", "yaml"}


def python(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_imports_go_down_only_and_each_outside_library_has_one_door() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run([lint_imports, "--no-cache"], capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_its_place_in_the_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [each for each in contracts["contracts"] if each.get("containers") == ["oceanmock"]]
    here = [path for path in (ROOT / "src" / "oceanmock").iterdir() if path.suffix in ("", ".py")]
    modules = {path.stem for path in here} - {"__init__", "__pycache__"}

    placed = [name.strip(" ()") for layer in layers["layers"] for name in layer.split("|")]

    assert layers["exhaustive"] is True
    assert sorted(placed) == sorted(modules)


def test_importing_it_loads_nothing_that_takes_time() -> None:
    code = "import json, sys, oceanmock; print(json.dumps(sorted(sys.modules)))"

    loaded = {name.partition(".")[0] for name in json.loads(python("-c", code))}

    assert loaded & SLOW_TO_IMPORT == set()


def test_asking_for_help_builds_no_server() -> None:
    code = "import json, sys, oceanmock.cli; print(json.dumps(sorted(sys.modules)))"

    loaded = {name.partition(".")[0] for name in json.loads(python("-c", code))}

    assert loaded & {*SLOW_TO_IMPORT, "ssl"} == {"click"}


def test_drawing_a_scenario_loads_no_client_of_http() -> None:
    code = "import json, sys, oceanmock.obshell.explain, oceanmock.ocp.explain; print(json.dumps(sorted(sys.modules)))"

    assert {"http.client", "ssl", "connexion"} & set(json.loads(python("-c", code))) == set()


def test_serve_imports_nothing_that_only_other_commands_or_later_requests_need(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "oceanmock", "serve", "--port", "0"]
    with (
        (tmp_path / "imports").open("w+") as imports,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=imports, text=True) as process,
    ):
        assert process.stdout is not None
        is_ready = any(line.startswith("Ready on") for line in process.stdout)
        process.terminate()
        imports.seek(0)
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in imports}

    assert is_ready
    assert "connexion" in imported
    unused = {"cryptography", "httpx", "jinja2", "openapi_spec_validator", "pygments", "requests", "rich"}
    assert imported & unused == set()
