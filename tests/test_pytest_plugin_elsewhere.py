"""The plugin with a server elsewhere (--oceanmock-url), and with the workers of xdist."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from golden import assert_golden
from oceanmock import Mock
from plugin_runs import QUIET, output, run, run_apart

LOCALHOST = IPv4Address("127.0.0.1")
MANY = """
import httpx, pytest

@pytest.fixture(scope="session")
def client():
    with httpx.Client(verify=False) as client:
        yield client

@pytest.mark.parametrize("turn", range(200))
@pytest.mark.scenario("retry-failed-subtask", progression="manual")
def test_it(ocp, client, turn):
    task, client.auth = f"{ocp.url}/api/v2/tasks/instances/1000", ocp.auth
    assert client.get(task).json()["data"]["status"] == "RUNNING"
    ocp.clock.advance("10s")
    assert client.get(task).json()["data"]["status"] == "FAILED"
    assert client.post(f"{task}/subtasks/1002/retry").status_code == 200
    ocp.clock.advance("10s")
    assert client.get(task).json()["data"]["status"] == "SUCCESSFUL"
    assert len(ocp.journal) == 4
    ocp.journal.assert_called("retrySubtask", times=1, subtask=1002)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Mock]:
    with Mock.start() as mock:
        yield mock


def sandboxes_of(mock: Mock) -> list[str]:
    """What is left on a server."""
    return [each["name"] for each in mock.admin.ask("GET", "/sandboxes")["sandboxes"]]


# --- elsewhere ------------------------------------------------------------------------------------


def test_the_same_tests_run_against_a_server_elsewhere(pytester: pytest.Pytester, server: Mock) -> None:
    text = """
import httpx, pytest

@pytest.mark.scenario("retry-failed-subtask", progression="manual", strict=True)
def test_it(ocp, oceanmock_server):
    assert not oceanmock_server.is_local
    assert ocp.name.startswith("test-it-")
    with httpx.Client(base_url=ocp.url, auth=ocp.auth) as client:
        ocp.clock.advance("10s")
        client.get("/api/v2/tasks/instances/1000")
    ocp.journal.assert_called("getTaskInstance", times=1)
    ocp.task(1000).assert_status("FAILED")

@pytest.mark.scenario({"summary": "s", "api": "ocp", "tasks": [{"id": 9, "subtasks": ["a"]}]})
def test_inline(ocp):
    assert [task.id for task in ocp.tasks()] == [9]

@pytest.mark.scenario("initialize-cluster-fails")
def test_obshell(obshell):
    assert len(obshell.dags()) == 1
"""
    result = run(pytester, text, "--oceanmock-url", server.url)

    result.assert_outcomes(passed=3)
    assert sandboxes_of(server) == ["default"]


@pytest.mark.parametrize("said", ["environment", "ini"])
def test_where_it_is_may_be_said_once_and_for_all(
    pytester: pytest.Pytester, server: Mock, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    url = {said: server.url}
    monkeypatch.setenv("OCEANMOCK_URL", url.get("environment", ""))

    result = run(
        pytester,
        f"def test_it(oceanmock_server): assert oceanmock_server.url == {server.url!r}",
        *("-o", f"oceanmock_url={url.get('ini', '')}"),
    )

    result.assert_outcomes(passed=1)


def test_a_sandbox_is_deleted_however_its_test_ends(pytester: pytest.Pytester, server: Mock) -> None:
    result = run(
        pytester,
        """
import pytest

@pytest.fixture
def broken(ocp):
    yield
    raise RuntimeError

def test_fails(ocp): assert False

def test_fails_later(broken): ...

@pytest.mark.scenario("retry-faild-subtask")
def test_is_never_run(obshell, ocp): ...

def test_forgets(oceanmock_server): oceanmock_server.ocp()
""",
        *("--oceanmock-url", server.url),
    )

    result.assert_outcomes(failed=1, passed=2, errors=2)
    result.stdout.fnmatch_lines(["*knows no scenario 'retry-faild-subtask'. Did you mean*"])
    assert sandboxes_of(server) == ["default"]


def test_a_server_that_is_not_there_is_told_before_the_run(pytester: pytest.Pytester) -> None:
    result = run(pytester, MANY, "--oceanmock-url", "http://127.0.0.1:9")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert_golden("plugin-no-server.txt", "\n".join(result.errlines).strip() + "\n")


def test_tests_are_listed_without_the_server_that_they_will_use(pytester: pytest.Pytester) -> None:
    result = run(pytester, MANY, "--oceanmock-url", "http://127.0.0.1:9", "--collect-only")

    assert result.ret == pytest.ExitCode.OK


def test_a_server_that_a_suite_need_not_use_is_told_by_the_first_test_that_does(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCEANMOCK_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("COLUMNS", "100")

    unused = run(pytester, "def test_it(): ...")
    used = run(pytester, MANY)

    unused.assert_outcomes(passed=1)
    used.assert_outcomes(errors=1)
    assert_golden("plugin-no-server-in-use.txt", output(used))


def test_a_server_that_goes_away_ends_the_run(pytester: pytest.Pytester) -> None:
    with Mock.start() as going:
        pytester.makepyfile(MANY)

        result = pytester.runpytest_inprocess(*QUIET, "--oceanmock-url", going.url, plugins=[Stopping(going)])

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*Interrupted: nothing responds at http://*"])


class Stopping:
    """A plugin that stops a server once a test is done with it."""

    def __init__(self, mock: Mock) -> None:
        self.mock = mock

    def pytest_runtest_logfinish(self) -> None:
        """Stops it."""
        self.mock.stop()


# --- TLS ------------------------------------------------------------------------------------------

TRUSTING = """
import ssl, httpx, pytest

@pytest.fixture(scope="session")
def oceanmock_tls():
    {context}
    return context

@pytest.mark.scenario("retry-failed-subtask", progression="manual")
def test_it(ocp):
    assert ocp.url.startswith("https://127.0.0.1:")
    trust = ssl.create_default_context(cafile="certificate.pem")
    with httpx.Client(base_url=ocp.url, auth=ocp.auth, verify=trust) as client:
        client.get("/api/v2/tasks/instances/1000")
    ocp.journal.assert_called("getTaskInstance", times=1)
"""


def test_a_server_in_this_process_speaks_tls_by_the_context_it_is_given(pytester: pytest.Pytester) -> None:
    make_certificate(pytester.path)
    context = "context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n    "
    context += 'context.load_cert_chain("certificate.pem", "key.pem")'

    result = run(pytester, TRUSTING.format(context=context))

    result.assert_outcomes(passed=1)


def test_a_server_elsewhere_is_reached_by_the_context_that_is_given(pytester: pytest.Pytester) -> None:
    make_certificate(pytester.path)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain("certificate.pem", "key.pem")
    context = 'context = ssl.create_default_context(cafile="certificate.pem")'

    with Mock.start(tls=own) as secure:
        trusting = run(pytester, TRUSTING.format(context=context), "--oceanmock-url", secure.url)
        wary = run(pytester, "def test_it(ocp): ...", "--oceanmock-url", secure.url)

    trusting.assert_outcomes(passed=1)
    wary.assert_outcomes(errors=1)
    wary.stdout.fnmatch_lines(["nothing responds at https://127.0.0.1:* (*CERTIFICATE_VERIFY*"])


def make_certificate(folder: Path) -> None:
    """A key and a certificate of 127.0.0.1, that nobody has signed but itself."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(LOCALHOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(form))
    (folder / "key.pem").write_bytes(
        key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


# --- xdist ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_hundred_tests_of_four_workers_on_one_server_do_not_meet(pytester: pytest.Pytester, server: Mock) -> None:
    result = run_apart(pytester, MANY, "-n4", "--oceanmock-url", server.url)

    result.assert_outcomes(passed=200)
    assert sandboxes_of(server) == ["default"]
