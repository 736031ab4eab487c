"""The pytest plugin: ``def test_client_retries(ocp): …``.

This module has the options, fixtures and hooks that pytest must find. It imports only pytest, so that a suite without
sandboxes pays nothing. The module ``sandboxes`` (marks, reports of failures, strict mode, coverage) is imported when a
test first uses a fixture. Under xdist the workers share a server in the controller.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from select import select
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from ssl import SSLContext

    from oceanmock.client import Mock
    from oceanmock.conformance.run import ConformanceFixture
    from oceanmock.obshell.client import Obshell
    from oceanmock.ocp.client import Ocp

COVERAGE_PLUGIN: Final = "oceanmock-coverage"
MARK: Final = "oceanmock"
MARK_HELP: Final = (
    "(*scenarios, progression=…, speed=…, seed=…, starts_at=…, ttl=…, switches=…, auth=…, "
    "strict=…): the scenarios and options of the sandbox of the fixtures `ocp` and `obshell`. A "
    "scenario is a name of the library (`oceanmock list` prints them), the path of a file (beside "
    "the test, or in the rootdir) or a mapping. progression: polls (default), manual, immediate, "
    "time. strict=True fails a test for a request that matches no operation, and for a fault that "
    "affects no request. A mark that names scenarios applies to the fixtures of their APIs, any "
    "other one to both. On a class or a module it applies to every test: a test's own names "
    "replace those, each keyword only itself. Marks on one level add up. A parameter of the "
    'fixture replaces the names: `parametrize("ocp", ["rollback"], indirect=True)`. A test that '
    "uses neither fixture may have any mark."
)
SERVER_KEY: Final = "oceanmock_server"  # of a worker's input: the host, URL and token of the shared server, or nothing
_SHARED: Final = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("oceanmock", "oceanmock (the task APIs of OceanBase, mocked)")
    group.addoption(
        "--oceanmock-url",
        metavar="URL",
        help="make each test's sandbox on the oceanmock server at URL, instead of one in this "
        "process (also OCEANMOCK_URL, or oceanmock_url in the ini file)",
    )
    group.addoption(
        "--oceanmock-token", metavar="TOKEN", help="that server's token, if it has one; better in OCEANMOCK_ADMIN_TOKEN"
    )
    group.addoption(
        "--oceanmock-strict",
        action="store_true",
        help="fail a test for requests that match no operation, and for faults that affect no "
        "request, unless its mark says otherwise (also oceanmock_strict in the ini file)",
    )
    group.addoption(
        "--oceanmock-coverage",
        action="store_true",
        help="print which states and transitions of their scenarios the tests' clients observed",
    )
    group.addoption("--oceanmock-coverage-json", metavar="PATH", help="write the same into a file, as JSON")
    group.addoption(
        "--oceanmock-coverage-min",
        metavar="PERCENT",
        help="fail a run whose clients observed less (also oceanmock_coverage_min in the ini file)",
    )
    group.addoption(
        "--oceanmock-report",
        choices=["full", "short", "none"],
        default="full",
        help="what the report of a failed test has of its sandboxes: requests, tasks and their "
        "history (full), requests and states (short), or nothing; an error of the test itself has none",
    )
    parser.addini("oceanmock_url", "the server to use; see --oceanmock-url", default="")
    parser.addini("oceanmock_host", "the address of a server in this process", default="127.0.0.1")
    parser.addini("oceanmock_mask", "names whose values are masked too; see serve --mask", type="args", default=[])
    parser.addini("oceanmock_strict", "see --oceanmock-strict", type="bool", default=False)
    parser.addini("oceanmock_coverage_min", "see --oceanmock-coverage-min", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Complete the options from the environment, then from the ini file. Raises UsageError."""
    config.addinivalue_line("markers", f"{MARK}{MARK_HELP}")
    option, ini = config.option, config.getini
    option.oceanmock_url_is_required = bool(option.oceanmock_url)
    option.oceanmock_url = option.oceanmock_url or os.environ.get("OCEANMOCK_URL") or ini("oceanmock_url")
    option.oceanmock_strict = option.oceanmock_strict or ini("oceanmock_strict")
    percentage = option.oceanmock_coverage_min or ini("oceanmock_coverage_min") or None
    try:
        least = None if percentage is None else float(percentage)
    except ValueError:
        least = -1.0
    if least is not None and not 0 <= least <= 100:
        raise pytest.UsageError(f"oceanmock_coverage_min is {percentage!r}: a percentage is 0 to 100.")
    option.oceanmock_coverage_min = least
    if names := ini("oceanmock_mask"):
        from oceanmock.masking import add_secret_names  # noqa: PLC0415 (not always needed)

        add_secret_names(names)
    if option.oceanmock_coverage or least is not None or option.oceanmock_coverage_json is not None:
        from oceanmock.pytest_plugin.sandboxes import CoverageRecorder  # noqa: PLC0415 (slow)

        config.pluginmanager.register(CoverageRecorder(option), COVERAGE_PLUGIN)


def pytest_sessionstart(session: pytest.Session) -> None:
    """End the run if the server at the command line's URL does not respond."""
    option = session.config.option
    is_idle = option.collectonly or hasattr(session.config, "workerinput")
    if option.oceanmock_url_is_required and not is_idle:
        from oceanmock.pytest_plugin.sandboxes import check_server  # noqa: PLC0415 (slow)

        check_server(option)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker of xdist the address of the server that the workers share.

    A worker on another machine, or with another Python, starts its own server. So do all workers if the controller
    cannot listen, and they report why.
    """
    config, spec = node.config, node.gateway.spec
    if config.option.oceanmock_url or not spec.popen or spec.python or spec.via:
        return
    if _SHARED not in config.stash:
        try:
            config.stash[_SHARED] = _share_server(config)
        except (OSError, RuntimeError):  # the latter of pytest-socket
            config.stash[_SHARED] = {}
    node.workerinput[SERVER_KEY] = config.stash[_SHARED]


def _share_server(config: pytest.Config) -> dict[str, Any]:
    """Listen for workers until the end of the run, and return the address.

    A thread imports and starts the server at the first connection: a suite without sandboxes does not pay for it.
    """
    from oceanmock.admin_client import new_token  # noqa: PLC0415 (only under xdist)

    host = str(config.getini("oceanmock_host"))
    listener = socket.create_server((host, 0))
    stopped, stopping = socket.socketpair()
    name, port = listener.getsockname()
    url = f"http://{'127.0.0.1' if name == '0.0.0.0' else name}:{port}"  # noqa: S104 (to dial)
    address = {"host": host, "url": url, "token": new_token(host)}

    def serve() -> None:
        with listener, stopped:
            ready, _, _ = select([listener, stopped], [], [])
            if stopped in ready:
                return
            from oceanmock.apis import make_sandbox  # noqa: PLC0415 (slow)
            from oceanmock.http.app import create_app  # noqa: PLC0415
            from oceanmock.http.server import Server  # noqa: PLC0415

            with Server(create_app(make_sandbox(), token=address["token"]), host=host, listener=listener):
                stopped.recv(1)

    thread = Thread(target=serve, name="oceanmock", daemon=True)
    thread.start()
    config.add_cleanup(thread.join)
    config.add_cleanup(stopping.close)  # which is called first
    return address


def pytest_report_header(config: pytest.Config) -> list[str]:
    url = config.option.oceanmock_url
    return [f"oceanmock: {url}"] if url else []


@pytest.fixture(scope="session")
def oceanmock_host(pytestconfig: pytest.Config) -> str:
    """Return the address of the session's server: 127.0.0.1, or `oceanmock_host` of the ini file.

    Define a fixture of this name in a conftest.py to change it.
    """
    return str(pytestconfig.getini("oceanmock_host"))


@pytest.fixture(scope="session")
def oceanmock_tls() -> SSLContext | None:
    """Return the TLS context of the session's server: None, for plain HTTP.

    Define a fixture of this name in a conftest.py to change it: a context for servers
    (`ssl.PROTOCOL_TLS_SERVER`); with --oceanmock-url, one for clients.
    """
    return None


@pytest.fixture(scope="session")
def oceanmock_options() -> Mapping[str, Any]:
    """Return the options of sandboxes where no mark gives others: none.

    Define a fixture of this name in a conftest.py to change them:

        @pytest.fixture(scope="session")
        def oceanmock_options():
            return {"progression": "manual", "strict": True}  # the mark's keywords
    """
    return {}


@pytest.fixture(scope="session")
def oceanmock_server(
    request: pytest.FixtureRequest, oceanmock_host: str, oceanmock_tls: SSLContext | None
) -> Iterator[Mock]:
    """Return the session's server: in this process on a free port, or at --oceanmock-url.

    Workers of xdist share one in the controller's process, unless `oceanmock_tls` or `oceanmock_host` is redefined, and
    a sandbox that is given a name there has the worker's added: `shared-gw0`.

    A test that needs more sandboxes, or a fixture of a class or module, makes them here:

        @pytest.fixture(scope="module")
        def cluster(oceanmock_server):
            with oceanmock_server.obshell("initialize-cluster-fails") as obshell:
                yield obshell

    Sandboxes that are still open at the end are deleted.
    """
    from oceanmock.pytest_plugin.sandboxes import session_server  # noqa: PLC0415 (slow)

    yield from session_server(request.session, host=oceanmock_host, tls=oceanmock_tls)


@pytest.fixture
def ocp(request: pytest.FixtureRequest, oceanmock_server: Mock, oceanmock_options: Mapping[str, Any]) -> Iterator[Ocp]:
    """Return a sandbox of OCP for one test: its url, auth, clock, journal, faults and tasks.

    Its tasks come from a mark, from `ocp.load(…)` or from `ocp.task(name, […])`:

        @pytest.mark.oceanmock("retry-failed-subtask")
        def test_client_retries(ocp):
            client = Client(ocp.url, auth=ocp.auth, sleep=ocp.clock.sleep)

            client.bring_to_success(1000)

            ocp.task(1000).assert_status("SUCCESSFUL")
            ocp.journal.assert_called("retrySubtask", times=1, subtask=1002)

    In a unittest.TestCase under @pytest.mark.usefixtures("ocp") it is `self.ocp`.
    """
    from oceanmock.pytest_plugin.sandboxes import sandbox_of_test  # noqa: PLC0415 (slow)

    yield from sandbox_of_test(request, oceanmock_server, api="ocp", options=oceanmock_options)


@pytest.fixture
def obshell(
    request: pytest.FixtureRequest, oceanmock_server: Mock, oceanmock_options: Mapping[str, Any]
) -> Iterator[Obshell]:
    """Return a sandbox of obshell for one test: its url, auth, sdk(), clock, faults and dags.

    Its dags come from a mark, from `obshell.load(…)` or from `obshell.dag(name, […])`:

        @pytest.mark.oceanmock("initialize-cluster-fails", progression="manual")
        def test_dag_fails(obshell):
            client = obshell.sdk()  # the vendor's

            obshell.clock.advance("10s")

            assert client.get_dag(obshell.dag(4).id).state == "FAILED"

    In a unittest.TestCase under @pytest.mark.usefixtures("obshell") it is `self.obshell`.
    """
    from oceanmock.pytest_plugin.sandboxes import sandbox_of_test  # noqa: PLC0415 (slow)

    yield from sandbox_of_test(request, oceanmock_server, api="obshell", options=oceanmock_options)


@pytest.fixture(scope="session")
def conformance() -> ConformanceFixture:
    """Return what checks a server against its API's contract: `conformance(url, api="ocp", …)`.

    It only reads, unless `write=True` and `tasks=[…]` name tasks that it may operate:

        def test_our_server_keeps_the_contract(conformance, our_server):
            run = conformance(our_server.url, api="ocp", auth=("admin", "secret"))
            run.report("html", "conformance.html")
            run.assert_passed()

    It needs `pip install "oceanmock[conform]"`.
    """
    from oceanmock.conformance import check_extra  # noqa: PLC0415 (with the next import)

    check_extra()
    from oceanmock.conformance.run import ConformanceFixture  # noqa: PLC0415 (slow)

    return ConformanceFixture()
