"""What tasks and dags in a test's hand have in common: found by id or name, asked, asserted, drawn.

Everything is asked anew each time, as the admin API tells it: asking moves no clock. An assertion
that fails says why the task is in the state it is in, and what is next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from oceanmock.admin_client import Json
from oceanmock.errors import AuthorError
from oceanmock.testing.held import Held, did_you_mean_of, nearest_of

Words = Sequence[str]

MOST: Final = 10
"""So many parts are named where one is not found."""


def find(parts: Sequence[Json], wanted: int | str, *, what: str, where: str) -> Json:
    """The part of an id, a number or a name. Raises AuthorError with the nearest there is."""
    for key in ("id", "number", "name"):
        for part in parts:
            if str(part[key]) == str(wanted):
                return part
    raise AuthorError(f"there is no {what} {wanted!r} {where}. {_known(parts, str(wanted))}")


def _known(parts: Sequence[Json], wanted: str) -> str:
    """What there is, and the nearest to what there is not."""
    if not parts:
        return "It is empty."
    names = [f"{part['number']} {part['name']!r}" for part in parts[:MOST]]
    more = f" and {len(parts) - MOST} more" if len(parts) > MOST else ""
    texts = [str(part[key]) for key in ("name", "number") for part in parts]
    hint = did_you_mean_of(wanted, texts)
    return f"It has {', '.join(names)}{more}. {hint}".rstrip()


class Whole:
    """A task or a dag of a sandbox."""

    api: str
    states: Words = ()

    def __init__(self, driven: Held, said: Json) -> None:
        self._driven: Final = driven
        self._id: Final = str(said["id"])
        self.number: Final[int] = said["number"]
        self.name: Final[str] = said["name"]

    def json(self) -> Json:
        """It and its parts now, as the admin API tells of them; the same form for both APIs."""
        return self._driven.ask("GET", self._path)

    def explain(self) -> str:
        """Why it is in its state, and what moves it next and when; a text to be read."""
        return self._driven.text(f"{self._path}/explain", query={"format": "text"})

    def timeline(self) -> str:
        """What it has lived through, as a picture: a band for each part, operations marked."""
        return self._driven.text(f"{self._path}/explain", query={"format": "timeline"})

    def _assert(self, part: Json, called: str, expected: str, operation: str | None) -> None:
        check_word(expected, self.states, api=self.api)
        wanted = [expected, operation or part["operation"]]
        if [part["state"], part["operation"]] == wanted:
            return
        is_now = part["state"] if operation is None else f"{part['state']}/{part['operation']}"
        should = expected if operation is None else f"{expected}/{operation}"
        raise AssertionError(f"{called} is {is_now}, not {should}.\n\n{self.explain().rstrip()}")

    def _until(self, part_of: Any, called: str, expected: str) -> None:
        """Moves the clock on, from change to change, until a part is in a state."""
        check_word(expected, self.states, api=self.api)
        while part_of(self.json())["state"] != expected:
            before = self._driven.ask("GET", "/clock")
            if before["next_due"] is None:
                is_now = part_of(self.json())["state"]
                raise AssertionError(
                    f"{called} is {is_now}, and nothing is due that could make it {expected}.\n\n"
                    f"{self.explain().rstrip()}"
                )
            self._driven.ask("POST", "/clock/next")

    @property
    def _path(self) -> str:
        return f"/tasks/{self.api}/{self._id}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number} {self.name!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Whole):
            return NotImplemented
        return (self._driven, self.api, self._id) == (other._driven, other.api, other._id)

    def __hash__(self) -> int:
        return hash((self.api, self._id))


def check_word(word: str, known: Words, *, api: str) -> None:
    """Raises AuthorError for a state that the API has no word for."""
    if word not in known:
        name = {"ocp": "OCP"}.get(api, api)
        raise AuthorError(f"{name} knows no state {word!r}. {nearest_of(word, known)}")
