"""The tasks that a run which writes may play with: named, or chosen among the FAILED ones.

Listing them reads, and changes nothing. The rule: what nobody has named or chosen is not touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from oceanmock.cli.conform import credentials
from oceanmock.cli.conform.order import Unready
from oceanmock.cli.conform.words import Several
from oceanmock.conformance.model import Options

if TYPE_CHECKING:
    from oceanmock.conformance.target import Target


def asked_tasks(target: Target) -> tuple[str, ...]:
    """The ids that somebody at the terminal chose among the FAILED ones."""
    failed = _failed(target)
    noun = "task" if target.api == "ocp" else "dag"
    if not failed:
        raise Unready(
            f"--write needs a {noun} to play with, and none is FAILED. Name one with --task ID."
        )
    listed = "\n".join(f"  {id}  {name}" for id, name in failed)
    if not credentials.somebody_is_there():
        raise Unready(
            f"--write needs to know which {noun}s may be played with: --task ID. FAILED are:\n"
            f"{listed}"
        )
    click.echo(f"These {noun}s are FAILED, and a run may retry, roll back or pass them:", err=True)
    click.echo(listed, err=True)
    known = [id for id, _ in failed]
    choice = Several(known)
    asked = "Ids to play with, with commas between them"
    return tuple(click.prompt(asked, type=choice, err=True))


def _failed(target: Target) -> list[tuple[str, str]]:
    """Id and name of what is FAILED on the target, read and nothing else."""
    from oceanmock.conformance.http_client import HttpClient  # requests
    from oceanmock.conformance.reports.texts import line

    where = {
        "ocp": ("/api/v2/tasks/instances?status=FAILED&size=50", "status"),
        "obshell": ("/api/v1/task/dag/unfinish?show_details=false", "state"),
    }
    path, key = where[target.api]
    exchange = HttpClient(target, Options()).send("GET", path, phase="preflight")
    said = exchange.json()
    data = said.get("data") if isinstance(said, dict) else None
    rows = data.get("contents") if isinstance(data, dict) else None
    return [
        (line(str(row.get("id"))), line(str(row.get("name"))))
        for row in rows or ()
        if isinstance(row, dict) and row.get(key) == "FAILED"
    ]
