"""What schemathesis cannot know: the ids of tasks that are there, and whose each subtask is.

It loads this file by its name (`hooks` in tests/data/schemathesis.toml), in a process of its own.
Most ids it makes up are replaced by those of a task of the scenario below, and of one of its
subtasks; one in six stays, and is answered 404. The one rule: a request that is meant to be wrong
stays as it is.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Final

import schemathesis

from oceanmock.apis import make_sandbox
from oceanmock.engine.log import Accounts
from oceanmock.engine.sandbox import Sandbox
from oceanmock.library import load_scenario
from oceanmock.ocp.scenario import Switches
from oceanmock.ocp.world import Tasks

SCENARIO: Final = Path(__file__).parent / "data" / "scenarios" / "tasks-for-schemathesis.yaml"
LARGEST: Final = 2**63 - 1


def hooked_sandbox(switches: Switches, accounts: Accounts | None = None) -> Sandbox:
    """The sandbox that is served; its ids are the same in every process.

    Its clock stands, so that the same requests are answered the same each time: hypothesis gives
    up on walks that are not.
    """
    scenario = load_scenario(SCENARIO)
    overrides = {"ocp": switches.model_dump(exclude_unset=True)}
    return make_sandbox([scenario], seed=0, switches=overrides, accounts=accounts or Accounts())


SUBTASKS_OF: Final = {
    view.data.id: [subtask.id for subtask in view.data.subtasks]
    for view in hooked_sandbox(Switches()).world(Tasks).all()
}


@schemathesis.hook
def map_path_parameters(_: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Ids that are there, in place of those that could be."""
    if path_parameters is None or not all(_is_id(value) for value in path_parameters.values()):
        return path_parameters
    chance = Random(repr(path_parameters))
    if chance.random() < 1 / 6:
        return path_parameters
    task = chance.choice(list(SUBTASKS_OF))
    pair = {"taskInstanceId": task, "subtaskInstanceId": chance.choice(SUBTASKS_OF[task])}
    return {name: pair.get(name, value) for name, value in path_parameters.items()}


def _is_id(value: object) -> bool:
    return type(value) is int and -LARGEST <= value <= LARGEST


@schemathesis.hook
def map_query(_: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """No name of a tenant without the id of its cluster, which the contract cannot say."""
    if query is None or query.get("clusterId", "") != "":
        return query
    return {name: value for name, value in query.items() if name != "tenantName"}


@schemathesis.hook
def before_call(_: Any, case: Any, kwargs: Any) -> None:
    """Add the id of a cluster to a tenant's name in the cases of the coverage phase, which map_query does not get."""
    if case.query and "tenantName" in case.query and case.query.get("clusterId", "") == "":
        case.query["clusterId"] = 1
