"""What only a whole OCP scenario can show: references, cycles, unreachable attempts, its story.

Each rule takes a scenario that its models accept and yields what breaks it; ``check`` asks them
all, then tells the story. Rule names are stable. Nothing here knows YAML, lines or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, cast

from oceanmock.clock import SECOND
from oceanmock.errors import IllegalOperation, RollbackProhibited
from oceanmock.ocp import api as ocp_api
from oceanmock.ocp import machine as ocp
from oceanmock.ocp import states as ocp_states
from oceanmock.ocp.scenario import (
    Attempt,
    Call,
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
from oceanmock.scenario.checks import ask, unless_one
from oceanmock.scenario.diagnostics import Found, Loc
from oceanmock.scenario.fault_checks import all_numbers, check_faults
from oceanmock.scenario.fields import Reference
from oceanmock.scenario.submit_checks import check_starts, check_templates
from oceanmock.text import suggest

_OPERATIONS: Final[dict[Call, ocp_api.Operation]] = {
    "retryTask": "RETRY",
    "rollbackTask": "ROLLBACK",
    "retrySubtask": "RETRY",
    "skipSubtask": "SKIP",
    "cancelSubtask": "CANCEL",
}
_TASK_STATUSES: Final = ("RUNNING", "FAILED", "SUCCESSFUL", "ABORTED")
_SUBTASK_STATUSES: Final = ("PENDING", "READY", "RUNNING", "CANCELING", "FAILED", "SUCCESSFUL")
_TASK_OPERATIONS: Final = ("EXECUTE", "RETRY", "ROLLBACK")


def check(scenario: Scenario, *, tell_story: bool = True) -> list[Found]:
    """Everything that is wrong with the whole; the story is told only when nothing else is."""
    return ask(scenario, _RULES, tell if tell_story else None)


def tell(scenario: Scenario, *, steps: int | None = None) -> story.Told[OcpActor]:
    """The scenario's story, or its first steps. Raises StoryDivergesError if it cannot happen."""
    rules = rules_of(scenario.tick, scenario.switches)
    actors = [
        OcpActor(
            -task.age,
            _called(task, number),
            tuple(_called(subtask, place) for place, subtask in enumerate(task.subtasks)),
            ocp.start(script_of(task), replace(rules, phase=task.age % rules.tick)),
        )
        for number, task in enumerate(scenario.tasks)
    ]
    unborn = [place for place, task in enumerate(scenario.tasks) if task.starts_on]
    return story.tell(actors, steps_of(scenario)[:steps], unborn=unborn)


def steps_of(scenario: Scenario) -> list[story.Step]:
    """The story's steps, with positions for references; what is wrong with those is not asked."""
    return [_resolve(scenario, step) for step in scenario.story]


@dataclass(frozen=True, slots=True)
class OcpActor(story.Actor):
    """A task of a story; its parts are its subtasks."""

    life: ocp.History

    def shows(self, part: story.Part) -> Iterator[story.Shown]:
        """Its status and operation in each state of its life."""
        for state in self.life.states:
            it = state.subtasks[part[0]] if part else state
            yield story.Shown(state.at, (it.status, it.operation))

    def start(self, instant: int, others: Sequence[OcpActor]) -> OcpActor:
        """The task born at an instant; the ticks lie where they lay."""
        rules = replace(self.life.rules, phase=-instant % self.life.rules.tick)
        return replace(self, born=instant, life=ocp.start(self.life.script, rules))

    def operate(self, operation: str, part: story.Part, instant: int) -> OcpActor | story.Refusal:
        """The task after an operation on it, or on its subtask."""
        subtask = part[0] if part else None
        try:
            life = ocp.operate(
                self.life, cast("ocp_api.Operation", operation), instant, subtask=subtask
            )
        except (IllegalOperation, RollbackProhibited) as refusal:
            return story.Refusal(400, str(refusal))
        return replace(self, life=life)


# --- the rules ------------------------------------------------------------------------------------


def _ids_given_twice(scenario: Scenario) -> Iterator[Found]:
    tasks: list[tuple[int, int, Loc]] = []
    subtasks: dict[int, Loc] = {}
    for number, task in enumerate(scenario.tasks):
        loc: Loc = ("tasks", number)
        if task.id is not None:
            last = task.id + (task.repeat.count if task.repeat else 1) - 1
            if any(first <= last and task.id <= end for first, end, _ in tasks):
                what = f"another task of this file already has id {task.id}, or counts up to it"
                yield Found((*loc, "id"), "duplicate-id", what)
            tasks.append((task.id, last, loc))
        for place, subtask in enumerate(task.subtasks):
            where: Loc = (*loc, "subtasks", place, "id")
            if subtask.id in subtasks:
                what = f"another subtask of this file already has id {subtask.id}"
                yield Found(where, "duplicate-id", what)
            elif subtask.id is not None:
                subtasks[subtask.id] = where


def _repeated_tasks(scenario: Scenario) -> Iterator[Found]:
    for number, task in enumerate(scenario.tasks):
        if task.repeat is None:
            continue
        for place, subtask in enumerate(task.subtasks):
            if subtask.id is not None:
                loc: Loc = ("tasks", number, "subtasks", place, "id")
                what = "a subtask of a repeated task cannot have an id of its own"
                yield Found(loc, "repeated-id", what, "Leave it out: each gets one.")
        if task.repeat.every * (task.repeat.count - 1) > task.age:
            what = "the last of these tasks would be born after the start"
            needed = -(-task.repeat.every * (task.repeat.count - 1) // SECOND)
            yield Found(
                ("tasks", number, "repeat"), "born-later", what, f"Give `age` at least {needed}s."
            )


def _templates(scenario: Scenario) -> Iterator[Found]:
    templates = [
        (number, task, task.starts_on)
        for number, task in enumerate(scenario.tasks)
        if task.starts_on is not None
    ]
    yield from check_starts(
        "ocp", [(("tasks", number), starts_on) for number, _, starts_on in templates]
    )
    for number, task, _ in templates:
        loc: Loc = ("tasks", number)
        yield from check_templates(
            [(loc, [key for key in ("id", "age", "repeat") if getattr(task, key)])]
            + [
                ((*loc, "subtasks", place), ["id"])
                for place, subtask in enumerate(task.subtasks)
                if subtask.id is not None
            ]
        )


def _needs(scenario: Scenario) -> Iterator[Found]:
    for number, task in enumerate(scenario.tasks):
        for place, subtask in enumerate(task.subtasks):
            for nth, reference in enumerate(subtask.needs or ()):
                loc: Loc = ("tasks", number, "subtasks", place, "needs", nth)
                yield from _unknown_subtask(task, reference, loc)


def _cycles(scenario: Scenario) -> Iterator[Found]:
    for number, task in enumerate(scenario.tasks):
        if cycle := _find_cycle([upstreams_of(task, place) for place in range(len(task.subtasks))]):
            names = " → ".join(_called(task.subtasks[place], place) for place in cycle)
            loc: Loc = ("tasks", number, "subtasks", cycle[0], "needs")
            yield Found(loc, "cycle", f"these subtasks wait for one another: {names}")


def _find_cycle(needs: list[tuple[int, ...]]) -> list[int]:
    """Positions along a cycle, the first one again at the end; empty when there is none."""
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


def _attempts_nobody_can_reach(scenario: Scenario) -> Iterator[Found]:
    if scenario.switches.retry_after_failed_rollback:
        return  # the retry runs again what had succeeded and was rolled back
    for number, task in enumerate(scenario.tasks):
        for place, subtask in enumerate(task.subtasks):
            loc: Loc = ("tasks", number, "subtasks", place)
            cancelled = _is_cancelled(scenario, task, subtask)
            for key, attempts in (("attempts", subtask.attempts), ("rollback", subtask.rollback)):
                for nth, (before, _) in enumerate(pairwise(attempts), start=1):
                    if _outcome(before, subtask) == "SUCCESSFUL" and not cancelled:
                        what = f"attempt {nth + 1} of subtask {_called(subtask, place)!r} is never"
                        hint = f"Attempt {nth} succeeds; say `ends: FAILED` there, or remove this."
                        yield Found(
                            (*loc, key, nth), "unreachable-attempt", f"{what} reached", hint
                        )


def _outcomes_out_of_time(scenario: Scenario) -> Iterator[Found]:
    for number, task in enumerate(scenario.tasks):
        for place, subtask in enumerate(task.subtasks):
            for key, attempts in (("attempts", subtask.attempts), ("rollback", subtask.rollback)):
                for nth, attempt in enumerate(attempts):
                    if attempt.ends == "SUCCESSFUL" and _outcome(attempt, subtask) == "FAILED":
                        loc: Loc = ("tasks", number, "subtasks", place, key, nth, "ends")
                        what = (
                            f"attempt {nth + 1} of subtask {_called(subtask, place)!r} cannot end"
                            f" SUCCESSFUL: it takes longer than the timeout of {_limit(subtask)} s"
                        )
                        yield Found(loc, "impossible-outcome", what, "Raise the timeout.")


def _story_references(scenario: Scenario) -> Iterator[Found]:
    for number, step in enumerate(scenario.story):
        loc: Loc = ("story", number) if step.until is None else ("story", number, "until")
        task_reference = step.task or step.start if step.until is None else step.until.task
        subtask_reference = step.subtask if step.until is None else step.until.subtask
        if task_reference is None:
            continue
        place = _find_task(scenario, task_reference)
        if place is None:
            names = [str(name) for each in scenario.tasks for name in (each.id, each.name) if name]
            yield from unless_one(
                0,
                task_reference,
                noun="task",
                where="this file",
                names=names,
                loc=(*loc, "start" if step.start else "task"),
                most=5,
            )
        elif step.start is not None and scenario.tasks[place].starts_on is None:
            what = f"task {step.start!r} is there from the start"
            yield Found((*loc, "start"), "wrong-start", what, "Say what it `starts_on`.")
        elif subtask_reference is not None:
            task = scenario.tasks[place]
            yield from _unknown_subtask(task, subtask_reference, (*loc, "subtask"))
        yield from _words_of_the_other_kind(step, loc)


def _words_of_the_other_kind(step: Step, loc: Loc) -> Iterator[Found]:
    """A task has fewer states and operations than a subtask, and ABORTED is a task's alone."""
    if step.until is None:
        return
    of_task = step.until.subtask is None
    kind = "a task" if of_task else "a subtask"
    statuses = _TASK_STATUSES if of_task else _SUBTASK_STATUSES
    if step.until.status is not None and step.until.status not in statuses:
        what = f"{kind} is never {step.until.status}"
        hint = suggest(step.until.status, statuses)
        yield Found((*loc, "status"), "unknown-value", what, hint)
    if of_task and step.until.operation not in (None, *_TASK_OPERATIONS):
        what = f"the operation of a task is never {step.until.operation}"
        hint = suggest(step.until.operation, _TASK_OPERATIONS)
        yield Found((*loc, "operation"), "unknown-value", what, hint)


def _faults(scenario: Scenario) -> Iterator[Found]:
    tasks = [(task.id, task.repeat.count if task.repeat else 1) for task in scenario.tasks]
    subtasks = [(each.id, 1) for task in scenario.tasks for each in task.subtasks]
    numbers = {"task": all_numbers(tasks), "subtask": all_numbers(subtasks)}
    yield from check_faults(scenario.faults, numbers)


_RULES: Final[tuple[Callable[[Scenario], Iterator[Found]], ...]] = (
    _ids_given_twice,
    _repeated_tasks,
    _templates,
    _needs,
    _cycles,
    _attempts_nobody_can_reach,
    _outcomes_out_of_time,
    _faults,
    _story_references,
)


# --- small things ---------------------------------------------------------------------------------


def _unknown_subtask(task: Task, reference: Reference, loc: Loc) -> Iterator[Found]:
    count = sum(reference in (subtask.id, subtask.name) for subtask in task.subtasks)
    names = [str(name) for each in task.subtasks for name in (each.id, each.name) if name]
    yield from unless_one(count, reference, noun="subtask", where="this task", names=names, loc=loc)


def _find_task(scenario: Scenario, reference: Reference) -> int | None:
    for place, task in enumerate(scenario.tasks):
        if reference in (task.id, task.name):
            return place
    return None


def _called(thing: Task | Subtask, place: int) -> str:
    return thing.name or str(thing.id or place + 1)


def _limit(subtask: Subtask) -> int:
    return subtask.timeout or ocp_states.WATCHDOG // SECOND


def _outcome(attempt: Attempt, subtask: Subtask) -> ocp_states.Outcome:
    """How the attempt really ends, if nobody cancels it."""
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


def _resolve(scenario: Scenario, step: Step) -> story.Step:
    """A step with positions for references; the references have been checked."""
    if step.wait is not None:
        return story.Wait(step.wait)
    whom = step.until or step
    reference = step.start or whom.task
    place = _find_task(scenario, reference) if reference is not None else None
    if place is None:
        raise ValueError("a story is told only once its references have been checked")
    if step.start is not None:
        return story.Start(place)
    subtask = None if whom.subtask is None else find_subtask(scenario.tasks[place], whom.subtask)
    part = () if subtask is None else (subtask,)
    if step.until is not None:
        return story.Until(place, part, (step.until.status, step.until.operation))
    if step.call is None:
        raise ValueError("a step either waits or calls")
    return story.Call(place, part, _OPERATIONS[step.call], step.answers)
