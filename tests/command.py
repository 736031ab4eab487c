"""The command ``oceanmock serve`` in a process of its own, as a user has it, for tests to talk to.

``serving`` waits for the line that says it is ready and, when the test is done, stops it and holds
it to a clean end. Nothing here sleeps: a process that says nothing is killed after ``PATIENCE``
seconds, and then its output ends too soon. The one rule: the command is the installed one, beside
the Python that runs the tests, never a call into the package.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

OCEANMOCK = Path(sys.executable).with_name("oceanmock")
PATIENCE = 60
READY = re.compile(r"Ready on (https?://\S+)")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code, and what it had still said."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that is ready: where, and all it printed until it was."""

    process: subprocess.Popen[str]
    url: str
    announcement: str

    def stop(self, by: signal.Signals) -> Ended:
        """Stops it by a signal, and says how it ended."""
        self.process.send_signal(by)
        stdout, stderr = self.process.communicate(timeout=PATIENCE)
        return Ended(self.process.returncode, stdout, stderr)


@contextmanager
def serving(
    *words: str | Path, command: Path = OCEANMOCK, folder: Path | None = None, code: int = 0
) -> Iterator[Serving]:
    """``oceanmock serve --port 0`` and further words, from when it is ready.

    A test that passes also asserts that SIGINT ends the server with 0 and nothing on stderr, unless
    it has stopped it itself; ``code`` is the code that it ends with then.
    """
    with subprocess.Popen(
        [command, "serve", "--port", "0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        cwd=folder,
    ) as process:
        try:
            server = _await_ready(process)
            yield server
            running = process.poll() is None
            ended = server.stop(signal.SIGINT) if running else Ended(process.returncode, "", "")
            assert (ended.code, ended.stderr) == (code, "")
        finally:
            process.kill()


def _await_ready(process: subprocess.Popen[str]) -> Serving:
    """What a process has said up to the line that says it is ready."""
    assert process.stdout is not None
    said = ""
    deadline = threading.Timer(PATIENCE, process.kill)
    deadline.start()
    try:
        for line in process.stdout:
            said += line
            if found := READY.match(line):
                return Serving(process, found[1], said)
    finally:
        deadline.cancel()
    _, stderr = process.communicate(timeout=PATIENCE)
    raise AssertionError(f"it never said it was ready, but:\n{said}\n{stderr}")


def run(*words: str | Path, command: Path = OCEANMOCK, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself, run to its end."""
    return subprocess.run(
        [command, *words], capture_output=True, text=True, encoding="utf-8", cwd=folder, timeout=PATIENCE, check=False
    )
