"""Define the values of a conformance run: its options, its result and the events while it runs.

Nothing here sends, checks or prints. Spans are nanoseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, get_args

from oceanmock.checks import CheckResult, Contract, Exchange, Phase, RuleCount
from oceanmock.openapi import Spec

if TYPE_CHECKING:
    from oceanmock.scenario.fields import BaseScenario

Api = Literal["ocp", "obshell"]
PHASES: Final[tuple[Phase, ...]] = tuple(phase for phase in get_args(Phase) if phase not in ("preflight", "story"))
"""Those that can be asked for; there is always a preflight, and a story where one is given."""

PASSED: Final = 0
"""The exit code of a run that found nothing, and saw all it claims to have checked."""
FAILED: Final = 1
"""Something was found that no baseline knows."""
UNTESTABLE: Final = 2
"""The target is down, or is not that API, or refuses the credentials; or the command is wrong."""
INCOMPLETE: Final = 3
"""Nothing was found, but what has to be seen was not."""
INTERRUPTED: Final = 130
"""Stopped by Ctrl-C; what was found until then is reported."""

NO_RESPONSE: Final = 0
"""How requests that were never answered are counted among statuses."""


@dataclass(frozen=True, slots=True)
class MissingResponse:
    """A status of an operation that is required, and was not received."""

    operation: str
    status: int
    hint: str
    """How to make the next run see it."""


@dataclass(frozen=True, slots=True)
class StaleEntry:
    """An entry of the baseline that no longer occurs."""

    rule: str
    operation: str
    reason: str


TransitionCounts = Counter[tuple[str, str, str]]
"""Kind (task, subtask, dag …), the words before and after; how often that step was seen."""


@dataclass(frozen=True, slots=True)
class StoryStep:
    """A step of a story that was replayed."""

    text: str
    outcome: Literal["passed", "failed", "not reached"]
    detail: str = ""
    took: int = 0


@dataclass(slots=True)
class Result:
    """The result of a run."""

    target: str
    """The URL, without credentials; or what of the mock was checked."""
    api: Api
    version: str
    """What the target says of itself; empty where it says nothing."""
    seed: int
    command: str
    """What repeats the run; passwords are left out."""
    started: str
    """RFC 3339, UTC."""
    writes: bool
    took: int = 0
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    """Operation → how often it answered each status; every operation has an entry."""
    rules: dict[str, RuleCount] = field(default_factory=dict)
    checked: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rule and operation; how often that rule was looked at there. Empty if not counted."""
    findings: list[CheckResult] = field(default_factory=list)
    """Those that no baseline knows, each once."""
    known: list[CheckResult] = field(default_factory=list)
    stale: list[StaleEntry] = field(default_factory=list)
    missing: list[MissingResponse] = field(default_factory=list)
    changes: list[Exchange] = field(default_factory=list)
    """Every call that may have changed the target."""
    walked: TransitionCounts = field(default_factory=Counter)
    shown: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Kind and word; how often it was shown."""
    stories: dict[str, list[StoryStep]] = field(default_factory=dict)
    phases: dict[str, int] = field(default_factory=dict)
    """How long each took."""
    asked: int = 0
    baselines: list[str] = field(default_factory=list)
    """What the known deviations were looked up in, by name."""
    interrupted: bool = False
    """True if the run was stopped; missing responses then say nothing."""

    @property
    def exit_code(self) -> int:
        """PASSED, FAILED, INCOMPLETE or INTERRUPTED."""
        if self.interrupted:
            return INTERRUPTED
        broken = self.findings or any(step.outcome == "failed" for steps in self.stories.values() for step in steps)
        return FAILED if broken else INCOMPLETE if self.missing else PASSED


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """A phase begins."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """An exchange is over."""

    exchange: Exchange


@dataclass(frozen=True, slots=True)
class CheckFailed:
    """A finding, the first of its key."""

    finding: CheckResult


@dataclass(frozen=True, slots=True)
class PhaseEnded:
    """A phase is over."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Waiting:
    """The target does not answer yet; ``why``, and how much longer it is waited for."""

    url: str
    why: str
    left: int


Event = PhaseStarted | ResponseReceived | CheckFailed | PhaseEnded | Waiting
Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a run. ``rate`` is requests per second, 0 for no limit."""

    write: bool = False
    tasks: tuple[str, ...] = ()
    """Ids of tasks (OCP) or generic ids of dags (obshell) that may be played with."""
    seed: int = 0
    rate: float = 0.0
    phases: frozenset[Phase] = frozenset(PHASES)
    max_examples: int = 20
    stories: tuple[BaseScenario, ...] = ()
    story_ids: tuple[tuple[str, str], ...] = ()
    """What is called so in a story, and its id at the target."""
    timeout: int = 60_000_000_000
    """How long something may take that a story or a machine waits for."""


def spec_for(api: Api, version: str = "") -> Spec:
    """Return the contract that a version of a server must keep; the newest without a version."""
    from oceanmock.apis import api_named  # noqa: PLC0415 (--help reads this module)

    record = api_named(api)
    if not record.version:
        return record.spec
    versions = record.module("api")
    spec: Spec = versions.spec_of(versions.contract_version(version))
    return spec


def contract_for(api: Api, version: str = "") -> Contract:
    """Return the same contract as checks read it."""
    return Contract(api, spec_for(api, version), version=version, newest=spec_for(api))
