"""The probes of OCP: wrong ids, missing credentials, odd queries, and pages that must agree.

Where ocp-express differs from the contract, and OCP is not verified, both responses are expected. In ocp-express an id
may be 0, negative or in another spelling, as Spring reads a Long (NumberUtils.parseNumber); Spring's Pageable ignores
an invalid page; an unknown status has no tasks; and the log of an unknown subtask is empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from oceanmock.checks import OK, REFUSED, UNAUTHORIZED, UNKNOWN, Probe, Probes, Statuses, Subject, check, objects, whole
from oceanmock.observations import Observation, ProbeTarget, Required, missing_rows
from oceanmock.ocp.api import API, TASKS_PATH
from oceanmock.ocp.auth import AccessKey, Basic
from oceanmock.ocp.checks import DIRECTIONS, LARGEST_VALUES, PLAIN_NAME

Rows = list[dict[str, Any]]
Matches = Callable[[dict[str, Any]], bool | None]

UNKNOWN_ID: Final = "9223372036854775807"  # the largest possible id, which no task has
AS_LONG: Final = frozenset({400, 404})  # the statuses for a text that is no id, but may be a Long of Java
ODD: Final = frozenset({200, 400, 404})
"""The statuses for a text that may be another spelling of an id, even of an existing one."""
LENIENT: Final = frozenset({200, 400})
FILTERED: Final = frozenset({200, 403})  # the statuses for a request that a firewall in front of the server may refuse
UNREAD: Final = frozenset({400, 401, 403})  # the statuses for an unreadable signature; no document states which
NO_METHOD: Final = frozenset({403, 404, 405, 500, 501})
"""The statuses for an unsupported method: 405 by the contract, 500 by ocp-express (RestExceptionHandler.java:343-358),
or the others by a proxy."""

IDS: Final[Mapping[str, Statuses]] = {
    **dict.fromkeys(("abc", "1.5", "1e3", "null", "9223372036854775808", "--1", "1_0", "{}"), REFUSED),
    "9" * 400: REFUSED,
    **dict.fromkeys(("0x10", "1 2", "١٢"), ODD),
    **dict.fromkeys(("0", "-1", "-9223372036854775808", "%", "'", "\x00"), AS_LONG),
}
"""Texts in place of an id, before they are quoted."""
RAW_IDS: Final = ("%FF", "%C3%28", "%ED%A0%80", "%00")  # quoted texts in place of an id that are not UTF-8
LENIENT_QUERIES: Final = (
    *("page=abc", "size=abc", "page=2147483648", "page=0", "page=-1", "size=0", "size=-1", "size=2001", "page=&size="),
    *("page=2147483647&size=2000", "page=1&page=2", "status=BOGUS", "status=", "status=RUNNING,,FAILED", "type=BOGUS"),
    *("sort=bogus", "sort=id,sideways", "sort=id;drop", "name=%FF"),
)
QUERIES: Final[Mapping[str, Statuses]] = {
    **dict.fromkeys(LENIENT_QUERIES, LENIENT),
    **dict.fromkeys(("clusterId=abc", "tenantId=1.5", "hostId=-"), REFUSED),
    **dict.fromkeys(("name=%25", "unknown=1"), OK),
    "name=%27%20OR%201%3D1": FILTERED,
    "&".join(f"x{n}=1" for n in range(300)): LENIENT,
}
HEADERS: Final[Mapping[tuple[str, str], Statuses]] = {
    ("Accept-Language", "xx-YY;q=nonsense,,;"): LENIENT,
    ("x-trace-id", "t" * 2000): LENIENT,
    ("Accept", "*/*;q=0.1"): LENIENT,
    ("If-None-Match", "*"): LENIENT | {304},
}
WRONG_CREDENTIALS: Final[Mapping[str, Statuses]] = {
    **dict.fromkeys(("Basic", "Basic !!!", "Basic bm9jb2xvbg==", "Bearer nonsense"), UNAUTHORIZED),
    **dict.fromkeys(("OCP-ACCESS-KEY-HMACSHA1 nonsense", "OCP-ACCESS-KEY-HMACSHA1 nobody:bm9uc2Vuc2U="), UNREAD),
}
FIRST_ROW: Final = f"{TASKS_PATH}?size=1"
ROWS_PATH: Final = "$.data.contents"
TYPES: Final = ("MANUAL", "SCHEDULED")
WHOLE_LIST: Final = f"size={LARGEST_VALUES['size']}"  # the most rows of a page, by the documents

REQUIRED: Final = Required(
    log="getSubtaskLog",
    to_read="Let the target have a task to read, with all its parts.",
    targets={
        "retryTask": ("a FAILED task", "a task that is not FAILED"),
        "rollbackTask": ("a FAILED task that may be rolled back", "a task that is not FAILED"),
        "retrySubtask": ("a task with a FAILED subtask", "a task with a subtask that is not FAILED"),
        "skipSubtask": ("a task with a FAILED subtask", "a task with a subtask that is not FAILED"),
        "cancelSubtask": ("a task with a RUNNING subtask", "a task with a subtask that does not run"),
    },
    of_lists=REFUSED,
    may_redirect=True,
)


def ids_to_refuse(target: ProbeTarget) -> Sequence[str]:
    """Return unknown ids, for the operations that must be refused."""
    return (UNKNOWN_ID, *IDS, *RAW_IDS)


def list_targets(identity: str) -> Sequence[str]:
    """Return the lists that are searched for the tasks of a server."""
    return (f"{TASKS_PATH}?size=200", f"{TASKS_PATH}?{WHOLE_LIST}&status=FAILED")


def probes(target: ProbeTarget) -> Probes:
    """Yield every probe; operations, all to be refused, only if the run writes."""
    items = target.items
    yield from _ids(items[0].id if items else UNKNOWN_ID)
    for query, statuses in QUERIES.items():
        yield _get(f"the query {_short(query)}", f"{TASKS_PATH}?{query}", statuses)
    for (name, value), statuses in HEADERS.items():
        yield Probe(f"a list with {name}: {_short(value)}", "GET", FIRST_ROW, statuses, headers={name: value})
    yield Probe("a list with a body", "GET", FIRST_ROW, LENIENT, body=b"{}", is_wrong=False)
    yield from _credentials(target)
    yield from _reads(items[:8])
    if target.writes:
        yield from _operations(target)
    yield from pages()
    yield from filters(items)
    yield from unlisted(items)


def _get(what: str, target: str, statuses: Statuses, *, wrong: bool = True) -> Probe:
    return Probe(what, "GET", target, statuses, is_wrong=wrong)


def _short(id: str) -> str:
    return id if len(id) <= 40 else f"{id[:10]}… ({len(id)} characters)"


def _ids(task: str) -> Iterator[Probe]:
    """Yield reads by invalid and unknown ids; ocp-express ignores the task of a subtask (TaskService.java:103-133)."""
    yield _get("an unknown task", f"{TASKS_PATH}/{UNKNOWN_ID}", UNKNOWN)
    log = f"{TASKS_PATH}/{task}/subtasks/{{}}/log"
    yield _get("the log of an unknown subtask", log.format(UNKNOWN_ID), OK | UNKNOWN)
    for id, statuses in IDS.items():
        quoted, what = quote(id, safe=""), f"the id {_short(id)!r}"
        path = f"{TASKS_PATH}/{quoted}"
        yield _get(what, path, statuses)
        empty = OK if statuses & UNKNOWN else frozenset[int]()  # an unknown subtask may have an empty log
        yield _get(f"{what} of a subtask", log.format(quoted), statuses | empty)
        yield _get(f"{what} of a task", f"{path}/subtasks/1/log", statuses | OK | UNKNOWN)
    for raw in RAW_IDS:
        yield _get(f"the id {raw}", f"{TASKS_PATH}/{raw}", AS_LONG)


def _reads(tasks: Sequence[Observation]) -> Iterator[Probe]:
    """Yield two reads of every task and two logs, with the list in between, and a last one of the tasks."""
    for _ in range(2):
        for task in tasks:
            yield _get("a task", f"{TASKS_PATH}/{task.id}", OK, wrong=False)
            for subtask in [*{subtask.state: subtask for subtask in task.parts}.values()][-2:]:
                yield _get("the log of a subtask", f"{TASKS_PATH}/{task.id}/subtasks/{subtask.id}/log", OK, wrong=False)
        yield _get("the list", f"{TASKS_PATH}?{WHOLE_LIST}", OK, wrong=False)
    for task in tasks:
        yield _get("a task", f"{TASKS_PATH}/{task.id}", OK, wrong=False)


ON_NOTHING: Final = [
    ("POST" if route.changes else "GET", route.path.format_map(dict.fromkeys(route.ids.values(), UNKNOWN_ID)))
    for route in API.routes
]
"""Each operation, on an unknown id."""


def _credentials(target: ProbeTarget) -> Iterator[Probe]:
    """Yield requests without and with wrong credentials; few, as OCP locks a user after twenty."""
    for method, path in ON_NOTHING:
        if method == "GET" or target.writes:
            what, rule = "a request without credentials", "auth.missing-accepted"
            yield Probe(what, method, path, UNAUTHORIZED, accepted=rule, auth=None)
    rule = "auth.wrong-accepted"
    for text, statuses in WRONG_CREDENTIALS.items():
        what, headers = f"a request with Authorization: {text}", {"Authorization": text}
        yield Probe(what, "GET", FIRST_ROW, statuses, accepted=rule, auth=None, headers=headers)
    own: Any = target.server.auth
    wrong: Any = Basic(own.user, "not the password") if isinstance(own, Basic) else None
    if isinstance(own, AccessKey):
        wrong = AccessKey(own.id, "not-the-secret")
    if wrong is not None:
        yield Probe("a request with a wrong password", "GET", FIRST_ROW, UNAUTHORIZED, accepted=rule, auth=wrong)


def _operations(target: ProbeTarget) -> Iterator[Probe]:
    paths = [path for method, path in ON_NOTHING if method == "POST"]
    for path in paths:
        yield Probe("a call on an unknown task", "POST", path, UNKNOWN)
        for id, statuses in [*IDS.items()][:6]:
            yield Probe(
                f"a call on the id {_short(id)!r}", "POST", path.replace(UNKNOWN_ID, quote(id, safe="")), statuses
            )
    for method in ("PUT", "PATCH", "DELETE"):
        what, path = f"{method} of a task", f"{TASKS_PATH}/{UNKNOWN_ID}"
        yield Probe(what, method, path, NO_METHOD, accepted="method.accepted")
    viewer, rule = target.server.read_only_auth, "auth.forbidden-accepted"
    for path in paths if viewer is not None else ():
        yield Probe("a call of a read-only user", "POST", path, frozenset({403}), accepted=rule, auth=viewer)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list, its rows with their ids, and the number of rows of all pages."""

    subject: Subject
    rows: Rows
    ids: list[Any]
    total: int | None

    @property
    def is_whole(self) -> bool:
        """Return whether it has every row, as a server may limit the size of a page."""
        return len(self.rows) < LARGEST_VALUES["size"] if self.total is None else len(self.rows) >= self.total


def _page(query: str) -> Generator[Probe, Subject | None, Page | None]:
    subject = yield _get("a page", f"{TASKS_PATH}?{query}", OK, wrong=False)
    if subject is None or subject.status != 200:
        return None
    data = subject.data if isinstance(subject.data, dict) else {}
    rows, numbers = objects(data.get("contents")), data.get("page")
    total = whole(numbers.get("totalElements")) if isinstance(numbers, dict) else None
    return Page(subject, rows, [row.get("id") for row in rows], total)


def pages() -> Probes:
    """Check that the pages of a list equal the whole list in each order, if it has not changed in between."""
    for order in DIRECTIONS:
        first = yield from _page(f"{WHOLE_LIST}&sort={order}")
        if first is None or not first.ids:
            return
        size = max(1, -(-min(len(first.ids), 40) // 3))
        parts = dict[int, Page | None]()
        for number in range(1, 5):
            parts[number] = yield from _page(f"size={size}&page={number}&sort={order}")
        beyond = yield from _page(f"{WHOLE_LIST}&page={len(first.ids) + 1}&sort={order}")
        if beyond is not None and first.is_whole:
            yield beyond.subject, check("paging.whole", not beyond.ids, ROWS_PATH, "a page past the end has rows.")
        last = yield from _page(f"{WHOLE_LIST}&sort={order}")
        for number, page in parts.items() if last is not None and last.ids == first.ids else ():
            if page is not None:
                right = first.ids[(number - 1) * size : number * size]
                wrong = f"page {number} in pages of {size} has {page.ids}, not {right}."
                yield page.subject, check("paging.whole", page.ids == right, ROWS_PATH, wrong)
                wrong = f"page {number} is of {page.total} elements, and the whole list of {first.total}."
                yield page.subject, check("paging.total", page.total == first.total, "$.data.page.totalElements", wrong)


def unlisted(tasks: Sequence[Observation]) -> Probes:
    """Check that the whole list has the known tasks of type MANUAL.

    Without the filter type, ocp-express lists no others (TaskService.java:147); not verified for OCP.
    """
    page = yield from _page(WHOLE_LIST)
    if page is not None and page.is_whole:
        own = [task.id for task in tasks if task.raw.get("type") in (None, "MANUAL")]
        yield page.subject, missing_rows(page.rows, own)


def filters(tasks: Sequence[Observation]) -> Probes:
    """Check that filtered lists have all matching rows, and no others, of those that have not changed in between."""
    before = yield from _page(WHOLE_LIST)
    if before is None or not before.is_whole:
        return
    filters, narrow = list(_filters(before.rows, tasks)), dict[str, Page | None]()
    for query, _ in filters:
        narrow[query] = yield from _page(f"{WHOLE_LIST}&{query}")
    after = yield from _page(WHOLE_LIST)
    stable = [row for row in before.rows if after is not None and row in after.rows]
    for query, matches in filters:
        page = narrow[query]
        if page is not None:
            answers = [(row["id"], matches(row)) for row in stable if "id" in row]
            absent = [id for id, is_match in answers if is_match and id not in page.ids]
            others = [id for id, is_match in answers if is_match is False and id in page.ids]
            wrong = f"{query} leaves out {absent[:5]}, which it is for."
            yield page.subject, check("filter.too-narrow", not absent, ROWS_PATH, wrong)
            wrong = f"{query} has {others[:5]}, which are others."
            yield page.subject, check("filter.ignored", not others, ROWS_PATH, wrong)


def _filters(rows: Rows, tasks: Sequence[Observation]) -> Iterator[tuple[str, Matches]]:
    """Yield filters, each with a predicate of the matching rows, which returns None if a row does not show it.

    Every parameter occurs: with values that rows have, alone and together, and with a value that no row has.
    """
    for statuses in ("SUCCESSFUL", "FAILED", "RUNNING", "RUNNING,FAILED", "FAILED,SUCCESSFUL"):
        yield f"status={statuses}", _having(status=statuses.split(","))
    for key in ("cluster", "tenant"):
        for id in [id for row in rows if (id := whole(_value(row, key))) is not None][:1]:
            yield f"{key}Id={id}", _having(**{key: [id]})
            yield f"{key}Id={id}&status=SUCCESSFUL", _having(status=["SUCCESSFUL"], **{key: [id]})
    names = [(row.get("id"), str(row.get("name") or "")) for row in rows]
    for name in [name for _, name in names if re.fullmatch(PLAIN_NAME, name)][:1]:
        for part in dict.fromkeys((name, name[1:-1].strip())):
            ids = [id for id, name in names if part in name]
            yield f"name={quote(part, safe='')}", _among(ids, [])
    for type in TYPES:
        known = [(whole(task.raw.get("id")), task.raw.get("type")) for task in tasks]
        others = [id for id, own in known if own in TYPES and own != type]
        yield f"type={type}", _among([id for id, own in known if own == type], others)
    for key in ("clusterId", "tenantId", "hostId"):
        yield f"{key}={UNKNOWN_ID}", _having(id=[])


def _having(**values: Sequence[Any]) -> Matches:
    return lambda row: all(_value(row, key) in several for key, several in values.items())


def _among(ids: Sequence[Any], others: Sequence[Any]) -> Matches:
    """Return a predicate that is true for rows with some ids, false for those with ``others``, else None."""
    return lambda row: True if row.get("id") in ids else False if row.get("id") in others else None


def _value(row: dict[str, Any], key: str) -> Any:
    """Return a value of a row; for an object its id."""
    value = row.get(key)
    return value.get("id") if isinstance(value, dict) else value
