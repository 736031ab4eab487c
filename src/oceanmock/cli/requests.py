"""The commands on the requests to a sandbox: ``journal``, ``verify`` and ``faults``."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import Any, Final
from urllib.parse import quote

import click

from oceanmock.admin_client import Json, NoAnswer, SandboxClient, without_none
from oceanmock.cli.admin import AS_JSON, CommandFunction, on_sandbox, print_items
from oceanmock.text import escape_unprintable

FOLLOW_INTERVAL_S: Final = 0.25
PAGE_SIZE: Final = 500

# --- journal and verify ---------------------------------------------------------------------------

JOURNAL_FILTERS: Final = {
    "--api": "Only this API: ocp or obshell.",
    "--method": "Only this method.",
    "--path": "Only paths of this form, in which * is any text.",
    "--status": "Only this status, or a class such as 4xx.",
    "--caller": "Only requests of this user or access key.",
    "--fault": "Only requests that this fault affected.",
    "--task": "Only requests about this task of OCP.",
    "--subtask": "Only requests about this subtask.",
    "--dag": "Only requests about this dag of obshell.",
    "--node": "Only requests about this node.",
    "--sub-task": "Only requests about this sub task of a node.",
}


def with_filters(command: CommandFunction) -> CommandFunction:
    """Add the argument and the options that choose requests of the journal."""
    for name, text in reversed(JOURNAL_FILTERS.items()):
        metavar = "API" if name == "--api" else None
        command = click.option(name, metavar=metavar, help=text)(command)
    return click.argument("operation", required=False)(command)


@click.command()
@on_sandbox
@with_filters
@click.option("--follow", "-f", is_flag=True, help="Print further requests until interrupted.")
@click.option("--clear", is_flag=True, help="Delete every entry, and print none.")
@click.option("--json", "as_json", is_flag=True, help="Print each entry as JSON, one a line.")
def journal(*, client: SandboxClient, follow: bool, clear: bool, as_json: bool, **filters: Any) -> None:
    """Print the requests to a sandbox, the oldest first; only those of OPERATION, if given."""
    if clear:
        client.ask("DELETE", "/journal")
        return
    pause, after = threading.Event(), 0
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            query = {**filters, "after": after, "limit": PAGE_SIZE}
            page = client.ask("GET", "/journal", query=query)
            for entry in page["entries"]:
                click.echo(json.dumps(entry, ensure_ascii=False) if as_json else _line_of(entry))
            if not page["entries"]:
                if not follow:
                    return
                pause.wait(FOLLOW_INTERVAL_S)
            last = page["last"]
            after = 0 if last < after else max(after, last)  # a journal that has begun anew


def _line_of(entry: Json) -> str:
    target = f"{entry['path']}?{entry['query']}" if entry["query"] else entry["path"]
    status = entry["status"] or "cut"
    by = f"  {entry['caller']}" if entry["caller"] else ""
    fault = f"  fault injected: {entry['fault']}" if entry["fault"] else ""
    why = f"\n{'':>8}{escape_unprintable(entry['refusal'])}" if entry["refusal"] else ""
    head = f"{entry['number']:>6}  {entry['at']}  {status}  {entry['method']} {target}{by}{fault}"
    return escape_unprintable(head) + why


@click.command()
@on_sandbox
@with_filters
@click.option("--body", help="JSON that the request's body must contain.")
@click.option("--times", type=click.IntRange(0), help="Exactly so many times.")
@click.option("--at-least", type=click.IntRange(0), help="At least so many times; 1 by default.")
@click.option("--at-most", type=click.IntRange(0), help="At most so many times.")
def verify(
    *,
    client: SandboxClient,
    body: str | None,
    times: int | None,
    at_least: int | None,
    at_most: int | None,
    **filters: Any,
) -> None:
    """Check how many requests match.

    Exits with 1, and prints the nearest request, if OPERATION was not requested so many times.

    \b
    oceanmock verify retrySubtask --subtask 1002 --times 1
    """
    query = without_none(**filters)
    if body is not None:
        try:
            query["body"] = json.loads(body)
        except ValueError as problem:
            raise NoAnswer(f"--body is no JSON: {problem}.") from None
    often = without_none(times=times, at_least=at_least, at_most=at_most)
    verdict = client.ask("POST", "/journal/verify", {"query": query, **often})
    click.echo(verdict["message"])
    if not verdict["holds"]:
        raise click.exceptions.Exit(1)


# --- faults ---------------------------------------------------------------------------------------


@click.group()
def faults() -> None:
    """List, add and remove injected faults.

    \b
    oceanmock faults add --operation getTaskInstance --calls 2-3 --status 503
    oceanmock faults remove --all
    """


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_value, value))
    return value if isinstance(value, str) else json.dumps(value)


@faults.command("list")
@on_sandbox
@AS_JSON
def list_faults(*, client: SandboxClient, as_json: bool) -> None:
    """List the faults: name, requests counted and affected, and what each does."""
    print_items(
        client.ask("GET", "/faults")["faults"],
        lambda fault: (
            fault["name"],
            f"{fault['counted']} counted",
            f"{fault['affected']} affected",
            " ".join(f"{key}={_value(v)}" for key, v in fault["fault"].items() if key != "name"),
        ),
        as_json=as_json,
    )


@faults.command("add")
@on_sandbox
@click.option("--name", help="Its name in the journal; generated by default.")
@click.option("--operation", multiple=True, help="Only this operation; any by default.")
@click.option("--api", metavar="API", help="Only requests of this API: ocp or obshell.")
@click.option("--task", type=int, help="Only requests about this task of OCP.")
@click.option("--subtask", type=int, help="Only requests about this subtask.")
@click.option("--dag", help="Only requests about this dag of obshell.")
@click.option("--node", help="Only requests about this node.")
@click.option("--sub-task", help="Only requests about this sub task of a node.")
@click.option("--caller", help="Only requests of this user or access key.")
@click.option("--calls", multiple=True, help="Which requests: 3, 2-4 or 1-; all by default.")
@click.option("--counts", type=click.Choice(["calls", "attempts"]), help="What is counted.")
@click.option("--probability", type=float, help="The probability that one is affected: 0 to 1.")
@click.option("--delay", metavar="DURATION", help="Delay the response by so much.")
@click.option("--jitter", metavar="DURATION", help="And by at most so much more.")
@click.option("--status", type=int, help="Respond with this status and an error of the API.")
@click.option("--reset", is_flag=True, help="Reset the connection without a response.")
@click.option("--drop-response", is_flag=True, help="Execute it, and drop the response.")
@click.option("--empty", is_flag=True, help="Respond with a status and headers, and no body.")
@click.option("--truncate", type=int, metavar="BYTES", help="Send so many bytes, and close.")
@click.option("--malformed", is_flag=True, help="Send a body that is malformed JSON.")
@click.option("--content-type", help="Send this as the content type.")
@click.option("--dribble-bytes", type=int, metavar="BYTES", help="Send so many bytes at a time.")
@click.option("--dribble-every", metavar="DURATION", help="And wait so long between them.")
@click.option("--drop", multiple=True, metavar="PATH", help="Leave out, for example, data.status.")
@click.option("--change-type", multiple=True, metavar="PATH", help="Change the type of a member.")
@click.option("--still-executes", is_flag=True, help="Execute the operation nevertheless.")
def add_fault(*, client: SandboxClient, dribble_bytes: int | None, dribble_every: str | None, **options: Any) -> None:
    """Add a fault, and print its name."""
    body = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in options.items()
        if value is not None and value is not False and value != ()
    }
    dribble = without_none(bytes=dribble_bytes, every=dribble_every)
    click.echo(client.ask("POST", "/faults", body | ({"dribble": dribble} if dribble else {}))["name"])


@faults.command("remove")
@on_sandbox
@click.argument("name", required=False)
@click.option("--all", "is_all", is_flag=True, help="Remove all of them.")
def remove_fault(name: str | None, *, client: SandboxClient, is_all: bool) -> None:
    """Remove the fault NAME, or all of them."""
    if (name is None) is not is_all:
        raise NoAnswer("which fault? Give its name, or --all.")
    client.ask("DELETE", "/faults" if name is None else f"/faults/{quote(name, safe='')}")


REQUEST_COMMANDS: Final = (journal, verify, faults)
