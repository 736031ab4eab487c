"""Operate on tasks and dags in every way, so that the checkers see what follows.

A walk reads one task or dag, requests an operation, reads again and lets time pass. It says how
each operation must be answered (a ``Probe``) and judges nothing else. ``walk_sandbox`` takes many
walks in a sandbox that is reset before each; ``walk_server`` takes one on each task of a server.
Only the given ids are ever operated on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

from oceanmock.apis import api_named
from oceanmock.checks import UNAVAILABLE, UNREADABLE, Action
from oceanmock.conformance.model import Api
from oceanmock.conformance.probes import Prober
from oceanmock.conformance.target import detail_path
from oceanmock.library import load_scenario
from oceanmock.scenario.fields import BaseScenario

Pause = Literal["none", "tick", "rest"]
PAUSES: Final[tuple[Pause, ...]] = ("none", "tick", "rest")
"""What follows a move: nothing, one read a little later, or reads until all is at rest."""

ILLEGAL: Final = "illegal"
LOOK: Final = "look"
MOVES: Final = 8
"""The moves of one walk."""
TOURS: Final = 6
"""The number of tasks that are operated on in every way."""
QUICK_READS: Final = 12
"""The number of reads at the pace's own distance; then each distance is twice the one before."""
SLOWEST_READ: Final = 10.0
SEEKS: Final = 16
"""The number of reads while an operation becomes possible."""
READ_ATTEMPTS: Final = 5
LINGER_SECONDS: Final = 8.0
"""The time after which a task at rest is read once more."""
ANY_STATUS: Final = frozenset({200, 400, 500})


@dataclass(frozen=True, slots=True)
class Pace:
    """The passing of time at a target: ``wait(seconds)``, and ``poll`` between reads.

    ``stands`` says that it passes in ``wait`` only, as in a sandbox with a manual clock. What is
    not at rest after ``timeout`` seconds is left alone.
    """

    wait: Callable[[float], None]
    stands: bool = True
    poll: float = 0.5
    timeout: float = 60.0


@dataclass(slots=True)
class WalkReport:
    """The count of each status with which each goal was answered in a run's walks."""

    operations: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    tried: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    """How often an action was tried in a state; the rarest goes first."""


class Walk:
    """A walk on one task or dag."""

    def __init__(self, prober: Prober, id: str, *, pace: Pace, report: WalkReport, knowledge: Any) -> None:
        self.prober: Final = prober
        self.id: Final = id
        self.pace: Final = pace
        self.report: Final = report
        self.api: Final = api_named(prober.contract.api).conformance
        self.knowledge: Final = knowledge
        self.current: Any = None
        self.is_over = False
        self._first: Any = None
        """What was read before the operations since the last rest."""

    # --- moves ---

    def move(self, goal: str, choice: int, pause: Pause) -> None:
        """Request the goal's operation, or what comes nearest to it, and let time pass.

        ``illegal`` requests an operation that must be refused, and ``look`` none. Every other move
        with an odd choice requests an illegal one first.
        """
        if self.is_over or self.read() is None:
            return
        if goal == ILLEGAL or choice % 2:
            self._try(self._actions(accepted=False), choice)
        if goal not in (ILLEGAL, LOOK):
            self._seek(goal, choice)
        self.pass_time(pause)

    def rarest(self) -> str:
        """Return the goal that was accepted least so far, of those that are possible now."""
        possible = {item.goal for item in self._actions(accepted=True)}
        if possible:  # whatever can be started can also be cancelled
            possible.add(self.api.cancel)
        goals = [goal for goal in self.api.goals if goal in possible] or self.api.goals
        rarest: str = min(goals, key=lambda goal: self.report.operations[goal, 200])
        return rarest

    def _seek(self, goal: str, choice: int) -> None:
        """Request an operation as soon as it is possible.

        Where it is not, and all is at rest, another one that is possible comes first, best a
        retry: only what runs can be cancelled.
        """
        has_stirred = False
        for _ in range(SEEKS):
            if not self._is_on():
                return
            possible = self._actions(accepted=True)
            fitting = [item for item in possible if item.goal == goal]
            if fitting:
                self._try(fitting, choice)
                return
            if not self.current.at_rest:
                self.pass_time("tick")
            elif has_stirred:
                return
            else:
                has_stirred = True
                retries = [item for item in possible if item.goal in self.api.retries]
                if not self._try(retries or possible, choice):
                    return

    def _actions(self, *, accepted: bool) -> list[Action]:
        """Return the actions that can be accepted, or those that cannot.

        Where time runs, and not all is at rest, only the harmless ones.
        """
        if self.current is None:
            return []
        stands, is_sure = self.pace.stands, self._is_sure()
        actions = self.api.actions(self.current, self.id, is_mock=stands, knowledge=self.knowledge)
        fitting = (item for item in actions if item.can_be_accepted is accepted)
        return [item for item in fitting if is_sure or item.is_safe]

    def _is_sure(self) -> bool:
        """Return whether the state cannot have changed since it was read."""
        return self.pace.stands or self.current.at_rest

    def _try(self, actions: Sequence[Action], choice: int) -> bool:
        """Request the one of these actions that was tried least; return whether there was one."""
        if not actions:
            return False
        tried = self.report.tried
        times = [(tried[_kind(item)], tried[item.goal, item.state]) for item in actions]
        rarest = [item for item, count in zip(actions, times, strict=True) if count == min(times)]
        self.act(rarest[choice % len(rarest)])
        return True

    def act(self, action: Action) -> None:
        """Request an operation, and read what shows right after."""
        self.report.tried.update([_kind(action), (action.goal, action.state)])
        probe = action.probe
        if not self._is_sure():
            probe = replace(probe, statuses=ANY_STATUS, codes=(), other_codes=frozenset())
        exchange = self.prober.ask(probe)
        status = exchange.status if exchange is not None else None
        self.report.operations[action.goal, status] += 1
        if status in UNAVAILABLE:
            return
        if status in (None, 401, 403):
            self.is_over = True
            return
        if status is not None and status < 300 and self._first is None:
            self._first = self.current
        self.read()

    def pass_time(self, pause: Pause) -> None:
        """Let time pass, with reads on the way."""
        if pause == "tick":
            self.pace.wait(self.pace.poll)
            self.read()
        elif pause == "rest":
            self.rest()

    def rest(self) -> None:
        """Read until all is at rest, or the time is up; then read the logs of what has run."""
        waited, distance, number = 0.0, self.pace.poll, 0
        while self._is_on() and not self.current.at_rest and waited < self.pace.timeout:
            number += 1
            if number > QUICK_READS:
                distance = min(distance * 2, max(SLOWEST_READ, self.pace.poll))
            self.pace.wait(distance)
            waited += distance
            self.read()
        if self.current is not None and self.current.at_rest and self._first is not None:
            for path in self.api.log_paths(self._first, self.current, self.id):
                self.prober.client.send("GET", path)
            self._first = None

    def linger(self) -> None:
        """Read once more, later: a task at rest must still be as it was."""
        if self._is_on() and self.current.at_rest:
            self.pace.wait(LINGER_SECONDS)
            self.read()

    def _is_on(self) -> bool:
        return self.current is not None and not self.is_over

    def read(self) -> Any:
        """Return the current state; None where it cannot be read, and then the walk is over."""
        path = detail_path(self.prober.contract.api, self.id)
        for attempt in range(READ_ATTEMPTS + 1):
            if attempt:
                self.pace.wait(self.pace.poll)
            exchange = self.prober.client.send("GET", path)
            if exchange.status not in UNAVAILABLE:
                break
        self.current = None
        try:
            body = exchange.json()
            if exchange.status == 200:
                self.current = self.api.read(body["data"])
        except UNREADABLE:
            pass  # the response's checks report its shape
        self.is_over = self.is_over or self.current is None
        return self.current


def _kind(action: Action) -> tuple[Any, ...]:
    return action.goal, action.probe.statuses, action.probe.codes, action.probe.accepted


# --- walks ----------------------------------------------------------------------------------------


def walk_sandbox(
    prober: Prober,
    ids: Sequence[str],
    *,
    pace: Pace,
    reset: Callable[[], object],
    seed: int = 0,
    examples: int = 20,
    knowledge: Any = None,
) -> WalkReport:
    """Take walks on the tasks of a sandbox, each after a reset.

    The first tasks are each operated on in every way, so that none depends on chance: in a walk for
    each goal, which begins with a refusal and goes on with the next goal. What is to be cancelled
    is read before it first ends. Then the ids take turns in ``examples`` random walks.
    """
    report, random = WalkReport(), Random(seed)  # noqa: S311 (the same seed, the same walk)
    api = api_named(prober.contract.api).conformance
    knowledge = knowledge or api.knowledge("")
    goals = api.goals

    def begin(id: str, *, is_new: bool) -> Walk:
        reset()
        walk = Walk(prober, id, pace=pace, report=report, knowledge=knowledge)
        walk.read()
        if not is_new:
            walk.rest()
        return walk

    with prober.client.during("machine"):
        for id in ids[:TOURS]:
            for number, goal in enumerate(goals):
                walk = begin(id, is_new=goal == api.cancel)
                walk.move(ILLEGAL, number, "none")
                walk.move(goal, 2 * number, "rest")
                walk.move(goals[(number + 1) % len(goals)], 2 * number + 1, "rest")
                walk.linger()
        for turn in range(examples if ids else 0):
            round_, place = divmod(turn, len(ids))
            walk = begin(ids[place], is_new=round_ % 2 == 1)
            for goal in random.choices((*goals, ILLEGAL, LOOK), k=MOVES):
                walk.move(goal, random.randrange(1000), random.choice(PAUSES))
            walk.rest()
            walk.linger()
    return report


def walk_server(
    prober: Prober, ids: Iterable[str], *, pace: Pace, seed: int = 0, moves: int = MOVES, knowledge: Any = None
) -> WalkReport:
    """Take one walk on each task of a server that cannot be reset.

    Each begins with what was accepted least so far, of all that is possible there: whatever comes
    first may leave nothing else to be done.
    """
    report, random = WalkReport(), Random(seed)  # noqa: S311 (the same seed, the same walk)
    api = api_named(prober.contract.api).conformance
    knowledge = knowledge or api.knowledge(prober.contract.version)
    goals = (*api.goals, ILLEGAL, LOOK)
    with prober.client.during("machine"):
        for id in ids:
            walk = Walk(prober, id, pace=pace, report=report, knowledge=knowledge)
            walk.read()
            walk.rest()
            others = [*random.sample(goals, len(goals)), *random.choices(goals, k=moves)]
            for goal in [walk.rarest(), *others][:moves]:
                walk.move(goal, random.randrange(1000), random.choice(PAUSES))
            walk.rest()
            walk.linger()
    return report


def walk_scenario(api: Api) -> BaseScenario:
    """Return a scenario for walks: its tasks or dags come into every state between them."""
    return load_scenario(Path(__file__).parent / "worlds" / f"{api}-walk.yaml")
