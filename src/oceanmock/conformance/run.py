"""Run the phases of a conformance run against one target, in order.

Probes come first, since they are few and the same in each run; then walks, since a task cannot be reset after generated
requests; then schemathesis, phase by phase; then stories. All use one client, and the same checkers read every
response. The result is complete after every response, so that an interrupted run has one too; only missing responses
are added at the end. ``ConformanceFixture`` is for test suites.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from http import HTTPStatus
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from rich.console import Console

from oceanmock.apis import api_named
from oceanmock.checks import UNREADABLE, Exchange, Phase
from oceanmock.clock import SECOND, stopwatch
from oceanmock.conformance import (
    MAX_REQUESTS,
    MAX_TIME,
    PHASES,
    ApiName,
    Listener,
    NotAsked,
    Options,
    PhaseStarted,
    Result,
    fuzzing,
    probes,
    stories,
)
from oceanmock.conformance.baseline import apply_baselines, choose_baselines
from oceanmock.conformance.checks import ResponseChecker, missing
from oceanmock.conformance.history import HistoryChecker
from oceanmock.conformance.http_client import HttpClient, RequestAuth
from oceanmock.conformance.reports.files import write_report
from oceanmock.conformance.reports.terminal import curl_of, print_results
from oceanmock.conformance.target import check_tasks, reach
from oceanmock.errors import InputError
from oceanmock.observations import Observation, Target
from oceanmock.obshell.conformance import CLUSTER_AGENT
from oceanmock.openapi import find_operation
from oceanmock.text import plural, suggest

ORDER: Final[tuple[Phase, ...]] = ("probes", "machine", *fuzzing.SCHEMATHESIS_PHASES, "story")
POLL_SECONDS: Final = 1.0  # the time between two reads of a walk on a real server
BETWEEN_SECONDS: Final = 2.0  # the time that passes between two phases on a mock with a manual clock


def conform(target: Target, options: Options, *, listen: Listener = lambda _: None) -> Result:
    """Return the result of a run, with a command that reproduces each finding. A KeyboardInterrupt ends it early."""
    runner = Runner(target, options, listen=listen)
    runner.go()
    result = runner.result
    result.findings = [replace(item, curl=curl_of(item.exchange, target)) for item in result.findings]
    result.missing = missing(result, ["cluster" if target.identity == CLUSTER_AGENT else "agent"])
    if runner.client.guard.spared:
        result.not_asked.append(NotAsked("unknown ids, so that no 404 is required", target.spared))
        result.missing = [item for item in result.missing if item.status != HTTPStatus.NOT_FOUND]
    if result.stopped:
        result.missing = []
    return result


def judge_recording(
    path: Path,
    api: ApiName,
    servers: Mapping[str, Sequence[Exchange]],
    options: Options,
    *,
    listen: Listener = lambda _: None,
) -> Result:
    """Return the result of checking recorded exchanges of each server; nothing is sent, and no response is required.

    Other users may operate between two exchanges, and in a HAR the bodies of requests to obshell are encrypted. So only
    changes that no operation explains are reported.
    """
    began = stopwatch()
    target = Target(str(path), api, version=version_in(api, servers))
    result = Result(target.url, api, target.version, options.seed)
    exchanges = [*chain(*servers.values())]
    complete = [item for item in exchanges if not item.problem]
    listen(PhaseStarted("passive"))
    try:
        for own in servers.values():
            client = Runner(target, options, result, listen=listen).client
            for exchange in own:
                operation = find_operation(client.operations, exchange.method, exchange.target.partition("?")[0])
                if not exchange.problem:
                    client.receive(replace(exchange, operation=operation.id if operation else ""))
    except KeyboardInterrupt:
        result.interrupted = True
    result.took = result.phases["passive"] = stopwatch() - began
    result.changes, result.latencies = [], {}
    if len(complete) < len(exchanges):
        what = f"{len(exchanges) - len(complete):,} of {plural(len(exchanges), 'exchange')}"
        result.not_asked.append(NotAsked(what, "the recording does not have the bodies of their responses."))
    return result


def version_in(api: ApiName, servers: Mapping[str, Sequence[Exchange]]) -> str:
    """Return the version that a server states in a recording, or ""."""
    server = api_named(api).conformance
    for exchange in chain(*servers.values()):
        if exchange.status == 200 and exchange.target == server.preflight_path:
            with suppress(*UNREADABLE):
                return str(server.identify(exchange.json()).get("version", ""))
    return ""


class Runner:
    """A run in progress; it adds to a result, if one is given."""

    def __init__(
        self, target: Target, options: Options, result: Result | None = None, *, listen: Listener = lambda _: None
    ) -> None:
        if result is None:
            command = _command(target, options)
            result = Result(target.url, target.api, target.version, options.seed, command, writes=options.write)
        self.result: Final = result
        self.client: Final = HttpClient(target, options, result, listen=listen)
        own_ids = None if target.is_ours else options.tasks
        self.memory: Final = HistoryChecker(self.client.contract, own_ids=own_ids, opted_in=target.opted_in)
        self.memory.transitions, self.memory.labels = result.transitions, result.labels
        checkers = ResponseChecker(self.client.contract), self.memory
        self.client.checkers.extend(checkers)
        self._listen = listen
        self._prober: Final = probes.Prober(self.client)
        for checker in (*checkers, self._prober):
            checker.checked = result.checked
        settings: dict[str, Any] = {"seed": options.seed, "knowledge": target.knowledge}
        if target.reset is None:  # a server; the defaults are those of a sandbox that is reset
            settings |= {"stands": target.is_ours, "poll": POLL_SECONDS, "timeout": options.timeout / SECOND}
        self._walker: Final = probes.Walker(self._prober, target.wait, **settings)

    def go(self) -> None:
        """Run the selected phases; a KeyboardInterrupt ends them, and is recorded."""
        target, options, result = self.client.target, self.client.options, self.result
        phases = {*options.phases, "story"}
        if not options.write:
            phases.discard("machine")
        if not options.stories:
            phases.discard("story")
        selected = [phase for phase in ORDER if phase in phases]
        began = stopwatch()
        earlier_changes = len(result.changes)
        try:
            for phase in selected:
                phase_began = stopwatch()
                self._listen(PhaseStarted(phase))
                try:
                    with self.client.during(phase):
                        self._run(phase)
                finally:
                    result.phases[phase] = result.phases.get(phase, 0) + stopwatch() - phase_began
                if target.is_ours:
                    target.wait(BETWEEN_SECONDS)
            self._leave()
        except KeyboardInterrupt:  # a BoundReached is one; schemathesis raises one of its own instead
            if bound := self.client.bound:
                result.stopped = bound
                rest = [f"the rest of {phase}", *selected[selected.index(phase) + 1 :]]
                result.not_asked.append(NotAsked(", ".join(rest), f"the run has reached {bound}."))
                self._leave()
            else:
                has_changed = len(result.changes) > earlier_changes
                result.left |= self.memory.last_states(options.tasks) if has_changed else {}
                result.interrupted = True
        result.took += stopwatch() - began

    def _leave(self) -> None:
        """Bring the tasks that the run has changed on a real server to an end, whatever its bounds."""
        if self.result.changes and not self.client.target.is_ours:
            self.client.is_bounded = False
            with self.client.during("machine"):
                self._walker.leave(self.client.options.tasks)
            self.result.left |= self._walker.left

    @cached_property
    def items(self) -> tuple[Observation, ...]:
        """Return the tasks or dags that exist on the target, which are searched once."""
        return probes.find_items(self.client)

    @cached_property
    def _fuzzer(self) -> fuzzing.Fuzzer:
        return fuzzing.Fuzzer(self.client, self.items)

    def _run(self, phase: Phase) -> None:
        target, options = self.client.target, self.client.options
        if phase == "probes":
            probes.probe(self._prober, self.items)
        elif phase == "story":
            for story in options.stories:
                self.result.stories[story.name] = stories.replay(self.client, story)
        elif phase != "machine":
            self._fuzzer.run(phase)
        elif target.reset is None:
            self._walker.walk_server(options.tasks)
        else:
            self._walker.walk_sandbox(options.tasks, reset=self._reset, examples=options.max_examples)

    def _reset(self) -> None:
        assert self.client.target.reset is not None
        self.client.target.reset()
        self.memory.forget()


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
    """The optional settings of a run, as the command's options of the same names."""

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
    """Whether to send unknown ids to an obshell beside others; real ones then ask each other without end."""
    wait: float
    """The seconds in which the server must respond for the first time."""


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
        """Write a report: html, json, junit or sarif. Raises EnvironmentProblem where that fails, and InputError."""
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

        ``auth`` is a name and a password, or one of ``oceanmock.credentials``. Raises Untestable when the server is
        down, is not that API, or refuses the credentials, and InputError for an unknown setting or phase.
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
        return ConformanceRun(apply_baselines(baselines, conform(target, options)))
