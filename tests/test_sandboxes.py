"""The sandboxes of a server: how they are created, reset and deleted, and which one a request reaches.

A request names its sandbox by port, header or path, and reaches no other.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import formatdate
from threading import Barrier
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
from obshell import ClientSet
from obshell.auth import PasswordAuth

import obshell_client
from command import PATIENCE
from obshell_sdk import local
from obshell_world import INIT, KEYS
from oceanmock import InputError, Mock, Obshell, OceanmockError, Ocp
from served import AFTERNOON, MANAGER, REINSTALL, Ask, client, load_yaml, own_server, request_counts

TASKS: Final = "/api/v2/tasks/instances"
TASK: Final = f"{TASKS}/35000312"
RETRY: Final = f"{TASK}/subtasks/13000333/retry"
HEADER: Final = "X-Oceanmock-Sandbox"
DAG: Final = "/api/v1/task/dag/22130706433028864"
START: Final[dict[str, Any]] = {"starts_at": AFTERNOON, "seed": 1, "progression": "manual"}


@pytest.fixture
def mock() -> Iterator[Mock]:
    with own_server() as mock:
        yield mock


@pytest.fixture
def ask(mock: Mock) -> Ask:
    """Return a function that sends requests to the server as a manager."""

    def send(method: str, path: str, **options: Any) -> httpx.Response:
        return client().request(method, mock.url + path, **{"auth": MANAGER} | options)

    return send


@pytest.fixture
def admin(mock: Mock, ask: Ask) -> Ask:
    """Return a function that sends requests to the admin API."""

    def send(method: str, path: str, **options: Any) -> httpx.Response:
        token = {"X-Oceanmock-Token": mock.admin.token or ""}
        return ask(method, f"/__admin{path}", auth=None, headers=token, **options)

    return send


def ocp(mock: Mock, name: str | None = None, **options: Any) -> Ocp:
    named: dict[str, Any] = {} if name is None else {"name": name}
    return mock.ocp(load_yaml(REINSTALL), **named, **START | options)


def obshell(mock: Mock, name: str | None = None, text: str = INIT, **options: Any) -> Obshell:
    named: dict[str, Any] = {} if name is None else {"name": name}
    return mock.obshell(load_yaml(text), **named, **START | options)


def names_of(mock: Mock) -> list[str]:
    return list(request_counts(mock))


# --- creating -------------------------------------------------------------------------------------


def test_there_is_always_a_default_sandbox(mock: Mock, admin: Ask) -> None:
    assert names_of(mock) == ["default"]
    assert admin("GET", "/sandboxes/default").json()["name"] == "default"


def test_a_sandbox_that_was_created_is_found_by_its_name(mock: Mock, admin: Ask) -> None:
    sandbox = ocp(mock, "mine")

    assert admin("GET", "/sandboxes/mine").json() == sandbox.json()
    assert sandbox.json()["name"] == sandbox.name == "mine"
    assert names_of(mock) == ["default", "mine"]


def test_a_sandbox_without_a_name_is_given_one(mock: Mock) -> None:
    assert [ocp(mock).name for _ in range(2)] == ["sandbox-1", "sandbox-2"]


def test_a_generated_name_belongs_to_no_other_sandbox(mock: Mock) -> None:
    ocp(mock, "sandbox-1")

    assert ocp(mock).name == "sandbox-2"


def test_a_generated_name_is_not_generated_again(mock: Mock) -> None:
    ocp(mock).close()

    assert ocp(mock).name == "sandbox-2"


@pytest.mark.parametrize("name", ["default", "mine"])
def test_a_taken_name_is_refused(mock: Mock, admin: Ask, name: str) -> None:
    mine = ocp(mock, "mine")
    before = mine.json()

    answer = admin("POST", "/sandboxes", json={"name": name})

    message = f"there is a sandbox '{name}' already. Delete it, or choose another name."
    assert (answer.status_code, answer.json()) == (409, {"error": message})
    assert mine.json() == before


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a/b", "..", ".a", "-a", "_a", "ä", "a\n", "a%20", "a" * 101, "a\x00", "१"]
)
def test_a_text_that_is_no_name_is_refused(mock: Mock, admin: Ask, name: str) -> None:
    answer = admin("POST", "/sandboxes", json={"name": name})

    assert answer.status_code == 400
    assert answer.json()["error"].startswith("The body: name: ")
    assert names_of(mock) == ["default"]


@pytest.mark.parametrize("name", ["a", "A.b-c_d", "0", "a" * 100])
def test_a_name_may_have_letters_digits_dots_and_dashes(mock: Mock, name: str) -> None:
    assert ocp(mock, name).name == name


def test_a_sandbox_that_cannot_be_made_is_not_there(mock: Mock) -> None:
    twice = load_yaml(REINSTALL)

    with pytest.raises(InputError, match="Serve them apart"):
        mock.ocp(twice, twice, name="mine")

    assert names_of(mock) == ["default"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mime", "there is no sandbox 'mime'. Did you mean 'mine'?"),
        ("zzz", "there is no sandbox 'zzz'."),
        ("", "there is no sandbox ''."),
        ("é" * 5000, f"there is no sandbox '{'é' * 100}…'."),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(mock: Mock, ask: Ask, name: str, message: str) -> None:
    ocp(mock, "mine")

    answer = ask("GET", TASK, headers={HEADER: name.encode("latin-1")})

    assert (answer.status_code, answer.json()) == (404, {"error": message})


# --- resetting and deleting -----------------------------------------------------------------------


def test_a_sandbox_is_reset_to_its_state_when_it_was_created(mock: Mock) -> None:
    sandbox = ocp(mock, "mine", seed=7)
    before = sandbox.json(), sandbox.task(35000312).json(), sandbox.timelines()
    sandbox.clock.advance(60)

    sandbox.reset()

    assert (sandbox.json(), sandbox.task(35000312).json(), sandbox.timelines()) == before
    assert (before[0]["name"], before[0]["seed"]) == ("mine", 7)
    assert before[0]["now"] == "2021-08-25T07:09:31.74Z"


def test_a_reset_leaves_the_others_as_they_are(mock: Mock) -> None:
    mine, yours = ocp(mock), ocp(mock)
    mine.clock.advance(1)
    yours.clock.advance(1)
    mock.admin.ask("PATCH", "/sandboxes/default/clock", {"progression": "manual"})
    before = yours.json(), yours.rows(), mock.admin.ask("GET", "/sandboxes/default")

    mine.reset()

    assert (yours.json(), yours.rows(), mock.admin.ask("GET", "/sandboxes/default")) == before
    assert before[0]["now"] == "2021-08-25T07:09:32.74Z"


def test_a_reset_leaves_the_accounts_as_they_are(mock: Mock) -> None:
    sandbox = ocp(mock, auth=False)

    sandbox.reset()

    assert client().get(sandbox.url + TASK).status_code == 200


def test_a_sandbox_that_was_deleted_is_gone(mock: Mock, admin: Ask) -> None:
    ocp(mock, "mine").close()

    assert admin("GET", "/sandboxes/mine").status_code == 404
    assert names_of(mock) == ["default"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/sandboxes/mine/reset"), ("DELETE", "/sandboxes/mine")])
def test_an_unknown_sandbox_is_neither_reset_nor_deleted(admin: Ask, method: str, path: str) -> None:
    answer = admin(method, path)

    assert (answer.status_code, answer.json()) == (404, {"error": "there is no sandbox 'mine'."})


# --- which one a request means --------------------------------------------------------------------


@pytest.fixture
def three(mock: Mock) -> Mock:
    """Return a server with three sandboxes: nothing has happened in the default one, in ``b`` all has."""
    default = "/sandboxes/default"
    mock.admin.ask("PATCH", f"{default}/clock", {"progression": "manual"})
    mock.admin.ask("POST", f"{default}/scenarios", {"scenarios": [load_yaml(REINSTALL)]})
    for name, seconds in (("a", 6), ("b", 60)):
        ocp(mock, name).clock.advance(seconds)
    return mock


def test_a_request_that_names_no_sandbox_means_the_default_one(ask: Ask, three: Mock) -> None:
    assert ask("GET", TASK).status_code == 200
    assert request_counts(three) == {"default": 1, "a": 0, "b": 0}


def test_a_header_names_a_sandbox(ask: Ask, three: Mock) -> None:
    assert ask("GET", TASK, headers={HEADER: "a"}).status_code == 200
    assert request_counts(three) == {"default": 0, "a": 1, "b": 0}


def test_a_path_names_a_sandbox(ask: Ask, three: Mock) -> None:
    assert ask("GET", f"/sandboxes/b{TASK}").status_code == 200
    assert request_counts(three) == {"default": 0, "a": 0, "b": 1}


def test_a_sandbox_named_default_is_the_default_one(ask: Ask, three: Mock) -> None:
    ask("GET", TASK, headers={HEADER: "default"})
    ask("GET", f"/sandboxes/default{TASK}")

    assert request_counts(three) == {"default": 2, "a": 0, "b": 0}


def test_each_sandbox_answers_from_its_own_state(ask: Ask, three: Mock) -> None:
    answers = [ask("GET", path + TASK).json() for path in ("", "/sandboxes/a", "/sandboxes/b")]

    assert [answer["data"]["status"] for answer in answers] == ["RUNNING", "FAILED", "FAILED"]
    assert [answer["timestamp"] for answer in answers[1:]] == [
        "2021-08-25T15:09:37.74+08:00",
        "2021-08-25T15:10:31.74+08:00",
    ]


@pytest.mark.parametrize(
    ("path", "headers"), [(TASK, {HEADER: "aa"}), (f"/sandboxes/aa{TASK}", {}), ("/sandboxes/aa", {})]
)
def test_an_unknown_sandbox_is_not_found(ask: Ask, three: Mock, path: str, headers: dict[str, str]) -> None:
    answer = ask("GET", path, headers=headers)

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
    assert answer.json() == {"error": "there is no sandbox 'aa'. Did you mean 'a'?"}
    assert request_counts(three) == {"default": 0, "a": 0, "b": 0}


def test_the_answer_of_an_unknown_sandbox_is_json_whatever_its_name(ask: Ask) -> None:
    answer = ask("GET", "/sandboxes/%2e%2e/x")

    assert (answer.status_code, json.loads(answer.content)) == (404, {"error": "there is no sandbox '..'."})


def test_a_sandbox_may_be_named_twice(ask: Ask, three: Mock) -> None:
    answer = ask("GET", f"/sandboxes/a{TASK}", headers=[(HEADER, "a"), (HEADER, "a")])

    assert answer.status_code == 200
    assert request_counts(three) == {"default": 0, "a": 1, "b": 0}


@pytest.mark.parametrize(
    ("path", "headers"), [(f"/sandboxes/b{TASK}", [(HEADER, "a")]), (TASK, [(HEADER, "a"), (HEADER, "b")])]
)
def test_a_request_that_names_two_sandboxes_reaches_neither(
    ask: Ask, three: Mock, path: str, headers: list[tuple[str, str]]
) -> None:
    answer = ask("GET", path, headers=headers)

    assert (answer.status_code, answer.json()) == (
        400,
        {
            "error": "the request names two sandboxes, 'a' and 'b'. "
            "Its port, its header and its path must mean the same one."
        },
    )
    assert request_counts(three) == {"default": 0, "a": 0, "b": 0}


@pytest.mark.parametrize("path", ["/sandboxes/a", "/sandboxes/a/", f"/sandboxes/a/sandboxes/b{TASK}"])
def test_an_unknown_path_is_refused_in_the_sandbox_that_is_named(ask: Ask, three: Mock, path: str) -> None:
    answer = ask("GET", path)

    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith("No API has the path '")
    assert request_counts(three) == {"default": 0, "a": 1, "b": 0}


def test_the_admin_api_is_below_no_sandbox_s_path(ask: Ask, three: Mock) -> None:
    ask("GET", f"/sandboxes/b{TASK}")
    before = three.admin.ask("GET", "/sandboxes/b")

    answer = ask("POST", "/sandboxes/a/__admin/sandboxes/b/reset")

    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith("No API has the path '/__admin/")
    assert three.admin.ask("GET", "/sandboxes/b") == before
    assert before["requests"] == 1


# --- credentials, where a path names the sandbox --------------------------------------------------


def signed(target: str, *, secret: str = "oceanmock-sk") -> dict[str, str]:
    """Return the headers of a GET, signed as OCP's reference says: of the target as it is sent."""
    date = formatdate(usegmt=True)
    text = "\n".join(["GET", "", "", date, "mock", "", target])
    signature = base64.b64encode(hmac.digest(secret.encode(), text.encode(), hashlib.sha1))
    return {"Authorization": f"OCP-ACCESS-KEY-HMACSHA1 oceanmock-ak:{signature.decode()}", "Date": date, "Host": "mock"}


def test_a_signature_is_of_the_path_as_it_was_sent(ask: Ask, three: Mock) -> None:
    path = f"/sandboxes/a{TASK}"

    assert ask("GET", path, auth=None, headers=signed(path)).status_code == 200
    assert ask("GET", path, auth=None, headers=signed(TASK)).status_code == 401
    assert request_counts(three)["a"] == 2


def test_basic_credentials_are_those_of_the_sandbox_that_is_named(ask: Ask, admin: Ask, three: Mock) -> None:
    ada = {"name": "ada", "password": "lovelace", "permissions": ["TASK_VIEWER"]}
    admin("POST", "/sandboxes", json={"name": "c", "scenarios": [load_yaml(REINSTALL)], "users": [ada]})

    assert ask("GET", f"/sandboxes/c{TASK}", auth=("ada", "lovelace")).status_code == 200
    assert ask("GET", f"/sandboxes/b{TASK}", auth=("ada", "lovelace")).status_code == 401
    assert ask("GET", f"/sandboxes/c{TASK}", auth=MANAGER).status_code == 401


def sealed(ask: Ask, uri: str, *, path: str, password: str = "oceanmock") -> httpx.Response:
    """Ask obshell with a sealed header that was made for this uri."""
    key = ask("GET", "/api/v1/secret").json()["data"]["public_key"]
    header = obshell_client.sealed_header(key, auth=password, ts="9999999999", uri=uri, keys=KEYS)
    return ask("GET", path, auth=None, headers={"X-OCS-Header": header})


def test_a_sealed_header_is_for_the_path_as_it_was_sent(mock: Mock, ask: Ask) -> None:
    path = f"/sandboxes/{obshell(mock).name}{DAG}"

    right, wrong = sealed(ask, path, path=path), sealed(ask, DAG, path=path)

    assert right.status_code == 200
    assert wrong.status_code == 401
    assert wrong.json()["error"]["errCode"] == "Security.Authentication.Header.UriMismatch"


def test_a_header_sealed_for_one_sandbox_s_path_does_not_pass_in_another(mock: Mock, ask: Ask) -> None:
    one, other = (f"/sandboxes/{obshell(mock).name}{DAG}" for _ in range(2))

    assert sealed(ask, one, path=one).status_code == 200
    assert sealed(ask, one, path=other).status_code == 401


def test_a_redirect_leads_back_into_the_same_sandbox(mock: Mock, ask: Ask) -> None:
    obshell(mock, "agent")

    answer = ask("GET", "/sandboxes/agent/api/v1/status/")

    assert answer.status_code == 301
    assert answer.headers["location"] == "/sandboxes/agent/api/v1/status"


# --- what differs between sandboxes of one server -------------------------------------------------


def test_each_sandbox_has_ocp_s_switches_of_its_own(mock: Mock, ask: Ask) -> None:
    for pairing in ("checked", "ignored"):
        ocp(mock, pairing, switches={"subtask_pairing": pairing})
    log = f"{TASKS}/1/subtasks/13000333/log"

    assert ask("GET", f"/sandboxes/checked{log}").status_code == 404
    assert ask("GET", f"/sandboxes/ignored{log}").status_code == 200


def test_each_sandbox_has_a_contract_of_its_own(mock: Mock, ask: Ask) -> None:
    ocp(mock, "a")
    ocp(mock, "beyond", switches={"undocumented_task_path": True})
    path = "/api/v2/tasks/35000312"

    assert ask("GET", f"/sandboxes/beyond{path}").status_code == 200
    assert ask("GET", f"/sandboxes/a{path}").status_code == 404


def test_each_sandbox_has_an_obshell_version_of_its_own(mock: Mock, ask: Ask) -> None:
    for name, version in (("old", "4.2.3.0"), ("new", "4.5.0.0")):
        obshell(mock, name, switches={"obshell_version": version}, auth=False)
    path = "/api/v1/task/dags/agent"

    versions = [ask("GET", f"/sandboxes/{name}/api/v1/info").json()["data"]["version"] for name in ("old", "new")]
    assert versions == ["4.2.3.0-1", "4.5.0.0-1"]
    assert ask("GET", f"/sandboxes/old{path}").status_code == 400  # there is no such route
    assert ask("GET", f"/sandboxes/new{path}").status_code == 200


def test_each_sandbox_has_an_agent_of_its_own(mock: Mock, ask: Ask) -> None:
    agents = {"one": "{ip: 10.0.0.1, root_password: of-one}", "other": "{ip: 10.0.0.2, root_password: of-other}"}
    sandboxes = [obshell(mock, name, f"{INIT}agent: {agent}\n") for name, agent in agents.items()]
    sandboxes.append(obshell(mock, "third"))
    path = "/sandboxes/one/api/v1/task/dag/maintain/agent"

    ips = [ask("GET", f"/sandboxes/{each.name}/api/v1/info").json()["data"]["ip"] for each in sandboxes]

    assert ips == [each.json()["agent"]["ip"] for each in sandboxes] == ["10.0.0.1", "10.0.0.2", "127.0.0.1"]
    assert sealed(ask, path, path=path, password="of-one").status_code == 200
    assert sealed(ask, path, path=path, password="of-other").status_code == 401


def test_each_sandbox_needs_credentials_or_does_not(mock: Mock, ask: Ask) -> None:
    ocp(mock, "open", auth=False)
    ocp(mock, "guarded")

    assert ask("GET", f"/sandboxes/open{TASK}", auth=None).status_code == 200
    assert ask("GET", f"/sandboxes/guarded{TASK}", auth=None).status_code == 401


def test_an_operation_in_one_sandbox_does_not_happen_in_another(ask: Ask, three: Mock) -> None:
    assert ask("POST", f"/sandboxes/a{RETRY}").status_code == 200

    assert ask("POST", f"/sandboxes/a{RETRY}").status_code == 400
    assert ask("POST", f"/sandboxes/b{RETRY}").status_code == 200


def test_a_reset_sandbox_answers_as_at_first_and_its_journal_is_empty(ask: Ask, admin: Ask, three: Mock) -> None:
    ask("POST", f"/sandboxes/a{RETRY}")
    ask("POST", f"/sandboxes/b{RETRY}")

    admin("POST", "/sandboxes/a/reset")

    assert request_counts(three) == {"default": 0, "a": 0, "b": 1}
    assert ask("GET", f"/sandboxes/a{TASK}").json()["timestamp"] == "2021-08-25T15:09:31.74+08:00"
    assert ask("POST", f"/sandboxes/b{RETRY}").status_code == 400


# --- ports ----------------------------------------------------------------------------------------


def reaches(port: int, mock: Mock) -> bool:
    """Return whether a request to a port reaches a sandbox of a server.

    Another process may have a port that the server has closed, so that something answers there.
    """
    before = request_counts(mock)
    with suppress(httpx.ConnectError, httpx.RemoteProtocolError):
        httpx.get(f"http://127.0.0.1:{port}{TASK}")
    return request_counts(mock) != before


def test_a_port_of_its_own_means_a_sandbox(mock: Mock) -> None:
    sandboxes = [ocp(mock), ocp(mock)]

    answers = [client().get(each.url + TASK, auth=MANAGER) for each in sandboxes]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert list(request_counts(mock).values()) == [0, 1, 1]


def test_the_vendor_s_sdk_reaches_a_sandbox_by_its_port(mock: Mock) -> None:
    sandbox = obshell(mock)

    dag = ClientSet(sandbox.host, sandbox.port, PasswordAuth("oceanmock")).v1.get_dag(local(4))

    assert dag.name == "Initialize cluster"
    assert sandbox.journal.all()[-1].caller == "root"


def test_a_sandbox_is_reached_by_header_and_path_beside_its_port(mock: Mock, ask: Ask) -> None:
    sandbox = ocp(mock)
    header = {HEADER: sandbox.name}

    answers = [
        ask("GET", TASK, headers=header),
        ask("GET", f"/sandboxes/{sandbox.name}{TASK}"),
        client().get(sandbox.url + TASK, auth=MANAGER, headers=header),
    ]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert len(sandbox.journal) == 3


def test_a_sandbox_s_own_port_leads_to_no_other(mock: Mock) -> None:
    mine, yours = ocp(mock), ocp(mock)

    answers = [
        client().get(mine.url + TASK, auth=MANAGER, headers={HEADER: yours.name}),
        client().get(f"{mine.url}/sandboxes/{yours.name}{TASK}", auth=MANAGER),
    ]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert list(request_counts(mock).values()) == [0, 0, 0]


def test_a_sandbox_keeps_its_port_when_it_is_reset(mock: Mock) -> None:
    sandbox = ocp(mock)

    sandbox.reset()

    assert client().get(sandbox.url + TASK, auth=MANAGER).status_code == 200
    assert len(sandbox.journal) == 1


def test_the_port_of_a_sandbox_is_closed_when_it_is_deleted(mock: Mock) -> None:
    sandbox = ocp(mock)
    assert reaches(sandbox.port, mock)

    sandbox.close()

    assert not reaches(sandbox.port, mock)


def test_a_connection_to_the_port_of_a_deleted_sandbox_leads_nowhere(mock: Mock) -> None:
    sandbox = ocp(mock)
    request = f"GET {TASK} HTTP/1.1\r\nHost: mock\r\n\r\n".encode()
    with socket.create_connection((sandbox.host, sandbox.port), timeout=10) as connection:
        connection.sendall(request)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")

        sandbox.close()

        assert connection.recv(65536) == b""
    assert request_counts(mock) == {"default": 0}


def test_a_request_whose_sandbox_is_deleted_while_it_arrives_is_answered_404(mock: Mock) -> None:
    sandbox, server = ocp(mock), urlsplit(mock.url)
    head = (
        f"POST /sandboxes/{sandbox.name}{TASK}/retry HTTP/1.1\r\nHost: mock\r\nExpect: 100-continue\r\n"
        f"Authorization: Basic {base64.b64encode(':'.join(MANAGER).encode()).decode()}\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    )
    with socket.create_connection((server.hostname, server.port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")

        sandbox.close()
        connection.sendall(b"{}")
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert f"there is no sandbox '{sandbox.name}'".encode() in answer


def test_the_ports_of_a_server_are_closed_when_it_stops() -> None:
    with Mock.start() as mock:
        sandbox, token = ocp(mock), mock.admin.token
        Mock.attach(sandbox.url, token=token)
        with socket.create_connection((sandbox.host, sandbox.port), timeout=10) as connection:
            mock.stop()

            assert connection.recv(1) == b""

    with pytest.raises(OceanmockError):  # if another process has the port now, its token is another
        Mock.attach(sandbox.url, token=token)


# --- many clients at once -------------------------------------------------------------------------

THREADS: Final = 64
ROUNDS: Final = 10
Round = tuple[Counter[int], Counter[tuple[str, int | None]]]


def at_once(sandbox: Ocp | Obshell, send: Callable[[httpx.Client], int]) -> list[Round]:
    """Return, for each round, the statuses that the threads got, and those in the journal.

    In each round the sandbox is reset and its time passes until all has failed; then all threads send at once.
    """
    together = Barrier(THREADS, timeout=PATIENCE)

    def send_with_others(_: int) -> int:
        together.wait()
        return send(http)

    def one_round() -> Round:
        sandbox.reset()
        sandbox.clock.advance(60)
        statuses = Counter(pool.map(send_with_others, range(THREADS)))
        entries = sandbox.journal.all()
        assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
        return statuses, Counter((entry.operation, entry.status) for entry in entries)

    limits = httpx.Limits(max_connections=THREADS, max_keepalive_connections=THREADS)
    http = httpx.Client(base_url=sandbox.url, timeout=PATIENCE, limits=limits)
    with http, ThreadPoolExecutor(THREADS) as pool:
        return [one_round() for _ in range(ROUNDS)]


@pytest.mark.slow
def test_of_many_that_retry_a_failed_subtask_at_once_one_does(mock: Mock) -> None:
    rounds = at_once(ocp(mock, auth=False), lambda http: http.post(RETRY).status_code)

    statuses = Counter({200: 1, 400: THREADS - 1})
    entries = Counter({("retrySubtask", 200): 1, ("retrySubtask", 400): THREADS - 1})
    assert rounds == [(statuses, entries)] * ROUNDS


@pytest.mark.slow
def test_of_many_that_retry_a_failed_dag_at_once_one_does(mock: Mock) -> None:
    retry = {"operator": "RETRY"}

    rounds = at_once(obshell(mock, auth=False), lambda http: http.post(DAG, json=retry).status_code)

    statuses = Counter({200: 1, 400: THREADS - 1})
    entries = Counter({("dagHandler", 200): 1, ("dagHandler", 400): THREADS - 1})
    assert rounds == [(statuses, entries)] * ROUNDS
