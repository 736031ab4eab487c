"""List the rules, check each response by itself, and list the responses that a run must receive.

Rule ids are ``family.rule``; reports and baselines refer to them, so a published id never gets another meaning. The
checks here apply to every API and keep no state. Rules on one API's data are in its ``checks.py``, rules on two
responses in ``history``, rules on particular requests in ``probes``. A response that does not come from the API (a
redirect, a request that is too long, a proxy whose server is down) is not checked.

A run that receives only 401 has no findings either. So each operation has required statuses: those of the contract,
without 403 (needs a second account), 405, 429, 500, and those that only a quirk returns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Final

import orjson

from oceanmock.apis import APIS, api_named
from oceanmock.checks import Check, CheckResult, Contract, Rule, RuleChecker, Subject, check, instant, whole
from oceanmock.conformance import ApiName, MissingResponse, Result, contract_for
from oceanmock.http.validation import Schema, Shape, resolve
from oceanmock.observations import SKEW, Members, Required, TargetKind, observations
from oceanmock.openapi import Operation

_CATALOGUE: Final = """
openapi/ocp.yaml, openapi/obshell.yaml
  answer.none  Every request is answered.
  answer.unforeseen  An answer is built so that it can be read at all.
  content-type  An answer has the media type that the contract names.
  header.missing  The headers that the contract requires are there.
  schema.required  A body has every member that the contract requires.
  schema.type  A value has the type that the contract gives it.
  schema.enum  A word is one of those that the contract lists.
  schema.undocumented  A body has no member that the contract does not have.
  schema.value  A value keeps the bounds, patterns and combinations of its schema.
  status.undocumented  A status is one that the contract names for the operation.
  status.server-error  A correct request is not answered with a 5xx status.
  hostile.500  An invalid request is not answered with a 5xx status.
  method.accepted  A method that a path does not have is refused.
  id.differs  The returned id matches the requested id.
  id.two-owners  A part is one of a single task or dag.
  id.vanished  A task, dag or part that existed is still found.
  views.differ  A part has the same values by itself as within its task or dag.
openapi: components.schemas.Envelope (ocp-express BaseResponse.java:26-45; obshell ob/agent/lib/http/response.go:35-43)
  body.json  A body is a JSON object.
  envelope.member  The envelope has all its members.
  envelope.status  The status in the body is that of HTTP.
  envelope.successful  successful is true exactly when the status is below 400.
  envelope.timestamp  The timestamp is an instant.
  envelope.went-back  A later answer of a server has no earlier timestamp.
  envelope.duration  The duration is in milliseconds, and no longer than the client waited.
  envelope.date  The timestamp is in the zone of the header Date, and the time of /time is the timestamp.
  envelope.error  There is an error exactly when the status is 400 or above.
  envelope.trace-id  The response to an accepted request has a traceId.
  envelope.trace-id-again  No two responses have the same traceId.
openapi: components.schemas.ApiError (ocp-express ErrorCodes.java; obshell ob/agent/errors/errorcode.go)
  error.message  An error has a message.
  error.code  The code of an error fits the reason of the refusal.
  error.code-differs  An unknown task always has the same code.
  error.status  The status of a refusal fits its reason.
openapi: security, securitySchemes
  auth.missing-accepted  A request without credentials is refused.
  auth.wrong-accepted  A request with wrong credentials is refused.
openapi/ocp.yaml: x-permission (ocp-doc 1100.task-management/300.retry-a-task.md)
  auth.forbidden-accepted  A request of a user without the permission is refused.
obshell ob/agent/engine/task/task_dto.go:280-382
  id.number  A generic id ends in its own number, and begins as that of the whole of which it is a part.
obshell ob/agent/executor/task/dag.go:122-125
  id.spelling  A generic id in another spelling is not found.
openapi: the times of tasks, dags and their parts (ocp-express SubtaskAccessor.java:54-83; obshell \
ob/agent/service/task/dag.go)
  time.format  A time is an instant.
  time.start-after-finish  Nothing ends before it began.
  time.finish  An ended item has a start and an end time, a running one no end time, and one that never ran has neither.
  time.future  No time is after the timestamp of the response.
  time.went-back  A time that is set again is that of the change: later than what was read before it.
ocp-express RunningTaskWorker.java:143-176; obshell ob/agent/service/task/dag.go:565-585
  time.not-renewed  A task or dag that ends again has a new end time.
openapi: runTime, execute_times (ocp-express TaskInstanceManagerImpl.java:96-117; obshell \
ob/agent/engine/scheduler/task_handler.go:163-212)
  count.never-run  Every run is counted; an item that never ran has none.
  count.went-down  A count of runs never goes down.
  count.not-bumped  A new run is counted.
  count.unasked  No run is counted that was not requested.
openapi: getSubtaskLog, getFullSubTaskLogs, task_logs (ocp-express RunnerFactory.java:62,146-153; obshell \
ob/agent/service/task/sub_task_log.go:86-93)
  log.presence  There is a log exactly when there has been a run.
  log.order  The lines of a log are in the order of the runs.
  log.rewritten  A log only grows: its lines stay, and new ones follow them.
  log.differs  A log has the lines and runs of its sub task, once that has ended.
  log.stale  A run leaves its lines in the log.
ocp-express RunningTaskWorker.java:86-119,143-176; obshell ob/agent/engine/scheduler/dag_handler.go:24-74, \
task_handler.go:74-235
  parent.out-of-step  A task, dag or node agrees with its parts once they are final.
  parent.empty  A task, dag or node that has ended has parts.
  parent.times  A part starts and ends within its task, dag or node.
  parent.stuck  A task or dag ends soon after all of its parts.
  parent.stage  The stage of a dag is the number of one of its nodes.
ocp-express TaskInstanceManagerImpl.java:160-174
  parent.prohibit-rollback  A subtask that has run and prohibits rollback prohibits that of its task.
openapi/ocp.yaml: SubtaskInstance; every public sample (ocp-doc 400.task-return-structure.md)
  graph.one-way  Upstreams and downstreams name each other.
  graph.series  The seriesIds of a task are 0 to n-1.
ocp-express AbstractTaskWorker.java:59-87; obshell ob/agent/engine/scheduler/dag_handler.go:24-74
  order.forward  Nothing runs before the items it depends on have succeeded.
ocp-express AbstractTaskWorker.java:89-115; obshell ob/agent/service/task/dag.go:603-694
  rollback.order  A rollback undoes the items in reverse order.
openapi/ocp.yaml: components.schemas.Page (ocp-express PaginatedResponse.java, CustomPage.java)
  paging.number  The returned page is the requested one.
  paging.size  A page has the requested size, or the largest that the server allows.
  paging.pages  The number of pages is that of the elements divided by the size.
  paging.rows  A page is full, but for the last, which has the rest.
  paging.total  Every page of a list has the same totals.
  paging.whole  The pages of a list hold every row once.
openapi: listTaskInstances and the lists of dags (ocp-doc 1100.task-management/100.query-the-task-list.md; obshell \
ob/agent/executor/task/dag.go)
  list.twice  Nothing is listed twice.
  list.order  Rows are in the requested order.
  list.missing  Every task or dag is listed.
  list.differs-from-detail  A list has the same values as the task or dag itself.
  filter.ignored  A list holds only rows that match the filter.
  filter.too-narrow  A filter leaves out no row that matches it.
obshell ob/agent/meta/agent.go, ob/agent/executor/agent
  agent.changed  An agent's address, version and process stay as they are until it starts anew.
obshell ob/param/task.go:19-21
  details.ignored  Nodes are present exactly when details are requested.
the tables of transitions (ocp-express TaskInstanceManagerImpl.java, SubtaskInstanceManagerImpl.java; obshell \
ob/agent/service/task/dag.go:283-532)
  transition.illegal  Every observed change is possible by the table of transitions.
  terminal.moved  An ended item does not change until an operation.
  call.unknown-accepted  An unknown operator is refused.
  call.illegal-accepted  An operation that the state does not allow is refused.
  call.legal-refused  An operation that the state allows is not refused for the state.
  call.wrong-effect  An accepted operation has the documented effect.
  call.no-effect  An accepted operation has an effect by the next read.
openapi: the ids, names and first times of tasks, dags and their parts (ocp-express SubtaskAccessor.java:54-61; \
obshell ob/agent/engine/task/task_dto.go:32-108)
  kept.changed  Fields that are set at creation never change.
ocp-express TaskInstanceManagerImpl.java:66-68
  call.prohibited-accepted  A prohibited rollback is refused.
obshell ob/agent/engine/task/node.go:105-148, ob/agent/service/task/dag.go:283-420
  call.flag-ignored  An operator is accepted only where the flags of the nodes allow it.
ocp-express SubtaskInstanceManagerImpl.java:59, JavaSubtaskRunner.java:32-108
  call.skip-runs  A skipped subtask does nothing: it does not fail, and takes no time.
"""
"""The source of each group of rules, and below it their ids and sentences."""


def _rules_in(catalogue: str) -> Iterator[Rule]:
    source = ""
    for line in catalogue.strip().splitlines():
        if line.startswith(" "):
            id, says = line.split(maxsplit=1)
            yield Rule(id, says, source)
        else:
            source = line


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {rule.id: rule for rule in _rules_in(_CATALOGUE)}
    | {id: rule for api in APIS for id, rule in api.checks.OWN_RULES.items()}
)
"""Every rule of the checks of responses, histories and probes, by its id."""


STATUSES_BELOW: Final = frozenset({204, 301, 302, 303, 304, 307, 308, 413, 414, 415, 431, 502, 503, 504})
"""The statuses of a web server in front of the API: redirects, no content, requests too large."""
REFUSED_BELOW: Final = re.compile(r"%(?:[01][0-9a-f]|25|2f|3b|5c|7f|[89a-f][0-9a-f])|[\[\]{}|\\^]", re.IGNORECASE)
"""The characters in a target that web servers and proxies may refuse: no plain text, or a possible other path."""
MAX_VIOLATIONS: Final = 20
RULES_BY_KEYWORD: Final = {
    "required": "schema.required",
    "type": "schema.type",
    "enum": "schema.enum",
    "format": "schema.type",
}
SENT_TO_LOG_IN: Final = frozenset({302, 303, 307})
"""The redirects that replace 401 where a proxy in front of the server authenticates."""


def all_rules(api: str = "") -> Mapping[str, Rule]:
    """Return every rule, by id, or those for servers of one API."""
    from oceanmock.conformance.fuzzing import RULES_OF_SCHEMATHESIS  # noqa: PLC0415 (schemathesis is slow)
    from oceanmock.conformance.stories import DIVERGES  # noqa: PLC0415 (needs requests)

    others = {id for item in APIS if api not in ("", item.name) for id in item.checks.OWN_RULES}
    rules = {**RULES, DIVERGES.id: DIVERGES, **RULES_OF_SCHEMATHESIS}
    return MappingProxyType({id: rule for id, rule in rules.items() if id not in others})


def is_of_the_api(subject: Subject) -> bool:
    """Return whether the API itself responded, not a web server in front of it, whose pages are no JSON."""
    api, exchange = api_named(subject.contract.api), subject.exchange
    is_refused_below = subject.status == 400 and REFUSED_BELOW.search(exchange.target)
    is_challenge = subject.status == 401 and exchange.header("www-authenticate") is not None
    is_page = subject.body is None and (is_refused_below or is_challenge or api.checks.is_explained(subject))
    if subject.status in STATUSES_BELOW or exchange.method in ("HEAD", "OPTIONS") or is_page:
        return False
    is_unknown = api.checks.RENDERS_UNKNOWN_PATHS and subject.path.startswith(f"{api.prefix}/")
    return subject.operation is not None or is_unknown


def headers(subject: Subject) -> Iterator[CheckResult]:
    """Check that a response has the contract's media type, and the headers that are required."""
    spec = subject.contract.spec
    responses = subject.operation.definition["responses"] if subject.operation else {}
    response = resolve(spec, responses.get(str(subject.status), {}))
    if is_of_the_api(subject):
        sent = (subject.exchange.header("content-type") or "").partition(";")[0].strip().lower()
        allowed = [name.lower() for name in response.get("content", {})] or ["application/json"]
        wrong = f"the answer is {sent or 'of no media type'}; it should be {' or '.join(allowed)}."
        yield check("content-type", sent in allowed, "header Content-Type", wrong)
    for name, header in response.get("headers", {}).items():
        if resolve(spec, header).get("required"):
            wrong = f"the header {name} is missing; every {subject.status} has it."
            yield check("header.missing", subject.exchange.header(name) is not None, f"header {name}", wrong)


def envelope(subject: Subject) -> Iterator[CheckResult]:
    """Check that the body is a JSON object, that its envelope is complete and fits the HTTP status.

    The traceId of a refusal may be empty, and an error needs a message.
    """
    if not is_of_the_api(subject):
        return
    body, status = subject.body, subject.status
    wrong = f"the body is no JSON object; it begins with {subject.exchange.response_body[:60]!r}."
    yield check("body.json", isinstance(body, dict), "$", wrong)
    if not isinstance(body, dict):
        return
    for name in subject.contract.spec["components"]["schemas"]["Envelope"]["required"]:
        yield check("envelope.member", name in body, f"$.{name}", f"the envelope has no {name}.")
    if (number := whole(body.get("status"))) is not None:
        wrong = f"status is {number} in an answer whose HTTP status is {status}."
        yield check("envelope.status", number == status, "$.status", wrong)
    if isinstance(body.get("successful"), bool):
        wrong = f"successful is {str(body['successful']).lower()} in an answer with {status}."
        yield check("envelope.successful", body["successful"] == (status < 400), "$.successful", wrong)
    if "timestamp" in body:
        wrong = f"timestamp is {body['timestamp']!r}, which is no instant."
        yield check("envelope.timestamp", instant(body["timestamp"]) is not None, "$.timestamp", wrong)
    if "duration" in body:
        duration = whole(body["duration"])
        wrong = f"duration is {body['duration']!r}, not a number of milliseconds."
        yield check("envelope.duration", duration is not None and duration >= 0, "$.duration", wrong)
    has_error = body.get("error") is not None
    wrong = f"an answer with {status} has {'an' if has_error else 'no'} error."
    yield check("envelope.error", has_error == (status >= 400), "$.error", wrong)
    trace = body.get("traceId")
    is_explained = api_named(subject.contract.api).checks.is_explained
    if isinstance(trace, str) and status < 400 and (trace or not is_explained(subject)):
        wrong = f"traceId is {trace!r}, by which no log can be searched."
        yield check("envelope.trace-id", bool(trace.strip()), "$.traceId", wrong)
    if subject.error:
        text = subject.error.get("message")
        passed = isinstance(text, str) and bool(text.strip())
        yield check("error.message", passed, "$.error.message", "the error has no message.")


def parts(subject: Subject) -> Iterator[CheckResult]:
    """Check that each task, dag and node that has ended has parts, and that they start and end within it."""
    if subject.status != 200:
        return
    api = api_named(subject.contract.api)
    members: Mapping[str, Members] = api.checks.HISTORY.members
    for item in observations(api, subject.id, subject.body):
        kind, table = api.kind(item.kind), members[item.kind]
        if kind.parts_key and item.state in table.settled and item.raw.get(kind.parts_key) is not None:
            wrong = f"a {kind.title} that is {item.state} has no {kind.parts_key}."
            yield check("parent.empty", bool(item.raw[kind.parts_key]), f"{item.path}.{kind.parts_key}", wrong)
        is_first_run = all(
            part.operation == api.kind(part.kind).shown_operations[0]
            and part.raw.get(members[part.kind].count, 1) in (0, 1)
            for part in item.all()
        )
        for part in item.parts:
            if not part.is_terminal or "CANCEL" in (item.operation, part.operation):
                continue
            for key, before, after, applies in (
                (api.start_key, item, part, is_first_run),
                (api.end_key, part, item, item.state in table.settled),
            ):
                first, then = instant(before.raw.get(key)), instant(after.raw.get(key))
                if applies and first and then:  # neither is absent or the epoch
                    wrong = f"{key} is {part.raw[key]}, and that of {item.kind} {item.id} is {item.raw[key]}."
                    yield check("parent.times", first <= then + SKEW, f"{part.path}.{key}", wrong)


def credentials(subject: Subject) -> Iterator[CheckResult]:
    """Check that a request without credentials is refused, unless the operation is open."""
    has_credentials = subject.exchange.credentials != "none"
    if subject.operation is not None and not subject.contract.is_open(subject.id) and not has_credentials:
        wrong = f"{subject.id} is answered {subject.status} to a request without credentials."
        is_refused = subject.status >= 300 or not isinstance(subject.body, dict)  # a page to log in at
        yield check("auth.missing-accepted", is_refused, "$", wrong)


def status(subject: Subject) -> Iterator[CheckResult]:
    """Check that the contract lists the status, and that the server did not fail."""
    if subject.operation is None:
        return
    code, method = subject.status, subject.exchange.method
    rule = "hostile.500" if subject.exchange.expects_refusal else "status.server-error"
    is_explained = api_named(subject.contract.api).checks.is_explained(subject)
    if code >= 500:
        if not is_explained:
            text = str(subject.error.get("message", ""))[:200].rstrip(". ")
            yield check(rule, False, "$", f"the server failed with {code}: {text or 'no message'}.")
        return
    yield check(rule, True)
    if method != subject.operation.method:
        wrong = f"{method} is answered {code}; the path does not have it."
        is_refused = code >= 400 or method in ("HEAD", "OPTIONS") or is_explained
        yield check("method.accepted", is_refused, "$", wrong)
    elif code not in STATUSES_BELOW:
        statuses = subject.operation.statuses
        wrong = f"it is answered {code}; the contract has {', '.join(statuses)}."
        yield check("status.undocumented", str(code) in statuses, "$", wrong)


def body(subject: Subject) -> Iterator[CheckResult]:
    """Check the body against the contract's schema for the status, and that it has no undocumented member."""
    operation = subject.operation
    if operation is None or subject.exchange.method != operation.method or subject.body is None:
        return
    compiled = _compiled(subject.contract, operation.id, str(subject.status))
    if compiled is None:
        return
    schema, shape = compiled
    violations = [] if schema.accepts(subject.body) else [*islice(schema.violations(subject.body), MAX_VIOLATIONS)]
    rules = [RULES_BY_KEYWORD.get(item.keyword, "schema.value") for item in violations]
    schema_rules = ("schema.required", "schema.type", "schema.enum", "schema.value", "schema.undocumented")
    yield from (check(rule, True) for rule in schema_rules if rule not in rules)
    for rule, item in zip(rules, violations, strict=True):
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in item.path)
        path = f"${''.join(parts)}"
        yield CheckResult(rule, path, f"{path}: {item.message}.")
    for path in shape.unknown(subject.body, "$") if isinstance(subject.body, dict) else ():
        yield check("schema.undocumented", False, path, f"the contract has no member {path.rpartition('.')[2]} here.")


@lru_cache(maxsize=256)
def _compiled(contract: Contract, operation: str, status: str) -> tuple[Schema, Shape] | None:
    """Return the compiled schema and the shape of a response; None if the contract has no schema for it."""
    responses = contract.operations[operation].definition["responses"]
    content = resolve(contract.spec, responses.get(status, {})).get("content", {})
    schema = next((value.get("schema", {}) for media_type, value in content.items() if "json" in media_type), None)
    if schema is None:
        return None
    return _schema(orjson.dumps(schema), contract), Shape([schema], contract.spec)


@lru_cache(maxsize=256)  # operations share most of their responses
def _schema(schema: bytes, contract: Contract) -> Schema:
    return Schema({"allOf": [orjson.loads(schema)], "components": {"schemas": contract.spec["components"]["schemas"]}})


class ResponseChecker(RuleChecker):
    """Checks every rule that needs no history."""

    def __init__(self, contract: Contract) -> None:
        own: tuple[Check, ...] = api_named(contract.api).checks.CHECKS
        super().__init__(contract, RULES, (headers, envelope, status, body, parts, credentials, *own))

    def results(self, subject: Subject) -> Iterator[CheckResult]:
        """Yield every check result of an exchange; without a response, only that there is none."""
        problem = subject.exchange.problem or "the connection was closed"
        has_response = subject.exchange.status is not None
        yield check("answer.none", has_response, "$", f"no answer came: {problem}.")
        if has_response:
            yield from super().results(subject)


def missing(result: Result, kinds: Iterable[TargetKind] = ()) -> list[MissingResponse]:
    """Return the required responses that were not received, in the contract's order, from targets of some kinds."""
    table: Required = api_named(result.api).module("probes").REQUIRED
    return [
        MissingResponse(operation.id, status, _hint(table, operation, status))
        for operation, one_of in required(result.api, writes=result.writes, version=result.version, kinds=kinds)
        if not any(result.statuses.get(operation.id, Counter())[code] for code in one_of)
        for status in [min(one_of - SENT_TO_LOG_IN)]
    ]


def required(
    api: ApiName, *, writes: bool, version: str = "", kinds: Iterable[TargetKind] = ()
) -> Iterator[tuple[Operation, frozenset[int]]]:
    """Yield operations, each with statuses of which one is required, of one target or of several together.

    ``kinds`` are those of the targets; without any, an obshell counts as a plain agent.
    """
    table: Required = api_named(api).module("probes").REQUIRED
    contract = contract_for(api, version)
    unreachable = [table.unreachable.get(kind, {}) for kind in [*kinds] or ["agent"]]
    for operation in contract.operations.values():
        if not writes and operation.method != "GET":
            continue
        name = operation.id
        never = frozenset.intersection(*(item.get(name, frozenset()) for item in unreachable))
        either = table.either.get(name, frozenset()) - never
        if either:
            yield operation, either
        statuses = {200, 401, 400, 404} if "{" in operation.path else {200, 401, *table.of_lists}
        if contract.is_open(name):
            statuses = {200}
        elif name == table.log:
            statuses.discard(404)
        documented = {int(status) for status in operation.statuses}
        for status in sorted((statuses & documented) - never - either):
            is_login = status == 401 and table.may_redirect
            yield operation, frozenset({status, *(SENT_TO_LOG_IN if is_login else ())})


def _hint(table: Required, operation: Operation, status: int) -> str:
    since = ".".join(map(str, table.since.get(operation.id, ())))
    older = f" Before {since} obshell did not have it." if since else ""
    if operation.id in table.targets and status in (200, 400):
        return f"Give the run {table.targets[operation.id][status == 400]} to play with (--task).{older}"
    if status == 200:
        no_read = "No plain read was accepted: look at what was answered instead."
        return f"{table.to_read if '{' in operation.path else no_read}{older}"
    text = f"The probes ask for a {status}: keep that phase, or see what they were answered."
    return f"{text} 429 wants a lower --rate; what stands in front of the server may have answered for it."
