"""The command ``oceanmock conform``: check its options, run, print the summary, write the reports.

Options, report paths, target and baselines are checked in this order before the first request of a run. Progress goes
to stderr, the summary to stdout. Modules are imported only when needed, so that ``oceanmock --help`` stays quick.
Secrets are passed only to the credentials: no message, report or command to repeat a run contains one.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

import click

from oceanmock.cli.admin import AS_JSON
from oceanmock.cli.conform_options import (
    API_CHOICES,
    ConformOptions,
    flag_of,
    list_of,
    matching,
    problems_of,
    repeat_command,
    selected,
    with_options,
)
from oceanmock.cli.printing import print_json
from oceanmock.clock import SECOND, stopwatch
from oceanmock.conformance import INTERRUPTED, PHASES, UNTESTABLE, ApiName, Options, Result, check_extra, spec_for
from oceanmock.errors import EnvironmentProblem, InputError, OceanmockError
from oceanmock.text import did_you_mean, escape_unprintable, plural, suggest

if TYPE_CHECKING:
    from oceanmock.checks import CheckResult, Phase
    from oceanmock.conformance.reports.terminal import Display
    from oceanmock.observations import Target
    from oceanmock.scenario import BaseScenario

MAX_DIFFERENCES: Final = 20  # of one sort that are printed
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
  3    INCOMPLETE: no violations, but required responses were not observed (or --require)
  130  INTERRUPTED by Ctrl-C or SIGTERM; findings so far are printed and reported
"""


@click.command(epilog=EPILOG)
@with_options
@click.pass_context
def conform(ctx: click.Context, /, **values: Any) -> None:
    """Check that a server conforms to the contract.

    The run also checks that tasks go through valid states. URL is an OCP or obshell server; it is only read, unless
    --write is given. With --mock, oceanmock checks itself; with --passive nothing is sent.
    """
    check_extra()
    from oceanmock.conformance.reports import files, worst_last

    options = ConformOptions(**values)
    if problem := next(problems_of(options), ""):
        raise click.UsageError(problem)
    try:
        if "hypothesis" not in sys.modules:  # its example database belongs in no user's folder
            from tempfile import TemporaryDirectory

            folder = ctx.with_resource(TemporaryDirectory(prefix="oceanmock-"))
            os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", folder)
        for _, path in options.report:
            files.check_writable(path)
        if options.update_baseline and options.own_baseline:
            files.check_writable(options.own_baseline, what="baseline")
        check = _check_mock if options.mock else _check_recording if options.passive else _check_target
        results = check(options)
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
    ctx.exit(worst_last(results)[-1].exit_code)


@click.command()
@click.argument("old", type=click.Path(path_type=Path), metavar="A.json")
@click.argument("new", type=click.Path(path_type=Path), metavar="B.json")
@AS_JSON
@click.pass_context
def compare(ctx: click.Context, old: Path, new: Path, *, as_json: bool) -> None:
    """Compare two runs of conform.

    Lines with + are only in B, lines with - only in A. A and B are JSON reports (conform --report json=FILE), such as
    those of two releases of a server. Exits with 1 if B has a deviation, known or not, that A does not have.
    """
    from oceanmock.conformance.reports.files import differences, load_json

    runs = [{run["api"]: run for run in load_json(path)["runs"]} for path in (old, new)]
    both = [api for api in runs[0] if api in runs[1]]
    if not both:
        raise InputError(f"{old} and {new} have no run of the same API.")
    rows = [(api, *row) for api in both for row in differences(runs[0][api], runs[1][api])]
    if as_json:
        print_json([dict(zip(("api", "what", "-", "+"), row, strict=True)) for row in rows], indent=2)
    for _, title, gone, added in () if as_json else rows:
        for sign, texts in (("-", gone), ("+", added)):
            for text in texts[:MAX_DIFFERENCES]:
                click.echo(escape_unprintable(f"{sign} {title}: {text}"))
            if len(texts) > MAX_DIFFERENCES:
                click.echo(f"{sign} {title}: … and {len(texts) - MAX_DIFFERENCES:,} more")
    ctx.exit(any(title == "deviations" and added for _, title, _, added in rows))


def _check_recording(options: ConformOptions) -> list[Result]:
    """Return the results of checking a recording, one for each API; nothing is sent."""
    from oceanmock.conformance.run import judge_recording, version_in
    from oceanmock.conformance.target import read_recording

    assert options.passive is not None
    results = []
    for api, servers in read_recording(options.passive).items():
        if options.api in (None, api):
            run = partial(judge_recording, options.passive, api, servers)
            results.append(_run(options, run, api=api, version=version_in(api, servers)))
    if not results:
        raise InputError(f"the recording {options.passive} has no exchange of {options.api}.")
    return results


def _check_target(options: ConformOptions) -> list[Result]:
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
    stories = []
    first, ids = (options.from_ or 1) - 1, {id for id, _ in options.story_id}
    for file in options.story:
        scenario, created = load_story(
            str(file), options.api, writes=options.write, submits=options.submit, ids=ids, first=first
        )
        stories.append(scenario)
        for text in created:
            click.echo(f"The story {scenario.name} creates {escape_unprintable(text)}.", err=True)
    verify, wait = options.ca or not options.insecure, options.connect_timeout / SECOND
    with _progress() as listen:
        target = reach(options.what[0], api=options.api, auth=auth, verify=verify, wait=wait, listen=listen)
    check_tasks(target, options.task, unknown_ids=options.unknown_ids)
    if target.spared and not options.unknown_ids:
        click.echo(f"No unknown ids are sent: {target.spared}", err=True)
    target = replace(target, read_only_auth=read_only_auth)
    if options.write and not options.task and not options.submit:
        options = replace(options, task=_choose_tasks(target))
    return [_run(options, partial(run, target), api=target.api, version=target.version, stories=tuple(stories))]


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
            raise InputError(f"{name} is a scenario of {api}, not of --api {options.api}.")
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
    """Return the result of a run with baselines and patterns applied, and update the user's own baseline."""
    from oceanmock.conformance.baseline import apply_baselines, choose_baselines, reason_for, update_file
    from oceanmock.conformance.checks import all_rules
    from oceanmock.conformance.reports import observed
    from oceanmock.openapi import operations_of

    own, updates = options.own_baseline, options.update_baseline
    skips_others = options.api is None and not updates  # else only this API runs, or is meant
    baselines, notes = choose_baselines(
        options.baseline, api=api, version=version, creates=updates, skips_others=skips_others
    )
    for note in notes:
        click.echo(note, err=True)
    apis = (api,) if options.api else API_CHOICES  # an operation or rule may be one of another run
    specs = [spec_for(item, version if item == api else "") for item in apis]
    names = [item.id for spec in specs for item in operations_of(spec)]
    rules = list(all_rules(options.api or ""))
    for pattern in (*options.include, *options.exclude):
        if not matching([pattern], [*names, *rules]):
            hint = did_you_mean(pattern, rules) if "." in pattern else suggest(pattern, names)
            raise click.UsageError(f"no operation or rule matches {pattern!r}. {hint}".rstrip())
    operations, rules_selected = selected(options, names), selected(options, rules)
    phases = PHASES if options.phases is None and not stories else options.phases or ()
    run_options = _options_of(options, phases, stories=stories, excluded=matching(options.exclude, names))

    def is_reported(finding: CheckResult) -> bool:
        return finding.rule in rules_selected and finding.operation in ("", *operations)

    def reason(finding: CheckResult) -> str:
        return reason_for(finding, baselines) if is_reported(finding) else "left out"

    with _progress(reason, options.max_failures) as listen:
        result = apply_baselines(baselines, run(run_options, listen=listen))
    result.findings, result.known = ([*filter(is_reported, some)] for some in (result.findings, result.known))
    result.missing = [item for item in result.missing if item.operation in operations]
    result.stopped = result.stopped or (listen.stopped if result.interrupted else "")
    if result.stopped.startswith("--max-failures"):
        result.interrupted = False  # the findings are the verdict
    if not phases or result.stopped:  # stories alone require no responses
        result.missing = []
    counts = observed(result)
    for name, number in (*options.require, ("operations", options.min_operations)):
        if counts[name][0] < number:
            result.shortfalls.append(f"{name}: {counts[name][0]} observed, {number} required")
    result.command = repeat_command(options)
    if own and updates and (result.interrupted or result.stopped):
        click.echo(f"baseline {own}: not written, because the run was interrupted.", err=True)
    elif own and updates:
        added, removed = update_file(baselines, own, result)
        click.echo(f"baseline {own}: {plural(added, 'entry', 'entries')} added, {removed} removed.", err=True)
    return result


def _options_of(
    options: ConformOptions, phases: Sequence[Phase], *, stories: tuple[BaseScenario, ...], excluded: frozenset[str]
) -> Options:
    """Return the options of a run; one against the mock has no bounds."""
    return Options(
        write=options.write,
        tasks=options.task,
        seed=options.seed,
        rate=options.rate,
        phases=frozenset(phases),
        max_examples=options.max_examples or (10 if options.mock else 5),
        stories=stories,
        story_ids=options.story_id,
        timeout=options.timeout,
        excluded=excluded,
        first=options.from_ and options.from_ - 1,
        submit=options.submit,
        unknown_ids=options.unknown_ids,
        cancel_rollback=options.cancel_rollback,
        max_requests=0 if options.mock else options.max_requests,
        max_time=0 if options.mock else options.max_time,
    )


def _progress(reason_for: Callable[[CheckResult], str] = lambda _: "", max_failures: int | None = None) -> Display:
    from oceanmock.conformance.reports.terminal import Display, console_of

    return Display(console_of(sys.stderr), stopwatch=stopwatch, reason_for=reason_for, max_failures=max_failures)


def _read_secret(options: ConformOptions, name: str, user: str) -> str:
    """Return a secret, prompted for if missing. Raises a UsageError where there is no terminal."""
    if (value := getattr(options, name)) is not None:
        return str(value)
    what = f"{'secret' if name == 'secret_key' else 'password'} of {user}"
    if not is_interactive():
        variable = f"OCEANMOCK_{name.upper()}"
        raise click.UsageError(f"the {what} is needed: {flag_of(name)}, or {variable} in the environment.")
    return str(click.prompt(f"The {what}", hide_input=True, default="", show_default=False, err=True))


def is_interactive() -> bool:
    """Return whether a prompt can be answered."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _choose_tasks(target: Target) -> tuple[str, ...]:
    from oceanmock.apis import api_named
    from oceanmock.conformance.target import failed_tasks

    failed, noun = failed_tasks(target), api_named(target.api).root.title
    if not failed:
        raise InputError(f"--write needs a {noun} to operate on, and none is FAILED: give --task ID.")
    rows = "\n".join(f"  {id}  {name}" for id, name in failed)
    if not is_interactive():
        raise InputError(f"--write needs the {noun}s to operate on: give --task ID. FAILED are:\n{rows}")
    click.echo(f"These {noun}s are FAILED; the run may retry, roll back or pass them:\n{rows}", err=True)
    choice = list_of([id for id, _ in failed])
    return tuple(click.prompt("Ids to operate on, comma-separated", value_proc=choice, err=True))


def _output(options: ConformOptions, results: Sequence[Result]) -> None:
    """Write the reports, print the summary, then raise EnvironmentProblem if a report could not be written."""
    from oceanmock.conformance.reports.files import github_annotations, github_summary, write_report, writing
    from oceanmock.conformance.reports.terminal import console_of, print_results

    lines, problems = [], []
    for kind, path in options.report:
        try:
            write_report(kind, results, path)
            lines.append(f"{kind} report: {path}")
        except EnvironmentProblem as problem:
            problems.append(str(problem))
    is_github = options.format == "github"
    token = token_hex()  # so that no text of a server becomes a command
    if is_github:
        click.echo(f"::stop-commands::{token}")
    print_results(results, console_of(sys.stdout))
    if is_github:
        click.echo("\n".join([f"::{token}::", *github_annotations(results)]))
    if step_summary := os.environ.get("GITHUB_STEP_SUMMARY"):  # in a step of a GitHub workflow
        with writing(Path(step_summary), "summary"), open(step_summary, "a", encoding="utf-8") as file:
            file.write(github_summary(results))
    for line in lines:
        click.echo(line)
    if problems:
        raise EnvironmentProblem("\n".join(problems))
