"""What only a whole scenario can show of its faults: those that can never strike, or strike unsaid.

The rules are the same for both formats: what an operation is about, and whether it changes
something, a fault of that format knows. Nothing here knows tasks or dags but by their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from oceanmock.scenario.diagnostics import Found, Loc
from oceanmock.scenario.faults import Fault
from oceanmock.text import did_you_mean

Numbered = tuple[int | None, int]
"""The number that a file gives a thing, if it gives one; and how many count on from there."""
Numbers = Mapping[str, Sequence[int] | None]
"""For each kind of thing all numbers that a file's have; None where it does not say them all."""


def all_numbers(things: Iterable[Numbered]) -> list[int] | None:
    """The numbers of all things of a kind; None where some get theirs later."""
    numbers = list[int]()
    for first, count in things:
        if first is None:
            return None
        numbers += range(first, first + count)
    return numbers


def check_faults(faults: Sequence[Fault], numbers: Numbers) -> Iterator[Found]:
    """All that is wrong with a file's faults; ``numbers`` are those of what it has."""
    for rule in _RULES:
        for place, fault in enumerate(faults):
            yield from rule(fault, faults[:place], ("faults", place))
    for place, fault in enumerate(faults):
        yield from _unknown_numbers(fault, numbers, ("faults", place))


def _names_given_twice(fault: Fault, before: Sequence[Fault], loc: Loc) -> Iterator[Found]:
    """A name may also be one that another fault has by its place."""
    names = [each.name or f"fault {place}" for place, each in enumerate(before, start=1)]
    name = fault.name or f"fault {len(before) + 1}"
    if name in names:
        what = f"fault {names.index(name) + 1} of this file is already called {name!r}"
        yield Found((*loc, "name"), "duplicate-name", what)


def _changes_answered_with_less(fault: Fault, before: Sequence[Fault], loc: Loc) -> Iterator[Found]:
    """Where the operation's own answer is spoilt, the operation has happened: that is to be said.

    Where no operation is named, those that change something are meant, too.
    """
    changing = [each for each in fault.operation or fault.CHANGES if each in fault.CHANGES]
    if fault.mangles and changing and not fault.still_executes:
        which = f"{min(changing)} changes something"
        hint = "Say `still_executes: true`."
        if not fault.operation:
            which = "it strikes operations that change something, too"
            hint = "Say `still_executes: true`, or name the operations it strikes."
        what = f"`{fault.mangles[0]}` spoils the answer to what has happened, and {which}"
        yield Found((*loc, fault.mangles[0]), "unsaid-change", what, hint)


def _never_struck(fault: Fault, before: Sequence[Fault], loc: Loc) -> Iterator[Found]:
    for key, why, hint in islice(_whys(fault, before), 1):
        what = f"fault {len(before) + 1} can never strike: {why}"
        yield Found((*loc, key) if key else loc, "never-strikes", what, hint)


def _whys(fault: Fault, before: Sequence[Fault]) -> Iterator[tuple[str, str, str]]:
    """The key that is to blame, why the fault can never strike, and how to mend it."""
    if not fault.probability:
        yield "probability", "its probability is 0", "Give it one above 0, or remove the fault."
    targets = list(fault.targets)
    fitting = [each for each, about in fault.KINDS.items() if set(targets) <= set(about)]
    if targets and not set(fault.operation or fitting) & set(fitting):
        kinds = " and ".join(f"a {kind.replace('_', ' ')}" for kind in targets)
        which = f"{fault.operation[0]} is not" if fault.operation else "no operation is"
        hint = f"These are: {', '.join(fitting)}." if fitting else "Leave one of them out."
        yield targets[-1], f"{which} about {kinds}", hint
    for place, other in enumerate(before, start=1):
        if _always_strikes(other) and _covers(other, fault):
            hint = "Put that one behind, or say which `calls` it strikes."
            yield "", f"fault {place} strikes all that it could", hint


def _always_strikes(fault: Fault) -> bool:
    return fault.probability == 1 and (1, None) in fault.spans


def _covers(one: Fault, other: Fault) -> bool:
    """Whether each request that the other might strike is one that this one might."""
    operations = not one.operation or (
        bool(other.operation) and set(other.operation) <= set(one.operation)
    )
    about = one.targets.items() <= other.targets.items()
    return operations and about and one.caller in (None, other.caller)


def _unknown_numbers(fault: Fault, numbers: Numbers, loc: Loc) -> Iterator[Found]:
    for kind, wanted in fault.targets.items():
        known = numbers.get(kind)
        written = getattr(fault, kind)
        if known is not None and isinstance(written, int) and written not in known:
            names = [str(number) for number in known[:1000]]
            what = f"there is no {kind.replace('_', ' ')} {wanted} in this file"
            hint = did_you_mean(wanted, names) or f"There are: {', '.join(names[:8])}."
            yield Found((*loc, kind), "unknown-reference", what, hint)


_RULES: Final[tuple[Callable[[Fault, Sequence[Fault], Loc], Iterator[Found]], ...]] = (
    _names_given_twice,
    _changes_answered_with_less,
    _never_struck,
)
