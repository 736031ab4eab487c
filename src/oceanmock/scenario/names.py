"""Check a file's ids and references, beside whatever else is wrong with it.

These checks read the file's data as it was written, not the validated models, so that an author
sees a wrong reference and a wrong value together. Where an id or a name is itself wrong, references
to that list are not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Final

from oceanmock.scenario.diagnostics import Issue, Loc
from oceanmock.text import did_you_mean

MAX_CHOICES: Final = 8
"""So many names are listed where none is similar to an unknown one."""


@dataclass(frozen=True, slots=True)
class ListKind:
    """A kind of thing: the key of its list, what messages call it, and where it is.

    A list of a kind that ``is_implicit`` has one item where it is left out.
    Things of a kind that ``inherits_name`` have their owner's where they have none. Where names
    ``may_repeat``, a reference means the first thing of the name.
    """

    key: str
    noun: str
    where: str
    inherits_name: bool = False
    is_implicit: bool = False
    may_repeat: bool = False


@dataclass(frozen=True, slots=True)
class NamedPart:
    """A thing that the file names: a task, a subtask, a dag, a node or a sub task.

    ``ids`` are the ones it has in the file, none or more than one if it repeats; ``number`` is the
    first, or the one it gets without.
    """

    kind: ListKind
    loc: Loc
    data: dict[Any, Any]
    ids: range
    number: int | None
    name: str | None
    parts: NamedParts


@dataclass(slots=True)
class NamedParts:
    """The things of one list, and those that a number or a name refers to."""

    kind: ListKind
    things: list[NamedPart] = field(default_factory=list)
    by_label: dict[int | str, list[NamedPart]] = field(default_factory=dict)
    are_sound: bool = True


def outline(
    data: Mapping[Any, Any],
    kinds: Sequence[ListKind],
    numbered: Callable[[int, int], int] | None = None,
    *,
    loc: Loc = (),
    owner: tuple[int | None, str | None] = (None, None),
) -> NamedParts:
    """Return what a mapping lists under the first kind's key, with their parts.

    ``numbered`` gives the number of a part without an id from its owner's number and its place.
    """
    kind, *below = kinds
    named = NamedParts(kind)
    for place, item in enumerate(items_of(data.get(kind.key, {} if kind.is_implicit else None))):
        where = (*loc, kind.key, place)
        fields = item if isinstance(item, dict) else {"name": item}
        id, name = fields.get("id"), fields.get("name")
        repeat = fields.get("repeat")
        count = repeat.get("count") if isinstance(repeat, dict) else 1
        if type(id) is not int:
            named.are_sound &= id is None
            id = None
        if not isinstance(name, str):
            named.are_sound &= name is None
            name = None
        number, ids = id, range(0)
        if id is not None:
            ids = range(id, id + (count if type(count) is int and count >= 1 else 1))
        elif numbered and owner[0] is not None:
            number = numbered(owner[0], place)
        parts = NamedParts(kind)
        if below:
            parts = outline(fields, below, numbered, loc=where, owner=(number, name))
        thing = NamedPart(kind, where, fields, ids, number, name, parts)
        named.things.append(thing)
        for label in {number, name or (owner[1] if kind.inherits_name else None)}:
            if label is not None:
                named.by_label.setdefault(label, []).append(thing)
    return named


def items_of(value: Any) -> list[Any]:
    """Return the items of a list, which may be left out or written as its only item."""
    return value if isinstance(value, list) else [] if value is None else [value]


# --- ids ------------------------------------------------------------------------------------------


def check_ids(things: Iterable[NamedPart]) -> Iterator[Issue]:
    """Yield the ids that an earlier thing of the same kind has, or counts up to."""
    single, ranges = set[int](), list[range]()
    for thing in things:
        ids = thing.ids
        is_taken = not single.isdisjoint(ids)
        for other in ranges:
            is_taken |= max(ids.start, other.start) < min(ids.stop, other.stop)
        if is_taken:
            also = ", or counts up to it" if thing.kind.may_repeat else ""
            what = f"another {thing.kind.noun} of this file already has id {ids[0]}{also}"
            yield Issue((*thing.loc, "id"), "duplicate-id", what)
        if len(ids) > 1:
            ranges.append(ids)
        else:
            single.update(ids)


def check_fault_ids(data: Mapping[Any, Any], things_by_kind: Mapping[str, Sequence[NamedPart]]) -> Iterator[Issue]:
    """Yield ids of faults that no thing of the kind has, where all ids of the kind are known."""
    for place, fault in enumerate(items_of(data.get("faults"))):
        for key, things in things_by_kind.items():
            id = fault.get(key) if isinstance(fault, dict) else None
            if type(id) is not int or not things or not all(thing.ids for thing in things):
                continue
            if not any(id in thing.ids for thing in things):
                what = f"there is no {things[0].kind.noun} {id} in this file"
                hint = _choices(id, chain(*(thing.ids for thing in things)))
                yield Issue(("faults", place, key), "unknown-reference", what, hint)


def _choices(reference: int | str, labels: Iterable[int | str | None]) -> str:
    names = [str(label) for label in islice(labels, 1000) if label]
    near = did_you_mean(reference, names)
    return near or f"There are: {', '.join(names[:MAX_CHOICES])}."


# --- references -----------------------------------------------------------------------------------


def check_reference(reference: Any, named: NamedParts, loc: Loc) -> Iterator[Issue]:
    """Yield what is wrong with a reference to one of the things, if they are soundly named."""
    kind = named.kind
    if type(reference) not in (int, str) or not named.are_sound or not named.things:
        return
    count = len(named.by_label.get(reference, ()))
    if not count:
        what = f"there is no {kind.noun} {reference!r} in {kind.where}"
        labels = [label for thing in named.things for label in (thing.number, thing.name)]
        yield Issue(loc, "unknown-reference", what, _choices(reference, labels))
    elif count > 1 and not kind.may_repeat:
        what = f"{reference!r} is the name of {count} {kind.noun}s of {kind.where}"
        other = "id" if isinstance(reference, str) else "name"
        yield Issue(loc, "ambiguous-reference", what, f"Refer to it by its {other}.")


def check_story(data: Mapping[Any, Any], named: NamedParts, *keys: str) -> Iterator[Issue]:
    """Yield what is wrong with the references of a story's steps.

    ``keys`` are those that name a thing, a part of it, a part of that, and so on.
    """
    for number, step in enumerate(items_of(data.get("story"))):
        if not isinstance(step, dict):
            continue
        loc: Loc = ("story", number)
        if "start" in step:
            yield from check_reference(step["start"], named, (*loc, "start"))
        until, candidates = step.get("until"), named
        holder, way = (until, (*loc, "until")) if isinstance(until, dict) else (step, loc)
        for key in keys:
            reference = holder.get(key)
            yield from check_reference(reference, candidates, (*way, key))
            if type(reference) not in (int, str) or reference not in candidates.by_label:
                break
            candidates = candidates.by_label[reference][0].parts
