"""The session's server, and a sandbox on it for each test that asks for one.

It is made as the test's marks say, tells what it has seen if the test fails, and goes with it. What
is wrong with a mark, a scenario or a server is the test's error, in plain words and without a
traceback. A server that is not there ends the session with the first test that needs it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast
from unittest import TestCase

import pytest

from oceanmock.client.admin import Admin, NoAnswer, Refused
from oceanmock.client.mock import Mock
from oceanmock.client.sandbox import Options, Sandbox
from oceanmock.errors import AuthorError, OceanmockError
from oceanmock.obshell.client import Obshell
from oceanmock.ocp.client import Ocp
from oceanmock.pytest_plugin.marks import Known, check_use, folders_of, mistakes_in, wanted
from oceanmock.pytest_plugin.options import GATHERING, SETTING, Setting

if TYPE_CHECKING:
    from ssl import SSLContext

    from oceanmock.pytest_plugin.coverage import Gathering

Api = TypeVar("Api", bound=Sandbox)

LONGEST_NAME: Final = 60
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9]+")
_KNOWN: Final = pytest.StashKey[dict[str, Known]]()
"""What is known of the scenarios of each server, by its URL."""
_LENT: Final = pytest.StashKey[list[Sandbox]]()
"""The sandboxes of a test's own fixtures while they stand."""


# --- the server -----------------------------------------------------------------------------------


@contextmanager
def served(session: pytest.Session, *, host: str, tls: SSLContext | None) -> Iterator[Mock]:
    """The session's server: in this process, or where the options say."""
    setting = session.config.stash[SETTING]
    with _told_plainly(session):
        mock = Mock.start(host=host, tls=tls) if setting.url is None else _attach(setting, tls)
    Witness.of(session.config).watch(mock)
    try:
        yield mock
    finally:
        with _told_plainly(session):
            for forgotten in mock.sandboxes:
                forgotten.close()
        mock.stop()


def check_server(setting: Setting) -> None:
    """Raises UsageError where the server that the options say is of no use.

    Whether one that speaks TLS is to be trusted only a fixture knows: that the first test will say.
    """
    if (setting.url or "").startswith("https:"):
        return
    try:
        _attach(setting, None)
    except OceanmockError as problem:
        raise pytest.UsageError(_in_our_words(problem)) from None


def _attach(setting: Setting, tls: SSLContext | None) -> Mock:
    return Mock.attach(setting.url or "", token=setting.token, tls=tls)


def _known(config: pytest.Config, mock: Mock) -> Known:
    """What is known of a server's scenarios; in this process they are the library's."""
    by_url = config.stash.setdefault(_KNOWN, {})
    if mock.url not in by_url:
        by_url[mock.url] = Known(None if mock.is_here else partial(_names, mock.admin))
    return by_url[mock.url]


def _names(admin: Admin) -> Mapping[str, str]:
    """The scenarios that a server knows, each with its API."""
    return {each["name"]: each["api"] for each in admin.ask("GET", "/scenarios")["scenarios"]}


# --- a sandbox ------------------------------------------------------------------------------------


@contextmanager
def lent_ocp(
    request: pytest.FixtureRequest, mock: Mock, options: Mapping[str, Any]
) -> Iterator[Ocp]:
    """A sandbox of OCP for a test, as its marks say, or else the options."""
    with _lent(request, mock, Ocp, options) as sandbox:
        yield sandbox


@contextmanager
def lent_obshell(
    request: pytest.FixtureRequest, mock: Mock, options: Mapping[str, Any]
) -> Iterator[Obshell]:
    """A sandbox of obshell for a test, as its marks say, or else the options."""
    with _lent(request, mock, Obshell, options) as sandbox:
        yield sandbox


@contextmanager
def _lent(
    request: pytest.FixtureRequest, mock: Mock, kind: type[Api], options: Mapping[str, Any]
) -> Iterator[Api]:
    item: pytest.Item = request.node
    make: Callable[..., Api] = getattr(mock, kind.api)
    with _told_plainly(request.session):
        marked = wanted(item, kind.api, _known(request.config, mock).api_of)
        strict = request.config.stash[SETTING].strict
        said = {"strict": strict, **_checked(options), **marked.keywords, "name": _name_of(item)}
        try:
            sandbox = make(*marked.scenarios, **cast("Options", said))
        except AuthorError as mistakes:
            raise AuthorError(f"the sandbox for `{kind.api}`: {mistakes}") from None
    sandbox.folders = folders_of(item)
    Witness.of(request.config).watch(mock)
    lent = item.stash.setdefault(_LENT, [])
    lent.append(sandbox)
    if isinstance(request.instance, TestCase):
        setattr(request.instance, kind.api, sandbox)
    try:
        yield sandbox
    finally:
        lent.remove(sandbox)
        with _told_plainly(request.session):
            sandbox.close()


def _checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options as they are. Raises AuthorError with all that is wrong with them."""
    if not isinstance(options, Mapping):
        raise AuthorError(f"the fixture oceanmock_options gives {options!r}, and no mapping.")
    wrong = [f"the fixture oceanmock_options: {text}" for text in mistakes_in(options)]
    if wrong:
        raise AuthorError("\n".join(wrong))
    return options


def _name_of(item: pytest.Item) -> str:
    """A name by which somebody who looks at the server knows the test; no two are the same."""
    name = _NO_NAME.sub("-", item.name).strip("-")[:LONGEST_NAME].strip("-")
    return f"{name or 'test'}-{token_hex(4)}"


def check_marks(item: pytest.Item) -> None:
    """Fails a test whose own marks want what none of its sandboxes, which stand by now, is."""
    lent = item.stash.get(_LENT, [])
    known = item.config.stash[_KNOWN][lent[0].admin.admin.url] if lent else Known()
    with _told_plainly(item.session):
        check_use(item, [sandbox.api for sandbox in lent], known.api_of)


# --- what is told ---------------------------------------------------------------------------------


class Witness:
    """A plugin that is there once a server is: it looks at the sandboxes that are made there.

    Of a failed test it tells what its sandboxes saw: those of the fixtures `ocp` and `obshell`,
    those that were made during the test, and those that a fixture of a class or module gave it.
    """

    NAME: Final = "oceanmock-witness"

    def __init__(self, gathering: Gathering | None) -> None:
        self._gathering = gathering
        self._mocks: list[Mock] = []
        self._older: list[Sandbox] = []
        self._has_failed = False

    @classmethod
    def of(cls, config: pytest.Config) -> Self:
        """The one of this run, from now on if there was none."""
        manager = config.pluginmanager
        if not manager.has_plugin(cls.NAME):
            manager.register(cls(manager.get_plugin(GATHERING)), cls.NAME)
        return cast("Self", manager.get_plugin(cls.NAME))

    def watch(self, mock: Mock) -> None:
        """Looks at the sandboxes of a server."""
        if mock not in self._mocks:
            self._mocks.append(mock)
            mock.on_close = self._closes

    def _closes(self, sandbox: Sandbox) -> None:
        """Gathers what a sandbox saw; fails a test that has passed, where it was to be strict."""
        if self._gathering is not None:
            self._gathering.take(sandbox)
        is_left_by_an_error = sys.exc_info()[0] is not None
        if sandbox.strict and not self._has_failed and not is_left_by_an_error:
            from oceanmock.pytest_plugin import strictness  # noqa: PLC0415 (slow)

            wrong = strictness.complaint(sandbox.admin, sandbox.api)
            if wrong:
                pytest.fail(wrong, pytrace=False)

    @property
    def _open(self) -> list[Sandbox]:
        return [each for mock in self._mocks for each in mock.sandboxes]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> None:
        """Begins with a test anew."""
        self._older, self._has_failed = self._open, False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Adds to the report of a failed test what its sandboxes, if they still stand, tell."""
        told = yield
        if told.failed:
            from oceanmock.pytest_plugin import report  # noqa: PLC0415 (slow)

            self._has_failed = True
            add = getattr(told.longrepr, "addsection", lambda *it: told.sections.append(it))
            said = report.Said(told.when or "call", told.longreprtext)
            for title, text in report.sections(self._used_by(item), said):
                add(title, text.rstrip("\n"))
        return told

    def _used_by(self, item: pytest.Item) -> list[Sandbox]:
        """The open sandboxes of a test, those of its own fixtures first."""
        own = item.stash.get(_LENT, [])
        given = [it for it in getattr(item, "funcargs", {}).values() if isinstance(it, Sandbox)]
        used = [each for each in self._open if each not in self._older or each in given]
        return sorted(used, key=lambda each: each not in own)


@contextmanager
def _told_plainly(session: pytest.Session) -> Iterator[None]:
    """Fails the test with what oceanmock says went wrong, and without a traceback."""
    try:
        yield
    except OceanmockError as problem:
        why = _in_our_words(problem)
        if isinstance(problem, NoAnswer) and not isinstance(problem, Refused):
            session.shouldstop = why  # every further test would fail for the same reason
        raise pytest.fail.Exception(why, pytrace=False) from None


def _in_our_words(problem: OceanmockError) -> str:
    """What went wrong, with the names that pytest's options have."""
    return re.sub(r"--(?=(?:url|token)\b)", "--oceanmock-", str(problem))
