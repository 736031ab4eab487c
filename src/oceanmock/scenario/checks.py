"""What the rules of both formats share: how they are asked, and what is said of a reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from oceanmock.scenario import story
from oceanmock.scenario.diagnostics import Found, Loc
from oceanmock.scenario.fields import Reference
from oceanmock.text import did_you_mean

S = TypeVar("S")


def ask(
    scenario: S,
    rules: Sequence[Callable[[S], Iterator[Found]]],
    tell: Callable[[S], object] | None,
) -> list[Found]:
    """All that the rules find, and, where that is nothing, whether the story can happen."""
    found = [each for rule in rules for each in rule(scenario)]
    if tell is not None and not found:
        try:
            tell(scenario)
        except story.StoryDivergesError as diverges:
            what = f"the story cannot happen: {diverges}"
            found.append(Found(("story", diverges.number), "impossible-story", what))
    return found


def unless_one(
    count: int,
    reference: Reference,
    *,
    noun: str,
    where: str,
    names: Sequence[str],
    loc: Loc,
    most: int = 8,
) -> Iterator[Found]:
    """What is wrong with a reference to ``count`` things; names what there is, ``most`` of it."""
    if count > 1:
        what = f"{reference!r} is the name of {count} {noun}s of {where}"
        other = "id" if isinstance(reference, str) else "name"
        yield Found(loc, "ambiguous-reference", what, f"Refer to it by its {other}.")
    if not count:
        what = f"there is no {noun} {reference!r} in {where}"
        hint = did_you_mean(reference, names) or f"There are: {', '.join(names[:most])}."
        yield Found(loc, "unknown-reference", what, hint)
