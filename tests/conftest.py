"""Configure hypothesis, markers and the environment of the tests.

Hypothesis has three profiles. ``fast``, the default, and ``thorough`` try the same examples in
every run; ``explore`` draws new ones and prints how to reproduce a failure:
``pytest -m hypothesis --hypothesis-profile=explore``.

The marker ``blackbox`` is added here to the tests of each file that imports nothing of oceanmock
below its public names. The marker ``slow`` stands in the files, and ``exhaustive`` implies it; slow
tests run with ``-m slow``, or when their file is named. A file in which all tests are slow is not
imported by the default run.
"""

import gc
import importlib
import os
import signal
import ssl
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import certifi
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from imports import is_blackbox
from served import open_sandboxes

pytest_plugins = ["pytester", "watchdog"]

STORE = os.environ.get("OCEANMOCK_TEST_STORE", "")
"""The URL of a redis-server with many databases, without their number: OCEANMOCK_TEST_STORE=redis://127.0.0.1:6379."""
OF_ONE_PROCESS = {
    "tests/test_admin_api.py::test_health_says_what_runs_and_since_when[/health]": (
        "the health of a replica needs no store, and says how many sandboxes its last readiness check counted"
    )
}
"""Fast tests that fail on such a store, each with the reason; one that passes fails the run, too."""

gc.set_threshold(50_000, 20, 100)  # looking for garbage as often as usual is a sixth of the time

# Without compiled modules and contracts each of the many processes makes them anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job that a shell started with &
    signal.signal(signal.SIGINT, signal.default_int_handler)  # child processes inherit the default

any_machine = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", any_machine, derandomize=True, max_examples=6)
settings.register_profile("thorough", any_machine, derandomize=True, max_examples=50)
settings.register_profile("explore", any_machine, derandomize=False, max_examples=200, print_blob=True)
settings.load_profile("fast")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--hypothesis-profile") != "explore":
        # Constants of the modules that are loaded would become examples, others in each worker.
        # No setting turns that off (hypothesis/internal/conjecture/providers.py).
        fixed = patch.object(providers, "is_local_module_file", lambda path: False, create=True)
        fixed.start()  # older versions have no such function
    if not config.option.markexpr and not any(".py" in argument for argument in config.args):
        config.option.markexpr = "not slow"


def pytest_sessionstart() -> None:
    if STORE:  # every server that the tests start in their process is then a replica
        importlib.import_module("shared_stores").start_servers_on(STORE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return "\npytestmark = pytest.mark.slow\n" in collection_path.read_text("utf-8") or None


@pytest.hookimpl(tryfirst=True)  # before -m deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_blackbox(item.path):
            item.add_marker("blackbox")
        if item.get_closest_marker("exhaustive"):
            item.add_marker("slow")
        if STORE and item.nodeid in OF_ONE_PROCESS:
            item.add_marker(pytest.mark.xfail(reason=OF_ONE_PROCESS[item.nodeid], strict=True))


@pytest.fixture(scope="session", autouse=True)
def _read_public_certificates_once() -> Iterator[None]:
    """Save what takes httpx as long as twenty requests for each client."""
    create = ssl.create_default_context
    create_once = cache(create)
    public = {certifi.where(), os.environ.get("SSL_CERT_FILE", "")}

    def create_default_context(*words: Any, cafile: str | None = None, **options: Any) -> Any:
        return (create_once if cafile in public else create)(*words, cafile=cafile, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", create_default_context)
        yield


@pytest.fixture(autouse=True)
def _close_worlds() -> Iterator[None]:
    before = open_sandboxes()  # those of fixtures with a wider scope
    yield
    for sandbox in open_sandboxes() - before:
        sandbox.close()
