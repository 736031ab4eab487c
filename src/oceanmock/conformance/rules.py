"""The catalogue: every rule that conformance knows, with the id that stays and the public source.

Ids are ``family.rule``; reports, baselines and junit files go by them, so one that was published is
never given to another rule. Families: ``answer`` and ``body`` (that there is one), ``content-type``
and ``header``, ``envelope``, ``schema`` (the contract's), ``status``, ``error``, ``auth``, ``id``,
``time``, ``count``, ``log``, ``parent``, ``graph``, ``order`` and ``rollback``, ``paging``,
``list``, ``filter``, ``details``, ``transition`` and ``terminal`` (what became of what), ``call``
(what was accepted), ``kept`` (what never changes) and ``hostile``. Fuzzing's are
``schemathesis.<check>``; machines and stories bring their own, which ``all_rules`` collects.

The quirks of a real obshell are ``quirk.<name>``, the names being those of ``x-quirk`` in
openapi/obshell.yaml: refusal-is-never-sent, never-maintained-is-500,
foreign-obproxy-id-is-forwarded-too, cancelled-rollback-is-stuck, body-id-overrules-path,
lost-race-is-500, node-without-details-is-500, forwarded-pass-loses-its-body,
logs-of-nothing-are-empty, status-has-no-trace-id, missing-header-is-400, unheld-cluster-id-is-500,
unreachable-owner-is-500, unreadable-show-details-is-500, body-that-is-no-object-is-eof,
node-body-says-dag-operator, no-oceanbase-is-500, undecryptable-body-is-500 and
panic-is-dated-at-start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final

from oceanmock.checks import Rule
from oceanmock.conformance.quirks import QUIRKS

_CONTRACT: Final = "openapi/ocp.yaml, openapi/obshell.yaml"
_ENVELOPE: Final = (
    "openapi: components.schemas.Envelope "
    "(ocp-express BaseResponse.java:26-45; obshell ob/agent/lib/http/response.go:35-43)"
)
_ERRORS: Final = (
    "openapi: components.schemas.ApiError "
    "(ocp-express ErrorCodes.java; obshell ob/agent/errors/errorcode.go)"
)
_LISTS: Final = (
    "openapi: listTaskInstances and the lists of dags "
    "(ocp-doc 1100.task-management/100.query-the-task-list.md; "
    "obshell ob/agent/executor/task/dag.go)"
)
_PAGING: Final = (
    "openapi/ocp.yaml: components.schemas.Page "
    "(ocp-express PaginatedResponse.java, CustomPage.java)"
)
_MACHINES: Final = (
    "the tables of transitions (ocp-express TaskInstanceManagerImpl.java, "
    "SubtaskInstanceManagerImpl.java; obshell ob/agent/service/task/dag.go:283-532)"
)
_PARENTS: Final = (
    "ocp-express RunningTaskWorker.java:86-119,143-176; "
    "obshell ob/agent/engine/scheduler/dag_handler.go:24-74, task_handler.go:74-235"
)
_TIMES: Final = (
    "openapi: the times of tasks, dags and their parts "
    "(ocp-express SubtaskAccessor.java:54-83; obshell ob/agent/service/task/dag.go)"
)
_COUNTS: Final = (
    "openapi: runTime, execute_times (ocp-express TaskInstanceManagerImpl.java:96-117; "
    "obshell ob/agent/engine/scheduler/task_handler.go:163-212)"
)
_LOGS: Final = (
    "openapi: getSubtaskLog, getFullSubTaskLogs, task_logs "
    "(ocp-express RunnerFactory.java:62,146-153; "
    "obshell ob/agent/service/task/sub_task_log.go:86-93)"
)
_GRAPH: Final = (
    "openapi/ocp.yaml: SubtaskInstance; every public sample (ocp-doc 400.task-return-structure.md)"
)
_ACCESS: Final = "openapi: security, securitySchemes"
_FIXED: Final = (
    "openapi: the ids, names and first times of tasks, dags and their parts "
    "(ocp-express SubtaskAccessor.java:54-61; obshell ob/agent/engine/task/task_dto.go:32-108)"
)

_CATALOGUE: Final = (
    # what every answer is
    ("answer.none", "Every request is answered.", _CONTRACT),
    ("answer.unforeseen", "An answer is built so that it can be read at all.", _CONTRACT),
    ("content-type", "An answer has the media type that the contract names.", _CONTRACT),
    ("header.missing", "The headers that the contract requires are there.", _CONTRACT),
    ("body.json", "A body is a JSON object.", _ENVELOPE),
    ("envelope.member", "The envelope has all its members.", _ENVELOPE),
    ("envelope.status", "The status in the body is that of HTTP.", _ENVELOPE),
    ("envelope.successful", "successful is true exactly when the status is below 400.", _ENVELOPE),
    ("envelope.timestamp", "The timestamp is an instant.", _ENVELOPE),
    ("envelope.went-back", "A later answer of a server has no earlier timestamp.", _ENVELOPE),
    ("envelope.duration", "The duration is a number of milliseconds.", _ENVELOPE),
    ("envelope.error", "There is an error exactly when the status is 400 or above.", _ENVELOPE),
    ("envelope.trace-id", "What was let in has a traceId by which it is found again.", _ENVELOPE),
    # what the contract says of it
    ("schema.required", "A body has every member that the contract requires.", _CONTRACT),
    ("schema.type", "A value has the type that the contract gives it.", _CONTRACT),
    ("schema.enum", "A word is one of those that the contract lists.", _CONTRACT),
    (
        "schema.value",
        "A value keeps the bounds, patterns and combinations of its schema.",
        _CONTRACT,
    ),
    (
        "status.undocumented",
        "A status is one that the contract names for the operation.",
        _CONTRACT,
    ),
    ("status.server-error", "The server does not fail at a request it should answer.", _CONTRACT),
    ("hostile.500", "The server does not fail at a request that is wrong on purpose.", _CONTRACT),
    ("method.accepted", "A method that a path does not know is refused.", _CONTRACT),
    # errors and access
    ("error.message", "An error says what is wrong.", _ERRORS),
    ("error.code", "The code of an error is that of what went wrong.", _ERRORS),
    ("error.code-differs", "That there is no such task has the same code each time.", _ERRORS),
    ("error.status", "A wrong request is refused with the status of what is wrong.", _ERRORS),
    ("auth.missing-accepted", "Nothing is done for somebody who does not say who he is.", _ACCESS),
    ("auth.wrong-accepted", "Nothing is done for somebody who is not who he says.", _ACCESS),
    (
        "auth.forbidden-accepted",
        "Nothing is done for somebody who may not do it.",
        "openapi/ocp.yaml: x-permission (ocp-doc 1100.task-management/300.retry-a-task.md)",
    ),
    # ids
    ("id.differs", "What is answered is what was asked for.", _CONTRACT),
    (
        "id.number",
        "A generic id ends in the number of what it stands for.",
        "obshell ob/agent/engine/task/task_dto.go:280-382",
    ),
    ("id.vanished", "What was there once is found again.", _CONTRACT),
    (
        "id.spelling",
        "A generic id that is spelt otherwise is not found.",
        "obshell ob/agent/executor/task/dag.go:122-125",
    ),
    # times, counts, logs
    ("time.format", "A time is an instant.", _TIMES),
    ("time.start-after-finish", "Nothing ends before it began.", _TIMES),
    (
        "time.finish",
        "What has ended says when it began and ended, what runs has not ended, "
        "and what never ran has neither.",
        _TIMES,
    ),
    ("time.future", "No time is after the answer's own.", _TIMES),
    ("time.went-back", "A time that is set anew is later than before.", _TIMES),
    (
        "time.not-renewed",
        "A task or dag that ends again has a new time of its end.",
        "ocp-express RunningTaskWorker.java:143-176; obshell ob/agent/service/task/dag.go:565-585",
    ),
    ("count.never-run", "What has run was counted, and what never ran was not.", _COUNTS),
    ("count.went-down", "A count of runs never goes down.", _COUNTS),
    ("count.not-bumped", "A run that is new is counted.", _COUNTS),
    ("count.unasked", "No run is counted that was not asked for.", _COUNTS),
    ("log.presence", "There is a log exactly when there has been a run.", _LOGS),
    ("log.order", "The lines of a log are in the order of the runs.", _LOGS),
    ("log.rewritten", "What was logged stays, and what follows comes after it.", _LOGS),
    ("log.stale", "A run leaves its lines in the log.", _LOGS),
    # above and below
    ("parent.out-of-step", "What is above shows what is below it, once that is final.", _PARENTS),
    ("parent.stuck", "What is above ends soon after all that is below it has.", _PARENTS),
    ("parent.stage", "The stage of a dag is that of a node it has.", _PARENTS),
    (
        "parent.prohibit-rollback",
        "A subtask that has run and prohibits rollback prohibits that of its task.",
        "ocp-express TaskInstanceManagerImpl.java:160-174",
    ),
    ("graph.one-way", "Upstreams and downstreams name each other.", _GRAPH),
    ("graph.series", "The seriesIds of a task are 0 to n-1.", _GRAPH),
    (
        "order.forward",
        "Nothing runs before what it waits for has succeeded.",
        "ocp-express AbstractTaskWorker.java:59-87; "
        "obshell ob/agent/engine/scheduler/dag_handler.go:24-74",
    ),
    (
        "rollback.order",
        "Nothing is undone before what came after it.",
        "ocp-express AbstractTaskWorker.java:89-115; obshell ob/agent/service/task/dag.go:603-694",
    ),
    # lists
    ("paging.number", "A page is the one that was asked for.", _PAGING),
    (
        "paging.size",
        "A page is of the size that was asked for, or of the most that the server gives.",
        _PAGING,
    ),
    ("paging.pages", "The number of pages is that of the elements by the size.", _PAGING),
    ("paging.rows", "A page is full, but for the last, which has the rest.", _PAGING),
    ("paging.whole", "The pages of a list, one after the other, are the list.", _PAGING),
    ("list.twice", "Nothing is listed twice.", _LISTS),
    ("list.order", "Rows come in the order that was asked for.", _LISTS),
    ("list.missing", "What is there is listed.", _LISTS),
    ("list.differs-from-detail", "A list shows what the thing itself does.", _LISTS),
    ("views.differ", "A part shows the same by itself as within the whole.", _CONTRACT),
    ("filter.ignored", "A list holds only what was asked for.", _LISTS),
    ("filter.too-narrow", "A filter leaves nothing out that it is for.", _LISTS),
    (
        "details.ignored",
        "Nodes are there exactly when details are asked for.",
        "obshell ob/param/task.go:19-21",
    ),
    # what becomes of what
    ("transition.illegal", "Nothing becomes what it cannot become by what happened.", _MACHINES),
    (
        "terminal.moved",
        "What has ended stays as it ended until somebody does something.",
        _MACHINES,
    ),
    ("kept.changed", "What is fixed when a thing is made never changes.", _FIXED),
    ("call.unknown-accepted", "An operator that nobody knows is refused.", _MACHINES),
    ("call.illegal-accepted", "What the state does not allow is refused.", _MACHINES),
    (
        "call.prohibited-accepted",
        "A rollback that is prohibited is refused.",
        "ocp-express TaskInstanceManagerImpl.java:66-68",
    ),
    ("call.legal-refused", "What the state allows is not refused for its state.", _MACHINES),
    (
        "call.flag-ignored",
        "An operator is accepted only where the flags of the nodes allow it.",
        "obshell ob/agent/engine/task/node.go:105-148, ob/agent/service/task/dag.go:283-420",
    ),
    ("call.wrong-effect", "An accepted operation has the effect that it is for.", _MACHINES),
    (
        "call.skip-runs",
        "A skipped subtask does nothing: it does not fail, and takes no time.",
        "ocp-express SubtaskInstanceManagerImpl.java:59, JavaSubtaskRunner.java:32-108",
    ),
    ("call.no-effect", "What was accepted shows at the next look.", _MACHINES),
)

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {id: Rule(id, says, source) for id, says, source in _CATALOGUE}
    | {item.rule: Rule(item.rule, item.says, item.source) for item in QUIRKS}
)
"""Every rule of the checks, of memory and of the probes, by its id."""

_ELSEWHERE: Final = ("stories", "fuzzing")
"""Rooms that bring rules of their own: mappings by id, called ``RULES_OF_…``."""


def all_rules() -> Mapping[str, Rule]:
    """Every rule there is, by id; those of machines, stories and fuzzing are imported now."""
    result = dict(RULES)
    for rules in _brought():
        result.update(rules)
    return MappingProxyType(result)


def _brought() -> Iterator[Mapping[str, Rule]]:
    for room in _ELSEWHERE:
        try:
            module = import_module(f"oceanmock.conformance.{room}")
        except ModuleNotFoundError as problem:
            if (problem.name or "").startswith("oceanmock"):
                raise
            continue  # schemathesis or hypothesis is not installed
        yield from (item for name, item in vars(module).items() if name.startswith("RULES_OF_"))


# --- documentation --------------------------------------------------------------------------------


def rules_page() -> str:
    """Return the reference page of all rules, in Markdown, by family."""
    families: dict[str, list[Rule]] = {}
    for rule in sorted(all_rules().values(), key=lambda rule: rule.id):
        families.setdefault(rule.id.partition(".")[0], []).append(rule)
    lines = [
        "# Rules",
        "",
        "<!-- Generated by docs/generate.py; do not edit. -->",
        "",
        "`oceanmock conform` checks these rules. Reports and baselines refer to them by their ids.",
    ]
    for family, rules in families.items():
        lines += [
            "",
            f"## {family}",
            "",
            "| rule | the server must keep | source |",
            "|---|---|---|",
        ]
        lines += [f"| `{rule.id}` | {rule.says} | {rule.source} |" for rule in rules]
    return "\n".join(lines) + "\n"
