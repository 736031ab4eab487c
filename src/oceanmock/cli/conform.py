"""The command ``oceanmock conform``: check its options, run, print the summary, write the reports.

Each option stands once, as a field of ``ConformOptions``, in the order of ``--help``. Options, report paths, target and
baselines are checked in this order before the first request of a run. Progress goes to stderr, the summary to stdout.
Nothing is imported before it is needed, so that ``oceanmock --help`` stays quick. A secret goes into the credentials
and nowhere else: no message, report or command to repeat a run contains it.
"""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource

from oceanmock.checks import Phase
from oceanmock.clock import SECOND, stopwatch
from oceanmock.conformance.model import INTERRUPTED, PHASES, UNTESTABLE, ApiName, Listener, Options, Result
from oceanmock.errors import AuthorError, EnvironmentProblem, OceanmockError
from oceanmock.text import format_duration, parse_duration, plural, suggest

if TYPE_CHECKING:
    from oceanmock.conformance.baseline import Baseline
    from oceanmock.conformance.target import Target
    from oceanmock.scenario.fields import BaseScenario

API_CHOICES: Final[tuple[ApiName, ...]] = get_args(ApiName)
REPORT_KINDS: Final = ("html", "json", "junit")
SECRETS: Final = ("password", "secret_key", "agent_password", "read_only_password")
"""Options that are also read from the environment, and prompted for if missing."""
CREDENTIALS: Final[Mapping[ApiName, tuple[str, ...]]] = {
    "ocp": ("user", "password", "access_key", "secret_key", "read_only_user", "read_only_password"),
    "obshell": ("password", "agent_password"),
}
"""The credential options that each API accepts."""
NOT_REPEATED: Final = frozenset({"what", "mock", "connect_timeout", "report", "update_baseline", *SECRETS})
"""Options that the command to repeat a run leaves out, or states elsewhere."""
EPILOG: Final = """\
\b
Examples:
  oceanmock conform --mock
  oceanmock conform --mock retry-failed-subtask
  oceanmock conform https://ocp:8080 --api ocp --user monitor --report html=ocp.html
  oceanmock conform http://10.0.0.7:2886 --api obshell --write --task 1000007

\b
Exit codes:
  0    PASSED: no violations, all required responses observed
  1    FAILED: violations that no baseline accepts
  2    not run: the command is wrong, or the target is down, is not that API, or refuses
       the credentials
  3    INCOMPLETE: no violations, but required responses were not observed
  130  INTERRUPTED by Ctrl-C; findings so far are printed and reported
"""


def _duration(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as problem:
        raise click.BadParameter(f"{text!r} {problem}") from None


DURATION: Final[Mapping[str, Any]] = {"type": _duration, "metavar": "DURATION"}


def _list_of(choices: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
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
        "Also retry, roll back, skip, cancel and pass the tasks given by --task. Without it the run sends reads only."
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
    phases: tuple[Phase, ...] | None = _option(
        f"The phases to run, comma-separated: {', '.join(PHASES)}. Default: all.", metavar="LIST", type=_list_of(PHASES)
    )
    seed: int = _option("The same seed makes the same requests.", default=0, show_default=True)
    max_examples: int | None = _option(
        "Generated examples per operation. Default: 20, or 10 with --mock.", type=click.IntRange(1)
    )
    rate: float = _option(
        "Maximum requests per second; 0 for no limit.", default=0.0, show_default=True, type=click.FloatRange(0)
    )
    timeout: int = _option(
        "How long a story or a walk waits for an expected state. Default: 60s.", default="60s", **DURATION
    )
    baseline: tuple[str, ...] = _option(
        "Known deviations to accept: a file, the name of one that comes with oceanmock, or none. Repeatable. Default: "
        "the one for the target's version.",
        metavar="FILE",
    )
    update_baseline: bool = _option(
        "Add new findings to the last FILE of --baseline, and remove entries that no longer occur."
    )
    report: tuple[list[tuple[str, Path]], ...] = _option(
        "Write a report: html, json or junit. Repeatable, or comma-separated.", metavar="KIND=PATH", type=_reports
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
    def reports(self) -> list[tuple[str, Path]]:
        """Return the kind and path of every report to write."""
        return [report for group in self.report for report in group]

    @property
    def own_baseline(self) -> Path | None:
        """Return the last baseline that is a file of the user's own."""
        from oceanmock.conformance.baseline import is_path

        return next((Path(item) for item in reversed(self.baseline) if is_path(item)), None)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a click command function with every option as a keyword argument.

    An option whose type is bool is a flag, and one whose type is a tuple may be repeated.
    """
    types = get_type_hints(ConformOptions)
    for item in reversed(fields(ConformOptions)[1:]):
        settings: dict[str, Any] = {**item.metadata, "is_flag": types[item.name] is bool}
        settings["multiple"] = get_origin(types[item.name]) is tuple
        if item.name in SECRETS:
            settings |= {"envvar": f"OCEANMOCK_{item.name.upper()}", "show_envvar": True}
        command = click.option(_flag(item.name), **settings)(command)
    return click.argument("what", nargs=-1, metavar="[URL] | --mock [SCENARIO]...")(command)


def _problems_of(options: ConformOptions) -> Iterator[str]:
    """Yield why options do not fit together; no message contains a secret or a URL that contains one."""
    yield from (_mock_problems if options.mock else _url_problems)(options)
    if options.insecure and options.ca:
        yield "--insecure and --ca exclude each other: give one of them."
    paths = [path.absolute() for _, path in options.reports]
    for _, path in options.reports:
        if paths.count(path.absolute()) > 1:
            yield f"two reports have the same path, {path}: give another path for one of them."
    if "none" in options.baseline and len(options.baseline) > 1:
        yield "--baseline none excludes every other --baseline."
    if options.update_baseline and not options.own_baseline:
        yield "--update-baseline needs the file to write: --baseline my.yaml."


def _mock_problems(options: ConformOptions) -> Iterator[str]:
    from oceanmock.conformance.target import without_user

    for url in options.what:
        if "://" in url:
            yield f"--mock checks oceanmock itself, not {without_user(url)}: leave out one of them."
    for name in _credentials_given(options):
        yield f"--mock uses its own credentials: leave out {_flag(name)}."
    for name in ("write", "task", "insecure", "ca", "story", "story_id"):
        if getattr(options, name):
            yield f"{_flag(name)} is for a real server: leave it out with --mock."
    if options.update_baseline and options.api is None:
        yield "--update-baseline writes the baseline of one API: give --api."


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
    for name in _credentials_given(options):
        if name not in accepted:
            yield f"{_flag(name)} is not an option of --api {options.api}."
    if "user" in accepted and options.user is None and options.access_key is None:
        yield "give --user and --password, or --access-key and --secret-key."
    if options.user is not None and options.access_key is not None:
        yield "--user and --access-key exclude each other: give one of them."
    if options.story_id and not options.story:
        yield "--story-id needs a story: give --story."
    if options.task and not options.write:
        yield "--task names a task to operate on, which needs --write."


def _credentials_given(options: ConformOptions) -> Iterator[str]:
    """Yield the credential options of any API, without those from environment variables."""
    source = click.get_current_context().get_parameter_source
    for name in dict.fromkeys(name for names in CREDENTIALS.values() for name in names):
        if getattr(options, name) is not None and source(name) is not ParameterSource.ENVIRONMENT:
            yield name


def _repeat_command(options: ConformOptions) -> str:
    """Return the command that repeats a run, without passwords: those are read or prompted for."""
    words = ["oceanmock", "conform", *(["--mock"] if options.mock else ()), *options.what]
    text: dict[str, Any] = {"phases": ",".join, "story_id": "=".join, "timeout": format_duration, "rate": "{:g}".format}
    source = click.get_current_context().get_parameter_source
    for item in fields(options):
        name, value = item.name, getattr(options, item.name)
        if name in NOT_REPEATED:
            continue
        if value is True:
            words.append(_flag(name))
        elif name in ("seed", "task") or source(name) is ParameterSource.COMMANDLINE:
            several = value if isinstance(value, tuple) and name != "phases" else (value,)
            words += [word for item in several for word in (_flag(name), text.get(name, str)(item))]
    return shlex.join(words)


@click.command(epilog=EPILOG)
@_with_options
@click.pass_context
def conform(ctx: click.Context, /, **values: Any) -> None:
    """Check that a server conforms to the contract, and that its tasks go through valid states.

    URL is an OCP or obshell server; it is only read, unless --write is given. With --mock,
    oceanmock checks itself.
    """
    from oceanmock.conformance import check_extra

    check_extra()
    from oceanmock.conformance.reports import exit_code, files

    options = ConformOptions(**values)
    if problem := next(_problems_of(options), ""):
        raise click.UsageError(problem)
    try:
        if "hypothesis" not in sys.modules:  # its example database belongs in no user's folder
            from tempfile import TemporaryDirectory

            folder = ctx.with_resource(TemporaryDirectory(prefix="oceanmock-"))
            os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", folder)
        for _, path in options.reports:
            files.check_writable(path)
        if options.update_baseline and options.own_baseline:
            files.check_writable(options.own_baseline, what="baseline")
        results = _check_mock(options) if options.mock else [_check_target(options)]
        _output(options, results)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted before the run had any results.", err=True)
        ctx.exit(INTERRUPTED)
    except (OceanmockError, click.ClickException):
        raise
    except Exception:  # must not look like a finding, which is exit code 1
        click.echo(traceback.format_exc(), err=True)
        click.echo("This is a defect in oceanmock, not in the server.", err=True)
        ctx.exit(UNTESTABLE)
    ctx.exit(exit_code(results))


def _check_target(options: ConformOptions) -> Result:
    """Return the result of a run against a server."""
    from oceanmock.conformance.run import conform as run  # schemathesis is slow
    from oceanmock.conformance.stories import load_story
    from oceanmock.conformance.target import check_tasks, reach
    from oceanmock.credentials import AccessKey, Basic, Sealed  # cryptography

    assert options.api is not None
    auth: AccessKey | Basic | Sealed
    if options.access_key is not None:
        auth = AccessKey(options.access_key, _read_secret(options, "secret_key", options.access_key))
    elif options.user is not None:
        auth = Basic(options.user, _read_secret(options, "password", options.user))
    else:
        is_needed = options.password is not None or options.agent_password is None
        auth = Sealed(_read_secret(options, "password", "root@sys") if is_needed else "", options.agent_password)
    reader = options.read_only_user
    read_only_auth = None if reader is None else Basic(reader, _read_secret(options, "read_only_password", reader))
    stories = tuple(load_story(str(file), options.api, writes=options.write) for file in options.story)
    verify, wait = options.ca or not options.insecure, options.connect_timeout / SECOND
    with _progress() as listen:
        target = reach(options.what[0], api=options.api, auth=auth, verify=verify, wait=wait, listen=listen)
    check_tasks(target, options.task)
    target = replace(target, read_only_auth=read_only_auth)
    if options.write and not options.task:
        options = replace(options, task=_choose_tasks(target))
    return _run(options, partial(run, target), api=target.api, version=target.version, stories=stories)


def _check_mock(options: ConformOptions) -> list[Result]:
    """Return the results of checking oceanmock itself, one for each selected API."""
    from oceanmock.apis import api_named
    from oceanmock.conformance.mock import conform_mock  # schemathesis is slow
    from oceanmock.library import load_scenario

    selected = (options.api,) if options.api else API_CHOICES
    grouped: dict[Any, list[str]] = {} if options.what else {api: [] for api in selected}
    for name in dict.fromkeys(options.what):
        api = load_scenario(name).api
        if api not in selected:
            raise AuthorError(f"{name} is a scenario of {api}, not of --api {options.api}.")
        grouped.setdefault(api, []).append(name)
    results = list[Result]()
    for api, names in grouped.items():
        results.append(_run(options, partial(conform_mock, api, names), api=api, version=api_named(api).version))
        if results[-1].interrupted:
            break
    return results


def _run(
    options: ConformOptions,
    run: Callable[..., Result],
    *,
    api: ApiName,
    version: str,
    stories: tuple[BaseScenario, ...] = (),
) -> Result:
    """Return the result of a run, and update the user's own baseline."""
    from oceanmock.conformance.baseline import choose_baselines, joined, update_file

    own, updates = options.own_baseline, options.update_baseline
    baselines, notes = choose_baselines(
        options.baseline, api=api, version=version, creates=updates, skips_others=options.mock
    )
    for note in notes:
        click.echo(note, err=True)
    phases = PHASES if options.phases is None and not stories else options.phases or ()
    run_options = Options(
        write=options.write,
        tasks=options.task,
        seed=options.seed,
        rate=options.rate,
        phases=frozenset(phases),
        max_examples=options.max_examples or (10 if options.mock else 20),
        stories=stories,
        story_ids=options.story_id,
        timeout=options.timeout,
    )
    baseline = joined(baselines)
    with _progress(baseline) as listen:
        result = run(run_options, listen=listen, baseline=baseline)
    if not phases:  # stories alone require no responses
        result.missing = []
    result.command = _repeat_command(options)
    if own and updates and result.interrupted:
        click.echo(f"baseline {own}: not written, because the run was interrupted.", err=True)
    elif own and updates:
        added, removed = update_file(baselines, own, result)
        click.echo(f"baseline {own}: {plural(added, 'entry', 'entries')} added, {removed} removed.", err=True)
    return result


def _progress(baseline: Baseline | None = None) -> AbstractContextManager[Listener]:
    from oceanmock.conformance.reports import console_of, show_progress

    reason_for = baseline.reason_for if baseline else lambda _: ""
    return show_progress(console_of(sys.stderr), stopwatch=stopwatch, reason_for=reason_for)


def _read_secret(options: ConformOptions, name: str, user: str) -> str:
    """Return a secret, prompted for if missing. Raises a UsageError where there is no terminal."""
    value = getattr(options, name)
    if value is not None:
        return str(value)
    what = f"{'secret' if name == 'secret_key' else 'password'} of {user}"
    if not is_interactive():
        variable = f"OCEANMOCK_{name.upper()}"
        raise click.UsageError(f"the {what} is needed: {_flag(name)}, or {variable} in the environment.")
    return str(click.prompt(f"The {what}", hide_input=True, default="", show_default=False, err=True))


def is_interactive() -> bool:
    """Return whether a prompt can be answered."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _choose_tasks(target: Target) -> tuple[str, ...]:
    """Return the ids of FAILED tasks that the user selects at the terminal."""
    from oceanmock.apis import api_named
    from oceanmock.conformance.target import failed_tasks

    failed, noun = failed_tasks(target), api_named(target.api).root.title
    if not failed:
        raise AuthorError(f"--write needs a {noun} to operate on, and none is FAILED: give --task ID.")
    rows = "\n".join(f"  {id}  {name}" for id, name in failed)
    if not is_interactive():
        raise AuthorError(f"--write needs the {noun}s to operate on: give --task ID. FAILED are:\n{rows}")
    click.echo(f"These {noun}s are FAILED; the run may retry, roll back or pass them:\n{rows}", err=True)
    choice = _list_of([id for id, _ in failed])
    return tuple(click.prompt("Ids to operate on, comma-separated", value_proc=choice, err=True))


def _output(options: ConformOptions, results: Sequence[Result]) -> None:
    """Write the reports, print the summary, then raise EnvironmentProblem if a report could not be written."""
    from oceanmock.conformance.reports import console_of, print_results
    from oceanmock.conformance.reports.files import write_report

    lines, problems = [], []
    for kind, path in options.reports:
        try:
            write_report(kind, results, path)
            lines.append(f"{kind} report: {path}")
        except EnvironmentProblem as problem:
            problems.append(str(problem))
    print_results(results, console_of(sys.stdout))
    for line in lines:
        click.echo(line)
    if problems:
        raise EnvironmentProblem("\n".join(problems))
