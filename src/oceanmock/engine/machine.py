"""State machines: tables of transitions, and the histories that scripts lead to.

A *label* is a state and an operation (obshell: operator), in the API's own words. A ``StateMachine`` lists the
transitions between labels, with trigger and source, but without time. A ``History`` has the states of a script in
order, each with the changes that led to it and their causes. Instants and spans are integer nanoseconds. Nothing here
depends on an API's words.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, repeat
from operator import attrgetter, itemgetter
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from oceanmock.errors import CallerError

Label = tuple[str, str]
Labels = frozenset[Label]
Part = tuple[int, ...]  # the positions that lead to a part of a task or dag; () is the whole

TIME: Final = "time"  # the trigger of everything that happens without an operation
MAX_OPERATIONS: Final = 100  # the last operations that a history has, and the last runs of each part in a state


@dataclass(frozen=True, slots=True)
class Transition:
    """One move, its trigger and source; it happens only under the switch or circumstance that ``only`` names."""

    before: Label
    after: Label
    trigger: str
    source: str
    only: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class StateMachine:
    """The labels that a kind may start with, and all its transitions."""

    kind: str
    initial: tuple[Label, ...]
    transitions: tuple[Transition, ...]

    @property
    def labels(self) -> tuple[Label, ...]:
        """Return all labels, each once, the initial ones first."""
        ends = (end for entry in self.transitions for end in (entry.before, entry.after))
        return tuple(dict.fromkeys((*self.initial, *ends)))

    @property
    def triggers(self) -> tuple[str, ...]:
        """Return the operations that cause transitions, also those on another kind, each once."""
        return tuple(dict.fromkeys(e.trigger for e in self.transitions if e.trigger != TIME))

    def between(self, before: Label, after: Label) -> tuple[Transition, ...]:
        """Return the transitions from one label to another, one for each trigger."""
        return tuple(e for e in self.transitions if (e.before, e.after) == (before, after))


def reachable(machine: StateMachine, before: Label, *, triggers: Collection[str] | None = None) -> frozenset[Label]:
    """Return ``before`` and all labels that time or ``triggers`` may lead to; None stands for all operations."""
    possible = [e for e in machine.transitions if e.trigger == TIME or triggers is None or e.trigger in triggers]
    result, waiting = {before}, [before]
    while waiting:
        current = waiting.pop()
        following = {entry.after for entry in possible if entry.before == current} - result
        result |= following
        waiting += following
    return frozenset(result)


@lru_cache(maxsize=64)
def without(machine: StateMachine, conditions: frozenset[str]) -> StateMachine:
    """Return a machine without the transitions that happen only under one of some conditions."""
    return replace(machine, transitions=tuple(e for e in machine.transitions if e.only not in conditions))


@lru_cache(maxsize=1024)
def labels_of(machine: StateMachine, state: str, operation: str) -> Labels:
    """Return the labels of a state and an operation; without an operation, as in the row of a list, of any."""
    return frozenset(s for s in machine.labels if s[0] == state and operation in ("", s[1]))


@lru_cache(maxsize=1024)
def in_time(machine: StateMachine, labels: Labels, *, by_anybody: bool = False) -> Labels:
    """Return the labels reachable by time alone, or also by anybody's operations."""
    triggers = None if by_anybody else ()
    return frozenset().union(*(reachable(machine, label, triggers=triggers) for label in labels))


@lru_cache(maxsize=1024)
def moved(machine: StateMachine, labels: Labels, by: str) -> Labels:
    """Return the labels that an operation leads to from some labels."""
    return frozenset(e.after for e in machine.transitions if e.trigger == by and e.before in labels)


@lru_cache(maxsize=1024)
def takers(machine: StateMachine, name: str, *, switched: bool) -> Labels:
    """Return the labels in which an operation is legal; with ``switched``, under any switch."""
    return frozenset(e.before for e in machine.transitions if e.trigger == name and (switched or not e.only))


def transitions(table: str) -> tuple[Transition, ...]:
    """Return the transitions of a table, whose lines have a trigger, a move, its source and maybe its ``only``.

    Two spaces or more end a column. ``FAILED/RUN|CANCEL → READY/=`` stands for one move for each operation, which it
    keeps.
    """
    result = list[Transition]()
    for line in table.strip().splitlines():
        trigger, move, source, *only = re.split(" {2,}", line.strip())
        before, after = map(parse_label, move.split(" → "))
        for operation in before[1].split("|"):
            passed = operation if after[1] == "=" else after[1]
            result.append(Transition((before[0], operation), (after[0], passed), trigger, source, *only))
    return tuple(result)


def parse_label(text: str) -> Label:
    """Return the label of a text such as ``FAILED/RUN``."""
    state, operation = text.split("/")
    return state, operation


def format_label(label: Label) -> str:
    """Return a label as text."""
    return "/".join(label)


class Change(NamedTuple):
    """One transition of a part, and its cause.

    ``cause`` is an operation such as ``task.RETRY`` on the part ``target``, or the machine's own name of an event (a
    tick, the end of a run). ``before`` is None at the start; it equals ``after`` if an operation, or a dag's next
    stage, leaves the label.
    """

    at: int
    part: Part
    before: Label | None
    after: Label
    cause: str
    target: Part | None = None


class Moment:
    """A state of a history: the instant from which it holds, and the changes that led to it, in order.

    It has a ``label`` and ``parts``, and so has each part; a part without ``parts`` has none.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]
    if TYPE_CHECKING:
        at: int
        changes: tuple[Change, ...]

    def labels(self) -> Iterator[tuple[Part, Label]]:
        """Yield the label of the whole and of each part, always in the same order."""
        return ((part, label) for part, _, label in _moves(None, self))

    def label_of(self, part: Part) -> Label:
        """Return the label of the whole, or of a part."""
        item: Any = self
        for place in part:
            item = item.parts[place]
        label: Label = item.label
        return label


def _moves(before: Any, after: Any) -> list[tuple[Part, Label | None, Label]]:
    """Return the parts whose labels differ, with both labels, in the order of ``labels``; ``before`` may be None."""
    moves = list[tuple[Part, Label | None, Label]]()

    def compare(old: Any, new: Any, part: Part) -> None:
        previous, label = None if old is None else old.label, new.label
        if previous != label:
            moves.append((part, previous, label))
        parts = getattr(new, "parts", None)
        if parts is not None:
            pairs = zip(repeat(None) if old is None else old.parts, parts, strict=False)
            for place, (old_part, new_part) in enumerate(pairs):
                if old_part is not new_part:
                    compare(old_part, new_part, (*part, place))

    compare(before, after, ())
    return moves


T = TypeVar("T")
C = TypeVar("C")
R = TypeVar("R")
S = TypeVar("S", bound=Moment)
_at = attrgetter("at")
_BLOCK: Final = 64


class Parts(Generic[T]):
    """The parts of a state, a few of which later states replace.

    They are stored in blocks. A copy shares the blocks in which nothing was replaced, so a replacement costs only one
    block and the list of blocks, in time and in memory.
    """

    __slots__ = ("_blocks", "_length")

    def __init__(self, items: Iterable[T] = ()) -> None:
        values = tuple(items)
        self._length = len(values)
        self._blocks = [values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK)]

    def replaced(self, items: Mapping[int, T]) -> Parts[T]:
        """Return a copy with the items of some places replaced."""
        parts: Parts[T] = Parts.__new__(Parts)
        blocks = self._blocks.copy()
        for place, item in items.items():
            block = list(blocks[place // _BLOCK])
            block[place % _BLOCK] = item
            blocks[place // _BLOCK] = tuple(block)
        parts._length, parts._blocks = self._length, blocks
        return parts

    def __getitem__(self, place: int) -> T:
        number, rest = divmod(range(self._length)[place], _BLOCK)
        return self._blocks[number][rest]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self._blocks)

    def __eq__(self, other: object) -> bool:
        return self._blocks == other._blocks if isinstance(other, Parts) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._blocks))


class Upcoming(Generic[S]):
    """The states from one on, each computed when it is first needed. Threads may share an object."""

    __slots__ = ("_known", "_lock", "_more")

    def __init__(self, states: Iterable[S]) -> None:
        """Raise StopIteration if there is no state."""
        self._more, self._lock = iter(states), Lock()
        self._known = [next(self._more)]

    def __iter__(self) -> Iterator[S]:
        state: S | None = self.first
        while state is not None:
            yield state
            state = self.after(state.at)

    @property
    def first(self) -> S:
        """Return the first state."""
        return self._known[0]

    @property
    def last(self) -> S:
        """Return the last state."""
        self._compute(None)
        return self._known[-1]

    def until(self, instant: int) -> list[S]:
        """Return the states that have begun by an instant."""
        return self._known[: self._count(instant)]

    def at(self, instant: int) -> S:
        """Return the state at an instant; before the first state, the first."""
        return self._known[max(self._count(instant) - 1, 0)]

    def after(self, instant: int) -> S | None:
        """Return the first state that begins after an instant, or None."""
        count = self._count(instant)
        return self._known[count] if count < len(self._known) else None

    def _count(self, instant: int) -> int:
        """Return how many states have begun by an instant, after computing the next one, too."""
        if self._known[-1].at <= instant:
            self._compute(instant)
        return bisect_right(self._known, instant, key=_at)

    def _compute(self, instant: int | None) -> None:
        with self._lock:
            while instant is None or self._known[-1].at <= instant:
                state = next(self._more, None)
                if state is None:
                    self._more = iter(())
                    return
                self._known.append(state)


@dataclass(frozen=True, slots=True)
class History(Generic[C, R, S]):
    """All states, past and future, that a script leads to under some rules, in order.

    ``upcoming`` begins with the state that the last operation, or the start, led to. ``past`` has the states before
    each of the last ``MAX_OPERATIONS`` operations, in a list each.
    """

    script: C
    rules: R
    upcoming: Upcoming[S]
    past: tuple[list[S], ...] = field(default=(), repr=False)

    @property
    def states(self) -> tuple[S, ...]:
        """Return all states. This computes each."""
        return (*chain.from_iterable(self.past), *self.upcoming)

    def continued(self, instant: int, states: Iterable[S]) -> History[C, R, S]:
        """Return the history in which ``states`` follow from ``instant`` on."""
        past = [*self.past, self.upcoming.until(instant)]
        while past and (not past[-1] or past[-1][-1].at > instant):  # of others' operations, which may be later
            span = past.pop()
            if kept := span[: bisect_right(span, instant, key=_at)]:
                past.append(kept)
        return replace(self, upcoming=Upcoming(states), past=tuple(past[-MAX_OPERATIONS:]))


def with_others(
    history: History[C, R, S],
    others: Sequence[tuple[int, str, int | None]],
    since: int,
    operate: Callable[[History[C, R, S], Any, int, int | None], History[C, R, S]],
) -> History[C, R, S]:
    """Return a history with others' operations after ``since`` (instant, operation, part), except refused ones."""
    for at, operation, part in sorted(others, key=itemgetter(0)):
        if at > since:
            with suppress(CallerError):
                history = operate(history, operation, at, part)
    return history


def view_at(history: History[C, R, S], instant: int) -> S:
    """Return the state at an instant; before the start, the first one."""
    upcoming = history.upcoming
    if instant >= upcoming.first.at or not history.past:
        return upcoming.at(instant)
    states = next((span for span in reversed(history.past) if span[0].at <= instant), history.past[0])
    return states[max(bisect_right(states, instant, key=_at) - 1, 0)]


def next_due(history: History[C, R, S], instant: int) -> int | None:
    """Return the first instant after ``instant`` at which the state changes, or None."""
    if instant >= history.upcoming.first.at:
        following = history.upcoming.after(instant)
        return None if following is None else following.at
    # A state that an operation replaced at the instant at which it was due never shows.
    current = replace(view_at(history, instant), at=0)
    borders = (state.at for state in chain(chain.from_iterable(history.past), history.upcoming) if state.at > instant)
    return next((at for at in borders if replace(view_at(history, at), at=0) != current), None)


def states_until(history: History[C, R, S], instant: int) -> tuple[S, ...]:
    """Return the states that have begun by an instant, at least the first one."""
    states = [*chain.from_iterable(history.past), *history.upcoming.until(instant)]
    return tuple(states[: bisect_right(states, instant, key=_at)] or states[:1] or [history.upcoming.first])


def started(state: S) -> S:
    """Return the first state with the changes that begin a history."""
    changes = [Change(state.at, part, before, label, "start") for part, before, label in _moves(None, state)]
    return replace(state, changes=tuple(changes))


def changed(before: S, after: S, cause: str, *, target: Part | None = None) -> S:
    """Return the later state with the changes of ``before`` and a new one for each part that differs.

    An operation on a ``target`` begins a new list: first the change of the target, even if its label stays.
    """
    if after is before and target is None:
        return after
    changes = list(before.changes)
    if target is not None:
        changes = [Change(after.at, target, before.label_of(target), after.label_of(target), cause, target)]
    for part, old, label in _moves(before, after):
        if part != target:
            changes.append(Change(after.at, part, old, label, cause, target))
    return replace(after, changes=tuple(changes))


def next_tick(instant: int, period: int, phase: int) -> int:
    """Return the first tick after ``instant`` on the grid phase + k · period."""
    return instant + period - (instant - phase) % period


LogLine = str | tuple[int, str]  # a line of a log, maybe with the time after the start of its run


def lines_logged(run: Any, instant: int) -> list[tuple[int, str]]:
    """Return the lines that a run has logged by an instant, each with its instant, in order.

    Lines without a time of their own are spread evenly over the time that the run takes. None comes after its end.
    """
    by, lines = instant if run.ended is None else min(instant, run.ended), list[tuple[int, str]]()
    for number, line in enumerate(run.log):
        spread = run.takes * number // len(run.log)
        after, text = (spread, line) if isinstance(line, str) else line
        if run.started + after <= by:
            lines.append((run.started + after, text))
    return sorted(lines, key=itemgetter(0))
