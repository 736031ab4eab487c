"""The session's server, the sandboxes of the tests, and the reports about them.

A sandbox is made by the test's marks (``@pytest.mark.oceanmock``), reported if the test fails, and then deleted. A
mistake in a mark, a scenario or a server is an error of the test, without a traceback. A server that does not respond
ends the session at the first test that needs it.

A mark with scenarios applies to the fixtures of their APIs, one without to both. For each API, the scenarios are those
of the closest level (test, class, module) with any; marks on one level add up, from the top down. Each keyword has the
value of the closest mark that gives it. A parameter of the fixture replaces the scenarios. A test that uses a fixture
must use those of all APIs in its own marks; the marks of its class and module may have others.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from textwrap import indent
from typing import TYPE_CHECKING, Any, Final, Self, cast
from unittest import TestCase

import pytest

from oceanmock.admin_client import NoAnswer, read_journal
from oceanmock.client import HANDLES, Mock, SandboxOptions
from oceanmock.clock import PROGRESSIONS
from oceanmock.errors import InputError, OceanmockError
from oceanmock.handles import SandboxHandle, ScenarioSource, locate
from oceanmock.pytest_plugin import COVERAGE_PLUGIN, MARK, SERVER_KEY
from oceanmock.text import did_you_mean, plural, shorten, suggest

if TYPE_CHECKING:
    import argparse
    from ssl import SSLContext

MAX_REPORTED_SANDBOXES: Final = 3
MAX_LISTED_VIOLATIONS: Final = 10
MAX_EXPLAINED_TASKS: Final = 100
MISTAKES: Final = (InputError, NameError, ImportError, SyntaxError, pytest.FixtureLookupError)
"""Errors of the test itself, which the sandboxes do not explain."""
FIXTURES: Final = tuple(HANDLES)  # and the names of the APIs
MARK_KEYWORDS: Final = tuple(key for key in SandboxOptions.__annotations__ if key != "name")
"""The keywords of a mark; the plugin names a sandbox after its test."""
WORKER_KEY: Final = "oceanmock_coverage"  # of a worker's output
_SANDBOXES: Final = pytest.StashKey[list[SandboxHandle]]()  # the open ones of a test's own fixtures
_MARKED_APIS: Final = pytest.StashKey[dict[str, pytest.Mark]]()  # the APIs of the scenarios in a test's own marks
_API_LINE: Final = re.compile(rf"""^(['"]?)api\1:\s*(['"]?)({"|".join(FIXTURES)})\2\s*(?:#.*)?$""", re.MULTILINE)
"""The line of a scenario file with its API, in the usual form."""


def check_server(option: argparse.Namespace) -> None:
    """Raise UsageError where the required server cannot be used."""
    if not option.oceanmock_url.startswith("https:"):  # the first test checks it, with the TLS context of the fixture
        try:
            Mock.attach(option.oceanmock_url, token=option.oceanmock_token)
        except OceanmockError as error:
            raise pytest.UsageError(_with_option_names(error)) from None


def session_server(session: pytest.Session, *, host: str, tls: SSLContext | None) -> Iterator[Mock]:
    """Provide the session's server: at the URL of the options, of all workers of xdist, or in this process."""
    option = session.config.option
    worker = getattr(session.config, "workerinput", {})
    shared = worker.get(SERVER_KEY, {})
    with _plain_errors(session):
        if option.oceanmock_url:
            mock = Mock.attach(option.oceanmock_url, token=option.oceanmock_token, tls=tls)
        elif tls is None and shared.get("host") == host:
            mock = Mock.attach(shared["url"], token=shared["token"])
        else:
            mock = Mock.start(host=host, tls=tls)
        if worker and not mock.is_local:
            mock.suffix = f"-{worker['workerid']}"
        SandboxPlugin.of(session.config, mock)
    yield mock
    with _plain_errors(session):
        for sandbox in mock.sandboxes:
            sandbox.close()
    mock.stop()


def sandbox_of_test(
    request: pytest.FixtureRequest, mock: Mock, *, api: str, options: Mapping[str, Any]
) -> Iterator[Any]:
    """Provide the sandbox of a test's fixture, by its marks and by the default options."""
    item: pytest.Item = request.node
    with _plain_errors(request.session):
        scenarios, keywords = SandboxPlugin.of(request.config, mock).read_marks(item, api, mock)
        if (param := getattr(request, "param", None)) is not None:  # parametrize(…, indirect=True)
            sources = param if isinstance(param, list | tuple) else (param,)
            scenarios = tuple(locate(source, _folders(item)) for source in sources)
        if not isinstance(options, Mapping):
            raise InputError(f"the fixture oceanmock_options gives {options!r}, and no mapping.")
        if problems := [f"the fixture oceanmock_options: {text}" for text in option_problems(options)]:
            raise InputError("\n".join(problems))
        name = re.sub(r"[^A-Za-z0-9]+", "-", item.name).strip("-")[:60].strip("-")
        params = {"strict": request.config.option.oceanmock_strict, **options, **keywords}
        params["name"] = f"{name or 'test'}-{token_hex(4)}"
        try:
            sandbox = mock.make(HANDLES[api], scenarios, cast("SandboxOptions", params))
        except InputError as error:
            raise InputError(f"the sandbox for `{api}`: {error}") from None
    sandbox.folders = _folders(item)
    sandboxes = item.stash.setdefault(_SANDBOXES, [])
    sandboxes.append(sandbox)
    if isinstance(request.instance, TestCase):
        setattr(request.instance, api, sandbox)
    yield sandbox
    sandboxes.remove(sandbox)
    with _plain_errors(request.session):
        sandbox.close()


def _folders(item: pytest.Item) -> tuple[Path, Path]:
    return item.path.parent, item.config.rootpath


def option_problems(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the mistakes in options that can be found without a sandbox."""
    for keyword, value in options.items():
        if keyword not in MARK_KEYWORDS:
            yield f"there is no keyword `{keyword}`\n  {suggest(keyword, MARK_KEYWORDS)}"
        elif keyword == "progression" and value not in PROGRESSIONS:
            yield f"`progression` is {value!r}\n  {suggest(value, PROGRESSIONS)}"
        elif keyword in {"auth", "strict"} and not isinstance(value, bool):
            yield f"`{keyword}` is {value!r}\n  Allowed: True, False."


def _mark_text(mark: pytest.Mark) -> str:
    arguments = [repr(argument) for argument in mark.args]
    arguments += [f"{name}={value!r}" for name, value in mark.kwargs.items()]
    return f"@pytest.mark.{MARK}({shorten(', '.join(arguments), 60)})"


def _unused_marks(item: pytest.Item) -> str:
    """Return the marks of a test with scenarios of APIs whose sandboxes it does not use, or ""."""
    used = [*getattr(item, "fixturenames", ()), *(sandbox.API.name for sandbox in item.stash.get(_SANDBOXES, []))]
    return "\n".join(
        f"{_mark_text(mark)}:\n  this is a scenario of {api}, and the test does not use the fixture `{api}`\n"
        f"    Add `{api}` to the test's arguments."
        for api, mark in item.stash.get(_MARKED_APIS, {}).items()
        if api not in used
    )


@contextmanager
def _plain_errors(session: pytest.Session) -> Iterator[None]:
    """Fail the test with the message of an oceanmock error, and without a traceback."""
    try:
        yield
    except OceanmockError as error:
        message = _with_option_names(error)
        if isinstance(error, NoAnswer) and error.status is None:
            session.shouldstop = message  # every further test would fail for the same reason
        raise pytest.fail.Exception(message, pytrace=False) from None


def _with_option_names(error: OceanmockError) -> str:
    """Return the message of an error with the names of the options of pytest."""
    return re.sub(r"--(?=(?:url|token)\b)", "--oceanmock-", str(error))


class SandboxPlugin:
    """A plugin that observes the sandboxes of all servers: for marks, reports, strict mode and coverage.

    The report of a failed test shows the sandboxes of its fixtures `ocp` and `obshell`, those made during the test, and
    those from fixtures of its class or module.
    """

    NAME: Final = "oceanmock-sandboxes"

    def __init__(self, recorder: CoverageRecorder | None) -> None:
        self._recorder, self._outcome = recorder, "passed"
        self._mocks = dict[Mock, Mapping[str, str]]()  # with the API of each of their scenarios
        self._older: list[SandboxHandle] = []

    @classmethod
    def of(cls, config: pytest.Config, mock: Mock) -> Self:
        """Return the plugin of this run, which is registered on first use, and let it observe a server."""
        manager = config.pluginmanager
        if not manager.has_plugin(cls.NAME):
            manager.register(cls(manager.get_plugin(COVERAGE_PLUGIN)), cls.NAME)
        plugin = cast("Self", manager.get_plugin(cls.NAME))
        if mock not in plugin._mocks:
            served = mock.admin.ask("GET", "/scenarios")["scenarios"]  # now, since a test may patch the file system
            plugin._mocks[mock] = {scenario["name"]: scenario["api"] for scenario in served}
            mock.on_close = plugin._close
        return plugin

    def read_marks(
        self, item: pytest.Item, api: str, mock: Mock, *, reads_files: bool = False
    ) -> tuple[tuple[ScenarioSource, ...], dict[str, Any]]:
        """Return the scenarios and the options of a test's marks for the sandbox of one API.

        Raises InputError with every mistake in the marks. The server reports mistakes in files; if there are others,
        the files are read here, so that all are reported together.
        """
        scenarios: list[ScenarioSource] = []
        options: dict[str, Any] = {}
        problems: list[str] = []
        closest = None
        marked = ((node, mark) for node in item.listchain()[::-1] for mark in node.own_markers[::-1])
        for node, mark in marked:  # the closest level first, from top to bottom
            if mark.name != MARK:
                continue
            sources = [locate(source, _folders(item)) for source in mark.args]
            lines = [*option_problems(mark.kwargs)]
            if not mark.args and not mark.kwargs:
                lines.append("it says nothing\n  Name a scenario, such as 'retry-failed-subtask'.")
            own_sources = []
            for source in sources:
                try:
                    named = self._api_of(source, mock, reads_files=reads_files)
                    if named == api:
                        own_sources.append(source)
                    if node is item:
                        item.stash.setdefault(_MARKED_APIS, {})[named] = mark
                except InputError as error:
                    lines.append(str(error))
            if lines:
                problems += [f"{_mark_text(mark)}:", *(indent(line, "  ") for line in lines)]
            if own_sources or not sources:
                options = {**mark.kwargs, **options}
            if own_sources and closest in (None, node):
                closest = node
                scenarios += own_sources
        if problems and not reads_files:
            self.read_marks(item, api, mock, reads_files=True)
        if problems:
            raise InputError("\n".join(problems))
        return tuple(scenarios), options

    def _api_of(self, source: ScenarioSource, mock: Mock, *, reads_files: bool) -> str:
        """Return the API of a scenario. Raises InputError for an unknown scenario."""
        if isinstance(source, Mapping):
            api = source.get("api")
            if api not in FIXTURES:
                raise InputError(f"`api` of the scenario is {api!r}\n  {suggest(api, FIXTURES)}")
            return str(api)
        if not isinstance(source, str | Path):
            raise InputError(f"{source!r} is no scenario: give a name, a path or a mapping.")
        if isinstance(source, str):
            apis = self._mocks[mock]
            if source not in apis:
                hint = did_you_mean(source, list(apis))
                raise InputError(f"there is no scenario {source!r} on the server. {hint}".rstrip())
            return apis[source]
        if not source.is_file():
            raise InputError(f"there is no scenario file {source}, neither beside the test nor in the rootdir")
        line = _API_LINE.search(source.read_text(encoding="utf-8", errors="replace"))
        if line is not None and not reads_files:
            return line[3]
        from oceanmock.library import load_scenario  # noqa: PLC0415 (slow)

        return str(load_scenario(source).api)

    def _close(self, sandbox: SandboxHandle) -> None:
        """Record coverage; in strict mode, fail a passed test with violations."""
        if self._recorder is not None:
            self._recorder.record(sandbox)
        is_judged = self._outcome == "passed" or (self._outcome == "skipped" and sandbox in self._older)
        if not (sandbox.strict and is_judged and sys.exc_info()[0] is None):
            return
        report = sandbox.admin.ask("GET", "/report", query={"tasks": 0})
        requests, faults = report["unexpected_requests"], report["unused_faults"]
        heads = (
            f"{plural(len(requests), 'request')} to {sandbox.API.name} matched no operation:",
            f"{plural(len(faults), 'fault')} {'were' if len(faults) > 1 else 'was'} never injected:",
        )
        lines: list[str] = []
        for head, texts in zip(heads, (requests, faults), strict=True):
            if texts:
                lines += [head, *(f"  {text}" for text in texts[:MAX_LISTED_VIOLATIONS])]
            if len(texts) > MAX_LISTED_VIOLATIONS:
                lines.append(f"  … and {len(texts) - MAX_LISTED_VIOLATIONS} more")
        if lines:
            hint = f"This test is strict. @pytest.mark.{MARK}(strict=False) makes it lenient; "
            hint += "`journal.clear()` and `faults.clear()` remove what the test expects."
            pytest.fail("\n".join([*lines, "all requests:", report["journal"] or "no request", hint]), pytrace=False)

    def _open(self) -> list[SandboxHandle]:
        return [sandbox for mock in self._mocks for sandbox in mock.sandboxes]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        self._older, self._outcome = self._open(), "passed"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        """Fail a test with unused marks, or add them to its failure."""
        try:
            yield
        except Exception as error:
            if problem := _unused_marks(item):
                error.add_note(problem)
            raise
        if problem := _unused_marks(item):
            pytest.fail(problem, pytrace=False)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add a failed test's open sandboxes to its report, those of its own fixtures first."""
        report = yield
        if not report.passed and self._outcome != "failed":
            self._outcome = report.outcome
        if report.failed:
            detail = item.config.option.oceanmock_report
            if detail == "none" or (call.excinfo is not None and call.excinfo.errisinstance(MISTAKES)):
                return report
            add = getattr(report.longrepr, "addsection", lambda *it: report.sections.append(it))
            own, values = item.stash.get(_SANDBOXES, []), getattr(item, "funcargs", {}).values()
            used = [sandbox for sandbox in self._open() if sandbox not in self._older or sandbox in values]
            used.sort(key=lambda sandbox: sandbox not in own)
            for title, text in failure_sections(
                used, report.longreprtext, is_setup=report.when == "setup", is_short=detail == "short"
            ):
                add(title, text.rstrip("\n"))
        return report


def failure_sections(
    sandboxes: Sequence[SandboxHandle], failure: str, *, is_setup: bool, is_short: bool
) -> Iterator[tuple[str, str]]:
    """Yield a title and a text for each journal and task, without explanations that the failure has already."""
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
            continue  # nothing has used it
        yield f"oceanmock journal ({label})", report["journal"] or "no request"
        if is_short:
            states = [f"{task['title']}: {task['state']}" for task in report["tasks"]] + report["other_tasks"]
            yield f"oceanmock states ({label})", "\n".join(states)
            continue
        for task in report["tasks"]:
            is_shown = task["explanation"].partition("\n")[0] in failure
            text = task["timeline"] if is_shown else f"{task['explanation']}\n{task['timeline']}"
            yield f"oceanmock {task['title']}: {task['state']}", text
        if rest := report["other_tasks"]:
            yield f"oceanmock: {len(rest)} more {sandbox.API.root.title}s", ", ".join(rest)
    if more := sandboxes[MAX_REPORTED_SANDBOXES:]:
        yield f"oceanmock: {len(more)} more sandboxes", ", ".join(sandbox.name for sandbox in more)


class CoverageRecorder:
    """A plugin, registered if an option needs it, that records the transition coverage of all sandboxes.

    Under xdist each worker sends its coverage to the controller, which alone prints, writes and judges it.
    """

    def __init__(self, option: argparse.Namespace) -> None:
        from oceanmock.apis import APIS  # noqa: PLC0415 (slow)
        from oceanmock.report import Coverage  # noqa: PLC0415

        self._option, self._coverage, self._problem = option, Coverage(APIS), ""

    def record(self, sandbox: SandboxHandle) -> None:
        """Add the exchanges of a sandbox, and the histories of its tasks."""
        api = sandbox.API.name
        scenarios = [scenario["name"] for scenario in sandbox.json()["scenarios"]]
        self._coverage.add(api, scenarios, read_journal(sandbox.admin, {}))
        for row in sandbox.rows()[:MAX_EXPLAINED_TASKS]:
            self._coverage.add_explanation(api, sandbox.admin.ask("GET", f"/tasks/{api}/{row['id']}/explain"))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Add the coverage of a worker of xdist, unless it crashed."""
        output = getattr(node, "workeroutput", {})
        if WORKER_KEY in output:
            self._coverage.add_json(json.loads(output[WORKER_KEY]))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """In a worker, send the coverage to the controller; otherwise write and judge it."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[WORKER_KEY] = json.dumps(self._coverage.to_json())
            return
        if self._option.oceanmock_coverage_json is not None:
            path = Path(self._option.oceanmock_coverage_json)
            text = json.dumps(self._coverage.to_json(), indent=2, ensure_ascii=False)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{text}\n", encoding="utf-8")
            except OSError as error:
                self._problem = f"{path} cannot be written: {error.strerror or error}."
        least, percent = self._option.oceanmock_coverage_min, self._coverage.percent
        if not self._problem and least is not None and self._coverage.apis and percent < least:
            self._problem = (
                f"its clients have seen {percent:g} % of the states, operators and transitions "
                f"of their APIs, and {least:g} % is asked for (--oceanmock-coverage-min)."
            )
        if self._problem and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the coverage, if an option requires it, and why the run fails."""
        if self._option.oceanmock_coverage:
            terminalreporter.write_line("")
            for text, colour in self._coverage.lines():
                terminalreporter.write_line(text, **{colour: True} if colour else {})
        if self._problem:
            terminalreporter.write_line(f"\nThe run fails: {self._problem}", red=True)
