"""Model the request that starts a task or a dag: ``starts_on``, and check the templates of a file.

A client of a real server gets its task's id from a call outside the task API: it creates a tenant,
or joins an agent. A task or dag with ``starts_on`` is a template: it is not there from the start,
and each request that matches starts one. A request starts a template only where the API's contract
has no such path. What is started gets its own ids and its own start time, so a template has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from oceanmock.scenario.diagnostics import Issue, Loc
from oceanmock.scenario.fields import MAX_ID, Model, Refuse

_SEGMENT: Final = r"/(?:[A-Za-z0-9._~-]+|\{[A-Za-z][A-Za-z0-9_]*\})"
_MISSING: Final = object()

Method = Literal["POST", "PUT", "PATCH", "DELETE"]


def _check_json(data: dict[str, Any]) -> dict[str, Any]:
    """Refuse whole numbers that not every JSON reader keeps exact."""
    waiting: list[Any] = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, int) and abs(value) > MAX_ID:
            raise PydanticCustomError("bad_data", "holds a number beyond 2^53")
    return data


PathTemplate = Annotated[
    str,
    Field(pattern=f"^(?:{_SEGMENT})+$"),
    Refuse("bad_path", "is no path such as /api/v1/agent/join"),
]
JsonObject = Annotated[dict[str, Any], AfterValidator(_check_json)]


class StartsOn(Model):
    """The request that starts it, outside the task API; each matching request starts one more."""

    method: Method = "POST"
    path: PathTemplate
    """The request's path; `{id}` stands for any segment: `/api/v2/ob/clusters/{id}/tenants`."""
    body: JsonObject | None = None
    """What the request's JSON must have, among other keys; anything, if left out."""

    @property
    def segments(self) -> list[str]:
        """Return the segments of the path."""
        return self.path.split("/")

    def fits(self, method: str, path: str) -> bool:
        """Return whether a request has this method and a path that matches."""
        return method == self.method and covers(self.segments, path.split("/"))

    def fits_body(self, body: Any) -> bool:
        """Return whether a body has everything that ``body`` has."""
        return self.body is None or _contains(body, self.body)

    def asks(self, name: str) -> str:
        """Return what a request lacks that has the path and does not match."""
        body = json.dumps(self.body, ensure_ascii=False)
        return f"{self.method} {self.path} starts {name!r} only with a body that has {body}."


def is_variable(segment: str) -> bool:
    """Return whether a segment of a path stands for any other."""
    return segment.startswith("{")


def covers(template: Sequence[str], path: Sequence[str]) -> bool:
    """Return whether a template matches a path, or all that another template matches."""
    return len(template) == len(path) and all(
        one == other or (is_variable(one) and other != "")
        for one, other in zip(template, path, strict=True)
    )


def _contains(actual: Any, expected: Any) -> bool:
    """Return whether JSON has an expected object's keys, a list's items. 1 is not true."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            _contains(actual.get(key, _MISSING), value) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(expected) == len(actual)
            and all(map(_contains, actual, expected))
        )
    return isinstance(expected, bool) is isinstance(actual, bool) and bool(expected == actual)


# --- what only the whole file shows ---------------------------------------------------------------


def check_starts(
    templates: Sequence[tuple[Loc, Any]],
    prefix: str,
    *,
    routes: Iterable[tuple[str, str]],
    part_keys: Sequence[str],
) -> Iterator[Issue]:
    """Yield what is wrong with a file's templates and the requests that start them.

    ``prefix`` begins the API's paths; ``routes`` are its operations, each with its path.
    ``part_keys`` are the keys of a template's parts, of their parts, and so on.
    """
    operations = [(id, path.split("/")) for id, path in routes]
    for number, (loc, template) in enumerate(templates):
        starts_on: StartsOn = template.starts_on
        where = (*loc, "starts_on", "path")
        owner = next((id for id, path in operations if _overlap(starts_on.segments, path)), None)
        if not starts_on.path.startswith(prefix):
            what = f"{starts_on.path} is no path of this API"
            yield Issue(where, "wrong-path", what, f"They begin with {prefix}.")
        elif owner is not None:
            what = f"{starts_on.path} belongs to {owner}, which responds there itself"
            yield Issue(where, "wrong-path", what)
        if any(_is_stricter(starts_on, other.starts_on) for _, other in templates[:number]):
            what = f"another starts on all that {starts_on.method} {starts_on.path} could mean"
            hint = "Put this one first, or say which `body` it asks for."
            yield Issue((*loc, "starts_on"), "never-starts", what, hint)
        for way in _own_keys(template, part_keys, loc):
            what = f"`{way[-1]}` is said of what `starts_on` a request"
            hint = "Leave it out: each that is started gets its own."
            if way[-1] in ("age", "repeat"):
                hint = "Leave it out: each starts when its request comes."
            yield Issue(way, "beside-starts-on", what, hint)


def _own_keys(thing: Any, part_keys: Sequence[str], loc: Loc) -> Iterator[Loc]:
    """Yield the ways to ids and keys of its start that a thing or a part of it has."""
    for key in ("id", "age", "repeat"):
        if getattr(thing, key, None):
            yield (*loc, key)
    for key in part_keys[:1]:
        for place, part in enumerate(getattr(thing, key)):
            yield from _own_keys(part, part_keys[1:], (*loc, key, place))


def _overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether there is a path that both templates match."""
    return len(one) == len(other) and all(
        a == b or is_variable(a) or is_variable(b) for a, b in zip(one, other, strict=True)
    )


def _is_stricter(one: StartsOn, other: StartsOn) -> bool:
    """Return whether each request that matches one matches the other as well."""
    fits = one.method == other.method and covers(other.segments, one.segments)
    return fits and (other.body is None or other.fits_body(one.body))
