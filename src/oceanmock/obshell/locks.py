"""Maintenance locks: their kinds, what excludes what, and where a dag that fails gives its lock back.

Facts come from ob/agent/service/task/status_maintainer.go and ob/agent/executor of github.com/oceanbase/obshell at
61ee147. Which dag has a lock now follows from the states of all (``machine.holds_lock``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Discriminator, Tag

from oceanmock.scenario import Model, Name

if TYPE_CHECKING:
    from oceanmock.obshell.scenario import Dag

FailureExit = Literal["always", "first node", "never"]
FAILURE_EXITS: Final[Mapping[tuple[str, str], FailureExit]] = {
    **dict.fromkeys(
        (
            ("POST", "/api/v1/tenant"),
            ("DELETE", "/api/v1/tenant/{}"),
            ("PUT", "/api/v1/tenant/{}/primary-zone"),
            ("POST", "/api/v1/tenant/{}/replicas"),
            ("PATCH", "/api/v1/tenant/{}/replicas"),
            ("DELETE", "/api/v1/tenant/{}/replicas"),
            ("POST", "/api/v1/tenant/restore"),
            ("DELETE", "/api/v1/recyclebin/tenant/{}"),
        ),
        "always",
    ),
    **dict.fromkeys(
        (("POST", "/api/v1/ob/scale_in"), ("POST", "/api/v1/obproxy"), ("DELETE", "/api/v1/obproxy")), "first node"
    ),
}
"""By request, where the dag that it starts gives its lock back when it fails.

(FAILURE_EXIT_MAINTENANCE in executor/tenant, executor/recyclebin, ob/restore.go:103, ob/scale_in.go:83,
obproxy/add.go:523; a context of the dag is one of each node, service/task/node.go:35.)"""


class TenantLock(Model):
    """The maintenance of one tenant."""

    tenant: Name


Maintenance = Annotated[
    Annotated[TenantLock, Tag("<lock>")] | Annotated[Literal["none", "global", "obproxy"], Tag("<word>")],
    Discriminator(lambda value: "<lock>" if isinstance(value, dict | TenantLock) else "<word>"),
]


def excludes(current: Dag, other: Dag) -> bool:
    """Return whether a dag's maintenance lock, while it holds it, keeps another dag from taking its own.

    An agent's own database keeps obproxy's apart, and OceanBase's that of each tenant (status_maintainer.go).
    """
    locks = (current.maintenance, other.maintenance)
    if "none" in locks or current.scope != other.scope:
        return False
    are_alike = isinstance(locks[0], TenantLock) is isinstance(locks[1], TenantLock)
    return locks[0] == locks[1] if current.scope == "agent" or are_alike else True


def failure_exit_of(method: str, path: str) -> FailureExit | None:
    """Return where obshell's own dag of a request gives its lock back; None where it does not."""
    return FAILURE_EXITS.get((method, re.sub("{[^}]*}", "{}", path)))
