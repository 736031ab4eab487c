"""The credentials of a sandbox's handles, as httpx and requests send them, on the wire.

The signatures are those worked out in the OCP API reference, 300.ak-sk-sign-roles.md. What is sealed is opened with
pycryptodome (as the vendor's SDK seals), and by the mock.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import httpx
import orjson
import pytest
import requests
from Crypto.Cipher import PKCS1_v1_5
from Crypto.PublicKey import RSA
from Crypto.Util.asn1 import DerSequence

from obshell_world import FOREIGN, INIT, LOCAL
from oceanmock import EnvironmentProblem, Obshell, OceanmockError, Ocp
from oceanmock.credentials import Basic
from served import REINSTALL, SECOND, World, server

Send = Callable[..., Any]

TASK: Final = "/api/v2/tasks/instances/35000312"
DAG: Final = f"/api/v1/task/dag/{LOCAL}4"
NOON: Final = 1_700_000_000 * SECOND


def by_httpx(method: str, url: str, **options: Any) -> Any:
    return httpx.request(method, url, verify=False, trust_env=False, **options)


def by_requests(method: str, url: str, **options: Any) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        if "content" in options:
            options["data"] = options.pop("content")
        return session.request(method, url, **options)


def by_async_httpx(method: str, url: str, **options: Any) -> Any:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(verify=False, trust_env=False) as client:
            return await client.request(method, url, **options)

    return asyncio.run(send())


def by_another_client(method: str, url: str, *, auth: Any, content: bytes = b"", json: Any = None) -> Any:
    url, body = str(httpx.URL(url)), content if json is None else orjson.dumps(json)
    prepared = auth.prepare(method, url, body)
    return httpx.request(method, url, content=prepared.body, headers=prepared.headers, verify=False, trust_env=False)


CLIENTS: Final = pytest.mark.parametrize(
    "send",
    [by_httpx, by_async_httpx, by_requests, by_another_client],
    ids=["httpx", "async httpx", "requests", "another"],
)


@pytest.fixture
def ocp() -> Ocp:
    sandbox = served(REINSTALL)
    assert isinstance(sandbox, Ocp)
    return sandbox


@pytest.fixture
def obshell() -> Obshell:
    """Return an agent whose dag has failed."""
    return agent()


def agent(keys: str = "") -> Obshell:
    """Return an agent with further keys of its scenario."""
    sandbox = served(f"{INIT}\n{keys}", seconds=60)
    assert isinstance(sandbox, Obshell)
    return sandbox


def served(text: str, *, seconds: int = 0) -> Ocp | Obshell:
    """Serve a scenario; return its sandbox so many seconds later."""
    world = World(text)
    world.advance(seconds * SECOND)
    world.serve()
    return world.sandbox


@pytest.fixture(scope="module")
def access_key() -> Iterator[Any]:
    with server().ocp() as sandbox:
        yield sandbox.access_key


@pytest.fixture(scope="module")
def sealing() -> Iterator[Any]:
    """Return credentials of obshell for an agent that is not there."""
    with server().obshell() as sandbox:
        yield replace(sandbox.auth, fetch=lambda _: {"public_key": PUBLIC_KEY}, wall=lambda: NOON)


# --- HTTP Basic -----------------------------------------------------------------------------------


@CLIENTS
def test_basic_lets_a_user_in(ocp: Ocp, send: Send) -> None:
    assert send("GET", ocp.url + TASK, auth=ocp.auth).status_code == 200
    assert send("GET", ocp.url + TASK, auth=ocp.viewer).status_code == 200
    assert send("GET", ocp.url + TASK, auth=Basic("manager", "wrong")).status_code == 401


def test_basic_is_the_pair_that_clients_take(ocp: Ocp) -> None:
    user, password = ocp.viewer

    assert (user, password) == ("viewer", "viewer")
    assert ocp.auth == ("manager", "manager")


# --- access keys ----------------------------------------------------------------------------------


def signed_at(key: Any, date: int, secret: str, request: Any) -> str:
    """Return the signature that a request gets at a second of the machine's clock."""
    signing = replace(key, secret=secret, wall=lambda: date * SECOND)
    scheme, _, value = str(signing(request).headers["Authorization"]).partition(" ")
    assert scheme == "OCP-ACCESS-KEY-HMACSHA1"
    return value.removeprefix(f"{key.id}:")


PUBLISHED: Final = pytest.mark.parametrize(
    ("date", "secret", "signature", "asked"),
    [
        (
            1673946837,
            "2fc0c299cc94c6be266f2ceece765d4d",
            "XN8P+O+v3vUabB16ZCooq5wMJoY=",
            {
                "method": "POST",
                "url": "http://ocp.alibaba.net:8080/api/v2/compute/idcs",
                "headers": {"Content-Type": "application/json", "x-ocp-data": "A,1"},
                "data": b'{"name":"test01","description":"test","regionId":1}',
            },
        ),
        (
            1673928842,
            "2fc0c299cc94c6be266f2ceece765d4d",
            "TsQD6HDOuZuJ409m0wdnZPmijlc=",
            {
                "method": "GET",
                "url": "http://ocp.alibaba.net:8080/api/v2/compute/idcs?size=100",
                "headers": {"Content-Type": "application/json;charset=utf-8"},
            },
        ),
        (
            1713173102,
            "d75332c5eed8d440a84a35ac6248d397",
            "To11kg1EsB/dPWyDnnpuUzIUoQk=",
            {
                "method": "GET",
                "url": "http://127.0.0.1:8080/api/v2/monitor/top?metrics=host_disk_total"
                "&labels=svr_ip:127.0.0.1&groupBy=app,svr_ip,device,mount_point"
                "&startTime=2024-04-15T14:29:55%2B08:00&endTime=2024-04-15T14:30:55%2B08:00"
                "&maxPoints=360",
                "headers": {"Content-Type": "application/json", "x-ocp-origin": "for-test"},
            },
        ),
    ],
    ids=["a body", "a query", "a query that is encoded"],
)


@PUBLISHED
def test_a_request_of_requests_gets_the_published_signature(
    access_key: Any, *, date: int, secret: str, signature: str, asked: Mapping[str, Any]
) -> None:
    request = requests.Request(**asked).prepare()

    assert signed_at(access_key, date, secret, request) == signature


@PUBLISHED
def test_a_request_of_httpx_gets_the_published_signature(
    access_key: Any, *, date: int, secret: str, signature: str, asked: Mapping[str, Any]
) -> None:
    rest = {"content" if name == "data" else name: value for name, value in asked.items()}

    assert signed_at(access_key, date, secret, httpx.Request(**rest)) == signature


@CLIENTS
def test_an_access_key_lets_a_client_in(ocp: Ocp, send: Send) -> None:
    assert send("GET", ocp.url + TASK, auth=ocp.access_key).status_code == 200
    odd = send("GET", f"{ocp.url}/api/v2/tasks/instances?size=1&name=a b/ü&name=~", auth=ocp.access_key)
    assert odd.status_code == 200


@CLIENTS
def test_a_signature_covers_the_body(ocp: Ocp, send: Send) -> None:
    answer = send("POST", f"{ocp.url}{TASK}/retry", auth=ocp.access_key, json={"a": "ü"})

    assert answer.json()["error"]["code"] == 20003  # let in; but this task has not failed


@CLIENTS
def test_another_secret_lets_nobody_in(ocp: Ocp, send: Send) -> None:
    key = replace(ocp.access_key, secret="another")

    assert send("GET", ocp.url + TASK, auth=key).status_code == 401


@CLIENTS
def test_a_signature_of_another_day_lets_nobody_in(ocp: Ocp, send: Send) -> None:
    key = replace(ocp.access_key, wall=lambda: NOON)

    assert send("GET", ocp.url + TASK, auth=key).status_code == 401


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://mock/", "mock"),
        ("http://mock:80/", "mock"),
        ("https://mock:443/", "mock"),
        ("https://mock:80/", "mock:80"),
        ("http://MOCK:8080/", "mock:8080"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("http://user:secret@mock/", "mock"),
    ],
)
def test_the_host_that_is_signed_is_the_one_that_is_sent(access_key: Any, url: str, host: str) -> None:
    named = {"Host": host}

    signed = signed_at(access_key, 0, "sk", requests.Request("GET", url).prepare())

    assert signed == signed_at(access_key, 0, "sk", requests.Request("GET", url, headers=named).prepare())
    assert httpx.Request("GET", url).headers["Host"] == host


def streamed() -> Iterator[bytes]:
    yield b"{}"


async def streamed_async() -> AsyncIterator[bytes]:
    yield b"{}"


@pytest.mark.parametrize(
    "request_",
    [
        requests.Request("POST", "http://mock/", data=streamed()).prepare(),
        httpx.Request("POST", "http://mock/", content=streamed_async()),
    ],
    ids=["requests", "async httpx"],
)
def test_a_body_that_is_not_whole_cannot_be_signed(access_key: Any, request_: Any) -> None:
    with pytest.raises(OceanmockError, match=r"has to be whole to be signed or sealed\. Give it as"):
        access_key(request_)


def test_a_stream_of_httpx_is_read_and_signed(ocp: Ocp) -> None:
    answer = by_httpx("POST", f"{ocp.url}{TASK}/retry", auth=ocp.access_key, content=streamed())

    assert answer.json()["error"]["code"] == 20003


# --- sealed requests ------------------------------------------------------------------------------


@CLIENTS
def test_a_sealed_request_is_let_in(obshell: Obshell, send: Send) -> None:
    assert send("GET", f"{obshell.url}{DAG}?show_details=False", auth=obshell.auth).status_code == 200


@CLIENTS
def test_the_body_of_a_sealed_request_arrives(obshell: Obshell, send: Send) -> None:
    unnamed = send("POST", obshell.url + DAG, auth=obshell.auth, content=b'{"operator": "DANCE"}')
    retried = send("POST", obshell.url + DAG, auth=obshell.auth, json={"operator": "RETRY"})

    assert unnamed.json()["error"]["message"] == "Operator DANCE is not supported"
    assert retried.status_code == 200


@CLIENTS
def test_the_root_password_is_asked_for(send: Send) -> None:
    master = agent("agent: {identity: MASTER, root_password: right}")

    right = send("GET", master.url + DAG, auth=master.auth)
    wrong = send("GET", master.url + DAG, auth=replace(master.auth, password="wrong"))

    assert right.status_code == 200
    assert wrong.json()["error"]["errCode"].endswith("IncorrectOceanbasePassword")


@CLIENTS
def test_the_agents_own_password_goes_out_where_it_has_one(send: Send) -> None:
    locked = agent("agent: {agent_password: right}")

    right = replace(locked.auth, password="root")
    wrong, lacking = (replace(right, agent_password=password) for password in ("wrong", None))

    statuses = [send("GET", locked.url + DAG, auth=auth).status_code for auth in (right, wrong, lacking)]

    assert (right.agent_password, statuses) == ("right", [200, 401, 401])


@CLIENTS
def test_roots_password_goes_out_where_the_agent_has_none(send: Send) -> None:
    master = agent("agent: {identity: MASTER, root_password: right}")

    assert send("GET", master.url + DAG, auth=replace(master.auth, agent_password="unused")).status_code == 200


@CLIENTS
def test_a_task_of_obproxy_is_asked_for_with_the_agents_password(obshell: Obshell, send: Send) -> None:
    target = f"{obshell.url}/api/v1/task/dag/4{LOCAL[1:]}9"

    answer = send("GET", target, auth=replace(obshell.auth, password="root", agent_password="agent's"))

    assert answer.json()["error"]["errCode"].endswith("AgentPasswordNotInitialized")


@CLIENTS
def test_an_expired_header_lets_nobody_in(send: Send) -> None:
    master = agent("agent: {identity: MASTER, root_password: right}")

    answer = send("GET", master.url + DAG, auth=replace(master.auth, wall=lambda: NOON))

    assert answer.json()["error"]["errCode"].endswith("Expired")


@CLIENTS
def test_what_anybody_may_read_is_not_sealed(obshell: Obshell, send: Send) -> None:
    answer = send("GET", f"{obshell.url}/api/v1/info", auth=obshell.auth)

    assert answer.status_code == 200
    assert "X-OCS-Header" not in answer.request.headers


@CLIENTS
def test_a_sandbox_by_its_path_is_sealed_for_that_path(obshell: Obshell, send: Send) -> None:
    answer = send("GET", f"{server().url}/sandboxes/{obshell.name}{DAG}", auth=obshell.auth)

    assert answer.status_code == 200


def test_what_an_agent_says_of_itself_is_read_once(obshell: Obshell) -> None:
    asked: list[str] = []

    def fetch(url: str) -> Mapping[str, Any]:
        asked.append(url)
        return by_httpx("GET", url).json()["data"]  # type: ignore[no-any-return]

    auth = replace(obshell.auth, agent_password="unused", fetch=fetch)
    answers = [by_requests("GET", obshell.url + DAG, auth=auth) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert asked == [f"{obshell.url}/api/v1/info", f"{obshell.url}/api/v1/secret"]


PRIVATE_KEY: Final = RSA.generate(1024)
PUBLIC_KEY: Final = base64.b64encode(DerSequence([PRIVATE_KEY.n, PRIVATE_KEY.e]).encode()).decode()


def opened(header: str) -> Any:
    """Return the content of a security header."""
    size, sealed = PRIVATE_KEY.size_in_bytes(), base64.b64decode(header)
    blocks = [sealed[at : at + size] for at in range(0, len(sealed), size)]
    cipher = PKCS1_v1_5.new(PRIVATE_KEY)
    return json.loads(b"".join(cipher.decrypt(block, b"") for block in blocks))


@pytest.mark.parametrize(
    "request_",
    [
        requests.Request("POST", f"http://mock{DAG}", json={"operator": "RETRY"}).prepare(),
        httpx.Request("POST", f"http://mock{DAG}", json={"operator": "RETRY"}),
    ],
    ids=["requests", "httpx"],
)
def test_a_sealed_request_still_has_its_plain_body(sealing: Any, request_: Any) -> None:
    sealed = replace(sealing, password="secret")(request_)

    said = opened(sealed.headers["X-OCS-Header"])
    assert json.loads(sealed.plain_body) == {"operator": "RETRY"}
    assert (said["auth"], said["ts"], said["uri"]) == ("secret", "1700000060", DAG)
    assert "X-OCS-Agent-Header" not in sealed.headers


def test_a_request_sealed_again_is_sealed_for_its_new_place(sealing: Any) -> None:
    request = sealing(requests.Request("GET", f"http://mock{DAG}").prepare())

    request.url = f"http://mock/api/v1/task/dag/{FOREIGN}1"
    sealing(request)

    assert opened(request.headers["X-OCS-Header"])["uri"].endswith(f"{FOREIGN}1")


# --- an agent that gives out no key ---------------------------------------------------------------


def test_an_agent_that_is_not_there_is_reported(obshell: Obshell) -> None:
    with pytest.raises(EnvironmentProblem, match=r"^http://127\.0\.0\.1:1/api/v1/secret does not"):
        by_requests("GET", f"http://127.0.0.1:1{DAG}", auth=obshell.auth)


def test_a_server_that_is_no_obshell_is_named(ocp: Ocp, obshell: Obshell) -> None:
    with pytest.raises(EnvironmentProblem, match=r"secret answers 401, and not as an obshell does"):
        by_requests("GET", f"{ocp.url}/api/v2{DAG}", auth=obshell.auth)


# --- secrets --------------------------------------------------------------------------------------


def test_no_credentials_show_their_secret_when_printed(ocp: Ocp) -> None:
    locked = agent("agent: {agent_password: hush}")
    key, sealed = ocp.access_key, replace(locked.auth, password="hush")

    printed = [repr(ocp.auth), str(ocp.viewer), repr(key), repr(sealed)]

    assert (key.secret, sealed.password, sealed.agent_password) == ("oceanmock-sk", "hush", "hush")
    assert "hush" not in "".join(printed)
    assert "oceanmock-sk" not in "".join(printed)
    assert printed[:2] == ["Basic('manager', '***')", "Basic('viewer', '***')"]
