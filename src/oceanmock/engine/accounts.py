"""Who may ask a sandbox: OCP's users and access keys. The mock's own, and no secret.

Which permissions the two default users have is ours. obshell's passwords are its agent's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

VIEWER: Final = "TASK_VIEWER"
MANAGER: Final = "TASK_MANAGER"
EVERYTHING: Final = frozenset({VIEWER, MANAGER})


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a password."""

    name: str
    password: str
    permissions: frozenset[str]


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key and its secret key."""

    id: str
    secret: str
    permissions: frozenset[str] = EVERYTHING


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who is known. With ``required`` False nobody is asked, and everybody may do everything."""

    users: tuple[User, ...] = (
        User("viewer", "viewer", frozenset({VIEWER})),
        User("manager", "manager", EVERYTHING),
    )
    access_keys: tuple[AccessKey, ...] = (AccessKey("oceanmock-ak", "oceanmock-sk"),)
    required: bool = True
