"""Write specifications and commands as JSON, for stores that outlive the process, and read them again.

Scenarios are kept as their authors wrote them. Reading validates them and faults again, so that a store holds nothing
that the admin API would refuse; nothing in it is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, get_args

import orjson

from oceanmock.engine.log import AccessKeyPair, Accounts, Command, OperationRecord, SandboxSpec, User
from oceanmock.journal.entries import Entry, Recorded, read_recorded
from oceanmock.scenario import BaseScenario
from oceanmock.scenario.faults import Fault

_COMMANDS: Final = {command.__name__: command for command in get_args(Command)}


def encode_spec(spec: SandboxSpec) -> bytes:
    """Return a specification as JSON."""
    return _encode(_fields_of(spec))


def encode_command(command: Command) -> bytes:
    """Return a command as JSON."""
    return _encode({"command": type(command).__name__, **_fields_of(command)})


def encode_records(records: tuple[OperationRecord, ...]) -> bytes:
    """Return the records of a task as JSON."""
    return _encode([asdict(record) for record in records])


def decode_records(data: bytes) -> list[OperationRecord]:
    """Return the records that ``encode_records`` wrote."""
    return [OperationRecord(**record) for record in orjson.loads(data)]


def encode_key(key: Any) -> str:
    """Return the key of a task, a counter or a record as a text."""
    return _encode(key).decode()


def decode_key(text: str) -> Any:
    """Return the key that ``encode_key`` wrote."""
    return _as_key(orjson.loads(text))


def encode_entry(recorded: Recorded) -> bytes:
    """Return an entry of a journal as JSON, without secrets."""
    entry = read_recorded(recorded)
    return json.dumps(_fields_of(entry), default=lambda body: body.decode("latin-1")).encode()


def decode_entry(data: bytes, *, number: int) -> Recorded:
    """Return the entry that ``encode_entry`` wrote, with its number."""
    values = json.loads(data) | {"number": number}
    request, response = (
        [(k.encode("latin-1"), v.encode("latin-1")) for k, v in values.pop(f"{side}_headers")]
        for side in ("request", "response")
    )
    bodies = {key: values[key].encode("latin-1") for key in ("request_body", "response_body")}
    return Entry(**values | bodies), request, response


@dataclass(frozen=True, slots=True)
class Decoder:
    """Read what was encoded: ``scenario_of`` a mapping and its path, ``fault_of`` a mapping.

    Every method raises InputError, KeyError, TypeError or ValueError for what was not encoded by this version.
    """

    scenario_of: Callable[..., BaseScenario]
    fault_of: Callable[[Any], Fault]

    def spec(self, data: bytes) -> SandboxSpec:
        """Return a specification."""
        values = self._decode(orjson.loads(data))
        accounts = values["accounts"]
        users = tuple(User(it["name"], it["password"], frozenset(it["permissions"])) for it in accounts["users"])
        pairs = accounts["access_keys"]
        keys = tuple(AccessKeyPair(it["id"], it["secret"], frozenset(it["permissions"])) for it in pairs)
        ports = tuple(values.get("ports", ()))
        return SandboxSpec(**values | {"accounts": Accounts(users, keys, accounts["required"]), "ports": ports})

    def command(self, data: bytes) -> Command:
        """Return a command."""
        values = self._decode(orjson.loads(data))
        command: Command = _COMMANDS[values.pop("command")](**values)
        return command

    def _decode(self, values: dict[str, Any]) -> dict[str, Any]:
        if "scenarios" in values:
            values["scenarios"] = tuple(map(self._scenario, values["scenarios"]))
        if "scenario" in values:
            values["scenario"] = self._scenario(values["scenario"])
        if "fault" in values:
            values["fault"] = self.fault_of(values["fault"])
        if "key" in values:
            values["key"] = _as_key(values["key"])
        return values

    def _scenario(self, value: Mapping[str, Any]) -> BaseScenario:
        return self.scenario_of(value["file"], path=value["name"])


def _fields_of(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _encode(value: Any) -> bytes:
    return orjson.dumps(value, default=_as_json, option=orjson.OPT_PASSTHROUGH_DATACLASS)


def _as_json(value: Any) -> Any:
    """Return the JSON of what is none: a scenario, a fault, accounts, a set."""
    if isinstance(value, BaseScenario):
        return {"name": value.name, "file": orjson.Fragment(value.source)}
    if isinstance(value, Fault):
        return value.to_json()
    return sorted(value) if isinstance(value, frozenset) else _fields_of(value)


def _as_key(value: Any) -> Any:
    """Return a key with tuples for lists, so that it can be hashed."""
    return tuple(map(_as_key, value)) if isinstance(value, list) else value
