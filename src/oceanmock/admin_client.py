"""The client of a server's admin API, and the handles of a sandbox's clock and journal.

The admin commands and the handles of tests use it. It imports only the standard library, since commands have to start
quickly, and keeps no state. Every failure of a request is a NoAnswer: no server, no oceanmock, a wrong token, an error
of the server, or a mistake of the caller (Refused, which is an InputError too).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from operator import methodcaller
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack, cast
from urllib.parse import quote, urlencode, urlsplit

from oceanmock.clock import PROGRESSIONS, Progression, patch_time
from oceanmock.errors import EnvironmentProblem, InputError, OceanmockError
from oceanmock.text import TimeSpan, duration_text, exchange_text, instant_text, parse_instant, suggest

if TYPE_CHECKING:
    from ssl import SSLContext

    from oceanmock.api import Json

HIDE_FRAMES: Final = methodcaller("errisinstance", (AssertionError, OceanmockError))
"""A module's ``__tracebackhide__``: pytest shows the test's own line and none of these files."""
__tracebackhide__ = HIDE_FRAMES

TOKEN_VARIABLE: Final = "OCEANMOCK_ADMIN_TOKEN"  # noqa: S105 (its name)
"""The environment variable with the token, for servers and clients."""
URL_VARIABLE: Final = "OCEANMOCK_URL"  # the environment variable with the URL of the server that the commands use
VERIFICATION_FAILED: Final = 417  # the status of a verification that fails: Expectation Failed
ADMIN_TIMEOUT_S: Final = 30.0
JOURNAL_LIMIT: Final = 1000  # the number of exchanges that a journal keeps at most


class NoAnswer(OceanmockError):
    """No usable response: no server, no oceanmock, or an error; ``status`` is that of an error response."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Refused(NoAnswer, InputError):
    """A mistake of the caller: an error response, or what is no URL."""


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its name or its address."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def new_token(host: str) -> str | None:
    """Return a token for a server at a host, or None where only this machine can connect."""
    return None if is_loopback(host) else token_urlsafe()


def raise_if_blocked(error: RuntimeError, *, host: str) -> None:
    """Raise EnvironmentProblem for an error of pytest-socket, with the option that allows the host."""
    if type(error).__name__ in {"SocketBlockedError", "SocketConnectBlockedError"}:
        problem = f"pytest-socket blocks connections to {host}, where oceanmock listens."
        raise EnvironmentProblem(f"{problem} Run pytest with --allow-hosts={host}.") from None


@dataclass(frozen=True, slots=True)
class Admin:
    """A server's admin API, or the part of it for the sandbox ``name``.

    Each request has its own connection. ``url`` includes the path under which a proxy serves the server.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    tls: SSLContext | None = None
    name: str | None = None
    timeout: float = ADMIN_TIMEOUT_S

    def sandbox_url(self, sandbox: Json) -> str:
        """Return the URL of a sandbox's path on this client's server."""
        return f"{self.url}/sandboxes/{sandbox['name']}"

    def sandbox(self, name: str) -> Admin:
        """Return the admin API of a sandbox."""
        return replace(self, name=name)

    def ask(self, method: str, path: str = "", body: Json | None = None, *, query: Json | None = None) -> Json:
        """Return the JSON object of a response. Raises NoAnswer with one sentence."""
        return self._parse(self.read(method, path, body, query=query))

    def text(self, path: str, *, query: Json | None = None) -> str:
        """Return the text of a response. Raises NoAnswer."""
        return self.read("GET", path, query=query).decode()

    def delete(self) -> None:
        """Delete the sandbox, if it still exists."""
        try:
            self.ask("DELETE")
        except Refused as error:
            if error.status != 404:
                raise

    def read(self, method: str, path: str, body: Json | None = None, *, query: Json | None = None) -> bytes:
        """Return the body of a response. Raises NoAnswer, and InputError for a body that cannot be JSON."""
        target = f"/__admin{path}" if self.name is None else f"/__admin/sandboxes/{quote(self.name, safe='')}{path}"
        if query:
            target += f"?{urlencode(without_none(**query))}".rstrip("?")
        headers = {"X-Oceanmock-Token": self.token} if self.token else {}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            try:
                content = json.dumps(body).encode()
            except (TypeError, ValueError) as error:
                raise InputError(f"this cannot be sent as JSON: {error}.") from None
        status, answer = self._send(method, target, content, headers)
        if status < 400 or status == VERIFICATION_FAILED:
            return answer
        problem = str(self._parse(answer).get("error", f"answered {status}"))
        if status == 401:
            advice = f"The commands and the pytest plugin read its token from {TOKEN_VARIABLE}."
            raise NoAnswer(f"{self.url} refused this: {problem} {advice}")
        kind = NoAnswer if status >= 500 else Refused
        raise kind(problem.removeprefix("The body: "), status=status)

    def _send(self, method: str, target: str, content: bytes | None, headers: Json) -> tuple[int, bytes]:
        """Return the status and the body of a response. Raises NoAnswer where it does not come from oceanmock."""
        from http.client import HTTPConnection, HTTPException, HTTPSConnection  # noqa: PLC0415 (slow: ssl, email)

        try:
            parts = urlsplit(self.url)
            kinds: dict[str, Callable[..., HTTPConnection]]
            kinds = {"http": HTTPConnection, "https": partial(HTTPSConnection, context=self.tls)}
            connection = kinds[parts.scheme](parts.hostname or "", parts.port, timeout=self.timeout)
        except (KeyError, ValueError, HTTPException):
            raise Refused(f"{self.url!r} is no URL of a server, such as http://127.0.0.1:8080.") from None
        try:
            connection.request(method, parts.path.rstrip("/") + target, content, headers)
            response = connection.getresponse()
            if "X-Oceanmock-Version" not in response.headers:
                raise self._not_oceanmock()
            return response.status, response.read()
        except HTTPException:
            raise self._not_oceanmock() from None
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            advice = "Start it with `oceanmock serve`, or say where it is with --url."
            raise NoAnswer(f"nothing responds at {self.url} ({reason}). {advice}") from None
        except ValueError as error:  # a header that cannot be sent
            raise NoAnswer(f"this cannot be sent: {error}.") from None
        except RuntimeError as error:
            raise_if_blocked(error, host=parts.hostname or "")
            raise
        finally:
            connection.close()

    def _parse(self, content: bytes) -> Json:
        try:
            data = json.loads(content)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise self._not_oceanmock()
        return data

    def _not_oceanmock(self) -> NoAnswer:
        return NoAnswer(f"what answers at {self.url} is no oceanmock that can be driven. Say where it is with --url.")


def check_keywords(names: Iterable[str], choices: Collection[str], *, of: str) -> None:
    """Raise InputError for unknown keywords, each with the nearest of the choices."""
    unknown = [name for name in names if name not in choices]
    if unknown:
        lines = [f"{name!r} is no keyword of {of}. {suggest(name, list(choices))}" for name in unknown]
        raise InputError("\n".join(lines))


def check_progression(progression: str | None) -> None:
    """Raise InputError for an unknown progression, with the nearest known one."""
    if progression is not None and progression not in PROGRESSIONS:
        raise InputError(f"`progression` is {progression!r}. {suggest(progression, PROGRESSIONS)}")


def without_none(**items: Any) -> Json:
    """Return the items with a value other than None."""
    return {key: value for key, value in items.items() if value is not None}


@dataclass(frozen=True, slots=True)
class SandboxClock:
    """The clock of a sandbox. When it advances, tasks pass through every state.

    ocp.clock.advance("90s")
    ocp.clock.next()                     # to the next change that is due
    client = Client(sleep=ocp.clock.sleep)
    """

    _admin: Admin

    def now(self) -> datetime:
        """Return the clock's instant, in UTC."""
        return datetime.fromisoformat(self._read()["now"])

    def next_due(self) -> datetime | None:
        """Return when a task or dag changes next without a request, or None.

        It is rounded up to the microsecond, so that a clock that is moved there has reached the change.
        """
        due = self._read()["next_due"]
        epoch = datetime.fromtimestamp(0, UTC)
        return None if due is None else epoch + timedelta(microseconds=-(-parse_instant(due) // 1000))

    @property
    def progression(self) -> Progression:
        """How time passes: ``time``, ``polls``, ``manual`` or ``immediate``."""
        return cast("Progression", self._read()["progression"])

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

    def patch(self, monkeypatch: Any) -> None:
        """Let ``time.sleep`` and ``asyncio.sleep`` advance the clock instead of waiting, until the test ends.

        ``time.monotonic`` and ``time.time`` advance as well. ``monkeypatch`` is pytest's fixture. Functions that were
        imported by name, as with ``from time import sleep``, are not patched.
        """
        patch_time(monkeypatch, self.advance)

    def __repr__(self) -> str:
        clock = self._read()
        return f"<Clock {clock['now']}, {clock['progression']}>"

    def _read(self) -> Json:
        return self._admin.ask("GET", "/clock")

    def _move(self, path: str, body: Json | None = None) -> datetime:
        clock = self._admin.ask("POST", f"/clock{path}", body)
        return datetime.fromisoformat(clock["now"])


class JournalFilters(TypedDict, total=False):
    """The filters of a query, all of which an exchange must match (openapi/admin.yaml, Query)."""

    api: str
    method: str
    path: str
    status: int | str
    caller: str
    fault: str
    stub: str
    task: int | str
    subtask: int | str
    dag: int | str
    node: int | str
    sub_task: int | str
    query: str | Mapping[str, str]
    header: str | Mapping[str, str]
    since: datetime | str
    until: datetime | str
    body: Any


def _query_of(operation: str | None, filters: Mapping[str, Any]) -> Json:
    check_keywords(filters, JournalFilters.__annotations__, of="a query of the journal")
    instants = {key: instant_text(filters[key]) for key in ("since", "until") if filters.get(key) is not None}
    return without_none(operation=operation, **{**filters, **instants})


def read_journal(admin: Admin, query: Json) -> Iterator[Json]:
    """Yield the matching exchanges of a sandbox as JSON of the admin API, which has them in pages."""
    page: Json = {"last": 0, "more": True}
    while page["more"]:
        page = admin.ask("GET", "/journal", query={**query, "limit": JOURNAL_LIMIT, "after": page["last"]})
        yield from page["entries"]


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
    stub: str

    @classmethod
    def of(cls, data: Json) -> JournalEntry:
        """Return the entry in JSON of the admin API."""
        values = {name: data[name] for name in cls.__dataclass_fields__}
        values |= {name: datetime.fromisoformat(data[name]) for name in ("at", "wall")}
        values |= {name: tuple(map(tuple, data[name])) for name in ("request_headers", "response_headers")}
        return cls(**values)

    def __str__(self) -> str:
        return exchange_text(self)


@dataclass(frozen=True, slots=True)
class SandboxJournal:
    """Every exchange of a sandbox, the oldest first.

    ocp.journal.assert_called("retrySubtask", times=1, subtask=7)
    [entry.status for entry in ocp.journal]
    """

    _admin: Admin

    def __iter__(self) -> Iterator[JournalEntry]:
        return iter(self.all())

    def __len__(self) -> int:
        return int(self._admin.ask("GET")["requests"])

    @property
    def last(self) -> JournalEntry | None:
        """The last exchange, if there was one."""
        return next(reversed(self.all()), None)

    def all(self, operation: str | None = None, **filters: Unpack[JournalFilters]) -> list[JournalEntry]:
        """Return the exchanges that match."""
        query, numbers = _query_of(operation, filters), None
        if {"body", "query", "header"} & query.keys():  # which only a verification accepts as objects
            numbers = self._admin.ask("POST", "/journal/verify", {"query": query, "at_least": 0})["entries"]
            query = {}
        entries = read_journal(self._admin, query)
        return [JournalEntry.of(data) for data in entries if numbers is None or data["number"] in numbers]

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

        Raises AssertionError with the nearest request, and InputError for a wrong query.
        """
        limits = {"times": times, "at_least": at_least, "at_most": at_most}
        check_keywords(filters, [*limits, *JournalFilters.__annotations__], of="a query of the journal")
        self._verify({"query": _query_of(operation, filters), **without_none(**limits)})

    def assert_not_called(self, operation: str | None = None, **filters: Unpack[JournalFilters]) -> None:
        """Assert that no request matches. Raises AssertionError with those that do."""
        self.assert_called(operation, times=0, **filters)

    def assert_in_order(self, *queries: str | Mapping[str, Any]) -> None:
        """Assert that requests match these queries one after the other; others may come between them.

        A query is an operation or a mapping, such as ``{"operation": "retrySubtask", "subtask": 7}``. Raises as
        ``assert_called`` does.
        """
        items = [{"operation": item} if isinstance(item, str) else dict(item) for item in queries]
        self._verify({"in_order": [_query_of(item.pop("operation", None), item) for item in items]})

    def _verify(self, body: Json) -> None:
        verdict = self._admin.ask("POST", "/journal/verify", body)
        if not verdict["holds"]:
            raise AssertionError(verdict["message"])

    def __repr__(self) -> str:
        return f"<Journal of {self._admin.name}, {len(self)} exchanges>"
