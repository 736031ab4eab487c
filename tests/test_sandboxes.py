"""sandboxes.py and app.py: which sandboxes there are, which one a request means, and no other.

One rule a test. Most are asked in process; ports and what clients would not send need a socket.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Callable, Iterator
from email.utils import formatdate
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obshell import ClientSet
from obshell.auth import PasswordAuth

import obshell_client as client
from in_process import AFTERNOON, REINSTALL, Ask, asking, sandbox_of, spec_of
from obshell_sdk import local
from obshell_world import INIT, KEYS
from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.log import Accounts, SandboxSpec, User
from oceanmock.engine.sandbox import Sandboxes, SandboxTaken, TooManySandboxes
from oceanmock.engine.store import NoSuchSandbox
from oceanmock.errors import AuthorError, EnvironmentProblem
from oceanmock.http.app import App
from oceanmock.http.server import Server
from oceanmock.library import read_scenario
from oceanmock.obshell.scenario import Agent
from oceanmock.obshell.world import Dags
from oceanmock.ocp.world import Tasks
from serving_app import MANAGER, OnLoop, Serving, ports_of, serving_app

TASKS: Final = "/api/v2/tasks/instances"
TASK: Final = f"{TASKS}/35000312"
RETRY: Final = f"{TASK}/subtasks/13000333/retry"
HEADER: Final = "X-Oceanmock-Sandbox"
DAG: Final = "/api/v1/task/dag/22130706433028864"


def made(text: str = REINSTALL, **options: Any) -> SandboxSpec:
    """The specification of a sandbox."""
    return spec_of(text, **options)


def registry(**options: Any) -> Sandboxes:
    """Sandboxes, of which there is but the default one."""
    return Sandboxes(sandbox_of(REINSTALL), **options)


# --- creating -------------------------------------------------------------------------------------


def test_there_is_always_a_default_sandbox() -> None:
    default = sandbox_of(REINSTALL)

    sandboxes = Sandboxes(default)

    assert list(sandboxes) == [default]
    assert sandboxes.get("default") is sandboxes.default is default


def test_a_sandbox_that_was_created_is_found_by_its_name() -> None:
    sandboxes = registry()

    sandbox = sandboxes.create("mine", made())

    assert sandboxes.get("mine") is sandbox
    assert sandbox.name == "mine"
    assert len(sandboxes) == 2


def test_a_sandbox_without_a_name_is_given_one() -> None:
    sandboxes = registry()

    names = [sandboxes.create(None, made()).name for _ in range(2)]

    assert names == ["sandbox-1", "sandbox-2"]


def test_a_name_that_is_made_up_is_nobody_elses() -> None:
    sandboxes = registry()
    sandboxes.create("sandbox-1", made())

    assert sandboxes.create(None, made()).name == "sandbox-2"


def test_a_name_that_was_made_up_is_not_made_up_again() -> None:
    sandboxes = registry()
    sandboxes.delete(sandboxes.create(None, made()).name)

    assert sandboxes.create(None, made()).name == "sandbox-2"


@pytest.mark.parametrize("name", ["default", "mine"])
def test_a_taken_name_is_refused(name: str) -> None:
    sandboxes = registry()
    mine = sandboxes.create("mine", made())

    with pytest.raises(SandboxTaken) as refused:
        sandboxes.create(name, made())

    assert str(refused.value) == (f"there is a sandbox '{name}' already. Delete it, or choose another name.")
    assert sandboxes.get("mine") is mine


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a/b", "..", ".a", "-a", "_a", "ä", "a\n", "a%20", "a" * 101, "a\x00", "१"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    sandboxes = registry()

    with pytest.raises(AuthorError) as refused:
        sandboxes.create(name, made())

    assert "is no name for a sandbox: letters, digits, dots, dashes" in str(refused.value)
    assert len(sandboxes) == 1


@pytest.mark.parametrize("name", ["a", "A.b-c_d", "0", "a" * 100])
def test_what_is_a_name_is_taken(name: str) -> None:
    assert registry().create(name, made()).name == name


def test_there_may_be_only_so_many() -> None:
    sandboxes = registry(limit=3)
    sandboxes.create(None, made())
    sandboxes.create(None, made())

    with pytest.raises(TooManySandboxes) as refused:
        sandboxes.create(None, made())

    assert str(refused.value) == ("there are 3 sandboxes already. Delete those that are done with.")
    assert len(sandboxes) == 3


def test_one_may_be_created_for_one_that_was_deleted() -> None:
    sandboxes = registry(limit=2)
    sandboxes.create("mine", made())
    sandboxes.delete("mine")

    assert sandboxes.create("yours", made()).name == "yours"


def test_a_sandbox_that_cannot_be_made_is_not_there() -> None:
    sandboxes = registry()

    twice = read_scenario(REINSTALL)

    with pytest.raises(AuthorError, match="Serve them apart"):
        sandboxes.create("mine", SandboxSpec((twice, twice)))

    assert [sandbox.name for sandbox in sandboxes] == ["default"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mime", "there is no sandbox 'mime'. Did you mean 'mine'?"),
        ("zzz", "there is no sandbox 'zzz'."),
        ("", "there is no sandbox ''."),
        ("é" * 5000, f"there is no sandbox '{'é' * 100}…'."),
    ],
)
def test_an_unknown_name_is_told_the_nearest(name: str, message: str) -> None:
    sandboxes = registry()
    sandboxes.create("mine", made())

    with pytest.raises(NoSuchSandbox) as refused:
        sandboxes.get(name)

    assert str(refused.value) == message


# --- resetting and deleting -----------------------------------------------------------------------


def test_a_sandbox_is_reset_to_what_it_was_when_it_was_created() -> None:
    sandboxes = registry()
    before = sandboxes.create("mine", made(seed=7))
    at_first = before.world(Tasks).view(35000312)
    before.clock.advance(60 * SECOND)

    after = sandboxes.reset("mine")

    assert sandboxes.get("mine") is after
    assert (after.name, after.spec.seed, after.clock.now()) == ("mine", 7, AFTERNOON)
    assert after.world(Tasks).view(35000312) == at_first


def test_a_reset_leaves_the_others_as_they_are() -> None:
    sandboxes = registry()
    sandboxes.create("mine", made())
    yours = sandboxes.create("yours", made())
    default = sandboxes.default
    yours.clock.advance(SECOND)

    sandboxes.reset("mine")

    assert sandboxes.get("yours") is yours
    assert yours.clock.now() == AFTERNOON + SECOND
    assert sandboxes.default is default


def test_a_reset_leaves_the_accounts_as_they_are() -> None:
    sandboxes = Sandboxes(sandbox_of(REINSTALL, accounts=Accounts(required=False)))

    assert sandboxes.reset("default").accounts == Accounts(required=False)


def test_a_sandbox_that_was_deleted_is_gone() -> None:
    sandboxes = registry()
    sandboxes.create("mine", made())

    sandboxes.delete("mine")

    with pytest.raises(NoSuchSandbox):
        sandboxes.get("mine")


def test_the_ports_of_a_sandbox_are_freed_when_it_is_deleted() -> None:
    sandboxes = registry()
    sandboxes.create("mine", made())
    sandboxes.create("yours", made())
    sandboxes.ports.update({4001: "mine", 4002: "yours", 4003: "mine"})

    freed = sandboxes.delete("mine")

    assert freed == [4001, 4003]
    assert sandboxes.ports == {4002: "yours"}


def test_the_default_sandbox_is_reset_when_it_is_deleted_and_stays() -> None:
    sandboxes = registry()
    sandboxes.default.clock.advance(SECOND)
    sandboxes.ports[4001] = "default"

    freed = sandboxes.delete("default")

    assert sandboxes.default.clock.now() == AFTERNOON
    assert (freed, sandboxes.ports) == ([], {4001: "default"})


@pytest.mark.parametrize("act", [Sandboxes.reset, Sandboxes.delete])
def test_what_is_not_there_is_neither_reset_nor_deleted(act: Callable[..., Any]) -> None:
    with pytest.raises(NoSuchSandbox):
        act(registry(), "mine")


# --- which one a request means --------------------------------------------------------------------


@pytest.fixture(scope="module")
def app() -> App:
    return App(Sandboxes(make_sandbox(progression="manual")))


@pytest.fixture
def sandboxes(app: App) -> Iterator[Sandboxes]:
    """Three sandboxes: by the default one's clock nothing has happened, in ``b`` all has."""
    app.sandboxes._by_name.clear()
    app.sandboxes._by_name["default"] = sandbox_of(REINSTALL)
    for name, seconds in (("a", 6), ("b", 60)):
        app.sandboxes.create(name, made()).clock.advance(seconds * SECOND)
    yield app.sandboxes
    app.sandboxes.ports.clear()


@pytest.fixture
def ask(app: App, sandboxes: Sandboxes) -> Ask:
    return asking(app)


def asked_of(sandboxes: Sandboxes) -> dict[str, int]:
    """How many requests each sandbox has had."""
    return {sandbox.name: sandbox.journal.count() for sandbox in sandboxes}


def test_a_request_that_names_no_sandbox_means_the_default_one(ask: Ask, sandboxes: Sandboxes) -> None:
    assert ask("GET", TASK).status_code == 200
    assert asked_of(sandboxes) == {"default": 1, "a": 0, "b": 0}


def test_a_header_names_a_sandbox(ask: Ask, sandboxes: Sandboxes) -> None:
    assert ask("GET", TASK, headers={HEADER: "a"}).status_code == 200
    assert asked_of(sandboxes) == {"default": 0, "a": 1, "b": 0}


def test_a_path_names_a_sandbox(ask: Ask, sandboxes: Sandboxes) -> None:
    assert ask("GET", f"/sandboxes/b{TASK}").status_code == 200
    assert asked_of(sandboxes) == {"default": 0, "a": 0, "b": 1}


def test_a_sandbox_named_default_is_the_default_one(ask: Ask, sandboxes: Sandboxes) -> None:
    ask("GET", TASK, headers={HEADER: "default"})
    ask("GET", f"/sandboxes/default{TASK}")

    assert asked_of(sandboxes) == {"default": 2, "a": 0, "b": 0}


def test_each_sandbox_answers_what_has_happened_there(ask: Ask) -> None:
    answers = [ask("GET", path + TASK) for path in ("", "/sandboxes/a", "/sandboxes/b")]

    shown = [(a.json()["timestamp"], a.json()["data"]["status"]) for a in answers]
    assert shown == [
        ("2021-08-25T15:09:31.74+08:00", "RUNNING"),
        ("2021-08-25T15:09:37.74+08:00", "FAILED"),
        ("2021-08-25T15:10:31.74+08:00", "FAILED"),
    ]


@pytest.mark.parametrize(
    ("path", "headers"), [(TASK, {HEADER: "aa"}), (f"/sandboxes/aa{TASK}", {}), ("/sandboxes/aa", {})]
)
def test_an_unknown_sandbox_is_not_found(ask: Ask, sandboxes: Sandboxes, path: str, headers: dict[str, str]) -> None:
    answer = ask("GET", path, headers=headers)

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
    assert answer.json() == {"error": "there is no sandbox 'aa'. Did you mean 'a'?"}
    assert asked_of(sandboxes) == {"default": 0, "a": 0, "b": 0}


def test_a_sandbox_may_be_named_twice(ask: Ask, sandboxes: Sandboxes) -> None:
    answer = ask("GET", f"/sandboxes/a{TASK}", headers=[(HEADER, "a"), (HEADER, "a")])

    assert answer.status_code == 200
    assert asked_of(sandboxes) == {"default": 0, "a": 1, "b": 0}


@pytest.mark.parametrize(
    ("path", "headers"), [(f"/sandboxes/b{TASK}", [(HEADER, "a")]), (TASK, [(HEADER, "a"), (HEADER, "b")])]
)
def test_a_request_that_names_two_sandboxes_reaches_neither(
    ask: Ask, sandboxes: Sandboxes, path: str, headers: list[tuple[str, str]]
) -> None:
    answer = ask("GET", path, headers=headers)

    assert (answer.status_code, answer.json()) == (
        400,
        {
            "error": "the request names two sandboxes, 'a' and 'b'. "
            "Its port, its header and its path must mean the same one."
        },
    )
    assert asked_of(sandboxes) == {"default": 0, "a": 0, "b": 0}


@pytest.mark.parametrize("path", ["/sandboxes/a", "/sandboxes/a/", f"/sandboxes/a/sandboxes/b{TASK}"])
def test_what_no_api_has_is_refused_in_the_sandbox_that_is_named(ask: Ask, sandboxes: Sandboxes, path: str) -> None:
    answer = ask("GET", path)

    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith("No API has the path '")
    assert asked_of(sandboxes) == {"default": 0, "a": 1, "b": 0}


def test_an_app_mounted_under_a_root_path_has_its_sandboxes_below_it(app: App, sandboxes: Sandboxes) -> None:
    transport = httpx.ASGITransport(app, root_path="/mock")

    async def ask_below() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, auth=MANAGER) as asker:
            return await asker.get(f"http://mock/mock/sandboxes/a{TASK}")

    assert asyncio.run(ask_below()).status_code == 200
    assert asked_of(sandboxes) == {"default": 0, "a": 1, "b": 0}


def test_the_admin_api_is_below_no_sandbox_s_path(ask: Ask, sandboxes: Sandboxes) -> None:
    other = sandboxes.get("b")

    answer = ask("POST", "/sandboxes/a/__admin/sandboxes/b/reset")

    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith("No API has the path '/__admin/")
    assert sandboxes.get("b") is other


# --- credentials, where a path names the sandbox --------------------------------------------------


def signed(target: str, *, secret: str = "oceanmock-sk") -> dict[str, str]:
    """The headers of a GET, signed as OCP's reference says: of the target as it is sent."""
    date = formatdate(usegmt=True)
    text = "\n".join(["GET", "", "", date, "mock", "", target])
    signature = base64.b64encode(hmac.digest(secret.encode(), text.encode(), hashlib.sha1))
    return {"Authorization": f"OCP-ACCESS-KEY-HMACSHA1 oceanmock-ak:{signature.decode()}", "Date": date, "Host": "mock"}


def test_a_signature_is_of_the_path_as_it_was_sent(ask: Ask, sandboxes: Sandboxes) -> None:
    path = f"/sandboxes/a{TASK}"

    assert ask("GET", path, auth=None, headers=signed(path)).status_code == 200
    assert ask("GET", path, auth=None, headers=signed(TASK)).status_code == 401
    assert asked_of(sandboxes)["a"] == 2


def test_basic_credentials_are_those_of_the_sandbox_that_is_named(ask: Ask, sandboxes: Sandboxes) -> None:
    ada = User("ada", "lovelace", frozenset({"TASK_VIEWER"}))
    sandboxes.get("a").accounts = Accounts(users=(ada,))

    assert ask("GET", f"/sandboxes/a{TASK}", auth=("ada", "lovelace")).status_code == 200
    assert ask("GET", f"/sandboxes/b{TASK}", auth=("ada", "lovelace")).status_code == 401
    assert ask("GET", f"/sandboxes/a{TASK}", auth=MANAGER).status_code == 401


def sealed(ask: Ask, uri: str, *, path: str, password: str = "oceanmock") -> httpx.Response:
    """Asks obshell with a sealed header that was made for this uri."""
    key = ask("GET", "/api/v1/secret").json()["data"]["public_key"]
    header = client.sealed_header(key, auth=password, ts="9999999999", uri=uri, keys=KEYS)
    return ask("GET", path, auth=None, headers={"X-OCS-Header": header})


def test_a_sealed_header_is_for_the_path_as_it_was_sent(ask: Ask, sandboxes: Sandboxes) -> None:
    sandboxes.create("of-obshell", made(INIT))
    path = f"/sandboxes/of-obshell{DAG}"

    right, wrong = sealed(ask, path, path=path), sealed(ask, DAG, path=path)

    assert right.status_code == 200
    assert wrong.status_code == 401
    assert wrong.json()["error"]["errCode"] == "Security.Authentication.Header.UriMismatch"


def test_a_header_sealed_for_one_sandbox_s_path_does_not_pass_in_another(ask: Ask, sandboxes: Sandboxes) -> None:
    sandboxes.create("one", made(INIT))
    sandboxes.create("other", made(INIT))

    answer = sealed(ask, f"/sandboxes/one{DAG}", path=f"/sandboxes/other{DAG}")

    assert answer.status_code == 401


def test_a_slash_too_many_leads_back_into_the_same_sandbox(ask: Ask, sandboxes: Sandboxes) -> None:
    sandboxes.create("of-obshell", made(INIT))

    answer = ask("GET", "/sandboxes/of-obshell/api/v1/status/")

    assert answer.status_code == 301
    assert answer.headers["location"] == "/sandboxes/of-obshell/api/v1/status"


# --- what differs between sandboxes of one server -------------------------------------------------


def test_each_sandbox_has_ocp_s_switches_of_its_own(ask: Ask, sandboxes: Sandboxes) -> None:
    sandboxes.create("checked", made(switches={"ocp": {"subtask_pairing": "checked"}}))
    sandboxes.create("ignored", made(switches={"ocp": {"subtask_pairing": "ignored"}}))
    log = f"{TASKS}/1/subtasks/13000333/log"

    assert ask("GET", f"/sandboxes/checked{log}").status_code == 404
    assert ask("GET", f"/sandboxes/ignored{log}").status_code == 200


def test_each_sandbox_has_a_contract_of_its_own(ask: Ask, sandboxes: Sandboxes) -> None:
    sandboxes.create("beyond", made(switches={"ocp": {"undocumented_task_path": True}}))
    path = "/api/v2/tasks/35000312"

    assert ask("GET", f"/sandboxes/beyond{path}").status_code == 200
    assert ask("GET", f"/sandboxes/a{path}").status_code == 404


def test_each_sandbox_has_an_obshell_version_of_its_own(ask: Ask, sandboxes: Sandboxes) -> None:
    for name, version in (("old", "4.2.3.0"), ("new", "4.5.0.0")):
        switches = {"obshell": {"obshell_version": version}}
        accounts = Accounts(required=False)
        make = made(INIT, switches=switches, accounts=accounts)
        sandboxes.create(name, make)
    path = "/api/v1/task/dags/agent"

    versions = [ask("GET", f"/sandboxes/{name}/api/v1/info").json()["data"]["version"] for name in ("old", "new")]
    assert versions == ["4.2.3.0-1", "4.5.0.0-1"]
    assert ask("GET", f"/sandboxes/old{path}").status_code == 404
    assert ask("GET", f"/sandboxes/new{path}").status_code == 200


def test_each_sandbox_has_an_agent_of_its_own(ask: Ask, sandboxes: Sandboxes) -> None:
    for name, agent in (("one", "10.0.0.1"), ("other", "10.0.0.2")):
        text = f"{INIT}agent: {{ip: {agent}, root_password: of-{name}}}\n"
        sandboxes.create(name, made(text))

    shown = [sandboxes.get(name).world(Dags).agent for name in ("one", "other", "a")]
    ips = [ask("GET", f"/sandboxes/{name}/api/v1/info").json()["data"]["ip"] for name in ("one", "other", "a")]
    path = "/sandboxes/one/api/v1/task/dag/maintain/agent"

    assert ips == [agent.ip for agent in shown] == ["10.0.0.1", "10.0.0.2", Agent().ip]
    assert sealed(ask, path, path=path, password="of-one").status_code == 200
    assert sealed(ask, path, path=path, password="of-other").status_code == 401


def test_each_sandbox_asks_or_does_not_ask_who_is_there(ask: Ask, sandboxes: Sandboxes) -> None:
    sandboxes.create("open", made(accounts=Accounts(required=False)))

    assert ask("GET", f"/sandboxes/open{TASK}", auth=None).status_code == 200
    assert ask("GET", f"/sandboxes/a{TASK}", auth=None).status_code == 401


def test_what_is_done_in_one_sandbox_is_not_done_in_another(ask: Ask, sandboxes: Sandboxes) -> None:
    assert ask("POST", f"/sandboxes/a{RETRY}").status_code == 200

    assert ask("POST", f"/sandboxes/a{RETRY}").status_code == 400
    assert ask("POST", f"/sandboxes/b{RETRY}").status_code == 200


def test_a_reset_sandbox_answers_as_at_first_and_its_journal_is_empty(ask: Ask, sandboxes: Sandboxes) -> None:
    ask("POST", f"/sandboxes/a{RETRY}")
    ask("POST", f"/sandboxes/b{RETRY}")

    sandboxes.reset("a")

    assert asked_of(sandboxes) == {"default": 0, "a": 0, "b": 1}
    assert ask("GET", f"/sandboxes/a{TASK}").json()["timestamp"] == "2021-08-25T15:09:31.74+08:00"
    assert ask("POST", f"/sandboxes/b{RETRY}").status_code == 400


# --- whatever is sent -----------------------------------------------------------------------------

PARTS: Final = (
    "sandboxes a b default .. . %2e%2e api v2 v1 tasks instances 35000312 subtasks 13000333 retry reset * a/../b "
)
parts = st.sampled_from(PARTS.split(" "))
names = st.sampled_from(["b", "default", " b", "B", "a, b", "b\x00", "*", "a;b", "", "../b"])


def sent(app: App, scope: dict[str, Any]) -> None:
    """Sends a request as raw ASGI, whatever is answered."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(_: object) -> None:
        return None

    asyncio.run(app(scope, receive, send))


BASIC: Final = b"Basic " + base64.b64encode(b"manager:manager")


@given(
    means=st.sampled_from(["port", "header", "path"]),
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT"]),
    path=st.lists(parts, max_size=9).map(lambda found: "/" + "/".join(found)),
    query=st.sampled_from([b"", b"sandbox=b", b"X-Oceanmock-Sandbox=b"]),
    further=st.lists(
        st.tuples(
            st.sampled_from([b"x-oceanmock-sandbox", b"host", b"x-forwarded-port", b"x-sandbox"]), names.map(str.encode)
        ),
        max_size=2,
    ),
)
def test_whoever_is_sent_to_one_sandbox_reaches_no_other(
    app: App, *, means: str, method: str, path: str, query: bytes, further: list[Any]
) -> None:
    app.sandboxes._by_name.clear()
    app.sandboxes._by_name["default"] = sandbox_of(REINSTALL)
    for name in ("a", "b"):
        app.sandboxes.create(name, made()).clock.advance(60 * SECOND)
    app.sandboxes.ports = {4001: "a"}
    others = [app.sandboxes.get(name) for name in ("b", "default")]
    before = [(each.clock.now(), each.world(Tasks).all()) for each in others]

    named = [(b"x-oceanmock-sandbox", b"a")] if means == "header" else []
    scope = {
        "type": "http",
        "method": method,
        "path": f"/sandboxes/a{path}" if means == "path" else path,
        "query_string": query,
        "headers": [*named, (b"authorization", BASIC), (b"content-length", b"2"), *further],
        "server": ("127.0.0.1", 4001 if means == "port" else 80),
    }
    sent(app, scope)

    assert [(each.clock.now(), each.world(Tasks).all()) for each in others] == before
    assert [each.journal.count() for each in others] == [0, 0]


# --- ports ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with serving_app() as serving:
        yield serving


def test_a_port_of_its_own_means_a_sandbox(serving: Serving) -> None:
    one, other = serving.create(), serving.create()
    ports = [serving.open_port(sandbox) for sandbox in (one, other)]

    answers = [httpx.get(f"{serving.at(port)}{TASK}", auth=MANAGER) for port in ports]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [one.journal.count(), other.journal.count()] == [1, 1]
    assert serving.app.sandboxes.default.journal.count() == 0


def test_the_vendor_s_sdk_reaches_a_sandbox_by_its_port(serving: Serving) -> None:
    sandbox = serving.create(INIT)
    port = serving.open_port(sandbox)

    dag = ClientSet("127.0.0.1", port, PasswordAuth("oceanmock")).v1.get_dag(local(4))

    assert dag.name == "Initialize cluster"
    assert sandbox.journal.entries()[-1].caller == "root"


def test_a_sandbox_is_reached_by_header_and_path_beside_its_port(serving: Serving) -> None:
    sandbox = serving.create()
    port = serving.open_port(sandbox)
    header = {HEADER: sandbox.name}

    answers = [
        httpx.get(f"{serving.url}{TASK}", auth=MANAGER, headers=header),
        httpx.get(f"{serving.url}/sandboxes/{sandbox.name}{TASK}", auth=MANAGER),
        httpx.get(f"{serving.at(port)}{TASK}", auth=MANAGER, headers=header),
    ]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert sandbox.journal.count() == 3


def test_a_sandbox_s_own_port_leads_to_no_other(serving: Serving) -> None:
    mine, yours = serving.create(), serving.create()
    port = serving.open_port(mine)

    answers = [
        httpx.get(f"{serving.at(port)}{TASK}", auth=MANAGER, headers={HEADER: yours.name}),
        httpx.get(f"{serving.at(port)}/sandboxes/{yours.name}{TASK}", auth=MANAGER),
    ]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert [mine.journal.count(), yours.journal.count()] == [0, 0]


def test_a_sandbox_keeps_its_port_when_it_is_reset(serving: Serving) -> None:
    name = serving.create().name
    port = serving.open_port(serving.app.sandboxes.get(name))

    sandbox = serving.app.sandboxes.reset(name)

    assert httpx.get(f"{serving.at(port)}{TASK}", auth=MANAGER).status_code == 200
    assert sandbox.journal.count() == 1


def test_a_port_may_be_the_default_sandbox_s(serving: Serving) -> None:
    port = serving.open_port(serving.app.sandboxes.default)

    assert httpx.get(f"{serving.at(port)}/api/v1/status").status_code == 200


def test_the_port_of_a_sandbox_is_closed_when_it_is_deleted(serving: Serving) -> None:
    sandbox = serving.create()
    port = serving.open_port(sandbox)

    serving.delete(sandbox.name)

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{serving.at(port)}{TASK}")
    assert port not in serving.app.sandboxes.ports


def test_a_connection_to_the_port_of_a_deleted_sandbox_leads_nowhere(serving: Serving) -> None:
    sandbox = serving.create()
    port = serving.open_port(sandbox)
    before = serving.app.sandboxes.default.journal.count()
    request = f"GET {TASK} HTTP/1.1\r\nHost: mock\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")

        serving.delete(sandbox.name)

        assert connection.recv(65536) == b""
    assert serving.app.sandboxes.default.journal.count() == before


def test_a_request_whose_sandbox_is_deleted_while_it_arrives_is_answered_404(serving: Serving) -> None:
    sandbox = serving.create()
    url = urlsplit(serving.url)
    head = (
        f"POST /sandboxes/{sandbox.name}{TASK}/retry HTTP/1.1\r\nHost: mock\r\n"
        f"Authorization: Basic {base64.b64encode(':'.join(MANAGER).encode()).decode()}\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{"
    )
    with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
        connection.sendall(head.encode())
        serving.app.until(lambda: len(serving.tasks) > 0)

        serving.delete(sandbox.name)
        connection.sendall(b"}")
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert f"there is no sandbox '{sandbox.name}'".encode() in answer


def test_a_port_that_is_closed_as_soon_as_it_is_opened_is_closed(serving: Serving) -> None:
    def open_and_close() -> int:
        port = ports_of(serving.app).open()
        ports_of(serving.app).close(port)
        return port

    port = serving.app.do(open_and_close)

    with pytest.raises(httpx.ConnectError):
        httpx.get(serving.at(port))


def test_a_freed_port_can_be_another_sandbox_s(serving: Serving) -> None:
    mine, yours = serving.create(), serving.create()
    port = serving.open_port(mine)
    serving.delete(mine.name)

    again = serving.app.do(lambda: ports_of(serving.app).open(port))
    serving.app.sandboxes.ports[again] = yours.name
    answer = httpx.get(f"{serving.at(port)}{TASK}", auth=MANAGER)

    assert (again, answer.status_code, yours.journal.count()) == (port, 200, 1)


def test_closing_a_port_twice_or_one_that_is_not_open_changes_nothing(serving: Serving) -> None:
    port = serving.open_port(serving.create())

    for number in (port, port, 1):
        serving.app.do(partial(ports_of(serving.app).close, number))

    assert httpx.get(f"{serving.url}/api/v1/status").status_code == 200


def test_a_port_that_is_taken_is_a_problem_of_the_environment(serving: Serving) -> None:
    port = serving.open_port(serving.create())

    with pytest.raises(EnvironmentProblem, match=f":{port}: Address already in use"):
        serving.app.do(lambda: ports_of(serving.app).open(port))


def test_the_ports_of_a_server_are_closed_when_it_stops() -> None:
    app = OnLoop(Sandboxes(sandbox_of(REINSTALL)))
    with Server(app):
        port = app.do(lambda: ports_of(app).open())
        assert httpx.get(f"http://127.0.0.1:{port}/api/v1/status").status_code == 200

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}")


def test_an_app_that_is_not_served_has_no_ports() -> None:
    assert App(Sandboxes(sandbox_of(REINSTALL))).ports is None


def test_the_answer_of_an_unknown_sandbox_is_json_over_a_socket_too(serving: Serving) -> None:
    answer = httpx.get(f"{serving.url}/sandboxes/%2e%2e/x")

    assert (answer.status_code, json.loads(answer.content)) == (404, {"error": "there is no sandbox '..'."})
