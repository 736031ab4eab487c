"""Run the examples of README.md and docs/, and compare the generated pages with the code.

A comment before each block of Python, YAML or shell says what is done with it:

    <!-- run -->                 a test file, a scenario, or a script
    <!-- run on: COMMAND -->     a script beside this server, whose URL is in $MOCK
    <!-- not run: REASON -->
    <!-- output of: COMMAND -->  text that the command prints
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from command import OCEANMOCK, run, serving
from oceanmock.cli import main
from oceanmock.openapi import load_spec, spec_path

ROOT = Path(__file__).parents[1]
GENERATED = ROOT / "docs" / "reference"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path.parent != GENERATED),
]
BLOCK = re.compile(r"(?:^<!-- (.*?) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHECKED = {"python", "yaml", "sh"}
OF_README = ("command: ", "example: ")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page, and the comment before it."""

    page: Path
    comment: str
    language: str
    text: str

    @property
    def id(self) -> str:
        """The page and the first line."""
        return f"{self.page.stem}: {self.text.partition(chr(10))[0][:40]}"


def blocks() -> Iterator[Block]:
    """Yield each fenced block of the pages."""
    for page in PAGES:
        for comment, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            yield Block(page, comment, language, text)


ALL = list(blocks())


def that_run(language: str, comment: str = "run") -> list[Block]:
    """Return the blocks of a language whose comment begins with this word."""
    return [one for one in ALL if one.language == language and one.comment.startswith(comment)]


def test_every_example_is_run_or_says_why_not() -> None:
    silent = [
        block.id
        for block in ALL
        if block.language in CHECKED and not block.comment.startswith(("run", "not run: ", *OF_README))
    ]

    assert silent == []


@pytest.mark.slow
def test_the_test_files_pass(tmp_path: Path) -> None:
    for number, block in enumerate(that_run("python")):
        path = tmp_path / f"test_{number}_{block.page.stem}.py"
        path.write_text(block.text, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scenarios_have_no_issues(tmp_path: Path) -> None:
    paths = []
    for number, block in enumerate(that_run("yaml")):
        part = re.match("# (_.*\\.yaml)", block.text)  # which the next scenario includes
        paths.append(tmp_path / (part[1] if part else f"{number}-{block.page.stem}.yaml"))
        paths[-1].write_text(block.text, encoding="utf-8")
    names = [path.name for path in paths if not path.name.startswith("_")]

    checked = run("check", *names, folder=tmp_path)

    assert checked.stdout == "".join(f"{name}: ok\n" for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("block", that_run("sh", "run on: "), ids=lambda block: block.id)
def test_every_line_of_a_script_succeeds(block: Block) -> None:
    command = shlex.split(block.comment.removeprefix("run on: oceanmock serve"))
    with serving(*command) as server:
        done = subprocess.run(
            ["bash", "-e", "-u", "-o", "pipefail", "-c", block.text],
            env=os.environ | {"MOCK": server.url, "PATH": f"{OCEANMOCK.parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", that_run("text", "output of: "), ids=lambda block: block.id)
def test_printed_text_is_what_the_command_prints(block: Block) -> None:
    words = shlex.split(block.comment.removeprefix("output of: oceanmock "))

    assert block.text in run(*words).stdout


@pytest.mark.slow
def test_the_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def manifests() -> Iterator[str]:
    """Yield the compose file and the manifest of several replicas."""
    return (block.text for block in ALL if block.page.stem == "several-replicas" and block.language == "yaml")


@pytest.mark.exhaustive
@pytest.mark.skipif(not shutil.which("kubernetes-validate"), reason="pip install check-jsonschema kubernetes-validate")
def test_the_manifests_of_replicas_are_valid_by_the_schemas_of_compose_and_kubernetes(tmp_path: Path) -> None:
    commands = (["check-jsonschema", "--builtin-schema", "vendor.compose-spec"], ["kubernetes-validate", "--strict"])
    for manifest, (command, *words) in zip(manifests(), commands, strict=True):
        path = tmp_path / f"{command}.yaml"
        path.write_text(manifest)
        checked = run(*words, path, command=Path(command))
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_manifests_of_replicas_fit_each_other_and_the_command() -> None:
    compose, kubernetes = manifests()
    (server,) = (it for it in yaml.safe_load(compose)["services"].values() if "oceanmock" in str(it.get("command")))
    secret, deployment, service = yaml.safe_load_all(kubernetes)
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    paths = load_spec(spec_path("admin"))["paths"]

    for _, command, *words in (server["command"], [*container["command"], *container["args"]]):
        main.commands[command].make_context(command, words)
    assert {entry["valueFrom"]["secretKeyRef"]["key"] for entry in container["env"]} == secret["stringData"].keys()
    assert {entry["name"] for entry in container["env"]} == {"OCEANMOCK_STORE", "OCEANMOCK_ADMIN_TOKEN"}
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    (port,) = container["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]
        assert container[probe]["httpGet"]["path"] in paths
    assert str(port["containerPort"]) in container["args"]
