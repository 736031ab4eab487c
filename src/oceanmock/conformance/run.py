"""Run the phases of a conformance run against one target, in order.

Probes come first, since they are few and identified by their requests; then walks, since what
generated requests do to a task cannot be undone; then schemathesis, phase by phase; then stories.
All use one client, and the same checkers see every response. A result can be taken at any moment,
so an interrupted run has one too; the required responses and the baseline are applied at the end
(``judged``), to several results together if need be.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from oceanmock.checks import CheckResult, Phase, RuleCount
from oceanmock.clock import SECOND, pause, stopwatch, wall_now
from oceanmock.conformance import coverage_gate, fuzzing, probes, stories, walker
from oceanmock.conformance.baseline import Baseline, apply_baseline
from oceanmock.conformance.checks import ResponseChecker
from oceanmock.conformance.history import HistoryChecker
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.model import (
    PHASES,
    Event,
    Listener,
    Options,
    PhaseEnded,
    PhaseStarted,
    Result,
    StoryStep,
    contract_for,
)
from oceanmock.conformance.target import Target
from oceanmock.observations import ItemTree
from oceanmock.obshell.conformance import CLUSTER_AGENT
from oceanmock.scenario.fields import BaseScenario
from oceanmock.text import format_instant

ORDER: Final[tuple[Phase, ...]] = ("probes", "machine", *fuzzing.PHASES, "story")
POLL_SECONDS: Final = 1.0
"""The time between two reads of a walk on a real server."""

BETWEEN_SECONDS: Final = 2.0
"""The time between two phases where it stands still otherwise."""


def ignore(_: Event) -> None:
    """Do nothing with an event."""


def _sleep(seconds: float) -> None:
    pause(round(seconds * SECOND))


@dataclass(frozen=True, slots=True)
class Environment:
    """The surroundings of a run: how time passes, and whether the target can be reset.

    The default is a real server: time runs, there are other users, and nothing can be undone.
    ``is_ours`` says that there is no other user, and that time passes in ``wait`` alone.
    ``knowledge`` is what the walker knows of the target that its responses do not show.
    """

    wait: Callable[[float], None] = _sleep
    is_ours: bool = False
    reset: Callable[[], None] | None = None
    knowledge: Any = None


def conform(
    target: Target,
    options: Options,
    *,
    listen: Listener = ignore,
    baseline: Baseline | None = None,
    environment: Environment = Environment(),
) -> Result:
    """Run against a target, and return the result. A KeyboardInterrupt ends the run early."""
    run = Run(target, options, listen=listen, environment=environment)
    run.go()
    return judged(run.result(), baseline=baseline, kinds=[kind_of(target)])


def kind_of(target: Target) -> coverage_gate.Kind:
    """Return the kind of an obshell's agent, which decides the responses it can give."""
    return "cluster" if target.identity == CLUSTER_AGENT else "agent"


def judged(
    result: Result, *, baseline: Baseline | None = None, kinds: Iterable[coverage_gate.Kind] = ()
) -> Result:
    """Add the missing responses to a result, apply a baseline, and return it."""
    result.missing = coverage_gate.missing(
        result.statuses, api=result.api, version=result.version, writes=result.writes, kinds=kinds
    )
    apply_baseline(baseline, result)
    return result


class Run:
    """A run in progress; ``stories`` are replayed after those of the options."""

    def __init__(
        self,
        target: Target,
        options: Options,
        *,
        listen: Listener = ignore,
        environment: Environment = Environment(),
        stories: Sequence[BaseScenario] = (),
    ) -> None:
        self.options: Final = options
        self.environment: Final = environment
        self.stories: Final = (*options.stories, *stories)
        contract = contract_for(target.api, target.version)
        self.checks: Final = ResponseChecker(contract)
        self.memory: Final = HistoryChecker(
            contract, ours=None if environment.is_ours else options.tasks
        )
        checkers = [self.checks, self.memory]
        self.client: Final = HttpClient(target, options, listen=listen, checkers=checkers)
        self.interrupted = False
        self._listen = listen
        self._started, self._began = wall_now(), stopwatch()
        self._phases: dict[str, int] = {}
        self._stories: dict[str, list[StoryStep]] = {}
        self._fuzzer: fuzzing.Fuzzer | None = None
        self._prober: probes.Prober | None = None
        self._walker: Final = probes.Prober(self.client, contract)
        self._items: tuple[ItemTree, ...] | None = None

    # --- phases ---

    def go(self) -> None:
        """Run the selected phases; a KeyboardInterrupt ends them, and is recorded."""
        try:
            for phase in filter(self._is_selected, ORDER):
                self._run(phase)
                if self.environment.is_ours:
                    self.environment.wait(BETWEEN_SECONDS)
        except KeyboardInterrupt:
            self.interrupted = True

    def _is_selected(self, phase: Phase) -> bool:
        if phase == "story":
            return bool(self.stories)
        if phase == "machine" and not self.options.write:
            return False
        return phase in self.options.phases

    def _run(self, phase: Phase) -> None:
        began = stopwatch()
        self._listen(PhaseStarted(phase))
        try:
            with self.client.during(phase):
                _STEPS[phase](self)
        finally:
            self._phases[phase] = stopwatch() - began
            self._listen(PhaseEnded(phase))

    @property
    def items(self) -> tuple[ItemTree, ...]:
        """Return the tasks or dags that exist on the target, searched once."""
        if self._items is None:
            self._items = probes.find_items(self.client)
        return self._items

    def probe(self) -> None:
        """Run the probes."""
        self._prober = probes.probe(self.client, self.client.target, self.options, self.items)

    def fuzz(self) -> None:
        """Run the current phase of schemathesis."""
        if self._fuzzer is None:
            choices = fuzzing.choices_of(self.client, self.items, changeable=self.options.tasks)
            self._fuzzer = fuzzing.Fuzzer(self.client, self.options, choices=choices)
        self._fuzzer.run(self.client.phase)

    def play(self) -> None:
        """Walk through the state machine: many times with a reset, else once on each task."""
        if self.environment.reset is None:
            self._walk()
        else:
            self._play(self.environment.reset)

    def _play(self, reset: Callable[[], None]) -> None:
        def reset_all() -> None:
            reset()
            self.memory.forget()

        walker.walk_sandbox(
            self._walker,
            self.options.tasks,
            pace=walker.Pace(self.environment.wait),
            reset=reset_all,
            seed=self.options.seed,
            examples=self.options.max_examples,
            knowledge=self.environment.knowledge,
        )

    def _walk(self) -> None:
        timeout = self.options.timeout / SECOND
        walker.walk_server(
            self._walker,
            self.options.tasks,
            pace=walker.Pace(
                self.environment.wait,
                stands=self.environment.is_ours,
                poll=POLL_SECONDS,
                timeout=timeout,
            ),
            seed=self.options.seed,
            knowledge=self.environment.knowledge,
        )

    def replay(self) -> None:
        """Replay the stories."""
        for story in self.stories:
            self._stories[story.name] = stories.replay(
                self.client,
                story,
                ids=dict(self.options.story_ids),
                wait=self.environment.wait,
                timeout=self.options.timeout,
                stands=self.environment.is_ours,
            )

    # --- result ---

    def result(self) -> Result:
        """Return what was observed so far; nothing of it is judged yet."""
        target, options, client = self.client.target, self.options, self.client
        rules, checked = self._counted()
        return Result(
            target=target.url,
            api=target.api,
            version=target.version,
            seed=options.seed,
            command=_command(target, options),
            started=format_instant(self._started, digits=0),
            writes=options.write,
            took=stopwatch() - self._began,
            statuses={name: Counter(counts) for name, counts in client.statuses.items()},
            rules=rules,
            checked=checked,
            findings=list(client.findings),
            changes=list(client.changes),
            walked=Counter(self.memory.walked),
            shown=Counter(self.memory.shown),
            stories=dict(self._stories),
            phases=dict(self._phases),
            asked=client.asked,
            interrupted=self.interrupted,
        )

    def _counted(self) -> tuple[dict[str, RuleCount], Counter[tuple[str, str]]]:
        """Return how often each rule was checked, and where, by all checkers."""
        rules: dict[str, RuleCount] = {}
        checked: Counter[tuple[str, str]] = Counter()
        for watch in (self.checks, self.memory, self._prober, self._walker):
            if watch is not None:
                _add(rules, watch.counts)
                checked.update(watch.checked)
        if self._fuzzer is not None:
            _add(rules, self._fuzzer.counts)
            checked.update(self._fuzzer.looked)
        return rules, checked


def _add(rules: dict[str, RuleCount], more: Mapping[str, RuleCount]) -> None:
    """Adds counts to others."""
    for rule, tally in more.items():
        known = rules.setdefault(rule, RuleCount())
        known.looked += tally.looked
        known.broken += tally.broken


def merged(results: Sequence[Result]) -> Result:
    """Return several results as one, with the first one's name, each finding once."""
    whole = replace(results[0], rules={}, statuses={}, findings=[], changes=[], phases={})
    whole.checked, whole.walked, whole.shown = Counter(), Counter(), Counter()
    whole.took, whole.asked, whole.stories = 0, 0, {}
    findings: dict[Any, CheckResult] = {}
    for item in results:
        _add(whole.rules, item.rules)
        for name, counts in item.statuses.items():
            whole.statuses.setdefault(name, Counter()).update(counts)
        for phase, took in item.phases.items():
            whole.phases[phase] = whole.phases.get(phase, 0) + took
        for finding in item.findings:
            findings.setdefault(finding.key, finding)
        whole.checked.update(item.checked)
        whole.walked.update(item.walked)
        whole.shown.update(item.shown)
        whole.changes += item.changes
        whole.stories |= item.stories
        whole.took += item.took
        whole.asked += item.asked
        whole.interrupted = whole.interrupted or item.interrupted
    whole.findings = list(findings.values())
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


_STEPS: Final[Mapping[Phase, Callable[[Run], None]]] = {
    "probes": Run.probe,
    "machine": Run.play,
    "story": Run.replay,
    **dict.fromkeys(fuzzing.PHASES, Run.fuzz),
}
