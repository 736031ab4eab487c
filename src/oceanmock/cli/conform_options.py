"""Define the options of ``oceanmock conform`` and check that they fit together.

Each option stands once, in ``OPTIONS``, in the order of ``--help``. Nothing here sends a request or
touches a file, and no message shows a secret or a URL that contains one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, get_args
from urllib.parse import urlsplit

import click

from oceanmock.checks import Phase
from oceanmock.clock import SECOND
from oceanmock.conformance.model import PHASES, Api
from oceanmock.text import format_duration, parse_duration, suggest

API_CHOICES: Final[tuple[Api, ...]] = get_args(Api)
REPORT_KINDS: Final = ("html", "json", "junit")
SECRETS: Final = ("password", "secret_key", "agent_password", "read_only_password")
CREDENTIALS: Final[Mapping[Api, tuple[str, ...]]] = {
    "ocp": (
        "user",
        "password",
        "access_key",
        "secret_key",
        "read_only_user",
        "read_only_password",
    ),
    "obshell": ("password", "agent_password"),
}
"""The credential options that each API accepts."""
REAL_SERVER_ONLY: Final = ("write", "task", "insecure", "ca", "story", "story_id")
NOT_REPEATED: Final = frozenset({"connect_timeout", "report", "update_baseline", *SECRETS})
"""Options that the command to repeat a run leaves out, or states elsewhere."""


# --- option types ---------------------------------------------------------------------------------


class _Duration(click.ParamType):  # type: ignore[type-arg]
    """A duration such as 30s or 1m30s, in nanoseconds; a default is already a number."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_duration(value)
        except ValueError as problem:
            return int(self.fail(f"{value!r} {problem}", param, ctx))


class CommaList(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated values, each one of ``choices``."""

    name = "list"

    def __init__(self, choices: Sequence[str]) -> None:
        self.choices = choices

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        words = value.split(",") if isinstance(value, str) else value
        for word in words:
            if word not in self.choices:
                self.fail(f"{word!r} is not allowed. {suggest(word, self.choices)}", param, ctx)
        return tuple(words)


class _Pair(click.ParamType):  # type: ignore[type-arg]
    """An id in a story and the target's id, such as ``1000=10023``."""

    name = "pair"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        if not isinstance(value, str):
            return tuple(value)
        story_id, equals, target_id = value.partition("=")
        if not (story_id and equals and target_id):
            self.fail(f"{value!r} is not STORY_ID=TARGET_ID, for example 1000=10023.", param, ctx)
        return story_id, target_id


class _Reports(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated reports, such as ``html=out.html,junit=out.xml``."""

    name = "reports"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[tuple[str, Path], ...]:
        if not isinstance(value, str):
            return tuple(value)
        return tuple(self._report(text, param, ctx) for text in value.split(","))

    def _report(self, text: str, param: Any, ctx: Any) -> tuple[str, Path]:
        kind, equals, path = text.partition("=")
        if kind not in REPORT_KINDS:
            self.fail(f"there is no {kind!r} report. {suggest(kind, REPORT_KINDS)}", param, ctx)
        if not equals or not path:
            self.fail(f"the path is missing: {kind}=report.{kind}.", param, ctx)
        return kind, Path(path)


# --- the options ----------------------------------------------------------------------------------


def _secret(flag: str, help_text: str) -> Any:
    """Return an option that is also read from the environment and prompted for if missing."""
    variable = f"OCEANMOCK_{flag.removeprefix('--').replace('-', '_').upper()}"
    return click.option(flag, envvar=variable, show_envvar=True, help=help_text)


OPTIONS: Final = (
    click.argument("what", nargs=-1, metavar="[URL] | --mock [SCENARIO]..."),
    click.option(
        "--api", type=click.Choice(API_CHOICES), help="The API that URL serves, or --mock checks."
    ),
    click.option(
        "--mock", is_flag=True, help="Check oceanmock itself: the whole library, or SCENARIO."
    ),
    click.option("--user", help="OCP: the user to log in as, with --password."),
    _secret(
        "--password",
        "The password of --user, or of obshell's root@sys (may be ''). Prompted for if left out.",
    ),
    click.option("--access-key", help="OCP: the id of an access key, with --secret-key."),
    _secret("--secret-key", "The secret of the access key. Prompted for if left out."),
    _secret("--agent-password", "obshell: the agent's own password, if it has one."),
    click.option(
        "--read-only-user",
        metavar="TEXT",
        help="OCP: a user who may only read tasks. With --write, the run checks that the server "
        "refuses this user's operations.",
    ),
    _secret("--read-only-password", "The password of --read-only-user. Prompted for if left out."),
    click.option(
        "--write",
        is_flag=True,
        help="Also retry, roll back, skip, cancel and pass the tasks given by --task. Without it "
        "the run sends reads only.",
    ),
    click.option(
        "--task",
        multiple=True,
        metavar="ID",
        help="A task (obshell: a dag) that the run may operate on. Repeatable. If left out, the "
        "FAILED ones are listed to choose from.",
    ),
    click.option(
        "--story",
        multiple=True,
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Replay the story of a scenario file on the target; only that, unless --phases is "
        "given. Repeatable.",
    ),
    click.option(
        "--story-id",
        multiple=True,
        type=_Pair(),
        metavar="ID=ID",
        help="A task of the story (id or name) and its id at the target. If left out, it is "
        "found there by id or name. Repeatable.",
    ),
    click.option(
        "--phases",
        type=CommaList(PHASES),
        metavar="LIST",
        help=f"The phases to run, comma-separated: {', '.join(PHASES)}. Default: all.",
    ),
    click.option(
        "--seed", default=0, show_default=True, help="The same seed makes the same requests."
    ),
    click.option(
        "--max-examples",
        type=click.IntRange(1),
        help="Generated examples per operation. Default: 20, or 10 with --mock.",
    ),
    click.option(
        "--rate",
        default=0.0,
        show_default=True,
        type=click.FloatRange(0),
        help="Maximum requests per second; 0 for no limit.",
    ),
    click.option(
        "--timeout",
        default=60 * SECOND,
        type=_Duration(),
        metavar="DURATION",
        help="How long a story or a walk waits for an expected state. Default: 60s.",
    ),
    click.option(
        "--baseline",
        multiple=True,
        metavar="FILE",
        help="Known deviations to accept: a file, the name of one that comes with oceanmock, or "
        "none. Repeatable. Default: the one for the target's version.",
    ),
    click.option(
        "--update-baseline",
        is_flag=True,
        help="Add new findings to the last FILE of --baseline, and remove entries that no longer "
        "occur.",
    ),
    click.option(
        "--report",
        multiple=True,
        type=_Reports(),
        metavar="KIND=PATH",
        help="Write a report: html, json or junit. Repeatable, or comma-separated.",
    ),
    click.option(
        "--connect-timeout",
        default=5 * SECOND,
        type=_Duration(),
        metavar="DURATION",
        help="How long to wait for a target that does not respond yet. Default: 5s.",
    ),
    click.option("--insecure", is_flag=True, help="Accept any certificate."),
    click.option(
        "--ca",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The certificates to trust, instead of this machine's.",
    ),
)


@dataclass(frozen=True, slots=True)
class ConformOptions:
    """The values of the options; secrets are left out of ``repr``."""

    what: tuple[str, ...]
    mock: bool
    api: Api | None
    user: str | None
    password: str | None = field(repr=False)
    access_key: str | None
    secret_key: str | None = field(repr=False)
    agent_password: str | None = field(repr=False)
    read_only_user: str | None
    read_only_password: str | None = field(repr=False)
    write: bool
    task: tuple[str, ...]
    story: tuple[Path, ...]
    story_id: tuple[tuple[str, str], ...]
    phases: tuple[Phase, ...] | None
    seed: int
    max_examples: int | None
    rate: float
    timeout: int
    baseline: tuple[str, ...]
    update_baseline: bool
    report: tuple[tuple[tuple[str, Path], ...], ...]
    connect_timeout: int
    insecure: bool
    ca: Path | None

    @property
    def reports(self) -> list[tuple[str, Path]]:
        """Return the kind and path of every report to write."""
        return [report for group in self.report for report in group]

    @property
    def verify(self) -> bool | str:
        """Return whether to verify certificates, or the path of those to trust."""
        return str(self.ca) if self.ca else not self.insecure

    @property
    def baseline_files(self) -> list[Path]:
        """Return the baselines that are files of the user's own."""
        paths = map(Path, self.baseline)
        return [path for path in paths if is_file_name(path) or path.name != str(path)]


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a click command function with every option as a keyword argument."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def is_file_name(reference: str | Path) -> bool:
    """Return whether a baseline reference is a YAML file's name, existing or not."""
    return Path(reference).suffix in (".yaml", ".yml")


def repeat_arguments(options: ConformOptions) -> Iterator[str]:
    """Yield the arguments that repeat a run, without passwords: those are read or prompted for."""
    yield from ("--mock",) if options.mock else ()
    yield from options.what
    defaults = {param.name: param.default for param in click.get_current_context().command.params}
    for entry in fields(options)[2:]:
        value = getattr(options, entry.name)
        is_default = value in ((), None) or value is False or value == defaults.get(entry.name)
        if entry.name == "seed" or not (is_default or entry.name in NOT_REPEATED):
            yield from _arguments(entry.name, value)


def _arguments(name: str, value: Any) -> Iterator[str]:
    if value is True:
        yield _flag(name)
    elif name == "phases":
        yield from (_flag(name), ",".join(value))
    else:
        for item in value if isinstance(value, tuple) else (value,):
            yield from (_flag(name), _argument(name, item))


def _argument(name: str, value: Any) -> str:
    if name == "timeout":
        return format_duration(value)
    if name == "rate":
        return f"{value:g}"
    return "=".join(value) if isinstance(value, tuple) else str(value)


# --- combinations ---------------------------------------------------------------------------------


def check_options(options: ConformOptions) -> None:
    """Raise a UsageError for options that do not fit together."""
    problem = next(_problems(options), None)
    if problem is not None:
        raise click.UsageError(problem)


def _problems(options: ConformOptions) -> Iterator[str]:
    yield from (_mock_problems if options.mock else _url_problems)(options)
    if options.insecure and options.ca:
        yield "--insecure and --ca exclude each other: give one of them."
    counts = Counter(path.absolute() for _, path in options.reports)
    for _, path in options.reports:
        if counts[path.absolute()] > 1:
            yield f"two reports have the same path, {path}: give another path for one of them."
    if "none" in options.baseline and len(options.baseline) > 1:
        yield "--baseline none excludes every other --baseline."
    if options.update_baseline and not options.baseline_files:
        yield "--update-baseline needs the file to write: --baseline my.yaml."


def _mock_problems(options: ConformOptions) -> Iterator[str]:
    url = next((word for word in options.what if "://" in word), None)
    if url is not None:
        yield f"--mock checks oceanmock itself, not {_without_user(url)}: leave out one of them."
    for name in ("user", "access_key", "read_only_user", *SECRETS):
        if getattr(options, name) is not None and not _is_from_environment(name):
            yield f"--mock uses its own credentials: leave out {_flag(name)}."
    for name in REAL_SERVER_ONLY:
        if getattr(options, name):
            yield f"{_flag(name)} is for a real server: leave it out with --mock."
    if options.update_baseline and options.api is None:
        yield "--update-baseline writes the baseline of one API: give --api."


def _url_problems(options: ConformOptions) -> Iterator[str]:
    if not options.what:
        yield "nothing to check: give the URL of a server, or --mock for oceanmock itself."
        return
    if len(options.what) > 1:
        yield "only one URL is checked at a time. Check scenarios with --mock."
    url = options.what[0]
    if "://" not in url:
        yield f"{url!r} is not a URL (http://…). Check a scenario with --mock {url}"
    if not _is_url(url):
        yield f"{_without_user(url)} is not the URL of a server (http://… or https://…)."
    elif "@" in urlsplit(url).netloc:
        yield "the URL contains credentials, which end up in logs: use --user instead."
    if options.api is None:
        yield f"give the API: {' or '.join(f'--api {name}' for name in API_CHOICES)}."
    else:
        yield from _credential_problems(options, CREDENTIALS[options.api])
    if options.story_id and not options.story:
        yield "--story-id needs a story: give --story."
    if options.task and not options.write:
        yield "--task names a task to operate on, which needs --write."


def _credential_problems(options: ConformOptions, accepted: Sequence[str]) -> Iterator[str]:
    """Yield options that the API does not accept, and a missing or ambiguous user."""
    for name in dict.fromkeys(name for names in CREDENTIALS.values() for name in names):
        given = getattr(options, name) is not None and not _is_from_environment(name)
        if given and name not in accepted:
            yield f"{_flag(name)} is not an option of --api {options.api}."
    if "user" in accepted:
        if options.user is None and options.access_key is None:
            yield "give --user and --password, or --access-key and --secret-key."
        if options.user is not None and options.access_key is not None:
            yield "--user and --access-key exclude each other: give one of them."


def _is_from_environment(name: str) -> bool:
    """Return whether an option's value comes from an environment variable."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.ENVIRONMENT


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:  # such as an unclosed bracket
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _without_user(url: str) -> str:
    """Return a URL without the credentials in it."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
