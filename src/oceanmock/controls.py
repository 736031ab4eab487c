"""Control a sandbox from a test: its clock, its journal and its injected faults.

Each control sends requests to the admin API and keeps no state of its own. Reading never moves the
clock. Raises AuthorError for what the test's author got wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypedDict, Unpack
from urllib.parse import quote

from oceanmock.admin_client import HIDE_FRAMES, Json, SandboxClient
from oceanmock.clock import PROGRESSIONS, Progression
from oceanmock.errors import AuthorError
from oceanmock.text import parse_instant, suggest

__tracebackhide__ = HIDE_FRAMES

TimeSpan = str | float | timedelta
"""A duration as scenario files write it (``"90s"``), seconds, or a timedelta."""

JOURNAL_LIMIT: Final = 1000
"""The number of exchanges that a journal keeps at most."""


def check_keywords(names: Iterable[str], known: Iterable[str], *, of: str) -> None:
    """Raise AuthorError for unknown keywords, each with the nearest known one."""
    choices = list(known)
    unknown = [name for name in names if name not in choices]
    if unknown:
        lines = [f"{name!r} is no keyword of {of}. {suggest(name, choices)}" for name in unknown]
        raise AuthorError("\n".join(lines))


def check_progression(progression: str | None) -> None:
    """Raise AuthorError for an unknown progression, with the nearest known one."""
    if progression is not None and progression not in PROGRESSIONS:
        hint = suggest(progression, PROGRESSIONS)
        raise AuthorError(f"`progression` is {progression!r}. {hint}")


def without_none(**items: Any) -> Json:
    """Return the items that are not None."""
    return {key: value for key, value in items.items() if value is not None}


def duration_text(duration: TimeSpan) -> str:
    """Return a duration as scenario files and the admin API write it."""
    if isinstance(duration, str):
        return duration
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def instant_text(instant: datetime | str) -> str:
    """Return an instant as the admin API reads it; one without a time zone is in UTC."""
    if not isinstance(instant, datetime):
        return instant  # the server reports what is no instant
    aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat()


# --- the clock ------------------------------------------------------------------------------------


class _Control:
    """A part of a sandbox, controlled through the admin API."""

    def __init__(self, admin: SandboxClient) -> None:
        self._admin: Final = admin


class SandboxClock(_Control):
    """The clock of a sandbox. A clock that advances skips no state on the way.

    ocp.clock.advance("90s")
    ocp.clock.next()                     # to the next change that is due
    client = Client(sleep=ocp.clock.sleep)
    """

    def now(self) -> datetime:
        """Return the clock's instant, in UTC."""
        return datetime.fromisoformat(self._read()["now"])

    def next_due(self) -> datetime | None:
        """Return when a task or dag changes next if no request comes, or None if none does.

        It is rounded up to the microsecond, so that a clock moved there has reached the change.
        """
        due = self._read()["next_due"]
        if due is None:
            return None
        microseconds = -(-parse_instant(due) // 1000)
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)

    @property
    def progression(self) -> Progression:
        """How time passes: ``time``, ``polls``, ``manual`` or ``immediate``."""
        progression: Progression = self._read()["progression"]
        return progression

    @property
    def speed(self) -> float:
        """How many times faster than the machine's clock it runs, under ``time``."""
        return float(self._read()["speed"])

    def advance(self, by: TimeSpan) -> datetime:
        """Advance the clock by ``"90s"``, ``90`` or a timedelta; return its new instant."""
        return self._move("/advance", {"by": duration_text(by)})

    def next(self) -> datetime:
        """Move the clock to the next change that is due; return its new instant."""
        return self._move("/next")

    def move_to(self, to: datetime | str) -> datetime:
        """Move the clock to an instant, unless it is past it; return its new instant."""
        return self._move("/move", {"to": instant_text(to)})

    def set(self, *, progression: Progression | None = None, speed: float | None = None) -> None:
        """Change how time passes from now on; what is left out stays."""
        check_progression(progression)
        self._admin.ask("PATCH", "/clock", without_none(progression=progression, speed=speed))

    def sleep(self, seconds: float) -> None:
        """Advance the clock instead of waiting: a stand-in for ``time.sleep``."""
        self.advance(seconds)

    def __repr__(self) -> str:
        clock = self._read()
        return f"<Clock {clock['now']}, {clock['progression']}>"

    def _read(self) -> Json:
        return self._admin.ask("GET", "/clock")

    def _move(self, path: str, body: Json | None = None) -> datetime:
        clock = self._admin.ask("POST", f"/clock{path}", body)
        return datetime.fromisoformat(clock["now"])


# --- the journal ----------------------------------------------------------------------------------


class JournalFilters(TypedDict, total=False):
    """What an exchange must have to match (openapi/admin.yaml, JournalQuery)."""

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
    def of(cls, data: Json) -> JournalEntry:
        """Return the entry of the admin API's JSON."""
        values = {name: data[name] for name in cls.__dataclass_fields__}
        for name in ("at", "wall"):
            values[name] = datetime.fromisoformat(data[name])
        for name in ("request_headers", "response_headers"):
            values[name] = tuple((key, value) for key, value in data[name])
        return cls(**values)

    def __str__(self) -> str:
        target = f"{self.path}?{self.query}" if self.query else self.path
        by = f" by {self.caller}" if self.caller else ""
        answered = "cut off" if self.status is None else f"answered {self.status}"
        fault = f", fault injected: {self.fault}" if self.fault else ""
        return f"{self.method} {target}{by}, {answered}{fault}"


class SandboxJournal(_Control):
    """Every exchange of a sandbox, the oldest first.

    ocp.journal.assert_called("retrySubtask", times=1, subtask=7)
    [entry.status for entry in ocp.journal]
    """

    def __iter__(self) -> Iterator[JournalEntry]:
        return iter(self.all())

    def __len__(self) -> int:
        return int(self._admin.ask("GET")["requests"])

    @property
    def last(self) -> JournalEntry | None:
        """The last exchange, if there was one."""
        entries = self.all()
        return entries[-1] if entries else None

    def all(self, operation: str | None = None, **filters: Unpack[JournalFilters]) -> list[JournalEntry]:
        """Return the exchanges that match."""
        query = _query(operation, filters)
        if "body" not in query:
            return [JournalEntry.of(data) for data in self._read(query)]
        numbers = self._verify(query, {"at_least": 0})["entries"]
        return [JournalEntry.of(data) for data in self._read({}) if data["number"] in numbers]

    def clear(self) -> None:
        """Delete every exchange."""
        self._admin.ask("DELETE", "/journal")

    def assert_called(
        self,
        operation: str | None = None,
        *,
        times: int | None = None,
        at_least: int | None = None,
        at_most: int | None = None,
        **filters: Unpack[JournalFilters],
    ) -> None:
        """Assert that so many requests match; at least one, if no number is given.

        Raises AssertionError with the nearest request, and AuthorError for a wrong query.
        """
        limits = {"times": times, "at_least": at_least, "at_most": at_most}
        verdict = self._verify(_query(operation, filters, others=limits), limits)
        if not verdict["holds"]:
            raise AssertionError(verdict["message"])

    def assert_not_called(self, operation: str | None = None, **filters: Unpack[JournalFilters]) -> None:
        """Assert that no request matches. Raises AssertionError with those that do."""
        self.assert_called(operation, times=0, **filters)

    def __repr__(self) -> str:
        return f"<Journal of {self._admin.name}, {len(self)} exchanges>"

    def _verify(self, query: Json, limits: Mapping[str, int | None]) -> Json:
        body = {"query": query, **without_none(**limits)}
        return self._admin.ask("POST", "/journal/verify", body)

    def _read(self, query: Json) -> list[Json]:
        page = self._admin.ask("GET", "/journal", query={**query, "limit": JOURNAL_LIMIT})
        entries: list[Json] = page["entries"]
        return entries


def _query(operation: str | None, filters: Mapping[str, Any], *, others: Iterable[str] = ()) -> Json:
    """Return the query as the server takes it; ``others`` are further keywords of the caller."""
    known = [*others, *JournalFilters.__annotations__]
    check_keywords(filters, known, of="a query of the journal")
    return without_none(operation=operation, **filters)


# --- injected faults ------------------------------------------------------------------------------


class FaultFields(TypedDict, total=False):
    """The keys of a fault, as in a scenario file: which requests it affects, and how."""

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
    delay: TimeSpan
    jitter: TimeSpan
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


class AddedFault:
    """A fault that is injected into a sandbox."""

    def __init__(self, admin: SandboxClient, name: str) -> None:
        self._admin: Final = admin
        self.name: Final = name

    @property
    def counted(self) -> int:
        """The number of requests that it has counted."""
        return int(self.json()["counted"])

    @property
    def affected(self) -> int:
        """The number of requests that it has affected."""
        return int(self.json()["affected"])

    def json(self) -> Json:
        """Return the fault as JSON of the admin API. Raises AuthorError if it was removed."""
        for fault in self._admin.ask("GET", "/faults")["faults"]:
            if fault["name"] == self.name:
                return dict(fault)
        raise AuthorError(f"there is no fault {self.name!r} any more: it was removed.")

    def remove(self) -> None:
        """Remove it."""
        self._admin.ask("DELETE", f"/faults/{quote(self.name, safe='')}")

    def __repr__(self) -> str:
        return f"<Fault {self.name}>"


class SandboxFaults(_Control):
    """The injected faults of a sandbox; the first that matches a request affects it.

    ocp.faults.add(operation="getTaskInstance", calls=2, status=503)
    ocp.faults.add(operation="retrySubtask", calls=1, drop_response=True)
    """

    def add(self, **fields: Unpack[FaultFields]) -> AddedFault:
        """Add a fault after the others. Raises AuthorError with everything wrong in it."""
        check_keywords(fields, FaultFields.__annotations__, of="a fault")
        body: Json = dict(fields)
        for key in ("delay", "jitter"):
            if key in body:
                body[key] = duration_text(body[key])
        return AddedFault(self._admin, self._admin.ask("POST", "/faults", body)["name"])

    def all(self) -> list[AddedFault]:
        """Return the faults, in order."""
        faults = self._admin.ask("GET", "/faults")["faults"]
        return [AddedFault(self._admin, fault["name"]) for fault in faults]

    def remove(self, name: str) -> None:
        """Remove one fault."""
        AddedFault(self._admin, name).remove()

    def clear(self) -> None:
        """Remove every fault."""
        self._admin.ask("DELETE", "/faults")

    def __iter__(self) -> Iterator[AddedFault]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.all())
