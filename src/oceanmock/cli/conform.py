"""The command ``oceanmock conform``: check its options, run, print the summary, write the reports.

Options, report paths, target and baselines are checked in this order before the first request of a
run. Progress goes to stderr, the summary to stdout. Nothing is imported before it is needed, so
that ``oceanmock --help`` stays quick. A secret goes into the credentials and nowhere else: no
message, report or command to repeat a run contains it.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import click

from oceanmock.cli.conform_options import (
    API_CHOICES,
    REPORT_KINDS,
    SECRETS,
    CommaList,
    ConformOptions,
    check_options,
    is_file_name,
    repeat_arguments,
    with_options,
)
from oceanmock.conformance.model import (
    INTERRUPTED,
    UNTESTABLE,
    Api,
    Event,
    Listener,
    Options,
    ResponseReceived,
    Result,
)
from oceanmock.errors import EnvironmentProblem, OceanmockError
from oceanmock.text import did_you_mean, plural

if TYPE_CHECKING:
    from oceanmock.conformance.baseline import Baseline
    from oceanmock.conformance.target import Target

__all__ = ["REPORT_KINDS", "SECRETS", "conform"]

LOG_WIDTH: Final = 120
"""The width of a summary that does not go to a terminal."""
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


class NotReady(OceanmockError):
    """A run cannot begin, although the options are right: something it needs is missing."""


@click.command(epilog=EPILOG)
@with_options
@click.pass_context
def conform(ctx: click.Context, /, **values: Any) -> None:
    """Check that a server conforms to the contract, and that its tasks go through valid states.

    URL is an OCP or obshell server; it is only read, unless --write is given. With --mock,
    oceanmock checks itself.
    """
    options = ConformOptions(**{item.name: values[item.name] for item in fields(ConformOptions)})
    check_options(options)
    try:
        _prepare(ctx, options)
        results = _check_mock(options) if options.mock else [_check_target(options)]
        _output(options, results)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted before the run had any results.", err=True)
        ctx.exit(INTERRUPTED)
    except (OceanmockError, click.ClickException, BrokenPipeError):
        raise
    except Exception:  # must not look like a finding, which is exit code 1
        click.echo(traceback.format_exc(), err=True)
        click.echo("This is a defect in oceanmock, not in the server.", err=True)
        ctx.exit(UNTESTABLE)
    from oceanmock.conformance.reports import texts

    ctx.exit(texts.exit_code(results))


def _prepare(ctx: click.Context, options: ConformOptions) -> None:
    """Check that the extra is installed and files can be written. Raises EnvironmentProblem."""
    from oceanmock.conformance.extra import check_extra
    from oceanmock.conformance.reports.files import check_writable

    check_extra()
    if "hypothesis" not in sys.modules:  # its example database belongs in no user's folder
        folder = ctx.with_resource(TemporaryDirectory(prefix="oceanmock-"))
        os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", folder)
    for _, path in options.reports:
        check_writable(path)
    if options.update_baseline:
        check_writable(options.baseline_files[-1], what="baseline")


# --- runs -----------------------------------------------------------------------------------------


def _check_target(options: ConformOptions) -> Result:
    """Return the result of a run against a server."""
    from oceanmock.conformance.run import conform as run  # schemathesis is slow
    from oceanmock.conformance.target import check_tasks, reach

    assert options.api is not None
    auth, read_only_auth = _credentials(options), _read_only_credentials(options)
    stories = _stories(options)
    with _progress(None) as listen:
        target = reach(
            options.what[0],
            api=options.api,
            auth=auth,
            verify=options.verify,
            wait=options.connect_timeout / 1e9,
            listen=listen,
        )
    check_tasks(target, options.task)
    target = replace(target, read_only_auth=read_only_auth)
    baseline, baselines = _baselines(options, target.api, target.version)
    tasks = options.task or (_choose_tasks(target) if options.write else ())
    run_options = _run_options(options, tasks=tasks, stories=stories)
    with _progress(baseline) as listen:
        result = run(target, run_options, listen=listen, baseline=baseline)
    if not run_options.phases:  # stories alone require no responses
        result.missing = []
    result.command = _repeat_command(replace(options, task=tasks))
    _update_baseline(options, result, baselines)
    return result


def _check_mock(options: ConformOptions) -> list[Result]:
    """Return the results of checking oceanmock itself, one for each selected API."""
    from oceanmock.apis import api_named
    from oceanmock.conformance.mock import conform_mock  # schemathesis is slow

    results = []
    for api, names in _scenarios(options).items():
        baseline, baselines = _baselines(options, api, api_named(api).version)
        run_options = _run_options(options, tasks=(), stories=())
        with _progress(baseline) as listen:
            result = conform_mock(api, names, run_options, listen=listen, baseline=baseline)
        result.command = _repeat_command(options)
        _update_baseline(options, result, baselines)
        results.append(result)
        if result.interrupted:
            break
    return results


def _scenarios(options: ConformOptions) -> dict[Api, list[str]]:
    """Return the selected APIs, each with its named scenarios; no name selects the library."""
    from oceanmock.library import load_scenario

    selected = (options.api,) if options.api else API_CHOICES
    if not options.what:
        return {api: [] for api in selected}
    grouped: dict[Api, list[str]] = {}
    for name in dict.fromkeys(options.what):
        api = load_scenario(name).api
        if api not in selected:
            raise NotReady(f"{name} is a scenario of {api}, not of --api {options.api}.")
        grouped.setdefault(api, []).append(name)
    return grouped


def _run_options(
    options: ConformOptions, *, tasks: tuple[str, ...], stories: tuple[Mapping[str, Any], ...]
) -> Options:
    phases: dict[str, Any] = {}
    if options.phases or stories:
        phases["phases"] = frozenset(options.phases or ())
    return Options(
        write=options.write,
        tasks=tasks,
        seed=options.seed,
        rate=options.rate,
        max_examples=options.max_examples or (10 if options.mock else 20),
        stories=stories,
        story_ids=options.story_id,
        timeout=options.timeout,
        **phases,
    )


def _stories(options: ConformOptions) -> tuple[Mapping[str, Any], ...]:
    """Return the stories to replay, as their files state them. Raises AuthorError."""
    from oceanmock.library import find_scenario, load_scenario
    from oceanmock.scenario.document import Document

    stories = []
    for file in options.story:
        scenario = load_scenario(str(file))
        path = find_scenario(str(file))
        if scenario.api != options.api:
            raise NotReady(f"{file} is a story of {scenario.api}, not of {options.api}.")
        data = Document(path.read_text(encoding="utf-8"), str(path)).data
        if not data.get("story"):
            raise NotReady(f"{file} has no `story`.")
        if not options.write and any("call" in step for step in data["story"]):
            raise NotReady(f"the story of {file} changes the target: it needs --write.")
        stories.append({"name": scenario.name, **data})
    return tuple(stories)


@contextmanager
def _progress(baseline: Baseline | None) -> Iterator[Listener]:
    """Show a run's progress on stderr, and end it at the first response after Ctrl-C.

    The KeyboardInterrupt alone may get lost: schemathesis catches what its threads raise.
    """
    from rich.console import Console  # slow to import

    from oceanmock.clock import stopwatch
    from oceanmock.conformance.reports.terminal import show_progress

    stopped = threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        raise KeyboardInterrupt

    reason_for = baseline.reason_for if baseline else lambda _: ""
    display = show_progress(Console(stderr=True), stopwatch=stopwatch, reason_for=reason_for)
    previous = signal.signal(signal.SIGINT, stop)
    try:
        with display as show:

            def listen(event: Event) -> None:
                show(event)
                if stopped.is_set() and isinstance(event, ResponseReceived):
                    raise KeyboardInterrupt

            yield listen
    finally:
        signal.signal(signal.SIGINT, previous)


# --- credentials and tasks ------------------------------------------------------------------------


def _credentials(options: ConformOptions) -> Any:
    """Return the run's credentials; a missing secret is prompted for."""
    from oceanmock.credentials import AccessKey, Basic, Sealed  # cryptography

    if options.access_key is not None:
        return AccessKey(options.access_key, _secret(options, "secret_key", options.access_key))
    if options.user is not None:
        return Basic(options.user, _secret(options, "password", options.user))
    password = options.password
    if password is None and options.agent_password is None:
        password = _secret(options, "password", "root@sys")
    return Sealed(password or "", options.agent_password, verify=options.verify)


def _read_only_credentials(options: ConformOptions) -> Any:
    """Return the credentials of the user who may only read, or None."""
    from oceanmock.credentials import Basic  # cryptography

    user = options.read_only_user
    return None if user is None else Basic(user, _secret(options, "read_only_password", user))


def _secret(options: ConformOptions, name: str, user: str) -> str:
    """Return a secret, prompted for if missing. Raises a UsageError where nobody can answer."""
    value = getattr(options, name)
    if value is not None:
        return str(value)
    what = f"the {'secret' if name == 'secret_key' else 'password'} of {user}"
    if not is_interactive():
        flag, variable = f"--{name.replace('_', '-')}", f"OCEANMOCK_{name.upper()}"
        raise click.UsageError(f"{what} is needed: {flag}, or {variable} in the environment.")
    text = what[0].upper() + what[1:]
    return str(click.prompt(text, hide_input=True, default="", show_default=False, err=True))


def is_interactive() -> bool:
    """Return whether a prompt can be answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _choose_tasks(target: Target) -> tuple[str, ...]:
    """Return the ids of FAILED tasks that the user selects at the terminal."""
    from oceanmock.conformance.target import failed_tasks, task_noun

    failed, noun = failed_tasks(target), task_noun(target.api)
    if not failed:
        raise NotReady(f"--write needs a {noun} to operate on, and none is FAILED: give --task ID.")
    listed = "\n".join(f"  {id}  {name}" for id, name in failed)
    if not is_interactive():
        raise NotReady(
            f"--write needs the {noun}s to operate on: give --task ID. FAILED are:\n{listed}"
        )
    click.echo(f"These {noun}s are FAILED; the run may retry, roll back or pass them:", err=True)
    click.echo(listed, err=True)
    choice = CommaList([id for id, _ in failed])
    return tuple(click.prompt("Ids to operate on, comma-separated", type=choice, err=True))


# --- baselines ------------------------------------------------------------------------------------


def _baselines(
    options: ConformOptions, api: Api, version: str
) -> tuple[Baseline | None, list[Baseline]]:
    """Return the accepted deviations, as one baseline and as the list of its parts."""
    from oceanmock.conformance.baseline import Baseline, joined, load_baseline, shipped_for

    if not options.baseline:
        shipped = shipped_for(api, version)
        if shipped is None:
            _print_nearest_baseline(api, version)
        return shipped, [shipped] if shipped else []
    baselines = []
    for reference in options.baseline:
        if reference == "none":
            continue
        if options.update_baseline and not Path(reference).exists() and is_file_name(reference):
            release = (version.partition("-")[0],) if version else ()
            baselines.append(Baseline(Path(reference).as_posix(), api, release))
            continue
        loaded = load_baseline(reference)
        if loaded.api != api and not options.mock:
            raise NotReady(f"the baseline {reference} is for {loaded.api}, not for {api}.")
        if loaded.api == api:
            baselines.append(loaded)
            for note in _baseline_notes(loaded, version):
                click.echo(f"baseline {reference}: {note}", err=True)
    return joined(baselines), baselines


def _print_nearest_baseline(api: Api, version: str) -> None:
    """Name a baseline of another version, where this version has none."""
    from oceanmock.conformance.baseline import load_baseline, shipped_names

    others = [name for name in shipped_names() if load_baseline(name).api == api]
    if others:
        click.echo(
            f"there is no baseline for {api} {version or 'of unknown version'}; most deviations "
            f"of another version probably apply: --baseline {others[-1]}.",
            err=True,
        )


def _baseline_notes(baseline: Baseline, version: str) -> Iterator[str]:
    """Yield what is unusual about a baseline, though not an error."""
    from oceanmock.conformance.rules import all_rules  # schemathesis is slow

    if not baseline.fits(version):
        target = f"is {version}" if version else "does not give its version"
        yield f"for {', '.join(baseline.versions)}; the target {target}."
    rules = list(all_rules())
    for rule in sorted(baseline.rules - set(rules)):
        yield f"there is no rule {rule!r}. {did_you_mean(rule, rules)}".rstrip()


def _update_baseline(
    options: ConformOptions, result: Result, baselines: Sequence[Baseline]
) -> None:
    """Write the user's last baseline with the new findings, and apply it to the result."""
    from oceanmock.conformance.baseline import apply_baseline, joined, save_baseline, update

    if not options.update_baseline:
        return
    path = options.baseline_files[-1]
    if result.interrupted:
        click.echo(f"baseline {path}: not written, because the run was interrupted.", err=True)
        return
    previous = next(item for item in baselines if item.name == path.as_posix())
    updated, added, removed = update(previous, result)
    save_baseline(updated, path)
    apply_baseline(joined([updated if item is previous else item for item in baselines]), result)
    entries = plural(added, "entry", "entries")
    click.echo(f"baseline {path}: {entries} added, {removed} removed.", err=True)


# --- output ---------------------------------------------------------------------------------------


def _output(options: ConformOptions, results: Sequence[Result]) -> None:
    """Write the reports, then print the summary. Raises EnvironmentProblem at the very end.

    A report that cannot be written must lose neither the summary nor the other reports.
    """
    from rich.console import Console  # slow to import

    from oceanmock.conformance.reports.files import write_report
    from oceanmock.conformance.reports.terminal import print_results

    source, problems = [], []
    for kind, path in options.reports:
        try:
            write_report(kind, results, path)
            source.append(f"{kind} report: {path}")
        except EnvironmentProblem as problem:
            problems.append(str(problem))
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=LOG_WIDTH)
    print_results(results, console)
    for line in source:
        click.echo(line)
    if problems:
        raise EnvironmentProblem("\n".join(problems))


def _repeat_command(options: ConformOptions) -> str:
    return shlex.join(["oceanmock", "conform", *repeat_arguments(options)])
