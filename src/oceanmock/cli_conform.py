"""The command ``oceanmock conform``: its words, its credentials, and what it leaves behind.

What a run does is ``conformance``'s; here is what may be said to it, in which order things are made
sure of (words, reports, target, baselines) before the first request, and what is printed. Progress
goes to stderr, the summary to stdout. Passwords come by option, environment or prompt, and go
nowhere but into the credentials: no message, report or command to repeat a run has them.
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
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, get_args
from urllib.parse import urlsplit

import click

from oceanmock.conformance.model import (
    INTERRUPTED,
    UNTESTABLE,
    Api,
    Asked,
    Event,
    Listener,
    Options,
    Phase,
    Result,
)
from oceanmock.errors import OceanmockError

if TYPE_CHECKING:
    from rich.console import Console

    from oceanmock.conformance.baseline import Baseline
    from oceanmock.conformance.target import Target

APIS: Final[tuple[Api, ...]] = get_args(Api)
PHASES: Final[tuple[Phase, ...]] = tuple(
    phase for phase in get_args(Phase) if phase not in ("preflight", "story")
)
SECRETS: Final = ("password", "secret_key", "agent_password", "viewer_password")
REPORTS: Final = ("html", "json", "junit")
LOG_WIDTH: Final = 120
"""How wide a summary is where nobody says."""


class Unready(OceanmockError):
    """A run cannot begin, though the words are right: something that it needs is not there."""


# --- what may be said -----------------------------------------------------------------------------


class _Span(click.ParamType):  # type: ignore[type-arg]
    """A span of time such as 30s or 1m30s, in nanoseconds."""

    name = "span"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        from oceanmock.scenario.base import parse_duration  # pydantic is slow

        try:
            return value if isinstance(value, int) else parse_duration(value)
        except ValueError as problem:
            return int(self.fail(f"{value!r} {problem}", param, ctx))


class _Several(click.ParamType):  # type: ignore[type-arg]
    """Words with commas between them, each one of a few."""

    name = "list"

    def __init__(self, choices: Sequence[str]) -> None:
        self.choices = choices

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        words = value.split(",") if isinstance(value, str) else value
        for word in words:
            if word not in self.choices:
                from oceanmock.mistakes import nearest  # loads yaml

                self.fail(f"{word!r} is none of them. {nearest(word, self.choices)}", param, ctx)
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
            from oceanmock.mistakes import nearest  # loads yaml

            self.fail(f"{kind!r} is no kind of report. {nearest(kind, REPORTS)}", param, ctx)
        if not equals or not path:
            self.fail(f"where to? For example {kind}=report.{kind}.", param, ctx)
        return kind, Path(path)


@dataclass(frozen=True, slots=True)
class Order:
    """What was said to the command, option by option; secrets are not shown when it is printed."""

    what: tuple[str, ...]
    api: Api | None
    mock: bool
    user: str | None
    password: str | None = field(repr=False)
    access_key: str | None
    secret_key: str | None = field(repr=False)
    agent_password: str | None = field(repr=False)
    viewer: str | None
    viewer_password: str | None = field(repr=False)
    write: bool
    task: tuple[str, ...]
    story: tuple[Path, ...]
    story_id: tuple[tuple[str, str], ...]
    phases: tuple[Phase, ...] | None
    seed: int
    max_examples: int | None
    rate: float
    patience: int
    baseline: tuple[str, ...]
    update_baseline: bool
    report: tuple[tuple[tuple[str, Path], ...], ...]
    wait: int
    insecure: bool
    ca: Path | None

    @property
    def reports(self) -> list[tuple[str, Path]]:
        """Every report that is wanted."""
        return [report for several in self.report for report in several]


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

_MADE: Final[dict[str, Any]] = {"show_default": True}


@click.command(epilog=EPILOG)
@click.argument("what", nargs=-1, metavar="[URL] | --mock [SCENARIO]...")
@click.option("--api", type=click.Choice(APIS), help="The API that URL serves, or --mock checks.")
@click.option(
    "--mock", is_flag=True, help="Check oceanmock itself: the whole library, or SCENARIO."
)
@click.option("--user", help="OCP: whom to log on as, with --password.")
@click.option(
    "--password",
    envvar="OCEANMOCK_PASSWORD",
    show_envvar=True,
    help="Of that user, or obshell's root@sys (may be '' there). Asked for, if left out.",
)
@click.option("--access-key", help="OCP: the id of an access key, with --secret-key.")
@click.option(
    "--secret-key",
    envvar="OCEANMOCK_SECRET_KEY",
    show_envvar=True,
    help="Its secret. Asked for, if left out.",
)
@click.option(
    "--agent-password",
    envvar="OCEANMOCK_AGENT_PASSWORD",
    show_envvar=True,
    help="obshell: the agent's own password, where it has one.",
)
@click.option(
    "--viewer",
    metavar="TEXT",
    help="OCP: an account that may only look, to see with --write that it is kept from the rest.",
)
@click.option(
    "--viewer-password",
    envvar="OCEANMOCK_VIEWER_PASSWORD",
    show_envvar=True,
    help="Of that viewer. Asked for, if left out.",
)
@click.option(
    "--write",
    is_flag=True,
    help="Also retry, roll back, skip, cancel and pass: the tasks of --task. Without it only reads "
    "leave this machine.",
)
@click.option(
    "--task",
    multiple=True,
    metavar="ID",
    help="A task (obshell: a dag) that may be played with. May be repeated. The FAILED ones are "
    "listed and asked for, if left out.",
)
@click.option(
    "--story",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Replay the story of a scenario's file on the target, and do no more than that unless "
    "--phases says what else. May be repeated.",
)
@click.option(
    "--story-id",
    multiple=True,
    type=_Pair(),
    metavar="ID=ID",
    help="A task of the story, by id or name, and its id at the target; found by its id or name "
    "there, if left out. May be repeated.",
)
@click.option(
    "--phases",
    type=_Several(PHASES),
    metavar="LIST",
    help=f"What to do, with commas: {', '.join(PHASES)}. All, if left out.",
)
@click.option("--seed", default=0, help="The same seed makes the same requests.", **_MADE)
@click.option(
    "--max-examples",
    type=click.IntRange(1),
    help="How many examples are made up for each operation: 20, if left out, and 10 with --mock.",
)
@click.option(
    "--rate",
    default=0.0,
    type=click.FloatRange(0),
    help="Requests per second at most; 0 for no limit.",
    **_MADE,
)
@click.option(
    "--patience",
    default="60s",
    type=_Span(),
    metavar="SPAN",
    help="How long a story or a machine waits for what should happen.",
    **_MADE,
)
@click.option(
    "--baseline",
    multiple=True,
    metavar="FILE",
    help="Known deviations to let pass: a file, a name that comes with oceanmock, or none. May be "
    "repeated. What comes with oceanmock for the target's version, if left out.",
)
@click.option(
    "--update-baseline",
    is_flag=True,
    help="Write what was found to the last FILE of --baseline, and take out what no longer occurs.",
)
@click.option(
    "--report",
    multiple=True,
    type=_Report(),
    metavar="KIND=PATH",
    help="Write a report: html, json or junit. May be repeated, or have commas.",
)
@click.option(
    "--wait",
    default="5s",
    type=_Span(),
    metavar="SPAN",
    help="How long to wait for a target that does not answer yet.",
    **_MADE,
)
@click.option("--insecure", is_flag=True, help="Take any certificate.")
@click.option(
    "--ca",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The certificates to trust, instead of this machine's.",
)
@click.pass_context
def conform(ctx: click.Context, /, **said: Any) -> None:
    """Check that a server keeps the contract, and that its tasks live the life they should.

    URL is a server of OCP or obshell; it is only read, unless --write says so. With --mock it is
    oceanmock itself that is checked.
    """
    order = Order(**{each.name: said[each.name] for each in fields(Order)})
    _check_words(order)
    from oceanmock.conformance import reports  # only what runs has to load it
    from oceanmock.conformance.extra import check_extra
    from oceanmock.conformance.reports import texts

    check_extra()
    _keep_out_of_this_folder(ctx)
    for _, path in order.reports:
        reports.check_writable(path)
    try:
        results = _on_mock(order) if order.mock else [_on_target(order)]
    except KeyboardInterrupt:
        click.echo("Interrupted before anything was found.", err=True)
        ctx.exit(INTERRUPTED)
    except (OceanmockError, click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception:  # whatever it is, it must not look like a finding, which is exit code 1
        click.echo(traceback.format_exc(), err=True)
        click.echo("This is a mistake in oceanmock, and says nothing about the server.", err=True)
        ctx.exit(UNTESTABLE)
    _tell(order, results)
    ctx.exit(texts.exit_code(results))


def _keep_out_of_this_folder(ctx: click.Context) -> None:
    """Lets hypothesis keep what it remembers in a folder that goes away with the command."""
    if "hypothesis" not in sys.modules:
        folder = ctx.with_resource(TemporaryDirectory(prefix="oceanmock-"))
        os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", folder)


# --- words that do not go together ----------------------------------------------------------------


def _check_words(order: Order) -> None:
    """Raises a UsageError for what cannot be meant."""
    wrong = next(_wrong_words(order), None)
    if wrong is not None:
        raise click.UsageError(wrong)


def _wrong_words(order: Order) -> Iterator[str]:
    yield from (_wrong_for_mock if order.mock else _wrong_for_url)(order)
    if order.insecure and order.ca:
        yield "--insecure takes any certificate, and --ca only some: which is meant?"
    if "none" in order.baseline and len(order.baseline) > 1:
        yield "--baseline none stands alone."
    if order.update_baseline and not _own_files(order):
        yield "--update-baseline needs the file to write: --baseline my.yaml."


def _wrong_for_mock(order: Order) -> Iterator[str]:
    url = next((each for each in order.what if "://" in each), None)
    if url is not None:
        yield f"--mock checks oceanmock itself, and not {_shown_url(url)}: leave out one of them."
    for name in ("user", "access_key", "viewer", *SECRETS):
        if getattr(order, name) is not None and not _is_of_environment(name):
            yield f"--mock has credentials of its own: leave out {_flag(name)}."
    for name in ("write", "task", "insecure", "ca", "story", "story_id"):
        if getattr(order, name):
            yield f"{_flag(name)} is for a real server: with --mock leave it out."
    if order.update_baseline and order.api is None:
        yield "--update-baseline is about one API: say which with --api."


def _wrong_for_url(order: Order) -> Iterator[str]:
    if not order.what:
        yield "what is to be checked? Give the URL of a server, or --mock for oceanmock itself."
        return
    if len(order.what) > 1:
        yield "one URL at a time. Scenarios are checked with --mock."
    url = order.what[0]
    if "://" not in url:
        yield f"{url!r} is no URL: http://…. A scenario is checked with --mock {url}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield f"{_shown_url(url)} is no URL of a server: http://… or https://…"
    if parts.username is not None or parts.password is not None:
        yield "no credentials in the URL, please: they end up in logs. There is --user for it."
    if order.api is None:
        yield "which API is it? Say --api ocp or --api obshell."
    yield from _wrong_credentials(order)
    if order.story_id and not order.story:
        yield "--story-id is about a story: name it with --story."
    if order.task and not order.write:
        yield "--task says what may be played with, which needs --write."


def _wrong_credentials(order: Order) -> Iterator[str]:
    if order.api == "obshell":
        for name in ("user", "access_key", "viewer"):
            if getattr(order, name) is not None:
                yield f"obshell knows no {_flag(name)}: only --password and --agent-password."
        return
    if order.user is None and order.access_key is None:
        yield "OCP asks who you are: give --user and --password, or --access-key and --secret-key."
    if order.user is not None and order.access_key is not None:
        yield "--user or --access-key: which is meant?"
    if order.agent_password is not None and not _is_of_environment("agent_password"):
        yield "--agent-password is obshell's."


def _is_of_environment(name: str) -> bool:
    """Whether an option's value was not said, but stood in the environment."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.ENVIRONMENT


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _shown_url(url: str) -> str:
    """A URL without the credentials that may be in it."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


# --- a run ----------------------------------------------------------------------------------------


def _on_target(order: Order) -> Result:
    """The result of a run against a server."""
    from oceanmock.conformance.run import conform as run  # schemathesis is slow
    from oceanmock.conformance.target import reach

    assert order.api is not None
    auth, viewer = _credentials(order), _viewer(order)
    stories = _stories(order)
    with _listening(None) as listen:
        target = reach(
            order.what[0],
            api=order.api,
            auth=auth,
            verify=str(order.ca) if order.ca else not order.insecure,
            wait=order.wait / 1e9,
            listen=listen,
        )
    target = replace(target, viewer=viewer)
    baseline, own = _baselines(order, target.api, target.version)
    tasks = order.task or (_asked_tasks(target) if order.write else ())
    options = _options(order, tasks=tasks, stories=stories)
    with _listening(baseline) as listen:
        result = run(target, options, listen=listen, baseline=baseline)
    if not options.phases:  # a story claims to check nothing but itself
        result.missing = []
    result.command = _command(order, tasks)
    _update(order, result, own)
    return result


def _on_mock(order: Order) -> list[Result]:
    """The results of checking oceanmock itself: one for each API that is meant."""
    from oceanmock.conformance.mock import conform_mock  # schemathesis is slow

    results = []
    for api, names in _scenarios(order).items():
        baseline, own = _baselines(order, api, MOCKED_VERSION[api])
        options = _options(order, tasks=(), stories=())
        with _listening(baseline) as listen:
            result = conform_mock(api, names, options, listen=listen, baseline=baseline)
        result.command = _command(order, ())
        _update(order, result, own)
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
    from oceanmock.mistakes import Document

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
                if stopped.is_set() and isinstance(event, Asked):
                    raise KeyboardInterrupt

            yield listen
    finally:
        signal.signal(signal.SIGINT, before)


# --- credentials ----------------------------------------------------------------------------------


def _credentials(order: Order) -> Any:
    """What lets the run in; what was left out is asked for."""
    from oceanmock.credentials import AccessKey, Basic, Sealed  # cryptography

    if order.api == "obshell":
        password = order.password
        if password is None and order.agent_password is None:
            password = _ask("the password of root@sys", "--password", "OCEANMOCK_PASSWORD")
        verify = str(order.ca) if order.ca else not order.insecure
        return Sealed(password or "", order.agent_password, verify=verify)
    if order.access_key is not None:
        secret = order.secret_key
        if secret is None:
            secret = _ask(
                f"the secret of {order.access_key}", "--secret-key", "OCEANMOCK_SECRET_KEY"
            )
        return AccessKey(order.access_key, secret)
    assert order.user is not None
    password = order.password
    if password is None:
        password = _ask(f"the password of {order.user}", "--password", "OCEANMOCK_PASSWORD")
    return Basic(order.user, password)


def _viewer(order: Order) -> Any:
    """The credentials of who may only look; None where nobody was named."""
    from oceanmock.credentials import Basic  # cryptography

    if order.viewer is None:
        return None
    password = order.viewer_password
    if password is None:
        what = f"the password of {order.viewer}"
        password = _ask(what, "--viewer-password", "OCEANMOCK_VIEWER_PASSWORD")
    return Basic(order.viewer, password)


def _ask(what: str, flag: str, variable: str) -> str:
    """A secret from whoever sits at the terminal. Raises a UsageError where nobody does."""
    if not _somebody_is_there():
        raise click.UsageError(f"{what} is needed: {flag}, or {variable} in the environment.")
    text = what[0].upper() + what[1:]
    return str(click.prompt(text, hide_input=True, default="", show_default=False, err=True))


def _somebody_is_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


# --- tasks to play with ---------------------------------------------------------------------------


def _asked_tasks(target: Target) -> tuple[str, ...]:
    """The ids that somebody at the terminal chose among the FAILED ones."""
    failed = _failed(target)
    noun = "task" if target.api == "ocp" else "dag"
    if not failed:
        raise Unready(
            f"--write needs a {noun} to play with, and none is FAILED. Name one with --task ID."
        )
    listed = "\n".join(f"  {id}  {name}" for id, name in failed)
    if not _somebody_is_there():
        raise Unready(
            f"--write needs to know which {noun}s may be played with: --task ID. FAILED are:\n"
            f"{listed}"
        )
    click.echo(f"These {noun}s are FAILED, and a run may retry, roll back or pass them:", err=True)
    click.echo(listed, err=True)
    known = [id for id, _ in failed]
    choice = _Several(known)
    asked = "Ids to play with, with commas between them"
    return tuple(click.prompt(asked, type=choice, err=True))


def _failed(target: Target) -> list[tuple[str, str]]:
    """Id and name of what is FAILED on the target, read and nothing else."""
    from oceanmock.conformance.reports.texts import line
    from oceanmock.conformance.wire import Wire  # requests

    where = {
        "ocp": ("/api/v2/tasks/instances?status=FAILED&size=50", "status"),
        "obshell": ("/api/v1/task/dag/unfinish?show_details=false", "state"),
    }
    path, key = where[target.api]
    exchange = Wire(target, Options()).send("GET", path, phase="preflight")
    said = exchange.json()
    data = said.get("data") if isinstance(said, dict) else None
    rows = data.get("contents") if isinstance(data, dict) else None
    return [
        (line(str(row.get("id"))), line(str(row.get("name"))))
        for row in rows or ()
        if isinstance(row, dict) and row.get(key) == "FAILED"
    ]


# --- baselines ------------------------------------------------------------------------------------


def _own_files(order: Order) -> list[Path]:
    """The baselines that are files of the user's own."""
    paths = [Path(each) for each in order.baseline]
    return [path for path in paths if path.suffix in (".yaml", ".yml") or path.name != str(path)]


def _baselines(order: Order, api: Api, version: str) -> tuple[Baseline | None, list[Baseline]]:
    """What is let pass, as one baseline and one by one."""
    from oceanmock.conformance.baseline import (  # only what runs has to load it
        Baseline,
        joined,
        load_baseline,
        shipped_for,
    )

    if not order.baseline:
        shipped = shipped_for(api, version)
        return shipped, [shipped] if shipped else []
    found = []
    for reference in order.baseline:
        if reference == "none":
            continue
        if order.update_baseline and not Path(reference).exists() and _is_file(reference):
            release = version.partition("-")[0]
            found.append(Baseline(Path(reference).as_posix(), api, (release,) if release else ()))
            continue
        loaded = load_baseline(reference)
        if loaded.api != api and not order.mock:
            raise Unready(f"the baseline {reference} is of {loaded.api}, not of {api}.")
        if loaded.api == api:
            found.append(loaded)
            for note in _notes_on(loaded, version):
                click.echo(f"baseline {reference}: {note}", err=True)
    return joined(found), found


def _notes_on(baseline: Baseline, version: str) -> Iterator[str]:
    """What is odd about a baseline, and no reason not to take it."""
    from oceanmock.conformance.rules import all_rules  # schemathesis is slow

    if not baseline.fits(version):
        said = f"is {version}" if version else "does not say which it is"
        yield f"of {', '.join(baseline.versions)}; the target {said}."
    from oceanmock.mistakes import did_you_mean

    rules = list(all_rules())
    for rule in sorted(baseline.rules - set(rules)):
        yield f"there is no rule {rule!r}. {did_you_mean(rule, rules)}".rstrip()


def _is_file(reference: str) -> bool:
    return Path(reference).suffix in (".yaml", ".yml")


def _update(order: Order, result: Result, baselines: Sequence[Baseline]) -> None:
    """Writes the user's own baseline anew, where that was asked for, and judges by it."""
    from oceanmock.conformance.baseline import (
        apply_baseline,
        joined,
        save_baseline,
        update,
    )

    if not order.update_baseline:
        return
    path = _own_files(order)[-1]
    if result.interrupted:
        click.echo(f"baseline {path}: not written, as the run was interrupted.", err=True)
        return
    own = next(each for each in baselines if each.name == path.as_posix())
    whole, came, went = update(own, result)
    save_baseline(whole, path)
    apply_baseline(joined([whole if each is own else each for each in baselines]), result)
    entries = "entry" if came == 1 else "entries"
    click.echo(f"baseline {path}: {came} {entries} added, {went} taken out.", err=True)


# --- what is left behind --------------------------------------------------------------------------


def _tell(order: Order, results: Sequence[Result]) -> None:
    """Writes the reports and prints the summary."""
    from oceanmock.conformance.reports import write_report
    from oceanmock.conformance.reports.terminal import print_results

    for kind, path in order.reports:
        write_report(kind, results, path)
    print_results(results, _console())
    for kind, path in order.reports:
        click.echo(f"{kind} report: {path}")


def _console() -> Console:
    """Where the summary goes: as wide as the terminal, or as a log may be."""
    from rich.console import Console  # slow to import

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=LOG_WIDTH)
    return console


def _command(order: Order, tasks: Sequence[str]) -> str:
    """What repeats the run. Passwords are left out: the environment has them, or it asks."""
    words = ["oceanmock", "conform", *(["--mock"] if order.mock else []), *order.what]
    said: list[tuple[str, object]] = [
        ("--api", order.api),
        ("--user", order.user),
        ("--access-key", order.access_key),
        ("--viewer", order.viewer),
        *(("--task", each) for each in tasks),
        *(("--story", each) for each in order.story),
        *(("--story-id", "=".join(each)) for each in order.story_id),
        ("--phases", ",".join(order.phases) if order.phases else None),
        ("--seed", order.seed),
        ("--max-examples", order.max_examples),
        ("--rate", f"{order.rate:g}" if order.rate else None),
        *(("--baseline", each) for each in order.baseline),
        ("--ca", order.ca),
    ]
    flags = [("--write", order.write), ("--insecure", order.insecure)]
    words += [name for name, is_said in flags if is_said]
    words += [str(word) for pair in said if pair[1] is not None for word in pair]
    return shlex.join(words)
