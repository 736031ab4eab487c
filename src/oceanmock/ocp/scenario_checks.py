"""Check what only a whole OCP scenario shows, and simulate its story.

``check_names`` reads the file's data and checks ids and references; each rule below takes a
validated scenario and yields its issues. Rule names are stable. Nothing here knows YAML or lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from itertools import count
from typing import Any, Final, cast

from oceanmock.clock import SECOND
from oceanmock.errors import IllegalOperation, RollbackProhibited
from oceanmock.ocp import machine, states
from oceanmock.ocp.api import API, Operation
from oceanmock.ocp.scenario import Attempt, OcpFault, Scenario, Subtask, Task, rules_of, script_of, upstreams_of
from oceanmock.scenario import story
from oceanmock.scenario.diagnostics import Issue, Loc, Wording
from oceanmock.scenario.loader import Format
from oceanmock.scenario.names import (
    ListKind,
    check_fault_ids,
    check_ids,
    check_reference,
    check_story,
    items_of,
    outline,
)
from oceanmock.scenario.story import label_of, positions_of

_NAMED_LISTS: Final = (
    ListKind("tasks", "task", where="this file", may_repeat=True),
    ListKind("subtasks", "subtask", where="this task"),
)


def check_names(data: Any) -> Iterator[Issue]:
    """Yield duplicate ids, and unknown or ambiguous references, in a file's data."""
    tasks = outline(data, _NAMED_LISTS)
    subtasks = [subtask for task in tasks.things for subtask in task.parts.things]
    yield from check_ids(tasks.things)
    yield from check_ids(subtasks)
    for task in tasks.things:
        for subtask in task.parts.things:
            for place, reference in enumerate(items_of(subtask.data.get("needs"))):
                yield from check_reference(reference, task.parts, (*subtask.loc, "needs", place))
    yield from check_story(data, tasks, "task", "subtask")
    yield from check_fault_ids(data, {"task": tasks.things, "subtask": subtasks})


_OPERATIONS: Final = {route.id: route.operation for route in API.routes}


def simulate_story(scenario: Scenario, *, steps: int | None = None) -> story.StoryRun[OcpActor]:
    """Run the scenario's story, or its first steps. Raises StoryDivergesError."""
    rules = rules_of(scenario.tick, scenario.switches)
    actors = [
        OcpActor(
            -task.age,
            label_of(task, number),
            tuple(map(label_of, task.subtasks, count())),
            machine.start(script_of(task), replace(rules, phase=task.age % rules.tick)),
        )
        for number, task in enumerate(scenario.tasks)
    ]
    waiting = [place for place, task in enumerate(scenario.tasks) if task.starts_on]
    return story.simulate(actors, steps_of(scenario)[:steps], waiting=waiting)


def steps_of(scenario: Scenario) -> list[story.Action]:
    """Return the story's steps, with positions for references, which have been checked."""
    positions = positions_of([(task.id, task.name) for task in scenario.tasks])
    steps = list[story.Action]()
    for step in scenario.story:
        target = step.until or step
        reference = step.start if step.start is not None else target.task
        if reference is None:
            steps.append(story.WaitAction(step.wait or 0))
            continue
        place, part = positions[reference], tuple[int, ...]()
        if target.subtask is not None:
            subtasks = scenario.tasks[place].subtasks
            part = (positions_of([(item.id, item.name) for item in subtasks])[target.subtask],)
        if step.start is not None:
            steps.append(story.StartAction(place))
        elif step.until is not None:
            steps.append(story.UntilAction(place, part, (step.until.status, step.until.operation)))
        else:
            operation = _OPERATIONS[str(step.call)]
            steps.append(story.CallAction(place, part, operation, step.answers))
    return steps


@dataclass(frozen=True, slots=True)
class OcpActor(story.Actor):
    """A task of a story; its parts are its subtasks."""

    history: machine.History

    def shows(self, part: story.PartPath) -> Iterable[story.Display]:
        """Return its status and operation in each state."""
        whole = self.history.states
        if not part:
            return [story.Display(task.at, (task.status, task.operation)) for task in whole]
        pairs = [(task.at, task.subtasks[part[0]]) for task in whole]
        return [story.Display(at, (subtask.status, subtask.operation)) for at, subtask in pairs]

    def start(self, instant: int, others: Sequence[OcpActor]) -> OcpActor:
        """Return the task started at an instant; the schedulers' ticks stay where they are."""
        rules = replace(self.history.rules, phase=-instant % self.history.rules.tick)
        return replace(self, created=instant, history=machine.start(self.history.script, rules))

    def operate(self, operation: str, part: story.PartPath, instant: int) -> OcpActor | story.Refusal:
        """Return the task after an operation on it, or on its subtask."""
        subtask = part[0] if part else None
        try:
            history = machine.operate(self.history, cast("Operation", operation), instant, subtask=subtask)
        except (IllegalOperation, RollbackProhibited) as refusal:
            return story.Refusal(400, str(refusal))
        return replace(self, history=history)


def _repeated_tasks(scenario: Scenario) -> Iterator[Issue]:
    for number, task in enumerate(scenario.tasks):
        if task.repeat is None:
            continue
        for place, subtask in enumerate(task.subtasks):
            if subtask.id is not None:
                loc: Loc = ("tasks", number, "subtasks", place, "id")
                what = "a subtask of a repeated task cannot have an id of its own"
                yield Issue(loc, "repeated-id", what, "Leave it out: each gets one.")
        if task.repeat.every * (task.repeat.count - 1) > task.age:
            what = "the last of these tasks would start after the sandbox's start"
            age = -(-task.repeat.every * (task.repeat.count - 1) // SECOND)
            loc = ("tasks", number, "repeat")
            yield Issue(loc, "starts-later", what, f"Give `age` at least {age}s.")


def _cycles(scenario: Scenario) -> Iterator[Issue]:
    for number, task in enumerate(scenario.tasks):
        try:
            TopologicalSorter(dict(enumerate(upstreams_of(task)))).prepare()
        except CycleError as error:
            places = error.args[1][:0:-1]  # each one waits for the next
            first = places.index(min(places))
            cycle = [*places[first:], *places[: first + 1]]
            names = " → ".join(label_of(task.subtasks[place], place) for place in cycle)
            loc: Loc = ("tasks", number, "subtasks", cycle[0], "needs")
            yield Issue(loc, "cycle", f"these subtasks wait for one another: {names}")


def _attempts(scenario: Scenario) -> Iterator[Issue]:
    """Yield attempts that are never reached, and those that cannot succeed in time."""
    # Where a failed rollback may be retried, that runs again what succeeded and was rolled back.
    runs_again = scenario.switches.retry_after_failed_rollback
    for task, subtask, attempts, loc in _attempt_lists(scenario):
        limit = subtask.timeout or states.WATCHDOG // SECOND
        for nth, attempt in enumerate(attempts, start=1):
            is_in_time = attempt.takes is not None and attempt.takes <= limit * SECOND
            if attempt.ends == "SUCCESSFUL" and not is_in_time:
                name = label_of(subtask, int(loc[3]))
                what = (
                    f"attempt {nth} of subtask {name!r} cannot end SUCCESSFUL: "
                    f"it takes longer than the timeout of {limit} s"
                )
                yield Issue((*loc, nth - 1, "ends"), "impossible-outcome", what, "Raise the timeout.")
            is_last = nth == len(attempts) or runs_again
            succeeds = is_in_time and attempt.ends != "FAILED"
            if (succeeds and not is_last) and not any(
                step.call == "cancelSubtask"
                and step.task in (task.id, task.name)
                and step.subtask in (subtask.id, subtask.name)
                for step in scenario.story
            ):
                name = label_of(subtask, int(loc[3]))
                what = f"attempt {nth + 1} of subtask {name!r} is never reached"
                hint = f"Attempt {nth} succeeds; say `ends: FAILED` there, or remove this."
                yield Issue((*loc, nth), "unreachable-attempt", what, hint)


def _attempt_lists(scenario: Scenario) -> Iterator[tuple[Task, Subtask, tuple[Attempt, ...], Loc]]:
    """Yield the attempts and the rollbacks of each subtask with the way to them."""
    for number, task in enumerate(scenario.tasks):
        for place, subtask in enumerate(task.subtasks):
            loc: Loc = ("tasks", number, "subtasks", place)
            yield task, subtask, subtask.attempts, (*loc, "attempts")
            yield task, subtask, subtask.rollback, (*loc, "rollback")


FORMAT: Final = Format(
    api=API,
    model=Scenario,
    fault=OcpFault,
    wording=Wording(API.title, server_words=frozenset(("ends", "mode", "operation", "status", "type"))),
    check_names=check_names,
    rules=(_repeated_tasks, _cycles, _attempts),
    simulate=simulate_story,
)
