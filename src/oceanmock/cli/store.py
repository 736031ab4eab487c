"""The stores of ``serve --state`` and ``--store``, and the commands that check, copy and empty one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from oceanmock.cli.admin import AS_JSON
from oceanmock.cli.printing import print_json
from oceanmock.errors import CallerError, EnvironmentProblem, InputError
from oceanmock.text import plural

if TYPE_CHECKING:
    from oceanmock.engine.redis_store import RedisStore
    from oceanmock.engine.sandbox import Sandbox
    from oceanmock.engine.state_file import StateFile
    from oceanmock.scenario import BaseScenario


def open_store(place: str | Path, *, replica: str) -> RedisStore | StateFile:
    """Return the store at a URL, or in a state file. Raises EnvironmentProblem."""
    from oceanmock.library import DECODER

    if isinstance(place, Path):
        from oceanmock.engine.state_file import StateFile

        return StateFile(place, decoder=DECODER)
    try:
        from oceanmock.engine.redis_store import RedisStore
    except ImportError:
        raise EnvironmentProblem(
            "a store in Redis needs its client. Install it: pip install 'oceanmock[redis]'"
        ) from None
    return RedisStore(place, replica=replica, decoder=DECODER)


def default_sandbox(
    store: RedisStore | StateFile, scenarios: Sequence[BaseScenario], settings: Mapping[str, Any]
) -> Sandbox:
    """Return the default sandbox of a store; without one, or for other scenarios or options, a new one."""
    from oceanmock.apis import APIS
    from oceanmock.engine.log import SandboxSpec, encode
    from oceanmock.engine.sandbox import Sandbox
    from oceanmock.engine.sandboxes import DEFAULT_SANDBOX

    fresh = SandboxSpec(tuple(scenarios), created=store.wall(), **settings)
    digest = sha256(encode(replace(fresh, created=0))).digest()
    while True:
        base = 0
        if DEFAULT_SANDBOX in store.names():
            changes = store.read(DEFAULT_SANDBOX, since=-1)
            kept, base = changes.spec, changes.base
            assert kept is not None
            is_same = encode(replace(fresh, created=kept.created, ports=kept.ports)) == encode(kept)
            if is_same or (store.replica and store.keep("options", lambda: digest) == digest):
                return Sandbox.restored(DEFAULT_SANDBOX, APIS, store=store, wall=store.wall)
            click.echo(f"{store} has a default sandbox of other scenarios or options; it is replaced.", err=True)
        sandbox = Sandbox(fresh, APIS, store=store, wall=store.wall, is_stored=False)
        if sandbox.put(replaces=base):
            store.keep("options", lambda: digest, anew=True)
            return sandbox


PLACE: Final = click.argument("place", envvar="OCEANMOCK_STORE")


@contextmanager
def _opened(place: str, *, is_new: bool = False) -> Iterator[RedisStore | StateFile]:
    """Open a store that exists. Raises EnvironmentProblem."""
    path = None if "://" in place else Path(place)
    if path and not is_new and not path.exists():
        raise EnvironmentProblem(f"there is no state file {place}. Give its path, or the URL of a Redis.")
    with closing(open_store(path or place, replica="oceanmock store")) as store:
        yield store


def _size_of(store: RedisStore | StateFile) -> str:
    return f"{store}: {plural(len(store.names()), 'sandbox', 'sandboxes')}"


@click.group("store")
def store_command() -> None:
    """Check, copy or empty a store of sandboxes.

    A store is a state file, or a Redis that servers share. PLACE is the path of the file, while no server uses it, or a
    URL such as redis://127.0.0.1:6379/0; the environment may have it as OCEANMOCK_STORE.
    """


@store_command.command()
@PLACE
@AS_JSON
def check(place: str, *, as_json: bool) -> None:
    """Check that each sandbox can be read. Prints what the store has.

    Exits with 1 if one cannot be read.
    """
    from oceanmock.apis import APIS
    from oceanmock.engine.sandbox import Sandbox

    rows = list[dict[str, Any]]()
    with _opened(place) as store:
        for name in store.names():
            try:
                Sandbox.restored(name, APIS, store=store, wall=store.wall)
                row: dict[str, Any] = {"name": name, "commands": len(store.read(name, since=-1).entries)}
            except (InputError, KeyError, TypeError, ValueError) as problem:
                row = {"name": name, "problem": f"it was written by another version of oceanmock ({problem})."}
            rows.append(row)
            if not as_json:
                text = row.get("problem") or plural(row["commands"], "command")
                click.echo(f"{name}: {text}", err="problem" in row)
        print_json(rows, indent=2) if as_json else click.echo(_size_of(store))
    raise click.exceptions.Exit(any("problem" in row for row in rows))


@store_command.command("export")
@PLACE
def export_store(place: str) -> None:
    """Print every sandbox as JSON lines.

    Lines have specifications, commands, counters and records of operations; journals are not exported.
    """
    from oceanmock.engine.log import encode

    with _opened(place) as store:
        for name in store.names():
            changes, (counters, records) = store.read(name, since=-1), store.details(name)
            lines: list[Any] = [{"spec": changes.spec}, *changes.entries]
            lines += [{"counter": counter, "value": value} for counter, value in counters.items()]
            lines += [{"of": key, "records": tuple(kept)} for key, kept in records.items()]
            for line in lines:
                click.echo(encode(line).decode())


@store_command.command("import")
@PLACE
@click.argument("file", type=click.File(encoding="utf-8"), default="-")
def import_store(place: str, file: IO[str]) -> None:
    """Read sandboxes in the format of `export`.

    FILE is stdin by default. Sandboxes with the same names are replaced. If the environment has the PLACE, no FILE can
    be given.
    """
    from oceanmock.engine.log import LogEntry, decode_key, decode_records
    from oceanmock.library import DECODER

    name, version, lines = "", 0, 0
    with _opened(place, is_new=True) as store:
        try:
            for line in file:
                lines += 1
                match json.loads(line):
                    case {"spec": dict(spec)}:
                        decoded = DECODER.spec(json.dumps(spec).encode())
                        name, version = decoded.name, store.put(decoded) or 0
                    case {"at": at, "wall": wall, "command": command}:
                        entry = LogEntry(at, wall, DECODER.command(json.dumps(command).encode()))
                        appended = store.append(name, entry, expected_version=version)
                        if appended is None:
                            raise ValueError("a server changes this sandbox; stop it, or import it elsewhere")
                        version = appended
                    case {"counter": counter, "value": value}:
                        store.count(name, decode_key(json.dumps(counter)), by=value)
                    case {"of": key, "records": records}:
                        for record in decode_records(json.dumps(records).encode()):
                            store.record(name, decode_key(json.dumps(key)), record)
                    case _:
                        raise ValueError("no export has such a line")
        except (InputError, CallerError, KeyError, TypeError, ValueError) as problem:
            text = f"line {lines} cannot be imported: {problem}. Those before it were."
            raise EnvironmentProblem(text) from None
        click.echo(_size_of(store), err=True)


@store_command.command()
@PLACE
@click.confirmation_option("--yes", prompt="Delete every sandbox of this store?")
def purge(place: str) -> None:
    """Delete every sandbox. Servers that share the store create the default one again."""
    with _opened(place) as store:
        click.echo(f"Deleting {_size_of(store)}")
        for name in store.names():
            store.delete(name)
