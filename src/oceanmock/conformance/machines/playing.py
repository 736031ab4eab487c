"""Who makes the moves: hypothesis, each walk in a world made anew; or chance, on a real server.

Both walk the same walks. hypothesis draws a row of moves and never sees the server, so that its
choices mean the same whatever is answered; nothing is raised over a broken rule, and a walk is
never repeated. What a real server has done cannot be undone: there each id is walked on once, in so
many moves, and what they did is told even when the walk is broken off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from oceanmock.conformance.machines import obshell, ocp
from oceanmock.conformance.machines.base import PAUSES, Notes, Pace, Pause, Played, Sender, Walk
from oceanmock.conformance.machines.knowledge import NOTHING, Known
from oceanmock.conformance.machines.obshell import ObshellWalk
from oceanmock.conformance.machines.ocp import OcpWalk
from oceanmock.conformance.model import Api
from oceanmock.library import load_scenario
from oceanmock.obshell import scenario as obshell_file
from oceanmock.obshell.ids import GenericId, local_id
from oceanmock.ocp import scenario as ocp_file
from oceanmock.scenario.fields import BaseScenario

MOVES: Final = 8
"""So many moves make a walk."""
TOURS: Final = 6
"""So many tasks are operated on in every way."""
CHOICES: Final = st.integers(0, 999)
WHEN: Final = st.sampled_from(PAUSES)

Begin = Callable[[], Walk[Any]]


def play(
    client: Sender,
    api: Api,
    ids: Sequence[str],
    *,
    pace: Pace,
    reset: Callable[[], None],
    seed: int = 0,
    examples: int = 20,
    moves: int = MOVES,
    known: Known = NOTHING,
) -> Played:
    """What came of so many walks that hypothesis has drawn, each after a ``reset``.

    The ids take turns. Before, the first of them are each operated on in every way there is, so
    that none is left to chance. Without an id there is nothing to play with.
    """
    notes = Notes()

    def begin(place: int, *, is_new: bool) -> Walk[Any]:
        reset()
        walk = _WALKS[api](client, ids[place], pace=pace, notes=notes, known=known)
        walk.look()
        if not is_new:
            walk.rest()
        return walk

    turns = count()

    def begin_next() -> Walk[Any]:
        turn, place = divmod(next(turns), len(ids))
        return begin(place, is_new=turn % 2 == 1)

    try:
        for place, _ in enumerate(ids[:TOURS]):
            _tour(WISHES[api], partial(begin, place))
        if ids:
            _run(machine_of(api, begin_next), seed=seed, examples=examples, moves=moves)
    finally:
        _told(client, notes)
    return notes.played


def walk_once(
    client: Sender,
    api: Api,
    ids: Sequence[str],
    *,
    pace: Pace,
    seed: int = 0,
    moves: int = MOVES,
    known: Known = NOTHING,
    played: Played | None = None,
) -> Played:
    """What came of one walk on each id, of so many moves, of every kind first.

    Each begins with what was accepted the least so far, of all that can be done there.

    ``played`` is filled as it goes: who gives one has it even if the walk is broken off.
    """
    notes = Notes(played=played if played is not None else Played())
    chance = Random(seed)  # noqa: S311 (the same seed, the same walk)
    wishes = WISHES[api]
    for id in ids:
        walk = _WALKS[api](client, id, pace=pace, notes=notes, known=known)
        try:
            walk.look()
            walk.rest()
            first = walk.rarest(wishes)  # whatever is done first may leave nothing else to be done
            others = chance.sample(wishes, len(wishes))
            for wish in [first, *others, *chance.choices(wishes, k=moves)][:moves]:
                walk.move(wish, chance.randrange(1000), chance.choice(PAUSES))
            walk.rest()
            walk.linger()
        finally:
            walk.end()
            _told(client, notes)
    return notes.played


def _tour(wishes: Sequence[str], begin: Callable[..., Walk[Any]]) -> None:
    """A walk for each way to operate, which begins with a refusal and goes on with the next way.

    What is to be cancelled is met before it has come to its first end.
    """
    ways = [wish for wish in wishes if wish not in ("illegal", "look")]
    for number, wish in enumerate(ways):
        walk = begin(is_new=wish.lower().startswith("cancel"))
        walk.move("illegal", number, "none")
        walk.move(wish, 2 * number, "rest")
        walk.move(ways[(number + 1) % len(ways)], 2 * number + 1, "rest")
        walk.linger()
        walk.end()


def _told(client: Sender, notes: Notes) -> Played:
    """What came of it; the findings are told to the client."""
    played = notes.told()
    for finding in played.findings:
        client.found(finding)
    return played


WISHES: Final = {"ocp": ocp.WISHES, "obshell": obshell.WISHES}


def load_world(api: Api) -> BaseScenario:
    """A scenario to play with: between them its tasks or dags come into every state there is."""
    return load_scenario(Path(__file__).parent / "worlds" / f"{api}.yaml")


def world_ids(scenario: BaseScenario) -> list[str]:
    """The ids, as the API has them, of a scenario's tasks or dags that have a number there."""
    if isinstance(scenario, ocp_file.Scenario):
        return [str(task.id) for task in scenario.tasks if task.id is not None]
    assert isinstance(scenario, obshell_file.Scenario)
    agent = scenario.agent
    return [
        str(GenericId("cluster", dag.id))
        if dag.scope == "cluster"
        else local_id(dag.id, ip=agent.ip, port=agent.port)
        for dag in scenario.dags
        if dag.id is not None and dag.maintenance != "obproxy"
    ]


def machine_of(api: Api, begin: Begin) -> type[RuleBasedStateMachine]:
    """The state machine of an API, whose walks ``begin`` anew."""

    class Machine(_OcpMachine if api == "ocp" else _ObshellMachine):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(begin())

    Machine.__name__ = Machine.__qualname__ = f"{api.capitalize()}Machine"
    return Machine


class _Machine(RuleBasedStateMachine):
    """A walk, as rules; what one does where it cannot do what it says, is the walk's to choose."""

    def __init__(self, walk: Walk[Any]) -> None:
        super().__init__()
        self.walk = walk

    @rule(choice=CHOICES, pause=WHEN)
    def ask_what_is_illegal(self, choice: int, pause: Pause) -> None:
        """Asks for what has to be refused."""
        self.walk.move("illegal", choice, pause)

    @rule(pause=WHEN)
    def look(self, pause: Pause) -> None:
        """Only looks."""
        self.walk.move("look", 0, pause)

    def teardown(self) -> None:
        """Looks where it has led."""
        self.walk.rest()
        self.walk.linger()
        self.walk.end()


class _OcpMachine(_Machine):
    @rule(choice=CHOICES, pause=WHEN)
    def retry_a_failed_subtask(self, choice: int, pause: Pause) -> None:
        """Finds one, and retries it."""
        self.walk.move("retrySubtask", choice, pause)

    @rule(choice=CHOICES, pause=WHEN)
    def retry_the_task(self, choice: int, pause: Pause) -> None:
        """Retries all that has failed."""
        self.walk.move("retryTask", choice, pause)

    @rule(choice=CHOICES, pause=WHEN)
    def roll_back(self, choice: int, pause: Pause) -> None:
        """Undoes all that has run."""
        self.walk.move("rollbackTask", choice, pause)

    @rule(choice=CHOICES, pause=WHEN)
    def skip_a_failed_subtask(self, choice: int, pause: Pause) -> None:
        """Finds one, and skips it."""
        self.walk.move("skipSubtask", choice, pause)

    @rule(choice=CHOICES, pause=WHEN)
    def cancel_what_runs(self, choice: int, pause: Pause) -> None:
        """Finds a running subtask, and cancels it."""
        self.walk.move("cancelSubtask", choice, pause)


class _ObshellMachine(_Machine):
    @rule(choice=CHOICES, pause=WHEN)
    def retry(self, choice: int, pause: Pause) -> None:
        """Retries the node at the stage."""
        self.walk.move("RETRY", choice, pause)

    @rule(choice=CHOICES, pause=WHEN)
    def roll_back(self, choice: int, pause: Pause) -> None:
        """Undoes all that has run."""
        self.walk.move("ROLLBACK", choice, pause)

    @rule(choice=CHOICES, pause=WHEN)
    def cancel(self, choice: int, pause: Pause) -> None:
        """Cancels what runs."""
        self.walk.move("CANCEL", choice, pause)

    @rule(choice=CHOICES, pause=WHEN)
    def pass_over(self, choice: int, pause: Pause) -> None:
        """Passes the dag, or its failed node."""
        self.walk.move("PASS", choice, pause)


_WALKS: Final[Mapping[Api, Callable[..., Walk[Any]]]] = {"ocp": OcpWalk, "obshell": ObshellWalk}


def _run(machine: type[RuleBasedStateMachine], *, seed: int, examples: int, moves: int) -> None:
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=moves,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=settings)
