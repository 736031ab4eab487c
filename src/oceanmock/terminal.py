"""Print to the standard streams whatever a text contains, and wherever they lead.

A text of others can neither colour, move nor reorder anything: its control, bidi and C1 characters are escaped. A
character that the stream's encoding lacks is printed as ASCII. What cannot be written is discarded, so that a command
still comes to its exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from oceanmock.text import escape_unprintable

if TYPE_CHECKING:
    from rich.console import Console

GLYPHS: Final = "→…─│├“”·×✗–✓●○▼▒█└━▪╰╯╮╭═╌┼┴┬┤↶"
ASCII_OF_GLYPH: Final = str.maketrans(GLYPHS, '>~-|+"".x!-+*ov%#`=*`\'.,=-++++<')
"""One character for each that oceanmock draws with, so that columns stay in line."""

COLOURS: Final = {
    "red": "#e0301e",
    "green": "#00882a",
    "yellow": "#8b7300",
    "blue": "#5f5fff",
    "magenta": "#d700af",
    "cyan": "#008484",
    "dim": "#767676",
}
"""What the names of colours stand for: a contrast of 4.5 on black and on white (WCAG 2.2, 1.4.3)."""


def new_console(file: TextIO, **settings: Any) -> Console:
    """Return a console with these colours; with NO_COLOR, plain text."""
    from rich.console import Console  # noqa: PLC0415 (slow)
    from rich.theme import Theme  # noqa: PLC0415

    styles = {f"{bold}{name}": f"{bold}{colour}" for name, colour in COLOURS.items() for bold in ("", "bold ")}
    system: Any = None if os.environ.get("NO_COLOR") else "auto"
    return Console(file=file, highlight=False, theme=Theme(styles), color_system=system, **settings)


class Output:
    """A stream that accepts every character, and discards further text once it could not be written."""

    buffer: Final = None
    """click would use it if the encoding is ASCII."""

    def __init__(self, stream: Any, report: Callable[[str], object] | None = None) -> None:
        self._stream = stream
        self._report = report
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
        """Lead the stream, and what it has buffered, to the null device when it fails; report all but a closed pipe."""
        try:
            yield
        except OSError as problem:
            self.problem = problem
            with suppress(OSError), open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), self.fileno())
            if self._report is not None and not isinstance(problem, BrokenPipeError):
                self._report(f"Error: cannot write to stdout: {problem.strerror}.\n")


class PlainOutput:
    """An output for plain text, whose unprintable characters are escaped, except for the ends of lines.

    A console of rich unwraps ``rich_proxied_file`` (rich/console.py, ``file``): it writes escape sequences of its own.
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
    """Replace stdout and stderr for the length of a block; one that is closed becomes the null device.

    The descriptors of closed ones are taken, since libuv aborts when it closes a socket that has one of them.
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
    """Return why stdout could not be written, or None."""
    problem: OSError | None = getattr(sys.stdout, "problem", None)
    return problem
