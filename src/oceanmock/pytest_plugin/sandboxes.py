"""The session's server, and a sandbox on it for each test that uses a fixture.

A sandbox is made as the test's marks say (``@pytest.mark.scenario``), reported if the test fails,
and deleted after it. What is wrong with a mark, a scenario or a server is the test's error, without
a traceback. A server that does not answer ends the session with the first test that needs it.

A mark that names scenarios applies to the fixtures of their APIs, one that names none to both. For
each API the names are those of the closest level (test, class, module) that gives any; marks on one
level add up, from the top down. Each keyword counts from the closest mark that gives it. A test's
own marks must fit its fixtures; from its class and module a test takes what fits.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from inspect import signature
from pathlib import Path
from secrets import token_hex
from textwrap import indent
from typing import TYPE_CHECKING, Any, Final, Self, cast
from unittest import TestCase

import pytest

from oceanmock.admin_client import Admin, NoAnswer, Refused
from oceanmock.client import HANDLES, Handle, Mock, SandboxOptions
from oceanmock.clock import PROGRESSIONS
from oceanmock.errors import AuthorError, OceanmockError
from oceanmock.handles import SandboxHandle, ScenarioSource, locate
from oceanmock.pytest_plugin import COVERAGE_PLUGIN, OPTIONS, PluginOptions
from oceanmock.text import did_you_mean, plural, shorten, suggest

if TYPE_CHECKING:
    from ssl import SSLContext

    from oceanmock.pytest_plugin.coverage import CoverageRecorder

MAX_TEST_NAME_LENGTH: Final = 60
FIXTURES: Final = tuple(HANDLES)
"""The names of the fixtures, which are those of the APIs."""
MARK_KEYWORDS: Final = tuple(key for key in SandboxOptions.__annotations__ if key != "name")
"""The keywords of a mark; the plugin names a sandbox after its test."""
MAX_MARK_LENGTH: Final = 60
"""The number of characters of a mark's arguments that an error shows."""
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9]+")
_APIS: Final = pytest.StashKey["ScenarioApis"]()
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
    request: pytest.FixtureRequest, mock: Mock, *, kind: type[Handle], options: Mapping[str, Any]
) -> Iterator[Handle]:
    """Provide the sandbox of a test's fixture, as its marks say, or else the options."""
    item: pytest.Item = request.node
    fixture = kind.API.name
    config = request.config
    with _plain_errors(request.session):
        apis = config.stash.setdefault(_APIS, ScenarioApis())
        scenarios, keywords = read_marks(item, fixture, apis=apis)
        params = {"strict": config.stash[OPTIONS].strict, **_checked(options), **keywords, "name": _sandbox_name(item)}
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
    """Fail a test whose own marks apply to none of its sandboxes, which exist by now.

    A test that may request a fixture while it runs (``request.getfixturevalue``) is not checked.
    """
    if isinstance(item, pytest.Function) and "request" in signature(item.function).parameters:
        return
    apis = item.config.stash.get(_APIS, ScenarioApis())
    fixtures = [sandbox.API.name for sandbox in item.stash.get(_SANDBOXES, [])]
    with _plain_errors(item.session):
        for mark in _own_marks(item):
            if not fixtures:
                raise AuthorError(
                    f"{_mark_text(mark)}:\n  the test uses neither the fixture `ocp` nor "
                    "`obshell`\n    Add one of them to the test's arguments."
                )
            for source in mark.args:
                api = apis.api_of(locate(source, scenario_folders(item)))
                if api not in fixtures:
                    raise AuthorError(
                        f"{_mark_text(mark)}:\n  this is a scenario of {api}, and the test does "
                        f"not use the fixture `{api}`\n    Add `{api}` to the test's arguments."
                    )


# --- marks ----------------------------------------------------------------------------------------


class ScenarioApis:
    """Find the API of each scenario; cached, since many tests name the same ones."""

    def __init__(self, admin: Admin | None = None) -> None:
        """Use the scenarios of a server; None means the library's."""
        self._admin: Final = admin
        self._apis: Final[dict[str | Path, str]] = {}

    @cached_property
    def _served(self) -> Mapping[str, str]:
        """The scenarios that the server knows, each with its API."""
        scenarios = [] if self._admin is None else self._admin.ask("GET", "/scenarios")["scenarios"]
        return {scenario["name"]: scenario["api"] for scenario in scenarios}

    def api_of(self, source: ScenarioSource) -> str:
        """Return the API. Raises AuthorError with everything wrong in the scenario."""
        if isinstance(source, Mapping):
            api = source.get("api")
            if api not in FIXTURES:
                raise AuthorError(f"`api` of the scenario is {api!r}\n  {suggest(api, FIXTURES)}")
            return str(api)
        if not isinstance(source, str | Path):
            raise AuthorError(f"{source!r} is no scenario: give a name, a path or a mapping.")
        key = source.absolute() if isinstance(source, Path) else source
        if key not in self._apis:
            self._apis[key] = self._find(source)
        return self._apis[key]

    def _find(self, source: str | Path) -> str:
        from oceanmock.library import load_scenario  # noqa: PLC0415 (slow)

        if isinstance(source, Path) and not source.is_file():
            raise AuthorError(f"there is no scenario file {source}, neither beside the test nor in the rootdir")
        if self._admin is None or isinstance(source, Path):
            return str(load_scenario(source).api)
        if source not in self._served:
            hint = did_you_mean(source, list(self._served))
            raise AuthorError(f"the server knows no scenario {source!r}. {hint}".rstrip())
        return self._served[source]


def read_marks(item: pytest.Item, api: str, *, apis: ScenarioApis) -> tuple[tuple[ScenarioSource, ...], dict[str, Any]]:
    """Return the scenarios and the options that a test's marks give to the sandbox of one API.

    Raises AuthorError with everything wrong in the marks.
    """
    scenarios: list[ScenarioSource] = []
    options: dict[str, Any] = {}
    closest = None
    for node, sources, keywords in _marks(item, apis):
        if sources and not any(name == api for name, _ in sources):
            continue
        options = {**keywords, **options}
        if sources and closest in (None, node):
            closest = node
            scenarios += [source for name, source in sources if name == api]
    return tuple(scenarios), options


def scenario_folders(item: pytest.Item) -> tuple[Path, ...]:
    """Return where a test's scenario files may be: beside the test, then in pytest's rootdir.

    They do not depend on the folder in which pytest runs.
    """
    return item.path.parent, item.config.rootpath


def option_problems(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with options, as far as it can be checked without a sandbox."""
    for keyword, value in options.items():
        if keyword not in MARK_KEYWORDS:
            yield f"there is no keyword `{keyword}`\n  {suggest(keyword, MARK_KEYWORDS)}"
        elif keyword == "progression" and value not in PROGRESSIONS:
            yield f"`progression` is {value!r}\n  {suggest(value, PROGRESSIONS)}"
        elif keyword in {"auth", "strict"} and not isinstance(value, bool):
            yield f"`{keyword}` is {value!r}\n  Allowed: True, False."


def _marks(
    item: pytest.Item, apis: ScenarioApis
) -> Sequence[tuple[object, list[tuple[str, ScenarioSource]], Mapping[str, Any]]]:
    """Return the marks of a test, closest first: the level, the scenarios with APIs, the keywords.

    Raises AuthorError with all their problems.
    """
    problems: list[str] = []
    marks = []
    for node in reversed(cast("list[pytest.Item | pytest.Collector]", item.listchain())):
        for mark in _own_marks(node):
            lines = list(option_problems(mark.kwargs))
            if not mark.args and not mark.kwargs:
                lines.append("it says nothing\n  Name a scenario, such as 'retry-failed-subtask'.")
            scenarios = []
            for argument in mark.args:
                try:
                    source = locate(argument, scenario_folders(item))
                    scenarios.append((apis.api_of(source), source))
                except AuthorError as error:
                    lines.append(str(error))
            if lines:
                problems += [f"{_mark_text(mark)}:", *(indent(line, "  ") for line in lines)]
            marks.append((node, scenarios, mark.kwargs))
    if problems:
        raise AuthorError("\n".join(problems))
    return marks


def _own_marks(node: pytest.Item | pytest.Collector) -> list[pytest.Mark]:
    """Return the marks of one level, from the top down."""
    return [mark for mark in reversed(node.own_markers) if mark.name == "scenario"]


def _mark_text(mark: pytest.Mark) -> str:
    """Return the mark as it is written in the test, shortened."""
    arguments = [repr(argument) for argument in mark.args]
    arguments += [f"{name}={value!r}" for name, value in mark.kwargs.items()]
    return f"@pytest.mark.scenario({shorten(', '.join(arguments), MAX_MARK_LENGTH)})"


# --- failures -------------------------------------------------------------------------------------

MAX_REPORTED_SANDBOXES: Final = 3
MAX_LISTED_VIOLATIONS: Final = 10
ADVICE: Final = (
    "This test is strict. @pytest.mark.scenario(strict=False) makes it lenient; "
    "`journal.clear()` and `faults.clear()` remove what the test expects."
)


def failure_sections(sandboxes: Sequence[SandboxHandle], failure: str, *, is_setup: bool) -> Iterator[tuple[str, str]]:
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
        yield f"oceanmock journal ({label})", report["journal"] or "no request"
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
        lines.append(f"{plural(len(requests), 'request')} to {sandbox.API.name} matched no operation:")
        lines += _first(requests)
    if faults:
        verb = "were" if len(faults) > 1 else "was"
        lines.append(f"{plural(len(faults), 'fault')} {verb} never injected:")
        lines += _first(faults)
    log = report["journal"] or "no request"
    return "\n".join([*lines, "all requests:", log, ADVICE]) if lines else ""


def _first(texts: Sequence[str]) -> Iterator[str]:
    yield from (f"  {text}" for text in texts[:MAX_LISTED_VIOLATIONS])
    if len(texts) > MAX_LISTED_VIOLATIONS:
        yield f"  … and {len(texts) - MAX_LISTED_VIOLATIONS} more"


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
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
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
