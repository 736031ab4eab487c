"""Check a file's ids and references, beside whatever else is wrong with it.

These checks read the file's data as it was written, not the validated models, so that an author
sees a wrong reference and a wrong value together. Where an id or a name is itself wrong, references
to that list are not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from oceanmock.scenario.diagnostics import Issue, Loc
from oceanmock.text import did_you_mean

MAX_CHOICES: Final = 8
"""So many names are listed where none is similar to an unknown one."""


@dataclass(frozen=True, slots=True)
class Kind:
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

    ``id`` is the one in the file, ``number`` that or the one it gets without.
    """

    kind: Kind
    loc: Loc
    data: dict[Any, Any]
    id: int | None
    number: int | None
    name: str | None
    alias: str | None
    is_sound: bool
    parts: tuple[NamedPart, ...]

    def matches(self, reference: int | str) -> bool:
        """Return whether a reference is its number or its name."""
        return reference in (self.number, self.name or self.alias)


def outline(
    data: Any,
    kinds: Sequence[Kind],
    numbered: Callable[[int, int], int] | None = None,
    *,
    loc: Loc = (),
    owner: tuple[int | None, str | None] = (None, None),
) -> tuple[NamedPart, ...]:
    """Return what a mapping lists under the first kind's key, with their parts.

    ``numbered`` gives the number of a part without an id from its owner's number and its place.
    """
    if not kinds or not isinstance(data, dict):
        return ()
    kind, named = kinds[0], list[NamedPart]()
    for place, item in entries(data.get(kind.key, {} if kind.is_implicit else None)):
        where = (*loc, kind.key, place)
        fields = item if isinstance(item, dict) else {"name": item}
        id, name = _of_type(fields.get("id"), int), _of_type(fields.get("name"), str)
        number = id
        if id is None and numbered and owner[0] is not None:
            number = numbered(owner[0], place)
        is_sound = fields.get("id") is id and fields.get("name") is name
        parts = outline(fields, kinds[1:], numbered, loc=where, owner=(number, name))
        alias = owner[1] if kind.inherits_name else None
        named.append(NamedPart(kind, where, fields, id, number, name, alias, is_sound, parts))
    return tuple(named)


def entries(value: Any) -> Iterator[tuple[int, Any]]:
    """Yield the items of a list, which may be written as its only item, with their places."""
    if value is not None:
        yield from enumerate(value if isinstance(value, list) else [value])


def _of_type(value: Any, expected: type) -> Any:
    return value if isinstance(value, expected) and not isinstance(value, bool) else None


# --- ids ------------------------------------------------------------------------------------------


def duplicate_ids(
    things: Iterable[NamedPart],
    count_of: Callable[[NamedPart], int] = lambda _: 1,
    *,
    also: str = "",
) -> Iterator[Issue]:
    """Yield the ids that an earlier thing of the same kind has or, with a count, counts up to."""
    single, ranges = set[int](), list[tuple[int, int]]()
    for thing in things:
        if thing.id is None:
            continue
        last = thing.id + count_of(thing) - 1
        if (
            thing.id in single
            or any(first <= last and thing.id <= end for first, end in ranges)
            or (last > thing.id and any(thing.id <= id <= last for id in single))
        ):
            what = f"another {thing.kind.noun} of this file already has id {thing.id}{also}"
            yield Issue((*thing.loc, "id"), "duplicate-id", what)
        if last > thing.id:
            ranges.append((thing.id, last))
        else:
            single.add(thing.id)


def check_fault_ids(
    data: Any, things: Mapping[str, Sequence[NamedPart]], count_of: Callable[[NamedPart], int]
) -> Iterator[Issue]:
    """Yield ids of faults that no thing of the kind has, where all ids of the kind are known."""
    for kind, named in things.items():
        if any(thing.id is None or not thing.is_sound for thing in named):
            continue
        ids = [
            id for entry in named if entry.id for id in range(entry.id, entry.id + count_of(entry))
        ]
        for place, fault in entries(data.get("faults")):
            id = _of_type(fault.get(kind), int) if isinstance(fault, dict) else None
            if id is not None and ids and id not in ids:
                names = [str(entry) for entry in ids[:1000]]
                what = f"there is no {named[0].kind.noun} {id} in this file"
                hint = did_you_mean(id, names) or f"There are: {', '.join(names[:MAX_CHOICES])}."
                yield Issue(("faults", place, kind), "unknown-reference", what, hint)


# --- references -----------------------------------------------------------------------------------


def check_reference(reference: Any, named: Sequence[NamedPart], loc: Loc) -> Iterator[Issue]:
    """Yield what is wrong with a reference to one of the things, if they are soundly named."""
    if not named or not all(entry.is_sound for entry in named) or not _is_reference(reference):
        return
    kind, count = named[0].kind, sum(entry.matches(reference) for entry in named)
    if count > 1 and not kind.may_repeat:
        what = f"{reference!r} is the name of {count} {kind.noun}s of {kind.where}"
        other = "id" if isinstance(reference, str) else "name"
        yield Issue(loc, "ambiguous-reference", what, f"Refer to it by its {other}.")
    if not count:
        names = [str(name) for entry in named for name in (entry.number, entry.name) if name]
        what = f"there is no {kind.noun} {reference!r} in {kind.where}"
        hint = did_you_mean(reference, names) or f"There are: {', '.join(names[:MAX_CHOICES])}."
        yield Issue(loc, "unknown-reference", what, hint)


def check_story(data: Any, named: Sequence[NamedPart], *, keys: Sequence[str]) -> Iterator[Issue]:
    """Yield what is wrong with the references of a story's steps.

    ``keys`` are those that name a thing, a part of it, a part of that, and so on.
    """
    for number, step in entries(data.get("story")):
        if not isinstance(step, dict):
            continue
        loc: Loc = ("story", number)
        yield from check_reference(step.get("start"), named, (*loc, "start"))
        until = step.get("until")
        holder, way = (until, (*loc, "until")) if isinstance(until, dict) else (step, loc)
        candidates = named
        for key in keys:
            reference = holder.get(key)
            yield from check_reference(reference, candidates, (*way, key))
            if reference is None or not _is_reference(reference):
                break
            target = next((entry for entry in candidates if entry.matches(reference)), None)
            candidates = target.parts if target is not None else ()


def _is_reference(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)
