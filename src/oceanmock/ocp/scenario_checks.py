"""Check what only a whole OCP scenario shows, and simulate its story.

``check_names`` reads the file's data and checks ids and references; each rule below takes a
validated scenario and yields its issues. Rule names are stable. Nothing here knows YAML or lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, cast

from oceanmock.clock import SECOND
from oceanmock.errors import IllegalOperation, RollbackProhibited
from oceanmock.ocp import machine, states
from oceanmock.ocp.api import API, Operation
from oceanmock.ocp.scenario import (
    Attempt,
    OcpFault,
    Scenario,
    Step,
    Subtask,
    Task,
    find_subtask,
    rules_of,
    script_of,
    upstreams_of,
)
from oceanmock.scenario import story
from oceanmock.scenario.diagnostics import Issue, Loc, Wording
from oceanmock.scenario.faults import check_faults
from oceanmock.scenario.fields import Reference
from oceanmock.scenario.loader import Format, check_meaning
from oceanmock.scenario.names import (
    Kind,
    NamedPart,
    check_fault_ids,
    check_reference,
    check_story,
    duplicate_ids,
    entries,
    outline,
)
from oceanmock.scenario.submit_calls import check_starts, check_templates

# --- ids and references ---------------------------------------------------------------------------

_KINDS: Final = (
    Kind("tasks", "task", where="this file", may_repeat=True),
    Kind("subtasks", "subtask", where="this task"),
)


def check_names(data: Any) -> Iterator[Issue]:
    """Yield duplicate ids, and unknown or ambiguous references, in a file's data."""
    tasks = outline(data, _KINDS)
    subtasks = [subtask for task in tasks for subtask in task.parts]
    yield from duplicate_ids(tasks, _count_of, also=", or counts up to it")
    yield from duplicate_ids(subtasks)
    for task in tasks:
        for subtask in task.parts:
            for place, reference in entries(subtask.data.get("needs")):
                yield from check_reference(reference, task.parts, (*subtask.loc, "needs", place))
    yield from check_story(data, tasks, keys=("task", "subtask"))
    yield from check_fault_ids(data, {"task": tasks, "subtask": subtasks}, _count_of)


def _count_of(task: NamedPart) -> int:
    repeat = task.data.get("repeat")
    count = repeat.get("count") if isinstance(repeat, dict) else 1
    return count if isinstance(count, int) and count >= 1 else 1


# --- the story ------------------------------------------------------------------------------------


def simulate_story(scenario: Scenario, *, steps: int | None = None) -> story.StoryRun[OcpActor]:
    """Run the scenario's story, or its first steps. Raises StoryDivergesError."""
    rules = rules_of(scenario.tick, scenario.switches)
    actors = [
        OcpActor(
            -task.age,
            _label(task, number),
            tuple(_label(subtask, place) for place, subtask in enumerate(task.subtasks)),
            machine.start(script_of(task), replace(rules, phase=task.age % rules.tick)),
        )
        for number, task in enumerate(scenario.tasks)
    ]
    waiting = [place for place, task in enumerate(scenario.tasks) if task.starts_on]
    return story.simulate(actors, steps_of(scenario)[:steps], waiting=waiting)


def steps_of(scenario: Scenario) -> list[story.Step]:
    """Return the story's steps, with positions for references, which have been checked."""
    return [_resolve(scenario, step) for step in scenario.story]


@dataclass(frozen=True, slots=True)
class OcpActor(story.Actor):
    """A task of a story; its parts are its subtasks."""

    life: machine.History

    def shows(self, part: story.Part) -> Iterator[story.Display]:
        """Yield its status and operation in each state."""
        for state in self.life.states:
            it = state.subtasks[part[0]] if part else state
            yield story.Display(state.at, (it.status, it.operation))

    def start(self, instant: int, others: Sequence[OcpActor]) -> OcpActor:
        """Return the task started at an instant; the schedulers' ticks stay where they are."""
        rules = replace(self.life.rules, phase=-instant % self.life.rules.tick)
        return replace(self, born=instant, life=machine.start(self.life.script, rules))

    def operate(self, operation: str, part: story.Part, instant: int) -> OcpActor | story.Refusal:
        """Return the task after an operation on it, or on its subtask."""
        subtask = part[0] if part else None
        try:
            life = machine.operate(
                self.life, cast("Operation", operation), instant, subtask=subtask
            )
        except (IllegalOperation, RollbackProhibited) as refusal:
            return story.Refusal(400, str(refusal))
        return replace(self, life=life)


def _resolve(scenario: Scenario, step: Step) -> story.Step:
    if step.wait is not None:
        return story.Wait(step.wait)
    if step.start is not None:
        return story.Start(_position(scenario, step.start))
    target = step.until or step
    place = _position(scenario, cast("Reference", target.task))
    subtask = None
    if target.subtask is not None:
        subtask = find_subtask(scenario.tasks[place], target.subtask)
    part = () if subtask is None else (subtask,)
    if step.until is not None:
        return story.Until(place, part, (step.until.status, step.until.operation))
    operation = API.route(str(step.call)).operation
    return story.Call(place, part, operation, step.answers)


def _position(scenario: Scenario, reference: Reference) -> int:
    """Return the position of the first task with this id or name."""
    return next(
        place for place, task in enumerate(scenario.tasks) if reference in (task.id, task.name)
    )


# --- the rules ------------------------------------------------------------------------------------


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


def _templates(scenario: Scenario) -> Iterator[Issue]:
    templates = [
        (("tasks", number), task, task.starts_on)
        for number, task in enumerate(scenario.tasks)
        if task.starts_on is not None
    ]
    routes = [(route.id, route.path) for route in API.routes]
    starts = [(loc, starts_on) for loc, _, starts_on in templates]
    yield from check_starts(starts, API.prefix, routes=routes)
    for loc, task, _ in templates:
        keys = [key for key in ("id", "age", "repeat") if getattr(task, key)]
        subtasks = [
            ((*loc, "subtasks", place), ["id"])
            for place, subtask in enumerate(task.subtasks)
            if subtask.id is not None
        ]
        yield from check_templates([(loc, keys), *subtasks])


def _cycles(scenario: Scenario) -> Iterator[Issue]:
    for number, task in enumerate(scenario.tasks):
        if cycle := _find_cycle([upstreams_of(task, place) for place in range(len(task.subtasks))]):
            names = " → ".join(_label(task.subtasks[place], place) for place in cycle)
            loc: Loc = ("tasks", number, "subtasks", cycle[0], "needs")
            yield Issue(loc, "cycle", f"these subtasks wait for one another: {names}")


def _find_cycle(needs: list[tuple[int, ...]]) -> list[int]:
    """Return positions along a cycle, the first one again at the end; empty when there is none."""
    waiting = {place: set(upstreams) for place, upstreams in enumerate(needs)}
    while free := [place for place, upstreams in waiting.items() if not upstreams]:
        for place in free:
            del waiting[place]
        for upstreams in waiting.values():
            upstreams.difference_update(free)
    if not waiting:
        return []
    trail, here = list[int](), min(waiting)
    while here not in trail:
        trail.append(here)
        here = min(waiting[here])
    return [*trail[trail.index(here) :], here]


def _unreachable_attempts(scenario: Scenario) -> Iterator[Issue]:
    if scenario.switches.retry_after_failed_rollback:
        return  # the retry runs again what had succeeded and was rolled back
    for task, subtask, label, loc in _subtasks(scenario):
        is_cancelled = _is_cancelled(scenario, task, subtask)
        for key, attempts in (("attempts", subtask.attempts), ("rollback", subtask.rollback)):
            for nth, (before, _) in enumerate(pairwise(attempts), start=1):
                if _outcome(before, subtask) == "SUCCESSFUL" and not is_cancelled:
                    what = f"attempt {nth + 1} of subtask {label!r} is never reached"
                    hint = f"Attempt {nth} succeeds; say `ends: FAILED` there, or remove this."
                    yield Issue((*loc, key, nth), "unreachable-attempt", what, hint)


def _late_successes(scenario: Scenario) -> Iterator[Issue]:
    for _, subtask, label, loc in _subtasks(scenario):
        for key, attempts in (("attempts", subtask.attempts), ("rollback", subtask.rollback)):
            for nth, attempt in enumerate(attempts):
                if attempt.ends == "SUCCESSFUL" and _outcome(attempt, subtask) == "FAILED":
                    what = (
                        f"attempt {nth + 1} of subtask {label!r} cannot end SUCCESSFUL: "
                        f"it takes longer than the timeout of {_limit(subtask)} s"
                    )
                    way = (*loc, key, nth, "ends")
                    yield Issue(way, "impossible-outcome", what, "Raise the timeout.")


def _faults(scenario: Scenario) -> Iterator[Issue]:
    yield from check_faults(scenario.faults)


def _starts(scenario: Scenario) -> Iterator[Issue]:
    for number, step in enumerate(scenario.story):
        if step.start is None:
            continue
        if scenario.tasks[_position(scenario, step.start)].starts_on is None:
            what = f"task {step.start!r} is there from the start"
            yield Issue(("story", number, "start"), "wrong-start", what, "Say what it `starts_on`.")


_RULES: Final = (
    _repeated_tasks,
    _templates,
    _cycles,
    _unreachable_attempts,
    _late_successes,
    _faults,
    _starts,
)


def check(scenario: Scenario) -> list[Issue]:
    """Return all issues of a scenario whose structure is sound."""
    return check_meaning(scenario, _RULES, simulate_story)


FORMAT: Final = Format(
    api=API.name,
    scripts_key=API.scripts_key,
    model=Scenario,
    fault=OcpFault,
    wording=Wording(
        API.title, server_words=frozenset(("ends", "mode", "operation", "status", "type"))
    ),
    check_names=check_names,
    check=check,
)


# --- small parts ----------------------------------------------------------------------------------


def _subtasks(scenario: Scenario) -> Iterator[tuple[Task, Subtask, str, Loc]]:
    """Yield each subtask with its task, what messages call it, and the way to it."""
    for number, task in enumerate(scenario.tasks):
        for place, subtask in enumerate(task.subtasks):
            loc: Loc = ("tasks", number, "subtasks", place)
            yield task, subtask, _label(subtask, place), loc


def _label(thing: Task | Subtask, place: int) -> str:
    return thing.name or str(thing.id or place + 1)


def _limit(subtask: Subtask) -> int:
    return subtask.timeout or states.WATCHDOG // SECOND


def _outcome(attempt: Attempt, subtask: Subtask) -> states.Outcome:
    """Return how the attempt ends unless it is cancelled."""
    if attempt.takes is None or attempt.takes > _limit(subtask) * SECOND:
        return "FAILED"
    return attempt.ends or "SUCCESSFUL"


def _is_cancelled(scenario: Scenario, task: Task, subtask: Subtask) -> bool:
    return any(
        step.call == "cancelSubtask"
        and step.task in (task.id, task.name)
        and step.subtask in (subtask.id, subtask.name)
        for step in scenario.story
    )
