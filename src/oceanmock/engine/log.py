"""Define a sandbox's specification, and the commands of its log; write both as JSON, and read them.

A sandbox is its ``SandboxSpec`` and the commands it has accepted since, in order. Everything that a client sees follows
from these and from the clock, so a reset is an empty log, and a copy of both is a copy of the sandbox. A refused
command changes nothing and is not logged.

In JSON, for stores that outlive the process, scenarios are as their authors wrote them. Reading validates them and
faults again, so that a store holds nothing that the admin API would refuse; nothing in it is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, get_args

import orjson

from oceanmock.clock import Progression, machine_now
from oceanmock.openapi import ALL_PERMISSIONS, VIEWER_PERMISSION
from oceanmock.scenario import BaseScenario
from oceanmock.scenario.faults import Fault


@dataclass(frozen=True, slots=True)
class User:
    """A user of OCP with a password."""

    name: str
    password: str
    permissions: frozenset[str]


@dataclass(frozen=True, slots=True)
class AccessKeyPair:
    """An access key of OCP and its secret key."""

    id: str
    secret: str
    permissions: frozenset[str] = ALL_PERMISSIONS


@dataclass(frozen=True, slots=True)
class Accounts:
    """The users and access keys of OCP, all public. With ``required`` False every request has all permissions."""

    users: tuple[User, ...] = (
        User("viewer", "viewer", frozenset({VIEWER_PERMISSION})),
        User("manager", "manager", ALL_PERMISSIONS),
    )
    access_keys: tuple[AccessKeyPair, ...] = (AccessKeyPair("oceanmock-ak", "oceanmock-sk"),)
    required: bool = True


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """A sandbox before its first command.

    ``created`` is a time of the machine, as ``machine_now`` returns it. ``starts_at``, ``progression`` and ``switches``
    (by API name) outrank the scenario files; ``default_progression`` applies to a file that states none. ``ports`` are
    those of the servers that it stands for, if there are several. After ``ttl`` of the machine's time without a request
    it is removed; None keeps it.
    """

    scenarios: tuple[BaseScenario, ...] = ()
    name: str = "default"
    seed: int = 0
    created: int = field(default_factory=machine_now)
    starts_at: int | None = None
    progression: Progression | None = None
    default_progression: Progression = "time"
    speed: float = 1.0
    switches: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    accounts: Accounts = field(default_factory=Accounts)
    ports: Sequence[int] = ()
    ttl: int | None = None

    @property
    def agreed_progression(self) -> Progression:
        """Return the progression, by default the one that all scenarios state; `time` if they differ."""
        if self.progression is not None:
            return self.progression
        default = self.default_progression
        stated = {it.progression if "progression" in it.model_fields_set else default for it in self.scenarios}
        return min(stated, default=default) if len(stated) < 2 else "time"


@dataclass(frozen=True, slots=True)
class Operate:
    """Request an operation of a task or dag, or of its part at position ``part``."""

    api: str
    key: Hashable
    operation: str
    part: int | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Start a task or dag from the template at a position; ``values`` follow from the request, by the API's names."""

    api: str
    template: int
    values: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Create:
    """Start the only task or dag of a scenario; it may repeat."""

    api: str
    scenario: BaseScenario


@dataclass(frozen=True, slots=True)
class Load:
    """Add scenarios."""

    scenarios: tuple[BaseScenario, ...]


@dataclass(frozen=True, slots=True)
class SetClock:
    """Change how time passes; None keeps a setting."""

    progression: Progression | None = None
    speed: float | None = None


@dataclass(frozen=True, slots=True)
class MoveClock:
    """Move the clock on to an instant."""

    to: int


@dataclass(frozen=True, slots=True)
class AddFault:
    """Add a fault behind the others."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class RemoveFault:
    """Remove a fault by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class ClearFaults:
    """Remove every fault."""


Command = Operate | Start | Create | Load | SetClock | MoveClock | AddFault | RemoveFault | ClearFaults


MAX_ACCEPTED: Final[tuple[tuple[tuple[type, ...], int, str], ...]] = (
    ((Start, Create, Load), 100_000, "starts and loads of tasks"),
    ((Operate, SetClock, AddFault, RemoveFault, ClearFaults), 10_000_000, "operations and changes"),
)
"""How many commands of some kinds a sandbox accepts. A task takes some kilobytes of memory, an operation 24 bytes."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An accepted command, with the instant of the sandbox and the time of the machine."""

    at: int
    wall: int
    command: Command


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """A requested operation on a part, or the whole (``position`` None); ``refused`` is the reason, or ""."""

    at: int  # in nanoseconds since the epoch
    operation: str
    position: int | None
    refused: str = ""


_COMMANDS: Final = {command.__name__: command for command in get_args(Command)}


def fields_of(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass's instance by their names."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def encode(value: Any) -> bytes:
    """Return as JSON a specification, an entry, a command, records of operations, or a key of the store."""
    return orjson.dumps(value, default=_as_json, option=orjson.OPT_PASSTHROUGH_DATACLASS)


def _as_json(value: Any) -> Any:
    if isinstance(value, BaseScenario):
        return {"name": value.name, "file": orjson.Fragment(value.source)}
    if isinstance(value, Fault):
        return value.to_json()
    if isinstance(value, frozenset):
        return sorted(value)
    return ({"command": type(value).__name__} if isinstance(value, Command) else {}) | fields_of(value)


def decode_records(data: bytes) -> list[OperationRecord]:
    """Return the records that ``encode`` wrote."""
    return [OperationRecord(**record) for record in orjson.loads(data)]


def decode_key(data: bytes | str) -> Any:
    """Return the key that ``encode`` wrote; lists are tuples, so that it can be hashed."""
    return _as_key(orjson.loads(data))


def _as_key(value: Any) -> Any:
    return tuple(map(_as_key, value)) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decode specifications and commands; ``scenario_of`` reads a mapping and its path, ``fault_of`` a mapping.

    Both methods raise InputError, KeyError, TypeError or ValueError for data of another version.
    """

    scenario_of: Callable[..., BaseScenario]
    fault_of: Callable[[Any], Fault]

    def spec(self, data: bytes) -> SandboxSpec:
        """Return a specification."""
        values = orjson.loads(data)
        accounts = values["accounts"]
        users = tuple(User(it["name"], it["password"], frozenset(it["permissions"])) for it in accounts["users"])
        pairs = accounts["access_keys"]
        keys = tuple(AccessKeyPair(it["id"], it["secret"], frozenset(it["permissions"])) for it in pairs)
        values["accounts"] = Accounts(users, keys, accounts["required"])
        values["scenarios"] = self._scenarios(values["scenarios"])
        values["ports"] = tuple(values.get("ports", ()))
        return SandboxSpec(**values)

    def command(self, data: bytes) -> Command:
        """Return a command."""
        values = orjson.loads(data)
        readers: dict[str, Callable[[Any], Any]]
        readers = {"scenarios": self._scenarios, "scenario": self._scenario, "fault": self.fault_of, "key": _as_key}
        values |= {key: read(values[key]) for key, read in readers.items() if key in values}
        command: Command = _COMMANDS[values.pop("command")](**values)
        return command

    def _scenarios(self, values: Sequence[Mapping[str, Any]]) -> tuple[BaseScenario, ...]:
        return tuple(map(self._scenario, values))

    def _scenario(self, value: Mapping[str, Any]) -> BaseScenario:
        return self.scenario_of(value["file"], path=value["name"])
