"""What a sandbox's journal says of the exchanges that clients had with it. One rule a test.

How entries are kept, masked, queried and verified is test_journal's; here is that each exchange,
whatever became of it, is written down, and as what.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest

import obshell_client as client
from in_process import AFTERNOON, REINSTALL, Ask, asking, spec_of
from obshell_world import INIT, KEYS, LOCAL
from oceanmock.apis import make_sandbox, operations_by_api
from oceanmock.clock import SECOND, wall_now
from oceanmock.engine.accounts import Accounts
from oceanmock.engine.log import SandboxSpec
from oceanmock.engine.sandbox import Sandbox, Sandboxes
from oceanmock.http.app import App
from oceanmock.http.pipeline import MAX_BODY_BYTES
from oceanmock.journal import MAX_JOURNAL_ENTRIES
from oceanmock.journal.entries import Entry
from oceanmock.journal.query import Query
from oceanmock.library import load_scenario
from serving_app import Serving, World, serving_app

TASKS: Final = "/api/v2/tasks/instances"
TASK: Final = f"{TASKS}/35000312"
RETRY: Final = f"{TASK}/subtasks/13000333/retry"
DAG: Final = f"/api/v1/task/dag/{LOCAL}4"
BASIC: Final = "Basic " + base64.b64encode(b"manager:manager").decode()


@pytest.fixture(scope="module")
def app() -> App:
    return App(Sandboxes(make_sandbox(progression="manual")))


@pytest.fixture
def sandbox(app: App) -> Iterator[Sandbox]:
    """A minute after its subtask 13000333 has failed."""
    sandbox = app.sandboxes.create("mine", spec_of(REINSTALL))
    sandbox.advance(60 * SECOND)
    yield sandbox
    app.sandboxes.delete("mine")


@pytest.fixture
def of_obshell(app: App) -> Iterator[Sandbox]:
    """A minute after its dag 4 has failed; its agent has a password of its own."""
    text = f"{INIT}agent: {{agent_password: secret}}\n"
    sandbox = app.sandboxes.create("obshell", spec_of(text))
    sandbox.advance(60 * SECOND)
    yield sandbox
    app.sandboxes.delete("obshell")


@pytest.fixture
def ask(app: App) -> Ask:
    """Asks for what is below a sandbox's path."""
    return asking(app)


def only(sandbox: Sandbox) -> Entry:
    """The one entry of its journal."""
    (entry,) = sandbox.journal.entries()
    return entry


# --- an exchange ----------------------------------------------------------------------------------


def test_an_exchange_is_written_down(ask: Ask, sandbox: Sandbox) -> None:
    answer = ask("POST", f"/sandboxes/mine{RETRY}?why=%20because", content=b"{}")

    entry = only(sandbox)
    assert (entry.number, entry.api, entry.operation) == (1, "ocp", "retrySubtask")
    assert (entry.method, entry.path, entry.query) == ("POST", RETRY, "why=%20because")
    assert entry.ids == {"taskInstanceId": "35000312", "subtaskInstanceId": "13000333"}
    assert entry.caller == "manager"
    assert entry.request_body == b"{}"
    assert (entry.status, entry.response_body) == (answer.status_code, answer.content)
    assert entry.response_headers == tuple(answer.headers.items())
    assert (entry.refusal, entry.fault) == ("", "")


def test_an_exchange_has_the_sandbox_s_time_and_the_machine_s(ask: Ask, sandbox: Sandbox) -> None:
    before = wall_now()

    ask("GET", f"/sandboxes/mine{TASK}")

    entry = only(sandbox)
    assert entry.at == AFTERNOON + 60 * SECOND
    assert before <= entry.wall <= entry.wall + entry.took <= wall_now() + SECOND
    assert 0 < entry.took < wall_now() - before


def test_an_exchange_is_dated_when_it_came_not_when_it_was_answered(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.clock.set(progression="immediate")

    ask("POST", f"/sandboxes/mine{RETRY}")

    assert only(sandbox).at == AFTERNOON + 60 * SECOND < sandbox.clock.now()


def test_exchanges_are_in_their_order(ask: Ask, sandbox: Sandbox) -> None:
    for path in (TASKS, TASK, "/nowhere"):
        ask("GET", f"/sandboxes/mine{path}")

    entries = sandbox.journal.entries()
    assert [entry.number for entry in entries] == [1, 2, 3]
    assert [entry.operation for entry in entries] == ["listTaskInstances", "getTaskInstance", ""]


def test_an_exchange_is_in_the_journal_of_its_own_sandbox_only(
    app: App, ask: Ask, sandbox: Sandbox, of_obshell: Sandbox
) -> None:
    ask("GET", f"/sandboxes/mine{TASK}")

    assert sandbox.journal.count() == 1
    assert of_obshell.journal.count() == 0
    assert app.sandboxes.default.journal.count() == 0


@pytest.mark.slow
def test_the_journal_is_bounded(ask: Ask, sandbox: Sandbox) -> None:
    for _ in range(MAX_JOURNAL_ENTRIES + 5):
        ask("GET", "/sandboxes/mine/nowhere")

    assert (sandbox.journal.count(), sandbox.journal.dropped) == (MAX_JOURNAL_ENTRIES, 5)
    assert sandbox.journal.entries()[0].number == 6


def test_what_was_asked_is_found_by_what_it_was_about(ask: Ask, sandbox: Sandbox) -> None:
    ask("POST", f"/sandboxes/mine{RETRY}")
    ask("POST", f"/sandboxes/mine{TASK}/retry")

    query = Query(operation="retrySubtask", subtask=13000333, routes=operations_by_api())
    verdict = sandbox.journal.verify(query, times=1)

    assert verdict.holds


# --- who asked ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["viewer", "manager"])
def test_a_user_is_known_by_name(ask: Ask, sandbox: Sandbox, name: str) -> None:
    ask("GET", f"/sandboxes/mine{TASK}", auth=(name, name))

    assert only(sandbox).caller == name


def test_an_access_key_is_known_by_its_id(ask: Ask, sandbox: Sandbox) -> None:
    date, path = formatdate(usegmt=True), f"/sandboxes/mine{TASK}"
    text = "\n".join(["GET", "", "", date, "mock", "", path])
    signature = base64.b64encode(hmac.digest(b"oceanmock-sk", text.encode(), hashlib.sha1))
    said = f"OCP-ACCESS-KEY-HMACSHA1 oceanmock-ak:{signature.decode()}"

    answer = ask("GET", path, auth=None, headers={"Authorization": said, "Date": date})

    entry = only(sandbox)
    assert (answer.status_code, entry.caller) == (200, "oceanmock-ak")
    assert dict(entry.request_headers)["authorization"] == "OCP-ACCESS-KEY-HMACSHA1 ***"


def test_who_is_not_let_in_is_nobody(ask: Ask, sandbox: Sandbox) -> None:
    ask("GET", f"/sandboxes/mine{TASK}", auth=("manager", "wrong"))

    assert (only(sandbox).caller, only(sandbox).status) == ("", 401)


def test_who_may_not_is_known(ask: Ask, sandbox: Sandbox) -> None:
    ask("POST", f"/sandboxes/mine{RETRY}", auth=("viewer", "viewer"))

    entry = only(sandbox)
    assert (entry.caller, entry.status) == ("viewer", 403)
    assert entry.refusal == "This operation needs the permission TASK_MANAGER."


def test_where_nobody_is_asked_nobody_is_known(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.accounts = Accounts(required=False)

    ask("GET", f"/sandboxes/mine{TASK}", auth=None)

    assert (only(sandbox).caller, only(sandbox).status) == ("", 200)


def sealed(ask: Ask, path: str, *, operator: str = "", **options: Any) -> httpx.Response:
    """Asks obshell as the vendor's SDK does, with a body that is encrypted, if there is any."""
    key = ask("GET", "/sandboxes/obshell/api/v1/secret").json()["data"]["public_key"]
    name, password = options.get("by", ("X-OCS-Header", "oceanmock"))
    said = {"auth": password, "ts": "9999999999", "uri": path, "keys": KEYS}
    body = client.sealed_body(json.dumps({"operator": operator}).encode()) if operator else None
    headers = {name: client.sealed_header(key, **said)}
    method = "POST" if operator else "GET"
    return ask(method, path, auth=None, headers=headers, content=body)


def last(sandbox: Sandbox) -> Entry:
    return sandbox.journal.entries()[-1]


def test_who_has_oceanbase_s_password_is_root(ask: Ask, of_obshell: Sandbox) -> None:
    assert sealed(ask, f"/sandboxes/obshell{DAG}").status_code == 200

    assert last(of_obshell).caller == "root"


def test_who_has_the_agent_s_password_is_the_agent(ask: Ask, of_obshell: Sandbox) -> None:
    by = ("X-OCS-Agent-Header", "secret")

    assert sealed(ask, f"/sandboxes/obshell{DAG}", by=by).status_code == 200

    entry = last(of_obshell)
    assert entry.caller == "agent"
    assert dict(entry.request_headers)["x-ocs-agent-header"] == "***"


def test_an_encrypted_request_is_in_the_journal_as_it_was_meant(ask: Ask, of_obshell: Sandbox) -> None:
    answer = sealed(ask, f"/sandboxes/obshell{DAG}", operator="RETRY")

    entry = last(of_obshell)
    assert (answer.status_code, entry.operation) == (200, "dagHandler")
    assert entry.ids == {"id": f"{LOCAL}4"}
    assert json.loads(entry.request_body) == {"operator": "RETRY"}
    query = Query(dag=4, body={"operator": "RETRY"}, routes=operations_by_api())
    assert of_obshell.journal.count(query) == 1


def test_what_cannot_be_decrypted_is_in_the_journal_as_it_came(ask: Ask, of_obshell: Sandbox) -> None:
    headers = {"X-OCS-Header": "no such thing"}

    ask("POST", f"/sandboxes/obshell{DAG}", auth=None, headers=headers, content=b"?!")

    entry = only(of_obshell)
    assert (entry.api, entry.request_body, entry.caller) == ("obshell", b"?!", "")
    assert entry.status == 401
    assert entry.refusal


def test_a_request_that_starts_something_is_in_the_journal(app: App, ask: Ask) -> None:
    sandbox = app.sandboxes.create("tenants", of_library("create-tenant"))
    path = "/api/v2/ob/clusters/1/tenants"

    answer = ask("POST", f"/sandboxes/tenants{path}", json={"name": "t1", "rootPassword": "aB3!"})
    app.sandboxes.delete("tenants")

    entry = only(sandbox)
    assert (answer.status_code, entry.status, entry.refusal) == (200, 200, "")
    assert (entry.api, entry.operation, entry.path) == ("ocp", "", path)
    assert entry.caller == "manager"
    assert json.loads(entry.request_body) == {"name": "t1", "rootPassword": "***"}


def of_library(scenario: str) -> SandboxSpec:
    return SandboxSpec((load_scenario(scenario),), starts_at=AFTERNOON)


# --- secrets --------------------------------------------------------------------------------------


def test_credentials_are_masked(ask: Ask, sandbox: Sandbox) -> None:
    ask("GET", f"/sandboxes/mine{TASK}")

    said = dict(only(sandbox).request_headers)
    assert said["authorization"] == "Basic ***"
    assert said["host"] == "mock"


def test_no_secret_of_a_sealed_request_is_anywhere_in_the_journal(ask: Ask, of_obshell: Sandbox) -> None:
    sealed(ask, f"/sandboxes/obshell{DAG}", operator="RETRY")

    text = json.dumps([entry.to_json() for entry in of_obshell.journal.entries()])
    assert '"x-ocs-header", "***"' in text
    assert client.base64_text(KEYS) not in text
    assert '"oceanmock"' not in text


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "operation", "refusal"),
    [
        (
            "GET",
            "/api/v2/task/instance",
            404,
            "",
            "No operation of the contract answers GET /api/v2/task/instance. "
            "The nearest is GET /api/v2/tasks/instances.",
        ),
        (
            "GET",
            "/",
            404,
            "",
            "No operation of the contract answers GET /. The nearest is GET /api/v2/tasks/instances.",
        ),
        ("POST", TASK, 405, "", "/api/v2/tasks/instances/35000312 does not answer POST. Allowed: GET."),
        ("GET", f"{TASKS}/1", 404, "getTaskInstance", "there is no task 1"),
        (
            "POST",
            f"{TASK}/subtasks/13000336/retry",
            400,
            "retrySubtask",
            "RETRY is not allowed in state PENDING; allowed: none",
        ),
    ],
)
def test_why_it_was_refused_is_in_the_journal(
    ask: Ask, sandbox: Sandbox, *, method: str, path: str, status: int, operation: str, refusal: str
) -> None:
    ask(method, f"/sandboxes/mine{path}")

    entry = only(sandbox)
    assert (entry.status, entry.operation, entry.refusal) == (status, operation, refusal)


def test_a_wrong_parameter_is_refused_with_its_name(ask: Ask, sandbox: Sandbox) -> None:
    ask("GET", f"/sandboxes/mine{TASKS}?page=abc")

    entry = only(sandbox)
    assert (entry.status, entry.operation) == (400, "listTaskInstances")
    assert entry.refusal == "page is not of the type int32."


def test_an_unknown_path_of_obshell_is_told_what_would_have_matched(ask: Ask, of_obshell: Sandbox) -> None:
    ask("GET", "/sandboxes/obshell/api/v1/task/dags/{agent}")

    entry = only(of_obshell)
    assert (entry.api, entry.status) == ("obshell", 404)
    assert entry.refusal == (
        "No operation of the contract answers GET /api/v1/task/dags/{agent}. The nearest is GET /api/v1/task/dag/{id}."
    )


def test_a_refused_operator_is_in_the_journal_with_what_was_meant(ask: Ask, of_obshell: Sandbox) -> None:
    sealed(ask, f"/sandboxes/obshell{DAG}", operator="CANCEL")

    entry = last(of_obshell)
    assert (entry.status, json.loads(entry.request_body)) == (400, {"operator": "CANCEL"})
    assert entry.refusal


def test_a_body_over_the_bound_is_refused_and_not_kept(ask: Ask, sandbox: Sandbox) -> None:
    ask("POST", f"/sandboxes/mine{RETRY}", content=b" " * (MAX_BODY_BYTES + 1))

    entry = only(sandbox)
    assert (entry.status, entry.request_body) == (413, b"")
    assert entry.refusal == f"The body is larger than {MAX_BODY_BYTES} bytes."


def test_a_redirect_is_in_the_journal(ask: Ask, of_obshell: Sandbox) -> None:
    ask("GET", "/sandboxes/obshell/api/v1/status/")

    entry = only(of_obshell)
    assert (entry.status, entry.path) == (301, "/api/v1/status/")
    assert dict(entry.response_headers)["location"] == "/sandboxes/obshell/api/v1/status"


def test_a_request_for_a_sandbox_that_is_not_there_is_in_no_journal(app: App, ask: Ask, sandbox: Sandbox) -> None:
    ask("GET", f"/sandboxes/mime{TASK}")

    assert [each.journal.count() for each in app.sandboxes] == [0, 0]


# --- over a socket --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with serving_app() as serving:
        yield serving


@pytest.fixture
def world(serving: Serving) -> World:
    return serving.world(REINSTALL)


def test_who_has_the_answer_finds_it_in_the_journal(world: World) -> None:
    for number in range(1, 101):
        world.ask("GET", TASK)
        assert world.sandbox.journal.last == number


def test_who_hangs_up_amid_a_body_is_in_the_journal_and_not_answered(serving: Serving, world: World) -> None:
    path = f"/sandboxes/{world.sandbox.name}{RETRY}"
    head = [f"POST {path} HTTP/1.1", "Host: mock", f"Authorization: {BASIC}", "Content-Length: 9"]
    place = urlsplit(serving.url)

    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        connection.sendall("\r\n".join([*head, "", "{"]).encode())
    world.app.until(lambda: world.sandbox.journal.count() > 0)

    entry = only(world.sandbox)
    assert (entry.status, entry.path, entry.response_body) == (None, RETRY, b"")
    assert entry.refusal == "The client went away before its request was complete."


def test_a_path_is_in_the_journal_as_the_api_reads_it(serving: Serving) -> None:
    world = serving.world(REINSTALL)

    world.ask("GET", "/api/v2/tasks/%E4%B8%AD%20x")

    assert only(world.sandbox).path == "/api/v2/tasks/中 x"


def test_requests_at_once_are_each_written_down_once(serving: Serving) -> None:
    world = serving.world(REINSTALL)
    path = f"{serving.url}/sandboxes/{world.sandbox.name}{TASKS}"

    async def ask_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(auth=("manager", "manager")) as asker:
            return await asyncio.gather(*[asker.get(path, params={"name": str(number)}) for number in range(50)])

    answers = asyncio.run(ask_all())

    entries = world.sandbox.journal.entries()
    assert [entry.number for entry in entries] == list(range(1, 51))
    assert {entry.query for entry in entries} == {f"name={number}" for number in range(50)}
    assert {entry.response_body for entry in entries} == {answer.content for answer in answers}
