"""obshell's generic ids: one text for a number, its store and its agent.

The first character says which: ``1`` + number, an object in OceanBase; ``2`` (IPv4) or ``3`` (IPv6)
+ address + port + number, one in an agent's own database; ``4`` and ``5`` the same of an obproxy
dag. An IPv4 address is ten decimal digits, an IPv6 address thirty-nine, a port five. Dags, nodes
and sub tasks are numbered separately: one text is a dag on one route and a node on another.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent/engine/task/task_dto.go:280-382, and the
recorded errors of tests/data/obshell/lone.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal

from oceanmock.errors import CallerError
from oceanmock.obshell.gojson import INTEGER, Unreadable, parse_int, quoted

IdKind = Literal["cluster", "local", "obproxy"]

PORT_DIGITS: Final = 5
_DIGITS: Final = {4: 10, 6: 39}
_PREFIXES: Final[dict[tuple[IdKind, int], str]] = {
    ("local", 4): "2",
    ("local", 6): "3",
    ("obproxy", 4): "4",
    ("obproxy", 6): "5",
}
_KIND_BY_PREFIX: Final = {prefix: kind for kind, prefix in _PREFIXES.items()}


class InvalidGenericId(CallerError):
    """A text that is no generic id, with the server's message.

    ``old_message`` is that of before 4.3.1 (agent/engine/task/task_dto.go at 424f28a).
    """

    def __init__(self, text: str, why: str = "", *, old_message: str = "") -> None:
        super().__init__(f"Invalid ID: {text}: {why}" if why else f"Invalid ID: {text}")
        self.old_message: Final = old_message or f"invalid id: {text}"


@dataclass(frozen=True, slots=True)
class GenericId:
    """A parsed generic id; ``ip`` and ``port`` are the agent's, absent for a cluster object."""

    kind: IdKind
    number: int
    ip: IPv4Address | IPv6Address | None = None
    port: int = 0

    def __str__(self) -> str:
        if self.ip is None:
            return f"1{self.number}"
        prefix = _PREFIXES[self.kind, self.ip.version]
        return f"{prefix}{int(self.ip):0{_DIGITS[self.ip.version]}}{self.port:05}{self.number}"


def local_id(number: int, *, ip: str, port: int, kind: IdKind = "local") -> str:
    """Return the generic id of an object of the agent at ``ip`` and ``port``."""
    return str(GenericId(kind, number, ip_address(ip), port))


def parse_generic_id(text: str) -> GenericId:
    """Parse a generic id. Raises InvalidGenericId, in the server's order of checks."""
    if text[:1] == "1":
        if len(text) == 1:
            raise InvalidGenericId(text)
        return GenericId("cluster", _number(text, text[1:]))
    if text[:1] not in _KIND_BY_PREFIX:
        raise InvalidGenericId(text, "invalid generic id")
    kind, version = _KIND_BY_PREFIX[text[0]]
    port_at = 1 + _DIGITS[version]
    number_at = port_at + PORT_DIGITS
    if len(text) <= number_at:
        raise InvalidGenericId(text)
    ip = _address(text, text[1:port_at], version)
    if not INTEGER.fullmatch(text[port_at:number_at]):
        port = quoted(text[port_at:number_at])
        old = f"parse port failed: strconv.Atoi: parsing {port}: invalid syntax"
        raise InvalidGenericId(text, "parse port failed", old_message=old)
    return GenericId(kind, _number(text, text[number_at:]), ip, int(text[port_at:number_at]))


def _address(text: str, digits: str, version: int) -> IPv4Address | IPv6Address:
    """Return an address of exactly 4 or 16 bytes: Go drops leading zero bytes, then refuses."""
    if not INTEGER.fullmatch(digits):
        old = f"convert id '{text}' to bigInt failed"
        raise InvalidGenericId(text, "convert id to bigInt failed", old_message=old)
    value = abs(int(digits))
    if (value.bit_length() + 7) // 8 != (4 if version == 4 else 16):
        old = f"convert id '{text}' to ip failed"
        raise InvalidGenericId(text, "convert id to ip failed", old_message=old)
    return IPv4Address(value) if version == 4 else IPv6Address(value)


def _number(text: str, digits: str) -> int:
    """Return the number at the end, as Go's strconv.ParseInt reads it."""
    try:
        return parse_int(digits)
    except Unreadable as why:
        old = f"parse id failed: {why}"
        raise InvalidGenericId(text, str(why), old_message=old) from None
