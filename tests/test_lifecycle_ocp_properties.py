"""Whatever the plan and whatever is asked of it, an OCP task keeps to the rules.

Each test lets hypothesis write scripts (a DAG of subtasks, the scheduler's pace, operations legal
and not at any instant), tells them, and holds every step against the rules of ``ocp_invariants``,
which were written from the facts and not from the machine. What a single transition looks like, in
full, is in ``test_lifecycle_ocp.py``. The one rule: no expected value here comes from the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import ocp_invariants as facts
from oceanmock.clock import SECOND
from oceanmock.errors import IllegalOperation
from oceanmock.ocp.machine import History, allowed_operations, next_due, operate, start, view_at
from oceanmock.ocp.states import NO_OP_TAKES, Rules, RunScript, SubtaskScript, TaskScript, TaskState
from ocp_invariants import Act, StateInvariant, StepInvariant, answer_to, content, every_act
from ocp_strategies import (
    MOST_CHANGES,
    Move,
    Script,
    Story,
    answer_of,
    born,
    durations,
    legal_acts,
    moves,
    plans,
    rules,
    scripts,
    tell,
    tell_to_its_rest,
)

FAR = 100_000 * SECOND
"""Later than anything a generated life still has in store."""

many = settings()

HANGS_BESIDE_A_FAILURE = TaskScript(
    subtasks=(
        SubtaskScript(attempts=(RunScript(takes=0, ends="FAILED"),)),
        SubtaskScript(attempts=(RunScript(takes=0, ends="FAILED"), RunScript(takes=60 * SECOND))),
    )
)
"""Both fail at 0.5 s, the task at 1 s. The second, retried just before a task tick, is READY when
the task fails again, and runs under the FAILED task from 2.5 s on."""
RETRY_ONE_THEN_ROLL_BACK = Script(
    HANGS_BESIDE_A_FAILURE,
    Rules(),
    (
        Move(changes=MOST_CHANGES, then=SECOND * 6 // 10, wish="RETRY", choice=2),
        Move(changes=2, then=0, wish="ROLLBACK", choice=0),
    ),
)
CANCEL_BESIDE_A_FAILURE = Script(
    TaskScript(
        subtasks=(
            SubtaskScript(attempts=(RunScript(takes=0, ends="FAILED"),)),
            SubtaskScript(attempts=(RunScript(takes=60 * SECOND),)),
        )
    ),
    Rules(),
    (Move(changes=1, then=SECOND // 10, wish="CANCEL", choice=0),),
)
"""One fails at 0.5 s; the other, cancelled at 0.6 s, is CANCELING at the task tick of 1 s."""
CANCEL_AT_EVERY_INTERRUPTION = Script(
    TaskScript(subtasks=(SubtaskScript(attempts=(RunScript(takes=1, ends="FAILED"),)),)),
    Rules(),
    (Move(changes=1, then=0, wish="CANCEL", choice=0),) * 3,
)
"""Cancelled when it starts at 0.5 s, and again at 1.5 s and 2.5 s, when it has just been
interrupted: at 2.5 s it shows CANCELING as before."""


def breaches_of(story: Story, *invariants: StepInvariant) -> list[str]:
    """Every breach of the invariants in the story's steps."""
    return [said for step in story.steps for holds in invariants for said in holds(step)]


def breaches_in_states(story: Story, *invariants: StateInvariant) -> list[str]:
    """Every breach of the invariants in the states the story shows."""
    states = [view_at(story.life, 0), *(step.after for step in story.steps)]
    return [said for state in states for holds in invariants for said in holds(story.plan, state)]


def changes_from(life: History, instant: int) -> Iterator[int]:
    """Every instant after this one at which something is due."""
    while (due := next_due(life, instant)) is not None:
        yield due
        instant = due


# --- what may follow what -------------------------------------------------------------------------


@many
@given(plans(), rules())
def test_a_submitted_task_is_running_and_its_roots_are_ready(plan: TaskScript, pace: Rules) -> None:
    life = start(plan, pace)

    state = view_at(life, 0)

    assert content(state) == facts.at_birth(plan)


@many
@given(scripts())
def test_every_change_of_status_is_a_legal_edge_for_its_cause(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(story, facts.subtask_edges_are_legal, facts.task_edges_are_legal)


@many
@given(scripts())
def test_an_operation_is_accepted_exactly_when_the_facts_allow_it(script: Script) -> None:
    story = tell(script)

    told = {act: answer_of(story.life, act, story.instant) for act in every_act(story.plan)}

    state = story.now
    assert told == {act: answer_to(act, script.plan, script.rules, state) for act in told}
    assert all(answer == answer_to(act, script.plan, script.rules, before) for act, before, answer in story.answers)


@many
@given(scripts())
def test_allowed_operations_are_those_that_are_accepted(script: Script) -> None:
    story = tell(script)

    targets = [None, *range(len(script.plan.subtasks))]
    offered = {
        Act(operation, target)
        for target in targets
        for operation in allowed_operations(story.now, script.rules, subtask=target)
    }

    assert offered == set(legal_acts(script.plan, script.rules, story.now))


@many
@given(scripts(), st.integers(0, 99))
def test_a_refused_operation_says_what_was_allowed_and_changes_nothing(script: Script, choice: int) -> None:
    story = tell(script)
    answers = {act: answer_of(story.life, act, story.instant) for act in every_act(story.plan)}
    refused = [act for act, answer in answers.items() if answer == "ILLEGAL"]
    act = (refused or [Act("RETRY")])[choice % max(len(refused), 1)]
    seen = [view_at(story.life, instant) for instant in (0, story.instant, FAR)]

    with pytest.raises(IllegalOperation) as told:
        operate(story.life, act.operation, story.instant, subtask=act.subtask)

    legal = legal_acts(script.plan, script.rules, story.now)
    assert set(told.value.allowed) == {a.operation for a in legal if a.subtask == act.subtask}
    assert [view_at(story.life, instant) for instant in (0, story.instant, FAR)] == seen


@pytest.mark.parametrize(("operation", "subtask"), [("SKIP", None), ("CANCEL", None), ("ROLLBACK", 0)])
def test_an_operation_without_a_route_is_the_callers_mistake(operation: str, subtask: int | None) -> None:
    life = start(HANGS_BESIDE_A_FAILURE)

    with pytest.raises(ValueError, match=operation):
        operate(life, operation, 2 * SECOND, subtask=subtask)  # type: ignore[arg-type]


@many
@example(RETRY_ONE_THEN_ROLL_BACK)
@given(scripts())
def test_an_accepted_operation_shows_the_whole_state_of_the_table(script: Script) -> None:
    story = tell(script)

    assert not breaches_of(
        story, facts.an_operation_shows_what_the_table_says, facts.an_operation_touches_only_its_subtask
    )


@many
@given(scripts())
def test_a_final_status_stays_until_an_operation(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(story, facts.a_final_status_stays, facts.abandoned_after_as_planned)


# --- the task and its subtasks --------------------------------------------------------------------


@many
@example(RETRY_ONE_THEN_ROLL_BACK)
@example(CANCEL_BESIDE_A_FAILURE)
@given(scripts())
def test_a_task_gets_the_verdict_of_its_subtasks_at_a_tick(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(story, facts.the_verdict_is_the_childrens)
    assert not breaches_in_states(story, facts.the_parent_agrees_with_its_children)


@many
@given(scripts())
def test_upstreams_go_first_and_in_a_rollback_last(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(story, facts.readied_only_when_its_turn_has_come, facts.scheduled_in_the_tasks_own_direction)
    assert not breaches_in_states(story, facts.nothing_has_begun_before_its_upstreams)


@many
@given(scripts())
def test_the_scheduler_keeps_within_the_concurrency(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(story, facts.scheduled_within_the_limit)


@many
@example(RETRY_ONE_THEN_ROLL_BACK)
@example(CANCEL_BESIDE_A_FAILURE)
@given(scripts())
def test_the_schedulers_act_at_their_ticks_and_leave_nobody_waiting(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(story, facts.started_by_the_subtask_scheduler)
    assert not [
        said
        for since, step in pairwise([None, *story.steps])
        if step is not None
        for said in facts.nothing_is_left_waiting(step, since)
    ]


@many
@given(scripts())
def test_prohibit_rollback_is_computed_from_what_has_begun(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_in_states(story, facts.rollback_is_prohibited_as_computed)


# --- counters, times, runs ------------------------------------------------------------------------


@many
@given(scripts())
def test_run_time_counts_retries_and_nothing_else(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(story, facts.run_time_counts_retries)


@many
@given(scripts())
def test_the_first_start_stays_and_the_last_finish_until_the_next_start(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(story, facts.times_are_kept, facts.task_times_are_kept)
    assert not breaches_in_states(story, facts.times_fit_the_status)


@many
@given(scripts())
def test_a_run_follows_its_script_within_its_timeout(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(
        story,
        facts.runs_only_grow_by_starting,
        facts.runs_follow_their_script,
        facts.no_run_outlives_its_limit,
        facts.operations_are_kept,
    )
    assert not breaches_in_states(story, facts.an_open_run_is_a_running_subtask)


# --- readers --------------------------------------------------------------------------------------


@many
@given(scripts(), st.lists(st.integers(0, 90 * SECOND), max_size=20))
def test_a_late_reader_sees_what_a_frequent_reader_saw(script: Script, others: list[int]) -> None:
    story = tell_to_its_rest(script)
    changes = [step.instant for step in story.steps]
    watched = {0: view_at(start(script.plan, script.rules), 0)}
    watched |= {step.instant: step.after for step in story.steps}

    late = {instant: view_at(story.life, instant) for instant in [*others, *reversed(changes), 0]}

    assert {instant: late[instant] for instant in watched} == watched
    assert all(late[instant] == view_at(story.life, instant) for instant in others)
    assert all(seen == watched[max(i for i in watched if i <= at)] for at, seen in late.items())


@many
@example(CANCEL_AT_EVERY_INTERRUPTION, 0)
@given(scripts(), st.integers(0, 60 * SECOND))
def test_next_due_is_exactly_the_next_instant_that_shows_something_new(script: Script, instant: int) -> None:
    story = tell(script)

    borders = [instant, *changes_from(story.life, instant), FAR]

    views = [view_at(story.life, border) for border in borders]
    just_before = [view_at(story.life, border - 1) for border in borders[1:]]
    assert [content(view) for view in just_before] == [content(view) for view in views[:-1]]
    assert views[-1] == views[-2]
    assert all(content(old) != content(new) for old, new in pairwise(views[:-1]))
    assert all(state.at <= border for border, state in zip(borders, views, strict=True))


@many
@given(scripts(), st.integers(0, 99))
def test_an_operation_leaves_the_past_and_the_life_it_was_given_alone(script: Script, choice: int) -> None:
    story = tell(script)
    old = story.life
    instants = [0, *changes_from(old, 0), FAR]
    before = [view_at(old, instant) for instant in instants]

    story.make(Move(changes=0, then=0, wish="SKIP", choice=choice))

    assert [view_at(old, instant) for instant in instants] == before
    past = [instant for instant in instants if instant < story.instant]
    assert [view_at(story.life, instant) for instant in past] == before[: len(past)]


# --- where it all ends ----------------------------------------------------------------------------


@many
@given(scripts())
def test_every_life_comes_to_rest_and_a_task_at_rest_is_not_running(script: Script) -> None:
    story = tell_to_its_rest(script)

    operated = [0, *(i for i, step in enumerate(story.steps) if step.act), len(story.steps)]
    assert next_due(story.life, story.instant) is None
    assert view_at(story.life, FAR) == story.now
    assert story.now.status != "RUNNING"
    assert all(b - a <= 6 * len(script.plan.subtasks) + 3 for a, b in pairwise(operated))


@many
@given(plans(recovers=True), rules())
def test_a_task_that_can_succeed_does_so_when_retried_often_enough(plan: TaskScript, pace: Rules) -> None:
    story = born(plan, pace)
    story.wait_for_changes()

    while story.now.status == "FAILED":
        story.act(Act("RETRY"))
        story.wait_for_changes()

    scripted = [facts.runs_until_success(subtask) for subtask in plan.subtasks]
    assert story.now.status == "SUCCESSFUL"
    assert [subtask.run_time for subtask in story.now.subtasks] == scripted
    assert [len(subtask.runs) for subtask in story.now.subtasks] == scripted


@many
@given(scripts(recovers=True))
def test_a_failed_task_can_always_be_rolled_back_to_where_it_began(script: Script) -> None:
    story = tell_to_its_rest(script)

    while story.now.status == "FAILED":
        story.act(Act("ROLLBACK"))
        story.wait_for_changes()

    undone = story.now.operation == "ROLLBACK"
    assert story.now.status == "SUCCESSFUL"
    assert {each.status for each in story.now.subtasks} == {"PENDING" if undone else "SUCCESSFUL"}


@many
@given(scripts(recovers=True))
def test_skipping_every_failure_ends_a_task_too(script: Script) -> None:
    story = tell_to_its_rest(script)

    while story.now.status == "FAILED":
        statuses = [subtask.status for subtask in story.now.subtasks]
        story.act(Act("SKIP", statuses.index("FAILED")))
        story.wait_for_changes()

    assert story.now.status == "SUCCESSFUL"


@many
@given(plans(), rules(), durations, st.integers(0, 7))
def test_a_cancelled_run_has_failed_a_tick_and_a_moment_later(
    plan: TaskScript, pace: Rules, wait: int, choice: int
) -> None:
    story = born(plan, pace)
    story.wait(wait)
    running = [act for act in legal_acts(plan, pace, story.now) if act.operation == "CANCEL"]
    cancelled = running[choice % len(running) :][:1] if running else []

    for act in cancelled:
        story.act(act)
    story.wait(pace.tick + NO_OP_TAKES)

    shown = [story.now.subtasks[act.subtask or 0] for act in cancelled]
    assert all((each.status, each.operation) == ("FAILED", "CANCEL") for each in shown)


# --- the same, written by hypothesis one call at a time -------------------------------------------


class TaskUnderWatch(RuleBasedStateMachine):
    """Operations and waits in any order; each new step is held against every rule at once.

    Beside the tests above it keeps every life it has passed: none may change behind its back.
    """

    story: Story

    def __init__(self) -> None:
        super().__init__()
        self.checked = 0
        self.passed: list[tuple[History, int, TaskState]] = []

    @initialize(plan=plans(), pace=rules())
    def submit(self, plan: TaskScript, pace: Rules) -> None:
        self.story = born(plan, pace)

    @rule(changes=st.integers(1, 8))
    def watch(self, changes: int) -> None:
        self.story.wait_for_changes(changes)

    @rule(nanoseconds=durations)
    def wait(self, nanoseconds: int) -> None:
        self.story.wait(nanoseconds)

    @rule(move=moves)
    def ask(self, move: Move) -> None:
        self.story.make(move)

    @precondition(lambda self: hasattr(self, "story"))
    @invariant()
    def keeps_to_the_rules(self) -> None:
        new = self.story.steps[self.checked :]
        self.checked = len(self.story.steps)
        assert not [said for step in new for holds in EVERY_STEP for said in holds(step)]
        states = [step.after for step in new]
        plan = self.story.plan
        assert not [said for at in states for holds in EVERY_STATE for said in holds(plan, at)]

    @precondition(lambda self: hasattr(self, "story"))
    @invariant()
    def keeps_its_past(self) -> None:
        self.passed.append((self.story.life, self.story.instant, self.story.now))
        assert all(view_at(life, instant) == seen for life, instant, seen in self.passed)


EVERY_STEP: tuple[StepInvariant, ...] = (
    facts.subtask_edges_are_legal,
    facts.task_edges_are_legal,
    facts.an_operation_touches_only_its_subtask,
    facts.an_operation_shows_what_the_table_says,
    facts.a_final_status_stays,
    facts.abandoned_after_as_planned,
    facts.the_verdict_is_the_childrens,
    facts.readied_only_when_its_turn_has_come,
    facts.scheduled_in_the_tasks_own_direction,
    facts.scheduled_within_the_limit,
    facts.started_by_the_subtask_scheduler,
    facts.run_time_counts_retries,
    facts.times_are_kept,
    facts.task_times_are_kept,
    facts.operations_are_kept,
    facts.runs_only_grow_by_starting,
    facts.runs_follow_their_script,
    facts.no_run_outlives_its_limit,
)
EVERY_STATE: tuple[StateInvariant, ...] = (
    facts.the_parent_agrees_with_its_children,
    facts.nothing_has_begun_before_its_upstreams,
    facts.rollback_is_prohibited_as_computed,
    facts.times_fit_the_status,
    facts.an_open_run_is_a_running_subtask,
)

TestTaskUnderWatch = TaskUnderWatch.TestCase
TestTaskUnderWatch.settings = settings(stateful_step_count=15)
