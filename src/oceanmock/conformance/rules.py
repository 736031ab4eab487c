"""List every rule of conformance, with its stable id and its public source.

Ids are ``family.rule``; reports, baselines and junit files go by them, so one that was published is
never given to another rule. Families: ``answer`` and ``body`` (that there is one), ``content-type``
and ``header``, ``envelope``, ``schema`` (the contract's), ``status``, ``error``, ``auth``, ``id``,
``time``, ``count``, ``log``, ``parent``, ``graph``, ``order`` and ``rollback``, ``paging``,
``list``, ``filter``, ``details``, ``transition`` and ``terminal`` (changes of states), ``call``
(accepted operations), ``kept`` (what never changes) and ``hostile``. Fuzzing's are
``schemathesis.<check>``; an API and stories have their own, which ``all_rules`` collects.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final

from oceanmock.apis import APIS
from oceanmock.checks import Rule

_CATALOGUE: Final[Mapping[str, Mapping[str, str]]] = {
    "openapi/ocp.yaml, openapi/obshell.yaml": {
        "answer.none": "Every request is answered.",
        "answer.unforeseen": "An answer is built so that it can be read at all.",
        "content-type": "An answer has the media type that the contract names.",
        "header.missing": "The headers that the contract requires are there.",
        "schema.required": "A body has every member that the contract requires.",
        "schema.type": "A value has the type that the contract gives it.",
        "schema.enum": "A word is one of those that the contract lists.",
        "schema.value": "A value keeps the bounds, patterns and combinations of its schema.",
        "status.undocumented": "A status is one that the contract names for the operation.",
        "status.server-error": "The server does not fail at a request it should answer.",
        "hostile.500": "The server does not fail at a request that is wrong on purpose.",
        "method.accepted": "A method that a path does not know is refused.",
        "id.differs": "What is answered is what was asked for.",
        "id.vanished": "What was there once is found again.",
        "views.differ": "A part shows the same by itself as within the whole.",
    },
    (
        "openapi: components.schemas.Envelope (ocp-express BaseResponse.java:26-45; "
        "obshell ob/agent/lib/http/response.go:35-43)"
    ): {
        "body.json": "A body is a JSON object.",
        "envelope.member": "The envelope has all its members.",
        "envelope.status": "The status in the body is that of HTTP.",
        "envelope.successful": "successful is true exactly when the status is below 400.",
        "envelope.timestamp": "The timestamp is an instant.",
        "envelope.went-back": "A later answer of a server has no earlier timestamp.",
        "envelope.duration": "The duration is a number of milliseconds.",
        "envelope.error": "There is an error exactly when the status is 400 or above.",
        "envelope.trace-id": "What was let in has a traceId by which it is found again.",
    },
    (
        "openapi: components.schemas.ApiError (ocp-express ErrorCodes.java; "
        "obshell ob/agent/errors/errorcode.go)"
    ): {
        "error.message": "An error says what is wrong.",
        "error.code": "The code of an error is that of what went wrong.",
        "error.code-differs": "That there is no such task has the same code each time.",
        "error.status": "A wrong request is refused with the status of what is wrong.",
    },
    "openapi: security, securitySchemes": {
        "auth.missing-accepted": "Nothing is done for somebody who does not say who he is.",
        "auth.wrong-accepted": "Nothing is done for somebody who is not who he says.",
    },
    "openapi/ocp.yaml: x-permission (ocp-doc 1100.task-management/300.retry-a-task.md)": {
        "auth.forbidden-accepted": "Nothing is done for somebody who may not do it.",
    },
    "obshell ob/agent/engine/task/task_dto.go:280-382": {
        "id.number": "A generic id ends in the number of what it stands for.",
    },
    "obshell ob/agent/executor/task/dag.go:122-125": {
        "id.spelling": "A generic id that is spelt otherwise is not found.",
    },
    (
        "openapi: the times of tasks, dags and their parts "
        "(ocp-express SubtaskAccessor.java:54-83; "
        "obshell ob/agent/service/task/dag.go)"
    ): {
        "time.format": "A time is an instant.",
        "time.start-after-finish": "Nothing ends before it began.",
        "time.finish": (
            "What has ended says when it began and ended, what runs has not ended, and what never "
            "ran has neither."
        ),
        "time.future": "No time is after the answer's own.",
        "time.went-back": "A time that is set anew is later than before.",
    },
    "ocp-express RunningTaskWorker.java:143-176; obshell ob/agent/service/task/dag.go:565-585": {
        "time.not-renewed": "A task or dag that ends again has a new time of its end.",
    },
    (
        "openapi: runTime, execute_times (ocp-express TaskInstanceManagerImpl.java:96-117; "
        "obshell ob/agent/engine/scheduler/task_handler.go:163-212)"
    ): {
        "count.never-run": "What has run was counted, and what never ran was not.",
        "count.went-down": "A count of runs never goes down.",
        "count.not-bumped": "A run that is new is counted.",
        "count.unasked": "No run is counted that was not asked for.",
    },
    (
        "openapi: getSubtaskLog, getFullSubTaskLogs, task_logs "
        "(ocp-express RunnerFactory.java:62,146-153; "
        "obshell ob/agent/service/task/sub_task_log.go:86-93)"
    ): {
        "log.presence": "There is a log exactly when there has been a run.",
        "log.order": "The lines of a log are in the order of the runs.",
        "log.rewritten": "What was logged stays, and what follows comes after it.",
        "log.stale": "A run leaves its lines in the log.",
    },
    (
        "ocp-express RunningTaskWorker.java:86-119,143-176; "
        "obshell ob/agent/engine/scheduler/dag_handler.go:24-74, task_handler.go:74-235"
    ): {
        "parent.out-of-step": "What is above shows what is below it, once that is final.",
        "parent.stuck": "What is above ends soon after all that is below it has.",
        "parent.stage": "The stage of a dag is that of a node it has.",
    },
    "ocp-express TaskInstanceManagerImpl.java:160-174": {
        "parent.prohibit-rollback": (
            "A subtask that has run and prohibits rollback prohibits that of its task."
        ),
    },
    (
        "openapi/ocp.yaml: SubtaskInstance; "
        "every public sample (ocp-doc 400.task-return-structure.md)"
    ): {
        "graph.one-way": "Upstreams and downstreams name each other.",
        "graph.series": "The seriesIds of a task are 0 to n-1.",
    },
    (
        "ocp-express AbstractTaskWorker.java:59-87; "
        "obshell ob/agent/engine/scheduler/dag_handler.go:24-74"
    ): {
        "order.forward": "Nothing runs before what it waits for has succeeded.",
    },
    "ocp-express AbstractTaskWorker.java:89-115; obshell ob/agent/service/task/dag.go:603-694": {
        "rollback.order": "Nothing is undone before what came after it.",
    },
    (
        "openapi/ocp.yaml: components.schemas.Page "
        "(ocp-express PaginatedResponse.java, CustomPage.java)"
    ): {
        "paging.number": "A page is the one that was asked for.",
        "paging.size": (
            "A page is of the size that was asked for, or of the most that the server gives."
        ),
        "paging.pages": "The number of pages is that of the elements by the size.",
        "paging.rows": "A page is full, but for the last, which has the rest.",
        "paging.whole": "The pages of a list, one after the other, are the list.",
    },
    (
        "openapi: listTaskInstances and the lists of dags "
        "(ocp-doc 1100.task-management/100.query-the-task-list.md; "
        "obshell ob/agent/executor/task/dag.go)"
    ): {
        "list.twice": "Nothing is listed twice.",
        "list.order": "Rows come in the order that was asked for.",
        "list.missing": "What is there is listed.",
        "list.differs-from-detail": "A list shows what the thing itself does.",
        "filter.ignored": "A list holds only what was asked for.",
        "filter.too-narrow": "A filter leaves nothing out that it is for.",
    },
    "obshell ob/param/task.go:19-21": {
        "details.ignored": "Nodes are there exactly when details are asked for.",
    },
    (
        "the tables of transitions "
        "(ocp-express TaskInstanceManagerImpl.java, SubtaskInstanceManagerImpl.java; "
        "obshell ob/agent/service/task/dag.go:283-532)"
    ): {
        "transition.illegal": "Nothing becomes what it cannot become by what happened.",
        "terminal.moved": "What has ended stays as it ended until somebody does something.",
        "call.unknown-accepted": "An operator that nobody knows is refused.",
        "call.illegal-accepted": "What the state does not allow is refused.",
        "call.legal-refused": "What the state allows is not refused for its state.",
        "call.wrong-effect": "An accepted operation has the effect that it is for.",
        "call.no-effect": "What was accepted shows at the next look.",
    },
    (
        "openapi: the ids, names and first times of tasks, dags and their parts "
        "(ocp-express SubtaskAccessor.java:54-61; "
        "obshell ob/agent/engine/task/task_dto.go:32-108)"
    ): {
        "kept.changed": "What is fixed when a thing is made never changes.",
    },
    "ocp-express TaskInstanceManagerImpl.java:66-68": {
        "call.prohibited-accepted": "A rollback that is prohibited is refused.",
    },
    "obshell ob/agent/engine/task/node.go:105-148, ob/agent/service/task/dag.go:283-420": {
        "call.flag-ignored": "An operator is accepted only where the flags of the nodes allow it.",
    },
    "ocp-express SubtaskInstanceManagerImpl.java:59, JavaSubtaskRunner.java:32-108": {
        "call.skip-runs": "A skipped subtask does nothing: it does not fail, and takes no time.",
    },
}
"""Each rule's id and sentence, by its source."""

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        id: Rule(id, says, source)
        for source, rules in _CATALOGUE.items()
        for id, says in rules.items()
    }
    | {id: rule for api in APIS for id, rule in api.checks.RULES.items()}
)
"""Every rule of the checks of responses, histories and probes, by its id."""


def all_rules() -> Mapping[str, Rule]:
    """Return every rule, by id; those of stories and fuzzing are imported now."""
    result = dict(RULES)
    for name in ("stories", "fuzzing"):
        try:
            module = import_module(f"oceanmock.conformance.{name}")
        except ModuleNotFoundError as problem:
            if (problem.name or "").startswith("oceanmock"):
                raise
            continue  # schemathesis or hypothesis is not installed
        for constant, rules in vars(module).items():
            if constant.startswith("RULES_OF_"):
                result.update(rules)
    return MappingProxyType(result)
