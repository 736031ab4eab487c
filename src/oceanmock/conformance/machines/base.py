"""A walk on one task or dag: look, operate, look again, let time pass; and what is judged of it.

What both APIs share. A subclass knows its API's words: it reads an answer, says which operations
there are and how each must be answered, and judges what shows. Where time stands between two
requests every answer is judged; where it runs, only those whose state could not move meanwhile. The
one rule: a walk never raises over what a server answers, and operates on nothing but its own id.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from oceanmock.checks import UNAVAILABLE, CheckResult, Exchange, Phase, RuleCount
from oceanmock.conformance.machines.rules import RULES_OF_MACHINES

Pause = Literal["none", "tick", "rest"]
PAUSES: Final[tuple[Pause, ...]] = ("none", "tick", "rest")
"""What follows a move: nothing, one look a little later, or looks until all is at rest."""

STEPS_TOLD: Final = 6
QUICK_LOOKS: Final = 12
"""So many looks at the pace's own distance; then each distance is twice the one before."""
SLOWEST_LOOK: Final = 10.0
UNREADABLE: Final = (LookupError, TypeError, ValueError, AttributeError)
"""What reading an answer of another shape than the contract's raises."""
SEEKS: Final = 16
"""So many looks are taken, at most, for an operation to become allowed."""
HEARD_WITHIN: Final = 5
"""So many times what could not be read for want of room is read again."""
LINGERS: Final = 8.0
"""Seconds after which what is at rest is looked at once more."""


class Sender(Protocol):
    """What sends a request and tells what came: the client."""

    def send(
        self,
        method: str,
        target: str,
        *,
        phase: Phase,
        operation: str = "",
        json: Any = None,
        expects_refusal: bool = False,
    ) -> Exchange:
        """The exchange that came of it."""

    def found(self, finding: CheckResult) -> bool:
        """Keeps and tells a finding unless its like is known; whether it was new."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How time passes for a target: ``wait(seconds)`` lets it, and looks lie ``poll`` apart.

    ``stands``: it passes in ``wait`` only, as in a sandbox whose clock is moved by hand. What is
    not at rest after ``patience`` seconds is left to itself.
    """

    wait: Callable[[float], None]
    stands: bool = True
    poll: float = 0.5
    patience: float = 60.0


@dataclass(frozen=True, slots=True)
class Wrong:
    """A rule that is broken: where in the answer, and what was seen there, as one sentence."""

    rule: str
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Look:
    """A rule that was held against something; ``wrong`` is None where it was kept."""

    rule: str
    wrong: Wrong | None = None


def look(rule: str, kept: bool, path: str, message: str) -> Look:
    """A look at a rule; the message counts only where it was not kept."""
    return Look(rule, None if kept else Wrong(rule, path, message))


@dataclass(slots=True)
class Played:
    """What came of all walks: findings, how often each rule was held, and what was left behind."""

    findings: list[CheckResult] = field(default_factory=list)
    counts: dict[str, RuleCount] = field(default_factory=dict)
    checked: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rule and operation; how often that rule was held against its answer."""
    operations: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    """Operation and status; how often it was asked for, and answered so."""
    walks: int = 0
    left: dict[str, str] = field(default_factory=dict)
    """Each id; what it showed last."""

    @property
    def summary(self) -> list[str]:
        """Plain lines: what was asked of the target, and how each task or dag was left."""
        asked = ", ".join(
            f"{operation} {'unanswered' if status is None else status} × {times}"
            for (operation, status), times in sorted(self.operations.items(), key=str)
        )
        noun = "walk" if self.walks == 1 else "walks"
        lines = [f"{self.walks} {noun}; {asked or 'nothing was operated on'}."]
        return lines + [f"{id} is left {shown}." for id, shown in sorted(self.left.items())]


@dataclass(slots=True)
class Notes:
    """What the walks of a run remember together."""

    done: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    """Which operation was tried in which state; the rarest goes first."""
    learned: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    """What no text decides, and must then stay the same."""
    played: Played = field(default_factory=Played)
    _found: dict[tuple[Any, ...], tuple[int, CheckResult]] = field(default_factory=dict)
    _looked: defaultdict[str, RuleCount] = field(default_factory=lambda: defaultdict(RuleCount))

    def keep(self, finding: CheckResult, *, steps: int) -> None:
        """A finding; of those with one key the one that took the fewest steps."""
        known = self._found.get(finding.key)
        if known is None or steps < known[0]:
            self._found[finding.key] = steps, finding

    def count(self, look: Look, operation: str) -> None:
        """That a rule was held against an answer."""
        tally = self._looked[look.rule]
        tally.looked += 1
        tally.broken += look.wrong is not None
        self.played.checked[look.rule, operation] += 1

    def told(self) -> Played:
        """All of it, as of now."""
        self.played.findings = [finding for _, finding in self._found.values()]
        self.played.counts = dict(self._looked)
        return self.played


@dataclass(frozen=True, slots=True)
class Act:
    """An operation: on the whole (``part`` is None) or on the part at a position."""

    operation: str
    part: int | None = None
    word: str = ""
    """What is sent, where one route takes several operators."""

    @property
    def wish(self) -> str:
        """What a move that wants it asks for."""
        return self.word or self.operation


_CANCELS: Final = ("cancel", "cancelsubtask")
ACCEPTED: Final = "accepted"
Answers = frozenset[str]
"""How an act may be answered: ACCEPTED, or the reasons it may be refused for."""


class Shown(Protocol):
    """What a task or dag shows, as a subclass has read it."""

    @property
    def at_rest(self) -> bool:
        """Whether nothing changes any more unless somebody operates."""

    @property
    def words(self) -> str:
        """Its state and operation, to be read."""


S = TypeVar("S", bound=Shown)


class Walk(ABC, Generic[S]):
    """A walk on one task or dag."""

    def __init__(self, client: Sender, id: str, *, pace: Pace, notes: Notes) -> None:
        self.client: Final = client
        self.id: Final = id
        self.pace: Final = pace
        self.notes: Final = notes
        self.shown: S | None = None
        self.is_over = False
        self._asked: Exchange | None = None
        self._steps: deque[str] = deque(maxlen=STEPS_TOLD)
        self._count = 0
        self._since: list[tuple[Act, S]] = []
        self._waited = 0.0
        self._is_clear = True
        notes.played.walks += 1

    # --- what a subclass knows ---

    @abstractmethod
    def path(self) -> str:
        """Where the task or dag is read."""

    @abstractmethod
    def read(self, data: Any) -> S:
        """What an answer's data show; raises one of UNREADABLE where they are of another shape."""

    @abstractmethod
    def acts(self, shown: S) -> Iterable[Act]:
        """Every operation that can be asked for, allowed or not."""

    @abstractmethod
    def answers_to(self, act: Act, shown: S) -> Answers:
        """How the act may be answered in this state."""

    @abstractmethod
    def state_for(self, act: Act, shown: S) -> str:
        """What of the state matters for an act."""

    @abstractmethod
    def ask(self, act: Act, shown: S, *, expects_refusal: bool) -> Exchange:
        """Asks for the operation."""

    @abstractmethod
    def called(self, act: Act, shown: S) -> str:
        """The act as messages call it."""

    @abstractmethod
    def judge_answer(self, act: Act, before: S, exchange: Exchange) -> Iterator[Look]:
        """What is wrong with how an act was answered, by what showed just before."""

    @abstractmethod
    def judge_effect(self, act: Act, before: S, after: S, answer: Exchange) -> Iterator[Look]:
        """What is wrong with what shows right after an act that was rightly accepted."""

    @abstractmethod
    def judge_shown(self, shown: S) -> Iterator[Look]:
        """What is wrong with what shows, by itself."""

    @abstractmethod
    def judge_rest(self, act: Act, before: S, after: S) -> Iterator[Look]:
        """What is wrong with where the last act has led, now that all is at rest."""

    @abstractmethod
    def may_move(self, before: S, after: S) -> bool:
        """Whether what was at rest may show something else now, though nobody operated."""

    @abstractmethod
    def is_waiting(self, shown: S) -> bool:
        """Whether it is to go on, and nothing of it is under way."""

    @abstractmethod
    def read_logs(self, before: S, after: S) -> None:
        """Reads what was logged by what has run in between; the checkers of the client judge it."""

    # --- moves ---

    def move(self, wish: str, choice: int, pause: Pause) -> None:
        """One move: the act that is wished for, or what comes nearest to it, and a pause.

        ``illegal`` wishes for one that has to be refused, and ``look`` for none. Every other move
        begins with one that has to be refused, whatever else it is to do.
        """
        shown = None if self.is_over else self.look()
        if shown is None:
            return
        if wish == "illegal" or choice % 2:
            refused = [act for act in self._all(shown) if not self._allows(act, shown)]
            self._try(shown, refused, choice)
        if wish not in ("illegal", "look"):
            self._seek(wish, choice)
        self.pass_time(pause)

    def rarest(self, wishes: Sequence[str]) -> str:
        """The wish that was granted the least so far, of those that can be granted now.

        What can be set going can also be cancelled.
        """
        shown = self.shown
        acts = () if shown is None else self._all(shown)
        granted = {act.wish for act in acts if shown is not None and self._allows(act, shown)}
        fitting = [w for w in wishes if w in granted or (granted and w.lower() in _CANCELS)]
        return min(fitting or wishes, key=lambda wish: self.notes.played.operations[wish, 200])

    def _seek(self, wish: str, choice: int) -> None:
        """Does what is wished for as soon as it is allowed.

        Where it is not, and all is at rest, something else that is allowed comes first, best a
        retry: only what runs can be cancelled.
        """
        has_stirred = False
        for _ in range(SEEKS):
            shown = self.shown
            if shown is None or self.is_over:
                return
            allowed = [act for act in self._all(shown) if self._allows(act, shown)]
            fitting = [act for act in allowed if act.wish == wish]
            if fitting:
                self._try(shown, fitting, choice)
                return
            if not shown.at_rest:
                self.pass_time("tick")
            elif has_stirred or not self._try(shown, _retries(allowed) or allowed, choice):
                return
            else:
                has_stirred = True

    def _all(self, shown: S) -> list[Act]:
        """What can be asked for; where time runs, and all is not at rest, only what is harmless."""
        acts = list(self.acts(shown))
        if self.pace.stands or shown.at_rest:
            return acts
        return [act for act in acts if self.is_safe_meanwhile(act)]

    def _allows(self, act: Act, shown: S) -> bool:
        return ACCEPTED in self.answers_to(act, shown)

    def _try(self, shown: S, acts: list[Act], choice: int) -> bool:
        """Does the one of these acts that was tried the least; whether there was one."""
        if not acts:
            return False
        tried = [self._times(act, shown) for act in acts]
        rarest = [act for act, times in zip(acts, tried, strict=True) if times == min(tried)]
        self.act(rarest[choice % len(rarest)], shown)
        return True

    def _times(self, act: Act, shown: S) -> tuple[int, int]:
        """How often it was tried when it had to be answered so; and of these, in this state."""
        answered, in_state = self._kinds(act, shown)
        return self.notes.done[answered], self.notes.done[in_state]

    def is_safe_meanwhile(self, act: Act) -> bool:
        """Whether it can be asked for while the state moves: its answer is then not judged."""
        return act.wish.lower() in _CANCELS

    def is_last_word(self, act: Act) -> bool:
        """Whether where it leads does not depend on what was done before it."""
        return act.wish.lower() in _CANCELS

    def act(self, act: Act, before: S) -> None:
        """Asks for an operation, judges the answer, and what shows right after."""
        answers = self.answers_to(act, before)
        self.notes.done.update(self._kinds(act, before))
        exchange = self.ask(act, before, expects_refusal=ACCEPTED not in answers)
        self.notes.played.operations[act.wish, exchange.status] += 1
        self._tell(f"{self.called(act, before)} → {exchange.status or 'no answer'}")
        if exchange.status is None or exchange.status in UNAVAILABLE | {401, 403}:
            self.is_over = exchange.status not in UNAVAILABLE  # nothing of this is ours to judge
            return
        is_sure = self.pace.stands or before.at_rest
        if is_sure:
            self.judge(self.judge_answer(act, before, exchange), exchange)
        is_accepted = exchange.status < 300
        if is_accepted:
            self._since.append((act, before))
            self._waited = 0.0
            self._is_clear = self._is_clear and is_sure and ACCEPTED in answers
        after = self._read(exchange.operation)
        if after is None or not is_sure:
            return
        if is_accepted and ACCEPTED in answers:
            self.judge(self.judge_effect(act, before, after, exchange), exchange)
        elif not is_accepted:
            called = self.called(act, before)
            said = f"{called} was refused, and yet {before.words} has become {after.words}."
            kept = after == before or self.may_move(before, after)
            self.judge([look("machine.refusal-changes", kept, "$.data", said)], exchange)

    def look(self) -> S | None:
        """What shows now; None where it cannot be read, and then the walk is over."""
        before = self.shown
        after = self._read()
        if before is not None and after is not None and before.at_rest:
            said = f"it was {before.words}, at rest, and is {after.words} though nobody operated."
            kept = before == after or self.may_move(before, after)
            self.judge([look("machine.terminal", kept, "$.data", said)], self._asked)
        return after

    def pass_time(self, pause: Pause) -> None:
        """Lets time pass, with looks on the way."""
        if pause == "tick":
            self._wait(self.pace.poll)
            self.look()
        elif pause == "rest":
            self.rest()

    def rest(self) -> None:
        """Looks until all is at rest, or patience is at its end; then judges where it has led."""
        waited, distance, idle = 0.0, self.pace.poll, 0.0
        for number in range(1, 10_000):
            shown = self.shown
            if self.is_over or shown is None or shown.at_rest or waited >= self.pace.patience:
                break
            if number > QUICK_LOOKS:
                distance = min(distance * 2, max(SLOWEST_LOOK, self.pace.poll))
            self._wait(distance)
            waited += distance
            after = self.look()
            idle = idle + distance if after == shown and self.is_waiting(shown) else 0.0
        self._judge_rest(idle)

    def linger(self) -> None:
        """Looks once more, later: what was at rest must still be as it was."""
        if not self.is_over and self.shown is not None and self.shown.at_rest:
            self._wait(LINGERS)
            self.look()

    def end(self) -> None:
        """Notes how the task or dag is left."""
        self.notes.played.left[self.id] = (
            self.shown.words if self.shown is not None else "where it could not be read"
        )

    # --- judging ---

    def judge(self, looks: Iterable[Look], exchange: Exchange | None) -> None:
        """Counts the looks, and keeps what is wrong."""
        operation = exchange.operation if exchange else ""
        for each in self._guarded(looks):
            self.notes.count(each, operation)
            if each.wrong is not None:
                self.notes.keep(self._finding(each.wrong, exchange), steps=self._count)

    def _guarded(self, looks: Iterable[Look]) -> Iterator[Look]:
        """The looks; the walk is over where what shows is in no shape to be judged."""
        try:
            yield from looks
        except UNREADABLE:
            self.is_over = True  # that shape is for the checks of answers to complain of

    def _finding(self, wrong: Wrong, exchange: Exchange | None) -> CheckResult:
        steps = "; ".join(self._steps)
        earlier = "…; " if self._count > len(self._steps) else ""
        return CheckResult(
            rule=wrong.rule,
            operation=exchange.operation if exchange else "",
            status=exchange.status if exchange else None,
            path=wrong.path,
            message=f"{wrong.message} (On {self.id}: {earlier}{steps or 'looked'}.)",
            source=RULES_OF_MACHINES[wrong.rule].source,
            exchange=exchange,
        )

    def _judge_rest(self, idle: float) -> None:
        shown = self.shown
        if shown is None or self.is_over:
            return
        if shown.at_rest:
            if self._since and self._waited and self._is_clear:
                act, before = self._since[-1]
                if len(self._since) == 1 or self.is_last_word(act):
                    self.judge(self.judge_rest(act, before, shown), self._asked)
            if self._since:
                self.read_logs(self._since[0][1], shown)
            self._since.clear()
            self._is_clear = True
        elif self.pace.stands:
            said = f"it is {shown.words} with nothing under way, {idle:g} s long."
            self.judge([look("machine.stuck", idle < 20, "$.data", said)], self._asked)

    # --- small things ---

    def _read(self, after: str = "") -> S | None:
        self._asked = self.client.send("GET", self.path(), phase="machine")
        for _ in range(HEARD_WITHIN):
            if self._asked.status not in UNAVAILABLE:
                break
            self._wait(self.pace.poll)
            self._asked = self.client.send("GET", self.path(), phase="machine")
        self.shown = None
        try:
            body = self._asked.json()
            if self._asked.status == 200:
                self.shown = self.read(body["data"])
        except UNREADABLE:
            pass  # its shape is for the checks of answers to complain of
        gone = self._asked.status == 404
        self.judge([look("machine.lost", not gone, "$", "it can no longer be read.")], self._asked)
        self.is_over = self.is_over or self.shown is None
        if self.shown is not None:
            self.judge(self.judge_shown(self.shown), self._asked)
        return self.shown

    def _wait(self, seconds: float) -> None:
        self.pace.wait(seconds)
        self._waited += seconds
        if self._steps and self._steps[-1].endswith(" s"):
            seconds += float(self._steps.pop().removesuffix(" s"))
            self._count -= 1
        self._tell(f"{seconds:g} s")

    def _tell(self, step: str) -> None:
        self._steps.append(step)
        self._count += 1

    def _kinds(self, act: Act, shown: S) -> tuple[Any, Any]:
        asked = act.operation, act.word
        return (*asked, self.answers_to(act, shown)), (*asked, self.state_for(act, shown))


def _retries(acts: Iterable[Act]) -> list[Act]:
    """Those that let something run again."""
    return [act for act in acts if act.wish.lower().startswith("retry")]
