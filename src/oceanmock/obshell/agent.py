"""Model the agents of an obshell scenario, their versions, quirks and locks, and its stubs and faults."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, tzinfo
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from oceanmock.errors import Issue
from oceanmock.obshell.api import API, ClientOperator, Identity, QuirkName, State
from oceanmock.scenario import MAX_OTHERS, MAX_REFUSALS, DurationText, Model, Name, OrOne, Reference, must
from oceanmock.scenario.document import contradiction
from oceanmock.scenario.faults import Calls, Fault, OperationName, ShownId
from oceanmock.scenario.stubs import BaseWhen, StartRefusal, StartsOn, Stub

if TYPE_CHECKING:
    from oceanmock.obshell.scenario import Scenario

OLDEST_VERSION: Final = "4.2.3.0"
NEWEST_VERSION: Final = API.version
MAX_AGENTS: Final = 20
_FOUR_NUMBERS: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){3}", re.ASCII)


def _check_ip(text: str) -> str:
    """Refuse an address with a leading zero byte: Go drops it in ids, and then refuses these."""
    try:
        address = ip_address(text)
    except ValueError:
        raise PydanticCustomError("bad_address", "is no IPv4 or IPv6 address") from None
    if not address.packed[0]:
        raise PydanticCustomError("bad_address", "begins with a zero byte: obshell would refuse its own ids")
    return str(address)


def _is_served(version: str) -> bool:
    texts = (OLDEST_VERSION, version, NEWEST_VERSION)
    oldest, number, newest = ([int(part) for part in text.split(".")] for text in texts)
    return oldest <= number <= newest


def _is_time_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return False
    return True


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


QuirkSelection = Annotated[
    tuple[Literal[QuirkName, "all"], ...],
    OrOne(),
    BeforeValidator(_split_commas),
    Field(json_schema_extra=lambda it: it["anyOf"].append({"type": "string", "pattern": ","})),
]
ServedVersion = Annotated[
    str,
    must(_FOUR_NUMBERS.fullmatch, "bad_version", "is not four numbers such as 4.5.0.0"),
    must(_is_served, "bad_version", f"is not between {OLDEST_VERSION} and {NEWEST_VERSION}"),
]
Ip = Annotated[str, AfterValidator(_check_ip)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]


class Address(Model):
    """The address at which an agent listens."""

    ip: Ip
    port: Port = 2886


class Agent(Address):
    """The agent that is served."""

    ip: Ip = "127.0.0.1"
    identity: Identity = "MASTER"
    root_password: Annotated[str | None, Field(json_schema_extra={"type": ["string", "null"]})] = "oceanmock"  # noqa: S105 (the mock's own, and public)
    """The password of root@sys, with which most routes authenticate; none is set, if null."""
    agent_password: str | None = None
    """The agent's own password; none is set, if left out."""
    timezone: Annotated[str, must(_is_time_zone, "bad_zone", "is no time zone that this machine has")] = "UTC"
    """The time zone of the agent's times, by its IANA name: `Asia/Shanghai`."""

    @cached_property
    def zone(self) -> tzinfo:
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)


Place = Annotated[int, Field(strict=True, ge=1, le=MAX_AGENTS)]  # the number of an agent in `agents`, from 1


class Member(Agent):
    """One of several agents."""

    port: Annotated[int, Field(strict=True, ge=0, le=65535)] = 0
    """The port on which it listens; a free port, if left out, or 2886 and so on if the server opens no ports."""
    phase: DurationText | None = None
    """The time between the sandbox's start and its scheduler's first tick, less than a `tick`; the scenario's, if left
    out."""


AgentReference = Annotated[
    Annotated[Address, Tag("<address>")] | Annotated[Place, Tag("<number>")],
    Discriminator(lambda value: "<number>" if isinstance(value, int) else "<address>"),
]


class Switches(Model):
    """The version of obshell that is served, and its quirks."""

    obshell_version: ServedVersion = NEWEST_VERSION
    """Four numbers, 4.2.3.0 to 4.5.0.0."""
    quirks_off: QuirkSelection = ()
    """The quirks that this server does not have: names, or `all`."""

    def has(self, quirk: QuirkName) -> bool:
        return not {"all", quirk} & set(self.quirks_off)


class Makes(Model):
    """The change that a successful dag makes to the agent: keys that are left out stay unchanged."""

    identity: Identity | None = None
    root_password: str | None = None
    agent_password: str | None = None
    obshell_version: ServedVersion | None = None
    """Its version from then on; the version of the first agent decides which routes there are."""
    agents: Annotated[tuple[Place, ...], OrOne()] = ()
    """The agents that it changes, by their numbers in `agents`; if left out, the dag's own."""

    @model_validator(mode="after")
    def _change_something(self) -> Makes:
        if not self.changes:
            raise contradiction("bad_makes", "changes nothing of the agent")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        """Return the agent's new values, by their keys."""
        return self.model_dump(exclude={"agents"}, exclude_unset=True)

    def places(self, own: int) -> set[int]:
        """Return the positions of the agents that a dag on one of them changes."""
        return {number - 1 for number in self.agents} or {own}


FailureExit = Literal["always", "first node", "never"]
FAILURE_EXITS: Final[Mapping[str, tuple[FailureExit, tuple[str, ...]]]] = {
    "/api/v1/tenant": ("always", ("POST",)),
    "/api/v1/tenant/{}": ("always", ("DELETE",)),
    "/api/v1/tenant/{}/primary-zone": ("always", ("PUT",)),
    "/api/v1/tenant/{}/replicas": ("always", ("POST", "PATCH", "DELETE")),
    "/api/v1/tenant/restore": ("always", ("POST",)),
    "/api/v1/recyclebin/tenant/{}": ("always", ("DELETE",)),
    "/api/v1/ob/scale_in": ("first node", ("POST",)),
    "/api/v1/observer": ("first node", ("DELETE",)),
    "/api/v1/obproxy": ("first node", ("POST", "DELETE")),
}
"""By path, where a failure of the dag that a request starts releases its lock, and the methods of those requests.

(github.com/oceanbase/obshell at 61ee147: FAILURE_EXIT_MAINTENANCE in executor/tenant, executor/recyclebin,
ob/restore.go:103, ob/scale_in.go:83, obproxy/add.go:523; each node has a context of its own, service/task/node.go:35.)
"""


class TenantLock(Model):
    """The maintenance of one tenant."""

    tenant: Name


Maintenance = Annotated[
    Annotated[TenantLock, Tag("<lock>")] | Annotated[Literal["none", "global", "obproxy"], Tag("<word>")],
    Discriminator(lambda value: "<lock>" if isinstance(value, dict | TenantLock) else "<word>"),
]


class OtherOperator(Model):
    """An operator of another client on the dag. It needs no lock; if it is refused, it changes nothing."""

    at: DurationText
    """The time since the dag's start."""
    operator: ClientOperator


Others = Annotated[tuple[OtherOperator, ...], Field(max_length=MAX_OTHERS)]


class When(BaseWhen):
    """A condition of a stub: on a dag of this file, on the clock, or on both."""

    api: ClassVar = API
    item_schema: ClassVar = "DagDetailDTO"

    dag: Reference | None = None
    """A dag, by its id or name, that must have started; of several, the one that started last."""
    state: Annotated[tuple[Literal["READY", "RUNNING", "FAILED", "SUCCEED"], ...], OrOne()] = ()
    """The states in which the condition holds; any, if left out."""
    operator: Annotated[tuple[Literal["RUN", "ROLLBACK", "CANCEL", "PASS"], ...], OrOne()] = ()
    """The operators in which the condition holds; any, if left out."""
    stage: Calls | None = None
    """Its stage: `3`, `2-4`, `3-`."""


class ObshellFaultWhen(BaseWhen):
    """A condition of a fault: on a dag of this file or of the request, on the clock, or on both."""

    api: ClassVar = API
    of_request: ClassVar = True

    dag: Reference | None = None
    """A dag by its id or name; the dag, node or sub task that the request names, if left out."""
    state: Annotated[tuple[State, ...], OrOne()] = ()
    """The states in which the condition holds; any, if left out."""


class ObshellFault(Fault):
    """An injected fault: which requests it applies to, and its effects. Dags are unaffected."""

    api: ClassVar[str] = API.name
    ids_by_operation: ClassVar[Mapping[str, Mapping[str, str]]] = {route.id: route.ids for route in API.routes}
    changing_operations: ClassVar[frozenset[str]] = frozenset(route.id for route in API.routes if route.changes)

    operation: Annotated[tuple[Annotated[str, OperationName(API)], ...], Field(min_length=1), OrOne()] = ()
    """The operations that it applies to, by operationId, including those that start something; all, if left out."""
    dag: ShownId | None = None
    """The dag in the request's path, by its number or by its generic id as a text; any, if left out."""
    node: ShownId | None = None
    """The node in the request's path, by its number or generic id."""
    sub_task: ShownId | None = None
    """The sub task in the request's path, by its number or generic id."""
    when: ObshellFaultWhen | None = None


class ObshellStub(Stub):
    """A response to a call beside the task routes; the first stub that matches a request responds."""

    when: When | None = None


class ObshellRefusal(StartRefusal):
    """A refusal of the request that starts it, once its body and credentials are accepted."""

    code_key: ClassVar = "errCode"

    when: When | None = None
    code: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+(\.[A-Za-z0-9]+)+$")]
    """The error's errCode: `OB.Tenant.Existed`."""


class ObshellStartsOn(StartsOn):
    """The request outside the task API that starts it; each matching request starts another one."""

    api: ClassVar = API

    identity: Annotated[tuple[Identity, ...], OrOne()] = ()
    """The identities in which the agent accepts the request; any, if left out."""
    refuses: Annotated[tuple[ObshellRefusal, ...], Field(max_length=MAX_REFUSALS)] = ()
    """Refusals of the request; the first one that matches is sent, and nothing starts."""


def check_agents(scenario: Scenario) -> Iterator[Issue]:
    """Yield an issue for `agents` beside `agent`, and for each port that two agents have."""
    if scenario.agents and "agent" in scenario.model_fields_set:
        yield Issue(("agent",), "contradiction", "the file has `agents` too", "Put it into `agents`, or remove it.")
    ports = [agent.port for agent in scenario.agents]
    for place, port in enumerate(ports):
        if port and port in ports[:place]:
            what = f"port {port} is that of another agent"
            yield Issue(("agents", place, "port"), "taken-port", what, "Leave it out for any free one.")
