"""Refer to the tasks or dags of a scenario, and simulate its story: the steps in which a client uses them.

References are checked in the file's data as it was written, so that an author sees a wrong reference and a wrong
value together. Where an id or a name is itself wrong, references to that list are not checked. An actor is a task or
a dag with the history that its machine computes. A simulation is pure: without clock, files and HTTP. Instants are
nanoseconds since the sandbox's start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count, groupby, islice, repeat
from operator import attrgetter
from typing import Any, ClassVar, Literal, Self

from oceanmock.clock import SECOND
from oceanmock.errors import CallerError, InputError, Issue, Loc
from oceanmock.scenario import MAX_COPIES, BaseScenario
from oceanmock.scenario.document import Wording
from oceanmock.scenario.faults import Fault
from oceanmock.text import did_you_mean


@dataclass(frozen=True, slots=True)
class NamedPart:
    """A thing that the file names, of one of an API's kinds: a task, a subtask, a dag, a node or a sub task.

    ``ids`` are those of the file, several if it repeats; ``number`` is the first, or the one it gets without.
    """

    kind: Any
    loc: Loc
    data: Mapping[Any, Any]
    ids: range
    number: int | None
    name: str | None
    parts: NamedParts


@dataclass(slots=True)
class NamedParts:
    """The things of one list, and those that a number or a name refers to."""

    kind: Any
    things: list[NamedPart] = field(default_factory=list)
    by_label: dict[int | str, list[NamedPart]] = field(default_factory=dict)
    are_sound: bool = True


def label_of(thing: Any, place: int) -> str:
    """Return what messages call a task, a dag or a part of one: its name, id or number."""
    return thing.name or str(thing.id or place + 1)


def items_of(value: Any) -> Sequence[Any]:
    """Return the items of a list, which may be left out or written as its only item."""
    return value if isinstance(value, list | tuple) else [] if value is None else [value]


def _check_ids(group: Sequence[tuple[NamedPart, NamedPart]], *, may_repeat: bool) -> Iterator[Issue]:
    """Yield the ids that an earlier thing of the kind has, counts up to, or gets; its task or dag is beside it."""
    single, ranges, by_id = set[int](), list[range](), dict[int | None, NamedPart]()
    for root, thing in group:
        ids = thing.ids
        if ids:
            by_id.setdefault(thing.number, thing)
        fewer, more = (ids, single) if len(ids) < len(single) else (single, ids)
        is_taken = any(id in more for id in fewer)
        for other in ranges:
            is_taken |= max(ids.start, other.start) < min(ids.stop, other.stop)
        if is_taken:
            also = ", or counts up to it" if may_repeat and thing is root else ""
            what = f"another {thing.kind.title} of this file already has id {ids[0]}{also}"
            yield Issue((*thing.loc, "id"), "duplicate-id", what)
        if len(ids) > 1:
            ranges.append(ids)
        else:
            single.update(ids)
    for root, thing in group:
        owner = None if thing.ids else by_id.get(thing.number)
        if owner is not None:
            name = f" {thing.name!r}" if thing.name else ""
            what = f"{thing.kind.title}{name} of {root.kind.title} {root.name or root.number!r} gets {thing.number}"
            yield Issue((*owner.loc, "id"), "duplicate-id", f"{what}, having no id itself")


_Reference = tuple[Any, NamedParts, Loc]  # a number or a name, the things of which it may mean one, and the way to it


def _check_references(references: Iterable[_Reference], *, may_repeat: bool) -> Iterator[Issue]:
    """Yield what is wrong with references to one of the things, where those are soundly named."""
    for reference, named, loc in references:
        if type(reference) not in (int, str) or not named.are_sound or not named.things:
            continue
        kind, matches = named.kind, len(named.by_label.get(reference, ()))
        where = f"this {kind.parent or 'file'}"
        if not matches:
            what = f"there is no {kind.title} {reference!r} in {where}"
            labels = [label for thing in named.things for label in (thing.number, thing.name)]
            yield Issue(loc, "unknown-reference", what, _choices(reference, labels))
        elif matches > 1 and (kind.parent or not may_repeat):
            what = f"{reference!r} is the name of {matches} {kind.title}s of {where}"
            other = "id" if isinstance(reference, str) else "name"
            yield Issue(loc, "ambiguous-reference", what, f"Refer to it by its {other}.")


def _choices(reference: int | str, labels: Iterable[int | str | None]) -> str:
    """Return the name that is most similar to an unknown one, or else the first names."""
    names = [str(label) for label in islice(labels, 1000) if label]
    return did_you_mean(reference, names) or f"There are: {', '.join(names[:8])}."


PartPath = tuple[int, ...]  # the positions that lead from an actor to a part of it; () is the actor itself


@dataclass(frozen=True, slots=True)
class Display:
    """The words an API shows from an instant on, counted from the actor's start: a state, an operation, maybe more."""

    at: int
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The HTTP status with which an operation is refused, and why."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Actor(ABC):
    """A task or dag of a story: when it started, what messages call it and its parts, and its history.

    ``script`` is the task or dag of the ``scenario``; ``markers`` are the story's operations on it, each with the time
    since its start. A subclass sets its API and the ``machine`` that operates.
    """

    api: ClassVar[Any]
    machine: ClassVar[Any]

    created: int
    name: str
    names: tuple[str, ...]
    history: Any
    script: Any = None
    scenario: Any = None
    markers: tuple[tuple[int, str], ...] = ()

    @staticmethod
    @abstractmethod
    def begin(scenario: Any, script: Any, created: int) -> Any:
        """Return the history of a task or dag of a scenario that is created at an instant."""

    def start(self, instant: int, others: Sequence[Self]) -> Self | Refusal:
        """Return the actor started at an instant, beside the others that have started."""
        return replace(self, created=instant, history=self.begin(self.scenario, self.script, instant))

    def operate(self, operation: str, part: PartPath, instant: int, others: Sequence[Self]) -> Self | Refusal:
        """Return the actor after an operation on it or a part at an instant, beside the others that have started."""
        age = instant - self.created
        try:
            history = self.machine.operate(self.history, operation, age, part[0] if part else None)
        except CallerError as error:
            return self.refusal(error, age)
        return replace(self, history=history)

    def refusal(self, error: Any, instant: int) -> Refusal:
        """Return the API's response to an operation that the machine refuses."""
        return Refusal(400, str(error))

    def shows(self, part: PartPath) -> list[Display]:
        """Return what the actor, or a part of it, shows in each state; at least one."""
        displays = list[Display]()
        for state in self.history.states:
            words = state.label_of(part)
            stage = None if part else getattr(state, "stage", None)
            displays.append(Display(state.at, words if stage is None else (*words, f"stage {stage}")))
        return displays

    def called(self, part: PartPath) -> str:
        """Return what messages call the actor, or a part of it; a part of a part has seldom a name of its own."""
        name = f"{self.names[part[0]]!r} of {self.name!r}" if part else repr(self.name)
        return f"{self.api.kinds[2].title} {part[1] + 1} of {name}" if len(part) > 1 else name


@dataclass(frozen=True, slots=True)
class Action:
    """A step of a story, of the kind of its key in the file.

    ``wait`` lets a span pass; ``until`` waits until the actor, or a part of it, shows the words, None for any word.
    ``start`` sends the request that the actor starts on, ``call`` performs an operation; the response has the HTTP
    status: 200, or it is refused.
    """

    kind: Literal["until", "wait", "start", "call"]
    actor: int = 0
    part: PartPath = ()
    words: tuple[str | None, ...] = ()
    operation: str = ""
    status: int = 200
    span: int = 0


@dataclass(frozen=True, slots=True)
class StoryRun:
    """A story simulated to its end: the actors, with their histories and the operations on them."""

    actors: tuple[Any, ...]
    ended_at: int = 0


class StoryDivergesError(InputError):
    """Step ``number`` (from 0) cannot happen."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def simulate(actors: Sequence[Actor], steps: Sequence[Action]) -> StoryRun:
    """Run a story to its end. Raises StoryDivergesError at the first step that cannot happen."""
    cast, now = list(actors), 0
    absent = {place for place, actor in enumerate(actors) if actor.script is not None and actor.script.starts_on}
    for number, step in enumerate(steps):
        if step.kind == "wait":
            now += step.span
            continue
        actor = cast[step.actor]
        if (step.kind == "start") is not (step.actor in absent):
            state = "not started yet" if step.actor in absent else "there already"
            raise StoryDivergesError(number, f"{actor.called(())} is {state}")
        if step.kind == "until":
            now = _wait_until(actor, step, now, number)
            continue
        others = [item for place, item in enumerate(cast) if place not in absent]
        text = f"{step.operation or 'start'} {actor.called(step.part)}"
        if step.kind == "start":
            after = actor.start(now, others)
        else:
            after = actor.operate(step.operation, step.part, now, others)
        if isinstance(after, Refusal):
            if after.status != step.status:
                instead = "" if step.status == 200 else f" with {after.status}, not {step.status}"
                raise StoryDivergesError(number, f"{text} is refused{instead}: {after.reason}")
            text += ", refused"
        elif step.status != 200:
            raise StoryDivergesError(number, f"{text} is accepted, not refused")
        else:
            cast[step.actor] = after
            absent.discard(step.actor)
        if step.actor not in absent:
            actor = cast[step.actor]
            cast[step.actor] = replace(actor, markers=(*actor.markers, (now - actor.created, text)))
    return StoryRun(tuple(cast), now)


def _wait_until(actor: Actor, step: Action, now: int, number: int) -> int:
    """Return the first instant from ``now`` on at which the words of a step show."""
    displays = actor.shows(step.part)
    past = bisect_right(displays, now - actor.created, key=attrgetter("at"))
    coming = displays[max(past - 1, 0) :]
    expected = {item for item in enumerate(step.words) if item[1] is not None}
    for display in coming:
        if expected.issubset(enumerate(display.words)):
            return max(actor.created + display.at, now)
    texts = ["/".join(display.words[: len(step.words)]) for display in coming]
    actual = "; ".join(text for text, _ in groupby(texts))
    remaining = max(actor.created + coming[-1].at - now, 0) / SECOND
    end = f"after {remaining:g} s nothing more is due" if remaining else "nothing more is due"
    problem = f"{actor.called(step.part)} never is {' '.join(filter(None, step.words))} from here on"
    raise StoryDivergesError(number, f"{problem}; it is {actual}, and {end}")


@dataclass(frozen=True, slots=True)
class Format:
    """The scenario files of one API, whose record (``oceanmock.api.Api``) has its words and kinds.

    ``rules`` check what a scenario of sound structure means. ``numbered`` gives the number of a part without an id from
    its owner's number and its place. A list of the ``implicit_kind`` has one thing where it is left out, and its things
    have their owner's name where they have none. Things of the ``needing_kind`` refer to others of their list. Where
    names ``may_repeat``, a reference to a task or dag means the first of the name.
    """

    api: Any
    model: type[BaseScenario]
    fault: type[Fault]
    actor: type[Actor]
    wording: Wording
    rules: Sequence[Callable[[Any], Iterator[Issue]]]
    numbered: Callable[[int, int], int] | None = None
    implicit_kind: str = ""
    needing_kind: str = ""
    may_repeat: bool = False
    checks_fault_ids: bool = False

    def outline(
        self,
        data: Mapping[Any, Any],
        depth: int = 0,
        *,
        loc: Loc = (),
        owner: tuple[int | None, str | None] = (None, None),
    ) -> NamedParts:
        """Return what a mapping lists of the kind at a depth, with their parts."""
        kind = self.api.kinds[depth]
        named = NamedParts(kind)
        key, is_implicit = f"{kind.name}s", kind.name == self.implicit_kind
        for place, item in enumerate(items_of(data.get(key, {} if is_implicit else None))):
            where = (*loc, key, place)
            fields = item if isinstance(item, dict) else {"name": item}
            id, name, repetition = fields.get("id"), fields.get("name"), fields.get("repeat")
            copies = repetition.get("count") if isinstance(repetition, dict) else 1
            if type(id) is not int:
                named.are_sound &= id is None
                id = None
            if not isinstance(name, str):
                named.are_sound &= name is None
                name = None
            number, ids = id, range(0)
            if id is not None:
                ids = range(id, id + (copies if type(copies) is int and 1 <= copies <= MAX_COPIES else 1))
            elif self.numbered and owner[0] is not None:
                number = self.numbered(owner[0], place)
            parts = NamedParts(kind)
            if depth + 1 < len(self.api.kinds):
                parts = self.outline(fields, depth + 1, loc=where, owner=(number, name))
            thing = NamedPart(kind, where, fields, ids, number, name, parts)
            named.things.append(thing)
            for label in {number, name or (owner[1] if is_implicit else None)}:
                if label is not None:
                    named.by_label.setdefault(label, []).append(thing)
        return named

    def check_names(self, data: Mapping[Any, Any]) -> Iterator[Issue]:
        """Yield wrong ids and references in a file's data; each kind, and each ``scope`` of obshell's, counts apart."""
        named = self.outline(data)
        groups: defaultdict[tuple[str, int], list[tuple[NamedPart, NamedPart]]] = defaultdict(list)
        references = list[_Reference]()
        for root in named.things:
            scope, level = str(root.data.get("scope", "agent")), [(named, root)]
            for depth, kind in enumerate(self.api.kinds):
                below = list[tuple[NamedParts, NamedPart]]()
                for owner, thing in level:
                    groups[scope, depth].append((root, thing))
                    below += zip(repeat(thing.parts), thing.parts.things)
                    needs = items_of(thing.data.get("needs")) if kind.name == self.needing_kind else ()
                    for place, reference in enumerate(needs):
                        references.append((reference, owner, (*thing.loc, "needs", place)))
                level = below
        for group in groups.values():
            yield from _check_ids(group, may_repeat=self.may_repeat)
        for number, step in enumerate(items_of(data.get("story"))):
            if isinstance(step, dict):
                references += self._references_of(step, named, ("story", number))
        root = self.api.root.name
        waiting: list[tuple[Loc, Any]] = [((key,), data.get(key)) for key in ("stubs", "faults")]
        starts = ((thing.loc, thing.data.get("starts_on")) for thing in named.things)
        waiting += [((*loc, "starts_on", "refuses"), it.get("refuses")) for loc, it in starts if isinstance(it, dict)]
        for loc, items in waiting:
            whens = (item.get("when") if isinstance(item, dict) else None for item in items_of(items))
            found = [(number, when) for number, when in enumerate(whens) if isinstance(when, dict)]
            references += [(when.get(root), named, (*loc, number, "when", root)) for number, when in found]
        yield from _check_references(references, may_repeat=self.may_repeat)
        faults = enumerate(items_of(data.get("faults"))) if self.checks_fault_ids else ()
        for place, fault in faults:
            for (_, depth), group in groups.items():
                key, ids = self.api.kinds[depth].name, [thing.ids for _, thing in group]
                id = fault.get(key) if isinstance(fault, dict) else None
                # Where a thing has no id of its own, its id is not known here.
                if type(id) is int and all(ids) and not any(id in numbers for numbers in ids):
                    what = f"there is no {self.api.kinds[depth].title} {id} in this file"
                    hint = _choices(id, chain(*ids))
                    yield Issue(("faults", place, key), "unknown-reference", what, hint)

    def _references_of(self, step: Mapping[Any, Any], named: NamedParts, loc: Loc) -> list[_Reference]:
        """Return the references of a step, each with the things that it may mean and the way to it."""
        references: list[_Reference] = [(step.get("start"), named, (*loc, "start"))]
        until = step.get("until")
        holder, way = (until, (*loc, "until")) if isinstance(until, dict) else (step, loc)
        for kind in self.api.kinds:
            reference = holder.get(kind.name)
            references.append((reference, named, (*way, kind.name)))
            if type(reference) not in (int, str) or reference not in named.by_label:
                break
            named = named.by_label[reference][0].parts
        return references

    def steps_of(self, scenario: BaseScenario) -> list[Action]:
        """Return the story's steps, with positions for references, which have been checked."""
        api, steps = self.api, list[Action]()
        if not scenario.story:
            return steps
        data = scenario.model_dump(include={api.scripts_key, "story"})
        named = self.outline(data)
        for step, fields in zip(scenario.story, data["story"], strict=True):
            loc: Loc = ()
            for reference, candidates, _ in self._references_of(fields, named, ()):
                if reference is not None:
                    loc = candidates.by_label[reference][0].loc
            if not loc:
                steps.append(Action("wait", span=step.wait or 0))
                continue
            actor, *part = map(int, loc[1::2])
            if step.start is not None:
                steps.append(Action("start", actor, status=step.answers))
            elif step.until is None:
                operation = step.operations.get(step.call) or getattr(step, api.operation_key)
                steps.append(Action("call", actor, tuple(part), operation=operation, status=step.answers))
            else:
                words: tuple[Any, ...] = (getattr(step.until, api.state_key), getattr(step.until, api.operation_key))
                if (stage := getattr(step.until, "stage", None)) is not None:
                    words = (*words, f"stage {stage}")
                steps.append(Action("until", actor, tuple(part), words))
        return steps

    def simulate(self, scenario: BaseScenario, *, steps: int | None = None) -> StoryRun:
        """Run the scenario's story, or its first steps. Raises StoryDivergesError."""
        actors = list[Actor]()
        for place, script in enumerate(getattr(scenario, self.api.scripts_key)):
            names = tuple(map(label_of, getattr(script, f"{self.api.kinds[1].name}s"), count()))
            history = self.actor.begin(scenario, script, -script.age)
            actors.append(self.actor(-script.age, label_of(script, place), names, history, script, scenario))
        return simulate(actors, self.steps_of(scenario)[:steps])
