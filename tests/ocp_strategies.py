"""Hypothesis strategies for OCP plans, rules and whole stories, and the telling of a story.

A *move* is a wait and an operation; a *story* is a life with moves made in it, and everything seen
on the way. Moves are drawn without looking at the machine: what a move wishes for is looked up,
when its turn comes, among the operations the facts allow at that moment, so that stories go deep;
a wild move picks among all. A told story holds what was seen; it says nothing of what is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import strategies as st

from oceanmock.clock import SECOND
from oceanmock.errors import IllegalOperation, RollbackProhibited
from oceanmock.ocp.api import Operation
from oceanmock.ocp.machine import History, next_due, operate, start, view_at
from oceanmock.ocp.states import Outcome, Rules, RunScript, SubtaskScript, TaskScript, TaskState
from ocp_invariants import Act, Answer, Step, answer_to, every_act, run_limit

MILLISECOND = SECOND // 1000
MOST_CHANGES = 100
"""More than any life of eight subtasks can hold between two operations."""


@dataclass(frozen=True, slots=True)
class Move:
    """See ``changes`` more changes, wait ``then`` nanoseconds more, then operate.

    ``wish`` is the operation preferred among the legal ones (None: any operation, legal or not);
    ``choice`` picks one of several.
    """

    changes: int
    then: int
    wish: Operation | None
    choice: int


@dataclass(frozen=True, slots=True)
class Script:
    """All that a story is made of: it can be told again, and read in a failure's report."""

    plan: TaskScript
    rules: Rules
    moves: tuple[Move, ...] = ()


@dataclass(slots=True)
class Story:
    """What was seen: each step between two states, and each answer to an operation."""

    plan: TaskScript
    rules: Rules
    life: History
    instant: int = 0
    steps: list[Step] = field(default_factory=list)
    answers: list[tuple[Act, TaskState, Answer]] = field(default_factory=list)

    @property
    def now(self) -> TaskState:
        """What the task shows."""
        return view_at(self.life, self.instant)

    def states(self) -> Iterator[TaskState]:
        """The first state and every one a step led to."""
        yield self.steps[0].before
        yield from (step.after for step in self.steps)

    def wait_for_changes(self, most: int = MOST_CHANGES) -> None:
        """See at most that many changes, each at the instant it is due."""
        for _ in range(most):
            due = next_due(self.life, self.instant)
            if due is None:
                return
            self._see(due)

    def wait(self, nanoseconds: int) -> None:
        """Let time pass, and see every change on the way."""
        end = self.instant + nanoseconds
        while (due := next_due(self.life, self.instant)) is not None and due <= end:
            self._see(due)
        self.instant = end

    def act(self, act: Act) -> Answer:
        """Ask for an operation and keep the answer; an accepted one is a step of its own."""
        before, answer = self.now, answer_of(self.life, act, self.instant)
        if answer == "ACCEPTED":
            self.life = operate(self.life, act.operation, self.instant, subtask=act.subtask)
            self.steps.append(Step(self.plan, self.rules, before, self.now, self.instant, act))
        self.answers.append((act, before, answer))
        return answer

    def make(self, move: Move) -> None:
        """Wait as the move says and do what it wishes, if there is anything to do."""
        self.wait_for_changes(move.changes)
        self.wait(move.then)
        acts = self._acts_for(move.wish)
        for act in acts and [acts[move.choice % len(acts)]]:
            self.act(act)

    def _acts_for(self, wish: Operation | None) -> list[Act]:
        if wish is None:
            return list(every_act(self.plan))
        legal = legal_acts(self.plan, self.rules, self.now)
        return [act for act in legal if act.operation == wish] or legal

    def _see(self, instant: int) -> None:
        before, after = self.now, view_at(self.life, instant)
        self.steps.append(Step(self.plan, self.rules, before, after, instant))
        self.instant = instant


def answer_of(life: History, act: Act, instant: int) -> Answer:
    """What the machine answers; the life stays what it is."""
    try:
        operate(life, act.operation, instant, subtask=act.subtask)
    except IllegalOperation:
        return "ILLEGAL"
    except RollbackProhibited:
        return "PROHIBITED"
    return "ACCEPTED"


def legal_acts(plan: TaskScript, rules: Rules, state: TaskState) -> list[Act]:
    """The operations the facts allow."""
    return [act for act in every_act(plan) if answer_to(act, plan, rules, state) == "ACCEPTED"]


def born(plan: TaskScript, rules: Rules) -> Story:
    """A story that has only begun."""
    return Story(plan, rules, start(plan, rules))


def tell(script: Script) -> Story:
    """The story of the script's moves; its last state is the last move's."""
    story = born(script.plan, script.rules)
    for move in script.moves:
        story.make(move)
    return story


def tell_to_its_rest(script: Script) -> Story:
    """The same, watched on until nothing is due any more."""
    story = tell(script)
    story.wait_for_changes()
    return story


# --- strategies -----------------------------------------------------------------------------------

durations = st.sampled_from(
    [0, 1, 10 * MILLISECOND, SECOND // 2, SECOND, 1500 * MILLISECOND, 2 * SECOND, 3 * SECOND]
) | st.integers(0, 5 * SECOND)
"""Round ones first: they end exactly at ticks and timeouts."""

rarely = st.sampled_from([False] * 9 + [True])

outcomes: st.SearchStrategy[Outcome] = st.sampled_from(["FAILED", "SUCCESSFUL", "FAILED"])

ticks = st.sampled_from([SECOND, SECOND // 2, 10 * MILLISECOND, 2 * SECOND]) | st.integers(10 * MILLISECOND, 2 * SECOND)


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    """Any scheduler's pace, both switches."""
    tick = draw(ticks)
    return Rules(
        tick=tick,
        phase=draw(st.just(0) | st.integers(0, tick)),
        retry_after_failed_rollback=draw(st.booleans()),
        subtask_retry_counts=draw(st.booleans()),
    )


@st.composite
def graphs(draw: st.DrawFn) -> tuple[tuple[int, ...], ...]:
    """The needs of 1 to 8 subtasks: acyclic, and listed in no particular order."""
    size = draw(st.integers(1, 8))
    place = draw(st.permutations(range(size)))
    needs: list[tuple[int, ...]] = [()] * size
    for rank in range(1, size):
        above = draw(st.lists(st.integers(0, rank - 1), unique=True, max_size=3))
        needs[place[rank]] = tuple(place[i] for i in above)
    return tuple(needs)


def attempts(*, may_hang: bool) -> st.SearchStrategy[RunScript]:
    """One run; one that hangs is only for a plan with a small timeout."""
    takes = (durations | st.none()) if may_hang else durations
    return st.builds(RunScript, takes=takes, ends=outcomes)


@st.composite
def subtask_plans(draw: st.DrawFn, needs: tuple[int, ...], *, recovers: bool) -> SubtaskScript:
    """A subtask; one that ``recovers`` succeeds and rolls back at last, if tried often enough."""
    timeout = draw(st.sampled_from([3600, 0, 1, 2, 5]))
    run = st.lists(attempts(may_hang=timeout <= 5), min_size=1, max_size=3)
    good: tuple[RunScript, ...] = ()
    if recovers:
        limit = min(5 * SECOND, run_limit(SubtaskScript(attempts=(), timeout=timeout)) - 1)
        good = (RunScript(takes=draw(st.integers(0, limit))),)
    return SubtaskScript(
        attempts=(*draw(run), *good),
        rollbacks=(*draw(run), *good),
        needs=needs,
        timeout=timeout,
        prohibits_rollback=not recovers and draw(rarely),
    )


@st.composite
def plans(draw: st.DrawFn, *, recovers: bool = False) -> TaskScript:
    """A task; one that ``recovers`` can also be rolled back, and nobody abandons it."""
    needs = draw(graphs())
    never: st.SearchStrategy[int | None] = st.none()
    return TaskScript(
        subtasks=tuple(draw(subtask_plans(needed, recovers=recovers)) for needed in needs),
        concurrency=draw(st.none() | st.integers(1, 10)),
        prohibits_rollback=not recovers and draw(rarely),
        abandoned_after=draw(never if recovers else never | st.integers(1, 9 * SECOND)),
    )


moves = st.builds(
    Move,
    changes=st.integers(0, 12) | st.just(MOST_CHANGES),
    then=st.sampled_from([0, 0, 1]) | durations,
    wish=st.sampled_from(["ROLLBACK", "RETRY", "CANCEL", "SKIP", "ROLLBACK", None]),
    choice=st.integers(0, 99),
)


@st.composite
def scripts(draw: st.DrawFn, *, recovers: bool = False) -> Script:
    """A task and 3 to 12 moves in its life."""
    some = st.lists(moves, min_size=3, max_size=12).map(tuple)
    return Script(draw(plans(recovers=recovers)), draw(rules()), draw(some))
