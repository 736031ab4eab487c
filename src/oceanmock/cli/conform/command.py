"""The command itself: what is made sure of, in which order, and the runs that it means.

Words, reports, target and baselines are looked at before the first request of a run, and in this
order, so that what is wrong is said while nothing has happened yet. Progress goes to stderr.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import click

from oceanmock.cli.conform import credentials
from oceanmock.cli.conform.baselines import baselines_of, update_baseline
from oceanmock.cli.conform.order import Order, Unready, check_words
from oceanmock.cli.conform.tasks import asked_tasks
from oceanmock.cli.conform.telling import command_of, exit_code, tell
from oceanmock.cli.conform.words import APIS, takes_words
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
from oceanmock.errors import OceanmockError

if TYPE_CHECKING:
    from oceanmock.conformance.baseline import Baseline

EPILOG: Final = """\
\b
Examples:
  oceanmock conform --mock
  oceanmock conform --mock retry-failed-subtask
  oceanmock conform https://ocp:8080 --api ocp --user monitor --report html=ocp.html
  oceanmock conform http://10.0.0.7:2886 --api obshell --write --task 1000007

\b
Exit codes:
  0    KEPT: nothing was found, and all that has to be seen was seen
  1    BROKEN: something was found that no baseline knows
  2    it could not be carried out: the command is wrong, or the target is down, is not
       that API, or refuses the credentials
  3    INADEQUATE: nothing was found, but what has to be seen was not
  130  INTERRUPTED by Ctrl-C; what was found until then is told and reported
"""


@click.command(epilog=EPILOG)
@takes_words
@click.pass_context
def conform(ctx: click.Context, /, **said: Any) -> None:
    """Check that a server keeps the contract, and that its tasks live the life they should.

    URL is a server of OCP or obshell; it is only read, unless --write says so. With --mock it is
    oceanmock itself that is checked.
    """
    order = Order(**{each.name: said[each.name] for each in fields(Order)})
    check_words(order)
    try:
        _make_ready(ctx, order)
        results = _on_mock(order) if order.mock else [_on_target(order)]
        tell(order, results)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted before there was anything to tell.", err=True)
        ctx.exit(INTERRUPTED)
    except (OceanmockError, click.ClickException, BrokenPipeError):
        raise
    except Exception:  # whatever it is, it must not look like a finding, which is exit code 1
        click.echo(traceback.format_exc(), err=True)
        click.echo("This is a mistake in oceanmock, and says nothing about the server.", err=True)
        ctx.exit(UNTESTABLE)
    ctx.exit(exit_code(results))


def _make_ready(ctx: click.Context, order: Order) -> None:
    """Makes sure of all that a run needs here. Raises EnvironmentProblem for what is missing."""
    from oceanmock.conformance.extra import check_extra
    from oceanmock.conformance.reports import check_writable  # only what runs has to load it

    check_extra()
    _keep_out_of_this_folder(ctx)
    for _, path in order.reports:
        check_writable(path)
    if order.update_baseline:
        check_writable(order.own_baselines[-1], what="baseline")


def _keep_out_of_this_folder(ctx: click.Context) -> None:
    """Lets hypothesis keep what it remembers in a folder that goes away with the command."""
    if "hypothesis" not in sys.modules:
        folder = ctx.with_resource(TemporaryDirectory(prefix="oceanmock-"))
        os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", folder)


# --- a run ----------------------------------------------------------------------------------------


def _on_target(order: Order) -> Result:
    """The result of a run against a server."""
    from oceanmock.conformance.run import conform as run  # schemathesis is slow
    from oceanmock.conformance.target import check_tasks, reach

    assert order.api is not None
    auth, viewer = credentials.credentials_of(order), credentials.viewer_of(order)
    stories = _stories(order)
    with _listening(None) as listen:
        target = reach(
            order.what[0],
            api=order.api,
            auth=auth,
            verify=order.verify,
            wait=order.wait / 1e9,
            listen=listen,
        )
    check_tasks(target, order.task)
    target = replace(target, viewer=viewer)
    baseline, own = baselines_of(order, target.api, target.version)
    tasks = order.task or (asked_tasks(target) if order.write else ())
    options = _options(order, tasks=tasks, stories=stories)
    with _listening(baseline) as listen:
        result = run(target, options, listen=listen, baseline=baseline)
    if not options.phases:  # a story claims to check nothing but itself
        result.missing = []
    result.command = command_of(order, tasks)
    update_baseline(order, result, own)
    return result


def _on_mock(order: Order) -> list[Result]:
    """The results of checking oceanmock itself: one for each API that is meant."""
    from oceanmock.conformance.mock import conform_mock  # schemathesis is slow

    results = []
    for api, names in _scenarios(order).items():
        baseline, own = baselines_of(order, api, MOCKED_VERSION[api])
        options = _options(order, tasks=(), stories=())
        with _listening(baseline) as listen:
            result = conform_mock(api, names, options, listen=listen, baseline=baseline)
        result.command = command_of(order, ())
        update_baseline(order, result, own)
        results.append(result)
        if result.interrupted:
            break
    return results


MOCKED_VERSION: Final[Mapping[Api, str]] = {"ocp": "", "obshell": "4.5.0.0"}
"""The release that the mock is of, quirks and all."""


def _scenarios(order: Order) -> dict[Api, list[str]]:
    """The APIs that are meant, each with the scenarios named; none are all of the library."""
    from oceanmock.library import load_scenario  # only what runs has to load it

    wanted = (order.api,) if order.api else APIS
    if not order.what:
        return {api: [] for api in wanted}
    grouped: dict[Api, list[str]] = {}
    for name in dict.fromkeys(order.what):
        api = load_scenario(name).api
        if api not in wanted:
            raise Unready(f"{name} is a scenario of {api}, and --api says {order.api}.")
        grouped.setdefault(api, []).append(name)
    return grouped


def _options(
    order: Order, *, tasks: tuple[str, ...], stories: tuple[Mapping[str, Any], ...]
) -> Options:
    said: dict[str, Any] = {}
    if order.phases or stories:
        said["phases"] = frozenset(order.phases or ())
    return Options(
        write=order.write,
        tasks=tasks,
        seed=order.seed,
        rate=order.rate,
        max_examples=order.max_examples or (10 if order.mock else 20),
        stories=stories,
        story_ids=order.story_id,
        patience=order.patience,
        **said,
    )


def _stories(order: Order) -> tuple[Mapping[str, Any], ...]:
    """The stories to replay, as their files have them. Raises AuthorError for wrong ones."""
    from oceanmock.library import find_scenario, load_scenario
    from oceanmock.scenario.diagnostics import Document

    stories = []
    for file in order.story:
        scenario = load_scenario(str(file))
        path = find_scenario(str(file))
        if scenario.api != order.api:
            raise Unready(f"{file} is a story of {scenario.api}, not of {order.api}.")
        said = Document(path.read_text(encoding="utf-8"), str(path)).data
        if not said.get("story"):
            raise Unready(f"{file} tells no story: it has no `story`.")
        if not order.write and any("call" in step for step in said["story"]):
            raise Unready(f"the story of {file} changes the target: it needs --write.")
        stories.append({"name": scenario.name, **said})
    return tuple(stories)


@contextmanager
def _listening(baseline: Baseline | None) -> Iterator[Listener]:
    """What shows how a run goes, on stderr, and ends it at the next answer after a Ctrl-C.

    An interrupt alone may get lost: schemathesis catches what is raised in its threads.
    """
    from rich.console import Console  # slow to import

    from oceanmock.clock import stopwatch
    from oceanmock.conformance.reports.progress import shown_on

    stopped = threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        raise KeyboardInterrupt

    reason_for = baseline.reason_for if baseline else lambda _: ""
    showing = shown_on(Console(stderr=True), stopwatch=stopwatch, reason_for=reason_for)
    before = signal.signal(signal.SIGINT, stop)
    try:
        with showing as show:

            def listen(event: Event) -> None:
                show(event)
                if stopped.is_set() and isinstance(event, ResponseReceived):
                    raise KeyboardInterrupt

            yield listen
    finally:
        signal.signal(signal.SIGINT, before)
