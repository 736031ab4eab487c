"""The plugin with a server elsewhere (--oceanmock-url), and with the workers of xdist."""

from __future__ import annotations

import json
import socket
import ssl
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from golden import assert_golden
from oceanmock import Mock
from plugin_runs import QUIET, output, run, run_apart

LOCALHOST = IPv4Address("127.0.0.1")
MANY = """
from random import Random
import httpx, pytest

@pytest.fixture(scope="session")
def client():
    with httpx.Client(verify=False, trust_env=False) as client:
        yield client

@pytest.mark.parametrize("turn", Random(7).sample(range(200), 200))
@pytest.mark.oceanmock("retry-failed-subtask", progression="manual")
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
HIDDEN = """
from contextlib import nullcontext
from freezegun import freeze_time

@pytest.fixture(autouse=True)
def surroundings(request, turn):
    if turn % 3 == 1:
        request.getfixturevalue("fs")
    with freeze_time("2020-01-01") if turn % 3 == 2 else nullcontext():
        yield
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

@pytest.mark.oceanmock("retry-failed-subtask", progression="manual", strict=True)
def test_it(ocp, oceanmock_server):
    assert not oceanmock_server.is_local
    assert ocp.name.startswith("test-it-")
    with httpx.Client(base_url=ocp.url, auth=ocp.auth) as client:
        ocp.clock.advance("10s")
        client.get("/api/v2/tasks/instances/1000")
    ocp.journal.assert_called("getTaskInstance", times=1)
    ocp.task(1000).assert_status("FAILED")

@pytest.mark.oceanmock({"summary": "s", "api": "ocp", "tasks": [{"id": 9, "subtasks": ["a"]}]})
def test_inline(ocp):
    assert [task.id for task in ocp.tasks()] == [9]

@pytest.mark.oceanmock("initialize-cluster-fails")
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

@pytest.mark.oceanmock("retry-faild-subtask")
def test_is_never_run(obshell, ocp): ...

def test_forgets(oceanmock_server): oceanmock_server.ocp()
""",
        *("--oceanmock-url", server.url),
    )

    result.assert_outcomes(failed=1, passed=2, errors=2)
    result.stdout.fnmatch_lines(["*no scenario 'retry-faild-subtask' on the server. Did you mean*"])
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

@pytest.mark.oceanmock("retry-failed-subtask", progression="manual")
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


def test_credentials_of_obshell_are_sealed_over_tls(pytester: pytest.Pytester) -> None:
    make_certificate(pytester.path)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain("certificate.pem", "key.pem")
    trust = ssl.create_default_context(cafile="certificate.pem")

    with Mock.start(tls=own) as mock:
        obshell = mock.obshell("initialize-cluster-fails")
        dag = f"{obshell.url}/api/v1/task/dag/{obshell.dag(4).id}"
        answer = httpx.get(dag, auth=obshell.auth, verify=trust)

    assert answer.status_code == 200


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


@pytest.mark.slow
@pytest.mark.exhaustive
def test_two_hundred_tests_of_four_workers_pass_with_hidden_files_and_a_stopped_time(pytester: pytest.Pytester) -> None:
    result = run_apart(pytester, MANY + HIDDEN, "-n4", "-p", "pyfakefs.pytest_plugin")

    result.assert_outcomes(passed=200)


SHARING = """
import json, os, pytest, signal, sys

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")

@pytest.fixture(autouse=True)
def line(oceanmock_server):
    with open("lines", "a") as file:
        print(json.dumps([WORKER, oceanmock_server.url, oceanmock_server.is_local]), file=file)

@pytest.mark.parametrize("turn", range(6))
@pytest.mark.oceanmock("retry-failed-subtask")
def test_it(ocp, oceanmock_server, turn):
    assert oceanmock_server.is_local or {"connexion", "pydantic", "uvicorn"}.isdisjoint(sys.modules)
    with oceanmock_server.ocp("retry-failed-subtask", name="mine") as named:
        assert named.name == ("mine" if oceanmock_server.is_local else f"mine-{WORKER}")
"""
ENDS = {
    "assert False": "a worker's test fails",
    "os._exit(3)": "a worker crashes",
    "os.kill(os.getppid(), signal.SIGINT)": "the controller is interrupted",
}


def servers_of(pytester: pytest.Pytester) -> dict[str, set[str]]:
    """Return the servers that the workers used, each with its workers; none of them responds any more."""
    lines = [json.loads(line) for line in pytester.path.joinpath("lines").read_text().splitlines()]
    servers: dict[str, set[str]] = {}
    for worker, url, _ in lines:
        servers.setdefault(url, set()).add(worker)
    for url in servers:
        with socket.socket() as client:
            assert client.connect_ex((urlsplit(url).hostname, urlsplit(url).port)) != 0
    return servers


@pytest.mark.slow
@pytest.mark.parametrize("options", [["-n2"], ["--dist=each", "--tx=2*popen"]], ids=str)
def test_workers_use_the_controller_s_server_and_import_none(pytester: pytest.Pytester, options: list[str]) -> None:
    result = run_apart(pytester, SHARING, *options)

    assert result.ret == pytest.ExitCode.OK
    assert [*servers_of(pytester).values()] == [{"gw0", "gw1"}]


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS, ids=ENDS.values())
def test_the_server_of_the_controller_ends_with_the_run_however_that_ends(pytester: pytest.Pytester, end: str) -> None:
    result = run_apart(pytester, f"{SHARING}\ndef test_end(ocp): {end}\n", "-n2", "--maxfail=1")

    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    assert len(servers_of(pytester)) == 1


@pytest.mark.slow
def test_the_worker_after_one_that_crashed_uses_the_same_server(pytester: pytest.Pytester) -> None:
    result = run_apart(pytester, f"{SHARING}\ndef test_end(ocp): os._exit(3)\n", "-n1")

    result.assert_outcomes(passed=6, failed=1)
    assert [*servers_of(pytester).values()] == [{"gw0"}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("conftest", "options"),
    [
        ("def oceanmock_host(): return '127.0.0.5'", ["-n2"]),
        ("def oceanmock_tls(): return CONTEXT", ["-n2"]),
        ("def oceanmock_server():\n    with Mock.start() as mock: yield mock", ["-n2"]),
        ("def unused(): ...", ["--dist=load", f"--tx=2*popen//python={sys.executable}"]),
        ("def unused(): ...", ["-pno:xdist"]),
    ],
    ids=["host", "tls", "server", "python", "no xdist"],
)
def test_a_worker_that_needs_another_server_has_one_of_its_own(
    pytester: pytest.Pytester, conftest: str, options: list[str]
) -> None:
    make_certificate(pytester.path)
    pytester.makeconftest(
        "import pytest, ssl\nfrom oceanmock import Mock\n"
        "CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
        f"CONTEXT.load_cert_chain('certificate.pem', 'key.pem')\n@pytest.fixture(scope='session')\n{conftest}\n"
    )

    result = run_apart(pytester, SHARING, *options)

    result.assert_outcomes(passed=6)
    assert sorted(map(len, servers_of(pytester).values())) == [1] * (1 if "-pno:xdist" in options else 2)


@pytest.mark.slow
def test_the_controller_starts_no_server_for_a_suite_that_uses_none(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys\ndef pytest_unconfigure(): assert 'uvicorn' not in sys.modules")

    result = run_apart(pytester, "def test_it(): ...", "-n2")

    assert result.ret == pytest.ExitCode.OK


@pytest.mark.slow
def test_a_test_has_the_same_tasks_and_seed_with_xdist_as_without(pytester: pytest.Pytester) -> None:
    text = """
import json, pytest

@pytest.mark.parametrize("turn", range(4))
@pytest.mark.oceanmock("many-tasks", "initialize-cluster-fails", starts_at="2024-01-10T06:00:00Z")
def test_it(ocp, obshell, turn):
    pairs = [(ocp.seed, [task.json() for task in ocp.tasks()[:50]]), (obshell.seed, obshell.dag(4).json())]
    with open(f"{turn}.json", "w") as file:
        json.dump(pairs, file)
"""
    runs = []
    for options in (["-n0"], ["-n2"]):
        run_apart(pytester, text, *options).assert_outcomes(passed=4)
        runs.append([pytester.path.joinpath(f"{turn}.json").read_text() for turn in range(4)])

    assert runs[0] == runs[1]
