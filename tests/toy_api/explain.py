"""Why a job is in its state."""

from dataclasses import dataclass
from typing import Any

from oceanmock.engine.sandbox import Sandbox
from toy_api.world import Jobs


@dataclass(frozen=True, slots=True)
class Explanation:
    """One sentence."""

    sentence: str

    def text(self, width: int = 100) -> str:
        return self.sentence

    def to_json(self) -> dict[str, Any]:
        return {"text": self.sentence}


def explain(sandbox: Sandbox, id: int | str) -> Explanation:
    jobs = sandbox.world(Jobs)
    state = jobs.state(int(id))
    operations = [record.operation for record in sandbox.operations_of(Jobs.api, int(id))]
    return Explanation(f"job {id} is {state.state_at(jobs.clock.now())} after {operations}\n")
