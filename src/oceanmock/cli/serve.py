"""The commands that start a server, ``serve`` and ``exec``, and ``wait``, which waits for one."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import click

from oceanmock import __version__
from oceanmock.admin_client import ADMIN_TIMEOUT_S, TOKEN_VARIABLE, URL_VARIABLE, Admin, NoAnswer, Refused, new_token
from oceanmock.cli.admin import PROGRESSION, TOKEN_OPTIONS, read_token
from oceanmock.cli.conform_options import DURATION, mask_names
from oceanmock.cli.printing import banner, complete_scenario, print_exchange, print_json
from oceanmock.cli.store import default_sandbox, open_store
from oceanmock.clock import SECOND, Progression, stopwatch
from oceanmock.errors import EnvironmentProblem, InputError, OceanmockError
from oceanmock.text import format_duration, suggest

if TYPE_CHECKING:
    import ssl

    from oceanmock.http.app import App

MAX_PRINTED_TASKS: Final = 3  # of a sandbox, when the command of ``exec`` fails
POLL_INTERVAL_S: Final = 0.1
SERVER_SETTINGS: Final = {"auto_envvar_prefix": "OCEANMOCK", "show_default": True}  # ``--port`` is OCEANMOCK_PORT

SERVER_OPTIONS: Final = (
    click.Argument(
        ["scenarios"], nargs=-1, metavar="[SCENARIO]...", envvar="OCEANMOCK_SCENARIOS", shell_complete=complete_scenario
    ),
    click.Option(["--host"], default="127.0.0.1", help="Address to listen on."),
    click.Option(
        ["--speed"],
        default=1.0,
        type=click.FloatRange(0, 1_000_000, min_open=True),
        help="The speed of the clock under `time`, as a multiple of real time.",
    ),
    click.Option(
        ["--seed"], default=0, help="Generate what scenarios leave out; the same seed gives the same names and ids."
    ),
    click.Option(
        ["--auth"],
        type=click.Choice(["on", "off"]),
        default="on",
        help="Require authentication. OCP: viewer/viewer may read, manager/manager may do everything. "
        "obshell: the scenario's root password (oceanmock), sealed; off: plain JSON.",
    ),
    click.Option(
        ["--switch", "switches"],
        envvar="OCEANMOCK_SWITCH",
        multiple=True,
        metavar="NAME=VALUE",
        help="Set behaviour that no public document defines, e.g. subtask_pairing=checked; repeatable.",
    ),
    click.Option(
        ["--mask"],
        multiple=True,
        metavar="NAME",
        callback=mask_names,
        expose_value=False,
        help="Mask the values of this name too in the journal and the log, e.g. licenseNo: it is license_no and "
        "X-License-No as well. Passwords, keys, tokens and the like are masked anyway; repeatable.",
    ),
    click.Option(["--cors"], is_flag=True, help="Allow the pages of any origin; the admin API needs its token."),
    click.Option(
        ["--strict"],
        is_flag=True,
        help="Refuse query parameters and keys of bodies that the contract does not have, and say in the header "
        "X-Oceanmock-Violations how a request breaks the contract.",
    ),
    *TOKEN_OPTIONS,
)
"""The options that ``serve`` and ``exec`` share."""


def _build(
    scenarios: Sequence[str],
    *,
    host: str,
    progression: Progression | None,
    speed: float,
    seed: int,
    auth: str,
    switches: Sequence[str],
    store: Callable[[], Any] | None = None,
    **options: Any,
) -> tuple[App, bool]:
    """Return the app for a command's options, and whether its token was generated. Raises InputError."""
    gc.disable()  # a tenth of the start; the objects that are there afterwards stay
    try:
        _import_connexion()
        from pydantic import ValidationError

        from oceanmock.apis import APIS, make_sandbox
        from oceanmock.engine.log import Accounts
        from oceanmock.http.app import create_app
        from oceanmock.library import load_all
        from oceanmock.scenario.document import parse_scalar

        loaded = load_all(scenarios)
        api_of = {switch: api for api in APIS for switch in api.scenario.Switches.model_fields}
        by_api: dict[str, dict[str, Any]] = {api.name: {} for api in APIS}
        for item in switches:
            name, equals, value = item.partition("=")
            if name not in api_of:
                raise InputError(f"--switch {item}: not a switch. {suggest(name, list(api_of))}")
            if not equals:
                raise InputError(f"--switch {item}: a value is missing.")
            switch = {name: parse_scalar(value)}
            try:
                api_of[name].scenario.Switches.model_validate(switch)
            except ValidationError as error:
                raise InputError(f"--switch {item}: {error.errors()[0]['msg']}") from error
            by_api[api_of[name].name] |= switch
        settings: dict[str, Any] = {"progression": progression, "speed": speed, "seed": seed, "switches": by_api}
        settings["accounts"] = Accounts(required=auth == "on")
        sandbox = make_sandbox(loaded, **settings) if store is None else default_sandbox(store(), loaded, settings)
        given = read_token(options.pop("admin_token"), options.pop("admin_token_file"))
        app = create_app(sandbox, token=given or new_token(host), scenarios=loaded, **options)
        app.has_process = True
        return app, app.token != given
    finally:
        gc.freeze()
        gc.enable()


class _DeferredModule(ModuleType):
    """A module that is imported when one of its attributes is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(self.__name__), name)


def _import_connexion() -> None:
    """Import connexion without the modules that only its test client, templates and remote contracts need.

    They take 4 MB and a tenth of the start, and are imported on first use.
    """
    classes = {"starlette.templating": "Jinja2Templates", "starlette.testclient": "TestClient"}
    deferred = {name: _DeferredModule(name) for name in ("httpx", "jinja2", "requests", *classes)}
    for name, imported in classes.items():
        setattr(deferred[name], imported, None)
    deferred = {name: module for name, module in deferred.items() if name not in sys.modules}
    sys.modules.update(deferred)
    try:
        import oceanmock.http.pipeline  # noqa: F401
    finally:
        for name in deferred:
            sys.modules.pop(name, None)


def _stop_with_parent(_ctx: click.Context, _option: click.Parameter, is_set: bool) -> None:
    """Stop this process with SIGTERM once its parent process has ended."""
    parent = os.getppid()

    def stop_with_parent() -> None:
        while os.getppid() == parent:
            Event().wait(POLL_INTERVAL_S)
        os.kill(os.getpid(), signal.SIGTERM)

    if is_set:
        Thread(target=stop_with_parent, daemon=True).start()


def _read_ports(_ctx: click.Context, _option: click.Parameter, text: str | None) -> range | None:
    """Return a range of ports that is written as ``9000-9099``."""
    if text is None:
        return None
    first, _, last = text.partition("-")
    ports = range(int(first), int(last or first) + 1) if re.fullmatch("[0-9]{1,5}(-[0-9]{1,5})?", text) else range(0)
    if not ports or ports[0] < 1 or ports[-1] > 65535:
        raise click.BadParameter(f"{text!r} is no range of ports, such as 9000-9099.")
    return ports


@click.command(params=[*SERVER_OPTIONS], context_settings=SERVER_SETTINGS)
@PROGRESSION
@click.option("--port", default=8080, type=click.IntRange(0, 65535), help="Port to listen on; 0 for any free one.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep every sandbox in this file, which is created if it is missing; a server started with it goes on.",
)
@click.option(
    "--store",
    metavar="URL",
    help="Share every sandbox with the other servers of this Redis, e.g. redis://127.0.0.1:6379/0.",
)
@click.option(
    "--replica-name", metavar="NAME", help="The name of this server among those, by default its host and port."
)
@click.option(
    "--sandbox-ports",
    metavar="FIRST-LAST",
    callback=_read_ports,
    help="The ports of sandboxes' own, such as 9000-9099; any free ones by default.",
)
@click.option("--uds", type=click.Path(path_type=Path), help="Listen on this Unix domain socket too, without TLS.")
@click.option("--tls-cert", metavar="FILE", help="Serve over TLS with this certificate (PEM), and its chain.")
@click.option("--tls-key", metavar="FILE", help="The certificate's private key, if it is not in --tls-cert.")
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the URL into this file when ready; remove it at the end.",
)
@click.option(
    "--json",
    "as_json",
    envvar="OCEANMOCK_JSON",
    is_flag=True,
    help="When ready, print url, port, token, pid and version as JSON.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors, and a token that is generated.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="Log each request on stderr, one a line; by default as text where that is a terminal.",
)
@click.option("--watch", is_flag=True, help="Read the scenario files again when one has changed, as SIGHUP does.")
@click.option(
    "--exit-with-parent",
    is_flag=True,
    callback=_stop_with_parent,
    expose_value=False,
    help="Stop when the process that started this one has ended.",
)
def serve(
    scenarios: tuple[str, ...],
    *,
    host: str,
    port: int,
    uds: Path | None,
    ready_file: Path | None,
    as_json: bool,
    quiet: bool,
    log_format: str | None,
    watch: bool,
    **options: Any,
) -> None:
    """Serve scenarios over HTTP until interrupted.

    SCENARIO is a name from the library (`oceanmock list`), a file, or a folder of files; by default, all scenarios of
    the library that need no agent of their own. Time passes as the scenarios say, unless --progression is given. The
    environment can set each option, such as --port by OCEANMOCK_PORT, and the scenarios by OCEANMOCK_SCENARIOS.

    At SIGHUP the files are read again and the default sandbox is reset with them, unless one has a mistake.

    The admin API requires its token from every client. Without a token, only this machine may use it. If other machines
    can connect, a token is generated and printed.
    """
    if watch and not scenarios:
        raise click.UsageError("give the scenario files that --watch reads again.")
    url, state = options.pop("store"), options.pop("state")
    replica = options.pop("replica_name") or f"{socket.gethostname()}:{port or os.getpid()}"
    if url and state:
        raise click.UsageError("give --state or --store: a store in Redis outlives its servers, too.")
    options["store"] = partial(open_store, url or state, replica=replica) if url or state else None
    tls = _tls_context(options.pop("tls_cert"), options.pop("tls_key"))
    port_range = options.pop("sandbox_ports")
    app, has_new_token = _build(scenarios, host=host, **options)
    if url and has_new_token:
        raise InputError(f"replicas have one token: give each the same --admin-token, since --host is {host}.")
    app.port_range = port_range
    if not quiet and (log_format or os.isatty(2)):  # a pipe that nobody reads would fill up
        app.on_exchange = partial(print_exchange, as_json=log_format == "json")

    def announce(url: str) -> None:
        from oceanmock.engine.world import load_faker

        _reload_on_demand(app, scenarios, watches=watch)
        if as_json:
            line = {"url": url, "port": int(url.rpartition(":")[2]), "token": app.token, "pid": os.getpid()}
            line["version"] = __version__
            if agents := [*app.sandboxes.default.spec.ports]:
                line["agent_ports"] = agents
            print_json(line)
        else:
            if has_new_token:
                click.echo(f"admin token: {app.token}")
            if not quiet:
                click.echo("\n".join(banner(app.sandboxes.default, url)))
        if ready_file is not None:
            with _written_beside(ready_file) as beside:
                beside.write_text(f"{url}\n")
                beside.replace(ready_file)
        Thread(target=load_faker, daemon=True).start()  # so that no request waits for the import

    from oceanmock.http.server import serve_forever

    ready = _removed_at_the_end(ready_file) if ready_file else contextlib.nullcontext()
    with contextlib.closing(app.sandboxes.default.store), ready:
        serve_forever(app, host=host, port=port, on_ready=announce, tls=tls, uds=uds)


def _reload_on_demand(app: App, scenarios: Sequence[str], *, watches: bool) -> None:
    """Reload the default sandbox's scenarios at SIGHUP and, with ``watches``, when a file has changed."""
    import asyncio

    from oceanmock.library import expand, find_scenario, load_all

    loop, has_terminal = asyncio.get_running_loop(), os.isatty(0)
    previous = loaded = list[tuple[str, int, int, int]]()

    def reload() -> None:
        try:
            app.replace_scenarios(load_all(scenarios))
        except OceanmockError as error:
            click.echo(f"The scenarios stay as they were. {error}", err=True)
        else:
            names = ", ".join(scenario.name for scenario in app.sandboxes.default.scenarios)
            click.echo(f"Read again: {names}", err=True)

    def hang_up() -> None:
        if has_terminal and not os.isatty(0):  # the terminal was closed
            signal.raise_signal(signal.SIGTERM)
        else:
            reload()

    def stamps() -> list[tuple[str, int, int, int]]:
        result = []
        with contextlib.suppress(InputError, OSError):
            included = (path for scenario in app.sandboxes.default.scenarios for path in scenario.files)
            for path in (*map(find_scenario, expand(scenarios)), *included):
                status = path.stat()
                result.append((str(path), status.st_mtime_ns, status.st_size, status.st_ino))
        return result

    def reload_changed() -> None:
        nonlocal previous, loaded
        current = stamps()
        if current == previous != loaded:  # no file is still being written
            loaded = current
            reload()
        previous = current
        loop.call_later(POLL_INTERVAL_S, reload_changed)

    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, hang_up)
    if watches:
        previous = loaded = stamps()
        reload_changed()


@contextlib.contextmanager
def _removed_at_the_end(path: Path) -> Iterator[None]:
    """Remove the file of an earlier run now, and this run's at the end. Raises EnvironmentProblem."""
    with _written_beside(path) as beside:
        beside.touch()
        beside.unlink()
        path.unlink(missing_ok=True)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _written_beside(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, to write before it replaces a file. Raises EnvironmentProblem."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        yield beside
    except OSError as problem:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise EnvironmentProblem(f"cannot write {path}: {problem.strerror or problem}.") from None


class _ExecCommand(click.Command):
    """A command that runs another command, which follows ``--``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        place = args.index("--") if "--" in args else len(args)
        ctx.obj = args[place + 1 :]
        return super().parse_args(ctx, args[:place])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "-- COMMAND [ARG]..."]


@click.command("exec", cls=_ExecCommand, params=[*SERVER_OPTIONS], context_settings=SERVER_SETTINGS)
@PROGRESSION
@click.option(
    "--port",
    default=0,
    show_default=False,
    type=click.IntRange(0, 65535),
    help="Port to listen on; any free one by default.",
)
@click.pass_context
def exec_command(ctx: click.Context, /, scenarios: tuple[str, ...], *, host: str, port: int, **options: Any) -> None:
    """Serve scenarios while COMMAND runs, and exit with its code.

    COMMAND finds the server's URL in OCEANMOCK_URL, and its token, if it has one, in OCEANMOCK_ADMIN_TOKEN. When it
    fails, the requests, and the tasks they were about, are printed to stderr.

    \b
    oceanmock exec retry-failed-subtask -- go test ./...
    """
    import subprocess

    command: list[str] = ctx.obj
    if not command:
        raise click.UsageError("give the command to run behind `--`, such as `-- pytest`.")
    app, _ = _build(scenarios, host=host, **options)
    from oceanmock.http.server import Server
    from oceanmock.report import report_of, report_text

    with Server(app, host=host, port=port) as server:
        environment = {**os.environ, URL_VARIABLE: server.url}
        if app.token:
            environment[TOKEN_VARIABLE] = app.token
        try:
            process = subprocess.Popen(command, env=environment)  # noqa: S603 (the user's own)
        except OSError as problem:
            raise EnvironmentProblem(f"cannot run {command[0]}: {problem.strerror or problem}.") from None
        # The process decides how it ends: SIGTERM is forwarded; a terminal sends SIGINT to both.
        previous = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: process.terminate()),
            signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
        }
        try:
            code = process.wait()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
    for sandbox in app.sandboxes if code else ():
        if sandbox.journal.last:
            text = report_text(report_of(sandbox, max_tasks=MAX_PRINTED_TASKS))
            click.echo(f"oceanmock, sandbox {sandbox.name}: {text}", err=True, nl=False)
    ctx.exit(code if code >= 0 else 128 - code)


@click.command()
@click.argument("url", envvar=URL_VARIABLE)
@click.option("--timeout", default="30s", show_default=True, help="How long to wait.", **DURATION)
def wait(url: str, timeout: int) -> None:
    """Wait until the server at URL, or in OCEANMOCK_URL, is ready.

    Exits with 2 if it is not ready in time.
    """
    deadline = stopwatch() + timeout
    while True:
        try:
            left = max((deadline - stopwatch()) / SECOND, POLL_INTERVAL_S)
            Admin(url.rstrip("/"), timeout=min(left, ADMIN_TIMEOUT_S)).ask("GET", "/ready")
            return
        except Refused:
            raise
        except NoAnswer as problem:
            if stopwatch() > deadline:
                text = f"no oceanmock was ready within {format_duration(timeout)}: {problem}"
                raise EnvironmentProblem(text) from None
        Event().wait(POLL_INTERVAL_S)


def _tls_context(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """Return the TLS context for a certificate, or None without one. Raises InputError, EnvironmentProblem."""
    import ssl

    if certificate is None:
        if key is not None:
            raise InputError("--tls-key needs the certificate of that key: add --tls-cert.")
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
