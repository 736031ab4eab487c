"""Hypothesis strategies for obshell plans, rules and whole stories, and the telling of a story.

A *move* is a wait and an operator; a *story* is a life with moves made in it, and everything seen
on the way. Moves are drawn without looking at the machine: what a move wishes for is looked up,
when its turn comes, among the operators the facts allow at that moment, so that stories go deep; a
wild move picks among all. A told story holds what was seen; it says nothing of what is right.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from obshell_invariants import MILLISECOND, Act, Answer, Refusal, Step, answer_to, every_act
from oceanmock.clock import SECOND
from oceanmock.errors import IllegalOperator
from oceanmock.obshell.api import Operator
from oceanmock.obshell.machine import History, next_due, operate, start, view_at
from oceanmock.obshell.states import DagScript, DagState, NodeFlag, NodeScript, Outcome, Rules, RunScript, SubTaskScript

MOST_CHANGES = 150
"""More than any life of six nodes can hold between two operators."""


@dataclass(frozen=True, slots=True)
class Move:
    """See ``changes`` more changes, wait ``then`` nanoseconds more, then operate.

    ``wish`` is the operator preferred among the legal ones (None: any operator, legal or not);
    ``choice`` picks one of several.
    """

    changes: int
    then: int
    wish: Operator | None
    choice: int


@dataclass(frozen=True, slots=True)
class Script:
    """All that a story is made of: it can be told again, and read in a failure's report."""

    plan: DagScript
    rules: Rules
    moves: tuple[Move, ...] = ()


@dataclass(slots=True)
class Story:
    """What was seen: each step between two states, and each answer to an operator."""

    plan: DagScript
    rules: Rules
    life: History
    instant: int = 0
    steps: list[Step] = field(default_factory=list)
    answers: list[tuple[Act, DagState, Answer]] = field(default_factory=list)

    @property
    def now(self) -> DagState:
        """What the dag shows."""
        return view_at(self.life, self.instant)

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
        """Ask for an operator and keep the answer; an accepted one is a step of its own."""
        before, answer = self.now, answer_of(self.life, act, self.instant)
        if answer is None:
            self.life = operate(self.life, act.operator, self.instant, node=act.node)
            self._keep(before, self.instant, act)
        self.answers.append((act, before, answer))
        return answer

    def make(self, move: Move) -> None:
        """Wait as the move says and do what it wishes, if there is anything to do."""
        self.wait_for_changes(move.changes)
        self.wait(move.then)
        acts = self._acts_for(move.wish)
        for act in acts and [acts[move.choice % len(acts)]]:
            self.act(act)

    def _acts_for(self, wish: Operator | None) -> list[Act]:
        if wish is None:
            return list(every_act(self.plan))
        legal = legal_acts(self.plan, self.now)
        return [act for act in legal if act.operator == wish] or legal

    def _see(self, instant: int) -> None:
        before, self.instant = self.now, instant
        self._keep(before, instant, None)

    def _keep(self, before: DagState, instant: int, act: Act | None) -> None:
        since = self.steps[-1].instant if self.steps else 0
        self.steps.append(Step(self.plan, self.rules, before, self.now, since, instant, act))


def answer_of(life: History, act: Act, instant: int) -> Answer:
    """What the machine answers; the life stays what it is."""
    try:
        operate(life, act.operator, instant, node=act.node)
    except IllegalOperator as refused:
        return Refusal(refused.reason, refused.node)
    return None


def legal_acts(plan: DagScript, state: DagState) -> list[Act]:
    """The operators the facts allow."""
    return [act for act in every_act(plan) if answer_to(act, plan, state) is None]


def born(plan: DagScript, rules: Rules) -> Story:
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
    [0, 1, 10 * MILLISECOND, SECOND // 2, SECOND, 1500 * MILLISECOND, 4 * SECOND]
) | st.integers(0, 5 * SECOND)
"""Round ones first: operators asked for exactly at a tick."""

FLAGS: list[NodeFlag] = ["cancel", "retry", "rollback", "pass", "continue"]
any_flags = st.frozensets(st.sampled_from(FLAGS))
flags = st.just(frozenset(FLAGS)) | st.just(frozenset(FLAGS)) | any_flags

outcomes: st.SearchStrategy[Outcome] = st.sampled_from(["SUCCEED", "FAILED"])


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    """Any scheduler's pace."""
    tick = draw(st.just(SECOND) | st.integers(100 * MILLISECOND, 2 * SECOND))
    return Rules(tick=tick, phase=draw(st.just(0) | st.integers(0, tick)))


@st.composite
def attempts(draw: st.DrawFn, *, good: bool = False) -> RunScript:
    """One run; a good one succeeds within 1.5 s."""
    if good:
        return RunScript(draw(st.integers(0, 1500 * MILLISECOND)), log=("done",))
    ends = draw(outcomes)
    takes = draw(st.integers(0, 800 * MILLISECOND) | durations | st.none())
    lines = ("one", "two") if ends == "SUCCEED" else ("one", "ERROR: [Common.Unexpected]: no")
    return RunScript(takes, ends, lines[: draw(st.integers(0, 2))])


@st.composite
def sub_task_plans(draw: st.DrawFn, *, recovers: bool) -> SubTaskScript:
    """A sub task; one that ``recovers`` succeeds and rolls back at last, if tried often enough."""
    some = st.lists(attempts(), max_size=2) if recovers else st.lists(attempts(), max_size=3)
    good = attempts(good=True)
    last = (draw(good),) if recovers else ()
    forward = (*draw(some), *last) or (draw(good),)
    back = (*draw(some), *last) if draw(st.booleans()) else ()
    return SubTaskScript(forward, back or (draw(good),))


@st.composite
def node_plans(draw: st.DrawFn, *, recovers: bool) -> NodeScript:
    """A stage of one to three sub tasks; one that ``recovers`` has every flag."""
    sub_tasks = draw(st.lists(sub_task_plans(recovers=recovers), min_size=1, max_size=3))
    timeout = draw(st.sampled_from([3600, 3600, 3, 2]))
    can = frozenset(FLAGS) if recovers else draw(flags)
    return NodeScript(tuple(sub_tasks), can, timeout * SECOND)


@st.composite
def plans(draw: st.DrawFn, *, recovers: bool = False) -> DagScript:
    """A dag of one to six stages, for maintenance or not."""
    nodes = draw(st.lists(node_plans(recovers=recovers), min_size=1, max_size=6))
    return DagScript(tuple(nodes), is_maintenance=draw(st.booleans()))


moves = st.builds(
    Move,
    changes=st.integers(0, 8) | st.just(MOST_CHANGES),
    then=st.sampled_from([0, 0, 1]) | durations,
    wish=st.sampled_from(["ROLLBACK", "RETRY", "CANCEL", "PASS", "RETRY", "ROLLBACK", None]),
    choice=st.integers(0, 20),
)


@st.composite
def scripts(draw: st.DrawFn, *, recovers: bool = False) -> Script:
    """A dag and up to ten moves in its life."""
    some = st.lists(moves, max_size=10).map(tuple)
    return Script(draw(plans(recovers=recovers)), draw(rules()), draw(some))
