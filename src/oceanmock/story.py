"""A story: the life a client should be able to live with a scenario's tasks, told in steps.

Telling it runs the machine with nobody waiting: `until` goes to the first instant at which a state
shows, `wait` lets time pass, `call` operates there and then. A story that cannot happen diverges,
and says at which step, what it waited for and what happens instead. Pure: it knows no file, no
clock and no HTTP. Instants are nanoseconds since the sandbox's start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from oceanmock.clock import SECOND
from oceanmock.errors import AuthorError, IllegalOperation, RollbackProhibited
from oceanmock.lifecycle import ocp


@dataclass(frozen=True, slots=True)
class Actor:
    """A task of the story: its life, when it was born, what messages call it and its subtasks."""

    life: ocp.Life
    born: int
    name: str
    subtask_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Until:
    """Waits for the task, or the subtask at a position in it, to show a status or operation."""

    task: int
    subtask: int | None
    status: str | None
    operation: str | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Lets time pass."""

    span: int


@dataclass(frozen=True, slots=True)
class Call:
    """Operates, and is refused exactly when ``refused``."""

    task: int
    subtask: int | None
    operation: ocp.Operation
    refused: bool


Step = Until | Wait | Call


@dataclass(frozen=True, slots=True)
class Mark:
    """An operation of the story, where it happened."""

    instant: int
    task: int
    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """A story that came to its end: the tasks' lives as they went, and the operations on them."""

    actors: tuple[Actor, ...]
    marks: tuple[Mark, ...]


class StoryDivergesError(AuthorError):
    """Step ``number`` (from 0) cannot happen."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def tell(actors: Sequence[Actor], steps: Sequence[Step]) -> Told:
    """Runs a story to its end. Raises StoryDivergesError at the first step that cannot happen."""
    cast, now, marks = list(actors), 0, list[Mark]()
    for number, step in enumerate(steps):
        if isinstance(step, Wait):
            now += step.span
        elif isinstance(step, Until):
            now = _await(cast[step.task], step, now, number)
        else:
            cast[step.task] = _operate(cast[step.task], step, now, number)
            refused = ", refused" if step.refused else ""
            marks.append(Mark(now, step.task, _call_text(cast[step.task], step) + refused))
    return Told(tuple(cast), tuple(marks))


def _await(actor: Actor, step: Until, now: int, number: int) -> int:
    """The first instant from now on at which the step's state shows."""
    if _shows(ocp.view_at(actor.life, now - actor.born), step):
        return now
    for state in actor.life.states:
        if actor.born + state.at > now and _shows(state, step):
            return actor.born + state.at
    raise StoryDivergesError(number, _never(actor, step, now))


def _shows(state: ocp.TaskState, step: Until) -> bool:
    it = state if step.subtask is None else state.subtasks[step.subtask]
    return step.status in (None, it.status) and step.operation in (None, it.operation)


def _operate(actor: Actor, step: Call, now: int, number: int) -> Actor:
    try:
        life = ocp.operate(actor.life, step.operation, now - actor.born, subtask=step.subtask)
    except (IllegalOperation, RollbackProhibited) as refusal:
        if step.refused:
            return actor
        what = f"{_call_text(actor, step)} is refused: {refusal}"
        raise StoryDivergesError(number, what) from refusal
    if step.refused:
        raise StoryDivergesError(number, f"{_call_text(actor, step)} is accepted, not refused")
    return Actor(life, actor.born, actor.name, actor.subtask_names)


def _call_text(actor: Actor, step: Call) -> str:
    whom = "" if step.subtask is None else f" {actor.subtask_names[step.subtask]!r} of"
    return f"{step.operation}{whom} {actor.name!r}"


def _never(actor: Actor, step: Until, now: int) -> str:
    wanted = " ".join(word for word in (step.status, step.operation) if word)
    who = f"{actor.name!r}"
    if step.subtask is not None:
        who = f"{actor.subtask_names[step.subtask]!r} of {who}"
    last = actor.life.states[-1]
    seen = "; ".join(_what_it_showed(actor, step, now))
    left = max(actor.born + last.at - now, 0) / SECOND
    end = f"after {left:g} s nothing more is due" if left else "nothing more is due"
    return f"{who} never is {wanted} from here on; it is {seen}, and {end}"


def _what_it_showed(actor: Actor, step: Until, now: int) -> Iterator[str]:
    """The statuses and operations it shows from now on, without repetition."""
    later = [state for state in actor.life.states if actor.born + state.at > now]
    previous = None
    for state in (ocp.view_at(actor.life, now - actor.born), *later):
        it = state if step.subtask is None else state.subtasks[step.subtask]
        if (it.status, it.operation) != previous:
            previous = (it.status, it.operation)
            yield f"{it.status}/{it.operation}"
