"""A sandbox's faults in a test's hand: what goes wrong on purpose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypedDict, Unpack
from urllib.parse import quote

from oceanmock.client.admin import Json
from oceanmock.client.clock import Span, span_text
from oceanmock.client.held import HIDDEN, Held, check_keywords
from oceanmock.errors import AuthorError

__tracebackhide__ = HIDDEN


class Said(TypedDict, total=False):
    """What a fault says: whom it strikes, when, and what goes wrong."""

    name: str
    api: str
    operation: str | Sequence[str]
    task: int | str
    subtask: int | str
    dag: int | str
    node: int | str
    sub_task: int | str
    caller: str
    calls: int | str | Sequence[int | str]
    """Which calls, counted from 1: ``3``, ``[1, 3]``, ``"2-4"``, ``"1-"``."""
    counts: str
    probability: float
    delay: Span
    jitter: Span
    status: int
    reset: bool
    drop_response: bool
    empty: bool
    truncate: int
    malformed: bool
    content_type: str
    dribble: Mapping[str, Any]
    drop: str | Sequence[str]
    change_type: str | Sequence[str]
    still_executes: bool


class Fault:
    """A fault that stands in a sandbox."""

    def __init__(self, driven: Held, name: str) -> None:
        self._driven: Final = driven
        self.name: Final = name

    @property
    def counted(self) -> int:
        """How many calls it has counted."""
        return int(self.json()["counted"])

    @property
    def strikes(self) -> int:
        """How many of them it has struck."""
        return int(self.json()["strikes"])

    def json(self) -> Json:
        """The fault as the admin API tells of it. Raises AuthorError once it is gone."""
        for said in self._driven.ask("GET", "/faults")["faults"]:
            if said["name"] == self.name:
                return dict(said)
        raise AuthorError(f"there is no fault {self.name!r} any more: it was removed.")

    def remove(self) -> None:
        """Takes it away."""
        self._driven.ask("DELETE", f"/faults/{quote(self.name, safe='')}")

    def __repr__(self) -> str:
        return f"<Fault {self.name}>"


class Faults:
    """What goes wrong on purpose; of all whose turn it is, the first strikes a request.

    ocp.faults.add(operation="getTaskInstance", calls=2, status=503)
    ocp.faults.add(operation="retrySubtask", calls=1, drop_response=True)
    """

    def __init__(self, driven: Held) -> None:
        self._driven: Final = driven

    def add(self, **said: Unpack[Said]) -> Fault:
        """Adds a fault behind those that stand; its keywords are those of a scenario's fault.

        Raises AuthorError with all that is wrong with it.
        """
        check_keywords(said, Said.__annotations__, what="a fault")
        body: dict[str, Any] = dict(said)
        for key in ("delay", "jitter"):
            if key in body:
                body[key] = span_text(body[key])
        return Fault(self._driven, self._driven.ask("POST", "/faults", body)["name"])

    def all(self) -> list[Fault]:
        """The faults that stand, in order."""
        found = self._driven.ask("GET", "/faults")["faults"]
        return [Fault(self._driven, said["name"]) for said in found]

    def remove(self, name: str) -> None:
        """Takes one fault away."""
        Fault(self._driven, name).remove()

    def clear(self) -> None:
        """Takes every fault away."""
        self._driven.ask("DELETE", "/faults")

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.all())
