"""Which request starts a task: what both formats say of it in ``starts_on``.

A client of the real server gets its task's id from a call that is no task's own: it creates a
tenant, or joins an agent. A task or dag with ``starts_on`` is a template: it is not there from the
start, and each request that fits it bears one more. What the answer looks like is its API's
business; that such a call can come at all, is for ``scenario_rules``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from oceanmock.scenario.fields import MAX_ID, Model

_SEGMENT: Final = r"/(?:[A-Za-z0-9._~-]+|\{[A-Za-z]\w*\})"
_PATH: Final = re.compile(f"(?:{_SEGMENT})+", re.ASCII)
_ABSENT: Final = object()

Method = Literal["POST", "PUT", "PATCH", "DELETE"]


def _check_path(value: object) -> object:
    if isinstance(value, str) and _PATH.fullmatch(value):
        return value
    raise PydanticCustomError("bad_path", "is no path such as /api/v1/agent/join")


def check_json(data: dict[str, Any]) -> dict[str, Any]:
    """Refuses what JSON has no word for, and whole numbers that not every writer of it takes."""
    waiting: list[Any] = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, int) and abs(value) > MAX_ID:
            raise PydanticCustomError("bad_data", "holds a number beyond 2^53")
        elif not isinstance(value, str | bool | int | float | None):
            raise PydanticCustomError("bad_data", "holds what is neither text nor number")
    return data


Template = Annotated[
    str,
    BeforeValidator(_check_path),
    WithJsonSchema({"type": "string", "pattern": f"^{_PATH.pattern}$"}),
]
JsonObject = Annotated[dict[str, Any], AfterValidator(check_json)]


class StartsOn(Model):
    """The request that starts it, outside the routes of tasks; each that fits bears one more."""

    method: Method = "POST"
    path: Template
    """Where it goes; `{id}` stands for whatever is there: `/api/v2/ob/clusters/{id}/tenants`."""
    body: JsonObject | None = None
    """What its JSON must have, whatever else is in it; anything will do, if left out."""

    @property
    def segments(self) -> list[str]:
        """The path in its parts."""
        return self.path.split("/")

    def fits(self, method: str, path: str) -> bool:
        """Whether a request of this method goes to the path."""
        return method == self.method and covers(self.segments, path.split("/"))

    def fits_body(self, body: Any) -> bool:
        """Whether a body has all that is asked of it."""
        return self.body is None or _holds(self.body, body)

    def asks(self, name: str) -> str:
        """What a request lacks that goes to the path and does not fit."""
        wanted = json.dumps(self.body, ensure_ascii=False)
        return f"{self.method} {self.path} starts {name!r} only with a body that has {wanted}."


def is_variable(segment: str) -> bool:
    """Whether a part of a path stands for any other."""
    return segment.startswith("{")


def covers(template: Sequence[str], path: Sequence[str]) -> bool:
    """Whether a template stands for a path, or for all that another one stands for."""
    return len(template) == len(path) and all(
        one == other or (is_variable(one) and other != "")
        for one, other in zip(template, path, strict=True)
    )


def _holds(wanted: Any, got: Any) -> bool:
    """Whether JSON has what is wanted: an object its keys, a list each item. 1 is no true."""
    if isinstance(wanted, dict):
        return isinstance(got, dict) and all(
            _holds(value, got.get(key, _ABSENT)) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(got, list)
            and len(wanted) == len(got)
            and all(_holds(each, other) for each, other in zip(wanted, got, strict=True))
        )
    return isinstance(wanted, bool) is isinstance(got, bool) and bool(wanted == got)
