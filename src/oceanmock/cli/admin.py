"""The commands on a running server: its sandboxes, their clocks, tasks, journals and faults.

They use the admin API (openapi/admin.yaml) and print lines that a shell script can use without parsing JSON.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote

import click

from oceanmock.admin_client import TOKEN_VARIABLE, URL_VARIABLE, Admin, NoAnswer, Refused, without_none
from oceanmock.cli.printing import (
    complete_operation,
    complete_scenario,
    keys_text,
    output_problem,
    print_items,
    print_json,
    print_table,
    terminal_width,
    wrap,
)
from oceanmock.clock import PROGRESSIONS
from oceanmock.errors import InputError
from oceanmock.text import escape_unprintable, list_existing, plural

if TYPE_CHECKING:
    from oceanmock.api import Json

PROGRESSION: Final = click.option(
    "--progression",
    type=click.Choice(PROGRESSIONS),
    help="How time passes. time: it runs. polls: to the next event after each read of a task. "
    "immediate: everything due happens at once. manual: only `oceanmock clock` moves it.",
)
AS_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
FOLLOW_INTERVAL_S: Final = 0.25
PAGE_SIZE: Final = 500
REQUEST_FILTERS: Final = (
    click.Option(["--api"], metavar="API", help="Only requests of this API: ocp or obshell."),
    click.Option(["--task"], type=int, help="Only requests about this task of OCP."),
    click.Option(["--subtask"], type=int, help="Only requests about this subtask."),
    click.Option(["--dag"], help="Only requests about this dag of obshell."),
    click.Option(["--node"], help="Only requests about this node."),
    click.Option(["--sub-task"], help="Only requests about this sub task of a node."),
    click.Option(["--stub"], help="Only requests that this stub responds to."),
    click.Option(["--caller"], help="Only requests of this user or access key."),
)
"""The options that choose requests, of the journal or for a fault."""
JOURNAL_FILTERS: Final = (
    click.Argument(["operation"], required=False, shell_complete=complete_operation),
    *REQUEST_FILTERS,
    click.Option(["--method"], help="Only this method."),
    click.Option(["--path"], help="Only paths of this form, in which * is any text."),
    click.Option(["--status"], help="Only this status, or a class such as 4xx."),
    click.Option(["--fault"], help="Only requests that this fault affected."),
    click.Option(["--query"], metavar="NAME=VALUE", help="Only with these parameters, joined by &; * is any text."),
    click.Option(
        ["--header"],
        multiple=True,
        metavar="NAME: VALUE",
        callback=lambda _ctx, _option, lines: "\n".join(lines) or None,
        help="Only with this header; in the value * is any text. May be repeated.",
    ),
    click.Option(["--since"], metavar="INSTANT", help="Only from this instant of the sandbox's clock on."),
    click.Option(["--until"], metavar="INSTANT", help="Only before this instant."),
)
"""The argument and the options that choose requests of the journal."""
TOKEN_OPTIONS: Final = (
    click.Option(
        ["--admin-token"],
        envvar=TOKEN_VARIABLE,
        show_envvar=True,
        help="The server's token; in the environment other users of this machine cannot read it.",
    ),
    click.Option(["--admin-token-file"], metavar="FILE", help="A file with the token; outranks --admin-token."),
)
"""The same for a server and its clients."""


def read_token(admin_token: str | None, admin_token_file: str | None) -> str | None:
    """Return the token given, or the one in a file. Raises NoAnswer and InputError."""
    if admin_token_file is not None:
        try:
            admin_token = Path(admin_token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as problem:
            why = getattr(problem, "strerror", None) or str(problem)
            raise NoAnswer(f"the token file {admin_token_file} cannot be read: {why}.") from None
    if admin_token is not None and not re.fullmatch("[!-~]{1,1000}", admin_token):
        raise InputError("an admin token is 1 to 1,000 printable ASCII characters, without a space.")
    return admin_token


class ServerCommand(click.Command):
    """A command with the options that name the server; it gets its ``admin``."""

    options: ClassVar[tuple[click.Parameter, ...]] = (
        click.Option(
            ["--url"],
            default="http://127.0.0.1:8080",
            show_default=True,
            envvar=URL_VARIABLE,
            show_envvar=True,
            help="The URL of the server.",
        ),
        *TOKEN_OPTIONS,
    )

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params += self.options

    def invoke(self, ctx: click.Context) -> Any:
        token = read_token(**{option: ctx.params.pop(option) for option in ("admin_token", "admin_token_file")})
        admin = Admin(ctx.params.pop("url").rstrip("/"), token)
        ctx.params["admin"] = admin.sandbox(ctx.params.pop("sandbox")) if "sandbox" in ctx.params else admin
        return super().invoke(ctx)


class SandboxCommand(ServerCommand):
    """A command with the options that name the sandbox, too; its ``admin`` is the sandbox's."""

    options = (
        click.Option(
            ["--sandbox"],
            default="default",
            show_default=True,
            envvar="OCEANMOCK_SANDBOX",
            show_envvar=True,
            help="The name of the sandbox.",
        ),
        *ServerCommand.options,
    )


@click.group()
def sandbox() -> None:
    """Create, list, reset and delete sandboxes.

    Each has its own tasks, clock, journal and faults, for one test.

    \b
    url=$(oceanmock sandbox create retry-failed-subtask --name t1 --own-port)
    curl -u manager:manager $url/api/v2/tasks/instances/1000
    oceanmock sandbox delete t1
    """


def _pairs(_ctx: click.Context, option: click.Parameter, items: Sequence[str]) -> dict[str, Any]:
    from oceanmock.scenario.document import Document, parse_scalar

    pairs = dict[str, Any]()
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise NoAnswer(f"{option.opts[0]} {item}: it is written NAME=VALUE.")
        pairs[name] = Document(value, item).data if value.startswith(("{", "[")) else parse_scalar(value)
    return pairs


def _switch_option(name: str, parameter: str, about: str) -> Callable[[Any], Any]:
    text = f"A switch of {about}. May be repeated."
    return click.option(name, parameter, multiple=True, callback=_pairs, metavar="NAME=VALUE", help=text)


@sandbox.command("create", cls=ServerCommand)
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]...", shell_complete=complete_scenario)
@click.option("--name", help="Its name; generated by default.")
@click.option("--own-port", is_flag=True, help="Open a port for it alone.")
@PROGRESSION
@click.option("--speed", type=float, help="The speed of its clock, as a multiple of real time.")
@click.option("--seed", type=int, help="Generate what scenarios leave out.")
@click.option("--ttl", metavar="DURATION", help="Remove it after this time without a request, such as 10m.")
@click.option("--starts-at", metavar="INSTANT", help="The time at which its clock starts; now by default.")
@click.option("--auth", type=click.Choice(["on", "off"]), help="Require authentication; by default, as in `default`.")
@_switch_option("--switch", "switches", "OCP, such as subtask_pairing=checked")
@_switch_option("--obshell-switch", "obshell_switches", "obshell, such as obshell_version=4.2.3.0")
def create_sandbox(scenarios: tuple[str, ...], *, admin: Admin, auth: str | None, **options: Any) -> None:
    """Create a sandbox and print its URL, and nothing else, on stdout.

    SCENARIO is a name of the server (`oceanmock list`) or the path of a file here. Time passes as the scenarios say,
    unless --progression is given.
    """
    from oceanmock.handles import send_scenarios

    body = without_none(**options, auth=None if auth is None else auth == "on")
    created = send_scenarios(admin.ask, "/sandboxes", body, scenarios=scenarios)
    click.echo(f"sandbox {created['name']}", err=True)
    click.echo(_url_of(created, admin))


def _url_of(sandbox: Json, admin: Admin) -> str:
    return str(sandbox["urls"].get("port") or admin.sandbox_url(sandbox))


@sandbox.command("list", cls=ServerCommand)
@AS_JSON
def list_sandboxes(*, admin: Admin, as_json: bool) -> None:
    """List the sandboxes. A line has name, URL, counts of tasks and requests, progression, time, and remaining ttl."""
    print_items(
        admin.ask("GET", "/sandboxes")["sandboxes"],
        lambda item: (
            item["name"],
            _url_of(item, admin),
            f"{plural(item['tasks'], 'task')}, {plural(item['dags'], 'dag')}",
            plural(item["requests"], "request"),
            f"{item['progression']}, {item['now']}",
            f"removed in {item['ttl_left']}" if "ttl" in item else "",
        ),
        as_json=as_json,
    )


@sandbox.command("delete", cls=ServerCommand)
@click.argument("name")
def delete_sandbox(name: str, *, admin: Admin) -> None:
    """Delete the sandbox NAME; `default` is reset instead."""
    admin.sandbox(name).ask("DELETE")


@sandbox.command("reset", cls=ServerCommand)
@click.argument("name", default="default")
def reset_sandbox(name: str, *, admin: Admin) -> None:
    """Restore the sandbox NAME (by default `default`) as it was created."""
    admin.sandbox(name).ask("POST", "/reset")


@click.group()
def clock() -> None:
    """Read, move and set a sandbox's clock.

    \b
    oceanmock clock advance 90s
    oceanmock clock next
    """


def _print_clock(clock: Json) -> None:
    texts = (clock["now"], clock["progression"], f"{clock['speed']:g}", clock["next_due"] or "nothing")
    print_table(zip(("now", "progression", "speed", "next due"), texts, strict=True))


@clock.command("show", cls=SandboxCommand)
@AS_JSON
def show_clock(*, admin: Admin, as_json: bool) -> None:
    """Print the clock's time, its progression, and when something is due next."""
    state = admin.ask("GET", "/clock")
    if as_json:
        print_json(state, indent=2)
    else:
        _print_clock(state)


@clock.command("advance", cls=SandboxCommand)
@click.argument("duration")
def advance_clock(duration: str, *, admin: Admin) -> None:
    """Advance the clock by DURATION, such as 90s or 1h30m."""
    _print_clock(admin.ask("POST", "/clock/advance", {"by": duration}))


@clock.command("next", cls=SandboxCommand)
def move_clock_to_next(*, admin: Admin) -> None:
    """Move the clock to the next change of a task or dag."""
    _print_clock(admin.ask("POST", "/clock/next"))


@clock.command("move", cls=SandboxCommand)
@click.argument("instant")
def move_clock(instant: str, *, admin: Admin) -> None:
    """Move the clock to INSTANT, such as 2025-01-01T00:00:00Z."""
    _print_clock(admin.ask("POST", "/clock/move", {"to": instant}))


@clock.command("set", cls=SandboxCommand)
@PROGRESSION
@click.option("--speed", type=float, help="The speed of its clock, as a multiple of real time.")
def set_clock(*, admin: Admin, **options: Any) -> None:
    """Change how time passes from now on."""
    if not without_none(**options):
        raise NoAnswer("nothing to set: give --progression, --speed or both.")
    _print_clock(admin.ask("PATCH", "/clock", without_none(**options)))


@click.command(cls=SandboxCommand)
@AS_JSON
def tasks(*, admin: Admin, as_json: bool) -> None:
    """List the tasks and dags of a sandbox. A line has API, id, state, operation and name."""
    row_of = itemgetter("api", "id", "state", "operation", "name")
    print_items(admin.ask("GET", "/tasks")["tasks"], row_of, as_json=as_json)


@click.command(cls=SandboxCommand)
@click.argument("task")
@click.option("--api", metavar="API", help="The API of the task, if several APIs have the id.")
@AS_JSON
def explain(task: str, *, admin: Admin, api: str | None, as_json: bool) -> None:
    """Explain why a task is in its state, and what changes it.

    TASK is the id of a task of OCP, or the generic id or number of a dag of obshell.
    """
    from oceanmock.apis import APIS

    id, apis = quote(task, safe=""), [api] if api else []
    for name in [] if api else sorted(it.name for it in APIS):
        with contextlib.suppress(Refused):
            admin.ask("GET", f"/tasks/{name}/{id}")
            apis.append(name)
    if len(apis) > 1:
        options = " or ".join(f"--api {name}" for name in apis)
        raise NoAnswer(f"several APIs have a task {task}. Choose one: {options}.")
    if not apis:
        hint = list_existing(row["number"] for row in admin.ask("GET", "/tasks")["tasks"])
        raise NoAnswer(f"there is no task {task} in sandbox {admin.name!r}. {hint}")
    path = f"/tasks/{apis[0]}/{id}/explain"
    if as_json:
        print_json(admin.ask("GET", path, query={"format": "json"}))
    else:
        width = terminal_width()
        query = {"format": "text", "width": min(max(width, 40), 400) if width else None}
        click.echo(admin.text(path, query=query).rstrip("\n"))


@click.command(cls=SandboxCommand, params=[*JOURNAL_FILTERS])
@click.option("--follow", "-f", is_flag=True, help="Print further requests until interrupted.")
@click.option("--clear", is_flag=True, help="Delete every entry, and print none.")
@click.option("--json", "as_json", is_flag=True, help="Print each entry as JSON, one a line.")
def journal(*, admin: Admin, follow: bool, clear: bool, as_json: bool, **filters: Any) -> None:
    """Print the requests to a sandbox, oldest first. With OPERATION, print only requests of that operation."""
    if clear:
        admin.ask("DELETE", "/journal")
        return
    pause, after = threading.Event(), 0
    with contextlib.suppress(KeyboardInterrupt):
        while output_problem() is None:
            page = admin.ask("GET", "/journal", query={**filters, "after": after, "limit": PAGE_SIZE})
            for entry in page["entries"]:
                print_json(entry) if as_json else click.echo(_line_of(entry))
            if not page["entries"]:
                if not follow:
                    return
                pause.wait(FOLLOW_INTERVAL_S)
            last = page["last"]
            after = 0 if last < after else max(after, last)  # a reset journal begins again


def _line_of(entry: Json) -> str:
    target = f"{entry['path']}?{entry['query']}" if entry["query"] else entry["path"]
    status = entry["status"] or "cut"
    by = f"  {entry['caller']}" if entry["caller"] else ""
    fault = f"  stub: {entry['stub']}" if entry["stub"] else ""
    fault += f"  fault injected: {entry['fault']}" if entry["fault"] else ""
    why = f"\n{'':8}{escape_unprintable(entry['refusal'])}" if entry["refusal"] else ""
    head = f"{entry['number']:>6}  {entry['at']}  {status}  {entry['method']} {target}{by}{fault}"
    return wrap(escape_unprintable(head) + why, 8)


@click.command(cls=SandboxCommand, params=[*JOURNAL_FILTERS])
@click.option("--body", help="JSON that the request's body must contain.")
@click.option("--times", type=click.IntRange(0), help="The exact number of requests.")
@click.option("--at-least", type=click.IntRange(0), help="The least number of requests; 1 by default.")
@click.option("--at-most", type=click.IntRange(0), help="The greatest number of requests.")
@click.option("--never", is_flag=True, default=None, help="No request may match.")
@click.option(
    "--then",
    multiple=True,
    metavar="OPERATION",
    shell_complete=complete_operation,
    help="The operation of a later request, or a query as JSON; may be repeated. Others may come between them.",
)
@AS_JSON
def verify(*, admin: Admin, body: str | None, then: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Check how often, or in which order, requests were sent.

    If the check fails, the command prints the nearest request and exits with 1.

    \b
    oceanmock verify retrySubtask --subtask 1002 --times 1
    oceanmock verify retrySubtask --then getTaskInstance
    """
    query = without_none(**options)
    limits: Json = {key: query.pop(key) for key in ("times", "at_least", "at_most", "never") if key in query}
    if body is not None:
        query["body"] = _read_json("--body", body)
    later = [_read_json("--then", text) if text.startswith("{") else {"operation": text} for text in then]
    asked = {"in_order": [query, *later]} if later else {"query": query}
    verdict = admin.ask("POST", "/journal/verify", asked | limits)
    print_json(verdict, indent=2) if as_json else click.echo(verdict["message"])
    if not verdict["holds"]:
        raise click.exceptions.Exit(1)


def _read_json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as problem:
        raise NoAnswer(f"{option} is no JSON: {problem}.") from None


@click.group()
def faults() -> None:
    """List, add and remove injected faults.

    \b
    oceanmock faults add --operation getTaskInstance --calls 2-3 --status 503
    oceanmock faults remove --all
    """


@faults.command("list", cls=SandboxCommand)
@AS_JSON
def list_faults(*, admin: Admin, as_json: bool) -> None:
    """List the faults. A line has name, counts of requests and of affected ones, and effects."""
    print_items(
        admin.ask("GET", "/faults")["faults"],
        lambda fault: (
            fault["name"],
            f"{fault['counted']} counted",
            f"{fault['affected']} affected",
            keys_text({key: value for key, value in fault["fault"].items() if key != "name"}),
        ),
        as_json=as_json,
    )


@faults.command("add", cls=SandboxCommand, params=[*REQUEST_FILTERS])
@click.option("--name", help="Its name in the journal; generated by default.")
@click.option(
    "--operation", multiple=True, shell_complete=complete_operation, help="Only this operation; any by default."
)
@click.option("--calls", multiple=True, help="Which requests: 3, 2-4 or 1-; all by default.")
@click.option("--counts", type=click.Choice(["calls", "attempts"]), help="Whether --calls counts calls or attempts.")
@click.option("--probability", type=float, help="The probability that one is affected: 0 to 1.")
@click.option("--delay", metavar="DURATION", help="Delay the response by this time.")
@click.option("--jitter", metavar="DURATION", help="The highest random addition to --delay.")
@click.option("--status", type=int, help="Respond with this status, and an error of the API from 400 on.")
@click.option("--reset", is_flag=True, help="Reset the connection without a response.")
@click.option("--drop-response", is_flag=True, help="Execute the operation, and drop the response.")
@click.option("--empty", is_flag=True, help="Respond with a status and headers, and no body.")
@click.option("--truncate", type=int, metavar="BYTES", help="Send this number of bytes, then close.")
@click.option("--malformed", is_flag=True, help="Send a body that is malformed JSON.")
@click.option("--content-type", help="Send this as the content type.")
@click.option("--dribble-bytes", type=int, metavar="BYTES", help="The number of bytes sent at a time.")
@click.option("--dribble-every", metavar="DURATION", help="The pause between them.")
@click.option("--drop", multiple=True, metavar="PATH", help="Leave out, for example, data.status.")
@click.option("--change-type", multiple=True, metavar="PATH", help="Change the type of a member.")
@click.option("--still-executes", is_flag=True, help="Execute the operation nevertheless.")
@click.option(
    "--with", "keys", multiple=True, callback=_pairs, metavar="KEY=VALUE", help="Any key of a fault, as YAML."
)
def add_fault(
    *, admin: Admin, keys: dict[str, Any], dribble_bytes: int | None, dribble_every: str | None, **options: Any
) -> None:
    """Add a fault, and print its name."""
    body = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in options.items()
        if value is not None and value is not False and value != ()
    }
    dribble = without_none(bytes=dribble_bytes, every=dribble_every)
    click.echo(admin.ask("POST", "/faults", body | keys | ({"dribble": dribble} if dribble else {}))["name"])


@faults.command("remove", cls=SandboxCommand)
@click.argument("name", required=False)
@click.option("--all", "is_all", is_flag=True, help="Remove all of them.")
def remove_fault(name: str | None, *, admin: Admin, is_all: bool) -> None:
    """Remove the fault NAME, or all of them."""
    if (name is None) is not is_all:
        raise NoAnswer("which fault? Give its name, or --all.")
    admin.ask("DELETE", "/faults" if name is None else f"/faults/{quote(name, safe='')}")


ADMIN_COMMANDS: Final = (sandbox, clock, tasks, explain, journal, verify, faults)
