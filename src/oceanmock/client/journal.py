"""A sandbox's journal in a test's hand: every exchange, and assertions that read as rules.

What is wanted is said by the keywords of a journal's query (openapi/admin.yaml, JournalQuery); an
assertion that fails has the server's own words, which show what came nearest, line by line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypedDict, Unpack

from oceanmock.client.admin import Json
from oceanmock.client.clock import instant_of
from oceanmock.client.held import HIDDEN, Held, check_keywords

__tracebackhide__ = HIDDEN

PAGE: Final = 1000


class Wanted(TypedDict, total=False):
    """What exchanges are wanted: those that have all of it."""

    api: str
    method: str
    path: str
    """A pattern in which ``*`` is any text, slashes too."""
    status: int | str
    """A status such as 200, or a class of them such as ``"4xx"``."""
    caller: str
    fault: str
    task: int | str
    subtask: int | str
    dag: int | str
    node: int | str
    sub_task: int | str
    body: Any
    """JSON that the request's body has: of an object these members, of a list all the items."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One exchange of a sandbox; credentials are masked."""

    number: int
    at: datetime
    wall: datetime
    took_ms: float
    api: str
    operation: str
    method: str
    path: str
    query: str
    ids: Mapping[str, str]
    caller: str
    request_headers: tuple[tuple[str, str], ...]
    request_body: Any
    status: int | None
    response_headers: tuple[tuple[str, str], ...]
    response_body: Any
    refusal: str
    fault: str

    @classmethod
    def of(cls, said: Json) -> JournalEntry:
        """The entry that the admin API tells of."""
        kept = {name: said[name] for name in cls.__dataclass_fields__}
        for name in ("at", "wall"):
            kept[name] = instant_of(said[name])
        for name in ("request_headers", "response_headers"):
            kept[name] = tuple((key, value) for key, value in said[name])
        return cls(**kept)

    def __str__(self) -> str:
        target = f"{self.path}?{self.query}" if self.query else self.path
        by = f" by {self.caller}" if self.caller else ""
        answered = "cut off" if self.status is None else f"answered {self.status}"
        fault = f", struck by {self.fault}" if self.fault else ""
        return f"{self.method} {target}{by}, {answered}{fault}"


class Journal:
    """Every exchange of a sandbox, the oldest first.

    ocp.journal.assert_called("retrySubtask", times=1, subtask=7)
    [entry.status for entry in ocp.journal]
    """

    def __init__(self, driven: Held) -> None:
        self._driven: Final = driven

    def __iter__(self) -> Iterator[JournalEntry]:
        return iter(self.all())

    def __len__(self) -> int:
        return int(self._driven.ask("GET")["requests"])

    @property
    def last(self) -> JournalEntry | None:
        """The last exchange, if there was one."""
        entries = self.all()
        return entries[-1] if entries else None

    def all(self, operation: str | None = None, **wanted: Unpack[Wanted]) -> list[JournalEntry]:
        """The exchanges that have all that is wanted."""
        query = _query(operation, wanted)
        if "body" not in query:
            return [JournalEntry.of(said) for said in self._pages(query)]
        found = self._verdict(query, {"at_least": 0})["entries"]
        return [JournalEntry.of(said) for said in self._pages({}) if said["number"] in found]

    def clear(self) -> None:
        """Forgets every exchange."""
        self._driven.ask("DELETE", "/journal")

    def assert_called(
        self,
        operation: str | None = None,
        *,
        times: int | None = None,
        at_least: int | None = None,
        at_most: int | None = None,
        **wanted: Unpack[Wanted],
    ) -> None:
        """Holds if this was asked so often; at least once, if no number is said.

        Raises AssertionError with what came nearest, and AuthorError for a query that is wrong.
        """
        often = {"times": times, "at_least": at_least, "at_most": at_most}
        verdict = self._verdict(_query(operation, wanted, also=often), often)
        if not verdict["holds"]:
            raise AssertionError(verdict["message"])

    def assert_not_called(self, operation: str | None = None, **wanted: Unpack[Wanted]) -> None:
        """Holds if nothing like this was asked. Raises AssertionError with what was."""
        self.assert_called(operation, times=0, **wanted)

    def __repr__(self) -> str:
        return f"<Journal of {self._driven.name}, {len(self)} exchanges>"

    def _verdict(self, query: Json, often: Mapping[str, int | None]) -> Json:
        said = {key: value for key, value in often.items() if value is not None}
        return self._driven.ask("POST", "/journal/verify", {"query": query, **said})

    def _pages(self, query: Json) -> Iterator[Json]:
        after = 0
        while True:
            said = self._driven.ask(
                "GET", "/journal", query={**query, "after": after, "limit": PAGE}
            )
            yield from said["entries"]
            if len(said["entries"]) < PAGE:
                return
            after = said["last"]


def _query(operation: str | None, wanted: Mapping[str, Any], *, also: Iterable[str] = ()) -> Json:
    """The query as the server takes it; ``also`` are keywords that are no part of one."""
    check_keywords(wanted, [*also, *Wanted.__annotations__], what="a query of the journal")
    given = {"operation": operation, **wanted}
    return {key: value for key, value in given.items() if value is not None}
