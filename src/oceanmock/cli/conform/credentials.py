"""Credentials: what lets a run in, by option or environment, else asked for at the terminal.

A secret goes nowhere but into the credentials: no message, report or command to repeat a run has
it.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from oceanmock.cli.conform.order import Order


def credentials_of(order: Order) -> Any:
    """What lets the run in; what was left out is asked for."""
    from oceanmock.credentials import AccessKey, Basic, Sealed  # cryptography

    if order.api == "obshell":
        password = order.password
        if password is None and order.agent_password is None:
            password = _ask("the password of root@sys", "--password", "OCEANMOCK_PASSWORD")
        return Sealed(password or "", order.agent_password, verify=order.verify)
    if order.access_key is not None:
        secret = order.secret_key
        if secret is None:
            secret = _ask(
                f"the secret of {order.access_key}", "--secret-key", "OCEANMOCK_SECRET_KEY"
            )
        return AccessKey(order.access_key, secret)
    assert order.user is not None
    password = order.password
    if password is None:
        password = _ask(f"the password of {order.user}", "--password", "OCEANMOCK_PASSWORD")
    return Basic(order.user, password)


def viewer_of(order: Order) -> Any:
    """The credentials of who may only look; None where nobody was named."""
    from oceanmock.credentials import Basic  # cryptography

    if order.viewer is None:
        return None
    password = order.viewer_password
    if password is None:
        what = f"the password of {order.viewer}"
        password = _ask(what, "--viewer-password", "OCEANMOCK_VIEWER_PASSWORD")
    return Basic(order.viewer, password)


def _ask(what: str, flag: str, variable: str) -> str:
    """A secret from whoever sits at the terminal. Raises a UsageError where nobody does."""
    if not somebody_is_there():
        raise click.UsageError(f"{what} is needed: {flag}, or {variable} in the environment.")
    text = what[0].upper() + what[1:]
    return str(click.prompt(text, hide_input=True, default="", show_default=False, err=True))


def somebody_is_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
