"""What the machines hold a server to, beyond what one answer can show: rules with stable ids.

Sources of OCP are classes of github.com/oceanbase/ocp-express at eb6f2117, its open-source sibling;
those of obshell are files of github.com/oceanbase/obshell at 61ee147, below ob/agent.
"""

from __future__ import annotations

from typing import Final

from oceanmock.conformance.model import Rule

_STATES: Final = (
    "ocp-express TaskInstanceManagerImpl:59-117, SubtaskInstanceManagerImpl:40-82; "
    "obshell service/task/dag.go:283-532"
)

_RULES: Final = (
    Rule("machine.refused", "An operation that the state allows is accepted.", _STATES),
    Rule("machine.illegal", "An operation that the state does not allow is refused.", _STATES),
    Rule(
        "machine.prohibited",
        "A task that shows prohibitRollback is not rolled back.",
        "ocp-express TaskInstanceManagerImpl:66-68",
    ),
    Rule(
        "machine.unknown-operator",
        "An operator that the contract does not know is refused.",
        "obshell service/task/dag.go:283-420, node.go:171-174",
    ),
    Rule(
        "machine.flag",
        "An operator is accepted where the flags of the nodes allow it, and only there.",
        "obshell engine/task/node.go:105-148, service/task/dag.go:283-420",
    ),
    Rule("machine.refusal-status", "An operation that is not allowed is answered 400.", _STATES),
    Rule(
        "machine.refusal-code",
        "An operation that is not allowed is answered with the code of its reason.",
        "ocp-express ErrorCodes:44, TaskInstanceManagerImpl:63-68; obshell errorcode.go:390-405",
    ),
    Rule("machine.refusal-changes", "A refused operation changes nothing.", _STATES),
    Rule(
        "machine.answer",
        "The answer to an accepted operation shows what it has changed.",
        "ocp-express TaskController:118-145",
    ),
    Rule("machine.effect", "What an accepted operation changes shows at once.", _STATES),
    Rule(
        "machine.count",
        "Runs are counted: runTime when a task is retried, execute_times at each run.",
        "ocp-express TaskInstanceManagerImpl:96-117; "
        "obshell engine/scheduler/task_handler.go:74-235",
    ),
    Rule(
        "machine.parent",
        "A task or dag is what its parts make of it: it runs while they do, and ends as they end.",
        "ocp-express RunningTaskWorker:86-176; obshell engine/scheduler/dag_handler.go:24-74",
    ),
    Rule(
        "machine.order",
        "A subtask starts when all that it needs has succeeded, and not before.",
        "ocp-express AbstractTaskWorker:59-87",
    ),
    Rule(
        "machine.rollback-order",
        "Nothing is undone before all that came after it is undone.",
        "ocp-express AbstractTaskWorker:89-115; obshell engine/scheduler/dag_handler.go:24-74",
    ),
    Rule(
        "machine.terminal",
        "What has come to its end stays as it is until it is operated on.",
        "ocp-express SubtaskState:68; obshell engine/scheduler/dag_handler.go:24-74",
    ),
    Rule(
        "machine.finish-time",
        "What has ended says when, and each time anew.",
        "ocp-express SubtaskAccessor:68-83, RunningTaskWorker:143-176; "
        "obshell service/task/dag.go:565-585",
    ),
    Rule(
        "machine.outcome",
        "An operation comes to the end that it is for.",
        "ocp-express RunningTaskWorker:105-176; obshell engine/scheduler/task_handler.go:74-235",
    ),
    Rule(
        "machine.skip",
        "A skipped subtask does nothing: it cannot fail, and takes no time.",
        "ocp-express SubtaskInstanceManagerImpl:59, JavaSubtaskRunner:32-108",
    ),
    Rule(
        "machine.cancel",
        "What is cancelled is interrupted, and fails.",
        "ocp-express CancelingSubtaskWorker:58-82; obshell engine/scheduler/task_handler.go:74-235",
    ),
    Rule(
        "machine.stuck",
        "What is RUNNING goes on, and does not wait for ever with nothing under way.",
        "ocp-express RunningTaskWorker:86-176; obshell engine/scheduler/dag_handler.go:24-74",
    ),
    Rule(
        "machine.lost",
        "A task or dag that is operated on can be read.",
        "the contract's operations getTaskInstance and getDagDetail",
    ),
)

RULES_OF_MACHINES: Final = {rule.id: rule for rule in _RULES}
"""By id."""
