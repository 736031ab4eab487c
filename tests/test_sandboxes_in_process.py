"""Sandboxes in this process, for what HTTP does not show: the registry, ports opened by number, raw ASGI.

test_sandboxes checks the same subject through the public names. Last, two hundred sandboxes whose requests and moves of
the clock come in any order that hypothesis likes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any, Final, TypeVar

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import PATIENCE
from in_process import AFTERNOON, REINSTALL, asking, sandbox_of, spec_of
from obshell_world import INIT
from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.log import Accounts, MoveClock, SandboxSpec
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.sandboxes import Sandboxes
from oceanmock.engine.store import TooManySandboxes
from oceanmock.errors import EnvironmentProblem, InputError
from oceanmock.http.app import App, create_app
from oceanmock.http.server import Ports, Server
from oceanmock.journal.entries import Entry
from oceanmock.library import read_scenario
from oceanmock.obshell.world import Dags
from oceanmock.ocp.world import Tasks

TASK: Final = "/api/v2/tasks/instances/35000312"
DAG: Final = "/api/v1/task/dag/22130706433028864"
MANAGER: Final = ("manager", "manager")

# --- the registry ---------------------------------------------------------------------------------


def registry(**options: Any) -> Sandboxes:
    """Return sandboxes, of which there is but the default one."""
    return Sandboxes(sandbox_of(REINSTALL), **options)


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a/b", "..", ".a", "-a", "_a", "ä", "a\n", "a%20", "a" * 101, "a\x00", "१"]
)
def test_a_text_that_is_no_name_is_refused(name: str) -> None:
    sandboxes = registry()

    with pytest.raises(InputError) as refused:
        sandboxes.create(name, spec_of(REINSTALL))

    assert "is no name for a sandbox: letters, digits, dots, dashes" in str(refused.value)
    assert len(sandboxes) == 1


def test_there_may_be_only_so_many() -> None:
    sandboxes = registry(limit=3)
    sandboxes.create(None, spec_of(REINSTALL))
    sandboxes.create(None, spec_of(REINSTALL))

    with pytest.raises(TooManySandboxes) as refused:
        sandboxes.create(None, spec_of(REINSTALL))

    assert str(refused.value) == ("there are 3 sandboxes already. Delete those that are done with.")
    assert len(sandboxes) == 3


def test_one_may_be_created_for_one_that_was_deleted() -> None:
    sandboxes = registry(limit=2)
    sandboxes.create("mine", spec_of(REINSTALL))
    sandboxes.delete("mine")

    assert sandboxes.create("yours", spec_of(REINSTALL)).name == "yours"


def test_the_ports_of_a_sandbox_are_freed_when_it_is_deleted() -> None:
    sandboxes = registry()
    sandboxes.create("mine", spec_of(REINSTALL))
    sandboxes.create("yours", spec_of(REINSTALL))
    sandboxes.ports.update({4001: "mine", 4002: "yours", 4003: "mine"})

    freed = sandboxes.delete("mine")

    assert freed == [4001, 4003]
    assert sandboxes.ports == {4002: "yours"}


class Machine:
    """A machine's clock that a test moves."""

    def __init__(self) -> None:
        self.now = AFTERNOON

    def __call__(self) -> int:
        return self.now


@pytest.mark.parametrize("use", ["/sandboxes/leased/api/v2/tasks/instances", "/__admin/sandboxes/leased/clock"])
def test_a_lease_is_renewed_by_each_request_and_then_runs_out(use: str) -> None:
    machine = Machine()
    ask = asking(create_app(make_sandbox(wall=machine)))
    body = {"name": "leased", "ttl": "10m", "scenarios": ["many-tasks"]}
    created = ask("POST", "/__admin/sandboxes", json=body).json()
    machine.now += 599 * SECOND
    used = ask("GET", use).status_code
    machine.now += 599 * SECOND
    listed = ask("GET", "/__admin/sandboxes").json()["sandboxes"]
    machine.now += 2 * SECOND
    gone = ask("GET", use)
    again = ask("POST", "/__admin/sandboxes", json=body)

    assert (created["ttl"], created["ttl_left"], used) == ("10m", "10m", 200)
    assert [(sandbox["name"], sandbox.get("ttl_left")) for sandbox in listed] == [("default", None), ("leased", "1s")]
    assert (gone.status_code, "there is no sandbox 'leased'" in gone.text) == (404, True)
    assert again.status_code == 201


def test_a_sandbox_whose_lease_has_run_out_is_removed_and_its_port_is_free() -> None:
    machine = Machine()
    sandboxes = Sandboxes(make_sandbox(wall=machine))
    leased = sandboxes.create("leased", SandboxSpec(ttl=SECOND))
    sandboxes.create("kept", SandboxSpec())
    sandboxes.ports[4711] = "leased"

    machine.now += 2 * SECOND

    assert sandboxes.remove_expired() == [4711]
    assert [sandbox.name for sandbox in sandboxes] == ["default", "kept"]
    assert leased not in sandboxes


def test_the_default_sandbox_is_reset_when_it_is_deleted_and_keeps_its_port() -> None:
    sandboxes = registry()
    sandboxes.default.clock.advance(SECOND)
    sandboxes.ports[4001] = "default"

    freed = sandboxes.delete("default")

    assert sandboxes.default.clock.now() == AFTERNOON
    assert (freed, sandboxes.ports) == ([], {4001: "default"})


# --- raw ASGI -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app() -> App:
    return App(Sandboxes(make_sandbox(progression="manual")))


def serve_two(app: App) -> None:
    """Serve a default sandbox, and two others in which all has happened."""
    app.sandboxes = Sandboxes(sandbox_of(REINSTALL))
    for name in ("a", "b"):
        app.sandboxes.create(name, spec_of(REINSTALL)).clock.advance(60 * SECOND)
    app.sandboxes.ports = {4001: "a"}


def test_an_app_mounted_under_a_root_path_has_its_sandboxes_below_it(app: App) -> None:
    serve_two(app)
    transport = httpx.ASGITransport(app, root_path="/mock")

    async def ask_below() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, auth=MANAGER) as asker:
            return await asker.get(f"http://mock/mock/sandboxes/a{TASK}")

    assert asyncio.run(ask_below()).status_code == 200
    assert {sandbox.name: sandbox.journal.count() for sandbox in app.sandboxes} == {"default": 0, "a": 1, "b": 0}


PARTS: Final = (
    "sandboxes a b default .. . %2e%2e api v2 v1 tasks instances 35000312 subtasks 13000333 retry reset * a/../b "
)
parts = st.sampled_from(PARTS.split(" "))
names = st.sampled_from(["b", "default", " b", "B", "a, b", "b\x00", "*", "a;b", "", "../b"])


def sent(app: App, scope: dict[str, Any]) -> None:
    """Send a request as raw ASGI, whatever is answered."""

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
def test_a_request_to_one_sandbox_reaches_no_other(
    app: App, *, means: str, method: str, path: str, query: bytes, further: list[Any]
) -> None:
    serve_two(app)
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

Result = TypeVar("Result")
PORT: Final = 20_000 + os.getpid() % 10_000
"""A port that no other process gets: for port 0, Linux gives those from 32,768."""


class OnLoop(App):
    """An app that calls functions on the event loop that it is served on."""

    loop: asyncio.AbstractEventLoop

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.loop = asyncio.get_running_loop()
        await super().__call__(scope, receive, send)

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return what a function returns on that loop."""

        async def done() -> Result:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(PATIENCE)

    @property
    def own_ports(self) -> Ports:
        """Return what opens further ports, once the app is served."""
        assert isinstance(self.ports, Ports)
        return self.ports


@pytest.fixture(scope="module")
def served() -> Iterator[OnLoop]:
    app = OnLoop(registry())
    with Server(app):
        yield app


def get(port: int) -> int:
    return httpx.get(f"http://127.0.0.1:{port}{TASK}", auth=MANAGER, trust_env=False).status_code


def test_a_port_may_be_the_default_sandbox_s(served: OnLoop) -> None:
    port = served.call(served.own_ports.open)
    served.sandboxes.ports[port] = "default"
    before = served.sandboxes.default.journal.count()

    assert get(port) == 200
    assert served.sandboxes.default.journal.count() == before + 1


def test_a_port_that_is_closed_as_soon_as_it_is_opened_is_closed(served: OnLoop) -> None:
    def open_and_close() -> None:
        assert served.own_ports.open(PORT) == PORT
        served.own_ports.close(PORT)

    served.call(open_and_close)
    for _ in range(20):  # it is closed once the loop has begun to serve it
        served.call(lambda: None)

    with pytest.raises(httpx.ConnectError):
        get(PORT)


def test_a_freed_port_can_be_another_sandbox_s(served: OnLoop) -> None:
    mine, yours = (served.sandboxes.create(None, spec_of(REINSTALL)) for _ in range(2))
    served.sandboxes.ports[served.call(served.own_ports.open, PORT)] = mine.name
    for port in served.sandboxes.delete(mine.name):
        served.call(served.own_ports.close, port)

    again = served.call(served.own_ports.open, PORT)
    served.sandboxes.ports[again] = yours.name
    status = get(again)
    served.call(served.own_ports.close, again)

    assert (again, status, yours.journal.count()) == (PORT, 200, 1)


def test_closing_a_port_twice_or_one_that_is_not_open_changes_nothing(served: OnLoop) -> None:
    first, other = (served.call(served.own_ports.open) for _ in range(2))

    for number in (first, first, 1):
        served.call(partial(served.own_ports.close, number))

    assert get(other) == 200


def test_a_port_that_is_taken_is_a_problem_of_the_environment(served: OnLoop) -> None:
    port = served.call(served.own_ports.open)

    with pytest.raises(EnvironmentProblem, match=f":{port}: Address already in use"):
        served.call(served.own_ports.open, port)


def test_an_app_that_is_not_served_has_no_ports(app: App) -> None:
    assert app.ports is None


# --- two hundred sandboxes ------------------------------------------------------------------------

SANDBOXES: Final = 200
SEEDS: Final = 5
FAULTS: Final = """
faults:
  - {probability: 0.2, status: 503}
  - {probability: 0.05, delay: 1ms}
"""
SCENARIOS: Final = [read_scenario(text + FAULTS) for text in (REINSTALL, INIT)]

Step = tuple[Any, ...]
requests = st.one_of(
    st.tuples(st.just("GET"), st.sampled_from([TASK, "/api/v2/tasks/instances", DAG, "/nowhere"])),
    st.tuples(st.just("POST"), st.sampled_from(["retry", "rollback"]).map(lambda word: f"{TASK}/{word}")),
    st.tuples(
        st.just("POST"),
        st.builds(
            f"{TASK}/subtasks/{{}}/{{}}".format,
            st.sampled_from([13000333, 13000335, 1]),
            st.sampled_from(["retry", "skip", "cancel"]),
        ),
    ),
    st.tuples(st.just("POST"), st.just(DAG), st.sampled_from(["RETRY", "ROLLBACK", "CANCEL", "PASS", "FLY"])),
)
moves = st.one_of(
    st.tuples(st.just("advance"), st.integers(0, 20 * SECOND)),
    st.tuples(st.just("next")),
    st.tuples(st.just("set"), st.sampled_from(["manual", "polls", "immediate"])),
)


def move(sandbox: Sandbox, how: str, *by: Any) -> None:
    """Moves a sandbox's clock, or changes what moves it."""
    match how:
        case "advance":
            sandbox.advance(*by)
        case "next":
            sandbox.execute(MoveClock(sandbox.next_due() or 0))
        case _:
            sandbox.clock.set(progression=by[0])


async def request(app: App, name: str, method: str, path: str, operator: str = "") -> Any:
    """What a sandbox answers, asked as raw ASGI: the status and the body."""
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"x-oceanmock-sandbox", name.encode()), (b"transfer-encoding", b"chunked")],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        if sent or receive_calls.pop() == "gone":
            await asyncio.Event().wait()
        return {"type": "http.request", "body": json.dumps({"operator": operator}).encode()}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)
        sent.append(message)

    receive_calls = ["gone", "body"]
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(each["body"] for each in sent[1:])


async def drive(app: App, sandbox: Sandbox, steps: list[Step], order: Random) -> list[Any]:
    """Takes the steps in a sandbox, others in between; all it answered, and how it ended."""
    answers = []
    for step in steps:
        for _ in range(order.randrange(4)):
            await asyncio.sleep(0)
        if step[0] in ("GET", "POST"):
            answers.append(await request(app, sandbox.name, *step))
        else:
            move(sandbox, *step)
    return [*answers, *ended(sandbox)]


def ended(sandbox: Sandbox) -> Iterator[Any]:
    """All there is to see of a sandbox but what the machine's clock has to do with."""
    yield sandbox.clock.now(), sandbox.clock.progression, sandbox.next_due()
    yield sandbox.world(Tasks).all(), sandbox.operations_of(Tasks.api, 35000312)
    yield sandbox.world(Dags).all("agent"), sandbox.operations_of(Dags.api, ("agent", 4))
    yield [kept(entry) for entry in sandbox.journal.entries()]


def kept(entry: Entry) -> tuple[Any, ...]:
    return (
        *(entry.number, entry.at, entry.operation, entry.ids, entry.status, entry.response_body),
        *(entry.refusal, entry.fault),
    )


def created(app: App, name: str, seed: int) -> Sandbox:
    accounts = Accounts(required=False)
    spec = SandboxSpec(tuple(SCENARIOS), seed=seed, starts_at=AFTERNOON, accounts=accounts)
    return app.sandboxes.create(name, spec)


@pytest.mark.slow
@given(
    plans=st.lists(st.lists(st.one_of(requests, moves), min_size=1, max_size=12), min_size=1, max_size=6),
    order=st.integers(0, 2**32),
)
def test_each_of_many_sandboxes_ends_as_it_would_alone(app: App, *, plans: list[list[Step]], order: int) -> None:
    def plan_of(number: int) -> tuple[int, int]:
        return number % len(plans), number % SEEDS

    def alone(plan: int, seed: int) -> list[Any]:
        sandbox = created(app, "alone", seed)
        told = asyncio.run(drive(app, sandbox, plans[plan], Random(0)))
        app.sandboxes.delete("alone")
        return told

    async def together() -> list[Any]:
        chances = Random(order)
        sandboxes = [created(app, f"s{n}", plan_of(n)[1]) for n in range(SANDBOXES)]
        ways = [drive(app, sandbox, plans[plan_of(number)[0]], chances) for number, sandbox in enumerate(sandboxes)]
        return list(await asyncio.gather(*ways))

    told = asyncio.run(together())
    for number in range(SANDBOXES):
        app.sandboxes.delete(f"s{number}")

    expected = {key: alone(*key) for key in set(map(plan_of, range(SANDBOXES)))}
    assert told == [expected[plan_of(number)] for number in range(SANDBOXES)]
