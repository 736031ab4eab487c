"""Run schemathesis in process: it generates requests, the client sends them, and its checks read the responses.

schemathesis reads the contract unchanged, and runs its phases with all checks that apply. This module adds existing
ids, credentials, and the statuses with which a valid request may be refused. A failed check becomes a finding and
counts as passed, so that it neither ends the run nor is minimized: requests depend only on the seed and on responses.

schemathesis has no public interface to run single phases through another transport, so this module uses its engine
directly; it is pinned to the minor version, and tests/test_private_names.py imports every name.
"""

from __future__ import annotations

import copy
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
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
from schemathesis.engine.run import Phase as Stage
from schemathesis.engine.run import PhaseName
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext
from schemathesis.openapi.checks import JsonSchemaError
from schemathesis.specs.openapi.schemas import OpenApiSchema
from schemathesis.transport.requests import REQUESTS_TRANSPORT, RequestsTransport

from oceanmock.apis import api_named
from oceanmock.checks import CheckResult, Phase, Rule, Subject
from oceanmock.conformance import NotAllowed
from oceanmock.conformance.checks import is_of_the_api
from oceanmock.conformance.http_client import HttpClient
from oceanmock.observations import Observation

SCHEMATHESIS_PHASES: Final[tuple[Phase, ...]] = ("examples", "coverage", "fuzzing", "stateful")
UNKNOWN_ONE_IN: Final = 6  # one of so many valid ids is replaced by an unknown one
MALFORMED: Final = "x1"  # an id that is valid in neither API

_SCHEMATHESIS_CHECKS: Final[Mapping[str, tuple[str, str]]] = {
    "not_a_server_error": ("No response has a 5xx status.", "responses"),
    "status_code_conformance": ("A response has a status that the contract lists for the operation.", "responses"),
    "content_type_conformance": ("A response has a content type that the contract lists for it.", "responses, content"),
    "response_headers_conformance": ("A response has the headers that the contract lists.", "responses, headers"),
    "response_schema_conformance": ("A response's body matches its schema.", "responses, schema"),
    "positive_data_acceptance": ("A valid request is not refused as invalid.", "parameters and requestBody"),
    "negative_data_rejection": ("An invalid request is refused.", "parameters and requestBody"),
    "missing_required_header": ("A request without a required header is refused.", "parameters"),
    "use_after_free": ("A deleted resource no longer exists.", ""),
    "ensure_resource_availability": ("A created resource exists.", ""),
    "ignored_auth": ("A request without valid credentials is refused.", "security"),
    "object_level_authorization": ("A user cannot read another user's resources.", ""),
    "unsupported_method": ("A method that a path does not have is refused.", ""),
    "allow_header_conformance": ("The header Allow lists the methods that a path has.", ""),
    "unfinished": ("Every operation can be tested to the end.", ""),
}
"""The rule of each check of schemathesis, and the part of an operation that states it."""
RULES_OF_SCHEMATHESIS: Final[Mapping[str, Rule]] = {
    f"schemathesis.{check}": Rule(f"schemathesis.{check}", says, f"schemathesis 4, its check {check}; the contract")
    for check, (says, _) in _SCHEMATHESIS_CHECKS.items()
}


class _ClientTransport(RequestsTransport):
    """A transport that sends each case through the client's session."""

    def __init__(self, client: HttpClient) -> None:
        super().__init__()
        self._copy_serializers_from(REQUESTS_TRANSPORT)
        self.client = client

    def send(self, case: Case[Any], *, session: Any = None, **kwargs: Any) -> Response:
        """Send a case. One that the client refuses counts as never generated."""
        kwargs["max_redirects"] = 0
        is_invalid = case.meta is not None and case.meta.generation.mode.is_negative
        try:
            with self.client.during(self.client.phase, expects_refusal=is_invalid):
                return super().send(case, session=self.client.session, **kwargs)
        except NotAllowed as refused:
            raise UnsatisfiedAssumption(str(refused)) from refused


class _Contract(OpenApiSchema):
    client_transport: _ClientTransport

    @property
    def transport(self) -> _ClientTransport:
        return self.client_transport


Ids = Mapping[str, str | int]  # an id for each parameter of a path


def _existing_ids(client: HttpClient, items: Sequence[Observation]) -> Mapping[str, Sequence[Ids]]:
    """Return the existing ids for each operation; for one that changes something, those of the run's own tasks."""
    api = api_named(client.target.api)
    existing = defaultdict[str, list[Ids]](list)
    has_numbers = api.conformance.id_type is int
    for task in items:
        for part in task.all():
            texts = {api.root.name: task.id, part.kind: part.id}
            # numbers where the contract has numbers, if the text is one
            ids = {k: int(id) if has_numbers and id.isascii() and id.isdigit() else id for k, id in texts.items()}
            for route in api.routes:
                is_of_part = bool(route.ids) and [*route.ids][-1] == part.kind
                if is_of_part and (not route.changes or task.id in client.options.tasks):
                    existing[route.id].append({name: ids[kind] for kind, name in route.ids.items()})
    return existing


class Fuzzer:
    """Runs schemathesis with one contract and one client; its phases share the observed responses.

    ``checked`` counts checks by rule and operation. ``items`` are the tasks or dags of the target. A run that writes
    may also send unknown and malformed ids.
    """

    def __init__(
        self, client: HttpClient, items: Sequence[Observation], *, stop: threading.Event | None = None
    ) -> None:
        self.client = client
        self.checked = client.result.checked
        self._contract = client.contract
        self._options = client.options
        self._existing = _existing_ids(client, items)
        target, server = client.target, api_named(client.target.api).conformance
        self._unknown = [] if client.guard.spared else server.unknown_ids(target.own_address, target.identity)
        for id in (*self._unknown, MALFORMED) if client.options.write else ():
            client.guard.may_change(id)
        self._stop = stop or threading.Event()
        self._engine = EngineContext(schema=self._read_contract(), stop_event=self._stop)

    def run(self, phase: Phase) -> None:
        """Run one of ``SCHEMATHESIS_PHASES``. Raises KeyboardInterrupt if it was stopped."""
        if phase == "stateful" and self.client.guard.spared and not self._existing:
            return  # no operation that may be requested follows from another one
        plan = ExecutionPlan([Stage(PhaseName(phase))])
        operations = {f"{item.method} {item.path}": item.id for item in self.client.operations}
        with self.client.during(phase):
            for event in plan.execute(self._engine):
                if isinstance(event, events.ScenarioFinished):
                    for case, checks in event.recorder.checks.items():
                        definition: Any = event.recorder.cases[case].value.operation.definition
                        for check in checks:
                            self.checked[f"schemathesis.{check.name}", definition.raw["operationId"]] += 1
                elif isinstance(event, events.NonFatalError) and not isinstance(event.value, UnsatisfiedAssumption):
                    rule, operation = "schemathesis.unfinished", operations.get(event.label, "")
                    message = f"{event.info.title}: {_line(event.info.message)}"
                    path = "" if operation else event.label
                    self.client.found(CheckResult(rule, path, message, operation, source="schemathesis 4"))
                elif isinstance(event, events.FatalError):
                    raise event.exception
                elif isinstance(event, events.Interrupted):
                    raise KeyboardInterrupt
        if self._stop.is_set():
            raise KeyboardInterrupt

    def _read_contract(self) -> _Contract:
        """Return the contract with the run's settings, without operations that the run may not request."""
        client, existing = self.client, self._existing
        changing = [item.id for item in client.operations if item.method != "GET"]
        closed = [id for id in changing if not (self._options.write and existing.get(id))]
        if client.guard.spared:
            closed += [item.id for item in client.operations if "{" in item.path and not existing.get(item.id)]
        server = api_named(client.target.api).conformance
        generation = {"mode": "all", "database": "none", "no-shrink": True, "max-examples": self._options.max_examples}
        operations: list[dict[str, Any]] = [{"include-operation-id": name, "enabled": False} for name in closed]
        for where, statuses in server.schemathesis_operations:
            operations.append({**where, "checks": {"positive_data_acceptance": {"expected-statuses": statuses}}})
        settings: dict[str, Any] = {
            "seed": self._options.seed,
            "workers": 1,
            "continue-on-failure": True,
            "cache": {"enabled": False},
            "output": {"truncation": {"enabled": False}},
            "generation": generation,
            # The probes send unexpected methods; max-steps is the number of operations of a walk along links.
            "phases": {"coverage": {"unexpected-methods": []}, "stateful": {"max-steps": 6}},
            "checks": server.schemathesis_checks,
            "operations": operations,
        }
        document: Any = copy.deepcopy(self._contract.spec)
        config = Config.from_dict(settings).projects.get(document)
        contract = _Contract(raw_schema=document, config=config)
        contract.filter_set = config.operations.filter_set_with(include=contract.filter_set)
        contract.client_transport = _ClientTransport(client)
        contract.config.update(base_url=client.target.url)
        if client.target.auth is None:
            contract.config.checks.update(excluded_check_names=["ignored_auth"])
        else:
            auth: Any = client.auth
            contract.auth.set_from_requests(auth)
        for hook in (self.before_add_examples, self.map_case, self.filter_failure):
            contract.hooks.register_hook_with_name(hook, hook.__name__)
        return contract

    def before_add_examples(self, context: HookContext, examples: list[Case[Any]]) -> None:
        """Put existing ids into the contract's examples, and add an example with an unknown id."""
        for case in examples:
            self.map_case(context, case)
        for id in self._unknown[:1] if examples and examples[0].path_parameters else ():
            unknown = examples[0].derive(keep_auth=True)
            unknown.path_parameters = dict.fromkeys(unknown.path_parameters, id)
            examples.append(unknown)

    def map_case(self, context: HookContext, case: Case[Any]) -> Case[Any]:
        """Replace a valid id by an existing or, sometimes, an unknown one; an invalid id that may not be sent too."""
        if not case.path_parameters:
            return case
        operation = _operation_id(context)
        body = None if case.body is NOT_SET else case.body  # NOT_SET has its address in its repr
        requested = (self._options.seed, operation, case.path_parameters, case.query, body)
        chance = Random(repr(requested))  # noqa: S311 (the same request gets the same id)
        if case.meta is not None and case.meta.is_negative_at(ParameterLocation.PATH):
            several: Sequence[Ids] = ()
            try:
                self.client.guard.check(case.method, case.formatted_path, b"")
            except NotAllowed:
                several = [dict.fromkeys(case.path_parameters, MALFORMED)]
        else:
            several = self._existing.get(operation, ())
            unknown = [dict.fromkeys(case.path_parameters, id) for id in self._unknown]
            if unknown and (not several or chance.random() * UNKNOWN_ONE_IN < 1):
                several = unknown
        if several:
            case.path_parameters = dict(chance.choice(several))
        return case

    def filter_failure(self, context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
        """Report a failed check as a finding, unless a quirk explains it, and return that it passed."""
        check = failure.checks[0] if failure.checks else "unfinished"
        operation: Any = context.operation
        if check == "ignored_auth":
            self._engine.auth_enforced_operations.add(case.operation.label)  # so that it is checked only once
        header = SCHEMATHESIS_TEST_CASE_HEADER, failure.case_id or case.id
        recent = reversed(self.client.exchanges)  # the exchange of the case may no longer be kept
        exchange = next((item for item in recent if header in item.request_headers), None)
        api = api_named(self._contract.api)
        if exchange is not None:
            subject = Subject(exchange, self._contract)
            if api.checks.is_explained(subject) or not is_of_the_api(subject):
                return False
        if check == "positive_data_acceptance" and api.conformance.is_uncertain(case.query or {}):
            return False
        path, message = "", failure.message
        if isinstance(failure, JsonSchemaError):
            steps = (f"[{s}]" if isinstance(s, int) else f".{s}" for s in failure.instance_path)
            path, message = f"${''.join(steps)}", failure.validation_message
        part = _SCHEMATHESIS_CHECKS.get(check, ("", ""))[1]
        message = f"{failure.title}: {_line(message)}" if message else failure.title
        source = ", ".join(filter(None, (f"openapi/{self._contract.api}.yaml", operation.label, part)))
        status = exchange.status if exchange else response.status_code
        id = _operation_id(context)
        self.client.found(CheckResult(f"schemathesis.{check}", path, message, id, status, source, exchange))
        return False


def _operation_id(context: HookContext) -> str:
    operation: Any = context.operation
    return str(operation.definition.raw["operationId"])


def _line(text: str) -> str:
    """Return a text of several lines on one."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
