"""A sandbox: views, operations, time, and what it makes up. The machine's own rules are not here.

Ticks are whole seconds from the sandbox's start; a run starts half a second after its subtask is
READY. Nothing here waits: the tests move the clock, or the wall that it goes by.
"""

import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from in_process import sandbox_of
from oceanmock.apis import make_sandbox
from oceanmock.clock import PROGRESSIONS, SECOND, Progression
from oceanmock.engine.machine import Upcoming
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import CallerError, IllegalOperation, InputError, NoSuchSubtask, NoSuchTask, RollbackProhibited
from oceanmock.library import load_scenario, read_scenario
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import world as ocp_world
from oceanmock.ocp.scenario import FORMAT, Scenario, script_of
from oceanmock.ocp.states import TaskState
from oceanmock.ocp.world import Tasks, TaskView
from oceanmock.scenario import BaseScenario

FAILS_FIRST = """
summary: The second of three steps fails on its first run
api: ocp
progression: manual
tasks:
  - id: 7
    name: Upgrade
    subtasks:
      - {id: 71, name: Download, attempts: {takes: 1s}}
      - {id: 72, name: Install, attempts: [{takes: 1s, ends: FAILED}, {takes: 1s}]}
      - {id: 73, name: Check, attempts: {takes: 1s}}
  - {id: 8, name: Another, subtasks: [{id: 81, name: Only}]}
"""
NAMELESS = """
summary: Nothing has a name
api: ocp
progression: manual
tasks:
  - subtasks: [{attempts: {takes: 1s}}, {}]
  - {id: 1000000, subtasks: [{id: 1000001}, {id: 1000002}]}
"""


def of_ocp(scenario: BaseScenario) -> Scenario:
    """A scenario that is known to be one of OCP's."""
    assert isinstance(scenario, Scenario)
    return scenario


def named(name: str, tasks: str, *, more: str = "") -> Scenario:
    """A scenario of this name and these tasks."""
    text = f"summary: A\napi: ocp\n{more}tasks: {tasks}\n"
    return of_ocp(read_scenario(text, path=f"{name}.yaml"))


CHAIN = named("chain", f"[{{subtasks: [{{attempts: [{{takes: 1s, ends: FAILED}}, {{takes: 1s}}]}}{', {}' * 1_999}]}}]")
"""2,000 subtasks, each after the one before it, of which the first fails once."""


def status_of(sandbox: Sandbox, task_id: int = 7) -> str:
    """What a task shows now."""
    return sandbox.world(Tasks).view(task_id).state.status


def failed() -> Sandbox:
    """A sandbox in which task 7 has failed at its second step."""
    sandbox = sandbox_of(FAILS_FIRST)
    sandbox.advance(60 * SECOND)
    return sandbox


# --- views ----------------------------------------------------------------------------------------


def test_a_view_is_who_a_task_is_and_what_it_shows_now() -> None:
    sandbox = sandbox_of(FAILS_FIRST)

    view = sandbox.world(Tasks).view(7)

    assert (view.data.id, view.data.name, view.data.created) == (7, "Upgrade", sandbox.clock.now())
    assert (view.state.status, view.state.operation) == ("RUNNING", "EXECUTE")
    assert [each.status for each in view.state.subtasks] == ["READY", "PENDING", "PENDING"]


def test_a_view_says_each_subtask_s_neighbours_by_their_ids() -> None:
    task = sandbox_of(FAILS_FIRST).world(Tasks).view(7).data

    assert [(each.id, each.upstreams, each.downstreams) for each in task.subtasks] == [
        (71, (), (72,)),
        (72, (71,), (73,)),
        (73, (72,), ()),
    ]


def test_a_task_there_is_not_cannot_be_seen() -> None:
    with pytest.raises(NoSuchTask) as refused:
        sandbox_of(FAILS_FIRST).world(Tasks).view(9)

    assert refused.value.task_id == 9


def test_the_list_goes_by_ascending_id_whatever_the_order_in_the_files() -> None:
    scenarios = [named("b", "[{id: 30, subtasks: [A]}, {id: 10, subtasks: [A]}]")]
    scenarios.append(named("a", "[{id: 20, subtasks: [A]}]"))

    views = make_sandbox(scenarios).world(Tasks).all()

    assert [view.data.id for view in views] == [10, 20, 30]


def test_the_list_shows_all_tasks_at_one_instant() -> None:
    sandbox = sandbox_of(FAILS_FIRST)

    sandbox.advance(3 * SECOND)

    assert [view.state for view in sandbox.world(Tasks).all()] == [
        sandbox.world(Tasks).view(7).state,
        sandbox.world(Tasks).view(8).state,
    ]


def test_looking_changes_nothing() -> None:
    sandbox = sandbox_of(FAILS_FIRST)
    before = sandbox.world(Tasks).view(7)

    tasks = sandbox.world(Tasks)
    views = [*tasks.all(), tasks.view(7), tasks.view_subtask(7, 71)[0]]
    sandbox.note_read(Tasks, (view.data.id for view in views))

    assert sandbox.world(Tasks).view(7) == before


def test_a_repeated_task_is_born_over_and_over() -> None:
    task = "{id: 5, name: 'No. {n}', age: 10m, repeat: {count: 3, every: 5m}, subtasks: [A]}"

    sandbox = make_sandbox([named("many", f"[{task}]")], starts_at=0)

    assert [(view.data.id, view.data.name, view.data.created // SECOND) for view in sandbox.world(Tasks).all()] == [
        (5, "No. 1", -600),
        (6, "No. 2", -300),
        (7, "No. 3", 0),
    ]
    assert len({view.data.subtasks[0].id for view in sandbox.world(Tasks).all()}) == 3


# --- operations -----------------------------------------------------------------------------------


def test_an_operation_shows_its_effect_at_once() -> None:
    sandbox = failed()

    view = ocp_world.operate(sandbox, 7, "RETRY")

    assert (view.state.status, view.state.operation) == ("RUNNING", "RETRY")
    assert view.state.subtasks[1].status == "READY"
    assert sandbox.world(Tasks).view(7) == view


def test_an_operation_on_a_subtask_answers_with_its_place() -> None:
    sandbox = failed()

    view, position = ocp_world.operate_subtask(sandbox, 7, 72, "SKIP")

    assert (view.data.id, position) == (7, 1)
    assert view.state.subtasks[1].operation == "SKIP"


def test_an_operation_changes_no_other_task() -> None:
    sandbox = failed()
    other = sandbox.world(Tasks).view(8)

    ocp_world.operate(sandbox, 7, "ROLLBACK")

    assert sandbox.world(Tasks).view(8) == other


def test_a_refused_operation_changes_nothing() -> None:
    sandbox = sandbox_of(FAILS_FIRST)
    before = sandbox.world(Tasks).view(7)

    with pytest.raises(IllegalOperation):
        ocp_world.operate(sandbox, 7, "RETRY")

    assert sandbox.world(Tasks).view(7) == before


def test_a_forbidden_rollback_is_refused() -> None:
    sandbox = sandbox_of(FAILS_FIRST.replace("name: Upgrade", "prohibit_rollback: true"))
    sandbox.advance(60 * SECOND)

    with pytest.raises(RollbackProhibited):
        ocp_world.operate(sandbox, 7, "ROLLBACK")

    assert status_of(sandbox) == "FAILED"


@pytest.mark.parametrize(
    ("operate", "refusal"),
    [
        (lambda sandbox: ocp_world.operate(sandbox, 9, "RETRY"), NoSuchTask),
        (lambda sandbox: ocp_world.operate_subtask(sandbox, 7, 99, "RETRY"), NoSuchSubtask),
        (lambda sandbox: sandbox.world(Tasks).view_subtask(7, 99), NoSuchSubtask),
    ],
)
def test_what_there_is_not_cannot_be_operated(operate: Callable[[Sandbox], object], refusal: type[CallerError]) -> None:
    with pytest.raises(refusal):
        operate(failed())


def test_a_subtask_is_found_under_any_task_where_pairs_are_ignored() -> None:
    view, position = failed().world(Tasks).view_subtask(8, 72)

    assert (view.data.id, position) == (7, 1)


def test_a_subtask_is_found_even_under_no_task_where_pairs_are_ignored() -> None:
    view, position = failed().world(Tasks).view_subtask(9, 72)

    assert (view.data.id, position) == (7, 1)


@pytest.mark.parametrize(("task_id", "refusal"), [(8, NoSuchSubtask), (9, NoSuchTask)])
def test_a_subtask_is_found_only_under_its_own_task_where_pairs_are_checked(
    task_id: int, refusal: type[CallerError]
) -> None:
    sandbox = sandbox_of(f"switches: {{subtask_pairing: checked}}\n{FAILS_FIRST}")

    assert sandbox.world(Tasks).view_subtask(7, 72)[1] == 1
    with pytest.raises(refusal):
        sandbox.world(Tasks).view_subtask(task_id, 72)


# --- time -----------------------------------------------------------------------------------------


class Wall:
    """A time of day that only the test moves."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def wall() -> Wall:
    """The wall that a sandbox goes by."""
    return Wall()


def test_under_time_a_task_lives_as_the_wall_goes(wall: Wall) -> None:
    sandbox = sandbox_of(FAILS_FIRST, progression="time", wall=wall)
    before = status_of(sandbox)

    wall.now += 6 * SECOND

    assert (before, status_of(sandbox)) == ("RUNNING", "FAILED")


def test_under_time_a_task_lives_faster_where_time_runs_faster(wall: Wall) -> None:
    sandbox = sandbox_of(FAILS_FIRST, progression="time", speed=100, wall=wall)

    wall.now += 6 * SECOND // 100

    assert status_of(sandbox) == "FAILED"


def test_under_time_an_operation_comes_at_the_instant_of_its_call(wall: Wall) -> None:
    sandbox = sandbox_of(FAILS_FIRST, progression="time", wall=wall)
    wall.now += 60 * SECOND

    view = ocp_world.operate(sandbox, 7, "RETRY")

    assert view.state.at == 60 * SECOND


@pytest.mark.parametrize("progression", ["polls", "manual"])
def test_without_reads_nothing_happens_however_long_one_waits(progression: Progression, wall: Wall) -> None:
    sandbox = sandbox_of(FAILS_FIRST, progression=progression, wall=wall)

    wall.now += 3600 * SECOND

    assert sandbox.world(Tasks).view(7).state.at == 0


def polls_of(sandbox: Sandbox, task_id: int, *, most: int = 200) -> Iterator[TaskView]:
    """What a client sees that polls until nothing new comes any more."""
    previous = None
    for _ in range(most):
        view = sandbox.world(Tasks).view(task_id)
        sandbox.note_read(Tasks, [view.data.id])
        if view == previous:
            return
        previous = view
        yield view


def test_under_polls_who_polls_sees_every_state_once_and_in_order() -> None:
    scenario = of_ocp(read_scenario(FAILS_FIRST))
    life = ocp.start(script_of(scenario.tasks[0]))

    seen = list(polls_of(make_sandbox([scenario], progression="polls"), 7))

    assert [view.state for view in seen] == list(life.states)


@pytest.mark.parametrize("name", ["cancel-running-subtask", "fails-twice", "parallel-branches"])
def test_under_polls_every_state_of_a_library_story_is_seen(name: str) -> None:
    scenario = of_ocp(load_scenario(name))
    sandbox = make_sandbox([scenario], progression="polls")
    life = ocp.start(script_of(scenario.tasks[0]))

    seen = [view.state for view in polls_of(sandbox, scenario.tasks[0].id or 0)]

    assert seen == list(life.states)


def test_under_polls_every_state_after_an_operation_is_seen_too() -> None:
    sandbox = sandbox_of(FAILS_FIRST, progression="polls")
    list(polls_of(sandbox, 7))

    ocp_world.operate(sandbox, 7, "RETRY")

    seen = [(view.state.status, view.state.subtasks[1].status) for view in polls_of(sandbox, 7)]
    assert seen == [
        ("RUNNING", "READY"),
        ("RUNNING", "RUNNING"),
        ("RUNNING", "SUCCESSFUL"),
        ("RUNNING", "SUCCESSFUL"),  # the third step is READY,
        ("RUNNING", "SUCCESSFUL"),  # runs,
        ("RUNNING", "SUCCESSFUL"),  # has succeeded,
        ("SUCCESSFUL", "SUCCESSFUL"),  # and so has the task
    ]


def test_under_polls_the_time_moves_on_only_once_an_answer_has_been_given() -> None:
    sandbox = sandbox_of(FAILS_FIRST, progression="polls")

    first, again = sandbox.world(Tasks).view(7), sandbox.world(Tasks).view(7)

    assert first == again


def test_under_polls_a_list_moves_on_to_the_first_event_of_all_it_has_shown() -> None:
    scenarios = [named("a", "[{id: 1, subtasks: [A]}, {id: 2, age: 250ms, subtasks: [A]}]", more="tick: 10s\n")]
    sandbox = make_sandbox(scenarios, progression="polls", starts_at=0)

    sandbox.note_read(Tasks, (view.data.id for view in sandbox.world(Tasks).all()))

    assert sandbox.clock.now() == 5 * SECOND


def test_under_polls_a_task_at_rest_stops_the_clock() -> None:
    sandbox = sandbox_of(FAILS_FIRST, progression="polls")
    list(polls_of(sandbox, 7))
    rest = sandbox.clock.now()

    sandbox.note_read(Tasks, [sandbox.world(Tasks).view(7).data.id])

    assert sandbox.clock.now() == rest


def test_under_immediate_all_that_is_due_has_happened() -> None:
    sandbox = sandbox_of(FAILS_FIRST, progression="immediate")

    assert [status_of(sandbox, 7), status_of(sandbox, 8)] == ["FAILED", "SUCCESSFUL"]


def test_under_immediate_an_answer_shows_the_operation_and_the_next_read_its_end() -> None:
    sandbox = sandbox_of(FAILS_FIRST, progression="immediate")

    answer = ocp_world.operate(sandbox, 7, "RETRY")

    assert (answer.state.status, status_of(sandbox)) == ("RUNNING", "SUCCESSFUL")


@pytest.mark.parametrize("progression", PROGRESSIONS)
def test_advancing_the_clock_works_under_every_progression(progression: Progression) -> None:
    sandbox = sandbox_of(FAILS_FIRST, progression=progression)

    sandbox.advance(60 * SECOND)

    assert status_of(sandbox) == "FAILED"


def test_a_file_s_own_progression_holds_when_nothing_else_is_asked_for() -> None:
    sandbox = make_sandbox([read_scenario(FAILS_FIRST)])

    assert sandbox.clock.progression == "manual"


def test_files_that_disagree_on_the_progression_live_by_the_wall() -> None:
    scenarios = [
        named("a", "[{id: 1, subtasks: [A]}]", more="progression: polls\n"),
        named("b", "[{id: 2, subtasks: [A]}]", more="progression: manual\n"),
    ]

    sandbox = make_sandbox(scenarios)

    assert sandbox.clock.progression == "time"


def test_a_file_s_own_start_is_exact() -> None:
    scenario = named("a", "[{id: 1, subtasks: [A]}]", more="starts_at: 2001-07-05T07:54:56.000127Z\n")

    sandbox = make_sandbox([scenario])

    assert sandbox.world(Tasks).view(1).data.created == 994_319_696_000_127_000


def test_a_file_s_own_start_counts_only_when_it_is_alone(wall: Wall) -> None:
    wall.now = 100 * SECOND
    scenarios = [
        named("a", "[{id: 1, subtasks: [A]}]", more="starts_at: 2021-08-25T15:09:31+08:00\n"),
        named("b", "[{id: 2, subtasks: [A]}]"),
    ]

    sandbox = make_sandbox(scenarios, wall=wall)

    assert sandbox.world(Tasks).view(1).data.created == 100 * SECOND


def test_an_old_task_has_come_as_far_as_its_age() -> None:
    old = FAILS_FIRST.replace("name: Upgrade", "age: 1h")

    sandbox = sandbox_of(old)

    assert sandbox.clock.now() - sandbox.world(Tasks).view(7).data.created == 3600 * SECOND
    assert status_of(sandbox) == "FAILED"


def test_all_tasks_tick_together_however_old_they_are() -> None:
    """There is one scheduler: ages shift births, not ticks."""
    sandbox = sandbox_of(FAILS_FIRST.replace("name: Upgrade", "age: 300ms"))

    starts = [
        view.data.created + (view.state.subtasks[0].start_time or 0) - sandbox.clock.now()
        for view in after(sandbox, 2 * SECOND)
    ]

    assert {start % SECOND for start in starts} == {SECOND // 2}


def after(sandbox: Sandbox, span: int) -> list[TaskView]:
    """All tasks a while later."""
    sandbox.advance(span)
    return sandbox.world(Tasks).all()


def test_a_story_s_end_is_what_a_client_sees_who_lives_it() -> None:
    """The check of a story and the sandbox it is lived in agree."""
    scenario = of_ocp(load_scenario("rollback"))
    told = FORMAT.simulate(scenario).actors[0]
    sandbox = make_sandbox([scenario], progression="manual")

    sandbox.advance(4 * SECOND)
    ocp_world.operate(sandbox, 5400, "ROLLBACK")
    sandbox.advance(60 * SECOND)

    assert sandbox.world(Tasks).view(5400).state == told.history.states[-1]


# --- what is due is computed when it is needed ---


def counted(states: Iterable[TaskState], computed: list[int]) -> Iterator[TaskState]:
    """Yield states, and note the instant of each that was computed."""
    for state in states:
        computed.append(state.at)
        yield state


def test_a_state_is_computed_only_when_an_instant_from_it_on_is_read() -> None:
    states = [*ocp.start(script_of(CHAIN.tasks[0])).upcoming]
    computed = list[int]()

    upcoming = Upcoming(counted(states, computed))
    at_once = len(computed)
    shown = upcoming.at(states[3].at)

    assert (at_once, shown) == (1, states[3])
    assert computed == [state.at for state in states[:5]], "and the one after it, from which the next instant follows"


def test_an_operation_on_a_long_chain_computes_no_state_that_is_not_read() -> None:
    """A retry of 2,000 subtasks in a chain leads to 6,000 states."""
    history, at = ocp.start(script_of(CHAIN.tasks[0])), 10 * SECOND
    tracemalloc.start()
    retried = ocp.operate(history, "RETRY", at)
    small = tracemalloc.get_traced_memory()[0]
    states = len(retried.states)
    large = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert states > 5_000
    assert large > 10 * small


def test_threads_that_read_one_history_see_the_same_states() -> None:
    expected = [*ocp.start(script_of(CHAIN.tasks[0])).upcoming]
    for _ in range(5):
        upcoming = Upcoming(iter(expected))
        with ThreadPoolExecutor(8) as threads:
            seen = [*threads.map(lambda _, of=upcoming: [*of], range(8))]
        assert all(states == expected for states in seen)


# --- isolation ------------------------------------------------------------------------------------


def test_what_happens_in_one_sandbox_happens_in_no_other() -> None:
    one, other = failed(), failed()
    before = other.world(Tasks).view(7)

    ocp_world.operate(one, 7, "ROLLBACK")
    one.clock.advance(3600 * SECOND)

    assert other.world(Tasks).view(7) == before


# --- what is made up ------------------------------------------------------------------------------


def views_of(text: str, *, seed: int) -> list[TaskView]:
    """All tasks of a sandbox with this seed."""
    return sandbox_of(text, seed=seed).world(Tasks).all()


def test_the_same_seed_makes_up_the_same() -> None:
    assert views_of(NAMELESS, seed=3) == views_of(NAMELESS, seed=3)


def test_another_seed_makes_up_something_else() -> None:
    one, other = views_of(NAMELESS, seed=3), views_of(NAMELESS, seed=4)

    assert one[1].data.name != other[1].data.name
    assert one[1].data.subtasks[0].id != other[1].data.subtasks[0].id
    assert one[0].data.executor != other[0].data.executor


def test_what_one_file_leaves_out_does_not_depend_on_the_files_beside_it() -> None:
    one = named("one", "[{id: 1, subtasks: [{}]}]")
    another = named("another", "[{id: 2, subtasks: [{}, {}]}]")

    alone = make_sandbox([one], starts_at=0).world(Tasks).view(1)
    together = make_sandbox([another, one], starts_at=0).world(Tasks).view(1)

    assert together == alone


def test_nothing_is_nameless() -> None:
    tasks = [view.data for view in views_of(NAMELESS, seed=3)]

    names = [name for task in tasks for name in (task.name, task.creator.name)]
    names += [subtask.name for task in tasks for subtask in task.subtasks]
    assert all(names)


def test_ids_that_are_made_up_are_nobody_else_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few to draw from that they would have to collide."""
    monkeypatch.setattr("oceanmock.engine.world.FIRST_FREE_ID", 2**31 - 40)
    given = ", ".join(f"{{id: {number}}}" for number in range(2**31 - 30, 2**31))
    scenario = named("a", f"[{{id: 1, subtasks: [{given}, {', '.join(['{}'] * 9)}]}}]")

    subtasks = make_sandbox([scenario]).world(Tasks).view(1).data.subtasks

    assert len({each.id for each in subtasks}) == 39


def test_addresses_that_are_made_up_are_nobody_s() -> None:
    """RFC 5737 keeps 192.0.2.0/24 for documents."""
    executors = {each.executor for view in views_of(NAMELESS, seed=3) for each in view.data.subtasks}

    assert all(executor.startswith("192.0.2.") for executor in executors)


def test_a_subtask_runs_where_its_task_does_unless_it_says_otherwise() -> None:
    task = "{id: 1, executor: 10.0.0.1, subtasks: [A, {name: B, executor: 10.0.0.2}]}"

    subtasks = make_sandbox([named("a", f"[{task}]")]).world(Tasks).view(1).data.subtasks

    assert [each.executor for each in subtasks] == ["10.0.0.1", "10.0.0.2"]


def test_a_description_is_the_name_unless_it_is_given() -> None:
    task = "{id: 1, subtasks: [A, {name: B, description: ''}, {name: C, description: See}]}"

    subtasks = make_sandbox([named("a", f"[{task}]")]).world(Tasks).view(1).data.subtasks

    assert [each.description for each in subtasks] == ["A", "", "See"]


# --- several files --------------------------------------------------------------------------------


def refusal_of(*scenarios: Scenario) -> str:
    """Why these cannot be served together."""
    with pytest.raises(InputError) as refused:
        make_sandbox(scenarios)
    return str(refused.value)


def test_two_files_with_a_task_of_the_same_id_are_refused() -> None:
    said = refusal_of(named("a", "[{id: 1, subtasks: [A]}]"), named("b", "[{id: 1, subtasks: [A]}]"))

    assert said == (
        "scenario 'b' has a task 1, and so has another one. Serve them apart, or give one of the tasks another id."
    )


def test_two_files_with_a_subtask_of_the_same_id_are_refused() -> None:
    said = refusal_of(named("a", "[{id: 1, subtasks: [{id: 5}]}]"), named("b", "[{id: 2, subtasks: [{id: 5}]}]"))

    assert said == (
        "scenario 'b' has a subtask 5, and so has another one. "
        "Serve them apart, or give one of the subtasks another id."
    )


def test_two_files_that_set_different_switches_are_refused() -> None:
    said = refusal_of(
        named("a", "[{id: 1, subtasks: [A]}]", more="switches: {subtask_pairing: checked}\n"),
        named("b", "[{id: 2, subtasks: [A]}]", more="switches: {subtask_retry_counts: true}\n"),
    )

    assert said == "scenarios a, b set different switches. Serve them apart."


def test_a_file_that_sets_no_switch_takes_the_others() -> None:
    checked = named("a", "[{id: 1, subtasks: [A]}]", more="switches: {subtask_pairing: checked}\n")

    sandbox = make_sandbox([checked, named("b", "[{id: 2, subtasks: [A]}]")])

    assert sandbox.world(Tasks).switches.subtask_pairing == "checked"


def test_switches_given_to_the_sandbox_outrank_those_of_the_files() -> None:
    checked = named("a", "[{id: 1, subtasks: [A]}]", more="switches: {subtask_pairing: checked}\n")

    sandbox = make_sandbox([checked], switches={"ocp": {"subtask_pairing": "ignored"}})

    assert sandbox.world(Tasks).switches.subtask_pairing == "ignored"
