"""Fail a test in which a callback holds the event loop of a mock that runs in the test's process.

This pytest plugin makes uvicorn use a loop that measures its callbacks, which the steps of tasks are too, and
measures the methods of the HTTP protocol, which uvloop calls by itself: a request that is dispatched, a repeated one,
and what is written to the socket. It measures the CPU time of the thread, and allows more of it on a busy machine.
Passes of the garbage collector are left out, since the objects of the tests make them long, and so is what a process
does once: it compiles contracts and models, imports modules, and reads a scenario of the library or the names of
faker. It fails tests of the default run, and those that `-m` selects only with ``--watch-all``: some of them give a
server all it may have to do.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial, wraps
from typing import Any, Final
from unittest.mock import patch

import pytest
import uvloop
from pydantic._internal import _model_construction
from uvicorn import Config

from oceanmock import http, openapi
from oceanmock.api import Api
from oceanmock.engine import world as engine_world
from oceanmock.http import pipeline
from oceanmock.http.app import App
from oceanmock.http.server import _HttpProtocol

MAX_MS: Final = 50
"""How long a callback may hold the event loop."""
REFERENCE_STEPS: Final = 30_000
REFERENCE_MS: Final = 5.2
"""The CPU time of so many steps on the machine that the limit was set on; a slower one is allowed more."""
_PROTOCOL: Final = ("connection_made", "data_received", "eof_received", "connection_lost", "resume_writing")
_ONCE: Final = (
    (Api, "module"),
    (_model_construction, "complete_model_class"),
    (pipeline.Pipeline, "__init__"),
    (openapi, "_read_submits"),
    (http, "load_scenario"),
    (engine_world, "load_faker"),
)

_SAMPLE_NS: Final = 1_000_000
"""The age up to which a measured CPU time serves as a callback's start: to measure it is a call of the system."""
_wall_ns: Final = partial(time.perf_counter_ns)
"""The time on the wall; a partial, since libraries that freeze time replace a module's own clock functions."""

_slow: Final[list[str]] = []
"""The callbacks that took longer, each with its CPU time, since the list was cleared."""
_thread = threading.local()


def _excluded() -> float:
    """Return the CPU time of this thread that does not count."""
    time_ms: float = getattr(_thread, "excluded", 0.0)
    return time_ms


def _cpu_ms() -> float:
    return time.thread_time_ns() / 1e6


def _start_ms(now_ns: int) -> float:
    """Return the CPU time of this thread, measured at most a millisecond ago."""
    if now_ns - getattr(_thread, "measured_ns", 0) > _SAMPLE_NS:
        _thread.measured_ns, _thread.measured_ms = now_ns, _cpu_ms()
    start_ms: float = _thread.measured_ms
    return start_ms


def _exclude(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose time does not count."""

    @wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        began, before = _cpu_ms(), _excluded()
        try:
            return function(*args, **options)
        finally:
            _thread.excluded = before + _cpu_ms() - began

    return run


def _exclude_collection(phase: str, _info: dict[str, int]) -> None:
    if phase == "start":
        _thread.collection_ns = _wall_ns()
        _thread.collection_ms = _start_ms(_thread.collection_ns)
    elif _wall_ns() - _thread.collection_ns > _SAMPLE_NS:  # a shorter one counts
        _thread.excluded = _excluded() + _cpu_ms() - _thread.collection_ms


def _slowness() -> float:
    """Return how many times as long as on a quiet machine this thread takes right now, at least 1."""
    began, counts = _cpu_ms(), dict[int, int]()
    for number in range(REFERENCE_STEPS):
        counts[number % 97] = counts.get(number % 97, 0) + len(str(number))
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return max(1.0, waiting, (_cpu_ms() - began) / REFERENCE_MS)


def _measured(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a callback of a mock's event loop that is noted where it takes too long."""

    @wraps(function, assigned=())
    def run(*args: Any, **options: Any) -> Any:
        if args and isinstance(args[0], _HttpProtocol) and not isinstance(args[0].loop, _Loop):
            return function(*args, **options)
        began_ns = _wall_ns()
        began = _start_ms(began_ns) - _excluded()
        try:
            return function(*args, **options)
        finally:
            if _wall_ns() - began_ns > MAX_MS * 1e6:  # the thread's CPU time is never more
                took = _cpu_ms() - _excluded() - began
                if took > MAX_MS and took > MAX_MS * _slowness():
                    _slow.append(f"{took:.0f} ms of CPU: {function} {args}"[:500])

    return run


def _measuring(name: str, place: int) -> Callable[..., Any]:
    """Return the loop's method of a name, whose argument at a place is a callback."""
    method = getattr(uvloop.Loop, name)

    def call(loop: Any, *args: Any, **options: Any) -> Any:
        return method(loop, *args[:place], _measured(args[place]), *args[place + 1 :], **options)

    return call


_CALLBACKS: Final = {"call_soon": 0, "call_soon_threadsafe": 0, "call_later": 1, "call_at": 1}
_Loop: Final = type("_Loop", (uvloop.Loop,), {name: _measuring(name, place) for name, place in _CALLBACKS.items()})


_other_factory: Final = Config.get_loop_factory


def _loop_factory(config: Config) -> Any:
    return _Loop if isinstance(config.app, App) else _other_factory(config)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--watch-all", action="store_true", help="Also fail slow tests that hold an event loop.")


@pytest.fixture(scope="session", autouse=True)
def _watch_servers() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(patch.object(Config, "get_loop_factory", _loop_factory))
        for name in _PROTOCOL:
            stack.enter_context(patch.object(_HttpProtocol, name, _measured(getattr(_HttpProtocol, name))))
        for owner, name in _ONCE:
            stack.enter_context(patch.object(owner, name, _exclude(getattr(owner, name))))
        gc.callbacks.append(_exclude_collection)
        stack.callback(gc.callbacks.remove, _exclude_collection)
        yield


@pytest.fixture(autouse=True)
def _nothing_holds_an_event_loop(pytestconfig: pytest.Config, _watch_servers: None) -> Iterator[None]:
    _slow.clear()
    yield
    is_watched = pytestconfig.option.watch_all or pytestconfig.option.markexpr in ("", "not slow")
    slow = _slow.copy() if is_watched else []
    _slow.clear()
    assert not slow, f"these callbacks held the event loop for more than {MAX_MS} ms"
