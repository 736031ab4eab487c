"""Runs of pytest inside the tests of the plugin, and what they print, the same every time.

What they import they would import anew for each run, unless it has been imported here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pkgutil import walk_packages
from typing import Final

import httpcore
import obshell
import pytest
import uvicorn.loops.auto
import uvicorn.protocols.http.httptools_impl
import uvloop

import oceanmock
import oceanmock.pytest_plugin

IMPORTED: Final = (httpcore, obshell, oceanmock, uvicorn, uvloop)
for module in walk_packages(oceanmock.pytest_plugin.__path__, "oceanmock.pytest_plugin."):
    import_module(module.name)
with oceanmock.running("retry-failed-subtask"):
    pass  # imports the server
QUIET: Final = ("-q", "--tb=short", "--no-header", "-p", "no:cacheprovider")
TASK: Final = "/api/v2/tasks/instances/1000"
_CHANGES: Final = {
    r"\bin \d+\.\d\ds": "in …s",
    r"-[0-9a-f]{8}\b": "-????????",
    r"http://127\.0\.0\.1:\d{2,5}": "http://127.0.0.1:…",
    r" -- \S*oceanmock/pytest_plugin/__init__\.py:\d+": "",
}


@contextmanager
def as_at_a_desk() -> Iterator[pytest.MonkeyPatch]:
    """An environment that is none of CI's, where pytest shortens nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CI", "BUILD_NUMBER"):
            patch.delenv(name, raising=False)
        yield patch


def run(pytester: pytest.Pytester, text: str, *options: str) -> pytest.RunResult:
    """What comes of a file of tests, in this process."""
    pytester.makepyfile(test_it=text)
    # The outer run reports what is not closed; to look for it in each run takes half of the time.
    plugins = ("-p", "oceanmock.pytest_plugin", "-p", "no:unraisableexception")
    with as_at_a_desk() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        return pytester.runpytest_inprocess(*QUIET, *plugins, *options)


def run_apart(pytester: pytest.Pytester, text: str, *options: str) -> pytest.RunResult:
    """The same in a process of its own, with xdist and without plugins that it does not need."""
    pytester.makepyfile(test_it=text)
    with as_at_a_desk() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        plugins = ("-p", "xdist", "-p", "oceanmock.pytest_plugin")
        return pytester.runpytest_subprocess(*QUIET, *plugins, *options)


def output(result: pytest.RunResult) -> str:
    """What a run printed, the same for every run."""
    text = "\n".join(line.rstrip() for line in result.outlines).strip() + "\n"
    for pattern, instead in _CHANGES.items():
        text = re.sub(pattern, instead, text)
    return text
