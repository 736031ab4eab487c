"""credentials: what a client sends to be let in, by httpx and by requests, over a socket.

The signatures are those worked out in the OCP API reference, 300.ak-sk-sign-roles.md. What is
sealed is opened with pycryptodome (as the vendor's SDK seals), and by the mock.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

import httpx
import pytest
import requests
from Crypto.Cipher import AES, PKCS1_v1_5
from Crypto.PublicKey import RSA
from Crypto.Util.asn1 import DerSequence
from Crypto.Util.Padding import unpad

from in_process import REINSTALL
from obshell_world import FOREIGN, INIT, LOCAL
from oceanmock import credentials
from oceanmock.clock import SECOND
from oceanmock.credentials import AccessKey, Basic, Sealed
from oceanmock.errors import CallerError, EnvironmentProblem
from oceanmock.obshell.auth import AGENT_HEADER, ROOT_HEADER
from oceanmock.obshell.crypto import new_keys, seal_body, seal_header
from oceanmock.ocp.auth import SIGNATURE_SCHEME
from serving_app import NO_TLS, Serving, World, serving_app

Send = Callable[..., Any]

TASK: Final = "/api/v2/tasks/instances/35000312"
DAG: Final = f"/api/v1/task/dag/{LOCAL}4"
NOON: Final = 1_700_000_000 * SECOND


def by_httpx(method: str, url: str, **options: Any) -> Any:
    return httpx.request(method, url, verify=NO_TLS, trust_env=False, **options)


def by_requests(method: str, url: str, **options: Any) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        if "content" in options:
            options["data"] = options.pop("content")
        return session.request(method, url, **options)


def by_async_httpx(method: str, url: str, **options: Any) -> Any:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(verify=NO_TLS, trust_env=False) as client:
            return await client.request(method, url, **options)

    return asyncio.run(send())


CLIENTS: Final = pytest.mark.parametrize(
    "send", [by_httpx, by_async_httpx, by_requests], ids=["httpx", "async httpx", "requests"]
)


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with serving_app() as running:
        yield running


@pytest.fixture
def ocp(serving: Serving) -> str:
    """A sandbox with a port of its own; where it is."""
    return serving.at(serving.open_port(serving.create(REINSTALL)))


@pytest.fixture
def obshell(serving: Serving) -> str:
    """An agent whose dag has failed; where it is."""
    return agent(serving)


def agent(serving: Serving, about: str = "") -> str:
    """An agent that is described so, in YAML; where it is."""
    sandbox = serving.create(f"{INIT}\n{about}")
    sandbox.advance(60 * SECOND)
    return serving.at(serving.open_port(sandbox))


# --- HTTP Basic -----------------------------------------------------------------------------------


@CLIENTS
def test_basic_lets_a_user_in(ocp: str, send: Send) -> None:
    assert send("GET", ocp + TASK, auth=Basic("manager", "manager")).status_code == 200
    assert send("GET", ocp + TASK, auth=Basic("manager", "wrong")).status_code == 401


def test_basic_is_the_pair_that_clients_take() -> None:
    user, password = Basic("jörg", "a:b")

    assert (user, password) == ("jörg", "a:b")
    assert Basic("a", "b") == ("a", "b")


def test_a_request_signed_by_basic_carries_any_script() -> None:
    request = requests.Request("GET", "http://mock/").prepare()

    Basic("jörg", "密:码")(request)

    sent = request.headers["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == "jörg:密:码"


# --- access keys ----------------------------------------------------------------------------------


def signed_at(date: int, secret: str, request: Any) -> str:
    """The signature that a request gets, which is dated by the second."""
    key = AccessKey("ak", secret, wall=lambda: date * SECOND)
    return str(key(request).headers["Authorization"]).removeprefix(f"{SIGNATURE_SCHEME} ak:")


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
    date: int, secret: str, signature: str, asked: Mapping[str, Any]
) -> None:
    request = requests.Request(**asked).prepare()

    assert signed_at(date, secret, request) == signature


@PUBLISHED
def test_a_request_of_httpx_gets_the_published_signature(
    date: int, secret: str, signature: str, asked: Mapping[str, Any]
) -> None:
    rest = {"content" if name == "data" else name: value for name, value in asked.items()}

    assert signed_at(date, secret, httpx.Request(**rest)) == signature


@CLIENTS
def test_an_access_key_lets_a_client_in(ocp: str, send: Send) -> None:
    key = AccessKey("oceanmock-ak", "oceanmock-sk")

    assert send("GET", ocp + TASK, auth=key).status_code == 200
    odd = send("GET", f"{ocp}/api/v2/tasks/instances?size=1&name=a b/ü&name=~", auth=key)
    assert odd.status_code == 200


@CLIENTS
def test_a_signature_covers_the_body(ocp: str, send: Send) -> None:
    key = AccessKey("oceanmock-ak", "oceanmock-sk")

    answer = send("POST", f"{ocp}{TASK}/retry", auth=key, json={"a": "ü"})

    assert answer.json()["error"]["code"] == 20003  # let in; but this task has not failed


@CLIENTS
def test_another_secret_lets_nobody_in(ocp: str, send: Send) -> None:
    key = AccessKey("oceanmock-ak", "another")

    assert send("GET", ocp + TASK, auth=key).status_code == 401


@CLIENTS
def test_a_signature_of_another_day_lets_nobody_in(ocp: str, send: Send) -> None:
    key = AccessKey("oceanmock-ak", "oceanmock-sk", wall=lambda: NOON)

    assert send("GET", ocp + TASK, auth=key).status_code == 401


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
def test_the_host_that_is_signed_is_the_one_that_is_sent(url: str, host: str) -> None:
    named = {"Host": host}

    signed = signed_at(0, "sk", requests.Request("GET", url).prepare())

    assert signed == signed_at(0, "sk", requests.Request("GET", url, headers=named).prepare())
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
def test_a_body_that_is_not_whole_cannot_be_signed(request_: Any) -> None:
    with pytest.raises(CallerError, match=r"has to be whole to be signed or sealed\. Give it as"):
        AccessKey("ak", "sk")(request_)


def test_a_stream_of_httpx_is_read_and_signed(ocp: str) -> None:
    key = AccessKey("oceanmock-ak", "oceanmock-sk")

    answer = by_httpx("POST", f"{ocp}{TASK}/retry", auth=key, content=streamed())

    assert answer.json()["error"]["code"] == 20003


# --- sealing --------------------------------------------------------------------------------------


def opened(private: RSA.RsaKey, header: str) -> Any:
    """What a security header says."""
    size, sealed = private.size_in_bytes(), base64.b64decode(header)
    blocks = [sealed[at : at + size] for at in range(0, len(sealed), size)]
    cipher = PKCS1_v1_5.new(private)
    return json.loads(b"".join(cipher.decrypt(block, b"") for block in blocks))


def key_pair(bits: int = 1024) -> tuple[RSA.RsaKey, str]:
    """A private key, and the public one as an agent gives it out."""
    private = RSA.generate(bits)
    public = private.public_key()
    return private, base64.b64encode(DerSequence([public.n, public.e]).encode()).decode()


@pytest.mark.parametrize("bits", [1024, 2048])
@pytest.mark.parametrize("length", [0, 1, 52, 53, 117, 118, 1000])
def test_a_sealed_header_says_what_was_sealed(bits: int, length: int) -> None:
    private, public = key_pair(bits)
    said = {"auth": "p" * length, "keys": b"\0\xff"}

    header = seal_header(public, said)

    assert opened(private, header) == {"auth": "p" * length, "keys": "AP8="}


@pytest.mark.parametrize("body", [b"a", b"x" * 15, b"x" * 16, "ü密".encode()])
def test_a_sealed_body_holds_the_body(body: bytes) -> None:
    keys = new_keys()

    sealed = base64.b64decode(seal_body(body, keys))

    assert unpad(AES.new(keys[:16], AES.MODE_CBC, keys[16:]).decrypt(sealed), 16) == body


def test_no_body_stays_no_body() -> None:
    assert seal_body(b"", new_keys()) == b""


@pytest.mark.parametrize("text", ["", "???", "bm9pc2U=", "ü"])
def test_what_is_no_key_is_told(text: str) -> None:
    with pytest.raises(EnvironmentProblem, match="is no public key of an obshell"):
        seal_header(text, {})


# --- obshell over a socket ------------------------------------------------------------------------


@CLIENTS
def test_a_sealed_request_is_let_in(obshell: str, send: Send) -> None:
    assert send("GET", f"{obshell}{DAG}?show_details=False", auth=Sealed("oceanmock")).status_code == 200


@CLIENTS
def test_the_body_of_a_sealed_request_arrives(obshell: str, send: Send) -> None:
    auth = Sealed("oceanmock")

    unnamed = send("POST", obshell + DAG, auth=auth, content=b'{"operator": "DANCE"}')
    retried = send("POST", obshell + DAG, auth=auth, json={"operator": "RETRY"})

    assert unnamed.json()["error"]["message"] == "Operator DANCE is not supported"
    assert retried.status_code == 200


@CLIENTS
def test_the_root_password_is_asked_for(serving: Serving, send: Send) -> None:
    master = agent(serving, "agent: {identity: MASTER, root_password: right}")

    right = send("GET", master + DAG, auth=Sealed("right"))
    wrong = send("GET", master + DAG, auth=Sealed("wrong"))

    assert right.status_code == 200
    assert wrong.json()["error"]["errCode"].endswith("IncorrectOceanbasePassword")


@CLIENTS
def test_the_agents_own_password_goes_out_where_it_has_one(serving: Serving, send: Send) -> None:
    locked = agent(serving, "agent: {agent_password: right}")

    assert send("GET", locked + DAG, auth=Sealed("root", "right")).status_code == 200
    assert send("GET", locked + DAG, auth=Sealed("root", "wrong")).status_code == 401
    assert send("GET", locked + DAG, auth=Sealed("root")).status_code == 401


@CLIENTS
def test_roots_password_goes_out_where_the_agent_has_none(serving: Serving, send: Send) -> None:
    master = agent(serving, "agent: {identity: MASTER, root_password: right}")

    assert send("GET", master + DAG, auth=Sealed("right", "unused")).status_code == 200


@CLIENTS
def test_a_task_of_obproxy_is_asked_for_with_the_agents_password(obshell: str, send: Send) -> None:
    target = f"{obshell}/api/v1/task/dag/4{LOCAL[1:]}9"

    answer = send("GET", target, auth=Sealed("root", "agent's"))

    assert answer.json()["error"]["errCode"].endswith("AgentPasswordNotInitialized")


@CLIENTS
def test_an_expired_header_lets_nobody_in(serving: Serving, send: Send) -> None:
    master = agent(serving, "agent: {identity: MASTER, root_password: right}")

    answer = send("GET", master + DAG, auth=Sealed("right", wall=lambda: NOON))

    assert answer.json()["error"]["errCode"].endswith("Expired")


@CLIENTS
def test_what_anybody_may_read_is_not_sealed(obshell: str, send: Send) -> None:
    answer = send("GET", f"{obshell}/api/v1/info", auth=Sealed("oceanmock"))

    assert answer.status_code == 200
    assert ROOT_HEADER not in answer.request.headers


@CLIENTS
def test_a_sandbox_by_its_path_is_sealed_for_that_path(serving: Serving, send: Send) -> None:
    world: World = serving.world(INIT)

    answer = send("GET", f"{serving.url}/sandboxes/{world.sandbox.name}{DAG}", auth=Sealed("oceanmock"))

    assert answer.status_code == 200


def test_what_an_agent_says_of_itself_is_read_once(obshell: str) -> None:
    asked: list[str] = []

    def fetch(url: str) -> Mapping[str, Any]:
        asked.append(url)
        return by_httpx("GET", url).json()["data"]  # type: ignore[no-any-return]

    auth = Sealed("oceanmock", "unused", fetch=fetch)
    answers = [by_requests("GET", obshell + DAG, auth=auth) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert asked == [f"{obshell}/api/v1/info", f"{obshell}/api/v1/secret"]


@pytest.mark.parametrize(
    "request_",
    [
        requests.Request("POST", f"http://mock{DAG}", json={"operator": "RETRY"}).prepare(),
        httpx.Request("POST", f"http://mock{DAG}", json={"operator": "RETRY"}),
    ],
    ids=["requests", "httpx"],
)
def test_a_sealed_request_still_tells_what_was_meant(request_: Any) -> None:
    private, public = key_pair()
    auth = Sealed("secret", fetch=lambda _: {"public_key": public}, wall=lambda: NOON)

    sealed: Any = auth(request_)

    said = opened(private, sealed.headers[ROOT_HEADER])
    assert json.loads(sealed.plain_body) == {"operator": "RETRY"}
    assert (said["auth"], said["ts"], said["uri"]) == ("secret", "1700000060", DAG)
    assert AGENT_HEADER not in sealed.headers


def test_a_request_sealed_again_is_sealed_for_its_new_place() -> None:
    private, public = key_pair()
    auth = Sealed(fetch=lambda _: {"public_key": public})
    request = auth(requests.Request("GET", f"http://mock{DAG}").prepare())

    request.url = f"http://mock/api/v1/task/dag/{FOREIGN}1"
    auth(request)

    assert opened(private, request.headers[ROOT_HEADER])["uri"].endswith(f"{FOREIGN}1")


# --- an agent that gives out no key ---------------------------------------------------------------


def test_an_agent_that_is_not_there_is_told() -> None:
    with pytest.raises(EnvironmentProblem, match=r"^http://127\.0\.0\.1:1/api/v1/secret does not"):
        by_requests("GET", f"http://127.0.0.1:1{DAG}", auth=Sealed("oceanmock"))


def test_a_server_that_is_no_obshell_is_named(ocp: str) -> None:
    with pytest.raises(EnvironmentProblem, match=r"secret answers 404, and not as an obshell does"):
        by_requests("GET", f"{ocp}/api/v2{DAG}", auth=Sealed("oceanmock"))


# --- secrets --------------------------------------------------------------------------------------


def test_no_credentials_show_their_secret_when_printed() -> None:
    printed = [
        repr(Basic("me", "hush")),
        str(Basic("me", "hush")),
        repr(AccessKey("me", "hush")),
        repr(Sealed("hush", "hush")),
    ]

    assert "hush" not in "".join(printed)
    assert printed[0] == "Basic('me', '***')"


def test_three_kinds_are_public() -> None:
    assert credentials.__all__ == ["AccessKey", "Basic", "Sealed"]


def test_neither_a_client_nor_what_seals_is_imported_with_them() -> None:
    slow = {"httpx", "requests", "cryptography"}
    code = f"import sys, oceanmock.credentials; print({slow} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_what_is_none_of_them_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Bearer'"):
        credentials.Bearer  # noqa: B018
