"""conformance/target.py: whether a server can be tested, and the one sentence when it cannot.

Every server here is real, on a port of this machine. Nobody waits: the time passes when a test
says so.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from certificates import certificate, file_of
from conform_servers import Logged, Said, answering, logged, saying
from golden import assert_golden
from in_process import REINSTALL, sandbox_of
from obshell_world import INIT
from oceanmock.apis import make_sandbox
from oceanmock.checks import Exchange
from oceanmock.clock import SECOND
from oceanmock.conformance import Event, PhaseStarted, Waiting, http_client
from oceanmock.conformance.target import Untestable, failed_tasks, reach
from oceanmock.credentials import AccessKey, Basic, Sealed
from oceanmock.http.app import create_app
from oceanmock.http.server import Server
from oceanmock.library import read_scenario
from oceanmock.observations import Target
from oceanmock.obshell.auth import make_private_key, read_key
from oceanmock.obshell.conformance import CONFORMANCE

Api = Any

NOBODY: Final = "http://127.0.0.1:1"
MANAGER: Final = Basic("manager", "manager")
ROOT: Final = Sealed("oceanmock")
KEY: Final = read_key(make_private_key()).public_key


@pytest.fixture(scope="module")
def mock() -> Iterator[Logged]:
    """A mock of both APIs: a task of OCP's and a dag of obshell's."""
    sandbox = sandbox_of(REINSTALL)
    with logged(create_app(sandbox)) as served:
        yield served


@pytest.fixture(scope="module")
def agent() -> Iterator[Logged]:
    """A mock of an agent that has a password of its own too."""
    about = "agent: {identity: MASTER, root_password: right, agent_password: own}"
    with logged(create_app(sandbox_of(f"{INIT}\n{about}"))) as served:
        yield served


def refusal(url: str, *, api: Api = "ocp", auth: Any = MANAGER, **rest: Any) -> str:
    """The sentence; the port in it, which is another each time, is called PORT."""
    with pytest.raises(Untestable) as untestable:
        reach(url, api=api, auth=auth, **rest)
    return re.sub(r"(?<=127\.0\.0\.1:)\d+", "PORT", str(untestable.value))


# --- who can be tested ----------------------------------------------------------------------------


@pytest.mark.parametrize("auth", [("manager", "manager"), MANAGER, AccessKey("oceanmock-ak", "oceanmock-sk")])
def test_an_ocp_that_lets_us_in_is_reached(mock: Logged, auth: Any) -> None:
    target = reach(f"{mock.url}/", api="ocp", auth=auth)

    assert target == Target(mock.url, "ocp", target.auth)
    assert callable(target.auth)


@pytest.mark.parametrize("auth", [Sealed("right"), Sealed("right", "own"), Sealed("", "own")])
def test_an_obshell_says_what_it_is(agent: Logged, auth: Sealed) -> None:
    target = reach(agent.url, api="obshell", auth=auth)

    assert target.version == "4.5.0.0-1"
    assert (target.identity, target.own_address) == ("MASTER", ("127.0.0.1", 2886))


def test_a_target_may_lie_behind_a_path(mock: Logged) -> None:
    target = reach(f"{mock.url}/sandboxes/default", api="ocp", auth=MANAGER)

    assert target.url == f"{mock.url}/sandboxes/default"


def test_to_be_reached_it_is_only_read(mock: Logged, agent: Logged) -> None:
    reach(mock.url, api="ocp", auth=MANAGER)
    reach(agent.url, api="obshell", auth=Sealed("right"))

    assert mock.methods | agent.methods == {"GET"}


def test_what_is_asked_is_told(mock: Logged) -> None:
    told: list[Event] = []

    reach(mock.url, api="ocp", auth=MANAGER, listen=told.append)

    assert [type(event) for event in told] == [PhaseStarted, Exchange]


def test_no_target_shows_its_password() -> None:
    assert "hush" not in repr(Target(NOBODY, "ocp", Basic("me", "hush")))


# --- waiting --------------------------------------------------------------------------------------


class Time:
    """A machine's time that passes only when somebody sleeps; then, things may happen."""

    def __init__(self, *happening: Callable[[], object]) -> None:
        self.now = 0
        self.slept: list[int] = []
        self.happening = list(happening)

    def sleep(self, span: int) -> None:
        self.slept.append(span)
        self.now += span
        if self.happening:
            self.happening.pop(0)()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def nothing() -> None:
    """Nothing happens."""


def test_a_target_that_starts_late_is_waited_for() -> None:
    port, told = free_port(), list[Event]()
    with ExitStack() as stack:
        time = Time(nothing, lambda: stack.enter_context(answering(tasks, port=port)))

        reach(
            f"http://127.0.0.1:{port}", api="ocp", wait=10, listen=told.append, now=lambda: time.now, sleep=time.sleep
        )

    waited = [event for event in told if isinstance(event, Waiting)]
    assert time.slept == [SECOND, SECOND]
    assert [(event.why, event.left) for event in waited] == [
        ("connection refused", 10 * SECOND),
        ("connection refused", 9 * SECOND),
    ]


def test_what_answers_that_it_is_starting_is_waited_for() -> None:
    answers = [Said(503, b"<h1>starting</h1>", "text/html"), Said(502), tasks("")]
    time = Time()

    with answering(lambda _: answers.pop(0)) as url:
        target = reach(url, api="ocp", wait=10, now=lambda: time.now, sleep=time.sleep)

    assert target.url == url
    assert time.slept == [SECOND, SECOND]


def test_it_is_waited_for_no_longer_than_said() -> None:
    time = Time()

    with pytest.raises(Untestable, match=r"within 2\.5 s \(connection refused\)"):
        reach(NOBODY, api="ocp", wait=2.5, now=lambda: time.now, sleep=time.sleep)

    assert time.slept == [SECOND, SECOND, SECOND // 2]


def test_a_server_that_never_answers_is_given_up_at_the_deadline() -> None:
    gone = threading.Event()

    def late(path: str) -> Said:
        gone.wait(10)
        return tasks(path)

    with answering(late) as url:
        with pytest.raises(Untestable, match=r"within 0\.2 s \(no response in time\)"):
            reach(url, api="ocp", wait=0.2)
        gone.set()


def test_what_does_not_go_away_by_itself_is_not_waited_for(mock: Logged) -> None:
    time = Time()

    with pytest.raises(Untestable, match="refuses the name and password"):
        reach(mock.url, api="ocp", auth=("a", "b"), wait=60, now=lambda: 0, sleep=time.sleep)

    assert time.slept == []


# --- a wrong password -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "auth"),
    [
        ("ocp", ("manager", "wrong")),
        ("ocp", ("manager", "")),
        ("ocp", AccessKey("oceanmock-ak", "wrong")),
        ("ocp", None),
        ("obshell", Sealed("wrong")),
        ("obshell", Sealed("")),
        ("obshell", Sealed("right", "wrong")),
        ("obshell", None),
    ],
)
def test_a_wrong_password_never_gets_past(agent: Logged, api: Api, auth: Any) -> None:
    with pytest.raises(Untestable):
        reach(agent.url, api=api, auth=auth)


def test_nor_where_only_the_envelope_says_so() -> None:
    said = envelope(status=401, successful=False, error={"message": "no"})

    with answering(lambda _: said) as url:
        assert refusal(url).endswith("refuses the name and password of 'manager': no.")


def test_a_status_that_is_no_number_keeps_nobody_out() -> None:
    with answering(lambda _: envelope(status=[401])) as url:
        assert reach(url, api="ocp", auth=("manager", "manager")).url == url


def test_an_obshell_whose_address_is_none_is_told_so() -> None:
    with answering(lambda _: obshell_info(ip={})) as url:
        assert "does not state its own address" in refusal(url, api="obshell", auth=ROOT)


def test_a_wrong_password_is_tried_once(mock: Logged) -> None:
    before = len(mock.log)

    refusal(mock.url, auth=("manager", "wrong"), wait=30)

    assert len(mock.log) == before + 1


# --- what cannot be tested ------------------------------------------------------------------------


def envelope(http: int = 200, **said: Any) -> Said:
    """An answer as OCP gives it."""
    whole = {"successful": True, "status": http, "traceId": "a", "server": "b", "duration": 1}
    return Said(http, json.dumps(whole | said).encode())


def tasks(_: str) -> Said:
    """An OCP that has no tasks, and asks nobody who he is."""
    return envelope(data={"contents": [], "page": {}})


def obshell_info(**said: Any) -> Said:
    """What an obshell says of itself."""
    data = {"identity": "SINGLE", "version": "4.5.0.0", "ip": "127.0.0.1", "port": 2886} | said
    whole = {"successful": True, "status": 200, "traceId": "a", "data": data}
    return Said(200, json.dumps(whole).encode())


def as_obshell(path: str) -> Said:
    """An obshell as OCP's paths meet it: the page of its web interface."""
    page = Said(200, b"<!doctype html><title>obshell</title>", "text/html")
    return obshell_info() if path == "/api/v1/info" else page


def as_ocp(path: str) -> Said:
    """An OCP as obshell's paths meet it."""
    is_known = path.startswith("/api/v2/tasks/instances")
    return tasks(path) if is_known else envelope(404, successful=False, error={"code": 1})


PAGE: Final = Said(200, b"<html>", "text/html")
LATER: Final[dict[str, Any]] = {"wait": 30, "sleep": lambda _: None}

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves answers until the test is over: one for every path, or a function of the path."""
    with ExitStack() as stack:

        def served(said: Said | Callable[[str], Said], **options: Any) -> str:
            given = (lambda _: said) if isinstance(said, Said) else said
            return stack.enter_context(answering(given, **options))

        yield served


def late() -> Iterator[int]:
    """The time, twenty seconds later at each look."""
    return iter(range(0, 1000 * SECOND, 20 * SECOND))


def listed(sentences: dict[str, str]) -> str:
    """Sentences below the names of their cases."""
    return "".join(f"{name}\n  {sentence}\n" for name, sentence in sentences.items())


def test_where_nobody_answers_one_sentence_says_so(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "READ_SECONDS", 0.05)
    hang = threading.Event()

    with saying(b"") as cut, saying(b"J\0\0\0\x0a5.7.25-OceanBase\0") as database:
        hanging = serve(lambda _: Said(200 if hang.wait(30) else 500))
        sentences = {
            "no URL": refusal("10.0.0.1:8080"),
            "a URL of something else": refusal("ftp://10.0.0.1"),
            "a URL with a query": refusal("http://10.0.0.1/?a=b"),
            "a port that is none": refusal("http://10.0.0.1:99999"),
            "a password in the URL": refusal("http://me:hush@ocp/"),
            "nobody there": refusal(NOBODY),
            "nobody there after a while": refusal(NOBODY, now=late().__next__, **LATER),
            "no such host": refusal("http://no.such.invalid"),
            "no answer": refusal(hanging),
            "starting": refusal(serve(Said(503))),
            "cut off": refusal(cut),
            "a database": refusal(database),
        }
        hang.set()

    assert_golden("conform-nobody.txt", listed(sentences))
    assert "hush" not in listed(sentences)


def test_where_tls_fails_one_sentence_says_how(serve: Serve, tmp_path: Path) -> None:
    own, others = certificate(tmp_path, "127.0.0.1"), certificate(tmp_path, "10.0.0.9")
    plain, secure, of_another = serve(tasks), serve(tasks, tls=own), serve(tasks, tls=others)

    sentences = {
        "https where http is spoken": refusal(plain.replace("http:", "https:")),
        "http where https is spoken": refusal(secure.replace("https:", "http:")),
        "a certificate signed by itself": refusal(secure),
        "a certificate of another host": refusal(of_another, verify=file_of(tmp_path, "10.0.0.9")),
        "a file of certificates that is not there": refusal(secure, verify=f"{tmp_path}/no.pem"),
    }

    assert_golden("conform-tls.txt", listed(sentences).replace(str(tmp_path), "FOLDER"))


def test_who_is_not_that_api_is_told_as_what_it_is(serve: Serve, mock: Logged) -> None:
    obshell: dict[str, Any] = {"api": "obshell", "auth": ROOT}
    moved = Said(308, headers={"Location": "https://ocp/api/v2/tasks/instances?size=1"})

    sentences = {
        "a web page": refusal(serve(PAGE)),
        "other JSON": refusal(serve(Said(200, b'{"hello": "world"}'))),
        "a list": refusal(serve(Said(200, b"[]"))),
        "an error of its own": refusal(f"{mock.url}/sandboxes/zz"),
        "nothing at all": refusal(serve(Said(204, media_type=""))),
        "a redirect": refusal(serve(Said(302, headers={"Location": "https://ocp/login"}))),
        "a redirect of the API": refusal(serve(moved)),
        "the API's own path": refusal(f"{mock.url}/api/v2"),
        "an OCP without tasks": refusal(serve(envelope(404, error={"message": "no such path"}))),
        "an obshell for an OCP": refusal(serve(as_obshell)),
        "an OCP for an obshell": refusal(serve(as_ocp), **obshell),
        "a web page for an obshell": refusal(serve(PAGE), **obshell),
        "an obshell without its address": refusal(serve(obshell_info(port=None)), **obshell),
        "an obshell without a key": refusal(serve(obshell_info()), **obshell),
    }

    assert_golden("conform-other-servers.txt", listed(sentences))


def test_who_refuses_is_told_with_what_it_says(serve: Serve, mock: Logged, agent: Logged) -> None:
    barred = envelope(403, successful=False, error={"message": "You are not authorized"})
    both = Sealed("right", "wrong")

    sentences = {
        "no credentials": refusal(mock.url, auth=None),
        "a wrong password": refusal(mock.url, auth=("manager", "wrong")),
        "an unknown access key": refusal(mock.url, auth=AccessKey("ak", "sk")),
        "an access key that cannot be written": refusal(mock.url, auth=AccessKey("a\nk", "sk")),
        "who may not read": refusal(serve(barred)),
        "a wrong password at a proxy": refusal(serve(Said(401, b"Login", "text/html"))),
        "no credentials for an obshell": refusal(agent.url, api="obshell", auth=None),
        "root's wrong password": refusal(agent.url, api="obshell", auth=Sealed("wrong")),
        "the agent's wrong password": refusal(agent.url, api="obshell", auth=both),
    }

    assert_golden("conform-refused.txt", listed(sentences))


MANY_FAILED: Final = """
summary: Tasks that failed
api: ocp
tasks: [{id: 1, name: Fails, age: 1h, repeat: {count: 201}, subtasks: [{name: Fail, attempts: {ends: FAILED}}]}]
"""
FAILED_WITHOUT_A_LOCK: Final = """
summary: A dag that failed, and holds no lock
api: obshell
dags: [{id: 7, name: Fails, age: 1h, nodes: [{name: Fail, sub_tasks: [{ends: FAILED}]}]}]
"""


@pytest.mark.parametrize(
    ("api", "auth", "text", "count"), [("ocp", MANAGER, MANY_FAILED, 201), ("obshell", ROOT, FAILED_WITHOUT_A_LOCK, 1)]
)
def test_all_that_is_failed_can_be_chosen(api: Api, auth: Any, text: str, count: int) -> None:
    with Server(create_app(make_sandbox([read_scenario(text)]))) as server:
        assert len(failed_tasks(reach(server.url, api=api, auth=auth))) == count


# --- TLS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_trusted", [True, False], ids=["trusted", "not looked at"])
def test_a_server_with_its_own_certificate_can_be_tested(tmp_path: Path, is_trusted: bool) -> None:
    own = certificate(tmp_path, "127.0.0.1")
    verify: bool | str = file_of(tmp_path, "127.0.0.1") if is_trusted else False

    with answering(tasks, tls=own) as url:
        target = reach(url, api="ocp", auth=MANAGER, verify=verify)

    assert (target.url, target.verify) == (url, verify)


def test_what_is_sealed_is_sealed_over_the_same_tls(tmp_path: Path) -> None:
    own = certificate(tmp_path, "127.0.0.1")
    asked: list[str] = []

    def answer(path: str) -> Said:
        asked.append(path)
        return obshell_info(public_key=KEY)

    with answering(answer, tls=own) as url:
        reach(url, api="obshell", auth=Sealed("right"), verify=file_of(tmp_path, "127.0.0.1"))

    assert asked == ["/api/v1/info", "/api/v1/secret", CONFORMANCE.read_path]
