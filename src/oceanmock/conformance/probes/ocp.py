"""The probes of OCP: wrong ids, missing credentials, odd queries, pages and illegal operations.

Where ocp-express differs from the contract, and OCP is not verified, both responses are expected.
There a Long may be 0, negative or in another spelling, as Spring reads it
(NumberUtils.parseNumber); Spring's Pageable ignores an invalid page; an unknown status is ignored;
and the log of an unknown subtask is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote

from oceanmock.checks import Auth, Exchange, Probe, Subject, check, objects, whole
from oceanmock.conformance.model import Options
from oceanmock.conformance.probes.asking import Prober, missing
from oceanmock.conformance.probes.known import Known, KnownIds
from oceanmock.credentials import AccessKey, Basic

TASKS: Final = "/api/v2/tasks/instances"
NOBODYS: Final = "9223372036854775807"
"""The largest possible id, which no server has reached."""
OK: Final = frozenset({200})
REFUSED: Final = frozenset({400})
UNKNOWN: Final = frozenset({404})
UNAUTHORIZED: Final = frozenset({401})
FORBIDDEN: Final = frozenset({403})
AS_LONG: Final = frozenset({400, 404})
"""The statuses for a text that is no id, but may be a Long of Java."""
ODD: Final = frozenset({200, 400, 404})
"""The statuses for a text that may be another spelling of an id, even an existing one."""
LENIENT: Final = frozenset({200, 400})
SUSPECT: Final = frozenset({200, 403})
"""The statuses for a request that a firewall in front of the server may refuse."""
UNREAD: Final = frozenset({400, 401, 403})
"""The statuses for an unreadable signature; no document states which."""

IDS: Final[tuple[tuple[str, frozenset[int]], ...]] = (
    ("abc", REFUSED),
    ("1.5", REFUSED),
    ("1e3", REFUSED),
    ("0x10", ODD),
    ("null", REFUSED),
    ("9223372036854775808", REFUSED),
    ("9" * 400, REFUSED),
    ("--1", REFUSED),
    ("1 2", ODD),
    ("1_0", REFUSED),
    ("{}", REFUSED),
    ("%", AS_LONG),
    ("0", AS_LONG),
    ("-1", AS_LONG),
    ("-9223372036854775808", AS_LONG),
    ("١٢", ODD),
    ("\x00", AS_LONG),
    ("'", AS_LONG),
)
"""Texts in place of an id, before they are quoted."""
RAW_IDS: Final = ("%FF", "%C3%28", "%ED%A0%80", "%00")
"""Quoted texts in place of an id that are not UTF-8."""

QUERIES: Final[tuple[tuple[str, frozenset[int]], ...]] = (
    ("page=abc", LENIENT),
    ("size=abc", LENIENT),
    ("page=2147483648", LENIENT),
    ("clusterId=abc", REFUSED),
    ("tenantId=1.5", REFUSED),
    ("hostId=-", REFUSED),
    ("page=0", LENIENT),
    ("page=-1", LENIENT),
    ("size=0", LENIENT),
    ("size=-1", LENIENT),
    ("size=2001", LENIENT),
    ("page=2147483647&size=2000", LENIENT),
    ("page=&size=", LENIENT),
    ("page=1&page=2", LENIENT),
    ("status=BOGUS", LENIENT),
    ("status=", LENIENT),
    ("status=RUNNING,,FAILED", LENIENT),
    ("type=BOGUS", LENIENT),
    ("sort=bogus", LENIENT),
    ("sort=id,sideways", LENIENT),
    ("sort=id;drop", LENIENT),
    ("name=%FF", LENIENT),
    ("name=%25", OK),
    ("name=%27%20OR%201%3D1", SUSPECT),
    ("unknown=1", OK),
    ("&".join(f"x{n}=1" for n in range(300)), LENIENT),
)
HEADERS: Final[tuple[tuple[str, str, frozenset[int]], ...]] = (
    ("Accept-Language", "xx-YY;q=nonsense,,;", LENIENT),
    ("x-trace-id", "t" * 2000, LENIENT),
    ("Accept", "*/*;q=0.1", LENIENT),
    ("If-None-Match", "*", LENIENT | {304}),
)
WRONG_CREDENTIALS: Final = (
    ("Basic", UNAUTHORIZED),
    ("Basic !!!", UNAUTHORIZED),
    ("Basic bm9jb2xvbg==", UNAUTHORIZED),
    ("Bearer nonsense", UNAUTHORIZED),
    ("OCP-ACCESS-KEY-HMACSHA1 nonsense", UNREAD),
    ("OCP-ACCESS-KEY-HMACSHA1 nobody:bm9uc2Vuc2U=", UNREAD),
)
TASK_CALLS: Final = ("retry", "rollback")
SUBTASK_CALLS: Final = ("retry", "skip", "cancel")
FINAL: Final = frozenset({"SUCCESSFUL", "FAILED"})
LARGEST: Final = 2000
"""The most rows of a page, by the documents."""


def probe_ocp(
    prober: Prober, options: Options, known: KnownIds, *, viewer: Auth | None = None
) -> None:
    """Send every probe of OCP; operations, all to be refused, only with --write."""
    client = prober.client
    for id in (NOBODYS, *dict(IDS), *RAW_IDS):
        client.may_change(id)  # nothing has these ids; for the calls that have to be refused
    task = known.tasks[0] if known.tasks else None
    prober.ask_all(_reads(task))
    prober.ask_all(_lists())
    prober.ask_all(_credentials(client.target.auth, writes=options.write))
    prober.ask_all(_read_all(known))
    if options.write:
        prober.ask_all(_calls())
        prober.ask_all(_methods())
        prober.ask_all(_illegal_calls(known, options))
        if viewer is not None:
            prober.ask_all(_forbidden(viewer))
    ask_pages(prober)
    ask_filters(prober)
    ask_whether_listed(prober, known)


# --- reads ----------------------------------------------------------------------------------------


def _get(what: str, target: str, statuses: frozenset[int], *, wrong: bool = True) -> Probe:
    return Probe(what, "GET", target, statuses, is_wrong=wrong)


def _said(id: str) -> str:
    return id if len(id) <= 40 else f"{id[:10]}… ({len(id)} characters)"


def _reads(task: Known | None) -> Iterator[Probe]:
    """Yield reads of tasks and logs by invalid and by unknown ids.

    ocp-express ignores the task of a subtask (TaskService.java:103-133).
    """
    yield _get("an unknown task", f"{TASKS}/{NOBODYS}", UNKNOWN)
    real = task.id if task is not None else NOBODYS
    log = f"{TASKS}/{real}/subtasks/{{}}/log"
    yield _get("the log of an unknown subtask", log.format(NOBODYS), OK | UNKNOWN)
    for id, statuses in IDS:
        at, what = quote(id, safe=""), f"the id {_said(id)!r}"
        yield _get(what, f"{TASKS}/{at}", statuses)
        empty = OK if statuses & UNKNOWN else frozenset[int]()  # it may be the log of nothing
        yield _get(f"{what} of a subtask", log.format(at), statuses | empty)
        yield _get(f"{what} of a task", f"{TASKS}/{at}/subtasks/1/log", statuses | OK | UNKNOWN)
    for raw in RAW_IDS:
        yield _get(f"the id {raw}", f"{TASKS}/{raw}", AS_LONG)


def _lists() -> Iterator[Probe]:
    for query, statuses in QUERIES:
        yield _get(f"the query {_said(query)}", f"{TASKS}?{query}", statuses)
    for name, value, statuses in HEADERS:
        what = f"a list with {name}: {_said(value)}"
        yield Probe(what, "GET", f"{TASKS}?size=1", statuses, headers={name: value})
    yield Probe("a list with a body", "GET", f"{TASKS}?size=1", LENIENT, body=b"{}", is_wrong=False)


def _read_all(known: KnownIds) -> Iterator[Probe]:
    """Yield a read of every known task and log."""
    for task in known.tasks[:8]:
        yield _get("a task", f"{TASKS}/{task.id}", OK, wrong=False)
        for subtask in task.parts[:4]:
            target = f"{TASKS}/{task.id}/subtasks/{subtask.id}/log"
            yield _get("the log of a subtask", target, OK, wrong=False)
    yield _get("the list", f"{TASKS}?size=2000", OK, wrong=False)
    for task in known.tasks[:8]:
        yield _get("a task", f"{TASKS}/{task.id}", OK, wrong=False)


# --- credentials ----------------------------------------------------------------------------------


def _credentials(own: Any, *, writes: bool) -> Iterator[Probe]:
    """Yield requests without and with wrong credentials; few, as OCP locks after twenty."""
    for method, target in _every_operation():
        if method == "GET" or writes:
            what = "a request without credentials"
            yield Probe(
                what, method, target, UNAUTHORIZED, accepted="auth.missing-accepted", auth=None
            )
    for actual, statuses in WRONG_CREDENTIALS:
        what = f"a request with Authorization: {actual}"
        yield Probe(
            what,
            "GET",
            f"{TASKS}?size=1",
            statuses,
            accepted="auth.wrong-accepted",
            auth=None,
            headers={"Authorization": actual},
        )
    wrong = _wrong(own)
    if wrong is not None:
        yield Probe(
            "a request with a wrong password",
            "GET",
            f"{TASKS}?size=1",
            UNAUTHORIZED,
            accepted="auth.wrong-accepted",
            auth=wrong,
        )


def _wrong(own: Any) -> Auth | None:
    """Return the run's credentials with another secret."""
    wrong: Any = None
    if isinstance(own, Basic):
        wrong = Basic(own.user, "not the password")
    elif isinstance(own, AccessKey):
        wrong = AccessKey(own.id, "not-the-secret")
    return wrong  # type: ignore[no-any-return]


def _every_operation() -> Iterator[tuple[str, str]]:
    """Yield each operation, on an unknown id."""
    one, part = f"{TASKS}/{NOBODYS}", f"{TASKS}/{NOBODYS}/subtasks/{NOBODYS}"
    yield from (("GET", TASKS), ("GET", one), ("GET", f"{part}/log"))
    yield from (("POST", f"{one}/{call}") for call in TASK_CALLS)
    yield from (("POST", f"{part}/{call}") for call in SUBTASK_CALLS)


def _forbidden(viewer: Auth) -> Iterator[Probe]:
    """Yield the operations that a read-only user must not use."""
    for method, target in _every_operation():
        if method == "POST":
            yield Probe(
                "a call of somebody who may only look",
                method,
                target,
                FORBIDDEN,
                accepted="auth.forbidden-accepted",
                auth=viewer,
            )


# --- calls that have to be refused ----------------------------------------------------------------


def _calls() -> Iterator[Probe]:
    """Yield operations on unknown and on invalid ids."""
    for method, target in _every_operation():
        if method == "POST":
            yield Probe("a call on an unknown task", method, target, UNKNOWN)
            for id, statuses in IDS[:6]:
                wrong = target.replace(NOBODYS, quote(id, safe=""))
                yield Probe(f"a call on the id {_said(id)!r}", method, wrong, statuses)


def _methods() -> Iterator[Probe]:
    """Yield unsupported methods: 405 by the contract, 500 by ocp-express.

    (RestExceptionHandler.java:343-358.) A proxy may refuse them.
    """
    for method in ("PUT", "PATCH", "DELETE"):
        target = f"{TASKS}/{NOBODYS}"
        allowed = frozenset({403, 404, 405, 500, 501})
        yield Probe(f"{method} of a task", method, target, allowed, accepted="method.accepted")


def _illegal_calls(known: KnownIds, options: Options) -> Iterator[Probe]:
    """Yield operations that a final state forbids, on tasks that the run may change."""
    ours = [task for task in known.tasks if task.id in options.tasks and task.state in FINAL]
    for task in ours[:8]:
        if task.state == "SUCCESSFUL":
            for call in TASK_CALLS:
                yield _illegal(f"{call} of a task that is {task.state}", f"{task.id}/{call}")
        for subtask in _one_of_each_state(task):
            for call in SUBTASK_CALLS:
                if subtask.state != "FAILED" or call == "cancel":
                    what = f"{call} of a subtask that is {subtask.state}"
                    yield _illegal(what, f"{task.id}/subtasks/{subtask.id}/{call}")


def _one_of_each_state(task: Known) -> list[Known]:
    """Return one subtask of each state that is stable in an ended task."""
    result = {part.state: part for part in task.parts}
    return [result[s] for s in ("SUCCESSFUL", "PENDING", "FAILED") if s in result]


def _illegal(what: str, tail: str) -> Probe:
    return Probe(what, "POST", f"{TASKS}/{tail}", REFUSED, accepted="call.illegal-accepted")


# --- lists ----------------------------------------------------------------------------------------


def ask_pages(prober: Prober) -> None:
    """Check that the pages of a list equal the whole list, if it was the same before and after."""
    first = _page(prober, "size=2000&sort=id,asc")
    before = _ids(first) if first is not None else []
    if first is None or not before:
        return
    size = max(1, -(-min(len(before), 40) // 3))
    pages = [_page(prober, f"size={size}&page={n}&sort=id,asc") for n in range(1, 5)]
    beyond = _page(prober, f"size=2000&page={len(before) + 1}&sort=id,asc")
    if beyond is not None and _is_whole(first):
        prober.tell(
            beyond,
            [
                check(
                    "paging.whole",
                    not _ids(beyond),
                    "$.data.contents",
                    "a page past the end has rows.",
                )
            ],
        )
    if _rows(prober, "size=2000&sort=id,asc") != before:
        return
    for number, page in enumerate(pages):
        if page is not None:
            right = before[number * size : (number + 1) * size]
            wrong = f"page {number + 1} in pages of {size} has {_ids(page)}, not {right}."
            prober.tell(
                page, [check("paging.whole", _ids(page) == right, "$.data.contents", wrong)]
            )


def ask_whether_listed(prober: Prober, known: KnownIds) -> None:
    """Check that the whole list has the known tasks that a user started.

    Without a type, ocp-express lists no others (TaskService.java:147); not verified for OCP.
    """
    whole_list = _page(prober, "size=2000")
    if whole_list is not None and _is_whole(whole_list):
        view = {str(id) for id in _ids(whole_list)}
        tasks = [task.id for task in known.tasks if task.type in ("", "MANUAL")]
        prober.tell(whole_list, [missing(view, tasks)])


def _is_whole(page: Subject) -> bool:
    """Return whether a page has every row: a server may have a limit of its own."""
    actual = page.data.get("page") if isinstance(page.data, dict) else None
    total = whole(actual.get("totalElements")) if isinstance(actual, dict) else None
    return len(_contents(page)) >= total if total is not None else len(_contents(page)) < LARGEST


Matches = Callable[[dict[str, Any]], bool]


def ask_filters(prober: Prober) -> None:
    """Check that filtered lists have all matching rows that were listed before and after."""
    before = _page(prober, "size=2000")
    if before is None or not _is_whole(before):
        return
    filters = list(_filters(_contents(before)))
    narrow = [_page(prober, f"size=2000&{query}") for query, _ in filters]
    after = _page(prober, "size=2000")
    rows = _contents(after) if after is not None else []
    stayed = [row for row in _contents(before) if row in rows]
    for (query, matches), page in zip(filters, narrow, strict=True):
        if page is not None:
            view = _ids(page)
            left_out = [row["id"] for row in stayed if matches(row) and row.get("id") not in view]
            wrong = f"{query} leaves out {left_out[:5]}, which it is for."
            prober.tell(page, [check("filter.too-narrow", not left_out, "$.data.contents", wrong)])


def _filters(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Matches]]:
    """Yield filters with their predicates: by status, first name and first cluster."""
    for status in ("SUCCESSFUL", "FAILED", "RUNNING"):
        yield f"status={status}", lambda row, s=status: row.get("status") == s  # type: ignore[misc]
    names = [row["name"] for row in rows if isinstance(row.get("name"), str)]
    for name in names[:1]:
        query = f"name={quote(name, safe='')}"
        yield query, lambda row, n=name: row.get("name") == n  # type: ignore[misc]
    clusters = [id for row in rows if (id := _cluster(row)) is not None]
    for cluster in clusters[:1]:
        query = f"clusterId={cluster}"
        yield query, lambda row, c=cluster: _cluster(row) == c  # type: ignore[misc]


def _cluster(row: dict[str, Any]) -> int | None:
    actual = row.get("cluster")
    return whole(actual.get("id")) if isinstance(actual, dict) else None


def _page(prober: Prober, query: str) -> Subject | None:
    exchange: Exchange | None = prober.ask(
        Probe("a page", "GET", f"{TASKS}?{query}", OK, is_wrong=False)
    )
    if exchange is None or exchange.status != 200:
        return None
    return Subject(exchange, prober.contract)


def _rows(prober: Prober, query: str) -> list[Any]:
    page = _page(prober, query)
    return _ids(page) if page is not None else []


def _contents(page: Subject) -> list[dict[str, Any]]:
    return objects(page.data.get("contents")) if isinstance(page.data, dict) else []


def _ids(page: Subject) -> list[Any]:
    return [row.get("id") for row in _contents(page)]
