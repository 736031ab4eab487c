"""Check what only a whole OCP scenario shows, and simulate its story.

Each rule takes a validated scenario and yields its issues. Rule names are stable. Nothing here knows YAML or lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from itertools import product
from typing import ClassVar, Final

from oceanmock.clock import SECOND
from oceanmock.ocp import machine, states
from oceanmock.ocp.api import API
from oceanmock.ocp.scenario import OcpFault, Scenario, Task, rules_of, script_of, upstreams_of
from oceanmock.scenario.document import Issue, Loc, Wording
from oceanmock.scenario.story import Actor, Format, ListKind, label_of


class OcpActor(Actor):
    """A task of a story; its parts are its subtasks."""

    api: ClassVar = API
    machine: ClassVar = machine

    @staticmethod
    def begin(scenario: Scenario, script: Task, created: int) -> machine.History:
        """Return the history of a task; the schedulers' ticks stay where they are."""
        rules = rules_of(scenario.tick, scenario.switches)
        return machine.start(script_of(script), replace(rules, phase=-created % rules.tick))


def _tasks(scenario: Scenario) -> Iterator[Issue]:
    """Yield repeated tasks that are no plain copies or start too late, and subtasks that wait for one another."""
    for number, task in enumerate(scenario.tasks):
        if task.repeat is not None:
            for place, subtask in enumerate(task.subtasks):
                if subtask.id is not None:
                    what = "a subtask of a repeated task cannot have an id of its own"
                    loc: Loc = ("tasks", number, "subtasks", place, "id")
                    yield Issue(loc, "repeated-id", what, "Leave it out: each gets one.")
            last = task.repeat.every * (task.repeat.count - 1)
            if last > task.age:
                what = "the last of these tasks would start after the sandbox's start"
                hint = f"Give `age` at least {-(-last // SECOND)}s."
                yield Issue(("tasks", number, "repeat"), "starts-later", what, hint)
        try:
            TopologicalSorter(dict(enumerate(upstreams_of(task)))).prepare()
        except CycleError as error:
            places = error.args[1][:0:-1]  # each one waits for the next
            first = places.index(min(places))
            cycle = [*places[first:], *places[: first + 1]]
            names = " → ".join(label_of(task.subtasks[place], place) for place in cycle)
            loc = ("tasks", number, "subtasks", cycle[0], "needs")
            yield Issue(loc, "cycle", f"these subtasks wait for one another: {names}")


def _attempts(scenario: Scenario) -> Iterator[Issue]:
    """Yield attempts that are never reached, and those that cannot succeed in time."""
    cancels = {(step.task, step.subtask) for step in scenario.story if step.call == "cancelSubtask"}
    for number, task in enumerate(scenario.tasks):
        for place, subtask in enumerate(task.subtasks):
            limit, name = subtask.timeout or states.WATCHDOG // SECOND, label_of(subtask, place)
            references = product((task.id, task.name), (subtask.id, subtask.name))
            # Where a failed rollback may be retried, that runs again what succeeded and was rolled back.
            runs_again = scenario.switches.retry_after_failed_rollback or not cancels.isdisjoint(references)
            for key, attempts in (("attempts", subtask.attempts), ("rollback", subtask.rollback)):
                loc: Loc = ("tasks", number, "subtasks", place, key)
                for nth, attempt in enumerate(attempts, start=1):
                    is_in_time = attempt.takes is not None and attempt.takes <= limit * SECOND
                    if attempt.ends == "SUCCESSFUL" and not is_in_time:
                        what = (
                            f"attempt {nth} of subtask {name!r} cannot end SUCCESSFUL: "
                            f"it takes longer than the timeout of {limit} s"
                        )
                        yield Issue((*loc, nth - 1, "ends"), "impossible-outcome", what, "Raise the timeout.")
                    if is_in_time and attempt.ends != "FAILED" and nth < len(attempts) and not runs_again:
                        what = f"attempt {nth + 1} of subtask {name!r} is never reached"
                        hint = f"Attempt {nth} succeeds; say `ends: FAILED` there, or remove this."
                        yield Issue((*loc, nth), "unreachable-attempt", what, hint)


FORMAT: Final = Format(
    api=API,
    model=Scenario,
    fault=OcpFault,
    actor=OcpActor,
    wording=Wording(API.title, server_words=frozenset(("ends", "mode", "operation", "status", "type"))),
    lists=(
        ListKind("tasks", "task", where="this file", may_repeat=True),
        ListKind("subtasks", "subtask", where="this task", has_needs=True),
    ),
    rules=(_tasks, _attempts),
    checks_fault_ids=True,
)
