"""Many clients at once: of those that ask for the same, one gets it; of sandboxes, each its own.

Threads over a real server first; then two hundred sandboxes whose requests and moves of the clock
come in any order that hypothesis likes.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Barrier
from typing import Any, Final

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import PATIENCE
from in_process import AFTERNOON, REINSTALL
from obshell_world import INIT
from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.log import Accounts, MoveClock, SandboxSpec
from oceanmock.engine.sandbox import Sandbox, Sandboxes
from oceanmock.http.app import App
from oceanmock.journal.entries import Entry
from oceanmock.library import read_scenario
from oceanmock.obshell.world import Dags
from oceanmock.ocp.world import Tasks
from serving_app import Serving, serving_app

pytestmark = pytest.mark.slow

RETRY_SUBTASK: Final = "/api/v2/tasks/instances/35000312/subtasks/13000333/retry"
DAG: Final = "/api/v1/task/dag/22130706433028864"
THREADS: Final = 64
ROUNDS: Final = 10


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with serving_app() as serving:
        yield serving


# --- threads --------------------------------------------------------------------------------------

Round = tuple[Counter[int], Counter[tuple[str, int | None]]]


def at_once(serving: Serving, text: str, ask: Callable[[httpx.Client], int]) -> list[Round]:
    """Of each round: what the threads were answered, and what the journal says they were.

    In each the sandbox is made anew and lives until all has failed; then all ask at once.
    """
    sandboxes = serving.app.sandboxes
    name = serving.create(text, accounts=Accounts(required=False)).name
    together = Barrier(THREADS, timeout=PATIENCE)

    def ask_with_others(_: int) -> int:
        together.wait()
        return ask(client)

    def one_round() -> Round:
        sandbox = sandboxes.reset(name)
        sandbox.advance(60 * SECOND)
        answers = Counter(pool.map(ask_with_others, range(THREADS)))
        entries = sandbox.journal.entries()
        assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
        return answers, Counter((entry.operation, entry.status) for entry in entries)

    limits = httpx.Limits(max_connections=THREADS, max_keepalive_connections=THREADS)
    client = serving.client(f"/sandboxes/{name}", timeout=PATIENCE, limits=limits)
    with ThreadPoolExecutor(THREADS) as pool:
        return [one_round() for _ in range(ROUNDS)]


def test_of_many_that_retry_a_failed_subtask_at_once_one_does(serving: Serving) -> None:
    rounds = at_once(serving, REINSTALL, lambda client: client.post(RETRY_SUBTASK).status_code)

    answers = Counter({200: 1, 400: THREADS - 1})
    entries = Counter({("retrySubtask", 200): 1, ("retrySubtask", 400): THREADS - 1})
    assert rounds == [(answers, entries)] * ROUNDS


def test_of_many_that_retry_a_failed_dag_at_once_one_does(serving: Serving) -> None:
    retry = {"operator": "RETRY"}

    rounds = at_once(serving, INIT, lambda client: client.post(DAG, json=retry).status_code)

    answers = Counter({200: 1, 400: THREADS - 1})
    entries = Counter({("dagHandler", 200): 1, ("dagHandler", 400): THREADS - 1})
    assert rounds == [(answers, entries)] * ROUNDS


# --- two hundred sandboxes ------------------------------------------------------------------------

SANDBOXES: Final = 200
SEEDS: Final = 5
TASK: Final = "/api/v2/tasks/instances/35000312"
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


@pytest.fixture(scope="module")
def app() -> App:
    return App(Sandboxes(make_sandbox(progression="manual")))


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
