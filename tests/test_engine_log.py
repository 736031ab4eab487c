"""A sandbox follows from its specification, its log and its clock: replaying them gives what a client sees.

Below is the clock: how it runs, stands and is moved. The machine's time is a value that the test owns.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fault_requests import request_to
from in_process import REINSTALL
from obshell_world import INIT
from oceanmock.apis import APIS, make_sandbox
from oceanmock.clock import LATEST, PROGRESSIONS, SECOND, Clock, Progression, machine_now
from oceanmock.engine.faults import Faults
from oceanmock.engine.log import (
    MAX_ACCEPTED,
    AddFault,
    ClearFaults,
    Command,
    Create,
    Load,
    LogEntry,
    MoveClock,
    Operate,
    OperationRecord,
    RemoveFault,
    SandboxSpec,
    SetClock,
)
from oceanmock.engine.machine import MAX_OPERATIONS
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.sandboxes import Sandboxes
from oceanmock.engine.state_file import StateFile
from oceanmock.engine.store import MemoryStore, SandboxFull
from oceanmock.errors import IllegalOperation, IllegalOperator, NoSuchTask, OceanmockError
from oceanmock.library import DECODER, load_scenario, read_fault, read_scenario
from oceanmock.obshell import world as obshell_world
from oceanmock.obshell.api import ClientOperator
from oceanmock.obshell.world import DagKey, Dags
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import world as ocp_world
from oceanmock.ocp.api import Operation
from oceanmock.ocp.world import Tasks
from oceanmock.scenario.stubs import StubRequest
from served import World

START: Final = 1_700_000_000 * SECOND
CREATED: Final = 1_800_000_000 * SECOND
TASK: Final = 35000312
SCENARIOS: Final = (read_scenario(REINSTALL), read_scenario(INIT), load_scenario("create-tenant"))
EXTRA: Final = read_scenario("summary: One\napi: ocp\ntasks: [{subtasks: [{}, {}]}]")
FLAWED: Final = read_scenario(f"summary: Two\napi: ocp\ntasks: [{{id: {TASK}, subtasks: [{{}}]}}]")
FAULTS: Final = "faults: [{reset: true, calls: 1}, {empty: true}]"
FAULTY: Final = read_scenario(f"summary: Three\napi: ocp\ntasks: [{{id: {TASK}, subtasks: [{{}}]}}]\n{FAULTS}")


SUBTASK_OPERATIONS: Final[tuple[Operation, ...]] = ("RETRY", "SKIP", "CANCEL")
OPERATORS: Final[tuple[ClientOperator, ...]] = get_args(ClientOperator)


class Wall:
    """A time of day that only the test moves."""

    def __init__(self, now: int = CREATED) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def spec(progression: Any) -> SandboxSpec:
    return SandboxSpec(SCENARIOS, seed=3, created=CREATED, starts_at=START, progression=progression)


def state_file(folder: str) -> StateFile:
    """Open the state file in a folder as a server does."""
    return StateFile(Path(folder) / "state.db", decoder=DECODER)


def log_of(sandbox: Sandbox) -> list[LogEntry]:
    return list(sandbox.store.read(sandbox.name, since=-1).entries)


def view(sandbox: Sandbox) -> list[Any]:
    """Everything that clients can see of the state."""
    clock = sandbox.clock
    dags = sandbox.world(Dags)
    return [
        (clock.now(), clock.progression, clock.speed, sandbox.next_due()),
        sandbox.world(Tasks).all(),
        [dags.all(store) for store in ("agent", "cluster")],
        dags.agents[0],
        [(fault.name, fault.fault) for fault in sandbox.faults.statistics()],
        [list(world.items()) for world in sandbox.worlds.values()],
        [scenario.name for scenario in sandbox.scenarios],
    ]


# --- what may happen to a sandbox -----------------------------------------------------------------


def operate_task(sandbox: Sandbox, choice: int) -> None:
    tasks = sandbox.world(Tasks).all()
    task = tasks[choice % len(tasks)].data
    ocp_world.operate(sandbox, task.id, ("RETRY", "ROLLBACK")[choice % 2])


def operate_subtask(sandbox: Sandbox, choice: int) -> None:
    tasks = sandbox.world(Tasks).all()
    task = tasks[choice % len(tasks)].data
    subtask = task.subtasks[choice % len(task.subtasks)]
    operation: Operation = SUBTASK_OPERATIONS[choice % 3]
    ocp_world.operate_subtask(sandbox, task.id, subtask.id, operation)


def operate_dag(sandbox: Sandbox, choice: int) -> None:
    operator = OPERATORS[choice % 4]
    obshell_world.operate(sandbox, ("agent", 4), operator)


def operate_node(sandbox: Sandbox, choice: int) -> None:
    obshell_world.operate(sandbox, ("agent", 4), "PASS", choice % 3)


def submit(sandbox: Sandbox, choice: int) -> None:
    templates = sandbox.world(Tasks).templates
    ocp_world.start(
        sandbox, templates[choice % len(templates)], StubRequest("POST", "/api/v2/ob/clusters/3/tenants", {}, {}, None)
    )


def create(sandbox: Sandbox, _: int) -> None:
    sandbox.execute(Create(Tasks.api, EXTRA))


def load(sandbox: Sandbox, choice: int) -> None:
    sandbox.execute(Load((EXTRA, FLAWED) if choice % 3 == 0 else (EXTRA,)))


def move_clock(sandbox: Sandbox, choice: int) -> None:
    sandbox.execute(MoveClock(sandbox.clock.now() + choice * SECOND // 4))


def set_clock(sandbox: Sandbox, choice: int) -> None:
    sandbox.execute(SetClock(PROGRESSIONS[choice % len(PROGRESSIONS)], float(1 + choice % 3)))


def read(sandbox: Sandbox, _: int) -> None:
    sandbox.note_read(Tasks, (view.data.id for view in sandbox.world(Tasks).all()))
    sandbox.note_read(Dags, (view.data.key for view in sandbox.world(Dags).all("agent")))


def add_fault(sandbox: Sandbox, choice: int) -> None:
    name = {"name": f"named {choice % 3}"} if choice % 2 else {}
    sandbox.execute(AddFault(read_fault({"status": 503, **name})))


def remove_fault(sandbox: Sandbox, choice: int) -> None:
    names = [fault.name for fault in sandbox.faults.statistics()]
    if names:
        sandbox.execute(RemoveFault(names[choice % len(names)]))
    elif choice % 5 == 0:
        sandbox.execute(ClearFaults())


ACTS: Final[tuple[Callable[[Sandbox, int], None], ...]] = (
    *(operate_task, operate_subtask, operate_dag, operate_node, submit, create, load),
    *(move_clock, move_clock, set_clock, read, add_fault, remove_fault),
)


@given(
    progression=st.sampled_from(PROGRESSIONS),
    acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 100), st.integers(0, 5)), max_size=25),
)
def test_replaying_the_log_gives_what_the_live_sandbox_shows(
    progression: Any, acts: list[tuple[Callable[[Sandbox, int], None], int, int]]
) -> None:
    wall = Wall()
    live = Sandbox(spec(progression), APIS, wall=wall)
    for act, choice, seconds in acts:
        wall.now += seconds * SECOND
        with suppress(OceanmockError):
            act(live, choice)

    replayed = Sandbox(spec(progression), APIS, wall=wall)
    version: int | None = replayed.base
    for entry in log_of(live):
        version = replayed.store.append(replayed.name, entry, expected_version=version or 0)
    replayed.refresh()

    assert view(replayed) == view(live)
    wall.now += 100 * SECOND
    assert view(replayed) == view(live)


@settings(max_examples=20)
@given(acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 100), st.integers(0, 5)), max_size=15))
def test_a_server_that_is_started_again_goes_on_from_its_state_file(
    acts: list[tuple[Callable[[Sandbox, int], None], int, int]],
) -> None:
    wall, folder = Wall(), TemporaryDirectory()
    store = state_file(folder.name)
    first = Sandbox(spec("time"), APIS, store=store, wall=wall)
    for act, choice, seconds in acts:
        wall.now += seconds * SECOND
        with suppress(OceanmockError):
            act(first, choice)
    first.faults.inject(request_to("ocp", "getTaskInstance", {}))
    store.close()

    second = Sandbox(first.spec, APIS, store=state_file(folder.name), wall=wall, is_stored=False)
    second.refresh(since=-1)

    assert view(second) == view(first)
    assert second.faults.statistics() == first.faults.statistics()
    assert second.operations_of("ocp", TASK) == first.operations_of("ocp", TASK)
    wall.now += 100 * SECOND
    assert view(second) == view(first)
    folder.cleanup()


# --- several processes over one store -------------------------------------------------------------


def attached(sandbox: Sandbox) -> Sandbox:
    """The same sandbox in another process: it shares the store, not the state."""
    other = Sandbox(sandbox.spec, sandbox.apis, wall=sandbox.wall)
    other.store = sandbox.store  # type: ignore[misc]
    other.refresh(since=-1)
    return other


def test_a_command_that_loses_the_race_is_refused_by_the_api_s_own_rules() -> None:
    first = make_sandbox(SCENARIOS[:1], progression="manual", starts_at=0)
    first.advance(60 * SECOND)
    second = attached(first)
    _let_another_come_first(first, lambda: ocp_world.operate(second, TASK, "RETRY"))

    with pytest.raises(OceanmockError, match="not allowed in state RUNNING"):
        ocp_world.operate(first, TASK, "RETRY")

    second.refresh()
    assert view(first) == view(second)
    operates = [entry for entry in log_of(first) if isinstance(entry.command, Operate)]
    assert len(operates) == 1


def _let_another_come_first(sandbox: Sandbox, other: Callable[[], object]) -> None:
    """Let another process append between the evaluation of the next command and its append."""
    store: Any = sandbox.store
    append = store.append

    def append_late(*args: Any, **options: Any) -> Any:
        store.append = append
        other()
        return append(*args, **options)

    store.append = append_late


def test_another_process_shows_what_was_appended_and_what_a_reset_put() -> None:
    first = make_sandbox(SCENARIOS[:1], progression="manual", starts_at=0)
    second = attached(first)

    first.advance(60 * SECOND)
    second.refresh()
    assert view(second) == view(first)

    first.store.put(replace(first.spec, seed=4))
    second.refresh()
    assert (second.spec.seed, second.clock.now()) == (4, 0)


# --- what a long life costs -----------------------------------------------------------------------


def test_moves_of_the_clock_without_anything_between_are_one_entry() -> None:
    sandbox = make_sandbox(SCENARIOS[:1], progression="manual", starts_at=0)

    for _ in range(1000):
        sandbox.advance(SECOND)

    assert [entry.command for entry in log_of(sandbox)] == [MoveClock(1000 * SECOND)]


FAILING_DAG: Final = """
summary: A dag whose only sub task always fails
api: obshell
dags: [{id: 5, nodes: [{can: [retry], sub_tasks: {attempts: {takes: 1s, ends: FAILED, log: [x]}}}]}]
"""
FAILING_TASK: Final = """
summary: A task whose first subtask always fails
api: ocp
tasks: [{id: 5, subtasks: [{id: 6, attempts: {takes: 1s, ends: FAILED, log: [x]}}, {}]}]
"""


def retry_task(sandbox: Sandbox) -> None:
    ocp_world.operate(sandbox, 5, "RETRY")


def retry_subtask(sandbox: Sandbox) -> None:
    ocp_world.operate_subtask(sandbox, 5, 6, "RETRY")


def retry_dag(sandbox: Sandbox) -> None:
    obshell_world.operate(sandbox, ("agent", 5), "RETRY")


@pytest.mark.parametrize(
    ("scenario", "retry"), [(FAILING_TASK, retry_task), (FAILING_TASK, retry_subtask), (FAILING_DAG, retry_dag)]
)
def test_a_task_that_was_retried_often_is_no_more_objects(scenario: str, retry: Callable[[Sandbox], None]) -> None:
    sandbox = make_sandbox([read_scenario(scenario)], progression="immediate")
    counts = []
    for _ in range(3):
        for _ in range(2 * MAX_OPERATIONS):
            retry(sandbox)
        gc.collect()
        counts.append(len(gc.get_objects()))

    assert counts[2] - counts[1] < MAX_OPERATIONS
    assert len(log_of(sandbox)) == 6 * MAX_OPERATIONS


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (Create(Tasks.api, EXTRA), "starts and loads of tasks"),
        (Load((EXTRA,)), "starts and loads of tasks"),
        (AddFault(read_fault({"status": 503})), "operations and changes"),
        (SetClock(speed=2.0), "operations and changes"),
    ],
)
def test_a_sandbox_accepts_so_much_until_it_is_reset(
    command: Command, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oceanmock.engine.log.MAX_ACCEPTED", tuple((kinds, 3, text) for kinds, _, text in MAX_ACCEPTED))
    sandboxes = Sandboxes(make_sandbox(SCENARIOS[:1], progression="manual"))
    for _ in range(3):
        sandboxes.default.execute(command)

    with pytest.raises(SandboxFull, match=f"has accepted 3 {what}"):
        sandboxes.default.execute(command)
    sandboxes.default.advance(SECOND)
    sandboxes.reset("default").execute(command)


def test_a_full_sandbox_refuses_in_the_api_s_envelope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oceanmock.engine.log.MAX_ACCEPTED", (((Operate,), 0, "operations"),))
    ask = World(REINSTALL).serve()

    refused = ask("POST", f"/api/v2/tasks/instances/{TASK}/retry")

    assert (refused.status_code, refused.json()["successful"]) == (503, False)
    assert ask("GET", f"/api/v2/tasks/instances/{TASK}").status_code == 200


def test_a_refused_operation_is_not_in_the_log() -> None:
    sandbox = make_sandbox(SCENARIOS[:1], progression="manual")

    with pytest.raises(OceanmockError):
        ocp_world.operate(sandbox, TASK, "RETRY")

    assert log_of(sandbox) == []


def test_the_counters_of_a_fault_survive_a_load_that_is_refused() -> None:
    sandbox = make_sandbox(SCENARIOS[:1], progression="manual")
    sandbox.execute(AddFault(read_fault({"status": 503, "calls": [2]})))
    request = request_to("ocp", "getTaskInstance", {})
    assert sandbox.faults.inject(request) is None

    with pytest.raises(OceanmockError):
        sandbox.execute(Load((EXTRA, FLAWED)))

    assert sandbox.faults.inject(request) is not None
    assert [(fault.calls, fault.affected) for fault in sandbox.faults.statistics()] == [(2, 1)]


def test_the_apis_and_the_faults_are_there_while_the_log_is_folded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop responds to other requests while a thread refuses to load a large scenario."""
    sandbox = make_sandbox((FAULTY,), progression="manual")
    present = list[tuple[list[str], list[str]]]()

    def observed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            present.append(([*sandbox.worlds], [fault.name for fault in sandbox.faults.statistics()]))
            return function(*args, **options)

        return call

    for holder, name in ((ocp_world, "new_world"), (obshell_world, "new_world"), (Faults, "add")):
        monkeypatch.setattr(holder, name, observed(getattr(holder, name)))
    with pytest.raises(OceanmockError):
        sandbox.execute(Load((EXTRA, FLAWED)))

    assert present == [(["ocp", "obshell"], ["fault 1", "fault 2"])] * 4


def test_the_counters_of_a_fault_are_shared_by_all_processes() -> None:
    first = make_sandbox(SCENARIOS[:1], progression="manual")
    first.execute(AddFault(read_fault({"status": 503, "calls": [2]})))
    second = attached(first)
    request = request_to("ocp", "getTaskInstance", {})

    assert [sandbox.faults.inject(request) is None for sandbox in (first, second)] == [True, False]
    assert first.faults.statistics() == second.faults.statistics()


COMMANDS: Final[tuple[Command, ...]] = (
    *(Operate("ocp", TASK, "RETRY"), Operate("ocp", TASK, "RETRY", 1), Operate("obshell", ("agent", 4), "PASS")),
    *(MoveClock(LATEST), Load((EXTRA,)), ClearFaults()),
)
instants = st.integers(0, LATEST)


@given(st.lists(st.builds(LogEntry, instants, st.integers(-(2**62), 2**62), st.sampled_from(COMMANDS)), max_size=12))
def test_a_store_gives_back_what_was_appended_since_any_version(entries: list[LogEntry]) -> None:
    store = MemoryStore()
    versions = [store.put(SandboxSpec(name="a")) or 0]
    for entry in entries:
        version = store.append("a", entry, expected_version=versions[-1])
        assert version is not None
        versions.append(version)

    for number, since in enumerate(versions):
        runs = groupby(entries[number:], key=lambda entry: isinstance(entry.command, MoveClock))
        kept = [entry for is_move, run in runs for entry in (list(run)[-1:] if is_move else run)]
        assert list(store.read("a", since=since).entries) == kept


def test_versions_of_a_sandbox_grow_also_when_it_is_put_again() -> None:
    store = MemoryStore()

    versions = [store.put(SandboxSpec(name=name)) or 0 for name in ("a", "b", "a")]

    assert versions == sorted(set(versions))


# --- records of operations ------------------------------------------------------------------------

REMOVE_ALL: DagKey = ("agent", 60)


def standing(name: str) -> Sandbox:
    """A scenario of the library at a standstill."""
    return make_sandbox([load_scenario(name)], progression="manual", starts_at=0)


def test_an_operation_is_kept_with_its_instant_whether_it_was_accepted_or_not() -> None:
    sandbox = standing("retry-failed-subtask")
    with pytest.raises(IllegalOperation):
        ocp_world.operate(sandbox, 1000, "RETRY")
    sandbox.advance(4 * SECOND)

    ocp_world.operate_subtask(sandbox, 1000, 1002, "RETRY")

    refused = "RETRY is not allowed in state RUNNING; allowed: none"
    assert sandbox.operations_of(Tasks.api, 1000) == (
        OperationRecord(0, "RETRY", None, refused),
        OperationRecord(4 * SECOND, "RETRY", 1),
    )


def test_an_operator_is_kept_with_its_instant_whether_it_was_accepted_or_not() -> None:
    sandbox = standing("pass-failed-node")
    with pytest.raises(IllegalOperator):
        obshell_world.operate(sandbox, REMOVE_ALL, "PASS", 0)
    sandbox.advance(60 * SECOND)

    obshell_world.operate(sandbox, REMOVE_ALL, "PASS", 0)

    assert sandbox.operations_of(Dags.api, REMOVE_ALL) == (
        OperationRecord(0, "PASS", 0, "Node.Operator.PassNotFailedDag"),
        OperationRecord(60 * SECOND, "PASS", 0),
    )


def test_a_life_begins_at_its_birth_and_holds_what_is_to_come() -> None:
    tasks = standing("retry-failed-subtask").world(Tasks)

    life = tasks.history_of(1000)

    assert (life.states[0].at, life.states[-1].status) == (0, "FAILED")
    assert tasks.view(1000).state == ocp.view_at(life, 0)


def test_nothing_is_kept_of_what_is_not_there() -> None:
    sandbox = standing("retry-failed-subtask")

    assert sandbox.operations_of(Tasks.api, 7) == ()
    with pytest.raises(NoSuchTask):
        sandbox.world(Tasks).history_of(7)
    assert sandbox.operations_of(Dags.api, ("agent", 7)) == ()
    with pytest.raises(NoSuchTask):
        sandbox.world(Dags).history_of(("agent", 7))


def test_only_the_last_operations_are_kept_of_each() -> None:
    store = MemoryStore()
    store.put(SandboxSpec(name="t"))

    for instant in range(MAX_OPERATIONS + 5):
        store.record("t", 1, OperationRecord(instant, "RETRY", None))
    store.record("t", 2, OperationRecord(0, "RETRY", None))

    records = store.records("t", 1)
    assert [operated.at for operated in records] == list(range(5, MAX_OPERATIONS + 5))
    assert len(store.records("t", 2)) == 1
    assert store.records("t", 3) == ()


# --- the clock ------------------------------------------------------------------------------------

STANDING: list[Progression] = [each for each in PROGRESSIONS if each != "time"]


def test_a_running_clock_goes_with_the_wall() -> None:
    wall = Wall(100 * SECOND)
    clock = Clock("time", wall=wall)

    wall.now += 3 * SECOND

    assert clock.now() == 103 * SECOND


def test_a_running_clock_may_start_at_another_instant() -> None:
    wall = Wall(100 * SECOND)
    clock = Clock("time", starts_at=5 * SECOND, wall=wall)

    wall.now += 3 * SECOND

    assert clock.now() == 8 * SECOND


@pytest.mark.parametrize(("speed", "passed"), [(0.5, SECOND), (1.0, 2 * SECOND), (60, 120 * SECOND)])
def test_a_running_clock_goes_at_its_speed(speed: float, passed: int) -> None:
    wall = Wall(0)
    clock = Clock("time", speed=speed, wall=wall)

    wall.now += 2 * SECOND

    assert clock.now() == passed


@pytest.mark.parametrize("progression", STANDING)
def test_a_standing_clock_does_not_go_with_the_wall(progression: Progression) -> None:
    wall = Wall(100 * SECOND)
    clock = Clock(progression, wall=wall)

    wall.now += 3600 * SECOND

    assert clock.now() == 100 * SECOND


@pytest.mark.parametrize("progression", PROGRESSIONS)
def test_advancing_moves_any_clock_on(progression: Progression) -> None:
    clock = Clock(progression, starts_at=SECOND, wall=Wall(0))

    clock.advance(4 * SECOND)

    assert clock.now() == 5 * SECOND


@pytest.mark.parametrize("progression", PROGRESSIONS)
def test_no_clock_runs_backwards(progression: Progression) -> None:
    clock = Clock(progression, starts_at=10 * SECOND, wall=Wall(0))

    clock.move_to(9 * SECOND)
    clock.advance(-SECOND)

    assert clock.now() == 10 * SECOND


def test_a_moved_clock_runs_on_from_where_it_is() -> None:
    wall = Wall(0)
    clock = Clock("time", speed=2.0, wall=wall)

    wall.now += SECOND
    clock.move_to(60 * SECOND)
    wall.now += SECOND

    assert clock.now() == 62 * SECOND


def test_without_a_wall_it_is_the_machine_s_time() -> None:
    before = machine_now()

    now = Clock("time").now()

    assert before <= now <= machine_now()


@pytest.mark.parametrize("before", PROGRESSIONS)
@pytest.mark.parametrize("after", PROGRESSIONS)
def test_a_clock_that_is_switched_goes_on_from_where_it_is(before: Progression, after: Progression) -> None:
    wall = Wall(0)
    clock = Clock(before, starts_at=10 * SECOND, speed=2.0, wall=wall)
    wall.now += 3 * SECOND
    then = clock.now()

    clock.set(progression=after, speed=5.0)

    assert clock.now() == then
    wall.now += SECOND
    assert clock.now() == then + (5 * SECOND if after == "time" else 0)


def test_switching_a_clock_leaves_what_is_not_named() -> None:
    clock = Clock("polls", speed=3.0, wall=Wall(0))

    clock.set(speed=4.0)
    clock.set(progression="time")

    assert (clock.progression, clock.speed) == ("time", 4.0)


@pytest.mark.parametrize("progression", PROGRESSIONS)
def test_every_clock_stops_where_calendars_end(progression: Progression) -> None:
    wall = Wall(0)
    clock = Clock(progression, starts_at=LATEST - SECOND, speed=60, wall=wall)

    clock.move_to(LATEST * 5)
    wall.now += SECOND

    assert clock.now() == LATEST
