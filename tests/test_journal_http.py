"""The entries that a sandbox's journal has of the exchanges that clients had with it.

test_journal checks how entries are kept, masked, queried and verified; here, that each exchange is recorded whatever
became of it, and with which values.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any, Final

import httpx
import pytest

import obshell_client
from obshell_world import INIT, KEYS, LOCAL
from oceanmock import JournalEntry
from served import (
    AFTERNOON,
    MANAGER,
    MAX_BODY_BYTES,
    REINSTALL,
    SECOND,
    Ask,
    World,
    client,
    request_counts,
    server,
    until,
)

TASKS: Final = "/api/v2/tasks/instances"
TASK: Final = f"{TASKS}/35000312"
RETRY: Final = f"{TASK}/subtasks/13000333/retry"
DAG: Final = f"/api/v1/task/dag/{LOCAL}4"
BASIC: Final = "Basic " + base64.b64encode(b"manager:manager").decode()
LATER: Final = datetime.fromisoformat(AFTERNOON) + timedelta(minutes=1)
MAX_JOURNAL_ENTRIES: Final = 1000


@pytest.fixture
def world() -> World:
    """Return OCP a minute after its subtask 13000333 has failed."""
    world = World(REINSTALL)
    world.advance(60 * SECOND)
    return world


@pytest.fixture
def ask(world: World) -> Ask:
    return world.serve()


@pytest.fixture
def agent() -> World:
    """Return an obshell a minute after its dag 4 has failed; its agent has a password of its own."""
    agent = World(f"{INIT}agent: {{agent_password: secret}}\n")
    agent.advance(60 * SECOND)
    return agent


@pytest.fixture
def ask_agent(agent: World) -> Ask:
    return agent.serve()


def only(world: World) -> JournalEntry:
    """Return the one entry of its journal."""
    (entry,) = world.sandbox.journal
    return entry


def last(world: World) -> JournalEntry:
    entry = world.sandbox.journal.last
    assert entry is not None
    return entry


# --- an exchange ----------------------------------------------------------------------------------


def test_an_exchange_is_recorded(world: World, ask: Ask) -> None:
    response = ask("POST", f"{RETRY}?why=%20because", content=b"{}")

    entry = only(world)
    assert (entry.number, entry.api, entry.operation) == (1, "ocp", "retrySubtask")
    assert (entry.method, entry.path, entry.query) == ("POST", RETRY, "why=%20because")
    assert entry.ids == {"taskInstanceId": "35000312", "subtaskInstanceId": "13000333"}
    assert entry.caller == "manager"
    assert entry.request_body == {}
    assert (entry.status, entry.response_body) == (response.status_code, response.json())
    assert {"date", *dict(entry.response_headers)} == set(response.headers)
    assert set(entry.response_headers) <= set(response.headers.items())
    assert (entry.refusal, entry.fault) == ("", "")


def test_an_exchange_has_the_sandbox_s_time_and_the_machine_s(world: World, ask: Ask) -> None:
    before = datetime.now(UTC)

    ask("GET", TASK)

    entry, after = only(world), datetime.now(UTC)
    took = timedelta(milliseconds=entry.took_ms)
    assert entry.at == LATER
    assert before <= entry.wall <= entry.wall + took <= after + timedelta(seconds=1)
    assert timedelta(0) < took < after - before


def test_an_exchange_is_dated_when_it_arrives_not_when_it_is_answered(world: World, ask: Ask) -> None:
    world.sandbox.clock.set(progression="immediate")

    ask("POST", RETRY)

    assert only(world).at == LATER < world.now()


def test_exchanges_are_in_their_order(world: World, ask: Ask) -> None:
    for path in (TASKS, TASK, "/nowhere"):
        ask("GET", path)

    entries = world.sandbox.journal.all()
    assert [entry.number for entry in entries] == [1, 2, 3]
    assert [entry.operation for entry in entries] == ["listTaskInstances", "getTaskInstance", ""]


def test_an_exchange_is_in_the_journal_of_its_own_sandbox_only(
    world: World, ask: Ask, agent: World, ask_agent: Ask
) -> None:
    before = request_counts(server())

    ask("GET", TASK)

    assert request_counts(server()) == before | {world.sandbox.name: 1}
    assert before[agent.sandbox.name] == 0


@pytest.mark.slow
def test_the_journal_is_bounded(world: World, ask: Ask) -> None:
    for _ in range(MAX_JOURNAL_ENTRIES + 5):
        ask("GET", "/nowhere")

    page = world.sandbox.admin.ask("GET", "/journal", query={"limit": 1})
    assert (len(world.sandbox.journal), page["dropped"]) == (MAX_JOURNAL_ENTRIES, 5)
    assert world.sandbox.journal.all()[0].number == 6


def test_a_request_is_found_by_the_part_that_it_was_about(world: World, ask: Ask) -> None:
    ask("POST", RETRY)
    ask("POST", f"{TASK}/retry")

    world.sandbox.journal.assert_called("retrySubtask", times=1, subtask=13000333)


# --- the caller -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["viewer", "manager"])
def test_a_user_is_known_by_name(world: World, ask: Ask, name: str) -> None:
    ask("GET", TASK, auth=(name, name))

    assert only(world).caller == name


def test_an_access_key_is_known_by_its_id(world: World, ask: Ask) -> None:
    date = formatdate(usegmt=True)
    text = "\n".join(["GET", "", "", date, "mock", "", TASK])
    signature = base64.b64encode(hmac.digest(b"oceanmock-sk", text.encode(), hashlib.sha1))
    signed = f"OCP-ACCESS-KEY-HMACSHA1 oceanmock-ak:{signature.decode()}"

    response = ask("GET", TASK, auth=None, headers={"Authorization": signed, "Date": date, "Host": "mock"})

    entry = only(world)
    assert (response.status_code, entry.caller) == (200, "oceanmock-ak")
    assert dict(entry.request_headers)["authorization"] == "OCP-ACCESS-KEY-HMACSHA1 ***"


def test_a_refused_login_has_no_caller(world: World, ask: Ask) -> None:
    ask("GET", TASK, auth=("manager", "wrong"))

    assert (only(world).caller, only(world).status) == ("", 401)


def test_a_user_without_the_permission_is_known(world: World, ask: Ask) -> None:
    ask("POST", RETRY, auth=("viewer", "viewer"))

    entry = only(world)
    assert (entry.caller, entry.status) == ("viewer", 403)
    assert entry.refusal == "This operation needs the permission TASK_MANAGER."


def test_where_requests_need_not_authenticate_nobody_is_known(world: World) -> None:
    ask = world.serve(auth=False)

    ask("GET", TASK, auth=None)

    assert (only(world).caller, only(world).status) == ("", 200)


def sealed(
    ask: Ask, *, operator: str = "", header: str = "X-OCS-Header", password: str = "oceanmock"
) -> httpx.Response:
    """Ask for the dag as the vendor's SDK does, with an encrypted operator, if there is one."""
    key = ask("GET", "/api/v1/secret").json()["data"]["public_key"]
    values = {"auth": password, "ts": "9999999999", "uri": DAG, "keys": KEYS}
    body = obshell_client.sealed_body(json.dumps({"operator": operator}).encode()) if operator else None
    headers = {header: obshell_client.sealed_header(key, **values)}
    return ask("POST" if operator else "GET", DAG, auth=None, headers=headers, content=body)


def test_who_has_oceanbase_s_password_is_root(agent: World, ask_agent: Ask) -> None:
    assert sealed(ask_agent).status_code == 200

    assert last(agent).caller == "root"


def test_who_has_the_agent_s_password_is_the_agent(agent: World, ask_agent: Ask) -> None:
    assert sealed(ask_agent, header="X-OCS-Agent-Header", password="secret").status_code == 200

    entry = last(agent)
    assert entry.caller == "agent"
    assert dict(entry.request_headers)["x-ocs-agent-header"] == "***"


def test_an_encrypted_request_is_in_the_journal_decrypted(agent: World, ask_agent: Ask) -> None:
    response = sealed(ask_agent, operator="RETRY")

    entry = last(agent)
    assert (response.status_code, entry.operation) == (200, "dagHandler")
    assert entry.ids == {"id": f"{LOCAL}4"}
    assert entry.request_body == {"operator": "RETRY"}
    agent.sandbox.journal.assert_called(times=1, dag=4, body={"operator": "RETRY"})


def test_a_body_that_cannot_be_decrypted_is_in_the_journal_as_it_was_sent(agent: World, ask_agent: Ask) -> None:
    ask_agent("POST", DAG, auth=None, headers={"X-OCS-Header": "no such thing"}, content=b"?!")

    entry = only(agent)
    assert (entry.api, entry.request_body, entry.caller) == ("obshell", "?!", "")
    assert entry.status == 401
    assert entry.refusal


def test_a_request_that_starts_a_task_is_in_the_journal() -> None:
    sandbox = server().ocp("create-tenant", starts_at=AFTERNOON)
    path = "/api/v2/ob/clusters/1/tenants"

    response = client().post(sandbox.url + path, json={"name": "t1", "rootPassword": "aB3!"}, auth=MANAGER)

    (entry,) = sandbox.journal
    assert (response.status_code, entry.status, entry.refusal) == (200, 200, "")
    assert (entry.api, entry.operation, entry.path) == ("ocp", "", path)
    assert entry.caller == "manager"
    assert entry.request_body == {"name": "t1", "rootPassword": "***"}


# --- secrets --------------------------------------------------------------------------------------


def test_credentials_are_masked(world: World, ask: Ask) -> None:
    ask("GET", TASK, headers={"Host": "mock"})

    headers = dict(only(world).request_headers)
    assert headers["authorization"] == "Basic ***"
    assert headers["host"] == "mock"


def test_no_secret_of_a_sealed_request_is_anywhere_in_the_journal(agent: World, ask_agent: Ask) -> None:
    sealed(ask_agent, operator="RETRY")

    text = json.dumps(agent.sandbox.admin.ask("GET", "/journal")["entries"])
    assert '"x-ocs-header", "***"' in text
    assert obshell_client.base64_text(KEYS) not in text
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
            "/tasks",
            404,
            "",
            "No operation of the contract answers GET /tasks. The nearest is GET /api/v2/tasks/instances.",
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
def test_the_reason_for_a_refusal_is_in_the_journal(
    world: World, ask: Ask, *, method: str, path: str, status: int, operation: str, refusal: str
) -> None:
    ask(method, path)

    entry = only(world)
    assert (entry.status, entry.operation, entry.refusal) == (status, operation, refusal)


def test_a_wrong_parameter_is_refused_with_its_name(world: World, ask: Ask) -> None:
    ask("GET", f"{TASKS}?page=abc")

    entry = only(world)
    assert (entry.status, entry.operation) == (400, "listTaskInstances")
    assert entry.refusal == "page is not of the type int32."


def test_an_unknown_path_of_obshell_is_refused_with_the_nearest(agent: World, ask_agent: Ask) -> None:
    ask_agent("GET", "/api/v1/task/dags/{agent}")

    entry = only(agent)
    assert (entry.api, entry.status) == ("obshell", 404)
    assert entry.refusal == (
        "No operation of the contract answers GET /api/v1/task/dags/{agent}. The nearest is GET /api/v1/task/dag/{id}."
    )


def test_a_refused_operator_is_in_the_journal_decrypted(agent: World, ask_agent: Ask) -> None:
    sealed(ask_agent, operator="CANCEL")

    entry = last(agent)
    assert (entry.status, entry.request_body) == (400, {"operator": "CANCEL"})
    assert entry.refusal


def test_a_body_over_the_limit_is_refused_and_not_kept(world: World, ask: Ask) -> None:
    ask("POST", RETRY, content=b" " * (MAX_BODY_BYTES + 1))

    entry = only(world)
    assert (entry.status, entry.request_body) == (413, None)
    assert entry.refusal == f"The body is larger than {MAX_BODY_BYTES} bytes."


def test_a_redirect_is_in_the_journal(agent: World, ask_agent: Ask) -> None:
    path = f"/sandboxes/{agent.sandbox.name}/api/v1/status"

    client().get(f"{server().url}{path}/")

    entry = only(agent)
    assert (entry.status, entry.path) == (301, "/api/v1/status/")
    assert dict(entry.response_headers)["location"] == path


def test_a_request_for_an_unknown_sandbox_is_in_no_journal(world: World, ask: Ask) -> None:
    before = request_counts(server())

    response = client().get(f"{server().url}/sandboxes/{world.sandbox.name}x{TASK}", auth=MANAGER)

    assert response.status_code == 404
    assert request_counts(server()) == before


# --- on the wire ----------------------------------------------------------------------------------


def test_a_client_that_has_the_response_finds_it_in_the_journal(world: World, ask: Ask) -> None:
    for number in range(1, 101):
        ask("GET", TASK)
        assert len(world.sandbox.journal) == number


def test_a_client_that_hangs_up_in_a_body_is_in_the_journal_and_gets_no_response(world: World, ask: Ask) -> None:
    head = [f"POST {RETRY} HTTP/1.1", "Host: mock", f"Authorization: {BASIC}", "Content-Length: 9"]

    with socket.create_connection((world.sandbox.host, world.sandbox.port), timeout=10) as connection:
        connection.sendall("\r\n".join([*head, "", "{"]).encode())
    until(lambda: len(world.sandbox.journal) > 0)

    entry = only(world)
    assert (entry.status, entry.path, entry.response_body) == (None, RETRY, None)
    assert entry.refusal == "The client went away before its request was complete."


def test_a_path_is_in_the_journal_as_the_api_reads_it(world: World, ask: Ask) -> None:
    ask("GET", "/api/v2/tasks/%E4%B8%AD%20x")

    assert only(world).path == "/api/v2/tasks/中 x"


def test_concurrent_requests_are_each_recorded_once(world: World, ask: Ask) -> None:
    async def ask_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(auth=MANAGER, base_url=world.sandbox.url) as http:
            return await asyncio.gather(*[http.get(TASKS, params={"name": str(number)}) for number in range(50)])

    responses = asyncio.run(ask_all())

    entries = world.sandbox.journal.all()
    assert [entry.number for entry in entries] == list(range(1, 51))
    assert {entry.query for entry in entries} == {f"name={number}" for number in range(50)}
    assert texts(entry.response_body for entry in entries) == texts(response.json() for response in responses)


def texts(bodies: Any) -> set[str]:
    return {json.dumps(body, sort_keys=True) for body in bodies}
