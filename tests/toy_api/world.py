"""The toy's jobs in a sandbox."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from oceanmock.clock import SECOND, Clock
from oceanmock.engine.log import Operate
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.world import TaskItem, World
from oceanmock.errors import IllegalOperation, NoSuchTask
from toy_api.api import API
from toy_api.scenario import Job, Scenario


@dataclass(frozen=True, slots=True)
class JobState:
    """A job from an instant on."""

    job: Job
    operation: str
    since: int

    @property
    def ends(self) -> int:
        return self.since + self.job.seconds * SECOND

    def state_at(self, now: int) -> str:
        if now < self.ends:
            return "BUSY"
        return "DONE" if self.operation == "RETRY" else "BROKEN"


class Jobs(World[int, Any, Any]):
    """The jobs of a sandbox, by their ids."""

    api = API.name

    def __init__(self, clock: Clock, scenarios: Sequence[Scenario], **_: Any) -> None:
        super().__init__(clock)
        self._jobs: dict[int, JobState] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def state(self, id: int) -> JobState:
        if id not in self._jobs:
            raise NoSuchTask(id)
        return self._jobs[id]

    def key_of(self, id: str) -> int:
        return int(id)

    def check(self, scenarios: Sequence[Scenario], *, sandbox: str) -> None:
        pass

    def populate(self, scenarios: Sequence[Scenario], *, start: int) -> None:
        for job in (job for scenario in scenarios for job in scenario.jobs):
            self._jobs[job.id] = JobState(job, "RUN", start)

    def operate(self, key: int, operation: str, part: int | None, at: int) -> Any:
        state = self._jobs[key].state_at(at)
        if state != "BROKEN":
            raise IllegalOperation(operation, state=state, allowed=())
        self._jobs[key] = replace(self._jobs[key], operation=operation, since=at)
        return self._jobs[key]

    def start(self, template: int, at: int, values: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    def create(self, scenario: Scenario, at: int) -> str:
        self.populate([scenario], start=at)
        return str(scenario.jobs[0].id)

    def due(self, now: int, several: Any = None) -> Iterator[int]:
        return (end for end in self.ends() if end > now)

    def ends(self) -> Iterator[int]:
        return (state.ends for state in self._jobs.values())

    def items(self) -> Iterator[TaskItem]:
        now = self.clock.now()
        for id, state in self._jobs.items():
            yield TaskItem(str(id), id, state.job.name, state.state_at(now), state.operation)

    def item(self, id: str) -> TaskItem:
        since = self.state(int(id)).since
        found = next(item for item in self.items() if item.id == id)
        return replace(found, started=since, parts=())


new_world = Jobs


def steps_of(scenario: Scenario) -> int:
    return len(scenario.jobs)


def retry(sandbox: Sandbox, id: int) -> None:
    sandbox.world(Jobs).state(id)
    sandbox.execute(Operate(Jobs.api, id, "RETRY"))
