"""Measure what the pytest plugin costs: a suite that does not use it, and one of 18 tests that does.

Run it with ``python tests/benchmarks/bench_plugin.py``; it asserts nothing. It is the processor's
time that counts. A run with the plugin and one without take turns, each in a process of its own and
without any other plugin but xdist, so that what else the machine does troubles both alike. All is
compiled beforehand, as it is where a wheel is installed. The cost of a fixture is that of the
process of its test, from its setup to its teardown: under xdist a worker's, without the server's.
``--path SRC`` measures another version's source instead.
"""

from __future__ import annotations

import argparse
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
USING_TURNS: Final = 5
PLUGIN: Final = ("-p", "oceanmock.pytest_plugin")
SUITE: Final = """
import pytest

@pytest.mark.parametrize("n", range({}))
def test_it(n): ...
"""
USING = """
import httpx, pytest

@pytest.fixture(scope="session")
def client():
    with httpx.Client(trust_env=False, verify=False) as client:
        yield client

@pytest.mark.parametrize("n", range(18))
@pytest.mark.MARK("retry-failed-subtask", progression="manual")
def test_it(client, ocp, n):
    task, client.auth = f"{ocp.url}/api/v2/tasks/instances/1000", ocp.auth
    ocp.clock.advance("10s")
    assert client.get(task).json()["data"]["status"] == "FAILED"
    assert client.post(f"{task}/subtasks/1002/retry").status_code == 200
    ocp.clock.advance("1m")
    assert client.get(task).json()["data"]["status"] == "SUCCESSFUL"
"""
CONFTEST: Final = """
import pytest, time

@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    began = time.process_time()
    try:
        return (yield)
    finally:
        if fixturedef.argname in ("oceanmock_server", "ocp"):
            add(time.process_time() - began)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown():
    began = time.process_time()
    try:
        return (yield)
    finally:
        add(time.process_time() - began)

COSTS = []

def add(cost):
    COSTS[-1] += cost * 1e3

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    COSTS.append(0.0)

@pytest.hookimpl(trylast=True)
def pytest_unconfigure():
    if COSTS:
        with open("costs", "a") as file:
            print(*COSTS, file=file)
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


def print_using(folder: Path) -> None:
    """Print the costs of fixtures, and the total of a suite's processes."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(USING)
    costs, xdist = folder / "costs", ("-p", "xdist", *PLUGIN)
    milliseconds(folder, *xdist)
    for way in ("-n0", "-n4"):
        totals, firsts, laters = list[float](), list[float](), list[float]()
        for _ in range(USING_TURNS):
            costs.unlink()
            totals.append(milliseconds(folder, *xdist, way) / 1e3)
            for line in costs.read_text().splitlines():
                values = [float(text) for text in line.split()]
                firsts.append(values[0])
                laters += values[1:]
        total, first, later = map(statistics.median, (totals, firsts, laters))
        print(f"18 tests, {way}: {total:.2f} s in all; the first fixture {first:.0f} ms, a later one {later:.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--path", type=Path)
    parser.add_argument("--mark", default="oceanmock")
    given = parser.parse_args()
    if given.path is not None:
        os.environ["PYTHONPATH"] = str(given.path.absolute())
    USING = USING.replace("MARK", given.mark)
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        print_using(home)
        (home / "conftest.py").unlink()
        print_importing(home)
        for tests in (1, MANY):
            (home / "test_it.py").write_text(SUITE.format(tests))
            print_running(home, f"{tests:5,} collected", "--collect-only")
            print_running(home, f"{tests:5,} run")
