"""Count the files, functions and calls of oceanmock on three paths, in every thread.

Run it with ``python tests/benchmarks/path_counts.py``; it asserts nothing. Each path is run once
before it is counted, so that imports and caches do not count. A call is a call event of
``sys.setprofile``: a function, a comprehension, or a generator that continues. ``--top 20`` prints
the functions that are called most between a scenario's file and its served task.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import httpx

import oceanmock
from oceanmock.apis import make_sandbox
from oceanmock.library import load_scenario
from oceanmock.ocp.world import Tasks

Counts = tuple[int, int, int]

BASE: Final[dict[str, Counts]] = {
    "POST retrySubtask, server side": (18, 115, 407),
    "scenario file to served task": (22, 181, 762),
    "a failing test(ocp)": (49, 480, 2154),
}
"""Files, functions and calls at commit 29923d1, counted by this script's rules on Python 3.11."""
ROOT: Final = str(Path(oceanmock.__file__).parent)
SCENARIO: Final = "retry-failed-subtask"
TASK: Final = "/api/v2/tasks/instances/1000"
FAILING_TEST: Final = """
import httpx, pytest

@pytest.mark.parametrize("turn", ["first", "counted"])
@pytest.mark.oceanmock("retry-failed-subtask")
def test_it(ocp, turn):
    httpx.get(f"{ocp.url}/api/v2/tasks/instances/1000", auth=ocp.auth)
    assert 0
"""
CONFTEST: Final = """
import pytest
from path_counts import Profile

PROFILE = Profile()
PROFILE.install()

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    PROFILE.is_on = "counted" in item.name
    report = yield
    if PROFILE.is_on:
        PROFILE.is_on = False
        with open("counts", "w") as file:
            print(*PROFILE.counts(), file=file)
    return report
"""


class Profile:
    """Calls of oceanmock's code by file and function, while it is on."""

    def __init__(self, *, thread: str = "") -> None:
        self.is_on = False
        self._thread = thread
        self._calls: Counter[tuple[str, str, int]] = Counter()

    def install(self) -> None:
        """Profile this thread and those that start from now on."""
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    def _event(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        is_counted = self.is_on and event == "call" and code.co_filename.startswith(ROOT)
        if is_counted and self._thread in ("", threading.current_thread().name):
            self._calls[code.co_filename, code.co_qualname, code.co_firstlineno] += 1

    def counts(self) -> Counts:
        """Return the number of files, of functions and of calls."""
        files = {file for file, _, _ in self._calls}
        return len(files), len(self._calls), sum(self._calls.values())

    def top(self, limit: int) -> list[str]:
        """Return the functions that were called most, each with its number of calls."""
        return [
            f"{count:7} {os.path.relpath(file, ROOT)}:{line} {name}"
            for (file, name, line), count in self._calls.most_common(limit)
        ]


def count_retry() -> Counts:
    """Count a request that retries a subtask, in the thread of the server."""
    profile = Profile(thread="oceanmock")
    profile.install()
    with oceanmock.Mock.start() as mock:
        for is_counted in (False, True):
            ocp = mock.ocp(SCENARIO, progression="manual")
            ocp.clock.advance("10s")
            with httpx.Client(base_url=ocp.url, auth=ocp.auth) as client:
                client.get(TASK)
                profile.is_on = is_counted
                client.post(f"{TASK}/subtasks/1002/retry").raise_for_status()
                profile.is_on = False
    sys.setprofile(None)
    threading.setprofile(None)
    return profile.counts()


def serve_task() -> None:
    """Load a scenario, make a sandbox of it and view its task."""
    sandbox = make_sandbox([load_scenario(SCENARIO)], progression="manual")
    sandbox.world(Tasks).view(1000)


def profile_calls(path: Callable[[], object]) -> Profile:
    """Profile a path in this thread, after it was run once."""
    path()
    profile = Profile()
    profile.install()
    profile.is_on = True
    path()
    profile.is_on = False
    sys.setprofile(None)
    return profile


def count_failing_test() -> Counts:
    """Count a test that fails, its sandbox and its report, in a run of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "conftest.py").write_text(CONFTEST)
        (Path(folder) / "test_it.py").write_text(FAILING_TEST)
        paths = [str(Path(__file__).parent), str(Path(ROOT).parent)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        options = ("-q", "-p", "no:cacheprovider", "-p", "oceanmock.pytest_plugin")
        subprocess.run(
            [sys.executable, "-m", "pytest", *options, "test_it.py"],
            cwd=folder,
            env=environment,
            check=False,
            capture_output=True,
        )
        files, functions, calls = (Path(folder) / "counts").read_text().split()
        return int(files), int(functions), int(calls)


def main() -> None:
    """Print each path's counts, at the base and now."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--top", type=int, default=0, metavar="N")
    limit: int = parser.parse_args().top
    scenario = profile_calls(serve_task)
    counts = (count_retry(), scenario.counts(), count_failing_test())
    print(f"{'':32}{'files':>7}{'functions':>11}{'calls':>7}{'base':>16}")
    for (name, base), now in zip(BASE.items(), counts, strict=True):
        files, functions, calls = now
        print(f"{name:32}{files:7}{functions:11}{calls:7}{'/'.join(map(str, base)):>16}")
    for line in scenario.top(limit):
        print(line)


if __name__ == "__main__":
    main()
