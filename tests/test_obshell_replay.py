"""Replay every exchange of tests/data/obshell: the mock responds as a real obshell did.

Each recording is replayed from its first request to its last (see obshell_replay for what is
renamed in both responses), and each response must equal the recorded one, with the order of its
keys. EXCEPT lists the exchanges that differ, each with the reason; an exception that is equal fails
too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from obshell_recordings import FOLDER, exchanges_of
from obshell_replay import Replayed, replayed, served_scenario
from obshell_replay_scenarios import WORLDS
from oceanmock.engine.log import Decoder
from oceanmock.engine.redis_store import RedisStore
from oceanmock.library import read_fault
from redis_servers import redis_server
from shared_stores import connect

pytestmark = pytest.mark.slow

NOT_SERVED = "calls that change the agent and make no dag are not served"
NO_PEERS = "a follower forwarded it to its master, and a sandbox is one agent"
NO_CONSOLE = "obshell's web console is not served, and OCP answers for all paths that are not its own"
OTHER_BUILD = "it was another build of the same version, 4.5.0.0-0"
NO_STATISTICS = "they begin with the revision of the build, and only the console reads them"

EXCEPT: dict[tuple[str, str], str] = {
    ("password.json", "set agent password"): NOT_SERVED,
    ("pass-dag.json", "unfinished before"): NO_PEERS,
    ("pass-dag.json", "node PASS after"): NO_PEERS,
    ("pass-dag.json", "unfinished after"): NO_PEERS,
    ("submits-single.json", "read ob/info"): OTHER_BUILD,
    ("submits-single.json", "read agents/status"): OTHER_BUILD,
    ("submits-single.json", "read obcluster/statistics"): NO_STATISTICS,
    ("submits-single.json", "POST /api/v1/agent/join an ip that is none"): NO_PEERS,
    ("lone.json", "unknown version"): NO_CONSOLE,
    ("lone.json", "not the api"): NO_CONSOLE,
    ("lone.json", "root"): NO_CONSOLE,
}
"""Exchanges with a different response, by file and label."""

NO_RECORDING = "001_fdf33ed94fc51ae1.json"

RECORDED_EXCHANGES = 640
EQUAL_EXCHANGES = 629


def test_every_recording_is_replayed() -> None:
    recordings = {path.name for path in FOLDER.glob("*.json")} - {NO_RECORDING}

    assert set(WORLDS) == recordings
    assert sum(len(exchanges_of(file)) for file in WORLDS) == RECORDED_EXCHANGES
    assert len(EXCEPT) == RECORDED_EXCHANGES - EQUAL_EXCHANGES


@pytest.mark.parametrize("file", WORLDS)
def test_the_responses_are_the_recorded_ones_but_for_the_exceptions(file: str) -> None:
    check_responses(file, replayed(file))


@pytest.fixture(scope="module")
def two_replicas() -> Iterator[Callable[[], list[RedisStore]]]:
    """Yield a function that returns the stores of two replicas on one Redis, which is emptied."""
    decoder = Decoder(served_scenario, read_fault)
    with redis_server() as redis, ExitStack() as stack:
        stores = [connect(stack, redis.url, replica, decoder) for replica in ("one", "two")]

        def emptied() -> list[RedisStore]:
            redis.client.flushall()
            return stores

        yield emptied


@pytest.mark.exhaustive
@pytest.mark.parametrize("file", WORLDS)
def test_two_replicas_on_redis_give_the_recorded_responses_in_turn(
    file: str, two_replicas: Callable[[], list[RedisStore]]
) -> None:
    check_responses(file, replayed(file, two_replicas))


def check_responses(file: str, replays: Sequence[Replayed]) -> None:
    different = [each for each in replays if each.mocked != each.recorded]

    assert {each.exchange.label for each in different} == {label for name, label in EXCEPT if name == file}, (
        "\n\n".join(
            f"{each.exchange.number} {each.exchange.label}\n{each.mocked}\nrecorded: {each.recorded}"
            for each in different
            if (file, each.exchange.label) not in EXCEPT
        )
    )
