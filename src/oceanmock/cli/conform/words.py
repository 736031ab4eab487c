"""The words of the command: its argument, its options, and what each may be.

Each option stands here with its type, its default and its help, in the order that `--help` has
them; whether they can be meant together is ``order``'s to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import click

from oceanmock.clock import SECOND
from oceanmock.conformance.model import PHASES, Api

APIS: Final[tuple[Api, ...]] = get_args(Api)
REPORTS: Final = ("html", "json", "junit")


# --- what a word may be ---------------------------------------------------------------------------


class _Span(click.ParamType):  # type: ignore[type-arg]
    """A span of time such as 30s or 1m30s, in nanoseconds; a default is a number already."""

    name = "span"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        from oceanmock.text import parse_duration

        try:
            return parse_duration(value)
        except ValueError as problem:
            return int(self.fail(f"{value!r} {problem}", param, ctx))


class Several(click.ParamType):  # type: ignore[type-arg]
    """Words with commas between them, each one of a few."""

    name = "list"

    def __init__(self, choices: Sequence[str]) -> None:
        self.choices = choices

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        words = value.split(",") if isinstance(value, str) else value
        for word in words:
            if word not in self.choices:
                from oceanmock.text import suggest

                self.fail(f"{word!r} is none of them. {suggest(word, self.choices)}", param, ctx)
        return tuple(words)


class _Pair(click.ParamType):  # type: ignore[type-arg]
    """An id in a story and the one it stands for: `1000=10023`."""

    name = "pair"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        if not isinstance(value, str):
            return tuple(value)
        there, equals, here = value.partition("=")
        if not (there and equals and here):
            self.fail(f"{value!r}: the story's id, =, and the target's: 1000=10023.", param, ctx)
        return there, here


class _Report(click.ParamType):  # type: ignore[type-arg]
    """Reports with commas between them: `html=out.html,junit=out.xml`."""

    name = "reports"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[tuple[str, Path], ...]:
        if not isinstance(value, str):
            return tuple(value)
        return tuple(self._one(each, param, ctx) for each in value.split(","))

    def _one(self, text: str, param: Any, ctx: Any) -> tuple[str, Path]:
        kind, equals, path = text.partition("=")
        if kind not in REPORTS:
            from oceanmock.text import suggest

            self.fail(f"{kind!r} is no kind of report. {suggest(kind, REPORTS)}", param, ctx)
        if not equals or not path:
            self.fail(f"where to? For example {kind}=report.{kind}.", param, ctx)
        return kind, Path(path)


# --- the options ----------------------------------------------------------------------------------

_MADE: Final[dict[str, Any]] = {"show_default": True}

_WORDS: Final = (
    click.argument("what", nargs=-1, metavar="[URL] | --mock [SCENARIO]..."),
    click.option(
        "--api", type=click.Choice(APIS), help="The API that URL serves, or --mock checks."
    ),
    click.option(
        "--mock", is_flag=True, help="Check oceanmock itself: the whole library, or SCENARIO."
    ),
    click.option("--user", help="OCP: whom to log on as, with --password."),
    click.option(
        "--password",
        envvar="OCEANMOCK_PASSWORD",
        show_envvar=True,
        help="Of that user, or obshell's root@sys (may be '' there). Asked for, if left out.",
    ),
    click.option("--access-key", help="OCP: the id of an access key, with --secret-key."),
    click.option(
        "--secret-key",
        envvar="OCEANMOCK_SECRET_KEY",
        show_envvar=True,
        help="Its secret. Asked for, if left out.",
    ),
    click.option(
        "--agent-password",
        envvar="OCEANMOCK_AGENT_PASSWORD",
        show_envvar=True,
        help="obshell: the agent's own password, where it has one.",
    ),
    click.option(
        "--viewer",
        metavar="TEXT",
        help="OCP: an account that may only look, to see with --write that it is kept from the "
        "rest.",
    ),
    click.option(
        "--viewer-password",
        envvar="OCEANMOCK_VIEWER_PASSWORD",
        show_envvar=True,
        help="Of that viewer. Asked for, if left out.",
    ),
    click.option(
        "--write",
        is_flag=True,
        help="Also retry, roll back, skip, cancel and pass: the tasks of --task. Without it only "
        "reads leave this machine.",
    ),
    click.option(
        "--task",
        multiple=True,
        metavar="ID",
        help="A task (obshell: a dag) that may be played with. May be repeated. The FAILED ones "
        "are listed and asked for, if left out.",
    ),
    click.option(
        "--story",
        multiple=True,
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Replay the story of a scenario's file on the target, and do no more than that unless "
        "--phases says what else. May be repeated.",
    ),
    click.option(
        "--story-id",
        multiple=True,
        type=_Pair(),
        metavar="ID=ID",
        help="A task of the story, by id or name, and its id at the target; found by its id or "
        "name there, if left out. May be repeated.",
    ),
    click.option(
        "--phases",
        type=Several(PHASES),
        metavar="LIST",
        help=f"What to do, with commas: {', '.join(PHASES)}. All, if left out.",
    ),
    click.option("--seed", default=0, help="The same seed makes the same requests.", **_MADE),
    click.option(
        "--max-examples",
        type=click.IntRange(1),
        help="How many examples are made up for each operation: 20, if left out, and 10 with "
        "--mock.",
    ),
    click.option(
        "--rate",
        default=0.0,
        type=click.FloatRange(0),
        help="Requests per second at most; 0 for no limit.",
        **_MADE,
    ),
    click.option(
        "--patience",
        default=60 * SECOND,
        type=_Span(),
        metavar="SPAN",
        help="How long a story or a machine waits for what should happen: 60s, if left out.",
    ),
    click.option(
        "--baseline",
        multiple=True,
        metavar="FILE",
        help="Known deviations to let pass: a file, a name that comes with oceanmock, or none. May "
        "be repeated. What comes with oceanmock for the target's version, if left out.",
    ),
    click.option(
        "--update-baseline",
        is_flag=True,
        help="Write what was found to the last FILE of --baseline, and take out what no longer "
        "occurs.",
    ),
    click.option(
        "--report",
        multiple=True,
        type=_Report(),
        metavar="KIND=PATH",
        help="Write a report: html, json or junit. May be repeated, or have commas.",
    ),
    click.option(
        "--wait",
        default=5 * SECOND,
        type=_Span(),
        metavar="SPAN",
        help="How long to wait for a target that does not answer yet: 5s, if left out.",
    ),
    click.option("--insecure", is_flag=True, help="Take any certificate."),
    click.option(
        "--ca",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The certificates to trust, instead of this machine's.",
    ),
)


def takes_words(function: Callable[..., None]) -> Callable[..., None]:
    """A function with every word of the command as an argument of its name."""
    for word in reversed(_WORDS):
        function = word(function)
    return function
