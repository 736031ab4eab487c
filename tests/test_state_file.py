"""``serve --state FILE``: what a server keeps over its end, however it comes, and what it says of a file it cannot use.

That a sandbox read from a file equals the one that wrote it, after any commands, is test_engine_log's.
"""

from __future__ import annotations

import ctypes
import re
import resource
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
import pytest

from command import Serving, run, serving
from oceanmock.apis import make_sandbox
from oceanmock.engine.log import Operate, SandboxSpec
from oceanmock.engine.sandboxes import Sandboxes
from oceanmock.engine.state_file import APPLICATION_ID, StateFile
from oceanmock.engine.store import StoreUnavailable
from oceanmock.errors import EnvironmentProblem
from oceanmock.library import DECODER, read_scenario

TASK: Final = "/api/v2/tasks/instances/5"
MANAGER: Final = ("manager", "manager")
KILLED: Final = -signal.SIGKILL
ENDLESS: Final = """
summary: A subtask that fails as often as it is retried
api: ocp
progression: immediate
tasks: [{id: 5, subtasks: [{id: 6, attempts: {takes: 1ms, ends: FAILED}}]}]
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "endless.yaml"
    path.write_text(ENDLESS)
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def retry(url: str) -> httpx.Response:
    """Retry the task."""
    return httpx.post(f"{url}{TASK}/retry", auth=MANAGER)


def runs(url: str) -> int:
    """Return how often the subtask has run."""
    subtasks: list[dict[str, int]] = httpx.get(url + TASK, auth=MANAGER).json()["data"]["subtasks"]
    return subtasks[0]["runTime"]


def opened(path: Path) -> StateFile:
    """Open a state file as a server does."""
    return StateFile(path, decoder=DECODER)


def kill(server: Serving) -> None:
    server.process.kill()
    server.process.wait()


@pytest.mark.slow
def test_no_acknowledged_operation_is_lost_when_the_server_is_killed(scenario: Path, state: Path) -> None:
    with serving(scenario, "--state", state, code=KILLED) as server:
        before = runs(server.url)

        def send(number: int) -> int:
            if number == 500:
                kill(server)
            with suppress(httpx.HTTPError):
                return client.post(f"{TASK}/retry").status_code
            return 0

        with httpx.Client(base_url=server.url, auth=MANAGER, timeout=60) as client, ThreadPoolExecutor(8) as pool:
            statuses = Counter(pool.map(send, range(1000)))
    with serving(scenario, "--state", state) as server:
        after = runs(server.url)

    assert statuses.keys() == {200, 0}
    assert 400 < statuses[200] <= after - before <= statuses[200] + 8


@pytest.mark.slow
def test_a_server_goes_on_with_its_sandboxes_faults_and_clocks(scenario: Path, state: Path) -> None:
    with serving("retry-failed-subtask", "--state", state, "--progression", "manual", code=KILLED) as server:
        admin = f"{server.url}/__admin/sandboxes"
        httpx.post(admin, json={"name": "mine", "scenarios": [ENDLESS]}).raise_for_status()
        httpx.post(f"{admin}/mine/faults", json={"status": 503, "calls": [3]}).raise_for_status()
        httpx.post(f"{admin}/default/clock/advance", json={"by": "90s"}).raise_for_status()
        mine = f"{server.url}/sandboxes/mine"
        first = [httpx.get(mine + TASK, auth=MANAGER).status_code for _ in range(2)]
        clock = httpx.get(f"{admin}/default").json()["now"]
        kill(server)
    with serving("retry-failed-subtask", "--state", state, "--progression", "manual") as server:
        mine = f"{server.url}/sandboxes/mine"
        then = [httpx.get(mine + TASK, auth=MANAGER).status_code for _ in range(2)]
        assert httpx.get(f"{server.url}/__admin/sandboxes/default").json()["now"] == clock

    assert (first, then) == ([200, 200], [503, 200])
    assert [path.name for path in state.parent.glob(f"{state.name}*")] == [state.name]  # all is in the file itself


def test_sandboxes_stay_in_the_order_of_their_creation(state: Path) -> None:
    with closing(opened(state)) as store:
        sandboxes = Sandboxes(make_sandbox(store=store))
        for name in ("b", "a"):
            sandboxes.create(name, SandboxSpec())
        sandboxes.reset("b")
    with closing(opened(state)) as store:
        assert store.names() == ["default", "b", "a"]


@pytest.mark.slow
def test_other_scenarios_replace_the_default_sandbox_and_it_is_said(scenario: Path, state: Path) -> None:
    with serving(scenario, "--state", state) as server:
        retry(server.url)
        server.stop(signal.SIGINT)
    with serving("rollback", "--state", state) as server:
        assert httpx.get(server.url + TASK, auth=MANAGER).status_code == 404
        ended = server.stop(signal.SIGINT)

    assert ended.stderr == f"{state} has a default sandbox of other scenarios or options; it is replaced.\n"


@pytest.mark.slow
def test_one_server_at_a_time_has_a_file(scenario: Path, state: Path) -> None:
    with serving(scenario, "--state", state):
        second = run("serve", scenario, "--port", "0", "--state", state)

    reason = "another server uses it"
    assert (second.returncode, second.stderr) == (
        2,
        f"Error: cannot keep the state in {state}: {reason}. Give another file.\n",
    )


@pytest.mark.slow
def test_an_operation_that_cannot_be_kept_is_refused_until_there_is_room(scenario: Path, state: Path) -> None:
    with serving(scenario, "--state", state) as server:
        before = runs(server.url)
        wal = state.with_name("state.db-wal").stat().st_size
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (wal, resource.RLIM_INFINITY))
        refused = retry(server.url)
        meanwhile = runs(server.url)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        accepted = retry(server.url)
        after = runs(server.url)
        ended = server.stop(signal.SIGINT)

    assert (refused.status_code, refused.json()["status"], refused.json()["successful"]) == (503, 503, False)
    assert (meanwhile, accepted.status_code, after) == (before, 200, before + 1)
    assert ended.stderr.startswith(f"the state file {state} cannot be written: ")
    assert ended.stderr.count("\n") == 1


@contextmanager
def edited(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file as any program does, and commit what is done to it."""
    with closing(sqlite3.connect(path)) as connection:
        yield connection
        connection.commit()


def foreign(path: Path) -> None:
    with edited(path) as connection:
        connection.execute("CREATE TABLE mine (a)")


def of_format(number: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        opened(path).close()
        with edited(path) as connection:
            connection.execute(f"PRAGMA user_version = {number}")

    return make


def damaged(path: Path) -> None:
    opened(path).close()
    with edited(path) as connection:
        connection.execute("INSERT INTO sandbox VALUES ('default', 1, '{}')")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text("no database " * 100), "it is no state file"),
        (foreign, "it is no state file of oceanmock"),
        (of_format(0), "its format is 0, and this version of oceanmock has format 1"),
        (of_format(2), "its format is 2, and this version of oceanmock has format 1"),
        (damaged, "it was written by another version of oceanmock ('accounts')"),
        (lambda path: path.mkdir(), "unable to open database file"),
        (lambda path: path.symlink_to("/no/such/folder/state.db"), "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_one_sentence(
    make: Callable[[Path], Any], reason: str, state: Path
) -> None:
    make(state)

    with pytest.raises(EnvironmentProblem) as told:
        opened(state)

    is_ours = "version of oceanmock" in reason
    hint = "Give another file" + (", or delete this one to begin anew." if is_ours else ".")
    assert str(told.value) == f"cannot keep the state in {state}: {reason}. {hint}"


def test_a_file_that_may_only_be_read_is_told_in_one_sentence() -> None:
    set_user_of_files = ctypes.CDLL(None).setfsuid  # of this thread; it does nothing for others than root
    with TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "state.db"
        opened(path).close()
        path.chmod(0o444)
        path.parent.chmod(0o555)
        stack.callback(path.parent.chmod, 0o700)
        stack.callback(set_user_of_files, set_user_of_files(65534))
        with pytest.raises(EnvironmentProblem) as told:
            opened(path)

    reason = "(Permission denied|attempt to write a readonly database)"  # of root's file, and of one's own
    assert re.fullmatch(rf"cannot keep the state in {path}: {reason}\. Give another file\.", str(told.value))


def test_a_state_file_is_marked_as_one_and_is_its_owner_s(state: Path) -> None:
    opened(state).close()

    assert state.stat().st_mode & 0o777 == 0o600
    with edited(state) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_a_file_that_cannot_be_used_stays_as_it_was(state: Path) -> None:
    foreign(state)
    before = state.read_bytes()

    with pytest.raises(EnvironmentProblem):
        opened(state)

    assert state.read_bytes() == before


def test_what_cannot_be_written_changes_nothing_in_memory(state: Path) -> None:
    store = opened(state)
    sandboxes = Sandboxes(make_sandbox([read_scenario(ENDLESS)], store=store))
    sandboxes.create("mine", SandboxSpec((read_scenario(ENDLESS),)))
    store.count("mine", "calls")
    store.close()

    for change in (
        lambda: store.count("mine", "calls"),
        lambda: sandboxes.delete("mine"),
        lambda: sandboxes.get("mine").execute(Operate("ocp", 5, "RETRY")),
    ):
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            change()

    assert store.count("mine", "calls", by=0) == 1
    assert sandboxes.get("mine").is_untouched
    assert [entry.command for entry in store.read("mine", since=-1).entries] == []


def test_a_sandbox_that_was_reset_stays_in_the_file(state: Path) -> None:
    with closing(opened(state)) as store:
        sandboxes = Sandboxes(make_sandbox([read_scenario(ENDLESS)], store=store))
        sandboxes.reset("default")
    with closing(opened(state)) as store:
        names = store.names()

    assert names == ["default"]


def test_an_operation_that_is_kept_is_accepted_even_if_its_record_is_not(state: Path) -> None:
    sandbox = make_sandbox([read_scenario(ENDLESS)], store=opened(state))
    sandbox.store._connection.execute("DROP TABLE record")  # type: ignore[union-attr]

    sandbox.execute(Operate("ocp", 5, "RETRY"))

    assert [record.operation for record in sandbox.operations_of("ocp", 5)] == ["RETRY"]
