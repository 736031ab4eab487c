"""Define the types of an obshell scenario's fields: identities, quirks, versions, maintenance.

Words are the server's own (github.com/oceanbase/obshell at 61ee147, ob/agent).
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from oceanmock.obshell.api import API
from oceanmock.scenario.fields import MAX_ID, Model, Name, OrOne, Timeout

MAX_PER_OWNER: Final = 99
"""The most nodes of a dag, and sub tasks of a node: their ids are their owner's and two digits."""

Identity = Literal[
    "SINGLE",
    "MASTER",
    "FOLLOWER",
    "CLUSTER AGENT",
    "TAKE OVER MASTER",
    "TAKE OVER FOLLOWER",
    "SCALING OUT",
    "SCALING IN",
    "UNIDENTIFIED",
]
"""An agent's identity in its cluster (ob/agent/meta/agent_identity.go)."""

QuirkName = Literal[
    "refusal-is-never-sent",
    "never-maintained-is-500",
    "unreachable-owner-is-500",
    "foreign-obproxy-id-is-forwarded-too",
    "cancelled-rollback-is-stuck",
    "body-id-overrules-path",
    "lost-race-is-500",
    "node-without-details-is-500",
    "forwarded-pass-loses-its-body",
    "logs-of-nothing-are-empty",
    "status-has-no-trace-id",
    "unheld-cluster-id-is-500",
    "unreadable-show-details-is-500",
    "body-that-is-no-object-is-eof",
    "node-body-says-dag-operator",
    "missing-header-is-400",
    "no-oceanbase-is-500",
    "undecryptable-body-is-500",
    "panic-is-dated-at-start",
]
QUIRK_NAMES: Final[tuple[QuirkName, ...]] = get_args(QuirkName)
"""Deviations of the server from its own rules, which openapi/obshell.yaml describes."""

OLDEST_VERSION: Final = "4.2.3.0"
NEWEST_VERSION: Final = API.version
_VERSION: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){3}", re.ASCII)


def _check_ip(text: str) -> str:
    """Refuse an address whose leading zero byte Go drops in an id, which it then refuses."""
    try:
        address = ip_address(text)
    except ValueError:
        raise PydanticCustomError("bad_address", "is no IPv4 or IPv6 address") from None
    if not address.packed[0]:
        message = "begins with a zero byte: obshell would refuse its own ids"
        raise PydanticCustomError("bad_address", message)
    return str(address)


def _check_version(text: str) -> str:
    if not _VERSION.fullmatch(text):
        raise PydanticCustomError("bad_version", "is not four numbers such as 4.5.0.0")
    if not _numbers(OLDEST_VERSION) <= _numbers(text) <= _numbers(NEWEST_VERSION):
        limits = {"oldest": OLDEST_VERSION, "newest": NEWEST_VERSION}
        raise PydanticCustomError("bad_version", "is not between {oldest} and {newest}", limits)
    return text


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _at_least_a_second(seconds: int) -> int:
    if not seconds:
        raise PydanticCustomError("bad_duration", "is shorter than 1s")
    return seconds


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _also_with_commas(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"type": "string", "pattern": ","})


QuirkSelection = Annotated[
    tuple[Literal[QuirkName, "all"], ...],
    OrOne(),
    BeforeValidator(_split_commas),
    Field(json_schema_extra=_also_with_commas),
]
ServedVersion = Annotated[str, AfterValidator(_check_version)]
RunTimeout = Annotated[Timeout, AfterValidator(_at_least_a_second)]
Ip = Annotated[str, AfterValidator(_check_ip)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
DagNumber = Annotated[int, Field(strict=True, ge=1, le=MAX_ID // (MAX_PER_OWNER + 1) ** 2)]
"""An id so small that those of its nodes and their sub tasks stay within ``MAX_ID``."""


class TenantLock(Model):
    """The maintenance of one tenant."""

    tenant: Name


def _kind_of_maintenance(value: object) -> str:
    return "<lock>" if isinstance(value, dict | TenantLock) else "<word>"


Maintenance = Annotated[
    Annotated[TenantLock, Tag("<lock>")]
    | Annotated[Literal["none", "global", "obproxy"], Tag("<word>")],
    Discriminator(_kind_of_maintenance),
]
