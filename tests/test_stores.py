"""What holds for every kind of store: in memory, in a state file, in Redis, and in Redis for two replicas.

Clients send their requests at once, by turns to each server. What two replicas may do to the store in any order is
compared with a store in memory. Last, what clients get while Redis is stopped, full or silent.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from oceanmock.cli import main
from oceanmock.cli.store import default_sandbox
from oceanmock.clock import SECOND
from oceanmock.engine.log import LogEntry, MoveClock, Operate, OperationRecord, SandboxSpec
from oceanmock.engine.store import MemoryStore, SandboxDeleted, Store
from oceanmock.errors import EnvironmentProblem
from oceanmock.http.app import create_app
from oceanmock.http.server import Server
from oceanmock.journal.entries import Entry
from oceanmock.library import read_scenario
from redis_servers import RedisServer, redis_server
from served import MANAGER, until
from shared_stores import KINDS, Proxy, connect, served_by

pytestmark = pytest.mark.slow

CLIENTS: Final = 24
TASK: Final = "/api/v2/tasks/instances/5"
DAG: Final = "/api/v1/task/dag/5"
VIEWS: Final = ("/clock", "/tasks", "/journal", "/report")
FAILS_ONCE: Final = """
summary: A subtask that fails once
api: ocp
tasks: [{id: 5, subtasks: [{id: 6, attempts: [{takes: 1s, ends: FAILED}, {takes: 1h}]}]}]
"""
ENDLESS: Final = """
summary: A subtask that fails as often as it is retried
api: ocp
progression: immediate
tasks: [{id: 5, subtasks: [{id: 6, attempts: {takes: 1ms, ends: FAILED}}]}]
"""
FIVE_STEPS: Final = """
summary: Five subtasks, one after the other
api: ocp
tasks: [{id: 5, subtasks: [{id: 1}, {id: 2}, {id: 3}, {id: 4}, {id: 6}]}]
"""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module", params=KINDS)
def urls(request: pytest.FixtureRequest, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    redis.client.flushall()
    with served_by(request.param, tmp_path_factory.mktemp("store"), redis) as servers:
        yield servers


def admin(url: str, path: str, method: str = "GET", **body: Any) -> Any:
    answer = httpx.request(method, f"{url}/__admin/sandboxes{path}", json=body or None, timeout=60)
    answer.raise_for_status()
    return answer.json()


def create(url: str, scenario: str, **options: Any) -> str:
    options = {"progression": "manual", "starts_at": "2024-01-01T00:00:00Z", **options}
    name: str = admin(url, "", "POST", scenarios=[scenario], **options)["name"]
    return name


def at_once(count: int, call: Callable[[int, httpx.Client], Any]) -> list[Any]:
    """Call a function by so many threads at once, with their numbers."""
    with httpx.Client(timeout=60, auth=MANAGER) as http, ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda number: call(number, http), range(count)))


def test_sandboxes_that_are_used_at_once_are_apart(urls: list[str]) -> None:
    def use(number: int, http: httpx.Client) -> tuple[str, list[int]]:
        name = create(urls[number % 2], FAILS_ONCE)
        admin(urls[0], f"/{name}/clock/advance", "POST", by="60s")
        statuses = [http.post(f"{url}/sandboxes/{name}{TASK}/retry").status_code for url in urls]
        statuses.append(admin(urls[1], f"/{name}")["requests"])
        admin(urls[number % 2], f"/{name}", "DELETE")
        statuses += [http.get(f"{url}/sandboxes/{name}{TASK}").status_code for url in urls]
        return name, statuses

    used = at_once(12, use)

    assert len({name for name, _ in used}) == 12
    assert [statuses for _, statuses in used] == [[200, 400, 2, 404, 404]] * 12
    assert len(admin(urls[0], "")["sandboxes"]) == 1


def test_of_many_retries_at_once_one_is_accepted(urls: list[str]) -> None:
    name = create(urls[0], FAILS_ONCE)
    admin(urls[1], f"/{name}/clock/advance", "POST", by="60s")

    statuses = at_once(
        CLIENTS, lambda number, http: http.post(f"{urls[number % 2]}/sandboxes/{name}{TASK}/retry").status_code
    )

    assert Counter(statuses) == {200: 1, 400: CLIENTS - 1}
    first, second = ([admin(url, f"/{name}{part}") for part in VIEWS] for url in urls)
    assert first == second
    assert [entry["number"] for entry in first[2]["entries"]] == [*range(1, CLIENTS + 1)]


def test_faults_count_each_request_once(urls: list[str]) -> None:
    name = create(urls[0], FAILS_ONCE)
    admin(urls[0], f"/{name}/faults", "POST", status=503, calls="5-14")

    statuses = at_once(CLIENTS, lambda number, http: http.get(f"{urls[number % 2]}/sandboxes/{name}{TASK}").status_code)

    assert Counter(statuses) == {503: 10, 200: CLIENTS - 10}
    for url in urls:
        (fault,) = admin(url, f"/{name}/faults")["faults"]
        assert (fault["counted"], fault["affected"]) == (CLIENTS, 10)


def test_each_reader_sees_a_task_go_on_and_together_they_miss_nothing(urls: list[str]) -> None:
    name = create(urls[0], FIVE_STEPS, progression="polls")

    def read(number: int, http: httpx.Client) -> list[int]:
        """Return how many subtasks had succeeded, at each of the reader's requests."""
        tasks = [http.get(f"{urls[number % 2]}/sandboxes/{name}{TASK}").json()["data"] for _ in range(20)]
        return [sum(it["status"] == "SUCCESSFUL" for it in task["subtasks"]) for task in tasks]

    readers = at_once(4, read)

    assert all(seen == sorted(seen) for seen in readers)
    assert set(itertools.chain(*readers)) == {*range(6)}


def test_moves_of_the_clock_at_once_add_up(urls: list[str]) -> None:
    name = create(urls[0], FAILS_ONCE)

    at_once(8, lambda number, _: admin(urls[number % 2], f"/{name}/clock/advance", "POST", by="10s"))

    assert [admin(url, f"/{name}/clock")["now"] for url in urls] == ["2024-01-01T00:01:20Z"] * 2


def test_scenarios_that_are_loaded_at_once_are_all_there(urls: list[str]) -> None:
    name = create(urls[0], ENDLESS)
    extra = "summary: Number {}\napi: ocp\nprogression: immediate\ntasks: [{{subtasks: [{{}}]}}]"

    at_once(
        8, lambda number, _: admin(urls[number % 2], f"/{name}/scenarios", "POST", scenarios=[extra.format(number)])
    )

    for url in urls:
        sandbox = admin(url, f"/{name}")
        summaries = {scenario["summary"] for scenario in sandbox["scenarios"]}
        assert (sandbox["tasks"], summaries >= {f"Number {number}" for number in range(8)}) == (9, True)


def test_a_reset_and_a_new_journal_are_seen_by_all(urls: list[str]) -> None:
    name = create(urls[0], FAILS_ONCE)
    httpx.get(f"{urls[0]}/sandboxes/{name}{TASK}", auth=MANAGER)
    assert admin(urls[1], f"/{name}")["requests"] == 1
    httpx.get(f"{urls[1]}/sandboxes/{name}{TASK}", auth=MANAGER)
    admin(urls[0], f"/{name}/clock/advance", "POST", by="60s")

    assert [admin(url, f"/{name}/report")["requests"] for url in urls] == [2, 2]
    assert admin(urls[1], f"/{name}/journal", "DELETE") == {"deleted": 2}
    assert admin(urls[0], f"/{name}/journal") == {"entries": [], "dropped": 0, "last": 2, "more": False}
    admin(urls[1], f"/{name}/reset", "POST")
    assert admin(urls[0], f"/{name}/clock")["now"] == "2024-01-01T00:00:00Z"


def test_sandboxes_stay_in_the_order_of_their_creation(urls: list[str]) -> None:
    names = [create(urls[0], FAILS_ONCE), create(urls[1], FAILS_ONCE)]
    for name in ("default", names[0]):
        admin(urls[1], f"/{name}/reset", "POST")

    for url in urls:
        listed = [sandbox["name"] for sandbox in admin(url, "")["sandboxes"]]
        assert (listed[0], listed[-2:]) == ("default", names)


# --- a store beside its model ---------------------------------------------------------------------

COMMANDS: Final = (Operate("ocp", 5, "RETRY"), Operate("obshell", ("agent", 4), "PASS", 1), MoveClock(3), MoveClock(9))
CALLERS: Final = ("", "manager", "ü\udc80")
acts = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 2), st.sampled_from(COMMANDS)),
    st.tuples(st.just("retry")),
    st.tuples(st.just("put"), st.sampled_from([None, 0, 1, 2]), st.booleans()),
    st.tuples(st.sampled_from(["delete", "crash", "clear", "take"])),
    st.tuples(st.just("count"), st.sampled_from(["x", ("stub", 1)]), st.integers(-2, 3)),
    st.tuples(st.just("keep"), st.sampled_from(CALLERS)),
    st.tuples(st.just("record"), st.integers(0, 1)),
    st.tuples(st.just("journal"), st.binary(max_size=5)),
)


def entry_of(body: bytes) -> Entry:
    return Entry(0, 1, 2, 3, "ocp", "", "GET", "/ü", "", {}, "", body, 200, body, request_headers=[(b"a", b"b")])


class Side:
    """A store, and the versions that it has given in order; ``of`` returns the process that acts."""

    def __init__(self, of: Callable[[int], Store]) -> None:
        self.of = of
        self.versions = [0]
        self.base = 0
        self.lost: tuple[LogEntry, int] | None = None

    def act(self, process: int, instant: int, name: str, *words: Any) -> Any:  # noqa: PLR0911 (one for each)
        """Do something as one of the processes; return what it shows, with versions as their numbers."""
        store = self.of(process)
        try:
            match name, words:
                case "append", (age, command):
                    self.lost = LogEntry(instant, instant, command), self.versions[max(-1 - age, -len(self.versions))]
                    return self._append(store)
                case "retry", ():
                    return self._append(store) if self.lost else None
                case "put", (replaces, untouched):
                    base = {None: None, 0: 0, 1: self.base, 2: self.versions[0]}[replaces]
                    spec = SandboxSpec(name="a", created=1, seed=instant)
                    self.base = self._version(store.put(spec, replaces=base, if_untouched=untouched)) or self.base
                case "delete", ():
                    store.delete("a")
                case "count", (counter, by):
                    return store.count("a", counter, by=by)
                case "keep", (caller,):
                    store.swap_attempt("a", caller, ("digest", {1: instant}))
                case "take", ():
                    return [store.swap_attempt("a", caller) for caller in CALLERS]
                case "record", (key,):
                    store.record("a", key, OperationRecord(instant, "RETRY", None))
                case "journal", (body,):
                    self._journal(store).record(entry_of(body))
                case "clear", ():
                    return self._journal(store).clear()
        except SandboxDeleted:
            return "deleted"
        return None

    def _append(self, store: Store) -> Any:
        assert self.lost is not None
        entry, version = self.lost
        return self._version(store.append("a", entry, expected_version=version)) is not None

    def _version(self, version: int | None) -> int | None:
        if version is not None:
            assert version > self.versions[-1]
            self.versions.append(version)
        return version

    def _journal(self, store: Store) -> Any:
        return store.journal("a", store.read("a", since=-1).base)

    def view(self, process: int) -> Any:
        """What a process sees, since each version."""
        store = self.of(process)
        try:
            journal = self._journal(store)
            changes = [store.read("a", since=version) for version in self.versions]
            shown = [
                (self.versions.index(it.version), list(it.entries), it.spec, self.versions.index(it.base))
                for it in changes
            ]
            kept = [(entry.number, entry.request_body) for entry in journal.entries()]
            return store.names(), shown, kept, journal.last, [store.records("a", key) for key in (0, 1)]
        except SandboxDeleted:
            return store.names()


@settings(max_examples=60)
@given(history=st.lists(st.tuples(st.integers(0, 1), acts), max_size=25))
def test_two_processes_do_to_redis_what_one_does_to_memory(
    redis: RedisServer, history: list[tuple[int, tuple[Any, ...]]]
) -> None:
    redis.client.flushall()
    memory = MemoryStore()
    with ExitStack() as stack:
        processes = [connect(stack, redis.url), connect(stack, redis.url)]
        actual, model = Side(processes.__getitem__), Side(lambda _: memory)
        for instant, (process, act) in enumerate([(0, ("put", None, False)), *history]):
            if act == ("crash",):
                processes[process] = connect(stack, redis.url)
            assert actual.act(process, instant, *act) == model.act(process, instant, *act)
            assert [actual.view(number) for number in (0, 1)] == [model.view(0)] * 2


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_an_entry_that_is_older_than_the_newest_is_refused(redis: RedisServer, stack: ExitStack) -> None:
    store = connect(stack, redis.url)
    base = store.put(SandboxSpec(name="older")) or 0
    version = store.append("older", LogEntry(5, 5, COMMANDS[0]), expected_version=base) or 0

    for entry in (LogEntry(4, 6, COMMANDS[0]), LogEntry(6, 4, COMMANDS[0])):
        assert store.append("older", entry, expected_version=version) is None
    assert store.append("older", LogEntry(5, 5, COMMANDS[0]), expected_version=version) is not None


def test_a_replica_waits_for_the_command_of_another(redis: RedisServer, stack: ExitStack) -> None:
    one, two = connect(stack, redis.url, "one"), connect(stack, redis.url, "two")
    base = one.put(SandboxSpec(name="claimed")) or 0
    one.read("claimed", since=base, claims=True)
    asked = two.metrics()["store_requests_total"]

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(two.read, "claimed", since=base, claims=True)
        until(lambda: two.metrics()["store_requests_total"] > asked + 1)
        version = one.append("claimed", LogEntry(1, 1, COMMANDS[0]), expected_version=base)

    assert waiting.result().version == version


def test_the_time_of_replicas_is_redis_s_and_not_before_any_entry(redis: RedisServer, stack: ExitStack) -> None:
    one, two = connect(stack, redis.url, "one"), connect(stack, redis.url, "two")
    base = one.put(SandboxSpec(name="time")) or 0
    ahead = two.wall() + 3600 * SECOND
    seconds, micros = redis.client.time()

    assert abs(one.wall() - seconds * SECOND - micros * 1000) < SECOND
    assert abs(one.wall() - two.wall()) < one.clock_error() + two.clock_error() + SECOND
    one.append("time", LogEntry(ahead, ahead, COMMANDS[0]), expected_version=base)
    two.read("time", since=base)
    assert two.wall() >= ahead


def test_what_redis_has_is_exported_and_imported(redis: RedisServer, tmp_path: Path) -> None:
    def run(*words: str, **options: Any) -> str:
        return CliRunner().invoke(main, ["store", *words], catch_exceptions=False, **options).stdout

    redis.client.flushall()
    with ExitStack() as stack:
        sandboxes = create_app(default_sandbox(connect(stack, redis.url), [], {"progression": "manual"})).sandboxes
        sandboxes.create("mine", SandboxSpec((read_scenario(ENDLESS),))).execute(Operate("ocp", 5, "RETRY"))
        sandboxes.get("mine").store.count("mine", ("stub", 1))
    exported = run("export", redis.url)
    run("import", f"{tmp_path}/copy.db", input=exported)
    run("purge", "--yes", redis.url)
    assert run("export", redis.url) == ""
    run("import", redis.url, input=exported)

    assert len(exported.splitlines()) == 5
    assert run("export", redis.url) == run("export", f"{tmp_path}/copy.db") == exported
    assert run("check", redis.url).endswith(": 2 sandboxes\n")


def test_a_replica_s_metrics_have_its_store_s(failing: tuple[str, Proxy]) -> None:
    url, _ = failing

    names = {line.split(" ")[0] for line in httpx.get(f"{url}/__admin/metrics").text.splitlines()}

    assert names >= {f"oceanmock_store_{name}_total" for name in ("conflicts", "requests", "seconds")}
    ready = httpx.get(f"{url}/__admin/ready").json()
    assert (ready["replica"], ready["clock_skew"][-1]) == ("test", "s")


# --- when Redis fails -----------------------------------------------------------------------------


@pytest.fixture
def failing(redis: RedisServer, stack: ExitStack) -> Iterator[tuple[str, Proxy]]:
    """A replica whose store is behind a proxy."""
    redis.client.flushall()
    proxy = Proxy(redis.port)
    stack.callback(proxy.close)
    sandbox = default_sandbox(connect(stack, proxy.url), [], {"progression": "manual"})
    with Server(create_app(sandbox)) as server:
        yield server.url, proxy


def answers(url: str) -> tuple[list[int], str]:
    """Return the statuses of health, readiness, both APIs and the admin API; and why it is not ready."""
    paths = ("/__admin/health", "/__admin/ready", "/api/v2/tasks/instances", "/api/v1/secret", "/__admin/sandboxes")
    shown = [httpx.get(url + path, auth=MANAGER) for path in paths]
    return [answer.status_code for answer in shown], shown[1].json().get("error", "")


def test_the_default_sandbox_is_listed_though_the_store_was_emptied(
    failing: tuple[str, Proxy], redis: RedisServer
) -> None:
    create(failing[0], FIVE_STEPS, name="other")
    redis.client.flushall()

    assert [sandbox["name"] for sandbox in admin(failing[0], "")["sandboxes"]] == ["default"]


ALL_WELL: Final = ([200] * 5, "")
UNAVAILABLE: Final = [200, 503, 503, 503, 503]


def is_well(url: str) -> Callable[[], bool]:
    return lambda: httpx.get(f"{url}/__admin/ready").status_code == 200


def runs(url: str, name: str) -> int:
    subtasks = httpx.get(f"{url}/sandboxes/{name}{TASK}", auth=MANAGER).json()["data"]["subtasks"]
    count: int = subtasks[0]["runTime"]
    return count


def test_while_redis_is_stopped_requests_are_refused_and_afterwards_nothing_is_lost(
    redis: RedisServer, failing: tuple[str, Proxy]
) -> None:
    url, _ = failing
    name = create(url, ENDLESS, progression="immediate")
    for _ in range(5):
        httpx.post(f"{url}/sandboxes/{name}{TASK}/retry", auth=MANAGER).raise_for_status()
    before, journal = runs(url, name), admin(url, f"/{name}/journal")["last"]

    redis.kill()
    statuses, reason = answers(url)
    redis.start()
    until(is_well(url))

    assert statuses == UNAVAILABLE
    assert reason.startswith("the store 127.0.0.1:")
    assert (runs(url, name), admin(url, f"/{name}/journal")["last"]) == (before, journal + 1)


def test_while_redis_is_full_requests_are_refused_and_a_sandbox_can_be_deleted(
    redis: RedisServer, failing: tuple[str, Proxy]
) -> None:
    url, _ = failing
    name = create(url, ENDLESS)
    redis.client.config_set("maxmemory", 1)
    statuses, reason = answers(url)
    deleted = httpx.delete(f"{url}/__admin/sandboxes/{name}")
    redis.client.config_set("maxmemory", 0)

    assert statuses == [200, 503, 503, 503, 200]
    assert "command not allowed when used memory > 'maxmemory'" in reason
    assert deleted.status_code == 200
    assert answers(url) == ALL_WELL


def test_while_redis_is_silent_the_server_lives_and_says_that_it_waits(failing: tuple[str, Proxy]) -> None:
    url, proxy = failing
    proxy.hold()

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(httpx.get, f"{url}{TASK}", auth=MANAGER) for _ in range(4)]
        assert httpx.get(f"{url}/__admin/health").status_code == 200
        statuses = [answer.result().status_code for answer in waiting]
    not_ready = httpx.get(f"{url}/__admin/ready")
    proxy.release()
    until(is_well(url))

    assert statuses == [503] * 4
    assert not_ready.status_code == 503
    assert answers(url) == ALL_WELL


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "http://127.0.0.1/", "redis://127.0.0.1:x/0"])
def test_a_store_that_cannot_be_used_is_told_without_its_password(url: str, stack: ExitStack) -> None:
    secret = url.replace("://", "://user:geheim@")

    with pytest.raises(EnvironmentProblem) as told:
        connect(stack, secret)

    assert "geheim" not in str(told.value)


def test_a_redis_that_evicts_keys_is_refused(redis: RedisServer, stack: ExitStack) -> None:
    redis.client.config_set("maxmemory-policy", "allkeys-lru")
    redis.client.config_set("maxmemory", "1gb")

    with pytest.raises(EnvironmentProblem, match="would evict sandboxes when its memory is full"):
        connect(stack, redis.url)

    redis.client.config_set("maxmemory", 0)
    redis.client.config_set("maxmemory-policy", "noeviction")
