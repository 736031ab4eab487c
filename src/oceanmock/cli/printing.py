"""The standard streams and the output of the commands: tables, JSON, completions, a server's banner and log.

Control, bidi and C1 characters are escaped, so that no data can colour, move or reorder the output. A character that
the stream's encoding lacks is printed as ASCII. Output that cannot be written is discarded, so that a command still
ends with its exit code. The banner has the commands of the ``client.py`` in each API's package.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

import click
from click.shell_completion import CompletionItem

from oceanmock import __version__
from oceanmock.masking import mask_text
from oceanmock.text import escape_unprintable, format_duration, plural, shorten, wrap_line

if TYPE_CHECKING:
    from rich.table import Table

    from oceanmock.api import Api, Json, Request
    from oceanmock.engine.sandbox import Sandbox
    from oceanmock.journal.entries import Entry

SCENARIO_WIDTH: Final = 32
OPERATION_WIDTH: Final = 18
MAX_CELL_LENGTH: Final = 120
MAX_CANDIDATES: Final = 100  # tasks among which the banner finds one with a part that fails
GLYPHS: Final = "→…─│├“”·×✗–✓●○▼▒█└━▪╰╯╮╭═╌┼┴┬┤↶"
ASCII_OF_GLYPH: Final = str.maketrans(GLYPHS, '>~-|+"".x!-+*ov%#`=*`\'.,=-++++<')  # of the same width


class Output:
    """A stream that accepts every character, and discards all text after a failure to write."""

    buffer: Final = None  # click would write to it if the encoding is ASCII

    def __init__(self, stream: Any, report: Callable[[str], object] | None = None) -> None:
        self._stream, self._report = stream, report
        self.problem: OSError | None = None
        self.encoding: Final[str] = stream.encoding or "utf-8"  # a StringIO has none
        try:
            GLYPHS.encode(self.encoding)
            self._replacements = dict[int, int]()
        except UnicodeEncodeError:
            self._replacements = ASCII_OF_GLYPH

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        encoded = text.translate(self._replacements).encode(self.encoding, "backslashreplace")
        with self._discards_at_failure():
            self._stream.write(encoded.decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        with self._discards_at_failure():
            self._stream.flush()

    @contextmanager
    def _discards_at_failure(self) -> Iterator[None]:
        """Connect the stream to the null device when writing fails; report the failure, unless a pipe was closed."""
        try:
            yield
        except OSError as problem:
            self.problem = problem
            with suppress(OSError), open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), self.fileno())
            if self._report is not None and not isinstance(problem, BrokenPipeError):
                self._report(f"Error: cannot write to stdout: {problem.strerror}.\n")


class PlainOutput:
    """An output that escapes unprintable characters in each line.

    rich writes its escape sequences to ``rich_proxied_file`` instead (rich/console.py, ``file``).
    """

    buffer: Final = None

    def __init__(self, output: Output) -> None:
        self.rich_proxied_file: Final = output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)

    def write(self, text: str) -> int:
        return self.rich_proxied_file.write("\n".join(map(escape_unprintable, text.split("\n"))))


@contextmanager
def standard_output() -> Iterator[None]:
    """Replace stdout and stderr during a block; a closed one becomes the null device.

    The null device also takes the descriptors of closed ones: libuv aborts when it closes a socket with one of them.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    with ExitStack() as stack:
        null = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        errors = Output(sys.stderr or null)
        output = Output(sys.stdout or null, errors.write)
        stack.enter_context(redirect_stderr(cast("Any", PlainOutput(errors))))
        stack.enter_context(redirect_stdout(cast("Any", PlainOutput(output))))
        yield


def output_problem() -> OSError | None:
    """Return the error of writing to stdout, or None."""
    problem: OSError | None = getattr(sys.stdout, "problem", None)
    return problem


def complete_scenario(_ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
    """Return the scenarios of the library that begin with a text; the shell adds files."""
    from oceanmock.openapi import data_folder

    names = sorted(path.stem for path in data_folder("scenarios").glob("[!_]*.yaml"))
    return [CompletionItem(start, type="file"), *(CompletionItem(name) for name in names if name.startswith(start))]


def complete_operation(_ctx: click.Context, _param: click.Parameter, start: str) -> list[str]:
    """Return the operations of every API that begin with a text, in any case."""
    from oceanmock.apis import operations_by_api

    names = {name for ids in operations_by_api().values() for name in ids}
    return sorted(name for name in names if name.lower().startswith(start.lower()))


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns, two spaces apart; nothing where there are none."""
    clean = [[escape_unprintable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    for row in clean:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo(wrap("  ".join(cells).rstrip(), sum(widths[:-1]) + 2 * len(widths) - 2))


def terminal_width() -> int:
    """Return the width of the terminal that is stdout, or COLUMNS; 0 for a file or a pipe, where lines stay whole."""
    is_terminal = sys.stdout.isatty() or os.environ.get("TTY_COMPATIBLE") == "1"  # as rich has it
    return shutil.get_terminal_size().columns if is_terminal else 0


def wrap(text: str, indent: int) -> str:
    """Return lines wrapped at words to the terminal's width, if it has one; further lines start at the indent."""
    if not (width := terminal_width()):
        return text
    indent = indent if indent < width / 2 else 8
    return "\n".join(wrap_line(line, width=width, indent=indent) for line in text.split("\n"))


def print_json(value: Any, *, indent: int | None = None, to_stderr: bool = False) -> None:
    """Print JSON in printable ASCII characters, for every terminal and encoding."""
    click.echo(json.dumps(value, indent=indent).replace("\x7f", "\\u007f"), err=to_stderr)


def print_items(items: Sequence[Json], row_of: Callable[[Json], Sequence[str]], *, as_json: bool) -> None:
    """Print items as JSON, or each as a row of a table."""
    if as_json:
        print_json(items, indent=2)
    else:
        print_table(map(row_of, items))


def keys_text(keys: Json) -> str:
    """Return ``key=value`` pairs on one line."""

    def text_of(value: Any) -> str:
        if isinstance(value, list):
            return ",".join(map(text_of, value))
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return " ".join(f"{key}={text_of(value)}" for key, value in keys.items())


def response_table(responses: Sequence[tuple[str, Any]]) -> Table:
    """Return a table of stubs and faults: their names, the requests they apply to and when, and what they do."""
    from rich.table import Table
    from rich.text import Text

    from oceanmock.scenario.faults import EFFECTS

    table = Table("stub or fault", "requests", "while", "response", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, item in responses:
        keys = item.model_dump(mode="json", exclude_unset=True, by_alias=True, exclude={"name"})
        method = keys.pop("method", "GET" if "path" in keys else "")
        words = [" or ".join(keys.pop("operation", [])), method, keys.pop("path", "")]
        response = {key: keys.pop(key) for key in [*keys] if key in {*EFFECTS, "still_executes", "data", "error"}}
        periods = {key: keys.pop(key) for key in ("from", "until") if key in keys} | (keys.pop("when", None) or {})
        requests = " ".join(filter(None, [*words, keys_text(keys)])) or "all"
        cells = (name, requests, keys_text(periods), keys_text(response))
        table.add_row(*(Text(shorten(escape_unprintable(cell), MAX_CELL_LENGTH), overflow="fold") for cell in cells))
    return table


def scenario_json(scenario: Any, api: Api) -> Json:
    """Return the data that ``show`` draws: each task's or dag's operations and changes, and the stubs and faults.

    Instants count from the start of the task or dag; a part is the list of positions that lead to it.
    """
    from oceanmock.engine.machine import format_label

    run = api.scenario.FORMAT.simulate(scenario)
    tasks: list[Json] = []
    for actor in run.actors:
        changes = [
            {"at": format_duration(at), "part": part, "from": old and format_label(old), "to": format_label(new)}
            for state in actor.history.states
            for at, part, old, new, *_ in state.changes
        ]
        operations = [{"at": format_duration(at), "what": text} for at, text in actor.markers]
        age = format_duration(actor.script.age if actor.script else 0)
        head: Json = {"name": actor.name, "age": age, "parts": actor.names}
        tasks.append({**head, "operations": operations, "changes": changes})
    dumped = ((name, it.model_dump(mode="json", exclude_unset=True, by_alias=True)) for name, it in scenario.responses)
    head = {"name": scenario.name, "api": scenario.api, "summary": scenario.summary, f"{api.root.name}s": tasks}
    return {**head, "responses": [{"name": name, **keys} for name, keys in dumped]}


def banner(sandbox: Sandbox, url: str) -> Iterator[str]:
    """Yield the lines of the banner: the scenarios, a command for each operation, and that the server is ready."""
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
        yield wrap(f"  {scenario.name:<{SCENARIO_WIDTH}}{scenario.summary}", SCENARIO_WIDTH + 2)
    for api, world in worlds:
        if len(world):
            commands = dict(_commands(api, sandbox, url))
            width = max(OPERATION_WIDTH, *map(len, commands))
            yield ""
            yield from (f"  {operation:<{width}} {text}" for operation, text in commands.items())
    starts = []
    for template in (template for _, world in worlds for template in world.templates):
        request = template.starts_on
        body = "" if request.body is None else f" with {json.dumps(request.body)}"
        starts.append(f"  {request.method} {request.path}{body} starts {template.name!r}")
    stubs = dict.fromkeys(stub for api in APIS for stub in sandbox.stub_paths(api.name))
    for lines in (starts, [f"  {stub} has a response in the scenario" for stub in stubs]):
        yield from ["", *lines] if lines else ()
    yield f"\nReady on {url} (stop it with Ctrl-C)"


def _commands(api: Api, sandbox: Sandbox, url: str) -> Iterator[tuple[str, str]]:
    """Yield operations and their commands, for a task with a part that fails if there is one."""
    from oceanmock.openapi import operations_of

    world, authenticates = sandbox.worlds[api.name], sandbox.accounts.required
    items = list(islice(world.items(), MAX_CANDIDATES))
    id, place = items[0].id, 0
    for item in items:
        labels = world.history_of(world.key_of(item.id)).upcoming.last.labels()
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


def print_exchange(request: Request, entry: Entry, *, as_json: bool) -> None:
    """Print one line about an exchange to stderr: sandbox, request, status, and change of state."""
    from oceanmock.journal.entries import microseconds_text

    path, change = mask_text(entry.path), ""
    if entry.method != "GET" and entry.status is not None and entry.status < 400:
        change = _change_of(request, entry)
    line = {
        "at": microseconds_text(entry.at),
        "sandbox": request.sandbox.name,
        "status": entry.status,
        "method": entry.method,
        "path": f"{path}?{entry.query}" if entry.query else path,
        "operation": entry.operation,
        "caller": entry.caller,
        "took_ms": round(entry.took / 1e6, 3),
        "change": change,
        "stub": entry.stub,
        "fault": entry.fault,
        "refusal": mask_text(entry.refusal),
    }
    if as_json:
        replica = request.sandbox.store.replica
        print_json(line | {"replica": replica} if replica else line, to_stderr=True)
        return
    notes = [f"{key}: {line[key]}" for key in ("change", "stub", "fault", "refusal") if line[key]]
    words = [line["at"], line["sandbox"], line["status"] or "cut", line["method"], line["path"], line["operation"]]
    click.echo("  ".join([" ".join(str(word) for word in words if word), *notes]), err=True)


def _change_of(request: Request, entry: Entry) -> str:
    """Return the change of state of a task or dag by an accepted request, or the state in its response, or ""."""
    from oceanmock.apis import api_named
    from oceanmock.engine.machine import format_label
    from oceanmock.report import shown_state

    api, world = api_named(entry.api), request.sandbox.worlds[entry.api]
    id = entry.ids.get(api.ids_of(entry.operation).get(api.root.name, "")) if entry.operation else None
    if id is None:
        return shown_state(api, entry)
    changes = world.history_of(world.key_of(id)).upcoming.first.changes
    moves = [(change.before, change.after) for change in changes if not change.part and change.before is not None]
    return f"{format_label(moves[0][0])} → {format_label(moves[-1][1])}" if moves else ""
