"""A run against one target: its phases in their order, and what they come to.

The probes go first, since they are few and told apart by what they ask; then the machine, since
what chance has done to a task cannot be undone; then schemathesis, phase by phase; then the
stories. Everything goes by one client, and every answer past the same checkers. What a run has seen
is a Result at any moment, so that one which was broken off still tells it; whether it is enough,
and what of it was known, is judged at the end (``judged``), of several runs together if need be.
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
from oceanmock.conformance.checks import Checks
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.memory import Memory
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
from oceanmock.scenario.fields import BaseScenario
from oceanmock.text import format_instant

Story = Mapping[str, Any] | BaseScenario
"""A story by itself, or a scenario with its own."""
ORDER: Final[tuple[Phase, ...]] = ("probes", "machine", *fuzzing.PHASES, "story")
POLL_SECONDS: Final = 1.0
"""How far apart a machine looks at a server whose time it does not hold."""

BETWEEN_SECONDS: Final = 2.0
"""What passes between two phases where time stands otherwise, so that things go on."""


def _told_nobody(_: Event) -> None:
    """Listens, and does nothing."""


def _sleep(seconds: float) -> None:
    pause(round(seconds * SECOND))


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a run takes place: how time passes there, and whether it can be made anew.

    On a real server time runs, others work beside the run, and what was done is done: that is the
    default. ``is_ours`` says that nobody else is there, and that time passes in ``wait`` alone.
    ``known`` is what is known of it that it does not show.
    """

    wait: Callable[[float], None] = _sleep
    is_ours: bool = False
    reset: Callable[[], None] | None = None
    knowledge: Any = None


def conform(
    target: Target,
    options: Options,
    *,
    listen: Listener = _told_nobody,
    baseline: Baseline | None = None,
    environment: Environment = Environment(),
) -> Result:
    """What a whole run against a target comes to. A KeyboardInterrupt ends it early."""
    run = Run(target, options, listen=listen, environment=environment)
    run.go()
    return judged(run.result(), baseline=baseline, kinds=[kind_of(target)])


def kind_of(target: Target) -> coverage_gate.Kind:
    """What an obshell is; an OCP is nothing of the kind, and nobody asks."""
    return "cluster" if target.identity == "CLUSTER AGENT" else "agent"


def judged(
    result: Result, *, baseline: Baseline | None = None, kinds: Iterable[coverage_gate.Kind] = ()
) -> Result:
    """The result, with what is missing in it and what of it was known."""
    result.missing = coverage_gate.missing(
        result.statuses, api=result.api, version=result.version, writes=result.writes, kinds=kinds
    )
    apply_baseline(baseline, result)
    return result


class Run:
    """A run under way: one target, phase by phase; ``told`` are stories beside the options'."""

    def __init__(
        self,
        target: Target,
        options: Options,
        *,
        listen: Listener = _told_nobody,
        environment: Environment = Environment(),
        told: Sequence[Story] = (),
    ) -> None:
        self.options: Final = options
        self.environment: Final = environment
        self.told: Final[Sequence[Story]] = (*options.stories, *told)
        contract = contract_for(target.api, target.version)
        self.checks: Final = Checks(contract)
        self.memory: Final = Memory(contract, ours=None if environment.is_ours else options.tasks)
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
        self._known: probes.KnownIds | None = None

    # --- asking ---

    def go(self) -> None:
        """Runs the phases that are wanted; a KeyboardInterrupt ends them, and is noted."""
        try:
            for phase in filter(self._is_wanted, ORDER):
                self._run(phase)
                if self.environment.is_ours:
                    self.environment.wait(BETWEEN_SECONDS)
        except KeyboardInterrupt:
            self.interrupted = True

    def _is_wanted(self, phase: Phase) -> bool:
        if phase == "story":
            return bool(self.told)
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
    def known(self) -> probes.KnownIds:
        """The ids that are there, looked for once."""
        if self._known is None:
            self._known = probes.find_ids(self.client)
        return self._known

    def probe(self) -> None:
        """The requests of our own."""
        target = self.client.target
        viewer: Any = target.read_only_auth
        self._prober = probes.probe(self.client, target, self.options, self.known, viewer=viewer)

    def fuzz(self) -> None:
        """The phase of schemathesis that the client is in."""
        if self._fuzzer is None:
            choices = fuzzing.choices_of(self.client, self.known, changeable=self.options.tasks)
            self._fuzzer = fuzzing.Fuzzer(self.client, self.options, choices=choices)
        self._fuzzer.run(self.client.phase)

    def play(self) -> None:
        """The lifecycle machine: walks made anew where that can be, else one on each task."""
        if self.environment.reset is None:
            self._walk()
        else:
            self._play(self.environment.reset)

    def _play(self, reset: Callable[[], None]) -> None:
        def anew() -> None:
            reset()
            self.memory.forget()

        walker.walk_sandbox(
            self._walker,
            self.options.tasks,
            pace=walker.Pace(self.environment.wait),
            reset=anew,
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
        """The stories."""
        for number, story in enumerate(self.told, start=1):
            name = story.get("name") if isinstance(story, Mapping) else story.name
            self._stories[name or f"story {number}"] = stories.replay(
                self.client,
                story,
                ids=dict(self.options.story_ids),
                wait=self.environment.wait,
                timeout=self.options.timeout,
                stands=self.environment.is_ours,
            )

    # --- telling ---

    def result(self) -> Result:
        """What was seen so far; nothing of it is judged yet."""
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
        """How often each rule was looked at, and where; by whoever looks."""
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
    """Several results as one, under the first one's name; findings of one key are told once."""
    whole = replace(results[0], rules={}, statuses={}, findings=[], changes=[], phases={})
    whole.checked, whole.walked, whole.shown = Counter(), Counter(), Counter()
    whole.took, whole.asked, whole.stories = 0, 0, {}
    findings: dict[Any, CheckResult] = {}
    for each in results:
        _add(whole.rules, each.rules)
        for name, counts in each.statuses.items():
            whole.statuses.setdefault(name, Counter()).update(counts)
        for phase, took in each.phases.items():
            whole.phases[phase] = whole.phases.get(phase, 0) + took
        for finding in each.findings:
            findings.setdefault(finding.key, finding)
        whole.checked.update(each.checked)
        whole.walked.update(each.walked)
        whole.shown.update(each.shown)
        whole.changes += each.changes
        whole.stories |= each.stories
        whole.took += each.took
        whole.asked += each.asked
        whole.interrupted = whole.interrupted or each.interrupted
    whole.findings = list(findings.values())
    return whole


def _command(target: Target, options: Options) -> str:
    """What repeats the run, but for who asks."""
    words = ["oceanmock", "conform", target.url, "--api", target.api]
    words += ["--seed", str(options.seed), "--max-examples", str(options.max_examples)]
    if options.write:
        words += ["--write", *(word for each in options.tasks for word in ("--task", each))]
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
