"""The accounts of a sandbox: OCP's users and access keys. They are public, and the mock's own.

The permissions of the two default users are oceanmock's choice. obshell's passwords are its
agent's, in the scenario.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

VIEWER_PERMISSION: Final = "TASK_VIEWER"
MANAGER_PERMISSION: Final = "TASK_MANAGER"
ALL_PERMISSIONS: Final = frozenset({VIEWER_PERMISSION, MANAGER_PERMISSION})


@dataclass(frozen=True, slots=True)
class User:
    """A user with a password."""

    name: str
    password: str
    permissions: frozenset[str]


@dataclass(frozen=True, slots=True)
class AccessKeyPair:
    """An access key and its secret key."""

    id: str
    secret: str
    permissions: frozenset[str] = ALL_PERMISSIONS


@dataclass(frozen=True, slots=True)
class Accounts:
    """The users and access keys. With ``required`` False every request has all permissions."""

    users: tuple[User, ...] = (
        User("viewer", "viewer", frozenset({VIEWER_PERMISSION})),
        User("manager", "manager", ALL_PERMISSIONS),
    )
    access_keys: tuple[AccessKeyPair, ...] = (AccessKeyPair("oceanmock-ak", "oceanmock-sk"),)
    required: bool = True
