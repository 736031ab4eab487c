"""The session's server, and a sandbox on it for each test that uses a fixture.

A sandbox is made as the test's marks say, reported if the test fails, and deleted after it. What is
wrong with a mark, a scenario or a server is the test's error, without a traceback. A server that
does not answer ends the session with the first test that needs it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, Self, cast
from unittest import TestCase

import pytest

from oceanmock.admin_client import NoAnswer, Refused
from oceanmock.client import Handle, Mock, SandboxOptions
from oceanmock.errors import AuthorError, OceanmockError
from oceanmock.handles import SandboxHandle
from oceanmock.pytest_plugin import COVERAGE_PLUGIN, OPTIONS, PluginOptions
from oceanmock.pytest_plugin.marks import (
    ScenarioApis,
    check_use,
    option_problems,
    read_marks,
    scenario_folders,
)
from oceanmock.text import plural

if TYPE_CHECKING:
    from ssl import SSLContext

    from oceanmock.pytest_plugin.coverage import CoverageRecorder

MAX_TEST_NAME_LENGTH: Final = 60
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9]+")
_APIS: Final = pytest.StashKey[ScenarioApis]()
"""The APIs of the scenarios of the session's server."""
_SANDBOXES: Final = pytest.StashKey[list[SandboxHandle]]()
"""The sandboxes of a test's own fixtures while they are open."""


# --- the server -----------------------------------------------------------------------------------


@contextmanager
def session_server(session: pytest.Session, *, host: str, tls: SSLContext | None) -> Iterator[Mock]:
    """Provide the session's server: in this process, or where the options say."""
    config = session.config
    options = config.stash[OPTIONS]
    with _plain_errors(session):
        mock = _attach(options, tls) if options.url else Mock.start(host=host, tls=tls)
    config.stash[_APIS] = ScenarioApis(None if mock.is_local else mock.admin)
    SandboxObserver.of(config).observe(mock)
    try:
        yield mock
    finally:
        with _plain_errors(session):
            for sandbox in mock.sandboxes:
                sandbox.close()
        mock.stop()


def check_server(options: PluginOptions) -> None:
    """Raise UsageError where the required server cannot be used.

    Only a fixture has the TLS context of a server over https: the first test checks that one.
    """
    if (options.url or "").startswith("https:"):
        return
    try:
        _attach(options, None)
    except OceanmockError as error:
        raise pytest.UsageError(_with_option_names(error)) from None


def _attach(options: PluginOptions, tls: SSLContext | None) -> Mock:
    return Mock.attach(options.url or "", token=options.token, tls=tls)


# --- a sandbox ------------------------------------------------------------------------------------


@contextmanager
def sandbox_of_test(
    request: pytest.FixtureRequest,
    mock: Mock,
    *,
    kind: type[Handle],
    options: Mapping[str, Any],
) -> Iterator[Handle]:
    """Provide the sandbox of a test's fixture, as its marks say, or else the options."""
    item: pytest.Item = request.node
    fixture = kind.API.name
    config = request.config
    with _plain_errors(request.session):
        apis = config.stash.setdefault(_APIS, ScenarioApis())
        scenarios, keywords = read_marks(item, fixture, apis=apis)
        params = {
            "strict": config.stash[OPTIONS].strict,
            **_checked(options),
            **keywords,
            "name": _sandbox_name(item),
        }
        try:
            sandbox = mock.make(kind, scenarios, cast("SandboxOptions", params))
        except AuthorError as error:
            raise AuthorError(f"the sandbox for `{fixture}`: {error}") from None
    sandbox.folders = scenario_folders(item)
    SandboxObserver.of(config).observe(mock)
    sandboxes = item.stash.setdefault(_SANDBOXES, [])
    sandboxes.append(sandbox)
    if isinstance(request.instance, TestCase):
        setattr(request.instance, fixture, sandbox)
    try:
        yield sandbox
    finally:
        sandboxes.remove(sandbox)
        with _plain_errors(request.session):
            sandbox.close()


def _checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options as they are. Raises AuthorError with everything wrong in them."""
    if not isinstance(options, Mapping):
        raise AuthorError(f"the fixture oceanmock_options gives {options!r}, and no mapping.")
    problems = [f"the fixture oceanmock_options: {text}" for text in option_problems(options)]
    if problems:
        raise AuthorError("\n".join(problems))
    return options


def _sandbox_name(item: pytest.Item) -> str:
    """Return a unique name by which the test is recognized in lists of sandboxes."""
    name = _NOT_IN_NAMES.sub("-", item.name).strip("-")[:MAX_TEST_NAME_LENGTH].strip("-")
    return f"{name or 'test'}-{token_hex(4)}"


def check_marks(item: pytest.Item) -> None:
    """Fail a test whose own marks apply to none of its sandboxes, which exist by now."""
    apis = item.config.stash.get(_APIS, ScenarioApis())
    used = [sandbox.API.name for sandbox in item.stash.get(_SANDBOXES, [])]
    with _plain_errors(item.session):
        check_use(item, used, apis=apis)


# --- failures -------------------------------------------------------------------------------------

MAX_REPORTED_SANDBOXES: Final = 3
MAX_VIOLATIONS: Final = 10
ADVICE: Final = (
    "This test is strict. @pytest.mark.scenario(strict=False) makes it lenient; "
    "`journal.clear()` and `faults.clear()` forget what is meant to be so."
)


def failure_sections(
    sandboxes: Sequence[SandboxHandle], failure: str, *, is_setup: bool
) -> Iterator[tuple[str, str]]:
    """Yield a title and a text for each journal and task, but not what the failure shows.

    A report never fails a test in another way: it says why something cannot be shown.
    """
    apis = [sandbox.API.name for sandbox in sandboxes]
    for sandbox in sandboxes[:MAX_REPORTED_SANDBOXES]:
        api = sandbox.API.name
        label = api if apis.count(api) == 1 else f"{api}, {sandbox.name}"
        try:
            report = sandbox.admin.ask("GET", "/report")
        except OceanmockError as error:
            yield f"oceanmock ({label})", f"what happened cannot be told: {error}"
            continue
        if is_setup and not report["requests"]:
            continue  # it was only just made
        yield f"oceanmock journal ({label})", report["journal"] or "nothing was asked"
        for task in report["tasks"]:
            explanation, timeline = task["explanation"], task["timeline"]
            is_shown = explanation.partition("\n")[0] in failure
            text = timeline if is_shown else f"{explanation}\n{timeline}"
            yield f"oceanmock {task['title']}: {task['state']}", text
        if rest := report["other_tasks"]:
            yield f"oceanmock: {len(rest)} more {sandbox.API.root.title}s", ", ".join(rest)
    if more := sandboxes[MAX_REPORTED_SANDBOXES:]:
        names = ", ".join(sandbox.name for sandbox in more)
        yield f"oceanmock: {len(more)} more sandboxes", names


def strict_violations(sandbox: SandboxHandle) -> str:
    """Return what strict mode refuses and the request log, or "" if there is nothing."""
    report = sandbox.admin.ask("GET", "/report", query={"tasks": 0})
    requests, faults = report["unexpected_requests"], report["unused_faults"]
    lines: list[str] = []
    if requests:
        lines.append(
            f"{plural(len(requests), 'request')} to {sandbox.API.name} meant no operation:"
        )
        lines += _first(requests)
    if faults:
        verb = "have" if len(faults) > 1 else "has"
        lines.append(f"{plural(len(faults), 'fault')} {verb} struck nothing:")
        lines += _first(faults)
    log = report["journal"] or "nothing was asked"
    return "\n".join([*lines, "all that was asked:", log, ADVICE]) if lines else ""


def _first(texts: Sequence[str]) -> Iterator[str]:
    yield from (f"  {text}" for text in texts[:MAX_VIOLATIONS])
    if len(texts) > MAX_VIOLATIONS:
        yield f"  … and {len(texts) - MAX_VIOLATIONS} more"


class SandboxObserver:
    """A plugin that observes the sandboxes of the servers: reports, strict mode and coverage.

    The report of a failed test has its sandboxes: those of the fixtures `ocp` and `obshell`, those
    made during the test, and those that a fixture of a class or module gave it.
    """

    NAME: Final = "oceanmock-observer"

    def __init__(self, recorder: CoverageRecorder | None) -> None:
        self._recorder = recorder
        self._mocks: list[Mock] = []
        self._older: list[SandboxHandle] = []
        self._has_failed = False

    @classmethod
    def of(cls, config: pytest.Config) -> Self:
        """Return the observer of this run; register it on first use."""
        manager = config.pluginmanager
        if not manager.has_plugin(cls.NAME):
            manager.register(cls(manager.get_plugin(COVERAGE_PLUGIN)), cls.NAME)
        return cast("Self", manager.get_plugin(cls.NAME))

    def observe(self, mock: Mock) -> None:
        """Observe the sandboxes of a server."""
        if mock not in self._mocks:
            self._mocks.append(mock)
            mock.on_close = self._close

    def _close(self, sandbox: SandboxHandle) -> None:
        """Record coverage; fail a test that has passed, where strict mode finds violations."""
        if self._recorder is not None:
            self._recorder.record(sandbox)
        is_error_under_way = sys.exc_info()[0] is not None
        if sandbox.strict and not self._has_failed and not is_error_under_way:
            violations = strict_violations(sandbox)
            if violations:
                pytest.fail(violations, pytrace=False)

    @property
    def _open(self) -> list[SandboxHandle]:
        return [sandbox for mock in self._mocks for sandbox in mock.sandboxes]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> None:
        """Start with the next test."""
        self._older, self._has_failed = self._open, False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the open sandboxes of a failed test to its report."""
        report = yield
        if report.failed:
            self._has_failed = True
            add = getattr(report.longrepr, "addsection", lambda *it: report.sections.append(it))
            sandboxes = self._sandboxes_of(item)
            is_setup = report.when == "setup"
            for title, text in failure_sections(sandboxes, report.longreprtext, is_setup=is_setup):
                add(title, text.rstrip("\n"))
        return report

    def _sandboxes_of(self, item: pytest.Item) -> list[SandboxHandle]:
        """Return the open sandboxes of a test, those of its own fixtures first."""
        own = item.stash.get(_SANDBOXES, [])
        values = getattr(item, "funcargs", {}).values()
        used = [it for it in self._open if it not in self._older or it in values]
        return sorted(used, key=lambda sandbox: sandbox not in own)


@contextmanager
def _plain_errors(session: pytest.Session) -> Iterator[None]:
    """Fail the test with the message of an oceanmock error, and without a traceback."""
    try:
        yield
    except OceanmockError as error:
        message = _with_option_names(error)
        if isinstance(error, NoAnswer) and not isinstance(error, Refused):
            session.shouldstop = message  # every further test would fail for the same reason
        raise pytest.fail.Exception(message, pytrace=False) from None


def _with_option_names(error: OceanmockError) -> str:
    """Return the message of an error, with the names of pytest's options."""
    return re.sub(r"--(?=(?:url|token)\b)", "--oceanmock-", str(error))
