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
        "status.server-error": "A correct request is not answered with a 5xx status.",
        "hostile.500": "An invalid request is not answered with a 5xx status.",
        "method.accepted": "A method that a path does not have is refused.",
        "id.differs": "The returned id matches the requested id.",
        "id.vanished": "A task, dag or part that existed is still found.",
        "views.differ": "A part has the same values by itself as within its task or dag.",
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
        "envelope.trace-id": "The response to an accepted request has a traceId.",
    },
    ("openapi: components.schemas.ApiError (ocp-express ErrorCodes.java; obshell ob/agent/errors/errorcode.go)"): {
        "error.message": "An error has a message.",
        "error.code": "The code of an error fits the reason of the refusal.",
        "error.code-differs": "An unknown task always has the same code.",
        "error.status": "The status of a refusal fits its reason.",
    },
    "openapi: security, securitySchemes": {
        "auth.missing-accepted": "A request without credentials is refused.",
        "auth.wrong-accepted": "A request with wrong credentials is refused.",
    },
    "openapi/ocp.yaml: x-permission (ocp-doc 1100.task-management/300.retry-a-task.md)": {
        "auth.forbidden-accepted": "A request of a user without the permission is refused."
    },
    "obshell ob/agent/engine/task/task_dto.go:280-382": {
        "id.number": "A generic id ends in the number of its dag, node or sub task."
    },
    "obshell ob/agent/executor/task/dag.go:122-125": {"id.spelling": "A generic id in another spelling is not found."},
    (
        "openapi: the times of tasks, dags and their parts "
        "(ocp-express SubtaskAccessor.java:54-83; "
        "obshell ob/agent/service/task/dag.go)"
    ): {
        "time.format": "A time is an instant.",
        "time.start-after-finish": "Nothing ends before it began.",
        "time.finish": (
            "An ended item has a start and an end time, a running one no end time, and one that never ran has neither."
        ),
        "time.future": "No time is after the timestamp of the response.",
        "time.went-back": "A time that is set again is later than before.",
    },
    "ocp-express RunningTaskWorker.java:143-176; obshell ob/agent/service/task/dag.go:565-585": {
        "time.not-renewed": "A task or dag that ends again has a new end time."
    },
    (
        "openapi: runTime, execute_times (ocp-express TaskInstanceManagerImpl.java:96-117; "
        "obshell ob/agent/engine/scheduler/task_handler.go:163-212)"
    ): {
        "count.never-run": "Every run is counted; an item that never ran has none.",
        "count.went-down": "A count of runs never goes down.",
        "count.not-bumped": "A new run is counted.",
        "count.unasked": "No run is counted that was not requested.",
    },
    (
        "openapi: getSubtaskLog, getFullSubTaskLogs, task_logs "
        "(ocp-express RunnerFactory.java:62,146-153; "
        "obshell ob/agent/service/task/sub_task_log.go:86-93)"
    ): {
        "log.presence": "There is a log exactly when there has been a run.",
        "log.order": "The lines of a log are in the order of the runs.",
        "log.rewritten": "A log only grows: its lines stay, and new ones follow them.",
        "log.stale": "A run leaves its lines in the log.",
    },
    (
        "ocp-express RunningTaskWorker.java:86-119,143-176; "
        "obshell ob/agent/engine/scheduler/dag_handler.go:24-74, task_handler.go:74-235"
    ): {
        "parent.out-of-step": "A task, dag or node agrees with its parts once they are final.",
        "parent.stuck": "A task or dag ends soon after all of its parts.",
        "parent.stage": "The stage of a dag is the number of one of its nodes.",
    },
    "ocp-express TaskInstanceManagerImpl.java:160-174": {
        "parent.prohibit-rollback": ("A subtask that has run and prohibits rollback prohibits that of its task.")
    },
    ("openapi/ocp.yaml: SubtaskInstance; every public sample (ocp-doc 400.task-return-structure.md)"): {
        "graph.one-way": "Upstreams and downstreams name each other.",
        "graph.series": "The seriesIds of a task are 0 to n-1.",
    },
    ("ocp-express AbstractTaskWorker.java:59-87; obshell ob/agent/engine/scheduler/dag_handler.go:24-74"): {
        "order.forward": "Nothing runs before the items it depends on have succeeded."
    },
    "ocp-express AbstractTaskWorker.java:89-115; obshell ob/agent/service/task/dag.go:603-694": {
        "rollback.order": "A rollback undoes the items in reverse order."
    },
    ("openapi/ocp.yaml: components.schemas.Page (ocp-express PaginatedResponse.java, CustomPage.java)"): {
        "paging.number": "The returned page is the requested one.",
        "paging.size": ("A page has the requested size, or the largest that the server allows."),
        "paging.pages": "The number of pages is that of the elements divided by the size.",
        "paging.rows": "A page is full, but for the last, which has the rest.",
        "paging.whole": "The pages of a list hold every row once.",
    },
    (
        "openapi: listTaskInstances and the lists of dags "
        "(ocp-doc 1100.task-management/100.query-the-task-list.md; "
        "obshell ob/agent/executor/task/dag.go)"
    ): {
        "list.twice": "Nothing is listed twice.",
        "list.order": "Rows are in the requested order.",
        "list.missing": "Every task or dag is listed.",
        "list.differs-from-detail": "A list has the same values as the task or dag itself.",
        "filter.ignored": "A list holds only rows that match the filter.",
        "filter.too-narrow": "A filter leaves out no row that matches it.",
    },
    "obshell ob/param/task.go:19-21": {"details.ignored": "Nodes are present exactly when details are requested."},
    (
        "the tables of transitions "
        "(ocp-express TaskInstanceManagerImpl.java, SubtaskInstanceManagerImpl.java; "
        "obshell ob/agent/service/task/dag.go:283-532)"
    ): {
        "transition.illegal": "Every observed change is possible by the table of transitions.",
        "terminal.moved": "An ended item does not change until an operation.",
        "call.unknown-accepted": "An unknown operator is refused.",
        "call.illegal-accepted": "An operation that the state does not allow is refused.",
        "call.legal-refused": "An operation that the state allows is not refused for the state.",
        "call.wrong-effect": "An accepted operation has the documented effect.",
        "call.no-effect": "An accepted operation has an effect by the next read.",
    },
    (
        "openapi: the ids, names and first times of tasks, dags and their parts "
        "(ocp-express SubtaskAccessor.java:54-61; "
        "obshell ob/agent/engine/task/task_dto.go:32-108)"
    ): {"kept.changed": "Fields that are set at creation never change."},
    "ocp-express TaskInstanceManagerImpl.java:66-68": {"call.prohibited-accepted": "A prohibited rollback is refused."},
    "obshell ob/agent/engine/task/node.go:105-148, ob/agent/service/task/dag.go:283-420": {
        "call.flag-ignored": "An operator is accepted only where the flags of the nodes allow it."
    },
    "ocp-express SubtaskInstanceManagerImpl.java:59, JavaSubtaskRunner.java:32-108": {
        "call.skip-runs": "A skipped subtask does nothing: it does not fail, and takes no time."
    },
}
"""Each rule's id and sentence, by its source."""

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {id: Rule(id, says, source) for source, rules in _CATALOGUE.items() for id, says in rules.items()}
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
