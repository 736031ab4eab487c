"""OCP's part of the banner: every operation as a command of curl."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from oceanmock.engine.sandbox import Sandbox
from oceanmock.ocp.api import API
from oceanmock.ocp.scenario import Scenario
from oceanmock.ocp.world import TaskData, Tasks
from oceanmock.openapi import operations_of
from oceanmock.scenario.fields import BaseScenario

EXAMPLE: Final = "retry-failed-subtask"
"""The scenario whose task the commands are about, where it is served."""


class Banner:
    """What a sandbox serves of OCP: ``count`` tasks, and ``templates`` of further ones."""

    noun: Final = API.root.title
    title: Final = API.title

    def __init__(
        self, sandbox: Sandbox, scenarios: Sequence[BaseScenario], url: str, *, authenticates: bool
    ) -> None:
        world = sandbox.world(Tasks)
        self._tasks: Final = [view.task for view in world.all()]
        self._scenarios: Final = [item for item in scenarios if isinstance(item, Scenario)]
        self._url: Final = url
        self._authenticates: Final = authenticates
        self.templates: Final = world.templates
        self.count: Final = len(self._tasks)

    def commands(self) -> Iterator[tuple[str, str]]:
        """Yield each operation and its command."""
        task, position = self._example()
        ids = {
            "{taskInstanceId}": str(task.id),
            "{subtaskInstanceId}": str(task.subtasks[position].id),
        }
        for operation in operations_of(API.spec):
            path = operation.path
            for parameter, id in ids.items():
                path = path.replace(parameter, id)
            user = "viewer:viewer" if operation.permission == "TASK_VIEWER" else "manager:manager"
            login = f" -u {user}" if self._authenticates else ""
            method = "" if operation.method == "GET" else f" -X {operation.method}"
            yield operation.id, f"curl -s{login}{method} {self._url}{path}"

    def _example(self) -> tuple[TaskData, int]:
        """Return a task and the position of a subtask that fails, or else the first."""
        tasks = {task.id: task for task in self._tasks}
        for scenario in sorted(self._scenarios, key=lambda item: item.name != EXAMPLE):
            for model in scenario.tasks:
                for position, subtask in enumerate(model.subtasks):
                    if model.id in tasks and subtask.attempts[0].ends == "FAILED":
                        return tasks[model.id], position
        return self._tasks[0], 0
