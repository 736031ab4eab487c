"""What tasks and dags in a test's hand have in common: found by id or name, asked, asserted, drawn.

Everything is asked anew each time, as the admin API tells it: asking moves no clock. An assertion
that fails says why the task is in the state it is in, and what is next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, NoReturn, Self

from oceanmock.client.admin import Json
from oceanmock.client.held import HIDDEN, Held, did_you_mean_of, nearest_of
from oceanmock.errors import AuthorError

__tracebackhide__ = HIDDEN

Words = Sequence[str]

MOST: Final = 10
"""So many parts are named where one is not found."""
MOST_COMPARED: Final = 500
"""So many are looked through for the one nearest to what is not there."""


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
    texts = [str(part[key]) for key in ("name", "number") for part in parts[:MOST_COMPARED]]
    hint = did_you_mean_of(wanted, texts)
    return f"It has {', '.join(names)}{more}. {hint}".rstrip()


class Told(ABC):
    """What the admin API tells of: a task or dag, or a part of one; found by its number."""

    kind: str

    def __init__(self, said: Json) -> None:
        self._id: Final = str(said["id"])
        self.number: Final[int] = said["number"]
        self.name: Final[str] = said["name"]

    @abstractmethod
    def json(self) -> Json:
        """It and its parts now, as the admin API tells of them; the same form for both APIs."""

    @property
    @abstractmethod
    def _whole(self) -> Whole:
        """The task or dag that it is, or is a part of."""

    def _assert(self, expected: str, operation: str | None) -> None:
        """Holds if it is in a state, and in an operation if one is said."""
        self._whole._check_word(expected)
        now = self.json()
        if [now["state"], now["operation"]] == [expected, operation or now["operation"]]:
            return
        is_now = now["state"] if operation is None else f"{now['state']}/{now['operation']}"
        should = expected if operation is None else f"{expected}/{operation}"
        self._fail(f"{self.kind} {self.number} is {is_now}, not {should}.")

    def _until(self, expected: str) -> Self:
        """Moves the clock on, from change to change, until it is in a state."""
        self._whole._check_word(expected)
        while (state := self.json()["state"]) != expected:
            if not self._whole._go_on():
                self._fail(
                    f"{self.kind} {self.number} is {state}, and nothing is due that could make it "
                    f"{expected}."
                )
        return self

    def _fail(self, what: str) -> NoReturn:
        raise AssertionError(f"{what}\n\n{self._whole.explain().rstrip()}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number} {self.name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Told) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    @abstractmethod
    def _key(self) -> tuple[object, ...]:
        """What it has in common with whatever is the same."""


class Whole(Told):
    """A task or a dag of a sandbox."""

    api: str
    states: Words = ()

    def __init__(self, driven: Held, said: Json) -> None:
        super().__init__(said)
        self._driven: Final = driven

    def json(self) -> Json:
        """It and its parts now, as the admin API tells of them; the same form for both APIs."""
        return self._driven.ask("GET", self._path)

    def explain(self) -> str:
        """Why it is in its state, and what moves it next and when; a text to be read."""
        return self._driven.text(f"{self._path}/explain", query={"format": "text"})

    def timeline(self) -> str:
        """What it has lived through, as a picture: a band for each part, operations marked."""
        return self._driven.text(f"{self._path}/explain", query={"format": "timeline"})

    @property
    def _whole(self) -> Whole:
        return self

    @property
    def _path(self) -> str:
        return f"/tasks/{self.api}/{self._id}"

    def _check_word(self, word: str) -> None:
        """Raises AuthorError for a state that the API has no word for."""
        if word not in self.states:
            name = {"ocp": "OCP"}.get(self.api, self.api)
            raise AuthorError(f"{name} knows no state {word!r}. {nearest_of(word, self.states)}")

    def _go_on(self) -> bool:
        """Moves the clock to the next change; whether one was due."""
        is_due = self._driven.ask("GET", "/clock")["next_due"] is not None
        if is_due:
            self._driven.ask("POST", "/clock/next")
        return is_due

    def _key(self) -> tuple[object, ...]:
        return self._driven, self._path


class Part(Told):
    """A part of a task or dag, or of another part."""

    def __init__(self, above: Told, said: Json) -> None:
        super().__init__(said)
        self._above: Final = above

    def json(self) -> Json:
        """It and its parts now, as the admin API tells of them."""
        parts = self._above.json()["parts"]
        part: Json = next(each for each in parts if each["number"] == self.number)
        return part

    @property
    def _whole(self) -> Whole:
        return self._above._whole

    def _key(self) -> tuple[object, ...]:
        return self._above, self.number
