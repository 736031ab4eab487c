"""A server behind a reverse proxy that serves it under the path /mock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
from click.testing import CliRunner, Result

from oceanmock import Mock
from oceanmock.cli import main
from plugin_runs import run
from served import MANAGER, client

TASK = "/api/v2/tasks/instances/1000"
HOP_BY_HOP = {"connection", "content-length", "transfer-encoding"}


@contextmanager
def proxy_of(target: str, headers: dict[str, str]) -> Iterator[str]:
    """Serve another server under /mock on a port, and add headers to each request."""

    class Proxy(BaseHTTPRequestHandler):
        def forward(self) -> None:
            if not self.path.startswith("/mock/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            sent = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            url = target + self.path.removeprefix("/mock")
            answer = client().request(self.command, url, content=body, headers=sent | headers)
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PATCH = do_DELETE = forward  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/mock"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def mock() -> Iterator[Mock]:
    with Mock.start() as mock:
        yield mock


@pytest.fixture(scope="module")
def proxy(mock: Mock) -> Iterator[str]:
    """Return the URL of a proxy that sends its prefix."""
    with proxy_of(mock.url, {"X-Forwarded-Prefix": "/mock"}) as url:
        yield url


@pytest.fixture(scope="module")
def plain_proxy(mock: Mock) -> Iterator[str]:
    """Return the URL of a proxy that sends no prefix, and its own idea of the host."""
    with proxy_of(mock.url, {"Host": "localhost"}) as url:
        yield url


@pytest.fixture
def command(mock: Mock) -> Iterator[Callable[..., Result]]:
    """Return a function that runs a command; delete the sandbox t1 afterwards."""
    yield lambda *words: CliRunner().invoke(main, [*words])
    mock.admin.sandbox("t1").delete()


@pytest.mark.parametrize("via", ["proxy", "plain_proxy"])
def test_commands_keep_the_path_of_the_url(
    command: Callable[..., Result], request: pytest.FixtureRequest, via: str
) -> None:
    url = request.getfixturevalue(via)

    created = command("sandbox", "create", "retry-failed-subtask", "--name", "t1", "--url", f"{url}/")
    listed = command("sandbox", "list", "--url", url)

    assert created.stdout == f"{url}/sandboxes/t1\n"
    assert f"{url}/sandboxes/t1 " in listed.stdout
    assert httpx.get(created.stdout.strip() + TASK, auth=MANAGER).status_code == 200
    assert command("wait", url).exit_code == 0


def test_the_path_of_a_url_counts(command: Callable[..., Result], proxy: str) -> None:
    result = command("sandbox", "list", "--url", proxy.removesuffix("/mock") + "/other")

    assert "is no oceanmock" in result.stderr


@pytest.mark.parametrize("via", ["proxy", "plain_proxy"])
def test_handles_reach_their_sandbox_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, via: str
) -> None:
    url = request.getfixturevalue(via)
    monkeypatch.setattr("oceanmock.client._accepts_connections", lambda port_url: False)

    with Mock.attach(url).ocp("retry-failed-subtask") as ocp:
        assert ocp.url == f"{url}/sandboxes/{ocp.name}"
        assert httpx.get(ocp.url + TASK, auth=ocp.auth).status_code == 200
        ocp.journal.assert_called("getTaskInstance", times=1)


def test_the_plugin_keeps_the_path_of_its_url(pytester: pytest.Pytester, proxy: str) -> None:
    text = f"""
import pytest

@pytest.mark.oceanmock("retry-failed-subtask", progression="manual")
def test_it(ocp, oceanmock_server):
    assert oceanmock_server.url == {proxy!r}
    ocp.clock.advance("10s")
    ocp.task(1000).assert_status("FAILED")
"""
    run(pytester, text, "--oceanmock-url", proxy).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("sent", "prefix"),
    [
        ("/mock", "/mock"),
        ("/mock/", "/mock"),
        ("/ci/mock-2/~me_", "/ci/mock-2/~me_"),
        ("/", ""),
        ("mock", ""),
        ("//evil.example", ""),
        ("/mock/../x", ""),
        ("/mock/.", ""),
        ("/mock?x=1", ""),
        ("/mock#x", ""),
        ("/a b", ""),
        ("/%2e%2e", ""),
        ("/@evil.example", ""),
        ("/a, /b", ""),
        ("/" + "a" * 300, ""),
    ],
)
def test_a_clean_prefix_is_put_in_front_of_the_paths_that_are_returned(mock: Mock, sent: str, prefix: str) -> None:
    headers = {"X-Forwarded-Prefix": sent}

    sandbox = client().get(f"{mock.url}/__admin/sandboxes/default", headers=headers).json()
    index = client().get(mock.url, headers=headers).json()

    assert sandbox["urls"]["path"] == f"{mock.url}{prefix}/sandboxes/default"
    assert index["links"]["ready"] == f"{prefix}/__admin/ready"
