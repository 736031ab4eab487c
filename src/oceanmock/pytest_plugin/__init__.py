"""The pytest plugin: ``def test_client_retries(ocp): …``.

Here is what pytest has to find: fixtures and hooks. The rooms behind them are imported when a test
first uses a fixture: ``marks`` (what is wanted), ``sandboxes`` (what is lent), ``report`` (what a
failure tells), ``strictness``, ``coverage``. The rule: this file and ``options`` import nothing but
pytest, so that a suite without sandboxes pays nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from oceanmock.pytest_plugin.options import GATHERING, MARK, SETTING, add_options, setting_of

if TYPE_CHECKING:
    from ssl import SSLContext

    from oceanmock.client.mock import Mock
    from oceanmock.conformance.suite import Conformance
    from oceanmock.obshell.client import Obshell
    from oceanmock.ocp.client import Ocp


# --- the run --------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Makes the mark known, and lets what clients see be gathered where that is wanted."""
    config.addinivalue_line("markers", MARK)
    config.stash[SETTING] = setting = setting_of(config)
    if setting.gathers:
        from oceanmock.pytest_plugin.coverage import Gathering  # noqa: PLC0415 (not imported idly)

        config.pluginmanager.register(Gathering(setting), GATHERING)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Ends a run that is told to use a server which is not there, before it begins."""
    setting = session.config.stash[SETTING]
    is_idle = session.config.option.collectonly or hasattr(session.config, "workerinput")
    if setting.url_is_urgent and not is_idle:
        from oceanmock.pytest_plugin.sandboxes import check_server  # noqa: PLC0415

        check_server(setting)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Says where the server is, unless it is here."""
    url = config.stash[SETTING].url
    return [] if url is None else [f"oceanmock: {url}"]


# --- the fixtures ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def oceanmock_host(pytestconfig: pytest.Config) -> str:
    """Where the session's server listens: 127.0.0.1, or `oceanmock_host` of the ini file.

    Define a fixture of this name in a conftest.py to have it otherwise.
    """
    return str(pytestconfig.getini("oceanmock_host"))


@pytest.fixture(scope="session")
def oceanmock_tls() -> SSLContext | None:
    """The TLS context of the session's server: none, it speaks plain HTTP.

    Define a fixture of this name in a conftest.py to have it otherwise: a context for servers
    (`ssl.PROTOCOL_TLS_SERVER`) to serve by; with --oceanmock-url, one for clients to reach by.
    """
    return None


@pytest.fixture(scope="session")
def oceanmock_options() -> Mapping[str, Any]:
    """What sandboxes are like where no mark says otherwise: nothing but the defaults.

    Define a fixture of this name in a conftest.py to have it otherwise:

        @pytest.fixture(scope="session")
        def oceanmock_options():
            return {"progression": "manual", "strict": True}  # the mark's keywords
    """
    return {}


@pytest.fixture(scope="session")
def oceanmock_server(
    request: pytest.FixtureRequest, oceanmock_host: str, oceanmock_tls: SSLContext | None
) -> Iterator[Mock]:
    """The session's server: in this process on a free port, or where --oceanmock-url says.

    A test that needs more sandboxes, and a fixture of a class or module, make them here:

        @pytest.fixture(scope="module")
        def cluster(oceanmock_server):
            with oceanmock_server.obshell("initialize-cluster-fails") as obshell:
                yield obshell

    What is left open is deleted at the end.
    """
    from oceanmock.pytest_plugin.sandboxes import served  # noqa: PLC0415 (slow)

    with served(request.session, host=oceanmock_host, tls=oceanmock_tls) as mock:
        yield mock


@pytest.fixture
def ocp(
    request: pytest.FixtureRequest, oceanmock_server: Mock, oceanmock_options: Mapping[str, Any]
) -> Iterator[Ocp]:
    """A sandbox of OCP for one test: its url, auth, clock, journal, faults and tasks.

    What lives in it is said by a mark, by `ocp.load(…)` or by `ocp.task(name, […])`:

        @pytest.mark.scenario("retry-failed-subtask")
        def test_client_retries(ocp):
            client = Client(ocp.url, auth=ocp.auth, sleep=ocp.clock.sleep)

            client.bring_to_success(1000)

            ocp.task(1000).assert_status("SUCCESSFUL")
            ocp.journal.assert_called("retrySubtask", times=1, subtask=1002)

    In a unittest.TestCase under @pytest.mark.usefixtures("ocp") it is `self.ocp`.
    """
    from oceanmock.pytest_plugin.sandboxes import lent_ocp  # noqa: PLC0415 (slow)

    with lent_ocp(request, oceanmock_server, oceanmock_options) as sandbox:
        yield sandbox


@pytest.fixture
def obshell(
    request: pytest.FixtureRequest, oceanmock_server: Mock, oceanmock_options: Mapping[str, Any]
) -> Iterator[Obshell]:
    """A sandbox of obshell for one test: its url, auth, sdk(), clock, journal, faults and dags.

    What lives in it is said by a mark, by `obshell.load(…)` or by `obshell.dag(name, […])`:

        @pytest.mark.scenario("initialize-cluster-fails", progression="manual")
        def test_dag_fails(obshell):
            client = obshell.sdk()  # the vendor's

            obshell.clock.advance("10s")

            assert client.get_dag(obshell.dag(4).id).state == "FAILED"

    In a unittest.TestCase under @pytest.mark.usefixtures("obshell") it is `self.obshell`.
    """
    from oceanmock.pytest_plugin.sandboxes import lent_obshell  # noqa: PLC0415 (slow)

    with lent_obshell(request, oceanmock_server, oceanmock_options) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def conformance() -> Conformance:
    """Holds a server to the contract of its API: `conformance(url, api="ocp", auth=…)`.

    It only reads, unless `write=True` and `tasks=[…]` say what may be played with:

        def test_our_server_keeps_the_contract(conformance, our_server):
            held = conformance(our_server.url, api="ocp", auth=("admin", "secret"))
            held.report("html", "conformance.html")
            held.assert_kept()

    It needs `pip install "oceanmock[conform]"`.
    """
    from oceanmock.conformance.suite import Conformance  # noqa: PLC0415 (slow)

    return Conformance()


# --- the mark -------------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fails a test, once its fixtures stand, whose mark is for none of them."""
    if item.get_closest_marker("scenario") is not None:
        from oceanmock.pytest_plugin.sandboxes import check_marks  # noqa: PLC0415 (slow)

        check_marks(item)
