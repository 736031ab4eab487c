"""Read and format texts for people: instants, durations, counts, colours, shortened texts and suggestions.

Instants are nanoseconds since the epoch, written in RFC 3339; spans are nanoseconds, written as in scenario files. No
other module formats either.
"""

from __future__ import annotations

import difflib
import os
import re
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TextIO

from oceanmock.clock import MILLISECOND, SECOND

if TYPE_CHECKING:
    from rich.console import Console

COLOURS: Final = {
    "red": "#e0301e",
    "green": "#00882a",
    "yellow": "#8b7300",
    "blue": "#5f5fff",
    "magenta": "#d700af",
    "cyan": "#008484",
    "dim": "#767676",
}
"""The values of named colours, which have a contrast of 4.5 on black and on white (WCAG 2.2, 1.4.3)."""
NANOSECOND_DIGITS: Final = 9  # of the fractions that Go writes; Java's Jackson writes three
_INSTANT: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def format_instant(instant: int, zone: tzinfo = UTC, *, digits: int = NANOSECOND_DIGITS, padded: bool = False) -> str:
    """Return an instant in RFC 3339, UTC as Z, with at most ``digits`` digits of fraction.

    Trailing zeros of the fraction are left out unless it is ``padded``.
    """
    second, rest = divmod(instant, SECOND)
    start, offset = _second(second, zone)
    fraction = f"{rest:09d}"[:digits]
    fraction = fraction if padded else fraction.rstrip("0")
    return f"{start}.{fraction}{offset}" if fraction else start + offset


@lru_cache(maxsize=4096)
def _second(second: int, zone: tzinfo) -> tuple[str, str]:
    text = datetime.fromtimestamp(second, zone).isoformat(timespec="seconds")
    start, offset = text[:19], text[19:25]
    return start, "Z" if offset == "+00:00" else offset


def parse_instant(text: str) -> int:
    """Return the nanoseconds since the epoch of a text in RFC 3339, to nine digits. Raises ValueError for any other."""
    parts = _INSTANT.fullmatch(text)
    if parts is None:
        raise ValueError(f"{text[:100]!r} is no instant such as 2024-01-10T06:00:00Z")
    day, time, fraction, offset = parts.groups()
    second = nanoseconds_of(datetime.fromisoformat(f"{day}T{time}{offset.upper()}"))
    return second + int((fraction or "").ljust(NANOSECOND_DIGITS, "0"))


def nanoseconds_of(moment: datetime) -> int:
    """Return the nanoseconds since the epoch of a datetime with an offset."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


_UNITS: Final = {"d": 86_400 * SECOND, "h": 3_600 * SECOND, "m": 60 * SECOND, "s": SECOND, "ms": MILLISECOND}
DURATION_PATTERN: Final = r"(?:[0-9]{1,18}(?:\.[0-9]{1,18})?(?:ms|s|m|h|d))+"
_PART: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?(ms|s|m|h|d)")
MAX_DURATION_LENGTH: Final = 100
MAX_DURATION: Final = 3650 * _UNITS["d"]


def parse_duration(text: object) -> int:
    """Return the nanoseconds in a duration such as ``400ms``, ``1.9s``, ``2m`` or ``1h30m``.

    Raises ValueError for anything else, and for more than ten years; its message continues the name of the value.
    """
    if isinstance(text, str) and len(text) <= MAX_DURATION_LENGTH and re.fullmatch(DURATION_PATTERN, text):
        span = 0
        for whole, fraction, unit in _PART.findall(text):
            span += int(whole + fraction) * _UNITS[unit] // int(10 ** len(fraction))
        if span <= MAX_DURATION:
            return span
        raise ValueError("is longer than ten years")
    is_number = isinstance(text, int | float) and not isinstance(text, bool) and 0 <= text < 1e9
    hint = f" (write {text}s for seconds)" if is_number else ""
    raise ValueError(f"is not a duration such as 400ms, 1.9s, 2m or 1h30m{hint}")


def format_duration(span: int) -> str:
    """Return the shortest text that ``parse_duration`` reads as these nanoseconds: `1m30s`."""
    text = ""
    for unit, size in _UNITS.items():
        if unit == "s" and span % size and span < size:
            continue
        whole, rest = divmod(span, size)
        if unit in ("s", "ms") and whole + rest:
            fraction = f"{rest:0{len(str(size)) - 1}}".rstrip("0")
            return f"{text}{whole}{'.' if fraction else ''}{fraction}{unit}"
        text, span = text + (f"{whole}{unit}" if whole else ""), rest
    return text or "0s"


TimeSpan = str | float | timedelta  # a duration as scenario files write it (``"90s"``), seconds, or a timedelta


def duration_text(duration: TimeSpan) -> str:
    """Return a duration as scenario files and the admin API write it."""
    if isinstance(duration, str):
        return duration
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def instant_text(instant: datetime | str) -> str:
    """Return an instant as the admin API reads it; one without a time zone is in UTC."""
    if not isinstance(instant, datetime):
        return instant  # the server reports what is no instant
    aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat()


def round_duration(span: int) -> str:
    """Return a duration as ``format_duration`` does, rounded to milliseconds above a second."""
    step = MILLISECOND if span >= SECOND else MILLISECOND // 1000
    return format_duration((span + step // 2) // step * step if span >= step else span)


def format_seconds(span: int) -> str:
    """Return a span in seconds, to the millisecond: `1.900 s`."""
    return f"{span / SECOND:.3f} s"


def format_elapsed(span: int) -> str:
    """Return a measured span, rounded: `3.4 ms`, `12.3 s`, `2 min 5 s`."""
    seconds = span / SECOND
    if seconds < 0.9995:
        return f"{seconds * 1000:.{1 if seconds < 0.01 else 0}f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    return "{} min {} s".format(*divmod(round(seconds), 60))


def new_console(file: TextIO, **settings: Any) -> Console:
    """Return a console with these colours; with NO_COLOR, plain text."""
    from rich.console import Console  # noqa: PLC0415 (slow)
    from rich.theme import Theme  # noqa: PLC0415

    styles = {f"{bold}{name}": f"{bold}{colour}" for name, colour in COLOURS.items() for bold in ("", "bold ")}
    system: Any = None if os.environ.get("NO_COLOR") else "auto"
    return Console(file=file, highlight=False, theme=Theme(styles), color_system=system, **settings)


SUCCESS_WORDS: Final = frozenset({"succeed", "succeeded", "successful", "success"})  # of several APIs and their users
MAX_WORD_LENGTH: Final = 500  # of a word that is compared for a suggestion


def wrap_line(line: str, *, width: int, indent: int = 2) -> str:
    """Return a line wrapped at words, and continued at a column; long words stay whole."""
    return textwrap.fill(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def runs_text(runs: Sequence[tuple[bool, int | None]], timeout: int) -> str:
    """Return a few words on runs: whether each fails, and how long it takes."""
    texts = []
    for fails, takes in runs:
        is_late = takes is not None and takes > timeout
        glyph = "✗" if fails or is_late else "✓"
        texts.append("hangs" if takes is None else f"{glyph} {'timeout' if is_late else format_duration(takes)}")
    return ", then ".join(texts)


def ends_with(lines: Sequence[str]) -> str:
    """Return the clause that quotes the last line of a log; "" for an empty log."""
    return f"; its log ends “{one_line(lines[-1])}”" if lines else ""


def timeout_text(runs: Sequence[tuple[bool, int | None]], timeout: int, *, is_set: bool) -> str:
    """Return the timeout of runs if the file sets it or a run takes longer; "" otherwise."""
    is_reached = any(takes is None or takes > timeout for _, takes in runs)
    return f"  timeout {format_duration(timeout)}" if is_set or is_reached else ""


def plural(number: int, noun: str, nouns: str = "") -> str:
    """Return a number and its noun: `1 finding`, `1,234 findings`, `2 entries`."""
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"


def first_few(texts: Sequence[str], limit: int = 5, total: int = 0) -> str:
    """Return the first texts, and how many more there are of these, or of a larger ``total``."""
    rest = max(total, len(texts)) - limit
    return ", ".join(texts[:limit]) + (f" and {rest} more" if rest > 0 else "")


def list_existing(names: Iterable[object], total: int = 0) -> str:
    """Return “There are: …”, which follows the message that a name or id does not exist."""
    texts = [one_line(str(name)) for name in names]
    return f"There are: {first_few(texts, total=total)}." if texts else "There are none."


def shorten(text: str, length: int) -> str:
    """Return at most ``length`` characters of a text, with an ellipsis if there are more."""
    return text if len(text) <= length else f"{text[:length]}…"


def one_line(text: str, length: int = 160) -> str:
    """Return a text on one line of at most ``length`` characters, its control characters spelled out."""
    line = escape_unprintable(" ".join(text.split()))
    return line if len(line) <= length else shorten(line, length - 1)


def escape_unprintable(text: str) -> str:
    r"""Return a text whose unprintable characters are spelled out: ``\x1b``, ``\n``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def exchange_text(entry: Any) -> str:
    """Return an exchange of a journal as one line; ``entry`` is the server's or a client's."""
    query, by = entry.query and f"?{entry.query}", entry.caller and f" by {entry.caller}"
    answered = "cut off" if entry.status is None else f"answered {entry.status}"
    stub, fault = entry.stub and f", stub: {entry.stub}", entry.fault and f", fault injected: {entry.fault}"
    return f"{entry.method} {entry.path}{query}{by}, {answered}{stub}{fault}"


def escape_command(text: str, more: str = "") -> str:
    """Return a text for a workflow command of GitHub; a property needs ``:`` and ``,`` escaped, too."""
    return "".join(f"%{ord(char):02X}" if char in f"%\r\n{more}" else char for char in text)


def suggest(word: object, choices: Sequence[str]) -> str:
    """Return “Allowed: …. Did you mean …?” for a word that is none of the choices."""
    allowed = f"Allowed: {', '.join(choices)}." if choices else "There is none."
    return " ".join(filter(None, (allowed, did_you_mean(word, choices))))


def did_you_mean(word: object, choices: Sequence[str]) -> str:
    """Return “Did you mean …?”, or "" when no choice is similar."""
    near = closest(word, choices)
    return f"Did you mean {near!r}?" if near is not None else ""


def closest(word: object, choices: Sequence[str], *, cutoff: float = 0.6) -> str | None:
    """Return the choice most similar to a word, ignoring case, or None if none is similar.

    A choice with the same meaning, or one that begins with the word (unless that is a path), comes before all others.
    """
    by_lower = {choice.lower(): choice for choice in choices}
    lower = str(word)[:MAX_WORD_LENGTH].lower()
    near = [choice for choice in by_lower if {lower, choice} <= SUCCESS_WORDS]
    if not near and len(lower) > 5 and "/" not in lower:
        near = sorted((choice for choice in by_lower if choice.startswith(lower)), key=len)
    if near:
        return by_lower[near[0]]
    matcher, best = difflib.SequenceMatcher(b=lower), (cutoff, "")
    for choice in by_lower:  # get_close_matches compares with the cutoff only, never with the best so far
        matcher.set_seq1(choice)
        if matcher.real_quick_ratio() >= best[0] and matcher.quick_ratio() >= best[0]:
            best = max(best, (matcher.ratio(), choice))
    return by_lower.get(best[1])
