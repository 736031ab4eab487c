"""The commands that drive a running server, from ``sandbox`` to ``explain``.

They speak the admin API (openapi/admin.yaml) and print what a shell script can use without reading
JSON. Exit codes: 0 done, 1 what `verify` expected has not come, 2 the command could not be carried
out; then one clear message stands on stderr.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import click

from oceanmock.client.admin import Admin, NoAnswer, SandboxClient
from oceanmock.clock import PROGRESSIONS
from oceanmock.controls import Json
from oceanmock.text import escape_unprintable, plural

F = TypeVar("F", bound=Callable[..., Any])

PAUSE: Final = 0.25
"""How long `journal --follow` waits before it asks again; seconds."""
PAGE: Final = 500
APIS: Final = ("ocp", "obshell")


# --- options that many share ----------------------------------------------------------------------


def _option(*names: str, **said: Any) -> Callable[[F], F]:
    return click.option(*names, show_envvar="envvar" in said, **said)


def _with(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def on_server(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that say which server is meant, and its ``admin``."""

    @_with(
        _option(
            "--url",
            default="http://127.0.0.1:8080",
            show_default=True,
            envvar="OCEANMOCK_URL",
            help="Where the server is.",
        ),
        _option(
            "--token",
            envvar="OCEANMOCK_TOKEN",
            help="Its token; not needed on its own machine.",
        ),
    )
    def wrapped(*args: Any, url: str, token: str | None, **options: Any) -> None:
        command(*args, admin=Admin(url.rstrip("/"), token), **options)

    return _as(command, wrapped)


def on_sandbox(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the option that says which sandbox is meant, and its ``client``."""

    @_option(
        "--sandbox",
        default="default",
        show_default=True,
        envvar="OCEANMOCK_SANDBOX",
        help="Which sandbox is meant.",
    )
    def wrapped(*args: Any, admin: Admin, sandbox: str, **options: Any) -> None:
        command(*args, client=SandboxClient(admin, sandbox), **options)

    return on_server(_as(command, wrapped))


def _as(command: Callable[..., None], wrapped: Callable[..., None]) -> Callable[..., None]:
    """The wrapped command under the name and with the words and options of the first."""
    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    params = getattr(wrapped, "__click_params__", []) + getattr(command, "__click_params__", [])
    wrapped.__click_params__ = params  # type: ignore[attr-defined]
    return wrapped


AS_JSON: Final = _option("--json", "as_json", is_flag=True, help="Print JSON instead.")


# --- sandbox --------------------------------------------------------------------------------------


@click.group()
def sandbox() -> None:
    """Create, list, reset and delete sandboxes.

    Each is a world of its own, for one test: tasks, clock, journal and faults.

    \b
    url=$(oceanmock sandbox create retry-failed-subtask --name t1 --own-port)
    curl -u manager:manager $url/api/v2/tasks/instances/1000
    oceanmock sandbox delete t1
    """


@sandbox.command("create")
@on_server
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]...")
@click.option("--name", help="What to call it; made up, if left out.")
@click.option("--own-port", is_flag=True, help="Give it a port of its own.")
@click.option(
    "--progression",
    type=click.Choice(PROGRESSIONS),
    help="How time passes in it; as the scenarios say, if left out.",
)
@click.option("--speed", type=float, help="How many times faster than the wall clock it runs.")
@click.option("--seed", type=int, help="Fills what scenarios leave out.")
@click.option("--starts-at", metavar="INSTANT", help="Where its clock starts; now, if left out.")
@click.option(
    "--auth",
    type=click.Choice(["on", "off"]),
    help="Whether requests must authenticate; as those to `default`, if left out.",
)
@click.option(
    "--switch",
    "switches",
    multiple=True,
    metavar="NAME=VALUE",
    help="A switch of OCP, such as subtask_pairing=checked. May be repeated.",
)
@click.option(
    "--obshell-switch",
    "obshell_switches",
    multiple=True,
    metavar="NAME=VALUE",
    help="A switch of obshell, such as obshell_version=4.2.3.0. May be repeated.",
)
def create_sandbox(
    scenarios: tuple[str, ...],
    *,
    admin: Admin,
    auth: str | None,
    own_port: bool,
    switches: tuple[str, ...],
    obshell_switches: tuple[str, ...],
    **said: Any,
) -> None:
    """Create a sandbox and print its URL, and nothing else, on stdout.

    SCENARIO is a name the server knows (`oceanmock list`) or the path of a file here.
    """
    body = _given(said) | {"scenarios": [_scenario(each) for each in scenarios]}
    if auth is not None:
        body["auth"] = auth == "on"
    body |= {"own_port": True} if own_port else {}
    body |= {"switches": _pairs("--switch", switches)} if switches else {}
    if obshell_switches:
        body["obshell_switches"] = _pairs("--obshell-switch", obshell_switches)
    made = admin.ask("POST", "/sandboxes", body)
    urls = made["urls"]
    click.echo(f"sandbox {made['name']}", err=True)
    click.echo(urls.get("port") or _absolute(urls["path"], admin.url))


def _scenario(given: str) -> str:
    """The name of a scenario, or the text of a file."""
    path = Path(given)
    if path.suffix not in (".yaml", ".yml") and path.name == given:
        return given
    try:
        return path.read_text(encoding="utf-8") + "\n"
    except (OSError, UnicodeDecodeError) as problem:
        why = getattr(problem, "strerror", None) or str(problem)
        raise NoAnswer(f"the scenario file {given} cannot be read: {why}.") from None


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    pairs = dict[str, str]()
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise NoAnswer(f"{option} {each}: it is written NAME=VALUE.")
        pairs[name] = value
    return pairs


def _absolute(path: str, url: str) -> str:
    return url + path if path.startswith("/") else path


@sandbox.command("list")
@on_server
@AS_JSON
def list_sandboxes(*, admin: Admin, as_json: bool) -> None:
    """List the sandboxes: name, URL, what lives in each, and its time."""
    found = admin.ask("GET", "/sandboxes")
    if as_json:
        _print_json(found["sandboxes"])
        return
    rows = [
        (
            each["name"],
            each["urls"].get("port") or _absolute(each["urls"]["path"], admin.url),
            f"{plural(each['tasks'], 'task')}, {plural(each['dags'], 'dag')}",
            plural(each["requests"], "request"),
            f"{each['progression']}, {each['now']}",
        )
        for each in found["sandboxes"]
    ]
    _print_table(rows)


@sandbox.command("delete")
@on_server
@click.argument("name")
def delete_sandbox(name: str, *, admin: Admin) -> None:
    """Delete the sandbox NAME; `default` is reset instead."""
    SandboxClient(admin, name).ask("DELETE")


@sandbox.command("reset")
@on_server
@click.argument("name", default="default")
def reset_sandbox(name: str, *, admin: Admin) -> None:
    """Make the sandbox NAME (`default`, if left out) as it was when it was created."""
    SandboxClient(admin, name).ask("POST", "/reset")


# --- clock ----------------------------------------------------------------------------------------


@click.group()
def clock() -> None:
    """Read, move and set a sandbox's clock.

    \b
    oceanmock clock advance 90s
    oceanmock clock next
    """


def _print_clock(said: Json) -> None:
    _print_table(
        [
            ("now", said["now"]),
            ("progression", said["progression"]),
            ("speed", f"{said['speed']:g}"),
            ("next due", said["next_due"] or "nothing"),
        ]
    )


@clock.command("show")
@on_sandbox
def show_clock(*, client: SandboxClient) -> None:
    """Print what instant it is, how time passes, and when something happens next."""
    _print_clock(client.ask("GET", "/clock"))


@clock.command("advance")
@on_sandbox
@click.argument("span")
def advance_clock(span: str, *, client: SandboxClient) -> None:
    """Move the clock on by SPAN, such as 90s or 1h30m."""
    _print_clock(client.ask("POST", "/clock/advance", {"by": span}))


@clock.command("next")
@on_sandbox
def move_clock_to_next(*, client: SandboxClient) -> None:
    """Move the clock to the next instant at which a task or dag changes."""
    _print_clock(client.ask("POST", "/clock/next"))


@clock.command("move")
@on_sandbox
@click.argument("instant")
def move_clock(instant: str, *, client: SandboxClient) -> None:
    """Move the clock to INSTANT, such as 2025-01-01T00:00:00Z."""
    _print_clock(client.ask("POST", "/clock/move", {"to": instant}))


@clock.command("set")
@on_sandbox
@click.option(
    "--progression",
    type=click.Choice(PROGRESSIONS),
    help="time: it runs. polls: on to the next event each time a task has been read. manual: it "
    "stands until it is moved. immediate: all that is due happens at once.",
)
@click.option("--speed", type=float, help="How many times faster than the wall clock it runs.")
def set_clock(*, client: SandboxClient, **said: Any) -> None:
    """Change how time passes, from the instant it is."""
    if not _given(said):
        raise NoAnswer("nothing to set: give --progression, --speed or both.")
    _print_clock(client.ask("PATCH", "/clock", _given(said)))


# --- journal and verify ---------------------------------------------------------------------------


FILTERS: Final = _with(
    _option("--api", type=click.Choice(APIS), help="Only this API."),
    _option("--method", help="Only this method."),
    _option("--path", help="Only paths of this form, in which * is any text."),
    _option("--status", help="Only this status, or a class such as 4xx."),
    _option("--caller", help="Only what this user or access key asked."),
    _option("--fault", help="Only what this fault struck."),
    _option("--task", help="Only what was about this task of OCP."),
    _option("--subtask", help="Only what was about this subtask."),
    _option("--dag", help="Only what was about this dag of obshell."),
    _option("--node", help="Only what was about this node."),
    _option("--sub-task", help="Only what was about this sub task of a node."),
)


@click.command()
@on_sandbox
@click.argument("operation", required=False)
@FILTERS
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until interrupted.")
@click.option("--clear", is_flag=True, help="Forget every entry, instead of printing any.")
@click.option("--json", "as_json", is_flag=True, help="Print each entry as JSON, one a line.")
def journal(
    operation: str | None,
    *,
    client: SandboxClient,
    follow: bool,
    clear: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """Print what was asked of a sandbox.

    The oldest comes first; of OPERATION only, if it is given.
    """
    if clear:
        client.ask("DELETE", "/journal")
        return
    pause = threading.Event()
    with contextlib.suppress(KeyboardInterrupt):
        for entries in _pages(client, {"operation": operation, **filters}, follow=follow):
            for entry in entries:
                click.echo(json.dumps(entry, ensure_ascii=False) if as_json else _line_of(entry))
            if not entries:
                pause.wait(PAUSE)


def _pages(client: SandboxClient, filters: Json, *, follow: bool) -> Iterator[list[Json]]:
    """The entries, page by page; with ``follow`` without end, and empty pages for pauses."""
    after = 0
    while True:
        page = client.ask("GET", "/journal", query={**filters, "after": after, "limit": PAGE})
        entries, last = page["entries"], page["last"]
        if not entries and not follow:
            return
        yield entries
        after = 0 if last < after else max(after, last)  # a journal that has begun anew


def _line_of(entry: Json) -> str:
    target = f"{entry['path']}?{entry['query']}" if entry["query"] else entry["path"]
    status = entry["status"] or "cut"
    by = f"  {entry['caller']}" if entry["caller"] else ""
    fault = f"  struck by {entry['fault']}" if entry["fault"] else ""
    why = f"\n{'':>8}{escape_unprintable(entry['refusal'])}" if entry["refusal"] else ""
    head = f"{entry['number']:>6}  {entry['at']}  {status}  {entry['method']} {target}{by}{fault}"
    return escape_unprintable(head) + why


@click.command()
@on_sandbox
@click.argument("operation", required=False)
@FILTERS
@click.option("--body", help="JSON that the request's body must have in it.")
@click.option("--times", type=click.IntRange(0), help="Exactly so often.")
@click.option("--at-least", type=click.IntRange(0), help="So often or more; 1, if nothing is said.")
@click.option("--at-most", type=click.IntRange(0), help="So often or less.")
def verify(
    operation: str | None,
    *,
    client: SandboxClient,
    body: str | None,
    times: int | None,
    at_least: int | None,
    at_most: int | None,
    **filters: Any,
) -> None:
    """Check what was asked, and how often.

    Exits with 1, and shows what came nearest, if OPERATION was not asked for as often as said.

    \b
    oceanmock verify retrySubtask --subtask 1002 --times 1
    """
    query = _given({"operation": operation, **filters})
    if body is not None:
        query["body"] = _json_of("--body", body)
    often = _given({"times": times, "at_least": at_least, "at_most": at_most})
    verdict = client.ask("POST", "/journal/verify", {"query": query, **often})
    click.echo(verdict["message"])
    if not verdict["holds"]:
        raise click.exceptions.Exit(1)


def _json_of(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as problem:
        raise NoAnswer(f"{option} is no JSON: {problem}.") from None


# --- faults ---------------------------------------------------------------------------------------


@click.group()
def faults() -> None:
    """List, add and remove what goes wrong on purpose.

    \b
    oceanmock faults add --operation getTaskInstance --calls 2-3 --status 503
    oceanmock faults remove --all
    """


def _told(standing: Json) -> str:
    parts = (f"{key}={_value(value)}" for key, value in standing["fault"].items() if key != "name")
    return " ".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_value, value))
    return value if isinstance(value, str) else json.dumps(value)


@faults.command("list")
@on_sandbox
@AS_JSON
def list_faults(*, client: SandboxClient, as_json: bool) -> None:
    """List the faults that stand: name, what each has counted and struck, what it does."""
    found = client.ask("GET", "/faults")["faults"]
    if as_json:
        _print_json(found)
        return
    rows = [
        (each["name"], f"{each['counted']} counted", f"{each['strikes']} struck", _told(each))
        for each in found
    ]
    _print_table(rows)


@faults.command("add")
@on_sandbox
@click.option("--name", help="What the journal calls it; made up, if left out.")
@click.option("--operation", multiple=True, help="Whom it strikes; any operation, if left out.")
@click.option("--api", type=click.Choice(APIS), help="The API whose requests it strikes.")
@click.option("--task", type=int, help="Only what is about this task of OCP.")
@click.option("--subtask", type=int, help="Only what is about this subtask.")
@click.option("--dag", help="Only what is about this dag of obshell.")
@click.option("--node", help="Only what is about this node.")
@click.option("--sub-task", help="Only what is about this sub task of a node.")
@click.option("--caller", help="Only what this user or access key asks.")
@click.option("--calls", multiple=True, help="Which calls: 3, 2-4 or 1-. Every one, if left out.")
@click.option("--counts", type=click.Choice(["calls", "attempts"]), help="What is counted.")
@click.option("--probability", type=float, help="How probably each of them is struck: 0 to 1.")
@click.option("--delay", metavar="SPAN", help="Answer so much later.")
@click.option("--jitter", metavar="SPAN", help="At most so much later than that.")
@click.option("--status", type=int, help="Answer this status, with an error of the API's own.")
@click.option("--reset", is_flag=True, help="Reset the connection and answer nothing.")
@click.option("--drop-response", is_flag=True, help="Execute it, and drop the response.")
@click.option("--empty", is_flag=True, help="Answer a status and headers, and no body.")
@click.option("--truncate", type=int, metavar="BYTES", help="Send so much of the body, and close.")
@click.option("--malformed", is_flag=True, help="Send a body that is not quite JSON.")
@click.option("--content-type", help="Send this as the content type.")
@click.option("--dribble-bytes", type=int, metavar="BYTES", help="Send so many bytes at a time.")
@click.option("--dribble-every", metavar="SPAN", help="So long after the ones before.")
@click.option("--drop", multiple=True, metavar="WAY", help="Leave out, for example, data.status.")
@click.option("--change-type", multiple=True, metavar="WAY", help="Make it of another type.")
@click.option("--still-executes", is_flag=True, help="Execute the operation nevertheless.")
def add_fault(
    *, client: SandboxClient, dribble_bytes: int | None, dribble_every: str | None, **said: Any
) -> None:
    """Add a fault, and print its name."""
    body = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in said.items()
        if value is not None and value is not False and value != ()
    }
    dribble = _given({"bytes": dribble_bytes, "every": dribble_every})
    click.echo(
        client.ask("POST", "/faults", body | ({"dribble": dribble} if dribble else {}))["name"]
    )


@faults.command("remove")
@on_sandbox
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Take all of them away.")
def remove_fault(name: str | None, *, client: SandboxClient, everything: bool) -> None:
    """Take the fault NAME away, or all of them."""
    if (name is None) is not everything:
        raise NoAnswer("which fault? Give its name, or --all.")
    client.ask("DELETE", "/faults" if name is None else f"/faults/{quote(name, safe='')}")


# --- tasks and explain ----------------------------------------------------------------------------


@click.command()
@on_sandbox
@AS_JSON
def tasks(*, client: SandboxClient, as_json: bool) -> None:
    """List the tasks and dags of a sandbox.

    Each with its API, id, state, operation and name.
    """
    found = client.ask("GET", "/tasks")["tasks"]
    if as_json:
        _print_json(found)
        return
    keys = ("api", "id", "state", "operation", "name")
    _print_table([tuple(each[key] for key in keys) for each in found])


@click.command()
@on_sandbox
@click.argument("task")
@click.option("--api", type=click.Choice(APIS), help="The API it belongs to, where both have one.")
@AS_JSON
def explain(task: str, *, client: SandboxClient, api: str | None, as_json: bool) -> None:
    """Explain why a task is in its state.

    Also what moves it next, and when.

    TASK is the id of a task of OCP, or the generic id or number of a dag of obshell.
    """
    rows = client.ask("GET", "/tasks")["tasks"]
    apis = {row["api"] for row in rows if task in (row["id"], str(row["number"]))}
    if api is None and len(apis) > 1:
        raise NoAnswer(f"both APIs have a task {task}. Say which is meant: --api ocp or obshell.")
    meant = api or next(iter(apis), "ocp")
    form = "json" if as_json else "text"
    path = f"/tasks/{meant}/{quote(task, safe='')}/explain"
    click.echo(client.text(path, query={"format": form}).rstrip("\n"))


# --- what is printed ------------------------------------------------------------------------------


def _given(said: Json) -> Json:
    """Those that were said."""
    return {key: value for key, value in said.items() if value is not None}


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _print_table(rows: Iterable[Sequence[str]]) -> None:
    """Rows in columns, two spaces apart; nothing where there are none."""
    clean = [[escape_unprintable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    for row in clean:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


COMMANDS: Final = (sandbox, clock, journal, verify, faults, tasks, explain)
"""What belongs to the group of ``cli``."""
