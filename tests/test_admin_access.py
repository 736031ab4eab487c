"""Access to the admin API from this machine and others; its answers where the server itself is at its limits.

test_admin_api checks what each operation does, through the public names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from in_process import Ask, asking
from kit_world import FAR, NEAR, World, served_app
from oceanmock import running
from oceanmock.cli import main
from oceanmock.engine.sandboxes import Sandboxes
from oceanmock.errors import EnvironmentProblem
from oceanmock.http import ScenarioCatalog
from oceanmock.http.admin import service
from oceanmock.http.server import Server
from oceanmock.library import library_names, read_scenario
from oceanmock.openapi import load_spec, operations_of, spec_path
from served import error_of


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def admin(world: World) -> Ask:
    ask = asking(world)
    return lambda method, path, **options: ask(method, f"/__admin{path}", auth=None, **options)


# --- who asks -------------------------------------------------------------------------------------

OPEN = {"getIndex", "getHealth", "getReadiness"}
PATHS = {"sandbox": "default", "fault": "f", "api": "ocp", "task": "35000312"}
OPERATIONS = operations_of(load_spec(spec_path("admin")))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.id)
def test_every_operation_of_a_server_with_a_token_asks_everybody_for_it(operation: Any) -> None:
    for client in (FAR, NEAR, None):
        ask = asking(World(token="secret", client=client))

        answer = ask(operation.method, operation.path.format_map(PATHS), auth=None)

        if operation.id in OPEN:
            assert answer.status_code == 200
        else:
            assert "needs the token" in error_of(answer, 401)
            assert answer.headers["www-authenticate"] == 'Bearer realm="oceanmock"'


@pytest.mark.parametrize("headers", [{"X-Oceanmock-Token": "secret"}, {"Authorization": "Bearer secret"}])
def test_with_the_token_it_answers_anybody(headers: dict[str, str]) -> None:
    ask = asking(World(token="secret", client=FAR))

    assert ask("GET", "/__admin/sandboxes", auth=None, headers=headers).status_code == 200


@pytest.mark.parametrize("token", [(), ("--admin-token", "wrong")])
def test_without_the_right_token_it_is_asked_for(token: tuple[str, ...]) -> None:
    with Server(World(token="secret", client=FAR)) as server:
        result = CliRunner().invoke(main, ["tasks", "--url", server.url, *token])

    assert result.exit_code == 2
    assert "OCEANMOCK_ADMIN_TOKEN" in result.stderr


def test_a_token_is_read_from_the_environment_and_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    with Server(World(token="secret", client=FAR)) as server:
        env = {"OCEANMOCK_URL": server.url, "OCEANMOCK_ADMIN_TOKEN": "secret"}
        by_variable = CliRunner().invoke(main, ["tasks"], env=env)
        env["OCEANMOCK_ADMIN_TOKEN"] = "wrong"
        by_file = CliRunner().invoke(main, ["tasks", "--admin-token-file", str(tmp_path / "token")], env=env)

    assert (by_variable.exit_code, by_file.exit_code) == (0, 0)


def test_a_client_in_python_reads_the_token_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCEANMOCK_ADMIN_TOKEN", "secret")

    with Server(World(token="secret", client=FAR)) as server, running(url=server.url) as ocp:
        assert ocp.clock.now()


@pytest.mark.parametrize("client", [FAR, ("127.0.0.1", 1), None])
@pytest.mark.parametrize(
    "headers",
    [
        {"X-Oceanmock-Token": "Secret"},
        {"X-Oceanmock-Token": ""},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic c2VjcmV0"},
        {"X-Oceanmock-Token": "secret", "Authorization": "Bearer wrong"},
    ],
)
def test_a_wrong_token_is_refused_whoever_shows_it(headers: dict[str, str], client: tuple[str, int] | None) -> None:
    ask = asking(World(token="secret", client=client))

    answer = ask("GET", "/__admin/sandboxes", auth=None, headers=headers)

    assert error_of(answer, 401) == "This is not the token of the server."


@pytest.mark.parametrize("client", [("127.0.0.1", 1), ("127.8.9.1", 1), ("::1", 1), ("::ffff:127.0.0.1", 1), None])
def test_from_the_same_machine_a_server_without_a_token_needs_none(client: tuple[str, int] | None) -> None:
    ask = asking(World(client=client))

    assert ask("GET", "/__admin/sandboxes", auth=None, headers={"X-Oceanmock-Token": "any"}).status_code == 200


@pytest.mark.parametrize("client", [FAR, ("::ffff:192.0.2.7", 1), ("", 0), ("localhost.evil", 1)])
@pytest.mark.parametrize("headers", [{}, {"X-Oceanmock-Token": ""}, {"X-Oceanmock-Token": "x"}])
def test_without_a_token_of_its_own_a_server_lets_nobody_in_from_elsewhere(
    client: tuple[str, int], headers: dict[str, str]
) -> None:
    ask = asking(World(client=client))

    assert ask("GET", "/__admin/sandboxes", auth=None, headers=headers).status_code == 401


# --- the server ----------------------------------------------------------------------------------


def test_every_operation_of_the_contract_has_its_handler() -> None:
    handled = service(served_app())

    assert set(handled.handlers) == {operation.id for operation in OPERATIONS}


def test_a_mistake_of_the_mock_s_own_says_no_more_than_that(world: World, admin: Ask) -> None:
    world.sandboxes.default.faults = None  # type: ignore[assignment]

    answer = admin("GET", "/sandboxes/default/faults")

    assert error_of(answer, 500) == "oceanmock has made a mistake."


def test_what_the_server_was_started_with_can_be_played_by_name(world: World, admin: Ask) -> None:
    text = "summary: Mine\napi: ocp\ntasks: [{id: 1, subtasks: [a]}]"
    world.kit.catalog = ScenarioCatalog([read_scenario(text, path="my/own.yaml")])

    made = admin("POST", "/sandboxes", json={"scenarios": ["own"]})

    assert made.json()["tasks"] == 1
    names = [each["name"] for each in admin("GET", "/scenarios").json()["scenarios"]]
    assert names == sorted([*library_names(), "own"])


def test_too_many_sandboxes_are_refused(world: World) -> None:
    few = World()
    few.kit.sandboxes = Sandboxes(world.sandboxes.default, limit=1)

    answer = asking(few)("POST", "/__admin/sandboxes", json={})

    assert "there are 1 sandboxes already" in error_of(answer, 409)


# --- ports ----------------------------------------------------------------------------------------


class SomePorts:
    """Ports that are only said to be open."""

    has_tls = False

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.closed: list[int] = []

    def open(self, port: int = 0) -> int:
        self.opened.append(41000 + len(self.opened))
        return self.opened[-1]

    def close(self, port: int) -> None:
        self.closed.append(port)


class NoPorts(SomePorts):
    def open(self, port: int = 0) -> int:
        raise EnvironmentProblem("cannot listen on 127.0.0.1:0: Too many open files.")


def test_a_sandbox_with_a_port_of_its_own_is_reached_there(world: World, admin: Ask) -> None:
    world.ports = SomePorts()

    made = admin("POST", "/sandboxes", json={"name": "t1", "own_port": True}).json()

    assert made["urls"]["port"] == "http://127.0.0.1:41000"
    assert world.sandboxes.ports == {41000: "t1"}


def test_its_port_is_closed_with_it(world: World, admin: Ask) -> None:
    world.ports = ports = SomePorts()
    admin("POST", "/sandboxes", json={"name": "t1", "own_port": True})

    admin("DELETE", "/sandboxes/t1")

    assert ports.closed == ports.opened
    assert world.sandboxes.ports == {}


def test_where_no_port_can_be_had_no_sandbox_is_left_behind(world: World, admin: Ask) -> None:
    world.ports = NoPorts()

    answer = admin("POST", "/sandboxes", json={"name": "t1", "own_port": True})

    assert error_of(answer, 409) == "cannot listen on 127.0.0.1:0: Too many open files."
    assert len(world.sandboxes) == 1


def test_a_server_that_cannot_open_ports_says_so(admin: Ask) -> None:
    answer = admin("POST", "/sandboxes", json={"own_port": True})

    assert "leave out `own_port`" in error_of(answer, 409)


@pytest.mark.parametrize(
    ("host", "path", "port"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080/sandboxes/t1", "http://127.0.0.1:41000"),
        ("[::1]:8080", "http://[::1]:8080/sandboxes/t1", "http://[::1]:41000"),
        ("mock.test", "http://mock.test/sandboxes/t1", "http://mock.test:41000"),
        ("a b'<>\"", "/sandboxes/t1", "http://127.0.0.1:41000"),
        ("[", "http://[/sandboxes/t1", "http://127.0.0.1:41000"),
    ],
)
def test_urls_are_those_under_which_the_client_knows_the_server(
    world: World, admin: Ask, host: str, path: str, port: str
) -> None:
    world.kit.token, world.ports = "secret", SomePorts()
    headers = {"host": host, "X-Oceanmock-Token": "secret"}

    made = admin("POST", "/sandboxes", json={"name": "t1", "own_port": True}, headers=headers)

    assert made.json()["urls"] == {"path": path, "port": port}
