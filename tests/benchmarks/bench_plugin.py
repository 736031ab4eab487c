"""What the pytest plugin costs a suite that does not use it: to import, to collect by, to run by.

Run it with ``python tests/benchmarks/bench_plugin.py``; it asserts nothing. It is the processor's
time that counts. A run with the plugin and one without take turns, each in a process of its own and
without any other plugin, so that what else the machine does troubles both alike. All is compiled
beforehand, as it is where a wheel is installed.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

MANY: Final = 1000
TURNS: Final = 21
PLUGIN: Final = ("-p", "oceanmock.pytest_plugin")
SUITE: Final = """
import pytest

@pytest.mark.parametrize("n", range({}))
def test_it(n): ...
"""
IMPORT: Final = """
import pytest, time
began = time.process_time()
import oceanmock.pytest_plugin
print((time.process_time() - began) * 1e3)
"""


def run(folder: Path, *words: str) -> str:
    """What Python prints, in an environment of its own."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


def milliseconds(folder: Path, *options: str) -> float:
    """What a run of pytest takes of the processor."""
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (ended.ru_utime - began.ru_utime + ended.ru_stime - began.ru_stime) * 1e3


def print_importing(folder: Path) -> None:
    run(folder, "-c", IMPORT)  # the first one compiles
    taken = [float(run(folder, "-c", IMPORT)) for _ in range(TURNS)]
    print(f"imported after pytest: {statistics.median(taken):.1f} ms of the processor's time")


def print_running(folder: Path, what: str, *options: str) -> None:
    milliseconds(folder, *PLUGIN, *options)
    pairs = [(milliseconds(folder, *options), milliseconds(folder, *PLUGIN, *options)) for _ in range(TURNS)]
    without = statistics.median(a for a, _ in pairs)
    added = statistics.median(b - a for a, b in pairs)
    print(f"{what}: {without:.0f} ms without it, {added:+.1f} ms with it")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        print_importing(home)
        for tests in (1, MANY):
            (home / "test_it.py").write_text(SUITE.format(tests))
            print_running(home, f"{tests:5,} collected", "--collect-only")
            print_running(home, f"{tests:5,} run")
