"""What the command prints of others' texts, in which encodings, and what happens if it cannot print."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len

from command import OCEANMOCK, PATIENCE, serving
from oceanmock import Mock
from oceanmock.cli import main
from oceanmock.library import library_names
from served import until

pytestmark = pytest.mark.blackbox

HOSTILE = "\x1b[2J\x1b]0;t\x07\x9b31m\x7f\u202e\u2066\u200b"
ESCAPED = r"\x1b[2J\x1b]0;t\x07\x9b31m\x7f\u202e\u2066\u200b"
ENCODINGS = ("ascii", "cp1252", "cp437", "gbk", "latin-1", "shift_jis", "utf-16")
SCENARIO = {
    "summary": f"summary {HOSTILE}",
    "api": "ocp",
    "progression": "manual",
    "tasks": [{"id": 5, "name": f"任务 ✗ {HOSTILE}", "subtasks": [f"step {HOSTILE}", "second"]}],
    "faults": [{"name": f"fault {HOSTILE}", "operation": "retrySubtask", "status": 503}],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a hostile scenario, and one that is wrong."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "hostile.yaml").write_text(json.dumps(SCENARIO))
    (folder / "wrong.yaml").write_text(json.dumps({**SCENARIO, f"key {HOSTILE}": HOSTILE, "api": f"api {HOSTILE}"}))
    (folder / f"{HOSTILE}.yaml").write_text("[")
    return folder


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Mock.start() as mock:
        mock.admin.ask("POST", "/sandboxes/default/scenarios", {"scenarios": [SCENARIO]})
        httpx.get(f"{mock.url}/api/v2/tasks/instances/5", auth=(HOSTILE, "x"))
        httpx.get(f"{mock.url}/%1b%5b2J%c2%9b%e2%80%ae?%1b", headers={"Authorization": b"\x1b".hex()})
        yield mock.url


def invoke(words: Sequence[str], url: str, files: Path, *, charset: str = "utf-8") -> Result:
    """Run a command in this process, with the folder in place of ``{files}``."""
    arguments = [word.replace("{files}", str(files)) for word in words]
    return CliRunner(charset=charset).invoke(main, arguments, env={"OCEANMOCK_URL": url})


READING = {
    "show hostile": (("show", "{files}/hostile.yaml"), 0),
    "check hostile file": (("check", "{files}/wrong.yaml", "{files}/" + HOSTILE + ".yaml"), 1),
    "show wrong file": (("show", "{files}/wrong.yaml"), 2),
    "show no file": (("show", HOSTILE), 2),
    "usage": ((HOSTILE,), 2),
    "tasks": (("tasks",), 0),
    "explain": (("explain", "5"), 0),
    "explain no task": (("explain", HOSTILE), 2),
    "journal": (("journal",), 0),
    "verify": (("verify", "retrySubtask", "--caller", HOSTILE), 1),
    "faults": (("faults", "list"), 0),
    "a refused request": (("faults", "add", "--operation", HOSTILE, "--status", "500"), 2),
}


@pytest.mark.parametrize("name", READING)
def test_control_and_bidi_characters_of_others_are_escaped(name: str, url: str, files: Path) -> None:
    words, code = READING[name]

    result = invoke(words, url, files)

    assert result.exit_code == code
    assert r"\x1b" in result.output
    assert [line for line in result.output.split("\n") if not line.isprintable()] == []


@pytest.mark.parametrize(
    ("words", "text"),
    [(("tasks",), HOSTILE), (("faults", "list"), HOSTILE), (("journal",), "\x9b\u202e"), (("explain", "5"), ESCAPED)],
    ids=str,
)
def test_json_is_printable_and_has_the_same_texts(words: tuple[str, ...], text: str, url: str, files: Path) -> None:
    result = invoke((*words, "--json"), url, files, charset="ascii")

    printed = result.output.replace("\n", "")
    assert printed.isprintable()
    assert json.dumps(text, ensure_ascii=False)[1:-1] in json.dumps(
        json.loads(f"[{printed.replace('}{', '},{')}]"), ensure_ascii=False
    )


@pytest.mark.parametrize("name", READING)
def test_any_encoding_prints_the_same_lines_and_keeps_the_exit_code(name: str, url: str, files: Path) -> None:
    words, code = READING[name]
    usual = invoke(words, url, files)

    results = [invoke(words, url, files, charset=encoding) for encoding in ENCODINGS]

    assert {result.exit_code for result in results} == {code}
    assert {result.output.count("\n") for result in results} == {usual.output.count("\n")}


@pytest.mark.slow
def test_drawings_in_ascii_have_their_columns_in_line(url: str, files: Path) -> None:
    pairs = list[tuple[str, str]]()
    for name in library_names():
        drawings = [invoke(("show", name), url, files, charset=charset) for charset in ("utf-8", "ascii")]
        pairs += zip(*(drawing.output.splitlines() for drawing in drawings), strict=True)

    assert any("━" in drawn for drawn, _ in pairs)
    assert [pair for pair in pairs if cell_len(pair[0]) != len(pair[1]) and "\\u" not in pair[1]] == []


# --- colours --------------------------------------------------------------------------------------

TIMED = Path(__file__).parent / "data" / "stubs-faults-timeouts-ages.yaml"
TERMINAL = {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color", "TTY_COMPATIBLE": "1"}
ATTRIBUTES = {"0", "1"}
"""Reset and bold."""


def drawing_with(**environment: str) -> str:
    """Return what `oceanmock show` prints to a terminal."""
    return CliRunner().invoke(main, ["show", str(TIMED)], env={"NO_COLOR": None, **TERMINAL, **environment}).output


def contrast(colour: Sequence[int], ground: float) -> float:
    """Return the contrast of a colour and a ground of this luminance (WCAG 2.2, 1.4.3)."""
    parts = [part / 255 for part in colour]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (max(luminance, ground) + 0.05) / (min(luminance, ground) + 0.05)


def test_colours_can_be_read_on_dark_and_light() -> None:
    codes = set(re.findall(r"\x1b\[([\d;]*)m", drawing_with()))

    colours = {code.removeprefix("1;").removeprefix("38;2;") for code in codes - ATTRIBUTES}
    contrasts = [contrast([*map(int, it.split(";"))], ground) for it in colours for ground in (0, 1)]
    assert len(contrasts) >= 12
    assert min(contrasts) >= 4.5


def test_no_color_leaves_plain_text() -> None:
    coloured, plain = drawing_with(), drawing_with(NO_COLOR="1")

    without_colours = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert "\x1b[1m" in coloured
    assert plain.splitlines() == [line.rstrip() for line in without_colours.splitlines()]


# --- in a process of its own ----------------------------------------------------------------------

MOCK_RUN = ("conform", "--mock", "retry-failed-subtask", "--max-examples", "1", "--phases", "probes")


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([OCEANMOCK, *words], stderr=subprocess.PIPE, timeout=PATIENCE, check=False, **options)


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    """Return a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["gbk", "cp1252", "cp437", "ascii"])
def test_a_run_keeps_its_verdict_in_any_encoding(encoding: str) -> None:
    env = {**os.environ, "PYTHONIOENCODING": encoding}

    done = run(*MOCK_RUN, stdout=subprocess.PIPE, env=env)

    assert done.returncode == 3
    assert "INCOMPLETE (exit code 3)" in done.stdout.decode(encoding)
    assert "Traceback" not in done.stderr.decode(encoding)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["gbk", "cp437", "ascii"])
def test_a_server_gets_ready_in_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch, files: Path) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)

    with serving(files / "hostile.yaml", "--speed", "5") as server:
        assert httpx.get(f"{server.url}/__admin/ready").status_code == 200
        assert ESCAPED in server.announcement


FULL = b"Error: cannot write to stdout: No space left on device.\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("list",), 2),
        (("show", "retry-failed-subtask"), 2),
        (("tasks",), 2),
        (("check",), 0),
        (("check", "{files}/wrong.yaml"), 1),
        (("verify", "retrySubtask"), 1),
        (("verify", "--at-least", "0"), 0),
        (MOCK_RUN, 3),
    ],
    ids=str,
)
def test_a_full_disk_costs_one_line_and_no_verdict(words: tuple[str, ...], code: int, url: str, files: Path) -> None:
    arguments = [word.replace("{files}", str(files)) for word in words]
    with open("/dev/full", "wb") as full:
        done = run(*arguments, stdout=full, env={**os.environ, "OCEANMOCK_URL": url})

    assert done.returncode == code
    assert done.stderr.count(FULL) == 1
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("list",), 0),
        (("schema",), 0),
        (("journal", "--follow"), 0),
        (("verify", "retrySubtask"), 1),
        (("check", "{files}/wrong.yaml"), 1),
        (MOCK_RUN, 3),
    ],
    ids=str,
)
def test_a_reader_that_went_away_changes_no_exit_code(
    words: tuple[str, ...], code: int, url: str, files: Path, closed_pipe: int
) -> None:
    arguments = [word.replace("{files}", str(files)) for word in words]
    done = run(*arguments, stdout=closed_pipe, env={**os.environ, "OCEANMOCK_URL": url})

    assert done.returncode == code
    assert b"Error" not in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("words", "code"), [(("list",), 0), (("verify", "retrySubtask"), 1), (MOCK_RUN, 3)], ids=str)
def test_closed_streams_change_no_exit_code(words: tuple[str, ...], code: int, url: str) -> None:
    command = 'exec 0<&- 1>&- 2>&-; exec "$@"'
    env = {**os.environ, "OCEANMOCK_URL": url}
    done = subprocess.run(["bash", "-c", command, "bash", OCEANMOCK, *words], env=env, timeout=PATIENCE, check=False)

    assert done.returncode == code


@pytest.mark.slow
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "0<&- >&- 2>&-"])
def test_a_server_without_a_stdout_serves(redirection: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = f'exec "{OCEANMOCK}" serve retry-failed-subtask --port {port} {redirection}'
    with subprocess.Popen(["bash", "-c", command], stderr=subprocess.PIPE) as process:
        try:
            until(lambda: is_ready(port) or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()

    assert process.returncode == 0
    assert errors in (b"", FULL)


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/__admin/ready").status_code == 200
    except httpx.TransportError:
        return False
