"""The probes of obshell: ids, spellings, headers, details, operators and bodies.

The ids are the target's own or a cluster's, never another agent's: it would contact that agent. The
expected responses were recorded from obshell 4.5.0.0 (tests/data/obshell); those of a server
without a quirk are expected as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import orjson

from oceanmock.checks import Probe, Subject, objects
from oceanmock.conformance.model import Options
from oceanmock.conformance.probes.asking import Prober, missing
from oceanmock.conformance.probes.known import Known, KnownIds
from oceanmock.conformance.target import Target
from oceanmock.credentials import Sealed
from oceanmock.obshell.ids import IdKind, local_id

TASK: Final = "/api/v1/task"
NOBODYS: Final = 9223372036854775807
OK: Final = frozenset({200})
REFUSED: Final = frozenset({400})
UNKNOWN: Final = frozenset({404})
UNAUTHORIZED: Final = frozenset({401})
NOT_LET_IN: Final = frozenset({400, 401})
"""The statuses without a header: 400, as recorded, or 401 without the quirk."""

OPEN: Final = ("info", "secret", "time", "git-info", "status")
LISTS: Final = (
    "dags/agent",
    "dags/ob",
    "dag/maintain/agent",
    "dag/maintain/agents",
    "dag/maintain/ob",
    "dag/unfinish",
    "dag/ob/unfinish",
    "dag/agent/unfinish",
    "dag/agent/main_dags",
)
OF_THE_CLUSTER: Final = frozenset({"dags/ob", "dag/ob/unfinish", "dag/maintain/ob"})
KINDS: Final = ("dag/{}", "node/{}", "sub_task/{}", "sub_task/{}/logs")
INVALID: Final = ("Task.GenericID.Invalid",)
NOT_FOUND: Final = ("Task.NotFound",)

INVALID_IDS: Final = (
    "abc",
    "maintain",
    "0",
    "1",
    "2",
    "3",
    "6123",
    "1x",
    "1" + "9" * 30,
    "221307064330288",
    "2x130706433028861",
    "29999999999028861",
    "300000000000000000000000000000000000000000000",
    "3000000000000000000000000000000000000001028861",
    "null",
    "{}",
    " ",
    "é",
    "\x00",
    "9" * 400,
)
"""Invalid generic ids, by lone.json; none of them names an address."""
INVALID_TAILS: Final = ("", "x", "1x", " 1", "0x1", "9" * 22)
RAW_IDS: Final = ("%FF", "%C3%28", "%00")
SPELLINGS: Final = ("true", "True", "TRUE", "t", "T", "1", "false", "False", "F", "f", "0", "")
SPELLINGS_OF_LISTS: Final = ("true", "False", "0", "")
UNREADABLE: Final = ("maybe", "2", "tRUE", "yes", "%FF")
OPERATORS: Final = ("ROLLBACK", "RETRY", "CANCEL", "PASS")
UNKNOWN_OPERATORS: Final = ("NOPE", "RUN", " RETRY ", "RETRY\u0000", "R\u00c9TRY")
BAD_BODIES: Final = (
    b"{}",
    b'{"operator":""}',
    b'{"operator":null}',
    b'{"operator":1}',
    b'{"operator":["RETRY"]}',
    b'{"operator":{}}',
    b"[]",
    b'"RETRY"',
    b'{"operator":',
    b" ",
    b'{"operator":"NOPE"} x',
    b"\xff\xfe",
    b"[" * 5000 + b"]" * 5000,
)
BIND: Final = ("Common.BindJsonFailed",)
LONG_AGO: Final = 10 * 365 * 86400
"""A span in seconds that is longer than any server's clock is slow."""
NOISE: Final = "bm9pc2U="
WRONG_HEADERS: Final = (NOISE, "!!!", "e30=", "A" * 172)


def probe_obshell(prober: Prober, options: Options, known: KnownIds) -> None:
    """Send every probe of obshell; operators only with --write, and only to be refused."""
    client, target = prober.client, prober.client.target
    nobodys = _nobodys(target)
    for id in (*nobodys, *INVALID_IDS[:4]):
        client.may_change(id)  # nothing has these ids; for the operators that have to be refused
    prober.ask_all(_open())
    prober.ask_all(_ids(nobodys, target))
    prober.ask_all(_details(known))
    prober.ask_all(_headers(nobodys, writes=options.write))
    prober.ask_all(_passwords(target))
    prober.ask_all(_read_all(known))
    ask_whether_listed(prober, known)
    if options.write:
        prober.ask_all(_operators_of_nothing(nobodys))
        prober.ask_all(_operators(known, options))
        prober.ask_all(_methods(nobodys))


def _nobodys(target: Target) -> tuple[str, ...]:
    """Return an unknown id of the agent itself, if its address is known."""
    if target.own_address is None:
        return ()
    return (_own(target, NOBODYS),)


def _own(target: Target, number: int | str, kind: IdKind = "local") -> str:
    """Return an id of the target's own with a number, or with a text in its place."""
    ip, port = target.own_address or ("127.0.0.1", 1)
    return local_id(0, ip=ip, port=port, kind=kind)[:-1] + str(number)


# --- reads ----------------------------------------------------------------------------------------


def _get(what: str, path: str, statuses: frozenset[int], *codes: str, wrong: bool = True) -> Probe:
    return Probe(what, "GET", f"{TASK}/{path}", statuses, codes, is_wrong=wrong)


def _open() -> Iterator[Probe]:
    """Yield reads without credentials; there, too, an undecryptable header is refused."""
    for name in OPEN:
        path = f"/api/v1/{name}"
        yield Probe(f"{name}", "GET", path, OK, auth=None, is_wrong=False)
        what = f"{name} with a header that cannot be decrypted"
        yield Probe(what, "GET", path, UNAUTHORIZED, auth=None, headers={"X-OCS-Header": NOISE})
    yield Probe("an unknown path", "GET", f"{TASK}/nothing/at/all", UNKNOWN, ("Common.NotFound",))


def _ids(nobodys: tuple[str, ...], target: Target) -> Iterator[Probe]:
    """Yield reads of invalid and of unknown ids."""
    for kind in KINDS:
        may_be_empty = UNKNOWN | OK if kind.endswith("logs") else UNKNOWN  # a quirk of its own
        for id in INVALID_IDS:
            path = kind.format(quote(id, safe=""))
            yield _get(f"the id {id[:40]!r}", path, REFUSED, *INVALID)
        for raw in RAW_IDS:
            yield _get(f"the id {raw}", kind.format(raw), REFUSED, *INVALID)
        yield _get("an id of the cluster", kind.format(f"1{NOBODYS}"), may_be_empty, *NOT_FOUND)
        for id in nobodys:
            yield _get("an id of nothing", kind.format(id), may_be_empty, *NOT_FOUND)
        if nobodys:
            for tail in INVALID_TAILS:
                path = kind.format(quote(_own(target, tail), safe=""))
                yield _get(f"an id that ends in {tail[:20]!r}", path, REFUSED, *INVALID)
            path = kind.format(_own(target, NOBODYS, "obproxy"))
            yield _get("an id of obproxy", path, UNAUTHORIZED | may_be_empty)


def _details(known: KnownIds) -> Iterator[Probe]:
    """Yield every spelling of show_details that Go accepts, and some that it does not."""
    paths = [*LISTS]
    for kind in ("dag", "node", "sub_task"):
        paths += [f"{kind}/{id}" for id in known.ids(kind)[:1]]
    for path in paths:
        allowed = _of_list(path) if path in LISTS else OK
        for text in SPELLINGS_OF_LISTS if path in LISTS else SPELLINGS:
            what = f"show_details={text}"
            yield _get(what, f"{path}?show_details={text}", allowed, wrong=False)
        for text in UNREADABLE[: 1 if path in LISTS else 5]:
            odd = REFUSED | allowed if path in LISTS or path.startswith("sub_task") else REFUSED
            yield _get(f"show_details={text}", f"{path}?show_details={text}", odd)
        yield _get("a parameter nobody knows", f"{path}?other=1", allowed, wrong=False)


def _of_list(path: str) -> frozenset[int]:
    """Return the statuses of a list: an agent outside a cluster refuses, or has no rows."""
    if path in OF_THE_CLUSTER:
        return frozenset({200, 400, 404})
    return frozenset({200, 404}) if "maintain/agent" in path else OK


def _read_all(known: KnownIds) -> Iterator[Probe]:
    """Yield reads of every known item, by itself and in its lists, twice."""
    for _ in range(2):
        for dag in known.tasks[:8]:
            yield _get("a dag", f"dag/{dag.id}", OK, wrong=False)
            for node in dag.parts[:4]:
                yield _get("a node", f"node/{node.id}", OK, wrong=False)
                for sub_task in node.parts[:2]:
                    yield _get("a sub task", f"sub_task/{sub_task.id}", OK, wrong=False)
                    yield _get("a log", f"sub_task/{sub_task.id}/logs", OK, wrong=False)
        for path in LISTS:
            yield _get("a list", path, _of_list(path), wrong=False)
    for dag in known.tasks[:3]:
        if dag.id[0] == "2":
            zero = f"{dag.id[:16]}0{dag.id[16:]}"
            yield Probe(
                "a dag by its id with a leading zero",
                "GET",
                f"{TASK}/dag/{zero}",
                UNKNOWN,
                NOT_FOUND,
                accepted="id.spelling",
            )


def ask_whether_listed(prober: Prober, known: KnownIds) -> None:
    """Check that the list of the agent's own dags has the known ones.

    A FOLLOWER forwards the request, and so lists its master's dags.
    """
    if prober.client.target.identity == "FOLLOWER":
        return
    exchange = prober.ask(_get("a list", "dags/agent?show_details=false", OK, wrong=False))
    if exchange is not None and exchange.status == 200:
        subject = Subject(exchange, prober.contract)
        contents = subject.data.get("contents") if isinstance(subject.data, dict) else None
        view = {str(item.get("id")) for item in objects(contents)}
        own = [dag.id for dag in known.tasks if dag.id[:1] in "23"]
        prober.tell(subject, [missing(view, own)])


# --- credentials ----------------------------------------------------------------------------------


def _guarded(nobodys: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield each operation that needs credentials, on an unknown id."""
    id = nobodys[0] if nobodys else f"1{NOBODYS}"
    yield from (("GET", f"{TASK}/{path}") for path in LISTS)
    yield from (("GET", f"{TASK}/{kind.format(id)}") for kind in KINDS)
    yield from (("POST", f"{TASK}/{kind.format(id)}") for kind in KINDS[:2])


def _headers(nobodys: tuple[str, ...], *, writes: bool) -> Iterator[Probe]:
    """Yield requests without a header, and with undecryptable headers."""
    for method, path in _guarded(nobodys):
        if method == "POST" and not writes:
            continue
        yield Probe(
            "a request without a security header",
            method,
            path,
            NOT_LET_IN,
            accepted="auth.missing-accepted",
            auth=None,
        )
        yield _with_header(method, path, NOISE)
    for value in WRONG_HEADERS[1:]:
        yield _with_header("GET", f"{TASK}/dag/unfinish", value)


def _with_header(method: str, path: str, value: str) -> Probe:
    return Probe(
        f"a security header of {value[:20]}",
        method,
        path,
        UNAUTHORIZED,
        ("Security.Authentication.Header.DecryptFailed",),
        accepted="auth.wrong-accepted",
        auth=None,
        headers={"X-OCS-Header": value},
    )


def _passwords(target: Target) -> Iterator[Probe]:
    """Yield one wrong password, an expired header, and a header sealed for another request.

    A SINGLE agent checks no password, unless it has one of its own.
    """
    own: Any = target.auth
    path = f"{TASK}/dag/unfinish"
    if not isinstance(own, Sealed) or target.identity in ("", "SINGLE", "FOLLOWER"):
        return
    agent = None if own.agent_password is None else "not the password"
    wrong = Sealed("not the password", agent, verify=own.verify)
    yield Probe(
        "a wrong password",
        "GET",
        path,
        UNAUTHORIZED,
        accepted="auth.wrong-accepted",
        auth=wrong,
    )
    if own.password:  # with an empty one the time is not checked
        late = Sealed(own.password, own.agent_password, lifetime=-LONG_AGO, verify=own.verify)
        yield Probe(
            "a header that has expired",
            "GET",
            path,
            UNAUTHORIZED,
            ("Security.Authentication.Expired",),
            accepted="auth.wrong-accepted",
            auth=late,
        )
    yield Probe(
        "a header of another request",
        "GET",
        path,
        UNAUTHORIZED,
        ("Security.Authentication.Header.UriMismatch",),
        accepted="auth.wrong-accepted",
        auth=_Elsewhere(own),
    )


class _Elsewhere:
    """Credentials that were sealed for another path."""

    def __init__(self, own: Sealed) -> None:
        self._own = own

    def __call__(self, request: Any) -> Any:
        """Return the request with the header of another request."""
        intended = request.url
        request.url = f"{intended}?show_details=true"
        sealed = self._own(request)
        sealed.url = intended
        return sealed


# --- operators that have to be refused ------------------------------------------------------------


def _body(operator: str) -> bytes:
    return orjson.dumps({"operator": operator})


def _post(what: str, path: str, body: bytes, statuses: frozenset[int], *codes: str) -> Probe:
    return Probe(
        what, "POST", f"{TASK}/{path}", statuses, codes, "call.illegal-accepted", body=body
    )


def _operators_of_nothing(nobodys: tuple[str, ...]) -> Iterator[Probe]:
    """Yield operators on unknown and on invalid ids."""
    for id in nobodys:
        yield _post("RETRY of nothing", f"dag/{id}", _body("RETRY"), UNKNOWN, *NOT_FOUND)
        yield _post("PASS of nothing", f"node/{id}", _body("PASS"), UNKNOWN, *NOT_FOUND)
        what = "an unknown operator on an unknown node"
        unsupported = "Task.Node.Operator.NotSupport"
        yield _post(what, f"node/{id}", _body("NOPE"), REFUSED, unsupported)
        for body in BAD_BODIES:
            what = f"the body {body[:30]!r}"
            yield _post(what, f"dag/{id}", body, REFUSED, *BIND)
            yield _post(what, f"node/{id}", body, REFUSED, *BIND)
    for id in INVALID_IDS[:4]:
        yield _post(f"RETRY of {id}", f"dag/{id}", _body("RETRY"), REFUSED, *INVALID)
        yield _post(f"PASS of {id}", f"node/{id}", _body("PASS"), REFUSED, *INVALID)


def _operators(known: KnownIds, options: Options) -> Iterator[Probe]:
    """Yield unknown operators, and those that a final state forbids."""
    ours = [dag for dag in known.tasks if dag.id in options.tasks]
    for dag in ours[:4]:
        for operator in UNKNOWN_OPERATORS:
            what, code = f"the operator {operator!r}", "Task.Dag.Operator.NotSupport"
            yield _post(what, f"dag/{dag.id}", _body(operator), REFUSED, code)
        for node in dag.parts[:1]:
            for operator in ("RETRY", "NOPE"):
                what, code = f"{operator} of a node", "Task.Node.Operator.NotSupport"
                yield _post(what, f"node/{node.id}", _body(operator), REFUSED, code)
        foreign = orjson.dumps({"operator": "NOPE", "id": f"1{NOBODYS}"})
        yield _post("an id in the body", f"dag/{dag.id}", foreign, REFUSED)
    for dag in (dag for dag in ours if dag.state == "SUCCEED"):
        yield from _of_what_succeeded(dag)
    for dag in (dag for dag in ours if dag.state == "FAILED"):
        code = "Task.Dag.Operator.CancelFinishedDag"
        yield _post("CANCEL of a FAILED dag", f"dag/{dag.id}", _body("CANCEL"), REFUSED, code)
        for node in [item for item in dag.parts if item.state == "SUCCEED"][:1]:
            what, code = "PASS of a node that SUCCEED", "Task.Node.Operator.PassNotFailedNode"
            yield _post(what, f"node/{node.id}", _body("PASS"), REFUSED, code)


_REASONS: Final = {
    "ROLLBACK": "RollbackNotFailedDag",
    "RETRY": "RetryNotFailedDag",
    "CANCEL": "CancelFinishedDag",
    "PASS": "PassNotFailedDag",
}


def _of_what_succeeded(dag: Known) -> Iterator[Probe]:
    for operator, reason in _REASONS.items():
        for spelt in (operator, operator.lower()):
            what, code = f"{spelt} of a dag that is SUCCEED", f"Task.Dag.Operator.{reason}"
            yield _post(what, f"dag/{dag.id}", _body(spelt), REFUSED, code)
    for node in dag.parts[:1]:
        what, code = "PASS of a node of it", "Task.Node.Operator.PassNotFailedDag"
        yield _post(what, f"node/{node.id}", _body("PASS"), REFUSED, code)


def _methods(nobodys: tuple[str, ...]) -> Iterator[Probe]:
    """Yield unsupported methods: they are 404 here (HandleMethodNotAllowed is off)."""
    for method in ("PUT", "PATCH", "DELETE"):
        for id in nobodys:
            yield Probe(
                f"{method} of a dag",
                method,
                f"{TASK}/dag/{id}",
                UNKNOWN,
                accepted="method.accepted",
            )
