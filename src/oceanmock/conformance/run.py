"""Run the phases of a conformance run against one target, in order.

Probes come first, since they are few and identified by their requests; then walks, since what generated requests do to
a task cannot be undone; then schemathesis, phase by phase; then stories. All use one client, and the same checkers see
every response. A result can be taken at any moment, so an interrupted run has one too; the required responses and the
baseline are applied at the end (``judged``), to several results together if need be. ``ConformanceFixture`` is for test
suites.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property
from http import HTTPStatus
from io import StringIO
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from rich.console import Console

from oceanmock.apis import api_named
from oceanmock.checks import UNREADABLE, CheckResult, Exchange, Phase
from oceanmock.clock import SECOND, pause, stopwatch, wall_now
from oceanmock.conformance import (
    MAX_REQUESTS,
    MAX_TIME,
    PHASES,
    ApiName,
    Listener,
    NotAsked,
    Options,
    PhaseEnded,
    PhaseStarted,
    Result,
    contract_for,
    fuzzing,
    probes,
    stories,
)
from oceanmock.conformance.baseline import Baseline, apply_baseline, choose_baselines, joined
from oceanmock.conformance.checks import ResponseChecker, missing
from oceanmock.conformance.history import HistoryChecker
from oceanmock.conformance.http_client import HttpClient, RequestAuth
from oceanmock.conformance.reports.files import write_report
from oceanmock.conformance.reports.terminal import print_results
from oceanmock.conformance.target import check_tasks, reach
from oceanmock.errors import InputError
from oceanmock.observations import Observation, Target, TargetKind
from oceanmock.obshell.conformance import CLUSTER_AGENT
from oceanmock.openapi import find_operation
from oceanmock.text import format_instant, plural, suggest

ORDER: Final[tuple[Phase, ...]] = ("probes", "machine", *fuzzing.SCHEMATHESIS_PHASES, "story")
POLL_SECONDS: Final = 1.0  # the time between two reads of a walk on a real server
BETWEEN_SECONDS: Final = 2.0  # the time between two phases where it stands still otherwise


@dataclass(frozen=True, slots=True)
class Environment:
    """The surroundings of a run: how time passes, and whether the target can be reset.

    The default is a real server: time runs, there are other users, and nothing can be undone. ``is_ours`` says that
    there is no other user, and that time passes in ``wait`` alone. ``knowledge`` is what the walker knows of the target
    that its responses do not show, and ``opted_in`` are the API's ``opt_ins`` that its scenarios use.
    """

    wait: Callable[[float], None] = lambda seconds: pause(round(seconds * SECOND))
    is_ours: bool = False
    reset: Callable[[], object] | None = None
    knowledge: Any = None
    opted_in: frozenset[str] = frozenset()


def conform(
    target: Target,
    options: Options,
    *,
    listen: Listener = lambda _: None,
    baseline: Baseline | None = None,
    environment: Environment = Environment(),
) -> Result:
    """Run against a target, and return the result. A KeyboardInterrupt ends the run early."""
    runner = Runner(target, options, listen=listen, environment=environment)
    runner.go()
    kind: TargetKind = "cluster" if target.identity == CLUSTER_AGENT else "agent"
    result = judged(runner.result(), baseline=baseline, kinds=[kind])
    if runner.client.guard.spared:
        result.not_asked.append(NotAsked("ids of nothing, so that no 404 is required", target.spared))
        result.missing = [item for item in result.missing if item.status != HTTPStatus.NOT_FOUND]
    if result.stopped:
        result.missing = []
    return result


def judge_recording(
    path: Path,
    api: ApiName,
    exchanges: Sequence[Exchange],
    options: Options,
    *,
    listen: Listener = lambda _: None,
    baseline: Baseline | None = None,
) -> Result:
    """Return the result of checking recorded exchanges; nothing is sent, and no response is required.

    Anybody may operate between two of them, and a HAR has the bodies of requests to obshell encrypted: so only what no
    operation explains is reported.
    """
    runner = Runner(Target(str(path), api, version=version_in(api, exchanges)), options, listen=listen)
    complete, began = [item for item in exchanges if not item.problem], stopwatch()
    listen(PhaseStarted("passive"))
    for exchange in complete:
        operation = find_operation(runner.client.operations, exchange.method, exchange.target.partition("?")[0])
        runner.client.receive(replace(exchange, operation=operation.id if operation else ""))
    listen(PhaseEnded("passive"))
    result = replace(
        runner.result(),
        command=shlex.join(["oceanmock", "conform", "--passive", str(path), "--api", api]),
        findings=[replace(item, curl="") for item in runner.client.findings],
        phases={"passive": stopwatch() - began},
        writes=False,
        changes=[],
        latencies={},
    )
    if len(complete) < len(exchanges):
        what = f"{len(exchanges) - len(complete):,} of {plural(len(exchanges), 'exchange')}"
        result.not_asked.append(NotAsked(what, "the recording does not have the bodies of their responses."))
    apply_baseline(baseline, result)
    return result


def version_in(api: ApiName, exchanges: Sequence[Exchange]) -> str:
    """Return the version that a server states in a recording, or ""."""
    server = api_named(api).conformance
    for exchange in exchanges:
        if exchange.status == 200 and exchange.target == server.preflight_path:
            with suppress(*UNREADABLE):
                return str(server.identify(exchange.json()).get("version", ""))
    return ""


def judged(result: Result, *, baseline: Baseline | None = None, kinds: Iterable[TargetKind] = ()) -> Result:
    """Add the missing responses to a result, apply a baseline, and return it."""
    result.missing = missing(result, kinds)
    apply_baseline(baseline, result)
    return result


class Runner:
    """A run in progress."""

    def __init__(
        self,
        target: Target,
        options: Options,
        *,
        listen: Listener = lambda _: None,
        environment: Environment = Environment(),
    ) -> None:
        self.options: Final = options
        self.environment: Final = environment
        contract = contract_for(target.api, target.version)
        self.checks: Final = ResponseChecker(contract)
        own_ids = None if environment.is_ours else options.tasks
        self.memory: Final = HistoryChecker(contract, own_ids=own_ids, opted_in=environment.opted_in)
        self.client: Final = HttpClient(target, options, listen=listen, checkers=[self.checks, self.memory])
        self._listen = listen
        self._began = stopwatch()
        self._result = Result(
            target=target.url,
            api=target.api,
            version=target.version,
            seed=options.seed,
            command=_command(target, options),
            started=format_instant(wall_now(), digits=0),
            writes=options.write,
            statuses=self.client.statuses,
            findings=self.client.findings,
            changes=self.client.changes,
            latencies=self.client.latencies,
            transitions=self.memory.transitions,
            labels=self.memory.labels,
        )
        self._fuzzer: fuzzing.Fuzzer | None = None
        self._prober: probes.Prober | None = None
        settings: dict[str, Any] = {"seed": options.seed, "knowledge": environment.knowledge}
        if environment.reset is None:  # else a sandbox, in which time stands
            settings |= {"stands": environment.is_ours, "poll": POLL_SECONDS, "timeout": options.timeout / SECOND}
        self._walker: Final = probes.Walker(probes.Prober(self.client), environment.wait, **settings)

    def go(self) -> None:
        """Run the selected phases; a KeyboardInterrupt ends them, and is recorded."""
        options, result = self.options, self._result
        phases = {*options.phases, "story"}
        phases -= {"machine"} if not options.write else set()
        phases -= {"story"} if not options.stories else set()
        selected = [phase for phase in ORDER if phase in phases]
        try:
            for phase in selected:
                began = stopwatch()
                self._listen(PhaseStarted(phase))
                try:
                    with self.client.during(phase):
                        self._run(phase)
                finally:
                    result.phases[phase] = stopwatch() - began
                    self._listen(PhaseEnded(phase))
                if self.environment.is_ours:
                    self.environment.wait(BETWEEN_SECONDS)
            self._leave()
        except KeyboardInterrupt:  # a BoundReached is one; schemathesis raises one of its own instead
            if bound := self.client.bound:
                rest = [f"the rest of {[*result.phases][-1]}", *selected[len(result.phases) :]]
                result.stopped = bound
                result.not_asked.append(NotAsked(", ".join(rest), f"the run has reached {bound}."))
                self._leave()
            else:
                result.left |= self.memory.last_states(options.tasks) if self.client.changes else {}
                result.interrupted = True

    def _leave(self) -> None:
        """Bring what the run has changed to an end, if the target is not ours; no bound prevents that."""
        if self.client.changes and not self.environment.is_ours:
            self.client.is_bounded = False
            with self.client.during("machine"):
                self._walker.leave(self.options.tasks)
            self._result.left |= self._walker.left

    @cached_property
    def items(self) -> tuple[Observation, ...]:
        """Return the tasks or dags that exist on the target, searched once."""
        return probes.find_items(self.client)

    def _run(self, phase: Phase) -> None:
        environment, options = self.environment, self.options
        if phase == "probes":
            self._prober = probes.probe(self.client, self.items)
        elif phase == "machine":
            if environment.reset is None:
                self._walker.walk_server(options.tasks)
            else:
                self._walker.walk_sandbox(options.tasks, reset=self._reset, examples=options.max_examples)
        elif phase == "story":
            ids, timeout, stands = dict(options.story_ids), options.timeout, environment.is_ours
            first = 0 if stands else options.first
            for story in options.stories:
                self._result.stories[story.name] = stories.replay(
                    self.client, story, ids=ids, wait=environment.wait, timeout=timeout, stands=stands, first=first
                )
        else:
            self._fuzzer = self._fuzzer or fuzzing.Fuzzer(self.client, self.items)
            self._fuzzer.run(phase)

    def _reset(self) -> None:
        assert self.environment.reset is not None
        self.environment.reset()
        self.memory.forget()

    def result(self) -> Result:
        """Return what was observed so far; nothing of it is judged yet."""
        checked = self.checks.checked + self.memory.checked + self._walker.prober.checked
        checked += self._prober.checked if self._prober is not None else Counter()
        checked += self._fuzzer.checked if self._fuzzer is not None else Counter()
        took, sent = stopwatch() - self._began, self.client.request_count
        return replace(self._result, took=took, request_count=sent, checked=checked)


def _total(one: Any, other: Any) -> Any:
    """Return two counts, lists or mappings of them as one; of anything else the first."""
    match one:
        case bool():
            return one or other
        case int() | list() | Counter():
            return one + other
        case dict():
            return {**one, **other, **{key: _total(one[key], other[key]) for key in one.keys() & other.keys()}}
    return one


def merged(results: Sequence[Result]) -> Result:
    """Return several results as one, with the first one's name, each finding once."""
    whole = replace(results[0])
    counts = [item.name for item in fields(Result) if (item.default, item.default_factory) != (MISSING, MISSING)]
    for result in results[1:]:
        for name in counts:
            setattr(whole, name, _total(getattr(whole, name), getattr(result, name)))
    first = dict[Any, CheckResult]()
    for finding in whole.findings:
        first.setdefault(finding.key, finding)
    whole.findings = list(first.values())
    return whole


def _command(target: Target, options: Options) -> str:
    """Return the command that repeats the run, without credentials."""
    words = ["oceanmock", "conform", target.url, "--api", target.api]
    words += ["--seed", str(options.seed), "--max-examples", str(options.max_examples)]
    if options.write:
        words += ["--write", *(word for item in options.tasks for word in ("--task", item))]
    if options.phases != Options().phases:
        words += ["--phases", ",".join(filter(options.phases.__contains__, PHASES))]
    if options.rate:
        words += ["--rate", f"{options.rate:g}"]
    return shlex.join(words)


class Setting(TypedDict, total=False):
    """The optional settings of a run; the command's options explain them."""

    write: bool
    """Whether the run may operate on tasks, and not only read."""
    tasks: Sequence[str | int]
    """The tasks it may operate on."""
    phases: Iterable[Phase]
    baseline: str | Path | Sequence[str | Path]
    """Known deviations to accept; by default the baseline for the version."""
    seed: int
    max_examples: int
    rate: float
    """Maximum requests per second; 0 for no limit."""
    verify: bool | str
    """Whether to verify the certificate, or the path of those to trust."""
    max_requests: int
    """The most requests, 0 for any number; the default is 20,000. A run that reaches it is incomplete."""
    max_time: int
    """The longest time in nanoseconds, 0 for any; the default is 30 minutes."""
    unknown_ids: bool
    """Whether an obshell beside others is asked for ids of nothing; real ones then ask each other without end."""
    wait: float
    """How many seconds the server may take to respond for the first time."""


@dataclass(frozen=True, slots=True)
class ConformanceRun:
    """A finished run against a server, and its result."""

    result: Result

    def assert_passed(self) -> None:
        """Raise AssertionError with the summary if there are violations, or if required responses were not observed."""
        __tracebackhide__ = True
        if self.result.exit_code:
            raise AssertionError(f"the server does not conform to the contract\n{self.text()}")

    def text(self) -> str:
        """Return the summary that the command prints."""
        file = StringIO()
        print_results([self.result], Console(file=file, width=100, color_system=None, legacy_windows=False))
        return file.getvalue()

    def report(self, kind: str, path: str | Path) -> None:
        """Write a report: html, json or junit. Raises EnvironmentProblem where that fails."""
        write_report(kind, [self.result], Path(path))


class ConformanceFixture:
    """The fixture ``conformance``: a callable that checks a server against its contract.

    run = conformance("http://127.0.0.1:8080", api="ocp", auth=("admin", "secret"))
    run.assert_passed()
    """

    def __call__(
        self, url: str, *, api: ApiName, auth: RequestAuth | tuple[str, str] | None, **setting: Unpack[Setting]
    ) -> ConformanceRun:
        """Run against a server; it only reads, unless ``write`` and ``tasks`` are given.

        ``auth`` is a name and a password, or what ``oceanmock.credentials`` has. Raises Untestable when the server is
        down, is not that API, or refuses the credentials, and InputError for a setting that there is not.
        """
        values: dict[str, Any] = {"max_requests": MAX_REQUESTS, "max_time": MAX_TIME, **setting}
        phases = frozenset(values.pop("phases", PHASES))
        for what, names, choices in (("setting", setting, list(Setting.__annotations__)), ("phase", phases, PHASES)):
            for name in names:
                if name not in choices:
                    raise InputError(f"a run has no {what} {name!r}. {suggest(name, choices)}")
        verify, wait = values.pop("verify", True), values.pop("wait", 5.0)
        baseline = values.pop("baseline", ())
        references = [baseline] if isinstance(baseline, str | Path) else list(baseline)
        options = Options(tasks=tuple(map(str, values.pop("tasks", ()))), phases=phases, **values)
        target = reach(url, api=api, auth=auth, verify=verify, wait=wait)
        check_tasks(target, options.tasks, unknown_ids=options.unknown_ids)
        baselines, _ = choose_baselines(references, api=api, version=target.version)
        return ConformanceRun(conform(target, options, baseline=joined(baselines)))
