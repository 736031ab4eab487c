"""Check the references of a scenario to its tasks or dags, and simulate its story: the steps of a client.

References are checked in the data of the file, before its model, so that an author sees wrong references and wrong
values together. References to a list in which an id or a name has a wrong type are not checked. An actor is a task or
dag with the history that its machine computes. A simulation uses no clock, files or HTTP. Instants are nanoseconds
since the sandbox's start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count, groupby, islice
from operator import attrgetter
from typing import Any, ClassVar, Literal, Self

from oceanmock.clock import SECOND
from oceanmock.errors import CallerError, InputError, Issue, Loc
from oceanmock.scenario import MAX_COPIES, BaseScenario
from oceanmock.scenario.document import Wording, value_at
from oceanmock.scenario.faults import Fault
from oceanmock.text import did_you_mean


@dataclass(frozen=True, slots=True)
class NamedPart:
    """A thing of one of an API's kinds in the file: a task, a subtask, a dag, a node or a sub task.

    ``ids`` are those of the file, several if it repeats; ``number`` is the first, or the one that it gets.
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
    """The things of one list, also by number and name; ``are_sound`` if these have the right types."""

    kind: Any
    things: list[NamedPart] = field(default_factory=list)
    by_label: dict[int | str, list[NamedPart]] = field(default_factory=dict)
    are_sound: bool = True

    def descendants(self) -> Iterator[tuple[NamedParts, NamedPart]]:
        """Yield each thing, followed by the parts below it, each with its list."""
        for thing in self.things:
            yield self, thing
            yield from thing.parts.descendants()


def label_of(thing: Any, place: int) -> str:
    """Return the name, id or number by which messages name a task, a dag or a part of one."""
    return thing.name or str(thing.id or place + 1)


def items_of(value: Any) -> Sequence[Any]:
    """Return the items of a list, which may be left out or written as its only item."""
    return value if isinstance(value, list | tuple) else [] if value is None else [value]


def _check_ids(group: Sequence[tuple[NamedPart, NamedPart]], *, may_repeat: bool) -> Iterator[Issue]:
    """Yield an issue for each id that two things of a kind have; ``group`` has pairs of a task or dag and a thing."""
    single, ranges, by_id = set[int](), list[range](), dict[int | None, NamedPart]()
    for root, thing in group:
        ids = thing.ids
        if ids:
            by_id.setdefault(thing.number, thing)
        fewer, more = (ids, single) if len(ids) < len(single) else (single, ids)
        overlaps = (max(ids.start, other.start) < min(ids.stop, other.stop) for other in ranges)
        if any(id in more for id in fewer) or any(overlaps):
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


_Reference = tuple[Any, NamedParts, Loc]  # a number or a name, the things that it may refer to, and its location


def _check_references(references: Iterable[_Reference], *, may_repeat: bool) -> Iterator[Issue]:
    """Yield an issue for each reference to no thing, or to several."""
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
    """Return a hint with the name most similar to an unknown one, or else with the first names."""
    names = [str(label) for label in islice(labels, 1000) if label]
    return did_you_mean(reference, names) or f"There are: {', '.join(names[:8])}."


PartPath = tuple[int, ...]  # the positions that lead from an actor to a part of it; () is the actor itself


@dataclass(frozen=True, slots=True)
class Display:
    """The words that an API shows from an instant on, counted from the actor's start: state, operation, maybe stage."""

    at: int
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The HTTP status of a refused operation, and the reason."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Actor(ABC):
    """A task or dag of a story with its history; ``names`` are those of its parts in messages.

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
        """Return the actor started at an instant; ``others`` have started before."""
        return replace(self, created=instant, history=self.begin(self.scenario, self.script, instant))

    def operate(self, operation: str, part: PartPath, instant: int, others: Sequence[Self]) -> Self | Refusal:
        """Return the actor after an operation on it or a part at an instant; ``others`` have started before."""
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
        """Return the display of the actor, or of a part of it, in each state."""
        displays = list[Display]()
        for state in self.history.states:
            words = state.label_of(part)
            stage = None if part else getattr(state, "stage", None)
            displays.append(Display(state.at, words if stage is None else (*words, f"stage {stage}")))
        return displays

    def called(self, part: PartPath) -> str:
        """Return the words by which messages name the actor or a part of it; parts of parts seldom have names."""
        name = f"{self.names[part[0]]!r} of {self.name!r}" if part else repr(self.name)
        return f"{self.api.kinds[2].title} {part[1] + 1} of {name}" if len(part) > 1 else name


@dataclass(frozen=True, slots=True)
class Action:
    """A step of a story; ``kind`` is its key in the file.

    ``wait`` lets a span pass. ``until`` waits for the words of the actor or a part of it, None for any word. ``start``
    sends the request that the actor starts on, ``call`` an operation; ``status`` is that of the response, where another
    than 200 is a refusal.
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
    """Run a story to its end. Raises StoryDivergesError for the first step that cannot happen."""
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
    """Return the first instant from ``now`` on at which the actor shows the words of a step."""
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
    """The format of the scenario files of one API (``oceanmock.api.Api``).

    ``rules`` check the meaning of a scenario whose structure is valid. ``numbered`` returns the number of a part that
    has no id from its owner's number and its place. If the list of the ``implicit_kind`` is left out, it has one thing;
    its things have their owner's name if they have none. Things of the ``needing_kind`` refer to others of their list.
    If names ``may_repeat``, a reference means the first task or dag of a name.
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
        """Return the things of the kind at a depth that a mapping lists, with their parts."""
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
        """Yield wrong ids and references in a file's data; ids are unique in a kind, of obshell's in a ``scope``."""
        named = self.outline(data)
        groups: defaultdict[tuple[str, str], list[tuple[NamedPart, NamedPart]]] = defaultdict(list)
        references = list[_Reference]()
        for root in named.things:
            scope = str(root.data.get("scope", "agent"))
            for owner, thing in [(named, root), *root.parts.descendants()]:
                groups[scope, thing.kind.name].append((root, thing))
                needs = items_of(thing.data.get("needs")) if thing.kind.name == self.needing_kind else ()
                references += [(it, owner, (*thing.loc, "needs", place)) for place, it in enumerate(needs)]
        for group in groups.values():
            yield from _check_ids(group, may_repeat=self.may_repeat)
        for number, step in enumerate(items_of(data.get("story"))):
            if isinstance(step, dict):
                references += self._references_of(step, named, ("story", number))
        condition: Loc = ("when", self.api.root.name)
        holders: list[tuple[Loc, Any, Loc]] = [((), data, ("stubs",)), ((), data, ("faults",))]
        holders += [(thing.loc, thing.data, ("starts_on", "refuses")) for thing in named.things]
        for loc, holder, way in holders:
            for place, item in enumerate(items_of(value_at(holder, way))):
                references.append((value_at(item, condition), named, (*loc, *way, place, *condition)))
        yield from _check_references(references, may_repeat=self.may_repeat)
        for place, fault in enumerate(items_of(data.get("faults")) if self.checks_fault_ids else ()):
            for (_, key), group in groups.items():
                id = value_at(fault, (key,))
                ids = [thing.ids for _, thing in group]
                # The ids of things that have none in the file are drawn later.
                if type(id) is int and all(ids) and not any(id in numbers for numbers in ids):
                    what = f"there is no {group[0][1].kind.title} {id} in this file"
                    yield Issue(("faults", place, key), "unknown-reference", what, _choices(id, chain(*ids)))

    def _references_of(self, step: Mapping[Any, Any], named: NamedParts, loc: Loc) -> list[_Reference]:
        """Return the references of a step, each with the things that it may refer to and its location."""
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
        """Return the steps of a story, whose references have been checked, with positions in place of these."""
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
