"""The command ``oceanmock``: its group, how its errors are printed, and the commands on scenarios.

Each command imports what it needs when it runs, so that `--help` stays quick. Exit codes: 0 done, 1 `check` or `verify`
failed, 2 the command could not be carried out. The banner's commands are those of the ``client.py`` in each API's
package.
"""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import tomllib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from oceanmock import __version__
from oceanmock.cli.admin import ADMIN_COMMANDS, PROGRESSION, TOKEN_OPTIONS, read_token
from oceanmock.cli.conform import compare
from oceanmock.cli.conform import conform as conform_command
from oceanmock.cli.conform_options import SECRETS, mask_names
from oceanmock.clock import Progression
from oceanmock.errors import AuthorError, EnvironmentProblem, OceanmockError
from oceanmock.terminal import output_problem, standard_output
from oceanmock.text import escape_unprintable, plural, suggest

if TYPE_CHECKING:
    import ssl

    from oceanmock.api import Api
    from oceanmock.engine.sandbox import Sandbox

SCENARIO_WIDTH: Final = 32
OPERATION_WIDTH: Final = 18
MAX_CANDIDATES: Final = 100
"""How many tasks are searched for one with a part that fails."""

RESULT_IS_EXIT_CODE: Final = frozenset({"serve", "check", "verify", "conform", "compare"})
"""Commands that have done their work even if their output could not be written."""


class CommandFailed(click.ClickException):
    """One clear message on stderr, exit code 2."""

    exit_code = 2


class MainGroup(click.Group):
    """A group that prints every error of oceanmock's own as one message."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line."""
        with standard_output():
            return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            result = super().invoke(ctx)
        except OceanmockError as error:
            raise CommandFailed(str(error)) from error
        problem = output_problem()
        if problem and not isinstance(problem, BrokenPipeError) and ctx.invoked_subcommand not in RESULT_IS_EXIT_CODE:
            raise click.exceptions.Exit(CommandFailed.exit_code)
        return result


SETTINGS: Final = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "color": True,  # click escapes nothing, and would remove others' escape sequences
}


CONFIG_FILES: Final = (("oceanmock.toml", ()), ("pyproject.toml", ("tool", "oceanmock")))
"""The files in the current folder that give options their defaults, and where in them; the first that does counts."""


def load_config() -> dict[str, dict[str, Any]]:
    """Return the defaults of options, by command. Raises AuthorError for what is no option, and for secrets."""
    for name, keys in CONFIG_FILES:
        if not Path(name).is_file():
            continue
        try:
            tables: Any = tomllib.loads(Path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise AuthorError(f"{name} cannot be read: {problem}.") from problem
        for key in keys:
            tables = tables.get(key) or {}
        if tables:
            return {command: _defaults(name, command, table) for command, table in tables.items()}
    return {}


def _defaults(file: str, command: str, table: Any) -> dict[str, Any]:
    """Return the defaults of one command's options. Raises AuthorError."""
    known = main.commands.get(command)
    if known is None or not isinstance(table, dict):
        raise AuthorError(f"{file}: {command!r} is no command. {suggest(command, [*main.commands])}")
    params = {param.name: param for param in known.params if isinstance(param, click.Option) and param.name}
    values = {}
    for key, value in table.items():
        param = params.get(key.replace("-", "_"))
        if param is None or param.name is None:
            raise AuthorError(f"{file}: {command} has no option {key!r}. {suggest(key, [*params])}")
        if param.name in SECRETS or "token" in param.name:
            raise AuthorError(f"{file}: {key} is a secret: give it in the environment instead.")
        is_joined = isinstance(value, list) and not param.multiple
        values[param.name] = ",".join(map(str, value)) if is_joined else value
    return values


@click.group(cls=MainGroup, context_settings=SETTINGS)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Serve and drive a contract-testing mock of OceanBase's task APIs.

    \b
    oceanmock serve                         the whole library of scenarios
    oceanmock serve retry-failed-subtask    one of them
    oceanmock show retry-failed-subtask     draw its tasks and their states over time
    oceanmock check my-scenario.yaml        print every mistake in it, with its line
    oceanmock clock advance 90s             advance a running server's clock
    oceanmock conform --mock                check the mock against its contract

    Defaults of options come from the tables of oceanmock.toml, such as [conform], or from those of
    pyproject.toml, such as [tool.oceanmock.conform].
    """
    ctx.default_map = load_config()


for command in (conform_command, compare, *ADMIN_COMMANDS):
    main.add_command(command)


@main.command(params=[*TOKEN_OPTIONS])
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 for any free one.",
)
@click.option("--uds", type=click.Path(path_type=Path), help="Listen on this Unix domain socket too, without TLS.")
@click.option("--tls-cert", metavar="FILE", help="Serve over TLS with this certificate (PEM), and its chain.")
@click.option("--tls-key", metavar="FILE", help="The certificate's private key, if it is not in --tls-cert.")
@PROGRESSION
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1_000_000, min_open=True),
    help="Run so many times faster than the wall clock, under `time`.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="Generate what scenarios leave out; the same seed gives the same names and ids.",
)
@click.option(
    "--auth",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="Require authentication. OCP: viewer/viewer may read, manager/manager may do everything. "
    "obshell: the scenario's root password (oceanmock), sealed; off: plain JSON.",
)
@click.option(
    "--switch",
    "switches",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set behaviour that no public document defines, e.g. subtask_pairing=checked; repeatable.",
)
@click.option(
    "--mask",
    multiple=True,
    metavar="NAME",
    callback=mask_names,
    expose_value=False,
    help="Mask the values of this name too in the journal and the log, e.g. licenseNo: it is license_no and "
    "X-License-No as well. Passwords, keys, tokens and the like are masked anyway; repeatable.",
)
def serve(  # noqa: PLR0913 (its options)
    scenarios: tuple[str, ...],
    *,
    host: str,
    port: int,
    uds: Path | None,
    tls_cert: str | None,
    tls_key: str | None,
    progression: Progression | None,
    speed: float,
    seed: int,
    auth: str,
    switches: tuple[str, ...],
    **token_options: str | None,
) -> None:
    """Serve scenarios over HTTP until interrupted.

    SCENARIO is a name from the library (`oceanmock list`) or the path of a file; without one the whole library is
    served. Time passes as the scenarios say, unless --progression is given.

    The admin API requires its token of everybody. Without one only this machine may use it, and none is needed. If
    others can connect, one is generated and printed.
    """
    with _no_collections():
        # connexion imports httpx and requests, which go without a command line and a guess of charsets if they must.
        for module in ("httpx._main", "charset_normalizer"):
            sys.modules.setdefault(module, None)  # type: ignore[arg-type]
        from threading import Thread

        from pydantic import ValidationError

        from oceanmock.access import new_token
        from oceanmock.apis import APIS, make_sandbox
        from oceanmock.engine.log import Accounts
        from oceanmock.engine.world import load_faker
        from oceanmock.http.app import create_app
        from oceanmock.http.server import serve_forever
        from oceanmock.library import load_library, load_scenario
        from oceanmock.scenario.document import parse_scalar

        loaded = [load_scenario(name) for name in dict.fromkeys(scenarios)] or load_library()
        api_of = {switch: api for api in APIS for switch in api.scenario.Switches.model_fields}
        by_api: dict[str, dict[str, Any]] = {api.name: {} for api in APIS}
        for item in switches:
            name, equals, value = item.partition("=")
            if not equals or name not in api_of:  # a name alone decides nothing
                raise AuthorError(f"--switch {item}: not a switch. {suggest(name, list(api_of))}")
            switch = {name: parse_scalar(value)}
            try:
                api_of[name].scenario.Switches.model_validate(switch)
            except ValidationError as error:
                raise AuthorError(f"--switch {item}: {error.errors()[0]['msg']}") from error
            by_api[api_of[name].name] |= switch
        accounts = Accounts(required=auth == "on")
        sandbox = make_sandbox(
            loaded, progression=progression, speed=speed, seed=seed, switches=by_api, accounts=accounts
        )
        tls = _tls_context(tls_cert, tls_key)
        given = read_token(**token_options)
        token = given or new_token(host)
        app = create_app(sandbox, token=token, scenarios=loaded)

    def announce(url: str) -> None:
        if token != given:
            click.echo(f"admin token: {token}")
        click.echo("\n".join(_banner(sandbox, url)))
        Thread(target=load_faker, daemon=True).start()  # so that no request waits for its import

    serve_forever(app, host=host, port=port, on_ready=announce, tls=tls, uds=uds)


def _tls_context(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """Return the TLS of a server with a certificate, None without one. Raises AuthorError, EnvironmentProblem."""
    import ssl

    if certificate is None:
        if key is not None:
            raise AuthorError("--tls-key needs the certificate of that key: add --tls-cert.")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ssl.SSLError) as problem:
        files = " and ".join(filter(None, (certificate, key)))
        raise EnvironmentProblem(
            f"cannot serve TLS with {files}: {problem.strerror or problem}. A certificate and its private key "
            "without a passphrase are needed, in PEM."
        ) from None
    return context


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Collect no garbage meanwhile, which would take a tenth of the start; what is there afterwards stays."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _banner(sandbox: Sandbox, url: str) -> Iterator[str]:
    """Yield what is served, each operation as a command to paste, and that the server is ready."""
    from oceanmock.apis import APIS

    worlds = [(api, sandbox.worlds[api.name]) for api in APIS]
    clock, contents = sandbox.clock, []
    for api, world in worlds:
        counts = [plural(len(world), api.root.title)] if len(world) else []
        if world.templates:
            counts.append(f"{plural(len(world.templates), api.root.title)} on request")
        if counts:
            contents.append(f"{api.module('client').server_title(world)}, {' and '.join(counts)}")
    pace = f"{clock.progression} × {clock.speed:g}" if clock.speed != 1 else clock.progression
    yield f"oceanmock {__version__}: {'; '.join(contents)}; progression {pace}"
    for scenario in sandbox.scenarios:
        yield f"  {scenario.name:<{SCENARIO_WIDTH}}{scenario.summary}"
    for api, world in worlds:
        if len(world):
            commands = dict(_commands(api, sandbox, url))
            width = max(OPERATION_WIDTH, *map(len, commands))
            yield ""
            yield from (f"  {operation:<{width}} {text}" for operation, text in commands.items())
    templates = [template for _, world in worlds for template in world.templates]
    if templates:
        yield ""
    for template in templates:
        request = template.starts_on
        body = "" if request.body is None else f" with {json.dumps(request.body)}"
        yield f"  {request.method} {request.path}{body} starts {template.name!r}"
    yield f"\nReady on {url} (stop it with Ctrl-C)"


def _commands(api: Api, sandbox: Sandbox, url: str) -> Iterator[tuple[str, str]]:
    """Yield operations and their commands: on a task with a part that fails, if there is one."""
    from oceanmock.openapi import operations_of

    world, authenticates = sandbox.worlds[api.name], sandbox.accounts.required
    items = list(islice(world.items(), MAX_CANDIDATES))
    id, place = items[0].id, 0
    for item in items:
        labels = world.history_of(world.key_of(item.id)).last.labels()
        if failed := [part for part, label in labels if part and label[0] == "FAILED"]:
            id, place = item.id, failed[0][0]
            break
    part = world.item(id)
    ids = {api.root.name: id}
    for kind in api.kinds[1:]:
        part = (part.parts or ())[place]
        ids[kind.name], place = part.id, 0
    for operation in operations_of(api.spec):
        path = operation.path
        for name, parameter in api.ids_of(operation.id).items():
            path = path.replace(f"{{{parameter}}}", ids[name])
        text = api.module("client").command(operation, url + path, world, authenticates=authenticates)
        if text:
            yield operation.id, text


@main.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
def check(paths: tuple[str, ...]) -> None:
    """Check scenarios and OpenAPI files, and print every mistake with its line.

    PATH is a file, or a name of the library; without one, every file that comes with oceanmock is checked. Exits with 1
    if there is any mistake.
    """
    from oceanmock.library import find_scenario, load_scenario
    from oceanmock.openapi import check_spec, data_folder
    from oceanmock.scenario.document import ScenarioError

    own = [path for folder in ("openapi", "scenarios") for path in sorted(data_folder(folder).glob("*.yaml"))]
    wrong = 0
    for path in [find_scenario(name) for name in paths] or own:
        mistakes = list[str]()
        with path.open(encoding="utf-8", errors="replace") as lines:
            is_contract = any(line.startswith(("openapi:", "swagger:", '"openapi"')) for line in lines)
        if is_contract:
            mistakes = check_spec(path)
        else:
            try:
                load_scenario(path)
            except ScenarioError as error:
                mistakes = list(map(str, error.diagnostics))
        wrong += len(mistakes)
        click.echo("\n".join(mistakes) if mistakes else f"{path}: ok")
    if wrong:
        click.echo(plural(wrong, "mistake"), err=True)
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("scenario")
@click.option("--width", type=click.IntRange(60, 400), help="Columns to draw in.")
def show(scenario: str, width: int | None) -> None:
    """Draw a scenario: the DAG of each task, and its states over time by the scenario's story."""
    from rich.console import Console

    from oceanmock.apis import api_named
    from oceanmock.library import load_scenario

    console = Console(file=sys.stdout, width=width, highlight=False, soft_wrap=True)
    loaded = load_scenario(scenario)
    drawing = api_named(loaded.api).module("explain")
    for line in drawing.draw_scenario(loaded, width=console.width):
        console.print(escape_unprintable(line))


@main.command("list")
def list_scenarios() -> None:
    """List the scenarios of the library, each with its summary."""
    from oceanmock.library import library_names, load_scenario

    for name in library_names():
        click.echo(f"{name:<{SCENARIO_WIDTH}}{load_scenario(name).summary}")


@main.command()
def schema() -> None:
    """Print the JSON Schema of scenario files, for editors."""
    from oceanmock.library import scenario_schema

    click.echo(json.dumps(scenario_schema(), indent=2, ensure_ascii=False))
