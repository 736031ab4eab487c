"""schemathesis, asked in process: what it makes up, sent by the client, and what its checks find.

It reads the contract as its author wrote it, and runs its phases with all of its own checks that
apply. What it cannot know is put in here: ids that are there, the credentials, which statuses a
lawful request may be refused with. Every request, those of its checks too, leaves by the client: a
run that may only read only reads. A failed check is kept as a finding and then dropped, so that one
failure neither ends a walk nor is sent again to be made smaller: what is asked hangs on the seed
and on the answers, on nothing else. Methods that no path has are the probes' to try.

The one rule: a request that is meant to be wrong stays wrong, and an id that is put into one is
never somebody else's.
"""

from __future__ import annotations

import copy
import threading
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from hypothesis.errors import UnsatisfiedAssumption
from schemathesis import Config
from schemathesis.core import NOT_SET, SCHEMATHESIS_TEST_CASE_HEADER
from schemathesis.core.failures import Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response
from schemathesis.engine import events
from schemathesis.engine.context import EngineContext
from schemathesis.engine.core import ExecutionPlan
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.engine.run import Phase as Stage
from schemathesis.engine.run import PhaseName
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext
from schemathesis.openapi.checks import JsonSchemaError
from schemathesis.specs.openapi.schemas import OpenApiSchema
from schemathesis.transport.requests import REQUESTS_TRANSPORT, RequestsTransport

from oceanmock.checks import CheckResult, Exchange, Phase, Rule, RuleCount, Subject
from oceanmock.conformance.guard import NotAllowed
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.model import Api, Options, contract_for
from oceanmock.conformance.probes.known import Known, KnownIds
from oceanmock.conformance.quirks import is_explained
from oceanmock.conformance.target import Target
from oceanmock.obshell.ids import GenericId, local_id
from oceanmock.openapi import Operation

PHASES: Final[tuple[Phase, ...]] = ("examples", "coverage", "fuzzing", "stateful")
"""Those that are schemathesis' own, in their order."""
STEPS: Final = 6
"""How many operations a walk along the contract's links has at most."""
ONE_IN: Final = 6
"""Every so many ids stay unknown ones."""


# --- its checks, as rules -------------------------------------------------------------------------

_SAYS: Final[Mapping[str, str]] = {
    "not_a_server_error": "No request is answered 5xx.",
    "status_code_conformance": "An answer has a status that the contract names for the operation.",
    "content_type_conformance": "An answer has a content type that the contract names for it.",
    "response_headers_conformance": "An answer has the headers that the contract names.",
    "response_schema_conformance": "An answer's body is as its schema says.",
    "positive_data_acceptance": "A request that keeps the contract is not refused for its form.",
    "negative_data_rejection": "A request that breaks the contract is refused.",
    "missing_required_header": "A request without a header that is required is refused.",
    "use_after_free": "What was deleted is not there any more.",
    "ensure_resource_availability": "What was made is there.",
    "ignored_auth": "Without credentials, or with wrong ones, nothing is answered.",
    "object_level_authorization": "Nobody reads what is another's.",
    "unsupported_method": "A method that a path does not have is refused.",
    "allow_header_conformance": "The header Allow names the methods that a path has.",
    "unfinished": "Every operation can be tested to the end.",
}
RULES_OF_SCHEMATHESIS: Final[Mapping[str, Rule]] = {
    f"schemathesis.{check}": Rule(
        f"schemathesis.{check}", says, f"schemathesis 4, its check {check}; the contract"
    )
    for check, says in _SAYS.items()
}
_IN_CONTRACT: Final[Mapping[str, str]] = {
    "not_a_server_error": "responses",
    "status_code_conformance": "responses",
    "content_type_conformance": "responses, content",
    "response_headers_conformance": "responses, headers",
    "response_schema_conformance": "responses, schema",
    "positive_data_acceptance": "parameters and requestBody",
    "negative_data_rejection": "parameters and requestBody",
    "missing_required_header": "parameters",
    "ignored_auth": "security",
}
"""The part of an operation that a check holds an answer to."""

# --- how it is set up -----------------------------------------------------------------------------

_NEITHER: Final[tuple[int | str, ...]] = (429, "5xx")
"""Whoever fails, or is asked too often, has neither accepted nor refused; others look at it."""
_READS: Final = [200, 401, 403, 404, *_NEITHER]
_OPERATES: Final = [200, 400, 401, 403, 404, *_NEITHER]

_CHECKS: Final[Mapping[Api, Mapping[str, Any]]] = {
    "ocp": {
        # What is asked is looked at before the task is looked for; 404 is an id that makes another
        # path.
        "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, *_NEITHER]},
        "positive_data_acceptance": {"expected-statuses": _READS},
    },
    "obshell": {
        "negative_data_rejection": {"expected-statuses": [400, 401, 404, *_NEITHER]},
        "positive_data_acceptance": {"expected-statuses": [200, 401, *_NEITHER]},
        # gin answers 404, which this check knows of paths with an id alone.
        "unsupported_method": {"enabled": False},
    },
}
"""What a request may be refused with; schemathesis' own defaults are wider, and let more pass."""

_OPERATIONS: Final[Mapping[Api, Sequence[tuple[Mapping[str, str], Sequence[int | str]]]]] = {
    "ocp": [({"include-method": "POST"}, _OPERATES)],
    "obshell": [
        ({"include-name-regex": r"^GET .*\{id\}"}, [200, 401, 404, *_NEITHER]),
        # A lock that nobody took …
        ({"include-path-regex": r"/maintain/(ob|agent)$"}, [200, 401, 404, *_NEITHER]),
        # … or a cluster of which this agent is none.
        ({"include-path-regex": r"/dags/ob$|/dag/ob/unfinish$"}, [200, 400, 401, *_NEITHER]),
        ({"include-method": "POST"}, _OPERATES),
    ],
}
"""Where a lawful request may be refused with something else, since of its state nothing is said."""


def _settings(api: Api, options: Options, closed: Sequence[str]) -> dict[str, Any]:
    """schemathesis' own configuration of a run, for which some operations are closed."""
    return {
        "seed": options.seed,
        "workers": 1,
        "continue-on-failure": True,
        "cache": {"enabled": False},
        "output": {"truncation": {"enabled": False}},
        "generation": {
            "mode": "all",
            "database": "none",
            "no-shrink": True,
            "max-examples": options.max_examples,
        },
        "phases": {"coverage": {"unexpected-methods": []}, "stateful": {"max-steps": STEPS}},
        "checks": _CHECKS[api],
        "operations": [
            *({"include-operation-id": name, "enabled": False} for name in closed),
            *(
                {**where, "checks": {"positive_data_acceptance": {"expected-statuses": statuses}}}
                for where, statuses in _OPERATIONS[api]
            ),
        ],
    }


# --- by the client --------------------------------------------------------------------------------


class _ClientTransport(RequestsTransport):
    """Sends each case by the client's session, whoever asks for it to be sent."""

    def __init__(self, client: HttpClient) -> None:
        super().__init__()
        self._copy_serializers_from(REQUESTS_TRANSPORT)
        self.client = client

    def send(self, case: Case[Any], *, session: Any = None, **kwargs: Any) -> Response:
        """As the client lets it; what it refuses is taken back as if it had never been made up."""
        kwargs["max_redirects"] = 0
        is_wrong = case.meta is not None and case.meta.generation.mode.is_negative
        try:
            with self.client.during(self.client.phase, expects_refusal=is_wrong):
                return super().send(case, session=self.client.session, **kwargs)
        except NotAllowed as refused:
            raise UnsatisfiedAssumption(str(refused)) from refused


class _Contract(OpenApiSchema):
    """A contract, the requests of which leave by a client."""

    client_transport: _ClientTransport

    @property
    def transport(self) -> _ClientTransport:
        """The only way out."""
        return self.client_transport


# --- the ids that are there -----------------------------------------------------------------------

Ids = Mapping[str, str | int]
"""The parameters of a path, each with an id."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be put into the paths of operations, by their ids.

    ``there`` are ids of what is there, and may be read, or changed by what changes; ``nobodys`` are
    ids of nothing; ``malformed`` take the place of a wrong id that may not be sent.
    """

    there: Mapping[str, Sequence[Ids]]
    nobodys: Mapping[str, Sequence[Ids]]
    malformed: Mapping[str, Sequence[Ids]] = field(default_factory=dict)


MALFORMED: Final = "x1"
"""No id of either API, and nobody's."""
NUMBER_OF_NOTHING: Final = 99_999_999
UNSURE: Final = "ABORTED"
"""A status that no document of OCP has, so that a server may not know it (openapi/ocp.yaml)."""
ON_TASKS: Final = ("getTaskInstance", "retryTask", "rollbackTask")
ON_SUBTASKS: Final = ("getSubtaskLog", "retrySubtask", "skipSubtask", "cancelSubtask")
ON_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "dag": ("getDagDetail", "dagHandler"),
    "node": ("getNodeDetail", "nodeHandler"),
    "sub_task": ("getSubTaskDetail", "getFullSubTaskLogs"),
}
READS: Final = frozenset(
    {"getTaskInstance", "getSubtaskLog", "getDagDetail", "getNodeDetail"}
    | {"getSubTaskDetail", "getFullSubTaskLogs"}
)


def choices_of(client: HttpClient, known: KnownIds, *, changeable: Container[str]) -> Choices:
    """The choices among what is known, of which those tasks or dags may be changed.

    Where something may be changed, the client is told of the ids that are nobody's, and of the
    malformed ones.
    """
    there: defaultdict[str, list[Ids]] = defaultdict(list)
    for task in known.tasks:
        for operation, ids in _places_of(task):
            if operation in READS or task.id in changeable:
                there[operation].append(ids)
    nobodys = _nobodys(client.target)
    if client.options.write:
        for id in (*nobodys, MALFORMED):
            client.may_change(id)
    return Choices(
        there,
        {name: [dict.fromkeys(ids[0], id) for id in nobodys] for name, ids in there.items()},
        {name: [dict.fromkeys(ids[0], MALFORMED)] for name, ids in there.items()},
    )


def _places_of(task: Known) -> Iterator[tuple[str, Ids]]:
    """Each operation that a task or a part of it can be put into, and how; a number is one."""
    for each in task.all():
        if each.kind == "task":
            yield from ((name, {"taskInstanceId": _number(each.id)}) for name in ON_TASKS)
        elif each.kind == "subtask":
            pair = {"taskInstanceId": _number(task.id), "subtaskInstanceId": _number(each.id)}
            yield from ((name, pair) for name in ON_SUBTASKS)
        else:
            yield from ((name, {"id": each.id}) for name in ON_PARTS[each.kind])


def _number(id: str) -> str | int:
    """An id of OCP as schemathesis takes it for one; what is no number stays a text."""
    return int(id) if id.isascii() and id.isdigit() else id


def _nobodys(target: Target) -> list[str | int]:
    """Ids of nothing, that the target looks for itself."""
    if target.api == "ocp":
        return [2**63 - 1]
    own = target.own_address
    of_cluster = target.identity == "CLUSTER AGENT" or own is None
    local = [] if own is None else [local_id(NUMBER_OF_NOTHING, ip=own[0], port=own[1])]
    return [*local, *([str(GenericId("cluster", NUMBER_OF_NOTHING))] if of_cluster else [])]


# --- a run ----------------------------------------------------------------------------------------


class Fuzzer:
    """schemathesis over one contract and one client; what one phase learns, the next one knows.

    ``looked`` counts how often each rule was looked at in each operation, ``broken`` how often it
    was broken.
    """

    def __init__(
        self,
        client: HttpClient,
        options: Options,
        *,
        choices: Choices,
        stop: threading.Event | None = None,
    ) -> None:
        self.client = client
        self.looked: Counter[tuple[str, str]] = Counter()
        self.broken: Counter[str] = Counter()
        self._contract = contract_for(client.target.api, client.target.version)
        self._ids_of_labels = {f"{each.method} {each.path}": each.id for each in client.operations}
        self._options = options
        self._choices = choices
        self._stop = stop or threading.Event()
        self._engine = EngineContext(schema=self._read_contract(), stop_event=self._stop)

    @property
    def counts(self) -> dict[str, RuleCount]:
        """How often each rule was looked at and broken."""
        counts = {rule: RuleCount() for rule, _ in self.looked}
        for (rule, _), count in self.looked.items():
            counts[rule].looked += count
        for rule, count in self.broken.items():
            counts.setdefault(rule, RuleCount()).broken += count
        return counts

    def run(self, phase: Phase) -> None:
        """Runs one of ``PHASES``. Raises KeyboardInterrupt when somebody stopped it."""
        plan = ExecutionPlan([Stage(PhaseName(phase))])
        with self.client.during(phase):
            for event in plan.execute(self._engine):
                self._take(event)
        if self._stop.is_set():
            raise KeyboardInterrupt

    def _read_contract(self) -> _Contract:
        api = self.client.target.api
        document: Any = copy.deepcopy(self._contract.spec)
        closed = [each.id for each in self.client.operations if not self._is_open(each)]
        settings = Config.from_dict(_settings(api, self._options, closed)).projects.get(document)
        contract = _Contract(raw_schema=document, config=settings)
        contract.filter_set = settings.operations.filter_set_with(include=contract.filter_set)
        contract.client_transport = _ClientTransport(self.client)
        contract.config.update(base_url=self.client.target.url)
        if self.client.target.auth is None:
            contract.config.checks.update(excluded_check_names=["ignored_auth"])
        else:
            auth: Any = self.client.auth
            contract.auth.set_from_requests(auth)
        for hook in (self.before_add_examples, self.map_case, self.filter_failure):
            contract.hooks.register_hook_with_name(hook, hook.__name__)
        return contract

    def _is_open(self, operation: Operation) -> bool:
        """Whether there is anything to send to an operation: of what changes, an id that may be."""
        return operation.method == "GET" or bool(
            self._options.write and self._choices.there.get(operation.id)
        )

    # --- what schemathesis asks while it makes requests up ---

    def before_add_examples(self, context: HookContext, examples: list[Case[Any]]) -> None:
        """Puts ids that are there into the contract's examples, and adds one of nothing."""
        for case in examples:
            self.map_case(context, case)
        for ids in self._choices.nobodys.get(_id_of(context), ())[:1] if examples else ():
            unknown = examples[0].derive(keep_auth=True)
            unknown.path_parameters = dict(ids)
            examples.append(unknown)

    def map_case(self, context: HookContext, case: Case[Any]) -> Case[Any]:
        """Puts an id that is there in place of what could be one; now and then, one of nothing.

        What is meant to be wrong stays as it is, but for what may not be sent: that becomes
        something else that is wrong.
        """
        if not case.path_parameters:
            return case
        operation = _id_of(context)
        if _is_wrong(case):
            several = () if self._may_be_sent(case) else self._choices.malformed.get(operation, ())
        else:
            several = self._choices.there.get(operation, ())
        body = case.body if case.body is not NOT_SET else None  # what is not set tells its address
        asked = (self._options.seed, operation, case.path_parameters, case.query, body)
        chance = Random(repr(asked))  # noqa: S311 (the same request, the same id)
        nobodys = self._choices.nobodys.get(operation, ())
        if not _is_wrong(case) and nobodys and (not several or chance.random() * ONE_IN < 1):
            several = nobodys
        if several:
            case.path_parameters = dict(chance.choice(several))
        return case

    def _may_be_sent(self, case: Case[Any]) -> bool:
        try:
            self.client.guard.check(case.method, case.formatted_path, b"")
        except NotAllowed:
            return False
        return True

    def filter_failure(
        self, context: HookContext, failure: Failure, case: Case[Any], response: Response
    ) -> bool:
        """Keeps a failed check as a finding, if no quirk explains it; then it never happened."""
        check = failure.checks[0] if failure.checks else "unfinished"
        if check == "ignored_auth":
            self._engine.auth_enforced_operations.add(case.operation.label)  # it is asked once
        exchange = self._exchange_of(failure.case_id or case.id)
        if exchange is not None and is_explained(Subject(exchange, self._contract)):
            return False
        if check == "positive_data_acceptance" and UNSURE in repr(case.query):
            return False  # a lawful request, if the word is one
        self.broken[f"schemathesis.{check}"] += 1
        self.client.found(
            CheckResult(
                rule=f"schemathesis.{check}",
                operation=_id_of(context),
                status=exchange.status if exchange else response.status_code,
                path=_json_path(failure),
                message=_sentence(failure),
                source=_source(self._contract.api, context, check),
                exchange=exchange,
            )
        )
        return False

    def _exchange_of(self, case: str) -> Exchange | None:
        """The exchange of a case, if it is still kept; its id is a header of the request."""
        said = SCHEMATHESIS_TEST_CASE_HEADER, case
        return next((e for e in reversed(self.client.exchanges) if said in e.request_headers), None)

    # --- what it tells while it runs ---

    def _take(self, event: events.EngineEvent) -> None:
        if isinstance(event, events.ScenarioFinished):
            self._count(event.recorder)
        elif isinstance(event, events.NonFatalError):
            self._keep_error(event)
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.Interrupted):
            raise KeyboardInterrupt

    def _count(self, recorder: ScenarioRecorder) -> None:
        for case, checks in recorder.checks.items():
            operation = recorder.cases[case].value.operation.definition.raw["operationId"]
            for check in checks:
                self.looked[f"schemathesis.{check.name}", operation] += 1

    def _keep_error(self, event: events.NonFatalError) -> None:
        """What kept schemathesis from testing something to the end is not passed over."""
        if isinstance(event.value, UnsatisfiedAssumption):
            return
        operation = self._ids_of_labels.get(event.label, "")
        self.client.found(
            CheckResult(
                rule="schemathesis.unfinished",
                operation=operation,
                status=None,
                path="" if operation else event.label,
                message=f"{event.info.title}: {_line(event.info.message)}",
                source="schemathesis 4",
            )
        )


def _id_of(context: HookContext) -> str:
    operation: Any = context.operation
    return str(operation.definition.raw["operationId"])


def _is_wrong(case: Case[Any]) -> bool:
    """Whether the ids in its path are meant to be wrong."""
    return case.meta is not None and case.meta.is_negative_at(ParameterLocation.PATH)


def _json_path(failure: Failure) -> str:
    if not isinstance(failure, JsonSchemaError):
        return ""
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in failure.instance_path]
    return "$" + "".join(steps)


def _sentence(failure: Failure) -> str:
    said = failure.validation_message if isinstance(failure, JsonSchemaError) else failure.message
    return f"{failure.title}: {_line(said)}" if said else failure.title


def _line(text: str) -> str:
    """A text of several lines on one."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def _source(api: str, context: HookContext, check: str) -> str:
    operation: Any = context.operation
    part = _IN_CONTRACT.get(check, "")
    place = f"openapi/{api}.yaml, {operation.label}"
    return f"{place}, {part}" if part else place
