"""What only a whole scenario can show of its templates: requests that can never start them.

The rules are the same for both formats. A request starts a template only where the contract of its
API has no such path: its operations come first. What is started gets its own ids and its own birth,
so a template says none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from oceanmock.openapi import load_spec, operations_of, spec_path
from oceanmock.scenario.diagnostics import Found, Loc
from oceanmock.scenario.submit_calls import StartsOn, covers, is_variable

_PREFIXES: Final[Mapping[str, str]] = {"ocp": "/api/v2/", "obshell": "/api/v1/"}


def check_starts(api: str, templates: Sequence[tuple[Loc, StartsOn]]) -> Iterator[Found]:
    """All that is wrong with what starts a file's templates, each with the way to its owner."""
    for number, (loc, starts_on) in enumerate(templates):
        yield from _paths_of_the_contract(api, starts_on, (*loc, "starts_on", "path"))
        before = next((each for _, each in templates[:number] if _outruns(each, starts_on)), None)
        if before is not None:
            what = f"another starts on all that {starts_on.method} {starts_on.path} could mean"
            hint = "Put this one first, or say which `body` it asks for."
            yield Found((*loc, "starts_on"), "never-starts", what, hint)


def check_templates(things: Iterable[tuple[Loc, Iterable[str]]]) -> Iterator[Found]:
    """What a template says that each that is started has for itself: ids, and when it is born."""
    for loc, given in things:
        for key in given:
            what = f"`{key}` is said of what `starts_on` a request"
            hint = "Leave it out: each that is started gets its own."
            if key in ("age", "repeat"):
                hint = "Leave it out: each is born when its request comes."
            yield Found((*loc, key), "beside-starts-on", what, hint)


def _paths_of_the_contract(api: str, starts_on: StartsOn, loc: Loc) -> Iterator[Found]:
    prefix = _PREFIXES[api]
    if not starts_on.path.startswith(prefix):
        what = f"{starts_on.path} is no path of this API"
        yield Found(loc, "wrong-path", what, f"They begin with {prefix}.")
        return
    for operation in operations_of(load_spec(spec_path(api))):
        if _meets(starts_on.segments, operation.path.split("/")):
            what = f"{starts_on.path} belongs to {operation.id}, which answers there itself"
            yield Found(loc, "wrong-path", what)
            return


def _meets(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether there is a path that both stand for."""
    return len(one) == len(other) and all(
        a == b or is_variable(a) or is_variable(b) for a, b in zip(one, other, strict=True)
    )


def _outruns(one: StartsOn, other: StartsOn) -> bool:
    """Whether each request that fits the other fits this one, too."""
    fits = one.method == other.method and covers(one.segments, other.segments)
    return fits and (one.body is None or one.fits_body(other.body))
