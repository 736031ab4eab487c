"""The probes of obshell: ids, spellings, headers, details, operators and bodies.

The ids are the target's own or a cluster's, since the target would contact any other agent. The expected responses were
recorded from obshell 4.5.0.0 (tests/data/obshell); those of a server without a quirk are expected as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

import orjson

from oceanmock.checks import OK, REFUSED, UNAUTHORIZED, UNKNOWN, Probe, Probes, Statuses, Subject, objects
from oceanmock.observations import Observation, ProbeTarget, Required, missing_rows
from oceanmock.obshell.api import (
    API,
    ERR_CODES_SINCE,
    OBPROXY_SINCE,
    PREFIX,
    SINCE,
    TASK_PREFIX,
    IdKind,
    contract_version,
    local_id,
)
from oceanmock.obshell.auth import OPEN_ROUTES, Sealed
from oceanmock.obshell.checks import REASONS
from oceanmock.obshell.conformance import CLUSTER_AGENT, FINAL

LARGEST_NUMBER: Final = 9223372036854775807  # a number that no item has
NO_HEADER: Final = frozenset({400, 401})  # the statuses without a header: 400, as recorded, or 401 without the quirk

LIST_STATUSES: Final = {
    **dict.fromkeys(("dags/agent", "dag/unfinish", "dag/agent/unfinish", "dag/agent/main_dags"), OK),
    **dict.fromkeys(("dag/maintain/agent", "dag/maintain/agents"), OK | UNKNOWN),
    **dict.fromkeys(("dags/ob", "dag/maintain/ob", "dag/ob/unfinish"), OK | REFUSED | UNKNOWN),
}
"""The lists and their statuses: an agent outside a cluster may refuse, or return no rows."""
STORES: Final = {"agent": "23", "ob": "1"}  # the stores of dags, each with what the ids of its dags begin with
TEMPLATES: Final = ("dag/{}", "node/{}", "sub_task/{}", "sub_task/{}/logs")
INVALID: Final = ("Task.GenericID.Invalid",)
NOT_FOUND: Final = ("Task.NotFound",)
INVALID_IDS: Final = (
    *("abc", "maintain", "0", "1", "2", "3", "6123", "1x", "221307064330288", "2x130706433028861"),
    *("29999999999028861", "1" + "9" * 30, "3" + "0" * 44, "3" + "0" * 38 + "1028861", "9" * 400),
    *("null", "{}", " ", "é", "\x00"),
)
"""Invalid generic ids, as recorded in lone.json; none of them has an address."""
INVALID_TAILS: Final = ("", "x", "1x", " 1", "0x1", "9" * 22)
NOT_UTF8: Final = ("%FF", "%C3%28", "%00")
SPELLINGS: Final = ("true", "True", "TRUE", "t", "T", "1", "false", "False", "F", "f", "0", "")
SPELLINGS_OF_LISTS: Final = ("true", "False", "0", "")
NO_BOOLEANS: Final = ("maybe", "2", "tRUE", "yes", "%FF")
UNKNOWN_OPERATORS: Final = ("NOPE", "RUN", " RETRY ", "RETRY\u0000", "R\u00c9TRY")
BAD_BODIES: Final = (
    *(b"{}", b'{"operator":""}', b'{"operator":null}', b'{"operator":1}', b'{"operator":["RETRY"]}'),
    *(b'{"operator":{}}', b"[]", b'"RETRY"', b'{"operator":', b" ", b'{"operator":"NOPE"} x', b"\xff\xfe"),
    b"[" * 5000 + b"]" * 5000,
)
LONG_AGO: Final = 10 * 365 * 86400  # seconds; no server's clock is slower
NOISE: Final = "bm9pc2U="
WRONG_HEADERS: Final = ("!!!", "e30=", "A" * 172)

REQUIRED: Final = Required(
    log="getFullSubTaskLogs",
    to_read="Let the target have a dag of its own to read, with all its parts. What a FOLLOWER "
    "lists is its master's: ask that one.",
    targets={
        "dagHandler": (
            "a FAILED dag that can be retried, or a running one that can be cancelled",
            "a dag that is not FAILED",
        ),
        "nodeHandler": ("a FAILED dag, the failed node of which can be passed", "a dag that is not FAILED"),
    },
    # A server that never had maintenance fails in the last two (ob/agent/service/task/dag.go:155-161), which is a new
    # or a known finding.
    either={
        "getObLastMaintenanceDag": OK | UNKNOWN,
        "getAgentLastMaintenanceDag": OK | UNKNOWN,
        "getAllAgentsLastMaintenanceDag": OK | {500},
        "getAgentMainDags": OK | {500},
    },
    # ob/agent/executor/task/dag.go
    unreachable={
        "agent": {"getAllClusterDags": OK, "getClusterUnfinishDags": OK, "getObLastMaintenanceDag": OK | UNKNOWN}
    },
    since=SINCE,
)


def ids_to_refuse(target: ProbeTarget) -> Sequence[str]:
    """Return unknown and invalid ids, for the operators that must be refused."""
    return (*_unknown_ids(target), *INVALID_IDS[:4])


def list_targets(identity: str) -> Sequence[str]:
    """Return the lists that are searched for an agent's dags; only one with OceanBase has dags/ob."""
    names = ("dag/unfinish", "dags/agent", *(("dags/ob",) if identity == CLUSTER_AGENT else ()))
    return [f"{TASK_PREFIX}/{name}?show_details=false" for name in names]


def probes(target: ProbeTarget) -> Probes:
    """Yield every probe; operators only if the run writes, and only those that must be refused."""
    yield from _open(target)
    yield from _ids(target)
    yield from _details(target.items)
    yield from _headers(target)
    yield from _passwords(target)
    yield from _reads(target.items, version=target.server.version)
    for name in OPEN_ROUTES:
        yield Probe(f"{name} again", "GET", f"{PREFIX}/{name}", OK, auth=None, is_wrong=False)
    yield from unlisted(target)
    if target.writes:
        yield from _unknown_operations(target)
        yield from _operators(target.own)
        for method in ("PUT", "PATCH", "DELETE"):
            for id in _unknown_ids(target):
                what, path = f"{method} of a dag", f"{TASK_PREFIX}/dag/{id}"
                yield Probe(what, method, path, _unrouted(target), accepted="method.accepted")


def _unknown_ids(target: ProbeTarget) -> tuple[str, ...]:
    return (_own_id(target, LARGEST_NUMBER),) if target.server.own_address is not None and not target.is_spared else ()


def _unrouted(target: ProbeTarget) -> Statuses:
    """Return the statuses of a path or a method without a route; before 4.3.1 it was 400 (agent/api/agent_route.go)."""
    return UNKNOWN if contract_version(target.server.version) >= ERR_CODES_SINCE else REFUSED


def _own_id(target: ProbeTarget, number: int | str, kind: IdKind = "local") -> str:
    """Return an id with the target's address, and with a number or a text in its place."""
    ip, port = target.server.own_address or ("127.0.0.1", 1)
    return local_id(0, ip=ip, port=port, kind=kind)[:-1] + str(number)


def _get(what: str, path: str, statuses: Statuses, *codes: str, wrong: bool = True) -> Probe:
    return Probe(what, "GET", f"{TASK_PREFIX}/{path}", statuses, codes, is_wrong=wrong)


def _open(target: ProbeTarget) -> Iterator[Probe]:
    """Yield reads of open paths without a header, and with an undecryptable one, which must be refused."""
    for name in OPEN_ROUTES:
        path, headers = f"{PREFIX}/{name}", {"X-OCS-Header": NOISE}
        yield Probe(name, "GET", path, OK, auth=None, is_wrong=False)
        what = f"{name} with a header that cannot be decrypted"
        yield Probe(what, "GET", path, UNAUTHORIZED, auth=None, headers=headers)
    yield _get("an unknown path", "nothing/at/all", _unrouted(target), "Common.NotFound")


def _ids(target: ProbeTarget) -> Iterator[Probe]:
    unknown = _unknown_ids(target)
    for template in TEMPLATES:
        missing = UNKNOWN | OK if template.endswith("logs") else UNKNOWN  # a quirk returns empty logs
        for id in INVALID_IDS:
            yield _get(f"the id {id[:40]!r}", template.format(quote(id, safe="")), REFUSED, *INVALID)
        for raw in NOT_UTF8:
            yield _get(f"the id {raw}", template.format(raw), REFUSED, *INVALID)
        yield _get("an id of the cluster", template.format(f"1{LARGEST_NUMBER}"), missing, *NOT_FOUND)
        for id in unknown:
            yield _get("an unknown id", template.format(id), missing, *NOT_FOUND)
        for tail in INVALID_TAILS if unknown else ():
            path = template.format(quote(_own_id(target, tail), safe=""))
            yield _get(f"an id that ends in {tail[:20]!r}", path, REFUSED, *INVALID)
        if unknown:
            path = template.format(_own_id(target, LARGEST_NUMBER, "obproxy"))
            yield _get("an id of obproxy", path, UNAUTHORIZED | missing)


def _details(dags: Sequence[Observation]) -> Iterator[Probe]:
    """Yield every spelling of show_details that Go accepts, and some that it does not."""
    items = {item.kind: item for dag in reversed(dags) for item in reversed([*dag.all()])}
    for path in (*LIST_STATUSES, *(f"{kind}/{item.id}" for kind, item in items.items())):
        is_list = path in LIST_STATUSES
        allowed = LIST_STATUSES.get(path, OK)
        for text in SPELLINGS_OF_LISTS if is_list else SPELLINGS:
            what = f"show_details={text}"
            yield _get(what, f"{path}?{what}", allowed, wrong=False)
        odd = REFUSED | allowed if is_list or path.startswith("sub_task") else REFUSED
        for text in NO_BOOLEANS[: 1 if is_list else 5]:
            yield _get(f"show_details={text}", f"{path}?show_details={text}", odd)
        yield _get("an unknown parameter", f"{path}?other=1", allowed, wrong=False)


def _reads(dags: Sequence[Observation], *, version: str) -> Iterator[Probe]:
    """Yield two reads of every item by itself and of the lists, and of dags by an id with a leading zero."""
    for _ in range(2):
        for dag in dags[:8]:
            yield _get("a dag", f"dag/{dag.id}", OK, wrong=False)
            for node in dag.parts[:4]:
                yield _get("a node", f"node/{node.id}", OK, wrong=False)
                for sub_task in node.parts[:2]:
                    yield _get("a sub task", f"sub_task/{sub_task.id}", OK, wrong=False)
                    yield _get("a log", f"sub_task/{sub_task.id}/logs", OK, wrong=False)
        for path, statuses in LIST_STATUSES.items():
            yield _get("a list", path, statuses, wrong=False)
    if contract_version(version) < OBPROXY_SINCE:
        return
    for dag in [dag for dag in dags[:3] if dag.id[0] == "2"]:
        what, rule = "a dag by its id with a leading zero", "id.spelling"
        yield Probe(what, "GET", f"{TASK_PREFIX}/dag/{dag.id[:16]}0{dag.id[16:]}", UNKNOWN, NOT_FOUND, accepted=rule)


def unlisted(target: ProbeTarget) -> Probes:
    """Check that the lists of all dags have the known ones, and the lists of unfinished dags those that run.

    Only dags that have not changed in between count. A FOLLOWER forwards the request, and so lists its master's dags.
    """
    for store, ids in STORES.items():
        known = [dag.id for dag in target.items if dag.id[:1] in ids]
        every, unfinished, all_unfinished = f"dags/{store}", f"dag/{store}/unfinish", "dag/unfinish"
        if target.server.identity == "FOLLOWER" or not known:
            continue
        pages, rows = dict[str, Subject](), defaultdict[str, dict[str, Any]](dict)
        for name in (every, unfinished, all_unfinished) * 2:
            page = yield _get("a list", f"{name}?show_details=false", LIST_STATUSES[name], wrong=False)
            if page is not None and page.status == 200 and isinstance(page.data, dict):
                now = {str(row.get("id")): row for row in objects(page.data.get("contents"))}
                before = rows[name] if name in pages else now
                pages[name] = page
                rows[name] = {id: row for id, row in now.items() if id[:1] in ids and before.get(id) == row}
        running = [id for id, row in rows[every].items() if row.get("state") not in FINAL]
        pairs = ((every, known), (unfinished, running), (unfinished, rows[all_unfinished]), (all_unfinished, running))
        for name, others in (*pairs, (all_unfinished, rows[unfinished])):
            if name in pages:
                yield pages[name], missing_rows(list(rows[name].values()), others)


def _headers(target: ProbeTarget) -> Iterator[Probe]:
    """Yield requests without a header and with undecryptable ones, for an unknown id if it may be sent."""
    id = INVALID_IDS[0] if target.is_spared else (*_unknown_ids(target), f"1{LARGEST_NUMBER}")[0]
    ids = {item.kind: item.id for dag in target.items for item in dag.all()} if target.is_spared else {}
    requests = [("GET", f"{TASK_PREFIX}/dag/unfinish", value) for value in WRONG_HEADERS]
    for route in API.routes:
        kind = [*route.ids][-1] if route.ids else ""
        method, path = "POST" if route.changes else "GET", route.path.replace("{id}", ids.get(kind, id))
        if path.startswith(TASK_PREFIX) and (method == "GET" or target.writes):
            what, rule = "a request without a security header", "auth.missing-accepted"
            yield Probe(what, method, path, NO_HEADER, accepted=rule, auth=None)
            requests.append((method, path, NOISE))
    codes, rule = ("Security.Authentication.Header.DecryptFailed",), "auth.wrong-accepted"
    for method, path, value in requests:
        what, headers = f"a security header of {value[:20]}", {"X-OCS-Header": value}
        yield Probe(what, method, path, UNAUTHORIZED, codes, accepted=rule, auth=None, headers=headers)


def _passwords(target: ProbeTarget) -> Iterator[Probe]:
    """Yield one wrong password, an expired header, and a header sealed for another request."""
    own = target.server.auth
    # A SINGLE agent checks no password, unless it has one of its own.
    if not isinstance(own, Sealed) or target.server.identity in ("", "SINGLE", "FOLLOWER"):
        return

    def elsewhere(request: Any) -> Any:
        """Return the request with the header of another request."""
        intended = request.url
        request.url = f"{intended}?show_details=true"
        sealed = own(request)
        sealed.url = intended
        return sealed

    agent = None if own.agent_password is None else "not the password"
    late = Sealed(own.password, own.agent_password, lifetime=-LONG_AGO, verify=own.verify)
    attempts: list[tuple[str, Any, tuple[str, ...]]] = [
        ("a wrong password", Sealed("not the password", agent, verify=own.verify), ()),
        ("a header that has expired", late, ("Security.Authentication.Expired",)),
        ("a header of another request", elsewhere, ("Security.Authentication.Header.UriMismatch",)),
    ]
    if not own.password:  # then obshell does not check the time
        del attempts[1]
    path, rule = f"{TASK_PREFIX}/dag/unfinish", "auth.wrong-accepted"
    for what, auth, codes in attempts:
        yield Probe(what, "GET", path, UNAUTHORIZED, codes, accepted=rule, auth=auth)


def _post(what: str, path: str, body: Any, code: str = "", statuses: Statuses = REFUSED) -> Probe:
    """Return a request that must be refused; ``body`` is an operator, or the encoded body."""
    body = orjson.dumps({"operator": body}) if isinstance(body, str) else body
    codes, rule = (code,) if code else (), "call.illegal-accepted"
    return Probe(what, "POST", f"{TASK_PREFIX}/{path}", statuses, codes, rule, body=body)


def _unknown_operations(target: ProbeTarget) -> Iterator[Probe]:
    for id in _unknown_ids(target):
        yield _post("RETRY of an unknown dag", f"dag/{id}", "RETRY", NOT_FOUND[0], UNKNOWN)
        yield _post("PASS of an unknown node", f"node/{id}", "PASS", NOT_FOUND[0], UNKNOWN)
        yield _post("an unknown operator on an unknown node", f"node/{id}", "NOPE", "Task.Node.Operator.NotSupport")
        for body in BAD_BODIES:
            for path in (f"dag/{id}", f"node/{id}"):
                yield _post(f"the body {body[:30]!r}", path, body, "Common.BindJsonFailed")
    for id in INVALID_IDS[:4]:
        yield _post(f"RETRY of {id}", f"dag/{id}", "RETRY", INVALID[0])
        yield _post(f"PASS of {id}", f"node/{id}", "PASS", INVALID[0])


def _operators(dags: Sequence[Observation]) -> Iterator[Probe]:
    """Yield unknown operators, an id in the body, and operators in lower case, which Go reads too."""
    prefix, of_node = "Task.Dag.Operator", "Task.Node.Operator"
    for dag in dags[:4]:
        for operator in UNKNOWN_OPERATORS:
            yield _post(f"the operator {operator!r}", f"dag/{dag.id}", operator, f"{prefix}.NotSupport")
        for node in dag.parts[:1]:
            for operator in ("RETRY", "NOPE"):
                yield _post(f"{operator} of a node", f"node/{node.id}", operator, f"{of_node}.NotSupport")
        foreign = orjson.dumps({"operator": "NOPE", "id": f"1{LARGEST_NUMBER}"})
        yield _post("an id in the body", f"dag/{dag.id}", foreign)
    for dag in [dag for dag in dags if dag.state == "SUCCEED"][:1]:
        for operator, (reason, *_) in REASONS["Dag"].items():
            what = f"{operator.lower()} of a dag that is SUCCEED"
            yield _post(what, f"dag/{dag.id}", operator.lower(), f"{prefix}.{reason}")
