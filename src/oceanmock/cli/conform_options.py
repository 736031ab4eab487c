"""The options of ``oceanmock conform``: read them, check that they fit together, write the command to repeat a run.

Each option is a field of ``ConformOptions``, in the order of ``--help``. Modules are imported only when needed, so that
``oceanmock --help`` stays quick.
"""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource

from oceanmock.checks import Phase
from oceanmock.cli.printing import complete_scenario
from oceanmock.conformance import MAX_REQUESTS, MAX_TIME, PHASES, ApiName
from oceanmock.text import format_duration, parse_duration, suggest

API_CHOICES: Final[tuple[ApiName, ...]] = get_args(ApiName)
REPORT_KINDS: Final = ("html", "json", "junit", "sarif")
SECRETS: Final = ("password", "secret_key", "agent_password", "read_only_password")
"""Options that are also read from the environment, and prompted for if missing."""
CREDENTIALS: Final[Mapping[ApiName, tuple[str, ...]]] = {
    "ocp": ("user", "password", "access_key", "secret_key", "read_only_user", "read_only_password"),
    "obshell": ("password", "agent_password"),
}
"""The credential options that each API accepts."""
CREDENTIAL_NAMES: Final = tuple(dict.fromkeys(chain.from_iterable(CREDENTIALS.values())))
NOT_REPEATED: Final = frozenset({"what", "mock", "connect_timeout", "format", "report", "update_baseline", *SECRETS})
"""Fields that are no options in the command to repeat a run."""


def _duration(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as problem:
        raise click.BadParameter(f"{text!r} {problem}") from None


DURATION: Final[Mapping[str, Any]] = {"type": _duration, "metavar": "DURATION"}


def list_of(choices: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Return a reader of comma-separated values, each one of the choices."""

    def read(text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        for word in words:
            if word not in choices:
                raise click.BadParameter(f"{word!r} is not allowed. {suggest(word, choices)}")
        return words

    return read


def _story_id(text: str) -> tuple[str, str]:
    story_id, _, target_id = text.partition("=")
    if not (story_id and target_id):
        raise click.BadParameter(f"{text!r} is not STORY_ID=TARGET_ID, for example 1000=10023.")
    return story_id, target_id


def _requirement(text: str) -> tuple[str, int]:
    """Return what is required and how often, such as ``transitions=3``."""
    name, _, number = text.partition("=")
    if name not in (names := ("transitions", "operations")):
        raise click.BadParameter(f"{name!r} is not allowed. {suggest(name, names)}")
    if number and not (number.isascii() and number.isdigit()):
        raise click.BadParameter(f"{number!r} is not a number: {name}=3.")
    return name, int(number or 1)


def _reports(text: str) -> list[tuple[str, Path]]:
    """Return kind and path of each report in a text such as ``html=out.html,junit=out.xml``."""
    reports = []
    for report in text.split(","):
        kind, _, path = report.partition("=")
        if kind not in REPORT_KINDS:
            raise click.BadParameter(f"there is no {kind!r} report. {suggest(kind, REPORT_KINDS)}")
        if not path:
            raise click.BadParameter(f"the path is missing: {kind}=report.{kind}.")
        reports.append((kind, Path(path)))
    return reports


def mask_names(_context: click.Context, _option: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """Mask the values of these names too, while the command runs."""
    from oceanmock.masking import add_secret_names

    add_secret_names(names)
    return names


def _option(help_text: str, **settings: Any) -> Any:
    """Return a field with the settings of its click option."""
    return field(metadata={"help": help_text, **settings})


@dataclass(frozen=True, slots=True, repr=False)  # it has secrets
class ConformOptions:
    """The values of the options, in the order of ``--help``."""

    what: tuple[str, ...]
    api: ApiName | None = _option("The API that URL serves, or --mock checks.", type=click.Choice(API_CHOICES))  # noqa: RUF009
    mock: bool = _option("Check oceanmock itself: the whole library, or SCENARIO.")
    passive: Path | None = _option(  # noqa: RUF009
        "Send nothing: judge what was recorded, a HAR file or the output of `oceanmock journal --json`. The mode for a "
        "server in production.",
        metavar="FILE",
        type=click.Path(path_type=Path),
    )
    user: str | None = _option("OCP: the user to log in as, with --password.")
    password: str | None = _option(
        "The password of --user, or of obshell's root@sys (may be ''). Prompted for if left out."
    )
    access_key: str | None = _option("OCP: the id of an access key, with --secret-key.")
    secret_key: str | None = _option("The secret of the access key. Prompted for if left out.")
    agent_password: str | None = _option("obshell: the agent's own password, if it has one.")
    read_only_user: str | None = _option(
        "OCP: a user who may only read tasks. With --write, the run checks that the server refuses this user's "
        "operations."
    )
    read_only_password: str | None = _option("The password of --read-only-user. Prompted for if left out.")
    write: bool = _option(
        "Also retry, roll back, skip, cancel and pass the tasks given by --task. WARNING: this cannot be undone; each "
        "task ends rolled back or passed if it may be, and the report says how. Without it the run sends reads only."
    )
    task: tuple[str, ...] = _option(
        "A task (obshell: a dag) that the run may operate on. Repeatable. If left out, the FAILED ones are listed to "
        "choose from.",
        metavar="ID",
    )
    story: tuple[Path, ...] = _option(
        "Replay the story of a scenario file on the target; only that, unless --phases is given. Repeatable.",
        metavar="FILE",
        type=click.Path(path_type=Path),
    )
    story_id: tuple[tuple[str, str], ...] = _option(
        "A task of the story (id or name) and its id at the target. If left out, it is found there by id or name. "
        "Repeatable.",
        metavar="ID=ID",
        type=_story_id,
    )
    from_: int | None = _option(
        "The step of the story to begin at. Default: where its task is at rest already, the first step that fits.",
        metavar="STEP",
        type=click.IntRange(1),
    )
    submit: bool = _option("Also start the tasks that a story starts; the run first names what is created.")
    phases: tuple[Phase, ...] | None = _option(
        f"The phases to run, comma-separated: {', '.join(PHASES)}. Default: all.", metavar="LIST", type=list_of(PHASES)
    )
    seed: int = _option("The same seed makes the same requests.", default=0, show_default=True)
    max_examples: int | None = _option(
        "Generated examples per operation. Default: 5, or 10 with --mock.", type=click.IntRange(1)
    )
    max_requests: int = _option(
        "The number of requests after which the run ends as INCOMPLETE; 0 for no limit. Not with --mock.",
        default=MAX_REQUESTS,
        show_default=True,
        type=click.IntRange(0),
    )
    max_time: int = _option(
        "The time after which the run ends as INCOMPLETE. Default: 30m. Not with --mock.",
        default=format_duration(MAX_TIME),
        **DURATION,
    )
    cancel_rollback: bool = _option(
        "obshell: with --write, also cancel what is being rolled back. DANGER: no operator ever ends such a dag, and a "
        "dag for maintenance locks its agent for good."
    )
    unknown_ids: bool = _option(
        "obshell: send unknown ids even to an agent beside others. DANGER: real agents that are not bootstrapped then "
        "ask each other without end, until they refuse right credentials."
    )
    rate: float = _option(
        "Maximum requests per second; 0 for no limit.", default=0.0, show_default=True, type=click.FloatRange(0)
    )
    timeout: int = _option(
        "How long a story or a walk waits for an expected state. Default: 60s.", default="60s", **DURATION
    )
    include: tuple[str, ...] = _option(
        "Report only deviations of these operations or rules, such as getTaskInstance or 'time.*'. Repeatable.",
        metavar="PATTERN",
    )
    exclude: tuple[str, ...] = _option(
        "Send no requests of these operations, and report no deviations of them or of these rules. Repeatable.",
        metavar="PATTERN",
    )
    max_failures: int | None = _option(
        "End the run after N findings that no baseline accepts.", metavar="N", type=click.IntRange(1)
    )
    require: tuple[tuple[str, int], ...] = _option(
        "What the run has to observe, else it is INCOMPLETE: transitions, for one transition of a task at least, or "
        "transitions=N, or operations=N, for N operations that succeed. Repeatable.",
        metavar="WHAT[=N]",
        type=_requirement,
    )
    min_operations: int = _option("The same as --require operations=N.", metavar="N", default=0, type=click.IntRange(0))
    baseline: tuple[str, ...] = _option(
        "Known deviations to accept: a file, the name of one that comes with oceanmock, or none. Repeatable. Default: "
        "the one for the target's version.",
        metavar="FILE",
    )
    update_baseline: bool = _option(
        "Add new findings to the last FILE of --baseline, and remove entries that no longer occur."
    )
    report: tuple[tuple[str, Path], ...] = _option(
        "Write a report: html, json, junit or sarif. Repeatable, or comma-separated.",
        metavar="KIND=PATH",
        type=_reports,
        callback=lambda _context, _option, groups: tuple(chain.from_iterable(groups)),
    )
    format: str = _option(
        "What is printed besides the summary: text for nothing, github for an annotation per cause of deviations.",
        type=click.Choice(["text", "github"]),
        default="text",
        show_default=True,
    )
    mask: tuple[str, ...] = _option(
        "Mask the values of this name in reports too. Repeatable.", metavar="NAME", callback=mask_names
    )
    connect_timeout: int = _option(
        "How long to wait for a target that does not respond yet. Default: 5s.", default="5s", **DURATION
    )
    insecure: bool = _option("Accept any certificate.")
    ca: str | None = _option(
        "The certificates to trust, instead of this machine's.",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
    )

    @property
    def own_baseline(self) -> Path | None:
        """Return the last baseline that is a file of the user's own."""
        from oceanmock.conformance.baseline import is_path

        return next((Path(item) for item in reversed(self.baseline) if is_path(item)), None)


def matching(patterns: Sequence[str], names: Sequence[str]) -> frozenset[str]:
    """Return the names that match a pattern."""
    return frozenset(name for pattern in patterns for name in fnmatch.filter(names, pattern))


def selected(options: ConformOptions, names: Sequence[str]) -> frozenset[str]:
    """Return the included names, or all if no pattern matches any, without the excluded ones."""
    return (matching(options.include, names) or frozenset(names)) - matching(options.exclude, names)


def flag_of(name: str) -> str:
    return f"--{name.rstrip('_').replace('_', '-')}"


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a click command function with every option as a keyword argument.

    An option whose type is bool is a flag, and one whose type is a tuple may be repeated.
    """
    types = get_type_hints(ConformOptions)
    for item in reversed(fields(ConformOptions)[1:]):
        kind, settings = types[item.name], dict(item.metadata)
        if item.name in SECRETS:
            settings |= {"envvar": f"OCEANMOCK_{item.name.upper()}", "show_envvar": True}
        settings |= {"is_flag": kind is bool, "multiple": get_origin(kind) is tuple}
        command = click.option(flag_of(item.name), item.name, **settings)(command)
    metavar = "[URL] | --mock [SCENARIO]..."
    return click.argument("what", nargs=-1, metavar=metavar, shell_complete=complete_scenario)(command)


def problems_of(options: ConformOptions) -> Iterator[str]:
    """Yield the problems of options that do not fit together, without secrets or URLs with a secret."""
    yield from (_mock_problems if options.mock else _passive_problems if options.passive else _url_problems)(options)
    for name in ("story_id", "from_", "submit"):
        if getattr(options, name) and not options.story:
            yield f"{flag_of(name)} needs a story: give --story."
    paths = [path.absolute() for _, path in options.report]
    again = next((path for _, path in options.report if paths.count(path.absolute()) > 1), None)
    if options.submit and not options.write:
        yield "--submit starts tasks, which needs --write."
    if options.insecure and options.ca:
        yield "--insecure and --ca exclude each other: give one of them."
    if again:
        yield f"two reports have the same path, {again}: give another path for one of them."
    if "none" in options.baseline and options.baseline[1:]:
        yield "--baseline none excludes every other --baseline."
    if options.update_baseline and not options.own_baseline:
        yield "--update-baseline needs the file to write: --baseline my.yaml."


def _mock_problems(options: ConformOptions) -> Iterator[str]:
    from oceanmock.conformance.target import without_user

    for url in options.what:
        if "://" in url:
            yield f"--mock checks oceanmock itself, not {without_user(url)}: leave out one of them."
    for name in _explicit(options, CREDENTIAL_NAMES):
        yield f"--mock uses its own credentials: leave out {flag_of(name)}."
    writing = ("write", "task", "from_", "submit", "cancel_rollback", "unknown_ids", "story", "story_id")
    for name in _explicit(options, (*writing, "passive", "insecure", "ca")):
        yield f"{flag_of(name)} is for a real server: leave it out with --mock."
    if options.update_baseline and options.api is None:
        yield "--update-baseline writes the baseline of one API: give --api."


def _passive_problems(options: ConformOptions) -> Iterator[str]:
    for name in ("what", "write", "story"):
        if getattr(options, name):
            yield f"--passive sends nothing: leave out {'the URL' if name == 'what' else flag_of(name)}."


def _url_problems(options: ConformOptions) -> Iterator[str]:
    from oceanmock.conformance.target import Untestable, normalized_url

    if not options.what:
        yield "nothing to check: give the URL of a server, or --mock for oceanmock itself."
        return
    if len(options.what) > 1:
        yield "only one URL is checked at a time. Check scenarios with --mock."
    url = options.what[0]
    if "://" not in url:
        yield f"{url!r} is not a URL (http://…). Check a scenario with --mock {url}"
    try:
        normalized_url(url)
    except Untestable as problem:
        yield str(problem)
    if options.api is None:
        yield f"give the API: {' or '.join(f'--api {name}' for name in API_CHOICES)}."
        return
    accepted = CREDENTIALS[options.api]
    for name in _explicit(options, [name for name in CREDENTIAL_NAMES if name not in accepted]):
        yield f"{flag_of(name)} is not an option of --api {options.api}."
    if "user" in accepted and options.user is None and options.access_key is None:
        yield "give --user and --password, or --access-key and --secret-key."
    if options.user is not None and options.access_key is not None:
        yield "--user and --access-key exclude each other: give one of them."
    if options.task and not options.write:
        yield "--task names a task to operate on, which needs --write."


def _explicit(options: ConformOptions, names: Iterable[str]) -> Iterator[str]:
    """Yield the options that the command line gives a value, rather than an environment variable or a file."""
    source = click.get_current_context().get_parameter_source
    for name in names:
        is_for_any_api = source(name) in (ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)
        if getattr(options, name) not in (None, False, ()) and not is_for_any_api:
            yield name


def repeat_command(options: ConformOptions) -> str:
    """Return the command that repeats a run, without its passwords."""
    words = ["oceanmock", "conform", *(["--mock"] if options.mock else ()), *options.what]
    text: dict[str, Any] = {
        "phases": ",".join,
        "story_id": "=".join,
        "require": lambda item: f"{item[0]}={item[1]}",
        "timeout": format_duration,
        "max_time": format_duration,
        "rate": "{:g}".format,
    }
    source = click.get_current_context().get_parameter_source
    for name in [item.name for item in fields(options) if item.name not in NOT_REPEATED]:
        value = getattr(options, name)
        if value is True:
            words.append(flag_of(name))
        elif name in ("seed", "task") or source(name) in (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP):
            several = value if isinstance(value, tuple) and name != "phases" else (value,)
            words += [word for item in several for word in (flag_of(name), text.get(name, str)(item))]
    return shlex.join(words)
