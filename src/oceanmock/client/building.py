"""Tasks and dags written in code: what the file format says, as calls that read as sentences.

    ocp.task("Install agent", ["Prepare", subtask("Install", fails(log="disk full"), succeeds())])
    obshell.dag("Upgrade", [node("Restart", fails(), succeeds(), can=["retry", "pass"])])

Each gives a plain mapping of the format, and ``rest`` is whatever else the format has; the server
checks it all, and says of a mistake where in the task or dag it is. Nothing here is stateful.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oceanmock.client.clock import Span, span_text

Attempt = Mapping[str, Any]
"""What one run does: ``fails(…)``, ``succeeds(…)``, ``hangs()``, or a mapping of the format."""


def succeeds(takes: Span | None = None, *, log: str | Sequence[str] | None = None) -> Attempt:
    """A run that succeeds: after a second, or 10 ms for obshell, if nothing is said."""
    return _said(takes=_span(takes), log=log)


def fails(
    takes: Span | None = None,
    *,
    log: str | Sequence[str] | None = None,
    error: Mapping[str, Any] | str | None = None,
) -> Attempt:
    """A run that fails. ``error`` is obshell's alone: its message, or a mapping of the format."""
    told = {"message": error} if isinstance(error, str) else error
    return _said(takes=_span(takes), ends="FAILED", log=log, error=told)


def hangs(*, log: str | Sequence[str] | None = None) -> Attempt:
    """A run that only its timeout or a cancel ends."""
    return _said(takes="forever", log=log)


def subtask(name: str, *attempts: Attempt, **rest: Any) -> dict[str, Any]:
    """A subtask of OCP: what each run of it does; the last one repeats.

    subtask("Install", fails("2s", log="disk full"), succeeds(), timeout="30m")
    """
    return {"name": name, **_attempts(attempts), **rest}


def node(
    name: str,
    *attempts: Attempt,
    can: str | Sequence[str] | None = None,
    sub_tasks: Sequence[Mapping[str, Any]] | None = None,
    **rest: Any,
) -> dict[str, Any]:
    """A node of obshell: what each run of its one sub task does, or ``sub_tasks``, one per agent.

        node("Restart", fails(error="exit status 1"), succeeds(), can=["retry", "pass"])
        node("Restart", sub_tasks=[sub_task(succeeds()), sub_task(fails(), agent=second)])

    ``can`` is what may be done to it: cancel, continue, pass, retry, rollback.
    """
    if attempts and sub_tasks is not None:
        raise TypeError(f"node {name!r} has attempts and sub_tasks; give each sub task its own.")
    below = [sub_task(*attempts)] if attempts else sub_tasks
    told = None if below is None else list(below)
    return {"name": name, **_said(can=can, sub_tasks=told), **rest}


def sub_task(*attempts: Attempt, name: str | None = None, **rest: Any) -> dict[str, Any]:
    """A sub task of a node: what each run of it does; the last one repeats.

    sub_task(fails(), succeeds(), agent={"ip": "10.0.0.2", "port": 2886})
    """
    return {**_said(name=name), **_attempts(attempts), **rest}


def _attempts(attempts: Sequence[Attempt]) -> dict[str, Any]:
    return {"attempts": [dict(each) for each in attempts]} if attempts else {}


def _span(span: Span | None) -> str | None:
    return None if span is None else span_text(span)


def _said(**said: Any) -> dict[str, Any]:
    """What is said, without what is left out."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in said.items()
        if value is not None
    }
