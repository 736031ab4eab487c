"""The command ``oceanmock conform``: check its options, run, print the summary, write the reports.

Options, report paths, target and baselines are checked in this order before the first request of a
run. Progress goes to stderr, the summary to stdout. Nothing is imported before it is needed, so
that ``oceanmock --help`` stays quick. A secret goes into the credentials and nowhere else: no
message, report or command to repeat a run contains it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import click

from oceanmock.cli.conform_options import (
    API_CHOICES,
    ConformOptions,
    flag,
    list_of,
    problems_of,
    repeat_command,
    variable,
    with_options,
)
from oceanmock.conformance.model import (
    INTERRUPTED,
    PHASES,
    UNTESTABLE,
    ApiName,
    Event,
    Listener,
    Options,
    ResponseReceived,
    Result,
)
from oceanmock.errors import AuthorError, EnvironmentProblem, OceanmockError
from oceanmock.text import plural

if TYPE_CHECKING:
    from oceanmock.conformance.baseline import Baseline
    from oceanmock.conformance.target import Target
    from oceanmock.scenario.fields import BaseScenario

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


@click.command(epilog=EPILOG)
@with_options
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
    if problem := next(problems_of(options), ""):
        raise click.UsageError(problem)
    try:
        if "hypothesis" not in sys.modules:  # its example database belongs in no user's folder
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
    except (OceanmockError, click.ClickException, BrokenPipeError):
        raise
    except Exception:  # must not look like a finding, which is exit code 1
        click.echo(traceback.format_exc(), err=True)
        click.echo("This is a defect in oceanmock, not in the server.", err=True)
        ctx.exit(UNTESTABLE)
    ctx.exit(exit_code(results))


def _check_target(options: ConformOptions) -> Result:
    """Return the result of a run against a server."""
    from oceanmock.conformance.run import conform as run  # schemathesis is slow
    from oceanmock.conformance.target import check_tasks, reach

    assert options.api is not None
    auth, read_only_auth = _credentials(options), None
    if options.read_only_user is not None:
        from oceanmock.credentials import Basic  # cryptography

        secret = _read_secret(options, "read_only_password", options.read_only_user)
        read_only_auth = Basic(options.read_only_user, secret)
    stories = tuple(_story(options, str(file)) for file in options.story)
    with _progress(None) as listen:
        target = reach(
            options.what[0],
            api=options.api,
            auth=auth,
            verify=options.ca or not options.insecure,
            wait=options.connect_timeout / 1e9,
            listen=listen,
        )
    check_tasks(target, options.task)
    target = replace(target, read_only_auth=read_only_auth)
    baselines = _baselines(options, target.api, target.version)
    tasks = options.task or (_choose_tasks(target) if options.write else ())
    options = replace(options, task=tasks)
    return _run(options, baselines, partial(run, target), stories=stories)


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
        baselines = _baselines(options, api, api_named(api).version)
        results.append(_run(options, baselines, partial(conform_mock, api, names)))
        if results[-1].interrupted:
            break
    return results


def _story(options: ConformOptions, reference: str) -> BaseScenario:
    """Return the scenario of a story to replay. Raises AuthorError."""
    from oceanmock.apis import api_named
    from oceanmock.library import load_scenario
    from oceanmock.scenario.story import CallAction

    scenario = load_scenario(reference)
    if scenario.api != options.api:
        raise AuthorError(f"{reference} is a story of {scenario.api}, not of {options.api}.")
    steps = api_named(scenario.api).module("scenario_checks").FORMAT.steps_of(scenario)
    if not steps:
        raise AuthorError(f"{reference} has no `story`.")
    if not options.write and any(isinstance(step, CallAction) for step in steps):
        raise AuthorError(f"the story of {reference} changes the target: it needs --write.")
    return scenario


def _run(
    options: ConformOptions,
    baselines: Sequence[Baseline],
    run: Callable[..., Result],
    *,
    stories: tuple[BaseScenario, ...] = (),
) -> Result:
    """Return the result of a run, and update the user's own baseline."""
    from oceanmock.conformance.baseline import joined

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
    result.command = repeat_command(options)
    if options.update_baseline:
        _update_baseline(options, result, baselines)
    return result


@contextmanager
def _progress(baseline: Baseline | None) -> Iterator[Listener]:
    """Show a run's progress on stderr, and end it at the first response after Ctrl-C.

    The KeyboardInterrupt alone may get lost: schemathesis catches what its threads raise.
    """
    from rich.console import Console  # slow to import

    from oceanmock.clock import stopwatch
    from oceanmock.conformance.reports import show_progress

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
        secret = _read_secret(options, "secret_key", options.access_key)
        return AccessKey(options.access_key, secret)
    if options.user is not None:
        return Basic(options.user, _read_secret(options, "password", options.user))
    password = options.password
    if password is None and options.agent_password is None:
        password = _read_secret(options, "password", "root@sys")
    return Sealed(password or "", options.agent_password)


def _read_secret(options: ConformOptions, name: str, user: str) -> str:
    """Return a secret, prompted for if missing. Raises a UsageError where there is no terminal."""
    value = getattr(options, name)
    if value is not None:
        return str(value)
    what = f"the {'secret' if name == 'secret_key' else 'password'} of {user}"
    if not is_interactive():
        raise click.UsageError(f"{what} is needed: {flag(name)}, or {variable(name)} in the environment.")
    text = what[0].upper() + what[1:]
    return str(click.prompt(text, hide_input=True, default="", show_default=False, err=True))


def is_interactive() -> bool:
    """Return whether a prompt can be answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


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
    click.echo(f"These {noun}s are FAILED; the run may retry, roll back or pass them:", err=True)
    click.echo(rows, err=True)
    choice = list_of([id for id, _ in failed])
    ids: tuple[str, ...] = click.prompt("Ids to operate on, comma-separated", value_proc=choice, err=True)
    return ids


# --- baselines and output -------------------------------------------------------------------------


def _baselines(options: ConformOptions, api: ApiName, version: str) -> list[Baseline]:
    """Return the baselines to apply, and print what is unusual about them."""
    from oceanmock.conformance.baseline import choose_baselines

    baselines, notes = choose_baselines(
        options.baseline, api=api, version=version, creates=options.update_baseline, skips_others=options.mock
    )
    for note in notes:
        click.echo(note, err=True)
    return baselines


def _update_baseline(options: ConformOptions, result: Result, baselines: Sequence[Baseline]) -> None:
    """Write the user's last baseline with the new findings, and apply it to the result."""
    from oceanmock.conformance.baseline import apply_baseline, joined, save_baseline, update

    path = options.own_baseline
    assert path is not None
    if result.interrupted:
        click.echo(f"baseline {path}: not written, because the run was interrupted.", err=True)
        return
    previous = next(item for item in baselines if item.name == path.as_posix())
    updated, added, removed = update(previous, result)
    save_baseline(updated, path)
    apply_baseline(joined([updated if item is previous else item for item in baselines]), result)
    entries = plural(added, "entry", "entries")
    click.echo(f"baseline {path}: {entries} added, {removed} removed.", err=True)


def _output(options: ConformOptions, results: Sequence[Result]) -> None:
    """Write the reports, then print the summary. Raises EnvironmentProblem at the very end.

    A report that cannot be written must lose neither the summary nor the other reports.
    """
    from rich.console import Console  # slow to import

    from oceanmock.conformance.reports import print_results
    from oceanmock.conformance.reports.files import write_report

    lines, problems = [], []
    for kind, path in options.reports:
        try:
            write_report(kind, results, path)
            lines.append(f"{kind} report: {path}")
        except EnvironmentProblem as problem:
            problems.append(str(problem))
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=LOG_WIDTH)
    print_results(results, console)
    for line in lines:
        click.echo(line)
    if problems:
        raise EnvironmentProblem("\n".join(problems))
