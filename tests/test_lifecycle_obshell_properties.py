"""Whatever the plan and whatever is asked of it, an obshell dag keeps to the rules.

Each test lets hypothesis write scripts (a row of nodes, the scheduler's pace, operators legal and
not at any instant), tells them, and holds every step against the rules of ``obshell_invariants``,
which were written from the facts and not from the machine. What a single transition looks like, in
full, is in ``test_lifecycle_obshell.py``. The one rule: no expected value here comes from the
machine.

Each recorded life of a real obshell is given to the machine as its plan and its operators at their
instants; every recorded view must then be what the machine shows: states, operators, stage,
execution times, log lines, and which time equals or precedes which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import obshell_invariants as facts
from obshell_invariants import Act, Refusal, StateInvariant, StepInvariant, answer_to, every_act
from obshell_recordings import Asked, Recording, Seen, recording_of, shape_of_recorded, shape_of_state
from obshell_strategies import (
    MOST_CHANGES,
    Move,
    Script,
    Story,
    answer_of,
    born,
    durations,
    plans,
    rules,
    scripts,
    tell,
    tell_to_its_rest,
)
from oceanmock.clock import SECOND
from oceanmock.errors import IllegalOperator
from oceanmock.obshell import machine as obshell
from oceanmock.obshell.machine import History, next_due, operate, start, view_at
from oceanmock.obshell.states import (
    DagScript,
    DagState,
    NodeFlag,
    NodeScript,
    NodeState,
    Rules,
    RunScript,
    SubTaskScript,
    SubTaskState,
)

FAR = 1_000_000 * SECOND
"""Later than anything a generated life still has in store."""

many = settings()

Test = TypeVar("Test", bound=Callable[..., None])

ALL: frozenset[NodeFlag] = frozenset({"cancel", "retry", "rollback", "pass"})
QUICK = NodeScript((SubTaskScript((RunScript(0),)),), ALL)
FAILS_AND_IS_SLOW_TO_ROLL_BACK = NodeScript((SubTaskScript((RunScript(0, "FAILED"),), (RunScript(5 * SECOND),)),), ALL)
CANCEL_IN_A_ROLLBACK = Script(
    DagScript((QUICK, FAILS_AND_IS_SLOW_TO_ROLL_BACK, QUICK), is_maintenance=True),
    Rules(),
    (
        Move(changes=MOST_CHANGES, then=0, wish="ROLLBACK", choice=0),
        Move(changes=1, then=0, wish="CANCEL", choice=0),
        Move(changes=MOST_CHANGES, then=0, wish="ROLLBACK", choice=0),
    ),
)
CANCEL_WHEN_ALL_NODES_HAVE_ENDED = Script(
    DagScript((FAILS_AND_IS_SLOW_TO_ROLL_BACK,)),
    Rules(),
    (Move(changes=MOST_CHANGES, then=0, wish="PASS", choice=1), Move(changes=1, then=0, wish="CANCEL", choice=0)),
)
CANCEL_THE_NODE_AFTER_A_CANCELLED_ONE = Script(
    DagScript((NodeScript((SubTaskScript((RunScript(None), RunScript(0))),), ALL), QUICK)),
    Rules(),
    (
        Move(changes=1, then=0, wish="CANCEL", choice=0),
        Move(changes=1, then=0, wish="CANCEL", choice=0),
        Move(changes=MOST_CHANGES, then=0, wish="RETRY", choice=0),
    ),
)

CANCEL_TWICE_BEFORE_A_TICK = Script(
    DagScript((QUICK,)),
    Rules(),
    (
        *[Move(changes=0, then=0, wish="ROLLBACK", choice=0)] * 2,
        Move(changes=MOST_CHANGES, then=0, wish="ROLLBACK", choice=0),
        Move(changes=0, then=0, wish="ROLLBACK", choice=0),
        Move(changes=0, then=1, wish="ROLLBACK", choice=0),
    ),
)


def breaches_of(story: Story, *invariants: StepInvariant) -> list[str]:
    """Every breach of the invariants in the story's steps."""
    return [said for step in story.steps for holds in invariants for said in holds(step)]


def breaches_in_states(story: Story, *invariants: StateInvariant) -> list[str]:
    """Every breach of the invariants in the states the story shows."""
    states = [view_at(story.life, 0), *(step.after for step in story.steps)]
    return [said for state in states for holds in invariants for said in holds(story.plan, state)]


def with_known_corners(test: Test) -> Test:
    """The test, given three scripts that chance seldom writes."""
    test = example(CANCEL_IN_A_ROLLBACK)(test)
    test = example(CANCEL_WHEN_ALL_NODES_HAVE_ENDED)(test)
    return example(CANCEL_THE_NODE_AFTER_A_CANCELLED_ONE)(test)


# --- what may follow what -------------------------------------------------------------------------


@many
@given(plans(), rules())
def test_a_dag_is_born_ready_at_stage_one_with_everything_pending(plan: DagScript, pace: Rules) -> None:
    state = view_at(start(plan, pace), 0)

    sub_tasks = [each for node in state.nodes for each in node.sub_tasks]
    parts: list[NodeState | SubTaskState] = [*state.nodes, *sub_tasks]
    assert (state.state, state.operator, state.stage) == ("READY", "RUN", 1)
    assert (state.start_time, state.end_time, state.is_finished) == (0, 0, False)
    assert {(part.state, part.operator) for part in parts} == {("PENDING", "RUN")}
    assert all(part.start_time == part.end_time is not None for part in parts)


@with_known_corners
@many
@given(scripts())
def test_every_change_of_state_is_a_legal_edge_for_its_cause(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(story, facts.dag_edges_are_legal, facts.node_edges_are_legal, facts.sub_task_edges_are_legal)


@with_known_corners
@many
@given(scripts())
def test_an_operator_is_refused_exactly_as_the_facts_say(script: Script) -> None:
    story = tell(script)

    told = {act: answer_of(story.life, act, story.instant) for act in every_act(story.plan)}

    assert told == {act: answer_to(act, script.plan, story.now) for act in told}
    assert all(answer == answer_to(act, script.plan, before) for act, before, answer in story.answers)


@many
@given(scripts(), st.integers(0, 99))
def test_a_refused_operator_changes_nothing(script: Script, choice: int) -> None:
    story = tell(script)
    instants = [0, story.instant, FAR]
    seen = [view_at(story.life, instant) for instant in instants]
    refused = [act for act in every_act(script.plan) if answer_to(act, script.plan, story.now)]
    act = refused[choice % len(refused)]

    with pytest.raises(IllegalOperator):
        operate(story.life, act.operator, story.instant, node=act.node)

    assert [view_at(story.life, instant) for instant in instants] == seen


@with_known_corners
@many
@given(scripts())
def test_an_accepted_operator_shows_the_whole_state_of_the_table(script: Script) -> None:
    story = tell(script)

    assert not breaches_of(story, facts.an_operator_shows_what_the_table_says)


@with_known_corners
@many
@given(scripts())
def test_what_has_ended_stays_until_an_operator(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(story, facts.a_final_state_stays)
    assert not breaches_in_states(story, facts.finished_means_ended_and_not_under_maintenance)


# --- the dag, its nodes and their sub tasks -------------------------------------------------------


@with_known_corners
@many
@given(scripts())
def test_one_node_is_driven_at_a_time(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(story, facts.only_the_node_at_the_stage_is_driven)
    assert not breaches_in_states(story, facts.one_node_runs_at_a_time)


@with_known_corners
@many
@given(scripts())
def test_a_tick_does_to_sub_tasks_node_and_dag_what_the_tables_say(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(
        story,
        facts.runs_start_as_the_nodes_operator_decides,
        facts.the_node_gets_the_verdict_of_its_sub_tasks,
        facts.a_dag_only_starts_in_the_tick_that_starts_it,
        facts.the_dag_follows_its_node,
        facts.no_tick_is_idle,
    )


@with_known_corners
@many
@given(scripts())
def test_a_parent_agrees_with_its_children_and_the_stage_with_the_dag(script: Script) -> None:
    story = tell_to_its_rest(script)

    stages = [view_at(story.life, 0).stage, *(step.after.stage for step in story.steps)]
    assert not breaches_in_states(story, facts.the_stage_is_a_stage, facts.the_parent_agrees_with_its_children)
    assert all(abs(old - new) <= 1 for old, new in pairwise(stages))


@many
@given(plans(recovers=True), rules(), st.integers(1, 6), durations)
def test_a_rollback_once_cancelled_is_refused_for_ever(plan: DagScript, pace: Rules, changes: int, then: int) -> None:
    story = born(plan, pace)
    story.wait_for_changes()
    story.act(Act("ROLLBACK"))
    story.wait_for_changes(changes)
    is_lost = story.now.stage > 1 and story.act(Act("CANCEL")) is None

    answers = set()
    for act in [Act("RETRY"), Act("CANCEL"), Act("RETRY"), Act("RETRY")]:
        story.wait_for_changes()
        answers.add(answer_of(story.life, Act("ROLLBACK"), story.instant))
        story.act(act)
        story.wait(then)

    lost = {Refusal("NoNodeFailed"), Refusal("Dag.Operator.RollbackNotFailedDag")}
    assert answers <= lost or not is_lost


# --- counters, times, runs, logs ------------------------------------------------------------------


@with_known_corners
@many
@given(scripts())
def test_a_run_follows_its_script_and_is_counted(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(
        story,
        facts.runs_are_kept_and_counted,
        facts.runs_follow_their_script,
        facts.operators_are_those_of_the_last_run,
    )


@with_known_corners
@many
@given(scripts())
def test_times_are_in_order_and_written_when_things_happen(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_of(story, facts.times_are_written_when_things_happen)
    assert not breaches_in_states(story, facts.times_fit_the_state)


@with_known_corners
@many
@given(scripts())
def test_a_log_tells_all_runs_in_order(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert not breaches_in_states(story, facts.logs_tell_all_runs)


# --- readers --------------------------------------------------------------------------------------


@many
@example(CANCEL_TWICE_BEFORE_A_TICK, [])
@given(scripts(), st.lists(st.integers(0, 60 * SECOND), max_size=20))
def test_a_late_reader_sees_what_a_frequent_reader_saw(script: Script, others: list[int]) -> None:
    story = tell_to_its_rest(script)
    watched = {0: view_at(start(script.plan, script.rules), 0)}
    watched |= {step.instant: step.after for step in story.steps}

    late = {instant: view_at(story.life, instant) for instant in [*others, *watched, FAR]}

    assert all(
        replace(seen, at=0) == replace(watched[max(i for i in watched if i <= at)], at=0)
        for at, seen in late.items()  # an operator may change nothing else
    )


@many
@example(CANCEL_TWICE_BEFORE_A_TICK, 0)
@given(scripts(), st.integers(0, 20 * SECOND))
def test_next_due_is_exactly_the_next_instant_that_shows_something_new(script: Script, instant: int) -> None:
    story = tell(script)
    borders = [instant]
    while (due := next_due(story.life, borders[-1])) is not None:
        borders.append(due)

    views = [view_at(story.life, border) for border in borders]

    def shown(instant: int) -> DagState:
        return replace(view_at(story.life, instant), at=0)  # an operator may change nothing else

    assert [shown(border - 1) for border in borders[1:]] == [shown(at) for at in borders[:-1]]
    assert shown(FAR) == shown(borders[-1])
    assert {*views} <= {*story.life.states}
    assert len({*views}) == len(views)
    assert all(state.at == border for border, state in zip(borders[1:], views[1:], strict=True))


@many
@given(scripts(), st.integers(0, 99))
def test_an_operator_leaves_the_past_and_the_life_it_was_given_alone(script: Script, choice: int) -> None:
    story = tell(script)
    old = story.life
    instants = [0, *(step.instant for step in story.steps), story.instant, FAR]
    before = [view_at(old, instant) for instant in instants]

    story.make(Move(changes=0, then=0, wish="RETRY", choice=choice))

    assert [view_at(old, instant) for instant in instants] == before
    past = [instant for instant in instants if instant < story.instant]
    assert [view_at(story.life, instant) for instant in past] == before[: len(past)]


# --- where it all ends ----------------------------------------------------------------------------


@with_known_corners
@many
@given(scripts())
def test_every_life_comes_to_rest_and_a_dag_at_rest_has_ended(script: Script) -> None:
    story = tell_to_its_rest(script)

    assert next_due(story.life, story.instant) is None
    assert view_at(story.life, FAR) == story.now
    assert story.now.state in {"FAILED", "SUCCEED"}


@many
@given(plans(recovers=True), rules())
def test_a_dag_that_can_succeed_does_so_when_retried_often_enough(plan: DagScript, pace: Rules) -> None:
    story = born(plan, pace)
    story.wait_for_changes()

    while story.now.state == "FAILED":
        story.act(Act("RETRY"))
        story.wait_for_changes()

    assert (story.now.state, story.now.operator) == ("SUCCEED", "RUN")
    assert {node.state for node in story.now.nodes} == {"SUCCEED"}


@many
@given(plans(recovers=True), rules())
def test_a_failed_dag_rolls_back_to_stage_one_when_asked_often_enough(plan: DagScript, pace: Rules) -> None:
    story = born(plan, pace)
    story.wait_for_changes()
    reached = story.now.stage

    while story.now.state == "FAILED":
        story.act(Act("ROLLBACK"))
        story.wait_for_changes()

    back = ["SUCCEED/ROLLBACK"] * reached + ["PENDING/RUN"] * (len(plan.nodes) - reached)
    shown = [f"{node.state}/{node.operator}" for node in story.now.nodes]
    is_undone = story.now.operator == "ROLLBACK"
    assert shown == (back if is_undone else ["SUCCEED/RUN"] * len(plan.nodes))
    assert story.now.stage == (1 if is_undone else len(plan.nodes))


# --- recordings of a real obshell -----------------------------------------------------------------


LIVES = [
    ("join.json", "22130706433028861"),
    ("init.json", "22130706433028862"),
    ("init.json", "22130706433028863"),
    ("init.json", "22130706433028864"),
    ("cancel.json", "22130706433028865"),
    ("pass.json", "22130706433028866"),
]

OF_THE_API = ("Common.BindJsonFailed", "Task.Dag.Operator.NotSupport", "Task.Node.Operator.NotSupport", "Task.NotFound")
"""Refused before the machine is asked: a body, a word or an id."""


def live(recording: Recording) -> tuple[History, list[tuple[Asked, str | None]]]:
    """The machine's life under the recorded operators, and the errCode each one met."""
    life, met = start(recording.plan, recording.rules), []
    for event in recording.events:
        if isinstance(event, Asked) and event.err_code not in OF_THE_API:
            life, refusal = operated(life, event)
            met.append((event, refusal))
    return life, met


def operated(life: History, asked: Asked) -> tuple[History, str | None]:
    try:
        return obshell.operate(life, asked.operator, asked.instant, node=asked.node), None
    except IllegalOperator as refused:
        return life, f"Task.{refused.reason}"


@pytest.mark.slow
@pytest.mark.parametrize(("file", "dag_id"), LIVES)
def test_every_recorded_view_is_what_the_machine_shows(file: str, dag_id: str) -> None:
    recording = recording_of(file, dag_id)

    life, _ = live(recording)

    views = [event for event in recording.events if isinstance(event, Seen)]
    assert len(views) >= 3
    for seen in views:
        shown = shape_of_state(view_at(life, seen.instant), seen.instant)
        assert shown == shape_of_recorded(seen.dag), (file, seen.instant / 1e9)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "dag_id"), LIVES)
def test_every_recorded_refusal_is_the_machines(file: str, dag_id: str) -> None:
    _, met = live(recording_of(file, dag_id))

    said = [(asked.operator, asked.node, refusal) for asked, refusal in met]

    assert said == [(asked.operator, asked.node, asked.err_code) for asked, _ in met]
